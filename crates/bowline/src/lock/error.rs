//! Why permits of a semaphore were not granted.

use std::fmt;

use super::core::Stopped;
use super::permits::Refusal;
use crate::cause::{Cancelled, Cause};

/// Why permits were not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireError {
    /// The context was cancelled. Nothing is held.
    Cancelled(Cancelled),
    /// The semaphore was closed. Trying again cannot succeed.
    Closed {
        /// The reason given to [`Semaphore::close`](crate::Semaphore::close).
        reason: &'static str,
    },
    /// More was asked for than there is in all. Ask for less: waiting would never end.
    TooLarge {
        /// What was asked for.
        asked: usize,
        /// What there is.
        total: usize,
    },
    /// As many wait as may wait. Trying later may succeed; the work may as well be refused.
    RoomFull {
        /// How many wait.
        waiting: usize,
    },
}

impl AcquireError {
    pub(super) fn new(stopped: Stopped<Refusal>, asked: usize) -> Self {
        match stopped {
            Stopped::Cancelled(cancelled) => Self::Cancelled(cancelled),
            Stopped::Refused(Refusal::Closed(reason)) => Self::Closed { reason },
            Stopped::Refused(Refusal::TooLarge { total }) => Self::TooLarge { asked, total },
            Stopped::Refused(Refusal::RoomFull { waiting }) => Self::RoomFull { waiting },
        }
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Closed { reason } => write!(f, "the semaphore is closed: {reason}"),
            Self::TooLarge { asked, total } => write!(f, "asked for {asked} permits of {total}"),
            Self::RoomFull { waiting } => write!(f, "{waiting} wait already, and no more may"),
        }
    }
}

impl std::error::Error for AcquireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            _ => None,
        }
    }
}

/// For scopes whose error is [`Cancelled`]: work that is not admitted may as well end.
impl From<AcquireError> for Cancelled {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Cancelled(cancelled) => cancelled,
            AcquireError::Closed { reason } => Cancelled::new(Cause::Refused(reason)),
            AcquireError::TooLarge { .. } => {
                Cancelled::new(Cause::Refused("more permits were asked for than there are"))
            }
            AcquireError::RoomFull { .. } => Cancelled::new(Cause::Refused("too many wait for permits")),
        }
    }
}

/// Why permits were not taken by somebody who does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// Too few are free, or somebody is in line for them. Trying later may succeed.
    Busy,
    /// The semaphore was closed. Trying again cannot succeed.
    Closed {
        /// The reason given to [`Semaphore::close`](crate::Semaphore::close).
        reason: &'static str,
    },
    /// More was asked for than there is in all. Ask for less.
    TooLarge {
        /// What was asked for.
        asked: usize,
        /// What there is.
        total: usize,
    },
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too few permits are free"),
            Self::Closed { reason } => write!(f, "the semaphore is closed: {reason}"),
            Self::TooLarge { asked, total } => write!(f, "asked for {asked} permits of {total}"),
        }
    }
}

impl std::error::Error for TryAcquireError {}
