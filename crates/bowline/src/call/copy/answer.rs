//! What a reader gets: the answer and its age, or why there is none.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::call::{Class, Classify};
use crate::cause::Cancelled;

/// What is known of a key.
#[derive(Debug)]
#[non_exhaustive]
pub struct Known<V> {
    /// The coordinator's answer.
    pub value: Arc<V>,
    /// Whether it is of now.
    pub freshness: Freshness,
}

impl<V> Clone for Known<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), freshness: self.freshness }
    }
}

/// Whether an answer is of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The coordinator said so now, or less than [`LocalCopy::fresh_for`](crate::LocalCopy::fresh_for) ago.
    Fresh,
    /// It said so some time ago, and did not answer now.
    Stale {
        /// How long ago.
        age: Duration,
        /// What kind of failure the last question met; [`Class::Timeout`] if it is still on its way.
        why: Class,
    },
}

/// There is no answer, and no copy that is young enough.
pub enum NoCopy<E> {
    /// The coordinator has answered, and the answer is this error: its class is [`Class::Business`]. Copies do not overrule it.
    Answered(Arc<E>),
    /// The coordinator did not answer, and there is no copy, or it is too old. Trying again later may succeed.
    NoAnswer {
        /// What kind of failure it was.
        why: Class,
        /// Its error, if it returned one.
        error: Option<Arc<E>>,
        /// How old the copy is, if there is one.
        age: Option<Duration>,
    },
    /// The caller was cancelled.
    Cancelled(Cancelled),
}

impl<E> Classify for NoCopy<E> {
    fn class(&self) -> Class {
        match self {
            Self::Answered(_) => Class::Business,
            Self::NoAnswer { why, .. } => *why,
            Self::Cancelled(cancelled) => cancelled.class(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for NoCopy<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(error) => error.fmt(f),
            Self::NoAnswer { why, error, age } => {
                match age {
                    Some(age) => write!(f, "no answer ({why}), and the copy is {age:?} old")?,
                    None => write!(f, "no answer ({why}), and no copy")?,
                }
                error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
            }
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for NoCopy<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(error) => f.debug_tuple("Answered").field(error).finish(),
            Self::NoAnswer { why, error, age } => {
                f.debug_struct("NoAnswer").field("why", why).field("error", error).field("age", age).finish()
            }
            Self::Cancelled(cancelled) => f.debug_tuple("Cancelled").field(cancelled).finish(),
        }
    }
}

impl<E: Error + 'static> Error for NoCopy<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Answered(error) | Self::NoAnswer { error: Some(error), .. } => error.source(),
            Self::Cancelled(cancelled) => cancelled.source(),
            Self::NoAnswer { error: None, .. } => None,
        }
    }
}
