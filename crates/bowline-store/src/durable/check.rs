//! Reading every byte of a store: checksums, indexes, and the rules between records.
//!
//! Three things are held against each other: the files of the log, their indexes, and the streams as the next start
//! builds them. What is torn off at the end of the last file was promised to nobody, so it is no finding.
//!
//! # The rules
//!
//! 1. Publications of one epoch of a stream have rising offsets without gap or double; copies are where they were.
//! 2. An epoch that ended never comes back.
//! 3. What the next start is to serve is at its place: channel, epoch and offset are those of the record there.
//! 4. An index says what its file says.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::ops::RangeInclusive;

use super::format::{Head, Record, decode_publication, put_indexed};
use super::frame::{HEADER, MARK};
use super::index::read_index;
use super::inspect::{InspectError, Inspection, failed};
use super::lock;
use super::recover::Damage;
use super::segments::{Segment, index_name, log_name};

/// What was found by reading a whole store. See [`Inspection::check`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Bytes of the files that were read.
    pub bytes: u64,
    /// Records of the log that were read.
    pub records: u64,
    /// What is wrong, in the order of the log.
    pub findings: Vec<Finding>,
}

/// Something that is wrong in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: how many bytes at which byte of which file.
    pub place: Damage,
    /// What is wrong there.
    pub trouble: Trouble,
    /// The channels that lose something by it, as far as that can be known.
    pub channels: BTreeSet<String>,
    /// What comes of it.
    pub consequence: Consequence,
}

/// What is wrong at a place of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// The bytes are not those that were written.
    Unreadable,
    /// The header of a file is not the one that was written.
    Header,
    /// An index is not whole, or does not say what its file says.
    Index,
    /// Publications with these offsets should be before the record, and are not.
    Missing(RangeInclusive<u64>),
    /// The stream had a publication with this offset before.
    Doubled(u64),
    /// The stream had this epoch before, and another since.
    EpochAgain(String),
    /// The publication with this offset is to be at the place, and something else is; so it is with others behind it.
    Elsewhere(u64),
}

impl Trouble {
    /// A word for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Header => "header",
            Self::Index => "index",
            Self::Missing(_) => "missing",
            Self::Doubled(_) => "doubled",
            Self::EpochAgain(_) => "epoch_again",
            Self::Elsewhere(_) => "elsewhere",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => formatter.write_str("not what was written"),
            Self::Header => formatter.write_str("the header is not what was written"),
            Self::Index => formatter.write_str("the index does not say what its file says"),
            Self::Missing(offsets) if offsets.start() == offsets.end() => {
                write!(formatter, "the publication before, offset {}, is missing", offsets.start())
            }
            Self::Missing(offsets) => {
                let (first, last) = (offsets.start(), offsets.end());
                write!(formatter, "the publications before, offsets {first} to {last}, are missing")
            }
            Self::Doubled(offset) => write!(formatter, "offset {offset} was there before"),
            Self::EpochAgain(epoch) => write!(formatter, "epoch {epoch} had ended before"),
            Self::Elsewhere(offset) => write!(formatter, "offset {offset} is to be here, and is not"),
        }
    }
}

/// What comes of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consequence {
    /// Nothing that counts is lost.
    Harmless,
    /// The same is read from another place; nothing is lost.
    ReadElsewhere,
    /// At the next start the streams begin anew, with another epoch: clients are told that they missed something. So do
    /// streams of which nothing else is known; nobody can name these.
    RenewedAtStart,
    /// The next start believes the index. Remove that file, and the log is read instead.
    Believed,
    /// When somebody reads what was there, the stream begins anew, with another epoch.
    RenewedWhenRead,
}

impl Consequence {
    /// A word for programs, which does not change.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::ReadElsewhere => "read_elsewhere",
            Self::RenewedAtStart => "renewed_at_start",
            Self::Believed => "believed",
            Self::RenewedWhenRead => "renewed_when_read",
        }
    }
}

