//! What back ends do to the connections of a user.

use bowline_protocol::StreamPosition;

use super::*;
use crate::node::{RefreshParams, SubscribeParams, Target};
use crate::token::Overrides;

fn json_payload(value: Value) -> Payload {
    Payload::from_json(value.to_string()).unwrap()
}

fn subscribe(node: &Arc<Node>, channel: &str, params: &SubscribeParams) -> Result<usize, u32> {
    node.subscribe("42", channel, &Target::default(), params).map_err(|error| error.code)
}

#[tokio::test]
async fn a_back_end_subscribes_every_connection_of_a_user_and_each_is_told() {
    let node = node_with(|options| {
        options.presence = true;
        options.join_leave = true;
        options.force_push_join_leave = true;
    });
    let (first, second, other) =
        (Client::of(&node, "42").await, Client::of(&node, "42").await, Client::of(&node, "43").await);
    let params = SubscribeParams {
        info: json_payload(json!({"role": "guest"})),
        data: json_payload(json!({"x": 1})),
        ..SubscribeParams::default()
    };
    assert_eq!(subscribe(&node, "news", &params), Ok(2));
    for client in [&first, &second] {
        let pushes = client.pushes();
        assert_eq!(pushes[0], json!({"channel": "news", "subscribe": {"data": {"x": 1}}}));
        assert!(
            pushes[1..].iter().all(|push| push["join"]["info"]["chan_info"]["role"] == "guest"),
            "{pushes:?}"
        );
    }
    assert!(other.received().is_empty());
    publish(&node, "news", json!(1));
    assert_eq!((first.publications(), second.publications()), (vec![json!(1)], vec![json!(1)]));
    assert_eq!(node.presence("news").unwrap().len(), 2);
    assert_eq!(subscribe(&node, "news", &params), Ok(0), "again is no error and does nothing");
    assert!(first.received().is_empty());
}

#[tokio::test]
async fn one_connection_is_named_by_its_id_and_ends_by_the_server_or_with_the_connection() {
    let node = node(|_| {});
    let (first, second) = (Client::of(&node, "42").await, Client::of(&node, "42").await);
    let target = Target { client: first.id().to_owned(), ..Target::default() };
    assert_eq!(node.subscribe("42", "news", &target, &SubscribeParams::default()), Ok(1));
    assert!(second.received().is_empty());
    first.received();
    let code = bowline_protocol::UnsubscribeCode::SERVER;
    assert_eq!(node.unsubscribe("42", "news", &Target::default(), &code), Ok(1));
    assert_eq!(first.pushes()[0]["unsubscribe"]["code"], 2000);
    assert_eq!(node.subscribe("42", "news", &target, &SubscribeParams::default()), Ok(1), "anew");
    drop(first);
    assert_eq!((node.stats().subscriptions, node.stats().channels), (0, 0));
}

#[tokio::test]
async fn a_client_cannot_subscribe_to_what_the_server_gave_and_the_limit_holds() {
    let node = node(|config| config.client.channel_limit = std::num::NonZeroUsize::MIN);
    let mut client = Client::of(&node, "42").await;
    assert_eq!(subscribe(&node, "news", &SubscribeParams::default()), Ok(1));
    client.received();
    assert_eq!(client.error("subscribe", json!({"channel": "news"})).await, 105);
    assert_eq!(subscribe(&node, "more", &SubscribeParams::default()), Err(106));
    assert_eq!(subscribe(&node, "none:more", &SubscribeParams::default()), Err(102));
    assert_eq!(node.stats().subscriptions, 1);
}

#[tokio::test]
async fn what_was_missed_follows_the_push_and_live_publications_follow_that() {
    let node = node_with(|options| {
        with_history(options);
        options.force_recovery = true;
    });
    for number in 1..=3 {
        publish(&node, "a", json!(number));
    }
    let client = Client::of(&node, "42").await;
    let since = StreamPosition { offset: 1, epoch: String::new() };
    let params = SubscribeParams { recover_since: Some(since), ..SubscribeParams::default() };
    assert_eq!(subscribe(&node, "a", &params), Ok(1));
    publish(&node, "a", json!(4));
    let pushes = client.pushes();
    let subscribe = &pushes[0]["subscribe"];
    assert_eq!((&subscribe["offset"], &subscribe["recoverable"]), (&json!(1), &json!(true)));
    let offsets: Vec<_> = pushes[1..].iter().map(|push| push["pub"]["offset"].clone()).collect();
    assert_eq!(offsets, [2, 3, 4]);
}

