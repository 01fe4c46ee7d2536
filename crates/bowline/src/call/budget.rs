//! How much load retries may add to an upstream, over all who call it.
//!
//! Attempts per call bound what one caller does. They do not bound what all of them do: with three attempts each, an upstream
//! that begins to fail gets three times the load at the moment it can bear least. A budget bounds the sum.
//!
//! # Invariants
//!
//! 1. In any [`WINDOW`] there are at most `extra_percent` of the calls in that window and `min_per_second` for each of its
//!    seconds; calls are known to a tenth of the window.
//! 2. A call that succeeds at once costs one relaxed addition: the clock and the lock are for retries.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::alert::{self, AlertKind, Subject};
use crate::books::Books;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{LockExt, Mutex};

/// Over which time calls and retries are compared. Short, so that a good hour does not pay for a storm.
const WINDOW: Duration = Duration::from_secs(10);

const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_secs(1);

static BUDGETS: Books<Inner> = Books::new();

/// How much load retries may add to one upstream; shared by all who call it, and by its clones.
///
/// In any ten seconds: 10% of the calls ([`EXTRA_PERCENT`](Self::EXTRA_PERCENT)), and one per second
/// ([`MIN_PER_SECOND`](Self::MIN_PER_SECOND)) so that
/// a program with few calls can retry at all. A retry that is refused ends its call with the error it has, and an
/// [alert](crate::AlertKind::RetriesSpent) tells that it began and that it is over.
///
/// # Examples
///
/// ```
/// use bowline::{Attempts, Backoff, Retry, RetryBudget};
/// use std::sync::LazyLock;
/// use std::time::Duration;
///
/// // One per upstream: it bounds the sum of what all callers retry.
/// static BILLING: LazyLock<RetryBudget> = LazyLock::new(|| RetryBudget::new("billing"));
///
/// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
/// let retry = Retry::new(backoff, Attempts::at_most(3)).budget(&BILLING);
/// # assert!(format!("{retry:?}").contains("billing"));
/// ```
#[derive(Clone)]
pub struct RetryBudget(Arc<Inner>);

struct Inner {
    name: &'static str,
    place: &'static Location<'static>,
    extra_percent: AtomicU32,
    min_per_second: AtomicU32,
    calls: AtomicU64,
    retries: AtomicU64,
    refused: AtomicU64,
    /// Whether the last one that asked was refused.
    spent: AtomicBool,
    window: Mutex<Option<Window>>,
}

impl RetryBudget {
    /// Extra load that retries may be unless [set](Self::extra_percent), in percent of the calls: what an upstream with the
    /// usual reserve bears.
    pub const EXTRA_PERCENT: u32 = 10;

    /// Retries per second that are always granted unless [set](Self::min_per_second).
    pub const MIN_PER_SECOND: u32 = 1;

    /// Makes a budget for the upstream of this name.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str) -> Self {
        let inner = Arc::new(Inner {
            name,
            place: Location::caller(),
            extra_percent: AtomicU32::new(Self::EXTRA_PERCENT),
            min_per_second: AtomicU32::new(Self::MIN_PER_SECOND),
            calls: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            spent: AtomicBool::new(false),
            window: Mutex::new(None),
        });
        BUDGETS.list(&inner);
        Self(inner)
    }

    /// Sets how much load retries may add, in percent of the calls; for all clones.
    #[must_use]
    pub fn extra_percent(self, percent: u32) -> Self {
        self.0.extra_percent.store(percent, Ordering::Relaxed); // a setting: nothing is published through it
        self
    }

    /// Sets how many retries per second are always granted; for all clones.
    #[must_use]
    pub fn min_per_second(self, retries: u32) -> Self {
        self.0.min_per_second.store(retries, Ordering::Relaxed);
        self
    }

    /// Returns its counts.
    #[must_use]
    pub fn stats(&self) -> RetryBudgetStats {
        self.0.stats()
    }

    /// A call begins, with its first attempt.
    #[inline]
    pub(crate) fn count_call(&self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed); // a statistic
    }

    /// Asks for one attempt more.
    pub(crate) fn grant(&self, now: Instant) -> bool {
        let inner = &*self.0;
        let calls = inner.calls.load(Ordering::Relaxed);
        let granted = {
            let mut window = inner.window.lock_unpoisoned();
            let window = window.get_or_insert_with(|| Window::new(now));
            window.grant(now, calls, inner.terms())
        };
        let counter = if granted { &inner.retries } else { &inner.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        // Told only when it changes: an upstream that is down is asked thousands of times per second.
        if inner.spent.swap(!granted, Ordering::Relaxed) == granted {
            let Inner { name, place, .. } = *inner;
            let subject = Subject { kind: AlertKind::RetriesSpent, name: name.into(), place };
            if granted {
                alert::clear(&subject, "there are retries again".into());
            } else {
                let Terms { extra_percent, min_per_second } = inner.terms();
                let text = format!(
                    "calls fail without being tried again: retries are {extra_percent}% of the calls and {min_per_second}/s already"
                );
                alert::raise(subject, text);
            }
        }
        granted
    }
}

impl Inner {
    fn terms(&self) -> Terms {
        Terms {
            extra_percent: self.extra_percent.load(Ordering::Relaxed),
            min_per_second: self.min_per_second.load(Ordering::Relaxed),
        }
    }

