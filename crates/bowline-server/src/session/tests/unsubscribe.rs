//! Ending subscriptions, from either side.

use bowline_protocol::UnsubscribeCode;

use super::*;
use crate::node::Target;

#[tokio::test]
async fn after_unsubscribing_nothing_comes_and_a_leave_is_told() {
    let node = node_with(|options| {
        options.presence = true;
        options.join_leave = true;
        options.force_push_join_leave = true;
    });
    let (mut client, mut other) = (Client::of(&node, "42").await, Client::anonymous(&node).await);
    for client in [&mut client, &mut other] {
        client.ask("subscribe", json!({"channel": "a"})).await;
    }
    client.received();
    other.received();
    assert_eq!(client.ask("unsubscribe", json!({"channel": "a"})).await, json!({}));
    publish(&node, "a", json!(1));
    assert!(client.received().is_empty());
    let pushes = other.pushes();
    assert_eq!(pushes[0]["leave"]["info"]["client"], client.id());
    assert_eq!(pushes[1]["pub"]["data"], 1);
    assert_eq!(node.presence_stats("a").unwrap().num_clients, 1);
}

#[tokio::test]
async fn unsubscribing_from_what_is_not_there_succeeds() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    for channel in ["a", "none:such", "ä"] {
        assert_eq!(client.ask("unsubscribe", json!({"channel": channel})).await, json!({}), "{channel}");
    }
}

#[tokio::test]
async fn resubscribing_right_after_unsubscribing_works() {
    let node = node(|_| {});
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    let frame =
        "{\"id\":8,\"unsubscribe\":{\"channel\":\"a\"}}\n{\"id\":9,\"subscribe\":{\"channel\":\"a\"}}";
    client.send(frame).await.unwrap();
    assert_eq!(client.received().len(), 2);
    publish(&node, "a", json!(1));
    assert_eq!(client.publications(), [1]);
    assert_eq!(node.stats().subscriptions, 1);
}

#[tokio::test]
async fn the_server_api_ends_a_users_subscription() {
    let node = node(|_| {});
    let (mut one, mut two) = (Client::of(&node, "42").await, Client::of(&node, "42").await);
    let mut other = Client::of(&node, "43").await;
    for client in [&mut one, &mut two, &mut other] {
        client.ask("subscribe", json!({"channel": "a"})).await;
    }
    let only_one = Target { client: one.id().to_owned(), ..Target::default() };
    assert_eq!(node.unsubscribe("42", "a", &only_one, &UnsubscribeCode::SERVER), Ok(1));
    let told = json!([{"channel": "a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}]);
    assert_eq!(json!(one.pushes()), told);
    assert_eq!(node.unsubscribe("42", "a", &Target::default(), &UnsubscribeCode::SERVER), Ok(1));
    assert_eq!(json!(two.pushes()), told);
    publish(&node, "a", json!(1));
    assert_eq!(other.publications(), [1]);
    assert!(one.received().is_empty());

    assert_eq!(node.unsubscribe("42", "a", &Target::default(), &UnsubscribeCode::SERVER), Ok(0));
    let unknown = node.unsubscribe("42", "none:a", &Target::default(), &UnsubscribeCode::SERVER);
    assert_eq!(unknown.unwrap_err().code, 102);
    one.ask("subscribe", json!({"channel": "a"})).await;
}
