//! What the records of the log say, folded in their order into streams and keys, and which of it can be trusted.
//!
//! # When a stream is not trusted
//!
//! 1. Something was damaged, and nothing in the log behind the damage says what its top is: its newest publications
//!    may be gone, and their offsets would be given again.
//! 2. What is left of it has a hole, or does not reach its top; or nothing is left, and something was damaged.
//! 3. It was acknowledged before it was synced, and the machine may have lost its power since.
//!
//! It begins anew then, and the file that is begun next begins with a record that says so: whatever happens to this
//! start, the next one finds either what this one found, or that record.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use super::format::{Head, KeyRecord, Location, Record, StreamRecord, millis};
use super::frame::{HEADER, Secret};
use super::recover::{Damage, Recovered};
use super::scan::Scanned;
use super::shard::First;
use super::stream::{Entry, LastVersion, Stream};
use super::tail::Wish;
use super::{Inner, Notice};
use crate::keys;
use crate::position::{Epoch, Position};

/// What the records say so far.
pub(super) struct Fold {
    /// Where in `streams` each channel is: one look per record, and there are millions.
    channels: HashMap<Box<str>, usize>,
    streams: Vec<Building>,
    /// Those that are remembered, in the order of their records: one that was written again is older than its place.
    keys: VecDeque<FoundKey>,
    /// How long nobody wrote before a file was begun, all files together: for the most part the time between two runs,
    /// in which idempotency keys do not age.
    away: u64,
    /// What the run that wrote the last file made its own.
    run: Option<Secret>,
    pub(super) newest_stamp: u64,
    /// Behind the last damage.
    damaged_until: u64,
    /// The last record says that the store was closed. Of the file that was looked at last, as what follows.
    pub(super) is_closed: bool,
    pub(super) same_boot: bool,
    pub(super) recovered: Recovered,
}

struct FoundKey {
    channel: Box<str>,
    key: Box<str>,
    position: Option<(Box<str>, u64)>,
    /// Where its record is, or the file of that begins.
    at: u64,
    /// When it was taken, in the time for which the store has run.
    run_at: u64,
}

impl FoundKey {
    /// How long it is remembered still.
    fn left(&self, run_for: u64) -> u64 {
        self.run_at.saturating_add(millis(keys::TTL)).saturating_sub(run_for)
    }
}

/// A stream as far as it is known.
struct Building {
    stream: Stream,
    /// Nothing at or below is kept.
    floor: u64,
    /// With their offsets, which rise.
    entries: VecDeque<(u64, Entry)>,
    /// Publications that were written again, in the order of the log.
    copies: Vec<(u64, Entry)>,
}

impl Building {
    fn new(epoch: &str) -> Self {
        let stream = Stream::new(Epoch::from(epoch));
        Self { stream, floor: 0, entries: VecDeque::new(), copies: Vec::new() }
    }
}

impl Fold {
    pub(super) fn new() -> Self {
        Self {
            channels: HashMap::new(),
            streams: Vec::new(),
            keys: VecDeque::new(),
            away: 0,
            run: None,
            newest_stamp: 0,
            damaged_until: 0,
            is_closed: true,
            same_boot: true,
            recovered: Recovered::default(),
        }
    }

    pub(super) fn has_scanned(&mut self, name: &str, base: u64, scanned: &Scanned) {
        self.is_closed = scanned.is_closed && scanned.torn_bytes == 0;
        self.recovered.torn_bytes += scanned.torn_bytes;
        for &(at, bytes) in &scanned.damage {
            self.damaged_until = at + bytes;
            self.recovered.damage.push(Damage { file: name.to_owned(), at: HEADER + (at - base), bytes });
        }
    }

    pub(super) fn record(&mut self, record: &Record<'_>, at: u64) {
        match record {
            Record::Mark { stamp, .. } | Record::Closed { stamp } => {
                self.newest_stamp = self.newest_stamp.max(*stamp);
            }
            Record::Publication(head, location) => self.publication(head, *location),
            Record::Copy(head, location) => {
                let building = self.stream(head.channel, head.epoch, false);
                let entry = Entry::new(*location, head.stamp, Wish::Write);
                if let Some(building) = building {
                    building.copies.push((head.offset, entry));
                }
            }
            Record::Stream(stream) => self.stream_record(stream, at),
            Record::Key(key) => self.key(key, at),
        }
    }

