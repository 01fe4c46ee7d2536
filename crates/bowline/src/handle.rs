//! The handle of a spawned task. Dropping it does nothing: the scope owns the task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::cause::{Cancelled, Cause};
use crate::record::{ABORT, CANCEL, Record};
use crate::root::Phase;
use crate::spawner::JoinHandle;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// A task spawned into a [`Scope`](crate::Scope): await it for the task's value.
///
/// Dropping it neither cancels nor detaches the task; its scope owns it and waits for it.
///
/// # Cancel safety
///
/// Awaiting `&mut handle` and dropping that future loses nothing; awaiting the handle by value and dropping it loses the
/// value, not the task.
///
/// # Errors
///
/// Awaiting returns [`Cancelled`] if the task ended without a value - it failed (its scope then carries the error), was
/// cancelled or refused - or if the *awaiting* context was cancelled.
pub struct Handle<T> {
    task: Task<T>,
    leaf: Leaf,
}

enum Task<T> {
    Running(JoinHandle<Option<T>>, Arc<Record>),
    /// Boxed because it is rare.
    Refused(Box<Cancelled>),
}

impl<T> Handle<T> {
    pub(crate) fn running(task: JoinHandle<Option<T>>, record: Arc<Record>) -> Self {
        Self { task: Task::Running(task, record), leaf: Leaf::default() }
    }

    pub(crate) fn refused(cause: Cause) -> Self {
        Self { task: Task::Refused(Box::new(Cancelled::new(cause))), leaf: Leaf::default() }
    }

    pub(crate) fn living(&self) -> Option<&Arc<Record>> {
        match &self.task {
            Task::Running(_, record) if !record.has_ended() => Some(record),
            _ => None,
        }
    }

    /// Returns the id under which views show the task, while it lives.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        self.living().map(|record| record.id())
    }

    /// Returns whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.task {
            Task::Running(task, _) => task.is_finished(),
            Task::Refused(_) => true,
        }
    }

    /// Asks the task to end at its next await. Nothing happens if it has ended.
    ///
    /// An error with which the task ends from here on is taken for its answer: it stays between the task and its handle,
    /// which returns [`Cancelled`], and does not fail the scope. A panic does.
    pub fn cancel(&self, reason: &'static str) {
        if let Some(record) = self.living() {
            record.cancel(CANCEL, &Cause::Requested(reason));
        }
    }

    /// Drops the task's future at its next poll, also under [`shielded`](crate::shielded). Nothing happens if it has ended.
    pub fn abort(&self) {
        if let Some(record) = self.living() {
            record.cancel(CANCEL | ABORT, &Cause::Aborted);
        }
    }
}

impl<T> Future for Handle<T> {
    type Output = Result<T, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (task, record) = match &mut this.task {
            Task::Refused(cancelled) => return Poll::Ready(Err(Cancelled::clone(cancelled))),
            Task::Running(task, record) => (task, record),
        };
        // Who has ended asks for no waker; if it does after all, in its last moment, ours will do.
        let quiet = if record.has_ended() { None } else { waker::quiet(cx) };
        match Pin::new(task).poll(&mut Context::from_waker(quiet.as_ref().unwrap_or(cx.waker()))) {
            Poll::Ready(joined) => {
                this.leaf.clear();
                Poll::Ready(match joined {
                    Ok(ended) => ended.ok_or_else(|| record.why_no_value()),
                    // The runtime dropped the task: it is being shut down.
                    Err(_) => Err(Cancelled::new(Cause::Shutdown(Phase::Aborting))),
                })
            }
            Poll::Pending => match this.leaf.park(cx, Wait { op: Op::Join, on: record.id() }) {
                Ok(()) => Poll::Pending,
                Err(cancelled) => Poll::Ready(Err(cancelled)),
            },
        }
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}
