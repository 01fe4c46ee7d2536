//! Schedules: jobs that run every so often, or at times of the day, and are never piled up.
//!
//! A [`Schedule`] is one named task of its owner. Below it is a group with one task per run, named after its job. The task looks
//! at the clocks, decides which runs are due, and sleeps until the next is; everything that ends or is asked for wakes it.
//!
//! # Two clocks
//!
//! Intervals go by tokio's clock: setting the wall clock does nothing to them, and while the machine is suspended they stand
//! still. Times of the day go by the wall clock, which is read at least once per [`LOOK_EVERY`], so that a clock that was set, or
//! a night in suspend, is noticed within that time.
//!
//! # Invariants
//!
//! 1. The next time is computed from now, never from the run before: a grid for intervals, the pattern for times of the day. So
//!    there is no drift, and after a gap there is no burst: what to do about runs that were missed is one decision ([`Missed`]).
//! 2. A job has at most one run at a time, from before it waits for a place until its future is dropped. What comes meanwhile is
//!    decided by its [`Overlap`].
//! 3. Every time that was due is counted once: `due == started + skipped + missed + dropped`, and what still waits. What was
//!    started is counted once more by how it ended, and what runs now.
//! 4. A run holds one place of the schedule's semaphore from its start until its future is dropped: never are there more.
//! 5. No user code runs under the lock: closures, clocks and whatever a closure holds are called and dropped outside.
//!
//! # End
//!
//! [`Jobs::stop`], the last handle dropped, or the beginning of the process's drain: no run begins any more, those that run come to
//! their end or to their time-out, and then the task ends. If the scope is cancelled, the runs are, at once.

mod cron;
mod drive;
mod entry;
mod job;
mod jobs;
mod plan;
mod state;
mod stats;
#[cfg(feature = "cron")]
mod times;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[cfg(feature = "cron")]
pub use cron::CronError;
pub use job::{Job, JobEnd, JobRun, Missed, Overlap};
pub use jobs::{AddJobError, Jobs, TriggerError, UnknownJob};
pub use stats::{JobStats, RunEnd, RunReport, RunningJob, ScheduleStats, schedules};
#[cfg(feature = "cron")]
pub use times::Cron;

use crate::owner::Owner;
use job::Work;

/// How often the wall clock is read while a job goes by it. A suspended machine's timers stand still, so this is also how late a
/// run may be after it woke up; a read costs some tens of nanoseconds.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A run that is late by no more than this is late; by more, it was missed. As long as [`LOOK_EVERY`], so that a suspended machine
/// that wakes up in time finds its job.
pub(crate) const LATE_AT_MOST: Duration = LOOK_EVERY;

/// How many jobs a schedule takes by default. Each costs some tens of nanoseconds whenever any of them is due.
pub(crate) const DEFAULT_MAX_JOBS: usize = 1_000;

/// How long a run that was asked to stop may take before it is reported. Half of what a process usually has for its shutdown.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The wall clock of a schedule.
pub(crate) type WallClock = dyn Fn() -> SystemTime + Send + Sync;

/// Jobs that run every so often, or at times of the day: declared here, and running from [`start`](Self::start) on.
///
/// What is safe by default: a job never runs twice at the same time ([`Overlap::Skip`]), runs that were missed are made up for
/// once ([`Missed::RunOnce`]), a run has five minutes ([`Job::timeout`]), one that fails or panics is counted and raised as an
/// alert, and the next goes on.
///
/// # Examples
///
/// ```
/// # async fn sweep() {}
/// # async fn report(_: std::time::SystemTime) -> Result<(), std::io::Error> { Ok(()) }
/// # bowline::testing::example_paused(async {
/// use std::time::Duration;
/// use bowline::{Cancelled, Job, Overlap, Schedule, scope};
///
/// scope("service", async |s| {
///     let jobs = Schedule::new("upkeep", 4) // at most four run at a time
///         .every("sweep", Duration::from_secs(30), async |_run| sweep().await)
///         .job(
///             Job::every("report", Duration::from_secs(3600))
///                 .overlap(Overlap::QueueOne)
///                 .jitter(Duration::from_secs(60))
///                 .timeout(Duration::from_secs(600)),
///             async |run| report(run.scheduled_for).await,
///         )
///         .start(s);
///     bowline::sleep(Duration::from_secs(100)).await?;
///     assert_eq!(jobs.stats().job("sweep").unwrap().ok, 3);
///     Ok::<_, Cancelled>(()) // `jobs` is dropped: what runs comes to its end, and the scope with it
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use = "a schedule does nothing before `start`"]
pub struct Schedule {
    name: &'static str,
    place: &'static Location<'static>,
    at_most_running: usize,
    max_jobs: usize,
    clock: Arc<WallClock>,
    jobs: Vec<(Job, Arc<dyn Work>)>,
}

