//! Groups: a slot for everybody, what each policy promises, the first failure by time, partial results, and nothing kept
//! where nothing is wanted.

mod support;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Cause, CollectAll, Discard, FailFast, FirstSuccess, Group, Member, Outcome, Overflow,
    Panic, Phase, Quorum, Slot, group, scope,
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

/// golang/go#27837: with errgroup and a semaphore it is easy to return only "context canceled" and to swallow the error that
/// was the cause.
#[bowline::test]
async fn the_first_error_by_time_wins_over_its_consequences_in_earlier_slots() {
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
    let outcome = group("group", FailFast, async |_: &Group<u8, Error, _>| {}).await;
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
    let _ = group("group", CollectAll, async |g: &Group<(), Error, _>| kept = Some(g.handle())).await;
    let guard = Arc::new(());
    let held = Arc::clone(&guard);
    let refused = kept.unwrap().spawn("late", async move {
        let _held = held;
        Ok(())
    });
    assert_eq!(refused.unwrap_err().cause(), &Cause::ScopeClosed);
    assert_eq!(Arc::strong_count(&guard), 1);
}

/// restate#1181: the shutdown flag was looked at before the spawn and not after it, so a task could start after a shutdown
/// and not be stopped.
/// defradb.rs#1703: shutdown drained a snapshot of the tasks; those registered late escaped.
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

#[bowline::test(worker_threads = 2)]
async fn a_group_that_is_kept_open_only_by_late_spawns_has_a_slot_for_each() {
    for _ in 0..500 {
        let (sent, got) = tokio::sync::oneshot::channel();
        let (spawned, first) = tokio::sync::oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "somebody outside of the group is what this is about")]
        let outside = tokio::task::spawn_blocking(move || {
            let handle: bowline::GroupHandle<(), Error, CollectAll> = got.blocking_recv().unwrap();
            let mut member = handle.spawn("first", async { Ok(()) }).unwrap();
            let _ = spawned.send(());
            let mut accepted = 1;
            // Each spawn but the first meets a group that is about to be over.
            while accepted < 20 {
                while !member.is_finished() {
                    std::thread::yield_now();
                }
                let Ok(next) = handle.spawn("late", async { Ok(()) }) else { break };
                member = next;
                accepted += 1;
            }
            accepted
        });
        let outcome = group("group", CollectAll, async |g| {
            let _ = sent.send(g.handle());
            let _ = first.await;
        })
        .await;
        let accepted: usize = outside.await.unwrap();
        assert_eq!((outcome.slots().len(), counts(&outcome)), (accepted, (accepted as u64, 0, 0, 0)));
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

#[bowline::test(allow_panics)]
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
        // Ours, and the first failure.
        assert_eq!((Arc::strong_count(&guard), counts(&outcome)), (2, (2, 2, 0, 0)));
        drop(outcome);
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}

#[bowline::test(allow_panics)]
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

// ---- the first value

#[bowline::test(start_paused = true)]
async fn the_first_success_cancels_the_others_and_they_are_gone() {
    let guard = Arc::new(());
    let outcome = group("mirrors", FirstSuccess, async |g| {
        for (name, millis) in [("slow", 300), ("fails", 1), ("fast", 20)] {
            let guard = Arc::clone(&guard);
            g.spawn(name, async move {
                let _guard = guard;
                tokio::time::sleep(Duration::from_millis(millis)).await;
                if name == "fails" { Err(Error::Own("refused")) } else { Ok(name) }
            });
        }
        std::future::pending::<()>().await // the body is told as well
    })
    .await;
    assert_eq!(Arc::strong_count(&guard), 1);
    assert_eq!(counts(&outcome), (1, 1, 0, 1));
    assert_eq!(cause(&outcome.slots()[0].1), Some(&Cause::Decided));
    assert_eq!(outcome.first_ok().ok(), Some("fast"));
}

#[bowline::test]
async fn the_first_value_is_the_first_by_time_also_if_a_cancelled_one_still_answers() {
    let outcome = group("group", FirstSuccess, async |g| {
        g.spawn("answers late", async {
            bowline::cancelled().await;
            Ok::<_, Error>("late")
        });
        g.spawn("first", async {
            yield_now(2).await;
            Ok("first")
        });
    })
    .await;
    assert_eq!(counts(&outcome), (2, 0, 0, 0));
    assert_eq!(outcome.first_ok().ok(), Some("first"));
}

