//! Worker pools: what is accepted, refused, dropped, cancelled, and that each is counted once.

mod support;

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bowline::{
    AlertKind, Bound, CallError, Cancelled, Cause, Overflow, Pool, PoolHandle, PoolState, PoolStats, Scope,
    SubmitError, Workers, deadline, pools, scope, shielded, sleep, timeout, value, with_value,
};
use support::{parked, yield_now};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// What a job of these tests does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Take(Duration),
    Panic,
    Fail,
    Ready(u32),
}

use Job::{Fail, Ready, Take};

async fn work(job: Job) -> Result<u32, &'static str> {
    match job {
        Ready(number) => Ok(number),
        Take(time) => {
            tokio::time::sleep(time).await;
            Ok(0)
        }
        Job::Panic => panic!("a bad job"),
        Fail => Err("a job that fails"),
    }
}

type Handle = PoolHandle<Job, Result<u32, &'static str>>;

/// As many workers, and as many places in the queue.
fn pool(workers: usize, places: usize, overflow: Overflow) -> Pool<Job> {
    Pool::new("jobs", Workers::fixed(workers), Bound::items(places), overflow)
}

/// Runs `body` with a pool, which has ended when this returns, and returns its books.
async fn with_pool(plan: Pool<Job>, body: impl AsyncFnOnce(&Handle)) -> PoolStats {
    let kept = Mutex::new(None);
    let ended = scope("test", async |s| {
        let handle = plan.start_fallible(s, work);
        body(&handle).await;
        handle.drain().await?;
        *kept.lock().unwrap() = Some(handle);
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(ended, Ok(()));
    let stats = kept.into_inner().unwrap().unwrap().stats();
    is_even(&stats);
    assert_eq!((stats.state, stats.queued, stats.running, stats.workers), (PoolState::Ended, 0, 0, 0));
    stats
}

/// Invariant 1: each accepted job is in exactly one place.
#[track_caller]
fn is_even(stats: &PoolStats) {
    let ended = stats.completed + stats.failed + stats.panicked + stats.timed_out + stats.cancelled;
    let there = (stats.queued + stats.running) as u64;
    assert_eq!(stats.accepted, ended + stats.dropped + there, "{stats:?}");
    assert!(stats.queued <= stats.max_jobs, "{stats:?}");
}

#[bowline::test(start_paused = true, schedules = 20, capacity_one)]
async fn what_is_accepted_is_done_before_the_scope_returns() {
    let done = Arc::new(AtomicUsize::new(0));
    scope("service", async |s| {
        let counted = Arc::clone(&done);
        let pool =
            Pool::new("count", Workers::fixed(3), Bound::items(4), Overflow::Block).start(s, move |wait| {
                let counted = Arc::clone(&counted);
                async move {
                    if wait {
                        sleep(SECOND).await.unwrap();
                    }
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            });
        for job in 0..50 {
            pool.submit(job % 3 == 0).await?;
            is_even(&pool.stats());
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 50);
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn jobs_begin_in_the_order_in_which_they_came() {
    let begun = Arc::new(Mutex::new(Vec::new()));
    scope("service", async |s| {
        let seen = Arc::clone(&begun);
        let pool = Pool::new("order", Workers::fixed(1), Bound::items(100), Overflow::Block).start(
            s,
            move |job: u32| {
                seen.lock().unwrap().push(job);
                // Some wait: what was taken along with them goes back to the front.
                async move {
                    if job % 7 == 0 {
                        sleep(SECOND).await.unwrap();
                    }
                }
            },
        );
        assert_eq!(pool.submit_all(0..500).await?, 500);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(*begun.lock().unwrap(), Vec::from_iter(0..500));
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn a_call_returns_its_result_and_everything_else_by_name() {
    let stats = with_pool(pool(2, 4, Overflow::Block).job_timeout(SECOND), async |pool| {
        assert!(matches!(pool.call(Ready(7)).await, Ok(Ok(7))));
        assert!(matches!(pool.call(Fail).await, Ok(Err("a job that fails"))));
        assert!(matches!(pool.call(Take(2 * SECOND)).await, Err(CallError::TimedOut)));
    })
    .await;
    assert_eq!((stats.completed, stats.failed, stats.timed_out), (1, 1, 1));
}

#[bowline::test(start_paused = true, allow_panics)]
async fn a_panic_is_told_to_the_caller_and_counted_and_the_worker_goes_on() {
    let stats = with_pool(pool(1, 4, Overflow::Block), async |pool| {
        let Err(CallError::Panicked(panic)) = pool.call(Job::Panic).await else { panic!("it panicked") };
        assert_eq!(panic.message(), "a bad job");
        for job in [Job::Panic, Ready(1), Job::Panic, Ready(2)] {
            pool.submit(job).await.unwrap();
        }
        assert!(matches!(pool.call(Ready(3)).await, Ok(Ok(3))));
    })
    .await;
    assert_eq!((stats.panicked, stats.completed), (3, 3));
    assert_eq!(bowline::panics().unexpected, 3);
}

#[bowline::test(start_paused = true)]
async fn a_job_that_takes_too_long_is_cancelled_at_its_await() {
    let began = Instant::now();
    let stats = with_pool(pool(1, 4, Overflow::Block).job_timeout(SECOND), async |pool| {
        pool.submit(Take(3600 * SECOND)).await.unwrap();
        assert!(matches!(pool.call(Ready(1)).await, Ok(Ok(1))));
        assert_eq!(began.elapsed().as_secs(), 1);
    })
    .await;
    assert_eq!((stats.timed_out, stats.completed), (1, 1));
}

#[bowline::test(start_paused = true)]
async fn a_full_pool_that_blocks_lets_in_first_come_first_served() {
    with_pool(pool(1, 1, Overflow::Block), async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Ready(0)).await.unwrap();
        let mut first = parked(pool.submit(Ready(1))).await;
        let second = parked(pool.submit(Ready(2))).await;
        let third = parked(pool.submit(Ready(3))).await;
        assert_eq!((pool.stats().waiting, pool.stats().waits), (3, 3));
        assert!(matches!(pool.try_submit(Ready(4)), Err(SubmitError::Full(Ready(4)))));
        drop(second); // gives its place up
        assert_eq!(pool.stats().waiting, 2);
        assert!(bowline::contended().iter().any(|found| found.name == "jobs" && found.waiters.len() == 2));
        first.as_mut().await.unwrap();
        third.await.unwrap();
    })
    .await;
}

#[bowline::test(start_paused = true)]
async fn a_full_pool_that_rejects_gives_the_job_back_and_counts_it() {
    let stats = with_pool(pool(1, 1, Overflow::Reject), async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Ready(1)).await.unwrap();
        assert_eq!(pool.submit(Ready(2)).await, Err(SubmitError::Full(Ready(2))));
        let called = pool.call(Ready(3)).await;
        assert!(matches!(called, Err(CallError::Refused(SubmitError::Full(Ready(3))))));
    })
    .await;
    assert_eq!((stats.accepted, stats.refused, stats.completed), (2, 2, 2));
}

#[bowline::test(start_paused = true)]
async fn whoever_makes_room_is_counted_and_its_caller_told() {
    let stats = with_pool(pool(1, 2, Overflow::DropOldest), async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        let called = parked(pool.call(Ready(1))).await;
        pool.submit(Ready(2)).await.unwrap();
        pool.submit(Ready(3)).await.unwrap(); // the called one makes room
        assert!(matches!(called.await, Err(CallError::Dropped)));
        pool.submit(Ready(4)).await.unwrap();
    })
    .await;
    assert_eq!((stats.accepted, stats.dropped, stats.completed), (5, 2, 3));

    let stats = with_pool(pool(1, 1, Overflow::DropNewest), async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Ready(1)).await.unwrap();
        pool.submit(Ready(2)).await.unwrap();
        assert!(matches!(pool.call(Ready(3)).await, Err(CallError::Dropped)));
    })
    .await;
    assert_eq!((stats.accepted, stats.dropped, stats.completed), (4, 2, 2));
}

#[bowline::test(start_paused = true)]
async fn a_pool_that_disconnects_drains_when_it_is_full() {
    let stats = with_pool(pool(1, 1, Overflow::Disconnect), async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Ready(1)).await.unwrap();
        assert_eq!(pool.submit(Ready(2)).await, Err(SubmitError::Closed(Ready(2))));
        assert_eq!(pool.stats().state, PoolState::Draining);
    })
    .await;
    assert_eq!((stats.accepted, stats.refused, stats.completed), (2, 1, 2));
}

