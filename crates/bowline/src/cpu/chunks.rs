//! How many items a thread takes at once.
//!
//! Taking and delivering costs two short locks and two looks at the clock, well below a microsecond; a chunk of half a
//! millisecond makes that a thousandth. Towards the end chunks shrink, so that all threads finish together.

use std::time::Duration;

/// What a chunk should take: long beside the cost of taking it, short beside what a person notices and what a cancel may wait.
const CHUNK: Duration = Duration::from_micros(500);

/// What a chunk takes at least, if its items are that short: below, taking would cost more than a few percent.
const SHORTEST: Duration = Duration::from_micros(20);

/// How much larger than the one before a chunk may be: what was measured over few items is rough.
const GROWTH: usize = 8;

/// What is left is divided into so many chunks per thread.
const CHUNKS_LEFT_PER_THREAD: usize = 4;

/// What one thread knows of the items.
#[derive(Default)]
pub(super) struct Sizer {
    last: usize,
    nanos_per_item: u64,
}

impl Sizer {
    /// The number of items to take of `left`, which is not 0, with so many threads at work.
    pub(super) fn next(&self, left: usize, threads: usize) -> usize {
        if self.last == 0 {
            return 1;
        }
        let in_time =
            |time: Duration| usize::try_from(nanos(time) / self.nanos_per_item.max(1)).unwrap_or(usize::MAX);
        let share = left / (threads * CHUNKS_LEFT_PER_THREAD).max(1);
        let wanted = in_time(CHUNK).min(share.max(in_time(SHORTEST)));
        wanted.min(self.last.saturating_mul(GROWTH)).clamp(1, left)
    }

    /// `items` have taken so long.
    pub(super) fn took(&mut self, items: usize, time: Duration) {
        self.last = items;
        self.nanos_per_item = nanos(time) / u64::try_from(items.max(1)).unwrap_or(u64::MAX);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chunks of one thread of `threads` that all are as fast, until nothing is left.
    fn chunks(items: usize, each: Duration, threads: usize) -> Vec<usize> {
        let (mut left, mut sizer, mut chunks) = (items, Sizer::default(), Vec::new());
        while left > 0 {
            let taken = sizer.next(left, threads);
            sizer.took(taken, each * u32::try_from(taken).unwrap());
            left -= (taken * threads).min(left);
            chunks.push(taken);
        }
        chunks
    }

    #[test]
    fn items_longer_than_a_chunk_are_taken_one_by_one() {
        assert!(chunks(100, CHUNK * 2, 2).iter().all(|taken| *taken == 1));
    }

    #[test]
    fn a_chunk_grows_to_its_time_and_shrinks_towards_the_end() {
        let chunks = chunks(500_000, Duration::from_micros(20), 2);
        assert_eq!(chunks[..4], [1, 8, 25, 25]);
        assert_eq!(chunks.iter().max(), Some(&25));
        assert_eq!(chunks.last(), Some(&1));
    }

    #[test]
    fn short_items_are_taken_by_the_thousand() {
        let chunks = chunks(500_000, Duration::from_nanos(100), 2);
        assert!(chunks.iter().max().unwrap() >= &5_000 && chunks.len() < 150, "{chunks:?}");
        let shortest = chunks[4..].iter().rev().skip(1).min().unwrap();
        assert!(*shortest >= 200, "20 µs of 100 ns each: {chunks:?}");
    }

    #[test]
    fn items_that_take_no_time_to_speak_of_still_leave_something_to_the_others() {
        let mut sizer = Sizer::default();
        assert_eq!(sizer.next(1_000, 4), 1);
        sizer.took(1, Duration::ZERO);
        assert_eq!(sizer.next(999, 4), 8);
        assert_eq!(sizer.next(3, 4), 3);
    }
}
