//! Frames to messages.
//!
//! # Invariants
//!
//! 1. A frame costs its own length times a small constant in memory: messages are decoded one at a time, requests with
//!    very many small parts are refused first ([`Within`]), and nested values are skipped without recursion or, where they
//!    are typed, up to `serde_json`'s recursion limit.
//! 2. A frame never yields nothing: if it holds no message, it yields one error.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;

use crate::parts::Within;
use crate::{
    ClientInfo, Command, CommandId, CommandResult, ConnectRequest, DecodeError, EmulationRequest, ErrorCode,
    Payload, Publication, Push, Reply, Request, SubscribePush, UnsubscribeCode,
};

/// Decodes the commands of one frame, lazily and in order. The iterator ends after the first error.
///
/// Lines without content are skipped. A command without an id is a pong unless it holds a `send`; otherwise the
/// first request field in the order of the schema counts, and the others are not looked at.
pub fn decode_frame(frame: &[u8]) -> Commands<'_> {
    Commands(Messages::new(frame))
}

/// Decodes the replies of one frame, lazily and in order. The iterator ends after the first error.
pub fn decode_replies(frame: &[u8]) -> Replies<'_> {
    Replies(Messages::new(frame))
}

/// Decodes a connect request that stands alone, not in a command. White space alone is an empty request.
///
/// # Errors
///
/// [`DecodeError`] if the text is anything else.
pub fn decode_connect(message: &[u8]) -> Result<ConnectRequest, DecodeError> {
    match message.trim_ascii() {
        [] => Ok(ConnectRequest::default()),
        text => {
            Within::Connect.check_json(text)?;
            parse_object(text)
        }
    }
}

/// Decodes what a client posts to the emulation uplink.
///
/// # Errors
///
/// [`DecodeError`] if the text is anything else.
pub fn decode_emulation(message: &[u8]) -> Result<EmulationRequest, DecodeError> {
    parse_object(message.trim_ascii())
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
        self.0.rest.unwrap_or_default()
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

/// The lines of a frame that hold something.
#[derive(Debug)]
struct Messages<'a> {
    rest: Option<&'a [u8]>,
    has_yielded: bool,
}

impl<'a> Messages<'a> {
    fn new(frame: &'a [u8]) -> Self {
        Self { rest: Some(frame), has_yielded: false }
    }

    fn next_with<T>(
        &mut self,
        decode: impl FnOnce(&'a [u8]) -> Result<T, DecodeError>,
    ) -> Option<Result<T, DecodeError>> {
        let message = match self.next_line() {
            Some(line) => decode(line),
            None if self.has_yielded => return None,
            None => Err(DecodeError::Empty),
        };
        self.has_yielded = true;
        if message.is_err() {
            self.rest = None;
        }
        Some(message)
    }

    fn next_line(&mut self) -> Option<&'a [u8]> {
        while let Some(rest) = self.rest {
            let mut parts = rest.splitn(2, |byte| *byte == b'\n');
            let line = parts.next().unwrap_or_default().trim_ascii();
            self.rest = parts.next();
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    }
}

/// A command with its requests not looked into.
#[derive(Deserialize)]
struct RawCommand<'a> {
    id: Option<u32>,
    #[serde(borrow)]
    connect: Option<&'a RawValue>,
    subscribe: Option<&'a RawValue>,
    unsubscribe: Option<&'a RawValue>,
    publish: Option<&'a RawValue>,
    presence: Option<&'a RawValue>,
    presence_stats: Option<&'a RawValue>,
    history: Option<&'a RawValue>,
    ping: Option<&'a RawValue>,
    send: Option<&'a RawValue>,
    rpc: Option<&'a RawValue>,
    refresh: Option<&'a RawValue>,
    sub_refresh: Option<&'a RawValue>,
}

fn decode_command(line: &[u8]) -> Result<Command, DecodeError> {
    let raw: RawCommand<'_> = parse_object(line)?;
    let Some(id) = raw.id.and_then(CommandId::new) else {
        return Ok(match raw.send {
            Some(send) => Command::Send(parse(send)?),
            None => Command::Pong,
        });
    };
    let request = if let Some(connect) = raw.connect {
        Request::Connect(parse_counted(Within::Connect, connect)?)
    } else if let Some(subscribe) = raw.subscribe {
        Request::Subscribe(parse_counted(Within::Subscribe, subscribe)?)
    } else if let Some(unsubscribe) = raw.unsubscribe {
        Request::Unsubscribe(parse(unsubscribe)?)
    } else if let Some(publish) = raw.publish {
        Request::Publish(parse(publish)?)
    } else if let Some(presence) = raw.presence {
        Request::Presence(parse(presence)?)
    } else if let Some(presence_stats) = raw.presence_stats {
        Request::PresenceStats(parse(presence_stats)?)
    } else if let Some(history) = raw.history {
        Request::History(parse(history)?)
    } else if let Some(ping) = raw.ping {
        parse::<Empty>(ping)?;
        Request::Ping
    } else if let Some(send) = raw.send {
        Request::Send(parse(send)?)
    } else if let Some(rpc) = raw.rpc {
        Request::Rpc(parse(rpc)?)
    } else if let Some(refresh) = raw.refresh {
        Request::Refresh(parse(refresh)?)
    } else if let Some(sub_refresh) = raw.sub_refresh {
        Request::SubRefresh(parse(sub_refresh)?)
    } else {
        return Err(DecodeError::NoRequest);
    };
    Ok(Command::Request { id, request })
}

