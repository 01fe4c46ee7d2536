//! What remains of a node when it is gone: that it is, for whoever closes it, and what its tasks left behind.

use std::any::Any;
use std::task::{Context, Poll, Waker};

use crate::cause::Cancelled;
use crate::panic::Panic;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{LockExt, Mutex, OnceLock};
use crate::waker;

/// What remains of a node when it is gone: that it is, why it was cancelled, and the first failure below.
///
/// There is room for one waiter: whoever closes the scope.
#[derive(Default)]
pub(crate) struct Done {
    gone: AtomicBool,
    waiter: Mutex<Option<Waker>>,
    pub(crate) cause: OnceLock<Cancelled>,
    pub(crate) failure: Mutex<Option<Failure>>,
    /// Groups: id of the task that failed first, 0 if none did.
    pub(crate) first_failed: AtomicU64,
    /// Groups: how many tasks ended how.
    pub(crate) tally: Tally,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

/// How many tasks of a group ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// With a value.
    pub ok: u64,
    /// With an error.
    pub failed: u64,
    /// With a panic.
    pub panicked: u64,
    /// Cancelled after they were spawned.
    pub cancelled: u64,
}

impl Done {
    pub(crate) fn mark_gone(&self) {
        // Release: pairs with the Acquire in `poll`; whoever sees it sees what the destructors below did.
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn wake(&self) {
        let waiter = self.waiter.lock_unpoisoned().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.gone.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let _stale = {
            let mut waiter = self.waiter.lock_unpoisoned();
            // Again under the lock: `wake` takes the waiter under it after the flag was raised.
            if self.gone.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            waker::leaf(cx, |waker| match &*waiter {
                Some(known) if known.will_wake(waker) => None,
                _ => waiter.replace(waker.clone()),
            })
        }; // dropped outside the lock: that of a foreign waker is user code
        Poll::Pending
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.lock_unpoisoned().take()
    }

    pub(crate) fn cause(&self) -> Option<Cancelled> {
        self.cause.get().cloned()
    }

    pub(crate) fn first_failed(&self) -> Option<u64> {
        Some(self.first_failed.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    pub(crate) fn counts(&self) -> Counts {
        let Tally { ok, failed, panicked, cancelled } = &self.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { ok: read(ok), failed: read(failed), panicked: read(panicked), cancelled: read(cancelled) }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// What the first failing task of a scope left behind.
pub(crate) enum Failure {
    /// The scope's error type, boxed because the node is not generic; allocated only on failure.
    Error(Box<dyn Any + Send>),
    Panicked(Panic),
    /// No error, but a task was cancelled with its scope and has no value.
    Cancelled(Cancelled),
}

impl Failure {
    /// The cancel that the task ended with, if that is all there is to say: the link to it in the chain of causes.
    pub(crate) fn cancelled(&self) -> Option<Cancelled> {
        match self {
            Failure::Error(error) => error.downcast_ref().cloned(),
            Failure::Panicked(_) => None,
            Failure::Cancelled(cancelled) => Some(cancelled.clone()),
        }
    }
}
