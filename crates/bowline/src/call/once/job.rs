//! One thing to be done for one key: asking the store, running the effect, and telling those who wait.

use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::flight::{Flight, Outcome};
use super::inner::{Inner, count};
use super::store::{Begun, Ended, KeyStore};
use crate::call::{Class, Classify as _};
use crate::lock::FreeCount;
use crate::timeout::shielded;

/// How long the store may take to write down how an effect ended, also when the scope is cancelled: after that the key stays
/// begun, and is in doubt.
const END_TIME: Duration = Duration::from_secs(5);

pub(super) type Made<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
pub(super) type Make<T, E> = Box<dyn FnOnce() -> Made<T, E> + Send>;

pub(super) fn make<T, E, F, Fut>(make: F) -> Make<T, E>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    Box::new(move || Box::pin(make()))
}

/// What is to be done for a key.
pub(super) enum Task<V, E> {
    Run { effect: Make<V, E>, find: Option<Make<Option<V>, E>> },
    Settle(Option<V>),
}

/// One thing to be done for one key, on its way to its task. Dropped in this order: who waits is told when the effect is gone.
pub(super) struct Job<K: Eq + Hash + Clone, V, E, S> {
    pub(super) task: Task<V, E>,
    pub(super) landing: Landing<K, V, E, S>,
}

impl<K, V, E, S> Job<K, V, E, S>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: KeyStore<K, V>,
{
    pub(super) async fn run(self) {
        let Self { task, mut landing } = self;
        let inner = Arc::clone(&landing.inner);
        let begun = match inner.store.begin(&landing.key).await {
            Ok(begun) => begun,
            Err(failed) => return landing.land(Outcome::Store(failed)),
        };
        inner.tell_full(matches!(begun, Begun::Full));
        let in_doubt = match begun {
            Begun::Done(value) => {
                count(&inner.counts.repeated);
                return landing.land(Outcome::Done(value));
            }
            Begun::Full => {
                count(&inner.counts.refused);
                return landing.land(Outcome::Full);
            }
            Begun::First => None,
            Begun::InDoubt(class) => Some(class),
        };
        landing.has_begun = true;
        let (effect, find) = match task {
            Task::Run { effect, find } => (effect, find),
            Task::Settle(Some(value)) => return landing.end_done(value).await,
            Task::Settle(None) => return landing.end(Ended::NotDone, Outcome::NotDone).await,
        };
        if let Some(class) = in_doubt {
            let Some(find) = find else { return landing.land(Outcome::InDoubt(class, None)) };
            match shielded(inner.time, find()).await {
                Ok(Ok(Some(value))) => return landing.end_done(value).await,
                Ok(Ok(None)) => {} // it has not happened: it may now
                Ok(Err(error)) => {
                    let class = (inner.classify)(&error);
                    return landing.land(Outcome::InDoubt(class, Some(Arc::new(error))));
                }
                Err(late) => return landing.land(Outcome::InDoubt(late.class(), None)),
            }
        }
        count(&inner.counts.run);
        match shielded(inner.time, effect()).await {
            Ok(Ok(value)) => landing.end_done(value).await,
            Ok(Err(error)) => {
                let class = (inner.classify)(&error);
                let error = Arc::new(error);
                if class.is_uncertain() {
                    landing.end(Ended::InDoubt(class), Outcome::InDoubt(class, Some(error))).await;
                } else {
                    count(&inner.counts.failed);
                    landing.end(Ended::NotDone, Outcome::Failed(class, error)).await;
                }
            }
            Err(late) => {
                let class = late.class();
                landing.end(Ended::InDoubt(class), Outcome::InDoubt(class, None)).await;
            }
        }
    }
}

/// The duty to tell those who wait what became of their effect, and to take it off.
pub(super) struct Landing<K: Eq + Hash + Clone, V, E, S> {
    pub(super) key: K,
    pub(super) flight: Arc<Flight<V, E>>,
    /// What keeps them waiting.
    pub(super) held: Option<FreeCount>,
    pub(super) inner: Arc<Inner<K, V, E, S>>,
    /// Whether the effect may have happened if nobody says otherwise.
    pub(super) has_begun: bool,
}

impl<K, V, E, S> Landing<K, V, E, S>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: KeyStore<K, V>,
{
    async fn end_done(self, value: V) {
        let value = Arc::new(value);
        self.end(Ended::Done(Arc::clone(&value)), Outcome::Done(value)).await;
    }

    /// Lets the store know first (invariant 2). If it cannot be told, the key stays begun: in doubt for those who come later.
    async fn end(self, ended: Ended<V>, outcome: Outcome<V, E>) {
        let _in_doubt_if_not = shielded(END_TIME, self.inner.store.end(&self.key, ended)).await;
        self.land(outcome);
    }
}

impl<K: Eq + Hash + Clone, V, E, S> Landing<K, V, E, S> {
    fn land(mut self, outcome: Outcome<V, E>) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome<V, E>) {
        let Some(held) = self.held.take() else { return };
        let in_doubt = matches!(outcome, Outcome::InDoubt(..));
        self.inner.flights.take_off(&self.key, &self.flight);
        self.flight.land(outcome, held);
        if in_doubt {
            self.inner.tell_doubt();
        }
    }
}

impl<K: Eq + Hash + Clone, V, E, S> Drop for Landing<K, V, E, S> {
    fn drop(&mut self) {
        let outcome = match (self.has_begun, std::thread::panicking()) {
            (false, _) => Outcome::NotRun,
            (true, false) => Outcome::InDoubt(Class::Cancelled, None),
            (true, true) => Outcome::InDoubt(Class::Bug, None),
        };
        self.tell(outcome);
    }
}
