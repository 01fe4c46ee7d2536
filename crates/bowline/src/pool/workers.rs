//! How many workers a pool has, and the task that owns them.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::elastic::{DEFAULT_GROW_AFTER, DEFAULT_SHRINK_AFTER, Elastic};
use super::job::Handler;
use super::worker::Worker;
use crate::cause::Cancelled;
use crate::combine::race_all;
use crate::context;
use crate::limit::Limit;
use crate::scope::{Scope, scope};
use crate::sleep;
use crate::sync::Arc;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// How many workers a pool has.
///
/// # Examples
///
/// ```
/// use bowline::Workers;
/// use std::time::Duration;
///
/// let as_many_as_connections = Workers::fixed(20);
/// let as_many_as_it_takes = Workers::elastic(10, 200)
///     .grow_after(Duration::from_millis(20))
///     .shrink_after(Duration::from_secs(300));
/// # let _ = (as_many_as_connections, as_many_as_it_takes);
/// ```
#[derive(Clone, Debug)]
pub struct Workers {
    min: usize,
    max: usize,
    grow_after: Duration,
    shrink_after: Duration,
    limit: Option<Limit>,
}

impl Workers {
    /// How long a job may wait before an elastic pool grows, unless [set](Self::grow_after): what a caller hardly feels.
    pub const DEFAULT_GROW_AFTER: Duration = DEFAULT_GROW_AFTER;

    /// How long workers must have been idle before an elastic pool lets them go, unless [set](Self::shrink_after): longer than
    /// the breaks in most traffic.
    pub const DEFAULT_SHRINK_AFTER: Duration = DEFAULT_SHRINK_AFTER;

    /// As many as this, from the start to the end.
    ///
    /// A worker does one job at a time. So this is how many jobs run at once, which is what protects what they use: as many as
    /// a database has connections, or as an upstream takes requests.
    ///
    /// # Panics
    ///
    /// If `workers` is 0: nobody would do the work.
    #[must_use]
    #[track_caller]
    pub fn fixed(workers: usize) -> Self {
        Self::elastic(workers, workers)
    }

    /// As many as the load takes, from `min` to `max`.
    ///
    /// The pool grows by a half when the job at the head of the queue has waited for [`grow_after`](Self::grow_after), and
    /// again each time that passes and it still waits. It shrinks to what its busiest moment of the last
    /// [`shrink_after`](Self::shrink_after) took, and a little more, never within that time after it grew. Where a load comes
    /// and goes at just that pace, that time becomes longer, up to eight times, so that the pool does not
    /// grow and shrink in turns.
    ///
    /// Workers that wait cost a kilobyte or two each. What an elastic pool saves is what they hold on to, and what
    /// it protects is whatever is behind them at night.
    ///
    /// # Panics
    ///
    /// If `min` is 0 or above `max`.
    #[must_use]
    #[track_caller]
    pub fn elastic(min: usize, max: usize) -> Self {
        assert!(min > 0, "a pool needs at least one worker");
        assert!(min <= max, "a pool of {min} to {max} workers: the least is more than the most");
        let (grow_after, shrink_after) = (DEFAULT_GROW_AFTER, DEFAULT_SHRINK_AFTER);
        Self { min, max, grow_after, shrink_after, limit: None }
    }

    /// As many as `limit` says, which learns from how long jobs take: for jobs that all use something whose capacity nobody
    /// knows, and which changes.
    ///
    /// A job is lost to overload if it ran into [`Pool::job_timeout`](crate::Pool::job_timeout) or its caller's deadline, or took
    /// longer than [`Limit::slower_than`]; errors of the handler and panics are no sign of it. A worker that is too many goes when
    /// it has ended its job. Jobs are taken one at a time, so that each is measured.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Bound, Cancelled, Limit, Overflow, Pool, Workers, scope};
    ///
    /// scope("service", async |s| {
    ///     let pool = Pool::new("search", Workers::adaptive(Limit::gradient(2..=64)), Bound::items(500), Overflow::Reject)
    ///         .start(s, async |word: &'static str| word.len());
    ///     assert_eq!(pool.call("knot").await.ok(), Some(4));
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn adaptive(limit: Limit) -> Self {
        let (grow_after, shrink_after) = (DEFAULT_GROW_AFTER, DEFAULT_SHRINK_AFTER);
        Self { min: limit.now(), max: limit.most(), grow_after, shrink_after, limit: Some(limit) }
    }

