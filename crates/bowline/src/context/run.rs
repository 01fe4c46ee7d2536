//! A future in a context that is not the one of whoever polls it.

use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use pin_project_lite::pin_project;

use super::Context;
use crate::cause::Cancelled;
use crate::record::{self, Record};
use crate::sync::Arc;
use crate::track;
use crate::waker;

pin_project! {
    pub(super) struct Run<F> {
        #[pin]
        future: Option<F>,
        context: Context,
        // Where it listens for the end of the context, from its first wait on.
        key: Option<u64>,
        acts: bool,
        // Before the first poll, and where the context is that of the task that polls it, there is none.
        lent: Option<Lent>,
    }

    impl<F> PinnedDrop for Run<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            forget(this.context, this.key);
            let mut slot = this.context.record();
            record::enter(&mut slot, || this.future.set(None));
        }
    }
}

impl<F> Run<F> {
    pub(super) fn new(context: Context, future: F) -> Self {
        Self { future: Some(future), context, key: None, acts: true, lent: None }
    }

    /// For a future that does nothing in the context.
    pub(super) fn watching(context: Context, future: F) -> Self {
        Self { future: Some(future), context, key: None, acts: false, lent: None }
    }
}

/// The context of a task in the hands of another task.
struct Lent {
    task: Arc<Record>,
}

impl Lent {
    fn unless_current(record: &Arc<Record>) -> Option<Self> {
        let is_home =
            record::with_current(|current| current.is_some_and(|now| track::is_same_task(now, record)));
        let task = record::task_around(record).filter(|_| !is_home)?;
        task.went_away();
        Some(Self { task: Arc::clone(task) })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.task.came_back();
    }
}

fn forget(context: &Context, key: &mut Option<u64>) {
    if let (Some(key), Some(followers)) = (key.take(), context.followers()) {
        followers.forget(key);
    }
}

impl<F: Future> Future for Run<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let verdict = this.context.check();
        let mut slot = this.context.record();
        if *this.acts && this.lent.is_none() {
            *this.lent = slot.as_ref().and_then(Lent::unless_current);
        }
        // Whoever polls it, it is in another task's context: nothing in there is its poller's own.
        let _elsewhere = this.lent.is_some().then(waker::disown);
        let future = &mut this.future;
        let polled = record::enter(&mut slot, || {
            let polled = match future.as_mut().as_pin_mut() {
                Some(running) => running.poll(cx),
                None => Poll::Pending,
            };
            if polled.is_ready() || verdict.is_err() {
                future.set(None); // in its context, before anybody hears of the end
            }
            polled
        });
        let ended = match (polled, verdict) {
            (Poll::Ready(value), _) => Ok(value),
            (Poll::Pending, Err(cancelled)) => Err(cancelled),
            (Poll::Pending, Ok(())) => {
                if let Some(followers) = this.context.followers() {
                    let key = *this.key.get_or_insert_with(record::next_id);
                    followers.listen(key, cx.waker());
                }
                if this.context.is_cancelled() {
                    cx.waker().wake_by_ref(); // it came meanwhile: one more poll, in which the future can see it
                }
                return Poll::Pending;
            }
        };
        forget(this.context, this.key);
        *this.lent = None;
        Poll::Ready(ended)
    }
}
