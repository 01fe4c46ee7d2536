//! How large the future of a task is, for views: 14 bits of its record.

use super::Record;
use crate::sync::atomic::Ordering;

/// In `Record::flags`, where the size of the future begins: what a cancel says needs two bits.
const SIZE_SHIFT: u32 = 2;
/// Sizes are kept in words of eight bytes, exactly, as long as there are fewer than that many.
const EXACT_WORDS: usize = 1 << 13;
/// Larger ones in pages, up to 32 MiB.
const PAGE_BYTES: usize = 4_096;

/// The size of a future in 14 bits: rounded up to eight bytes, or from 64 KiB on to 4 KiB.
fn size_to_bits(bytes: usize) -> u16 {
    let words = bytes.div_ceil(8).max(1); // 0 is for what is not known
    let bits = if words < EXACT_WORDS {
        words
    } else {
        EXACT_WORDS + bytes.div_ceil(PAGE_BYTES).min(EXACT_WORDS - 1)
    };
    bits.try_into().unwrap_or(u16::MAX >> SIZE_SHIFT)
}

fn size_of_bits(bits: u16) -> usize {
    let bits = usize::from(bits);
    if bits < EXACT_WORDS { bits * 8 } else { (bits - EXACT_WORDS) * PAGE_BYTES }
}

impl Record {
    /// The first poll was pending: how large the future is.
    pub(crate) fn set_future_bytes(&self, bytes: usize) {
        // Relaxed: for views. An `or`, for a cancel may set its flag meanwhile; the bits are clear until now.
        self.flags.fetch_or(size_to_bits(bytes) << SIZE_SHIFT, Ordering::Relaxed);
    }

    /// The same, of one that has been polled; see [`size_to_bits`] for how exact it is.
    pub(crate) fn future_bytes(&self) -> Option<usize> {
        let bits = self.flags.load(Ordering::Relaxed) >> SIZE_SHIFT;
        (bits != 0).then(|| size_of_bits(bits))
    }
}

#[cfg(all(test, not(any(bowline_loom, bowline_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_future_is_kept_exactly_as_long_as_it_is_sensible() {
        let kept = |bytes| size_of_bits(size_to_bits(bytes));
        for (bytes, shown) in [
            (0, 8),
            (1, 8),
            (640, 640),
            (65_521, 65_528),
            (65_528, 65_528),
            (65_529, 65_536),
            (65_536, 65_536),
            (65_537, 69_632),
            (1 << 20, 1 << 20),
            (usize::MAX, (EXACT_WORDS - 1) * PAGE_BYTES),
        ] {
            assert_eq!(kept(bytes), shown, "{bytes}");
            assert!(size_to_bits(bytes) < 1 << (16 - SIZE_SHIFT), "{bytes}");
        }
    }
}
