//! The one who tidies up: indexes of files that are full, freeing the oldest file, the limit of all bytes.
//!
//! Files are a ring (invariant 3 of the [store](super)): only the oldest is freed. What still counts in it is written
//! again at the other end, synced, and only then is the file removed. That is worth it when little counts in it, or
//! when half of all bytes are dead; a file in which nothing counts costs nothing to free.
//!
//! What counts is found by a *census*: a walk over the index in memory, one shard at a time. Appends pay nothing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use tokio::time::Instant;

use super::format::{KeyRecord, copied, millis, put_key, put_stream};
use super::frame::{Framed, HEADER, unframe};
use super::recover::Damage;
use super::segments::{Segment, index_name, log_name};
use super::shard::First;
use super::stream::Entry;
use super::tail::{Batch, Wish};
use super::writer::Writer;
use super::{Inner, Notice, lock, medium};
use crate::keys;
use crate::store::StoreError;

/// Copies are awaited after this many bytes, so that they take no more of the queue than that.
const ROUND_BYTES: usize = 1024 * 1024;

/// Files that may be small: beyond, the oldest is written again, as if half of all bytes were dead.
const MANY_FILES: u64 = 64;

/// What a record about a stream has beside the name of the channel, about.
const STREAM_RECORD: u64 = 48;

/// How long the keeper waits for room in the queue before it looks again.
const ROOM: Duration = Duration::from_millis(10);

/// Frees what is dead, on the thread of whoever owns it.
pub struct Keeper {
    inner: Arc<Inner>,
    /// The last turn failed, and somebody was told. Relaxed: turns are one at a time.
    is_failing: AtomicBool,
}

/// Whether publications of the channel may go before their time. Not those of streams in which the program keeps what it has promised
/// itself: their names begin with a NUL, as no channel's of a client does.
fn may_drop(channel: &str) -> bool {
    !channel.starts_with('\0')
}

impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keeper")
    }
}

/// How far a compaction is, or what it came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Files that were freed.
    pub freed_files: usize,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Bytes of these that were written again.
    pub copied_bytes: u64,
    /// Publications that went before their time, because of the limit of all bytes.
    pub dropped_publications: usize,
    /// Bytes that are left.
    pub bytes: u64,
}

/// Wakes the keeper.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<Rung>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    is_rung: bool,
    is_closed: bool,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_rung = true;
        self.bell.notify_all();
    }

    pub(super) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.bell.notify_all();
    }

    /// Waits until somebody rings, or for this long. Answers whether there is more to do.
    fn wait(&self, timeout: Duration) -> bool {
        // A time that no clock reaches is never.
        let until = Instant::now().checked_add(timeout);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if state.is_closed || state.is_rung || left == Some(Duration::ZERO) {
                state.is_rung = false;
                return !state.is_closed;
            }
            state = match left {
                None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    fn is_closed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed
    }
}

impl Keeper {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, is_failing: AtomicBool::new(false) }
    }

    /// Tidies up until the store is closed. Blocks the thread.
    pub fn run(self) {
        while self.inner.keeper_bell.wait(self.inner.options.tend_every) {
            self.tend();
        }
    }

    /// Tidies up once: what [`run`](Self::run) does at every turn. What fails is told, and tried again at the next.
    pub fn tend(&self) -> Compaction {
        self.tend_with(&mut Patience::Block)
    }

    /// [`tend`](Self::tend) on the thread of the writer: wherever it would wait, `writer` does a step. For tests and
    /// programs that own the order of things.
    pub fn tend_driving(&self, writer: &mut Writer) -> Compaction {
        self.tend_with(&mut Patience::Drive(writer))
    }

    /// [`DurableStore::compact`](super::DurableStore::compact) on the thread of the writer, as
    /// [`tend_driving`](Self::tend_driving).
    ///
    /// # Errors
    ///
    /// Whatever the disk reports. What was freed stays freed.
    pub fn compact_driving(&self, writer: &mut Writer) -> Result<Compaction, StoreError> {
        self.inner.compact(&mut Patience::Drive(writer), |_| {})
    }

    fn tend_with(&self, patience: &mut Patience<'_>) -> Compaction {
        let mut done = Compaction::default();
        // Whoever frees files already does what we would.
        let keeping = match self.inner.keeping.try_lock() {
            Err(TryLockError::WouldBlock) => return done,
            Ok(keeping) => keeping,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        let tended = self.inner.tend(&mut done, patience);
        let notice = match tended {
            // What waits for a writer that has ended is no news.
            Err(_) if self.inner.keeper_bell.is_closed() => None,
            Err(error) => {
                self.is_failing.store(true, Ordering::Relaxed);
                Some(Notice::KeepingFailed(error.to_string()))
            }
            Ok(()) => self.is_failing.swap(false, Ordering::Relaxed).then_some(Notice::KeepsAgain),
        };
        drop(keeping);
        if let Some(notice) = notice {
            self.inner.tell(&notice);
        }
        done
    }
}

