//! The store on disk: a log that is written by one writer, with an index of every stream in memory.
//!
//! ```
//! use std::time::Duration;
//! use bowline_store::disk::Directory;
//! use bowline_store::durable::{DurableStore, Options};
//! use bowline_store::{Append, Publication, Retention, StreamStore};
//!
//! # let directory = std::env::temp_dir().join(format!("bowline-durable-doc-{}", std::process::id()));
//! let keep = Retention::new(10, Duration::from_secs(60), Duration::from_secs(3600));
//! for expected in [1, 2] {
//!     let opened = DurableStore::open(Directory::new(&directory), Options::default()).unwrap();
//!     std::thread::scope(|scope| {
//!         scope.spawn(|| opened.writer.run());
//!         let store = opened.store;
//!         store.append(Append::new("news", Publication::new("{}"), keep)).unwrap().wait_blocking().unwrap();
//!         assert_eq!(store.position("news", Duration::from_secs(3600)).unwrap().offset, expected);
//!         store.close();
//!     });
//! }
//! # std::fs::remove_dir_all(directory).unwrap();
//! ```
//!
//! The owner runs the [`Writer`] and the [`Keeper`] on threads of its own; neither is started here.
//!
//! # Map
//!
//! | module | what it holds |
//! |---|---|
//! | `frame`, `format` | the bytes: headers, frames and marks; records |
//! | `tail` | what waits to be written, and who waits for it |
//! | `writer` | [`Writer`]: one write and one sync for many appends; what happens when the disk fails |
//! | `segments` | the files of the log, and reading a record |
//! | `stream`, `shard` | the index in memory |
//! | `scan`, `index`, `recover`, `fold` | what was there: torn tails, damage, the state built anew |
//! | `keeper` | [`Keeper`]: freeing what is dead, the limit of all bytes |
//! | `inspect`, `dry` | [`inspect`]: a store that is looked at, on a disk that is not changed |
//! | `report`, `check` | what an [`Inspection`] says: numbers, damage, what the next start does |
//!
//! # Invariants
//!
//! 1. A reader sees what is committed and nothing else, so no reader saw what a failure takes back.
//! 2. A position of a stream in an epoch stands for one publication for ever. Where that cannot be known - damage, a
//!    power failure in a stream that was acknowledged before it was synced - the stream gets another epoch.
//! 3. The files are a ring: records go in at one end, and only the oldest file is ever removed, after what still
//!    counts in it was written again. So a record's successors are there as long as it is.
//! 4. The time of the store never goes backwards, whatever the wall clock does: it begins at the newest time in the log.
//! 5. Locks: a shard, then the tail. The list of files is locked alone. Nothing is read or written under any of them.
//!
//! # End
//!
//! [`DurableStore::close`] refuses appends; the writer writes what waits and ends, and reads go on as long as somebody
//! has the store. What is not closed is looked at more closely by the next start.

mod check;
mod clock;
mod dry;
mod fold;
mod format;
mod frame;
mod index;
mod inspect;
mod keeper;
mod recover;
mod report;
mod scan;
mod segments;
mod shard;
mod stream;
mod tail;
mod writer;

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use self::check::{Checked, Consequence, Finding, Trouble};
pub use self::inspect::{InspectError, Inspection, Progress, inspect};
pub use self::keeper::{Compaction, Keeper};
pub use self::recover::{Damage, OpenError, Opened, Recovered};
pub use self::report::{Report, StreamReport};
pub use self::writer::Writer;

use self::clock::Clock;
use self::format::{StreamRecord, millis, put_stream};
use self::frame::{FRAME, MARK, MAX_BODY, Secret};
use self::keeper::{Bell, Patience};
use self::segments::Segments;
use self::shard::Shard;
use self::stream::{Entry, Found, Stream};
use self::tail::{Tail, Wish};
use crate::disk::Disk;
use crate::memory::Capacity;
use crate::publication::Durability;
use crate::receipt::Receipt;
use crate::store::{Append, Appended, Kept, Page, Query, StoreError, StoreStats, StreamStore, Swept};