impl fmt::Display for Consequence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Harmless => "nothing that counts is lost",
            Self::ReadElsewhere => "the next start reads the log instead; nothing is lost",
            Self::RenewedAtStart => "the next start begins them anew, and any of which nothing else is known",
            Self::Believed => "the next start believes it: remove the index, and the log is read instead",
            Self::RenewedWhenRead => "they begin anew when what was there is read",
        })
    }
}

impl Inspection {
    /// Reads every byte of the store and says what is wrong.
    ///
    /// Takes memory besides: that of the largest file and of a list of its records, and of all streams their names and epochs
    /// twice and 32 bytes for each publication. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`InspectError::Stopped`] if the watcher wanted no more; [`InspectError::Open`] if the system does not let us
    /// read. Damage is in the answer.
    pub fn check(&self) -> Result<Checked, InspectError> {
        let mut walk = Walk::new(self);
        let segments = self.inner.segments.all();
        // The last one is what the next start begins.
        for segment in segments.split_last().map_or(&[][..], |(_, found)| found) {
            let name = log_name(segment.base);
            walk.log(self, segment).map_err(|error| failed(&format!("read {name}"), error))?;
        }
        Ok(walk.finish(self))
    }
}

/// A publication that the next start serves, and its place.
struct Served {
    at: u64,
    /// Of its frame.
    length: u32,
    offset: u64,
    /// Which of the channels.
    channel: u32,
}

/// What the log said of a stream so far.
struct Track {
    epoch: Box<str>,
    /// Of the newest publication.
    offset: u64,
    /// Where the newest record about it is.
    at: u64,
    ended: Vec<Box<str>>,
}

/// How far the log was read, and what was found.
struct Walk {
    checked: Checked,
    /// From where to where the log cannot be read, and which finding says so; oldest first.
    damaged: Vec<(u64, u64, usize)>,
    channels: Vec<(Box<str>, Box<str>)>,
    /// Oldest place first.
    served: Vec<Served>,
    /// How many of these were looked for.
    passed: usize,
    tracks: HashMap<Box<str>, Track>,
}

impl Walk {
    fn new(inspection: &Inspection) -> Self {
        let (mut channels, mut served) = (Vec::new(), Vec::new());
        for shard in &inspection.inner.shards {
            for (channel, stream) in &lock(shard).streams {
                // More streams than this do not fit into memory.
                let number = u32::try_from(channels.len()).unwrap_or(u32::MAX);
                channels.push((channel.clone(), stream.epoch.as_str().into()));
                served.extend((stream.first()..).zip(&stream.entries).map(|(offset, entry)| Served {
                    at: entry.at,
                    length: entry.length(),
                    offset,
                    channel: number,
                }));
            }
        }
        served.sort_unstable_by_key(|served| served.at);
        Self {
            checked: Checked::default(),
            damaged: Vec::new(),
            channels,
            served,
            passed: 0,
            tracks: HashMap::new(),
        }
    }

    fn found(&mut self, place: Damage, trouble: Trouble, consequence: Consequence) -> &mut Finding {
        let at = self.checked.findings.len();
        self.checked.findings.push(Finding { place, trouble, channels: BTreeSet::new(), consequence });
        &mut self.checked.findings[at]
    }

    fn log(&mut self, inspection: &Inspection, segment: &Segment) -> io::Result<()> {
        let name = log_name(segment.base);
        let place = |at: u64, bytes: u64| Damage { file: name.clone(), at, bytes };
        if !segment.has_its_header()? {
            self.found(place(0, HEADER), Trouble::Header, Consequence::Harmless);
        }
        let bytes = segment.read_all()?;
        self.checked.bytes += HEADER + bytes.len() as u64;
        // The records first as a list: damage is known only when all of it was read.
        let mut records = Vec::new();
        let scanned = segment.scan(&bytes, segment.end(), |record, at| records.push((record, at)));
        for &(at, length) in &scanned.damage {
            let damage = place(segment.place(at), length);
            let is_seen = inspection.recovered.damage.contains(&damage);
            let consequence = if is_seen { Consequence::RenewedAtStart } else { Consequence::Harmless };
            self.damaged.push((at, at + length, self.checked.findings.len()));
            self.found(damage, Trouble::Unreadable, consequence);
        }
        self.index(inspection, segment, &records, scanned.damage.is_empty())?;
        for (record, at) in &records {
            self.checked.records += 1;
            self.record(segment, record, *at)?;
        }
        self.pass(segment, segment.base + bytes.len() as u64)
    }

