//! Subscriptions the server makes, from the connection's token.

use super::*;

async fn connect(node: &Arc<Node>, request: Value) -> (Client, Value) {
    let mut client = Client::open(node);
    client.command("connect", request).await.expect("connected");
    let mut replies = client.received().into_iter();
    let reply = replies.next().expect("a reply");
    assert!(reply["connect"].is_object(), "{reply}");
    let rest: Vec<_> = replies.collect();
    (client, json!({"connect": reply["connect"], "rest": rest}))
}

#[tokio::test]
async fn channels_of_the_token_are_subscribed_whatever_the_options_say() {
    let node = node_with(|options| {
        options.allow_subscribe_for_client = false;
        options.presence = true;
        options.join_leave = true;
        options.force_push_join_leave = true;
    });
    let claims = json!({"sub": "42", "subs": {"$a": {"data": {"x": 1}, "info": ["i"]}, "b": {}}});
    let (mut client, replies) = connect(&node, json!({"token": token(claims)})).await;
    assert_eq!(replies["connect"]["subs"], json!({"$a": {"data": {"x": 1}}, "b": {}}));
    let joins = replies["rest"].as_array().unwrap();
    assert_eq!(joins.len(), 2, "after the reply: {replies}");
    assert_eq!(joins[0]["push"]["join"]["info"]["chan_info"], json!(["i"]));
    publish(&node, "$a", json!(1));
    assert_eq!(client.publications(), [1]);
    assert_eq!(client.error("subscribe", json!({"channel": "b"})).await, 105);
    assert_eq!(node.presence("b").unwrap().len(), 1);
}

#[tokio::test]
async fn an_unknown_channel_in_the_token_is_an_error_and_leaves_no_trace() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    let claims = json!({"sub": "42", "channels": ["a", "none:b"]});
    assert_eq!(client.error("connect", json!({"token": token(claims)})).await, 102);
    let stats = node.stats();
    assert_eq!((stats.clients, stats.channels, stats.subscriptions), (0, 0, 0));
    assert_eq!(client.disconnect("ping", json!({})).await, 3501);
}

#[tokio::test]
async fn more_channels_than_allowed_close_the_connection() {
    let node = node(|config| config.client.channel_limit = std::num::NonZeroUsize::MIN);
    let claims = json!({"sub": "42", "channels": ["a", "b"]});
    assert_eq!(Client::open(&node).disconnect("connect", json!({"token": token(claims)})).await, 3505);
}

#[tokio::test]
async fn positions_in_the_connect_request_are_recovered() {
    let node = node_with(|options| {
        with_history(options);
        options.force_recovery = true;
    });
    for number in 1..=3 {
        publish(&node, "a", json!(number));
    }
    let request = json!({
        "token": token(json!({"sub": "42", "channels": ["a", "b"]})),
        "subs": {"a": {"recover": true, "offset": 1}, "stranger": {"recover": true}},
    });
    let (client, replies) = connect(&node, request).await;
    let subs = &replies["connect"]["subs"];
    assert_eq!(subs.as_object().unwrap().len(), 2);
    assert_eq!(subs["a"]["recovered"], true);
    assert_eq!(subs["a"]["publications"][1], json!({"data": 3, "offset": 3}));
    assert_eq!(subs["b"]["positioned"], true);
    publish(&node, "a", json!(4));
    assert_eq!(client.publications(), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_position_closes_the_connection() {
    let node = node_with(|options| {
        with_history(options);
        options.force_positioning = true;
        options.history_meta_ttl = seconds(10);
    });
    let claims = json!({"sub": "42", "channels": ["a"]});
    let (client, _) = connect(&node, json!({"token": token(claims)})).await;
    publish(&node, "a", json!(1));
    client.received();
    // The stream is forgotten, so the next publication is the first of another.
    tokio::time::advance(Duration::from_secs(11)).await;
    publish(&node, "a", json!(2));
    assert_eq!(client.outbox.disconnect(), Some(Disconnect::INSUFFICIENT_STATE));
    assert!(client.received().is_empty(), "no unsubscribe push");
}

#[tokio::test]
async fn the_server_may_take_back_what_it_gave() {
    let node = node(|_| {});
    let claims = json!({"sub": "42", "channels": ["a"]});
    let (client, _) = connect(&node, json!({"token": token(claims)})).await;
    let code = bowline_protocol::UnsubscribeCode::SERVER;
    node.unsubscribe("42", "a", &Default::default(), &code).unwrap();
    assert_eq!(client.pushes()[0]["unsubscribe"]["code"], 2000);
}