/// Shards of the channel table: a census of one holds up its appenders, so they are many.
const SHARDS: usize = 256;

/// How often a read is begun again because a file went away under it. Files go one at a time, minutes apart.
const READ_TRIES: usize = 8;

/// What a [`DurableStore`] may use, and what it promises by itself.
#[derive(Clone)]
pub struct Options {
    /// What a commit promises if the append does not say. Default: [`Durability::Always`].
    pub durability: Durability,
    /// Bytes that may wait to be written; an append beyond is refused. Default: 64 MiB.
    pub queue_bytes: usize,
    /// Bytes after which a new file is begun. Default: 32 MiB.
    pub segment_bytes: u64,
    /// Bytes the files of the log may have; beyond, what is dead goes, and then the oldest publications of all streams,
    /// whatever their retention. Indexes come on top, a quarter at 256 bytes a publication. The keeper looks at the end of
    /// each file, so that one or two more may be there for a moment; files are made as small as an eighth of this.
    /// Default: no limit.
    pub max_bytes: Option<u64>,
    /// Streams and idempotency keys that may be in memory.
    pub capacity: Capacity,
    /// How often the keeper looks for what can be freed. Default: 10 s.
    pub tend_every: Duration,
    /// Told what a person should know, from whatever thread notices it. Must not block.
    pub listener: Option<Listener>,
}

/// Somebody to tell a [`Notice`] to.
pub type Listener = Arc<dyn Fn(&Notice) + Send + Sync>;

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Always,
            queue_bytes: 64 * 1024 * 1024,
            segment_bytes: 32 * 1024 * 1024,
            max_bytes: None,
            capacity: Capacity::default(),
            tend_every: Duration::from_secs(10),
            listener: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("durability", &self.durability)
            .field("queue_bytes", &self.queue_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("max_bytes", &self.max_bytes)
            .field("capacity", &self.capacity)
            .field("tend_every", &self.tend_every)
            .finish_non_exhaustive()
    }
}

/// What a person should know about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The disk does not take what is written; appends are refused until it does.
    WriteFailed(String),
    /// The disk takes what is written again.
    WritesAgain,
    /// Something that was kept cannot be read any more, and is not served.
    Damaged(Damage),
    /// A stream could not be trusted any more, and began anew with another epoch.
    Renewed {
        /// Its channel.
        channel: String,
    },
    /// Publications went before their time, because all files together may not be larger.
    Dropped {
        /// How many.
        publications: usize,
    },
    /// Freeing space failed; it is tried again later.
    KeepingFailed(String),
    /// Space is freed again.
    KeepsAgain,
}

/// A [`StreamStore`] on disk. See the [module](self). Clones are the same store.
#[derive(Clone)]
pub struct DurableStore {
    inner: Arc<Inner>,
}

impl fmt::Debug for DurableStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DurableStore").field("stats", &self.disk_stats()).finish_non_exhaustive()
    }
}

/// What a store has on disk, and how far that is synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Files of the log.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that wait to be written.
    pub waiting_bytes: u64,
    /// Bytes that are written and not synced.
    pub unsynced_bytes: u64,
    /// Streams that began anew because they could not be trusted, since the store was opened.
    pub renewed: u64,
    /// Publications that went before their time because of [`Options::max_bytes`], since the store was opened.
    pub dropped: u64,
}

/// Everything the store, its writer and its keeper share.
pub(crate) struct Inner {
    disk: Box<dyn Disk>,
    options: Options,
    clock: Clock,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// Streams in all shards. Relaxed everywhere: it only bounds memory.
    streams: AtomicUsize,
    tail: Tail,
    segments: Segments,
    keeper_bell: Bell,
    /// Held by whoever frees files: one at a time.
    keeping: Mutex<()>,
    /// What exceeds [`Options::max_bytes`] could not go: the keeper looks at that again when the log has come here.
    /// Relaxed: only whoever keeps reads and writes it.
    over_until: AtomicU64,
    renewed: AtomicU64,
    dropped: AtomicU64,
    /// What is written is sealed with it; each start has another.
    secret: Secret,
    /// Keeps other processes out. The last field, so that it is let go last.
    _lock: Box<dyn Any + Send + Sync>,
}

