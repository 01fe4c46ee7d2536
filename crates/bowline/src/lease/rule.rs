//! The rule of a pool of leases: who gets what is idle, what is made, looked after and thrown away, and who keeps the count.
//!
//! Sequential code, run under the pool's lock. It never drops an item, an error or a waker: what has to go is handed to the
//! keeper as a [`Chore`], or out of the critical section to whoever is inside.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::guard;
use super::stats::{Counters, Holder, Why};
use super::upkeep::News;
use super::{BoxError, Limits};
use crate::lock::core::{Ask, Rule, Wakes};
use crate::lock::line::{Key, Left, Line, Stage};
use crate::record::{self, Kind};
use crate::resource::{HeldFact, ResourceKind, ResourceState, WaiterFact, Who};
use crate::wait::Op;

pub(super) const LEASE: Ask = Ask { op: Op::Lease, need: 1, calls: 0 };

/// A resource of the pool, and what is known of it.
pub(super) struct Item<T> {
    pub(super) value: T,
    /// When it is too old, jittered.
    pub(super) expires: Option<Instant>,
    /// How long it may be idle, jittered.
    patience: Option<Duration>,
    /// When it was put down, or given to somebody.
    pub(super) since: Instant,
}

impl<T> Item<T> {
    pub(super) fn new(value: T, limits: &Limits, now: Instant) -> Self {
        let expires = jittered(limits.max_age).and_then(|age| now.checked_add(age));
        Self { value, expires, patience: jittered(limits.max_idle), since: now }
    }

