//! The pages below `/debug/bowline/`: what they say of a program with one of each, for people and for programs.

mod support;

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline::debug::{self, Answer};
use bowline::{
    Bound, Breaker, Buffers, Bulkhead, Cancelled, Class, CpuPool, Job, Leases, Mutex, Overflow, Pool,
    Restart, RetryBudget, Schedule, Strategy, Supervisor, Workers, scope, sleep,
};
use serde_json::Value;
use support::yield_now;

fn answer(page: &str, query: &str) -> Answer {
    debug::answer(&format!("/debug/bowline/{page}"), Some(query), None).expect("a page")
}

/// The page for people. It is readable at eighty columns, but for places, which are to be copied whole.
fn text(page: &str, query: &str) -> String {
    let answer = answer(page, query);
    assert_eq!((answer.status, answer.content_type), (200, "text/plain; charset=utf-8"), "{page}");
    let text = String::from_utf8(answer.body.into_bytes()).unwrap();
    assert!(text.ends_with('\n'), "{page}: {text}");
    for line in text.lines() {
        let long = line.chars().count() > 80 && !line.contains(".rs:") && page != "tree";
        assert!(!long, "{page}: {} columns: {line}", line.chars().count());
        assert!(line.trim_end() == line, "{page}: blanks at the end of {line:?}");
    }
    text
}

fn json(page: &str, query: &str) -> Value {
    let answer = answer(page, &format!("format=json&{query}"));
    assert_eq!((answer.status, answer.content_type), (200, "application/json"), "{page}");
    serde_json::from_slice(&answer.body.into_bytes()).unwrap()
}

const LISTS: [&str; 18] = [
    "alerts",
    "tasks",
    "waits",
    "locks",
    "queues",
    "pools",
    "pipelines",
    "bulkheads",
    "cpu",
    "buffers",
    "leases",
    "breakers",
    "retries",
    "effects",
    "copies",
    "supervisors",
    "suspicions",
    "deadlocks",
];

#[bowline::test]
async fn every_page_answers_in_both_forms_when_there_is_nothing() {
    for page in LISTS {
        assert!(!text(page, "").is_empty());
        let json = json(page, "");
        assert!(json[page].is_array() && json["more"].is_u64(), "{page}: {json}");
    }
    assert!(text("panics", "").contains("0 bugs") && json("panics", "")["panics"]["unexpected"] == 0);
    assert!(text("tree", "").contains("[root]") && json("tree", "")["roots"].is_array());
    let index = text("", "");
    for page in LISTS.iter().chain(&["tree", "panics", "schedules", "metrics"]) {
        assert!(index.contains(&format!("/debug/bowline/{page} ")), "{page} in {index}");
    }
    assert_eq!(json("", "")["pages"].as_array().unwrap().len(), index.lines().count() - 2);
}

#[test]
fn other_paths_are_not_answered() {
    for path in [
        "/",
        "/debug",
        "/debug/bowlines",
        "/debug/bowline/none",
        "/debug/bowline/tasks/x",
        "/debug/bowlinetasks",
    ] {
        assert!(debug::answer(path, None, None).is_none(), "{path}");
    }
    for path in ["/debug/bowline", "/debug/bowline/", "/debug/bowline/tasks/"] {
        assert!(debug::answer(path, None, None).is_some(), "{path}");
    }
    let wrong = debug::answer("/debug/bowline/tasks", Some("limit=many"), None).unwrap();
    assert_eq!(wrong.status, 400);
    assert!(String::from_utf8(wrong.body.into_bytes()).unwrap().contains("limit is a number"));
}