impl DurableStore {
    /// Opens the store on `disk`, or begins one there. Reads what is there, which takes its time: a second for some
    /// millions of publications.
    ///
    /// # Errors
    ///
    /// [`OpenError::InUse`] if another process has it, [`OpenError::Version`] if a later program wrote it; otherwise
    /// what the system reports. Damage is no error: it is in the answer.
    pub fn open(disk: impl Disk, options: Options) -> Result<Opened, OpenError> {
        recover::open(Box::new(disk), options)
    }

    /// Refuses appends from now on, and lets the writer and the keeper end when they are done.
    pub fn close(&self) {
        self.inner.tail.close();
        self.inner.keeper_bell.close();
    }

    /// What is on disk.
    #[must_use]
    pub fn disk_stats(&self) -> DiskStats {
        let segments = self.inner.segments.all();
        let tail = &self.inner.tail;
        let (end, written, synced) = (tail.end(), tail.written(), tail.synced());
        DiskStats {
            files: segments.len(),
            bytes: segments.iter().map(|segment| segment.length()).sum(),
            waiting_bytes: end.saturating_sub(written),
            unsynced_bytes: written.saturating_sub(synced),
            renewed: self.inner.renewed.load(Ordering::Relaxed),
            dropped: self.inner.dropped.load(Ordering::Relaxed),
        }
    }

    /// Frees all that can be freed, and writes what still counts of the oldest files again until at most a tenth of
    /// the bytes is dead. `progress` is told how far it is. Blocks the thread; the writer has to run.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports. What was freed stays freed.
    pub fn compact(&self, progress: impl FnMut(Compaction)) -> Result<Compaction, StoreError> {
        self.inner.compact(&mut Patience::Block, progress)
    }

    /// Reads every record of every file and answers what cannot be read. `progress` is told the bytes that were read
    /// and all there are. Blocks the thread.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports; damage is in the answer.
    pub fn check(&self, progress: impl FnMut(u64, u64)) -> Result<Vec<Damage>, StoreError> {
        self.inner.check(progress)
    }
}

impl StreamStore for DurableStore {
    fn append(&self, append: Append<'_>) -> Result<Receipt<Appended>, StoreError> {
        self.inner.append(append)
    }

    fn read(&self, channel: &str, query: Query, meta_ttl: Duration) -> Result<Page, StoreError> {
        self.inner.read(channel, query, millis(meta_ttl))
    }

    fn remove(&self, channel: &str) -> Result<Receipt<()>, StoreError> {
        self.inner.remove(channel)
    }

    fn sweep(&self, now: Instant) -> Swept {
        let mut swept = Swept::default();
        let now = self.inner.clock.at(now);
        for shard in &self.inner.shards {
            let mut shard = lock(shard);
            let forgotten = shard.sweep(&self.inner.tail, now, &mut swept);
            self.inner.streams.fetch_sub(forgotten, Ordering::Relaxed);
        }
        swept
    }

    fn stats(&self) -> StoreStats {
        let mut stats = StoreStats::default();
        for shard in &self.inner.shards {
            lock(shard).add_to(&mut stats);
        }
        stats
    }
}

