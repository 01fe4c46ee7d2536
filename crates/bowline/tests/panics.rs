//! Panics as values: where they are caught, what they carry, whose they are, and how they are counted.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline::{
    Cancelled, Cause, CollectAll, Discard, PanicClass, Runner, Slot, bad_input, group, panics, scope,
    shielded,
};

fn runner() -> Runner {
    Runner::new("test").worker_threads(1).without_signals()
}

/// Runs a program and hands its panic over as the report has it.
fn panic_of(main: impl Future<Output = ()> + Send + 'static) -> bowline::Panic {
    let (value, report) = runner().run(main);
    assert!(value.is_none());
    report.panic.expect("main panicked")
}

fn refuse(message: &str) -> Result<(), Cancelled> {
    bad_input(message)
}

fn bug() -> Result<(), Cancelled> {
    panic!("bug")
}

/// The slot of a task that panicked with `payload`.
async fn panicking<P: Send + 'static>(payload: P) -> bowline::Panic {
    let outcome = group("group", CollectAll, async |g| {
        g.spawn("buggy", async move { panic_any::<P>(payload) });
        g.spawn("other", async { Ok::<(), Cancelled>(()) });
    })
    .await;
    match outcome.into_slots().swap_remove(0) {
        (_, Slot::Panicked(panic)) => panic,
        (_, other) => panic!("it should have panicked: {other:?}"),
    }
}

// ---- what a panic carries

#[bowline::test]
async fn a_payload_that_is_no_string_can_be_taken_out_by_its_type_once() {
    #[derive(Debug, PartialEq)]
    struct OutOfTape(u32);

    let panic = panicking(OutOfTape(7)).await;
    assert_eq!(panic.message(), "(payload is not a string)");
    assert_eq!(panic.take_payload::<String>(), None, "it is another type's");
    let clone = panic.clone();
    assert_eq!(clone.take_payload(), Some(OutOfTape(7)));
    assert_eq!(panic.take_payload::<OutOfTape>(), None, "a clone has taken it");
}

#[bowline::test]
async fn a_payload_whose_drop_panics_harms_nobody() {
    struct Rude(Arc<AtomicBool>);
    impl Drop for Rude {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            panic!("in the payload's drop");
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    drop(panicking(Rude(Arc::clone(&dropped))).await);
    assert!(dropped.load(Ordering::Relaxed));
}

#[test]
fn a_panic_names_the_whole_path_and_the_task_also_when_a_scope_inside_of_it_panicked() {
    let panic = panic_of(async {
        let _: Result<(), Cancelled> = scope("outer", async |s| {
            s.spawn("worker", async {
                scope("inner", async |_| -> Result<(), Cancelled> { panic!("bug") }).await
            });
            Ok(())
        })
        .await;
    });
    assert_eq!((panic.task(), panic.path(), panic.message()), ("worker", "main/worker", "bug"));
    let said = panic.to_string();
    assert!(said.starts_with("task `main/worker` panicked at crates/bowline/tests/panics.rs:"), "{said}");
}

/// scylla-rust-driver#1436: a panic in a spawned task is swallowed and whoever waits for its message hangs.
#[test]
fn whoever_waits_for_a_task_that_panics_is_cancelled_and_its_owner_panics() {
    let panic = panic_of(async {
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let _: Result<(), Cancelled> = scope("driver", async |s| {
            s.spawn::<(), _>("reader", async { panic!("unexpected frame") });
            s.spawn("keeps the other end", async move {
                let _tell = tell;
                std::future::pending::<Result<(), Cancelled>>().await
            });
            told.await.ok(); // nobody will ever tell, and nobody drops the other end
            Ok(())
        })
        .await;
    });
    assert_eq!((panic.path(), panic.message()), ("main/reader", "unexpected frame"));
}

// ---- siblings and body are cancelled at once

#[bowline::test]
async fn a_sibling_is_cancelled_while_the_body_never_gets_another_poll() {
    let gone = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&gone);
    let mut running = Box::pin(scope("scope", async |s| {
        s.spawn::<(), _>("sibling", async move {
            let why = bowline::cancelled().await;
            told.store(why.cause() == &Cause::SiblingPanicked("buggy"), Ordering::Relaxed);
            Err(why)
        });
        s.spawn::<(), _>("buggy", async { panic!("bug") });
        std::future::pending::<Result<(), Cancelled>>().await
    }));
    // The body is polled once, and then only the tasks run.
    std::future::poll_fn(|cx| std::task::Poll::Ready(running.as_mut().poll(cx).is_pending())).await;
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    assert!(gone.load(Ordering::Relaxed));
    let ended = std::panic::AssertUnwindSafe(running);
    let ended = futures_util::FutureExt::catch_unwind(ended).await;
    assert!(ended.is_err(), "the panic goes on in the owner");
}

