//! The lock around a value: one holder, first come first served, nothing lost when a waiter goes.

mod support;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bowline::{Cancelled, Cause, Either, Mutex, ResourceState, race, scope, timeout};
use futures_util::FutureExt as _;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

#[bowline::test]
async fn one_holds_it_at_a_time() -> Result<(), Cancelled> {
    let lock = Mutex::new("count", 1);
    let mut guard = lock.lock().await?;
    *guard += 1;
    assert!(lock.try_lock().is_none());
    let mut second = parked(lock.lock()).await;
    drop(guard);
    let Poll::Ready(Ok(guard)) = poll_once(&mut second).await else { panic!("it is free") };
    assert_eq!(*guard, 2);
    drop(guard);
    drop(second);
    assert_eq!(lock.try_lock().map(|guard| *guard), Some(2));
    assert_eq!(lock.into_inner(), 2);
    Ok(())
}

#[bowline::test]
async fn waiters_get_it_in_the_order_of_their_first_poll() -> Result<(), Cancelled> {
    let lock = Mutex::new("order", ());
    let guard = lock.lock().await?;
    let mut third = Box::pin(lock.lock()); // made first, polled last
    let mut first = parked(lock.lock()).await;
    let mut second = parked(lock.lock()).await;
    assert!(poll_once(&mut third).await.is_pending());
    drop(guard);
    assert!(poll_once(&mut third).await.is_pending());
    assert!(poll_once(&mut second).await.is_pending());
    assert!(lock.try_lock().is_none(), "it belongs to the first, polled or not");
    drop(first.as_mut().await?);
    drop(second.await?);
    drop(third.await?);
    Ok(())
}

#[bowline::test]
async fn with_runs_its_closure_under_the_lock_and_gives_its_result() -> Result<(), Cancelled> {
    let lock = Mutex::new("words", vec!["a"]);
    let length = lock
        .with(|words| {
            words.push("b");
            assert!(lock.try_lock().is_none());
            words.len()
        })
        .await?;
    assert_eq!(length, 2);
    assert!(lock.try_lock().is_some());
    Ok(())
}

#[bowline::test]
async fn a_cancelled_context_gets_no_lock_even_if_it_is_free() {
    let lock = Mutex::new("free", ());
    let locked = scope("cancelled", async |s| {
        s.cancel("enough");
        let locked = lock.lock().await.map(drop);
        assert_eq!(lock.with(|()| ()).await, locked);
        locked
    })
    .await;
    assert_eq!(locked.map_err(|error| error.cause().clone()), Err(Cause::Requested("enough")));
    assert!(lock.try_lock().is_some());
}

#[bowline::test(start_paused = true)]
async fn a_wait_ends_at_its_deadline_and_leaves_no_place_behind() -> Result<(), Cancelled> {
    let lock = Mutex::new("held", ());
    let guard = lock.lock().await?;
    let late = timeout(Duration::from_secs(1), lock.lock()).await;
    assert!(matches!(late, Ok(Err(cancelled)) | Err(cancelled) if cancelled.is_deadline()));
    assert!(lock.stats().waiters.is_empty());
    drop(guard);
    assert!(lock.try_lock().is_some());
    Ok(())
}

#[bowline::test]
async fn a_waiter_dropped_or_cancelled_at_any_point_leaves_the_lock_free() {
    let lock = Mutex::new("cut", 0_u32);
    // Two in line behind a holder that lets go in the middle: grants pass through the one that is cut.
    let contest = async || {
        let holder = async {
            let guard = lock.lock().await?;
            yield_now(2).await;
            drop(guard);
            Ok::<_, Cancelled>(())
        };
        let first = async {
            *lock.lock().await? += 1;
            Ok(())
        };
        let second = lock.with(|count| *count += 1);
        let (a, b, c) = futures_util::future::join3(holder, first, second).await;
        a.and(b).and(c)
    };
    let check = async |_, ended: Option<Result<(), Cancelled>>| {
        let stats = lock.stats();
        assert!(stats.waiters.is_empty() && stats.holders.is_empty(), "{stats:?}");
        let count = std::mem::take(&mut *lock.try_lock().expect("nobody is left"));
        if ended == Some(Ok(())) {
            assert_eq!(count, 2);
        }
    };
    assert!(cancel_everywhere(contest, check).await >= 3);
    assert!(cancel_context_everywhere(contest, check).await >= 3);
}

#[bowline::test]
async fn a_grant_to_a_dropped_waiter_goes_to_the_next() -> Result<(), Cancelled> {
    let lock = Mutex::new("next", ());
    let guard = lock.lock().await?;
    let first = parked(lock.lock()).await;
    let mut second = parked(lock.lock()).await;
    drop(guard); // granted to the first
    assert!(poll_once(&mut second).await.is_pending());
    drop(first);
    drop(second.await?); // by a wake-up, not by luck
    Ok(())
}

