//! The books as the keeper sees them: what there is to do, what to look at and when, and the end.

use std::task::Waker;

use tokio::time::Instant;

use super::rule::{Chore, Item, Rules, Task};
use super::stats::{Holder, Why};
use crate::lock::core::Wakes;
use crate::lock::line::Line;

/// What is to be said: somebody holds a lease for too long, or no longer. Without a holder it is about those who waited for
/// each other.
pub(super) struct News {
    pub(super) about: Option<Holder>,
    pub(super) stands: bool,
}

/// What the keeper is to do now.
pub(super) struct Round<T> {
    pub(super) chores: Vec<Chore<T>>,
    pub(super) makes: usize,
    pub(super) news: Vec<News>,
    pub(super) look_at: Option<Instant>,
    /// Closed, and everything has gone.
    pub(super) is_over: bool,
}

impl<T> Rules<T> {
    pub(super) fn call_keeper(&mut self, wakes: &mut Wakes) {
        wakes.add(self.keeper.take());
    }

    pub(super) fn chore(&mut self, task: Task, item: Item<T>, wakes: &mut Wakes) {
        match task {
            Task::Check | Task::Reset => self.tending += 1,
            Task::Discard | Task::LetGo => self.discarding += 1,
        }
        self.chores.push(Chore { task, item });
        self.call_keeper(wakes);
    }

    pub(super) fn discard(&mut self, item: Item<T>, why: Why, wakes: &mut Wakes) {
        self.counters.discarded.count(why);
        self.chore(Task::Discard, item, wakes);
    }

    pub(super) fn look_at(&mut self, at: Option<Instant>, wakes: &mut Wakes) {
        let Some(at) = at else { return };
        if self.look_at.is_none_or(|before| at < before) {
            self.look_at = Some(at);
            self.call_keeper(wakes);
        }
    }

    /// How many are to be made now, if so many wait.
    fn makes_wanted(&self, waiting: usize) -> usize {
        let waits = self.retry_at().is_some_and(|at| Instant::now() < at);
        if self.closed.is_some() || waits {
            return 0;
        }
        // A server that does not answer is asked by one.
        let at_once = if self.failing.is_some() { 1 } else { self.limits.makes_at_once };
        let on_their_way = self.making + self.tending;
        let alive = self.alive();
        let for_waiters = waiting.saturating_sub(on_their_way);
        let for_minimum = self.limits.min.saturating_sub(alive - self.discarding);
        let room = self.limits.max.saturating_sub(alive);
        for_waiters.max(for_minimum).min(room).min(at_once.saturating_sub(self.making))
    }

    /// Sees to it that as many are on their way as wait: those that are idle and have to be checked first, then new ones.
    pub(super) fn demand(&mut self, waiting: usize, wakes: &mut Wakes) {
        if waiting == 0 && self.limits.min == 0 {
            return;
        }
        while waiting > self.making + self.tending {
            match self.idle.pop() {
                Some(item) if item.is_too_old(Instant::now()) => self.discard(item, Why::Age, wakes),
                Some(item) => self.chore(Task::Check, item, wakes),
                None => break,
            }
        }
        if self.makes_wanted(waiting) > 0 {
            self.call_keeper(wakes);
        } else if waiting > 0 || self.alive() < self.limits.min {
            self.look_at(self.retry_at(), wakes);
        }
    }

    /// What is to be done now; nothing is lost if nobody does it at once. `waker` is called when there is more.
    pub(super) fn round(
        &mut self,
        line: &mut Line,
        waker: Waker,
        now: Instant,
        wakes: &mut Wakes,
    ) -> (Round<T>, Option<Waker>) {
        let stale = self.keeper.take(); // it is awake: nobody has to call it
        let due = self.look_at.is_some_and(|at| at <= now);
        if due {
            self.reap(now);
            self.watch(now);
            self.call(line, now, wakes);
        }
        let makes = self.makes_wanted(line.waiting());
        self.making += makes;
        if due {
            self.look_at = self.next_look(line.waiting(), now);
        }
        let round = Round {
            chores: std::mem::take(&mut self.chores),
            makes,
            news: std::mem::take(&mut self.news),
            look_at: self.look_at,
            is_over: self.closed.is_some() && self.alive() == 0,
        };
        self.keeper = Some(waker);
        (round, stale)
    }

