//! The encodings of the protocol behind one name, and what can be wrong with a frame in either of them.

use std::fmt;

use bytes::Bytes;

use crate::{Command, ConnectRequest, Disconnect, EmulationRequest, NotJson, Push, Reply, json, protobuf};

/// How messages become bytes. A connection uses one encoding for its whole life.
///
/// The methods dispatch to [`json`] and [`protobuf`], for transports that serve both.
///
/// ```
/// use bowline_protocol::{Command, Encoding, Reply};
///
/// for (encoding, ping) in [(Encoding::Json, &b"{}"[..]), (Encoding::Protobuf, &[0][..])] {
///     let mut frame = Vec::new();
///     encoding.encode_reply(&Reply::Ping, &mut frame)?;
///     assert_eq!(frame, ping);
///     assert_eq!(encoding.decode_frame(ping).next().unwrap()?, Command::Pong);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Text; messages are joined by `\n`. Payloads are JSON values.
    #[default]
    Json,
    /// Binary; each message follows its length. Payloads are bytes of any kind.
    Protobuf,
}

impl Encoding {
    /// Decodes the commands of one frame, lazily and in order. The iterator yields at least once, and ends after the
    /// first error.
    pub fn decode_frame(self, frame: &[u8]) -> Commands<'_> {
        Commands(match self {
            Self::Json => Either::Json(json::decode_frame(frame)),
            Self::Protobuf => Either::Protobuf(protobuf::decode_frame(frame)),
        })
    }

    /// Decodes the replies of one frame, as [`decode_frame`](Self::decode_frame) does commands.
    pub fn decode_replies(self, frame: &[u8]) -> Replies<'_> {
        Replies(match self {
            Self::Json => Either::Json(json::decode_replies(frame)),
            Self::Protobuf => Either::Protobuf(protobuf::decode_replies(frame)),
        })
    }

    /// Decodes a connect request that stands alone, as clients of unidirectional transports send it. No bytes are an
    /// empty request.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are anything else.
    pub fn decode_connect(self, message: &[u8]) -> Result<ConnectRequest, DecodeError> {
        match self {
            Self::Json => json::decode_connect(message),
            Self::Protobuf => protobuf::decode_connect(message),
        }
    }

    /// Decodes what a client posts to the emulation uplink.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are anything else.
    pub fn decode_emulation(self, message: &[u8]) -> Result<EmulationRequest, DecodeError> {
        match self {
            Self::Json => json::decode_emulation(message),
            Self::Protobuf => protobuf::decode_emulation(message),
        }
    }

    /// Appends one reply as it stands in a frame: the caller separates JSON messages by `\n`.
    ///
    /// # Errors
    ///
    /// [`NotJson`] if a payload cannot be expressed in JSON; `out` is then as it was before.
    pub fn encode_reply(self, reply: &Reply, out: &mut Vec<u8>) -> Result<(), NotJson> {
        match self {
            Self::Json => json::encode_reply(reply, out),
            Self::Protobuf => {
                protobuf::encode_reply(reply, out);
                Ok(())
            }
        }
    }

    /// Appends the reply that carries `push`.
    ///
    /// # Errors
    ///
    /// As [`encode_reply`](Self::encode_reply).
    pub fn encode_pushed(self, push: &Push, out: &mut Vec<u8>) -> Result<(), NotJson> {
        match self {
            Self::Json => json::encode_pushed(push, out),
            Self::Protobuf => {
                protobuf::encode_pushed(push, out);
                Ok(())
            }
        }
    }

    /// Appends one push without a reply around it, as unidirectional transports send it.
    ///
    /// # Errors
    ///
    /// As [`encode_reply`](Self::encode_reply).
    pub fn encode_push(self, push: &Push, out: &mut Vec<u8>) -> Result<(), NotJson> {
        match self {
            Self::Json => json::encode_push(push, out),
            Self::Protobuf => {
                protobuf::encode_push(push, out);
                Ok(())
            }
        }
    }

    /// Appends one command as it stands in a frame.
    ///
    /// # Errors
    ///
    /// As [`encode_reply`](Self::encode_reply).
    pub fn encode_command(self, command: &Command, out: &mut Vec<u8>) -> Result<(), NotJson> {
        match self {
            Self::Json => json::encode_command(command, out),
            Self::Protobuf => {
                protobuf::encode_command(command, out);
                Ok(())
            }
        }
    }

    /// Makes the body of a post to the emulation uplink.
    ///
    /// # Errors
    ///
    /// [`NotJson`] if the encoded commands are no text, which commands encoded in JSON are.
    pub fn encode_emulation(self, request: &EmulationRequest) -> Result<Bytes, NotJson> {
        match self {
            Self::Json => json::encode_emulation(request),
            Self::Protobuf => Ok(protobuf::encode_emulation(request)),
        }
    }
}

