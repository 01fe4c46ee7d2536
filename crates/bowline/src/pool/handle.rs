//! The handle of a pool: what those who have jobs see of it.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::iter;
use std::task::Poll;

use super::call::{self, Asked, Called};
use super::core::{Core, Done, Entry, Offered};
use super::error::{CallError, SubmitError};
use super::job::Begin;
use super::offer::{self, Offer};
use super::stats::{Listed as _, PoolStats};
use crate::cause::{Cancelled, Cause};
use crate::sync::{Arc, Weak};
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// Jobs that [`PoolHandle::submit_all`] draws from its iterator at once.
const DRAWN_AT_ONCE: usize = 64;

/// A running [`Pool`](crate::Pool): give it jobs. It may be cloned, kept and sent anywhere.
///
/// When the last handle is dropped the pool finishes what it has accepted, and ends; so a job of the pool that keeps a
/// handle keeps the pool open until somebody says [`drain`](Self::drain).
pub struct PoolHandle<J: Send + 'static, R: Send + 'static> {
    seat: Arc<Seat<J, R>>,
}

/// What all handles share; with the last of them it goes.
struct Seat<J: Send + 'static, R: Send + 'static> {
    core: Arc<Core<J, R>>,
    /// Weak: a job may hold a handle.
    begin: Weak<dyn Begin<J, R>>,
}

impl<J: Send + 'static, R: Send + 'static> Clone for PoolHandle<J, R> {
    fn clone(&self) -> Self {
        Self { seat: Arc::clone(&self.seat) }
    }
}

impl<J: Send + 'static, R: Send + 'static> Drop for Seat<J, R> {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl<J: Send + 'static, R: Send + 'static> PoolHandle<J, R> {
    pub(super) fn new(core: Arc<Core<J, R>>, begin: Weak<dyn Begin<J, R>>) -> Self {
        Self { seat: Arc::new(Seat { core, begin }) }
    }

    fn core(&self) -> &Arc<Core<J, R>> {
        &self.seat.core
    }

    fn entry(&self, job: J) -> Entry<J, R> {
        let bytes = self.core().size(&job);
        Entry { job, bytes, called: None }
    }

    /// Submits a job, waiting for room if the pool's policy is to block.
    ///
    /// `Ok` means that the job is accepted: it will be worked off, or counted as cancelled if the pool's scope is
    /// cancelled, or as dropped where the policy says so. Who waits gets room first come first served.
    ///
    /// # Cancel safety
    ///
    /// The place in line is taken at the first poll. If the future is dropped while it waits, the place and the job are lost
    /// with it, unless the job has just been accepted.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] gives the job back; each variant says whether trying again can help.
    pub fn submit(&self, job: J) -> impl Future<Output = Result<(), SubmitError<J>>> + Send {
        Offer::new(self.core(), self.entry(job))
    }

    /// Submits a job if there is room and nobody waits for it, or if the policy makes room.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Full`] and [`SubmitError::Closed`] give the job back.
    pub fn try_submit(&self, job: J) -> Result<(), SubmitError<J>> {
        let mut entry = Some(self.entry(job));
        let error: fn(J) -> SubmitError<J> = match self.core().offer(&mut entry, None) {
            Offered::Accepted => return Ok(()),
            Offered::Closed => SubmitError::Closed,
            Offered::Full | Offered::MayWait | Offered::Waits(_) => SubmitError::Full,
        };
        Err(error(entry.map_or_else(|| unreachable!("what was refused was not taken"), |entry| entry.job)))
    }

    /// Submits jobs one after the other, each as [`submit`](Self::submit) does; returns how many.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, those accepted so far stay accepted, and up to 64 that were drawn from `jobs` are lost with it.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] gives those back that were drawn from `jobs` and not accepted, in their order. Pass an iterator by
    /// reference to keep the rest.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Bound, Cancelled, Overflow, Pool, Workers, scope};
    ///
    /// scope("squares", async |s| {
    ///     let pool = Pool::new("squares", Workers::fixed(2), Bound::items(8), Overflow::Block)
    ///         .start(s, async |n: u64| n * n);
    ///     assert_eq!(pool.submit_all(0..100).await?, 100);
    ///     pool.drain().await?;
    ///     assert_eq!(pool.stats().completed, 100);
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    pub fn submit_all<I>(
        &self,
        jobs: I,
    ) -> impl Future<Output = Result<usize, SubmitError<VecDeque<J>>>> + use<'_, I, J, R>
    where
        I: IntoIterator<Item = J>,
    {
        let mut jobs = jobs.into_iter().fuse();
        async move {
            let mut accepted = 0;
            let mut drawn = VecDeque::new();
            loop {
                drawn.extend(jobs.by_ref().take(DRAWN_AT_ONCE - drawn.len()).map(|job| self.entry(job)));
                if drawn.is_empty() {
                    return Ok(accepted);
                }
                accepted += offer::as_many_as_fit(self.core(), &mut drawn);
                let Some(next) = drawn.pop_front() else { continue };
                if let Err(refused) = Offer::new(self.core(), next).await {
                    let rest = drawn.into_iter().map(|entry| entry.job);
                    return Err(refused.map(|job| iter::once(job).chain(rest).collect()));
                }
                accepted += 1;
            }
        }
    }

