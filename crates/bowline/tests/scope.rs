//! Scopes: who owns what, who is told what, and when "gone" is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bowline::{Cancelled, Cause, Discard, Either, group, race, scope, shielded, timeout};

#[derive(Debug, PartialEq)]
enum Error {
    Own(&'static str),
    Cancelled(Cause),
}

impl From<Cancelled> for Error {
    fn from(cancelled: Cancelled) -> Self {
        Error::Cancelled(cancelled.cause().clone())
    }
}

#[bowline::test]
async fn a_scope_returns_after_its_tasks_have_ended() {
    let ended = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&ended);
    let result = scope("outer", async |s| {
        for _ in 0..10 {
            let ended = Arc::clone(&ended);
            s.spawn("child", async move {
                tokio::task::yield_now().await;
                ended.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!((result, seen.load(Ordering::Relaxed)), (Ok(()), 10));
}

#[bowline::test]
async fn the_first_error_cancels_the_others_and_is_returned() {
    let result = scope("outer", async |s| {
        s.spawn("waits", async { Err::<(), _>(Error::from(bowline::cancelled().await)) });
        s.spawn("parked", std::future::pending::<Result<(), Error>>());
        s.spawn("fails", async { Err::<(), _>(Error::Own("first")) });
        std::future::pending::<()>().await;
        Ok(())
    })
    .await;
    assert_eq!(result, Err(Error::Own("first")));
}

#[bowline::test]
async fn a_bodys_error_is_kept_when_its_tasks_fail_because_of_it() {
    let result = scope("outer", async |s| {
        s.spawn("waits", async { Err::<(), _>(Error::from(bowline::cancelled().await)) });
        tokio::task::yield_now().await;
        Err::<(), _>(Error::Own("body"))
    })
    .await;
    assert_eq!(result, Err(Error::Own("body")));
}

#[bowline::test]
async fn a_panic_goes_on_in_the_owner_after_everybody_is_gone() {
    let gone = Arc::new(AtomicBool::new(false));
    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let guard = SetOnDrop(Arc::clone(&gone));
    let result = scope("outer", async |s| {
        let inner = s.spawn(
            "inner",
            scope("inner", async |s| {
                s.spawn::<(), _>("sibling", async move {
                    let _guard = guard;
                    std::future::pending().await
                });
                tokio::task::yield_now().await;
                s.spawn::<(), _>("buggy", async { panic!("bug") });
                Ok::<_, Error>(())
            }),
        );
        inner.await?;
        Ok(())
    });
    let result = std::panic::AssertUnwindSafe(result);
    let caught = futures_util::FutureExt::catch_unwind(result).await.unwrap_err();
    let panic = caught.downcast_ref::<bowline::Panic>().unwrap();
    assert_eq!((panic.task(), panic.message()), ("buggy", "bug"));
    assert!(panic.place().unwrap().contains("scope.rs"));
    assert!(gone.load(Ordering::Relaxed));
}

#[bowline::test]
async fn a_cancelled_scope_refuses_tasks_unpolled() {
    let result = scope("outer", async |s| {
        s.cancel("enough");
        let refused = s.spawn("late", async { panic!("must not be polled") });
        let cause = refused.await.map(|(): ()| ()).unwrap_err().cause().clone();
        assert_eq!(cause, Cause::Requested("enough"));
        Ok::<_, Error>(())
    })
    .await;
    assert_eq!(result, Ok(()));
}

#[bowline::test]
async fn members_may_spawn_into_a_scope_whose_body_has_returned() {
    let ran = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ran);
    scope("outer", async |s| {
        let handle = s.handle();
        s.spawn("member", async move {
            tokio::task::yield_now().await;
            let _ = handle.spawn("late", async move {
                ran.store(true, Ordering::Relaxed);
                Ok(())
            });
            Ok(())
        });
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert!(seen.load(Ordering::Relaxed));
}

#[bowline::test]
async fn a_kept_handle_neither_keeps_a_scope_open_nor_spawns_into_a_gone_one() {
    let mut kept = None;
    scope("outer", async |s| {
        kept = Some(s.handle());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let closed = kept.unwrap().spawn("late", async { Ok(()) }).unwrap_err();
    assert_eq!(closed.cause(), &Cause::ScopeClosed);
}

#[bowline::test]
async fn a_closed_scope_refuses_and_its_tasks_go_on() {
    let result = scope("outer", async |s| {
        let running = s.spawn("running", async {
            tokio::task::yield_now().await;
            Ok(1)
        });
        s.close();
        let refused = s.spawn("late", async { Ok(2) }).await.unwrap_err();
        assert_eq!(refused.cause(), &Cause::ScopeClosed);
        running.await
    })
    .await;
    assert_eq!(result, Ok(1));
}

#[bowline::test(start_paused = true)]
async fn a_deadline_is_inherited_by_tasks_and_the_scope_ends_with_them_gone() {
    let result = timeout(
        Duration::from_secs(1),
        scope("outer", async |s| {
            s.spawn("child", async {
                let left = bowline::time_left().unwrap();
                assert_eq!(left, Duration::from_secs(1));
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Ok(())
            });
            Ok::<_, Error>(())
        }),
    )
    .await;
    assert_eq!(result, Ok(Err(Error::Cancelled(Cause::DeadlineExceeded))));
}

#[bowline::test(start_paused = true)]
async fn the_earlier_of_two_deadlines_counts() {
    let started = tokio::time::Instant::now();
    let inner = timeout(Duration::from_secs(60), std::future::pending::<()>());
    // The inner one ends with an error that says so, and that is a value to the outer one: it is not thrown away.
    let cancelled = timeout(Duration::from_secs(1), inner).await.unwrap().unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 1);
    assert!(cancelled.is_deadline());
}

#[bowline::test(start_paused = true)]
async fn a_shielded_section_outlives_the_cancel_and_is_bounded() {
    let said = Arc::new(AtomicBool::new(false));
    let goodbye = Arc::clone(&said);
    let result = scope("outer", async |s| {
        s.spawn("polite", async move {
            let cancelled = bowline::cancelled().await;
            shielded(Duration::from_secs(1), async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                goodbye.store(true, Ordering::Relaxed);
            })
            .await?;
            let late = shielded(Duration::from_secs(1), std::future::pending::<()>()).await.unwrap_err();
            assert!(late.is_deadline());
            Err::<(), Error>(cancelled.into())
        });
        tokio::task::yield_now().await;
        s.cancel("stop");
        Ok(())
    })
    .await;
    assert!(said.load(Ordering::Relaxed));
    assert_eq!(result, Err(Error::Cancelled(Cause::Requested("stop"))));
}

#[bowline::test(allow_adoption)]
async fn a_dropped_scopes_tasks_are_adopted_and_the_ancestor_waits_for_their_destructors() {
    struct Slow(Arc<AtomicBool>);
    impl Drop for Slow {
        fn drop(&mut self) {
            std::hint::black_box((0..100_000).sum::<u64>());
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let slow = Slow(Arc::clone(&gone));
    let seen = Arc::clone(&gone);
    scope("outer", async |_| {
        let inner = scope("inner", async |s| {
            s.spawn("slow", async move {
                let _slow = slow;
                std::future::pending::<Result<(), Cancelled>>().await
            });
            std::future::pending::<()>().await;
            Ok::<_, Cancelled>(())
        });
        // A foreign time-out: it drops the scope's future where it stands.
        let dropped = race(tokio::task::yield_now(), inner).await;
        assert!(matches!(dropped, Either::Left(())));
        assert!(!gone.load(Ordering::Relaxed), "an abort takes effect at the next poll");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert!(seen.load(Ordering::Relaxed));
}

#[bowline::test]
async fn blocking_work_is_owned_and_sees_its_context() {
    let result = scope("outer", async |s| {
        let crunch = s.spawn_blocking("crunch", || {
            while bowline::check().is_ok() {
                std::hint::spin_loop();
            }
            Err::<(), _>(Error::from(bowline::check().unwrap_err()))
        });
        tokio::task::yield_now().await;
        s.cancel("enough");
        drop(crunch);
        Ok(())
    })
    .await;
    assert_eq!(result, Err(Error::Cancelled(Cause::Requested("enough"))));
}

#[bowline::test(worker_threads = 2)]
async fn cancelling_one_task_is_between_it_and_its_handle() {
    let result = scope("outer", async |s| {
        let one = s.spawn("one", async { Err::<(), Cancelled>(bowline::cancelled().await) });
        let parked = s.spawn("parked", std::future::pending::<Result<(), Cancelled>>());
        parked.cancel("not needed");
        let cause = parked.await.unwrap_err().cause().clone();
        assert_eq!(cause, Cause::Requested("not needed"));
        drop(one);
        s.cancel("stop");
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(result.unwrap_err().cause(), &Cause::Requested("stop"));
}

#[bowline::test]
async fn a_task_cancelled_by_its_handle_may_answer_with_an_error_and_its_siblings_go_on() {
    let result = scope("outer", async |s| {
        let asked = s.spawn("asked", async { Err::<(), _>(Error::from(bowline::cancelled().await)) });
        let sibling = s.spawn("sibling", async {
            tokio::task::yield_now().await;
            bowline::check()?;
            Ok(1)
        });
        tokio::task::yield_now().await;
        asked.cancel("not needed");
        let cause = asked.await.unwrap_err().cause().clone();
        assert_eq!(cause, Cause::Requested("not needed"));
        Ok::<_, Error>(sibling.await?)
    })
    .await;
    assert_eq!(result, Ok(1));
}

#[bowline::test(start_paused = true)]
async fn a_cancel_by_handle_spares_what_the_task_shields() {
    let result = scope("outer", async |s| {
        let polite = s.spawn("polite", async {
            let goodbye = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                bowline::check()?;
                Ok::<_, Cancelled>("goodbye")
            };
            shielded(Duration::from_secs(1), goodbye).await?
        });
        tokio::task::yield_now().await;
        polite.cancel("stop");
        polite.await
    })
    .await;
    assert_eq!(result, Ok::<_, Cancelled>("goodbye"));
}

/// Long enough for the slowest machine; what waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

#[bowline::test(worker_threads = 2)]
async fn a_cancel_reaches_every_task_while_others_end() {
    // Enough tasks that the first are gone, and the list of tasks is tidied, while the last are still to be told.
    const TASKS: u32 = 20_000;
    for _ in 0..3 {
        let run = scope("crowd", async |s| {
            for _ in 0..TASKS {
                s.spawn("parked", std::future::pending::<Result<(), Cancelled>>());
            }
            tokio::task::yield_now().await;
            s.cancel("enough");
            Ok::<_, Cancelled>(())
        });
        let ended = tokio::time::timeout(HANG, run).await.expect("a task was not told");
        assert_eq!(ended.unwrap_err().cause(), &Cause::Requested("enough"));
    }
}

#[bowline::test(worker_threads = 2)]
async fn a_cancel_races_with_spawning_and_nobody_is_left_untold() {
    for round in 0..500_u32 {
        let run = scope("race", async |s| {
            let handle = s.handle();
            s.spawn("spawner", async move {
                while handle.spawn("parked", std::future::pending::<Result<(), Cancelled>>()).is_ok() {}
                Ok(())
            });
            let canceller = s.handle();
            s.spawn("nests", async {
                scope("inner", async |s| {
                    s.spawn("parked", std::future::pending::<Result<(), Cancelled>>());
                    Ok::<_, Cancelled>(())
                })
                .await
            });
            for _ in 0..round % 50 {
                std::hint::spin_loop();
            }
            canceller.cancel("enough");
            Ok::<_, Cancelled>(())
        });
        tokio::time::timeout(HANG, run).await.expect("a task was not told").ok();
    }
}

#[bowline::test]
async fn a_cancel_finds_a_wait_that_is_polled_with_a_waker_of_its_own() {
    use futures_util::StreamExt as _;
    use futures_util::stream::FuturesUnordered;

    let result = scope("outer", async |s| {
        let told = s.spawn("gathers", async {
            let waits: FuturesUnordered<_> = (0..3).map(|_| bowline::cancelled()).collect();
            // Shielded from the rule of cancellation by a scope of its own, so that each wait must end by itself.
            Ok(scope("gathering", async |_| Ok::<_, Cancelled>(waits.collect::<Vec<_>>().await)).await)
        });
        tokio::task::yield_now().await;
        s.cancel("enough");
        shielded(Duration::from_secs(60), told).await??
    })
    .await;
    assert_eq!(result.map(|told| told.len()), Ok::<_, Cancelled>(3));
}

#[bowline::test]
async fn a_cancel_finds_a_wait_that_has_moved_from_one_combinator_to_another() {
    use futures_util::StreamExt as _;
    use futures_util::stream::FuturesUnordered;

    let result = scope("outer", async |s| {
        let told = s.spawn("moves", async {
            let moves = async |_: &bowline::Scope<Cancelled>| {
                tokio::task::yield_now().await; // no longer in its first poll
                let mut wait = Box::pin(bowline::cancelled());
                let first: FuturesUnordered<_> = [&mut wait].into_iter().collect();
                let left = race(first.into_future(), tokio::task::yield_now()).await;
                assert!(matches!(left, Either::Right(())), "it waits");
                drop(left);
                let second: FuturesUnordered<_> = [wait].into_iter().collect();
                Ok(second.collect::<Vec<_>>().await)
            };
            Ok(scope("gathering", moves).await)
        });
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        s.cancel("enough");
        shielded(Duration::from_secs(60), told).await??
    })
    .await;
    assert_eq!(result.map(|told| told.len()), Ok::<_, Cancelled>(1));
}

#[bowline::test]
async fn a_context_carried_into_a_foreign_task_is_cancelled_there() {
    let (context, foreign) = scope("outer", async |s| {
        let context = bowline::Context::current();
        let carried = context.clone();
        #[expect(clippy::disallowed_methods, reason = "a foreign task is what this is about")]
        let foreign = tokio::spawn(async move {
            assert!(!bowline::is_cancelled(), "a foreign task has no context");
            let parked = carried.run(std::future::pending::<()>()).await.unwrap_err();
            let polite = carried.run(bowline::cancelled()).await;
            (parked, polite)
        });
        tokio::task::yield_now().await;
        s.cancel("enough");
        Ok::<_, Cancelled>((context, foreign))
    })
    .await
    .unwrap();
    let (parked, polite) = foreign.await.unwrap();
    assert_eq!(parked.cause(), &Cause::Requested("enough"));
    assert!(polite.is_ok_and(|why| why == parked) || context.is_cancelled());
    let late = context.run(async { bowline::is_cancelled() }).await;
    assert_eq!(late, Ok(false), "its task has ended: it runs in no context");
    assert_eq!(context.check(), Err(parked), "and it still knows why it was cancelled");
}

#[bowline::test]
async fn a_destructor_that_panics_too_does_not_hide_the_place_of_the_panic() {
    struct PanicsToo;
    impl Drop for PanicsToo {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in the destructor");
            }
        }
    }
    let line = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&line);
    let outcome = bowline::group("group", bowline::CollectAll, async |g| {
        let parked = async {
            let _too = PanicsToo;
            std::future::pending::<()>().await;
        };
        let panics = async move {
            tokio::task::yield_now().await;
            line.store(line!() + 1, Ordering::Relaxed);
            panic!("first");
        };
        // A hand-written future, unlike an async block, still has its parts after a panic went through it.
        let both = futures_util::future::join(parked, panics);
        g.spawn("buggy", futures_util::FutureExt::map(both, |_| Ok::<_, Cancelled>(())));
    })
    .await;
    let [(_, bowline::Slot::Panicked(panic))] = outcome.slots() else { panic!("{outcome:?}") };
    assert_eq!(panic.message(), "first");
    let place = panic.place().unwrap();
    assert!(place.contains(&format!("scope.rs:{}:", seen.load(Ordering::Relaxed))), "{place}");
}

/// A task in a scope in a task in a scope, so many times; each adds one to `reached`.
fn nest(
    levels: u32,
    reached: Arc<AtomicU32>,
) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Cancelled>> + Send>> {
    Box::pin(scope("level", async move |s| {
        reached.fetch_add(1, Ordering::Relaxed);
        if levels > 1 {
            s.spawn("deeper", nest(levels - 1, reached));
        }
        shielded(HANG, std::future::pending()).await?
    }))
}

#[bowline::test(allow_adoption)]
async fn a_deep_chain_of_dropped_scopes_is_let_go_without_walking_off_the_stack() {
    const DEEP: u32 = 20_000;
    let reached = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&reached);
    scope("outer", async move |_| {
        let all_there = async {
            while seen.load(Ordering::Relaxed) < DEEP {
                tokio::task::yield_now().await;
            }
        };
        assert!(matches!(race(all_there, nest(DEEP, reached)).await, Either::Left(())));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(bowline::tree().tasks, 0, "the outer scope waited for the deepest");
}

#[bowline::test]
async fn a_timeout_holds_its_future_once() {
    let large = || async {
        let held = [0_u8; 2000];
        tokio::task::yield_now().await;
        held.len()
    };
    let alone = size_of_val(&large());
    let timed = timeout(Duration::from_secs(1), large());
    assert!(size_of_val(&timed) <= alone + 300, "{} for {alone}", size_of_val(&timed));
    let guarded = shielded(Duration::from_secs(1), large());
    assert!(size_of_val(&guarded) <= alone + 300, "{} for {alone}", size_of_val(&guarded));
    assert_eq!((timed.await, guarded.await), (Ok(2000), Ok(2000)));
}

#[bowline::test]
async fn a_scope_and_a_group_hold_what_their_body_holds_once_and_what_it_captures_twice() {
    const HELD: usize = 8_000;
    let yields_with = async |held: &[u8]| -> Result<(), Cancelled> {
        tokio::task::yield_now().await;
        assert_eq!(held.len(), HELD);
        Ok(())
    };
    let holding = scope("holding", async |_| yields_with(&[0_u8; HELD]).await);
    let captured = [0_u8; HELD];
    // Once to be called with, and once in what came of the call.
    let capturing = scope("capturing", async move |_| yields_with(&captured).await);
    let grouped = group("grouped", Discard, async move |g| {
        g.spawn("task", async { Ok(()) });
        yields_with(&captured).await
    });
    let sizes = [size_of_val(&holding), size_of_val(&capturing), size_of_val(&grouped)];
    assert!(sizes[0] <= HELD + 1_000 && sizes[1..].iter().all(|size| *size <= 2 * HELD + 1_000), "{sizes:?}");
    Box::pin(holding).await.unwrap();
    Box::pin(capturing).await.unwrap();
    assert_eq!(Box::pin(grouped).await.counts().ok, 1);
}

#[bowline::test(start_paused = true, allow_adoption)]
async fn what_a_dropped_scope_shields_is_dropped_too() {
    let guard = Arc::new(());
    let inside = Arc::clone(&guard);
    let started = tokio::time::Instant::now();
    let dropped = scope("dropped", async |s| {
        s.spawn("polite", async move {
            let _inside = inside;
            shielded(Duration::from_secs(3600), std::future::pending::<()>()).await
        });
        std::future::pending::<Result<(), Cancelled>>().await
    });
    race(tokio::task::yield_now(), dropped).await;
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    assert_eq!((Arc::strong_count(&guard), started.elapsed()), (1, Duration::ZERO));
}
