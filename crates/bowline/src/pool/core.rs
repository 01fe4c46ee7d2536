//! The pool itself: one lock around the queue, the line of those who wait for room, the workers, and the books.
//!
//! See the invariants in the module above. What is to be woken, dropped or told is put into [`After`] and done once the lock is
//! released.

mod views;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Call, Called};
use super::elastic::Sample;
use super::marks::Marks;
use super::row::Row;
use super::stats::PoolState;
use crate::alert::{self, AlertKind, Subject};
use crate::queue::Overflow;
use crate::record::next_id;
use crate::resource::{self, Resource, Who};
use crate::site::Site;
use crate::sync::{Arc, LockExt, Mutex, MutexGuard};

/// How long a queue has to be more than half full before that is worth an alert: a burst is what a queue is for.
const HIGH_FOR: Duration = Duration::from_secs(1);

/// So much work has to wait before a worker is woken beside those at hand: less is done before a thread is awake.
const WORTH: Duration = Duration::from_micros(40);

/// Jobs that take longer are long beside what it takes to wake a thread: for those as many workers are at hand as there are.
const LONG: Duration = Duration::from_micros(50);

/// A worker that has not come back for this long is at a job that takes longer than those before.
const LATE: Duration = Duration::from_micros(200);

/// What was stated about a pool.
pub(super) struct Terms<J> {
    pub(super) max_jobs: usize,
    pub(super) max_bytes: Option<usize>,
    pub(super) size_of: Option<fn(&J) -> usize>,
    pub(super) overflow: Overflow,
    pub(super) wait_at_most: Option<Duration>,
}

pub(super) struct Core<J, R> {
    pub(super) id: u64,
    pub(super) site: &'static Site,
    pub(super) terms: Terms<J>,
    pub(super) inside: Arc<Inside>,
    state: Mutex<State<J, R>>,
}

/// Known to the context of whatever runs inside a pool.
pub(super) struct Inside {
    pub(super) pool: u64,
}

/// A job in the queue.
pub(super) struct Entry<J, R> {
    pub(super) job: J,
    pub(super) bytes: usize,
    pub(super) called: Option<Box<Called<R>>>,
}

/// What a worker has taken, with the numbers in the queue.
pub(super) type Batch<J, R> = VecDeque<(u64, Option<Entry<J, R>>)>;

/// Somebody in line, with the job: it is taken from there when there is room, so the line is where the queue goes on.
struct Waiter<J, R> {
    entry: Entry<J, R>,
    waker: Option<Waker>,
    who: Who,
}

struct State<J, R> {
    queue: Row<Entry<J, R>>,
    /// How many of those in the queue are called.
    called: usize,
    line: Row<Waiter<J, R>>,
    bytes: usize,
    /// What workers have taken along and not begun, and its bytes: it takes room.
    held: usize,
    held_bytes: usize,
    /// Accepted from the line, and not told yet: see `Core::take`.
    owed: Vec<Waker>,
    workers: Workers,
    phase: PoolState,
    marks: Marks,
    books: Books,
    /// Those who wait for the end.
    enders: Row<Option<Waker>>,
    /// Since when more than half of the bound is taken, and whether that was told.
    high: Option<(Instant, bool)>,
    listed: bool,
}

/// The workers there are.
#[derive(Default)]
struct Workers {
    slots: Vec<Slot>,
    alive: usize,
    /// Those who wait for a job; who came last is woken first, as its memory is the warmest.
    idle: Vec<usize>,
    /// How many there are to be. Those beyond go when they find nothing to do.
    wanted: usize,
    /// Those that go, and are not gone yet.
    leaving: usize,
    /// The most that were at work at once since somebody asked.
    peak_busy: usize,
    /// Whoever decides how many there are, while it waits for a reason to think.
    rush: Option<Waker>,
    resized: u64,
    /// Those that are at short jobs, and take more without being woken.
    at_hand: usize,
    /// When the last of those came.
    taken: Option<Instant>,
    /// They have not come for too long.
    are_late: bool,
    /// How long a job takes, as the last worker that came has measured.
    per_job: Option<Duration>,
    /// Those of the runtime: more workers cannot be at short jobs at once.
    threads: usize,
    /// One was woken and has not looked yet. It wakes the next if there is more than it takes: nobody is woken in vain.
    waking: bool,
}