    fn stats(&self) -> RetryBudgetStats {
        let Terms { extra_percent, min_per_second } = self.terms();
        RetryBudgetStats {
            name: self.name,
            extra_percent,
            min_per_second,
            calls: self.calls.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            is_spent: self.spent.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RetryBudget").field(&self.0.name).finish()
    }
}

/// The counts of a [`RetryBudget`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RetryBudgetStats {
    /// The name given at creation.
    pub name: &'static str,
    /// Extra load that retries may be, in percent of the calls.
    pub extra_percent: u32,
    /// Retries per second that are always granted.
    pub min_per_second: u32,
    /// Calls in all, each counted once.
    pub calls: u64,
    /// Attempts in all that were granted beyond the first of their call.
    pub retries: u64,
    /// Attempts in all that were refused.
    pub refused: u64,
    /// Whether the last that was asked for was refused.
    pub is_spent: bool,
}

/// Returns the counts of every [`RetryBudget`] that lives.
///
/// # Examples
///
/// ```
/// let billing = bowline::RetryBudget::new("billing");
/// assert!(bowline::retry_budgets().iter().any(|budget| budget.name == "billing"));
/// # drop(billing);
/// ```
#[must_use]
pub fn retry_budgets() -> Vec<RetryBudgetStats> {
    BUDGETS.all().iter().map(|budget| budget.stats()).collect()
}

#[derive(Clone, Copy)]
struct Terms {
    extra_percent: u32,
    min_per_second: u32,
}

/// What happened in the last [`WINDOW`], by seconds.
struct Window {
    epoch: Instant,
    buckets: [Bucket; BUCKETS],
    /// The bucket that was looked at last, counted from the epoch.
    last: u64,
    /// Calls in all when it was.
    calls_at_last: u64,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    calls: u64,
    retries: u64,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { epoch: now, buckets: [Bucket::default(); BUCKETS], last: 0, calls_at_last: 0 }
    }

    /// Grants one retry at `now`, when `calls` have begun in all.
    fn grant(&mut self, now: Instant, calls: u64, terms: Terms) -> bool {
        self.advance(now, calls);
        let (calls, retries) = self
            .buckets
            .iter()
            .fold((0, 0), |(calls, retries), bucket| (calls + bucket.calls, retries + bucket.retries));
        let by_load = u128::from(calls) * u128::from(terms.extra_percent) / 100;
        let by_time = u128::from(terms.min_per_second) * u128::from(WINDOW.as_secs());
        let granted = u128::from(retries) < by_load + by_time;
        if granted {
            self.bucket(self.last).retries += 1;
        }
        granted
    }

    /// Moves on to the bucket of `now` and spreads the calls since the last look evenly over the time since then.
    fn advance(&mut self, now: Instant, calls: u64) {
        let elapsed = now.saturating_duration_since(self.epoch).as_nanos() / BUCKET.as_nanos();
        // A clock that was seen by another thread a moment later than by this one does not go back.
        let at = u64::try_from(elapsed).unwrap_or(u64::MAX).max(self.last);
        let fresh = calls.saturating_sub(self.calls_at_last);
        let passed = at - self.last;
        let share = fresh / (passed + 1);
        let within = passed.min(BUCKETS as u64);
        for bucket in at + 1 - within..=at {
            *self.bucket(bucket) = Bucket { calls: share, retries: 0 };
        }
        if within < BUCKETS as u64 {
            self.bucket(self.last).calls += if passed == 0 { fresh } else { fresh - share * passed };
        }
        self.last = at;
        self.calls_at_last = self.calls_at_last.max(calls);
    }

    #[expect(clippy::cast_possible_truncation, reason = "a remainder of 10")]
    fn bucket(&mut self, at: u64) -> &mut Bucket {
        &mut self.buckets[(at % BUCKETS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms { extra_percent: 10, min_per_second: 1 };

    #[test]
    fn an_hour_of_good_calls_does_not_pay_for_a_storm() {
        let begun = Instant::now();
        let mut window = Window::new(begun);
        assert!(window.grant(begun, 0, TERMS));
        // 100 calls per second for an hour, then everything fails at once.
        let storm = begun + Duration::from_secs(3600);
        let granted = (0..10_000).filter(|_| window.grant(storm, 360_000, TERMS)).count();
        assert!((100..=110).contains(&granted), "{granted}"); // 10% of 1,000 calls in ten seconds, and ten
    }

    #[test]
    fn a_program_with_few_calls_can_retry() {
        let begun = Instant::now();
        let mut window = Window::new(begun);
        let granted = (1..=60).filter(|&second| window.grant(begun + second * BUCKET, 1, TERMS)).count();
        assert_eq!(granted, 60);
    }

    proptest! {
        /// Invariant 1 against the plain definition: every grant is written down with its time, every call too.
        #[test]
        fn retries_stay_within_the_budget_of_every_window(
            steps in prop::collection::vec((0_u64..1_500, 0_u64..40, 0_u32..30), 1..120),
        ) {
            let begun = Instant::now();
            let (mut window, mut now, mut calls) = (Window::new(begun), begun, 0_u64);
            let mut called = Vec::new();
            let mut granted: Vec<Instant> = Vec::new();
            for (millis, fresh, asked) in steps {
                now += Duration::from_millis(millis);
                calls += fresh;
                called.push((now, fresh));
                for _ in 0..asked {
                    if window.grant(now, calls, TERMS) {
                        granted.push(now);
                    }
                }
                // Buckets are coarse: the ten that count reach back nine to ten seconds, and calls that were made between two
                // looks count for all of the time between them, which is here at most 1.5 s a step.
                let in_nine = granted.iter().filter(|at| now - **at < Duration::from_secs(9)).count();
                let in_twelve: u64 = called.iter().rev()
                    .take_while(|(at, _)| now - *at < Duration::from_secs(12)).map(|(_, fresh)| fresh).sum();
                prop_assert!(in_nine as u64 <= in_twelve / 10 + 10 + 1, "{in_nine} of {in_twelve}");
            }
        }
    }
}
