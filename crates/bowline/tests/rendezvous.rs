//! Handing over without a buffer: an item is with its sender or with its receiver, and both know it.

mod support;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bowline::{
    Cancelled, Cause, FreeRendezvousRx, FreeRendezvousTx, Holder, SendError, TryRecvError, contended, group,
    scope,
};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

async fn rendezvous<T: Send + 'static>() -> (FreeRendezvousTx<T>, FreeRendezvousRx<T>) {
    scope("rendezvous", async |s| {
        let (tx, rx) = s.rendezvous("handover");
        Ok::<_, Cancelled>((tx.free(), rx.free()))
    })
    .await
    .expect("nobody cancels this scope")
}

// ---- meeting

#[bowline::test]
async fn a_send_is_done_when_a_receiver_has_the_item_and_not_before() {
    let (tx, rx) = rendezvous().await;
    let mut sending = parked(tx.send(1)).await;
    assert!(poll_once(&mut sending).await.is_pending());
    assert_eq!(tx.stats().depth_items, 1);
    assert_eq!(rx.recv().await, Ok(Some(1)));
    assert_eq!(poll_once(&mut sending).await, Poll::Ready(Ok(())));
    let stats = tx.stats();
    assert_eq!(
        (stats.sent, stats.received, stats.depth_items, stats.max_items, stats.waits),
        (1, 1, 0, 0, 1)
    );
}

#[bowline::test]
async fn a_send_is_not_done_when_a_receiver_merely_waits() {
    let (tx, rx) = rendezvous().await;
    let mut receiving = parked(rx.recv()).await;
    let mut sending = parked(tx.send(1)).await;
    assert!(poll_once(&mut sending).await.is_pending(), "the receiver was called, and has not come");
    assert_eq!(poll_once(&mut receiving).await, Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(&mut sending).await, Poll::Ready(Ok(())));
}

#[bowline::test]
async fn both_lines_are_served_in_the_order_in_which_they_were_first_polled() {
    let (tx, rx) = rendezvous().await;
    let mut senders = Vec::new();
    for item in 1..=3 {
        senders.push(parked(tx.send(item)).await);
    }
    assert_eq!((rx.try_recv(), rx.try_recv(), rx.try_recv()), (Ok(1), Ok(2), Ok(3)));
    drop(senders);
    let (mut first, mut second) = (parked(rx.recv()).await, parked(rx.recv()).await);
    let mut senders = [parked(tx.send(4)).await, parked(tx.send(5)).await];
    let mut third = parked(rx.recv()).await;
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty), "both items have their receivers");
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(Some(4))), "items go out in their order");
    assert!(poll_once(&mut third).await.is_pending());
    assert_eq!(poll_once(&mut first).await, Poll::Ready(Ok(Some(5))));
    for sender in &mut senders {
        assert_eq!(poll_once(sender).await, Poll::Ready(Ok(())));
    }
}

#[bowline::test]
async fn a_newcomer_does_not_take_the_item_another_receiver_was_called_for() {
    let (tx, rx) = rendezvous().await;
    let mut called = parked(rx.recv()).await;
    let _sending = parked(tx.send(1)).await;
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    let _newcomer = parked(rx.recv()).await;
    assert_eq!(poll_once(&mut called).await, Poll::Ready(Ok(Some(1))));
}

// ---- giving up

#[bowline::test]
async fn a_receiver_that_was_called_and_goes_calls_the_next() {
    let (tx, rx) = rendezvous().await;
    let called = parked(rx.recv()).await;
    let mut next = parked(rx.recv()).await;
    let mut sending = parked(tx.send(1)).await;
    assert!(poll_once(&mut next).await.is_pending());
    drop(called);
    assert_eq!(poll_once(&mut next).await, Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(&mut sending).await, Poll::Ready(Ok(())));
}

