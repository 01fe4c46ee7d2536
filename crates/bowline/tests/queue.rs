//! Queues: what "full" means, who is served first, who holds the ends, and that nothing is lost or counted twice.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Cause, CloseReason, Either, FreeTx, Holder, Overflow, QueueStats, SendError,
    TryRecvError, race, scope, timeout,
};
use futures_util::StreamExt as _;
use futures_util::future::join;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, queue};

/// Items that are their own size.
fn bytes(max_items: usize, max_bytes: usize) -> Bound<usize> {
    Bound::items(max_items).and_bytes(max_bytes, |item| *item)
}

/// What the books say: `(sent, received, dropped, refused, abandoned, queued)`.
fn books(stats: &QueueStats) -> (u64, u64, u64, u64, u64, usize) {
    let QueueStats { sent, received, dropped, refused, abandoned, depth_items, in_flight, .. } = *stats;
    let left = (depth_items + in_flight) as u64;
    assert_eq!(sent, received + dropped + abandoned + left, "the books balance");
    (sent, received, dropped, refused, abandoned, depth_items)
}

// ---- full, in items

#[bowline::test]
async fn a_full_blocking_queue_makes_the_sender_wait_and_takes_its_item_later() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.send(1).await.unwrap();
    let mut second = parked(tx.send(2)).await;
    assert_eq!((tx.stats().waits, tx.stats().waiting_senders), (1, 1));
    assert_eq!(rx.try_recv(), Ok(1));
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(())));
    assert_eq!(rx.try_recv(), Ok(2));
    assert_eq!(books(&tx.stats()), (2, 2, 0, 0, 0, 0));
}

#[bowline::test]
async fn a_full_rejecting_queue_refuses_at_once_and_gives_the_item_back() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Reject).await;
    tx.send(1).await.unwrap();
    assert_eq!(tx.send(2).await, Err(SendError::Full(2)));
    assert_eq!(tx.try_send(3), Err(SendError::Full(3)));
    assert_eq!(tx.reserve().await.map(drop), Err(SendError::Full(())));
    assert_eq!(rx.try_recv(), Ok(1));
    assert_eq!(books(&tx.stats()), (1, 1, 0, 3, 0, 0));
}

#[bowline::test]
async fn a_full_queue_that_drops_the_oldest_keeps_the_newest_and_counts() {
    let (tx, rx) = queue(Bound::items(2), Overflow::DropOldest).await;
    for item in 1..=5 {
        tx.send(item).await.unwrap();
    }
    assert_eq!(books(&tx.stats()), (5, 0, 3, 0, 0, 2));
    assert_eq!((rx.try_recv(), rx.try_recv(), rx.try_recv()), (Ok(4), Ok(5), Err(TryRecvError::Empty)));
}

#[bowline::test]
async fn a_full_queue_that_drops_the_newest_keeps_the_oldest_and_counts() {
    let (tx, rx) = queue(Bound::items(2), Overflow::DropNewest).await;
    for item in 1..=5 {
        tx.send(item).await.unwrap();
    }
    assert_eq!(books(&tx.stats()), (5, 0, 3, 0, 0, 2));
    assert_eq!((rx.try_recv(), rx.try_recv(), rx.try_recv()), (Ok(1), Ok(2), Err(TryRecvError::Empty)));
}

