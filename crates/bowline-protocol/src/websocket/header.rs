//! Frame headers, both ways.

use std::ops::Deref;

use super::ProtocolError;

/// The reserved bit that says that a message is compressed.
const COMPRESSED: u8 = 0x40;

/// The longest payload of a control frame.
pub(super) const MAX_CONTROL_BYTES: usize = 125;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// The next piece of a message.
    Continuation,
    /// The first or only piece of a text message.
    Text,
    /// The first or only piece of a binary message.
    Binary,
    /// The last frame of a direction.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    /// Returns whether this is a control frame, which may stand between the pieces of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn to_bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }
}

/// What precedes the payload of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the last or only piece of a message.
    pub is_final: bool,
    /// Whether the message that begins here is compressed; only if that was agreed on.
    pub is_compressed: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The key the payload is masked with; clients mask, servers do not.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload in bytes.
    pub payload_len: u64,
}

impl FrameHeader {
    /// The longest header: two bytes, a length of eight, a mask of four.
    pub const MAX_BYTES: usize = 14;

    /// Makes the header of an unfragmented, unmasked frame.
    pub fn new(opcode: Opcode, payload_len: usize) -> Self {
        Self { is_final: true, is_compressed: false, opcode, mask: None, payload_len: payload_len as u64 }
    }

    /// Returns the header's bytes.
    pub fn encode(&self) -> EncodedHeader {
        let mut header = EncodedHeader { bytes: [0; Self::MAX_BYTES], len: 0 };
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        let final_bit = if self.is_final { 0x80 } else { 0 };
        let compressed_bit = if self.is_compressed { COMPRESSED } else { 0 };
        header.push(&[final_bit | compressed_bit | self.opcode.to_bits()]);
        match self.payload_len {
            len @ 0..=125 => header.push(&[mask_bit | len as u8]),
            len @ 126..=0xFFFF => {
                header.push(&[mask_bit | 126]);
                header.push(&(len as u16).to_be_bytes());
            }
            len => {
                header.push(&[mask_bit | 127]);
                header.push(&len.to_be_bytes());
            }
        }
        if let Some(mask) = self.mask {
            header.push(&mask);
        }
        header
    }

    /// Reads a header and its length, or returns `None` if `input` ends too early to tell.
    ///
    /// `check` sees the header without its mask as soon as the payload's length is known. A frame that will be
    /// refused is refused before its payload arrives, and the reserved bits before its length does: all of them, or all but
    /// the one that `compression` gives a meaning, where it has that meaning.
    pub(super) fn parse(
        input: &[u8],
        compression: IsAgreed,
        check: impl FnOnce(&Self, IsMasked) -> Result<(), ProtocolError>,
    ) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some((&[first, second], rest)) = input.split_first_chunk() else { return Ok(None) };
        let (is_final, is_compressed) = (first & 0x80 != 0, first & COMPRESSED != 0);
        let opcode = Opcode::from_bits(first & 0x0F);
        let may_be_compressed =
            compression == IsAgreed::Yes && matches!(opcode, Some(Opcode::Text | Opcode::Binary));
        if first & 0x30 != 0 || is_compressed && !may_be_compressed {
            return Err(ProtocolError::Violation("reserved bits are set"));
        }
        let opcode = opcode.ok_or(ProtocolError::Violation("reserved opcode is used"))?;
        if opcode.is_control() && !is_final {
            return Err(ProtocolError::Violation("control frame is fragmented"));
        }
        // A length in more bytes than needed is tolerated: some clients always send two, and nothing depends on it.
        let (payload_len, rest) = match second & 0x7F {
            126 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            len => (u64::from(len), rest),
        };
        if opcode.is_control() && payload_len > MAX_CONTROL_BYTES as u64 {
            return Err(ProtocolError::Violation("control frame is longer than 125 bytes"));
        }
        let mut header = Self { is_final, is_compressed, opcode, mask: None, payload_len };
        let is_masked = if second & 0x80 != 0 { IsMasked::Yes } else { IsMasked::No };
        check(&header, is_masked)?;
        let rest = match is_masked {
            IsMasked::No => rest,
            IsMasked::Yes => match rest.split_first_chunk() {
                Some((mask, rest)) => {
                    header.mask = Some(*mask);
                    rest
                }
                None => return Ok(None),
            },
        };
        Ok(Some((header, input.len() - rest.len())))
    }
}

/// Whether both sides have agreed on compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IsAgreed {
    Yes,
    No,
}

/// Whether a frame's payload is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IsMasked {
    Yes,
    No,
}

/// The bytes of a frame header, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct EncodedHeader {
    bytes: [u8; FrameHeader::MAX_BYTES],
    len: u8,
}

impl EncodedHeader {
    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

impl Deref for EncodedHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8]) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        FrameHeader::parse(input, IsAgreed::Yes, |_, _| Ok(()))
    }

    #[test]
    fn headers_survive_the_wire_and_need_all_their_bytes() {
        for opcode in [Opcode::Continuation, Opcode::Text, Opcode::Binary] {
            for payload_len in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, u64::from(u32::MAX), u64::MAX] {
                for (is_final, mask) in [(true, None), (false, Some([1, 2, 3, 4]))] {
                    let is_compressed = is_final && opcode != Opcode::Continuation;
                    let header = FrameHeader { is_final, is_compressed, opcode, mask, payload_len };
                    let bytes = header.encode();
                    assert_eq!(parse(&bytes), Ok(Some((header, bytes.len()))));
                    for end in 0..bytes.len() {
                        assert_eq!(parse(&bytes[..end]), Ok(None), "{header:?} cut at {end}");
                    }
                }
            }
        }
    }

    #[test]
    fn known_headers_have_the_bytes_of_the_rfc() {
        for (header, expected) in [
            (FrameHeader::new(Opcode::Text, 5), &[0x81, 0x05][..]),
            (FrameHeader::new(Opcode::Binary, 256), &[0x82, 0x7E, 0x01, 0x00]),
            (FrameHeader::new(Opcode::Binary, 125), &[0x82, 125]),
            (FrameHeader::new(Opcode::Binary, 126), &[0x82, 126, 0, 126]),
            (FrameHeader::new(Opcode::Binary, 65535), &[0x82, 126, 0xFF, 0xFF]),
            (FrameHeader::new(Opcode::Binary, 65536), &[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]),
            (FrameHeader::new(Opcode::Ping, 0), &[0x89, 0x00]),
            (FrameHeader::new(Opcode::Pong, 0), &[0x8A, 0x00]),
            (FrameHeader::new(Opcode::Close, 2), &[0x88, 0x02]),
            (
                FrameHeader { mask: Some([0x37, 0xfa, 0x21, 0x3d]), ..FrameHeader::new(Opcode::Text, 5) },
                &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d],
            ),
        ] {
            assert_eq!(&*header.encode(), expected);
        }
    }

    #[test]
    fn a_length_in_more_bytes_than_needed_is_tolerated() {
        let (header, len) = parse(&[0x81, 126, 0, 5]).unwrap().unwrap();
        assert_eq!((header.payload_len, len), (5, 4));
    }

    #[test]
    fn control_frames_are_short_and_whole() {
        for bytes in [[0x89, 126, 0, 126], [0x88, 126, 0xFF, 0xFF], [0x09, 0, 0, 0], [0x08, 0, 0, 0]] {
            assert!(matches!(parse(&bytes), Err(ProtocolError::Violation(_))), "{bytes:?}");
        }
    }
}
