//! Why work was asked to stop: [`Cause`], and [`Cancelled`], the error every interrupted wait returns.
//!
//! # Invariants
//!
//! 1. A [`Cancelled`] is as small as its cause: it lies in the result of every task. What it knows beyond is behind a pointer,
//!    made once per request to cancel and shared by everybody whom it reaches.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::root::Phase;
use crate::site::Site;

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
    /// The body of the scope and all its tasks have ended; its daemons have nobody to serve any more.
    ScopeEnding,
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
    /// The [`Supervisor`](crate::Supervisor) of this name gave up: its children failed too often.
    SupervisorGaveUp(&'static str),
    /// The process is shutting down, and the time for this is over: for this part's turn to drain ([`Phase::Draining`]), for all
    /// draining ([`Phase::Cancelling`]), or for everything ([`Phase::Aborting`]).
    Shutdown(Phase),
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
            Cause::ScopeEnding => f.write_str("the scope has come to its end"),
            Cause::ScopeClosed => f.write_str("the scope is closed"),
            Cause::Aborted => f.write_str("the task was aborted"),
            Cause::Failed => f.write_str("the task failed; its scope carries the error"),
            Cause::QueueClosed => f.write_str("a queue has no receiver any more"),
            Cause::QueueFull => f.write_str("a queue is full"),
            Cause::SendersGone(name) => write!(f, "`{name}` has no sender any more"),
            Cause::Refused(reason) => f.write_str(reason),
            Cause::SupervisorGaveUp(name) => write!(f, "the supervisor `{name}` gave up"),
            Cause::Shutdown(Phase::Draining) => {
                f.write_str("the process is shutting down, and the time of this drain phase is over")
            }
            Cause::Shutdown(_) => f.write_str("the process is shutting down"),
        }
    }
}

/// The error of a wait that ended because its context was cancelled, or of a task that ended without a value.
///
/// It implements [`std::error::Error`], so `?` turns it into any error type with a `From<Cancelled>`. Where the cancel came
/// from is its [`source`](Error::source); `{:#}` prints it in one line. Two are equal if their causes are.
///
/// # Examples
///
/// ```
/// # bowline::testing::example_paused(async {
/// # use std::time::Duration;
/// let slow = bowline::timeout(Duration::from_secs(1), std::future::pending::<()>());
/// let why = slow.await.unwrap_err();
/// assert_eq!(why.to_string(), "cancelled: deadline exceeded");
/// let whole = format!("{why:#}"); // cancelled: deadline exceeded ← timeout (src/orders.rs:40)
/// assert!(whole.starts_with("cancelled: deadline exceeded ← timeout ("));
/// # });
/// ```
#[derive(Clone)]
pub struct Cancelled(Repr);

#[derive(Clone)]
enum Repr {
    /// Of no context: a refusal, or an end without a value.
    Plain(Cause),
    At(Arc<Why>),
}

struct Why {
    cause: Cause,
    origin: Origin,
}

/// How many origins a chain has at most: a program may hand on the failure it got as its own, again and again.
const LONGEST_CHAIN: usize = 32;

/// Where a cancel came from: the context that was asked to end. Contexts below it end for the same cause.
pub struct Origin {
    kind: &'static str,
    site: Site,
    /// Why the task failed whose failure this was.
    before: Option<Cancelled>,
}

impl Cancelled {
    pub(crate) fn new(cause: Cause) -> Self {
        Self(Repr::Plain(cause))
    }

    /// A cancel that begins at this context.
    pub(crate) fn at(cause: Cause, kind: &'static str, site: Site) -> Self {
        Self::after(None, cause, kind, site)
    }

    /// A cancel that begins at this context because a task of it failed with `before`.
    pub(crate) fn after(before: Option<Cancelled>, cause: Cause, kind: &'static str, site: Site) -> Self {
        let before = before.map(|before| {
            let origins = std::iter::successors(before.origin(), |origin| origin.before.as_ref()?.origin());
            if origins.count() < LONGEST_CHAIN { before } else { Self::new(before.cause().clone()) }
        });
        Self(Repr::At(Arc::new(Why { cause, origin: Origin { kind, site, before } })))
    }

    /// Returns why the context was cancelled.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match &self.0 {
            Repr::Plain(cause) => cause,
            Repr::At(why) => &why.cause,
        }
    }

    /// Returns the context where the cancel began; none if no context was cancelled (a spawn was refused, a queue is closed).
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        match &self.0 {
            Repr::Plain(_) => None,
            Repr::At(why) => Some(&why.origin),
        }
    }

    /// Returns whether the deadline was the cause.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        *self.cause() == Cause::DeadlineExceeded
    }
}

impl Origin {
    /// Returns what was cancelled: `scope`, `group`, `timeout`, `task`, `root` and the like.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.site.name
    }

    /// Returns where it was opened or spawned.
    #[must_use]
    pub fn place(&self) -> &'static Location<'static> {
        self.site.place
    }
}

impl PartialEq for Cancelled {
    fn eq(&self, other: &Self) -> bool {
        self.cause() == other.cause()
    }
}

impl Eq for Cancelled {}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cancelled: {}", self.cause())?;
        let mut at = self.origin().filter(|_| f.alternate());
        while let Some(origin) = at {
            write!(f, " ← {origin}")?;
            let Some(before) = &origin.before else { break };
            write!(f, " ← {}", before.cause())?;
            at = before.origin();
        }
        Ok(())
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancelled({:?}", self.cause())?;
        if let Some(origin) = self.origin() {
            write!(f, " ← {origin:?}")?;
        }
        f.write_str(")")
    }
}

impl Error for Cancelled {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.origin().map(|origin| origin as &dyn Error)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, site, .. } = self;
        f.write_str(kind)?;
        if site.name != *kind {
            write!(f, " `{}`", site.name)?;
        }
        write!(f, " ({}:{})", site.place.file(), site.place.line())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match &self.before {
            Some(before) => write!(f, " ← {before:?}"),
            None => Ok(()),
        }
    }
}

impl Error for Origin {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.before.as_ref().map(|before| before as &dyn Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_failures_handed_on_for_ever_does_not_grow_for_ever() {
        let site = *crate::site::intern("actor", Location::caller());
        let mut why = Cancelled::new(Cause::Failed);
        for _ in 0..200_000 {
            why = Cancelled::after(Some(why), Cause::SiblingFailed("actor"), "scope", site);
        }
        let origins = std::iter::successors(why.origin(), |origin| origin.before.as_ref()?.origin());
        assert!((1..=LONGEST_CHAIN).contains(&origins.count()));
        drop(why); // does not walk off the stack
    }

    #[test]
    fn it_is_as_small_as_its_cause() {
        assert_eq!(size_of::<Cancelled>(), size_of::<Cause>());
        assert_eq!(size_of::<Result<(), Cancelled>>(), size_of::<Cause>());
    }
}
