//! Every public async function of the crate, cut at each of its awaits: dropped there, and cancelled there, under several
//! schedules.
//!
//! What is looked at after each cut, and after what was left has come to its end: no value is lost unless the function's
//! documentation says so, and no permit, place in line, task or destructor is left. The last test reads the sources: a new
//! async function that no row names fails it.

#[path = "../support/mod.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Wake, Waker};
use std::time::Duration;

use bowline::{
    Bound, CollectAll, Context, Discard, FailFast, Mutex, Overflow, ResourceState, RwLock, Semaphore,
    cancelled, deadline_at, drain_phase, draining, for_each, group, hedged, join, join_all, map, merge_all,
    race, race_all, scope, shielded, sleep, sleep_until, timeout, try_join, try_join_all, until_cancelled,
    until_draining, with_value,
};
use futures_util::stream;
use support::{cancel_context_everywhere, cancel_everywhere, yield_now};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// More turns than anything here needs to come to its end.
const SETTLED: usize = 20;

/// Cuts what `make` makes at every await, and runs `check` after each cut.
async fn everywhere<F: Future>(make: impl Fn() -> F, check: impl AsyncFn()) {
    let wakers = Ledger::default();
    yield_now(1).await; // a context keeps the waker it was first polled with: let that be the test's own
    let make = || Box::pin(with_counted_wakers(&wakers, make()));
    cut(make, async || {
        check().await;
        assert_eq!(wakers.count(), 0, "somebody would still be woken");
    })
    .await;
}

async fn cut<F: Future>(make: impl Fn() -> F, check: impl AsyncFn()) {
    let look = async |output: Option<F::Output>| {
        drop(output);
        yield_now(SETTLED).await;
        check().await;
    };
    let polls = cancel_everywhere(&make, async |_, output| look(output).await);
    assert!(polls.await > 1, "there was nothing to cut");
    let polls = cancel_context_everywhere(&make, async |_, output| look(output).await);
    assert!(polls.await > 1, "there was nothing to cut");
}

/// Polls with wakers that count themselves: who keeps one when the future is gone has kept a place.
async fn with_counted_wakers<F: Future>(ledger: &Ledger, future: F) -> F::Output {
    struct Counted(Waker, #[expect(dead_code, reason = "it counts by being there")] Arc<()>);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.wake_by_ref();
        }
    }

    let mut future = pin!(future);
    poll_fn(|cx| {
        let waker = Waker::from(Arc::new(Counted(cx.waker().clone(), ledger.one())));
        future.as_mut().poll(&mut task::Context::from_waker(&waker))
    })
    .await
}

/// Things that count themselves: futures and messages hold one, and when all are gone the count is back at 0.
#[derive(Default)]
struct Ledger(Arc<()>);

impl Ledger {
    fn one(&self) -> Arc<()> {
        Arc::clone(&self.0)
    }

    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    #[track_caller]
    fn is_even(&self) {
        assert_eq!(self.count(), 0, "something was not dropped");
    }
}

/// Something one future at a time may have for itself; it comes back when that future is dropped.
struct Home<T>(RefCell<Option<T>>);

struct Lent<'a, T> {
    home: &'a Home<T>,
    thing: Option<T>,
}

impl<T> Home<T> {
    fn of(thing: T) -> Self {
        Self(RefCell::new(Some(thing)))
    }

    fn lend(&self) -> Lent<'_, T> {
        Lent { home: self, thing: Some(self.0.take().expect("it is at home")) }
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("lent")
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("lent")
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        self.home.0.replace(self.thing.take());
    }
}

#[track_caller]
fn nothing_lives() {
    let tree = bowline::tree();
    assert_eq!((tree.tasks, tree.blocking, tree.foreign_tasks), (0, 0, Some(0)), "{tree}");
}

/// A time that passes only when everybody waits: a task that was left behind is still there when it is looked for.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn bump(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

