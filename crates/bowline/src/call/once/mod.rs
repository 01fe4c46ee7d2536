//! Exactly one effect per key, whoever asks for it, however often, and at the same time.
//!
//! A retry that comes because the answer was lost must not charge twice, and one that races with the first try must not
//! either. So an effect belongs to its key and not to its caller: it runs in a task of the owner's scope, everybody who asks
//! with the same key waits for the same result, and the result is kept.
//!
//! [`Effects`] is the handle; one task of the owner receives the `Job`s from it and runs each as a task of its own, below.
//! `flight` knows the effects on their way, `store` what became of those that were.
//!
//! # Invariants
//!
//! 1. There is at most one flight per key, and only its job calls the store for that key: begin, effect, end, in this order.
//! 2. A flight is taken off when the store knows how it ended, and not before: who comes later finds it there.
//! 3. A job lands its flight exactly once, however it ends: by value, by panic, cut off, or never begun.
//! 4. What was begun and has no certain end is in doubt, and is not run again unless somebody found out that it has not
//!    happened.
//!
//! # End
//!
//! When the last handle is gone, what was accepted runs to its end. When the scope is cancelled, effects that have begun run
//! on for what is left of their time - an effect cut half-way is the worst of all - and those that have not are
//! not run. An abort cuts them; their keys are in doubt.

mod error;
pub(super) mod flight;
mod inner;
mod job;
mod store;

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

pub use self::error::OnceError;
pub use self::inner::{EffectsStats, effects};
pub use self::store::{Begun, Ended, Keep, KeyCounts, KeyStore, MemoryKeys, StoreFailed};

use self::flight::{Boarded, Flights};
use self::inner::{Counts, Inner, count};
use self::job::{Job, Landing, Make, Task, make};
use super::class::{ByClosure, ByError, Class, Classifier};
use crate::carry::Cx;
use crate::cause::Cancelled;
use crate::group::{AtMost, Discard, Group, group};
use crate::owner::{Owner, Tie};
use crate::queue::{Bound, FreeRx, FreeTx, Overflow, SendError};
use crate::sync::atomic::AtomicBool;

/// Settings of [`Effects`]: at most one effect per key.
///
/// # Examples
///
/// ```
/// # #[derive(Debug, PartialEq)] struct Receipt(u32);
/// # async fn charge(_order: u64) -> std::io::Result<Receipt> { Ok(Receipt(990)) }
/// # bowline::testing::example_paused(async {
/// use bowline::{Cancelled, Idempotent, Keep, scope};
/// use std::time::Duration;
///
/// scope("shop", async |s| {
///     let keep = Keep { time: Duration::from_secs(24 * 3600), at_most_keys: 100_000 };
///     let payments = Idempotent::new("payments", keep).start(s);
///
///     let order = 4711_u64;
///     let first = payments.once(order, move || charge(order)).await.unwrap();
///     let again = payments.once(order, move || charge(order)).await.unwrap(); // the client did not hear of it
///     assert_eq!(first, again);
///     assert_eq!(payments.stats().run, 1);
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Idempotent<C = ByError> {
    name: &'static str,
    keep: Keep,
    time: Duration,
    at_once: usize,
    classifier: C,
}

impl Idempotent {
    /// How long an effect may take unless [set](Self::time). It is in doubt after that. As long as a shutdown waits for what is
    /// still going on.
    pub const TIME: Duration = Duration::from_secs(30);

    /// Effects that may run at once unless [set](Self::at_once): callers wait for their turn beyond that. A bound for the
    /// worst case, not a limit to tune an upstream with.
    pub const AT_ONCE: usize = 1_000;

    /// Makes settings for effects of one kind; `keep` says how long and how many keys are remembered.
    #[must_use]
    pub const fn new(name: &'static str, keep: Keep) -> Self {
        Self { name, keep, time: Self::TIME, at_once: Self::AT_ONCE, classifier: ByError }
    }

    /// Lets a closure say what class an error of the effect is of, where it does not implement
    /// [`Classify`](crate::Classify) itself. What is [uncertain](Class::is_uncertain) leaves the key in doubt, everything
    /// else leaves it free.
    #[must_use]
    pub fn classify<E, F: Fn(&E) -> Class>(self, classify: F) -> Idempotent<ByClosure<E, F>> {
        let Self { name, keep, time, at_once, classifier: ByError } = self;
        Idempotent { name, keep, time, at_once, classifier: ByClosure::new(classify) }
    }
}

