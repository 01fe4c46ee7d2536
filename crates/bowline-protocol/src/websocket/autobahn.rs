//! The core cases of the Autobahn WebSocket test suite, replayed against the decoder without a network.
//!
//! Each case is a stream of a client's frames and what a server must see: messages, and possibly the close code
//! of the failure that ends the connection. Every case runs three times, with the stream whole, in single bytes
//! and in odd pieces.

use bytes::{Bytes, BytesMut};

use super::{CloseFrame, Decoder, FrameHeader, Limits, Message, Opcode, Role, append_frame};

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const UTF8_TEXT: &str = "Hello-µ@ßöäüàá-UTF-8!!";

/// What the server sees of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(Message),
    Failure(u16),
}

/// A client's stream under construction.
#[derive(Debug, Clone, Default)]
struct Stream(Vec<u8>);

impl Stream {
    fn new() -> Self {
        Self::default()
    }

    fn piece(mut self, opcode: Opcode, is_final: bool, payload: impl AsRef<[u8]>) -> Self {
        let header = FrameHeader { is_final, mask: Some(MASK), ..FrameHeader::new(opcode, 0) };
        append_frame(header, payload.as_ref(), &mut self.0);
        self
    }

    fn text(self, payload: impl AsRef<[u8]>) -> Self {
        self.piece(Opcode::Text, true, payload)
    }

    fn ping(self, payload: impl AsRef<[u8]>) -> Self {
        self.piece(Opcode::Ping, true, payload)
    }

    fn pong(self, payload: impl AsRef<[u8]>) -> Self {
        self.piece(Opcode::Pong, true, payload)
    }

    fn first(self, payload: impl AsRef<[u8]>) -> Self {
        self.piece(Opcode::Text, false, payload)
    }

    fn next(self, payload: impl AsRef<[u8]>) -> Self {
        self.piece(Opcode::Continuation, false, payload)
    }

    fn last(self, payload: impl AsRef<[u8]>) -> Self {
        self.piece(Opcode::Continuation, true, payload)
    }

    fn close(self, payload: impl AsRef<[u8]>) -> Self {
        self.piece(Opcode::Close, true, payload)
    }

    /// A frame with any first byte: reserved bits and opcodes.
    fn raw(mut self, first_byte: u8, payload: impl AsRef<[u8]>) -> Self {
        let start = self.0.len();
        self = self.text(payload);
        self.0[start] = first_byte;
        self
    }
}

fn text(payload: impl AsRef<[u8]>) -> Seen {
    Seen::Message(Message::Text(Bytes::copy_from_slice(payload.as_ref())))
}

fn binary(payload: impl AsRef<[u8]>) -> Seen {
    Seen::Message(Message::Binary(Bytes::copy_from_slice(payload.as_ref())))
}

fn ping(payload: impl AsRef<[u8]>) -> Seen {
    Seen::Message(Message::Ping(Bytes::copy_from_slice(payload.as_ref())))
}

fn pong(payload: impl AsRef<[u8]>) -> Seen {
    Seen::Message(Message::Pong(Bytes::copy_from_slice(payload.as_ref())))
}

fn close(code: u16, reason: &str) -> Seen {
    Seen::Message(Message::Close(Some(CloseFrame { code, reason: reason.to_owned() })))
}

const VIOLATION: Seen = Seen::Failure(1002);
const BAD_TEXT: Seen = Seen::Failure(1007);

fn run(stream: &[u8], chunk_bytes: usize) -> Vec<Seen> {
    // The suite sends messages above the default limit.
    let limits = Limits { max_message_bytes: 1 << 20, ..Limits::default() };
    let mut decoder = Decoder::new(Role::Server, limits);
    let mut input = BytesMut::new();
    let mut seen = Vec::new();
    for chunk in stream.chunks(chunk_bytes) {
        input.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(message)) => seen.push(Seen::Message(message)),
                Ok(None) => break,
                Err(error) => seen.push(Seen::Failure(error.close_code())),
            }
        }
    }
    seen
}

fn check(case: &str, stream: Stream, expected: &[Seen]) {
    for chunk_bytes in [usize::MAX, 997, 7, 1] {
        let seen = run(&stream.0, chunk_bytes);
        assert!(seen == expected, "case {case} in chunks of {chunk_bytes}: {seen:?}");
    }
}

#[test]
fn case_1_messages_of_all_length_forms() {
    for len in [0, 125, 126, 127, 128, 65535, 65536] {
        let payload = vec![b'*'; len];
        check("1.1", Stream::new().text(&payload), &[text(&payload)]);
        let payload = vec![0xFE; len];
        check("1.2", Stream::new().piece(Opcode::Binary, true, &payload), &[binary(&payload)]);
    }
}

