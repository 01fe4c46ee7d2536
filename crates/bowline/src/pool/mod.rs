//! Worker pools: so many workers, a bounded queue in front of them, and a stated policy for "full".
//!
//! A [`Pool`] says what is to be; [`start`](Pool::start) makes it one child of a scope, with its workers below, and returns the
//! handle by which jobs are submitted and called. The `core` is one lock around the queue, the line of those who wait for room,
//! and the workers' places, in parts by who comes to it; `offer` is the future that waits for room; `call` ties a job to whoever waits for its result;
//! `worker` takes jobs in batches and polls them where it stands; `workers` keeps as many of those as `elastic`
//! finds right.
//!
//! # Invariants
//!
//! 1. A job is in exactly one place: `accepted = completed + failed + panicked + timed_out + cancelled + dropped + queued +
//!    running`. One that was not accepted went back to who submitted it.
//! 2. What waits never exceeds the bound, and what a worker has taken along and not begun counts as waiting: so what goes back
//!    finds room.
//! 3. Under the lock no user code runs: no waker is woken or cloned, no job measured or dropped. What is to be done
//!    afterwards is put into `After`.
//! 4. At most one worker is on its way to look at the queue; it calls the next if there is enough for one more. Waking a
//!    thread costs as much as dozens of short jobs, so beside workers that are *at hand* (at short jobs, and coming back by
//!    themselves) another is called only if so much waits that it is worth it, or if they are late. Who has to wait itself,
//!    for room, for an answer or for the end, leaves a thread free, and calls one in any case. So behind a job that blocks its
//!    thread after many short ones, jobs that were submitted wait until one of the next sixteen comes, or somebody waits.
//! 5. Who was accepted from the line is told in the poll of the worker that let it in, or in a later one of the same turn.
//! 6. A called job is never taken along: as long as it has not begun its caller finds it in the queue.
//!
//! # End
//!
//! When the last handle is dropped, or by [`PoolHandle::drain`], no more jobs are accepted; workers end when nothing is left, and
//! the pool's task with the last of them. Cancelled with its scope, the pool cancels the jobs that run and drops those that
//! wait; both are counted.

mod call;
mod core;
mod elastic;
mod error;
mod handle;
mod job;
mod marks;
mod offer;
mod row;
mod stats;
mod worker;
mod workers;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;

use crate::owner::{Owner, Tie};
use crate::queue::{Bound, Overflow};
use crate::site;
use crate::sync::Arc;
use core::{Core, Terms};
use job::{Begin, Handler};

pub use error::{CallError, SubmitError};
pub use handle::PoolHandle;
pub(crate) use stats::placed_pools;
pub use stats::{PoolState, PoolStats, pools};
pub use workers::Workers;

/// What a worker pool is to be; [`start`](Self::start) makes it run.
///
/// Use it where work comes in bursts and what does the work must not: memory is bounded by the queue, concurrency by
/// the workers, and who has too much is told. For a list of items of which all are known, [`map`](crate::map) is simpler; for
/// work that computes for long without awaiting, the async threads are the wrong place.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// # #[derive(Debug)] struct Image(u32);
/// # async fn thumbnail(image: Image) -> u32 { image.0 / 10 }
/// use bowline::{Bound, Cancelled, Overflow, Pool, Workers, scope};
///
/// scope("service", async |s| {
///     let resize = Pool::new("resize", Workers::fixed(5), Bound::items(100), Overflow::Block)
///         .start(s, async |image: Image| thumbnail(image).await);
///     resize.submit(Image(640)).await?; // accepted: it will be done
///     let small = resize.call(Image(800)).await?; // its result
///     assert_eq!(small, 80);
///     Ok::<_, Cancelled>(())
/// }) // the last handle is gone: the pool finishes its work, and the scope returns
/// .await
/// # }).unwrap();
/// ```
#[must_use = "a pool does nothing before it is started"]
pub struct Pool<J> {
    name: &'static str,
    workers: Workers,
    bound: Bound<J>,
    overflow: Overflow,
    job_timeout: Option<Duration>,
    wait_at_most: Option<Duration>,
}

