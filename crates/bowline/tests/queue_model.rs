//! Queues against a sequential model: the same random operations on both, the same answers, the same books, and nobody who
//! could go on is left unwoken.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bowline::{Bound, Cancelled, FreeDelivery, FreeRx, FreeTx, Overflow, Permit, SendError, TryRecvError};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use support::queue;

/// Number and size in bytes.
type Item = (u32, usize);

/// One step. An index chooses among those who wait, modulo their number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize, Lane),
    TrySend(usize, Lane),
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
    RecvDelivery,
    PollRecv(usize),
    DropRecv(usize),
    Ack(usize),
    DropDelivery(usize),
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Normal,
    Urgent,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..4_usize;
    let size = 0..12_usize;
    let step = prop_oneof![
        7 => (size.clone(), lanes()).prop_map(|(size, lane)| Step::Send(size, lane)),
        2 => (size.clone(), lanes()).prop_map(|(size, lane)| Step::TrySend(size, lane)),
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
        4 => Just(Step::RecvDelivery),
        4 => which.clone().prop_map(Step::PollRecv),
        2 => which.clone().prop_map(Step::DropRecv),
        3 => which.clone().prop_map(Step::Ack),
        2 => which.prop_map(Step::DropDelivery),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..80)
}

fn lanes() -> impl Strategy<Value = Lane> {
    prop_oneof![2 => Just(Lane::Normal), 1 => Just(Lane::Urgent)]
}

fn overflows() -> impl Strategy<Value = Overflow> {
    // Most of the state is in waiting.
    prop_oneof![
        5 => Just(Overflow::Block),
        1 => Just(Overflow::Reject),
        1 => Just(Overflow::DropOldest),
        1 => Just(Overflow::DropNewest),
        1 => Just(Overflow::Disconnect),
    ]
}

// ---- the model: lists, and rules applied until nothing changes

/// An item and how often it was delivered before.
type Queued = (Item, u32);

#[derive(Default)]
struct LaneModel {
    max_items: usize,
    max_bytes: Option<usize>,
    items: Vec<Queued>,
    /// Everybody in the line for room: key, bytes, and whether room was granted.
    senders: Vec<(u32, usize, bool)>,
    permits: usize,
    /// The items in flight, in the order of their delivery.
    in_flight: Vec<Item>,
}

/// What a permit counts for in bytes.
const PERMIT_BYTES: usize = 1;

impl LaneModel {
    fn bytes(&self) -> usize {
        self.items.iter().map(|((_, size), _)| size).sum()
    }

    fn has_room(&self, size: usize) -> bool {
        let granted = || self.senders.iter().filter(|(_, _, granted)| *granted);
        let held = granted().count() + self.permits + self.in_flight.len();
        let held_bytes = granted().map(|(_, size, _)| size).sum::<usize>()
            + self.permits * PERMIT_BYTES
            + self.in_flight.iter().map(|(_, size)| size).sum::<usize>();
        let in_bytes = self
            .max_bytes
            .is_none_or(|max| self.bytes() + held_bytes + size <= max || self.items.is_empty() && held == 0);
        self.items.len() + held < self.max_items && in_bytes
    }

    fn admits(&self, size: usize) -> bool {
        self.senders.iter().all(|(_, _, granted)| *granted) && self.has_room(size)
    }
}

struct Model {
    normal: LaneModel,
    urgent: LaneModel,
    overflow: Overflow,
    /// Everybody in the line for items: key, and whether one was granted.
    receivers: Vec<(u32, bool)>,
    closed: bool,
    sent: u64,
    received: u64,
    redelivered: u64,
    dropped: u64,
    refused: u64,
}

impl Model {
    fn lane(&mut self, lane: Lane) -> &mut LaneModel {
        match lane {
            Lane::Normal => &mut self.normal,
            Lane::Urgent => &mut self.urgent,
        }
    }

    fn queued(&self) -> usize {
        self.normal.items.len() + self.urgent.items.len()
    }

