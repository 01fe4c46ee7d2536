//! A breaker per upstream, for upstreams that are not known beforehand: hosts, tenants, shards.

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;

use super::{Breaker, BreakerState, BreakerStats};
use crate::sync::{Arc, LockExt, Mutex};

/// Breakers that are kept unless said otherwise: about 1 KB each.
const AT_MOST: usize = 1_000;

type Make = dyn Fn(Breaker) -> Breaker + Send + Sync;

/// A [`Breaker`] per key, made when the key is first seen, and as many as a bound allows.
///
/// Beyond the bound those go that are closed and were asked for longest ago; what an open breaker knows is worth keeping. If all
/// are open, the one asked for longest ago goes all the same. A handle on one that has gone stays a working breaker.
///
/// # Examples
///
/// ```
/// use bowline::Breakers;
/// use std::time::Duration;
///
/// let hosts = Breakers::new("billing hosts").each(|breaker| breaker.open_for(Duration::from_secs(1)));
/// let host = hosts.of("10.0.0.7");
/// host.force_open("it is being replaced");
/// assert!(hosts.of("10.0.0.7").admit().is_err());
/// assert!(hosts.of("10.0.0.8").admit().is_ok());
/// assert_eq!(host.name(), "billing hosts: 10.0.0.7");
/// ```
#[derive(Clone)]
pub struct Breakers {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    place: &'static Location<'static>,
    known: Mutex<Known>,
}

struct Known {
    make: Arc<Make>,
    at_most: usize,
    breakers: HashMap<Arc<str>, Entry>,
    /// Counts the questions: an entry's last one says how long ago it was used.
    asked: u64,
}

struct Entry {
    breaker: Breaker,
    asked: u64,
}

impl Breakers {
    /// Makes an empty set; its breakers are called `name: key`.
    #[must_use]
    #[track_caller]
    pub fn new(name: &'static str) -> Self {
        let known =
            Known { make: Arc::new(|breaker| breaker), at_most: AT_MOST, breakers: HashMap::new(), asked: 0 };
        Self { shared: Arc::new(Shared { name, place: Location::caller(), known: Mutex::new(known) }) }
    }

    /// Keeps so many breakers (1,000 unless said otherwise).
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn at_most(self, breakers: usize) -> Self {
        assert!(breakers > 0, "a set of no breakers protects nobody");
        self.shared.known.lock_unpoisoned().at_most = breakers;
        self
    }

    /// Sets the options of each breaker that is made from here on.
    #[must_use]
    pub fn each(self, options: impl Fn(Breaker) -> Breaker + Send + Sync + 'static) -> Self {
        let options: Arc<Make> = Arc::new(options);
        let before = std::mem::replace(&mut self.shared.known.lock_unpoisoned().make, options);
        drop(before); // outside the lock: it is a closure of the user's
        self
    }

    /// Returns the breaker of `key`, made if there is none.
    #[must_use]
    pub fn of(&self, key: &str) -> Breaker {
        let shared = &self.shared;
        let make = {
            let mut known = shared.known.lock_unpoisoned();
            if let Some(breaker) = known.find(key) {
                return breaker;
            }
            Arc::clone(&known.make)
        };
        let name = format!("{}: {key}", shared.name);
        let made = make(Breaker::named(name.into(), shared.place)); // outside the lock: user code
        let mut gone = Vec::new(); // dropped after the lock is released: an open one tells of its end
        let mut known = shared.known.lock_unpoisoned();
        if let Some(breaker) = known.find(key) {
            drop(known); // another was faster
            return breaker;
        }
        if known.breakers.len() >= known.at_most {
            known.make_room(&mut gone);
        }
        let asked = known.asked;
        known.breakers.insert(key.into(), Entry { breaker: made.clone(), asked });
        drop(known);
        made
    }

    /// Returns the books of the breakers that are kept, by name.
    #[must_use]
    pub fn stats(&self) -> Vec<BreakerStats> {
        let kept: Vec<Breaker> = {
            let known = self.shared.known.lock_unpoisoned();
            known.breakers.values().map(|entry| entry.breaker.clone()).collect()
        };
        let mut stats: Vec<_> = kept.iter().map(Breaker::stats).collect();
        stats.sort_by(|a, b| a.name.cmp(&b.name));
        stats
    }
}

impl Known {
    fn find(&mut self, key: &str) -> Option<Breaker> {
        self.asked += 1;
        let entry = self.breakers.get_mut(key)?;
        entry.asked = self.asked;
        Some(entry.breaker.clone())
    }

    /// Takes out an eighth at once, so that a set in which every key is new looks at all of them now and then only.
    fn make_room(&mut self, gone: &mut Vec<Breaker>) {
        let mut ages: Vec<(bool, u64, Arc<str>)> = self
            .breakers
            .iter()
            .map(|(key, entry)| {
                let knows = entry.breaker.state() != BreakerState::Closed;
                (knows, entry.asked, Arc::clone(key))
            })
            .collect();
        ages.sort_unstable();
        let closed = ages.iter().filter(|(knows, ..)| !knows).count();
        let many = (self.at_most / 8).clamp(1, closed.max(1));
        for (_, _, key) in &ages[..many] {
            gone.extend(self.breakers.remove(key).map(|entry| entry.breaker));
        }
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.shared.known.lock_unpoisoned().breakers.len();
        f.debug_struct("Breakers").field("name", &self.shared.name).field("kept", &known).finish()
    }
}
