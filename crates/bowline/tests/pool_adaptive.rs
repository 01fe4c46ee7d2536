//! Pools whose number of workers follows a limit. How a limit moves is tested beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{Bound, CallError, Cancelled, Limit, Overflow, Pool, Workers, scope, sleep};

/// Something that bears so many at a time, and takes longer the more there are beyond.
#[derive(Clone)]
struct Upstream {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    bears: usize,
}

impl Upstream {
    fn new(bears: usize) -> Self {
        Self { inside: Arc::default(), most: Arc::default(), bears }
    }

    async fn ask(&self) {
        let inside = self.inside.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(inside, Ordering::Relaxed);
        let over = u32::try_from(inside.div_ceil(self.bears)).unwrap();
        tokio::time::sleep(Duration::from_millis(10) * over).await;
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn feed(workers: Workers, upstream: &Upstream, jobs: usize) -> (usize, u64) {
    let asked = upstream.clone();
    scope("test", async |s| {
        let pool = Pool::new("upstream", workers, Bound::items(1_000), Overflow::Block).start(s, move |()| {
            let upstream = asked.clone();
            async move { upstream.ask().await }
        });
        for _ in 0..jobs {
            pool.submit(()).await?;
        }
        let books = pool.stats();
        pool.drain().await?;
        assert_eq!(pool.stats().completed, jobs as u64);
        Ok::<_, Cancelled>((books.workers, books.resized))
    })
    .await
    .unwrap()
}

#[bowline::test(start_paused = true)]
async fn it_grows_to_what_the_upstream_bears_and_not_far_beyond() {
    let upstream = Upstream::new(40);
    let limit = Limit::aimd(1..=400).slower_than(Duration::from_millis(15));
    let (workers, resized) = feed(Workers::adaptive(limit), &upstream, 20_000).await;
    assert!((25..=45).contains(&workers), "{workers} workers where 40 are borne");
    assert!(resized > 10, "{resized}");
    assert!(upstream.most.load(Ordering::Relaxed) <= 45, "{}", upstream.most.load(Ordering::Relaxed));
}

#[bowline::test(start_paused = true)]
async fn it_stays_within_its_bounds() {
    let upstream = Upstream::new(1_000);
    let (workers, _) = feed(Workers::adaptive(Limit::aimd(2..=8)), &upstream, 5_000).await;
    assert_eq!((workers, upstream.most.load(Ordering::Relaxed)), (8, 8));
    let upstream = Upstream::new(1);
    let limit = Limit::aimd(3..=8).slower_than(Duration::from_millis(1));
    let (workers, _) = feed(Workers::adaptive(limit), &upstream, 2_000).await;
    assert_eq!(workers, 3, "each job is too slow");
}

/// Who calls has less patience than the jobs take: that is what overload looks like from here.
#[bowline::test(start_paused = true, schedules = 10)]
async fn callers_that_lose_patience_make_it_smaller() -> Result<(), Cancelled> {
    scope("test", async |s| {
        let pool =
            Pool::new("slow", Workers::adaptive(Limit::aimd(2..=64)), Bound::items(500), Overflow::Block)
                .start(s, async |()| tokio::time::sleep(Duration::from_secs(1)).await);
        sleep(Duration::from_millis(1)).await?;
        let before = pool.stats().workers;
        for _ in 0..40 {
            let late = bowline::timeout(Duration::from_millis(100), pool.call(())).await;
            assert!(matches!(late, Ok(Err(CallError::Cancelled(_))) | Err(_)), "{late:?}");
        }
        sleep(Duration::from_secs(5)).await?;
        let after = pool.stats();
        assert!(after.workers < before, "{} of {before}: {after:?}", after.workers);
        assert_eq!(after.accepted, after.cancelled + after.completed, "{after:?}");
        Ok(())
    })
    .await
}

#[bowline::test(start_paused = true, schedules = 20)]
async fn workers_that_are_too_many_go_though_jobs_wait_and_none_is_lost() -> Result<(), Cancelled> {
    scope("test", async |s| {
        let limit = Limit::aimd(1..=32).slower_than(Duration::from_millis(1));
        let pool = Pool::new("jobs", Workers::adaptive(limit), Bound::items(1_000), Overflow::Block)
            .start(s, async |()| tokio::time::sleep(Duration::from_millis(5)).await);
        for _ in 0..200 {
            pool.submit(()).await?;
        }
        sleep(Duration::from_millis(200)).await?;
        let books = pool.stats();
        assert!(books.queued > 0 && books.workers == 1, "{books:?}");
        pool.drain().await?;
        assert_eq!(pool.stats().completed, 200);
        Ok(())
    })
    .await
}
