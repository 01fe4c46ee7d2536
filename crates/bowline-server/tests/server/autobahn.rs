//! The cases of the Autobahn test suite for WebSocket servers, against a running server that answers with what it gets.
//!
//! Each row is what a client sends and all that a server may answer until it closes the socket. The rows follow the suite's
//! numbers, with messages of series 9 a sixteenth as long; the real tool is run by `conformance/run autobahn`. Every row runs
//! with its bytes in one piece, and most of them byte by byte too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{PATIENCE, config};
use bowline::{Cancelled, scope};
use bowline_protocol::websocket::{
    Decoder, FrameHeader, Limits, Message, Opcode, Role, append_frame, close_frame, deflate, frame,
};
use bowline_server::config::Config;
use bowline_server::net::Server;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const LONGEST: usize = 16 * 1024 * 1024;

/// Settings of a server of echoes, as the hidden command has them.
fn echoes(compression: &str) -> Config {
    config(&[
        ("websocket.message_size_limit", &LONGEST.to_string()),
        ("websocket.write_timeout", "60s"),
        ("websocket.compression", compression),
        ("websocket.compression_min_size", "0"),
        ("client.stale_close_delay", "24h"),
        ("client.command_rate_limit", "0"),
        ("client.byte_rate_limit", "0"),
    ])
}

