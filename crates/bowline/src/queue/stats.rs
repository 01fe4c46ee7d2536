//! What queues say of themselves, and the way for a program's own queues into the live tree.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use serde::Serialize;

use super::Overflow;

/// What a queue was and is, at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct QueueStats {
    /// Identity in the process.
    pub id: u64,
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// Items queued now, in all lanes.
    pub depth_items: usize,
    /// Bytes queued now, 0 if the queue does not count them.
    pub depth_bytes: usize,
    /// The bound in items, of all lanes together.
    pub max_items: usize,
    /// The bound in bytes, if there is one; of each source, if the queue is merged of several.
    pub max_bytes: Option<usize>,
    /// The most items that were ever queued.
    pub high_water_items: usize,
    /// How long the oldest item has been queued, in milliseconds, a few tens of them coarse; 0 if the queue is empty. A consumer that
    /// is stuck shows here first.
    pub oldest_ms: u64,
    /// The policy for "full".
    pub overflow: Overflow,
    /// Why it is closed, if it is.
    pub closed: Option<CloseReason>,
    /// Items accepted so far: sends that did not return an error.
    pub sent: u64,
    /// Items handed to receivers so far; one that was delivered counts once it is acknowledged.
    pub received: u64,
    /// Items delivered and not yet acknowledged. They take room in the queue.
    pub in_flight: usize,
    /// How often a delivered item came back without an acknowledgement.
    pub redelivered: u64,
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
    /// The part of the urgent lane in all this, if there is one.
    pub urgent: Option<LaneStats>,
    /// The part of each source, if the queue is merged of many; those that are gone are left out.
    pub sources: Vec<LaneStats>,
    /// Who holds sending ends: task id and number of ends.
    pub senders: Vec<Holder>,
    /// Who holds receiving ends.
    pub receivers: Vec<Holder>,
    /// Who holds items in flight: task id and number of items.
    pub deliveries: Vec<Holder>,
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
            oldest_ms: 0,
            overflow,
            closed: None,
            sent: 0,
            received: 0,
            in_flight: 0,
            redelivered: 0,
            dropped: 0,
            refused: 0,
            abandoned: 0,
            waits: 0,
            waiting_senders: 0,
            waiting_receivers: 0,
            urgent: None,
            sources: Vec::new(),
            senders: Vec::new(),
            receivers: Vec::new(),
            deliveries: Vec::new(),
        }
    }
}

/// What one lane of a queue was and is: its urgent lane, or a source of a merged queue.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LaneStats {
    /// `urgent`, or the name of the source.
    pub name: String,
    /// Items queued now.
    pub depth_items: usize,
    /// Bytes queued now, 0 if the lane does not count them.
    pub depth_bytes: usize,
    /// Items delivered and not yet acknowledged.
    pub in_flight: usize,
    /// The bound in items.
    pub max_items: usize,
    /// The most items that were ever queued.
    pub high_water_items: usize,
    /// How long the oldest item has been queued, in milliseconds; 0 if the lane is empty.
    pub oldest_ms: u64,
    /// Items accepted so far.
    pub sent: u64,
    /// Items handed to receivers so far.
    pub received: u64,
    /// How often a delivered item came back without an acknowledgement.
    pub redelivered: u64,
    /// Accepted items dropped by `DropOldest` and `DropNewest`.
    pub dropped: u64,
    /// Items refused because the lane was full.
    pub refused: u64,
    /// How often a sender had to wait.
    pub waits: u64,
    /// Senders in line now.
    pub waiting_senders: usize,
}

/// Why a queue is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CloseReason {
    /// The last sending end went. Everything was sent.
    SendersGone,
    /// The last receiving end went. What was queued then is abandoned.
    ReceiversGone,
    /// A receiver closed it.
    ByReceiver,
    /// A send met a full queue whose policy is [`Overflow::Disconnect`]. What the sender had to say after that is missing.
    Overflow,
}

impl CloseReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            CloseReason::SendersGone => "no sender is left",
            CloseReason::ReceiversGone => "no receiver is left",
            CloseReason::ByReceiver => "a receiver closed it",
            CloseReason::Overflow => "it overflowed",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many handles, or items in flight, somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The task, `None` if the holder is unknown (the end was freed).
    pub task: Option<u64>,
    /// How many.
    pub ends: u32,
}

/// A queue that can say what it holds: ours, or one of a program's own that is to stand in the live tree ([`observe`]).
pub trait ObservedQueue: Send + Sync {
    /// Returns what the queue was and is. It is called by whoever looks at the tree, and must not wait.
    fn stats(&self) -> QueueStats;

    /// Returns where the queue was made, for [alerts](crate::on_alert) about it; where that is not known they have the place
    /// of the task that lists it.
    fn place(&self) -> Option<&'static Location<'static>> {
        None
    }
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
