//! What a stream keeps, and for how long.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// One publication as a store keeps it. Cloning shares every part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The payload, opaque to the store.
    pub data: Bytes,
    /// Who published it, if it came from a client.
    pub info: Option<Arc<Publisher>>,
    /// Labels a publisher attached, if any.
    pub tags: Option<Arc<BTreeMap<String, String>>>,
}

impl Publication {
    /// Makes a publication of `data` alone: no publisher, no tags.
    #[must_use]
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), info: None, tags: None }
    }
}

/// The client a publication came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publisher {
    /// Application user id; empty for an anonymous client.
    pub user: Box<str>,
    /// Connection id.
    pub client: Box<str>,
    /// What the connection's token or the application says about the connection.
    pub conn_info: Option<Bytes>,
    /// What the subscription's token or the application says about the subscription.
    pub chan_info: Option<Bytes>,
}

/// How long a stream keeps what is appended to it.
///
/// The retention of the newest append holds for the whole stream, so that a changed configuration takes effect at
/// once and the kept publications stay one run of offsets without holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How many publications are kept at most; the oldest go first.
    pub size: NonZeroUsize,
    /// How long each publication is kept after it was appended.
    pub ttl: Duration,
    /// How long epoch and top offset are remembered after the last append or read.
    pub meta_ttl: Duration,
}

impl Retention {
    /// Makes a retention; `None` if `size` or `ttl` is zero, which means that nothing is to be kept.
    #[must_use]
    pub fn new(size: usize, ttl: Duration, meta_ttl: Duration) -> Option<Self> {
        let size = NonZeroUsize::new(size)?;
        (!ttl.is_zero()).then_some(Self { size, ttl, meta_ttl })
    }
}

/// What a commit promises: what the publication survives once its receipt has resolved.
///
/// A store without a disk keeps none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Synced to the disk: survives a power failure.
    #[default]
    Always,
    /// Handed to the operating system, and synced at most this long afterwards: survives the end of the process. After
    /// a power failure the stream begins anew, with another epoch, because nobody can know what was lost.
    Interval(Duration),
    /// Handed to the operating system, which syncs when it likes: survives the end of the process, as `Interval` does.
    Never,
}