#[derive(Default)]
struct Slot {
    alive: bool,
    waker: Option<Waker>,
    /// Woken, and has not looked yet.
    woken: bool,
    /// It is at a job, or at several.
    busy: Option<Who>,
    leaving: bool,
    at_hand: bool,
    held: usize,
    held_bytes: usize,
}

#[derive(Default)]
struct Books {
    done: Done,
    accepted: u64,
    refused: u64,
    dropped: u64,
    high_water: usize,
    waits: u64,
    waited: Duration,
    in_place: usize,
}

/// How many jobs ended how.
#[derive(Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) panicked: u64,
    pub(super) timed_out: u64,
    pub(super) cancelled: u64,
}

impl Done {
    fn add(&mut self, more: Done) {
        self.completed += more.completed;
        self.failed += more.failed;
        self.panicked += more.panicked;
        self.timed_out += more.timed_out;
        self.cancelled += more.cancelled;
    }
}

/// How fast a worker is.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) per_job: Option<Duration>,
    /// How many jobs it takes at most.
    pub(super) most: usize,
}

/// What is done once the lock is released: nothing of it may run under it.
pub(super) struct After<J, R> {
    wakes: Vec<Waker>,
    stale: Vec<Waker>,
    /// Dropped here, and those who called them told.
    gone: Vec<Entry<J, R>>,
    /// Whether they are gone because the pool has ended.
    ended: bool,
    high: Option<High>,
    /// The pool is to be listed among those that are waited for.
    list: bool,
}

enum High {
    Raise(usize),
    Clear,
}

impl<J, R> Default for After<J, R> {
    fn default() -> Self {
        Self { wakes: Vec::new(), stale: Vec::new(), gone: Vec::new(), ended: false, high: None, list: false }
    }
}

/// What comes of an offer.
pub(super) enum Offered {
    Accepted,
    /// In line, under this number.
    Waits(u64),
    /// Would have to wait: come again with a waker.
    MayWait,
    Full,
    Closed,
}

/// What a worker is to do next.
pub(super) enum Next {
    Work,
    /// Nothing is there; it will be woken.
    Idle,
    End,
}

impl Workers {
    fn are_too_many(&self) -> bool {
        self.alive - self.leaving > self.wanted
    }

    fn is_at_hand(&mut self, at: usize, is: bool) {
        let known = std::mem::replace(&mut self.slots[at].at_hand, is);
        self.at_hand = self.at_hand + usize::from(is) - usize::from(known);
    }

    /// Whether one more would be of use, where so many jobs wait. Those at hand come back by themselves.
    fn could_use_one_more(&self, jobs: usize) -> bool {
        let Some(per_job) = self.per_job.filter(|_| self.at_hand > 0) else { return true };
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        per_job >= LONG || self.at_hand < self.threads && per_job.saturating_mul(jobs) >= WORTH
    }

    /// The worker is awake, whoever woke it.
    fn looks<J, R>(&mut self, at: usize, after: &mut After<J, R>) {
        let slot = &mut self.slots[at];
        if std::mem::take(&mut slot.woken) {
            self.waking = false;
        }
        if let Some(unused) = slot.waker.take() {
            after.stale.push(unused); // woken by somebody else
            self.idle.retain(|other| *other != at);
        }
    }
}

impl<J, R> State<J, R> {
    fn waiting_jobs(&self) -> usize {
        self.queue.len() + self.held
    }

    fn has_room(&self, terms: &Terms<J>, bytes: usize) -> bool {
        let jobs = self.waiting_jobs();
        jobs < terms.max_jobs
            && terms.max_bytes.is_none_or(|max| {
                let taken = self.bytes + self.held_bytes;
                taken.checked_add(bytes).is_some_and(|sum| sum <= max) || jobs == 0
            })
    }

    fn push(&mut self, entry: Entry<J, R>, now: &mut Option<Instant>) {
        let into_empty = self.waiting_jobs() == 0;
        self.bytes += entry.bytes;
        self.books.accepted += 1;
        let call = entry.called.as_ref().map(|called| Arc::clone(&called.call));
        let number = self.queue.push(entry);
        if let Some(call) = call {
            self.called += 1;
            call.queued_as(number); // one more count for a moment: a reference into the row would be in its way
        }
        if let (Some(now), Some(taken)) = (self.marks.came(number, into_empty, now), self.workers.taken) {
            self.workers.are_late = now.saturating_duration_since(taken) >= LATE;
        }
        self.books.high_water = self.books.high_water.max(self.waiting_jobs());
    }

