//! What an incarnation of a child has of its supervisor: it can say that it is ready, and that it makes progress.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::decide;
use super::state::Inner;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The life of one incarnation of a child, from its start to its end.
///
/// It can be cloned and handed to tasks of the child. What is said by one that is kept beyond its incarnation changes
/// nothing.
#[derive(Clone)]
pub struct Life {
    pub(super) inner: Weak<Inner>,
    pub(super) key: u64,
    pub(super) incarnation: u64,
    pub(super) pulse: Arc<Pulse>,
}

impl Life {
    /// Returns which incarnation this is, counted from 1.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Says that the child is ready: those after it may start, and beats are expected from now on.
    ///
    /// Only a child with a [`ready_within`](super::Child::ready_within) has to say so. Others are ready when they begin to run; for
    /// those, and the second time, it is a beat.
    pub fn ready(&self) {
        self.beat();
        if let Some(inner) = self.inner.upgrade() {
            inner.change(|state, now| state.core.ready(self.key, self.incarnation, now));
        }
    }

    /// Says that the child makes progress. It costs a look at the clock and one atomic operation: call it once per turn of the
    /// loop.
    pub fn beat(&self) {
        if self.pulse.beat() {
            self.wakes();
        }
    }

    /// The driver has seen it idle and looks no more: from now on it has to.
    #[cold]
    fn wakes(&self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.change(|state, now| state.core.wakes(self.key, self.incarnation, now));
        }
    }

    /// Waits for something to do: while `wait` is pending no beat is expected, and when it is over that is one.
    ///
    /// So a child whose queue is empty for a week is not taken for hung, and one that got an item and then stands still is.
    /// Wrap only what ends when there is something to do, such as a `recv` of a queue. A read from a socket may be silent
    /// because the peer is gone without a word: put a [`timeout`](crate::timeout()) inside, or let the protocol's pings beat.
    ///
    /// A child that waits in several places at once does so by one `idle` around all of them.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `wait`, and beats are expected again.
    pub async fn idle<F: Future>(&self, wait: F) -> F::Output {
        struct Over<'a>(&'a Life);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.beat();
            }
        }
        self.pulse.rest();
        let _over = Over(self);
        wait.await
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

/// When an incarnation made progress last, as one word: milliseconds since its start, [`IDLE`] or [`SEEN_IDLE`].
///
/// A child that idles for long costs nothing: once it was seen so, nobody looks until it says that it goes on. All orderings
/// are relaxed: it is one word, and what follows from it is done under the supervisor's lock.
pub(super) struct Pulse {
    start: Instant,
    word: AtomicU64,
}

const IDLE: u64 = u64::MAX;
const SEEN_IDLE: u64 = u64::MAX - 1;

impl Pulse {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, word: AtomicU64::new(0) }
    }

    /// Returns whether it was seen idle before.
    fn beat(&self) -> bool {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(SEEN_IDLE - 1);
        self.word.swap(ms, Ordering::Relaxed) == SEEN_IDLE
    }

    /// What was seen stays seen: who goes on next has to say so.
    fn rest(&self) {
        let rested = |word| (word != SEEN_IDLE).then_some(IDLE);
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rested);
    }

    fn read(&self, word: u64) -> decide::Pulse {
        match word {
            IDLE | SEEN_IDLE => decide::Pulse::Idle,
            // Rounded down, which is at most a millisecond against the child.
            ms => decide::Pulse::Beat(self.start + Duration::from_millis(ms)),
        }
    }

    /// Looks at it; for people.
    pub(super) fn peek(&self) -> decide::Pulse {
        self.read(self.word.load(Ordering::Relaxed))
    }

    /// Looks at it, and leaves a mark if it is idle.
    pub(super) fn see(&self) -> decide::Pulse {
        let seen = self.word.compare_exchange(IDLE, SEEN_IDLE, Ordering::Relaxed, Ordering::Relaxed);
        self.read(seen.unwrap_or_else(|word| word))
    }
}
