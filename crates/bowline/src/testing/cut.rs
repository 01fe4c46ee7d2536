//! Cutting a future at each of its await points in turn, by a drop or by a cancel.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::cause::Cancelled;
use crate::scope::scope;

/// More polls than any scenario needs; one that does not complete by then never will.
const TOO_MANY_POLLS: usize = 1_000;

/// Polls `future` once, with the waker of whoever awaits this, and returns what that poll returned.
///
/// To look at a wait from outside: that it waits, that it has a place in line, that it is woken.
///
/// # Cancel safety
///
/// It never waits.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use std::task::Poll;
/// use bowline::{Bound, Overflow, testing};
///
/// bowline::scope("one item", async |s| {
///     let (tx, rx) = s.queue("items", Bound::items(1), Overflow::Block);
///     let mut recv = Box::pin(rx.recv());
///     assert!(testing::poll_once(&mut recv).await.is_pending());
///     tx.send(7).await?;
///     assert_eq!(testing::poll_once(&mut recv).await, Poll::Ready(Ok(Some(7))));
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
/// })
/// .await
/// # }).unwrap();
/// ```
pub async fn poll_once<F: Future + Unpin + ?Sized>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

/// Drops a fresh future after its first, second, third… poll until one completes, and runs `check` after each: cancel
/// safety is tested at every await point, not at one.
///
/// `make` makes the scenario: whatever is needed to bring it forward must be in it or around it (another future joined to
/// it, tasks, the paused clock), for it is polled only when it is woken. `check` gets the number of polls and, for the last
/// one, which was not cut, the output; it looks whether anything was lost, kept or held. Returns how many polls the whole
/// future takes, so that a test can see that there was something to cut.
///
/// # Panics
///
/// If the future does not complete within 1,000 polls.
///
/// # Cancel safety
///
/// Dropping it drops the future that is being cut.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Overflow, scope, testing};
///
/// scope("forward", async |s| {
///     let (inbox, taken) = s.queue("inbox", Bound::items(4), Overflow::Block);
///     let (outbox, sent) = s.queue("outbox", Bound::items(1), Overflow::Block);
///     let polls = testing::cancel_everywhere(
///         || async {
///             inbox.try_send(7).unwrap();
///             outbox.try_send(6).unwrap(); // full: there is something to wait for
///             let forward = async {
///                 // Room first: between taking and giving there is no await.
///                 let room = outbox.reserve().await.unwrap();
///                 room.send(taken.recv().await.unwrap().unwrap()).unwrap();
///             };
///             let drain = async {
///                 tokio::task::yield_now().await;
///                 sent.try_recv().unwrap();
///             };
///             bowline::join(forward, drain).await;
///         },
///         async |_polls, _output| {
///             // Wherever it was cut, the 7 is in one of the two queues.
///             let left = [taken.try_recv(), sent.try_recv(), sent.try_recv()];
///             assert_eq!(left.iter().filter(|item| **item == Ok(7)).count(), 1);
///         },
///     )
///     .await;
///     assert!(polls > 1);
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
pub async fn cancel_everywhere<F: Future>(
    mut make: impl FnMut() -> F,
    mut check: impl AsyncFnMut(usize, Option<F::Output>),
) -> usize {
    for polls in 1..=TOO_MANY_POLLS {
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

/// As [`cancel_everywhere`], but the future is not dropped: its *context* is cancelled after its first, second, third…
/// poll, and it gets the one poll more that a cancelled task has, to come to an end by itself.
///
/// `check` sees its output if it came to one; `None` says that it was dropped at an await that knows nothing of contexts.
/// Returns after the first round that completes without a cancel, with its number of polls.
///
/// # Panics
///
/// If the future does not complete within 1,000 polls.
///
/// # Cancel safety
///
/// Dropping it drops the future that is being cut.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Overflow, scope, testing};
///
/// scope("world", async |s| {
///     let (tx, rx) = s.queue("items", Bound::items(1), Overflow::Block);
///     testing::cancel_context_everywhere(
///         || async {
///             let send = async {
///                 tokio::task::yield_now().await;
///                 tx.try_send(7).unwrap();
///             };
///             bowline::join(rx.recv(), send).await.0
///         },
///         async |_polls, received| {
///             // Received, or still there: a cancelled wait takes nothing.
///             match received.expect("both ended by themselves") {
///                 Ok(item) => assert_eq!((item, rx.depth()), (Some(7), 0)),
///                 Err(_cancelled) => assert_eq!(rx.try_recv(), Ok(7)),
///             }
///         },
///     )
///     .await;
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
pub async fn cancel_context_everywhere<F: Future>(
    mut make: impl FnMut() -> F,
    mut check: impl AsyncFnMut(usize, Option<F::Output>),
) -> usize {
    for polls in 1..=TOO_MANY_POLLS {
        let mut cut = false;
        let output = scope("cut", async |s| {
            let mut future = pin!(make());
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
