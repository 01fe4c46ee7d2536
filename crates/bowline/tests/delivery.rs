//! Deliveries: between being taken and being done an item is lost to nobody, and everybody can see who has it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use bowline::{
    Bound, Cancelled, CloseReason, CollectAll, Either, FreeTx, Overflow, SendError, TryRecvError, group,
    race, scope,
};
use futures_util::future::join;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, queue};

/// An item is in exactly one place: `(received, in flight, queued)`.
fn places<T: Send + 'static>(tx: &FreeTx<T>) -> (u64, usize, usize) {
    let stats = tx.stats();
    let left = (stats.in_flight + stats.depth_items) as u64;
    assert_eq!(stats.sent, stats.received + stats.dropped + stats.abandoned + left, "the books balance");
    (stats.received, stats.in_flight, stats.depth_items)
}

#[bowline::test]
async fn an_acknowledged_item_is_done() {
    let (tx, rx) = queue(Bound::items(2), Overflow::Block).await;
    tx.try_send("a").unwrap();
    let delivery = rx.recv_delivery().await.unwrap().unwrap();
    assert_eq!((*delivery, delivery.attempt(), places(&tx)), ("a", 1, (0, 1, 0)));
    assert_eq!(delivery.ack(), "a");
    assert_eq!((places(&tx), tx.stats().redelivered), ((1, 0, 0), 0));
}

#[bowline::test]
async fn a_dropped_delivery_is_the_next_to_be_received() {
    let (tx, rx) = queue(Bound::items(2), Overflow::Block).await;
    tx.try_send("a").unwrap();
    tx.try_send("b").unwrap();
    drop(rx.try_recv_delivery().unwrap());
    rx.try_recv_delivery().unwrap().nack();
    let third = rx.try_recv_delivery().unwrap();
    assert_eq!((*third, third.attempt(), tx.stats().redelivered), ("a", 3, 2));
    third.ack();
    assert_eq!(rx.try_recv_delivery().unwrap().attempt(), 1, "each item has its own count");
    assert_eq!(rx.try_recv(), Ok("b"), "and any receiver may take it then");
    assert_eq!(places(&tx), (2, 0, 0));
}

#[bowline::test]
async fn an_urgent_item_comes_back_into_the_urgent_lane() {
    let (tx, rx) = queue(Bound::items(2).and_urgent(1), Overflow::Block).await;
    tx.try_send("data").unwrap();
    tx.try_send_urgent("ping").unwrap();
    let ping = rx.try_recv_delivery().unwrap();
    assert_eq!((*ping, tx.try_send_urgent("ping 2")), ("ping", Err(SendError::Full("ping 2"))));
    drop(ping);
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok("ping"), Ok("data")));
}

/// streadway/amqp#434: the library buffered 500,000 messages that the limit did not see. What is in flight counts.
#[bowline::test]
async fn what_is_in_flight_takes_room() {
    let (tx, rx) = queue(Bound::items(2).and_bytes(100, |item: &usize| *item), Overflow::Block).await;
    tx.try_send(60).unwrap();
    let delivery = rx.try_recv_delivery().unwrap();
    let mut too_big = parked(tx.send(50)).await;
    assert_eq!(tx.stats().depth_bytes, 0);
    assert_eq!(delivery.ack(), 60);
    assert_eq!(poll_once(&mut too_big).await, Poll::Ready(Ok(())));
    tx.try_send(1).unwrap();
    let both = (rx.try_recv_delivery().unwrap(), rx.try_recv_delivery().unwrap());
    assert_eq!(tx.try_send(2), Err(SendError::Full(2)));
    drop(both);
    assert_eq!((tx.stats().depth_items, tx.stats().depth_bytes), (2, 51), "and what comes back has room");
}

#[bowline::test]
async fn what_comes_back_wakes_a_receiver_that_waits() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(1).unwrap();
    let delivery = rx.try_recv_delivery().unwrap();
    let mut waiting = parked(rx.recv()).await;
    drop(delivery);
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(Some(1))));
}

