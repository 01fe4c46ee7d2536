//! One message to a client as the bytes that go out: encoded once, shared by everyone who gets it.

use std::num::NonZeroU8;

use bowline_protocol::websocket::deflate;
use bowline_protocol::{CommandResult, Encoding, NotJson, Push, Reply};
use bytes::Bytes;

/// The longest header of a WebSocket frame without a mask: opcode, length mark, eight bytes of length.
const LONGEST_HEADER: usize = 10;

/// The first byte of a whole message: final fragment, and opcode 1 or 2.
const FINAL_TEXT: u8 = 0x81;
const FINAL_BINARY: u8 = 0x82;

/// What the first byte has besides if the message is compressed (RFC 7692 §6).
const COMPRESSED: u8 = 0x40;

/// In what form messages go to a connection. Connections of one wire share their frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// How messages become bytes.
    pub encoding: Encoding,
    /// Whether pushes go without replies around them, as to clients that send no commands.
    pub is_unidirectional: bool,
    /// How messages are compressed, if the connection has agreed to it.
    pub compression: Option<Compression>,
}

/// How messages are compressed. Each for itself, so that connections of one wire share what was compressed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    level: NonZeroU8,
    /// Shorter messages are sent as they are.
    min_bytes: u16,
}

impl Compression {
    /// Compresses messages of at least `min_bytes` at `level`, which is from 1 to 9.
    #[must_use]
    pub fn new(level: u16, min_bytes: u16) -> Self {
        let level = u8::try_from(level).ok().and_then(NonZeroU8::new);
        Self { level: level.unwrap_or(NonZeroU8::MIN), min_bytes }
    }

    /// From 1, which is fast, to 9, which makes short.
    #[must_use]
    pub fn level(self) -> u32 {
        self.level.get().into()
    }
}

impl Wire {
    /// Text, both ways.
    pub const JSON: Self = Self { encoding: Encoding::Json, is_unidirectional: false, compression: None };

    /// Binary, both ways.
    pub const PROTOBUF: Self = Self { encoding: Encoding::Protobuf, ..Self::JSON };

    /// The same encoding for clients that send no commands.
    #[must_use]
    pub const fn unidirectional(self) -> Self {
        Self { is_unidirectional: true, ..self }
    }
}

/// A complete WebSocket frame: text for JSON, binary for protobuf. Cloning shares the bytes.
///
/// The header is part of the buffer, so that writing a frame is one copy or one slice of a vectored write;
/// transports with another framing take the [`payload`](Self::payload).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    header_bytes: u8,
}

impl Frame {
    /// Makes the frame of one reply; `payload_bytes` estimates its length.
    ///
    /// A unidirectional wire has no replies: of a push there goes the push alone, of the result of connecting the push
    /// that says the same. Nothing else is answered there, as nothing else is asked.
    ///
    /// # Errors
    ///
    /// [`NotJson`] if the reply embeds a payload that the wire's encoding cannot carry.
    pub fn reply(wire: Wire, reply: &Reply, payload_bytes: usize) -> Result<Self, NotJson> {
        match reply {
            Reply::Push(push) => Self::push(wire, push, payload_bytes),
            Reply::Result { result: CommandResult::Connect(result), .. } if wire.is_unidirectional => {
                Self::push(wire, &Push::Connect(Box::new(result.clone())), payload_bytes)
            }
            _ => Self::make(wire, payload_bytes, |buffer| wire.encoding.encode_reply(reply, buffer)),
        }
    }

    /// Makes the frame of one push; `payload_bytes` estimates its length.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::reply).
    pub fn push(wire: Wire, push: &Push, payload_bytes: usize) -> Result<Self, NotJson> {
        Self::make(wire, payload_bytes, |buffer| match wire.is_unidirectional {
            true => wire.encoding.encode_push(push, buffer),
            false => wire.encoding.encode_pushed(push, buffer),
        })
    }

    /// The frame by which the server asks for a pong, or shows a unidirectional client that it is there.
    #[must_use]
    pub fn ping(wire: Wire) -> Self {
        let bytes: &[u8] = match wire.encoding {
            Encoding::Json => &[FINAL_TEXT, 2, b'{', b'}'],
            Encoding::Protobuf => &[FINAL_BINARY, 1, 0],
        };
        Self { bytes: Bytes::from_static(bytes), header_bytes: 2 }
    }

