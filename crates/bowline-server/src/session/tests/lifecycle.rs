//! What may be sent when, and what a connection leaves behind.

use super::*;

#[tokio::test]
async fn the_first_command_is_connect() {
    let node = node(|_| {});
    let channel = json!({"channel": "news"});
    for (name, request) in [
        ("subscribe", channel.clone()),
        ("unsubscribe", channel.clone()),
        ("publish", json!({"channel": "news", "data": {}})),
        ("presence", channel.clone()),
        ("presence_stats", channel.clone()),
        ("history", channel),
        ("ping", json!({})),
        ("rpc", json!({"method": "m"})),
        ("refresh", json!({"token": "t"})),
        ("sub_refresh", json!({"channel": "news", "token": "t"})),
        ("send", json!({"data": {}})),
    ] {
        let mut client = Client::open(&node);
        assert_eq!(client.disconnect(name, request).await, 3501, "{name}");
        assert!(client.received().is_empty(), "{name}");
    }
    assert_eq!(Client::open(&node).send(r#"{"send":{"data":{}}}"#).await, Err(Disconnect::BAD_REQUEST));
}

#[tokio::test]
async fn a_second_connect_breaks_the_protocol() {
    let node = node(|_| {});
    assert_eq!(Client::anonymous(&node).await.disconnect("connect", json!({})).await, 3501);
}

#[tokio::test]
async fn what_cannot_be_decoded_breaks_the_protocol() {
    let node = node(|_| {});
    for frame in [
        "",
        "\n\n",
        "{",
        "[]",
        "null",
        "text",
        r#"{"id":1}"#,
        r#"{"id":1,"unknown":{}}"#,
        r#"{"id":-1,"ping":{}}"#,
    ] {
        let mut client = Client::anonymous(&node).await;
        assert_eq!(client.send(frame).await, Err(Disconnect::BAD_REQUEST), "{frame}");
    }
    let mut client = Client::anonymous(&node).await;
    assert_eq!(client.session.feed(&[0xff, 0xfe]), Err(Disconnect::BAD_REQUEST));
}

#[tokio::test]
async fn empty_required_fields_break_the_protocol() {
    let node = node(|_| {});
    for name in
        ["subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"]
    {
        let mut client = Client::anonymous(&node).await;
        assert_eq!(client.disconnect(name, json!({"channel": "", "data": {}})).await, 3501, "{name}");
    }
    assert_eq!(Client::of(&node, "42").await.disconnect("refresh", json!({"token": ""})).await, 3501);
}

#[tokio::test]
async fn commands_of_one_frame_run_in_order_also_with_connect() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    let frame = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n\
                 {\"id\":3,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":4,\"unsubscribe\":{\"channel\":\"a\"}}\n";
    client.send(frame).await.unwrap();
    let replies = client.received();
    let ids: Vec<_> = replies.iter().map(|reply| reply["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert_eq!(replies[2]["error"], json!({"code": 105, "message": "already subscribed"}));
    assert_eq!(replies[3], json!({"id": 4, "unsubscribe": {}}));
}

#[tokio::test]
async fn a_frame_ends_at_the_command_that_breaks_the_protocol() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    let frame = "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":3,\"connect\":{}}\n\
                 {\"id\":4,\"subscribe\":{\"channel\":\"b\"}}";
    assert_eq!(client.send(frame).await, Err(Disconnect::BAD_REQUEST));
    assert_eq!(client.received().len(), 1);
    assert_eq!(node.channels(""), [("a".to_owned(), 1)].into());
}

#[tokio::test]
async fn ping_and_send_are_not_available() {
    let node = node(|_| {});
    assert_eq!(Client::anonymous(&node).await.error("ping", json!({})).await, 108);
    let mut client = Client::anonymous(&node).await;
    assert_eq!(client.send(r#"{"send":{"data":{}}}"#).await, Err(Disconnect::NOT_AVAILABLE));
    assert_eq!(Client::anonymous(&node).await.disconnect("send", json!({"data": {}})).await, 3508);
}

#[tokio::test]
async fn calls_have_no_answer_but_the_ping_that_is_switched_on() {
    let off = node(|_| {});
    let mut client = Client::anonymous(&off).await;
    for method in ["ping", "any", "ns:any"] {
        assert_eq!(client.error("rpc", json!({"method": method, "data": {}})).await, 108, "{method}");
    }
    let on = node(|config| {
        config.rpc.ping.enabled = true;
        let name = "ns".parse().unwrap();
        config.rpc.namespaces.push(crate::config::RpcNamespace { name, options: Default::default() });
    });
    let mut client = Client::anonymous(&on).await;
    assert_eq!(client.ask("rpc", json!({"method": "ping"})).await, json!({"data": {}}));
    assert_eq!(client.error("rpc", json!({"method": "ns:any"})).await, 108);
    assert_eq!(client.error("rpc", json!({"method": "other:any"})).await, 104);
}

#[tokio::test]
async fn a_dropped_session_leaves_nothing_behind() {
    let node = node_with(|options| {
        options.presence = true;
        options.join_leave = true;
        options.force_push_join_leave = true;
    });
    let mut other = Client::anonymous(&node).await;
    other.ask("subscribe", json!({"channel": "a"})).await;
    let mut client = Client::of(&node, "42").await;
    for channel in ["a", "b"] {
        client.ask("subscribe", json!({"channel": channel})).await;
    }
    let id = client.id().to_owned();
    other.pushes();
    client.session.close();

    let leave = json!([{"channel": "a", "leave": {"info": {"user": "42", "client": id}}}]);
    assert_eq!(json!(other.pushes()), leave);
    assert_eq!(node.channels(""), [("a".to_owned(), 1)].into());
    assert_eq!(node.presence("a").unwrap().len(), 1);
    let stats = node.stats();
    assert_eq!((stats.clients, stats.users, stats.channels, stats.subscriptions), (1, 1, 1, 1));
    assert_eq!(stats.disconnects, [(3000, 1)].into());
}

#[tokio::test]
async fn a_panic_while_a_session_is_held_cleans_up_too() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = client;
        panic!("a bug in the connection's task");
    }));
    assert!(panicked.is_err());
    let stats = node.stats();
    assert_eq!((stats.clients, stats.channels, stats.subscriptions), (0, 0, 0));
}

#[tokio::test]
async fn the_server_api_closes_connections_of_a_user() {
    let node = node(|_| {});
    let (kept, gone) = (Client::of(&node, "42").await, Client::of(&node, "42").await);
    let mut other = Client::of(&node, "43").await;
    let target = crate::node::Target { whitelist: vec![kept.id().to_owned()], ..Default::default() };
    assert_eq!(node.disconnect("42", &target, &Disconnect::FORCE_DISCONNECT), 1);
    assert_eq!(gone.outbox.disconnect(), Some(Disconnect::FORCE_DISCONNECT));
    assert!(!kept.outbox.is_closed() && !other.outbox.is_closed());
    assert_eq!(node.disconnect("nobody", &Default::default(), &Disconnect::FORCE_DISCONNECT), 0);

    node.disconnect_all(&Disconnect::SHUTDOWN);
    assert_eq!(kept.outbox.disconnect(), Some(Disconnect::SHUTDOWN));
    assert_eq!(other.command("ping", json!({})).await, Err(Disconnect::SHUTDOWN));
    drop((kept, gone, other));
    assert_eq!(node.stats().disconnects, [(3001, 2), (3503, 1)].into());
}

#[tokio::test]
async fn messages_and_errors_are_counted() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    client.error("subscribe", json!({"channel": "a"})).await;
    publish(&node, "a", json!(1));
    let stats = node.stats();
    assert_eq!((stats.messages_in, stats.messages_out, stats.publications), (3, 4, 1));
    assert_eq!(stats.errors, [(105, 1)].into());
}
