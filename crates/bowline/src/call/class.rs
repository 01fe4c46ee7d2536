//! What kind of failure it was, apart from what is to be done about it.
//!
//! An error says its class ([`Classify`]), or a closure says it for an error of somebody else's. Policies - retries, breakers,
//! fallbacks, idempotency - read the class and never the error, so that the table below is the only place where the two meet.
//!
//! # Invariants
//!
//! 1. What an upstream may already have done ([`Class::is_uncertain`]) is never done again unless the caller said that it bears it.
//! 2. What the caller itself did wrong, or gave up, says nothing about the upstream ([`Class::is_failure`]).

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;

use crate::cause::{Cancelled, Cause};
use crate::panic::Panic;

/// What kind of failure a call ended with.
///
/// | class | example | retried | counts against a [`Breaker`](crate::Breaker) | may have happened |
/// |---|---|---|---|---|
/// | [`Network`](Self::Network) | connection refused, no route | yes | yes | no |
/// | [`Overload`](Self::Overload) | 429, 503 | yes, not before what it said | yes | no |
/// | [`Disconnected`](Self::Disconnected) | connection reset | if idempotent | yes | yes |
/// | [`Timeout`](Self::Timeout) | no answer in time, 504 | if idempotent | yes | yes |
/// | [`Business`](Self::Business) | 404, card declined | no | no | no |
/// | [`Bug`](Self::Bug) | a panic, 500 | no | yes | yes |
/// | [`Cancelled`](Self::Cancelled) | the caller was cancelled | no | no | yes |
///
/// # Examples
///
/// ```
/// use bowline::Class;
///
/// let class = Class::of_status(429, Some("3"));
/// assert!(class.is_retriable(false));
/// assert_eq!(class.to_string(), "overload");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "class")]
#[non_exhaustive]
pub enum Class {
    /// The upstream was not reached: connection refused, no route, name not found. Nothing has happened there.
    Network,
    /// The connection broke before the answer came. It may have happened.
    Disconnected,
    /// No answer came in time. It may have happened.
    Timeout,
    /// The upstream refused because it has too much to do. Nothing has happened there.
    Overload {
        /// For how long it wants to be left alone, if it said so (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The upstream works, and the answer is no: not found, not allowed, not enough money. Asking again changes nothing.
    Business,
    /// A defect, here or there: a panic, an answer that cannot be read, a 500. Asking again would meet it again.
    Bug,
    /// The caller was cancelled or gave up. It says nothing about the upstream.
    Cancelled,
}

impl Class {
    /// Classifies the status of an HTTP answer that is not a success, with its `Retry-After` header if there is one.
    ///
    /// 429 and 503 are an overload, 408 and 504 a time-out, 502 a broken connection, any other 5xx a bug, and everything
    /// else business.
    ///
    /// # Examples
    ///
    /// ```
    /// use bowline::Class;
    /// use std::time::Duration;
    ///
    /// let retry_after = Some(Duration::from_secs(30));
    /// assert_eq!(Class::of_status(503, Some("30")), Class::Overload { retry_after });
    /// assert_eq!(Class::of_status(404, None), Class::Business);
    /// ```
    #[must_use]
    pub fn of_status(status: u16, retry_after: Option<&str>) -> Self {
        match status {
            429 | 503 => Self::Overload { retry_after: retry_after.and_then(parse_retry_after) },
            408 | 504 => Self::Timeout,
            502 => Self::Disconnected,
            500..=599 => Self::Bug,
            _ => Self::Business,
        }
    }

    /// Returns whether it may be tried again; `idempotent` says that being done twice is the same as being done once.
    #[must_use]
    pub fn is_retriable(self, idempotent: bool) -> bool {
        match self {
            Self::Network | Self::Overload { .. } => true,
            Self::Timeout | Self::Disconnected => idempotent,
            Self::Business | Self::Bug | Self::Cancelled => false,
        }
    }

    /// Returns whether it speaks against the upstream: what a breaker counts.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Business | Self::Cancelled)
    }

    /// Returns whether nobody here knows if the call had its effect.
    #[must_use]
    pub fn is_uncertain(self) -> bool {
        matches!(self, Self::Timeout | Self::Disconnected | Self::Bug | Self::Cancelled)
    }

    /// Returns for how long the upstream wants to be left alone.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Overload { retry_after } => retry_after,
            _ => None,
        }
    }

    /// Returns its name in views: `network`, `disconnected`, `time-out`, `overload`, `business`, `bug`, `cancelled`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Disconnected => "disconnected",
            Self::Timeout => "time-out",
            Self::Overload { .. } => "overload",
            Self::Business => "business",
            Self::Bug => "bug",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Parses a `Retry-After` header in seconds.
///
/// A date is not understood and gives `None`: it compares the upstream's clock with ours, and the back-off of a
/// [`Retry`](crate::Retry) is the safer answer to that.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(bowline::parse_retry_after(" 120 "), Some(Duration::from_secs(120)));
/// assert_eq!(bowline::parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), None);
/// ```
#[must_use]
pub fn parse_retry_after(header: &str) -> Option<Duration> {
    let header = header.trim();
    // `parse` would also take a sign.
    let digits = !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit());
    if digits { header.parse().ok().map(Duration::from_secs) } else { None }
}

