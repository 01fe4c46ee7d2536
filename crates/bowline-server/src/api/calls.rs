//! How often each method was called, and how it went.

use std::array;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use super::method::{ROUTES, Route};

/// The error codes of the server API; others, if there ever are any, are counted together.
const CODES: [u32; 9] = [100, 102, 104, 106, 107, 108, 111, 112, 113];

/// Slots per method: done, malformed, a code each, other codes.
const SLOTS: usize = CODES.len() + 3;

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has a result.
    Ok,
    /// Its body could not be decoded.
    Malformed,
    /// It failed with this code.
    Error(u32),
}

/// Counters of calls. A command in a batch counts as a call of its method, the batch as one call more.
///
/// Relaxed: nothing is concluded from two of them together.
#[derive(Debug)]
pub(crate) struct Calls {
    unauthorized: AtomicU64,
    routes: [[AtomicU64; SLOTS]; ROUTES],
}

/// One counter of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallCount {
    pub(crate) method: &'static str,
    /// `ok`, `malformed`, or the error code.
    pub(crate) outcome: Cow<'static, str>,
    pub(crate) count: u64,
}

impl Default for Calls {
    fn default() -> Self {
        let routes = array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0)));
        Self { unauthorized: AtomicU64::new(0), routes }
    }
}

impl Calls {
    pub(super) fn count_unauthorized(&self) {
        self.unauthorized.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, route: Route, outcome: Outcome) {
        let slot = match outcome {
            Outcome::Ok => 0,
            Outcome::Malformed => 1,
            Outcome::Error(code) => 2 + CODES.iter().position(|known| *known == code).unwrap_or(CODES.len()),
        };
        if let Some(counter) = self.routes.get(route.index()).and_then(|slots| slots.get(slot)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests that were refused for want of the key.
    pub(crate) fn unauthorized(&self) -> u64 {
        self.unauthorized.load(Ordering::Relaxed)
    }

    /// Every method's successful calls, and those of its failures that have happened.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = CallCount> {
        let outcome = |slot: usize| match slot {
            0 => Cow::Borrowed("ok"),
            1 => Cow::Borrowed("malformed"),
            slot => CODES.get(slot - 2).map_or(Cow::Borrowed("other"), |code| Cow::Owned(code.to_string())),
        };
        Route::all().zip(&self.routes).flat_map(move |(route, slots)| {
            slots.iter().enumerate().filter_map(move |(slot, counter)| {
                let count = counter.load(Ordering::Relaxed);
                (slot == 0 || count > 0).then(|| CallCount {
                    method: route.name(),
                    outcome: outcome(slot),
                    count,
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_at_its_method() {
        let calls = Calls::default();
        for outcome in [Outcome::Ok, Outcome::Ok, Outcome::Malformed, Outcome::Error(113), Outcome::Error(9)]
        {
            calls.count(Route::Batch, outcome);
        }
        let counted: Vec<_> = calls
            .snapshot()
            .filter(|call| call.count > 0)
            .map(|call| (call.method, call.outcome.into_owned(), call.count))
            .collect();
        let expected = [("ok", 2), ("malformed", 1), ("113", 1), ("other", 1)];
        assert_eq!(counted, expected.map(|(outcome, count)| ("batch", outcome.to_owned(), count)));
        assert_eq!(calls.snapshot().filter(|call| call.count == 0).count(), ROUTES - 1);
    }
}
