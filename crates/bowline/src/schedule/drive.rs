//! The task of a schedule, and the task of each run.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::time::Instant;

use super::Schedule;
use super::entry::{Look, Start};
use super::jobs::Jobs;
use super::state::{Inner, tell};
use super::stats::{RunEnd, SCHEDULES};
use crate::carry::Cx;
use crate::cause::Cancelled;
use crate::combine::race;
use crate::context::{is_cancelled, until_draining};
use crate::group::{Discard, Group, group};
use crate::lock::{FreeCount, Notify};
use crate::owner::{Owner, Tie};
use crate::panic::{self, Panic};
use crate::record;
use crate::sleep::sleep_until;
use crate::sync::Arc;
use crate::timeout::timeout;

type Runs = Group<(), Cancelled, Discard>;

#[track_caller]
pub(super) fn start(schedule: Schedule, owner: &impl Owner) -> Jobs {
    let (name, place) = (schedule.name, schedule.place);
    let cx = Cx::here();
    let (notifier, changed) = cx.notify(name);
    let (count, gone) = cx.latch(name);
    let inner = Arc::new(Inner::new(schedule, notifier.free(), gone));
    SCHEDULES.list(&inner);
    let over = Over { inner: Arc::clone(&inner), _count: count.free() };
    let part = async move {
        let inner = Arc::clone(&over.inner);
        let _ = group("runs", Discard, async |runs: &Runs| drive(&inner, runs, changed).await).await;
        drop(over);
        Ok(())
    };
    // Refused, it is dropped, and `over` with it: the handle will say so.
    let _ = owner.own(name, place, Tie::Stays, part);
    Jobs::of(inner)
}

/// Held by the task of a schedule, also before its first poll: whatever ends it, nobody waits for a run any more.
struct Over {
    inner: Arc<Inner>,
    _count: FreeCount,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.inner.over();
    }
}

async fn drive(inner: &Arc<Inner>, runs: &Runs, changed: Notify) {
    let mut draining = false;
    loop {
        let notified = changed.notified(); // first: what changes from here on counts
        let Look { starts, told, stop, scrap, wake, done } = inner.look();
        drop(scrap);
        for start in starts {
            let (entry, number) = (start.entry, start.run.number);
            let (name, place) = (start.run.job, start.job.place);
            let going = Going { inner: Arc::clone(inner), entry, number, began: None, ended: None };
            let member = runs.spawn_from(name, place, run(going, start));
            inner.spawned(entry, number, member);
        }
        for (member, reason) in stop {
            member.cancel(reason);
        }
        tell(told);
        if done {
            return;
        }
        let nap = race(async { notified.await.is_ok() }, async {
            match wake {
                Some(at) => sleep_until(at).await.is_ok(),
                None => std::future::pending().await,
            }
        });
        let goes_on = if draining { Some(nap.await) } else { until_draining(nap).await };
        match goes_on.map(crate::combine::Either::into_inner) {
            Some(true) => {}
            Some(false) => return, // cancelled; and so are the runs
            None => {
                draining = true;
                inner.stop();
            }
        }
    }
}

/// One run: waits for its place, and has the job's closure run under its deadline.
async fn run(going: Going, start: Start) -> Result<(), Cancelled> {
    let Start { run, work, job, .. } = start;
    let inner = Arc::clone(&going.inner);
    // In this order, also if all this is dropped half-way: the run's future goes, it is booked out, and then its place goes to the
    // next (invariant 4).
    let place;
    let mut going = going;
    match inner.places.acquire(1).await {
        Ok(acquired) => place = acquired,
        Err(_) => return Ok(()), // cancelled while it waited
    }
    let began = going.begins();
    let ended = caught(timeout(job.limit, async move { work.call(run).await })).await;
    let is_over = began.elapsed() >= job.limit;
    going.ended = Some(match ended {
        Err(panic) => RunEnd::Panicked(match panic.place() {
            Some(place) => format!("{} ({place})", panic.message()),
            None => panic.message().to_owned(),
        }),
        Ok(Ok(None)) => RunEnd::Ok,
        // An error after the time was over is its answer to that.
        Ok(Ok(Some(_)) | Err(_)) if is_over => RunEnd::TimedOut,
        Ok(Ok(Some(error))) if !is_cancelled() => RunEnd::Failed(error),
        Ok(_) => RunEnd::Cancelled,
    });
    drop(going);
    drop(place);
    Ok(())
}

/// A run in the books, from the decision to begin it. Whatever ends it, it is booked out: first its future is gone, then this.
struct Going {
    inner: Arc<Inner>,
    entry: u64,
    number: u64,
    began: Option<Instant>,
    /// Set if it came to its end by itself; otherwise it was dropped.
    ended: Option<RunEnd>,
}

impl Going {
    fn begins(&mut self) -> Instant {
        let now = Instant::now();
        self.began = Some(now);
        self.inner.began(self.entry, self.number, now);
        now
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let took = self.began.map(|began| began.elapsed());
        let end = took.is_some().then(|| self.ended.take().unwrap_or(RunEnd::Cancelled));
        self.inner.ended(self.entry, end, took.unwrap_or_default());
    }
}

/// Runs `future` to its value or its panic.
async fn caught<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(payload) => match record::current() {
            Some(record) => Poll::Ready(Err(panic::caught(&record, payload))),
            None => std::panic::resume_unwind(payload),
        },
    })
    .await
}