#[bowline::test]
async fn a_try_send_into_a_full_blocking_queue_does_not_wait() {
    let (tx, _rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(1).unwrap();
    assert_eq!(tx.try_send(2), Err(SendError::Full(2)));
    assert_eq!(tx.try_reserve().map(drop), Err(SendError::Full(())));
    assert_eq!(books(&tx.stats()), (1, 0, 0, 2, 0, 1));
}

#[bowline::test]
async fn an_item_promised_to_a_receiver_is_not_dropped_for_a_newer_one() {
    let (tx, rx) = queue(Bound::items(1), Overflow::DropOldest).await;
    let mut receiver = parked(rx.recv()).await;
    tx.send(1).await.unwrap();
    tx.send(2).await.unwrap();
    assert_eq!(poll_once(&mut receiver).await, Poll::Ready(Ok(Some(1))));
    assert_eq!(books(&tx.stats()), (2, 1, 1, 0, 0, 0));
}

#[bowline::test]
async fn the_high_water_mark_stays_when_the_queue_empties() {
    let (tx, rx) = queue(Bound::items(64), Overflow::Block).await;
    for item in 0..50 {
        tx.try_send(item).unwrap();
    }
    while rx.try_recv().is_ok() {}
    tx.try_send(0).unwrap();
    assert_eq!((tx.stats().high_water_items, tx.depth(), rx.depth()), (50, 1, 1));
}

#[test]
fn a_bound_of_no_items_is_refused() {
    assert!(std::panic::catch_unwind(|| Bound::<u8>::items(0)).is_err());
    assert!(std::panic::catch_unwind(|| Bound::<u8>::items(1).and_urgent(0)).is_err());
}

/// vector#19938: one slow sink back-pressures every sibling. Here each branch has a policy of its own.
#[bowline::test]
async fn a_slow_branch_does_not_hold_up_its_siblings() {
    let (slow, _nobody_takes) = queue(Bound::items(1), Overflow::DropOldest).await;
    let (fast, taken) = queue(Bound::items(1), Overflow::Block).await;
    for item in 0..10 {
        slow.send(item).await.unwrap();
        fast.send(item).await.unwrap();
        assert_eq!(taken.recv().await, Ok(Some(item)));
    }
    assert_eq!((slow.stats().dropped, fast.stats().dropped), (9, 0));
}

/// tungstenite#490 and tokio-tungstenite#286: the write buffer of a dead peer grows without end, for the cap that is
/// documented is not the default. There is no queue without a bound, and it holds.
#[bowline::test]
async fn the_queue_of_a_dead_peer_holds_no_more_than_its_bound() {
    let (tx, _never_read) = queue(bytes(1_000, 4_096), Overflow::Reject).await;
    let refused = (0..10_000).filter(|_| tx.try_send(1_000).is_err()).count();
    assert_eq!((refused, tx.stats().depth_bytes), (9_996, 4_000));
}

/// substrate#12853: nobody polled the receiver, and it took a counter with a creation backtrace to find out which queue.
#[bowline::test]
async fn a_queue_that_nobody_receives_from_stands_in_the_tree_with_its_place() {
    scope("node", async |s| {
        let (tx, _never_polled) = s.queue("notifications", Bound::items(100), Overflow::Block);
        let line = line!() - 1;
        for item in 0..70 {
            tx.send(item).await?;
        }
        let stats = tx.stats();
        assert_eq!((stats.name, stats.depth_items, stats.received), ("notifications", 70, 0));
        assert!(stats.place.ends_with(&format!("queue.rs:{line}")), "{}", stats.place);
        while tx.stats().oldest_ms == 0 {
            tokio::task::yield_now().await; // the coarse clock ticks by itself
        }
        let tree = bowline::tree().to_string();
        assert!(tree.contains("notifications") && tree.contains("70/100, oldest "), "{tree}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- full, in bytes

#[bowline::test]
async fn a_sender_waits_for_room_in_bytes() {
    let (tx, rx) = queue(bytes(10, 100), Overflow::Block).await;
    tx.send(60).await.unwrap();
    tx.send(40).await.unwrap();
    let mut third = parked(tx.send(1)).await;
    assert_eq!(tx.stats().depth_bytes, 100);
    assert_eq!(rx.try_recv(), Ok(60));
    assert_eq!(poll_once(&mut third).await, Poll::Ready(Ok(())));
    assert_eq!(tx.stats().depth_bytes, 41);
}

#[bowline::test]
async fn granted_senders_together_stay_within_the_bound_in_bytes() {
    let (tx, rx) = queue(bytes(10, 100), Overflow::Block).await;
    tx.send(100).await.unwrap();
    let mut senders = Vec::new();
    for _ in 0..4 {
        senders.push(parked(tx.send(60)).await);
    }
    assert_eq!(rx.try_recv(), Ok(100));
    let mut sent = 0;
    for sender in &mut senders {
        sent += u32::from(poll_once(sender).await.is_ready());
    }
    assert_eq!(
        (sent, tx.stats().depth_bytes),
        (1, 60),
        "each alone would have had room, two together have none"
    );
}

#[bowline::test]
async fn a_full_rejecting_queue_refuses_by_bytes() {
    let (tx, _rx) = queue(bytes(10, 100), Overflow::Reject).await;
    tx.send(60).await.unwrap();
    assert_eq!(tx.send(41).await, Err(SendError::Full(41)));
    assert_eq!(tx.send(40).await, Ok(()));
    assert_eq!(tx.stats().depth_bytes, 100);
}

#[bowline::test]
async fn as_many_of_the_oldest_are_dropped_as_the_bytes_need() {
    let (tx, rx) = queue(bytes(10, 100), Overflow::DropOldest).await;
    for item in [30, 31, 32, 50] {
        tx.send(item).await.unwrap();
    }
    assert_eq!((tx.stats().depth_bytes, books(&tx.stats())), (82, (4, 0, 2, 0, 0, 2)));
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(32), Ok(50)));
}

#[bowline::test]
async fn the_newest_is_dropped_by_bytes() {
    let (tx, rx) = queue(bytes(10, 100), Overflow::DropNewest).await;
    for item in [60, 41, 40] {
        tx.send(item).await.unwrap();
    }
    assert_eq!(books(&tx.stats()), (3, 0, 1, 0, 0, 2));
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(60), Ok(40)));
}

/// risingwave#3314: bounded by count, so a few huge items took all memory.
#[bowline::test]
async fn few_huge_items_are_too_much_before_many_small_ones_are() {
    let (tx, _rx) = queue(bytes(1_000, 64 << 20), Overflow::Reject).await;
    let huge = 30 << 20;
    assert_eq!(
        [tx.try_send(huge), tx.try_send(huge), tx.try_send(huge)],
        [Ok(()), Ok(()), Err(SendError::Full(huge))]
    );
    assert_eq!(tx.stats().depth_items, 2);
}

/// centrifugo#1018: the limit counted batches, not the records in them. The weight of an item is what one says it is.
#[bowline::test]
async fn a_queue_of_batches_may_be_bounded_by_their_records() {
    let records = Bound::items(100).and_bytes(1_000, Vec::<u8>::len);
    let (tx, _rx) = queue(records, Overflow::Reject).await;
    tx.try_send(vec![0; 600]).unwrap();
    assert!(tx.try_send(vec![0; 600]).is_err());
    assert_eq!((tx.stats().depth_items, tx.stats().depth_bytes), (1, 600));
}

#[bowline::test]
async fn an_oversized_item_is_admitted_into_an_empty_queue_only() {
    let (tx, rx) = queue(bytes(10, 100), Overflow::Block).await;
    tx.try_send(500).unwrap();
    assert_eq!(rx.try_recv(), Ok(500));
    tx.try_send(1).unwrap();
    let mut oversized = parked(tx.send(500)).await;
    assert_eq!(rx.try_recv(), Ok(1));
    assert_eq!(poll_once(&mut oversized).await, Poll::Ready(Ok(())));
    assert_eq!(tx.stats().depth_bytes, 500);
}

#[bowline::test]
async fn sizes_near_the_end_of_the_number_range_overflow_nothing() {
    let (tx, rx) = queue(bytes(10, usize::MAX - 1), Overflow::Block).await;
    let one = tx.try_reserve().unwrap();
    let two = tx.try_reserve().unwrap();
    one.send(usize::MAX).unwrap();
    two.send(usize::MAX).unwrap();
    assert_eq!(tx.try_send(usize::MAX), Err(SendError::Full(usize::MAX)));
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(usize::MAX), Ok(usize::MAX)));
    assert_eq!(tx.stats().depth_bytes, 0);
}

#[bowline::test]
async fn a_size_that_changes_while_the_item_is_queued_leaves_no_bytes_behind() {
    let size = |item: &Arc<AtomicU64>| usize::try_from(item.load(Ordering::Relaxed)).unwrap();
    let (tx, rx) = queue(Bound::items(2).and_bytes(100, size), Overflow::Block).await;
    let item = Arc::new(AtomicU64::new(80));
    tx.try_send(Arc::clone(&item)).unwrap();
    item.store(10, Ordering::Relaxed);
    rx.try_recv().unwrap();
    assert_eq!(tx.stats().depth_bytes, 0);
}

// ---- first come, first served

#[bowline::test]
async fn senders_get_room_in_the_order_in_which_they_were_first_polled() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(0).unwrap();
    let never_polled = tx.send(9);
    let mut waiting = Vec::new();
    for item in 1..=3 {
        waiting.push(parked(tx.send(item)).await);
    }
    for expected in 0..=3 {
        assert_eq!(rx.try_recv(), Ok(expected));
        for sender in waiting.iter_mut().rev() {
            if poll_once(sender).await.is_ready() {
                drop(waiting.remove(0)); // it can only have been the first, whatever the order of polling
                break;
            }
        }
    }
    drop(never_polled);
    assert!(waiting.is_empty());
}

