//! How many connections the public listener holds: in all, and per address; and how many an address may begin.
//!
//! The bounds hold from accept to the end of the socket, whatever becomes of the connection, so they also bound what
//! nobody has authenticated yet. A connection beyond a bound is closed at accept, before it costs anything: a client
//! that is refused tries again later, one that were left waiting in the kernel would take the server for hung.
//!
//! Behind a proxy that is listed, whose connection it is shows only in the request. There the address is counted when the
//! connection becomes a client's ([`Place::count_forwarded`]), and a refusal is an answer.
//!
//! Where one connection carries many clients, each of them has a place too, which counts for its address and is no file
//! ([`Places::take_shared`]).
//!
//! # Invariants
//!
//! 1. A connection holds one [`Place`] until its socket is closed; dropping it gives it up.
//! 2. `by_address` holds an entry for as long as somebody of that address holds a place, and none if there is no bound.
//! 3. `beginnings` has the addresses whose bucket is not full, and at most [`MAX_BEGINNINGS`]: one that is not tracked for
//!    lack of room is let in. An address that wants to be forgotten has to wait until its bucket is full.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hyper::header::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::{HttpServer, Network as Proxies};
use crate::rate::Bucket;

/// Files that clients leave to the rest of the process: the internal listener's connections, the listeners themselves, the
/// runtime's own. One sixteenth of the limit, and not less than this.
const FEWEST_OTHER_FILES: u64 = 32;

/// Connections at once that are told that there is no place for them; more are closed without a word. A quarter of the files
/// that are kept for others, at the least.
const MAX_REFUSALS: usize = 8;

/// Addresses whose rate is tracked at once: three megabytes.
const MAX_BEGINNINGS: usize = 65_536;

/// Time between two looks for addresses to forget, so that a flood of new ones does not make every accept a long one.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);

/// Below this many tracked addresses nobody looks for those to forget.
const FEWEST_BEGINNINGS: usize = 1024;

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    max_per_address: Option<NonZeroUsize>,
    handshakes_per_address: Option<NonZeroUsize>,
    proxies: Vec<Proxies>,
    held: Mutex<Held>,
    /// Clients that may begin per second, whoever they are.
    rate: Option<NonZeroUsize>,
    /// Answers that there is no place, under way.
    refusals: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: HashMap<Network, usize>,
    beginnings: HashMap<Network, Bucket>,
    /// When it is time to look for those to forget.
    forget_at: Option<Instant>,
    /// What all clients together may still begin.
    all_beginnings: Option<Bucket>,
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
    /// For whom it counts, once that is known. Nobody, for a proxy that does not say.
    network: OnceLock<Network>,
    /// Whether it has a socket of its own.
    is_file: bool,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Nobody gets one: the process has as many connections as its limit of open files allows.
    All,
    /// This address has as many as it may.
    Address,
    /// This address has begun as many as it may for now.
    TooFast,
}

impl Places {
    /// Makes places for as many connections as `max_files`, the process's limit of open files, leaves room for.
    pub(crate) fn new(max_files: Option<u64>, settings: &HttpServer) -> Self {
        Self {
            max: max_files.map_or(usize::MAX, connections),
            max_per_address: settings.connections_per_address,
            handshakes_per_address: settings.handshakes_per_address,
            proxies: settings.trusted_proxies.clone(),
            held: Mutex::default(),
            rate: None,
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        }
    }

    /// Bounds how many clients may begin per second.
    pub(crate) fn with_rate(self, rate: Option<NonZeroUsize>) -> Self {
        Self { rate, ..self }
    }

