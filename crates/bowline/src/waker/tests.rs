//! Who can wake a parked task, against what it waits for: with libraries that know nothing of us, and with every wait of ours.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::select;
use futures_util::stream::FuturesUnordered;

use crate::carry::Cx;
use crate::record::{Record, Signals};
use crate::testing::example;
use crate::{
    Bound, Cancelled, Context, Handle, Mutex, Overflow, RwLock, Scope, Semaphore, join, race, scope, timeout,
};

const HOUR: Duration = Duration::from_secs(3_600);

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a wait is to show, when it has come to rest: whether somebody unknown can wake it, and how many waits of ours it has.
struct Case(&'static str, bool, u32, Wait);

fn case<T>(
    name: &'static str,
    foreign: bool,
    leaves: u32,
    wait: impl Future<Output = T> + Send + 'static,
) -> Case {
    Case(name, foreign, leaves, Box::pin(async { _ = wait.await }))
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn record<T>(task: &Handle<T>) -> Arc<Record> {
    Arc::clone(task.living().expect("it waits"))
}

/// Lets a task wait, and looks at it at rest.
async fn at_rest(s: &Scope<Cancelled>, wait: impl Future<Output = ()> + Send + 'static) -> Signals {
    let task = s.spawn("waits", async {
        wait.await;
        Ok(())
    });
    settle().await;
    let signals = record(&task).signals();
    assert_eq!(record(&task).signals(), signals, "at rest nothing changes");
    task.cancel("seen"); // not aborted: scopes come to their end
    settle().await;
    signals
}

fn check(cases: impl FnOnce() -> Vec<Case>) {
    example(async {
        scope("cases", async |s| {
            for Case(name, foreign, leaves, wait) in cases() {
                let signals = at_rest(s, wait).await;
                assert_eq!((signals.foreign, signals.leaves), (foreign, leaves), "{name}: {signals:?}");
                assert!(signals.is_quiescent(), "{name}: {signals:?}");
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    });
}

/// Pending once, and woken for the next poll.
async fn one_turn() {
    tokio::task::yield_now().await;
}

fn listener() -> tokio::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    tokio::net::TcpListener::from_std(listener).unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tasks that know nothing of us are what this is about")]
fn what_waits_for_something_foreign_can_be_woken_by_it() {
    check(|| {
        vec![
            case("a timer", true, 0, async { tokio::time::sleep(HOUR).await }),
            case("a timer of ours", true, 1, crate::sleep(HOUR)),
            case("a channel", true, 0, async {
                let (_tx, mut rx) = tokio::sync::mpsc::channel::<()>(1);
                rx.recv().await;
            }),
            case("a lock", true, 0, async {
                let lock = tokio::sync::Mutex::new(());
                let _first = lock.lock().await;
                drop(lock.lock().await);
            }),
            case("a socket", true, 0, async { _ = listener().accept().await }),
            case("a foreign task", true, 0, async {
                struct Aborts(tokio::task::AbortHandle);
                impl Drop for Aborts {
                    fn drop(&mut self) {
                        self.0.abort();
                    }
                }
                let task = tokio::spawn(pending::<()>());
                let _aborts = Aborts(task.abort_handle());
                task.await
            }),
            case("a thread", true, 0, async {
                let (stop, stopped) = std::sync::mpsc::channel::<()>();
                let thread = tokio::task::spawn_blocking(move || stopped.recv().is_err());
                let _stop = stop; // dropped first when the task is
                thread.await
            }),
            case("select", true, 0, async {
                let (_tx, mut rx) = tokio::sync::mpsc::channel::<()>(1);
                select(pending::<()>(), pin!(rx.recv())).await;
            }),
            case("FuturesUnordered", true, 0, async {
                let mut all = FuturesUnordered::from_iter([pending::<()>(), pending()]);
                all.next().await
            }),
            case("FuturesUnordered over ours", true, 1, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                FuturesUnordered::from_iter([rx.recv()]).next().await.is_some()
            }),
            case("one beside ours", true, 1, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                race(tokio::time::sleep(HOUR), rx.recv()).await;
            }),
            case("a list of arms, each with a waker of its own", true, 1, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                crate::race_all([rx.recv()]).await.is_ok()
            }),
        ]
    });
}

#[test]
fn what_lost_a_race_does_not_wake_the_task_any_more() {
    check(|| {
        vec![
            case("nothing", false, 0, pending::<()>()),
            case("a timer that lost", false, 0, async {
                select(pin!(tokio::time::sleep(HOUR)), pin!(one_turn())).await;
                pending::<()>().await;
            }),
            case("an accept that lost, its socket kept", false, 0, async {
                let socket = listener();
                select(pin!(socket.accept()), pin!(one_turn())).await;
                pending::<()>().await;
                drop(socket);
            }),
            case("a wait of ours that lost", false, 0, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                race(rx.recv(), one_turn()).await;
                pending::<()>().await;
            }),
        ]
    });
}

#[test]
fn a_wait_of_ours_is_counted_and_is_not_foreign() {
    check(|| {
        vec![
            case("recv", false, 1, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                rx.recv().await.is_ok()
            }),
            case("recv, polled before", false, 1, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                crate::join(rx.recv(), one_turn()).await.0.is_ok()
            }),
            case("send", false, 1, async {
                let cx = Cx::here();
                let (tx, _rx) = cx.queue("queue", Bound::items(1), Overflow::Block);
                tx.send(1).await.unwrap();
                tx.send(2).await.is_ok()
            }),
            case("closed", false, 1, async {
                let cx = Cx::here();
                let (tx, _rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                tx.closed().await.is_ok()
            }),
            case("rendezvous", false, 1, async {
                let cx = Cx::here();
                let (tx, _rx) = cx.rendezvous("rendezvous");
                tx.send(1).await.is_ok()
            }),
            case("rendezvous, with empty hands", false, 1, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.rendezvous::<()>("rendezvous");
                rx.recv().await.is_ok()
            }),
            case("reply", false, 1, async {
                let cx = Cx::here();
                let (_reply, mut answer) = cx.oneshot::<()>("oneshot");
                answer.recv().await.is_ok()
            }),
            case("watch", false, 1, async {
                let cx = Cx::here();
                let (_tx, mut rx) = cx.watch("watch", 1);
                rx.changed().await.is_ok()
            }),
            case("broadcast", false, 1, async {
                let cx = Cx::here();
                let (_tx, mut rx) = cx.broadcast::<u32>("broadcast", 4);
                rx.recv().await.is_ok()
            }),
            case("notify", false, 1, async {
                let cx = Cx::here();
                let (_notifier, notify) = cx.notify("notify");
                notify.notified().await.is_ok()
            }),
            case("latch", false, 1, async {
                let cx = Cx::here();
                let (_count, latch) = cx.latch("latch");
                latch.wait().await.is_ok()
            }),
            case("barrier", false, 1, async {
                let cx = Cx::here();
                let mut seats = cx.barrier("barrier", 2);
                seats[0].wait().await.is_ok()
            }),
            case("lock", false, 1, async {
                let lock = Mutex::new("lock", ());
                let _first = lock.lock().await;
                lock.lock().await.is_ok()
            }),
            case("read behind write", false, 1, async {
                let lock = RwLock::new("lock", ());
                let _first = lock.write().await;
                lock.read().await.is_ok()
            }),
            case("acquire", false, 1, async {
                let semaphore = Semaphore::new("semaphore", 1);
                let _first = semaphore.acquire(1).await;
                semaphore.acquire(1).await.is_ok()
            }),
            case("cancelled", false, 1, crate::cancelled()),
            case("draining", false, 1, crate::draining()),
            case("join", false, 1, async {
                scope("scope", async |s| s.spawn("child", pending::<Result<(), Cancelled>>()).await).await
            }),
            case("close", false, 1, async {
                scope("scope", async |s| {
                    s.spawn("child", pending::<Result<(), Cancelled>>());
                    Ok(())
                })
                .await
            }),
            case("under a deadline", false, 1, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                timeout(HOUR, rx.recv()).await.is_ok()
            }),
            case("in the body of a scope under a deadline, polled twice", false, 1, async {
                let inner = scope("scope", async |s| {
                    one_turn().await;
                    let (_tx, rx) = s.queue::<()>("queue", Bound::items(1), Overflow::Block);
                    rx.recv().await.map(drop)
                });
                timeout(HOUR, inner).await.is_ok()
            }),
            case("until draining", false, 2, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                crate::until_draining(rx.recv()).await.is_some()
            }),
            case("race", false, 2, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                let (_notifier, notify) = cx.notify("notify");
                race(rx.recv(), notify.notified()).await;
            }),
            case("join of two", false, 2, async {
                let cx = Cx::here();
                let (_tx, rx) = cx.queue::<()>("queue", Bound::items(1), Overflow::Block);
                let (_notifier, notify) = cx.notify("notify");
                join(rx.recv(), notify.notified()).await.0.is_ok()
            }),
        ]
    });
}

