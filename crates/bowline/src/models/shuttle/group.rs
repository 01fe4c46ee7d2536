//! Groups: slots, decisions and the limit.

use std::future::pending;

use super::{Tally, check, check_rare, dawdle, give_up_early};
use crate::{
    AtMost, Cancelled, Cause, CollectAll, FailFast, FirstSuccess, Group, Outcome, Quorum, Slot, bad_input,
    group, is_cancelled, scope,
};

#[derive(Debug, PartialEq)]
struct Failed(usize);

impl From<Cancelled> for Failed {
    fn from(cancelled: Cancelled) -> Self {
        panic!("{cancelled}")
    }
}

#[test]
fn every_task_has_its_slot_in_the_order_of_the_spawns() {
    check(async || {
        let outcome = group("collect", CollectAll, async |g| {
            for number in 0..4 {
                g.spawn("task", async move {
                    dawdle().await;
                    match number % 3 {
                        0 => Ok(number),
                        1 => Err(Failed(number)),
                        _ => bad_input("a panic"),
                    }
                });
            }
        })
        .await;
        let counts = outcome.counts();
        assert_eq!((counts.ok, counts.failed, counts.panicked, counts.cancelled), (2, 1, 1, 0));
        let slots: Vec<_> = outcome.into_slots().into_iter().map(|(_, slot)| slot).collect();
        match &slots[..] {
            [Slot::Ok(0), Slot::Failed(Failed(1)), Slot::Panicked(_), Slot::Ok(3)] => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_task_has_its_slot_before_those_it_spawned() {
    check_rare(async || {
        let outcome = group("tree", CollectAll, async |g| {
            let handle = g.handle();
            g.spawn("parent", async move {
                handle.spawn("child", async { Ok(1) }).expect("a member keeps its group open");
                Ok::<_, Failed>(0)
            });
        })
        .await;
        assert_eq!(outcome.all_ok(), Ok(vec![0, 1]));
    });
}

/// Spawns with a handle from outside, at once and into a place that was reserved, while the group ends.
async fn spawn_from_elsewhere_while_it_ends() {
    let spawned = Tally::default();
    let slots = scope("outer", async |s| {
        let outcome: Outcome<usize, Failed> = group("group", CollectAll.at_most(2), async |g| {
            for number in 0..2 {
                let (handle, spawned) = (g.handle(), spawned.clone());
                s.spawn("elsewhere", async move {
                    let Ok(permit) = handle.try_reserve() else { return Ok(()) };
                    dawdle().await;
                    if permit.spawn("late", async move { Ok(number) }).id().is_some() {
                        spawned.more();
                    }
                    Ok(())
                });
            }
            dawdle().await;
        })
        .await;
        Ok::<_, Cancelled>(outcome.into_ok().count())
    })
    .await;
    assert!(
        slots.as_ref().is_ok_and(|slots| *slots >= spawned.now()),
        "{slots:?}, {} spawned",
        spawned.now()
    );
}

#[test]
fn a_spawn_that_races_with_the_end_has_a_slot_or_is_refused() {
    check(spawn_from_elsewhere_while_it_ends);
}

#[test]
fn a_spawn_that_races_with_the_end_has_a_slot_or_is_refused_in_rare_orders() {
    check_rare(spawn_from_elsewhere_while_it_ends);
}

#[test]
fn the_first_failure_is_the_one_that_is_told() {
    check(async || {
        let (alive, beaten) = (Tally::default(), [Tally::default(), Tally::default()]);
        let outcome: Outcome<usize, Failed> = group("fail fast", FailFast, async |g| {
            let handle = g.handle();
            let one = alive.one();
            g.spawn("spawns", async move {
                let _one = one;
                dawdle().await;
                let _refused_or_not = handle.spawn("late", async { Ok(9) });
                pending().await
            });
            for who in 0..2 {
                let beaten = beaten[who].clone();
                g.spawn("fails", async move {
                    dawdle().await;
                    if is_cancelled() {
                        beaten.more();
                    }
                    Err(Failed(who))
                });
            }
        })
        .await;
        assert_eq!(alive.now(), 0, "the group returned before its tasks were gone");
        // The late one was spawned, refused, or never tried.
        let slots = outcome.slots();
        assert!((3..=4).contains(&slots.len()), "{slots:?}");
        assert!(matches!(slots[0].1, Slot::Cancelled(_)), "{slots:?}");
        match outcome.first_failure() {
            Some((_, Slot::Failed(Failed(who)))) => {
                assert_eq!(beaten[*who].now(), 0, "the second failure was told")
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_first_success_decides_and_the_losers_are_gone() {
    check(async || {
        let (alive, beaten) = (Tally::default(), [Tally::default(), Tally::default()]);
        let outcome = group("first", FirstSuccess, async |g| {
            for who in 0..2 {
                let (one, beaten) = (alive.one(), beaten[who].clone());
                g.spawn("attempt", async move {
                    let _one = one;
                    dawdle().await;
                    if is_cancelled() {
                        beaten.more();
                    }
                    Ok(who)
                });
            }
            g.spawn("fails", async { Err(Failed(0)) });
            let one = alive.one();
            g.spawn("never", async move {
                let _one = one;
                pending().await
            });
        })
        .await;
        assert_eq!(alive.now(), 0, "a loser was left");
        match &outcome.slots()[3].1 {
            Slot::Cancelled(cancelled) => assert_eq!(*cancelled.cause(), Cause::Decided),
            other => panic!("{other:?}"),
        }
        let winner = outcome.first_ok().expect("one of two must win");
        assert_eq!(beaten[winner].now(), 0, "who won had lost before");
    });
}

#[test]
fn a_quorum_that_is_there_ends_those_still_asked() {
    check(async || {
        let alive = Tally::default();
        let outcome: Outcome<usize, Failed> = group("quorum", Quorum(2), async |g| {
            for number in 0..3 {
                let one = alive.one();
                g.spawn("replica", async move {
                    let _one = one;
                    dawdle().await;
                    if number < 2 { Ok(number) } else { pending().await }
                });
            }
        })
        .await;
        assert_eq!(alive.now(), 0);
        assert_eq!(outcome.quorum().expect("two have answered"), [0, 1]);
    });
}

#[test]
fn a_quorum_out_of_reach_ends_those_still_asked() {
    check(async || {
        let alive = Tally::default();
        let outcome = group("quorum", Quorum(3), async |g| {
            for number in 0..4 {
                let one = alive.one();
                g.spawn("replica", async move {
                    let _one = one;
                    dawdle().await;
                    match number {
                        0 => Ok(number),
                        1 => Err(Failed(number)),
                        2 => bad_input("a panic"),
                        _ => pending().await, // with this one there would be two
                    }
                });
                dawdle().await;
            }
        })
        .await;
        assert_eq!(alive.now(), 0);
        let slots = outcome.quorum().expect_err("two of four have failed").into_slots();
        match &slots[3].1 {
            Slot::Cancelled(cancelled) => assert_eq!(*cancelled.cause(), Cause::Decided),
            other => panic!("{other:?}"),
        }
    });
}

async fn at_most_two() {
    let (running, most) = (Tally::default(), Tally::default());
    let run = |number: usize| {
        let (running, most) = (running.clone(), most.clone());
        async move {
            let _one = running.one();
            if running.now() > 2 {
                most.more();
            }
            dawdle().await;
            if number == 1 { bad_input("a panic gives its place back") } else { Ok::<_, Failed>(number) }
        }
    };
    let outcome = group("limited", CollectAll.at_most(2), async |g: &Group<_, _, AtMost<CollectAll>>| {
        let mut aborted = None;
        for number in 0..5 {
            drop(give_up_early(g.reserve()).await); // a place, or one in line, that is given back
            let permit = g.reserve().await.expect("nobody cancels");
            let member = permit.spawn("task", run(number));
            if number == 0 {
                aborted = Some(member);
            } else if let Some(member) = aborted.take() {
                member.abort();
            }
        }
    })
    .await;
    assert_eq!(most.now(), 0, "more than two ran at once");
    assert_eq!(outcome.slots().len(), 5);
    for (number, (_, slot)) in outcome.into_slots().into_iter().enumerate() {
        match slot {
            Slot::Ok(value) => assert_eq!(value, number),
            Slot::Panicked(_) => assert_eq!(number, 1),
            Slot::Cancelled(cancelled) => assert_eq!((number, cancelled.cause()), (0, &Cause::Aborted)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn never_more_run_than_may_and_every_place_comes_back() {
    check(at_most_two);
}

#[test]
fn never_more_run_than_may_and_every_place_comes_back_in_rare_orders() {
    check_rare(at_most_two);
}

#[test]
fn a_cancel_ends_the_wait_for_room() {
    check(async || {
        let outcome: Outcome<(), Failed> = group("full", CollectAll.at_most(1), async |g| {
            let handle = g.handle();
            let permit = g.reserve().await.expect("there is room");
            permit.spawn("cancels", async move {
                dawdle().await;
                handle.cancel("enough");
                pending().await
            });
            let refused = g.reserve().await.map(drop);
            assert_eq!(*refused.expect_err("there is no room").cause(), Cause::Requested("enough"));
        })
        .await;
        assert!(matches!(outcome.slots(), [(_, Slot::Cancelled(_))]), "{outcome:?}");
    });
}