/// A combinator that polls a future only when that one's own waker was woken still hears of the cancel.
#[bowline::test]
async fn a_cancel_reaches_waits_that_are_polled_with_wakers_of_their_own() {
    let lock = Mutex::new("crowd", ());
    let _guard = lock.try_lock().expect("free");
    let mut heard = 0;
    scope("crowd", async |s| {
        let crowd = futures_util::future::join_all((0..50).map(|_| lock.lock()));
        let cancel = async {
            yield_now(3).await;
            s.cancel("enough");
        };
        let (ended, ()) = futures_util::future::join(crowd, cancel).await;
        heard = ended.iter().filter(|ended| ended.is_err()).count();
        Ok::<_, Cancelled>(())
    })
    .await
    .ok();
    assert_eq!(heard, 50);
    assert!(lock.stats().waiters.is_empty());
}

#[bowline::test]
async fn a_wait_that_moves_to_another_task_is_shown_there() -> Result<(), Cancelled> {
    scope("moves", async |s| {
        let lock = Arc::new(Mutex::new("moves", ()));
        let guard = lock.lock().await?;
        let waiter = || lock.stats().waiters[0].task;
        let theirs = Arc::clone(&lock);
        let waits = parked(async move { theirs.lock().await.map(drop) }).await;
        assert_eq!(waiter(), Some(s.cx().task_id()));
        let child = s.spawn("child", waits);
        yield_now(2).await;
        assert!(waiter().is_some() && waiter() != Some(s.cx().task_id()));
        drop(guard);
        child.await
    })
    .await
}

/// Oxide RFD 609: `select!` over `&mut future` leaves a future in line for a lock; the arm that runs waits for the same lock, which
/// was granted to the future nobody polls.
#[bowline::test]
async fn futurelock_a_loser_of_a_race_gives_its_place_back() -> Result<(), Cancelled> {
    let lock = Mutex::new("rfd 609", ());
    let guard = lock.lock().await?;
    let lost = race(lock.lock(), async {
        yield_now(1).await;
        drop(guard); // the lock now belongs to the other side of the race
    })
    .await;
    assert!(matches!(lost, Either::Right(())));
    drop(lock.lock().await?); // by reference, this would wait for ever
    Ok(())
}

/// The same, as it goes wrong with a future that is kept: the place is granted and not polled, and can be seen so.
#[bowline::test]
async fn futurelock_by_a_kept_future_is_shown_as_granted() -> Result<(), Cancelled> {
    let lock = Mutex::new("kept", ());
    let guard = lock.lock().await?;
    let kept = parked(lock.lock()).await;
    drop(guard);
    let _waits = parked(lock.lock()).await;
    let seen = bowline::contended();
    let seen = seen.iter().find(|seen| seen.name == "kept").expect("two wait for it");
    assert_eq!(seen.waiters.iter().filter(|waiter| waiter.granted).count(), 1);
    assert_eq!(seen.waiters.iter().filter(|waiter| !waiter.granted).count(), 1);
    drop(kept);
    Ok(())
}

/// tokio#7892: the second poll of one task blocks on a mutex that was granted to its own first waiter. Here a future that
/// is made anew for each poll gives its place back in between.
#[bowline::test]
async fn a_lock_granted_to_ones_own_earlier_future_comes_back_with_its_drop() -> Result<(), Cancelled> {
    let lock = Mutex::new("poll", ());
    let guard = lock.lock().await?;
    for _ in 0..3 {
        let mut again = Box::pin(lock.lock());
        assert!(poll_once(&mut again).await.is_pending());
    }
    drop(guard);
    assert!(lock.try_lock().is_some());
    Ok(())
}

/// tokio#4588: a guard of a std mutex is kept by one arm of a select while the other arm locks it, and the thread blocks. A guard of
/// this lock may be kept: the other arm waits without blocking, and the loser's guard goes with the loser.
#[bowline::test]
async fn a_guard_kept_by_the_other_arm_blocks_no_thread() -> Result<(), Cancelled> {
    let lock = Mutex::new("arms", 0);
    let kept = async {
        let _guard = lock.lock().await?;
        std::future::pending::<Result<(), Cancelled>>().await
    };
    let other = async {
        yield_now(1).await;
        let mut waiting = parked(lock.lock()).await;
        assert!(poll_once(&mut waiting).await.is_pending());
    };
    race(kept, other).await;
    *lock.lock().await? += 1;
    Ok(())
}

