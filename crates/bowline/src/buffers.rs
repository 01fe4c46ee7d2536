//! A bounded pool of byte buffers: memory for payloads that is allocated a few times and not once per message.
//!
//! A [`Buffer`] belongs to who took it, and comes back when it is dropped: at the end, by an early return, a cancel or a
//! panic. Who holds one, since when and from which line, is in the statistics and in the error of a [`take`](Buffers::take)
//! that waited in vain.
//!
//! The right to a buffer is a permit of a [`Semaphore`]; the memory comes from the list of those that lie idle, or is
//! allocated.
//!
//! # Invariants
//!
//! 1. Memory is allocated only by who has a permit and finds no idle buffer, and it goes to the idle ones before its permit
//!    goes back. So there are never more than [`count`](Buffers::new) buffers, held and idle together.
//! 2. Under the lock of the idle ones nothing is allocated, freed, or woken.
//!
//! # End
//!
//! The idle memory goes with the last handle; a buffer that is out then is freed when it comes back.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::pin::pin;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::alert::{self, AlertKind, Subject};
use crate::books::Books;
use crate::cause::{Cancelled, Cause};
use crate::combine::{Either, race};
use crate::context::check;
use crate::lock::{KeptPermit, Semaphore};
use crate::resource::{HolderInfo, ResourceInfo};
use crate::site::{self, Site};
use crate::sync::{Arc, LockExt, Mutex};
use crate::testing::trial;

/// How long a buffer lies idle before its memory is given back.
///
/// Half a minute outlasts the pauses within a load; what a burst needed beyond is gone soon after.
const KEPT_IDLE: Duration = Duration::from_secs(30);

/// How many buffers one use gives back to the system at most, so that no use pays for a whole burst.
const FREED_AT_ONCE: usize = 2;

/// How long somebody waits for a buffer before an alert names those who hold them.
const PATIENCE: Duration = Duration::from_secs(1);

static BUFFERS: Books<Inner> = Books::new();

/// A pool of byte buffers of one size, at most so many. Clones are handles on the same pool; keep them anywhere.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use std::io::Write;
/// use bowline::{Buffers, TakeError};
///
/// let buffers = Buffers::new("read", 16 * 1024, 100); // 1.6 MB at most
/// let mut buffer = buffers.take().await?; // waits for one to come back, if 100 are out
/// buffer.write_all(b"hello").unwrap();
/// assert_eq!(&buffer[..], b"hello");
/// drop(buffer); // it is back
/// assert_eq!((buffers.stats().held, buffers.stats().idle), (0, 1));
/// # Ok::<_, TakeError>(())
/// # }).unwrap();
/// ```
///
/// Filled from a socket:
///
/// ```
/// # bowline::testing::example(async {
/// # use bowline::{Buffers, TakeError};
/// use tokio::io::AsyncReadExt;
///
/// # let mut socket: &[u8] = b"hello";
/// # let buffers = Buffers::new("read", 16 * 1024, 100);
/// let mut buffer = buffers.take().await?;
/// let read = socket.read(buffer.room()).await.unwrap();
/// buffer.advance(read);
/// assert_eq!(&buffer[..], b"hello");
/// # Ok::<_, TakeError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Buffers {
    inner: Arc<Inner>,
}

struct Inner {
    site: &'static Site,
    size_bytes: usize,
    count: usize,
    permits: Semaphore,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The one that came back last is last, and goes first: its memory is warm, and the others grow old.
    buffers: VecDeque<(Box<[u8]>, Instant)>,
    held: usize,
    high_water: usize,
    taken: u64,
    allocated: u64,
}

impl Idle {
    /// Takes out what has been idle for too long; to be dropped outside of the lock.
    fn too_old(&mut self, now: Instant) -> [Option<Box<[u8]>>; FREED_AT_ONCE] {
        std::array::from_fn(|_| {
            let (_, since) = self.buffers.front()?;
            let is_old = now.saturating_duration_since(*since) >= KEPT_IDLE;
            if is_old { self.buffers.pop_front().map(|(memory, _)| memory) } else { None }
        })
    }
}

