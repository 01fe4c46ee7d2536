//! Bytes to messages.
//!
//! # Invariants
//!
//! 1. An idle decoder owns no heap: bytes of unfinished frames stay in the caller's read buffer, and only a
//!    message that arrives in pieces has a buffer here, from its first piece to its last.
//! 2. A frame is judged when its header is complete. Nothing is allocated because of a length a peer announces.
//! 3. After a close frame or an error nothing is decoded any more.

use bytes::{Buf, Bytes, BytesMut};

use super::deflate::inflate;
use super::header::{IsAgreed, IsMasked};
use super::mask::apply_mask;
use super::{FrameHeader, Opcode, ProtocolError};

/// Which end of the connection decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Peers are clients, whose frames must be masked.
    Server,
    /// The peer is a server, whose frames must not be masked.
    Client,
}

/// What a peer may make the decoder hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in one frame or in pieces. Beyond it: close with 1009. One that comes compressed may inflate to
    /// [`Limits::MAX_INFLATION`] times as much, if that is at most [`Limits::MAX_INFLATION_RATIO`] times what came.
    pub max_message_bytes: usize,
    /// The most pieces one message may have. Beyond it: close with 1008.
    pub max_fragments: u32,
    /// The most pieces below [`Limits::TINY_FRAGMENT_BYTES`] one message may have. Beyond it: close with 1008.
    pub max_tiny_fragments: u32,
}

impl Limits {
    /// Commands are small; 64 KiB is what clients of this protocol expect.
    pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 64 * 1024;
    /// Pieces of 64 bytes on average for the default message size.
    pub const DEFAULT_MAX_FRAGMENTS: u32 = 1024;
    /// No program cuts messages into crumbs on purpose; a few occur at the seams of buffers.
    pub const DEFAULT_MAX_TINY_FRAGMENTS: u32 = 128;
    /// A piece below this size costs more to handle than it carries.
    pub const TINY_FRAGMENT_BYTES: usize = 64;
    /// How many times the largest message a compressed one may hold.
    pub const MAX_INFLATION: usize = 10;
    /// How many times its bytes on the wire a compressed message may hold beyond the largest message. JSON that repeats itself
    /// stays below; what is made to fill memory does not.
    pub const MAX_INFLATION_RATIO: usize = 100;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: Self::DEFAULT_MAX_MESSAGE_BYTES,
            max_fragments: Self::DEFAULT_MAX_FRAGMENTS,
            max_tiny_fragments: Self::DEFAULT_MAX_TINY_FRAGMENTS,
        }
    }
}

/// What a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text, checked to be UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// To be answered with a pong of the same payload.
    Ping(Bytes),
    /// The answer to a ping, or sent unasked.
    Pong(Bytes),
    /// The peer's last message, to be answered with a close frame unless one was sent before.
    Close(Option<CloseFrame>),
}

/// Why a peer closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status.
    pub code: u16,
    /// A short text for people.
    pub reason: String,
}

/// Decodes the bytes of one connection. While no message is half received it is small and owns no heap.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    role: Role,
    compression: IsAgreed,
    is_done: bool,
    assembly: Option<Box<Assembly>>,
}

