//! The HTTP before a WebSocket: what is refused, with which status and words, and what comes together with it.

use crate::support::{KEY, config, read_to_end, read_until, send, with_server};
use bowline_protocol::websocket::{Opcode, masked_frame};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const UPGRADE: &str = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[bowline::test]
async fn what_is_no_upgrade_is_refused_in_words() {
    with_server(config(&[]), async |server| {
        let path = "/connection/websocket";
        // (request line, further headers, status, words)
        let refused = [
            (format!("POST {path} HTTP/1.1"), "Content-Length: 0\r\n", 405, "GET"),
            (format!("OPTIONS {path} HTTP/1.1"), "", 405, "GET"),
            (format!("GET {path} HTTP/1.0"), "", 400, "HTTP/1.1"),
            (format!("GET {path} HTTP/1.1"), "Content-Length: 3\r\n\r\nabc", 400, "without a body"),
        ];
        for (line, headers, status, words) in refused {
            let sent = format!("{line}\r\nConnection: close\r\n{UPGRADE}{headers}\r\n");
            let mut stream = send(server.public, &sent).await;
            let answer = read_to_end(&mut stream).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            assert!(head.contains(&format!(" {status} ")), "{line}: {answer}");
            assert!(body.contains(words), "{line}: {answer}");
        }
        for (offers, chosen) in [
            ("centrifuge-protobuf, centrifuge-json", Some("centrifuge-protobuf")),
            ("mqtt, centrifuge-json", Some("centrifuge-json")),
            ("mqtt", None),
        ] {
            let sent = format!("GET {path} HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Protocol: {offers}\r\n\r\n");
            let mut stream = send(server.public, &sent).await;
            let answer = read_until(&mut stream, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            let told = answer.split("\r\n").find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
            assert_eq!(told, chosen);
        }
    })
    .await;
}

#[bowline::test]
async fn a_head_has_no_body_and_a_page_says_what_it_takes() {
    with_server(config(&[]), async |server| {
        for (listener, path) in [(server.public, "/"), (server.internal, "/health")] {
            let request =
                |method: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let mut stream = send(listener, &request("HEAD")).await;
            let answer = read_to_end(&mut stream).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
            let mut stream = send(listener, &request("DELETE")).await;
            let answer = read_to_end(&mut stream).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("GET, HEAD"), "{answer}");
        }
    })
    .await;
}

/// Two calls of the server API, an upgrade, and the first frames of the WebSocket, in one write.
#[bowline::test]
async fn what_comes_together_is_answered_in_order() {
    with_server(config(&[]), async |server| {
        let call = |n: u32| {
            let body = format!(r#"{{"channel":"a","data":{n}}}"#);
            let length = body.len();
            format!("POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let upgrade = format!("GET /connection/websocket HTTP/1.1\r\n{UPGRADE}\r\n");
        let mut sent = format!("{}{}{upgrade}", call(1), call(2)).into_bytes();
        for command in [r#"{"id":1,"connect":{}}"#, r#"{"id":2,"subscribe":{"channel":"a"}}"#] {
            sent.extend(masked_frame(Opcode::Text, command.as_bytes(), [1, 2, 3, 4]));
        }
        let mut stream = TcpStream::connect(server.public).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        let answer = read_until(&mut stream, r#""subscribe":{"#).await;
        let places: Vec<_> = ["HTTP/1.1 200 ", "HTTP/1.1 101 ", r#"{"id":1,"connect":{"#, r#"{"id":2,"subscribe":{"#]
            .into_iter()
            .map(|mark| answer.find(mark).unwrap_or_else(|| panic!("no {mark} in {answer}")))
            .collect();
        assert!(places.is_sorted(), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    })
    .await;
}

/// As `printf … | nc -N` does. The end of the input races with the answer, hence many times and on two threads.
#[bowline::test(worker_threads = 2)]
async fn who_has_said_everything_and_closed_that_side_still_gets_the_answer() {
    with_server(config(&[]), async |server| {
        let body = r#"{"channel":"a","data":1}"#;
        let length = body.len();
        for (key, status) in [(KEY, 200), ("wrong", 401)].repeat(150) {
            let call = format!(
                "POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let mut stream = send(server.public, &call).await;
            stream.shutdown().await.unwrap();
            let answer = read_to_end(&mut stream).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
        }
    })
    .await;
}
