//! The first answer counts; everybody else is dropped.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::arms::Arms;
use super::poll_or_drop_all;

/// One of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<L, R> {
    /// The first.
    Left(L),
    /// The second.
    Right(R),
}

impl<T> Either<T, T> {
    /// Returns the value, whichever side it is on.
    pub fn into_inner(self) -> T {
        match self {
            Either::Left(value) | Either::Right(value) => value,
        }
    }
}

/// Runs both futures and returns the value of the one that is ready first; the other is dropped.
///
/// `left` is polled first, so it wins a tie: put the reason to stop there.
///
/// Both are taken by value. That is the difference to `select!` over `&mut future`: no future is left behind that holds a
/// lock or a place in a queue and is no longer polled (a *futurelock*). A `&mut future` handed in brings it back: hand in the
/// future, or make it a task and race its handle.
///
/// # Cancel safety
///
/// Dropping it drops both. What the loser had not finished is lost with it, as its own documentation says.
///
/// # Panics
///
/// With the panic of either, after both are dropped.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Either, race};
///
/// let winner = race(std::future::pending::<()>(), async { 7 }).await;
/// assert_eq!(winner, Either::Right(7));
/// # });
/// ```
pub fn race<L: IntoFuture, R: IntoFuture>(
    left: L,
    right: R,
) -> impl Future<Output = Either<L::Output, R::Output>> {
    let left = Map { future: left.into_future(), map: Either::Left };
    let right = Map { future: right.into_future(), map: Either::Right };
    race_all((left, right))
}

/// Runs all futures and returns the value of the one that is ready first; the others are dropped.
///
/// `arms` is a tuple of two to eight futures, an array or a `Vec`, all with one type of value; where they mean different
/// things, let each say its own variant of an enum of yours. Ties are won by the first in the list. A `Vec` or array is for
/// many: its arms are boxed, and each is polled only when it was woken.
///
/// # Cancel safety
///
/// Dropping it drops all. What the losers had not finished is lost with them, as their own documentation says.
///
/// # Panics
///
/// If a `Vec` is empty: a race of nobody would never end. With the panic of any arm, after
/// all are dropped.
///
/// # Examples
///
/// ```
/// # bowline::testing::example_paused(async {
/// use bowline::race_all;
/// use std::time::Duration;
///
/// #[derive(Debug, PartialEq)]
/// enum Event {
///     Stop,
///     Line(&'static str),
///     Tick,
/// }
///
/// let event = race_all((
///     async { bowline::draining().await; Event::Stop },
///     async { Event::Line("hello") },
///     async { tokio::time::sleep(Duration::from_secs(1)).await; Event::Tick },
/// ))
/// .await;
/// assert_eq!(event, Event::Line("hello"));
/// # });
/// ```
///
/// An empty array does not compile:
///
/// ```compile_fail
/// # async fn doc() {
/// bowline::race_all([] as [std::future::Ready<()>; 0]).await;
/// # }
/// # bowline::testing::example(doc());
/// ```
pub fn race_all<R: Race>(arms: R) -> impl Future<Output = R::Output> {
    Racing { arms: arms.into_arms(), ended: false }
}

/// What [`race_all`] takes: tuples of two to eight futures, arrays and `Vec`s of futures.
pub trait Race {
    /// The value of every arm.
    type Output;
    #[doc(hidden)]
    type Arms: Arms<Answer = Self::Output>;
    #[doc(hidden)]
    fn into_arms(self) -> Self::Arms;
}

pin_project! {
    struct Racing<S> {
        #[pin]
        arms: S,
        ended: bool,
    }
}

impl<S: Arms> Future for Racing<S> {
    type Output = S::Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S::Answer> {
        let this = self.project();
        assert!(!*this.ended, "a race polled after its end");
        *this.ended = true; // if an arm panics it has
        let polled = poll_or_drop_all(this.arms, |mut arms| {
            let mut pass = arms.as_mut().begin(0, cx);
            while let Some(at) = arms.as_mut().next_due(&mut pass) {
                if let Poll::Ready(answer) = arms.as_mut().poll_at(at, cx) {
                    arms.drop_all();
                    return Poll::Ready(answer);
                }
            }
            Poll::Pending
        });
        *this.ended = polled.is_ready();
        polled
    }
}

pin_project! {
    struct Map<F, M> {
        #[pin]
        future: F,
        map: M,
    }
}

impl<F: Future, T, M: Fn(F::Output) -> T> Future for Map<F, M> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.project();
        this.future.poll(cx).map(&*this.map)
    }
}
