//! The ordered end when the program itself asks for it; what signals do is tested with real processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Cause, Overflow, Phase, Reason, Runner, TaskState, draining, scope, shut_down, timeout,
};

fn runner() -> Runner {
    Runner::new("test").worker_threads(1).without_signals().on_blockers(|_| {})
}

#[bowline::test]
async fn under_a_test_it_begins_the_draining_and_the_test_goes_on() {
    scope("outer", async |s| {
        let told = s.spawn("drains", async {
            draining().await;
            Ok::<_, Cancelled>("told")
        });
        shut_down("enough");
        assert_eq!(told.await?, "told");
        assert!(!bowline::is_cancelled());
        Ok(())
    })
    .await
    .unwrap();
}

#[test]
fn what_was_accepted_is_finished_and_the_end_is_clean() {
    let (value, report) = runner().run(async {
        scope("app", async |s| {
            let (tx, rx) = s.queue("jobs", Bound::items(8), Overflow::Block);
            let done = s.spawn_with("worker", rx, async |_cx, rx| {
                let mut done = 0;
                while let Some(job) = rx.recv().await? {
                    tokio::task::yield_now().await;
                    done += job;
                }
                Ok(done)
            });
            for job in 1..=3 {
                tx.send(job).await?;
            }
            shut_down("the disk is full");
            draining().await;
            drop(tx); // accept no more
            done.await
        })
        .await
        .map_err(|cancelled: Cancelled| cancelled.to_string())
    });
    assert_eq!(value, Some(Ok(6)));
    assert_eq!(report.reason, Reason::Requested("the disk is full"));
    assert!(report.is_clean(), "{report}");
    assert!(report.to_string().starts_with("clean shutdown (the disk is full)"), "{report}");
}

#[test]
fn a_program_in_which_nobody_drains_is_not_kept_waiting() {
    let (value, report) = runner().shutdown_within(Duration::from_secs(600)).run(async {
        shut_down("enough");
        std::future::pending::<()>().await;
    });
    assert_eq!(value, None);
    assert_eq!(report.cancelled.as_ref().map(Cancelled::cause), Some(&Cause::Shutdown(Phase::Cancelling)));
    assert_eq!(report.phase, Phase::Cancelling);
    assert!(report.is_clean() && report.took < Duration::from_secs(60), "{report}");
}

