//! Groups: a slot for everybody, the first failure by time, partial results, and nothing kept where nothing is wanted.

mod support;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Cause, CollectAll, Discard, FailFast, Outcome, Overflow, Panic, Slot, group,
};
use futures_util::FutureExt as _;
use support::yield_now;

#[derive(Debug, PartialEq)]
enum Error {
    Own(&'static str),
    Cancelled(Cause),
}

impl From<Cancelled> for Error {
    fn from(cancelled: Cancelled) -> Self {
        Error::Cancelled(cancelled.cause().clone())
    }
}

/// `(ok, failed, panicked, cancelled)`
fn counts<T, E>(outcome: &Outcome<T, E>) -> (u64, u64, u64, u64) {
    let counts = outcome.counts();
    (counts.ok, counts.failed, counts.panicked, counts.cancelled)
}

fn cause<T, E>(slot: &Slot<T, E>) -> Option<&Cause> {
    match slot {
        Slot::Cancelled(cancelled) => Some(cancelled.cause()),
        _ => None,
    }
}

// ---- slots

#[bowline::test]
async fn slots_are_in_spawn_order_whatever_the_order_of_ending() {
    let outcome = group("group", CollectAll, async |g| {
        for (name, turns) in [("slow", 9), ("fast", 0), ("middle", 3)] {
            g.spawn(name, async move {
                yield_now(turns).await;
                Ok::<_, Error>(turns)
            });
        }
    })
    .await;
    let names: Vec<_> = outcome.slots().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["slow", "fast", "middle"]);
    assert_eq!(outcome.all_ok(), Ok(vec![9, 0, 3]));
}

#[bowline::test]
async fn collect_all_lets_everybody_run_whatever_happens_to_the_others() {
    let outcome = group("group", CollectAll, async |g| {
        g.spawn("fails", async { Err(Error::Own("early")) });
        g.spawn("panics", async { panic!("bug") });
        g.spawn("works", async {
            yield_now(5).await;
            bowline::check()?;
            Ok(1)
        });
    })
    .await;
    assert_eq!(counts(&outcome), (1, 1, 1, 0));
    let [(_, Slot::Failed(error)), (_, Slot::Panicked(_)), (_, Slot::Ok(1))] = outcome.slots() else {
        panic!("{outcome:?}")
    };
    assert_eq!(error, &Error::Own("early"));
    assert_eq!(outcome.into_ok().collect::<Vec<_>>(), [1]);
}

#[bowline::test]
async fn fail_fast_cancels_the_others_and_the_body_at_the_first_error() {
    let body_was_told = AtomicBool::new(false);
    let outcome = group("group", FailFast, async |g| {
        g.spawn("waits", async {
            yield_now(1).await;
            Err::<(), _>(Error::from(bowline::cancelled().await))
        });
        g.spawn("parked", std::future::pending());
        g.spawn("done", async { Ok(()) });
        g.spawn("fails", async { Err(Error::Own("first")) });
        assert_eq!(bowline::cancelled().await.cause(), &Cause::SiblingFailed("fails"));
        body_was_told.store(true, Ordering::Relaxed);
    })
    .await;
    assert!(body_was_told.load(Ordering::Relaxed));
    assert_eq!(counts(&outcome), (1, 2, 0, 1));
    assert_eq!(cause(&outcome.slots()[1].1), Some(&Cause::SiblingFailed("fails")));
    assert_eq!(outcome.all_ok(), Err(Error::Own("first")));
}

#[bowline::test]
async fn the_first_error_by_time_wins_over_its_consequences_in_earlier_slots() {
    // errgroup keeps whatever error arrives first at its `Wait`, often a mere "context canceled".
    for _ in 0..20 {
        let outcome = group("group", FailFast, async |g| {
            for _ in 0..3 {
                g.spawn("consequence", async { Err::<(), _>(Error::from(bowline::cancelled().await)) });
            }
            g.spawn("cause", async {
                yield_now(3).await;
                Err(Error::Own("the disk is full"))
            });
            for _ in 0..3 {
                g.spawn("consequence", async { Err(Error::from(bowline::cancelled().await)) });
            }
        });
        assert_eq!(outcome.await.all_ok(), Err(Error::Own("the disk is full")));
    }
}

#[bowline::test]
async fn all_ok_of_a_cancelled_group_without_an_error_says_why() {
    let outcome = group("group", FailFast, async |g| {
        g.spawn("done", async { Ok(1) });
        g.spawn("parked", std::future::pending::<Result<u32, Error>>());
        yield_now(2).await;
        g.cancel("enough");
    })
    .await;
    assert_eq!(counts(&outcome), (1, 0, 0, 1));
    assert_eq!(outcome.all_ok(), Err(Error::Cancelled(Cause::Requested("enough"))));
}