impl Buffers {
    /// Makes a pool of at most `count` buffers of `size_bytes` each. Memory is allocated when it is first needed.
    ///
    /// # Panics
    ///
    /// If one of the two is 0: nobody could ever take a buffer, or put anything into it.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str, size_bytes: usize, count: usize) -> Self {
        assert!(size_bytes > 0, "a buffer needs room for at least one byte");
        assert!(count > 0, "a pool needs at least one buffer");
        let inner = Arc::new(Inner {
            site: site::intern(name, Location::caller()),
            size_bytes,
            count,
            permits: Semaphore::new(name, count),
            idle: Mutex::default(),
        });
        BUFFERS.list(&inner);
        Self { inner }
    }

    /// Takes a buffer, empty, waiting for one to come back if all are out. First come, first served.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the place in line is given up, and a buffer that was granted to it goes to the next.
    ///
    /// # Errors
    ///
    /// [`TakeError::Deadline`] says who holds the buffers: the load is higher than the pool, or somebody keeps what it should
    /// give back. [`TakeError::Cancelled`] if the context was cancelled for another reason.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// # use std::time::Duration;
    /// use bowline::{Buffers, TakeError, timeout};
    ///
    /// let buffers = Buffers::new("read", 1024, 1);
    /// let held = buffers.take().await.unwrap();
    /// let late = timeout(Duration::from_secs(1), buffers.take()).await;
    /// let Ok(Err(TakeError::Deadline { holders, .. })) = late else { panic!("{late:?}") };
    /// println!("held since {} ms by the buffer taken at {}", holders[0].for_ms, holders[0].place);
    /// # });
    /// ```
    #[track_caller]
    pub fn take(&self) -> impl Future<Output = Result<Buffer, TakeError>> {
        let at = Location::caller();
        async move {
            trial::turn().await;
            check().map_err(|cancelled| self.inner.stopped(cancelled, Duration::ZERO))?;
            let permit = match self.inner.permits.try_acquire_kept(1, at) {
                Some(permit) => permit,
                None => self.inner.wait(at).await?,
            };
            Ok(Inner::hand_out(&self.inner, permit))
        }
    }

    /// Takes a buffer if one is free and nobody is in line for it.
    #[must_use = "the buffer goes back when this is dropped"]
    #[track_caller]
    pub fn try_take(&self) -> Option<Buffer> {
        let permit = self.inner.permits.try_acquire_kept(1, Location::caller())?;
        Some(Inner::hand_out(&self.inner, permit))
    }

    /// Returns what is held, what is idle, and who holds it. A look also gives back memory that was idle for long.
    #[must_use]
    pub fn stats(&self) -> BuffersStats {
        self.inner.stats()
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.inner.idle.lock_unpoisoned();
        f.debug_struct("Buffers")
            .field("name", &self.inner.site.name)
            .field("held", &idle.held)
            .field("idle", &idle.buffers.len())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Waits in line, and tells everybody if that takes long.
    async fn wait(&self, at: &'static Location<'static>) -> Result<KeptPermit, TakeError> {
        let began = Instant::now();
        let mut acquired = pin!(self.permits.acquire_kept(1, at));
        // No sleep of ours in it: what this task waits for is the buffer.
        let taken = match race(&mut acquired, patience()).await {
            Either::Left(taken) => taken,
            Either::Right(()) => {
                self.alert();
                acquired.await
            }
        };
        taken.map_err(|error| self.stopped(error.into(), began.elapsed()))
    }

    fn stopped(&self, cancelled: Cancelled, waited: Duration) -> TakeError {
        if !cancelled.is_deadline() {
            return TakeError::Cancelled(cancelled);
        }
        TakeError::Deadline { name: self.site.name, waited, holders: self.permits.stats().holders }
    }

    fn hand_out(pool: &Arc<Self>, permit: KeptPermit) -> Buffer {
        let now = Instant::now();
        let (idle, _old) = {
            let mut idle = pool.idle.lock_unpoisoned();
            idle.held += 1;
            idle.taken += 1;
            idle.high_water = idle.high_water.max(idle.held);
            let memory = idle.buffers.pop_back().map(|(memory, _)| memory);
            idle.allocated += u64::from(memory.is_none());
            (memory, idle.too_old(now))
        };
        let memory = idle.unwrap_or_else(|| vec![0; pool.size_bytes].into_boxed_slice());
        Buffer { memory, filled: 0, pool: Arc::clone(pool), permit: Some(permit) }
    }

    fn put_back(&self, memory: Box<[u8]>) {
        let now = Instant::now();
        let _old = {
            let mut idle = self.idle.lock_unpoisoned();
            idle.held -= 1;
            idle.buffers.push_back((memory, now));
            idle.too_old(now)
        };
    }

    /// Somebody has waited for long: names those who hold the buffers.
    fn alert(&self) {
        let ResourceInfo { holders, waiters, .. } = self.permits.stats();
        let subject =
            Subject { kind: AlertKind::BufferHeld, name: self.site.name.into(), place: self.site.place };
        let held = Held(&holders);
        alert::raise(subject, format!("{} wait for one of {} buffers: {held}", waiters.len(), self.count));
    }

    fn stats(&self) -> BuffersStats {
        let ResourceInfo { holders, waiters, waits, .. } = self.permits.stats();
        let now = Instant::now();
        let (stats, _old) = {
            let mut idle = self.idle.lock_unpoisoned();
            let old = idle.too_old(now);
            let stats = BuffersStats {
                name: self.site.name,
                place: format!("{}:{}", self.site.place.file(), self.site.place.line()),
                size_bytes: self.size_bytes,
                count: self.count,
                held: idle.held,
                idle: idle.buffers.len(),
                resident_bytes: (idle.held + idle.buffers.len()) * self.size_bytes,
                high_water: idle.high_water,
                waiting: waiters.len(),
                waits,
                taken: idle.taken,
                allocated: idle.allocated,
                holders,
            };
            (stats, old)
        };
        stats
    }
}

