//! Payloads to frames.

use bytes::{BufMut, Bytes};

use super::header::MAX_CONTROL_BYTES;
use super::mask::apply_mask;
use super::{EncodedHeader, FrameHeader, Opcode};

/// What is left of a close frame after its status.
const MAX_REASON_BYTES: usize = MAX_CONTROL_BYTES - 2;

/// Returns the header of a server's unfragmented frame, for a payload that is written beside it.
pub fn encode_header(opcode: Opcode, payload_len: usize) -> EncodedHeader {
    FrameHeader::new(opcode, payload_len).encode()
}

/// Makes a server's unfragmented frame, header and payload in one buffer.
///
/// The caller keeps control payloads to 125 bytes; peers refuse longer ones.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    whole_frame(opcode, payload, None)
}

/// Makes a client's unfragmented frame. The mask is to be random and new for each frame.
pub fn masked_frame(opcode: Opcode, payload: &[u8], mask: [u8; 4]) -> Bytes {
    whole_frame(opcode, payload, Some(mask))
}

/// Makes a server's close frame. A reason above 123 bytes is cut at a character.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    frame(Opcode::Close, &close_payload(code, reason))
}

/// Makes a client's close frame, see [`close_frame`] and [`masked_frame`].
pub fn masked_close_frame(code: u16, reason: &str, mask: [u8; 4]) -> Bytes {
    masked_frame(Opcode::Close, &close_payload(code, reason), mask)
}

/// Appends any frame to `out`, for example a piece of a message, or one of several that leave in one write.
///
/// The payload's length is taken from `payload`, whatever the header says.
pub fn append_frame(header: FrameHeader, payload: &[u8], out: &mut Vec<u8>) {
    out.put_slice(&FrameHeader { payload_len: payload.len() as u64, ..header }.encode());
    let start = out.len();
    out.put_slice(payload);
    if let Some(mask) = header.mask {
        apply_mask(&mut out[start..], mask);
    }
}

fn whole_frame(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    let header = FrameHeader { mask, ..FrameHeader::new(opcode, payload.len()) };
    // The exact size: Bytes takes over a full vector without another allocation.
    let mut out = Vec::with_capacity(header.encode().len() + payload.len());
    append_frame(header, payload, &mut out);
    out.into()
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)];
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.put_u16(code);
    payload.put_slice(reason.as_bytes());
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_header_and_payload() {
        assert_eq!(&frame(Opcode::Text, b"Hello")[..], b"\x81\x05Hello");
        let long = vec![7; 70_000];
        let framed = frame(Opcode::Binary, &long);
        assert_eq!(&framed[..10], &*encode_header(Opcode::Binary, 70_000));
        assert_eq!(&framed[10..], long);
    }

    #[test]
    fn a_masked_frame_is_the_one_of_the_rfc() {
        let framed = masked_frame(Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&framed[..], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn close_reasons_are_cut_at_a_character() {
        assert_eq!(&close_frame(3001, "shutdown")[..], b"\x88\x0a\x0b\xb9shutdown");
        assert_eq!(close_frame(3001, &"a".repeat(123)).len(), 2 + 125);
        assert_eq!(close_frame(3001, &"a".repeat(200)).len(), 2 + 125);
        // 123 is odd: the 62nd two-byte character would begin at byte 122.
        let cut = close_frame(3001, &"é".repeat(100));
        assert_eq!(std::str::from_utf8(&cut[4..]).unwrap(), "é".repeat(61));
    }
}