/// The commands of one frame, see [`Encoding::decode_frame`].
#[derive(Debug)]
pub struct Commands<'a>(Either<json::Commands<'a>, protobuf::Commands<'a>>);

/// The replies of one frame, see [`Encoding::decode_replies`].
#[derive(Debug)]
pub struct Replies<'a>(Either<json::Replies<'a>, protobuf::Replies<'a>>);

#[derive(Debug)]
enum Either<J, P> {
    Json(J),
    Protobuf(P),
}

impl<T, J: Iterator<Item = T>, P: Iterator<Item = T>> Either<J, P> {
    fn next(&mut self) -> Option<T> {
        match self {
            Self::Json(messages) => messages.next(),
            Self::Protobuf(messages) => messages.next(),
        }
    }
}

impl<'a> Commands<'a> {
    /// Returns what was not looked at yet: the commands in it can be decoded later, as a frame of their own. Nothing but
    /// white space is no frame.
    ///
    /// ```
    /// use bowline_protocol::Encoding;
    ///
    /// let mut commands = Encoding::Json.decode_frame(b"{}\n{}\n{}");
    /// commands.next();
    /// assert_eq!(commands.rest(), b"{}\n{}");
    /// ```
    pub fn rest(&self) -> &'a [u8] {
        match &self.0 {
            Either::Json(commands) => commands.rest(),
            Either::Protobuf(commands) => commands.rest(),
        }
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl Iterator for Replies<'_> {
    type Item = Result<Reply, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// Why a frame could not be decoded. The peer broke the protocol; nothing of the broken message was taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame holds no message.
    Empty,
    /// A message is not a JSON object of the expected form.
    MalformedJson(serde_json::Error),
    /// A message is not protobuf of the expected form, or does not match its length.
    MalformedProtobuf(protobuf::Malformed),
    /// A request has very many entries or elements for the bytes it takes.
    TooManyParts,
    /// A command has an id, but no request this version knows.
    NoRequest,
    /// A reply has an id or a push, but nothing this version knows in it.
    UnknownReply,
}

impl DecodeError {
    /// Returns how the server closes a connection that sent such a frame.
    pub fn disconnect(&self) -> Disconnect {
        Disconnect::BAD_REQUEST
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "frame holds no message",
            Self::MalformedJson(_) | Self::MalformedProtobuf(_) => "malformed message",
            Self::TooManyParts => "request has too many parts",
            Self::NoRequest => "command holds no known request",
            Self::UnknownReply => "reply holds nothing known",
        })
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::MalformedJson(source) => Some(source),
            Self::MalformedProtobuf(source) => Some(source),
            Self::Empty | Self::TooManyParts | Self::NoRequest | Self::UnknownReply => None,
        }
    }
}

impl From<serde_json::Error> for DecodeError {
    fn from(source: serde_json::Error) -> Self {
        Self::MalformedJson(source)
    }
}

impl From<protobuf::Malformed> for DecodeError {
    fn from(source: protobuf::Malformed) -> Self {
        Self::MalformedProtobuf(source)
    }
}