#[bowline::test(start_paused = true)]
async fn at_a_deadline_what_was_ready_is_there_and_every_task_is_gone() {
    let guard = Arc::new(());
    let fetches = group("fetch", CollectAll, async |g| {
        for seconds in [1, 100, 2, 200] {
            let guard = Arc::clone(&guard);
            g.spawn("fetch", async move {
                let _guard = guard;
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok::<_, Error>(seconds)
            });
        }
    });
    let outcome = bowline::timeout(Duration::from_secs(10), fetches).await.expect("the group has a value");
    assert_eq!(Arc::strong_count(&guard), 1, "the tasks are gone");
    assert_eq!(counts(&outcome), (2, 0, 0, 2));
    assert_eq!(cause(&outcome.slots()[1].1), Some(&Cause::DeadlineExceeded));
    assert_eq!(outcome.into_ok().collect::<Vec<_>>(), [1, 2]);
}

#[bowline::test]
async fn an_empty_group_has_an_empty_outcome() {
    let outcome = group("group", FailFast, async |_: &bowline::Group<u8, Error, _>| {}).await;
    assert_eq!((counts(&outcome), outcome.all_ok()), ((0, 0, 0, 0), Ok(vec![])));
}

// ---- panics

#[bowline::test]
async fn a_panic_is_a_slot_with_its_task_message_and_place_and_cancels_as_an_error_does() {
    let mut line = 0;
    let outcome = group("group", FailFast, async |g| {
        g.spawn("parked", std::future::pending::<Result<(), Error>>());
        line = line!() + 1;
        g.spawn("buggy", async { panic!("index {} is out of range", 7) });
    })
    .await;
    assert_eq!(cause(&outcome.slots()[0].1), Some(&Cause::SiblingPanicked("buggy")));
    let (_, Slot::Panicked(panic)) = &outcome.slots()[1] else { panic!("{outcome:?}") };
    assert_eq!((panic.task(), panic.message()), ("buggy", "index 7 is out of range"));
    assert!(panic.place().unwrap().contains(&format!("group.rs:{line}:")), "{panic}");
    let resumed = std::panic::catch_unwind(AssertUnwindSafe(|| outcome.all_ok())).unwrap_err();
    assert_eq!(resumed.downcast_ref::<Panic>().unwrap().message(), "index 7 is out of range");
}

#[bowline::test]
async fn the_panic_of_the_body_goes_on_after_every_task_is_gone() {
    let guard = Arc::new(());
    let held = Arc::clone(&guard);
    let run = group("group", CollectAll, async |g| {
        g.spawn("parked", async move {
            let _held = held;
            std::future::pending::<Result<(), Error>>().await
        });
        yield_now(1).await;
        panic!("in the body");
    });
    let caught = AssertUnwindSafe(run).catch_unwind().await.unwrap_err();
    assert_eq!(caught.downcast_ref::<Panic>().unwrap().message(), "in the body");
    assert_eq!(Arc::strong_count(&guard), 1);
}

// ---- who is refused, and members that spawn

#[bowline::test]
async fn a_refused_task_is_dropped_unpolled_and_its_slot_says_why() {
    let guard = Arc::new(());
    let held = Arc::clone(&guard);
    let outcome = group("group", CollectAll, async |g| {
        g.spawn("before", async { Ok::<_, Error>(()) });
        yield_now(1).await;
        g.cancel("enough");
        g.spawn("after", async move {
            let _held = held;
            panic!("must not be polled")
        });
    })
    .await;
    assert_eq!(Arc::strong_count(&guard), 1);
    assert_eq!(counts(&outcome), (1, 0, 0, 0), "it was never a task");
    assert_eq!(
        (outcome.slots()[1].0, cause(&outcome.slots()[1].1)),
        ("after", Some(&Cause::Requested("enough")))
    );
}

#[bowline::test]
async fn members_spawn_into_their_own_group_also_after_its_body() {
    let outcome = group("crawl", CollectAll, async |g| {
        let handle = g.handle();
        g.spawn("page", async move {
            yield_now(3).await;
            for _ in 0..3 {
                handle.spawn("link", async { Ok(1) }).unwrap();
            }
            Ok::<_, Error>(1)
        });
    })
    .await;
    assert_eq!(outcome.into_ok().collect::<Vec<_>>(), [1, 1, 1, 1]);
}

