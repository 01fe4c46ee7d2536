//! The pages as operators and their programs see them.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use bowline::{Bound, Cancelled, Overflow, scope};
use bowline_protocol::ClientInfo;
use bowline_store::MemoryStore;
use http_body_util::BodyExt;

use super::*;
use crate::config::Config;
use crate::node::channel::Role;
use crate::node::membership::Membership;
use crate::node::{Node, Outbox};

fn api() -> Api {
    Api::new(Node::new(Arc::new(Config::default()), Arc::new(MemoryStore::default())))
}

/// Status, content type and body of a GET.
async fn get(api: &Api, path: &str, query: Option<&str>) -> (u16, String, String) {
    let response = handle(api, &Method::GET, path, query, &HeaderMap::new()).expect("a page");
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, content_type, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn health_is_an_empty_object() {
    assert_eq!(get(&api(), "/health", None).await, (200, "application/json".to_owned(), "{}".to_owned()));
}

#[tokio::test]
async fn the_index_names_every_page_and_method() {
    let api = api();
    let (_, _, index) = get(&api, "/", None).await;
    for name in [
        "/health",
        "/metrics",
        "/debug/bowline/",
        "/api/<method>",
        "history_remove",
        "refresh",
        "answer 108",
        "openapi.json",
    ] {
        assert!(index.contains(name), "{name} in {index}");
    }
}

#[test]
fn other_paths_are_not_ours_and_other_methods_are_not_allowed() {
    let (api, headers) = (api(), HeaderMap::new());
    for path in ["/none", "/health/", "/metrics2", "/debug", "/debug/bowline/none", ""] {
        assert!(handle(&api, &Method::GET, path, None, &headers).is_none(), "{path}");
    }
    for path in ["/", "/health", "/metrics", "/debug/bowline/tasks"] {
        let response = handle(&api, &Method::POST, path, None, &headers).unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"GET, HEAD".parse().unwrap())
        );
        assert_eq!(handle(&api, &Method::HEAD, path, None, &headers).unwrap().status(), 200);
    }
}

#[bowline::test]
async fn the_pages_of_the_toolkit_are_served_as_text_and_as_json() -> Result<(), Cancelled> {
    let api = api();
    scope("pages", async |s| {
        let (tx, rx) = s.queue::<u8>("letters", Bound::items(4), Overflow::Block);
        s.spawn_with("reader", rx, async |_cx, rx| {
            while rx.recv().await?.is_some() {}
            Ok::<_, Cancelled>(())
        });
        let tree = "/debug/bowline/tree";
        let (status, content_type, text) = get(&api, tree, None).await;
        assert_eq!((status, &*content_type), (200, "text/plain; charset=utf-8"));
        assert!(text.contains("[scope] pages") && text.contains("reader #"), "{text}");

        let (status, content_type, json) = get(&api, tree, Some("format=json")).await;
        assert_eq!((status, &*content_type), (200, "application/json"));
        let tree: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(tree["runtime_tasks"].as_u64().unwrap() >= 1 && json.contains("\"letters\""), "{json}");

        let (_, _, text) = get(&api, "/debug/bowline/tasks", None).await;
        assert!(text.starts_with("1 tasks") && text.contains("recv #"), "{text}");
        assert_eq!(get(&api, "/debug/bowline/tasks", Some("format=yaml")).await.0, 400);
        assert_eq!(get(&api, "/debug/bowline/tasks/987654321", None).await.0, 404);
        drop(tx);
        Ok(())
    })
    .await
}

