//! Mutex, read-write lock and semaphore against one sequential model: permits in a line. The same random operations on both, the
//! same answers, the same books, and nobody who could go on is left unwoken.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bowline::{
    AcquireError, Mutex, ResourceInfo, ResourceState, RwLock, Semaphore, SemaphorePermit, TryAcquireError,
};
use proptest::prelude::*;

/// One step. An index chooses among those who wait or hold, modulo their number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire(usize),
    TryAcquire(usize),
    Poll(usize),
    DropWait(usize),
    Release(usize),
    Add(usize),
    Destroy(usize),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..5_usize;
    let step = prop_oneof![
        8 => (0..6_usize).prop_map(Step::Acquire),
        3 => (0..6_usize).prop_map(Step::TryAcquire),
        5 => which.clone().prop_map(Step::Poll),
        3 => which.clone().prop_map(Step::DropWait),
        6 => which.clone().prop_map(Step::Release),
        1 => (0..3_usize).prop_map(Step::Add),
        1 => which.prop_map(Step::Destroy),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..100)
}

// ---- the model: a list, and one rule applied until nothing changes

#[derive(Debug, PartialEq)]
enum Answer {
    Passed,
    Waits,
    Closed,
    TooLarge,
    RoomFull,
}

struct Model {
    free: usize,
    total: usize,
    grows: bool,
    closed: bool,
    room: usize,
    /// Key, need, granted.
    line: Vec<(u32, usize, bool)>,
}

impl Model {
    fn waiting(&self) -> usize {
        self.line.iter().filter(|(_, _, granted)| !granted).count()
    }

    fn refusal(&self, need: usize) -> Option<Answer> {
        match (self.closed, need > self.total && !self.grows) {
            (true, _) => Some(Answer::Closed),
            (false, true) => Some(Answer::TooLarge),
            (false, false) => None,
        }
    }

    fn ask(&mut self, need: usize) -> Answer {
        if let Some(refusal) = self.refusal(need) {
            return refusal;
        }
        if need == 0 || self.waiting() == 0 && need <= self.free {
            self.free -= need;
            return Answer::Passed;
        }
        if self.waiting() < self.room { Answer::Waits } else { Answer::RoomFull }
    }

    fn poll(&mut self, key: u32) -> Answer {
        let at = self.line.iter().position(|(known, _, _)| *known == key).expect("it waits");
        let (_, need, granted) = self.line[at];
        let answer = if granted { Answer::Passed } else { self.refusal(need).unwrap_or(Answer::Waits) };
        if answer != Answer::Waits {
            self.line.remove(at);
        }
        answer
    }

    fn give_up(&mut self, key: u32) {
        let at = self.line.iter().position(|(known, _, _)| *known == key).expect("it waits");
        let (_, need, granted) = self.line.remove(at);
        self.free += if granted { need } else { 0 };
    }

    fn settle(&mut self) {
        for (_, need, granted) in self.line.iter_mut().filter(|(_, _, granted)| !granted) {
            if self.closed || *need > self.free {
                return;
            }
            self.free -= *need;
            *granted = true;
        }
    }

    fn may_go_on(&self, key: u32) -> bool {
        let place = self.line.iter().find(|(known, _, _)| *known == key);
        place.is_some_and(|(_, need, granted)| *granted || self.refusal(*need).is_some())
    }
}

// ---- the real ones behind one face

enum Lock {
    Mutex(Mutex<()>),
    RwLock(RwLock<()>),
    Semaphore(Semaphore),
}

/// Whatever a guard is: it gives back by its drop.
enum Held<'a> {
    Guard { need: usize, _guard: Box<dyn Guard + 'a> },
    Permit(SemaphorePermit<'a>),
}

trait Guard {}
impl<T> Guard for T {}

impl Held<'_> {
    fn need(&self) -> usize {
        match self {
            Held::Guard { need, .. } => *need,
            Held::Permit(permit) => permit.permits(),
        }
    }
}

type Wait<'a> = Pin<Box<dyn Future<Output = Result<Held<'a>, AcquireError>> + 'a>>;

fn held<'a>(need: usize, guard: impl Guard + 'a) -> Held<'a> {
    Held::Guard { need, _guard: Box::new(guard) }
}

