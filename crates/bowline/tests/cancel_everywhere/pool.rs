//! Worker pools: a job is accepted or not, and each that is accepted comes to one end.

use bowline::{Pool, PoolHandle, Workers, testing};

use super::*;

type Handle = PoolHandle<Arc<()>, ()>;

async fn with_pool(body: impl AsyncFnOnce(&Handle) -> Result<(), Error>) -> Result<(), Error> {
    scope("service", async |s| {
        let plan = Pool::new("jobs", Workers::fixed(1), Bound::items(1), Overflow::Block);
        let pool = plan.start(s, async |token: Arc<()>| {
            yield_now(2).await;
            drop(token);
        });
        body(&pool).await
    })
    .await
}

#[track_caller]
fn is_at_rest(pool: &Handle) {
    let stats = pool.stats();
    assert_eq!((stats.queued, stats.running, stats.waiting), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.accepted, stats.completed + stats.cancelled, "{stats:?}");
}

rows! {
    a_submit_to_a_full_pool: "handle::PoolHandle::submit" => {
        let ledger = Ledger::default();
        with_pool(async |pool| {
            let make = || async {
                for _ in 0..4 {
                    pool.submit(ledger.one()).await.map_err(|refused| refused.without_job())?;
                }
                Ok::<_, Error>(())
            };
            everywhere(make, async || { ledger.is_even(); is_at_rest(pool); }).await;
            Ok(())
        })
        .await
    }

    jobs_submitted_together: "handle::PoolHandle::submit_all" => {
        let ledger = Ledger::default();
        with_pool(async |pool| {
            let make = || async { pool.submit_all((0..5).map(|_| ledger.one())).await.map_err(drop) };
            everywhere(make, async || { ledger.is_even(); is_at_rest(pool); }).await;
            Ok(())
        })
        .await
    }

    calls_of_a_pool_in_line_and_queued_and_running: "handle::PoolHandle::call" => {
        let ledger = Ledger::default();
        with_pool(async |pool| {
            let make = || join_all([0; 4].map(|_| pool.call(ledger.one())));
            everywhere(make, async || { ledger.is_even(); is_at_rest(pool); }).await;
            Ok(())
        })
        .await
    }

    a_call_from_a_job_of_the_same_pool: "handle::PoolHandle::call" => {
        let ledger = Ledger::default();
        let itself = Arc::new(std::sync::OnceLock::<PoolHandle<Option<Arc<()>>, ()>>::new());
        scope("service", async |s| {
            let plan = Pool::new("jobs", Workers::fixed(1), Bound::items(1), Overflow::Block);
            let inner = Arc::clone(&itself);
            let pool = plan.start(s, move |token: Option<Arc<()>>| {
                let inner = Arc::clone(&inner);
                async move {
                    yield_now(1).await;
                    if token.is_some() {
                        let _ = inner.get().unwrap().call(None).await;
                    }
                }
            });
            itself.set(pool.clone()).unwrap();
            let make = || pool.call(Some(ledger.one()));
            everywhere(make, async || {
                ledger.is_even();
                let stats = pool.stats();
                assert_eq!((stats.queued, stats.running), (0, 0), "{stats:?}");
                assert_eq!(stats.accepted, stats.completed + stats.cancelled, "{stats:?}");
            })
            .await;
            pool.drain().await.map_err(Error::from)
        })
        .await
    }

    the_drain_of_a_pool: "handle::PoolHandle::drain" => {
        let ledger = Ledger::default();
        let make = || async {
            with_pool(async |pool| {
                pool.submit(ledger.one()).await.map_err(|refused| refused.without_job())?;
                let mut waits = Box::pin(pool.submit(ledger.one()));
                let _ = testing::poll_once(&mut waits).await;
                pool.drain().await?;
                assert!(waits.await.is_err(), "it was not accepted");
                is_at_rest(pool);
                Ok(())
            })
            .await
        };
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }
}
