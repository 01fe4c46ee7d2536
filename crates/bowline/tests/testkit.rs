//! The test kit: schedules by seed, the capacity sweep, the time limit, panics nobody was told of, and cutting at every await.
//! Tests that must fail run inside of these, or in a process of their own.

mod support;

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use bowline::testing::harness::{self, Options, TestOutput};
use bowline::testing::{self, cancel_everywhere};
use bowline::{Bound, Cancelled, Overflow, scope};
use support::yield_now;

const OPTIONS: Options = Options::new("inner");
/// For tests that hang: long enough for what comes before on a busy machine.
const SHORT: Duration = Duration::from_millis(500);

fn message(failed: Box<dyn Any + Send>) -> String {
    failed.downcast::<String>().map_or_else(|_| "(not a string)".to_owned(), |text| *text)
}

/// Runs a test inside of this one and returns its failure.
fn failure<F: Future<Output: TestOutput>>(options: Options, body: impl Fn() -> F) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| harness::test(options, body))).err().map(message)
}

#[expect(clippy::disallowed_methods, reason = "bare tasks are what this is about")]
fn bare<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}

// ---- schedules

type Order = Arc<Mutex<Vec<(u32, u32)>>>;

/// Tasks that hand numbers through a queue and pass timers; who did what when goes into `order`.
async fn crowd(order: Order) {
    scope("crowd", async |s| {
        let (tx, rx) = s.queue("numbers", Bound::items(2), Overflow::Block);
        for task in 0..4 {
            let order = Arc::clone(&order);
            s.spawn_with("send", tx.clone(), async move |_cx, tx| {
                for step in 0..4 {
                    order.lock().unwrap().push((task, step));
                    tx.send((task, step)).await.ok();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(())
            });
        }
        drop(tx);
        while let Some((task, step)) = rx.recv().await? {
            order.lock().unwrap().push((10 + task, step));
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

fn order_under(seed: u64) -> Vec<(u32, u32)> {
    let order = Order::default();
    let seen = Arc::clone(&order);
    harness::run(Options { seed, start_paused: true, ..OPTIONS }, async move {
        assert_eq!(testing::seed(), seed);
        crowd(order).await;
    });
    let order = seen.lock().unwrap().clone();
    assert_eq!(order.len(), 32);
    order
}

#[test]
fn the_same_seed_is_the_same_run_to_the_last_message() {
    for seed in 0..50 {
        assert_eq!(order_under(seed), order_under(seed), "seed {seed}");
    }
}

#[test]
fn other_seeds_are_other_orders() {
    let orders: HashSet<_> = (0..50).map(order_under).collect();
    assert!(orders.len() > 40, "{} orders of 50 seeds", orders.len());
}

#[test]
fn tests_side_by_side_do_not_disturb_each_others_schedules() {
    let alone: Vec<_> = (0..20).map(order_under).collect();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| assert_eq!((0..20).map(order_under).collect::<Vec<_>>(), alone));
        }
    });
}

/// A classic: read, await, write. The await never waits here, so on one thread the bug does not show by itself.
async fn withdraw_twice() {
    let balance = Arc::new(Mutex::new(2));
    scope("bank", async |s| {
        let (tx, rx) = s.queue("audit", Bound::items(8), Overflow::Block);
        for _ in 0..2 {
            let balance = Arc::clone(&balance);
            s.spawn_with("withdraw", tx.clone(), async move |_cx, audit| {
                let before = *balance.lock().unwrap();
                audit.send(before).await.ok();
                *balance.lock().unwrap() = before - 1;
                Ok(())
            });
        }
        drop(tx);
        while rx.recv().await?.is_some() {}
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(*balance.lock().unwrap(), 0, "money was made");
}

#[test]
fn a_race_that_tokios_order_hides_is_found_and_its_seed_replays_it() {
    assert_eq!(failure(OPTIONS, withdraw_twice), None);
    let text = failure(Options { schedules: 50, ..OPTIONS }, withdraw_twice).expect("some schedule shows it");
    assert!(text.contains("money was made"), "{text}");
    let seed = text.split("BOWLINE_SEED=").nth(1).expect("it says how to replay it");
    let seed: u64 = seed.split(' ').next().unwrap().parse().unwrap();
    assert!((1..50).contains(&seed) && text.contains("cargo test inner"), "{text}");
    for seed in 0..seed {
        harness::run(Options { seed, ..OPTIONS }, withdraw_twice());
    }
    for _ in 0..2 {
        let replayed = catch_unwind(|| harness::run(Options { seed, ..OPTIONS }, withdraw_twice()));
        assert_eq!(message(replayed.unwrap_err()), text);
    }
}

/// The same with a lock that is let go between reading and writing; it is never contended in tokio's order.
async fn count_twice() {
    let count = Arc::new(bowline::Mutex::new("count", 0));
    scope("counters", async |s| {
        for _ in 0..2 {
            let count = Arc::clone(&count);
            s.spawn("count", async move {
                let before = count.with(|count| *count).await?;
                count.with(|count| *count = before + 1).await
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(count.with(|count| *count).await, Ok(2), "one was lost");
}

#[test]
fn a_lock_that_is_let_go_too_early_is_found_although_nobody_ever_waits_for_it() {
    assert_eq!(failure(OPTIONS, count_twice), None);
    let text = failure(Options { schedules: 50, ..OPTIONS }, count_twice).expect("some schedule shows it");
    assert!(text.contains("one was lost"), "{text}");
}

#[test]
fn an_error_that_a_schedule_returns_fails_the_test() {
    let text = failure(Options { schedules: 3, ..OPTIONS }, async || {
        if testing::seed() == 2 { Err("on the third") } else { Ok(()) }
    });
    let text = text.expect("one of them fails");
    assert!(text.starts_with("test `inner` returned an error: \"on the third\""), "{text}");
    assert!(text.contains("seed 2"), "{text}");
}

#[bowline::test(schedules = 20, capacity_one, start_paused = true, timeout_secs = 10)]
async fn the_attribute_takes_all_of_it() -> Result<(), Cancelled> {
    assert!(testing::seed() < 20);
    crowd(Order::default()).await;
    bowline::check()
}

/// Set in a process that a test started, to the case it is to run.
const CASE: &str = "TESTKIT_CASE";

/// Runs one of this file's tests in a process of its own and returns whether it succeeded, and all it printed.
fn child(test: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CASE, test)
        .env_remove("BOWLINE_SEED")
        .env_remove("BOWLINE_SCHEDULES")
        .env_remove("BOWLINE_TIMEOUT_SECS")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

fn is_child() -> bool {
    std::env::var(CASE).is_ok()
}

/// Only in a process of its own: says which seeds it saw.
#[bowline::test(schedules = 3)]
async fn child_that_says_its_seed() {
    if is_child() {
        println!("<{}>", testing::seed());
    }
}

#[test]
fn the_environment_chooses_the_schedules() {
    let seeds = |variables: &[(&str, &str)]| {
        let (succeeded, text) = child("child_that_says_its_seed", variables);
        assert!(succeeded, "{text}");
        let seeds = text.split('<').skip(1).filter_map(|rest| rest.split('>').next()?.parse().ok());
        seeds.collect::<Vec<u64>>()
    };
    assert_eq!(seeds(&[]), [0, 1, 2]);
    assert_eq!(seeds(&[("BOWLINE_SEED", "7")]), [7]);
    assert_eq!(seeds(&[("BOWLINE_SCHEDULES", "5")]), [0, 1, 2, 3, 4]);
    let (succeeded, text) = child("child_that_says_its_seed", &[("BOWLINE_SEED", "seven")]);
    assert!(!succeeded && text.contains("BOWLINE_SEED is to be a whole number, and not `seven`"), "{text}");
}

// ---- capacity one

/// Two tasks that first send each other two items and then receive them: fine with room for two.
async fn ring() {
    scope("ring", async |s| {
        let (to_left, left) = s.queue("to the left", Bound::items(8), Overflow::Block);
        let (to_right, right) = s.queue("to the right", Bound::items(8), Overflow::Block);
        for (name, ends) in [("left", (to_right, left)), ("right", (to_left, right))] {
            s.spawn_with(name, ends, async |_cx, (tx, rx)| {
                for item in 0..2 {
                    tx.send(item).await.ok();
                }
                drop(tx);
                while rx.recv().await?.is_some() {}
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// linera-protocol#2176: bounded queues are wanted and cycles are feared; it asks for a test mode of minimal capacity.
#[test]
fn a_cycle_of_queues_that_room_hides_stands_still_at_capacity_one_and_is_named() {
    assert_eq!(failure(OPTIONS, ring), None);
    let text =
        failure(Options { capacity_one: true, limit: SHORT, ..OPTIONS }, ring).expect("it stands still");
    // As other tests run besides, or do not, it is proved or its time is over.
    let is_named = |what: &str| text.matches(what).count() == 2;
    assert!(is_named("waiting to send") || is_named("    send `"), "{text}");
    assert!(text.contains("every queue at capacity one"), "{text}");
}

#[test]
fn the_sweep_runs_the_body_with_its_own_bounds_first() {
    let seen = Mutex::new(Vec::new());
    let failure = failure(Options { capacity_one: true, schedules: 2, ..OPTIONS }, || async {
        scope("sees", async |s| {
            let (tx, _rx) = s.queue::<u8>("queue", Bound::items(5), Overflow::Reject);
            let inside = s.spawn("task", async {
                scope("inside", async |s| {
                    let (tx, _rx) = s.queue::<u8>("queue", Bound::items(7), Overflow::Reject);
                    Ok::<_, Cancelled>(tx.stats().max_items)
                })
                .await
            });
            let inside = inside.await?;
            seen.lock().unwrap().push((testing::seed(), tx.stats().max_items, inside));
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(failure, None);
    assert_eq!(*seen.lock().unwrap(), [(0, 5, 7), (1, 5, 7), (0, 1, 1), (1, 1, 1)]);
}

// ---- the time limit

#[test]
fn a_test_that_hangs_fails_with_the_tree_and_what_everybody_waits_for() {
    for worker_threads in [None, Some(2)] {
        let text = failure(Options { limit: SHORT, worker_threads, ..OPTIONS }, || async {
            scope("waits", async |s| {
                let (tx, rx) = s.queue::<u8>("never", Bound::items(1), Overflow::Block);
                s.spawn_with("receiver", rx, async |_cx, rx| {
                    rx.recv().await?;
                    Ok(())
                });
                // The timer: what has none, and stands still, is not waited for.
                let end = tokio::time::sleep(Duration::from_secs(3_600)).await;
                drop(tx);
                Ok::<_, Cancelled>(end)
            })
            .await
        });
        let text = text.expect("it hangs");
        assert!(text.starts_with("test `inner` did not end within 500ms; this lived then:"), "{text}");
        assert!(text.contains("receiver #") && text.contains("waiting to recv #"), "{text}");
        assert!(text.contains("the test's own body: parked"), "{text}");
    }
}

/// scylla-rust-driver#1436: a panic in a spawned task leaves the test waiting for ever for what the task was to do.
#[test]
fn a_test_that_waits_for_a_task_that_panicked_fails_and_says_so() {
    let text = failure(OPTIONS, || async {
        let (done, wait) = tokio::sync::oneshot::channel::<()>();
        let kept = Arc::new(Mutex::new(Some(done))); // somebody else keeps the sender alive
        let task = Arc::clone(&kept);
        bare(async move {
            assert!(task.lock().is_err(), "the row was not there");
        });
        wait.await.ok();
        drop(kept);
    });
    let text = text.expect("it hangs");
    assert!(!cfg!(target_os = "linux") || text.contains("stands still for ever"), "{text}");
    assert!(text.contains("a bare tokio task panicked at crates/bowline/tests/testkit.rs"), "{text}");
    assert!(text.contains("the row was not there"), "{text}");
    // In a scope there is nothing to wait for: the panic ends the body, and with it the test.
    let text = failure(OPTIONS, || {
        scope("owner", async |s| {
            s.spawn::<(), _>("inserts", async { panic!("the row was not there") });
            std::future::pending::<Result<(), Cancelled>>().await
        })
    });
    let text = text.expect("it panics");
    assert!(text.contains("task `inserts` panicked") && !text.contains("did not end"), "{text}");
}

/// Only in a process of its own: computes for much longer than it may.
#[test]
fn child_that_never_awaits() {
    if is_child() {
        harness::run(Options { limit: SHORT, ..OPTIONS }, async {
            let started = tokio::time::Instant::now();
            while started.elapsed() < 20 * SHORT {
                std::hint::spin_loop();
            }
        });
    }
}

#[test]
fn a_test_stuck_in_code_that_does_not_await_ends_the_process_and_says_why() {
    let (succeeded, text) = child("child_that_never_awaits", &[]);
    assert!(!succeeded);
    assert!(text.contains("test `inner` did not end within 500ms"), "{text}");
    assert!(text.contains("the test's own body: running"), "{text}");
    assert!(text.contains("stuck in code that does not await"), "{text}");
}

#[test]
fn the_environment_sets_the_limit() {
    let (succeeded, text) = child("child_that_hangs", &[("BOWLINE_TIMEOUT_SECS", "1")]);
    assert!(!succeeded && text.contains("test `child_that_hangs` did not end within 1s"), "{text}");
}

/// Only in a process of its own: waits for longer than anybody does.
#[bowline::test(timeout_secs = 600)]
async fn child_that_hangs() {
    if is_child() {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
}

/// quickwit#3742: whoever waits for work is idle, not stuck.
#[bowline::test(start_paused = true, timeout_secs = 10)]
async fn an_actor_that_is_idle_for_a_day_is_neither_stuck_nor_leaked() {
    scope("actor", async |s| {
        let (tx, rx) = s.queue("mailbox", Bound::items(4), Overflow::Block);
        let actor = s.spawn_with("actor", rx, async |_cx, rx| {
            let mut count = 0;
            while let Some(amount) = rx.recv().await? {
                count += amount;
            }
            Ok(count)
        });
        for _ in 0..24 {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            tx.try_send(1).unwrap();
        }
        drop(tx);
        assert_eq!(actor.await?, 24);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- panics

#[test]
fn a_panic_of_any_child_fails_the_test() {
    for worker_threads in [None, Some(2)] {
        let text = failure(Options { worker_threads, ..OPTIONS }, || {
            scope("outer", async |s| {
                s.spawn("inner", async {
                    scope("deep", async |s| {
                        s.spawn::<(), _>("deepest", async { panic!("down here") });
                        Ok::<_, Cancelled>(())
                    })
                    .await
                });
                Ok::<_, Cancelled>(())
            })
        });
        let text = text.expect("it panics");
        assert!(text.contains("task `inner/deepest` panicked") && text.contains("down here"), "{text}");
    }
}

#[test]
fn a_bare_task_that_panicked_fails_the_test_unless_it_says_that_it_does() {
    for (worker_threads, allow_panics) in [(None, false), (Some(2), false), (None, true), (Some(2), true)] {
        let failure = failure(Options { worker_threads, allow_panics, ..OPTIONS }, || async {
            let first = bare(async { panic!("nobody hears") });
            let second = bare(async { panic!("nor this") });
            while !first.is_finished() || !second.is_finished() {
                yield_now(1).await;
            }
        });
        match failure {
            Some(text) => {
                assert!(
                    text.contains("a bare tokio task panicked at crates/bowline/tests/testkit.rs"),
                    "{text}"
                );
                assert!(text.contains("nobody hears") || text.contains("nor this"), "{text}");
                assert!(text.contains("(and 1 more)") && !allow_panics, "{text}");
            }
            None => assert!(allow_panics),
        }
    }
}

#[test]
fn a_panic_in_a_group_that_keeps_no_results_fails_the_test_unless_it_was_expected() {
    let spawned = |panics: fn()| {
        failure(OPTIONS, async || {
            let ended = bowline::group("connections", bowline::Discard, async |g| {
                g.spawn("connection", async move {
                    panics();
                    Ok::<_, Cancelled>(())
                });
            });
            assert_eq!(ended.await.counts().panicked, 1);
        })
    };
    let text = spawned(|| panic!("nobody looks")).expect("it panics");
    assert!(text.contains("had a panic that nobody is told of: task `connection` panicked at"), "{text}");
    assert_eq!(spawned(|| bowline::bad_input("of a stranger")), None);
}

#[test]
fn a_panic_that_the_test_catches_itself_does_not_fail_it() {
    let failure = failure(OPTIONS, || async {
        assert!(catch_unwind(|| panic!("expected")).is_err());
        let ended = scope("inner", async |s| {
            let caught = s.spawn("catches", async { Ok(catch_unwind(|| panic!("expected")).is_err()) });
            caught.await
        });
        assert_eq!(ended.await, Ok(true));
    });
    assert_eq!(failure, None);
}

// ---- attribution

/// uber-go/goleak: with `t.Parallel()` it cannot tell which test a goroutine belongs to.
#[test]
fn tests_side_by_side_are_told_apart_when_some_of_them_leak() {
    const NAMES: [&str; 8] = ["ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple"];
    let together = Barrier::new(NAMES.len());
    let test = &|at: usize| {
        failure(OPTIONS, || async {
            let leaks = at / 2;
            let mut forgotten = Box::pin(scope(NAMES[at], async |s| {
                for _ in 0..leaks {
                    s.spawn(NAMES[at], std::future::pending::<Result<(), Cancelled>>());
                }
                std::future::pending::<Result<(), Cancelled>>().await
            }));
            for _ in 0..leaks {
                bare(std::future::pending::<()>());
            }
            assert!(testing::poll_once(&mut forgotten).await.is_pending());
            if leaks > 0 {
                std::mem::forget(forgotten);
            }
            together.wait(); // everybody's leaks live before anybody looks for them
        })
    };
    std::thread::scope(|threads| {
        let tests: Vec<_> = (0..NAMES.len()).map(|at| threads.spawn(move || test(at))).collect();
        for (at, test) in tests.into_iter().enumerate() {
            let (leaks, text) = (at / 2, test.join().unwrap());
            let Some(text) = text else {
                assert_eq!(leaks, 0);
                continue;
            };
            assert!(text.contains(&format!(" {leaks} bare tokio task(s)")), "{text}");
            assert!(text.contains(&format!(" {leaks} of bowline's")), "{text}");
            let named: Vec<_> = NAMES.iter().filter(|name| text.contains(&format!("{name} #"))).collect();
            assert_eq!(named, [&NAMES[at]], "{text}");
        }
    });
}

// ---- cutting

/// mdk#712: taken from one queue, then waiting for room in the next: dropped there, the message is lost.
#[bowline::test]
async fn a_forward_that_loses_its_item_is_caught_by_cutting_it_everywhere() {
    async fn lost(reserve_first: bool) -> usize {
        scope("forward", async |s| {
            let (inbox, taken) = s.queue("inbox", Bound::items(1), Overflow::Block);
            let (outbox, sent) = s.queue("outbox", Bound::items(1), Overflow::Block);
            let mut lost = 0;
            let make = || async {
                inbox.try_send(7).unwrap();
                outbox.try_send(6).unwrap();
                let forward = async {
                    if reserve_first {
                        let room = outbox.reserve().await.unwrap();
                        room.send(taken.recv().await.unwrap().unwrap()).unwrap();
                    } else {
                        outbox.send(taken.recv().await.unwrap().unwrap()).await.unwrap();
                    }
                };
                let make_room = async {
                    yield_now(2).await;
                    sent.try_recv().unwrap();
                };
                futures_util::future::join(forward, make_room).await;
            };
            let polls = cancel_everywhere(make, async |_polls, _output| {
                let left = [taken.try_recv(), sent.try_recv(), sent.try_recv()];
                lost += usize::from(!left.contains(&Ok(7)));
            });
            assert!(polls.await > 2);
            Ok::<_, Cancelled>(lost)
        })
        .await
        .unwrap()
    }
    assert_eq!(lost(true).await, 0);
    assert!(lost(false).await > 0);
}
