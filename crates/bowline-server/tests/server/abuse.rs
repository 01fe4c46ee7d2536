//! What a client or a back end must not do: each ends as the protocol says, and takes nobody else with it.

use std::sync::Arc;

use crate::support::{KEY, Running, closed_with, config, eventually, http, with_server};
use bowline_protocol::websocket::{Message, Opcode, masked_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A client that is there all the time and must notice nothing.
async fn bystander(server: &Arc<Running>) -> bowline_server::client::Client {
    server.subscribe("quiet").await
}

async fn is_undisturbed(server: &Running, bystander: &mut bowline_server::client::Client) {
    server.publish("quiet", r#""still here""#).await;
    let push = bystander.next_text().await.unwrap();
    assert!(push.contains("still here"), "{push}");
}

#[bowline::test]
async fn the_server_api_refuses_what_is_wrong_and_says_why() {
    with_server(config(&[]), async |server| {
        let good = r#"{"channel":"news","data":1}"#;
        assert_eq!(server.api("publish", None, good).await, (401, String::new()));
        assert_eq!(server.api("publish", Some("test-kez"), good).await, (401, String::new()));
        assert_eq!(server.api("publish", Some("test-key-and-more"), good).await, (401, String::new()));

        let (status, why) = server.api("publish", Some(KEY), r#"{"channel":"news","data":"#).await;
        assert!(status == 400 && why.contains("line 1"), "{status} {why}");

        let (status, answer) =
            server.api("publish", Some(KEY), r#"{"channel":"nowhere:news","data":1}"#).await;
        assert_eq!((status, answer.as_str()), (200, r#"{"error":{"code":102,"message":"unknown channel"}}"#));

        let (status, answer) = server.api("publish", Some(KEY), r#"{"channel":"","data":1}"#).await;
        assert_eq!((status, answer.as_str()), (200, r#"{"error":{"code":107,"message":"bad request"}}"#));

        let oversized = format!(r#"{{"channel":"news","data":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
        let (status, why) = server.api("publish", Some(KEY), &oversized).await;
        assert!(status == 413 && why.contains("1048576 bytes"), "{status} {why}");

        let (status, _) = http(server.public, "GET", "/api/publish", Some(KEY), b"").await;
        assert_eq!(status, 405);
        let (status, _) = http(server.public, "POST", "/api/unheard_of", Some(KEY), b"{}").await;
        assert_eq!(status, 404);

        let (status, answer) = server.api("publish", Some(KEY), good).await;
        assert!(status == 200 && answer.starts_with(r#"{"result":{"#), "{status} {answer}");
    })
    .await;
}

#[bowline::test]
async fn what_breaks_the_protocol_ends_that_connection_alone() {
    let settings = [("websocket.message_size_limit", "1024")];
    with_server(config(&settings), async |server| {
        let mut bystander = bystander(&server).await;
        let bad_request = (3501, "bad request".to_owned());

        // (what, frames before any connect)
        let before_connect = [
            ("malformed", "{\"id\":1,\"connect\":"),
            ("not an object", "[1,2,3]"),
            ("empty", ""),
            ("white space", " \n "),
            ("no command at all", "{\"id\":1}"),
            ("a command before connect", "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}"),
            ("a pong before any ping", "{}"),
            ("a wrong type", "{\"id\":\"one\",\"connect\":{}}"),
        ];
        for (what, frame) in before_connect {
            let mut client = server.open().await;
            client.send(frame).await.unwrap();
            assert_eq!(closed_with(&mut client).await, bad_request, "{what}");
        }

        let after_connect = [
            ("a second connect", "{\"id\":2,\"connect\":{}}"),
            ("a pong nobody asked for", "{}"),
            ("an empty channel", "{\"id\":2,\"subscribe\":{\"channel\":\"\"}}"),
            ("malformed behind a good one", "{\"id\":2,\"presence\":{\"channel\":\"a\"}}\n{\"id\":"),
        ];
        for (what, frame) in after_connect {
            let mut client = server.connect().await;
            client.send(frame).await.unwrap();
            assert_eq!(closed_with(&mut client).await, bad_request, "{what}");
        }

        let mut client = server.open().await;
        client
            .send_raw(&masked_frame(Opcode::Binary, &[0xff, 0x00, 0x13, 0x37], [1, 2, 3, 4]))
            .await
            .unwrap();
        assert_eq!(closed_with(&mut client).await, bad_request, "binary garbage in a frame");

        let mut client = server.open().await;
        client.send_raw(&[0xff; 64]).await.unwrap();
        assert_eq!(closed_with(&mut client).await.0, 1002, "garbage instead of frames");

        let mut client = server.open().await;
        client.send_raw(&masked_frame(Opcode::Text, &[0xc3, 0x28], [0; 4])).await.unwrap();
        assert_eq!(closed_with(&mut client).await.0, 1007, "text that is not UTF-8");

        let mut client = server.connect().await;
        client.send(&format!("{{\"id\":2,\"rpc\":{{\"data\":\"{}\"}}}}", "x".repeat(2000))).await.unwrap();
        assert_eq!(closed_with(&mut client).await.0, 1009, "too large");

        let mut client = server.connect().await;
        client.send(r#"{"send":{"data":1}}"#).await.unwrap();
        assert_eq!(closed_with(&mut client).await, (3508, "not available".to_owned()), "send");

        is_undisturbed(&server, &mut bystander).await;
    })
    .await;
}

#[bowline::test]
async fn who_asks_for_too_much_is_closed_and_nobody_else_notices() {
    let settings = [("client.command_rate_limit", "10"), ("client.byte_rate_limit", "1000")];
    with_server(config(&settings), async |server| {
        let mut bystander = bystander(&server).await;
        let too_many = (3013, "too many requests".to_owned());

        let mut hasty = server.connect().await;
        let commands: Vec<_> = (2..200).map(|id| format!("{{\"id\":{id},\"rpc\":{{}}}}")).collect();
        hasty.send(&commands.join("\n")).await.unwrap();
        assert_eq!(closed_with(&mut hasty).await, too_many, "commands");

        let mut heavy = server.connect().await;
        let publish = format!(r#"{{"id":2,"publish":{{"channel":"a","data":"{}"}}}}"#, "x".repeat(5000));
        for _ in 0..3 {
            let _ = heavy.send(&publish).await;
        }
        assert_eq!(closed_with(&mut heavy).await, too_many, "bytes");

        let mut deep = server.connect().await;
        let nested = "[".repeat(130) + &"]".repeat(130);
        deep.send(&format!(r#"{{"id":2,"publish":{{"channel":"a","data":{nested}}}}}"#)).await.unwrap();
        assert_eq!(closed_with(&mut deep).await.0, 3501, "nested too deep");

        is_undisturbed(&server, &mut bystander).await;
    })
    .await;
}

#[bowline::test]
async fn who_subscribes_too_often_is_told_to_wait_and_keeps_what_it_has() {
    with_server(config(&[("client.subscribe_rate_limit", "1")]), async |server| {
        let mut bystander = bystander(&server).await;
        let mut client = server.connect().await;
        // Ten at once and one each second.
        let mut subscribed = 0;
        let reply = loop {
            let reply = client.call(r#"{"id":2,"subscribe":{"channel":"a"}}"#).await.unwrap();
            if !reply.contains(r#""subscribe":{"#) {
                break reply;
            }
            subscribed += 1;
            assert!(subscribed < 200, "it never has to wait");
            client.call(r#"{"id":3,"unsubscribe":{"channel":"a"}}"#).await.unwrap();
        };
        assert!(subscribed >= 10, "{subscribed}: ten may come at once");
        assert_eq!(reply, r#"{"id":2,"error":{"code":111,"message":"too many requests","temporary":true}}"#);
        assert!(
            client.call(r#"{"id":4,"publish":{"channel":"b","data":1}}"#).await.unwrap().contains("publish")
        );
        is_undisturbed(&server, &mut bystander).await;
    })
    .await;
}

/// A read holds dozens of commands, and a connection may read many times before the runtime takes the thread from it.
#[bowline::test]
async fn who_sends_without_a_pause_lets_others_run_in_between() {
    const COMMANDS: usize = 3_000;
    let settings = [("client.command_rate_limit", "0"), ("client.byte_rate_limit", "0")];
    with_server(config(&settings), async |server| {
        let mut client = server.connect().await;
        let command = masked_frame(Opcode::Text, br#"{"id":2,"publish":{"channel":"a","data":1}}"#, [0; 4]);
        let before = server.node.stats().messages_in;
        let all = before + COMMANDS as u64;
        // More than one buffer of the kernel's is not needed: nobody reads the answers meanwhile.
        client.send_raw(&command.repeat(COMMANDS)).await.unwrap();
        let (mut seen, mut most) = (before, 0);
        while seen < all {
            tokio::task::yield_now().await;
            let now = server.node.stats().messages_in;
            most = most.max(now - seen);
            seen = now;
        }
        assert!(most <= 1_000, "{most} commands without a pause");
    })
    .await;
}

#[bowline::test]
async fn who_does_not_answer_a_ping_or_never_connects_is_closed() {
    with_server(config(&[("client.stale_close_delay", "200ms")]), async |server| {
        let mut stale = server.open().await;
        assert_eq!(closed_with(&mut stale).await, (3502, "stale".to_owned()));
    })
    .await;
    let settings = [("client.ping_interval", "2s"), ("client.pong_timeout", "1900ms")];
    with_server(config(&settings), async |server| {
        let mut silent = server.connect().await;
        assert_eq!(closed_with(&mut silent).await, (3012, "no pong".to_owned()));

        let mut alive = server.connect().await;
        for _ in 0..2 {
            assert_eq!(alive.next_text().await.unwrap(), "{}");
            alive.send("{}").await.unwrap();
        }
    })
    .await;
}

#[bowline::test]
async fn who_sends_nothing_or_half_a_request_is_closed() {
    let settings = [("http_server.first_byte_timeout", "100ms"), ("http_server.handshake_timeout", "200ms")];
    with_server(config(&settings), async |server| {
        for sent in ["", "GET /connection/websocket HTTP/1.1\r\nHost:"] {
            let mut stream = tokio::net::TcpStream::connect(server.public).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(crate::support::PATIENCE, stream.read_to_end(&mut answer));
            let _ = read.await.expect("closed in time");
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        }
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn a_consumer_that_does_not_read_is_closed_as_slow_and_nobody_else_waits_for_it() {
    let settings = [("client.queue_max_size", "65536"), ("websocket.write_timeout", "600s")];
    with_server(config(&settings), async |server| {
        let slow = server.subscribe("flood").await;
        let mut quick = server.subscribe("flood").await;
        let payload = format!("\"{}\"", "x".repeat(8000));
        // More than the kernel takes for a socket nobody reads, and more than the queue behind it.
        let mut published = 0;
        while !server.node.stats().disconnects.contains_key(&3008) {
            server.publish("flood", &payload).await;
            quick.next_text().await.unwrap();
            published += 1;
            assert!(published < 20_000, "the slow consumer is never closed");
        }
        // It was counted before it was gone, and what the quick one has read may not be counted as written yet.
        eventually("one is left", || server.node.stats().clients == 1).await;
        eventually("nothing is in flight", || server.node.stats().deliveries.in_flight == 0).await;
        let deliveries = server.node.stats().deliveries;
        assert!(deliveries.refused["slow"] >= 1, "{deliveries:?}");
        // Once it reads again it finds what the kernel held and then the reason.
        let mut slow = slow;
        let (code, reason) = closed_with(&mut slow).await;
        assert!((code, reason.as_str()) == (3008, "slow") || code == 1006, "{code} {reason}");
        server.publish("flood", "1").await;
        quick.next_text().await.unwrap();
    })
    .await;
}

#[bowline::test]
async fn origins_are_checked_exactly() {
    let settings = [("client.allowed_origins", "https://example.com https://*.example.org")];
    with_server(config(&settings), async |server| {
        for (origin, status) in [
            ("https://example.com", 101),
            ("https://a.example.org", 101),
            ("https://evil-example.com", 403),
            ("https://example.com.evil.net", 403),
            ("http://example.com", 403),
            ("https://example.com:8443", 403),
            ("null", 403),
        ] {
            let mut stream = tokio::net::TcpStream::connect(server.public).await.unwrap();
            let request = format!(
                "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(head, format!("HTTP/1.1 {status}").as_bytes(), "{origin}");
        }
    })
    .await;
}

#[bowline::test]
async fn native_pings_are_answered() {
    with_server(config(&[]), async |server| {
        let mut client = server.connect().await;
        client.send_raw(&masked_frame(Opcode::Ping, b"are you there", [1, 2, 3, 4])).await.unwrap();
        assert!(
            matches!(client.next().await.unwrap(), Some(Message::Pong(echo)) if &echo[..] == b"are you there")
        );
    })
    .await;
}