#[bowline::test]
async fn a_newcomer_does_not_overtake_a_sender_that_was_granted_room() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(1).unwrap();
    let mut second = parked(tx.send(2)).await;
    rx.try_recv().unwrap();
    assert_eq!(tx.depth(), 0);
    assert_eq!(tx.try_send(3), Err(SendError::Full(3)));
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(())));
}

#[bowline::test]
async fn a_big_item_at_the_head_of_the_line_is_not_overtaken_by_small_ones() {
    let (tx, rx) = queue(bytes(10, 100), Overflow::Block).await;
    tx.try_send(50).unwrap();
    tx.try_send(50).unwrap();
    let mut big = parked(tx.send(90)).await;
    let mut small = parked(tx.send(1)).await;
    assert_eq!(rx.try_recv(), Ok(50));
    assert!(poll_once(&mut small).await.is_pending());
    assert_eq!(tx.try_send(1), Err(SendError::Full(1)));
    assert_eq!(tx.try_reserve().map(drop), Err(SendError::Full(())));
    assert_eq!(rx.try_recv(), Ok(50));
    assert_eq!(poll_once(&mut big).await, Poll::Ready(Ok(())));
    assert_eq!(poll_once(&mut small).await, Poll::Ready(Ok(())));
}

#[bowline::test]
async fn receivers_are_served_in_the_order_in_which_they_were_first_polled() {
    let (tx, rx) = queue(Bound::items(8), Overflow::Block).await;
    let never_polled = rx.recv();
    let (mut first, mut second) = (parked(rx.recv()).await, parked(rx.recv()).await);
    tx.try_send(1).unwrap();
    assert!(poll_once(&mut second).await.is_pending());
    assert_eq!(poll_once(&mut first).await, Poll::Ready(Ok(Some(1))));
    tx.try_send(2).unwrap();
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(Some(2))));
    drop(never_polled);
}

#[bowline::test]
async fn a_newcomer_does_not_take_what_was_promised_to_a_waiting_receiver() {
    let (tx, rx) = queue(Bound::items(8), Overflow::Block).await;
    let mut waiting = parked(rx.recv()).await;
    tx.try_send(1).unwrap();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    tx.try_send(2).unwrap();
    assert_eq!(rx.try_recv(), Ok(1), "the oldest goes out first, and one item stays for who waits");
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(Some(2))));
}

// ---- reserve, then commit

#[bowline::test]
async fn reserved_room_is_kept_until_it_is_used() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    let permit = tx.reserve().await.unwrap();
    assert_eq!(tx.try_send(1), Err(SendError::Full(1)));
    permit.send(2).unwrap();
    assert_eq!(rx.try_recv(), Ok(2));
    assert_eq!(books(&tx.stats()), (1, 1, 0, 1, 0, 0));
}

#[bowline::test]
async fn an_unused_permit_gives_its_room_to_the_next_in_line() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    let permit = tx.try_reserve().unwrap();
    let mut next = parked(tx.send(1)).await;
    drop(permit);
    assert_eq!(poll_once(&mut next).await, Poll::Ready(Ok(())));
    assert_eq!(rx.try_recv(), Ok(1));
}

#[bowline::test]
async fn a_permit_whose_queue_was_closed_gives_the_item_back() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    let permit = tx.reserve().await.unwrap();
    drop(rx);
    assert_eq!(permit.send(1), Err(SendError::Closed(1)));
    assert_eq!(books(&tx.stats()), (0, 0, 0, 0, 0, 0));
}

#[bowline::test]
async fn a_permit_is_granted_only_below_the_bound_in_bytes() {
    let (tx, rx) = queue(bytes(10, 100), Overflow::Block).await;
    tx.try_send(100).unwrap();
    let mut permit = parked(tx.reserve()).await;
    rx.try_recv().unwrap();
    let Poll::Ready(Ok(permit)) = poll_once(&mut permit).await else { panic!("there is room") };
    permit.send(150).unwrap(); // a permit is for a place: its item may be of any size
    assert_eq!(tx.stats().depth_bytes, 150);
}

#[bowline::test]
async fn a_permit_used_for_less_than_it_reserved_lets_the_next_in() {
    let (tx, _rx) = queue(bytes(10, 1), Overflow::Block).await;
    let permit = tx.try_reserve().unwrap();
    let mut next = parked(tx.send(1)).await;
    permit.send(0).unwrap();
    assert_eq!(poll_once(&mut next).await, Poll::Ready(Ok(())));
}

#[bowline::test]
async fn room_whose_item_cannot_be_measured_is_given_back() {
    let size = |item: &usize| if *item == 0 { panic!("no size") } else { *item };
    let (tx, _rx) = queue(Bound::items(1).and_bytes(10, size), Overflow::Block).await;
    let permit = tx.try_reserve().unwrap();
    let sending = std::panic::AssertUnwindSafe(|| permit.send(0));
    assert!(std::panic::catch_unwind(sending).is_err());
    assert_eq!(tx.try_send(1), Ok(()));
}

// ---- waiting in vain

