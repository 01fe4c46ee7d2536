//! The other channels: one answer, the latest value, every item to everybody, and hand-over.

use super::{Tally, check, check_rare, dawdle, draw, give_up_early};
use crate::sync::Arc;
use crate::{BroadcastError, Cancelled, NoAnswer, SendError, WatchError, scope};

#[test]
fn an_answer_is_received_or_given_back_and_its_absence_is_told() {
    check(async || {
        let (alive, sent, refused) = (Tally::default(), Tally::default(), Tally::default());
        let (received, missed) = (Tally::default(), Tally::default());
        let answers = draw(3) > 0;
        let leaves_early = draw(3) == 0;
        let left = Tally::default();
        let done = scope("scope", async |s| {
            let (reply, mut answer) = s.oneshot("answer");
            let (one, sent, refused) = (alive.one(), sent.clone(), refused.clone());
            let of_task = left.clone();
            s.spawn_with("answer", reply, async move |_cx, mut reply| {
                drop(give_up_early(reply.closed()).await);
                if answers {
                    let nobody_asks = of_task.now() > 0;
                    match reply.send(one) {
                        Ok(()) => {
                            assert!(!nobody_asks, "sent to nobody");
                            sent.more();
                        }
                        Err(SendError::Closed(_one)) => _ = refused.more(),
                        Err(other) => panic!("{other:?}"),
                    }
                }
                Ok(())
            });
            let answered = match give_up_early(answer.recv()).await {
                None if leaves_early => {
                    drop(answer);
                    left.more();
                    return Ok(());
                }
                None => answer.recv().await,
                Some(answered) => answered,
            };
            match answered {
                Ok(_one) => _ = received.more(),
                Err(NoAnswer::Unanswered { by_panic, .. }) => {
                    assert!(!by_panic);
                    missed.more();
                }
                Err(other) => panic!("{other:?}"),
            }
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(alive.now(), 0, "an answer was left");
        assert_eq!(sent.now() + refused.now(), usize::from(answers));
        assert!(received.now() <= sent.now() && missed.now() <= usize::from(!answers));
        if !leaves_early {
            assert_eq!((received.now(), missed.now()), (sent.now(), usize::from(!answers)));
        }
    });
}

async fn two_watch() {
    const LAST: usize = 3;
    let sender_stays = draw(2) == 0;
    let done = scope("scope", async |s| {
        let (tx, rx) = s.watch("level", 0);
        let kept = sender_stays.then(|| tx.clone());
        let mut watching = Vec::new();
        for _ in 0..2 {
            watching.push(s.spawn_with("watch", rx.clone(), async move |_cx, mut rx| {
                let mut seen = 0;
                while !(sender_stays && seen == LAST) {
                    let changed = match give_up_early(rx.changed()).await {
                        Some(changed) => changed,
                        None => rx.changed().await,
                    };
                    match changed {
                        Ok(()) => {
                            let value = rx.cloned();
                            assert!(value >= seen, "{value} after {seen}");
                            seen = value;
                        }
                        Err(WatchError::Ended { .. }) => break,
                        Err(other) => panic!("{other:?}"),
                    }
                }
                assert_eq!(seen, LAST, "the last value was missed");
                Ok(())
            }));
        }
        s.spawn_with("set", tx, async |_cx, tx| {
            for value in 1..=LAST {
                tx.send(value);
                dawdle().await;
            }
            Ok(())
        });
        for watching in watching {
            watching.await?;
        }
        drop(kept);
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
}

#[test]
fn whoever_watches_sees_the_last_value() {
    check(two_watch);
}

#[test]
fn whoever_watches_sees_the_last_value_in_rare_orders() {
    check_rare(two_watch);
}

#[test]
fn what_a_slow_receiver_misses_is_counted() {
    const ITEMS: u64 = 5;
    check(async || {
        let sender_stays = draw(2) == 0;
        let done = scope("scope", async |s| {
            let (tx, rx) = s.broadcast("items", 2);
            let kept = sender_stays.then(|| tx.clone());
            let mut receiving = Vec::new();
            for _ in 0..2 {
                receiving.push(s.spawn_with("receive", rx.clone(), async move |_cx, mut rx| {
                    let mut next = 0;
                    while !(sender_stays && next == ITEMS) {
                        let received = match give_up_early(rx.recv_numbered()).await {
                            Some(received) => received,
                            None => rx.recv_numbered().await,
                        };
                        match received {
                            Ok(Some((sequence, item))) => {
                                assert_eq!((sequence, item), (next, next), "out of order");
                                next += 1;
                            }
                            Ok(None) => break,
                            Err(BroadcastError::Lagged(lagged)) => {
                                next += lagged.missed;
                                assert_eq!(lagged.resume_from, next);
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    assert_eq!(next, ITEMS, "neither received nor counted as missed");
                    Ok(())
                }));
            }
            s.spawn_with("send", tx, async |_cx, tx| {
                for item in 0..ITEMS {
                    tx.send(item);
                    dawdle().await;
                }
                Ok(())
            });
            for receiving in receiving {
                receiving.await?;
            }
            drop(kept);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
    });
}

/// Who took which items.
type Taken = Arc<std::sync::Mutex<Vec<usize>>>;

async fn hand_over_two_to_two() {
    let (taken, given) = (Taken::default(), Tally::default());
    let done = scope("scope", async |s| {
        let (tx, rx) = s.rendezvous("batons");
        for hands in 0..2 {
            let given = given.clone();
            s.spawn_with("give", tx.clone(), async move |_cx, tx| {
                for item in [2 * hands, 2 * hands + 1] {
                    let mut slot = Some(item);
                    let gave_up = give_up_early(tx.send_from(&mut slot)).await.is_none();
                    assert!(gave_up || slot.is_none());
                    if slot.is_some() {
                        tx.send_from(&mut slot).await?;
                    }
                    given.more();
                    assert!(tx.stats().received >= given.now() as u64, "neither taken nor in its slot");
                }
                Ok(())
            });
            let taken = Arc::clone(&taken);
            s.spawn_with("take", rx.clone(), async move |_cx, rx| {
                loop {
                    let received = match give_up_early(rx.recv()).await {
                        Some(received) => received?,
                        None => rx.recv().await?,
                    };
                    let Some(item) = received else { return Ok(()) };
                    taken.lock().unwrap().push(item);
                }
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    let mut taken = std::mem::take(&mut *taken.lock().unwrap());
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3], "lost or doubled");
}

#[test]
fn an_item_is_taken_or_back_in_its_slot() {
    check(hand_over_two_to_two);
}

#[test]
fn an_item_is_taken_or_back_in_its_slot_in_rare_orders() {
    check_rare(hand_over_two_to_two);
}

#[test]
fn a_taker_who_goes_leaves_the_item_to_another() {
    check(async || {
        let taken = Tally::default();
        let done = scope("scope", async |s| {
            let (tx, rx) = s.rendezvous("baton");
            let of_impatient = taken.clone();
            s.spawn_with("gives up", rx.clone(), async move |_cx, rx| {
                if let Some(Ok(Some(()))) = give_up_early(rx.recv()).await {
                    of_impatient.more();
                }
                Ok(())
            });
            let of_patient = taken.clone();
            s.spawn_with("waits", rx, async move |_cx, rx| {
                while rx.recv().await?.is_some() {
                    of_patient.more();
                }
                Ok(())
            });
            dawdle().await;
            tx.send(()).await?;
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!((done, taken.now()), (Ok(()), 1));
    });
}

#[test]
fn givers_learn_that_no_taker_is_left() {
    check(async || {
        let (given, back) = (Tally::default(), Tally::default());
        let taken = Tally::default();
        let done = scope("scope", async |s| {
            let (tx, rx) = s.rendezvous("batons");
            for item in 0..2 {
                let (given, back) = (given.clone(), back.clone());
                s.spawn_with("give", tx.clone(), async move |_cx, tx| {
                    match tx.send(item).await {
                        Ok(()) => _ = given.more(),
                        Err(SendError::Closed(it)) => {
                            assert_eq!(it, item);
                            back.more();
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                    Ok(())
                });
            }
            drop(tx);
            if let Some(received) = give_up_early(rx.recv()).await {
                received?.expect("both offer before they go");
                taken.more();
            }
            drop(rx);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!((given.now(), back.now()), (taken.now(), 2 - taken.now()));
    });
}
