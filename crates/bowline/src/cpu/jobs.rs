//! The jobs of a lane, queued and running, and the threads that take them.
//!
//! A job lies in the queue until a thread begins it, so that its caller can take it back until then. A thread is
//! started for a job if there may be one more, and ends when it finds the queue empty: an idle lane has no threads of its own,
//! those of the runtime's pool wait for the next job of anybody.
//!
//! # Invariants
//!
//! 1. If jobs are queued, there are as many threads as there may be, or as there are jobs and more: a thread finds the queue
//!    empty and is counted off in one critical section, and so are the push of a job and the decision to start one.
//! 2. `accepted = completed + panicked + withdrawn + refused + queued + running`, at any moment.
//! 3. Admission: a job has one permit of `room` while it is queued and until the thread that begins it has let go of the
//!    lock, for a waiter is not woken under it; and as many of `bytes` as it weighs until it has ended.
//! 4. The next job's record is listed before the one before has ended, so the scope does not end between them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::time::Instant;

use crate::alert::{self, AlertKind, Subject};
use crate::cause::{Cancelled, Cause};
use crate::channel::FreeReply;
use crate::lock::{KeptPermit, Semaphore};
use crate::node::{Alive, Node, NodeKind, earliest};
use crate::panic::{Panic, caught};
use crate::record::{self, CANCEL, Kind, Record};
use crate::scope::list;
use crate::site::Site;
use crate::spawner;
use crate::sync::{Arc, LockExt, Mutex};
use crate::track::{Blocking, Ending};

/// What is in common to the handles of a lane, its threads, and the task that owns them.
pub(super) struct Jobs<J, R> {
    pub(super) site: &'static Site,
    pub(super) threads: usize,
    pub(super) job_limit: Option<Duration>,
    pub(super) weight: Option<Weight<J>>,
    pub(super) room: Semaphore,
    pub(super) state: Mutex<State<J, R>>,
}

/// What bounds the bytes of the jobs in a lane.
pub(super) struct Weight<J> {
    pub(super) max_bytes: usize,
    pub(super) size_of: fn(&J) -> usize,
    pub(super) bytes: Semaphore,
}

pub(super) struct State<J, R> {
    pub(super) queue: VecDeque<Job<J, R>>,
    pub(super) running: Vec<Running>,
    /// Threads that run, or were asked for.
    workers: usize,
    /// Where they live and what they do; none before the lane's task has begun.
    live: Option<Live<J, R>>,
    pub(super) closed: bool,
    pub(super) books: Books,
}

/// How many jobs came to what.
#[derive(Clone, Copy, Default)]
pub(super) struct Books {
    pub(super) accepted: u64,
    pub(super) completed: u64,
    pub(super) panicked: u64,
    pub(super) withdrawn: u64,
    pub(super) refused: u64,
    pub(super) abandoned: u64,
    pub(super) high_water: usize,
    pub(super) busy: Duration,
    pub(super) waited: Duration,
}

/// What a lane does with a job.
type Work<J, R> = Arc<dyn Fn(J) -> R + Send + Sync>;

struct Live<J, R> {
    node: Arc<Node>,
    work: Work<J, R>,
}

impl<J, R> Clone for Live<J, R> {
    fn clone(&self) -> Self {
        Self { node: Arc::clone(&self.node), work: Arc::clone(&self.work) }
    }
}

/// A job that was admitted.
pub(super) struct Job<J, R> {
    pub(super) id: u64,
    pub(super) item: J,
    pub(super) room: KeptPermit,
    pub(super) bytes: Option<KeptPermit>,
    /// The caller's.
    pub(super) deadline: Option<Instant>,
    pub(super) since: Instant,
    pub(super) reply: FreeReply<End<J, R>>,
    /// Told when it begins, if there is a limit to how long it may take.
    pub(super) begun: Option<Arc<tokio::sync::Notify>>,
}

/// What a job came to.
pub(super) enum End<J, R> {
    Done(R),
    Panicked(Panic),
    Refused(J),
}

pub(super) struct Running {
    id: u64,
    pub(super) record: Arc<Record>,
    pub(super) since: Instant,
    /// Nobody waits for it any more.
    pub(super) abandoned: bool,
}

impl<J, R> Default for State<J, R> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            running: Vec::new(),
            workers: 0,
            live: None,
            closed: false,
            books: Books::default(),
        }
    }
}

