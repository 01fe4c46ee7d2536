//! The times of a cron pattern, for programs that keep their own plans: in a database, or over restarts.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::cron::{CronError, Pattern};

/// The times of the day that a cron pattern names, in a time zone.
///
/// What [`Job::cron`](crate::Job::cron) goes by, without a task: for plans that are kept elsewhere, of which only the next time
/// is to be known. Patterns, zones and what happens when the clocks change are as there.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use bowline::{Cron, CronError};
///
/// let times = Cron::new("30 2 * * *", "Europe/Berlin")?;
/// let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_014_400); // 2027-01-15, 12:00 UTC
/// let next = times.first_after(noon).unwrap();
/// assert_eq!(next, noon + Duration::from_secs(13 * 3600 + 1800)); // half past one, UTC
/// # Ok::<_, CronError>(())
/// ```
#[derive(Clone)]
pub struct Cron {
    pattern: Pattern,
}

impl Cron {
    /// Reads `pattern` in the time zone `zone`.
    ///
    /// # Errors
    ///
    /// [`CronError`], which says which field is wrong and what it may be. Trying again cannot succeed.
    pub fn new(pattern: &str, zone: &str) -> Result<Self, CronError> {
        Pattern::parse(pattern, zone).map(|pattern| Self { pattern })
    }

    /// Returns the first time after `at`; none if the pattern has no time left.
    #[must_use]
    pub fn first_after(&self, at: SystemTime) -> Option<SystemTime> {
        self.pattern.first_after(at)
    }

    /// Returns whether the plan is to be made anew, by [`first_after`](Self::first_after) the clock's new time, after the wall
    /// clock was put back by `by`.
    ///
    /// After up to a minute it is not. After more, a rhythm such as `*/5 * * * *` is, because it would stand still until the
    /// clock is where it was; what names up to twelve times of the day is only after more than three hours, by which the clock
    /// was wrong before: what has come today is not to come again. [`Job::cron`](crate::Job::cron) goes by the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use bowline::{Cron, CronError};
    ///
    /// let (rhythm, nightly) = (Cron::new("*/5 * * * *", "UTC")?, Cron::new("0 2 * * *", "UTC")?);
    /// let hour = Duration::from_secs(3600);
    /// assert!(rhythm.starts_over(hour) && !nightly.starts_over(hour));
    /// assert!(nightly.starts_over(hour * 4));
    /// # Ok::<_, CronError>(())
    /// ```
    #[must_use]
    pub fn starts_over(&self, by: Duration) -> bool {
        self.pattern.starts_over(by)
    }
}

impl Cron {
    /// Bytes that it takes in memory, about: for servers that bound what others may give them.
    #[doc(hidden)]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pattern.bytes()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_one_after_the_other() {
        let quarter = Cron::new("*/15 * * * *", "UTC").unwrap();
        let mut at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_001);
        for _ in 0..8 {
            let next = quarter.first_after(at).unwrap();
            assert!(next > at && next.duration_since(at).unwrap() <= Duration::from_secs(900));
            at = next;
        }
        assert_eq!(format!("{quarter:?}"), "Cron(*/15 * * * * (UTC))");
    }

    #[test]
    fn after_the_clock_was_put_back_a_rhythm_starts_over_and_a_fixed_time_if_the_clock_was_wrong() {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        for (pattern, by, starts_over) in [
            ("*/15 * * * *", minute, false),
            ("*/15 * * * *", minute * 2, true),
            ("0 2 * * *", minute * 2, false),
            ("0 2 * * *", hour * 3, false),
            ("0 2 * * *", hour * 3 + minute, true),
        ] {
            assert_eq!(Cron::new(pattern, "UTC").unwrap().starts_over(by), starts_over, "{pattern} {by:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |pattern, zone| Cron::new(pattern, zone).unwrap_err().to_string();
        assert!(wrong("0 24 * * *", "UTC").contains("hour"));
        assert!(wrong("0 2 * * *", "europe/berlin").contains("`Europe/Berlin` perhaps"));
    }
}
