//! A worker: takes jobs, a share of the queue at a time, and polls them in place.
//!
//! # How many at once
//!
//! One lock per job would cost as much as a short job itself, so a worker takes several: its share of what is there, or all
//! of it if that is too little for two, and no more than it does in [`BATCH_TIME`], as measured. A job that is not ready in its first poll is none of the short ones:
//! what was taken along with it goes back to the front of the queue, before anybody waits for it. So a slow job holds
//! up nobody; one that blocks its thread holds up what was taken along with it, and that thread.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop::{has_budget_remaining, poll_proceed};
use tokio::time::Instant;

use super::call::{Call, JobEnd};
use super::core::{self, After, Batch, Core, Done, Entry, Next};
use super::job::{Begin as _, Handler, Owned};
use crate::cause::{Cancelled, Cause};
use crate::panic::caught;
use crate::record::{self, CANCEL};
use crate::sync::Arc;
use crate::testing::trial;
use crate::track::{Leaf, Shield};
use crate::wait::{Op, Wait};
use crate::waker;

/// What a worker takes at once is to be done in this time: long beside a lock, short beside what anybody waits for.
const BATCH_TIME: Duration = Duration::from_micros(50);

/// The most jobs that are taken at once, however short they are.
const MOST_AT_ONCE: usize = 128;

/// What tokio lets a task do in a turn, in operations of its own.
const TURN_IN_TOKIO: usize = 128;

/// A worker gives its turn away after this time, so that others on its thread have theirs.
const TURN: Duration = Duration::from_micros(100);

pin_project! {
    pub(super) struct Worker<J, R, F, Fut>
    where
        J: Send,
        J: 'static,
        R: Send,
        R: 'static,
    {
        core: Arc<Core<J, R>>,
        handler: Arc<Handler<J, R, F>>,
        at: usize,
        // Taken and not begun.
        batch: Batch<J, R>,
        // A job that was submitted, where it is polled.
        #[pin]
        job: Option<Fut>,
        // A job with a context of its own.
        owned: Option<Owned<R>>,
        // Its caller.
        call: Option<Arc<Call<R>>>,
        // From the moment at which the pool was cancelled during a job that says goodbye.
        shield: Option<Shield>,
        // Whether a job has begun that is not counted in `done`.
        begun: bool,
        // When, where the pool learns from that.
        job_began: Option<Instant>,
        done: Done,
        pace: Pace,
        spare: Option<Waker>,
        leaf: Leaf,
        after: After<J, R>,
    }

    impl<J, R, F, Fut> PinnedDrop for Worker<J, R, F, Fut>
    where
        J: Send,
        J: 'static,
        R: Send,
        R: 'static,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let dropped = catch_unwind(AssertUnwindSafe(|| {
                this.job.set(None);
                *this.owned = None;
            }));
            this.done.cancelled += u64::from(*this.begun);
            if let Some(call) = this.call.take() {
                let why = Leaf::check().err().unwrap_or_else(|| Cancelled::new(Cause::Aborted));
                call.answer(JobEnd::Cancelled(why));
            }
            this.core.part(*this.at, std::mem::take(this.done), this.batch);
            dropped.unwrap_or_else(|payload| resume_unwind(payload));
        }
    }
}

/// Says to tokio what it cannot see: that so many jobs were a turn. Otherwise a submitter and a worker that wake each other are
/// taken for two tasks that starve the others, and every few polls another thread is woken to take one of them over.
fn use_up_the_turn(cx: &mut Context<'_>) {
    for _ in 0..TURN_IN_TOKIO {
        if !has_budget_remaining() {
            return;
        }
        if let Poll::Ready(progress) = poll_proceed(cx) {
            progress.made_progress();
        }
    }
}

/// How long jobs take here, and what follows for the next batch.
struct Pace {
    /// Smoothed, of jobs that were ready in their first poll; one that was not counts as [`BATCH_TIME`].
    per_job: Option<Duration>,
    /// When the batch began, and of how many it is.
    began: Option<(Instant, u32)>,
    turn_began: Option<Instant>,
    /// The turn ends with this batch.
    hands_over: bool,
}

