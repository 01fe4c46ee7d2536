//! The Centrifugal client protocol, version 2, and the WebSocket framing below it: pure codecs, no I/O.
//!
//! Clients send [`Command`]s, the server answers with [`Reply`]s; many channel subscriptions share one
//! connection. The message types know nothing of their encoding: [`json`] holds the JSON codec, and another
//! encoding is another module beside it. [`websocket`] turns bytes into messages and back without owning a
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
//! | root | message types: [`Command`], [`Request`], [`Reply`], [`Push`], [`Publication`], [`Payload`], codes |
//! | [`channel`] | how a channel name divides into namespace, rest and users |
//! | [`json`] | JSON codec of the messages |
//! | [`websocket`] | RFC 6455 handshake values and frames, for servers and clients |
//!
//! # Proto3 presence
//!
//! The schema does not tell an unset field from a zero one, and neither do the types: an empty string, an empty
//! [`Payload`], zero and `false` are "unset" and are left out on the wire, except where clients rely on them.

pub mod channel;
pub mod json;
pub mod websocket;

mod code;
mod message;
mod payload;
mod secret;

pub use code::{Disconnect, ErrorCode, UnsubscribeCode};
pub use message::{
    ClientInfo, Command, CommandId, CommandResult, ConnectRequest, ConnectResult, FilterNode, HistoryRequest,
    HistoryResult, PresenceRequest, PresenceResult, PresenceStatsRequest, PresenceStatsResult, Publication,
    PublishRequest, Push, RefreshRequest, RefreshResult, Reply, Request, RpcRequest, RpcResult, SendRequest,
    StreamPosition, SubRefreshRequest, SubRefreshResult, SubscribePush, SubscribeRequest, SubscribeResult,
    UnsubscribeRequest,
};
pub use payload::{NotJson, Payload};
pub use secret::Secret;