    /// Lets an elastic pool grow when jobs wait for longer than this. One with a limit does not look at it.
    ///
    /// # Panics
    ///
    /// If it is zero: every job waits for a moment.
    #[must_use]
    #[track_caller]
    pub fn grow_after(mut self, delay: Duration) -> Self {
        assert!(!delay.is_zero(), "every job waits for a moment: `grow_after` must be more than nothing");
        self.grow_after = delay;
        self
    }

    /// Lets an elastic pool let workers go that were idle for this long. One with a limit does not look at it.
    ///
    /// # Panics
    ///
    /// If it is zero: a pool would shrink between two jobs.
    #[must_use]
    #[track_caller]
    pub fn shrink_after(mut self, idle: Duration) -> Self {
        assert!(
            !idle.is_zero(),
            "a pool that shrinks between two jobs: `shrink_after` must be more than nothing"
        );
        self.shrink_after = idle;
        self
    }
}

impl Workers {
    pub(super) fn adapts(&self) -> bool {
        self.limit.is_some()
    }
}

/// The pool's own task: runs the workers, and returns when they are gone.
pub(super) async fn run<J, R, F, Fut>(
    workers: Workers,
    core: Arc<Core<J, R>>,
    handler: Arc<Handler<J, R, F>>,
) -> Result<(), Cancelled>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    scope("workers", async |s: &Scope<Cancelled>| {
        context::put(s.handle().node(), &core.inside);
        let here = s.handle();
        let hire = {
            let core = Arc::clone(&core);
            // Refused only at the end: then there is nothing to do for it.
            move || drop(here.spawn("worker", Worker::new(Arc::clone(&core), Arc::clone(&handler))))
        };
        core.want(workers.min);
        (0..workers.min).for_each(|_| hire());
        if let Some(limit) = workers.limit {
            core.adapt(limit);
            s.spawn_daemon("adaptive", follow(core, hire));
        } else if workers.max > workers.min {
            s.spawn_daemon("elastic", resize(workers, core, hire));
        }
        Ok(())
    })
    .await
}

/// Decides how many workers there are, for as long as there are any.
async fn resize<J, R>(
    workers: Workers,
    core: Arc<Core<J, R>>,
    hire: impl Fn(),
) -> Result<Infallible, Cancelled>
where
    J: Send + 'static,
    R: Send + 'static,
{
    let Workers { min, max, grow_after, shrink_after, limit: _ } = workers;
    let mut elastic = Elastic::new(min, max, grow_after, shrink_after);
    loop {
        let now = Instant::now();
        let sample = core.sample(now);
        let wanted = elastic.decide(now, sample);
        if wanted != sample.workers {
            core.want(wanted);
            (sample.workers..wanted).for_each(|_| hire());
        }
        // Nothing is looked at while there is nothing to decide.
        match (sample.queued, wanted) {
            (1.., _) => sleep(elastic.every()).await?,
            (0, small) if small == min => rush(&core).await?,
            (0, _) => race_all((sleep(elastic.part()), rush(&core))).await?,
        }
    }
}

/// Hires whom the limit allows, for as long as there are any.
async fn follow<J, R>(core: Arc<Core<J, R>>, hire: impl Fn()) -> Result<Infallible, Cancelled>
where
    J: Send + 'static,
    R: Send + 'static,
{
    let mut leaf = Leaf::default();
    poll_fn(|cx| {
        (0..waker::leaf(cx, |waker| core.missing(waker))).for_each(|_| hire());
        match leaf.park(cx, Wait { op: Op::Job, on: core.id }) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => Poll::Ready(Err(cancelled)),
        }
    })
    .await
}

/// Waits until a job waits and no worker is free.
async fn rush<J, R>(core: &Arc<Core<J, R>>) -> Result<(), Cancelled>
where
    J: Send + 'static,
    R: Send + 'static,
{
    let mut leaf = Leaf::default();
    poll_fn(|cx| {
        if waker::leaf(cx, |waker| core.is_rushed(waker)) {
            leaf.clear();
            return Poll::Ready(Ok(()));
        }
        match leaf.park(cx, Wait { op: Op::Job, on: core.id }) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => Poll::Ready(Err(cancelled)),
        }
    })
    .await
}
