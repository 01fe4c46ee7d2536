//! Messages to lines of a frame.

use bytes::Bytes;

use super::object::{Fields, Object, write_object};
use crate::{ClientInfo, Command, CommandResult, EmulationRequest, NotJson, Payload, Push, Reply, Request};

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

/// Appends the reply that carries `push`, without the `\n` that separates it from the next.
///
/// # Errors
///
/// [`NotJson`] if an opaque payload cannot be embedded; `out` is then as it was before.
pub fn encode_pushed(push: &Push, out: &mut Vec<u8>) -> Result<(), NotJson> {
    write_object(&Pushed(push), out)
}

/// Makes the body of a post to the emulation uplink.
///
/// # Errors
///
/// [`NotJson`] if the commands are no text, which commands encoded in JSON are.
pub fn encode_emulation(request: &EmulationRequest) -> Result<Bytes, NotJson> {
    let mut out = Vec::with_capacity(request.data.len() + request.node.len() + 96);
    write_object(request, &mut out)?;
    Ok(out.into())
}

/// Appends one command, without the `\n` that separates it from the next.
///
/// # Errors
///
/// [`NotJson`] if an opaque payload cannot be embedded; `out` is then as it was before.
pub fn encode_command(command: &Command, out: &mut Vec<u8>) -> Result<(), NotJson> {
    write_object(command, out)
}

/// A reply with a push, borrowed.
struct Pushed<'a>(&'a Push);

impl Fields for Pushed<'_> {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.message("push", self.0)
    }
}

impl Fields for EmulationRequest {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        object.string("node", &self.node);
        object.string("session", self.session.expose());
        object.string("data", std::str::from_utf8(&self.data).map_err(|_| NotJson)?);
        Ok(())
    }
}

impl Fields for Reply {
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson> {
        match self {
            Self::Ping => Ok(()),
            Self::Push(push) => Pushed(push).write(object),
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
            Self::Publication { channel, publication } => {
                object.string("channel", channel);
                object.message("pub", publication)
            }
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
