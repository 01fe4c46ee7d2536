//! TLS on a listener: which certificate, the handshake, and looking after both.
//!
//! ```text
//! settings ─▶ material ─▶ ServerConfig ─▶ handshake ─▶ Stream
//!                ▲             │
//!              watch ◀─────────┘  files that changed, a certificate that ends soon
//! ```
//!
//! A listener that encrypts has one [`Tls`]. It is loaded before anything is spawned, so that a wrong certificate keeps the
//! server from starting; from then on a wrong one only keeps the old one in use.
//!
//! # Invariants
//!
//! 1. A handshake is a matter of the connection's own task and has a limit; accept never waits for one.
//! 2. At most half of the threads compute handshakes at the same time: when everybody comes back at once, those who are
//!    connected still get their turn. Who stays silent in a handshake holds none of these turns.
//! 3. A connection keeps the certificate it began with.
//!
//! # End
//!
//! Handshakes end with the connections they belong to; [`watch`](Tls::watch) ends with the server.

mod handshake;
mod lifetime;
mod material;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline::Semaphore;
use tokio_rustls::rustls::ServerConfig;

pub(crate) use self::handshake::HandshakeError;
pub use self::material::TlsError;

use self::material::Material;
use crate::config;

/// TLS of one listener.
pub(crate) struct Tls {
    /// The section of the settings, such as `http_server.tls`.
    section: &'static str,
    settings: config::Tls,
    /// What is spoken inside, as ALPN calls it.
    protocol: &'static [u8],
    current: Mutex<Current>,
    /// By invariant 2.
    turns: Semaphore,
    handshakes: AtomicU64,
    failed_handshakes: AtomicU64,
}

struct Current {
    config: Arc<ServerConfig>,
    /// What it was made from.
    seen: Material,
    /// When the certificate ends, as time since 1970.
    not_after: Option<Duration>,
    /// What lies in the files now and cannot be used.
    refused: Option<Refused>,
}

struct Refused {
    /// What is wrong with it.
    text: String,
    /// How many looks in a row have found it.
    looks: u64,
}

/// What there is to know of a listener's TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsStats {
    pub(crate) section: &'static str,
    pub(crate) handshakes: u64,
    pub(crate) failed_handshakes: u64,
    /// When the certificate ends, as time since 1970.
    pub(crate) not_after: Option<Duration>,
    /// Whether what lies in the files could not be taken into use.
    pub(crate) is_refused: bool,
}

impl Tls {
    /// Reads what `settings` name, for a listener that speaks `protocol`; `None` if it is not to encrypt.
    ///
    /// # Errors
    ///
    /// [`TlsError`] says which key and file, and what is wrong with it.
    pub(crate) fn load(
        settings: &config::Tls,
        section: &'static str,
        protocol: &'static [u8],
    ) -> Result<Option<Arc<Self>>, TlsError> {
        if !settings.enabled {
            return Ok(None);
        }
        let seen = Material::read(settings, section)?;
        let config = seen.config(protocol, section)?;
        let not_after = seen.not_after();
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Some(Arc::new(Self {
            section,
            settings: settings.clone(),
            protocol,
            current: Mutex::new(Current { config, seen, not_after, refused: None }),
            turns: Semaphore::new("TLS handshakes", (threads / 2).max(1)),
            handshakes: AtomicU64::new(0),
            failed_handshakes: AtomicU64::new(0),
        })))
    }

    pub(crate) fn stats(&self) -> TlsStats {
        let current = self.current();
        TlsStats {
            section: self.section,
            handshakes: self.handshakes.load(Ordering::Relaxed),
            failed_handshakes: self.failed_handshakes.load(Ordering::Relaxed),
            not_after: current.not_after,
            is_refused: current.refused.as_ref().is_some_and(|refused| refused.looks > 1),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing under the lock can stop half-way, so a poisoned one is whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.stats()).finish()
    }
}
