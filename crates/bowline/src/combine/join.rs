//! All answers, or the first error.

use std::convert::Infallible;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::arms::{Arms, Kept};
use super::poll_or_drop_all;

/// Runs both futures in this task and returns both values.
///
/// Each is dropped when it is ready, not when both are. For work that should use several cores, or that you want to see and
/// cancel by name, spawn into a [`scope`](crate::scope()).
///
/// # Cancel safety
///
/// Dropping it drops both, and a value that is already there.
///
/// # Panics
///
/// With the panic of either, after both are dropped.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let (user, cart) = bowline::join(async { "ada" }, async { 3 }).await;
/// assert_eq!((user, cart), ("ada", 3));
/// # });
/// ```
pub fn join<A: IntoFuture, B: IntoFuture>(a: A, b: B) -> impl Future<Output = (A::Output, B::Output)> {
    join_all((a, b))
}

/// Runs all futures in this task and returns all values, in the arms' order.
///
/// `arms` is a tuple of two to eight futures, an array or a `Vec`. All run at once, however many there are: for fan-out over
/// input of unknown length use a [`group`](crate::group()), which has tasks and a limit. The arms of a `Vec` or array are
/// boxed, and each is polled only when it was woken.
///
/// # Cancel safety
///
/// Dropping it drops all arms, and the values that are already there.
///
/// # Panics
///
/// With the panic of any arm, after all are dropped.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let (a, b, c) = bowline::join_all((async { 1 }, async { "two" }, async { 3.0 })).await;
/// assert_eq!((a, b, c), (1, "two", 3.0));
///
/// let squares = bowline::join_all([1, 2, 3].map(|n| async move { n * n })).await;
/// assert_eq!(squares, [1, 4, 9]);
/// # });
/// ```
pub fn join_all<J: Join>(arms: J) -> impl Future<Output = J::All> {
    All { joining: Joining::new(arms.into_arms(), J::finish) }
}

/// Runs both futures and returns both values, or the first error; the other one is then dropped at once.
///
/// # Cancel safety
///
/// Dropping it drops both, and a value that is already there.
///
/// # Errors
///
/// That of the future that fails first; if both fail in the same poll, that of `a`.
///
/// # Panics
///
/// With the panic of either, after both are dropped.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let failed: Result<((), u32), &str> =
///     bowline::try_join(std::future::pending(), async { Err("no route") }).await;
/// assert_eq!(failed, Err("no route")); // and the other one is gone
/// # });
/// ```
pub fn try_join<A, B, T, U, E>(a: A, b: B) -> impl Future<Output = Result<(T, U), E>>
where
    A: IntoFuture<Output = Result<T, E>>,
    B: IntoFuture<Output = Result<U, E>>,
{
    try_join_all((a, b))
}

/// Runs all futures and returns all values in the arms' order, or the first error; the others are then dropped at once.
///
/// `arms` is as in [`join_all`].
///
/// # Cancel safety
///
/// Dropping it drops all arms, and the values that are already there.
///
/// # Errors
///
/// That of the arm that fails first; of several in the same poll, the first in the list.
///
/// # Panics
///
/// With the panic of any arm, after all are dropped.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let parts = ["4", "5", "six"].map(|part| async move { part.parse::<u32>() });
/// assert!(bowline::try_join_all(parts).await.is_err());
/// # });
/// ```
pub fn try_join_all<J: TryJoin>(arms: J) -> impl Future<Output = Result<J::All, J::Error>> {
    Joining::new(arms.into_arms(), J::finish)
}

/// What [`join_all`] takes: tuples of two to eight futures, arrays and `Vec`s of futures.
pub trait Join {
    /// The values of all arms, in the shape of the arms.
    type All;
    #[doc(hidden)]
    type Arms: Arms<Answer = Result<(), Infallible>> + Kept;
    #[doc(hidden)]
    fn into_arms(self) -> Self::Arms;
    #[doc(hidden)]
    fn finish(all: <Self::Arms as Kept>::All) -> Self::All;
}

/// What [`try_join_all`] takes: tuples of two to eight futures, arrays and `Vec`s of futures, of results with one error type.
pub trait TryJoin {
    /// The values of all arms, in the shape of the arms.
    type All;
    /// The error of every arm.
    type Error;
    #[doc(hidden)]
    type Arms: Arms<Answer = Result<(), Self::Error>> + Kept;
    #[doc(hidden)]
    fn into_arms(self) -> Self::Arms;
    #[doc(hidden)]
    fn finish(all: <Self::Arms as Kept>::All) -> Self::All;
}

pin_project! {
    struct Joining<S: Kept, R> {
        #[pin]
        arms: S,
        // Arms without a value.
        left: usize,
        finish: fn(S::All) -> R,
        ended: bool,
    }
}

impl<S: Arms + Kept, R> Joining<S, R> {
    fn new(arms: S, finish: fn(S::All) -> R) -> Self {
        Self { left: arms.count(), arms, finish, ended: false }
    }
}

impl<S: Arms<Answer = Result<(), E>> + Kept, R, E> Future for Joining<S, R> {
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, E>> {
        let this = self.project();
        assert!(!*this.ended, "a join polled after its end");
        *this.ended = true; // if an arm panics it has
        let polled = poll_or_drop_all(this.arms, |mut arms| {
            let mut pass = arms.as_mut().begin(0, cx);
            while let Some(at) = arms.as_mut().next_due(&mut pass) {
                match arms.as_mut().poll_at(at, cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => *this.left -= 1,
                    Poll::Ready(Err(error)) => {
                        arms.drop_all();
                        return Poll::Ready(Err(error));
                    }
                }
            }
            match *this.left {
                0 => Poll::Ready(Ok((this.finish)(arms.take_all()))),
                _ => Poll::Pending,
            }
        });
        *this.ended = polled.is_ready();
        polled
    }
}

pin_project! {
    /// A join whose arms cannot fail.
    struct All<S: Kept, R> {
        #[pin]
        joining: Joining<S, R>,
    }
}

impl<S: Arms<Answer = Result<(), Infallible>> + Kept, R> Future for All<S, R> {
    type Output = R;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        self.project().joining.poll(cx).map(|all| match all {
            Ok(all) => all,
            Err(never) => match never {},
        })
    }
}
