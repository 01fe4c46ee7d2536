//! Scopes: what ends when, in which order, and because of whom.

use std::future::pending;
use std::time::Duration;

use super::{Tally, check, check_rare, dawdle, draw, give_up_early};
use crate::{Bound, Cancelled, Cause, Handle, Overflow, cancelled, is_cancelled, scope, shielded};

/// Without a timer: a grace too long to add to the clock's time is none.
const NO_LIMIT: Duration = Duration::MAX;

#[derive(Debug, PartialEq)]
enum Failed {
    By(usize),
    Cancelled(Cancelled),
}

impl From<Cancelled> for Failed {
    fn from(cancelled: Cancelled) -> Self {
        Failed::Cancelled(cancelled)
    }
}

async fn spawn_from_elsewhere_while_it_ends() {
    let (listed, ran, over) = (Tally::default(), Tally::default(), Tally::default());
    let too_late = Tally::default();
    let done = scope("outer", async |outer| {
        scope("inner", async |inner| {
            let handle = inner.handle();
            let (listed, ran, over) = (listed.clone(), ran.clone(), over.clone());
            let too_late = too_late.clone();
            outer.spawn("elsewhere", async move {
                let work = async move {
                    dawdle().await;
                    ran.more();
                    if over.now() > 0 {
                        too_late.more();
                    }
                    Ok(())
                };
                match handle.spawn("late", work) {
                    Ok(_) => _ = listed.more(),
                    Err(closed) => assert_eq!(*closed.cause(), Cause::ScopeClosed),
                }
                Ok(())
            });
            dawdle().await;
            Ok::<_, Cancelled>(())
        })
        .await?;
        over.more();
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    assert_eq!(ran.now(), listed.now(), "a task was listed and did not run, or was refused and did");
    assert_eq!(too_late.now(), 0, "a task ran in a scope that was over");
}

#[test]
fn a_spawn_that_races_with_the_end_is_refused_or_waited_for() {
    check(spawn_from_elsewhere_while_it_ends);
}

#[test]
fn a_spawn_that_races_with_the_end_is_refused_or_waited_for_in_rare_orders_too() {
    check_rare(spawn_from_elsewhere_while_it_ends);
}

#[test]
fn the_first_error_wins_and_cancels_those_who_wait() {
    check(async || {
        let (alive, beaten) = (Tally::default(), [Tally::default(), Tally::default()]);
        let failed = scope("scope", async |s| {
            for who in 0..2 {
                let beaten = beaten[who].clone();
                s.spawn("fails", async move {
                    dawdle().await;
                    if is_cancelled() {
                        beaten.more();
                    }
                    Err::<(), _>(Failed::By(who))
                });
            }
            let (tx, rx) = s.queue::<()>("never", Bound::items(1), Overflow::Block);
            let one = alive.one();
            s.spawn_with("waits", rx, async move |_cx, rx| {
                let _one = one;
                let answer = rx.recv().await;
                assert!(answer.is_err(), "{answer:?}");
                Ok(())
            });
            let one = alive.one();
            s.spawn("waits for something foreign", async move {
                let _one = one;
                pending::<Result<(), _>>().await
            });
            cancelled().await;
            drop(tx);
            Ok(())
        })
        .await;
        assert_eq!(alive.now(), 0, "the scope returned before its tasks were gone");
        match failed {
            Err(Failed::By(who)) => assert_eq!(beaten[who].now(), 0, "the second error won"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_dropped_scope_is_adopted_by_the_one_around_it() {
    check(async || {
        let alive = Tally::default();
        let done = scope("outer", async |_| {
            let inner = scope("inner", async |s| {
                let (one, two) = (alive.one(), alive.one());
                s.spawn("task", async move {
                    let _one = one;
                    // One level deeper, and the drop reaches it through the task.
                    scope("innermost", async |s| {
                        s.spawn("deep", async move {
                            let _two = two;
                            pending::<Result<(), Cancelled>>().await
                        });
                        Ok(())
                    })
                    .await
                });
                let one = alive.one();
                s.spawn("ends", async move {
                    let _one = one;
                    dawdle().await;
                    Ok(())
                });
                Ok::<_, Cancelled>(())
            });
            assert!(give_up_early(inner).await.is_none(), "one of its tasks never ends");
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(alive.now(), 0, "the outer scope returned before what it adopted was gone");
    });
}

#[test]
fn a_task_cancelled_by_its_handle_while_it_ends_ends_one_way() {
    check(async || {
        let alive = Tally::default();
        let done = scope("scope", async |s| {
            let (one, other) = (alive.one(), alive.one());
            let task = s.spawn("task", async move {
                let _one = one;
                dawdle().await;
                Ok(7)
            });
            let waits = s.spawn("waits", async move {
                let _other = other;
                cancelled().await;
                // Its answer, which is between it and whoever cancelled it.
                Err::<(), _>(Failed::By(0))
            });
            dawdle().await;
            let reason = if draw(2) == 0 {
                task.cancel("enough");
                Cause::Requested("enough")
            } else {
                task.abort();
                Cause::Aborted
            };
            waits.cancel("enough");
            match task.await {
                Ok(value) => assert_eq!(value, 7),
                Err(cancelled) => assert_eq!(*cancelled.cause(), reason),
            }
            assert_eq!(*waits.await.unwrap_err().cause(), Cause::Requested("enough"));
            Ok::<_, Failed>(())
        })
        .await;
        assert_eq!(done, Ok(()), "a cancel through a handle failed the scope");
        assert_eq!(alive.now(), 0);
    });
}

async fn daemons_and_those_they_serve() {
    let (working, serving) = (Tally::default(), Tally::default());
    let forsaken = Tally::default();
    let done = scope("scope", async |s| {
        let (tx, rx) = s.queue::<u32>("requests", Bound::items(1), Overflow::Block);
        let (seen, forsaken) = (working.clone(), forsaken.clone());
        let one = serving.one();
        s.spawn_daemon_with("serve", rx, async move |_cx, rx| {
            let _one = one;
            while let Ok(Some(_)) = rx.recv().await {}
            let why = cancelled().await;
            if seen.now() > 0 {
                forsaken.more();
            }
            Err(why)
        });
        let one = serving.one();
        s.spawn_daemon("has tasks of its own", async move {
            let _one = one;
            scope("of the daemon", async |s| {
                s.spawn("waits", async { Err::<(), _>(cancelled().await) });
                Ok::<_, Cancelled>(())
            })
            .await?;
            Err(cancelled().await)
        });
        for number in 0..2 {
            let one = working.one();
            s.spawn_with("work", tx.clone(), async move |_cx, tx| {
                let _one = one;
                dawdle().await;
                tx.send(number).await?;
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    assert_eq!((working.now(), serving.now()), (0, 0));
    assert_eq!(forsaken.now(), 0, "a daemon was cancelled before those it serves were gone");
}

#[test]
fn daemons_serve_the_others_to_the_end_and_then_end_too() {
    check(daemons_and_those_they_serve);
}

#[test]
fn daemons_serve_the_others_to_the_end_and_then_end_too_in_rare_orders() {
    check_rare(daemons_and_those_they_serve);
}

#[test]
fn what_is_shielded_comes_to_its_end_when_it_has_begun() {
    check(async || {
        let (begun, ended) = (Tally::default(), Tally::default());
        let done = scope("outer", async |outer| {
            scope("scope", async |s| {
                let handle = s.handle();
                outer.spawn("cancel", async move {
                    handle.cancel("enough");
                    Ok(())
                });
                let (tx, rx) = s.queue::<u32>("last words", Bound::items(1), Overflow::Block);
                let (begun, ended) = (begun.clone(), ended.clone());
                s.spawn_with("task", tx, async move |_cx, tx| {
                    dawdle().await;
                    shielded(NO_LIMIT, async move {
                        begun.more();
                        for word in 0..2 {
                            tx.send(word).await?;
                        }
                        ended.more();
                        Ok::<_, Cancelled>(())
                    })
                    .await?
                });
                let _ = shielded(NO_LIMIT, async {
                    while let Ok(Some(_)) = rx.recv().await {
                        dawdle().await;
                    }
                })
                .await;
                Ok::<_, Cancelled>(())
            })
            .await
            .unwrap_or_else(|cancelled| assert_eq!(*cancelled.cause(), Cause::Requested("enough")));
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(begun.now(), ended.now(), "a shielded section was cut off");
    });
}

#[test]
fn a_kept_handle_never_cancels_another_task() {
    check(async || {
        let done = scope("scope", async |s| {
            let short = |number: usize| -> Handle<usize> {
                s.spawn("short", async move {
                    if draw(2) == 0 {
                        shuttle::future::yield_now().await;
                    }
                    Ok(number)
                })
            };
            let kept = short(0);
            s.spawn("cancel", async move {
                dawdle().await;
                if draw(2) == 0 {
                    kept.cancel("meant for the first");
                } else {
                    kept.abort();
                }
                Ok(())
            });
            // Records of ended tasks are used again for these.
            for number in 1..5 {
                assert_eq!(short(number).await, Ok(number));
            }
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
    });
}
