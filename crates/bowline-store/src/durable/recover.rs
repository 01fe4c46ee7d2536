//! Opening a store: who has it, what is there, and where it goes on.
//!
//! The files are one run: each counts from the position in its name to that of the next. What a file has behind that was
//! cut off, and does not count; where one is too short or missing, something is damaged. Every file is read through its
//! index if that is whole, and itself otherwise, into a [`Fold`], which knows what can be trusted. Then a new file begins
//! behind what counts of the last.
//!
//! # What the last file decides
//!
//! Whether the store was closed, and whether the machine was started since: also if nothing was written into it. So it
//! is never removed; a file that begins at the same position takes its place, and says at the same moment which streams
//! begin anew.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use std::{error, fmt, io};

use tokio::time::Instant;

use super::clock::Clock;
use super::fold::Fold;
use super::frame::{BadHeader, FileKind, HEADER, Header, Secret};
use super::index::{fold_index, read_index};
use super::keeper::{Bell, Keeper};
use super::scan::{Place, read_all, read_header, scan};
use super::segments::{Segment, Segments, base_of, index_name, log_name};
use super::shard::Shard;
use super::tail::Tail;
use super::writer::{Writer, begin_segment};
use super::{DurableStore, Inner, Notice, Options, SHARDS};
use crate::disk::{Disk, DiskFile};

const LOCK: &str = "lock";

/// Below, the limit of all bytes makes no file smaller: each costs two syncs of its own.
const SMALLEST_SEGMENT: u64 = 64 * 1024;

/// A store that was opened, and the two that work for it.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: DurableStore,
    /// Has to run before anything is committed.
    pub writer: Writer,
    /// Frees what is dead. A store without it works, and grows.
    pub keeper: Keeper,
    /// What was found.
    pub recovered: Recovered,
}

/// What was found when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Files of the log.
    pub files: usize,
    /// Of these, how many had to be read because they have no index.
    pub scanned_files: usize,
    /// Streams.
    pub streams: usize,
    /// Publications in them.
    pub publications: usize,
    /// The store was closed the last time; otherwise its process or its machine ended under it.
    pub was_closed: bool,
    /// Bytes at the end of the log that nobody was told about, and that were cut off.
    pub torn_bytes: u64,
    /// What was kept and cannot be read any more.
    pub damage: Vec<Damage>,
    /// How many streams began anew because they could not be trusted.
    pub renewed: usize,
    /// How long it took.
    pub took: Duration,
}

/// A place on disk that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub at: u64,
    /// How many bytes are lost.
    pub bytes: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, bytes } = self;
        write!(formatter, "{file}: {bytes} bytes at {at} are damaged")
    }
}

/// Why a store was not opened. Nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it. End that, or choose another directory.
    InUse,
    /// A file was written by a later program, in a format this one does not know. Use that program.
    Version {
        /// The file.
        file: String,
        /// The version of its format.
        version: u32,
    },
    /// The system refused something: what we wanted to do, and its reason.
    Io {
        /// What was to be done.
        what: String,
        /// The reason.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => formatter.write_str("the store is in use by another process"),
            Self::Version { file, version } => {
                write!(formatter, "{file} has format version {version}, which a later program wrote")
            }
            Self::Io { what, source } => write!(formatter, "cannot {what}: {source}"),
        }
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn cannot(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let what = what.into();
    move |source| OpenError::Io { what, source }
}

pub(super) fn open(disk: Box<dyn Disk>, mut options: Options) -> Result<Opened, OpenError> {
    if let Some(max) = options.max_bytes {
        // Files go as a whole, so they are to be few of those that may be there.
        options.segment_bytes = options.segment_bytes.min((max / 8).max(SMALLEST_SEGMENT));
    }
    let began = Instant::now();
    disk.prepare().map_err(cannot("create the directory of the store"))?;
    let held = disk.lock(LOCK).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => cannot("write in the directory of the store")(error),
    })?;
    let names = disk.list().map_err(cannot("list the directory of the store"))?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(name)).collect();
    bases.sort_unstable();

    let mut fold = Fold::new();
    let mut segments = read_segments(&*disk, &bases, &mut fold)?;
    remove_leftovers(&*disk, &names, &segments);
    let base = segments.last().map_or(0, |segment| segment.end());
    // Closed before another file takes its name.
    segments.retain(|segment| segment.base != base);

    let inner = Arc::new(Inner {
        clock: Clock::new(disk.wall_clock(), fold.newest_stamp),
        shards: (0..SHARDS)
            .map(|_| Mutex::new(Shard::new(options.capacity.idempotency_keys.div_ceil(SHARDS))))
            .collect(),
        hasher: std::hash::RandomState::new(),
        streams: AtomicUsize::new(0),
        tail: Tail::new(base, options.queue_bytes),
        segments: Segments::new(segments),
        keeper_bell: Bell::default(),
        keeping: Mutex::new(()),
        over_until: AtomicU64::new(0),
        renewed: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        secret: Secret::random(),
        disk,
        options,
        _lock: held,
    });
    let mut recovered = std::mem::take(&mut fold.recovered);
    let mut first = fold.fill(&inner, base, &mut recovered);
    let segment = begin_segment(&inner, base, &mut first).map_err(cannot("begin a file of the store"))?;
    inner.tail.begins_at(segment.end());
    inner.segments.push(Arc::clone(&segment));
    recovered.files = bases.len();
    recovered.took = began.elapsed();
    for damage in &recovered.damage {
        inner.tell(&Notice::Damaged(damage.clone()));
    }
    let writer = Writer::new(Arc::clone(&inner), segment);
    let keeper = Keeper::new(Arc::clone(&inner));
    Ok(Opened { store: DurableStore { inner }, writer, keeper, recovered })
}

