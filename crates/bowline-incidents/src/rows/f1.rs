//! F1, the leak check in tests: a test is green, and what it left behind goes on running.
//!
//! A team had four hundred tests of its connection handling, all green, and a process that leaked tasks. A test awaited the answer, compared
//! it, and returned; what else the code under test had spawned ended with the test's runtime, unseen. In production the runtime
//! does not end.
//!
//! The leaky form runs three programs that leave something behind as `#[tokio::test]` would: a bare task, a timer, a scope that
//! was dropped halfway. All three pass.
//!
//! The tied form runs the same three as `#[bowline::test]` does. After the body it looks what is still alive, lets what is merely late come to
//! its end, and fails the test with the names and places of the rest. Bare tasks of tokio have neither, and are
//! counted all the same.

use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::time::Duration;

use bowline::testing::harness::{self, Options};
use bowline::{Cancelled, scope, timeout};

use crate::lab::{Lab, Trouble};
use crate::row::{Bound, Row, Unit};

/// The row.
pub(crate) static ROW: Row = Row {
    id: "F1",
    title: "leak check in tests",
    broke: "Four hundred tests were green, and the code under test left tasks behind in most of them: nothing looked.",
    must: "A test fails if it leaves a task behind, Bowline's or bare tokio's, and says which and where it was spawned.",
    theirs: "none; here, of three leaks three are found and said",
    load: "three programs that leave something behind and one that does not, each run as a test",
    remedy: "`#[bowline::test]`: every task has an owner, so what is still alive after the owner is gone can be told, by name and place.",
    needs: &[],
    bounds: &[
        Bound::at_least("leaks that fail the test", 3.0, Unit::Count).broken_by_leaky(),
        Bound::at_least("leaks explained", 3.0, Unit::Count).broken_by_leaky(),
        Bound::at_most("clean tests that fail", 0.0, Unit::Count),
    ],
    leaky: |lab| Box::pin(leaky(lab)),
    tied: |lab| Box::pin(tied(lab)),
    source: include_str!("f1.rs"),
};

type Body = Pin<Box<dyn Future<Output = ()>>>;

// ANCHOR: leaky
/// What `#[tokio::test]` makes of a body.
fn test_leaky(body: fn() -> Body) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a runtime").block_on(body());
}
// ANCHOR_END: leaky

// ANCHOR: tied
/// What `#[bowline::test]` makes of a body.
fn test_tied(body: fn() -> Body) {
    harness::run(Options::new("of the gallery"), body());
}
// ANCHOR_END: tied

#[expect(clippy::disallowed_methods, reason = "bare tasks are what this is about")]
fn leaves_a_bare_task() -> Body {
    Box::pin(async {
        tokio::spawn(std::future::pending::<()>());
    })
}

#[expect(clippy::disallowed_methods, reason = "bare tasks are what this is about")]
fn leaves_a_timer() -> Body {
    Box::pin(async {
        let asked = tokio::spawn(async { 7 });
        tokio::spawn(async { tokio::time::sleep(Duration::from_secs(30)).await });
        assert_eq!(asked.await.ok(), Some(7));
    })
}

fn drops_a_scope() -> Body {
    Box::pin(async {
        let work = scope("abandoned", async |s| {
            s.spawn("worker", std::future::pending::<Result<(), Cancelled>>());
            std::future::pending::<Result<(), Cancelled>>().await
        });
        let _given_up = tokio::time::timeout(Duration::from_millis(5), work).await;
    })
}

fn leaves_nothing() -> Body {
    Box::pin(async {
        let work = scope("clean", async |s| s.spawn("worker", async { Ok::<_, Cancelled>(7) }).await);
        assert_eq!(timeout(Duration::from_secs(5), work).await.ok(), Some(Ok(7)));
    })
}

async fn leaky(lab: Lab) -> Result<(), Trouble> {
    measured(&lab, test_leaky);
    Ok(())
}

async fn tied(lab: Lab) -> Result<(), Trouble> {
    measured(&lab, test_tied);
    Ok(())
}

fn measured(lab: &Lab, test: fn(fn() -> Body)) {
    let leaks = [leaves_a_bare_task, leaves_a_timer, drops_a_scope];
    // A failing test says so on standard error, by the hook; here it is a figure.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let failures: Vec<String> = leaks.iter().filter_map(|body| failure(test, *body)).collect();
    let wrongly = failure(test, leaves_nothing);
    panic::set_hook(hook);
    let explains = |text: &&String| {
        text.contains("bare tokio task") || text.contains("dropped a scope") || text.contains("worker")
    };
    lab.figure("leaks that fail the test", failures.len() as f64);
    lab.figure("leaks explained", failures.iter().filter(explains).count() as f64);
    lab.figure("clean tests that fail", f64::from(u8::from(wrongly.is_some())));
}

/// Runs a body as a test, on a thread of its own as test runners do; what it said if it failed.
fn failure(test: fn(fn() -> Body), body: fn() -> Body) -> Option<String> {
    std::thread::scope(|threads| {
        let run = threads.spawn(move || panic::catch_unwind(AssertUnwindSafe(|| test(body))).err());
        let payload = run.join().ok()??;
        Some(payload.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned()))
    })
}
