//! Each method: what it takes, what it answers, and how it fails.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;

/// Runs requests one after the other and compares each answer.
async fn check(api: &Api, cases: &[(&str, &str, &str)]) {
    for (method, body, answer) in cases {
        assert_eq!(ok(api, method, body).await, *answer, "{method} {body}");
    }
}

const BAD_REQUEST: &str = r#"{"error":{"code":107,"message":"bad request"}}"#;
const UNKNOWN_CHANNEL: &str = r#"{"error":{"code":102,"message":"unknown channel"}}"#;
const NOT_AVAILABLE: &str = r#"{"error":{"code":108,"message":"not available"}}"#;
const DONE: &str = r#"{"result":{}}"#;

#[tokio::test]
async fn publish_answers_the_position_of_what_is_kept() {
    check(
        &api(),
        &[
            ("publish", r#"{"channel":"plain:c","data":{"a":1}}"#, DONE),
            ("publish", r#"{"channel":"kept:c","data":{}}"#, r#"{"result":{"offset":1,"epoch":"E"}}"#),
            ("publish", r#"{"channel":"kept:c","data":{},"skip_history":true}"#, DONE),
            ("publish", r#"{"channel":"kept:c","data":0}"#, r#"{"result":{"offset":2,"epoch":"E"}}"#),
            ("publish", r#"{"channel":"none:c","data":{}}"#, UNKNOWN_CHANNEL),
            ("publish", r#"{"data":{}}"#, BAD_REQUEST),
            ("publish", r#"{"channel":"","data":{}}"#, BAD_REQUEST),
            ("publish", r#"{"channel":"plain:c"}"#, BAD_REQUEST),
            ("publish", r#"{"channel":"plain:c","data":null}"#, BAD_REQUEST),
            ("publish", r#"{"channel":"plain:c","data":{},"b64data":"?"}"#, BAD_REQUEST),
            ("publish", r#"{"channel":"binary:c","skip_history":true}"#, DONE),
            ("publish", "{}", BAD_REQUEST),
        ],
    )
    .await;
}

#[tokio::test]
async fn data_is_kept_as_it_was_written_and_b64data_wins() {
    let api = api();
    let data = r#"{"b": [1.50, 1e3,"\u00e9\/"],"a":9007199254740993, "b":null}"#;
    for fields in [format!(r#""data": {data} "#), r#""data":{},"b64data":"eyJ4IjogMX0=""#.to_owned()] {
        ok(&api, "publish", &format!(r#"{{"channel":"kept:c",{fields}}}"#)).await;
    }
    let answer = ok(&api, "history", r#"{"channel":"kept:c","limit":-1}"#).await;
    let publications = format!(r#"[{{"data":{data},"offset":1}},{{"data":{{"x": 1}},"offset":2}}]"#);
    assert_eq!(answer, format!(r#"{{"result":{{"publications":{publications},"epoch":"E","offset":2}}}}"#));
}

#[tokio::test]
async fn a_repeated_key_and_an_old_version_publish_nothing() {
    let position = |offset: u8| format!(r#"{{"result":{{"offset":{offset},"epoch":"E"}}}}"#);
    let api = api();
    for (fields, offset) in [
        (r#""idempotency_key":"k""#, 1),
        (r#""idempotency_key":"k""#, 1),
        (r#""version":18446744073709551615,"version_epoch":"v""#, 2),
        (r#""version":7,"version_epoch":"v""#, 2),
        (r#""version":7,"version_epoch":"w""#, 3),
        (r#""delta":true"#, 4),
    ] {
        let body = format!(r#"{{"channel":"kept:c","data":{{}},{fields}}}"#);
        assert_eq!(ok(&api, "publish", &body).await, position(offset), "{fields}");
    }
}

#[tokio::test]
async fn null_is_unset_and_unknown_fields_are_ignored() {
    let nulls = r#"{"channel":"plain:c","data":1,"b64data":null,"skip_history":null,"tags":null,"idempotency_key":null,
        "version":null,"version_epoch":null,"delta":null,"future":{"a":[]}}"#;
    check(
        &api(),
        &[
            ("publish", nulls, DONE),
            ("publish", r#"{"channel":null}"#, BAD_REQUEST),
            (
                "history",
                r#"{"channel":"kept:c","limit":null,"since":null,"reverse":null}"#,
                r#"{"result":{"publications":[],"epoch":"E","offset":0}}"#,
            ),
            (
                "disconnect",
                r#"{"user":"u","client":null,"session":null,"whitelist":null,"disconnect":null}"#,
                DONE,
            ),
            ("channels", r#"{"pattern":null}"#, r#"{"result":{"channels":{}}}"#),
            ("batch", r#"{"commands":null,"parallel":null}"#, r#"{"replies":[]}"#),
        ],
    )
    .await;
}

#[tokio::test]
async fn broadcast_answers_for_every_channel_in_order() {
    check(
        &api(),
        &[
            (
                "broadcast",
                r#"{"channels":["plain:c","none:c","kept:c",""],"data":{"a":1},"tags":{"t":"1"}}"#,
                r#"{"result":{"responses":[{"result":{}},{"error":{"code":102,"message":"unknown channel"}},{"result":{"offset":1,"epoch":"E"}},{"error":{"code":107,"message":"bad request"}}]}}"#,
            ),
            (
                "history",
                r#"{"channel":"kept:c","limit":1}"#,
                r#"{"result":{"publications":[{"data":{"a":1},"offset":1,"tags":{"t":"1"}}],"epoch":"E","offset":1}}"#,
            ),
            ("broadcast", r#"{"channels":[],"data":{}}"#, BAD_REQUEST),
            ("broadcast", r#"{"data":{}}"#, BAD_REQUEST),
            ("broadcast", r#"{"channels":["kept:c"],"b64data":"?"}"#, BAD_REQUEST),
            (
                "broadcast",
                r#"{"channels":["kept:c"]}"#,
                r#"{"result":{"responses":[{"error":{"code":107,"message":"bad request"}}]}}"#,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_long_broadcast_lets_others_run_in_between() {
    let api = api();
    let channels = vec!["plain:c"; 10_000];
    let body = serde_json::json!({ "channels": channels, "data": {} }).to_string();
    let headers = headers(&[("x-api-key", KEY)]);
    let mut run = std::pin::pin!(request(&api, &Method::POST, "/api/broadcast", &headers, body.as_bytes()));
    let mut polls = 0;
    let answer = std::future::poll_fn(|cx| {
        polls += 1;
        run.as_mut().poll(cx)
    })
    .await;
    assert_eq!(text_of(answer).await.matches(r#"{"result":{}}"#).count(), 10_000);
    assert!(polls > 10, "{polls}");
}

#[tokio::test]
async fn history_reads_pages_in_both_directions() {
    let api = api();
    for number in 1..=3 {
        ok(&api, "publish", &format!(r#"{{"channel":"kept:c","data":{number}}}"#)).await;
    }
    let page = |numbers: &[u8]| {
        let publications: Vec<_> =
            numbers.iter().map(|number| format!(r#"{{"data":{number},"offset":{number}}}"#)).collect();
        let publications = publications.join(",");
        format!(r#"{{"result":{{"publications":[{publications}],"epoch":"E","offset":3}}}}"#)
    };
    for (fields, numbers) in [
        ("", &[][..]),
        (r#","limit":0"#, &[]),
        (r#","limit":2"#, &[1, 2]),
        (r#","limit":-1"#, &[1, 2, 3]),
        (r#","limit":2,"reverse":true"#, &[3, 2]),
        (r#","limit":-1,"since":{"offset":1,"epoch":"E"}"#, &[2, 3]),
        (r#","limit":-1,"since":{"offset":3,"epoch":"E"},"reverse":true"#, &[2, 1]),
        (r#","limit":-1,"since":{}"#, &[1, 2, 3]),
    ] {
        let body = format!(r#"{{"channel":"kept:c"{fields}}}"#);
        assert_eq!(ok(&api, "history", &body).await, page(numbers), "{fields}");
    }
    let lost = r#"{"error":{"code":112,"message":"unrecoverable position"}}"#;
    check(
        &api,
        &[
            ("history", r#"{"channel":"kept:c","limit":1,"since":{"offset":1,"epoch":"other"}}"#, lost),
            ("history", r#"{"channel":"plain:c"}"#, NOT_AVAILABLE),
            ("history", r#"{"channel":"none:c"}"#, UNKNOWN_CHANNEL),
            ("history", "{}", BAD_REQUEST),
        ],
    )
    .await;
}

#[tokio::test]
async fn history_remove_keeps_the_position() {
    check(
        &api(),
        &[
            ("publish", r#"{"channel":"kept:c","data":{}}"#, r#"{"result":{"offset":1,"epoch":"E"}}"#),
            ("history_remove", r#"{"channel":"kept:c"}"#, DONE),
            (
                "history",
                r#"{"channel":"kept:c","limit":-1}"#,
                r#"{"result":{"publications":[],"epoch":"E","offset":1}}"#,
            ),
            ("history_remove", r#"{"channel":"plain:c"}"#, NOT_AVAILABLE),
            ("history_remove", r#"{"channel":"none:c"}"#, UNKNOWN_CHANNEL),
            ("history_remove", "{}", BAD_REQUEST),
        ],
    )
    .await;
}

#[tokio::test]
async fn presence_shows_who_is_there_and_how_many() {
    let api = api();
    check(
        &api,
        &[
            ("presence", r#"{"channel":"kept:c"}"#, r#"{"result":{"presence":{}}}"#),
            ("presence_stats", r#"{"channel":"kept:c"}"#, r#"{"result":{"num_clients":0,"num_users":0}}"#),
        ],
    )
    .await;
    let _clients = [connect(&api, "", "one"), connect(&api, "u", "two"), connect(&api, "u", "three")];
    check(
        &api,
        &[
            (
                "presence",
                r#"{"channel":"kept:c"}"#,
                r#"{"result":{"presence":{"one":{"user":"","client":"one","conn_info":{"of":"one"}},"three":{"user":"u","client":"three","conn_info":{"of":"three"}},"two":{"user":"u","client":"two","conn_info":{"of":"two"}}}}}"#,
            ),
            ("presence_stats", r#"{"channel":"kept:c"}"#, r#"{"result":{"num_clients":3,"num_users":2}}"#),
        ],
    )
    .await;
    for method in ["presence", "presence_stats"] {
        check(
            &api,
            &[
                (method, r#"{"channel":"plain:c"}"#, NOT_AVAILABLE),
                (method, r#"{"channel":"none:c"}"#, UNKNOWN_CHANNEL),
                (method, "{}", BAD_REQUEST),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn channels_are_those_with_subscribers() {
    let api = api();
    let _clients = [connect(&api, "u", "one"), connect(&api, "u", "two")];
    let found = r#"{"result":{"channels":{"kept:c":{"num_clients":2}}}}"#;
    check(
        &api,
        &[
            ("channels", "{}", found),
            ("channels", r#"{"pattern":"kept:*"}"#, found),
            ("channels", r#"{"pattern":"plain:*"}"#, r#"{"result":{"channels":{}}}"#),
        ],
    )
    .await;
}

#[tokio::test]
async fn info_describes_this_node() {
    let api = api();
    let _client = connect(&api, "u", "one");
    let answer: serde_json::Value = serde_json::from_str(&ok(&api, "info", "{}").await).unwrap();
    let node = &answer["result"]["nodes"][0];
    assert_eq!(node["uid"], api.node().uid());
    assert_eq!(node["version"], crate::node::VERSION);
    assert!(node["name"].as_str().unwrap().ends_with("_8000"), "{node}");
    for (field, number) in [("num_clients", 1), ("num_users", 1), ("num_channels", 1), ("num_subs", 1)] {
        assert_eq!(node[field], number, "{field}");
    }
    if cfg!(target_os = "linux") {
        assert!(node["process"]["rss"].as_u64().unwrap() > 100_000);
    }
    drop(_client);
    let answer: serde_json::Value = serde_json::from_str(&ok(&api, "info", "{}").await).unwrap();
    // Present also when zero.
    assert_eq!(answer["result"]["nodes"][0]["num_subs"], 0);
}

#[tokio::test]
async fn unsubscribe_ends_the_subscriptions_it_names() {
    let api = api();
    let clients = [connect(&api, "u", "one"), connect(&api, "u", "two"), connect(&api, "v", "three")];
    let ended = || clients.each_ref().map(|client| client.membership.has_ended());
    for (body, answer, expected) in [
        (r#"{"channel":"kept:c"}"#, BAD_REQUEST, [false; 3]),
        (r#"{"user":"u"}"#, BAD_REQUEST, [false; 3]),
        (r#"{"user":"u","channel":"none:c"}"#, UNKNOWN_CHANNEL, [false; 3]),
        (r#"{"user":"nobody","channel":"kept:c"}"#, DONE, [false; 3]),
        (r#"{"user":"u","channel":"kept:c","client":"three"}"#, DONE, [false; 3]),
        (r#"{"user":"u","channel":"kept:c","session":"session of two"}"#, DONE, [false, true, false]),
        (r#"{"user":"u","channel":"kept:c"}"#, DONE, [true, true, false]),
    ] {
        assert_eq!(ok(&api, "unsubscribe", body).await, answer, "{body}");
        assert_eq!(ended(), expected, "{body}");
    }
    let mut frames = Vec::new();
    clients[0].outbox.drain(&mut frames).await;
    let push = r#"{"push":{"channel":"kept:c","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#;
    assert_eq!(frames[0].payload(), push);
}

#[tokio::test]
async fn disconnect_closes_the_connections_it_names() {
    let long = "x".repeat(124);
    for (fields, answer, closed) in [
        (r#""user":"u""#, DONE, [Some((3503, "force disconnect")), Some((3503, "force disconnect"))]),
        (r#""user":"u","client":"two""#, DONE, [None, Some((3503, "force disconnect"))]),
        (r#""user":"u","session":"session of one""#, DONE, [Some((3503, "force disconnect")), None]),
        (r#""user":"u","whitelist":["one"]"#, DONE, [None, Some((3503, "force disconnect"))]),
        (
            r#""user":"u","client":"one","disconnect":{"code":4001,"reason":"bye"}"#,
            DONE,
            [Some((4001, "bye")), None],
        ),
        (r#""user":"u","client":"one","disconnect":{"reason":"bye"}"#, DONE, [Some((3503, "bye")), None]),
        (r#""user":"nobody""#, DONE, [None, None]),
        ("\"client\":\"one\"", BAD_REQUEST, [None, None]),
        (r#""user":"u","disconnect":{"code":1006}"#, BAD_REQUEST, [None, None]),
        (r#""user":"u","disconnect":{"code":5000}"#, BAD_REQUEST, [None, None]),
        (r#""user":"u","disconnect":{"code":69536}"#, BAD_REQUEST, [None, None]),
        (&format!(r#""user":"u","disconnect":{{"code":4000,"reason":"{long}"}}"#), BAD_REQUEST, [None, None]),
    ] {
        let api = api();
        let clients = [connect(&api, "u", "one"), connect(&api, "u", "two")];
        let other = connect(&api, "v", "three");
        assert_eq!(ok(&api, "disconnect", &format!("{{{fields}}}")).await, answer, "{fields}");
        let reasons = clients.each_ref().map(|client| client.outbox.disconnect());
        let reasons = reasons.each_ref().map(|r| r.as_ref().map(|reason| (reason.code, &*reason.reason)));
        assert_eq!(reasons, closed, "{fields}");
        assert!(!other.outbox.is_closed());
    }
}

#[tokio::test]
async fn data_in_base64_is_nested_no_deeper_than_data() {
    let b64 =
        |data: String| format!(r#"{{"channel":"binary:c","b64data":"{}"}}"#, BASE64_STANDARD.encode(data));
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(129), close.repeat(129));
    check(&api(), &[("publish", &b64(deep("[", "]")), BAD_REQUEST)]).await;
    // Not JSON, so that nobody decodes it.
    assert!(ok(&api(), "publish", &b64(deep("[", ""))).await.starts_with(r#"{"result":{"offset":1"#));
}

#[tokio::test]
async fn subscribe_gives_what_it_is_asked_for_and_wants_a_user() {
    let api = api();
    let client = connect(&api, "u", "one");
    let body = r#"{"user":"u","channel":"kept:d","b64data":"eyJ4IjoxfQ==","info":{"of":"d"},
        "override":{"presence":{"value":false}},"expire_at":null}"#;
    assert_eq!(ok(&api, "subscribe", body).await, DONE);
    let mut frames = Vec::new();
    client.outbox.drain(&mut frames).await;
    let push = String::from_utf8(frames[0].payload().to_vec()).unwrap();
    assert!(push.starts_with(r#"{"push":{"channel":"kept:d","subscribe":{"#), "{push}");
    assert!(push.contains(r#""data":{"x":1}"#), "{push}");
    assert_eq!(ok(&api, "presence", r#"{"channel":"kept:d"}"#).await, r#"{"result":{"presence":{}}}"#);
    let expired = r#"{"error":{"code":110,"message":"expired"}}"#;
    check(
        &api,
        &[
            ("subscribe", r#"{"channel":"kept:d"}"#, BAD_REQUEST),
            ("subscribe", r#"{"user":"u","channel":"none:d"}"#, UNKNOWN_CHANNEL),
            ("subscribe", r#"{"user":"u","channel":"kept:e","b64info":"?"}"#, BAD_REQUEST),
            ("subscribe", r#"{"user":"u","channel":"kept:e","expire_at":-5}"#, expired),
            ("subscribe", r#"{"user":"nobody","channel":"kept:d"}"#, DONE),
        ],
    )
    .await;
}

#[tokio::test]
async fn refresh_ends_what_has_expired_and_leaves_the_rest() {
    for (fields, is_closed) in [
        (r#""user":"u","expired":true"#, true),
        (r#""user":"u","expire_at":1"#, true),
        (r#""user":"u","expire_at":-1"#, true),
        (r#""user":"u","expire_at":99999999999"#, false),
        (r#""user":"u""#, false),
        (r#""user":"v","expired":true"#, false),
        (r#""user":"u","client":"two","expired":true"#, false),
    ] {
        let api = api();
        let client = connect(&api, "u", "one");
        assert_eq!(ok(&api, "refresh", &format!("{{{fields}}}")).await, DONE, "{fields}");
        let code = client.outbox.disconnect().map(|reason| reason.code);
        assert_eq!(code, is_closed.then_some(3005), "{fields}");
    }
    check(&api(), &[("refresh", r#"{"expired":true}"#, BAD_REQUEST)]).await;
}

#[tokio::test]
async fn methods_with_nothing_behind_them_say_so() {
    let not_found = r#"{"error":{"code":104,"message":"not found"}}"#;
    check(
        &api(),
        &[
            ("rpc", r#"{"method":"any","params":{}}"#, not_found),
            ("rpc", "{}", BAD_REQUEST),
            ("map_publish", "{}", NOT_AVAILABLE),
            ("shared_poll_publish", r#"{"channel":"kept:c"}"#, NOT_AVAILABLE),
        ],
    )
    .await;
}
