//! The one who writes: takes what waits at the tail, writes it with one call, syncs it once, and tells everybody.
//!
//! # Invariants
//!
//! 1. A commit that promises a sync is resolved after the sync has returned.
//! 2. A file is begun only when everything in the one before it is synced: what a power failure tears is in the last.
//! 3. A file has its name only once its header and what it begins with are synced. What the file before has at and
//!    behind the position at which it begins does not count from that moment on, and not before.
//! 4. After a failure appends are refused until what may have been torn counts no more, and what was not committed is
//!    taken back before anybody is told. Whoever is told that the disk is full is told so when nothing of theirs is there.
//!
//! # End
//!
//! Closing the store lets the writer write what waits, sync it and put a last record that says so. A writer that is
//! dropped without that, by a panic too, fails everything that waits.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::format::put_closed;
use super::frame::{FileKind, Header, MARK, fill_mark};
use super::segments::{Segment, log_name};
use super::tail::{Taken, Work};
use super::{Inner, Notice};
use crate::receipt::CommitError;
use crate::store::StoreError;

/// The name of a file until it is whole.
pub(super) const UNFINISHED: &str = "next.tmp";

/// Bytes that have to go in before a full disk is believed to have room again, at most.
const PROBE_BYTES: usize = 1024 * 1024;

/// How long the writer waits before it looks again whether there is room.
const RETRY: Duration = Duration::from_millis(250);

/// Writes the log of one store, on the thread of whoever owns it.
///
/// Nothing is written, and no receipt resolves, until somebody [runs](Self::run) it:
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("bowline-writer-doc-{}", std::process::id()));
/// use bowline_store::durable::{DurableStore, Options};
///
/// let opened = DurableStore::open(bowline_store::disk::Directory::new(&directory), Options::default()).unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(|| opened.writer.run());
///     // … serve …
///     opened.store.close();
/// });
/// # std::fs::remove_dir_all(directory).unwrap();
/// ```
pub struct Writer {
    inner: Arc<Inner>,
    segment: Arc<Segment>,
    /// The position behind what was written.
    end: u64,
    /// When what is written but not synced is to be synced.
    sync_at: Option<Instant>,
    failing: Option<Failing>,
}

/// What has to be done before anything is written again.
struct Failing {
    mend: Mend,
    retry_at: Instant,
}

enum Mend {
    /// What was written in vain is cut off. As many bytes have to go in, and are cut off again.
    Probe(usize),
    /// What is behind the end may be there or not: a file has to begin there, with these records about streams of
    /// which what was said came to nothing.
    Begin(Vec<u8>),
}

/// What did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    /// To begin a file; nothing of the batch was written.
    Begin,
    /// To write the batch; a part of it may have been written.
    Write,
    /// To sync; what is on the disk of all that is not synced nobody can say, however often one asks.
    Sync,
}

impl Writer {
    pub(super) fn new(inner: Arc<Inner>, segment: Arc<Segment>) -> Self {
        let end = segment.end();
        Self { inner, segment, end, sync_at: None, failing: None }
    }

    /// Writes until the store is closed. Blocks the thread.
    pub fn run(mut self) {
        while self.step(true) {}
    }

    /// Does one step of [`run`](Self::run): what waits is written, or what is due done. Never waits for work.
    ///
    /// Answers whether there will be more. For tests and programs that own the order of things.
    pub fn run_once(&mut self) -> bool {
        self.step(false)
    }

    fn step(&mut self, may_wait: bool) -> bool {
        let until = match &self.failing {
            Some(failing) => Some(failing.retry_at),
            None => self.sync_at,
        };
        let now = || Some(Instant::now());
        match self.inner.tail.take(if may_wait { until } else { now() }) {
            Work::Write(taken) => self.write(taken),
            Work::Due if self.failing.is_some() => self.try_again(),
            Work::Due => {
                if self.sync_at.is_some_and(|at| at <= Instant::now())
                    && let Err(error) = self.sync()
                {
                    self.fail(Failed::Sync, &error, None);
                }
            }
            Work::Close => {
                self.close();
                return false;
            }
        }
        true
    }

