//! Where schedules are kept: a stream of the store, to which every change is appended.
//!
//! # Invariants
//!
//! 1. The newest record about a schedule counts. Records are trimmed at the old end only, and only below the oldest that
//!    counts: so what says that a schedule has ended is there as long as what said that it was put.
//! 2. At most as many records are kept as count, times [`SLACK`], and a few: each append writes the oldest that count
//!    again, so that a schedule of next year does not keep what was done since.
//! 3. The caller appends under its lock, so the order of records is the order in which things happened.
//! 4. What was written again counts once it is known to be kept. Until then what stood before is kept too.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bowline_store::{
    Append, Appended, Durability, Epoch, Limit, Publication, Query, Receipt, Retention, StoreError,
    StreamStore,
};
use bytes::Bytes;
use prost::Message as _;

use super::entry::{Entry, Record};

/// The stream of the schedules. No channel can be called so: [`Node`](crate::node::Node) takes no name that begins with it.
pub(crate) const STREAM: &str = "\0schedules";

/// A hundred years: nothing here goes by age.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Records kept for each that counts.
pub(super) const SLACK: u64 = 4;

/// Records kept in any case. Few in tests, so that they write some again.
pub(super) const FEW: u64 = if cfg!(test) { 8 } else { 1_024 };

/// Records written again by one append, at most.
const MOVED_AT_ONCE: usize = 2;

/// Records read at once.
const PAGE: NonZeroUsize = NonZeroUsize::new(1_000).expect("above zero");

/// A change that is appended, and not known to be kept.
#[derive(Debug)]
#[must_use = "until it is settled, what stood before is kept too"]
pub(super) struct Change {
    pub(super) receipt: Receipt<Appended>,
    pub(super) id: Arc<str>,
    pub(super) before: Option<u64>,
    /// Where it stands; nothing for an end.
    pub(super) at: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    /// Which life of the stream the positions are of.
    epoch: Option<Epoch>,
    top: u64,
    /// Where the newest record of each schedule that there is stands.
    places: HashMap<Arc<str>, u64>,
    order: BTreeMap<u64, Arc<str>>,
    /// Schedules that were written again, the oldest first, until that is settled.
    moved: VecDeque<Change>,
    /// How many changes of a schedule are not settled: by callers, and of `moved`.
    open: HashMap<Arc<str>, u32>,
}

/// What the log says, read from its beginning.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) entries: HashMap<String, Entry>,
    /// Records that nobody can read.
    pub(super) unreadable: usize,
}

impl Log {
    /// Reads all of it.
    pub(super) fn read(&mut self, store: &dyn StreamStore) -> Result<Read, StoreError> {
        let mut read = Read::default();
        *self = Self::default();
        if store.stats().streams == 0 {
            return Ok(read); // and none is begun for this
        }
        let mut from = 0;
        loop {
            let page = store.read(STREAM, Query::forward(from, Limit::AtMost(PAGE)), FOR_EVER)?;
            // What was begun anew meanwhile is read anew.
            if self.epoch.as_ref().is_some_and(|epoch| *epoch != page.top.epoch) {
                (read, from) = (Read::default(), 0);
                *self = Self::default();
                continue;
            }
            (self.epoch, self.top) = (Some(page.top.epoch), page.top.offset);
            let Some(last) = page.publications.last() else { return Ok(read) };
            from = last.offset;
            for kept in page.publications {
                match Record::decode(kept.publication.data) {
                    Ok(Record { put: Some(entry), .. }) => {
                        self.stands_at(&Arc::from(entry.id.as_str()), kept.offset);
                        read.entries.insert(entry.id.clone(), entry);
                    }
                    Ok(Record { put: None, ended }) => {
                        self.leaves(&ended);
                        read.entries.remove(&ended);
                    }
                    Err(_) => read.unreadable += 1,
                }
            }
        }
    }

