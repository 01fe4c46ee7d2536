//! What an attacker tries on a real socket, or finds in what the server writes. `tests/SECURITY.md` lists these tests with
//! the attacks they stand for, among those that live elsewhere.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::process::Process;
use crate::support::{
    KEY, PATIENCE, Running, WEBSOCKET, closed_with, config, http, read_to_end, read_until, send, with_server,
};
use bowline_protocol::websocket::{FrameHeader, Opcode, append_frame, masked_frame};
use bowline_server::client::Client;
use bowline_server::config::Config;
use bowline_server::token::mint;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// Every way in that a browser has, and the server API, which browsers have no business at.
const WAYS_IN: [(&str, &str, &str); 5] = [
    ("GET", WEBSOCKET, ""),
    ("POST", "/connection/http_stream", "{\"id\":1,\"connect\":{}}"),
    ("POST", "/connection/sse", "{\"id\":1,\"connect\":{}}"),
    ("POST", "/emulation", "{\"node\":\"n\",\"session\":\"s\",\"data\":\"{}\"}"),
    ("POST", "/api/info", "{}"),
];

/// Settings with every way in switched on.
fn all_ways(set: &[(&str, &str)]) -> Config {
    config(&[&[("http_stream.enabled", "true"), ("sse.enabled", "true")], set].concat())
}

/// Asks at one of [`WAYS_IN`] with further header lines, and returns the head of the answer.
async fn head_of(server: SocketAddr, (method, path, body): (&str, &str, &str), headers: &str) -> String {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: {}\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        if path == WEBSOCKET { "Upgrade" } else { "close" },
        body.len()
    );
    // A WebSocket is asked for without a body.
    let request = request.replace("Content-Length: 0\r\n", "");
    let mut socket = send(server, &request).await;
    read_until(&mut socket, "\r\n\r\n").await
}

fn status(head: &str) -> &str {
    head.get(9..12).unwrap_or_else(|| panic!("no status: {head:?}"))
}

async fn still_works(server: &Running) {
    let mut client = server.subscribe("alive").await;
    server.publish("alive", "1").await;
    assert!(client.next_text().await.unwrap().contains("\"pub\""));
}

#[bowline::test]
async fn look_alikes_of_an_origin_are_refused_on_every_way_in() {
    let settings = [("client.allowed_origins", "https://example.com https://*.example.org")];
    with_server(all_ways(&settings), async |server| {
        for way in WAYS_IN {
            for origin in ["https://example.com", "https://a.example.org"] {
                let head = head_of(server.public, way, &format!("Origin: {origin}\r\n")).await;
                assert!(["101", "200", "404"].contains(&status(&head)), "{way:?} {origin}: {head}");
            }
            for origin in [
                "null",
                "https://evil-example.com",
                "https://example.com.evil.net",
                "https://example.com@evil.net",
                "https://example.com/",
                "https://example.com:443.evil.net",
                "https://example.com:8443",
                "http://example.com",
                "https://EXAMPLE.com.",
                "https://evilexample.org",
                "https://a.example.org.evil.net",
                "https://evil.net/.example.org",
                "https://evil.net#.example.org",
                "https://evil.net?.example.org",
                "https://evil.net\\.example.org",
                "*",
                "",
            ] {
                let head = head_of(server.public, way, &format!("Origin: {origin}\r\n")).await;
                assert_eq!(status(&head), "403", "{way:?} {origin}: {head}");
                assert!(!head.contains("access-control"), "{way:?} {origin}: {head}");
            }
        }
    })
    .await;
}

/// The default lets no page in; who sends no origin is no browser.
#[bowline::test]
async fn without_a_list_no_page_of_another_origin_gets_in() {
    // Only `--dev` allows every origin by itself.
    with_server(all_ways(&[("client.allowed_origins", "")]), async |server| {
        for way in WAYS_IN {
            for origin in ["https://example.com", "http://127.0.0.1:8000", "null"] {
                let head = head_of(server.public, way, &format!("Origin: {origin}\r\n")).await;
                assert_eq!(status(&head), "403", "{way:?} {origin}: {head}");
            }
            let head = head_of(server.public, way, "").await;
            assert!(["101", "200", "404"].contains(&status(&head)), "{way:?}: {head}");
        }
    })
    .await;
}

