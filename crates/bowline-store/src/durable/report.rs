//! What is in a store, in numbers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::frame::VERSION;
use super::inspect::Inspection;
use super::lock;

/// What is in a store. See [`Inspection::report`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The version of the files' format.
    pub format: u32,
    /// Files of the log.
    pub files: usize,
    /// Their bytes.
    pub log_bytes: u64,
    /// Files with what is in those of the log, for a fast start.
    pub indexes: usize,
    /// Their bytes.
    pub index_bytes: u64,
    /// Bytes of the log that are publications which are kept.
    pub live_bytes: u64,
    /// All others: publications that went, and what was said about streams and keys.
    pub dead_bytes: u64,
    /// Streams.
    pub streams: usize,
    /// Of these, how many acknowledge before the disk has synced: after a power failure they begin anew.
    pub weak_streams: usize,
    /// Publications that are kept.
    pub publications: usize,
    /// Bytes of their data alone.
    pub payload_bytes: u64,
    /// Idempotency keys that are remembered.
    pub idempotency_keys: usize,
    /// When the oldest publication that is kept was published.
    pub oldest: Option<SystemTime>,
    /// When the newest was.
    pub newest: Option<SystemTime>,
    /// Whether the store was closed; otherwise its process was killed, or the machine lost its power.
    pub was_closed: bool,
    /// The streams that take most, the largest first.
    pub largest: Vec<StreamReport>,
}

/// What is in one stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamReport {
    /// Bytes of the log that are publications of it. First, so that streams are ordered by it.
    pub bytes: u64,
    /// Its channel.
    pub channel: String,
    /// Which life of the stream this is.
    pub epoch: String,
    /// Publications that are kept.
    pub publications: usize,
    /// The offset of its newest publication, or of the last one there was.
    pub top: u64,
    /// When its oldest publication that is kept was published.
    pub oldest: Option<SystemTime>,
    /// When its newest was.
    pub newest: Option<SystemTime>,
    /// Whether it acknowledges before the disk has synced.
    pub is_weak: bool,
}

fn time(stamp: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(stamp))
}

impl Inspection {
    /// What is in the store, with the `largest` largest streams.
    #[must_use]
    pub fn report(&self, largest: usize) -> Report {
        let mut report = Report {
            format: VERSION,
            files: self.recovered.files,
            log_bytes: self.log_bytes,
            indexes: self.indexes,
            index_bytes: self.index_bytes,
            was_closed: self.recovered.was_closed,
            ..Report::default()
        };
        // The smallest of the largest on top, to be pushed out.
        let mut heap = BinaryHeap::new();
        let (mut oldest, mut newest) = (u64::MAX, None);
        for shard in &self.inner.shards {
            let shard = lock(shard);
            report.idempotency_keys += shard.keys.len();
            for (channel, stream) in &shard.streams {
                let bytes = stream.entries.iter().map(|entry| u64::from(entry.length())).sum();
                report.streams += 1;
                report.weak_streams += usize::from(stream.is_weak);
                report.publications += stream.entries.len();
                report.payload_bytes += stream.payload_bytes;
                report.live_bytes += bytes;
                let (first, last) = (stream.entries.front(), stream.entries.back());
                oldest = first.map_or(oldest, |entry| oldest.min(entry.stamp));
                newest = newest.max(last.map(|entry| entry.stamp));
                heap.push(Reverse(StreamReport {
                    bytes,
                    channel: channel.to_string(),
                    epoch: stream.epoch.as_str().to_owned(),
                    publications: stream.entries.len(),
                    top: stream.top,
                    oldest: first.and_then(|entry| time(entry.stamp)),
                    newest: last.and_then(|entry| time(entry.stamp)),
                    is_weak: stream.is_weak,
                }));
                if heap.len() > largest {
                    heap.pop();
                }
            }
        }
        report.dead_bytes = report.log_bytes.saturating_sub(report.live_bytes);
        report.oldest = newest.and_then(|_| time(oldest));
        report.newest = newest.and_then(time);
        report.largest = heap.into_iter().map(|Reverse(stream)| stream).collect();
        report.largest.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.channel.cmp(&b.channel)));
        report
    }
}
