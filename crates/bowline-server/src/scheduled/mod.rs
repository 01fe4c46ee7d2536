//! Publishing later: once, at a time, or again and again by a cron pattern.
//!
//! ```text
//! API ── put, cancel ──▶ Book (who is due when) + Log (a stream of the store) ──▶ task "scheduler" ──▶ Node::publish
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `entry` | one schedule: what, where, when; the run that is meant when several were missed |
//! | `book` | the schedules there are, in the order in which they are due |
//! | `log` | where they are kept |
//! | `request` | what a caller may ask for, and what is wrong with what was asked |
//! | `task` | the task that publishes what is due |
//!
//! Times are those of the wall clock, in milliseconds since 1970; the task waits by tokio's clock and looks at the wall clock
//! again before it does anything.
//!
//! # Invariants
//!
//! 1. What a caller was told is kept, if the store keeps anything: an answer waits for the commit. What is not committed is
//!    not published.
//! 2. A run is published under an idempotency key that is its own, and then written down as done. Between the two a crash
//!    may come: after the restart the run is tried again under the same key, and the store recognizes it.
//! 3. Of one schedule one thing happens at a time: it is written, cancelled or published (`book`). A caller who comes in
//!    between is told so, and does not wait.
//! 4. Nobody waits, and no code of others runs, under the lock. The order of locks is this one before those of the store.
//! 5. A caller who goes away leaves the change to the task, which finds out whether it is kept.
//!
//! # End
//!
//! When the server is told to stop, the task finishes the batch in hand and begins nothing more. What waits is in the store.

mod book;
mod entry;
mod log;
mod request;
mod task;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{error, fmt, mem};

use bowline::{Cancelled, FreeNotifier, Handle, Scope};
use bowline_store::{CommitError, StoreError, StreamStore};
use tokio::sync::watch;

pub(crate) use self::book::{End, Full};
pub(crate) use self::entry::{Entry, Item};
pub(crate) use self::request::{When, WhenError};

use self::book::{Book, Cancelling, NotPut};
use self::log::{Change, Log};
use self::task::Task;
use crate::config;
use crate::node::Node;
use crate::token::unix_now_millis;

/// The wall clock, in milliseconds since 1970.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A schedule and its place in the order: when it is due.
pub(crate) type Placed = (u64, Arc<Item>);

/// How much may wait. `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) pending: Option<usize>,
    pub(crate) pending_per_channel: Option<usize>,
    pub(crate) pending_bytes: Option<usize>,
    /// How far ahead a time may be.
    pub(crate) ahead_ms: u64,
}

impl From<&config::Schedule> for Limits {
    fn from(settings: &config::Schedule) -> Self {
        let number = |limit: Option<std::num::NonZeroUsize>| limit.map(std::num::NonZeroUsize::get);
        Self {
            pending: number(settings.max_pending),
            pending_per_channel: number(settings.max_pending_per_channel),
            pending_bytes: number(settings.max_pending_bytes),
            ahead_ms: u64::try_from(settings.max_delay.get().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Everything that is to be published later.
pub(crate) struct Scheduled {
    store: Arc<dyn StreamStore>,
    limits: Limits,
    clock: Clock,
    state: Mutex<State>,
    /// Wakes the task: there is something earlier, or something to find out about.
    changed: OnceLock<FreeNotifier>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct State {
    is_read: bool,
    book: Book,
    log: Log,
    /// Changes whose callers have gone away.
    orphans: Vec<(Change, Arc<Item>, What)>,
}

/// What has become of schedules. Relaxed: for those who look.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Runs that were published, or had been before a restart.
    pub(crate) published: AtomicU64,
    /// Runs that the server will never publish: their channel is not what it was.
    pub(crate) refused: AtomicU64,
    /// Runs that were skipped because they were late.
    pub(crate) skipped: AtomicU64,
    /// Tries to publish that failed, and are made again.
    pub(crate) failed: AtomicU64,
}

/// What there is, for those who look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) schedules: usize,
    pub(crate) bytes: usize,
    /// How long the first has been due, in milliseconds.
    pub(crate) late_ms: u64,
}

/// What is being written down about a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Put,
    Cancel,
}

/// Why something could not be scheduled or cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScheduleError {
    /// There is no room. Trying again succeeds after some were published or cancelled.
    Full(Full),
    /// The schedule of this id is being written or published at this moment. Trying again succeeds.
    Busy,
    /// The store takes nothing. Nothing was changed.
    Store(StoreError),
    /// The store failed. It may or may not be kept: trying again with the same id does no harm.
    Commit(CommitError),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(Full::All(limit)) => {
                write!(f, "{limit} schedules wait already (schedule.max_pending)")
            }
            Self::Full(Full::Channel(limit)) => write!(
                f,
                "{limit} schedules wait for this channel already (schedule.max_pending_per_channel)"
            ),
            Self::Full(Full::Bytes(limit)) => {
                write!(f, "the schedules that wait have {limit} bytes already (schedule.max_pending_bytes)")
            }
            Self::Busy => f.write_str("it is being changed or published at this moment: try again"),
            Self::Store(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
        }
    }
}

