//! One lane of a queue: items in order, the bound, those who wait for room, and the books.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::LaneStats;
use super::few::Few;
use super::line::Line;
use crate::clock;

/// What a lane may hold.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) items: usize,
    /// `usize::MAX` if bytes are not counted.
    pub(super) bytes: usize,
}

/// An item with what is known about it since it came.
pub(super) struct Queued<T> {
    pub(super) item: T,
    /// Measured once, when it came: measuring is user code, and the size may change.
    pub(super) bytes: usize,
    /// How often it was delivered and came back.
    pub(super) returns: u32,
    came: u32,
}

/// What happened in a lane so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Books {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) dropped: u64,
    pub(super) refused: u64,
    pub(super) abandoned: u64,
    pub(super) redelivered: u64,
    pub(super) waits: u64,
}

impl Books {
    pub(super) fn add(&mut self, other: &Books) {
        self.sent += other.sent;
        self.received += other.received;
        self.dropped += other.dropped;
        self.refused += other.refused;
        self.abandoned += other.abandoned;
        self.redelivered += other.redelivered;
        self.waits += other.waits;
    }
}

pub(super) struct Lane<T> {
    items: VecDeque<Queued<T>>,
    bytes: usize,
    /// Room that is taken but not by queued items: promised to granted senders and permits, or kept for what is in flight.
    held: usize,
    held_bytes: usize,
    pub(super) in_flight: usize,
    limits: Limits,
    pub(super) room_line: Line,
    high_water: usize,
    pub(super) books: Books,
    /// The name of a source, and how many handles it has. A lane of a plain queue has none.
    pub(super) source: Option<Arc<str>>,
    pub(super) handles: u32,
    /// Whether the lane stands in the order of turns.
    pub(super) listed: bool,
}

/// A lane keeps no more buffer than this when it is nearly empty. Below it, growing again each time costs more than it saves.
const KEPT_BYTES: usize = 4096;

impl<T> Lane<T> {
    pub(super) fn new(limits: Limits, source: Option<Arc<str>>) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            held: 0,
            held_bytes: 0,
            in_flight: 0,
            limits,
            room_line: Line::default(),
            high_water: 0,
            books: Books::default(),
            source,
            handles: 0,
            listed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn high_water(&self) -> usize {
        self.high_water
    }

    pub(super) fn max_items(&self) -> usize {
        self.limits.items
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.items.len() + self.held < self.limits.items
            && (self.limits.bytes == usize::MAX || self.has_bytes(bytes))
    }

    fn has_bytes(&self, bytes: usize) -> bool {
        let taken = self.bytes.saturating_add(self.held_bytes);
        taken.saturating_add(bytes) <= self.limits.bytes || (self.items.is_empty() && self.held == 0)
    }

    /// Whether a newcomer may go in: there is room, and nobody was there before.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        self.room_line.waiting() == 0 && self.has_room(bytes)
    }

    /// Room that permits have taken.
    pub(super) fn reserved(&self) -> usize {
        self.held.saturating_sub(self.in_flight + self.room_line.granted())
    }

    pub(super) fn hold(&mut self, bytes: usize) {
        self.held += 1;
        self.held_bytes = self.held_bytes.saturating_add(bytes);
    }

    pub(super) fn let_go(&mut self, bytes: usize) {
        self.held -= 1;
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    #[inline]
    pub(super) fn push(&mut self, item: T, bytes: usize) {
        self.items.push_back(Queued { item, bytes, returns: 0, came: clock::coarse_millis() });
        self.bytes = self.bytes.saturating_add(bytes);
        self.books.sent += 1;
        self.high_water = self.high_water.max(self.items.len());
    }

    /// Puts back what was in flight, before all others.
    pub(super) fn put_back(&mut self, mut queued: Queued<T>) {
        self.bytes = self.bytes.saturating_add(queued.bytes);
        self.books.redelivered += 1;
        queued.returns = queued.returns.saturating_add(1);
        self.items.push_front(queued);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Queued<T>> {
        let queued = self.items.pop_front()?;
        self.bytes = self.bytes.saturating_sub(queued.bytes);
        let kept = self.items.capacity();
        if kept > KEPT_BYTES / size_of::<Queued<T>>() && self.items.len() < kept / 8 {
            // No memory of the worst moment. The buffer falls to a quarter each time, so copying costs a constant per item.
            self.items.shrink_to(2 * self.items.len());
        }
        Some(queued)
    }

    pub(super) fn abandon(&mut self) -> VecDeque<Queued<T>> {
        self.bytes = 0;
        self.books.abandoned += self.items.len() as u64;
        std::mem::take(&mut self.items)
    }

    /// Gives freed room to whoever is first in line, as long as the first fits.
    pub(super) fn grant_room(&mut self, wakes: &mut Few<Waker>) {
        while let Some(bytes) = self.room_line.first_bytes() {
            if !self.has_room(bytes) {
                return;
            }
            self.hold(bytes);
            wakes.extend(self.room_line.grant_first());
        }
    }

    /// Whether nothing of it is left anywhere, so that a source without a handle may go.
    pub(super) fn is_idle(&self) -> bool {
        self.items.is_empty() && self.held == 0 && self.room_line.waiting() == 0
    }

    /// Since when the oldest item has been queued, on the coarse clock.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.items.front().map(|queued| queued.came)
    }

    pub(super) fn stats(&self, name: &str) -> LaneStats {
        LaneStats {
            name: name.to_owned(),
            depth_items: self.items.len(),
            depth_bytes: self.bytes,
            in_flight: self.in_flight,
            max_items: self.limits.items,
            high_water_items: self.high_water,
            sent: self.books.sent,
            received: self.books.received,
            dropped: self.books.dropped,
            refused: self.books.refused,
            redelivered: self.books.redelivered,
            waits: self.books.waits,
            waiting_senders: self.room_line.waiting(),
            oldest_ms: age_ms(self.oldest()),
        }
    }
}

pub(super) fn age_ms(came: Option<u32>) -> u64 {
    came.map_or(0, |came| u64::try_from(clock::since(came).as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100_000;

    fn lane() -> Lane<[u64; 8]> {
        Lane::new(Limits { items: MAX, bytes: usize::MAX }, None)
    }

    fn buffer_bytes(lane: &Lane<[u64; 8]>) -> usize {
        lane.items.capacity() * size_of::<Queued<[u64; 8]>>()
    }

    /// tokio#4321 and tokio#7355: a channel keeps the blocks of its worst burst, 25 KB in each of 300,000 channels.
    #[test]
    fn a_lane_gives_the_memory_of_a_burst_back() {
        let mut lane = lane();
        for _ in 0..MAX {
            lane.push([0; 8], 0);
        }
        assert!(buffer_bytes(&lane) > 1 << 20);
        while lane.len() > 10 {
            lane.pop();
        }
        assert!(buffer_bytes(&lane) <= 2 * KEPT_BYTES, "{} with a few items left", buffer_bytes(&lane));
        while lane.pop().is_some() {}
        assert!(buffer_bytes(&lane) <= KEPT_BYTES, "{}", buffer_bytes(&lane));
    }

    #[test]
    fn a_lane_that_fills_and_empties_a_little_keeps_its_buffer() {
        let mut lane = lane();
        let mut kept = None;
        for _ in 0..10 {
            for _ in 0..32 {
                lane.push([0; 8], 0);
            }
            while lane.pop().is_some() {}
            assert_eq!(*kept.get_or_insert(lane.items.capacity()), lane.items.capacity());
        }
    }
}
