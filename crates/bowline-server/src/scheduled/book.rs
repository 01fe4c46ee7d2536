//! The schedules there are, in the order in which they are due. No clock, no store, no waiting.
//!
//! # Invariants
//!
//! 1. A schedule is in `slots`, once in `order`, and once among those of its channel; `bytes` is the sum of all,
//!    and `failing` counts those that were taken in vain.
//! 2. Only a schedule that [waits](Stage::Waits) is taken when it is due. What is being written, cancelled or published
//!    stays where it is until whoever does that says how it went.
//! 3. A bound is checked and its place taken in one step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bowline::Backoff;

use super::Limits;
use super::entry::{Entry, Item};

/// Schedules that have ended, of which it is remembered how.
const REMEMBERED: usize = 10_000;

/// Time until something that could not be published is tried again.
const PAUSES: Backoff = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(30));

/// What is being done with a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// For its time.
    Waits,
    /// It is being written down; whoever asked for it does not know yet.
    Written,
    /// That it is cancelled is being written down.
    Cancelled,
    /// It is due and on its way.
    Published,
}

/// How a schedule ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Cancelled,
    /// Published, skipped, or refused for good.
    Done,
}

/// Which bound leaves no room for another schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    All(usize),
    Channel(usize),
    Bytes(usize),
}

/// Why a schedule was not put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotPut {
    Full(Full),
    /// The schedule of this id is being written, cancelled or published at this moment.
    Busy,
}

/// What can be done about cancelling a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancelling {
    /// It waits, or it recurs and this run is the last.
    Can,
    /// It is on its way.
    TooLate,
    Busy,
    /// There is none; how it ended, if that is remembered.
    Gone(Option<End>),
}

#[derive(Debug)]
struct Slot {
    item: Arc<Item>,
    stage: Stage,
    /// When it is taken: at its time, or later if that failed.
    due_ms: u64,
    /// How often it was taken in vain.
    failures: u32,
    /// What stood here before, until what is written is kept.
    before: Option<Arc<Item>>,
}

impl Slot {
    fn new(item: Arc<Item>, stage: Stage) -> Self {
        Self { due_ms: item.at_ms(), item, stage, failures: 0, before: None }
    }
}

#[derive(Debug, Default)]
pub(super) struct Book {
    slots: HashMap<Arc<str>, Slot>,
    order: BTreeSet<(u64, Arc<str>)>,
    channels: HashMap<Arc<str>, BTreeSet<(u64, Arc<str>)>>,
    bytes: usize,
    failing: usize,
    /// What the log has and this version cannot read: kept there, and never due.
    unreadable: HashMap<String, Entry>,
    /// How each ended, and the number of that among all ends.
    ended: HashMap<Arc<str>, (End, u64)>,
    ended_order: BTreeMap<u64, Arc<str>>,
    endings: u64,
}

impl Book {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has nothing, not even what nobody can read.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.unreadable.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something is tried again that was not published at its time.
    pub(super) fn is_failing(&self) -> bool {
        self.failing > 0
    }

    pub(super) fn find(&self, id: &str) -> Option<&Arc<Item>> {
        self.slots.get(id).map(|slot| &slot.item)
    }

    /// What is to be kept of a schedule, also of one that cannot be read.
    pub(super) fn entry(&self, id: &str) -> Option<&Entry> {
        self.find(id).map(|item| &item.entry).or_else(|| self.unreadable.get(id))
    }

    /// Whether `item` is what stands in its place, and is in this stage.
    fn slot_of(&mut self, item: &Item, stage: Stage) -> Option<&mut Slot> {
        let is_it = |slot: &&mut Slot| slot.stage == stage && slot.item.entry.nonce == item.entry.nonce;
        self.slots.get_mut(&item.id).filter(is_it)
    }

