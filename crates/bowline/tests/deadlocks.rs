//! Deadlocks proved: each with twins that are alive, mended or only slow, and of which nothing is said.

use std::sync::Arc;
use std::time::Duration;

use bowline::testing::deadlocks_now;
use bowline::{
    AlertKind, Bound, Cancelled, Cause, Deadlock, DeadlockKind, DeadlockPolicy, Explanation, Mutex, Overflow,
    Runner, RwLock, Scope, Semaphore, Tier, Verdict, deadlocks, explain, scope,
};

type Play = Scope<Cancelled>;

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Lets everybody come to rest: a clock that is paused goes on when nobody has anything to do.
async fn rest() {
    let _ = bowline::sleep(Duration::from_millis(1)).await;
}

/// The end of a task: what it held goes.
fn done<T>(_: T) -> Result<(), Cancelled> {
    Ok(())
}

fn sorted(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

/// Who stands still.
fn dead(found: &Deadlock) -> Vec<&'static str> {
    sorted(found.tasks.iter().map(|task| task.name))
}

/// Who of them causes it.
fn causes(found: &Deadlock) -> Vec<&'static str> {
    sorted(found.tasks.iter().filter(|task| task.is_cause).map(|task| task.name))
}

/// The only deadlock there is.
fn one(found: Vec<Deadlock>) -> Deadlock {
    assert_eq!(found.len(), 1, "{}", found.iter().map(ToString::to_string).collect::<String>());
    println!("{}", found[0]);
    found.into_iter().next().unwrap()
}

/// What is proved of a scope with these tasks when it has come to rest.
macro_rules! proved {
    (|$s:ident| $tasks:expr) => {{
        let mut found = Vec::new();
        let _ = scope("play", async |$s: &Play| {
            $tasks;
            rest().await;
            found = deadlocks_now();
            $s.cancel("seen");
            Ok(())
        })
        .await;
        found
    }};
}

fn queue_of_one(s: &Play) -> (bowline::Tx<'_, u32>, bowline::Rx<'_, u32>) {
    s.queue("queue", Bound::items(1), Overflow::Block)
}

// ---- locks

struct Pair {
    left: Mutex<()>,
    right: Mutex<()>,
}

impl Pair {
    fn new() -> Self {
        Self { left: Mutex::new("left", ()), right: Mutex::new("right", ()) }
    }
}

/// One takes left, then right; the other as it is told. In between something happens that takes a moment, or a day.
async fn crossed(turned: bool, pause: Duration) -> Vec<Deadlock> {
    proved!(|s| {
        let pair = s.cx().share("pair", Pair::new());
        for (name, turned) in [("a", false), ("b", turned)] {
            s.spawn_with(name, pair.clone(), async move |_cx, pair| {
                let (first, second) =
                    if turned { (&pair.right, &pair.left) } else { (&pair.left, &pair.right) };
                let _first = first.lock().await?;
                tokio::task::yield_now().await;
                if pause > Duration::ZERO {
                    bowline::sleep(pause).await?;
                }
                let _second = second.lock().await?;
                Ok(())
            });
        }
        drop(pair);
    })
}

#[bowline::test(start_paused = true)]
async fn locks_taken_in_opposite_order_are_a_cycle() {
    let found = one(crossed(true, Duration::ZERO).await);
    assert_eq!((found.kind, found.tier, causes(&found)), (DeadlockKind::Cycle, Tier::Exact, vec!["a", "b"]));
    let held: Vec<_> = found.resources.iter().map(|lock| lock.name).collect();
    assert_eq!((held, found.effects.permits_held), (vec!["left", "right"], 2));
    let wait = &found.tasks[0].waits[0];
    assert_eq!(wait.op, "lock");
    assert!(wait.why[0].contains("which stands still"), "{:?}", wait.why);
    // The scope's owner runs, and could cancel it.
    assert!(matches!(found.verdict, Verdict::OnlyCancel { .. }));
}

#[bowline::test(start_paused = true)]
async fn locks_taken_in_one_order_or_by_somebody_who_sleeps_are_none() {
    assert!(crossed(false, Duration::ZERO).await.is_empty());
    assert!(crossed(true, A_DAY).await.is_empty(), "each holds one, and sleeps");
}

