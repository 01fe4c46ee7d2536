//! A part of the index in memory: the streams and idempotency keys of some channels, behind one lock.

use std::collections::HashMap;

use super::format::{Head, KeyRecord, Location, millis, put_key, put_publication};
use super::stream::{Entry, Found, Stream};
use super::tail::Wish;
use super::{Inner, check_size};
use crate::keys::{self, Keys};
use crate::position::{Epoch, Position};
use crate::publication::{Durability, Retention};
use crate::receipt::Receipt;
use crate::store::{Append, Appended, Query, StoreError, StoreStats, Swept};

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) streams: HashMap<Box<str>, Stream>,
    pub(super) keys: Keys<u64, First>,
    /// Where records are put together before they go to the tail.
    scratch: Vec<u8>,
}

/// What the first append under a key got, and where that is in the log.
#[derive(Debug)]
pub(super) struct First {
    pub(super) position: Option<Position>,
    /// Where the key is written down: rises when it is written again.
    pub(super) at: u64,
    /// Behind what the first append wrote.
    pub(super) end: u64,
    pub(super) wish: Wish,
}

/// Scratch above this is given back.
const SCRATCH_BYTES: usize = 64 * 1024;

impl Shard {
    pub(super) fn new(keys: usize) -> Self {
        Self { streams: HashMap::new(), keys: Keys::new(keys), scratch: Vec::new() }
    }

    /// Appends something that is kept. Nothing is changed if it is refused.
    pub(super) fn append(
        &mut self,
        inner: &Inner,
        append: Append<'_>,
        retention: Retention,
        now: u64,
    ) -> Result<Receipt<Appended>, StoreError> {
        let Append { channel, publication, idempotency_key, version, durability, .. } = append;
        let mut fresh = None;
        let stream = match self.streams.get_mut(channel) {
            Some(stream) => {
                stream.settle(&inner.tail, now);
                if stream.is_forgotten(now) {
                    *stream = Stream::new(Epoch::random());
                }
                stream
            }
            None => {
                inner.admit_stream()?;
                fresh.insert(Stream::new(Epoch::random()))
            }
        };
        if let Some(version) = version.filter(|version| stream.has_seen(*version)) {
            debug_assert!(stream.top > 0, "version {version:?} of a stream without publications");
            stream.remembered_until = now.saturating_add(millis(retention.meta_ttl));
            let (end, wish) = match stream.entries.back() {
                Some(last) if stream.has_uncommitted() => (last.at + u64::from(last.length()), last.wish()),
                _ => (0, Wish::Write),
            };
            return inner.join(Appended::Stale(stream.position()), end, wish);
        }

        let durability = durability.unwrap_or(inner.options.durability);
        // Nobody can tell after a power failure what a stream lost that is not synced: so that it is known as one of
        // those, the append with which it becomes one is synced, in each of its lives; and nothing is committed before
        // what is before it.
        let may_be_weak = stream.is_weak && !stream.waits_for_sync();
        let wish = match durability {
            Durability::Interval(within) if may_be_weak => Wish::Within(within),
            Durability::Never if may_be_weak => Wish::Write,
            _ => Wish::Sync,
        };
        let is_weak = durability != Durability::Always;
        let offset = stream.top + 1;
        let size = retention.size.get() as u64;
        let head = Head {
            first: stream.first().max((offset + 1).saturating_sub(size)).min(offset),
            stamp: now,
            is_weak,
            key: idempotency_key,
            // Without one of its own it hands on the stream's: a record tells everything, whatever happens to older ones.
            version: version
                .map(|version| (version.number, version.epoch))
                .or_else(|| stream.version.as_ref().map(|last| (last.number, &*last.epoch))),
            ..Head::new(channel, stream.epoch.as_str(), offset, retention)
        };
        self.scratch.clear();
        put_publication(&mut self.scratch, inner.secret, &head, &publication);
        let length = self.scratch.len();
        let pushed = check_size(&self.scratch, inner.options.queue_bytes)
            .and_then(|()| inner.tail.push(&self.scratch, wish));
        if self.scratch.capacity() > SCRATCH_BYTES {
            self.scratch = Vec::new();
        }
        let (at, batch) = match pushed {
            Ok(pushed) => pushed,
            Err(error) => {
                if fresh.is_some() {
                    inner.has_forgotten(1);
                }
                return Err(error);
            }
        };
        // Checked: at most MAX_BODY.
        let location = Location { at, length: length as u32, payload: publication.data.len() as u32 };
        stream.push(Entry::new(location, now, wish), version, size, millis(retention.ttl));
        stream.is_weak = is_weak;
        stream.remembered_until = now.saturating_add(millis(retention.meta_ttl));
        stream.persisted_until = stream.remembered_until;
        let position = stream.position();
        if let Some(stream) = fresh {
            self.streams.insert(channel.into(), stream);
        }
        if let Some(key) = idempotency_key {
            let first = First { position: Some(position.clone()), at, end: at + length as u64, wish };
            self.keys.remember(channel, key, first, now + millis(keys::TTL));
        }
        let commit = if wish == Wish::Sync { &batch.synced } else { &batch.written };
        Ok(commit.receipt(Appended::Kept(position)))
    }

