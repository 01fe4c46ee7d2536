//! Queues against a sequential model: the same random operations on both, the same answers, the same books, and nobody who
//! could go on is left unwoken.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bowline::{Bound, Cancelled, FreeRx, FreeTx, Overflow, Permit, SendError, TryRecvError};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use support::queue;

/// Number and size in bytes.
type Item = (u32, usize);

/// One step. An index chooses among those who wait, modulo their number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize),
    TrySend(usize),
    PollSend(usize),
    DropSend(usize),
    Reserve,
    TryReserve,
    PollReserve(usize),
    DropReserve(usize),
    Commit(usize, usize),
    DropPermit(usize),
    Recv,
    TryRecv,
    RecvMany(usize),
    PollRecv(usize),
    DropRecv(usize),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..4_usize;
    let size = 0..12_usize;
    let step = prop_oneof![
        6 => size.clone().prop_map(Step::Send),
        2 => size.clone().prop_map(Step::TrySend),
        4 => which.clone().prop_map(Step::PollSend),
        2 => which.clone().prop_map(Step::DropSend),
        3 => Just(Step::Reserve),
        1 => Just(Step::TryReserve),
        2 => which.clone().prop_map(Step::PollReserve),
        1 => which.clone().prop_map(Step::DropReserve),
        3 => (which.clone(), size).prop_map(|(which, size)| Step::Commit(which, size)),
        1 => which.clone().prop_map(Step::DropPermit),
        5 => Just(Step::Recv),
        3 => Just(Step::TryRecv),
        1 => (1..5_usize).prop_map(Step::RecvMany),
        4 => which.clone().prop_map(Step::PollRecv),
        2 => which.prop_map(Step::DropRecv),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..80)
}

fn overflows() -> impl Strategy<Value = Overflow> {
    // Most of the state is in waiting.
    prop_oneof![
        5 => Just(Overflow::Block),
        1 => Just(Overflow::Reject),
        1 => Just(Overflow::DropOldest),
        1 => Just(Overflow::DropNewest),
    ]
}

// ---- the model: lists, and rules applied until nothing changes

struct Model {
    max_items: usize,
    max_bytes: Option<usize>,
    overflow: Overflow,
    items: Vec<Item>,
    /// Everybody in the line for room: key, bytes, and whether room was granted.
    senders: Vec<(u32, usize, bool)>,
    permits: usize,
    /// Everybody in the line for items: key, and whether one was granted.
    receivers: Vec<(u32, bool)>,
    closed: bool,
    sent: u64,
    received: u64,
    dropped: u64,
    refused: u64,
}

/// What a permit counts for in bytes.
const PERMIT_BYTES: usize = 1;

impl Model {
    fn bytes(&self) -> usize {
        self.items.iter().map(|(_, size)| size).sum()
    }

    fn has_room(&self, size: usize) -> bool {
        let granted = || self.senders.iter().filter(|(_, _, granted)| *granted);
        let reserved = granted().count() + self.permits;
        let reserved_bytes = granted().map(|(_, size, _)| size).sum::<usize>() + self.permits * PERMIT_BYTES;
        let in_bytes = self.max_bytes.is_none_or(|max| {
            self.bytes() + reserved_bytes + size <= max || self.items.is_empty() && reserved == 0
        });
        self.items.len() + reserved < self.max_items && in_bytes
    }

    fn somebody_waits_for_room(&self) -> bool {
        self.senders.iter().any(|(_, _, granted)| !granted)
    }

    fn promised(&self) -> usize {
        self.receivers.iter().filter(|(_, granted)| *granted).count()
    }

    fn free_items(&self) -> usize {
        self.items.len() - self.promised()
    }

    fn is_exhausted(&self) -> bool {
        self.closed && self.items.is_empty()
    }

