//! Those who wait at a belt. Nothing is granted: who is woken looks again.

use std::collections::VecDeque;
use std::task::Waker;

use crate::queue::Few;
use crate::resource::{WaiterFact, Who};
use crate::wait::Op;

#[derive(Default)]
pub(super) struct Line {
    places: VecDeque<Place>,
    awake: usize,
    next: u64,
}

struct Place {
    id: u64,
    ticket: u64,
    bytes: usize,
    who: Who,
    /// Absent once it is woken, until it has looked.
    waker: Option<Waker>,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn join(&mut self, ticket: u64, bytes: usize, who: Who, waker: Waker) -> u64 {
        self.next += 1;
        self.places.push_back(Place { id: self.next, ticket, bytes, who, waker: Some(waker) });
        self.next
    }

    /// Stays in line after having looked in vain. `false`: it needs a waker in `fresh`; what that replaces is left there.
    pub(super) fn stay(&mut self, id: u64, waker: &Waker, fresh: &mut Option<Waker>) -> bool {
        let Some(at) = self.position(id) else { return true };
        let place = &mut self.places[at];
        place.who.polled_again();
        if place.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return true;
        }
        if fresh.is_none() {
            return false;
        }
        self.awake -= usize::from(place.waker.is_none());
        std::mem::swap(&mut place.waker, fresh);
        true
    }

    /// Goes. What comes back is to be dropped outside of the lock.
    pub(super) fn leave(&mut self, id: u64) -> Option<Waker> {
        let place = self.places.remove(self.position(id)?)?;
        self.awake -= usize::from(place.waker.is_none());
        place.waker
    }

    /// Wakes from the front until so many are awake.
    pub(super) fn wake_up_to(&mut self, wanted: usize, wakes: &mut Few<Waker>) {
        let missing = wanted.saturating_sub(self.awake);
        if missing > 0 && self.awake < self.places.len() {
            let woken = self.places.iter_mut().filter_map(|place| place.waker.take()).take(missing);
            let before = self.awake;
            wakes.extend(woken.inspect(|_| self.awake += 1));
            debug_assert!(self.awake > before, "somebody was asleep");
        }
    }

    pub(super) fn is_first(&self, id: u64) -> bool {
        self.places.front().is_some_and(|place| place.id == id)
    }

    /// How many bytes the first in line wants to put down.
    pub(super) fn first_bytes(&self) -> Option<usize> {
        self.places.front().map(|place| place.bytes)
    }

    /// Wakes all those whose ticket and bytes are wanted.
    pub(super) fn wake_those(&mut self, wakes: &mut Few<Waker>, wanted: impl Fn(u64, usize) -> bool) {
        let places = self.places.iter_mut().filter(|place| wanted(place.ticket, place.bytes));
        let woken = places.filter_map(|place| place.waker.take());
        wakes.extend(woken.inspect(|_| self.awake += 1));
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.places.binary_search_by_key(&id, |place| place.id).ok()
    }

    pub(super) fn facts(&self, op: Op) -> impl Iterator<Item = WaiterFact> + '_ {
        self.places.iter().map(move |place| WaiterFact {
            who: place.who,
            op: op.name(),
            need: 1,
            granted: place.waker.is_none(),
        })
    }
}