#[bowline::test]
async fn a_kept_handle_neither_keeps_a_group_open_nor_spawns_into_a_gone_one() {
    let mut kept = None;
    group("group", CollectAll, async |g: &bowline::Group<(), Error, _>| kept = Some(g.handle())).await;
    let guard = Arc::new(());
    let held = Arc::clone(&guard);
    let refused = kept.unwrap().spawn("late", async move {
        let _held = held;
        Ok(())
    });
    assert_eq!(refused.unwrap_err().cause(), &Cause::ScopeClosed);
    assert_eq!(Arc::strong_count(&guard), 1);
}

#[bowline::test(worker_threads = 2)]
async fn spawning_from_outside_while_the_group_ends_loses_no_slot() {
    for round in 0..300 {
        let (sent, got) = tokio::sync::oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "somebody outside of the group is what this is about")]
        let outside = tokio::spawn(async move {
            let handle: bowline::GroupHandle<(), Error, CollectAll> = got.await.unwrap();
            let mut accepted = 0;
            while handle.spawn("late", async { Ok(()) }).is_ok() {
                accepted += 1;
            }
            accepted
        });
        let outcome = group("group", CollectAll, async |g| {
            let _ = sent.send(g.handle());
            yield_now(round % 7).await;
            g.cancel("over");
        })
        .await;
        let accepted: usize = outside.await.unwrap();
        let all = counts(&outcome);
        assert_eq!((all.0 + all.3, all.1, all.2), (accepted as u64, 0, 0));
        let refused = outcome.slots().len() - accepted;
        assert!(refused <= 1, "{refused} slots too many");
    }
}

#[bowline::test]
async fn a_member_is_handed_ends_as_a_task_of_a_scope_is() {
    let outcome = group("group", FailFast, async |g| {
        let (tx, rx) = g.cx().queue("numbers", Bound::items(1), Overflow::Block);
        for number in 0..4 {
            g.spawn_with("sender", tx.clone(), async move |_cx, tx| {
                tx.send(number).await.map_err(|_| Error::Own("nobody receives"))?;
                Ok(0)
            });
        }
        drop(tx);
        g.spawn_with("sums", rx, async |_cx, rx| {
            let mut sum = 0;
            while let Some(number) = rx.recv().await? {
                sum += number;
            }
            Ok::<_, Error>(sum)
        });
    })
    .await;
    assert_eq!(outcome.all_ok(), Ok(vec![0, 0, 0, 0, 6]));
}

// ---- results that nobody wants

#[bowline::test]
async fn a_discarding_group_counts_and_keeps_nothing() {
    const TASKS: usize = 100_000;
    const AT_ONCE: usize = 100;
    let most = AtomicU32::new(0);
    let outcome = group("accepts", Discard, async |g| {
        for task in 0..TASKS {
            g.spawn("connection", async move {
                match task % 1_000 {
                    0 => Err(Error::Own("reset")),
                    1 => {
                        // Not `panic!`: a hundred messages of a panic would only be noise.
                        std::panic::resume_unwind(Box::new("bug"))
                    }
                    _ => Ok([0_u8; 64]),
                }
            });
            if task % AT_ONCE == 0 {
                yield_now(4).await;
                let tree = bowline::tree();
                let listed = tree.roots[0].scopes[0].tasks.len();
                most.fetch_max(u32::try_from(listed).unwrap(), Ordering::Relaxed);
            }
        }
    })
    .await;
    assert_eq!(counts(&outcome), (99_800, 100, 100, 0));
    assert!(outcome.slots().is_empty());
    assert!(most.into_inner() <= 2, "the list of tasks holds who lives");
}

#[bowline::test(worker_threads = 2)]
async fn what_a_discarding_group_throws_away_is_dropped_before_the_group_is_over() {
    let guard = Arc::new(());
    for _ in 0..200 {
        let outcome = group("group", Discard, async |g| {
            for task in 0..4 {
                let guard = Arc::clone(&guard);
                g.spawn("task", async move { if task % 2 == 0 { Ok(guard) } else { Err(guard) } });
            }
        })
        .await;
        assert_eq!((Arc::strong_count(&guard), counts(&outcome)), (1, (2, 2, 0, 0)));
    }
}

#[bowline::test]
async fn the_panic_of_one_discarded_task_does_not_touch_the_others() {
    let outcome = group("group", Discard, async |g| {
        g.spawn("buggy", async { panic!("bug") });
        g.spawn("works", async {
            yield_now(3).await;
            bowline::check()?;
            Ok::<_, Error>(())
        });
    })
    .await;
    assert_eq!(counts(&outcome), (1, 0, 1, 0));
}
