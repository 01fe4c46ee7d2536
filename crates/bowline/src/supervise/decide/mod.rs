//! What a supervisor does about what happens to its children, as a state machine without tasks, clocks and user code.
//!
//! Whoever drives it tells it what happened and when, and does what it says in [`Action`]s. So every rule is tested by itself,
//! against a model, in no time.
//!
//! # Invariants
//!
//! 1. A seat has at most one living incarnation: [`Action::Start`] comes only for a seat whose `living` is empty, and that is
//!    emptied only by [`Core::ended`], which is told when the incarnation is gone, destructors and all.
//! 2. What is told of another incarnation than the living one changes nothing.
//! 3. A seat that is not wanted is not started, whatever back-off was pending.
//! 4. No rule waits for a child without a limit: who does not go is aborted, then reported as stuck and stepped over.
//! 5. Restarts after failures, all seats together, are at most `at_most` in any window; one more is the end.

mod seat;
#[cfg(test)]
mod tests;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use self::seat::{Leave, Living, Seat, Step, Want};
use self::words::ABORT_PATIENCE;
pub(super) use self::words::{Action, How, Look, MISSED_BEATS, News, Pulse, Rules, Terms};
use super::report::ChildState;
use super::spec::Strategy;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    Ending,
    GivingUp,
    Over,
}

pub(super) struct Core {
    rules: Rules,
    /// In the order of their start.
    seats: Vec<Seat>,
    next_key: u64,
    /// The restarts of the last window, oldest first.
    recent: VecDeque<Instant>,
    restarts: u64,
    closing: Closing,
    actions: VecDeque<Action>,
}

