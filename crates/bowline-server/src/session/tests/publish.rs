//! The publish command.

use super::*;
use crate::config::DataFormat;

fn open(options: &mut ChannelOptions) {
    options.allow_publish_for_client = true;
    options.allow_publish_for_anonymous = true;
}

#[tokio::test]
async fn subscribers_get_a_publication_with_its_publisher_and_the_publisher_too() {
    let node = node_with(open);
    let (mut publisher, mut other) = (Client::of(&node, "42").await, Client::anonymous(&node).await);
    for client in [&mut publisher, &mut other] {
        client.ask("subscribe", json!({"channel": "a"})).await;
    }
    publisher.command("publish", json!({"channel": "a", "data": {"b": [1, 2]}})).await.unwrap();
    let expected = json!({"channel": "a", "pub": {
        "data": {"b": [1, 2]}, "info": {"user": "42", "client": publisher.id()},
    }});
    assert_eq!(other.pushes(), std::slice::from_ref(&expected));
    let received = publisher.received();
    assert_eq!(received, [json!({"push": expected}), json!({"id": 3, "publish": {}})]);
}

#[tokio::test]
async fn a_publication_carries_what_tokens_say_about_its_publisher() {
    let node = node_with(open);
    let mut publisher = Client::open(&node);
    let connect = token(json!({"sub": "42", "info": {"name": "Ada"}}));
    publisher.ask("connect", json!({"token": connect})).await;
    let subscribe = token(json!({"sub": "42", "channel": "a", "info": ["chair"]}));
    publisher.ask("subscribe", json!({"channel": "a", "token": subscribe})).await;
    let mut other = Client::anonymous(&node).await;
    for channel in ["a", "b"] {
        other.ask("subscribe", json!({"channel": channel})).await;
        publisher.command("publish", json!({"channel": channel, "data": 1})).await.unwrap();
    }
    let pushes = other.pushes();
    assert_eq!(pushes[0]["pub"]["info"]["conn_info"], json!({"name": "Ada"}));
    assert_eq!(pushes[0]["pub"]["info"]["chan_info"], json!(["chair"]));
    assert_eq!(pushes[1]["pub"]["info"]["conn_info"], json!({"name": "Ada"}));
    assert!(pushes[1]["pub"]["info"].get("chan_info").is_none(), "not subscribed there");
}

#[tokio::test]
async fn publishing_needs_a_right() {
    let nobody = node(|_| {});
    let request = json!({"channel": "a", "data": 1});
    assert_eq!(Client::of(&nobody, "42").await.error("publish", request.clone()).await, 103);

    let clients = node_with(|options| options.allow_publish_for_client = true);
    Client::of(&clients, "42").await.ask("publish", request.clone()).await;
    assert_eq!(Client::anonymous(&clients).await.error("publish", request.clone()).await, 103);

    let subscribers = node_with(|options| options.allow_publish_for_subscriber = true);
    let mut client = Client::of(&subscribers, "42").await;
    assert_eq!(client.error("publish", request.clone()).await, 103);
    client.ask("subscribe", json!({"channel": "a"})).await;
    client.command("publish", request.clone()).await.unwrap();
    assert_eq!(client.received().last().unwrap()["publish"], json!({}));
    client.ask("unsubscribe", json!({"channel": "a"})).await;
    assert_eq!(client.error("publish", request.clone()).await, 103);

    let insecure = node(|config| config.client.insecure = true);
    Client::anonymous(&insecure).await.ask("publish", request).await;
}

#[tokio::test]
async fn channels_of_other_users_are_not_published_into() {
    let node = node_with(|options| {
        open(options);
        options.allow_user_limited_channels = true;
    });
    let request = json!({"channel": "dialog#42,43", "data": 1});
    assert_eq!(Client::of(&node, "44").await.error("publish", request.clone()).await, 103);
    Client::of(&node, "43").await.ask("publish", request).await;
}

#[tokio::test]
async fn names_and_data_are_checked() {
    let node = node(|config| {
        open(&mut config.channel.without_namespace);
        add_namespace(config, "json", |options| {
            open(options);
            options.publication_data_format = Some(DataFormat::Json);
        });
        add_namespace(config, "object", |options| {
            open(options);
            options.publication_data_format = Some(DataFormat::JsonObject);
        });
        add_namespace(config, "binary", |options| {
            open(options);
            options.publication_data_format = Some(DataFormat::Binary);
        });
    });
    let mut client = Client::of(&node, "42").await;
    for (request, code) in [
        (json!({"channel": "none:a", "data": 1}), 102),
        (json!({"channel": "ä", "data": 1}), 107),
        (json!({"channel": "x".repeat(256), "data": 1}), 107),
        (json!({"channel": "a"}), 107),
        (json!({"channel": "a", "data": null}), 107),
        (json!({"channel": "json:a"}), 107),
        (json!({"channel": "object:a", "data": [1]}), 107),
        (json!({"channel": "a", "data": 1, "type": 1}), 108),
    ] {
        assert_eq!(client.error("publish", request.clone()).await, code, "{request}");
    }
    for request in [
        json!({"channel": "json:a", "data": [1]}),
        json!({"channel": "object:a", "data": {}}),
        json!({"channel": "binary:a"}),
    ] {
        client.ask("publish", request).await;
    }
}

#[tokio::test]
async fn kept_publications_carry_their_offset_and_the_first_its_epoch() {
    let node = node_with(|options| {
        open(options);
        with_history(options);
    });
    let mut client = Client::of(&node, "42").await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    for number in 1..=2 {
        client.command("publish", json!({"channel": "a", "data": number})).await.unwrap();
    }
    let received = client.received();
    let (first, second) = (&received[0]["push"]["pub"], &received[2]["push"]["pub"]);
    assert_eq!((&first["offset"], &second["offset"]), (&json!(1), &json!(2)));
    assert_eq!(first["epoch"].as_str().map(str::len), Some(8));
    assert!(second.get("epoch").is_none());
}

#[tokio::test]
async fn data_no_json_message_can_carry_closes_json_clients() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    let data = Payload::opaque(&b"\xff not JSON"[..]);
    node.publish("a", &PublishParams { data, ..PublishParams::default() }).now().unwrap();
    assert_eq!(client.outbox.disconnect(), Some(Disconnect::INAPPROPRIATE_PROTOCOL));
    let deliveries = node.stats().deliveries;
    assert_eq!((deliveries.accepted, deliveries.refused["inexpressible"]), (1, 1));
}