#[bowline::test]
async fn nobody_who_was_not_named_is_offered_credentials_and_a_cookie_opens_nothing() {
    let settings = [
        ("client.allowed_origins", "*"),
        ("client.allow_anonymous_connect_without_token", "false"),
        ("client.insecure", "false"),
    ];
    with_server(all_ways(&settings), async |server| {
        for way in WAYS_IN {
            for method in [way.0, "OPTIONS"] {
                let headers = "Origin: https://anybody.example\r\nAccess-Control-Request-Method: POST\r\n";
                let head = head_of(server.public, (method, way.1, way.2), headers).await.to_ascii_lowercase();
                assert!(!head.contains("access-control-allow-credentials"), "{method} {way:?}: {head}");
                assert!(!head.contains("access-control-allow-origin: *"), "{method} {way:?}: {head}");
                assert!(!head.contains("set-cookie"), "{method} {way:?}: {head}");
            }
        }
        let request = format!(
            "GET {WEBSOCKET} HTTP/1.1\r\nHost: x\r\nCookie: session=somebody\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut socket = send(server.public, &request).await;
        read_until(&mut socket, "\r\n\r\n").await;
        socket.write_all(&masked_frame(Opcode::Text, br#"{"id":1,"connect":{}}"#, [1; 4])).await.unwrap();
        let answer = read_to_end_lossy(&mut socket).await;
        assert!(answer.contains("bad request"), "{answer:?}");
        assert_eq!(server.node.stats().clients, 0);
    })
    .await;
}

async fn read_to_end_lossy(socket: &mut tokio::net::TcpStream) -> String {
    read_to_end(socket).await.unwrap_or_default()
}

#[bowline::test]
async fn a_head_of_too_many_headers_or_bytes_is_refused() {
    with_server(config(&[]), async |server| {
        let header = |bytes: usize| format!("X-Long: {}\r\n", "x".repeat(bytes));
        for (what, headers) in [
            ("many", "X-Many: 1\r\n".repeat(100)),
            ("one that is long", header(64 * 1024)),
            ("many that are long together", header(1000).repeat(40)),
        ] {
            for listener in [server.public, server.internal] {
                let mut socket = send(listener, "GET / HTTP/1.1\r\nHost: x\r\n").await;
                // The refusal may come before everything is said.
                let _ = socket.write_all(format!("{headers}\r\n").as_bytes()).await;
                let answer = read_to_end_lossy(&mut socket).await;
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{what}: {answer}");
            }
        }
        let mut socket =
            send(server.public, &format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(64 * 1024))).await;
        let answer = read_to_end_lossy(&mut socket).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "a long target: {answer}");
        still_works(&server).await;
    })
    .await;
}

/// Slowloris: a byte now and then keeps no connection beyond the time for the head.
#[bowline::test]
async fn a_head_that_trickles_is_given_up() {
    with_server(config(&[("http_server.handshake_timeout", "300ms")]), async |server| {
        for listener in [server.public, server.internal] {
            let mut socket = send(listener, "GET /health HTTP/1.1\r\nX-Slow: ").await;
            let trickle = async {
                while socket.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(PATIENCE, trickle).await.expect("closed although something always comes");
        }
    })
    .await;
}

/// The `ws` advisory: a message in crumbs costs memory for each of them.
#[bowline::test]
async fn a_message_in_crumbs_ends_that_connection() {
    with_server(config(&[("websocket.message_size_limit", "1048576")]), async |server| {
        for (count, bytes) in [(200, 0), (200, 1), (1100, 64)] {
            let mut client = server.open().await;
            let mut stream = Vec::new();
            for number in 0..count {
                let opcode = if number == 0 { Opcode::Text } else { Opcode::Continuation };
                let header =
                    FrameHeader { is_final: false, mask: Some([1; 4]), ..FrameHeader::new(opcode, 0) };
                append_frame(header, &vec![b' '; bytes], &mut stream);
            }
            let _ = client.send_raw(&stream).await;
            assert_eq!(closed_with(&mut client).await.0, 1008, "{count} pieces of {bytes} bytes");
        }
        still_works(&server).await;
    })
    .await;
}

/// Pings and pongs are answered or dropped without looking at them, but not for nothing: they count as commands.
#[bowline::test]
async fn a_flood_of_control_frames_ends_the_connection_as_one_of_commands_does() {
    with_server(config(&[("client.command_rate_limit", "10")]), async |server| {
        for opcode in [Opcode::Ping, Opcode::Pong] {
            for is_connected in [false, true] {
                let mut client = if is_connected { server.connect().await } else { server.open().await };
                let flood = masked_frame(opcode, b"", [1; 4]).repeat(1000);
                let _ = client.send_raw(&flood).await;
                assert_eq!(
                    closed_with(&mut client).await,
                    (3013, "too many requests".to_owned()),
                    "{opcode:?}"
                );
            }
        }
        still_works(&server).await;
    })
    .await;
}

/// Nothing here inflates what a request brings: a bomb is some bytes that are no JSON.
#[bowline::test]
async fn a_compressed_body_is_not_inflated() {
    // {"channel":"a","data":1} behind gzip's header, in a stored block.
    let plain = br#"{"channel":"a","data":1}"#;
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    gzip.extend([plain.len() as u8, 0, !(plain.len() as u8), 255]);
    gzip.extend(plain);
    gzip.extend([0; 8]);
    with_server(all_ways(&[]), async |server| {
        for path in ["/api/publish", "/connection/http_stream", "/emulation"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nConnection: close\r\nContent-Encoding: gzip\r\n\
                 Content-Length: {}\r\n\r\n",
                gzip.len()
            );
            let mut socket = send(server.public, &head).await;
            socket.write_all(&gzip).await.unwrap();
            let answer = read_to_end_lossy(&mut socket).await;
            let is_refused = answer.starts_with("HTTP/1.1 400 ") || answer.contains("bad request");
            assert!(is_refused, "{path}: {answer}");
        }
        assert_eq!(server.node.stats().publications, 0);
    })
    .await;
}

/// A key that is wrong is wrong whatever it shares with the right one; how long it is makes no other answer.
#[bowline::test]
async fn keys_of_every_length_get_the_same_refusal() {
    with_server(config(&[]), async |server| {
        let mut answers = Vec::new();
        for length in [1, KEY.len() - 1, KEY.len(), KEY.len() + 1, 1000] {
            let key: String = KEY.chars().chain("x".repeat(1000).chars()).take(length.max(1)).collect();
            let key = if key == KEY { "test-kez".to_owned() } else { key };
            answers.push(server.api("info", Some(&key), "{}").await);
        }
        assert!(answers.iter().all(|answer| *answer == (401, String::new())), "{answers:?}");
        assert_eq!(server.api("info", Some(KEY), "{}").await.0, 200);
    })
    .await;
}

// -- What the server writes -------------------------------------------------------------------------------------------

const API_KEY: &str = "api-key-that-must-not-be-seen-0001";
const TOKEN_KEY: &str = "token-key-that-must-not-be-seen-0001";

/// The real server with everything logged to a file.
struct Talkative {
    process: Process,
    log: std::path::PathBuf,
}

impl Talkative {
    fn start(name: &str) -> Self {
        let log = std::env::temp_dir().join(format!("bowline-{name}-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "log=$1; shift; exec \"$@\" 2>\"$log\"", "sh"]);
        command.arg(&log).arg(env!("CARGO_BIN_EXE_bowline")).args(["serve", "--dev"]);
        for set in [
            "http_server.port=0",
            "http_server.internal_port=0",
            "client.ping_interval=1h",
            "log.level=trace",
            "http_stream.enabled=true",
            "sse.enabled=true",
            "channel.without_namespace.channel_regex=(?s).*",
        ] {
            command.args(["--set", set]);
        }
        command.env("BOWLINE_HTTP_API_KEY", API_KEY).env("BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY", TOKEN_KEY);
        Self { process: Process::start(command), log }
    }

    /// What it has logged, once it has ended.
    fn end(self) -> String {
        let command_line = self.process.command_line();
        self.process.signal("TERM");
        self.process.wait(PATIENCE);
        let log = std::fs::read(&self.log).unwrap();
        let _ = std::fs::remove_file(&self.log);
        command_line + &String::from_utf8(log).unwrap()
    }
}

fn token(claims: &Value) -> String {
    mint(&bowline_server::config::Secret::new(TOKEN_KEY).unwrap(), claims).unwrap()
}

/// Secrets go in by every way they can: none comes out in the log at its most talkative, on any page, in a refusal, or in
/// the command line that everybody on the machine can read.
#[bowline::test]
async fn no_secret_is_in_the_log_on_a_page_or_in_a_refusal() {
    let server = Talkative::start("secrets");
    let (public, internal) = (server.process.public, server.process.internal);
    let mut secrets = vec![API_KEY.to_owned(), TOKEN_KEY.to_owned()];
    let mut seen = String::new();

    // Tokens: good, expired, of another key, malformed; in connects, refreshes and subscriptions.
    let tokens = [
        token(&json!({"sub": "42", "exp": 4_102_444_800_u64})),
        token(&json!({"sub": "42", "exp": 1})),
        token(&json!({"sub": "42", "channel": "$room", "exp": 4_102_444_800_u64})),
        token(&json!({"sub": "42"})) + "x",
        "a-token-that-is-none-at-all".to_owned(),
    ];
    let mut kept = Vec::new();
    for token in &tokens {
        for then in ["refresh", "subscribe", "sub_refresh"] {
            let mut client = Client::open(public, WEBSOCKET).await.unwrap();
            let connect = if then == "refresh" { token } else { &tokens[0] };
            let connect = json!({"id": 1, "connect": {"token": connect}}).to_string();
            let more = json!({"id": 2, then: {"channel": "$room", "token": token}}).to_string();
            client.send(&format!("{connect}\n{more}")).await.unwrap();
            seen += &client.next_text().await.unwrap_or_default();
            kept.push(client);
        }
    }
    secrets.extend(tokens.iter().flat_map(|token| {
        // The whole, and the signature alone.
        [token.clone(), token.rsplit('.').next().unwrap().to_owned()]
    }));

    // The secret of a session is told to its client alone.
    let connect = json!({"id": 1, "connect": {"token": tokens[0]}}).to_string();
    let open = format!(
        "POST /connection/http_stream HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{connect}",
        connect.len()
    );
    let mut stream = send(public, &open).await;
    let told = read_until(&mut stream, "\"session\":\"").await;
    let told =
        if told.contains("\"node\"") { told } else { told + &read_until(&mut stream, "\"node\"").await };
    let session = told.split("\"session\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let node = told.split("\"node\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for session in [&session, &format!("{session}x")] {
        let body = json!({"node": node, "session": session, "data": "{\"id\":2,\"rpc\":{}}"}).to_string();
        seen += &http(public, "POST", "/emulation", None, body.as_bytes()).await.1;
    }
    secrets.push(session);

    // Keys of the server API, right and wrong, in each place.
    let wrong = "wrong-key-that-may-be-a-right-one-elsewhere";
    secrets.push(wrong.to_owned());
    for key in [API_KEY, wrong] {
        for listener in [public, internal] {
            seen += &http(listener, "POST", "/api/info", Some(key), b"{}").await.1;
            seen += &http(listener, "POST", &format!("/api/info?api_key={key}"), None, b"{}").await.1;
            let body = b"{\"channel\":";
            seen += &http(listener, "POST", "/api/publish", Some(key), body).await.1;
        }
    }
    // The pages, as the index names them, while all of these connections are there.
    for path in [
        "/",
        "/health",
        "/metrics",
        "/debug/bowline",
        "/debug/bowline/tree?each=all",
        "/debug/bowline/tree?format=json&each=all",
        "/debug/bowline/tasks",
        "/debug/bowline/queues",
        "/debug/bowline/waits",
        "/debug/bowline/metrics",
    ] {
        seen += &http(internal, "GET", path, None, b"").await.1;
    }
    assert!(seen.contains("connection") && seen.contains("bowline_"), "the pages were not read");
    drop((kept, stream));

    let log = server.end();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "it was not talkative: {log}");
    for secret in &secrets {
        assert!(!seen.contains(secret), "{secret} is shown");
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is logged: {line:?}");
    }
}

