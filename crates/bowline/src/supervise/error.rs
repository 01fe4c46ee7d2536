//! Why a supervisor did not do what was asked.

use std::fmt;

use super::Child;
use super::report::GaveUp;
use crate::cause::{Cancelled, Cause};

/// A child that was not taken, with the child.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AddChildError {
    /// There is a child of this name. Remove that one first, or choose another name.
    NameTaken(Child),
    /// There are as many children as [`max_children`](super::Supervisor::max_children) allows. When one is removed there is room.
    Full(Child),
    /// The supervisor ends, has ended, or was never started because its scope was closed. Trying again cannot succeed.
    Ended(Child),
}

impl AddChildError {
    /// Returns the child that was not taken.
    pub fn into_child(self) -> Child {
        match self {
            Self::NameTaken(child) | Self::Full(child) | Self::Ended(child) => child,
        }
    }
}

impl fmt::Display for AddChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken(child) => write!(f, "there is a child `{}` already", child.name),
            Self::Full(child) => {
                write!(f, "no room for `{}`: there are as many children as allowed", child.name)
            }
            Self::Ended(child) => write!(f, "`{}` was not taken: the supervisor has ended", child.name),
        }
    }
}

impl std::error::Error for AddChildError {}

/// There is no child of this name: it was never added, was removed, or was temporary and has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchChild {
    pub(super) name: String,
}

impl fmt::Display for NoSuchChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no child `{}`", self.name)
    }
}

impl std::error::Error for NoSuchChild {}

/// A wait for a child to be gone that ended before it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopChildError {
    /// There is no such child.
    NoSuchChild(NoSuchChild),
    /// It was cancelled and aborted and is still not gone; it is not started again. The alert says where it sits. When it
    /// goes after all, it goes for good.
    Stuck {
        /// Its name.
        child: String,
    },
    /// The context of whoever waits was cancelled. The child goes all the same.
    Cancelled(Cancelled),
}

impl fmt::Display for StopChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchChild(none) => none.fmt(f),
            Self::Stuck { child } => write!(f, "`{child}` was aborted and is still not gone"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for StopChildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoSuchChild(none) => Some(none),
            Self::Stuck { .. } => None,
            Self::Cancelled(cancelled) => Some(cancelled),
        }
    }
}

impl From<Cancelled> for StopChildError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

/// A wait for children to run that ended before they did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotRunning {
    /// The child was stopped, has finished or was removed. It can be asked to [`restart`](super::ChildRef::restart) unless it
    /// was removed.
    Stopped {
        /// Its name.
        child: String,
    },
    /// The supervisor gave up. Trying again cannot succeed.
    GaveUp(GaveUp),
    /// The supervisor ends, has ended, or was never started because its scope was closed. Trying again cannot succeed.
    Ended,
    /// The context of whoever waits was cancelled.
    Cancelled(Cancelled),
}

impl fmt::Display for NotRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped { child } => write!(f, "`{child}` is stopped"),
            Self::GaveUp(gave_up) => gave_up.fmt(f),
            Self::Ended => f.write_str("the supervisor has ended"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for NotRunning {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::GaveUp(gave_up) => Some(gave_up),
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Stopped { .. } | Self::Ended => None,
        }
    }
}

impl From<Cancelled> for NotRunning {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

/// For scopes whose error is [`Cancelled`]: who cannot go on without the children may as well end.
impl From<NotRunning> for Cancelled {
    fn from(error: NotRunning) -> Self {
        match error {
            NotRunning::Cancelled(cancelled) => cancelled,
            NotRunning::GaveUp(gave_up) => Cancelled::new(Cause::SupervisorGaveUp(gave_up.supervisor)),
            NotRunning::Stopped { .. } => {
                Cancelled::new(Cause::Refused("a child of a supervisor is stopped"))
            }
            NotRunning::Ended => Cancelled::new(Cause::Refused("a supervisor has ended")),
        }
    }
}

/// For scopes whose error is [`Cancelled`].
impl From<StopChildError> for Cancelled {
    fn from(error: StopChildError) -> Self {
        match error {
            StopChildError::Cancelled(cancelled) => cancelled,
            StopChildError::NoSuchChild(_) => {
                Cancelled::new(Cause::Refused("a supervisor has no such child"))
            }
            StopChildError::Stuck { .. } => {
                Cancelled::new(Cause::Refused("a child of a supervisor is stuck"))
            }
        }
    }
}

/// For scopes whose error is [`Cancelled`].
impl From<GaveUp> for Cancelled {
    fn from(gave_up: GaveUp) -> Self {
        Cancelled::new(Cause::SupervisorGaveUp(gave_up.supervisor))
    }
}
