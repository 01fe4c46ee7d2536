//! The errors of pools. A job that was not accepted comes back.

use std::fmt;

use crate::cause::{Cancelled, Cause};
use crate::panic::Panic;

/// A job that was not accepted, and comes back.
#[derive(Clone, PartialEq, Eq)]
pub enum SubmitError<J> {
    /// The pool takes no more jobs: it drains, has ended, or its scope was cancelled or closed. Trying again cannot succeed.
    Closed(J),
    /// The queue is full and the pool's policy is to refuse, or it stayed full for as long as the pool lets somebody wait.
    /// Trying later may succeed; shed the load, or tell your own caller.
    Full(J),
    /// The queue is full, and who submits is a job of this very pool: if all workers waited like that, nobody would make room.
    /// Do it in place, keep it for later, or let the queue hold more.
    WouldDeadlock(J),
    /// The context was cancelled before there was room.
    Cancelled(J, Cancelled),
}

impl<J> SubmitError<J> {
    /// Returns the job that was not accepted.
    pub fn into_inner(self) -> J {
        match self {
            Self::Closed(job) | Self::Full(job) | Self::WouldDeadlock(job) | Self::Cancelled(job, _) => job,
        }
    }

    /// Returns the same error without the job.
    pub fn without_job(&self) -> SubmitError<()> {
        match self {
            Self::Closed(_) => SubmitError::Closed(()),
            Self::Full(_) => SubmitError::Full(()),
            Self::WouldDeadlock(_) => SubmitError::WouldDeadlock(()),
            Self::Cancelled(_, cancelled) => SubmitError::Cancelled((), cancelled.clone()),
        }
    }

    pub(super) fn map<U>(self, f: impl FnOnce(J) -> U) -> SubmitError<U> {
        match self {
            Self::Closed(job) => SubmitError::Closed(f(job)),
            Self::Full(job) => SubmitError::Full(f(job)),
            Self::WouldDeadlock(job) => SubmitError::WouldDeadlock(f(job)),
            Self::Cancelled(job, cancelled) => SubmitError::Cancelled(f(job), cancelled),
        }
    }
}

impl<J> fmt::Display for SubmitError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("the pool takes no more jobs"),
            Self::Full(_) => f.write_str("the pool is full"),
            Self::WouldDeadlock(_) => {
                f.write_str("the pool is full, and a job of it would wait for the others to make room")
            }
            Self::Cancelled(_, cancelled) => cancelled.fmt(f),
        }
    }
}

impl<J> fmt::Debug for SubmitError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::Full(_) => f.write_str("Full(..)"),
            Self::WouldDeadlock(_) => f.write_str("WouldDeadlock(..)"),
            Self::Cancelled(_, cancelled) => f.debug_tuple("Cancelled").field(cancelled).finish(),
        }
    }
}

impl<J> std::error::Error for SubmitError<J> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cancelled(_, cancelled) => Some(cancelled),
            Self::Closed(_) | Self::Full(_) | Self::WouldDeadlock(_) => None,
        }
    }
}

/// For scopes whose error is [`Cancelled`] and for error types that have a `From<Cancelled>`. The job is dropped.
impl<J> From<SubmitError<J>> for Cancelled {
    fn from(error: SubmitError<J>) -> Self {
        match error {
            SubmitError::Closed(_) => Cancelled::new(Cause::Refused("the pool takes no more jobs")),
            SubmitError::Full(_) | SubmitError::WouldDeadlock(_) => Cancelled::new(Cause::QueueFull),
            SubmitError::Cancelled(_, cancelled) => cancelled,
        }
    }
}

/// A call that came back without a result.
#[derive(Clone)]
#[non_exhaustive]
pub enum CallError<J> {
    /// The job was not accepted, and comes back.
    Refused(SubmitError<J>),
    /// The job was accepted and dropped before it began, since the queue was full and its policy is to drop. It can be called
    /// again, when there is less to do.
    Dropped,
    /// The job or its caller was cancelled. It may have begun.
    Cancelled(Cancelled),
    /// The job took longer than a job of this pool may, and was cancelled at its await.
    TimedOut,
    /// The job panicked. The worker goes on; calling again with the same job will most likely panic again.
    Panicked(Panic),
}

impl<J> fmt::Display for CallError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Dropped => f.write_str("the pool was full, and the job was dropped before it began"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::TimedOut => f.write_str("the job took longer than a job of this pool may"),
            Self::Panicked(panic) => panic.fmt(f),
        }
    }
}

impl<J> fmt::Debug for CallError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => f.debug_tuple("Refused").field(refused).finish(),
            Self::Dropped => f.write_str("Dropped"),
            Self::Cancelled(cancelled) => f.debug_tuple("Cancelled").field(cancelled).finish(),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Panicked(panic) => f.debug_tuple("Panicked").field(panic).finish(),
        }
    }
}

impl<J> std::error::Error for CallError<J> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(SubmitError::Cancelled(_, cancelled)) | Self::Cancelled(cancelled) => {
                Some(cancelled)
            }
            Self::Panicked(panic) => Some(panic),
            Self::Refused(_) | Self::Dropped | Self::TimedOut => None,
        }
    }
}

impl<J> From<SubmitError<J>> for CallError<J> {
    fn from(refused: SubmitError<J>) -> Self {
        Self::Refused(refused)
    }
}

/// For scopes whose error is [`Cancelled`]: a task that cannot go on without the result may as well end.
impl<J> From<CallError<J>> for Cancelled {
    fn from(error: CallError<J>) -> Self {
        match error {
            CallError::Refused(refused) => refused.into(),
            CallError::Dropped => Cancelled::new(Cause::QueueFull),
            CallError::Cancelled(cancelled) => cancelled,
            CallError::TimedOut => {
                Cancelled::new(Cause::Refused("the job took longer than a job of its pool may"))
            }
            CallError::Panicked(_) => Cancelled::new(Cause::Refused("the job panicked")),
        }
    }
}