    /// Has a job done, and returns its result.
    ///
    /// The job is accepted as by [`submit`](Self::submit), and runs in a context inside the caller's: it has the caller's deadline,
    /// values and cancellation, and the caller's scope does not end before the job has, wherever that is polled. So no job
    /// runs for a caller that is gone.
    ///
    /// Called from a job of this very pool it runs in place, in that job's worker, without a wait: if jobs waited for jobs
    /// behind them in the queue, all workers could.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while the job waits, the job is taken out and dropped; one that has begun is cancelled, as
    /// [`timeout`](crate::timeout()) does it: it is polled once more, and dropped where it stands.
    ///
    /// # Errors
    ///
    /// [`CallError`]; each variant says whether the job has begun, and what to do.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// # use std::time::Duration;
    /// use bowline::{Bound, CallError, Cancelled, Overflow, Pool, Workers, scope, timeout};
    ///
    /// scope("page", async |s| {
    ///     let lookup = Pool::new("lookup", Workers::fixed(4), Bound::items(16), Overflow::Reject)
    ///         .start(s, async |name: &'static str| match name {
    ///             "slow" => bowline::sleep(Duration::from_secs(60)).await.map(|()| 0),
    ///             name => Ok(name.len()),
    ///         });
    ///     assert!(matches!(lookup.call("knot").await, Ok(Ok(4))));
    ///     let late = timeout(Duration::from_secs(1), lookup.call("slow")).await;
    ///     assert!(matches!(late, Ok(Err(CallError::Cancelled(why))) if why.is_deadline()));
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    pub fn call(&self, job: J) -> impl Future<Output = Result<R, CallError<J>>> + Send {
        let mut entry = self.entry(job);
        async move {
            let core = self.core();
            if offer::is_inside(&core.inside) {
                return self.call_in_place(entry.job).await;
            }
            let called = Called::open(core.site, &core.inside);
            let asked = Asked::new(core, &called);
            entry.called = Some(Box::new(called));
            if let Err(refused) = Offer::new(core, entry).await {
                asked.was_refused();
                return Err(CallError::Refused(refused));
            }
            asked.await.into_result()
        }
    }

    async fn call_in_place(&self, job: J) -> Result<R, CallError<J>> {
        let core = self.core();
        let Some(begin) = self.seat.begin.upgrade().filter(|_| core.begin_in_place()) else {
            return Err(CallError::Refused(SubmitError::Closed(job)));
        };
        let is_failure = begin.is_failure();
        let mut counted = InPlace { core, done: Done { cancelled: 1, ..Done::default() } };
        let end = begin.begin_in(call::open(core.site, &core.inside), job).await;
        counted.done = Done::default();
        end.count(is_failure, &mut counted.done);
        end.into_result()
    }

    /// Takes no more jobs, and waits until those that were accepted are done and the workers are gone.
    ///
    /// Who waits for room gets the job back with [`SubmitError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pool goes on to its end.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled first, or if it is a job of this pool that asks, which could not end before the
    /// pool nor the pool before it. The pool goes on to its end.
    pub async fn drain(&self) -> Result<(), Cancelled> {
        let core = self.core();
        core.close();
        if offer::is_inside(&core.inside) {
            return Err(Cancelled::new(Cause::Refused("a job cannot wait for the end of its own pool")));
        }
        let mut place = EndPlace { core, at: None };
        let mut leaf = Leaf::default();
        poll_fn(|cx| {
            if waker::leaf(cx, |waker| core.look_end(&mut place.at, waker)) {
                leaf.clear();
                return Poll::Ready(Ok(()));
            }
            match leaf.park(cx, Wait { op: Op::Close, on: core.id }) {
                Ok(()) => Poll::Pending,
                Err(cancelled) => Poll::Ready(Err(cancelled)),
            }
        })
        .await
    }

    /// What an elastic pool says to itself when it has too many workers; in a model nobody measures the load.
    #[cfg(all(test, bowline_shuttle))]
    pub(crate) fn shrink_to(&self, workers: usize) {
        self.core().want(workers);
    }

    /// Returns what the pool was and is.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.core().stats()
    }
}

impl<J: Send + 'static, R: Send + 'static> fmt::Debug for PoolHandle<J, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("PoolHandle")
            .field("name", &stats.name)
            .field("state", &stats.state)
            .field("queued", &stats.queued)
            .field("running", &stats.running)
            .finish_non_exhaustive()
    }
}

/// A job that runs in place: counted, whatever becomes of it.
struct InPlace<'a, J: Send + 'static, R: Send + 'static> {
    core: &'a Arc<Core<J, R>>,
    done: Done,
}

impl<J: Send + 'static, R: Send + 'static> Drop for InPlace<'_, J, R> {
    fn drop(&mut self) {
        self.core.end_in_place(self.done);
    }
}

/// Somebody who waits for the end.
struct EndPlace<'a, J: Send + 'static, R: Send + 'static> {
    core: &'a Arc<Core<J, R>>,
    at: Option<u64>,
}

impl<J: Send + 'static, R: Send + 'static> Drop for EndPlace<'_, J, R> {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            self.core.leave_enders(at);
        }
    }
}
