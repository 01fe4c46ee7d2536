//! Every item to everybody, in order; who is too slow is told what it missed, and nobody waits for it.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bowline::{
    BroadcastError, Cancelled, Cause, ChannelStats, FreeBroadcastRx, FreeBroadcastTx, Holder, Lagged,
    contended, group, scope,
};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use support::{cancel_context_everywhere, cancel_everywhere, parked, poll_once, yield_now};

async fn broadcast<T: Send + Sync + 'static>(capacity: usize) -> (FreeBroadcastTx<T>, FreeBroadcastRx<T>) {
    scope("broadcast", async |s| {
        let (tx, rx) = s.broadcast("events", capacity);
        Ok::<_, Cancelled>((tx.free(), rx.free()))
    })
    .await
    .expect("nobody cancels this scope")
}

/// `(sent, received, missed, abandoned, in the ring)`.
fn books(stats: &ChannelStats) -> (u64, u64, u64, u64, usize) {
    (stats.sent, stats.received, stats.missed, stats.abandoned, stats.depth_items)
}

fn lagged<T>(missed: u64, resume_from: u64) -> Result<T, BroadcastError> {
    Err(BroadcastError::Lagged(Lagged { missed, resume_from }))
}

// ---- everybody gets everything

#[bowline::test]
async fn every_receiver_gets_every_item_in_order_with_its_number() {
    let (tx, mut one) = broadcast(8).await;
    let mut two = one.clone();
    for (sequence, item) in (0..).zip(["a", "b", "c"]) {
        let sent = tx.send(item);
        assert_eq!((sent.sequence, sent.receivers), (sequence, 2));
    }
    for rx in [&mut one, &mut two] {
        assert_eq!((rx.behind(), rx.position()), (3, 0));
        assert_eq!(rx.recv_numbered().await, Ok(Some((0, "a"))));
        assert_eq!(rx.recv_numbered().await, Ok(Some((1, "b"))));
        assert_eq!((rx.behind(), rx.position()), (1, 2));
        assert_eq!((rx.recv().await, rx.try_recv()), (Ok(Some("c")), Ok(None)));
    }
    assert_eq!(books(&tx.stats()), (3, 6, 0, 0, 0));
}

#[bowline::test]
async fn a_receiver_that_waits_is_woken_by_the_next_item() {
    let (tx, mut one) = broadcast(8).await;
    let mut two = one.clone();
    let (mut first, mut second) = (parked(one.recv()).await, parked(two.recv()).await);
    assert_eq!((tx.stats().waiting_receivers, tx.stats().waits), (2, 2));
    tx.send(1);
    tx.send(2);
    assert_eq!(poll_once(&mut second).await, Poll::Ready(Ok(Some(1))));
    assert_eq!(poll_once(&mut first).await, Poll::Ready(Ok(Some(1))));
    drop((first, second));
    assert_eq!((one.try_recv(), two.try_recv(), tx.stats().waiting_receivers), (Ok(Some(2)), Ok(Some(2)), 0));
}

#[bowline::test]
async fn a_subscriber_begins_with_the_next_item_and_a_clone_where_the_original_is() {
    let (tx, mut rx) = broadcast(8).await;
    tx.send(1);
    let (mut late, mut later, mut copy) = (tx.subscribe(), rx.subscribe(), rx.clone());
    tx.send(2);
    assert_eq!((late.try_recv(), late.try_recv()), (Ok(Some(2)), Ok(None)));
    assert_eq!((later.try_recv(), later.try_recv()), (Ok(Some(2)), Ok(None)));
    assert_eq!((copy.try_recv(), copy.try_recv()), (Ok(Some(1)), Ok(Some(2))));
    assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(Some(1)), Ok(Some(2))));
    assert_eq!(books(&tx.stats()), (2, 6, 0, 0, 0));
}