    /// Lets in who is first in line, as far as there is room.
    fn admit(&mut self, terms: &Terms<J>) {
        let mut now = None;
        while self.phase == PoolState::Open {
            let Some(first) = self.line.first() else { return };
            let bytes = first.entry.bytes;
            if !self.has_room(terms, bytes) {
                return;
            }
            let Some((_, waiter)) = self.line.pop() else { return };
            self.push(waiter.entry, &mut now);
            self.owed.extend(waiter.waker);
        }
    }

    /// Tells those who were accepted from the line.
    fn tell_owed(&mut self, after: &mut After<J, R>) {
        after.wakes.append(&mut self.owed);
    }

    /// Wakes a worker if there is enough to do for one more, and none on its way to look.
    fn call_worker(&mut self) -> Option<Waker> {
        let jobs = self.queue.len();
        if jobs > 0 && (self.workers.are_late || self.workers.could_use_one_more(jobs)) {
            self.call_worker_for_any()
        } else {
            None
        }
    }

    /// Wakes a worker if there is anything to do for one more, and none on its way to look.
    fn call_worker_for_any(&mut self) -> Option<Waker> {
        if self.workers.waking || self.queue.is_empty() {
            return None;
        }
        let Some(at) = self.workers.idle.pop() else {
            return self.workers.rush.take();
        };
        self.workers.waking = true;
        self.workers.are_late = false;
        let slot = &mut self.workers.slots[at];
        slot.woken = true;
        slot.waker.take()
    }

    fn call_all_workers(&mut self, after: &mut After<J, R>) {
        for at in std::mem::take(&mut self.workers.idle) {
            after.wakes.extend(self.workers.slots[at].waker.take());
        }
    }

    /// The worker has ended what it had taken.
    fn settle(&mut self, at: usize, done: Done) {
        self.books.done.add(done);
        let slot = &mut self.workers.slots[at];
        self.held -= std::mem::take(&mut slot.held);
        self.held_bytes -= std::mem::take(&mut slot.held_bytes);
        slot.busy = None;
    }

    /// Whether nothing can come any more.
    fn is_drained(&self) -> bool {
        self.phase != PoolState::Open && self.waiting_jobs() == 0
    }