#[test]
fn case_2_pings_and_pongs() {
    let bytes = [0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF];
    check("2.1", Stream::new().ping(""), &[ping("")]);
    check("2.2", Stream::new().ping("Hello, world!"), &[ping("Hello, world!")]);
    check("2.3", Stream::new().ping(bytes), &[ping(bytes)]);
    check("2.4", Stream::new().ping([0xFE; 125]), &[ping([0xFE; 125])]);
    check("2.5", Stream::new().ping([0xFE; 126]), &[VIOLATION]);
    check("2.7", Stream::new().pong(""), &[pong("")]);
    check("2.8", Stream::new().pong("unsolicited"), &[pong("unsolicited")]);
    check("2.9", Stream::new().pong("a").ping("b"), &[pong("a"), ping("b")]);
    let ten = (0..10).fold(Stream::new(), |stream, i| stream.ping(format!("payload-{i}")));
    let expected: Vec<_> = (0..10).map(|i| ping(format!("payload-{i}"))).collect();
    check("2.10", ten, &expected);
}

#[test]
fn case_3_reserved_bits() {
    check("3.1", Stream::new().raw(0x81 | 0x10, "x"), &[VIOLATION]);
    check("3.2", Stream::new().text("x").raw(0x81 | 0x20, "x").ping(""), &[text("x"), VIOLATION]);
    check("3.3", Stream::new().text("x").raw(0x81 | 0x30, "x").ping(""), &[text("x"), VIOLATION]);
    check("3.5", Stream::new().raw(0x82 | 0x50, "x"), &[VIOLATION]);
    check("3.6", Stream::new().raw(0x89 | 0x60, "x"), &[VIOLATION]);
    check("3.7", Stream::new().raw(0x88 | 0x70, ""), &[VIOLATION]);
}

#[test]
fn case_4_reserved_opcodes() {
    for opcode in (3..=7).chain(11..=15) {
        check("4.1.1", Stream::new().raw(0x80 | opcode, ""), &[VIOLATION]);
        check("4.1.3", Stream::new().text("x").raw(0x80 | opcode, "x").ping(""), &[text("x"), VIOLATION]);
    }
}

#[test]
fn case_5_fragmentation() {
    let fragmented_ping = Stream::new().piece(Opcode::Ping, false, "a").last("b");
    check("5.1", fragmented_ping, &[VIOLATION]);
    check("5.2", Stream::new().piece(Opcode::Pong, false, "a").last("b"), &[VIOLATION]);
    check("5.3", Stream::new().first("a").last("b"), &[text("ab")]);
    check("5.6", Stream::new().first("a").ping("p").last("b"), &[ping("p"), text("ab")]);
    check("5.9", Stream::new().last("x").text("y"), &[VIOLATION]);
    check("5.12", Stream::new().next("x").text("y"), &[VIOLATION]);
    check("5.15", Stream::new().first("a").last("b").next("c").text("d"), &[text("ab"), VIOLATION]);
    check("5.16", Stream::new().next("a").text("b").next("a"), &[VIOLATION]);
    check("5.18", Stream::new().first("a").text("b"), &[VIOLATION]);
    let interleaved = Stream::new().first("1").next("2").ping("p1").next("3").next("4").ping("p2").last("5");
    check("5.19", interleaved, &[ping("p1"), ping("p2"), text("12345")]);
    let pieces = Stream::new().piece(Opcode::Binary, false, [0xFF]).last([0xFE]);
    check("5 (binary)", pieces, &[binary([0xFF, 0xFE])]);
}

#[test]
fn case_6_texts_cut_in_pieces() {
    let bytes = UTF8_TEXT.as_bytes();
    check("6.1.1", Stream::new().text(""), &[text("")]);
    check("6.1.2", Stream::new().first("").next("").last(""), &[text("")]);
    check("6.1.3", Stream::new().first("").next("middle").last(""), &[text("middle")]);
    check("6.2.1", Stream::new().text(bytes), &[text(bytes)]);
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        check("6.2.2", Stream::new().first(head).last(tail), &[text(bytes)]);
    }
    let octets = bytes.iter().fold(Stream::new().first(""), |stream, byte| stream.next([*byte]));
    check("6.2.3", octets.last(""), &[text(bytes)]);
}

