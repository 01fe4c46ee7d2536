//! Pools of leases: never more than the maximum, nothing lost, nobody left waiting, and an end.

use std::convert::Infallible;

use super::{One, Tally, check, check_rare, dawdle, draw, give_up_early};
use crate::{Cancelled, LeaseError, LeasePool, Leases, Scope, scope};

const MAX: usize = 2;
const TASKS: usize = 3;

fn start(s: &Scope<Cancelled>, alive: &Tally) -> LeasePool<One> {
    let counted = alive.clone();
    let make = move || {
        let counted = counted.clone();
        async move {
            dawdle().await;
            assert!(counted.now() < MAX, "there are too many");
            Ok::<_, Infallible>(counted.one())
        }
    };
    Leases::new("pool", MAX, make).without_time().start(s)
}

/// Comes and goes as requests do: some leave while they wait, some are cut off, some find the resource broken.
async fn request(pool: &LeasePool<One>, in_use: &Tally) -> Result<(), LeaseError> {
    drop(give_up_early(pool.acquire()).await);
    let mut lease = pool.acquire().await?;
    let one = in_use.one();
    assert!(in_use.now() <= MAX, "too many are leased");
    match draw(3) {
        0 => dawdle().await,
        1 => drop(give_up_early(lease.using(async |_| dawdle().await)).await),
        _ => lease.poison(),
    }
    drop(one);
    Ok(())
}

async fn requests_at_a_pool() {
    let alive = Tally::default();
    let done = scope("scope", async |s| {
        let pool = start(s, &alive);
        let in_use = Tally::default();
        let mut tasks = Vec::new();
        for _ in 0..TASKS {
            let (pool, in_use) = (pool.clone(), in_use.clone());
            tasks.push(s.spawn("request", async move { Ok(request(&pool, &in_use).await?) }));
        }
        for task in tasks {
            task.await?;
        }
        let stats = pool.stats();
        assert_eq!((stats.leased, stats.waiting), (0, 0));
        // What is there is idle, unless it is still being made or thrown away.
        assert!(stats.idle <= alive.now() && alive.now() <= stats.idle + stats.making + stats.discarding);
        drop(pool.acquire().await?);
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    assert_eq!(alive.now(), 0, "the scope has returned");
}

#[test]
fn a_pool_never_has_too_many_and_leaves_nobody_waiting() {
    check(requests_at_a_pool);
}

#[test]
fn a_pool_never_has_too_many_and_leaves_nobody_waiting_in_rare_orders() {
    check_rare(requests_at_a_pool);
}

#[test]
fn requests_that_are_cancelled_or_aborted_anywhere_leave_their_place_to_others() {
    check(async || {
        let alive = Tally::default();
        let done = scope("scope", async |s| {
            let pool = start(s, &alive);
            let in_use = Tally::default();
            let spawn = |name| {
                let (pool, in_use) = (pool.clone(), in_use.clone());
                s.spawn(name, async move { Ok(request(&pool, &in_use).await?) })
            };
            let (cancelled, aborted, other) = (spawn("cancelled"), spawn("aborted"), spawn("other"));
            dawdle().await;
            cancelled.cancel("enough");
            aborted.abort();
            other.await?;
            let (_a, _b) = (pool.acquire().await?, pool.acquire().await?);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(alive.now(), 0);
    });
}

async fn a_close_among_requests() {
    let alive = Tally::default();
    let done = scope("scope", async |s| {
        let pool = start(s, &alive);
        let in_use = Tally::default();
        for _ in 0..TASKS {
            let (pool, in_use) = (pool.clone(), in_use.clone());
            s.spawn("request", async move {
                match request(&pool, &in_use).await {
                    Ok(()) | Err(LeaseError::Closed { .. }) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            });
        }
        dawdle().await;
        pool.close().await?;
        assert_eq!((alive.now(), in_use.now()), (0, 0), "the close has waited for all");
        assert!(matches!(pool.acquire().await, Err(LeaseError::Closed { .. })));
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
}

#[test]
fn a_close_tells_who_waits_and_waits_for_who_holds() {
    check(a_close_among_requests);
}

#[test]
fn a_close_tells_who_waits_and_waits_for_who_holds_in_rare_orders() {
    check_rare(a_close_among_requests);
}

#[test]
fn a_lease_may_outlive_its_handles_and_its_scope() {
    check(async || {
        let alive = Tally::default();
        let kept = scope("scope", async |s| {
            let pool = start(s, &alive);
            let lease = pool.acquire().await?;
            let other = pool.clone();
            s.spawn("request", async move {
                let _lease = give_up_early(other.acquire()).await;
                dawdle().await;
                Ok(())
            });
            drop(pool);
            dawdle().await;
            Ok::<_, Cancelled>(lease)
        })
        .await;
        assert_eq!(alive.now(), 1, "only what is held");
        drop(kept);
        assert_eq!(alive.now(), 0);
    });
}

#[test]
fn a_scope_that_is_cancelled_takes_its_pool_along_at_any_moment() {
    check(async || {
        let alive = Tally::default();
        let done = scope("scope", async |s| {
            let pool = start(s, &alive);
            let in_use = Tally::default();
            for _ in 0..TASKS {
                let (pool, in_use) = (pool.clone(), in_use.clone());
                s.spawn("request", async move { Ok(request(&pool, &in_use).await?) });
            }
            dawdle().await;
            s.cancel("enough");
            Ok::<_, Cancelled>(())
        })
        .await;
        drop(done);
        assert_eq!(alive.now(), 0);
    });
}
