//! Notifications: one is stored, a call to everybody reaches those who said they would wait, and when nobody can notify any
//! more the wait ends.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use bowline::{Cancelled, FreeNotifier, Notify, NotifyError, ResourceState, race, scope};
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

async fn notify() -> (FreeNotifier, Notify) {
    scope("notify", async |s| {
        let (notifier, notify) = s.cx().notify("bell");
        Ok::<_, Cancelled>((notifier.free(), notify))
    })
    .await
    .expect("nobody cancels this scope")
}

#[bowline::test]
async fn a_notification_nobody_waited_for_is_stored_once() -> Result<(), NotifyError> {
    let (notifier, notify) = notify().await;
    notifier.notify_one();
    notifier.notify_one();
    assert_eq!(notify.stats().state, ResourceState::Fired);
    notify.notified().await?;
    assert!(poll_once(&mut Box::pin(notify.notified())).await.is_pending());
    Ok(())
}

#[bowline::test]
async fn notify_one_wakes_the_first_in_line() {
    let (notifier, notify) = notify().await;
    let mut first = parked(notify.notified()).await;
    let mut second = parked(notify.notified()).await;
    notifier.notify_one();
    assert!(poll_once(&mut second).await.is_pending());
    assert_eq!(poll_once(&mut first).await, Poll::Ready(Ok(())));
}

#[bowline::test]
async fn notify_all_wakes_whoever_had_asked_and_stores_nothing() {
    let (notifier, notify) = notify().await;
    let mut waits = parked(notify.notified()).await;
    let mut asked = Box::pin(notify.notified()); // not polled yet
    notifier.notify_all();
    let mut later = Box::pin(notify.notified());
    assert_eq!(poll_once(&mut waits).await, Poll::Ready(Ok(())));
    assert_eq!(poll_once(&mut asked).await, Poll::Ready(Ok(())));
    assert!(poll_once(&mut later).await.is_pending());
}

#[bowline::test]
async fn a_notification_to_a_dropped_waiter_goes_to_the_next_or_is_stored() {
    let (notifier, notify) = notify().await;
    let first = parked(notify.notified()).await;
    let mut second = parked(notify.notified()).await;
    notifier.notify_one();
    drop(first);
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(())));
    let third = parked(notify.notified()).await;
    notifier.notify_one();
    drop(third);
    assert_eq!(notify.stats().state, ResourceState::Fired);
}

#[bowline::test]
async fn a_call_to_everybody_is_not_passed_on_by_a_dropped_waiter() {
    let (notifier, notify) = notify().await;
    let first = parked(notify.notified()).await;
    notifier.notify_all();
    drop(first);
    assert_eq!(notify.stats().state, ResourceState::Waiting);
}

#[bowline::test]
async fn a_waiter_learns_that_the_last_notifier_is_gone() {
    let (notifier, notify) = notify().await;
    let mut waits = parked(notify.notified()).await;
    let second = notifier.clone();
    drop(notifier);
    assert!(poll_once(&mut waits).await.is_pending());
    second.notify_one();
    let mut behind = parked(notify.notified()).await;
    drop(second);
    assert_eq!(poll_once(&mut waits).await, Poll::Ready(Ok(())), "notified before");
    assert_eq!(poll_once(&mut behind).await, Poll::Ready(Err(NotifyError::NoNotifier)));
    assert_eq!(notify.notified().await, Err(NotifyError::NoNotifier));
    assert!(notify.stats().ends.is_empty());
}

#[bowline::test]
async fn a_waiter_learns_that_the_task_which_was_to_notify_has_failed() {
    let ended = scope("starter fails", async |s| {
        let (notifier, ready) = s.cx().notify("ready");
        let starter = s.spawn_with("starter", notifier, async |_cx, notifier| {
            yield_now(1).await;
            if bowline::is_cancelled() {
                notifier.notify_all();
            }
            Ok(()) // an early return that forgets to notify
        });
        let notified = ready.notified().await;
        starter.await?;
        Ok::<_, Cancelled>(notified)
    })
    .await;
    assert_eq!(ended, Ok(Err(NotifyError::NoNotifier)));
}

#[bowline::test]
async fn notifiers_are_booked_at_their_tasks() -> Result<(), Cancelled> {
    scope("booked", async |s| {
        let (notifier, notify) = s.cx().notify("bell");
        let child = s.spawn_with("child", notifier.clone(), async |_cx, notifier| {
            bowline::cancelled().await;
            drop(notifier);
            Ok(())
        });
        let free = notifier.clone().free();
        yield_now(2).await;
        let ends = notify.stats().ends;
        assert_eq!(ends.len(), 3, "{ends:?}");
        assert!(ends.iter().all(|end| end.role == "notifier" && end.ends == 1));
        assert_eq!(ends.iter().filter(|end| end.task.is_none()).count(), 1);
        drop(free.bind_to(s.cx()));
        assert_eq!(notify.stats().ends.len(), 2);
        child.abort();
        let _ = child.await;
        assert_eq!(notify.stats().ends.len(), 1);
        Ok(())
    })
    .await
}

#[bowline::test]
async fn no_notification_is_lost_wherever_a_wait_is_cut() {
    let (notifier, notify) = notify().await;
    let taken = AtomicU32::new(0);
    let scenario = async || {
        let wait = async || {
            notify.notified().await?;
            taken.fetch_add(1, Ordering::Relaxed);
            Ok::<_, NotifyError>(())
        };
        let ring = async {
            yield_now(1).await;
            notifier.notify_one();
        };
        futures_util::future::join(race(wait(), wait()), ring).await.0.into_inner()
    };
    let check = async |_, ended: Option<Result<(), NotifyError>>| {
        let stats = notify.stats();
        assert!(stats.waiters.is_empty(), "{stats:?}");
        let taken = taken.swap(0, Ordering::Relaxed);
        let stored = u32::from(race(notify.notified(), yield_now(2)).await == bowline::Either::Left(Ok(())));
        // Rung once if the scenario came that far; then it is with a waiter or stored, never both.
        assert!(taken + stored <= 1);
        if ended == Some(Ok(())) {
            assert_eq!(taken, 1);
        }
    };
    assert!(cancel_everywhere(scenario, check).await >= 2);
    assert!(cancel_context_everywhere(scenario, check).await >= 2);
}

#[bowline::test(worker_threads = 2)]
async fn state_changed_before_a_notification_is_seen_by_whoever_asked_first() -> Result<(), Cancelled> {
    const LAST: u32 = 2_000;
    scope("stress", async |s| {
        let (notifier, changed) = s.cx().notify("changed");
        let hub = s.cx().share("hub", (AtomicU32::new(0), changed));
        let mut watchers = Vec::new();
        for _ in 0..3 {
            watchers.push(s.spawn_with("watches", hub.clone(), async |_cx, hub| {
                loop {
                    let notified = hub.1.notified();
                    if hub.0.load(Ordering::Acquire) == LAST {
                        return Ok(());
                    }
                    notified.await?; // one missed is a hang
                }
            }));
        }
        s.spawn_with("counts", (notifier, hub.clone()), async |_cx, (notifier, hub)| {
            for count in 1..=LAST {
                hub.0.store(count, Ordering::Release);
                notifier.notify_all();
                if count % 64 == 0 {
                    yield_now(1).await;
                }
            }
            bowline::cancelled().await; // the notifier stays: only the last call can end the watchers
            Ok(())
        });
        for watcher in watchers {
            watcher.await?;
        }
        s.cancel("all have seen it");
        Ok(())
    })
    .await
}
