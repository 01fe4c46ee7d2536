//! What a decoder holds while it works is bounded by what it is given: a constant times its length, and some fixed part.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use allocation_counter::measure;
use bowline_protocol::delta::{Cuts, apply, create};
use bowline_protocol::filter::TagsFilter;
use bowline_protocol::websocket::{Decoder, FrameHeader, Limits, Opcode, Role, append_frame};
use bowline_protocol::{Command, CommandId, Encoding, FilterNode, Payload, Request, SubscribeRequest};
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

/// What a byte of a command may make a decoder hold.
const COMMAND_FACTOR: usize = 16;
/// What it may hold besides: the parts that are free.
const COMMAND_FIXED: usize = 128 * 1024;

/// The most bytes that `work` holds at once.
fn held(work: impl FnOnce()) -> usize {
    usize::try_from(measure(work).bytes_max).unwrap()
}

/// How many bytes decoding one frame holds at most, each command being kept until the next is decoded.
fn held_by_commands(encoding: Encoding, frame: &[u8]) -> usize {
    held(|| encoding.decode_frame(frame).for_each(|command| drop(std::hint::black_box(command))))
}

#[track_caller]
fn assert_within(what: &str, encoding: Encoding, frame: &[u8]) {
    let bytes = held_by_commands(encoding, frame);
    let allowed = COMMAND_FACTOR * frame.len() + COMMAND_FIXED;
    assert!(bytes <= allowed, "{what} in {encoding:?}: {bytes} bytes held for {} sent", frame.len());
    let once = held(|| {
        let _ = std::hint::black_box(encoding.decode_connect(frame));
        let _ = std::hint::black_box(encoding.decode_emulation(frame));
    });
    assert!(once <= allowed, "{what} as {encoding:?} of its own: {once} bytes held for {} sent", frame.len());
}

/// Something in JSON, again and again.
fn repeated(before: &str, count: usize, after: &str, item: impl Fn(usize) -> String) -> Vec<u8> {
    let mut frame = before.to_owned();
    for number in 0..count {
        let comma = if number == 0 { "" } else { "," };
        write!(frame, "{comma}{}", item(number)).unwrap();
    }
    (frame + after).into_bytes()
}

