//! A line of waiters, in the order in which they were first polled.
//!
//! # Invariants
//!
//! 1. Ids rise, so the line is sorted by them.
//! 2. Who was granted came before all who were not: the granted are a prefix of the line. They stay in it until they come
//!    to take what is theirs, or give up their place; it is for the queue to count what was promised to them.
//! 3. A place has a waker exactly as long as it is not granted.

use std::collections::VecDeque;
use std::task::Waker;

use crate::resource::{WaiterFact, Who};
use crate::wait::Op;

#[derive(Default)]
pub(super) struct Line {
    places: VecDeque<Place>,
    granted: usize,
    next: u64,
}

pub(super) struct Place {
    id: u64,
    /// How much room in bytes it asks for, or was granted.
    pub(super) bytes: usize,
    who: Who,
    waker: Option<Waker>,
}

impl Place {
    pub(super) fn was_granted(&self) -> bool {
        self.waker.is_none()
    }
}

/// How a place in line stands.
pub(super) enum Standing {
    /// It was granted that many bytes, and has left the line.
    Granted(usize),
    Waiting,
    /// It waits, and its waker is out of date: come again with a new one. Cloning a waker is not for under a lock.
    NeedsWaker,
    /// The line was dissolved.
    Gone,
}

impl Line {
    pub(super) fn join(&mut self, bytes: usize, who: Who, waker: Waker) -> u64 {
        self.next += 1;
        self.places.push_back(Place { id: self.next, bytes, who, waker: Some(waker) });
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many wait for a grant.
    pub(super) fn waiting(&self) -> usize {
        self.places.len() - self.granted
    }

    /// How many were granted what they have not come to take.
    pub(super) fn granted(&self) -> usize {
        self.granted
    }

    /// The bytes that the first who waits asks for.
    pub(super) fn first_bytes(&self) -> Option<usize> {
        self.places.get(self.granted).map(|place| place.bytes)
    }

    pub(super) fn grant_first(&mut self) -> Option<Waker> {
        let waker = self.places.get_mut(self.granted)?.waker.take();
        self.granted += 1;
        waker
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.places.binary_search_by_key(&id, |place| place.id).ok()
    }

    /// Takes a place up again. `fresh` is a clone of `waker` to put in, if there is one; what it replaces is left there.
    pub(super) fn look(&mut self, id: u64, waker: &Waker, fresh: &mut Option<Waker>) -> Standing {
        let Some(at) = self.position(id) else { return Standing::Gone };
        self.places[at].who.polled_again();
        match &self.places[at].waker {
            None => {
                self.granted -= 1;
                Standing::Granted(self.places.remove(at).map_or(0, |place| place.bytes))
            }
            Some(known) if known.will_wake(waker) => Standing::Waiting,
            Some(_) if fresh.is_none() => Standing::NeedsWaker,
            Some(_) => {
                std::mem::swap(&mut self.places[at].waker, fresh);
                Standing::Waiting
            }
        }
    }

    /// Gives up a place. What comes back is to be dropped outside of the lock, and what was granted to it to be passed on.
    pub(super) fn leave(&mut self, id: u64) -> Option<Place> {
        let place = self.places.remove(self.position(id)?)?;
        self.granted -= usize::from(place.was_granted());
        Some(place)
    }

    /// Everybody in line, for whoever wants to know why the program stands still.
    pub(super) fn facts(&self, op: Op) -> impl Iterator<Item = WaiterFact> + '_ {
        self.places.iter().map(move |place| WaiterFact {
            who: place.who,
            op: op.name(),
            need: 1,
            granted: place.was_granted(),
        })
    }

    /// Sends all away who were not granted.
    pub(super) fn dissolve(&mut self) -> impl Iterator<Item = Waker> + '_ {
        self.places.drain(self.granted..).filter_map(|place| place.waker)
    }
}
