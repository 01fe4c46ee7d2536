//! Bounded queues: many senders, many receivers, first come first served, and a stated policy for "full".
//!
//! Ends carry the lifetime of the task that holds them ([`Tx`], [`Rx`]) or are free ([`FreeTx`], [`FreeRx`]); both are thin
//! fronts of the same core. Whoever waits for room or for an item has a place in line; what is granted to a place that
//! is given up goes to the next.
//!
//! # Invariants (of `core`)
//!
//! 1. An item is in exactly one place: `sent = received + dropped + abandoned + queued now`. One that was not accepted
//!    (`refused`, closed, cancelled) went back to its sender.
//! 2. `reserved` counts granted senders and permits, `reserved_bytes` their bytes; queued and reserved together never exceed
//!    the bound, except as [`Bound::and_bytes`] says.
//! 3. `claimed` counts granted receivers; it never exceeds the number of items.
//! 4. No waker is woken, no item measured and none dropped under the lock.
//! 5. A receiver is told "closed" only when no item is left: one that is promised to another may still come back.
//!
//! # End
//!
//! When the last sender is gone (or [`Rx::close`] was called) receivers get what is left and then `None`. When
//! the last receiver is gone senders get their item back with [`SendError::Closed`]; what was still queued is dropped and
//! counted as abandoned.

mod core;
mod ends;
mod error;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::carry::Cx;
use crate::site::Site;

pub use ends::{FreeRx, FreeTx, Permit, Rx, Tx};
pub use error::{SendError, TryRecvError};

/// How much a queue holds: a number of items, and optionally a number of bytes.
pub struct Bound<T> {
    items: usize,
    bytes: Option<(usize, SizeOf<T>)>,
}

/// Measures an item, in bytes.
type SizeOf<T> = fn(&T) -> usize;

impl<T> Bound<T> {
    /// At most `max` items.
    ///
    /// # Panics
    ///
    /// If `max` is 0: a queue without room is a different thing (a rendezvous), not a small queue.
    #[must_use]
    #[track_caller]
    pub fn items(max: usize) -> Self {
        assert!(max > 0, "a queue needs room for at least one item");
        Self { items: max, bytes: None }
    }

    /// And at most `max_bytes` in sum, as `size_of` measures each item.
    ///
    /// An item larger than `max_bytes` is admitted only into an empty queue, so that it is not stuck for ever. A
    /// [`Permit`] reserves a place, not bytes: it is granted while the queue is below the bound, and its item may exceed it.
    #[must_use]
    pub fn and_bytes(mut self, max_bytes: usize, size_of: fn(&T) -> usize) -> Self {
        self.bytes = Some((max_bytes, size_of));
        self
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
            .field("bytes", &self.bytes.map(|(max, _)| max))
            .finish()
    }
}

/// What a send into a full queue does.
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
}

/// What a queue was and is, at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct QueueStats {
    /// Identity in the process.
    pub id: u64,
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// Items queued now.
    pub depth_items: usize,
    /// Bytes queued now, 0 if the queue does not count them.
    pub depth_bytes: usize,
    /// The bound in items.
    pub max_items: usize,
    /// The bound in bytes, if there is one.
    pub max_bytes: Option<usize>,
    /// The most items that were ever queued.
    pub high_water_items: usize,
    /// The policy for "full".
    pub overflow: Overflow,
    /// Items accepted so far: sends that did not return an error.
    pub sent: u64,
    /// Items handed to receivers so far.
    pub received: u64,
    /// Accepted items dropped by `DropOldest` and `DropNewest`.
    pub dropped: u64,
    /// Items refused because the queue was full.
    pub refused: u64,
    /// Items still queued when the last receiver went.
    pub abandoned: u64,
    /// How often a sender or receiver had to wait.
    pub waits: u64,
    /// Senders in line now.
    pub waiting_senders: usize,
    /// Receivers in line now.
    pub waiting_receivers: usize,
    /// Who holds sending ends: task id and number of ends.
    pub senders: Vec<Holder>,
    /// Who holds receiving ends.
    pub receivers: Vec<Holder>,
}

impl QueueStats {
    /// Returns the statistics of a queue that never held anything, to be filled in.
    #[must_use]
    #[track_caller]
    pub fn named(name: &'static str, overflow: Overflow) -> Self {
        let place = std::panic::Location::caller();
        Self {
            id: 0,
            name,
            place: format!("{}:{}", place.file(), place.line()),
            depth_items: 0,
            depth_bytes: 0,
            max_items: 0,
            max_bytes: None,
            high_water_items: 0,
            overflow,
            sent: 0,
            received: 0,
            dropped: 0,
            refused: 0,
            abandoned: 0,
            waits: 0,
            waiting_senders: 0,
            waiting_receivers: 0,
            senders: Vec::new(),
            receivers: Vec::new(),
        }
    }
}

/// How many handles somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The task, `None` if the holder is unknown (the end was freed).
    pub task: Option<u64>,
    /// How many handles.
    pub ends: u32,
}

/// A queue that can say what it holds: ours, or one of a program's own that is to stand in the live tree ([`observe`]).
pub trait ObservedQueue: Send + Sync {
    /// Returns what the queue was and is. It is called by whoever looks at the tree, and must not wait.
    fn stats(&self) -> QueueStats;
}

/// Lists a queue of the program's own in the live tree, below the current task, for as long as both live.
///
/// Outside of any Bowline task nothing happens.
///
/// # Examples
///
/// ```
/// # use std::sync::{Arc, Mutex};
/// # use bowline::{ObservedQueue, Overflow, QueueStats};
/// struct Mailbox(Mutex<Vec<String>>);
///
/// impl ObservedQueue for Mailbox {
///     fn stats(&self) -> QueueStats {
///         let depth_items = self.0.lock().unwrap().len();
///         QueueStats { depth_items, max_items: 100, ..QueueStats::named("mailbox", Overflow::Reject) }
///     }
/// }
///
/// # bowline::testing::example(async {
/// let mailbox = Arc::new(Mailbox(Mutex::default()));
/// bowline::observe(&mailbox);
/// assert!(bowline::tree().to_string().contains("mailbox"));
/// # });
/// ```
pub fn observe<Q: ObservedQueue + 'static>(queue: &Arc<Q>) {
    if let Some(record) = crate::record::current() {
        let queue: Arc<dyn ObservedQueue> = Arc::clone(queue) as _;
        record.list_queue(Arc::downgrade(&queue));
    }
}

pub(crate) fn open<'t, T: Send + 'static>(
    cx: &'t Cx,
    site: &'static Site,
    bound: Bound<T>,
    overflow: Overflow,
) -> (Tx<'t, T>, Rx<'t, T>) {
    let chan = core::Chan::new(site, bound, overflow);
    if let Some(record) = crate::record::current() {
        let view: Arc<dyn ObservedQueue> = chan.clone();
        record.list_queue(Arc::downgrade(&view));
    }
    ends::open(cx, chan)
}