    /// `None`: takes a place in line under this key.
    fn send(&mut self, key: Option<u32>, item: Item) -> Option<Result<(), SendError<Item>>> {
        if self.closed {
            return Some(Err(SendError::Closed(item)));
        }
        if !self.somebody_waits_for_room() && self.has_room(item.1) {
            self.sent += 1;
            self.items.push(item);
            return Some(Ok(()));
        }
        match (self.overflow, key) {
            (Overflow::Block, Some(key)) => {
                self.senders.push((key, item.1, false));
                return None;
            }
            (Overflow::Block | Overflow::Reject, _) => {
                self.refused += 1;
                return Some(Err(SendError::Full(item)));
            }
            (Overflow::DropNewest, _) => {}
            (Overflow::DropOldest, _) => {
                while !self.has_room(item.1) && self.free_items() > 0 {
                    self.items.remove(0);
                    self.dropped += 1;
                }
                if self.has_room(item.1) {
                    self.sent += 1;
                    self.items.push(item);
                    return Some(Ok(()));
                }
            }
        }
        self.sent += 1;
        self.dropped += 1;
        Some(Ok(()))
    }

    fn reserve(&mut self, key: Option<u32>) -> Option<Result<(), SendError<()>>> {
        if self.closed {
            return Some(Err(SendError::Closed(())));
        }
        if !self.somebody_waits_for_room() && self.has_room(PERMIT_BYTES) {
            self.permits += 1;
            return Some(Ok(()));
        }
        match key {
            Some(key) if self.overflow == Overflow::Block => {
                self.senders.push((key, PERMIT_BYTES, false));
                None
            }
            _ => {
                self.refused += 1;
                Some(Err(SendError::Full(())))
            }
        }
    }

    /// Takes up a place in the line for room. `None`: still waiting.
    fn poll_room(&mut self, key: u32) -> Option<Result<(), SendError<()>>> {
        let at = self.senders.iter().position(|(known, _, _)| *known == key).expect("it is in line");
        if self.closed {
            self.senders.remove(at);
            return Some(Err(SendError::Closed(())));
        }
        self.senders[at].2.then(|| {
            self.senders.remove(at);
            Ok(())
        })
    }

    fn poll_recv(&mut self, key: u32) -> Option<Result<Option<Item>, Cancelled>> {
        let at = self.receivers.iter().position(|(known, _)| *known == key).expect("it is in line");
        if self.receivers[at].1 {
            self.receivers.remove(at);
            return Some(Ok(Some(self.take())));
        }
        self.is_exhausted().then(|| {
            self.receivers.remove(at);
            Ok(None)
        })
    }

    fn take(&mut self) -> Item {
        self.received += 1;
        self.items.remove(0)
    }

    /// Grants what there is, first come, first served.
    fn settle(&mut self) {
        while !self.closed {
            let Some(at) = self.senders.iter().position(|(_, _, granted)| !granted) else { break };
            if !self.has_room(self.senders[at].1) {
                break;
            }
            self.senders[at].2 = true;
        }
        while self.free_items() > 0 {
            let Some(at) = self.receivers.iter().position(|(_, granted)| !granted) else { break };
            self.receivers[at].1 = true;
        }
    }

    fn may_go_on(&self, key: u32) -> bool {
        let sender = self.senders.iter().find(|(known, _, _)| *known == key);
        let receiver = self.receivers.iter().find(|(known, _)| *known == key);
        sender.is_some_and(|(_, _, granted)| *granted || self.closed)
            || receiver.is_some_and(|(_, granted)| *granted || self.is_exhausted())
    }
}

// ---- the real one, every wait with a waker of its own

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Waiting<'a, O> {
    key: u32,
    item: Item,
    future: Pin<Box<dyn Future<Output = O> + 'a>>,
    woken: Arc<Woken>,
}

