//! One stream: where its publications are in the log, and how far readers may see.
//!
//! # Invariants
//!
//! 1. The last entry has offset `top`, the one before it `top - 1`, and so on: offsets are not stored.
//! 2. The last `uncommitted` entries are not visible. They are trimmed by nobody, and nothing is trimmed for them:
//!    what an append pushes out stays until the append is committed.

use std::collections::VecDeque;

use super::format::{Location, StreamRecord};
use super::tail::{Tail, Wish};
use crate::position::{Epoch, Position};
use crate::store::{Direction, Limit, Query, Version};

/// The highest bit of an entry's length: visible only once it is synced.
const NEEDS_SYNC: u32 = 1 << 31;

/// Where one publication is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) stamp: u64,
    length: u32,
    pub(super) payload: u32,
}

impl Entry {
    pub(super) fn new(location: Location, stamp: u64, wish: Wish) -> Self {
        // MAX_BODY is far below the bit.
        let length = location.length | if wish == Wish::Sync { NEEDS_SYNC } else { 0 };
        Self { at: location.at, stamp, length, payload: location.payload }
    }

    /// Bytes of the frame.
    pub(super) fn length(&self) -> u32 {
        self.length & !NEEDS_SYNC
    }

    /// What it was committed with, or is to be.
    pub(super) fn wish(&self) -> Wish {
        if self.length & NEEDS_SYNC == 0 { Wish::Write } else { Wish::Sync }
    }

