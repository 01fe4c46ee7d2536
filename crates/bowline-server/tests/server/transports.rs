//! Streams over HTTP and the uplink of their clients: what is answered, how a stream goes on, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::support::{
    PATIENCE, Running, WEBSOCKET, closed_with, config, eventually, eventually_named, http, read_to_end,
    read_until, send, with_server,
};
use bowline_protocol::websocket::{Message, Opcode, masked_frame};
use bowline_protocol::{
    Command, CommandId, CommandResult, ConnectRequest, EmulationRequest, Encoding, Payload, PublishRequest,
    Push, Reply, Request, SubscribeRequest,
};
use bowline_server::client::Client;
use bowline_server::config::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ON: [(&str, &str); 2] = [("http_stream.enabled", "true"), ("sse.enabled", "true")];

/// Settings with both kinds of streams on, and what else a test wants.
fn streams(set: &[(&str, &str)]) -> Config {
    config(&[&ON[..], set].concat())
}

/// Which stream a test opens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Lines,
    Events,
}

/// A client of a stream.
struct Streamed {
    server: SocketAddr,
    kind: Kind,
    socket: TcpStream,
    /// What was read and not yet looked at, without the framing of HTTP.
    body: Vec<u8>,
    raw: Vec<u8>,
    session: String,
    node: String,
}

impl Streamed {
    /// Opens a stream with these commands and reads the head of the answer.
    async fn open(server: SocketAddr, kind: Kind, commands: &str) -> Self {
        let request = match kind {
            Kind::Lines => format!(
                "POST /connection/http_stream HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{commands}",
                commands.len()
            ),
            Kind::Events => {
                let commands: String = form_urlencoded::byte_serialize(commands.as_bytes()).collect();
                format!("GET /connection/sse?cf_connect={commands} HTTP/1.1\r\nHost: x\r\n\r\n")
            }
        };
        let mut socket = send(server, &request).await;
        let mut raw = Vec::new();
        let head = loop {
            if let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break String::from_utf8(raw.drain(..end + 4).collect()).unwrap();
            }
            assert_ne!(read(&mut socket, &mut raw).await, 0, "no answer");
        };
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let kind_of_body = match kind {
            Kind::Lines => "content-type: application/json\r\n",
            Kind::Events => "content-type: text/event-stream; charset=utf-8\r\n",
        };
        for header in
            [kind_of_body, "x-accel-buffering: no\r\n", "transfer-encoding: chunked\r\n", "no-store"]
        {
            assert!(head.contains(header), "{header} is missing: {head}");
        }
        Self { server, kind, socket, body: Vec::new(), raw, session: String::new(), node: String::new() }
    }

    /// Opens a stream and connects.
    async fn connect(server: SocketAddr, kind: Kind) -> Self {
        let mut stream = Self::open(server, kind, r#"{"id":1,"connect":{}}"#).await;
        let reply = stream.next().await.expect("a reply");
        let text = |key: &str| reply["connect"][key].as_str().unwrap_or_default().to_owned();
        (stream.session, stream.node) = (text("session"), text("node"));
        assert!(!stream.session.is_empty() && !stream.node.is_empty(), "{reply}");
        assert_ne!(stream.session, text("client"), "the secret is no identifier");
        stream
    }

    /// The next reply; `None` at the proper end of the answer.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let (mark, before) = match self.kind {
                Kind::Lines => ("\n", ""),
                Kind::Events => ("\n\n", "data: "),
            };
            if self.kind == Kind::Events && self.body.starts_with(b"\r\n") {
                self.body.drain(..2);
            }
            if let Some(end) = self.body.windows(mark.len()).position(|some| some == mark.as_bytes()) {
                let reply: Vec<u8> = self.body.drain(..end + mark.len()).collect();
                let reply = std::str::from_utf8(&reply).unwrap().trim_end();
                let reply = reply.strip_prefix(before).unwrap_or_else(|| panic!("{reply:?}"));
                return Some(serde_json::from_str(reply).unwrap());
            }
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                assert!(self.body.is_empty(), "half a reply: {:?}", self.body);
                return None;
            }
            self.body.extend(chunk);
        }
    }

    async fn chunk(&mut self) -> Vec<u8> {
        loop {
            let head = self.raw.windows(2).position(|two| two == b"\r\n");
            if let Some(head) = head {
                let length = std::str::from_utf8(&self.raw[..head]).unwrap();
                let length = usize::from_str_radix(length, 16).unwrap_or_else(|_| panic!("{length:?}"));
                if self.raw.len() >= head + 2 + length + 2 {
                    let chunk = self.raw[head + 2..head + 2 + length].to_vec();
                    self.raw.drain(..head + 2 + length + 2);
                    return chunk;
                }
            }
            assert_ne!(read(&mut self.socket, &mut self.raw).await, 0, "cut off");
        }
    }

    /// Sends commands by the uplink; answers the status.
    async fn post(&self, commands: &str) -> u16 {
        let body = json!({ "node": self.node, "session": self.session, "data": commands }).to_string();
        http(self.server, "POST", "/emulation", None, body.as_bytes()).await.0
    }

    /// Sends a command by the uplink and reads its reply.
    async fn call(&mut self, command: &str) -> Value {
        assert_eq!(self.post(command).await, 204);
        self.next().await.expect("a reply")
    }
}