/// Errors that say what kind of failure they are.
///
/// # Examples
///
/// ```
/// use bowline::{Class, Classify};
///
/// enum BillingError {
///     Unreachable,
///     Declined,
/// }
///
/// impl Classify for BillingError {
///     fn class(&self) -> Class {
///         match self {
///             Self::Unreachable => Class::Network,
///             Self::Declined => Class::Business,
///         }
///     }
/// }
/// # assert!(!BillingError::Declined.class().is_failure() && BillingError::Unreachable.class().is_failure());
/// ```
pub trait Classify {
    /// Returns what kind of failure it is.
    fn class(&self) -> Class;
}

impl Classify for Class {
    fn class(&self) -> Class {
        *self
    }
}

impl Classify for Cancelled {
    /// A deadline is a time-out, every other cause a cancellation.
    fn class(&self) -> Class {
        match self.cause() {
            Cause::DeadlineExceeded => Class::Timeout,
            _ => Class::Cancelled,
        }
    }
}

impl Classify for tokio::time::error::Elapsed {
    fn class(&self) -> Class {
        Class::Timeout
    }
}

impl Classify for Panic {
    fn class(&self) -> Class {
        Class::Bug
    }
}

impl Classify for io::Error {
    /// By its kind. Kinds that speak of files and arguments are business: the network works.
    fn class(&self) -> Class {
        use io::ErrorKind as Kind;
        match self.kind() {
            Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::NotConnected
            | Kind::AddrNotAvailable => Class::Network,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
                Class::Disconnected
            }
            Kind::TimedOut => Class::Timeout,
            Kind::ResourceBusy | Kind::WouldBlock | Kind::QuotaExceeded => {
                Class::Overload { retry_after: None }
            }
            Kind::InvalidData => Class::Bug,
            // What resolvers and TLS stacks wrap in an error of their own.
            Kind::Other => Class::Network,
            _ => Class::Business,
        }
    }
}

impl<E: Classify + ?Sized> Classify for &E {
    fn class(&self) -> Class {
        (**self).class()
    }
}

impl<E: Classify + ?Sized> Classify for Box<E> {
    fn class(&self) -> Class {
        (**self).class()
    }
}

impl<E: Classify + ?Sized> Classify for std::sync::Arc<E> {
    fn class(&self) -> Class {
        (**self).class()
    }
}

/// Who says what class an error is of: the error itself ([`ByError`]), or a closure ([`ByClosure`]).
pub trait Classifier<E>: sealed::Classifies<E> {}

impl<E, C: sealed::Classifies<E>> Classifier<E> for C {}

/// The error says its own class: it implements [`Classify`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ByError;

/// A closure says it.
pub struct ByClosure<E, F> {
    classify: F,
    error: PhantomData<fn(&E)>,
}

impl<E, F> ByClosure<E, F> {
    pub(crate) fn new(classify: F) -> Self {
        Self { classify, error: PhantomData }
    }
}

impl<E, F: Clone> Clone for ByClosure<E, F> {
    fn clone(&self) -> Self {
        Self::new(self.classify.clone())
    }
}

impl<E, F> fmt::Debug for ByClosure<E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByClosure")
    }
}

pub(crate) mod sealed {
    use super::{ByClosure, ByError, Class, Classify};

    pub trait Classifies<E> {
        fn class_of(&self, error: &E) -> Class;
    }

    impl<E: Classify> Classifies<E> for ByError {
        fn class_of(&self, error: &E) -> Class {
            error.class()
        }
    }

    impl<E, F: Fn(&E) -> Class> Classifies<E> for ByClosure<E, F> {
        fn class_of(&self, error: &E) -> Class {
            (self.classify)(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_did_not_happen_is_retried_without_being_idempotent() {
        let all = [
            Class::Network,
            Class::Disconnected,
            Class::Timeout,
            Class::Overload { retry_after: None },
            Class::Business,
            Class::Bug,
            Class::Cancelled,
        ];
        for class in all {
            assert!(!(class.is_retriable(false) && class.is_uncertain()), "{class}");
            assert!(class.is_retriable(true) || !class.is_retriable(false), "{class}");
        }
    }

    #[test]
    fn a_retry_after_is_a_number_of_seconds_and_nothing_else() {
        for header in ["", "+3", "-3", "3.5", "soon", "99999999999999999999999"] {
            assert_eq!(parse_retry_after(header), None, "{header}");
        }
        assert_eq!(parse_retry_after("0"), Some(Duration::ZERO));
    }

    #[test]
    fn a_deadline_is_a_time_out_and_another_cancel_is_not() {
        assert_eq!(Cancelled::new(Cause::DeadlineExceeded).class(), Class::Timeout);
        assert_eq!(Cancelled::new(Cause::Requested("enough")).class(), Class::Cancelled);
    }
}