    fn write(&mut self, mut taken: Taken) {
        if self.segment.length() >= self.inner.options.segment_bytes {
            if let Err(error) = self.sync() {
                return self.fail(Failed::Sync, &error, Some(taken));
            }
            if let Err(error) = self.begin(Vec::new()) {
                return self.fail(Failed::Begin, &error, Some(taken));
            }
        }
        debug_assert_eq!(self.end, taken.start, "there is no hole in the log");
        let (synced, now) = (self.inner.tail.synced(), self.inner.clock.now());
        fill_mark(&mut taken.bytes[..MARK], self.inner.secret, synced, now);
        if let Err(error) = self.segment.file.write_at(&taken.bytes, self.segment.place(taken.start)) {
            return self.fail(Failed::Write, &error, Some(taken));
        }
        self.end = taken.end();
        self.segment.ends_at(self.end);
        self.inner.tail.has_written(self.end);
        taken.batch.written.resolve(Ok(()));
        // A time that no clock reaches is never.
        if let Some(at) = taken.sync_within.and_then(|within| Instant::now().checked_add(within)) {
            self.sync_at = Some(self.sync_at.map_or(at, |other| other.min(at)));
        }
        if taken.wants_sync || self.sync_at.is_some_and(|at| at <= Instant::now()) {
            if let Err(error) = self.sync() {
                return self.fail(Failed::Sync, &error, Some(taken));
            }
            taken.batch.synced.resolve(Ok(()));
        }
        self.inner.tail.is_done_with(taken.bytes);
    }

    fn sync(&mut self) -> io::Result<()> {
        self.segment.file.sync()?;
        self.sync_at = None;
        self.inner.tail.has_synced(self.end);
        Ok(())
    }

    /// Begins a file at the end, with `first`: what the file before has behind that counts no more (invariant 3).
    fn begin(&mut self, mut first: Vec<u8>) -> io::Result<()> {
        let segment = begin_segment(&self.inner, self.end, &mut first)?;
        let before = std::mem::replace(&mut self.segment, segment);
        before.ends_at(self.end);
        self.inner.segments.push(Arc::clone(&self.segment));
        self.inner.keeper_bell.ring();
        self.end = self.segment.end();
        Ok(())
    }

    /// Takes back everything that is not certain to be on the disk, and refuses appends until what may be there of it
    /// counts no more (invariant 4).
    fn fail(&mut self, what: Failed, error: &io::Error, taken: Option<Taken>) {
        let text: Arc<str> = error.to_string().into();
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let unknown = CommitError::Medium(Arc::clone(&text));
        let (refusal, refused) = if is_full {
            (StoreError::DiskFull, CommitError::DiskFull)
        } else {
            (StoreError::Medium(text), unknown.clone())
        };
        let queued = self.inner.tail.refuse(refusal);

        let is_gone = match what {
            Failed::Begin => true,
            Failed::Write => self.cut_off().is_ok(),
            Failed::Sync => false,
        };
        if !is_gone {
            self.end = self.inner.tail.synced();
            self.segment.ends_at(self.end);
        }
        let mut first = Vec::new();
        let renewed = self.inner.roll_back(self.end, (!is_gone).then_some(&mut first));
        self.inner.tail.rewind(self.end);
        self.sync_at = None;
        let mend = match &taken {
            Some(taken) if is_gone && what == Failed::Write => {
                Mend::Probe(taken.bytes.len().min(PROBE_BYTES))
            }
            _ => Mend::Begin(first),
        };
        self.failing = Some(Failing { mend, retry_at: Instant::now() + RETRY });

        if let Some(taken) = taken {
            taken.batch.fail(if is_gone { &refused } else { &unknown });
            self.inner.tail.is_done_with(taken.bytes);
        }
        queued.fail(&refused);
        self.inner.tell(&Notice::WriteFailed(error.to_string()));
        for channel in renewed {
            self.inner.tell(&Notice::Renewed { channel });
        }
    }