#[bowline::test]
async fn items_sent_to_nobody_are_gone_and_keep_their_numbers() {
    let (tx, rx) = broadcast(2).await;
    drop(rx);
    assert!(tx.is_closed());
    for _ in 0..5 {
        assert_eq!(tx.send(1).receivers, 0);
    }
    let mut rx = tx.subscribe();
    assert_eq!(tx.send(2).sequence, 5);
    assert_eq!(rx.recv_numbered().await, Ok(Some((5, 2))));
    assert_eq!(books(&tx.stats()), (6, 1, 0, 5, 0));
}

// ---- too slow

/// mdk#606, rs-clob-client#279, shredstream#68, midnight-indexer#1063: lag was ignored (silent loss) or treated as the end
/// (silent stop). Here it is an error of its own that says what to recover, and the next receive goes on.
#[bowline::test]
async fn a_lag_is_neither_silent_nor_the_end_and_says_what_to_recover() {
    let (tx, mut slow) = broadcast(4).await;
    let mut history = Vec::new();
    for event in 0..10_u64 {
        history.push(event);
        tx.send(event);
    }
    let mut seen = Vec::new();
    let mut lags = 0;
    drop(tx);
    loop {
        match slow.recv_numbered().await {
            Ok(Some((sequence, event))) => {
                assert_eq!(sequence, event);
                seen.push(event);
            }
            Ok(None) => break,
            Err(BroadcastError::Lagged(Lagged { missed, resume_from })) => {
                lags += 1;
                assert_eq!((missed, resume_from, slow.position()), (6, 6, 6));
                let range =
                    usize::try_from(resume_from - missed).unwrap()..usize::try_from(resume_from).unwrap();
                seen.extend(&history[range]);
            }
            Err(BroadcastError::Cancelled(cancelled)) => panic!("{cancelled}"),
        }
    }
    assert_eq!((seen, lags, books(&slow.stats())), (history, 1, (10, 4, 6, 0, 0)));
}

/// If there were a conversion into [`Cancelled`], `?` would end a consumer at its first lag, and this would be ambiguous and
/// not compile.
#[test]
fn a_lag_does_not_turn_into_a_cancel_by_itself() {
    trait ByQuestionMark<How> {
        fn is_ambiguous() {}
    }
    impl<T> ByQuestionMark<()> for T {}
    impl<T: Into<Cancelled>> ByQuestionMark<u8> for T {}
    <BroadcastError as ByQuestionMark<_>>::is_ambiguous();
    <Lagged as ByQuestionMark<_>>::is_ambiguous();
}

#[bowline::test]
async fn a_slow_receiver_holds_up_neither_senders_nor_the_fast_ones() {
    let (tx, mut slow) = broadcast(2).await;
    let mut fast = slow.clone();
    for item in 0..100 {
        tx.send(item);
        assert_eq!(fast.recv().await, Ok(Some(item)));
    }
    assert_eq!((fast.behind(), slow.behind()), (0, 100));
    assert_eq!(slow.recv().await, lagged(98, 98));
    assert_eq!(slow.recv().await, Ok(Some(98)));
    tx.send(100);
    tx.send(101);
    assert_eq!(slow.try_recv(), Err(Lagged { missed: 1, resume_from: 100 }));
    assert_eq!((slow.try_recv(), slow.try_recv()), (Ok(Some(100)), Ok(Some(101))));
    assert_eq!(tx.stats().missed, 99);
    let text = lagged::<()>(98, 98).unwrap_err().to_string();
    assert_eq!(text, "98 items were missed; the next is number 98");
}

#[bowline::test]
async fn a_clone_of_a_receiver_that_lags_lags_as_far() {
    let (tx, rx) = broadcast(2).await;
    for item in 0..5 {
        tx.send(item);
    }
    let mut copy = rx.clone();
    assert_eq!(copy.recv().await, lagged(3, 3));
    drop(rx);
    assert_eq!((copy.recv().await, copy.recv().await), (Ok(Some(3)), Ok(Some(4))));
    assert_eq!(books(&tx.stats()), (5, 2, 3, 2, 0));
}

// ---- memory

/// Counts those alive, and clones.
#[derive(Debug)]
struct Counted {
    alive: Arc<AtomicU64>,
    clones: Arc<AtomicU64>,
}

