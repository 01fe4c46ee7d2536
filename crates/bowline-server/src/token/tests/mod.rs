//! What a token must and must not do.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

mod keys;

use super::*;
use crate::config::Secret;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

fn secret(key: &str) -> Secret {
    Secret::new(key).expect("not empty")
}

fn settings() -> Client {
    let mut client = Client::default();
    client.token.hmac_secret_key = Some(secret(KEY));
    client
}

fn signed(claims: &Value) -> String {
    mint(&secret(KEY), claims).expect("an object")
}

/// Signs the payload as it is written, for what `json!` cannot say.
fn signed_text(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(KEY.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signs");
    format!("{message}.{signature}")
}

fn connection(claims: &Value) -> Result<ConnectionClaims, TokenError> {
    TokenVerifier::from_config(&settings()).verify_connection(&signed(claims), NOW)
}

fn subscription(claims: &Value) -> Result<SubscriptionClaims, TokenError> {
    TokenVerifier::from_config(&settings()).verify_subscription(&signed(claims), NOW)
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T, TokenError>) {
    assert!(matches!(result, Err(TokenError::Invalid { .. })), "{result:?}");
}

#[test]
fn a_connection_token_says_who_connects() {
    let claims = connection(&json!({
        "sub": "42", "exp": NOW + 60, "iat": NOW - 1, "jti": "t1",
        "info": {"name": "Ada"}, "meta": {"tenant": 7}, "channels": ["news", "chat:1"],
    }))
    .expect("valid");
    assert_eq!(claims.user, "42");
    assert_eq!(claims.expire_at, Some(NOW + 60));
    assert_eq!(claims.issued_at, Some(NOW - 1));
    assert_eq!(claims.id.as_deref(), Some("t1"));
    assert_eq!(claims.info, Some(Bytes::from_static(br#"{"name":"Ada"}"#)));
    assert_eq!(claims.meta, Some(Bytes::from_static(br#"{"tenant":7}"#)));
    assert_eq!(claims.subscriptions.keys().collect::<Vec<_>>(), ["chat:1", "news"]);
}

#[test]
fn an_empty_token_is_an_anonymous_user_for_ever() {
    let claims = connection(&json!({})).expect("valid");
    assert_eq!((claims.user.as_str(), claims.expire_at), ("", None));
    assert!(claims.subscriptions.is_empty());
}

#[test]
fn subs_carry_options_and_win_over_channels() {
    let claims = connection(&json!({
        "sub": "42", "channels": ["ignored"],
        "subs": {
            "news": {"info": 1, "data": {"a": [1, 2]}, "override": {"presence": {"value": true}, "join_leave": {}}},
            "plain": {}, "null": null,
        },
    }))
    .expect("valid");
    assert_eq!(claims.subscriptions.len(), 3);
    let news = &claims.subscriptions["news"];
    assert_eq!(news.info, Some(Bytes::from_static(b"1")));
    assert_eq!(news.data, Some(Bytes::from_static(br#"{"a":[1,2]}"#)));
    let overrides = Overrides { presence: Some(true), join_leave: Some(false), ..Overrides::default() };
    assert_eq!(news.overrides, overrides);
    assert_eq!(claims.subscriptions["plain"], ServerSubscription::default());
}

#[test]
fn a_subscription_token_names_its_channel() {
    let claims = subscription(&json!({
        "sub": "42", "channel": "$private", "client": "c1", "exp": NOW + 1, "expire_at": 0,
        "data": [1], "override": {"force_recovery": {"value": true}},
    }))
    .expect("valid");
    assert_eq!((claims.user.as_str(), claims.channel.as_str()), ("42", "$private"));
    assert_eq!(claims.client.as_deref(), Some("c1"));
    assert_eq!(claims.expire_at, None, "expire_at 0 is never");
    assert_eq!(claims.data, Some(Bytes::from_static(b"[1]")));
    assert_eq!(claims.overrides.force_recovery, Some(true));
    assert_invalid(subscription(&json!({"sub": "42"})));
    assert_invalid(subscription(&json!({"sub": "42", "channel": ""})));
}

#[test]
fn a_subscription_token_opens_no_connection() {
    assert_invalid(connection(&json!({"sub": "42", "channel": "news"})));
    assert!(connection(&json!({"sub": "42", "channel": ""})).is_ok());
}

#[test]
fn the_base64_twin_wins() {
    let claims = connection(&json!({"info": {"a": 1}, "b64info": "AP8="})).expect("valid");
    assert_eq!(claims.info, Some(Bytes::from_static(&[0, 255])));
    let claims = subscription(&json!({"channel": "a", "data": 1, "b64data": ""})).expect("valid");
    assert_eq!(claims.data, Some(Bytes::from_static(b"1")));
    assert_invalid(connection(&json!({"b64info": "not base64!"})));
    assert_invalid(connection(&json!({"subs": {"a": {"b64data": "%"}}})));
}

#[test]
fn a_token_expires_in_the_second_it_names() {
    assert!(connection(&json!({"exp": NOW + 1})).is_ok());
    for exp in [NOW, NOW - 1, 0] {
        assert_eq!(connection(&json!({"exp": exp})).err(), Some(TokenError::Expired), "{exp}");
    }
    assert_eq!(subscription(&json!({"channel": "a", "exp": NOW})).err(), Some(TokenError::Expired));
}

#[test]
fn a_token_is_not_valid_before_its_time() {
    assert!(connection(&json!({"nbf": NOW})).is_ok());
    assert_eq!(connection(&json!({"nbf": NOW + 1})).err(), Some(TokenError::Expired));
}

#[test]
fn expire_at_tells_the_connection_from_the_token() {
    let expiry = |claims: &Value| connection(claims).expect("valid").expire_at;
    assert_eq!(expiry(&json!({"exp": NOW + 5, "expire_at": NOW + 500})), Some(NOW + 500));
    assert_eq!(expiry(&json!({"exp": NOW + 5, "expire_at": 0})), None);
    assert_eq!(expiry(&json!({"expire_at": NOW - 5})), Some(NOW - 5), "the token itself does not expire");
    assert_eq!(connection(&json!({"exp": NOW, "expire_at": 0})).err(), Some(TokenError::Expired));
}

#[test]
fn a_time_of_a_wrong_type_is_never_taken_for_absent() {
    for claim in ["exp", "nbf", "iat", "expire_at"] {
        for value in
            ["\"9999999999\"", "-1", "-0.5", "1e300", "18446744073709551616", "null", "true", "[]", "{}"]
        {
            let token = signed_text(r#"{"alg":"HS256"}"#, &format!(r#"{{"sub":"42","{claim}":{value}}}"#));
            let result = TokenVerifier::from_config(&settings()).verify_connection(&token, NOW);
            assert_invalid(result);
        }
    }
}

#[test]
fn fractions_of_a_second_count_against_the_bearer() {
    let expiry = |claims: &Value| connection(claims).map(|claims| claims.expire_at);
    let now = NOW as f64;
    assert_eq!(expiry(&json!({"exp": now + 1.9})), Ok(Some(NOW + 1)));
    assert_eq!(expiry(&json!({"exp": now + 0.9})), Err(TokenError::Expired));
    assert_eq!(expiry(&json!({"nbf": now + 0.1})), Err(TokenError::Expired));
}

#[test]
fn other_claims_of_a_wrong_type_make_a_token_invalid() {
    for claims in [
        json!({"sub": 42}),
        json!({"aud": 1}),
        json!({"iss": ["a"]}),
        json!({"jti": 1}),
        json!({"channels": "news"}),
        json!({"channels": [1]}),
        json!({"channels": [""]}),
        json!({"subs": ["news"]}),
        json!({"subs": {"": {}}}),
        json!({"subs": {"news": {"override": {"presence": true}}}}),
        json!({"channel": ["a"]}),
        json!({"b64info": 1}),
    ] {
        assert_invalid(connection(&claims));
    }
    assert_invalid(subscription(&json!({"channel": 1})));
    assert_invalid(subscription(&json!({"channel": "a", "client": 1})));
}

#[test]
fn a_claim_that_stands_twice_makes_a_token_invalid() {
    let payload = format!(r#"{{"sub":"42","exp":{},"exp":{}}}"#, NOW - 1, NOW + 60);
    let token = signed_text(r#"{"alg":"HS256"}"#, &payload);
    assert_invalid(TokenVerifier::from_config(&settings()).verify_connection(&token, NOW));
}

#[test]
fn every_hmac_algorithm_is_accepted() {
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(KEY.as_bytes());
        let token =
            jsonwebtoken::encode(&Header::new(algorithm), &json!({"sub": "42"}), &key).expect("signs");
        assert!(
            TokenVerifier::from_config(&settings()).verify_connection(&token, NOW).is_ok(),
            "{algorithm:?}"
        );
    }
}

#[test]
fn other_algorithms_are_refused_whatever_the_signature() {
    for algorithm in ["none", "None", "NONE", "", "RS256", "ES256", "EdDSA", "PS256", "hs256", "HS1"] {
        let token = signed_text(&format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#), r#"{"sub":"42"}"#);
        assert_invalid(TokenVerifier::from_config(&settings()).verify_connection(&token, NOW));
        let (message, _) = token.rsplit_once('.').expect("three parts");
        let unsigned = format!("{message}.");
        assert_invalid(TokenVerifier::from_config(&settings()).verify_connection(&unsigned, NOW));
    }
}

#[test]
fn critical_extensions_are_refused() {
    let token = signed_text(r#"{"alg":"HS256","crit":["b64"],"b64":true}"#, r#"{"sub":"42"}"#);
    assert_invalid(TokenVerifier::from_config(&settings()).verify_connection(&token, NOW));
}

#[test]
fn another_key_or_a_changed_byte_is_refused() {
    let verifier = TokenVerifier::from_config(&settings());
    let other = mint(&secret("another key of thirty-two bytes ..."), &json!({"sub": "42"})).expect("signs");
    assert_eq!(
        verifier.verify_connection(&other, NOW).err(),
        Some(TokenError::Invalid { why: "the signature is wrong" })
    );

    let token = signed(&json!({"sub": "42"}));
    let [header, _, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"sub":"43"}"#));
    assert_invalid(verifier.verify_connection(&forged, NOW));
    assert!(verifier.verify_connection(&token, NOW).is_ok());
}

#[test]
fn without_a_key_every_token_is_invalid() {
    let verifier = TokenVerifier::from_config(&Client::default());
    assert_invalid(verifier.verify_connection(&signed(&json!({"sub": "42"})), NOW));
    let empty =
        jsonwebtoken::encode(&Header::default(), &json!({"sub": "42"}), &EncodingKey::from_secret(b""));
    assert_invalid(verifier.verify_connection(&empty.expect("signs"), NOW));
}

#[test]
fn a_signature_that_fails_is_not_told_from_an_expired_one() {
    // An expired token with a wrong signature must not learn more than any other forgery.
    let token = mint(&secret("another key"), &json!({"exp": 1})).expect("signs");
    assert_invalid(TokenVerifier::from_config(&settings()).verify_connection(&token, NOW));
}

#[test]
fn subscriptions_may_have_their_own_key() {
    let mut client = settings();
    client.subscription_token.token.hmac_secret_key = Some(secret("a key for subscriptions only ...."));
    let own = mint(&secret("a key for subscriptions only ...."), &json!({"channel": "a"})).expect("signs");
    let common = signed(&json!({"channel": "a"}));

    let verifier = TokenVerifier::from_config(&client);
    assert!(verifier.verify_subscription(&common, NOW).is_ok(), "not enabled");
    client.subscription_token.enabled = true;
    let verifier = TokenVerifier::from_config(&client);
    assert_invalid(verifier.verify_subscription(&common, NOW));
    assert!(verifier.verify_subscription(&own, NOW).is_ok());
    assert!(verifier.verify_connection(&signed(&json!({})), NOW).is_ok());
}

#[test]
fn audience_and_issuer_are_checked_if_they_are_configured() {
    let with = |change: fn(&mut Token), claims: &Value| {
        let mut client = settings();
        change(&mut client.token);
        TokenVerifier::from_config(&client).verify_connection(&signed(claims), NOW).is_ok()
    };
    let exact: fn(&mut Token) = |token| token.audience = Some("app".to_owned());
    assert!(with(exact, &json!({"aud": "app"})));
    assert!(with(exact, &json!({"aud": ["other", "app"]})));
    assert!(!with(exact, &json!({"aud": ["other"]})) && !with(exact, &json!({"aud": []})));
    assert!(!with(exact, &json!({"aud": "apps"})) && !with(exact, &json!({})));
    let regex: fn(&mut Token) = |token| token.audience_regex = "^app-[0-9]+$".parse().ok();
    assert!(with(regex, &json!({"aud": "app-7"})) && !with(regex, &json!({"aud": "my-app-7x"})));

    let exact: fn(&mut Token) = |token| token.issuer = Some("https://id.example".to_owned());
    assert!(with(exact, &json!({"iss": "https://id.example"})));
    assert!(!with(exact, &json!({"iss": "https://id.example.evil"})) && !with(exact, &json!({})));
    let regex: fn(&mut Token) = |token| token.issuer_regex = "^https://".parse().ok();
    assert!(with(regex, &json!({"iss": "https://a"})) && !with(regex, &json!({"iss": "http://a"})));

    assert!(with(|_| {}, &json!({"aud": "anything", "iss": "anybody"})), "not configured");
}

#[test]
fn the_user_may_stand_in_another_claim() {
    let mut client = settings();
    client.token.user_id_claim = "user_id".parse().ok();
    let verifier = TokenVerifier::from_config(&client);
    let claims =
        verifier.verify_connection(&signed(&json!({"sub": "x", "user_id": "42"})), NOW).expect("valid");
    assert_eq!(claims.user, "42");
    assert_invalid(verifier.verify_connection(&signed(&json!({"sub": "x"})), NOW));
    assert_invalid(verifier.verify_connection(&signed(&json!({"user_id": 42})), NOW));
}

#[test]
fn debug_shows_neither_key_nor_token() {
    let verifier = TokenVerifier::from_config(&settings());
    assert!(!format!("{verifier:?}").contains(KEY));
    let bytes: Vec<_> = KEY.bytes().map(|b| b.to_string()).collect();
    assert!(!format!("{verifier:?}").contains(&bytes.join(", ")));
    let error = verifier.verify_connection("not-a-token", NOW).expect_err("malformed");
    assert!(!format!("{error} {error:?}").contains("not-a-token"));
}

#[test]
fn what_is_no_token_is_refused() {
    let verifier = TokenVerifier::from_config(&settings());
    for text in ["", ".", "..", "...", "a.b.c", "a.b.c.d.e", "é.é.é", "{}", &".".repeat(1000)] {
        assert_invalid(verifier.verify_connection(text, NOW));
    }
    for payload in ["", "null", "[]", "1", "\"text\"", "{", "{} {}"] {
        assert_invalid(verifier.verify_connection(&signed_text(r#"{"alg":"HS256"}"#, payload), NOW));
    }
}

proptest! {
    #[test]
    fn no_input_panics(text in "[ -~]{0,64}", payload in "[ -~]{0,64}") {
        let verifier = TokenVerifier::from_config(&settings());
        prop_assert!(verifier.verify_connection(&text, NOW).is_err());
        // Signed, so that the payload is reached.
        let _ = verifier.verify_connection(&signed_text(r#"{"alg":"HS256"}"#, &payload), NOW);
    }

    #[test]
    fn a_token_without_one_of_its_characters_is_refused(at in 0_usize..500) {
        let mut token = signed(&json!({"sub": "42", "exp": NOW + 60}));
        let at = at % token.len();
        token.remove(at);
        prop_assert!(TokenVerifier::from_config(&settings()).verify_connection(&token, NOW).is_err());
    }
}
