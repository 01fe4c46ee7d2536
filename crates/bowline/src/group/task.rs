//! One task of a group: its future with the ticket it holds, what its end means, and what its spawner gets to see of it.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::outcome::Slot;
use super::policy::{Policy, Ticket};
use crate::cause::{Cancelled, Cause};
use crate::done::Failure;
use crate::panic::Panic;
use crate::record::{ABORT, CANCEL, Record};
use crate::testing::trial;
use crate::track::Ending;
use crate::tree::{self, TaskState};

/// A task spawned into a group: to cancel it alone. Its result goes to the group's [`Outcome`](crate::Outcome).
///
/// Dropping it does nothing: the group owns the task. It can be kept anywhere and keeps nothing open.
#[derive(Clone)]
pub struct Member {
    record: Option<Arc<Record>>,
}

impl Member {
    pub(super) fn new(record: &Arc<Record>) -> Self {
        Self { record: Some(Arc::clone(record)) }
    }

    pub(super) fn refused() -> Self {
        Self { record: None }
    }

    fn living(&self) -> Option<&Arc<Record>> {
        self.record.as_ref().filter(|record| !record.has_ended())
    }

    /// Returns the id under which views show the task, while it lives.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        self.living().map(|record| record.id())
    }

    /// Returns whether the task has ended or was refused.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.living().is_none()
    }

    /// What it does or waits for now, while it lives.
    pub(crate) fn state(&self) -> Option<TaskState> {
        self.living().map(|record| tree::state(record))
    }

    /// Asks this task to end at its next await. Nothing happens if it has ended.
    ///
    /// An error with which it ends from here on is its answer: it is in the task's slot, and does not cancel the others.
    /// A panic does, if the policy says so.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Cancelled, FailFast, group};
    ///
    /// let outcome = group("connections", FailFast, async |g| {
    ///     let guest = g.spawn("guest", async { Err(bowline::cancelled().await) });
    ///     g.spawn("other", async { Ok::<_, Cancelled>(7) });
    ///     guest.cancel("banned");
    /// })
    /// .await;
    /// assert_eq!((outcome.counts().ok, outcome.counts().failed), (1, 1));
    /// # });
    /// ```
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

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("id", &self.id()).field("finished", &self.is_finished()).finish()
    }
}

pin_project! {
    /// A task's future and the ticket that is given back when the future and its destructors are gone: in this order.
    pub(super) struct Ticketed<F, K> {
        #[pin]
        future: F,
        ticket: K,
    }
}

impl<F, K> Ticketed<F, K> {
    pub(super) fn new(future: F, ticket: K) -> Self {
        Self { future, ticket }
    }
}

impl<F, K, T, E> Future for Ticketed<F, K>
where
    F: Future<Output = Result<T, E>>,
    K: Ticket,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = this.future.poll(cx);
        if let Poll::Ready(Ok(_)) = &polled {
            this.ticket.succeeded();
        }
        polled
    }
}

/// A task's end as a group sees it: everything stays in the slot; the node counts, and remembers who failed first.
pub(super) struct OfGroup<T, E, P>(PhantomData<fn(T, E, P)>);

/// The first failure of a group that keeps no results, as its node keeps it.
pub(super) struct KeptError<E>(pub(super) &'static str, pub(super) E);

impl<T: Send + 'static, E: Send + 'static, P: Policy> Ending for OfGroup<T, E, P> {
    type Output = Result<T, E>;
    /// `None` where results are not kept: they are dropped before the task counts as gone.
    type Ended = Option<Slot<T, E>>;

    fn value(record: &Arc<Record>, value: Result<T, E>) -> Self::Ended {
        let error = match value {
            Ok(value) => {
                record.node.count(|counts| &counts.ok);
                return P::KEEPS_RESULTS.then_some(Slot::Ok(value));
            }
            Err(error) => error,
        };
        record.node.count(|counts| &counts.failed);
        let (name, cause) = (record.site.name, Cause::SiblingFailed(record.site.name));
        // What a task answers to a cancel of its own is no news to the others.
        let is_answer = record.was_cancelled_alone();
        if P::KEEPS_RESULTS {
            if !is_answer {
                record.node.note_failed(record.id(), &cause);
            }
            return Some(Slot::Failed(error));
        }
        if !is_answer {
            record.node.fail(Failure::Error(Box::new(KeptError(name, error))), &cause);
        }
        None
    }

    fn panicked(record: &Arc<Record>, panic: Panic) -> Self::Ended {
        record.node.count(|counts| &counts.panicked);
        let cause = Cause::SiblingPanicked(record.site.name);
        if P::KEEPS_RESULTS {
            record.node.note_failed(record.id(), &cause);
            return Some(Slot::Panicked(panic));
        }
        trial::note_unkept_panic(&record.node, &panic);
        record.node.fail(Failure::Panicked(panic), &cause);
        None
    }

    fn cancelled(record: &Arc<Record>, cancelled: Cancelled) -> Self::Ended {
        record.node.count(|counts| &counts.cancelled);
        P::KEEPS_RESULTS.then_some(Slot::Cancelled(cancelled))
    }
}
