//! Many calls in one request.

use std::future::poll_fn;
use std::task::Poll;

use super::*;
use crate::store::testing::ByHand;

#[tokio::test]
async fn replies_stand_in_the_order_of_the_commands_and_a_failure_stops_nothing() {
    let commands = r#"[
        {"publish":{"channel":"kept:c","data":{"n":1}}},
        {"publish":{"channel":"none:c","data":{}}},
        {"broadcast":{"channels":["kept:c","none:c"],"data":{"n":2}}},
        {"history":{"channel":"kept:c","limit":-1}},
        {"presence_stats":{"channel":"plain:c"}},
        {"history_remove":{"channel":"kept:c"}}
    ]"#;
    let replies = [
        r#"{"publish":{"offset":1,"epoch":"E"}}"#,
        r#"{"error":{"code":102,"message":"unknown channel"}}"#,
        r#"{"broadcast":{"responses":[{"result":{"offset":2,"epoch":"E"}},{"error":{"code":102,"message":"unknown channel"}}]}}"#,
        r#"{"history":{"publications":[{"data":{"n":1},"offset":1},{"data":{"n":2},"offset":2}],"epoch":"E","offset":2}}"#,
        r#"{"error":{"code":108,"message":"not available"}}"#,
        r#"{"history_remove":{}}"#,
    ];
    let expected = format!(r#"{{"replies":[{}]}}"#, replies.join(","));
    for parallel in ["", r#","parallel":true"#, r#","parallel":false"#] {
        assert_eq!(ok(&api(), "batch", &format!(r#"{{"commands":{commands}{parallel}}}"#)).await, expected);
    }
}

#[tokio::test]
async fn an_element_must_hold_one_method() {
    let not_found = r#"{"error":{"code":104,"message":"not found"}}"#;
    let bad_request = r#"{"error":{"code":107,"message":"bad request"}}"#;
    let cases = [
        ("{}", not_found),
        (r#"{"none":{"publish":{}}}"#, not_found),
        (r#"{"batch":{"commands":[]}}"#, not_found),
        (r#"{"channels":{},"presence":{"channel":"kept:c"}}"#, bad_request),
        (r#"{"presence":{"channel":"kept:c"},"channels":{}}"#, bad_request),
        (r#"{"comment":1,"channels":{}}"#, r#"{"channels":{"channels":{}}}"#),
    ];
    let commands = cases.map(|(command, _)| command).join(",");
    let replies = cases.map(|(_, reply)| reply).join(",");
    let answer = ok(&api(), "batch", &format!(r#"{{"commands":[{commands}]}}"#)).await;
    assert_eq!(answer, format!(r#"{{"replies":[{replies}]}}"#));
}

#[tokio::test]
async fn an_empty_batch_has_no_replies() {
    assert_eq!(ok(&api(), "batch", "{}").await, r#"{"replies":[]}"#);
    assert_eq!(ok(&api(), "batch", r#"{"commands":[]}"#).await, r#"{"replies":[]}"#);
}

#[tokio::test]
async fn one_malformed_command_keeps_all_from_running() {
    let api = api();
    let commands = r#"[{"publish":{"channel":"kept:c","data":{}}},{"publish":{"channel":1}}]"#;
    assert_eq!(call(&api, "batch", &format!(r#"{{"commands":{commands}}}"#)).await.0, 400);
    assert_eq!(api.node().stats().publications, 0);
}

#[tokio::test]
async fn there_are_only_so_many_commands() {
    let batch = |count: usize| format!(r#"{{"commands":[{}]}}"#, vec!["{}"; count].join(","));
    let api = api();
    let (status, text) = call(&api, "batch", &batch(10_001)).await;
    assert!(status == 400 && text.contains("more than 10000 commands at line 1 column "), "{text}");
    assert_eq!(call(&api, "batch", &batch(10_000)).await.0, 200);
}

#[tokio::test]
async fn commands_beyond_the_bound_of_the_reply_do_not_run() {
    let api = api();
    let publish = r#"{"publish":{"channel":"plain:c","data":{}}}"#;
    let body = format!(r#"{{"commands":[{publish},{publish},{publish}]}}"#);
    let batch = super::super::json::decode(body.as_bytes(), super::super::batch::decoder()).unwrap();
    let mut out = Vec::new();
    batch.run(&api, 20, &mut out).await;
    let limit = r#"{"error":{"code":106,"message":"limit exceeded"}}"#;
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!(r#"{{"replies":[{{"publish":{{}}}},{limit},{limit}]}}"#)
    );
    assert_eq!(api.node().stats().publications, 1);
}

/// Runs a batch on a disk that is written when the batch waits for it: how often that was, and the replies.
async fn on_disk(commands: &[&str]) -> (usize, String) {
    let mut disk = ByHand::new();
    let api = Api::new(Node::new(Arc::new(config()), Arc::new(disk.store.clone())));
    let body = format!(r#"{{"commands":[{}]}}"#, commands.join(","));
    let batch = super::super::json::decode(body.as_bytes(), super::super::batch::decoder()).unwrap();
    let (mut out, mut writes) = (Vec::new(), 0);
    {
        let mut run = Box::pin(batch.run(&api, 1 << 20, &mut out));
        while poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_pending())).await {
            assert!(writes < 10, "it waits for something else");
            writes += 1;
            disk.write();
        }
    }
    (writes, String::from_utf8(out).unwrap())
}

/// Each waited for a sync of its own, although none depended on another.
#[tokio::test]
async fn what_is_published_later_waits_for_the_disk_together() {
    let publish = r#"{"publish":{"channel":"kept:c","data":1,"delay":60000}}"#;
    let broadcast = r#"{"broadcast":{"channels":["kept:c","kept:d"],"data":1,"delay":60000}}"#;
    let (writes, replies) = on_disk(&[publish, broadcast, publish]).await;
    assert_eq!((writes, replies.matches("\"schedule_id\"").count()), (1, 4), "{replies}");
}

#[tokio::test]
async fn what_takes_the_place_of_another_waits_until_that_is_kept() {
    let named = r#"{"publish":{"channel":"kept:c","data":1,"delay":60000,"schedule_id":"one"}}"#;
    let (writes, replies) = on_disk(&[named, named]).await;
    assert_eq!((writes, replies.matches("\"schedule_id\":\"one\"").count()), (2, 2), "{replies}");
}