#[bowline::test(start_paused = true)]
async fn a_lock_taken_twice_waits_for_itself() {
    let found = one(proved!(|s| {
        let lock = s.cx().share("lock", Mutex::new("lock", ()));
        s.spawn_with("twice", lock, async |_cx, lock| {
            let _once = lock.lock().await?;
            let _twice = lock.lock().await?;
            Ok(())
        })
    }));
    assert_eq!((found.kind, dead(&found)), (DeadlockKind::SelfWait, vec!["twice"]));
    assert!(found.tasks[0].waits[0].why[0].starts_with("held by itself"), "{found}");
}

#[bowline::test(start_paused = true)]
async fn a_lock_taken_with_the_context_is_certain_without_a_shared_object() {
    let found = one(proved!(|s| {
        s.spawn_with("twice", (), async |cx, ()| {
            let lock = Mutex::new("lock", ());
            let _once = lock.lock_in(cx).await?;
            let _twice = lock.lock_in(cx).await?;
            Ok(())
        })
    }));
    assert_eq!((found.kind, found.tier), (DeadlockKind::SelfWait, Tier::Exact));
}

#[bowline::test(start_paused = true)]
async fn of_a_lock_that_anybody_may_hold_nothing_is_said() {
    let lock = Arc::new(Mutex::new("lock", ()));
    let found = proved!(|s| {
        s.spawn("twice", async move {
            let _once = lock.lock().await?;
            let _twice = lock.lock().await?;
            Ok(())
        })
    });
    assert!(found.is_empty());
}

#[bowline::test(start_paused = true)]
async fn of_a_shared_lock_whose_object_was_freed_nothing_is_said() {
    let found = proved!(|s| {
        let lock = s.cx().share("lock", Mutex::new("lock", ()));
        let free = lock.clone().free();
        s.spawn_with("twice", lock, async |_cx, lock| {
            let _once = lock.lock().await?;
            let _twice = lock.lock().await?;
            Ok(())
        });
        rest().await;
        assert!(deadlocks_now().is_empty());
        drop(free);
    });
    assert_eq!(one(found).kind, DeadlockKind::SelfWait, "and when that is gone it is proved");
}

/// A writer comes between a reader's two reads.
async fn read_write_read(twice: bool) -> Vec<Deadlock> {
    proved!(|s| {
        let lock = s.cx().share("lock", RwLock::new("lock", ()));
        s.spawn_with("reader", lock.clone(), async move |_cx, lock| {
            let mut first = Some(lock.read().await?);
            tokio::task::yield_now().await;
            if !twice {
                first = None;
            }
            let _second = lock.read().await?;
            drop(first);
            Ok(())
        });
        s.spawn_with("writer", lock, async |_cx, lock| {
            let _alone = lock.write().await?;
            Ok(())
        });
    })
}

#[bowline::test(start_paused = true)]
async fn a_second_read_behind_a_writer_is_a_cycle() {
    let found = one(read_write_read(true).await);
    assert_eq!((found.kind, causes(&found)), (DeadlockKind::Cycle, vec!["reader", "writer"]));
    assert!(read_write_read(false).await.is_empty());
}

#[bowline::test(start_paused = true)]
async fn permits_taken_in_pieces_by_two_are_a_cycle() {
    let with = async |permits| {
        proved!(|s| {
            let slots = s.cx().share("slots", Semaphore::new("slots", permits));
            for name in ["a", "b"] {
                s.spawn_with(name, slots.clone(), async |_cx, slots| {
                    let _one = slots.acquire(1).await;
                    tokio::task::yield_now().await;
                    let _another = slots.acquire(1).await;
                    Ok(())
                });
            }
            drop(slots);
        })
    };
    let found = one(with(2).await);
    assert_eq!((found.kind, causes(&found)), (DeadlockKind::Cycle, vec!["a", "b"]));
    assert!(with(3).await.is_empty());
}

#[bowline::test(start_paused = true)]
async fn whoever_may_add_permits_keeps_a_wait_for_them_alive() {
    let found = proved!(|s| {
        let slots = s.cx().share("slots", Semaphore::empty("slots"));
        s.spawn_with("waits", slots.clone(), async |_cx, slots| done(slots.acquire(1).await));
        rest().await;
        assert!(deadlocks_now().is_empty(), "this task could add some");
        drop(slots);
    });
    assert_eq!(dead(&one(found)), ["waits"]);
}

