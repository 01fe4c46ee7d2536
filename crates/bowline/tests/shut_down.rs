//! The ordered end when the program itself asks for it; what signals do is tested with real processes.

use std::time::Duration;

use bowline::{
    Bound, Cancelled, Cause, Overflow, Phase, Reason, Runner, draining, scope, shut_down, timeout,
};

fn runner() -> Runner {
    Runner::new("test").worker_threads(1).without_signals()
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
    assert_eq!(report.cancelled.as_ref().map(Cancelled::cause), Some(&Cause::Shutdown));
    assert_eq!(report.phase, Phase::Cancelling);
    assert!(report.is_clean() && report.took < Duration::from_secs(60), "{report}");
}

#[test]
fn work_that_outlasts_the_draining_is_cut_off_and_named_and_the_end_is_not_clean() {
    let (_, report) = runner().shutdown_within(Duration::from_millis(500)).run(async {
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
