//! Several futures in one task, by value: [`race`], [`join`], [`try_join`], [`merge`], each for two, and with `_all` for a
//! tuple of up to eight, an array or a `Vec`.
//!
//! The combinator owns its arms ([`slot::Slot`]); the arms run in the task that awaits it and borrow from it freely. They are
//! for a handful of known things. What comes in numbers is a [`group`](crate::group())'s: tasks run on every worker.
//!
//! # Invariants
//!
//! 1. An arm is polled, or finished, or dropped. Losers, the arms beside an error and the arms beside a panic are dropped
//!    before the combinator returns or unwinds, so nothing that is no longer polled keeps a lock, a permit or a place in line.
//! 2. Nothing else is awaited while an arm is pending.
//! 3. Tuples poll all their arms at every wake-up; lists ([`many::Many`]) only those that were woken. In a cancelled context
//!    every arm gets the one poll more, as a task does.
//! 4. Every poll of an arm goes through its slot: the place where a view or a detector learns which arm is which.
//!
//! # End
//!
//! A combinator polled after its end panics. Dropped before it, it drops its arms, in their order.

mod arms;
mod join;
mod many;
mod merge;
mod race;
mod slot;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;

pub use join::{Join, TryJoin, join, join_all, try_join, try_join_all};
pub use merge::{Merge, Merged, merge, merge_all};
pub use race::{Either, Race, race, race_all};

use arms::Arms;

/// Polls, and by invariant 1 drops every arm before the panic of one goes on.
fn poll_or_drop_all<S: Arms, R>(mut arms: Pin<&mut S>, poll: impl FnOnce(Pin<&mut S>) -> R) -> R {
    match catch_unwind(AssertUnwindSafe(|| poll(arms.as_mut()))) {
        Ok(polled) => polled,
        Err(payload) => {
            // A destructor that panics too does not replace the panic it was caused by.
            let _ = catch_unwind(AssertUnwindSafe(|| arms.drop_all()));
            resume_unwind(payload)
        }
    }
}
