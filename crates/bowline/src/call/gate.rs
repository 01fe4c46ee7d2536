//! What an attempt of a call asks before it begins: a breaker, a bulkhead.
//!
//! A pass belongs to one attempt. It is taken when the attempt begins and is gone when the attempt has ended, so nobody holds
//! one during a back-off.
//!
//! # Invariants
//!
//! 1. A pass that is dropped without a word gives back what it holds and counts as nothing: its attempt was cancelled.
//! 2. [`Pass::failed`] is told the class as it is; what counts against the gate is the gate's own business
//!    ([`Class::is_failure`]).

use std::future::Future;

use super::class::Class;

/// Admits attempts of calls, or refuses them.
pub(crate) trait Gate {
    /// The right to make one attempt.
    type Pass: Pass;
    /// Why not, and what to do.
    type Refused;

    /// Admits one attempt; waits only if waiting is what the gate is for. Dropped meanwhile, it leaves the line.
    fn admit(&self) -> impl Future<Output = Result<Self::Pass, Self::Refused>> + Send;
}

/// The right to make one attempt. Dropping it says nothing about how that went.
pub(crate) trait Pass: Send {
    /// The attempt came to an answer the upstream stands for.
    fn succeeded(self);

    /// The attempt failed with an error of this class; [`Class::Bug`] also if it panicked.
    fn failed(self, class: Class);
}
