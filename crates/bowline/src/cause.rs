//! Why work was asked to stop: [`Cause`], and [`Cancelled`], the error every interrupted wait returns.

use std::fmt;

/// Why a context was cancelled.
///
/// The first cause wins; later requests to cancel the same context change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Somebody asked for it, with this reason.
    Requested(&'static str),
    /// The deadline of this context or of an ancestor has passed.
    DeadlineExceeded,
    /// The task of this name, in the same scope, returned an error.
    SiblingFailed(&'static str),
    /// The task of this name, in the same scope, panicked.
    SiblingPanicked(&'static str),
    /// The group had what its policy asks for, or could no longer get it.
    Decided,
    /// The body of the scope returned an error or panicked.
    BodyFailed,
    /// The future of the scope was dropped before it had ended: by a foreign `select!`, a timeout, a client that left.
    ScopeDropped,
    /// The scope had already ended or was closed when the task was spawned.
    ScopeClosed,
    /// The task was aborted through its handle.
    Aborted,
    /// This task itself returned an error or panicked; its scope carries the error.
    Failed,
    /// A send failed because no receiver is left, and its error was turned into this one.
    QueueClosed,
    /// A send failed because the queue is full, and its error was turned into this one.
    QueueFull,
    /// The channel of this name has no sender any more: what was waited for will not come.
    SendersGone(&'static str),
    /// A wait at a semaphore, a notification or a barrier was refused for this reason, and its error was turned into this one.
    Refused(&'static str),
    /// The process is shutting down and the time for draining is over.
    Shutdown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Requested(reason) => f.write_str(reason),
            Cause::DeadlineExceeded => f.write_str("deadline exceeded"),
            Cause::SiblingFailed(name) => write!(f, "task `{name}` failed"),
            Cause::SiblingPanicked(name) => write!(f, "task `{name}` panicked"),
            Cause::Decided => f.write_str("the result of the group was decided"),
            Cause::BodyFailed => f.write_str("the scope's body failed"),
            Cause::ScopeDropped => f.write_str("the scope was dropped before its end"),
            Cause::ScopeClosed => f.write_str("the scope is closed"),
            Cause::Aborted => f.write_str("the task was aborted"),
            Cause::Failed => f.write_str("the task failed; its scope carries the error"),
            Cause::QueueClosed => f.write_str("a queue has no receiver any more"),
            Cause::QueueFull => f.write_str("a queue is full"),
            Cause::SendersGone(name) => write!(f, "`{name}` has no sender any more"),
            Cause::Refused(reason) => f.write_str(reason),
            Cause::Shutdown => f.write_str("the process is shutting down"),
        }
    }
}

/// The error of a wait that ended because its context was cancelled, or of a task that ended without a value.
///
/// It implements [`std::error::Error`], so `?` turns it into any error type with a `From<Cancelled>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    pub(crate) cause: Cause,
}

impl Cancelled {
    pub(crate) fn new(cause: Cause) -> Self {
        Self { cause }
    }

    /// Returns why the context was cancelled.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Returns whether the deadline was the cause.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        self.cause == Cause::DeadlineExceeded
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cancelled: {}", self.cause)
    }
}

impl std::error::Error for Cancelled {}
