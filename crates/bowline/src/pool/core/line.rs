//! The side of those who have jobs: what is accepted, who stands in line, and who leaves it.

use std::collections::VecDeque;
use std::task::Waker;

use tokio::time::Instant;

use super::super::call::Call;
use super::super::stats::PoolState;
use super::{After, Core, Entry, State, Terms, Waiter};
use crate::queue::Overflow;
use crate::resource::Who;
use crate::sync::{Arc, LockExt, MutexGuard};

/// What comes of an offer.
pub(in crate::pool) enum Offered {
    Accepted,
    /// In line, under this number.
    Waits(u64),
    /// Would have to wait: come again with a waker.
    MayWait,
    Full,
    Closed,
}

impl<J, R> State<J, R> {
    /// Lets in who is first in line, as far as there is room.
    pub(super) fn admit(&mut self, terms: &Terms<J>) {
        let mut now = None;
        while self.phase == PoolState::Open {
            let Some(first) = self.line.first() else { return };
            let bytes = first.entry.bytes;
            if !self.has_room(terms, bytes) {
                return;
            }
            let Some((_, waiter)) = self.line.pop() else { return };
            self.push(waiter.entry, &mut now);
            self.owed.extend(waiter.waker);
        }
    }

    /// Tells those who were accepted from the line.
    pub(super) fn tell_owed(&mut self, after: &mut After<J, R>) {
        after.wakes.append(&mut self.owed);
    }
}

impl<J: Send + 'static, R: Send + 'static> Core<J, R> {
    /// Takes what is in `entry` if there is room for it; what is not accepted stays there. `fresh` is absent if nobody would wait.
    #[inline]
    pub(in crate::pool) fn offer(
        self: &Arc<Self>,
        entry: &mut Option<Entry<J, R>>,
        fresh: Option<&mut Option<Waker>>,
    ) -> Offered {
        let mut state = self.state.lock_unpoisoned();
        let Some((bytes, is_called)) = entry.as_ref().map(|entry| (entry.bytes, entry.called.is_some()))
        else {
            return Offered::Accepted;
        };
        // Who comes while others wait goes behind them.
        if state.phase == PoolState::Open && state.line.is_empty() && state.has_room(&self.terms, bytes) {
            if let Some(entry) = entry.take() {
                state.push(entry, &mut None);
            }
            // Who calls waits for the answer: its thread is free for a worker.
            let worker = if is_called { state.call_worker_for_any() } else { state.call_worker() };
            drop(state);
            if let Some(worker) = worker {
                worker.wake();
            }
            return Offered::Accepted;
        }
        self.offer_to_full(state, entry, fresh)
    }

    /// Takes from the front of `entries` as long as there is room for it, and nobody waits; returns how many.
    pub(in crate::pool) fn offer_many(&self, entries: &mut VecDeque<Entry<J, R>>) -> usize {
        let before = entries.len();
        let mut now = None;
        let mut state = self.state.lock_unpoisoned();
        if state.phase == PoolState::Open && state.line.is_empty() {
            while entries.front().is_some_and(|first| state.has_room(&self.terms, first.bytes)) {
                let Some(entry) = entries.pop_front() else { break };
                state.push(entry, &mut now);
            }
        }
        let worker = state.call_worker();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
        before - entries.len()
    }

