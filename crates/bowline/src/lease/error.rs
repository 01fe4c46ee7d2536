//! Why somebody has no lease, and who has them.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::stats::Holder;
use super::{BoxError, LeaseHolder};
use crate::cause::{Cancelled, Cause};

/// Holders an error names, the oldest first; the others are counted. A thousand requests that time out together are not to
/// copy a thousand holders each.
const MAX_HOLDERS: usize = 16;

/// Why there is no lease.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LeaseError {
    /// The wait ran out of time while others held everything. Look at the holders: a leak and slow work show there. Trying
    /// again may succeed; with more load it only makes the line longer.
    AllLeased(Box<Shortage>),
    /// The wait ran out of time because resources cannot be made: [`Shortage::error`] says why. Look at the other end.
    CannotMake(Box<Shortage>),
    /// The wait ran out of time with resources on their way: they are made, checked or reset too slowly, or too many wait.
    TooSlow(Box<Shortage>),
    /// All leases are held by [`Lease::using`](crate::Lease::using) calls *around* this one: it would wait for itself. Use the
    /// lease that is there, or make the pool larger.
    WouldDeadlock {
        /// The name of the pool.
        pool: &'static str,
        /// How many leases there are, all of them around.
        leases: usize,
    },
    /// The pool was closed, or its scope has ended. Trying again cannot succeed.
    Closed {
        /// The name of the pool.
        pool: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The context was cancelled. Nothing is held.
    Cancelled(Cancelled),
}

impl LeaseError {
    /// Returns what the pool looked like when the time was up, if that is what happened.
    #[must_use]
    pub fn shortage(&self) -> Option<&Shortage> {
        match self {
            Self::AllLeased(shortage) | Self::CannotMake(shortage) | Self::TooSlow(shortage) => {
                Some(shortage)
            }
            _ => None,
        }
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllLeased(shortage) | Self::CannotMake(shortage) | Self::TooSlow(shortage) => {
                fmt::Display::fmt(shortage, f)
            }
            Self::WouldDeadlock { pool, leases } => {
                write!(f, "all {leases} leases of `{pool}` are in use around this wait for another one")
            }
            Self::Closed { pool, reason } => write!(f, "`{pool}` is closed: {reason}"),
            Self::Cancelled(cancelled) => fmt::Display::fmt(cancelled, f),
        }
    }
}

impl Error for LeaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::CannotMake(shortage) => shortage.error(),
            _ => None,
        }
    }
}

/// For scopes whose error is [`Cancelled`]: work without its resource may as well end.
impl From<Cancelled> for LeaseError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<LeaseError> for Cancelled {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Cancelled(cancelled) => cancelled,
            LeaseError::Closed { reason, .. } => Cancelled::new(Cause::Refused(reason)),
            LeaseError::WouldDeadlock { .. } => {
                Cancelled::new(Cause::Refused("it would wait for its own lease"))
            }
            LeaseError::AllLeased(shortage)
            | LeaseError::CannotMake(shortage)
            | LeaseError::TooSlow(shortage) => match shortage.cut {
                Some(cancelled) => cancelled,
                None => Cancelled::new(Cause::Refused("there was no lease in time")),
            },
        }
    }
}

/// What a pool looked like when somebody's time was up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Shortage {
    /// The name of the pool.
    pub pool: &'static str,
    /// How long the wait was.
    pub waited: Duration,
    /// Resources there may be at most.
    pub max: usize,
    /// In somebody's hands.
    pub leased: usize,
    /// In nobody's hands: given back in this moment.
    pub idle: usize,
    /// Being made.
    pub making: usize,
    /// Being checked, reset or discarded.
    pub tending: usize,
    /// Who else waits.
    pub waiting: usize,
    /// How often in a row making has failed.
    pub failures: u32,
    /// Who holds leases, the oldest first: at most 16 of them.
    pub holders: Vec<LeaseHolder>,
    /// Whether everybody who holds a lease waits for another one.
    pub holders_wait: bool,
    pub(super) error: Option<Arc<BoxError>>,
    /// The context's deadline came before the pool's.
    pub(super) cut: Option<Cancelled>,
}

impl Shortage {
    /// Returns why making failed the last time, if it fails.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref().map(|error| &***error as &(dyn Error + 'static))
    }

    pub(super) fn into_error(self) -> LeaseError {
        if self.error.is_some() {
            LeaseError::CannotMake(Box::new(self))
        } else if self.leased == self.max {
            LeaseError::AllLeased(Box::new(self))
        } else {
            LeaseError::TooSlow(Box::new(self))
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no lease of `{}` within {:?}: ", self.pool, self.waited)?;
        match &self.error {
            Some(error) => write!(f, "cannot make one, {} times in a row: {error}; ", self.failures)?,
            None if self.leased == self.max => write!(f, "all are leased; ")?,
            None => {}
        }
        write!(f, "of {}: {} leased, {} idle, {} being made", self.max, self.leased, self.idle, self.making)?;
        if self.tending > 0 {
            write!(f, ", {} being looked after", self.tending)?;
        }
        write!(f, "; others in line: {}", self.waiting)?;
        if self.holders_wait {
            f.write_str("; everybody who holds one waits for another")?;
        }
        held_by(f, &self.holders, self.leased)
    }
}

fn held_by(f: &mut fmt::Formatter<'_>, holders: &[LeaseHolder], leased: usize) -> fmt::Result {
    for (at, holder) in holders.iter().enumerate() {
        f.write_str(if at == 0 { "; held by " } else { ", " })?;
        fmt::Display::fmt(holder, f)?;
    }
    match leased.saturating_sub(holders.len()) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

/// The oldest of them, as an error names them.
pub(super) fn named(holders: Vec<Holder>) -> Vec<LeaseHolder> {
    holders.into_iter().take(MAX_HOLDERS).map(LeaseHolder::from).collect()
}

/// A pool was closed, and leases are still out: they will be discarded when they come back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StillLeased {
    /// The name of the pool.
    pub pool: &'static str,
    /// Leases that are still out.
    pub leased: usize,
    /// Who holds them, the oldest first: at most 16.
    pub holders: Vec<LeaseHolder>,
    /// What ended the wait.
    pub cancelled: Cancelled,
}

impl fmt::Display for StillLeased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is closed, and {} leases are out", self.pool, self.leased)?;
        held_by(f, &self.holders, self.leased)?;
        write!(f, "; {}", self.cancelled)
    }
}

impl Error for StillLeased {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cancelled)
    }
}

/// For scopes whose error is [`Cancelled`].
impl From<StillLeased> for Cancelled {
    fn from(error: StillLeased) -> Self {
        error.cancelled
    }
}

impl fmt::Display for LeaseHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.task, self.task_id) {
            (Some(task), Some(id)) => write!(f, "`{task}` (#{id}")?,
            _ => f.write_str("somebody outside of any scope (")?,
        }
        if self.task_id.is_some() {
            f.write_str(", ")?;
        }
        write!(f, "{}, {:?})", self.place, Duration::from_millis(self.held_for_ms))
    }
}

pub(super) fn place(at: &Location<'_>) -> String {
    format!("{}:{}", at.file(), at.line())
}