#[bowline::test(start_paused = true)]
async fn a_guard_that_a_task_has_forgotten_is_with_nobody() {
    let found = one(proved!(|s| {
        let lock = s.cx().share("lock", Mutex::new("lock", ()));
        let forgets = s.spawn_with("forgets", lock.clone(), async |_cx, lock| {
            std::mem::forget(lock.lock().await?);
            Ok(())
        });
        forgets.await?;
        s.spawn_with("waits", lock, async |_cx, lock| done(lock.lock().await?));
    }));
    assert_eq!((found.kind, dead(&found)), (DeadlockKind::ForgottenGuard, vec!["waits"]));
    assert!(found.tasks[0].waits[0].why[0].contains("has ended without giving it back"), "{found}");
}

// ---- ends

/// A task that waits for its own sender; `elsewhere`: another sender lies with somebody who sleeps.
async fn own_sender(elsewhere: bool) -> Vec<Deadlock> {
    proved!(|s| {
        let (tx, rx) = queue_of_one(s);
        if elsewhere {
            s.spawn_with("sleeps", tx.clone(), async |_cx, tx| {
                bowline::sleep(A_DAY).await?;
                done(tx)
            });
        }
        s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
    })
}

#[bowline::test(start_paused = true)]
async fn who_holds_the_last_sender_receives_nothing() {
    let found = one(own_sender(false).await);
    assert_eq!((found.kind, found.tier, dead(&found)), (DeadlockKind::SelfWait, Tier::Bound, vec!["waits"]));
    assert_eq!(found.tasks[0].waits[0].why, ["it holds a sender itself"]);
    assert!(own_sender(true).await.is_empty());
}

#[bowline::test(start_paused = true)]
async fn of_a_freed_sender_nothing_is_said() {
    let found = proved!(|s| {
        let (tx, rx) = queue_of_one(s);
        let free = tx.clone().free();
        s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
        rest().await;
        assert!(deadlocks_now().is_empty());
        drop(free);
    });
    assert_eq!(dead(&one(found)), ["waits"]);
}

#[bowline::test(start_paused = true)]
async fn a_full_queue_whose_receiver_waits_for_its_sender() {
    let found = one(proved!(|s| {
        let (tx, rx) = queue_of_one(s);
        let (back_tx, back_rx) = s.queue::<u32>("back", Bound::items(1), Overflow::Block);
        s.spawn_with("asks", (tx, back_rx), async |_cx, (tx, back)| {
            for n in 0..9 {
                tx.send(n).await?;
            }
            done(back)
        });
        s.spawn_with("answers", (rx, back_tx), async |_cx, (rx, back)| {
            while let Some(n) = rx.recv().await? {
                back.send(n).await?;
            }
            Ok(())
        });
    }));
    assert_eq!((found.kind, causes(&found)), (DeadlockKind::Cycle, vec!["answers", "asks"]));
    assert!(found.tasks.iter().all(|task| task.waits[0].op == "send"));
}

#[bowline::test(start_paused = true)]
async fn a_hand_over_to_nobody_who_comes() {
    let found = one(proved!(|s| {
        let (tx, rx) = s.rendezvous::<u32>("baton");
        s.spawn_with("both", (tx, rx), async |_cx, (tx, rx)| {
            let _ = tx.send(1).await;
            rx.recv().await
        });
    }));
    assert_eq!((found.kind, dead(&found)), (DeadlockKind::SelfWait, vec!["both"]));
}

#[bowline::test(start_paused = true)]
async fn a_notifier_in_the_hands_of_who_waits_for_it() {
    let with = async |elsewhere: bool| {
        proved!(|s| {
            let (bell, rung) = s.cx().notify("bell");
            if elsewhere {
                s.spawn_with("sleeps", bell.clone(), async |_cx, bell| {
                    bowline::sleep(A_DAY).await?;
                    bell.notify_one();
                    Ok(())
                });
            }
            s.spawn_with("waits", bell, async move |_cx, _bell| Ok(rung.notified().await?));
        })
    };
    let found = one(with(false).await);
    assert_eq!((found.kind, dead(&found)), (DeadlockKind::SelfWait, vec!["waits"]));
    assert!(with(true).await.is_empty());
}