#[bowline::test]
async fn the_longest_wait_stands_first_and_filters_find_who_is_meant() -> Result<(), Cancelled> {
    scope("orders", async |s| {
        let (tx, rx) = s.queue::<u8>("inbox", Bound::items(4), Overflow::Block);
        let packer = s.spawn_with("packer", rx, async |_cx, rx| {
            while rx.recv().await?.is_some() {}
            Ok::<_, Cancelled>(())
        });
        let foreign = s.spawn("foreign", async {
            tokio::time::timeout(Duration::from_secs(3_600), pending::<()>()).await.ok();
            Ok(())
        });
        yield_now(3).await;
        let page = json("tasks", "");
        assert_eq!((&page["total"], &page["matched"], &page["more"]), (&2.into(), &2.into(), &0.into()));
        assert_eq!((&page["states"]["waiting"], &page["waits"]["recv"]), (&1.into(), &1.into()), "{page}");
        let first = &page["tasks"][0];
        assert_eq!(
            (&first["name"], &first["path"], &first["kind"]),
            (&"packer".into(), &"packer".into(), &"task".into())
        );
        assert_eq!((&first["id"], &first["state"]["op"]), (&packer.id().into(), &"recv".into()));
        let named = |query: &str| {
            let page = json("tasks", query);
            let names: Vec<String> =
                page["tasks"].as_array().unwrap().iter().map(|task| task["name"].to_string()).collect();
            names.join(",")
        };
        assert_eq!(named("name=PACK"), "\"packer\"");
        assert_eq!(named("op=recv"), "\"packer\"");
        assert_eq!(named("op=lock"), "");
        assert_eq!(named("state=parked"), "\"foreign\"");
        assert_eq!(named("age=1h"), "");
        assert_eq!(named("wait=1h"), "");
        assert_eq!(named("sort=name"), "\"foreign\",\"packer\"");
        assert_eq!(named("limit=1"), "\"packer\"");
        assert_eq!(named(&format!("below={}", first["parent"])), "\"packer\",\"foreign\"");
        assert_eq!(named(&format!("below={}", packer.id().unwrap())), "");
        assert_eq!(json("tasks", "limit=1")["more"], 1);
        let text = text("tasks", "limit=1&nmae=x");
        assert!(text.starts_with("(no page knows `nmae`"), "{text}");
        assert!(
            text.contains("1 of 2 shown, the longest wait first") && text.ends_with("… 1 more\n"),
            "{text}"
        );
        foreign.cancel("the test is over");
        drop(tx);
        Ok(())
    })
    .await
}

/// Runs `look` in a program in which one of each is in trouble.
///
/// One at a time: pools, locks and the like are listed by process.
async fn in_trouble(look: impl AsyncFnOnce()) -> Result<(), Cancelled> {
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ONE_AT_A_TIME.lock().await;
    let hour = Duration::from_secs(3_600);
    let bulkhead = Bulkhead::new("billing", 3);
    let budget = RetryBudget::new("billing");
    let breaker = Breaker::new("ledger-api").at_least(2);
    let failing = async || Err::<(), Class>(Class::Network);
    for _ in 0..4 {
        let _ = breaker.run(failing).await;
    }
    let slot = bulkhead.enter().await.unwrap();
    let buffers = Buffers::new("frames", 1_024, 4);
    let buffer = buffers.take().await.unwrap();
    scope("trouble", async |s| {
        let (tx, _rx) = s.queue::<u8>("outbox", Bound::items(1), Overflow::Block);
        let (_notices, _notice) = s.watch("settings", 1);
        tx.send(1).await.ok();
        s.spawn_with("sender", tx, async |_cx, tx| {
            tx.send(2).await.ok();
            Ok::<_, Cancelled>(())
        });
        let ledger = Arc::new(Mutex::new("ledger", ()));
        let other = Arc::clone(&ledger);
        s.spawn("holder", async move {
            let _held = other.lock().await?;
            sleep(hour).await
        });
        yield_now(2).await;
        let other = Arc::clone(&ledger);
        s.spawn("clerk", async move {
            let _held = other.lock().await?;
            Ok(())
        });
        let pool = Pool::new("mailers", Workers::fixed(1), Bound::items(8), Overflow::Reject)
            .start(s, |_job: u8| sleep(Duration::from_secs(3_600)));
        for job in 0..3 {
            pool.submit(job).await.ok();
        }
        let feeds = Supervisor::new("feeds", Strategy::OneForOne)
            .child("kraken", Restart::Permanent, async |_life| {
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
            })
            .start(s);
        let cpu = CpuPool::new("thumbnails", Bound::items(4)).threads(2).start(s, |job: u8| job);
        let jobs = Schedule::new("upkeep", 2).job(Job::every("sweep", hour), async |_run| {}).start(s);
        let leases = Leases::new("db", 2, async || Ok::<_, std::convert::Infallible>("connection")).start(s);
        let lease = leases.acquire().await.unwrap();
        yield_now(20).await;
        look().await;
        drop((lease, feeds, jobs, slot, buffer, budget, cpu));
        s.cancel("seen enough");
        Ok(())
    })
    .await
}

