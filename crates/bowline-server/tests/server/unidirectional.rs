//! Clients that only listen, over their three transports, and the address that does nothing.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{
    KEY, PATIENCE, closed_with, config, eventually, http, read_to_end, read_until, send, with_server,
};
use bowline_protocol::websocket::{Opcode, masked_frame};
use bowline_server::client::Client;
use bowline_server::config::{Config, Secret};
use bowline_server::token;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const WEBSOCKET: &str = "/connection/uni_websocket";
const STREAM: &str = "/connection/uni_http_stream";
const EVENTS: &str = "/connection/uni_sse";
const INIT: &str = "/connection/init";

/// Shorter than every time that would end a connection by itself, and long enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(30);

const TOKEN_KEY: &str = "a secret of more than thirty-two bytes";

/// Settings with everything on, and what else a test wants.
fn on(set: &[(&str, &str)]) -> Config {
    let all = [
        ("uni_websocket.enabled", "true"),
        ("uni_http_stream.enabled", "true"),
        ("uni_sse.enabled", "true"),
        ("init.enabled", "true"),
    ];
    let mut config = config(&[&all[..], set].concat());
    config.client.token.hmac_secret_key = Secret::new(TOKEN_KEY);
    config
}

fn token_of(user: &str) -> String {
    token::mint(&Secret::new(TOKEN_KEY).unwrap(), &json!({"sub": user})).unwrap()
}

fn in_address(path: &str, request: &str) -> String {
    let request: String = form_urlencoded::byte_serialize(request.as_bytes()).collect();
    format!("{path}?cf_connect={request}")
}

/// A client that listens: each push is a line, or the data of an event.
enum Listener {
    WebSocket(Box<Client>),
    Stream(TcpStream, Vec<u8>),
}

/// The ways to come in.
const WAYS: [&str; 5] = ["WebSocket", "WebSocket by address", "stream", "events", "posted events"];

impl Listener {
    async fn open(server: SocketAddr, way: &str, request: &str) -> Self {
        let post = |path: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{request}", request.len())
        };
        let asked = match way {
            "WebSocket" => {
                let mut client = Client::open(server, WEBSOCKET).await.unwrap();
                client.send(request).await.unwrap();
                return Self::WebSocket(Box::new(client));
            }
            "WebSocket by address" => {
                let client = Client::open(server, &in_address(WEBSOCKET, request)).await.unwrap();
                return Self::WebSocket(Box::new(client));
            }
            "stream" => post(STREAM),
            "events" => format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", in_address(EVENTS, request)),
            "posted events" => post(EVENTS),
            _ => unreachable!("{way}"),
        };
        let mut stream = send(server, &asked).await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let rest = head.split_once("\r\n\r\n").unwrap().1.as_bytes().to_vec();
        Self::Stream(stream, rest)
    }

    /// The next push.
    async fn next(&mut self) -> Value {
        match self {
            Self::WebSocket(client) => {
                let text = tokio::time::timeout(PATIENCE, client.next_text()).await.expect("something comes");
                serde_json::from_str(&text.unwrap()).unwrap()
            }
            Self::Stream(stream, read) => loop {
                // The framing of HTTP has no braces in it.
                let ends: Vec<_> = (0..read.len()).filter(|&at| read[at] == b'\n').collect();
                let whole = ends.into_iter().find_map(|end| {
                    let line = std::str::from_utf8(&read[..end]).ok()?;
                    let line = line.lines().next_back()?.trim_start_matches("data: ").trim();
                    Some((serde_json::from_str::<Value>(line).ok().filter(Value::is_object)?, end))
                });
                if let Some((push, end)) = whole {
                    read.drain(..=end);
                    return push;
                }
                let got =
                    tokio::time::timeout(PATIENCE, stream.read_buf(read)).await.expect("something comes");
                assert_ne!(got.unwrap(), 0, "closed: {}", String::from_utf8_lossy(read));
            },
        }
    }

    /// How the transport itself ends, behind the last push.
    async fn end(self) -> Option<u16> {
        match self {
            Self::WebSocket(mut client) => Some(closed_with(&mut client).await.0),
            Self::Stream(mut stream, read) => {
                let read = String::from_utf8(read).unwrap();
                let rest = read + &read_to_end(&mut stream).await.unwrap();
                assert!(rest.ends_with("0\r\n\r\n"), "the answer is complete: {rest:?}");
                None
            }
        }
    }
}