#[bowline::test]
async fn metrics_tell_what_happened() -> Result<(), Cancelled> {
    let api = api();
    let node = api.node();
    let outbox = Outbox::new(NonZeroUsize::new(65536).unwrap());
    let member = Membership::begin(
        node,
        "c",
        Arc::new(ClientInfo::default()),
        Role::default(),
        Default::default(),
        &outbox,
    );
    member.go_live(None, None).unwrap();
    node.publish(
        "c",
        &crate::node::PublishParams {
            data: bowline_protocol::Payload::from_json("{}").unwrap(),
            ..Default::default()
        },
    )
    .now()
    .unwrap();
    for code in [103, 103, 4_000_000] {
        node.counters().count_error(code);
    }
    for code in [3501, 4999] {
        node.counters().count_disconnect(code);
    }
    let _refused = api.admit(&Method::POST, "/api/info", None, &Default::default()).unwrap_err();
    scope("metrics", async |s| {
        let (tx, _rx) = s.queue::<u8>("letters", Bound::items(4), Overflow::Block);
        tx.send(1).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        s.spawn("reader", async move {
            let _ = stopped.await;
            Ok::<_, Cancelled>(())
        });
        let (status, content_type, text) = get(&api, METRICS, None).await;
        assert_eq!((status, &*content_type), (200, "text/plain; version=0.0.4; charset=utf-8"));
        let metrics = parse(&text);
        for (name, labels, value) in [
            ("bowline_build_info", "version=0.1.0", 1.0),
            ("bowline_channels", "", 1.0),
            ("bowline_subscriptions", "", 1.0),
            ("bowline_connections", "", 0.0),
            ("bowline_publications_total", "", 1.0),
            ("bowline_deliveries_accepted_total", "", 1.0),
            ("bowline_deliveries_delivered_total", "", 1.0),
            ("bowline_deliveries_refused_total", "reason=slow", 0.0),
            ("bowline_deliveries_in_flight", "", 0.0),
            ("bowline_client_errors_total", "code=103", 2.0),
            ("bowline_client_errors_total", "code=other", 1.0),
            ("bowline_disconnects_total", "code=3501", 1.0),
            ("bowline_disconnects_total", "code=other", 1.0),
            ("bowline_api_calls_total", "method=publish,outcome=ok", 0.0),
            ("bowline_api_unauthorized_total", "", 1.0),
            ("bowline_store_streams", "", 0.0),
            ("bowline_tasks", "name=reader", 1.0),
            ("bowline_queues", "name=letters", 1.0),
            ("bowline_queue_items", "name=letters", 1.0),
            ("bowline_queue_capacity_items", "name=letters", 4.0),
        ] {
            assert_eq!(
                metrics.get(&(name.to_owned(), labels.to_owned())),
                Some(&value),
                "{name} {labels}\n{text}"
            );
        }
        for name in ["bowline_runtime_tasks", "bowline_foreign_tasks", "bowline_blocking_tasks"] {
            assert!(metrics.contains_key(&(name.to_owned(), String::new())), "{name}");
        }
        if cfg!(target_os = "linux") {
            for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
                assert!(metrics.contains_key(&(name.to_owned(), String::new())), "{name}");
            }
        }
        drop(stop);
        Ok(())
    })
    .await
}

/// Reads the Prometheus text format strictly and returns every sample by name and labels.
///
/// Each family has its help, its type and its samples together and once; names and labels are of the allowed
/// characters; counters end with `_total` and gauges do not; no sample stands twice.
fn parse(text: &str) -> BTreeMap<(String, String), f64> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    assert!(text.ends_with('\n'));
    let (mut families, mut samples) = (HashSet::new(), BTreeMap::new());
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let (family, help) = help.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        assert!(is_name(family) && help.ends_with('.'), "{family} {help}");
        assert!(families.insert(family), "{family} stands twice");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {family} ")).unwrap();
        assert!(["counter", "gauge"].contains(&kind));
        assert_eq!(family.ends_with("_total"), kind == "counter", "{family}");
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            let rest = sample.strip_prefix(family).expect("a sample of the family");
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => parse_labels(rest),
                None => (Vec::new(), rest),
            };
            for (name, _) in &labels {
                assert!(is_name(name), "{sample}");
            }
            let value: f64 = value.strip_prefix(' ').unwrap().parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{sample}");
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let before = samples.insert((family.to_owned(), labels.join(",")), value);
            assert_eq!(before, None, "{sample} stands twice");
        }
    }
    samples
}

/// Reads labels up to their closing bracket; returns them and what follows.
fn parse_labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => match characters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    escaped @ ('\\' | '"') => value.push(escaped),
                    other => panic!("no such escape: {other}"),
                },
                (_, plain) => value.push(plain),
            }
        };
        labels.push((name.to_owned(), value));
        match quoted[end + 1..].split_at(1) {
            (",", after) => rest = after,
            ("}", after) => return (labels, after),
            (other, _) => panic!("{other:?} after a label"),
        }
    }
}

#[test]
fn the_parser_reads_what_the_writer_escapes() {
    let mut exposition = exposition::Exposition::default();
    let value = "a\"b\\c\nd},x=\"";
    exposition.family(exposition::Kind::Gauge, "bowline_x", "Help.").sample(&[("a", value), ("b", "")], 2);
    let parsed = parse(&exposition.into_text());
    assert_eq!(parsed, BTreeMap::from([(("bowline_x".to_owned(), format!("a={value},b=")), 2.0)]));
}
