//! What can be set on a breaker.

use std::time::Duration;

use tokio::time::Instant;

use super::Breaker;
use super::state::Settings;
use super::window::{BUCKETS, Span};
use crate::sync::LockExt;

/// As long as any time is: thirty years, which can still be added to now.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

impl Breaker {
    /// Judges by the calls of the last `window` (10 s unless said otherwise). It slides in ten steps.
    ///
    /// # Panics
    ///
    /// If it is shorter than 10 ms.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        assert!(window >= Duration::from_millis(10), "a window of less than 10 ms sees nothing");
        self.set(|settings| settings.span = Span::Time(window.min(FOR_EVER)))
    }

    /// Judges by the last `calls` calls, however long ago they were: for upstreams that are rarely called. It slides in ten
    /// steps, so the oldest tenth may be forgotten already; and it judges [from so many](Self::at_least) calls on, or
    /// from nine tenths of the window if that is fewer.
    ///
    /// # Panics
    ///
    /// If it is fewer than 10.
    #[must_use]
    pub fn window_of_calls(self, calls: u32) -> Self {
        assert!(calls >= BUCKETS, "a window of fewer than {BUCKETS} calls judges by chance");
        self.set(|settings| settings.span = Span::Calls(calls))
    }

    /// Judges from so many calls in the window on (20 unless said otherwise). An upstream that gets fewer than that in
    /// 10 s is better judged by a [window of calls](Self::window_of_calls).
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn at_least(self, calls: u32) -> Self {
        assert!(calls > 0, "it cannot judge by no call");
        self.set(|settings| settings.at_least = calls)
    }

    /// Opens when this share of the calls in the window has failed (0.5 unless said otherwise).
    ///
    /// # Panics
    ///
    /// If it is not above 0 and at most 1.
    #[must_use]
    pub fn failure_rate(self, rate: f64) -> Self {
        assert!(rate > 0.0 && rate <= 1.0, "a share is above 0 and at most 1, not {rate}");
        self.set(|settings| settings.failure_rate = rate)
    }

    /// Opens also when this share of the calls in the window took `slow` or longer, whatever they came to; a slow probe
    /// counts as failed. Costs a second reading of the clock per call.
    ///
    /// # Panics
    ///
    /// If `rate` is not above 0 and at most 1.
    #[must_use]
    pub fn slow_calls(self, slow: Duration, rate: f64) -> Self {
        assert!(rate > 0.0 && rate <= 1.0, "a share is above 0 and at most 1, not {rate}");
        self.set(|settings| settings.slow = Some((slow, rate)))
    }

    /// Stays open for so long the first time (5 s unless said otherwise); twice as long each time a probe fails, or when it
    /// opens again soon after it closed.
    #[must_use]
    pub fn open_for(self, time: Duration) -> Self {
        let time = time.min(FOR_EVER);
        self.set(|settings| {
            settings.open_for = time;
            settings.open_at_most = settings.open_at_most.max(time);
        })
    }

    /// Stays open for so long at most, before chance adds up to a quarter (a minute unless said otherwise).
    #[must_use]
    pub fn open_at_most(self, time: Duration) -> Self {
        let time = time.min(FOR_EVER);
        self.set(|settings| {
            settings.open_at_most = time;
            settings.open_for = settings.open_for.min(time);
        })
    }

    /// Lets so many probes be under way at once while it is half-open (2 unless said otherwise).
    ///
    /// # Panics
    ///
    /// If it is 0: it does not mean "unlimited", and it would never close again.
    #[must_use]
    pub fn probes(self, at_most: u32) -> Self {
        assert!(at_most > 0, "without probes it would never close again");
        self.set(|settings| settings.probes = at_most)
    }

    /// Closes when so many probes have succeeded (3 unless said otherwise).
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn close_after(self, successes: u32) -> Self {
        assert!(successes > 0, "it closes after probes, not before");
        self.set(|settings| settings.close_after = successes)
    }

    /// Takes probes for failed when as many as [may be](Self::probes) are under way and none has come back for so long (30 s unless
    /// said otherwise): those that hang for ever must not keep it half-open for ever.
    #[must_use]
    pub fn probe_time(self, time: Duration) -> Self {
        self.set(|settings| settings.probe_time = time.min(FOR_EVER))
    }

    fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        {
            let mut state = self.inner.state.lock_unpoisoned();
            state.set(Instant::now(), change);
            self.inner.publish(&state);
        }
        self
    }
}
