//! Why a job of a lane has no result.

use std::fmt;
use std::time::Duration;

use crate::cause::{Cancelled, Cause};
use crate::panic::Panic;

/// Why a call of a [`CpuLane`](crate::CpuLane) has no result. A job that was not begun comes back.
#[non_exhaustive]
pub enum CpuError<J> {
    /// As many jobs or bytes are there as may be, and the lane does not let anybody wait. Trying later may succeed; the work
    /// may as well be refused.
    Full(J),
    /// The lane has ended. Trying again cannot succeed.
    Closed(J),
    /// The caller's context was cancelled. The job comes back if it was not begun; if it was, it was told to stop.
    Cancelled(Option<J>, Cancelled),
    /// The job took longer than the lane allows, and was told to stop. It may still run; trying again would take just as long.
    TimedOut {
        /// What the lane allows.
        limit: Duration,
    },
    /// The job panicked. The lane goes on.
    Panicked(Panic),
}

impl<J> CpuError<J> {
    /// Returns the job, if it was not begun.
    #[must_use]
    pub fn into_job(self) -> Option<J> {
        match self {
            Self::Full(job) | Self::Closed(job) => Some(job),
            Self::Cancelled(job, _) => job,
            Self::TimedOut { .. } | Self::Panicked(_) => None,
        }
    }
}

impl<J> fmt::Display for CpuError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the lane is full"),
            Self::Closed(_) => f.write_str("the lane has ended"),
            Self::Cancelled(_, cancelled) => cancelled.fmt(f),
            Self::TimedOut { limit } => write!(f, "the job took longer than {} ms", limit.as_millis()),
            Self::Panicked(panic) => panic.fmt(f),
        }
    }
}

impl<J> fmt::Debug for CpuError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::Cancelled(job, cancelled) => {
                f.debug_tuple("Cancelled").field(&job.as_ref().map(|_| ..)).field(cancelled).finish()
            }
            Self::TimedOut { limit } => f.debug_struct("TimedOut").field("limit", limit).finish(),
            Self::Panicked(panic) => f.debug_tuple("Panicked").field(panic).finish(),
        }
    }
}

impl<J> std::error::Error for CpuError<J> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cancelled(_, cancelled) => Some(cancelled),
            Self::Panicked(panic) => Some(panic),
            Self::Full(_) | Self::Closed(_) | Self::TimedOut { .. } => None,
        }
    }
}

/// For scopes whose error is [`Cancelled`]: who cannot get the work done may as well end.
impl<J> From<CpuError<J>> for Cancelled {
    fn from(error: CpuError<J>) -> Self {
        match error {
            CpuError::Full(_) => Cancelled::new(Cause::QueueFull),
            CpuError::Closed(_) => Cancelled::new(Cause::Refused("the lane has ended")),
            CpuError::Cancelled(_, cancelled) => cancelled,
            CpuError::TimedOut { .. } => Cancelled::new(Cause::DeadlineExceeded),
            CpuError::Panicked(_) => Cancelled::new(Cause::Failed),
        }
    }
}