/// What comes from outside adds no line to the log and no event to a stream, wherever it stands.
#[bowline::test]
async fn line_breaks_from_outside_forge_neither_log_lines_nor_events() {
    let server = Talkative::start("lines");
    let public = server.process.public;
    let nasty = "42\r\n\r\ndata {}\r\nFORGED\n\u{1b}[2J";
    let claims = token(&json!({"sub": nasty, "exp": 4_102_444_800_u64}));

    let events = json!({"id": 1, "connect": {"token": claims, "name": nasty, "version": nasty}}).to_string()
        + "\n"
        + &json!({"id": 2, "subscribe": {"channel": nasty}}).to_string();
    let events: String = form_urlencoded::byte_serialize(events.as_bytes()).collect();
    let mut stream =
        send(public, &format!("GET /connection/sse?cf_connect={events} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    // What is published is meant for this stream too: it has to be subscribed by then.
    let mut told = read_until(&mut stream, "\"id\":2").await;
    let mut client = Client::open(public, WEBSOCKET).await.unwrap();
    for (id, request) in (1..).zip([
        json!({"connect": {"token": claims}}),
        json!({"subscribe": {"channel": nasty}}),
        json!({"presence": {"channel": nasty}}),
        json!({"history": {"channel": nasty, "limit": 5, "since": {"epoch": nasty, "offset": 1}}}),
        json!({"rpc": {"method": nasty}}),
        json!({"subscribe": {"channel": format!("{nasty}2"), "token": nasty}}),
    ]) {
        let mut command = request;
        command["id"] = json!(id);
        client.call(&command.to_string()).await.unwrap();
    }
    let publish = json!({"channel": nasty, "data": {"text": nasty, "last": "the end of it"}}).to_string();
    let answer = http(public, "POST", "/api/publish", Some(API_KEY), publish.as_bytes()).await;
    assert_eq!(answer.0, 200, "{answer:?}");
    told += &read_until(&mut stream, "the end of it").await;
    let body = told.split_once("\r\n\r\n").unwrap().1;
    for line in body.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()) {
        let is_length = line.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(
            is_length || line.starts_with("data: {") || line.starts_with(':'),
            "a line of its own: {line:?}"
        );
    }
    drop((stream, client));

    let log = server.end();
    assert!(log.contains("FORGED"), "nothing of it was logged: the case is not the one it wants to be");
    for line in log.lines().skip(1) {
        assert!(!line.starts_with("FORGED") && !line.starts_with("data "), "{line:?}");
        assert!(!line.contains("\u{1b}[2J"), "a terminal would obey {line:?}");
    }
}

/// NATS advisories of crafted numbers that panicked the server: here over a socket, with somebody else's connection as
/// the witness.
#[bowline::test]
async fn numbers_at_the_edges_of_their_types_take_nobody_down() {
    let settings = [
        ("channel.without_namespace.history_size", "10"),
        ("channel.without_namespace.history_ttl", "1h"),
        ("channel.without_namespace.allow_history_for_client", "true"),
        ("channel.without_namespace.force_recovery", "true"),
    ];
    with_server(config(&settings), async |server: Arc<Running>| {
        let mut witness = server.subscribe("quiet").await;
        server.publish("a", "1").await;
        let mut client = server.connect().await;
        for number in [i64::MIN, i64::from(i32::MIN), -1, 0, i64::from(i32::MAX), i64::MAX] {
            for offset in [0, 1, u64::MAX] {
                let since = json!({"offset": offset, "epoch": ""});
                let body =
                    json!({"channel": "a", "limit": number, "since": since, "reverse": number % 2 == 0});
                let (status, _) = server.api("history", Some(KEY), &body.to_string()).await;
                assert!([200, 400].contains(&status), "{body}: {status}");
                if i32::try_from(number).is_ok() {
                    let command = json!({"id": 7, "history": body}).to_string();
                    assert!(client.call(&command).await.unwrap().contains("\"id\":7"), "{command}");
                }
            }
        }
        for ttl in ["-1", "0", "18446744073709551615", "9223372036854775807"] {
            let body = format!(r#"{{"user":"42","expired":false,"expire_at":{ttl}}}"#);
            assert!([200, 400].contains(&server.api("refresh", Some(KEY), &body).await.0), "{body}");
        }
        server.publish("quiet", r#""still here""#).await;
        assert!(witness.next_text().await.unwrap().contains("still here"));
    })
    .await;
}