#[bowline::test(start_paused = true)]
async fn a_wait_for_room_ends_with_the_context_or_after_the_time_the_pool_gives() {
    let stats = with_pool(pool(1, 1, Overflow::Block).wait_at_most(3 * SECOND), async |pool| {
        pool.submit(Take(60 * SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Ready(1)).await.unwrap();
        let began = Instant::now();
        let refused = timeout(SECOND, pool.submit(Ready(2))).await.unwrap();
        assert!(matches!(refused, Err(SubmitError::Cancelled(Ready(2), late)) if late.is_deadline()));
        assert_eq!(began.elapsed().as_secs(), 1);
        assert_eq!(pool.submit(Ready(3)).await, Err(SubmitError::Full(Ready(3))));
        assert_eq!(began.elapsed().as_secs(), 4);
        assert_eq!(pool.stats().waiting, 0);
    })
    .await;
    assert_eq!((stats.refused, stats.completed), (1, 2));
}

#[bowline::test(start_paused = true)]
async fn the_bound_in_bytes_holds_and_a_large_job_passes_alone() {
    let bound = Bound::items(10).and_bytes(100, |job: &Job| match job {
        Ready(bytes) => *bytes as usize,
        _ => 0,
    });
    let plan = Pool::new("bytes", Workers::fixed(1), bound, Overflow::Reject);
    with_pool(plan, async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Ready(60)).await.unwrap();
        assert!(matches!(pool.submit(Ready(60)).await, Err(SubmitError::Full(_))));
        pool.submit(Ready(40)).await.unwrap();
        assert_eq!((pool.stats().queued, pool.stats().queued_bytes), (2, 100));
        sleep(2 * SECOND).await.unwrap();
        assert_eq!(pool.stats().queued_bytes, 0);
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Ready(1_000)).await.unwrap(); // into an empty queue: it would be stuck for ever
    })
    .await;
}