#[bowline::test]
async fn if_nobody_succeeds_every_error_is_there() {
    let outcome = group("group", FirstSuccess, async |g| {
        for (turns, error) in [(3, "late"), (0, "early"), (1, "middle")] {
            g.spawn("task", async move {
                yield_now(turns).await;
                Err::<(), _>(Error::Own(error))
            });
        }
    })
    .await;
    let outcome = outcome.first_ok().expect_err("nobody succeeded");
    let errors: Vec<_> = outcome
        .slots()
        .iter()
        .map(|(_, slot)| if let Slot::Failed(e) = slot { Some(e) } else { None })
        .collect();
    assert_eq!(errors, [Some(&Error::Own("late")), Some(&Error::Own("early")), Some(&Error::Own("middle"))]);
    assert_eq!(outcome.all_ok(), Err(Error::Own("early")), "the first by time");
}

// ---- so many values

/// Ends after so many turns, with a value or without.
async fn replica(turns: usize, works: bool) -> Result<usize, Error> {
    yield_now(turns).await;
    if works { Ok(turns) } else { Err(Error::Own("down")) }
}

#[bowline::test]
async fn a_quorum_returns_as_soon_as_it_is_reached() {
    let outcome = group("replicas", Quorum(2), async |g| {
        g.spawn("never", std::future::pending());
        g.spawn("slow", replica(5, true));
        g.spawn("down", replica(0, false));
        g.spawn("fast", replica(1, true));
    })
    .await;
    assert_eq!(counts(&outcome), (2, 1, 0, 1));
    assert_eq!(cause(&outcome.slots()[0].1), Some(&Cause::Decided));
    assert_eq!(outcome.quorum().unwrap(), [5, 1], "in spawn order");
}

#[bowline::test]
async fn a_quorum_that_can_no_longer_be_reached_is_not_waited_for() {
    let outcome = group("replicas", Quorum(2), async |g| {
        g.spawn("never", std::future::pending());
        g.spawn("panics", async { panic!("bug") });
        g.spawn("down", replica(1, false));
    })
    .await;
    assert_eq!(counts(&outcome), (0, 1, 1, 1));
    let outcome = outcome.quorum().expect_err("one of two at most");
    assert_eq!(cause(&outcome.slots()[0].1), Some(&Cause::Decided));
}

#[bowline::test]
async fn who_votes_is_known_when_the_body_has_ended_or_closed_the_group() {
    for closes in [false, true] {
        let mut late = None;
        let outcome = group("replicas", Quorum(2), async |g| {
            g.spawn("never", std::future::pending());
            g.spawn("down", replica(0, false));
            late = Some(g.handle());
            yield_now(4).await;
            assert!(bowline::check().is_ok(), "somebody may still come");
            if closes {
                g.close();
                assert_eq!(bowline::cancelled().await.cause(), &Cause::Decided);
            }
        })
        .await;
        assert_eq!(counts(&outcome), (0, 1, 0, 1));
        assert!(late.unwrap().spawn("late", replica(0, true)).is_err());
    }
}

#[bowline::test]
async fn after_its_body_a_quorum_takes_no_more_votes_also_while_others_run() {
    let outcome = group("replicas", Quorum(2), async |g| {
        let handle = g.handle();
        g.spawn("recruits", async move {
            yield_now(3).await;
            assert_eq!(handle.spawn("late", replica(0, true)).unwrap_err().cause(), &Cause::ScopeClosed);
            Ok(0)
        });
        g.spawn("works", replica(5, true));
    })
    .await;
    assert_eq!(outcome.slots().len(), 3, "the refused one has its slot");
    assert_eq!(outcome.quorum().unwrap(), [0, 5]);
}

#[bowline::test(worker_threads = 2)]
async fn a_quorum_decides_rightly_whatever_the_order_of_the_votes() {
    for round in 0..300_usize {
        let works = |voter: usize| (round >> voter) & 1 == 1;
        let expected = (0..5).filter(|voter| works(*voter)).count() >= 3;
        let outcome = group("votes", Quorum(3), async |g| {
            for voter in 0..5 {
                g.spawn("vote", replica((round * 7 + voter) % 4, works(voter)));
            }
        })
        .await;
        assert_eq!(outcome.quorum().is_ok(), expected, "round {round}");
    }
}

