//! The line: who waits for a lock, who was granted it, and who holds it. Sequential code; its owner has the lock.
//!
//! A place is a slot in a slab, linked into the line while it waits. It goes `Waiting → Granted → Held`, or is left from any of
//! them; every step costs the same however many wait.

use std::task::Waker;

use crate::clock;
use crate::resource::{HeldFact, WaiterFact, Who};
use crate::wait::Op;

/// Index of a slot.
pub(crate) type Key = u32;

const NONE: Key = Key::MAX;

/// Slots kept when nobody is there: an idle lock keeps no memory of its worst moment.
const KEPT_WHEN_EMPTY: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody's; `after` is the next vacant slot.
    Vacant,
    /// In line.
    Waiting,
    /// Out of the line; what it asked for belongs to it, though it has not come to fetch it.
    Granted,
    /// Fetched.
    Held,
}

struct Place {
    stage: Stage,
    need: usize,
    who: Who,
    op: Op,
    waker: Option<Waker>,
    before: Key,
    after: Key,
}

/// What somebody who leaves leaves behind.
pub(crate) struct Left {
    pub(crate) stage: Stage,
    pub(crate) need: usize,
    /// To be dropped outside the lock.
    pub(crate) waker: Option<Waker>,
}

pub(crate) struct Line {
    slots: Vec<Place>,
    vacant: Key,
    first: Key,
    last: Key,
    waiting: usize,
    /// Waiting, granted and held.
    taken: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { slots: Vec::new(), vacant: NONE, first: NONE, last: NONE, waiting: 0, taken: 0 }
    }
}

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Enters a holder that did not have to wait.
    pub(crate) fn hold(&mut self, need: usize, who: Who, op: Op) -> Key {
        self.insert(Place { stage: Stage::Held, need, who, op, waker: None, before: NONE, after: NONE })
    }

    /// Joins at the end.
    pub(crate) fn join(&mut self, need: usize, who: Who, op: Op, waker: Waker) -> Key {
        let before = self.last;
        let place = Place { stage: Stage::Waiting, need, who, op, waker: Some(waker), before, after: NONE };
        let key = self.insert(place);
        match before {
            NONE => self.first = key,
            before => self.place(before).after = key,
        }
        self.last = key;
        self.waiting += 1;
        key
    }

    /// Whoever is first, and what it needs.
    pub(crate) fn first(&mut self) -> Option<(Key, usize)> {
        match self.first {
            NONE => None,
            first => Some((first, self.place(first).need)),
        }
    }

    /// Takes a place out of the line and marks it as granted, in one step. Its waker is to be woken outside the lock.
    pub(crate) fn grant(&mut self, key: Key) -> Option<Waker> {
        self.unlink(key);
        let place = self.place(key);
        place.stage = Stage::Granted;
        place.waker.take()
    }

    /// The granted place has been fetched.
    pub(crate) fn fetch(&mut self, key: Key) {
        self.place(key).stage = Stage::Held;
    }

    pub(crate) fn stage(&mut self, key: Key) -> Stage {
        self.place(key).stage
    }

    pub(crate) fn who(&mut self, key: Key) -> Who {
        self.place(key).who
    }

    pub(crate) fn need(&mut self, key: Key) -> usize {
        self.place(key).need
    }

    /// Notes that a waiting place was polled. Says whether its waker still is the right one.
    pub(crate) fn polled(&mut self, key: Key, waker: &Waker) -> bool {
        let place = self.place(key);
        place.who.polled_again();
        place.waker.as_ref().is_some_and(|known| known.will_wake(waker))
    }

    /// Replaces a waiting place's waker; the old one is to be dropped outside the lock.
    pub(crate) fn renew(&mut self, key: Key, waker: Waker) -> Option<Waker> {
        self.place(key).waker.replace(waker)
    }

    /// A held place is taken over by another task.
    pub(crate) fn hand_over(&mut self, key: Key, who: Who) {
        self.place(key).who = who;
    }

    pub(crate) fn set_need(&mut self, key: Key, need: usize) {
        self.place(key).need = need;
    }

    pub(crate) fn leave(&mut self, key: Key) -> Left {
        if self.place(key).stage == Stage::Waiting {
            self.unlink(key);
        }
        let vacant = self.vacant;
        let place = self.place(key);
        let left = Left { stage: place.stage, need: place.need, waker: place.waker.take() };
        place.stage = Stage::Vacant;
        place.after = vacant;
        self.vacant = key;
        self.taken -= 1;
        if self.taken == 0 && self.slots.len() > KEPT_WHEN_EMPTY {
            self.slots = Vec::new();
            self.vacant = NONE;
        }
        left
    }

    /// Takes the wakers of all who wait, and leaves them in line: they are to look again, and find that it is over.
    pub(crate) fn call_all(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::with_capacity(self.waiting);
        let mut at = self.first;
        while at != NONE {
            let place = self.place(at);
            wakers.extend(place.waker.take());
            at = place.after;
        }
        wakers
    }

    /// Everybody in line, in order, and then those who were granted and have not come.
    pub(crate) fn waiters(&self) -> Vec<WaiterFact> {
        let mut waiters = Vec::with_capacity(self.waiting);
        let mut at = self.first;
        while let Some(place) = self.slots.get(at as usize) {
            waiters.push(place.as_waiter());
            at = place.after;
        }
        let granted = self.slots.iter().filter(|place| place.stage == Stage::Granted);
        waiters.extend(granted.map(Place::as_waiter));
        waiters
    }

    /// Everybody to whom a part belongs: holders, and those granted.
    pub(crate) fn held(&self) -> Vec<HeldFact> {
        let held = self.slots.iter().filter(|place| matches!(place.stage, Stage::Granted | Stage::Held));
        held.map(|place| HeldFact { who: place.who, amount: place.need }).collect()
    }

    /// Of those to whom a part belongs, whoever came first.
    pub(crate) fn oldest(&self) -> Option<Who> {
        let held = self.slots.iter().filter(|place| matches!(place.stage, Stage::Granted | Stage::Held));
        held.map(|place| place.who).max_by_key(|who| clock::since(who.since))
    }

    fn place(&mut self, key: Key) -> &mut Place {
        let place = &mut self.slots[key as usize];
        debug_assert_ne!(place.stage, Stage::Vacant, "only who has a place has its key");
        place
    }

    fn insert(&mut self, place: Place) -> Key {
        self.taken += 1;
        if self.vacant == NONE {
            let key = Key::try_from(self.slots.len()).ok().filter(|key| *key != NONE);
            self.slots.push(place);
            return key.expect("2^32 waiters do not fit into memory");
        }
        let key = self.vacant;
        let slot = &mut self.slots[key as usize];
        self.vacant = slot.after;
        *slot = place;
        key
    }

    fn unlink(&mut self, key: Key) {
        let Place { before, after, .. } = *self.place(key);
        match before {
            NONE => self.first = after,
            before => self.place(before).after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.place(after).before = before,
        }
        self.waiting -= 1;
    }
}

impl Place {
    fn as_waiter(&self) -> WaiterFact {
        WaiterFact {
            who: self.who,
            op: self.op.name(),
            need: self.need,
            // Without a waker it was called, to hear that its wait is in vain: that is for it too.
            granted: self.stage == Stage::Granted || self.waker.is_none(),
        }
    }
}
