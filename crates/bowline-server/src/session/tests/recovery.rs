//! Coming back: what was missed, whole or not at all, and no gap before what is live.

use super::*;
use crate::config::RecoveryMode;

fn recovering(options: &mut ChannelOptions) {
    with_history(options);
    options.force_recovery = true;
}

fn publish_numbers(node: &Node, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        publish(node, "a", json!(number));
    }
}

async fn recover(client: &mut Client, offset: u64, epoch: &str) -> Value {
    let request = json!({"channel": "a", "recover": true, "offset": offset, "epoch": epoch});
    client.ask("subscribe", request).await
}

/// The data of the recovered publications; the result says that there was a recovery.
#[track_caller]
fn recovered(result: &Value) -> Vec<u64> {
    assert_eq!((&result["was_recovering"], &result["recovered"]), (&json!(true), &json!(true)), "{result}");
    let publications = result["publications"].as_array().cloned().unwrap_or_default();
    publications.iter().map(|publication| publication["data"].as_u64().unwrap()).collect()
}

#[track_caller]
fn assert_not_recovered(result: &Value, top: u64) {
    assert_eq!(result["was_recovering"], true, "{result}");
    assert!(result.get("recovered").is_none() && result.get("publications").is_none(), "{result}");
    assert_eq!(result.get("offset").and_then(Value::as_u64).unwrap_or_default(), top);
}

fn epoch(node: &Node) -> String {
    node.history("a", &Default::default()).unwrap().epoch
}

#[tokio::test]
async fn a_fresh_subscription_is_told_the_top_and_gets_nothing_old() {
    let node = node_with(recovering);
    publish_numbers(&node, 1..=3);
    let mut client = Client::anonymous(&node).await;
    let result = client.ask("subscribe", json!({"channel": "a"})).await;
    assert_eq!(result["offset"], 3);
    assert!(result.get("publications").is_none() && result.get("was_recovering").is_none());
    publish_numbers(&node, 4..=4);
    assert_eq!(client.publications(), [4]);
}

#[tokio::test]
async fn what_was_missed_comes_whole_and_the_offset_is_the_requested_one() {
    let node = node_with(recovering);
    publish_numbers(&node, 1..=5);
    let epoch = epoch(&node);
    let mut clients = [Client::anonymous(&node).await, Client::anonymous(&node).await];
    for (client, known) in clients.iter_mut().zip([epoch.as_str(), ""]) {
        let result = recover(client, 2, known).await;
        assert_eq!(recovered(&result), [3, 4, 5]);
        assert_eq!((&result["offset"], &result["epoch"]), (&json!(2), &json!(epoch)));
    }
    publish_numbers(&node, 6..=6);
    assert_eq!(clients.map(|client| client.publications()), [[6], [6]]);
}

#[tokio::test]
async fn who_missed_nothing_has_recovered_also_from_an_empty_stream() {
    let node = node_with(recovering);
    let before = epoch(&node);
    assert_eq!(recovered(&recover(&mut Client::anonymous(&node).await, 0, &before).await), [0_u64; 0]);
    publish_numbers(&node, 1..=2);
    let result = recover(&mut Client::anonymous(&node).await, 2, &before).await;
    assert_eq!(recovered(&result), [0_u64; 0]);
    assert_eq!(result["offset"], 2);
    assert_eq!(recovered(&recover(&mut Client::anonymous(&node).await, 0, &before).await), [1, 2]);
}

#[tokio::test]
async fn a_recovery_is_never_partial() {
    let node = node(|config| {
        recovering(&mut config.channel.without_namespace);
        config.channel.without_namespace.history_size = std::num::NonZeroUsize::new(4);
        config.client.recovery_max_publication_limit = std::num::NonZeroUsize::new(3).unwrap();
    });
    publish_numbers(&node, 1..=9);
    let epoch = epoch(&node);
    for (offset, known) in [
        (4, epoch.as_str()),  // the first one missed is no longer kept
        (5, epoch.as_str()),  // more were missed than a recovery brings
        (10, epoch.as_str()), // from the future
        (u64::MAX, epoch.as_str()),
        (8, "another"),
    ] {
        let result = recover(&mut Client::anonymous(&node).await, offset, known).await;
        assert_not_recovered(&result, 9);
    }
    assert_eq!(recovered(&recover(&mut Client::anonymous(&node).await, 6, &epoch).await), [7, 8, 9]);
    drop(node.history_remove("a").unwrap());
    assert_not_recovered(&recover(&mut Client::anonymous(&node).await, 8, &epoch).await, 9);
    assert_eq!(recovered(&recover(&mut Client::anonymous(&node).await, 9, &epoch).await), [0_u64; 0]);
}

