//! The end of the log in memory: records that wait to be written, and who waits for them.
//!
//! Appenders push framed records; the writer takes all that is there as one *batch*, writes it, syncs it if anybody
//! asked for that, and resolves the batch's commits. A record's log position is fixed when it is pushed.
//!
//! # Invariants
//!
//! 1. A batch begins with a mark, and what is pushed is written in the order of its positions.
//! 2. What waits, the batch that is being written included, is never more than the limit: pushing beyond it is refused.
//! 3. `synced ≤ written ≤` the position of the next record. All three only rise, but for [`Tail::rewind`]: what was
//!    behind is in no index by then, and nothing is taken.
//! 4. Commits are resolved outside of the lock.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::frame::MARK;
use crate::receipt::{Commit, CommitError};
use crate::store::StoreError;

/// Buffers above this are not kept for the next batch.
const SPARE_BYTES: usize = 4 * 1024 * 1024;

/// What a record's writer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Sync before the commit.
    Sync,
    /// Commit once it is written, and sync within this time.
    Within(Duration),
    /// Commit once it is written.
    Write,
}

/// Who waits for the records of one batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) written: Commit,
    pub(super) synced: Commit,
}

/// The end of the log. See the [module](self).
#[derive(Debug)]
pub(super) struct Tail {
    state: Mutex<State>,
    /// Rung for the writer, if it waits.
    bell: Condvar,
    limit_bytes: usize,
    written: AtomicU64,
    synced: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Framed records, the first at log position `start`.
    buffer: Vec<u8>,
    start: u64,
    batch: Arc<Batch>,
    wants_sync: bool,
    sync_within: Option<Duration>,
    /// The batch the writer has, and its bytes.
    writing: Option<(Arc<Batch>, usize)>,
    spare: Vec<u8>,
    refuses: Option<StoreError>,
    is_closed: bool,
    writer_waits: bool,
}

/// A batch on its way to the disk.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) bytes: Vec<u8>,
    pub(super) start: u64,
    pub(super) batch: Arc<Batch>,
    pub(super) wants_sync: bool,
    pub(super) sync_within: Option<Duration>,
}

impl Taken {
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// What the writer is to do next.
#[derive(Debug)]
pub(super) enum Work {
    Write(Taken),
    /// The time it waited for has come, and there is nothing to write.
    Due,
    /// The store is closed and everything is written.
    Close,
}

impl Tail {
    /// A tail whose first record gets the position `start`; everything before is on the disk.
    pub(super) fn new(start: u64, limit_bytes: usize) -> Self {
        let state = State {
            buffer: Vec::new(),
            start,
            batch: Arc::default(),
            wants_sync: false,
            sync_within: None,
            writing: None,
            spare: Vec::new(),
            refuses: None,
            is_closed: false,
            writer_waits: false,
        };
        Self {
            state: Mutex::new(state),
            bell: Condvar::new(),
            limit_bytes,
            written: AtomicU64::new(start),
            synced: AtomicU64::new(start),
        }
    }

    /// Everything before this position was handed to the operating system.
    pub(super) fn written(&self) -> u64 {
        // Acquire: pairs with the Release in `has_written`; whoever sees the position finds the bytes in the file.
        self.written.load(Ordering::Acquire)
    }

    /// Everything before this position is on the disk.
    pub(super) fn synced(&self) -> u64 {
        // Acquire: as in `written`.
        self.synced.load(Ordering::Acquire)
    }

    /// Puts a framed record at the end and answers its position and batch.
    pub(super) fn push(&self, record: &[u8], wish: Wish) -> Result<(u64, Arc<Batch>), StoreError> {
        let mut state = self.lock();
        if let Some(refusal) = &state.refuses {
            return Err(refusal.clone());
        }
        if state.is_closed {
            return Err(StoreError::Closed);
        }
        let waiting = state.buffer.len() + state.writing.as_ref().map_or(0, |(_, bytes)| *bytes);
        if waiting + record.len() + MARK > self.limit_bytes {
            return Err(StoreError::Overloaded { limit_bytes: self.limit_bytes });
        }
        let answer = state.put(record, wish);
        self.ring(state);
        Ok(answer)
    }

    /// The batch to wait for if everything that was pushed so far is to be committed; `None` if nothing waits. Refused
    /// as long as appends are: what waited came to nothing.
    pub(super) fn last_batch(&self, wish: Wish) -> Result<Option<Arc<Batch>>, StoreError> {
        let mut state = self.lock();
        if let Some(refusal) = &state.refuses {
            return Err(refusal.clone());
        }
        if state.buffer.is_empty() {
            return Ok(state.writing.as_ref().map(|(batch, _)| Arc::clone(batch)));
        }
        state.wants_sync |= wish == Wish::Sync;
        Ok(Some(Arc::clone(&state.batch)))
    }

