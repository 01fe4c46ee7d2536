//! What several test files need: queues without a scope around them, single polls, and dropping a future at each of its
//! await points in turn.

#![allow(dead_code, reason = "every test file includes this and uses a part of it")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bowline::{Bound, Cancelled, FreeRx, FreeTx, Overflow, scope};

/// A queue whose ends are free, so that a test can hold them next to futures that use them.
pub(crate) async fn queue<T: Send + 'static>(bound: Bound<T>, overflow: Overflow) -> (FreeTx<T>, FreeRx<T>) {
    scope("queue", async |s| {
        let (tx, rx) = s.queue("queue", bound, overflow);
        Ok::<_, Cancelled>((tx.free(), rx.free()))
    })
    .await
    .expect("nobody cancels this scope")
}

/// Polls once with the waker of the test.
pub(crate) async fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Polls once, expects the future to wait, and hands it back to be polled or dropped later.
pub(crate) async fn parked<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(poll_once(&mut future).await.is_pending(), "it should have waited");
    future
}

/// More polls than any scenario needs; one that does not complete by then never will.
const TOO_MANY_POLLS: usize = 1_000;

/// Drops a fresh future after its first, second, third… poll until one completes, and runs `check` each time, with the
/// number of polls and the output of the one that completed.
///
/// A future is polled only when it was woken, so its own scenario must bring the world forward (another future joined to
/// it, tasks, the paused clock). Returns how many polls it took, so that the caller can see that there was something to cut.
pub(crate) async fn cancel_everywhere<F: Future>(
    mut make: impl FnMut() -> F,
    mut check: impl AsyncFnMut(usize, Option<F::Output>),
) -> usize {
    for polls in 1..TOO_MANY_POLLS {
        let mut future = Box::pin(make());
        let mut left = polls;
        let output = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                left -= 1;
                if left == 0 { Poll::Ready(None) } else { Poll::Pending }
            }
        })
        .await;
        drop(future);
        let completed = output.is_some();
        check(polls, output).await;
        if completed {
            return polls;
        }
    }
    panic!("the future did not complete within {TOO_MANY_POLLS} polls");
}

/// As [`cancel_everywhere`], but the future is not dropped: its *context* is cancelled after its first, second, third… poll,
/// and it gets the one poll more that a cancelled body has, to come to an end by itself. `check` sees its output if it did.
///
/// Returns after the first round that completes without a cancel.
pub(crate) async fn cancel_context_everywhere<F: Future>(
    mut make: impl FnMut() -> F,
    mut check: impl AsyncFnMut(usize, Option<F::Output>),
) -> usize {
    for polls in 1..TOO_MANY_POLLS {
        let mut cut = false;
        let output = scope("cut", async |s| {
            let mut future = std::pin::pin!(make());
            let mut left = polls;
            let output = poll_fn(|cx| {
                let polled = future.as_mut().poll(cx);
                left = left.saturating_sub(1);
                if polled.is_pending() && left == 0 && !cut {
                    cut = true;
                    s.cancel("cut");
                }
                polled
            })
            .await;
            Ok::<_, Cancelled>(output)
        })
        .await
        .ok();
        check(polls, output).await;
        if !cut {
            return polls;
        }
    }
    panic!("the future did not complete within {TOO_MANY_POLLS} polls");
}

/// Lets every other task have its turn some times.
pub(crate) async fn yield_now(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}