#[tokio::test]
async fn a_client_that_wants_all_or_nothing_gets_112() {
    let node = node_with(recovering);
    publish_numbers(&node, 1..=2);
    let request = |offset: u64| json!({"channel": "a", "recover": true, "offset": offset, "flag": 2});
    let mut client = Client::anonymous(&node).await;
    assert_eq!(client.error("subscribe", request(7)).await, 112);
    assert_eq!(recovered(&client.ask("subscribe", request(1)).await), [2]);

    let unrecoverable = node_with(|_| {});
    assert_eq!(Client::anonymous(&unrecoverable).await.error("subscribe", request(0)).await, 112);
}

#[tokio::test]
async fn without_recoverability_recovering_is_subscribing() {
    let node = node_with(|options| {
        with_history(options);
        options.force_positioning = true;
    });
    publish_numbers(&node, 1..=2);
    let result = recover(&mut Client::anonymous(&node).await, 1, "").await;
    assert_eq!((&result["positioned"], &result["offset"]), (&json!(true), &json!(2)));
    assert!(result.get("was_recovering").is_none() && result.get("recoverable").is_none());
}

#[tokio::test]
async fn cache_recovery_brings_the_latest_alone() {
    let node = node_with(|options| {
        recovering(options);
        options.force_recovery_mode = RecoveryMode::Cache;
    });
    let start = epoch(&node);
    assert_eq!(recovered(&recover(&mut Client::anonymous(&node).await, 0, &start).await), [0_u64; 0]);
    publish_numbers(&node, 1..=5);
    for (offset, known) in [(0, ""), (2, start.as_str()), (3, "another"), (90, start.as_str())] {
        let mut client = Client::anonymous(&node).await;
        assert_eq!(recovered(&recover(&mut client, offset, known).await), [5], "{offset} {known}");
    }
    assert_eq!(recovered(&recover(&mut Client::anonymous(&node).await, 5, &start).await), [0_u64; 0]);
    drop(node.history_remove("a").unwrap());
    assert_not_recovered(&recover(&mut Client::anonymous(&node).await, 3, &start).await, 5);
}

#[tokio::test]
async fn publications_that_are_not_kept_reach_positioned_clients_too() {
    let node = node_with(recovering);
    let mut client = Client::anonymous(&node).await;
    client.ask("subscribe", json!({"channel": "a"})).await;
    let data = Payload::from_json("0").unwrap();
    node.publish("a", &PublishParams { data, skip_history: true, ..PublishParams::default() }).now().unwrap();
    publish_numbers(&node, 1..=1);
    let pushes = client.pushes();
    assert!(pushes[0]["pub"].get("offset").is_none());
    assert_eq!(pushes[1]["pub"]["offset"], 1);
}

fn caching(options: &mut ChannelOptions) {
    recovering(options);
    options.force_recovery_mode = RecoveryMode::Cache;
    options.auto_cache_recover = true;
}

#[tokio::test]
async fn with_automatic_cache_recovery_the_latest_comes_unasked_and_with_every_subscription() {
    let node = node_with(caching);
    let mut client = Client::anonymous(&node).await;
    let result = client.ask("subscribe", json!({"channel": "a"})).await;
    assert!(result.get("publications").is_none(), "there is none yet: {result}");
    client.ask("unsubscribe", json!({"channel": "a"})).await;

    publish_numbers(&node, 1..=3);
    for _ in 0..2 {
        let result = client.ask("subscribe", json!({"channel": "a"})).await;
        assert_eq!((&result["recovered"], result.get("was_recovering")), (&json!(true), None), "{result}");
        assert_eq!(
            (&result["publications"][0]["data"], &result["publications"][0]["offset"]),
            (&json!(3), &json!(3))
        );
        client.ask("unsubscribe", json!({"channel": "a"})).await;
    }
    // Who says that it has the latest is not told it again.
    let result = recover(&mut client, 3, &epoch(&node)).await;
    assert_eq!(recovered(&result), [0_u64; 0]);
    publish_numbers(&node, 4..=4);
    assert_eq!(client.publications(), [4], "live behind the answer");
}

#[tokio::test]
async fn a_server_side_subscription_brings_the_latest_with_the_connect_answer() {
    let node = node_with(caching);
    publish_numbers(&node, 1..=2);
    let mut client = Client::open(&node);
    let claims = json!({"sub": "42", "channels": ["a"]});
    let result = client.ask("connect", json!({"token": token(claims)})).await;
    assert_eq!(result["subs"]["a"]["publications"][0]["data"], 2, "{result}");
}

#[tokio::test]
async fn automatic_cache_recovery_does_nothing_where_streams_are_recovered() {
    let node = node_with(|options| {
        caching(options);
        options.force_recovery_mode = RecoveryMode::Stream;
    });
    publish_numbers(&node, 1..=3);
    let mut client = Client::anonymous(&node).await;
    let result = client.ask("subscribe", json!({"channel": "a"})).await;
    assert!(result.get("publications").is_none() && result["offset"] == 3, "{result}");
}
