//! When a second attempt is worth it while the first still runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::atomic::{AtomicU32, Ordering};

/// Calls that must have been seen before their times say anything.
const ENOUGH: u32 = 100;

/// Calls after which older ones count half: so the times are those of the last few thousand.
const HALF_LIFE: u32 = 2_048;

/// Buckets per doubling of the time: a quantile is right to a fifth.
const PER_DOUBLING: u32 = 4;

/// From a microsecond to more than an hour.
const BUCKETS: usize = 32 * PER_DOUBLING as usize;

/// When a [`Call`](crate::Call) makes a second attempt while its first still runs: the first answer of both counts.
///
/// It cuts the slowest calls off for a few percent more load, which the retry's [budget](crate::Retry::budget) bounds: where
/// that is spent, the first attempt simply goes on.
///
/// # Examples
///
/// ```
/// use bowline::{Call, Hedge};
/// use std::time::Duration;
///
/// // Slower than 95% of the last calls; 50 ms until there were enough of them to say so.
/// let hedge = Hedge::slower_than(0.95, Duration::from_millis(50));
/// let lookup = Call::new("lookup").idempotent().hedge(hedge);
/// # assert!(format!("{lookup:?}").contains("Hedge"));
/// ```
#[derive(Clone)]
pub struct Hedge {
    delay: Duration,
    times: Option<(f64, Arc<Times>)>,
}

impl Hedge {
    /// After a fixed time.
    #[must_use]
    pub const fn after(delay: Duration) -> Self {
        Self { delay, times: None }
    }

    /// When the first attempt is slower than this part of the calls that succeeded lately, as seen by all clones; after
    /// `at_first` until a hundred were.
    ///
    /// # Panics
    ///
    /// If `quantile` is not between 0 and 1.
    #[must_use]
    #[track_caller]
    pub fn slower_than(quantile: f64, at_first: Duration) -> Self {
        assert!((0.0..=1.0).contains(&quantile), "a quantile is between 0 and 1");
        Self { delay: at_first, times: Some((quantile, Arc::default())) }
    }

    pub(super) fn delay(&self) -> Duration {
        let known = self.times.as_ref().and_then(|(quantile, times)| times.quantile(*quantile));
        known.unwrap_or(self.delay)
    }

    /// Whether it wants to know how long calls take.
    pub(super) fn listens(&self) -> bool {
        self.times.is_some()
    }

    pub(super) fn succeeded_in(&self, time: Duration) {
        if let Some((_, times)) = &self.times {
            times.add(time);
        }
    }
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge").field("delay", &self.delay()).finish_non_exhaustive()
    }
}

/// How long calls take, in buckets that grow with the time. Every access is relaxed: these are statistics, and one count lost
/// while they are halved changes nothing.
struct Times {
    buckets: [AtomicU32; BUCKETS],
    seen: AtomicU32,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU32::new(0)), seen: AtomicU32::new(0) }
    }
}

impl Times {
    fn add(&self, time: Duration) {
        self.buckets[bucket_of(time)].fetch_add(1, Ordering::Relaxed);
        if self.seen.fetch_add(1, Ordering::Relaxed) + 1 >= HALF_LIFE {
            // Whoever takes the count back halves; the others see a small count.
            if self.seen.swap(HALF_LIFE / 2, Ordering::Relaxed) >= HALF_LIFE {
                for bucket in &self.buckets {
                    bucket.store(bucket.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
                }
            }
        }
    }

    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a part of a count")]
    fn quantile(&self, quantile: f64) -> Option<Duration> {
        if self.seen.load(Ordering::Relaxed) < ENOUGH {
            return None;
        }
        let counts: Vec<u32> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let all: u32 = counts.iter().sum();
        let mut left = (f64::from(all) * quantile).ceil() as u32;
        let at = counts.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        at.map(upper_end)
    }
}

fn bucket_of(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let doublings = micros.ilog2();
    // The two bits below the highest.
    let quarter =
        if doublings >= 2 { (micros >> (doublings - 2)) & 3 } else { (micros << (2 - doublings)) & 3 };
    let at = u64::from(doublings * PER_DOUBLING) + quarter;
    usize::try_from(at).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The first time that is no longer in bucket `at`.
fn upper_end(at: usize) -> Duration {
    let (doublings, quarter) = (at as u64 / u64::from(PER_DOUBLING), at as u64 % u64::from(PER_DOUBLING));
    Duration::from_nanos(
        ((1_000 << doublings) / u64::from(PER_DOUBLING)) * (u64::from(PER_DOUBLING) + quarter + 1),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_knows_the_slowest_twentieth_and_forgets_old_times() {
        let hedge = Hedge::slower_than(0.95, 50 * MS);
        assert_eq!(hedge.delay(), 50 * MS);
        for call in 0..1_000 {
            hedge.succeeded_in(if call % 20 == 0 { 900 * MS } else { 10 * MS });
        }
        assert!((10 * MS..13 * MS).contains(&hedge.delay()), "{:?}", hedge.delay());
        for _ in 0..20_000 {
            hedge.succeeded_in(100 * MS);
        }
        assert!((100 * MS..130 * MS).contains(&hedge.delay()), "{:?}", hedge.delay());
    }

    proptest! {
        #[test]
        fn a_time_is_below_the_end_of_its_bucket_by_a_quarter_at_most(micros in 4_u64..1 << 31) {
            let time = Duration::from_micros(micros);
            let end = upper_end(bucket_of(time));
            prop_assert!(time < end && end <= time.mul_f64(1.26), "{time:?} {end:?}");
        }
    }
}