impl Pace {
    fn note(&mut self, per_job: Duration) {
        self.per_job = Some(match self.per_job {
            None => per_job,
            Some(known) => (known * 7 + per_job) / 8,
        });
    }

    fn batch_ended(&mut self, now: Instant) {
        if let Some((began, jobs)) = self.began.take() {
            self.note(now.saturating_duration_since(began) / jobs);
        }
    }

    /// What the pool is to know of it.
    fn says(&self) -> core::Pace {
        if cfg!(bowline_shuttle) {
            return core::Pace { per_job: Some(Duration::from_micros(5)), most: 2 }; // a model has no time
        }
        let most = self.per_job.map_or(1, |per_job| BATCH_TIME.as_nanos() / per_job.as_nanos().max(1));
        let most = usize::try_from(most).unwrap_or(MOST_AT_ONCE).clamp(1, MOST_AT_ONCE);
        core::Pace { per_job: self.per_job, most }
    }

    fn turn_is_over(&mut self, now: Instant) -> bool {
        let began = *self.turn_began.get_or_insert(now);
        let takes_too_long = !cfg!(bowline_shuttle) && now.saturating_duration_since(began) >= TURN;
        std::mem::take(&mut self.hands_over) || takes_too_long
    }
}

impl<J, R, F, Fut> Worker<J, R, F, Fut>
where
    J: Send + 'static,
    R: Send + 'static,
{
    pub(super) fn new(core: Arc<Core<J, R>>, handler: Arc<Handler<J, R, F>>) -> Self {
        let at = core.join();
        Self {
            core,
            handler,
            at,
            batch: VecDeque::new(),
            job: None,
            owned: None,
            call: None,
            shield: None,
            begun: false,
            job_began: None,
            done: Done::default(),
            pace: Pace { per_job: None, began: None, turn_began: None, hands_over: false },
            spare: None,
            leaf: Leaf::default(),
            after: After::default(),
        }
    }
}

