//! The index of a file: its records without the publications' content, so that a start need not read the file.
//!
//! It is written once, when the file is full, and never again. It has the secret of its file, and speaks of all of it: an
//! index of anything else is not used, and the file read instead.

use std::io;
use std::sync::atomic::Ordering;

use super::fold::Fold;
use super::format::{Record, decode, put_indexed};
use super::frame::{FileKind, Framed, Header, MARK, Secret, checked, fill_mark, unframe};
use super::scan::{read_all, read_header};
use super::segments::{Segment, index_name};
use super::{Inner, medium};
use crate::disk::Disk;
use crate::store::StoreError;

/// The name of an index until it is whole.
const UNFINISHED: &str = "index.tmp";

impl Inner {
    /// Writes the indexes that are missing.
    pub(super) fn write_indexes(&self) -> Result<(), StoreError> {
        let segments = self.segments.all();
        // The last one is being written.
        let sealed = segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
        for segment in sealed {
            if segment.needs_index.load(Ordering::Relaxed) {
                self.write_index(segment).map_err(medium)?;
                segment.needs_index.store(false, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Writes the index of a file, if that is whole.
    fn write_index(&self, segment: &Segment) -> io::Result<()> {
        let bytes = segment.read_all()?;
        let (secret, end) = (segment.secret, segment.end());
        let header = Header { base: segment.base, extra: end, stamp: self.clock.now(), secret };
        let mut index = header.encode(FileKind::Index).to_vec();
        let mut records = 0;
        let scanned = segment.scan(&bytes, end, |record, _| {
            let before = index.len();
            put_indexed(&mut index, secret, &record);
            records += u64::from(index.len() > before);
        });
        if !scanned.damage.is_empty() {
            // The next start has to see the damage as well, so it must read the file.
            return Ok(());
        }
        // An index that lost its end would look whole without it.
        let mark = index.len();
        index.resize(mark + MARK, 0);
        fill_mark(&mut index[mark..], secret, records, header.stamp);
        let file = self.disk.create(UNFINISHED)?;
        file.write_at(&index, 0)?;
        file.sync()?;
        self.disk.rename(UNFINISHED, &index_name(segment.base))?;
        self.disk.sync_names()?;
        segment.has_index.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// The records of the index of the file from `base` to `end`, with the mark that ends them, if it is there, of this file,
/// and every record is whole.
pub(super) fn read_index(
    disk: &dyn Disk,
    base: u64,
    end: u64,
    secret: Secret,
) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(&index_name(base)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let header = read_header(&*file, FileKind::Index)?;
    if !header.is_ok_and(|header| (header.base, header.extra, header.secret) == (base, end, secret)) {
        return Ok(None);
    }
    let bytes = read_all(&*file, u64::MAX)?;
    Ok(is_whole(&bytes, secret).then_some(bytes))
}

/// Whether these are records, and a mark at their end that says how many.
fn is_whole(bytes: &[u8], secret: Secret) -> bool {
    let (mut at, mut records) = (0, 0);
    while let Framed::Whole(body, whole) = unframe(&bytes[at..], secret) {
        at += whole;
        match decode(body, 0) {
            Some(Record::Mark { synced, .. }) => return synced == records && at == bytes.len(),
            Some(_) => records += 1,
            None => return false,
        }
    }
    false
}

/// Folds the records of an index that is whole.
pub(super) fn fold_index(bytes: &[u8], base: u64, fold: &mut Fold) {
    fold.is_closed = false;
    let mut at = 0;
    while let Some((body, whole)) = bytes.get(at..).and_then(checked) {
        at += whole;
        match decode(body, 0) {
            Some(Record::Mark { .. }) | None => {}
            Some(record) => {
                fold.is_closed = matches!(record, Record::Closed { .. });
                // An index does not say where records about streams are; the file is near enough.
                fold.record(&record, base);
            }
        }
    }
}
