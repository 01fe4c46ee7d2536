//! What the handles, the runs and the task of a schedule share.

use std::panic::Location;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::WallClock;
use super::entry::{Current, Entry, Look, Told};
use super::job::{Job, Work};
use super::jobs::{AddJobError, TriggerError, UnknownJob};
use super::plan;
use super::stats::{RunEnd, RunReport, RunningJob, ScheduleStats};
use crate::alert;
use crate::channel::FreeReply;
use crate::group::Member;
use crate::lock::{FreeNotifier, Latch, Semaphore};
use crate::sync::{Arc, LockExt, Mutex};

pub(super) struct Inner {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    at_most_running: usize,
    max_jobs: usize,
    clock: Arc<WallClock>,
    /// The places of the runs (invariant 4).
    pub(super) places: Semaphore,
    /// Wakes the task: look again.
    changed: FreeNotifier,
    /// Open when the task is gone.
    pub(super) gone: Latch,
    state: Mutex<State>,
}

struct State {
    entries: Vec<Entry>,
    next_id: u64,
    /// Both clocks at the last look.
    seen: Option<(Instant, SystemTime)>,
    /// No run begins any more.
    stopped: bool,
}

impl Inner {
    #[track_caller]
    pub(super) fn new(schedule: super::Schedule, changed: FreeNotifier, gone: Latch) -> Self {
        let super::Schedule { name, place, at_most_running, max_jobs, clock, jobs } = schedule;
        let (now, wall) = (Instant::now(), clock());
        let entries = (0..).zip(jobs).map(|(id, (job, work))| Entry::new(id, job, work, now, wall));
        let entries: Vec<Entry> = entries.collect();
        let state = State { next_id: entries.len() as u64, entries, seen: None, stopped: false };
        Self {
            name,
            place,
            at_most_running,
            max_jobs,
            clock,
            places: Semaphore::new(name, at_most_running),
            changed,
            gone,
            state: Mutex::new(state),
        }
    }

    /// Both clocks. The wall clock may be the user's: never under the lock.
    fn clocks(&self) -> (Instant, SystemTime) {
        (Instant::now(), (self.clock)())
    }

    // ---- the task

    /// Decides what is to be done now, and when to look again.
    pub(super) fn look(&self) -> Look {
        let (now, wall) = self.clocks();
        let mut look = Look::default();
        let mut guard = self.state.lock_unpoisoned();
        let state = &mut *guard;
        let before = state.seen.replace((now, wall));
        if !state.stopped {
            let back = before.map_or(Duration::ZERO, |(then, read)| {
                let expected = read.checked_add(now.saturating_duration_since(then)).unwrap_or(wall);
                plan::since(expected, wall)
            });
            for entry in &mut state.entries {
                if back > Duration::ZERO {
                    entry.plan.clock_went_back(back, wall);
                }
                entry.take_due(self.name, now, wall, &mut look);
            }
        }
        let mut wake = None;
        for entry in &mut state.entries {
            look.starts.extend(entry.next_start());
            let stuck = entry.report_stuck(self.name, now, &mut look);
            let due =
                entry.plan.look_at(now, wall).filter(|_| !state.stopped && !entry.paused && !entry.removed);
            wake = [wake, stuck, due].into_iter().flatten().min();
        }
        // First come, first served: they stand in line for a place in this order.
        look.starts.sort_by_key(|start| start.run.scheduled_for);
        look.wake = wake;
        look.done = state.stopped && state.entries.iter().all(|entry| entry.current.is_none());
        look
    }

    /// The task of a run is there.
    pub(super) fn spawned(&self, entry: u64, number: u64, member: Member) {
        let stop = {
            let mut state = self.state.lock_unpoisoned();
            // Faster than we are, it may have ended.
            let current = state.current(entry, number);
            current.and_then(|current| current.spawned(member.clone()))
        };
        if let Some(reason) = stop {
            member.cancel(reason);
        }
    }

    /// Nothing can happen any more: the task is gone, and so are all runs.
    pub(super) fn over(&self) {
        self.stop();
        let work: Vec<_> = {
            let mut state = self.state.lock_unpoisoned();
            state.entries.iter_mut().map(|entry| entry.work.take()).collect()
        };
        drop(work); // without the lock: closures of the user
    }

    // ---- a run

    pub(super) fn began(&self, entry: u64, number: u64, now: Instant) {
        let wall = (self.clock)();
        let mut state = self.state.lock_unpoisoned();
        if let Some(entry) = state.entries.iter_mut().find(|known| known.id == entry) {
            entry.began(number, now, wall);
        }
    }

    /// A run is gone, its future dropped. `end` is none if it never began.
    pub(super) fn ended(&self, id: u64, end: Option<RunEnd>, took: Duration) {
        let (current, told, removed) = {
            let mut state = self.state.lock_unpoisoned();
            let Some(at) = state.entries.iter().position(|known| known.id == id) else { return };
            let (current, told) = state.entries[at].ended(self.name, end.as_ref(), took);
            let is_gone = state.entries[at].removed;
            (current, told, is_gone.then(|| state.entries.remove(at)))
        };
        drop(removed); // without the lock, as above
        tell(told);
        if let (Some(Current { run, reply: Some(reply), .. }), Some(end)) = (current, end) {
            let _ = reply.send(RunReport { number: run.number, end, took });
        }
        self.changed.notify_one();
    }

