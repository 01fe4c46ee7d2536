//! The JSON encoding: one object per message, messages of one frame joined by `\n`.
//!
//! Decoding borrows from the frame and copies each embedded payload once; encoding splices payloads in verbatim.
//! [`decode_frame`] and [`encode_reply`] are a server's side, [`decode_replies`] and [`encode_command`] a client's.

mod decode;
mod encode;
mod object;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::{Commands, Replies, decode_connect, decode_emulation, decode_frame, decode_replies};
pub use encode::{encode_command, encode_emulation, encode_push, encode_pushed, encode_reply};

pub(crate) use object::write_string;

/// The WebSocket subprotocol that names this encoding. A client that offers none speaks it as well.
pub const SUBPROTOCOL: &str = "centrifuge-json";