#[bowline::test]
async fn a_receiver_whose_item_is_taken_back_keeps_its_place() {
    let (tx, rx) = rendezvous().await;
    let (mut first, mut second) = (parked(rx.recv()).await, parked(rx.recv()).await);
    let gone = parked(tx.send(1)).await;
    drop(gone);
    assert!(poll_once(&mut first).await.is_pending());
    let _sending = parked(tx.send(2)).await;
    assert!(poll_once(&mut second).await.is_pending());
    assert_eq!(poll_once(&mut first).await, Poll::Ready(Ok(Some(2))));
}

#[bowline::test]
async fn an_item_whose_send_is_dropped_is_back_in_the_slot_or_with_a_receiver() {
    let (tx, rx) = rendezvous().await;
    let mut slot = Some(1);
    drop(parked(tx.send_from(&mut slot)).await);
    assert_eq!((slot, tx.stats().depth_items), (Some(1), 0));
    let sending = parked(tx.send_from(&mut slot)).await;
    assert_eq!(rx.try_recv(), Ok(1));
    drop(sending); // it does not know yet
    assert_eq!(slot, None);
    let stats = tx.stats();
    assert_eq!((stats.sent, stats.received, stats.waiting_senders), (1, 1, 0));
}

#[bowline::test]
async fn sending_from_an_empty_slot_is_a_bug() {
    let (tx, _rx) = rendezvous::<u8>().await;
    let sending = std::panic::AssertUnwindSafe(|| drop(tx.send_from(&mut None)));
    assert!(std::panic::catch_unwind(sending).is_err());
}

/// tokio#5947: a cancelled `send(v)` drops `v`. Here it is given back, or a receiver has it: exactly one of both, whenever
/// the cancel comes.
#[bowline::test]
async fn a_cancelled_send_gives_the_item_back_or_it_was_taken() {
    let taken = std::cell::RefCell::new(None);
    let mut outcomes = BTreeSet::new();
    let polls = cancel_context_everywhere(
        || async {
            let (tx, rx) = rendezvous().await;
            let taking = async {
                yield_now(2).await;
                *taken.borrow_mut() = rx.try_recv().ok();
            };
            let (sent, ()) = futures_util::future::join(tx.send(7), taking).await;
            (sent, tx.stats().depth_items, tx.stats().waiting_senders)
        },
        async |_, output| {
            let taken = taken.borrow_mut().take();
            let Some((sent, depth, waiting)) = output else { return };
            assert_eq!((depth, waiting), (0, 0));
            match sent {
                Ok(()) => assert_eq!(taken, Some(7)),
                Err(SendError::Cancelled(item, cancelled)) => {
                    assert_eq!((item, taken), (7, None));
                    assert_eq!(cancelled.cause(), &Cause::Requested("cut"));
                }
                Err(other) => panic!("{other:?}"),
            }
            outcomes.insert(taken.is_some());
        },
    )
    .await;
    assert!(polls >= 3 && outcomes.len() == 2, "{polls} {outcomes:?}");
}