    // ---- handles

    pub(super) fn stop(&self) {
        let scrap: Vec<_> = {
            let mut state = self.state.lock_unpoisoned();
            state.stopped = true;
            state.entries.iter_mut().map(Entry::drop_line).collect()
        };
        drop(scrap); // replies: whoever waits is woken
        self.changed.notify_one();
    }

    pub(super) fn add(&self, job: Job, work: Arc<dyn Work>) -> Result<(), AddJobError> {
        let (now, wall) = self.clocks();
        {
            let mut state = self.state.lock_unpoisoned();
            if state.stopped {
                return Err(AddJobError::Stopped { job });
            }
            if state.entries.iter().any(|known| known.is_named(job.name)) {
                return Err(AddJobError::Duplicate { job });
            }
            if state.entries.len() >= self.max_jobs {
                return Err(AddJobError::Full { job, max_jobs: self.max_jobs });
            }
            let id = state.next_id;
            state.next_id += 1;
            state.entries.push(Entry::new(id, job, work, now, wall));
        }
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), UnknownJob> {
        let (scrap, gone) = {
            let mut state = self.state.lock_unpoisoned();
            let at = state.position(name)?;
            let entry = &mut state.entries[at];
            entry.removed = true;
            let scrap = entry.drop_line();
            (scrap, entry.is_idle().then(|| state.entries.remove(at)))
        };
        drop((scrap, gone));
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn pause(&self, name: &str) -> Result<(), UnknownJob> {
        let scrap = {
            let mut state = self.state.lock_unpoisoned();
            let at = state.position(name)?;
            let entry = &mut state.entries[at];
            entry.paused = true;
            entry.drop_line()
        };
        drop(scrap);
        Ok(())
    }

    pub(super) fn resume(&self, name: &str) -> Result<(), UnknownJob> {
        let (now, wall) = self.clocks();
        {
            let mut state = self.state.lock_unpoisoned();
            let at = state.position(name)?;
            state.entries[at].resume(now, wall);
        }
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn cancel(&self, name: &str, reason: &'static str) -> Result<(), UnknownJob> {
        let stop = {
            let mut state = self.state.lock_unpoisoned();
            let at = state
                .entries
                .iter()
                .position(|known| known.is_named(name))
                .ok_or_else(|| UnknownJob::of(name))?;
            state.entries[at].current.as_mut().and_then(|current| current.stop(reason, Instant::now()))
        };
        if let Some((member, reason)) = stop {
            member.cancel(reason);
        }
        self.changed.notify_one(); // the task watches how long it takes
        Ok(())
    }

    pub(super) fn request(&self, name: &str, reply: FreeReply<RunReport>) -> Result<(), TriggerError> {
        let (now, wall) = self.clocks();
        let mut look = Look::default();
        let asked = {
            let mut state = self.state.lock_unpoisoned();
            if state.stopped {
                return Err(TriggerError::Stopped);
            }
            let at = state.position(name).map_err(TriggerError::Unknown)?;
            state.entries[at].request(reply, now, wall, &mut look)
        };
        for (member, reason) in look.stop.drain(..) {
            member.cancel(reason);
        }
        drop(look);
        self.changed.notify_one();
        asked.map_err(|reply| {
            drop(reply);
            TriggerError::Busy
        })
    }

    // ---- views

    pub(super) fn next(&self, name: &str) -> Option<SystemTime> {
        let (now, wall) = self.clocks();
        let state = self.state.lock_unpoisoned();
        let at = state.position(name).ok()?;
        state.entries[at].next_time(now, wall).filter(|_| !state.stopped)
    }

    pub(super) fn running(&self) -> Vec<RunningJob> {
        let now = Instant::now();
        let state = self.state.lock_unpoisoned();
        state.entries.iter().filter_map(|entry| entry.running(now)).collect()
    }

    pub(super) fn stats(&self) -> ScheduleStats {
        let (now, wall) = self.clocks();
        let state = self.state.lock_unpoisoned();
        let mut jobs: Vec<_> = state.entries.iter().map(|entry| entry.stats(now, wall)).collect();
        if state.stopped {
            jobs.iter_mut().for_each(|job| job.next = None);
        }
        ScheduleStats {
            name: self.name,
            place: format!("{}:{}", self.place.file(), self.place.line()),
            stopped: state.stopped,
            at_most_running: self.at_most_running,
            max_jobs: self.max_jobs,
            running: jobs.iter().map(|job| job.running).sum(),
            waiting: jobs.iter().map(|job| job.waiting).sum(),
            jobs,
        }
    }
}

impl State {
    /// A job that was removed is not known any more, though its name is taken until its run has ended.
    fn position(&self, name: &str) -> Result<usize, UnknownJob> {
        let found = self.entries.iter().position(|known| known.is_named(name) && !known.removed);
        found.ok_or_else(|| UnknownJob::of(name))
    }

    fn current(&mut self, id: u64, number: u64) -> Option<&mut Current> {
        let entry = self.entries.iter_mut().find(|known| known.id == id)?;
        entry.current.as_mut().filter(|current| current.run.number == number)
    }
}

/// Tells those who listen; they are user code.
pub(super) fn tell(told: Vec<Told>) {
    for told in told {
        match told {
            Told::Raise(subject, text) => alert::raise(subject, text),
            Told::Clear(subject, text) => alert::clear(&subject, text),
        }
    }
}