    /// The stream of a channel in this epoch. A record that tells everything begins another life if need be; a copy
    /// of what was published in an earlier life is of no use.
    fn stream(&mut self, channel: &str, epoch: &str, begins: bool) -> Option<&mut Building> {
        let index = match self.channels.get(channel) {
            Some(index) => *index,
            None => {
                self.channels.insert(channel.into(), self.streams.len());
                self.streams.push(Building::new(epoch));
                self.streams.len() - 1
            }
        };
        let building = self.streams.get_mut(index)?;
        if building.stream.epoch != *epoch {
            if !begins {
                return None;
            }
            *building = Building::new(epoch);
        }
        Some(building)
    }

    fn publication(&mut self, head: &Head<'_>, location: Location) {
        self.newest_stamp = self.newest_stamp.max(head.stamp);
        if let Some(key) = head.key {
            let position = Some((head.offset, head.epoch));
            let key = KeyRecord { channel: head.channel, key, stamp: head.stamp, position };
            self.key(&key, location.at);
        }
        let Some(building) = self.stream(head.channel, head.epoch, true) else { return };
        building.floor = building.floor.max(head.first.saturating_sub(1));
        building.entries.push_back((head.offset, Entry::new(location, head.stamp, Wish::Write)));
        while building.entries.front().is_some_and(|(offset, _)| *offset <= building.floor) {
            building.entries.pop_front();
        }
        let stream = &mut building.stream;
        stream.top = stream.top.max(head.offset);
        (stream.size, stream.ttl) = (head.size, head.ttl);
        stream.remembered_until = head.stamp.saturating_add(head.meta_ttl);
        stream.newest = location.at;
        stream.is_weak = head.is_weak;
        if let Some((number, epoch)) = head.version {
            stream.version = Some(Box::new(LastVersion { number, epoch: epoch.into() }));
        }
    }

    fn stream_record(&mut self, record: &StreamRecord<'_>, at: u64) {
        self.newest_stamp = self.newest_stamp.max(record.stamp);
        let Some(building) = self.stream(record.channel, record.epoch, true) else { return };
        building.floor = building.floor.max(record.first.saturating_sub(1));
        while building.entries.front().is_some_and(|(offset, _)| *offset <= building.floor) {
            building.entries.pop_front();
        }
        let stream = &mut building.stream;
        if record.top >= stream.top {
            // One that tells of less was written beside an append that was on its way, and knows no newer version.
            stream.top = record.top;
            stream.version =
                record.version.map(|(number, epoch)| Box::new(LastVersion { number, epoch: epoch.into() }));
        }
        (stream.size, stream.ttl) = (record.size, record.ttl);
        stream.remembered_until = record.remembered_until;
        stream.is_weak = record.is_weak;
        stream.newest = at;
    }

    fn key(&mut self, record: &KeyRecord<'_>, at: u64) {
        let &KeyRecord { channel, key, stamp, position } = record;
        self.newest_stamp = self.newest_stamp.max(stamp);
        let now = self.newest_stamp.saturating_sub(self.away);
        while self.keys.front().is_some_and(|oldest| oldest.left(now) == 0) {
            self.keys.pop_front();
        }
        self.keys.push_back(FoundKey {
            channel: channel.into(),
            key: key.into(),
            position: position.map(|(offset, epoch)| (epoch.into(), offset)),
            at,
            run_at: stamp.saturating_sub(self.away),
        });
    }

    /// A file begins here, with the secret of the run that wrote it.
    pub(super) fn begins_file(&mut self, stamp: u64, secret: Option<Secret>) {
        // Between two files of one run the store ran, and keys aged. Of what was before the first file nothing is known, and
        // a key that was written again is older than that.
        if self.newest_stamp > 0 && (secret.is_none() || secret != self.run) {
            self.away = self.away.saturating_add(stamp.saturating_sub(self.newest_stamp));
        }
        self.run = secret;
        self.newest_stamp = self.newest_stamp.max(stamp);
    }

