//! What became of each item of a computation.

use std::fmt;

use crate::cause::{Cancelled, Cause};
use crate::done::Counts;
use crate::group::Slot;
use crate::panic::Panic;

/// What [`compute`](crate::compute()) came to: a result, an error, a panic or "cancelled" for each item, in the order of the
/// items.
///
/// A failure is nowhere else: look at it, or say `let _ =`.
#[must_use = "the errors and panics of the items are only here"]
pub struct Computed<R, E> {
    /// As small as a result, since there are many: an item without one panicked or was not computed.
    pub(super) results: Vec<Option<Result<R, E>>>,
    /// By item.
    pub(super) panics: Vec<(usize, Panic)>,
    /// Why items were not computed.
    pub(super) why: Option<Cancelled>,
}

impl<R, E> Computed<R, E> {
    /// Returns how many items ended how. It counts them, at the price of a look at each.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for result in &self.results {
            match result {
                Some(Ok(_)) => counts.ok += 1,
                Some(Err(_)) => counts.failed += 1,
                None => counts.cancelled += 1,
            }
        }
        counts.panicked = self.panics.len() as u64;
        counts.cancelled -= counts.panicked;
        counts
    }

    /// Returns why items were not computed, if some were not: the deadline had passed, or the context was cancelled.
    #[must_use]
    pub fn cut_short(&self) -> Option<&Cancelled> {
        self.why.as_ref()
    }

    /// Returns what became of each item, in the order of the items.
    pub fn slots(&self) -> impl Iterator<Item = Slot<&R, &E>> {
        let mut panics = self.panics.iter().peekable();
        self.results.iter().enumerate().map(move |(at, result)| match result {
            Some(Ok(value)) => Slot::Ok(value),
            Some(Err(error)) => Slot::Failed(error),
            None => match panics.next_if(|(panicked, _)| *panicked == at) {
                Some((_, panic)) => Slot::Panicked(panic.clone()),
                None => Slot::Cancelled(reason(self.why.as_ref())),
            },
        })
    }

    /// As [`slots`](Self::slots), by value.
    pub fn into_slots(self) -> impl Iterator<Item = Slot<R, E>> {
        let mut panics = self.panics.into_iter().peekable();
        self.results.into_iter().enumerate().map(move |(at, result)| match result {
            Some(Ok(value)) => Slot::Ok(value),
            Some(Err(error)) => Slot::Failed(error),
            None => match panics.next_if(|(panicked, _)| *panicked == at) {
                Some((_, panic)) => Slot::Panicked(panic),
                None => Slot::Cancelled(reason(self.why.as_ref())),
            },
        })
    }

    /// Returns the results there are, in the order of the items: partial results.
    pub fn into_ok(self) -> impl Iterator<Item = R> {
        self.results.into_iter().filter_map(|result| result.and_then(Result::ok))
    }

    /// Returns every result, in the order of the items, if every item had one.
    ///
    /// # Errors
    ///
    /// The error of the first item, in their order, that has none; `E::from(Cancelled)` if that was not computed.
    ///
    /// # Panics
    ///
    /// With the panic of that item.
    pub fn all_ok(self) -> Result<Vec<R>, E>
    where
        E: From<Cancelled>,
    {
        self.into_slots().map(Slot::into_result).collect()
    }
}

/// There is one whenever an item was not computed, but for a runtime that refused the work.
fn reason(why: Option<&Cancelled>) -> Cancelled {
    why.cloned().unwrap_or_else(|| Cancelled::new(Cause::Aborted))
}

impl<R, E> fmt::Debug for Computed<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        f.debug_struct("Computed").field("counts", &counts).field("cut_short", &self.why).finish()
    }
}
