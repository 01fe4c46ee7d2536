//! Queues: nothing lost, nothing doubled, nobody forgotten in line.

use super::{One, Tally, check, check_rare, dawdle, draw, give_up_early};
use crate::sync::Arc;
use crate::{Bound, Cancelled, CloseReason, Overflow, Rx, SendError, Tx, scope};

/// Who sent it, and as which of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    sender: usize,
    number: usize,
}

const SENDERS: usize = 2;
const EACH: usize = 3;

/// What each receiver saw.
#[derive(Clone, Default)]
struct Seen(Arc<std::sync::Mutex<Vec<Vec<Item>>>>);

impl Seen {
    fn add(&self, received: Vec<Item>) {
        self.0.lock().unwrap().push(received);
    }

    /// Everything sent was received once.
    fn check_once(&self) -> Vec<Vec<Item>> {
        let seen = std::mem::take(&mut *self.0.lock().unwrap());
        let mut all: Vec<_> = seen.iter().flatten().copied().collect();
        all.sort_unstable();
        let numbers = |sender| (0..EACH).map(move |number| Item { sender, number });
        assert_eq!(all, (0..SENDERS).flat_map(numbers).collect::<Vec<_>>(), "lost or doubled");
        seen
    }

    /// And each receiver saw the items of one sender in their order.
    fn check_once_and_in_order(&self) {
        for received in self.check_once() {
            for sender in 0..SENDERS {
                let of_one = received.iter().filter(|item| item.sender == sender);
                assert!(of_one.is_sorted(), "out of order: {received:?}");
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Patience {
    Waits,
    GivesUp,
}

/// Sends in the end, and before that perhaps gives up a send, a reservation, or the room it got.
async fn send(tx: &Tx<'_, Item>, item: Item, patience: Patience) -> Result<(), Cancelled> {
    if let Patience::GivesUp = patience {
        match draw(3) {
            0 => {
                if let Some(sent) = give_up_early(tx.send(item)).await {
                    return Ok(sent?);
                }
            }
            1 => {
                if let Some(permit) = give_up_early(tx.reserve()).await {
                    return Ok(permit?.send(item)?);
                }
            }
            _ => drop(give_up_early(tx.reserve()).await),
        }
    }
    Ok(tx.send(item).await?)
}

async fn recv(rx: &Rx<'_, Item>, patience: Patience) -> Result<Option<Item>, Cancelled> {
    if let Patience::GivesUp = patience {
        if let Some(received) = give_up_early(rx.recv()).await {
            return received;
        }
    }
    rx.recv().await
}

/// Two senders, two receivers.
async fn two_to_two(capacity: usize, patience: Patience) {
    let seen = Seen::default();
    let done = scope("two to two", async |s| {
        let (tx, rx) = s.queue("items", Bound::items(capacity), Overflow::Block);
        for sender in 0..SENDERS {
            s.spawn_with("send", tx.clone(), async move |_cx, tx| {
                for number in 0..EACH {
                    send(&tx, Item { sender, number }, patience).await?;
                }
                Ok(())
            });
            let seen = seen.clone();
            s.spawn_with("receive", rx.clone(), async move |_cx, rx| {
                let mut received = Vec::new();
                while let Some(item) = recv(&rx, patience).await? {
                    received.push(item);
                }
                seen.add(received);
                Ok(())
            });
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(done, Ok(()));
    seen.check_once_and_in_order();
}

#[test]
fn every_item_is_received_once_and_in_order_through_one_place() {
    check(|| two_to_two(1, Patience::Waits));
}

#[test]
fn every_item_is_received_once_and_in_order_through_two_places() {
    check(|| two_to_two(2, Patience::Waits));
}

#[test]
fn every_item_is_received_once_and_in_order_in_rare_orders() {
    check_rare(|| two_to_two(1, Patience::Waits));
}

#[test]
fn who_gives_up_waiting_takes_nothing_along_with_one_place() {
    check(|| two_to_two(1, Patience::GivesUp));
}

#[test]
fn who_gives_up_waiting_takes_nothing_along_with_two_places() {
    check(|| two_to_two(2, Patience::GivesUp));
}

#[test]
fn who_gives_up_waiting_takes_nothing_along_in_rare_orders() {
    check_rare(|| two_to_two(1, Patience::GivesUp));
}

/// A task that is cancelled while it waits leaves the queue to the others.
#[test]
fn a_cancelled_task_takes_nothing_along() {
    check(async || {
        let (sent, received) = (Tally::default(), Tally::default());
        let done = scope("scope", async |s| {
            let (tx, rx) = s.queue::<()>("items", Bound::items(1), Overflow::Block);
            let of_this = sent.clone();
            let sender = s.spawn_with("send until cancelled", tx.clone(), async move |_cx, tx| {
                while tx.send(()).await.is_ok() {
                    of_this.more();
                }
                Ok(())
            });
            let of_this = received.clone();
            let receiver = s.spawn_with("receive until cancelled", rx.clone(), async move |_cx, rx| {
                while let Ok(Some(())) = rx.recv().await {
                    of_this.more();
                }
                Ok(())
            });
            let of_this = sent.clone();
            s.spawn_with("send", tx, async move |_cx, tx| {
                for _ in 0..EACH {
                    tx.send(()).await?;
                    of_this.more();
                }
                Ok(())
            });
            dawdle().await;
            sender.cancel("enough");
            receiver.cancel("enough");
            while rx.recv().await?.is_some() {
                received.more();
            }
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(received.now(), sent.now());
    });
}

#[test]
fn a_send_that_races_with_the_close_is_received_or_given_back() {
    check(async || {
        let (sent, given_back, received) = (Tally::default(), Tally::default(), Tally::default());
        let done = scope("scope", async |s| {
            let (tx, rx) = s.queue("items", Bound::items(1), Overflow::Block);
            for sender in 0..SENDERS {
                let (sent, given_back) = (sent.clone(), given_back.clone());
                s.spawn_with("send", tx.clone(), async move |_cx, tx| {
                    for number in 0..EACH {
                        match tx.send(Item { sender, number }).await {
                            Ok(()) => _ = sent.more(),
                            Err(SendError::Closed(item)) => {
                                assert_eq!(item, Item { sender, number });
                                given_back.more();
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    Ok(())
                });
            }
            s.spawn_with("wait for the close", tx, async |_cx, tx| tx.closed().await);
            for _ in 0..draw(EACH) {
                rx.recv().await?.expect("senders are left");
                received.more();
            }
            rx.close();
            assert_eq!(rx.close_reason(), Some(CloseReason::ByReceiver));
            while rx.recv().await?.is_some() {
                received.more();
            }
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(received.now(), sent.now());
        assert_eq!(sent.now() + given_back.now(), SENDERS * EACH);
    });
}

#[test]
fn senders_learn_that_no_receiver_is_left_and_nothing_stays_behind() {
    check(async || {
        let alive = Tally::default();
        let done = scope("scope", async |s| {
            let (tx, rx) = s.queue::<One>("items", Bound::items(1), Overflow::Block);
            for _ in 0..SENDERS {
                let alive = alive.clone();
                s.spawn_with("send", tx.clone(), async move |_cx, tx| {
                    while tx.send(alive.one()).await.is_ok() {}
                    Ok(())
                });
            }
            s.spawn_with("wait for the close", tx, async |_cx, tx| tx.closed().await);
            s.spawn_with("receive one", rx.clone(), async |_cx, rx| rx.recv().await.map(drop));
            drop(give_up_early(rx.recv()).await);
            drop(rx);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        assert_eq!(alive.now(), 0, "an item was left in a queue that nobody has");
    });
}

#[test]
fn a_delivery_is_acknowledged_once() {
    check(async || {
        let seen = Seen::default();
        let done = scope("scope", async |s| {
            let (tx, rx) = s.queue("items", Bound::items(2), Overflow::Block);
            for sender in 0..SENDERS {
                s.spawn_with("send", tx.clone(), async move |_cx, tx| {
                    for number in 0..EACH {
                        tx.send(Item { sender, number }).await?;
                    }
                    Ok(())
                });
                let seen = seen.clone();
                s.spawn_with("receive", rx.clone(), async move |_cx, rx| {
                    let mut acknowledged = Vec::new();
                    loop {
                        // Given up, it may have been promised one: that goes to the other.
                        drop(give_up_early(rx.recv_delivery()).await);
                        let Some(delivery) = rx.recv_delivery().await? else { break };
                        dawdle().await;
                        if draw(2) == 0 {
                            delivery.nack();
                        } else {
                            acknowledged.push(delivery.ack());
                        }
                    }
                    seen.add(acknowledged);
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        seen.check_once();
    });
}

#[test]
fn a_delivery_of_one_who_goes_reaches_another() {
    check(async || {
        let acknowledged = Tally::default();
        let done = scope("scope", async |s| {
            let (tx, rx) = s.queue::<()>("items", Bound::items(2), Overflow::Block);
            s.spawn_with("goes", rx.clone(), async |_cx, rx| {
                if let Some(Ok(Some(delivery))) = give_up_early(rx.recv_delivery()).await {
                    dawdle().await;
                    delivery.nack();
                }
                Ok(())
            });
            let of_this = acknowledged.clone();
            s.spawn_with("stays", rx, async move |_cx, rx| {
                while let Some(delivery) = rx.recv_delivery().await? {
                    delivery.ack();
                    of_this.more();
                }
                Ok(())
            });
            dawdle().await;
            tx.send(()).await?;
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!((done, acknowledged.now()), (Ok(()), 1));
    });
}

#[test]
fn every_source_is_heard_to_its_end() {
    check(async || {
        let seen = Seen::default();
        let done = scope("scope", async |s| {
            let (sources, rx) = s.cx().merge("items", Bound::items(1), Overflow::Block);
            for sender in 0..SENDERS {
                let source = sources.source(if sender == 0 { "wind" } else { "rain" });
                s.spawn_with("send", source, async move |_cx, source| {
                    for number in 0..EACH {
                        let item = Item { sender, number };
                        match give_up_early(source.send(item)).await {
                            Some(sent) => sent?,
                            None => source.send(item).await?,
                        }
                    }
                    Ok(())
                });
            }
            drop(sources);
            let mut received = Vec::new();
            loop {
                let next = match give_up_early(rx.recv()).await {
                    Some(next) => next?,
                    None => rx.recv().await?,
                };
                let Some(next) = next else { break };
                assert_eq!(&*next.source, if next.item.sender == 0 { "wind" } else { "rain" });
                received.push(next.item);
            }
            seen.add(received);
            Ok::<_, Cancelled>(())
        })
        .await;
        assert_eq!(done, Ok(()));
        seen.check_once_and_in_order();
    });
}

#[test]
fn what_a_full_queue_drops_is_counted() {
    check(async || {
        let received = Tally::default();
        let stats = scope("scope", async |s| {
            let (tx, rx) = s.queue("items", Bound::items(1), Overflow::DropOldest);
            for sender in 0..SENDERS {
                s.spawn_with("send", tx.clone(), async move |_cx, tx| {
                    for number in 0..EACH {
                        tx.send(Item { sender, number }).await?;
                    }
                    Ok(())
                });
            }
            drop(tx);
            loop {
                let next = match give_up_early(rx.recv()).await {
                    Some(next) => next?,
                    None => rx.recv().await?,
                };
                if next.is_none() {
                    return Ok::<_, Cancelled>(rx.stats());
                }
                received.more();
            }
        })
        .await
        .unwrap();
        assert_eq!(stats.sent, (SENDERS * EACH) as u64);
        assert_eq!(stats.received, received.now() as u64);
        assert_eq!(stats.sent, stats.received + stats.dropped);
    });
}
