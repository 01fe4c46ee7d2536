//! How many connections there may be: per address, per process, and before anybody knows who they are.

use std::net::SocketAddr;
use std::process::Command;

use crate::process::Process;
use crate::support::{WEBSOCKET, closed_with, config, eventually_named, http, with_server};
use bowline_server::client::Client;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Whether a new socket is closed before it has said anything.
async fn is_refused(server: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(server).await else { return true };
    let limit = std::time::Duration::from_millis(200);
    // Nothing read, closed or reset: refused. Nothing to read: let in.
    tokio::time::timeout(limit, stream.read_u8()).await.is_ok()
}

#[bowline::test]
async fn an_address_has_as_many_connections_as_it_may_until_one_goes() {
    with_server(config(&[("http_server.connections_per_address", "3")]), async |server| {
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
    for mut stream in std::mem::take(&mut let_in) {
        let limit = std::time::Duration::from_millis(20);
        match tokio::time::timeout(limit, stream.read_u8()).await {
            Ok(_) => refused += 1,
            Err(_) => let_in.push(stream),
        }
    }
    assert_eq!((let_in.len(), refused), (32, 68));
    assert_eq!(http(server.internal, "GET", "/health", None, b"").await.0, 200);
    assert!(is_refused(server.public).await);

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
    let (status, _, said) = server.wait(crate::support::PATIENCE);
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("raise the limit of open files"), "{said}");
}
