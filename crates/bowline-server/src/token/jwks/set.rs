//! A key set as it is read: keys that are fit for verifying tokens, by their `kid`.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::super::key::Key;
use crate::config::PublicKey;

/// Keys of the largest set; a larger one is no key set of a provider.
const MAX_KEYS: usize = 256;

/// Keys by their `kid`.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: HashMap<Box<str>, Key>,
    skipped: usize,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

/// The members of a key that say what it is (RFC 7517, RFC 7518, RFC 8037).
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that are not for verifying tokens, or of a kind that is not known here, are skipped.
    pub(super) fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let raw: RawSet = serde_json::from_slice(body).map_err(|_| "it is not a JSON Web Key Set")?;
        if raw.keys.len() > MAX_KEYS {
            return Err("it has too many keys");
        }
        let mut set = Self { keys: HashMap::new(), skipped: 0 };
        for raw in raw.keys {
            let read = serde_json::from_value::<RawKey>(raw).ok().and_then(RawKey::read);
            // Of two keys with one name the first stays: a later one must not take its place.
            match read {
                Some((kid, key)) if !set.has(&kid) => drop(set.keys.insert(kid, key)),
                _ => set.skipped += 1,
            }
        }
        if set.keys.is_empty() { Err("it has no key that is fit for verifying tokens") } else { Ok(set) }
    }

    pub(super) fn find(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    pub(super) fn has(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }
}

impl RawKey {
    fn read(self) -> Option<(Box<str>, Key)> {
        let Self { kty, kid, purpose, alg, crv, n, e, x, y } = self;
        if purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let coordinate = |text, length: usize| bytes(text).filter(|bytes| bytes.len() == length);
        let point =
            |length| Some([&[4][..], &coordinate(x.clone(), length)?, &coordinate(y, length)?].concat());
        // A symmetric key ("oct") in a set that anybody can fetch would be no secret.
        let key = match (kty.as_str(), crv.as_deref()) {
            ("RSA", _) => PublicKey::rsa(&bytes(n)?, &bytes(e)?),
            ("EC", Some("P-256")) => PublicKey::p256(point(32)?),
            ("EC", Some("P-384")) => PublicKey::p384(point(48)?),
            ("OKP", Some("Ed25519")) => PublicKey::ed25519(&bytes(x)?),
            _ => None,
        }?;
        let key = Key::public(&key);
        let key = match alg {
            Some(alg) => key.only(&alg)?,
            None => key,
        };
        Some((kid.filter(|kid| !kid.is_empty())?.into(), key))
    }
}
