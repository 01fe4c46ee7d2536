//! Room for publications that wait to be delivered, in bytes: most of it for whoever comes, some for each line alone.
//!
//! # Invariants
//!
//! 1. Who holds a [`Room`] is counted, and nobody else; it goes back when that is dropped, however that comes about.
//! 2. While less than a budget's limit is taken, one more is admitted, of whatever size: so nothing is too large for ever, and
//!    each budget is exceeded by one publication at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The part of all room that is kept apart, so that one line that is full does not leave the others without any.
const APART: usize = 8;

/// The room in all lines together.
#[derive(Debug)]
pub(super) struct Rooms {
    common: Arc<Budget>,
    /// Of each line alone.
    own: Box<[Arc<Budget>]>,
}

/// A number of bytes, and how many of them are taken.
#[derive(Debug)]
struct Budget {
    limit_bytes: usize,
    /// Relaxed: it orders nothing but itself.
    taken_bytes: AtomicUsize,
}

/// Room for one publication, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Rooms {
    /// Room of `max_bytes` for so many lines.
    pub(super) fn new(lines: usize, max_bytes: usize) -> Self {
        let apart = max_bytes / APART / lines;
        let budget = |limit_bytes| Arc::new(Budget { limit_bytes, taken_bytes: AtomicUsize::new(0) });
        Self { common: budget(max_bytes - apart * lines), own: (0..lines).map(|_| budget(apart)).collect() }
    }

    /// Takes room in the line of this number, or answers `None` if there is none.
    pub(super) fn take(&self, line: usize, bytes: usize) -> Option<Room> {
        self.common.take(bytes).or_else(|| self.own[line].take(bytes))
    }
}

impl Budget {
    fn take(self: &Arc<Self>, bytes: usize) -> Option<Room> {
        let more = |taken: usize| (taken < self.limit_bytes).then(|| taken.saturating_add(bytes));
        self.taken_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Room { budget: Arc::clone(self), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(rooms: &Rooms, line: usize, bytes: usize) -> Vec<Room> {
        std::iter::from_fn(|| rooms.take(line, bytes)).collect()
    }

    #[test]
    fn one_line_may_have_nearly_all_and_leaves_some_for_every_other() {
        let rooms = Rooms::new(4, 3_200);
        let first = fill(&rooms, 0, 10);
        assert_eq!(first.len(), 280 + 10);
        let others = [1, 2, 3].map(|line| fill(&rooms, line, 10));
        assert_eq!(others.each_ref().map(Vec::len), [10; 3]);
        assert!(rooms.take(0, 0).is_none());
        drop(first);
        assert_eq!(fill(&rooms, 1, 10).len(), 280, "what one gives back is for all");
        drop(others);
        assert_eq!(fill(&rooms, 1, 10).len(), 280 + 10);
    }

    #[test]
    fn what_is_larger_than_all_room_is_admitted_alone() {
        let rooms = Rooms::new(1, 100);
        let large = rooms.take(0, 1_000).unwrap();
        let next = rooms.take(0, 1).unwrap();
        assert_eq!(fill(&rooms, 0, 1).len(), 11, "of the line's own");
        drop((large, next));
        assert_eq!(fill(&rooms, 0, 10).len(), 9 + 2);
    }
}