/// A writer takes as many permits as there could be readers.
const ALL_READERS: usize = u32::MAX as usize;

impl Lock {
    fn total(&self) -> usize {
        let ResourceState::Permits { total, .. } = self.stats().state else { panic!("open at first") };
        total
    }

    /// What this lock makes of a step's number.
    fn need(&self, number: usize) -> usize {
        match self {
            Lock::Mutex(_) => 1,
            Lock::RwLock(_) if number % 2 == 0 => ALL_READERS,
            Lock::RwLock(_) => 1,
            Lock::Semaphore(_) => number,
        }
    }

    fn acquire(&self, need: usize) -> Wait<'_> {
        Box::pin(async move {
            Ok(match self {
                Lock::Mutex(lock) => held(need, lock.lock().await.map_err(AcquireError::Cancelled)?),
                Lock::RwLock(lock) if need == 1 => {
                    held(need, lock.read().await.map_err(AcquireError::Cancelled)?)
                }
                Lock::RwLock(lock) => held(need, lock.write().await.map_err(AcquireError::Cancelled)?),
                Lock::Semaphore(slots) => Held::Permit(slots.acquire(need).await?),
            })
        })
    }

    fn try_acquire(&self, need: usize) -> Result<Held<'_>, TryAcquireError> {
        let busy = TryAcquireError::Busy;
        match self {
            Lock::Mutex(lock) => lock.try_lock().map(|guard| held(need, guard)).ok_or(busy),
            Lock::RwLock(lock) if need == 1 => lock.try_read().map(|guard| held(need, guard)).ok_or(busy),
            Lock::RwLock(lock) => lock.try_write().map(|guard| held(need, guard)).ok_or(busy),
            Lock::Semaphore(slots) => slots.try_acquire(need).map(Held::Permit),
        }
    }

    fn stats(&self) -> ResourceInfo {
        match self {
            Lock::Mutex(lock) => lock.stats(),
            Lock::RwLock(lock) => lock.stats(),
            Lock::Semaphore(slots) => slots.stats(),
        }
    }
}

/// Every wait has a waker of its own.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Waiting<'a> {
    key: u32,
    future: Wait<'a>,
    woken: Arc<Woken>,
}

struct Both<'a> {
    model: Model,
    lock: &'a Lock,
    waits: Vec<Waiting<'a>>,
    held: Vec<Held<'a>>,
    next: u32,
}

fn nth<T>(list: &[T], which: usize) -> Option<usize> {
    (!list.is_empty()).then(|| which % list.len())
}