async fn patience() {
    if cfg!(any(bowline_loom, bowline_shuttle)) {
        std::future::pending().await // a model has no time
    }
    tokio::time::sleep(PATIENCE).await;
}

/// Returns the statistics of all pools of buffers that live.
#[must_use]
pub fn buffers() -> Vec<BuffersStats> {
    BUFFERS.all().iter().map(|inner| inner.stats()).collect()
}

/// What a pool of buffers is at, at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BuffersStats {
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// Size of a buffer, in bytes.
    pub size_bytes: usize,
    /// How many there may be.
    pub count: usize,
    /// How many are out now.
    pub held: usize,
    /// How many lie idle now.
    pub idle: usize,
    /// Memory of both, in bytes: never more than `size_bytes` times `count`.
    pub resident_bytes: usize,
    /// The most that were out at once.
    pub high_water: usize,
    /// How many tasks wait for one now.
    pub waiting: usize,
    /// How often somebody had to wait.
    pub waits: u64,
    /// How often one was taken.
    pub taken: u64,
    /// How often memory had to be allocated for it.
    pub allocated: u64,
    /// Who holds them, from which line and since when, in no order.
    pub holders: Vec<HolderInfo>,
}

/// Bytes of a [`Buffers`] pool, in one piece of fixed size. It goes back to the pool when it is dropped.
///
/// It begins empty and dereferences to the bytes that were put in. It does not grow: what does not fit is not taken.
pub struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
    pool: Arc<Inner>,
    /// Given back last.
    permit: Option<KeptPermit>,
}