/// What the keeper does while it waits for the writer.
pub(super) enum Patience<'a> {
    /// The writer runs on another thread.
    Block,
    /// The writer runs when it is told to.
    Drive(&'a mut Writer),
}

impl Patience<'_> {
    /// Waits until a batch of records about the store itself is synced.
    fn wait(&mut self, batch: Option<Arc<Batch>>) -> Result<(), StoreError> {
        let Some(batch) = batch else { return Ok(()) };
        let receipt = batch.synced.receipt(());
        if let Self::Drive(writer) = self {
            while !receipt.is_resolved() && writer.run_once() {}
        }
        Ok(receipt.wait_blocking()?)
    }

    /// Waits a little for room in the queue: publishers come first.
    fn wait_for_room(&mut self, bell: &Bell) -> Result<(), StoreError> {
        let goes_on = match self {
            Self::Block => bell.wait(ROOM),
            Self::Drive(writer) => writer.run_once(),
        };
        if goes_on { Ok(()) } else { Err(StoreError::Closed) }
    }
}

/// How many bytes count: of publications, and of what is said of streams beside them.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    /// In the oldest file.
    live: u64,
    /// In all files.
    live_total: u64,
}

/// What is to become of the oldest file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stay,
    /// What counts is written again.
    Clean,
    /// As `Clean`, after the oldest of the publications that live went: they are to take no more than `room` bytes.
    Drop {
        live: u64,
        room: u64,
    },
}

impl Inner {
    fn tend(&self, done: &mut Compaction, patience: &mut Patience<'_>) -> Result<(), StoreError> {
        // A file that is freed needs no index.
        match self.free_what_is_due(done, patience) {
            // It would take what room there is.
            Err(StoreError::DiskFull) => Err(StoreError::DiskFull),
            freed => freed.and(self.write_indexes()),
        }
    }

    fn free_what_is_due(&self, done: &mut Compaction, patience: &mut Patience<'_>) -> Result<(), StoreError> {
        // Every file there is now is looked at once: what is said about streams alone may be more than the limit.
        let until = self.tail.end();
        let max = self.options.max_bytes.filter(|_| until >= self.over_until.load(Ordering::Relaxed));
        while let Some(oldest) = self.oldest_sealed().filter(|oldest| oldest.end() <= until) {
            match self.fate(&oldest, max) {
                // All is within the limit, or none was asked for.
                Fate::Stay => return Ok(()),
                Fate::Clean => {}
                Fate::Drop { live, room } => self.drop_publications(live, room, done),
            }
            self.free(&oldest, done, patience)?;
        }
        if let Some(max) = max.filter(|max| self.log_bytes() > *max) {
            // What exceeds cannot go. Writing all of it again, file by file, would change nothing before there is more.
            self.over_until.store(self.tail.end().saturating_add(max / 8), Ordering::Relaxed);
        }
        Ok(())
    }

    /// What is to become of the oldest file, if all may not have more bytes than `max`.
    fn fate(&self, oldest: &Segment, max: Option<u64>) -> Fate {
        let total = self.log_bytes();
        if let Some(max) = max.filter(|max| total > *max) {
            let live = self.census(oldest).live_total;
            // What lives stays as long as it fits without what is dead, with a quarter for what dies until the next look.
            let fits = live <= max - max / 4;
            return if fits { Fate::Clean } else { Fate::Drop { live, room: max - max / 8 * 3 } };
        }
        if self.has_keys(oldest) {
            return Fate::Stay;
        }
        let Census { live, live_total } = self.census(oldest);
        let half_is_dead = total > 4 * self.options.segment_bytes && live_total < total / 2;
        // Each start begins a file, and each file is held open.
        let files = self.segments.all().len() as u64;
        let are_small = files > MANY_FILES && total / files < self.options.segment_bytes / 8;
        if live * 8 <= oldest.length() || half_is_dead || are_small { Fate::Clean } else { Fate::Stay }
    }

