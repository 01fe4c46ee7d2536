//! What a detector on another thread can know of a task.

use super::{Kind, LENT, Record};
use crate::sync::LockExt;
use crate::sync::atomic::Ordering;
use crate::waker::{Bell, Words};

/// In `Record::leaves`, one strand or context of this task that is in the hands of another task.
const ONE_LENT: u32 = 1 << 16;

/// Whether a task with this `polls` has been polled, and is neither being polled nor gone.
fn is_between_polls(polls: u32) -> bool {
    polls != 0 && polls % 2 == 0
}

/// What a task shows of itself to a detector on another thread; see [`Record::signals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Twice the number of its polls, plus one while it is polled.
    pub(crate) polls: u32,
    /// How often it was woken by somebody unknown, or by a cancel.
    pub(crate) wakes: u32,
    /// `wakes` as its last poll began.
    pub(crate) seen: u32,
    /// Parked waits of ours.
    pub(crate) leaves: u32,
    /// Whether somebody unknown can wake it.
    pub(crate) foreign: bool,
}

impl Signals {
    /// Whether it is parked, and not about to be polled because somebody unknown, or a cancel, has woken it. What a wait of ours has
    /// been granted stands in the books of what it waits at.
    pub(crate) fn is_quiescent(&self) -> bool {
        is_between_polls(self.polls) && self.wakes == self.seen
    }
}

impl Record {
    /// What this task shows of itself. Taken twice and equal, with [`is_quiescent`](Signals::is_quiescent), nothing has happened
    /// in the task in between, and nothing but its `leaves` waits of ours, a cancel, or, if `foreign`, somebody unknown, can wake it.
    pub(crate) fn signals(&self) -> Signals {
        // Acquire: pairs with the Release in `poll_ends`: all that the polls up to here did is seen, clones and leaves.
        let polls = self.polls.load(Ordering::Acquire);
        let leaves = self.leaves.load(Ordering::Relaxed);
        let unknown = Words { wakes: 0, seen: 0, foreign: true };
        let is_task = matches!(self.kind, Kind::Task | Kind::Daemon);
        let words = if is_task && is_between_polls(polls) {
            let inside = self.inside.lock_unpoisoned();
            inside.bell.as_ref().map_or(unknown, Bell::words)
        } else {
            unknown
        };
        Signals {
            polls,
            wakes: words.wakes,
            seen: words.seen,
            leaves,
            foreign: words.foreign || leaves >= ONE_LENT,
        }
    }

    /// A wait of this task has parked.
    pub(crate) fn add_leaf(&self) {
        // Relaxed: in a poll, which `polls` publishes; elsewhere, when a future has moved, a lost moment costs a proof.
        self.leaves.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_leaf(&self) {
        self.leaves.fetch_sub(1, Ordering::Relaxed);
    }

    /// A strand or a context of this task is polled by another: this one cannot be judged by its own words.
    pub(crate) fn went_away(&self) {
        self.leaves.fetch_add(ONE_LENT, Ordering::Relaxed);
    }

    /// As `went_away` of its task, on behalf of this strand, until it ends.
    pub(crate) fn lend(&self) {
        if !self.has(LENT) {
            if let Some(task) = self.task() {
                task.went_away();
                let _inside = self.inside.lock_unpoisoned();
                self.change_has(LENT, 0);
            }
        }
    }

    pub(crate) fn came_back(&self) {
        self.leaves.fetch_sub(ONE_LENT, Ordering::Relaxed);
    }
}
