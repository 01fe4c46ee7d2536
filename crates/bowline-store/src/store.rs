//! The contract of a store of streams.
//!
//! # Invariants of every implementation
//!
//! 1. Offsets of one stream rise by one from 1 within an epoch; no offset is given twice.
//! 2. What is kept is one run of offsets without holes that ends at the top, or nothing.
//! 3. Losing a stream changes its epoch. Expiry and [`remove`](StreamStore::remove) lose publications, not the
//!    stream: epoch and top stay until `meta_ttl` after the last append or read.
//! 4. The top is readable before the first publication: offset 0 in a fresh epoch.
//! 5. When [`append`](StreamStore::append) returns, order and offset are fixed; appending never waits. The
//!    publication is visible to readers from the moment at which its [`Receipt`] resolves, and not before: what was
//!    read is kept. An implementation without a disk commits at once.
//! 6. An append that was not committed never happened: the next one gets its offset, key and version.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt};

use tokio::time::Instant;

use crate::position::{Epoch, Position};
use crate::publication::{Durability, Publication, Retention};
use crate::receipt::{CommitError, Receipt};

/// Keeps the streams of channels. See the [module](self) for the invariants.
///
/// Methods take `&self` and are called from many threads; each channel's appends are ordered by the caller.
pub trait StreamStore: Send + Sync + 'static {
    /// Gives the publication the next offset of its channel and keeps it, or says why it is not new.
    ///
    /// A repeated idempotency key is answered before the version is looked at. Many appends are committed together,
    /// so a batch is as many appends, of which the receipts are awaited afterwards.
    ///
    /// # Errors
    ///
    /// Nothing was changed. [`StoreError::Full`] if the channel has no stream yet and there is no room for one; a
    /// store on disk has more to refuse with.
    fn append(&self, append: Append<'_>) -> Result<Receipt<Appended>, StoreError>;

    /// Reads the top of a stream and the publications `query` asks for, as of one moment.
    ///
    /// A store on disk may read from it here, which blocks the thread for as long as the disk takes.
    ///
    /// Creates the stream's position if the channel has none (invariant 4), and remembers it for `meta_ttl` more.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] if the channel has no stream yet and there is no room for one.
    fn read(&self, channel: &str, query: Query, meta_ttl: Duration) -> Result<Page, StoreError>;

    /// Reads the top of a stream, as [`read`](Self::read) with [`Limit::Top`] does.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    fn position(&self, channel: &str, meta_ttl: Duration) -> Result<Position, StoreError> {
        self.read(channel, Query::top(), meta_ttl).map(|page| page.top)
    }

    /// Removes the publications of a stream; epoch and top stay.
    ///
    /// Readers see them no more at once. If the commit fails they may be back after a restart: remove again.
    ///
    /// # Errors
    ///
    /// Whatever the medium reports; the memory implementation does not fail.
    fn remove(&self, channel: &str) -> Result<Receipt<()>, StoreError>;

    /// Frees what has expired by `now`.
    ///
    /// Expired publications are never served, swept or not: sweeping only returns memory. The owner of the store
    /// calls it from time to time.
    fn sweep(&self, now: Instant) -> Swept;

    /// What the store holds at this moment, expired and not yet swept publications included.
    fn stats(&self) -> StoreStats;
}

/// A request to append one publication.
#[derive(Clone, Debug)]
pub struct Append<'a> {
    /// The channel.
    pub channel: &'a str,
    /// What to keep.
    pub publication: Publication,
    /// How long to keep it. `None` keeps nothing and assigns no offset: only the idempotency key is looked at.
    pub retention: Option<Retention>,
    /// A repeat of the key in the same channel within five minutes is answered with the first outcome.
    pub idempotency_key: Option<&'a str>,
    /// If given, publications of the same version epoch that are not newer than the last are ignored.
    pub version: Option<Version<'a>>,
    /// What the commit of it promises. `None` leaves that to the store.
    pub durability: Option<Durability>,
}

impl<'a> Append<'a> {
    /// Makes a request without idempotency key and version, of the store's own durability.
    #[must_use]
    pub fn new(channel: &'a str, publication: Publication, retention: Option<Retention>) -> Self {
        Self { channel, publication, retention, idempotency_key: None, version: None, durability: None }
    }
}

