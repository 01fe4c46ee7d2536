//! Racing: who wins, that the losers are gone, and that nothing hangs on a future nobody polls.

#![expect(clippy::disallowed_macros, reason = "the programs that hang, to show that ours do not")]

mod support;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline::{Bound, Cancelled, Cause, Either, Overflow, join_all, race, race_all, scope, timeout};
use futures_util::FutureExt;
use support::{cancel_everywhere, poll_once, queue, yield_now};
use tokio::sync::{Mutex, RwLock, oneshot};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// Writes its name down when it is dropped.
struct Dropped(&'static str, Rc<RefCell<Vec<&'static str>>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

async fn holding<T>(_held: Dropped, future: impl Future<Output = T>) -> T {
    future.await
}

fn boxed<'a, T>(future: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(future)
}

#[bowline::test]
async fn the_first_in_the_list_wins_a_tie() {
    assert_eq!(race(ready(1), ready(2)).await, Either::Left(1));
    assert_eq!(race_all((ready(1), ready(2), ready(3))).await, 1);
    assert_eq!(race_all([ready(1), ready(2)]).await, 1);
    assert_eq!(race_all(vec![ready(1), ready(2)]).await, 1);
}

#[bowline::test]
async fn of_two_woken_arms_of_a_list_the_first_in_the_list_wins() {
    let (mut senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel()).unzip();
    let mut racing = Box::pin(race_all(receivers));
    assert!(poll_once(&mut racing).await.is_pending());
    for at in [3, 1, 2] {
        senders.remove(at.min(senders.len() - 1)).send(at).unwrap();
    }
    assert_eq!(racing.await, Ok(1));
}

#[bowline::test]
async fn every_arm_can_win() {
    for winner in 0..8 {
        let arm = |at: usize| async move {
            if at != winner {
                pending::<()>().await;
            }
            at
        };
        let tuple = (arm(0), arm(1), arm(2), arm(3), arm(4), arm(5), arm(6), arm(7));
        assert_eq!(race_all(tuple).await, winner);
        assert_eq!(race_all([0, 1, 2, 3, 4, 5, 6, 7].map(arm)).await, winner);
    }
}

#[bowline::test]
async fn losers_are_dropped_before_the_value_is_returned() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let dropped = |name| Dropped(name, Rc::clone(&log));
    let tuple = (
        holding(dropped("a"), pending()),
        holding(dropped("b"), ready(())),
        holding(dropped("c"), pending()),
    );
    let mut racing = pin!(race_all(tuple)); // kept, so that nothing but the race itself drops them
    racing.as_mut().await;
    // The winner's own things go when it ends, the losers' in their order; the one that was never polled as well.
    assert_eq!(log.take(), ["b", "a", "c"]);
    let list = vec![boxed(holding(dropped("a"), pending())), boxed(holding(dropped("b"), ready(())))];
    let mut racing = pin!(race_all(list));
    racing.as_mut().await;
    assert_eq!(log.take(), ["b", "a"]);
}

#[bowline::test]
async fn an_arm_of_a_list_is_polled_only_when_it_was_woken() {
    let polls = Rc::new(Cell::new(0));
    let wakers = Rc::new(RefCell::new(Vec::<Waker>::new()));
    let arm = |at: usize| {
        let (polls, wakers) = (Rc::clone(&polls), Rc::clone(&wakers));
        let mut first = true;
        boxed(poll_fn(move |cx: &mut Context<'_>| {
            polls.set(polls.get() + 1);
            wakers.borrow_mut().push(cx.waker().clone());
            if std::mem::take(&mut first) || at != 63 { Poll::Pending } else { Poll::Ready(at) }
        }))
    };
    let mut racing = Box::pin(race_all((0..100).map(arm).collect::<Vec<_>>()));
    assert!(poll_once(&mut racing).await.is_pending());
    assert_eq!(polls.take(), 100);
    for woken in [7, 7, 40] {
        wakers.borrow()[woken].wake_by_ref();
    }
    assert!(poll_once(&mut racing).await.is_pending());
    assert_eq!(polls.take(), 2, "two arms were woken");
    assert!(poll_once(&mut racing).await.is_pending());
    assert_eq!(polls.take(), 0);
    wakers.borrow()[63].wake_by_ref();
    assert_eq!(racing.await, 63);
}

#[bowline::test]
#[should_panic(expected = "a race of nobody would never end")]
async fn a_race_of_nobody_is_refused() {
    race_all(Vec::<std::future::Ready<()>>::new()).await;
}

