//! Permits: never more than there are, first come first served, and none lost.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bowline::{
    AcquireError, Bound, Cancelled, Overflow, OwnedPermit, ResourceState, Semaphore, TryAcquireError, race,
    scope, timeout,
};
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

#[bowline::test]
async fn it_admits_as_many_as_it_has_permits() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 3);
    let two = slots.acquire(2).await?;
    assert_eq!(two.permits(), 2);
    assert_eq!(slots.try_acquire(2).unwrap_err(), TryAcquireError::Busy);
    let one = slots.try_acquire(1).expect("one is left");
    assert_eq!(slots.free_permits(), 0);
    let mut next = parked(slots.acquire(2)).await;
    drop(one);
    assert!(poll_once(&mut next).await.is_pending());
    drop(two);
    drop(next.await?);
    assert_eq!(slots.free_permits(), 3);
    Ok(())
}

#[bowline::test]
async fn a_large_request_is_not_overtaken_by_small_ones() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 4);
    let one = slots.acquire(1).await?;
    let mut large = parked(slots.acquire(4)).await;
    let mut small = parked(slots.acquire(1)).await;
    assert_eq!(slots.try_acquire(1).unwrap_err(), TryAcquireError::Busy, "3 are free, but somebody waits");
    drop(one);
    assert!(poll_once(&mut small).await.is_pending());
    drop(large.as_mut().await?);
    drop(small.await?);
    Ok(())
}

#[bowline::test]
async fn small_requests_go_on_when_the_large_one_before_them_gives_up() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 4);
    let _one = slots.acquire(1).await?;
    let large = parked(slots.acquire(4)).await;
    let mut small = parked(slots.acquire(1)).await;
    assert!(poll_once(&mut small).await.is_pending());
    drop(large);
    small.await.map(drop)
}

/// A request for more than there is: with a plain counting semaphore it waits for ever.
#[bowline::test]
async fn a_request_that_can_never_be_met_fails_at_once() {
    let slots = Semaphore::new("slots", 2);
    let too_large = AcquireError::TooLarge { asked: 3, total: 2 };
    assert_eq!(slots.acquire(3).await.unwrap_err(), too_large);
    assert_eq!(slots.try_acquire(3).unwrap_err(), TryAcquireError::TooLarge { asked: 3, total: 2 });
    slots.add_permits(1);
    assert!(slots.acquire(3).await.is_ok());
}

#[bowline::test]
async fn destroyed_permits_end_the_waits_that_can_no_longer_be_met() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 3);
    let two = slots.acquire(2).await?;
    let large = parked(slots.acquire(3)).await;
    let small = parked(slots.acquire(1)).await;
    two.destroy();
    assert_eq!(large.await.unwrap_err(), AcquireError::TooLarge { asked: 3, total: 1 });
    drop(small.await?); // it stood behind the large one
    assert_eq!(slots.stats().state, ResourceState::Permits { free: 1, total: 1 });
    Ok(())
}

/// cowprotocol#4804: a setting of "0 = unlimited" became `Semaphore(0)`, and nobody ever passed.
#[bowline::test]
async fn zero_permits_is_an_error_at_the_place_of_construction() {
    let panic = catch_unwind(|| Semaphore::new("unlimited?", 0)).expect_err("it must not come to life");
    let text = panic.downcast_ref::<&str>().expect("a message");
    assert!(text.contains("lets nobody pass"), "{text}");
}

#[bowline::test]
async fn an_empty_one_is_filled_later() -> Result<(), AcquireError> {
    let rate = Semaphore::empty("rate");
    assert_eq!(rate.try_acquire(1).unwrap_err(), TryAcquireError::Busy);
    let mut large = parked(rate.acquire(3)).await;
    rate.add_permits(2);
    assert!(poll_once(&mut large).await.is_pending());
    rate.add_permits(1);
    large.await.map(drop)
}

