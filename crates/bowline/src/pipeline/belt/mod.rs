//! The belt in front of a stage: records in order, a bound, and, behind an ordered stage, the window in which results wait for
//! those before them.
//!
//! Whoever takes a record gets a ticket with it, numbered in the order of taking. The result of an ordered stage is put down
//! under the ticket of its record; one that comes early is kept in the window until those before it are there. The window is
//! part of the bound, so a slow record holds up as many results as the belt has places, and not more.
//!
//! # Invariants
//!
//! 1. What may be taken (`queue`), what was taken ahead (`lent`) and what is early (`window`) never exceed the bound, except as
//!    [`Bound::and_bytes`](crate::Bound::and_bytes) says.
//! 2. A result is admitted if its *place* is within the bound: as many before it as there are in the queue, and as there are
//!    tickets still expected. So the one that is expected next always finds room once the queue is not full, and a full
//!    window cannot lock it out.
//! 3. At least as many takers are awake as there are records for them, or all are; the same for those who put. One that is
//!    dropped after it was woken hands its turn on.
//! 4. Where bytes count, and no tickets, those who put are served in the order of their line: a large record is not kept out by
//!    small ones that always fit.
//! 5. Under the lock no user code runs: no waker is woken or cloned, no record measured or dropped.
//!
//! # End
//!
//! The belt is closed when the last end that puts has gone; what is on it is still taken. Cleared, it takes and gives nothing
//! any more, and says how much it had.

mod line;
mod views;
mod waiting;

use std::collections::VecDeque;
use std::task::Waker;

use self::line::Line;
use self::waiting::{Putting, Taking};
use super::done::Receipt;
use crate::holders::{Holders, IN_TRANSIT};
use crate::queue::{Bound, Few};
use crate::record::next_id;
use crate::resource::Resource;
use crate::site::Site;
use crate::sync::{Arc, LockExt, Mutex, Weak};

pub(super) use views::BeltView;

/// A record on its way: which of the source it is, and what is owed for it when it is done.
pub(super) struct Riding<T> {
    /// Its number among the records of the source, from 0.
    pub(super) seq: u64,
    pub(super) receipt: Receipt,
    pub(super) record: T,
}

/// What a ticket came to.
pub(super) enum Load<T> {
    Record(Riding<T>),
    /// Nothing: the record failed, or was filtered out.
    Nothing,
}

struct Laid<T> {
    riding: Riding<T>,
    bytes: usize,
}

pub(super) struct Belt<T> {
    id: u64,
    me: Weak<dyn Resource>,
    site: &'static Site,
    max_items: usize,
    max_bytes: usize,
    /// Measures a record; absent if bytes are not counted.
    size_of: Option<fn(&T) -> usize>,
    /// Whether results are put under their tickets.
    ordered: bool,
    state: Mutex<State<T>>,
}

struct State<T> {
    queue: VecDeque<Laid<T>>,
    /// The results from ticket `expected` on; the first is never there.
    window: VecDeque<Option<Option<Laid<T>>>>,
    /// Records in the window.
    early: usize,
    /// The next ticket that can be put into the queue.
    expected: u64,
    bytes: usize,
    /// Places promised to the source before it has a record for them.
    reserved: usize,
    /// Places of records that were taken ahead (module `batch`).
    lent: usize,
    high_water: usize,
    put: u64,
    refused: u64,
    taken: u64,
    closed: bool,
    cleared: bool,
    senders: Holders,
    receivers: Holders,
    takers: Line,
    putters: Line,
    waits: u64,
    listed: bool,
}

impl<T> State<T> {
    /// Places of what may be taken, and of what was taken ahead.
    fn occupied(&self) -> usize {
        self.queue.len() + self.lent
    }
}

/// How somebody who asks stands.
enum Answer<R> {
    Ready(R),
    /// In line, under this number.
    Waiting(u64),
    /// Would have to wait; come again with a clone of the waker.
    NeedsWaker,
}

impl<T: Send + 'static> Belt<T> {
    pub(super) fn new(site: &'static Site, bound: Bound<T>, ordered: bool) -> Arc<Self> {
        let state = State {
            queue: VecDeque::new(),
            window: VecDeque::new(),
            early: 0,
            expected: 0,
            bytes: 0,
            reserved: 0,
            lent: 0,
            high_water: 0,
            put: 0,
            refused: 0,
            taken: 0,
            closed: false,
            cleared: false,
            senders: Holders::default(),
            receivers: Holders::default(),
            takers: Line::default(),
            putters: Line::default(),
            waits: 0,
            listed: false,
        };
        let (max_items, max_bytes, size_of) = bound.limits_of_one_lane();
        Arc::new_cyclic(|me: &Weak<Self>| {
            let me: Weak<dyn Resource> = me.clone();
            Self { id: next_id(), me, site, max_items, max_bytes, size_of, ordered, state: Mutex::new(state) }
        })
    }
}