    #[cold]
    fn offer_to_full(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<J, R>>,
        entry: &mut Option<Entry<J, R>>,
        fresh: Option<&mut Option<Waker>>,
    ) -> Offered {
        if state.phase != PoolState::Open {
            return Offered::Closed;
        }
        let mut after = After::default();
        let offered = match (self.terms.overflow, fresh) {
            (Overflow::Block, Some(fresh)) => match fresh.take() {
                None => Offered::MayWait,
                Some(waker) => {
                    state.books.waits += 1;
                    state.look_at_height(&self.terms, Instant::now(), &mut after);
                    after.list = !std::mem::replace(&mut state.listed, true);
                    let who = Who::here(self.site.place, false);
                    let Some(entry) = entry.take() else { return Offered::Accepted };
                    // Its thread is free for a worker.
                    after.wakes.extend(state.call_worker_for_any());
                    Offered::Waits(state.line.push(Waiter { entry, waker: Some(waker), who }))
                }
            },
            (Overflow::Block | Overflow::Reject, _) => {
                state.books.refused += 1;
                Offered::Full
            }
            (Overflow::Disconnect, _) => {
                state.books.refused += 1;
                state.close(&mut after);
                Offered::Closed
            }
            (Overflow::DropNewest, _) => {
                state.books.accepted += 1;
                state.books.dropped += 1;
                after.gone.extend(entry.take());
                Offered::Accepted
            }
            (Overflow::DropOldest, _) => {
                if let Some(entry) = entry.take() {
                    while !state.has_room(&self.terms, entry.bytes) {
                        let Some((_, oldest)) = state.queue.pop() else { break };
                        state.called -= usize::from(oldest.called.is_some());
                        state.bytes -= oldest.bytes;
                        state.books.dropped += 1;
                        after.gone.push(oldest);
                    }
                    if state.has_room(&self.terms, entry.bytes) {
                        state.push(entry, &mut None);
                        after.wakes.extend(state.call_worker());
                    } else {
                        // Workers have taken all that is there along: nothing is older than this one.
                        state.books.accepted += 1;
                        state.books.dropped += 1;
                        after.gone.push(entry);
                    }
                }
                Offered::Accepted
            }
        };
        drop(state);
        self.afterwards(&mut after);
        offered
    }

    /// Refused because it would wait for itself.
    pub(in crate::pool) fn refuse(&self) {
        self.state.lock_unpoisoned().books.refused += 1;
    }

    /// Somebody in line looks again. `None`: it has been accepted.
    pub(in crate::pool) fn look(&self, place: u64, waker: &Waker) -> Option<Result<(), Entry<J, R>>> {
        let mut fresh: Option<Waker> = None;
        loop {
            let _stale;
            {
                let mut state = self.state.lock_unpoisoned();
                let is_open = state.phase == PoolState::Open;
                let waiter = state.line.at(place)?;
                if !is_open {
                    let waiter = state.line.remove(place);
                    drop(state);
                    return waiter.map(|waiter| Err(waiter.entry));
                }
                waiter.who.polled_again();
                if waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    return Some(Ok(()));
                }
                if let Some(fresh) = fresh.take() {
                    _stale = waiter.waker.replace(fresh); // dropped outside of the lock, as it is cloned: foreign code
                    continue;
                }
            }
            fresh = Some(waker.clone());
        }
    }

    /// Gives a place in line up. `None`: it had been accepted.
    pub(in crate::pool) fn leave_line(self: &Arc<Self>, place: u64, is_refused: bool) -> Option<Entry<J, R>> {
        let waiter = self.with(|state, after| {
            let waiter = state.line.remove(place)?;
            state.books.refused += u64::from(is_refused);
            // It may have stood in the way of smaller ones.
            state.admit(&self.terms);
            state.tell_owed(after);
            after.wakes.extend(state.call_worker());
            Some(waiter)
        })?;
        Some(waiter.entry) // the waker is dropped here, outside of the lock
    }

    /// Takes a called job that has not begun out of the queue; `false` if it is not there (any more).
    pub(in crate::pool) fn take_out(self: &Arc<Self>, call: &Call<R>) -> bool {
        self.with(|state, after| {
            let Some(entry) = call.number().and_then(|number| state.queue.remove(number)) else {
                return false;
            };
            state.called -= 1;
            state.bytes -= entry.bytes;
            state.books.done.cancelled += 1;
            after.gone.push(entry);
            state.admit(&self.terms);
            state.tell_owed(after);
            after.wakes.extend(state.call_worker());
            if state.is_drained() {
                state.call_all_workers(after);
            }
            true
        })
    }
}
