//! What a pool of leases says of itself.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::error::place;
use super::rule::Rules;
use crate::books::Books;
use crate::lock::core::Core;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The pools that live.
static POOLS: Books<dyn Listed> = Books::new();

/// What the list knows of a pool, whatever it holds.
pub(super) trait Listed: Send + Sync {
    fn stats(&self) -> LeaseStats;
}

pub(super) fn list<T: Send + 'static>(pool: &Arc<Core<Rules<T>>>) {
    let listed: Arc<dyn Listed> = pool.clone();
    POOLS.list(&listed);
}

/// Returns the books of every pool of leases that lives in this process, each at its own moment.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// for pool in bowline::lease_pools() {
///     println!("{}: {} of {} leased, {} wait", pool.name, pool.leased, pool.max, pool.waiting);
/// }
/// # });
/// ```
#[must_use]
pub fn lease_pools() -> Vec<LeaseStats> {
    POOLS.all().iter().map(|pool| pool.stats()).collect()
}

/// What a pool of leases was and is, at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LeaseStats {
    /// Identity in the process; the tree's waits name it.
    pub id: u64,
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// Resources that are kept even if nobody needs them.
    pub min: usize,
    /// Resources there are at most, those included that are being made or thrown away.
    pub max: usize,
    /// In nobody's hands.
    pub idle: usize,
    /// In somebody's hands.
    pub leased: usize,
    /// Being made.
    pub making: usize,
    /// Being checked or reset.
    pub tending: usize,
    /// On their way out.
    pub discarding: usize,
    /// Who waits for a lease.
    pub waiting: usize,
    /// Leases handed out so far.
    pub acquired: u64,
    /// How often somebody had to wait.
    pub waits: u64,
    /// How long all who waited and got a lease did so, in milliseconds.
    pub waited_total_ms: u64,
    /// The longest of those waits, in milliseconds.
    pub waited_max_ms: u64,
    /// Waits that ran out of time.
    pub timed_out: u64,
    /// Resources made so far.
    pub made: u64,
    /// Failures to make one.
    pub make_failures: u64,
    /// Why making failed the last time, if it fails.
    pub last_error: Option<String>,
    /// Resources thrown away so far.
    pub discarded: LeaseDiscards,
    /// Leases that were held for longer than the pool finds right.
    pub held_too_long: u64,
    /// Why it is closed, if it is.
    pub closed: Option<&'static str>,
    /// Who holds leases, the oldest first.
    pub holders: Vec<LeaseHolder>,
}

/// How many resources of a pool were thrown away, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeaseDiscards {
    /// Too old.
    pub age: u64,
    /// Idle for too long.
    pub idle: u64,
    /// Poisoned by the holder, or a check failed.
    pub broken: u64,
    /// Cut off in the middle of its use, or dropped in a cancelled context.
    pub cancelled: u64,
    /// The holder panicked.
    pub panicked: u64,
    /// The reset failed or took too long.
    pub reset_failed: u64,
    /// Taken out of the pool for good by [`Lease::into_inner`](crate::Lease::into_inner).
    pub taken: u64,
    /// The pool was closed.
    pub closed: u64,
}

/// Somebody who holds a lease.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LeaseHolder {
    /// The name of the task that took it, of the outermost scope in a foreign task; `None` outside of any.
    pub task: Option<&'static str>,
    /// The id under which views show the task.
    pub task_id: Option<u64>,
    /// `file:line` of the taking.
    pub place: String,
    /// Since when, in milliseconds.
    pub held_for_ms: u64,
}

/// The same, before it is written out.
#[derive(Clone, Copy)]
pub(super) struct Holder {
    pub(super) task: Option<&'static str>,
    pub(super) task_id: Option<u64>,
    pub(super) place: &'static Location<'static>,
    pub(super) held_for: Duration,
}

impl From<Holder> for LeaseHolder {
    fn from(holder: Holder) -> Self {
        Self {
            task: holder.task,
            task_id: holder.task_id,
            place: place(holder.place),
            held_for_ms: millis(holder.held_for),
        }
    }
}

/// Why a resource was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Age,
    Idle,
    Broken,
    Cancelled,
    Panicked,
    ResetFailed,
    Taken,
    Closed,
}

impl LeaseDiscards {
    pub(super) fn count(&mut self, why: Why) {
        *match why {
            Why::Age => &mut self.age,
            Why::Idle => &mut self.idle,
            Why::Broken => &mut self.broken,
            Why::Cancelled => &mut self.cancelled,
            Why::Panicked => &mut self.panicked,
            Why::ResetFailed => &mut self.reset_failed,
            Why::Taken => &mut self.taken,
            Why::Closed => &mut self.closed,
        } += 1;
    }
}

/// How long those waited who got a lease, in microseconds; noted without the pool's lock.
#[derive(Default)]
pub(super) struct Waits {
    total: AtomicU64,
    longest: AtomicU64,
}

impl Waits {
    pub(super) fn note(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        // Relaxed: statistics.
        self.total.fetch_add(micros, Ordering::Relaxed);
        self.longest.fetch_max(micros, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) acquired: u64,
    pub(super) waits: Arc<Waits>,
    pub(super) timed_out: u64,
    pub(super) made: u64,
    pub(super) make_failures: u64,
    pub(super) discarded: LeaseDiscards,
    pub(super) held_too_long: u64,
}

impl<T: Send + 'static> Listed for Core<Rules<T>> {
    fn stats(&self) -> LeaseStats {
        let (stats, error) = self.with(|state, _| {
            let rule = &state.rule;
            let counters = &rule.counters;
            let stats = LeaseStats {
                id: self.id,
                name: self.site.name,
                place: String::new(),
                min: rule.limits.min,
                max: rule.limits.max,
                idle: rule.idle(),
                leased: rule.leased,
                making: rule.making,
                tending: rule.tending,
                discarding: rule.discarding,
                waiting: state.line.waiting(),
                acquired: counters.acquired,
                waits: state.waits,
                waited_total_ms: counters.waits.total.load(Ordering::Relaxed) / 1_000,
                waited_max_ms: counters.waits.longest.load(Ordering::Relaxed) / 1_000,
                timed_out: counters.timed_out,
                made: counters.made,
                make_failures: counters.make_failures,
                last_error: None,
                discarded: counters.discarded,
                held_too_long: counters.held_too_long,
                closed: rule.closed,
                holders: rule.holders().into_iter().map(LeaseHolder::from).collect(),
            };
            (stats, rule.failing.as_ref().map(|failing| Arc::clone(&failing.error)))
        });
        // The error is written outside of the lock: that is somebody else's code.
        let last_error = error.map(|error| error.to_string());
        LeaseStats { place: place(self.site.place), last_error, ..stats }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
