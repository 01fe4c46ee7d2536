//! Bytes to messages.

use std::sync::Arc;

use super::MAX_DEPTH;
use super::fields::{ConnectPush, Empty, Presence, PushedData, RefreshPush};
use super::wire::{Field, Malformed, Value, next_field, read, take_delimited};
use crate::parts::Within;
use crate::{
    Command, CommandId, CommandResult, ConnectRequest, DecodeError, EmulationRequest, ErrorCode, Publication,
    Push, Reply, Request, SendRequest, SubscribePush,
};

/// Decodes the commands of one frame, lazily and in order. The iterator ends after the first error.
///
/// A command without an id is a pong unless it holds a `send`; otherwise the first request field in the order of the
/// schema counts.
pub fn decode_frame(frame: &[u8]) -> Commands<'_> {
    Commands(Messages::new(frame))
}

/// Decodes the replies of one frame, lazily and in order. The iterator ends after the first error.
pub fn decode_replies(frame: &[u8]) -> Replies<'_> {
    Replies(Messages::new(frame))
}

/// Decodes a connect request that stands alone, without a length in front of it.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are anything else.
pub fn decode_connect(message: &[u8]) -> Result<ConnectRequest, DecodeError> {
    Within::Connect.check_protobuf(message)?;
    Ok(read(message)?)
}

/// Decodes what a client posts to the emulation uplink.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are anything else.
pub fn decode_emulation(message: &[u8]) -> Result<EmulationRequest, DecodeError> {
    Ok(read(message)?)
}

/// The commands of one frame, see [`decode_frame`].
#[derive(Debug)]
pub struct Commands<'a>(Messages<'a>);

/// The replies of one frame, see [`decode_replies`].
#[derive(Debug)]
pub struct Replies<'a>(Messages<'a>);

impl<'a> Commands<'a> {
    /// Returns what was not looked at yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0.rest
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_with(decode_command)
    }
}

impl Iterator for Replies<'_> {
    type Item = Result<Reply, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_with(decode_reply)
    }
}

/// What is left of a frame, and whether something was made of it.
#[derive(Debug)]
struct Messages<'a> {
    rest: &'a [u8],
    has_yielded: bool,
}

impl<'a> Messages<'a> {
    fn new(frame: &'a [u8]) -> Self {
        Self { rest: frame, has_yielded: false }
    }