    fn in_flight(&self) -> usize {
        self.normal.in_flight.len() + self.urgent.in_flight.len()
    }

    fn promised(&self) -> usize {
        self.receivers.iter().filter(|(_, granted)| *granted).count()
    }

    fn free_items(&self) -> usize {
        self.queued() - self.promised()
    }

    fn is_exhausted(&self) -> bool {
        self.closed && self.queued() == 0 && self.in_flight() == 0
    }

    /// `None`: takes a place in line under this key.
    fn send(&mut self, key: Option<u32>, item: Item, lane: Lane) -> Option<Result<(), SendError<Item>>> {
        if self.closed {
            return Some(Err(SendError::Closed(item)));
        }
        if self.lane(lane).admits(item.1) {
            self.push(item, lane);
            return Some(Ok(()));
        }
        match (self.overflow, key) {
            (Overflow::Block, Some(key)) => {
                self.lane(lane).senders.push((key, item.1, false));
                return None;
            }
            (Overflow::Block | Overflow::Reject, _) => {
                self.refused += 1;
                return Some(Err(SendError::Full(item)));
            }
            (Overflow::Disconnect, _) => {
                self.refused += 1;
                self.closed = true;
                return Some(Err(SendError::Closed(item)));
            }
            (Overflow::DropNewest, _) => {}
            (Overflow::DropOldest, _) => {
                while !self.lane(lane).has_room(item.1)
                    && self.free_items() > 0
                    && !self.lane(lane).items.is_empty()
                {
                    self.lane(lane).items.remove(0);
                    self.dropped += 1;
                }
                if self.lane(lane).has_room(item.1) {
                    self.push(item, lane);
                    return Some(Ok(()));
                }
            }
        }
        self.sent += 1;
        self.dropped += 1;
        Some(Ok(()))
    }

    fn push(&mut self, item: Item, lane: Lane) {
        self.sent += 1;
        self.lane(lane).items.push((item, 0));
    }

    fn reserve(&mut self, key: Option<u32>) -> Option<Result<(), SendError<()>>> {
        if self.closed {
            return Some(Err(SendError::Closed(())));
        }
        if self.normal.admits(PERMIT_BYTES) {
            self.normal.permits += 1;
            return Some(Ok(()));
        }
        match (self.overflow, key) {
            (Overflow::Block, Some(key)) => {
                self.normal.senders.push((key, PERMIT_BYTES, false));
                None
            }
            (Overflow::Disconnect, _) => {
                self.refused += 1;
                self.closed = true;
                Some(Err(SendError::Closed(())))
            }
            _ => {
                self.refused += 1;
                Some(Err(SendError::Full(())))
            }
        }
    }

    /// Takes up a place in the line for room. `None`: still waiting.
    fn poll_room(&mut self, key: u32, lane: Lane) -> Option<Result<(), SendError<()>>> {
        let closed = self.closed;
        let senders = &mut self.lane(lane).senders;
        let at = senders.iter().position(|(known, _, _)| *known == key).expect("it is in line");
        if closed {
            senders.remove(at);
            return Some(Err(SendError::Closed(())));
        }
        senders[at].2.then(|| {
            senders.remove(at);
            Ok(())
        })
    }

    /// `Ok(true)`: an item is the receiver's.
    fn poll_recv(&mut self, key: u32) -> Option<bool> {
        let at = self.receivers.iter().position(|(known, _)| *known == key).expect("it is in line");
        if self.receivers[at].1 {
            self.receivers.remove(at);
            return Some(true);
        }
        self.is_exhausted().then(|| {
            self.receivers.remove(at);
            false
        })
    }

    fn next(&mut self) -> (Queued, Lane) {
        let lane = if self.urgent.items.is_empty() { Lane::Normal } else { Lane::Urgent };
        (self.lane(lane).items.remove(0), lane)
    }

    fn take(&mut self) -> Item {
        self.received += 1;
        self.next().0.0
    }

