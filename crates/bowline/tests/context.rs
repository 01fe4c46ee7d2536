//! The ambient context: causes and their chain, values, handles that are looked at from elsewhere, deadlines.

mod support;

use std::error::Error as _;
use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Cause, Context, Either, Overflow, deadline_at, join, join_all, race, scope, shielded,
    timeout, until_cancelled, until_draining, value, with_value,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, queue, yield_now};
use tokio::sync::oneshot;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

// ---- causes

#[bowline::test(start_paused = true)]
async fn a_cancel_knows_where_it_came_from() {
    let ended = scope("outer", async |s| {
        s.spawn("load", async {
            scope("inner", async |_| Err::<(), _>(bowline::cancelled().await)).await // a scope further down, the same answer
        });
        yield_now(2).await;
        s.cancel("enough");
        Ok::<_, Cancelled>(())
    });
    let why: Cancelled = ended.await.unwrap_err();
    let origin = why.origin().unwrap();
    assert_eq!((why.cause(), origin.kind(), origin.name()), (&Cause::Requested("enough"), "scope", "outer"));
    assert!(origin.place().file().ends_with("context.rs"));
    assert_eq!(why.to_string(), "cancelled: enough");
    assert!(format!("{why:#}").starts_with("cancelled: enough ← scope `outer` ("), "{why:#}");
}

#[bowline::test(start_paused = true)]
async fn the_chain_of_causes_leads_from_a_sibling_s_failure_to_the_deadline_it_missed() {
    let ended = scope("page", async |s| {
        s.spawn("load", async {
            timeout(SECOND, pending::<()>()).await // the first to fail
        });
        s.spawn("waits", async { Err::<(), _>(bowline::cancelled().await) });
        let seen = bowline::cancelled().await;
        assert_eq!(seen.cause(), &Cause::SiblingFailed("load"));
        let text = format!("{seen:#}");
        let shape = ["cancelled: task `load` failed ← scope `page` (", ") ← deadline exceeded ← timeout ("];
        assert!(text.starts_with(shape[0]) && text.contains(shape[1]), "{text}");
        // The same as errors, for a logger that prints sources.
        let page = seen.source().unwrap();
        let late = page.source().unwrap();
        assert_eq!(late.to_string(), "cancelled: deadline exceeded");
        assert!(late.source().unwrap().to_string().starts_with("timeout ("));
        assert!(late.source().unwrap().source().is_none());
        Ok::<_, Cancelled>(())
    });
    assert!(ended.await.unwrap_err().is_deadline(), "the scope itself has the first error");
}