    /// Takes what waits, or waits until `until` for it. The writer's side.
    pub(super) fn take(&self, until: Option<Instant>) -> Work {
        let mut state = self.lock();
        loop {
            if !state.buffer.is_empty() && state.refuses.is_none() {
                return Work::Write(state.take());
            }
            if state.is_closed {
                return Work::Close;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Work::Due;
            }
            state.writer_waits = true;
            state = match left {
                None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            state.writer_waits = false;
        }
    }

    /// Notes that everything before `end` was handed to the operating system.
    pub(super) fn has_written(&self, end: u64) {
        self.written.store(end, Ordering::Release);
    }

    /// Notes that everything before `end` is on the disk.
    pub(super) fn has_synced(&self, end: u64) {
        self.synced.store(end, Ordering::Release);
    }

    /// Gives back the buffer of the batch that was taken last; it waits no more.
    pub(super) fn is_done_with(&self, mut bytes: Vec<u8>) {
        let mut state = self.lock();
        let batch = state.writing.take();
        if bytes.capacity() <= SPARE_BYTES {
            bytes.clear();
            state.spare = bytes;
        }
        drop(state);
        drop(batch);
    }

    /// Refuses everything from now on, and answers the batch that can no longer be written.
    pub(super) fn refuse(&self, why: StoreError) -> Arc<Batch> {
        let mut state = self.lock();
        state.refuses = Some(why);
        state.buffer = Vec::new();
        (state.wants_sync, state.sync_within) = (false, None);
        mem::take(&mut state.batch)
    }

    /// Refuses everything for good, and answers the batches somebody may wait for.
    pub(super) fn abandon(&self) -> [Option<Arc<Batch>>; 2] {
        let queued = self.refuse(StoreError::Closed);
        let writing = self.lock().writing.take();
        [Some(queued), writing.map(|(batch, _)| batch)]
    }

    /// Lets the next record go to `end`, which may be in front of what was written and came to nothing. Only while
    /// everything is refused.
    pub(super) fn rewind(&self, end: u64) {
        self.lock().start = end;
        self.written.fetch_min(end, Ordering::AcqRel);
        self.synced.fetch_min(end, Ordering::AcqRel);
    }

    /// Lets the next record go to `end`, everything before which is on the disk. Only while everything is refused.
    pub(super) fn begins_at(&self, end: u64) {
        self.lock().start = end;
        self.has_written(end);
        self.has_synced(end);
    }

    /// Ends a refusal.
    pub(super) fn accept(&self) {
        let mut state = self.lock();
        state.refuses = None;
        self.ring(state);
    }

    /// Where the next record goes.
    pub(super) fn end(&self) -> u64 {
        let state = self.lock();
        state.start + state.buffer.len() as u64
    }

    /// Takes no more, and lets the writer end once everything is written.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        self.ring(state);
    }

    fn ring(&self, state: MutexGuard<'_, State>) {
        let writer_waits = state.writer_waits;
        drop(state);
        if writer_waits {
            self.bell.notify_one();
        }
    }

    /// Nothing under the lock leaves the state half changed, so a poisoned one is used as it is.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, record: &[u8], wish: Wish) -> (u64, Arc<Batch>) {
        if self.buffer.is_empty() {
            // The mark's place; the writer fills it in.
            self.buffer.resize(MARK, 0);
        }
        let at = self.start + self.buffer.len() as u64;
        self.buffer.extend_from_slice(record);
        match wish {
            Wish::Sync => self.wants_sync = true,
            Wish::Within(within) => {
                self.sync_within = Some(self.sync_within.map_or(within, |other| other.min(within)));
            }
            Wish::Write => {}
        }
        (at, Arc::clone(&self.batch))
    }

    fn take(&mut self) -> Taken {
        let bytes = mem::replace(&mut self.buffer, mem::take(&mut self.spare));
        let batch = mem::take(&mut self.batch);
        let start = self.start;
        self.start += bytes.len() as u64;
        self.writing = Some((Arc::clone(&batch), bytes.len()));
        Taken {
            bytes,
            start,
            batch,
            wants_sync: mem::take(&mut self.wants_sync),
            sync_within: self.sync_within.take(),
        }
    }
}

impl Batch {
    /// Tells everybody who waits that it came to nothing.
    pub(super) fn fail(&self, error: &CommitError) {
        self.written.resolve(Err(error.clone()));
        self.synced.resolve(Err(error.clone()));
    }
}