impl Decoder {
    /// Makes a decoder for one connection.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self { limits, role, compression: IsAgreed::No, is_done: false, assembly: None }
    }

    /// Takes compressed messages too: both sides have agreed on it.
    #[must_use]
    pub fn with_deflate(self) -> Self {
        Self { compression: IsAgreed::Yes, ..self }
    }

    /// Takes the next message out of `input`, or returns `None` if more bytes are needed.
    ///
    /// What is returned shares the memory of `input`, except messages that came in pieces. Bytes that follow a
    /// close frame or an error are discarded.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] if the peer broke a rule; the decoder then returns no more messages.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Message>, ProtocolError> {
        while !self.is_done {
            match self.decode_frame(input) {
                Ok(Step::Message(message)) => return Ok(Some(message)),
                Ok(Step::Fragment) => {}
                Ok(Step::Incomplete) => return Ok(None),
                Err(error) => {
                    self.finish();
                    input.clear();
                    return Err(error);
                }
            }
        }
        input.clear();
        Ok(None)
    }

    /// Returns how much heap the decoder holds: none, unless a message is half received in pieces.
    pub fn held_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| size_of::<Assembly>() + assembly.bytes.capacity())
    }

    fn decode_frame(&mut self, input: &mut BytesMut) -> Result<Step, ProtocolError> {
        let parsed =
            FrameHeader::parse(input, self.compression, |header, is_masked| self.check(header, is_masked))?;
        let Some((header, header_len)) = parsed else { return Ok(Step::Incomplete) };
        // `check` has bounded the length by `max_message_bytes`, which is a usize.
        let payload_len = header.payload_len as usize;
        if input.len() - header_len < payload_len {
            return Ok(Step::Incomplete);
        }
        input.advance(header_len);
        let mut payload = input.split_to(payload_len);
        if let Some(mask) = header.mask {
            apply_mask(&mut payload, mask);
        }
        match header.opcode {
            Opcode::Ping => Ok(Step::Message(Message::Ping(payload.freeze()))),
            Opcode::Pong => Ok(Step::Message(Message::Pong(payload.freeze()))),
            Opcode::Close => {
                let close = parse_close(&payload)?;
                self.finish();
                Ok(Step::Message(Message::Close(close)))
            }
            Opcode::Text | Opcode::Binary if header.is_final && header.is_compressed => {
                let kind = if header.opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
                inflated(kind, &payload, &self.limits).map(Step::Message)
            }
            Opcode::Text if header.is_final => {
                std::str::from_utf8(&payload).map_err(|_| ProtocolError::InvalidUtf8)?;
                Ok(Step::Message(Message::Text(payload.freeze())))
            }
            Opcode::Binary if header.is_final => Ok(Step::Message(Message::Binary(payload.freeze()))),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self.add_fragment(&header, &payload),
        }
    }

    /// Judges a frame by its header and what came before it.
    fn check(&self, header: &FrameHeader, is_masked: IsMasked) -> Result<(), ProtocolError> {
        match (self.role, is_masked) {
            (Role::Server, IsMasked::Yes) | (Role::Client, IsMasked::No) => {}
            (Role::Server, IsMasked::No) => {
                return Err(ProtocolError::Violation("client frame is not masked"));
            }
            (Role::Client, IsMasked::Yes) => return Err(ProtocolError::Violation("server frame is masked")),
        }
        if header.opcode.is_control() {
            // The header's own limit of 125 bytes has been checked.
            return Ok(());
        }
        let assembled_bytes = match (&self.assembly, header.opcode) {
            (Some(assembly), Opcode::Continuation) => assembly.bytes.len(),
            (None, Opcode::Continuation) => {
                return Err(ProtocolError::Violation("continuation without a message to continue"));
            }
            (Some(_), _) => return Err(ProtocolError::Violation("message begins inside another")),
            (None, _) => 0,
        };
        let limit_bytes = self.limits.max_message_bytes;
        if header.payload_len > limit_bytes.saturating_sub(assembled_bytes) as u64 {
            return Err(ProtocolError::TooBig { limit_bytes });
        }
        Ok(())
    }

    fn add_fragment(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<Step, ProtocolError> {
        let kind = if header.opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
        let assembly =
            self.assembly.get_or_insert_with(|| Box::new(Assembly::new(kind, header.is_compressed)));
        assembly.add(payload, header.is_final, &self.limits)?;
        if !header.is_final {
            return Ok(Step::Fragment);
        }
        Ok(match self.assembly.take() {
            Some(assembly) => Step::Message(assembly.into_message(&self.limits)?),
            None => Step::Fragment,
        })
    }

    fn finish(&mut self) {
        self.is_done = true;
        self.assembly = None;
    }
}

