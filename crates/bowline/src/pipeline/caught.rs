//! A call of the user's whose panic is a value.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::panic::{self, Panic};
use crate::record;

pin_project! {
    /// A future whose panic is a value.
    struct Caught<F> {
        #[pin]
        future: Option<F>,
    }
}

/// Makes a future and runs it; a panic of either is returned, and counted as that of the task this runs in.
pub(super) async fn caught<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output, Panic> {
    let future = caught_now(make)?;
    Caught { future: Some(future) }.await
}

/// The same for a call that does not wait.
pub(super) fn caught_now<R>(call: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let Some(record) = record::current() else {
            unreachable!("the work of a pipeline runs in its tasks")
        };
        panic::caught(&record, payload)
    })
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut future = self.project().future;
        let polled = caught_now(|| future.as_mut().as_pin_mut().map(|future| future.poll(cx)));
        match polled {
            Ok(Some(Poll::Pending)) => Poll::Pending,
            Ok(Some(Poll::Ready(value))) => Poll::Ready(Ok(value)),
            Ok(None) => unreachable!("it is polled until it is ready"),
            Err(panic) => {
                // What is left of it may panic too, of which nothing can be made.
                let _ = catch_unwind(AssertUnwindSafe(|| future.set(None)));
                Poll::Ready(Err(panic))
            }
        }
    }
}
