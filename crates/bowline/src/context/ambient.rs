//! The context of the current poll.

use std::future::{Future, IntoFuture, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::cause::Cancelled;
use crate::combine::{Either, race};
use crate::record;
use crate::track::Leaf;
use crate::wait::{Op, Wait};

/// Returns whether the current context was cancelled. It costs one thread-local and two atomic loads.
#[must_use]
pub fn is_cancelled() -> bool {
    record::with_nearest(|current| current.is_some_and(|record| record.is_cancelled()))
}

/// Returns why the current context was cancelled; for loops that compute without awaiting.
///
/// # Errors
///
/// [`Cancelled`] if it was.
///
/// # Examples
///
/// ```
/// # fn step(_: u32) {}
/// fn crunch() -> Result<(), bowline::Cancelled> {
///     for chunk in 0..100 {
///         bowline::check()?;
///         step(chunk);
///     }
///     Ok(())
/// }
/// # crunch().unwrap();
/// ```
#[inline]
pub fn check() -> Result<(), Cancelled> {
    if is_cancelled() { Leaf::check() } else { Ok(()) }
}

/// Returns the earliest deadline of the current context and its ancestors.
#[must_use]
pub fn deadline() -> Option<Instant> {
    record::with_current(|current| current.and_then(|record| record.node.deadline()))
}

/// Returns the time left until the deadline of the current context: zero when it has passed.
#[must_use]
pub fn time_left() -> Option<Duration> {
    deadline().map(|at| at.saturating_duration_since(Instant::now()))
}

/// Waits until the current context is cancelled, and says why. Outside of any Bowline task it waits for ever.
///
/// # Cancel safety
///
/// Nothing is lost if it is dropped.
pub async fn cancelled() -> Cancelled {
    let mut leaf = Leaf::default();
    poll_fn(move |cx| match leaf.park(cx, Wait { op: Op::Cancelled, on: 0 }) {
        Err(cancelled) => {
            leaf.clear();
            Poll::Ready(cancelled)
        }
        Ok(()) => Poll::Pending,
    })
    .await
}

/// Runs `future` until it is ready or the current context is cancelled; then it is dropped, and *you* go on.
///
/// An await that knows nothing of contexts - a socket, a foreign channel - is dropped where it stands when its task is
/// cancelled, and the code behind it with it. Under this it returns instead, as the waits of this crate do, and what you do
/// next can say goodbye. A `future` that is ready in the same moment wins.
///
/// # Cancel safety
///
/// Dropping it drops `future`.
///
/// # Errors
///
/// [`Cancelled`] if the context was cancelled before `future` was ready. Trying again cannot succeed.
///
/// # Examples
///
/// ```
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # async fn serve(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
/// let mut frame = [0; 64];
/// while let Ok(read) = bowline::until_cancelled(stream.read(&mut frame)).await {
///     if read? == 0 {
///         return Ok(()); // the peer has gone
///     }
/// }
/// let goodbye = stream.write_all(b"bye");
/// bowline::shielded(std::time::Duration::from_secs(1), goodbye).await.unwrap_or(Ok(()))
/// # }
/// ```
pub fn until_cancelled<F: IntoFuture>(future: F) -> impl Future<Output = Result<F::Output, Cancelled>> {
    let raced = race(future, cancelled());
    async move {
        match raced.await {
            Either::Left(value) => Ok(value),
            Either::Right(cancelled) => Err(cancelled),
        }
    }
}