#[bowline::test(start_paused = true)]
async fn a_person_sees_what_is_wrong_and_where() {
    let ended = in_trouble(async || {
        for (page, finds) in [
            ("tasks", ["send #", "lock #", "clerk", "sender", "sleep"].as_slice()),
            ("tree", &["[scope] trouble", "clerk #", "<queue> outbox", "<watch> settings"]),
            (
                "waits",
                &[
                    "mutex `ledger`",
                    "0 of 1 free",
                    "clerk waits to lock for",
                    "holder for",
                    "sender waits to send for",
                ],
            ),
            ("locks", &["mutex `ledger`"]),
            ("queues", &["outbox", "1/1", "settings", "made at crates/bowline/tests/debug.rs:"]),
            ("pools", &["mailers", "open", "1/1", "2/8"]),
            ("breakers", &["ledger-api", "open", "2 of 2 calls failed"]),
            ("supervisors", &["feeds", "  kraken", "backing_off", "connection reset"]),
            ("schedules", &["upkeep", "  sweep", "idle"]),
            ("leases", &["db", "1/2", "leased to"]),
            ("bulkheads", &["billing", "1/3"]),
            ("buffers", &["frames", "1/4", "1024"]),
            ("cpu", &["thumbnails", "0/2"]),
            ("retries", &["billing", "ok"]),
            ("alerts", &["breaker open", "ledger-api"]),
        ] {
            let shown = text(page, "");
            for find in finds {
                assert!(shown.contains(find), "{page} does not show {find}:\n{shown}");
            }
        }
        assert!(!text("locks", "").contains("outbox"), "a queue is no lock");
        assert_eq!(text("pools", "name=nobody"), "no pool here\n");
        assert!(text("tasks", "op=lock").contains("1 shown"), "{}", text("tasks", "op=lock"));
    });
    assert!(ended.await.is_err());
}

#[bowline::test(start_paused = true)]
async fn a_program_gets_what_the_listing_functions_return() {
    let ended = in_trouble(async || {
        for (page, name, field, value) in [
            ("pools", "mailers", "queued", Value::from(2)),
            ("breakers", "ledger-api", "state", "open".into()),
            ("supervisors", "feeds", "strategy", "one_for_one".into()),
            ("schedules", "upkeep", "at_most_running", 2.into()),
            ("leases", "db", "leased", 1.into()),
            ("bulkheads", "billing", "at_most", 3.into()),
            ("buffers", "frames", "held", 1.into()),
            ("retries", "billing", "is_spent", false.into()),
            ("alerts", "ledger-api", "kind", "breaker_open".into()),
            ("queues", "outbox", "depth_items", 1.into()),
            ("waits", "ledger", "kind", "mutex".into()),
        ] {
            let found = json(page, &format!("name={name}"));
            let rows = found[page].as_array().unwrap();
            assert!(rows.iter().any(|row| row["name"] == name && row[field] == value), "{page}: {found}");
        }
        let waits = json("waits", "");
        let ledger = waits["waits"].as_array().unwrap().iter().find(|wait| wait["name"] == "ledger").unwrap();
        let holder = ledger["holders"][0]["task"].to_string();
        assert_eq!(waits["names"][&holder], "holder", "{waits}");
        assert!(waits["groups"].as_array().unwrap().iter().any(|group| group["ops"]["send"] == 1), "{waits}");
    });
    assert!(ended.await.is_err());
}

