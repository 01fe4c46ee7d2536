//! Many calls in one message.
//!
//! The message's size bounds its commands at one for two bytes, and a decoded command takes a hundred times that. So they
//! are taken from the wire as bytes, counted, and decoded one at a time.

use bowline_protocol::ErrorCode;
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::task::coop;
use tonic::Status;

use super::convert::{command_of, reply_of};
use super::pb::api as pb;
use crate::api::{Answer, Api, Begun, MAX_COMMANDS, MAX_REPLY_BYTES};
use crate::node::ApiError;

/// What stands on the wire for a batch, its commands not decoded.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BatchRequest {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) commands: Vec<Bytes>,
    /// Looked at for its type only: what is published waits for the disk together anyway. Cancelling a schedule, removing a
    /// history, and publishing under a `schedule_id` wait one by one.
    #[prost(bool, tag = "2")]
    pub(crate) parallel: bool,
}

impl BatchRequest {
    /// Runs the commands in order. A command that fails does not stop the others. Publications that stand side by side are begun
    /// together and then awaited, so that they wait for the disk once.
    pub(super) async fn run(self, api: &Api) -> Result<pb::BatchResponse, Status> {
        if self.commands.len() > MAX_COMMANDS {
            return Err(Status::invalid_argument(format!("commands: more than {MAX_COMMANDS}")));
        }
        // Before anything is run: a batch that is malformed has changed nothing.
        let decode = |command: &Bytes| pb::Command::decode(command.clone());
        if let Some((index, error)) = self
            .commands
            .iter()
            .enumerate()
            .find_map(|(index, command)| Some((index, decode(command).err()?)))
        {
            return Err(Status::invalid_argument(format!("commands[{index}]: {error}")));
        }
        let mut replies = Replies::default();
        let mut begun = Vec::new();
        for command in &self.commands {
            coop::consume_budget().await;
            let command =
                match decode(command).map_err(|_| ErrorCode::BAD_REQUEST.into()).and_then(command_of) {
                    _ if replies.bytes + replies.to_come > MAX_REPLY_BYTES => {
                        Err(ErrorCode::LIMIT_EXCEEDED.into())
                    }
                    Ok(command) => match Box::new(command).begin(api).await {
                        Ok(publication) => {
                            replies.to_come += publication.reply_bytes();
                            begun.push(publication);
                            continue;
                        }
                        Err(other) => Ok(other),
                    },
                    Err(error) => Err(error),
                };
            // What comes next sees what was published before.
            replies.finish(&mut begun, api).await;
            replies.push(match command {
                Ok(command) => command.run(api).await,
                Err(error) => Err(error),
            });
        }
        replies.finish(&mut begun, api).await;
        Ok(pb::BatchResponse { replies: replies.replies })
    }
}

#[derive(Default)]
struct Replies {
    replies: Vec<pb::Reply>,
    bytes: usize,
    /// About what the replies to publications that have begun will take.
    to_come: usize,
}

impl Replies {
    fn push(&mut self, answered: Result<Answer, ApiError>) {
        let reply = answered
            .and_then(reply_of)
            .unwrap_or_else(|error| pb::Reply { error: Some(error.into()), ..pb::Reply::default() });
        self.bytes += reply.encoded_len();
        self.replies.push(reply);
    }

    /// Awaits what was begun, in order.
    async fn finish(&mut self, begun: &mut Vec<Begun>, api: &Api) {
        for publication in begun.drain(..) {
            let answered = publication.finish(api).await;
            self.push(answered);
        }
        self.to_come = 0;
    }
}
