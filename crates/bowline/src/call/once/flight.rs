//! One effect on its way: who waits for it, and what became of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::error::OnceError;
use super::store::StoreFailed;
use crate::call::Class;
use crate::carry::Cx;
use crate::cause::Cancelled;
use crate::lock::{FreeCount, Latch};
use crate::sync::{LockExt, Mutex, OnceLock};

/// What became of an effect, for all who waited.
pub(in crate::call) enum Outcome<V, E> {
    Done(Arc<V>),
    Failed(Class, Arc<E>),
    InDoubt(Class, Option<Arc<E>>),
    Full,
    Store(StoreFailed),
    /// It was settled that it has not happened.
    NotDone,
    /// Its first caller left, or the scope ended, before it began.
    NotRun,
}

/// One effect on its way. The latch opens when the outcome is there.
pub(in crate::call) struct Flight<V, E> {
    outcome: OnceLock<Outcome<V, E>>,
    landed: Latch,
}

/// What became of it, for one of them; `None` if it has not happened and nothing stands in the way of trying.
pub(in crate::call) type Landed<V, E> = Option<Result<Arc<V>, OnceError<E>>>;

impl<V, E> Flight<V, E> {
    pub(in crate::call) async fn wait(&self) -> Result<Landed<V, E>, Cancelled> {
        self.landed.wait().await?;
        Ok(match self.outcome.get() {
            Some(Outcome::Done(value)) => Some(Ok(Arc::clone(value))),
            Some(Outcome::Failed(class, error)) => {
                Some(Err(OnceError::Failed { class: *class, error: Arc::clone(error) }))
            }
            Some(Outcome::InDoubt(class, error)) => {
                Some(Err(OnceError::InDoubt { class: *class, error: error.clone() }))
            }
            Some(Outcome::Full) => Some(Err(OnceError::Full)),
            Some(Outcome::Store(failed)) => Some(Err(OnceError::Store(failed.clone()))),
            Some(Outcome::NotDone | Outcome::NotRun) | None => None,
        })
    }

    /// Whether it was settled that it has not happened, as against: it never began.
    pub(in crate::call) fn is_settled(&self) -> bool {
        matches!(self.outcome.get(), Some(Outcome::NotDone))
    }

    /// Tells everybody who waits; `count` is what held them up.
    pub(in crate::call) fn land(&self, outcome: Outcome<V, E>, count: FreeCount) {
        let _first_wins = self.outcome.set(outcome);
        drop(count);
    }
}

/// Effects on their way, by key.
pub(in crate::call) struct Flights<K, V, E>(Mutex<HashMap<K, Arc<Flight<V, E>>>>);

/// What a caller is to a flight.
pub(in crate::call) enum Boarded<V, E> {
    /// The first: it has to bring the effect about.
    First(Arc<Flight<V, E>>, FreeCount),
    /// One of those who wait with the first.
    Joined(Arc<Flight<V, E>>),
}

impl<K: Eq + Hash + Clone, V, E> Flights<K, V, E> {
    pub(in crate::call) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    pub(in crate::call) fn board(&self, name: &'static str, key: &K) -> Boarded<V, E> {
        if let Some(flight) = self.0.lock_unpoisoned().get(key) {
            return Boarded::Joined(Arc::clone(flight));
        }
        let copy = key.clone();
        let cx = Cx::here();
        let (count, landed) = cx.latch(name);
        let count = count.free();
        let flight = Arc::new(Flight { outcome: OnceLock::new(), landed });
        let mut flights = self.0.lock_unpoisoned();
        // Asked again under the lock that decides it.
        if let Some(earlier) = flights.get(key) {
            let earlier = Arc::clone(earlier);
            drop(flights); // before the copy of the key
            return Boarded::Joined(earlier);
        }
        flights.insert(copy, Arc::clone(&flight));
        drop(flights);
        Boarded::First(flight, count)
    }

    /// Takes `flight` off: who comes now begins anew, and finds in the store what became of it.
    pub(in crate::call) fn take_off(&self, key: &K, flight: &Arc<Flight<V, E>>) {
        let mut flights = self.0.lock_unpoisoned();
        if flights.get(key).is_some_and(|there| Arc::ptr_eq(there, flight)) {
            let gone = flights.remove_entry(key);
            drop(flights);
            drop(gone);
        }
    }

    pub(in crate::call) fn len(&self) -> usize {
        self.0.lock_unpoisoned().len()
    }
}