#[tokio::test]
async fn overrides_change_what_the_channel_keeps_for_this_subscription() {
    let node = node_with(|options| options.presence = true);
    let _client = Client::of(&node, "42").await;
    let hidden = Overrides { presence: Some(false), ..Overrides::default() };
    let params = SubscribeParams { overrides: hidden, ..SubscribeParams::default() };
    assert_eq!(subscribe(&node, "a", &params), Ok(1));
    assert!(node.presence("a").unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_expired_subscription_of_the_server_closes_the_connection() {
    let node = node(|_| {});
    let mut client = Client::of(&node, "42").await;
    let params = SubscribeParams { expire_at: from_now(2), ..SubscribeParams::default() };
    assert_eq!(subscribe(&node, "a", &params), Ok(1));
    assert!(client.session.deadline_moved() && !client.session.deadline_moved());
    let past = SubscribeParams { expire_at: from_now(-1), ..SubscribeParams::default() };
    assert_eq!(subscribe(&node, "b", &past), Err(110));
    let grace = node.config().client.expired_sub_close_delay;
    tokio::time::advance(grace).await;
    assert!(client.session.on_timer(tokio::time::Instant::now()).is_ok(), "the grace is not over");
    tokio::time::advance(Duration::from_secs(2)).await;
    let ended = client.session.on_timer(tokio::time::Instant::now());
    assert_eq!(ended.unwrap_err().code, 3006);
}

#[tokio::test]
async fn a_back_end_renews_connections_or_ends_them() {
    let node = node(|_| {});
    let mut client = Client::open(&node);
    client.ask("connect", json!({"token": token(json!({"sub": "42", "exp": from_now(3600)}))})).await;
    let target = Target::default();
    let set = |expire_at| node.refresh("42", &target, &RefreshParams { expire_at, ..Default::default() });
    assert_eq!(set(from_now(60)), 1);
    let push = client.pushes().remove(0);
    assert_eq!(push["refresh"]["expires"], true);
    assert!((59..=60).contains(&push["refresh"]["ttl"].as_u64().unwrap()), "{push}");
    assert!(client.session.deadline_moved());
    assert_eq!(set(0), 1);
    assert_eq!(client.pushes()[0]["refresh"], json!({}), "for ever");
    assert_eq!(node.refresh("43", &target, &RefreshParams::default()), 0);
    let expired = RefreshParams { is_expired: true, ..RefreshParams::default() };
    assert_eq!(node.refresh("42", &target, &expired), 1);
    assert_eq!(client.outbox.disconnect(), Some(Disconnect::EXPIRED));
    let other = Client::of(&node, "43").await;
    let past = RefreshParams { expire_at: from_now(-1), ..RefreshParams::default() };
    assert_eq!(node.refresh("43", &target, &past), 1);
    assert_eq!(other.outbox.disconnect(), Some(Disconnect::EXPIRED));
}

#[tokio::test]
async fn a_refresh_changes_what_others_see_of_the_connection() {
    let node = node_with(|options| options.allow_publish_for_client = true);
    let mut client = Client::of(&node, "42").await;
    let listener = Client::of(&node, "43").await;
    node.subscribe("43", "a", &Target::default(), &SubscribeParams::default()).unwrap();
    listener.received();
    let info = json_payload(json!({"name": "new"}));
    node.refresh("42", &Target::default(), &RefreshParams { info, ..RefreshParams::default() });
    client.ask("publish", json!({"channel": "a", "data": 1})).await;
    assert_eq!(listener.pushes()[0]["pub"]["info"]["conn_info"], json!({"name": "new"}));
}

#[tokio::test]
async fn a_connection_that_is_gone_or_not_yet_there_gets_nothing() {
    let node = node(|_| {});
    let client = Client::open(&node);
    assert_eq!(subscribe(&node, "a", &SubscribeParams::default()), Ok(0));
    drop(client);
    let client = Client::of(&node, "42").await;
    // What the table held when it was asked, subscribed after the session went.
    let connection = node.connections_of("42", &Target::default()).remove(0);
    drop(client);
    let channel = node.resolve("a").unwrap();
    let late =
        super::super::by_server::subscribe(&node, &connection, &channel, &SubscribeParams::default(), None);
    assert_eq!(late, Ok(false));
    assert_eq!((node.stats().channels, node.stats().subscriptions), (0, 0));
}