impl Schedule {
    /// Makes a schedule without jobs, of which at most `at_most_running` run at a time. The others wait for a place, first come
    /// first served, visible as any wait for a semaphore.
    ///
    /// # Panics
    ///
    /// If `at_most_running` is 0: nothing would ever run.
    #[track_caller]
    pub fn new(name: &'static str, at_most_running: usize) -> Self {
        assert!(at_most_running > 0, "schedule `{name}`: of at most 0 jobs at a time none would ever run");
        Self {
            name,
            place: Location::caller(),
            at_most_running,
            max_jobs: DEFAULT_MAX_JOBS,
            // The one place where the toolkit reads the wall clock: "at two o'clock" is a matter of that clock and no other.
            clock: Arc::new(SystemTime::now),
            jobs: Vec::new(),
        }
    }

    /// Adds a job that runs every `period`, the first time one period after the start, with every option at its default:
    /// [`job`](Self::job) with [`Job::every`].
    ///
    /// # Panics
    ///
    /// As [`job`](Self::job) and [`Job::every`].
    #[track_caller]
    pub fn every<F, Fut>(self, name: &'static str, period: Duration, run: F) -> Self
    where
        F: FnOnce(JobRun) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output: JobEnd> + Send + 'static,
    {
        self.job(Job::every(name, period), run)
    }

    /// Adds a job.
    ///
    /// Each run calls a clone of `run`: what an `async move |run| …` needs is moved into it, in an [`Arc`] if it is large. It may
    /// return nothing, or a `Result` whose error can be displayed.
    ///
    /// # Panics
    ///
    /// If there is a job of this name already, or there are [`max_jobs`](Self::max_jobs).
    #[track_caller]
    pub fn job<F, Fut>(mut self, job: Job, run: F) -> Self
    where
        F: FnOnce(JobRun) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output: JobEnd> + Send + 'static,
    {
        let name = job.name();
        assert!(
            self.jobs.iter().all(|(known, _)| known.name() != name),
            "schedule `{}` has a job `{name}` already: name it otherwise",
            self.name
        );
        assert!(
            self.jobs.len() < self.max_jobs,
            "schedule `{}` has {} jobs, as many as it may: say `max_jobs` before",
            self.name,
            self.max_jobs
        );
        self.jobs.push((job, job::work(run)));
        self
    }

    /// Sets how many jobs there may be, those added later included; 1,000 by default.
    pub fn max_jobs(mut self, max_jobs: usize) -> Self {
        self.max_jobs = max_jobs;
        self
    }

    /// Reads the wall clock from here instead of from the system: for tests in which it goes along with tokio's paused clock, and
    /// is set back and forth.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// use std::time::{Duration, SystemTime};
    /// use bowline::{Cancelled, Schedule, scope};
    /// use tokio::time::Instant;
    ///
    /// let (start, began) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), Instant::now());
    /// let jobs = Schedule::new("test", 1).clock(move || start + began.elapsed());
    /// # drop(jobs);
    /// # });
    /// ```
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Starts it, as one task of `owner` with the schedule's name.
    ///
    /// The owner stays open until the schedule has ended: after [`Jobs::stop`], or when the last handle is dropped, or when the
    /// process begins to drain. If the owner takes no more tasks, the schedule has ended at once, and the handle says so.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[must_use = "dropping the last handle ends the schedule: keep it, or say `forever()`"]
    #[track_caller]
    pub fn start(self, owner: &impl Owner) -> Jobs {
        drive::start(self, owner)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule")
            .field("name", &self.name)
            .field("jobs", &self.jobs.iter().map(|(job, _)| job).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
