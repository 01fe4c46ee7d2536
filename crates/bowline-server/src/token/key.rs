//! A key and the algorithms it is for. What a token's header says only chooses among them.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use crate::config::{PublicKey, Secret};

/// A key with the algorithms of its kind. Its `Debug` output is redacted.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) key: DecodingKey,
    pub(super) validation: Validation,
}

impl Key {
    /// The key of HS256, HS384 and HS512.
    pub(super) fn hmac(secret: &Secret) -> Self {
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        Self::new(key, &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512])
    }

    /// A public key, whose kind fixes the algorithms.
    pub(super) fn public(key: &PublicKey) -> Self {
        match key {
            PublicKey::Rsa { modulus, exponent } => Self::new(
                DecodingKey::from_rsa_raw_components(modulus, exponent),
                &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512],
            ),
            PublicKey::P256(point) => Self::new(DecodingKey::from_ec_der(point), &[Algorithm::ES256]),
            PublicKey::P384(point) => Self::new(DecodingKey::from_ec_der(point), &[Algorithm::ES384]),
            PublicKey::Ed25519(key) => Self::new(DecodingKey::from_ed_der(key), &[Algorithm::EdDSA]),
        }
    }

    /// Leaves of the algorithms the one called `name`; `None` if the key is not for it.
    pub(super) fn only(mut self, name: &str) -> Option<Self> {
        let algorithm: Algorithm = name.parse().ok()?;
        if !self.is_for(algorithm) {
            return None;
        }
        self.validation.algorithms = vec![algorithm];
        Some(self)
    }

    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.validation.algorithms.contains(&algorithm)
    }

    fn new(key: DecodingKey, algorithms: &[Algorithm]) -> Self {
        let mut validation = Validation { algorithms: algorithms.to_vec(), ..Validation::default() };
        // The crate looks at the signature only. Its clock cannot be passed in, and it takes claims of a wrong
        // type for absent where they are not required; `Registered` is stricter.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Self { key, validation }
    }
}