#[test]
fn work_that_outlasts_the_draining_is_cut_off_and_named_and_the_end_is_not_clean() {
    let (_, report) = runner().shutdown_within(Duration::from_secs(5)).run(async {
        scope("app", async |s| {
            s.spawn::<(), _>("slow sender", std::future::pending());
            shut_down("enough");
            draining().await;
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert!(!report.is_clean(), "{report}");
    assert!(report.stragglers.is_empty(), "{report}");
    let said = report.to_string();
    assert!(said.contains("main/slow sender") && said.contains("tests/shut_down.rs:"), "{said}");
}

#[test]
fn a_main_that_panics_does_not_end_clean_in_words() {
    let (value, report) = runner().run(async { panic!("bug in main") });
    assert_eq!(value.map(|(): ()| ()), None);
    let said = report.to_string();
    assert!(said.starts_with("main panicked") && said.contains("bug in main"), "{said}");
}

/// The commonest shape there is: a web framework's handler, a task of its own, with a deadline around its calls.
#[bowline::test(worker_threads = 1, allow_adoption)]
#[expect(clippy::disallowed_methods, reason = "a foreign task is the subject")]
async fn a_timeout_in_a_foreign_task_hangs_under_the_root() {
    let (ready, wait) = tokio::sync::oneshot::channel();
    let handler = tokio::spawn(timeout(Duration::from_secs(3600), async move {
        let calls = bowline::group("calls", bowline::CollectAll, async |g| {
            g.spawn("call", async move {
                ready.send(()).ok();
                std::future::pending::<Result<(), Cancelled>>().await
            });
        });
        calls.await.counts().cancelled
    }));
    wait.await.unwrap();
    let tree = bowline::tree().to_string();
    assert!(tree.contains("call #"), "{tree}");
    handler.abort();
    let _ = handler.await;
    // The group was dropped with the handler: that is an adoption, and this test's subject is not that.
    while bowline::tree().to_string().contains("call #") {
        tokio::task::yield_now().await;
    }
}

// ---- cases that others had in production

/// vector#9739: a sink that retries for ever does not look at the shutdown, and holds it up.
/// neon#11330: a compaction that never looked at its cancel token holds up the end.
#[test]
fn a_loop_that_never_looks_at_the_shutdown_ends_at_its_next_await_when_it_is_cancelled() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let (_, report) = runner().run_paused(async move {
        scope("topology", async |s| {
            s.spawn::<(), _>("sink", async move {
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(1)).await; // and once more
                }
            });
            tokio::time::sleep(Duration::from_secs(10)).await;
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert!((10..=11).contains(&tries.load(Ordering::Relaxed)));
    assert!(report.is_clean() && report.took < Duration::from_secs(1), "{report}");
}

/// vector#9184: main ended before its I/O task, and the last batches were lost.
#[test]
fn main_returns_after_the_tasks_that_write_what_it_has_handed_over() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let (_, report) = runner().run_paused(async move {
        scope("pipeline", async |s| {
            let (tx, rx) = s.queue::<usize>("batches", Bound::items(8), Overflow::Block);
            s.spawn_with("write", rx, async move |_cx, rx| {
                while let Some(batch) = rx.recv().await? {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    count.fetch_add(batch, Ordering::Relaxed);
                }
                Ok(())
            });
            for batch in [1, 2, 3] {
                tx.send(batch).await?;
            }
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!((written.load(Ordering::Relaxed), report.is_clean()), (6, true), "{report}");
}

/// neon#10309: requests in flight keep a gate open, and the shutdown takes 328 s. neon#7427: and nobody says whose they are.
#[test]
fn whoever_keeps_the_end_waiting_is_cut_off_within_the_budget_and_named() {
    let (_, report) = runner().run_paused(async {
        scope("pageserver", async |s| {
            s.spawn::<(), _>("get page", async {
                let served = std::future::pending::<()>();
                bowline::shielded(Duration::from_secs(328), served).await?;
                Ok(())
            });
            shut_down("detach");
            draining().await;
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert!(report.took <= Duration::from_secs(30), "{report}");
    let [page] = &report.cut_off[..] else { panic!("{report}") };
    assert_eq!(page.path, "main/get page");
    assert!(page.place.contains("tests/shut_down.rs:"), "{report}");
}

/// maelstrom#478: after an error elsewhere the server waits for calls that are pending.
#[test]
fn an_error_elsewhere_does_not_wait_for_calls_that_are_pending() {
    let (value, report) = runner().run_paused(async {
        scope("worker", async |s| {
            s.spawn("pending call", std::future::pending::<Result<(), Failed>>());
            s.spawn("disk", async { Err::<(), _>(Failed("the disk is full")) });
            Ok::<_, Failed>(())
        })
        .await
    });
    assert_eq!(value, Some(Err(Failed("the disk is full"))));
    assert!(report.is_clean() && report.took < Duration::from_secs(1), "{report}");
}

#[derive(Debug, PartialEq)]
struct Failed(&'static str);

impl From<Cancelled> for Failed {
    fn from(_: Cancelled) -> Self {
        Self("cancelled")
    }
}

/// iroh#945: close work that was spawned in a `Drop` never ran before the process exited.
#[test]
fn close_work_that_is_spawned_in_a_drop_runs_before_the_end_or_is_refused_to_its_face() {
    struct Endpoint {
        owner: bowline::ScopeHandle<Cancelled>,
        closed: Arc<AtomicBool>,
        refused: Arc<AtomicBool>,
    }
    impl Drop for Endpoint {
        fn drop(&mut self) {
            let closed = Arc::clone(&self.closed);
            let close = async move {
                tokio::task::yield_now().await;
                closed.store(true, Ordering::Relaxed);
                Ok(())
            };
            self.refused.store(self.owner.spawn("close", close).is_err(), Ordering::Relaxed);
        }
    }
    // While the scope lives, it waits for what the drop has spawned; once it is cancelled, the drop is told.
    for cancelled in [false, true] {
        let (closed, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_closed, is_refused) = (Arc::clone(&closed), Arc::clone(&refused));
        let (_, report) = runner().run_paused(async move {
            scope("endpoints", async |s| {
                let endpoint = Endpoint { owner: s.handle(), closed, refused };
                s.spawn("connection", async move {
                    let _endpoint = endpoint;
                    tokio::task::yield_now().await;
                    Ok(())
                });
                if cancelled {
                    s.cancel("enough");
                }
                Ok::<_, Cancelled>(())
            })
            .await
        });
        assert!(report.is_clean(), "{report}");
        let ended = (is_closed.load(Ordering::Relaxed), is_refused.load(Ordering::Relaxed));
        assert_eq!(ended, (!cancelled, cancelled));
    }
}

/// restate: a task is spawned while the shutdown begins, is on nobody's list, and outlives it.
#[test]
fn a_task_that_is_spawned_while_the_shutdown_begins_is_refused_or_gone_at_the_end() {
    struct Live(Arc<AtomicUsize>);
    impl Drop for Live {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    const ROUNDS: usize = 5;
    let mut refused = 0;
    for _ in 0..ROUNDS {
        let live = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&live);
        let (value, report) = runner().worker_threads(2).run(async move {
            scope("server", async |s| {
                let server = s.handle();
                let spawns = s.spawn_blocking("spawns", move || {
                    for spawned in 0_usize.. {
                        counted.fetch_add(1, Ordering::Relaxed);
                        let live = Live(Arc::clone(&counted));
                        let task = async move {
                            let _live = live;
                            std::future::pending::<Result<(), Cancelled>>().await
                        };
                        if server.spawn("late", task).is_err() {
                            return Ok(spawned);
                        }
                    }
                    unreachable!("the shutdown refuses one of them")
                });
                shut_down("enough");
                spawns.await
            })
            .await
        });
        refused += usize::from(value.is_some());
        assert_eq!(live.load(Ordering::Relaxed), 0, "{report}");
        assert!(report.is_clean(), "{report}");
    }
    assert_eq!(refused, ROUNDS);
}

/// tokio#6463: `block_on` inside of `block_in_place` keeps a worker, and the runtime's drop waits for it for ever.
#[test]
fn a_worker_that_is_blocked_from_inside_does_not_hold_up_the_end_and_is_named() {
    let (release, held) = tokio::sync::oneshot::channel::<()>();
    let budget = Duration::from_millis(300);
    let (_, report) = runner().worker_threads(2).shutdown_within(budget).run(async move {
        scope("server", async |s| {
            s.spawn("blocks inside", async move {
                let wait = || tokio::runtime::Handle::current().block_on(held);
                let _ = tokio::task::block_in_place(wait);
                Ok(())
            });
            tokio::task::yield_now().await;
            while !bowline::tree().to_string().contains("running") {
                tokio::task::yield_now().await;
            }
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    let [straggler] = &report.stragglers[..] else { panic!("{report}") };
    assert_eq!((straggler.path.as_str(), &straggler.state), ("main/blocks inside", &TaskState::Running));
    assert_eq!(report.exit_code(), std::process::ExitCode::from(3));
    drop(release);
}

/// axum#3003: WebSocket tasks are not tracked, and a "graceful" end returns while they live.
#[test]
fn tasks_that_nobody_here_owns_are_counted_when_they_are_dropped() {
    let (_, report) = runner().run(async {
        for _ in 0..2 {
            #[expect(clippy::disallowed_methods, reason = "a framework's own task is what this is about")]
            tokio::spawn(std::future::pending::<()>());
        }
    });
    assert_eq!((report.foreign_tasks, report.is_clean()), (2, true));
    assert!(report.to_string().contains("2 foreign tasks dropped"), "{report}");
    let (_, report) = runner().run(async {});
    assert_eq!(report.foreign_tasks, 0, "{report}");
}

/// grpc-rust#2517, hyper#4170: the end waits for clients that do not go, for an hour or for ever.
#[test]
fn the_budget_is_the_longest_it_can_take() {
    let (_, report) = runner().shutdown_within(Duration::from_secs(10)).run_paused(async {
        scope("server", async |s| {
            s.spawn::<(), _>("client", async {
                loop {
                    let never = std::future::pending::<()>();
                    let _ = bowline::shielded(Duration::from_secs(3600), never).await;
                }
            });
            shut_down("enough");
            draining().await;
            Ok::<_, Cancelled>(())
        })
        .await
    });
    // Drained for 8 s, cancelled at 8, aborted at 9.5.
    assert_eq!((report.phase, report.took), (Phase::Aborting, Duration::from_millis(9_500)));
    let times: Vec<_> = report.phases.iter().map(|time| (time.phase, time.took.as_millis())).collect();
    assert_eq!(times, [(Phase::Draining, 8_000), (Phase::Cancelling, 1_500), (Phase::Aborting, 0)]);
}

#[test]
fn a_budget_shorter_than_the_time_for_asking_is_kept_too() {
    let runner = runner().shutdown_within(Duration::from_millis(50));
    let (_, report) = runner.run_paused(async {
        shut_down("enough");
        std::future::pending::<()>().await
    });
    assert_eq!((report.took, report.is_clean()), (Duration::from_millis(40), true), "{report}");
}