    /// Puts everything that is trusted into the shards of `inner`; answers the records of streams that begin anew, with
    /// which the file begins whose first position is `base`.
    pub(super) fn fill(self, inner: &Inner, base: u64, recovered: &mut Recovered) -> Vec<u8> {
        let now = inner.clock.now();
        let may_have_lost_power = !self.is_closed && !self.same_boot;
        let has_damage = self.damaged_until > 0;
        recovered.was_closed = self.is_closed;
        let mut first = Vec::new();
        let mut channels: Vec<_> = self.channels.into_iter().collect();
        channels.sort_unstable_by_key(|(_, index)| *index);
        for ((channel, _), building) in channels.into_iter().zip(self.streams) {
            if building.stream.remembered_until <= now {
                continue;
            }
            let is_weak = building.stream.is_weak;
            let newest = building.stream.newest;
            let (mut stream, is_whole) = building.finish(now, has_damage);
            stream.persisted_until = stream.remembered_until;
            if !is_whole || newest < self.damaged_until || (is_weak && may_have_lost_power) {
                stream.begin_anew();
                inner.put_first(&mut first, &channel, &mut stream, base, now);
                recovered.renewed += 1;
                inner.tell(&Notice::Renewed { channel: channel.to_string() });
            }
            recovered.streams += 1;
            recovered.publications += stream.entries.len();
            inner.shard(&channel).streams.insert(channel, stream);
        }
        inner.streams.store(recovered.streams, Ordering::Relaxed);
        let until_now = self.newest_stamp.saturating_sub(self.away);
        let mut keys = Vec::from(self.keys);
        // Stable: of one that was written again the last place counts.
        keys.sort_by_key(|found| found.run_at);
        for found in keys {
            let left = found.left(until_now);
            if left == 0 {
                continue;
            }
            // They go on to age now: a publisher that tries again after the store was away is recognized.
            let expires = now.saturating_add(left);
            let position =
                found.position.map(|(epoch, offset)| Position { offset, epoch: Epoch::from(&*epoch) });
            let first = First { position, at: found.at, end: 0, wish: Wish::Write };
            inner.shard(&found.channel).keys.remember(&found.channel, &found.key, first, expires);
        }
        first
    }
}

impl Building {
    /// The stream, and whether all of it is there that should be.
    fn finish(self, now: u64, has_damage: bool) -> (Stream, bool) {
        let Self { mut stream, floor, entries, copies } = self;
        let ttl = stream.ttl;
        // Where something is damaged, nobody knows that what is not there had expired, unless its newest is there.
        let top = stream.top;
        let has_top = || entries.iter().chain(&copies).any(|(offset, _)| *offset == top);
        let mut is_whole = !has_damage || floor >= top || has_top();
        // By far most streams were never written again: they lie in order.
        let down = (1..=top).rev();
        let is_in_order = copies.is_empty()
            && entries.iter().rev().map(|(offset, _)| *offset).zip(down).all(|(is, due)| is == due);
        let is_kept =
            |(offset, entry): &(u64, Entry)| *offset > floor && entry.stamp.saturating_add(ttl) > now;
        if is_in_order {
            let gone = entries.iter().take_while(|entry| !is_kept(entry)).count();
            stream.restore(entries.into_iter().skip(gone).map(|(_, entry)| entry).collect());
            return (stream, is_whole);
        }
        let mut found: Vec<_> = entries.into_iter().chain(copies).filter(is_kept).collect();
        // Stable: of a publication that was written again the last place counts.
        found.sort_by_key(|(offset, _)| *offset);
        let mut entries: VecDeque<Entry> = VecDeque::with_capacity(found.len());
        let mut next = stream.top;
        let mut last = None;
        for (offset, entry) in found.into_iter().rev() {
            if last == Some(offset) {
                continue;
            }
            is_whole &= offset == next;
            if !is_whole {
                break;
            }
            entries.push_front(entry);
            last = Some(offset);
            next -= 1;
        }
        stream.restore(entries);
        (stream, is_whole)
    }
}
