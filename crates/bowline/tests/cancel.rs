//! Cancel safety of every wait, at every await point: dropped there, and cancelled there.

mod support;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Cause, CollectAll, Discard, FreeRx, FreeTx, Handle, Overflow, SendError, Slot, group,
    race, scope, shielded, timeout,
};
use futures_util::future::join;
use support::{cancel_context_everywhere, cancel_everywhere, queue, yield_now};

/// Turns enough for every abort to have taken effect.
const SETTLED: usize = 20;

/// Nothing of ours is left below the test's root.
async fn nothing_is_left() {
    yield_now(SETTLED).await;
    let tree = bowline::tree();
    assert_eq!((tree.tasks, tree.foreign_tasks), (0, Some(0)), "{tree}");
    assert!(tree.roots[0].scopes.is_empty(), "{tree}");
}

/// Something that a test looks at after the future that filled it has gone.
struct Kept<T>(Rc<RefCell<Option<T>>>);

impl<T> Kept<T> {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(None)))
    }

    fn put(&self, value: T) {
        *self.0.borrow_mut() = Some(value);
    }

    fn take(&self) -> T {
        self.0.borrow_mut().take().expect("the future was polled")
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// A queue for one item: no room, no item and no place in line is lost in it.
fn nothing_is_reserved_or_promised(tx: &FreeTx<u32>, rx: &FreeRx<u32>) {
    let stats = tx.stats();
    assert_eq!((stats.waiting_senders, stats.waiting_receivers), (0, 0));
    assert_eq!(stats.sent, stats.received + stats.depth_items as u64);
    while rx.try_recv().is_ok() {}
    assert_eq!(tx.depth(), 0, "an item is promised to somebody who has gone");
    assert_eq!(tx.try_send(9), Ok(()), "room is reserved for somebody who has gone");
    assert_eq!(tx.try_send(9), Err(SendError::Full(9)));
}

// ---- dropped

#[bowline::test]
async fn a_dropped_send_leaves_the_queue_as_it_was() {
    let kept = Kept::new();
    let make = || async {
        let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
        kept.put((tx.clone(), rx.clone()));
        tx.try_send(1).unwrap();
        let receives = async {
            yield_now(2).await;
            rx.recv().await.unwrap().unwrap();
            yield_now(2).await;
        };
        join(tx.send(2), receives).await.0
    };
    let polls = cancel_everywhere(make, async |_, sent| {
        let (tx, rx) = kept.take();
        assert!(sent.is_none_or(|sent| sent == Ok(())));
        nothing_is_reserved_or_promised(&tx, &rx);
    });
    assert!(polls.await > 3);
}

#[bowline::test]
async fn a_dropped_reserve_or_permit_gives_the_room_back() {
    let kept = Kept::new();
    let make = || async {
        let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
        kept.put((tx.clone(), rx.clone()));
        tx.try_send(1).unwrap();
        let sends = async {
            let permit = tx.reserve().await.unwrap();
            yield_now(2).await;
            permit.send(2).unwrap();
        };
        let receives = async {
            yield_now(2).await;
            rx.recv().await.unwrap().unwrap();
        };
        join(sends, receives).await;
    };
    let polls = cancel_everywhere(make, async |_, _| {
        let (tx, rx) = kept.take();
        nothing_is_reserved_or_promised(&tx, &rx);
    });
    assert!(polls.await > 3);
}

#[bowline::test]
async fn a_dropped_recv_loses_no_item() {
    let kept = Kept::new();
    let make = || async {
        let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
        let got = Rc::new(RefCell::new(Vec::new()));
        kept.put((tx.clone(), rx.clone(), Rc::clone(&got)));
        let receives = async {
            for _ in 0..3 {
                let item = rx.recv().await.unwrap().unwrap();
                got.borrow_mut().push(item);
            }
        };
        let sends = async {
            for item in 0..3 {
                yield_now(2).await;
                tx.send(item).await.unwrap();
            }
        };
        // The sender is polled last: items are granted to a receiver that is dropped before it comes for them.
        join(receives, sends).await;
    };
    let polls = cancel_everywhere(make, async |_, _| {
        let (tx, rx, got) = kept.take();
        let mut got = got.take();
        while let Ok(item) = rx.try_recv() {
            got.push(item);
        }
        assert_eq!(got, (0..u32::try_from(tx.stats().sent).unwrap()).collect::<Vec<_>>());
        nothing_is_reserved_or_promised(&tx, &rx);
    });
    assert!(polls.await > 6);
}

/// A vector that survives the future that fills it.
struct Filled {
    items: Vec<u32>,
    kept: Kept<Vec<u32>>,
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.kept.put(std::mem::take(&mut self.items));
    }
}

