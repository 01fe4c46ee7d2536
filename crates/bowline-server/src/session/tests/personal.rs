//! The channel of its own that every user gets.

use super::*;

fn with_personal(change: impl FnOnce(&mut Config)) -> Arc<Node> {
    node(|config| {
        config.client.subscribe_to_user_personal_channel.enabled = true;
        change(config);
    })
}

async fn subs(node: &Arc<Node>, request: Value) -> (Client, Value) {
    let mut client = Client::open(node);
    let result = client.ask("connect", request).await;
    (client, result["subs"].clone())
}

#[tokio::test]
async fn a_user_is_subscribed_to_the_channel_of_its_name_and_an_anonymous_one_to_none() {
    let node = with_personal(|_| {});
    let (client, given) = subs(&node, json!({"token": token(json!({"sub": "42"}))})).await;
    assert_eq!(given, json!({"#42": {}}));
    publish(&node, "#42", json!("hello"));
    assert_eq!(client.publications(), ["hello"]);
    assert_eq!(subs(&node, json!({})).await.1, Value::Null);
}

#[tokio::test]
async fn the_namespace_of_personal_channels_gives_them_its_options() {
    let node = with_personal(|config| {
        config.client.subscribe_to_user_personal_channel.personal_channel_namespace =
            Some("own".parse().unwrap());
        add_namespace(config, "own", |options| {
            with_history(options);
            options.force_recovery = true;
            options.join_leave = true;
            options.force_push_join_leave = true;
        });
    });
    publish(&node, "own:#42", json!(1));
    let connect = json!({
        "token": token(json!({"sub": "42", "channels": ["news"]})),
        "subs": {"own:#42": {"recover": true}},
    });
    let (client, given) = subs(&node, connect).await;
    assert_eq!(given["news"], json!({}));
    assert_eq!(given["own:#42"]["publications"][0]["data"], 1);
    let joined = client.pushes().remove(0);
    assert_eq!((&joined["channel"], &joined["join"]["info"]["user"]), (&json!("own:#42"), &json!("42")));
}

#[tokio::test]
async fn a_token_may_say_more_about_the_personal_channel() {
    let node = with_personal(|_| {});
    let claims = json!({"sub": "42", "subs": {"#42": {"data": {"x": 1}}}});
    let (_client, given) = subs(&node, json!({"token": token(claims)})).await;
    assert_eq!(given, json!({"#42": {"data": {"x": 1}}}));
}

#[tokio::test]
async fn a_new_token_need_not_name_what_the_server_gave_besides() {
    let node = with_personal(|_| {});
    let claims = json!({"sub": "42", "channels": ["a"], "exp": from_now(60)});
    let (mut client, _) = subs(&node, json!({"token": token(claims)})).await;
    let target = crate::node::Target::default();
    node.subscribe("42", "news", &target, &Default::default()).unwrap();
    client.received();
    let same = json!({"sub": "42", "channels": ["a"], "exp": from_now(600)});
    client.ask("refresh", json!({"token": token(same)})).await;
    let fewer = json!({"sub": "42", "exp": from_now(600)});
    assert_eq!(client.disconnect("refresh", json!({"token": token(fewer)})).await, 3010);
}

#[tokio::test]
async fn the_newest_connection_of_a_user_takes_the_place_of_the_others() {
    let node =
        with_personal(|config| config.client.subscribe_to_user_personal_channel.single_connection = true);
    let (first, other) = (Client::of(&node, "42").await, Client::of(&node, "43").await);
    let second = Client::of(&node, "42").await;
    assert_eq!(first.outbox.disconnect(), Some(Disconnect::CONNECTION_LIMIT));
    assert!(!second.outbox.is_closed() && !other.outbox.is_closed());
}
