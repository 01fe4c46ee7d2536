//! What a pool says of itself.

use std::panic::Location;

use serde::Serialize;

use super::core::Core;
use crate::books::Books;
use crate::queue::Overflow;
use crate::sync::Arc;

/// What a pool was and is, at one moment.
///
/// `accepted = completed + failed + panicked + timed_out + cancelled + dropped + queued + running`, at any moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// Identity in the process.
    pub id: u64,
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of the start.
    pub place: String,
    /// What it does with new jobs.
    pub state: PoolState,
    /// Workers there are.
    pub workers: usize,
    /// Workers that wait for a job.
    pub idle: usize,
    /// How often the number of workers was changed; 0 in a pool of a fixed size.
    pub resized: u64,
    /// Jobs that wait, also those that a worker has taken along with the one it is at.
    pub queued: usize,
    /// Bytes of the jobs that wait, 0 if the pool does not count them.
    pub queued_bytes: usize,
    /// The bound in jobs.
    pub max_jobs: usize,
    /// The bound in bytes, if there is one.
    pub max_bytes: Option<usize>,
    /// The most jobs that ever waited.
    pub high_water: usize,
    /// How long the job at the front has waited, in milliseconds, up to an eighth of the queue too much; 0 if none waits.
    pub oldest_ms: u64,
    /// The policy for "full".
    pub overflow: Overflow,
    /// Jobs that are being worked on, also those that run in place of a job.
    pub running: usize,
    /// Jobs accepted so far.
    pub accepted: u64,
    /// Jobs refused because the queue was full, or stayed full for too long; they went back to who submitted them.
    pub refused: u64,
    /// Accepted jobs dropped by `DropOldest` and `DropNewest`.
    pub dropped: u64,
    /// Jobs that came to their end.
    pub completed: u64,
    /// Jobs that came to their end with an error, where errors are counted
    /// ([`Pool::start_fallible`](crate::Pool::start_fallible)).
    pub failed: u64,
    /// Jobs that panicked.
    pub panicked: u64,
    /// Jobs that took longer than they may.
    pub timed_out: u64,
    /// Jobs that were cancelled, begun or not: by their callers, or with the pool.
    pub cancelled: u64,
    /// Those who wait for room now.
    pub waiting: usize,
    /// How often somebody had to wait for room.
    pub waits: u64,
    /// How long all jobs so far waited for a worker together, in milliseconds; divide by the jobs that began.
    pub waited_ms: u64,
}

/// What a pool does with new jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PoolState {
    /// It takes them.
    Open,
    /// It refuses them, and finishes those it has.
    Draining,
    /// It refuses them; its workers are gone.
    Ended,
}

/// A pool, whatever its jobs are.
pub(super) trait Listed: Send + Sync {
    fn stats(&self) -> PoolStats;

    fn place(&self) -> &'static Location<'static>;
}

static POOLS: Books<dyn Listed> = Books::new();

pub(super) fn list<J: Send + 'static, R: Send + 'static>(core: &Arc<Core<J, R>>) {
    let listed: Arc<dyn Listed> = core.clone();
    POOLS.list(&listed);
}

/// Returns what every pool of this process was and is, in the order in which they were started.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// for pool in bowline::pools() {
///     println!("{}: {} of {} jobs wait", pool.name, pool.queued, pool.max_jobs);
/// }
/// # });
/// ```
#[must_use]
pub fn pools() -> Vec<PoolStats> {
    POOLS.all().iter().map(|pool| pool.stats()).collect()
}

/// The same, with the place of each as alerts have it.
pub(crate) fn placed_pools() -> Vec<(&'static Location<'static>, PoolStats)> {
    POOLS.all().iter().map(|pool| (pool.place(), pool.stats())).collect()
}
