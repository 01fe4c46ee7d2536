//! The bytes of the records. `docs/store-format.md` draws them; what is around them is in `frame`.
//!
//! Pure: no files, no clock, no locks. Reading never panics and never allocates by a length it has not checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::frame::{FRAME, KIND_MARK, Secret, framed, mark, seal};
use crate::publication::{Publication, Publisher, Retention};

const KIND_PUBLICATION: u8 = 2;
/// A publication that was copied forward: it says where the publication is, and nothing about the stream.
const KIND_COPY: u8 = 3;
const KIND_STREAM: u8 = 4;
const KIND_KEY: u8 = 5;
const KIND_CLOSED: u8 = 6;
/// In index files: a publication without its content.
const KIND_ENTRY: u8 = 7;

const WEAK: u8 = 1;
const VERSIONED: u8 = 2;
const KEYED: u8 = 4;
const INFO: u8 = 8;
const TAGS: u8 = 16;
const CONN_INFO: u8 = 32;
const CHAN_INFO: u8 = 64;
/// Of a key: it has the position of what was kept under it.
const PLACED: u8 = 1;
/// Of an entry: it stands for a copy.
const COPIED: u8 = 128;

/// One record, as far as it concerns the state of the store; the content of a publication is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// Begins a group of records that were written together.
    Mark {
        synced: u64,
        stamp: u64,
    },
    Publication(Head<'a>, Location),
    Copy(Head<'a>, Location),
    Stream(StreamRecord<'a>),
    Key(KeyRecord<'a>),
    Closed {
        stamp: u64,
    },
}

/// What a publication says about its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) channel: &'a str,
    pub(super) epoch: &'a str,
    pub(super) offset: u64,
    /// The oldest offset that is kept once this one is.
    pub(super) first: u64,
    pub(super) stamp: u64,
    pub(super) size: u64,
    pub(super) ttl: u64,
    pub(super) meta_ttl: u64,
    pub(super) is_weak: bool,
    pub(super) version: Option<(u64, &'a str)>,
    pub(super) key: Option<&'a str>,
}

/// Where a publication's record is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) at: u64,
    /// Of the whole frame.
    pub(super) length: u32,
    /// Of the payload alone.
    pub(super) payload: u32,
}

/// What is known of a stream without any of its publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamRecord<'a> {
    pub(super) channel: &'a str,
    pub(super) epoch: &'a str,
    pub(super) top: u64,
    /// The oldest offset that is kept; one above the top if none is.
    pub(super) first: u64,
    pub(super) stamp: u64,
    pub(super) remembered_until: u64,
    pub(super) size: u64,
    pub(super) ttl: u64,
    pub(super) is_weak: bool,
    pub(super) version: Option<(u64, &'a str)>,
}

/// An idempotency key, in a record of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRecord<'a> {
    pub(super) channel: &'a str,
    pub(super) key: &'a str,
    /// When it was taken.
    pub(super) stamp: u64,
    /// Offset and epoch of what was kept under it, if anything was.
    pub(super) position: Option<(u64, &'a str)>,
}

/// Milliseconds, or the largest number there is for "for ever".
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<'a> Head<'a> {
    pub(super) fn new(channel: &'a str, epoch: &'a str, offset: u64, retention: Retention) -> Self {
        Self {
            channel,
            epoch,
            offset,
            first: offset,
            stamp: 0,
            size: retention.size.get() as u64,
            ttl: millis(retention.ttl),
            meta_ttl: millis(retention.meta_ttl),
            is_weak: false,
            version: None,
            key: None,
        }
    }

    fn flags(&self) -> u8 {
        (if self.is_weak { WEAK } else { 0 })
            | (if self.version.is_some() { VERSIONED } else { 0 })
            | (if self.key.is_some() { KEYED } else { 0 })
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_text(out, self.channel);
        put_text(out, self.epoch);
        put_number(out, self.offset);
        put_number(out, self.offset.saturating_sub(self.first));
        for number in [self.stamp, self.size, self.ttl, self.meta_ttl] {
            put_number(out, number);
        }
        put_version(out, self.version);
        if let Some(key) = self.key {
            put_text(out, key);
        }
    }

    fn take(input: &mut Input<'a>, flags: u8) -> Option<Self> {
        let (channel, epoch, offset) = (input.text()?, input.text()?, input.number()?);
        Some(Self {
            channel,
            epoch,
            offset,
            first: offset.checked_sub(input.number()?)?,
            stamp: input.number()?,
            size: input.number()?,
            ttl: input.number()?,
            meta_ttl: input.number()?,
            is_weak: flags & WEAK != 0,
            version: input.version(flags)?,
            key: if flags & KEYED == 0 { None } else { Some(input.text()?) },
        })
    }
}

pub(super) fn put_publication(out: &mut Vec<u8>, secret: Secret, head: &Head<'_>, publication: &Publication) {
    framed(out, secret, |out| {
        let Publication { data, info, tags } = publication;
        let mut flags = head.flags() | (if tags.is_some() { TAGS } else { 0 });
        if let Some(info) = info {
            flags |= INFO
                | (if info.conn_info.is_some() { CONN_INFO } else { 0 })
                | (if info.chan_info.is_some() { CHAN_INFO } else { 0 });
        }
        out.extend_from_slice(&[KIND_PUBLICATION, flags]);
        head.put(out);
        if let Some(info) = info {
            put_text(out, &info.user);
            put_text(out, &info.client);
            for part in [&info.conn_info, &info.chan_info].into_iter().flatten() {
                put_bytes(out, part);
            }
        }
        if let Some(tags) = tags {
            put_number(out, tags.len() as u64);
            for (name, value) in tags.iter() {
                put_text(out, name);
                put_text(out, value);
            }
        }
        put_bytes(out, data);
    });
}

/// A copy of a publication's frame, to be written further on.
pub(super) fn copied(frame: &[u8], secret: Secret) -> Vec<u8> {
    let mut copy = frame.to_vec();
    copy[FRAME] = KIND_COPY;
    seal(&mut copy, secret);
    copy
}

pub(super) fn put_stream(out: &mut Vec<u8>, secret: Secret, stream: &StreamRecord<'_>) {
    framed(out, secret, |out| {
        let flags =
            (if stream.is_weak { WEAK } else { 0 }) | (if stream.version.is_some() { VERSIONED } else { 0 });
        out.extend_from_slice(&[KIND_STREAM, flags]);
        put_text(out, stream.channel);
        put_text(out, stream.epoch);
        for number in
            [stream.top, stream.first, stream.stamp, stream.remembered_until, stream.size, stream.ttl]
        {
            put_number(out, number);
        }
        put_version(out, stream.version);
    });
}

pub(super) fn put_key(out: &mut Vec<u8>, secret: Secret, key: &KeyRecord<'_>) {
    framed(out, secret, |out| {
        out.extend_from_slice(&[KIND_KEY, if key.position.is_some() { PLACED } else { 0 }]);
        put_text(out, key.channel);
        put_text(out, key.key);
        put_number(out, key.stamp);
        if let Some((offset, epoch)) = key.position {
            put_number(out, offset);
            put_text(out, epoch);
        }
    });
}

pub(super) fn put_closed(out: &mut Vec<u8>, secret: Secret, stamp: u64) {
    framed(out, secret, |out| {
        out.extend_from_slice(&[KIND_CLOSED, 0]);
        put_number(out, stamp);
    });
}

/// Puts `record` as an index has it: publications without their content. Marks are left out.
pub(super) fn put_indexed(out: &mut Vec<u8>, secret: Secret, record: &Record<'_>) {
    match record {
        Record::Mark { .. } => {}
        Record::Publication(head, at) => put_entry(out, secret, head, at, 0),
        Record::Copy(head, at) => put_entry(out, secret, head, at, COPIED),
        Record::Stream(stream) => put_stream(out, secret, stream),
        Record::Key(key) => put_key(out, secret, key),
        Record::Closed { stamp } => put_closed(out, secret, *stamp),
    }
}

fn put_entry(out: &mut Vec<u8>, secret: Secret, head: &Head<'_>, at: &Location, copied: u8) {
    framed(out, secret, |out| {
        out.extend_from_slice(&[KIND_ENTRY, head.flags() | copied]);
        for number in [at.at, u64::from(at.length), u64::from(at.payload)] {
            put_number(out, number);
        }
        head.put(out);
    });
}

/// Reads a body whose frame began at `at`; `None` if it says nothing we know.
pub(super) fn decode(body: &[u8], at: u64) -> Option<Record<'_>> {
    let (&kind, rest) = body.split_first()?;
    if kind == KIND_MARK {
        return mark(rest).map(|(synced, stamp)| Record::Mark { synced, stamp });
    }
    let (&flags, rest) = rest.split_first()?;
    let mut input = Input(rest);
    match kind {
        KIND_PUBLICATION | KIND_COPY => {
            let head = Head::take(&mut input, flags)?;
            let payload = u32::try_from(input.content(flags)?.data.len()).ok()?;
            let location = Location { at, length: u32::try_from(FRAME + body.len()).ok()?, payload };
            Some(if kind == KIND_COPY {
                Record::Copy(head, location)
            } else {
                Record::Publication(head, location)
            })
        }
        KIND_ENTRY => {
            let location = Location {
                at: input.number()?,
                length: u32::try_from(input.number()?).ok()?,
                payload: u32::try_from(input.number()?).ok()?,
            };
            let head = Head::take(&mut input, flags)?;
            Some(if flags & COPIED == 0 {
                Record::Publication(head, location)
            } else {
                Record::Copy(head, location)
            })
        }
        KIND_STREAM => Some(Record::Stream(StreamRecord {
            channel: input.text()?,
            epoch: input.text()?,
            top: input.number()?,
            first: input.number()?,
            stamp: input.number()?,
            remembered_until: input.number()?,
            size: input.number()?,
            ttl: input.number()?,
            is_weak: flags & WEAK != 0,
            version: input.version(flags)?,
        })),
        KIND_KEY => Some(Record::Key(KeyRecord {
            channel: input.text()?,
            key: input.text()?,
            stamp: input.number()?,
            position: if flags & PLACED == 0 { None } else { Some((input.number()?, input.text()?)) },
        })),
        KIND_CLOSED => Some(Record::Closed { stamp: input.number()? }),
        _ => None,
    }
}

/// Reads a publication with its content; its payload shares the memory of `body`.
pub(super) fn decode_publication(body: &Bytes) -> Option<(Head<'_>, Publication)> {
    let (&[kind, flags], rest) = body.split_first_chunk::<2>()?;
    if kind != KIND_PUBLICATION && kind != KIND_COPY {
        return None;
    }
    let mut input = Input(rest);
    let head = Head::take(&mut input, flags)?;
    let content = input.content(flags)?;
    let own = |part: &[u8]| body.slice_ref(part);
    let info = content.info.map(|(user, client, conn_info, chan_info)| {
        Arc::new(Publisher {
            user: user.into(),
            client: client.into(),
            conn_info: conn_info.map(own),
            chan_info: chan_info.map(own),
        })
    });
    let tags = content.tags.map(|tags| {
        Arc::new(tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    });
    Some((head, Publication { data: own(content.data), info, tags }))
}

/// User, client, and what is known of connection and subscription.
type Info<'a> = (&'a str, &'a str, Option<&'a [u8]>, Option<&'a [u8]>);

/// The content of a publication, where it stands.
struct Content<'a> {
    info: Option<Info<'a>>,
    tags: Option<BTreeMap<&'a str, &'a str>>,
    data: &'a [u8],
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn version(&mut self, flags: u8) -> Option<Option<(u64, &'a str)>> {
        Some(if flags & VERSIONED == 0 { None } else { Some((self.number()?, self.text()?)) })
    }

    fn content(&mut self, flags: u8) -> Option<Content<'a>> {
        let info = if flags & INFO == 0 {
            None
        } else {
            let (user, client) = (self.text()?, self.text()?);
            let mut part = |flag| Some(if flags & flag == 0 { None } else { Some(self.bytes()?) });
            Some((user, client, part(CONN_INFO)?, part(CHAN_INFO)?))
        };
        let tags = if flags & TAGS == 0 {
            None
        } else {
            let mut tags = BTreeMap::new();
            for _ in 0..self.number()? {
                tags.insert(self.text()?, self.text()?);
            }
            Some(tags)
        };
        Some(Content { info, tags, data: self.bytes()? })
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80); // the low seven bits; the rest follows
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_version(out: &mut Vec<u8>, version: Option<(u64, &str)>) {
    if let Some((number, epoch)) = version {
        put_number(out, number);
        put_text(out, epoch);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{Framed, find_mark, unframe};
    use super::*;

    fn publication() -> impl Strategy<Value = Publication> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let info = ("[a-z]{0,5}", ".{0,5}", proptest::option::of(bytes()), proptest::option::of(bytes()));
        let tags = proptest::collection::btree_map(".{0,4}", ".{0,4}", 0..4);
        (bytes(), proptest::option::of(info), proptest::option::of(tags)).prop_map(|(data, info, tags)| {
            let info = info.map(|(user, client, conn_info, chan_info)| {
                Arc::new(Publisher { user: user.into(), client: client.into(), conn_info, chan_info })
            });
            Publication { data, info, tags: tags.map(Arc::new) }
        })
    }

    proptest! {
        #[test]
        fn a_publication_is_read_as_it_was_written(
            publication in publication(),
            channel in ".{1,20}", epoch in "[a-z]{8}", key in proptest::option::of(".{1,10}"),
            version in proptest::option::of((any::<u64>(), ".{0,5}")),
            (offset, kept, stamp, ttl) in (1_u64.., 0_u64..100, any::<u64>(), any::<u64>()), is_weak: bool,
        ) {
            let head = Head {
                channel: &channel, epoch: &epoch, offset, first: offset.saturating_sub(kept), stamp, size: kept, ttl,
                meta_ttl: ttl, is_weak, version: version.as_ref().map(|(number, epoch)| (*number, epoch.as_str())),
                key: key.as_deref(),
            };
            let secret = Secret::new(3);
            let mut frame = Vec::new();
            put_publication(&mut frame, secret, &head, &publication);
            let Framed::Whole(body, whole) = unframe(&frame, secret) else { panic!("not whole") };
            prop_assert_eq!(whole, frame.len());
            let location = Location { at: 7, length: whole as u32, payload: publication.data.len() as u32 };
            let record = decode(body, 7).expect("a record");
            prop_assert_eq!(&record, &Record::Publication(head, location));
            let owned = Bytes::copy_from_slice(body);
            prop_assert_eq!(decode_publication(&owned), Some((head, publication)));

            let copy = copied(&frame, secret);
            let Framed::Whole(body, _) = unframe(&copy, secret) else { panic!("not whole") };
            let record_of_copy = decode(body, 7).expect("a record");
            prop_assert_eq!(&record_of_copy, &Record::Copy(head, location));
            for record in [record, record_of_copy] {
                let mut index = Vec::new();
                put_indexed(&mut index, secret, &record);
                let Framed::Whole(body, _) = unframe(&index, secret) else { panic!("not whole") };
                prop_assert_eq!(decode(body, 0), Some(record));
            }
            // Nothing shorter is whole, and no flipped bit goes unseen.
            for length in 0..frame.len() {
                prop_assert!(!matches!(unframe(&frame[..length], secret), Framed::Whole(..)));
            }
            for bit in 0..frame.len() * 8 {
                let mut flipped = frame.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!matches!(unframe(&flipped, secret), Framed::Whole(..)), "bit {}", bit);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let secret = Secret::new(3);
            let _ = (unframe(&bytes, secret), find_mark(&bytes, secret), Secret::of_first_mark(&bytes), decode(&bytes, 0));
            for kind in 1..=KIND_ENTRY {
                let body: Bytes = [&[kind], &bytes[..]].concat().into();
                let _ = (decode(&body, 0), decode_publication(&body));
            }
        }
    }
}
