//! Why a call has no answer.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::class::{Class, Classify};
use super::retry::Stopped;
use crate::breaker::BreakerOpen;
use crate::bulkhead::{BulkheadFull, NoSlot};
use crate::cause::Cancelled;

/// What an attempt of a [`Call`](crate::Call) came to, if not to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The closure returned this error.
    Error(E),
    /// It took longer than this: the time-out of an attempt, or the time of the whole call. It may have happened.
    TimedOut(Duration),
    /// The breaker refused it: nothing was sent.
    Open(BreakerOpen),
    /// The bulkhead refused it: nothing was sent.
    Full(BulkheadFull),
    /// The context of the caller was cancelled, or its deadline has passed.
    Cancelled(Cancelled),
}

impl<E> Failure<E> {
    pub(super) fn of_slot(refused: NoSlot) -> Self {
        match refused {
            NoSlot::Full(full) => Self::Full(full),
            NoSlot::Cancelled(cancelled) => Self::Cancelled(cancelled),
        }
    }

    /// Its class, where `of_error` knows that of an error.
    pub(super) fn class_by(&self, of_error: impl FnOnce(&E) -> Class) -> Class {
        match self {
            Self::Error(error) => of_error(error),
            Self::TimedOut(_) => Class::Timeout,
            Self::Open(open) => open.class(),
            Self::Full(full) => full.class(),
            Self::Cancelled(cancelled) => cancelled.class(),
        }
    }

    /// Whether the attempt was refused here, and not made.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Full(_))
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::TimedOut(after) => write!(f, "no answer within {after:?}"),
            Self::Open(open) => open.fmt(f),
            Self::Full(full) => full.fmt(f),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

/// A [`Call`](crate::Call) has no answer: what became of its last attempt, how many there were, why there was no
/// other, and what its fallback said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallFailed<E> {
    /// The name of the call.
    pub name: &'static str,
    /// What became of the last attempt.
    pub failure: Failure<E>,
    /// What kind of failure that was.
    pub class: Class,
    /// How many attempts there were; those that a hedge added are not counted.
    pub attempts: u32,
    /// Why there was no other.
    pub stopped: Stopped,
    /// The error of the fallback, if there is one and it was asked.
    pub fallback: Option<E>,
}

impl<E> CallFailed<E> {
    /// The same, as seen from outside of the limit of the whole call, above which nobody has cancelled: a cancel that was felt
    /// inside was this limit.
    pub(super) fn ended_by(mut self, within: Duration) -> Self {
        if matches!(self.failure, Failure::Cancelled(_)) {
            self.failure = Failure::TimedOut(within);
        }
        if matches!(self.stopped, Stopped::Cancelled(_)) {
            self.stopped = Stopped::Deadline;
        }
        self
    }
}

impl<E> Classify for CallFailed<E> {
    fn class(&self) -> Class {
        self.class
    }
}

impl<E: fmt::Display> fmt::Display for CallFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, failure, attempts, stopped, fallback, .. } = self;
        let s = if *attempts == 1 { "" } else { "s" };
        write!(f, "`{name}` failed after {attempts} attempt{s} ({stopped}): {failure}")?;
        fallback.as_ref().map_or(Ok(()), |error| write!(f, "; and so did its fallback: {error}"))
    }
}

impl<E: Error + 'static> Error for CallFailed<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.failure {
            Failure::Error(error) => error.source(),
            Failure::Cancelled(cancelled) => cancelled.source(),
            Failure::TimedOut(_) | Failure::Open(_) | Failure::Full(_) => None,
        }
    }
}
