//! Bulkheads: so many calls to one upstream at a time, and so many that wait, so that one slow upstream does not take
//! the whole ship down.
//!
//! A [`Bulkhead`] is a [`Semaphore`] with a bounded waiting room and a patience; the line, its order and its cancellation are the
//! semaphore's. With a [`Limit`] the number of permits moves by itself.
//!
//! # Invariants
//!
//! 1. Admission is the permit: it lies in the [`BulkheadSlot`] and goes back when that is dropped, whatever happened.
//! 2. Who waits is bounded in number and in time.
//! 3. Of several ends that move the limit, the semaphore takes over what the controller said last: it reads the number in
//!    the critical section that changes it.
//!
//! # End
//!
//! A bulkhead lives as long as its handles and slots. It owns no task.

mod books;

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

pub use self::books::{BulkheadError, BulkheadFull, BulkheadStats, NoSlot, OldestSlot};
use crate::books::Books;
use crate::call::gate::{Gate, Pass};
use crate::call::{Class, Classify};
use crate::clock;
use crate::limit::{Limit, Sample};
use crate::lock::{AcquireError, FreePermit, Semaphore};
use crate::resource::Who;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, LockExt, Mutex};
use crate::track::Leaf;

/// Callers that may wait for each that is admitted, unless said otherwise: with more, the last would wait for ten calls.
const WAITING_PER_SLOT: usize = 10;

/// How long a caller waits at most, unless said otherwise: a second is what a person or a caller's time-out bears.
const WAIT: Duration = Duration::from_secs(1);

/// The bulkheads of this process.
static BULKHEADS: Books<Inner> = Books::new();

/// Returns the books of all living bulkheads, in the order in which they were made.
///
/// # Examples
///
/// ```
/// let billing = bowline::Bulkhead::new("billing", 20);
/// assert!(bowline::bulkheads().iter().any(|bulkhead| bulkhead.name == "billing"));
/// # drop(billing);
/// ```
#[must_use]
pub fn bulkheads() -> Vec<BulkheadStats> {
    BULKHEADS.all().iter().map(|inner| inner.stats()).collect()
}

/// Admits so many calls at a time; the next wait, first come first served, and beyond that callers are refused.
///
/// Waiting is bounded twice: so many [may wait](Self::waiting) (10 for each place unless said otherwise), and each for
/// [so long](Self::wait_at_most) (1 s unless said otherwise). Who is refused learns at once, with an error that says how full it is and
/// who has been inside for longest. Handles are clones of one bulkhead.
///
/// # Examples
///
/// ```
/// use bowline::{Bulkhead, Class};
///
/// # bowline::testing::example(async {
/// let billing = Bulkhead::new("billing", 20);
/// let invoice = billing.run(async || Ok::<_, Class>("paid")).await;
/// assert_eq!(invoice, Ok("paid"));
/// # });
/// ```
#[derive(Clone)]
pub struct Bulkhead {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    place: &'static Location<'static>,
    slots: Semaphore,
    /// How long a caller waits, in nanoseconds.
    patience: AtomicU64,
    /// Whether somebody said how many may wait.
    room_is_said: AtomicBool,
    /// Whether there is a controller, to be asked without the lock.
    adapts: AtomicBool,
    /// What the controller said last.
    target: AtomicUsize,
    controller: Mutex<Option<Limit>>,
    admitted: AtomicU64,
    full: AtomicU64,
    timed_out: AtomicU64,
}

