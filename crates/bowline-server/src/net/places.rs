//! How many connections the public listener holds: in all, and per address.
//!
//! Both bounds hold from accept to the end of the socket, whatever becomes of the connection, so they also bound what
//! nobody has authenticated yet. A connection beyond a bound is closed at accept, before it costs anything: a client
//! that is refused tries again later, one that were left waiting in the kernel would take the server for hung.
//!
//! # Invariants
//!
//! 1. A connection holds one [`Place`] until its socket is closed; dropping it gives it up.
//! 2. `by_address` holds an entry for as long as somebody of that address holds a place, and none if there is no bound.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files that clients leave to the rest of the process: the internal listener's connections, the listeners themselves, the
/// runtime's own. One sixteenth of the limit, and not less than this.
const FEWEST_OTHER_FILES: u64 = 32;

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    max_per_address: Option<NonZeroUsize>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: HashMap<Network, usize>,
}

/// Whom a bound per address counts together: one IPv4 address, or one IPv6 network of 64 bits, which is what a single
/// customer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 4]),
    V6([u16; 4]),
}

/// One connection's place, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    network: Network,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Nobody gets one: the process has as many connections as its limit of open files allows.
    All,
    /// This address has as many as it may.
    Address,
}

impl Places {
    /// Makes places for as many connections as `max_files`, the process's limit of open files, leaves room for.
    pub(crate) fn new(max_files: Option<u64>, max_per_address: Option<NonZeroUsize>) -> Self {
        Self { max: max_files.map_or(usize::MAX, connections), max_per_address, held: Mutex::default() }
    }

    /// How many connections there may be at once.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Takes a place for a connection of `address`.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let network = Network::of(address);
        let mut held = self.lock();
        if held.all >= self.max {
            return Err(Full::All);
        }
        if let Some(max) = self.max_per_address {
            let of_address = held.by_address.entry(network).or_default();
            if *of_address >= max.get() {
                return Err(Full::Address);
            }
            *of_address += 1;
        }
        held.all += 1;
        drop(held);
        Ok(Place { places: Arc::clone(self), network })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing under the lock can stop half-way, so poisoned counts are right.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many connections a process with `max_files` may hold.
fn connections(max_files: u64) -> usize {
    let others = (max_files / 16).max(FEWEST_OTHER_FILES);
    // With a limit that leaves nothing, one client at a time.
    usize::try_from(max_files.saturating_sub(others).max(1)).unwrap_or(usize::MAX)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.lock();
        held.all -= 1;
        if let Some(of_address) = held.by_address.get_mut(&self.network) {
            *of_address -= 1;
            if *of_address == 0 {
                held.by_address.remove(&self.network);
            }
        }
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        // A socket for both families sees IPv4 addresses inside of IPv6 ones.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: usize, max_per_address: usize) -> Arc<Places> {
        let max_per_address = NonZeroUsize::new(max_per_address);
        Arc::new(Places { max, max_per_address, held: Mutex::default() })
    }

    fn take(places: &Arc<Places>, address: &str) -> Result<Place, Full> {
        places.take(address.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_own_bound_and_gets_its_places_back() {
        let places = places(usize::MAX, 2);
        let first = take(&places, "192.0.2.1").unwrap();
        let _second = take(&places, "192.0.2.1").unwrap();
        assert_eq!(take(&places, "192.0.2.1").unwrap_err(), Full::Address);
        assert_eq!(
            take(&places, "::ffff:192.0.2.1").unwrap_err(),
            Full::Address,
            "the same, written as IPv6"
        );
        let _other = take(&places, "192.0.2.2").unwrap();
        drop(first);
        let _again = take(&places, "192.0.2.1").unwrap();
    }

    #[test]
    fn a_network_of_64_bits_counts_as_one_address() {
        let places = places(usize::MAX, 2);
        let _first = take(&places, "2001:db8:0:1::1").unwrap();
        let _second = take(&places, "2001:db8:0:1:ffff:ffff:ffff:ffff").unwrap();
        assert_eq!(take(&places, "2001:db8:0:1::3").unwrap_err(), Full::Address);
        let _other = take(&places, "2001:db8:0:2::1").unwrap();
    }

    #[test]
    fn all_together_have_a_bound_and_nothing_is_remembered_of_who_left() {
        let places = places(3, 2);
        let taken: Vec<_> =
            ["192.0.2.1", "192.0.2.2", "::1"].iter().map(|of| take(&places, of).unwrap()).collect();
        assert_eq!(take(&places, "192.0.2.3").unwrap_err(), Full::All);
        drop(taken);
        assert_eq!(places.lock().all, 0);
        assert!(places.lock().by_address.is_empty());
        assert!(take(&places, "192.0.2.3").is_ok());
    }

    #[test]
    fn files_are_left_for_the_rest_of_the_process() {
        assert_eq!(connections(1024), 960);
        assert_eq!(connections(65_536), 61_440);
        assert_eq!(connections(40), 8);
        assert_eq!(connections(10), 1);
        assert_eq!(Places::new(None, None).max(), usize::MAX);
    }
}
