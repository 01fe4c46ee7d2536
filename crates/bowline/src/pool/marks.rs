//! How long jobs wait, without a look at the clock per job: some are marked with the time at which they came.
//!
//! Every eighth part of the bound one is marked, and each that comes into an empty queue. So an age that is read here is
//! at most that of the marked job before: too great by an eighth of what the queue holds.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const PARTS: u64 = 8;

/// However great the bound is, marks are no further apart than this: by them it shows that no worker has come for long.
const APART: u64 = 16;

pub(super) struct Marks {
    marks: VecDeque<(u64, Instant)>,
    every: u64,
    next: u64,
}

impl Marks {
    pub(super) fn new(bound: usize) -> Self {
        Self { marks: VecDeque::new(), every: (bound as u64 / PARTS).clamp(1, APART), next: 0 }
    }

    /// A job of this number has come. The time, if it is marked; `now` is read once, however many come.
    #[inline]
    pub(super) fn came(
        &mut self,
        number: u64,
        into_empty: bool,
        now: &mut Option<Instant>,
    ) -> Option<Instant> {
        if into_empty {
            self.marks.clear();
        }
        if into_empty || number >= self.next {
            self.next = number + self.every;
            let now = *now.get_or_insert_with(Instant::now);
            self.marks.push_back((number, now));
            return Some(now);
        }
        None
    }

    /// The age of a job that is at the front, by the last mark before it.
    #[inline]
    pub(super) fn age(&mut self, number: u64, now: Instant) -> Duration {
        while self.marks.get(1).is_some_and(|(next, _)| *next <= number) {
            self.marks.pop_front();
        }
        self.marks.front().map_or(Duration::ZERO, |(_, came)| now.saturating_duration_since(*came))
    }
}