#[bowline::test]
async fn a_dropped_recv_many_loses_no_item() {
    let (kept, filled) = (Kept::new(), Kept::new());
    let make = || async {
        let (tx, rx) = queue(Bound::items(2), Overflow::Block).await;
        kept.put((tx.clone(), rx.clone()));
        let receives = async {
            let mut into = Filled { items: Vec::new(), kept: filled.clone() };
            while into.items.len() < 4 {
                rx.recv_many(&mut into.items, 2).await.unwrap();
            }
        };
        let sends = async {
            for item in 0..4 {
                tx.send(item).await.unwrap();
                yield_now(1).await;
            }
        };
        join(receives, sends).await;
    };
    let polls = cancel_everywhere(make, async |_, _| {
        let (tx, rx) = kept.take();
        let mut got = filled.take();
        while let Ok(item) = rx.try_recv() {
            got.push(item);
        }
        assert_eq!(got, (0..u32::try_from(tx.stats().sent).unwrap()).collect::<Vec<_>>());
    });
    assert!(polls.await > 2);
}

#[bowline::test]
async fn a_handle_awaited_by_reference_and_dropped_loses_no_value() {
    scope("outer", async |s| {
        let handle: RefCell<Option<Handle<u32>>> = RefCell::new(None);
        let make = || {
            let task = s.spawn("task", async {
                yield_now(1).await;
                Ok(5)
            });
            handle.replace(Some(task));
            poll_fn(|cx| Pin::new(handle.borrow_mut().as_mut().unwrap()).poll(cx))
        };
        let polls = cancel_everywhere(make, async |_, value| {
            let task = handle.take().unwrap();
            match value {
                Some(value) => assert_eq!(value, Ok(5)),
                None => assert_eq!(task.await, Ok(5)),
            }
        });
        assert!(polls.await > 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(allow_adoption)]
async fn a_dropped_scope_leaves_no_task_and_no_value_of_one_behind() {
    let guard = Arc::new(());
    let make = || {
        scope("scope", async |s| {
            let mut tasks = Vec::new();
            for turns in 0..3 {
                let guard = Arc::clone(&guard);
                tasks.push(s.spawn("task", async move {
                    yield_now(turns).await;
                    Ok(guard)
                }));
            }
            s.spawn("nests", async {
                scope("inner", async |s| {
                    s.spawn("deep", async {
                        yield_now(3).await;
                        Ok(())
                    });
                    Ok::<_, Cancelled>(())
                })
                .await
            });
            for task in tasks {
                task.await?;
            }
            Ok::<_, Cancelled>(())
        })
    };
    let polls = cancel_everywhere(make, async |_, ended| {
        assert!(ended.is_none_or(|ended| ended == Ok(())));
        nothing_is_left().await;
        assert_eq!(Arc::strong_count(&guard), 1);
    });
    assert!(polls.await > 3);
}

#[bowline::test(allow_adoption)]
async fn a_dropped_group_leaves_no_task_and_no_result_behind() {
    let guard = Arc::new(());
    let make = || {
        group("group", CollectAll, async |g| {
            for turns in 0..4 {
                let guard = Arc::clone(&guard);
                g.spawn("task", async move {
                    yield_now(turns).await;
                    if turns % 2 == 0 { Ok(guard) } else { Err(guard) }
                });
            }
            yield_now(4).await;
        })
    };
    let polls = cancel_everywhere(make, async |_, outcome| {
        assert!(outcome.is_none_or(|outcome| outcome.counts().ok == 2 && outcome.counts().failed == 2));
        nothing_is_left().await;
        assert_eq!(Arc::strong_count(&guard), 1);
    });
    assert!(polls.await > 3);
}

#[bowline::test(allow_adoption)]
async fn a_dropped_discarding_group_leaves_no_task_behind() {
    let guard = Arc::new(());
    let make = || {
        group("group", Discard, async |g| {
            for turns in 0..4 {
                let guard = Arc::clone(&guard);
                g.spawn("task", async move {
                    yield_now(turns).await;
                    Ok::<_, Cancelled>(guard)
                });
            }
            yield_now(4).await;
        })
    };
    let polls = cancel_everywhere(make, async |_, _| {
        nothing_is_left().await;
        assert_eq!(Arc::strong_count(&guard), 1);
    });
    assert!(polls.await > 3);
}

#[bowline::test(start_paused = true, allow_adoption)]
async fn a_dropped_timeout_drops_what_it_runs_and_leaves_no_context_behind() {
    let guard = Arc::new(());
    let make = || {
        let inside = Arc::clone(&guard);
        timeout(Duration::from_secs(5), async move {
            let nested = timeout(Duration::from_secs(1), tokio::time::sleep(Duration::from_secs(9)));
            assert!(nested.await.unwrap_err().is_deadline());
            scope("scope", async |s| {
                s.spawn("task", async move {
                    tokio::time::sleep(Duration::from_secs(9)).await;
                    Ok(inside)
                });
                Ok::<_, Cancelled>(())
            })
            .await
        })
    };
    let polls = cancel_everywhere(make, async |_, ended| {
        // The scope came to an end at the deadline, and said why: a value to `timeout`.
        assert!(ended.is_none_or(|ended| ended.unwrap().is_err_and(|why| why.is_deadline())));
        nothing_is_left().await;
        assert_eq!(Arc::strong_count(&guard), 1);
    });
    assert!(polls.await > 2);
}

#[bowline::test(start_paused = true)]
async fn a_dropped_shield_protects_nothing_any_more() {
    let run = scope("outer", async |s| {
        s.spawn("task", async {
            let make = || {
                shielded(Duration::from_secs(5), async {
                    yield_now(2).await;
                    shielded(Duration::from_secs(1), yield_now(2)).await
                })
            };
            let polls = cancel_everywhere(make, async |_, done| {
                assert!(done.is_none_or(|done| done == Ok(Ok(()))));
            });
            assert!(polls.await > 3);
            std::future::pending::<Result<(), Cancelled>>().await // a shield that was left would keep this for ever
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        s.cancel("enough");
        Ok(())
    });
    let ended =
        tokio::time::timeout(Duration::from_secs(3600), run).await.expect("the task is still shielded");
    assert_eq!(ended.unwrap_err().cause(), &Cause::Requested("enough"));
}

#[bowline::test]
async fn a_task_whose_waits_were_dropped_is_no_longer_shown_as_waiting() {
    scope("outer", async |s| {
        let task = s.spawn("task", async {
            let make = || race(race(bowline::draining(), bowline::cancelled()), yield_now(3));
            let polls = cancel_everywhere(make, async |_, _| {}).await;
            assert!(polls > 2);
            std::future::pending::<Result<(), Cancelled>>().await
        });
        yield_now(SETTLED).await;
        let tree = serde_json::to_string(&bowline::tree()).unwrap();
        assert!(tree.contains(r#""is":"parked""#), "{tree}");
        task.cancel("enough");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- cancelled

#[bowline::test]
async fn a_cancelled_send_gives_the_item_back_or_has_sent_it() {
    scope("outer", async |world| {
        let kept = Kept::new();
        let make = || async {
            let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
            kept.put((tx.clone(), rx.clone()));
            tx.try_send(1).unwrap();
            let receives = world.handle().spawn("receives", async move {
                yield_now(3).await;
                rx.recv().await.unwrap().unwrap();
                Ok(())
            });
            receives.unwrap();
            tx.send(2).await
        };
        let polls = cancel_context_everywhere(make, async |polls, sent| {
            let (tx, rx) = kept.take();
            match sent.expect("the wait ended by itself") {
                Ok(()) => assert!(polls > 1),
                Err(error) => assert!(matches!(error, SendError::Cancelled(2, _)), "{error:?}"),
            }
            yield_now(SETTLED).await;
            nothing_is_reserved_or_promised(&tx, &rx);
        });
        assert!(polls.await > 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_cancelled_reserve_gives_its_place_up() {
    scope("outer", async |world| {
        let kept = Kept::new();
        let make = || async {
            let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
            kept.put((tx.clone(), rx.clone()));
            tx.try_send(1).unwrap();
            let receives = world.handle().spawn("receives", async move {
                yield_now(3).await;
                rx.recv().await.unwrap().unwrap();
                Ok(())
            });
            receives.unwrap();
            tx.reserve().await.map(drop)
        };
        let polls = cancel_context_everywhere(make, async |_, reserved| {
            let (tx, rx) = kept.take();
            let reserved = reserved.expect("the wait ended by itself");
            assert!(matches!(reserved, Ok(()) | Err(SendError::Cancelled((), _))), "{reserved:?}");
            yield_now(SETTLED).await;
            nothing_is_reserved_or_promised(&tx, &rx);
        });
        assert!(polls.await > 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_cancelled_recv_takes_nothing() {
    scope("outer", async |world| {
        let kept = Kept::new();
        let make = || async {
            let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
            kept.put((tx.clone(), rx.clone()));
            let sends = world.handle().spawn("sends", async move {
                yield_now(3).await;
                tx.send(1).await.unwrap();
                Ok(())
            });
            sends.unwrap();
            let mut items = Vec::new();
            let received = rx.recv_many(&mut items, 1).await;
            (received, items)
        };
        let polls = cancel_context_everywhere(make, async |_, received| {
            let (tx, rx) = kept.take();
            yield_now(SETTLED).await;
            match received.expect("the wait ended by itself") {
                (Ok(1), items) => assert_eq!(items, [1]),
                (Err(_), items) => assert_eq!((items, rx.try_recv()), (vec![], Ok(1))),
                other => panic!("{other:?}"),
            }
            nothing_is_reserved_or_promised(&tx, &rx);
        });
        assert!(polls.await > 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_cancelled_await_of_a_handle_ends_and_the_task_goes_on() {
    scope("outer", async |world| {
        let kept = Kept::new();
        let make = || async {
            let mut task = world.handle().spawn("task", async {
                yield_now(3).await;
                bowline::check()?;
                Ok(5)
            });
            let value = task.as_mut().unwrap().await;
            kept.put((task.unwrap(), value.is_ok()));
            value
        };
        let polls = cancel_context_everywhere(make, async |_, value| {
            let value = value.expect("the wait ended by itself");
            assert!(value == Ok(5) || value.unwrap_err().cause() == &Cause::Requested("cut"));
            let (task, taken) = kept.take();
            if !taken {
                assert_eq!(task.await, Ok(5));
            }
        });
        assert!(polls.await > 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_cancelled_scope_comes_to_its_end() {
    let guard = Arc::new(());
    let make = || {
        scope("scope", async |s| {
            for turns in 0..3 {
                let guard = Arc::clone(&guard);
                s.spawn("task", async move {
                    yield_now(turns).await;
                    Ok(guard)
                });
            }
            yield_now(1).await;
            Ok::<_, Cancelled>(())
        })
    };
    let polls = cancel_context_everywhere(make, async |_, ended| {
        // The outer one gives it the time, whether its body was cut or only its tasks.
        let ended = ended.expect("a scope holds off the drop until its tasks are gone");
        assert!(ended.is_ok() || ended.unwrap_err().cause() == &Cause::Requested("cut"));
        assert_eq!(Arc::strong_count(&guard), 1, "gone means gone: no settling here");
        nothing_is_left().await;
    });
    assert!(polls.await > 2);
}

#[bowline::test(worker_threads = 2)]
async fn a_cancelled_group_returns_its_outcome_with_a_slot_for_everybody() {
    for _ in 0..50 {
        let make = || {
            group("group", CollectAll, async |g| {
                for turns in 0..4 {
                    g.spawn("task", async move {
                        yield_now(turns).await;
                        Ok::<_, Cancelled>(turns)
                    });
                }
            })
        };
        cancel_context_everywhere(make, async |_, outcome| {
            let outcome = outcome.expect("a group holds off the drop until its results are there");
            assert_eq!(outcome.slots().len(), 4);
            for (turns, (_, slot)) in outcome.slots().iter().enumerate() {
                assert!(
                    matches!(slot, Slot::Cancelled(_)) || matches!(slot, Slot::Ok(t) if *t == turns),
                    "{slot:?}"
                );
            }
        })
        .await;
    }
}

#[bowline::test(start_paused = true)]
async fn a_cancelled_timeout_says_why() {
    let make = || timeout(Duration::from_secs(5), yield_now(3));
    let polls = cancel_context_everywhere(make, async |polls, ended| match ended {
        // It was polled once more, and both it and what it ran saw the cancel.
        Some(Err(why)) => assert_eq!(why.cause(), &Cause::Requested("cut")),
        Some(Ok(())) => assert!(polls >= 3, "three turns were to come"),
        None => panic!("it should have ended by itself"),
    });
    assert_eq!(polls.await, 4);
}

#[bowline::test(start_paused = true)]
async fn a_shielded_section_comes_to_its_end_in_a_cancelled_context() {
    let make = || async {
        let done = shielded(Duration::from_secs(5), async {
            yield_now(2).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            bowline::is_cancelled()
        });
        done.await
    };
    let polls = cancel_context_everywhere(make, async |_, done| assert_eq!(done, Some(Ok(false))));
    assert!(polls.await > 2);
}
