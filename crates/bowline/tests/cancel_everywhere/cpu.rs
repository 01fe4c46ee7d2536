//! Work for the processor, and buffers.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Waits until no thread works any more and its scope is gone: what was told to stop does so after its item.
async fn threads_are_gone() {
    let live = || {
        let tree = bowline::tree().to_string();
        tree.contains("[scope] compute") || tree.contains("[scope] lane")
    };
    while live() {
        std::thread::yield_now();
        yield_now(1).await;
    }
}

rows! {
    a_computation: "compute::compute" => {
        let ledger = Ledger::default();
        let make = || {
            let items: Vec<_> = (0..100).map(|_| ledger.one()).collect();
            let of_the_function = ledger.one();
            let go = Arc::new(AtomicBool::new(false));
            let goes = Arc::clone(&go);
            let computes = bowline::compute("compute", items, move |item| {
                let _both = (&of_the_function, &item);
                while !goes.load(Ordering::Relaxed) && bowline::check().is_ok() {
                    std::thread::yield_now();
                }
                Ok::<_, bowline::Cancelled>(item)
            });
            join(computes, async move {
                yield_now(2).await;
                go.store(true, Ordering::Relaxed);
            })
        };
        everywhere(make, async || { threads_are_gone().await; ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    a_buffer: "buffers::Buffers::take" => {
        let pool = bowline::Buffers::new("buffers", 16, 1);
        let make = || async {
            let held = pool.try_take();
            let waits = async {
                let mut buffer = pool.take().await.ok()?;
                yield_now(1).await;
                buffer.append(b"it").unwrap();
                Some(buffer)
            };
            let gives_back = async {
                yield_now(2).await;
                drop(held);
            };
            join(waits, gives_back).await.0
        };
        everywhere(make, async || {
            let stats = pool.stats();
            assert_eq!((stats.held, stats.waiting), (0, 0), "{stats:?}");
            assert!(stats.allocated <= 1, "{stats:?}");
        })
        .await;
        Ok(())
    }

    a_job_in_a_lane: "lane::CpuLane::call" => {
        let ledger = Ledger::default();
        let make = || scope("lane", async |s| {
            let of_the_work = ledger.one();
            let lane = bowline::CpuPool::new("lane", Bound::items(1)).threads(1).start(s, move |job: Arc<()>| {
                let _work = &of_the_work;
                job
            });
            // One runs, one is queued, one waits for room.
            let calls = (0..3).map(|_| lane.call(ledger.one())).collect::<Vec<_>>();
            drop(join_all(calls).await);
            Ok::<_, Error>(())
        });
        everywhere(make, async || {
            threads_are_gone().await;
            ledger.is_even();
            nothing_lives();
        })
        .await;
        Ok(())
    }
}
