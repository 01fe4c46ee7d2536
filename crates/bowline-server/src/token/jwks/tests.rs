//! Key sets without a socket: what is a key of them, and what a token gets that names one.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const P256: &[u8] = include_bytes!("../tests/keys/p256.private.der");
const ED25519: &[u8] = include_bytes!("../tests/keys/ed25519.private.der");

/// The public members of the test keys.
fn p256(more: Value) -> Value {
    let pem = include_str!("../tests/keys/p256.pem");
    let crate::config::PublicKey::P256(point) = crate::config::PublicKey::from_pem(pem).unwrap() else {
        panic!("a key on P-256")
    };
    merged(json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])}), more)
}

fn ed25519(more: Value) -> Value {
    let pem = include_str!("../tests/keys/ed25519.pem");
    let crate::config::PublicKey::Ed25519(key) = crate::config::PublicKey::from_pem(pem).unwrap() else {
        panic!("an Ed25519 key")
    };
    merged(json!({"kty": "OKP", "crv": "Ed25519", "x": text(&key)}), more)
}

fn text(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn merged(mut key: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

fn set(keys: Value) -> Result<KeySet, &'static str> {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
}

fn keys() -> Jwks {
    Jwks::new("https://id.example/keys".parse().unwrap())
}

#[test]
fn keys_of_other_purposes_and_kinds_are_skipped() {
    let read = set(json!([
        p256(json!({"kid": "a", "use": "sig", "alg": "ES256"})),
        ed25519(json!({"kid": "b"})),
        p256(json!({"kid": "encryption", "use": "enc"})),
        p256(json!({"kid": "other algorithm", "alg": "RS256"})),
        p256(json!({"kid": "unknown curve", "crv": "secp256k1"})),
        p256(json!({"kid": "short", "x": "AAAA"})),
        ed25519(json!({"kid": "short too", "x": "AAAA"})),
        json!({"kty": "oct", "kid": "symmetric", "k": "c2VjcmV0", "alg": "HS256"}),
        json!({"kty": "RSA", "kid": "short rsa", "n": "AQAB", "e": "AQAB"}),
        p256(json!({})),
        json!("no key"),
    ]))
    .unwrap();
    assert_eq!((read.len(), read.skipped()), (2, 9));
    assert!(read.has("a") && read.has("b"));
}

#[test]
fn a_later_key_does_not_take_the_name_of_an_earlier_one() {
    let read = set(json!([p256(json!({"kid": "a"})), ed25519(json!({"kid": "a"}))])).unwrap();
    assert!(read.find("a").unwrap().is_for(Algorithm::ES256));
}

#[test]
fn what_is_no_key_set_is_refused() {
    for body in ["", "{}", "[]", "null", r#"{"keys":1}"#, r#"{"keys":[]}"#, "<html>"] {
        assert!(KeySet::parse(body.as_bytes()).is_err(), "{body}");
    }
    let many: Vec<_> = (0..300).map(|kid| ed25519(json!({"kid": kid.to_string()}))).collect();
    assert!(set(json!(many)).is_err());
}

#[test]
fn an_unknown_key_is_a_reason_to_come_back_until_a_fetch_has_shown_that_it_is_nobodys() {
    let keys = keys();
    assert!(keys.wants("a"));
    assert_eq!(keys.key("a").err(), Some(TokenError::KeysUnavailable));
    keys.put(set(json!([ed25519(json!({"kid": "a"}))])).unwrap());
    assert!(keys.key("a").is_ok() && !keys.wants("a") && keys.wants("b"));
    assert_eq!(keys.key("b").err(), Some(TokenError::KeysUnavailable));
    keys.state().unknown.insert("b".into());
    assert!(matches!(keys.key("b"), Err(TokenError::Invalid { .. })));
    // The next fetch brings it.
    keys.put(set(json!([ed25519(json!({"kid": "b"}))])).unwrap());
    assert!(keys.key("b").is_ok() && keys.key("a").is_err(), "what is taken back is gone");
    let long = "k".repeat(MAX_KID_BYTES + 1);
    assert!(!keys.wants(&long), "nothing is fetched for it");
    assert!(matches!(keys.key(&long), Err(TokenError::Invalid { .. })));
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_renewed_for_a_day_verify_nothing() {
    let keys = keys();
    keys.put(set(json!([ed25519(json!({"kid": "a"}))])).unwrap());
    tokio::time::advance(RENEW_AFTER).await;
    assert!(keys.wants("a") && keys.key("a").is_ok(), "old, and still used");
    tokio::time::advance(MAX_AGE).await;
    assert_eq!(keys.key("a").err(), Some(TokenError::KeysUnavailable));
}

#[test]
fn a_token_is_verified_with_the_key_it_names_and_no_other() {
    let mut client = crate::config::Client::default();
    client.token.jwks_public_endpoint = Some("https://id.example/keys".parse().unwrap());
    client.token.hmac_secret_key = crate::config::Secret::new("0123456789abcdef0123456789abcdef");
    let verifier = super::super::TokenVerifier::from_config(&client);
    let fetched = set(json!([p256(json!({"kid": "a"})), ed25519(json!({"kid": "b"}))])).unwrap();
    verifier.connection.jwks.as_ref().unwrap().put(fetched);
    let verify = |algorithm, kid: Option<&str>, key: &EncodingKey| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        let token = jsonwebtoken::encode(&header, &json!({"sub": "42"}), key).unwrap();
        verifier.verify_connection(&token, 1).map(|claims| claims.user)
    };
    let (p256, ed25519) = (EncodingKey::from_ec_der(P256), EncodingKey::from_ed_der(ED25519));
    assert_eq!(verify(Algorithm::ES256, Some("a"), &p256), Ok("42".to_owned()));
    assert_eq!(verify(Algorithm::EdDSA, Some("b"), &ed25519), Ok("42".to_owned()));
    // A good signature under the name of another key, and the secret of this server under the name of a public one.
    assert!(matches!(verify(Algorithm::EdDSA, Some("a"), &ed25519), Err(TokenError::Invalid { .. })));
    let secret = EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
    assert!(matches!(verify(Algorithm::HS256, Some("a"), &secret), Err(TokenError::Invalid { .. })));
    // Without a name it is for the keys of the settings.
    assert_eq!(verify(Algorithm::HS256, None, &secret), Ok("42".to_owned()));
    assert!(matches!(verify(Algorithm::EdDSA, None, &ed25519), Err(TokenError::Invalid { .. })));
    // The keys of one section are not those of the other: both name the same endpoint.
    let header = Header { kid: Some("b".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let token = jsonwebtoken::encode(&header, &json!({"sub": "42", "channel": "a"}), &ed25519).unwrap();
    assert_eq!(verifier.verify_subscription(&token, 1).err(), Some(TokenError::KeysUnavailable));
}