#[bowline::test]
async fn a_queue_does_not_end_while_something_is_in_flight() {
    let (tx, rx) = queue(Bound::items(2), Overflow::Block).await;
    tx.try_send(1).unwrap();
    tx.try_send(2).unwrap();
    drop(tx);
    let (one, two) = (rx.try_recv_delivery().unwrap(), rx.try_recv_delivery().unwrap());
    assert!(matches!(rx.try_recv(), Err(TryRecvError::Empty)), "it may come back");
    let (mut first, mut second) = (parked(rx.recv()).await, parked(rx.recv()).await);
    drop(one);
    assert_eq!(poll_once(&mut first).await, Poll::Ready(Ok(Some(1))));
    assert!(poll_once(&mut second).await.is_pending());
    two.ack();
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(None)), "now nothing can");
}

#[bowline::test]
async fn a_queue_counts_as_received_while_something_is_in_flight() {
    let (tx, rx) = queue(Bound::items(2), Overflow::Block).await;
    tx.try_send(1).unwrap();
    let delivery = rx.try_recv_delivery().unwrap();
    drop(rx);
    assert_eq!(tx.close_reason(), None);
    tx.try_send(2).unwrap();
    drop(delivery);
    assert_eq!(tx.close_reason(), Some(CloseReason::ReceiversGone));
    assert_eq!((tx.stats().abandoned, places(&tx)), (2, (0, 0, 0)), "back, and abandoned with the rest");
}

