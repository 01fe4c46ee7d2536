//! Schedules drawn at random: one job against a model of twenty lines, and many jobs against what always holds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bowline::testing::seed;
use bowline::{
    Cancelled, Job, JobRun, JobStats, Jobs, Missed, Overlap, Schedule, bad_input, on_alert, scope, sleep,
    sleep_until,
};
use fastrand::Rng;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn schedule(at_most_running: usize) -> (Schedule, SystemTime) {
    let (start, began) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), Instant::now());
    (Schedule::new("model", at_most_running).clock(move || start + began.elapsed()), start)
}

fn overlap(random: &mut Rng) -> Overlap {
    [Overlap::Skip, Overlap::QueueOne, Overlap::CancelPrevious][random.usize(..3)]
}

// ---- one job

/// When a run began, and for when it was, in seconds.
type Began = (u64, u64);

#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    began: Vec<Began>,
    skipped: u64,
    dropped: u64,
    cancelled: u64,
}

/// What a job comes to whose runs take so many seconds, and end half a second after: so that nothing happens in the moment of a
/// tick. Times here are half seconds.
fn model(period: u64, overlap: Overlap, takes: &[u64], until: u64) -> Expected {
    let mut expected = Expected::default();
    let mut takes = takes.iter().copied();
    let mut ends_at = None; // the run that is there
    let mut waits: Option<u64> = None;
    for now in 1..until * 2 {
        if ends_at == Some(now) {
            ends_at = None;
        }
        if now % (period * 2) == 0 {
            let due = now / 2;
            match (ends_at, overlap, waits) {
                (None, ..) => waits = Some(due),
                (Some(_), Overlap::QueueOne, None) => waits = Some(due),
                (Some(_), Overlap::CancelPrevious, _) => {
                    ends_at = None;
                    expected.cancelled += 1;
                    waits = Some(due);
                }
                _ => expected.skipped += 1,
            }
        }
        if let (None, Some(due)) = (ends_at, waits) {
            waits = None;
            ends_at = Some((now / 2 + takes.next().unwrap()) * 2 + 1);
            expected.began.push((now / 2, due));
        }
    }
    expected.dropped += u64::from(waits.is_some());
    expected
}

#[bowline::test(start_paused = true, schedules = 200)]
async fn one_job_runs_when_the_model_says() {
    const UNTIL: u64 = 120;
    let mut random = Rng::with_seed(seed());
    let (period, overlap) = (random.u64(1..12), overlap(&mut random));
    let takes: Vec<u64> = (0..UNTIL).map(|_| random.u64(1..13)).collect();
    let expected = model(period, overlap, &takes, UNTIL);

    let (schedule, start) = schedule(1);
    let began: Arc<Mutex<Vec<Began>>> = Arc::default();
    let (noted, since) = (Arc::clone(&began), Instant::now());
    let takes = Arc::new(Mutex::new(VecDeque::from(takes)));
    let stats = scope("service", async |s| {
        let job = Job::every("job", Duration::from_secs(period)).overlap(overlap);
        let jobs = schedule
            .job(job, async move |run: JobRun| {
                let takes = takes.lock().unwrap().pop_front().unwrap();
                let due = run.scheduled_for.duration_since(start).unwrap();
                let began = since.elapsed().as_secs();
                noted.lock().unwrap().push((began, due.as_secs()));
                sleep_until(since + Duration::from_secs(began + takes) + SECOND / 2).await
            })
            .start(s);
        sleep(Duration::from_secs(UNTIL) - SECOND / 4).await?;
        let stop = jobs.clone();
        s.spawn("stop", async move { stop.stop().await });
        sleep(SECOND / 8).await?;
        let stats = checked(&jobs, "job");
        jobs.cancel("job", "the test is over").unwrap();
        Ok::<_, Cancelled>(stats)
    })
    .await
    .unwrap();
    let JobStats { skipped, dropped, cancelled, missed, .. } = stats;
    let came = Expected { began: began.lock().unwrap().clone(), skipped, dropped, cancelled };
    assert_eq!((came, missed), (expected, 0), "every {period} s, {overlap:?}");
}

/// The books of a job, which always agree.
fn checked(jobs: &Jobs, name: &str) -> JobStats {
    let stats = jobs.stats().job(name).unwrap().clone();
    let JobStats { due, started, skipped, missed, dropped, waiting, running, .. } = stats;
    assert_eq!(due, started + skipped + missed + dropped + waiting as u64, "{stats:?}");
    let ends = stats.ok + stats.failed + stats.panicked + stats.timed_out + stats.cancelled;
    assert_eq!(started, ends + running as u64, "{stats:?}");
    assert!(running <= 1, "{stats:?}");
    stats
}