    fn reap(&mut self, now: Instant) {
        let mut wakes = Wakes::default(); // stays empty: the keeper is awake
        let mut kept = Vec::with_capacity(self.idle.len());
        let mut spare = (self.alive() - self.discarding).saturating_sub(self.limits.min);
        for item in std::mem::take(&mut self.idle) {
            if item.is_too_old(now) {
                spare = spare.saturating_sub(1);
                self.discard(item, Why::Age, &mut wakes);
            } else if spare > 0 && item.tired_at().is_some_and(|at| at <= now) {
                spare -= 1;
                self.discard(item, Why::Idle, &mut wakes);
            } else {
                kept.push(item);
            }
        }
        self.idle = kept;
    }

    /// Notes who holds for too long.
    fn watch(&mut self, now: Instant) {
        let limit = self.limits.held_too_long;
        for held in self.held.iter_mut().flatten().filter(|held| !held.told) {
            if now.saturating_duration_since(held.since) >= limit {
                held.told = true;
                self.counters.held_too_long += 1;
                self.news.push(held.news(true, now));
            }
        }
    }

    /// Calls those in line, so that they look at the time.
    fn call(&mut self, line: &mut Line, now: Instant, wakes: &mut Wakes) {
        if self.call_at.is_some_and(|at| at <= now) {
            wakes.add_all(line.call_all());
            let every = self.limits.call_every.filter(|_| !line.is_empty());
            self.call_at = every.and_then(|every| now.checked_add(every));
        }
    }

    fn next_look(&self, waiting: usize, now: Instant) -> Option<Instant> {
        let spare = self.alive() - self.discarding > self.limits.min;
        let idle = self.idle.iter().flat_map(|item| [item.expires, item.tired_at().filter(|_| spare)]);
        let held = self.held.iter().flatten().filter(|held| !held.told);
        let limit = self.limits.held_too_long;
        let held = held.map(|held| held.since.checked_add(limit));
        let to_be_held = (!self.granted.is_empty()).then(|| now.checked_add(limit)).flatten();
        let wanted = waiting > 0 || self.alive() < self.limits.min;
        let retry = self.retry_at().filter(|at| wanted && *at > now);
        idle.chain(held).chain([retry, to_be_held, self.call_at]).flatten().min()
    }

    /// Nobody gets a lease from here on. Those who wait are to be told.
    pub(super) fn close(&mut self, line: &mut Line, reason: &'static str, wakes: &mut Wakes) {
        if self.closed.is_none() {
            self.closed = Some(reason);
            wakes.add_all(line.call_all());
        }
        for item in std::mem::take(&mut self.idle) {
            self.discard(item, Why::Closed, wakes);
        }
        self.call_keeper(wakes);
    }

    /// The keeper makes nothing more. What is left is for it to discard.
    pub(super) fn keeper_ends(
        &mut self,
        line: &mut Line,
        reason: &'static str,
        wakes: &mut Wakes,
    ) -> Vec<Chore<T>> {
        self.close(line, reason, wakes);
        for chore in &self.chores {
            if matches!(chore.task, Task::Check | Task::Reset) {
                self.tending -= 1;
                self.discarding += 1;
            }
        }
        std::mem::take(&mut self.chores)
    }

    /// The keeper goes. What is left is for the caller to drop.
    pub(super) fn keeper_goes(
        &mut self,
        line: &mut Line,
        reason: &'static str,
        wakes: &mut Wakes,
    ) -> (Vec<Chore<T>>, Vec<News>) {
        self.close(line, reason, wakes);
        self.gone = true;
        let now = Instant::now();
        for held in self.held.iter_mut().flatten().filter(|held| held.told) {
            held.told = false;
            self.news.push(held.news(false, now));
        }
        if std::mem::take(&mut self.stuck) {
            self.news.push(News { about: None, stands: false });
        }
        (self.take_orphans(), std::mem::take(&mut self.news))
    }

    /// Chores that nobody is there to do; they have to be dropped outside of the lock.
    pub(super) fn take_orphans(&mut self) -> Vec<Chore<T>> {
        if !self.gone {
            return Vec::new();
        }
        let chores = std::mem::take(&mut self.chores);
        for chore in &chores {
            match chore.task {
                Task::Check | Task::Reset => self.tending -= 1,
                Task::Discard | Task::LetGo => self.discarding -= 1,
            }
        }
        chores
    }
}