impl Buffer {
    /// Returns how many bytes fit in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Returns the room behind the bytes that were put in, to be written to; then say [`advance`](Self::advance).
    ///
    /// What is there is what an earlier holder left, or zeros.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.filled..]
    }

    /// Takes the first `written` bytes of the [`room`](Self::room) in.
    ///
    /// # Panics
    ///
    /// If there is not so much room.
    #[track_caller]
    pub fn advance(&mut self, written: usize) {
        let room = self.memory.len() - self.filled;
        assert!(written <= room, "{written} bytes cannot have been written to {room} bytes of room");
        self.filled += written;
    }

    /// Appends `bytes` if they fit.
    ///
    /// # Errors
    ///
    /// [`BufferFull`]; nothing was appended. Flush it, or take larger buffers.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), BufferFull> {
        let room = self.room();
        let room_bytes = room.len();
        let Some(room) = room.get_mut(..bytes.len()) else {
            return Err(BufferFull { wanted_bytes: bytes.len(), room_bytes });
        };
        room.copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Forgets the bytes that were put in.
    pub fn clear(&mut self) {
        self.filled = 0;
    }

    /// Keeps the first `len` bytes; nothing happens if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.filled = self.filled.min(len);
    }

    /// Makes it shared and unchangeable, without copying. It goes back to its pool when the last clone and the last slice of the
    /// result are dropped, and is held until then.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// let buffers = bowline::Buffers::new("publications", 1024, 8);
    /// let mut buffer = buffers.take().await?;
    /// buffer.append(b"hello").unwrap();
    /// let payload = buffer.freeze();
    /// let queued: Vec<bytes::Bytes> = vec![payload.clone(), payload.slice(1..), payload]; // one memory
    /// assert_eq!(buffers.stats().held, 1);
    /// drop(queued); // the last queue has let go
    /// assert_eq!(buffers.stats().held, 0);
    /// # Ok::<_, bowline::TakeError>(())
    /// # }).unwrap();
    /// ```
    #[cfg(feature = "bytes")]
    #[must_use = "it goes back to its pool when this is dropped"]
    pub fn freeze(self) -> bytes::Bytes {
        bytes::Bytes::from_owner(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.put_back(std::mem::take(&mut self.memory)); // by invariant 1 before the permit
        self.permit = None;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.filled]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Writes what fits; a full buffer takes 0 bytes, which `write_all` reports as [`io::ErrorKind::WriteZero`].
impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room().len());
        self.room()[..fits].copy_from_slice(&bytes[..fits]);
        self.filled += fits;
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.pool.site.name;
        f.debug_struct("Buffer").field("pool", &name).field("bytes", &self.filled).finish_non_exhaustive()
    }
}

/// Bytes did not fit into a [`Buffer`], and none was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferFull {
    /// What was to be appended, in bytes.
    pub wanted_bytes: usize,
    /// What there was room for, in bytes.
    pub room_bytes: usize,
}

impl fmt::Display for BufferFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit into {} bytes of room", self.wanted_bytes, self.room_bytes)
    }
}

impl std::error::Error for BufferFull {}

/// Why no buffer was taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TakeError {
    /// The deadline came first. Trying again helps if the holders give something back; otherwise they are the fault.
    Deadline {
        /// The name of the pool.
        name: &'static str,
        /// How long this one waited.
        waited: Duration,
        /// Who held the buffers when it gave up.
        holders: Vec<HolderInfo>,
    },
    /// The context was cancelled. Nothing is held.
    Cancelled(Cancelled),
}

/// Holders in a sentence: the oldest of them.
struct Held<'a>(&'a [HolderInfo]);

/// How many holders a sentence names.
const NAMED: usize = 3;

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut oldest: Vec<&HolderInfo> = self.0.iter().collect();
        oldest.sort_by_key(|holder| std::cmp::Reverse(holder.for_ms));
        for (at, holder) in oldest.iter().take(NAMED).enumerate() {
            f.write_str(if at == 0 { "held by " } else { ", " })?;
            match holder.task {
                Some(task) => write!(f, "task #{task}")?,
                None => f.write_str("no task of ours")?,
            }
            write!(f, " for {} ms, taken at {}", holder.for_ms, holder.place)?;
        }
        match oldest.len() {
            0 => f.write_str("held by nobody any more"),
            named if named <= NAMED => Ok(()),
            more => write!(f, " and {} more", more - NAMED),
        }
    }
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline { name, waited, holders } => {
                let held = Held(holders);
                write!(f, "no buffer of `{name}` came back within {} ms: {held}", waited.as_millis())
            }
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for TakeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Deadline { .. } => None,
        }
    }
}

/// For scopes whose error is [`Cancelled`]: work that gets no buffer may as well end.
impl From<TakeError> for Cancelled {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Deadline { .. } => Cancelled::new(Cause::DeadlineExceeded),
            TakeError::Cancelled(cancelled) => cancelled,
        }
    }
}