    /// Takes a place for `item`, in the place of one of the same id. It is not published before it is
    /// [settled](Self::settle_put).
    pub(super) fn put(&mut self, item: Arc<Item>, limits: &Limits) -> Result<(), NotPut> {
        let before = self.slots.get(&item.id);
        if before.is_some_and(|slot| slot.stage != Stage::Waits) {
            return Err(NotPut::Busy);
        }
        let before = before.map(|slot| Arc::clone(&slot.item));
        let is_full = |limit: Option<usize>, used: usize| limit.filter(|limit| used > *limit);
        let all = self.slots.len() + usize::from(before.is_none());
        let is_elsewhere = before.as_ref().is_none_or(|before| before.channel != item.channel);
        let in_channel =
            self.channels.get(&item.channel).map_or(0, BTreeSet::len) + usize::from(is_elsewhere);
        let bytes = self.bytes - before.as_ref().map_or(0, |before| before.bytes()) + item.bytes();
        let full = is_full(limits.pending, all)
            .map(Full::All)
            .or_else(|| is_full(limits.pending_per_channel, in_channel).map(Full::Channel))
            .or_else(|| is_full(limits.pending_bytes, bytes).map(Full::Bytes));
        if let Some(full) = full {
            return Err(NotPut::Full(full));
        }
        self.unlink(&item.id);
        self.forget_end(&item.id);
        self.link(Slot { before, ..Slot::new(item, Stage::Written) });
        Ok(())
    }

    /// Says whether what was put is kept; if not, what was there before is back.
    pub(super) fn settle_put(&mut self, item: &Item, is_kept: bool) {
        let Some(slot) = self.slot_of(item, Stage::Written) else { return };
        let before = slot.before.take();
        if is_kept {
            slot.stage = Stage::Waits;
            self.unreadable.remove(&*item.id);
            return;
        }
        self.unlink(&item.id);
        if let Some(before) = before {
            self.link(Slot::new(before, Stage::Waits));
        }
    }

    /// Adds what the log has, whatever the bounds are now.
    pub(super) fn restore(&mut self, item: Arc<Item>) {
        self.unlink(&item.id);
        self.link(Slot::new(item, Stage::Waits));
    }

    /// Adds what the log has and nobody can read.
    pub(super) fn keep_unreadable(&mut self, entry: Entry) {
        self.unreadable.insert(entry.id.clone(), entry);
    }

    /// What can be done about cancelling it; if it can, it is from here on not published until that is
    /// [settled](Self::settle_cancel).
    pub(super) fn cancel(&mut self, id: &str) -> Cancelling {
        let Some(slot) = self.slots.get_mut(id) else {
            return Cancelling::Gone(self.ended.get(id).map(|(end, _)| *end));
        };
        match slot.stage {
            Stage::Waits => {}
            Stage::Published if slot.item.recurs() => {}
            Stage::Published => return Cancelling::TooLate,
            Stage::Written | Stage::Cancelled => return Cancelling::Busy,
        }
        slot.stage = Stage::Cancelled;
        Cancelling::Can
    }

    pub(super) fn settle_cancel(&mut self, item: &Item, is_kept: bool) {
        let Some(slot) = self.slot_of(item, Stage::Cancelled) else { return };
        if is_kept {
            self.end(item, End::Cancelled);
        } else {
            slot.stage = Stage::Waits;
        }
    }

