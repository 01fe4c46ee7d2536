//! A lane for jobs that compute or block: stated here, started in a scope.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::compute::cores;
use super::jobs::{Jobs, State, Weight};
use super::lane::{CpuLane, LANES, Lane};
use crate::carry::Cx;
use crate::cause::Cancelled;
use crate::lock::Semaphore;
use crate::owner::{Owner, Tie};
use crate::queue::Bound;
use crate::scope::{Scope, scope};
use crate::site;
use crate::sync::{Arc, Mutex};

/// A bounded lane for jobs that compute or block, off the threads that run tasks.
///
/// At most so many jobs run at once, so many are queued, and - where they are weighed - so many bytes are in both together:
/// uneven jobs fill a lane by their weight, not by their number. Who comes when it is full waits, or is refused
/// ([`reject_when_full`](Self::reject_when_full)).
///
/// Each running job is a blocking task below the lane in the tree, with its age, and is counted and named at shutdown. A panic
/// is its caller's error; the lane goes on. An idle lane has no threads: it uses the runtime's.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, CpuPool, scope};
///
/// fn thumbnail(image: Vec<u8>) -> Vec<u8> {
///     image.into_iter().step_by(8).collect() // takes its time
/// }
///
/// scope("server", async |s| {
///     let thumbnails = CpuPool::new("thumbnails", Bound::items(64).and_bytes(256 << 20, Vec::len))
///         .start(s, thumbnail);
///     let small = thumbnails.call(vec![7; 64]).await?;
///     assert_eq!(small.len(), 8);
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use = "a pool does nothing until it is started"]
pub struct CpuPool<J> {
    name: &'static str,
    place: &'static Location<'static>,
    bound: Bound<J>,
    threads: usize,
    rejects: bool,
    job_limit: Option<Duration>,
}

impl<J: Send + 'static> CpuPool<J> {
    /// States a lane that queues as many jobs as `bound` says, and holds as many bytes of jobs, queued and running.
    ///
    /// Unless something else is said, as many jobs run at once as there are cores, callers wait when the lane is full, and a job
    /// may take as long as it wants.
    ///
    /// A job that weighs more than all bytes passes when it is alone.
    ///
    /// # Panics
    ///
    /// If `bound` has an urgent lane: nobody could send to it.
    #[track_caller]
    pub fn new(name: &'static str, bound: Bound<J>) -> Self {
        assert!(!bound.has_urgent(), "a lane for jobs has no urgent lane besides: start one more pool");
        let (threads, rejects, job_limit) = (cores(), false, None);
        Self { name, place: Location::caller(), bound, threads, rejects, job_limit }
    }

    /// Lets so many jobs run at once: more than there are cores for jobs that block, fewer to leave cores to others.
    ///
    /// The threads are those of the runtime's blocking pool, 512 unless the runtime was built with
    /// another number; if all are taken, jobs stay queued.
    ///
    /// # Panics
    ///
    /// If `threads` is 0: no job would ever run.
    #[track_caller]
    pub fn threads(mut self, threads: usize) -> Self {
        assert!(threads > 0, "a lane needs at least one thread");
        self.threads = threads;
        self
    }

    /// Refuses who comes when the lane is full with [`CpuError::Full`](crate::CpuError::Full) instead of letting it wait.
    pub fn reject_when_full(mut self) -> Self {
        self.rejects = true;
        self
    }

    /// Lets a job take at most `limit`, from when it begins: then its caller gets
    /// [`CpuError::TimedOut`](crate::CpuError::TimedOut), the job is told to stop, an alert is raised, and as long as it does not
    /// stop it counts as abandoned. It keeps its thread: what cannot be stopped would otherwise be there without a bound.
    pub fn job_limit(mut self, limit: Duration) -> Self {
        self.job_limit = Some(limit);
        self
    }

    /// Starts the lane in `owner`, as one task of it, and returns the handle to call it with.
    ///
    /// `work` is called with each job, on several threads at once. The lane serves: its scope does not stay open for it. When
    /// everybody else in the scope is gone, or the scope is cancelled, jobs that are queued go back to their callers
    /// ([`CpuError::Closed`](crate::CpuError::Closed)), those that run are told to stop, and the scope waits for them. When the
    /// last handle is dropped the lane ends likewise; then nobody waits for anything. In a scope that has ended
    /// or is closed, every call is refused.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn start<R, F>(self, owner: &impl Owner, work: F) -> CpuLane<J, R>
    where
        R: Send + 'static,
        F: Fn(J) -> R + Send + Sync + 'static,
    {
        let Self { name, place, bound, threads, rejects, job_limit } = self;
        let of = |permits| {
            let semaphore = Semaphore::at(name, place, permits);
            if rejects { semaphore.with_waiting_room(0) } else { semaphore }
        };
        let weight = bound.max_bytes().zip(bound.size_of()).map(|(max_bytes, size_of)| Weight {
            max_bytes,
            size_of,
            bytes: of(max_bytes),
        });
        let jobs = Arc::new(Jobs {
            site: site::intern(name, place),
            threads,
            job_limit,
            weight,
            room: of(bound.max_items()),
            state: Mutex::new(State::default()),
        });
        let listed: Arc<dyn Lane> = jobs.clone();
        LANES.list(&listed);
        let cx = Cx::here();
        let (open, last_handle_is_gone) = cx.latch(name);
        let open = open.free();
        // Also if it is dropped before its first poll.
        let ends = Ends(Arc::clone(&jobs));
        let part = async move {
            let jobs = &ends.0;
            scope(name, async |s: &Scope<Cancelled>| {
                jobs.go_live(s.handle().node(), Arc::new(work));
                let over = last_handle_is_gone.wait().await;
                jobs.end();
                over
            })
            .await
        };
        if owner.own(name, Location::caller(), Tie::Serves, part).is_err() {
            jobs.end();
        }
        CpuLane::new(jobs, open)
    }
}

/// Ends the lane when its task does, however that comes to its end.
struct Ends<J: Send + 'static, R: Send + 'static>(Arc<Jobs<J, R>>);

impl<J: Send + 'static, R: Send + 'static> Drop for Ends<J, R> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<J> fmt::Debug for CpuPool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuPool")
            .field("name", &self.name)
            .field("bound", &self.bound)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
