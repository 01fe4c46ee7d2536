//! Worker pools: what is accepted comes to one end, whoever leaves, and nobody is left asleep.

use super::{Tally, check, check_rare, dawdle, draw, give_up_early};
use crate::{
    Bound, CallError, Cancelled, Overflow, Pool, PoolHandle, PoolState, PoolStats, Scope, SubmitError,
    Workers, scope,
};

const SUBMITTERS: usize = 2;
const JOBS: usize = 3;

/// What the jobs of a model did.
#[derive(Clone, Default)]
struct Seen {
    begun: Tally,
    ended: Tally,
}

type Handle = PoolHandle<bool, ()>;

/// Two workers, so that there is one to wake, and two places, so that there is somebody to take along.
fn start(s: &Scope<Cancelled>, seen: &Seen, overflow: Overflow) -> Handle {
    let seen = seen.clone();
    Pool::new("pool", Workers::fixed(2), Bound::items(2), overflow).start(s, move |panics| {
        let seen = seen.clone();
        async move {
            seen.begun.more();
            dawdle().await;
            if panics {
                crate::bad_input("a bad job");
            }
            seen.ended.more();
        }
    })
}

#[track_caller]
fn is_even(stats: &PoolStats) {
    let ended = stats.completed + stats.failed + stats.panicked + stats.timed_out + stats.cancelled;
    let there = (stats.queued + stats.running) as u64;
    assert_eq!(stats.accepted, ended + stats.dropped + there, "{stats:?}");
    assert!(stats.queued <= stats.max_jobs, "{stats:?}");
}

#[track_caller]
fn has_ended(pool: &Handle, seen: &Seen) {
    let stats = pool.stats();
    is_even(&stats);
    assert_eq!((stats.state, stats.queued, stats.running), (PoolState::Ended, 0, 0));
    assert_eq!(seen.ended.now() as u64, stats.completed, "done twice, or not at all");
    let begun = seen.begun.now() as u64;
    assert!(
        (stats.completed + stats.panicked..=stats.accepted - stats.dropped).contains(&begun),
        "{stats:?}"
    );
}

