//! When a record is done: what is owed to its source is given, and what is done without a gap is told.
//!
//! # Invariants
//!
//! 1. A record is settled at most once, and only when nothing of it is left to be done: the sink has succeeded, a filter has
//!    dropped it, or its failure was handed on.
//! 2. What is told rises, one call at a time, outside of the lock.
//! 3. The memory of what is done beyond a gap is one range per gap; there are as many gaps as records in flight and failures kept.

use std::collections::BTreeMap;
use std::fmt;

use crate::queue::FreeDelivery;
use crate::sync::{LockExt, Mutex};

/// What is owed for a record when it is done; dropped before, it goes back.
pub(super) type Receipt = Option<Box<dyn Owed + Sync>>;

pub(super) trait Owed: Send {
    fn settle(self: Box<Self>);
}

impl<T: Send + Sync> Owed for FreeDelivery<T> {
    fn settle(self: Box<Self>) {
        drop(self.ack());
    }
}

/// Tells the latest of a value: in order, one call at a time, and not under the lock.
pub(super) struct Teller<V> {
    state: Mutex<Telling<V>>,
}

struct Telling<V> {
    latest: V,
    told: V,
    busy: bool,
}

impl<V: Copy + PartialEq> Teller<V> {
    pub(super) fn new(value: V) -> Self {
        Self { state: Mutex::new(Telling { latest: value, told: value, busy: false }) }
    }

    /// Changes the value, and tells it unless somebody else is at it, who will.
    pub(super) fn change(&self, change: impl FnOnce(&mut V), mut tell: impl FnMut(V)) {
        {
            let mut state = self.state.lock_unpoisoned();
            change(&mut state.latest);
            if state.busy || state.latest == state.told {
                return;
            }
            state.busy = true;
        }
        let _busy = Busy(self); // also if `tell` panics
        loop {
            let latest = {
                let mut state = self.state.lock_unpoisoned();
                if state.latest == state.told {
                    state.busy = false;
                    return;
                }
                state.told = state.latest;
                state.latest
            };
            tell(latest);
        }
    }
}

struct Busy<'a, V>(&'a Teller<V>);

impl<V> Drop for Busy<'_, V> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state.lock_unpoisoned().busy = false;
        }
    }
}

/// Which records of the source are done without a gap.
pub(super) struct Watermark {
    /// Done beyond the first gap: the beginning and the end of each range.
    beyond: Mutex<Beyond>,
    teller: Teller<u64>,
    tell: Box<dyn Fn(u64) + Send + Sync>,
}

#[derive(Default)]
struct Beyond {
    /// All before it are done.
    mark: u64,
    ranges: BTreeMap<u64, u64>,
}

impl Beyond {
    fn add(&mut self, seq: u64) {
        let (mut from, mut to) = (seq, seq + 1);
        if let Some(end) = self.ranges.remove(&to) {
            to = end;
        }
        let before = self.ranges.range(..seq).next_back().map(|(from, to)| (*from, *to));
        if let Some((start, _)) = before.filter(|(_, end)| *end == seq) {
            self.ranges.remove(&start);
            from = start;
        }
        if from == self.mark {
            self.mark = to;
        } else {
            self.ranges.insert(from, to);
        }
    }
}

impl Watermark {
    pub(super) fn new(tell: Box<dyn Fn(u64) + Send + Sync>) -> Self {
        Self { beyond: Mutex::new(Beyond::default()), teller: Teller::new(0), tell }
    }

    pub(super) fn settle(&self, seq: u64) {
        let mark = {
            let mut beyond = self.beyond.lock_unpoisoned();
            beyond.add(seq);
            beyond.mark
        };
        self.teller.change(|latest| *latest = mark.max(*latest), |mark| (self.tell)(mark));
    }

    /// How many records are done without a gap.
    pub(super) fn mark(&self) -> u64 {
        self.beyond.lock_unpoisoned().mark
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watermark").field(&self.mark()).finish()
    }
}

#[cfg(all(test, not(any(bowline_loom, bowline_shuttle))))]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_mark_is_where_the_first_gap_is(order in Just((0..40_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut beyond = Beyond::default();
            let mut done = BTreeSet::new();
            for seq in order {
                beyond.add(seq);
                done.insert(seq);
                let gap = (0..).find(|seq| !done.contains(seq)).unwrap();
                prop_assert_eq!(beyond.mark, gap);
                let gaps = (gap..40).filter(|seq| !done.contains(seq) && done.contains(&(seq + 1))).count();
                prop_assert!(beyond.ranges.len() <= gaps, "one range per gap");
            }
            prop_assert_eq!((beyond.mark, beyond.ranges.len()), (40, 0));
        }
    }

    #[test]
    fn what_changes_while_it_is_told_is_told_afterwards_and_a_panic_ends_only_its_own_call() {
        let teller = Teller::new(0);
        let told = Mutex::new(Vec::new());
        teller.change(
            |value| *value = 1,
            |value| {
                told.lock_unpoisoned().push(value);
                if value == 1 {
                    teller.change(|value| *value = 2, |_| panic!("one call at a time"));
                }
            },
        );
        assert_eq!(*told.lock_unpoisoned(), [1, 2]);
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            teller.change(|value| *value = 3, |_| panic!("a callback's own"));
        }));
        assert!(died.is_err());
        teller.change(|value| *value = 4, |value| told.lock_unpoisoned().push(value));
        assert_eq!(*told.lock_unpoisoned(), [1, 2, 4]);
    }
}
