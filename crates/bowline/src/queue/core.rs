//! The queue itself: one lock, two lines of waiters, and the books. See the invariants in the module above.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::{Bound, Holder, ObservedQueue, Overflow, QueueStats, SendError, TryRecvError};
use crate::holders::{FREE, Holders, IN_TRANSIT};
use crate::record::next_id;
use crate::site::Site;
use crate::sync::LockExt;

pub(super) struct Chan<T> {
    pub(super) id: u64,
    site: &'static Site,
    bound: Bound<T>,
    overflow: Overflow,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: VecDeque<Queued<T>>,
    bytes: usize,
    /// Room promised to granted senders and permits.
    reserved: usize,
    /// The bytes promised with that room.
    reserved_bytes: usize,
    /// Items promised to granted receivers.
    claimed: usize,
    closed: bool,
    senders: Holders,
    receivers: Holders,
    room_line: Line,
    item_line: Line,
    high_water: usize,
    sent: u64,
    received: u64,
    dropped: u64,
    refused: u64,
    abandoned: u64,
    waits: u64,
}

/// An item and its size as it was measured when it came, once: measuring is user code.
struct Queued<T> {
    item: T,
    bytes: usize,
}

/// What a permit reserves of a bound in bytes. Its item's size is not known yet; a byte stands for "below the bound".
pub(super) const PERMIT_BYTES: usize = 1;

/// Waiters in the order in which they were first polled. Ids rise, so the line is sorted by them.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiter>,
    /// Ids and bytes of those that were granted and have not come to take it.
    granted: Vec<(u64, usize)>,
    next: u64,
}

struct Waiter {
    id: u64,
    bytes: usize,
    waker: Waker,
}

impl Line {
    fn join(&mut self, bytes: usize, waker: Waker) -> u64 {
        self.next += 1;
        self.waiting.push_back(Waiter { id: self.next, bytes, waker });
        self.next
    }

    /// Returns the bytes that were granted, if the place was.
    fn take_grant(&mut self, id: u64) -> Option<usize> {
        let at = self.granted.iter().position(|(granted, _)| *granted == id)?;
        Some(self.granted.swap_remove(at).1)
    }

    /// Returns the replaced waker, to be dropped outside the lock.
    fn renew(&mut self, id: u64, waker: &Waker) -> Option<Waker> {
        let at = self.waiting.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
        let waiter = &mut self.waiting[at];
        if waiter.waker.will_wake(waker) {
            return None;
        }
        Some(std::mem::replace(&mut waiter.waker, waker.clone()))
    }

    fn leave(&mut self, id: u64) -> Option<Waiter> {
        let at = self.waiting.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
        self.waiting.remove(at)
    }

    fn grant_first(&mut self) -> Option<Waker> {
        let first = self.waiting.pop_front()?;
        self.granted.push((first.id, first.bytes));
        Some(first.waker)
    }
}

impl<T> State<T> {
    fn reserve(&mut self, bytes: usize) {
        self.reserved += 1;
        self.reserved_bytes = self.reserved_bytes.saturating_add(bytes);
    }

    fn unreserve(&mut self, bytes: usize) {
        self.reserved -= 1;
        self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
    }

    fn pop_oldest(&mut self) -> Option<T> {
        let Queued { item, bytes } = self.items.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(item)
    }

    /// Whether a receiver that finds nothing for itself may be told that nothing will come. As long as an item is promised to
    /// another receiver, that one may give it back.
    fn is_exhausted(&self) -> bool {
        self.closed && self.items.is_empty()
    }
}

/// What has to happen after the lock is released (invariant 4).
struct After<T> {
    wake: Vec<Waker>,
    drop: Vec<T>,
}

impl<T> Default for After<T> {
    fn default() -> Self {
        Self { wake: Vec::new(), drop: Vec::new() }
    }
}

impl<T> After<T> {
    fn wake_all(&mut self, line: &mut Line) {
        self.wake.extend(line.waiting.drain(..).map(|waiter| waiter.waker));
    }

    fn run(self) {
        self.wake.into_iter().for_each(Waker::wake);
        drop(self.drop);
    }
}

