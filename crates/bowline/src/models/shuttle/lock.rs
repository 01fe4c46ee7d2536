//! Locks and signals: exclusion, the order of the line, and no wake-up lost with one who gave up waiting.

use super::{Tally, check, check_rare, dawdle, draw, give_up_early};
use crate::sync::Arc;
use crate::testing::poll_once;
use crate::{
    AcquireError, BarrierError, Cancelled, Mutex, RwLock, Seat, Semaphore, SemaphorePermit, TryAcquireError,
    scope,
};

const TASKS: usize = 3;

async fn three_at_a_mutex() {
    let lock = Arc::new(Mutex::new("count", 0));
    let done = scope("scope", async |s| {
        let inside = Tally::default();
        for _ in 0..TASKS {
            let (lock, inside) = (Arc::clone(&lock), inside.clone());
            s.spawn("task", async move {
                // Sometimes gone before its turn, sometimes with the lock in its hands.
                drop(give_up_early(lock.lock()).await);
                let mut count = lock.lock().await?;
                let _one = inside.one();
                assert_eq!(inside.now(), 1, "two have the lock");
                let seen = *count;
                dawdle().await;
                *count = seen + 1;
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    assert_eq!(Arc::into_inner(lock).expect("all tasks are gone").into_inner(), TASKS);
}

#[test]
fn a_mutex_has_one_inside_and_loses_no_wake_up() {
    check(three_at_a_mutex);
}

#[test]
fn a_mutex_has_one_inside_and_loses_no_wake_up_in_rare_orders() {
    check_rare(three_at_a_mutex);
}

async fn add_to(lock: Arc<Mutex<usize>>, times: usize) -> Result<(), Cancelled> {
    for _ in 0..times {
        *lock.lock().await? += 1;
    }
    Ok(())
}

#[test]
fn a_mutex_goes_on_when_one_who_waits_is_cancelled() {
    check(async || {
        let lock = Arc::new(Mutex::new("count", 0));
        let done = scope("scope", async |s| {
            let cancelled = s.spawn("cancelled", add_to(Arc::clone(&lock), 1));
            let aborted = s.spawn("aborted", add_to(Arc::clone(&lock), 1));
            s.spawn("task", add_to(Arc::clone(&lock), 2));
            {
                let _guard = lock.lock().await?;
                dawdle().await;
                cancelled.cancel("enough");
                aborted.abort();
            }
            add_to(Arc::clone(&lock), 2).await
        })
        .await;
        assert_eq!(done, Ok(()));
        let count = Arc::into_inner(lock).expect("all tasks are gone").into_inner();
        assert!((4..=6).contains(&count), "{count}");
    });
}

#[test]
fn readers_share_and_writers_do_not() {
    check(async || {
        let lock = Arc::new(RwLock::new("pair", (0, 0)));
        let done = scope("scope", async |s| {
            for _ in 0..2 {
                let of_writer = Arc::clone(&lock);
                s.spawn("write", async move {
                    drop(give_up_early(of_writer.write()).await);
                    let mut pair = of_writer.write().await?;
                    pair.0 += 1;
                    dawdle().await;
                    pair.1 += 1;
                    Ok(())
                });
                let of_reader = Arc::clone(&lock);
                s.spawn("read", async move {
                    drop(give_up_early(of_reader.read()).await);
                    let pair = of_reader.read().await?;
                    let before = *pair;
                    dawdle().await;
                    assert_eq!((before.0, before), (before.1, *pair), "a writer is inside");
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(Arc::into_inner(lock).expect("all tasks are gone").into_inner(), (2, 2));
    });
}

#[test]
fn a_large_request_is_not_overtaken_by_small_ones() {
    check(async || {
        let semaphore = Arc::new(Semaphore::new("permits", 3));
        let done = scope("scope", async |s| {
            let in_line = Tally::default();
            for _ in 0..2 {
                let (semaphore, in_line) = (Arc::clone(&semaphore), in_line.clone());
                s.spawn("small", async move {
                    for _ in 0..2 {
                        let came_later = in_line.now() > 0;
                        let _permit = semaphore.acquire(1).await.expect("nobody closes it");
                        let waits = |need| {
                            semaphore
                                .stats()
                                .waiters
                                .iter()
                                .any(|waiter| waiter.need == need && !waiter.granted)
                        };
                        assert!(!(came_later && waits(2)), "who came later was served before");
                        dawdle().await;
                    }
                    Ok(())
                });
            }
            let mut held = vec![];
            for _ in 0..3 {
                held.push(semaphore.acquire(1).await.expect("nobody closes it"));
            }
            let mut large = Box::pin(semaphore.acquire(2));
            let mut small = Box::pin(semaphore.acquire(1));
            assert!(poll_once(&mut large).await.is_pending());
            in_line.more();
            assert!(poll_once(&mut small).await.is_pending());
            for permit in held {
                drop(permit);
                dawdle().await;
            }
            let later = small.await;
            assert!(poll_once(&mut large).await.is_ready(), "the second was served before the first");
            drop(later);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
    });
}

#[test]
fn who_leaves_the_line_clears_the_way_for_smaller_requests() {
    check(async || {
        let semaphore = Arc::new(Semaphore::new("permits", 3));
        let done = scope("scope", async |s| {
            // Kept until the small one has passed, so that nothing but the large one's leaving can let it.
            let kept = semaphore.acquire(1).await.expect("nobody closes it");
            let of_large = Arc::clone(&semaphore);
            s.spawn("large", async move {
                drop(give_up_early(of_large.acquire(3)).await);
                Ok(())
            });
            let of_small = Arc::clone(&semaphore);
            let small = s.spawn("small", async move {
                drop(of_small.acquire(2).await);
                Ok(())
            });
            small.await?;
            drop(kept);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
    });
}

async fn weights_at_a_semaphore() {
    let semaphore = Arc::new(Semaphore::new("permits", 3));
    let done = scope("scope", async |s| {
        let held = Tally::default();
        for permits in 1..=3 {
            let (semaphore, held) = (Arc::clone(&semaphore), held.clone());
            s.spawn("task", async move {
                // One who stands in the way of smaller ones, and goes.
                drop(give_up_early(semaphore.acquire(4 - permits)).await);
                let permit = semaphore.acquire(permits).await.expect("nobody closes it");
                let held: Vec<_> = (0..permits).map(|_| held.one()).collect();
                assert!(held[0].0.now() <= 3, "more permits are held than there are");
                dawdle().await;
                drop(held);
                drop(permit);
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    assert_eq!(semaphore.free_permits(), 3, "a permit was lost or made");
}

#[test]
fn every_permit_comes_back_and_everybody_gets_theirs() {
    check(weights_at_a_semaphore);
}

#[test]
fn every_permit_comes_back_and_everybody_gets_theirs_in_rare_orders() {
    check_rare(weights_at_a_semaphore);
}

#[test]
fn permits_added_reach_those_who_wait_and_a_close_ends_the_rest() {
    check(async || {
        let semaphore = Arc::new(Semaphore::empty("permits"));
        let done = scope("scope", async |s| {
            let ask = |permits: usize| {
                let semaphore = Arc::clone(&semaphore);
                s.spawn("task", async move {
                    drop(give_up_early(semaphore.acquire(permits)).await);
                    Ok(semaphore.acquire(permits).await.map(SemaphorePermit::destroy))
                })
            };
            let passing = [ask(1), ask(2)];
            for _ in 0..3 {
                semaphore.add_permits(1);
                dawdle().await;
            }
            for task in passing {
                assert_eq!(task.await?, Ok(()));
            }
            let refused = [ask(1), ask(2)];
            dawdle().await;
            semaphore.close("enough");
            for task in refused {
                assert_eq!(task.await?, Err(AcquireError::Closed { reason: "enough" }));
            }
            assert!(matches!(semaphore.try_acquire(1), Err(TryAcquireError::Closed { .. })));
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
    });
}

#[test]
fn a_notification_is_stored_or_passed_on() {
    check(async || {
        let done = scope("scope", async |s| {
            let (notifier, notify) = s.cx().notify("work");
            let notify = Arc::new(notify);
            let impatient = Arc::clone(&notify);
            s.spawn_with("gives up", notifier.clone(), async move |_cx, notifier| {
                // Whoever was notified and does nothing about it hands it on; so does a dropped wait by itself.
                if give_up_early(impatient.notified()).await.is_some() {
                    notifier.notify_one();
                }
                Ok(())
            });
            let waits = s.spawn("waits", async move {
                notify.notified().await.expect("a notifier is kept");
                Ok(())
            });
            s.spawn_with("notifies", notifier.clone(), async |_cx, notifier| {
                notifier.notify_one();
                Ok(())
            });
            waits.await?;
            drop(notifier);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
    });
}

#[test]
fn a_latch_opens_after_every_count() {
    check(async || {
        let counted = Tally::default();
        let done = scope("scope", async |s| {
            let (count, latch) = s.cx().latch("ready");
            let latch = Arc::new(latch);
            for _ in 0..2 {
                let of_task = counted.clone();
                s.spawn_with("count", count.clone(), async move |_cx, count| {
                    dawdle().await;
                    of_task.more();
                    drop(count);
                    Ok(())
                });
                let (latch, counted) = (Arc::clone(&latch), counted.clone());
                s.spawn("wait", async move {
                    drop(give_up_early(latch.wait()).await);
                    latch.wait().await?;
                    assert_eq!(counted.now(), 2, "open too early");
                    Ok(())
                });
            }
            drop(count);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
    });
}

#[test]
fn nobody_passes_a_barrier_before_all_have_arrived_and_one_leads() {
    const ROUNDS: usize = 2;
    check(async || {
        let arrived = Tally::default();
        let led: [Tally; ROUNDS] = Default::default();
        let done = scope("scope", async |s| {
            let (count, latch) = s.cx().latch("have given up");
            let mut seats = s.cx().barrier("rounds", TASKS);
            let mut own = seats.pop().expect("there are three");
            let led = &led;
            let pass = async |seat: &mut Seat<'_>, arrived: &Tally, led: &[Tally; ROUNDS], round: usize| {
                arrived.more();
                let passed = seat.wait().await?;
                assert!(arrived.now() >= (round + 1) * TASKS, "passed before all had arrived");
                assert_eq!(passed.round, round as u64 + 1);
                if passed.leads {
                    led[round].more();
                }
                Ok::<_, BarrierError>(())
            };
            for seat in seats {
                let (arrived, led) = (arrived.clone(), led.clone());
                s.spawn_with("task", (seat, count.clone()), async move |_cx, (mut seat, count)| {
                    // An arrival that is taken back: the body does not arrive before the latch is open.
                    assert!(give_up_early(seat.wait()).await.is_none());
                    drop(count);
                    for round in 0..ROUNDS {
                        pass(&mut seat, &arrived, &led, round).await?;
                    }
                    seat.leave();
                    Ok(())
                });
            }
            drop(count);
            latch.wait().await?;
            for round in 0..ROUNDS {
                pass(&mut own, &arrived, led, round).await?;
            }
            own.leave();
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(led.map(|led| led.now()), [1; ROUNDS]);
    });
}

/// The total moves while some hold permits, some wait and some give up waiting.
async fn a_total_that_moves() {
    const MOST: usize = 3;
    let slots = Arc::new(Semaphore::new("slots", 2));
    let done = scope("scope", async |s| {
        let inside = Tally::default();
        for _ in 0..TASKS {
            let (slots, inside) = (Arc::clone(&slots), inside.clone());
            s.spawn("task", async move {
                drop(give_up_early(slots.acquire(1)).await);
                let _permit = slots.acquire(1).await.expect("there is always one, some time");
                let _one = inside.one();
                assert!(inside.now() <= MOST);
                dawdle().await;
                let total = 1 + draw(MOST);
                slots.resize(|| total);
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    let (total, in_hand, waiting) = slots.books();
    assert_eq!((in_hand, waiting), (0, 0));
    assert_eq!(slots.free_permits(), total, "permits were lost, or made from nothing");
}

#[test]
fn a_semaphore_whose_total_moves_loses_no_permit_and_no_wake_up() {
    check(a_total_that_moves);
}

#[test]
fn a_semaphore_whose_total_moves_loses_no_permit_and_no_wake_up_in_rare_orders() {
    check_rare(a_total_that_moves);
}
