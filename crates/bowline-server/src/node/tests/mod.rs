//! The node as a whole: members and publications without sessions, and the operations of the server API.

mod accounting;
mod api;
mod delivery;
mod deltas;
mod going_live;
mod late;
mod wires;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bowline_protocol::{ClientInfo, CommandResult, Payload, Push, Reply, json};
use bowline_store::MemoryStore;

use super::channel::{Intake, Role};
use super::membership::Membership;
use super::{Frame, Node, Outbox, PublishParams, Wire};
use crate::config::{ChannelOptions, Config, NonZeroDuration};

/// A node whose channels outside namespaces have the options that `change` makes.
fn node_with(change: impl FnOnce(&mut ChannelOptions)) -> Arc<Node> {
    let mut config = Config::default();
    change(&mut config.channel.without_namespace);
    Node::new(Arc::new(config), Arc::new(MemoryStore::default()))
}

fn with_history(options: &mut ChannelOptions) {
    options.history_size = NonZeroUsize::new(10_000);
    options.history_ttl = NonZeroDuration::new(Duration::from_secs(3600));
}

fn params(data: &str) -> PublishParams {
    PublishParams { data: Payload::from_json(data.to_owned()).unwrap(), ..PublishParams::default() }
}

fn publish(node: &Node, channel: &str, data: &str) {
    node.publish(channel, &params(data)).now().unwrap();
}

/// A queue that takes whatever a test puts into it.
fn roomy() -> Outbox {
    Outbox::new(NonZeroUsize::new(1 << 26).unwrap())
}

fn begin(node: &Arc<Node>, channel: &str, outbox: &Outbox) -> Membership {
    let info = Arc::new(ClientInfo::default());
    Membership::begin(node, channel, info, Role::default(), Intake::default(), outbox)
}

/// A member that is live and not positioned.
fn join(node: &Arc<Node>, channel: &str, outbox: &Outbox) -> Membership {
    let membership = begin(node, channel, outbox);
    membership.go_live(None, None).unwrap();
    membership
}

/// The answer to a subscribe command.
fn answer() -> Frame {
    let id = std::num::NonZeroU32::MIN;
    Frame::reply(Wire::JSON, &Reply::Result { id, result: CommandResult::Unsubscribe }, 0).unwrap()
}

fn drain(outbox: &Outbox) -> Vec<Frame> {
    let mut frames = Vec::new();
    let _drained = outbox.poll_drain(&mut Context::from_waker(Waker::noop()), &mut frames);
    frames
}

fn replies(outbox: &Outbox) -> Vec<Reply> {
    drain(outbox)
        .iter()
        .flat_map(|frame| json::decode_replies(&frame.payload()).map(Result::unwrap).collect::<Vec<_>>())
        .collect()
}

/// Offset and data of every publication in the queue.
fn publications(outbox: &Outbox) -> Vec<(u64, String)> {
    let publication = |reply| match reply {
        Reply::Push(Push::Publication { publication, .. }) => {
            Some((publication.offset, String::from_utf8(publication.data.as_bytes().to_vec()).unwrap()))
        }
        _ => None,
    };
    replies(outbox).into_iter().filter_map(publication).collect()
}

fn offsets(outbox: &Outbox) -> Vec<u64> {
    publications(outbox).into_iter().map(|(offset, _)| offset).collect()
}
