//! The live tree: everybody is in it, in their place, with what they wait for, as data, as JSON and as text.

mod support;

use std::collections::HashSet;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bowline::{
    Bound, Cancelled, CollectAll, Discard, Overflow, ScopeInfo, TaskInfo, TaskState, Tree, group, race,
    scope, timeout,
};
use serde_json::Value;
use support::yield_now;

/// Every task in the picture, from the top down.
fn tasks(tree: &Tree) -> Vec<&TaskInfo> {
    fn below<'a>(scope: &'a ScopeInfo, found: &mut Vec<&'a TaskInfo>) {
        for task in &scope.tasks {
            found.push(task);
            task.scopes.iter().for_each(|scope| below(scope, found));
        }
        scope.scopes.iter().for_each(|scope| below(scope, found));
    }
    let mut found = Vec::new();
    tree.roots.iter().for_each(|root| below(root, &mut found));
    found
}

fn task<'a>(tree: &'a Tree, name: &str) -> &'a TaskInfo {
    tasks(tree).into_iter().find(|task| task.name == name).expect("it is in the tree")
}

/// The operation and its object, if the task waits at one of ours.
fn waits(task: &TaskInfo) -> Option<(&'static str, Option<u64>)> {
    match &task.state {
        TaskState::Waiting(wait) => Some((wait.op, wait.on)),
        _ => None,
    }
}