/// The version of the whole state a publication carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// Rises with every state; compared within one epoch only.
    pub number: u64,
    /// Names the counter `number` comes from.
    pub epoch: &'a str,
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The publication is new and has this position.
    Kept(Position),
    /// The publication is new; nothing is kept of it, so it has no position.
    NotKept,
    /// The idempotency key was seen before, with this position if that publication was kept. Nothing was appended.
    Duplicate(Option<Position>),
    /// A publication of this or a newer version was appended before; the position is the top. Nothing was appended.
    Stale(Position),
}

/// What to read of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Read what lies after (forward) or before (backward) this offset; `None` starts at the oldest or newest.
    pub since: Option<u64>,
    /// Towards newer or older publications.
    pub direction: Direction,
    /// How many publications at most.
    pub limit: Limit,
}

impl Query {
    /// Asks for the top position alone.
    #[must_use]
    pub const fn top() -> Self {
        Self { since: None, direction: Direction::Forward, limit: Limit::Top }
    }

    /// Asks for publications after `offset`, oldest first.
    #[must_use]
    pub const fn forward(offset: u64, limit: Limit) -> Self {
        Self { since: Some(offset), direction: Direction::Forward, limit }
    }

    /// Asks for the newest publication alone.
    #[must_use]
    pub const fn newest() -> Self {
        Self { since: None, direction: Direction::Backward, limit: Limit::AtMost(NonZeroUsize::MIN) }
    }
}

/// The order in which publications are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// How many publications a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// None: the caller wants the top position only.
    Top,
    /// This many at most.
    AtMost(NonZeroUsize),
    /// All that are kept.
    All,
}

impl Limit {
    /// The number of publications this limit lets through.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Top => 0,
            Self::AtMost(limit) => limit.get(),
            Self::All => usize::MAX,
        }
    }
}

/// The wire's convention: 0 is the top only, a negative number is all.
impl From<i32> for Limit {
    fn from(limit: i32) -> Self {
        match usize::try_from(limit) {
            Ok(limit) => NonZeroUsize::new(limit).map_or(Self::Top, Self::AtMost),
            Err(_) => Self::All,
        }
    }
}

/// The answer to a read, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The top of the stream.
    pub top: Position,
    /// The publications asked for, in the order asked for.
    pub publications: Vec<Kept>,
}

/// A publication with its place in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its offset, within the epoch of the page it came with.
    pub offset: u64,
    /// What was appended.
    pub publication: Publication,
}

impl Page {
    /// The epoch of the stream.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.top.epoch
    }
}

/// What a sweep freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Streams forgotten with their epoch, because nobody used them for their `meta_ttl`.
    pub streams: usize,
    /// Publications freed.
    pub publications: usize,
    /// Idempotency keys forgotten.
    pub idempotency_keys: usize,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Streams, empty ones included.
    pub streams: usize,
    /// Publications in all streams.
    pub publications: usize,
    /// Bytes of their payloads.
    pub payload_bytes: usize,
    /// Idempotency keys remembered.
    pub idempotency_keys: usize,
    /// Idempotency keys forgotten before their time since the store began, because it was full.
    pub idempotency_keys_evicted: u64,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room for another stream. Trying again can succeed after old streams were forgotten.
    Full {
        /// How many streams there is room for.
        limit: usize,
    },
    /// Too much waits to be written. Trying again succeeds as soon as the disk has caught up.
    Overloaded {
        /// How many bytes may wait.
        limit_bytes: usize,
    },
    /// The publication cannot be stored, however often it is tried.
    TooLarge {
        /// How many bytes one record may have.
        limit_bytes: usize,
    },
    /// There is no room on the disk: reads go on, and appends are taken again when there is room.
    DiskFull,
    /// The store was closed, or its writer has ended.
    Closed,
    /// The medium failed; the text is for the log. Trying again may succeed.
    Medium(Arc<str>),
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { limit } => write!(formatter, "no room for another stream (limit {limit})"),
            Self::Overloaded { limit_bytes } => {
                write!(formatter, "the disk does not keep up: {limit_bytes} bytes wait to be written")
            }
            Self::TooLarge { limit_bytes } => {
                write!(formatter, "the publication is too large to be stored (limit {limit_bytes} bytes)")
            }
            Self::DiskFull => formatter.write_str("the disk of the store is full"),
            Self::Closed => formatter.write_str("the store is closed"),
            Self::Medium(what) => write!(formatter, "store medium failed: {what}"),
        }
    }
}

impl error::Error for StoreError {}

/// What became of an append is why it was not done.
impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::DiskFull => Self::DiskFull,
            CommitError::Closed => Self::Closed,
            CommitError::Medium(what) => Self::Medium(what),
        }
    }
}
