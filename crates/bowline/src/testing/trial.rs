//! What a test asks of one run of its body: a schedule by seed, queues of one place, and the panics nobody was told of.
//!
//! The root of the run owns its [`Trial`]; the rest of the crate asks it through the free functions, which say "as always"
//! wherever no test runs.
//!
//! # Schedules
//!
//! On one thread tokio runs tasks in an order that follows from the program alone. A seed other than 0 disturbs it: now and
//! then a task gives its turn away, at its poll or before an operation of ours that would not have waited. Which ones do is
//! drawn from a generator that starts from the seed, so that the same seed gives the same run.
//!
//! # Invariants
//!
//! 1. A turn given away is one wake-up and one poll more, and nothing else: what a program may not rely on changes, what it
//!    may rely on does not.
//! 2. Every draw belongs to one run: tests that run side by side do not disturb each other's schedules.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::node::Node;
use crate::panic::{Panic, PanicClass};
use crate::root::{self, RootState};
use crate::sync::LockExt;

/// How many runs with a seed there are now in the process; without one a poll pays a single load.
static DISTURBED: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Trial {
    seed: u64,
    capacity_one: bool,
    /// State of the generator (SplitMix64): a counter in steps of [`STEP`], so one atomic add per draw.
    state: AtomicU64,
    /// A turn is given away if the top 3 bits of a draw are below this.
    below: u64,
    /// Panics of bare tokio tasks, and of groups that keep no results.
    unheard: Mutex<Vec<String>>,
}

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Trial {
    pub(crate) fn new(seed: u64, capacity_one: bool) -> Self {
        if seed != 0 {
            DISTURBED.fetch_add(1, Ordering::Relaxed);
        }
        // Some bugs need one odd turn among many, some need many: a half, a quarter or an eighth of the turns, by seed.
        let below = 4 >> (seed % 3);
        Self { seed, capacity_one, state: AtomicU64::new(seed), below, unheard: Mutex::default() }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Panics so far that no value and no scope passes on, each with its place.
    pub(crate) fn unheard(&self) -> Vec<String> {
        self.unheard.lock_unpoisoned().clone()
    }

    fn draw(&self) -> u64 {
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn gives_turn_away(&self) -> bool {
        self.seed != 0 && self.draw() >> 61 < self.below
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.seed != 0 {
            DISTURBED.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether a task below `node` is to give the turn away that it was just given.
#[inline]
pub(crate) fn gives_turn_away(node: &Node) -> bool {
    // Relaxed: whoever runs under a seed was spawned after it was set.
    DISTURBED.load(Ordering::Relaxed) > 0 && is_drawn(node.root.as_ref())
}

#[cold]
fn is_drawn(root: Option<&Arc<RootState>>) -> bool {
    root.and_then(|root| root.trial()).is_some_and(Trial::gives_turn_away)
}

/// A point at which a task may be interrupted by others although it need not wait. Nothing outside of a seeded run.
#[cfg(feature = "test-util")]
pub(crate) async fn turn() {
    if DISTURBED.load(Ordering::Relaxed) > 0 && is_drawn(root::here().as_ref()) {
        super::yield_once().await;
    }
}

/// A point at which a task may be interrupted by others, in builds for tests.
#[cfg(not(feature = "test-util"))]
pub(crate) async fn turn() {}

/// As [`turn`], inside of a poll that has not taken a place in line yet. Pending is already woken.
#[inline]
pub(crate) fn poll_turn(cx: &Context<'_>) -> Poll<()> {
    let interrupted = cfg!(feature = "test-util")
        && DISTURBED.load(Ordering::Relaxed) > 0
        && is_drawn(root::here().as_ref());
    if !interrupted {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// The bound a queue gets that asked for `items`.
pub(crate) fn capacity(items: usize) -> usize {
    let one = root::here().as_ref().and_then(|root| root.trial()).is_some_and(|trial| trial.capacity_one);
    if one { 1 } else { items }
}

/// The seed of the run that is going on here, 0 if there is none.
pub(crate) fn seed() -> u64 {
    root::here().as_ref().and_then(|root| root.trial()).map_or(0, Trial::seed)
}

/// Whether a test runs here.
pub(crate) fn is_running() -> bool {
    root::here().is_some_and(|root| root.trial().is_some())
}

/// A number drawn by the seed of the run that is going on here.
pub(crate) fn seeded_draw() -> Option<u64> {
    // In the seed 0 too: a run without a schedule is to be the same each time.
    Some(root::here()?.trial()?.draw())
}

/// Notes a panic of a task that is not ours, in a test: its handle may be gone, and then nobody hears of it.
pub(crate) fn note_foreign_panic(info: &PanicHookInfo<'_>) {
    if tokio::task::try_id().is_none() {
        return;
    }
    let root = root::of_runtime().and_then(|record| record.node.root.clone());
    if let Some(trial) = root.as_ref().and_then(|root| root.trial()) {
        let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
        let message = crate::panic::message_of(info.payload());
        trial.unheard.lock_unpoisoned().push(format!("a bare tokio task panicked at {place}: {message}"));
    }
}

/// Notes the panic of a task whose group keeps no results: its owner sees a count. One that was expected is no news.
pub(crate) fn note_unkept_panic(node: &Node, panic: &Panic) {
    if panic.class() == PanicClass::Expected {
        return;
    }
    if let Some(trial) = node.root.as_ref().and_then(|root| root.trial()) {
        trial.unheard.lock_unpoisoned().push(panic.to_string());
    }
}
