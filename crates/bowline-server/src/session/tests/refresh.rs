//! New tokens for connections and subscriptions.

use super::*;

async fn expiring(node: &Arc<Node>) -> Client {
    let mut client = Client::open(node);
    client.ask("connect", json!({"token": token(json!({"sub": "42", "exp": from_now(60)}))})).await;
    client
}

fn refresh(claims: Value) -> Value {
    json!({"token": token(claims)})
}

#[tokio::test]
async fn a_new_token_sets_a_new_expiry() {
    let node = node(|_| {});
    let mut client = expiring(&node).await;
    let result = client.ask("refresh", refresh(json!({"sub": "42", "exp": from_now(600)}))).await;
    assert_eq!(result["expires"], true);
    assert!((599..=600).contains(&result["ttl"].as_u64().unwrap()));
    let result = client.ask("refresh", refresh(json!({"sub": "42"}))).await;
    assert_eq!(result, json!({}), "for ever");
}

#[tokio::test]
async fn a_refresh_that_cannot_be_granted_closes_the_connection() {
    let node = node(|_| {});
    for (claims, code) in [
        (json!({"sub": "43", "exp": from_now(600)}), 3500),
        (json!({"sub": "42", "exp": from_now(-1)}), 3005),
        (json!({"sub": "42", "expire_at": from_now(-1)}), 3005),
        (json!({"sub": "42", "channels": ["news"]}), 3010),
    ] {
        let mut client = expiring(&node).await;
        assert_eq!(client.disconnect("refresh", refresh(claims.clone())).await, code, "{claims}");
    }
    assert_eq!(expiring(&node).await.disconnect("refresh", json!({"token": "no.such.token"})).await, 3500);
}

#[tokio::test]
async fn a_refresh_of_a_connection_without_token_is_not_expected() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    assert_eq!(client.disconnect("refresh", refresh(json!({"sub": ""}))).await, 3501);
}

#[tokio::test]
async fn the_order_of_server_side_channels_does_not_matter() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    let claims = json!({"sub": "42", "channels": ["a", "b"]});
    client.ask("connect", json!({"token": token(claims)})).await;
    client.ask("subscribe", json!({"channel": "own"})).await;
    client.ask("refresh", refresh(json!({"sub": "42", "subs": {"b": {}, "a": {}}}))).await;
    let fewer = refresh(json!({"sub": "42", "channels": ["a"]}));
    assert_eq!(client.disconnect("refresh", fewer).await, 3010);
}

async fn subscribed(node: &Arc<Node>) -> Client {
    let mut client = Client::of(node, "42").await;
    let claims = json!({"sub": "42", "channel": "a", "exp": from_now(60)});
    client.ask("subscribe", json!({"channel": "a", "token": token(claims)})).await;
    client
}

fn sub_refresh(claims: Value) -> Value {
    json!({"channel": "a", "token": token(claims)})
}

#[tokio::test]
async fn a_new_subscription_token_sets_a_new_expiry() {
    let node = node(|_| {});
    let mut client = subscribed(&node).await;
    let claims = json!({"sub": "42", "channel": "a", "exp": from_now(600)});
    let result = client.ask("sub_refresh", sub_refresh(claims)).await;
    assert_eq!(result["expires"], true);
    assert!((599..=600).contains(&result["ttl"].as_u64().unwrap()));
}

#[tokio::test]
async fn an_expired_token_extends_nothing() {
    let node = node(|_| {});
    let mut client = subscribed(&node).await;
    let expired = sub_refresh(json!({"sub": "42", "channel": "a", "exp": from_now(-1)}));
    assert_eq!(client.error("sub_refresh", expired).await, 109);
    let run_out = sub_refresh(json!({"sub": "42", "channel": "a", "expire_at": from_now(-1)}));
    assert_eq!(client.error("sub_refresh", run_out).await, 110);
    assert!(client.session.next_deadline() < tokio::time::Instant::now() + Duration::from_secs(90));
}

#[tokio::test]
async fn a_sub_refresh_needs_a_subscription_and_a_token_for_it() {
    let node = node(|_| {});
    let mut client = subscribed(&node).await;
    let other = json!({"channel": "b", "token": token(json!({"sub": "42", "channel": "b"}))});
    assert_eq!(client.error("sub_refresh", other).await, 103);
    assert_eq!(client.error("sub_refresh", json!({"channel": "a", "token": ""})).await, 107);
    let track = json!({"channel": "a", "token": "t", "type": 1});
    assert_eq!(client.error("sub_refresh", track).await, 108);
    for claims in [json!({"sub": "43", "channel": "a"}), json!({"sub": "42", "channel": "b"})] {
        let mut client = subscribed(&node).await;
        assert_eq!(client.disconnect("sub_refresh", sub_refresh(claims.clone())).await, 3500, "{claims}");
    }
    let invalid = json!({"channel": "a", "token": "no.such.token"});
    assert_eq!(client.disconnect("sub_refresh", invalid).await, 3500);
}