#[bowline::test]
async fn a_quorum_of_nobody_is_refused_when_it_is_written() {
    let ask = || drop(group("group", Quorum(0), async |_: &Group<(), Error, _>| {}));
    assert!(std::panic::catch_unwind(ask).is_err());
}

#[bowline::test]
async fn fewer_values_than_everybody_are_no_quorum_of_other_policies() {
    let run = async |works| {
        group("group", CollectAll, async |g| {
            g.spawn("works", replica(0, true));
            g.spawn("may fail", replica(0, works));
        })
        .await
        .quorum()
    };
    assert_eq!(run(true).await.unwrap(), [0, 0]);
    assert_eq!(run(false).await.unwrap_err().counts().failed, 1);
}

// ---- the body

#[bowline::test]
async fn a_body_that_fails_is_an_error_of_the_group_and_fail_fast_cancels_the_tasks() {
    fn read() -> Result<(), Error> {
        Err(Error::Own("unreadable"))
    }
    let outcome = group("group", FailFast, async |g| {
        g.spawn("parked", std::future::pending::<Result<u8, Error>>());
        yield_now(2).await;
        read()?;
        Ok(())
    })
    .await;
    assert_eq!(counts(&outcome), (0, 0, 0, 1));
    assert_eq!(cause(&outcome.slots()[0].1), Some(&Cause::BodyFailed));
    assert_eq!(outcome.body_error(), Some(&Error::Own("unreadable")));
    assert_eq!(outcome.all_ok(), Err(Error::Own("unreadable")));

    let outcome = group("group", CollectAll, async |g| {
        g.spawn("goes on", replica(3, true));
        read()
    })
    .await;
    assert_eq!(counts(&outcome), (1, 0, 0, 0));
    assert_eq!(outcome.all_ok(), Err(Error::Own("unreadable")));
}

/// golang/go#27837: the loop that spawns gets "context canceled" from its semaphore and returns that instead of the error.
#[bowline::test]
async fn a_body_that_reports_a_consequence_does_not_hide_the_cause() {
    let outcome = group("group", FailFast, async |g| {
        g.spawn("cause", replica(1, false));
        Err(Error::from(bowline::cancelled().await))
    })
    .await;
    assert_eq!(outcome.body_error(), Some(&Error::Cancelled(Cause::SiblingFailed("cause"))));
    assert_eq!(outcome.all_ok(), Err(Error::Own("down")));
}

#[bowline::test(start_paused = true)]
async fn a_body_that_never_returns_is_fine() {
    let accepts = group("accepts", Discard, async |g| {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            g.spawn("connection", async { Ok::<_, Error>(()) });
        }
    });
    let outcome = bowline::timeout(Duration::from_millis(3_500), accepts).await.unwrap();
    assert_eq!(outcome.counts().ok, 3);
}

// ---- single members

#[bowline::test]
async fn a_member_is_cancelled_alone_and_its_answer_is_nobody_elses_failure() {
    let outcome = group("group", FailFast, async |g| {
        let answers = g.spawn("answers", async { Err(Error::from(bowline::cancelled().await)) });
        let parked = g.spawn("parked", std::future::pending());
        let aborted = g.spawn("aborted", async {
            let _ = bowline::shielded(Duration::from_secs(60), std::future::pending::<()>()).await;
            Ok(1)
        });
        g.spawn("other", replica(9, true));
        yield_now(1).await;
        assert!(answers.id().is_some() && answers.id() != parked.id());
        answers.cancel("banned");
        parked.cancel("banned");
        aborted.abort();
        yield_now(3).await;
        for gone in [&answers, &parked, &aborted] {
            assert!(gone.is_finished() && gone.id().is_none(), "{gone:?}");
        }
        assert!(bowline::check().is_ok());
    })
    .await;
    assert_eq!(counts(&outcome), (1, 1, 0, 2));
    assert_eq!(cause(&outcome.slots()[1].1), Some(&Cause::Requested("banned")));
    assert_eq!(cause(&outcome.slots()[2].1), Some(&Cause::Aborted));
}