impl Core {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            seats: Vec::new(),
            next_key: 0,
            recent: VecDeque::new(),
            restarts: 0,
            closing: Closing::No,
            actions: VecDeque::new(),
        }
    }

    /// Takes one more child, to be started after those there are (`in_turn`) or at once.
    pub(super) fn add(&mut self, terms: Terms, in_turn: bool, now: Instant) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.seats.push(Seat {
            key,
            terms,
            want: Want::Up,
            living: None,
            incarnation: 0,
            not_before: None,
            in_turn,
            turn_ends: None,
            failures_in_row: 0,
            restarts: 0,
            finished: false,
            since: now,
        });
        key
    }

    // ---- what happens

    pub(super) fn ready(&mut self, key: u64, incarnation: u64, now: Instant) {
        let Some(seat) = self.seat_of(key, incarnation) else { return };
        let Some(living) = seat.living.as_mut().filter(|living| !living.ready) else { return };
        living.ready = true;
        living.ready_by = None;
        living.beats_from = now;
        living.look_at =
            seat.terms.heartbeat.and_then(|every| now.checked_add(every.saturating_mul(MISSED_BEATS)));
        seat.in_turn = false;
        seat.since = now;
        self.settle(now);
    }

    /// It was seen idle, and goes on.
    pub(super) fn wakes(&mut self, key: u64, incarnation: u64, now: Instant) {
        let Some(seat) = self.seat_of(key, incarnation) else { return };
        let every = seat.terms.heartbeat;
        let Some(living) = &mut seat.living else { return };
        if living.ready && living.look_at.is_none() {
            living.look_at = every.and_then(|every| now.checked_add(every.saturating_mul(MISSED_BEATS)));
        }
    }

    /// The incarnation is gone, destructors and all.
    pub(super) fn ended(&mut self, key: u64, incarnation: u64, how: How, now: Instant) {
        let is_open = self.closing == Closing::No;
        let Some(seat) = self.seat_of(key, incarnation) else { return };
        let Some(living) = seat.living.take() else { return };
        seat.since = now;
        let how = living.trouble.unwrap_or(how);
        if seat.want == Want::Up && is_open {
            match living.leave.filter(|_| living.trouble.is_none()) {
                None => self.fell(key, how, now.saturating_duration_since(living.since), now),
                // Before its turn to be asked came: it was done, or else it is started with the others.
                Some(Leave { step: Step::Due, .. }) if seat.terms.is_done(how) => seat.finish(),
                Some(_) => {}
            }
        }
        self.settle(now);
    }

    /// A wanted child ended by itself.
    fn fell(&mut self, key: u64, how: How, ran_for: Duration, now: Instant) {
        let stable_after = self.rules.stable_after;
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.key == key) else { return };
        if seat.terms.is_done(how) {
            seat.finish();
            if how != How::Returned {
                self.tell(key, News::LeftAlone { how });
            }
            return;
        }
        if ran_for >= stable_after {
            seat.failures_in_row = 0;
        }
        seat.failures_in_row = seat.failures_in_row.saturating_add(1);
        let failures = seat.failures_in_row;
        self.forget_old_restarts(now);
        if self.recent.len() >= self.rules.restarts.at_most as usize {
            self.tell(key, News::GaveUp { how });
            self.close(Closing::GivingUp);
            return;
        }
        self.recent.push_back(now);
        self.restarts += 1;
        let longest = self.rules.backoff.map_or(Duration::ZERO, |backoff| backoff.longest_after(failures));
        let after = (self.rules.draw)(longest);
        let not_before =
            Some(after).filter(|after| !after.is_zero()).and_then(|after| now.checked_add(after));
        let (mut is_after, strategy) = (false, self.rules.strategy);
        for seat in &mut self.seats {
            if seat.key == key {
                is_after = true;
                seat.restarts += 1;
                seat.not_before = not_before;
                seat.in_turn = strategy != Strategy::OneForOne;
                seat.turn_ends = None;
            } else if strategy == Strategy::OneForAll || strategy == Strategy::RestForOne && is_after {
                seat.go_with_others(not_before);
            }
        }
        self.tell(key, News::Restarts { how, after });
    }

    /// Looks at the clock: who is late, who has recovered, whose turn has come.
    pub(super) fn tick(&mut self, now: Instant, pulse: impl Fn(u64) -> Pulse) {
        let mut news = Vec::new();
        for seat in &mut self.seats {
            let Some(living) = seat.living.as_mut().filter(|living| living.leave.is_none()) else { continue };
            if living.ready_by.is_some_and(|by| now >= by) {
                living.is_in_trouble(How::NotReady);
                news.push((seat.key, News::NotReady));
                continue;
            }
            if let (Some(every), Some(look_at)) = (seat.terms.heartbeat, living.look_at) {
                if now >= look_at {
                    living.look_at = match pulse(seat.key) {
                        Pulse::Idle => None, // until it wakes
                        Pulse::Beat(at) => {
                            at.max(living.beats_from).checked_add(every.saturating_mul(MISSED_BEATS))
                        }
                    };
                    if living.look_at.is_some_and(|due| now >= due) {
                        living.is_in_trouble(How::Hung);
                        news.push((seat.key, News::Hung));
                        continue;
                    }
                }
            }
            let stable_at = living.since.checked_add(self.rules.stable_after);
            if seat.failures_in_row > 0 && stable_at.is_some_and(|at| now >= at) {
                seat.failures_in_row = 0;
                news.push((seat.key, News::Stable));
            }
        }
        for (key, news) in news {
            self.tell(key, news);
        }
        self.settle(now);
    }

    // ---- what is asked for

    /// Stops a child for good, or until it is asked to start again.
    pub(super) fn stop(&mut self, key: u64, now: Instant) {
        self.want(key, Want::Down, now);
    }

    /// Stops a child and gives its seat up.
    pub(super) fn remove(&mut self, key: u64, now: Instant) {
        self.want(key, Want::Gone, now);
    }

    fn want(&mut self, key: u64, want: Want, now: Instant) {
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.key == key) else { return };
        if seat.want != Want::Gone {
            seat.want = want;
        }
        seat.not_before = None; // invariant 3
        seat.in_turn = false;
        if let Some(living) = &mut seat.living {
            living.leaves(false);
        } else {
            seat.since = now;
        }
        self.settle(now);
    }

    /// Replaces the living incarnation by a fresh one, or starts one at once if there is none.
    pub(super) fn restart(&mut self, key: u64, now: Instant) {
        if self.closing != Closing::No {
            return;
        }
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.key == key) else { return };
        if seat.want == Want::Gone {
            return;
        }
        seat.want = Want::Up;
        seat.finished = false;
        seat.not_before = None;
        if let Some(living) = &mut seat.living {
            living.leaves(false);
        }
        self.settle(now);
    }

    /// Stops everybody, the last started first, and starts nobody any more.
    pub(super) fn end(&mut self, now: Instant) {
        if self.closing == Closing::No {
            self.close(Closing::Ending);
        }
        self.settle(now);
    }

    fn close(&mut self, closing: Closing) {
        self.closing = closing;
        for seat in &mut self.seats {
            seat.not_before = None;
            if let Some(living) = &mut seat.living {
                living.leaves(true);
            }
        }
    }

    // ---- what follows

    /// Does what can be done now.
    pub(super) fn settle(&mut self, now: Instant) {
        let somebody_goes = self.send_away(now);
        let actions = &mut self.actions;
        self.seats.retain(|seat| {
            let gone = seat.want == Want::Gone && seat.living.is_none();
            if gone {
                actions.push_back(Action::Forget { key: seat.key });
            }
            !gone
        });
        match self.closing {
            Closing::No if somebody_goes => {}
            Closing::No => self.start(now),
            Closing::Over => {}
            closing @ (Closing::Ending | Closing::GivingUp) => {
                if self.seats.iter().all(|seat| seat.living.as_ref().is_none_or(Living::is_stuck)) {
                    self.closing = Closing::Over;
                    self.actions.push_back(Action::Over { gave_up: closing == Closing::GivingUp });
                }
            }
        }
    }

    /// Asks those to go who have to, the last first, and presses those who take too long. Returns whether anybody of an
    /// ordered stop is still to go.
    fn send_away(&mut self, now: Instant) -> bool {
        let mut later_goes = false;
        for seat in self.seats.iter_mut().rev() {
            let key = seat.key;
            let Some(Leave { in_order, step }) =
                seat.living.as_mut().and_then(|living| living.leave.as_mut())
            else {
                continue;
            };
            if *step == Step::Due && !(*in_order && later_goes) {
                *step = Step::Asked { abort_at: now.checked_add(seat.terms.stop_within) };
                seat.since = now;
                self.actions.push_back(Action::Cancel { key });
            }
            if matches!(step, Step::Asked { abort_at: Some(at) } if now >= *at) {
                *step = Step::Aborted { stuck_at: now.checked_add(ABORT_PATIENCE) };
                self.actions.push_back(Action::Abort { key });
            }
            if matches!(step, Step::Aborted { stuck_at: Some(at) } if now >= *at) {
                *step = Step::Stuck;
                seat.since = now;
                seat.in_turn = false; // nobody waits for it (invariant 4)
                self.actions.push_back(Action::Tell { key, news: News::Stuck });
            }
            later_goes |= *in_order && *step != Step::Stuck;
        }
        later_goes
    }

    /// Starts those whose time and turn has come.
    fn start(&mut self, now: Instant) {
        let depends = self.rules.strategy != Strategy::OneForOne;
        let mut turn_is_taken = false;
        for seat in self.seats.iter_mut().filter(|seat| seat.want == Want::Up) {
            if seat.in_turn {
                if turn_is_taken {
                    continue;
                }
                // Where the later ones depend on it they wait: started without it, they would be stopped for it again.
                seat.in_turn = depends || seat.turn_ends.is_none_or(|ends| now < ends);
            }
            if seat.living.is_none() && seat.not_before.is_none_or(|at| now >= at) {
                seat.start(now);
                self.actions.push_back(Action::Start { key: seat.key, incarnation: seat.incarnation });
            }
            turn_is_taken |= seat.in_turn;
        }
    }

    pub(super) fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// When to [`tick`](Self::tick) at the latest; none if only something that happens can change anything.
    pub(super) fn next_tick(&self, now: Instant) -> Option<Instant> {
        let stable_after = self.rules.stable_after;
        let times = self.seats.iter().flat_map(|seat| {
            let of_life = seat.living.as_ref().map_or([None; 4], |living| match living.leave {
                Some(Leave {
                    step: Step::Asked { abort_at: at } | Step::Aborted { stuck_at: at }, ..
                }) => [at, None, None, None],
                Some(_) => [None; 4],
                None => {
                    let recovers = (seat.failures_in_row > 0).then(|| living.since.checked_add(stable_after));
                    [living.ready_by, living.look_at, recovers.flatten(), None]
                }
            });
            let starts = seat.not_before.filter(|_| seat.living.is_none() && seat.want == Want::Up);
            of_life.into_iter().chain([starts, seat.turn_ends.filter(|_| seat.in_turn)])
        });
        times.flatten().filter(|at| *at > now).min()
    }

    // ---- what is seen

    pub(super) fn look(&self, key: u64) -> Option<Look> {
        let seat = self.seats.iter().find(|seat| seat.key == key)?;
        let state = match (&seat.living, seat.want) {
            (Some(living), _) => match living.leave {
                Some(Leave { step: Step::Stuck, .. }) => ChildState::Stuck,
                Some(Leave { step: Step::Asked { .. } | Step::Aborted { .. }, .. }) => ChildState::Stopping,
                Some(Leave { step: Step::Due, .. }) | None if living.ready => ChildState::Running,
                Some(Leave { step: Step::Due, .. }) | None => ChildState::Starting,
            },
            (None, Want::Up) if self.closing != Closing::No => ChildState::Stopped,
            (None, Want::Up) if seat.not_before.is_some() => ChildState::BackingOff,
            (None, Want::Up) => ChildState::Waiting,
            (None, Want::Down | Want::Gone) if seat.finished => ChildState::Finished,
            (None, Want::Down | Want::Gone) => ChildState::Stopped,
        };
        Some(Look {
            state,
            incarnation: seat.incarnation,
            since: seat.since,
            restarts: seat.restarts,
            ready: state == ChildState::Running,
            is_wanted: seat.want == Want::Up && self.closing == Closing::No,
        })
    }

    /// The keys of all children, in the order of their start.
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> {
        self.seats.iter().map(|seat| seat.key)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing != Closing::No
    }

    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// How many restarts lie in the window now.
    pub(super) fn recent(&self, now: Instant) -> usize {
        let window = self.rules.restarts.within;
        self.recent.iter().filter(|at| now.saturating_duration_since(**at) < window).count()
    }

    fn forget_old_restarts(&mut self, now: Instant) {
        let window = self.rules.restarts.within;
        while self.recent.front().is_some_and(|at| now.saturating_duration_since(*at) >= window) {
            self.recent.pop_front();
        }
    }

    fn seat_of(&mut self, key: u64, incarnation: u64) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.key == key && seat.incarnation == incarnation)
    }

    fn tell(&mut self, key: u64, news: News) {
        self.actions.push_back(Action::Tell { key, news });
    }
}