impl<'a, O> Waiting<'a, O> {
    fn new(key: u32, item: Item, future: impl Future<Output = O> + 'a) -> Self {
        Self { key, item, future: Box::pin(future), woken: Arc::default() }
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

fn nth<T>(list: &[T], which: usize) -> Option<usize> {
    (!list.is_empty()).then(|| which % list.len())
}

struct Both<'a> {
    model: Model,
    tx: &'a FreeTx<Item>,
    rx: &'a FreeRx<Item>,
    sends: Vec<Waiting<'a, Result<(), SendError<Item>>>>,
    reserves: Vec<Waiting<'a, Result<Permit<'a, Item>, SendError<()>>>>,
    permits: Vec<Permit<'a, Item>>,
    recvs: Vec<Waiting<'a, Result<Option<Item>, Cancelled>>>,
    next: u32,
}

impl<'a> Both<'a> {
    fn step(&mut self, step: Step) {
        self.next += 1;
        let key = self.next;
        match step {
            Step::Send(size) => {
                let mut send = Waiting::new(key, (key, size), self.tx.send((key, size)));
                let answer = send.poll();
                assert_eq!(answer, self.model.send(Some(key), (key, size)));
                if answer.is_none() {
                    self.sends.push(send);
                }
            }
            Step::TrySend(size) => {
                assert_eq!(Some(self.tx.try_send((key, size))), self.model.send(None, (key, size)));
            }
            Step::PollSend(which) => self.poll_send(which),
            Step::DropSend(which) => {
                let Some(at) = nth(&self.sends, which) else { return };
                let key = self.sends.remove(at).key;
                self.model.senders.retain(|(known, _, _)| *known != key);
            }
            Step::Reserve => {
                let mut reserve = Waiting::new(key, (0, 0), self.tx.reserve());
                let answer = reserve.poll();
                let expected = self.model.reserve(Some(key));
                self.compare_permit(answer, expected, Some(reserve));
            }
            Step::TryReserve => {
                let (answer, expected) = (self.tx.try_reserve(), self.model.reserve(None));
                self.compare_permit(Some(answer), expected, None);
            }
            Step::PollReserve(which) => {
                let Some(at) = nth(&self.reserves, which) else { return };
                let mut reserve = self.reserves.remove(at);
                let (answer, expected) = (reserve.poll(), self.model.poll_room(reserve.key));
                self.model.permits += usize::from(matches!(expected, Some(Ok(()))));
                self.compare_permit(answer, expected, Some(reserve));
            }
            Step::DropReserve(which) => {
                let Some(at) = nth(&self.reserves, which) else { return };
                let key = self.reserves.remove(at).key;
                self.model.senders.retain(|(known, _, _)| *known != key);
            }
            Step::Commit(which, size) => {
                let Some(at) = nth(&self.permits, which) else { return };
                let answer = self.permits.remove(at).send((key, size));
                self.model.permits -= 1;
                assert_eq!(answer, self.push((key, size)));
            }
            Step::DropPermit(which) => {
                let Some(at) = nth(&self.permits, which) else { return };
                drop(self.permits.remove(at));
                self.model.permits -= 1;
            }
            Step::Recv => {
                let mut recv = Waiting::new(key, (0, 0), self.rx.recv());
                let answer = recv.poll();
                let expected = if self.model.free_items() > 0 {
                    Some(Ok(Some(self.model.take())))
                } else {
                    self.model.is_exhausted().then_some(Ok(None))
                };
                assert_eq!(answer, expected);
                if answer.is_none() {
                    self.model.receivers.push((key, false));
                    self.recvs.push(recv);
                }
            }
            Step::TryRecv => {
                let expected = if self.model.free_items() > 0 {
                    Ok(self.model.take())
                } else if self.model.is_exhausted() {
                    Err(TryRecvError::Closed)
                } else {
                    Err(TryRecvError::Empty)
                };
                assert_eq!(self.rx.try_recv(), expected);
            }
            Step::RecvMany(max) => self.recv_many(max),
            Step::PollRecv(which) => {
                let Some(at) = nth(&self.recvs, which) else { return };
                let key = self.recvs[at].key;
                let answer = self.recvs[at].poll();
                assert_eq!(answer, self.model.poll_recv(key));
                if answer.is_some() {
                    drop(self.recvs.remove(at));
                }
            }
            Step::DropRecv(which) => {
                let Some(at) = nth(&self.recvs, which) else { return };
                let key = self.recvs.remove(at).key;
                self.model.receivers.retain(|(known, _)| *known != key);
            }
            Step::Close => {
                self.rx.close();
                self.model.closed = true;
            }
        }
    }

    fn poll_send(&mut self, which: usize) {
        let Some(at) = nth(&self.sends, which) else { return };
        let (key, item) = (self.sends[at].key, self.sends[at].item);
        let answer = self.sends[at].poll();
        let expected = match self.model.poll_room(key) {
            Some(Ok(())) => Some(self.push(item)),
            Some(Err(_)) => Some(Err(SendError::Closed(item))),
            None => None,
        };
        assert_eq!(answer, expected);
        if answer.is_some() {
            drop(self.sends.remove(at));
        }
    }

    /// Puts an item into room that was granted.
    fn push(&mut self, item: Item) -> Result<(), SendError<Item>> {
        if self.model.closed {
            return Err(SendError::Closed(item));
        }
        self.model.sent += 1;
        self.model.items.push(item);
        Ok(())
    }