    fn look_at_height(&mut self, terms: &Terms<J>, now: Instant, after: &mut After<J, R>) {
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
    pub(super) fn new(site: &'static Site, terms: Terms<J>) -> Arc<Self> {
        let id = next_id();
        let state = State {
            queue: Row::default(),
            called: 0,
            line: Row::default(),
            bytes: 0,
            held: 0,
            held_bytes: 0,
            owed: Vec::new(),
            workers: Workers { threads: threads(), ..Workers::default() },
            phase: PoolState::Open,
            marks: Marks::new(terms.max_jobs),
            books: Books::default(),
            enders: Row::default(),
            high: None,
            listed: false,
        };
        Arc::new(Self { id, site, terms, inside: Arc::new(Inside { pool: id }), state: Mutex::new(state) })
    }

    pub(super) fn size(&self, job: &J) -> usize {
        self.terms.size_of.map_or(0, |size_of| size_of(job))
    }

    /// One critical section, and what comes after it.
    fn with<T>(self: &Arc<Self>, act: impl FnOnce(&mut State<J, R>, &mut After<J, R>) -> T) -> T {
        let mut after = After::default();
        let result = act(&mut self.state.lock_unpoisoned(), &mut after);
        self.afterwards(&mut after);
        result
    }

    fn afterwards(self: &Arc<Self>, after: &mut After<J, R>) {
        after.wakes.drain(..).for_each(Waker::wake);
        after.stale.clear();
        if std::mem::take(&mut after.list) {
            let resource: Arc<dyn Resource> = self.clone();
            resource::list(self.id, Arc::downgrade(&resource));
        }
        if let Some(high) = after.high.take() {
            let kind = AlertKind::QueueHigh;
            let subject = Subject { kind, name: self.site.name.into(), place: self.site.place };
            let max = self.terms.max_jobs;
            match high {
                High::Raise(jobs) => {
                    alert::raise(subject, format!("{jobs} of {max} jobs wait, for more than a second"))
                }
                High::Clear => alert::clear(&subject, format!("no more than a quarter of {max} jobs wait")),
            }
        }
        for entry in after.gone.drain(..) {
            entry.drop_unrun(after.ended);
        }
    }

    // ---- those who have jobs

    /// Takes what is in `entry` if there is room for it; what is not accepted stays there. `fresh` is absent if nobody would wait.
    #[inline]
    pub(super) fn offer(
        self: &Arc<Self>,
        entry: &mut Option<Entry<J, R>>,
        fresh: Option<&mut Option<Waker>>,
    ) -> Offered {
        let mut state = self.state.lock_unpoisoned();
        let Some((bytes, is_called)) = entry.as_ref().map(|entry| (entry.bytes, entry.called.is_some()))
        else {
            return Offered::Accepted;
        };
        // Who comes while others wait goes behind them.
        if state.phase == PoolState::Open && state.line.is_empty() && state.has_room(&self.terms, bytes) {
            if let Some(entry) = entry.take() {
                state.push(entry, &mut None);
            }
            // Who calls waits for the answer: its thread is free for a worker.
            let worker = if is_called { state.call_worker_for_any() } else { state.call_worker() };
            drop(state);
            if let Some(worker) = worker {
                worker.wake();
            }
            return Offered::Accepted;
        }
        self.offer_to_full(state, entry, fresh)
    }

    /// Takes from the front of `entries` as long as there is room for it, and nobody waits; returns how many.
    pub(super) fn offer_many(&self, entries: &mut VecDeque<Entry<J, R>>) -> usize {
        let before = entries.len();
        let mut now = None;
        let mut state = self.state.lock_unpoisoned();
        if state.phase == PoolState::Open && state.line.is_empty() {
            while entries.front().is_some_and(|first| state.has_room(&self.terms, first.bytes)) {
                let Some(entry) = entries.pop_front() else { break };
                state.push(entry, &mut now);
            }
        }
        let worker = state.call_worker();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
        before - entries.len()
    }

    #[cold]
    fn offer_to_full(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<J, R>>,
        entry: &mut Option<Entry<J, R>>,
        fresh: Option<&mut Option<Waker>>,
    ) -> Offered {
        if state.phase != PoolState::Open {
            return Offered::Closed;
        }
        let mut after = After::default();
        let offered = match (self.terms.overflow, fresh) {
            (Overflow::Block, Some(fresh)) => match fresh.take() {
                None => Offered::MayWait,
                Some(waker) => {
                    state.books.waits += 1;
                    state.look_at_height(&self.terms, Instant::now(), &mut after);
                    after.list = !std::mem::replace(&mut state.listed, true);
                    let who = Who::here(self.site.place, false);
                    let Some(entry) = entry.take() else { return Offered::Accepted };
                    // Its thread is free for a worker.
                    after.wakes.extend(state.call_worker_for_any());
                    Offered::Waits(state.line.push(Waiter { entry, waker: Some(waker), who }))
                }
            },
            (Overflow::Block | Overflow::Reject, _) => {
                state.books.refused += 1;
                Offered::Full
            }
            (Overflow::Disconnect, _) => {
                state.books.refused += 1;
                state.close(&mut after);
                Offered::Closed
            }
            (Overflow::DropNewest, _) => {
                state.books.accepted += 1;
                state.books.dropped += 1;
                after.gone.extend(entry.take());
                Offered::Accepted
            }
            (Overflow::DropOldest, _) => {
                if let Some(entry) = entry.take() {
                    while !state.has_room(&self.terms, entry.bytes) {
                        let Some((_, oldest)) = state.queue.pop() else { break };
                        state.called -= usize::from(oldest.called.is_some());
                        state.bytes -= oldest.bytes;
                        state.books.dropped += 1;
                        after.gone.push(oldest);
                    }
                    if state.has_room(&self.terms, entry.bytes) {
                        state.push(entry, &mut None);
                        after.wakes.extend(state.call_worker());
                    } else {
                        // Workers have taken all that is there along: nothing is older than this one.
                        state.books.accepted += 1;
                        state.books.dropped += 1;
                        after.gone.push(entry);
                    }
                }
                Offered::Accepted
            }
        };
        drop(state);
        self.afterwards(&mut after);
        offered
    }

    /// Refused because it would wait for itself.
    pub(super) fn refuse(&self) {
        self.state.lock_unpoisoned().books.refused += 1;
    }

    /// Somebody in line looks again. `None`: it has been accepted.
    pub(super) fn look(&self, place: u64, waker: &Waker) -> Option<Result<(), Entry<J, R>>> {
        let mut fresh: Option<Waker> = None;
        loop {
            let _stale;
            {
                let mut state = self.state.lock_unpoisoned();
                let is_open = state.phase == PoolState::Open;
                let waiter = state.line.at(place)?;
                if !is_open {
                    let waiter = state.line.remove(place);
                    drop(state);
                    return waiter.map(|waiter| Err(waiter.entry));
                }
                waiter.who.polled_again();
                if waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    return Some(Ok(()));
                }
                if let Some(fresh) = fresh.take() {
                    _stale = waiter.waker.replace(fresh); // dropped outside of the lock, as it is cloned: foreign code
                    continue;
                }
            }
            fresh = Some(waker.clone());
        }
    }

