//! The Centrifugal client protocol, version 2, and the WebSocket framing below it: pure codecs, no I/O.
//!
//! Clients send [`Command`]s, the server answers with [`Reply`]s; many channel subscriptions share one
//! connection. The message types know nothing of their encoding: [`json`] and [`protobuf`] hold the two codecs, and
//! [`Encoding`] chooses between them. [`websocket`] turns bytes into messages and back without owning a
//! socket or, while idle, a buffer.
//!
//! ```
//! use bowline_protocol::{Command, CommandResult, Reply, Request, json};
//!
//! let frame = br#"{"id":1,"publish":{"channel":"news","data":{"text":"hello"}}}"#;
//! for command in json::decode_frame(frame) {
//!     let Command::Request { id, request: Request::Publish(publish) } = command? else { unreachable!() };
//!     assert_eq!(publish.channel, "news");
//!     assert_eq!(publish.data.as_bytes(), br#"{"text":"hello"}"#);
//!
//!     let mut frame = Vec::new();
//!     json::encode_reply(&Reply::Result { id, result: CommandResult::Publish }, &mut frame)?;
//!     assert_eq!(frame, br#"{"id":1,"publish":{}}"#);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//!
//! | module | holds |
//! |---|---|
//! | root | message types: [`Command`], [`Request`], [`Reply`], [`Push`], [`Publication`], [`Payload`], codes; [`Encoding`] |
//! | [`channel`] | how a channel name divides into namespace, rest and users |
//! | [`delta`] | Fossil deltas between publications |
//! | [`filter`] | filters of publications by their tags |
//! | [`json`], [`protobuf`] | codecs of the messages |
//! | [`websocket`] | RFC 6455 handshake values and frames, for servers and clients |
//!
//! # Proto3 presence
//!
//! The schema does not tell an unset field from a zero one, and neither do the types: an empty string, an empty
//! [`Payload`], zero and `false` are "unset" and are left out on the wire, except where clients rely on them.

pub mod channel;
pub mod delta;
pub mod filter;
pub mod json;
pub mod protobuf;
pub mod websocket;

mod code;
mod encoding;
mod message;
mod parts;
mod payload;
mod secret;

pub use code::{Disconnect, ErrorCode, UnsubscribeCode};
pub use encoding::{Commands, DecodeError, Encoding, Replies};
pub use message::{
    ClientInfo, Command, CommandId, CommandResult, ConnectRequest, ConnectResult, EmulationRequest,
    FilterNode, HistoryRequest, HistoryResult, PresenceRequest, PresenceResult, PresenceStatsRequest,
    PresenceStatsResult, Publication, PublishRequest, Push, RefreshRequest, RefreshResult, Reply, Request,
    RpcRequest, RpcResult, SendRequest, StreamPosition, SubRefreshRequest, SubRefreshResult, SubscribePush,
    SubscribeRequest, SubscribeResult, UnsubscribeRequest,
};
pub use payload::{NotJson, Payload};
pub use secret::Secret;
