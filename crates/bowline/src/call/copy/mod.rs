//! The last good answer of a coordinator, for when it does not answer.
//!
//! Nodes that ask another for what they need (routes, limits, who owns what) stand still when it does. Here each keeps what it
//! was told last, serves that when the other is slow, gone or of another mind, and says how old it is.
//!
//! [`Copies`] is the handle; one daemon of the owner receives `Refresh`es from it and runs each as a task of its own.
//!
//! # Invariants
//!
//! 1. There is at most one refresh per key, however many read.
//! 2. A reader waits for at most [`LocalCopy::wait`] and half of the time it has left: so it can still use what it gets.
//! 3. A refresh does not end with its readers, but in its own time: the next reader finds what it brought.
//!
//! # End
//!
//! The last handle gone or the scope at its end, refreshes are cancelled: nobody reads what they would bring.

mod answer;
mod refresh;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

pub use self::answer::{Freshness, Known, NoCopy};
pub use self::refresh::{CopiesStats, copies};

use self::refresh::{COPIES, Counts, Inner, Landing, Limits, Listed, Refresh, count};
use super::class::{ByClosure, ByError, Class, Classifier, Classify};
use super::once::OnceError;
use super::once::flight::{Boarded, Flights};
use crate::breaker::Breaker;
use crate::carry::Cx;
use crate::cause::Cancelled;
use crate::context;
use crate::group::{AtMost, Discard, Group, group};
use crate::owner::{Owner, Tie};
use crate::queue::{Bound, FreeRx, FreeTx, Overflow};
use crate::sync::Mutex;
use crate::timeout::timeout;

/// Settings of [`Copies`]: the last good answer of a coordinator, for when it does not answer.
///
/// # Examples
///
/// ```
/// # #[derive(Debug, PartialEq, Clone)] struct Route(u16);
/// # async fn ask_coordinator(_channel: &'static str) -> std::io::Result<Route> { Ok(Route(7)) }
/// # bowline::testing::example_paused(async {
/// use bowline::{Breaker, Cancelled, Freshness, LocalCopy, scope};
/// use std::time::Duration;
///
/// scope("node", async |s| {
///     let half_an_hour = Duration::from_secs(1_800);
///     let routes = LocalCopy::new("routes", half_an_hour)
///         .breaker(&Breaker::new("coordinator"))
///         .start(s, ask_coordinator);
///
///     let route = routes.read("orders").await.unwrap();
///     match route.freshness {
///         Freshness::Fresh => assert_eq!(*route.value, Route(7)),
///         Freshness::Stale { age, why } => println!("{age:?} old: {why}"),
///     }
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LocalCopy<C = ByError> {
    name: &'static str,
    max_age: Duration,
    fresh_for: Duration,
    wait: Duration,
    time: Duration,
    at_most_keys: usize,
    breaker: Option<Breaker>,
    classifier: C,
}

impl LocalCopy {
    /// How long a copy is served without asking unless [set](Self::fresh_for): long enough that a thousand readers per second
    /// are one question, short enough that nobody notices.
    pub const FRESH_FOR: Duration = Duration::from_secs(1);

    /// How long a reader waits for the coordinator unless [set](Self::wait), before it gets the copy.
    pub const WAIT: Duration = Duration::from_millis(250);

    /// How long a refresh may take unless [set](Self::time): longer than a reader waits, so that a slow coordinator still
    /// keeps the copies young.
    pub const TIME: Duration = Duration::from_secs(5);

    /// Keys that are kept unless [set](Self::at_most_keys). One more takes the place of that which was refreshed longest ago.
    pub const AT_MOST_KEYS: usize = 10_000;

    /// Makes settings; a copy older than `max_age` is not served.
    #[must_use]
    pub const fn new(name: &'static str, max_age: Duration) -> Self {
        Self {
            name,
            max_age,
            fresh_for: Self::FRESH_FOR,
            wait: Self::WAIT,
            time: Self::TIME,
            at_most_keys: Self::AT_MOST_KEYS,
            breaker: None,
            classifier: ByError,
        }
    }

    /// Lets a closure say what class an error of the coordinator is of, where it does not implement [`Classify`] itself.
    ///
    /// A node of another version is not business: its answers are no answers.
    #[must_use]
    pub fn classify<E, F: Fn(&E) -> Class>(self, classify: F) -> LocalCopy<ByClosure<E, F>> {
        let Self { name, max_age, fresh_for, wait, time, at_most_keys, breaker, classifier: ByError } = self;
        let classifier = ByClosure::new(classify);
        LocalCopy { name, max_age, fresh_for, wait, time, at_most_keys, breaker, classifier }
    }
}

impl<C> LocalCopy<C> {
    /// Sets how long a copy is served without asking; [`FRESH_FOR`](LocalCopy::FRESH_FOR) unless set.
    #[must_use]
    pub fn fresh_for(mut self, time: Duration) -> Self {
        self.fresh_for = time;
        self
    }

    /// Sets how long a reader waits for the coordinator; [`WAIT`](LocalCopy::WAIT) unless set.
    #[must_use]
    pub fn wait(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    /// Sets how long a refresh may take; [`TIME`](LocalCopy::TIME) unless set.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets how many keys are kept; [`AT_MOST_KEYS`](LocalCopy::AT_MOST_KEYS) unless set.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    #[track_caller]
    pub fn at_most_keys(mut self, keys: usize) -> Self {
        assert!(keys > 0, "0 copies are none");
        self.at_most_keys = keys;
        self
    }

    /// Asks this breaker before every refresh: while it is open, readers get their copy without waiting.
    #[must_use]
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        self.breaker = Some(breaker.clone());
        self
    }

