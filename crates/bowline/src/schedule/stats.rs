//! What schedules say of themselves.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::job::{Missed, Overlap};
use super::state::Inner;
use crate::books::Books;
use crate::tree::TaskState;

pub(super) static SCHEDULES: Books<Inner> = Books::new();

/// Returns the statistics of every schedule whose handle or task lives, in the order in which they were started.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// for schedule in bowline::schedules() {
///     for job in &schedule.jobs {
///         println!("{}/{}: {} ok, next {:?}", schedule.name, job.name, job.ok, job.next);
///     }
/// }
/// # });
/// ```
#[must_use]
pub fn schedules() -> Vec<ScheduleStats> {
    SCHEDULES.all().iter().map(Arc::as_ref).map(Inner::stats).collect()
}

/// What a schedule was and is, at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ScheduleStats {
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// Whether it has been stopped: no run begins any more.
    pub stopped: bool,
    /// How many runs there may be at a time.
    pub at_most_running: usize,
    /// How many jobs there may be.
    pub max_jobs: usize,
    /// Runs that hold a place now.
    pub running: usize,
    /// Runs that are due and wait, for a place or for the one before.
    pub waiting: usize,
    /// The jobs, in the order in which they were added.
    pub jobs: Vec<JobStats>,
}

impl ScheduleStats {
    /// Returns the statistics of the job of this name.
    #[must_use]
    pub fn job(&self, name: &str) -> Option<&JobStats> {
        self.jobs.iter().find(|job| job.name == name)
    }
}

/// What a job was and is, at one moment.
///
/// `due` is `started + skipped + missed + dropped + waiting`, and `started` is `ok + failed + panicked + timed_out + cancelled +
/// running`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct JobStats {
    /// The name of the job.
    pub name: &'static str,
    /// `file:line` where it was made.
    pub place: String,
    /// When it runs, in words.
    pub when: String,
    /// What is done when a run is due and the one before has not ended.
    pub overlap: Overlap,
    /// What is done about missed runs.
    pub missed_policy: Missed,
    /// Whether it is paused.
    pub paused: bool,
    /// Times at which it was due, and requests for a run. (If very many were missed at once, at least so many.)
    pub due: u64,
    /// Runs that got a place.
    pub started: u64,
    /// Runs that went well.
    pub ok: u64,
    /// Runs that returned an error.
    pub failed: u64,
    /// Runs that panicked.
    pub panicked: u64,
    /// Runs that were cancelled because they took too long.
    pub timed_out: u64,
    /// Runs that were cancelled for another reason.
    pub cancelled: u64,
    /// Times at which it was due and the one before had not ended ([`Overlap`]).
    pub skipped: u64,
    /// Times that were missed and got no run of their own ([`Missed`]).
    pub missed: u64,
    /// Runs that waited and will not take place: a newer one took the place, the job was paused or removed, or the schedule stopped.
    pub dropped: u64,
    /// Runs that hold a place now: 0 or 1.
    pub running: usize,
    /// Runs that are due and wait, for a place or for the one before.
    pub waiting: usize,
    /// When the last run that got a place did, by the wall clock.
    pub last_start: Option<SystemTime>,
    /// How long the last run that has ended took.
    pub last_duration: Option<Duration>,
    /// How it ended.
    pub last_end: Option<RunEnd>,
    /// When it is due next, by the wall clock; none if it is paused, or has no time left.
    pub next: Option<SystemTime>,
}

/// A run that has begun or waits for a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RunningJob {
    /// The name of the job.
    pub job: &'static str,
    /// The number of the run.
    pub number: u64,
    /// For when it was scheduled.
    pub scheduled_for: SystemTime,
    /// How long it has had a place; none while it waits for one.
    pub running_for: Option<Duration>,
    /// Why it was asked to stop, if it was and has not yet. (At its time-out it is cancelled without this.)
    pub asked_to_stop: Option<&'static str>,
    /// The id under which the tree shows its task.
    pub task: Option<u64>,
    /// What its task does or waits for; none in the moment of its beginning or end.
    pub state: Option<TaskState>,
}

/// How one run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunEnd {
    /// It returned, and not with an error.
    Ok,
    /// It returned this error.
    Failed(String),
    /// It panicked, with this message and place.
    Panicked(String),
    /// It took too long and was cancelled.
    TimedOut,
    /// It was cancelled for another reason.
    Cancelled,
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("went well"),
            Self::Failed(text) => write!(f, "failed: {text}"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::TimedOut => f.write_str("took too long and was cancelled"),
            Self::Cancelled => f.write_str("was cancelled"),
        }
    }
}

/// What came of a run that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// The number of the run.
    pub number: u64,
    /// How it ended.
    pub end: RunEnd,
    /// How long it took, from when it had a place.
    pub took: Duration,
}