/// What a sender is told.
pub(super) enum Offered<T> {
    Done,
    /// In line: the item comes back, to be offered again when the place is granted.
    Wait(T, u64),
}

impl<T> Chan<T> {
    pub(super) fn new(site: &'static Site, mut bound: Bound<T>, overflow: Overflow) -> Arc<Self> {
        bound.items = crate::testing::trial::capacity(bound.items);
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            reserved: 0,
            reserved_bytes: 0,
            claimed: 0,
            closed: false,
            senders: Holders::default(),
            receivers: Holders::default(),
            room_line: Line::default(),
            item_line: Line::default(),
            high_water: 0,
            sent: 0,
            received: 0,
            dropped: 0,
            refused: 0,
            abandoned: 0,
            waits: 0,
        };
        Arc::new(Self { id: next_id(), site, bound, overflow, state: Mutex::new(state) })
    }

    pub(super) fn name(&self) -> &'static str {
        self.site.name
    }

    pub(super) fn size(&self, item: &T) -> usize {
        self.bound.bytes.map_or(0, |(_, size_of)| size_of(item))
    }

    fn has_room(&self, state: &State<T>, bytes: usize) -> bool {
        let in_items = state.items.len() + state.reserved < self.bound.items;
        let in_bytes = self.bound.bytes.is_none_or(|(max, _)| {
            let taken = state.bytes.saturating_add(state.reserved_bytes);
            taken.saturating_add(bytes) <= max || (state.items.is_empty() && state.reserved == 0)
        });
        in_items && in_bytes
    }

    fn with<R>(&self, act: impl FnOnce(&mut State<T>, &mut After<T>) -> R) -> R {
        let mut after = After::default();
        let result = act(&mut self.state.lock_unpoisoned(), &mut after);
        after.run();
        result
    }

    fn push(state: &mut State<T>, after: &mut After<T>, item: T, bytes: usize) {
        state.items.push_back(Queued { item, bytes });
        state.bytes = state.bytes.saturating_add(bytes);
        state.sent += 1;
        state.high_water = state.high_water.max(state.items.len());
        Self::grant_item(state, after);
    }

    /// Promises an item that is promised to nobody to whoever is first in line.
    fn grant_item(state: &mut State<T>, after: &mut After<T>) {
        if state.items.len() > state.claimed {
            if let Some(waker) = state.item_line.grant_first() {
                state.claimed += 1;
                after.wake.push(waker);
            }
        }
    }

    fn pop(&self, state: &mut State<T>, after: &mut After<T>) -> Option<T> {
        let item = state.pop_oldest()?;
        state.received += 1;
        self.grant_room(state, after);
        if state.is_exhausted() {
            after.wake_all(&mut state.item_line);
        }
        if state.items.is_empty() && state.items.capacity() > KEPT_WHEN_EMPTY {
            state.items = VecDeque::new(); // an idle queue keeps no memory of its worst moment
        }
        Some(item)
    }

    /// Gives freed room to whoever is first in line, as long as the first fits.
    fn grant_room(&self, state: &mut State<T>, after: &mut After<T>) {
        while let Some(first) = state.room_line.waiting.front() {
            if !self.has_room(state, first.bytes) {
                return;
            }
            let bytes = first.bytes;
            state.reserve(bytes);
            after.wake.extend(state.room_line.grant_first());
        }
    }

    // ---- sending

    /// Offers an item. `waker` is the place in line to take if the queue is full and its policy is to wait.
    pub(super) fn offer(&self, item: T, waker: Option<&Waker>) -> Result<Offered<T>, SendError<T>> {
        let bytes = self.size(&item);
        self.with(|state, after| {
            if state.closed {
                return Err(SendError::Closed(item));
            }
            let first = state.room_line.waiting.is_empty();
            if first && self.has_room(state, bytes) {
                Self::push(state, after, item, bytes);
                return Ok(Offered::Done);
            }
            match self.overflow {
                Overflow::Block => match waker {
                    Some(waker) => {
                        state.waits += 1;
                        Ok(Offered::Wait(item, state.room_line.join(bytes, waker.clone())))
                    }
                    None => {
                        state.refused += 1;
                        Err(SendError::Full(item))
                    }
                },
                Overflow::Reject => {
                    state.refused += 1;
                    Err(SendError::Full(item))
                }
                Overflow::DropNewest => {
                    state.sent += 1;
                    state.dropped += 1;
                    after.drop.push(item);
                    Ok(Offered::Done)
                }
                Overflow::DropOldest => {
                    // Items promised to receivers are not taken back from them (invariant 3).
                    while !self.has_room(state, bytes) && state.items.len() > state.claimed {
                        let Some(oldest) = state.pop_oldest() else { break };
                        state.dropped += 1;
                        after.drop.push(oldest);
                    }
                    if self.has_room(state, bytes) {
                        Self::push(state, after, item, bytes);
                    } else {
                        state.sent += 1;
                        state.dropped += 1;
                        after.drop.push(item);
                    }
                    Ok(Offered::Done)
                }
            }
        })
    }

    /// Takes the place in line up again: `Ok(Some(bytes))` = granted, the room is now the caller's.
    pub(super) fn room_granted(&self, id: u64, waker: &Waker) -> Result<Option<usize>, ()> {
        let (answer, _stale) = {
            let mut state = self.state.lock_unpoisoned();
            let granted = state.room_line.take_grant(id);
            match granted {
                Some(bytes) if state.closed => {
                    state.unreserve(bytes);
                    (Err(()), None)
                }
                None if state.closed => (Err(()), None),
                Some(bytes) => (Ok(Some(bytes)), None),
                None => (Ok(None), state.room_line.renew(id, waker)),
            }
        };
        answer
    }

    /// Asks for room for an item to come. `Ok(None)` = granted.
    pub(super) fn ask_room(&self, waker: Option<&Waker>) -> Result<Option<u64>, SendError<()>> {
        let mut state = self.state.lock_unpoisoned();
        if state.closed {
            return Err(SendError::Closed(()));
        }
        if state.room_line.waiting.is_empty() && self.has_room(&state, PERMIT_BYTES) {
            state.reserve(PERMIT_BYTES);
            return Ok(None);
        }
        match waker {
            Some(waker) if self.overflow == Overflow::Block => {
                state.waits += 1;
                Ok(Some(state.room_line.join(PERMIT_BYTES, waker.clone())))
            }
            _ => {
                state.refused += 1;
                Err(SendError::Full(()))
            }
        }
    }

    /// Puts an item of that size into room that was granted with `reserved` bytes.
    pub(super) fn commit(&self, item: T, bytes: usize, reserved: usize) -> Result<(), SendError<T>> {
        self.with(|state, after| {
            state.unreserve(reserved);
            if state.closed {
                return Err(SendError::Closed(item));
            }
            Self::push(state, after, item, bytes);
            self.grant_room(state, after); // it may be smaller than what was reserved for it
            Ok(())
        })
    }

    /// Gives granted room back unused.
    pub(super) fn release(&self, reserved: usize) {
        self.with(|state, after| {
            state.unreserve(reserved);
            self.grant_room(state, after);
        });
    }

    /// Gives up a place in line, and what was granted to it.
    pub(super) fn leave_room_line(&self, id: u64) {
        let _left = self.with(|state, after| {
            if let Some(bytes) = state.room_line.take_grant(id) {
                state.unreserve(bytes);
                self.grant_room(state, after);
                return None;
            }
            let left = state.room_line.leave(id);
            self.grant_room(state, after); // the next in line may be smaller
            left
        });
    }

    // ---- receiving

    /// Takes the first item that is promised to nobody.
    pub(super) fn take(&self) -> Result<T, TryRecvError> {
        self.with(|state, after| {
            if state.items.len() > state.claimed {
                if let Some(item) = self.pop(state, after) {
                    return Ok(item);
                }
            }
            Err(if state.is_exhausted() { TryRecvError::Closed } else { TryRecvError::Empty })
        })
    }

    /// Takes the first item, or a place in line for the next.
    pub(super) fn take_or_join(&self, waker: &Waker) -> Result<T, Result<u64, ()>> {
        self.with(|state, after| {
            if state.items.len() > state.claimed {
                if let Some(item) = self.pop(state, after) {
                    return Ok(item);
                }
            }
            if state.is_exhausted() {
                return Err(Err(()));
            }
            state.waits += 1;
            Err(Ok(state.item_line.join(0, waker.clone())))
        })
    }

    /// Takes the item a place in line was granted. `None` = not yet; `Some(Err)` = closed.
    pub(super) fn take_granted(&self, id: u64, waker: &Waker) -> Option<Result<T, ()>> {
        let (taken, _stale) = self.with(|state, after| {
            if state.item_line.take_grant(id).is_some() {
                state.claimed -= 1;
                return (self.pop(state, after).map(Ok), None);
            }
            if state.is_exhausted() {
                return (Some(Err(())), None);
            }
            (None, state.item_line.renew(id, waker))
        });
        taken
    }

    /// Takes up to `max` further items that are promised to nobody.
    pub(super) fn take_many(&self, into: &mut Vec<T>, max: usize) -> usize {
        self.with(|state, after| {
            let free = (state.items.len() - state.claimed).min(max);
            for _ in 0..free {
                into.extend(self.pop(state, after));
            }
            free
        })
    }

    pub(super) fn leave_item_line(&self, id: u64) {
        let _left = self.with(|state, after| {
            if state.item_line.take_grant(id).is_some() {
                state.claimed -= 1;
                Self::grant_item(state, after);
                return None;
            }
            state.item_line.leave(id)
        });
    }

    // ---- ends

    pub(super) fn close(&self) {
        self.with(|state, after| Self::close_locked(state, after));
    }

    fn close_locked(state: &mut State<T>, after: &mut After<T>) {
        if state.closed {
            return;
        }
        state.closed = true;
        after.wake_all(&mut state.room_line); // there will be no room
        if state.is_exhausted() {
            after.wake_all(&mut state.item_line);
        } // else they stay in line: what is promised to others may come back
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock_unpoisoned().closed
    }

    pub(super) fn add_sender(&self, place: u64) {
        self.state.lock_unpoisoned().senders.add(place);
    }

    pub(super) fn move_sender(&self, from: u64, to: u64) {
        self.state.lock_unpoisoned().senders.move_to(from, to);
    }

    pub(super) fn remove_sender(&self, place: u64) {
        self.with(|state, after| {
            if state.senders.remove(place) == 0 {
                Self::close_locked(state, after);
            }
        });
    }

    pub(super) fn add_receiver(&self, place: u64) {
        self.state.lock_unpoisoned().receivers.add(place);
    }

    pub(super) fn move_receiver(&self, from: u64, to: u64) {
        self.state.lock_unpoisoned().receivers.move_to(from, to);
    }

    pub(super) fn remove_receiver(&self, place: u64) {
        self.with(|state, after| {
            if state.receivers.remove(place) == 0 {
                Self::close_locked(state, after);
                state.abandoned += state.items.len() as u64;
                state.bytes = 0;
                after.drop.extend(state.items.drain(..).map(|queued| queued.item));
            }
        });
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock_unpoisoned().items.len()
    }
}