impl<J: Send + 'static, R: Send + 'static> Jobs<J, R> {
    /// The lane's task has begun: from here on there are threads.
    pub(super) fn go_live(self: &Arc<Self>, node: &Arc<Node>, work: Work<J, R>) {
        let live = Live { node: Arc::clone(node), work };
        let starts = {
            let mut state = self.state.lock_unpoisoned();
            state.live = Some(live.clone());
            state.workers = state.queue.len().min(self.threads);
            state.workers
        };
        for _ in 0..starts {
            self.start(live.clone());
        }
    }

    /// Takes a job in, and starts a thread for it if there may be one more. It comes back if the lane has ended.
    pub(super) fn submit(self: &Arc<Self>, job: Job<J, R>) -> Result<(), J> {
        let live = {
            let mut state = self.state.lock_unpoisoned();
            if state.closed {
                drop(state); // before the permits go back
                return Err(job.item);
            }
            state.queue.push_back(job);
            state.books.accepted += 1;
            state.books.high_water = state.books.high_water.max(state.queue.len());
            let starts = state.workers < self.threads && state.live.is_some();
            state.workers += usize::from(starts);
            state.live.clone().filter(|_| starts)
        };
        if let Some(live) = live {
            self.start(live);
        }
        Ok(())
    }

    fn start(self: &Arc<Self>, live: Live<J, R>) {
        match list(&live.node, self.site.name, self.site.place, Kind::Blocking) {
            Ok(record) => {
                let worker = Worker { jobs: Arc::clone(self), live, counted: true };
                let mut next = Some(turn(worker, record));
                drop(spawner::spawn_blocking(move || {
                    while let Some(one) = next.take() {
                        next = one.run::<OfLane<J, R>>().map(|(worker, record)| turn(worker, record));
                    }
                }));
            }
            // The scope was cancelled: its task ends the lane, and refuses what is queued.
            Err(_) => self.state.lock_unpoisoned().workers -= 1,
        }
    }

    /// The caller has left. Its job comes back if it was not begun; otherwise it is told to stop.
    pub(super) fn leave(&self, id: u64, cause: &Cause) -> Option<J> {
        let (withdrawn, record) = {
            let mut state = self.state.lock_unpoisoned();
            let at = state.queue.iter().position(|job| job.id == id);
            let withdrawn = at.and_then(|at| state.queue.remove(at));
            state.books.withdrawn += u64::from(withdrawn.is_some());
            let running = state.running.iter_mut().find(|running| running.id == id);
            let record = running.map(|running| {
                running.abandoned = true;
                Arc::clone(&running.record)
            });
            state.books.abandoned += u64::from(record.is_some());
            (withdrawn, record)
        };
        if let Some(record) = record {
            record.cancel(CANCEL, cause);
        }
        withdrawn.map(|job| job.item) // and its permits go back
    }

    /// When the job began, if it runs.
    pub(super) fn began(&self, id: u64) -> Option<Instant> {
        let state = self.state.lock_unpoisoned();
        state.running.iter().find(|running| running.id == id).map(|running| running.since)
    }

    /// Tells everybody that a job takes longer than it may.
    pub(super) fn alert(&self, limit: Duration) {
        let (name, place) = (self.site.name.into(), self.site.place);
        let text = format!("a job took longer than {} ms; it was told to stop", limit.as_millis());
        alert::raise(Subject { kind: AlertKind::JobTimedOut, name, place }, text);
    }

    /// Ends the lane: nobody is admitted any more, and what is queued goes back to its callers.
    pub(super) fn end(&self) {
        let (queue, _live) = {
            let mut state = self.state.lock_unpoisoned();
            state.closed = true;
            let queue = std::mem::take(&mut state.queue);
            state.books.refused += queue.len() as u64;
            (queue, state.live.take())
        };
        const ENDED: &str = "the lane has ended";
        self.room.close(ENDED);
        if let Some(weight) = &self.weight {
            weight.bytes.close(ENDED);
        }
        for Job { item, reply, .. } in queue {
            let _ = reply.send(End::Refused(item)); // a caller that has gone has dropped the right to it
        }
    }

    /// Takes the next job, under `record`; if there is none, counts the thread off.
    fn begin(&self, record: &Arc<Record>) -> Option<Job<J, R>> {
        let now = Instant::now();
        let mut state = self.state.lock_unpoisoned();
        let Some(job) = state.queue.pop_front() else {
            state.workers -= 1;
            return None;
        };
        state.books.waited += now.saturating_duration_since(job.since);
        state.running.push(Running { id: job.id, record: Arc::clone(record), since: now, abandoned: false });
        Some(job)
    }

