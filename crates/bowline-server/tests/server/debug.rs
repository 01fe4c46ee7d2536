//! The pages of what goes on: on the internal listener, under load, and never on the public one.

use std::time::Duration;

use serde_json::Value;

use crate::support::{KEY, config, http, with_server};

const PAGES: [&str; 23] = [
    "",
    "alerts",
    "tasks",
    "tree",
    "waits",
    "locks",
    "queues",
    "pools",
    "pipelines",
    "bulkheads",
    "cpu",
    "buffers",
    "leases",
    "breakers",
    "retries",
    "effects",
    "copies",
    "supervisors",
    "schedules",
    "panics",
    "metrics",
    "suspicions",
    "deadlocks",
];

#[tokio::test]
async fn the_internal_listener_has_every_page_and_the_public_one_has_none() {
    with_server(config(&[]), async |server| {
        let _client = server.subscribe("news").await;
        for page in PAGES {
            let path = format!("/debug/bowline/{page}");
            let (status, body) = server.get(&path).await;
            assert!(status == 200 && !body.is_empty(), "{page}: {status} {body}");
            assert_eq!(http(server.internal, "POST", &path, None, b"").await.0, 405, "{page}");
            // Not even for those who have the key.
            for key in [None, Some(KEY)] {
                let (status, body) = http(server.public, "GET", &path, key, b"").await;
                assert_eq!((status, &*body), (404, "there is nothing here\n"), "{page}");
            }
        }
        assert_eq!(http(server.public, "GET", "/metrics", Some(KEY), b"").await.0, 404);
        let (status, body) = http(server.internal, "HEAD", "/debug/bowline/tree", None, b"").await;
        assert_eq!((status, &*body), (200, ""));
        assert_eq!(server.get("/debug/bowline/tasks?sort=colour").await.0, 400);
        assert_eq!(server.get("/debug/bowline/none").await.0, 404);
    })
    .await;
}

/// In a root of its own, so that it sees its own server and none of the others in this process.
#[bowline::test]
async fn the_pages_show_connections_their_queues_and_one_of_them() {
    with_server(config(&[]), async |server| {
        let clients = [server.subscribe("news").await, server.subscribe("news").await];
        let json = async |page: &str| -> Value {
            let (status, body) = server.get(&format!("/debug/bowline/{page}")).await;
            assert_eq!(status, 200, "{body}");
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
        };
        let tasks = json("tasks?format=json&name=public/connection").await;
        assert_eq!(tasks["matched"], clients.len(), "{tasks}");
        let queues = json("queues?format=json&name=outbox").await;
        assert_eq!(queues["queues"].as_array().unwrap().len(), clients.len(), "{queues}");
        let id = &tasks["tasks"][0]["id"];
        let one = json(&format!("tasks/{id}?format=json")).await;
        assert_eq!((&one["task"]["id"], &one["queues"][0]["name"]), (id, &"outbox".into()), "{one}");
        let all = json("tasks?format=json&limit=all").await;
        assert_eq!(all["tasks"].as_array().unwrap().len() as u64, all["matched"].as_u64().unwrap());
    })
    .await;
}

/// A dump is made while it is sent: who stops reading holds up nobody else, and who goes away ends it.
#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody() {
    with_server(config(&[]), async |server| {
        let _clients = [server.connect().await, server.connect().await];
        let asks = "GET /debug/bowline/tasks?limit=all HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
        let idle = crate::support::send(server.internal, &asks).await;
        for _ in 0..20 {
            assert_eq!(server.get("/health").await.0, 200);
        }
        drop(idle);
        tokio::time::timeout(Duration::from_secs(60), server.get("/metrics")).await.unwrap();
    })
    .await;
}
