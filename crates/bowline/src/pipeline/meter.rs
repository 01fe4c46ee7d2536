//! What a stage counts, and how busy it is: written by its workers, read by whoever looks.
//!
//! # Invariants
//!
//! 1. A slot is written by one worker only, so its counters are plain loads and stores.
//! 2. The clock is read when a worker begins or ends a wait, and for the rate at the latest every [`UNREAD`] records: a worker
//!    that never waits is busy without looking at the time.

use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::belt::BeltView;
use super::stats::StageStats;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, LockExt, Mutex};

/// Records that a worker may finish before it tells the rate, in records: the rate is late by as many at most.
const UNREAD: u64 = 32;

/// Seconds over which the rate is taken.
const WINDOW: u64 = 10;

/// What a worker does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Working = 0,
    WaitingForInput = 1,
    WaitingForOutput = 2,
    /// It has not begun, or has ended.
    Nothing = 3,
}

const DOINGS: usize = 3;
const DOING_BITS: u32 = 2;

/// The counters of one worker, on a line of the cache for itself.
#[repr(align(128))]
struct Slot {
    passed: AtomicU64,
    filtered: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    holds: AtomicBool,
    /// Records finished since the rate was told.
    unread: AtomicU64,
    /// Whether it has waited since then: the clock is cheap beside that.
    has_waited: AtomicBool,
    /// What it does, and since when: nanoseconds since the start, shifted.
    doing: AtomicU64,
    /// Nanoseconds spent before that.
    spent: [AtomicU64; DOINGS],
}

fn add(to: &AtomicU64, more: u64) {
    // Relaxed: a statistic, and written by one worker only (invariant 1).
    to.store(to.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

impl Slot {
    fn new() -> Self {
        Self {
            passed: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            holds: AtomicBool::new(false),
            unread: AtomicU64::new(0),
            has_waited: AtomicBool::new(false),
            doing: AtomicU64::new(Doing::Nothing as u64),
            spent: [const { 0 }; DOINGS].map(AtomicU64::new),
        }
    }

    fn begin(&self, doing: Doing, now: u64) {
        let before = self.doing.swap(now << DOING_BITS | doing as u64, Ordering::Relaxed);
        if let Some(spent) = self.spent.get((before & ((1 << DOING_BITS) - 1)) as usize) {
            add(spent, now.saturating_sub(before >> DOING_BITS));
        }
    }

    /// Nanoseconds spent with everything so far.
    fn spent(&self, now: u64) -> [u64; DOINGS] {
        let doing = self.doing.load(Ordering::Relaxed);
        let mut spent = [0; DOINGS];
        for (spent, counted) in spent.iter_mut().zip(&self.spent) {
            *spent = counted.load(Ordering::Relaxed);
        }
        if let Some(spent) = spent.get_mut((doing & ((1 << DOING_BITS) - 1)) as usize) {
            *spent += now.saturating_sub(doing >> DOING_BITS);
        }
        spent
    }
}

/// How many records were finished in each of the last seconds.
struct Rate(Mutex<[(u64, u64); WINDOW as usize]>);

impl Rate {
    fn note(&self, now: u64, records: u64) {
        let second = now / NANOS;
        let mut seconds = self.0.lock_unpoisoned();
        let at = &mut seconds[(second % WINDOW) as usize];
        if at.0 != second {
            *at = (second, 0);
        }
        at.1 += records;
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn per_second(&self, now: u64) -> f64 {
        let second = now / NANOS;
        let first = second.saturating_sub(WINDOW - 1);
        let seconds = self.0.lock_unpoisoned();
        let records: u64 =
            seconds.iter().filter(|(at, _)| (first..=second).contains(at)).map(|(_, n)| n).sum();
        // The last second is not over; the first may be that of the start.
        let nanos = now - first * NANOS;
        if nanos == 0 { 0.0 } else { records as f64 * NANOS as f64 / nanos as f64 }
    }
}

const NANOS: u64 = 1_000_000_000;

/// The books of one stage.
pub(super) struct StageBooks {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) ordered: bool,
    belt: Arc<dyn BeltView>,
    slots: Box<[Slot]>,
    rate: Rate,
    /// Records that were still on the belt when it was cleared.
    left: AtomicU64,
}

impl StageBooks {
    pub(super) fn new(
        name: &'static str,
        place: &'static Location<'static>,
        (workers, ordered): (usize, bool),
        belt: Arc<dyn BeltView>,
    ) -> Arc<Self> {
        let slots = (0..workers).map(|_| Slot::new()).collect();
        let rate = Rate(Mutex::new([(u64::MAX, 0); WINDOW as usize]));
        Arc::new(Self { name, place, ordered, belt, slots, rate, left: AtomicU64::new(0) })
    }

    pub(super) fn workers(&self) -> usize {
        self.slots.len()
    }

    /// What is on the belt is cancelled.
    pub(super) fn clear(&self) {
        self.belt.clear_all(&|left| _ = self.left.fetch_add(left, Ordering::Relaxed));
    }

    pub(super) fn stats(&self, started: Instant, now: Instant) -> StageStats {
        let nanos = nanos_since(started, now);
        let sum = |of: fn(&Slot) -> &AtomicU64| {
            self.slots.iter().map(|slot| of(slot).load(Ordering::Relaxed)).sum::<u64>()
        };
        let mut spent = [0; DOINGS];
        for slot in &self.slots {
            spent.iter_mut().zip(slot.spent(nanos)).for_each(|(sum, more)| *sum += more);
        }
        let depth = self.belt.depth();
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = |doing: Doing| match spent.iter().sum::<u64>() {
            0 => 0.0,
            all => spent[doing as usize] as f64 / all as f64,
        };
        StageStats {
            name: self.name,
            place: format!("{}:{}", self.place.file(), self.place.line()),
            workers: self.slots.len(),
            ordered: self.ordered,
            received: depth.put,
            passed: sum(|slot| &slot.passed),
            filtered: sum(|slot| &slot.filtered),
            failed: sum(|slot| &slot.failed),
            cancelled: sum(|slot| &slot.cancelled) + self.left.load(Ordering::Relaxed) + depth.refused,
            in_flight: self.slots.iter().filter(|slot| slot.holds.load(Ordering::Relaxed)).count(),
            depth_items: depth.items,
            depth_bytes: depth.bytes,
            high_water_items: depth.high_water,
            max_items: self.belt.max_items(),
            per_second: self.rate.per_second(nanos),
            busy_share: share(Doing::Working),
            input_wait_share: share(Doing::WaitingForInput),
            output_wait_share: share(Doing::WaitingForOutput),
        }
    }
}

fn nanos_since(started: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(started).as_nanos()).unwrap_or(u64::MAX)
}

/// How long a rate of at least one second looks back.
pub(super) const RATE_WINDOW: Duration = Duration::from_secs(WINDOW);

/// The slot of one worker, while that lives.
pub(super) struct Meter<'a> {
    books: &'a StageBooks,
    slot: &'a Slot,
    started: Instant,
}

