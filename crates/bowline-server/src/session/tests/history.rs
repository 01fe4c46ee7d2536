//! The history command.

use super::*;

fn open(options: &mut ChannelOptions) {
    with_history(options);
    options.allow_history_for_client = true;
}

async fn client_with_five(node: &Arc<Node>) -> Client {
    for number in 1..=5 {
        publish(node, "a", json!(number));
    }
    Client::of(node, "42").await
}

fn data(result: &Value) -> Vec<u64> {
    result["publications"].as_array().unwrap().iter().map(|p| p["data"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn without_a_limit_only_the_top_is_told() {
    let node = node_with(open);
    let mut client = client_with_five(&node).await;
    let result = client.ask("history", json!({"channel": "a"})).await;
    assert_eq!((&result["publications"], &result["offset"]), (&json!([]), &json!(5)));
    assert_eq!(result["epoch"].as_str().map(str::len), Some(8));
    let result = client.ask("history", json!({"channel": "empty", "limit": 1})).await;
    assert_eq!((&result["publications"], &result["offset"]), (&json!([]), &json!(0)), "present when zero");
}

#[tokio::test]
async fn limit_since_and_reverse_choose_what_is_read() {
    let node = node_with(open);
    let mut client = client_with_five(&node).await;
    let top = client.ask("history", json!({"channel": "a"})).await;
    let since = |offset: u64| json!({"offset": offset, "epoch": top["epoch"]});
    for (request, expected) in [
        (json!({"limit": 2}), vec![1, 2]),
        (json!({"limit": -1}), vec![1, 2, 3, 4, 5]),
        (json!({"limit": 2, "reverse": true}), vec![5, 4]),
        (json!({"limit": 2, "since": since(2)}), vec![3, 4]),
        (json!({"limit": 2, "since": since(4), "reverse": true}), vec![3, 2]),
        (json!({"limit": -1, "since": since(5)}), vec![]),
        (json!({"limit": 1, "since": {"offset": 3}}), vec![4]),
        (json!({"limit": 0, "since": since(1)}), vec![]),
    ] {
        let mut request = request;
        request["channel"] = json!("a");
        let result = client.ask("history", request.clone()).await;
        assert_eq!(data(&result), expected, "{request}");
        assert_eq!(result["offset"], 5);
    }
}

#[tokio::test]
async fn the_server_caps_what_is_read_at_once() {
    let node = node(|config| {
        open(&mut config.channel.without_namespace);
        config.client.history_max_publication_limit = std::num::NonZeroUsize::new(3).unwrap();
    });
    let mut client = client_with_five(&node).await;
    for limit in [-1, 4] {
        let result = client.ask("history", json!({"channel": "a", "limit": limit})).await;
        assert_eq!(data(&result), [1, 2, 3]);
    }
    let all = crate::node::HistoryQuery { limit: -1, ..Default::default() };
    assert_eq!(node.history("a", &all).unwrap().publications.len(), 5, "back ends are not capped");
}

#[tokio::test]
async fn a_lost_position_reads_from_the_oldest() {
    let node = node_with(|options| {
        open(options);
        options.history_size = std::num::NonZeroUsize::new(2);
    });
    let mut client = client_with_five(&node).await;
    let request = json!({"channel": "a", "limit": -1, "since": {"offset": 1}});
    assert_eq!(data(&client.ask("history", request).await), [4, 5]);
}

#[tokio::test]
async fn positions_are_checked() {
    let node = node_with(open);
    let mut client = client_with_five(&node).await;
    let since = |epoch: &str, offset: u64| json!({"offset": offset, "epoch": epoch});
    let wrong_epoch = json!({"channel": "a", "limit": 1, "since": since("another", 2)});
    assert_eq!(client.error("history", wrong_epoch).await, 112);
    let before_all = json!({"channel": "a", "limit": 1, "since": since("", 0), "reverse": true});
    assert_eq!(client.error("history", before_all).await, 107);
}

#[tokio::test]
async fn history_must_be_kept_and_allowed() {
    let node = node(|config| {
        config.channel.without_namespace.allow_history_for_client = true;
        add_namespace(config, "kept", with_history);
        add_namespace(config, "subscribers", |options| {
            with_history(options);
            options.allow_subscribe_for_client = true;
            options.allow_history_for_subscriber = true;
        });
    });
    let mut client = Client::of(&node, "42").await;
    for (channel, code) in [("a", 108), ("kept:a", 103), ("subscribers:a", 103), ("none:a", 102), ("ä", 107)]
    {
        assert_eq!(client.error("history", json!({"channel": channel})).await, code, "{channel}");
    }
    client.ask("subscribe", json!({"channel": "subscribers:a"})).await;
    client.ask("history", json!({"channel": "subscribers:a"})).await;
}

#[tokio::test]
async fn publications_come_back_as_they_were_delivered() {
    let node = node_with(|options| {
        open(options);
        options.allow_publish_for_client = true;
    });
    let mut client = Client::open(&node);
    let connect = token(json!({"sub": "42", "info": {"name": "Ada"}}));
    client.ask("connect", json!({"token": connect})).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    client.command("publish", json!({"channel": "a", "data": {"x": "\n\u{1F600}"}})).await.unwrap();
    let mut live = client.received()[0]["push"]["pub"].clone();
    live.as_object_mut().unwrap().remove("epoch");
    let result = client.ask("history", json!({"channel": "a", "limit": 1})).await;
    assert_eq!(result["publications"], json!([live]));
}