#[bowline::test]
async fn a_sender_whose_context_is_cancelled_gets_its_item_back() {
    let (tx, _rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(1).unwrap();
    let (empty, _others) = queue(Bound::items(1), Overflow::Block).await;
    let sender = tx.clone();
    scope("sender", async |s| {
        let sent = s.spawn("send", async move {
            let sent = sender.send(2).await;
            let late = empty.send(3).await; // there is room, and the answer is the same
            Ok([sent, late])
        });
        tokio::task::yield_now().await;
        assert_eq!(tx.stats().waiting_senders, 1);
        s.cancel("enough");
        // The body is cancelled too; its task's value is read through a shield.
        let sent = bowline::shielded(Duration::from_secs(1), sent).await??;
        for (sent, item) in sent.into_iter().zip([2, 3]) {
            let Err(SendError::Cancelled(back, cancelled)) = sent else { panic!("{sent:?}") };
            assert_eq!((back, cancelled.cause()), (item, &Cause::Requested("enough")));
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!((tx.stats().waiting_senders, books(&tx.stats())), (0, (1, 0, 0, 0, 0, 1)));
}

#[bowline::test]
async fn a_receiver_whose_context_is_cancelled_takes_nothing() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    let receiver = rx.clone();
    scope("receiver", async |s| {
        let received = s.spawn("recv", async move {
            let waited = receiver.recv().await;
            tx.try_send(1).unwrap();
            Ok([waited, receiver.recv().await])
        });
        tokio::task::yield_now().await;
        s.cancel("enough");
        for received in bowline::shielded(Duration::from_secs(1), received).await?? {
            assert!(received.is_err(), "{received:?}");
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!((rx.stats().waiting_receivers, rx.try_recv()), (0, Ok(1)));
}

/// tokio#5947: a cancelled `send(v)` drops `v`. Who must keep it waits with `reserve`, outside of which the item stays.
#[bowline::test]
async fn an_item_waits_outside_of_the_wait_for_room() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(1).unwrap();
    let item = 2;
    drop(parked(tx.reserve()).await);
    assert_eq!(rx.try_recv(), Ok(1));
    tx.reserve().await.unwrap().send(item).unwrap();
    assert_eq!(rx.try_recv(), Ok(2));
}

/// tokio#5947 again: and a send that runs out of time is cancelled, not dropped, so that it gives `v` back.
#[bowline::test(start_paused = true)]
async fn a_send_that_runs_out_of_time_gives_the_item_back() {
    let (tx, _rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(String::from("first")).unwrap();
    let sent = timeout(Duration::from_secs(1), tx.send(String::from("second"))).await.unwrap();
    let Err(SendError::Cancelled(item, why)) = sent else { panic!("{sent:?}") };
    assert!(item == "second" && why.is_deadline(), "{why}");
    assert_eq!((tx.stats().waiting_senders, books(&tx.stats())), (0, (1, 0, 0, 0, 0, 1)));
}

/// summerset#11: several arms of one select are not cancel-safe. Here any of them may lose at any time.
#[bowline::test]
async fn no_item_is_lost_in_a_loop_over_a_race_of_sends_and_receives() {
    const ITEMS: u32 = 200;
    let (requests, inbox) = queue(Bound::items(1), Overflow::Block).await;
    let (outbox, replies) = queue(Bound::items(1), Overflow::Block).await;
    let client = async {
        for item in 0..ITEMS {
            requests.send(item).await.unwrap();
        }
    };
    let server = async {
        let mut backlog = std::collections::VecDeque::new();
        let mut done = 0;
        while done < ITEMS {
            let room = async {
                if backlog.is_empty() {
                    std::future::pending().await
                } else {
                    outbox.reserve().await.unwrap()
                }
            };
            match race(room, race(inbox.recv(), tokio::task::yield_now())).await {
                Either::Left(room) => {
                    room.send(backlog.pop_front().unwrap()).unwrap();
                    done += 1;
                }
                Either::Right(Either::Left(item)) => backlog.push_back(item.unwrap().unwrap()),
                Either::Right(Either::Right(())) => {}
            }
        }
    };
    let reader = async {
        for item in 0..ITEMS {
            assert_eq!(replies.recv().await, Ok(Some(item)));
        }
    };
    timeout(HANG, futures_util::future::join3(client, server, reader)).await.expect("something was lost");
}

/// lightning-kmp#484: a task sends to its own full inbox, and waits for itself. That is seen, and ends with the context.
#[bowline::test(start_paused = true)]
async fn a_task_that_sends_to_its_own_full_inbox_shows_and_can_be_cancelled() {
    scope("actors", async |s| {
        let (tx, rx) = s.queue("inbox", Bound::items(1), Overflow::Block);
        let stats = tx.clone();
        let actor = s.spawn_with("actor", (tx, rx), async |_cx, (to_self, inbox)| {
            to_self.send(1).await?;
            let sent = timeout(Duration::from_secs(3600), to_self.send(2)).await?;
            assert_eq!(sent.unwrap_err().into_inner(), 2);
            assert_eq!(inbox.recv().await?, Some(1));
            Ok(())
        });
        tokio::task::yield_now().await;
        let (id, stats) = (actor.id(), stats.stats());
        assert_eq!((stats.depth_items, stats.waiting_senders), (1, 1));
        assert_eq!(stats.receivers.iter().map(|holder| holder.task).collect::<Vec<_>>(), [id], "only itself");
        let stuck =
            bowline::contended().into_iter().find(|queue| queue.id == stats.id).expect("it is waited for");
        assert_eq!(
            stuck.waiters.iter().map(|waiter| (waiter.task, waiter.op)).collect::<Vec<_>>(),
            [(id, "send")]
        );
        assert!(bowline::tree().to_string().contains(&format!("waiting to send #{}", stats.id)));
        actor.await
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn an_item_granted_to_a_receiver_that_is_dropped_goes_to_the_next_bb8_67() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    let first = parked(rx.recv()).await;
    let mut second = parked(rx.recv()).await;
    tx.try_send(1).unwrap();
    drop(first);
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(Some(1))));
    let third = parked(rx.recv()).await;
    tx.try_send(2).unwrap();
    drop(third);
    assert_eq!(rx.try_recv(), Ok(2), "and stays if there is no next");
}

#[bowline::test]
async fn room_granted_to_a_sender_that_is_dropped_goes_to_the_next() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(0).unwrap();
    let first = parked(tx.send(1)).await;
    let mut second = parked(tx.send(2)).await;
    rx.try_recv().unwrap();
    drop(first);
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(())));
    assert_eq!(rx.try_recv(), Ok(2));
    tx.try_send(3).unwrap();
    let third = parked(tx.reserve()).await;
    rx.try_recv().unwrap();
    drop(third);
    assert_eq!(tx.try_send(4), Ok(()), "and is free if there is no next");
}

#[bowline::test]
async fn when_a_big_sender_leaves_the_head_of_the_line_a_small_one_gets_the_room_that_is_there() {
    let (tx, _rx) = queue(bytes(10, 100), Overflow::Block).await;
    tx.try_send(50).unwrap();
    let big = parked(tx.send(90)).await;
    let mut small = parked(tx.send(1)).await;
    drop(big);
    assert_eq!(poll_once(&mut small).await, Poll::Ready(Ok(())));
}

// ---- the end of a queue

#[bowline::test]
async fn receivers_get_what_is_left_after_the_last_sender_went_and_then_closed() {
    let (tx, rx) = queue(Bound::items(4), Overflow::Block).await;
    let other = tx.clone();
    tx.try_send(1).unwrap();
    drop(tx);
    other.try_send(2).unwrap();
    drop(other);
    assert_eq!((rx.recv().await, rx.recv().await), (Ok(Some(1)), Ok(Some(2))));
    assert_eq!((rx.recv().await, rx.try_recv()), (Ok(None), Err(TryRecvError::Closed)));
}

#[bowline::test]
async fn waiting_receivers_learn_that_no_sender_is_left() {
    let (tx, rx) = queue::<u8>(Bound::items(4), Overflow::Block).await;
    let (mut one, mut two) = (parked(rx.recv()).await, parked(rx.recv()).await);
    drop(tx);
    assert_eq!(poll_once(&mut one).await, Poll::Ready(Ok(None)));
    assert_eq!(poll_once(&mut two).await, Poll::Ready(Ok(None)));
}

#[bowline::test]
async fn waiting_senders_get_their_item_back_when_the_last_receiver_goes() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(1).unwrap();
    let (mut two, mut three) = (parked(tx.send(2)).await, parked(tx.reserve()).await);
    drop(rx);
    assert_eq!(poll_once(&mut two).await, Poll::Ready(Err(SendError::Closed(2))));
    assert!(matches!(poll_once(&mut three).await, Poll::Ready(Err(SendError::Closed(())))));
    assert!(tx.is_closed());
    assert_eq!(tx.try_send(4), Err(SendError::Closed(4)));
    assert_eq!((tx.depth(), books(&tx.stats())), (0, (1, 0, 0, 0, 1, 0)));
}

#[bowline::test]
async fn what_is_queued_when_the_last_receiver_goes_is_dropped_and_counted_as_abandoned() {
    let (tx, rx) = queue(Bound::items(4).and_bytes(100, |_: &Arc<()>| 10), Overflow::Block).await;
    let item = Arc::new(());
    for _ in 0..3 {
        tx.try_send(Arc::clone(&item)).unwrap();
    }
    let other = rx.clone();
    drop(rx);
    assert_eq!(Arc::strong_count(&item), 4, "one receiver is left");
    drop(other);
    assert_eq!(Arc::strong_count(&item), 1);
    assert_eq!((tx.stats().depth_bytes, books(&tx.stats())), (0, (3, 0, 0, 0, 3, 0)));
}

#[bowline::test]
async fn a_receiver_may_close_the_queue_and_drain_it() {
    let (tx, rx) = queue(Bound::items(2), Overflow::Block).await;
    tx.try_send(1).unwrap();
    tx.try_send(2).unwrap();
    let mut late = parked(tx.send(3)).await;
    rx.close();
    assert_eq!(poll_once(&mut late).await, Poll::Ready(Err(SendError::Closed(3))));
    assert_eq!((rx.recv().await, rx.recv().await, rx.recv().await), (Ok(Some(1)), Ok(Some(2)), Ok(None)));
    assert_eq!(books(&tx.stats()), (2, 2, 0, 0, 0, 0));
}

#[bowline::test]
async fn a_granted_sender_that_comes_after_the_close_gets_its_item_back() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    tx.try_send(1).unwrap();
    let mut granted = parked(tx.send(2)).await;
    rx.try_recv().unwrap();
    rx.close();
    assert_eq!(poll_once(&mut granted).await, Poll::Ready(Err(SendError::Closed(2))));
}

#[bowline::test]
async fn an_item_granted_before_the_close_is_still_received() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    let mut granted = parked(rx.recv()).await;
    tx.try_send(1).unwrap();
    drop(tx);
    assert_eq!(poll_once(&mut granted).await, Poll::Ready(Ok(Some(1))));
}