#[bowline::test(start_paused = true)]
async fn one_task_is_shown_with_what_it_waits_for_and_who_holds_that() {
    let ended = in_trouble(async || {
        let ids: std::collections::HashMap<String, u64> = json("tasks", "")["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| (task["name"].as_str().unwrap().to_owned(), task["id"].as_u64().unwrap()))
            .collect();
        let (clerk, holder) = (ids["clerk"], ids["holder"]);
        let shown = text(&format!("tasks/{clerk}"), "");
        for find in [
            format!("#{clerk} clerk\n"),
            "spawned at crates/bowline/tests/debug.rs:".to_owned(),
            "waiting to lock".to_owned(),
            "[scope] trouble #".to_owned(),
            "mutex `ledger`".to_owned(),
            format!("by #{holder} holder for"),
        ] {
            assert!(shown.contains(&find), "{find} in {shown}");
        }
        let page = json(&format!("tasks/{holder}"), "");
        assert_eq!((&page["task"]["name"], &page["holds"][0]["name"]), (&"holder".into(), &"ledger".into()));
        assert_eq!(page["waits_for"]["resource"], Value::Null);
        let page = json(&format!("tasks/{clerk}"), "");
        assert_eq!(page["waits_for"]["resource"]["name"], "ledger");
        assert_eq!(page["names"][holder.to_string()], "holder");
        assert_eq!(page["above"].as_array().unwrap().last().unwrap()["name"], "trouble");
        let supervisor =
            json("tasks", "name=kraken")["tasks"][0]["above"].as_u64().or_else(|| ids.get("feeds").copied());
        let below = text(&format!("tasks/{}", supervisor.unwrap()), "");
        assert!(below.contains("\nBelow it: "), "{below}");

        let scope = &page["task"]["parent"];
        for (id, says) in
            [("987654321", "it has ended, or never was"), (&*scope.to_string(), "is no task but a scope")]
        {
            let gone = debug::answer(&format!("/debug/bowline/tasks/{id}"), None, None).unwrap();
            assert_eq!(gone.status, 404);
            let line = String::from_utf8(gone.body.into_bytes()).unwrap();
            assert!(line.contains(says), "{line}");
        }
        let tree = json("tree", &format!("below={scope}"));
        assert_eq!(tree["roots"][0]["name"], "trouble", "{tree}");
    });
    assert!(ended.await.is_err());
}

#[bowline::test]
async fn of_many_of_one_name_the_tree_shows_some_and_counts_the_rest() -> Result<(), Cancelled> {
    let done = scope("many", async |s| {
        for _ in 0..25 {
            s.spawn("worker", sleep(Duration::from_secs(3_600)));
        }
        yield_now(1).await;
        let shown = text("tree", "");
        assert_eq!(shown.matches("worker #").count(), 10, "{shown}");
        assert!(shown.starts_with("25 tasks") && shown.contains("… 15 more `worker`"), "{shown}");
        let tree = json("tree", "each=3");
        let many = &tree["roots"][0]["scopes"][0];
        assert_eq!(
            (many["tasks"].as_array().unwrap().len(), &many["more"]["worker"]),
            (3, &22.into()),
            "{tree}"
        );
        let whole = serde_json::to_value(bowline::tree()).unwrap();
        let same = json("tree", "each=all");
        assert_eq!(whole["roots"][0]["scopes"][0]["tasks"].as_array().unwrap().len(), 25);
        for key in ["tasks", "blocking", "foreign_tasks"] {
            assert_eq!(whole[key], same[key], "{key}");
        }
        let ids = |tree: &Value| -> HashSet<u64> {
            let tasks = tree["roots"][0]["scopes"][0]["tasks"].as_array().unwrap();
            tasks.iter().map(|task| task["id"].as_u64().unwrap()).collect()
        };
        assert_eq!(ids(&whole), ids(&same));
        s.cancel("seen");
        Ok::<_, Cancelled>(())
    });
    assert!(done.await.is_err());
    Ok(())
}

#[bowline::test]
async fn a_name_that_would_disturb_a_terminal_is_escaped_everywhere() -> Result<(), Cancelled> {
    let done = scope("a\x1b[2Jscope", async |s| {
        let (_tx, _rx) = s.queue::<u8>("a\x1b[2Jqueue", Bound::items(1), Overflow::Block);
        let breaker = Breaker::new("a\x1b[2Jbreaker\n");
        let task = s.spawn("a\x1b[2Jtask", sleep(Duration::from_secs(3_600)));
        yield_now(1).await;
        let one = format!("tasks/{}", task.id().unwrap());
        for page in LISTS.iter().copied().chain(["tree", "schedules", "panics", &one]) {
            for query in ["", "limit=all", "\x1b[2J=1"] {
                let shown = text(page, query);
                assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{page}: {shown:?}");
            }
        }
        assert!(text("breakers", "").contains("a\\u{1b}[2Jbreaker\\n"), "{}", text("breakers", ""));
        drop(breaker);
        s.cancel("seen");
        Ok::<_, Cancelled>(())
    });
    assert!(done.await.is_err());
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn the_metrics_have_everything_by_name() {
    let ended = in_trouble(async || {
        let metrics = debug::metrics();
        for sample in [
            "bowline_tasks{name=\"clerk\"} 1",
            "bowline_waiting_tasks{op=\"lock\"} 1",
            "bowline_foreign_tasks 0",
            "bowline_queue_items{name=\"outbox\"} 1",
            "bowline_queue_waiting_senders{name=\"outbox\"} 1",
            "bowline_alerts{kind=\"breaker_open\"} 1",
            "bowline_pool_queued_jobs{name=\"mailers\"} 2",
            "bowline_leases{name=\"db\"} 1",
            "bowline_supervisor_children{name=\"feeds\",state=\"backing_off\"} 1",
        ] {
            assert!(metrics.lines().any(|line| line == sample), "{sample} in\n{metrics}");
        }
        let page = debug::answer("/debug/bowline/metrics", None, None).unwrap();
        assert_eq!((page.status, page.content_type), (200, "text/plain; version=0.0.4; charset=utf-8"));
        let page = String::from_utf8(page.body.into_bytes()).unwrap();
        assert!(page.contains("bowline_tasks{name=\"clerk\"} 1"), "{page}");
    });
    assert!(ended.await.is_err());
}

#[bowline::test]
async fn a_task_shows_how_large_its_future_is_and_when_it_was_polled_last() -> Result<(), Cancelled> {
    scope("orders", async |s| {
        let (tx, rx) = s.queue::<u8>("inbox", Bound::items(4), Overflow::Block);
        let large = s.spawn_with("large", rx, async |_cx, rx| {
            let kept = [7_u8; 4_096];
            let got = rx.recv().await?;
            assert_eq!(kept[4_095], 7);
            Ok::<_, Cancelled>(got)
        });
        let small = s.spawn("small", async { Err::<(), _>(bowline::cancelled().await) });
        let new = s.spawn("new", async { Ok(()) });
        let not_polled = json(&format!("tasks/{}", new.id().unwrap()), "");
        assert_eq!(
            (&not_polled["task"]["idle_ms"], &not_polled["task"]["future_bytes"]),
            (&Value::Null, &Value::Null),
            "nothing is known before its first poll is over"
        );
        yield_now(3).await;
        let page = json("tasks", "sort=size");
        let first = &page["tasks"][0];
        assert_eq!(first["name"], "large");
        let bytes = first["future_bytes"].as_u64().unwrap();
        assert!((4_096..5_000).contains(&bytes), "{first}");
        assert!(page["tasks"][1]["future_bytes"].as_u64().unwrap() < 1_000, "{page}");
        assert!(first["idle_ms"].is_u64() && first.get("generation").is_none(), "{first}");
        assert!(text("tasks", "sort=size").contains("BYTES  DOES"));
        assert!(text("tasks", "sort=idle").contains("IDLE  DOES"));
        let one = text(&format!("tasks/{}", large.id().unwrap()), "");
        assert!(one.contains("polled 1 times, last ") && one.contains("its future takes 4,"), "{one}");
        let in_tree = bowline::tree();
        let found = in_tree.roots.iter().flat_map(|root| &root.scopes).flat_map(|scope| &scope.tasks);
        assert!(found.into_iter().any(|task| task.future_bytes == usize::try_from(bytes).ok()), "{in_tree}");
        tx.send(1).await.unwrap();
        assert_eq!(large.await?, Some(1));
        small.cancel("the test is over");
        Ok(())
    })
    .await
}

#[bowline::test]
async fn the_page_of_a_task_says_who_could_help_it_on_and_who_has_its_waker() -> Result<(), Cancelled> {
    scope("orders", async |s| {
        let (tx, rx) = s.queue::<u8>("inbox", Bound::items(4), Overflow::Block);
        let packer = s.spawn_with("packer", rx, async |_cx, rx| rx.recv().await.map(drop));
        let foreign = s.spawn("foreign", async {
            tokio::time::timeout(Duration::from_secs(3_600), pending::<()>()).await.ok();
            Ok(())
        });
        yield_now(3).await;
        let one = text(&format!("tasks/{}", packer.id().unwrap()), "");
        assert!(
            one.contains("\nIt could be helped on:\n") && one.contains("holds a sender of `inbox`"),
            "{one}"
        );
        let page = json(&format!("tasks/{}", packer.id().unwrap()), "");
        assert_eq!(page["explanation"]["is"], "waiting");
        assert!(page["explanation"]["because"][0].as_str().unwrap().contains("holds a sender"), "{page}");
        let other = text(&format!("tasks/{}", foreign.id().unwrap()), "");
        assert!(other.contains("\nIt can go on, as far as anybody knows:\n    somebody unknown"), "{other}");
        let unasked = json(&format!("tasks/{}", packer.id().unwrap()), "explain=no");
        assert!(unasked["explanation"].as_str().unwrap().contains("?explain=yes"), "{unasked}");
        foreign.cancel("the test is over");
        drop(tx);
        Ok(())
    })
    .await
}

#[bowline::test(start_paused = true)]
async fn a_supervised_child_shows_which_of_its_lives_this_is() -> Result<(), Cancelled> {
    let lives = Arc::new(AtomicU32::new(0));
    scope("orders", async |s| {
        let lives = Arc::clone(&lives);
        let running = Supervisor::new("workers", Strategy::OneForOne)
            .child("courier", Restart::Permanent, move |_life| {
                let life = lives.fetch_add(1, Ordering::Relaxed);
                async move {
                    if life < 2 {
                        return Err("the van has a flat tyre".into());
                    }
                    sleep(Duration::from_secs(3_600)).await?;
                    Ok(())
                }
            })
            .start(s);
        assert_eq!(running.child("courier").unwrap().wait_beyond(2).await.unwrap(), 3);
        let page = json("tasks", "name=courier");
        let courier = &page["tasks"][0];
        assert_eq!(courier["generation"], 3, "{page}");
        assert!(text(&format!("tasks/{}", courier["id"]), "").contains("\nlife 3 of a supervised child\n"));
        s.cancel("the test is over");
        Ok(())
    })
    .await
}