#[bowline::test]
#[should_panic(expected = "a race polled after its end")]
async fn a_race_is_not_polled_after_its_end() {
    let mut racing = pin!(race(ready(1), pending::<()>()));
    racing.as_mut().await;
    racing.await;
}

#[bowline::test(start_paused = true)]
async fn a_panic_in_one_arm_drops_the_others_at_once_and_in_their_context() {
    struct LooksAround(Rc<Cell<Option<bool>>>);
    impl Drop for LooksAround {
        fn drop(&mut self) {
            self.0.set(Some(bowline::deadline().is_some()));
        }
    }
    async fn panics() {
        yield_now(2).await;
        panic!("one of two");
    }
    for list in [false, true] {
        let seen = Rc::new(Cell::new(None));
        let neighbour = LooksAround(Rc::clone(&seen));
        let parks = async move {
            let _neighbour = neighbour;
            pending::<()>().await;
        };
        let ended = timeout(SECOND, async {
            let racing = if list {
                boxed(race_all(vec![boxed(parks), boxed(panics())]))
            } else {
                boxed(race_all((parks, panics())))
            };
            // Kept alive after its panic, as somebody may do who catches it.
            let mut caught = AssertUnwindSafe(racing).catch_unwind();
            let payload = (&mut caught).await.unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"one of two"));
            assert_eq!(seen.get(), Some(true), "it was dropped, under the deadline");
        });
        ended.await.unwrap();
    }
}

#[bowline::test]
async fn a_cancel_reaches_every_arm() {
    // A wait of ours in a list listens with the arm's waker; the arm that listens to nothing gets the one poll more as well.
    let heard = Cell::new(0);
    let ended = scope("outer", async |s| {
        let (_tx, rx) = queue::<u32>(Bound::items(1), Overflow::Block).await;
        let waits = || async {
            assert_eq!(rx.recv().await.unwrap_err().cause(), &Cause::Requested("enough"));
            heard.set(heard.get() + 1);
            pending().await
        };
        let deaf = || {
            poll_fn(|_| {
                if bowline::is_cancelled() {
                    heard.set(heard.get() + 1);
                }
                Poll::<()>::Pending
            })
        };
        let arms = vec![boxed(waits()), boxed(deaf()), boxed(waits())];
        s.handle()
            .spawn("cancels", {
                let handle = s.handle();
                async move {
                    yield_now(3).await;
                    handle.cancel("enough");
                    Ok(())
                }
            })
            .unwrap();
        race(race_all(arms), race_all((waits(), deaf()))).await;
        Ok::<_, Cancelled>(())
    });
    assert_eq!(ended.await.unwrap_err().cause(), &Cause::Requested("enough"));
    assert_eq!(heard.get(), 5);
}

