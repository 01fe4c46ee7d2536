//! Messages to bytes. Nothing can fail: payloads are bytes of any kind.

use std::sync::Arc;

use bytes::Bytes;

use super::fields::{ConnectPush, Empty, Presence, PushedData, RefreshPush};
use super::wire::{Field, Message, write_delimited, write_message};
use crate::{ClientInfo, Command, CommandResult, EmulationRequest, Push, Reply, Request};

/// Appends one reply behind its length.
pub fn encode_reply(reply: &Reply, out: &mut Vec<u8>) {
    write_delimited(out, |out| match reply {
        Reply::Ping => {}
        Reply::Push(push) => write_message(4, out, |out| write_push(push, out)),
        Reply::Result { id, result } => {
            Field::write(&id.get(), 1, out);
            write_result(result, out);
        }
        Reply::Error { id, error } => {
            Field::write(&id.get(), 1, out);
            message(2, error, out);
        }
    });
}

/// Appends the reply that carries `push` behind its length.
pub fn encode_pushed(push: &Push, out: &mut Vec<u8>) {
    write_delimited(out, |out| write_message(4, out, |out| write_push(push, out)));
}

/// Appends one push behind its length, without a reply around it, as unidirectional transports send it.
pub fn encode_push(push: &Push, out: &mut Vec<u8>) {
    write_delimited(out, |out| write_push(push, out));
}

/// Appends one command behind its length.
pub fn encode_command(command: &Command, out: &mut Vec<u8>) {
    write_delimited(out, |out| match command {
        Command::Pong => {}
        Command::Send(request) => message(12, request, out),
        Command::Request { id, request } => {
            Field::write(&id.get(), 1, out);
            write_request(request, out);
        }
    });
}

/// Makes the body of a post to the emulation uplink: the message alone.
pub fn encode_emulation(request: &EmulationRequest) -> Bytes {
    let mut out = Vec::with_capacity(request.data.len() + request.node.len() + 64);
    request.write(&mut out);
    out.into()
}

fn write_push(push: &Push, out: &mut Vec<u8>) {
    match push {
        Push::Publication { channel, .. }
        | Push::Join { channel, .. }
        | Push::Leave { channel, .. }
        | Push::Unsubscribe { channel, .. }
        | Push::Subscribe { channel, .. } => Field::write(channel, 2, out),
        Push::Message { .. } | Push::Connect(_) | Push::Disconnect(_) | Push::Refresh { .. } => {}
    }
    match push {
        Push::Publication { publication, .. } => message(4, publication, out),
        Push::Join { info, .. } => message(5, &present(info), out),
        Push::Leave { info, .. } => message(6, &present(info), out),
        Push::Unsubscribe { code, .. } => message(7, code, out),
        Push::Message { data } => message(8, &PushedData { data: data.clone() }, out),
        Push::Subscribe { subscription, .. } => message(9, subscription, out),
        // A copy, once in the life of a connection, for a second table of the same fields.
        Push::Connect(result) => message(10, &ConnectPush { result: (**result).clone() }, out),
        Push::Disconnect(disconnect) => message(11, disconnect, out),
        Push::Refresh { expires, ttl } => message(12, &RefreshPush { expires: *expires, ttl: *ttl }, out),
    }
}

fn present(info: &Arc<ClientInfo>) -> Presence {
    Presence { info: Some(Arc::clone(info)) }
}

fn write_result(result: &CommandResult, out: &mut Vec<u8>) {
    match result {
        CommandResult::Connect(result) => message(5, result, out),
        CommandResult::Subscribe(result) => message(6, result, out),
        CommandResult::Unsubscribe => message(7, &Empty, out),
        CommandResult::Publish => message(8, &Empty, out),
        CommandResult::Presence(result) => message(9, result, out),
        CommandResult::PresenceStats(result) => message(10, result, out),
        CommandResult::History(result) => message(11, result, out),
        CommandResult::Ping => message(12, &Empty, out),
        CommandResult::Rpc(result) => message(13, result, out),
        CommandResult::Refresh(result) => message(14, result, out),
        CommandResult::SubRefresh(result) => message(15, result, out),
    }
}

fn write_request(request: &Request, out: &mut Vec<u8>) {
    match request {
        Request::Connect(request) => message(4, request, out),
        Request::Subscribe(request) => message(5, request, out),
        Request::Unsubscribe(request) => message(6, request, out),
        Request::Publish(request) => message(7, request, out),
        Request::Presence(request) => message(8, request, out),
        Request::PresenceStats(request) => message(9, request, out),
        Request::History(request) => message(10, request, out),
        Request::Ping => message(11, &Empty, out),
        Request::Send(request) => message(12, request, out),
        Request::Rpc(request) => message(13, request, out),
        Request::Refresh(request) => message(14, request, out),
        Request::SubRefresh(request) => message(15, request, out),
    }
}

/// Appends `content`, also if it has no fields set.
fn message(number: u32, content: &impl Message, out: &mut Vec<u8>) {
    write_message(number, out, |out| content.write(out));
}
