//! How often something may happen: a rate per second, with a burst.
//!
//! A bucket is one point in time: when it would be full again. Nothing has to fill it, and one that is full is like new,
//! so whoever keeps many may forget those.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::time::Instant;

/// A full bucket holds what the rate allows in this time: whoever was quiet may be quick for a moment, as a client is that
/// comes back and takes up all its subscriptions.
pub(crate) const BURST: Duration = Duration::from_secs(10);

/// What somebody may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Whether it is full, as a new one is.
    pub(crate) fn is_full(self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Takes out `amount` of what `rate` puts in per second, unless there is not enough. Without a rate there is always enough.
    ///
    /// A full bucket gives more than it holds, and is in debt then: what is larger than a burst must pass at some time.
    pub(crate) fn take(&mut self, amount: usize, rate: Option<NonZeroUsize>, now: Instant) -> bool {
        let Some(rate) = rate else { return true };
        let from = self.full_at.max(now);
        let full_at = from + Duration::from_secs_f64(amount as f64 / rate.get() as f64);
        if full_at > now + BURST && !self.is_full(now) {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Option<NonZeroUsize> = NonZeroUsize::new(10);

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_only_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut passed = |now| (0..1000).filter(|_| bucket.take(1, TEN, now)).count();
        assert_eq!(passed(start), 100);
        assert_eq!(passed(start), 0);
        assert_eq!(passed(start + Duration::from_millis(1050)), 10);
        assert_eq!(passed(start + Duration::from_secs(3600)), 100, "no more than a burst is saved");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_a_burst_passes_when_the_bucket_is_full() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert!(bucket.take(1_000, TEN, start));
        assert!(!bucket.take(1, TEN, start + Duration::from_secs(89)));
        assert!(bucket.take(1, TEN, start + Duration::from_secs(91)));
        assert!(bucket.take(usize::MAX, None, start));
    }
}
