//! Reading a whole file of the log, and telling a torn tail from damage.
//!
//! A power failure tears what was written after the last sync, and that is in the last file only. What is bad there
//! and was never said to be synced is a *torn tail*: nobody was told that it is kept, so it is cut. Anything else that
//! is bad is *damage*: it was kept once, and is reported.

use std::io;

use super::format::{Record, decode};
use super::frame::{BadHeader, FileKind, Framed, HEADER, Header, Secret, find_mark, unframe};
use crate::disk::DiskFile;

/// What is known of a file before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Another file follows, so all of it was synced.
    Sealed,
    /// It was being written when the store ended.
    Last {
        /// The machine has not been started since: what was written is there.
        same_boot: bool,
    },
}

/// What was found beside the records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// The position behind what counts.
    pub(super) end: u64,
    /// Bytes behind it that do not count.
    pub(super) torn_bytes: u64,
    /// Position and length of what was kept once and cannot be read.
    pub(super) damage: Vec<(u64, u64)>,
    /// The last record says that the store was closed.
    pub(super) is_closed: bool,
}

impl Scanned {
    /// Of a file that has to reach to `end`: what is missing there is damage.
    pub(super) fn reaching(mut self, end: u64) -> Self {
        if self.end < end {
            self.damage.push((self.end, end - self.end));
        }
        self
    }
}

/// Reads the header of a file; one that is too short to have one is damaged.
pub(super) fn read_header(file: &dyn DiskFile, kind: FileKind) -> io::Result<Result<Header, BadHeader>> {
    let mut bytes = [0; HEADER as usize];
    match file.read_at(&mut bytes, 0) {
        Ok(()) => Ok(Header::decode(kind, &bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err(BadHeader::Damaged)),
        Err(error) => Err(error),
    }
}

/// Reads the bytes of a file behind its header, `limit` of them at most: what is behind was cut off.
pub(super) fn read_all(file: &dyn DiskFile, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.length()?.saturating_sub(HEADER).min(limit);
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    if length > 0 {
        file.read_at(&mut bytes, HEADER)?;
    }
    Ok(bytes)
}

/// Gives every record of `bytes`, the first of which is at position `base`, to `visit`, with its position. They are
/// those of a file that was written with this `secret`.
pub(super) fn scan<'a>(
    bytes: &'a [u8],
    base: u64,
    secret: Secret,
    place: Place,
    mut visit: impl FnMut(Record<'a>, u64),
) -> Scanned {
    let mut scanned = Scanned::default();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let position = base + at as u64;
        let (resume, is_frame) = match unframe(rest, secret) {
            Framed::Whole(body, whole) => {
                if let Some(record) = decode(body, position) {
                    scanned.is_closed = matches!(record, Record::Closed { .. });
                    visit(record, position);
                    at += whole;
                    continue;
                }
                // Whole, and yet it says nothing we know: it was not written by us, or badly.
                (Some(at + whole), true)
            }
            Framed::Bad(Some(whole)) if matches!(unframe(&rest[whole..], secret), Framed::Whole(..)) => {
                (Some(at + whole), true)
            }
            Framed::Bad(claimed) => (next_mark(rest, secret).map(|mark| at + mark), claimed.is_some()),
            Framed::Short(_) => (next_mark(rest, secret).map(|mark| at + mark), false),
        };
        if let Place::Last { same_boot } = place {
            // Without a power failure only the end of the last write can be missing: a whole frame is a whole frame.
            let was_kept = (same_boot && is_frame) || was_synced(rest, secret, position);
            if !was_kept {
                scanned.torn_bytes = (bytes.len() - at) as u64;
                scanned.end = position;
                return scanned;
            }
        }
        scanned.is_closed = false;
        let resume = resume.unwrap_or(bytes.len());
        scanned.damage.push((position, (resume - at) as u64));
        at = resume;
    }
    scanned.end = base + bytes.len() as u64;
    scanned
}

/// Where behind the first byte the next mark is.
fn next_mark(rest: &[u8], secret: Secret) -> Option<usize> {
    find_mark(rest.get(1..)?, secret).map(|mark| 1 + mark)
}

/// Whether a mark in `rest` says that what it begins with, at `position`, was synced.
fn was_synced(rest: &[u8], secret: Secret, position: u64) -> bool {
    let mut from = 0;
    while let Some(mark) = next_mark(&rest[from..], secret) {
        from += mark;
        if let Framed::Whole(body, _) = unframe(&rest[from..], secret)
            && matches!(decode(body, 0), Some(Record::Mark { synced, .. }) if synced > position)
        {
            return true;
        }
    }
    false
}
