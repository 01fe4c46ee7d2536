//! The queue itself: one lock around lanes, lines and counts. See the invariants in the module above.

mod receiving;
mod sending;
mod views;

use std::collections::VecDeque;
use std::task::Waker;

use super::few::Few;
use super::lane::{Limits, Queued};
use super::lanes::{LaneId, Lanes, MAIN};
use super::line::{Line, Standing};
use super::{Bound, CloseReason, LaneStats, Overflow, SizeOf};
use crate::holders::Holders;
use crate::record::next_id;
use crate::resource::{self, Resource, Who};
use crate::site::Site;
use crate::sync::{Arc, LockExt, Mutex, Weak};

pub(super) struct Chan<T> {
    pub(super) id: u64,
    me: Weak<dyn Resource>,
    site: &'static Site,
    max_bytes: Option<usize>,
    size_of: Option<SizeOf<T>>,
    overflow: Overflow,
    state: Mutex<State<T>>,
}

struct State<T> {
    lanes: Lanes<T>,
    /// Items promised to granted receivers.
    claimed: usize,
    closed: Option<CloseReason>,
    senders: Holders,
    receivers: Holders,
    /// Who holds items that are delivered and not yet acknowledged.
    deliveries: Holders,
    item_line: Line,
    /// Those who wait for the close. Nothing is granted in it: it is dissolved.
    close_line: Line,
    receiver_waits: u64,
    /// Whether the registry of resources that are waited for has it.
    listed: bool,
}

/// The items of each lane at the end, to be dropped outside of the lock.
type Abandoned<T> = Vec<VecDeque<Queued<T>>>;

/// What a permit reserves of a bound in bytes. Its item's size is not known yet; a byte stands for "below the bound".
pub(super) const PERMIT_BYTES: usize = 1;

/// How somebody who asks for room stands.
pub(super) enum Room {
    /// The item is in, or the room reserved.
    Granted,
    /// In line, under this number.
    Waiting(u64),
    /// Would have to wait; come again with a clone of the waker.
    NeedsWaker,
}

/// How somebody who asks for an item stands.
pub(super) enum Receipt<T> {
    Taken(Taken<T>),
    /// Nothing will come.
    Closed,
    Waiting(u64),
    NeedsWaker,
}

/// An item and the lane it came from.
pub(super) struct Taken<T> {
    pub(super) lane: LaneId,
    pub(super) queued: Queued<T>,
}

/// What a receiver does with an item: take it, or have it delivered to a place, where it is in flight until acknowledged.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Take,
    Deliver { place: u64 },
}

impl<T> State<T> {
    fn new(lanes: Lanes<T>) -> Self {
        Self {
            lanes,
            claimed: 0,
            closed: None,
            senders: Holders::default(),
            receivers: Holders::default(),
            deliveries: Holders::default(),
            item_line: Line::default(),
            close_line: Line::default(),
            receiver_waits: 0,
            listed: false,
        }
    }

    /// Whether an item is there that is promised to nobody.
    fn has_free_item(&self) -> bool {
        self.lanes.queued() > self.claimed
    }

    /// Whether a receiver that finds nothing for itself may be told that nothing will come (invariant 5).
    fn is_exhausted(&self) -> bool {
        self.closed.is_some() && self.lanes.queued() == 0 && self.deliveries.total() == 0
    }

    #[inline]
    fn push(&mut self, lane: LaneId, item: T, bytes: usize) -> Option<Waker> {
        self.lanes.push(lane, item, bytes);
        self.grant_item()
    }

    /// Promises an item that is promised to nobody to whoever is first in line.
    #[inline]
    fn grant_item(&mut self) -> Option<Waker> {
        if self.item_line.waiting() == 0 || !self.has_free_item() {
            return None;
        }
        let waker = self.item_line.grant_first();
        self.claimed += usize::from(waker.is_some());
        waker
    }