    /// Remembers the key of something that is not kept itself.
    pub(super) fn append_key(
        &mut self,
        inner: &Inner,
        append: &Append<'_>,
        now: u64,
    ) -> Result<Receipt<Appended>, StoreError> {
        let Some(key) = append.idempotency_key else { return Ok(Receipt::committed(Appended::NotKept)) };
        let wish = match append.durability.unwrap_or(inner.options.durability) {
            Durability::Always => Wish::Sync,
            Durability::Interval(within) => Wish::Within(within),
            Durability::Never => Wish::Write,
        };
        self.scratch.clear();
        let record = KeyRecord { channel: append.channel, key, stamp: now, position: None };
        put_key(&mut self.scratch, inner.secret, &record);
        check_size(&self.scratch, inner.options.queue_bytes)?;
        let (at, batch) = inner.tail.push(&self.scratch, wish)?;
        let first = First { position: None, at, end: at + self.scratch.len() as u64, wish };
        self.keys.remember(append.channel, key, first, now + millis(keys::TTL));
        let commit = if wish == Wish::Sync { &batch.synced } else { &batch.written };
        Ok(commit.receipt(Appended::NotKept))
    }

    /// What a reader is to fetch. The stream begins here if there is none.
    pub(super) fn find(
        &mut self,
        inner: &Inner,
        channel: &str,
        query: Query,
        meta_ttl: u64,
    ) -> Result<Found, StoreError> {
        let now = inner.clock.now();
        let stream = match self.streams.get_mut(channel) {
            Some(stream) => {
                stream.settle(&inner.tail, now);
                if stream.is_forgotten(now) {
                    *stream = Stream::new(Epoch::random());
                }
                stream
            }
            None => {
                inner.admit_stream()?;
                self.streams.entry(channel.into()).or_insert_with(|| Stream::new(Epoch::random()))
            }
        };
        stream.remembered_until = now.saturating_add(meta_ttl);
        let gained = stream.remembered_until.saturating_sub(stream.persisted_until);
        if !stream.has_uncommitted() && (stream.newest == 0 || gained > meta_ttl / 8) {
            inner.persist(channel, stream);
        }
        Ok(stream.find(query))
    }

    /// Frees what has expired; answers how many streams were forgotten.
    pub(super) fn sweep(&mut self, tail: &super::Tail, now: u64, swept: &mut Swept) -> usize {
        let streams_before = self.streams.len();
        let mut publications = 0;
        self.streams.retain(|_, stream| {
            let before = stream.entries.len();
            stream.settle(tail, now);
            let keep = !stream.is_forgotten(now);
            publications += if keep { before - stream.entries.len() } else { before };
            keep
        });
        let forgotten = streams_before - self.streams.len();
        swept.streams += forgotten;
        swept.publications += publications;
        swept.idempotency_keys += self.keys.expire(now);
        forgotten
    }

    pub(super) fn add_to(&self, stats: &mut StoreStats) {
        stats.streams += self.streams.len();
        for stream in self.streams.values() {
            stats.publications += stream.entries.len();
            stats.payload_bytes += usize::try_from(stream.payload_bytes).unwrap_or(usize::MAX);
        }
        stats.idempotency_keys += self.keys.len();
        stats.idempotency_keys_evicted += self.keys.evicted();
    }
}
