//! Drain phases: the order of the end, what each may take of the time, and who is named. All on a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    Blockers, Cancelled, Cause, Discard, DrainPhase, Phase, Report, Runner, TaskState, drain_phase, draining,
    group, scope, shielded, shut_down,
};
use tokio::time::{Instant, sleep};

/// What was noted, and how many seconds after the beginning of the shutdown.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    began: Option<Instant>,
    entries: Vec<(f64, &'static str)>,
}

impl Log {
    fn begin(&self) {
        self.0.lock().unwrap().began = Some(Instant::now());
    }

    fn note(&self, what: &'static str) {
        let mut noted = self.0.lock().unwrap();
        let at = noted.began.expect("it began").elapsed().as_secs_f64();
        noted.entries.push(((at * 10.0).round() / 10.0, what));
    }

    fn entries(&self) -> Vec<(f64, &'static str)> {
        self.0.lock().unwrap().entries.clone()
    }
}

/// A part of a program that notes when it is told to finish, and takes so long for it.
async fn finishes(log: Log, told: &'static str, takes: Duration) -> Result<(), Cancelled> {
    draining().await;
    log.note(told);
    sleep(takes).await;
    Ok(())
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// 40 s, of which 32 s are for draining.
fn runner() -> Runner {
    Runner::new("test").shutdown_within(secs(40)).on_blockers(|_| {})
}

fn turns(report: &Report) -> Vec<(&'static str, u64, bool)> {
    let turns = report.phases.iter().filter_map(|time| {
        let took = (time.took.as_secs_f64() + 0.01) as u64;
        time.drain_phase.map(|name| (name, took, time.is_cut_off))
    });
    turns.collect()
}

// ---- the order

#[test]
fn what_was_started_last_stops_first() {
    let log = Log::default();
    let noted = log.clone();
    let (value, report) = runner().run_paused(async move {
        scope("service", async |s| {
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(1))));
            s.spawn("worker", drain_phase("workers").run(finishes(log.clone(), "worker", secs(2))));
            s.spawn("worker", drain_phase("workers").run(finishes(log.clone(), "worker", secs(3))));
            s.spawn("accept", drain_phase("accept").run(finishes(log.clone(), "accept", secs(0))));
            // What is in no phase is told at once, as ever.
            s.spawn("unphased", finishes(log.clone(), "unphased", secs(0)));
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(value, Some(Ok(())));
    let mut told = noted.entries();
    told[..2].sort_by_key(|(_, name)| *name);
    let wanted = [(0.0, "accept"), (0.0, "unphased"), (0.0, "worker"), (0.0, "worker"), (3.0, "store")];
    assert_eq!(told, wanted);
    assert_eq!(turns(&report), [("accept", 0, false), ("workers", 3, false), ("store", 1, false)]);
    assert_eq!((report.is_clean(), report.took), (true, secs(4)), "no phase takes longer than it needs");
    assert!(
        report.to_string().ends_with("; drained `accept` 0.0 s, `workers` 3.0 s, `store` 1.0 s"),
        "{report}"
    );
}

#[test]
fn declared_phases_come_first_in_the_order_of_their_declaration() {
    let log = Log::default();
    let noted = log.clone();
    let runner = runner().drain_phase("accept", 1).drain_phase("streams", 1).drain_phase("nobody's", 1);
    let (_, report) = runner.run_paused(async move {
        scope("service", async |s| {
            for (name, phase) in [
                ("accept", drain_phase("accept")),
                ("first", drain_phase("first")),
                ("second", drain_phase("second")),
                // Started last: left to itself it would stop before the accept loop.
                ("streams", drain_phase("streams")),
            ] {
                s.spawn(name, phase.run(finishes(log.clone(), name, secs(1))));
            }
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert!(report.is_clean(), "{report}");
    assert_eq!(noted.entries(), [(0.0, "accept"), (1.0, "streams"), (2.0, "second"), (3.0, "first")]);
}

#[test]
#[should_panic(expected = "a phase without any time is none")]
fn a_phase_without_weight_is_refused() {
    let _ = runner().drain_phase("accept", 0);
}

#[bowline::test]
async fn without_a_runner_the_turns_come_all_the_same() {
    let log = Log::default();
    scope("service", async |s| {
        for name in ["store", "workers", "accept"] {
            s.spawn(name, drain_phase(name).run(finishes(log.clone(), name, Duration::ZERO)));
        }
        tokio::task::yield_now().await;
        log.begin();
        shut_down("enough");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let names: Vec<_> = log.entries().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["accept", "workers", "store"]);
}

#[bowline::test(start_paused = true, allow_adoption)]
async fn a_phase_has_its_turn_until_adopted_tasks_are_gone_too() {
    let log = Log::default();
    scope("service", async |s| {
        s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", Duration::ZERO)));
        let noted = log.clone();
        let workers = drain_phase("workers").run(async {
            let inner = scope("inner", async |s| {
                // Its destructor takes three polls of others.
                s.spawn_blocking("cleans up", move || {
                    while !bowline::is_cancelled() {
                        std::thread::yield_now();
                    }
                    noted.note("cleaned up");
                    Ok(())
                });
                std::future::pending::<Result<(), Cancelled>>().await
            });
            bowline::race(draining(), inner).await;
            Ok(())
        });
        s.spawn("workers", workers);
        tokio::task::yield_now().await;
        log.begin();
        shut_down("enough");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let names: Vec<_> = log.entries().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["cleaned up", "store"]);
}

// ---- the time

/// vector#11405: at shutdown the sources take all of the time, and sinks are not flushed.
#[test]
fn a_phase_that_overruns_its_share_does_not_take_the_time_of_the_next() {
    let log = Log::default();
    let noted = log.clone();
    let (value, report) = runner().run_paused(async move {
        scope("topology", async |s| {
            s.spawn("sink", drain_phase("sinks").run(finishes(log.clone(), "flush", secs(15))));
            s.spawn("source", drain_phase("sources").run(finishes(log.clone(), "stop", secs(3600))));
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(
        value,
        Some(Ok(())),
        "the source that was cut off does not fail the scope it shares with the sink"
    );
    // Half of 32 s less the tenth that is for cleaning up, which it does not need.
    assert_eq!(noted.entries(), [(0.0, "stop"), (14.4, "flush")]);
    assert_eq!(turns(&report), [("sources", 14, true), ("sinks", 15, false)]);
    let [cut_off] = &report.cut_off[..] else { panic!("{report}") };
    assert_eq!((cut_off.path.as_str(), cut_off.drain_phase), ("main/source", Some("sources")));
    assert!(!report.is_clean());
    let said = report.to_string();
    assert!(said.contains("drained `sources` 14.4 s (cut off), `sinks` 15.0 s"), "{said}");
}

#[test]
fn what_a_phase_does_not_use_is_left_to_the_others() {
    let log = Log::default();
    let (_, report) = runner().run_paused(async move {
        scope("service", async |s| {
            // 10 s of 32 would be its even share.
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(27))));
            s.spawn("worker", drain_phase("workers").run(finishes(log.clone(), "worker", secs(1))));
            s.spawn("accept", drain_phase("accept").run(finishes(log.clone(), "accept", secs(0))));
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.took, secs(28));
}

#[test]
fn a_declared_weight_gives_a_phase_more_of_the_time() {
    let log = Log::default();
    let (_, report) = runner().drain_phase("requests", 3).run_paused(async move {
        scope("service", async |s| {
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(3600))));
            s.spawn("request", drain_phase("requests").run(finishes(log.clone(), "request", secs(3600))));
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    // Nine tenths of 24 s, and of what is left then.
    assert_eq!(turns(&report), [("requests", 21, true), ("store", 9, true)]);
    assert_eq!(report.cut_off.len(), 2, "{report}");
}

#[test]
fn what_is_cut_off_gets_a_tenth_of_its_time_to_clean_up_before_the_next_phase_begins() {
    let log = Log::default();
    let noted = log.clone();
    let (_, report) = runner().run_paused(async move {
        scope("service", async |s| {
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(0))));
            let log_here = log.clone();
            s.spawn(
                "worker",
                drain_phase("workers").run(async move {
                    let why = bowline::cancelled().await;
                    assert_eq!(why.cause(), &Cause::Shutdown(Phase::Draining));
                    shielded(secs(3600), sleep(secs(1))).await.ok();
                    log_here.note("cleaned up");
                    Err::<(), _>(why)
                }),
            );
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(noted.entries(), [(15.4, "cleaned up"), (15.4, "store")]);
    assert!(report.stragglers.is_empty(), "{report}");
}

#[test]
fn a_member_that_does_not_even_clean_up_in_time_is_left_behind_by_the_next_phase() {
    let log = Log::default();
    let noted = log.clone();
    let (_, report) = runner().run_paused(async move {
        scope("service", async |s| {
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(0))));
            let stubborn = shielded(secs(3600), std::future::pending::<Result<(), Cancelled>>());
            s.spawn("worker", drain_phase("workers").run(async { stubborn.await? }));
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(noted.entries(), [(16.0, "store")]);
    // In the end the abort takes it: at 0.95 of the budget.
    assert_eq!((report.phase, report.took), (Phase::Aborting, secs(38)));
    let cut_off: Vec<_> = report.cut_off.iter().map(|task| task.path.as_str()).collect();
    assert_eq!(cut_off, ["main/worker"], "named once");
    assert!(report.stragglers.is_empty(), "{report}");
}

#[test]
fn a_member_that_was_never_run_is_named_with_the_place_of_its_registration() {
    let (_, report) = runner().run_paused(async {
        let _forgotten: DrainPhase = drain_phase("forgotten");
        shut_down("enough");
        std::future::pending::<()>().await
    });
    let forgotten = &report.cut_off[0];
    assert_eq!((forgotten.path.as_str(), &forgotten.state), ("(drain phase forgotten)", &TaskState::New));
    assert!(forgotten.place.contains("tests/drain.rs:"), "{report}");
}

// ---- who takes part

/// defradb.rs#1703: the shutdown drained a snapshot of the tasks, and those registered later escaped.
#[test]
fn who_registers_while_its_phase_has_its_turn_is_waited_for() {
    let log = Log::default();
    let noted = log.clone();
    let (_, report) = runner().run_paused(async move {
        scope("service", async |s| {
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(0))));
            let (here, log_here) = (s.handle(), log.clone());
            s.spawn(
                "worker",
                drain_phase("workers").run(async move {
                    draining().await;
                    let late = drain_phase("workers").run(finishes(log_here, "late worker", secs(5)));
                    let _late = here.spawn("late", late).unwrap();
                    Ok(())
                }),
            );
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(noted.entries(), [(0.0, "late worker"), (5.0, "store")]);
    assert!(report.is_clean(), "{report}");
}

/// axum-server#40: an upgraded connection leaves the drain set, and the server is gone before it is.
#[test]
fn an_upgraded_connection_is_a_task_of_the_same_phase() {
    let log = Log::default();
    let noted = log.clone();
    let (_, report) = runner().run_paused(async move {
        scope("service", async |s| {
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(0))));
            let log_here = log.clone();
            s.spawn(
                "http",
                drain_phase("connections").run(async move {
                    let _ = group("connections", Discard, async |g| {
                        let upgrades = g.handle();
                        // The request is answered with "switching protocols", and its task ends; the socket lives on in another.
                        g.spawn("request", async move {
                            let socket = finishes(log_here, "close frame", secs(4));
                            upgrades.spawn("upgraded", socket).expect("the group is open");
                            Ok(())
                        });
                    })
                    .await;
                    Ok(())
                }),
            );
            tokio::task::yield_now().await;
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(noted.entries(), [(0.0, "close frame"), (4.0, "store")]);
    assert!(report.is_clean(), "{report}");
}

/// axum#2673, hyper#2787: a stream that waits for an event that never comes holds up the end.
/// hyper#3576: so does a browser's idle second connection.
#[test]
fn streams_that_do_not_listen_for_the_drain_are_cut_off_with_their_phase_and_named() {
    let log = Log::default();
    let (_, report) = runner().run_paused(async move {
        scope("service", async |s| {
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(0))));
            s.spawn(
                "http",
                drain_phase("connections").run(async {
                    let _ = group("connections", Discard, async |g| {
                        g.spawn("event stream", std::future::pending::<Result<(), Cancelled>>());
                        g.spawn("idle", std::future::pending());
                    })
                    .await;
                    Ok(())
                }),
            );
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    let cut_off: Vec<_> = report.cut_off.iter().map(|task| task.path.as_str()).collect();
    assert_eq!(cut_off, ["main/http/event stream", "main/http/idle"]);
    assert!(report.stragglers.is_empty() && report.took < secs(15), "{report}");
}

/// axum-server#114: a race in the watcher of connections, and one of them is never counted out.
#[bowline::test(start_paused = true)]
async fn a_member_dropped_at_any_of_its_awaits_is_counted_out() {
    let counted_out = AtomicUsize::new(0);
    for polls in 0..6 {
        let member = drain_phase("connections");
        let mut connection = Box::pin(member.run(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            scope("inner", async |_| Ok::<_, Cancelled>(())).await
        }));
        for _ in 0..polls {
            let ended =
                std::future::poll_fn(|cx| std::task::Poll::Ready(connection.as_mut().poll(cx).is_ready()));
            if ended.await {
                counted_out.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        drop(connection);
    }
    assert_eq!(counted_out.load(Ordering::Relaxed), 1, "the last round comes to its end");
    // Registered first, so last in order: its turn comes only if the phase above has no member left.
    let store = drain_phase("store");
    let connections = drain_phase("connections");
    drop(connections);
    shut_down("enough");
    bowline::timeout(
        secs(3600),
        store.run(async {
            draining().await;
            Ok::<_, Cancelled>(())
        }),
    )
    .await
    .expect("its turn comes")
    .unwrap();
}

#[test]
fn main_may_return_before_the_phases_of_foreign_tasks_are_over() {
    let log = Log::default();
    let noted = log.clone();
    let (value, report) = runner().run_paused(async move {
        log.begin();
        let handler = drain_phase("handlers").run(finishes(log.clone(), "handler", secs(2)));
        #[expect(clippy::disallowed_methods, reason = "a framework's handler is what this is about")]
        tokio::spawn(handler);
        7
    });
    assert_eq!((value, report.took), (Some(7), secs(2)));
    assert_eq!(noted.entries(), [(0.0, "handler")]);
    assert!(report.is_clean(), "{report}");
}

#[test]
fn what_stands_still_in_a_foreign_task_is_named_by_its_phase() {
    let (_, report) = runner().run_paused(async {
        let handler = drain_phase("handlers").run(std::future::pending::<Result<(), Cancelled>>());
        #[expect(clippy::disallowed_methods, reason = "a framework's handler is what this is about")]
        tokio::spawn(handler);
        tokio::task::yield_now().await;
    });
    let [handler] = &report.cut_off[..] else { panic!("{report}") };
    assert_eq!((handler.path.as_str(), handler.drain_phase), ("handlers", Some("handlers")));
}

#[bowline::test]
async fn a_phase_stands_in_the_tree() {
    scope("service", async |s| {
        s.spawn(
            "store",
            drain_phase("store").run(async {
                draining().await;
                Ok(())
            }),
        );
        tokio::task::yield_now().await;
        let tree = bowline::tree().to_string();
        assert!(tree.contains("[drain phase] store") && tree.contains("waiting for the drain"), "{tree}");
        shut_down("enough");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- blockers

type Seen = Arc<Mutex<Vec<Blockers>>>;

fn watched(seen: &Seen) -> Runner {
    let seen = Arc::clone(seen);
    Runner::new("test").shutdown_within(secs(9)).on_blockers(move |blockers| {
        seen.lock().unwrap().push(blockers.clone());
    })
}

/// vector#6859: a sink waits for its retries, the topology for the sink, and the killed process says nothing of it.
/// omicron#10668: two connections were held for 45 minutes, found because a view lists each holder and its age.
#[test]
fn from_half_of_the_budget_on_the_deepest_of_those_that_hold_up_the_end_are_told_every_second() {
    let seen = Seen::default();
    let (_, report) = watched(&seen).run_paused(async {
        scope("topology", async |s| {
            s.spawn("sink", async {
                scope("sink", async |s| {
                    s.spawn("retry", std::future::pending::<Result<(), Cancelled>>());
                    Ok::<_, Cancelled>(())
                })
                .await
            });
            shut_down("enough");
            draining().await;
            Ok::<_, Cancelled>(())
        })
        .await
    });
    let seen = seen.lock().unwrap();
    let at: Vec<_> = seen.iter().map(|blockers| (blockers.elapsed, blockers.phase)).collect();
    let draining = |at| (Duration::from_millis(at), Phase::Draining);
    assert_eq!(at, [draining(4_500), draining(5_500), draining(6_500)], "and then it was cancelled");
    let [retry] = &seen[0].tasks[..] else { panic!("{:?}", seen[0]) };
    assert_eq!((retry.path.as_str(), &retry.state), ("main/sink/retry", &TaskState::Parked));
    let said = seen[0].to_string();
    assert!(
        said.starts_with(
            "enough: draining after 4.5 of 9.0 s, waiting for 1 task:\n  task `main/sink/retry` spawned at "
        ),
        "{said}"
    );
    assert!(said.contains("tests/drain.rs:") && said.contains(" s old"), "{said}");
    assert_eq!(report.cut_off[0].path, "main/sink/retry");
    let data = serde_json::to_value(&seen[0]).unwrap();
    assert_eq!((&data["phase"], &data["elapsed_ms"]), (&"draining".into(), &4_500.into()));
}

#[test]
fn in_the_turn_of_a_phase_only_its_members_are_blamed() {
    let seen = Seen::default();
    let log = Log::default();
    let (_, _) = watched(&seen).drain_phase("connections", 20).run_paused(async move {
        scope("service", async |s| {
            s.spawn("store", drain_phase("store").run(finishes(log.clone(), "store", secs(0))));
            s.spawn(
                "connection",
                drain_phase("connections")
                    .run(async { std::future::pending::<Result<(), Cancelled>>().await }),
            );
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty());
    for blockers in &*seen {
        assert_eq!(blockers.drain_phase, Some("connections"));
        let paths: Vec<_> = blockers.tasks.iter().map(|task| task.path.as_str()).collect();
        assert_eq!(paths, ["main/connection"]);
        assert!(blockers.to_string().contains("draining `connections` after"), "{blockers}");
    }
}

#[test]
fn a_daemon_is_not_blamed_for_those_whom_it_serves() {
    let seen = Seen::default();
    let (_, report) = watched(&seen).run_paused(async {
        scope("service", async |s| {
            s.spawn_daemon("log", std::future::pending());
            s.spawn("request", std::future::pending::<Result<(), Cancelled>>());
            shut_down("enough");
            draining().await;
            Ok::<_, Cancelled>(())
        })
        .await
    });
    let seen = seen.lock().unwrap();
    let named = seen.iter().map(|blockers| &blockers.tasks).chain([&report.cut_off]).flatten();
    let named: Vec<_> = named.map(|task| task.path.as_str()).collect();
    assert_eq!(named, ["main/request"; 4], "three times while draining, and in the report");
}

#[test]
fn a_hook_that_panics_does_not_hold_up_the_end() {
    let runner = Runner::new("test").shutdown_within(secs(10)).on_blockers(|_| panic!("in the hook"));
    let (_, report) = runner.run_paused(async {
        shut_down("enough");
        draining().await;
        std::future::pending::<()>().await
    });
    assert_eq!((report.took, report.cut_off.len()), (secs(8), 1));
}

#[test]
fn the_report_is_data() {
    let log = Log::default();
    let (_, report) = runner().run_paused(async move {
        scope("service", async |s| {
            s.spawn("sink", drain_phase("sinks").run(finishes(log.clone(), "flush", secs(3600))));
            log.begin();
            shut_down("enough");
            Ok::<_, Cancelled>(())
        })
        .await
    });
    let data = serde_json::to_value(&report).unwrap();
    assert_eq!((&data["exit_code"], &data["is_clean"]), (&3.into(), &false.into()));
    assert_eq!(data["reason"], serde_json::json!({"requested": "enough"}));
    let turn = serde_json::json!({"phase": "draining", "drain_phase": "sinks", "took_ms": 28_800, "is_cut_off": true});
    assert_eq!(data["phases"][0], turn);
    assert_eq!(
        (&data["cut_off"][0]["path"], &data["cut_off"][0]["drain_phase"]),
        (&"main/sink".into(), &"sinks".into())
    );
}
