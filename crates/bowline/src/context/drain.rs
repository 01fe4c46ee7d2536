//! The beginning of the end, as a task sees it.

use std::future::{Future, IntoFuture, poll_fn};

use crate::combine::{Either, race};
use crate::record;
use crate::root::Phase;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// Waits until the process begins to shut down: take nothing new from here on, finish what was accepted.
///
/// Returns at once if it already has. Inside of a [`drain_phase`](crate::drain_phase()) it waits for the turn of that phase.
/// In a test it waits for [`shut_down`]; where nothing of ours runs, for ever. For a loop that takes things in,
/// [`until_draining`] is shorter.
///
/// # Cancel safety
///
/// Nothing is lost if it is dropped.
///
/// # Examples
///
/// ```no_run
/// # async fn publish(_: &str) {}
/// # async fn doc() {
/// bowline::draining().await;
/// publish("this instance takes no more").await;
/// # }
/// ```
pub async fn draining() {
    let root = record::current().or_else(crate::root::of_runtime).and_then(|record| record.node.root.clone());
    let Some(root) = root else { return std::future::pending().await };
    let mut phases = root.watch_phase();
    drop(root);
    let mut leaf = Leaf::default();
    let mut wait = std::pin::pin!(phases.wait_for(|phase| *phase >= Phase::Draining));
    poll_fn(move |cx| {
        let polled = waker::quietly(cx, |cx| wait.as_mut().poll(cx));
        if polled.is_pending() {
            leaf.stand_by(cx, Wait { op: Op::Draining, on: 0 });
        } else {
            leaf.clear();
        }
        polled.map(drop)
    })
    .await;
}

/// Runs `future` until it is ready or the process begins to shut down ([`draining`]); `None` and dropped if it does.
///
/// The draining comes first: from its beginning on nothing is taken that is there to be taken.
///
/// # Cancel safety
///
/// Dropping it drops `future`.
///
/// # Examples
///
/// ```no_run
/// # async fn doc(listener: tokio::net::TcpListener) {
/// while let Some(accepted) = bowline::until_draining(listener.accept()).await {
///     // serve the connection
/// #   drop(accepted);
/// }
/// # }
/// ```
pub fn until_draining<F: IntoFuture>(future: F) -> impl Future<Output = Option<F::Output>> {
    let raced = race(draining(), future);
    async move {
        match raced.await {
            Either::Left(()) => None,
            Either::Right(value) => Some(value),
        }
    }
}

/// Begins the ordered shutdown of the program, as a signal would: [`draining`] returns everywhere, and the
/// [`Runner`](crate::Runner) takes it from there. For an admin command, a health check that found something fatal, a test.
///
/// Under `#[bowline::test]` it begins the draining and the test goes on. Where nothing of ours runs it does nothing.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// bowline::shut_down("the disk is full");
/// bowline::draining().await;
/// # });
/// ```
pub fn shut_down(reason: &'static str) {
    let root = record::current().or_else(crate::root::of_runtime).and_then(|record| record.node.root.clone());
    if let Some(root) = root {
        root.request(reason);
    }
}
