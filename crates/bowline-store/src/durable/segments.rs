//! The files of the log: which there are, and reading a record by its position.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::format::Record;
use super::frame::{FRAME, FileKind, Framed, HEADER, Secret, unframe};
use super::scan::{Place, Scanned, read_all, read_header, scan};
use crate::disk::DiskFile;

/// One file of the log: the records from `base` on.
pub(super) struct Segment {
    pub(super) base: u64,
    /// What its records are sealed with.
    pub(super) secret: Secret,
    pub(super) file: Arc<dyn DiskFile>,
    /// The position behind its last record, as far as it is written. What may be behind that in the file does not count.
    end: AtomicU64,
    /// Whether its index is on the disk.
    pub(super) has_index: AtomicBool,
    /// Whether one is to be written, once it is full: not if it is damaged.
    pub(super) needs_index: AtomicBool,
}

impl Segment {
    pub(super) fn new(
        base: u64,
        end: u64,
        secret: Secret,
        file: Arc<dyn DiskFile>,
        has_index: bool,
    ) -> Arc<Self> {
        let (needs_index, has_index) = (AtomicBool::new(!has_index), AtomicBool::new(has_index));
        Arc::new(Self { base, secret, file, end: AtomicU64::new(end), has_index, needs_index })
    }

    pub(super) fn end(&self) -> u64 {
        // Relaxed: who reads a record learned its position through the tail's horizon; this is for book-keeping.
        self.end.load(Ordering::Relaxed)
    }

    pub(super) fn ends_at(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
    }

    pub(super) fn length(&self) -> u64 {
        self.end() - self.base
    }

    /// Where in the file the record at position `at` begins.
    pub(super) fn place(&self, at: u64) -> u64 {
        HEADER + (at - self.base)
    }

    /// Reads all its records.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        read_all(&*self.file, self.length())
    }

    /// Whether its header is one, and of this file.
    pub(super) fn has_its_header(&self) -> io::Result<bool> {
        Ok(read_header(&*self.file, FileKind::Log)?.is_ok_and(|header| header.base == self.base))
    }

    /// Gives every record of `bytes`, which are all there are up to `end`, to `visit`. What is missing is damage: nothing
    /// there was not acknowledged.
    pub(super) fn scan<'a>(&self, bytes: &'a [u8], end: u64, visit: impl FnMut(Record<'a>, u64)) -> Scanned {
        scan(bytes, self.base, self.secret, Place::Sealed, visit).reaching(end)
    }

    /// Reads the body of the record at `at`, of which the frame has `length` bytes; `None` if it is damaged.
    pub(super) fn read(&self, at: u64, length: u32) -> io::Result<Option<Bytes>> {
        let mut frame = vec![0; length as usize];
        match self.file.read_at(&mut frame, self.place(at)) {
            Ok(()) => {}
            // What is not there any more is damage, not a passing trouble.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let is_whole =
            matches!(unframe(&frame, self.secret), Framed::Whole(_, whole) if whole == frame.len());
        Ok(is_whole.then(|| Bytes::from(frame).slice(FRAME..)))
    }
}

pub(super) fn log_name(base: u64) -> String {
    format!("{base:016x}.log")
}

pub(super) fn index_name(base: u64) -> String {
    format!("{base:016x}.index")
}

/// The base a name of a log speaks of.
pub(super) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// All files of the log, oldest first; the last is the one that is written.
#[derive(Default)]
pub(super) struct Segments(RwLock<Vec<Arc<Segment>>>);

impl Segments {
    pub(super) fn new(segments: Vec<Arc<Segment>>) -> Self {
        Self(RwLock::new(segments))
    }

    /// The file that has the record at `at`; `None` if it was removed.
    pub(super) fn find(&self, at: u64) -> Option<Arc<Segment>> {
        let segments = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.base <= at);
        segments.get(after.checked_sub(1)?).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds the file that is written from now on, in the place of the last one if nothing in that counts.
    pub(super) fn push(&self, segment: Arc<Segment>) {
        let mut segments = self.0.write().unwrap_or_else(PoisonError::into_inner);
        segments.retain(|other| other.base != segment.base);
        segments.push(segment);
    }

    pub(super) fn remove(&self, base: u64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|segment| segment.base != base);
    }
}
