//! What the handles and the jobs of one kind of effect share: its store, its flights and its books.

use std::hash::Hash;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::flight::Flights;
use super::store::{KeyCounts, KeyStore};
use crate::alert::{self, AlertKind, Subject};
use crate::books::Books;
use crate::call::Class;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static EFFECTS: Books<dyn Listed> = Books::new();

pub(super) struct Inner<K, V, E, S> {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) at_most_keys: usize,
    pub(super) time: Duration,
    pub(super) store: S,
    pub(super) flights: Flights<K, V, E>,
    pub(super) classify: Box<dyn Fn(&E) -> Class + Send + Sync>,
    pub(super) counts: Counts,
    /// Whether the last key that was new was refused.
    pub(super) is_full: AtomicBool,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) run: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) joined: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) in_doubt: AtomicU64,
    pub(super) refused: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed); // a statistic
}

impl<K, V, E, S> Inner<K, V, E, S> {
    fn subject(&self, kind: AlertKind) -> Subject {
        Subject { kind, name: self.name.into(), place: self.place }
    }

    pub(super) fn tell_doubt(&self) {
        count(&self.counts.in_doubt);
        // A hook that panics must not meet another panic.
        if !std::thread::panicking() {
            let text = "nobody knows whether an effect has happened: its key waits to be settled".into();
            alert::raise(self.subject(AlertKind::InDoubt), text);
        }
    }

    /// Told only when it changes.
    pub(super) fn tell_full(&self, full: bool) {
        if self.is_full.swap(full, Ordering::Relaxed) == full {
            return;
        }
        let subject = self.subject(AlertKind::KeysFull);
        if full {
            let limit = self.at_most_keys;
            alert::raise(subject, format!("{limit} keys are kept, and effects with others are refused"));
        } else {
            alert::clear(&subject, "there is room for keys again".into());
        }
    }
}

/// The counts of [`Effects`](crate::Effects).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EffectsStats {
    /// The name given at creation.
    pub name: &'static str,
    /// Keys that are done and kept; 0 if the store does not know.
    pub done_keys: usize,
    /// Keys whose effect runs or is in doubt; 0 if the store does not know.
    pub undecided_keys: usize,
    /// How many keys are kept in memory at most.
    pub at_most_keys: usize,
    /// Effects on their way now.
    pub in_flight: usize,
    /// Effects in all that were run.
    pub run: u64,
    /// Calls in all that got the result of an effect that was done before.
    pub repeated: u64,
    /// Calls in all that waited for an effect that was on its way.
    pub joined: u64,
    /// Effects in all that failed, and certainly have not happened.
    pub failed: u64,
    /// Times in all that nobody knew whether an effect has happened.
    pub in_doubt: u64,
    /// Effects in all that were refused because there are too many keys.
    pub refused: u64,
}

/// Lists it for [`effects`].
pub(super) fn list<K, V, E, S>(inner: &Arc<Inner<K, V, E, S>>)
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: KeyStore<K, V>,
{
    EFFECTS.list(&(Arc::clone(inner) as Arc<dyn Listed>));
}

pub(super) fn stats(inner: &impl Listed) -> EffectsStats {
    inner.stats()
}

/// What a list of all effects asks one of them.
pub(super) trait Listed: Send + Sync {
    fn stats(&self) -> EffectsStats;
}

impl<K, V, E, S> Listed for Inner<K, V, E, S>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: KeyStore<K, V>,
{
    fn stats(&self) -> EffectsStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let KeyCounts { done, undecided } = self.store.counts();
        EffectsStats {
            name: self.name,
            done_keys: done,
            undecided_keys: undecided,
            at_most_keys: self.at_most_keys,
            in_flight: self.flights.len(),
            run: read(&self.counts.run),
            repeated: read(&self.counts.repeated),
            joined: read(&self.counts.joined),
            failed: read(&self.counts.failed),
            in_doubt: read(&self.counts.in_doubt),
            refused: read(&self.counts.refused),
        }
    }
}

/// Returns the counts of all [`Effects`](crate::Effects) that live.
///
/// # Examples
///
/// ```
/// assert!(bowline::effects().iter().all(|effects| effects.repeated <= u64::MAX));
/// ```
#[must_use]
pub fn effects() -> Vec<EffectsStats> {
    EFFECTS.all().iter().map(|effects| effects.stats()).collect()
}