impl<C> Idempotent<C> {
    /// Sets how long an effect may take; [`TIME`](Idempotent::TIME) unless set. Cancelling its scope does not shorten it.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets how many effects may run at once; [`AT_ONCE`](Idempotent::AT_ONCE) unless set.
    ///
    /// # Panics
    ///
    /// If it is 0: then none ever could.
    #[must_use]
    #[track_caller]
    pub fn at_once(mut self, effects: usize) -> Self {
        assert!(effects > 0, "0 effects at once is never");
        self.at_once = effects;
        self
    }

    /// Starts it in `owner`, with its keys in memory.
    ///
    /// The owner's scope stays open until the last handle is gone and what was accepted is done.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn start<K, V, E>(self, owner: &impl Owner) -> Effects<K, V, E>
    where
        C: Classifier<E> + Send + Sync + 'static,
        K: Eq + Hash + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let keys = MemoryKeys::new(self.keep);
        self.start_with(owner, keys)
    }

    /// Starts it in `owner`, with its keys in a store of yours, which keeps them for as long as it likes.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn start_with<K, V, E, S>(self, owner: &impl Owner, store: S) -> Effects<K, V, E, S>
    where
        C: Classifier<E> + Send + Sync + 'static,
        K: Eq + Hash + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        S: KeyStore<K, V>,
    {
        let Self { name, keep, time, at_once, classifier } = self;
        let place = Location::caller();
        let site = crate::site::intern(name, place);
        let cx = Cx::here();
        let (jobs, receiver) = crate::queue::open(&cx, site, Bound::items(at_once), Overflow::Block);
        let (jobs, receiver) = (jobs.free(), receiver.free());
        let inner = Arc::new(Inner {
            name,
            place,
            at_most_keys: keep.at_most_keys,
            time,
            store,
            flights: Flights::new(),
            classify: Box::new(move |error: &E| classifier.class_of(error)),
            counts: Counts::default(),
            is_full: AtomicBool::new(false),
        });
        inner::list(&inner);
        // Refused, the future is dropped with its end of the queue: every call is told that the scope is closed.
        let _refused = owner.own(name, place, Tie::Stays, run_jobs(name, at_once, receiver));
        Effects { inner, jobs }
    }
}

/// Runs every job as a task of its own, so many at once, until no handle is left.
async fn run_jobs<K, V, E, S>(
    name: &'static str,
    at_once: usize,
    jobs: FreeRx<Job<K, V, E, S>>,
) -> Result<(), Cancelled>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: KeyStore<K, V>,
{
    let receive = async move |g: &Group<(), Cancelled, AtMost<Discard>>| {
        let jobs = jobs.bind_to(g.cx());
        while let Ok(room) = g.reserve().await {
            // The room first: between taking a job and giving it to its task there is no await.
            let Ok(Some(job)) = jobs.recv().await else { return };
            let _counted = room.spawn(name, async {
                job.run().await;
                Ok(())
            });
        }
    };
    let _done = group(name, Discard.at_most(at_once), receive).await;
    Ok(())
}

/// Runs effects, each at most once per key; made by [`Idempotent`]. A handle to be cloned and kept anywhere.
///
/// It ends when its last clone is gone and what was accepted is done, and with the scope that owns it.
pub struct Effects<K: Eq + Hash + Clone, V, E, S = MemoryKeys<K, V>> {
    inner: Arc<Inner<K, V, E, S>>,
    jobs: FreeTx<Job<K, V, E, S>>,
}

impl<K: Eq + Hash + Clone, V, E, S> Clone for Effects<K, V, E, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), jobs: self.jobs.clone() }
    }
}

impl<K: Eq + Hash + Clone, V, E, S> fmt::Debug for Effects<K, V, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Effects").field(&self.inner.name).finish()
    }
}

