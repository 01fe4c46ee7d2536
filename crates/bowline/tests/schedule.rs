//! Schedules: intervals, overlap, missed runs, time-outs, the cap, and the end.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bowline::{
    AddJobError, Alert, AlertKind, Cancelled, Job, JobRun, JobStats, Jobs, Missed, Overlap, RunEnd, Schedule,
    TaskState, TriggerError, on_alert, schedules, scope, shielded, sleep, timeout,
};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A schedule, made at the caller's line, whose wall clock goes along with the paused one, from some afternoon on.
#[track_caller]
fn schedule(at_most_running: usize) -> Schedule {
    let (afternoon, began) = (afternoon(), Instant::now());
    Schedule::new("upkeep", at_most_running).clock(move || afternoon + began.elapsed())
}

fn afternoon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// What was seen, with the seconds since the beginning.
#[derive(Clone)]
struct Seen<T>(Arc<Mutex<Vec<(u64, T)>>>, Instant);

impl<T: Clone> Seen<T> {
    fn new() -> Self {
        Self(Arc::default(), Instant::now())
    }

    fn note(&self, what: T) {
        self.0.lock().unwrap().push((self.1.elapsed().as_secs(), what));
    }

    fn all(&self) -> Vec<(u64, T)> {
        self.0.lock().unwrap().clone()
    }

    fn seconds(&self) -> Vec<u64> {
        self.all().iter().map(|(at, _)| *at).collect()
    }
}

/// Says when it is dropped.
struct Mark<F: FnMut()>(F);

impl<F: FnMut()> Drop for Mark<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn stats(jobs: &Jobs, name: &str) -> JobStats {
    let stats = jobs.stats().job(name).unwrap().clone();
    let JobStats { due, started, skipped, missed, dropped, waiting, running, .. } = stats;
    assert_eq!(due, started + skipped + missed + dropped + waiting as u64, "{stats:?}");
    let ends = stats.ok + stats.failed + stats.panicked + stats.timed_out + stats.cancelled;
    assert_eq!(started, ends + running as u64, "{stats:?}");
    stats
}

fn of_kind(alerts: &Arc<Mutex<Vec<Alert>>>, kind: AlertKind) -> Vec<(bool, String)> {
    let alerts = alerts.lock().unwrap();
    alerts.iter().filter(|alert| alert.kind == kind).map(|alert| (alert.raised, alert.to_string())).collect()
}

fn listen() -> (Arc<Mutex<Vec<Alert>>>, bowline::AlertHook) {
    let alerts: Arc<Mutex<Vec<Alert>>> = Arc::default();
    let told = Arc::clone(&alerts);
    (alerts, on_alert(move |alert| told.lock().unwrap().push(alert.clone())))
}

/// In seconds; timers are a millisecond late.
fn rounded(time: Duration) -> u64 {
    (time + SECOND / 2).as_secs()
}

// ---- when

