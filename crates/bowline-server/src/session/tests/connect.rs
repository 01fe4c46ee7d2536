//! Authentication and what the connect reply says.

use super::*;

#[tokio::test]
async fn an_anonymous_client_connects_where_it_is_allowed() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    let result = client.ask("connect", json!({})).await;
    assert_eq!(result["client"].as_str(), Some(client.id()));
    assert_eq!(client.id().len(), 36);
    assert_eq!(result["version"], crate::node::VERSION);
    assert_eq!((&result["ping"], &result["pong"]), (&json!(25), &json!(true)));
    for absent in ["expires", "ttl", "session", "node", "subs", "data"] {
        assert!(result.get(absent).is_none(), "{absent}");
    }
    assert_eq!((node.stats().clients, node.stats().users), (1, 1));
}

#[tokio::test]
async fn a_client_without_credentials_is_refused_where_they_are_needed() {
    let node = node(|config| config.client.allow_anonymous_connect_without_token = false);
    assert_eq!(Client::open(&node).disconnect("connect", json!({})).await, 3501);
    assert_eq!(node.stats().clients, 0);
}

#[tokio::test]
async fn insecure_mode_lets_everyone_in() {
    let node = node(|config| {
        config.client.allow_anonymous_connect_without_token = false;
        config.client.insecure = true;
    });
    Client::open(&node).ask("connect", json!({})).await;
}

#[tokio::test]
async fn a_token_that_expires_is_to_be_refreshed() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    let claims = json!({"sub": "42", "exp": from_now(60)});
    let result = client.ask("connect", json!({"token": token(claims)})).await;
    assert_eq!(result["expires"], true);
    let ttl = result["ttl"].as_u64().unwrap();
    assert!((59..=60).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_lifetime_is_cut_to_a_year() {
    let node = node(|_| {});
    let claims = json!({"sub": "42", "exp": from_now(10 * 365 * 24 * 3600)});
    let result = Client::open(&node).ask("connect", json!({"token": token(claims)})).await;
    assert_eq!(result["ttl"], 365 * 24 * 3600);
}

#[tokio::test]
async fn insecure_mode_ignores_when_a_token_expires() {
    let node = node(|config| config.client.insecure = true);
    let claims = json!({"sub": "42", "exp": from_now(60)});
    let result = Client::open(&node).ask("connect", json!({"token": token(claims)})).await;
    assert!(result.get("expires").is_none());
}

#[tokio::test]
async fn an_invalid_token_is_not_argued_with() {
    let node = node(|config| config.client.insecure = true);
    let mut client = Client::open(&node);
    assert_eq!(client.disconnect("connect", json!({"token": "no.such.token"})).await, 3500);
    assert!(client.received().is_empty(), "no error reply");
}

#[tokio::test]
async fn an_expired_token_gets_an_error_and_leaves_a_useless_connection() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    let expired = token(json!({"sub": "42", "exp": from_now(-10)}));
    assert_eq!(client.error("connect", json!({"token": expired})).await, 109);
    assert_eq!(node.stats().clients, 0);
    assert_eq!(client.disconnect("connect", json!({})).await, 3501);
}

#[tokio::test]
async fn credentials_that_have_run_out_get_110() {
    let node = node(|_| {});
    let token = token(json!({"sub": "42", "expire_at": from_now(-10)}));
    assert_eq!(Client::open(&node).error("connect", json!({"token": token})).await, 110);
}

#[tokio::test]
async fn information_no_message_can_carry_is_refused_where_it_enters() {
    let node = node(|_| {});
    let token = token(json!({"sub": "42", "b64info": "AP8="}));
    assert_eq!(Client::open(&node).disconnect("connect", json!({"token": token})).await, 3506);
}

#[tokio::test]
async fn connections_are_limited_per_user_and_for_the_node() {
    let node = node(|config| {
        config.client.user_connection_limit = std::num::NonZeroUsize::new(1);
        config.client.connection_limit = std::num::NonZeroUsize::new(2);
    });
    let first = Client::of(&node, "42").await;
    let again = json!({"token": token(json!({"sub": "42"}))});
    assert_eq!(Client::open(&node).disconnect("connect", again.clone()).await, 3504);
    let _other = Client::of(&node, "43").await;
    assert_eq!(Client::open(&node).disconnect("connect", json!({})).await, 3504);
    drop(first);
    Client::open(&node).ask("connect", again).await;
}

#[tokio::test]
async fn an_emulated_transport_learns_its_session_and_node() {
    let node = node(|_| {});
    let mut client = Client::over(&node, Transport::SSE);
    let result = client.ask("connect", json!({})).await;
    assert_eq!(result["node"], node.uid());
    assert_ne!(result["session"], result["client"]);
    assert_eq!(result["session"].as_str().map(str::len), Some(36));
}

#[tokio::test]
async fn the_time_of_the_server_is_told_if_it_is_to_be() {
    let silent = Client::open(&node(|_| {})).ask("connect", json!({})).await;
    assert_eq!(silent["time"], Value::Null);
    let node = node(|config| config.client.connect_include_server_time = true);
    let told = Client::open(&node).ask("connect", json!({})).await;
    let now = unix_now() as i64 * 1000;
    assert!((now - 60_000..=now + 60_000).contains(&told["time"].as_i64().unwrap()), "{told}");
}