#[bowline::test]
async fn a_task_cancelled_alone_is_the_origin_of_its_cancel() {
    scope("outer", async |s| {
        let task = s.spawn("worker", async {
            let inner: Cancelled =
                scope("inner", async |_| Err::<(), _>(bowline::cancelled().await)).await.unwrap_err();
            Err::<(), _>(inner)
        });
        yield_now(2).await;
        task.cancel("alone");
        let why = task.await.unwrap_err();
        assert!(format!("{why:#}").starts_with("cancelled: alone ← task `worker` ("), "{why:#}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_refusal_has_no_origin_and_equal_causes_are_equal() {
    let (tx, rx) = queue::<u32>(Bound::items(1), Overflow::Reject).await;
    drop(rx);
    let closed = Cancelled::from(tx.try_send(1).unwrap_err());
    assert!(closed.origin().is_none() && closed.source().is_none());
    assert_eq!(format!("{closed:#}"), closed.to_string());
    let cut = || async {
        let ended = scope("cut", async |s| {
            s.cancel("same");
            Err::<(), _>(bowline::cancelled().await)
        });
        ended.await.unwrap_err()
    };
    assert_eq!(cut().await, cut().await);
    assert_ne!(cut().await, closed);
}

// ---- handles

/// Polls to the end on this thread with nothing of tokio around.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a foreign executor is what this is about")]
#[bowline::test(worker_threads = 2)]
async fn a_future_that_runs_in_a_context_is_cancelled_on_a_foreign_executor() {
    for _ in 0..100 {
        let (began, begun) = oneshot::channel();
        let context = std::cell::Cell::new(None);
        let ended = scope("outer", async |s| {
            let here = Context::current();
            let thread = std::thread::spawn(move || {
                let inside = here.run(async {
                    began.send(()).unwrap();
                    let why = bowline::cancelled().await; // a wait of ours sees it
                    assert!(bowline::is_cancelled());
                    why
                });
                let deaf = here.run(pending::<()>()); // one that knows nothing is dropped
                block_on(join(inside, deaf))
            });
            begun.await.unwrap();
            context.set(Some(thread));
            s.cancel("enough");
            Err::<(), _>(bowline::cancelled().await)
        });
        let why = ended.await.unwrap_err();
        let (inside, deaf) = context.take().unwrap().join().unwrap();
        // Both know why, also when they look after the scope has gone.
        assert_eq!((inside.unwrap_or_else(|why| why), deaf.unwrap_err()), (why.clone(), why));
    }
}

#[bowline::test(start_paused = true)]
async fn what_runs_in_a_context_elsewhere_is_woken_when_its_task_ends() {
    let (give, take) = oneshot::channel();
    let elsewhere = async {
        let context: Context = take.await.unwrap();
        let ran = context.run(pending::<()>()).await.unwrap_err();
        assert_eq!((ran.cause(), context.cancelled().await), (&Cause::ScopeClosed, ran.clone()));
    };
    let outer = async {
        let ended = scope("outer", async |s| {
            s.spawn("task", async {
                give.send(Context::current()).unwrap();
                yield_now(3).await;
                Ok(())
            });
            Ok::<_, Cancelled>(())
        });
        ended.await.unwrap();
    };
    // An arm of a list is polled only when it was woken itself.
    let arms: Vec<Pin<Box<dyn Future<Output = ()>>>> = vec![Box::pin(elsewhere), Box::pin(outer)];
    tokio::time::timeout(SECOND, join_all(arms)).await.expect("it was woken");
}

#[bowline::test]
async fn it_runs_in_an_unordered_set_and_moves_from_task_to_task() {
    scope("outer", async |s| {
        let context = Context::current();
        let mut moving = Box::pin(context.run(async {
            let why = bowline::cancelled().await;
            (why, Context::current())
        }));
        assert!(poll_once(&mut moving).await.is_pending());
        // A task cancelled by itself: its own context says so, the one that was brought along does not.
        let other = s.spawn("other", async move {
            let mut set = FuturesUnordered::from_iter([moving]);
            let first = match race(bowline::cancelled(), set.next()).await {
                Either::Left(why) => why,
                Either::Right(_) => unreachable!("the scope lives"),
            };
            assert_eq!(first.cause(), &Cause::Requested("only you"));
            let (second, _) = shielded(SECOND, set.next()).await?.unwrap()?;
            Err::<(), _>(second)
        });
        yield_now(3).await;
        other.cancel("only you");
        yield_now(3).await;
        s.cancel("everybody");
        // It was cancelled alone, and before the scope was: its answer is its handle's and fails nobody else.
        assert_eq!(other.await.unwrap_err().cause(), &Cause::Requested("everybody"));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_handle_sees_the_cancel_and_the_end_and_keeps_nothing_open() {
    let outside = Context::current();
    let (cut, ended) = scope("outer", async |s| {
        let (give, take) = oneshot::channel();
        let task = s.spawn("task", async {
            let _ = give.send(Context::current());
            Err::<(), _>(bowline::cancelled().await)
        });
        let context = take.await.unwrap();
        let looked_before = context.clone();
        assert!(!looked_before.is_cancelled() && looked_before.check().is_ok());
        task.cancel("enough");
        for context in [&looked_before, &context] {
            assert!(context.is_cancelled());
            assert_eq!(context.check().unwrap_err().cause(), &Cause::Requested("enough"));
        }
        let _ = task.await;
        assert!(!Context::current().is_cancelled());
        Ok::<_, Cancelled>((context, Context::current()))
    })
    .await
    .unwrap();
    assert_eq!(
        cut.check().unwrap_err().cause(),
        &Cause::Requested("enough"),
        "it knows why, also afterwards"
    );
    for context in [ended.clone(), ended] {
        assert!(context.is_cancelled());
        assert_eq!(context.check().unwrap_err().cause(), &Cause::ScopeClosed);
        assert_eq!((context.deadline(), context.value::<u32>()), (None, None));
    }
    assert!(!outside.is_cancelled());
}

#[bowline::test]
#[expect(clippy::disallowed_methods, reason = "a thread without a context")]
async fn without_a_context_nothing_is_ever_cancelled() {
    let thread = std::thread::spawn(|| {
        let none = Context::current();
        assert!(!none.is_cancelled() && none.check().is_ok() && !bowline::is_cancelled());
        assert_eq!((none.deadline(), none.time_left(), none.value::<u32>()), (None, None, None));
        block_on(none.run(async { 7 }))
    });
    assert_eq!(thread.join().unwrap(), Ok(7));
}

#[bowline::test]
async fn a_dropped_run_forgets_whom_to_wake_and_drops_its_future_in_its_context() {
    struct LooksAround(Arc<AtomicUsize>);
    impl Drop for LooksAround {
        fn drop(&mut self) {
            self.0.store(value::<usize>().map_or(0, |value| *value), Ordering::Relaxed);
        }
    }
    let seen = Arc::new(AtomicUsize::new(0));
    let (give, take) = oneshot::channel();
    with_value(7_usize, async {
        give.send(Context::current()).unwrap();
        let context = take.await.unwrap();
        let make = || {
            let held = LooksAround(Arc::clone(&seen));
            context.run(async move {
                let _held = held;
                yield_now(3).await;
            })
        };
        let polls = cancel_everywhere(make, async |_, ran| {
            assert!(ran.is_none_or(|ran| ran.is_ok()));
            assert_eq!(seen.swap(0, Ordering::Relaxed), 7);
        });
        assert_eq!(polls.await, 4);

        let waker = Arc::new(Counted);
        let parked = |context: &Context| {
            let mut running = Box::pin(context.run(pending::<()>()));
            let waker = Waker::from(Arc::clone(&waker));
            assert!(running.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
            running
        };
        let two = (parked(&context), parked(&context));
        assert_eq!(Arc::strong_count(&waker), 3);
        drop(two);
        assert_eq!(Arc::strong_count(&waker), 1);
    })
    .await;
}

struct Counted;

impl Wake for Counted {
    fn wake(self: Arc<Self>) {}
}

// ---- values

#[bowline::test]
async fn a_value_is_seen_by_everything_below_and_by_nothing_beside() {
    #[derive(Debug, PartialEq)]
    struct Tenant(&'static str);
    let tenant = || value::<Tenant>().map(|tenant| tenant.0);

    scope("outer", async |outer| {
        let handle = outer.handle();
        let inside = with_value(Tenant("a"), async {
            assert_eq!((tenant(), value::<u32>()), (Some("a"), None));
            let beside = handle.spawn("beside", async move { Ok(value::<Tenant>().is_none()) }).unwrap();
            scope("inner", async |s| {
                let deep = s.spawn("deep", async {
                    with_value(3_u32, async {
                        assert_eq!(value::<u32>().as_deref(), Some(&3));
                        assert_eq!(
                            value::<Tenant>().unwrap().0,
                            "a",
                            "another type in between hides nothing"
                        );
                        with_value(Tenant("b"), async { value::<Tenant>().unwrap().0 }).await
                    })
                    .await;
                    let shielded = shielded(SECOND, async { value::<Tenant>().unwrap().0 });
                    Ok((shielded.await?, value::<u32>().is_none(), Context::current()))
                });
                let (seen, u32_is_gone, context) = deep.await?;
                assert_eq!((seen, u32_is_gone), ("a", true));
                assert_eq!(context.value::<Tenant>(), None, "its task has ended");
                let blocking = s.spawn_blocking("blocking", || Ok(value::<Tenant>().unwrap().0));
                assert_eq!(blocking.await?, "a");
                beside.await
            })
            .await
        });
        assert!(inside.await?, "a task of the outer scope does not see it");
        assert_eq!(tenant(), None);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_value_goes_with_its_future_and_is_never_dropped_by_a_look_at_the_tree() {
    let kept: Arc<()> = Arc::new(());
    let make = || {
        with_value(Arc::clone(&kept), async {
            yield_now(2).await;
            let seen: Arc<Arc<()>> = value().unwrap();
            let _ = bowline::tree();
            yield_now(1).await;
            drop(seen);
        })
    };
    let polls = cancel_everywhere(make, async |_, _| assert_eq!(Arc::strong_count(&kept), 1));
    assert_eq!(polls.await, 4);
    let weak: Weak<()> = Arc::downgrade(&kept);
    let held = with_value(kept, async { value::<Arc<()>>().unwrap() }).await;
    assert_eq!(weak.strong_count(), 1);
    drop(held);
    assert_eq!(weak.strong_count(), 0);
}

#[bowline::test(start_paused = true)]
async fn with_a_value_a_cancelled_future_ends_as_it_would_without() {
    let make = || async {
        let with = with_value(1_u32, async {
            let wait = bowline::sleep(SECOND).await;
            (wait.is_err(), shielded(SECOND, yield_now(3)).await)
        });
        with.await
    };
    let polls = cancel_context_everywhere(make, async |polls, ended| match polls {
        1 => assert_eq!(ended, Some((true, Ok(()))), "it heard of the cancel and could tidy up"),
        _ => assert_eq!(ended, Some((false, Ok(())))),
    });
    assert!(polls.await > 2);
    // What knows nothing of contexts is dropped by the task around it, and the polls do not spin meanwhile.
    let polled = AtomicUsize::new(0);
    let deaf = scope("outer", async |s| {
        let deaf = with_value(
            1_u32,
            poll_fn(|_| {
                polled.fetch_add(1, Ordering::Relaxed);
                Poll::<()>::Pending
            }),
        );
        s.handle()
            .spawn("cancels", {
                let handle = s.handle();
                async move {
                    yield_now(2).await;
                    handle.cancel("enough");
                    Ok(())
                }
            })
            .unwrap();
        let (_, tidied) = join(deaf, shielded(SECOND, bowline::sleep(SECOND / 2))).await;
        tidied??;
        Ok::<_, Cancelled>(())
    });
    assert_eq!(deaf.await.unwrap_err().cause(), &Cause::Requested("enough"));
    assert!((2..6).contains(&polled.load(Ordering::Relaxed)), "{polled:?}");
}

// ---- waits

#[bowline::test(start_paused = true)]
async fn a_sleep_takes_its_time_and_ends_with_the_context() {
    let began = Instant::now();
    assert_eq!(
        join(bowline::sleep(SECOND), bowline::sleep_until(began + 2 * SECOND)).await,
        (Ok(()), Ok(()))
    );
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(bowline::sleep_until(began).await, Ok(()));
    let late = timeout(SECOND, async {
        let first = bowline::sleep(Duration::MAX).await.unwrap_err();
        (first, bowline::sleep_until(began).await.unwrap_err())
    });
    let (first, second) = late.await.unwrap();
    assert!(first.is_deadline() && second.is_deadline());
    assert_eq!(began.elapsed().as_secs(), 3);
    let make = || bowline::sleep(SECOND);
    cancel_context_everywhere(make, async |polls, slept| assert_eq!(slept.unwrap().is_err(), polls == 1))
        .await;
    assert_eq!(cancel_everywhere(make, async |_, _| {}).await, 2);
}

#[bowline::test(start_paused = true)]
async fn a_sleeping_task_is_shown_as_one() {
    let shown = timeout(SECOND, async {
        scope("outer", async |s| {
            s.spawn("naps", bowline::sleep(100 * SECOND));
            yield_now(2).await;
            let tree = bowline::tree().to_string();
            s.cancel("seen");
            assert!(tree.contains("sleeping for"), "{tree}");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert!(shown.await.unwrap().is_err());
}

#[bowline::test]
async fn until_cancelled_returns_where_a_foreign_await_would_be_dropped() {
    let make = || until_cancelled(yield_now(2));
    let polls = cancel_context_everywhere(make, async |polls, ended| {
        // What is ready in the same moment wins.
        assert_eq!(ended.expect("it ended by itself").is_err(), polls == 1);
    });
    assert_eq!(polls.await, 3);
    assert_eq!(until_cancelled(ready(7)).await, Ok(7));
    let dropped = cancel_everywhere(make, async |_, _| {}).await;
    assert_eq!(dropped, 3);
}

#[bowline::test]
async fn until_draining_takes_nothing_more_from_the_beginning_of_the_end_on() {
    let guard = Arc::new(());
    let held = Arc::clone(&guard);
    assert_eq!(until_draining(ready(7)).await, Some(7));
    let waits = parked(until_draining(async move {
        let _held = held;
        pending::<()>().await;
    }))
    .await;
    bowline::shut_down("test");
    assert_eq!(waits.await, None);
    assert_eq!(Arc::strong_count(&guard), 1);
    assert_eq!(until_draining(ready(7)).await, None);
}

// ---- deadlines

#[bowline::test(start_paused = true)]
async fn the_earliest_deadline_on_the_way_up_is_in_force() {
    let at = Instant::now() + 5 * SECOND;
    let seen = deadline_at(at, async {
        let longer = timeout(60 * SECOND, async { (bowline::deadline(), bowline::time_left()) }).await?;
        let shorter = timeout(SECOND, async { bowline::time_left() }).await?;
        let shielded = shielded(60 * SECOND, async { bowline::time_left() }).await?;
        Ok::<_, Cancelled>((longer, shorter, shielded, Context::current().time_left()))
    });
    let (longer, shorter, shielded, here) = seen.await.unwrap().unwrap();
    assert_eq!(longer, (Some(at), Some(5 * SECOND)));
    assert_eq!((shorter, shielded, here), (Some(SECOND), Some(60 * SECOND), Some(5 * SECOND)));
}

/// linkerd2#2681: what looked like a leak was requests without a time-out. Under one deadline all of them end with it.
#[bowline::test(start_paused = true)]
async fn linkerd_2681_requests_under_a_deadline_do_not_pile_up() {
    let answered = scope("server", async |s| {
        for _ in 0..100 {
            s.spawn("request", async { timeout(30 * SECOND, pending::<()>()).await.or(Ok(())) });
        }
        tokio::time::sleep(31 * SECOND).await;
        Ok::<_, Cancelled>(bowline::tree().tasks)
    });
    assert_eq!(answered.await, Ok(0));
}