    /// Compares the index of a file with the file (rule 4).
    fn index(
        &mut self,
        inspection: &Inspection,
        segment: &Segment,
        records: &[(Record<'_>, u64)],
        is_whole: bool,
    ) -> io::Result<()> {
        let name = index_name(segment.base);
        let disk = &*inspection.inner.disk;
        let length = match disk.open(&name) {
            // The last file has none, and one that was not finished is no loss.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?.length()?,
        };
        self.checked.bytes += length;
        let index = read_index(disk, segment.base, segment.end(), segment.secret)?;
        let says_the_same = index.is_some_and(|index| {
            let mut expected = Vec::with_capacity(index.len());
            records.iter().for_each(|(record, _)| put_indexed(&mut expected, segment.secret, record));
            !is_whole || index[..index.len() - MARK] == expected
        });
        if !says_the_same {
            let place = Damage { file: name, at: 0, bytes: length };
            let is_used = segment.has_index.load(std::sync::atomic::Ordering::Relaxed);
            let consequence = if is_used { Consequence::Believed } else { Consequence::ReadElsewhere };
            self.found(place, Trouble::Index, consequence);
        }
        Ok(())
    }

    /// Notes what is to be served before `until` and was not met (rule 3).
    fn pass(&mut self, segment: &Segment, until: u64) -> io::Result<()> {
        while let Some(served) = self.served.get(self.passed).filter(|served| served.at < until) {
            let (at, length, offset, channel) = (served.at, served.length, served.offset, served.channel);
            self.passed += 1;
            // Readers find it even where the frame before it cannot be read.
            let body = segment.read(at, length)?;
            let found = body.as_ref().and_then(decode_publication);
            if !found.is_some_and(|(head, _)| self.is(&head, offset, channel)) {
                self.lost(segment, at, offset, channel);
            }
        }
        Ok(())
    }

    /// Whether this is the publication with this offset in the channel of this number.
    fn is(&self, head: &Head<'_>, offset: u64, channel: u32) -> bool {
        self.channels.get(channel as usize).is_some_and(|(channel, epoch)| {
            **channel == *head.channel && **epoch == *head.epoch && offset == head.offset
        })
    }

    fn lost(&mut self, segment: &Segment, at: u64, offset: u64, channel: u32) {
        let after = self.damaged.partition_point(|(from, ..)| *from <= at);
        let damage = after.checked_sub(1).and_then(|index| self.damaged.get(index));
        let place = Damage { file: log_name(segment.base), at: segment.place(at), bytes: 0 };
        let known = match damage {
            Some(&(_, to, finding)) if at < to => Some(finding),
            // One of each run is enough.
            _ => self.checked.findings.len().checked_sub(1).filter(|&last| {
                let last = &self.checked.findings[last];
                matches!(last.trouble, Trouble::Elsewhere(_)) && last.place.file == place.file
            }),
        };
        let channel = self.channels.get(channel as usize).map(|(name, _)| name.to_string());
        let finding = match known {
            Some(finding) => &mut self.checked.findings[finding],
            None => self.found(place, Trouble::Elsewhere(offset), Consequence::RenewedWhenRead),
        };
        // The next start does not see it: it would not have the publication to serve otherwise.
        finding.consequence = Consequence::RenewedWhenRead;
        finding.channels.extend(channel);
    }

    fn record(&mut self, segment: &Segment, record: &Record<'_>, at: u64) -> io::Result<()> {
        let (channel, epoch) = match record {
            Record::Publication(head, _) => {
                self.meets(segment, head, at)?;
                (head.channel, head.epoch)
            }
            Record::Copy(head, _) => return self.meets(segment, head, at),
            Record::Stream(stream) => (stream.channel, stream.epoch),
            Record::Mark { .. } | Record::Key(_) | Record::Closed { .. } => return Ok(()),
        };
        let place = Damage { file: log_name(segment.base), at: segment.place(at), bytes: 0 };
        let track = match self.tracks.get_mut(channel) {
            Some(track) => track,
            None => self.tracks.entry(channel.into()).or_insert_with(|| Track {
                epoch: epoch.into(),
                // Files before this one are gone: it begins anywhere.
                offset: match record {
                    Record::Publication(head, _) => head.offset.saturating_sub(1),
                    Record::Stream(stream) => stream.top,
                    _ => 0,
                },
                at,
                ended: Vec::new(),
            }),
        };
        let before = std::mem::replace(&mut track.at, at);
        let mut trouble = None;
        if *track.epoch != *epoch {
            if track.ended.iter().any(|ended| **ended == *epoch) {
                trouble = Some(Trouble::EpochAgain(epoch.to_owned()));
            }
            track.ended.push(std::mem::replace(&mut track.epoch, epoch.into()));
            track.offset = match record {
                Record::Stream(stream) => stream.top,
                _ => 0,
            };
        }
        let next = track.offset + 1;
        let (gap, newest) = match record {
            Record::Publication(head, _) if head.offset < next => {
                trouble = trouble.or(Some(Trouble::Doubled(head.offset)));
                (None, track.offset)
            }
            Record::Publication(head, _) => (Some(next..=head.offset - 1), head.offset),
            // One that tells of less was written beside an append that was on its way.
            Record::Stream(stream) => (Some(next..=stream.top), track.offset.max(stream.top)),
            _ => (None, track.offset),
        };
        track.offset = newest;
        let trouble = trouble.or(gap.filter(|gap| !gap.is_empty()).map(Trouble::Missing));
        let Some(trouble) = trouble else { return Ok(()) };
        // What is missing behind something that cannot be read was in it.
        let from = self.damaged.partition_point(|(from, ..)| *from < before);
        let to = self.damaged.partition_point(|(from, ..)| *from < at);
        if matches!(trouble, Trouble::Missing(_)) && from < to {
            for (.., finding) in &self.damaged[from..to] {
                self.checked.findings[*finding].channels.insert(channel.to_owned());
            }
        } else {
            self.found(place, trouble, Consequence::Harmless).channels.insert(channel.to_owned());
        }
        Ok(())
    }

    /// Compares a record with what is to be served from its place (rule 3).
    fn meets(&mut self, segment: &Segment, head: &Head<'_>, at: u64) -> io::Result<()> {
        self.pass(segment, at)?;
        if let Some(served) = self.served.get(self.passed).filter(|served| served.at == at) {
            let (offset, channel) = (served.offset, served.channel);
            self.passed += 1;
            if !self.is(head, offset, channel) {
                self.lost(segment, at, offset, channel);
            }
        }
        Ok(())
    }

    fn finish(mut self, inspection: &Inspection) -> Checked {
        for channel in &inspection.renewed {
            // Its newest records may be in anything that cannot be read behind the last one there is.
            let last = self.tracks.get(channel.as_str()).map_or(0, |track| track.at);
            let behind = self.damaged.partition_point(|(from, ..)| *from < last);
            for (.., finding) in &self.damaged[behind..] {
                let finding = &mut self.checked.findings[*finding];
                if finding.consequence == Consequence::RenewedAtStart {
                    finding.channels.insert(channel.clone());
                }
            }
        }
        let renewed: BTreeSet<&String> = inspection.renewed.iter().collect();
        for finding in &mut self.checked.findings {
            let is_renewed = finding.channels.iter().any(|channel| renewed.contains(channel));
            if is_renewed && finding.consequence == Consequence::Harmless {
                finding.consequence = Consequence::RenewedAtStart;
            }
        }
        self.checked
    }
}
