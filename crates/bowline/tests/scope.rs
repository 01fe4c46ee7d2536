//! Scopes: who owns what, who is told what, and when "gone" is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bowline::{Cancelled, Cause, Either, race, scope, shielded, timeout};

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