    fn is_committed(&self, tail: &Tail) -> bool {
        let horizon = if self.length & NEEDS_SYNC == 0 { tail.written() } else { tail.synced() };
        self.at + u64::from(self.length()) <= horizon
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) epoch: Epoch,
    pub(super) top: u64,
    pub(super) entries: VecDeque<Entry>,
    uncommitted: usize,
    pub(super) size: u64,
    pub(super) ttl: u64,
    pub(super) remembered_until: u64,
    /// What the log says about `remembered_until`; reads that prolong it little are not worth a record.
    pub(super) persisted_until: u64,
    /// The position of the newest record that tells everything about the stream; 0 if there is none.
    pub(super) newest: u64,
    /// What `newest` was before the first of what is uncommitted; 0 if that does not tell everything any more.
    newest_before: u64,
    /// Publications went before their time, and no record says so. The log has the end of what it had, or all of it.
    has_dropped: bool,
    /// Something in it was acknowledged before it was synced.
    pub(super) is_weak: bool,
    pub(super) version: Option<Box<LastVersion>>,
    /// What uncommitted appends changed, oldest first; those that changed nothing have no entry.
    undo: Vec<Undo>,
    pub(super) payload_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastVersion {
    pub(super) number: u64,
    pub(super) epoch: Box<str>,
}

/// What was so before an append.
#[derive(Debug)]
struct Undo {
    /// The append's position.
    at: u64,
    version: Option<Box<LastVersion>>,
    size: u64,
    ttl: u64,
}

/// What a reader is to fetch: the top, and the places of the publications with their offsets.
pub(super) struct Found {
    pub(super) top: Position,
    pub(super) entries: Vec<(u64, Entry)>,
}

impl Stream {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            top: 0,
            entries: VecDeque::new(),
            uncommitted: 0,
            size: u64::MAX,
            ttl: u64::MAX,
            remembered_until: 0,
            persisted_until: 0,
            newest: 0,
            newest_before: 0,
            has_dropped: false,
            is_weak: false,
            version: None,
            undo: Vec::new(),
            payload_bytes: 0,
        }
    }

    /// The top, what is not committed included: the caller is an appender.
    pub(super) fn position(&self) -> Position {
        Position { offset: self.top, epoch: self.epoch.clone() }
    }

    /// The top a reader sees.
    pub(super) fn visible(&self) -> Position {
        Position { offset: self.top - self.uncommitted as u64, epoch: self.epoch.clone() }
    }

    pub(super) fn has_uncommitted(&self) -> bool {
        self.uncommitted > 0
    }

    /// Whether the newest publication is committed by a sync that has not been.
    pub(super) fn waits_for_sync(&self) -> bool {
        self.uncommitted > 0 && self.entries.back().is_some_and(|entry| entry.wish() == Wish::Sync)
    }

    /// Whether nobody has used the stream for so long that its epoch is to be forgotten. To be settled before.
    pub(super) fn is_forgotten(&self, now: u64) -> bool {
        self.remembered_until <= now && self.uncommitted == 0
    }

    /// The oldest offset there is; one above the top if there is none.
    pub(super) fn first(&self) -> u64 {
        self.top + 1 - self.entries.len() as u64
    }

    pub(super) fn has_seen(&self, version: Version<'_>) -> bool {
        self.version
            .as_ref()
            .is_some_and(|last| *last.epoch == *version.epoch && version.number <= last.number)
    }

    /// Adds what is not committed yet, and with it the retention of the whole stream.
    pub(super) fn push(&mut self, entry: Entry, version: Option<Version<'_>>, size: u64, ttl: u64) {
        let before = (self.size, self.ttl);
        (self.size, self.ttl) = (size, ttl);
        let newer = version
            .map(|version| Box::new(LastVersion { number: version.number, epoch: version.epoch.into() }));
        if newer.is_some() || (before != (size, ttl) && self.top > 0) {
            let version = match newer {
                Some(newer) => self.version.replace(newer),
                None => self.version.clone(),
            };
            self.undo.push(Undo { at: entry.at, version, size: before.0, ttl: before.1 });
        }
        if self.uncommitted == 0 {
            self.newest_before = if self.has_dropped { 0 } else { self.newest };
        }
        self.has_dropped = false;
        self.top += 1;
        self.payload_bytes += u64::from(entry.payload);
        self.newest = entry.at;
        self.uncommitted += 1;
        self.entries.push_back(entry);
    }

    /// Takes notice of a record at `at` that tells everything about the stream, of what is visible.
    pub(super) fn is_told_at(&mut self, at: u64) {
        (self.newest, self.newest_before, self.has_dropped) = (at, 0, false);
        self.persisted_until = self.remembered_until;
    }

    /// Whether a record has to tell about the stream before what lies in front of `end` goes.
    pub(super) fn is_to_be_told(&self, end: u64) -> bool {
        self.newest < end || self.has_dropped
    }

    /// Takes notice of what is committed by now, and trims.
    pub(super) fn settle(&mut self, tail: &Tail, now: u64) {
        while self.uncommitted > 0 {
            let oldest = self.entries.len() - self.uncommitted;
            if !self.entries[oldest].is_committed(tail) {
                break;
            }
            self.uncommitted -= 1;
        }
        if !self.undo.is_empty() {
            let uncommitted = self.entries.len() - self.uncommitted;
            let from = self.entries.get(uncommitted).map_or(u64::MAX, |entry| entry.at);
            self.undo.retain(|undo| undo.at >= from);
            if self.undo.is_empty() {
                self.undo = Vec::new();
            }
        }
        let (size, ttl) = self.undo.first().map_or((self.size, self.ttl), |undo| (undo.size, undo.ttl));
        while (self.entries.len() - self.uncommitted) as u64 > size {
            self.drop_oldest();
        }
        // What is not committed has not begun to age.
        while self.entries.len() > self.uncommitted
            && self.entries.front().is_some_and(|entry| entry.stamp.saturating_add(ttl) <= now)
        {
            self.drop_oldest();
        }
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            self.entries = VecDeque::new();
        }
    }

    /// Takes back what lies at or behind `cut` and was not committed. Answers whether readers had seen any of it.
    pub(super) fn roll_back(&mut self, cut: u64) -> bool {
        let mut was_visible = false;
        let newest_is_publication = self.entries.back().is_some_and(|entry| entry.at == self.newest);
        while self.entries.back().is_some_and(|entry| entry.at >= cut) {
            let Some(entry) = self.entries.pop_back() else { break };
            self.payload_bytes -= u64::from(entry.payload);
            self.top -= 1;
            was_visible |= self.uncommitted == 0;
            self.uncommitted = self.uncommitted.saturating_sub(1);
            // Nothing on the disk says that it is weak, perhaps; and what is left is synced before anything is appended.
            self.is_weak = false;
        }
        while let Some(before) = self.undo.pop_if(|undo| undo.at >= cut) {
            (self.version, self.size, self.ttl) = (before.version, before.size, before.ttl);
        }
        if self.newest >= cut {
            self.newest = match self.entries.back() {
                _ if !newest_is_publication || self.newest_before == 0 => 0,
                Some(last) if self.uncommitted > 0 => last.at,
                // It may have come to nothing with what was behind it.
                _ if self.newest_before >= cut => 0,
                _ => self.newest_before,
            };
            self.persisted_until = 0;
        }
        was_visible
    }

    /// Removes what is visible.
    pub(super) fn clear(&mut self) {
        while self.entries.len() > self.uncommitted {
            self.drop_oldest();
        }
    }

    /// Makes a stream of what was found on disk: `entries` end at the top, and all of it is committed.
    pub(super) fn restore(&mut self, entries: VecDeque<Entry>) {
        self.payload_bytes = entries.iter().map(|entry| u64::from(entry.payload)).sum();
        self.entries = entries;
    }

    /// Begins another life: nothing that was said about the stream before holds any more.
    pub(super) fn begin_anew(&mut self) {
        let remembered_until = self.remembered_until;
        *self = Self { size: self.size, ttl: self.ttl, remembered_until, ..Self::new(Epoch::random()) };
    }

    /// What `query` asks for, of what is visible.
    pub(super) fn find(&self, query: Query) -> Found {
        let top = self.visible();
        let visible = self.entries.len() - self.uncommitted;
        let after = |offset: u64| {
            let newer = usize::try_from(top.offset.saturating_sub(offset)).unwrap_or(usize::MAX);
            visible.saturating_sub(newer)
        };
        let limit = query.limit.count();
        let first = self.first();
        let at = |index: usize| (first + index as u64, self.entries[index]);
        let entries = match query.direction {
            _ if query.limit == Limit::Top => Vec::new(),
            Direction::Forward => (after(query.since.unwrap_or(0))..visible).take(limit).map(at).collect(),
            Direction::Backward => {
                let end = query.since.map_or(visible, |offset| after(offset.saturating_sub(1)));
                (0..end).rev().take(limit).map(at).collect()
            }
        };
        Found { top, entries }
    }

    /// Points `offset` to a copy of its record, if it is still where it was.
    pub(super) fn has_moved(&mut self, offset: u64, from: u64, to: u64) {
        let index = offset.checked_sub(self.first()).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index))
            && entry.at == from
        {
            entry.at = to;
        }
    }

    /// Lets go of what is visible, was published until `stamp`, and at that time lies until `at`; answers how many these
    /// were. To be settled before.
    pub(super) fn drop_until(&mut self, stamp: u64, at: u64) -> usize {
        let goes = |entry: &Entry| (entry.stamp, entry.at) <= (stamp, at);
        if !self.entries.front().is_some_and(goes) {
            return 0;
        }
        let before = self.entries.len();
        let is_in_order = self.entries.iter().is_sorted_by_key(|entry| entry.at);
        while self.entries.len() > self.uncommitted && self.entries.front().is_some_and(goes) {
            self.drop_oldest();
        }
        let dropped = before - self.entries.len();
        if dropped > 0 {
            // Of those that are not in order, a copy could be left with a hole behind it.
            (self.newest, self.has_dropped) = if is_in_order { (self.newest, true) } else { (0, false) };
            self.newest_before = 0;
        }
        dropped
    }

    pub(super) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.payload_bytes -= u64::from(oldest.payload);
        }
    }

    /// Everything about the stream but its publications, as the log keeps it: of what is visible.
    pub(super) fn record<'a>(&'a self, channel: &'a str, now: u64) -> StreamRecord<'a> {
        // A version of an append that is not committed yet is in that append's record.
        let version = self.undo.first().map_or(&self.version, |undo| &undo.version).as_deref();
        StreamRecord {
            channel,
            epoch: self.epoch.as_str(),
            top: self.top - self.uncommitted as u64,
            first: self.first(),
            stamp: now,
            remembered_until: self.remembered_until,
            size: self.size,
            ttl: self.ttl,
            is_weak: self.is_weak,
            version: version.map(|version| (version.number, &*version.epoch)),
        }
    }
}
