//! Daemons: tasks for which a scope does not stay open.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{Bound, Cancelled, Cause, CollectAll, Overflow, Scope, Slot, group, scope, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// Says when it is dropped.
struct Mark(Arc<AtomicBool>);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn for_ever() -> Result<Infallible, Cancelled> {
    Err(bowline::cancelled().await)
}

#[bowline::test]
async fn a_scope_ends_although_a_daemon_would_go_on_and_returns_when_its_destructors_have_run() {
    let dropped = Arc::new(AtomicBool::new(false));
    let mark = Mark(Arc::clone(&dropped));
    let ended = scope("service", async |s| {
        s.spawn_daemon("heartbeat", async move {
            let _mark = mark;
            std::future::pending().await
        });
        s.spawn("work", async { Ok(()) }).await?;
        Ok::<_, Cancelled>(7)
    })
    .await;
    assert_eq!(ended, Ok(7));
    assert!(dropped.load(Ordering::SeqCst), "the daemon was still there when its scope had returned");
}

#[bowline::test]
async fn a_daemon_serves_the_tasks_to_their_end() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let (of_daemon, of_task) = (Arc::clone(&order), Arc::clone(&order));
    scope("service", async |s| {
        let (tx, rx) = s.queue::<u32>("lines", Bound::items(1), Overflow::Block);
        s.spawn_daemon_with("log", rx, async move |_cx, rx| {
            let ended = loop {
                match rx.recv().await {
                    Ok(Some(line)) => of_daemon.lock().unwrap().push(line),
                    Ok(None) => std::future::pending().await,
                    Err(cancelled) => break cancelled,
                }
            };
            of_daemon.lock().unwrap().push(100);
            assert_eq!(*ended.cause(), Cause::ScopeEnding);
            Err(ended)
        });
        s.spawn_with("work", tx, async move |_cx, tx| {
            for line in 0..5 {
                tx.send(line).await?;
                tokio::task::yield_now().await;
            }
            Ok(())
        });
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    // The body ended long before: the queue was served until its sender was gone.
    let order = order.lock().unwrap().clone();
    assert_eq!(order[..5], [0, 1, 2, 3, 4], "{order:?}");
    drop(of_task);
}

#[bowline::test]
async fn a_daemon_without_a_task_or_a_body_that_waits_is_cancelled_at_once() {
    scope("empty", async |s| {
        s.spawn_daemon("one", for_ever());
        s.spawn_daemon("two", for_ever());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn the_error_of_a_daemon_fails_its_scope_and_cancels_the_others() {
    let ended = scope("service", async |s| {
        s.spawn_daemon("watch", async { Err(MyError("the watched thing is gone".to_owned())) });
        s.spawn("work", async { Err::<(), _>(MyError::from(bowline::cancelled().await)) });
        Ok::<_, MyError>(())
    })
    .await;
    assert_eq!(ended.unwrap_err().0, "the watched thing is gone");
}

#[derive(Debug)]
struct MyError(String);

impl From<Cancelled> for MyError {
    fn from(why: Cancelled) -> Self {
        Self(why.to_string())
    }
}

#[bowline::test(start_paused = true)]
async fn what_a_daemon_shields_at_the_end_is_waited_for() {
    let flushed = Arc::new(AtomicBool::new(false));
    let of_daemon = Arc::clone(&flushed);
    scope("service", async |s| {
        s.spawn_daemon("flush", async move {
            let why = bowline::cancelled().await;
            let flush = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                of_daemon.store(true, Ordering::SeqCst);
            };
            bowline::shielded(Duration::from_secs(1), flush).await?;
            Err(why)
        });
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert!(flushed.load(Ordering::SeqCst));
}

#[bowline::test]
async fn what_a_daemon_opens_to_clean_up_in_hangs_below_it() {
    let seen = Arc::new(Mutex::new(String::new()));
    let of_daemon = Arc::clone(&seen);
    scope("service", async |s| {
        s.spawn_daemon("log", async move {
            let why = bowline::cancelled().await;
            bowline::shielded(Duration::from_secs(1), async {
                scope("last words", async |s| {
                    s.spawn("flush", async move {
                        *of_daemon.lock().unwrap() = bowline::tree().to_string();
                        Ok(())
                    });
                    Ok::<_, Cancelled>(())
                })
                .await
            })
            .await??;
            Err(why)
        });
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let seen = seen.lock().unwrap().clone();
    let depth = |of: &str| {
        let line =
            seen.lines().find(|line| line.contains(of)).unwrap_or_else(|| panic!("no {of} in\n{seen}"));
        line.len() - line.trim_start().len()
    };
    assert!(depth("service") < depth("log #"), "{seen}");
    assert!(depth("log #") < depth("last words") && depth("last words") < depth("flush #"), "{seen}");
}

#[bowline::test(start_paused = true)]
async fn scopes_and_deadlines_inside_a_daemon_do_not_keep_its_scope_open() {
    let inside = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&inside);
    scope("service", async |s| {
        s.spawn_daemon("ticker", async move {
            loop {
                let tick = scope("tick", async |s| {
                    let counted = Arc::clone(&counted);
                    s.spawn("beat", async move {
                        counted.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                        Ok(())
                    });
                    Ok::<_, Cancelled>(())
                });
                bowline::timeout(Duration::from_secs(7200), tick).await??;
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(inside.load(Ordering::SeqCst), 1);
}

#[bowline::test]
async fn a_daemon_is_refused_when_the_scope_is_closed() {
    scope("service", async |s| {
        s.close();
        let refused = s.spawn_daemon("late", for_ever());
        assert_eq!(*refused.await.unwrap_err().cause(), Cause::ScopeClosed);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_panic_of_a_daemon_that_was_cancelled_still_comes_out() {
    let panicked = scope("owner", async |s| {
        s.spawn("inner", async {
            scope("service", async |s| {
                s.spawn_daemon("rude", async {
                    bowline::cancelled().await;
                    panic!("on the way out")
                });
                Ok::<_, Cancelled>(())
            })
            .await
        });
        Ok::<_, Cancelled>(())
    });
    let caught = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(panicked)).await;
    let panic = caught.unwrap_err();
    let panic = panic.downcast_ref::<bowline::Panic>().expect("a panic of a task");
    assert_eq!((panic.task(), panic.message()), ("rude", "on the way out"));
}

#[bowline::test(worker_threads = 2)]
async fn many_short_scopes_with_daemons_come_to_their_end_on_two_threads() {
    for _ in 0..500 {
        scope("service", async |s| {
            s.spawn_daemon("daemon", for_ever());
            s.spawn_daemon("sleeper", std::future::pending());
            for _ in 0..3 {
                s.spawn("work", async {
                    tokio::task::yield_now().await;
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    }
}

/// A daemon in each of the ways it may take a cancel.
fn spawn_daemons(s: &Scope<Cancelled>, seen: &Arc<Mutex<Vec<Cause>>>) {
    s.spawn_daemon("at a foreign await", std::future::pending());
    s.spawn_daemon("in a wait of ours", for_ever());
    let seen = Arc::clone(seen);
    s.spawn_daemon("says why", async move {
        let why = bowline::cancelled().await;
        bowline::shielded(SECOND, tokio::time::sleep(SECOND / 2)).await?;
        seen.lock().unwrap().push(why.cause().clone());
        Err(why)
    });
}

#[bowline::test(start_paused = true)]
async fn a_scope_with_daemons_that_is_over_time_says_so_and_not_that_it_has_come_to_its_end() {
    let seen = Arc::default();
    let foreign = timeout(
        SECOND,
        scope("service", async |s| {
            spawn_daemons(s, &seen);
            std::future::pending::<Result<(), Cancelled>>().await
        }),
    );
    let late = foreign.await.unwrap().unwrap_err();
    assert!(late.is_deadline(), "{late}");
    let of_a_task = timeout(
        SECOND,
        scope("service", async |s| {
            spawn_daemons(s, &seen);
            s.spawn("work", std::future::pending::<Result<(), _>>());
            Ok::<(), Cancelled>(())
        }),
    );
    let late = of_a_task.await.unwrap().unwrap_err();
    assert!(late.is_deadline(), "{late}");
    let in_a_group = group("jobs", CollectAll, async |g| {
        let seen = Arc::clone(&seen);
        g.spawn("job", async move {
            scope("service", async |s| {
                spawn_daemons(s, &seen);
                std::future::pending::<Result<(), Cancelled>>().await
            })
            .await
        });
    });
    let ended = timeout(SECOND, in_a_group).await.unwrap();
    let [(_, Slot::Failed(late))] = ended.slots() else { panic!("{ended:?}") };
    assert!(late.is_deadline(), "{late}");
    assert_eq!(*seen.lock().unwrap(), [const { Cause::DeadlineExceeded }; 3]);
}

#[bowline::test(start_paused = true)]
async fn a_scope_that_is_over_time_while_its_daemons_end_has_its_value() {
    let seen = Arc::default();
    let ended = timeout(
        SECOND / 4,
        scope("service", async |s| {
            spawn_daemons(s, &seen);
            tokio::task::yield_now().await;
            Ok::<_, Cancelled>(7)
        }),
    );
    assert_eq!(ended.await.unwrap(), Ok(7));
    assert_eq!(*seen.lock().unwrap(), [Cause::ScopeEnding]);
}

#[bowline::test(start_paused = true)]
async fn what_cancelled_a_task_first_is_the_cause_it_sees_to_its_end() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let ended = timeout(
        SECOND,
        scope("service", async |s| {
            let first = |seen: &Arc<Mutex<Vec<Cause>>>| {
                let seen = Arc::clone(seen);
                async move {
                    bowline::cancelled().await;
                    let _ = bowline::shielded(3 * SECOND, tokio::time::sleep(2 * SECOND)).await;
                    let why = bowline::cancelled().await;
                    seen.lock().unwrap().push(why.cause().clone());
                    Err::<(), _>(why)
                }
            };
            let by_handle = s.spawn("by its handle", first(&seen));
            let with_scope = s.spawn("with its scope", first(&seen));
            tokio::task::yield_now().await;
            by_handle.cancel("not needed");
            bowline::shielded(3 * SECOND, tokio::time::sleep(SECOND + SECOND / 2)).await?;
            with_scope.cancel("too late"); // by now the scope is cancelled
            Ok::<_, Cancelled>(())
        }),
    );
    assert!(ended.await.unwrap().unwrap_err().is_deadline());
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_by_key(|cause| *cause == Cause::DeadlineExceeded);
    assert_eq!(seen, [Cause::Requested("not needed"), Cause::DeadlineExceeded]);
}