#[bowline::test]
async fn an_item_that_is_given_back_after_the_close_reaches_another_receiver() {
    let (tx, rx) = queue(Bound::items(1), Overflow::Block).await;
    let granted = parked(rx.recv()).await;
    let mut waiting = parked(rx.recv()).await;
    tx.try_send(1).unwrap();
    drop(tx);
    assert!(poll_once(&mut waiting).await.is_pending(), "an item is left: it is not over");
    let mut late = parked(rx.recv()).await;
    drop(granted);
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(&mut late).await, Poll::Ready(Ok(None)), "now it is");
    assert_eq!(books(&rx.stats()), (1, 1, 0, 0, 0, 0));
}

#[bowline::test]
async fn a_full_queue_that_disconnects_closes_and_says_why() {
    let (tx, rx) = queue(Bound::items(2), Overflow::Disconnect).await;
    tx.send(1).await.unwrap();
    tx.send(2).await.unwrap();
    assert_eq!((rx.close_reason(), tx.is_closed()), (None, false));
    assert_eq!(tx.send(3).await, Err(SendError::Closed(3)), "the item comes back");
    assert_eq!(
        (rx.close_reason(), tx.close_reason()),
        (Some(CloseReason::Overflow), Some(CloseReason::Overflow))
    );
    assert_eq!(tx.try_send(4), Err(SendError::Closed(4)), "also when there is room again");
    assert_eq!((rx.recv().await, rx.recv().await, rx.recv().await), (Ok(Some(1)), Ok(Some(2)), Ok(None)));
    assert_eq!(books(&tx.stats()), (2, 2, 0, 1, 0, 0));
    let (tx, _rx) = queue::<u8>(Bound::items(1), Overflow::Disconnect).await;
    let _room = tx.try_reserve().unwrap();
    assert_eq!(tx.reserve().await.map(drop), Err(SendError::Closed(())), "asking for room is a send too");
}

#[bowline::test]
async fn a_queue_says_why_it_is_closed() {
    let (tx, rx) = queue::<u8>(Bound::items(1), Overflow::Block).await;
    assert_eq!(tx.stats().closed, None);
    drop(tx);
    assert_eq!(rx.close_reason(), Some(CloseReason::SendersGone));
    let (tx, rx) = queue::<u8>(Bound::items(1), Overflow::Block).await;
    drop(rx);
    assert_eq!(tx.close_reason(), Some(CloseReason::ReceiversGone));
    let (tx, rx) = queue::<u8>(Bound::items(1), Overflow::Block).await;
    rx.close();
    drop(rx);
    assert_eq!(tx.stats().closed, Some(CloseReason::ByReceiver), "the first reason is the reason");
}

#[bowline::test]
async fn a_sender_may_wait_until_no_receiver_is_left() {
    let (tx, rx) = queue::<u8>(Bound::items(1), Overflow::Block).await;
    let other = rx.clone();
    drop(parked(tx.closed()).await);
    let waits = || bowline::contended().into_iter().find(|queue| queue.id == tx.stats().id);
    assert!(waits().is_none(), "who has gone waits no more");
    let (mut one, mut two) = (parked(tx.closed()).await, parked(tx.closed()).await);
    assert_eq!(waits().map(|queue| queue.waiters.len()), Some(2));
    drop(rx);
    assert!(poll_once(&mut one).await.is_pending());
    drop(other);
    assert_eq!(
        (poll_once(&mut one).await, poll_once(&mut two).await),
        (Poll::Ready(Ok(())), Poll::Ready(Ok(())))
    );
    assert_eq!(tx.closed().await, Ok(()), "and at once when it is so");
}