/// Reads the files that begin at `bases` into `fold`. While one is folded the next is read and checked.
fn read_segments(disk: &dyn Disk, bases: &[u64], fold: &mut Fold) -> Result<Vec<Arc<Segment>>, OpenError> {
    std::thread::scope(|scope| {
        let (give, found) = mpsc::sync_channel(1);
        scope.spawn(move || {
            for (index, &base) in bases.iter().enumerate() {
                let file = find(disk, base, bases.get(index + 1).copied());
                let is_last = file.is_err();
                if give.send(file).is_err() || is_last {
                    break;
                }
            }
        });
        found.into_iter().map(|found| take(disk, found?, fold)).collect()
    })
}

/// A file that was read, and of which nothing counts yet.
struct Found {
    name: String,
    base: u64,
    /// Where it ends to count, if it is not the last.
    next: Option<u64>,
    file: Arc<dyn DiskFile>,
    /// `None` if it is damaged.
    header: Option<Header>,
    content: Content,
}

enum Content {
    /// The records of its index, each of them whole.
    Index(Vec<u8>),
    Log(Vec<u8>),
}

/// Reads the file that begins at `base`; it counts until `next`, or is the last.
fn find(disk: &dyn Disk, base: u64, next: Option<u64>) -> Result<Found, OpenError> {
    let name = log_name(base);
    let file = disk.open(&name).map_err(cannot(format!("open {name}")))?;
    let reading = || cannot(format!("read {name}"));
    let header = match read_header(&*file, FileKind::Log).map_err(reading())? {
        Ok(header) => Some(header).filter(|header| header.base == base),
        Err(BadHeader::Version(version)) => return Err(OpenError::Version { file: name, version }),
        // The records have checksums of their own, and the name says where they are.
        Err(BadHeader::Damaged) => None,
    };
    let index = match (header, next) {
        (Some(header), Some(next)) if file.length().map_err(reading())? >= HEADER + (next - base) => {
            match read_index(disk, base, next, header.secret) {
                // Nobody wants to know any more.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(reading()(error)),
                // The file says the same.
                index => index.unwrap_or(None),
            }
        }
        _ => None,
    };
    let content = match index {
        Some(index) => Content::Index(index),
        None => {
            let limit = next.map_or(u64::MAX, |next| next - base);
            Content::Log(read_all(&*file, limit).map_err(reading())?)
        }
    };
    Ok(Found { name, base, next, file, header, content })
}

/// Lets what was found count.
fn take(disk: &dyn Disk, found: Found, fold: &mut Fold) -> Result<Arc<Segment>, OpenError> {
    let Found { name, base, next, file, header, content } = found;
    if header.is_none() {
        fold.recovered.damage.push(Damage { file: name.clone(), at: 0, bytes: HEADER });
    }
    let stamp = header.map_or(0, |header| header.stamp);
    fold.begins_file(stamp, header.map(|header| header.secret));
    let boot = header.map(|header| header.extra).filter(|boot| *boot != 0);
    fold.same_boot = boot.is_some() && boot == disk.boot();
    let secret = header.map(|header| header.secret);

    let bytes = match (content, next, secret) {
        (Content::Index(bytes), Some(next), Some(secret)) => {
            fold_index(&bytes, base, fold);
            return Ok(Segment::new(base, next, secret, file, true));
        }
        (Content::Index(bytes) | Content::Log(bytes), ..) => bytes,
    };
    fold.recovered.scanned_files += 1;
    let secret = secret.or_else(|| Secret::of_first_mark(&bytes));
    let place = match (next, secret) {
        (None, Some(_)) => Place::Last { same_boot: fold.same_boot },
        // Nothing can be read without its secret, and so nothing be told apart: all of it is damage.
        _ => Place::Sealed,
    };
    let secret = secret.unwrap_or_else(Secret::random);
    let scanned = scan(&bytes, base, secret, place, |record, at| fold.record(&record, at));
    drop(bytes);
    let end = next.unwrap_or(scanned.end);
    let scanned = scanned.reaching(end);
    fold.has_scanned(&name, base, &scanned);
    if next.is_none() {
        if scanned.torn_bytes > 0 {
            file.truncate(HEADER + (end - base)).map_err(cannot(format!("cut {name}")))?;
        }
        // What a killed process had written is there, and not yet on the disk; from now on it counts.
        file.sync().map_err(cannot(format!("sync {name}")))?;
    }
    Ok(Segment::new(base, end, secret, file, false))
}

/// Removes indexes without their file, and what was not finished. What cannot be removed does no harm.
fn remove_leftovers(disk: &dyn Disk, names: &[String], segments: &[Arc<Segment>]) {
    for name in names {
        let is_index = name.ends_with(".index");
        let is_known = segments.iter().any(|segment| *name == index_name(segment.base));
        if name.ends_with(".tmp") || (is_index && !is_known) {
            let _ = disk.remove(name);
        }
    }
}
