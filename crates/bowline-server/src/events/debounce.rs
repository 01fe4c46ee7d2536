//! Channels that come and go: that somebody left is told only if nobody comes back for a while.
//!
//! A page that is loaded anew leaves its channels and enters them again within a second. The application is told neither.
//!
//! # Invariants
//!
//! 1. What is told of one channel alternates: occupied, vacated, occupied, …, beginning with occupied.
//! 2. At most so many channels wait; one more is told of at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// The channels that somebody has left, until that is told.
#[derive(Debug)]
pub(super) struct Debounce {
    delay: Duration,
    max: usize,
    left: HashMap<Arc<str>, Left>,
    by_time: BTreeSet<(Instant, Arc<str>)>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    due: Instant,
    /// When the last one left, in milliseconds since 1970.
    time_ms: i64,
}

impl Debounce {
    /// Waits for `delay` after a channel is vacated, for at most `max` channels.
    pub(super) fn new(delay: Duration, max: usize) -> Self {
        Self { delay, max, left: HashMap::new(), by_time: BTreeSet::new() }
    }

    /// Whether it is to be told that somebody is in the channel: not if nobody was told that it was left.
    pub(super) fn enter(&mut self, channel: &Arc<str>) -> bool {
        match self.left.remove(channel) {
            Some(left) => {
                self.by_time.remove(&(left.due, Arc::clone(channel)));
                false
            }
            None => true,
        }
    }

    /// Whether it is to be told now that nobody is in the channel; otherwise it is told when it is due.
    pub(super) fn leave(&mut self, channel: &Arc<str>, time_ms: i64, now: Instant) -> bool {
        if self.delay.is_zero() || self.left.len() >= self.max {
            return true;
        }
        let due = now + self.delay;
        if let Some(before) = self.left.insert(Arc::clone(channel), Left { due, time_ms }) {
            self.by_time.remove(&(before.due, Arc::clone(channel)));
        }
        self.by_time.insert((due, Arc::clone(channel)));
        false
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Takes a channel of which it is to be told by `now` that it was left, and when that was.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Arc<str>, i64)> {
        if self.next()? > now {
            return None;
        }
        self.pop_any()
    }

    /// Takes the next channel, due or not: at the end nobody will come back.
    pub(super) fn pop_any(&mut self) -> Option<(Arc<str>, i64)> {
        let (_, channel) = self.by_time.pop_first()?;
        let left = self.left.remove(&channel)?;
        Some((channel, left.time_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(5);

    fn channel(name: &str) -> Arc<str> {
        name.into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_in_time_was_never_away() {
        let mut debounce = Debounce::new(DELAY, 10);
        let (a, start) = (channel("a"), Instant::now());
        assert!(debounce.enter(&a));
        for second in 0..100 {
            assert!(!debounce.leave(&a, second, start + Duration::from_secs(second as u64)));
            assert!(!debounce.enter(&a));
        }
        assert_eq!((debounce.next(), debounce.pop_any()), (None, None), "nothing is left behind");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stays_away_is_told_of_with_the_time_of_leaving() {
        let mut debounce = Debounce::new(DELAY, 10);
        let now = Instant::now();
        for (name, second) in [("a", 1), ("b", 2)] {
            debounce.leave(&channel(name), second * 1000, now + Duration::from_secs(second as u64));
        }
        assert_eq!(debounce.next(), Some(now + Duration::from_secs(6)));
        assert_eq!(debounce.pop(now + Duration::from_secs(5)), None);
        assert_eq!(debounce.pop(now + Duration::from_secs(6)), Some((channel("a"), 1000)));
        assert_eq!(debounce.pop(now + Duration::from_secs(6)), None);
        assert!(debounce.enter(&channel("a")), "it was told that it was left");
        assert_eq!(debounce.pop_any(), Some((channel("b"), 2000)));
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_bound_and_without_a_delay_it_is_told_at_once() {
        let now = Instant::now();
        let mut debounce = Debounce::new(DELAY, 1);
        assert!(!debounce.leave(&channel("a"), 0, now) && debounce.leave(&channel("b"), 0, now));
        assert!(Debounce::new(Duration::ZERO, 1).leave(&channel("a"), 0, now));
    }
}
