//! Words that Go programs are made of and that Bowline says in another way.
//!
//! A channel without room is a [`rendezvous`](bowline::Cx::rendezvous); a wait group is the handles of the tasks. What is left
//! is here.

use std::future::Future;
use std::time::Duration;

use bowline::{AcquireError, Cancelled, Either, Semaphore, TryAcquireError};

use crate::End;

/// A channel that is only ever closed: who reaches it can close it, and dropping it closes nothing.
///
/// It lies by value in a [`Shared`](bowline::Shared) object, so that everybody who could close it is known. Where a drop is to
/// open it, say [`latch`](bowline::Cx::latch).
#[derive(Debug)]
pub struct Gate(Semaphore);

impl Gate {
    /// A gate that is shut.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str) -> Self {
        Self(Semaphore::empty(name))
    }

    /// Opens it for good.
    pub fn close(&self) {
        self.0.close("closed");
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.0.try_acquire(1), Err(TryAcquireError::Closed { .. }))
    }

    /// Waits until it is closed.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] when the context was.
    #[track_caller]
    pub fn wait(&self) -> impl Future<Output = End> + '_ {
        let acquired = self.0.acquire(1);
        async move {
            match acquired.await {
                Err(AcquireError::Closed { .. }) => Ok(()),
                Err(error) => Err(error.into()),
                Ok(_) => unreachable!("nobody adds permits to a gate"),
            }
        }
    }
}

/// One of two waits, and Go's choice where both are ready: by chance.
///
/// # Errors
///
/// The error of whichever came first: [`Cancelled`].
pub async fn select<L, R>(
    left: impl Future<Output = Result<L, Cancelled>>,
    right: impl Future<Output = Result<R, Cancelled>>,
) -> Result<Either<L, R>, Cancelled> {
    let first = if coin() {
        bowline::race(left, right).await
    } else {
        match bowline::race(right, left).await {
            Either::Left(right) => Either::Right(right),
            Either::Right(left) => Either::Left(left),
        }
    };
    Ok(match first {
        Either::Left(left) => Either::Left(left?),
        Either::Right(right) => Either::Right(right?),
    })
}

/// Heads or tails, by the seed of the run.
#[must_use]
pub fn coin() -> bool {
    fastrand::bool()
}

/// Sends to whoever receives; nobody left to do so is no failure. Go's send would wait or panic, and neither is an end.
///
/// # Errors
///
/// [`Cancelled`] when the context was.
#[track_caller]
pub fn give<T: Send + 'static>(
    to: &bowline::RendezvousTx<'_, T>,
    item: T,
) -> impl Future<Output = Result<bool, Cancelled>> {
    let sent = to.send(item);
    async move {
        match sent.await {
            Ok(()) => Ok(true),
            Err(bowline::SendError::Cancelled(_, cancelled)) => Err(cancelled),
            Err(_) => Ok(false),
        }
    }
}

/// The same on a channel that has room.
///
/// # Errors
///
/// [`Cancelled`] when the context was.
pub async fn put<T: Send + 'static>(to: &bowline::Tx<'_, T>, item: T) -> Result<bool, Cancelled> {
    match to.send(item).await {
        Ok(()) => Ok(true),
        Err(bowline::SendError::Cancelled(_, cancelled)) => Err(cancelled),
        Err(_) => Ok(false),
    }
}

/// Go's send with a `default`: hands `item` over if somebody waits for one, and says whether.
///
/// # Errors
///
/// [`Cancelled`] when the context was.
#[track_caller]
pub fn try_give<T: Send + 'static>(
    to: &bowline::RendezvousTx<'_, T>,
    item: T,
) -> impl Future<Output = Result<bool, Cancelled>> {
    // Who waits is woken by the offer, and needs a moment to come for it.
    const MOMENT: Duration = Duration::from_millis(1);
    let given = give(to, item);
    async move {
        match bowline::race(given, bowline::sleep(MOMENT)).await {
            Either::Left(given) => given,
            Either::Right(slept) => slept.map(|()| false),
        }
    }
}
