//! How long tasks are polled, if somebody wants to know: two looks at the clock per poll, so it is off unless it is asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock;

/// For the whole process: a poll pays one load where nobody asks.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Whether `BOWLINE_TIME_POLLS` asks for it.
pub(crate) fn asked_for() -> bool {
    std::env::var_os("BOWLINE_TIME_POLLS")
        .is_some_and(|value| !value.eq_ignore_ascii_case("off") && value != "0")
}

pub(crate) fn switch_on() {
    // Relaxed: a poll more or less.
    IS_ON.store(true, Ordering::Relaxed);
}

/// To be called before a poll.
#[inline]
pub(crate) fn begin() -> Option<Instant> {
    if IS_ON.load(Ordering::Relaxed) { Some(now()) } else { None }
}

#[cold]
#[expect(
    clippy::disallowed_methods,
    reason = "a poll takes real time, also where the program's clock is paused"
)]
fn now() -> Instant {
    Instant::now()
}

/// What the polls of one task took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    busy: Duration,
    longest: Duration,
    /// When the last one ended, on the coarse clock.
    last: u32,
}

impl Times {
    pub(crate) fn add(&mut self, took: Duration) {
        self.busy = self.busy.saturating_add(took);
        self.longest = self.longest.max(took);
        self.last = clock::coarse_millis();
    }
}

/// What the polls of a task took so far, without one that still goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PollTimes {
    /// All together, in microseconds.
    pub busy_us: u64,
    /// The longest, in microseconds.
    pub longest_us: u64,
    /// Since the end of the last, in milliseconds.
    pub last_ms: u64,
}

impl From<Times> for PollTimes {
    fn from(times: Times) -> Self {
        let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Self {
            busy_us: whole(times.busy.as_micros()),
            longest_us: whole(times.longest.as_micros()),
            last_ms: whole(clock::since(times.last).as_millis()),
        }
    }
}