    fn next_with<T>(
        &mut self,
        decode: impl FnOnce(&'a [u8]) -> Result<T, DecodeError>,
    ) -> Option<Result<T, DecodeError>> {
        let message = if !self.rest.is_empty() {
            take_delimited(&mut self.rest).map_err(DecodeError::from).and_then(decode)
        } else if self.has_yielded {
            return None;
        } else {
            Err(DecodeError::Empty)
        };
        self.has_yielded = true;
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

fn decode_command(mut message: &[u8]) -> Result<Command, DecodeError> {
    Within::Command.check_protobuf(message)?;
    let mut id = 0_u32;
    let mut send: Option<SendRequest> = None;
    // The first in the order of the schema so far, with its number.
    let mut first: Option<(u32, Request)> = None;
    while let Some((number, value)) = next_field(&mut message, MAX_DEPTH)? {
        match number {
            1 => id.merge(value)?,
            12 => send.merge(value)?,
            _ => {
                if first.as_ref().is_none_or(|(of_first, _)| number < *of_first) {
                    first = blank_request(number).map(|request| (number, request)).or(first);
                }
                match &mut first {
                    Some((of_first, request)) if *of_first == number => merge_request(request, value)?,
                    _ => {}
                }
            }
        }
    }
    let Some(id) = CommandId::new(id) else {
        return Ok(send.map_or(Command::Pong, Command::Send));
    };
    let request = match (first, send) {
        (Some((..12, request)), _) | (Some((_, request)), None) => request,
        (_, Some(send)) => Request::Send(send),
        (None, None) => return Err(DecodeError::NoRequest),
    };
    Ok(Command::Request { id, request })
}

/// A request of the kind that field `number` holds, with nothing in it.
fn blank_request(number: u32) -> Option<Request> {
    Some(match number {
        4 => Request::Connect(Default::default()),
        5 => Request::Subscribe(Default::default()),
        6 => Request::Unsubscribe(Default::default()),
        7 => Request::Publish(Default::default()),
        8 => Request::Presence(Default::default()),
        9 => Request::PresenceStats(Default::default()),
        10 => Request::History(Default::default()),
        11 => Request::Ping,
        13 => Request::Rpc(Default::default()),
        14 => Request::Refresh(Default::default()),
        15 => Request::SubRefresh(Default::default()),
        _ => return None,
    })
}

fn merge_request(request: &mut Request, value: Value<'_>) -> Result<(), Malformed> {
    match request {
        Request::Connect(request) => value.merge_into(request),
        Request::Subscribe(request) => value.merge_into(request),
        Request::Unsubscribe(request) => value.merge_into(request),
        Request::Publish(request) => value.merge_into(request),
        Request::Presence(request) => value.merge_into(request),
        Request::PresenceStats(request) => value.merge_into(request),
        Request::History(request) => value.merge_into(request),
        Request::Ping => value.merge_into(&mut Empty),
        Request::Send(request) => value.merge_into(request),
        Request::Rpc(request) => value.merge_into(request),
        Request::Refresh(request) => value.merge_into(request),
        Request::SubRefresh(request) => value.merge_into(request),
    }
}

fn decode_reply(mut message: &[u8]) -> Result<Reply, DecodeError> {
    let mut id = 0_u32;
    let mut error: Option<ErrorCode> = None;
    let mut push = None;
    let mut result = None;
    while let Some((number, value)) = next_field(&mut message, MAX_DEPTH)? {
        match number {
            1 => id.merge(value)?,
            2 => error.merge(value)?,
            4 => push = Some(decode_push_of(value)?),
            _ => result = decode_result(number, value)?.or(result),
        }
    }
    let Some(id) = CommandId::new(id) else {
        return Ok(push.map_or(Reply::Ping, Reply::Push));
    };
    match (error, result) {
        (Some(error), _) => Ok(Reply::Error { id, error }),
        (None, Some(result)) => Ok(Reply::Result { id, result }),
        (None, None) => Err(DecodeError::UnknownReply),
    }
}

fn decode_result(number: u32, value: Value<'_>) -> Result<Option<CommandResult>, Malformed> {
    Ok(Some(match number {
        5 => CommandResult::Connect(whole(value)?),
        6 => CommandResult::Subscribe(whole(value)?),
        7 => whole(value).map(|Empty| CommandResult::Unsubscribe)?,
        8 => whole(value).map(|Empty| CommandResult::Publish)?,
        9 => CommandResult::Presence(whole(value)?),
        10 => CommandResult::PresenceStats(whole(value)?),
        11 => CommandResult::History(whole(value)?),
        12 => whole(value).map(|Empty| CommandResult::Ping)?,
        13 => CommandResult::Rpc(whole(value)?),
        14 => CommandResult::Refresh(whole(value)?),
        15 => CommandResult::SubRefresh(whole(value)?),
        _ => return Ok(None),
    }))
}

/// Decodes a push that stands alone, without a length in front of it.
///
/// # Errors
///
/// [`DecodeError::UnknownReply`] if nothing this version knows is in it, such as in the ping of a unidirectional
/// transport; others if the bytes are no push.
pub fn decode_push(message: &[u8]) -> Result<Push, DecodeError> {
    decode_push_of(Value::Bytes(message, MAX_DEPTH))
}

fn decode_push_of(value: Value<'_>) -> Result<Push, DecodeError> {
    let Value::Bytes(mut message, depth) = value else { return Err(Malformed::WrongKind.into()) };
    let mut channel: Arc<str> = Arc::default();
    let mut content = None;
    while let Some((number, value)) = next_field(&mut message, depth)? {
        match number {
            2 => channel.merge(value)?,
            4..=12 => content = Some((number, value)),
            _ => {}
        }
    }
    let (number, value) = content.ok_or(DecodeError::UnknownReply)?;
    Ok(match number {
        4 => whole(value).map(|publication: Publication| Push::Publication { channel, publication })?,
        5 => Push::Join { channel, info: whole::<Presence>(value)?.info.unwrap_or_default() },
        6 => Push::Leave { channel, info: whole::<Presence>(value)?.info.unwrap_or_default() },
        7 => Push::Unsubscribe { channel, code: whole(value)? },
        8 => Push::Message { data: whole::<PushedData>(value)?.data },
        9 => whole(value).map(|subscription: SubscribePush| Push::Subscribe { channel, subscription })?,
        10 => Push::Connect(Box::new(whole::<ConnectPush>(value)?.result)),
        11 => Push::Disconnect(whole(value)?),
        _ => whole(value).map(|RefreshPush { expires, ttl }| Push::Refresh { expires, ttl })?,
    })
}

fn whole<T: super::wire::Message + Default>(value: Value<'_>) -> Result<T, Malformed> {
    let mut message = T::default();
    value.merge_into(&mut message)?;
    Ok(message)
}
