//! Where the keys are kept: in memory, or somewhere that outlives the process.
//!
//! # Invariants
//!
//! 1. What was begun and not ended is in doubt for whoever begins it next: a store needs no news of a crash.
//! 2. In memory, a key goes only when it was done and its time is over. One that is in doubt stays until it is settled.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::future::{Future, ready};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::call::Class;
use crate::sync::{LockExt, Mutex};

/// Keeps the keys of effects, and what became of each.
///
/// [`MemoryKeys`] is what you have unless you say otherwise: exactly once as long as the process lives. A store that
/// outlives it (a table with the key as its primary key, in the transaction of the effect at best) makes that hold
/// over restarts.
///
/// [`Effects`](crate::Effects) calls it for one key from one task at a time; other processes with the same store may do so
/// at once, and then [`begin`](Self::begin) decides who is first.
pub trait KeyStore<K, V>: Send + Sync + 'static {
    /// Returns the result of a key that is done, if that is known without waiting.
    fn known(&self, _key: &K) -> Option<Arc<V>> {
        None
    }

    /// Marks a key as begun, if nothing is known of it, *before* its effect runs; and says what is known otherwise.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the key may be begun or not; if it is, it is in doubt.
    ///
    /// # Errors
    ///
    /// [`StoreFailed`]: the effect is then not run.
    fn begin(&self, key: &K) -> impl Future<Output = Result<Begun<V>, StoreFailed>> + Send;

    /// Says how an effect ended that was begun, or found in doubt.
    ///
    /// # Errors
    ///
    /// [`StoreFailed`]: the caller of the effect still gets its result; the key stays begun, and so in doubt.
    fn end(&self, key: &K, ended: Ended<V>) -> impl Future<Output = Result<(), StoreFailed>> + Send;

    /// Returns how many keys are kept, if that is known.
    fn counts(&self) -> KeyCounts {
        KeyCounts::default()
    }
}

impl<K: Sync, V: Send + Sync, S: KeyStore<K, V>> KeyStore<K, V> for Arc<S> {
    fn known(&self, key: &K) -> Option<Arc<V>> {
        (**self).known(key)
    }

    fn begin(&self, key: &K) -> impl Future<Output = Result<Begun<V>, StoreFailed>> + Send {
        (**self).begin(key)
    }

    fn end(&self, key: &K, ended: Ended<V>) -> impl Future<Output = Result<(), StoreFailed>> + Send {
        (**self).end(key, ended)
    }

    fn counts(&self) -> KeyCounts {
        (**self).counts()
    }
}

/// What a store knows of a key when its effect is about to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun<V> {
    /// Nothing; it is marked as begun now.
    First,
    /// It is done, with this result.
    Done(Arc<V>),
    /// It was begun, and nobody knows whether it has happened.
    InDoubt(Class),
    /// Nothing, and there is no room for it.
    Full,
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended<V> {
    /// It has happened, with this result.
    Done(Arc<V>),
    /// It has not: the key is free.
    NotDone,
    /// Nobody knows.
    InDoubt(Class),
}

/// How many keys a store keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// Keys whose effect has happened.
    pub done: usize,
    /// Keys whose effect runs, or is in doubt.
    pub undecided: usize,
}

/// A [`KeyStore`] failed.
#[derive(Clone, Debug)]
pub struct StoreFailed(Arc<dyn Error + Send + Sync>);

impl StoreFailed {
    /// Wraps the error of the store.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }
}

impl fmt::Display for StoreFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store of the keys failed: {}", self.0)
    }
}

impl Error for StoreFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// How long and how many keys are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long the result of an effect is kept after it has happened: longer than anybody tries again.
    pub time: Duration,
    /// How many keys there may be: effects per second, times `time`. One more is refused rather than forget another.
    pub at_most_keys: usize,
}

/// Keys in the memory of the process.
pub struct MemoryKeys<K, V> {
    keep: Keep,
    table: Mutex<Table<K, V>>,
}

struct Table<K, V> {
    known: HashMap<K, State<V>>,
    /// Those that are done, by when they may be forgotten. They are ended in the order of time, so it is sorted.
    done: VecDeque<(Instant, K)>,
}

enum State<V> {
    Begun,
    Done(Arc<V>),
    InDoubt(Class),
}

impl<K, V> MemoryKeys<K, V> {
    /// Makes an empty store.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        Self { keep, table: Mutex::new(Table { known: HashMap::new(), done: VecDeque::new() }) }
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// Takes out what may be forgotten, to be dropped when the lock is released: keys and values are foreign code.
    fn expire(&mut self, now: Instant) -> Vec<(K, Option<State<V>>)> {
        let mut gone = Vec::new();
        while self.done.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, key)) = self.done.pop_front() else { break };
            let state = self.known.remove(&key);
            gone.push((key, state));
        }
        gone
    }
}

