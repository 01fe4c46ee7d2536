//! The test kit: what `#[bowline::test]` looks for, and tools to look closer.
//!
//! # What a test is asked
//!
//! [`#[bowline::test]`](macro@crate::test) runs an `async fn` on a runtime of its own and fails it
//!
//! 1. if it **leaves a task behind**: ours are named with the place of their spawn, bare tokio tasks are counted. A task that
//!    ends within a quarter of a second is late, not leaked. Tests that run side by side are told apart by their runtimes.
//! 2. if **a task panics and nobody is told**: a scope passes the panic of its task on, and a group shows it as a slot; a bare
//!    tokio task keeps it in a handle that may be gone, and a group that keeps no results counts it. (`allow_panics` if that
//!    is what the test is about.)
//! 3. if it **dropped the future of a scope** whose tasks lived (`allow_adoption` if it is meant to).
//! 4. if it **stands still**: no task can run, no timer is pending, no socket is waited for, no closure runs on a thread, and every
//!    thread of the process sleeps. Nothing can come any more, so it fails at once, with each task that stands still, where it
//!    waits, for what, and who could have ended that; a wait for something of another crate too. Whatever may still wake it
//!    keeps it from failing; so in a process with other tests this may take until those are over. (On Linux.)
//! 5. if it **does not end** within `timeout_secs` (60): it fails with the live tree, where a test without a limit would hang
//!    in silence. A test that is stuck in code that does not await cannot be stopped: then the whole process ends, and says so.
//!    The environment variable `BOWLINE_TIMEOUT_SECS` sets the limit for all tests, for a debugger or a slow machine.
//!
//! # Schedules by seed
//!
//! On one thread tasks run in tokio's order, which hides whatever another order would show. With the feature `test-util`,
//! `#[bowline::test(schedules = 100)]` runs the body a hundred times: first in that order, then with tasks giving turns away
//! as drawn from the seeds 1, 2, 3…: before a poll, and before an operation of ours that need not wait. A failure prints its
//! seed, and `BOWLINE_SEED=17 cargo test the_test` runs that schedule alone, the same to the last message. The seeds are
//! the same in every run, so a test does not fail by chance; `BOWLINE_SCHEDULES=100000` searches longer.
//!
//! The same seed is the same run as far as the program itself is the same: with a paused clock, without worker threads,
//! sockets and blocking closures, and without iterating over a `HashMap`. A test that draws data of its own starts from
//! [`seed`].
//!
//! # Capacity one
//!
//! `#[bowline::test(capacity_one)]` runs the body as it is, and once more with every bounded queue at a capacity of one item:
//! the smallest cycle of full queues that can stand still then does, in the first second of a test instead of in the first
//! month of a service. (Feature `test-util`.)
//!
//! # Cut at every await
//!
//! `cancel_everywhere` drops a fresh future at each of its await points in turn; `cancel_context_everywhere` cancels it
//! there instead; `poll_once` looks at one wait from outside. (Feature `test-util`.)

pub(crate) mod closed_world;
#[cfg(feature = "test-util")]
mod cut;
#[doc(hidden)]
pub mod harness;
pub(crate) mod trial;
mod watchdog;

use std::future::Future;

use self::harness::Options;

pub use crate::detect::deadlocks_now;

#[cfg(feature = "test-util")]
pub use self::cut::{cancel_context_everywhere, cancel_everywhere, poll_once};

/// Returns the seed of the schedule the current test runs under: 0 for tokio's own order, and where no test runs.
///
/// Data that a test draws from it is replayed with the schedule.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let first_port = 1 + bowline::testing::seed() % 1_000; // another one in every schedule
/// assert_eq!(first_port, 1);
/// # });
/// ```
#[must_use]
pub fn seed() -> u64 {
    trial::seed()
}

/// Runs the code of a doc example as a test would run it.
///
/// # Panics
///
/// As a test would.
#[doc(hidden)]
#[track_caller]
pub fn example<F: Future>(body: F) -> F::Output {
    harness::run(Options::new("example"), body)
}

/// Runs the code of a doc example with tokio's clock paused.
///
/// # Panics
///
/// As a test would.
#[doc(hidden)]
#[track_caller]
pub fn example_paused<F: Future>(body: F) -> F::Output {
    harness::run(Options { start_paused: true, ..Options::new("example") }, body)
}

/// Gives the turn away once.
pub(crate) async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
