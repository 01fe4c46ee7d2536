//! One job: when it runs, what is done when runs meet or were missed, and what a run is told.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::cron::Pattern;

/// How long a run may take by default. Most jobs take seconds; one that hangs is noticed before its users do.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// The shortest period: timers are up to a millisecond late, and a tenth of the period is as much as a grid can bear.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// The most runs that are made up for one by one, as a bound on what is kept.
pub(crate) const MAX_CATCH_UP: usize = 1_000;

/// When a job runs, and what is done when its runs meet, fail to end or were missed.
///
/// Made by [`every`](Self::every), or `cron` with the feature of that name; every option has a default.
#[derive(Clone, Debug)]
#[must_use = "a job does nothing before it is added to a schedule"]
pub struct Job {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) when: When,
    pub(super) overlap: Overlap,
    pub(super) missed: Missed,
    pub(super) jitter: Duration,
    pub(super) limit: Duration,
    pub(super) last_run: Option<SystemTime>,
}

#[derive(Clone)]
pub(super) enum When {
    Every(Duration),
    // Without the feature nobody can make one.
    #[cfg_attr(not(feature = "cron"), allow(dead_code))]
    At(Box<Pattern>),
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(period) => write!(f, "every {period:?}"),
            Self::At(pattern) => pattern.fmt(f),
        }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is done when a run is due and the one before has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// It does not take place, and is counted as skipped.
    #[default]
    Skip,
    /// One waits until the one before has ended; those that are due while one waits are skipped.
    QueueOne,
    /// The one before is cancelled. The new one begins when that is gone, its destructors included; if another is due until then,
    /// that one takes its place.
    CancelPrevious,
}

/// What is done about runs that could not begin when they were due, because the process was busy, suspended or down.
///
/// A run that is late by no more than a minute is late, and takes place. What is missed is counted and raised as an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Missed {
    /// Nothing; the next takes place when it is due.
    Skip,
    /// One run stands for all of them: that of the newest time, with the others in [`JobRun::missed`].
    #[default]
    RunOnce,
    /// So many of the newest take place, one after the other; the older ones are lost. At most 1,000.
    EachUpTo(usize),
}

/// What a run is told of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobRun {
    /// The name of the job.
    pub job: &'static str,
    /// The number of this run of the job, from 1 on.
    pub number: u64,
    /// The time for which it was scheduled, whenever it began: name reports and partitions after this one, and not after the clock.
    /// For a job at times of the day without its jitter; for one that was triggered, when it was.
    pub scheduled_for: SystemTime,
    /// How many earlier times were missed for which this run stands ([`Missed::RunOnce`]).
    pub missed: u64,
}

impl Job {
    pub(super) fn new(name: &'static str, place: &'static Location<'static>, when: When) -> Self {
        Self {
            name,
            place,
            when,
            overlap: Overlap::default(),
            missed: Missed::default(),
            jitter: Duration::ZERO,
            limit: DEFAULT_TIMEOUT,
            last_run: None,
        }
    }

    /// A job that runs every `period`, the first time one period after it was added.
    ///
    /// The times are a grid that stands still, however long a run takes. It goes by tokio's clock.
    ///
    /// # Panics
    ///
    /// If `period` is shorter than ten milliseconds: timers are up to one late.
    #[track_caller]
    pub fn every(name: &'static str, period: Duration) -> Self {
        assert!(period >= SHORTEST_PERIOD, "job `{name}`: the shortest period is {SHORTEST_PERIOD:?}");
        Self::new(name, Location::caller(), When::Every(period))
    }

    /// Sets what is done when a run is due and the one before has not ended; [`Overlap::Skip`] by default.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Sets what is done about runs that could not begin when they were due; [`Missed::RunOnce`] by default.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Delays every run by the same time, drawn once between zero and `at_most`: so that a hundred processes with the same job do
    /// not begin it in the same moment, and this one is regular. None by default.
    pub fn jitter(mut self, at_most: Duration) -> Self {
        self.jitter = at_most;
        self
    }

    /// Sets how long a run may take, from when it has a place; five minutes by default.
    ///
    /// At its deadline the run is cancelled, as under [`timeout`](crate::timeout()), and raised as an alert; one that has not
    /// stopped within five seconds is reported again.
    ///
    /// # Panics
    ///
    /// If `limit` is zero: every run would be too late.
    #[track_caller]
    pub fn timeout(mut self, limit: Duration) -> Self {
        assert!(!limit.is_zero(), "job `{}`: every run would be too late", self.name);
        self.limit = limit;
        self
    }

    /// Says when the job ran last, as the program has stored it: times since then that passed while the process was down are missed
    /// runs. Without it, nothing was missed before the start. A time to come counts as now.
    pub fn last_run(mut self, at: SystemTime) -> Self {
        self.last_run = Some(at);
        self
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many of the times that are due at once get a run.
    pub(super) fn runs_at_once(&self) -> usize {
        match self.missed {
            Missed::Skip | Missed::RunOnce => 1,
            Missed::EachUpTo(most) => most.clamp(1, MAX_CATCH_UP),
        }
    }
}

/// What a job may return: nothing, or a `Result`, whose value is dropped and whose error is shown.
#[diagnostic::on_unimplemented(
    message = "a job returns `()` or `Result<_, E>` with an `E: Display`, not `{Self}`",
    label = "this job returns something else"
)]
pub trait JobEnd {
    #[doc(hidden)]
    fn failure(self) -> Option<String>;
}

impl JobEnd for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<T, E: fmt::Display> JobEnd for Result<T, E> {
    fn failure(self) -> Option<String> {
        // Alternate: the whole chain, of errors that know one.
        self.err().map(|error| format!("{error:#}"))
    }
}

/// What a run does, of whatever type.
pub(super) trait Work: Send + Sync {
    fn call(&self, run: JobRun) -> Working;
}

pub(super) type Working = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

struct Call<F>(F);

impl<F, Fut> Work for Call<F>
where
    F: FnOnce(JobRun) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output: JobEnd> + Send + 'static,
{
    fn call(&self, run: JobRun) -> Working {
        let call = self.0.clone();
        Box::pin(async move { call(run).await.failure() })
    }
}

pub(super) fn work<F, Fut>(run: F) -> Arc<dyn Work>
where
    F: FnOnce(JobRun) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output: JobEnd> + Send + 'static,
{
    Arc::new(Call(run))
}