#[bowline::test]
async fn the_json_has_everybody_in_their_place_with_what_they_wait_for() {
    scope("orders", async |s| {
        let (tx, rx) = s.queue::<u32>("inbox", Bound::items(8).and_bytes(100, |_| 10), Overflow::Block);
        let line = line!() + 1;
        let packer = s.spawn_with("packer", rx, async |_cx, rx| {
            while rx.recv().await?.is_some() {}
            Ok(())
        });
        tx.send(1).await.ok();
        yield_now(3).await;
        let json: Value = serde_json::to_value(bowline::tree()).unwrap();

        assert_eq!(
            (&json["tasks"], &json["blocking"], &json["foreign_tasks"]),
            (&1.into(), &0.into(), &0.into())
        );
        let root = &json["roots"][0];
        let name = "the_json_has_everybody_in_their_place_with_what_they_wait_for";
        assert_eq!((&root["kind"], &root["name"]), (&"root".into(), &name.into()));
        let orders = &root["scopes"][0];
        assert_eq!(
            (&orders["kind"], &orders["name"], &orders["cancelled"]),
            (&"scope".into(), &"orders".into(), &Value::Null)
        );
        assert!(orders["place"].as_str().unwrap().contains("tests/tree.rs:"));

        let queue = &orders["queues"][0];
        assert_eq!(
            (&queue["name"], &queue["depth_items"], &queue["max_items"]),
            (&"inbox".into(), &0.into(), &8.into())
        );
        assert_eq!((&queue["depth_bytes"], &queue["max_bytes"]), (&0.into(), &100.into()));
        assert_eq!(
            (&queue["sent"], &queue["received"], &queue["overflow"]),
            (&1.into(), &1.into(), &"block".into())
        );
        assert_eq!(queue["receivers"], serde_json::json!([{ "task": packer.id(), "ends": 1 }]));
        assert_eq!(queue["senders"], serde_json::json!([{ "task": root["id"], "ends": 1 }]));

        let task = &orders["tasks"][0];
        assert_eq!(
            (&task["name"], &task["id"], &task["parent"]),
            (&"packer".into(), &packer.id().into(), &orders["id"])
        );
        assert!(task["place"].as_str().unwrap().ends_with(&format!("tests/tree.rs:{line}")), "{task}");
        assert!(task["age_ms"].is_u64() && task["polls"].as_u64() >= Some(1));
        assert_eq!((&task["state"]["is"], &task["state"]["op"]), (&"waiting".into(), &"recv".into()));
        assert_eq!((&task["state"]["on"], &task["cancelled"]), (&queue["id"], &false.into()));
        assert!(task["state"]["for_ms"].is_u64());
        drop(tx);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn the_text_has_the_same_in_lines_that_are_indented() {
    scope("orders", async |s| {
        let (tx, rx) = s.queue::<u32>("inbox", Bound::items(2), Overflow::Block);
        for number in 0..2 {
            tx.send(number).await.ok();
        }
        let sender = s.spawn_with("sender", tx, async |_cx, tx| Ok(tx.send(3).await.is_ok()));
        yield_now(3).await;
        let text = bowline::tree().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1 tasks, 0 foreign");
        assert!(lines[1].starts_with("[root] the_text_has_the_same"), "{text}");
        assert!(lines[2].starts_with("  [scope] orders  crates/bowline/tests/tree.rs:"), "{text}");
        assert!(lines[3].starts_with("    <queue> inbox #"), "{text}");
        assert!(lines[3].ends_with("  2/2, high water 2, 2 sent"), "{text}");
        let queue = rx.stats().id;
        let start = format!("    sender #{}  waiting to send #{queue} for ", sender.id().unwrap());
        assert!(
            lines[4].starts_with(&start) && lines[4].contains(" old  crates/bowline/tests/tree.rs:"),
            "{text}"
        );
        assert_eq!(lines.len(), 5, "{text}");
        drop(rx);
        assert!(!sender.await?);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_task_is_new_then_running_then_parked() {
    scope("scope", async |s| {
        let (looked, look) = mpsc::sync_channel(1);
        let looks = s.spawn("looks", async move {
            looked.send(task(&bowline::tree(), "looks").state.clone()).unwrap();
            yield_now(1).await;
            pending::<Result<(), Cancelled>>().await
        });
        let before = bowline::tree();
        assert_eq!((&task(&before, "looks").state, task(&before, "looks").polls), (&TaskState::New, 0));
        yield_now(3).await;
        assert_eq!(look.try_recv(), Ok(TaskState::Running));
        let after = bowline::tree();
        assert_eq!((&task(&after, "looks").state, task(&after, "looks").polls), (&TaskState::Parked, 2));
        looks.cancel("enough");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn each_wait_of_ours_says_what_it_is_and_on_whom() {
    let run = scope("scope", async |s| {
        let (full, _rx) = s.queue::<u8>("full", Bound::items(1), Overflow::Block);
        full.send(0).await.ok();
        let id = full.stats().id;
        let parked = s.spawn("parked", pending::<Result<(), Cancelled>>());
        let on = parked.id();
        s.spawn("joins", parked);
        s.spawn_with("sends", full.clone(), async |_cx, tx| Ok(tx.send(1).await.is_ok()));
        s.spawn_with("reserves", full.clone(), async |_cx, tx| Ok(tx.reserve().await.is_ok()));
        s.spawn("is told", async { Err::<(), _>(bowline::cancelled().await) });
        s.spawn("drains", async {
            bowline::draining().await;
            Ok(())
        });
        s.spawn("closes", async {
            scope("inner", async |s| {
                s.spawn("inside", pending::<Result<(), Cancelled>>());
                Ok(())
            })
            .await
        });
        yield_now(5).await;
        let tree = bowline::tree();
        let waits = |name| waits(task(&tree, name));
        assert_eq!((waits("parked"), waits("inside")), (None, None));
        assert_eq!(waits("joins"), Some(("join", on)));
        assert_eq!((waits("sends"), waits("reserves")), (Some(("send", Some(id))), Some(("send", Some(id)))));
        assert_eq!(
            (waits("is told"), waits("drains")),
            (Some(("cancelled", None)), Some(("draining", None)))
        );
        assert_eq!(waits("closes"), Some(("close", Some(task(&tree, "closes").scopes[0].id))));
        s.cancel("enough");
        Ok(())
    });
    assert!(run.await.is_err());
}

#[bowline::test]
async fn a_wait_inside_of_scopes_and_timeouts_is_the_tasks_wait() {
    scope("outer", async |s| {
        let (tx, rx) = s.queue::<u8>("inbox", Bound::items(1), Overflow::Block);
        let id = rx.stats().id;
        s.spawn_with("connection", rx, async |_cx, rx| {
            scope("serve", async |_| {
                let got = timeout(Duration::from_secs(3600), rx.recv()).await?;
                assert_eq!(got, Ok(Some(7)));
                Ok::<_, Cancelled>(())
            })
            .await?;
            pending::<Result<(), Cancelled>>().await
        });
        yield_now(3).await;
        assert_eq!(waits(task(&bowline::tree(), "connection")), Some(("recv", Some(id))));
        tx.send(7).await.ok();
        yield_now(3).await;
        assert_eq!(task(&bowline::tree(), "connection").state, TaskState::Parked);
        s.cancel("enough");
        Ok::<(), Cancelled>(())
    })
    .await
    .unwrap_err();
}

#[bowline::test(allow_adoption)]
async fn blocking_closures_are_in_it_and_what_an_ended_task_left_to_its_ancestor() {
    let (release, held) = mpsc::sync_channel::<()>(0);
    scope("outer", async |s| {
        let drops = s.spawn("drops", async move {
            let dropped = scope("dropped", async |s| {
                s.spawn_blocking("crunch", move || {
                    let _ = held.recv();
                    Ok(())
                });
                pending::<Result<(), Cancelled>>().await
            });
            race(yield_now(2), dropped).await;
            Ok(())
        });
        drops.await?;
        let tree = bowline::tree();
        assert_eq!((tree.tasks, tree.blocking), (0, 1), "{tree}");
        let (ended, crunch) = (task(&tree, "drops"), task(&tree, "crunch"));
        assert_eq!((&ended.state, &crunch.state), (&TaskState::Ended, &TaskState::Blocking));
        assert_eq!(ended.scopes[0].cancelled.as_deref(), Some("the scope was dropped before its end"));
        assert!(crunch.cancelled && crunch.parent == ended.scopes[0].id);
        assert!(tree.to_string().starts_with("0 tasks, 1 blocking, 0 foreign\n"), "{tree}");
        drop(release);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn ours_and_foreign_tasks_add_up_to_what_the_runtime_says() {
    let (stop, mut stopped) = tokio::sync::watch::channel(());
    for _ in 0..3 {
        let mut stopped = stopped.clone();
        #[expect(clippy::disallowed_methods, reason = "foreign tasks are what this is about")]
        tokio::spawn(async move { stopped.changed().await });
    }
    scope("ours", async |s| {
        for _ in 0..5 {
            s.spawn("parked", pending::<Result<(), Cancelled>>());
        }
        s.spawn(
            "nests",
            scope("inner", async |s| {
                s.spawn("inside", pending::<Result<(), Cancelled>>());
                Ok::<(), Cancelled>(())
            }),
        );
        yield_now(3).await;
        let tree = bowline::tree();
        let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!((tree.tasks, tree.foreign_tasks, tree.runtime_tasks), (7, Some(3), Some(alive)));
        assert_eq!((alive, tasks(&tree).len()), (10, 7));
        s.cancel("enough");
        Ok::<(), Cancelled>(())
    })
    .await
    .unwrap_err();
    stop.send(()).unwrap();
    let _ = stopped.changed().await;
    yield_now(3).await;
    let tree = bowline::tree();
    assert_eq!((tree.tasks, tree.foreign_tasks, tree.roots[0].scopes.len()), (0, Some(0), 0), "{tree}");
}

#[bowline::test]
async fn a_scope_opened_in_a_foreign_task_hangs_under_the_root() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    #[expect(clippy::disallowed_methods, reason = "a framework's handler is what this is about")]
    let handler =
        tokio::spawn(scope("handler", async |s| s.spawn("works", async { Ok(stopped.await.is_ok()) }).await));
    yield_now(3).await;
    let tree = bowline::tree();
    let root = &tree.roots[0];
    assert_eq!((root.kind, root.scopes.len(), tree.roots.len()), ("root", 1, 1), "{tree}");
    assert_eq!((root.scopes[0].name, root.scopes[0].tasks[0].name), ("handler", "works"));
    assert_eq!((tree.tasks, tree.foreign_tasks), (1, Some(1)), "the handler's own task is foreign");
    stop.send(()).unwrap();
    assert_eq!(handler.await.unwrap(), Ok::<_, Cancelled>(true));
}

#[test]
fn where_no_root_runs_scopes_are_shown_all_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let run = scope("rootless", async |s| {
            let (_tx, rx) = s.queue::<u8>("inbox", Bound::items(1), Overflow::Block);
            s.spawn("parked", pending::<Result<(), Cancelled>>());
            yield_now(2).await;
            let tree = bowline::tree();
            let top = tree.roots.iter().find(|top| top.name == "rootless").expect("it is there");
            assert_eq!((top.kind, top.tasks[0].name, top.queues[0].name), ("scope", "parked", "inbox"));
            assert_eq!((tree.runtime_tasks, s.cx().task_id()), (Some(1), top.id));
            assert_eq!(rx.stats().receivers[0].task, Some(top.id));
            s.cancel("enough");
            Ok::<(), Cancelled>(())
        });
        assert!(run.await.is_err());
        assert!(!bowline::tree().roots.iter().any(|top| top.name == "rootless"));
    });
}

#[bowline::test]
async fn a_cancel_is_shown_with_its_cause() {
    scope("polite", async |s| {
        let polite = s.spawn("shielded", async {
            bowline::shielded(Duration::from_secs(3600), pending::<()>()).await?;
            Ok(())
        });
        yield_now(2).await;
        s.cancel("it is late");
        let tree = bowline::tree();
        assert!(task(&tree, "shielded").cancelled);
        assert_eq!(tree.roots[0].scopes[0].cancelled.as_deref(), Some("it is late"));
        let inside = &task(&tree, "shielded").scopes[0];
        assert_eq!((inside.kind, &inside.cancelled), ("shielded", &None));
        let text = tree.to_string();
        assert!(
            text.contains("[scope] polite (cancelled: it is late)") && !text.contains("[shielded]"),
            "{text}"
        );
        polite.abort(); // a cancel spares it for an hour
        Ok::<(), Cancelled>(())
    })
    .await
    .unwrap_err();
}

#[bowline::test]
async fn the_text_shows_some_of_many_and_the_json_all() {
    let _ = group("accepts", CollectAll, async |g| {
        for _ in 0..25 {
            g.spawn("connection", pending::<Result<(), Cancelled>>());
        }
        g.spawn("other", pending());
        let tree = bowline::tree();
        let text = tree.to_string();
        assert_eq!(
            (text.matches("connection #").count(), text.matches("other #").count()),
            (10, 1),
            "{text}"
        );
        assert!(text.contains("… 15 more `connection`"), "{text}");
        assert_eq!(tasks(&tree).len(), 26);
        g.cancel("enough");
    })
    .await;
}

#[bowline::test]
async fn a_tree_that_is_too_deep_is_cut_and_not_walked_off_the_stack() {
    const DEEP: usize = 5_000;
    fn nest(levels: usize) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Cancelled>> + Send>> {
        Box::pin(scope("level", async move |s| {
            match levels {
                0 => s.spawn("bottom", pending::<Result<(), Cancelled>>()),
                _ => s.spawn("deeper", nest(levels - 1)),
            };
            Ok::<_, Cancelled>(())
        }))
    }
    scope("outer", async |s| {
        s.spawn("top", nest(DEEP));
        yield_now(DEEP).await;
        let tree = bowline::tree();
        assert!((150..=201).contains(&tasks(&tree).len()), "{}", tasks(&tree).len());
        assert!(tree.runtime_tasks > Some(DEEP));
        s.cancel("enough"); // and all of them are found
        Ok::<(), Cancelled>(())
    })
    .await
    .unwrap_err();
}

#[bowline::test(worker_threads = 2)]
async fn a_picture_taken_while_tasks_come_and_go_shows_nobody_twice_and_everybody_who_stays() {
    const STAYING: usize = 500;
    /// Not more at a time: a picture must not become larger the longer it takes.
    const PASSING: usize = 200;
    let over = Arc::new(AtomicBool::new(false));
    let run = group("crowd", Discard, async |g| {
        for number in 0..STAYING * 2 {
            // The first half goes soon, so that the list is tidied under the walks.
            let over = Arc::clone(&over);
            let name = if number < STAYING { "goes" } else { "stays" };
            g.spawn(name, async move {
                while name == "stays" && !over.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
                Ok::<_, Cancelled>(())
            });
        }
        let handle = g.handle();
        let churning = Arc::clone(&over);
        g.spawn("churns", async move {
            let passing = Arc::new(());
            while !churning.load(Ordering::Relaxed) {
                while Arc::strong_count(&passing) <= PASSING {
                    let passes = Arc::clone(&passing);
                    let _ = handle.spawn("passes", async move {
                        drop(passes);
                        Ok(())
                    });
                }
                tokio::task::yield_now().await;
            }
            Ok(())
        });
        for _ in 0..50 {
            let tree = bowline::tree();
            let all = tasks(&tree);
            let ids: HashSet<u64> = all.iter().map(|task| task.id).collect();
            assert_eq!(ids.len(), all.len(), "somebody is in it twice");
            assert_eq!(all.iter().filter(|task| task.name == "stays").count(), STAYING);
            tokio::task::yield_now().await;
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(run.await.counts().failed, 0);
}
