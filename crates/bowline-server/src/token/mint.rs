//! Making tokens: for the command line and for tests. Back ends make theirs with a JWT library of their own.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::config::Secret;

/// The claims could not be written as a JSON object.
#[derive(Debug)]
pub struct MintError(jsonwebtoken::errors::Error);

impl std::fmt::Display for MintError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the claims of the token cannot be written as JSON")
    }
}

impl std::error::Error for MintError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Signs `claims` with `secret` as an HS256 token.
///
/// # Errors
///
/// [`MintError`] if the claims cannot be serialised.
pub fn mint(secret: &Secret, claims: &impl Serialize) -> Result<String, MintError> {
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).map_err(MintError)
}
