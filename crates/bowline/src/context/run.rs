//! A future in a context that is not the one of whoever polls it.

use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use pin_project_lite::pin_project;

use super::Context;
use crate::cause::Cancelled;
use crate::record;

pin_project! {
    pub(super) struct Run<F> {
        #[pin]
        future: Option<F>,
        context: Context,
        // Where it listens for the end of the context, from its first wait on.
        key: Option<u64>,
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
        Self { future: Some(future), context, key: None }
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
        Poll::Ready(ended)
    }
}