    fn over(&self, id: u64, count: impl FnOnce(&mut Books)) {
        let now = Instant::now();
        let _record = {
            let mut state = self.state.lock_unpoisoned();
            let at = state.running.iter().position(|running| running.id == id);
            let running = at.map(|at| state.running.swap_remove(at));
            if let Some(running) = &running {
                state.books.busy += now.saturating_duration_since(running.since);
            }
            count(&mut state.books);
            running
        };
    }

    /// Whether there is more to do; if not, counts the thread off.
    fn goes_on(&self) -> bool {
        let mut state = self.state.lock_unpoisoned();
        let goes_on = !state.queue.is_empty();
        state.workers -= usize::from(!goes_on);
        goes_on
    }
}

/// A thread of a lane.
struct Worker<J: Send + 'static, R: Send + 'static> {
    jobs: Arc<Jobs<J, R>>,
    live: Live<J, R>,
    /// Whether it is among the workers.
    counted: bool,
}

impl<J: Send + 'static, R: Send + 'static> Worker<J, R> {
    /// Runs one job, whose record is the ambient one, and returns itself with the record of the next.
    fn run_one(mut self) -> Turn<J, R> {
        let record = record::current()?;
        let Some(job) = self.jobs.begin(&record) else {
            self.counted = false;
            return None;
        };
        let Job { id, item, room, bytes, deadline, reply, begun, .. } = job;
        drop(room);
        if let Some(begun) = begun {
            begun.notify_one();
        }
        let work = &self.live.work;
        let worked = catch_unwind(AssertUnwindSafe(|| with_deadline(&record, deadline, || work(item))));
        drop(bytes);
        let end = match worked {
            Ok(value) => {
                self.jobs.over(id, |books| books.completed += 1);
                End::Done(value)
            }
            Err(payload) => {
                let panic = caught(&record, payload);
                self.jobs.over(id, |books| books.panicked += 1);
                End::Panicked(panic)
            }
        };
        // The caller may be gone; then the result is dropped here, and its destructor must not take the thread along.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(reply.send(end)))) {
            caught(&record, payload);
        }
        self.counted = self.jobs.goes_on();
        if !self.counted {
            return None;
        }
        let site = self.jobs.site;
        // By invariant 4 before this one has ended. Refused, the scope was cancelled, and its task ends the lane.
        list(&self.live.node, site.name, site.place, Kind::Blocking).ok().map(|record| (self, record))
    }
}

/// A worker, and the record of the next.
type Turn<J, R> = Option<(Worker<J, R>, Arc<Record>)>;

/// One job as a blocking task.
fn turn<J: Send + 'static, R: Send + 'static>(
    worker: Worker<J, R>,
    record: Arc<Record>,
) -> Blocking<impl FnOnce() -> Turn<J, R>> {
    Blocking::new(record, move || worker.run_one())
}

impl<J: Send + 'static, R: Send + 'static> Drop for Worker<J, R> {
    fn drop(&mut self) {
        if self.counted {
            self.jobs.state.lock_unpoisoned().workers -= 1;
        }
    }
}

/// Runs `work` under the caller's deadline, if that comes before those of the lane.
fn with_deadline<R>(record: &Arc<Record>, deadline: Option<Instant>, work: impl FnOnce() -> R) -> R {
    /// A strand that ends however it is left.
    struct Under(Option<Arc<Record>>, #[expect(dead_code, reason = "it keeps the node open")] Alive);

    impl Drop for Under {
        fn drop(&mut self) {
            if let Some(strand) = &self.0 {
                strand.mark_ended();
            }
        }
    }

    let of_the_lane = record.node.deadline();
    if earliest(deadline, of_the_lane) == of_the_lane {
        return work();
    }
    let alive = Node::open(record.node.site, NodeKind::Timeout, Some(Arc::clone(record)), deadline, false);
    let mut under = Under(Some(alive.node().list_body()), alive);
    record::enter(&mut under.0, work)
}

/// The end of one turn of a thread: whether there is another.
struct OfLane<J, R>(std::marker::PhantomData<fn(J, R)>);

impl<J: Send + 'static, R: Send + 'static> Ending for OfLane<J, R> {
    type Output = Turn<J, R>;
    type Ended = Turn<J, R>;

    fn value(_record: &Arc<Record>, next: Turn<J, R>) -> Self::Ended {
        next
    }

    fn panicked(_record: &Arc<Record>, _panic: Panic) -> Self::Ended {
        None // what runs of others is caught within
    }

    fn cancelled(_record: &Arc<Record>, _cancelled: Cancelled) -> Self::Ended {
        None
    }
}