#[bowline::test]
async fn a_task_that_locks_twice_stands_on_both_sides_and_ends_when_cancelled() {
    let ended = scope("twice", async |s| {
        let lock = s.cx().share("lock", Mutex::new("self-wait", ()));
        let twice = s.spawn_with("twice", lock.clone(), async |cx, lock| {
            let _guard = lock.lock_in(cx).await?;
            lock.lock_in(cx).await.map(drop)
        });
        yield_now(3).await;
        let stats = lock.stats();
        let (holder, waiter) = (&stats.holders[0], &stats.waiters[0]);
        assert!(holder.certain && holder.task.is_some());
        assert_eq!(holder.task, waiter.task);
        assert!(holder.place.contains("mutex.rs") && holder.place != waiter.place);
        assert!(bowline::tree().to_string().contains("waiting to lock"), "{}", bowline::tree());
        s.cancel("seen");
        twice.await
    })
    .await;
    assert!(ended.is_err());
}

#[bowline::test]
async fn a_holder_that_panics_releases_the_lock_and_leaves_a_suspicion() {
    let lock = Mutex::new("suspect", 1);
    let panicked = AssertUnwindSafe(lock.with(|_| panic!("half-way"))).catch_unwind().await;
    assert!(panicked.is_err());
    let mut guard = lock.try_lock().expect("released");
    assert!(guard.is_suspect());
    guard.clear_suspect();
    assert!(!guard.is_suspect());
    drop(guard);
    assert!(!lock.is_suspect());
    assert_eq!(lock.stats().panicked_while_held, 1);
}

#[bowline::test]
async fn a_guard_taken_and_dropped_by_a_destructor_during_a_panic_leaves_no_suspicion() {
    struct Tidies<'a>(&'a Mutex<u32>);
    impl Drop for Tidies<'_> {
        fn drop(&mut self) {
            *self.0.try_lock().expect("free") += 1;
        }
    }
    let lock = Mutex::new("tidied", 0);
    let panics = async {
        let _tidies = Tidies(&lock);
        panic!("elsewhere");
    };
    assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
    assert!(!lock.is_suspect());
    assert_eq!(lock.try_lock().map(|count| *count), Some(1));
}

#[bowline::test]
async fn a_forgotten_guard_is_seen_as_a_holder() -> Result<(), Cancelled> {
    let lock = Mutex::new("forgotten", ());
    std::mem::forget(lock.lock().await?);
    assert!(lock.try_lock().is_none());
    let stats = lock.stats();
    assert_eq!(stats.holders.len(), 1);
    assert_eq!(stats.state, ResourceState::Permits { free: 0, total: 1 });
    Ok(())
}

#[bowline::test]
async fn the_value_is_dropped_with_the_lock() {
    let value = Arc::new(());
    let lock = Mutex::new("value", Arc::clone(&value));
    let mut looks_on = Vec::new();
    {
        let guard = lock.try_lock().expect("free");
        let _waits = parked(lock.lock()).await;
        looks_on.push(bowline::contended());
        drop(guard);
    }
    drop(lock);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[bowline::test]
async fn contended_lists_a_lock_while_somebody_waits_and_no_longer() -> Result<(), Cancelled> {
    let is_listed = || bowline::contended().iter().filter(|lock| lock.name == "in view").count();
    let lock = Mutex::new("in view", ());
    for _ in 0..3 {
        let guard = lock.lock().await?;
        assert_eq!(is_listed(), 0);
        let waits = parked(lock.lock()).await;
        assert_eq!(is_listed(), 1);
        let more = parked(lock.lock()).await;
        assert_eq!(is_listed(), 1);
        drop((waits, more, guard));
        assert_eq!(is_listed(), 0);
    }
    Ok(())
}

/// How often each task of the stress test takes the lock.
const TURNS: u32 = 500;

#[bowline::test(worker_threads = 2)]
async fn no_count_is_lost_between_threads() -> Result<(), Cancelled> {
    scope("stress", async |s| {
        let lock = s.cx().share("lock", Mutex::new("count", (0_u32, false)));
        for _ in 0..8 {
            s.spawn_with("adds", lock.clone(), async |_cx, lock| {
                for turn in 0..TURNS {
                    if turn % 7 == 0 {
                        // Somebody who gives up, sometimes with the lock just granted.
                        race(yield_now(1), lock.lock()).await;
                    }
                    let mut guard = lock.lock().await?;
                    assert!(!std::mem::replace(&mut guard.1, true), "two hold it");
                    if turn % 5 == 0 {
                        yield_now(1).await;
                    }
                    guard.0 += 1;
                    guard.1 = false;
                }
                Ok(())
            });
        }
        while lock.stats().waits == 0 || lock.with(|(count, _)| *count).await? < 8 * TURNS {
            yield_now(1).await;
        }
        Ok(())
    })
    .await
}