// ---- many jobs

/// Bodies there are: of each job and of all, also between a cancel and the last destructor.
#[derive(Default)]
struct There {
    all: AtomicU64,
    of_job: [AtomicU64; NAMES.len()],
    began: [AtomicU64; NAMES.len()],
    /// Panics of bodies are caught, so what must not be is put down here.
    broken: Mutex<Vec<String>>,
}

struct Body<'a>(&'a There, usize);

impl There {
    fn enter(&self, job: usize, at_most: u64) -> Body<'_> {
        let (of_job, of_all) =
            (self.of_job[job].fetch_add(1, Ordering::SeqCst), self.all.fetch_add(1, Ordering::SeqCst));
        if of_job > 0 || of_all >= at_most {
            let broken =
                format!("{of_job} of `{}` and {of_all} of at most {at_most} are there already", NAMES[job]);
            self.broken.lock().unwrap().push(broken);
        }
        self.began[job].fetch_add(1, Ordering::SeqCst);
        Body(self, job)
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::SeqCst);
        self.0.of_job[self.1].fetch_sub(1, Ordering::SeqCst);
    }
}

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

#[bowline::test(start_paused = true, schedules = 200)]
async fn whatever_is_done_to_many_jobs_the_books_agree_and_the_cap_holds() {
    let _hook = on_alert(|_| {});
    let mut random = Rng::with_seed(seed());
    let at_most = random.u64(1..4);
    let there: Arc<There> = Arc::default();
    let ran = scope("service", async |s| {
        let (mut schedule, _) = schedule(usize::try_from(at_most).unwrap());
        for (at, name) in NAMES.into_iter().enumerate() {
            let missed = [Missed::Skip, Missed::RunOnce, Missed::EachUpTo(3)][random.usize(..3)];
            let job = Job::every(name, random.u32(1..20) * SECOND)
                .overlap(overlap(&mut random))
                .missed(missed)
                .jitter(random.u32(0..3) * SECOND)
                .timeout(random.u32(3..30) * SECOND);
            let (there, of_runs) = (Arc::clone(&there), random.u64(..));
            schedule = schedule.job(job, async move |run: JobRun| {
                let _body = there.enter(at, at_most);
                let mut random = Rng::with_seed(of_runs ^ run.number);
                let slept = match random.u32(..10) {
                    0 => bad_input("one of ten"),
                    1 => return Err("one of ten".to_owned()),
                    // A shield lets it go on after it was asked to stop.
                    2 => bowline::shielded(5 * SECOND, sleep(10 * SECOND)).await.unwrap_or(Ok(())),
                    _ => sleep(random.u32(1..30) * SECOND / 2).await,
                };
                slept.map_err(|cancelled| cancelled.to_string())
            });
        }
        let jobs = schedule.start(s);
        for _ in 0..60 {
            sleep(random.u32(1..50) * SECOND / 10).await?;
            let name = NAMES[random.usize(..NAMES.len())];
            match random.u32(..8) {
                0 => jobs.pause(name).unwrap(),
                1 | 2 => NAMES.iter().for_each(|name| jobs.resume(name).unwrap()),
                3 => jobs.cancel(name, "one of eight").unwrap(),
                4 => tokio::time::advance(random.u32(1..60) * SECOND).await,
                5 => {
                    let jobs = jobs.clone();
                    s.spawn("asks", async move { Ok(_ = jobs.trigger(name).await) });
                }
                _ => {}
            }
            NAMES.iter().for_each(|name| _ = checked(&jobs, name));
            assert!(jobs.stats().running as u64 <= at_most);
        }
        jobs.stop().await?;
        let mut ran = 0;
        for (name, began) in NAMES.iter().zip(&there.began) {
            let stats = checked(&jobs, name);
            assert_eq!((stats.running, stats.waiting), (0, 0), "{stats:?}");
            assert_eq!(stats.started, began.load(Ordering::SeqCst), "{stats:?}");
            ran += stats.started;
        }
        assert_eq!(there.all.load(Ordering::SeqCst), 0);
        assert_eq!(*there.broken.lock().unwrap(), [""; 0]);
        Ok::<_, Cancelled>(ran)
    })
    .await
    .unwrap();
    assert!(ran > 5, "only {ran} runs");
}
