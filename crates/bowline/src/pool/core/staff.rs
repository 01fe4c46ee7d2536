//! The workers' side: who is there, who is woken when, and what each of them takes.

use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::super::elastic::Sample;
use super::books::Done;
use super::{After, Batch, Core, State, Terms};
use crate::limit::Limit;
use crate::resource::Who;
use crate::sync::{Arc, LockExt};

/// So much work has to wait before a worker is woken beside those at hand: less is done before a thread is awake.
const WORTH: Duration = Duration::from_micros(25);

/// Jobs that take longer are long beside what it takes to wake a thread: for those every worker is woken.
const LONG: Duration = Duration::from_micros(50);

/// A worker that has not come back for this long is at a job that takes longer than those before.
const LATE: Duration = Duration::from_micros(200);

/// The workers there are.
#[derive(Default)]
pub(super) struct Workers {
    pub(super) slots: Vec<Slot>,
    pub(super) alive: usize,
    /// Those who wait for a job; who came last is woken first, as its memory is the warmest.
    pub(super) idle: Vec<usize>,
    /// How many there are to be. Those beyond go when they find nothing to do.
    pub(super) wanted: usize,
    /// Those that go, and are not gone yet.
    pub(super) leaving: usize,
    /// The most that were at work at once since somebody asked.
    pub(super) peak_busy: usize,
    /// Whoever decides how many there are, while it waits for a reason to think.
    pub(super) rush: Option<Waker>,
    /// What says how many there are to be, where that follows from how jobs go; and whoever hires them, until somebody is missing.
    pub(super) limit: Option<Limit>,
    pub(super) short: Option<Waker>,
    pub(super) resized: u64,
    /// Those that are at short jobs, and take more without being woken.
    pub(super) at_hand: usize,
    /// When the last of those came.
    pub(super) taken: Option<Instant>,
    /// They have not come for too long.
    pub(super) are_late: bool,
    /// How long a job takes, as the last worker that came has measured.
    pub(super) per_job: Option<Duration>,
    /// Those of the runtime: more workers cannot be at short jobs at once.
    pub(super) threads: usize,
    /// One was woken and has not looked yet. It wakes the next if there is more than it takes: nobody is woken in vain.
    pub(super) waking: bool,
}

#[derive(Default)]
pub(super) struct Slot {
    pub(super) alive: bool,
    pub(super) waker: Option<Waker>,
    /// Woken, and has not looked yet.
    pub(super) woken: bool,
    /// It is at a job, or at several.
    pub(super) busy: Option<Who>,
    pub(super) leaving: bool,
    pub(super) at_hand: bool,
    pub(super) held: usize,
    pub(super) held_bytes: usize,
}

/// How fast a worker is.
#[derive(Clone, Copy)]
pub(in crate::pool) struct Pace {
    pub(in crate::pool) per_job: Option<Duration>,
    /// How many jobs it takes at most.
    pub(in crate::pool) most: usize,
}

/// What a worker is to do next.
pub(in crate::pool) enum Next {
    Work {
        /// And then give the turn away: somebody was woken who has this thread next, to bring more or to help.
        hands_over: bool,
    },
    /// Nothing is there; it will be woken.
    Idle,
    End,
}