    fn make(
        wire: Wire,
        payload_bytes: usize,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), NotJson>,
    ) -> Result<Self, NotJson> {
        let mut buffer = Vec::with_capacity(LONGEST_HEADER + payload_bytes);
        // The header's length follows from the payload's; leaving room for the longest saves a second buffer.
        buffer.extend_from_slice(&[0; LONGEST_HEADER]);
        encode(&mut buffer)?;
        let first = match wire.encoding {
            Encoding::Json => FINAL_TEXT,
            Encoding::Protobuf => FINAL_BINARY,
        };
        let payload = buffer.get(LONGEST_HEADER..).unwrap_or_default();
        let worth_it = wire.compression.filter(|how| payload.len() >= how.min_bytes.into());
        if let Some(short) = worth_it.and_then(|how| deflate(payload, how.level())) {
            buffer.truncate(LONGEST_HEADER);
            buffer.extend_from_slice(&short);
            buffer.shrink_to_fit();
            return Ok(Self::finish(first | COMPRESSED, buffer));
        }
        Ok(Self::finish(first, buffer))
    }

    /// The whole frame, header included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The message without the WebSocket header; compressed, if the wire's compression made it shorter.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(usize::from(self.header_bytes)..)
    }

    /// Length of the whole frame in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the frame has no bytes; it never has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes the header into the end of the room in front of the payload (RFC 6455 §5.2).
    fn finish(first: u8, mut buffer: Vec<u8>) -> Self {
        let length = buffer.len() - LONGEST_HEADER;
        let mut header = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let header_bytes: u8 = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => {
                header[1] = short;
                2
            }
            (_, Ok(medium)) => {
                header[1] = 126;
                header[2..4].copy_from_slice(&medium.to_be_bytes());
                4
            }
            _ => {
                header[1] = 127;
                header[2..].copy_from_slice(&(length as u64).to_be_bytes());
                10
            }
        };
        let start = LONGEST_HEADER - usize::from(header_bytes);
        buffer[start..LONGEST_HEADER].copy_from_slice(&header[..usize::from(header_bytes)]);
        Self { bytes: Bytes::from(buffer).slice(start..), header_bytes }
    }
}

#[cfg(test)]
mod tests {
    use bowline_protocol::{ConnectResult, Payload};

    use super::*;

    #[test]
    fn the_header_states_the_payload_length_in_its_shortest_form() {
        for (length, header) in [
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            // {"push":{"message":{"data":"…"}}} has 32 bytes around the text.
            let data = Payload::json_string(&"x".repeat(length - 32));
            let frame = Frame::push(Wire::JSON, &Push::Message { data }, 0).unwrap();
            assert_eq!(frame.payload().len(), length);
            assert_eq!(&frame.bytes()[..header.len()], header);
            assert_eq!(frame.len(), header.len() + length);
            assert!(frame.payload().starts_with(br#"{"push":"#));
        }
    }

    #[test]
    fn a_ping_is_the_empty_reply() {
        for wire in [Wire::JSON, Wire::PROTOBUF] {
            assert_eq!(Frame::ping(wire), Frame::reply(wire, &Reply::Ping, 2).unwrap());
        }
    }

    #[test]
    fn protobuf_goes_in_binary_frames() {
        let push = Push::Message { data: Payload::opaque(&b"\xff"[..]) };
        let frame = Frame::push(Wire::PROTOBUF, &push, 0).unwrap();
        assert_eq!(frame.bytes()[..2], [0x82, 8]);
        assert_eq!(
            Encoding::Protobuf.decode_replies(&frame.payload()).next().unwrap().unwrap(),
            Reply::Push(push.clone())
        );
        assert_eq!(Frame::push(Wire::JSON, &push, 0), Err(NotJson));
    }

    #[test]
    fn a_wire_of_compression_carries_what_is_shorter_for_it() {
        let wire = Wire { compression: Some(Compression::new(1, 100)), ..Wire::JSON };
        let message = |length: usize| Push::Message { data: Payload::json_string(&"x".repeat(length)) };
        let decoder = || {
            let limits = bowline_protocol::websocket::Limits::default();
            bowline_protocol::websocket::Decoder::new(bowline_protocol::websocket::Role::Client, limits)
                .with_deflate()
        };
        for (length, is_compressed) in [(10, false), (67, false), (68, true), (5000, true)] {
            let (frame, plain) = (
                Frame::push(wire, &message(length), 0).unwrap(),
                Frame::push(Wire::JSON, &message(length), 0).unwrap(),
            );
            assert_eq!(frame.bytes()[0] & COMPRESSED != 0, is_compressed, "{length}");
            assert_eq!(frame.len() < plain.len(), is_compressed, "{length}");
            let decoded = decoder().decode(&mut frame.bytes().to_vec()[..].into()).unwrap().unwrap();
            assert_eq!(decoded, bowline_protocol::websocket::Message::Text(plain.payload()));
        }
        assert!(size_of::<Wire>() <= 6, "every outgoing queue has one");
    }

    #[test]
    fn a_unidirectional_wire_carries_bare_pushes() {
        let wire = Wire::JSON.unidirectional();
        let push = Push::Refresh { expires: true, ttl: 3 };
        let expected = br#"{"refresh":{"expires":true,"ttl":3}}"#;
        assert_eq!(&Frame::push(wire, &push, 0).unwrap().payload()[..], expected);
        assert_eq!(&Frame::reply(wire, &Reply::Push(push), 0).unwrap().payload()[..], expected);
        let result = CommandResult::Connect(ConnectResult { ping: 25, ..ConnectResult::default() });
        let reply = Reply::Result { id: std::num::NonZeroU32::MIN, result };
        assert_eq!(&Frame::reply(wire, &reply, 0).unwrap().payload()[..], br#"{"connect":{"ping":25}}"#);
    }
}