/// What one frame came to.
enum Step {
    Message(Message),
    Fragment,
    Incomplete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

/// The pieces so far of a message that does not come in one frame.
#[derive(Debug)]
struct Assembly {
    kind: Kind,
    is_compressed: bool,
    bytes: Vec<u8>,
    /// How many of `bytes` are known to be whole UTF-8 characters, if the message is a text.
    checked_bytes: usize,
    fragments: u32,
    tiny_fragments: u32,
}

impl Assembly {
    fn new(kind: Kind, is_compressed: bool) -> Self {
        Self { kind, is_compressed, bytes: Vec::new(), checked_bytes: 0, fragments: 0, tiny_fragments: 0 }
    }

    fn add(&mut self, payload: &[u8], is_final: bool, limits: &Limits) -> Result<(), ProtocolError> {
        self.fragments += 1;
        if payload.len() < Limits::TINY_FRAGMENT_BYTES {
            self.tiny_fragments += 1;
        }
        if self.fragments > limits.max_fragments || self.tiny_fragments > limits.max_tiny_fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        self.bytes.extend_from_slice(payload);
        if self.kind == Kind::Text && !self.is_compressed {
            self.check_text(is_final)?;
        }
        Ok(())
    }

    /// Checks what was not checked before. A character may be cut by a piece's end, but not by the message's.
    fn check_text(&mut self, is_final: bool) -> Result<(), ProtocolError> {
        let unchecked = self.bytes.get(self.checked_bytes..).unwrap_or_default();
        match std::str::from_utf8(unchecked) {
            Ok(text) => self.checked_bytes += text.len(),
            Err(error) if error.error_len().is_none() && !is_final => {
                self.checked_bytes += error.valid_up_to()
            }
            Err(_) => return Err(ProtocolError::InvalidUtf8),
        }
        Ok(())
    }

