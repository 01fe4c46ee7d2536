//! Pools that grow and shrink. The rule itself is tested beside it, without a pool.

use std::time::Duration;

use bowline::{Bound, Cancelled, Overflow, Pool, PoolHandle, TaskState, Tree, Workers, scope, sleep, tree};

type Work = PoolHandle<Duration, ()>;

const MIN: usize = 2;
const MAX: usize = 16;

fn elastic() -> Pool<Duration> {
    Pool::new("elastic work", Workers::elastic(MIN, MAX), Bound::items(1_000), Overflow::Reject)
}

async fn takes(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn seconds(pool: &Work, jobs: usize) {
    for _ in 0..jobs {
        pool.submit(Duration::from_secs(1)).await.unwrap();
    }
}

/// The number in the books adds up at any moment.
fn is_even(pool: &Work) {
    let books = pool.stats();
    let ended =
        books.completed + books.failed + books.panicked + books.timed_out + books.cancelled + books.dropped;
    let there = (books.queued + books.running) as u64;
    assert_eq!(books.accepted, ended + there, "{books:?}");
    assert!(books.workers <= MAX && books.running <= books.workers, "{books:?}");
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn it_grows_while_jobs_wait_and_shrinks_when_nothing_came_for_long() -> Result<(), Cancelled> {
    scope("test", async |s| {
        let pool = elastic().start(s, takes);
        sleep(Duration::from_millis(1)).await?;
        assert_eq!(pool.stats().workers, MIN);
        seconds(&pool, 200).await;
        sleep(Duration::from_secs(1)).await?;
        assert_eq!(pool.stats().workers, MAX, "{:?}", pool.stats());
        is_even(&pool);
        sleep(Duration::from_secs(30)).await?;
        assert_eq!((pool.stats().completed, pool.stats().workers), (200, MAX), "not long enough ago");
        sleep(Duration::from_secs(60)).await?;
        assert_eq!(pool.stats().workers, MIN);
        is_even(&pool);
        Ok(())
    })
    .await
}

/// A ticking pool would keep a sleeping machine awake.
#[bowline::test(start_paused = true)]
async fn when_there_is_nothing_to_decide_nobody_looks() -> Result<(), Cancelled> {
    scope("test", async |s| {
        let pool = elastic().start(s, takes);
        sleep(Duration::from_millis(1)).await?;
        assert_eq!(waits_for("elastic"), ["job"]);
        seconds(&pool, 100).await;
        sleep(Duration::from_secs(120)).await?;
        assert_eq!(waits_for("elastic"), ["job"], "back to rest");
        Ok(())
    })
    .await
}

fn waits_for(task: &str) -> Vec<&'static str> {
    fn walk(scopes: &[bowline::ScopeInfo], task: &str, found: &mut Vec<&'static str>) {
        for scope in scopes {
            for known in &scope.tasks {
                if let (true, TaskState::Waiting(wait)) = (known.name == task, &known.state) {
                    found.push(wait.op);
                }
                walk(&known.scopes, task, found);
            }
            walk(&scope.scopes, task, found);
        }
    }
    let Tree { roots, .. } = tree();
    let mut found = Vec::new();
    walk(&roots, task, &mut found);
    found
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn a_worker_at_a_job_is_not_sent_away() -> Result<(), Cancelled> {
    scope("test", async |s| {
        let pool = elastic().start(s, takes);
        seconds(&pool, 200).await;
        sleep(Duration::from_secs(1)).await?;
        // As many as there are workers, and all of them longer than the pool remembers.
        for _ in 0..4 {
            pool.submit(Duration::from_secs(400)).await.unwrap();
        }
        sleep(Duration::from_secs(200)).await?;
        let books = pool.stats();
        assert!((4..MAX).contains(&books.workers), "{books:?}");
        assert_eq!((books.running, books.cancelled), (4, 0));
        sleep(Duration::from_secs(400)).await?;
        assert_eq!(pool.stats().completed, 204);
        Ok(())
    })
    .await
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn it_drains_while_it_grows() -> Result<(), Cancelled> {
    let pool = scope("test", async |s| {
        let pool = elastic().start(s, takes);
        seconds(&pool, 300).await;
        sleep(Duration::from_millis(120)).await?;
        pool.drain().await?;
        assert_eq!((pool.stats().completed, pool.stats().workers), (300, 0));
        Ok::<_, Cancelled>(pool)
    })
    .await?;
    assert!(pool.try_submit(Duration::ZERO).is_err());
    is_even(&pool);
    Ok(())
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn cancelled_while_it_grows_it_leaves_nobody_and_counts_everything() {
    let mut kept = None;
    let ended = scope("test", async |s| {
        let pool = kept.insert(elastic().start(s, takes));
        seconds(pool, 300).await;
        sleep(Duration::from_millis(120)).await?;
        s.cancel("enough");
        Ok::<_, Cancelled>(())
    });
    assert!(ended.await.is_err());
    let books = kept.unwrap().stats();
    assert_eq!((books.workers, books.cancelled, books.queued, books.running), (0, 300, 0, 0), "{books:?}");
}

/// A burst every minute for an hour: what it does at the hundredth is what it did at the tenth.
#[bowline::test(start_paused = true)]
async fn a_burst_each_minute_does_not_make_it_thrash() -> Result<(), Cancelled> {
    scope("test", async |s| {
        let pool = elastic().start(s, takes);
        for _ in 0..60 {
            seconds(&pool, 100).await;
            sleep(Duration::from_secs(65)).await?;
            is_even(&pool);
        }
        let resized = pool.stats().resized;
        assert!(resized < 30, "{resized} changes in an hour");
        Ok(())
    })
    .await
}

#[bowline::test(start_paused = true)]
async fn a_fixed_pool_is_never_resized() -> Result<(), Cancelled> {
    scope("test", async |s| {
        let pool =
            Pool::new("fixed", Workers::fixed(3), Bound::items(1_000), Overflow::Reject).start(s, takes);
        seconds(&pool, 100).await;
        sleep(Duration::from_secs(300)).await?;
        assert_eq!((pool.stats().workers, pool.stats().resized), (3, 0));
        Ok(())
    })
    .await
}

#[test]
#[should_panic(expected = "a pool of 3 to 2 workers")]
fn a_range_that_is_upside_down_is_refused() {
    let _ = Workers::elastic(3, 2);
}