    /// Takes an item if that concerns nobody else: it is the common case, and the short one.
    #[inline]
    fn pop_quietly(&mut self, mode: Mode) -> Option<Taken<T>> {
        if !matches!(mode, Mode::Take) || !self.has_free_item() || self.closed.is_some() {
            return None;
        }
        let queued = self.lanes.pop_quietly()?;
        Some(Taken { lane: MAIN, queued })
    }

    fn pop(&mut self, mode: Mode, wakes: &mut Few<Waker>) -> Option<Taken<T>> {
        let (lane, queued) = self.lanes.pop()?;
        match mode {
            Mode::Take => {
                self.lanes.lane(lane).books.received += 1;
                self.gone(lane, wakes);
            }
            Mode::Deliver { place } => {
                let lane = self.lanes.lane(lane);
                lane.hold(queued.bytes);
                lane.in_flight += 1;
                self.deliveries.add(place);
            }
        }
        Some(Taken { lane, queued })
    }

    /// An item of that lane has left the queue for good.
    fn gone(&mut self, lane: LaneId, wakes: &mut Few<Waker>) {
        self.lanes.lane(lane).grant_room(wakes);
        if lane != MAIN {
            self.lanes.retire(lane);
        }
        if self.is_exhausted() {
            wakes.extend(self.item_line.dissolve());
        }
    }

    /// What was delivered to `place` is not in flight any more.
    fn land(&mut self, lane: LaneId, bytes: usize, place: u64) {
        let lane = self.lanes.lane(lane);
        lane.let_go(bytes);
        lane.in_flight -= 1;
        self.deliveries.remove(place);
    }

    fn close(&mut self, reason: CloseReason, wakes: &mut Few<Waker>) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        for lane in self.lanes.all_mut() {
            wakes.extend(lane.room_line.dissolve()); // there will be no room
        }
        wakes.extend(self.close_line.dissolve());
        if self.is_exhausted() {
            wakes.extend(self.item_line.dissolve());
        } // else they stay in line: what is promised to others, or in flight, may come back
    }

    /// Without receivers, and items in flight that could come back (invariant 6), nobody will take what is still queued.
    fn abandon_if_unreceived(&mut self, wakes: &mut Few<Waker>) -> Abandoned<T> {
        if self.receivers.total() + self.deliveries.total() > 0 {
            return Vec::new();
        }
        self.close(CloseReason::ReceiversGone, wakes);
        self.lanes.abandon()
    }

    /// Says once that the queue is to be listed as one that is waited for.
    fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.listed, true)
    }
}

impl<T: Send + 'static> Chan<T> {
    pub(super) fn new(site: &'static Site, bound: Bound<T>, overflow: Overflow) -> Arc<Self> {
        let lanes = Lanes::plain(bound.limits(), bound.urgent);
        Self::with_lanes(site, lanes, bound.max_bytes(), bound.size_of(), overflow)
    }

    /// A queue with a lane for each source. Its items are measured by their sources, which know them.
    pub(super) fn merged(
        site: &'static Site,
        limits: Limits,
        max_bytes: Option<usize>,
        overflow: Overflow,
    ) -> Arc<Self> {
        Self::with_lanes(site, Lanes::merged(limits), max_bytes, None, overflow)
    }

    fn with_lanes(
        site: &'static Site,
        lanes: Lanes<T>,
        max_bytes: Option<usize>,
        size_of: Option<SizeOf<T>>,
        overflow: Overflow,
    ) -> Arc<Self> {
        let state = Mutex::new(State::new(lanes));
        Arc::new_cyclic(|me: &Weak<Self>| {
            let me: Weak<dyn Resource> = me.clone();
            Self { id: next_id(), me, site, max_bytes, size_of, overflow, state }
        })
    }
}

impl<T> Chan<T> {
    /// Whoever is being polled, as one who waits here.
    fn who(&self) -> Who {
        Who::here(self.site.place, true)
    }

