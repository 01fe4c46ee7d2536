//! The errors of queues. Whatever could not be sent comes back.

use std::fmt;

use crate::cause::{Cancelled, Cause};

/// A send that did not happen, with the item.
#[derive(Clone, PartialEq, Eq)]
pub enum SendError<T> {
    /// No receiver is left, or the queue was closed. Trying again cannot succeed.
    Closed(T),
    /// The queue is full and its policy is to refuse, or the send was a `try_`. Trying later may succeed.
    Full(T),
    /// The sender's context was cancelled while it waited.
    Cancelled(T, Cancelled),
}

impl<T> SendError<T> {
    /// Returns the item that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Closed(item) | SendError::Full(item) | SendError::Cancelled(item, _) => item,
        }
    }

    /// Returns the same error without the item.
    pub fn without_item(&self) -> SendError<()> {
        match self {
            SendError::Closed(_) => SendError::Closed(()),
            SendError::Full(_) => SendError::Full(()),
            SendError::Cancelled(_, cancelled) => SendError::Cancelled((), cancelled.clone()),
        }
    }

    /// Gives the item back.
    pub(super) fn with<U>(self, item: Option<U>) -> SendError<U> {
        let Some(item) = item else { unreachable!("what was refused was not taken") };
        self.map(|_| item)
    }

    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> SendError<U> {
        match self {
            SendError::Closed(item) => SendError::Closed(f(item)),
            SendError::Full(item) => SendError::Full(f(item)),
            SendError::Cancelled(item, cancelled) => SendError::Cancelled(f(item), cancelled),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed(_) => f.write_str("the queue is closed"),
            SendError::Full(_) => f.write_str("the queue is full"),
            SendError::Cancelled(_, cancelled) => cancelled.fmt(f),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed(_) => f.write_str("Closed(..)"),
            SendError::Full(_) => f.write_str("Full(..)"),
            SendError::Cancelled(_, cancelled) => f.debug_tuple("Cancelled").field(cancelled).finish(),
        }
    }
}

impl<T> std::error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SendError::Cancelled(_, cancelled) => Some(cancelled),
            SendError::Closed(_) | SendError::Full(_) => None,
        }
    }
}

/// For scopes whose error is [`Cancelled`] and for error types that have a `From<Cancelled>`: a task that cannot hand on its
/// work may as well end. The item is dropped.
impl<T> From<SendError<T>> for Cancelled {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Closed(_) => Cancelled::new(Cause::QueueClosed),
            SendError::Full(_) => Cancelled::new(Cause::QueueFull),
            SendError::Cancelled(_, cancelled) => cancelled,
        }
    }
}

/// Why a receive that does not wait came back without an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is there now.
    Empty,
    /// No sender is left and the queue is empty.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty => "the queue is empty",
            TryRecvError::Closed => "the queue is closed and empty",
        })
    }
}

impl std::error::Error for TryRecvError {}