    /// Cuts off what was written behind the end.
    fn cut_off(&self) -> io::Result<()> {
        self.segment.file.truncate(self.segment.place(self.end))?;
        self.segment.file.sync()?;
        self.inner.tail.has_synced(self.end);
        Ok(())
    }

    /// Does what has to be done before anything is written. What fails is tried again a little later.
    fn try_again(&mut self) {
        let Some(mut failing) = self.failing.take() else { return };
        let mended = match &failing.mend {
            Mend::Probe(bytes) => self.probe(*bytes),
            Mend::Begin(first) => self.begin_instead(first.clone()),
        };
        if mended.is_ok() {
            self.inner.tail.accept();
            self.inner.tell(&Notice::WritesAgain);
        } else {
            failing.retry_at = Instant::now() + RETRY;
            self.failing = Some(failing);
        }
    }

    /// Whether there is room for so many bytes.
    fn probe(&self, bytes: usize) -> io::Result<()> {
        // Zeros are no record: should they stay behind, they read as a torn tail.
        let probed = self.segment.file.write_at(&vec![0; bytes], self.segment.place(self.end));
        self.cut_off().and(probed)
    }

    fn begin_instead(&mut self, first: Vec<u8>) -> io::Result<()> {
        let (before, end) = (Arc::clone(&self.segment), self.end);
        self.begin(first)?;
        self.inner.tail.begins_at(self.end);
        // It counts no more, so this is for the room alone.
        let _ = before.file.truncate(before.place(end));
        Ok(())
    }

    /// Leaves a last record which says that nothing is missing. Without it, the next start looks more closely.
    fn close(&mut self) {
        // What readers must not trust any more should be known to the next start.
        self.try_again();
        if self.failing.is_some() {
            return;
        }
        let (secret, now) = (self.inner.secret, self.inner.clock.now());
        let mut bytes = vec![0; MARK];
        fill_mark(&mut bytes, secret, self.inner.tail.synced(), now);
        put_closed(&mut bytes, secret, now);
        let written = self.segment.file.write_at(&bytes, self.segment.place(self.end));
        if written.and_then(|()| self.segment.file.sync()).is_ok() {
            self.end += bytes.len() as u64;
            self.segment.ends_at(self.end);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("end", &self.end).finish_non_exhaustive()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        for batch in self.inner.tail.abandon().into_iter().flatten() {
            batch.fail(&CommitError::Closed);
        }
        self.inner.keeper_bell.close();
    }
}

/// Makes a file of the log, which begins with the records in `first`, if there are any; the first bytes of that are the
/// place of a mark. It gets its name when it is whole (invariant 3).
pub(super) fn begin_segment(inner: &Inner, base: u64, first: &mut [u8]) -> io::Result<Arc<Segment>> {
    let (secret, stamp) = (inner.secret, inner.clock.now());
    if !first.is_empty() {
        fill_mark(&mut first[..MARK], secret, base, stamp);
    }
    let header = Header { base, extra: inner.disk.boot().unwrap_or(0), stamp, secret };
    let bytes = [&header.encode(FileKind::Log)[..], first].concat();
    let file = inner.disk.create(UNFINISHED)?;
    let named = file.write_at(&bytes, 0).and_then(|()| {
        file.sync()?;
        inner.disk.rename(UNFINISHED, &log_name(base))?;
        inner.disk.sync_names()
    });
    if let Err(error) = named {
        // For the room; the next start would remove it as well.
        let _ = inner.disk.remove(UNFINISHED);
        return Err(error);
    }
    Ok(Segment::new(base, base + first.len() as u64, secret, file, false))
}