    fn into_message(self, limits: &Limits) -> Result<Message, ProtocolError> {
        match self.is_compressed {
            true => inflated(self.kind, &self.bytes, limits),
            false => Ok(self.kind.message(self.bytes)),
        }
    }
}

impl Kind {
    fn message(self, bytes: Vec<u8>) -> Message {
        match self {
            Self::Text => Message::Text(bytes.into()),
            Self::Binary => Message::Binary(bytes.into()),
        }
    }
}

/// The message that came compressed as `payload`.
fn inflated(kind: Kind, payload: &[u8], limits: &Limits) -> Result<Message, ProtocolError> {
    let bytes = inflate(payload, limits)?;
    if kind == Kind::Text {
        std::str::from_utf8(&bytes).map_err(|_| ProtocolError::InvalidUtf8)?;
    }
    Ok(kind.message(bytes))
}

fn parse_close(payload: &[u8]) -> Result<Option<CloseFrame>, ProtocolError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((code, reason)) = payload.split_first_chunk() else {
        return Err(ProtocolError::Violation("close frame with half a status"));
    };
    let code = u16::from_be_bytes(*code);
    if !is_sendable_close_code(code) {
        return Err(ProtocolError::Violation("close frame with a status that is never sent"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
    Ok(Some(CloseFrame { code, reason: reason.to_owned() }))
}

/// Returns whether a close frame may carry `code`: the registered ones, and those for libraries and applications.
/// 1004 has no meaning; 1005, 1006 and 1015 stand for what no frame said.
fn is_sendable_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::{append_frame, deflate, frame, masked_frame};

    const MASK: [u8; 4] = [0xA5, 0x5A, 0x00, 0xFF];

    fn server() -> Decoder {
        Decoder::new(Role::Server, Limits::default())
    }

    fn piece(opcode: Opcode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let header = FrameHeader { is_final, mask: Some(MASK), ..FrameHeader::new(opcode, 0) };
        append_frame(header, payload, &mut out);
        out
    }

    fn decode_all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Message>, ProtocolError> {
        let mut input = BytesMut::from(bytes);
        let mut messages = Vec::new();
        while let Some(message) = decoder.decode(&mut input)? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn an_idle_decoder_is_small_and_owns_nothing() {
        assert!(size_of::<Decoder>() < 64, "{}", size_of::<Decoder>());
        let mut decoder = server();
        decode_all(&mut decoder, &piece(Opcode::Text, false, b"a")).unwrap();
        assert_ne!(decoder.held_bytes(), 0);
        decode_all(&mut decoder, &piece(Opcode::Continuation, true, b"b")).unwrap();
        assert_eq!(decoder.held_bytes(), 0);
    }

    #[test]
    fn a_whole_frame_is_taken_out_without_a_copy() {
        let mut input = BytesMut::from(&masked_frame(Opcode::Binary, &[7; 100], MASK)[..]);
        let payload_at = input.as_ptr().addr() + 6;
        let Some(Message::Binary(payload)) = server().decode(&mut input).unwrap() else {
            panic!("no message")
        };
        assert_eq!(payload.as_ptr().addr(), payload_at);
        assert!(input.is_empty());
    }

    #[test]
    fn each_role_insists_on_its_masking() {
        let mut input = BytesMut::from(&frame(Opcode::Text, b"x")[..]);
        let error = server().decode(&mut input).unwrap_err();
        assert_eq!(error.close_code(), 1002);
        let client = || Decoder::new(Role::Client, Limits::default());
        assert_eq!(
            decode_all(&mut client(), &frame(Opcode::Text, b"x")).unwrap(),
            [Message::Text("x".into())]
        );
        assert_eq!(
            decode_all(&mut client(), &masked_frame(Opcode::Text, b"x", MASK)).unwrap_err().close_code(),
            1002
        );
    }

    #[test]
    fn a_message_above_the_limit_is_refused_by_its_header_alone() {
        let limits = Limits { max_message_bytes: 100, ..Limits::default() };
        let header = |len| FrameHeader { mask: Some(MASK), ..FrameHeader::new(Opcode::Text, len) }.encode();
        let too_big = Err(ProtocolError::TooBig { limit_bytes: 100 });
        assert_eq!(decode_all(&mut Decoder::new(Role::Server, limits), &header(100)), Ok(vec![]));
        // Even without the mask, which follows the length.
        assert_eq!(decode_all(&mut Decoder::new(Role::Server, limits), &header(101)[..2]), too_big);
        assert_eq!(decode_all(&mut Decoder::new(Role::Server, limits), &header(usize::MAX)[..10]), too_big);
    }

    #[test]
    fn pieces_count_together_towards_the_limit() {
        let limits = Limits { max_message_bytes: 100, ..Limits::default() };
        let mut decoder = Decoder::new(Role::Server, limits);
        assert_eq!(decode_all(&mut decoder, &piece(Opcode::Binary, false, &[0; 60])), Ok(vec![]));
        let error = decode_all(&mut decoder, &piece(Opcode::Continuation, true, &[0; 41])).unwrap_err();
        assert_eq!(error.close_code(), 1009);
        assert_eq!(decoder.held_bytes(), 0);
    }

    fn compressed(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut bytes = piece(opcode, true, &deflate(payload, 1).unwrap());
        bytes[0] |= 0x40;
        bytes
    }

    #[test]
    fn compressed_messages_are_inflated_where_that_was_agreed_on() {
        let text = "compress me, ".repeat(20);
        let mut agreed = server().with_deflate();
        for (opcode, message) in [
            (Opcode::Text, Message::Text(text.clone().into())),
            (Opcode::Binary, Message::Binary(text.clone().into())),
        ] {
            let whole = compressed(opcode, text.as_bytes());
            assert_eq!(decode_all(&mut agreed, &whole).unwrap(), std::slice::from_ref(&message));
            assert_eq!(decode_all(&mut server(), &whole).unwrap_err().close_code(), 1002);
            // In pieces only the first says it; control frames between them never are.
            let payload = deflate(text.as_bytes(), 1).unwrap();
            let (head, tail) = payload.split_at(5);
            let mut pieces = piece(opcode, false, head);
            pieces[0] |= 0x40;
            pieces.extend(piece(Opcode::Ping, true, b"p"));
            pieces.extend(piece(Opcode::Continuation, true, tail));
            let seen = decode_all(&mut agreed, &pieces).unwrap();
            assert_eq!(seen, [Message::Ping("p".into()), message]);
        }
        // And a message may always come as it is.
        let plain = piece(Opcode::Text, true, b"plain");
        assert_eq!(decode_all(&mut agreed, &plain).unwrap(), [Message::Text("plain".into())]);
    }

    #[test]
    fn what_is_compressed_keeps_the_rules_of_what_is_not() {
        let agreed = || server().with_deflate();
        let code = |bytes: &[u8]| decode_all(&mut agreed(), bytes).unwrap_err().close_code();
        let not_text = vec![0xff; 100];
        assert_eq!(code(&compressed(Opcode::Text, &not_text)), 1007);
        let mut pieces = piece(Opcode::Text, false, &deflate(&not_text, 1).unwrap());
        pieces[0] |= 0x40;
        pieces.extend(piece(Opcode::Continuation, true, b""));
        assert_eq!(code(&pieces), 1007);
        let mut garbage = piece(Opcode::Binary, true, &[0xff; 20]);
        garbage[0] |= 0x40;
        assert_eq!(code(&garbage), 1007);
        assert_eq!(code(&compressed(Opcode::Binary, &vec![0; 10_000_000])), 1009);
        for opcode in [Opcode::Ping, Opcode::Pong, Opcode::Close] {
            let mut control = piece(opcode, true, b"");
            control[0] |= 0x40;
            assert_eq!(code(&control), 1002, "{opcode:?}");
        }
        let mut continued = piece(Opcode::Text, false, b"a");
        let mut next = piece(Opcode::Continuation, true, b"b");
        next[0] |= 0x40;
        continued.extend(next);
        assert_eq!(code(&continued), 1002);
        for other in [0x20, 0x10] {
            let mut reserved = piece(Opcode::Text, true, b"a");
            reserved[0] |= other;
            assert_eq!(code(&reserved), 1002);
        }
    }

    #[test]
    fn crumbs_are_refused_before_they_add_up() {
        let stream = |count, payload: &[u8]| {
            let mut bytes = piece(Opcode::Binary, false, payload);
            for _ in 1..count {
                bytes.extend(piece(Opcode::Continuation, false, payload));
            }
            bytes
        };
        assert_eq!(decode_all(&mut server(), &stream(128, b"")), Ok(vec![]));
        let error = decode_all(&mut server(), &stream(129, b"")).unwrap_err();
        assert_eq!((error, error.close_code()), (ProtocolError::TooManyFragments, 1008));
        assert_eq!(decode_all(&mut server(), &stream(1024, &[0; 64])), Ok(vec![]));
        let limits = Limits { max_message_bytes: usize::MAX, ..Limits::default() };
        let mut decoder = Decoder::new(Role::Server, limits);
        assert_eq!(decode_all(&mut decoder, &stream(1025, &[0; 64])), Err(ProtocolError::TooManyFragments));
    }

    #[test]
    fn nothing_is_decoded_after_a_close_frame_or_an_error() {
        let mut bytes = piece(Opcode::Close, true, b"");
        bytes.extend(piece(Opcode::Text, true, b"late"));
        let mut decoder = server();
        assert_eq!(decode_all(&mut decoder, &bytes).unwrap(), [Message::Close(None)]);

        let mut decoder = server();
        let mut input = BytesMut::from(&b"\xFF\xFF"[..]);
        assert!(decoder.decode(&mut input).is_err());
        input.extend(piece(Opcode::Text, true, b"late"));
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(input.is_empty());
    }

    #[test]
    fn close_codes_are_those_that_may_be_sent() {
        for code in 0..=u16::MAX {
            let is_allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(parse_close(&code.to_be_bytes()).is_ok(), is_allowed, "{code}");
        }
    }
}
