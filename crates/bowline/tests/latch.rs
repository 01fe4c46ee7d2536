//! A gate that opens when the last count is gone, however it went.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use bowline::{Cancelled, FreeCount, Latch, ResourceState, scope};
use futures_util::FutureExt as _;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

async fn latch() -> (FreeCount, Latch) {
    scope("latch", async |s| {
        let (count, latch) = s.cx().latch("started");
        Ok::<_, Cancelled>((count.free(), latch))
    })
    .await
    .expect("nobody cancels this scope")
}

#[bowline::test]
async fn it_opens_for_ever_when_the_last_count_is_gone() -> Result<(), Cancelled> {
    let (count, latch) = latch().await;
    let second = count.clone();
    let mut waits = parked(latch.wait()).await;
    let mut also = parked(latch.wait()).await;
    drop(count);
    assert!(poll_once(&mut waits).await.is_pending() && !latch.is_open());
    assert_eq!(latch.stats().state, ResourceState::Waiting);
    drop(second);
    assert_eq!(poll_once(&mut also).await, Poll::Ready(Ok(())));
    assert_eq!(poll_once(&mut waits).await, Poll::Ready(Ok(())));
    assert!(latch.is_open());
    assert_eq!(latch.stats().state, ResourceState::Fired);
    latch.wait().await
}

/// A wait group's three races. A count added after the wait has ended: a count comes only from a count. One given back twice: it is
/// dropped once. One missed by an early return or a panic: it goes with its task.
#[bowline::test]
async fn a_count_goes_with_its_task_however_that_ends() {
    let (count, latch) = latch().await;
    let ended = std::panic::AssertUnwindSafe(scope("workers", async |s| {
        for way in 0..3 {
            s.spawn_with("worker", count.clone(), async move |_cx, _count| {
                yield_now(1).await;
                match way {
                    0 => Ok(()),
                    1 => panic!("a panic"),
                    _ => std::future::pending().await,
                }
            });
        }
        drop(count);
        latch.wait().await
    }));
    assert!(ended.catch_unwind().await.is_err(), "the panic reaches the owner");
    assert!(latch.is_open());
}

#[bowline::test]
async fn who_waits_with_a_count_in_hand_is_seen_to_wait_for_itself() -> Result<(), Cancelled> {
    scope("self", async |s| {
        let (count, latch) = s.cx().latch("mine");
        let waits = parked(latch.wait()).await;
        let seen = bowline::contended();
        let seen = seen.iter().find(|seen| seen.name == "mine").expect("somebody waits");
        assert_eq!(seen.ends[0].task, Some(count.task_id()));
        assert_eq!(seen.waiters[0].task, seen.ends[0].task);
        drop(count);
        waits.await
    })
    .await
}

#[bowline::test]
async fn a_forgotten_count_stays_in_the_books_of_its_task() -> Result<(), Cancelled> {
    scope("forgets", async |s| {
        let (count, latch) = s.cx().latch("forgotten");
        let worker = s.spawn_with("worker", count, async |cx, count| {
            std::mem::forget(count);
            Ok(cx.task_id())
        });
        let id = worker.await?;
        assert!(poll_once(&mut Box::pin(latch.wait())).await.is_pending());
        assert_eq!(latch.stats().ends[0].task, Some(id));
        Ok(())
    })
    .await
}

#[bowline::test]
async fn a_wait_dropped_or_cancelled_at_any_point_leaves_no_place_behind() {
    let (held, shut) = latch().await;
    let scenario = async || {
        let (count, latch) = latch().await;
        let opens = async {
            yield_now(2).await;
            drop(count);
        };
        let both = futures_util::future::join(latch.wait(), opens);
        let ended = bowline::race(shut.wait(), both).await;
        matches!(ended, bowline::Either::Right((Ok(()), ())))
    };
    let mut passed = 0;
    let check = async |_, ended: Option<bool>| {
        assert!(shut.stats().waiters.is_empty());
        passed += u32::from(ended == Some(true));
    };
    assert!(cancel_everywhere(scenario, check).await >= 3);
    assert_eq!(passed, 1, "the one that was not cut");
    let check = async |_, _| assert!(shut.stats().waiters.is_empty());
    assert!(cancel_context_everywhere(scenario, check).await >= 3);
    drop(held);
    assert!(shut.is_open());
}

#[bowline::test(worker_threads = 2)]
async fn whoever_passes_sees_what_was_done_before_the_counts_went() -> Result<(), Cancelled> {
    for _ in 0..100 {
        scope("round", async |s| {
            let (count, latch) = s.cx().latch("done");
            let hub = s.cx().share("hub", (AtomicU32::new(0), latch));
            for _ in 0..4 {
                s.spawn_with("works", (count.clone(), hub.clone()), async |_cx, (_count, hub)| {
                    hub.0.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                });
                s.spawn_with("waits", hub.clone(), async |_cx, hub| {
                    hub.1.wait().await?;
                    assert_eq!(hub.0.load(Ordering::Relaxed), 4);
                    Ok(())
                });
            }
            drop(count);
            Ok::<_, Cancelled>(())
        })
        .await?;
    }
    Ok(())
}