async fn with_echoes(compression: &str, test: impl AsyncFnOnce(SocketAddr)) {
    let server = Server::bind(echoes(compression), true).await.unwrap().echo();
    let (address, stop) = (server.public_address(), Arc::new(Notify::new()));
    scope("test", async |s| {
        let stopped = Arc::clone(&stop).notified_owned();
        s.spawn("server", async move { server.run(stopped).await });
        test(address).await;
        stop.notify_one();
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// A WebSocket, and what the server said of extensions.
async fn open(server: SocketAddr, extensions: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!(
        "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (stream, head)
}

/// How the bytes of a case are cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    /// Each byte in a write of its own.
    Bytes,
}

/// Sends a case and reads all that comes until the server closes.
async fn run(server: SocketAddr, sent: &[u8], cut: Cut) -> Vec<u8> {
    let (stream, _) = open(server, "").await;
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        match cut {
            // A server that has closed does not read to the end.
            Cut::Whole => drop(write.write_all(sent).await),
            Cut::Bytes => {
                for byte in sent {
                    if write.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        write
    };
    let reading = async {
        let mut answer = Vec::new();
        let end = tokio::time::timeout(PATIENCE, read.read_to_end(&mut answer)).await;
        (end.expect("the server closes"), answer)
    };
    let (_write, (_end, answer)) = bowline::join(sending, reading).await;
    answer
}

/// A case under construction: what is sent, and what is to come back.
#[derive(Clone, Debug, Default)]
struct Case {
    sent: Vec<u8>,
    answer: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        Self::default()
    }

    fn send(mut self, opcode: Opcode, is_final: bool, payload: impl AsRef<[u8]>) -> Self {
        let header = FrameHeader { is_final, mask: Some(MASK), ..FrameHeader::new(opcode, 0) };
        append_frame(header, payload.as_ref(), &mut self.sent);
        self
    }

    fn text(self, payload: impl AsRef<[u8]>) -> Self {
        self.send(Opcode::Text, true, payload)
    }

    fn ping(self, payload: impl AsRef<[u8]>) -> Self {
        self.send(Opcode::Ping, true, payload)
    }

    fn first(self, payload: impl AsRef<[u8]>) -> Self {
        self.send(Opcode::Text, false, payload)
    }

    fn next(self, payload: impl AsRef<[u8]>) -> Self {
        self.send(Opcode::Continuation, false, payload)
    }

    fn last(self, payload: impl AsRef<[u8]>) -> Self {
        self.send(Opcode::Continuation, true, payload)
    }

    fn close(self, payload: impl AsRef<[u8]>) -> Self {
        self.send(Opcode::Close, true, payload)
    }

    /// A frame of any first byte: reserved bits and opcodes.
    fn raw(mut self, first_byte: u8, payload: impl AsRef<[u8]>) -> Self {
        let start = self.sent.len();
        self = self.text(payload);
        self.sent[start] = first_byte;
        self
    }

    fn echo(self, opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        self.answered(&frame(opcode, payload.as_ref()))
    }

    fn pong(self, payload: impl AsRef<[u8]>) -> Self {
        self.echo(Opcode::Pong, payload)
    }

    fn answered(mut self, bytes: &[u8]) -> Self {
        self.answer.extend_from_slice(bytes);
        self
    }

    /// The client closes in order, and is answered.
    async fn ends(self, name: &str, server: SocketAddr) {
        self.close(1000_u16.to_be_bytes()).answered(&close_frame(1000, "")).holds(name, server).await;
    }

    /// The server closes with this status.
    async fn fails(self, name: &str, code: u16, server: SocketAddr) {
        for cut in [Cut::Whole, Cut::Bytes] {
            let answer = run(server, &self.sent, cut).await;
            let rest = answer.strip_prefix(&self.answer[..]);
            let rest = rest.unwrap_or_else(|| panic!("{name}, {cut:?}: {answer:x?}"));
            assert_eq!(rest.get(2..4), Some(&code.to_be_bytes()[..]), "{name}, {cut:?}: {answer:x?}");
            assert_eq!(
                (rest[0], usize::from(rest[1]) + 2),
                (0x88, rest.len()),
                "{name}, {cut:?}: {answer:x?}"
            );
        }
    }

    async fn holds(self, name: &str, server: SocketAddr) {
        for cut in [Cut::Whole, Cut::Bytes] {
            if matches!(cut, Cut::Bytes) && self.sent.len() > 10_000 {
                continue;
            }
            let answer = run(server, &self.sent, cut).await;
            assert!(
                answer == self.answer,
                "{name}, {cut:?}: {} bytes come back, not {}: {:x?}",
                answer.len(),
                self.answer.len(),
                &answer[..answer.len().min(64)]
            );
        }
    }
}

#[bowline::test(timeout_secs = 300)]
async fn series_1_messages_of_every_form_of_length() {
    with_echoes("false", async |server| {
        for length in [0, 125, 126, 127, 128, 65_535, 65_536] {
            let text = vec![b'*'; length];
            Case::new().text(&text).echo(Opcode::Text, &text).ends("1.1", server).await;
            let bytes = vec![0xfe; length];
            Case::new()
                .send(Opcode::Binary, true, &bytes)
                .echo(Opcode::Binary, &bytes)
                .ends("1.2", server)
                .await;
        }
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn series_2_pings_and_pongs() {
    with_echoes("false", async |server| {
        let bytes = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
        for payload in [&b""[..], b"Hello, world!", &bytes, &[0xfe; 125]] {
            Case::new().ping(payload).pong(payload).ends("2.1-2.4, 2.6", server).await;
        }
        Case::new().ping([0xfe; 126]).fails("2.5", 1002, server).await;
        for payload in ["", "unsolicited"] {
            Case::new().send(Opcode::Pong, true, payload).ends("2.7, 2.8", server).await;
        }
        Case::new().send(Opcode::Pong, true, "unasked").ping("asked").pong("asked").ends("2.9", server).await;
        let ten = (0..10).fold(Case::new(), |case, n| case.ping(format!("{n}")).pong(format!("{n}")));
        ten.ends("2.10, 2.11", server).await;
        // More at once than are answered one by one: the last of them always is.
        let pings = (0..100).fold(Case::new(), |case, n| case.ping(format!("{n}")));
        let (mut stream, _) = open(server, "").await;
        stream.write_all(&pings.sent).await.unwrap();
        let last = frame(Opcode::Pong, b"99");
        let mut answer = Vec::new();
        while !answer.ends_with(&last) {
            let more = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answer)).await;
            assert_ne!(more.expect("the last ping is answered").unwrap(), 0);
        }
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn series_3_reserved_bits() {
    with_echoes("false", async |server| {
        let hello = || Case::new().text("Hello").echo(Opcode::Text, "Hello");
        for (name, first_byte, payload) in [
            ("3.1", 0x91, "x"),
            ("3.2", 0xa1, "x"),
            ("3.3", 0xb1, "x"),
            ("3.4", 0xc1, "x"),
            ("3.5", 0xd2, "x"),
            ("3.6", 0xe9, "x"),
            ("3.7", 0xf8, ""),
        ] {
            Case::new().raw(first_byte, payload).ping("late").fails(name, 1002, server).await;
            let answer = run(server, &hello().raw(first_byte, payload).ping("late").sent, Cut::Bytes).await;
            // What was right before it is answered, unless the failure came in the same breath.
            assert!(
                answer.windows(4).any(|four| four[0] == 0x88 && four[2..] == 1002_u16.to_be_bytes()),
                "{name}"
            );
        }
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn series_4_reserved_opcodes() {
    with_echoes("false", async |server| {
        for opcode in (3..=7).chain(11..=15) {
            Case::new().raw(0x80 | opcode, "").fails("4.1.1, 4.2.1", 1002, server).await;
            Case::new().raw(0x80 | opcode, "payload").ping("").fails("4.1.2, 4.2.2", 1002, server).await;
        }
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn series_5_fragments() {
    with_echoes("false", async |server| {
        let case = Case::new;
        case().send(Opcode::Ping, false, "a").last("b").fails("5.1", 1002, server).await;
        case().send(Opcode::Pong, false, "a").last("b").fails("5.2", 1002, server).await;
        case().first("a").last("b").echo(Opcode::Text, "ab").ends("5.3-5.5", server).await;
        let interleaved = case().first("a").ping("p").pong("p").last("b").echo(Opcode::Text, "ab");
        interleaved.ends("5.6-5.8", server).await;
        for (name, is_final) in [("5.9-5.11", true), ("5.12-5.14", false)] {
            case().send(Opcode::Continuation, is_final, "x").text("y").fails(name, 1002, server).await;
        }
        case().next("a").text("b").next("a").fails("5.16, 5.17", 1002, server).await;
        case().first("a").text("b").fails("5.18", 1002, server).await;
        let five = case().first("1").next("2").ping("p").pong("p").next("3").next("4").ping("q").pong("q");
        five.last("5").echo(Opcode::Text, "12345").ends("5.19, 5.20", server).await;
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn series_6_texts() {
    with_echoes("false", async |server| {
        let text = "Hello-µ@ßöäüàá-UTF-8!!".as_bytes();
        Case::new().text("").echo(Opcode::Text, "").ends("6.1.1", server).await;
        Case::new().first("").next("").last("").echo(Opcode::Text, "").ends("6.1.2", server).await;
        Case::new()
            .first("")
            .next("middle")
            .last("")
            .echo(Opcode::Text, "middle")
            .ends("6.1.3", server)
            .await;
        Case::new().text(text).echo(Opcode::Text, text).ends("6.2.1", server).await;
        let octets = text.iter().fold(Case::new().first(""), |case, byte| case.next([*byte]));
        octets.last("").echo(Opcode::Text, text).ends("6.2.2-6.2.4", server).await;

        let good: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";
        Case::new().text([good, b"\xed\xa0\x80edited"].concat()).fails("6.3.1", 1007, server).await;
        // What has not come cannot make it right: the failure does not wait for it.
        Case::new().first(good).next(b"\xf4\x90\x80\x80").fails("6.4.1", 1007, server).await;
        Case::new().first([good, b"\xf4"].concat()).next(b"\x90").fails("6.4.2-6.4.4", 1007, server).await;
        for valid in [
            &b"\x00"[..],
            b"\x7f",
            b"\xc2\x80",
            b"\xe0\xa0\x80",
            b"\xef\xbf\xbf",
            b"\xef\xb7\x90",
            b"\xed\x9f\xbf",
            b"\xee\x80\x80",
            b"\xf0\x90\x80\x80",
            b"\xf4\x8f\xbf\xbf",
            b"\xf0\x9f\xbf\xbe",
        ] {
            Case::new().text(valid).echo(Opcode::Text, valid).ends("6.5-6.9, 6.22, 6.23", server).await;
        }
        for invalid in [
            &b"\x80"[..],
            b"\xbf",
            b"\x80\xbf\x80",
            b"\xc0\x20",
            b"\xe0\x20",
            b"\xc0\xaf",
            b"\xe0\x80\xaf",
            b"\xf0\x80\x80\xaf",
            b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
            b"\xc1\xbf",
            b"\xe0\x9f\xbf",
            b"\xf0\x8f\xbf\xbf",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xed\xa0\x80\xed\xb0\x80",
            b"\xf4\x90\x80\x80",
            b"\xfe",
            b"\xff",
            b"\xce",
            b"\xe1\xbd",
        ] {
            Case::new().text(invalid).fails("6.6-6.21", 1007, server).await;
        }
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn series_7_closing() {
    with_echoes("false", async |server| {
        let bye = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
        Case::new().text("x").echo(Opcode::Text, "x").ends("7.1.1", server).await;
        let closed = close_frame(1000, "");
        for (name, late) in [
            ("7.1.2", Case::new().close(bye(1000, b""))),
            ("7.1.3", Case::new().ping("late")),
            ("7.1.4", Case::new().text("late")),
            ("7.1.5", Case::new().last("late")),
            ("7.1.6", Case::new().send(Opcode::Binary, true, vec![7; 256 * 1024])),
        ] {
            let mut case = Case::new().close(bye(1000, b""));
            case.sent.extend(late.sent);
            case.answered(&closed).holds(name, server).await;
        }
        Case::new().close("").answered(&closed).holds("7.3.1", server).await;
        Case::new().close("a").fails("7.3.2", 1002, server).await;
        for reason in [&b""[..], b"Hello World!", &[b'*'; 123]] {
            Case::new().close(bye(1000, reason)).answered(&closed).holds("7.3.3-7.3.5", server).await;
        }
        Case::new().close(bye(1000, &[b'*'; 124])).fails("7.3.6", 1002, server).await;
        Case::new().close(bye(1000, b"\xce\xba\xed\xa0\x80")).fails("7.5.1", 1007, server).await;
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
            Case::new().close(bye(code, b"")).answered(&closed).holds("7.7", server).await;
        }
        for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
            Case::new().close(bye(code, b"")).fails("7.9, 7.13", 1002, server).await;
        }
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn series_9_and_10_long_messages_and_many_pieces() {
    with_echoes("false", async |server| {
        for (kind, byte) in [(Opcode::Text, b'*'), (Opcode::Binary, 0xfe)] {
            for length in [4, 16, 64, 256, 512, 1024].map(|kibibytes| kibibytes * 1024) {
                let payload = vec![byte; length];
                Case::new().send(kind, true, &payload).echo(kind, &payload).ends("9.1, 9.2", server).await;
            }
            let payload = vec![byte; 256 * 1024];
            for piece_bytes in [64, 256, 1024, 4096, 16_384, 65_536, 1300] {
                let begun = Case::new().send(kind, false, "");
                let pieces = payload.chunks(piece_bytes).fold(begun, |case, piece| case.next(piece));
                pieces.last("").echo(kind, &payload).ends("9.3, 9.4, 10.1", server).await;
            }
            // 9.7, 9.8: many short ones, which are answered in order.
            for length in [0, 16, 64, 1024] {
                let payload = vec![byte; length];
                let case = (0..200)
                    .fold(Case::new(), |case, _| case.send(kind, true, &payload).echo(kind, &payload));
                case.ends("9.7, 9.8", server).await;
            }
        }
    })
    .await;
}

/// 9.5, 9.6: a long message whose bytes come in small parts.
#[bowline::test(timeout_secs = 300)]
async fn series_9_long_messages_in_crumbs_of_the_network() {
    with_echoes("false", async |server| {
        let payload = vec![b'*'; 64 * 1024];
        let case = Case::new().text(&payload).close(1000_u16.to_be_bytes());
        for part in [64, 128, 2048] {
            let (stream, _) = open(server, "").await;
            let (mut read, mut write) = stream.into_split();
            let sending = async {
                for part in case.sent.chunks(part) {
                    write.write_all(part).await.unwrap();
                }
            };
            let mut answer = Vec::new();
            let (_, end) = bowline::join(sending, read.read_to_end(&mut answer)).await;
            end.unwrap();
            assert!(
                answer == [&frame(Opcode::Text, &payload)[..], &close_frame(1000, "")].concat(),
                "{part}"
            );
        }
    })
    .await;
}

/// Series 12 and 13: messages of many lengths, compressed both ways, on every kind of offer.
#[bowline::test(timeout_secs = 300)]
async fn series_12_and_13_compression() {
    with_echoes("true", async |server| {
        for (offer, is_agreed) in [
            ("", false),
            ("Sec-WebSocket-Extensions: permessage-deflate\r\n", true),
            ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", true),
            ("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_max_window_bits=9\r\n", true),
            ("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n", false),
            ("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\nSec-WebSocket-Extensions: permessage-deflate\r\n", true),
        ] {
            let (mut stream, head) = open(server, offer).await;
            let agreed = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
            assert_eq!(head.contains(agreed), is_agreed, "{offer}: {head}");
            let limits = Limits { max_message_bytes: LONGEST, ..Limits::default() };
            let mut decoder = Decoder::new(Role::Client, limits);
            if is_agreed {
                decoder = decoder.with_deflate();
            }
            let mut read = BytesMut::new();
            for length in [16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 65_536, 131_072] {
                let message: String = (0..).map(|n: u32| format!("{{\"n\":{n}}},")).take(length / 8).collect();
                for piece_bytes in [usize::MAX, 1000, 64] {
                    let mut sent = Vec::new();
                    let short = deflate(message.as_bytes(), 1).filter(|_| is_agreed);
                    let payload = short.as_deref().unwrap_or(message.as_bytes());
                    let pieces: Vec<_> = payload.chunks(piece_bytes).collect();
                    for (at, piece) in pieces.iter().enumerate() {
                        let opcode = if at == 0 { Opcode::Text } else { Opcode::Continuation };
                        let header = FrameHeader {
                            is_final: at + 1 == pieces.len(),
                            is_compressed: at == 0 && short.is_some(),
                            mask: Some(MASK),
                            ..FrameHeader::new(opcode, 0)
                        };
                        append_frame(header, piece, &mut sent);
                    }
                    stream.write_all(&sent).await.unwrap();
                    let (mut came, mut first_byte) = (0, None);
                    let answer = loop {
                        first_byte = first_byte.or(read.first().copied());
                        if let Some(answer) = decoder.decode(&mut read).unwrap() {
                            break answer;
                        }
                        let more = tokio::time::timeout(PATIENCE, stream.read_buf(&mut read)).await;
                        came += more.expect("an answer").unwrap();
                    };
                    assert!(answer == Message::Text(message.clone().into()), "{offer}, {length}");
                    assert_eq!(first_byte == Some(0xc1), short.is_some(), "{offer}, {length}");
                    assert!(short.is_none() || length < 256 || came < message.len() / 2, "{came} of {}", message.len());
                }
            }
            // What is not deflate, and what claims to be compressed where nobody agreed.
            let mut garbage = Case::new().send(Opcode::Text, true, [0xff; 20]).sent;
            garbage[0] |= 0x40;
            stream.write_all(&garbage).await.unwrap();
            let mut rest = Vec::new();
            let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
            end.expect("the server closes").unwrap();
            let code: u16 = if is_agreed { 1007 } else { 1002 };
            assert_eq!(rest.get(2..4), Some(&code.to_be_bytes()[..]), "{offer}: {rest:x?}");
        }
    })
    .await;
}
