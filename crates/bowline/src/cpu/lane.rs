//! The handle of a lane, and what it tells of it.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use serde::Serialize;
use tokio::time::Instant;

use super::error::CpuError;
use super::jobs::{End, Job, Jobs};
use crate::books::Books;
use crate::carry::Cx;
use crate::cause::{Cancelled, Cause};
use crate::channel::{NoAnswer, open_oneshot};
use crate::combine::{Either, race};
use crate::context::deadline;
use crate::lock::{AcquireError, FreeCount, KeptPermit};
use crate::record::next_id;
use crate::root::Phase;
use crate::sync::{Arc, LockExt};

/// Everything that has statistics to tell, whatever its jobs are.
pub(super) trait Lane: Send + Sync {
    fn stats(&self) -> CpuPoolStats;
}

pub(super) static LANES: Books<dyn Lane> = Books::new();

/// A running [`CpuPool`](crate::CpuPool): give it jobs. Clones are handles on the same lane; keep them anywhere.
///
/// The lane ends with its scope, or when the last handle is gone.
pub struct CpuLane<J, R> {
    jobs: Arc<Jobs<J, R>>,
    /// The lane's task waits until all of these are gone.
    open: FreeCount,
}

impl<J, R> Clone for CpuLane<J, R> {
    fn clone(&self) -> Self {
        Self { jobs: Arc::clone(&self.jobs), open: self.open.clone() }
    }
}

impl<J: Send + 'static, R: Send + 'static> CpuLane<J, R> {
    pub(super) fn new(jobs: Arc<Jobs<J, R>>, open: FreeCount) -> Self {
        Self { jobs, open }
    }

    /// Has `job` worked off on a thread of its own, and returns its result.
    ///
    /// It waits for room first, first come first served, then for a thread, then for the result; all three end with the
    /// context. A caller that leaves takes a job that was not begun out of the queue. One that was begun cannot be dropped: it
    /// is told to stop ([`check`](crate::check()) fails inside), nobody waits for it, and until it ends it is in the tree and in
    /// the statistics as abandoned. The caller's deadline is ambient in the job.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the place in line, the job and its result are lost with it, and the room goes to the next.
    ///
    /// # Errors
    ///
    /// [`CpuError`]; each variant says whether trying again can help, and gives back a job that was not begun.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn call(&self, job: J) -> impl Future<Output = Result<R, CpuError<J>>> {
        let at = Location::caller();
        async move {
            let jobs = &self.jobs;
            let (room, bytes) = match self.admit(&job, at).await {
                Ok(admitted) => admitted,
                Err(AcquireError::Cancelled(cancelled)) => {
                    return Err(CpuError::Cancelled(Some(job), cancelled));
                }
                Err(AcquireError::RoomFull { .. }) => return Err(CpuError::Full(job)),
                Err(AcquireError::Closed { .. } | AcquireError::TooLarge { .. }) => {
                    return Err(CpuError::Closed(job));
                }
            };
            let cx = Cx::here();
            let (reply, mut answer) = open_oneshot(&cx, jobs.site);
            let begun = jobs.job_limit.map(|_| Arc::default());
            let job = Job {
                id: next_id(),
                item: job,
                room,
                bytes,
                deadline: deadline(),
                since: Instant::now(),
                reply: reply.free(),
                begun: begun.clone(),
            };
            let caller = Caller { jobs, id: job.id, waits: true };
            if let Err(job) = jobs.submit(job) {
                return Err(CpuError::Closed(job));
            }
            let answered = match (jobs.job_limit, begun) {
                (Some(limit), Some(begun)) => {
                    let too_long = async {
                        begun.notified().await;
                        match jobs.began(caller.id).and_then(|began| began.checked_add(limit)) {
                            Some(at) => tokio::time::sleep_until(at).await,
                            None => std::future::pending().await, // it has ended, or the limit is none
                        }
                    };
                    match race(answer.recv(), too_long).await {
                        Either::Left(answered) => answered,
                        Either::Right(()) => {
                            jobs.alert(limit);
                            caller.leave(&Cause::DeadlineExceeded);
                            return Err(CpuError::TimedOut { limit });
                        }
                    }
                }
                _ => answer.recv().await,
            };
            match answered {
                Ok(end) => {
                    caller.hears();
                    match end {
                        End::Done(value) => Ok(value),
                        End::Panicked(panic) => Err(CpuError::Panicked(panic)),
                        End::Refused(job) => Err(CpuError::Closed(job)),
                    }
                }
                Err(NoAnswer::Cancelled(cancelled)) => {
                    let job = caller.leave(cancelled.cause());
                    Err(CpuError::Cancelled(job, cancelled))
                }
                // The runtime was shut down and has dropped it.
                Err(NoAnswer::Unanswered { .. }) => {
                    let cause = Cause::Shutdown(Phase::Aborting);
                    Err(CpuError::Cancelled(caller.leave(&cause), Cancelled::new(cause)))
                }
            }
        }
    }

    /// Waits for room in the queue, then for as many bytes as the job weighs.
    async fn admit(
        &self,
        job: &J,
        at: &'static Location<'static>,
    ) -> Result<(KeptPermit, Option<KeptPermit>), AcquireError> {
        let room = self.jobs.room.acquire_kept(1, at).await?;
        let bytes = match &self.jobs.weight {
            Some(weight) => {
                // One that is larger than all there is passes alone.
                let needs = (weight.size_of)(job).min(weight.max_bytes);
                Some(weight.bytes.acquire_kept(needs, at).await?)
            }
            None => None,
        };
        Ok((room, bytes))
    }

    /// Returns what the lane is at.
    #[must_use]
    pub fn stats(&self) -> CpuPoolStats {
        self.jobs.stats()
    }
}

