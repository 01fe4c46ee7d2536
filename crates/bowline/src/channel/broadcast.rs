//! Every item to every receiver, through a ring of the last items. Senders never wait; who is too slow is told.
//!
//! # Invariants
//!
//! 1. The ring holds the items numbered `first` to `first + ring.len()`; it never holds more than `capacity`.
//! 2. `unread` of a slot is the number of receivers that have not come to it. It does not fall from one slot to the next,
//!    so an item is given up from the front, and as soon as everybody has read it.
//! 3. A receiver's mark is the number of the next item it reads. Below `first` it has lagged.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use super::core::{After, Inside, Seat, Side, State, end};
use super::wait::{Waiter, Waiters, until};
use super::{BroadcastError, ChannelStats, Lagged, ObservedChannel, core};
use crate::carry::{Bind, Carry, Cx};
use crate::holders::{FREE, IN_TRANSIT};
use crate::site::Site;
use crate::wait::Op;

pub(super) struct Broadcast<T> {
    ring: VecDeque<Slot<T>>,
    first: u64,
    capacity: usize,
    waiters: Waiters,
}

struct Slot<T> {
    item: Arc<T>,
    unread: u32,
}

/// A ring that everybody has read gives its buffer back if it is larger than this many items.
const KEPT_WHEN_EMPTY: usize = 16;

impl<T> Broadcast<T> {
    /// The slots a receiver with that mark has not read.
    fn unread(&mut self, mark: u64) -> impl Iterator<Item = &mut Slot<T>> {
        let read = usize::try_from(mark.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.ring.iter_mut().skip(read)
    }

    /// Takes the item everybody has read from the front, if there is one.
    fn take_read(&mut self) -> Option<Arc<T>> {
        if self.ring.front()?.unread > 0 {
            return None;
        }
        self.first += 1;
        let read = self.ring.pop_front()?.item;
        if self.ring.is_empty() && self.ring.capacity() > KEPT_WHEN_EMPTY {
            self.ring = VecDeque::new(); // an idle broadcast keeps no memory of its worst moment
        }
        Some(read)
    }
}

impl<T> State for Broadcast<T> {
    const KIND: &'static str = "broadcast";
    type Scrap = Arc<T>;

    /// A new receiver reads what is sent from now on.
    fn start(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    fn copied(&mut self, side: Side, mark: u64) {
        if side == Side::Receiving {
            self.unread(mark).for_each(|slot| slot.unread += 1);
        }
    }

    fn left(inside: &mut Inside<Self>, side: Side, mark: u64, after: &mut After<Arc<T>>) {
        match side {
            Side::Sending if !inside.has_senders() => inside.own.waiters.wake_all(after),
            Side::Sending => {}
            Side::Receiving => {
                for slot in inside.own.unread(mark) {
                    slot.unread -= 1;
                    inside.abandoned += 1;
                }
                while let Some(read) = inside.own.take_read() {
                    after.drop.push(read);
                }
            }
        }
    }

    fn fill(&self, stats: &mut ChannelStats) {
        stats.depth_items = self.ring.len();
        stats.max_items = self.capacity;
        stats.waiting_receivers = self.waiters.len();
    }

    fn waiters(&self, see: &mut dyn FnMut(&Waiter, bool)) {
        self.waiters.iter().for_each(|waiter| see(waiter, false)); // an item takes them off the list
    }

    fn has_fired(&self) -> bool {
        false // that is each receiver's own matter
    }
}

/// What a receiver finds at its mark.
enum Found<T> {
    Item(u64, Arc<T>),
    Lagged(Lagged),
    Ended,
}

/// Looks at what is next for the receiver with that mark, and moves the mark on. `None`: nothing yet.
fn take<T>(inside: &mut Inside<Broadcast<T>>, mark: &mut u64) -> Option<Found<T>> {
    let first = inside.own.first;
    if *mark < first {
        let missed = first - std::mem::replace(mark, first);
        return Some(Found::Lagged(Lagged { missed, resume_from: first }));
    }
    let Some(slot) = inside.own.unread(*mark).next() else {
        return (!inside.has_senders()).then_some(Found::Ended);
    };
    slot.unread -= 1;
    let item = Arc::clone(&slot.item);
    // Was it the last to read it, this is the second reference to the same item: no drop of one under the lock.
    drop(inside.own.take_read());
    inside.received += 1;
    let sequence = *mark;
    *mark += 1;
    Some(Found::Item(sequence, item))
}

pub(crate) fn open<'t, T: Send + Sync + 'static>(
    cx: &'t Cx,
    site: &'static Site,
    capacity: usize,
) -> (BroadcastTx<'t, T>, BroadcastRx<'t, T>) {
    let own = Broadcast { ring: VecDeque::new(), first: 0, capacity, waiters: Waiters::default() };
    let (sending, receiving) = core::open(cx, site, own);
    (BroadcastTx::at(sending), BroadcastRx::at(receiving))
}

end! {
    /// The sending end of a broadcast, held by a task. Cloning it gives the same task a second one.
    BroadcastTx,
    /// A [`BroadcastTx`] that may be kept and sent anywhere. Its holder counts as unknown.
    FreeBroadcastTx,
    Broadcast of Send, Sync
}

end! {
    /// The receiving end of a broadcast, held by a task: it gets every item that is sent while it lives.
    ///
    /// A clone goes on where the original is; [`subscribe`](Self::subscribe) begins with what is sent next.
    BroadcastRx,
    /// A [`BroadcastRx`] that may be kept and sent anywhere. Its holder counts as unknown.
    FreeBroadcastRx,
    Broadcast of Send, Sync
}

impl<T> Clone for BroadcastTx<'_, T> {
    fn clone(&self) -> Self {
        Self::at(self.seat.clone())
    }
}

impl<T> Clone for BroadcastRx<'_, T> {
    fn clone(&self) -> Self {
        Self::at(self.seat.clone())
    }
}