#[bowline::test(start_paused = true)]
async fn a_large_job_that_leaves_the_line_lets_small_ones_pass() {
    let bound = Bound::items(10)
        .and_bytes(100, |job: &Job| if let Ready(bytes) = job { *bytes as usize } else { 50 });
    with_pool(Pool::new("bytes", Workers::fixed(1), bound, Overflow::Block), async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Take(SECOND)).await.unwrap();
        let large = parked(pool.submit(Ready(80))).await;
        let small = parked(pool.submit(Ready(20))).await; // there is room, but it came later
        drop(large);
        assert_eq!((pool.stats().queued, pool.stats().waiting), (2, 0));
        small.await.unwrap();
    })
    .await;
}

#[bowline::test(start_paused = true)]
async fn a_queued_job_whose_caller_leaves_is_taken_out_and_makes_room() {
    let stats = with_pool(pool(1, 1, Overflow::Block), async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        let called = parked(pool.call(Job::Panic)).await;
        let next = parked(pool.submit(Ready(1))).await;
        assert_eq!(pool.stats().queued, 1);
        drop(called);
        assert_eq!((pool.stats().cancelled, pool.stats().waiting), (1, 0));
        next.await.unwrap();
    })
    .await;
    assert_eq!((stats.cancelled, stats.panicked, stats.completed), (1, 0, 2));
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn a_running_job_whose_caller_leaves_is_cancelled() {
    let began = Instant::now();
    let stats = with_pool(pool(1, 1, Overflow::Block), async |pool| {
        let mut called = Box::pin(pool.call(Take(3600 * SECOND)));
        for _ in 0..50 {
            let _ = bowline::testing::poll_once(&mut called).await;
            yield_now(1).await;
        }
        assert_eq!(pool.stats().running, 1);
        drop(called);
        assert!(matches!(pool.call(Ready(1)).await, Ok(Ok(1))));
    })
    .await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!((stats.cancelled, stats.completed), (1, 1));
}