#[bowline::test]
async fn transports_for_listeners_are_off_unless_switched_on() {
    with_server(config(&[]), async |server| {
        for (method, path) in [("GET", WEBSOCKET), ("POST", STREAM), ("GET", EVENTS), ("GET", INIT)] {
            assert_eq!(http(server.public, method, path, None, b"").await.0, 404, "{path}");
        }
    })
    .await;
}

#[bowline::test]
async fn a_listener_gets_bare_pushes_and_pings_and_the_reason_of_its_end() {
    with_server(on(&[("client.ping_interval", "500ms"), ("client.pong_timeout", "400ms")]), async |server| {
        for way in WAYS {
            let request = json!({"token": token_of("ada"), "subs": {"news": {}, "nowhere:x": {}}});
            let mut listener = Listener::open(server.public, way, &request.to_string()).await;
            let connect = listener.next().await;
            assert!(connect["connect"]["client"].is_string(), "{way}: {connect}");
            let subs: Vec<_> = connect["connect"]["subs"].as_object().unwrap().keys().collect();
            assert_eq!(subs, ["news"], "{way}");
            server.publish("news", r#"{"n":1}"#).await;
            let mut pings = 0;
            let push = loop {
                match listener.next().await {
                    ping if ping == json!({}) => pings += 1,
                    push => break push,
                }
            };
            assert_eq!((&push["channel"], &push["pub"]["data"]), (&json!("news"), &json!({"n": 1})), "{way}");
            // More than one is not answered.
            while pings < 3 {
                assert_eq!(listener.next().await, json!({}), "{way}");
                pings += 1;
            }
            server.api("disconnect", Some(KEY), r#"{"user":"ada"}"#).await;
            let last = loop {
                match listener.next().await {
                    ping if ping == json!({}) => {}
                    push => break push,
                }
            };
            assert_eq!(last, json!({"disconnect": {"code": 3503, "reason": "force disconnect"}}), "{way}");
            let code = listener.end().await;
            assert!(code.is_none_or(|code| code == 3503), "{way}: {code:?}");
            eventually("it is gone", || server.node.stats().clients == 0).await;
        }
    })
    .await;
}

#[bowline::test]
async fn a_listener_without_a_request_is_anonymous() {
    with_server(on(&[]), async |server| {
        for asked in [
            format!("GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("POST {STREAM} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
        ] {
            let mut stream = send(server.public, &asked).await;
            read_until(&mut stream, r#"{"connect":{"client":""#).await;
        }
    })
    .await;
}

#[bowline::test]
async fn who_may_not_listen_hears_why_and_who_says_nothing_is_stale() {
    with_server(on(&[("client.stale_close_delay", "300ms")]), async |server| {
        for way in WAYS {
            let mut listener = Listener::open(server.public, way, r#"{"token":"false"}"#).await;
            assert_eq!(listener.next().await["disconnect"]["code"], 3500, "{way}");
            assert!(listener.end().await.is_none_or(|code| code == 3500), "{way}");
        }
        let mut silent = Client::open(server.public, WEBSOCKET).await.unwrap();
        assert_eq!(closed_with(&mut silent).await.0, 3502);
    })
    .await;
}

#[bowline::test]
async fn a_listener_on_a_websocket_that_says_more_is_closed() {
    with_server(on(&[("uni_websocket.message_size_limit", "1000")]), async |server| {
        for way in ["WebSocket", "WebSocket by address"] {
            let mut listener = Listener::open(server.public, way, "{}").await;
            listener.next().await;
            let Listener::WebSocket(client) = &mut listener else { unreachable!() };
            client.send(r#"{"id":1,"subscribe":{"channel":"a"}}"#).await.unwrap();
            assert_eq!(listener.next().await["disconnect"]["code"], 3501, "{way}");
            assert_eq!(listener.end().await, Some(3501), "{way}");
        }
        let mut large = Client::open(server.public, WEBSOCKET).await.unwrap();
        large.send_raw(&masked_frame(Opcode::Text, &[b' '; 1001], [0; 4])).await.unwrap();
        assert_eq!(closed_with(&mut large).await.0, 1009);
    })
    .await;
}

#[bowline::test]
async fn requests_that_open_no_stream_for_a_listener_are_told_why() {
    with_server(on(&[("uni_http_stream.max_request_body_size", "1000")]), async |server| {
        let large = vec![b' '; 2000];
        assert_eq!(http(server.public, "POST", STREAM, None, &large).await.0, 413);
        assert_eq!(http(server.public, "GET", STREAM, None, b"").await.0, 405);
        assert_eq!(http(server.public, "PUT", EVENTS, None, b"").await.0, 405);
        assert_eq!(http(server.public, "POST", WEBSOCKET, None, b"").await.0, 405);
    })
    .await;
}

#[bowline::test]
async fn pages_of_other_origins_listen_only_if_they_are_listed() {
    with_server(on(&[("client.allowed_origins", "https://ours.example")]), async |server| {
        for (method, path) in [("POST", STREAM), ("GET", EVENTS), ("GET", WEBSOCKET), ("GET", INIT)] {
            for origin in ["https://evil.example", "null", "https://ours.example.evil.example"] {
                let asked = format!(
                    "{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                );
                let answer = read_to_end(&mut send(server.public, &asked).await).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 403 "), "{path} {origin}: {answer}");
            }
        }
        let asked = format!("GET {EVENTS} HTTP/1.1\r\nHost: x\r\nOrigin: https://ours.example\r\n\r\n");
        let answer = read_until(&mut send(server.public, &asked).await, r#""connect""#).await;
        assert!(answer.contains("access-control-allow-origin: https://ours.example\r\n"), "{answer}");
    })
    .await;
}

#[bowline::test]
async fn a_listener_that_goes_is_gone_at_once_and_a_stopping_server_tells_the_others() {
    let mut stopped = None;
    with_server(on(&[]), async |server| {
        for way in WAYS {
            let mut listener = Listener::open(server.public, way, "{}").await;
            listener.next().await;
            let began = Instant::now();
            drop(listener);
            eventually("it is gone", || server.node.stats().clients == 0).await;
            assert!(began.elapsed() < AT_ONCE, "{way}: after {:?}", began.elapsed());
        }
        let mut listeners = Vec::new();
        for way in WAYS {
            let mut listener = Listener::open(server.public, way, "{}").await;
            listener.next().await;
            listeners.push(listener);
        }
        stopped = Some(Instant::now());
        server.stop.notify_one();
        for mut listener in listeners {
            assert_eq!(listener.next().await["disconnect"]["code"], 3001);
            assert!(listener.end().await.is_none_or(|code| code == 3001));
        }
    })
    .await;
    assert!(stopped.unwrap().elapsed() < AT_ONCE);
}

#[bowline::test]
async fn the_address_that_does_nothing_says_so_to_those_who_may_ask() {
    with_server(on(&[("client.allowed_origins", "https://ours.example")]), async |server| {
        assert_eq!(http(server.public, "GET", INIT, None, b"").await, (200, "{}".to_owned()));
        assert_eq!(http(server.public, "POST", INIT, None, b"{}").await.0, 405);
        let asked = |method: &str| {
            format!(
                "{method} {INIT} HTTP/1.1\r\nHost: x\r\nOrigin: https://ours.example\r\nConnection: close\r\n\r\n"
            )
        };
        let answer = read_to_end(&mut send(server.public, &asked("GET")).await).await.unwrap();
        for header in
            ["access-control-allow-origin: https://ours.example", "access-control-allow-credentials: true"]
        {
            assert!(answer.contains(header), "{answer}");
        }
        let preflight = read_to_end(&mut send(server.public, &asked("OPTIONS")).await).await.unwrap();
        assert!(preflight.starts_with("HTTP/1.1 204 "), "{preflight}");
        assert!(preflight.contains("access-control-allow-methods: GET, OPTIONS"), "{preflight}");
        // It is no connection of a client.
        let mut stream = send(server.public, &asked("GET").replace("close", "keep-alive")).await;
        read_until(&mut stream, "{}").await;
        stream.write_all(asked("GET").as_bytes()).await.unwrap();
        read_until(&mut stream, "{}").await;
        assert_eq!(server.node.stats().clients, 0);
    })
    .await;
}