    /// Writes a schedule down as it is from here on. `others` finds the entries of other schedules.
    pub(super) fn put<'e>(
        &mut self,
        store: &dyn StreamStore,
        id: &Arc<str>,
        entry: &Entry,
        others: impl Fn(&str) -> Option<&'e Entry>,
    ) -> Result<Change, StoreError> {
        let change = self.write(store, id, entry)?;
        self.tidy(store, others);
        Ok(change)
    }

    /// Writes down that a schedule has ended.
    pub(super) fn end<'e>(
        &mut self,
        store: &dyn StreamStore,
        id: &Arc<str>,
        others: impl Fn(&str) -> Option<&'e Entry>,
    ) -> Result<Change, StoreError> {
        let receipt = self.append(store, Record::ended(id))?;
        self.take_back_move(id);
        // It has no place from here on: written again behind its end, it would be there again after a restart.
        let before = self.places.remove(id);
        let change = self.change(receipt, id, before, None);
        self.tidy(store, others);
        Ok(change)
    }

    /// Takes notice of whether a change is kept: only now what stood before counts no more.
    pub(super) fn settle(&mut self, id: &str, before: Option<u64>, at: Option<u64>, is_kept: bool) {
        self.close(id);
        let (stays, goes) = if is_kept { (at, before) } else { (before, at) };
        let newest = self.places.get(id).copied();
        if let Some(goes) = goes.filter(|goes| Some(*goes) != stays) {
            self.forget_place(goes, id);
        }
        // Otherwise it was written again, or has ended, meanwhile.
        if newest == at || newest == before {
            match stays {
                Some(stays) => {
                    let stays = self.place_left(id, stays);
                    self.places.insert(Arc::from(id), stays);
                }
                None => drop(self.places.remove(id)),
            }
        }
    }

    /// Writes again what the store has let go of: because it was full, or damaged. Answers how many that were.
    pub(super) fn mend<'e>(
        &mut self,
        store: &dyn StreamStore,
        others: impl Fn(&str) -> Option<&'e Entry>,
    ) -> Result<usize, StoreError> {
        self.settle_moved();
        let first = Query { since: None, ..Query::forward(0, Limit::AtMost(NonZeroUsize::MIN)) };
        let page = store.read(STREAM, first, FOR_EVER)?;
        // What is not committed yet is not to be seen, and not lost.
        let first = page.publications.first().map_or(page.top.offset + 1, |kept| kept.offset);
        let lost: Vec<Arc<str>> = if self.epoch.as_ref() == Some(&page.top.epoch) {
            let below = self.places.iter().filter(|(_, at)| **at < first).map(|(id, _)| id);
            // What is being written at this moment is for the next look.
            below.filter(|id| !self.open.contains_key(*id)).cloned().collect()
        } else {
            self.order.clear();
            for change in mem::take(&mut self.moved) {
                self.close(&change.id);
            }
            (self.epoch, self.top) = (Some(page.top.epoch), page.top.offset);
            // Below every record there is: so the next look finds what this one does not get to.
            self.places.values_mut().for_each(|at| *at = 0);
            self.places.keys().filter(|id| !self.open.contains_key(*id)).cloned().collect()
        };
        for id in &lost {
            match others(id) {
                Some(entry) => {
                    let change = self.write(store, id, entry)?;
                    self.moved.push_back(change);
                }
                // There is none that could be written.
                None => self.leaves(id),
            }
        }
        Ok(lost.len())
    }

    /// Records that are kept.
    pub(super) fn len(&self) -> u64 {
        self.order.first_key_value().map_or(0, |(oldest, _)| self.len_from(*oldest))
    }

    fn len_from(&self, oldest: u64) -> u64 {
        self.top + 1 - oldest.min(self.top)
    }

    /// Writes a schedule at the top.
    fn write(&mut self, store: &dyn StreamStore, id: &Arc<str>, entry: &Entry) -> Result<Change, StoreError> {
        let receipt = self.append(store, Record::put(entry))?;
        self.take_back_move(id);
        let at = self.top;
        let before = self.places.insert(Arc::clone(id), at);
        self.order.insert(at, Arc::clone(id));
        Ok(self.change(receipt, id, before, Some(at)))
    }

    fn change(
        &mut self,
        receipt: Receipt<Appended>,
        id: &Arc<str>,
        before: Option<u64>,
        at: Option<u64>,
    ) -> Change {
        *self.open.entry(Arc::clone(id)).or_default() += 1;
        Change { receipt, id: Arc::clone(id), before, at }
    }

    fn close(&mut self, id: &str) {
        if let Some(open) = self.open.get_mut(id) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(id);
            }
        }
    }

    /// Takes notice of what became of schedules that were written again, as far as that is known.
    fn settle_moved(&mut self) {
        while self.moved.front().is_some_and(|change| change.receipt.is_resolved()) {
            let Some(Change { receipt, id, before, at }) = self.moved.pop_front() else { return };
            // It is resolved: nobody waits here.
            let is_kept = receipt.wait_blocking().is_ok();
            self.settle(&id, before, at, is_kept);
        }
    }

    /// Something newer is written: where the schedule stood before it was moved counts until that is settled, whatever
    /// becomes of the copy in between.
    fn take_back_move(&mut self, id: &str) {
        let Some(index) = self.moved.iter().position(|change| *change.id == *id) else { return };
        if let Some(Change { before, at, .. }) = self.moved.remove(index) {
            self.settle(id, before, at, false);
        }
    }

    /// Where a schedule stands if not at `place` any more, because two changes failed: at the newest place that it has;
    /// or nowhere, at 0, where [`mend`](Self::mend) finds it.
    fn place_left(&self, id: &str, place: u64) -> u64 {
        if self.order.get(&place).is_some_and(|known| **known == *id) {
            return place;
        }
        self.order.iter().rev().find(|(_, known)| ***known == *id).map_or(0, |(at, _)| *at)
    }

    fn append(&mut self, store: &dyn StreamStore, record: Bytes) -> Result<Receipt<Appended>, StoreError> {
        let size = usize::try_from(self.len() + 1).unwrap_or(usize::MAX);
        let mut append =
            Append::new(STREAM, Publication::new(record), Retention::new(size, FOR_EVER, FOR_EVER));
        append.durability = Some(Durability::Always);
        let receipt = store.append(append)?;
        // Without key and version an append is kept or refused.
        if let Appended::Kept(position) = receipt.outcome() {
            self.top = position.offset;
            self.epoch.get_or_insert_with(|| position.epoch.clone());
        }
        Ok(receipt)
    }

    /// Writes the oldest again if much is kept for little (invariant 2). What the store refuses stays where it is.
    fn tidy<'e>(&mut self, store: &dyn StreamStore, others: impl Fn(&str) -> Option<&'e Entry>) {
        self.settle_moved();
        for _ in 0..MOVED_AT_ONCE {
            // What was moved keeps its old place until it is settled: it goes on behind that.
            let begin = self.moved.back().and_then(|change| change.before).map_or(0, |before| before + 1);
            let Some((oldest, id)) = self.order.range(begin..).next().map(|(at, id)| (*at, Arc::clone(id)))
            else {
                return;
            };
            if self.len_from(oldest) <= SLACK * self.places.len() as u64 + FEW {
                return;
            }
            if self.open.contains_key(&id) {
                return; // what stands there, or behind it, is not known to be kept yet
            }
            if self.places.get(&id) != Some(&oldest) {
                self.order.remove(&oldest); // left over from changes that failed
                continue;
            }
            let Some(entry) = others(&id) else { return };
            let Ok(change) = self.write(store, &id, entry) else { return };
            self.moved.push_back(change);
        }
    }

    fn stands_at(&mut self, id: &Arc<str>, offset: u64) {
        if let Some(before) = self.places.insert(Arc::clone(id), offset) {
            self.forget_place(before, id);
        }
        self.order.insert(offset, Arc::clone(id));
    }

    fn leaves(&mut self, id: &str) {
        if let Some(before) = self.places.remove(id) {
            self.forget_place(before, id);
        }
    }

    /// An append that was taken back leaves its offset to the next: the place may be another's by now.
    fn forget_place(&mut self, offset: u64, id: &str) {
        if self.order.get(&offset).is_some_and(|known| **known == *id) {
            self.order.remove(&offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use bowline_store::MemoryStore;

    use super::*;

    #[test]
    fn what_ends_is_not_written_again_behind_its_end_unless_that_is_not_kept() {
        for is_kept in [true, false] {
            let (store, mut log) = (MemoryStore::default(), Log::default());
            let entry = |id: &str| Entry { id: id.to_owned(), ..Entry::default() };
            let (ends, stays) = (entry("ends"), entry("stays"));
            let others = |id: &str| [&ends, &stays].into_iter().find(|entry| entry.id == id);
            let put = |log: &mut Log, entry: &Entry| {
                let id: Arc<str> = entry.id.as_str().into();
                let change = log.put(&store, &id, entry, others).unwrap();
                log.settle(&change.id, change.before, change.at, true);
            };
            put(&mut log, &ends);
            put(&mut log, &stays);
            let id: Arc<str> = "ends".into();
            let end = log.end(&store, &id, others).unwrap();
            (0..50).for_each(|_| put(&mut log, &stays));
            log.settle(&end.id, end.before, end.at, is_kept);
            (0..50).for_each(|_| put(&mut log, &stays));
            let read = Log::default().read(&store).unwrap();
            assert_eq!(read.entries.contains_key("ends"), !is_kept);
            assert!(read.entries.contains_key("stays") && log.len() < 30, "{} records", log.len());
        }
    }
}
