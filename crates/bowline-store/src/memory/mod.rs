//! The store in memory: everything is lost on restart, and then every stream has a new epoch.
//!
//! Channels are spread over shards, each behind its own short lock; no lock is held while another is taken, and
//! nothing under a lock waits or calls out. Expired publications are never served; they are freed by the next
//! append to their stream or by [`sweep`](StreamStore::sweep), whichever comes first.

mod stream;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::stream::Stream;
use crate::keys::{self, Keys};
use crate::position::Position;
use crate::receipt::Receipt;
use crate::store::{Append, Appended, Page, Query, StoreError, StoreStats, StreamStore, Swept};

/// Shards of the channel table: enough that two cores rarely meet at one lock, few enough to sweep quickly.
const SHARDS: usize = 64;

/// Stands in for a duration the clock cannot add: a century is "for ever" without being a special case.
const FAR_FUTURE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How much a [`MemoryStore`] may hold beside the publications, whose number each stream bounds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Streams, empty ones included; a further one is refused. An empty stream costs about 250 bytes.
    pub streams: usize,
    /// Idempotency keys; when there is no room, the oldest is forgotten early. A key costs about 150 bytes.
    pub idempotency_keys: usize,
}

impl Default for Capacity {
    /// 4 million streams (≈ 1 GB when all are used) and 1 million keys: 3,300 keyed publications per second for
    /// five minutes.
    fn default() -> Self {
        Self { streams: 4_000_000, idempotency_keys: 1_000_000 }
    }
}

/// A [`StreamStore`] in memory.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    capacity: Capacity,
    /// Streams in all shards. Relaxed everywhere: it only bounds memory, and nothing is read on its word.
    streams: AtomicUsize,
}

impl MemoryStore {
    /// Makes an empty store that holds at most `capacity`.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        let keys_per_shard = capacity.idempotency_keys.div_ceil(SHARDS);
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(keys_per_shard))).collect(),
            hasher: RandomState::new(),
            capacity,
            streams: AtomicUsize::new(0),
        }
    }

    fn shard(&self, channel: &str) -> MutexGuard<'_, Shard> {
        // The remainder is below SHARDS, so the index exists.
        lock(&self.shards[(self.hasher.hash_one(channel) % SHARDS as u64) as usize])
    }

    fn admit_stream(&self) -> Result<(), StoreError> {
        let limit = self.capacity.streams;
        self.streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .map(drop)
            .map_err(|_| StoreError::Full { limit })
    }

    /// Runs `act` on the stream of `channel`, which begins here if there is none or its memory has run out.
    fn with_stream<T>(
        &self,
        shard: &mut Shard,
        channel: &str,
        now: Instant,
        act: impl FnOnce(&mut Stream) -> T,
    ) -> Result<T, StoreError> {
        if let Some(stream) = shard.streams.get_mut(channel) {
            shard.usage.remove(stream.usage());
            if stream.is_forgotten(now) {
                *stream = Stream::new(now);
            }
            let answer = act(stream);
            shard.usage.add(stream.usage());
            return Ok(answer);
        }
        self.admit_stream()?;
        let mut stream = Stream::new(now);
        let answer = act(&mut stream);
        shard.usage.add(stream.usage());
        shard.streams.insert(channel.into(), stream);
        Ok(answer)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Capacity::default())
    }
}

impl StreamStore for MemoryStore {
    fn append(&self, append: Append<'_>) -> Result<Receipt<Appended>, StoreError> {
        let now = Instant::now();
        let Append { channel, publication, retention, idempotency_key, version, durability: _ } = append;
        let mut shard = self.shard(channel);
        if let Some(first) = idempotency_key.and_then(|key| shard.keys.find(channel, key, now).cloned()) {
            return Ok(Receipt::committed(Appended::Duplicate(first)));
        }
        let appended = match retention {
            None => Appended::NotKept,
            Some(retention) => self.with_stream(&mut shard, channel, now, |stream| {
                stream.append(publication, retention, version, now)
            })?,
        };
        let position = match &appended {
            Appended::Kept(position) => Some(position.clone()),
            Appended::NotKept => None,
            // Nothing was published under this key, so there is nothing a repeat could repeat.
            Appended::Stale(_) | Appended::Duplicate(_) => return Ok(Receipt::committed(appended)),
        };
        if let Some(key) = idempotency_key {
            shard.keys.remember(channel, key, position, now + keys::TTL);
        }
        Ok(Receipt::committed(appended))
    }

    fn read(&self, channel: &str, query: Query, meta_ttl: Duration) -> Result<Page, StoreError> {
        let now = Instant::now();
        let mut shard = self.shard(channel);
        self.with_stream(&mut shard, channel, now, |stream| stream.read(query, meta_ttl, now))
    }

    fn remove(&self, channel: &str) -> Result<Receipt<()>, StoreError> {
        let mut shard = self.shard(channel);
        let Shard { streams, usage, .. } = &mut *shard;
        if let Some(stream) = streams.get_mut(channel) {
            usage.remove(stream.usage());
            stream.clear();
            usage.add(stream.usage());
        }
        Ok(Receipt::committed(()))
    }

    fn sweep(&self, now: Instant) -> Swept {
        let mut swept = Swept::default();
        for shard in &self.shards {
            let Shard { streams, keys, usage, .. } = &mut *lock(shard);
            let before = usage.publications;
            let streams_before = streams.len();
            streams.retain(|_, stream| {
                usage.remove(stream.usage());
                let keep = !stream.is_forgotten(now);
                if keep {
                    stream.expire(now);
                    usage.add(stream.usage());
                }
                keep
            });
            let forgotten = streams_before - streams.len();
            self.streams.fetch_sub(forgotten, Ordering::Relaxed);
            swept.streams += forgotten;
            swept.publications += before - usage.publications;
            swept.idempotency_keys += keys.expire(now);
        }
        swept
    }

    fn stats(&self) -> StoreStats {
        let mut stats = StoreStats::default();
        for shard in &self.shards {
            let shard = lock(shard);
            stats.streams += shard.streams.len();
            stats.publications += shard.usage.publications;
            stats.payload_bytes += shard.usage.payload_bytes;
            stats.idempotency_keys += shard.keys.len();
            stats.idempotency_keys_evicted += shard.keys.evicted();
        }
        stats
    }
}

#[derive(Debug)]
struct Shard {
    streams: HashMap<Box<str>, Stream>,
    keys: Keys<Instant, Option<Position>>,
    usage: Usage,
}

impl Shard {
    fn new(keys: usize) -> Self {
        Self { streams: HashMap::new(), keys: Keys::new(keys), usage: Usage::default() }
    }
}

/// What the streams of one shard hold, kept as a running sum so that `stats` need not walk them.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    publications: usize,
    payload_bytes: usize,
}

impl Usage {
    fn add(&mut self, other: Self) {
        self.publications += other.publications;
        self.payload_bytes += other.payload_bytes;
    }

    fn remove(&mut self, other: Self) {
        self.publications -= other.publications;
        self.payload_bytes -= other.payload_bytes;
    }
}

/// Locks a shard. A poisoned shard is used as it is: nothing under the lock leaves a stream half changed.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The moment `after` later, or one far enough away where the clock's arithmetic ends.
fn later(now: Instant, after: Duration) -> Instant {
    now.checked_add(after).unwrap_or_else(|| now + FAR_FUTURE)
}