#[bowline::test]
async fn a_send_that_was_taken_before_its_context_was_cancelled_says_so() {
    let (tx, rx) = rendezvous().await;
    scope("sender", async |s| {
        let sending = s.spawn("send", async move { Ok(tx.send(1).await) });
        yield_now(1).await;
        assert_eq!(rx.try_recv(), Ok(1));
        s.cancel("enough");
        assert_eq!(bowline::shielded(Duration::from_secs(1), sending).await??, Ok(()));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn a_send_or_a_receive_that_is_dropped_anywhere_loses_no_item() {
    let (kept, got) = (std::cell::RefCell::new(None), std::cell::RefCell::new(Vec::new()));
    let polls = cancel_everywhere(
        || async {
            got.borrow_mut().clear();
            let (tx, rx) = rendezvous().await;
            *kept.borrow_mut() = Some(rx.clone());
            let sending = async {
                for item in 0..3 {
                    let mut slot = Some(item);
                    // Given up after a poll and begun again, until it is taken.
                    while slot.is_some() {
                        let _ = bowline::race(tx.send_from(&mut slot), tokio::task::yield_now()).await;
                    }
                }
            };
            let receiving = async {
                for polls in 0.. {
                    if got.borrow().len() == 3 {
                        break;
                    }
                    let waited = bowline::race(rx.recv(), yield_now(polls % 3)).await;
                    if let bowline::Either::Left(item) = waited {
                        got.borrow_mut().extend(item.unwrap());
                    }
                }
            };
            futures_util::future::join(sending, receiving).await;
        },
        async |_, output| {
            let stats = kept.borrow_mut().take().unwrap().stats();
            assert_eq!((stats.depth_items, stats.waiting_senders, stats.waiting_receivers), (0, 0, 0));
            assert_eq!((stats.sent, stats.received), (stats.received, got.borrow().len() as u64));
            assert!(output.is_none() || *got.borrow() == [0, 1, 2]);
        },
    )
    .await;
    assert!(polls > 3, "{polls}");
}

#[bowline::test]
async fn a_cancelled_receive_takes_nothing() {
    let polls = cancel_context_everywhere(
        || async {
            let (tx, rx) = rendezvous().await;
            let sending = async {
                yield_now(2).await;
                let mut slot = Some(7);
                let _ = tx.send_from(&mut slot).await;
                slot
            };
            let (received, left) = futures_util::future::join(rx.recv(), sending).await;
            (received, left, rx.stats().waiting_receivers)
        },
        async |_, output| match output {
            Some((Ok(received), left, waiting)) => assert_eq!((received, left, waiting), (Some(7), None, 0)),
            Some((Err(cancelled), left, waiting)) => {
                assert_eq!((cancelled.cause(), left, waiting), (&Cause::Requested("cut"), Some(7), 0));
            }
            None => {}
        },
    )
    .await;
    assert!(polls >= 3);
}

#[bowline::test]
async fn in_a_cancelled_context_nothing_changes_hands() {
    let (tx, rx) = rendezvous().await;
    let _sending = parked(tx.send(1)).await;
    scope("cancelled", async |s| {
        s.cancel("enough");
        assert!(rx.recv().await.is_err());
        assert!(matches!(tx.send(2).await, Err(SendError::Cancelled(2, _))));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(1), Err(TryRecvError::Empty)));
}

// ---- the end

#[bowline::test]
async fn senders_get_their_items_back_when_the_last_receiver_goes() {
    let (tx, rx) = rendezvous().await;
    let second = rx.clone();
    let mut sending = parked(tx.send(1)).await;
    drop(rx);
    assert!(poll_once(&mut sending).await.is_pending());
    drop(second);
    assert_eq!(poll_once(&mut sending).await, Poll::Ready(Err(SendError::Closed(1))));
    let mut slot = Some(2);
    assert_eq!(tx.send_from(&mut slot).await, Err(SendError::Closed(())));
    assert_eq!((slot, tx.is_closed(), tx.stats().depth_items), (Some(2), true, 0));
}

#[bowline::test(start_paused = true)]
async fn who_waits_is_woken_when_the_other_side_goes() {
    let ended = bowline::timeout(Duration::from_secs(5), async {
        scope("both", async |s| {
            let (tx, rx) = rendezvous().await;
            let sender = s.spawn("sender", async move { Ok(tx.send(1).await) });
            yield_now(1).await;
            drop(rx);
            assert_eq!(sender.await?, Err(SendError::Closed(1)));
            let (tx, rx) = rendezvous::<u8>().await;
            let receiver = s.spawn("receiver", async move { rx.recv().await });
            yield_now(1).await;
            drop(tx);
            assert_eq!(receiver.await?, None);
            Ok::<_, Cancelled>(())
        })
        .await
    });
    assert_eq!(ended.await, Ok(Ok(())));
}

#[bowline::test]
async fn receivers_learn_that_the_last_sender_has_gone() {
    let (tx, rx) = rendezvous::<u8>().await;
    let second = tx.clone();
    let mut receiving = parked(rx.recv()).await;
    drop(tx);
    assert!(poll_once(&mut receiving).await.is_pending());
    drop(second);
    assert_eq!(poll_once(&mut receiving).await, Poll::Ready(Ok(None)));
    assert_eq!((rx.try_recv(), rx.is_closed()), (Err(TryRecvError::Closed), true));
}

#[bowline::test]
async fn an_item_taken_before_the_receiver_went_counts_as_taken() {
    let (tx, rx) = rendezvous().await;
    let mut sending = parked(tx.send(1)).await;
    rx.try_recv().unwrap();
    drop(rx);
    assert_eq!(poll_once(&mut sending).await, Poll::Ready(Ok(())));
}

/// An item that looks at its channel when it is dropped: a deadlock if that happens under the lock.
struct Nosy {
    tx: Arc<FreeRendezvousTx<Nosy>>,
    looked: Arc<AtomicU32>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let _ = self.tx.stats();
        self.looked.fetch_add(1, Ordering::Relaxed);
    }
}

#[bowline::test]
async fn items_are_dropped_outside_of_the_lock() {
    let (tx, rx) = rendezvous().await;
    let (tx, looked) = (Arc::new(tx), Arc::new(AtomicU32::new(0)));
    let nosy = || Nosy { tx: Arc::clone(&tx), looked: Arc::clone(&looked) };
    drop(parked(tx.send(nosy())).await);
    assert_eq!(looked.load(Ordering::Relaxed), 1);
    let mut sending = parked(tx.send(nosy())).await;
    drop(rx);
    let Poll::Ready(Err(error)) = poll_once(&mut sending).await else { panic!("nobody receives") };
    drop(error);
    assert_eq!(looked.load(Ordering::Relaxed), 2);
}

// ---- who holds the ends, and what the tree shows

#[bowline::test]
async fn ends_are_booked_where_they_are_and_waits_are_shown() {
    scope("outer", async |s| {
        let me = s.cx().task_id();
        let (tx, rx) = s.rendezvous("handover");
        let child = s.spawn_with("child", tx, async |_cx, tx| Ok(tx.send(7).await?));
        assert_eq!(rx.stats().senders, [Holder { task: None, ends: 1 }], "on its way");
        yield_now(1).await;
        let id = child.id().unwrap();
        assert_eq!(rx.stats().senders, [Holder { task: Some(id), ends: 1 }]);
        let copy = rx.clone();
        assert_eq!(rx.stats().receivers, [Holder { task: Some(me), ends: 2 }]);
        drop(copy);
        let text = bowline::tree().to_string();
        assert!(text.contains(&format!("<rendezvous> handover #{}  1/0, 0 sent", rx.stats().id)), "{text}");
        assert!(text.contains(&format!("waiting to send #{}", rx.stats().id)), "{text}");
        let facts = contended().into_iter().find(|facts| facts.id == rx.stats().id).unwrap();
        let waiter = &facts.waiters[0];
        assert_eq!((waiter.task, waiter.op, waiter.granted), (Some(id), "send", false));
        assert_eq!(rx.recv().await?, Some(7));
        child.await?;
        assert_eq!((rx.stats().senders, rx.recv().await?), (vec![], None));
        let (tx, rx) = rendezvous().await;
        let _called = parked(rx.recv()).await;
        let _sending = parked(tx.send(1)).await;
        let facts = contended().into_iter().find(|facts| facts.id == rx.stats().id).unwrap();
        let granted: Vec<_> = facts.waiters.iter().map(|waiter| (waiter.op, waiter.granted)).collect();
        assert_eq!(granted, [("send", false), ("recv", true)]);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test]
async fn waits_that_move_to_another_task_are_woken_there() {
    let (tx, rx) = rendezvous().await;
    let sending = parked({
        let tx = tx.clone();
        async move { tx.send(1).await }
    })
    .await;
    scope("movers", async |s| {
        let sender = s.spawn("sender", async move { Ok(sending.await?) });
        yield_now(1).await;
        assert_eq!(rx.try_recv(), Ok(1));
        sender.await?;
        let receiving = parked(async move { rx.recv().await }).await;
        let receiver = s.spawn("receiver", receiving);
        yield_now(1).await;
        tx.send(2).await?;
        assert_eq!(receiver.await?, Some(2));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- against a model

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    PollSend(usize),
    DropSend(usize),
    Recv,
    TryRecv,
    PollRecv(usize),
    DropRecv(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..4_usize;
    let step = prop_oneof![
        5 => Just(Step::Send),
        4 => which.clone().prop_map(Step::PollSend),
        2 => which.clone().prop_map(Step::DropSend),
        5 => Just(Step::Recv),
        2 => Just(Step::TryRecv),
        5 => which.clone().prop_map(Step::PollRecv),
        2 => which.prop_map(Step::DropRecv),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Waiting<'a, O> {
    key: u32,
    future: Pin<Box<dyn Future<Output = O> + 'a>>,
    woken: Arc<Woken>,
}

impl<'a, O> Waiting<'a, O> {
    fn new(key: u32, future: impl Future<Output = O> + 'a) -> Self {
        Self { key, future: Box::pin(future), woken: Arc::default() }
    }

    fn poll(&mut self) -> Option<O> {
        self.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn was_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }
}

/// Two lines. The first receivers, as many as there are offers, may come and take the first offer.
#[derive(Default)]
struct Model {
    offers: Vec<u32>,
    taken: BTreeSet<u32>,
    line: Vec<u32>,
}

impl Model {
    /// For a receiver that is not in line.
    fn take_free(&mut self) -> Option<u32> {
        (self.line.len() < self.offers.len()).then(|| self.take())
    }

    fn take(&mut self) -> u32 {
        let item = self.offers.remove(0);
        self.taken.insert(item);
        item
    }

    fn may_take(&self, key: u32) -> bool {
        self.line.iter().take(self.offers.len()).any(|known| *known == key)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rendezvous_does_what_the_model_does(steps in steps()) {
        let (tx, rx) = rendezvous().now_or_never().expect("making a rendezvous does not wait");
        let mut model = Model::default();
        let mut sends: Vec<Waiting<'_, Result<(), SendError<u32>>>> = Vec::new();
        let mut recvs: Vec<Waiting<'_, Result<Option<u32>, Cancelled>>> = Vec::new();
        for (step, key) in steps.into_iter().zip(0..) {
            let nth = |which: usize, len: usize| (len > 0).then(|| which % len);
            match step {
                Step::Send => {
                    let mut send = Waiting::new(key, tx.send(key));
                    assert_eq!(send.poll(), None);
                    model.offers.push(key);
                    sends.push(send);
                }
                Step::PollSend(which) => {
                    let Some(at) = nth(which, sends.len()) else { continue };
                    let taken = model.taken.remove(&sends[at].key);
                    assert_eq!(sends[at].poll(), taken.then_some(Ok(())));
                    if taken {
                        drop(sends.remove(at));
                    }
                }
                Step::DropSend(which) => {
                    let Some(at) = nth(which, sends.len()) else { continue };
                    let key = sends.remove(at).key;
                    model.offers.retain(|known| *known != key);
                    model.taken.remove(&key);
                }
                Step::Recv => {
                    let mut recv = Waiting::new(key, rx.recv());
                    let expected = model.take_free();
                    assert_eq!(recv.poll(), expected.map(|item| Ok(Some(item))));
                    if expected.is_none() {
                        model.line.push(key);
                        recvs.push(recv);
                    }
                }
                Step::TryRecv => assert_eq!(rx.try_recv(), model.take_free().ok_or(TryRecvError::Empty)),
                Step::PollRecv(which) => {
                    let Some(at) = nth(which, recvs.len()) else { continue };
                    let key = recvs[at].key;
                    let expected = model.may_take(key).then(|| {
                        model.line.retain(|known| *known != key);
                        model.take()
                    });
                    assert_eq!(recvs[at].poll(), expected.map(|item| Ok(Some(item))));
                    if expected.is_some() {
                        drop(recvs.remove(at));
                    }
                }
                Step::DropRecv(which) => {
                    let Some(at) = nth(which, recvs.len()) else { continue };
                    let key = recvs.remove(at).key;
                    model.line.retain(|known| *known != key);
                }
            }
            let stats = tx.stats();
            assert_eq!(stats.sent, stats.received);
            let lines = (stats.depth_items, stats.waiting_senders, stats.waiting_receivers);
            assert_eq!(lines, (model.offers.len(), model.offers.len(), model.line.len()));
            for send in &sends {
                assert!(send.was_woken() || !model.taken.contains(&send.key), "{} is done and was not woken", send.key);
            }
            for recv in &recvs {
                assert!(recv.was_woken() || !model.may_take(recv.key), "{} may take and was not woken", recv.key);
            }
        }
        drop((sends, recvs));
        let stats = tx.stats();
        assert_eq!((stats.depth_items, stats.waiting_senders, stats.waiting_receivers), (0, 0, 0));
        drop(rx);
        assert_eq!(tx.send(0).now_or_never(), Some(Err(SendError::Closed(0))));
    }
}

#[bowline::test(schedules = 100)]
async fn in_every_schedule_each_item_changes_hands_once() {
    let (tx, rx) = rendezvous::<u32>().await;
    let got = scope("schedules", async |s| {
        for first in [0, 10, 20] {
            let tx = tx.clone();
            s.spawn("sender", async move {
                for item in first..first + 10 {
                    let mut slot = Some(item);
                    while slot.is_some() {
                        let _ = bowline::race(tx.send_from(&mut slot), yield_now(2)).await;
                    }
                }
                Ok(())
            });
        }
        drop(tx);
        let receivers = [1, 2, 9].map(|patience| {
            let rx = rx.clone();
            s.spawn("receiver", async move {
                let mut got = Vec::new();
                loop {
                    match bowline::race(rx.recv(), yield_now(patience)).await {
                        bowline::Either::Left(item) => match item? {
                            Some(item) => got.push(item),
                            None => return Ok(got),
                        },
                        bowline::Either::Right(()) => {}
                    }
                }
            })
        });
        let mut got = Vec::new();
        for receiver in receivers {
            got.extend(receiver.await?);
        }
        Ok::<_, Cancelled>(got)
    })
    .await
    .unwrap();
    assert_eq!((got.len(), got.into_iter().collect()), (30, (0..30).collect::<BTreeSet<_>>()));
}

// ---- many at once

/// Long enough for the slowest machine; what waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

#[bowline::test(worker_threads = 2)]
async fn under_load_every_item_changes_hands_once_though_both_sides_give_up_all_the_time() {
    const ITEMS: u64 = 2_000;
    let run = group("stress", bowline::FailFast, async |g| {
        let (tx, rx) = g.cx().rendezvous::<u64>("handover");
        for _ in 0..3 {
            g.spawn_with("sender", tx.clone(), async |_cx, tx| {
                let mut handed = 0;
                for item in 1..=ITEMS {
                    let mut slot = Some(item);
                    while slot.is_some() {
                        let sent = bowline::race(tx.send_from(&mut slot), tokio::task::yield_now()).await;
                        assert!(!matches!(sent, bowline::Either::Left(Err(_))), "a receiver is there");
                    }
                    handed += item;
                }
                Ok::<_, Cancelled>(handed)
            });
        }
        for impatient in [true, true, false] {
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
    let all = 3 * ITEMS * (ITEMS + 1) / 2;
    assert_eq!((sums[..3].iter().sum::<u64>(), sums[3..].iter().sum::<u64>()), (all, all));
}