async fn read(socket: &mut TcpStream, into: &mut Vec<u8>) -> usize {
    tokio::time::timeout(PATIENCE, socket.read_buf(into)).await.expect("something comes").unwrap()
}

#[bowline::test]
async fn streams_and_their_uplink_are_off_unless_switched_on() {
    with_server(config(&[]), async |server| {
        for (method, path) in [
            ("POST", "/connection/http_stream"),
            ("GET", "/connection/sse?cf_connect={}"),
            ("POST", "/emulation"),
        ] {
            assert_eq!(http(server.public, method, path, None, b"{}").await.0, 404, "{path}");
        }
    })
    .await;
}

#[bowline::test]
async fn a_stream_carries_replies_and_pushes_and_its_commands_come_by_requests() {
    with_server(streams(&[]), async |server| {
        for kind in [Kind::Lines, Kind::Events] {
            let mut stream = Streamed::connect(server.public, kind).await;
            let reply = stream.call(r#"{"id":2,"subscribe":{"channel":"news"}}"#).await;
            assert!(reply["id"] == 2 && reply["subscribe"].is_object(), "{reply}");
            server.publish("news", r#""hello""#).await;
            let push = stream.next().await.unwrap();
            assert_eq!(push["push"]["pub"]["data"], "hello", "{push}");
            // Several commands in one request, answered in their order.
            let commands: Vec<_> =
                (3..30).map(|id| format!(r#"{{"id":{id},"rpc":{{"method":"none"}}}}"#)).collect();
            assert_eq!(stream.post(&commands.join("\n")).await, 204);
            for id in 3..30 {
                assert_eq!(stream.next().await.unwrap()["id"], id);
            }
        }
    })
    .await;
}

/// The connect command and those that follow it come in the request that opens the stream.
#[bowline::test]
async fn commands_that_come_together_are_handled_in_order_after_connect() {
    with_server(streams(&[]), async |server| {
        let commands = [
            r#"{"id":1,"connect":{}}"#,
            r#"{"id":2,"subscribe":{"channel":"a"}}"#,
            r#"{"id":3,"presence":{"channel":"a"}}"#,
        ];
        for kind in [Kind::Lines, Kind::Events] {
            let mut stream = Streamed::open(server.public, kind, &commands.join("\n")).await;
            assert!(stream.next().await.unwrap()["connect"].is_object());
            assert!(stream.next().await.unwrap()["subscribe"].is_object());
        }
    })
    .await;
}

/// Posts of one session over one connection of HTTP, one after the other and none waiting for its answer.
#[bowline::test]
async fn requests_of_a_session_are_handled_in_the_order_they_came() {
    with_server(streams(&[]), async |server| {
        let mut stream = Streamed::connect(server.public, Kind::Lines).await;
        let mut requests = String::new();
        for id in 2..42 {
            let command = format!(r#"{{"id":{id},"rpc":{{"method":"none"}}}}"#);
            let body = json!({ "node": stream.node, "session": stream.session, "data": command }).to_string();
            requests += &format!(
                "POST /emulation HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
        let _uplink = send(server.public, &requests).await;
        for id in 2..42 {
            assert_eq!(stream.next().await.unwrap()["id"], id);
        }
    })
    .await;
}

#[bowline::test]
async fn requests_that_open_no_stream_are_told_why() {
    with_server(
        streams(&[("http_stream.max_request_body_size", "1000"), ("sse.max_request_body_size", "1000")]),
        async |server| {
            let large = "x".repeat(2000);
            for (method, path, body, status, words) in [
                ("GET", "/connection/http_stream".to_owned(), "", 405, "stream"),
                ("PUT", "/connection/sse".to_owned(), "", 405, "stream"),
                ("GET", "/connection/sse".to_owned(), "", 400, "cf_connect"),
                ("GET", "/connection/sse?cf_connect=".to_owned(), "", 400, "cf_connect"),
                ("GET", format!("/connection/sse?cf_connect={large}"), "", 414, "1000 bytes"),
                ("POST", "/connection/http_stream".to_owned(), &large, 413, "1000 bytes"),
                ("POST", "/connection/sse".to_owned(), &large, 413, "1000 bytes"),
            ] {
                let (answered, body) = http(server.public, method, &path, None, body.as_bytes()).await;
                assert_eq!(answered, status, "{method} {path}");
                assert!(body.contains(words), "{method} {path}: {body}");
            }
            eventually_named(&server, "connection", 0).await;
        },
    )
    .await;
}

#[bowline::test]
async fn the_uplink_answers_as_its_clients_expect() {
    with_server(streams(&[("emulation.max_request_body_size", "1000")]), async |server| {
        let node = server.node.uid();
        let post =
            async |body: &str| http(server.public, "POST", "/emulation", None, body.as_bytes()).await.0;
        assert_eq!(post("{").await, 400);
        assert_eq!(post(r#"{"node":1}"#).await, 400);
        assert_eq!(post("{}").await, 404, "no node");
        assert_eq!(post(r#"{"node":"another","session":"s","data":"{}"}"#).await, 404);
        assert_eq!(post(&format!(r#"{{"node":"{node}","session":"nobody's","data":"{{}}"}}"#)).await, 204);
        assert_eq!(post(&"x".repeat(2000)).await, 413);
        assert_eq!(http(server.public, "GET", "/emulation", None, b"").await.0, 405);
    })
    .await;
}

#[bowline::test]
async fn a_page_of_another_origin_is_let_in_by_the_list_of_origins_alone() {
    let settings = [("client.allowed_origins", "https://example.com")];
    with_server(streams(&settings), async |server| {
        let connect = "{\"id\":1,\"connect\":{}}";
        for (path, body) in
            [("/connection/http_stream", connect), ("/connection/sse", connect), ("/emulation", "{}")]
        {
            let ask = async |method: &str, origin: &str| {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: close\r\n\
                     Access-Control-Request-Headers: content-type\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let mut socket = send(server.public, &request).await;
                read_until(&mut socket, "\r\n\r\n").await
            };
            for origin in
                ["https://evil-example.com", "https://example.com.evil.org", "null", "http://example.com"]
            {
                for method in ["POST", "OPTIONS"] {
                    let head = ask(method, origin).await;
                    assert!(head.starts_with("HTTP/1.1 403 "), "{method} {path} {origin}: {head}");
                    assert!(!head.contains("access-control"), "{method} {path} {origin}: {head}");
                }
            }
            let head = ask("OPTIONS", "https://example.com").await;
            assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
            for header in [
                "access-control-max-age: 300\r\n",
                "access-control-allow-methods: ",
                "access-control-allow-headers: content-type\r\n",
                "access-control-allow-origin: https://example.com\r\n",
                "vary: Origin\r\n",
            ] {
                assert!(head.contains(header), "{path}: {header} is missing: {head}");
            }
            let head = ask("POST", "https://example.com").await;
            assert!(head.contains("access-control-allow-origin: https://example.com\r\n"), "{path}: {head}");
        }
        assert_eq!(server.node.stats().disconnects.get(&3501), None);
    })
    .await;
}

/// The pings are far away and nothing is published: the end of the socket is all there is to notice.
#[bowline::test]
async fn a_client_that_aborts_its_stream_is_gone_at_once_although_nothing_is_written() {
    with_server(streams(&[("client.ping_interval", "1h")]), async |server| {
        let mut watcher = server.connect().await;
        watcher.call(r#"{"id":2,"subscribe":{"channel":"room","join_leave":true}}"#).await.unwrap();
        assert!(watcher.next_text().await.unwrap().contains("join"), "its own");
        for kind in [Kind::Lines, Kind::Events] {
            let mut stream = Streamed::connect(server.public, kind).await;
            stream.call(r#"{"id":2,"subscribe":{"channel":"room"}}"#).await;
            let joined = watcher.next_text().await.unwrap();
            assert!(joined.contains("join"), "{joined}");
            drop(stream);
            let left =
                tokio::time::timeout(PATIENCE, watcher.next_text()).await.expect("it is noticed").unwrap();
            assert!(left.contains("leave"), "{left}");
            eventually("its presence is gone", || server.node.stats().clients == 1).await;
        }
        eventually_named(&server, "connection", 1).await;
    })
    .await;
}

#[bowline::test]
async fn a_disconnect_is_the_last_push_and_the_end_of_the_answer() {
    with_server(streams(&[]), async |server| {
        for kind in [Kind::Lines, Kind::Events] {
            let mut refused =
                Streamed::open(server.public, kind, r#"{"id":1,"subscribe":{"channel":"a"}}"#).await;
            let push = refused.next().await.unwrap();
            assert_eq!(push, json!({"push":{"disconnect":{"code":3501,"reason":"bad request"}}}));
            assert_eq!(refused.next().await, None);

            let mut stream = Streamed::connect(server.public, kind).await;
            assert_eq!(stream.post("{\"id\":2,\"presence\":{\"channel\":\"a\"}}\nrubbish").await, 204);
            assert_eq!(stream.next().await.unwrap()["id"], 2);
            assert_eq!(stream.next().await.unwrap()["push"]["disconnect"]["code"], 3501);
            assert_eq!(stream.next().await, None);
            assert_eq!(stream.post("{}").await, 204, "a session that is over");
        }
    })
    .await;
}

#[bowline::test]
async fn a_stopping_server_tells_its_streams() {
    with_server(streams(&[]), async |server| {
        let mut connected = Streamed::connect(server.public, Kind::Events).await;
        let mut other = Streamed::connect(server.public, Kind::Lines).await;
        server.stop.notify_one();
        for stream in [&mut connected, &mut other] {
            assert_eq!(stream.next().await.unwrap()["push"]["disconnect"]["code"], 3001);
            assert_eq!(stream.next().await, None);
        }
    })
    .await;
}

#[bowline::test]
async fn a_ping_is_a_line_of_its_own_and_its_answer_comes_by_a_request() {
    let settings = [("client.ping_interval", "2s"), ("client.pong_timeout", "1s")];
    with_server(streams(&settings), async |server| {
        let mut alive = Streamed::connect(server.public, Kind::Lines).await;
        let mut mute = Streamed::connect(server.public, Kind::Events).await;
        for _ in 0..2 {
            assert_eq!(alive.next().await.unwrap(), json!({}));
            assert_eq!(alive.post("{}").await, 204);
        }
        assert_eq!(mute.next().await.unwrap(), json!({}));
        assert_eq!(mute.next().await.unwrap()["push"]["disconnect"]["code"], 3012);
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn a_stream_that_nobody_reads_is_closed_as_slow_and_nobody_else_waits_for_it() {
    let settings = [("client.queue_max_size", "65536"), ("sse.write_timeout", "600s")];
    with_server(streams(&settings), async |server| {
        let mut slow = Streamed::connect(server.public, Kind::Events).await;
        slow.call(r#"{"id":2,"subscribe":{"channel":"flood"}}"#).await;
        let mut quick = server.subscribe("flood").await;
        let payload = format!("\"{}\"", "x".repeat(8000));
        let mut published = 0;
        while !server.node.stats().disconnects.contains_key(&3008) {
            server.publish("flood", &payload).await;
            quick.next_text().await.unwrap();
            published += 1;
            assert!(published < 20_000, "the slow consumer is never closed");
        }
        eventually("one is left", || server.node.stats().clients == 1).await;
        // What had begun is finished, so that the reason can be read behind it.
        let mut last = Value::Null;
        while let Some(reply) = slow.next().await {
            last = reply;
        }
        assert_eq!(last["push"]["disconnect"]["code"], 3008, "{last}");
    })
    .await;
}

/// What a slow client had no room for is dropped when it is closed, but for the chunk that has begun: its reason does not stand
/// behind megabytes that it has no time to read.
#[bowline::test]
async fn a_slow_stream_is_told_why_before_what_it_had_no_room_for() {
    const GROUP: usize = 100;
    let settings = [("client.queue_max_size", "1500000"), ("sse.write_timeout", "600s")];
    with_server(streams(&settings), async |server| {
        let text = "x".repeat(8000);
        let commands: Vec<_> = (0..GROUP)
            .map(|at| json!({"publish": {"channel": "flood", "data": {"at": at, "text": text}}}))
            .collect();
        let group = json!({ "commands": commands }).to_string();
        // The kernel may take no more just at the end of a group, of which nothing is left then: not each time.
        let mut is_cut = false;
        for closed in 1..=8 {
            let mut slow = Streamed::connect(server.public, Kind::Events).await;
            slow.call(r#"{"id":2,"subscribe":{"channel":"flood"}}"#).await;
            for _ in 0..2000 {
                assert_eq!(server.api("batch", Some(crate::support::KEY), &group).await.0, 200);
                if server.node.stats().disconnects.get(&3008) == Some(&closed) {
                    break;
                }
            }
            assert_eq!(server.node.stats().disconnects.get(&3008), Some(&closed));
            let (mut last_at, mut last) = (Value::Null, Value::Null);
            while let Some(reply) = slow.next().await {
                last_at = std::mem::replace(&mut last, reply)["push"]["pub"]["data"]["at"].take();
            }
            assert_eq!(last["push"]["disconnect"]["code"], 3008, "{last}");
            is_cut = last_at != json!(GROUP - 1);
            if is_cut {
                break;
            }
        }
        assert!(is_cut, "everything was sent although nobody had room for it");
    })
    .await;
}

/// As some proxies speak to their upstream: the answer has no chunks and ends with the connection.
#[bowline::test]
async fn a_stream_in_http_1_0_ends_with_the_connection() {
    with_server(streams(&[]), async |server| {
        let commands = r#"{"id":1,"subscribe":{"channel":"a"}}"#;
        let length = commands.len();
        let request =
            format!("POST /connection/http_stream HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{commands}");
        let mut socket = send(server.public, &request).await;
        let answer = read_to_end(&mut socket).await.unwrap();
        assert!(!answer.contains("chunked"), "{answer}");
        let end = "\r\n\r\n{\"push\":{\"disconnect\":{\"code\":3501,\"reason\":\"bad request\"}}}\n";
        assert!(answer.ends_with(end), "{answer}");
    })
    .await;
}

/// Answers that were not read yet stand before the stream, and what is sent into it later does no harm.
#[bowline::test]
async fn a_request_before_the_stream_is_answered_before_it_and_what_comes_after_is_not_heard() {
    with_server(streams(&[]), async |server| {
        let connect = r#"{"id":1,"connect":{}}"#;
        let requests = format!(
            "POST /emulation HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}\
             POST /connection/http_stream HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{connect}\
             GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            connect.len()
        );
        let mut socket = send(server.public, &requests).await;
        let answer = read_until(&mut socket, r#"{"id":1,"connect":{"#).await;
        let places: Vec<_> = ["HTTP/1.1 404 ", "HTTP/1.1 200 "].map(|mark| answer.find(mark)).into();
        assert!(places.is_sorted() && places[0].is_some(), "{answer}");
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        eventually("it is connected", || server.node.stats().clients == 1).await;
        // One that never stops is not listened to for long.
        let flood = vec![b'x'; 256 * 1024];
        let _ = socket.write_all(&flood).await;
        eventually("it is gone", || server.node.stats().clients == 0).await;
    })
    .await;
}

fn command(id: u32, request: Request) -> Command {
    Command::Request { id: CommandId::new(id).unwrap(), request }
}

/// Commands as one frame of protobuf.
fn frame_of(commands: &[Command]) -> Vec<u8> {
    let mut frame = Vec::new();
    commands.iter().for_each(|command| Encoding::Protobuf.encode_command(command, &mut frame).unwrap());
    frame
}

fn connect_and_chat() -> [Command; 3] {
    // Data that no JSON could carry.
    let data = Payload::opaque(&b"\xff\0"[..]);
    let subscribe = SubscribeRequest { channel: "bytes".into(), ..SubscribeRequest::default() };
    let publish = PublishRequest { channel: "bytes".into(), data, ..PublishRequest::default() };
    [
        command(1, Request::Connect(ConnectRequest::default())),
        command(2, Request::Subscribe(subscribe)),
        command(3, Request::Publish(publish)),
    ]
}

fn is_the_publication(reply: &Reply) -> bool {
    matches!(reply, Reply::Push(Push::Publication { publication, .. }) if publication.data.as_bytes() == b"\xff\0")
}

#[bowline::test]
async fn protobuf_is_spoken_over_a_websocket_that_asks_for_it() {
    with_server(config(&[("client.ping_interval", "2s"), ("client.pong_timeout", "1s")]), async |server| {
        for query in ["?format=protobuf", "?a=b&cf_protocol=protobuf"] {
            let mut client = Client::open(server.public, &format!("{WEBSOCKET}{query}")).await.unwrap();
            let frame = masked_frame(Opcode::Binary, &frame_of(&connect_and_chat()), [1, 2, 3, 4]);
            client.send_raw(&frame).await.unwrap();
            let mut replies = Vec::new();
            while !replies.contains(&Reply::Ping) {
                let message = tokio::time::timeout(PATIENCE, client.next()).await.expect("a ping comes");
                let Some(Message::Binary(frame)) = message.unwrap() else { panic!("not a binary frame") };
                replies.extend(Encoding::Protobuf.decode_replies(&frame).map(Result::unwrap));
            }
            assert!(replies.iter().any(is_the_publication), "{replies:?}");
            let pong = masked_frame(Opcode::Binary, &frame_of(&[Command::Pong]), [1, 2, 3, 4]);
            client.send_raw(&pong).await.unwrap();
            // Another ping, where an unanswered one would end the connection.
            assert_eq!(client.next().await.unwrap(), Some(Message::Binary((&b"\0"[..]).into())));
        }
    })
    .await;
}

#[bowline::test]
async fn protobuf_is_spoken_over_a_stream_and_its_uplink() {
    with_server(streams(&[]), async |server| {
        let [connect, subscribe, publish] = connect_and_chat();
        let post = async |path: &str, body: &[u8]| {
            let mut request = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            request.extend(body);
            let mut socket = TcpStream::connect(server.public).await.unwrap();
            socket.write_all(&request).await.unwrap();
            socket
        };
        let mut stream = Streamed {
            server: server.public,
            kind: Kind::Lines,
            socket: post("/connection/http_stream", &frame_of(&[connect])).await,
            body: Vec::new(),
            raw: Vec::new(),
            session: String::new(),
            node: String::new(),
        };
        while !stream.raw.windows(4).any(|four| four == b"\r\n\r\n") {
            read(&mut stream.socket, &mut stream.raw).await;
        }
        let end = stream.raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(stream.raw.drain(..end + 4).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("type: application/octet-stream\r\n"), "{head}");
        let chunk = stream.chunk().await;
        let replies: Vec<_> = Encoding::Protobuf.decode_replies(&chunk).map(Result::unwrap).collect();
        let [Reply::Result { result: CommandResult::Connect(connected), .. }] = &replies[..] else {
            panic!("{replies:?}")
        };
        let request = EmulationRequest {
            node: connected.node.clone(),
            session: connected.session.clone(),
            data: frame_of(&[subscribe, publish]).into(),
        };
        let body = Encoding::Protobuf.encode_emulation(&request).unwrap();
        let mut uplink = post("/emulation", &body).await;
        assert!(read_until(&mut uplink, "\r\n\r\n").await.starts_with("HTTP/1.1 204 "));
        let mut body = Vec::new();
        while !Encoding::Protobuf.decode_replies(&body).flatten().any(|reply| is_the_publication(&reply)) {
            body.extend(stream.chunk().await);
        }
        let mut uplink = post("/emulation", b"\xff\xff").await;
        assert!(read_until(&mut uplink, "\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    })
    .await;
}

/// A plain tool answers pings of WebSocket by itself, and does not know others.
#[bowline::test]
async fn pings_are_those_of_websocket_for_who_asks_for_them() {
    with_server(config(&[("client.ping_interval", "2s"), ("client.pong_timeout", "1s")]), async |server| {
        let path = format!("{WEBSOCKET}?cf_ws_frame_ping_pong=true");
        let mut client = Client::open(server.public, &path).await.unwrap();
        let pong = masked_frame(Opcode::Pong, b"", [1, 2, 3, 4]);
        client.send_raw(&pong).await.unwrap(); // unasked, which is allowed
        let reply = client.call(r#"{"id":1,"connect":{}}"#).await.unwrap();
        assert!(
            reply.contains(r#""connect":{"#) && !reply.contains("ping") && !reply.contains("pong"),
            "{reply}"
        );
        for _ in 0..2 {
            assert_eq!(client.next().await.unwrap(), Some(Message::Ping(bytes::Bytes::new())));
            client.send_raw(&pong).await.unwrap();
        }
        assert_eq!(client.next().await.unwrap(), Some(Message::Ping(bytes::Bytes::new())));
        assert_eq!(closed_with(&mut client).await.0, 3012, "no pong to the last one");
    })
    .await;
}

/// Looks at all that an operator can see.
#[bowline::test]
async fn the_secret_of_a_session_is_in_no_view() {
    with_server(streams(&[]), async |server: Arc<Running>| {
        let stream = Streamed::connect(server.public, Kind::Lines).await;
        for path in [
            "/debug/bowline/tree?each=all",
            "/debug/bowline/tree?format=json&each=all",
            "/debug/bowline/queues",
            "/metrics",
        ] {
            let (status, page) = server.get(path).await;
            assert_eq!(status, 200, "{path}");
            assert!(!page.contains(&stream.session), "{path}");
        }
    })
    .await;
}