// ---- where panics may happen

#[test]
fn a_panic_in_a_destructor_of_a_cancelled_task_is_the_tasks_panic() {
    struct Rude;
    impl Drop for Rude {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let panic = panic_of(async {
        let _: Result<(), Cancelled> = scope("scope", async |s| {
            s.spawn::<(), _>("rude", async {
                let _rude = Rude;
                std::future::pending().await
            });
            tokio::task::yield_now().await;
            s.cancel("enough");
            Ok(())
        })
        .await;
    });
    assert_eq!((panic.path(), panic.message()), ("main/rude", "in a destructor"));
}

#[test]
fn a_panic_in_the_last_poll_of_a_cancelled_task_is_not_lost() {
    let panic = panic_of(async {
        let _: Result<(), Cancelled> = scope("scope", async |s| {
            s.spawn::<(), _>("cleans up", async {
                let _why = bowline::cancelled().await;
                let _ = shielded(Duration::from_secs(1), async { panic!("in the clean-up") }).await;
                Ok(())
            });
            tokio::task::yield_now().await;
            s.cancel("enough");
            Ok(())
        })
        .await;
    });
    assert_eq!((panic.path(), panic.message()), ("main/cleans up", "in the clean-up"));
}

#[test]
fn a_panic_in_a_blocking_closure_cancels_its_siblings_and_goes_on_in_the_owner() {
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let panic = panic_of(async {
        let _: Result<(), Cancelled> = scope("scope", async |s| {
            s.spawn::<(), _>("sibling", async move {
                let why = bowline::cancelled().await;
                tell.store(why.cause() == &Cause::SiblingPanicked("resize"), Ordering::Relaxed);
                Err(why)
            });
            s.spawn_blocking::<(), _>("resize", || panic!("zero width"));
            Ok(())
        })
        .await;
    });
    assert_eq!((panic.path(), panic.message()), ("main/resize", "zero width"));
    assert!(panic.place().is_some_and(|place| place.contains("tests/panics.rs")), "{panic}");
    assert!(told.load(Ordering::Relaxed));
}

/// tokio#2002: the panics of tasks are caught one by one and the program goes on, its other half gone.
#[test]
fn of_two_panics_in_nested_scopes_one_comes_out_with_its_origin_and_both_are_counted() {
    // On one thread, so that it is known who is first.
    let (_, report) = runner().run_paused(async {
        let _: Result<(), Cancelled> = scope("outer", async |s| {
            s.spawn("nests", async {
                scope("inner", async |s| {
                    for name in ["first", "second"] {
                        s.spawn::<(), _>(name, async move { panic!("{name}") });
                    }
                    Ok::<_, Cancelled>(())
                })
                .await
            });
            Ok(())
        })
        .await;
    });
    let panic = report.panic.as_ref().expect("it reached main");
    assert_eq!((panic.path(), panic.message()), ("main/nests/first", "first"));
    assert_eq!(report.panics.unexpected, 2, "on its way up a panic is not counted again");
    let names: Vec<_> = report.panics.by_task.iter().map(|task| (task.task, task.unexpected)).collect();
    assert_eq!(names, [("first", 1), ("second", 1)]);
}

#[bowline::test]
async fn a_panic_that_the_task_itself_has_caught_does_not_lend_its_place_to_bad_input() {
    let outcome = group("group", CollectAll, async |g| {
        g.spawn("parse", async {
            let _ = std::panic::catch_unwind(|| panic!("caught by the task"));
            refuse("no header")
        });
    })
    .await;
    let Slot::Panicked(panic) = &outcome.slots()[0].1 else { panic!("it panicked") };
    let line = panic.place().and_then(|place| place.split(':').nth(1)).expect("it has a place");
    let wanted = include_str!("panics.rs").lines().position(|line| line.contains("bad_input(message)"));
    assert_eq!(line.parse(), Ok(wanted.expect("it is there") + 1), "{panic}");
}

// ---- expected and unexpected

#[bowline::test]
async fn bad_input_is_counted_apart_from_bugs_by_class_and_by_task() {
    let outcome = group("frames", CollectAll, async |g| {
        g.spawn("frame", async { refuse("11 is no opcode") });
        g.spawn("frame", async { panic!("index out of range") });
        g.spawn("other", async { Ok(()) });
    })
    .await;
    let classes: Vec<_> = outcome
        .slots()
        .iter()
        .filter_map(|(_, slot)| match slot {
            Slot::Panicked(panic) => Some((panic.class(), panic.message())),
            _ => None,
        })
        .collect();
    let wanted = [(PanicClass::Expected, "11 is no opcode"), (PanicClass::Unexpected, "index out of range")];
    assert_eq!(classes, wanted);
    let stats = panics();
    assert_eq!((stats.expected, stats.unexpected), (1, 1));
    let [frame] = &stats.by_task[..] else { panic!("{stats:?}") };
    assert_eq!((frame.task, frame.expected, frame.unexpected), ("frame", 1, 1));
}

#[bowline::test]
async fn bad_input_says_so_and_reaches_its_owner_like_any_panic() {
    let refused = scope("parser", async |s| {
        s.spawn::<(), _>("parse", async { bad_input("no header") });
        Ok::<_, Cancelled>(())
    });
    let caught = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(refused)).await;
    let panic = caught.unwrap_err().downcast::<bowline::Panic>().expect("scopes panic with it");
    let said = panic.to_string();
    assert!(said.starts_with("task `parse` refused its input at crates/bowline/tests/panics.rs:"), "{said}");
    assert!(said.ends_with(": no header"), "{said}");
}

