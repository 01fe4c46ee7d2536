//! A lane for jobs that compute or block: its bounds, what becomes of a job whose caller leaves, and its end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bowline::testing::poll_once;
use bowline::{
    Bound, Cancelled, Cause, CpuError, CpuLane, CpuPool, CpuPoolStats, cpu_pools, join_all, on_alert, scope,
    timeout,
};

/// A gate that jobs wait at, as if they computed; a job that is told to stop passes too.
#[derive(Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was passed because it is open.
    fn pass(&self) -> bool {
        while !self.0.load(Ordering::Relaxed) {
            if bowline::check().is_err() {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}

async fn until(lane: &CpuLane<u64, u64>, is_so: impl Fn(&CpuPoolStats) -> bool) {
    while !is_so(&lane.stats()) {
        tokio::task::yield_now().await;
    }
}

#[track_caller]
fn adds_up(stats: &CpuPoolStats) {
    let there = (stats.queued + stats.running.len()) as u64;
    let CpuPoolStats { accepted, completed, panicked, withdrawn, refused, .. } = stats;
    assert_eq!(*accepted, completed + panicked + withdrawn + refused + there, "{stats:?}");
}

#[bowline::test(worker_threads = 1)]
async fn jobs_run_beside_the_tasks_and_their_results_come_back() {
    scope("server", async |s| {
        let lane = CpuPool::new("double", Bound::items(8)).start(s, |job: u64| {
            let name = std::thread::current().name().map(str::to_owned);
            assert!(bowline::Context::current().check().is_ok(), "it has a context");
            (job * 2, name)
        });
        let results = join_all((0..100).map(|job| lane.call(job)).collect::<Vec<_>>()).await;
        for (job, result) in (0..).zip(results) {
            assert_eq!(result.unwrap().0, job * 2);
        }
        let stats = lane.stats();
        assert_eq!((stats.accepted, stats.completed, stats.queued), (100, 100, 0));
        assert!(stats.high_water_queued <= 8, "{stats:?}");
        adds_up(&stats);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn no_more_run_and_no_more_are_queued_than_stated() {
    let gate = Gate::default();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_gate, count, max) = (gate.clone(), Arc::clone(&now), Arc::clone(&most));
    scope("server", async |s| {
        let lane = CpuPool::new("narrow", Bound::items(3)).threads(2).start(s, move |job: u64| {
            max.fetch_max(count.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            at_gate.pass();
            count.fetch_sub(1, Ordering::Relaxed);
            job
        });
        let calls: Vec<_> = (0..10)
            .map(|job| {
                let lane = lane.clone();
                s.spawn("caller", async move { Ok(lane.call(job).await?) })
            })
            .collect();
        until(&lane, |stats| stats.running.len() == 2 && stats.queued == 3 && stats.waiting == 5).await;
        adds_up(&lane.stats());
        let tree = bowline::tree();
        assert_eq!(tree.blocking, 2, "{tree}");
        assert!(tree.to_string().contains("narrow #"), "{tree}");
        gate.open();
        for (job, call) in (0..).zip(calls) {
            assert_eq!(call.await?, job);
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(most.load(Ordering::Relaxed), 2);
}

#[bowline::test]
async fn the_bytes_of_jobs_queued_and_running_stay_within_the_bound() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    scope("server", async |s| {
        let bound = Bound::items(100).and_bytes(1_000, |job: &u64| usize::try_from(*job).unwrap());
        let lane = CpuPool::new("images", bound).threads(4).start(s, move |job: u64| {
            at_gate.pass();
            job
        });
        let calls: Vec<_> = [600, 300, 200, 50]
            .map(|job| {
                let lane = lane.clone();
                s.spawn("caller", async move { Ok(lane.call(job).await?) })
            })
            .into();
        // 200 would be too much, and 50 does not overtake it.
        until(&lane, |stats| stats.running.len() == 2 && stats.waiting == 2).await;
        assert_eq!((lane.stats().bytes, lane.stats().max_bytes), (900, Some(1_000)));
        gate.open();
        for call in calls {
            call.await?;
        }
        assert_eq!(lane.call(5_000).await?, 5_000, "larger than all there is: it passes alone");
        assert_eq!(lane.stats().bytes, 0);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_lane_that_lets_nobody_wait_gives_the_job_back() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    scope("server", async |s| {
        let pool = CpuPool::new("narrow", Bound::items(1)).threads(1).reject_when_full();
        let lane = pool.start(s, move |job: u64| {
            at_gate.pass();
            job
        });
        let mut runs = Box::pin(lane.call(1));
        assert!(poll_once(&mut runs).await.is_pending());
        until(&lane, |stats| stats.running.len() == 1).await;
        // The thread that begins the job gives its room back a moment later, so the second may be refused before.
        let queued = loop {
            let mut call = Box::pin(lane.call(2));
            match poll_once(&mut call).await {
                Poll::Pending => break call,
                Poll::Ready(refused) => assert!(matches!(refused, Err(CpuError::Full(2)))),
            }
        };
        assert!(matches!(lane.call(3).await, Err(CpuError::Full(3))));
        gate.open();
        assert_eq!((runs.await?, queued.await?), (1, 2));
        assert_eq!(lane.call(3).await?, 3);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(allow_panics)]
async fn a_panic_is_its_callers_error_and_the_lane_goes_on() {
    scope("server", async |s| {
        let lane = CpuPool::new("parse", Bound::items(8)).threads(1).start(s, |job: u64| {
            assert_ne!(job, 3, "no three");
            job
        });
        for job in 0..6 {
            match lane.call(job).await {
                Ok(result) => assert_eq!(result, job),
                Err(CpuError::Panicked(panic)) => {
                    assert_eq!((job, panic.task()), (3, "parse"));
                    assert!(panic.message().contains("no three"));
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!((lane.stats().completed, lane.stats().panicked), (5, 1));
        assert_eq!(bowline::panics().unexpected, 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_caller_that_leaves_takes_a_queued_job_along_and_stops_a_running_one() {
    let (gate, stopped) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (at_gate, stops) = (gate.clone(), Arc::clone(&stopped));
    scope("server", async |s| {
        let lane = CpuPool::new("trace", Bound::items(8)).threads(1).start(s, move |job: u64| {
            if !at_gate.pass() {
                stops.fetch_add(1, Ordering::Relaxed);
            }
            job
        });
        let mut runs = Box::pin(lane.call(1));
        assert!(poll_once(&mut runs).await.is_pending());
        until(&lane, |stats| stats.running.len() == 1).await;
        let mut queued = Box::pin(lane.call(2));
        assert!(poll_once(&mut queued).await.is_pending());
        drop(queued);
        let stats = lane.stats();
        assert_eq!((stats.queued, stats.withdrawn, stats.waiting), (0, 1, 0));
        adds_up(&stats);
        drop(runs);
        until(&lane, |stats| stats.running.is_empty()).await;
        let stats = lane.stats();
        assert_eq!((stats.abandoned, stats.completed, stopped.load(Ordering::Relaxed)), (1, 1, 1));
        gate.open();
        assert_eq!(lane.call(3).await?, 3, "the thread is free again");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_cancelled_caller_gets_a_job_back_that_was_not_begun() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    scope("server", async |s| {
        let lane = CpuPool::new("trace", Bound::items(1)).threads(1).start(s, move |job: u64| {
            at_gate.pass();
            job
        });
        let mut runs = Box::pin(lane.call(1));
        assert!(poll_once(&mut runs).await.is_pending());
        until(&lane, |stats| stats.running.len() == 1).await;
        // One waits in the queue, one for room in it.
        let calls = async { bowline::join(lane.call(2), lane.call(3)).await };
        let passes = async {
            until(&lane, |stats| stats.queued == 1 && stats.waiting == 1).await;
            tokio::time::advance(Duration::from_secs(2)).await;
        };
        let (late, ()) = bowline::join(timeout(Duration::from_secs(1), calls), passes).await;
        let (queued, waiting) = late.expect("both come to an end");
        for (job, error) in [(2, queued.unwrap_err()), (3, waiting.unwrap_err())] {
            let CpuError::Cancelled(Some(back), why) = error else { panic!("{error:?}") };
            assert_eq!((back, why.is_deadline()), (job, true));
        }
        gate.open();
        assert_eq!(runs.await?, 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_job_over_its_limit_is_told_to_stop_named_and_abandoned() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let _hook = on_alert(move |alert| tell.lock().unwrap().push(alert.to_string()));
    let stubborn = Gate::default();
    let at_gate = stubborn.clone();
    scope("server", async |s| {
        let pool = CpuPool::new("trace", Bound::items(8)).threads(1).job_limit(Duration::from_secs(1));
        let lane = pool.start(s, move |job: u64| {
            while bowline::check().is_ok() {
                std::thread::yield_now();
            }
            while !at_gate.0.load(Ordering::Relaxed) {
                std::thread::yield_now(); // it was told, and does not listen
            }
            job
        });
        let passes = async {
            until(&lane, |stats| stats.running.len() == 1).await;
            tokio::task::yield_now().await; // its caller hears that it has begun
            while lane.stats().abandoned == 0 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        };
        let (late, ()) = bowline::join(lane.call(1), passes).await;
        assert!(matches!(late, Err(CpuError::TimedOut { limit }) if limit == Duration::from_secs(1)));
        let stats = lane.stats();
        assert!(stats.running[0].abandoned && stats.abandoned == 1, "{stats:?}");
        let tree = bowline::tree();
        assert_eq!(tree.blocking, 1, "it is still there: {tree}");
        stubborn.open();
        until(&lane, |stats| stats.running.is_empty()).await;
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let told = told.lock().unwrap();
    assert!(told.len() == 1 && told[0].starts_with("job timed out: `trace`"), "{told:?}");
}

#[bowline::test]
async fn the_callers_deadline_is_ambient_in_the_job() {
    scope("server", async |s| {
        let lane = CpuPool::new("risk", Bound::items(8)).start(s, |_: u64| bowline::time_left());
        assert_eq!(lane.call(1).await?, None);
        let limit = Duration::from_secs(3600);
        let left = timeout(limit, lane.call(2)).await??.expect("there is a deadline");
        assert!(left <= limit && left > limit / 2, "{left:?}");
        let left = timeout(limit * 2, async {
            scope("inner", async |s| {
                let lane = CpuPool::new("inner", Bound::items(8)).start(s, |_: u64| bowline::time_left());
                Ok::<_, Cancelled>(timeout(limit * 3, lane.call(3)).await??)
            })
            .await
        });
        assert!(left.await??.unwrap() > limit, "that of the lane, if it is earlier");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_scope_does_not_stay_open_for_its_lane_and_a_handle_that_outlives_it_refuses() {
    let lane = scope("server", async |s| {
        let lane = CpuPool::new("double", Bound::items(8)).start(s, |job: u64| job * 2);
        assert_eq!(lane.call(1).await?, 2);
        Ok::<_, Cancelled>(lane)
    })
    .await
    .unwrap();
    assert!(matches!(lane.call(7).await, Err(CpuError::Closed(7))));
    assert!(lane.stats().closed);
    assert_eq!(bowline::tree().blocking, 0);

    let late = scope("server", async |s| {
        s.close();
        Ok::<_, Cancelled>(CpuPool::new("double", Bound::items(8)).start(s, |job: u64| job * 2))
    });
    assert!(matches!(late.await.unwrap().call(8).await, Err(CpuError::Closed(8))));
}

#[bowline::test]
async fn a_cancelled_lane_gives_queued_jobs_back_and_waits_for_those_that_run() {
    let (gate, ended) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let (at_gate, ends) = (gate.clone(), Arc::clone(&ended));
    let (gives, lane) = tokio::sync::oneshot::channel();
    let server = scope("server", async |s| {
        let lane = CpuPool::new("trace", Bound::items(2)).threads(1).start(s, move |job: u64| {
            at_gate.pass();
            ends.store(true, Ordering::Relaxed);
            job
        });
        assert!(gives.send((lane, s.handle())).is_ok());
        Err::<(), _>(bowline::cancelled().await)
    });
    let callers = async {
        let (lane, server) = lane.await.unwrap();
        let calls = join_all((1..=4).map(|job| lane.call(job)).collect::<Vec<_>>());
        let cancels = async {
            until(&lane, |stats| stats.running.len() == 1 && stats.queued == 2 && stats.waiting == 1).await;
            server.cancel("enough");
        };
        bowline::join(calls, cancels).await.0
    };
    let (server, results) = bowline::join(server, callers).await;
    assert_eq!(server.unwrap_err().cause(), &Cause::Requested("enough"));
    assert!(ended.load(Ordering::Relaxed), "the scope has waited for it");
    let results: Vec<_> = results.into_iter().collect();
    assert!(matches!(results[0], Ok(1)), "who has come to a result keeps it: {results:?}");
    for (job, result) in (2..=4).zip(&results[1..]) {
        assert!(matches!(result, Err(CpuError::Closed(back)) if *back == job), "{result:?}");
    }
}

#[bowline::test]
async fn the_lane_ends_with_its_last_handle_and_is_in_the_list_until_then() {
    let named = || cpu_pools().iter().filter(|stats| stats.name == "of this test alone").count();
    let held = Arc::new(());
    let captured = Arc::clone(&held);
    scope("server", async |s| {
        let lane = CpuPool::new("of this test alone", Bound::items(8)).start(s, move |job: u64| {
            let _held = &captured;
            job
        });
        let other = lane.clone();
        assert_eq!(lane.call(1).await?, 1);
        drop(lane);
        assert_eq!((other.call(2).await?, named()), (2, 1));
        drop(other);
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
        while named() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bowline::tree().blocking, 0);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// omicron#10039: a command is run to its end, blocking, inside an async handler; even endpoints that await nothing hang. On the
/// lane it holds up nobody: the one thread that runs tasks answers meanwhile.
#[bowline::test]
async fn blocking_work_in_a_lane_does_not_hold_up_the_other_handlers() {
    let gate = Gate::default();
    let at_gate = gate.clone();
    scope("server", async |s| {
        let commands = CpuPool::new("commands", Bound::items(8)).threads(1).start(s, move |job: u64| {
            at_gate.pass();
            job
        });
        let command = s.spawn("run a command", async move { Ok(commands.call(7).await?) });
        let pings = s.spawn("ping", async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            Ok("pong")
        });
        assert_eq!(pings.await?, "pong"); // the command blocks all the while
        assert!(!command.is_finished());
        gate.open();
        assert_eq!(command.await?, 7);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}
