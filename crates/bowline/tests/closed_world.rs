//! A test of which nothing can move any more fails at once, with what stands still and why; and only then.
//! Tests that must fail run inside of these. Linux: elsewhere the system does not tell, and the time limit has to do.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "threads and tasks that nobody owns are what this is about")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bowline::testing::harness::{self, Options, TestOutput};
use bowline::{Bound, Cancelled, Overflow, Scope, scope};
use tokio::sync::{Notify, mpsc, oneshot};

const OPTIONS: Options = Options { limit: Duration::from_secs(10), ..Options::new("inner") };
/// Of tests that are not to be called stuck: they are looked at some times meanwhile.
const SHORT: Duration = Duration::from_millis(400);

/// Runs a test inside of this one and returns its failure.
fn failure<F: Future<Output: TestOutput>>(options: Options, body: impl Fn() -> F) -> Option<String> {
    let failed = catch_unwind(AssertUnwindSafe(|| harness::test(options, body))).err()?;
    Some(failed.downcast::<String>().map_or_else(|_| "(not a string)".to_owned(), |text| *text))
}

/// The failure of a test that stands still, with the clock as it is and paused.
fn stands_still<F: Future<Output: TestOutput>>(body: impl Fn() -> F) -> String {
    let mut last = String::new();
    for start_paused in [false, true] {
        last = failure(Options { start_paused, ..OPTIONS }, &body).expect("it stands still");
        println!("{last}\n");
        assert!(last.starts_with("test `inner` stands still for ever"), "{last}");
    }
    last
}

/// The failure of a test that something may still wake, when its time is over.
fn is_late<F: Future<Output: TestOutput>>(body: impl Fn() -> F) -> String {
    let text = failure(Options { limit: SHORT, ..OPTIONS }, body).expect("it does not end");
    assert!(text.starts_with("test `inner` did not end within 400ms"), "{text}");
    text
}

#[test]
fn a_task_that_waits_for_a_notify_of_another_crate_is_named_with_its_spawn() {
    let text = stands_still(|| {
        scope("app", async |s: &Scope<Cancelled>| {
            s.spawn("reader", async {
                Notify::new().notified().await;
                Ok(())
            });
            Ok(())
        })
    });
    assert!(
        text.contains("reader #")
            && text.contains("reader, spawned at crates/bowline/tests/closed_world.rs:"),
        "{text}"
    );
    assert!(text.contains("waits for something that bowline does not know"), "{text}");
    assert!(text.contains("the test's own body") && text.contains("close `app`"), "{text}");
    assert!(
        text.contains("its task `reader` #") && text.contains("proof: nothing in the process can move"),
        "{text}"
    );
}

#[test]
fn a_channel_of_another_crate_whose_only_sender_waits_is_no_way_out() {
    let text = stands_still(|| async {
        let (tx, mut rx) = mpsc::channel::<u8>(1);
        rx.recv().await;
        drop(tx);
    });
    assert!(text.contains("the test's own body #") && text.contains("waits for something"), "{text}");
}

#[test]
fn two_of_our_queues_in_a_circle_are_told_with_places_and_holders() {
    let text = stands_still(|| {
        scope("ring", async |s: &Scope<Cancelled>| {
            let (to, inbox) = s.queue::<u8>("requests", Bound::items(1), Overflow::Block);
            let (back, replies) = s.queue::<u8>("replies", Bound::items(1), Overflow::Block);
            s.spawn_with("client", (to, replies), async |_cx, (to, replies)| {
                replies.recv().await?;
                let _ = to.send(1).await;
                Ok(())
            });
            s.spawn_with("server", (inbox, back), async |_cx, (inbox, back)| {
                inbox.recv().await?;
                let _ = back.send(1).await;
                Ok(())
            });
            Ok(())
        })
    });
    assert!(text.contains("recv `requests` #") && text.contains("recv `replies` #"), "{text}");
    assert!(text.contains("sender held by `client`") && text.contains("sender held by `server`"), "{text}");
    assert!(text.contains("(cycle) of `") && text.contains("closed by: `"), "{text}");
}

