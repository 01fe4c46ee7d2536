//! One message to a client as the bytes that go out: encoded once, shared by everyone who gets it.

use bowline_protocol::{NotJson, Push, Reply, json};
use bytes::Bytes;

/// The longest header of a WebSocket frame without a mask: opcode, length mark, eight bytes of length.
const LONGEST_HEADER: usize = 10;

/// The first byte of a whole text message: final fragment, opcode 1.
const FINAL_TEXT: u8 = 0x81;

/// A complete WebSocket text frame. Cloning shares the bytes.
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
    /// # Errors
    ///
    /// [`NotJson`] if the reply embeds a payload that no JSON message can carry.
    pub fn reply(reply: &Reply, payload_bytes: usize) -> Result<Self, NotJson> {
        let mut buffer = Vec::with_capacity(LONGEST_HEADER + payload_bytes);
        // The header's length follows from the payload's; leaving room for the longest saves a second buffer.
        buffer.extend_from_slice(&[0; LONGEST_HEADER]);
        json::encode_reply(reply, &mut buffer)?;
        Ok(Self::finish(buffer))
    }

    /// Makes the frame of one push; `payload_bytes` estimates its length.
    ///
    /// # Errors
    ///
    /// As [`reply`](Self::reply).
    pub fn push(push: Push, payload_bytes: usize) -> Result<Self, NotJson> {
        Self::reply(&Reply::Push(push), payload_bytes)
    }

    /// The frame by which the server asks for a pong.
    #[must_use]
    pub fn ping() -> Self {
        Self { bytes: Bytes::from_static(&[FINAL_TEXT, 2, b'{', b'}']), header_bytes: 2 }
    }

    /// The whole frame, header included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The message without the WebSocket header.
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
    fn finish(mut buffer: Vec<u8>) -> Self {
        let length = buffer.len() - LONGEST_HEADER;
        let mut header = [FINAL_TEXT, 0, 0, 0, 0, 0, 0, 0, 0, 0];
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
    use bowline_protocol::Payload;

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
            let frame = Frame::push(Push::Message { data }, 0).unwrap();
            assert_eq!(frame.payload().len(), length);
            assert_eq!(&frame.bytes()[..header.len()], header);
            assert_eq!(frame.len(), header.len() + length);
            assert!(frame.payload().starts_with(br#"{"push":"#));
        }
    }

    #[test]
    fn a_ping_is_the_empty_reply() {
        assert_eq!(Frame::ping(), Frame::reply(&Reply::Ping, 2).unwrap());
    }
}
