//! What the watchdog is to look for, and after how long.

use std::time::Duration;

/// One poll may take this long before it is told of.
const LONG_POLL: Duration = Duration::from_millis(100);
/// No worker may get on for this long.
const FROZEN: Duration = Duration::from_secs(1);
/// Input may wait this long without any being taken: longer than a request usually lives.
const NO_PROGRESS: Duration = Duration::from_secs(30);
/// Blocking tasks may wait this long for a thread.
const BLOCKING: Duration = Duration::from_secs(1);
/// Between two counts of the tasks by name: a leak is told within minutes, and counting costs next to nothing.
const COUNTS: Duration = Duration::from_secs(30);

/// What the watchdog of a program looks for; see [`Runner::watchdog`](crate::Runner::watchdog).
///
/// It is on unless it is switched off, here or with the environment variable `BOWLINE_WATCHDOG=off`. It runs on a thread of its
/// own, uses at most a hundredth of a core, stops nothing, and tells what it finds as [alerts](crate::on_alert):
///
/// - [`LongPoll`](crate::AlertKind::LongPoll): one poll of a task takes longer than 100 ms, and all other tasks of that thread
///   wait. The alert has the task's path and, if it is inside one, the innermost `timeout` or scope. What stands on the
///   thread's stack cannot be told: that takes a debugger, or a tool that unwinds the stacks of other threads.
/// - [`Frozen`](crate::AlertKind::Frozen): no worker has finished what it polls for a second, though others have work.
/// - [`NoProgress`](crate::AlertKind::NoProgress): something has waited in a queue, pool or pipeline for 30 s, and none was taken.
/// - [`QueueHigh`](crate::AlertKind::QueueHigh): a queue stays more than half full; [`Dropping`](crate::AlertKind::Dropping): a
///   queue or pool has dropped or refused something within the last minute.
/// - [`BlockingFull`](crate::AlertKind::BlockingFull): blocking tasks have waited for a thread for longer than a second.
/// - [`TasksGrew`](crate::AlertKind::TasksGrew): there are more tasks of one name than is usual, by more than a tenth. What is
///   usual is learned in the first five minutes of a name, and moves when a rise has come back down, or has stood still for two
///   hours: what only grows is never usual.
///
/// It looks at the workers 40 times a second, so a long poll is told when it is up to 75 ms over the limit. A scope that was opened
/// outside of [`Runner::run`](crate::Runner::run) is not watched, and neither is a test.
///
/// # Examples
///
/// A program that renders images on its worker threads knows that its polls are long, and wants to hear of the very long:
///
/// ```
/// use std::time::Duration;
///
/// use bowline::{Runner, Watchdog};
///
/// let (_, report) = Runner::new("thumbnails")
///     .watchdog(Watchdog::new().long_poll(Duration::from_secs(2)))
///     .run(async {});
/// # assert!(report.is_clean());
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until they are given to a `Runner`"]
pub struct Watchdog {
    pub(super) is_on: bool,
    pub(super) long_poll: Duration,
    pub(super) frozen: Duration,
    pub(super) no_progress: Duration,
    pub(super) blocking: Duration,
    pub(super) counts: Duration,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

impl Watchdog {
    /// Returns the settings a program has that says nothing.
    pub const fn new() -> Self {
        Self {
            is_on: true,
            long_poll: LONG_POLL,
            frozen: FROZEN,
            no_progress: NO_PROGRESS,
            blocking: BLOCKING,
            counts: COUNTS,
        }
    }

    /// Returns settings under which nothing is looked for.
    pub const fn off() -> Self {
        Self { is_on: false, ..Self::new() }
    }

    /// Sets how long one poll may take; 100 ms otherwise.
    pub const fn long_poll(mut self, limit: Duration) -> Self {
        self.long_poll = limit;
        self
    }

    /// Sets for how long no worker may get on; a second otherwise.
    pub const fn frozen(mut self, limit: Duration) -> Self {
        self.frozen = limit;
        self
    }

    /// Sets how long work may wait in a queue, pool or pipeline without any being taken; 30 s otherwise.
    ///
    /// A pool whose jobs all take an hour makes no progress in this sense: give it a larger limit.
    pub const fn no_progress(mut self, limit: Duration) -> Self {
        self.no_progress = limit;
        self
    }

    /// Sets how long blocking tasks may wait for a thread; a second otherwise.
    pub const fn blocking(mut self, limit: Duration) -> Self {
        self.blocking = limit;
        self
    }

    /// Sets how often tasks are counted by name; every 30 s otherwise.
    ///
    /// What is usual is learned from ten counts, and four in a row have to be above it: with a second in between, a leak is told
    /// within seconds, and so is the morning. For programs that live for an hour, and for trying it out. A count of many tasks
    /// takes its time, and is then made less often.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub const fn count_every(mut self, period: Duration) -> Self {
        assert!(!period.is_zero(), "nobody counts all the time");
        self.counts = period;
        self
    }

    /// Whether it is to run, the environment considered.
    pub(super) fn runs(&self) -> bool {
        let is_off = |value: &std::ffi::OsStr| value.eq_ignore_ascii_case("off") || value == "0";
        self.is_on && !std::env::var_os("BOWLINE_WATCHDOG").is_some_and(|value| is_off(&value))
    }
}
