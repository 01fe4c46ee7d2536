//! One job of a running schedule: its run, those that wait for it to end, and its books. Everything here happens under the lock of
//! the schedule, and calls no user code: what is to be dropped or told goes out in a [`Look`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::job::{Job, JobRun, Missed, Overlap, Work};
use super::plan::{Due, Plan};
use super::stats::{JobStats, RunEnd, RunReport, RunningJob};
use super::{LATE_AT_MOST, STOP_WITHIN};
use crate::alert::{AlertKind, Subject};
use crate::channel::FreeReply;
use crate::group::Member;

pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) job: Job,
    /// Taken when the schedule has ended: a closure may hold what others wait for.
    pub(super) work: Option<Arc<dyn Work>>,
    jitter: Duration,
    pub(super) plan: Plan,
    pub(super) paused: bool,
    /// No run begins any more; it goes when its run has ended.
    pub(super) removed: bool,
    /// From before it waits for a place to its end (invariant 2).
    pub(super) current: Option<Current>,
    line: VecDeque<Pending>,
    runs: u64,
    pub(super) books: Books,
    /// Whether "missed" stands.
    missed_stands: bool,
}

pub(super) struct Current {
    pub(super) run: JobRun,
    /// None while it waits for a place.
    began: Option<Instant>,
    /// Who asked it to stop, and when.
    asked: Option<(&'static str, Instant)>,
    reported: bool,
    /// None for the moment between the decision and the spawn.
    pub(super) member: Option<Member>,
    pub(super) reply: Option<FreeReply<RunReport>>,
}

/// A run that is due and waits for the one before to end.
pub(super) struct Pending {
    scheduled_for: SystemTime,
    missed: u64,
    reply: Option<FreeReply<RunReport>>,
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) due: u64,
    started: u64,
    ok: u64,
    failed: u64,
    panicked: u64,
    timed_out: u64,
    cancelled: u64,
    skipped: u64,
    missed: u64,
    pub(super) dropped: u64,
    last_start: Option<SystemTime>,
    last_duration: Option<Duration>,
    last_end: Option<RunEnd>,
}

/// What came of a look, to be done without the lock.
#[derive(Default)]
pub(super) struct Look {
    pub(super) starts: Vec<Start>,
    pub(super) told: Vec<Told>,
    pub(super) stop: Vec<(Member, &'static str)>,
    pub(super) scrap: Vec<Pending>,
    pub(super) wake: Option<Instant>,
    /// Nothing runs, and nothing will.
    pub(super) done: bool,
}

pub(super) struct Start {
    pub(super) entry: u64,
    pub(super) run: JobRun,
    pub(super) work: Arc<dyn Work>,
    pub(super) job: Job,
}

pub(super) enum Told {
    Raise(Subject, String),
    Clear(Subject, String),
}

impl Entry {
    pub(super) fn new(id: u64, job: Job, work: Arc<dyn Work>, now: Instant, wall: SystemTime) -> Self {
        // Drawn once, so that a job does not wander.
        let jitter = crate::dice::up_to(job.jitter);
        let plan = Plan::new(&job, job.last_run, jitter, now, wall);
        Self {
            id,
            job,
            work: Some(work),
            jitter,
            plan,
            paused: false,
            removed: false,
            current: None,
            line: VecDeque::new(),
            runs: 0,
            books: Books::default(),
            missed_stands: false,
        }
    }

