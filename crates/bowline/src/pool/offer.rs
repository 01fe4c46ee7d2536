//! The one future that waits for room.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

use super::core::{Core, Entry, Inside, Offered};
use super::error::SubmitError;
use crate::cause::Cancelled;
use crate::context;
use crate::sync::Arc;
use crate::testing::trial;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// Hands a job over. What was not accepted comes back with the error.
pub(super) struct Offer<'a, J: Send + 'static, R: Send + 'static> {
    core: &'a Arc<Core<J, R>>,
    /// Here until it is in the queue or in the line.
    entry: Option<Entry<J, R>>,
    waiting: Option<Waiting>,
}

/// From the first poll on that has to wait.
struct Waiting {
    place: u64,
    leaf: Leaf,
    patience: Option<Pin<Box<Sleep>>>,
}

impl<'a, J: Send + 'static, R: Send + 'static> Offer<'a, J, R> {
    pub(super) fn new(core: &'a Arc<Core<J, R>>, entry: Entry<J, R>) -> Self {
        Self { core, entry: Some(entry), waiting: None }
    }

    fn job(&mut self) -> J {
        let Some(entry) = self.entry.take() else { unreachable!("what was refused was not taken") };
        entry.job
    }

    #[cold]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SubmitError<J>>> {
        if is_inside(&self.core.inside) {
            self.core.refuse();
            return Poll::Ready(Err(SubmitError::WouldDeadlock(self.job())));
        }
        let mut fresh = Some(waker::leaf_waker(cx));
        match self.core.offer(&mut self.entry, Some(&mut fresh)) {
            Offered::Accepted => Poll::Ready(Ok(())),
            Offered::Closed => Poll::Ready(Err(SubmitError::Closed(self.job()))),
            Offered::Full | Offered::MayWait => Poll::Ready(Err(SubmitError::Full(self.job()))),
            Offered::Waits(place) => {
                let patience = self.core.terms.wait_at_most.map(|most| Box::pin(tokio::time::sleep(most)));
                self.waiting = Some(Waiting { place, leaf: Leaf::default(), patience });
                self.stand(cx)
            }
        }
    }

    /// Has a place in line, and its waker lies there.
    fn stand(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SubmitError<J>>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        if waiting.patience.as_mut().is_some_and(|patience| patience.as_mut().poll(cx).is_ready()) {
            return self.give_up(true, SubmitError::Full);
        }
        match waiting.leaf.park(cx, Wait { op: Op::Submit, on: self.core.id }) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => self.give_up(false, |job| SubmitError::Cancelled(job, cancelled)),
        }
    }

    fn give_up(
        &mut self,
        is_refused: bool,
        error: impl FnOnce(J) -> SubmitError<J>,
    ) -> Poll<Result<(), SubmitError<J>>> {
        let left = self.waiting.take().and_then(|waiting| self.core.leave_line(waiting.place, is_refused));
        // Accepted in the last moment: then it is.
        Poll::Ready(left.map_or(Ok(()), |entry| Err(error(entry.job))))
    }
}

/// A job is moved in and out, and never pinned.
impl<J: Send + 'static, R: Send + 'static> Unpin for Offer<'_, J, R> {}

impl<J: Send + 'static, R: Send + 'static> Future for Offer<'_, J, R> {
    type Output = Result<(), SubmitError<J>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(waiting) = &this.waiting {
            return match waker::leaf(cx, |waker| this.core.look(waiting.place, waker)) {
                None => {
                    this.waiting = None;
                    Poll::Ready(Ok(()))
                }
                Some(Err(entry)) => {
                    this.waiting = None;
                    Poll::Ready(Err(SubmitError::Closed(entry.job)))
                }
                Some(Ok(())) => this.stand(cx),
            };
        }
        ready!(trial::poll_turn(cx));
        if let Err(cancelled) = check() {
            return Poll::Ready(Err(SubmitError::Cancelled(this.job(), cancelled)));
        }
        let mut no_waker = None;
        match this.core.offer(&mut this.entry, Some(&mut no_waker)) {
            Offered::Accepted => Poll::Ready(Ok(())),
            Offered::Full => Poll::Ready(Err(SubmitError::Full(this.job()))),
            Offered::Closed => Poll::Ready(Err(SubmitError::Closed(this.job()))),
            Offered::MayWait | Offered::Waits(_) => this.wait(cx),
        }
    }
}

/// Hands over what there is room for; returns how much that was. What remains has to wait, or is to be refused.
pub(super) fn as_many_as_fit<J, R>(core: &Core<J, R>, entries: &mut VecDeque<Entry<J, R>>) -> usize
where
    J: Send + 'static,
    R: Send + 'static,
{
    if context::is_cancelled() { 0 } else { core.offer_many(entries) }
}

#[inline]
fn check() -> Result<(), Cancelled> {
    if context::is_cancelled() { Leaf::check() } else { Ok(()) }
}

impl<J: Send + 'static, R: Send + 'static> Drop for Offer<'_, J, R> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            drop(self.core.leave_line(waiting.place, false));
        }
    }
}

/// Whether whoever is polled is, or works for, a job of this pool.
pub(super) fn is_inside(pool: &Inside) -> bool {
    context::any::<Inside>(|inside| inside.pool == pool.pool)
}