#[bowline::test]
async fn asking_for_nothing_waits_for_nobody() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 1);
    let _one = slots.acquire(1).await?;
    let _waits = parked(slots.acquire(1)).await;
    slots.acquire(0).await.map(drop)
}

#[bowline::test]
async fn closing_ends_the_waits_with_its_reason_and_permits_in_hand_stay_good() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 1);
    let one = slots.acquire(1).await?;
    let waits = parked(slots.acquire(1)).await;
    slots.close("the pool is shutting down");
    slots.close("a later reason");
    drop(one); // not granted to the one that waits
    let closed = AcquireError::Closed { reason: "the pool is shutting down" };
    assert_eq!(waits.await.unwrap_err(), closed);
    assert_eq!(slots.acquire(1).await.unwrap_err(), closed);
    assert_eq!(
        slots.try_acquire(1).unwrap_err(),
        TryAcquireError::Closed { reason: "the pool is shutting down" }
    );
    assert_eq!(Cancelled::from(closed).to_string(), "cancelled: the pool is shutting down");
    Ok(())
}

#[bowline::test]
async fn a_full_waiting_room_refuses_at_once() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 1).with_waiting_room(1);
    let one = slots.acquire(1).await?;
    let waits = parked(slots.acquire(1)).await;
    assert_eq!(slots.acquire(1).await.unwrap_err(), AcquireError::RoomFull { waiting: 1 });
    drop(waits);
    let waits = parked(slots.acquire(1)).await;
    drop(one);
    waits.await.map(drop)
}

#[bowline::test(worker_threads = 2)]
async fn two_threads_that_release_and_acquire_lose_no_wake_up() -> Result<(), Cancelled> {
    scope("pool", async |s| {
        let pool = s.cx().share("pool", Semaphore::new("connections", 1));
        for _ in 0..2 {
            s.spawn_with("client", pool.clone(), async |_cx, pool| {
                for _ in 0..3_000 {
                    drop(pool.acquire(1).await?); // a lost wake-up is a hang here, and the test's time limit
                }
                Ok(())
            });
        }
        Ok(())
    })
    .await
}

/// tokio#6450: a permit is handed to a waiter whose future nobody polls any more, and the task waits for the next one behind it.
/// A race drops its loser: the permit goes on.
#[bowline::test]
async fn a_permit_handed_to_a_waiter_nobody_polls_comes_back_with_the_race() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 1);
    let one = slots.acquire(1).await?;
    race(slots.acquire(1), async {
        yield_now(1).await;
        drop(one);
    })
    .await;
    slots.acquire(1).await.map(drop)
}

/// tower-resilience#365: admission by "look at the count, then raise it" admits more than the limit. Here admission is the permit.
#[bowline::test(worker_threads = 2)]
async fn never_more_are_admitted_than_there_are_permits() -> Result<(), Cancelled> {
    const PERMITS: usize = 3;
    struct Hub {
        slots: Semaphore,
        inside: AtomicUsize,
    }
    let total = scope("admission", async |s| {
        let hub = Hub { slots: Semaphore::new("slots", PERMITS), inside: AtomicUsize::new(0) };
        let hub = s.cx().share("hub", hub);
        let mut calls = Vec::new();
        for amount in [1, 1, 1, 1, 2, 2, 3, 3] {
            calls.push(s.spawn_with("call", hub.clone(), async move |_cx, hub| {
                for _ in 0..300 {
                    race(yield_now(1), hub.slots.acquire(amount)).await; // one that gives up, sometimes just granted
                    let _permit = hub.slots.acquire(amount).await?;
                    let inside = hub.inside.fetch_add(amount, Ordering::SeqCst) + amount;
                    assert!(inside <= PERMITS, "{inside} inside");
                    yield_now(1).await;
                    hub.inside.fetch_sub(amount, Ordering::SeqCst);
                }
                Ok(300)
            }));
        }
        let mut total = 0;
        for call in calls {
            total += call.await?;
        }
        assert_eq!(hub.slots.free_permits(), PERMITS);
        Ok::<_, Cancelled>(total)
    })
    .await?;
    assert_eq!(total, 8 * 300);
    Ok(())
}

