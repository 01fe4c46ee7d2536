//! What receivers ask of the queue.

use std::task::Waker;

use super::super::TryRecvError;
use super::super::few::Few;
use super::super::lane::Queued;
use super::super::lanes::LaneId;
use super::super::line::{Place, Standing};
use super::{Chan, Mode, Receipt, State, Taken};
use crate::sync::{LockExt, MutexGuard};

impl<T> Chan<T> {
    /// Takes the first item that is promised to nobody.
    pub(in crate::queue) fn take(&self, mode: Mode) -> Result<Taken<T>, TryRecvError> {
        self.with(|state, wakes| {
            let free = state.has_free_item();
            match if free { state.pop(mode, wakes) } else { None } {
                Some(taken) => Ok(taken),
                None if state.is_exhausted() => Err(TryRecvError::Closed),
                None => Err(TryRecvError::Empty),
            }
        })
    }

    /// Takes the first item, or a place in line for the next.
    #[inline]
    pub(in crate::queue) fn take_or_join(
        &self,
        mode: Mode,
        waker: impl FnOnce() -> Option<Waker>,
    ) -> Receipt<T> {
        let mut state = self.state.lock_unpoisoned();
        match state.pop_quietly(mode) {
            Some(taken) => Receipt::Taken(taken),
            None => self.take_or_join_loudly(state, mode, waker),
        }
    }

    #[cold]
    fn take_or_join_loudly(
        &self,
        mut state: MutexGuard<'_, State<T>>,
        mode: Mode,
        waker: impl FnOnce() -> Option<Waker>,
    ) -> Receipt<T> {
        let mut wakes = Few::default();
        let mut news = false;
        let free = state.has_free_item();
        let receipt = match if free { state.pop(mode, &mut wakes) } else { None } {
            Some(taken) => Receipt::Taken(taken),
            None if state.is_exhausted() => Receipt::Closed,
            None => match waker() {
                None => Receipt::NeedsWaker,
                Some(waker) => {
                    state.receiver_waits += 1;
                    news = state.is_news();
                    Receipt::Waiting(state.item_line.join(0, self.who(), waker))
                }
            },
        };
        drop(state);
        if news {
            self.list();
        }
        wakes.wake();
        receipt
    }

    /// Takes a place in the line for items up again.
    pub(in crate::queue) fn look_item(
        &self,
        place: u64,
        mode: Mode,
        waker: &Waker,
        fresh: &mut Option<Waker>,
    ) -> Receipt<T> {
        self.with(|state, wakes| match state.item_line.look(place, waker, fresh) {
            Standing::Granted(_) => {
                state.claimed -= 1;
                match state.pop(mode, wakes) {
                    Some(taken) => Receipt::Taken(taken),
                    None => unreachable!("a promised item is there (invariant 3)"),
                }
            }
            Standing::Waiting => Receipt::Waiting(place),
            Standing::NeedsWaker => Receipt::NeedsWaker,
            Standing::Gone => Receipt::Closed,
        })
    }

    /// Takes up to `max` further items that are promised to nobody.
    pub(in crate::queue) fn take_many(&self, into: &mut Vec<T>, max: usize) -> usize {
        // Growing the vector is not for under the lock.
        into.reserve(self.len().min(max));
        self.with(|state, wakes| {
            let room = into.capacity() - into.len();
            let free = (state.lanes.queued() - state.claimed).min(max).min(room);
            for _ in 0..free {
                into.extend(state.pop(Mode::Take, wakes).map(|taken| taken.queued.item));
            }
            free
        })
    }

    pub(in crate::queue) fn leave_item_line(&self, place: u64) {
        let _left = self.with(|state, wakes| {
            let left = state.item_line.leave(place);
            if left.as_ref().is_some_and(Place::was_granted) {
                state.claimed -= 1;
                wakes.extend(state.grant_item());
            }
            left
        });
    }

    // ---- deliveries

    /// What was delivered to `place` is done.
    pub(in crate::queue) fn ack(&self, id: LaneId, bytes: usize, place: u64) {
        let _abandoned = self.with(|state, wakes| {
            state.land(id, bytes, place);
            state.lanes.lane(id).books.received += 1;
            state.gone(id, wakes);
            state.abandon_if_unreceived(wakes)
        });
    }

    /// What was delivered to `place` is not done: it is the next to be received.
    pub(in crate::queue) fn redeliver(&self, id: LaneId, queued: Queued<T>, place: u64) {
        let _abandoned = self.with(|state, wakes| {
            state.land(id, queued.bytes, place);
            state.lanes.put_back(id, queued);
            wakes.extend(state.grant_item());
            state.abandon_if_unreceived(wakes)
        });
    }
}