#[bowline::test(start_paused = true)]
async fn an_interval_is_a_grid_that_stands_still_however_long_a_run_takes() {
    scope("service", async |s| {
        let seen = Seen::new();
        let noted = seen.clone();
        let jobs = schedule(1)
            .every("sweep", 10 * SECOND, async move |run| {
                noted.note(run.number);
                sleep(3 * SECOND + Duration::from_millis(700)).await
            })
            .start(s);
        sleep(35 * SECOND).await?;
        assert_eq!(seen.all(), [(10, 1), (20, 2), (30, 3)]);
        assert_eq!(jobs.next("sweep"), Some(afternoon() + 40 * SECOND));
        assert_eq!(jobs.next("other"), None);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// tokio-cron-scheduler#113: after the process was held up, the next time of a repeated job lies in the past for ever, and it never
/// runs again.
#[bowline::test(start_paused = true)]
async fn a_job_goes_on_after_the_process_was_held_up_for_hours() {
    scope("service", async |s| {
        let seen = Seen::new();
        let noted = seen.clone();
        let _jobs = schedule(1).every("sweep", 30 * SECOND, async move |run| noted.note(run.missed)).start(s);
        sleep(45 * SECOND).await?;
        tokio::time::advance(Duration::from_secs(2 * 3600)).await; // nobody is polled meanwhile
        sleep(SECOND).await?;
        sleep(MINUTE).await?;
        // One run for the 239 others that were missed, and then as before: on the grid.
        assert_eq!(seen.all(), [(30, 0), (7245, 239), (7260, 0), (7290, 0)]);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// nats.rs#875, omicron#9428: a timer that was not looked at makes up for every tick at once.
#[bowline::test(start_paused = true)]
async fn after_a_stall_there_is_no_burst_whatever_is_done_about_missed_runs() {
    scope("service", async |s| {
        let seen = Seen::new();
        let note = |name: &'static str| {
            let noted = seen.clone();
            async move |run: JobRun| noted.note((name, run.missed))
        };
        let (alerts, _hook) = listen();
        let jobs = schedule(9)
            .job(Job::every("once", 10 * SECOND), note("once"))
            .job(Job::every("skip", 10 * SECOND).missed(Missed::Skip), note("skip"))
            .job(Job::every("each", 10 * SECOND).missed(Missed::EachUpTo(3)), note("each"))
            .start(s);
        sleep(5 * SECOND).await?;
        tokio::time::advance(Duration::from_secs(60)).await; // the times of 10 to 60 have passed, the newest 5 s ago
        sleep(SECOND).await?;
        let mut after: Vec<_> = seen.all().into_iter().map(|(_, what)| what).collect();
        after.sort_unstable();
        assert_eq!(after, [("each", 0), ("each", 0), ("each", 0), ("once", 5), ("skip", 0)]);
        let counts = |name| (stats(&jobs, name).due, stats(&jobs, name).missed, stats(&jobs, name).ok);
        assert_eq!((counts("once"), counts("skip"), counts("each")), ((6, 5, 1), (6, 5, 1), (6, 3, 3)));
        let missed = of_kind(&alerts, AlertKind::JobMissed);
        assert_eq!(missed.len(), 3, "{missed:?}");
        assert!(missed[0].1.contains("`upkeep/once`") && missed[0].1.contains("due 6 time(s)"), "{missed:?}");
        sleep(10 * SECOND).await?; // on time again
        let over: Vec<_> =
            of_kind(&alerts, AlertKind::JobMissed).into_iter().filter(|(raised, _)| !raised).collect();
        assert_eq!(over.len(), 3, "{over:?}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn runs_that_are_made_up_for_go_one_after_the_other_and_name_their_times() {
    scope("service", async |s| {
        let seen = Seen::new();
        let noted = seen.clone();
        let job = Job::every("report", MINUTE)
            .missed(Missed::EachUpTo(2))
            .last_run(afternoon() - 4 * MINUTE - 30 * SECOND);
        let jobs = schedule(9)
            .job(job, async move |run: JobRun| {
                noted.note(run.scheduled_for);
                sleep(10 * SECOND).await
            })
            .start(s);
        sleep(25 * SECOND).await?;
        let (newest, before) = (afternoon() - 30 * SECOND, afternoon() - 90 * SECOND);
        assert_eq!(seen.all(), [(0, before), (10, newest)]); // of four; the two oldest are lost
        sleep(10 * SECOND).await?;
        assert_eq!(seen.all()[2], (30, afternoon() + 30 * SECOND));
        let stats = stats(&jobs, "report");
        assert_eq!((stats.due, stats.missed, stats.ok, stats.running), (5, 2, 2, 1));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_last_run_that_is_a_part_of_a_period_ago_or_to_come_owes_nothing() {
    scope("service", async |s| {
        let seen = Seen::new();
        let note = |name: &'static str| {
            let noted = seen.clone();
            async move |_| noted.note(name)
        };
        let _jobs = schedule(9)
            .job(Job::every("recent", MINUTE).last_run(afternoon() - 40 * SECOND), note("recent"))
            .job(Job::every("to come", MINUTE).last_run(afternoon() + 600 * MINUTE), note("to come"))
            .start(s);
        sleep(70 * SECOND).await?;
        assert_eq!(seen.all(), [(20, "recent"), (60, "to come")]);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn jitter_delays_every_run_of_a_job_by_the_same_time() {
    scope("service", async |s| {
        let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let (noted, began) = (Arc::clone(&times), Instant::now());
        let job = Job::every("sweep", MINUTE).jitter(20 * SECOND);
        let _jobs = schedule(1).job(job, async move |_| noted.lock().unwrap().push(began.elapsed())).start(s);
        sleep(4 * MINUTE).await?;
        let times = times.lock().unwrap().clone();
        assert!(times.len() >= 3, "{times:?}");
        for (n, time) in (1..).zip(&times) {
            let delay = *time - n * MINUTE;
            assert!(delay <= 20 * SECOND, "{times:?}");
            assert!(delay.abs_diff(times[0] - MINUTE) <= Duration::from_millis(2), "{times:?}"); // a timer's grain
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- overlap

/// tokio-cron-scheduler#83: a run that takes long is joined by the next, and there is no setting against it.
#[bowline::test(start_paused = true, schedules = 20)]
async fn a_run_that_is_due_while_one_is_there_is_skipped_and_counted() {
    scope("service", async |s| {
        let running = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&running);
        let jobs = schedule(9)
            .every("sweep", 10 * SECOND, async move |_| {
                assert_eq!(counted.fetch_add(1, Ordering::SeqCst), 0, "two runs at once");
                let _gone = Mark(|| _ = counted.fetch_sub(1, Ordering::SeqCst));
                sleep(25 * SECOND).await
            })
            .start(s);
        sleep(95 * SECOND).await?;
        let stats = stats(&jobs, "sweep");
        assert_eq!((stats.due, stats.ok, stats.running, stats.skipped, stats.panicked), (9, 2, 1, 6, 0));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn one_run_waits_for_the_one_before_and_the_others_are_skipped() {
    scope("service", async |s| {
        let seen = Seen::new();
        let noted = seen.clone();
        let jobs = schedule(9)
            .job(Job::every("sweep", 10 * SECOND).overlap(Overlap::QueueOne), async move |run: JobRun| {
                noted.note(run.scheduled_for.duration_since(afternoon()).unwrap().as_secs());
                sleep(24 * SECOND).await
            })
            .start(s);
        sleep(62 * SECOND).await?;
        assert_eq!(seen.all(), [(10, 10), (34, 20), (58, 40)]);
        let stats = stats(&jobs, "sweep");
        assert_eq!((stats.due, stats.started, stats.skipped, stats.waiting), (6, 3, 2, 1));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_run_that_cancels_the_one_before_begins_when_that_is_gone() {
    scope("service", async |s| {
        let seen = Seen::new();
        let noted = seen.clone();
        let jobs = schedule(9)
            .job(
                Job::every("sweep", 10 * SECOND).overlap(Overlap::CancelPrevious),
                async move |run: JobRun| {
                    noted.note(format!("{} begins", run.number));
                    let _gone = Mark(|| noted.note(format!("{} gone", run.number)));
                    let why = bowline::cancelled().await;
                    shielded(12 * SECOND, sleep(12 * SECOND)).await.ok(); // says goodbye, for longer than a period
                    Err::<(), _>(why)
                },
            )
            .start(s);
        sleep(33 * SECOND).await?;
        let seen = seen.all();
        let of = |at, what: &str| (at, what.to_owned());
        assert_eq!(seen, [of(10, "1 begins"), of(32, "1 gone"), of(32, "2 begins")]);
        let stats = stats(&jobs, "sweep");
        // That of 20 waited, and made room for that of 30.
        assert_eq!((stats.due, stats.started, stats.cancelled, stats.dropped), (3, 2, 1, 1));
        jobs.remove("sweep").unwrap();
        jobs.cancel("sweep", "the test is over").unwrap();
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- ends of runs

#[bowline::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_cancelled_and_reported_and_the_next_goes_on() {
    scope("service", async |s| {
        let (alerts, _hook) = listen();
        let jobs = schedule(1)
            .job(Job::every("report", MINUTE).timeout(5 * SECOND), async |run: JobRun| {
                if run.number == 1 {
                    pending::<()>().await;
                }
            })
            .start(s);
        sleep(MINUTE + 4 * SECOND).await?;
        assert_eq!(stats(&jobs, "report").running, 1);
        sleep(2 * SECOND).await?;
        assert_eq!(stats(&jobs, "report").last_end, Some(RunEnd::TimedOut));
        assert_eq!(stats(&jobs, "report").last_duration.map(|took| took.as_secs()), Some(5));
        sleep(MINUTE).await?;
        let stats = stats(&jobs, "report");
        assert_eq!((stats.timed_out, stats.ok), (1, 1));
        let told = of_kind(&alerts, AlertKind::JobTimedOut);
        assert_eq!(told.iter().map(|(raised, _)| *raised).collect::<Vec<_>>(), [true, false], "{told:?}");
        assert!(told[0].1.contains("run 1 took too long and was cancelled after 5.0s"), "{told:?}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_run_that_does_not_stop_at_its_time_out_is_reported_while_it_goes_on() {
    scope("service", async |s| {
        let (alerts, _hook) = listen();
        let jobs = schedule(1)
            .job(Job::every("report", MINUTE).timeout(SECOND), async |_| {
                shielded(30 * SECOND, pending::<()>()).await
            })
            .start(s);
        sleep(MINUTE + 10 * SECOND).await?;
        let told = of_kind(&alerts, AlertKind::JobTimedOut);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].1.contains("run 1 was cancelled (its time is over) and has not stopped for 5s"),
            "{told:?}"
        );
        assert_eq!(jobs.running()[0].running_for.map(rounded), Some(10));
        sleep(25 * SECOND).await?;
        assert_eq!(stats(&jobs, "report").timed_out, 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// gocron#535: a job that panics ends the whole program, handler or not.
#[bowline::test(start_paused = true)]
async fn a_job_that_fails_or_panics_is_counted_and_reported_and_runs_again() {
    scope("service", async |s| {
        let (alerts, _hook) = listen();
        let jobs = schedule(1)
            .every("report", MINUTE, async |run: JobRun| match run.number {
                1 => panic!("a row without a name"),
                2 => Err("the disk is full".to_owned()),
                _ => Ok(run.number),
            })
            .start(s);
        sleep(MINUTE + SECOND).await?;
        let Some(RunEnd::Panicked(text)) = stats(&jobs, "report").last_end else {
            panic!("{:?}", jobs.stats())
        };
        assert!(text.starts_with("a row without a name (") && text.contains("tests/schedule.rs:"), "{text}");
        sleep(MINUTE).await?;
        assert_eq!(stats(&jobs, "report").last_end, Some(RunEnd::Failed("the disk is full".to_owned())));
        sleep(2 * MINUTE).await?;
        let stats = stats(&jobs, "report");
        assert_eq!((stats.panicked, stats.failed, stats.ok, stats.running), (1, 1, 2, 0));
        assert_eq!(jobs.stats().running, 0, "the place came back");
        let told = of_kind(&alerts, AlertKind::JobFailed);
        assert_eq!(
            told.iter().map(|(raised, _)| *raised).collect::<Vec<_>>(),
            [true, true, false],
            "{told:?}"
        );
        assert!(
            told[0].1.contains("panicked: a row without a name") && told[1].1.contains("the disk is full")
        );
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn what_a_run_owns_below_it_is_gone_before_the_run_is() {
    scope("service", async |s| {
        let below = Arc::new(AtomicBool::new(false));
        let marked = Arc::clone(&below);
        let jobs = schedule(1)
            .job(Job::every("crawl", MINUTE).timeout(SECOND), async move |_| {
                let marked = Arc::clone(&marked);
                scope("pages", async |s| {
                    s.spawn("page", async move {
                        let _mark = Mark(|| marked.store(true, Ordering::SeqCst));
                        pending::<()>().await;
                        Ok(())
                    });
                    Ok::<_, Cancelled>(())
                })
                .await
            })
            .start(s);
        let report = jobs.trigger("crawl").await.unwrap();
        assert_eq!((report.end, report.took.as_secs()), (RunEnd::TimedOut, 1));
        assert!(below.load(Ordering::SeqCst), "a task of the run was still there");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- the cap

#[bowline::test(start_paused = true)]
async fn runs_wait_for_a_place_first_come_first_served_and_are_seen_waiting() {
    scope("service", async |s| {
        let seen = Seen::new();
        let note = |name: &'static str| {
            let noted = seen.clone();
            async move |_| {
                noted.note(name);
                sleep(10 * SECOND).await
            }
        };
        let jobs = schedule(1)
            .job(Job::every("third", MINUTE + 2 * SECOND), note("third"))
            .job(Job::every("first", MINUTE), note("first"))
            .job(Job::every("second", MINUTE + SECOND), note("second"))
            .start(s);
        sleep(MINUTE + 5 * SECOND).await?;
        assert_eq!((jobs.stats().running, jobs.stats().waiting), (1, 2));
        let running = jobs.running();
        assert_eq!(running.iter().map(|run| run.job).collect::<Vec<_>>(), ["third", "first", "second"]);
        let waits_for = |job: usize| match &running[job].state {
            Some(TaskState::Waiting(wait)) => wait.op,
            other => panic!("{other:?}"),
        };
        assert_eq!((waits_for(0), waits_for(1)), ("acquire", "sleep"));
        assert_eq!((running[0].running_for, running[1].running_for.map(rounded)), (None, Some(5)));
        let tree = bowline::tree().to_string();
        assert!(tree.contains("upkeep") && tree.contains("first") && tree.contains("schedule.rs"), "{tree}");
        sleep(20 * SECOND).await?;
        assert_eq!(seen.all(), [(60, "first"), (70, "second"), (80, "third")]);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn what_is_due_at_one_look_begins_in_the_order_of_its_times() {
    scope("service", async |s| {
        let seen = Seen::new();
        let note = |name: &'static str| {
            let noted = seen.clone();
            async move |_| {
                noted.note(name);
                sleep(SECOND).await
            }
        };
        let _jobs = schedule(1)
            .every("due at 20", 20 * SECOND, note("due at 20"))
            .every("due at 15", 15 * SECOND, note("due at 15"))
            .start(s);
        sleep(5 * SECOND).await?;
        tokio::time::advance(17 * SECOND).await;
        sleep(3 * SECOND).await?;
        assert_eq!(seen.all(), [(22, "due at 15"), (23, "due at 20")]);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn a_run_that_waits_for_a_place_can_be_cancelled_and_the_next_gets_it() {
    scope("service", async |s| {
        let jobs = schedule(1)
            .every("first", MINUTE, async |_| sleep(10 * SECOND).await)
            .every("second", MINUTE + SECOND, async |_| sleep(10 * SECOND).await)
            .every("third", MINUTE + 2 * SECOND, async |_| sleep(10 * SECOND).await)
            .start(s);
        sleep(MINUTE + 5 * SECOND).await?;
        jobs.cancel("second", "not today").unwrap();
        jobs.cancel("third", "not today").unwrap();
        sleep(SECOND).await?;
        assert_eq!((stats(&jobs, "second").dropped, stats(&jobs, "third").dropped), (1, 1));
        jobs.cancel("first", "not today").unwrap();
        let report = jobs.trigger("second").await.unwrap();
        assert_eq!((report.number, report.end), (2, RunEnd::Ok));
        assert_eq!(stats(&jobs, "first").last_end, Some(RunEnd::Cancelled));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- by hand

#[bowline::test(start_paused = true)]
async fn a_run_that_was_asked_for_is_reported_and_moves_no_other() {
    scope("service", async |s| {
        let jobs = schedule(1).every("sweep", MINUTE, async |_| sleep(10 * SECOND).await).start(s);
        let report = jobs.trigger("sweep").await.unwrap();
        assert_eq!((report.number, report.end, report.took.as_secs()), (1, RunEnd::Ok, 10));
        assert_eq!(jobs.next("sweep"), Some(afternoon() + MINUTE));
        assert!(matches!(jobs.trigger("other").await, Err(TriggerError::Unknown(unknown)) if unknown.name() == "other"));
        sleep(51 * SECOND).await?; // it runs
        assert_eq!(jobs.trigger("sweep").await, Err(TriggerError::Busy));
        jobs.stop().await?;
        assert_eq!(jobs.trigger("sweep").await, Err(TriggerError::Stopped));
        let stats = stats(&jobs, "sweep");
        assert_eq!((stats.due, stats.ok, stats.skipped), (3, 2, 1));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn whoever_gives_up_waiting_for_a_report_does_not_stop_the_run() {
    scope("service", async |s| {
        let jobs = schedule(1).every("sweep", MINUTE, async |_| sleep(10 * SECOND).await).start(s);
        assert!(timeout(SECOND, jobs.trigger("sweep")).await.is_ok_and(|ended| ended.is_err()));
        sleep(10 * SECOND).await?;
        assert_eq!(stats(&jobs, "sweep").ok, 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_request_that_waited_and_was_dropped_says_so() {
    scope("service", async |s| {
        let job = Job::every("sweep", 24 * 60 * MINUTE).overlap(Overlap::QueueOne);
        let jobs = schedule(1).job(job, async |_| sleep(10 * SECOND).await).start(s);
        let first = s.spawn("first", {
            let jobs = jobs.clone();
            async move { Ok(jobs.trigger("sweep").await) }
        });
        sleep(SECOND).await?;
        let second = s.spawn("second", {
            let jobs = jobs.clone();
            async move { Ok(jobs.trigger("sweep").await) }
        });
        sleep(SECOND).await?;
        jobs.pause("sweep").unwrap();
        assert_eq!(second.await?, Err(TriggerError::Dropped));
        assert_eq!(first.await?.unwrap().end, RunEnd::Ok);
        // Paused, it still runs on demand.
        assert_eq!(jobs.trigger("sweep").await.unwrap().end, RunEnd::Ok);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_paused_job_owes_nothing_when_it_goes_on() {
    scope("service", async |s| {
        let seen = Seen::new();
        let noted = seen.clone();
        let jobs = schedule(1).every("sweep", 10 * SECOND, async move |run| noted.note(run.missed)).start(s);
        sleep(15 * SECOND).await?;
        jobs.pause("sweep").unwrap();
        assert_eq!((jobs.next("sweep"), stats(&jobs, "sweep").paused), (None, true));
        sleep(100 * SECOND).await?;
        jobs.resume("sweep").unwrap();
        jobs.resume("sweep").unwrap(); // not paused: nothing happens
        sleep(25 * SECOND).await?;
        assert_eq!(seen.all(), [(10, 0), (125, 0), (135, 0)]);
        assert_eq!(
            jobs.pause("other").unwrap_err().to_string(),
            "there is no job `other`: `stats()` lists those there are"
        );
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn jobs_are_added_and_removed_while_it_runs_within_a_bound_and_under_one_name_each() {
    scope("service", async |s| {
        let seen = Seen::new();
        let note = |name: &'static str| {
            let noted = seen.clone();
            async move |_| {
                noted.note(name);
                sleep(5 * SECOND).await
            }
        };
        let jobs = schedule(9).max_jobs(2).every("one", 10 * SECOND, note("one")).start(s);
        sleep(12 * SECOND).await?;
        jobs.add(Job::every("two", 10 * SECOND), note("two")).unwrap();
        let full = jobs.add(Job::every("three", SECOND), note("three")).unwrap_err();
        assert!(matches!(&full, AddJobError::Full { max_jobs: 2, job } if job.name() == "three"), "{full}");
        jobs.remove("one").unwrap();
        assert!(jobs.remove("one").is_err(), "it is not known any more");
        let taken = jobs.add(Job::every("one", SECOND), note("again")).unwrap_err();
        assert!(matches!(&taken, AddJobError::Duplicate { .. }), "its run has not ended: {taken}");
        sleep(4 * SECOND).await?;
        jobs.add(Job::every("one", 10 * SECOND), note("again")).unwrap();
        sleep(15 * SECOND).await?;
        assert_eq!(seen.all(), [(10, "one"), (22, "two"), (26, "again")]);
        jobs.stop().await?;
        let late = jobs.add(Job::every("four", SECOND), note("four")).unwrap_err();
        assert!(matches!(&late, AddJobError::Stopped { .. }), "{late}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
#[should_panic(expected = "has a job `sweep` already")]
async fn two_jobs_of_one_name_are_a_mistake_of_the_program() {
    let twice = schedule(1).every("sweep", MINUTE, async |_| {}).every("sweep", MINUTE, async |_| {});
    drop(twice);
}

#[test]
#[should_panic(expected = "job `sweep`: every run would be too late")]
fn a_job_without_any_time_is_a_mistake_of_the_program() {
    let _ = Job::every("sweep", MINUTE).timeout(Duration::ZERO);
}

/// What keeps a run from taking place ends a scope of that error by `?`, as all refusals do.
#[bowline::test(start_paused = true)]
async fn a_run_that_is_refused_is_a_reason_to_end() {
    let ended = scope("service", async |s| {
        let jobs = schedule(1).start(s);
        jobs.trigger("nobody").await?;
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(ended.unwrap_err().to_string(), "cancelled: a schedule has no such job");
}

// ---- the end

#[bowline::test(start_paused = true)]
async fn stop_begins_nothing_more_and_waits_for_what_runs_and_what_waits_for_a_place() {
    scope("service", async |s| {
        let seen = Seen::new();
        let note = |name: &'static str| {
            let noted = seen.clone();
            async move |_| {
                let _gone = Mark(|| noted.note(name));
                sleep(10 * SECOND).await
            }
        };
        let queued = Job::every("queued", 4 * SECOND).overlap(Overlap::QueueOne);
        let jobs = schedule(1).job(queued, note("queued")).every("other", 5 * SECOND, note("other")).start(s);
        sleep(9 * SECOND).await?;
        assert_eq!((jobs.stats().running, jobs.stats().waiting), (1, 2));
        let began = Instant::now();
        jobs.stop().await?;
        assert_eq!(rounded(began.elapsed()), 15);
        assert_eq!(seen.all(), [(14, "queued"), (24, "other")]);
        assert_eq!((stats(&jobs, "queued").dropped, stats(&jobs, "other").ok), (1, 1));
        assert_eq!((jobs.next("other"), jobs.stats().stopped), (None, true));
        jobs.stop().await?; // it has ended: at once
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn the_last_handle_dropped_ends_the_schedule_and_its_scope_waits_for_what_runs() {
    let seen = Seen::new();
    let noted = seen.clone();
    scope("service", async |s| {
        let jobs = schedule(1)
            .every("sweep", 10 * SECOND, async move |_| {
                sleep(5 * SECOND).await.unwrap();
                noted.note(());
            })
            .start(s);
        let other = jobs.clone();
        drop(jobs);
        sleep(11 * SECOND).await?;
        drop(other);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(seen.seconds(), [15]);
}

#[bowline::test(start_paused = true)]
async fn a_cancelled_scope_cancels_the_runs_at_once_and_tells_those_who_wait() {
    let seen = Seen::new();
    let noted = seen.clone();
    let held = Arc::new(());
    let weak = Arc::downgrade(&held);
    let mut kept = None;
    let ended = scope("service", async |s| {
        let jobs = schedule(1)
            .every("sweep", 10 * SECOND, async move |_| {
                let _held = &held;
                let _gone = Mark(|| noted.note(()));
                pending::<()>().await;
            })
            .start(s);
        sleep(11 * SECOND).await?;
        kept = Some(jobs);
        s.cancel("enough");
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(ended, Ok(()));
    assert_eq!(seen.seconds(), [11]);
    let jobs = kept.unwrap();
    assert_eq!(stats(&jobs, "sweep").cancelled, 1);
    assert!(jobs.running().is_empty());
    assert_eq!(jobs.trigger("sweep").await, Err(TriggerError::Stopped));
    assert!(weak.upgrade().is_none(), "the closures are gone, though a handle lives");
}

#[bowline::test(start_paused = true)]
async fn at_the_drain_of_the_process_nothing_more_begins_and_what_runs_comes_to_its_end() {
    let seen = Seen::new();
    let noted = seen.clone();
    let place = scope("service", async |s| {
        let jobs = schedule(1)
            .every("sweep", 10 * SECOND, async move |_| {
                sleep(25 * SECOND).await.unwrap();
                noted.note(());
            })
            .start(s);
        sleep(11 * SECOND).await?;
        let place = jobs.stats().place;
        jobs.forever();
        sleep(MINUTE).await?;
        bowline::shut_down("a test");
        Ok::<_, Cancelled>(place)
    })
    .await
    .unwrap();
    assert_eq!(seen.seconds(), [35, 65, 95]);
    assert!(schedules().iter().all(|listed| listed.place != place), "it has ended, and nobody holds it");
}

#[bowline::test(start_paused = true)]
async fn a_scope_that_is_closed_refuses_and_the_handle_says_so() {
    scope("service", async |s| {
        s.close();
        let jobs = schedule(1).every("sweep", SECOND, async |_| {}).start(s);
        assert!(jobs.stats().stopped);
        assert_eq!(jobs.trigger("sweep").await, Err(TriggerError::Stopped));
        jobs.stop().await
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn every_schedule_that_lives_is_listed_with_its_books() {
    scope("service", async |s| {
        let jobs = schedule(3).every("sweep", 30 * SECOND, async |_| {}).start(s);
        sleep(31 * SECOND).await?;
        let listed = schedules();
        let of_ours = listed.iter().find(|listed| listed.place == jobs.stats().place).unwrap();
        assert_eq!((of_ours.name, of_ours.at_most_running, of_ours.jobs.len()), ("upkeep", 3, 1));
        let sweep = of_ours.job("sweep").unwrap();
        assert_eq!((sweep.when.as_str(), sweep.ok), ("every 30s", 1));
        assert_eq!(sweep.next, Some(afternoon() + 60 * SECOND));
        assert!(sweep.place.contains("tests/schedule.rs:"), "{}", sweep.place);
        assert!(serde_json::to_string(of_ours).unwrap().contains("\"last_end\":\"ok\""));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}
