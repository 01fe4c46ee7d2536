//! Two futures in one task, by value: the loser is dropped before the winner's value is returned.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

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
/// lock or a place in a queue and is no longer polled (a *futurelock*).
///
/// # Cancel safety
///
/// What the loser had not finished is lost with it, as its own documentation says.
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
pub fn race<L: Future, R: Future>(left: L, right: R) -> impl Future<Output = Either<L::Output, R::Output>> {
    Race { left: Some(left), right: Some(right) }
}

pin_project! {
    struct Race<L, R> {
        #[pin]
        left: Option<L>,
        #[pin]
        right: Option<R>,
    }
}

impl<L: Future, R: Future> Future for Race<L, R> {
    type Output = Either<L::Output, R::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let won = match this.left.as_mut().as_pin_mut().map(|left| left.poll(cx)) {
            Some(Poll::Ready(value)) => Some(Either::Left(value)),
            _ => match this.right.as_mut().as_pin_mut().map(|right| right.poll(cx)) {
                Some(Poll::Ready(value)) => Some(Either::Right(value)),
                _ => None,
            },
        };
        match won {
            Some(value) => {
                this.left.set(None);
                this.right.set(None);
                Poll::Ready(value)
            }
            None => Poll::Pending,
        }
    }
}
