//! One stream in memory: the newest publications as one run of offsets that ends at the top.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Usage, later};
use crate::position::{Epoch, Position};
use crate::publication::{Publication, Retention};
use crate::store::{Appended, Direction, Kept, Page, Query, Version};

/// The stream of one channel.
///
/// The offset of an entry is not stored: the last entry has offset `top`, the one before it `top - 1`, and so on.
#[derive(Debug)]
pub(super) struct Stream {
    epoch: Epoch,
    top: u64,
    entries: VecDeque<Entry>,
    payload_bytes: usize,
    /// Of the newest append; see [`Retention`].
    ttl: Duration,
    remembered_until: Instant,
    version: Option<Box<LastVersion>>,
}

#[derive(Debug)]
struct Entry {
    appended: Instant,
    publication: Publication,
}

#[derive(Debug)]
struct LastVersion {
    number: u64,
    epoch: Box<str>,
}

impl Stream {
    /// Begins a stream. The caller appends or reads at once, which says how long it is remembered.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: Epoch::random(),
            top: 0,
            entries: VecDeque::new(),
            payload_bytes: 0,
            ttl: Duration::MAX,
            remembered_until: now,
            version: None,
        }
    }

    /// Appends `publication` unless a publication of `version` or a newer one was appended before.
    pub(super) fn append(
        &mut self,
        publication: Publication,
        retention: Retention,
        version: Option<Version<'_>>,
        now: Instant,
    ) -> Appended {
        self.remembered_until = later(now, retention.meta_ttl);
        self.expire(now);
        if let Some(version) = version {
            if self.has_seen(version) {
                return Appended::Stale(self.top());
            }
            self.version =
                Some(Box::new(LastVersion { number: version.number, epoch: version.epoch.into() }));
        }
        self.ttl = retention.ttl;
        while self.entries.len() >= retention.size.get() {
            self.drop_oldest();
        }
        self.top += 1;
        self.payload_bytes += publication.data.len();
        self.entries.push_back(Entry { appended: now, publication });
        Appended::Kept(self.top())
    }

    /// Reads as of `now`; expired publications are freed first.
    pub(super) fn read(&mut self, query: Query, meta_ttl: Duration, now: Instant) -> Page {
        self.remembered_until = later(now, meta_ttl);
        self.expire(now);
        let limit = query.limit.count();
        let publications = match query.direction {
            Direction::Forward => {
                let skip = self.index_after(query.since.unwrap_or(0));
                self.kept().skip(skip).take(limit).collect()
            }
            Direction::Backward => {
                let end = match query.since {
                    Some(offset) => self.index_after(offset.saturating_sub(1)),
                    None => self.entries.len(),
                };
                self.kept().take(end).rev().take(limit).collect()
            }
        };
        Page { top: self.top(), publications }
    }

    /// Removes the publications; epoch, top and last version stay.
    pub(super) fn clear(&mut self) {
        self.entries = VecDeque::new();
        self.payload_bytes = 0;
    }

    /// Frees the publications that are older than the ttl.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|entry| later(entry.appended, self.ttl) <= now) {
            self.drop_oldest();
        }
        if self.entries.is_empty() && self.entries.capacity() > 0 {
            self.entries = VecDeque::new();
        }
    }

    /// Whether nobody has used the stream for so long that its epoch is to be forgotten.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.remembered_until <= now
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { publications: self.entries.len(), payload_bytes: self.payload_bytes }
    }

    fn top(&self) -> Position {
        Position { offset: self.top, epoch: self.epoch.clone() }
    }

    fn has_seen(&self, version: Version<'_>) -> bool {
        self.version
            .as_ref()
            .is_some_and(|last| *last.epoch == *version.epoch && version.number <= last.number)
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.payload_bytes -= oldest.publication.data.len();
        }
    }

    /// Index of the first entry after `offset`: 0 if that is older than what is kept, the length if it is the top.
    fn index_after(&self, offset: u64) -> usize {
        let newer = usize::try_from(self.top.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.entries.len().saturating_sub(newer)
    }

    fn kept(&self) -> impl DoubleEndedIterator<Item = Kept> + ExactSizeIterator {
        // There are at most `top` entries, because each took one offset.
        let before_first = self.top - self.entries.len() as u64;
        self.entries.iter().enumerate().map(move |(index, entry)| Kept {
            offset: before_first + 1 + index as u64,
            publication: entry.publication.clone(),
        })
    }
}