impl Inner {
    fn shard(&self, channel: &str) -> MutexGuard<'_, Shard> {
        // The remainder is below SHARDS, so the index exists.
        lock(&self.shards[(self.hasher.hash_one(channel) % SHARDS as u64) as usize])
    }

    fn tell(&self, notice: &Notice) {
        if let Some(listener) = &self.options.listener {
            listener(notice);
        }
    }

    fn append(&self, append: Append<'_>) -> Result<Receipt<Appended>, StoreError> {
        let now = self.clock.now();
        let channel = append.channel;
        let mut shard = self.shard(channel);
        if let Some(key) = append.idempotency_key
            && let Some(first) = shard.keys.find(channel, key, now)
        {
            let outcome = Appended::Duplicate(first.position.clone());
            let (end, wish) = (first.end, first.wish);
            return self.join(outcome, end, wish);
        }
        match append.retention {
            None => shard.append_key(self, &append, now),
            Some(retention) => shard.append(self, append, retention, now),
        }
    }

    /// A receipt for something that says what the record that ends at `end` said.
    fn join<T>(&self, outcome: T, end: u64, wish: Wish) -> Result<Receipt<T>, StoreError> {
        let horizon = || if wish == Wish::Sync { self.tail.synced() } else { self.tail.written() };
        if end <= horizon() {
            return Ok(Receipt::committed(outcome));
        }
        let batch = self.tail.last_batch(wish)?;
        // Its own batch may have ended meanwhile, and the one that is written now need not be synced.
        if end <= horizon() {
            return Ok(Receipt::committed(outcome));
        }
        Ok(match batch {
            Some(batch) if wish == Wish::Sync => batch.synced.receipt(outcome),
            Some(batch) => batch.written.receipt(outcome),
            // Written since we looked: had it failed, appends would be refused as long as we hold the shard.
            None => Receipt::committed(outcome),
        })
    }

    fn has_forgotten(&self, streams: usize) {
        self.streams.fetch_sub(streams, Ordering::Relaxed);
    }

    fn admit_stream(&self) -> Result<(), StoreError> {
        let limit = self.options.capacity.streams;
        self.streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .map(drop)
            .map_err(|_| StoreError::Full { limit })
    }

    fn read(&self, channel: &str, query: Query, meta_ttl: u64) -> Result<Page, StoreError> {
        for _ in 0..READ_TRIES {
            let found = self.shard(channel).find(self, channel, query, meta_ttl)?;
            match self.fetch(channel, &found)? {
                Fetched::Page(page) => return Ok(page),
                Fetched::Moved => {}
                Fetched::Damaged(damage) => {
                    self.tell(&Notice::Damaged(damage));
                    self.renew(channel, &found);
                }
            }
        }
        Err(StoreError::Medium("files of the store went away faster than they were read".into()))
    }

    /// Reads what was found. Takes no lock: the files are not changed where there are records.
    fn fetch(&self, channel: &str, found: &Found) -> Result<Fetched, StoreError> {
        let mut publications = Vec::with_capacity(found.entries.len());
        for &(offset, entry) in &found.entries {
            let Some(segment) = self.segments.find(entry.at) else { return Ok(Fetched::Moved) };
            let body = segment.read(entry.at, entry.length()).map_err(medium)?;
            let read = body.as_ref().and_then(format::decode_publication);
            match read {
                Some((head, publication))
                    if head.channel == channel && head.offset == offset && found.top.epoch == *head.epoch =>
                {
                    publications.push(Kept { offset, publication });
                }
                // The file that had it may just have been removed, after it was copied.
                _ if !self.is_still_at(channel, found, offset, entry) => return Ok(Fetched::Moved),
                _ => {
                    return Ok(Fetched::Damaged(Damage {
                        file: segments::log_name(segment.base),
                        at: segment.place(entry.at),
                        bytes: u64::from(entry.length()),
                    }));
                }
            }
        }
        Ok(Fetched::Page(Page { top: found.top.clone(), publications }))
    }

    fn is_still_at(&self, channel: &str, found: &Found, offset: u64, entry: Entry) -> bool {
        let shard = self.shard(channel);
        shard.streams.get(channel).is_some_and(|stream| {
            let index = offset.checked_sub(stream.first()).and_then(|index| usize::try_from(index).ok());
            stream.epoch == found.top.epoch
                && index.and_then(|index| stream.entries.get(index)).is_some_and(|now| now.at == entry.at)
        })
    }

    /// Begins the stream anew, if that has not happened since it was looked at.
    fn renew(&self, channel: &str, found: &Found) {
        let mut shard = self.shard(channel);
        let Some(stream) = shard.streams.get_mut(channel) else { return };
        if stream.epoch != found.top.epoch {
            return;
        }
        stream.begin_anew();
        self.persist(channel, stream);
        drop(shard);
        self.renewed.fetch_add(1, Ordering::Relaxed);
        self.tell(&Notice::Renewed { channel: channel.to_owned() });
    }

    /// Writes down what is known of a stream. If the tail does not take it, the next use of the stream tries again.
    fn persist(&self, channel: &str, stream: &mut Stream) {
        let mut record = Vec::new();
        put_stream(&mut record, self.secret, &stream.record(channel, self.clock.now()));
        if let Ok((at, _)) = self.tail.push(&record, Wish::Write) {
            stream.is_told_at(at);
        }
    }

    fn remove(&self, channel: &str) -> Result<Receipt<()>, StoreError> {
        let now = self.clock.now();
        let mut shard = self.shard(channel);
        let Some(stream) = shard.streams.get_mut(channel) else { return Ok(Receipt::committed(())) };
        stream.settle(&self.tail, now);
        let wish = if stream.is_weak && !stream.waits_for_sync() { Wish::Write } else { Wish::Sync };
        let mut record = Vec::new();
        let removed = StreamRecord { first: stream.visible().offset + 1, ..stream.record(channel, now) };
        put_stream(&mut record, self.secret, &removed);
        let (at, batch) = self.tail.push(&record, wish)?;
        stream.is_told_at(at);
        stream.clear();
        Ok(if wish == Wish::Sync { batch.synced.receipt(()) } else { batch.written.receipt(()) })
    }

    /// Puts what is known of a stream among the records with which the file at `base` begins, behind the place of their
    /// mark.
    fn put_first(&self, records: &mut Vec<u8>, channel: &str, stream: &mut Stream, base: u64, now: u64) {
        if records.is_empty() {
            records.resize(MARK, 0);
        }
        stream.is_told_at(base + records.len() as u64);
        put_stream(records, self.secret, &stream.record(channel, now));
    }

    /// Takes back what lies at or behind `cut`, and answers the streams that began anew because readers had seen some of
    /// it. What the log does not say any more about them and others goes into `first`, with which the next file begins;
    /// `None` if nothing was there that anybody was told of.
    fn roll_back(&self, cut: u64, mut first: Option<&mut Vec<u8>>) -> Vec<String> {
        let now = self.clock.now();
        let mut renewed = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let shard = &mut *shard;
            for (channel, stream) in &mut shard.streams {
                stream.settle(&self.tail, now);
                let newest = stream.newest;
                if stream.roll_back(cut) {
                    stream.begin_anew();
                    renewed.push(channel.to_string());
                }
                if let Some(first) = first.as_mut().filter(|_| newest >= cut) {
                    self.put_first(first, channel, stream, cut, now);
                }
            }
            shard.keys.retain(|first| {
                if first.at >= cut {
                    // If it was written again, that came to nothing; where it was before nobody knows.
                    first.at = 0;
                }
                first.end <= cut
            });
        }
        self.renewed.fetch_add(renewed.len() as u64, Ordering::Relaxed);
        renewed
    }
}

/// What became of reading publications.
enum Fetched {
    Page(Page),
    /// A file was removed meanwhile: what was in it is elsewhere now.
    Moved,
    Damaged(Damage),
}

/// Locks a shard. A poisoned shard is used as it is: nothing under the lock leaves a stream half changed.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn medium(error: std::io::Error) -> StoreError {
    StoreError::Medium(error.to_string().into())
}

/// Refuses a record that no reader would take back.
fn check_size(record: &[u8], limit_bytes: usize) -> Result<(), StoreError> {
    let limit_bytes = limit_bytes.min(MAX_BODY);
    if record.len() > FRAME + limit_bytes { Err(StoreError::TooLarge { limit_bytes }) } else { Ok(()) }
}