#[bowline::test]
async fn a_member_that_was_refused_or_whose_group_is_over_is_finished() {
    let mut kept: Vec<Member> = Vec::new();
    let outcome = group("group", CollectAll, async |g| {
        kept.push(g.spawn("runs", replica(0, true)));
        g.close();
        kept.push(g.spawn("refused", replica(0, true)));
    })
    .await;
    assert_eq!(counts(&outcome), (1, 0, 0, 0));
    assert!(kept.iter().all(|member| member.is_finished() && member.id().is_none()));
    kept.iter().for_each(|member| member.cancel("too late"));
}

#[bowline::test]
async fn the_counts_of_a_running_group_can_be_read() {
    let _ = group("group", Discard, async |g| {
        let handle = g.handle();
        g.spawn("works", replica(0, true));
        g.spawn("fails", replica(0, false));
        yield_now(3).await;
        assert_eq!((g.counts().ok, handle.counts().failed), (1, 1));
    })
    .await;
}

// ---- slots

#[bowline::test]
async fn a_slot_is_read_as_a_result() {
    let outcome = group("group", CollectAll, async |g| {
        g.spawn("works", replica(3, true));
        g.spawn("fails", replica(0, false));
        g.spawn("cancelled", std::future::pending()).cancel("enough");
        g.spawn("panics", async { panic!("bug") });
    })
    .await;
    let mut slots = outcome.into_slots().into_iter().map(|(_, slot)| slot);
    let works = slots.next().unwrap();
    assert!(works.is_ok());
    assert_eq!(works.into_result(), Ok(3));
    let fails = slots.next().unwrap();
    assert!(!fails.is_ok());
    assert_eq!(fails.into_result(), Err(Error::Own("down")));
    let cancelled = slots.next().unwrap();
    assert_eq!(cancelled.into_result(), Err(Error::Cancelled(Cause::Requested("enough"))));
    let panics = slots.next().unwrap();
    assert_eq!(panics.ok(), None);
}

#[test]
fn a_task_whose_runtime_went_away_under_the_group_is_unreleased() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut run = {
        let _inside = runtime.enter();
        let mut run = Box::pin(group("group", CollectAll, async |g| {
            g.spawn("parked", std::future::pending::<Result<u8, Error>>());
        }));
        assert!(run.as_mut().now_or_never().is_none());
        run
    };
    drop(runtime);
    let outcome = run.as_mut().now_or_never().expect("nobody is left to wait for");
    assert!(matches!(outcome.slots(), [("parked", Slot::Unreleased)]), "{outcome:?}");
    assert_eq!(outcome.all_ok(), Err(Error::Cancelled(Cause::Shutdown(Phase::Aborting))));
}

#[bowline::test(allow_panics)]
async fn what_a_discarding_group_kept_of_its_failures_is_the_first() {
    let outcome = group("group", Discard, async |g| {
        g.spawn("works", replica(0, true));
        for (name, turns) in [("second", 4), ("first", 1)] {
            g.spawn(name, replica(turns, false));
        }
        g.spawn("panics late", async {
            yield_now(6).await;
            panic!("bug")
        });
    })
    .await;
    assert_eq!(outcome.first_failure().map(|(name, _)| name), Some("first"));
    assert_eq!(outcome.all_ok(), Err(Error::Own("down")));
}

// ---- what happened to others