impl<K, V> KeyStore<K, V> for MemoryKeys<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn known(&self, key: &K) -> Option<Arc<V>> {
        let now = Instant::now();
        let mut table = self.table.lock_unpoisoned();
        let gone = table.expire(now);
        let known = match table.known.get(key) {
            Some(State::Done(value)) => Some(Arc::clone(value)),
            _ => None,
        };
        drop(table);
        drop(gone);
        known
    }

    fn begin(&self, key: &K) -> impl Future<Output = Result<Begun<V>, StoreFailed>> + Send {
        let now = Instant::now();
        let copy = key.clone();
        let mut table = self.table.lock_unpoisoned();
        let gone = table.expire(now);
        let full = table.known.len() >= self.keep.at_most_keys;
        let begun = match table.known.get(key) {
            Some(State::Done(value)) => Begun::Done(Arc::clone(value)),
            Some(State::InDoubt(class)) => Begun::InDoubt(*class),
            Some(State::Begun) => Begun::InDoubt(Class::Cancelled), // invariant 1
            None if full => Begun::Full,
            None => {
                table.known.insert(copy, State::Begun);
                Begun::First
            }
        };
        drop(table);
        drop(gone);
        ready(Ok(begun))
    }

    fn end(&self, key: &K, ended: Ended<V>) -> impl Future<Output = Result<(), StoreFailed>> + Send {
        let now = Instant::now();
        let (in_map, in_order) = (key.clone(), key.clone());
        let mut table = self.table.lock_unpoisoned();
        let was = match ended {
            Ended::NotDone => table.known.remove_entry(key).map(|(key, state)| (Some(key), state)),
            Ended::InDoubt(class) => table.known.insert(in_map, State::InDoubt(class)).map(|was| (None, was)),
            Ended::Done(value) => {
                let was = table.known.insert(in_map, State::Done(value));
                // A result that is said twice keeps its first place in the order.
                if !matches!(was, Some(State::Done(_))) {
                    // Too long to add is for ever.
                    if let Some(until) = now.checked_add(self.keep.time) {
                        table.done.push_back((until, in_order));
                    }
                }
                was.map(|was| (None, was))
            }
        };
        drop(table);
        drop(was);
        ready(Ok(()))
    }

    fn counts(&self) -> KeyCounts {
        let table = self.table.lock_unpoisoned();
        let done = table.done.len();
        KeyCounts { done, undecided: table.known.len() - done }
    }
}

impl<K, V> fmt::Debug for MemoryKeys<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeys").field("keep", &self.keep).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { time: Duration::from_secs(60), at_most_keys: 2 };

    async fn begin(keys: &MemoryKeys<&'static str, u32>, key: &'static str) -> Begun<u32> {
        keys.begin(&key).await.unwrap()
    }

    #[test]
    fn a_full_store_refuses_rather_than_forget_a_key_before_its_time() {
        crate::testing::example_paused(async {
            let keys = MemoryKeys::new(KEEP);
            for key in ["a", "b"] {
                assert_eq!(begin(&keys, key).await, Begun::First);
            }
            keys.end(&"a", Ended::Done(Arc::new(1))).await.unwrap();
            keys.end(&"b", Ended::InDoubt(Class::Timeout)).await.unwrap();
            assert_eq!(begin(&keys, "c").await, Begun::Full);
            tokio::time::advance(Duration::from_secs(59)).await;
            assert_eq!(begin(&keys, "c").await, Begun::Full);
            assert_eq!(begin(&keys, "a").await, Begun::Done(Arc::new(1)));
            tokio::time::advance(Duration::from_secs(2)).await;
            assert_eq!(begin(&keys, "c").await, Begun::First, "`a` has had its time");
            assert_eq!(begin(&keys, "b").await, Begun::InDoubt(Class::Timeout), "what is in doubt stays");
            assert_eq!(keys.counts(), KeyCounts { done: 0, undecided: 2 });
        });
    }

    #[test]
    fn what_was_begun_and_never_ended_is_in_doubt() {
        crate::testing::example_paused(async {
            let keys = MemoryKeys::new(KEEP);
            begin(&keys, "a").await;
            assert_eq!(begin(&keys, "a").await, Begun::InDoubt(Class::Cancelled));
            keys.end(&"a", Ended::NotDone).await.unwrap();
            assert_eq!(begin(&keys, "a").await, Begun::First);
        });
    }
}