impl Workers {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Handle::try_current();
        let threads = runtime.map_or(usize::MAX, |runtime| runtime.metrics().num_workers());
        Self { threads, ..Self::default() }
    }

    /// Somebody else has read it.
    pub(super) fn look_at_the_clock(&mut self, now: Instant) {
        let is_late = |taken| now.saturating_duration_since(taken) >= LATE;
        self.are_late = !cfg!(bowline_shuttle) && self.taken.is_some_and(is_late); // a model has no time
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.alive - self.leaving > self.wanted
    }

    pub(super) fn is_at_hand(&mut self, at: usize, is: bool) {
        let known = std::mem::replace(&mut self.slots[at].at_hand, is);
        self.at_hand = self.at_hand + usize::from(is) - usize::from(known);
    }

    /// Whether one more would be of use, where so many jobs wait. Those at hand come back by themselves.
    pub(super) fn could_use_one_more(&self, jobs: usize) -> bool {
        self.at_hand == 0
            || self.per_job.is_none_or(|per_job| per_job >= LONG)
            || self.at_hand < self.threads && self.is_worth_a_thread(jobs)
    }

    fn is_worth_a_thread(&self, jobs: usize) -> bool {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        self.per_job.is_some_and(|per_job| per_job.saturating_mul(jobs) >= WORTH)
    }

    /// How many more are wanted than there are.
    fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.alive - self.leaving)
    }

    /// The worker is awake, whoever woke it.
    pub(super) fn looks<J, R>(&mut self, at: usize, after: &mut After<J, R>) {
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
    /// Wakes a worker if there is enough to do for one more, and none on its way to look.
    pub(super) fn call_worker(&mut self) -> Option<Waker> {
        let jobs = self.queue.len();
        if jobs > 0 && (self.workers.are_late || self.workers.could_use_one_more(jobs)) {
            self.call_worker_for_any()
        } else {
            None
        }
    }

    /// Wakes a worker if there is anything to do for one more, and none on its way to look.
    pub(super) fn call_worker_for_any(&mut self) -> Option<Waker> {
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

    pub(super) fn call_all_workers(&mut self, after: &mut After<J, R>) {
        for at in std::mem::take(&mut self.workers.idle) {
            after.wakes.extend(self.workers.slots[at].waker.take());
        }
    }

    /// The worker has ended what it had taken.
    pub(super) fn settle(&mut self, at: usize, done: Done) {
        self.books.done.add(done);
        let slot = &mut self.workers.slots[at];
        self.held -= std::mem::take(&mut slot.held);
        self.held_bytes -= std::mem::take(&mut slot.held_bytes);
        slot.busy = None;
    }

    #[expect(clippy::too_many_arguments, reason = "see `Core::take`")]
    pub(super) fn take(
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
        // Where a limit says how many there are, those beyond do not wait until there is nothing to do.
        if self.workers.limit.is_some() && self.workers.are_too_many() && !self.is_drained() {
            self.workers.is_at_hand(at, false);
            self.tell_owed(after);
            return self.leaves(at);
        }
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
                return self.leaves(at);
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
        let woken = after.wakes.len();
        let are_long = pace.per_job.is_none_or(|per_job| per_job >= LONG);
        if are_long || self.waiting_jobs() <= terms.max_jobs / 2 {
            self.tell_owed(after);
        }
        self.look_at_height(terms, now, after);
        after.wakes.extend(self.call_worker());
        let is_for_several = self.workers.at_hand > 1 || self.workers.is_worth_a_thread(self.queue.len());
        Next::Work { hands_over: after.wakes.len() > woken && is_for_several }
    }

    fn leaves(&mut self, at: usize) -> Next {
        self.workers.leaving += 1;
        self.workers.slots[at].leaving = true;
        Next::End
    }

    fn want(&mut self, workers: usize, after: &mut After<J, R>) {
        let staff = &mut self.workers;
        staff.resized += u64::from(staff.wanted != 0 && staff.wanted != workers);
        staff.wanted = workers;
        let too_many = (staff.alive - staff.leaving).saturating_sub(workers).min(staff.idle.len());
        // From the front: who has been idle for longest.
        for at in staff.idle.drain(..too_many) {
            after.wakes.extend(staff.slots[at].waker.take());
        }
    }

    pub(super) fn take_along(&mut self, share: usize, batch: &mut Batch<J, R>) {
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
}

impl<J: Send + 'static, R: Send + 'static> Core<J, R> {
    /// A worker comes. It has the first place that is free.
    pub(in crate::pool) fn join(&self) -> usize {
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
    pub(in crate::pool) fn want(self: &Arc<Self>, workers: usize) {
        self.with(|state, after| state.want(workers, after));
    }

    /// From here on `limit` states it, from how long jobs take.
    pub(in crate::pool) fn adapt(self: &Arc<Self>, limit: Limit) {
        self.state.lock_unpoisoned().workers.limit = Some(limit);
    }

    /// A job has taken so long; `dropped` if it was lost to overload.
    pub(in crate::pool) fn learn(self: &Arc<Self>, latency: Duration, dropped: bool) {
        self.with(|state, after| {
            let in_flight = state.workers.alive - state.workers.leaving - state.workers.idle.len();
            let Some(limit) = &mut state.workers.limit else { return };
            let wanted = limit.observe(crate::limit::Sample { latency, in_flight, dropped });
            if wanted != state.workers.wanted {
                state.want(wanted, after);
                if state.workers.missing() > 0 {
                    after.wakes.extend(state.workers.short.take());
                }
            }
        });
    }

    /// How many workers are to be hired now. Wakes `waker` when there are more.
    pub(in crate::pool) fn missing(&self, waker: &Waker) -> usize {
        let waker = waker.clone();
        let _stale; // dropped outside of the lock
        let mut state = self.state.lock_unpoisoned();
        _stale = state.workers.short.replace(waker);
        let missing = state.workers.missing();
        drop(state);
        missing
    }

    /// What whoever decides how many workers there are goes by.
    pub(in crate::pool) fn sample(&self, now: Instant) -> Sample {
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
    pub(in crate::pool) fn is_rushed(&self, waker: &Waker) -> bool {
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
    pub(in crate::pool) fn take(
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
        if matches!(next, Next::Work { .. }) {
            state.workers.slots[at].busy = Some(Who::here(self.site.place, true));
        }
        drop(state);
        self.afterwards(after);
        next
    }

    /// The worker waits in a job, or gives its turn away: what it has taken along goes back to where it was, and nobody is left
    /// untold. `done` are those before.
    pub(in crate::pool) fn pause(
        self: &Arc<Self>,
        at: usize,
        done: Done,
        rest: &mut Batch<J, R>,
        is_in_a_job: bool,
    ) {
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
    pub(in crate::pool) fn part(self: &Arc<Self>, at: usize, done: Done, rest: &mut Batch<J, R>) {
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
}