#[bowline::test(start_paused = true)]
async fn one_forgotten_count_holds_a_latch_shut_whoever_has_the_others() {
    let with = async |forgets: bool| {
        proved!(|s| {
            let (count, latch) = s.cx().latch("done");
            s.spawn_with("sleeps", count.clone(), async |_cx, count| {
                bowline::sleep(A_DAY).await?;
                done(count)
            });
            let leaves = s.spawn_with("leaves", count, async move |_cx, count| {
                if forgets {
                    std::mem::forget(count);
                }
                Ok(())
            });
            leaves.await?;
            s.spawn("waits", async move { latch.wait().await });
        })
    };
    let found = one(with(true).await);
    assert_eq!((found.kind, dead(&found)), (DeadlockKind::ForgottenGuard, vec!["waits"]));
    assert!(with(false).await.is_empty());
}

#[bowline::test(start_paused = true)]
async fn two_seats_of_one_task_never_meet() {
    let found = one(proved!(|s| {
        let seats = s.cx().barrier("meeting", 2);
        s.spawn_with("both", seats, async |_cx, mut seats| done(seats[0].wait().await));
    }));
    assert_eq!((found.kind, dead(&found)), (DeadlockKind::SelfWait, vec!["both"]));
}

#[bowline::test(start_paused = true)]
async fn a_reply_that_lies_with_who_asked() {
    let found = one(proved!(|s| {
        let (reply, answer) = s.oneshot::<u32>("reply");
        s.spawn_with("asks", (reply, answer), async |_cx, (_reply, mut answer)| done(answer.recv().await));
    }));
    assert_eq!(dead(&found), ["asks"]);
}

// ---- tasks