    /// Gives a place in line up. `None`: it had been accepted.
    pub(super) fn leave_line(self: &Arc<Self>, place: u64, is_refused: bool) -> Option<Entry<J, R>> {
        let waiter = self.with(|state, after| {
            let waiter = state.line.remove(place)?;
            state.books.refused += u64::from(is_refused);
            // It may have stood in the way of smaller ones.
            state.admit(&self.terms);
            state.tell_owed(after);
            after.wakes.extend(state.call_worker());
            Some(waiter)
        })?;
        Some(waiter.entry) // the waker is dropped here, outside of the lock
    }

    /// Takes a called job that has not begun out of the queue; `false` if it is not there (any more).
    pub(super) fn take_out(self: &Arc<Self>, call: &Call<R>) -> bool {
        self.with(|state, after| {
            let Some(entry) = call.number().and_then(|number| state.queue.remove(number)) else {
                return false;
            };
            state.called -= 1;
            state.bytes -= entry.bytes;
            state.books.done.cancelled += 1;
            after.gone.push(entry);
            state.admit(&self.terms);
            state.tell_owed(after);
            after.wakes.extend(state.call_worker());
            if state.is_drained() {
                state.call_all_workers(after);
            }
            true
        })
    }

    /// A job runs in place of one that is at work.
    pub(super) fn begin_in_place(&self) -> bool {
        let mut state = self.state.lock_unpoisoned();
        let open = state.phase != PoolState::Ended;
        state.books.in_place += usize::from(open);
        state.books.accepted += u64::from(open);
        open
    }

    pub(super) fn end_in_place(&self, done: Done) {
        let mut state = self.state.lock_unpoisoned();
        state.books.in_place -= 1;
        state.books.done.add(done);
    }

    // ---- workers