impl Counted {
    fn new(alive: &Arc<AtomicU64>, clones: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { alive: Arc::clone(alive), clones: Arc::clone(clones) }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self::new(&self.alive, &self.clones)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

#[bowline::test]
async fn an_item_is_kept_until_everybody_has_read_it_and_never_more_than_the_capacity() {
    let (alive, clones) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counted = || Counted::new(&alive, &clones);
    let now = || (alive.load(Ordering::Relaxed), clones.load(Ordering::Relaxed));
    let (tx, mut one) = broadcast(8).await;
    let mut two = one.clone();
    for _ in 0..1_000 {
        tx.send(counted());
    }
    assert_eq!(now(), (8, 0), "bounded, whoever reads");
    assert!(matches!(one.try_recv(), Err(Lagged { missed: 992, .. })));
    while let Ok(Some(item)) = one.try_recv() {
        drop(item);
    }
    assert_eq!(now(), (8, 8), "the other one has not read them");
    assert!(two.try_recv().is_err());
    drop(two.try_recv());
    assert_eq!(now(), (7, 8), "the last one to read an item gets the item itself");
    drop(two);
    assert_eq!((now(), tx.stats().depth_items), ((0, 8), 0), "what nobody is left to read is dropped");
    tx.send(counted());
    drop(one);
    assert_eq!((now(), tx.stats().depth_items), ((0, 8), 0));
    tx.send(counted());
    assert_eq!(now(), (0, 8), "nobody is there");
}

/// mini-redis#38: the broadcast kept a wait node for every finished connection task.
#[bowline::test]
async fn a_finished_connection_leaves_no_wait_entry_behind() {
    let (tx, rx) = broadcast::<u32>(8).await;
    scope("serve", async |s| {
        for _ in 0..500 {
            let mut events = rx.subscribe();
            let connection = s.spawn("connection", async move {
                loop {
                    match events.recv().await {
                        Ok(Some(_)) | Err(BroadcastError::Lagged(_)) => {}
                        Ok(None) => return Ok(()),
                        Err(BroadcastError::Cancelled(cancelled)) => return Err(cancelled),
                    }
                }
            });
            yield_now(1).await;
            assert_eq!(tx.stats().waiting_receivers, 1);
            connection.cancel("the client has left");
            connection.await.unwrap_err();
            assert_eq!(tx.stats().waiting_receivers, 0);
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let stats = tx.stats();
    assert_eq!((stats.waits, stats.waiting_receivers), (500, 0));
    assert_eq!(stats.receivers, [Holder { task: None, ends: 1 }]);
}

/// An item that looks at its broadcast when it is cloned and dropped: a deadlock if that happens under the lock.
struct Nosy {
    tx: Arc<FreeBroadcastTx<Nosy>>,
    looked: Arc<AtomicU32>,
}

impl Nosy {
    fn look(&self) {
        let _ = self.tx.stats();
        self.looked.fetch_add(1, Ordering::Relaxed);
    }
}

impl Clone for Nosy {
    fn clone(&self) -> Self {
        self.look();
        Self { tx: Arc::clone(&self.tx), looked: Arc::clone(&self.looked) }
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.look();
    }
}

#[bowline::test]
async fn items_are_cloned_and_dropped_outside_of_the_lock() {
    let (tx, mut one) = broadcast(1).await;
    let (tx, looked) = (Arc::new(tx), Arc::new(AtomicU32::new(0)));
    let mut two = one.clone();
    for _ in 0..2 {
        tx.send(Nosy { tx: Arc::clone(&tx), looked: Arc::clone(&looked) });
    }
    assert_eq!(looked.load(Ordering::Relaxed), 1, "one was overwritten");
    assert!(one.try_recv().is_err() && two.try_recv().is_err());
    drop(one.recv().await);
    assert_eq!(looked.load(Ordering::Relaxed), 3, "one was cloned, and the clone dropped");
    drop((one, two));
    assert_eq!(looked.load(Ordering::Relaxed), 4);
    tx.send(Nosy { tx: Arc::clone(&tx), looked: Arc::clone(&looked) });
    assert_eq!(looked.load(Ordering::Relaxed), 5, "nobody was there");
}

// ---- the end

#[bowline::test]
async fn what_was_sent_before_the_end_is_received_and_then_the_end() {
    let (tx, mut rx) = broadcast(4).await;
    let second = tx.clone();
    tx.send(1);
    drop(tx);
    second.send(2);
    assert!(!rx.is_closed());
    drop(second);
    assert!(rx.is_closed());
    assert_eq!((rx.recv().await, rx.recv().await, rx.recv().await), (Ok(Some(1)), Ok(Some(2)), Ok(None)));
    assert_eq!((rx.subscribe().recv().await, rx.try_recv()), (Ok(None), Ok(None)));
}

/// bounty-challenge#9836: an early return kept a sender alive, and the collector waited for ever. Here the end dies with
/// the task it was given to.
#[bowline::test]
async fn an_early_return_of_the_last_sender_ends_the_wait() {
    scope("collect", async |s| {
        let (tx, mut rx) = s.broadcast::<u32>("results", 4);
        let mut waiting = parked(rx.recv()).await;
        s.spawn_with("produce", tx, async |_cx, _tx| Ok(()));
        yield_now(2).await;
        assert_eq!(poll_once(&mut waiting).await, Poll::Ready(Ok(None)));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// axum#2673: an SSE stream waits on a channel that never fires, and the drain waits for the stream.
#[bowline::test(start_paused = true)]
async fn a_stream_that_waits_for_an_event_that_never_comes_ends_with_the_cancel() {
    let (tx, rx) = broadcast::<u32>(4).await;
    let ended = scope("serve", async |s| {
        let mut events = rx.clone();
        s.spawn::<(), _>("stream", async move {
            match events.recv().await {
                Err(BroadcastError::Cancelled(cancelled)) => Err(cancelled),
                other => panic!("{other:?}"),
            }
        });
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(tx.stats().waiting_receivers, 1);
        s.cancel("drain is over");
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(ended.unwrap_err().cause(), &Cause::Requested("drain is over"));
    assert_eq!(tx.stats().waiting_receivers, 0);
}

#[bowline::test]
async fn a_capacity_of_nothing_is_refused() {
    scope("refused", async |s| {
        let making = std::panic::AssertUnwindSafe(|| s.broadcast::<u8>("events", 0));
        assert!(std::panic::catch_unwind(making).is_err());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- cut anywhere

#[bowline::test]
async fn a_receive_that_is_dropped_anywhere_takes_nothing() {
    let polls = cancel_everywhere(
        || async {
            let (tx, mut rx) = broadcast(8).await;
            let sending = async {
                for item in 0..4 {
                    yield_now(1).await;
                    tx.send(item);
                }
            };
            let receiving = async {
                let mut seen = Vec::new();
                while seen.len() < 4 {
                    // Given up after a poll, and begun again: the item must still be there.
                    let waited = bowline::race(rx.recv(), tokio::task::yield_now()).await;
                    if let bowline::Either::Left(item) = waited {
                        seen.extend(item.unwrap());
                    }
                }
                seen
            };
            let (seen, ()) = futures_util::future::join(receiving, sending).await;
            (seen, books(&tx.stats()), tx.stats().waiting_receivers)
        },
        async |_, output| {
            assert!(output.is_none_or(|output| output == (vec![0, 1, 2, 3], (4, 4, 0, 0, 0), 0)))
        },
    )
    .await;
    assert!(polls > 3, "{polls}");
}

#[bowline::test]
async fn a_cancelled_receive_takes_nothing_and_says_why() {
    let polls = cancel_context_everywhere(
        || async {
            let (tx, mut rx) = broadcast(8).await;
            let sending = async {
                yield_now(2).await;
                tx.send(7);
            };
            let (received, ()) = futures_util::future::join(rx.recv(), sending).await;
            (received, rx.try_recv(), tx.stats().waiting_receivers)
        },
        async |_, output| {
            let Some((received, left, waiting)) = output else { return };
            assert_eq!(waiting, 0);
            match received {
                Ok(item) => assert_eq!((item, left), (Some(7), Ok(None))),
                Err(BroadcastError::Cancelled(cancelled)) => {
                    assert_eq!((cancelled.cause(), left), (&Cause::Requested("cut"), Ok(Some(7))));
                }
                Err(lagged) => panic!("{lagged}"),
            }
        },
    )
    .await;
    assert!(polls >= 3);
}

#[bowline::test]
async fn in_a_cancelled_context_nothing_is_taken_though_it_is_there() {
    let (tx, mut rx) = broadcast(8).await;
    scope("cancelled", async |s| {
        tx.send(1);
        s.cancel("enough");
        assert!(matches!(rx.recv().await, Err(BroadcastError::Cancelled(_))));
        assert_eq!(rx.try_recv(), Ok(Some(1)));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- who holds the ends, and what the tree shows

#[bowline::test]
async fn ends_are_booked_where_they_are_and_waits_are_shown() {
    scope("outer", async |s| {
        let me = s.cx().task_id();
        let (tx, rx) = s.broadcast("events", 4);
        let child = s.spawn_with("child", rx, async |cx, mut rx| {
            assert_eq!(rx.stats().receivers, [Holder { task: Some(cx.task_id()), ends: 1 }]);
            Ok(rx.recv().await.unwrap())
        });
        assert_eq!(tx.stats().receivers, [Holder { task: None, ends: 1 }], "on its way");
        yield_now(1).await;
        let id = child.id().unwrap();
        let facts = contended().into_iter().find(|facts| facts.id == tx.stats().id).unwrap();
        assert_eq!((facts.waiters[0].task, facts.waiters[0].op), (Some(id), "recv"));
        assert!(facts.ends.iter().any(|end| (end.role, end.task, end.ends) == ("sender", Some(me), 1)));
        assert!(facts.ends.iter().any(|end| (end.role, end.task, end.ends) == ("receiver", Some(id), 1)));
        let own = tx.subscribe();
        assert_eq!(tx.stats().receivers.len(), 2);
        drop(own);
        tx.send(7);
        assert_eq!(child.await?, Some(7));
        assert_eq!(tx.stats().receivers, []);
        let _rx = tx.subscribe();
        tx.send(8);
        let text = bowline::tree().to_string();
        assert!(text.contains(&format!("<broadcast> events #{}  1/4, 2 sent", tx.stats().id)), "{text}");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- against a model

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    DropTx,
    Subscribe,
    Copy(usize),
    Leave(usize),
    Try(usize),
    Wait(usize),
    Poll(usize),
    DropWait(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..4_usize;
    let step = prop_oneof![
        12 => Just(Step::Send),
        1 => Just(Step::DropTx),
        2 => Just(Step::Subscribe),
        2 => which.clone().prop_map(Step::Copy),
        2 => which.clone().prop_map(Step::Leave),
        6 => which.clone().prop_map(Step::Try),
        4 => which.clone().prop_map(Step::Wait),
        4 => which.clone().prop_map(Step::Poll),
        2 => which.prop_map(Step::DropWait),
    ];
    prop::collection::vec(step, 1..80)
}

/// Each receiver has a list of its own; a full one loses its oldest. That is all a broadcast is.
#[derive(Default)]
struct Model {
    next: u64,
    unread: Vec<Vec<u64>>,
    /// Missed, not yet told.
    missed: Vec<u64>,
    open: bool,
}

impl Model {
    /// `None`: it would wait.
    fn receive(&mut self, at: usize) -> Option<Result<Option<(u64, u64)>, BroadcastError>> {
        let missed = std::mem::take(&mut self.missed[at]);
        if missed > 0 {
            return Some(lagged(missed, self.unread[at][0]));
        }
        if self.unread[at].is_empty() {
            return (!self.open).then_some(Ok(None));
        }
        let item = self.unread[at].remove(0);
        Some(Ok(Some((item, item))))
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Received = Result<Option<(u64, u64)>, BroadcastError>;

/// Waits inside of a future, or not.
enum Receiver {
    Idle(FreeBroadcastRx<u64>),
    Waiting(Pin<Box<dyn Future<Output = (FreeBroadcastRx<u64>, Received)>>>, Arc<Woken>),
}

fn poll(receiver: &mut Receiver, model: &mut Model, at: usize) {
    let Receiver::Waiting(waiting, woken) = receiver else { return };
    woken.0.store(false, Ordering::Relaxed);
    let waker = Waker::from(Arc::clone(woken));
    let polled = waiting.as_mut().poll(&mut Context::from_waker(&waker));
    let expected = model.receive(at);
    match polled {
        Poll::Pending => assert_eq!(expected, None),
        Poll::Ready((rx, received)) => {
            assert_eq!(Some(received), expected);
            *receiver = Receiver::Idle(rx);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_broadcast_does_what_the_model_does(capacity in 1..4_usize, steps in steps()) {
        let (tx, rx) = broadcast(capacity).now_or_never().expect("making a broadcast does not wait");
        let stats = rx.clone();
        drop(stats); // an end that is gone must not matter
        let mut tx = Some(tx);
        let mut model = Model { open: true, ..Model::default() };
        model.unread.push(Vec::new());
        model.missed.push(0);
        let mut receivers = vec![Receiver::Idle(rx)];
        let mut last_stats = None;
        for step in steps {
            let nth = |which: usize, len: usize| (len > 0).then(|| which % len);
            match step {
                Step::Send => if let Some(tx) = &tx {
                    let sent = tx.send(model.next);
                    assert_eq!((sent.sequence, sent.receivers as usize), (model.next, receivers.len()));
                    for (unread, missed) in model.unread.iter_mut().zip(&mut model.missed) {
                        unread.push(model.next);
                        if unread.len() > capacity {
                            unread.remove(0);
                            *missed += 1;
                        }
                    }
                    model.next += 1;
                },
                Step::DropTx => { tx = None; model.open = false; }
                Step::Subscribe => {
                    let new = match (&tx, receivers.first()) {
                        (Some(tx), _) => tx.subscribe(),
                        (None, Some(Receiver::Idle(rx))) => rx.subscribe(),
                        _ => continue,
                    };
                    receivers.push(Receiver::Idle(new));
                    model.unread.push(Vec::new());
                    model.missed.push(0);
                }
                Step::Copy(which) => {
                    let Some(at) = nth(which, receivers.len()) else { continue };
                    let Receiver::Idle(rx) = &receivers[at] else { continue };
                    let copy = rx.clone();
                    receivers.push(Receiver::Idle(copy));
                    model.unread.push(model.unread[at].clone());
                    model.missed.push(model.missed[at]);
                }
                Step::Leave(which) => {
                    let Some(at) = nth(which, receivers.len()) else { continue };
                    drop(receivers.remove(at));
                    model.unread.remove(at);
                    model.missed.remove(at);
                }
                Step::Try(which) => {
                    let Some(at) = nth(which, receivers.len()) else { continue };
                    let Receiver::Idle(rx) = &mut receivers[at] else { continue };
                    let expected = match model.receive(at) {
                        None | Some(Ok(None)) => Ok(None),
                        Some(Ok(Some((_, item)))) => Ok(Some(item)),
                        Some(Err(BroadcastError::Lagged(lagged))) => Err(lagged),
                        Some(Err(other)) => panic!("{other}"),
                    };
                    assert_eq!(rx.try_recv(), expected);
                }
                Step::Wait(which) => {
                    let Some(at) = nth(which, receivers.len()) else { continue };
                    if matches!(receivers[at], Receiver::Waiting(..)) { continue }
                    let Receiver::Idle(mut rx) = receivers.remove(at) else { unreachable!("it was looked at") };
                    let waiting = async move { let received = rx.recv_numbered().await; (rx, received) };
                    receivers.insert(at, Receiver::Waiting(Box::pin(waiting), Arc::default()));
                    poll(&mut receivers[at], &mut model, at);
                }
                Step::Poll(which) => {
                    let Some(at) = nth(which, receivers.len()) else { continue };
                    poll(&mut receivers[at], &mut model, at);
                }
                Step::DropWait(which) => {
                    // The wait takes its receiver along: it leaves in the middle of waiting.
                    let Some(at) = nth(which, receivers.len()) else { continue };
                    if !matches!(receivers[at], Receiver::Waiting(..)) { continue }
                    drop(receivers.remove(at));
                    model.unread.remove(at);
                    model.missed.remove(at);
                }
            }
            for (at, receiver) in receivers.iter().enumerate() {
                let may_go_on = !model.unread[at].is_empty() || model.missed[at] > 0 || !model.open;
                match receiver {
                    Receiver::Idle(rx) => {
                        last_stats = Some(rx.stats());
                        let behind = model.unread[at].len() as u64 + model.missed[at];
                        assert_eq!((rx.behind(), rx.position()), (behind, model.next - behind));
                    }
                    Receiver::Waiting(_, woken) => {
                        assert!(woken.0.load(Ordering::Relaxed) || !may_go_on, "{at} could go on and was not woken");
                    }
                }
            }
            let waiting = receivers.iter().filter(|r| matches!(r, Receiver::Waiting(_, woken) if !woken.0.load(Ordering::Relaxed))).count();
            if let Some(stats) = tx.as_ref().map(|tx| tx.stats()).or(last_stats.take()) {
                let longest = model.unread.iter().map(Vec::len).max().unwrap_or(0);
                assert_eq!((stats.sent, stats.depth_items, stats.waiting_receivers), (model.next, longest, waiting));
            }
        }
    }
}

#[bowline::test(schedules = 50)]
async fn in_every_schedule_who_waits_gets_what_comes_and_the_end() {
    let (tx, rx) = broadcast(4).await;
    scope("schedules", async |s| {
        for _ in 0..3 {
            let mut rx = rx.clone();
            s.spawn("receiver", async move {
                let (mut got, mut missed) = (0, 0);
                loop {
                    match rx.recv().await {
                        Ok(Some(_)) => got += 1,
                        Ok(None) => {
                            assert_eq!(got + missed, 20);
                            return Ok(());
                        }
                        Err(BroadcastError::Lagged(lagged)) => missed += lagged.missed,
                        Err(BroadcastError::Cancelled(cancelled)) => return Err(cancelled),
                    }
                }
            });
        }
        s.spawn("sender", async move {
            for item in 0..20 {
                tx.send(item);
                yield_now(item % 3).await;
            }
            Ok(())
        });
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- many at once

/// Long enough for the slowest machine; what waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

#[bowline::test(worker_threads = 2)]
async fn under_load_every_receiver_has_every_item_or_knows_that_it_missed_it() {
    const ITEMS: u64 = 4_000;
    let run = group("stress", bowline::FailFast, async |g| {
        let (tx, rx) = g.cx().broadcast("narrow", 16);
        for _ in 0..4 {
            g.spawn_with("receiver", rx.clone(), async |_cx, mut rx| {
                let (mut next, mut got, mut missed) = (0, 0, 0);
                loop {
                    let waited = bowline::race(rx.recv_numbered(), tokio::task::yield_now()).await;
                    let bowline::Either::Left(received) = waited else { continue };
                    match received {
                        Ok(Some((sequence, _))) => {
                            assert_eq!(sequence, next, "in order and without a gap");
                            next += 1;
                            got += 1;
                        }
                        Ok(None) => return Ok::<_, Cancelled>((got, missed)),
                        Err(BroadcastError::Lagged(lagged)) => {
                            assert_eq!(lagged.resume_from - lagged.missed, next);
                            next = lagged.resume_from;
                            missed += lagged.missed;
                        }
                        Err(BroadcastError::Cancelled(cancelled)) => return Err(cancelled),
                    }
                }
            });
        }
        drop(rx);
        for _ in 0..2 {
            g.spawn_with("sender", tx.clone(), async |_cx, tx| {
                for item in 0..ITEMS {
                    tx.send(item);
                    if item % 8 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Ok((2 * ITEMS, 0))
            });
        }
    });
    let counts = tokio::time::timeout(HANG, run).await.expect("a wake-up was lost").all_ok().unwrap();
    assert!(counts.iter().all(|(got, missed)| got + missed == 2 * ITEMS), "{counts:?}");
}
