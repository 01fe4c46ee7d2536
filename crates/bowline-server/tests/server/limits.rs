//! How many connections there may be: per address, per process, and before anybody knows who they are.

use std::net::SocketAddr;
use std::process::Command;

use crate::process::Process;
use crate::support::{
    PATIENCE, WEBSOCKET, closed_with, config, eventually_named, http, read_until, send, with_server,
};
use bowline_server::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Whether a new socket is closed before it has been answered anything.
async fn is_refused(server: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(server).await else { return true };
    let _ = stream.write_all(b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let first = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an answer, or the end");
    first.is_err()
}

#[bowline::test]
async fn an_address_has_as_many_connections_as_it_may_until_one_goes() {
    let settings = [("http_server.connections_per_address", "3"), ("http_server.trusted_proxies", "")];
    with_server(config(&settings), async |server| {
        let websocket = server.connect().await;
        let silent = TcpStream::connect(server.public).await.unwrap();
        let mut others = vec![server.open().await];
        assert!(is_refused(server.public).await);
        assert!(is_refused(server.public).await, "who was refused holds nothing");
        assert_eq!(server.get("/health").await.0, 200, "the internal listener has no such bound");

        // A place is given back however a connection ends.
        drop(websocket);
        eventually_named(&server, "connection", 2).await;
        others.push(server.connect().await);
        assert!(is_refused(server.public).await);
        drop(silent);
        eventually_named(&server, "connection", 2).await;
        others.push(server.connect().await);
        assert!(is_refused(server.public).await);
    })
    .await;
}

/// A proxy on the same machine, as the tests are: what it says about its clients counts.
#[bowline::test]
async fn behind_a_proxy_each_client_has_its_own_bound_and_is_told() {
    with_server(config(&[("http_server.connections_per_address", "2")]), async |server| {
        let upgrade = async |client: &str| {
            let request = format!(
                "GET {WEBSOCKET} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.9, {client}\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            let mut stream = send(server.public, &request).await;
            let head = read_until(&mut stream, "\r\n\r\n").await;
            (head[9..12].to_owned(), stream)
        };
        let mut held = Vec::new();
        for client in ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1", "192.0.2.1"] {
            let (status, stream) = upgrade(client).await;
            assert_eq!(status, "101", "{client}");
            held.push(stream);
        }
        assert_eq!(upgrade("2001:db8:0:1::3").await.0, "429", "a third one of the same network");
        held.remove(0);
        eventually_named(&server, "connection", 3).await;
        assert_eq!(upgrade("2001:db8:0:1::3").await.0, "101");
    })
    .await;
}

#[bowline::test]
async fn an_address_that_begins_too_many_connections_is_closed_at_accept() {
    let settings = [("http_server.handshakes_per_address", "1"), ("http_server.trusted_proxies", "")];
    with_server(config(&settings), async |server| {
        let first = server.connect().await;
        // Ten at once and one each second.
        let mut let_in = 0;
        while !is_refused(server.public).await {
            let_in += 1;
            assert!(let_in < 200, "nobody is refused");
        }
        drop(first);
    })
    .await;
}

#[bowline::test]
async fn a_full_server_tells_a_client_before_it_has_said_who_it_is() {
    with_server(config(&[("client.connection_limit", "2")]), async |server| {
        let (first, _second) = (server.connect().await, server.connect().await);
        let mut third = server.open().await;
        assert_eq!(closed_with(&mut third).await, (3504, "connection limit".to_owned()));
        assert_eq!(server.node.stats().messages_in, 2);
        drop(first);
        crate::support::eventually("one is gone", || server.node.stats().clients == 1).await;
        let mut third = server.connect().await;
        // Both are there when the second of them connects: the table of users has the last word.
        let mut late = server.open().await;
        assert_eq!(closed_with(&mut late).await.0, 3504);
        assert!(third.call(r#"{"id":2,"subscribe":{"channel":"a"}}"#).await.unwrap().contains("subscribe"));
    })
    .await;
}

/// 64 open files, of which 32 are left to the rest of the process.
#[bowline::test(worker_threads = 2)]
async fn clients_leave_open_files_to_operators_and_get_in_again_when_others_go() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_bowline"), "serve", "--dev"]);
    for set in ["http_server.port=0", "http_server.internal_port=0", "http_server.first_byte_timeout=60s"] {
        command.args(["--set", set]);
    }
    let server = Process::start(command);
    let mut let_in = Vec::new();
    let mut refused = 0;
    for _ in 0..100 {
        // A refusal at accept shows as an end or a reset at the first read.
        match TcpStream::connect(server.public).await {
            Ok(stream) => let_in.push(stream),
            Err(_) => refused += 1,
        }
    }
    // Who was let in is not answered, having asked nothing: the others are waited for.
    let until = tokio::time::Instant::now() + PATIENCE;
    while refused < 68 && tokio::time::Instant::now() < until {
        for mut stream in std::mem::take(&mut let_in) {
            let limit = std::time::Duration::from_millis(20);
            match tokio::time::timeout(limit, stream.read_u8()).await {
                Ok(_) => refused += 1,
                Err(_) => let_in.push(stream),
            }
        }
    }
    assert_eq!((let_in.len(), refused), (32, 68));
    assert_eq!(http(server.internal, "GET", "/health", None, b"").await.0, 200);
    let mut told = send(server.public, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = crate::support::read_to_end(&mut told).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthis server is full\n"), "{answer}");

    drop(let_in);
    let mut client = loop {
        match Client::open(server.public, WEBSOCKET).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    assert!(client.call(r#"{"id":1,"connect":{}}"#).await.unwrap().contains("connect"));
    drop(client);
    server.signal("TERM");
    let (status, _, said) = server.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("raise the limit of open files"), "{said}");
}

#[bowline::test]
async fn a_client_beyond_the_rate_at_which_connections_may_begin_is_told_to_come_back() {
    with_server(config(&[("client.connection_rate_limit", "1")]), async |server| {
        let request = format!("GET {WEBSOCKET} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut refused = 0;
        let mut let_in = 0;
        while refused == 0 {
            let answer = crate::support::read_to_end(&mut send(server.public, &request).await).await.unwrap();
            let is_refused = answer.starts_with("HTTP/1.1 503 ");
            assert_eq!(is_refused, answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
            refused += usize::from(is_refused);
            let_in += usize::from(!is_refused);
            assert!(let_in < 200, "nobody is refused");
        }
        assert!(let_in >= 10, "{let_in}: ten may come at once");
        assert_eq!(
            server.api("info", Some(crate::support::KEY), "{}").await.0,
            200,
            "back ends are no clients"
        );
    })
    .await;
}

/// Most systems have a low soft limit, for programs that could not do with more, and a high hard one.
#[bowline::test(worker_threads = 2)]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -S -n 50; ulimit -H -n 200; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_bowline"),
        "serve",
        "--dev",
    ]);
    command.args(["--set", "http_server.port=0", "--set", "http_server.internal_port=0"]);
    let server = Process::start(command);
    let (_, metrics) = http(server.internal, "GET", "/metrics", None, b"").await;
    assert!(metrics.contains("\nprocess_max_fds 200\n"), "{metrics}");
}
