//! Keys of an identity provider: a JSON Web Key Set (RFC 7517) that is fetched from one fixed address.
//!
//! The address stands in the settings, and nothing in a token changes it. A token's `kid` only picks one of the keys that were
//! fetched. [`Jwks::prepare`] is called before a token is verified: if its key is not there, or the keys are old, they are
//! fetched; verifying itself never waits.
//!
//! # Invariants
//!
//! 1. However many tokens ask for unknown keys, there is one fetch at a time, and one in [`FRESH_FOR`].
//! 2. A key that was found is for the algorithms of its kind only, and for the one it names if it names one.
//! 3. A token is called invalid for its `kid` only if the keys were fetched after it had come; otherwise the client is told to
//!    come back.
//! 4. Keys that could not be renewed for [`MAX_AGE`] verify nothing any more.
//!
//! # End
//!
//! The task that fetches belongs to the server's scope and ends with it.

mod set;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bowline::{Breaker, Copies, LocalCopy, Owner};
use tokio::time::Instant;

use self::set::KeySet;
use super::TokenError;
use super::key::Key;
use crate::config::Endpoint;
use crate::outgoing::{FetchError, Outgoing};

/// For how long after a fetch an unknown key causes no further one.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(10);

/// Age at which keys are fetched anew although the one that is asked for is there: how long a key that was taken back may
/// still be used.
const RENEW_AFTER: Duration = Duration::from_secs(3600);

/// Age beyond which keys are not used: a provider that does not answer for a day may have taken any of them back.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// How long a connection waits for a fetch.
const WAIT: Duration = Duration::from_secs(2);

/// How long a fetch may take, from the connection to the last byte.
const FETCH_TIME: Duration = Duration::from_secs(4);

/// Bytes of the longest key set; those of providers have a few thousand.
const MAX_SET_BYTES: usize = 256 * 1024;

/// Bytes of the longest `kid`; a longer one is nobody's.
const MAX_KID_BYTES: usize = 256;

/// Unknown kids that are remembered. One more forgets all of them, which costs a fetch at most.
const MAX_UNKNOWN: usize = 1024;

/// The keys of one endpoint, for one section of the settings: tokens of different issuers never share keys.
#[derive(Clone)]
pub(super) struct Jwks(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    state: Mutex<State>,
    /// Set when the server starts; until then nothing is fetched.
    copies: OnceLock<Copies<(), Fetched, FetchError>>,
}

#[derive(Default)]
struct State {
    set: Option<(Arc<KeySet>, Instant)>,
    /// How often keys were fetched.
    fetches: u64,
    /// Kids that a fetch has shown to be nobody's.
    unknown: HashSet<Box<str>>,
}

/// The keys were fetched; they lie in the state.
struct Fetched;

impl Jwks {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self(Arc::new(Inner { endpoint, state: Mutex::default(), copies: OnceLock::new() }))
    }

    /// Starts the task that fetches, in `owner`.
    pub(super) fn start(&self, owner: &impl Owner, outgoing: &Outgoing) {
        let (keys, outgoing) = (self.clone(), outgoing.clone());
        let fetch = move |()| {
            let (keys, outgoing) = (keys.clone(), outgoing.clone());
            async move { keys.fetch(&outgoing).await }
        };
        let copies = LocalCopy::new("token keys", MAX_AGE)
            .fresh_for(FRESH_FOR)
            .wait(WAIT)
            .time(FETCH_TIME)
            .at_most_keys(1)
            .breaker(&Breaker::new("token keys"))
            .start(owner, fetch);
        // Started twice, the first goes on.
        let _ = self.0.copies.set(copies);
    }

    /// Whether [`prepare`](Self::prepare) has something to do.
    pub(super) fn wants(&self, kid: &str) -> bool {
        let state = self.state();
        match &state.set {
            Some((set, at)) => at.elapsed() >= RENEW_AFTER || !set.has(kid) && kid.len() <= MAX_KID_BYTES,
            None => true,
        }
    }

    /// Fetches the keys if `kid` is not among those that are there, or they are old.
    pub(super) async fn prepare(&self, kid: &str) {
        let Some(copies) = self.0.copies.get() else { return };
        let before = self.state().fetches;
        // What could not be fetched is told by what is there afterwards.
        let _ = copies.read(()).await;
        let mut state = self.state();
        let is_known = state.set.as_ref().is_some_and(|(set, _)| set.has(kid));
        if state.fetches != before && !is_known {
            if state.unknown.len() >= MAX_UNKNOWN {
                state.unknown.clear();
            }
            state.unknown.insert(kid.into());
        }
    }

    /// The key called `kid`.
    pub(super) fn key(&self, kid: &str) -> Result<Key, TokenError> {
        let state = self.state();
        let fetched = state.set.as_ref().filter(|(_, at)| at.elapsed() <= MAX_AGE);
        match fetched.and_then(|(set, _)| set.find(kid)) {
            Some(key) => Ok(key.clone()),
            None if kid.len() > MAX_KID_BYTES || state.unknown.contains(kid) => {
                Err(TokenError::invalid("its key is not in the key set"))
            }
            None => Err(TokenError::KeysUnavailable), // by invariant 3
        }
    }

    async fn fetch(&self, outgoing: &Outgoing) -> Result<Fetched, FetchError> {
        let endpoint = &self.0.endpoint;
        let fetched = outgoing.get(endpoint, MAX_SET_BYTES).await;
        match fetched.and_then(|body| KeySet::parse(&body).map_err(FetchError::Unfit)) {
            Ok(set) => {
                tracing::info!(%endpoint, keys = set.len(), skipped = set.skipped(), "token keys fetched");
                self.put(set);
                Ok(Fetched)
            }
            Err(error) => {
                tracing::warn!(%endpoint, %error, "token keys could not be fetched");
                Err(error)
            }
        }
    }

    fn put(&self, set: KeySet) {
        let mut state = self.state();
        state.unknown.retain(|kid| !set.has(kid));
        state.set = Some((Arc::new(set), Instant::now()));
        state.fetches += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can stop half-way, so a poisoned state is whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jwks").field(&self.0.endpoint).finish()
    }
}

#[cfg(test)]
mod tests;
