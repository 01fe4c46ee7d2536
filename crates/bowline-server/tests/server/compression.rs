//! permessage-deflate on a running server: who gets it, what it may cost, and what it may not do.

use crate::support::{PATIENCE, Running, WEBSOCKET, closed_with, config, read_until, send, with_server};
use bowline_protocol::websocket::{
    Decoder, FrameHeader, Limits, Message, Opcode, Role, append_frame, deflate, masked_frame,
};
use bowline_server::client::Client;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"a"}}"#;

/// A client that speaks compressed.
struct Compressing {
    stream: TcpStream,
    read: BytesMut,
    decoder: Decoder,
}

impl Compressing {
    async fn open(server: &Running) -> Self {
        let request = format!(
            "GET {WEBSOCKET} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        let mut stream = send(server.public, &request).await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("sec-websocket-extensions: permessage-deflate;"), "{head}");
        let decoder = Decoder::new(Role::Client, Limits::default()).with_deflate();
        Self { stream, read: BytesMut::new(), decoder }
    }

    /// Sends one message compressed; it has to be one that gets shorter.
    async fn send(&mut self, message: &[u8]) {
        let short = deflate(message, 1).unwrap();
        let header = FrameHeader {
            is_compressed: true,
            mask: Some([1, 2, 3, 4]),
            ..FrameHeader::new(Opcode::Text, 0)
        };
        let mut sent = Vec::new();
        append_frame(header, &short, &mut sent);
        self.stream.write_all(&sent).await.unwrap();
    }

    /// The next message, how many bytes it took, and whether it was compressed.
    async fn next(&mut self) -> (String, usize, bool) {
        loop {
            let (first, length) = (self.read.first().copied(), self.read.len());
            match self.decoder.decode(&mut self.read).unwrap() {
                Some(Message::Text(text)) => {
                    let text = String::from_utf8(text.to_vec()).unwrap();
                    return (text, length - self.read.len(), first.unwrap() & 0x40 != 0);
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    let more = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
                    assert_ne!(more.expect("a message").unwrap(), 0);
                }
            }
        }
    }
}

#[bowline::test(timeout_secs = 300)]
async fn who_offers_compression_gets_less_and_everybody_the_same() {
    with_server(config(&[("websocket.compression", "true")]), async |server| {
        let mut short = Compressing::open(&server).await;
        // Several commands in one message, long enough to get shorter.
        let commands = [CONNECT, SUBSCRIBE].join("\n") + &"\n".repeat(100);
        short.send(commands.as_bytes()).await;
        let (replies, ..) = short.next().await;
        assert!(replies.contains(r#""connect":{"#), "{replies}");
        if !replies.contains(r#""subscribe":{"#) {
            let (replies, ..) = short.next().await;
            assert!(replies.contains(r#""subscribe":{"#), "{replies}");
        }
        let mut plain = server.subscribe("a").await;
        let long = "a long story, ".repeat(100);
        for (data, is_compressed) in [(long.as_str(), true), ("short", false)] {
            server.publish("a", &format!("\"{data}\"")).await;
            let (text, bytes, was_compressed) = short.next().await;
            let Some(Message::Text(same)) = plain.next().await.unwrap() else { panic!("a text") };
            assert_eq!(text.as_bytes(), &same[..]);
            assert!(text.contains(data), "{text}");
            assert_eq!((was_compressed, bytes < text.len() / 4), (is_compressed, is_compressed), "{bytes}");
        }
    })
    .await;
}

#[bowline::test(timeout_secs = 300)]
async fn compression_is_off_unless_it_is_switched_on() {
    with_server(config(&[]), async |server| {
        let request = format!(
            "GET {WEBSOCKET} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        );
        let mut stream = send(server.public, &request).await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("extensions"), "{head}");
        let mut client = Client::open(server.public, WEBSOCKET).await.unwrap();
        let mut frame = masked_frame(Opcode::Text, CONNECT.as_bytes(), [0; 4]).to_vec();
        frame[0] |= 0x40;
        client.send_raw(&frame).await.unwrap();
        assert_eq!(closed_with(&mut client).await.0, 1002);
    })
    .await;
}

/// CVE-2026-27571, GHSA-frh3-6pv6-rc8j: the bound was looked at when everything had been inflated.
#[bowline::test(timeout_secs = 300)]
async fn security_15_a_bomb_ends_its_connection_and_fills_no_memory() {
    with_server(config(&[("websocket.compression", "true")]), async |server| {
        let mut other = server.connect().await;
        for (bomb, is_in_pieces) in [(32_000_000, false), (20_000_000, true)] {
            let short = deflate(&vec![b' '; bomb], 9).unwrap();
            assert!(short.len() < 65_536, "it passes for a message: {}", short.len());
            let mut client = Compressing::open(&server).await;
            let mut sent = Vec::new();
            let (first, rest) = short.split_at(if is_in_pieces { 100 } else { short.len() });
            let header = FrameHeader { mask: Some([9; 4]), ..FrameHeader::new(Opcode::Text, 0) };
            let is_final = !is_in_pieces;
            append_frame(FrameHeader { is_compressed: true, is_final, ..header }, first, &mut sent);
            if is_in_pieces {
                append_frame(FrameHeader { opcode: Opcode::Continuation, ..header }, rest, &mut sent);
            }
            client.stream.write_all(&sent).await.unwrap();
            let mut answer = Vec::new();
            let end = tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut answer)).await;
            end.expect("the server closes").unwrap();
            assert_eq!(answer.get(2..4), Some(&1009_u16.to_be_bytes()[..]), "{answer:x?}");
            assert!(String::from_utf8_lossy(&answer).contains("655360"), "ten times the limit: {answer:x?}");
        }
        let reply = other.call(SUBSCRIBE).await.unwrap();
        assert!(reply.contains(r#""subscribe":{"#), "{reply}");
    })
    .await;
}
