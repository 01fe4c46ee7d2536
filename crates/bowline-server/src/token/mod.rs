//! Tokens: the JSON Web Tokens with which a back end says who a client is and what it may subscribe to.
//!
//! ```
//! use bowline_server::config::{Client, Secret};
//! use bowline_server::token::{self, TokenVerifier};
//!
//! let mut settings = Client::default();
//! settings.token.hmac_secret_key = Secret::new("a secret of thirty-two bytes ....");
//! let secret = settings.token.hmac_secret_key.as_ref().unwrap();
//! let token = token::mint(secret, &serde_json::json!({"sub": "42", "exp": 1_900_000_000}))?;
//!
//! let verifier = TokenVerifier::from_config(&settings);
//! let claims = verifier.verify_connection(&token, 1_800_000_000)?;
//! assert_eq!((claims.user.as_str(), claims.expire_at), ("42", Some(1_900_000_000)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//!
//! 1. Each key is for the algorithms of its kind and no others. The token's header chooses among the configured keys; it
//!    never brings one.
//! 2. No claim is looked at before the signature holds.
//! 3. A claim of a wrong type makes the token invalid; it is never taken for absent. `exp` may be absent, and
//!    then the token does not expire; present, it must be a time.
//! 4. Neither the key nor the token stands in an error or in `Debug` output.

mod claims;
pub(crate) mod jwks;
mod key;
mod mint;

use std::future::Future;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use serde_json::value::RawValue;

pub use claims::{ConnectionClaims, Overrides, ServerSubscription, SubscriptionClaims};
pub use mint::{MintError, mint};

use crate::config::{ClaimName, Client, Pattern, Token};
use crate::outgoing::Outgoing;
use claims::{Audience, Registered};
use jwks::Jwks;
use key::Key;

/// Seconds by which the clocks of back end and server may differ: none.
///
/// A connection ends in the second its token names, and a grace here would let a client in that is closed at
/// once. Back ends that set `nbf` should set it some seconds into the past.
pub const LEEWAY_SECONDS: u64 = 0;

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is not one of ours, or is malformed. A connection is closed with 3500; the same token never works.
    Invalid {
        /// What is wrong with it, for the log.
        why: &'static str,
    },
    /// The token has expired or is not valid yet: error 109, and the client comes back with a new one.
    Expired,
    /// The keys to verify it with could not be fetched, or not yet: a temporary error 100, and the client tries again.
    KeysUnavailable,
}

impl TokenError {
    fn invalid(why: &'static str) -> Self {
        Self::Invalid { why }
    }
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid { why } => write!(f, "invalid token: {why}"),
            Self::Expired => f.write_str("token expired"),
            Self::KeysUnavailable => f.write_str("the keys to verify the token with are not there"),
        }
    }
}

impl std::error::Error for TokenError {}

/// Verifies tokens with the keys of the settings.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    connection: Checks,
    subscription: Checks,
}

impl TokenVerifier {
    /// Makes the verifier of `client.token` and `client.subscription_token`.
    ///
    /// Without a key every token is invalid.
    #[must_use]
    pub fn from_config(client: &Client) -> Self {
        Self {
            connection: Checks::new(&client.token),
            subscription: Checks::new(client.token_for_subscriptions()),
        }
    }

    /// Starts the tasks that fetch keys, in `owner`, if the settings name endpoints to fetch them from.
    pub(crate) fn start(&self, owner: &impl bowline::Owner) {
        let endpoints: Vec<_> =
            [&self.connection, &self.subscription].into_iter().flat_map(|checks| &checks.jwks).collect();
        if endpoints.is_empty() {
            return;
        }
        let outgoing = Outgoing::new();
        endpoints.into_iter().for_each(|keys| keys.start(owner, &outgoing));
    }

    /// What is to be waited for before a token can be verified: the key it names, if that is not there.
    ///
    /// Most tokens need nothing, and then nothing is allocated.
    pub(crate) fn missing_key(
        &self,
        kind: Kind,
        token: &str,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let checks = match kind {
            Kind::Connection => &self.connection,
            Kind::Subscription => &self.subscription,
        };
        let keys = checks.jwks.as_ref()?;
        let kid = jsonwebtoken::decode_header(token).ok()?.kid.filter(|kid| keys.wants(kid))?;
        let keys = keys.clone();
        Some(async move { keys.prepare(&kid).await })
    }

    /// Verifies the token of a connect or refresh command at the time `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`TokenError`]: the client may come back with another token only if it is [`Expired`](TokenError::Expired).
    pub fn verify_connection(&self, token: &str, now: u64) -> Result<ConnectionClaims, TokenError> {
        let (user, registered, payload) = self.connection.verify(token, now)?;
        ConnectionClaims::parse(user, &registered, &payload)
    }