impl<J: Send + 'static> Pool<J> {
    /// States a pool: how many jobs run at once, how many wait, and what happens to one that comes when so many do.
    ///
    /// What runs is counted in workers, what waits in jobs and, with [`Bound::and_bytes`], in bytes.
    ///
    /// # Panics
    ///
    /// If `bound` has an urgent lane, which pools do not.
    #[track_caller]
    pub fn new(name: &'static str, workers: Workers, bound: Bound<J>, overflow: Overflow) -> Self {
        assert!(!bound.has_urgent(), "a pool has no urgent lane: start a second pool for urgent jobs");
        Self { name, workers, bound, overflow, job_timeout: None, wait_at_most: None }
    }

    /// Lets a job take no longer than this: then it is cancelled, as [`timeout`](crate::timeout()) does it, and counted as timed
    /// out. Without it a job has the time that its caller has, and a submitted one any.
    pub fn job_timeout(mut self, most: Duration) -> Self {
        self.job_timeout = Some(most);
        self
    }

    /// Lets nobody wait for room longer than this: then the job is refused with [`SubmitError::Full`]. Without it the wait ends
    /// with the context of who waits.
    pub fn wait_at_most(mut self, most: Duration) -> Self {
        self.wait_at_most = Some(most);
        self
    }

    /// Starts the pool as a child of `owner`; `handler` does a job.
    ///
    /// The scope stays open until the pool has ended. If the scope is closed already, nothing runs, and the handle refuses
    /// every job with [`SubmitError::Closed`].
    ///
    /// A submitted job runs in its worker's context: it is cancelled with the pool, and knows no deadline but
    /// [`job_timeout`](Self::job_timeout). What it returns is dropped. A panic is counted ([`panics`](crate::panics)), and the
    /// worker goes on.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn start<O, R, F, Fut>(self, owner: &O, handler: F) -> PoolHandle<J, R>
    where
        O: Owner,
        R: Send + 'static,
        F: Fn(J) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
    {
        self.start_at(Location::caller(), owner, handler, |_| false)
    }

    /// Starts the pool as [`start`](Self::start) does, with a handler that may fail: errors are counted apart
    /// ([`PoolStats::failed`]). That of a submitted job is dropped; who wants it has the handler deal with it, or calls.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Bound, Cancelled, Overflow, Pool, Workers, scope};
    ///
    /// scope("parse", async |s| {
    ///     let parse = Pool::new("parse", Workers::fixed(2), Bound::items(8), Overflow::Block)
    ///         .start_fallible(s, async |text: &'static str| text.parse::<u32>());
    ///     parse.submit("7").await?;
    ///     parse.submit("seven").await?;
    ///     parse.drain().await?;
    ///     let stats = parse.stats();
    ///     assert_eq!((stats.completed, stats.failed), (1, 1));
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn start_fallible<O, R, E, F, Fut>(self, owner: &O, handler: F) -> PoolHandle<J, Result<R, E>>
    where
        O: Owner,
        R: Send + 'static,
        E: Send + 'static,
        F: Fn(J) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.start_at(Location::caller(), owner, handler, Result::is_err)
    }

    fn start_at<O, R, F, Fut>(
        self,
        place: &'static Location<'static>,
        owner: &O,
        handler: F,
        is_failure: fn(&R) -> bool,
    ) -> PoolHandle<J, R>
    where
        O: Owner,
        R: Send + 'static,
        F: Fn(J) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
    {
        let Self { name, workers, bound, overflow, job_timeout, wait_at_most } = self;
        let terms = Terms {
            max_jobs: bound.max_items(),
            max_bytes: bound.max_bytes(),
            size_of: bound.size_of(),
            overflow,
            wait_at_most,
        };
        let core = Core::new(site::intern(name, place), terms);
        let adapts = workers.adapts();
        let handler =
            Arc::new(Handler { run: handler, is_failure, job_timeout, adapts, place, of: PhantomData });
        let erased: Arc<dyn Begin<J, R>> = handler.clone();
        let handle = PoolHandle::new(Arc::clone(&core), Arc::downgrade(&erased));
        drop(erased);
        stats::list(&core);
        let end = End(Arc::clone(&core)); // made here: a scope that is closed drops it with the future
        let part = async move {
            let _end = end;
            workers::run(workers, core, handler).await
        };
        drop(owner.own(name, place, Tie::Stays, part));
        handle
    }
}

impl<J> fmt::Debug for Pool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("workers", &self.workers)
            .field("bound", &self.bound)
            .field("overflow", &self.overflow)
            .field("job_timeout", &self.job_timeout)
            .field("wait_at_most", &self.wait_at_most)
            .finish()
    }
}

/// The end of the pool, whichever way it comes.
struct End<J: Send + 'static, R: Send + 'static>(Arc<Core<J, R>>);

impl<J: Send + 'static, R: Send + 'static> Drop for End<J, R> {
    fn drop(&mut self) {
        self.0.end();
    }
}