    pub(super) fn is_too_old(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    pub(super) fn tired_at(&self) -> Option<Instant> {
        self.patience.and_then(|patience| self.since.checked_add(patience))
    }
}

/// Up to a fifth less, so that what was made together does not go together.
fn jittered(time: Duration) -> Option<Duration> {
    const JITTER: f64 = 0.2;
    (time < Duration::MAX).then(|| time.mul_f64(1.0 - JITTER * crate::dice::unit()))
}

/// Something the keeper is to do with an item.
pub(super) struct Chore<T> {
    pub(super) task: Task,
    pub(super) item: Item<T>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Check,
    Reset,
    Discard,
    /// Back to the pool it is from.
    LetGo,
}

/// A lease in somebody's hands.
pub(super) struct Held {
    pub(super) who: Who,
    pub(super) task: Option<&'static str>,
    pub(super) since: Instant,
    /// An alert was raised about it.
    pub(super) told: bool,
}

/// Making fails.
pub(super) struct Failing {
    pub(super) error: Arc<BoxError>,
    /// In a row.
    pub(super) times: u32,
    retry_at: Instant,
}

pub(super) struct Rules<T> {
    pub(super) limits: Limits,
    /// The last is the one used last.
    pub(super) idle: Vec<Item<T>>,
    /// As many as were granted and not fetched.
    pub(super) granted: Vec<Item<T>>,
    /// By place in the line's slab.
    pub(super) held: Vec<Option<Held>>,
    pub(super) leased: usize,
    pub(super) making: usize,
    /// Being checked or reset, or about to be.
    pub(super) tending: usize,
    /// On their way out; until they have gone they count.
    pub(super) discarding: usize,
    pub(super) chores: Vec<Chore<T>>,
    pub(super) news: Vec<News>,
    /// An alert was raised about holders that wait for each other.
    pub(super) stuck: bool,
    pub(super) keeper: Option<Waker>,
    /// Nobody does chores any more.
    pub(super) gone: bool,
    /// When the keeper looks by itself.
    pub(super) look_at: Option<Instant>,
    /// When it calls those in line.
    pub(super) call_at: Option<Instant>,
    pub(super) closed: Option<&'static str>,
    pub(super) failing: Option<Failing>,
    pub(super) counters: Counters,
}

/// Why there is no lease.
pub(super) enum Refusal {
    Closed(&'static str),
    WouldDeadlock,
}

impl<T> Rules<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            idle: Vec::new(),
            granted: Vec::new(),
            held: Vec::new(),
            leased: 0,
            making: 0,
            tending: 0,
            discarding: 0,
            chores: Vec::new(),
            news: Vec::new(),
            stuck: false,
            keeper: None,
            gone: false,
            look_at: None,
            call_at: None,
            closed: None,
            failing: None,
            counters: Counters::default(),
        }
    }

    /// Everything that counts towards the maximum.
    pub(super) fn alive(&self) -> usize {
        self.idle() + self.leased + self.making + self.tending + self.discarding
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len() + self.granted.len()
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.failing.as_ref().map(|failing| failing.retry_at)
    }

    /// The one used last of those that are idle, if it may be used as it is. Otherwise nobody may: who waits has one checked.
    fn take_idle(&mut self, now: Instant, wakes: &mut Wakes) -> Option<Item<T>> {
        while self.idle.last().is_some_and(|item| item.is_too_old(now)) {
            let item = self.idle.pop()?;
            self.discard(item, Why::Age, wakes);
        }
        let after = self.limits.check_after;
        let is_fresh = |item: &Item<T>| after.is_none_or(|after| now - item.since < after);
        if self.idle.last().is_some_and(is_fresh) { self.idle.pop() } else { None }
    }

    /// Gives an item that is good, and was just used, made or checked, to whoever is first in line, or puts it down.
    pub(super) fn shelve(&mut self, line: &mut Line, mut item: Item<T>, now: Instant, wakes: &mut Wakes) {
        item.since = now;
        if self.closed.is_some() {
            self.discard(item, Why::Closed, wakes);
        } else if item.is_too_old(now) {
            self.discard(item, Why::Age, wakes);
        } else if let Some((key, _)) = line.first() {
            self.granted.push(item);
            wakes.add(line.grant(key));
            self.look_at(now.checked_add(self.limits.held_too_long), wakes);
        } else if self.limits.keeps_idle {
            let (expires, tired) = (item.expires, item.tired_at());
            self.idle.push(item);
            self.look_at(expires, wakes);
            self.look_at(tired, wakes);
        } else {
            self.chore(Task::LetGo, item, wakes);
        }
        self.demand(line.waiting(), wakes);
    }

    /// A lease comes back. Returns the item if it is for the caller to drop: it counts until [`has_gone`](Self::has_gone).
    pub(super) fn give_back(
        &mut self,
        line: &mut Line,
        key: Key,
        item: Item<T>,
        fate: Option<Why>,
        wakes: &mut Wakes,
    ) -> Option<Item<T>> {
        let now = Instant::now();
        line.leave(key);
        let held = self.held.get_mut(key as usize).and_then(Option::take);
        if let Some(held) = held.filter(|held| held.told) {
            self.news.push(held.news(false, now));
            self.call_keeper(wakes);
        }
        self.leased -= 1;
        if std::mem::take(&mut self.stuck) {
            self.news.push(News { about: None, stands: false });
            self.call_keeper(wakes);
        }
        if self.gone {
            self.discarding += 1;
            return Some(item);
        }
        let leaves = match fate {
            Some(Why::Taken) => {
                self.counters.discarded.count(Why::Taken);
                None
            }
            Some(why) => {
                self.counters.discarded.count(why);
                self.limits.discards.then_some(Task::Discard)
            }
            None if self.limits.resets && self.closed.is_none() => Some(Task::Reset),
            None if self.limits.keeps_idle || (self.closed.is_none() && !line.is_empty()) => {
                self.shelve(line, item, now, wakes);
                return None;
            }
            None => None, // back to the pool it is from
        };
        match leaves {
            Some(task) => self.chore(task, item, wakes),
            None => {
                self.discarding += 1;
                return Some(item);
            }
        }
        None
    }

    /// An item that was on its way out is no more.
    pub(super) fn has_gone(&mut self, line: &Line, wakes: &mut Wakes) {
        self.discarding -= 1;
        self.place_is_free(line, wakes);
    }

    /// There is room for another.
    pub(super) fn place_is_free(&mut self, line: &Line, wakes: &mut Wakes) {
        if self.closed.is_some() {
            self.call_keeper(wakes); // it may have been the last
        } else {
            self.demand(line.waiting(), wakes);
        }
    }

    /// Making has failed; returns the error before, to be dropped outside of the lock.
    pub(super) fn failed(&mut self, error: BoxError) -> Option<Failing> {
        self.counters.make_failures += 1;
        let times = self.failing.as_ref().map_or(0, |failing| failing.times).saturating_add(1);
        let retry_at = Instant::now() + self.limits.backoff(times);
        self.failing.replace(Failing { error: Arc::new(error), times, retry_at })
    }

    fn hand_out(&mut self, key: Key, who: Who, since: Instant) {
        let at = key as usize;
        if self.held.len() <= at {
            self.held.resize_with(at + 1, || None);
        }
        self.held[at] = Some(Held { who, task: task_here(), since, told: false });
        self.leased += 1;
        self.counters.acquired += 1;
    }

    /// Those who hold leases, the oldest first.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let now = Instant::now();
        let mut holders: Vec<_> = self.held.iter().flatten().map(|held| held.holder(now)).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.held_for));
        holders
    }

    /// Whether every lease is held by a task that waits for another one, and none came back since `began`, when `me` began to
    /// wait too. A task may still be several things at once, so it is a suspicion.
    pub(super) fn note_holders_wait(&mut self, waiters: &[WaiterFact], me: u64, began: Instant) -> bool {
        // Sorted: a thousand who wait and a thousand who hold are looked at for each that goes.
        let mut tasks: Vec<_> = waiters.iter().map(|waiter| waiter.who.task).chain([me]).collect();
        tasks.sort_unstable();
        let waits = |task| task != 0 && tasks.binary_search(&task).is_ok();
        let mut held = self.held.iter().flatten();
        let stuck =
            self.leased == self.limits.max && held.all(|held| held.since <= began && waits(held.who.task));
        self.stuck |= stuck;
        stuck
    }
}