    fn log_bytes(&self) -> u64 {
        self.segments.all().iter().map(|segment| segment.length()).sum()
    }

    /// Whether the file has idempotency keys that are still remembered.
    fn has_keys(&self, oldest: &Segment) -> bool {
        let now = self.clock.now();
        let is_due = |first: &First, expires: u64| first.at < oldest.end() && expires > now;
        self.shards
            .iter()
            .any(|shard| lock(shard).keys.iter().any(|(.., first, expires)| is_due(first, *expires)))
    }

    fn oldest_sealed(&self) -> Option<Arc<Segment>> {
        let segments = self.segments.all();
        if segments.len() < 2 { None } else { segments.first().cloned() }
    }

    fn census(&self, oldest: &Segment) -> Census {
        let mut census = Census::default();
        let now = self.clock.now();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let mut count = |at: u64, length: u64| {
                census.live_total += length;
                census.live += if at < oldest.end() { length } else { 0 };
            };
            for (channel, stream) in &mut shard.streams {
                stream.settle(&self.tail, now);
                if stream.is_forgotten(now) {
                    continue;
                }
                stream.entries.iter().for_each(|entry| count(entry.at, u64::from(entry.length())));
                // The newest publication says all of it, as long as it is there.
                if stream.entries.back().is_none_or(|entry| entry.at != stream.newest) {
                    count(stream.newest, STREAM_RECORD + channel.len() as u64);
                }
            }
        }
        census
    }

    /// Frees the oldest file, once what counts in it is elsewhere.
    fn free(
        &self,
        oldest: &Segment,
        done: &mut Compaction,
        patience: &mut Patience<'_>,
    ) -> Result<(), StoreError> {
        match self.write_again(oldest, done, patience) {
            // Nothing can be written, and nothing has to be: that is how a full disk gets room.
            Err(StoreError::DiskFull) if !self.is_needed(oldest) => {}
            written => written?,
        }
        // Files are missing at the old end only: the one before is gone for ever before this one goes.
        self.disk.sync_names().map_err(medium)?;
        self.disk.remove(&log_name(oldest.base)).map_err(medium)?;
        // A copy of a publication that arrived meanwhile cannot be needed: this file is full since long ago.
        self.segments.remove(oldest.base);
        if oldest.has_index.load(Ordering::Relaxed) {
            // Without its file it is of no use to anybody; the next start would remove it as well.
            let _ = self.disk.remove(&index_name(oldest.base));
        }
        done.freed_files += 1;
        done.freed_bytes += oldest.length();
        Ok(())
    }

    /// Writes and syncs what counts in the oldest file at the other end.
    fn write_again(
        &self,
        oldest: &Segment,
        done: &mut Compaction,
        patience: &mut Patience<'_>,
    ) -> Result<(), StoreError> {
        self.copy_publications(oldest, done, patience)?;
        let mut is_synced = false;
        // A batch that fails takes back what is said in it, so that it is done when nothing is left to be said.
        while self.write_streams(oldest, patience)? + self.write_keys(oldest, patience)? > 0 || !is_synced {
            self.sync_all(patience)?;
            is_synced = true;
        }
        Ok(())
    }

    /// Whether the oldest file says anything that counts and is not said by what is synced behind it. For a disk that takes
    /// nothing: publications that went before their time may be back with the next start, as far as their files are there.
    fn is_needed(&self, oldest: &Segment) -> bool {
        let now = self.clock.now();
        let synced = oldest.end()..self.tail.synced();
        self.has_keys(oldest)
            || self.shards.iter().any(|shard| {
                lock(shard).streams.values().any(|stream| {
                    let is_told = synced.contains(&stream.newest) || stream.is_forgotten(now);
                    !is_told || stream.entries.iter().any(|entry| entry.at < oldest.end())
                })
            })
            // What was said since may not be on the disk.
            || self.tail.end() > self.tail.synced()
    }

    /// Lets go of the oldest publications of all streams, until what lives takes at most `room` bytes. Records of their
    /// streams say so before a file is freed.
    fn drop_publications(&self, live: u64, room: u64, done: &mut Compaction) {
        let mut ages: Vec<(u64, u64, u32)> = Vec::new();
        for shard in &self.shards {
            for (_, stream) in lock(shard).streams.iter().filter(|(channel, _)| may_drop(channel)) {
                ages.extend(stream.entries.iter().map(|entry| (entry.stamp, entry.at, entry.length())));
            }
        }
        ages.sort_unstable();
        let mut left = live;
        let too_old = ages.iter().take_while(|(.., length)| {
            let goes = left > room;
            left = left.saturating_sub(u64::from(*length));
            goes
        });
        let Some(&(stamp, at, _)) = too_old.last() else { return };
        drop(ages);
        let mut dropped = 0;
        for shard in &self.shards {
            for (_, stream) in lock(shard).streams.iter_mut().filter(|(channel, _)| may_drop(channel)) {
                dropped += stream.drop_until(stamp, at);
            }
        }
        done.dropped_publications += dropped;
        // Relaxed: it is for people.
        self.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        if dropped > 0 {
            self.tell(&Notice::Dropped { publications: dropped });
        }
    }

    fn copy_publications(
        &self,
        oldest: &Segment,
        done: &mut Compaction,
        patience: &mut Patience<'_>,
    ) -> Result<(), StoreError> {
        for shard in &self.shards {
            let mut counting: Vec<(Box<str>, u64, Entry)> = Vec::new();
            for (channel, stream) in &lock(shard).streams {
                let first = stream.first();
                for (offset, entry) in (first..).zip(&stream.entries) {
                    if entry.at < oldest.end() {
                        counting.push((channel.clone(), offset, *entry));
                    }
                }
            }
            let mut round: Vec<(Box<str>, u64, u64, u64)> = Vec::new();
            let (mut bytes, mut last) = (0, None);
            for (channel, offset, entry) in counting {
                let mut frame = vec![0; entry.length() as usize];
                let is_there = match oldest.file.read_at(&mut frame, oldest.place(entry.at)) {
                    Ok(()) => true,
                    // Its file has become shorter: that is damage, and no reason to free nothing any more.
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => false,
                    Err(error) => return Err(medium(error)),
                };
                if !is_there || !matches!(unframe(&frame, oldest.secret), Framed::Whole(..)) {
                    self.lose(oldest, &channel, entry);
                    continue;
                }
                let (at, batch) = self.push_patiently(&copied(&frame, self.secret), patience)?;
                bytes += frame.len();
                round.push((channel, offset, entry.at, at));
                last = Some(batch);
                if bytes >= ROUND_BYTES {
                    self.switch(&mut round, last.take(), patience)?;
                    done.copied_bytes += bytes as u64;
                    bytes = 0;
                }
            }
            self.switch(&mut round, last, patience)?;
            done.copied_bytes += bytes as u64;
        }
        Ok(())
    }

    /// Lets readers go to the copies, once these are on the disk.
    fn switch(
        &self,
        round: &mut Vec<(Box<str>, u64, u64, u64)>,
        last: Option<Arc<Batch>>,
        patience: &mut Patience<'_>,
    ) -> Result<(), StoreError> {
        patience.wait(last)?;
        for (channel, offset, from, to) in round.drain(..) {
            if let Some(stream) = self.shard(&channel).streams.get_mut(&*channel) {
                stream.has_moved(offset, from, to);
            }
        }
        Ok(())
    }

    /// Gives up a stream of which a publication cannot be read.
    fn lose(&self, oldest: &Segment, channel: &str, entry: Entry) {
        let file = log_name(oldest.base);
        let damage = Damage { file, at: oldest.place(entry.at), bytes: u64::from(entry.length()) };
        let mut shard = self.shard(channel);
        let Some(stream) = shard.streams.get_mut(channel) else { return };
        if !stream.entries.iter().any(|now| now.at == entry.at) {
            return;
        }
        stream.begin_anew();
        self.persist(channel, stream);
        drop(shard);
        self.renewed.fetch_add(1, Ordering::Relaxed);
        self.tell(&Notice::Damaged(damage));
        self.tell(&Notice::Renewed { channel: channel.to_owned() });
    }

    /// Writes down again the idempotency keys that the oldest file has and that are remembered; answers how many.
    fn write_keys(&self, oldest: &Segment, patience: &mut Patience<'_>) -> Result<usize, StoreError> {
        let (now, mut written) = (self.clock.now(), 0);
        for shard in &self.shards {
            let mut due: Vec<(Box<str>, Box<str>)> = Vec::new();
            for (channel, key, first, expires) in lock(shard).keys.iter() {
                if first.at < oldest.end() && *expires > now {
                    due.push((channel.into(), key.into()));
                }
            }
            for (channel, key) in due {
                loop {
                    let mut shard = lock(shard);
                    let Some((first, expires)) = shard.keys.entry(&channel, &key) else { break };
                    let position = first.position.as_ref();
                    let mut record = Vec::new();
                    put_key(
                        &mut record,
                        self.secret,
                        &KeyRecord {
                            channel: &channel,
                            key: &key,
                            stamp: expires.saturating_sub(millis(keys::TTL)),
                            position: position.map(|position| (position.offset, position.epoch.as_str())),
                        },
                    );
                    match self.tail.push(&record, Wish::Sync) {
                        Ok((at, _)) => {
                            first.at = at;
                            written += 1;
                            break;
                        }
                        Err(StoreError::Overloaded { .. }) => {
                            drop(shard);
                            patience.wait_for_room(&self.keeper_bell)?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(written)
    }

    /// Writes down again what only the oldest file says about streams; answers of how many.
    fn write_streams(&self, oldest: &Segment, patience: &mut Patience<'_>) -> Result<usize, StoreError> {
        let (now, mut written) = (self.clock.now(), 0);
        for shard in &self.shards {
            let mut names: Vec<Box<str>> = Vec::new();
            for (channel, stream) in &lock(shard).streams {
                if stream.is_to_be_told(oldest.end()) && stream.remembered_until > now {
                    names.push(channel.clone());
                }
            }
            for channel in names {
                loop {
                    let mut shard = self.shard(&channel);
                    let Some(stream) = shard.streams.get_mut(&channel) else { break };
                    if !stream.is_to_be_told(oldest.end()) {
                        break;
                    }
                    let mut record = Vec::new();
                    put_stream(&mut record, self.secret, &stream.record(&channel, now));
                    match self.tail.push(&record, Wish::Sync) {
                        Ok((at, _)) => {
                            stream.is_told_at(at);
                            written += 1;
                            break;
                        }
                        Err(StoreError::Overloaded { .. }) => {
                            drop(shard);
                            patience.wait_for_room(&self.keeper_bell)?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(written)
    }

    /// Syncs everything that was said so far, and the time. What was removed or begun anew in memory is not copied, so
    /// the records that say so have to be on the disk before what they speak of is not.
    fn sync_all(&self, patience: &mut Patience<'_>) -> Result<(), StoreError> {
        // Nothing but the mark of its batch, which has the time in it.
        let (_, batch) = self.push_patiently(&[], patience)?;
        patience.wait(Some(batch))
    }

    fn push_patiently(
        &self,
        record: &[u8],
        patience: &mut Patience<'_>,
    ) -> Result<(u64, Arc<Batch>), StoreError> {
        loop {
            match self.tail.push(record, Wish::Sync) {
                Err(StoreError::Overloaded { .. }) => patience.wait_for_room(&self.keeper_bell)?,
                other => return other,
            }
        }
    }

    pub(super) fn compact(
        &self,
        patience: &mut Patience<'_>,
        mut progress: impl FnMut(Compaction),
    ) -> Result<Compaction, StoreError> {
        let mut done = Compaction::default();
        let _keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_indexes()?;
        // Every file there is now is looked at once; what is written meanwhile is not dead.
        let until = self.tail.end();
        while let Some(oldest) = self.oldest_sealed().filter(|oldest| oldest.end() <= until) {
            let total = self.log_bytes();
            done.bytes = total;
            progress(done);
            let live = self.census(&oldest).live_total;
            if self.has_keys(&oldest) || live + total / 10 >= total {
                break;
            }
            self.free(&oldest, &mut done, patience)?;
        }
        done.bytes = self.log_bytes();
        progress(done);
        Ok(done)
    }

    pub(super) fn check(&self, mut progress: impl FnMut(u64, u64)) -> Result<Vec<Damage>, StoreError> {
        let segments = self.segments.all();
        let total = segments.iter().map(|segment| segment.length()).sum();
        let (mut read, mut damage) = (0, Vec::new());
        progress(0, total);
        for segment in segments {
            let name = log_name(segment.base);
            // Not further than what is written for certain when we begin.
            let end = segment.end();
            let bytes = segment.read_all().map_err(medium)?;
            let scanned = segment.scan(&bytes, end, |_, _| {});
            damage.extend(scanned.damage.into_iter().map(|(at, bytes)| Damage {
                file: name.clone(),
                at: segment.place(at),
                bytes,
            }));
            if !segment.has_its_header().map_err(medium)? {
                damage.push(Damage { file: name, at: 0, bytes: HEADER });
            }
            read += segment.length();
            progress(read, total);
        }
        Ok(damage)
    }
}