#[bowline::test]
async fn a_wait_for_the_close_ends_with_its_context_and_leaves_nothing_behind() {
    let mut cancelled = 0;
    let polls = cancel_context_everywhere(
        || async {
            let (tx, rx) = queue::<u8>(Bound::items(1), Overflow::Block).await;
            let goes = async {
                tokio::task::yield_now().await;
                drop(rx);
            };
            (join(tx.closed(), goes).await.0, tx)
        },
        async |_polls, ended| {
            let (waited, tx) = ended.expect("both ended by themselves");
            cancelled += u32::from(waited.is_err());
            let waits = bowline::contended().into_iter().find(|queue| queue.id == tx.stats().id);
            assert!(waits.is_none(), "{waits:?}");
        },
    )
    .await;
    assert!(polls > 1 && cancelled > 0);
}

/// An item that looks at its queue when it is dropped: a deadlock if that happens under the queue's lock.
struct Nosy {
    queue: Arc<OnceLock<FreeTx<Nosy>>>,
    looked: Arc<AtomicU32>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.get() {
            let _ = queue.stats();
            self.looked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[bowline::test]
async fn items_are_dropped_outside_of_the_queues_lock() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let (tx, rx) = queue(Bound::items(1), overflow).await;
        let (own, looked) = (Arc::new(OnceLock::new()), Arc::new(AtomicU32::new(0)));
        for _ in 0..3 {
            tx.send(Nosy { queue: Arc::clone(&own), looked: Arc::clone(&looked) }).await.ok().unwrap();
            own.get_or_init(|| tx.clone());
        }
        drop(rx); // abandons the last
        assert_eq!(looked.load(Ordering::Relaxed), 3);
    }
}

// ---- the urgent lane

/// wstunnel#537: pings starved behind 32 MB of data in one connection's write buffer.
#[bowline::test]
async fn an_urgent_item_overtakes_a_queue_that_is_full_of_data() {
    let (tx, rx) = queue(bytes(100, 32 << 20).and_urgent(1), Overflow::Block).await;
    for _ in 0..32 {
        tx.send(1 << 20).await.unwrap();
    }
    let mut data = parked(tx.send(2 << 20)).await;
    tx.send_urgent(0).await.unwrap();
    assert_eq!(rx.recv().await, Ok(Some(0)));
    assert!(poll_once(&mut data).await.is_pending(), "it took no room of the data");
    assert_eq!(rx.recv().await, Ok(Some(1 << 20)));
}

/// rust-libp2p#4667: the send queue of a peer needs a bound, and priorities.
#[bowline::test]
async fn the_urgent_lane_has_an_order_a_bound_and_books_of_its_own() {
    let (tx, rx) = queue(Bound::items(2).and_urgent(2), Overflow::Reject).await;
    for item in [1, 2] {
        tx.try_send(item).unwrap();
        tx.try_send_urgent(10 + item).unwrap();
    }
    assert_eq!((tx.try_send(3), tx.try_send_urgent(13)), (Err(SendError::Full(3)), Err(SendError::Full(13))));
    let stats = tx.stats();
    assert_eq!((stats.depth_items, stats.max_items, stats.high_water_items), (4, 4, 4));
    let urgent = stats.urgent.unwrap();
    assert_eq!((urgent.depth_items, urgent.max_items, urgent.sent, urgent.refused), (2, 2, 2, 1));
    let got: Vec<u32> = (0..4).map(|_| rx.try_recv().unwrap()).collect();
    assert_eq!(got, [11, 12, 1, 2]);
    assert_eq!(books(&tx.stats()), (4, 4, 0, 2, 0, 0));
}

#[bowline::test]
async fn a_sender_waits_for_room_in_the_urgent_lane_alone() {
    let (tx, rx) = queue(Bound::items(8).and_urgent(1), Overflow::Block).await;
    tx.send_urgent(1).await.unwrap();
    let mut urgent = parked(tx.send_urgent(2)).await;
    tx.send(3).await.unwrap();
    let given_up = parked(tx.send_urgent(9)).await;
    assert_eq!(rx.try_recv(), Ok(1));
    drop(given_up);
    assert_eq!(poll_once(&mut urgent).await, Poll::Ready(Ok(())));
    assert_eq!((rx.try_recv(), rx.try_recv(), rx.try_recv()), (Ok(2), Ok(3), Err(TryRecvError::Empty)));
}

#[bowline::test]
async fn a_receiver_that_waits_is_woken_by_an_urgent_item() {
    let (tx, rx) = queue(Bound::items(1).and_urgent(1), Overflow::Block).await;
    let mut receiver = parked(rx.recv()).await;
    tx.try_send_urgent(1).unwrap();
    assert_eq!(poll_once(&mut receiver).await, Poll::Ready(Ok(Some(1))));
}

#[bowline::test]
async fn an_urgent_send_into_a_queue_without_the_lane_is_a_bug() {
    let (tx, _rx) = queue(Bound::items(1), Overflow::Block).await;
    let sending = std::panic::AssertUnwindSafe(|| tx.try_send_urgent(1));
    assert!(std::panic::catch_unwind(sending).is_err());
    assert_eq!(tx.stats().sent, 0);
}

#[bowline::test]
async fn a_dropped_urgent_send_leaves_the_queue_as_it_was() {
    let (tx, rx) = queue(Bound::items(1).and_urgent(1), Overflow::Block).await;
    let polls = cancel_everywhere(
        || {
            tx.try_send_urgent(1).unwrap();
            let receives = async {
                tokio::task::yield_now().await;
                rx.recv().await.unwrap();
            };
            join(tx.send_urgent(2), receives)
        },
        async |_polls, _output| {
            while rx.try_recv().is_ok() {}
            let stats = tx.stats();
            assert_eq!((stats.waiting_senders, stats.sent), (0, stats.received));
            tx.try_send_urgent(3).expect("no room is kept for who has gone");
            rx.try_recv().unwrap();
        },
    )
    .await;
    assert!(polls > 1);
}

// ---- as a stream

#[bowline::test]
async fn a_receiving_end_is_a_stream_of_its_items() {
    let (tx, rx) = queue(Bound::items(2), Overflow::Block).await;
    let mut items = rx.into_stream();
    let sends = async move {
        for item in 0..5 {
            tx.send(item).await.unwrap();
        }
    };
    let takes = async {
        for item in 0..5 {
            assert_eq!(items.next().await, Some(Ok(item)));
        }
        assert_eq!((items.next().await, items.next().await), (None, None));
    };
    join(takes, sends).await;
}

#[bowline::test]
async fn a_stream_that_is_dropped_passes_on_the_item_it_was_granted() {
    let (tx, rx) = queue(Bound::items(2), Overflow::Block).await;
    let mut first = rx.clone().into_stream();
    assert!(futures_util::FutureExt::now_or_never(first.next()).is_none());
    let mut waiting = parked(rx.recv()).await;
    tx.try_send(1).unwrap();
    assert!(poll_once(&mut waiting).await.is_pending(), "the stream was first");
    drop(first);
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(Some(1))));
}

