//! Sleeping that ends with the context.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::cause::Cancelled;
use crate::track::Leaf;
use crate::wait::{Op, Wait};

/// Waits for `duration`, from the first poll on.
///
/// For loops that do something now and then: under a cancelled context `tokio::time::sleep` is dropped where it stands, and the
/// loop with it; this returns, and the loop can tidy up.
///
/// # Cancel safety
///
/// Dropping it loses nothing but the time waited.
///
/// # Errors
///
/// [`Cancelled`] when the context is cancelled, at once also if it was before. Trying again cannot succeed.
///
/// # Examples
///
/// ```
/// # async fn refresh() {}
/// # async fn say_goodbye() {}
/// # bowline::testing::example_paused(async {
/// use std::time::Duration;
///
/// let work = async {
///     while bowline::sleep(Duration::from_secs(60)).await.is_ok() {
///         refresh().await;
///     }
///     say_goodbye().await; // cancelled: once more, and the end
/// };
/// bowline::timeout(Duration::from_secs(600), work).await
/// # }).unwrap();
/// ```
pub async fn sleep(duration: Duration) -> Result<(), Cancelled> {
    until(Op::Sleep, tokio::time::sleep(duration)).await
}

/// Waits until `deadline`; at once if it has passed. Everything said at [`sleep`] holds.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
///
/// # Errors
///
/// [`Cancelled`] when the context is cancelled. Trying again cannot succeed.
pub async fn sleep_until(deadline: Instant) -> Result<(), Cancelled> {
    until(Op::Sleep, tokio::time::sleep_until(deadline)).await
}

/// Waits until `sleep` is over; views show it as `op`.
pub(crate) async fn until(op: Op, sleep: tokio::time::Sleep) -> Result<(), Cancelled> {
    let mut sleep = pin!(sleep);
    let mut leaf = Leaf::default();
    poll_fn(move |cx| {
        Leaf::check()?;
        if sleep.as_mut().poll(cx).is_ready() {
            leaf.clear();
            return Poll::Ready(Ok(()));
        }
        match leaf.park(cx, Wait { op, on: 0 }) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => Poll::Ready(Err(cancelled)),
        }
    })
    .await
}
