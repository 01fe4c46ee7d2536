//! Several records per lock, where that can be seen nowhere else.
//!
//! A stage with one worker whose work is done at its first poll spends most of its time with handing over. So its worker takes
//! a few records at once, and puts down as many at once.
//!
//! # Invariants
//!
//! 1. A record that was taken ahead keeps its place on the belt it came from (`lent`), and a result that is not put down yet has one
//!    on the belt it goes to (`reserved`). So the bounds hold to the record, and work is begun only when there is nothing to wait for
//!    before it, as without batches.
//! 2. Before its task gives a turn away, a worker puts down what it has, and gives back the places of what it does not hold any
//!    more: no record waits for the work on another.
//! 3. Only a stage of one worker takes ahead: nobody else could work on what it has.
//! 4. What is in a batch is dropped, or put down, with it, and counted.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::belt::{End, Riding};
use super::meter::Meter;

/// The most records of a batch: enough to make the lock cheap beside them.
const MOST: usize = 32;

/// How long a batch may take: longer ones make those behind wait, and have nothing to gain.
const QUICK: Duration = Duration::from_micros(20);

/// How many records are taken at once: more as long as that is quick.
pub(super) struct Pace {
    now: usize,
    most: usize,
    begun: Instant,
}

impl Pace {
    /// For a belt with so many places: no more than a quarter is taken ahead, so that those before it have room to go on.
    pub(super) fn of(places: usize) -> Self {
        Self { now: 1, most: (1 + places / 4).min(MOST), begun: Instant::now() }
    }

    /// For whoever may not take ahead.
    pub(super) fn one_by_one() -> Self {
        Self::of(0)
    }

    pub(super) fn is_one_by_one(&self) -> bool {
        self.most == 1
    }

    /// A batch begins; returns of how many records it may be.
    pub(super) fn begin(&mut self) -> usize {
        if !self.is_one_by_one() {
            self.begun = Instant::now();
        }
        self.now
    }

    /// The batch has come to its end.
    pub(super) fn end(&mut self) {
        if !self.is_one_by_one() {
            self.now = if self.was_quick() { (self.now * 2).min(self.most) } else { (self.now / 2).max(1) };
        }
    }

    #[cfg(not(any(bowline_loom, bowline_shuttle)))]
    fn was_quick(&self) -> bool {
        self.begun.elapsed() <= QUICK
    }

    /// A model's schedule has no time.
    #[cfg(any(bowline_loom, bowline_shuttle))]
    fn was_quick(&self) -> bool {
        let _ = (QUICK, self.begun);
        true
    }
}

/// Records taken ahead.
pub(super) struct Pocket<'a, T> {
    end: &'a End<T>,
    meter: &'a Meter<'a>,
    records: VecDeque<(u64, Riding<T>)>,
    /// Places that the belt keeps for them, and perhaps for some that were in here.
    lent: usize,
}

impl<'a, T> Pocket<'a, T> {
    pub(super) fn new(end: &'a End<T>, meter: &'a Meter<'a>) -> Self {
        Self { end, meter, records: VecDeque::new(), lent: 0 }
    }

    /// Takes what is there, up to `max`, without waiting.
    pub(super) fn fill(&mut self, max: usize) {
        if max > 0 {
            self.lent += self.end.take_ahead(max, &mut self.records);
        }
    }

    pub(super) fn next(&mut self) -> Option<(u64, Riding<T>)> {
        self.records.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn give_places_back(&mut self) {
        let over = self.lent - self.records.len();
        if over > 0 {
            self.lent -= over;
            self.end.give_back(over);
        }
    }
}

impl<T> Drop for Pocket<'_, T> {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.records);
        self.meter.cancels(left.len() as u64);
        self.give_places_back();
        drop(left); // user code, last
    }
}

/// Results that have a place on the belt and are not put down yet.
pub(super) struct Outbox<'a, T> {
    end: &'a End<T>,
    places: usize,
    records: Vec<Riding<T>>,
}

impl<'a, T> Outbox<'a, T> {
    pub(super) fn new(end: &'a End<T>) -> Self {
        Self { end, places: 0, records: Vec::new() }
    }

    /// Reserves places, up to `max` in all, as far as there are.
    pub(super) fn reserve(&mut self, max: usize) {
        let more = max.saturating_sub(self.places);
        if more > 0 {
            self.places += self.end.reserve_ahead(more);
        }
    }

    pub(super) fn has_place(&self) -> bool {
        self.places > self.records.len()
    }

    /// Puts in a record, for which there is a place.
    pub(super) fn add(&mut self, riding: Riding<T>) {
        debug_assert!(self.has_place(), "a place is reserved first");
        self.records.push(riding);
    }

    /// A place was reserved by other means.
    pub(super) fn add_place(&mut self) {
        self.places += 1;
    }

    pub(super) fn put_down(&mut self) {
        if !self.records.is_empty() {
            self.places -= self.records.len();
            self.end.fill_all(&mut self.records);
        }
    }
}

impl<T> Drop for Outbox<'_, T> {
    fn drop(&mut self) {
        self.put_down();
        if self.places > 0 {
            self.end.leave(self.places);
        }
    }
}
