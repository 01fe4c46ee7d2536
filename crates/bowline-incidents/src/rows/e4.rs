//! E4, the job scheduler: a job that takes longer than the time between two of them.
//!
//! A service tidied up every minute, in a task spawned by a ticker. It took seconds. With the data it came to take a minute and a half,
//! so there were two at a time, on the same tables; that made both slower, so there were three. By noon there were forty, and
//! the database served nobody else. A second job hung in a call without a time-out; of that there was one more each hour, for ever.
//!
//! The leaky form is the ticker, with a spawn in its loop. Nothing in it knows that the last run is still there.
//!
//! In the tied form a job has a policy for that, and the default is to skip; the schedule has a limit for all of its jobs together; and a
//! run has a time-out. What was due and did not take place is counted, what runs is listed with its age, and `stop` waits
//! until the last run is gone.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline::{AlertKind, Cancelled, Job, Schedule, on_alert, scope};
use tokio::time::{interval, sleep};

use super::load::ms;
use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "E4",
    title: "the job scheduler",
    broke: "A job took longer than its interval, so its runs piled up and slowed each other down; another hung, and one more each hour.",
    must: "A job never runs twice at once unless it says so; all together have a limit, each run a time-out; stopping waits.",
    theirs: "no figures",
    load: "a job every 20 ms that takes 50 ms for each of it that runs, and one every 100 ms that hangs, for 3 s (reduced: 1 s; full: 60 s)",
    remedy: "`Schedule` has an overlap policy and a time-out for each job, both with safe defaults, and one limit for all.",
    needs: &[],
    bounds: &[
        Bound::at_most("tidying at once", 1.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("running at once", 2.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("running after the stop", 0.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("alerts about the hung job", 1.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("due and unaccounted", 0.0, Unit::Count),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("e4.rs"),
};

// ANCHOR: leaky
#[expect(clippy::disallowed_methods, reason = "the form as it broke")]
async fn leaky(lab: Lab) -> Result<(), Trouble> {
    let work = Work::new(&lab);
    let tidying = Arc::clone(&work);
    let tidy = tokio::spawn(async move {
        let mut ticker = interval(TIDY_EVERY);
        loop {
            ticker.tick().await;
            let work = Arc::clone(&tidying);
            tokio::spawn(async move { work.tidy().await });
        }
    });
    let reporting = Arc::clone(&work);
    let report = tokio::spawn(async move {
        let mut ticker = interval(REPORT_EVERY);
        loop {
            ticker.tick().await;
            let work = Arc::clone(&reporting);
            tokio::spawn(async move { work.report().await });
        }
    });
    sleep(work.lasts).await;
    tidy.abort();
    report.abort();
    work.figures(&lab)
}
// ANCHOR_END: leaky

// ANCHOR: tied
async fn tied(lab: Lab) -> Result<(), Trouble> {
    let work = Work::new(&lab);
    let alerts = lab.counter("alerts");
    let late = alerts.clone();
    let _hook = on_alert(move |alert| late.add(u64::from(alert.kind == AlertKind::JobTimedOut)));
    let upkeep = scope("service", async |s| {
        let (tidying, reporting) = (Arc::clone(&work), Arc::clone(&work));
        let jobs = Schedule::new("upkeep", 2)
            .every("tidy", TIDY_EVERY, async move |_run| tidying.tidy().await)
            .job(Job::every("report", REPORT_EVERY).timeout(Duration::from_millis(300)), async move |_run| {
                reporting.report().await
            })
            .start(s);
        sleep(work.lasts).await;
        jobs.stop().await?; // what runs comes to its end
        Ok::<_, Cancelled>(jobs.stats())
    })
    .await?;
    let unaccounted = upkeep.jobs.iter().map(|job| {
        let known = job.started + job.skipped + job.missed + job.dropped + job.waiting as u64;
        job.due.abs_diff(known)
    });
    lab.figure("due and unaccounted", unaccounted.sum::<u64>() as f64);
    lab.figure("skipped", upkeep.jobs.iter().map(|job| job.skipped).sum::<u64>() as f64);
    work.figures(&lab)
}
// ANCHOR_END: tied

const TIDY_EVERY: Duration = Duration::from_millis(20);
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What the jobs do, and how many of them do it at once.
struct Work {
    lasts: Duration,
    tidying: AtomicU64,
    most_tidying: AtomicU64,
    running: AtomicU64,
    most_running: AtomicU64,
}

impl Work {
    fn new(lab: &Lab) -> Arc<Self> {
        let lasts = lab.size(ms(1_000), ms(3_000), ms(60_000));
        let [tidying, most_tidying, running, most_running] = [0, 0, 0, 0].map(AtomicU64::new);
        let work = Arc::new(Self { lasts, tidying, most_tidying, running, most_running });
        let seen = Arc::clone(&work);
        lab.gauge("running", move || seen.running.load(Ordering::Relaxed) as f64);
        work
    }

    async fn tidy(&self) {
        let _running = Running::begin(&self.running, &self.most_running);
        let _tidying = Running::begin(&self.tidying, &self.most_tidying);
        // The more there are, the slower is each.
        sleep(Duration::from_millis(50 * self.tidying.load(Ordering::Relaxed).min(20))).await;
    }

    async fn report(&self) {
        let _running = Running::begin(&self.running, &self.most_running);
        pending::<()>().await;
    }

    fn figures(&self, lab: &Lab) -> Result<(), Trouble> {
        lab.figure("tidying at once", self.most_tidying.load(Ordering::Relaxed) as f64);
        lab.figure("running at once", self.most_running.load(Ordering::Relaxed) as f64);
        lab.figure("alerts about the hung job", lab.counter("alerts").get() as f64);
        lab.figure("running after the stop", self.running.load(Ordering::Relaxed) as f64);
        Ok(())
    }
}

/// Counted in as long as it lives.
struct Running<'a>(&'a AtomicU64);

impl<'a> Running<'a> {
    fn begin(running: &'a AtomicU64, most: &AtomicU64) -> Self {
        most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