impl<T> Belt<T> {
    fn size(&self, load: &Load<T>) -> usize {
        match (load, self.size_of) {
            (Load::Record(riding), Some(size_of)) => size_of(&riding.record),
            _ => 0,
        }
    }

    /// Acts under the lock, and wakes once it is released (invariant 5).
    fn with<R>(&self, act: impl FnOnce(&mut State<T>, &mut Few<Waker>) -> R) -> R {
        let mut wakes = Few::default();
        let result = {
            let mut state = self.state.lock_unpoisoned();
            let result = act(&mut state, &mut wakes);
            self.keep_awake(&mut state, &mut wakes);
            result
        };
        wakes.wake();
        result
    }

    /// Invariant 3, after whatever was done.
    fn keep_awake(&self, state: &mut State<T>, wakes: &mut Few<Waker>) {
        let over = state.cleared;
        if !state.takers.is_empty() {
            let wanted = if over || state.closed { usize::MAX } else { state.queue.len() };
            state.takers.wake_up_to(wanted, wakes);
        }
        if state.putters.is_empty() {
            return;
        }
        if !self.ordered && self.size_of.is_none() {
            let room = self.max_items.saturating_sub(state.occupied() + state.reserved);
            state.putters.wake_up_to(if over { usize::MAX } else { room }, wakes);
            return;
        }
        if !self.ordered && !over {
            let first = state.putters.first_bytes();
            let turns = usize::from(first.is_some_and(|bytes| self.admits(state, 0, bytes)));
            state.putters.wake_up_to(turns, wakes);
            return;
        }
        // Who would look in vain is not woken: it would be woken again at once.
        let mut putters = std::mem::take(&mut state.putters);
        putters.wake_those(wakes, |ticket, bytes| over || self.admits(state, ticket, bytes));
        state.putters = putters;
    }

    /// Invariant 2.
    fn admits(&self, state: &State<T>, ticket: u64, bytes: usize) -> bool {
        let fits = self.size_of.is_none() || state.bytes.saturating_add(bytes) <= self.max_bytes;
        let queued = state.occupied();
        if !self.ordered {
            return queued + state.reserved < self.max_items && (fits || queued == 0);
        }
        let ahead = usize::try_from(ticket - state.expected).unwrap_or(usize::MAX);
        queued.saturating_add(ahead) < self.max_items && (fits || (ahead == 0 && queued == 0))
    }

    /// Puts what was admitted.
    fn lay(&self, state: &mut State<T>, ticket: u64, load: Load<T>, bytes: usize) {
        let laid = match load {
            Load::Record(mut riding) => {
                if riding.seq == OF_SOURCE {
                    riding.seq = state.put;
                }
                state.put += 1;
                state.bytes = state.bytes.saturating_add(bytes);
                Some(Laid { riding, bytes })
            }
            Load::Nothing => None,
        };
        if !self.ordered {
            state.queue.extend(laid);
        } else if ticket == state.expected {
            // It and all that came early and follow it.
            let mut next = Some(laid);
            while let Some(laid) = next {
                state.queue.extend(laid);
                state.expected += 1;
                state.window.pop_front(); // its own place, if there are others behind it
                next = state.window.front_mut().and_then(Option::take);
                state.early -= usize::from(matches!(next, Some(Some(_))));
            }
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "within the bound, by invariant 2")]
            let at = (ticket - state.expected) as usize;
            if state.window.len() <= at {
                state.window.resize_with(at + 1, || None);
            }
            state.early += usize::from(laid.is_some());
            state.window[at] = Some(laid);
        }
        state.high_water = state.high_water.max(state.occupied() + state.early);
    }

    /// Takes everything away, for good. `count` gets how many records that were, before they are dropped.
    pub(super) fn clear(&self, count: &dyn Fn(u64)) {
        let (queue, window) = self.with(|state, _| {
            state.cleared = true;
            state.early = 0;
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.window))
        });
        count(queue.len() as u64 + window.iter().flatten().flatten().count() as u64);
        drop((queue, window)); // user code: outside of the lock, and it may panic
    }
}

/// The number of a record that the source puts down: the belt counts.
pub(super) const OF_SOURCE: u64 = u64::MAX;