/// One row per test: the functions it cuts, by module, and the cut itself.
macro_rules! rows {
    ($($(#[$attribute:meta])* $test:ident: $($function:literal),+ => $body:block)*) => {
        pub(crate) const TABLE: &[(&str, &[&str])] = &[$((stringify!($test), &[$($function),+])),*];
        $(
            $(#[$attribute])*
            #[bowline::test(start_paused = true, allow_adoption, schedules = 20)]
            async fn $test() -> Result<(), Error> $body
        )*
    };
}

// The files of the parts come here, below the macro they use.
mod breaker;
mod calls;
mod cpu;
mod leases;
mod pipeline;
mod pool;
mod schedule;
mod supervise;

rows! {
    // ---- owners: what they own is gone, destructors included

    a_scope_and_the_handle_of_its_task: "scope::scope", "handle::Handle" => {
        let ledger = Ledger::default();
        let make = || scope("owner", async |s| {
            let (inside, task) = (ledger.one(), ledger.one());
            let task = s.spawn("task", async move {
                a_while().await;
                drop(task);
                Ok::<_, Error>(7)
            });
            assert_eq!(task.await?, 7);
            drop(inside);
            yield_now(1).await;
            Ok(())
        });
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    a_group: "group::group" => {
        let ledger = Ledger::default();
        let make = || group("owner", CollectAll, async |g| {
            for _ in 0..3 {
                let task = ledger.one();
                g.spawn("task", async move {
                    a_while().await;
                    Ok::<_, Error>(task)
                });
            }
            yield_now(1).await;
        });
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    room_in_a_limited_group: "permit::Group::reserve" => {
        let ledger = Ledger::default();
        let make = || group("owner", Discard.at_most(1), async |g| {
            for _ in 0..3 {
                let room = g.reserve().await?;
                let task = ledger.one();
                room.spawn("task", async move {
                    a_while().await;
                    drop(task);
                    Ok::<_, Error>(())
                });
            }
            drop(g.reserve().await?); // the place of whoever has gone is back
            Ok(())
        });
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    fan_outs: "each::map", "each::for_each" => {
        let ledger = Ledger::default();
        let make = || async {
            let tokens = (0..3).map(|_| ledger.one());
            let mapped = map("map", FailFast.at_most(2), tokens, |token| async move {
                a_while().await;
                Ok::<_, Error>(token)
            });
            drop(mapped.await);
            let tokens = stream::iter((0..3).map(|_| ledger.one()));
            let done = for_each("for each", FailFast.at_most(2), tokens, |token| async move {
                a_while().await;
                drop(token);
                Ok::<_, Error>(())
            });
            drop(done.await);
        };
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    attempts: "hedge::hedged" => {
        let ledger = Ledger::default();
        let make = || hedged("attempts", Duration::from_millis(5), 3, |attempt| {
            let token = ledger.one();
            async move {
                let _token = token;
                if attempt < 3 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Error>(())
            }
        });
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    // ---- pieces of a task

    limits_and_shields: "timeout::timeout", "timeout::deadline_at", "timeout::shielded" => {
        let ledger = Ledger::default();
        let make = || async {
            let token = || async { let _token = ledger.one(); yield_now(2).await; };
            let second = Duration::from_secs(1);
            timeout(second, token()).await.ok();
            deadline_at(tokio::time::Instant::now() + second, token()).await.ok();
            shielded(second, token()).await.ok();
            let late = async { let _token = ledger.one(); std::future::pending::<()>().await };
            timeout(second, late).await.ok();
        };
        everywhere(make, async || ledger.is_even()).await;
        Ok(())
    }

    a_future_in_anothers_context:
        "context::Context::run", "context::Context::cancelled", "ambient::cancelled",
        "ambient::until_cancelled" =>
    {
        let ledger = Ledger::default();
        let make = || scope("owner", async |s| {
            let context = Context::current();
            let ends = async {
                let _token = ledger.one();
                cancelled().await
            };
            let never = async {
                let _token = ledger.one();
                std::future::pending::<()>().await;
            };
            let cancels = async {
                yield_now(2).await;
                s.cancel("over");
            };
            let arms = (context.run(ends), context.cancelled(), until_cancelled(never), cancels);
            join_all(arms).await.0.ok();
            Ok::<_, Error>(())
        });
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    the_drain: "drain::draining", "drain::until_draining" => {
        let ledger = Ledger::default();
        let make = || async {
            let never = async {
                let _token = ledger.one();
                std::future::pending::<()>().await;
            };
            let begins = async {
                yield_now(2).await;
                bowline::shut_down("over");
            };
            join_all((draining(), until_draining(never), begins)).await;
        };
        let polls = cancel_everywhere(make, async |_, _| { ledger.is_even(); nothing_lives(); });
        assert!(polls.await > 1);
        Ok(())
    }

    values_and_sleeps: "value::with_value", "sleep::sleep", "sleep::sleep_until" => {
        let ledger = Ledger::default();
        let make = || with_value(ledger.one(), async {
            let _token = ledger.one();
            sleep(Duration::from_millis(5)).await?;
            sleep_until(tokio::time::Instant::now() + Duration::from_millis(5)).await
        });
        everywhere(make, async || ledger.is_even()).await;
        Ok(())
    }

    #[cfg(feature = "tokio-util")]
    a_token_of_tokio_util: "token::with_token" => {
        let ledger = Ledger::default();
        let make = || async {
            let token = tokio_util::sync::CancellationToken::new();
            let never = async {
                let _token = ledger.one();
                std::future::pending::<()>().await;
            };
            let cancels = async {
                yield_now(2).await;
                token.cancel();
            };
            join(bowline::with_token(token.clone(), never), cancels).await.0.ok();
        };
        everywhere(make, async || ledger.is_even()).await;
        Ok(())
    }

    a_member_of_a_drain_phase: "drain::DrainPhase::run" => {
        let ledger = Ledger::default();
        let make = || async {
            let token = ledger.one();
            let member = drain_phase("work").run(async move {
                yield_now(2).await;
                drop(token);
                Ok::<_, Error>(())
            });
            member.await.ok();
        };
        everywhere(make, async || { ledger.is_even(); nothing_lives(); }).await;
        Ok(())
    }

    combinators:
        "join::join", "join::join_all", "join::try_join",
        "join::try_join_all", "race::race", "race::race_all" =>
    {
        let ledger = Ledger::default();
        let make = || async {
            let after = |turns| { let token = ledger.one(); async move { yield_now(turns).await; token } };
            let ok = |turns| { let arm = after(turns); async move { Ok::<_, Error>(arm.await) } };
            let never = || after(usize::MAX);
            drop(join(after(1), after(2)).await);
            drop(join_all([after(3), after(1)]).await);
            drop(try_join(ok(1), ok(2)).await);
            drop(try_join_all([ok(2), ok(1)]).await);
            drop(race(never(), after(2)).await);
            drop(race_all((never(), after(2), never())).await);
        };
        everywhere(make, async || ledger.is_even()).await;
        Ok(())
    }

    several_streams_as_one: "merge::Merged::next" => {
        let seen = RefCell::new(Vec::new());
        let slow = |from: u32| Box::pin(stream::unfold(from, |at| async move {
            yield_now(1).await;
            Some((at, at + 1))
        }));
        let merged = Home::of(merge_all([slow(0), slow(1_000)]));
        let make = || async {
            let mut merged = merged.lend();
            for _ in 0..3 {
                if let Ok(item) = merged.next().await {
                    seen.borrow_mut().push(item.expect("they have no end"));
                }
            }
        };
        // Nothing is missing between two that were seen of the same stream. (It lives on, with its streams and its waker.)
        cut(make, async || {
            for first in [0, 1_000] {
                let seen = seen.borrow();
                let of_one = seen.iter().copied().filter(|item| item / 1_000 == first / 1_000);
                let of_one: Vec<_> = of_one.collect();
                assert!(of_one.iter().copied().eq((first..).take(of_one.len())), "{of_one:?}");
            }
        })
        .await;
        Ok(())
    }

    // ---- queues: sent = received + dropped + abandoned + queued, and room is room

    sending: "sender::send", "sender::reserve", "sender::send_urgent" => {
        scope("world", async |s| {
            let ledger = Ledger::default();
            let (tx, rx) = s.queue("items", Bound::items(1).and_urgent(1), Overflow::Block);
            let sent = Cell::new(false);
            let make = || async {
                tx.try_send(ledger.one()).ok();
                tx.try_send_urgent(ledger.one()).ok();
                let sends = async {
                    // An item that was not accepted goes with the future, as documented.
                    drop(tx.send_urgent(ledger.one()).await);
                    drop(tx.send(ledger.one()).await);
                    if let Ok(room) = tx.reserve().await {
                        room.send(ledger.one()).ok();
                    }
                    sent.set(true);
                };
                sent.set(false);
                let makes_room = async {
                    while !sent.get() {
                        yield_now(2).await;
                        rx.try_recv().ok();
                    }
                };
                join(sends, makes_room).await;
            };
            everywhere(make, async || {
                while rx.try_recv().is_ok() {}
                let stats = tx.stats();
                assert_eq!(stats.sent, stats.received, "{stats:?}");
                assert_eq!((stats.waiting_senders, stats.waiting_receivers, stats.depth_items), (0, 0, 0));
                assert!(tx.try_reserve().is_ok(), "a place was not given back");
                assert!(tx.try_send_urgent(ledger.one()).is_ok(), "an urgent place was not given back");
                rx.try_recv().ok();
                ledger.is_even();
            })
            .await;
            Ok(())
        })
        .await
    }

    the_news_that_no_receiver_is_left: "sender::closed" => {
        scope("world", async |s| {
            let (told, left) = (RefCell::new(None), RefCell::new(None));
            let make = || async {
                let (tx, rx) = s.queue::<()>("items", Bound::items(1), Overflow::Block);
                left.replace(Some(rx));
                told.replace(Some(tx.clone()));
                let goes = async {
                    yield_now(2).await;
                    left.take();
                };
                join(tx.closed(), goes).await.0.ok();
            };
            everywhere(make, async || {
                let told = told.borrow();
                assert_eq!(told.as_ref().map(|tx| tx.is_closed()), Some(left.borrow().is_none()));
            })
            .await;
            Ok(())
        })
        .await
    }

    named_sources_of_one_queue: "merge::send" => {
        scope("world", async |s| {
            let ledger = Ledger::default();
            let (sources, rx) = s.cx().merge("readings", Bound::items(1), Overflow::Block);
            let (left, right) = (sources.source("left"), sources.source("right"));
            let sent = Cell::new(false);
            let make = || async {
                for source in [&left, &right] {
                    source.try_send(ledger.one()).ok();
                }
                let sends = async {
                    drop(join(left.send(ledger.one()), right.send(ledger.one())).await);
                    sent.set(true);
                };
                sent.set(false);
                let makes_room = async {
                    while !sent.get() {
                        yield_now(2).await;
                        rx.try_recv().ok();
                    }
                };
                join(sends, makes_room).await;
            };
            everywhere(make, async || {
                while rx.try_recv().is_ok() {}
                let stats = rx.stats();
                assert_eq!(stats.sent, stats.received, "{stats:?}");
                assert_eq!((stats.waiting_senders, stats.waiting_receivers, stats.depth_items), (0, 0, 0));
                for source in [&left, &right] {
                    assert!(source.try_send(ledger.one()).is_ok(), "a place was not given back");
                    rx.try_recv().ok();
                }
                ledger.is_even();
            })
            .await;
            Ok(())
        })
        .await
    }

    receiving: "receiver::recv", "receiver::recv_many" => {
        scope("world", async |s| {
            let got = Cell::new(0);
            let (tx, rx) = s.queue("items", Bound::items(4), Overflow::Block);
            let make = || async {
                let receives = async {
                    if let Ok(Some(())) = rx.recv().await {
                        bump(&got);
                    }
                    let mut many = Vec::new();
                    rx.recv_many(&mut many, 4).await.ok();
                    got.set(got.get() + many.len());
                };
                let sends = async {
                    for _ in 0..2 {
                        yield_now(2).await;
                        tx.try_send(()).ok();
                    }
                };
                join(receives, sends).await;
            };
            everywhere(make, async || {
                while rx.try_recv().is_ok() {
                    bump(&got);
                }
                let stats = tx.stats();
                assert_eq!((stats.sent, stats.received), (got.get() as u64, got.get() as u64), "{stats:?}");
                assert_eq!((stats.waiting_senders, stats.waiting_receivers), (0, 0));
            })
            .await;
            Ok(())
        })
        .await
    }

    delivering: "receiver::Rx::recv_delivery", "receiver::FreeRx::recv_delivery" => {
        scope("world", async |s| {
            let handled = Cell::new(0);
            let (tx, rx) = s.queue::<()>("items", Bound::items(4), Overflow::Block);
            let free = rx.clone().free();
            let make = || async {
                let handles = async {
                    if let Ok(Some(item)) = rx.recv_delivery().await {
                        yield_now(2).await; // cut here, it is received again
                        item.ack();
                        bump(&handled);
                    }
                    if let Ok(Some(item)) = free.recv_delivery().await {
                        yield_now(2).await;
                        item.ack();
                        bump(&handled);
                    }
                };
                let sends = async {
                    for _ in 0..2 {
                        yield_now(2).await;
                        tx.try_send(()).ok();
                    }
                };
                join(handles, sends).await;
            };
            everywhere(make, async || {
                while rx.try_recv().is_ok() {
                    bump(&handled);
                }
                let (stats, handled) = (tx.stats(), handled.get() as u64);
                assert_eq!((stats.sent, stats.received), (handled, handled), "{stats:?}");
                assert_eq!((stats.in_flight, stats.waiting_receivers, stats.depth_items), (0, 0, 0));
            })
            .await;
            assert!(tx.stats().redelivered > 0);
            Ok(())
        })
        .await
    }

    // ---- locks and signals: whoever comes next finds them free

    a_mutex: "mutex::Mutex::lock", "mutex::Mutex::lock_in", "mutex::Mutex::with" => {
        scope("world", async |s| {
            let (mutex, done) = (Mutex::new("count", 0), Cell::new(0));
            let make = || async {
                let held = mutex.try_lock().expect("free");
                let releases = async move {
                    yield_now(2).await;
                    drop(held);
                };
                let locks = async {
                    *mutex.lock().await? += 1;
                    bump(&done);
                    Ok::<_, Error>(())
                };
                let locks_in = async {
                    *mutex.lock_in(s.cx()).await? += 1;
                    bump(&done);
                    yield_now(1).await;
                    Ok::<_, Error>(())
                };
                let with = async { Ok::<_, Error>(mutex.with(|count| { *count += 1; bump(&done); }).await?) };
                drop(join_all((releases, locks, locks_in, with)).await);
            };
            everywhere(make, async || {
                assert_eq!(mutex.try_lock().as_deref(), Some(&done.get()));
                let stats = mutex.stats();
                assert_eq!((stats.waiters.len(), stats.holders.len()), (0, 0), "{stats:?}");
            })
            .await;
            Ok(())
        })
        .await
    }

    a_rwlock:
        "rwlock::RwLock::read", "rwlock::RwLock::read_in", "rwlock::RwLock::with_read",
        "rwlock::RwLock::write", "rwlock::RwLock::write_in", "rwlock::RwLock::with_write" =>
    {
        scope("world", async |s| {
            let (lock, done) = (RwLock::new("count", 0), Cell::new(0));
            let make = || async {
                let held = lock.try_write().expect("free");
                let releases = async move {
                    yield_now(2).await;
                    drop(held);
                };
                let reads = async {
                    drop(lock.read().await);
                    drop(lock.read_in(s.cx()).await);
                    lock.with_read(|_| ()).await.ok();
                };
                let writes = async {
                    if let Ok(mut count) = lock.write().await {
                        *count += 1;
                        bump(&done);
                    }
                    if let Ok(mut count) = lock.write_in(s.cx()).await {
                        *count += 1;
                        bump(&done);
                        yield_now(1).await;
                    }
                    lock.with_write(|count| { *count += 1; bump(&done); }).await.ok();
                };
                join_all((releases, reads, writes)).await;
            };
            everywhere(make, async || {
                assert_eq!(lock.try_write().as_deref(), Some(&done.get()));
                let stats = lock.stats();
                assert_eq!((stats.waiters.len(), stats.holders.len()), (0, 0), "{stats:?}");
            })
            .await;
            Ok(())
        })
        .await
    }

    a_semaphore:
        "semaphore::Semaphore::acquire", "semaphore::Semaphore::acquire_in",
        "semaphore::Semaphore::acquire_owned" =>
    {
        scope("world", async |s| {
            let semaphore = Semaphore::new("places", 3);
            let make = || async {
                let held = semaphore.try_acquire(3).expect("free");
                let releases = async move {
                    yield_now(2).await;
                    drop(held);
                };
                let one = async { drop(semaphore.acquire(1).await); };
                let two = async {
                    let _two = semaphore.acquire_in(s.cx(), 2).await;
                    yield_now(1).await;
                };
                let all = async { drop(semaphore.acquire_owned(s.cx(), 3).await); };
                join_all((releases, one, two, all)).await;
            };
            everywhere(make, async || {
                assert_eq!(semaphore.free_permits(), 3);
                let stats = semaphore.stats();
                assert_eq!((stats.waiters.len(), stats.holders.len()), (0, 0), "{stats:?}");
            })
            .await;
            Ok(())
        })
        .await
    }

    a_notification: "notify::Notify::notified" => {
        scope("world", async |s| {
            let (notifier, notify) = s.cx().notify("news");
            let (called, heard) = (Cell::new(0), Cell::new(0));
            let make = || async {
                let waits = async {
                    if notify.notified().await.is_ok() {
                        bump(&heard);
                    }
                };
                let calls = async {
                    yield_now(2).await;
                    notifier.notify_one();
                    bump(&called);
                };
                join(waits, calls).await;
            };
            everywhere(make, async || {
                // One that nobody heard is kept for the next who waits.
                if matches!(notify.stats().state, ResourceState::Fired) {
                    assert_eq!(notify.notified().await, Ok(()));
                    bump(&heard);
                }
                assert_eq!(called.get(), heard.get());
                assert_eq!(notify.stats().waiters.len(), 0);
            })
            .await;
            Ok(())
        })
        .await
    }

    a_latch: "latch::Latch::wait" => {
        scope("world", async |s| {
            let latches = RefCell::new(Vec::new());
            let make = || async {
                let (count, latch) = s.cx().latch("start");
                let latch = Arc::new(latch);
                latches.borrow_mut().push(Arc::clone(&latch));
                let opens = async move {
                    yield_now(2).await;
                    drop(count);
                };
                join(opens, async move { latch.wait().await.ok() }).await;
            };
            everywhere(make, async || {
                for latch in latches.take() {
                    assert!(latch.is_open(), "its only count is gone, whoever waited");
                    assert_eq!(latch.stats().waiters.len(), 0);
                    assert_eq!(latch.wait().await, Ok(()));
                }
            })
            .await;
            Ok(())
        })
        .await
    }

    a_barrier: "barrier::wait" => {
        scope("world", async |s| {
            let mut seats = s.cx().barrier("rounds", 2).into_iter();
            let (left, right) = (Home::of(seats.next().unwrap()), Home::of(seats.next().unwrap()));
            let make = || async {
                let (mut left, mut right) = (left.lend(), right.lend());
                let arrives = async { left.wait().await.ok(); };
                let arrives_later = async {
                    yield_now(2).await;
                    right.wait().await.ok();
                };
                join(arrives, arrives_later).await;
            };
            everywhere(make, async || {
                // Who was cut has not arrived, and the seats are good for a whole round.
                let (mut left, mut right) = (left.lend(), right.lend());
                assert_eq!(left.stats().waiters.len(), 0);
                let (left, right) = join(left.wait(), right.wait()).await;
                assert!(left.is_ok() && right.is_ok(), "{left:?}, {right:?}");
            })
            .await;
            Ok(())
        })
        .await
    }

    // ---- the other channels

    an_answer: "oneshot::Answer::recv", "oneshot::Reply::closed" => {
        scope("world", async |s| {
            let (ledger, sent) = (Ledger::default(), Cell::new(0));
            let (got, waiting) = (Cell::new(0), RefCell::new(None));
            let make = || async {
                let (reply, answer) = s.cx().oneshot("reply");
                waiting.replace(None);
                let home = Home::of(answer);
                let receives = async {
                    let received = home.lend().recv().await;
                    if received.is_ok() {
                        bump(&got);
                    }
                };
                let sends = async {
                    yield_now(2).await;
                    if reply.send(ledger.one()).is_ok() {
                        bump(&sent);
                    }
                };
                join(receives, sends).await;
                // The asker goes first: whoever works on the answer learns it.
                let (mut reply, answer) = s.cx().oneshot::<()>("reply");
                let goes = async {
                    yield_now(2).await;
                    drop(answer);
                };
                join(reply.closed(), goes).await.0.ok();
                waiting.replace(Some(reply));
            };
            everywhere(make, async || {
                // Here the answer goes with its receiver, which is part of what was cut.
                assert!(got.get() <= sent.get());
                ledger.is_even();
                assert!(waiting.take().is_none_or(|reply| reply.is_closed()));
            })
            .await;
            Ok(())
        })
        .await
    }

    an_answer_kept_by_its_receiver: "oneshot::Answer::recv" => {
        scope("world", async |s| {
            let asked = RefCell::new(None);
            let got = Cell::new(false);
            let make = || async {
                let (reply, answer) = s.cx().oneshot("reply");
                asked.replace(Some(Rc::new(Home::of(answer))));
                let home = asked.borrow().clone().unwrap();
                got.set(false);
                let receives = async { got.set(home.lend().recv().await == Ok(7)); };
                join(receives, async { reply.send(7).ok() }).await;
            };
            everywhere(make, async || {
                let mut answer = asked.borrow().as_ref().unwrap().0.take().unwrap();
                assert!(got.get() != (answer.try_recv() == Ok(7)), "in one place, and not lost");
            })
            .await;
            Ok(())
        })
        .await
    }

    the_latest_value: "watch::WatchRx::changed", "watch::WatchRx::wait_for" => {
        scope("world", async |s| {
            let (tx, rx) = s.cx().watch("setting", 0);
            let (rx, seen) = (Home::of(rx), Cell::new(0));
            let make = || async {
                let mut rx = rx.lend();
                let next = tx.cloned() + 1;
                let watches = async {
                    if rx.changed().await.is_ok() {
                        seen.set(rx.cloned());
                    }
                    if let Ok(value) = rx.wait_for(|value| *value == next + 1).await {
                        seen.set(*value);
                    }
                };
                let changes = async {
                    for value in [next, next + 1] {
                        yield_now(2).await;
                        tx.send(value);
                    }
                };
                join(watches, changes).await;
            };
            everywhere(make, async || {
                let mut rx = rx.lend();
                // What was not seen is still news.
                if seen.get() < tx.cloned() {
                    assert_eq!(rx.changed().await, Ok(()));
                    seen.set(rx.cloned());
                }
                assert_eq!((seen.get(), rx.has_changed()), (tx.cloned(), false));
                assert_eq!(tx.stats().waiting_receivers, 0);
            })
            .await;
            Ok(())
        })
        .await
    }

    every_item_to_everybody:
        "broadcast::BroadcastRx::recv", "broadcast::BroadcastRx::recv_numbered" =>
    {
        scope("world", async |s| {
            let (tx, rx) = s.cx().broadcast("events", 8);
            let (rx, seen, sent) = (Home::of(rx), RefCell::new(Vec::new()), Cell::new(0));
            let make = || async {
                let mut rx = rx.lend();
                let receives = async {
                    if let Ok(Some(item)) = rx.recv().await {
                        seen.borrow_mut().push(item);
                    }
                    if let Ok(Some((_, item))) = rx.recv_numbered().await {
                        seen.borrow_mut().push(item);
                    }
                };
                let sends = async {
                    for _ in 0..2 {
                        yield_now(2).await;
                        tx.send(sent.get());
                        bump(&sent);
                    }
                };
                join(receives, sends).await;
            };
            everywhere(make, async || {
                let mut rx = rx.lend();
                while let Ok(Some(item)) = rx.try_recv() {
                    seen.borrow_mut().push(item);
                }
                assert!(seen.borrow().iter().copied().eq(0..sent.get()), "{:?}", seen.borrow());
                assert_eq!(tx.stats().waiting_receivers, 0);
            })
            .await;
            Ok(())
        })
        .await
    }

    a_hand_over:
        "rendezvous::RendezvousTx::send", "rendezvous::RendezvousTx::send_from",
        "rendezvous::RendezvousRx::recv" =>
    {
        scope("world", async |s| {
            let (tx, rx) = s.cx().rendezvous("counter");
            let (ledger, slot) = (Ledger::default(), Home::of(None));
            let (offered, got) = (Cell::new(0), Cell::new(0));
            for sender_first in [true, false] {
                let make = || async {
                    let mut slot = slot.lend();
                    *slot = Some(ledger.one());
                    bump(&offered);
                    let sends = async {
                        yield_now(if sender_first { 0 } else { 2 }).await;
                        tx.send(ledger.one()).await.ok();
                        tx.send_from(&mut slot).await.ok();
                    };
                    let receives = async {
                        yield_now(if sender_first { 2 } else { 0 }).await;
                        drop(rx.recv().await);
                        if let Ok(Some(_item)) = rx.recv().await {
                            bump(&got);
                        }
                    };
                    join(sends, receives).await;
                };
                everywhere(make, async || {
                    assert!(rx.try_recv().is_err(), "an offer stands that nobody makes");
                    // What `send_from` was to hand over is in its slot, or it was received.
                    if slot.lend().take().is_some() {
                        bump(&got);
                    }
                    assert_eq!(offered.get(), got.get());
                    ledger.is_even();
                    let stats = tx.stats();
                    assert_eq!((stats.waiting_senders, stats.waiting_receivers), (0, 0), "{stats:?}");
                })
                .await;
            }
            Ok(())
        })
        .await
    }
}

/// Every public function of the crate that returns a future, as `module::type::name`; functions and types without one
/// around them, or with one that a macro fills in, as `module::name`.
fn async_functions(folder: &Path, exported: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if name(&path) != "testing" {
                async_functions(&path, exported, found);
            }
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let module = if name(&path) == "mod" { name(folder) } else { name(&path) };
        let mut around = None;
        let mut at = 0;
        for line in source.split_inclusive('\n') {
            let rest = &source[at..];
            at += line.len();
            if line.trim_start().starts_with("impl") {
                around = type_of_impl(line);
                if let Some(future) = around.filter(|_| line.contains("Future for ")) {
                    if exported.split(|c: char| !c.is_alphanumeric()).any(|word| word == future) {
                        found.push(format!("{module}::{future}"));
                    }
                }
            }
            let Some(item) = rest.trim_start_matches(' ').strip_prefix("pub ") else { continue };
            let signature = item.split('{').next().unwrap_or(item);
            let returns_a_future = signature.contains("-> impl Future<");
            let function = match signature.strip_prefix("async fn ") {
                Some(function) => function,
                None => match signature.strip_prefix("fn ").filter(|_| returns_a_future) {
                    Some(function) => function,
                    None => continue,
                },
            };
            let name = &function[..function.find(['(', '<']).unwrap()];
            found.push(match around.filter(|_| line.starts_with(' ')) {
                Some(around) => format!("{module}::{around}::{name}"),
                None => format!("{module}::{name}"),
            });
        }
    }
}

/// The type an `impl …` line is about.
fn type_of_impl(line: &str) -> Option<&str> {
    let mut rest = line.trim_start().strip_prefix("impl")?;
    if rest.starts_with('<') {
        let mut depth = 0;
        let end = rest.find(|c| {
            depth += i32::from(c == '<') - i32::from(c == '>');
            depth == 0
        })?;
        rest = &rest[end + 1..];
    }
    let name = rest.split(" for ").last()?.trim();
    let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
    Some(&name[..end]).filter(|name| !name.is_empty())
}

#[test]
fn every_public_async_function_is_in_the_table() {
    let mut written = Vec::new();
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let contents = std::fs::read_to_string(sources.join("lib.rs")).unwrap();
    let exported: String = contents.lines().filter(|line| !line.starts_with("//")).collect();
    async_functions(sources, &exported, &mut written);
    written.sort();
    // One table per file here.
    let tables: &[&[(&str, &[&str])]] = &[
        pipeline::TABLE,
        calls::TABLE,
        TABLE,
        breaker::TABLE,
        cpu::TABLE,
        schedule::TABLE,
        pool::TABLE,
        leases::TABLE,
        supervise::TABLE,
    ];
    let cut: BTreeSet<_> = tables
        .iter()
        .flat_map(|table| *table)
        .flat_map(|(_, functions)| *functions)
        .map(|name| (*name).to_owned())
        .collect();
    let missing: Vec<_> = written.iter().filter(|name| !cut.contains(*name)).collect();
    assert!(missing.is_empty(), "no row of the table cuts {missing:#?}");
    let gone: Vec<_> = cut.iter().filter(|name| !written.contains(name)).collect();
    assert!(gone.is_empty(), "the table names what is not there: {gone:#?}");
    assert!(written.len() > 40, "the sources are not read as they should be: {written:#?}");
}