/// What became of an item that was sent to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Its number: items are numbered from 0, in the order in which they were sent.
    pub sequence: u64,
    /// How many receivers there were. Without any the item is gone, and was counted.
    pub receivers: u32,
}

impl<'t, T: Send + Sync + 'static> BroadcastTx<'t, T> {
    /// Sends `item` to every receiver there is now. It never waits: if the ring is full, the oldest item is overwritten and
    /// those that had not read it get [`Lagged`].
    pub fn send(&self, item: T) -> Sent {
        let item = Arc::new(item);
        let (sent, _overwritten) = self.seat.chan.with(|inside, after| {
            let sent = Sent { sequence: inside.own.start(), receivers: inside.receivers.total() };
            inside.sent += 1;
            if sent.receivers == 0 {
                // Nobody is left who could have unread items, so the ring is empty.
                inside.own.first += 1;
                inside.abandoned += 1;
                return (sent, Some(item));
            }
            let mut overwritten = None;
            if inside.own.ring.len() == inside.own.capacity {
                let oldest = inside.own.ring.pop_front();
                inside.own.first += 1;
                inside.missed += oldest.as_ref().map_or(0, |slot| u64::from(slot.unread));
                overwritten = oldest.map(|slot| slot.item);
            }
            inside.own.ring.push_back(Slot { item, unread: sent.receivers });
            inside.own.waiters.wake_all(after);
            (sent, overwritten)
        });
        sent
    }

    /// Makes a receiving end with the same holder, for what is sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> BroadcastRx<'t, T> {
        BroadcastRx::at(self.seat.subscribe())
    }

    /// Returns whether no receiver is left now.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.chan.with(|inside, _| !inside.has_receivers())
    }
}

impl<'t, T: Clone + Send + Sync + 'static> BroadcastRx<'t, T> {
    /// Waits for the next item; `None` when all were read and no sender is left.
    ///
    /// The item is cloned for each receiver but the last one to read it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: the item stays for the next call.
    ///
    /// # Errors
    ///
    /// [`BroadcastError::Lagged`] if items were overwritten before this end had read them: it says which, and the next call
    /// goes on after them. [`BroadcastError::Cancelled`] when the receiver's context was cancelled; nothing was taken.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{BroadcastError, Cancelled, scope};
    ///
    /// scope("events", async |s| {
    ///     let (tx, mut rx) = s.broadcast("events", 2);
    ///     let mut history = Vec::new();
    ///     for event in ["a", "b", "c"] {
    ///         history.push(event);
    ///         tx.send(event);
    ///     }
    ///     drop(tx);
    ///     let mut seen = Vec::new();
    ///     loop {
    ///         match rx.recv().await {
    ///             Ok(Some(event)) => seen.push(event),
    ///             Ok(None) => break,
    ///             Err(BroadcastError::Lagged(lagged)) => {
    ///                 let end = lagged.resume_from as usize;
    ///                 seen.extend(&history[end - lagged.missed as usize..end]);
    ///             }
    ///             Err(BroadcastError::Cancelled(cancelled)) => return Err(cancelled),
    ///         }
    ///     }
    ///     assert_eq!(seen, ["a", "b", "c"]);
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<T>, BroadcastError>> {
        let numbered = self.recv_numbered();
        async move { Ok(numbered.await?.map(|(_, item)| item)) }
    }

    /// As [`recv`](Self::recv), with the item's sequence number.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    #[track_caller]
    pub fn recv_numbered(&mut self) -> impl Future<Output = Result<Option<(u64, T)>, BroadcastError>> {
        let at = Location::caller();
        async move {
            let Seat { chan, mark, .. } = &mut self.seat;
            let found = until(chan, Op::Recv, at, |own| &mut own.waiters, |inside| take(inside, mark));
            Ok(cloned(found.await?)?)
        }
    }

    /// Takes the next item if it is there; `None` if not, be it for now or for ever.
    ///
    /// # Errors
    ///
    /// [`Lagged`], as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<T>, Lagged> {
        let Seat { chan, mark, .. } = &mut self.seat;
        let Some(found) = chan.with(|inside, _| take(inside, mark)) else { return Ok(None) };
        Ok(cloned(found)?.map(|(_, item)| item))
    }
}

/// Makes the receiver's own item, outside of the lock; the last to have a reference takes it as it is.
fn cloned<T: Clone>(found: Found<T>) -> Result<Option<(u64, T)>, Lagged> {
    match found {
        Found::Item(sequence, item) => Ok(Some((sequence, Arc::unwrap_or_clone(item)))),
        Found::Lagged(lagged) => Err(lagged),
        Found::Ended => Ok(None),
    }
}

impl<'t, T: Send + Sync + 'static> BroadcastRx<'t, T> {
    /// Makes a receiving end with the same holder, for what is sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> BroadcastRx<'t, T> {
        BroadcastRx::at(self.seat.subscribe())
    }

    /// Returns the sequence number of the next item this end reads, if it is not overwritten first.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.seat.mark
    }

    /// Returns how many items were sent that this end has not read, missed ones included.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.seat.chan.with(|inside, _| inside.own.start() - self.seat.mark)
    }

    /// Returns whether no sender is left: what is unread is the rest.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.chan.with(|inside, _| !inside.has_senders())
    }
}
