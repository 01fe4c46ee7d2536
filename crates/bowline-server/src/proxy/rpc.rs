//! Methods that clients call: answered by one application, or by several at once.

use std::sync::Arc;
use std::time::Duration;

use bowline::{join_all, timeout};
use bowline_protocol::{ErrorCode, Payload, RpcRequest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::About;
use super::answer::{Refused, either};
use super::event::{Event, Fields};
use super::hook::{AskError, Hook};

/// A call of a client, and who answers it.
#[derive(Debug)]
pub(crate) struct RpcQuestion {
    about: About,
    call: Rpc,
    asked: Upstreams,
}

/// A client calls a method.
#[derive(Debug)]
pub(super) struct Rpc {
    pub(super) method: String,
    pub(super) data: Payload,
}

/// Who answers.
#[derive(Debug)]
pub(super) enum Upstreams {
    One(Arc<Hook>),
    /// All of them, and the time they have together.
    All(Vec<Arc<Hook>>, Duration),
}

/// What an application answers a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) data: Payload,
    pub(super) b64data: Option<String>,
}

/// What one of several has said.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Result(Box<RawValue>),
    Error { code: u32, message: String },
    TimedOut(bool),
}

impl Event for Rpc {
    type Answer = Answer;

    fn fields(&self) -> Fields<'_> {
        Fields { method: Some(&self.method), data: Some(&self.data), ..Fields::default() }
    }
}

impl RpcQuestion {
    pub(super) fn new(asked: Upstreams, about: About, request: &RpcRequest) -> Self {
        let call = Rpc { method: request.method.clone(), data: request.data.clone() };
        Self { about, call, asked }
    }

    /// Asks, and answers with the data for the client. An answer without a result has none.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the questions are taken back; applications may have done what they were asked to.
    pub(crate) async fn ask(self) -> Result<Payload, Refused> {
        match &self.asked {
            Upstreams::One(hook) => self.ask_one(hook).await.map_err(AskError::into_refused),
            Upstreams::All(hooks, time) => {
                let parts: Vec<_> = hooks.iter().map(|hook| self.part(hook, *time)).collect();
                whole(hooks, join_all(parts).await)
            }
        }
    }

    /// One of several. It is decided when the time of all is over, whatever it is doing then.
    async fn part(&self, hook: &Hook, time: Duration) -> Part {
        match timeout(time, self.ask_one(hook)).await {
            Err(_) | Ok(Err(AskError::TimedOut)) => Part::TimedOut(true),
            Ok(Ok(data)) => serde_json::from_slice(data.as_bytes()).map_or_else(|_| internal(), Part::Result),
            Ok(Err(AskError::Refused(Refused::Error(error)))) => {
                Part::Error { code: error.code, message: error.message.into_owned() }
            }
            // One of several cannot close the connection.
            Ok(Err(AskError::Refused(Refused::Disconnect(_)) | AskError::Failed)) => internal(),
        }
    }

    async fn ask_one(&self, hook: &Hook) -> Result<Payload, AskError> {
        let Answer { data, b64data } = hook.ask(&self.about, &self.call).await?.unwrap_or_default();
        Ok(hook.read(either(data, b64data))?)
    }
}

fn internal() -> Part {
    let ErrorCode { code, message, .. } = ErrorCode::INTERNAL;
    Part::Error { code, message: message.into_owned() }
}

/// One object of all parts, in the order in which they are configured.
fn whole(hooks: &[Arc<Hook>], parts: Vec<Part>) -> Result<Payload, Refused> {
    let mut out = Vec::from(*b"{");
    for (hook, part) in hooks.iter().zip(&parts) {
        if out.len() > 1 {
            out.push(b',');
        }
        let written = serde_json::to_writer(&mut out, &hook.name)
            .map(|()| out.push(b':'))
            .and_then(|()| serde_json::to_writer(&mut out, part));
        written.map_err(|_| Refused::Error(ErrorCode::INTERNAL))?;
    }
    out.push(b'}');
    Payload::from_json(out).map_err(|_| Refused::Error(ErrorCode::INTERNAL))
}
