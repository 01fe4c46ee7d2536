//! What the last calls came to, in buckets: the oldest is forgotten when a new one begins.
//!
//! Sequential code, and the time is an argument; the owner has the lock.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::Class;

/// Parts of a window that are forgotten one by one. More would make it slide more smoothly, and cost memory.
pub(super) const BUCKETS: u32 = 10;

/// What a window reaches back over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Time(Duration),
    Calls(u32),
}

/// The classes that speak against an upstream, in the order of [`Tally::failed`].
const KINDS: [(&str, &str); 5] = [
    ("time-out", "time-outs"),
    ("network", "network"),
    ("disconnected", "disconnected"),
    ("overload", "overload"),
    ("bug", "bugs"),
];

fn kind(class: Class) -> Option<usize> {
    match class {
        Class::Timeout => Some(0),
        Class::Network => Some(1),
        Class::Disconnected => Some(2),
        Class::Overload { .. } => Some(3),
        Class::Bug => Some(4),
        Class::Business | Class::Cancelled => None,
    }
}

/// What some calls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u32,
    /// Of these, how many took too long, whatever they came to.
    pub(super) slow: u32,
    /// Of these, how many failed, by kind.
    failed: [u32; KINDS.len()],
}

impl Tally {
    pub(super) fn failures(&self) -> u32 {
        self.failed.iter().sum()
    }

    /// The kinds that occurred with their numbers: `9 time-outs, 5 network`.
    pub(super) fn by_kind(&self) -> String {
        let kinds = KINDS.iter().zip(self.failed).filter(|(_, times)| *times > 0);
        let named =
            kinds.map(|((one, many), times)| format!("{times} {}", if times == 1 { one } else { many }));
        named.collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, failure: Option<usize>, slow: bool) {
        self.calls = self.calls.saturating_add(1);
        self.slow = self.slow.saturating_add(u32::from(slow));
        if let Some(kind) = failure {
            self.failed[kind] = self.failed[kind].saturating_add(1);
        }
    }

    fn forget(&mut self, other: &Tally) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.slow = self.slow.saturating_sub(other.slow);
        for (kept, gone) in self.failed.iter_mut().zip(other.failed) {
            *kept = kept.saturating_sub(gone);
        }
    }
}

pub(super) struct Window {
    span: Span,
    buckets: [Tally; BUCKETS as usize],
    /// The bucket that is being filled.
    at: usize,
    /// When the next one begins, for a window over time.
    ends: Instant,
    /// The sum of the buckets.
    sum: Tally,
}

impl Window {
    pub(super) fn new(span: Span, now: Instant) -> Self {
        let mut window = Self { span, buckets: Default::default(), at: 0, ends: now, sum: Tally::default() };
        if let Span::Time(span) = span {
            window.ends = now + span / BUCKETS;
        }
        window
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// Enters a call that has ended now; `class` is that of its failure.
    pub(super) fn add(&mut self, now: Instant, class: Option<Class>, slow: bool) {
        self.slide(now);
        let failure = class.and_then(kind);
        self.buckets[self.at].add(failure, slow);
        self.sum.add(failure, slow);
    }

    /// What is in the window now.
    pub(super) fn tally(&mut self, now: Instant) -> Tally {
        if matches!(self.span, Span::Time(_)) {
            self.slide(now);
        }
        self.sum
    }

    fn slide(&mut self, now: Instant) {
        match self.span {
            Span::Calls(calls) => {
                if self.buckets[self.at].calls >= (calls / BUCKETS).max(1) {
                    self.next();
                }
            }
            // A clock read before the lock was taken may lie before the bucket: it belongs to it all the same.
            Span::Time(_) if now < self.ends => {}
            Span::Time(span) => {
                let width = span / BUCKETS;
                let late = (now - self.ends).as_nanos();
                if late / width.as_nanos() >= u128::from(BUCKETS) {
                    // Nobody called for a whole window: nothing of it is left, and the steps stay where they are.
                    let into = u64::try_from(late % width.as_nanos()).unwrap_or(0); // of years: it fits
                    let ends = now + (width - Duration::from_nanos(into));
                    *self = Self { ends, ..Self::new(self.span, now) };
                }
                while now >= self.ends {
                    self.next();
                    self.ends += width;
                }
            }
        }
    }

    fn next(&mut self) {
        self.at = (self.at + 1) % self.buckets.len();
        let gone = std::mem::take(&mut self.buckets[self.at]);
        self.sum.forget(&gone);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The same, by keeping everything.
    fn by_hand(span: Duration, calls: &[(u64, bool)], now: u64) -> (u32, u32) {
        let width = u64::try_from(span.as_millis()).unwrap() / u64::from(BUCKETS);
        let inside = |at: u64| at / width + u64::from(BUCKETS) > now / width;
        let calls = calls.iter().filter(|(at, _)| inside(*at));
        calls.fold((0, 0), |(calls, failed), (_, fails)| (calls + 1, failed + u32::from(*fails)))
    }

    #[test]
    fn a_window_that_was_idle_for_months_is_empty_at_once() {
        let began = Instant::now();
        let mut window = Window::new(Span::Time(Duration::from_millis(10)), began);
        window.add(began, Some(Class::Timeout), false);
        let months = began + Duration::from_secs(60 * 24 * 3600) + Duration::from_micros(300);
        let clock = Instant::now();
        window.add(months, None, false);
        assert!(clock.elapsed() < Duration::from_secs(1), "it counted every bucket in between");
        assert_eq!((window.tally(months).calls, window.tally(months).failures()), (1, 0));
        // Its steps are where they would have been.
        assert_eq!(window.ends - months, Duration::from_micros(700));
    }

    proptest! {
        #[test]
        fn a_window_over_time_holds_what_its_buckets_reach_back_to(
            steps in vec((prop_oneof![20 => 0_u64..120, 1 => 900_u64..5_000], any::<bool>()), 1..200)
        ) {
            let span = Duration::from_millis(1_000);
            let began = Instant::now();
            let mut window = Window::new(Span::Time(span), began);
            let mut calls = Vec::new();
            let mut now = 0;
            for (later, fails) in steps {
                now += later;
                let at = began + Duration::from_millis(now);
                window.add(at, fails.then_some(Class::Timeout), false);
                calls.push((now, fails));
                let tally = window.tally(at);
                prop_assert_eq!((tally.calls, tally.failures()), by_hand(span, &calls, now));
            }
        }

        #[test]
        fn a_window_over_calls_holds_nearly_as_many(size in 1_u32..300, fails in vec(any::<bool>(), 1..600)) {
            let now = Instant::now();
            let mut window = Window::new(Span::Calls(size), now);
            for (at, fail) in fails.iter().enumerate() {
                window.add(now, fail.then_some(Class::Network), false);
                let tally = window.tally(now);
                let held = tally.calls as usize;
                prop_assert!(held <= (size.max(BUCKETS)) as usize && held <= at + 1);
                // All but the bucket that was forgotten last.
                let bucket = (size / BUCKETS).max(1) as usize;
                prop_assert!(held > at || held > (BUCKETS as usize - 1) * bucket);
                let failed = fails[at + 1 - held..=at].iter().filter(|fail| **fail).count();
                prop_assert_eq!(tally.failures() as usize, failed);
            }
        }
    }
}