/// The pool ends because its last handle is dropped.
async fn a_pool_that_is_let_go(overflow: Overflow) {
    let seen = Seen::default();
    let done = scope("service", async |s| {
        let pool = start(s, &seen, overflow);
        for _ in 0..SUBMITTERS {
            let pool = pool.clone();
            s.spawn("submit", async move {
                for job in 0..JOBS {
                    drop(give_up_early(pool.submit(job == 1)).await);
                    is_even(&pool.stats());
                }
                // Not given up: a wake-up that is lost leaves it here for ever.
                match pool.submit(false).await {
                    Ok(()) | Err(SubmitError::Full(_)) => Ok(()),
                    Err(refused) => Err(refused.into()),
                }
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    assert!(seen.ended.now() <= seen.begun.now());
}

/// The same, looked at from a handle that stays.
async fn a_pool_that_is_drained(overflow: Overflow) {
    let seen = Seen::default();
    let done = scope("service", async |s| {
        let pool = start(s, &seen, overflow);
        let mut tasks = Vec::new();
        for _ in 0..SUBMITTERS {
            let pool = pool.clone();
            tasks.push(s.spawn("submit", async move {
                for job in 0..JOBS {
                    drop(give_up_early(pool.submit(job == 1)).await);
                }
                Ok(())
            }));
        }
        dawdle().await; // some submit to a pool that drains
        pool.drain().await?;
        has_ended(&pool, &seen);
        for task in tasks {
            task.await?;
        }
        has_ended(&pool, &seen);
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
}

async fn callers_that_come_and_go() {
    let seen = Seen::default();
    let done = scope("service", async |s| {
        let pool = start(s, &seen, Overflow::Block);
        let mut tasks = Vec::new();
        for _ in 0..SUBMITTERS {
            let pool = pool.clone();
            tasks.push(s.spawn("call", async move {
                drop(give_up_early(pool.call(false)).await);
                drop(give_up_early(pool.submit(false)).await);
                match pool.call(true).await {
                    Err(CallError::Panicked(_)) => {}
                    other => panic!("{other:?}"),
                }
                match pool.call(false).await {
                    Ok(()) => Ok(()),
                    other => panic!("{other:?}"),
                }
            }));
        }
        for task in tasks {
            task.await?;
        }
        pool.drain().await?;
        has_ended(&pool, &seen);
        assert_eq!(pool.stats().panicked, SUBMITTERS as u64);
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
}

async fn a_pool_that_is_cancelled() {
    let seen = Seen::default();
    let kept = std::sync::Mutex::new(None);
    let done = scope("service", async |s| {
        let pool = start(s, &seen, Overflow::Block);
        *kept.lock().unwrap() = Some(pool.clone());
        for _ in 0..SUBMITTERS {
            let pool = pool.clone();
            s.spawn("submit", async move {
                for job in 0..JOBS {
                    if draw(2) == 0 {
                        pool.submit(job == 1).await.map_err(Cancelled::from)?;
                    } else {
                        drop(pool.call(job == 1).await);
                    }
                }
                Ok(())
            });
        }
        dawdle().await;
        s.cancel("enough");
        Ok::<_, Cancelled>(())
    })
    .await;
    let pool = kept.into_inner().unwrap().unwrap();
    let stats = pool.stats();
    is_even(&stats);
    assert_eq!((stats.state, stats.queued, stats.running, stats.waiting), (PoolState::Ended, 0, 0, 0));
    assert_eq!(seen.ended.now() as u64, stats.completed);
    drop(done); // it depends on who was faster
}

/// A worker goes while jobs come: what it would have looked at is another's.
async fn a_pool_that_shrinks() {
    let seen = Seen::default();
    let done = scope("service", async |s| {
        let pool = start(s, &seen, Overflow::Block);
        let mut tasks = Vec::new();
        for _ in 0..SUBMITTERS {
            let pool = pool.clone();
            tasks.push(s.spawn("submit", async move {
                for job in 0..JOBS {
                    dawdle().await;
                    pool.submit(job == 1).await.map_err(Cancelled::from)?;
                }
                Ok(())
            }));
        }
        dawdle().await;
        pool.shrink_to(1);
        for task in tasks {
            task.await?;
        }
        assert!(pool.call(false).await.is_ok(), "the other worker is there");
        pool.drain().await?;
        has_ended(&pool, &seen);
        assert_eq!(pool.stats().accepted, (SUBMITTERS * JOBS + 1) as u64);
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
}

#[test]
fn a_pool_that_is_let_go_finishes_its_work_and_leaves_nobody_asleep() {
    check(|| a_pool_that_is_let_go(Overflow::Block));
}

#[test]
fn a_pool_that_is_let_go_finishes_its_work_in_rare_orders() {
    check_rare(|| a_pool_that_is_let_go(Overflow::Block));
}

#[test]
fn a_pool_that_drops_finishes_the_rest() {
    check(|| a_pool_that_is_let_go(Overflow::DropOldest));
}

#[test]
fn a_drain_counts_every_job_once() {
    check(|| a_pool_that_is_drained(Overflow::Block));
}

#[test]
fn a_drain_counts_every_job_once_in_rare_orders() {
    check_rare(|| a_pool_that_is_drained(Overflow::DropOldest));
}

#[test]
fn callers_have_their_answers_and_those_that_leave_take_nothing_along() {
    check(callers_that_come_and_go);
}

#[test]
fn callers_have_their_answers_in_rare_orders() {
    check_rare(callers_that_come_and_go);
}

#[test]
fn a_pool_that_is_cancelled_counts_every_job_once() {
    check(a_pool_that_is_cancelled);
}

#[test]
fn a_worker_that_goes_leaves_no_job_behind() {
    check(a_pool_that_shrinks);
}

#[test]
fn a_worker_that_goes_leaves_no_job_behind_in_rare_orders() {
    check_rare(a_pool_that_shrinks);
}
