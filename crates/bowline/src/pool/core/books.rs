//! What is counted, and who is told when the queue stays high.

use std::time::Duration;

use tokio::time::Instant;

use super::super::stats::PoolState;
use super::{After, Core, State, Terms};
use crate::sync::LockExt;

/// How long a queue has to be more than half full before that is worth an alert: a burst is what a queue is for.
const HIGH_FOR: Duration = Duration::from_secs(1);

/// What the pool has seen.
#[derive(Default)]
pub(super) struct Books {
    pub(super) done: Done,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) dropped: u64,
    pub(super) high_water: usize,
    pub(super) waits: u64,
    pub(super) waited: Duration,
    pub(super) in_place: usize,
}

/// How many jobs ended how.
#[derive(Clone, Copy, Default)]
pub(in crate::pool) struct Done {
    pub(in crate::pool) completed: u64,
    pub(in crate::pool) failed: u64,
    pub(in crate::pool) panicked: u64,
    pub(in crate::pool) timed_out: u64,
    pub(in crate::pool) cancelled: u64,
}

impl Done {
    pub(super) fn add(&mut self, more: Done) {
        self.completed += more.completed;
        self.failed += more.failed;
        self.panicked += more.panicked;
        self.timed_out += more.timed_out;
        self.cancelled += more.cancelled;
    }
}

pub(super) enum High {
    Raise(usize),
    Clear,
}

impl<J, R> State<J, R> {
    pub(super) fn look_at_height(&mut self, terms: &Terms<J>, now: Instant, after: &mut After<J, R>) {
        let jobs = self.waiting_jobs();
        if jobs > terms.max_jobs / 2 {
            match &mut self.high {
                None => self.high = Some((now, false)),
                Some((since, told @ false)) if now.saturating_duration_since(*since) >= HIGH_FOR => {
                    *told = true;
                    after.high = Some(High::Raise(jobs));
                }
                Some(_) => {}
            }
            return;
        }
        // Over at a quarter, not at the half: a queue that goes up and down there would be told again and again.
        match self.high {
            Some((_, false)) => self.high = None,
            Some((_, true)) if jobs <= terms.max_jobs / 4 => {
                self.high = None;
                after.high = Some(High::Clear);
            }
            _ => {}
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Core<J, R> {
    /// A job runs in place of one that is at work.
    pub(in crate::pool) fn begin_in_place(&self) -> bool {
        let mut state = self.state.lock_unpoisoned();
        let open = state.phase != PoolState::Ended;
        state.books.in_place += usize::from(open);
        state.books.accepted += u64::from(open);
        open
    }

    pub(in crate::pool) fn end_in_place(&self, done: Done) {
        let mut state = self.state.lock_unpoisoned();
        state.books.in_place -= 1;
        state.books.done.add(done);
    }
}