/// A reply with its results not looked into.
#[derive(Deserialize)]
struct RawReply<'a> {
    id: Option<u32>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    push: Option<&'a RawValue>,
    connect: Option<&'a RawValue>,
    subscribe: Option<&'a RawValue>,
    unsubscribe: Option<&'a RawValue>,
    publish: Option<&'a RawValue>,
    presence: Option<&'a RawValue>,
    presence_stats: Option<&'a RawValue>,
    history: Option<&'a RawValue>,
    ping: Option<&'a RawValue>,
    rpc: Option<&'a RawValue>,
    refresh: Option<&'a RawValue>,
    sub_refresh: Option<&'a RawValue>,
}

fn decode_reply(line: &[u8]) -> Result<Reply, DecodeError> {
    let raw: RawReply<'_> = parse_object(line)?;
    let Some(id) = raw.id.and_then(CommandId::new) else {
        return match raw.push {
            Some(push) => Ok(Reply::Push(decode_push(push)?)),
            None => Ok(Reply::Ping),
        };
    };
    if let Some(error) = raw.error {
        let error: ErrorCode = parse(error)?;
        return Ok(Reply::Error { id, error });
    }
    let result = if let Some(connect) = raw.connect {
        CommandResult::Connect(parse(connect)?)
    } else if let Some(subscribe) = raw.subscribe {
        CommandResult::Subscribe(parse(subscribe)?)
    } else if let Some(unsubscribe) = raw.unsubscribe {
        parse::<Empty>(unsubscribe)?;
        CommandResult::Unsubscribe
    } else if let Some(publish) = raw.publish {
        parse::<Empty>(publish)?;
        CommandResult::Publish
    } else if let Some(presence) = raw.presence {
        CommandResult::Presence(parse(presence)?)
    } else if let Some(presence_stats) = raw.presence_stats {
        CommandResult::PresenceStats(parse(presence_stats)?)
    } else if let Some(history) = raw.history {
        CommandResult::History(parse(history)?)
    } else if let Some(ping) = raw.ping {
        parse::<Empty>(ping)?;
        CommandResult::Ping
    } else if let Some(rpc) = raw.rpc {
        CommandResult::Rpc(parse(rpc)?)
    } else if let Some(refresh) = raw.refresh {
        CommandResult::Refresh(parse(refresh)?)
    } else if let Some(sub_refresh) = raw.sub_refresh {
        CommandResult::SubRefresh(parse(sub_refresh)?)
    } else {
        return Err(DecodeError::UnknownReply);
    };
    Ok(Reply::Result { id, result })
}

/// A push with its content not looked into.
#[derive(Deserialize)]
struct RawPush<'a> {
    channel: Option<String>,
    #[serde(borrow, rename = "pub")]
    publication: Option<&'a RawValue>,
    join: Option<&'a RawValue>,
    leave: Option<&'a RawValue>,
    unsubscribe: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    subscribe: Option<&'a RawValue>,
    connect: Option<&'a RawValue>,
    disconnect: Option<&'a RawValue>,
    refresh: Option<&'a RawValue>,
}

fn decode_push(push: &RawValue) -> Result<Push, DecodeError> {
    let raw: RawPush<'_> = parse(push)?;
    let channel: Arc<str> = raw.channel.unwrap_or_default().into();
    if let Some(publication) = raw.publication {
        let publication: Publication = parse(publication)?;
        Ok(Push::Publication { channel, publication })
    } else if let Some(join) = raw.join {
        Ok(Push::Join { channel, info: parse::<Presence>(join)?.info.into() })
    } else if let Some(leave) = raw.leave {
        Ok(Push::Leave { channel, info: parse::<Presence>(leave)?.info.into() })
    } else if let Some(unsubscribe) = raw.unsubscribe {
        let code: UnsubscribeCode = parse(unsubscribe)?;
        Ok(Push::Unsubscribe { channel, code })
    } else if let Some(message) = raw.message {
        Ok(Push::Message { data: parse::<Message>(message)?.data })
    } else if let Some(subscribe) = raw.subscribe {
        let subscription: SubscribePush = parse(subscribe)?;
        Ok(Push::Subscribe { channel, subscription })
    } else if let Some(connect) = raw.connect {
        Ok(Push::Connect(parse(connect)?))
    } else if let Some(disconnect) = raw.disconnect {
        Ok(Push::Disconnect(parse(disconnect)?))
    } else if let Some(refresh) = raw.refresh {
        let Refresh { expires, ttl } = parse(refresh)?;
        Ok(Push::Refresh { expires, ttl })
    } else {
        Err(DecodeError::UnknownReply)
    }
}

/// A message without fields.
#[derive(Deserialize)]
struct Empty {}

/// The content of a join or leave push.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Presence {
    info: ClientInfo,
}

/// The content of a message push.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    data: Payload,
}

/// The content of a refresh push.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refresh {
    expires: bool,
    ttl: u32,
}

/// Reads a request that may have parts without number, unless there are too many.
fn parse_counted<'a, T: Deserialize<'a>>(within: Within, raw: &'a RawValue) -> Result<T, DecodeError> {
    within.check_json(raw.get().as_bytes())?;
    parse(raw)
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, DecodeError> {
    parse_object(raw.get().as_bytes())
}

fn parse_object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, DecodeError> {
    // Derived implementations also take an array of the fields' values, which no client means.
    if text.first() != Some(&b'{') {
        return Err(DecodeError::MalformedJson(serde_json::Error::custom("expected an object")));
    }
    Ok(serde_json::from_slice(text)?)
}