/// The cases that cost most: everything that can be written in a few bytes and is a structure when it is read.
#[test]
fn what_a_decoder_holds_is_bounded_by_what_it_is_given() {
    for count in [100, 255, 300, 1000, 10_000] {
        let subs = |item: fn(usize) -> String| repeated(r#"{"id":1,"connect":{"subs":{"#, count, "}}}", item);
        let nodes = |item: &str| {
            repeated(r#"{"id":1,"subscribe":{"channel":"a","tf":{"nodes":["#, count, "]}}}", |_| {
                item.to_owned()
            })
        };
        for (what, frame) in [
            ("tiny subscriptions", subs(|number| format!("\"{number:x}\":{{}}"))),
            (
                "subscriptions with a position",
                subs(|number| {
                    format!(r#""news:{number}":{{"recover":true,"epoch":"abcd","offset":{number}}}"#)
                }),
            ),
            (
                "subscriptions with filters",
                subs(|number| {
                    format!(r#""{number:x}":{{"tf":{{"nodes":[{{}},{{}},{{}},{{}},{{}},{{}},{{}},{{}}]}}}}"#)
                }),
            ),
            (
                "headers",
                repeated(r#"{"id":1,"connect":{"headers":{"#, count, "}}}", |number| {
                    format!("\"{number:x}\":\"\"")
                }),
            ),
            ("nodes", nodes("{}")),
            ("nodes with a little in them", nodes(r#"{"op":"x","vals":[""]}"#)),
            ("lists of nodes", nodes(r#"{"nodes":[{},{},{},{}]}"#)),
            ("values", repeated(r#"{"id":1,"subscribe":{"tf":{"vals":["#, count, "]}}}", |_| "\"\"".into())),
            ("data", repeated(r#"{"id":1,"publish":{"channel":"a","data":["#, count, "]}}", |_| "{}".into())),
            (
                "data with escapes",
                repeated(r#"{"id":1,"rpc":{"method":""#, count, "\"}}", |_| "\\u00e9".into()),
            ),
            ("commands", repeated("", count, "", |_| "{\"id\":1,\"ping\":{}}".into())),
            ("unknown fields", repeated("{", count, "}", |number| format!("\"x{number}\":[]"))),
        ] {
            assert_within(what, Encoding::Json, &frame);
            let lines: Vec<u8> = frame.iter().map(|byte| if *byte == b',' { b'\n' } else { *byte }).collect();
            assert_within(what, Encoding::Json, &lines);
        }
        // In protobuf a part takes two bytes: its number, and a length of zero.
        for (what, parts) in [
            ("subscriptions", wrapped(&[4], &[0x1a, 0].repeat(count))),
            (
                "subscriptions with names",
                wrapped(
                    &[4],
                    &many(3, count, |number| [&[0x0a, 3][..], &number.to_le_bytes()[..3]].concat()),
                ),
            ),
            (
                "subscriptions in many requests",
                many(4, count, |number| [&[0x1a, 5, 0x0a, 3][..], &number.to_le_bytes()[..3]].concat()),
            ),
            (
                "headers",
                wrapped(
                    &[4],
                    &many(6, count, |number| [&[0x0a, 3][..], &number.to_le_bytes()[..3]].concat()),
                ),
            ),
            ("nodes", wrapped(&[5, 13], &[0x32, 0].repeat(count))),
            ("values", wrapped(&[5, 13], &[0x2a, 0].repeat(count))),
            ("nodes in lists", wrapped(&[5, 13], &many(6, count, |_| [0x32, 0].repeat(20)))),
            ("filters in many requests", many(5, count, |_| wrapped(&[13], &[0x32, 0].repeat(20)))),
            // With just the bytes that each further part has to have.
            (
                "subscriptions that pay",
                wrapped(&[4], &many(3, count, |number| wrapped(&[1], format!("{number:020}").as_bytes()))),
            ),
            (
                "nodes that pay",
                wrapped(
                    &[5, 13],
                    &many(6, count, |number| wrapped(&[2], format!("{number:020}").as_bytes())),
                ),
            ),
            (
                "values that pay",
                wrapped(&[5, 13], &many(5, count, |number| format!("{number:022}").into_bytes())),
            ),
            ("data in many requests", many(7, count, |_| vec![0x12, 2, b'1', b'2'])),
        ] {
            let message = [&[0x08, 1][..], &parts].concat();
            assert_within(what, Encoding::Protobuf, &delimited(&message));
            assert_within(what, Encoding::Protobuf, &message);
        }
    }
}

fn delimited(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut length = message.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(message);
    bytes
}

/// `message` as a field within fields of these numbers, the outermost first.
fn wrapped(numbers: &[u8], message: &[u8]) -> Vec<u8> {
    numbers
        .iter()
        .rev()
        .fold(message.to_vec(), |inner, number| [&[number << 3 | 2][..], &delimited(&inner)].concat())
}

/// A field again and again.
fn many(number: u8, count: usize, message: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|at| wrapped(&[number], &message(at as u32))).collect()
}

#[test]
fn what_a_filter_holds_is_bounded_by_its_nodes() {
    let leaf = |number: usize| FilterNode {
        key: "k".into(),
        cmp: "in".into(),
        vals: vec![number.to_string()],
        ..FilterNode::default()
    };
    let node = FilterNode { op: "or".into(), nodes: (0..60).map(leaf).collect(), ..FilterNode::default() };
    let bytes = held(|| drop(std::hint::black_box(TagsFilter::new(&node))));
    assert!(bytes < 64 * 1024, "{bytes}");
}

/// What is announced costs nothing: only what is there does.
#[test]
fn a_delta_costs_what_it_makes_and_what_it_is_allowed_to() {
    let old = vec![b'x'; 50_000];
    let mut new = old.clone();
    new[25_000] = b'y';
    let delta = create(&old, &new, Cuts::Anywhere).unwrap();
    let made = held(|| drop(std::hint::black_box(create(&old, &new, Cuts::Anywhere))));
    assert!(made <= 2 * (old.len() + new.len()), "{made}");
    let applied = held(|| drop(std::hint::black_box(apply(&old, &delta, 100_000))));
    assert!(applied <= 2 * new.len(), "{applied}");
    // One copy of everything, announced as the largest there may be.
    for bomb in [&b"~~~~~\nmI0@0,"[..], b"~~~~~\n", b"1~~~~~\n1:x"] {
        let bytes = held(|| drop(std::hint::black_box(apply(&old, bomb, 100_000))));
        assert!(bytes <= 200_000, "{bytes} for {} bytes", bomb.len());
    }
}

#[test]
fn a_message_in_pieces_costs_what_has_come() {
    let mut stream = Vec::new();
    for number in 0..100 {
        let opcode = if number == 0 { Opcode::Binary } else { Opcode::Continuation };
        let header = FrameHeader { is_final: false, mask: Some([1; 4]), ..FrameHeader::new(opcode, 0) };
        append_frame(header, &[0; 600], &mut stream);
    }
    let mut input = BytesMut::from(&stream[..]);
    let bytes = held(|| {
        let mut decoder = Decoder::new(Role::Server, Limits::default());
        while let Ok(Some(message)) = decoder.decode(&mut input) {
            drop(message);
        }
    });
    assert!(bytes <= 3 * stream.len(), "{bytes} for {}", stream.len());
    // A length that is announced and does not come.
    let header = FrameHeader { mask: Some([1; 4]), ..FrameHeader::new(Opcode::Binary, 60_000) }.encode();
    let mut input = BytesMut::from(&header[..]);
    let bytes = held(|| drop(Decoder::new(Role::Server, Limits::default()).decode(&mut input)));
    assert_eq!(bytes, 0);
}

proptest! {
    #[test]
    fn whatever_comes_costs_a_constant_for_each_byte(
        bytes in vec(any::<u8>(), 0..2000), text in "[{}\\[\\],:\"a-f0-9\\\\\n]{0,600}"
    ) {
        for bytes in [&bytes[..], text.as_bytes()] {
            for encoding in [Encoding::Json, Encoding::Protobuf] {
                assert_within("anything", encoding, bytes);
            }
            let payload = held(|| drop(std::hint::black_box(Payload::from_json(bytes.to_vec()))));
            prop_assert!(payload <= 4 * bytes.len() + 1024, "{}", payload);
        }
    }

    #[test]
    fn commands_cost_a_constant_for_each_byte(
        filters in vec(vec("[a-z]{0,3}", 0..6), 0..40), names in vec("[a-z]{1,4}", 0..80)
    ) {
        let nodes = filters.into_iter().map(|vals| FilterNode { vals, ..FilterNode::default() }).collect();
        let filter = FilterNode { op: "and".into(), nodes, ..FilterNode::default() };
        let one = SubscribeRequest { tags_filter: Some(Box::new(filter)), ..SubscribeRequest::default() };
        let subs: BTreeMap<_, _> = names.into_iter().map(|name| (name, one.clone())).collect();
        let request = bowline_protocol::ConnectRequest { subs, ..Default::default() };
        for request in [Request::Connect(request), Request::Subscribe(one)] {
            let command = Command::Request { id: CommandId::MIN, request };
            for encoding in [Encoding::Json, Encoding::Protobuf] {
                let mut frame = Vec::new();
                encoding.encode_command(&command, &mut frame).unwrap();
                assert_within("a command", encoding, &frame);
            }
        }
    }
}
