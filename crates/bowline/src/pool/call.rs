//! A job somebody waits for: its context is the caller's, its poll is a worker's.
//!
//! The node of such a job is opened inside the caller's context. So the caller's deadline, cancellation and values reach it
//! without a message, and the caller's scope does not return before the job is gone, wherever it runs.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::core::{Core, Done, Inside};
use super::error::CallError;
use crate::cause::{Cancelled, Cause};
use crate::context;
use crate::node::{Alive, Node, NodeKind};
use crate::panic::Panic;
use crate::record::{self, ABORT, CANCEL};
use crate::root;
use crate::site::Site;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, LockExt, Mutex};
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// What a job came to.
pub(super) enum JobEnd<R> {
    Value(R),
    TimedOut,
    Cancelled(Cancelled),
    Panicked(Panic),
    /// It did not begin: it had to make room.
    Dropped,
}

impl<R> JobEnd<R> {
    pub(super) fn count(&self, is_failure: fn(&R) -> bool, done: &mut Done) {
        *match self {
            Self::Value(value) if is_failure(value) => &mut done.failed,
            Self::Value(_) => &mut done.completed,
            Self::TimedOut => &mut done.timed_out,
            Self::Panicked(_) => &mut done.panicked,
            Self::Cancelled(_) | Self::Dropped => &mut done.cancelled,
        } += 1;
    }

    /// Whether it was lost to overload, where it says anything about that.
    pub(super) fn is_lost(&self) -> Option<bool> {
        match self {
            Self::Value(_) => Some(false),
            Self::TimedOut => Some(true),
            Self::Cancelled(why) => why.is_deadline().then_some(true),
            Self::Panicked(_) | Self::Dropped => None,
        }
    }

    pub(super) fn into_result<J>(self) -> Result<R, CallError<J>> {
        Err(match self {
            Self::Value(value) => return Ok(value),
            Self::TimedOut => CallError::TimedOut,
            Self::Cancelled(cancelled) => CallError::Cancelled(cancelled),
            Self::Panicked(panic) => CallError::Panicked(panic),
            Self::Dropped => CallError::Dropped,
        })
    }
}

/// The worker's half.
pub(super) struct Called<R> {
    pub(super) call: Arc<Call<R>>,
    pub(super) alive: Alive,
}

/// What both halves share.
pub(super) struct Call<R> {
    pub(super) node: Arc<Node>,
    /// The job's number in the queue, written under the lock of the pool; [`NONE`] if it was not queued.
    number: AtomicU64,
    answer: Mutex<Answer<R>>,
}

const NONE: u64 = u64::MAX;

enum Answer<R> {
    Awaited(Option<Waker>),
    There(JobEnd<R>),
    Taken,
}

impl<R> Called<R> {
    /// Opens the context of a job inside of that of whoever is polled.
    pub(super) fn open(site: &'static Site, inside: &Arc<Inside>) -> Self {
        let alive = open(site, inside);
        let node = Arc::clone(alive.node());
        let answer = Mutex::new(Answer::Awaited(None));
        Self { call: Arc::new(Call { node, number: AtomicU64::new(NONE), answer }), alive }
    }

    /// The job is not to begin any more: its caller has been cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.call.node.flags() & (CANCEL | ABORT) != 0
    }

    pub(super) fn why(&self) -> Cancelled {
        self.call.node.why().unwrap_or_else(|| Cancelled::new(Cause::Aborted))
    }

    /// It was dropped in the queue.
    pub(super) fn ended_unrun(self, is_end_of_pool: bool) {
        let Self { call, alive } = self;
        let end =
            if is_end_of_pool { JobEnd::Cancelled(Cancelled::new(POOL_ENDED)) } else { JobEnd::Dropped };
        drop(alive); // before the caller hears of it
        call.answer(end);
    }
}

/// Why a job was cancelled that lay in the queue when the pool ended.
pub(super) const POOL_ENDED: Cause = Cause::Refused("the pool has ended");

/// A context for a job, inside of that of whoever is polled.
pub(super) fn open(site: &'static Site, inside: &Arc<Inside>) -> Alive {
    let parent = record::current().or_else(root::of_runtime);
    let alive = Node::open(site, NodeKind::Job, parent, None, false);
    context::put(alive.node(), inside);
    alive
}

impl<R> Call<R> {
    pub(super) fn queued_as(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }

    pub(super) fn number(&self) -> Option<u64> {
        Some(self.number.load(Ordering::Relaxed)).filter(|number| *number != NONE)
    }

    pub(super) fn answer(&self, end: JobEnd<R>) {
        let (waker, _unwanted) = {
            let mut answer = self.answer.lock_unpoisoned();
            match &mut *answer {
                Answer::Awaited(waker) => {
                    let waker = waker.take();
                    *answer = Answer::There(end);
                    (waker, None)
                }
                Answer::There(_) | Answer::Taken => (None, Some(end)),
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<JobEnd<R>> {
        let waker = waker.clone();
        let _stale;
        let mut answer = self.answer.lock_unpoisoned();
        match &mut *answer {
            Answer::Awaited(known) => {
                _stale = known.replace(waker);
                drop(answer);
                Poll::Pending
            }
            Answer::There(_) | Answer::Taken => match std::mem::replace(&mut *answer, Answer::Taken) {
                Answer::There(end) => {
                    drop(answer);
                    _stale = Some(waker);
                    Poll::Ready(end)
                }
                Answer::Awaited(_) | Answer::Taken => unreachable!("it is polled until it is ready"),
            },
        }
    }

    /// Nobody waits for the answer any more. The waker, or the answer if it is there.
    fn leave(&self) -> Answer<R> {
        std::mem::replace(&mut *self.answer.lock_unpoisoned(), Answer::Taken)
    }
}

/// The caller's half. Dropped, it takes the job out of the queue, or cancels it.
pub(super) struct Asked<J: Send + 'static, R: Send + 'static> {
    core: Arc<Core<J, R>>,
    call: Arc<Call<R>>,
    leaf: Leaf,
    over: bool,
}

impl<J: Send + 'static, R: Send + 'static> Asked<J, R> {
    pub(super) fn new(core: &Arc<Core<J, R>>, called: &Called<R>) -> Self {
        Self { core: Arc::clone(core), call: Arc::clone(&called.call), leaf: Leaf::default(), over: false }
    }

    /// The job went back to its caller.
    pub(super) fn was_refused(mut self) {
        self.over = true;
    }

    fn leave(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        drop(self.call.leave());
        if !self.core.take_out(&self.call) {
            self.call.node.cancel(CANCEL, &Cause::Requested("its caller has left"));
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Future for Asked<J, R> {
    type Output = JobEnd<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<JobEnd<R>> {
        let this = self.get_mut();
        if let Poll::Ready(end) = waker::leaf(cx, |waker| this.call.poll(waker)) {
            this.over = true;
            this.leaf.clear();
            return Poll::Ready(end);
        }
        match this.leaf.park(cx, Wait { op: Op::Reply, on: this.core.id }) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => {
                this.leave();
                Poll::Ready(JobEnd::Cancelled(cancelled))
            }
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Drop for Asked<J, R> {
    fn drop(&mut self) {
        self.leave();
    }
}