#[test]
#[should_panic(expected = "no header")]
fn bad_input_outside_of_a_task_is_an_ordinary_panic() {
    bad_input("no header")
}

#[test]
fn a_classifier_says_which_panics_of_foreign_code_were_to_be_expected() {
    let (_, report) = runner()
        .classify_panics(|panic| match panic.task() {
            "parse" => PanicClass::Expected,
            "undecided" => panic!("in the classifier"),
            _ => PanicClass::Unexpected,
        })
        .run(async {
            let _ = group("files", Discard, async |g| {
                for name in ["parse", "undecided", "write"] {
                    g.spawn(name, async { bug() });
                }
            })
            .await;
        });
    assert_eq!((report.panics.expected, report.panics.unexpected), (1, 2));
    assert!(report.panic.is_none(), "their owner discards them");
    let data = serde_json::to_value(&report).unwrap();
    assert_eq!(
        data["panics"]["by_task"][0],
        serde_json::json!({"task": "parse", "expected": 1, "unexpected": 0})
    );
}

#[test]
fn a_panic_is_data() {
    let panic = panic_of(async { panic!("bug") });
    let data = serde_json::to_value(&panic).unwrap();
    assert_eq!(
        (&data["task"], &data["class"], &data["message"]),
        (&"main".into(), &"unexpected".into(), &"bug".into())
    );
}