#[bowline::test(start_paused = true)]
async fn a_called_job_has_the_deadline_the_values_and_the_cancellation_of_its_caller() {
    scope("service", async |s| {
        let pool = Pool::new("context", Workers::fixed(2), Bound::items(2), Overflow::Block).start(
            s,
            async |forever| {
                let seen = (deadline(), value::<u32>().as_deref().copied());
                if forever {
                    pending::<()>().await;
                }
                seen
            },
        );
        assert_eq!(pool.call(false).await.unwrap(), (None, None));
        let at = Instant::now() + SECOND;
        let called = timeout(SECOND, with_value(7_u32, pool.call(false))).await?;
        assert_eq!(called.unwrap(), (Some(at), Some(7)));

        let late = timeout(SECOND, pool.call(true)).await?;
        assert!(matches!(late, Err(CallError::Cancelled(why)) if why.is_deadline()));
        yield_now(3).await;
        let stats = pool.stats();
        assert_eq!((stats.cancelled, stats.running, stats.completed), (1, 0, 2));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true, allow_adoption)]
async fn the_scope_of_a_caller_ends_after_its_job() {
    let said = Arc::new(AtomicUsize::new(0));
    scope("service", async |s| {
        let goodbyes = Arc::clone(&said);
        let pool =
            Pool::new("polite", Workers::fixed(1), Bound::items(2), Overflow::Block).start(s, move |()| {
                let goodbyes = Arc::clone(&goodbyes);
                async move {
                    let cancelled = bowline::cancelled().await;
                    let _ = shielded(10 * SECOND, tokio::time::sleep(5 * SECOND)).await;
                    goodbyes.fetch_add(1, Ordering::Relaxed);
                    cancelled
                }
            });
        let began = Instant::now();
        let caller = scope("caller", async |c| {
            let pool = pool.clone();
            c.spawn("call", async move { pool.call(()).await.map(drop).map_err(Cancelled::from) });
            sleep(SECOND).await?;
            c.cancel("enough");
            Ok::<_, Cancelled>(())
        });
        assert_eq!(caller.await.unwrap_err().cause(), &Cause::Requested("enough"));
        assert_eq!((said.load(Ordering::Relaxed), began.elapsed().as_secs()), (1, 6));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn cancelled_with_its_scope_a_pool_drops_what_waits_and_tells_everybody() {
    let kept = Mutex::new(None);
    let ended = scope("service", async |s| {
        let pool = pool(2, 3, Overflow::Block).start_fallible(s, async |_| {
            pending::<()>().await;
            Ok::<u32, &str>(0)
        });
        for _ in 0..4 {
            pool.submit(Ready(0)).await?;
        }
        yield_now(3).await;
        let called = pool.clone();
        let (called, waiting) = bowline::join(
            async {
                let outside = scope("outside", async |_| Ok::<_, Cancelled>(called.call(Ready(1)).await));
                shielded(SECOND, outside).await
            },
            async {
                yield_now(1).await;
                let waiting = shielded(SECOND, pool.submit(Ready(2)));
                let (waiting, ()) = bowline::join(waiting, async {
                    yield_now(1).await;
                    is_even(&pool.stats());
                    s.cancel("enough");
                })
                .await;
                waiting
            },
        )
        .await;
        assert!(matches!(called, Ok(Ok(Err(CallError::Cancelled(_))))), "{called:?}");
        assert_eq!(waiting, Ok(Err(SubmitError::Closed(Ready(2)))));
        *kept.lock().unwrap() = Some(pool);
        bowline::check()
    })
    .await;
    assert_eq!(ended.unwrap_err().cause(), &Cause::Requested("enough"));
    let pool = kept.into_inner().unwrap().unwrap();
    let stats = pool.stats();
    is_even(&stats);
    assert_eq!((stats.accepted, stats.cancelled, stats.state), (5, 5, PoolState::Ended));
    assert_eq!(pool.submit(Ready(1)).await, Err(SubmitError::Closed(Ready(1))));
    pool.drain().await.unwrap();
}

#[bowline::test]
async fn in_a_scope_that_is_closed_nothing_runs_and_the_handle_says_so() {
    scope("service", async |s| {
        s.handle().close();
        let handle = pool(1, 1, Overflow::Block).start_fallible(&s.handle(), work);
        assert_eq!(handle.submit(Ready(1)).await, Err(SubmitError::Closed(Ready(1))));
        assert!(matches!(
            handle.call(Ready(1)).await,
            Err(CallError::Refused(SubmitError::Closed(Ready(1))))
        ));
        handle.drain().await?;
        assert_eq!((handle.stats().workers, handle.stats().state), (0, PoolState::Ended));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_drain_finishes_what_was_accepted_and_refuses_who_waits() {
    let stats = with_pool(pool(1, 1, Overflow::Block), async |pool| {
        pool.submit(Take(SECOND)).await.unwrap();
        yield_now(3).await;
        pool.submit(Take(SECOND)).await.unwrap();
        let waits = parked(pool.submit(Ready(1))).await;
        let began = Instant::now();
        let (drained, waited) = bowline::join(pool.drain(), waits).await;
        assert_eq!((drained, waited), (Ok(()), Err(SubmitError::Closed(Ready(1)))));
        assert_eq!(began.elapsed().as_secs(), 2);
    })
    .await;
    assert_eq!((stats.accepted, stats.completed, stats.cancelled), (2, 2, 0));
}

#[bowline::test(start_paused = true)]
async fn a_slow_job_holds_up_nobody_that_was_taken_along_with_it() {
    with_pool(pool(2, 100, Overflow::Block), async |pool| {
        // Fast ones first: from their pace on workers take many at once.
        pool.submit_all((0..500).map(Ready)).await.unwrap();
        let mut jobs = vec![Ready(0); 40];
        jobs[20] = Take(3600 * SECOND);
        pool.submit_all(jobs).await.unwrap();
        let began = Instant::now();
        while pool.stats().completed < 539 {
            sleep(Duration::from_millis(1)).await.unwrap();
            assert!(began.elapsed() < SECOND, "{:?}", pool.stats());
        }
    })
    .await;
}

/// ants#146: every worker panics, and those who wait for one sleep until the next purge of stale workers, ten seconds each.
#[bowline::test(start_paused = true, allow_panics)]
async fn workers_that_all_panic_leave_nobody_waiting() {
    let began = Instant::now();
    let stats = with_pool(pool(1, 1, Overflow::Block), async |pool| {
        let panics = async || pool.submit(Job::Panic).await.unwrap();
        bowline::join_all([0; 5].map(|_| panics())).await;
    })
    .await;
    assert_eq!((stats.panicked, stats.accepted, began.elapsed()), (5, 5, Duration::ZERO));
}

/// pond#138: jobs are submitted in bulk, the context is cancelled before they start, nobody counts them out, and the wait for
/// the end does not return.
/// pond#61: the same when the parent context is cancelled while jobs stand in the queue.
#[bowline::test(start_paused = true)]
async fn cancelled_with_jobs_that_have_not_begun_a_pool_ends_at_once_and_counts_them_out() {
    for before_their_first_turn in [true, false] {
        let kept = Mutex::new(None);
        let service = scope("service", async |s| {
            let handle = pool(1, 20, Overflow::Block).start_fallible(s, work);
            assert_eq!(handle.submit_all([Take(3600 * SECOND); 20]).await.map_err(|_| ()), Ok(20));
            *kept.lock().unwrap() = Some(handle.clone());
            if !before_their_first_turn {
                yield_now(5).await;
            }
            s.cancel("enough");
            handle.drain().await
        });
        tokio::time::timeout(SECOND, service).await.expect("it returns").unwrap_err();
        let handle = kept.into_inner().unwrap().unwrap();
        handle.drain().await.unwrap();
        assert_eq!((handle.stats().accepted, handle.stats().cancelled), (20, 20));
        is_even(&handle.stats());
    }
}

/// pond#135: a job ends without returning (`runtime.Goexit`, as test libraries do), is never counted out, and the wait for the end
/// does not return. Here a job can unwind without a panic, or be cancelled by its caller.
#[bowline::test(start_paused = true, allow_panics)]
async fn a_job_that_ends_without_returning_is_counted_out() {
    scope("service", async |s| {
        let plan = Pool::new("jobs", Workers::fixed(1), Bound::items(2), Overflow::Block);
        let pool = plan.start(s, async |unwinds| {
            if unwinds {
                std::panic::resume_unwind(Box::new("no message"));
            }
            pending::<()>().await;
        });
        pool.submit(true).await?;
        assert!(timeout(SECOND, pool.call(false)).await?.is_err());
        tokio::time::timeout(SECOND, pool.drain()).await.expect("it returns")?;
        let stats = pool.stats();
        assert_eq!((stats.accepted, stats.panicked, stats.cancelled), (2, 1, 1));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// What was taken along with a job that waits goes back, and the worker that had been idle is woken for it, though a quick one
/// was awake when it came.
#[bowline::test(start_paused = true)]
async fn whoever_waits_behind_a_quick_worker_that_is_not_quick_any_more_is_served_by_another() {
    with_pool(pool(2, 100, Overflow::Block), async |pool| {
        pool.submit_all((0..500).map(Ready)).await.unwrap();
        let mut jobs = vec![Take(3600 * SECOND)];
        jobs.extend((0..30).map(Ready));
        let began = Instant::now();
        pool.submit_all(jobs).await.unwrap();
        assert!(matches!(pool.call(Ready(7)).await, Ok(Ok(7))));
        assert!(began.elapsed() < SECOND);
        assert_eq!((pool.stats().running, pool.stats().queued), (1, 0));
    })
    .await;
}

/// A pool whose jobs give it as many jobs as they say, and sum up what becomes of them.
fn nested(s: &Scope<Cancelled>, workers: usize, how: How) -> PoolHandle<usize, usize> {
    let itself = Arc::new(OnceLock::<PoolHandle<usize, usize>>::new());
    let own = Arc::clone(&itself);
    let plan = Pool::new("nested", Workers::fixed(workers), Bound::items(1), Overflow::Block);
    let pool = plan.start(s, move |jobs| {
        let own = Arc::clone(&own);
        async move {
            let pool = own.get().unwrap();
            let mut went_well = 0;
            for _ in 0..jobs {
                went_well += match how {
                    How::Submit => usize::from(pool.submit(0).await.is_ok()),
                    How::SubmitInATask => scope("inner", async |inner| {
                        let pool = pool.clone();
                        inner
                            .spawn("task", async move { Ok(usize::from(pool.submit(0).await.is_ok())) })
                            .await
                    })
                    .await
                    .unwrap(),
                    How::Call => pool.call(jobs - 1).await.map_or(0, |below| 1 + below),
                };
            }
            went_well
        }
    });
    itself.set(pool.clone()).unwrap();
    pool
}

#[derive(Clone, Copy)]
enum How {
    Submit,
    SubmitInATask,
    Call,
}

/// ants#197: a task that submits to its own pool when that is full waits for itself.
#[bowline::test(start_paused = true)]
async fn a_job_that_submits_to_its_own_full_pool_is_refused_and_gets_the_job_back() {
    // Bare: a channel of one place and its worker, which sends.
    let (tx, mut rx) = tokio::sync::mpsc::channel(1);
    let bare = async {
        while let Some(jobs) = rx.recv().await {
            for _ in 0..jobs {
                tx.send(0).await.unwrap();
            }
        }
    };
    tx.send(3).await.unwrap();
    assert!(timeout(60 * SECOND, bare).await.unwrap_err().is_deadline(), "the bare pool stands still");

    for how in [How::Submit, How::SubmitInATask] {
        scope("service", async |s| {
            let pool = nested(s, 2, how);
            let calls = bowline::join_all([3; 4].map(|jobs| pool.call(jobs))).await;
            let accepted: usize = calls.into_iter().map(|call| call.unwrap()).sum();
            pool.drain().await?;
            let stats = pool.stats();
            is_even(&stats);
            assert_eq!(stats.accepted as usize, 4 + accepted);
            assert_eq!(stats.refused as usize, 12 - accepted);
            assert!(stats.refused > 0, "{stats:?}");
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    }
}

/// pond#56: jobs wait for jobs that stand behind them in the queue of their own pool: whether that hangs depends on how many there
/// are.
#[bowline::test(start_paused = true)]
async fn a_job_that_calls_its_own_pool_has_it_done_in_place() {
    // Bare: one worker, which waits for an answer that only it could give.
    let (tx, mut rx) = tokio::sync::mpsc::channel::<(usize, tokio::sync::oneshot::Sender<()>)>(8);
    let bare = async {
        while let Some((jobs, answer)) = rx.recv().await {
            if jobs > 0 {
                let (inner, answered) = tokio::sync::oneshot::channel();
                tx.send((jobs - 1, inner)).await.unwrap();
                answered.await.unwrap();
            }
            answer.send(()).unwrap();
        }
    };
    let (answer, _answered) = tokio::sync::oneshot::channel();
    tx.send((1, answer)).await.unwrap();
    assert!(timeout(60 * SECOND, bare).await.unwrap_err().is_deadline(), "the bare pool stands still");

    scope("service", async |s| {
        let pool = nested(s, 1, How::Call);
        // 3 + 3·2 + 3·2·1
        assert_eq!(pool.call(3).await.unwrap(), 15);
        pool.drain().await?;
        let stats = pool.stats();
        is_even(&stats);
        assert_eq!((stats.accepted, stats.completed, stats.high_water), (16, 16, 1));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_job_that_waits_for_the_end_of_its_own_pool_is_told() {
    scope("service", async |s| {
        let itself = Arc::new(OnceLock::<PoolHandle<(), bool>>::new());
        let own = Arc::clone(&itself);
        let plan = Pool::new("nested", Workers::fixed(1), Bound::items(1), Overflow::Block);
        let pool = plan.start(s, move |()| {
            let own = Arc::clone(&own);
            async move { own.get().unwrap().drain().await.is_err() }
        });
        itself.set(pool.clone()).unwrap();
        assert!(pool.call(()).await.unwrap());
        pool.drain().await
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_queue_that_stays_high_is_an_alert_until_it_is_not() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = bowline::on_alert({
        let told = Arc::clone(&told);
        move |alert| told.lock().unwrap().push((alert.kind, alert.name.to_string(), alert.raised))
    });
    with_pool(pool(1, 4, Overflow::Block), async |pool| {
        pool.submit_all([Take(SECOND); 4]).await.unwrap();
        assert!(told.lock().unwrap().is_empty());
        pool.submit_all([Take(SECOND); 3]).await.unwrap();
    })
    .await;
    let told = told.lock().unwrap();
    let high = |raised| (AlertKind::QueueHigh, "jobs".to_owned(), raised);
    assert_eq!(*told, [high(true), high(false)]);
    drop(hook);
}

#[bowline::test(start_paused = true)]
async fn its_books_say_how_long_jobs_wait_and_all_pools_are_listed() {
    with_pool(pool(1, 4, Overflow::Block), async |pool| {
        pool.submit_all([Take(SECOND); 3]).await.unwrap();
        sleep(SECOND / 2).await.unwrap();
        let stats = pool.stats();
        assert_eq!((stats.workers, stats.idle, stats.running, stats.queued), (1, 0, 1, 2));
        assert_eq!((stats.oldest_ms / 100, stats.high_water), (5, 3));
        sleep(3 * SECOND).await.unwrap();
        let stats = pool.stats();
        assert_eq!((stats.waited_ms / 1_000, stats.oldest_ms, stats.idle), (3, 0, 1));
        assert!(pools().iter().any(|other| other.id == stats.id && other.completed == 3));
        assert!(serde_json::to_string(&stats).unwrap().contains("\"state\":\"open\""));
    })
    .await;
}

#[bowline::test(start_paused = true)]
async fn in_the_tree_a_pool_is_one_child_with_its_workers_below() {
    scope("service", async |s| {
        let pool = pool(2, 4, Overflow::Block).start_fallible(s, work);
        pool.submit(Take(SECOND)).await?;
        let called = parked(pool.call(Take(SECOND))).await;
        yield_now(3).await;
        let tree = bowline::tree().to_string();
        assert!(tree.contains("jobs") && tree.contains("workers"), "{tree}");
        drop(called);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
#[should_panic(expected = "at least one worker")]
async fn a_pool_without_workers_is_refused() {
    let _ = Workers::fixed(0);
}