#[bowline::test(worker_threads = 2)]
async fn no_wake_up_of_a_list_is_lost() {
    const ARMS: u64 = 64;
    for _ in 0..200 {
        scope("senders", async |s| {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..ARMS).map(|_| oneshot::channel::<u64>()).unzip();
            for (value, sender) in (0..).zip(senders) {
                s.spawn("sends", async move {
                    sender.send(value).unwrap();
                    Ok(())
                });
            }
            let all = timeout(Duration::from_secs(30), join_all(receivers)).await?;
            assert_eq!(all.into_iter().map(Result::unwrap).sum::<u64>(), ARMS * (ARMS - 1) / 2);
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    }
}

#[bowline::test]
async fn a_dropped_race_drops_its_arms() {
    let guard = Arc::new(());
    let arm = |turns: usize| {
        let guard = Arc::clone(&guard);
        boxed(async move {
            yield_now(turns).await;
            drop(guard);
            turns
        })
    };
    let make = || async {
        assert_eq!(race(arm(3), arm(2)).await, Either::Right(2));
        assert_eq!(race_all((arm(3), arm(4), arm(2))).await, 2);
        assert_eq!(race_all(vec![arm(3), arm(4), arm(2)]).await, 2);
    };
    let polls = cancel_everywhere(make, async |_, _| assert_eq!(Arc::strong_count(&guard), 1)).await;
    assert_eq!(polls, 7);
}

// ---- futurelock

/// How long a test waits before it calls a program stuck. The clock is paused: it costs nothing.
const FOR_EVER: Duration = Duration::from_secs(3600);

async fn with_the_lock(lock: &Mutex<u32>) {
    *lock.lock().await += 1;
}

/// Oxide RFD 609: `select!` over `&mut future` leaves the future in line for a lock; the other branch then waits behind it,
/// for ever. "Futurelock": the task holds up itself.
#[bowline::test(start_paused = true)]
async fn rfd_609_the_loser_of_a_race_does_not_stand_in_line_for_the_lock_the_winner_wants() {
    let lock = Arc::new(Mutex::new(0));
    let hold_it = async |s: &bowline::Scope<Cancelled>| {
        let lock = Arc::clone(&lock);
        s.spawn("holds it", async move {
            let _held = lock.lock().await;
            sleep(5 * SECOND).await;
            Ok(())
        });
        yield_now(2).await;
    };

    let bare = scope("bare", async |s| {
        hold_it(s).await;
        let mut first = pin!(with_the_lock(&lock));
        let hangs = async {
            tokio::select! {
                () = &mut first => {}
                () = sleep(SECOND) => with_the_lock(&lock).await,
            }
        };
        Ok::<_, Cancelled>(tokio::time::timeout(FOR_EVER, hangs).await)
    });
    assert!(bare.await.unwrap().is_err(), "the bare program hangs");

    *lock.lock().await = 0;
    let ours = scope("ours", async |s| {
        hold_it(s).await;
        let ends = async {
            if let Either::Right(()) = race(with_the_lock(&lock), sleep(SECOND)).await {
                with_the_lock(&lock).await;
            }
        };
        Ok::<_, Cancelled>(tokio::time::timeout(FOR_EVER, ends).await)
    });
    assert!(ours.await.unwrap().is_ok(), "ours does not");
    assert_eq!(*lock.lock().await, 1);
}

/// tokio#6450: two waiters of one lock in one task; the lock is granted to the first, which nobody polls any more.
#[bowline::test(start_paused = true)]
async fn tokio_6450_a_lock_is_not_granted_to_a_waiter_that_lost_its_race() {
    let lock = RwLock::new(());
    let held = lock.try_write().unwrap();
    let mut first = pin!(lock.write());
    let mut second = pin!(lock.write());
    {
        tokio::select! {
            biased;
            _ = &mut first => unreachable!("it is held"),
            () = ready(()) => {}
        }
        tokio::select! {
            biased;
            _ = &mut second => unreachable!("it is held"),
            () = ready(()) => {}
        }
    }
    drop(held);
    assert!(tokio::time::timeout(FOR_EVER, second).await.is_err(), "the bare program hangs");

    let lock = RwLock::new(());
    let held = lock.try_write().unwrap();
    assert!(matches!(race(lock.write(), ready(())).await, Either::Right(())));
    assert!(matches!(race(lock.write(), ready(())).await, Either::Right(())));
    drop(held);
    drop(tokio::time::timeout(FOR_EVER, lock.write()).await.expect("ours does not"));
}

/// tokio#7892, zenoh#2409: the lock is granted to the task's own first wait, while the task waits for it a second time.
#[bowline::test(start_paused = true)]
async fn tokio_7892_a_second_wait_for_a_lock_does_not_stand_behind_the_first_of_the_same_task() {
    let lock = Mutex::new(());
    let twice = async |first: Pin<&mut dyn Future<Output = ()>>| {
        let held = lock.lock().await;
        assert!(matches!(race(first, yield_now(1)).await, Either::Right(())));
        drop(held);
        tokio::time::timeout(FOR_EVER, lock.lock()).await.is_ok()
    };
    let mut kept = pin!(lock.lock().map(drop));
    assert!(
        !twice(kept.as_mut()).await,
        "a future kept by reference brings it back, as the documentation says"
    );

    let lock = Mutex::new(());
    let held = lock.lock().await;
    assert!(matches!(race(lock.lock(), yield_now(1)).await, Either::Right(())));
    drop(held);
    drop(tokio::time::timeout(FOR_EVER, lock.lock()).await.expect("by value it cannot"));
}

/// futures-rs#1972: a wait that is made anew at every poll takes its own wake-up with it. A race keeps its arms until it ends.
#[bowline::test(start_paused = true)]
async fn futures_1972_an_arm_keeps_its_place_over_many_polls_of_the_others() {
    let lock = Arc::new(Mutex::new(()));
    let held = Arc::clone(&lock).lock_owned().await;
    scope("outer", async |s| {
        s.spawn("lets go", async move {
            yield_now(10).await;
            drop(held);
            Ok(())
        });
        let ticks = async {
            loop {
                yield_now(1).await;
            }
        };
        let won = tokio::time::timeout(FOR_EVER, race(lock.lock(), ticks)).await;
        assert!(matches!(won, Ok(Either::Left(_))));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}