#[test]
fn case_6_bad_texts_fail_at_the_piece_that_is_bad() {
    let good: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";
    let surrogate: &[u8] = b"\xed\xa0\x80";
    let beyond: &[u8] = b"\xf4\x90\x80\x80";
    check("6.3.1", Stream::new().text([good, surrogate, b"edited"].concat()), &[BAD_TEXT]);
    // The last piece never comes: the failure does not wait for it.
    check("6.4.1", Stream::new().first(good).next(beyond), &[BAD_TEXT]);
    check("6.4.2", Stream::new().first([good, b"\xf4"].concat()).next(b"\x90"), &[BAD_TEXT]);
    // A control frame before the failure is still seen, later ones are not.
    let interleaved = Stream::new().first(good).ping("p").next(surrogate).ping("q");
    check("6.4 (ping)", interleaved, &[ping("p"), BAD_TEXT]);
    // A character that the message's end cuts is bad, one that a piece's end cuts is not.
    check("6.6.1", Stream::new().first(b"\xce").last(b""), &[BAD_TEXT]);
    check("6.6.2", Stream::new().first(b"\xce").last(b"\xba"), &[text("κ")]);
}

#[test]
fn case_6_valid_and_invalid_sequences() {
    let valid: [&[u8]; 12] = [
        b"\x00",
        b"\x7f",
        b"\xc2\x80",
        b"\xdf\xbf",
        b"\xe0\xa0\x80",
        b"\xed\x9f\xbf",
        b"\xee\x80\x80",
        b"\xef\xbf\xbd",
        b"\xef\xbf\xbf",
        b"\xf0\x90\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xef\xb7\x90",
    ];
    for bytes in valid {
        check("6.5-6.9", Stream::new().text(bytes), &[text(bytes)]);
        check("6.22", Stream::new().first(&bytes[..1]).last(&bytes[1..]), &[text(bytes)]);
    }
    let invalid: [&[u8]; 18] = [
        b"\x80",
        b"\xbf",
        b"\x80\xbf",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xfe",
        b"\xff",
        b"\xe0\xa0",
        b"\xc3 ",
    ];
    for bytes in invalid {
        check("6.10-6.20", Stream::new().text(bytes), &[BAD_TEXT]);
        check("6.21", Stream::new().first(&bytes[..1]).last(&bytes[1..]), &[BAD_TEXT]);
    }
}

#[test]
fn case_7_closing() {
    let bye = |code: u16, reason: &str| [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    let normal = || bye(1000, "");
    check("7.1.1", Stream::new().text("x").close(normal()), &[text("x"), close(1000, "")]);
    check("7.1.2", Stream::new().close(normal()).close(normal()), &[close(1000, "")]);
    check("7.1.3", Stream::new().close(normal()).ping("late"), &[close(1000, "")]);
    check("7.1.4", Stream::new().close(normal()).text("late"), &[close(1000, "")]);
    check("7.1.5", Stream::new().first("a").close(normal()).last("b"), &[close(1000, "")]);
    check("7.3.1", Stream::new().close(""), &[Seen::Message(Message::Close(None))]);
    check("7.3.2", Stream::new().close("a"), &[VIOLATION]);
    check("7.3.3", Stream::new().close(normal()), &[close(1000, "")]);
    check("7.3.4", Stream::new().close(bye(1000, "Hello World!")), &[close(1000, "Hello World!")]);
    let longest = "*".repeat(123);
    check("7.3.5", Stream::new().close(bye(1000, &longest)), &[close(1000, &longest)]);
    check("7.3.6", Stream::new().close(bye(1000, &"*".repeat(124))), &[VIOLATION]);
    check("7.5.1", Stream::new().close(b"\x03\xe8\xce\xba\xed\xa0\x80"), &[BAD_TEXT]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        check("7.7", Stream::new().close(bye(code, "")), &[close(code, "")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check("7.9, 7.13", Stream::new().close(bye(code, "")), &[VIOLATION]);
    }
}

#[test]
fn case_9_large_messages_whole_and_in_pieces() {
    let payload = "*".repeat(64 * 1024);
    check("9.1.1", Stream::new().text(&payload), &[text(&payload)]);
    for piece_bytes in [64, 256, 1300, 4096, 65536] {
        let pieces = payload.as_bytes().chunks(piece_bytes);
        let stream = pieces.fold(Stream::new().first(""), |stream, piece| stream.next(piece));
        // One more than the default number of pieces would be too many at 64 bytes.
        let expected = if piece_bytes == 64 { Seen::Failure(1008) } else { text(&payload) };
        check("9.3, 10.1", stream.last(""), &[expected]);
    }
}