#[bowline::test]
async fn a_stream_ends_with_its_context_and_says_so() {
    scope("reader", async |s| {
        let (_tx, rx) = s.queue::<u8>("silent", Bound::items(1), Overflow::Block);
        let reader = s.spawn_with("reader", rx, async |_cx, rx| {
            let mut items = rx.into_stream();
            let next = items.next().await;
            Ok((next.map(|next| next.is_err()), items.next().await))
        });
        tokio::task::yield_now().await;
        s.cancel("enough");
        let ended = bowline::shielded(Duration::from_secs(1), reader).await??;
        assert_eq!(ended, (Some(true), None));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- several at once

#[bowline::test]
async fn recv_many_waits_for_one_and_takes_those_that_are_there() {
    let (tx, rx) = queue(Bound::items(8), Overflow::Block).await;
    let mut got = vec![0];
    {
        let mut receiving = Box::pin(rx.recv_many(&mut got, 3));
        assert!(poll_once(&mut receiving).await.is_pending());
        for item in 1..=5 {
            tx.try_send(item).unwrap();
        }
        assert_eq!(poll_once(&mut receiving).await, Poll::Ready(Ok(3)));
    }
    assert_eq!(got, [0, 1, 2, 3], "appended");
    assert_eq!(rx.recv_many(&mut got, 8).await, Ok(2));
    drop(tx);
    assert_eq!(rx.recv_many(&mut got, 8).await, Ok(0));
    assert_eq!(got, [0, 1, 2, 3, 4, 5]);
}

#[bowline::test]
async fn recv_many_leaves_what_was_promised_to_others_and_lets_senders_in() {
    let (tx, rx) = queue(Bound::items(3), Overflow::Block).await;
    let mut waiting = parked(rx.recv()).await;
    for item in 1..=3 {
        tx.try_send(item).unwrap();
    }
    let mut sender = parked(tx.send(4)).await;
    let mut got = Vec::new();
    assert_eq!(rx.recv_many(&mut got, 8).await, Ok(2));
    assert_eq!(poll_once(&mut sender).await, Poll::Ready(Ok(())));
    assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(Some(3))));
    assert_eq!((got, rx.try_recv()), (vec![1, 2], Ok(4)));
}

// ---- who holds the ends

fn held(holders: &[Holder]) -> BTreeSet<(Option<u64>, u32)> {
    holders.iter().map(|holder| (holder.task, holder.ends)).collect()
}

#[bowline::test]
async fn an_end_that_is_handed_over_is_held_by_the_task_that_got_it() {
    scope("outer", async |s| {
        let me = s.cx().task_id();
        let (tx, rx) = s.queue::<u8>("orders", Bound::items(1), Overflow::Block);
        assert_eq!(held(&tx.stats().senders), [(Some(me), 1)].into());
        let mate = tx.clone();
        assert_eq!(held(&tx.stats().senders), [(Some(me), 2)].into());
        let child = s.spawn_with("child", mate, async |cx, tx| {
            assert_eq!(held(&tx.stats().senders).last(), Some(&(Some(cx.task_id()), 1)));
            let _ = tx.send(1).await;
            let _ = tx.send(2).await; // waits for ever: nobody receives
            Ok(())
        });
        assert_eq!(held(&tx.stats().senders), [(None, 1), (Some(me), 1)].into(), "on its way");
        tokio::task::yield_now().await;
        let id = child.id().unwrap();
        assert_eq!(held(&tx.stats().senders), [(Some(me), 1), (Some(id), 1)].into());
        assert_eq!(held(&tx.stats().receivers), [(Some(me), 1)].into());
        drop(rx);
        child.await?;
        assert_eq!(held(&tx.stats().senders), [(Some(me), 1)].into());
        assert_eq!(held(&tx.stats().receivers), [].into());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn tuples_vecs_and_options_of_ends_are_handed_over_whole() {
    scope("outer", async |s| {
        let me = s.cx().task_id();
        let (tx, rx) = s.queue::<u8>("one", Bound::items(8), Overflow::Block);
        let (tx2, rx2) = s.queue::<u8>("two", Bound::items(8), Overflow::Block);
        let stats = tx.clone();
        let carried = (vec![tx.clone(), tx], Some(rx2), None::<bowline::Rx<'_, u8>>, ());
        let child = s.spawn_with("child", carried, async |cx, (txs, rx2, none, ())| {
            assert!(none.is_none());
            let mine = (Some(cx.task_id()), 2);
            assert!(held(&txs[0].stats().senders).contains(&mine));
            let got = rx2.unwrap().recv().await.unwrap().unwrap();
            for tx in &txs {
                tx.send(got).await.unwrap();
            }
            Ok(())
        });
        tx2.send(7).await.unwrap();
        child.await?;
        assert_eq!(held(&stats.stats().senders), [(Some(me), 1)].into());
        assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(7), Ok(7)));
        assert!(tx2.is_closed());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_freed_end_has_an_unknown_holder_until_it_is_bound_again() {
    scope("outer", async |s| {
        let me = s.cx().task_id();
        let (tx, rx) = s.queue::<u8>("orders", Bound::items(1), Overflow::Block);
        let (tx, free) = (tx.clone(), tx.free());
        assert_eq!(held(&tx.stats().senders), [(None, 1), (Some(me), 1)].into());
        let second = free.clone();
        assert_eq!(held(&tx.stats().senders), [(None, 2), (Some(me), 1)].into());
        let bound = free.bind_to(s.cx());
        assert_eq!(held(&tx.stats().senders), [(None, 1), (Some(me), 2)].into());
        drop((second, bound));
        assert_eq!(held(&tx.stats().senders), [(Some(me), 1)].into());
        let rx = rx.free();
        assert_eq!(held(&tx.stats().receivers), [(None, 1)].into());
        let rx = rx.bind_to(s.cx());
        assert_eq!(held(&rx.stats().receivers), [(Some(me), 1)].into());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_task_holds_its_ends_also_inside_of_scopes_and_timeouts() {
    scope("outer", async |s| {
        let task = s.spawn_with("task", (), async |cx, ()| {
            let id = cx.task_id();
            bowline::timeout(
                Duration::from_secs(60),
                scope("inner", async |s| {
                    let (tx, _rx) = s.queue::<u8>("inner", Bound::items(1), Overflow::Block);
                    assert_eq!(held(&tx.stats().senders), [(Some(id), 1)].into());
                    Ok::<_, Cancelled>(())
                }),
            )
            .await??;
            Ok(id)
        });
        let id = task.id();
        assert_eq!(Some(task.await?), id);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn the_ends_of_a_task_that_was_refused_are_dropped_unpolled() {
    scope("outer", async |s| {
        let (tx, rx) = s.queue::<u8>("orders", Bound::items(1), Overflow::Block);
        s.close();
        let refused =
            s.spawn_with("late", tx, async |_cx, _tx| -> Result<(), Cancelled> { panic!("polled") });
        assert_eq!(refused.await.unwrap_err().cause(), &Cause::ScopeClosed);
        assert_eq!((held(&rx.stats().senders), rx.recv().await), ([].into(), Ok(None)));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn the_ends_of_a_task_that_was_aborted_before_its_first_poll_are_dropped() {
    scope("outer", async |s| {
        let (tx, rx) = s.queue::<u8>("orders", Bound::items(1), Overflow::Block);
        let child = s.spawn_with("child", tx, async |_cx, _tx| -> Result<(), Cancelled> { panic!("polled") });
        child.abort();
        assert_eq!(rx.recv().await, Ok(None));
        assert_eq!(
            (held(&rx.stats().senders), child.await.unwrap_err().cause()),
            ([].into(), &Cause::Aborted)
        );
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn the_ends_of_a_task_that_panics_are_dropped_and_the_other_side_learns_it() {
    let group = bowline::group("workers", bowline::CollectAll, async |g| {
        let (tx, rx) = g.cx().queue::<u8>("orders", Bound::items(1), Overflow::Block);
        g.spawn_with("buggy", rx, async |_cx, rx| -> Result<(), Cancelled> {
            let _rx = rx;
            tokio::task::yield_now().await;
            panic!("bug")
        });
        tx.send(1).await.unwrap();
        assert_eq!(tx.send(2).await, Err(SendError::Closed(2)));
    });
    assert_eq!(group.await.counts().panicked, 1);
}

#[bowline::test]
async fn a_shared_object_knows_its_holders() {
    scope("outer", async |s| {
        let me = s.cx().task_id();
        let hits = s.cx().share("hits", AtomicU32::new(0));
        let child = s.spawn_with("child", hits.clone(), async |cx, hits| {
            hits.fetch_add(1, Ordering::Relaxed);
            assert!(hits.holders().contains(&(cx.task_id(), 1)));
            Ok(())
        });
        child.await?;
        let free = hits.clone().free();
        assert_eq!((hits.holders(), hits.name()), (vec![(me, 1)], "hits"));
        assert_eq!(free.load(Ordering::Relaxed), 1);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- many at once

#[bowline::test]
async fn each_item_goes_to_exactly_one_of_several_receivers() {
    const ITEMS: u64 = 300;
    let outcome = bowline::group("receivers", bowline::FailFast, async |g| {
        let (tx, rx) = g.cx().queue::<u64>("work", Bound::items(4), Overflow::Block);
        for _ in 0..3 {
            g.spawn_with("receiver", rx.clone(), async |_cx, rx| {
                let mut got = Vec::new();
                while let Some(item) = rx.recv().await? {
                    got.push(item);
                    tokio::task::yield_now().await;
                }
                Ok::<_, Cancelled>(got)
            });
        }
        drop(rx);
        for item in 0..ITEMS {
            tx.send(item).await.unwrap();
        }
    });
    let got = outcome.await.all_ok().unwrap();
    assert!(got.iter().all(|got| got.is_sorted() && got.len() as u64 > ITEMS / 10), "all took part");
    let all: BTreeSet<u64> = got.into_iter().flatten().collect();
    assert_eq!(all, (0..ITEMS).collect());
}

/// Long enough for the slowest machine; what waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

#[bowline::test(worker_threads = 2)]
async fn under_load_every_item_arrives_once_though_waits_are_dropped_all_the_time_bb8_122() {
    const ITEMS: u64 = 5_000;
    let run = bowline::group("stress", bowline::FailFast, async |g| {
        let (tx, rx) = g.cx().queue::<u64>("narrow", Bound::items(2), Overflow::Block);
        for _ in 0..4 {
            g.spawn_with("sender", tx.clone(), async |_cx, tx| {
                for item in 1..=ITEMS {
                    // Waits for room are given up after a poll or two, and begun again.
                    let permit = loop {
                        match bowline::race(tx.reserve(), tokio::task::yield_now()).await {
                            bowline::Either::Left(permit) => break permit.expect("a receiver is there"),
                            bowline::Either::Right(()) => {}
                        }
                    };
                    permit.send(item).expect("a receiver is there");
                }
                Ok::<_, Cancelled>(0)
            });
        }
        for impatient in [true, true, false, false] {
            g.spawn_with("receiver", rx.clone(), async move |_cx, rx| {
                let mut sum = 0;
                loop {
                    let got = if impatient {
                        bowline::race(rx.recv(), tokio::task::yield_now()).await
                    } else {
                        bowline::Either::Left(rx.recv().await)
                    };
                    match got {
                        bowline::Either::Left(Ok(Some(item))) => sum += item,
                        bowline::Either::Left(Ok(None)) => return Ok(sum),
                        bowline::Either::Left(Err(cancelled)) => return Err(cancelled),
                        bowline::Either::Right(()) => {}
                    }
                }
            });
        }
    });
    let sums = tokio::time::timeout(HANG, run).await.expect("a wake-up was lost").all_ok().unwrap();
    assert_eq!(sums.into_iter().sum::<u64>(), 4 * ITEMS * (ITEMS + 1) / 2);
}

#[bowline::test(worker_threads = 2)]
async fn under_load_the_books_of_a_dropping_queue_balance() {
    const ITEMS: usize = 20_000;
    let run = bowline::group("stress", bowline::FailFast, async |g| {
        let (tx, rx) = g.cx().queue("narrow", bytes(16, 64), Overflow::DropOldest);
        for _ in 0..2 {
            g.spawn_with("sender", tx.clone(), async |_cx, tx| {
                for item in 0..ITEMS {
                    tx.send(item % 32).await.expect("a receiver is there");
                    if item % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Ok::<_, Cancelled>(())
            });
        }
        g.spawn_with("receiver", rx, async |_cx, rx| {
            let mut got = Vec::new();
            while rx.recv_many(&mut got, 8).await? > 0 {
                assert!(rx.stats().depth_items <= 16 && rx.stats().depth_bytes <= 64);
                tokio::task::yield_now().await;
            }
            let (sent, received, dropped, refused, abandoned, queued) = books(&rx.stats());
            assert_eq!((sent, received), (2 * ITEMS as u64, got.len() as u64));
            assert_eq!((dropped, refused, abandoned, queued), (sent - received, 0, 0, 0));
            Ok(())
        });
    });
    tokio::time::timeout(HANG, run).await.expect("a wake-up was lost").all_ok().unwrap();
}