#[test]
fn an_end_that_anybody_may_have_does_not_help_where_nobody_moves() {
    let text = stands_still(|| {
        scope("app", async |s: &Scope<Cancelled>| {
            let (tx, rx) = s.queue::<u8>("orders", Bound::items(1), Overflow::Block);
            let kept = tx.free();
            s.spawn_with("clerk", rx, async |_cx, rx| {
                rx.recv().await?;
                Ok(())
            })
            .await?;
            drop(kept);
            Ok(())
        })
    });
    assert!(text.contains("recv `orders` #") && text.contains("a sender was freed"), "{text}");
}

#[test]
fn several_workers_and_bare_tasks_stand_still_as_one_does() {
    let text = failure(Options { worker_threads: Some(3), ..OPTIONS }, || async {
        let bare = tokio::spawn(std::future::pending::<()>());
        bare.await.ok();
    });
    let text = text.expect("it stands still");
    assert!(
        text.contains("stands still for ever") && text.contains("1 bare tokio task(s) stand still"),
        "{text}"
    );
}

#[test]
fn a_schedule_under_which_it_stands_still_can_be_replayed() {
    let text = failure(Options { schedules: 50, ..OPTIONS }, || async {
        if bowline::testing::seed() == 7 {
            std::future::pending::<()>().await;
        }
    });
    let text = text.expect("it stands still");
    assert!(text.contains("stands still for ever") && text.contains("BOWLINE_SEED=7"), "{text}");
}

#[test]
fn a_thread_that_waits_for_ever_itself_wakes_nobody() {
    let (keep, kept) = sync_channel::<()>(1);
    let (done, wait) = sync_channel::<()>(1);
    let idle = std::thread::spawn(move || {
        let _ = wait.recv();
        drop(keep);
    });
    let text = failure(OPTIONS, std::future::pending::<()>);
    drop(done);
    idle.join().unwrap();
    assert!(kept.recv().is_err());
    assert!(text.expect("it stands still").contains("stands still for ever"));
}

// ---- what may still be woken

#[test]
fn a_thread_may_still_send() {
    let failure = failure(OPTIONS, || async {
        let (tx, rx) = oneshot::channel();
        std::thread::spawn(move || {
            let (_keep, never) = sync_channel::<()>(1);
            let _ = never.recv_timeout(SHORT); // some looks long
            tx.send(7)
        });
        assert_eq!(rx.await, Ok(7));
    });
    assert_eq!(failure, None);
}

#[test]
fn a_closure_on_a_thread_may_still_return_also_where_the_clock_is_paused() {
    for start_paused in [false, true] {
        let failure = failure(Options { start_paused, ..OPTIONS }, || async {
            scope("app", async |s: &Scope<Cancelled>| {
                let (_keep, never) = sync_channel::<()>(1);
                s.spawn_blocking("closure", move || {
                    let _ = never.recv_timeout(SHORT);
                    Ok(())
                })
                .await
            })
            .await
        });
        assert_eq!(failure, None);
    }
}

#[test]
fn a_socket_may_still_be_connected_to() {
    let text = is_late(|| async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.accept().await.unwrap();
    });
    assert!(text.contains("is not proved: socket:["), "{text}");
}

#[test]
fn a_timer_still_comes() {
    let hour = async || tokio::time::sleep(Duration::from_secs(3_600)).await;
    let text = is_late(hour);
    assert!(text.contains("is not proved: thread `") && text.contains("a timer is pending"), "{text}");
    assert_eq!(
        failure(Options { start_paused: true, ..OPTIONS }, hour),
        None,
        "at once, if nobody else waits"
    );
}

#[test]
fn a_child_process_may_still_end() {
    let failure = failure(OPTIONS, || async {
        let child = tokio::process::Command::new("sleep").arg("0.3").status();
        assert!(child.await.unwrap().success());
    });
    assert_eq!(failure, None);
}