/// tower-resilience#367: a slot taken before the call is not given back when the call's future is dropped.
#[bowline::test]
async fn a_call_dropped_or_cancelled_at_any_point_gives_its_slot_back() {
    let slots = Semaphore::new("slots", 2);
    let call = async || {
        let first = async {
            let _slot = slots.acquire(2).await?;
            yield_now(2).await;
            Ok::<_, AcquireError>(())
        };
        let second = async {
            let _slot = slots.acquire(1).await?;
            yield_now(1).await;
            Ok(())
        };
        let third = async {
            let _slot = slots.acquire(2).await?;
            Ok(())
        };
        let (a, b, c) = futures_util::future::join3(first, second, third).await;
        a.and(b).and(c)
    };
    let check = async |_, _| {
        let stats = slots.stats();
        assert_eq!(stats.state, ResourceState::Permits { free: 2, total: 2 });
        assert!(stats.waiters.is_empty() && stats.holders.is_empty(), "{stats:?}");
    };
    assert!(cancel_everywhere(call, check).await >= 3);
    assert!(cancel_context_everywhere(call, check).await >= 3);
}

/// The same for permits that are handed over.
#[bowline::test]
async fn an_owned_permit_is_given_back_wherever_its_way_is_cut() {
    let slots = Semaphore::new("slots", 1);
    let calls = async || {
        scope("calls", async |s| {
            for _ in 0..3 {
                let slot = slots.acquire_owned(s.cx(), 1).await?;
                s.spawn_with("call", slot, async |_cx, _slot| {
                    yield_now(1).await;
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        })
        .await
    };
    let check = async |_, _| {
        yield_now(8).await; // tasks of a dropped scope end a little later
        assert_eq!(slots.stats().state, ResourceState::Permits { free: 1, total: 1 });
        assert!(slots.stats().waiters.is_empty());
    };
    assert!(cancel_context_everywhere(calls, check).await >= 3);
}

#[bowline::test]
async fn an_owned_permit_is_booked_at_whoever_has_it() -> Result<(), Cancelled> {
    let slots = Semaphore::new("slots", 1);
    scope("owners", async |s| {
        let holder = |certain| {
            let stats = slots.stats();
            let [holder] = &stats.holders[..] else { panic!("{stats:?}") };
            assert_eq!(holder.certain, certain);
            holder.task
        };
        let slot: OwnedPermit<'_> = slots.acquire_owned(s.cx(), 1).await?;
        assert_eq!(holder(true), Some(slot.task_id()));
        let (tx, rx) = s.queue::<u64>("ids", Bound::items(1), Overflow::Block);
        let child = s.spawn_with("child", (slot, tx), async |cx, (slot, tx)| {
            tx.send(cx.task_id()).await?;
            bowline::cancelled().await;
            drop(slot);
            Ok(())
        });
        assert_eq!(holder(false), None, "on its way");
        let id = rx.recv().await?;
        assert_eq!(holder(true), id);
        child.abort();
        let _ = child.await;
        let free = slots.acquire_owned(s.cx(), 1).await?.free();
        assert_eq!((holder(false), free.permits()), (None, 1));
        Ok(())
    })
    .await
}

/// tower#434: forwarders that are idle hold reserved slots, and those with work find none. A permit is taken for the work in hand;
/// where it is held idle all the same, the holders are named.
#[bowline::test(start_paused = true)]
async fn idle_holders_of_all_slots_are_named() -> Result<(), Cancelled> {
    scope("forwarders", async |s| {
        let slots = s.cx().share("slots", Semaphore::new("idle slots", 2));
        for _ in 0..2 {
            s.spawn_with("idle", slots.clone(), async |_cx, slots| {
                let _slot = slots.acquire(1).await?;
                bowline::cancelled().await;
                Ok(())
            });
        }
        let busy = s.spawn_with("busy", slots.clone(), async |_cx, slots| {
            let late = timeout(Duration::from_secs(1), slots.acquire(1)).await;
            Ok(late.is_err() || matches!(late, Ok(Err(AcquireError::Cancelled(_)))))
        });
        yield_now(3).await;
        let seen = bowline::contended();
        let seen = seen.iter().find(|seen| seen.name == "idle slots").expect("one waits");
        assert_eq!(seen.waiters.len(), 1);
        assert_eq!(seen.holders.iter().filter(|holder| holder.place.contains("semaphore.rs")).count(), 2);
        assert!(busy.await?, "its wait has a deadline");
        s.cancel("seen");
        Ok(())
    })
    .await
}

/// zebra#1593: a buffer with fewer slots than tasks that depend on each other, each holding one while it waits for another: all hang,
/// and only hand-written rules of order help. Here every wait ends with its context, and nothing stays taken.
#[bowline::test(start_paused = true)]
async fn fewer_slots_than_dependent_tasks_ends_at_the_deadline_with_every_slot_free() {
    let slots = std::sync::Arc::new(Semaphore::new("buffer", 2));
    let ended = timeout(
        Duration::from_secs(1),
        scope("verifiers", async |s| {
            for _ in 0..2 {
                let slots = std::sync::Arc::clone(&slots);
                s.spawn("verifier", async move {
                    let _mine = slots.acquire(1).await?;
                    yield_now(1).await;
                    let _of_the_one_i_depend_on = slots.acquire(1).await?;
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        }),
    )
    .await;
    assert!(matches!(ended, Ok(Err(late)) | Err(late) if late.is_deadline()));
    assert_eq!(slots.free_permits(), 2);
}

/// vector#11633, by the thread's hypothesis: the permits of the limited queue are never freed. A permit in the hands of a task goes
/// with the task, however it ends.
#[bowline::test]
async fn permits_go_with_their_task_however_it_ends() {
    let slots = std::sync::Arc::new(Semaphore::new("slots", 4));
    let ended = AssertUnwindSafe(scope("work", async |s| {
        for way in 0..4 {
            let slots = std::sync::Arc::clone(&slots);
            let task = s.spawn("work", async move {
                let _slot = slots.acquire(1).await?;
                yield_now(2).await;
                match way {
                    0 => Ok(()),
                    1 => panic!("a panic"),
                    2 => Err(AcquireError::RoomFull { waiting: 0 }.into()),
                    _ => std::future::pending::<Result<(), Cancelled>>().await,
                }
            });
            if way == 3 {
                yield_now(1).await;
                task.abort();
            }
        }
        Ok::<_, Cancelled>(())
    }));
    assert!(futures_util::FutureExt::catch_unwind(ended).await.is_err(), "the panic reaches the owner");
    let stats = slots.stats();
    assert_eq!(stats.state, ResourceState::Permits { free: 4, total: 4 });
    assert_eq!(stats.panicked_while_held, 1);
}

#[bowline::test]
async fn memory_of_a_crowd_of_waiters_is_given_back_and_their_order_kept() -> Result<(), AcquireError> {
    let slots = Semaphore::new("slots", 1);
    let one = slots.acquire(1).await?;
    let mut crowd = Vec::new();
    for _ in 0..1_000 {
        crowd.push(parked(slots.acquire(1)).await);
    }
    // From the middle, the front and the end.
    for at in [500, 0, 997] {
        drop(crowd.remove(at));
    }
    drop(one);
    for (at, waits) in crowd.iter_mut().enumerate() {
        let Poll::Ready(permit) = poll_once(waits).await else { panic!("{at} is next") };
        drop(permit?);
    }
    assert_eq!(slots.free_permits(), 1);
    Ok(())
}
