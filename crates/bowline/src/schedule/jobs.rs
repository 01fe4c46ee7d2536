//! The handle of a running schedule.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use super::job::{Job, JobEnd, JobRun, work};
use super::state::Inner;
use super::stats::{RunReport, RunningJob, ScheduleStats};
use crate::carry::Cx;
use crate::cause::{Cancelled, Cause};
use crate::channel::NoAnswer;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A handle on a running [`Schedule`](crate::Schedule), to keep anywhere. When the last one is dropped, the schedule ends as after
/// [`stop`](Self::stop).
#[derive(Clone)]
#[must_use = "dropping the last handle ends the schedule: keep it, or say `forever()`"]
pub struct Jobs {
    front: Arc<Front>,
}

/// What the handles share: its drop is the drop of the last.
struct Front {
    inner: Arc<Inner>,
    /// Its drop is no reason to stop.
    forever: AtomicBool,
}

impl Drop for Front {
    fn drop(&mut self) {
        if !self.forever.load(Ordering::Relaxed) {
            self.inner.stop();
        }
    }
}

impl Jobs {
    pub(super) fn of(inner: Arc<Inner>) -> Self {
        Self { front: Arc::new(Front { inner, forever: AtomicBool::new(false) }) }
    }

    fn inner(&self) -> &Inner {
        &self.front.inner
    }

    /// Runs a job now, and waits for the end of that run.
    ///
    /// It is a run like any other: the job's [`Overlap`](crate::Overlap) says what happens if one is there, it waits for a place,
    /// and has the job's time-out. A job that is paused runs too. The times at which it is due stay as they are.
    ///
    /// # Cancel safety
    ///
    /// The run is asked for at the first poll, and belongs to the schedule: if the future is dropped after that, it takes place,
    /// and only the report is lost.
    ///
    /// # Errors
    ///
    /// [`TriggerError`]; each variant says whether trying again can help. A run that fails is no error here: see
    /// [`RunReport::end`].
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn sweep() {}
    /// # bowline::testing::example_paused(async {
    /// use std::time::Duration;
    /// use bowline::{Cancelled, RunEnd, Schedule, scope};
    ///
    /// scope("service", async |s| {
    ///     let day = Duration::from_secs(24 * 3600);
    ///     let jobs = Schedule::new("upkeep", 1).every("sweep", day, async |_run| sweep().await).start(s);
    ///     let report = jobs.trigger("sweep").await.expect("it is not running");
    ///     assert_eq!((report.number, report.end), (1, RunEnd::Ok));
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    pub async fn trigger(&self, job: &str) -> Result<RunReport, TriggerError> {
        let cx = Cx::here();
        let (reply, mut answer) = cx.oneshot("trigger");
        self.inner().request(job, reply.free())?;
        answer.recv().await.map_err(|no_answer| match no_answer {
            NoAnswer::Cancelled(cancelled) => TriggerError::Cancelled(cancelled),
            _ => TriggerError::Dropped,
        })
    }

    /// Adds a job. It is as if it had been there from the start; an interval begins now.
    ///
    /// # Errors
    ///
    /// [`AddJobError`] gives the job back, and says why; `run` is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// use std::time::Duration;
    /// use bowline::{AddJobError, Cancelled, Job, Schedule, scope};
    ///
    /// scope("service", async |s| {
    ///     let jobs = Schedule::new("tenants", 2).start(s);
    ///     let sync = Job::every("sync", Duration::from_secs(60));
    ///     jobs.add(sync.clone(), async |_run| {}).expect("there is none of this name");
    ///     let again = jobs.add(sync, async |_run| {}).unwrap_err();
    ///     assert!(matches!(again, AddJobError::Duplicate { job } if job.name() == "sync"));
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    pub fn add<F, Fut>(&self, job: Job, run: F) -> Result<(), AddJobError>
    where
        F: FnOnce(JobRun) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output: JobEnd> + Send + 'static,
    {
        self.inner().add(job, work(run))
    }