    /// Puts the queue on the list of those that are waited for. Not under the lock.
    fn list(&self) {
        resource::list(self.id, self.me.clone());
    }

    pub(super) fn name(&self) -> &'static str {
        self.site.name
    }

    pub(super) fn size(&self, item: &T) -> usize {
        self.size_of.map_or(0, |size_of| size_of(item))
    }

    /// Acts under the lock, and wakes once it is released (invariant 4).
    fn with<R>(&self, act: impl FnOnce(&mut State<T>, &mut Few<Waker>) -> R) -> R {
        let mut wakes = Few::default();
        let result = act(&mut self.state.lock_unpoisoned(), &mut wakes);
        wakes.wake();
        result
    }

    // ---- ends

    pub(super) fn close(&self) {
        self.with(|state, wakes| state.close(CloseReason::ByReceiver, wakes));
    }

    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.state.lock_unpoisoned().closed
    }

    /// Waits in line for the close. `None` = closed.
    pub(super) fn look_close(
        &self,
        place: Option<u64>,
        waker: &Waker,
        fresh: &mut Option<Waker>,
    ) -> Option<Room> {
        let mut state = self.state.lock_unpoisoned();
        if state.closed.is_some() {
            return None;
        }
        let Some(place) = place else {
            let Some(waker) = fresh.take() else { return Some(Room::NeedsWaker) };
            let place = state.close_line.join(0, self.who(), waker);
            let news = state.is_news();
            drop(state);
            if news {
                self.list();
            }
            return Some(Room::Waiting(place));
        };
        Some(match state.close_line.look(place, waker, fresh) {
            Standing::NeedsWaker => Room::NeedsWaker,
            _ => Room::Waiting(place),
        })
    }

    pub(super) fn leave_close_line(&self, place: u64) {
        let _left = self.state.lock_unpoisoned().close_line.leave(place);
    }

    pub(super) fn has_urgent(&self) -> bool {
        self.state.lock_unpoisoned().lanes.has_urgent()
    }

    pub(super) fn add_sender(&self, place: u64) {
        self.state.lock_unpoisoned().senders.add(place);
    }

    pub(super) fn move_sender(&self, from: u64, to: u64) {
        self.state.lock_unpoisoned().senders.move_to(from, to);
    }

    pub(super) fn remove_sender(&self, place: u64) {
        self.with(|state, wakes| {
            if state.senders.remove(place) == 0 {
                state.close(CloseReason::SendersGone, wakes);
            }
        });
    }

    /// A source is a sending end that has a lane.
    pub(super) fn add_source(&self, name: Arc<str>, place: u64) -> LaneId {
        let mut state = self.state.lock_unpoisoned();
        state.senders.add(place);
        state.lanes.add_source(name)
    }

    pub(super) fn remove_source(&self, id: LaneId, place: u64) {
        self.with(|state, wakes| {
            state.lanes.remove_handle(id);
            if state.senders.remove(place) == 0 {
                state.close(CloseReason::SendersGone, wakes);
            }
        });
    }

    pub(super) fn source_stats(&self, id: LaneId, name: &str) -> LaneStats {
        self.state.lock_unpoisoned().lanes.lane(id).stats(name)
    }

    pub(super) fn add_receiver(&self, place: u64) {
        self.state.lock_unpoisoned().receivers.add(place);
    }

    pub(super) fn move_delivery(&self, from: u64, to: u64) {
        self.state.lock_unpoisoned().deliveries.move_to(from, to);
    }

    pub(super) fn move_receiver(&self, from: u64, to: u64) {
        self.state.lock_unpoisoned().receivers.move_to(from, to);
    }

    pub(super) fn remove_receiver(&self, place: u64) {
        let _abandoned = self.with(|state, wakes| {
            state.receivers.remove(place);
            state.abandon_if_unreceived(wakes)
        });
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock_unpoisoned().lanes.queued()
    }
}
