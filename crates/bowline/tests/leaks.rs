//! `#[bowline::test]` fails a test that leaves something behind, says what and where it came from, and lets the merely late
//! pass.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use bowline::testing::harness::{self, Options};
use bowline::{Bound, Cancelled, Discard, Overflow, group, scope, timeout};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

const OPTIONS: Options = Options::new("inner");

/// Runs a test inside of this one and returns its failure.
fn failure<F: Future<Output = ()>>(options: Options, body: F) -> Option<String> {
    let failed = catch_unwind(AssertUnwindSafe(|| harness::run(options, body))).err()?;
    Some(message(&*failed))
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "(not a string)".to_owned())
}

/// Something nobody here owns.
#[expect(clippy::disallowed_methods, reason = "bare tasks are what this is about")]
fn bare<F: Future<Output = ()> + Send + 'static>(future: F) {
    tokio::spawn(future);
}

async fn yield_now(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_clean_test_passes_and_returns_its_value() {
    let value = harness::run(OPTIONS, async {
        scope("clean", async |s| s.spawn("task", async { Ok::<_, Cancelled>(7) }).await).await
    });
    assert_eq!(value, Ok(7));
}

#[test]
fn a_bare_task_that_is_left_fails_the_test_and_is_counted() {
    for worker_threads in [None, Some(2)] {
        let failure = failure(Options { worker_threads, ..OPTIONS }, async {
            for _ in 0..3 {
                bare(std::future::pending());
            }
        });
        let text = failure.expect("it leaks");
        assert!(text.starts_with("test `inner` left tasks behind:"), "{text}");
        assert!(text.contains("3 bare tokio task(s), spawned outside of any scope"), "{text}");
        assert!(!text.contains("of bowline's"), "{text}");
    }
}

#[test]
fn a_task_of_ours_that_is_left_is_named_with_its_place() {
    let line = line!() + 3;
    let failure = failure(OPTIONS, async {
        let mut forgotten = Box::pin(scope("forgotten", async |s| {
            s.spawn("left over", std::future::pending::<Result<(), Cancelled>>());
            std::future::pending::<Result<(), Cancelled>>().await
        }));
        bowline::race(std::future::poll_fn(|cx| forgotten.as_mut().poll(cx)), yield_now(2)).await;
        std::mem::forget(forgotten); // nothing can see this but the test's end
    });
    let text = failure.expect("it leaks");
    assert!(text.contains("1 of bowline's (0 more blocking)") && !text.contains("bare"), "{text}");
    assert!(text.contains("[scope] forgotten"), "{text}");
    let task = text.lines().find(|line| line.trim_start().starts_with("left over #")).expect("it is listed");
    assert!(task.ends_with(&format!("tests/leaks.rs:{line}")), "{task}");
}

#[test]
fn a_scope_that_is_left_in_a_bare_task_is_shown_with_its_tasks() {
    let failure = failure(OPTIONS, async {
        bare(async {
            let _ = scope("in a handler", async |s| {
                s.spawn("inside", std::future::pending::<Result<(), Cancelled>>());
                Ok::<_, Cancelled>(())
            })
            .await;
        });
        yield_now(2).await;
    });
    let text = failure.expect("it leaks");
    assert!(text.contains("1 of bowline's") && text.contains("1 bare tokio task(s)"), "{text}");
    assert!(text.contains("[scope] in a handler") && text.contains("inside #"), "{text}");
}

#[test]
fn a_blocking_closure_that_is_left_is_named() {
    let (release, held) = mpsc::sync_channel::<()>(0);
    let failure = failure(OPTIONS, async {
        let mut forgotten = Box::pin(scope("forgotten", async |s| {
            s.spawn_blocking("crunch", move || {
                let _ = held.recv();
                Ok(())
            });
            Ok::<_, Cancelled>(())
        }));
        bowline::race(std::future::poll_fn(|cx| forgotten.as_mut().poll(cx)), yield_now(2)).await;
        std::mem::forget(forgotten);
    });
    drop(release);
    let text = failure.expect("it leaks");
    assert!(text.contains("1 more blocking") && text.contains("crunch #"), "{text}");
}

#[test]
fn dropping_a_scope_before_its_end_fails_the_test_unless_it_says_that_it_does() {
    for worker_threads in [None, Some(2)] {
        for allow_adoption in [false, true] {
            let failure = failure(Options { worker_threads, allow_adoption, ..OPTIONS }, async {
                let dropped = scope("dropped", async |s| {
                    s.spawn("one", std::future::pending::<Result<(), Cancelled>>());
                    s.spawn("two", std::future::pending::<Result<(), Cancelled>>());
                    std::future::pending::<Result<(), Cancelled>>().await
                });
                bowline::race(yield_now(2), dropped).await;
            });
            match failure {
                Some(text) => {
                    assert!(text.contains("dropped a scope's future while 2 of its tasks lived"), "{text}");
                    assert!(!allow_adoption, "{text}");
                }
                None => assert!(allow_adoption),
            }
        }
    }
}

#[test]
fn a_scope_dropped_after_its_tasks_were_gone_is_not_an_adoption() {
    let failure = failure(OPTIONS, async {
        let dropped = scope("dropped", async |s| {
            s.spawn("done", async { Ok(()) }).await?;
            std::future::pending::<Result<(), Cancelled>>().await
        });
        bowline::race(yield_now(5), dropped).await;
    });
    assert_eq!(failure, None);
}

#[test]
fn late_tasks_are_not_leaked_ones() {
    for worker_threads in [None, Some(2)] {
        let failure = failure(Options { worker_threads, ..OPTIONS }, async {
            for _ in 0..1_000 {
                bare(yield_now(20));
            }
        });
        assert_eq!(failure, None);
    }
}

#[test]
fn many_aborted_tasks_are_late_and_not_leaked() {
    let failure = failure(Options { allow_adoption: true, ..OPTIONS }, async {
        let crowd = scope("crowd", async |s| {
            for _ in 0..20_000 {
                s.spawn("parked", std::future::pending::<Result<(), Cancelled>>());
            }
            std::future::pending::<Result<(), Cancelled>>().await
        });
        bowline::race(yield_now(2), crowd).await;
    });
    assert_eq!(failure, None);
}

#[test]
fn a_timer_of_a_paused_clock_does_not_go_off_to_make_a_test_pass() {
    let failure = failure(Options { start_paused: true, ..OPTIONS }, async {
        bare(tokio::time::sleep(Duration::from_secs(1)));
    });
    assert!(failure.expect("it leaks").contains("1 bare tokio task(s)"));
}

#[test]
fn a_tests_own_panic_is_what_it_fails_with_also_if_it_leaks() {
    let failure = failure(OPTIONS, async {
        bare(std::future::pending());
        assert_eq!(1 + 1, 3, "sums");
    });
    let text = failure.expect("it panics");
    assert!(text.contains("sums") && !text.contains("left tasks behind"), "{text}");
}

#[test]
fn the_next_test_on_the_same_thread_sees_nothing_of_the_last() {
    assert!(failure(OPTIONS, async { bare(std::future::pending()) }).is_some());
    let failure = failure(OPTIONS, async {
        let tree = bowline::tree();
        assert_eq!((tree.tasks, tree.foreign_tasks), (0, Some(0)), "{tree}");
    });
    assert_eq!(failure, None);
}

// ---- leaks that services shipped: each as its authors describe it, and as it is with an owner

/// A connection whose peer vanishes without a word: nothing will ever be read from it, and nobody closes it.
fn vanished() -> DuplexStream {
    let (ours, theirs) = duplex(64);
    std::mem::forget(theirs);
    ours
}

/// tokio#6065: memory grew with every request; the "leak" was tasks that lived, requests without a timeout that never ended.
#[test]
fn requests_that_nobody_answers_are_a_leak_and_end_under_a_timeout() {
    let leaky = failure(OPTIONS, async {
        for _ in 0..5 {
            bare(std::future::pending());
        }
        yield_now(2).await;
    });
    assert!(leaky.expect("it leaks").contains("5 bare tokio task(s)"));

    let owned = failure(Options { start_paused: true, ..OPTIONS }, async {
        let served = group("requests", Discard, async |g| {
            for _ in 0..5 {
                g.spawn("request", timeout(Duration::from_secs(30), std::future::pending::<()>()));
            }
        });
        assert_eq!(served.await.counts().failed, 5);
    });
    assert_eq!(owned, None);
}

/// axum#2563: the task of an upgraded connection never ends when its peer vanishes without a Close frame.
#[test]
fn a_connection_whose_peer_vanished_is_a_leak_and_ends_at_the_deadline_of_its_ping() {
    let leaky = failure(OPTIONS, async {
        let mut connection = vanished();
        bare(async move { while connection.read_u8().await.is_ok() {} });
    });
    assert!(leaky.expect("it leaks").contains("1 bare tokio task(s)"));

    let owned = failure(Options { start_paused: true, ..OPTIONS }, async {
        let mut connection = vanished();
        let upgraded = scope("server", async |s| {
            s.spawn("connection", async move {
                loop {
                    timeout(Duration::from_secs(20), connection.read_u8()).await?.ok();
                }
            })
            .await
        });
        let ended: Result<(), Cancelled> = upgraded.await;
        assert!(ended.unwrap_err().is_deadline());
    });
    assert_eq!(owned, None);
}

/// glommio#636: the tasks of single connections, detached at their accept, are never freed.
#[test]
fn detached_connections_are_a_leak_and_go_with_the_accept_loop_that_owns_them() {
    let leaky = failure(OPTIONS, async {
        for _ in 0..3 {
            let mut connection = vanished();
            bare(async move { while connection.read_u8().await.is_ok() {} });
        }
    });
    assert!(leaky.expect("it leaks").contains("3 bare tokio task(s)"));

    let owned = failure(OPTIONS, async {
        let served = group("connections", Discard, async |g| {
            for _ in 0..3 {
                let mut connection = vanished();
                g.spawn("connection", async move { connection.read_u8().await });
            }
            yield_now(2).await;
            g.cancel("the listener is closed");
        });
        assert_eq!(served.await.counts().cancelled, 3);
    });
    assert_eq!(owned, None);
}

/// linkerd2#5334: memory grew for weeks; it was connections that leaked. A leak that is named is not taken for another.
#[test]
fn leaked_connections_are_named_as_connections_with_the_line_that_opened_them() {
    let line = line!() + 4;
    let leaky = failure(OPTIONS, async {
        let mut forgotten = Box::pin(group("pool", Discard, async |g| {
            for mut connection in [vanished(), vanished(), vanished()] {
                g.spawn("connection", async move { connection.read_u8().await });
            }
        }));
        bowline::race(std::future::poll_fn(|cx| forgotten.as_mut().poll(cx)), yield_now(3)).await;
        std::mem::forget(forgotten);
    });
    let text = leaky.expect("it leaks");
    assert!(text.contains("3 of bowline's") && text.contains("[group] pool"), "{text}");
    let named = text.lines().filter(|line| line.trim_start().starts_with("connection #"));
    let place = format!("tests/leaks.rs:{line}");
    assert_eq!(
        named.filter(|named| named.contains("parked") && named.ends_with(&place)).count(),
        3,
        "{text}"
    );
}

/// materialize#26190: the sink's task was spawned by its dataflow and outlived it.
#[test]
fn a_sink_that_outlives_its_dataflow_is_a_leak_and_in_its_scope_it_cannot() {
    let leaky = failure(OPTIONS, async {
        async fn dataflow() {
            bare(async {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await; // write what there is
                }
            });
            yield_now(1).await;
        }
        dataflow().await;
    });
    assert!(leaky.expect("it leaks").contains("1 bare tokio task(s)"));

    let owned = failure(OPTIONS, async {
        let dataflow = scope("dataflow", async |s| {
            let (rows, written) = s.queue("rows", Bound::items(4), Overflow::Block);
            s.spawn_with("sink", written, async |_cx, written| {
                while let Some(()) = written.recv().await? {}
                Ok(())
            });
            rows.send(()).await.ok();
            Ok::<_, Cancelled>(()) // `rows` goes here: the sink writes what is left and ends
        });
        assert_eq!(dataflow.await, Ok(()));
    });
    assert_eq!(owned, None);
}

/// zenoh#877: every query spawned a task that waited for its time-out, and nobody cancelled it when the answer came.
#[test]
fn a_timer_task_per_query_is_a_leak_and_a_timeout_needs_no_task() {
    async fn answer() -> u32 {
        yield_now(1).await;
        7
    }
    let leaky = failure(OPTIONS, async {
        for _ in 0..10 {
            bare(tokio::time::sleep(Duration::from_secs(600)));
            answer().await;
        }
    });
    assert!(leaky.expect("it leaks").contains("10 bare tokio task(s)"));

    let owned = failure(OPTIONS, async {
        for _ in 0..10 {
            assert_eq!(timeout(Duration::from_secs(600), answer()).await, Ok(7));
        }
        let tree = bowline::tree();
        assert_eq!((tree.tasks, tree.foreign_tasks), (0, Some(0)), "{tree}");
    });
    assert_eq!(owned, None);
}