    /// A worker comes. It has the first place that is free.
    pub(super) fn join(&self) -> usize {
        let mut state = self.state.lock_unpoisoned();
        let slots = &mut state.workers.slots;
        let at = slots.iter().position(|slot| !slot.alive).unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() - 1
        });
        slots[at].alive = true;
        state.workers.alive += 1;
        at
    }

    /// States how many workers there are to be. Those that are too many and idle go now, the others when they are idle.
    pub(super) fn want(self: &Arc<Self>, workers: usize) {
        self.with(|state, after| {
            let State { workers: staff, .. } = state;
            staff.resized += u64::from(staff.wanted != 0 && staff.wanted != workers);
            staff.wanted = workers;
            let too_many = (staff.alive - staff.leaving).saturating_sub(workers).min(staff.idle.len());
            // From the front: who has been idle for longest.
            for at in staff.idle.drain(..too_many) {
                after.wakes.extend(staff.slots[at].waker.take());
            }
        });
    }

    /// What whoever decides how many workers there are goes by.
    pub(super) fn sample(&self, now: Instant) -> Sample {
        let mut state = self.state.lock_unpoisoned();
        let state = &mut *state;
        let workers = state.workers.alive - state.workers.leaving;
        let busy = workers.saturating_sub(state.workers.idle.len());
        let peak_busy = std::mem::replace(&mut state.workers.peak_busy, busy).max(busy).min(workers);
        let first = state.queue.first_number();
        let delay = first.map_or(Duration::ZERO, |number| state.marks.age(number, now));
        Sample { workers, peak_busy, queued: state.waiting_jobs(), delay }
    }

    /// Whether a job waits and no worker is free; wakes `waker` when that comes to be.
    pub(super) fn is_rushed(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let _stale; // dropped outside of the lock
        let mut state = self.state.lock_unpoisoned();
        let rushed = !state.queue.is_empty() && state.workers.idle.is_empty();
        if !rushed {
            _stale = state.workers.rush.replace(waker);
        }
        drop(state);
        rushed
    }

    /// The worker has done what it had taken, and takes up to `most` jobs, its share of what is there. If it becomes idle its
    /// waker is `spare`, which is taken then.
    ///
    /// Whoever was accepted from the line is told when half of the queue is free, so that it finds room for many; a worker
    /// that leaves somebody untold has fast jobs, and comes back or says [`pause`](Self::pause) within its poll.
    #[expect(
        clippy::too_many_arguments,
        reason = "one critical section for all that is to be done between two batches"
    )]
    pub(super) fn take(
        self: &Arc<Self>,
        at: usize,
        done: Done,
        pace: Pace,
        now: Instant,
        batch: &mut Batch<J, R>,
        spare: &mut Option<Waker>,
        after: &mut After<J, R>,
    ) -> Next {
        let mut state = self.state.lock_unpoisoned();
        let next = state.take(&self.terms, at, done, pace, now, batch, spare, after);
        if matches!(next, Next::Work) {
            state.workers.slots[at].busy = Some(Who::here(self.site.place, true));
        }
        drop(state);
        self.afterwards(after);
        next
    }

    /// The worker waits in a job, or gives its turn away: what it has taken along goes back to where it was, and nobody is left
    /// untold. `done` are those before.
    pub(super) fn pause(self: &Arc<Self>, at: usize, done: Done, rest: &mut Batch<J, R>, is_in_a_job: bool) {
        self.with(|state, after| {
            let busy = state.workers.slots[at].busy.filter(|_| is_in_a_job);
            state.settle(at, done);
            state.workers.slots[at].busy = busy;
            if is_in_a_job {
                state.workers.is_at_hand(at, false);
            }
            for (number, entry) in rest.drain(..) {
                let Some(entry) = entry else { continue };
                state.bytes += entry.bytes;
                state.queue.put_back(number, entry);
            }
            state.admit(&self.terms);
            state.tell_owed(after);
            after.wakes.extend(state.call_worker());
            if state.is_drained() {
                state.call_all_workers(after);
            }
        });
    }

    /// The worker is no more. What it had taken along goes back.
    pub(super) fn part(self: &Arc<Self>, at: usize, done: Done, rest: &mut Batch<J, R>) {
        self.pause(at, done, rest, false);
        let _stale = self.with(|state, after| {
            state.workers.looks(at, after);
            state.workers.is_at_hand(at, false);
            if std::mem::take(&mut state.workers.slots[at].leaving) {
                state.workers.leaving -= 1;
            }
            state.workers.alive -= 1;
            after.wakes.extend(state.call_worker()); // it may have been on its way to look: the next does
            std::mem::take(&mut state.workers.slots[at])
        });
    }

    // ---- the end

    /// Takes no more jobs.
    pub(super) fn close(self: &Arc<Self>) {
        self.with(|state, after| state.close(after));
    }

    /// The workers are gone: whatever is left is dropped and counted.
    pub(super) fn end(self: &Arc<Self>) {
        self.with(|state, after| {
            state.close(after);
            state.phase = PoolState::Ended;
            after.ended = true;
            after.gone.extend(state.queue.clear());
            (state.called, state.bytes) = (0, 0);
            state.books.done.cancelled += after.gone.len() as u64;
            for waiter in state.line.iter_mut() {
                after.wakes.extend(waiter.waker.take());
            }
            after.wakes.extend(state.enders.iter_mut().filter_map(Option::take));
            if let Some((_, true)) = state.high.take() {
                after.high = Some(High::Clear);
            }
        });
    }

    /// Waits for the end. `true`: it has come.
    pub(super) fn look_end(&self, place: &mut Option<u64>, waker: &Waker) -> bool {
        let waker = waker.clone();
        let (_stale, ended) = {
            let mut state = self.state.lock_unpoisoned();
            match place {
                _ if state.phase == PoolState::Ended => (Some(waker), true),
                Some(place) => (state.enders.at(*place).and_then(|known| known.replace(waker)), false),
                None => {
                    *place = Some(state.enders.push(Some(waker)));
                    (None, false)
                }
            }
        };
        ended
    }

    pub(super) fn leave_enders(&self, place: u64) {
        let _stale = self.state.lock_unpoisoned().enders.remove(place);
    }
}