/// A drained queue gives its buffer back if it is larger than this many items.
const KEPT_WHEN_EMPTY: usize = 16;

impl<T: Send> ObservedQueue for Chan<T> {
    fn stats(&self) -> QueueStats {
        let state = self.state.lock_unpoisoned();
        QueueStats {
            id: self.id,
            name: self.site.name,
            place: format!("{}:{}", self.site.place.file(), self.site.place.line()),
            depth_items: state.items.len(),
            depth_bytes: state.bytes,
            max_items: self.bound.items,
            max_bytes: self.bound.bytes.map(|(max, _)| max),
            high_water_items: state.high_water,
            overflow: self.overflow,
            sent: state.sent,
            received: state.received,
            dropped: state.dropped,
            refused: state.refused,
            abandoned: state.abandoned,
            waits: state.waits,
            waiting_senders: state.room_line.waiting.len(),
            waiting_receivers: state.item_line.waiting.len(),
            senders: holders(&state.senders),
            receivers: holders(&state.receivers),
        }
    }
}

fn holders(holders: &Holders) -> Vec<Holder> {
    let known = |place| if place == FREE || place == IN_TRANSIT { None } else { Some(place) };
    holders.places().into_iter().map(|(place, ends)| Holder { task: known(place), ends }).collect()
}
