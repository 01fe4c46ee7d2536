//! What an independent implementation of protobuf makes of the schema, see `corpus/make.py`.

use std::fmt::Debug;

use bowline_protocol::{DecodeError, json, protobuf};

const CORPUS: &str = include_str!("corpus/protobuf.txt");

fn from_hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn one<T>(mut messages: impl Iterator<Item = Result<T, DecodeError>>, line: &str) -> T {
    let message = messages.next().unwrap().unwrap_or_else(|error| panic!("{error:?}: {line}"));
    assert!(messages.next().is_none(), "{line}");
    message
}

/// The message in both encodings is the same, and encoding it gives the frame back if nothing of it was skipped.
#[track_caller]
fn assert_same<T: PartialEq + Debug>(
    [in_protobuf, in_json]: [T; 2],
    is_whole: bool,
    frame: &[u8],
    line: &str,
    encode: impl Fn(&T, &mut Vec<u8>),
) {
    assert_eq!(in_protobuf, in_json, "{line}");
    if is_whole {
        let mut encoded = Vec::new();
        encode(&in_protobuf, &mut encoded);
        assert_eq!(encoded, frame, "{line}");
    }
}

#[test]
fn an_independent_implementation_agrees() {
    let mut counts = [0; 4];
    for line in CORPUS.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        let [kind, extent, hex, text] = columns[..] else { panic!("{line}") };
        let (frame, is_whole) = (from_hex(hex), extent == "same");
        let is_command = kind == "command";
        if is_command {
            let commands =
                [one(protobuf::decode_frame(&frame), line), one(json::decode_frame(text.as_bytes()), line)];
            assert_same(commands, is_whole, &frame, line, protobuf::encode_command);
        } else {
            let replies = [
                one(protobuf::decode_replies(&frame), line),
                one(json::decode_replies(text.as_bytes()), line),
            ];
            assert_same(replies, is_whole, &frame, line, protobuf::encode_reply);
        }
        counts[usize::from(is_command) * 2 + usize::from(is_whole)] += 1;
    }
    assert_eq!(counts, [120; 4]);
}
