//! Bounded queues: many senders, many receivers, first come first served, and a stated policy for "full".
//!
//! Ends carry the lifetime of the task that holds them ([`Tx`], [`Rx`]) or are free ([`FreeTx`], [`FreeRx`]); both are thin
//! fronts of the same core. Whoever waits for room or for an item has a place in line; what is granted to a place that
//! is given up goes to the next.
//!
//! The `core` is one lock around `lanes`, each a buffer with a bound and a line of senders, and one line of receivers. A plain
//! queue has one lane, or an urgent one besides; a queue that is merged of many sources has one for each. `waiting` has the
//! futures, `delivery` the items that are received and not yet done.
//!
//! # Invariants (of `core`)
//!
//! 1. An item is in exactly one place: `sent = received + dropped + abandoned + in flight + queued now`. One that was not
//!    accepted (`refused`, closed, cancelled) went back to its sender.
//! 2. A lane's `held` counts granted senders, permits and items in flight, `held_bytes` their bytes; queued and held
//!    together never exceed the bound, except as [`Bound::and_bytes`] says. So what comes back always finds room.
//! 3. `claimed` counts granted receivers; it never exceeds the number of items.
//! 4. Under the lock no user code runs: no waker is woken or cloned, no item measured or dropped.
//! 5. A receiver is told "closed" only when no item is left: one that is promised to another, or in flight, may come back.
//! 6. As long as an item is in flight the queue counts as received, though no receiving end be left.
//!
//! # End
//!
//! When the last sender is gone (or [`Rx::close`] was called) receivers get what is left and then `None`. When
//! the last receiver is gone senders get their item back with [`SendError::Closed`]; what was still queued is dropped and
//! counted as abandoned.

mod core;
mod delivery;
mod ends;
mod error;
mod few;
mod lane;
mod lanes;
mod line;
mod merge;
mod receiver;
mod sender;
mod stats;
mod stream;
mod waiting;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::carry::Cx;
use crate::site::Site;
use crate::testing::trial;
use lane::Limits;

pub use delivery::{Delivery, FreeDelivery};
pub use error::{SendError, TryRecvError};
pub(crate) use few::Few;
pub(crate) use merge::open as open_merged;
pub use merge::{FreeSource, FreeSources, FromSource, Source, Sources};
pub use receiver::{FreeRx, Rx};
pub use sender::{FreeTx, Permit, Tx};
pub use stats::{CloseReason, Holder, LaneStats, ObservedQueue, QueueStats, observe};
pub use stream::{FreeRxStream, RxStream};

/// How much a queue holds: a number of items, and optionally a number of bytes, and a number of urgent items besides.
pub struct Bound<T> {
    items: usize,
    bytes: Option<(usize, SizeOf<T>)>,
    urgent: usize,
}

/// Measures an item, in bytes.
type SizeOf<T> = fn(&T) -> usize;

impl<T> Bound<T> {
    /// Bounds the queue at `max` items.
    ///
    /// # Panics
    ///
    /// If `max` is 0: a queue without room is a different thing (a rendezvous), not a small queue.
    #[must_use]
    #[track_caller]
    pub fn items(max: usize) -> Self {
        assert!(max > 0, "a queue needs room for at least one item");
        Self { items: max, bytes: None, urgent: 0 }
    }

    /// Bounds it also at `max_bytes` in sum, as `size_of` measures each item.
    ///
    /// An item larger than `max_bytes` is admitted only into an empty queue, so that it is not stuck for ever. A
    /// [`Permit`] reserves a place, not bytes: it is granted while the queue is below the bound, and its item may exceed it.
    #[must_use]
    pub fn and_bytes(mut self, max_bytes: usize, size_of: fn(&T) -> usize) -> Self {
        self.bytes = Some((max_bytes, size_of));
        self
    }

    /// Gives it room for `max` urgent items besides, in a lane of their own that overtakes: see [`Tx::send_urgent`]. They are
    /// counted, not weighed.
    ///
    /// # Panics
    ///
    /// If `max` is 0: a queue without this call has no urgent lane.
    #[must_use]
    #[track_caller]
    pub fn and_urgent(mut self, max: usize) -> Self {
        assert!(max > 0, "an urgent lane needs room for at least one item");
        self.urgent = max;
        self
    }

    fn limits(&self) -> Limits {
        Limits { items: self.max_items(), bytes: self.max_bytes().unwrap_or(usize::MAX) }
    }

    pub(crate) fn max_items(&self) -> usize {
        trial::capacity(self.items)
    }

    pub(crate) fn has_urgent(&self) -> bool {
        self.urgent > 0
    }

    pub(crate) fn max_bytes(&self) -> Option<usize> {
        self.bytes.map(|(max, _)| max)
    }

    pub(crate) fn size_of(&self) -> Option<SizeOf<T>> {
        self.bytes.map(|(_, size_of)| size_of)
    }

    /// The bounds in items and bytes, for a buffer that keeps its items in one order, and how to measure one.
    ///
    /// # Panics
    ///
    /// If there is an urgent lane.
    #[track_caller]
    pub(crate) fn limits_of_one_lane(&self) -> (usize, usize, Option<SizeOf<T>>) {
        assert!(self.urgent == 0, "this buffer keeps its order: it has no urgent lane");
        let limits = self.limits();
        (limits.items, limits.bytes, self.size_of())
    }
}

impl<T> Clone for Bound<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Bound<T> {}

impl<T> fmt::Debug for Bound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("items", &self.items)
            .field("bytes", &self.max_bytes())
            .field("urgent", &self.urgent)
            .finish()
    }
}

/// What a send into a full queue does.
///
/// How long a blocked sender waits is the sender's own decision, and part of the send:
/// `timeout(patience, tx.send(item))` gives the item back when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The sender waits for room (backpressure).
    Block,
    /// The sender is refused at once and keeps its item (load shedding).
    Reject,
    /// The oldest items make room; they are dropped and counted.
    DropOldest,
    /// The new item is dropped and counted; the sender is not told.
    DropNewest,
    /// The queue closes: a consumer that is this far behind is cut off rather than served late or with gaps. The sender keeps its
    /// item ([`SendError::Closed`]); receivers get what was queued before and then the end, and
    /// [`Rx::close_reason`] tells them why, also before.
    Disconnect,
}

pub(crate) fn open<'t, T: Send + 'static>(
    cx: &'t Cx,
    site: &'static Site,
    bound: Bound<T>,
    overflow: Overflow,
) -> (Tx<'t, T>, Rx<'t, T>) {
    let chan = core::Chan::new(site, bound, overflow);
    observe(&chan);
    (Tx::new(cx, Arc::clone(&chan)), Rx::new(cx, chan))
}
