//! The errors of channels.

use std::fmt;

use crate::cause::{Cancelled, Cause};

/// Why a wait for an answer came back without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The [`Reply`](crate::Reply) was dropped unused: nobody is left who could answer. Asking again, through a new channel,
    /// may succeed.
    Unanswered {
        /// The name of the channel.
        name: &'static str,
        /// Whether it was a panic of its holder that dropped it.
        by_panic: bool,
    },
    /// The waiting context was cancelled. The answer may still come.
    Cancelled(Cancelled),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::Unanswered { name, by_panic: false } => {
                write!(f, "nobody will answer `{name}`: its reply was dropped unused")
            }
            NoAnswer::Unanswered { name, by_panic: true } => {
                write!(f, "nobody will answer `{name}`: its reply was dropped by a panic")
            }
            NoAnswer::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for NoAnswer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NoAnswer::Cancelled(cancelled) => Some(cancelled),
            NoAnswer::Unanswered { .. } => None,
        }
    }
}

impl From<Cancelled> for NoAnswer {
    fn from(cancelled: Cancelled) -> Self {
        NoAnswer::Cancelled(cancelled)
    }
}

/// For scopes whose error is [`Cancelled`]: a task that cannot go on without the answer may as well end.
impl From<NoAnswer> for Cancelled {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Unanswered { name, .. } => Cancelled::new(Cause::SendersGone(name)),
            NoAnswer::Cancelled(cancelled) => cancelled,
        }
    }
}

/// Why a wait for a change came back without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// No sender is left, and the last value was seen: there will be no change. The value itself can still be read.
    Ended {
        /// The name of the watch.
        name: &'static str,
    },
    /// The waiting context was cancelled.
    Cancelled(Cancelled),
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WatchError::Ended { name } => write!(f, "`{name}` will not change: no sender of it is left"),
            WatchError::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for WatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WatchError::Cancelled(cancelled) => Some(cancelled),
            WatchError::Ended { .. } => None,
        }
    }
}

impl From<Cancelled> for WatchError {
    fn from(cancelled: Cancelled) -> Self {
        WatchError::Cancelled(cancelled)
    }
}

/// For scopes whose error is [`Cancelled`].
impl From<WatchError> for Cancelled {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Ended { name } => Cancelled::new(Cause::SendersGone(name)),
            WatchError::Cancelled(cancelled) => cancelled,
        }
    }
}

/// A receiver of a broadcast was too slow: items it had not read were overwritten. The broadcast goes on.
///
/// What is missing has the sequence numbers from `resume_from - missed` up to but not including `resume_from`. Whoever has a
/// history can recover exactly these from it; the next receive continues at `resume_from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged {
    /// How many items this receiver will not see.
    pub missed: u64,
    /// The sequence number of the item the next receive returns.
    pub resume_from: u64,
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items were missed; the next is number {}", self.missed, self.resume_from)
    }
}

impl std::error::Error for Lagged {}

/// Why a receive from a broadcast came back without an item, though it is not over.
///
/// There is no conversion into [`Cancelled`]: a scope whose error is that one does not compile until its task says what a
/// lag means to it, which is neither nothing nor the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastError {
    /// Items were overwritten before they were read. Receiving again goes on after them.
    Lagged(Lagged),
    /// The receiver's context was cancelled; nothing was taken.
    Cancelled(Cancelled),
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BroadcastError::Lagged(lagged) => lagged.fmt(f),
            BroadcastError::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for BroadcastError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BroadcastError::Lagged(lagged) => Some(lagged),
            BroadcastError::Cancelled(cancelled) => Some(cancelled),
        }
    }
}

impl From<Cancelled> for BroadcastError {
    fn from(cancelled: Cancelled) -> Self {
        BroadcastError::Cancelled(cancelled)
    }
}

impl From<Lagged> for BroadcastError {
    fn from(lagged: Lagged) -> Self {
        BroadcastError::Lagged(lagged)
    }
}
