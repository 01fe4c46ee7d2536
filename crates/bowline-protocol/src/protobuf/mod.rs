//! The protobuf encoding: proto3 messages, each behind its length as a varint, one after the other in a frame.
//!
//! The schema is the table in `fields`: one line per message, the same for writing and reading. There is no generated
//! code: the messages are the types of this crate, and what protobuf needs beside them are varints (`wire`).
//!
//! # Invariants
//!
//! 1. A length is compared with what is there before anything is read by it: a frame costs its own length times a
//!    constant in memory, which is the size of the largest message type over the two bytes that an empty one takes.
//! 2. Nesting is bounded by [`MAX_DEPTH`], so that decoding costs bounded stack.
//! 3. A frame never yields nothing: if it holds no message, it yields one error.
//! 4. Text is UTF-8, or the message is malformed. Unknown fields are skipped.

mod decode;
mod encode;
mod fields;
#[cfg(test)]
mod tests;
mod wire;

pub use decode::{
    Commands, Replies, decode_connect, decode_emulation, decode_frame, decode_push, decode_replies,
};
pub use encode::{encode_command, encode_emulation, encode_push, encode_pushed, encode_reply};
pub use wire::Malformed;
pub(crate) use wire::next_bytes;

/// The WebSocket subprotocol that names this encoding.
pub const SUBPROTOCOL: &str = "centrifuge-protobuf";

/// The deepest nesting of messages that is decoded. Only tags filters nest by themselves, and those that are useful
/// stay far below.
pub const MAX_DEPTH: u8 = 64;