    fn deliver(&mut self) -> (Queued, Lane) {
        let (queued, lane) = self.next();
        self.lane(lane).in_flight.push(queued.0);
        (queued, lane)
    }

    /// Takes an item out of flight, and says which attempt that was.
    fn land(&mut self, key: u32, lane: Lane) -> Item {
        let in_flight = &mut self.lane(lane).in_flight;
        let at = in_flight.iter().position(|(known, _)| *known == key).expect("it is in flight");
        in_flight.remove(at)
    }

    /// Grants what there is, first come, first served.
    fn settle(&mut self) {
        for lane in [Lane::Normal, Lane::Urgent] {
            while !self.closed {
                let lane = self.lane(lane);
                let Some(at) = lane.senders.iter().position(|(_, _, granted)| !granted) else { break };
                if !lane.has_room(lane.senders[at].1) {
                    break;
                }
                lane.senders[at].2 = true;
            }
        }
        while self.free_items() > 0 {
            let Some(at) = self.receivers.iter().position(|(_, granted)| !granted) else { break };
            self.receivers[at].1 = true;
        }
    }

    fn may_go_on(&self, key: u32) -> bool {
        let mut senders = self.normal.senders.iter().chain(&self.urgent.senders);
        let sender = senders.find(|(known, _, _)| *known == key);
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
    lane: Lane,
    future: Pin<Box<dyn Future<Output = O> + 'a>>,
    woken: Arc<Woken>,
}

impl<'a, O> Waiting<'a, O> {
    fn new(key: u32, item: Item, lane: Lane, future: impl Future<Output = O> + 'a) -> Self {
        Self { key, item, lane, future: Box::pin(future), woken: Arc::default() }
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
    delivering: Vec<Waiting<'a, Result<Option<FreeDelivery<Item>>, Cancelled>>>,
    /// With the lane and the attempt the model expects.
    deliveries: Vec<(FreeDelivery<Item>, Lane)>,
    next: u32,
}

impl<'a> Both<'a> {
    fn step(&mut self, step: Step) {
        self.next += 1;
        let key = self.next;
        match step {
            Step::Send(size, lane) => {
                let item = (key, size);
                let (tx, normal) = (self.tx, lane == Lane::Normal);
                let sending =
                    async move { if normal { tx.send(item).await } else { tx.send_urgent(item).await } };
                let mut send = Waiting::new(key, item, lane, sending);
                let answer = send.poll();
                assert_eq!(answer, self.model.send(Some(key), item, lane));
                if answer.is_none() {
                    self.sends.push(send);
                }
            }
            Step::TrySend(size, lane) => {
                let item = (key, size);
                let answer = match lane {
                    Lane::Normal => self.tx.try_send(item),
                    Lane::Urgent => self.tx.try_send_urgent(item),
                };
                assert_eq!(Some(answer), self.model.send(None, item, lane));
            }
            Step::PollSend(which) => self.poll_send(which),
            Step::DropSend(which) => {
                let Some(at) = nth(&self.sends, which) else { return };
                let Waiting { key, lane, .. } = self.sends.remove(at);
                self.model.lane(lane).senders.retain(|(known, _, _)| *known != key);
            }
            Step::Reserve => {
                let mut reserve = Waiting::new(key, (0, 0), Lane::Normal, self.tx.reserve());
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
                let (answer, expected) = (reserve.poll(), self.model.poll_room(reserve.key, Lane::Normal));
                self.model.normal.permits += usize::from(matches!(expected, Some(Ok(()))));
                self.compare_permit(answer, expected, Some(reserve));
            }
            Step::DropReserve(which) => {
                let Some(at) = nth(&self.reserves, which) else { return };
                let key = self.reserves.remove(at).key;
                self.model.normal.senders.retain(|(known, _, _)| *known != key);
            }
            Step::Commit(which, size) => {
                let Some(at) = nth(&self.permits, which) else { return };
                let answer = self.permits.remove(at).send((key, size));
                self.model.normal.permits -= 1;
                assert_eq!(answer, self.push((key, size), Lane::Normal));
            }
            Step::DropPermit(which) => {
                let Some(at) = nth(&self.permits, which) else { return };
                drop(self.permits.remove(at));
                self.model.normal.permits -= 1;
            }
            Step::Recv => {
                let mut recv = Waiting::new(key, (0, 0), Lane::Normal, self.rx.recv());
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
            Step::RecvDelivery => {
                let mut recv = Waiting::new(key, (0, 0), Lane::Normal, self.rx.recv_delivery());
                let answer = recv.poll();
                if self.model.free_items() > 0 {
                    self.delivered(answer);
                } else if self.model.is_exhausted() {
                    assert!(matches!(answer, Some(Ok(None))), "{answer:?}");
                } else {
                    assert!(answer.is_none(), "{answer:?}");
                    self.model.receivers.push((key, false));
                    self.delivering.push(recv);
                }
            }
            Step::PollRecv(which) => self.poll_recv(which),
            Step::DropRecv(which) => {
                let key = if which % 2 == 0 {
                    let Some(at) = nth(&self.recvs, which) else { return };
                    self.recvs.remove(at).key
                } else {
                    let Some(at) = nth(&self.delivering, which) else { return };
                    self.delivering.remove(at).key
                };
                self.model.receivers.retain(|(known, _)| *known != key);
            }
            Step::Ack(which) => {
                let Some(at) = nth(&self.deliveries, which) else { return };
                let (delivery, lane) = self.deliveries.remove(at);
                let item = delivery.ack();
                assert_eq!(item, self.model.land(item.0, lane));
                self.model.received += 1;
            }
            Step::DropDelivery(which) => {
                let Some(at) = nth(&self.deliveries, which) else { return };
                let (delivery, lane) = self.deliveries.remove(at);
                let (key, attempt) = (delivery.0, delivery.attempt());
                drop(delivery);
                let item = self.model.land(key, lane);
                self.model.lane(lane).items.insert(0, (item, attempt));
                self.model.redelivered += 1;
            }
            Step::Close => {
                self.rx.close();
                self.model.closed = true;
            }
        }
    }

    fn poll_recv(&mut self, which: usize) {
        if which % 2 == 0 {
            let Some(at) = nth(&self.recvs, which) else { return };
            let key = self.recvs[at].key;
            let answer = self.recvs[at].poll();
            let expected = self.model.poll_recv(key).map(|got| Ok(got.then(|| self.model.take())));
            assert_eq!(answer, expected);
            if answer.is_some() {
                drop(self.recvs.remove(at));
            }
        } else {
            let Some(at) = nth(&self.delivering, which) else { return };
            let key = self.delivering[at].key;
            let answer = self.delivering[at].poll();
            match self.model.poll_recv(key) {
                Some(true) => self.delivered(answer),
                Some(false) => assert!(matches!(answer, Some(Ok(None))), "{answer:?}"),
                None => return assert!(answer.is_none(), "{answer:?}"),
            }
            drop(self.delivering.remove(at));
        }
    }

    fn delivered(&mut self, answer: Option<Result<Option<FreeDelivery<Item>>, Cancelled>>) {
        let Some(Ok(Some(delivery))) = answer else { panic!("{answer:?}") };
        let ((item, attempts), lane) = self.model.deliver();
        assert_eq!((*delivery, delivery.attempt()), (item, attempts + 1));
        self.deliveries.push((delivery, lane));
    }

    fn poll_send(&mut self, which: usize) {
        let Some(at) = nth(&self.sends, which) else { return };
        let Waiting { key, item, lane, .. } = self.sends[at];
        let answer = self.sends[at].poll();
        let expected = match self.model.poll_room(key, lane) {
            Some(Ok(())) => Some(self.push(item, lane)),
            Some(Err(_)) => Some(Err(SendError::Closed(item))),
            None => None,
        };
        assert_eq!(answer, expected);
        if answer.is_some() {
            drop(self.sends.remove(at));
        }
    }

    /// Puts an item into room that was granted.
    fn push(&mut self, item: Item, lane: Lane) -> Result<(), SendError<Item>> {
        if self.model.closed {
            return Err(SendError::Closed(item));
        }
        self.model.push(item, lane);
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
        let left = stats.depth_items + stats.in_flight;
        assert_eq!(stats.sent, stats.received + stats.dropped + left as u64);
        assert_eq!((stats.redelivered, stats.in_flight), (model.redelivered, model.in_flight()));
        assert_eq!((stats.depth_items, stats.depth_bytes), (model.queued(), model.measured()));
        assert_eq!(stats.closed.is_some(), model.closed);
        let urgent = stats.urgent.expect("it has an urgent lane");
        let of_model = &model.urgent;
        assert_eq!((urgent.depth_items, urgent.in_flight), (of_model.items.len(), of_model.in_flight.len()));
        assert!(urgent.depth_items + urgent.in_flight <= of_model.max_items, "the urgent bound holds");
        assert!(left - urgent.depth_items - urgent.in_flight <= model.normal.max_items, "the bound holds");
        let in_room_lines = model.normal.senders.iter().chain(&model.urgent.senders);
        let waiting_senders = in_room_lines.filter(|(_, _, granted)| !granted && !model.closed).count();
        let waiting_receivers =
            model.receivers.iter().filter(|(_, granted)| !granted && !model.is_exhausted()).count();
        assert_eq!((stats.waiting_senders, stats.waiting_receivers), (waiting_senders, waiting_receivers));
        let waiting = (self.sends.iter().map(|w| (w.key, w.was_woken())))
            .chain(self.reserves.iter().map(|w| (w.key, w.was_woken())))
            .chain(self.recvs.iter().map(|w| (w.key, w.was_woken())))
            .chain(self.delivering.iter().map(|w| (w.key, w.was_woken())));
        for (key, woken) in waiting {
            assert!(woken || !model.may_go_on(key), "number {key} could go on and was not woken");
        }
    }
}

impl Model {
    /// A queue without a bound in bytes does not measure.
    fn measured(&self) -> usize {
        if self.normal.max_bytes.is_some() { self.normal.bytes() + self.urgent.bytes() } else { 0 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_does_what_the_model_does(
        overflow in overflows(),
        max_items in 1..4_usize,
        max_bytes in prop::option::of(1..20_usize),
        max_urgent in 1..3_usize,
        steps in steps(),
    ) {
        let bound = match max_bytes {
            Some(max) => Bound::items(max_items).and_bytes(max, |(_, size): &Item| *size),
            None => Bound::items(max_items),
        };
        let bound = bound.and_urgent(max_urgent);
        // Nothing here needs a runtime.
        let (tx, rx) = queue(bound, overflow).now_or_never().expect("making a queue does not wait");
        let model = Model {
            normal: LaneModel { max_items, max_bytes, ..LaneModel::default() },
            urgent: LaneModel { max_items: max_urgent, ..LaneModel::default() },
            overflow, receivers: Vec::new(), closed: false,
            sent: 0, received: 0, redelivered: 0, dropped: 0, refused: 0,
        };
        let mut both = Both {
            model, tx: &tx, rx: &rx,
            sends: Vec::new(), reserves: Vec::new(), permits: Vec::new(), recvs: Vec::new(),
            delivering: Vec::new(), deliveries: Vec::new(), next: 0,
        };
        for step in steps {
            both.step(step);
            both.model.settle();
            both.compare();
        }
        // Everybody leaves: what is queued is abandoned with the last receiver, and the books are closed.
        let queued = (both.model.queued() + both.model.in_flight()) as u64;
        drop(both);
        drop(rx);
        let stats = tx.stats();
        prop_assert_eq!(stats.abandoned, queued);
        prop_assert_eq!(stats.sent, stats.received + stats.dropped + stats.abandoned);
        prop_assert_eq!((stats.waiting_senders, stats.waiting_receivers), (0, 0));
    }
}
