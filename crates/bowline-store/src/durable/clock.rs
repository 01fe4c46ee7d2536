//! The time of the store: milliseconds since 1970 that never go backwards, whatever the wall clock does.

use std::time::Duration;

use tokio::time::Instant;

use super::format::millis;

/// Anchored when the store is opened; from then on it follows tokio's clock, which tests can pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    anchor: Instant,
    /// The time of the store at the anchor.
    began: u64,
}

impl Clock {
    /// A clock that starts at the wall clock's time, or at `newest`, the newest time in the log, if that is later.
    pub(super) fn new(wall_clock: Duration, newest: u64) -> Self {
        Self { anchor: Instant::now(), began: millis(wall_clock).max(newest) }
    }

    pub(super) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    pub(super) fn at(&self, instant: Instant) -> u64 {
        self.began.saturating_add(millis(instant.saturating_duration_since(self.anchor)))
    }
}
