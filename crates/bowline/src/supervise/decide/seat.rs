//! One child's seat: whether it is wanted, what lives on it, and how that one leaves.

use tokio::time::Instant;

use super::super::spec::Restart;
use super::{How, MISSED_BEATS, Terms};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Up,
    Down,
    /// Down, and its seat is given up.
    Gone,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Leave {
    /// Whether it waits until those that were started after it are gone, and those before it wait for it.
    pub(super) in_order: bool,
    pub(super) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Due,
    Asked { abort_at: Option<Instant> },
    Aborted { stuck_at: Option<Instant> },
    Stuck,
}

#[derive(Debug)]
pub(super) struct Living {
    pub(super) since: Instant,
    pub(super) ready: bool,
    pub(super) ready_by: Option<Instant>,
    /// From when on beats are demanded, and when to look next.
    pub(super) beats_from: Instant,
    pub(super) look_at: Option<Instant>,
    pub(super) leave: Option<Leave>,
    /// Why it has to go, if that is a failure of its own.
    pub(super) trouble: Option<How>,
}

#[derive(Debug)]
pub(super) struct Seat {
    pub(super) key: u64,
    pub(super) terms: Terms,
    pub(super) want: Want,
    pub(super) living: Option<Living>,
    pub(super) incarnation: u64,
    /// In a back-off until then.
    pub(super) not_before: Option<Instant>,
    /// It is started in its turn: when those before it are ready.
    pub(super) in_turn: bool,
    /// Those after it wait no longer than that.
    pub(super) turn_ends: Option<Instant>,
    pub(super) failures_in_row: u32,
    pub(super) restarts: u64,
    pub(super) finished: bool,
    pub(super) since: Instant,
}

impl Terms {
    /// Whether a child that ended by itself like that is not started again.
    pub(super) fn is_done(&self, how: How) -> bool {
        match self.restart {
            Restart::Permanent => false,
            Restart::Transient => how == How::Returned,
            Restart::Temporary => true,
        }
    }
}

impl Seat {
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.want = if self.terms.restart == Restart::Temporary { Want::Gone } else { Want::Down };
        self.not_before = None;
        self.in_turn = false;
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.incarnation += 1;
        self.not_before = None;
        self.since = now;
        let within = self.terms.ready_within;
        let ready_by = within.and_then(|within| now.checked_add(within));
        if self.in_turn && self.turn_ends.is_none() {
            self.turn_ends = ready_by;
        }
        let first_look =
            self.terms.heartbeat.and_then(|every| now.checked_add(every.saturating_mul(MISSED_BEATS)));
        self.living = Some(Living {
            since: now,
            ready: false,
            ready_by,
            beats_from: now,
            look_at: first_look.filter(|_| within.is_none()), // with a limit it has that time to get ready
            leave: None,
            trouble: None,
        });
    }

    /// Another one failed, and this one is stopped and started with it.
    pub(super) fn go_with_others(&mut self, not_before: Option<Instant>) {
        if self.want != Want::Up {
            return;
        }
        let unasked = self.living.as_mut().filter(|living| living.leave.is_none());
        if let (Restart::Temporary, Some(living)) = (self.terms.restart, unasked) {
            living.leaves(true); // it goes with the others, and is not started again
            self.finish();
            return;
        }
        self.in_turn = !self.living.as_ref().is_some_and(Living::is_stuck);
        self.turn_ends = None;
        self.not_before = self.not_before.max(not_before);
        if let Some(living) = &mut self.living {
            living.leaves(true);
        }
    }
}

impl Living {
    /// It is asked to go, if it was not before.
    pub(super) fn leaves(&mut self, in_order: bool) {
        match &mut self.leave {
            None => self.leave = Some(Leave { in_order, step: Step::Due }),
            Some(leave) => leave.in_order |= in_order,
        }
    }

    pub(super) fn is_in_trouble(&mut self, how: How) {
        self.trouble = Some(how);
        self.leaves(false);
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.leave.is_some_and(|leave| leave.step == Step::Stuck)
    }
}
