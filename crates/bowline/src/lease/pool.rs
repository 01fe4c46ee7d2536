//! The handle of a started pool.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::acquire::Acquire;
use super::act;
use super::error::{LeaseError, StillLeased, named};
use super::guard::Lease;
use super::rule::{LEASE, Rules};
use super::stats::{self, LeaseStats, Listed, Waits};
use crate::carry::Cx;
use crate::lock::core::Core;
use crate::lock::{self, FreeCount, Latch};
use crate::resource::{Resource, ResourceInfo, Who};

/// A running pool of leases; made by [`Leases::start`](super::Leases::start). It can be kept and sent anywhere, and cloned; the
/// pool closes when the last one is dropped.
pub struct LeasePool<T: Send + 'static> {
    front: Arc<Front<T>>,
}

/// What the handles share; leases and the keeper do not.
pub(super) struct Front<T: Send + 'static> {
    pub(super) core: Arc<Core<Rules<T>>>,
    /// Opens when the keeper has gone.
    over: Latch,
    pub(super) acquire_within: Option<Duration>,
    pub(super) discards_dropped: bool,
    pub(super) waits: Arc<Waits>,
}

impl<T: Send + 'static> LeasePool<T> {
    pub(super) fn new(
        core: &Arc<Core<Rules<T>>>,
        acquire_within: Option<Duration>,
        discards_dropped: bool,
    ) -> (Self, FreeCount) {
        let cx = Cx::here();
        let (count, over) = lock::open_latch(&cx, core.site.name, core.site.place);
        stats::list(core);
        let waits = core.with(|state, _| Arc::clone(&state.rule.counters.waits));
        let front = Front { core: Arc::clone(core), over, acquire_within, discards_dropped, waits };
        (Self { front: Arc::new(front) }, count.free())
    }

    /// Waits for a lease: first come first served, for at most the pool's
    /// [`acquire_within`](super::Leases::acquire_within), or until the deadline of the context.
    ///
    /// What is idle is handed out at once, the one used last first. Otherwise whatever comes first is: one that comes back, or
    /// a new one.
    ///
    /// # Cancel safety
    ///
    /// The place in line is taken at the first poll. If the future is dropped, the place is given up, and what was granted
    /// to it goes to the next; what is being made for it is finished, and goes to the next or is kept.
    ///
    /// # Errors
    ///
    /// [`LeaseError`]. When the time is up it says why there was none, and names those who hold all of them.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<Lease<T>, LeaseError>> + use<'_, T> {
        Acquire::new(&self.front, Location::caller())
    }

    /// Takes a lease if one is idle, in order, and nobody waits. Otherwise, and if the pool is closed, returns `None`.
    #[must_use]
    #[track_caller]
    pub fn try_acquire(&self) -> Option<Lease<T>> {
        let core = &self.front.core;
        match core.try_enter(LEASE, Who::here(Location::caller(), false), 0)? {
            Ok((key, item)) => Some(Lease::new(core, key, item, self.front.discards_dropped)),
            Err(_) => None,
        }
    }

    /// Closes the pool, and waits until everything in it has been discarded, leases included when they come back; or until the
    /// context is cancelled or its deadline has come.
    ///
    /// Nobody gets a lease from here on, and who waits is told. Leases that are out stay valid.
    ///
    /// # Cancel safety
    ///
    /// The pool is closed at the call. If the future is dropped, only the wait is over.
    ///
    /// # Errors
    ///
    /// [`StillLeased`] when the context ended the wait: it names who holds leases. They are discarded when they come back.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # bowline::testing::example_paused(async {
    /// # bowline::scope("service", async |s| {
    /// # let db = bowline::Leases::new("db", 4, async || Ok::<_, std::io::Error>(0)).start(s);
    /// let _forgotten = db.acquire().await?;
    /// let ended = bowline::timeout(Duration::from_secs(3), db.close()).await?;
    /// println!("{}", ended.unwrap_err()); // names this task, and the line above
    /// # Ok::<_, bowline::Cancelled>(())
    /// # }).await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn close(&self) -> impl Future<Output = Result<(), StillLeased>> + use<'_, T> {
        let core = &self.front.core;
        shut(core, "it was closed");
        let over = self.front.over.wait();
        async move {
            over.await.map_err(|cancelled| {
                let (holders, leased) = core.with(|state, _| (state.rule.holders(), state.rule.leased));
                StillLeased { pool: core.site.name, leased, holders: named(holders), cancelled }
            })
        }
    }

    /// Returns the pool's books.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        self.front.core.stats()
    }

    /// Returns the pool as other primitives show themselves: who waits, and who holds.
    #[must_use]
    pub fn resource(&self) -> ResourceInfo {
        self.front.core.facts().into()
    }
}

fn shut<T: Send + 'static>(core: &Core<Rules<T>>, reason: &'static str) {
    act(core, |state, wakes| state.rule.close(&mut state.line, reason, wakes));
}

impl<T: Send + 'static> Drop for Front<T> {
    fn drop(&mut self) {
        shut(&self.core, "its last handle is gone");
    }
}

impl<T: Send + 'static> Clone for LeasePool<T> {
    fn clone(&self) -> Self {
        Self { front: Arc::clone(&self.front) }
    }
}

impl<T: Send + 'static> fmt::Debug for LeasePool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasePool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