    /// Removes a job. One of its runs that has begun comes to its end, and until then its name is taken; one that waits for that is
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`UnknownJob`] if there is none of this name.
    pub fn remove(&self, job: &str) -> Result<(), UnknownJob> {
        self.inner().remove(job)
    }

    /// Pauses a job: its times pass without being due. One of its runs that has begun comes to its end; one that waits for that is
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`UnknownJob`] if there is none of this name.
    pub fn pause(&self, job: &str) -> Result<(), UnknownJob> {
        self.inner().pause(job)
    }

    /// Lets a paused job go on, from now: an interval begins anew. Nothing happens if it is not paused.
    ///
    /// # Errors
    ///
    /// [`UnknownJob`] if there is none of this name.
    pub fn resume(&self, job: &str) -> Result<(), UnknownJob> {
        self.inner().resume(job)
    }

    /// Asks the run of a job to end at its next await, also if it waits for a place; one that waits for that run takes its turn.
    /// Nothing happens if none is there.
    ///
    /// # Errors
    ///
    /// [`UnknownJob`] if there is none of this name; a job that was removed is known until its run has ended.
    pub fn cancel(&self, job: &str, reason: &'static str) -> Result<(), UnknownJob> {
        self.inner().cancel(job, reason)
    }

    /// Returns the runs that have begun or wait for a place: which, for when, since when, and what they wait for.
    #[must_use]
    pub fn running(&self) -> Vec<RunningJob> {
        self.inner().running()
    }

    /// Returns when a job is due next, by the wall clock; none if there is none of this name, it is paused, it has no time left, or
    /// the schedule has been stopped.
    #[must_use]
    pub fn next(&self, job: &str) -> Option<SystemTime> {
        self.inner().next(job)
    }

    /// Returns the books of the schedule and its jobs.
    #[must_use]
    pub fn stats(&self) -> ScheduleStats {
        self.inner().stats()
    }

    /// Begins no run any more, drops those that wait for the one before, and waits until those that have begun or wait for a place
    /// have ended.
    ///
    /// That takes as long as the longest time-out of those; put a [`timeout`](crate::timeout()) around it to give up waiting
    /// earlier, and [`cancel`](Self::cancel) what is left.
    ///
    /// # Cancel safety
    ///
    /// From the first poll on no run begins; if the future is dropped after that, it is only not waited for.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled first. The schedule has been stopped.
    pub async fn stop(&self) -> Result<(), Cancelled> {
        self.inner().stop();
        self.inner().gone.wait().await
    }

    /// Gives the handle up, and with it the rule that the last one ends the schedule: it goes on until the process drains or its owner is cancelled, and keeps the owner open
    /// until then.
    pub fn forever(self) {
        // Relaxed: whoever drops the last handle sees it, by the count of handles.
        self.front.forever.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("name", &self.inner().name).finish_non_exhaustive()
    }
}

/// There is no job of this name in the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownJob {
    name: String,
}

impl UnknownJob {
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Returns the name that was asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for UnknownJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no job `{}`: `stats()` lists those there are", self.name)
    }
}

impl std::error::Error for UnknownJob {}

/// A job was not added. It comes back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AddJobError {
    /// There is a job of this name, or one that was removed and whose run has not ended. Name it otherwise.
    Duplicate {
        /// The job that was not added.
        job: Job,
    },
    /// There are as many jobs as may be. Remove one first, or say [`max_jobs`](crate::Schedule::max_jobs).
    Full {
        /// The job that was not added.
        job: Job,
        /// How many there may be.
        max_jobs: usize,
    },
    /// The schedule was stopped, or its owner has ended. Trying again cannot succeed.
    Stopped {
        /// The job that was not added.
        job: Job,
    },
}

impl fmt::Display for AddJobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { job } => {
                write!(f, "there is a job `{}` already: name it otherwise", job.name())
            }
            Self::Full { job, max_jobs } => {
                write!(f, "no room for job `{}`: there are {max_jobs}, as many as may be", job.name())
            }
            Self::Stopped { job } => write!(f, "the schedule of job `{}` was stopped", job.name()),
        }
    }
}

impl std::error::Error for AddJobError {}

/// Why there is no report of a run that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriggerError {
    /// There is no job of this name.
    Unknown(UnknownJob),
    /// A run is there and the job's overlap allows no other to wait. Try again when that has ended.
    Busy,
    /// The run waited and was dropped: a newer one took its place, the job was paused or removed, or the schedule stopped. Trying
    /// again may succeed.
    Dropped,
    /// The schedule was stopped, or its owner has ended. Trying again cannot succeed.
    Stopped,
    /// The context of the caller was cancelled. The run goes on.
    Cancelled(Cancelled),
}

impl fmt::Display for TriggerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(unknown) => unknown.fmt(f),
            Self::Busy => f.write_str("a run of this job is there: wait for its end"),
            Self::Dropped => f.write_str("the run waited for the one before, and was dropped"),
            Self::Stopped => f.write_str("the schedule was stopped"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for TriggerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unknown(unknown) => Some(unknown),
            Self::Cancelled(cancelled) => Some(cancelled),
            _ => None,
        }
    }
}

/// For scopes whose error is [`Cancelled`].
impl From<TriggerError> for Cancelled {
    fn from(error: TriggerError) -> Self {
        Cancelled::new(Cause::Refused(match error {
            TriggerError::Cancelled(cancelled) => return cancelled,
            TriggerError::Unknown(_) => "a schedule has no such job",
            TriggerError::Busy => "a run of the job is there",
            TriggerError::Dropped => "the run of the job was dropped",
            TriggerError::Stopped => "a schedule was stopped",
        }))
    }
}
