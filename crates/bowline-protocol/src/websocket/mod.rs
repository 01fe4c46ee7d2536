//! WebSocket (RFC 6455) without sockets: handshake values, a decoder of frames, and encoders, for both roles.
//!
//! The owner of a connection reads into a `BytesMut`, asks the [`Decoder`] for messages until it has none, and
//! writes what [`frame`] and its siblings make. Of the extensions there is compression
//! ([`deflate`]); unless it is agreed on, frames with reserved bits are refused.
//!
//! ```
//! use bowline_protocol::websocket::{Decoder, Limits, Message, Opcode, Role, masked_frame};
//! use bytes::BytesMut;
//!
//! let mut decoder = Decoder::new(Role::Server, Limits::default());
//! let mut input = BytesMut::from(&masked_frame(Opcode::Text, b"{}", [1, 2, 3, 4])[..]);
//! assert_eq!(decoder.decode(&mut input)?, Some(Message::Text("{}".into())));
//! assert_eq!(decoder.decode(&mut input)?, None);
//! # Ok::<(), bowline_protocol::websocket::ProtocolError>(())
//! ```

#[cfg(test)]
mod autobahn;
mod decode;
mod deflate;
mod encode;
mod error;
mod handshake;
mod header;
mod mask;

pub use decode::{CloseFrame, Decoder, Limits, Message, Role};
pub use deflate::{DEFLATE_RESPONSE, accepts_deflate, deflate};
pub use encode::{append_frame, close_frame, encode_header, frame, masked_close_frame, masked_frame};
pub use error::ProtocolError;
pub use handshake::{
    HandshakeError, UpgradeRequest, VERSION, accept_key, is_accepted, request_key, select_subprotocol,
};
pub use header::{EncodedHeader, FrameHeader, Opcode};
