//! When a job is due next, on the clock it goes by. Always computed from now (invariant 1 of the module).

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::LOOK_EVERY;
use super::cron::Pattern;
use super::job::{Job, When};

/// Times that were passed over are counted one by one up to here, and then with ever larger strides: a job of every second after a
/// year in suspend must not hold up the others. What is counted is then the least it can have been.
const COUNTED_ONE_BY_ONE: u64 = 1_000;

/// A clock that went back by more was wrong before: what was done in the time that it takes back is done again. By less, a job
/// of a fixed time has run, and does not again. The line that cron draws.
const CORRECTION: Duration = Duration::from_secs(3 * 3600);

/// Where the plan stands.
pub(super) enum Plan {
    Every {
        period: Duration,
        next: Instant,
        /// Times before `next` that nobody has accounted for yet.
        owed: u64,
    },
    At {
        pattern: Box<Pattern>,
        /// Without the jitter; none if the pattern has no time left.
        next: Option<SystemTime>,
        jitter: Duration,
    },
}

/// The times that have come since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) count: u64,
    /// The newest of them, oldest first.
    pub(super) times: VecDeque<SystemTime>,
    /// How long ago the newest was.
    pub(super) late: Duration,
}

impl Plan {
    pub(super) fn new(
        job: &Job,
        last_run: Option<SystemTime>,
        jitter: Duration,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        match &job.when {
            When::Every(period) => {
                let behind = last_run.map_or(Duration::ZERO, |last| since(wall, last));
                let owed = behind.as_nanos() / period.as_nanos();
                let left = *period - nanos(behind.as_nanos() % period.as_nanos());
                let owed = u64::try_from(owed).unwrap_or(u64::MAX);
                Self::Every { period: *period, next: later(now, left.saturating_add(jitter)), owed }
            }
            When::At(pattern) => {
                let from = last_run.map_or(wall, |last| last.min(wall));
                Self::At { next: pattern.first_after(from), pattern: pattern.clone(), jitter }
            }
        }
    }

    /// Takes what is due, with at most `keep` of its times, and moves on to the first time that is not.
    pub(super) fn take_due(&mut self, now: Instant, wall: SystemTime, keep: usize) -> Option<Due> {
        match self {
            Self::Every { period, next, owed } => {
                let mut count = std::mem::take(owed);
                if *next <= now {
                    let passed = (now - *next).as_nanos();
                    let into = nanos(passed % period.as_nanos());
                    count = count
                        .saturating_add(u64::try_from(passed / period.as_nanos()).unwrap_or(u64::MAX) + 1);
                    *next = later(now, *period - into);
                }
                // The grid is even, so the newest of them was one period before the next.
                let late = period.saturating_sub(next.saturating_duration_since(now));
                let newest = wall.checked_sub(late)?;
                let listed = usize::try_from(count).unwrap_or(keep).min(keep);
                let mut times = VecDeque::with_capacity(listed);
                let mut at = Some(newest);
                while let Some(time) = at.filter(|_| times.len() < listed) {
                    times.push_front(time);
                    at = time.checked_sub(*period);
                }
                (count > 0).then_some(Due { count, times, late })
            }
            Self::At { pattern, next, jitter } => {
                let seen = wall.checked_sub(*jitter)?;
                let mut due = Due { count: 0, times: VecDeque::new(), late: Duration::ZERO };
                while let Some(at) = next.filter(|at| *at <= seen) {
                    due.count += 1;
                    if due.times.len() == keep {
                        due.times.pop_front();
                    }
                    due.times.push_back(at);
                    due.late = since(seen, at);
                    let stride =
                        if due.count % COUNTED_ONE_BY_ONE == 0 { due.late / 2 } else { Duration::ZERO };
                    *next = pattern.first_after(at + stride);
                }
                (due.count > 0).then_some(due)
            }
        }
    }

    /// The wall clock was set back by `by`, and says `wall`.
    pub(super) fn clock_went_back(&mut self, by: Duration, wall: SystemTime) {
        let Self::At { pattern, next, .. } = self else { return };
        if pattern.starts_over(by) {
            *next = pattern.first_after(wall);
        }
    }

    /// When to look again.
    pub(super) fn look_at(&self, now: Instant, wall: SystemTime) -> Option<Instant> {
        match self {
            Self::Every { next, .. } => Some(*next),
            Self::At { next, jitter, .. } => {
                let due = next.and_then(|next| next.checked_add(*jitter));
                // Also if the pattern has no time left: the clock may be set back.
                let left = due.map_or(LOOK_EVERY, |due| since(due, wall));
                Some(later(now, left.min(LOOK_EVERY)))
            }
        }
    }

    /// When it is due next, by the wall clock.
    pub(super) fn next_time(&self, now: Instant, wall: SystemTime) -> Option<SystemTime> {
        match self {
            Self::Every { next, .. } => wall.checked_add(next.saturating_duration_since(now)),
            Self::At { next, jitter, .. } => next.and_then(|next| next.checked_add(*jitter)),
        }
    }
}

impl Pattern {
    /// Whether it goes on from the new time after the wall clock was set back by `by`.
    ///
    /// What recurs would stand still until the clock is where it was; what has a fixed time would run twice.
    pub(super) fn starts_over(&self, by: Duration) -> bool {
        by > CORRECTION || (by > LOOK_EVERY && !self.has_fixed_time())
    }
}

/// Zero if `earlier` is not earlier.
pub(super) fn since(later: SystemTime, earlier: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

/// `now` and so much, or so late that nobody will see it.
fn later(now: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    now.checked_add(by).unwrap_or_else(|| now + FAR)
}

/// Nanoseconds below a period, which is a `Duration`.
fn nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let subsecond = u32::try_from(nanos % SECOND).unwrap_or_default();
    Duration::new(u64::try_from(nanos / SECOND).unwrap_or(u64::MAX), subsecond)
}
