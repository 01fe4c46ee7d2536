//! Publications that have their place in their channel and wait to be kept, before they are delivered and acknowledged.
//!
//! ```text
//! publish ─▶ channel's lock: room in the line, append, into the line ─▶ commit ─▶ task "delivery": channel's lock: deliver
//!                                                                                                     └─▶ the publisher
//! ```
//!
//! With a store that commits at once there is no line: who publishes delivers. With one on disk a publication stands in a line
//! from its append to its commit, and a task of the server delivers it. So it does not matter what has become of the publisher
//! meanwhile, and nobody is told of what a failure takes back. There are a few lines, so that fan-outs of several channels run
//! side by side; a channel keeps to one as long as anything of it is in there. What is synced and what is only written stand in
//! lines apart: the latter need not wait for a sync, except for the first publication of a stream, which is always synced, and
//! with it what stands behind it in its line.
//!
//! # Invariants
//!
//! 1. Publications of a channel go into the line under the channel's lock, in the order of their offsets, and come out in that
//!    order: the order of delivery is that of the offsets. As long as one is in there, those without an offset go there too.
//! 2. Room (`room`) is taken before the append, so that what was appended never finds the line full. It is given back when the
//!    publication is delivered.
//! 3. The publisher is told behind the delivery, so its own push is in its queue before its answer.
//! 4. What was not committed is delivered to nobody, and its publisher gets an error.
//! 5. A channel stays in the table while anything of it is in a line: who subscribes meanwhile meets it there.
//!
//! # End
//!
//! When the last connection is gone the lines are closed; what is in them is delivered, to nobody, and the tasks end. A server
//! that is cut off leaves what was stored and not delivered to recovery.

use std::sync::Arc;
use std::thread::available_parallelism;

use bowline::{Bound, Cancelled, Either, FreeRx, FreeTx, Overflow, Permit, Scope, SendError, race};
use bowline_store::{Appended, Commit, Durability, Receipt, StoreError};
use tokio::sync::watch;
use tokio::task::coop;

use super::Node;
use super::channel::Channel;
use super::forms::Forms;
use super::publish::placed;
use super::room::{Room, Rooms};

/// More lines than this do not make it faster: what a disk commits at once is delivered in a moment.
const MAX_LINES: usize = 8;

/// What a place in a line costs besides the data.
const ITEM_BYTES: usize = size_of::<Late>() + 256;

/// A publication that waits for its commit.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) channel: Arc<Channel>,
    pub(super) receipt: Receipt<Appended>,
    /// What is delivered; `None` if it was there before.
    pub(super) forms: Option<Forms>,
    pub(super) makes_delta: bool,
    /// Resolved when it is delivered.
    pub(super) told: Commit,
    pub(super) room: Room,
}

/// A place in a line, and the room for what goes there.
pub(super) struct Place<'a> {
    pub(super) permit: Permit<'a, Late>,
    pub(super) room: Room,
}

/// The lines of a node whose store is on disk.
#[derive(Debug)]
pub(super) struct Lines {
    /// Of those that are synced.
    synced: Box<[FreeTx<Late>]>,
    /// Of those that are only written.
    written: Box<[FreeTx<Late>]>,
    /// Of all lines, in this order.
    rooms: Rooms,
    max_bytes: usize,
    ended: watch::Sender<bool>,
}

impl Lines {
    /// Opens the lines and starts their tasks in the scope of the server; in all lines together there is room for `max_bytes`.
    pub(super) fn open(node: &Arc<Node>, s: &Scope<Cancelled>, max_bytes: usize) -> Self {
        let count = available_parallelism().map_or(1, usize::from).min(MAX_LINES);
        let (ended, _) = watch::channel(false);
        let open = |_| {
            // Room for everything that `rooms` admits.
            let bound = Bound::items(max_bytes / ITEM_BYTES + 2);
            let (tx, rx) = s.queue("delivery", bound, Overflow::Reject);
            s.spawn("delivery", deliver(Arc::clone(node), rx.free(), ended.subscribe()));
            tx.free()
        };
        let (synced, written) = ((0..count).map(open).collect(), (0..count).map(open).collect());
        Self { synced, written, rooms: Rooms::new(2 * count, max_bytes), max_bytes, ended }
    }

    /// Takes room for so many bytes of data in the line of `channel`.
    pub(super) fn reserve(
        &self,
        channel: &Arc<Channel>,
        durability: Durability,
        data_bytes: usize,
    ) -> Result<Place<'_>, StoreError> {
        let (lines, before) = match durability {
            Durability::Always => (&self.synced, 0),
            _ => (&self.written, self.synced.len()),
        };
        // Where the channel lies is its own as long as anything of it waits (invariant 5); the low bits are always the same.
        let index = (Arc::as_ptr(channel) as usize >> 7) % lines.len();
        let full = StoreError::Overloaded { limit_bytes: self.max_bytes };
        let Some(room) = self.rooms.take(before + index, ITEM_BYTES + data_bytes) else { return Err(full) };
        match lines[index].try_reserve() {
            Ok(permit) => Ok(Place { permit, room }),
            Err(SendError::Closed(())) => Err(StoreError::Closed),
            Err(_) => Err(full),
        }
    }

    /// Lets the tasks end when the lines are empty.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Publications in all lines.
    pub(super) fn depth(&self) -> usize {
        self.synced.iter().chain(&self.written).map(FreeTx::depth).sum()
    }
}

/// Delivers what comes out of one line, until that is empty after the end.
///
/// # Cancel safety
///
/// What is in the line is not delivered any more, and its publishers learn that nobody knows what became of it.
async fn deliver(
    node: Arc<Node>,
    line: FreeRx<Late>,
    mut ended: watch::Receiver<bool>,
) -> Result<(), Cancelled> {
    loop {
        let late = match line.try_recv() {
            Ok(late) => late,
            Err(_) if *ended.borrow() => return Ok(()),
            Err(_) => match race(line.recv(), ended.changed()).await {
                Either::Left(Ok(Some(late))) => late,
                Either::Left(Ok(None)) => return Ok(()),
                Either::Left(Err(cancelled)) => return Err(cancelled),
                Either::Right(_) => continue,
            },
        };
        // A fan-out can be long: others run in between.
        coop::consume_budget().await;
        let Late { channel, receipt, forms, makes_delta, told, room } = late;
        match receipt.await {
            Ok(appended) => {
                let (position, _) = placed(appended);
                node.deliver_late(&channel, forms, makes_delta, position.as_ref());
                told.resolve(Ok(()));
            }
            Err(error) => {
                node.not_kept(&channel, &error);
                told.resolve(Err(error));
            }
        }
        drop(room);
    }
}