    /// Verifies the token of a subscribe or sub_refresh command at the time `now`, in seconds since 1970.
    ///
    /// That the user, the channel and the client are those of the command is for the caller to compare.
    ///
    /// # Errors
    ///
    /// [`TokenError`]: the client may come back with another token only if it is [`Expired`](TokenError::Expired).
    pub fn verify_subscription(&self, token: &str, now: u64) -> Result<SubscriptionClaims, TokenError> {
        let (user, registered, payload) = self.subscription.verify(token, now)?;
        SubscriptionClaims::parse(user, &registered, &payload)
    }
}

/// The time in milliseconds since 1970.
pub(crate) fn unix_now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Subscription,
}

/// Returns the time that tokens are verified at, in seconds since 1970.
#[must_use]
pub fn unix_now() -> u64 {
    // A clock before 1970 is broken; every token with an `exp` is then still valid, as it would be in 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The keys, and what else must hold.
#[derive(Debug, Clone)]
struct Checks {
    /// At most one for each algorithm.
    keys: Vec<Key>,
    /// Where a token that names its key has it from.
    jwks: Option<Jwks>,
    audience: Option<Expected>,
    issuer: Option<Expected>,
    user_claim: Option<ClaimName>,
}

/// What a claim must be.
#[derive(Debug, Clone)]
enum Expected {
    Exactly(String),
    Matching(Pattern),
}

impl Expected {
    fn of(exact: Option<&String>, pattern: Option<&Pattern>) -> Option<Self> {
        match (exact, pattern) {
            (Some(exact), _) => Some(Self::Exactly(exact.clone())),
            (None, Some(pattern)) => Some(Self::Matching(pattern.clone())),
            (None, None) => None,
        }
    }

    fn accepts(&self, claim: &str) -> bool {
        match self {
            Self::Exactly(exact) => exact == claim,
            Self::Matching(pattern) => pattern.is_match(claim),
        }
    }
}

impl Checks {
    fn new(settings: &Token) -> Self {
        let public = [
            settings.rsa_public_key.as_ref().map(|key| key.key()),
            settings.ecdsa_public_key.as_ref().map(|key| key.key()),
            settings.ed25519_public_key.as_ref().map(|key| key.key()),
        ];
        Self {
            keys: settings
                .hmac_secret_key
                .iter()
                .map(Key::hmac)
                .chain(public.into_iter().flatten().map(Key::public))
                .collect(),
            jwks: settings.jwks_public_endpoint.clone().map(Jwks::new),
            audience: Expected::of(settings.audience.as_ref(), settings.audience_regex.as_ref()),
            issuer: Expected::of(settings.issuer.as_ref(), settings.issuer_regex.as_ref()),
            user_claim: settings.user_id_claim.clone(),
        }
    }

    /// Checks the signature and the claims that all tokens share; returns the user, these claims and the payload.
    fn verify(&self, token: &str, now: u64) -> Result<(String, Registered, Box<RawValue>), TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| {
            TokenError::invalid("it is not a JSON Web Token of an algorithm this server knows")
        })?;
        let fetched;
        let is_for = |key: &&Key| key.is_for(header.alg);
        let found = match (&self.jwks, &header.kid) {
            (Some(keys), Some(kid)) => {
                fetched = keys.key(kid)?;
                Some(&fetched).filter(is_for)
            }
            _ => self.keys.iter().find(is_for),
        };
        let Some(Key { key, validation }) = found else {
            return Err(TokenError::invalid("no key is configured for its algorithm"));
        };
        let verified = jsonwebtoken::decode::<Box<RawValue>>(token, key, validation)
            .map_err(|error| TokenError::invalid(reason(error.kind())))?;
        if verified.header.crit.is_some() {
            // RFC 7515, section 4.1.11: extensions that must be understood, and none is.
            return Err(TokenError::invalid("the header has critical extensions"));
        }
        let payload = verified.claims;
        let registered = Registered::parse(&payload)?;
        self.audience(&registered)?;
        self.issuer(&registered)?;
        let user = match &self.user_claim {
            Some(name) => claims::text_claim(&payload, name)?,
            None => registered.sub.clone().unwrap_or_default(),
        };
        // Last: the client of an expired token is told to come back, so it must be right in all else.
        registered.check_time(now)?;
        Ok((user, registered, payload))
    }

    fn audience(&self, registered: &Registered) -> Result<(), TokenError> {
        let accepted = match (&self.audience, &registered.aud) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(expected), Some(Audience::One(audience))) => expected.accepts(audience),
            (Some(expected), Some(Audience::Several(audiences))) => {
                audiences.iter().any(|audience| expected.accepts(audience))
            }
        };
        if accepted { Ok(()) } else { Err(TokenError::invalid("`aud` is not the audience of this server")) }
    }

    fn issuer(&self, registered: &Registered) -> Result<(), TokenError> {
        let accepted = match (&self.issuer, &registered.iss) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(expected), Some(issuer)) => expected.accepts(issuer),
        };
        if accepted { Ok(()) } else { Err(TokenError::invalid("`iss` is not an issuer of this server")) }
    }
}

/// Says why the signature could not be verified, without a word from the token.
fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "the signature is wrong",
        _ => "it is not a JSON Web Token",
    }
}

#[cfg(test)]
mod tests;