fn threads() -> usize {
    tokio::runtime::Handle::try_current().map_or(usize::MAX, |runtime| runtime.metrics().num_workers())
}

impl<J, R> State<J, R> {
    #[expect(clippy::too_many_arguments, reason = "see `Core::take`")]
    fn take(
        &mut self,
        terms: &Terms<J>,
        at: usize,
        done: Done,
        pace: Pace,
        now: Instant,
        batch: &mut Batch<J, R>,
        spare: &mut Option<Waker>,
        after: &mut After<J, R>,
    ) -> Next {
        self.settle(at, done);
        self.workers.looks(at, after);
        self.workers.per_job = pace.per_job;
        self.workers.is_at_hand(at, true);
        self.admit(terms);
        let most = pace.most;
        let jobs = self.queue.len();
        // What is too little for two is for one.
        let workers =
            if self.workers.could_use_one_more(jobs) { self.workers.alive } else { self.workers.at_hand };
        let share = (jobs / workers).clamp(1, most);
        self.take_along(share, batch);
        let Some((number, Some(first))) = batch.front() else {
            self.workers.is_at_hand(at, false);
            self.tell_owed(after);
            self.look_at_height(terms, now, after);
            if self.is_drained() {
                self.call_all_workers(after);
                return Next::End;
            }
            if self.workers.are_too_many() {
                self.workers.leaving += 1;
                self.workers.slots[at].leaving = true;
                return Next::End;
            }
            self.workers.slots[at].waker = spare.take();
            self.workers.idle.push(at);
            return Next::Idle;
        };
        self.workers.taken = Some(now);
        self.workers.are_late = false;
        self.workers.peak_busy = self.workers.peak_busy.max(self.workers.alive - self.workers.idle.len());
        let along = batch.len() - 1;
        if along > 0 {
            let bytes = batch.iter().filter_map(|(_, entry)| entry.as_ref()).map(|entry| entry.bytes);
            let along_bytes = if terms.size_of.is_some() { bytes.sum::<usize>() - first.bytes } else { 0 };
            let slot = &mut self.workers.slots[at];
            (slot.held, slot.held_bytes) = (along, along_bytes);
            self.held += along;
            self.held_bytes += along_bytes;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a batch is small")]
        let jobs = batch.len() as u32;
        self.books.waited += self.marks.age(*number, now) * jobs;
        self.admit(terms);
        if most == 1 || self.waiting_jobs() <= terms.max_jobs / 2 {
            self.tell_owed(after);
        }
        self.look_at_height(terms, now, after);
        after.wakes.extend(self.call_worker());
        Next::Work
    }

    fn take_along(&mut self, share: usize, batch: &mut Batch<J, R>) {
        if share > 1 && share == self.queue.len() && self.called == 0 && self.queue.take_all(batch) {
            self.bytes = 0;
            return;
        }
        while batch.len() < share {
            // A called job goes alone: its caller can take it out as long as it has not begun.
            if !batch.is_empty() && self.queue.first().is_some_and(|next| next.called.is_some()) {
                break;
            }
            let Some((number, entry)) = self.queue.pop() else { break };
            self.bytes -= entry.bytes;
            let is_called = entry.called.is_some();
            batch.push_back((number, Some(entry)));
            if is_called {
                self.called -= 1;
                break;
            }
        }
    }

    fn close(&mut self, after: &mut After<J, R>) {
        if self.phase != PoolState::Open {
            return;
        }
        self.phase = PoolState::Draining;
        // They stay in line until they look: their jobs go back with them.
        for waiter in self.line.iter_mut() {
            after.wakes.extend(waiter.waker.take());
        }
        self.tell_owed(after);
        after.wakes.extend(self.call_worker_for_any()); // who closes has no more jobs to come
        if self.is_drained() {
            self.call_all_workers(after);
        }
    }
}

impl<J, R> Entry<J, R> {
    /// It will not run: whoever called it is told.
    fn drop_unrun(self, is_end_of_pool: bool) {
        let Self { job, called, .. } = self;
        if let Some(called) = called {
            called.ended_unrun(is_end_of_pool);
        }
        drop(job);
    }
}
