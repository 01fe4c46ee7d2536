//! What is spoken over gRPC: streams of pushes, as a client over HTTP/2 sees them, and peers that mean harm.

use std::future::{pending, poll_fn};
use std::net::SocketAddr;

use bowline::{Either, race};
use bowline_protocol::{Push, protobuf};
use bowline_server::config::{Config, Secret};
use bowline_server::token;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use hyper::{HeaderMap, Request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{KEY, PATIENCE, Running, config, eventually, with_server};

const CONSUME: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";
const TOKEN_KEY: &str = "0123456789abcdef0123456789abcdef";

/// Settings with a listener for streams.
fn streams(set: &[(&str, &str)]) -> Config {
    let base = [
        ("uni_grpc.enabled", "true"),
        ("uni_grpc.port", "0"),
        ("channel.without_namespace.presence", "true"),
        ("channel.without_namespace.history_size", "100"),
        ("channel.without_namespace.history_ttl", "60s"),
    ];
    let mut config = config(&base.iter().chain(set).copied().collect::<Vec<_>>());
    config.client.token.hmac_secret_key = Secret::new(TOKEN_KEY);
    config
}

/// A request to connect as a user who is subscribed to `channels`.
fn request(user: &str, channels: &[&str]) -> Bytes {
    let claims = json!({"sub": user, "exp": 4_000_000_000_u64, "channels": channels});
    let token = token::mint(&Secret::new(TOKEN_KEY).unwrap(), &claims).unwrap();
    let mut message = vec![0x0a];
    prost::encode_length_delimiter(token.len(), &mut message).unwrap();
    message.extend_from_slice(token.as_bytes());
    message.into()
}

/// Runs `test` with a client's end of one connection, which ends with it.
pub(crate) async fn with_connection<F: Future<Output = ()>>(
    server: SocketAddr,
    test: impl FnOnce(SendRequest<Bytes>) -> F,
) {
    let socket = TcpStream::connect(server).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    // The test outlives a connection that ends: what it waits for comes to an end as well.
    let driving = async {
        let _ = connection.await;
        pending::<()>().await;
    };
    let _: Either<(), ()> = race(Box::pin(test(send)), driving).await;
}

/// Calls `path` with one message.
pub(crate) async fn call(
    send: &SendRequest<Bytes>,
    path: &str,
    headers: &[(&str, &str)],
    message: &[u8],
) -> (hyper::Response<RecvStream>, SendStream<Bytes>) {
    let mut request = Request::post(format!("http://server{path}")).header("te", "trailers");
    for (name, value) in [("content-type", "application/grpc")].iter().chain(headers) {
        request = request.header(*name, *value);
    }
    let mut send = send.clone().ready().await.unwrap();
    let (response, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.extend_from_slice(message);
    body.send_data(framed.freeze(), true).unwrap();
    let response = timeout(PATIENCE, response).await.expect("an answer").unwrap();
    assert_eq!(response.status(), 200);
    (response, body)
}

/// A stream of pushes.
struct Pushes {
    body: RecvStream,
    read: BytesMut,
    /// Its own end of the call, which resets it.
    call: SendStream<Bytes>,
    headers: HeaderMap,
}

impl Pushes {
    async fn open(send: &SendRequest<Bytes>, headers: &[(&str, &str)], request: &[u8]) -> Self {
        let (response, call) = call(send, CONSUME, headers, request).await;
        let (head, body) = response.into_parts();
        Self { body, read: BytesMut::new(), call, headers: head.headers }
    }

    /// The next push; `None` for a ping, an error for the status at the end.
    async fn next(&mut self) -> Result<Option<Push>, u32> {
        loop {
            if self.read.len() >= 5 {
                let length = (&self.read[1..5]).get_u32() as usize;
                if self.read.len() >= 5 + length {
                    self.read.advance(5);
                    let message = self.read.split_to(length);
                    return Ok((length > 0).then(|| protobuf::decode_push(&message).unwrap()));
                }
            }
            match timeout(PATIENCE, self.body.data()).await.expect("a push or an end") {
                Some(Ok(data)) => {
                    self.body.flow_control().release_capacity(data.len()).unwrap();
                    self.read.extend_from_slice(&data);
                }
                Some(Err(error)) => panic!("{error}"),
                None => {
                    assert!(self.read.is_empty(), "half a message");
                    return Err(self.status().await);
                }
            }
        }
    }

    /// The next push that is no ping.
    async fn push(&mut self) -> Push {
        loop {
            if let Some(push) = self.next().await.unwrap_or_else(|status| panic!("status {status}")) {
                return push;
            }
        }
    }

    async fn status(&mut self) -> u32 {
        let trailers = timeout(PATIENCE, self.body.trailers()).await.expect("trailers").unwrap();
        let trailers = trailers.unwrap_or_else(|| self.headers.clone());
        trailers["grpc-status"].to_str().unwrap().parse().unwrap()
    }

    /// The code of the last push; behind it there must be the status OK and nothing else.
    async fn disconnected(&mut self) -> u16 {
        loop {
            if let Push::Disconnect(reason) = self.push().await {
                assert_eq!(self.next().await, Err(0));
                return reason.code;
            }
        }
    }
}

fn uni(server: &Running) -> SocketAddr {
    server.uni_grpc.expect("it is switched on")
}

async fn clients(server: &Running, count: u64) {
    eventually(&format!("{count} clients"), || server.node.stats().clients == count).await;
}

#[bowline::test]
async fn a_stream_is_pushes_from_connect_to_disconnect() {
    with_server(streams(&[]), async |server| {
        with_connection(uni(&server), async |send| {
            let mut pushes = Pushes::open(&send, &[], &request("42", &["news"])).await;
            assert_eq!(pushes.headers["content-type"], "application/grpc");
            let Push::Connect(connected) = pushes.push().await else { panic!("connect comes first") };
            assert!(connected.subs.contains_key("news") && !connected.client.is_empty(), "{connected:?}");
            assert!(!connected.pong, "nobody can send one");

            server.publish("news", r#"{"n":1}"#).await;
            let Push::Publication { channel, publication } = pushes.push().await else { panic!() };
            assert_eq!(
                (&*channel, publication.data.as_bytes(), publication.offset),
                ("news", &br#"{"n":1}"#[..], 1)
            );

            // Longer than one piece of a body, and than what HTTP/2 has room for at first.
            let long = format!("\"{}\"", "x".repeat(50_000));
            server.publish("news", &long).await;
            server.publish("news", &long).await;
            for _ in 0..2 {
                let Push::Publication { publication, .. } = pushes.push().await else { panic!() };
                assert_eq!(publication.data.as_bytes(), long.as_bytes());
            }

            let (_, answer) = server.api("subscribe", Some(KEY), r#"{"user":"42","channel":"more"}"#).await;
            assert!(answer.contains("result"), "{answer}");
            assert!(matches!(pushes.push().await, Push::Subscribe { .. }));
            let (_, answer) = server.api("disconnect", Some(KEY), r#"{"user":"42"}"#).await;
            assert!(answer.contains("result"), "{answer}");
            assert_eq!(pushes.disconnected().await, 3503);
            clients(&server, 0).await;
        })
        .await;
    })
    .await;
}

#[bowline::test]
async fn pings_are_empty_messages_and_nobody_waits_for_a_pong() {
    let quick = [("client.ping_interval", "200ms"), ("client.pong_timeout", "100ms")];
    with_server(streams(&quick), async |server| {
        with_connection(uni(&server), async |send| {
            let mut pushes = Pushes::open(&send, &[], &request("42", &[])).await;
            assert!(matches!(pushes.push().await, Push::Connect(_)));
            for _ in 0..3 {
                assert_eq!(pushes.next().await, Ok(None));
            }
        })
        .await;
    })
    .await;
}

#[bowline::test]
async fn a_client_that_resets_its_stream_or_vanishes_is_gone_at_once() {
    with_server(streams(&[]), async |server| {
        let present = async || {
            let (_, answer) = server.api("presence_stats", Some(KEY), r#"{"channel":"news"}"#).await;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            answer["result"]["num_clients"].as_u64().unwrap()
        };
        with_connection(uni(&server), async |send| {
            let mut staying = Pushes::open(&send, &[], &request("1", &["news"])).await;
            let mut going = Pushes::open(&send, &[], &request("2", &["news"])).await;
            assert!(matches!(staying.push().await, Push::Connect(_)));
            assert!(matches!(going.push().await, Push::Connect(_)));
            assert_eq!(present().await, 2);
            going.call.send_reset(h2::Reason::CANCEL);
            clients(&server, 1).await;
            assert_eq!(present().await, 1);
            server.publish("news", "1").await;
            assert!(matches!(staying.push().await, Push::Publication { .. }), "the other stream goes on");
        })
        .await;
        // The connection was dropped with the stream on it.
        clients(&server, 0).await;
        assert_eq!(present().await, 0);
    })
    .await;
}

#[bowline::test]
async fn a_client_that_takes_nothing_is_closed_and_its_connection_goes_on() {
    let data = format!("\"{}\"", "x".repeat(30_000));
    // Few publications: some of them still lie there when it has taken nothing for long. Many: its queue is full, and long
    // before its time is over.
    for (write_timeout, publications, code) in [("300ms", 4, 3009), ("600s", 20, 3008)] {
        let narrow = [("client.queue_max_size", "200000"), ("uni_grpc.write_timeout", write_timeout)];
        with_server(streams(&narrow), async |server| {
            with_connection(uni(&server), async |send| {
                let mut slow = Pushes::open(&send, &[], &request("1", &["news"])).await;
                // Taken from its window and never given back: the flow control of HTTP/2 stops the server.
                let connect = timeout(PATIENCE, slow.body.data()).await.unwrap().unwrap().unwrap();
                assert!(connect.len() > 5);
                for _ in 0..publications {
                    server.publish("news", &data).await;
                }
                eventually(&code.to_string(), || server.node.stats().disconnects.get(&code) == Some(&1))
                    .await;
                clients(&server, 0).await;
                // Reset in the end, although the window is never given back.
                let reset = timeout(PATIENCE, poll_fn(|cx| slow.call.poll_reset(cx))).await.expect("a reset");
                let reason = reset.map_or_else(|error| error.reason(), Some);
                assert_eq!(reason, Some(h2::Reason::CANCEL));
                // What it took counts in the window of the connection as well, until it is given back.
                drop(slow);
                let mut quick = Pushes::open(&send, &[], &request("3", &["news"])).await;
                assert!(matches!(quick.push().await, Push::Connect(_)));
            })
            .await;
        })
        .await;
    }
}

#[bowline::test]
async fn a_shutdown_tells_every_stream_and_waits_for_none_that_does_not_read() {
    with_server(streams(&[("shutdown.timeout", "4s")]), async |server| {
        with_connection(uni(&server), async |send| {
            let mut pushes = Pushes::open(&send, &[], &request("1", &["news"])).await;
            let mut silent = Pushes::open(&send, &[], &request("2", &[])).await;
            assert!(matches!(pushes.push().await, Push::Connect(_)));
            assert!(matches!(silent.push().await, Push::Connect(_)));
            server.stop.notify_one();
            assert_eq!(pushes.disconnected().await, 3001);
        })
        .await;
    })
    .await;
}

#[bowline::test]
async fn what_is_no_request_for_a_stream_gets_a_status() {
    with_server(streams(&[("uni_grpc.max_receive_message_size", "1000")]), async |server| {
        with_connection(uni(&server), async |send| {
            let whole = request("1", &[]);
            for (path, headers, message, status) in [
                ("/centrifugal.centrifugo.api.CentrifugoApi/Info", vec![], &whole[..], 12),
                (CONSUME, vec![], &[0; 1001][..], 11),
                (CONSUME, vec![("grpc-timeout", "soon")], &whole[..], 3),
            ] {
                let (response, call) = call(&send, path, &headers, message).await;
                let (head, body) = response.into_parts();
                let mut refused = Pushes { body, read: BytesMut::new(), call, headers: head.headers };
                assert_eq!(refused.next().await, Err(status), "{path} {headers:?}");
            }
            // A client without a token, and nobody who lets it in.
            assert_eq!(server.node.stats().clients, 0);
        })
        .await;
    })
    .await;
}

#[bowline::test]
async fn a_client_that_may_not_connect_is_told_why() {
    with_server(streams(&[]), async |server| {
        with_connection(uni(&server), async |send| {
            let forged = [&[0x0a, 5][..], b"a.b.c"].concat();
            for (request, code) in [(&forged[..], 3500), (&[0xff, 0xff], 3501)] {
                let mut refused = Pushes::open(&send, &[], request).await;
                assert_eq!(refused.disconnected().await, code);
            }
        })
        .await;
    })
    .await;
}

#[bowline::test]
async fn a_stream_ends_at_the_deadline_that_came_with_the_call() {
    with_server(streams(&[]), async |server| {
        with_connection(uni(&server), async |send| {
            let mut pushes = Pushes::open(&send, &[("grpc-timeout", "3S")], &request("1", &[])).await;
            assert!(matches!(pushes.push().await, Push::Connect(_)));
            assert_eq!(pushes.next().await, Err(4));
            clients(&server, 0).await;
        })
        .await;
    })
    .await;
}

#[bowline::test]
async fn an_address_has_as_many_streams_as_connections() {
    let set = [("http_server.connections_per_address", "3"), ("http_server.trusted_proxies", "192.0.2.1")];
    with_server(streams(&set), async |server| {
        with_connection(uni(&server), async |send| {
            let mut held = Vec::new();
            for user in ["1", "2"] {
                let mut pushes = Pushes::open(&send, &[], &request(user, &[])).await;
                assert!(matches!(pushes.push().await, Push::Connect(_)));
                held.push(pushes);
            }
            let mut third = Pushes::open(&send, &[], &request("3", &[])).await;
            assert_eq!(third.next().await, Err(8), "the connection itself has the third place");
            held.pop().unwrap().call.send_reset(h2::Reason::CANCEL);
            clients(&server, 1).await;
            let mut third = Pushes::open(&send, &[], &request("3", &[])).await;
            assert!(matches!(third.push().await, Push::Connect(_)));
        })
        .await;
    })
    .await;
}

/// Frames of HTTP/2 as bytes: what no library would send.
mod raw {
    use bytes::BufMut;

    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const END_HEADERS: u8 = 4;

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.put_uint(payload.len() as u64, 3);
        frame.put_u8(kind);
        frame.put_u8(flags);
        frame.put_u32(stream);
        frame.extend_from_slice(payload);
        frame
    }

    /// A field that is in no table, of which the peer is to remember nothing.
    pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
        let mut field = vec![0];
        for text in [name, value] {
            // Lengths from 127 on take several bytes, of which the first is full.
            match u8::try_from(text.len()) {
                Ok(short @ ..127) => field.push(short),
                _ => {
                    field.push(127);
                    let mut rest = text.len() - 127;
                    while rest >= 128 {
                        field.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    field.push(rest as u8);
                }
            }
            field.extend_from_slice(text.as_bytes());
        }
        field
    }

    /// The fields of a call.
    pub(super) fn call() -> Vec<u8> {
        [(":method", "POST"), (":scheme", "http"), (":path", super::CONSUME), (":authority", "server")]
            .iter()
            .flat_map(|(name, value)| field(name, value))
            .collect()
    }
}

/// A connection on which HTTP/2 has begun.
async fn begun(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&raw::frame(raw::SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Reads until the server closes, and returns the kinds of frames that came and the reason of the last GOAWAY.
async fn frames_to_end(stream: &mut TcpStream) -> (Vec<u8>, Option<u32>) {
    let mut all = BytesMut::new();
    let read = async { while stream.read_buf(&mut all).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, read).await.expect("the server closes");
    let (mut kinds, mut reason) = (Vec::new(), None);
    while all.len() >= 9 {
        let length = (&all[..3]).get_uint(3) as usize;
        if all.len() < 9 + length {
            break; // a reset cut it off
        }
        let frame = all.split_to(9 + length);
        kinds.push(frame[3]);
        if frame[3] == raw::GOAWAY {
            reason = Some((&frame[13..17]).get_u32());
        }
    }
    (kinds, reason)
}

/// Calls that may be open on one connection.
const MAX_STREAMS: u32 = 128;

/// HTTP/2's word for "not one more", and that for "you do this too much".
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// CVE-2023-44487: calls that are begun and reset at once cost the server and never count as open.
#[bowline::test]
async fn calls_that_are_reset_as_fast_as_they_are_begun_end_the_connection() {
    with_server(streams(&[]), async |server| {
        let mut stream = begun(uni(&server)).await;
        let mut flood = Vec::new();
        for call in (1..=2001).step_by(2) {
            flood.extend(raw::frame(raw::HEADERS, raw::END_HEADERS, call, &raw::call()));
            flood.extend(raw::frame(raw::RST_STREAM, 0, call, &8_u32.to_be_bytes()));
        }
        // The server need not read all of it.
        let _ = stream.write_all(&flood).await;
        let (kinds, reason) = frames_to_end(&mut stream).await;
        assert!(kinds.contains(&raw::GOAWAY) && reason == Some(ENHANCE_YOUR_CALM), "{kinds:?} {reason:?}");
    })
    .await;
}

/// RUSTSEC-2024-0332: headers that never end, a CONTINUATION at a time.
#[bowline::test]
async fn headers_without_end_end_the_connection() {
    with_server(streams(&[]), async |server| {
        let mut stream = begun(uni(&server)).await;
        stream.write_all(&raw::frame(raw::HEADERS, 0, 1, &raw::call())).await.unwrap();
        let more = raw::frame(raw::CONTINUATION, 0, 1, &raw::field("x-filler", &"x".repeat(8000)));
        let mut sent = 0_usize;
        while sent < 64 * 1024 * 1024 && stream.write_all(&more).await.is_ok() {
            sent += more.len();
        }
        let (kinds, reason) = frames_to_end(&mut stream).await;
        assert!(sent < 16 * 1024 * 1024, "{sent} bytes of headers were taken; {kinds:?} {reason:?}");
        assert_eq!(server.node.stats().clients, 0);
    })
    .await;
}

#[bowline::test]
async fn headers_of_a_call_are_bounded_and_the_connection_lives_on() {
    with_server(streams(&[]), async |server| {
        let socket = TcpStream::connect(uni(&server)).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        let test = async {
            let large =
                Request::post(format!("http://server{CONSUME}")).header("x-filler", "x".repeat(20_000));
            let mut ready = send.clone().ready().await.unwrap();
            let (response, _) = ready.send_request(large.body(()).unwrap(), true).unwrap();
            match timeout(PATIENCE, response).await.expect("an answer") {
                Ok(response) => assert_eq!(response.status(), 431),
                Err(error) => assert!(error.is_reset(), "{error}"),
            }
            let mut pushes = Pushes::open(&send, &[], &request("1", &[])).await;
            assert!(matches!(pushes.push().await, Push::Connect(_)));
        };
        assert!(matches!(race(test, connection).await, Either::Left(())));
    })
    .await;
}

#[bowline::test]
async fn more_calls_than_allowed_are_refused_on_one_connection() {
    with_server(streams(&[]), async |server| {
        let mut stream = begun(uni(&server)).await;
        // Bodies that never come: calls that stay open.
        let open = |first: u32, count: u32| {
            let calls = (first..first + 2 * count).step_by(2);
            calls
                .flat_map(|call| raw::frame(raw::HEADERS, raw::END_HEADERS, call, &raw::call()))
                .collect::<Vec<_>>()
        };
        stream.write_all(&open(1, MAX_STREAMS + 5)).await.unwrap();
        let mut read = BytesMut::new();
        let is_refused = |frame: &[u8]| {
            frame[..5] == [0, 0, 4, raw::RST_STREAM, 0] && frame[9..] == REFUSED_STREAM.to_be_bytes()
        };
        while read.windows(13).filter(|frame| is_refused(frame)).count() < 5 {
            let count = timeout(PATIENCE, stream.read_buf(&mut read)).await.expect("frames").unwrap();
            assert_ne!(count, 0, "closed");
        }
        let tasks = crate::support::tasks(&server).await;
        assert_eq!(tasks.named("uni gRPC connection"), 1, "calls are no tasks");
        // Who goes on does not stay.
        let _ = stream.write_all(&open(2 * MAX_STREAMS + 11, 500)).await;
        let (_, reason) = frames_to_end(&mut stream).await;
        assert_eq!(reason, Some(ENHANCE_YOUR_CALM));
    })
    .await;
}

#[bowline::test]
async fn silent_connections_are_closed_before_and_after_the_preface() {
    let quick = [
        ("http_server.handshake_timeout", "300ms"),
        ("client.stale_close_delay", "300ms"),
        ("grpc_api.enabled", "true"),
        ("grpc_api.port", "0"),
    ];
    with_server(streams(&quick), async |server| {
        for address in [uni(&server), server.grpc.unwrap()] {
            let mut silent = TcpStream::connect(address).await.unwrap();
            assert_eq!(frames_to_end(&mut silent).await, (vec![], None));
        }
        // One that has begun and calls nothing is told to go, and gone when it does not.
        let mut idle = begun(uni(&server)).await;
        let (kinds, reason) = frames_to_end(&mut idle).await;
        assert!(kinds.contains(&raw::GOAWAY) && reason == Some(0), "{kinds:?} {reason:?}");
    })
    .await;
}

#[bowline::test]
async fn who_speaks_http_1_is_told_where_it_is() {
    with_server(streams(&[]), async |server| {
        let mut stream = TcpStream::connect(uni(&server)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 505 "), "{}", String::from_utf8_lossy(&answer));
    })
    .await;
}