impl<'a> Meter<'a> {
    pub(super) fn start(books: &'a StageBooks, at: usize, started: Instant) -> Self {
        let meter = Self { books, slot: &books.slots[at], started };
        meter.begin(Doing::Working);
        meter
    }

    fn begin(&self, doing: Doing) -> u64 {
        let now = nanos_since(self.started, Instant::now());
        self.slot.begin(doing, now);
        now
    }

    /// Waits with `doing` written on the door, if it has to wait.
    pub(super) async fn during<F: Future>(&self, doing: Doing, wait: F) -> F::Output {
        let mut wait = pin!(wait);
        let mut waits = false;
        std::future::poll_fn(|cx| {
            let polled = wait.as_mut().poll(cx);
            if polled.is_pending() != waits {
                waits = polled.is_pending();
                let now = self.begin(if waits { doing } else { Doing::Working });
                self.read_rate(now);
            }
            polled
        })
        .await
    }

    /// Notes whether work had to wait for something, and calls `waits` before the turn is given away.
    pub(super) async fn noting_waits<F: Future>(&self, work: F, mut waits: impl FnMut()) -> F::Output {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            if polled.is_pending() {
                self.slot.has_waited.store(true, Ordering::Relaxed);
                waits();
            }
            polled
        })
        .await
    }

    fn read_rate(&self, now: u64) {
        let unread = self.slot.unread.load(Ordering::Relaxed);
        if unread > 0 {
            self.books.rate.note(now, unread);
            self.slot.unread.store(0, Ordering::Relaxed);
        }
        self.slot.has_waited.store(false, Ordering::Relaxed);
    }

    /// Records were dropped before they were worked on.
    pub(super) fn cancels(&self, records: u64) {
        add(&self.slot.cancelled, records);
    }

    /// A record was taken.
    pub(super) fn takes(&self) -> Hands<'_> {
        self.slot.holds.store(true, Ordering::Relaxed);
        Hands { meter: self, settled: false }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        let now = self.begin(Doing::Nothing);
        self.read_rate(now);
    }
}

/// A record in a worker's hands. Dropped before it is settled, it is cancelled.
pub(super) struct Hands<'a> {
    meter: &'a Meter<'a>,
    settled: bool,
}

impl Hands<'_> {
    fn settle(&mut self, counter: &AtomicU64) {
        add(counter, 1);
        self.settled = true;
        let slot = self.meter.slot;
        let unread = slot.unread.load(Ordering::Relaxed) + 1;
        slot.unread.store(unread, Ordering::Relaxed);
        if unread >= UNREAD || slot.has_waited.load(Ordering::Relaxed) {
            self.meter.read_rate(nanos_since(self.meter.started, Instant::now()));
        }
    }

    pub(super) fn passed(&mut self) {
        self.settle(&self.meter.slot.passed);
    }

    pub(super) fn filtered(&mut self) {
        self.settle(&self.meter.slot.filtered);
    }

    pub(super) fn failed(&mut self) {
        self.settle(&self.meter.slot.failed);
    }
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        self.meter.slot.holds.store(false, Ordering::Relaxed);
        if !self.settled {
            add(&self.meter.slot.cancelled, 1);
        }
    }
}