    fn compare_permit(
        &mut self,
        answer: Option<Result<Permit<'a, Item>, SendError<()>>>,
        expected: Option<Result<(), SendError<()>>>,
        waiting: Option<Waiting<'a, Result<Permit<'a, Item>, SendError<()>>>>,
    ) {
        match (answer, expected) {
            (Some(Ok(permit)), Some(Ok(()))) => self.permits.push(permit),
            (Some(Err(error)), Some(Err(expected))) => assert_eq!(error, expected),
            (None, None) => self.reserves.extend(waiting),
            (answer, expected) => {
                panic!("{:?} instead of {expected:?}", answer.map(|answer| answer.map(drop)))
            }
        }
    }

    /// Polled once, and dropped if it has to wait.
    fn recv_many(&mut self, max: usize) {
        let mut got = Vec::new();
        let answer = self.rx.recv_many(&mut got, max).now_or_never();
        let free = self.model.free_items().min(max);
        let expected: Vec<Item> = (0..free).map(|_| self.model.take()).collect();
        let expected_answer = match free {
            0 => self.model.is_exhausted().then_some(Ok(0)),
            taken => Some(Ok(taken)),
        };
        assert_eq!((answer, got), (expected_answer, expected));
    }

    fn compare(&self) {
        let (model, stats) = (&self.model, self.tx.stats());
        assert_eq!(
            (stats.sent, stats.received, stats.dropped, stats.refused, stats.abandoned),
            (model.sent, model.received, model.dropped, model.refused, 0)
        );
        assert_eq!(stats.sent, stats.received + stats.dropped + stats.depth_items as u64);
        assert_eq!((stats.depth_items, stats.depth_bytes), (model.items.len(), model.measured()));
        assert!(stats.depth_items <= model.max_items);
        let waiting_senders =
            model.senders.iter().filter(|(_, _, granted)| !granted && !model.closed).count();
        let waiting_receivers =
            model.receivers.iter().filter(|(_, granted)| !granted && !model.is_exhausted()).count();
        assert_eq!((stats.waiting_senders, stats.waiting_receivers), (waiting_senders, waiting_receivers));
        let waiting = (self.sends.iter().map(|w| (w.key, w.was_woken())))
            .chain(self.reserves.iter().map(|w| (w.key, w.was_woken())))
            .chain(self.recvs.iter().map(|w| (w.key, w.was_woken())));
        for (key, woken) in waiting {
            assert!(woken || !model.may_go_on(key), "number {key} could go on and was not woken");
        }
    }
}

impl Model {
    /// A queue without a bound in bytes does not measure.
    fn measured(&self) -> usize {
        if self.max_bytes.is_some() { self.bytes() } else { 0 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_does_what_the_model_does(
        overflow in overflows(),
        max_items in 1..4_usize,
        max_bytes in prop::option::of(1..20_usize),
        steps in steps(),
    ) {
        let bound = match max_bytes {
            Some(max) => Bound::items(max_items).and_bytes(max, |(_, size): &Item| *size),
            None => Bound::items(max_items),
        };
        // Nothing here needs a runtime.
        let (tx, rx) = queue(bound, overflow).now_or_never().expect("making a queue does not wait");
        let model = Model {
            max_items, max_bytes, overflow,
            items: Vec::new(), senders: Vec::new(), permits: 0, receivers: Vec::new(), closed: false,
            sent: 0, received: 0, dropped: 0, refused: 0,
        };
        let mut both = Both {
            model, tx: &tx, rx: &rx,
            sends: Vec::new(), reserves: Vec::new(), permits: Vec::new(), recvs: Vec::new(), next: 0,
        };
        for step in steps {
            both.step(step);
            both.model.settle();
            both.compare();
        }
        // Everybody leaves: what is queued is abandoned with the last receiver, and the books are closed.
        let queued = both.model.items.len() as u64;
        drop(both);
        drop(rx);
        let stats = tx.stats();
        prop_assert_eq!(stats.abandoned, queued);
        prop_assert_eq!(stats.sent, stats.received + stats.dropped + stats.abandoned);
        prop_assert_eq!((stats.waiting_senders, stats.waiting_receivers), (0, 0));
    }
}
