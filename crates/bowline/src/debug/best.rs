//! The first so many of a long sequence, in the memory of so many.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keeps what has the smallest keys; of equals, what came first.
pub(super) struct Best<K, T> {
    rows: usize,
    offered: usize,
    /// The greatest key is on top: it goes first.
    kept: BinaryHeap<Entry<K, T>>,
}

struct Entry<K, T> {
    key: (K, usize),
    row: T,
}

impl<K: Ord, T> Best<K, T> {
    pub(super) fn of(rows: usize) -> Self {
        Self { rows, offered: 0, kept: BinaryHeap::new() }
    }

    /// Adds one that is made only if it is among the first so far.
    pub(super) fn offer(&mut self, key: K, row: impl FnOnce() -> T) {
        let key = (key, self.offered);
        self.offered += 1;
        if self.kept.len() < self.rows {
            self.kept.push(Entry { key, row: row() });
        } else if let Some(mut last) = self.kept.peek_mut().filter(|last| key < last.key) {
            *last = Entry { key, row: row() };
        }
    }

    /// How many were offered.
    pub(super) fn offered(&self) -> usize {
        self.offered
    }

    /// Those that were kept, the smallest key first, and how many were not.
    pub(super) fn finish(self) -> (Vec<T>, usize) {
        let more = self.offered - self.kept.len();
        (self.kept.into_sorted_vec().into_iter().map(|entry| entry.row).collect(), more)
    }
}

impl<K: Ord, T> PartialEq for Entry<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K: Ord, T> Eq for Entry<K, T> {}

impl<K: Ord, T> PartialOrd for Entry<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> Ord for Entry<K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_are_kept_in_order_and_equals_in_the_order_they_came() {
        let mut best = Best::of(3);
        for (key, row) in [(5, 'a'), (1, 'b'), (5, 'c'), (1, 'd'), (9, 'e'), (0, 'f')] {
            best.offer(key, || row);
        }
        assert_eq!(best.offered(), 6);
        assert_eq!(best.finish(), (vec!['f', 'b', 'd'], 3));
    }

    #[test]
    fn what_has_no_chance_is_not_made() {
        let mut best = Best::of(1);
        best.offer(1, || ());
        best.offer(2, || panic!("it has no chance"));
        let mut none = Best::of(0);
        none.offer(1, || panic!("nobody wants it"));
        assert_eq!(none.finish(), (Vec::<()>::new(), 1));
        assert_eq!(best.finish().1, 1);
    }
}