impl<'a> Both<'a> {
    fn poll(&mut self, mut wait: Waiting<'a>, expected: &Answer) {
        wait.woken.0.store(false, Ordering::Relaxed);
        // A fresh waker each time: the lock has to take over the new one.
        wait.woken = Arc::default();
        let waker = Waker::from(Arc::clone(&wait.woken));
        let answer = match wait.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => Answer::Waits,
            Poll::Ready(Ok(held)) => {
                self.held.push(held);
                Answer::Passed
            }
            Poll::Ready(Err(AcquireError::Closed { .. })) => Answer::Closed,
            Poll::Ready(Err(AcquireError::TooLarge { .. })) => Answer::TooLarge,
            Poll::Ready(Err(AcquireError::RoomFull { .. })) => Answer::RoomFull,
            Poll::Ready(Err(error)) => panic!("{error}"),
        };
        assert_eq!(&answer, expected);
        if answer == Answer::Waits {
            self.waits.push(wait);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Acquire(number) => {
                self.next += 1;
                let (key, need) = (self.next, self.lock.need(number));
                let expected = self.model.ask(need);
                if expected == Answer::Waits {
                    self.model.line.push((key, need, false));
                }
                let wait = Waiting { key, future: self.lock.acquire(need), woken: Arc::default() };
                self.poll(wait, &expected);
            }
            Step::TryAcquire(number) => {
                let need = self.lock.need(number);
                let answer = match self.lock.try_acquire(need) {
                    Ok(held) => {
                        self.held.push(held);
                        Answer::Passed
                    }
                    Err(TryAcquireError::Closed { .. }) => Answer::Closed,
                    Err(TryAcquireError::TooLarge { .. }) => Answer::TooLarge,
                    Err(_) => Answer::Waits,
                };
                let expected = match self.model.ask(need) {
                    Answer::RoomFull => Answer::Waits,
                    expected => expected,
                };
                assert_eq!(answer, expected);
            }
            Step::Poll(which) => {
                let Some(at) = nth(&self.waits, which) else { return };
                let wait = self.waits.remove(at);
                let expected = self.model.poll(wait.key);
                self.poll(wait, &expected);
            }
            Step::DropWait(which) => {
                let Some(at) = nth(&self.waits, which) else { return };
                self.model.give_up(self.waits.remove(at).key);
            }
            Step::Release(which) => {
                let Some(at) = nth(&self.held, which) else { return };
                self.model.free += self.held.swap_remove(at).need();
            }
            Step::Add(permits) => {
                let Lock::Semaphore(slots) = self.lock else { return };
                slots.add_permits(permits);
                self.model.free += permits;
                self.model.total += permits;
            }
            Step::Destroy(which) => {
                let Some(at) = nth(&self.held, which) else { return };
                if let Held::Permit(_) = &self.held[at] {
                    let Held::Permit(permit) = self.held.swap_remove(at) else { unreachable!() };
                    self.model.total -= permit.permits();
                    permit.destroy();
                }
            }
            Step::Close => {
                let Lock::Semaphore(slots) = self.lock else { return };
                slots.close("closed");
                self.model.closed = true;
            }
        }
    }

    fn compare(&self) {
        let (model, stats) = (&self.model, self.lock.stats());
        let state = match model.closed {
            true => ResourceState::Closed { reason: "closed" },
            false => ResourceState::Permits { free: model.free, total: model.total },
        };
        assert_eq!(stats.state, state);
        // Who was called - granted, refused, or to look again - and has not come is shown as granted.
        let called: Vec<u32> = (self.waits.iter())
            .filter(|wait| wait.woken.0.load(Ordering::Relaxed) || model.may_go_on(wait.key))
            .map(|wait| wait.key)
            .collect();
        let waiting = |is_called| {
            let places = model.line.iter().filter(|place| called.contains(&place.0) == is_called);
            places.map(|place| place.1).collect::<Vec<_>>()
        };
        let seen = |granted| stats.waiters.iter().filter(move |waiter| waiter.granted == granted);
        assert!(seen(false).map(|waiter| waiter.need).eq(waiting(false)), "in this order: {stats:?}");
        assert_eq!(seen(true).count(), waiting(true).len());
        let held: usize = stats.holders.iter().map(|holder| holder.amount).sum();
        assert_eq!(model.free + held, model.total, "what is free, granted and held is all there is");
        for Waiting { key, woken, .. } in &self.waits {
            let woken = woken.0.load(Ordering::Relaxed);
            assert!(woken || !model.may_go_on(*key), "number {key} could go on and was not woken");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lock_does_what_the_model_does(
        which in 0..4_usize,
        permits in 1..5_usize,
        room in prop::option::of(0..3_usize),
        steps in steps(),
    ) {
        let lock = match (which, room) {
            (0, _) => Lock::Mutex(Mutex::new("mutex", ())),
            (1, _) => Lock::RwLock(RwLock::new("rwlock", ())),
            (2, _) => Lock::Semaphore(Semaphore::empty("empty")),
            (_, None) => Lock::Semaphore(Semaphore::new("semaphore", permits)),
            (_, Some(room)) => Lock::Semaphore(Semaphore::new("semaphore", permits).with_waiting_room(room)),
        };
        let model = Model {
            free: lock.total(),
            total: lock.total(),
            grows: which == 2,
            closed: false,
            room: room.filter(|_| which == 3).unwrap_or(usize::MAX),
            line: Vec::new(),
        };
        let mut both = Both { model, lock: &lock, waits: Vec::new(), held: Vec::new(), next: 0 };
        for step in steps {
            both.step(step);
            both.model.settle();
            both.compare();
        }
        // Everybody leaves, and everything is there again.
        drop(both);
        let stats = lock.stats();
        prop_assert!(stats.waiters.is_empty() && stats.holders.is_empty());
    }
}