    /// Starts it in `owner`; `ask` asks the coordinator.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn start<K, V, E, F, Fut>(self, owner: &impl Owner, ask: F) -> Copies<K, V, E>
    where
        C: Classifier<E> + Send + Sync + 'static,
        K: Eq + Hash + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
        E: Send + Sync + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        let Self { name, max_age, fresh_for, wait, time, at_most_keys, breaker, classifier } = self;
        let place = Location::caller();
        let (cx, site) = (Cx::here(), crate::site::intern(name, place));
        let (sender, receiver) = crate::queue::open(&cx, site, Bound::items(at_most_keys), Overflow::Reject);
        let (sender, receiver) = (sender.free(), receiver.free());
        let inner = Arc::new(Inner {
            name,
            limits: Limits { max_age, fresh_for, wait, time, at_most_keys },
            breaker,
            ask: Box::new(move |key| Box::pin(ask(key))),
            classify: Box::new(move |error: &E| classifier.class_of(error)),
            known: Mutex::new(HashMap::new()),
            flights: Flights::new(),
            counts: Counts::default(),
        });
        COPIES.list(&(Arc::clone(&inner) as Arc<dyn Listed>));
        // Refused, the future is dropped with its end of the queue: readers get what is there, which is nothing.
        let _refused = owner.own(name, place, Tie::Serves, run_refreshes(name, at_most_keys, receiver));
        Copies { inner, refreshes: sender }
    }
}

async fn run_refreshes<K, V, E>(
    name: &'static str,
    at_once: usize,
    refreshes: FreeRx<Refresh<K, V, E>>,
) -> Result<(), Cancelled>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let receive = async move |g: &Group<(), Cancelled, AtMost<Discard>>| {
        let refreshes = refreshes.bind_to(g.cx());
        while let Ok(room) = g.reserve().await {
            let Ok(Some(refresh)) = refreshes.recv().await else { break };
            let _counted = room.spawn(name, async {
                refresh.run().await;
                Ok(())
            });
        }
        g.cancel("nobody reads any more");
    };
    let _done = group(name, Discard.at_most(at_once), receive).await;
    Ok(())
}

/// The last good answers of a coordinator, by key; made by [`LocalCopy`]. A handle to be cloned and kept anywhere.
pub struct Copies<K: Eq + Hash + Clone, V, E> {
    inner: Arc<Inner<K, V, E>>,
    refreshes: FreeTx<Refresh<K, V, E>>,
}

impl<K: Eq + Hash + Clone, V, E> Clone for Copies<K, V, E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), refreshes: self.refreshes.clone() }
    }
}

impl<K: Eq + Hash + Clone, V, E> fmt::Debug for Copies<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Copies").field(&self.inner.name).finish()
    }
}

impl<K, V, E> Copies<K, V, E>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Returns what the coordinator says of `key`, or what it said last.
    ///
    /// It waits for [`LocalCopy::wait`] at most, and for half of the time that the caller has left.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped: a refresh that has begun goes on.
    ///
    /// # Errors
    ///
    /// [`NoCopy`].
    pub async fn read(&self, key: K) -> Result<Known<V>, NoCopy<E>> {
        let inner = &*self.inner;
        let known = inner.known(&key);
        if let Some((value, at)) = &known {
            if at.elapsed() < inner.limits.fresh_for {
                count(&inner.counts.fresh);
                return Ok(Known { value: Arc::clone(value), freshness: Freshness::Fresh });
            }
        }
        let (why, error) = match self.refresh(key).await.map_err(NoCopy::Cancelled)? {
            Ok(value) => {
                count(&inner.counts.fresh);
                return Ok(Known { value, freshness: Freshness::Fresh });
            }
            Err((Class::Business, Some(error))) => return Err(NoCopy::Answered(error)),
            Err(failed) => failed,
        };
        let age = known.as_ref().map(|(_, at)| at.elapsed());
        match known {
            Some((value, at)) if at.elapsed() <= inner.limits.max_age => {
                count(&inner.counts.stale);
                Ok(Known { value, freshness: Freshness::Stale { age: at.elapsed(), why } })
            }
            _ => {
                count(&inner.counts.without);
                Err(NoCopy::NoAnswer { why, error, age })
            }
        }
    }

    /// Joins the refresh of `key` or begins one, and waits for it, but not for long.
    async fn refresh(&self, key: K) -> Result<Result<Arc<V>, (Class, Option<Arc<E>>)>, Cancelled> {
        let inner = &self.inner;
        context::check()?;
        let flight = match inner.flights.board(inner.name, &key) {
            Boarded::Joined(flight) => flight,
            Boarded::First(flight, held) => {
                let landing =
                    Landing { key, flight: Arc::clone(&flight), held: Some(held), inner: Arc::clone(inner) };
                // One that finds no room is dropped, and says so to those who wait.
                let _full_or_closed = self.refreshes.try_send(Refresh(landing));
                flight
            }
        };
        let wait = inner.limits.wait;
        let wait = context::time_left().map_or(wait, |left| wait.min(left / 2)); // invariant 2
        let landed = match timeout(wait, flight.wait()).await {
            Ok(Ok(landed)) => landed,
            Ok(Err(cancelled)) | Err(cancelled) => {
                context::check()?; // the caller's own end
                return Ok(Err((cancelled.class(), None)));
            }
        };
        Ok(match landed {
            Some(Ok(value)) => Ok(value),
            Some(Err(OnceError::Failed { class, error })) => Err((class, Some(error))),
            Some(Err(OnceError::InDoubt { class, error })) => Err((class, error)),
            Some(Err(_)) | None => Err((Class::Overload { retry_after: None }, None)),
        })
    }

    /// Returns its counts.
    #[must_use]
    pub fn stats(&self) -> CopiesStats {
        self.inner.stats()
    }
}
