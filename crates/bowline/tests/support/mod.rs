//! What several test files need: queues without a scope around them, single polls, and cutting a future at each of its await
//! points in turn.

#![allow(dead_code, unused_imports, reason = "every test file includes this and uses a part of it")]

use std::future::Future;
use std::pin::Pin;

pub(crate) use bowline::testing::{cancel_context_everywhere, cancel_everywhere, poll_once};
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

/// Polls once, expects the future to wait, and hands it back to be polled or dropped later.
pub(crate) async fn parked<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(poll_once(&mut future).await.is_pending(), "it should have waited");
    future
}

/// Lets every other task have its turn some times.
pub(crate) async fn yield_now(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}