/// Somebody who waits for a job; dropped before the answer, it leaves.
struct Caller<'a, J: Send + 'static, R: Send + 'static> {
    jobs: &'a Jobs<J, R>,
    id: u64,
    waits: bool,
}

impl<J: Send + 'static, R: Send + 'static> Caller<'_, J, R> {
    fn leave(mut self, cause: &Cause) -> Option<J> {
        self.waits = false;
        self.jobs.leave(self.id, cause)
    }

    fn hears(mut self) {
        self.waits = false;
    }
}

impl<J: Send + 'static, R: Send + 'static> Drop for Caller<'_, J, R> {
    fn drop(&mut self) {
        if self.waits {
            drop(self.jobs.leave(self.id, &Cause::Requested("its caller has left")));
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Lane for Jobs<J, R> {
    fn stats(&self) -> CpuPoolStats {
        let now = Instant::now();
        let mut waiting = self.room.stats().waiters.len();
        let (mut bytes, mut max_bytes) = (0, None);
        if let Some(weight) = &self.weight {
            waiting += weight.bytes.stats().waiters.len();
            bytes = weight.max_bytes - weight.bytes.free_permits().min(weight.max_bytes);
            max_bytes = Some(weight.max_bytes);
        }
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let state = self.state.lock_unpoisoned();
        let running = state.running.iter().map(|running| CpuJobInfo {
            task: running.record.id(),
            for_ms: millis(now.saturating_duration_since(running.since)),
            abandoned: running.abandoned,
        });
        let oldest = state.queue.front().map(|job| now.saturating_duration_since(job.since));
        CpuPoolStats {
            name: self.site.name,
            place: format!("{}:{}", self.site.place.file(), self.site.place.line()),
            threads: self.threads,
            running: running.collect(),
            queued: state.queue.len(),
            high_water_queued: state.books.high_water,
            oldest_queued_ms: oldest.map_or(0, millis),
            waiting,
            bytes,
            max_bytes,
            accepted: state.books.accepted,
            completed: state.books.completed,
            panicked: state.books.panicked,
            withdrawn: state.books.withdrawn,
            refused: state.books.refused,
            abandoned: state.books.abandoned,
            busy_ms: millis(state.books.busy),
            queued_ms: millis(state.books.waited),
            closed: state.closed,
        }
    }
}

/// Returns the statistics of all lanes that live.
#[must_use]
pub fn cpu_pools() -> Vec<CpuPoolStats> {
    LANES.all().iter().map(|lane| lane.stats()).collect()
}

/// What a lane is at, at one moment.
///
/// `accepted = completed + panicked + withdrawn + refused + queued + running`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CpuPoolStats {
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// How many jobs may run at once.
    pub threads: usize,
    /// Those that run now.
    pub running: Vec<CpuJobInfo>,
    /// How many jobs wait for a thread.
    pub queued: usize,
    /// The most that ever waited for one at once.
    pub high_water_queued: usize,
    /// How long the oldest of them has waited, in milliseconds.
    pub oldest_queued_ms: u64,
    /// How many callers wait for room.
    pub waiting: usize,
    /// Bytes of the jobs queued and running; 0 where jobs are not weighed.
    pub bytes: usize,
    /// How many there may be; `None` where jobs are not weighed.
    pub max_bytes: Option<usize>,
    /// Jobs that were taken in.
    pub accepted: u64,
    /// Jobs that came to their end, whether or not somebody still waited.
    pub completed: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that left the queue with their callers.
    pub withdrawn: u64,
    /// Jobs that were queued when the lane ended, and went back to their callers.
    pub refused: u64,
    /// Jobs whose callers left, or gave up at the limit, while they ran; counted besides.
    pub abandoned: u64,
    /// Time that jobs ran, in milliseconds, all threads together.
    pub busy_ms: u64,
    /// Time that jobs waited for a thread, in milliseconds, all together.
    pub queued_ms: u64,
    /// Whether the lane has ended.
    pub closed: bool,
}

/// A job that runs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CpuJobInfo {
    /// The id under which the tree shows it.
    pub task: u64,
    /// For how long it has run, in milliseconds.
    pub for_ms: u64,
    /// Whether nobody waits for it any more: it was told to stop, and has not.
    pub abandoned: bool,
}

impl<J, R> fmt::Debug for CpuLane<J, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.jobs.state.lock_unpoisoned();
        f.debug_struct("CpuLane")
            .field("name", &self.jobs.site.name)
            .field("queued", &state.queue.len())
            .field("running", &state.running.len())
            .finish_non_exhaustive()
    }
}
