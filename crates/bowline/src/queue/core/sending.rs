//! What senders ask of the queue.

use std::task::Waker;

use super::super::few::Few;
use super::super::lanes::LaneId;
use super::super::line::Standing;
use super::super::{CloseReason, Overflow, SendError};
use super::{Chan, PERMIT_BYTES, Room, State};
use crate::sync::{LockExt, MutexGuard};

impl<T> Chan<T> {
    /// Puts in what is in `item`. `fresh` is a place for a clone of the waker, absent if the sender does not wait.
    pub(in crate::queue) fn offer(
        &self,
        lane: LaneId,
        item: &mut Option<T>,
        bytes: usize,
        fresh: Option<&mut Option<Waker>>,
    ) -> Result<Room, SendError<()>> {
        let mut state = self.state.lock_unpoisoned();
        if state.closed.is_none() && state.lanes.lane(lane).admits(bytes) {
            let woken = item.take().and_then(|item| state.push(lane, item, bytes));
            drop(state);
            if let Some(waker) = woken {
                waker.wake();
            }
            return Ok(Room::Granted);
        }
        self.offer_to_full(state, lane, item, bytes, fresh)
    }

    #[cold]
    fn offer_to_full(
        &self,
        mut state: MutexGuard<'_, State<T>>,
        id: LaneId,
        item: &mut Option<T>,
        bytes: usize,
        fresh: Option<&mut Option<Waker>>,
    ) -> Result<Room, SendError<()>> {
        if state.closed.is_some() {
            return Err(SendError::Closed(()));
        }
        let mut wakes = Few::default();
        let mut dropped = Few::default();
        let mut news = false;
        let lane = state.lanes.lane(id);
        let answer = match (self.overflow, fresh) {
            (Overflow::Block, Some(fresh)) => Ok(match fresh.take() {
                None => Room::NeedsWaker,
                Some(waker) => {
                    lane.books.waits += 1;
                    let place = lane.room_line.join(bytes, self.who(), waker);
                    news = state.is_news();
                    Room::Waiting(place)
                }
            }),
            (Overflow::Block | Overflow::Reject, _) => {
                lane.books.refused += 1;
                Err(SendError::Full(()))
            }
            (Overflow::Disconnect, _) => {
                lane.books.refused += 1;
                state.close(CloseReason::Overflow, &mut wakes);
                Err(SendError::Closed(()))
            }
            (Overflow::DropNewest, _) => {
                lane.books.sent += 1;
                lane.books.dropped += 1;
                Ok(Room::Granted) // the item is left where it is, and dropped there
            }
            (Overflow::DropOldest, _) => {
                // Items promised to receivers are not taken back from them (invariant 3).
                while !state.lanes.lane(id).has_room(bytes) && state.has_free_item() {
                    let Some(oldest) = state.lanes.pop_of(id) else { break };
                    state.lanes.lane(id).books.dropped += 1;
                    dropped.add(oldest);
                }
                let lane = state.lanes.lane(id);
                if lane.has_room(bytes) {
                    wakes.extend(item.take().and_then(|item| state.push(id, item, bytes)));
                } else {
                    lane.books.sent += 1;
                    lane.books.dropped += 1;
                }
                Ok(Room::Granted)
            }
        };
        drop(state);
        if news {
            self.list();
        }
        wakes.wake();
        answer
    }

    /// Asks for room for an item to come.
    pub(in crate::queue) fn ask_room(
        &self,
        id: LaneId,
        fresh: Option<&mut Option<Waker>>,
    ) -> Result<Room, SendError<()>> {
        let mut wakes = Few::default();
        let mut news = false;
        let mut state = self.state.lock_unpoisoned();
        if state.closed.is_some() {
            return Err(SendError::Closed(()));
        }
        let lane = state.lanes.lane(id);
        if lane.admits(PERMIT_BYTES) {
            lane.hold(PERMIT_BYTES);
            return Ok(Room::Granted);
        }
        let answer = match (self.overflow, fresh) {
            (Overflow::Block, Some(fresh)) => match fresh.take() {
                None => Ok(Room::NeedsWaker),
                Some(waker) => {
                    lane.books.waits += 1;
                    let place = lane.room_line.join(PERMIT_BYTES, self.who(), waker);
                    news = state.is_news();
                    Ok(Room::Waiting(place))
                }
            },
            (Overflow::Disconnect, _) => {
                lane.books.refused += 1;
                state.close(CloseReason::Overflow, &mut wakes);
                Err(SendError::Closed(()))
            }
            _ => {
                lane.books.refused += 1;
                Err(SendError::Full(()))
            }
        };
        drop(state);
        if news {
            self.list();
        }
        wakes.wake();
        answer
    }

    /// Takes a place in the line for room up again. Granted, the room is used for what is in `item`, or is the caller's.
    pub(in crate::queue) fn look_room(
        &self,
        id: LaneId,
        place: u64,
        item: Option<&mut Option<T>>,
        waker: &Waker,
        fresh: &mut Option<Waker>,
    ) -> Result<Room, SendError<()>> {
        let mut state = self.state.lock_unpoisoned();
        let closed = state.closed.is_some();
        let lane = state.lanes.lane(id);
        match lane.room_line.look(place, waker, fresh) {
            Standing::Gone => Err(SendError::Closed(())),
            Standing::Granted(bytes) if closed => {
                lane.let_go(bytes);
                Err(SendError::Closed(()))
            }
            Standing::Granted(bytes) => {
                let woken = item.and_then(Option::take).and_then(|item| {
                    state.lanes.lane(id).let_go(bytes);
                    state.push(id, item, bytes)
                });
                drop(state);
                if let Some(waker) = woken {
                    waker.wake();
                }
                Ok(Room::Granted)
            }
            Standing::Waiting => Ok(Room::Waiting(place)),
            Standing::NeedsWaker => Ok(Room::NeedsWaker),
        }
    }

    /// Puts an item of that size into room that was granted to a permit.
    pub(in crate::queue) fn commit(&self, id: LaneId, item: T, bytes: usize) -> Result<(), SendError<T>> {
        self.with(|state, wakes| {
            let lane = state.lanes.lane(id);
            lane.let_go(PERMIT_BYTES);
            if state.closed.is_some() {
                return Err(SendError::Closed(item));
            }
            wakes.extend(state.push(id, item, bytes));
            state.lanes.lane(id).grant_room(wakes); // it may be smaller than what was reserved for it
            Ok(())
        })
    }

    /// Gives granted room back unused.
    pub(in crate::queue) fn release(&self, id: LaneId) {
        self.with(|state, wakes| {
            let lane = state.lanes.lane(id);
            lane.let_go(PERMIT_BYTES);
            lane.grant_room(wakes);
        });
    }

    /// Gives up a place in line, and what was granted to it.
    pub(in crate::queue) fn leave_room_line(&self, id: LaneId, place: u64) {
        let _left = self.with(|state, wakes| {
            let lane = state.lanes.lane(id);
            let left = lane.room_line.leave(place);
            if let Some(granted) = left.as_ref().filter(|left| left.was_granted()) {
                lane.let_go(granted.bytes);
            }
            lane.grant_room(wakes); // the next in line may be smaller
            left
        });
    }
}
