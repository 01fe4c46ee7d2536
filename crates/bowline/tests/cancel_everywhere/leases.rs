//! Leases: a wait that is cut takes nothing along, and a use that is cut takes the resource out of the pool.

use super::*;
use bowline::{LeasePool, Leases};
use std::convert::Infallible;

/// A pool of one, in a scope of its own that outlives each cut.
async fn with_pool<R>(body: impl AsyncFnOnce(&LeasePool<Arc<()>>, &Ledger) -> R) -> R {
    let ledger = Ledger::default();
    let done = scope("pool", async |s| {
        let one = ledger.0.clone();
        let make = move || {
            let one = Arc::clone(&one);
            async move {
                yield_now(2).await;
                Ok::<_, Infallible>(one)
            }
        };
        let pool = Leases::new("pool", 1, make).start(s);
        Ok::<_, Error>(body(&pool, &ledger).await)
    })
    .await;
    ledger.is_even();
    done.expect("nobody cancels this scope")
}

rows! {
    a_lease: "pool::LeasePool::acquire" => {
        with_pool(async |pool, ledger| {
            let make = || async {
                // One has it, two wait for it: some of those that are cut were just granted it.
                let hold = async || {
                    let _lease = pool.acquire().await?;
                    yield_now(1).await;
                    Ok::<_, bowline::LeaseError>(())
                };
                drop(join_all([hold(), hold(), hold()]).await);
            };
            everywhere(make, async || {
                let stats = pool.stats();
                assert_eq!((stats.leased, stats.waiting, stats.making), (0, 0, 0));
                assert_eq!(stats.idle, ledger.count() - 1, "the pool's own, and those it has made");
            })
            .await;
        })
        .await;
        Ok(())
    }

    work_with_a_lease: "guard::Lease::using" => {
        with_pool(async |pool, ledger| {
            let finished = Cell::new(0);
            let begun = Cell::new(0);
            let make = || async {
                let mut lease = pool.acquire().await?;
                bump(&begun);
                lease.using(async |_| yield_now(2).await).await;
                bump(&finished);
                Ok::<_, bowline::LeaseError>(())
            };
            everywhere(make, async || {
                let stats = pool.stats();
                assert_eq!((stats.leased, stats.waiting, stats.making), (0, 0, 0));
                assert_eq!(stats.idle, ledger.count() - 1, "the pool's own, and those it has made");
                assert!(stats.discarded.cancelled as usize >= begun.get() - finished.get());
            })
            .await;
            assert!(begun.get() > finished.get());
        })
        .await;
        Ok(())
    }

    the_close_of_a_pool: "pool::LeasePool::close" => {
        let ledger = Ledger::default();
        let make = || scope("pool", async |s| {
            let one = ledger.one();
            let make = move || {
                let one = Arc::clone(&one);
                async move { Ok::<_, Infallible>(one) }
            };
            let pool = Leases::new("pool", 2, make).discard(async |_| yield_now(2).await).start(s);
            let lease = pool.acquire().await?;
            drop(pool.acquire().await?);
            let gives_back = async {
                yield_now(2).await;
                drop(lease);
            };
            join(pool.close(), gives_back).await.0?;
            assert_eq!(ledger.count(), 0, "closed is closed");
            Ok::<_, Error>(())
        });
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }
}
