//! Compression of messages (RFC 7692, `permessage-deflate`), without a window that is kept from one to the next.
//!
//! Each message is compressed for itself. A connection therefore holds nothing for it, where a window takes hundreds of
//! kilobytes of each; and a message that many get is compressed once for all of them. What compressing and inflating work with
//! belongs to the thread.
//!
//! # Invariants
//!
//! 1. Inflating stops at the first byte beyond the bound; what a peer claims of a length is never believed.
//! 2. What does not get shorter is sent as it is.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Limits, ProtocolError};

/// The extension's name in the handshake.
const NAME: &str = "permessage-deflate";

/// What a server answers that agrees: neither side refers to earlier messages.
pub const DEFLATE_RESPONSE: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What ends every flushed piece of deflate, and is left out on the wire.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The base-two logarithm of the window that compressing works with.
const WINDOW_BITS: u8 = 15;

/// Bytes by which the output grows at first.
const FIRST_BYTES: usize = 1024;

thread_local! {
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
    static DEFLATE: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
}

/// Returns whether one of the client's offers can be agreed to with [`DEFLATE_RESPONSE`].
///
/// `offered` is the value of `Sec-WebSocket-Extensions`. An offer with a parameter that is not known, that stands twice or has
/// an impossible value is passed over, and so is one that wants a smaller window of us.
pub fn accepts_deflate(offered: &str) -> bool {
    offered.split(',').any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            return false;
        }
        let mut seen = Vec::new();
        parts.all(|parameter| {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(value.trim_start().trim_matches('"'))),
                None => (parameter, None),
            };
            let is_new = !seen.contains(&name);
            seen.push(name);
            is_new
                && match (name, value) {
                    ("server_no_context_takeover" | "client_no_context_takeover", None) => true,
                    ("client_max_window_bits", None) => true,
                    ("client_max_window_bits", Some(value)) => window_bits(value).is_some(),
                    ("server_max_window_bits", Some(value)) => window_bits(value) == Some(WINDOW_BITS),
                    _ => false,
                }
        })
    })
}

fn window_bits(value: &str) -> Option<u8> {
    // No leading zeros, no sign.
    let is_plain = !value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|bits| is_plain && (8..=15).contains(bits))
}

/// Compresses a message at `level`, from 1 (fast) to 9 (short); `None` if it would not get shorter.
///
/// The result is the payload of a frame whose header says [`is_compressed`](super::FrameHeader::is_compressed).
pub fn deflate(payload: &[u8], level: u32) -> Option<Vec<u8>> {
    DEFLATE.with_borrow_mut(|kept| {
        let compress = match kept {
            Some((known, compress)) if *known == level => {
                compress.reset();
                compress
            }
            _ => &mut kept.insert((level, Compress::new(Compression::new(level.min(9)), false))).1,
        };
        // As long as what was there, with what is left out of it: whatever fills this is not shorter.
        let mut out = Vec::with_capacity(payload.len() + TAIL.len());
        compress.compress_vec(payload, &mut out, FlushCompress::Sync).ok()?;
        let is_whole = compress.total_in() == payload.len() as u64 && out.len() < out.capacity();
        (is_whole && out.ends_with(&TAIL)).then(|| {
            out.truncate(out.len() - TAIL.len());
            out
        })
    })
}

/// How far a message of `compressed_bytes` may inflate: a message that is allowed uncompressed always fits; beyond that it may
/// be ten times as long if it is not too good to be true. Text gets ten times shorter, zeros a thousand times.
fn inflated_limit(compressed_bytes: usize, limits: &Limits) -> usize {
    let by_ratio = compressed_bytes.saturating_mul(Limits::MAX_INFLATION_RATIO);
    let most = limits.max_message_bytes.saturating_mul(Limits::MAX_INFLATION);
    limits.max_message_bytes.max(most.min(by_ratio))
}