impl Bulkhead {
    /// Makes a bulkhead for `at_most` calls at a time, known by `name` wherever somebody waits at it.
    ///
    /// # Panics
    ///
    /// If `at_most` is 0: it does not mean "unlimited", and nobody would ever pass.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str, at_most: usize) -> Self {
        assert!(at_most > 0, "a bulkhead without places lets nobody pass: for no limit, use no bulkhead");
        let inner = Arc::new(Inner {
            name,
            place: Location::caller(),
            slots: Semaphore::new(name, at_most).with_waiting_room(at_most.saturating_mul(WAITING_PER_SLOT)),
            room_is_said: AtomicBool::new(false),
            patience: AtomicU64::new(nanos(WAIT)),
            adapts: AtomicBool::new(false),
            target: AtomicUsize::new(at_most),
            controller: Mutex::new(None),
            admitted: AtomicU64::new(0),
            full: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        });
        BULKHEADS.list(&inner);
        Self { inner }
    }

    /// Lets so many wait; 0 refuses at once whoever does not find a place.
    #[must_use]
    pub fn waiting(self, at_most: usize) -> Self {
        self.inner.room_is_said.store(true, Ordering::Relaxed);
        self.inner.slots.set_waiting_room(at_most);
        self
    }

    /// Lets each wait for so long at most. An earlier deadline of the caller's context stays in force.
    #[must_use]
    pub fn wait_at_most(self, time: Duration) -> Self {
        self.inner.patience.store(nanos(time), Ordering::Relaxed);
        self
    }

    /// Lets `limit` say how many calls are admitted at a time, from how they go; the number given to [`new`](Self::new) no longer
    /// counts: unless said otherwise, 10 may wait for each place there can be. Slots have to be told how it went, as [`run`](Self::run) does; one that is dropped teaches nothing, unless the
    /// context ran into its deadline.
    #[must_use]
    pub fn adapt(self, limit: Limit) -> Self {
        let inner = &self.inner;
        if !inner.room_is_said.load(Ordering::Relaxed) {
            inner.slots.set_waiting_room(limit.most().saturating_mul(WAITING_PER_SLOT));
        }
        {
            let mut controller = inner.controller.lock_unpoisoned();
            inner.target.store(limit.now(), Ordering::Relaxed);
            *controller = Some(limit);
        }
        inner.adapts.store(true, Ordering::Release);
        inner.slots.resize(|| inner.target.load(Ordering::Relaxed));
        self
    }

    /// Waits for a place, and has it until the result is dropped.
    ///
    /// # Cancel safety
    ///
    /// The place in line is taken at the first poll. If the future is dropped, it is given up, and a place that was granted
    /// goes to the next.
    ///
    /// # Errors
    ///
    /// [`NoSlot`]: the waiting room is full, the wait was too long, or the context was cancelled. Nothing was begun.
    #[track_caller]
    pub fn enter(&self) -> impl Future<Output = Result<BulkheadSlot, NoSlot>> {
        self.enter_at(Location::caller())
    }

    pub(crate) async fn enter_at(&self, at: &'static Location<'static>) -> Result<BulkheadSlot, NoSlot> {
        let inner = &self.inner;
        let mut acquire = pin!(inner.slots.acquire_free(1, at));
        let mut patience: Option<(Instant, Pin<Box<Sleep>>)> = None; // for those who wait only
        let permit = poll_fn(|cx| {
            if let Poll::Ready(acquired) = acquire.as_mut().poll(cx) {
                return Poll::Ready(acquired.map_err(|error| inner.refuse(error)));
            }
            let (began, sleep) = patience.get_or_insert_with(|| {
                let time = Duration::from_nanos(inner.patience.load(Ordering::Relaxed));
                (Instant::now(), Box::pin(tokio::time::sleep(time)))
            });
            ready!(sleep.as_mut().poll(cx));
            inner.timed_out.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Err(NoSlot::Full(inner.full(began.elapsed()))))
        })
        .await?;
        inner.admitted.fetch_add(1, Ordering::Relaxed);
        // Acquire: pairs with the Release in `adapt`.
        let began = inner.adapts.load(Ordering::Acquire).then(Instant::now);
        Ok(BulkheadSlot { inner: Arc::clone(inner), _permit: permit, began })
    }

    /// Makes a call when there is a place for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call, or gives up the place in line.
    ///
    /// # Errors
    ///
    /// [`BulkheadError::NoSlot`]: it was not made. [`BulkheadError::Failed`]: the call's own error.
    #[track_caller]
    pub fn run<T, E, F>(&self, call: F) -> impl Future<Output = Result<T, BulkheadError<E>>>
    where
        F: AsyncFnOnce() -> Result<T, E>,
        E: Classify,
    {
        let at = Location::caller();
        async move {
            let slot = self.enter_at(at).await.map_err(BulkheadError::NoSlot)?;
            match call().await {
                Ok(value) => {
                    slot.succeeded();
                    Ok(value)
                }
                Err(error) => {
                    slot.failed(error.class());
                    Err(BulkheadError::Failed(error))
                }
            }
        }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    /// Returns its books.
    #[must_use]
    pub fn stats(&self) -> BulkheadStats {
        self.inner.stats()
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at_most, in_flight, waiting) = self.inner.slots.books();
        let mut debug = f.debug_struct("Bulkhead");
        debug.field("name", &self.inner.name).field("at_most", &at_most);
        debug.field("in_flight", &in_flight).field("waiting", &waiting).finish()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Inner {
    fn refuse(&self, error: AcquireError) -> NoSlot {
        match error {
            AcquireError::Cancelled(cancelled) => NoSlot::Cancelled(cancelled),
            // One place is never too many, and nobody closes it.
            _ => {
                self.full.fetch_add(1, Ordering::Relaxed);
                NoSlot::Full(self.full(Duration::ZERO))
            }
        }
    }

    fn full(&self, waited: Duration) -> BulkheadFull {
        let (at_most, in_flight, waiting) = self.slots.books();
        let oldest = self.slots.oldest().map(oldest);
        BulkheadFull { name: self.name, at_most, in_flight, waiting, waited, oldest }
    }

    /// A call that began then has ended.
    fn learn(&self, began: Instant, dropped: bool) {
        let latency = began.elapsed();
        let (_, in_flight, _) = self.slots.books();
        {
            let mut controller = self.controller.lock_unpoisoned();
            let Some(limit) = controller.as_mut() else { return };
            let next = limit.observe(Sample { latency, in_flight, dropped });
            if self.target.swap(next, Ordering::Relaxed) == next {
                return;
            }
        }
        self.slots.resize(|| self.target.load(Ordering::Relaxed)); // wakes, so not under our lock (invariant 3)
    }

    fn stats(&self) -> BulkheadStats {
        let (at_most, in_flight, waiting) = self.slots.books();
        BulkheadStats {
            name: self.name,
            place: format!("{}:{}", self.place.file(), self.place.line()),
            at_most,
            in_flight,
            waiting,
            oldest_ms: self
                .slots
                .oldest()
                .map(|who| u64::try_from(clock::since(who.since).as_millis()).unwrap_or(u64::MAX)),
            admitted: self.admitted.load(Ordering::Relaxed),
            refused_full: self.full.load(Ordering::Relaxed),
            refused_timed_out: self.timed_out.load(Ordering::Relaxed),
        }
    }
}

fn oldest(who: Who) -> OldestSlot {
    OldestSlot {
        age: clock::since(who.since),
        task: Some(who.task).filter(|task| *task != 0), // slots do not move between tasks
        place: format!("{}:{}", who.at.file(), who.at.line()),
    }
}

/// A place in a [`Bulkhead`], free again when this is dropped.
///
/// If the bulkhead [adapts](Bulkhead::adapt), say how the call went. Dropped without a word it teaches nothing, unless the context
/// ran into its deadline, which is a time-out.
#[must_use = "the place is free again when this is dropped"]
pub struct BulkheadSlot {
    inner: Arc<Inner>,
    _permit: FreePermit,
    /// When it was taken, if somebody learns from how long that was.
    began: Option<Instant>,
}

impl BulkheadSlot {
    /// Says that the call succeeded.
    pub fn succeeded(mut self) {
        self.learn(false);
    }

    /// Says that the call failed with an error of this class. A time-out, an overload and a broken connection are taken for lost to
    /// overload, an upstream that says no has answered, and anything else teaches nothing.
    pub fn failed(mut self, class: Class) {
        match class {
            Class::Timeout | Class::Overload { .. } | Class::Disconnected => self.learn(true),
            Class::Business => self.learn(false),
            Class::Network | Class::Bug | Class::Cancelled => self.began = None,
        }
    }

    fn learn(&mut self, dropped: bool) {
        if let Some(began) = self.began.take() {
            self.inner.learn(began, dropped);
        }
    }
}

impl Drop for BulkheadSlot {
    fn drop(&mut self) {
        if self.began.is_some() && Leaf::check().is_err_and(|cancelled| cancelled.is_deadline()) {
            // A limit behind whose back all callers lose patience would never shrink.
            self.learn(true);
        }
    }
}

impl fmt::Debug for BulkheadSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadSlot").field("bulkhead", &self.inner.name).finish_non_exhaustive()
    }
}

impl Gate for Bulkhead {
    type Pass = BulkheadSlot;
    type Refused = NoSlot;

    #[track_caller]
    fn admit(&self) -> impl Future<Output = Result<BulkheadSlot, NoSlot>> + Send {
        self.enter_at(Location::caller())
    }
}

impl Pass for BulkheadSlot {
    fn succeeded(self) {
        BulkheadSlot::succeeded(self);
    }

    fn failed(self, class: Class) {
        BulkheadSlot::failed(self, class);
    }
}
