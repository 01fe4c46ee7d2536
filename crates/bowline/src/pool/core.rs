//! The pool itself: one lock around the queue, the line of those who wait for room, the workers, and the books.
//!
//! What happens in one critical section is here, by sides: `line` for those who have jobs, `staff` for workers, `books` for what
//! is counted, `views` for those who look.
//!
//! See the invariants in the module above. What is to be woken, dropped or told is put into [`After`] and done once the lock is
//! released.

mod books;
mod line;
mod staff;
mod views;
#[cfg(test)]
mod wakes;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Called;
use super::marks::Marks;
use super::row::Row;
use super::stats::PoolState;
use crate::alert::{self, AlertKind, Subject};
use crate::queue::Overflow;
use crate::record::next_id;
use crate::resource::{self, Resource, Who};
use crate::site::Site;
use crate::sync::{Arc, LockExt, Mutex};

use books::{Books, High};
use staff::Workers;

pub(super) use books::Done;
pub(super) use line::Offered;
pub(super) use staff::{Next, Pace};

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

impl<J, R> Default for After<J, R> {
    fn default() -> Self {
        Self { wakes: Vec::new(), stale: Vec::new(), gone: Vec::new(), ended: false, high: None, list: false }
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
        if let Some(now) = self.marks.came(number, into_empty, now) {
            self.workers.look_at_the_clock(now);
        }
        self.books.high_water = self.books.high_water.max(self.waiting_jobs());
    }

    /// Whether nothing can come any more.
    fn is_drained(&self) -> bool {
        self.phase != PoolState::Open && self.waiting_jobs() == 0
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
            workers: Workers::new(),
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

impl<J, R> State<J, R> {
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
