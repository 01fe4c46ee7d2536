//! Messages to lines of a frame.

use super::object::{Fields, Object, write_object};
use crate::{ClientInfo, Command, CommandResult, NotJson, Payload, Publication, Push, Reply, Request};

/// Room for the fixed parts of a publication's push, so that encoding one allocates once.
const PUSH_OVERHEAD_BYTES: usize = 64;

/// Appends one reply, without the `\n` that separates it from the next.
///
/// # Errors
///
/// [`NotJson`] if an opaque payload cannot be embedded; `out` is then as it was before.
pub fn encode_reply(reply: &Reply, out: &mut Vec<u8>) -> Result<(), NotJson> {
    write_object(reply, out)
}

/// Appends one push without a reply around it, as unidirectional transports send it.
///
/// # Errors
///
/// [`NotJson`] if an opaque payload cannot be embedded; `out` is then as it was before.
pub fn encode_push(push: &Push, out: &mut Vec<u8>) -> Result<(), NotJson> {
    write_object(push, out)
}

/// Encodes the reply that delivers a publication, once for all subscribers of the channel.
///
/// # Errors
///
/// [`NotJson`] if an opaque payload cannot be embedded.
pub fn encode_push_publication(channel: &str, publication: &Publication) -> Result<Vec<u8>, NotJson> {
    let mut out = Vec::with_capacity(PUSH_OVERHEAD_BYTES + channel.len() + publication.data.len());
    write_object(&PublicationReply { channel, publication }, &mut out)?;
    Ok(out)
}

/// Appends one command, without the `\n` that separates it from the next.
///
/// # Errors
///
/// [`NotJson`] if an opaque payload cannot be embedded; `out` is then as it was before.
pub fn encode_command(command: &Command, out: &mut Vec<u8>) -> Result<(), NotJson> {
    write_object(command, out)
}

/// A reply with a publication, borrowed.
struct PublicationReply<'a> {
    channel: &'a str,
    publication: &'a Publication,
}

impl Fields for PublicationReply<'_> {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.object("push", |object| write_publication(object, self.channel, self.publication))
    }
}

impl Fields for Reply {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        match self {
            Self::Ping => Ok(()),
            Self::Push(push) => object.message("push", push),
            Self::Result { id, result } => {
                object.number("id", id.get());
                write_result(object, result)
            }
            Self::Error { id, error } => {
                object.number("id", id.get());
                object.message("error", error)
            }
        }
    }
}

fn write_result(object: &mut Object<'_>, result: &CommandResult) -> Result<(), NotJson> {
    match result {
        CommandResult::Connect(result) => object.message("connect", result),
        CommandResult::Subscribe(result) => object.message("subscribe", result),
        CommandResult::Unsubscribe => object.message("unsubscribe", &Empty),
        CommandResult::Publish => object.message("publish", &Empty),
        CommandResult::Presence(result) => object.message("presence", result),
        CommandResult::PresenceStats(result) => object.message("presence_stats", result),
        CommandResult::History(result) => object.message("history", result),
        CommandResult::Ping => object.message("ping", &Empty),
        CommandResult::Rpc(result) => object.message("rpc", result),
        CommandResult::Refresh(result) => object.message("refresh", result),
        CommandResult::SubRefresh(result) => object.message("sub_refresh", result),
    }
}

impl Fields for Push {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        match self {
            Self::Publication { channel, publication } => write_publication(object, channel, publication),
            Self::Join { channel, info } => {
                object.string("channel", channel);
                object.message("join", &Presence(info))
            }
            Self::Leave { channel, info } => {
                object.string("channel", channel);
                object.message("leave", &Presence(info))
            }
            Self::Unsubscribe { channel, code } => {
                object.string("channel", channel);
                object.message("unsubscribe", code)
            }
            Self::Subscribe { channel, subscription } => {
                object.string("channel", channel);
                object.message("subscribe", subscription)
            }
            Self::Message { data } => object.message("message", &Message(data)),
            Self::Connect(result) => object.message("connect", &**result),
            Self::Disconnect(disconnect) => object.message("disconnect", disconnect),
            Self::Refresh { expires, ttl } => object.object("refresh", |object| {
                object.flag("expires", *expires);
                object.number("ttl", *ttl);
                Ok(())
            }),
        }
    }
}

fn write_publication(
    object: &mut Object<'_>,
    channel: &str,
    publication: &Publication,
) -> Result<(), NotJson> {
    object.string("channel", channel);
    object.message("pub", publication)
}

impl Fields for Command {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        match self {
            Self::Pong => Ok(()),
            Self::Send(request) => object.message("send", request),
            Self::Request { id, request } => {
                object.number("id", id.get());
                write_request(object, request)
            }
        }
    }
}

fn write_request(object: &mut Object<'_>, request: &Request) -> Result<(), NotJson> {
    match request {
        Request::Connect(request) => object.message("connect", request),
        Request::Subscribe(request) => object.message("subscribe", request),
        Request::Unsubscribe(request) => object.message("unsubscribe", request),
        Request::Publish(request) => object.message("publish", request),
        Request::Presence(request) => object.message("presence", request),
        Request::PresenceStats(request) => object.message("presence_stats", request),
        Request::History(request) => object.message("history", request),
        Request::Ping => object.message("ping", &Empty),
        Request::Send(request) => object.message("send", request),
        Request::Rpc(request) => object.message("rpc", request),
        Request::Refresh(request) => object.message("refresh", request),
        Request::SubRefresh(request) => object.message("sub_refresh", request),
    }
}

/// A message without fields.
struct Empty;

/// The content of a join or leave push.
struct Presence<'a>(&'a ClientInfo);

/// The content of a message push.
struct Message<'a>(&'a Payload);

impl Fields for Empty {
    fn write(&self, _: &mut Object<'_>) -> Result<(), NotJson> {
        Ok(())
    }
}

impl Fields for Presence<'_> {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.message("info", self.0)
    }
}

impl Fields for Message<'_> {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.payload("data", self.0)
    }
}