    /// Goes on from now: what passed meanwhile was not due.
    pub(super) fn resume(&mut self, now: Instant, wall: SystemTime) {
        if std::mem::replace(&mut self.paused, false) {
            self.plan = Plan::new(&self.job, None, self.jitter, now, wall);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.line.is_empty()
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.job.name == name
    }

    /// Takes the times that have come since the last look.
    pub(super) fn take_due(&mut self, schedule: &str, now: Instant, wall: SystemTime, look: &mut Look) {
        if self.paused || self.removed {
            return;
        }
        let Some(due) = self.plan.take_due(now, wall, self.job.runs_at_once()) else { return };
        self.books.due += due.count;
        let is_late = due.late > LATE_AT_MOST;
        if due.count > 1 || is_late {
            self.missed_stands = true;
            let text = late_text(&due);
            look.told.push(Told::Raise(self.subject(schedule, AlertKind::JobMissed), text));
        } else if std::mem::take(&mut self.missed_stands) {
            let subject = self.subject(schedule, AlertKind::JobMissed);
            look.told.push(Told::Clear(subject, "on time again".to_owned()));
        }
        let Due { count, mut times, .. } = due;
        if self.job.missed == Missed::Skip && is_late {
            times.clear();
        }
        let lost = count - times.len() as u64;
        self.books.missed += lost;
        let stands_for = if self.job.missed == Missed::RunOnce { lost } else { 0 };
        if times.len() > 1 {
            self.line_up(times);
        } else if let Some(scheduled_for) = times.pop_front() {
            let _ = self.offer(Pending { scheduled_for, missed: stands_for, reply: None }, now, look);
        }
    }

    /// Runs that are made up for go one after the other, whatever the overlap. As many may wait as are made up for at once.
    fn line_up(&mut self, times: VecDeque<SystemTime>) {
        let room = self.job.runs_at_once().saturating_sub(self.line.len());
        let lost = times.len().saturating_sub(room);
        self.books.missed += lost as u64;
        let lines = times.into_iter().skip(lost);
        self.line.extend(lines.map(|scheduled_for| Pending { scheduled_for, missed: 0, reply: None }));
    }

    /// A run is due: decides by the overlap. Says whether it was skipped.
    fn offer(&mut self, pending: Pending, now: Instant, look: &mut Look) -> Result<(), Pending> {
        let waits = match (&mut self.current, self.job.overlap) {
            (None, _) if self.line.is_empty() => true,
            (_, Overlap::Skip) => false,
            (_, Overlap::QueueOne) => self.line.is_empty(),
            (current, Overlap::CancelPrevious) => {
                self.books.dropped += self.line.len() as u64;
                look.scrap.extend(self.line.drain(..));
                if let Some(current) = current {
                    look.stop.extend(current.stop("its next run is due", now));
                }
                true
            }
        };
        if waits {
            self.line.push_back(pending);
            return Ok(());
        }
        self.books.skipped += 1;
        Err(pending)
    }

    /// Somebody asks for a run. Gives the reply back if it is skipped.
    pub(super) fn request(
        &mut self,
        reply: FreeReply<RunReport>,
        now: Instant,
        wall: SystemTime,
        look: &mut Look,
    ) -> Result<(), Option<FreeReply<RunReport>>> {
        self.books.due += 1;
        let asked = Pending { scheduled_for: wall, missed: 0, reply: Some(reply) };
        self.offer(asked, now, look).map_err(|refused| refused.reply)
    }

    /// Whoever waits in line will not run.
    pub(super) fn drop_line(&mut self) -> VecDeque<Pending> {
        self.books.dropped += self.line.len() as u64;
        std::mem::take(&mut self.line)
    }

    /// Begins the next run if none is there.
    pub(super) fn next_start(&mut self) -> Option<Start> {
        if self.current.is_some() {
            return None;
        }
        let work = Arc::clone(self.work.as_ref()?);
        let Pending { scheduled_for, missed, reply } = self.line.pop_front()?;
        self.runs += 1;
        let run = JobRun { job: self.job.name, number: self.runs, scheduled_for, missed };
        self.current = Some(Current { run, began: None, asked: None, reported: false, member: None, reply });
        Some(Start { entry: self.id, run, work, job: self.job.clone() })
    }

    /// Reports a run that was asked to stop and has not, once; says when to look again.
    pub(super) fn report_stuck(&mut self, schedule: &str, now: Instant, look: &mut Look) -> Option<Instant> {
        let limit = self.job.limit;
        let current = self.current.as_mut().filter(|current| !current.reported)?;
        let asked = current.asked.map(|(_, at)| at);
        // Before it has a place its time does not run: it cannot be over before one that began now.
        let over = current.began.unwrap_or(now).checked_add(limit);
        let stop = [over, asked].into_iter().flatten().min()?;
        let report_at = stop.checked_add(STOP_WITHIN)?;
        if report_at > now {
            return Some(report_at);
        }
        current.reported = true;
        let why = current.asked.map_or("its time is over", |(reason, _)| reason);
        let text = format!(
            "run {} was cancelled ({why}) and has not stopped for {STOP_WITHIN:?}: it blocks its thread, or waits in a shield",
            current.run.number
        );
        look.told.push(Told::Raise(self.subject(schedule, AlertKind::JobTimedOut), text));
        None
    }

    // ---- what a run says

    pub(super) fn began(&mut self, number: u64, now: Instant, wall: SystemTime) {
        if let Some(current) = self.current.as_mut().filter(|current| current.run.number == number) {
            current.began = Some(now);
            self.books.started += 1;
            self.books.last_start = Some(wall);
        }
    }

    /// The run is gone. `end` is none if it never began.
    pub(super) fn ended(
        &mut self,
        schedule: &str,
        end: Option<&RunEnd>,
        took: Duration,
    ) -> (Option<Current>, Vec<Told>) {
        let current = self.current.take();
        let Some(end) = end else {
            self.books.dropped += 1;
            return (current, Vec::new());
        };
        let books = &mut self.books;
        let before = books.last_end.replace(end.clone());
        books.last_duration = Some(took);
        let (count, alert) = match end {
            RunEnd::Ok => (&mut books.ok, None),
            RunEnd::Failed(_) => (&mut books.failed, Some(AlertKind::JobFailed)),
            RunEnd::Panicked(_) => (&mut books.panicked, Some(AlertKind::JobFailed)),
            RunEnd::TimedOut => (&mut books.timed_out, Some(AlertKind::JobTimedOut)),
            RunEnd::Cancelled => (&mut books.cancelled, None),
        };
        *count += 1;
        let number = current.as_ref().map_or(self.runs, |current| current.run.number);
        let mut told = Vec::new();
        if let Some(kind) = alert {
            let text = format!("run {number} {end} after {took:.1?}");
            told.push(Told::Raise(self.subject(schedule, kind), text));
        }
        if *end == RunEnd::Ok && before.is_some_and(|before| before != RunEnd::Ok) {
            for kind in [AlertKind::JobFailed, AlertKind::JobTimedOut] {
                told.push(Told::Clear(self.subject(schedule, kind), format!("run {number} went well")));
            }
        }
        (current, told)
    }

    // ---- views

    pub(super) fn stats(&self, now: Instant, wall: SystemTime) -> JobStats {
        let Books {
            due, started, ok, failed, panicked, timed_out, cancelled, skipped, missed, dropped, ..
        } = self.books;
        let has_begun = self.current.as_ref().map(|current| current.began.is_some());
        JobStats {
            name: self.job.name,
            place: format!("{}:{}", self.job.place.file(), self.job.place.line()),
            when: self.job.when.to_string(),
            overlap: self.job.overlap,
            missed_policy: self.job.missed,
            paused: self.paused,
            due,
            started,
            ok,
            failed,
            panicked,
            timed_out,
            cancelled,
            skipped,
            missed,
            dropped,
            running: usize::from(has_begun == Some(true)),
            waiting: self.line.len() + usize::from(has_begun == Some(false)),
            last_start: self.books.last_start,
            last_duration: self.books.last_duration,
            last_end: self.books.last_end.clone(),
            next: self.next_time(now, wall),
        }
    }

    pub(super) fn next_time(&self, now: Instant, wall: SystemTime) -> Option<SystemTime> {
        if self.paused || self.removed || self.work.is_none() {
            return None;
        }
        self.plan.next_time(now, wall)
    }

    pub(super) fn running(&self, now: Instant) -> Option<RunningJob> {
        let current = self.current.as_ref()?;
        let JobRun { job, number, scheduled_for, .. } = current.run;
        let state = current.member.as_ref().and_then(Member::state);
        Some(RunningJob {
            job,
            number,
            scheduled_for,
            running_for: current.began.map(|began| now.saturating_duration_since(began)),
            asked_to_stop: current.asked.map(|(reason, _)| reason),
            task: current.member.as_ref().and_then(Member::id),
            state,
        })
    }

    fn subject(&self, schedule: &str, kind: AlertKind) -> Subject {
        Subject { kind, name: format!("{schedule}/{}", self.job.name).into(), place: self.job.place }
    }
}

impl Current {
    /// Asks it to stop, once; somebody else has to do it.
    pub(super) fn stop(&mut self, reason: &'static str, now: Instant) -> Option<(Member, &'static str)> {
        if self.asked.is_some() {
            return None;
        }
        self.asked = Some((reason, now));
        self.member.clone().map(|member| (member, reason))
    }

    /// Its task is there. Gives the reason if it was asked to stop meanwhile.
    pub(super) fn spawned(&mut self, member: Member) -> Option<&'static str> {
        self.member = Some(member);
        self.asked.map(|(reason, _)| reason)
    }
}

fn late_text(due: &Due) -> String {
    let Due { count, late, .. } = due;
    format!(
        "due {count} time(s) since the last look, the newest {late:.1?} ago: the process was busy, suspended or down, or its clock was \
         set forward"
    )
}
