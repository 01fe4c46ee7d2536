//! Publishing later, as back ends ask for it over HTTP and gRPC, and as subscribers see it.

use std::time::{SystemTime, UNIX_EPOCH};

use bowline_server::config::Secret;
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::grpc;
use crate::support::{KEY, PATIENCE, Running, config, with_server};

async fn call(server: &Running, method: &str, body: Value) -> Value {
    let (status, answer) = server.api(method, Some(KEY), &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The next frame with a publication.
async fn publication(client: &mut bowline_server::client::Client) -> String {
    loop {
        let text = timeout(PATIENCE, client.next_text()).await.expect("a publication").unwrap();
        if text.contains(r#""pub""#) {
            return text;
        }
    }
}

#[bowline::test]
async fn what_is_scheduled_reaches_subscribers_at_its_time_and_can_be_listed_changed_and_cancelled() {
    with_server(config(&[]), async |server| {
        let mut client = server.subscribe("lobby").await;
        let begun = now_ms();
        let soon =
            call(&server, "publish", json!({"channel": "lobby", "data": {"n": 1}, "delay": 200})).await;
        let at = soon["result"]["at"].as_u64().unwrap();
        assert!(at >= begun + 200 && soon["result"]["schedule_id"].as_str().unwrap().len() == 32, "{soon}");
        assert!(publication(&mut client).await.contains(r#"{"n":1}"#));
        assert!(now_ms() >= at, "before its time");

        let far = now_ms() + 3_600_000;
        for n in [1, 2] {
            let body = json!({"channel": "lobby", "data": {"n": n}, "at": far + n, "schedule_id": "x"});
            let answer = call(&server, "publish", body).await;
            assert_eq!(answer["result"], json!({"schedule_id": "x", "at": far + n}));
        }
        let cron = json!({"channel": "lobby", "data": 1, "cron": "0 12 * * *", "timezone": "Europe/Berlin",
            "schedule_id": "noon", "missed": "skip"});
        call(&server, "publish", cron).await;
        let listed = call(&server, "schedule_list", json!({"channel": "lobby"})).await;
        assert_eq!(listed["result"]["total"], 2);
        let schedules = listed["result"]["schedules"].as_array().unwrap();
        let noon = schedules.iter().find(|schedule| schedule["id"] == "noon").unwrap();
        assert_eq!((&noon["cron"], &noon["missed"]), (&json!("0 12 * * *"), &json!("skip")));
        for (id, outcome) in [("noon", "cancelled"), ("noon", "cancelled"), ("none", "unknown")] {
            let answer = call(&server, "schedule_cancel", json!({"id": id})).await;
            assert_eq!(answer["result"]["outcome"], outcome, "{id}");
        }
        let id = soon["result"]["schedule_id"].clone();
        let late = call(&server, "schedule_cancel", json!({"id": id})).await;
        assert_eq!(late["result"]["outcome"], "too_late");
        let (_, metrics) = server.get("/metrics").await;
        assert!(metrics.contains("bowline_schedule_pending 1\n"), "{metrics}");
        assert!(metrics.contains("bowline_schedule_published_total 1\n"), "{metrics}");
        let (_, tree) = server.get("/debug/bowline/tree").await;
        assert!(tree.contains("scheduler"), "{tree}");
    })
    .await;
}

#[bowline::test]
async fn a_broadcast_makes_one_for_each_channel_and_answers_in_order() {
    with_server(config(&[("schedule.max_pending_per_channel", "1")]), async |server| {
        let body = json!({"channels": ["a", "b", "a"], "data": 1, "delay": 3_600_000});
        let answer = call(&server, "broadcast", body).await;
        let responses = answer["result"]["responses"].as_array().unwrap();
        assert!(responses[0]["result"]["schedule_id"].is_string() && responses[1]["result"]["at"].is_u64());
        assert_eq!(responses[2]["error"]["code"], 106);
        assert!(responses[2]["error"]["message"].as_str().unwrap().contains("max_pending_per_channel"));
        let page = call(&server, "schedule_list", json!({"limit": 1})).await;
        let cursor = page["result"]["cursor"].clone();
        let rest = call(&server, "schedule_list", json!({"cursor": cursor})).await;
        let channel = |page: &Value| page["result"]["schedules"][0]["channel"].as_str().unwrap().to_owned();
        let mut channels = [channel(&page), channel(&rest)];
        channels.sort();
        assert_eq!(channels, ["a", "b"]);
        assert!(rest["result"]["cursor"].is_null(), "{rest}");
    })
    .await;
}

#[bowline::test]
async fn what_cannot_be_scheduled_is_said_with_a_code_and_words() {
    with_server(config(&[("schedule.max_delay", "1h")]), async |server| {
        for (fields, code, words) in [
            (json!({"delay": 1, "at": 1}), 107, "one of delay, at and cron"),
            (json!({"at": 1_700_000_000}), 107, "milliseconds since 1970"),
            (json!({"delay": 3_600_001}), 107, "schedule.max_delay"),
            (json!({"cron": "0 25 * * *", "schedule_id": "a"}), 107, "cannot be the hour"),
            (json!({"cron": "@daily", "timezone": "Mars", "schedule_id": "a"}), 107, "time zone"),
            (json!({"cron": "@daily"}), 107, "schedule_id"),
            (json!({"delay": 1, "channel": "none:c"}), 102, "unknown channel"),
            (json!({"delay": 1, "data": null}), 107, "bad request"),
            (json!({"delay": 1, "channel": "\u{0}schedules"}), 107, "bad request"),
        ] {
            let mut body = json!({"channel": "lobby", "data": 1});
            body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let answer = call(&server, "publish", body).await;
            assert_eq!(answer["error"]["code"], code, "{fields}: {answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{fields}: {answer}");
        }
        let broadcast = json!({"channels": ["a"], "data": 1, "delay": 1, "schedule_id": "a"});
        assert_eq!(call(&server, "broadcast", broadcast).await["error"]["code"], 107);
        let cursor = call(&server, "schedule_list", json!({"cursor": "x"})).await;
        assert!(cursor["error"]["message"].as_str().unwrap().contains("cursor"), "{cursor}");
    })
    .await;
}

/// A varint field of a message.
fn number(field: u32, value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::uint64::encode(field, &value, &mut bytes);
    bytes
}

fn text(field: u32, value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::string::encode(field, &value.to_owned(), &mut bytes);
    bytes
}

/// One call over gRPC; the answer's message.
async fn grpc_call(send: &SendRequest<Bytes>, method: &str, message: &[u8]) -> Bytes {
    let path = format!("/centrifugal.centrifugo.api.CentrifugoApi/{method}");
    let (response, _call) = grpc::call(send, &path, &[("authorization", "apikey grpc-key")], message).await;
    let (mut body, mut answer) = (response.into_body(), BytesMut::new());
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("the answer's end") {
        answer.extend_from_slice(&data.unwrap());
    }
    assert!(answer.len() >= 5, "no message");
    answer.freeze().slice(5..)
}

#[bowline::test]
async fn over_grpc_the_fields_are_the_same() {
    let mut settings = config(&[("grpc_api.enabled", "true"), ("grpc_api.port", "0")]);
    settings.grpc_api.key = Secret::new("grpc-key");
    with_server(settings, async |server| {
        let mut client = server.subscribe("lobby").await;
        let publish = |later: Vec<u8>| [text(1, "lobby"), text(2, "{\"n\":7}"), later].concat();
        let contains = |answer: &Bytes, words: &str| {
            answer.windows(words.len()).any(|window| window == words.as_bytes())
        };
        grpc::with_connection(server.grpc.unwrap(), async |send| {
            let answer = grpc_call(&send, "Publish", &publish(number(1000, 100))).await;
            assert!(!contains(&answer, "bad request"), "{answer:?}");
            assert!(publication(&mut client).await.contains(r#"{"n":7}"#));
            let recurs = [text(1002, "@daily"), text(1004, "daily")].concat();
            grpc_call(&send, "Publish", &publish(recurs)).await;
            let listed = grpc_call(&send, "ScheduleList", &text(1, "lobby")).await;
            assert!(contains(&listed, "@daily") && contains(&listed, "run_once"), "{listed:?}");
            assert!(contains(&grpc_call(&send, "ScheduleCancel", &text(1, "daily")).await, "cancelled"));
            let refused = grpc_call(&send, "Publish", &publish(text(1002, "@never"))).await;
            assert!(contains(&refused, "cron: "), "{refused:?}");
        })
        .await;
    })
    .await;
}
