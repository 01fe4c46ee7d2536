//! One question to the coordinator, and what all who read share.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::books::Books;
use crate::breaker::Breaker;
use crate::call::once::flight::{Flight, Flights, Outcome};
use crate::call::{Class, Classify as _};
use crate::lock::FreeCount;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{LockExt, Mutex};
use crate::timeout::timeout;

pub(super) static COPIES: Books<dyn Listed> = Books::new();

pub(super) type Asked<V, E> = Pin<Box<dyn Future<Output = Result<V, E>> + Send>>;

/// What the coordinator said, and when.
type Told<V> = (Arc<V>, Instant);

pub(super) struct Inner<K, V, E> {
    pub(super) name: &'static str,
    pub(super) limits: Limits,
    pub(super) breaker: Option<Breaker>,
    pub(super) ask: Box<dyn Fn(K) -> Asked<V, E> + Send + Sync>,
    pub(super) classify: Box<dyn Fn(&E) -> Class + Send + Sync>,
    /// Keys behind an `Arc`: cloning one under the lock is no foreign code.
    pub(super) known: Mutex<HashMap<Arc<K>, Told<V>>>,
    pub(super) flights: Flights<K, V, E>,
    pub(super) counts: Counts,
}

pub(super) struct Limits {
    pub(super) max_age: Duration,
    pub(super) fresh_for: Duration,
    pub(super) wait: Duration,
    pub(super) time: Duration,
    pub(super) at_most_keys: usize,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) fresh: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) without: AtomicU64,
    pub(super) refreshed: AtomicU64,
    pub(super) failed: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed); // a statistic
}

impl<K: Eq + Hash + Clone, V, E> Inner<K, V, E> {
    pub(super) fn known(&self, key: &K) -> Option<Told<V>> {
        self.known.lock_unpoisoned().get(key).map(|(value, at)| (Arc::clone(value), *at))
    }

    fn keep(&self, key: K, value: Arc<V>) {
        let (now, key) = (Instant::now(), Arc::new(key));
        let mut known = self.known.lock_unpoisoned();
        let mut gone = None;
        if known.len() >= self.limits.at_most_keys && !known.contains_key(&*key) {
            // Only a key that is new to a full table pays for this.
            let oldest = known.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| Arc::clone(key));
            gone = oldest.and_then(|oldest| known.remove_entry(&*oldest));
        }
        let replaced = known.insert(key, (value, now));
        drop(known);
        drop((gone, replaced)); // outside of the lock: values are foreign code
    }
}

/// One question to the coordinator, on its way to its task.
pub(super) struct Refresh<K: Eq + Hash + Clone, V, E>(pub(super) Landing<K, V, E>);

impl<K, V, E> Refresh<K, V, E>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(super) async fn run(self) {
        let mut landing = self.0;
        let inner = Arc::clone(&landing.inner);
        let permit = match inner.breaker.as_ref().map(Breaker::admit).transpose() {
            Ok(permit) => permit,
            Err(open) => return landing.land(Outcome::InDoubt(open.class(), None)),
        };
        let outcome = match timeout(inner.limits.time, (inner.ask)(landing.key.clone())).await {
            Ok(Ok(value)) => {
                let value = Arc::new(value);
                inner.keep(landing.key.clone(), Arc::clone(&value));
                Outcome::Done(value)
            }
            Ok(Err(error)) => Outcome::Failed((inner.classify)(&error), Arc::new(error)),
            Err(late) => Outcome::InDoubt(late.class(), None),
        };
        match (&outcome, permit) {
            (Outcome::Failed(class, _) | Outcome::InDoubt(class, _), permit) => {
                count(&inner.counts.failed);
                if let Some(permit) = permit {
                    permit.failed(*class);
                }
            }
            (_, permit) => {
                count(&inner.counts.refreshed);
                if let Some(permit) = permit {
                    permit.succeeded();
                }
            }
        }
        landing.land(outcome);
    }
}

/// The duty to tell those who wait for a refresh, also if it never began or was cut.
pub(super) struct Landing<K: Eq + Hash + Clone, V, E> {
    pub(super) key: K,
    pub(super) flight: Arc<Flight<V, E>>,
    pub(super) held: Option<FreeCount>,
    pub(super) inner: Arc<Inner<K, V, E>>,
}

impl<K: Eq + Hash + Clone, V, E> Landing<K, V, E> {
    fn land(&mut self, outcome: Outcome<V, E>) {
        let Some(held) = self.held.take() else { return };
        self.inner.flights.take_off(&self.key, &self.flight);
        self.flight.land(outcome, held);
    }
}

impl<K: Eq + Hash + Clone, V, E> Drop for Landing<K, V, E> {
    fn drop(&mut self) {
        self.land(Outcome::NotRun);
    }
}

/// The counts of [`Copies`](crate::Copies).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CopiesStats {
    /// The name given at creation.
    pub name: &'static str,
    /// Keys of which there is a copy.
    pub keys: usize,
    /// Keys that are asked for now.
    pub refreshing: usize,
    /// Reads in all that got what the coordinator says.
    pub fresh: u64,
    /// Reads in all that got what it said last.
    pub stale: u64,
    /// Reads in all that got neither.
    pub without: u64,
    /// Refreshes in all that brought an answer.
    pub refreshed: u64,
    /// Refreshes in all that failed.
    pub failed: u64,
}

pub(super) trait Listed: Send + Sync {
    fn stats(&self) -> CopiesStats;
}

impl<K, V, E> Listed for Inner<K, V, E>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn stats(&self) -> CopiesStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CopiesStats {
            name: self.name,
            keys: self.known.lock_unpoisoned().len(),
            refreshing: self.flights.len(),
            fresh: read(&self.counts.fresh),
            stale: read(&self.counts.stale),
            without: read(&self.counts.without),
            refreshed: read(&self.counts.refreshed),
            failed: read(&self.counts.failed),
        }
    }
}

/// Returns the counts of all [`Copies`](crate::Copies) that live.
///
/// # Examples
///
/// ```
/// assert!(bowline::copies().iter().all(|copies| copies.keys <= 10_000));
/// ```
#[must_use]
pub fn copies() -> Vec<CopiesStats> {
    COPIES.all().iter().map(|copies| copies.stats()).collect()
}