impl<K, V, E, S> Effects<K, V, E, S>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: KeyStore<K, V>,
{
    /// Returns the result of the one effect of `key`: runs `effect` if there was none, waits for the one that runs, or
    /// returns what the earlier one came to.
    ///
    /// The effect is a task of its own: it does not end with its caller, does not see the caller's deadline, and has the
    /// [time](Idempotent::time) of its kind. What it uses is moved into it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while it waits for its turn, the effect is not run for this caller; once it is accepted it
    /// runs on, and the same key finds it.
    ///
    /// # Errors
    ///
    /// [`OnceError`]. Only after [`Failed`](OnceError::Failed), [`Full`](OnceError::Full) and
    /// [`Store`](OnceError::Store) does trying again with the same key run it again.
    pub async fn once<F, Fut>(&self, key: K, effect: F) -> Result<Arc<V>, OnceError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.run(key, make(effect), None).await
    }

    /// As [`once`](Self::once), and if the key is in doubt, asks with `find` what became of it first: the result if it has
    /// happened, `None` if it has not, and then `effect` is run.
    ///
    /// Where the upstream itself knows the key and does nothing twice, `async || Ok(None)` says so.
    ///
    /// # Cancel safety
    ///
    /// As [`once`](Self::once).
    ///
    /// # Errors
    ///
    /// [`OnceError::InDoubt`] with the error of `find` if that failed.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example_paused(async {
    /// use bowline::{Cancelled, Class, Idempotent, Keep, scope};
    /// use std::time::Duration;
    ///
    /// scope("shop", async |s| {
    ///     let keep = Keep { time: Duration::from_secs(24 * 3600), at_most_keys: 100_000 };
    ///     let payments = Idempotent::new("payments", keep).start::<_, u32, Class>(s);
    ///     let lost = payments.once("order 4711", async || Err(Class::Timeout)).await;
    ///     assert!(lost.is_err());
    ///
    ///     let charge = async || Ok(990);
    ///     let list_charges = async || Ok(Some(990)); // it had gone through
    ///     let receipt = payments.once_or_find("order 4711", charge, list_charges).await.unwrap();
    ///     assert_eq!((*receipt, payments.stats().run), (990, 1));
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    pub async fn once_or_find<F, Fut, G, Found>(
        &self,
        key: K,
        effect: F,
        find: G,
    ) -> Result<Arc<V>, OnceError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        G: FnOnce() -> Found + Send + 'static,
        Found: Future<Output = Result<Option<V>, E>> + Send + 'static,
    {
        self.run(key, make(effect), Some(make(find))).await
    }

    async fn run(
        &self,
        key: K,
        effect: Make<V, E>,
        find: Option<Make<Option<V>, E>>,
    ) -> Result<Arc<V>, OnceError<E>> {
        let done = self.go(key, Task::Run { effect, find }).await?;
        // A first flight of this kind is never settled, and one that was joined is followed by an own.
        done.ok_or(OnceError::Closed)
    }

    /// Says what became of a key that is in doubt: the result, or `None` if it has not happened. A key that is done stays
    /// as it is, one whose effect runs is waited for.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the key may be settled or not.
    ///
    /// # Errors
    ///
    /// [`OnceError::Full`], [`Store`](OnceError::Store), [`Closed`](OnceError::Closed) and
    /// [`Cancelled`](OnceError::Cancelled), as of [`once`](Self::once).
    pub async fn settle(&self, key: K, became: Option<V>) -> Result<(), OnceError<E>> {
        self.go(key, Task::Settle(became)).await.map(drop)
    }

    /// The result; none if it was settled that it has not happened.
    async fn go(&self, key: K, task: Task<V, E>) -> Result<Option<Arc<V>>, OnceError<E>> {
        let inner = &self.inner;
        if let Some(done) = inner.store.known(&key) {
            count(&inner.counts.repeated);
            return Ok(Some(done));
        }
        let (flight, held) = loop {
            match inner.flights.board(inner.name, &key) {
                Boarded::First(flight, held) => break (flight, held),
                Boarded::Joined(flight) => {
                    count(&inner.counts.joined);
                    // One that never began, or was settled, leaves the turn to us; and who came to settle comes after.
                    match (flight.wait().await.map_err(OnceError::Cancelled)?, &task) {
                        (Some(landed), Task::Run { .. }) => return landed.map(Some),
                        (None, _) | (_, Task::Settle(_)) => {}
                    }
                }
            }
        };
        let landing = Landing {
            key,
            flight: Arc::clone(&flight),
            held: Some(held),
            inner: Arc::clone(inner),
            has_begun: false,
        };
        self.jobs.send(Job { task, landing }).await.map_err(|error| match error {
            SendError::Cancelled(_, cancelled) => OnceError::Cancelled(cancelled),
            SendError::Closed(_) | SendError::Full(_) => OnceError::Closed,
        })?;
        match flight.wait().await.map_err(OnceError::Cancelled)? {
            Some(landed) => landed.map(Some),
            None if flight.is_settled() => Ok(None),
            None => Err(OnceError::Closed),
        }
    }

    /// Returns its counts.
    #[must_use]
    pub fn stats(&self) -> EffectsStats {
        inner::stats(&*self.inner)
    }
}