impl<J, R, F, Fut> Worker<J, R, F, Fut>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    /// Works until there is nothing to do, a job waits, or the turn is over.
    fn work(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Cancelled>> {
        loop {
            let mut this = self.as_mut().project();
            if let Some(job) = this.job.as_mut().as_pin_mut() {
                let Poll::Ready(result) = job.poll(cx) else {
                    self.wait_in_job();
                    return Poll::Pending;
                };
                this.job.set(None);
                let is_failure = (this.handler.is_failure)(&result);
                drop(result);
                *if is_failure { &mut this.done.failed } else { &mut this.done.completed } += 1;
                *this.begun = false;
                if let Some(began) = this.job_began.take() {
                    this.core.learn(began.elapsed(), false);
                }
            } else if this.owned.is_some() {
                let Poll::Ready(end) = self.as_mut().poll_owned(cx) else {
                    self.wait_in_job();
                    return Poll::Pending;
                };
                let this = self.as_mut().project();
                *this.owned = None;
                *this.shield = None;
                end.count(this.handler.is_failure, this.done);
                *this.begun = false;
                if let (Some(began), Some(dropped)) = (this.job_began.take(), end.is_lost()) {
                    this.core.learn(began.elapsed(), dropped);
                }
                if let Some(call) = this.call.take() {
                    call.answer(end);
                }
            }
            let mut this = self.as_mut().project();
            if let Some((_, Some(Entry { job, called, .. }))) = this.batch.pop_front() {
                *this.begun = true;
                *this.job_began = this.handler.adapts.then(Instant::now);
                if called.is_none() && this.handler.job_timeout.is_none() {
                    this.job.set(Some((this.handler.run)(job)));
                } else if let Some(called) = called {
                    if called.is_cancelled() {
                        this.done.cancelled += 1;
                        *this.begun = false;
                        called.call.answer(JobEnd::Cancelled(called.why()));
                        continue;
                    }
                    *this.call = Some(Arc::clone(&called.call));
                    *this.owned = Some(Arc::clone(this.handler).begin_in(called.alive, job));
                } else {
                    *this.owned = Some(this.handler.begin(job));
                }
                continue;
            }
            if let Some(next) = self.as_mut().next_batch(cx) {
                return next;
            }
        }
    }

    /// `None`: there is something to do.
    fn next_batch(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Poll<Result<(), Cancelled>>> {
        let this = self.project();
        if let Err(cancelled) = Leaf::check() {
            return Some(Poll::Ready(Err(cancelled))); // the drop does the rest
        }
        let now = Instant::now();
        this.pace.batch_ended(now);
        let done = std::mem::take(this.done);
        if this.pace.turn_is_over(now) {
            this.core.pause(*this.at, done, this.batch, false);
            cx.waker().wake_by_ref();
            return Some(Poll::Pending);
        }
        waker::leaf(cx, |waker| {
            if !this.spare.as_ref().is_some_and(|spare| spare.will_wake(waker)) {
                *this.spare = Some(waker.clone());
            }
        });
        let mut pace = this.pace.says();
        if this.handler.adapts || this.handler.job_timeout.is_some() {
            pace.most = 1;
        }
        match this.core.take(*this.at, done, pace, now, this.batch, this.spare, this.after) {
            Next::Work { hands_over } => {
                this.pace.hands_over = hands_over;
                let jobs = u32::try_from(this.batch.len()).unwrap_or(u32::MAX);
                this.pace.began = Some((now, jobs));
                this.leaf.clear();
                None
            }
            Next::End => Some(Poll::Ready(Ok(()))),
            Next::Idle => Some(match this.leaf.park(cx, Wait { op: Op::Job, on: this.core.id }) {
                Ok(()) => {
                    use_up_the_turn(cx);
                    Poll::Pending
                }
                Err(cancelled) => Poll::Ready(Err(cancelled)),
            }),
        }
    }

    /// The job waits for something. What was taken along with it goes back.
    fn wait_in_job(self: Pin<&mut Self>) {
        let this = self.project();
        if this.pace.began.take().is_some() {
            this.pace.note(BATCH_TIME);
            this.core.pause(*this.at, std::mem::take(this.done), this.batch, true);
        }
    }

    /// Polls a job with a context of its own: when the pool is cancelled it is told, and may say goodbye under a shield.
    fn poll_owned(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<JobEnd<R>> {
        let this = self.project();
        let Some(owned) = this.owned else { unreachable!("asked before") };
        let verdict = Leaf::check();
        if let Poll::Ready(end) = owned.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        if let (Err(why), Some(call)) = (verdict, &this.call) {
            call.node.cancel_because(CANCEL, &why);
            if let Poll::Ready(end) = owned.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            this.shield.get_or_insert_with(Shield::raise);
        }
        Poll::Pending
    }

    /// The job panicked, or the drop of what it left.
    fn panicked(self: Pin<&mut Self>, payload: Box<dyn std::any::Any + Send>) {
        let mut this = self.project();
        let Some(record) = record::current().filter(|_| std::mem::take(this.begun)) else {
            resume_unwind(payload); // it was not the job's
        };
        let panic = caught(&record, payload);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            this.job.set(None);
            *this.owned = None;
        }));
        *this.shield = None;
        *this.job_began = None;
        this.done.panicked += 1;
        match this.call.take() {
            Some(call) => call.answer(JobEnd::Panicked(panic)),
            None => trial::note_unkept_panic(&record.node, &panic),
        }
    }
}

impl<J, R, F, Fut> Future for Worker<J, R, F, Fut>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.as_mut().project().pace.turn_began = None;
        loop {
            // Once per poll, not per job: only a panic begins another round.
            match catch_unwind(AssertUnwindSafe(|| self.as_mut().work(cx))) {
                Ok(polled) => return polled,
                Err(payload) => self.as_mut().panicked(payload),
            }
        }
    }
}