/// Inflates the payload of a compressed message.
pub(super) fn inflate(payload: &[u8], limits: &Limits) -> Result<Vec<u8>, ProtocolError> {
    let limit_bytes = inflated_limit(payload.len(), limits);
    INFLATE.with_borrow_mut(|inflate| {
        inflate.reset(false);
        let mut out = Vec::new();
        for mut input in [payload, &TAIL] {
            loop {
                if out.len() == out.capacity() {
                    // Twice as much each time, and one byte beyond the bound, by which we see that it is passed.
                    let more = out.len().max(FIRST_BYTES).min((limit_bytes + 1).saturating_sub(out.len()));
                    out.reserve_exact(more);
                }
                let before = (inflate.total_in(), out.len());
                let status = inflate.decompress_vec(input, &mut out, FlushDecompress::Sync);
                let status = status.map_err(|_| ProtocolError::InvalidDeflate)?;
                if out.len() > limit_bytes {
                    return Err(ProtocolError::TooBig { limit_bytes }); // by invariant 1
                }
                let consumed = usize::try_from(inflate.total_in() - before.0).unwrap_or(usize::MAX);
                input = input.get(consumed..).unwrap_or_default();
                match status {
                    // A last block, after which there is at most what was left out.
                    Status::StreamEnd => return Ok(out),
                    _ if consumed == 0 && out.len() == before.1 && out.len() < out.capacity() => break,
                    _ if input.is_empty() && out.len() < out.capacity() => break,
                    _ => {}
                }
            }
        }
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_message_bytes: usize) -> Limits {
        Limits { max_message_bytes, ..Limits::default() }
    }

    #[test]
    fn messages_come_back_and_what_is_not_shorter_is_left_alone() {
        let text = "Hello, compression! ".repeat(50);
        for level in 1..=9 {
            let short = deflate(text.as_bytes(), level).unwrap();
            assert!(short.len() < text.len() / 5, "{}", short.len());
            assert_eq!(inflate(&short, &limits(1000)).unwrap(), text.as_bytes());
        }
        let noise: Vec<u8> = (0..200_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(deflate(&noise, 9), None);
        assert_eq!((deflate(b"", 1), deflate(b"a", 1)), (None, None));
    }

    /// The examples of RFC 7692 §7.2.3.
    #[test]
    fn the_examples_of_the_rfc_inflate() {
        for payload in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            // Without compression.
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // A last block, and an empty one behind it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Two blocks.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflate(payload, &limits(5)).unwrap(), b"Hello", "{payload:x?}");
        }
        assert_eq!(inflate(&[0], &limits(5)).unwrap(), b"");
    }

    #[test]
    fn inflating_stops_at_the_bound_and_never_holds_more() {
        let zeros = vec![0; 10_000_000];
        let bomb = deflate(&zeros, 9).unwrap();
        assert!(bomb.len() < 11_000, "{}", bomb.len());
        assert_eq!(
            inflate(&bomb, &limits(65_536)),
            Err(ProtocolError::TooBig { limit_bytes: 655_360 }),
            "ten times the limit"
        );
        // A thousand bytes may become a hundred thousand.
        let small = deflate(&zeros[..1_000_000], 9).unwrap();
        let by_ratio = small.len() * Limits::MAX_INFLATION_RATIO;
        assert!((65_536..655_360).contains(&by_ratio), "{by_ratio}");
        assert_eq!(inflate(&small, &limits(65_536)), Err(ProtocolError::TooBig { limit_bytes: by_ratio }));
        // What is allowed uncompressed is allowed.
        let allowed = deflate(&zeros[..65_536], 9).unwrap();
        assert_eq!(inflate(&allowed, &limits(65_536)).unwrap().len(), 65_536);
        let numbers: String = (0..50_000).map(|number| format!("{number},")).collect();
        let short = deflate(numbers.as_bytes(), 1).unwrap();
        let inflated = inflate(&short, &limits(65_536)).unwrap();
        assert!(inflated == numbers.as_bytes() && inflated.len() > 4 * 65_536);
        assert!(inflated.capacity() <= 655_361, "{}", inflated.capacity());
    }

    #[test]
    fn what_is_not_deflate_is_refused() {
        for payload in
            [&[0xff; 20][..], &[0x06], &[0x01, 0x05, 0x00, 0xff, 0xff], &[0x00, 0x05, 0x00, 0x00, 0x00]]
        {
            assert_eq!(inflate(payload, &limits(100)), Err(ProtocolError::InvalidDeflate), "{payload:x?}");
        }
    }

    #[test]
    fn offers_are_agreed_to_that_want_nothing_else() {
        for (offered, is_accepted) in [
            ("permessage-deflate", true),
            ("permessage-deflate; client_max_window_bits", true),
            ("permessage-deflate; client_max_window_bits=9", true),
            ("permessage-deflate;server_no_context_takeover ; client_no_context_takeover", true),
            ("permessage-deflate; server_max_window_bits=15", true),
            ("permessage-deflate; server_max_window_bits=\"15\"", true),
            ("permessage-deflate; server_max_window_bits=10, permessage-deflate", true),
            ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", true),
            ("", false),
            ("permessage-deflated", false),
            ("permessage-deflate; server_max_window_bits=10", false),
            ("permessage-deflate; server_max_window_bits", false),
            ("permessage-deflate; client_max_window_bits=7", false),
            ("permessage-deflate; client_max_window_bits=16", false),
            ("permessage-deflate; client_max_window_bits=010", false),
            ("permessage-deflate; client_max_window_bits=+9", false),
            ("permessage-deflate; server_no_context_takeover=1", false),
            ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", false),
            ("permessage-deflate; unknown", false),
            ("permessage-deflate;", false),
        ] {
            assert_eq!(accepts_deflate(offered), is_accepted, "{offered}");
        }
    }
}