impl error::Error for ScheduleError {}

/// What became of cancelling a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelOutcome {
    /// It is not published any more; or was cancelled before.
    Cancelled,
    /// It is published, or about to be.
    TooLate,
    /// There is none of this id; or it ended long ago, or before a restart.
    Unknown,
}

impl Scheduled {
    pub(crate) fn new(store: Arc<dyn StreamStore>, limits: Limits) -> Self {
        let clock = || u64::try_from(unix_now_millis()).unwrap_or_default();
        Self::with_clock(store, limits, Arc::new(clock))
    }

    pub(crate) fn with_clock(store: Arc<dyn StreamStore>, limits: Limits, clock: Clock) -> Self {
        Self {
            store,
            limits,
            clock,
            state: Mutex::default(),
            changed: OnceLock::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Reads what the store has, unless that was done. Every use does so; a server does it before it takes connections.
    pub(crate) fn read(&self) -> Result<(), StoreError> {
        self.lock_read().map(drop)
    }

    /// Writes a schedule down, in the place of one of the same id.
    ///
    /// It has its place when this returns, and is kept when [`Putting::kept`] does.
    pub(crate) fn put(self: &Arc<Self>, item: Item) -> Result<Putting, ScheduleError> {
        let item = Arc::new(item);
        let mut state = self.lock_read().map_err(ScheduleError::Store)?;
        let State { book, log, .. } = &mut *state;
        book.put(Arc::clone(&item), &self.limits).map_err(|error| match error {
            NotPut::Full(full) => ScheduleError::Full(full),
            NotPut::Busy => ScheduleError::Busy,
        })?;
        let others = |id: &str| book.entry(id);
        match log.put(&*self.store, &item.id, &item.entry, others) {
            Ok(change) => Ok(Putting(Settling::new(self, change, item, What::Put))),
            Err(error) => {
                book.settle_put(&item, false);
                Err(ScheduleError::Store(error))
            }
        }
    }

    /// Cancels a schedule. Doing it again does no harm.
    pub(crate) async fn cancel(self: &Arc<Self>, id: &str) -> Result<CancelOutcome, ScheduleError> {
        let settling = {
            let mut state = self.lock_read().map_err(ScheduleError::Store)?;
            let State { book, log, .. } = &mut *state;
            match book.cancel(id) {
                Cancelling::Can => {}
                Cancelling::TooLate | Cancelling::Gone(Some(End::Done)) => return Ok(CancelOutcome::TooLate),
                Cancelling::Gone(Some(End::Cancelled)) => return Ok(CancelOutcome::Cancelled),
                Cancelling::Gone(None) => return Ok(CancelOutcome::Unknown),
                Cancelling::Busy => return Err(ScheduleError::Busy),
            }
            let Some(item) = book.find(id).cloned() else { return Ok(CancelOutcome::Unknown) };
            let others = |id: &str| book.entry(id);
            match log.end(&*self.store, &item.id, others) {
                Ok(change) => Settling::new(self, change, item, What::Cancel),
                Err(error) => {
                    book.settle_cancel(&item, false);
                    return Err(ScheduleError::Store(error));
                }
            }
        };
        settling.settled().await.map(|_| CancelOutcome::Cancelled).map_err(ScheduleError::Commit)
    }

    /// Up to `limit` schedules of a channel (all if it is empty), each with its place in the order, the earliest first, after a
    /// place; and how many there are.
    pub(crate) fn list(
        &self,
        channel: &str,
        after: Option<(u64, &str)>,
        limit: usize,
    ) -> Result<(Vec<Placed>, usize), ScheduleError> {
        let state = self.lock_read().map_err(ScheduleError::Store)?;
        Ok((state.book.list(channel, after, limit), state.book.count(channel)))
    }

    /// What there is.
    pub(crate) fn pending(&self) -> Pending {
        let now_ms = self.now_ms();
        let state = self.lock();
        Pending {
            schedules: state.book.len(),
            bytes: state.book.bytes(),
            late_ms: state.book.next_due().map_or(0, |due| now_ms.saturating_sub(due)),
        }
    }

    /// Takes notice of whether a change is kept.
    fn settle(&self, change: &Change, item: &Item, what: What, is_kept: bool) {
        let mut state = self.lock();
        let State { book, log, .. } = &mut *state;
        log.settle(&change.id, change.before, change.at, is_kept);
        match what {
            What::Put => book.settle_put(item, is_kept),
            What::Cancel => book.settle_cancel(item, is_kept),
        }
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        if let Some(changed) = self.changed.get() {
            changed.notify_one();
        }
    }

    fn lock_read(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.lock();
        if !state.is_read {
            let read = state.log.read(&*self.store)?;
            let mut unreadable = read.unreadable;
            for entry in read.entries.into_values() {
                match Item::new(entry) {
                    Ok(item) => state.book.restore(Arc::new(item)),
                    Err(entry) => {
                        unreadable += 1;
                        state.book.keep_unreadable(*entry);
                    }
                }
            }
            // It may have been put back while nothing ran.
            state.book.clock_went_back(self.now_ms());
            if unreadable > 0 {
                tracing::error!(unreadable, "schedules in the store cannot be read; they are not published");
            }
            state.is_read = true;
        }
        Ok(state)
    }

    /// Nothing under the lock leaves it half changed, so a poisoned one is used as it is.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Scheduled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduled").field("pending", &self.pending()).finish_non_exhaustive()
    }
}

/// A schedule that has its place and is not known to be kept.
#[must_use = "until it is kept, it is not published"]
#[derive(Debug)]
pub(crate) struct Putting(Settling);

impl Putting {
    /// Waits until it is kept.
    ///
    /// If the future is dropped, it is kept or not, as the store will have it; the task finds out.
    pub(crate) async fn kept(self) -> Result<Arc<Item>, ScheduleError> {
        self.0.settled().await.map_err(ScheduleError::Commit)
    }
}

/// A change that is settled whatever becomes of whoever asked for it (invariant 5).
#[derive(Debug)]
struct Settling {
    scheduled: Arc<Scheduled>,
    change: Option<Change>,
    item: Arc<Item>,
    what: What,
}

impl Settling {
    fn new(scheduled: &Arc<Scheduled>, change: Change, item: Arc<Item>, what: What) -> Self {
        Self { scheduled: Arc::clone(scheduled), change: Some(change), item, what }
    }

    async fn settled(mut self) -> Result<Arc<Item>, CommitError> {
        let Some(change) = &mut self.change else { return Ok(Arc::clone(&self.item)) };
        let kept = (&mut change.receipt).await;
        if let Some(change) = self.change.take() {
            self.scheduled.settle(&change, &self.item, self.what, kept.is_ok());
        }
        kept.map(|_| Arc::clone(&self.item))
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let Some(change) = self.change.take() else { return };
        let mut state = self.scheduled.lock();
        state.orphans.push((change, Arc::clone(&self.item), self.what));
        drop(state);
        self.scheduled.wake();
    }
}

impl State {
    fn take_orphans(&mut self) -> Vec<(Change, Arc<Item>, What)> {
        mem::take(&mut self.orphans)
    }
}

/// Starts the task that publishes what is due, in the scope of the server; it ends soon after `stopping` has become true.
pub(crate) fn start(s: &Scope<Cancelled>, node: &Arc<Node>, stopping: watch::Receiver<bool>) -> Handle<()> {
    Task::start(s, node.scheduled(), Arc::clone(node), stopping)
}

fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(number as u64, Ordering::Relaxed);
}
