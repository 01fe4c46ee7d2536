//! Why somebody has no place in a bulkhead, and its books.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::breaker::short;
use crate::call::{Class, Classify};
use crate::cause::Cancelled;

/// A bulkhead had no place for a call: nothing was begun.
///
/// Try again later, or shed the load: tell your own caller that there is too much to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadFull {
    /// The bulkhead's name.
    pub name: &'static str,
    /// Places there are.
    pub at_most: usize,
    /// Places that were taken.
    pub in_flight: usize,
    /// Callers that waited.
    pub waiting: usize,
    /// How long this one had waited; zero if there was no room to wait in.
    pub waited: Duration,
    /// Who has been inside for longest.
    pub oldest: Option<OldestSlot>,
}

/// Who has been inside a bulkhead for longest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OldestSlot {
    /// For how long, to within 20 ms.
    pub age: Duration,
    /// The task that entered; `None` outside of Bowline's tasks.
    pub task: Option<u64>,
    /// `file:line` of its call.
    pub place: String,
}

impl fmt::Display for BulkheadFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, at_most, in_flight, waiting, waited, oldest } = self;
        write!(f, "bulkhead `{name}` is full: {in_flight} of {at_most} places are taken and {waiting} wait")?;
        if let Some(OldestSlot { age, place, .. }) = oldest {
            write!(f, "; the oldest has been inside for {} ({place})", short(*age))?;
        }
        if waited.is_zero() { Ok(()) } else { write!(f, "; gave up after {}", short(*waited)) }
    }
}

impl std::error::Error for BulkheadFull {}

impl Classify for BulkheadFull {
    /// An overload, and nothing has happened upstream.
    fn class(&self) -> Class {
        Class::Overload { retry_after: None }
    }
}

/// Why somebody has no place in a bulkhead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoSlot {
    /// It is full, and so is its waiting room, or the wait was too long. Try again later, or shed the load.
    Full(BulkheadFull),
    /// The context was cancelled. Trying again cannot succeed.
    Cancelled(Cancelled),
}

impl fmt::Display for NoSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for NoSlot {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full(_) => None,
            Self::Cancelled(cancelled) => cancelled.source(),
        }
    }
}

impl Classify for NoSlot {
    fn class(&self) -> Class {
        match self {
            Self::Full(full) => full.class(),
            Self::Cancelled(cancelled) => cancelled.class(),
        }
    }
}

/// Why a call through a bulkhead has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BulkheadError<E> {
    /// There was no place: it was not made.
    NoSlot(NoSlot),
    /// It was made and failed.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for BulkheadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlot(no_slot) => no_slot.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for BulkheadError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoSlot(no_slot) => no_slot.source(),
            Self::Failed(error) => error.source(),
        }
    }
}

impl<E: Classify> Classify for BulkheadError<E> {
    fn class(&self) -> Class {
        match self {
            Self::NoSlot(no_slot) => no_slot.class(),
            Self::Failed(error) => error.class(),
        }
    }
}

/// The books of a bulkhead at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BulkheadStats {
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// Calls admitted at a time now.
    pub at_most: usize,
    /// Calls that have a place. More than are admitted, for a while, after the limit has shrunk.
    pub in_flight: usize,
    /// Callers that wait.
    pub waiting: usize,
    /// For how long the oldest has had its place, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Calls that were admitted, since it was made.
    pub admitted: u64,
    /// Callers for whom there was no room to wait, since it was made.
    pub refused_full: u64,
    /// Callers that waited for too long, since it was made.
    pub refused_timed_out: u64,
}