/// An end of a belt, booked at the task that has it.
pub(super) struct End<T> {
    belt: Arc<Belt<T>>,
    place: u64,
    puts: bool,
}

impl<T> End<T> {
    pub(super) fn putting(belt: &Arc<Belt<T>>) -> Self {
        belt.state.lock_unpoisoned().senders.add(IN_TRANSIT);
        Self { belt: Arc::clone(belt), place: IN_TRANSIT, puts: true }
    }

    pub(super) fn taking(belt: &Arc<Belt<T>>) -> Self {
        belt.state.lock_unpoisoned().receivers.add(IN_TRANSIT);
        Self { belt: Arc::clone(belt), place: IN_TRANSIT, puts: false }
    }

    /// Books the end at whoever is being polled.
    pub(super) fn arrive(&mut self) {
        let here = crate::record::with_current(|current| current.map_or(0, |record| record.task_id()));
        let mut state = self.belt.state.lock_unpoisoned();
        let holders = if self.puts { &mut state.senders } else { &mut state.receivers };
        holders.move_to(self.place, here);
        self.place = here;
    }

    /// Takes the next record and its ticket; `None` when no more will come.
    pub(super) fn take(&self) -> Taking<'_, T> {
        Taking::new(&self.belt)
    }

    /// Puts down what the record of this ticket came to.
    pub(super) fn put(&self, ticket: u64, load: Load<T>) -> Putting<'_, T> {
        let bytes = self.belt.size(&load);
        Putting::new(&self.belt, ticket, Some(load), bytes)
    }

    /// Waits for a place, to be filled with [`fill`](Self::fill) or given back with [`leave`](Self::leave). Only for a belt that
    /// is not ordered.
    pub(super) fn reserve(&self) -> Putting<'_, T> {
        debug_assert!(!self.belt.ordered, "a place has no ticket");
        Putting::new(&self.belt, 0, None, 0)
    }

    pub(super) fn fill(&self, riding: Riding<T>) {
        let load = Load::Record(riding);
        let bytes = self.belt.size(&load);
        let refused = self.belt.with(|state, _| {
            state.reserved -= 1;
            if state.cleared {
                return Some(load);
            }
            self.belt.lay(state, 0, load, bytes);
            None
        });
        drop(refused); // everything is over; its drop is user code
    }

    pub(super) fn leave(&self, places: usize) {
        self.belt.with(|state, _| state.reserved -= places);
    }

    pub(super) fn places(&self) -> usize {
        self.belt.max_items
    }

    /// Reserves up to `max` places without waiting, and returns how many. Not where places have tickets, or bytes count.
    pub(super) fn reserve_ahead(&self, max: usize) -> usize {
        if self.belt.ordered || self.belt.size_of.is_some() {
            return 0;
        }
        self.belt.with(|state, _| {
            if state.cleared || !state.putters.is_empty() {
                return 0;
            }
            let free = self.belt.max_items.saturating_sub(state.occupied() + state.reserved);
            state.reserved += free.min(max);
            free.min(max)
        })
    }

    /// Puts down records for which places are reserved.
    pub(super) fn fill_all(&self, records: &mut Vec<Riding<T>>) {
        if self.belt.size_of.is_some() {
            records.drain(..).for_each(|riding| self.fill(riding));
            return;
        }
        let refused = self.belt.with(|state, _| {
            state.reserved -= records.len();
            if state.cleared {
                state.put += records.len() as u64;
                state.refused += records.len() as u64;
                return std::mem::take(records);
            }
            records.drain(..).for_each(|riding| self.belt.lay(state, 0, Load::Record(riding), 0));
            Vec::new()
        });
        drop(refused); // everything is over; its drop is user code
    }

    /// Takes up to `max` records without waiting, and returns how many. They keep their places. Not where bytes count.
    pub(super) fn take_ahead(&self, max: usize, into: &mut VecDeque<(u64, Riding<T>)>) -> usize {
        if self.belt.size_of.is_some() {
            return 0;
        }
        self.belt.with(|state, _| {
            let more = state.queue.len().min(max);
            for laid in state.queue.drain(..more) {
                into.push_back((state.taken, laid.riding));
                state.taken += 1;
            }
            state.lent += more;
            more
        })
    }

    /// Gives places back that were kept for records taken ahead.
    pub(super) fn give_back(&self, places: usize) {
        self.belt.with(|state, _| state.lent -= places);
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.belt.with(|state, _| {
            if self.puts {
                state.closed = state.senders.remove(self.place) == 0;
            } else {
                state.receivers.remove(self.place);
            }
        });
    }
}