    /// Room to answer one connection beyond the bound that there is none. It takes one of the files that are kept for others.
    pub(crate) fn refusal(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refusals).try_acquire_owned().ok()
    }

    /// How many connections there may be at once.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Takes a place for a connection of `address`.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let network = (!self.is_proxy(address)).then(|| Network::of(address));
        let mut held = self.lock();
        if held.all >= self.max {
            return Err(Full::All);
        }
        if let Some(network) = network {
            self.count(&mut held, network)?;
        }
        held.all += 1;
        drop(held);
        let network = network.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Place { places: Arc::clone(self), network, is_file: true })
    }

    /// Takes a place for a client of `address` that comes over a connection which has its own.
    pub(crate) fn take_shared(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let network = (!self.is_proxy(address)).then(|| Network::of(address));
        if let Some(network) = network {
            self.count(&mut self.lock(), network)?;
        }
        let network = network.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Place { places: Arc::clone(self), network, is_file: false })
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.contains(address))
    }

    /// Counts a connection for a network, or says why it may not have one.
    fn count(&self, held: &mut Held, network: Network) -> Result<(), Full> {
        if held.by_address.get(&network).copied().unwrap_or_default() >= most(self.max_per_address) {
            return Err(Full::Address);
        }
        if !held.may_begin(network, self.handshakes_per_address) {
            return Err(Full::TooFast);
        }
        if self.max_per_address.is_some() {
            *held.by_address.entry(network).or_default() += 1;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing under the lock can stop half-way, so poisoned counts are right.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether a network may begin one more connection.
    fn may_begin(&mut self, network: Network, rate: Option<NonZeroUsize>) -> bool {
        if rate.is_none() {
            return true;
        }
        let now = Instant::now();
        if self.beginnings.len() >= FEWEST_BEGINNINGS && self.forget_at.is_none_or(|at| at <= now) {
            self.beginnings.retain(|_, bucket| !bucket.is_full(now));
            self.forget_at = Some(now + FORGET_INTERVAL);
        }
        if self.beginnings.len() >= MAX_BEGINNINGS && !self.beginnings.contains_key(&network) {
            return true; // by invariant 3
        }
        self.beginnings.entry(network).or_insert_with(|| Bucket::new(now)).take(1, rate, now)
    }
}

impl Place {
    /// Whether one more client may begin now, whoever it is; it has, then.
    pub(crate) fn may_begin(&self) -> bool {
        if self.places.rate.is_none() {
            return true;
        }
        let now = Instant::now();
        let mut held = self.places.lock();
        held.all_beginnings.get_or_insert_with(|| Bucket::new(now)).take(1, self.places.rate, now)
    }

    /// Counts the connection for the client whom a trusted proxy names in the headers of its request.
    ///
    /// # Errors
    ///
    /// The client's address has as many connections as it may, or begins too many.
    pub(crate) fn count_forwarded(&self, headers: &HeaderMap) -> Result<(), Full> {
        if self.network.get().is_some() {
            return Ok(()); // not from a proxy, or counted already
        }
        let Some(client) = forwarded_for(headers, |address| self.places.is_proxy(address)) else {
            return Ok(());
        };
        let network = Network::of(client);
        self.places.count(&mut self.places.lock(), network)?;
        // Requests of a connection come one after the other: nobody else has set it.
        let _ = self.network.set(network);
        Ok(())
    }
}

/// The address that a chain of proxies forwards for: the last one in the header that is not a proxy itself. What stands
/// before it, anybody may have written.
fn forwarded_for(headers: &HeaderMap, is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    for header in headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>().into_iter().rev() {
        for hop in header.to_str().ok()?.rsplit(',') {
            let address = address_of_hop(hop.trim())?;
            if !is_proxy(address) {
                return Some(address);
            }
        }
    }
    None
}

/// Some proxies add the port.
fn address_of_hop(hop: &str) -> Option<IpAddr> {
    let socket = || hop.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    hop.parse().ok().or_else(socket).or_else(bracketed)
}

fn most(limit: Option<NonZeroUsize>) -> usize {
    limit.map_or(usize::MAX, NonZeroUsize::get)
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
        held.all -= usize::from(self.is_file);
        let Some(network) = self.network.get() else { return };
        if let Some(of_address) = held.by_address.get_mut(network) {
            *of_address -= 1;
            if *of_address == 0 {
                held.by_address.remove(network);
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
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn places(max: usize, max_per_address: usize) -> Arc<Places> {
        let settings = HttpServer {
            connections_per_address: NonZeroUsize::new(max_per_address),
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..HttpServer::default()
        };
        Arc::new(Places { max, ..Places::new(None, &settings) })
    }

    fn forwarded(headers: &[&'static str]) -> HeaderMap {
        let header = |value: &&'static str| {
            (HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static(value))
        };
        headers.iter().map(header).collect()
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
    fn a_client_that_shares_a_connection_counts_for_its_address_and_takes_no_file() {
        let places = places(1, 2);
        let address = "192.0.2.1".parse().unwrap();
        let connection = take(&places, "192.0.2.1").unwrap();
        let stream = places.take_shared(address).unwrap();
        assert_eq!(places.take_shared(address).unwrap_err(), Full::Address);
        assert_eq!(places.lock().all, 1);
        drop(stream);
        assert_eq!(places.lock().all, 1);
        drop((connection, places.take_shared(address).unwrap()));
        assert_eq!(places.lock().all, 0);
        assert!(places.lock().by_address.is_empty());
    }

    #[test]
    fn files_are_left_for_the_rest_of_the_process() {
        assert_eq!(connections(1024), 960);
        assert_eq!(connections(65_536), 61_440);
        assert_eq!(connections(40), 8);
        assert_eq!(connections(10), 1);
        assert_eq!(Places::new(None, &HttpServer::default()).max(), usize::MAX);
    }

    #[test]
    fn behind_a_proxy_the_client_counts_and_not_the_proxy() {
        let places = places(usize::MAX, 1);
        let (one, two, three) = (
            take(&places, "10.0.0.1").unwrap(),
            take(&places, "10.0.0.1").unwrap(),
            take(&places, "10.0.0.1").unwrap(),
        );
        one.count_forwarded(&forwarded(&["192.0.2.1"])).unwrap();
        one.count_forwarded(&forwarded(&["192.0.2.2"])).unwrap(); // counted already
        assert_eq!(two.count_forwarded(&forwarded(&["192.0.2.1"])), Err(Full::Address));
        two.count_forwarded(&forwarded(&["192.0.2.2"])).unwrap();
        three.count_forwarded(&HeaderMap::new()).unwrap();
        drop(one);
        three.count_forwarded(&forwarded(&["192.0.2.1"])).unwrap();
        drop((two, three));
        assert!(places.lock().by_address.is_empty());
    }

    #[test]
    fn who_is_no_proxy_says_nothing_about_addresses() {
        let places = places(usize::MAX, 1);
        let direct = take(&places, "192.0.2.1").unwrap();
        direct.count_forwarded(&forwarded(&["192.0.2.2"])).unwrap();
        assert!(take(&places, "192.0.2.2").is_ok(), "nobody shuts out another by naming it");
        assert_eq!(take(&places, "192.0.2.1").unwrap_err(), Full::Address);
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let client = |headers: &[&'static str]| {
            forwarded_for(&forwarded(headers), |address| address.to_string().starts_with("10."))
                .map(|a| a.to_string())
        };
        assert_eq!(client(&["192.0.2.9, 192.0.2.1, 10.0.0.7"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(client(&["192.0.2.9", "192.0.2.1,10.0.0.7"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(client(&["192.0.2.1:4711"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(client(&["[2001:db8::1]:80"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(client(&["[2001:db8::1]"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(client(&["192.0.2.1, rubbish"]), None, "a proxy that writes rubbish is asked no further");
        assert_eq!((client(&["10.0.0.7"]), client(&[])), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_comes_and_goes_too_fast_has_to_wait() {
        let places = Places {
            handshakes_per_address: NonZeroUsize::new(1),
            ..Places::new(None, &HttpServer::default())
        };
        let places = Arc::new(places);
        for _ in 0..10 {
            drop(take(&places, "192.0.2.1").unwrap());
        }
        assert_eq!(take(&places, "192.0.2.1").unwrap_err(), Full::TooFast);
        assert!(take(&places, "192.0.2.2").is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(take(&places, "192.0.2.1").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_of_rates_is_bounded_and_forgotten() {
        let places = Arc::new(Places::new(None, &HttpServer::default()));
        let come = |n: u32| drop(places.take(IpAddr::from((0x0B00_0000 + n).to_be_bytes())).unwrap());
        (0..100_000).for_each(come);
        assert_eq!(places.lock().beginnings.len(), MAX_BEGINNINGS);
        tokio::time::advance(Duration::from_secs(60)).await;
        (0..FEWEST_BEGINNINGS as u32).for_each(come);
        assert!(
            places.lock().beginnings.len() <= 2 * FEWEST_BEGINNINGS,
            "{}",
            places.lock().beginnings.len()
        );
    }
}