/// librdkafka#1122, rust-rdkafka#46, NServiceBus.RabbitMQ#122, logstash-rabbitmq#44: committed or acknowledged before it was
/// processed, so whatever was in a worker's hands when it died was lost.
#[bowline::test]
async fn what_a_worker_had_in_its_hands_goes_to_another_when_it_dies() {
    scope("workers", async |s| {
        let (tx, rx) = s.queue("orders", Bound::items(4), Overflow::Block);
        tx.send("order").await?;
        let worker = s.spawn_with("dies", rx.clone(), async |_cx, rx| {
            let _order = rx.recv_delivery().await?;
            std::future::pending::<Result<(), Cancelled>>().await
        });
        tokio::task::yield_now().await;
        let (id, stats) = (worker.id(), tx.stats());
        assert_eq!(stats.deliveries.iter().map(|holder| holder.task).collect::<Vec<_>>(), [id], "who has it");
        worker.abort();
        let again = rx.recv_delivery().await?.expect("it is not over");
        assert_eq!((*again, again.attempt()), ("order", 2));
        again.ack();
        assert!(tx.stats().deliveries.is_empty());
        worker.await.unwrap_err();
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn what_a_worker_had_in_its_hands_goes_to_another_when_it_panics() {
    let handled = Arc::new(AtomicU32::new(0));
    let outcome = group("workers", CollectAll, async |g| {
        let (tx, rx) = g.cx().queue::<u32>("orders", Bound::items(8), Overflow::Block);
        for _ in 0..3 {
            let handled = Arc::clone(&handled);
            g.spawn_with("worker", rx.clone(), async move |_cx, rx| {
                while let Some(order) = rx.recv_delivery().await? {
                    tokio::task::yield_now().await;
                    assert!(*order != 3 || order.attempt() > 2, "a poisoned order");
                    handled.fetch_add(order.ack(), Ordering::Relaxed);
                }
                Ok::<_, Cancelled>(())
            });
        }
        drop(rx);
        for order in 1..=6 {
            tx.send(order).await.unwrap();
        }
    });
    assert_eq!(outcome.await.counts().panicked, 2);
    assert_eq!(handled.load(Ordering::Relaxed), 1 + 2 + 3 + 4 + 5 + 6);
}

/// mdk#712: dequeue, then await, inside of a `select!`: the arm that lost took the message with it.
#[bowline::test]
async fn an_arm_that_loses_a_race_gives_back_what_it_had_taken() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send("message").unwrap();
    let handle = async {
        let message = rx.recv_delivery().await.unwrap().unwrap();
        std::future::pending::<()>().await; // the work on it
        message.ack();
    };
    let shutdown = tokio::task::yield_now();
    assert!(matches!(race(handle, shutdown).await, Either::Right(())));
    assert_eq!(rx.try_recv(), Ok("message"));
}

#[bowline::test]
async fn a_delivery_moves_to_the_task_that_is_to_handle_it() {
    scope("dispatch", async |s| {
        let (tx, rx) = s.queue("jobs", Bound::items(4), Overflow::Block);
        tx.send(7).await?;
        let job = rx.recv_delivery().await?.expect("it is not over");
        let me = s.cx().task_id();
        let held =
            |stats: bowline::QueueStats| stats.deliveries.iter().map(|one| one.task).collect::<Vec<_>>();
        assert_eq!(held(tx.stats()), [Some(me)]);
        let handler = s.spawn_with("handler", job, async |cx, job| Ok((cx.task_id(), job.ack())));
        assert_eq!(held(tx.stats()), [None], "on its way");
        let (handled_by, job) = handler.await?;
        assert_eq!((handled_by != me, job, held(tx.stats())), (true, 7, vec![]));
        tx.send(8).await?;
        let free = rx.recv_delivery().await?.expect("it is not over").free();
        assert_eq!((*free, held(tx.stats())), (8, vec![None]));
        s.close();
        let refused =
            s.spawn_with("late", free, async |_cx, _job| -> Result<(), Cancelled> { panic!("polled") });
        refused.await.unwrap_err();
        assert_eq!((rx.try_recv(), tx.stats().redelivered), (Ok(8), 1), "refused with its task, and back");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_dropped_wait_for_a_delivery_loses_nothing() {
    let (tx, rx) = queue::<u32>(Bound::items(1), Overflow::Block).await;
    let polls = cancel_everywhere(
        || {
            let handles = async {
                let delivery = rx.recv_delivery().await.unwrap().unwrap();
                tokio::task::yield_now().await;
                delivery.ack()
            };
            let sends = async {
                tokio::task::yield_now().await;
                tx.send(7).await.unwrap();
            };
            join(handles, sends)
        },
        async |_polls, done| {
            let stats = tx.stats();
            assert_eq!((stats.in_flight, stats.waiting_receivers), (0, 0));
            let sent_and_not_done = usize::try_from(stats.sent - stats.received).unwrap();
            assert_eq!(
                (sent_and_not_done, done.is_some()),
                (stats.depth_items, stats.received > 0 && done.is_some())
            );
            while rx.try_recv().is_ok() {}
            tx.try_send(9).expect("no room is kept for who has gone");
            rx.try_recv().unwrap();
        },
    )
    .await;
    assert!(polls > 2);
}

#[bowline::test]
async fn a_cancelled_wait_for_a_delivery_takes_nothing() {
    let (tx, rx) = queue::<u32>(Bound::items(1), Overflow::Block).await;
    let polls = cancel_context_everywhere(
        || async {
            let sends = async {
                tokio::task::yield_now().await;
                tx.try_send(7).unwrap();
            };
            join(async { rx.recv_delivery().await.map(|got| got.map(|item| item.ack())) }, sends).await.0
        },
        async |_polls, received| match received.expect("both ended by themselves") {
            Ok(item) => assert_eq!((item, places(&tx).2), (Some(7), 0)),
            Err(_cancelled) => assert_eq!(rx.try_recv(), Ok(7)),
        },
    )
    .await;
    assert!(polls > 1);
}

/// Long enough for the slowest machine; what waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

#[bowline::test(worker_threads = 2)]
async fn under_load_every_item_is_acknowledged_once_though_handlers_give_up_all_the_time() {
    const ITEMS: u64 = 4_000;
    let run = group("stress", bowline::FailFast, async |g| {
        let (tx, rx) = g.cx().queue::<u64>("narrow", Bound::items(3), Overflow::Block);
        for worker in 0..4_u64 {
            g.spawn_with("worker", rx.clone(), async move |_cx, rx| {
                let mut sum = 0;
                while let Some(item) = rx.recv_delivery().await? {
                    if (*item + u64::from(item.attempt()) + worker) % 3 == 0 {
                        continue; // gives up
                    }
                    if *item % 5 == worker {
                        tokio::task::yield_now().await;
                    }
                    sum += item.ack();
                }
                Ok::<_, Cancelled>(sum)
            });
        }
        drop(rx);
        for item in 1..=ITEMS {
            tx.send(item).await.expect("a receiver is there");
        }
    });
    let sums = tokio::time::timeout(HANG, run).await.expect("a wake-up was lost").all_ok().unwrap();
    assert_eq!(sums.into_iter().sum::<u64>(), ITEMS * (ITEMS + 1) / 2);
}
