//! Why an effect has no result.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::store::StoreFailed;
use crate::call::{Class, Classify};
use crate::cause::Cancelled;

/// Why [`Effects::once`](crate::Effects::once) has no result. Everybody who waited for the same effect gets the same.
#[non_exhaustive]
pub enum OnceError<E> {
    /// The effect failed, and by its class nothing has happened. The key is free: trying again runs the effect again.
    Failed {
        /// What kind of failure it was.
        class: Class,
        /// The error of the effect.
        error: Arc<E>,
    },
    /// Nobody knows whether it has happened: the effect, now or earlier, ran out of time, lost its connection, panicked
    /// or was cut off. It is not run again. Ask the upstream what became of it, with
    /// [`once_or_find`](crate::Effects::once_or_find), or let a person [`settle`](crate::Effects::settle) it.
    InDoubt {
        /// How it ended.
        class: Class,
        /// The error of the effect, if it was now and returned one.
        error: Option<Arc<E>>,
    },
    /// As many keys are kept as may be, and none of them is old enough to be forgotten. Nothing was run; there is room when
    /// the oldest are.
    Full,
    /// The store of the keys failed before the effect began. Nothing was run; trying again may succeed.
    Store(StoreFailed),
    /// The scope that owns the effects has ended, is closed or was cancelled. Nothing was run, or another caller's
    /// effect was not. Trying again cannot succeed.
    Closed,
    /// The caller's own context was cancelled. The effect goes on if it has begun: the same key finds it.
    Cancelled(Cancelled),
}

impl<E> Clone for OnceError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed { class, error } => Self::Failed { class: *class, error: Arc::clone(error) },
            Self::InDoubt { class, error } => Self::InDoubt { class: *class, error: error.clone() },
            Self::Full => Self::Full,
            Self::Store(failed) => Self::Store(failed.clone()),
            Self::Closed => Self::Closed,
            Self::Cancelled(cancelled) => Self::Cancelled(cancelled.clone()),
        }
    }
}

impl<E> From<Cancelled> for OnceError<E> {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl<E> Classify for OnceError<E> {
    /// A failure is of its own class, and so is the end of the caller's patience: a retry with the same key finds the effect.
    /// What is in doubt is business: it must not be tried again by a machine.
    fn class(&self) -> Class {
        match self {
            Self::Failed { class, .. } => *class,
            Self::InDoubt { .. } => Class::Business,
            Self::Full => Class::Overload { retry_after: None },
            Self::Store(_) => Class::Network,
            Self::Closed => Class::Cancelled,
            Self::Cancelled(cancelled) => cancelled.class(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for OnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { class, error } => write!(f, "failed, and nothing has happened ({class}): {error}"),
            Self::InDoubt { class, error } => {
                write!(f, "nobody knows whether it has happened ({class})")?;
                error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
            }
            Self::Full => f.write_str("as many keys are kept as may be"),
            Self::Store(failed) => write!(f, "{failed}"),
            Self::Closed => f.write_str("the scope of the effects takes no more"),
            Self::Cancelled(cancelled) => write!(f, "{cancelled}"),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for OnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { class, error } => {
                f.debug_struct("Failed").field("class", class).field("error", error).finish()
            }
            Self::InDoubt { class, error } => {
                f.debug_struct("InDoubt").field("class", class).field("error", error).finish()
            }
            Self::Full => f.write_str("Full"),
            Self::Store(failed) => f.debug_tuple("Store").field(failed).finish(),
            Self::Closed => f.write_str("Closed"),
            Self::Cancelled(cancelled) => f.debug_tuple("Cancelled").field(cancelled).finish(),
        }
    }
}

impl<E: Error + 'static> Error for OnceError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed { error, .. } | Self::InDoubt { error: Some(error), .. } => error.source(),
            Self::Store(failed) => failed.source(),
            Self::Cancelled(cancelled) => cancelled.source(),
            Self::InDoubt { error: None, .. } | Self::Full | Self::Closed => None,
        }
    }
}
