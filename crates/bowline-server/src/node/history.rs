//! Reading what was published: for the history command, the server API and recovery.

use std::num::NonZeroUsize;
use std::time::Duration;

use bowline_protocol::{ErrorCode, HistoryResult, Publication, StreamPosition};
use bowline_store::{Direction, Limit, Page, Position, Query};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::Node;
use super::publish::from_store;
use super::resolve::ResolvedChannel;
use crate::config::RecoveryMode;

/// Publications of a store on disk that are read where they are asked for: from the page cache that takes a tenth of a
/// millisecond. Others are read aside.
const SHORT_READ: usize = 32;

/// What to read of a channel's history.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// 0 for the top position only, negative for everything.
    pub limit: i32,
    /// Read after this position, or before it when reading in reverse.
    pub since: Option<StreamPosition>,
    /// Newest first.
    pub is_reverse: bool,
}

/// What became of the wish to recover.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    pub(crate) has_recovered: bool,
    pub(crate) publications: Vec<Publication>,
    /// The top of the stream at the time of reading.
    pub(crate) top: Position,
}

impl Node {
    /// Reads history; at most `cap` publications if given, also where the query asks for everything.
    pub(crate) fn read_history(
        &self,
        channel: &ResolvedChannel<'_>,
        query: &HistoryQuery,
        cap: Option<NonZeroUsize>,
    ) -> Result<HistoryResult, ErrorCode> {
        if !channel.has_history() {
            return Err(ErrorCode::NOT_AVAILABLE);
        }
        let since = query.since.as_ref();
        if query.is_reverse && since.is_some_and(|since| since.offset == 0) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let limit = match (Limit::from(query.limit), cap) {
            (Limit::All, Some(cap)) => Limit::AtMost(cap),
            (Limit::AtMost(limit), Some(cap)) => Limit::AtMost(limit.min(cap)),
            (limit, _) => limit,
        };
        let direction = if query.is_reverse { Direction::Backward } else { Direction::Forward };
        let page = self.read(channel, Query { since: since.map(|since| since.offset), direction, limit })?;
        if since.is_some_and(|since| !since.epoch.is_empty() && page.top.epoch != *since.epoch.as_str()) {
            return Err(ErrorCode::UNRECOVERABLE_POSITION);
        }
        Ok(HistoryResult {
            publications: page.publications.into_iter().map(from_store).collect(),
            epoch: page.top.epoch.to_string(),
            offset: page.top.offset,
        })
    }

    /// Reads what a subscriber that stands at `since` missed: all of it or nothing.
    ///
    /// An empty epoch accepts any.
    pub(crate) fn recover(
        &self,
        channel: &ResolvedChannel<'_>,
        since: &StreamPosition,
    ) -> Result<Recovery, ErrorCode> {
        match channel.options().force_recovery_mode {
            RecoveryMode::Stream => self.recover_stream(channel, since),
            RecoveryMode::Cache => self.recover_cache(channel, since),
        }
    }

    /// The current top of the channel's stream.
    pub(crate) fn top(&self, channel: &ResolvedChannel<'_>) -> Result<Position, ErrorCode> {
        self.read(channel, Query::top()).map(|page| page.top)
    }

    fn recover_stream(
        &self,
        channel: &ResolvedChannel<'_>,
        since: &StreamPosition,
    ) -> Result<Recovery, ErrorCode> {
        let limit = Limit::AtMost(self.config.client.recovery_max_publication_limit);
        let page = self.read(channel, Query::forward(since.offset, limit))?;
        let is_whole = match (page.publications.first(), page.publications.last()) {
            (Some(first), Some(last)) => {
                Some(first.offset) == since.offset.checked_add(1) && last.offset == page.top.offset
            }
            _ => page.top.offset == since.offset,
        };
        Ok(Recovery::new(is_whole && is_same_epoch(since, &page), page))
    }

    fn recover_cache(
        &self,
        channel: &ResolvedChannel<'_>,
        since: &StreamPosition,
    ) -> Result<Recovery, ErrorCode> {
        let mut page = self.read(channel, Query::newest())?;
        let has_top = page.top.offset == since.offset && is_same_epoch(since, &page);
        let latest_is_top = page.publications.last().is_some_and(|latest| latest.offset == page.top.offset);
        if has_top {
            // The client has the latest publication already.
            page.publications.clear();
        }
        Ok(Recovery::new(has_top || latest_is_top, page))
    }

    fn read(&self, channel: &ResolvedChannel<'_>, query: Query) -> Result<Page, ErrorCode> {
        let meta_ttl = self.meta_ttl(channel.options());
        let read = || self.store.read(channel.as_str(), query, meta_ttl);
        let page = if self.is_long(channel, &query, meta_ttl) { aside(read) } else { read() };
        page.map_err(|error| self.store_failed(channel.as_str(), &error))
    }

    /// Whether a read takes so many publications from the disk that others should not wait for it.
    fn is_long(&self, channel: &ResolvedChannel<'_>, query: &Query, meta_ttl: Duration) -> bool {
        let kept = channel.options().history_size.map_or(0, NonZeroUsize::get);
        if self.data().is_none() || query.limit.count().min(kept) <= SHORT_READ {
            return false;
        }
        // Where the top is, the store knows without its disk.
        let top = || self.store.position(channel.as_str(), meta_ttl).map_or(0, |top| top.offset);
        let there = match (query.direction, query.since) {
            (Direction::Forward, since) => top().saturating_sub(since.unwrap_or(0)),
            (Direction::Backward, Some(since)) => since.saturating_sub(1),
            (Direction::Backward, None) => top(),
        };
        there > SHORT_READ as u64
    }
}

/// Reads while the other tasks of this thread go on elsewhere; the reader's own task waits, as it would anyway.
fn aside<T>(read: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(read),
        _ => read(),
    }
}

impl Recovery {
    /// A recovery that failed brings nothing: never a part.
    fn new(has_recovered: bool, page: Page) -> Self {
        let publications = if has_recovered { page.publications } else { Vec::new() };
        Self {
            has_recovered,
            publications: publications.into_iter().map(from_store).collect(),
            top: page.top,
        }
    }
}

fn is_same_epoch(since: &StreamPosition, page: &Page) -> bool {
    since.epoch.is_empty() || page.top.epoch == *since.epoch.as_str()
}
