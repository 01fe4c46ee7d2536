//! Every phase of a connection has an end, whatever the peer does or does not do; and the end of the server reaches
//! connections in every phase.

use std::time::Duration;

use crate::process::Process;
use crate::support::{
    KEY, PATIENCE, WEBSOCKET, closed_with, config, eventually, eventually_named, http, read_to_end,
    read_until, send, tasks, with_server,
};
use bowline::{Cancelled, FailFast, group};
use bowline_protocol::websocket::{Message, Opcode, masked_close_frame, masked_frame};
use bowline_server::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// Shorter than every time that the server gives a peer by default, and long enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(4);

fn call(body_bytes: usize, further: &str) -> String {
    format!(
        "POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {body_bytes}\r\n{further}\r\n"
    )
}

#[bowline::test(worker_threads = 2)]
async fn a_thousand_silent_sockets_are_closed_while_others_work() {
    const SILENT: usize = 1_000;
    // Nothing else may end them.
    let settings = [("http_server.first_byte_timeout", "1s"), ("http_server.handshake_timeout", "1h")];
    with_server(config(&settings), async |server| {
        let mut client = server.subscribe("alive").await;
        let mut silent = Vec::with_capacity(SILENT);
        for _ in 0..SILENT {
            silent.push(TcpStream::connect(server.public).await.unwrap());
        }
        server.publish("alive", "1").await;
        assert!(client.next_text().await.unwrap().contains(r#""data":1"#));
        for mut socket in silent {
            assert_eq!(read_to_end(&mut socket).await.unwrap(), "");
        }
        eventually_named(&server, "connection", 1).await;
        server.publish("alive", "2").await;
        assert!(client.next_text().await.unwrap().contains(r#""data":2"#));
    })
    .await;
}

#[bowline::test]
async fn a_body_that_trickles_is_given_up_on_both_listeners() {
    with_server(config(&[("http_server.handshake_timeout", "300ms")]), async |server| {
        for listener in [server.public, server.internal] {
            let mut stream = send(listener, &call(1000, "")).await;
            let answer = async {
                let (mut reader, mut writer) = stream.split();
                let mut first = [0; 12];
                let mut sent = 0;
                while let Err(_elapsed) =
                    tokio::time::timeout(Duration::from_millis(20), reader.read_exact(&mut first)).await
                {
                    sent += 1;
                    assert!(sent < 1000, "the whole body was waited for");
                    let _ = writer.write_all(b" ").await;
                }
                String::from_utf8_lossy(&first).into_owned()
            };
            assert_eq!(answer.await, "HTTP/1.1 408");
            assert!(
                read_to_end(&mut stream).await.unwrap().contains("the body was not complete after 300ms")
            );
        }
    })
    .await;
}

#[bowline::test]
async fn an_idle_connection_is_kept_alive_for_a_while_on_both_listeners() {
    with_server(config(&[("http_server.handshake_timeout", "3s")]), async |server| {
        for (listener, last) in [(server.public, "nothing here\n"), (server.internal, "see /\n")] {
            let mut stream = send(listener, "").await;
            for _ in 0..2 {
                stream.write_all(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
                let answer = read_until(&mut stream, last).await;
                assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            }
            read_to_end(&mut stream).await.unwrap();
        }
    })
    .await;
}

#[bowline::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let settings = [
        ("http_server.handshake_timeout", "3s"),
        ("channel.without_namespace.history_size", "100"),
        ("channel.without_namespace.history_ttl", "1h"),
    ];
    with_server(config(&settings), async |server| {
        // More than the kernel takes for a socket nobody reads.
        let data = format!("\"{}\"", "x".repeat(1_000_000));
        for _ in 0..16 {
            server.publish("large", &data).await;
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(server.public).await.unwrap();
        let body = r#"{"channel":"large","limit":100}"#;
        let head = call(body.len(), "").replace("publish", "history");
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        eventually_named(&server, "connection", 0).await;
        drop(stream);
    })
    .await;
}

#[bowline::test]
async fn who_sends_too_large_a_body_can_read_why() {
    with_server(config(&[]), async |server| {
        let body = vec![b'x'; 3 * 1024 * 1024];
        let mut stream = send(server.public, &call(body.len(), "")).await;
        stream.write_all(&body).await.expect("not reset while it is being sent");
        let answer = read_to_end(&mut stream).await.expect("not reset while it is being read");
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    })
    .await;
}

#[bowline::test]
async fn a_client_that_closes_is_answered_and_sees_the_end_at_once() {
    with_server(config(&[]), async |server| {
        let mut client = server.connect().await;
        let began = Instant::now();
        client.send_raw(&masked_close_frame(1000, "bye", [1, 2, 3, 4])).await.unwrap();
        assert_eq!(closed_with(&mut client).await, (1000, String::new()));
        assert_eq!(client.next().await.unwrap(), None);
        assert!(began.elapsed() < AT_ONCE, "after {:?}", began.elapsed());
    })
    .await;
}

#[bowline::test]
async fn who_breaks_the_framing_rules_is_told_how_and_sees_the_end_at_once() {
    with_server(config(&[("websocket.message_size_limit", "1024")]), async |server| {
        let mut client = server.connect().await;
        let began = Instant::now();
        // More than was read when the verdict fell: a reset would swallow the reason.
        client.send_raw(&masked_frame(Opcode::Text, &[b' '; 60_000], [0; 4])).await.unwrap();
        let (code, reason) = closed_with(&mut client).await;
        assert!(code == 1009 && reason.contains("1024 bytes"), "{code} {reason}");
        assert_eq!(client.next().await.unwrap(), None);
        assert!(began.elapsed() < AT_ONCE, "after {:?}", began.elapsed());
    })
    .await;
}

/// Closed for a bad command, the peers answer with noise that never ends.
#[bowline::test(worker_threads = 2)]
async fn who_talks_on_after_being_closed_is_cut_off_and_keeps_nobody_waiting() {
    const NOISY: usize = 4;
    let server = Process::serve(&[("log.level", "error")]);
    let noise: Vec<u8> =
        std::iter::repeat_n(masked_frame(Opcode::Pong, b"", [0; 4]), 10_000).flatten().collect();
    let cut_off = group("noisy", FailFast, async |g| {
        for _ in 0..NOISY {
            let mut client = Client::open(server.public, WEBSOCKET).await.unwrap();
            client.send("{}").await.unwrap();
            assert_eq!(closed_with(&mut client).await.0, 3501);
            let noise = noise.clone();
            g.spawn("noisy", async move {
                let began = Instant::now();
                while client.send_raw(&noise).await.is_ok() {
                    assert!(began.elapsed() < PATIENCE, "never cut off");
                }
                Ok::<_, Cancelled>(())
            });
        }
        let health = tokio::time::timeout(AT_ONCE, http(server.internal, "GET", "/health", None, b""));
        assert_eq!(health.await.expect("answered although it is noisy").0, 200);
    });
    assert_eq!(tokio::time::timeout(PATIENCE, cut_off).await.expect("cut off").counts().ok, NOISY as u64);
}

#[bowline::test]
async fn no_phase_of_a_connection_holds_up_the_end() {
    let mut stopped = None;
    with_server(config(&[]), async |server| {
        let _silent = TcpStream::connect(server.public).await.unwrap();
        let _half_a_head = send(server.public, "POST /api/publish HTTP/1.1\r\nHost:").await;
        let mut kept_alive = send(server.internal, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
        read_until(&mut kept_alive, "{}").await;
        let mut before_connect = server.open().await;
        let mut refused = server.open().await;
        let reply = refused.call(r#"{"id":1,"connect":{"token":"x"}}"#).await;
        assert!(reply.is_err(), "{reply:?}"); // it is in its goodbye
        let mut connected = server.subscribe("a").await;
        eventually_named(&server, "connection", 5).await;
        eventually_named(&server, "internal connection", 2).await; // the one that asks is the other

        stopped = Some(Instant::now());
        server.stop.notify_one();
        for client in [&mut before_connect, &mut connected] {
            assert_eq!(closed_with(client).await, (3001, "shutdown".to_owned()));
        }
        assert_eq!(read_to_end(&mut kept_alive).await.unwrap(), "");
        // Both that were closed with 3001 are counted as such, also the one nobody knows.
        crate::support::eventually("both are counted", || {
            server.node.stats().disconnects.get(&3001) == Some(&2)
        })
        .await;
    })
    .await;
    let took = stopped.unwrap().elapsed();
    assert!(took < AT_ONCE, "after {took:?}");
}

#[bowline::test(worker_threads = 2)]
async fn a_request_in_hand_at_sigterm_is_answered_and_who_has_not_connected_hears_3001() {
    let server = Process::serve(&[("shutdown.timeout", "30s"), ("log.level", "error")]);
    let body = r#"{"channel":"a","data":1}"#;
    let head = call(body.len(), "Expect: 100-continue\r\n").replace(KEY, "bowline-dev-key");
    let mut in_hand = send(server.public, &head).await;
    read_until(&mut in_hand, "100 Continue\r\n\r\n").await;
    let mut before_connect = Client::open(server.public, WEBSOCKET).await.unwrap();

    server.signal("TERM");
    let began = Instant::now();
    while TcpStream::connect(server.public).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "it accepts connections still");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(closed_with(&mut before_connect).await, (3001, "shutdown".to_owned()));
    drop(before_connect);
    in_hand.write_all(body.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut in_hand).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#"{"result":{"#), "{answer}");
    let (status, _, said) = server.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("clean shutdown (SIGTERM)"), "{said}");
}

/// A peer that reads nothing: what the kernel does not take waits in the queue, and the live tree shows it.
#[bowline::test]
async fn the_live_tree_shows_what_waits_for_a_connection() {
    let settings = [("websocket.write_timeout", "60s")];
    with_server(config(&settings), async |server| {
        let client = server.subscribe("flood").await;
        let payload = format!("\"{}\"", "x".repeat(100_000));
        let outbox = loop {
            server.publish("flood", &payload).await;
            let tree = tasks(&server).await.json;
            let outbox = queue(&tree, "outbox").expect("the connection has an outbox");
            if outbox["depth_items"].as_u64().unwrap() >= 2 {
                break outbox;
            }
        };
        assert!(outbox["depth_bytes"].as_u64().unwrap() > 200_000, "{outbox}");
        assert_eq!(outbox["max_bytes"], 16_777_216, "{outbox}");
        let (sent, received) = (outbox["sent"].as_u64().unwrap(), outbox["received"].as_u64().unwrap());
        assert_eq!(sent - received, outbox["depth_items"].as_u64().unwrap(), "{outbox}");
        drop(client);
        eventually_named(&server, "connection", 0).await;
        assert!(queue(&tasks(&server).await.json, "outbox").is_none());
    })
    .await;
}

/// The first queue of this name in a task tree.
fn queue(tree: &serde_json::Value, name: &str) -> Option<serde_json::Value> {
    match tree {
        serde_json::Value::Array(items) => items.iter().find_map(|item| queue(item, name)),
        serde_json::Value::Object(fields) if fields.contains_key("depth_items") => {
            (fields["name"] == name).then(|| tree.clone())
        }
        serde_json::Value::Object(fields) => fields.values().find_map(|field| queue(field, name)),
        _ => None,
    }
}

#[bowline::test]
async fn a_client_that_takes_nothing_for_the_write_timeout_is_closed_and_counted_as_such() {
    // Room for all of it: being slow to take is the subject, not being owed too much.
    let settings = [("websocket.write_timeout", "300ms"), ("client.queue_max_size", "67108864")];
    with_server(config(&settings), async |server| {
        let client = server.subscribe("flood").await;
        let payload = format!("\"{}\"", "x".repeat(100_000));
        // 20 MB: more than the kernel takes for a socket nobody reads.
        for _ in 0..200 {
            server.publish("flood", &payload).await;
        }
        eventually("the client is closed for a write that timed out", || {
            server.node.stats().disconnects.contains_key(&3009)
        })
        .await;
        eventually("it is gone", || server.node.stats().clients == 0).await;
        drop(client);
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn a_client_that_pings_and_does_not_read_is_owed_few_pongs() {
    const PINGS: u32 = 400_000;
    let settings = [("websocket.write_timeout", "600s"), ("client.command_rate_limit", "0")];
    with_server(config(&settings), async |server| {
        let mut client = server.connect().await;
        let payload = |n: u32| [&n.to_be_bytes()[..], &[0; 121]].concat();
        for first in (0..PINGS).step_by(1000) {
            let pings = (first..first + 1000).map(|n| masked_frame(Opcode::Ping, &payload(n), [0; 4]));
            let pings: Vec<u8> = pings.flatten().collect();
            client.send_raw(&pings).await.unwrap();
        }
        // What the kernel took before it took no more, and the last.
        let mut pongs = 0;
        loop {
            let next =
                tokio::time::timeout(PATIENCE, client.next()).await.expect("the last ping is answered");
            let Some(Message::Pong(echo)) = next.unwrap() else { panic!("something else than pongs") };
            pongs += 1;
            if echo[..] == payload(PINGS - 1) {
                break;
            }
        }
        assert!(pongs < PINGS / 2, "{pongs} pongs were kept for a client that did not read");
    })
    .await;
}