/// Puts down a clone of the waker at every poll, as a foreign future does, and ends when the clone is taken away.
fn waits_for(waker: &Arc<StdMutex<Option<Waker>>>) -> impl Future<Output = ()> + Send + use<> {
    let slot = Arc::clone(waker);
    let mut polled = false;
    poll_fn(move |cx| {
        let mut slot = slot.lock().unwrap();
        if std::mem::replace(&mut polled, true) && slot.is_none() {
            return Poll::Ready(());
        }
        *slot = Some(cx.waker().clone());
        Poll::Pending
    })
}

#[test]
fn a_task_that_was_woken_is_not_quiescent_before_it_was_polled() {
    example(async {
        scope("scope", async |s| {
            let slot = Arc::default();
            let fresh = s.spawn("waits", {
                let waits = waits_for(&slot);
                async {
                    waits.await;
                    pending::<Result<(), Cancelled>>().await
                }
            });
            let task = record(&fresh);
            assert!(!task.signals().is_quiescent(), "it is about to be polled for the first time");
            settle().await;
            let parked = task.signals();
            assert!(parked.is_quiescent() && parked.foreign, "{parked:?}");

            let waker = slot.lock().unwrap().take().unwrap();
            waker.wake_by_ref();
            let woken = task.signals();
            assert!(!woken.is_quiescent(), "{woken:?}");
            assert_eq!((woken.polls, woken.wakes), (parked.polls, parked.wakes + 1));
            settle().await;
            assert!(task.signals().is_quiescent(), "it was polled");
            assert!(task.signals().foreign, "the clone is still there");
            drop(waker);
            assert!(!task.signals().foreign, "and now it is not");

            fresh.cancel("enough");
            assert!(!task.signals().is_quiescent(), "a cancel wakes it too");
            settle().await;
            assert!(!task.signals().is_quiescent(), "it has ended");
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "somebody on another thread")]
fn a_wake_up_during_the_first_poll_is_not_lost() {
    example(async {
        scope("scope", async |s| {
            let mut polls = 0;
            let twice = poll_fn(move |cx| {
                polls += 1;
                if polls == 3 {
                    return Poll::Ready(Ok(()));
                }
                let waker = cx.waker().clone();
                std::thread::spawn(move || waker.wake()).join().unwrap();
                Poll::Pending
            });
            s.spawn("twice", twice).await
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_bell_goes_on_to_the_next_task_unless_somebody_has_a_clone() {
    example(async {
        scope("scope", async |s| {
            let kept: Arc<StdMutex<Vec<Waker>>> = Arc::default();
            let mut at = Vec::new();
            for keeps in [false, false, true, false, false] {
                let kept = Arc::clone(&kept);
                let ends = poll_fn(move |cx| {
                    if keeps {
                        kept.lock().unwrap().push(cx.waker().clone());
                    }
                    Poll::Ready(Ok::<_, Cancelled>(cx.waker().data().addr()))
                });
                at.push(s.spawn("ends", ends).await?);
            }
            assert_eq!(at[0], at[1]);
            assert_eq!(at[1], at[2], "nobody had a clone before");
            assert_ne!(at[2], at[3]);
            assert_eq!(at[3], at[4]);
            for left in kept.lock().unwrap().drain(..) {
                left.wake(); // its task has ended: nobody hears it
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_wait_that_moves_to_another_task_is_counted_where_it_is_polled() {
    example(async {
        scope("scope", async |s| {
            type Moved = Pin<Box<dyn Future<Output = ()> + Send>>;
            let (give, take) = tokio::sync::oneshot::channel::<Moved>();
            let lock = Arc::new(Mutex::new("lock", ()));
            let guard = lock.lock().await?;
            let wanted = Arc::clone(&lock);
            let first = s.spawn("first", async move {
                let mut wait: Moved = Box::pin(async move { drop(wanted.lock().await) });
                assert!(crate::testing::poll_once(&mut wait).await.is_pending());
                give.send(wait).ok();
                pending::<Result<(), Cancelled>>().await
            });
            let second = s.spawn("second", async move {
                take.await.unwrap().await;
                pending::<Result<(), Cancelled>>().await
            });
            settle().await;
            let (first, second) = (record(&first), record(&second));
            assert_eq!((first.signals().leaves, second.signals().leaves), (0, 1));
            assert!(!second.signals().foreign);
            drop(guard);
            settle().await;
            assert_eq!((first.signals().leaves, second.signals().leaves), (0, 0));
            s.cancel("enough");
            Ok(())
        })
        .await
        .unwrap_err();
    });
}

#[test]
fn a_scope_that_another_task_polls_keeps_its_own_from_being_judged_until_it_ends() {
    example(async {
        scope("scope", async |s| {
            type Moved = Pin<Box<dyn Future<Output = Result<(), Cancelled>> + Send>>;
            let (give, take) = tokio::sync::oneshot::channel::<Moved>();
            let (stop, stopped) = tokio::sync::oneshot::channel();
            let opener = s.spawn("opener", async move {
                let mut inner: Moved = Box::pin(scope("inner", async |s| {
                    stop.send(s.handle()).ok();
                    crate::cancelled().await;
                    Ok(())
                }));
                assert!(crate::testing::poll_once(&mut inner).await.is_pending());
                give.send(inner).ok();
                pending::<Result<(), Cancelled>>().await
            });
            let poller = s.spawn("poller", async move {
                let _ended = take.await.unwrap().await;
                pending::<Result<(), Cancelled>>().await
            });
            settle().await;
            let (opener, poller) = (record(&opener), record(&poller));
            assert!(opener.signals().foreign, "the inner scope is its, and another task runs it");
            assert!(poller.signals().foreign, "and what it waits for there is not its own");

            stopped.await.unwrap().cancel("enough");
            settle().await; // it wakes the one that polls
            assert_eq!((opener.signals().foreign, opener.signals().leaves), (false, 0));
            assert!(!poller.signals().foreign);
            s.cancel("enough");
            Ok(())
        })
        .await
        .unwrap_err();
    });
}

#[test]
fn a_context_in_the_hands_of_another_task_keeps_its_own_from_being_judged() {
    example(async {
        scope("scope", async |s| {
            let (give, take) = tokio::sync::oneshot::channel();
            let (give_too, take_too) = tokio::sync::oneshot::channel();
            let owner = s.spawn("owner", async move {
                give.send(Context::current()).ok();
                give_too.send(Context::current()).ok();
                pending::<Result<(), Cancelled>>().await
            });
            s.spawn("watches", async move { Err::<(), _>(take_too.await.unwrap().cancelled().await) });
            settle().await;
            let of_owner = record(&owner);
            assert!(!of_owner.signals().foreign, "to wait for its cancel is to do nothing in it");
            let user = s.spawn("user", async move {
                take.await.unwrap().run(pending::<()>()).await.ok();
                Ok(())
            });
            settle().await;
            assert!(of_owner.signals().foreign);
            assert!(record(&user).signals().foreign);
            user.abort();
            settle().await;
            assert!(!of_owner.signals().foreign);
            s.cancel("enough");
            Ok(())
        })
        .await
        .unwrap_err();
    });
}

/// Such a wake-up is not counted with those of others: see invariant 1.
#[test]
fn a_task_that_has_woken_itself_is_not_at_rest() {
    example(async {
        scope("scope", async |s| {
            let stops = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stops);
            let task = s.spawn(
                "turns",
                poll_fn(move |cx| {
                    if !stopped.load(Ordering::Relaxed) {
                        cx.waker().wake_by_ref();
                        cx.waker().wake_by_ref();
                    }
                    Poll::<Result<(), Cancelled>>::Pending
                }),
            );
            let task = record(&task);
            for _ in 0..3 {
                tokio::task::yield_now().await;
                let signals = task.signals();
                assert!(signals.polls > 0 && !signals.is_quiescent(), "it is in the queue: {signals:?}");
            }
            stops.store(true, Ordering::Relaxed);
            settle().await;
            assert!(task.signals().is_quiescent(), "{:?}", task.signals());
            s.cancel("enough");
            Ok(())
        })
        .await
        .unwrap_err();
    });
}

#[test]
fn a_parked_task_costs_no_more_than_it_did() {
    // With the two counters of its reference: each is one allocation of the next class of most allocators.
    assert!(size_of::<Record>() + 16 <= 112, "{}", size_of::<Record>());
    assert!(size_of::<super::Bell>() + 16 <= 48, "{}", size_of::<super::Bell>());
}

/// How many waits of a task the books of what it waits at show as not fired.
fn unfired(task: &Record) -> u32 {
    let mut found = 0;
    crate::resource::scan(|facts| {
        let of_task = facts.waiters.iter().filter(|waiter| waiter.who.task == task.id() && !waiter.granted);
        found += u32::try_from(of_task.count()).unwrap();
    });
    found
}

/// A wake-up of ours is not counted. So from the moment in which a wait is over, and until its task has been polled, the
/// books say that it was granted, or do not know it any more: a scan does not find what the task says it has.
#[test]
fn a_wait_that_is_over_is_not_in_the_books_as_one_that_waits() {
    macro_rules! over {
        ($s:ident, $name:literal, $carry:expr, |$end:pat_param| $wait:expr, $fire:expr) => {
            let task = $s.spawn_with($name, $carry, async move |_cx, $end| {
                let _ = $wait;
                pending::<Result<(), Cancelled>>().await
            });
            settle().await;
            let waits = record(&task);
            let before = waits.signals();
            assert!(before.is_quiescent() && !before.foreign, "{}: {before:?}", $name);
            assert_eq!((before.leaves, unfired(&waits)), (1, 1), "{} waits", $name);
            $fire;
            assert_eq!(waits.signals().polls, before.polls, "{} was not polled", $name);
            assert_eq!(unfired(&waits), 0, "{} is over", $name);
            settle().await;
            assert_eq!(waits.signals().leaves, 0, "{} has gone on", $name);
            drop(waits);
            task.cancel("seen");
            settle().await;
        };
    }
    example(async {
        scope("cases", async |s| {
            let cx = s.cx();
            let queue = || cx.queue::<u32>("queue", Bound::items(1), Overflow::Block);

            let (tx, rx) = queue();
            over!(s, "recv: an item", rx, |rx| rx.recv().await, tx.try_send(1).unwrap());
            let (tx, rx) = queue();
            over!(s, "recv: no sender", rx, |rx| rx.recv().await, drop(tx));
            let (tx, rx) = queue();
            tx.try_send(1).unwrap();
            over!(s, "send: room", tx, |tx| tx.send(2).await, rx.try_recv().unwrap());
            let (tx, rx) = queue();
            tx.try_send(1).unwrap();
            over!(s, "send: no receiver", tx, |tx| tx.send(2).await, drop(rx));
            let (tx, rx) = queue();
            over!(s, "closed", tx, |tx| tx.closed().await, drop(rx));

            let (reply, answer) = cx.oneshot::<u32>("oneshot");
            over!(s, "answer", answer, |mut answer| answer.recv().await, reply.send(1).unwrap());
            let (reply, answer) = cx.oneshot::<u32>("oneshot");
            over!(s, "no answer", answer, |mut answer| answer.recv().await, drop(reply));
            let (tx, rx) = cx.watch("watch", 1);
            over!(s, "change", rx, |mut rx| rx.changed().await, tx.send(2));
            let (tx, rx) = cx.watch("watch", 1);
            over!(s, "no change", rx, |mut rx| rx.changed().await, drop(tx));
            let (tx, rx) = cx.broadcast::<u32>("broadcast", 4);
            over!(s, "news", rx, |mut rx| rx.recv().await, _ = tx.send(1));
            let (tx, rx) = cx.broadcast::<u32>("broadcast", 4);
            over!(s, "no news", rx, |mut rx| rx.recv().await, drop(tx));

            let (tx, rx) = cx.rendezvous::<u32>("rendezvous");
            over!(s, "offer: taken", tx, |tx| tx.send(1).await, rx.try_recv().unwrap());
            let (tx, rx) = cx.rendezvous::<u32>("rendezvous");
            over!(s, "offer: no receiver", tx, |tx| tx.send(1).await, drop(rx));
            let (tx, rx) = cx.rendezvous::<u32>("rendezvous");
            let mut offer = Box::pin(async move { tx.send(1).await });
            over!(
                s,
                "empty hands",
                rx,
                |rx| rx.recv().await,
                _ = crate::testing::poll_once(&mut offer).await
            );
            let (tx, rx) = cx.rendezvous::<u32>("rendezvous");
            over!(s, "empty hands for ever", rx, |rx| rx.recv().await, drop(tx));

            let (notifier, notify) = cx.notify("notify");
            over!(s, "one", (), |_none| notify.notified().await, notifier.notify_one());
            let (notifier, notify) = cx.notify("notify");
            over!(s, "all", (), |_none| notify.notified().await, notifier.notify_all());
            let (notifier, notify) = cx.notify("notify");
            over!(s, "no notifier", (), |_none| notify.notified().await, drop(notifier));
            let (count, latch) = cx.latch("latch");
            over!(s, "latch", (), |_none| latch.wait().await, drop(count));
            let mut seats = cx.barrier("barrier", 2);
            let (mut ours, seat) = (seats.pop().unwrap(), seats.pop().unwrap());
            over!(s, "arrive", seat, |mut seat| seat.wait().await, drop(ours.wait().await));
            let mut seats = cx.barrier("barrier", 2);
            let (ours, seat) = (seats.pop().unwrap(), seats.pop().unwrap());
            over!(s, "nobody comes", seat, |mut seat| seat.wait().await, drop(ours));

            let lock = Arc::new(Mutex::new("lock", ()));
            let (guard, wanted) = (lock.lock().await?, Arc::clone(&lock));
            over!(s, "lock", (), |_none| wanted.lock().await.is_ok(), drop(guard));
            let lock = Arc::new(RwLock::new("lock", ()));
            let (guard, wanted) = (lock.write().await?, Arc::clone(&lock));
            over!(s, "read", (), |_none| wanted.read().await.is_ok(), drop(guard));
            let permits = Arc::new(Semaphore::empty("permits"));
            let wanted = Arc::clone(&permits);
            over!(s, "permits", (), |_none| wanted.acquire(1).await.is_ok(), permits.add_permits(1));
            let permits = Arc::new(Semaphore::empty("permits"));
            let wanted = Arc::clone(&permits);
            over!(s, "no permits", (), |_none| wanted.acquire(1).await.is_ok(), permits.close("over"));
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    });
}
