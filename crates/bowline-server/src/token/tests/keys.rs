//! Public keys: which algorithm goes with which key, and what is no key. The private halves are for these tests alone.

use super::*;
use crate::config::PublicKey;

struct Pair {
    public: &'static str,
    private: EncodingKey,
    algorithms: &'static [Algorithm],
}

fn rsa() -> Pair {
    Pair {
        public: include_str!("keys/rsa.pem"),
        private: EncodingKey::from_rsa_der(include_bytes!("keys/rsa.private.der")),
        algorithms: &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512],
    }
}

fn p256() -> Pair {
    Pair {
        public: include_str!("keys/p256.pem"),
        private: EncodingKey::from_ec_der(include_bytes!("keys/p256.private.der")),
        algorithms: &[Algorithm::ES256],
    }
}

fn p384() -> Pair {
    Pair {
        public: include_str!("keys/p384.pem"),
        private: EncodingKey::from_ec_der(include_bytes!("keys/p384.private.der")),
        algorithms: &[Algorithm::ES384],
    }
}

fn ed25519() -> Pair {
    Pair {
        public: include_str!("keys/ed25519.pem"),
        private: EncodingKey::from_ed_der(include_bytes!("keys/ed25519.private.der")),
        algorithms: &[Algorithm::EdDSA],
    }
}

/// Settings with public keys alone.
fn with_keys(change: impl FnOnce(&mut Token)) -> TokenVerifier {
    let mut client = Client::default();
    change(&mut client.token);
    TokenVerifier::from_config(&client)
}

fn with_all() -> TokenVerifier {
    with_keys(|token| {
        token.rsa_public_key = Some(rsa().public.parse().unwrap());
        token.ecdsa_public_key = Some(p256().public.parse().unwrap());
        token.ed25519_public_key = Some(ed25519().public.parse().unwrap());
    })
}

fn sign(pair: &Pair, algorithm: Algorithm) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), &json!({"sub": "42"}), &pair.private).unwrap()
}

#[test]
fn each_public_key_verifies_the_algorithms_of_its_kind() {
    let p384_verifier = with_keys(|token| token.ecdsa_public_key = Some(p384().public.parse().unwrap()));
    for (verifier, pair) in
        [(with_all(), rsa()), (with_all(), p256()), (with_all(), ed25519()), (p384_verifier, p384())]
    {
        for &algorithm in pair.algorithms {
            let token = sign(&pair, algorithm);
            let claims = verifier.verify_connection(&token, NOW);
            assert_eq!(claims.map(|claims| claims.user), Ok("42".to_owned()), "{algorithm:?}");
            let mut forged = token.into_bytes();
            let at = forged.len() - 20;
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_invalid(verifier.verify_connection(std::str::from_utf8(&forged).unwrap(), NOW));
        }
    }
    let pkcs1 = with_keys(|token| {
        token.rsa_public_key = Some(include_str!("keys/rsa.pkcs1.pem").parse().unwrap());
    });
    assert!(pkcs1.verify_connection(&sign(&rsa(), Algorithm::RS256), NOW).is_ok());
}

/// RFC 8725, section 2.1: a server that takes its public key for the secret of HS256 lets everybody in, since the key is
/// public.
#[test]
fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
    let pairs = [rsa(), p256(), ed25519()];
    for pair in &pairs {
        for secret in [pair.public.as_bytes(), pair.public.trim().as_bytes()] {
            let forged = jsonwebtoken::encode(
                &Header::new(Algorithm::HS256),
                &json!({"sub": "42"}),
                &EncodingKey::from_secret(secret),
            );
            assert_eq!(
                with_all().verify_connection(&forged.unwrap(), NOW),
                Err(TokenError::Invalid { why: "no key is configured for its algorithm" })
            );
        }
    }
}

#[test]
fn a_key_is_not_asked_about_the_algorithms_of_another() {
    // Each token is good, and its header names an algorithm of another key.
    for (pair, claimed) in [(rsa(), "ES256"), (p256(), "RS256"), (ed25519(), "HS256"), (rsa(), "EdDSA")] {
        let token = sign(&pair, pair.algorithms[0]);
        let (_, rest) = token.split_once('.').unwrap();
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{claimed}"}}"#));
        assert_invalid(with_all().verify_connection(&format!("{header}.{rest}"), NOW));
    }
    // PSS is RSA too, and not among the algorithms of the protocol.
    assert_invalid(with_all().verify_connection(&sign(&rsa(), Algorithm::PS256), NOW));
}

#[test]
fn a_key_that_the_token_brings_along_is_not_looked_at() {
    let stranger = EncodingKey::from_secret(b"a key of the attacker's own choice .");
    let mut header = Header::new(Algorithm::HS256);
    header.jku = Some("https://attacker.example/keys".to_owned());
    header.x5u = Some("https://attacker.example/cert".to_owned());
    header.kid = Some("../../dev/null".to_owned());
    let token = jsonwebtoken::encode(&header, &json!({"sub": "42"}), &stranger).unwrap();
    assert_invalid(TokenVerifier::from_config(&settings()).verify_connection(&token, NOW));
    assert_invalid(with_all().verify_connection(&token, NOW));
}

#[test]
fn a_key_of_another_kind_or_too_short_is_no_setting() {
    use crate::config::{EcdsaPublicKey, Ed25519PublicKey, RsaPublicKey};
    assert!(p256().public.parse::<RsaPublicKey>().is_err());
    assert!(rsa().public.parse::<EcdsaPublicKey>().is_err());
    assert!(p256().public.parse::<Ed25519PublicKey>().is_err());
    assert!(include_str!("keys/rsa1024.pem").parse::<RsaPublicKey>().is_err(), "1024 bits");
    assert!(include_str!("keys/p521.pem").parse::<EcdsaPublicKey>().is_err(), "no ES512 here");
    // A private key is no public one, and must not be kept in a setting that is shown.
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----";
    assert!(private.parse::<Ed25519PublicKey>().is_err());
}

proptest! {
    #[test]
    fn no_bytes_are_a_key_that_panics(bytes in proptest::collection::vec(any::<u8>(), 96), cut in 0_usize..97) {
        let bytes = &bytes[..cut];
        let whole = |length: usize| bytes.iter().copied().cycle().take(if bytes.is_empty() { 0 } else { length });
        let point = |length| [4].into_iter().chain(whole(length)).collect::<Vec<u8>>();
        for key in [
            PublicKey::rsa(&whole(256).collect::<Vec<_>>(), &[1, 0, 1]),
            PublicKey::p256(point(64)),
            PublicKey::p384(point(96)),
            PublicKey::ed25519(&whole(32).collect::<Vec<_>>()),
            PublicKey::ed25519(bytes),
        ] {
            let Some(key) = key else { continue };
            let key = Key::public(&key);
            let algorithm = key.validation.algorithms[0];
            // The point may lie on no curve: an error, never a panic.
            let signature = URL_SAFE_NO_PAD.encode([7; 64]);
            let _ = jsonwebtoken::crypto::verify(&signature, b"message", &key.key, algorithm);
        }
    }
}