    /// When the first that waits is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        let slots = self.order.iter().filter_map(|(_, id)| self.slots.get(id));
        slots.filter(|slot| slot.stage == Stage::Waits).map(|slot| slot.due_ms).next()
    }

    /// Takes what is due, the earliest first, `max` at most.
    pub(super) fn take_due(&mut self, now_ms: u64, max: usize) -> Vec<Arc<Item>> {
        let is_due = |(at_ms, _): &&(u64, Arc<str>)| *at_ms <= now_ms;
        let mut due = Vec::new();
        for (_, id) in self.order.iter().take_while(is_due) {
            if due.len() == max {
                break;
            }
            if let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.stage == Stage::Waits) {
                slot.stage = Stage::Published;
                due.push(Arc::clone(&slot.item));
            }
        }
        due
    }

    /// Whether `item` was taken, and nobody has cancelled it since.
    pub(super) fn is_published(&mut self, item: &Item) -> bool {
        self.slot_of(item, Stage::Published).is_some()
    }

    /// It was published, or never will be: `next` takes its place, if it recurs.
    pub(super) fn ran(&mut self, item: &Item, next: Option<Arc<Item>>) {
        if self.is_published(item) {
            match next {
                Some(next) => self.restore(next),
                None => self.end(item, End::Done),
            }
        }
    }

    /// It was not published: it is due again after a pause.
    pub(super) fn give_back(&mut self, item: &Item, now_ms: u64) {
        let Some(slot) = self.slot_of(item, Stage::Published) else { return };
        let (item, failures) = (Arc::clone(&slot.item), slot.failures + 1);
        let pause_ms = u64::try_from(PAUSES.longest_after(failures).as_millis()).unwrap_or(u64::MAX);
        let due_ms = now_ms.saturating_add(pause_ms);
        self.unlink(&item.id);
        self.link(Slot { item, stage: Stage::Waits, due_ms, failures, before: None });
    }

    /// The wall clock was put back.
    pub(super) fn clock_went_back(&mut self, now_ms: u64) {
        let waiting = self.slots.values().filter(|slot| slot.stage == Stage::Waits);
        let moved: Vec<_> = waiting.filter_map(|slot| slot.item.after_clock_went_back(now_ms)).collect();
        moved.into_iter().for_each(|item| self.restore(item));
    }

    /// Up to `limit` after a place in the order, of one channel or of all, each with its place.
    pub(super) fn list(
        &self,
        channel: &str,
        after: Option<(u64, &str)>,
        limit: usize,
    ) -> Vec<(u64, Arc<Item>)> {
        let empty = BTreeSet::new();
        let order = match channel {
            "" => &self.order,
            channel => self.channels.get(channel).unwrap_or(&empty),
        };
        let after = after.map(|(at_ms, id)| (at_ms, Arc::from(id)));
        let is_after = |place: &&(u64, Arc<str>)| after.as_ref().is_none_or(|after| *place > after);
        let begin = after.clone().unwrap_or_else(|| (0, Arc::from("")));
        let places = order.range(begin..).filter(is_after).take(limit);
        places.filter_map(|(due_ms, id)| Some((*due_ms, Arc::clone(self.find(id)?)))).collect()
    }

    /// How many there are in a channel, or in all.
    pub(super) fn count(&self, channel: &str) -> usize {
        if channel.is_empty() { self.len() } else { self.channels.get(channel).map_or(0, BTreeSet::len) }
    }

    fn link(&mut self, slot: Slot) {
        let (item, id) = (&slot.item, Arc::clone(&slot.item.id));
        let place = (slot.due_ms, Arc::clone(&id));
        self.bytes += item.bytes();
        self.failing += usize::from(slot.failures > 0);
        self.order.insert(place.clone());
        self.channels.entry(Arc::clone(&item.channel)).or_default().insert(place);
        self.slots.insert(id, slot);
    }

    fn unlink(&mut self, id: &str) {
        let Some(Slot { item, due_ms, failures, .. }) = self.slots.remove(id) else { return };
        let place = (due_ms, Arc::clone(&item.id));
        self.bytes -= item.bytes();
        self.failing -= usize::from(failures > 0);
        self.order.remove(&place);
        if let Some(of_channel) = self.channels.get_mut(&item.channel) {
            of_channel.remove(&place);
            if of_channel.is_empty() {
                self.channels.remove(&item.channel);
            }
        }
    }

    fn end(&mut self, item: &Item, end: End) {
        self.unlink(&item.id);
        self.forget_end(&item.id);
        while self.ended_order.len() >= REMEMBERED {
            if let Some((_, oldest)) = self.ended_order.pop_first() {
                self.ended.remove(&oldest);
            }
        }
        self.endings += 1;
        self.ended.insert(Arc::clone(&item.id), (end, self.endings));
        self.ended_order.insert(self.endings, Arc::clone(&item.id));
    }

    fn forget_end(&mut self, id: &str) {
        if let Some((_, ending)) = self.ended.remove(id) {
            self.ended_order.remove(&ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_last_that_ended_it_is_remembered_how_also_of_an_id_that_was_used_twice() {
        let mut book = Book::default();
        let mut nonce = 0;
        let mut end = |book: &mut Book, id: &str| {
            nonce += 1;
            let entry = Entry { id: id.to_owned(), nonce, ..Entry::default() };
            let item = Arc::new(Item::new(entry).unwrap());
            book.put(Arc::clone(&item), &Limits::default()).unwrap();
            book.settle_put(&item, true);
            assert_eq!(book.cancel(id), Cancelling::Can);
            book.settle_cancel(&item, true);
        };
        end(&mut book, "oldest");
        end(&mut book, "twice");
        end(&mut book, "twice");
        for other in 0..REMEMBERED - 1 {
            end(&mut book, &other.to_string());
        }
        assert_eq!(book.cancel("oldest"), Cancelling::Gone(None));
        assert_eq!(book.cancel("twice"), Cancelling::Gone(Some(End::Cancelled)));
        end(&mut book, "another");
        assert_eq!(book.cancel("twice"), Cancelling::Gone(None));
        assert_eq!((book.ended.len(), book.ended_order.len()), (REMEMBERED, REMEMBERED));
    }
}
