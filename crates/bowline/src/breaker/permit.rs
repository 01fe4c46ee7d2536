//! The right to make one call through a breaker, and the duty to say how it went.

use std::fmt;
use std::future::Future;

use super::state::{End, Ticket};
use super::{Breaker, BreakerOpen};
use crate::call::Class;
use crate::call::gate::{Gate, Pass};
use crate::track::Leaf;

/// Characters of an error's text that a breaker keeps.
const MAX_DETAIL: usize = 200;

/// The right to make one call through a [`Breaker`], and the duty to say how it went.
///
/// Dropped without a word it counts as nothing, and the place of a probe is free again; but in a panic it counts as a bug, and
/// in a context that ran into its deadline as a time-out. What comes after the breaker has changed its state counts as
/// nothing too.
#[must_use = "dropped, the call counts as nothing: say how it went"]
pub struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    ticket: Option<Ticket>,
}

impl<'a> BreakerPermit<'a> {
    pub(super) fn new(breaker: &'a Breaker, ticket: Ticket) -> Self {
        Self { breaker, ticket: Some(ticket) }
    }

    /// Says that the call succeeded: the upstream has answered.
    #[inline]
    pub fn succeeded(mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.inner.end(ticket, End::Succeeded, None);
        }
    }

    /// Says that the call failed with an error of this class.
    pub fn failed(mut self, class: Class) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.inner.end(ticket, End::Failed(class), None);
        }
    }

    /// Says that the call failed with this error, whose text is shown if the breaker opens by it: its first 200
    /// characters, until the breaker closes. Say [`failed`](Self::failed) for errors that hold a secret.
    pub fn failed_because(mut self, class: Class, error: &dyn fmt::Display) {
        let detail = detail(class, error); // first: it is foreign code, and if it panics the drop counts the call
        if let Some(ticket) = self.ticket.take() {
            self.breaker.inner.end(ticket, End::Failed(class), detail.as_deref());
        }
    }
}

/// What is known of a failure beyond its class.
fn detail(class: Class, error: &dyn fmt::Display) -> Option<String> {
    let shown = || error.to_string().chars().take(MAX_DETAIL).collect::<String>();
    // An error may be a class and nothing more.
    class.is_failure().then(shown).filter(|shown| shown != class.name())
}

impl Drop for BreakerPermit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            abandon(self.breaker, ticket);
        }
    }
}

#[cold]
fn abandon(breaker: &Breaker, ticket: Ticket) {
    let end = match Leaf::check() {
        _ if std::thread::panicking() => End::Failed(Class::Bug),
        Err(cancelled) if cancelled.is_deadline() => End::Failed(Class::Timeout),
        _ => End::Unknown,
    };
    breaker.inner.end(ticket, end, None);
}

impl fmt::Debug for BreakerPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerPermit").field("breaker", &self.breaker.name()).finish_non_exhaustive()
    }
}

impl<'a> Gate for &'a Breaker {
    type Pass = BreakerPermit<'a>;
    type Refused = BreakerOpen;

    fn admit(&self) -> impl Future<Output = Result<BreakerPermit<'a>, BreakerOpen>> + Send {
        let breaker: &'a Breaker = self;
        async move { Breaker::admit(breaker) }
    }
}

impl Pass for BreakerPermit<'_> {
    #[inline]
    fn succeeded(self) {
        BreakerPermit::succeeded(self);
    }

    fn failed(self, class: Class) {
        BreakerPermit::failed(self, class);
    }
}

/// As a permit, for futures that live on their own: it keeps its breaker.
#[cfg(feature = "tower")]
pub(crate) struct Probe {
    breaker: Breaker,
    ticket: Option<Ticket>,
}

#[cfg(feature = "tower")]
impl Probe {
    pub(crate) fn admit(breaker: &Breaker) -> Result<Self, BreakerOpen> {
        breaker.inner.admit().map(|ticket| Self { breaker: breaker.clone(), ticket: Some(ticket) })
    }

    pub(crate) fn succeeded(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.inner.end(ticket, End::Succeeded, None);
        }
    }

    pub(crate) fn failed(&mut self, class: Class) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.inner.end(ticket, End::Failed(class), None);
        }
    }

    pub(crate) fn failed_because(&mut self, class: Class, error: &dyn fmt::Display) {
        let detail = detail(class, error);
        if let Some(ticket) = self.ticket.take() {
            self.breaker.inner.end(ticket, End::Failed(class), detail.as_deref());
        }
    }
}

#[cfg(feature = "tower")]
impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            abandon(&self.breaker, ticket);
        }
    }
}