/// tokio's `JoinSet`: dropping it aborts its tasks and returns at once, before their destructors have run.
#[bowline::test(worker_threads = 2, allow_adoption)]
async fn a_group_returns_after_the_destructors_of_its_tasks_however_they_ended() {
    struct Slow(Arc<AtomicU32>);
    impl Drop for Slow {
        fn drop(&mut self) {
            for _ in 0..2_000 {
                std::hint::spin_loop();
            }
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    for round in 0..100 {
        let dropped = Arc::new(AtomicU32::new(0));
        scope("outer", async |_| {
            let run = group("group", CollectAll, async |g| {
                for task in 0..8 {
                    let slow = Slow(Arc::clone(&dropped));
                    g.spawn("task", async move {
                        let _slow = slow;
                        yield_now(task % 4).await;
                        match task {
                            0..4 => Ok::<_, Error>(()),
                            _ => std::future::pending().await,
                        }
                    });
                }
                yield_now(round % 5).await;
                g.cancel("enough");
                std::future::pending::<()>().await
            });
            if round % 2 == 0 {
                let _ = run.await;
                assert_eq!(dropped.load(Ordering::Relaxed), 8);
            } else {
                // A foreign combinator drops the group: the outer scope waits instead.
                drop(Box::pin(run).now_or_never());
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
        let spawned = dropped.load(Ordering::Relaxed);
        assert!(spawned == 8, "{spawned} in round {round}");
    }
}

/// materialize#26190: a sink's task outlived the dataflow it belonged to.
/// zenoh#877: one time-out task per query, never cancelled.
#[bowline::test(start_paused = true)]
async fn a_helper_task_ends_with_the_work_it_was_started_for() {
    let guard = Arc::new(());
    for _ in 0..50 {
        let answered = group("query", FirstSuccess, async |g| {
            let guard = Arc::clone(&guard);
            g.spawn("timeout", async move {
                let _guard = guard;
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Err(Error::Own("too late"))
            });
            g.spawn("answer", replica(1, true));
        });
        assert_eq!(answered.await.first_ok().ok(), Some(1));
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}

/// octos#1508: the batch's time-out returned while the tools it had spawned kept running.
#[bowline::test(start_paused = true)]
async fn the_timeout_of_a_batch_returns_when_no_tool_runs_any_more() {
    let running = Arc::new(AtomicU32::new(0));
    struct Running(Arc<AtomicU32>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let batch = group("tools", CollectAll, async |g| {
        for tool in 0..4_u64 {
            running.fetch_add(1, Ordering::Relaxed);
            let counted = Running(Arc::clone(&running));
            g.spawn("tool", async move {
                let _counted = counted;
                let work = tokio::time::sleep(Duration::from_secs(tool * 10));
                // It tidies up for two seconds when it is told to stop.
                if let bowline::Either::Left(_) = bowline::race(bowline::cancelled(), work).await {
                    let grace = Duration::from_secs(5);
                    let _ = bowline::shielded(grace, tokio::time::sleep(Duration::from_secs(2))).await;
                }
                Ok::<_, Error>(tool)
            });
        }
    });
    let began = tokio::time::Instant::now();
    let outcome = bowline::timeout(Duration::from_secs(15), batch).await.unwrap();
    // The deadline, and what the tools took to tidy up.
    assert!((17_000..17_100).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!((running.load(Ordering::Relaxed), outcome.counts().ok), (0, 4));
}

/// cortex (bounty-challenge#9836): an early return left a sender alive, and the collector waited for ever.
#[bowline::test]
async fn a_collector_ends_when_a_producer_fails_early() {
    let outcome = group("collect", FailFast, async |g| {
        let (tx, rx) = g.cx().queue("found", Bound::items(1), Overflow::Block);
        g.spawn_with("collector", rx, async |_cx, rx| {
            let mut found = 0;
            while rx.recv().await?.is_some() {
                found += 1;
            }
            Ok(found)
        });
        g.spawn_with("producer", tx.clone(), async |_cx, tx| {
            tx.send(()).await.map_err(|_| Error::Own("nobody collects"))?;
            Err(Error::Own("bad input"))
        });
        let _kept = tx; // the forgotten sender
        std::future::pending::<()>().await
    })
    .await;
    assert_eq!(outcome.all_ok(), Err(Error::Own("bad input")));
}

/// materialize#7389: `abort()` did nothing until somebody awaited the task.
#[bowline::test]
async fn a_cancelled_member_ends_although_nobody_awaits_it() {
    let guard = Arc::new(());
    let _ = group("group", Discard, async |g| {
        let held = Arc::clone(&guard);
        let member = g.spawn("parked", async move {
            let _held = held;
            std::future::pending::<Result<(), Error>>().await
        });
        yield_now(1).await;
        member.abort();
        yield_now(1).await;
        assert_eq!(Arc::strong_count(&guard), 1);
    })
    .await;
}

/// iroh#4460: `join_all` panicked because one of the children was cancelled.
#[bowline::test]
async fn a_cancelled_child_is_a_slot_and_no_panic() {
    let outcome = group("group", CollectAll, async |g| {
        g.spawn("cancelled", std::future::pending()).cancel("not needed");
        g.spawn("works", replica(1, true));
    })
    .await;
    assert_eq!(counts(&outcome), (1, 0, 0, 1));
    assert_eq!(outcome.into_ok().collect::<Vec<_>>(), [1]);
}