#[bowline::test(start_paused = true)]
async fn who_joins_or_closes_over_the_dead_stands_still_with_them() {
    let found = one(proved!(|s| {
        s.spawn("parent", async {
            scope("inner", async |s: &Play| {
                let (tx, rx) = queue_of_one(s);
                let child = s.spawn_with("child", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
                child.await
            })
            .await
        });
        s.spawn("keeper", async {
            scope("inner", async |s: &Play| {
                let (tx, rx) = queue_of_one(s);
                s.spawn_with("kept", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
                Ok(())
            })
            .await
        });
    })
    .into_iter()
    .inspect(|found| println!("{found}"))
    .filter(|found| dead(found).contains(&"parent"))
    .collect());
    assert_eq!((dead(&found), causes(&found)), (vec!["child", "parent"], vec!["child"]));
}

#[bowline::test(start_paused = true)]
async fn who_closes_a_scope_over_a_dead_child_stands_still_until_none_lives() {
    let found = proved!(|s| {
        s.spawn("parent", async {
            scope("inner", async |s: &Play| {
                let (tx, rx) = queue_of_one(s);
                s.spawn_with("dead", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
                s.spawn("lives", bowline::sleep(A_DAY));
                Ok(())
            })
            .await
        });
    });
    let found = one(found);
    assert_eq!((dead(&found), causes(&found)), (vec!["dead", "parent"], vec!["dead"]));
    assert_eq!(found.tasks[1].waits[0].op, "close");
}

#[bowline::test(start_paused = true)]
async fn a_task_under_a_time_out_of_its_own_goes_on() {
    let found = proved!(|s| {
        let (tx, rx) = queue_of_one(s);
        s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| {
            bowline::timeout(A_DAY, rx.recv()).await??;
            Ok(())
        });
    });
    assert!(found.is_empty());
}

#[bowline::test(start_paused = true)]
async fn a_deadline_around_the_dead_is_what_will_end_them() {
    let mut found = Vec::new();
    let _ = bowline::timeout(
        A_DAY,
        scope("play", async |s: &Play| {
            let (tx, rx) = queue_of_one(s);
            s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
            rest().await;
            found = deadlocks_now();
            s.cancel("seen");
            Ok(())
        }),
    )
    .await;
    let found = one(found);
    let Verdict::OnlyCancel { by } = &found.verdict else { panic!("{found}") };
    assert!(by.iter().any(|by| matches!(by, bowline::Canceller::Deadline { in_ms: 86_399_000.. })), "{by:?}");
}

#[bowline::test(start_paused = true)]
async fn one_of_two_waits_is_enough() {
    let with = async |elsewhere: bool| {
        proved!(|s| {
            let (tx, rx) = queue_of_one(s);
            let (other_tx, other_rx) = queue_of_one(s);
            let keeps = if elsewhere { None } else { Some(other_tx.clone()) };
            s.spawn_with("waits", (tx, rx, keeps, other_rx), async |_cx, (_tx, rx, _keeps, other)| {
                done(bowline::race(rx.recv(), other.recv()).await)
            });
            if elsewhere {
                s.spawn_with("sleeps", other_tx, async |_cx, tx| {
                    bowline::sleep(A_DAY).await?;
                    done(tx)
                });
            }
        })
    };
    let found = one(with(false).await);
    assert_eq!((dead(&found), found.tasks[0].waits.len()), (vec!["waits"], 2));
    assert!(with(true).await.is_empty());
}

// ---- futures that are not polled

/// RFD 609 of Oxide, "futurelock": a future that stands in line for a lock is borrowed by a `select!`, the other branch
/// wins, and its handler takes the same lock. The first future is granted it, and nobody polls that.
async fn futurelock(drops_it: bool) -> Vec<Deadlock> {
    proved!(|s| {
        let lock = s.cx().share("lock", Mutex::new("lock", ()));
        let (tx, rx) = queue_of_one(s);
        s.spawn_with("holder", (lock.clone(), rx), async |_cx, (lock, rx)| {
            let _held = lock.lock().await?;
            done(rx.recv().await?) // for a while
        });
        s.spawn_with("selects", lock, async move |_cx, lock| {
            tokio::task::yield_now().await;
            let mut first = Some(Box::pin(lock.lock()));
            // As `select!` over a borrowed future does it, when another branch wins.
            let polled = bowline::testing::poll_once(first.as_mut().unwrap()).await;
            assert!(polled.is_pending(), "it is held");
            if drops_it {
                first = None;
            }
            let _second = lock.lock().await?;
            drop(first);
            Ok(())
        });
        rest().await;
        tx.send(1).await.unwrap(); // the holder leaves
        rest().await;
        let _ = deadlocks_now(); // wakes who was granted it, to see whether it looks
        rest().await;
        drop(tx);
    })
}

#[bowline::test(start_paused = true)]
async fn a_lock_granted_to_a_future_that_is_not_polled_is_a_futurelock() {
    let found = one(futurelock(false).await);
    assert_eq!((found.kind, dead(&found)), (DeadlockKind::Futurelock, vec!["selects"]));
    assert!(found.tasks[0].waits[0].why[0].contains("in a future it does not poll"), "{found}");
    assert!(futurelock(true).await.is_empty());
}

// ---- the report

#[bowline::test(start_paused = true)]
async fn a_report_is_data_with_stable_names() {
    let found = one(own_sender(false).await);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["verdict"]["is"], "only_cancel");
    assert_eq!((&json["tier"], &json["kind"]), (&"bound".into(), &"self_wait".into()));
    assert_eq!(json["tasks"][0]["waits"][0]["op"], "recv");
    assert_eq!(json["resources"][0]["kind"], "channel");
    assert_eq!(json["closed_by"]["name"], "waits");
}

// ---- what keeps a wait from being proved

#[bowline::test(start_paused = true)]
async fn an_explanation_names_who_could_still_end_a_wait() -> Result<(), Cancelled> {
    let words = |id: Option<u64>| explain(id.unwrap()).to_string();
    scope("play", async |s: &Play| {
        let (tx, rx) = queue_of_one(s);
        let free = tx.clone().free();
        let waits = s.spawn_with("waits", rx, async |_cx, rx| rx.recv().await);
        s.spawn_with("sleeps", tx, async |_cx, tx| {
            bowline::sleep(A_DAY).await?;
            done(tx)
        });
        let lock = Arc::new(Mutex::new("bare", ()));
        let twice = s.spawn("twice", async move {
            let _once = lock.lock().await?;
            done(lock.lock().await?)
        });
        let foreign = s.spawn("foreign", async {
            tokio::time::sleep(A_DAY).await;
            Ok(())
        });
        rest().await;
        let waiting = words(waits.id());
        assert!(waiting.contains("a sender of `queue`") && waiting.contains("was freed"), "{waiting}");
        assert!(waiting.contains("`sleeps`") && waiting.contains("holds a sender"), "{waiting}");
        let twice = words(twice.id());
        assert!(twice.contains("lets the guard leave its task"), "{twice}");
        assert!(words(foreign.id()).contains("somebody unknown can wake it"));
        assert_eq!(words(Some(u64::MAX)), "there is no such task any more");
        drop(free);
        s.cancel("seen");
        Ok(())
    })
    .await
    .or(Ok(()))
}

#[bowline::test(start_paused = true)]
async fn an_explanation_of_the_dead_is_the_proof() {
    let mut explained = None;
    let _ = scope("play", async |s: &Play| {
        let (tx, rx) = queue_of_one(s);
        let waits = s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
        rest().await;
        explained = waits.id().map(explain);
        s.cancel("seen");
        Ok(())
    })
    .await;
    let Some(Explanation::Dead { deadlock }) = explained else { panic!("{explained:?}") };
    assert_eq!(dead(&deadlock), ["waits"]);
}

// ---- what it costs

/// A hundred thousand tasks that wait for one that lives, and one that waits for itself: that one is found, and nobody else.
#[bowline::test(start_paused = true, timeout_secs = 300)]
async fn one_dead_among_a_hundred_thousand_is_found() {
    let found = proved!(|s| {
        let (count, latch) = s.cx().latch("go");
        let latch = Arc::new(latch);
        for _ in 0..100_000 {
            let latch = Arc::clone(&latch);
            s.spawn("stands by", async move { latch.wait().await });
        }
        s.spawn_with("sleeps", count, async |_cx, count| {
            bowline::sleep(A_DAY).await?;
            done(count)
        });
        let (tx, rx) = queue_of_one(s);
        s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
    });
    assert_eq!(dead(&one(found)), ["waits"]);
}

// ---- programs, which a thread looks at

/// Whether it stood, and the text.
type Told = Arc<std::sync::Mutex<Vec<(bool, String)>>>;

/// What was told, and a signal for each.
fn listen() -> (Told, Arc<tokio::sync::Notify>) {
    let (told, news) = (Told::default(), Arc::new(tokio::sync::Notify::new()));
    let (tell, bell) = (Arc::clone(&told), Arc::clone(&news));
    bowline::on_alert(move |alert| {
        if alert.kind == AlertKind::Deadlock {
            tell.lock().unwrap().push((alert.raised, alert.text.clone()));
            bell.notify_one();
        }
    })
    .forever();
    (told, news)
}

#[test]
fn a_program_is_told_of_a_deadlock_once_and_that_it_is_over() {
    let (_, report) = Runner::new("program").without_signals().run(async {
        let (told, news) = listen();
        let _ = scope("play", async |s: &Play| {
            let (tx, rx) = queue_of_one(s);
            let waits = s.spawn_with("waits", (tx, rx), async |_cx, (_tx, rx)| rx.recv().await);
            news.notified().await;
            let standing = deadlocks();
            let ours =
                standing.iter().find(|found| found.tasks.iter().any(|task| Some(task.id) == waits.id()));
            assert_eq!(dead(ours.expect("it stands")), ["waits"]);
            waits.cancel("seen");
            Ok(())
        })
        .await;
        news.notified().await;
        let told = told.lock().unwrap();
        assert_eq!(told.iter().map(|(raised, _)| *raised).collect::<Vec<_>>(), [true, false]);
        assert!(told[0].1.starts_with("deadlock (self-wait) of `waits`"), "{}", told[0].1);
    });
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_program_that_says_so_has_its_deadlocks_cancelled_and_nothing_is_left() {
    let program = Runner::new("program").without_signals().on_deadlock(DeadlockPolicy::Cancel);
    let (cause, report) = program.run(async {
        let (told, news) = listen();
        let ended = scope("play", async |s: &Play| {
            let lock = s.cx().share("lock", Mutex::new("lock", ()));
            for name in ["first", "second"] {
                s.spawn_with(name, lock.clone(), async |_cx, lock| {
                    let _once = lock.lock().await?;
                    done(lock.lock().await?)
                });
            }
            Ok(())
        })
        .await;
        let is_over = || told.lock().unwrap().iter().any(|(raised, _)| !*raised);
        while !is_over() {
            news.notified().await;
        }
        let over = told.lock().unwrap().last().cloned().unwrap().1;
        assert_eq!(
            over,
            "scope `play` was cancelled and is gone: 0 tasks, 0 permits and 0 waits of it are left"
        );
        ended.unwrap_err().cause().clone()
    });
    assert_eq!(cause, Some(Cause::Requested("a deadlock")));
    assert!(report.is_clean(), "{report:?}");
}