impl Held {
    fn holder(&self, now: Instant) -> Holder {
        Holder {
            task: self.task,
            task_id: Some(self.who.task).filter(|task| *task != 0),
            place: self.who.at,
            held_for: now.saturating_duration_since(self.since),
        }
    }

    pub(super) fn news(&self, stands: bool, now: Instant) -> News {
        News { about: Some(self.holder(now)), stands }
    }
}

/// The name of the task that is polled; of the outermost scope in a task that is not ours.
fn task_here() -> Option<&'static str> {
    record::with_nearest(|current| {
        let mut at = current?;
        while at.kind == Kind::Strand {
            match at.node.parent() {
                Some(parent) => at = parent,
                None => return Some(at.node.site.name),
            }
        }
        Some(at.site.name)
    })
}

impl<T: Send + 'static> Rule for Rules<T> {
    type Pass = (Key, Item<T>);
    type Refusal = Refusal;

    const KIND: ResourceKind = ResourceKind::Leases;

    fn enter(
        &mut self,
        line: &mut Line,
        ask: Ask,
        who: Who,
        wakes: &mut Wakes,
    ) -> Option<Result<Self::Pass, Refusal>> {
        if let Some(reason) = self.closed {
            return Some(Err(Refusal::Closed(reason)));
        }
        // A clock costs more than the rest of this: it is read only where it decides.
        if line.is_empty() && !self.idle.is_empty() {
            let now = Instant::now();
            if let Some(mut item) = self.take_idle(now, wakes) {
                item.since = now;
                let key = line.hold(ask.need, who, ask.op);
                self.hand_out(key, who, now);
                self.look_at(now.checked_add(self.limits.held_too_long), wakes);
                return Some(Ok((key, item)));
            }
        }
        if self.leased == self.limits.max && guard::all_held_around_us(self.limits.id, self.leased) {
            return Some(Err(Refusal::WouldDeadlock));
        }
        if self.call_at.is_none() {
            self.call_at = self.limits.call_every.and_then(|every| Instant::now().checked_add(every));
            self.look_at(self.call_at, wakes);
        }
        self.demand(line.waiting() + 1, wakes);
        None
    }

    fn fetch(&mut self, line: &mut Line, key: Key) -> Self::Pass {
        line.fetch(key);
        let Some(item) = self.granted.pop() else { unreachable!("one is kept for each that was granted") };
        self.hand_out(key, line.who(key), item.since); // since it was granted
        (key, item)
    }

    fn refusal(&self, _need: usize) -> Option<Refusal> {
        self.closed.map(Refusal::Closed)
    }

    fn left(&mut self, line: &mut Line, left: &Left, wakes: &mut Wakes) {
        if left.stage == Stage::Granted {
            let Some(item) = self.granted.pop() else {
                unreachable!("one is kept for each that was granted")
            };
            self.shelve(line, item, Instant::now(), wakes);
        }
    }

    fn state(&self, _line: &Line) -> ResourceState {
        match self.closed {
            Some(reason) => ResourceState::Closed { reason },
            None => ResourceState::Permits { free: self.limits.max - self.leased, total: self.limits.max },
        }
    }

    fn held(&self, line: &Line) -> Vec<HeldFact> {
        line.held()
    }

    fn is_open_ended(&self) -> bool {
        true // its tasks make more
    }
}
