//! How long a retry waits.

use std::time::Duration;

use super::class::Class;
use crate::dice;

/// How long a [`Retry`](crate::Retry) waits before the next attempt: exponentially longer, and drawn by lot.
///
/// The wait after attempt *n* is drawn from zero to `first` · 2ⁿ⁻¹, at most `longest` ("full jitter"): callers that failed
/// together do not come back together. An upstream that said it has too much to do ([`Class::Overload`]) is left
/// alone for at least `first`, and if it said for how long, for that time and the drawn one.
///
/// # Examples
///
/// ```
/// use bowline::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
/// assert_eq!(backoff.longest_after(1), Duration::from_millis(50));
/// assert_eq!(backoff.longest_after(9), Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Makes one that waits up to `first` before the second attempt, twice as long before each following one, and never longer
    /// than `longest`.
    ///
    /// # Panics
    ///
    /// If `first` is zero: retries without a pause are a storm.
    #[must_use]
    #[track_caller]
    pub const fn exponential(first: Duration, longest: Duration) -> Self {
        assert!(!first.is_zero(), "retries without a pause are a storm");
        Self { first, longest }
    }

    /// Returns the longest wait that can be drawn after attempt `number`, counted from 1.
    #[must_use]
    pub fn longest_after(&self, number: u32) -> Duration {
        let doublings = number.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// Draws the wait after attempt `number`, which failed like that.
    pub(crate) fn draw_after(&self, number: u32, class: Class) -> Duration {
        let drawn = dice::up_to(self.longest_after(number));
        match class {
            Class::Overload { retry_after: Some(told) } => told.saturating_add(drawn),
            Class::Overload { retry_after: None } => drawn.max(self.first),
            _ => drawn,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_within_its_bounds(first in 1_u64..10_000, longest in 1_u64..100_000, number in 1_u32.., told in 0_u64..60) {
            let (first, longest) = (Duration::from_millis(first), Duration::from_millis(longest));
            let told = Duration::from_secs(told);
            let backoff = Backoff::exponential(first, longest);
            let most = backoff.longest_after(number);
            prop_assert!(most <= longest);
            prop_assert!(backoff.draw_after(number, Class::Network) <= most);
            let overload = Class::Overload { retry_after: None };
            prop_assert!(backoff.draw_after(number, overload) >= first);
            let after = backoff.draw_after(number, Class::Overload { retry_after: Some(told) });
            prop_assert!(told <= after && after <= told + most);
        }
    }
}
