//! The rules of the protobuf encoding, and what breaks them.

use super::wire::Malformed;
use super::*;
use crate::*;

/// A message behind its length.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    wire::write_delimited(&mut frame, |out| out.extend_from_slice(message));
    frame
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::write_bytes(number, content, &mut out);
    out
}

fn command(message: &[u8]) -> Result<Command, DecodeError> {
    let frame = framed(message);
    let mut commands = decode_frame(&frame);
    let command = commands.next().unwrap();
    assert!(commands.next().is_none());
    command
}

#[track_caller]
fn assert_malformed(message: &[u8], expected: Malformed) {
    match command(message) {
        Err(DecodeError::MalformedProtobuf(malformed)) => assert_eq!(malformed, expected, "{message:?}"),
        other => panic!("{message:?}: {other:?}"),
    }
}

#[test]
fn ping_and_pong_are_a_zero_byte() {
    let mut out = Vec::new();
    encode_reply(&Reply::Ping, &mut out);
    encode_command(&Command::Pong, &mut out);
    assert_eq!(out, [0, 0]);
    let commands: Vec<_> = decode_frame(&out).map(Result::unwrap).collect();
    assert_eq!(commands, [Command::Pong, Command::Pong]);
    assert_eq!(decode_replies(&[0]).next().unwrap().unwrap(), Reply::Ping);
}

#[test]
fn an_empty_frame_is_an_error() {
    assert!(matches!(decode_frame(b"").collect::<Vec<_>>()[..], [Err(DecodeError::Empty)]));
    assert!(matches!(decode_replies(b"").collect::<Vec<_>>()[..], [Err(DecodeError::Empty)]));
    assert_eq!(decode_connect(b"").unwrap(), ConnectRequest::default());
}

#[test]
fn an_empty_result_is_present() {
    let mut out = Vec::new();
    encode_reply(&Reply::Result { id: CommandId::MIN, result: CommandResult::Publish }, &mut out);
    assert_eq!(out, [4, 0x08, 1, 0x42, 0]);
}

#[test]
fn a_command_without_an_id_is_a_pong_unless_it_sends() {
    assert_eq!(command(&field(7, &field(1, b"news"))).unwrap(), Command::Pong);
    let data = Payload::opaque(&b"\xff"[..]);
    assert_eq!(
        command(&field(12, &field(1, b"\xff"))).unwrap(),
        Command::Send(SendRequest { data: data.clone() })
    );
    // With an id it has no reply either, but the order of the schema counts.
    let send = [vec![8, 1], field(12, &field(1, b"\xff"))].concat();
    assert!(
        matches!(command(&send).unwrap(), Command::Request { request: Request::Send(sent), .. } if sent.data == data)
    );
    let both = [send.clone(), field(13, b"")].concat();
    assert!(matches!(command(&both).unwrap(), Command::Request { request: Request::Send(_), .. }));
    let both = [send, field(11, b"")].concat();
    assert!(matches!(command(&both).unwrap(), Command::Request { request: Request::Ping, .. }));
}

#[test]
fn the_first_request_in_the_order_of_the_schema_counts() {
    // In the reverse order on the wire, and the id last.
    let message = [field(15, b""), field(8, &field(1, b"news")), field(13, b""), vec![8, 7]].concat();
    let expected = Request::Presence(PresenceRequest { channel: "news".into() });
    assert_eq!(
        command(&message).unwrap(),
        Command::Request { id: CommandId::new(7).unwrap(), request: expected }
    );
    assert!(matches!(command(&[8, 7]), Err(DecodeError::NoRequest)));
    assert!(matches!(command(&[vec![8, 7], field(99, b"")].concat()), Err(DecodeError::NoRequest)));
}

#[test]
fn what_comes_twice_replaces_or_adds() {
    let once = field(5, &[field(1, b"a"), vec![7 << 3, 1]].concat());
    let again = field(5, &field(1, b"b"));
    let Command::Request { request: Request::Subscribe(request), .. } =
        command(&[vec![8, 1], once, again].concat()).unwrap()
    else {
        panic!("not a subscribe")
    };
    assert_eq!((request.channel.as_str(), request.offset), ("b", 1));
}

#[test]
fn unknown_fields_of_every_kind_are_skipped() {
    let varint = [0xa0, 0x06, 0x80, 0x01]; // field 100
    let eight = [&[0xa1, 0x06][..], &[0; 8]].concat();
    let four = [&[0xa5, 0x06][..], &[0; 4]].concat();
    let unknown = [&varint[..], &eight, &four, &field(100, b"\xff\xff")].concat();
    let request = field(8, &[unknown.clone(), field(1, b"news")].concat());
    let message = [unknown.clone(), request, unknown, vec![8, 1]].concat();
    let expected = Request::Presence(PresenceRequest { channel: "news".into() });
    assert_eq!(command(&message).unwrap(), Command::Request { id: CommandId::MIN, request: expected });
}

#[test]
fn what_is_not_protobuf_says_why() {
    let rpc = |content: &[u8]| [vec![8, 1], field(13, content)].concat();
    for (message, expected) in [
        (vec![8], Malformed::Truncated),
        (rpc(&[0x0a, 5, b'x']), Malformed::Truncated),
        (rpc(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), Malformed::Truncated),
        ([vec![8], vec![0xff; 10]].concat(), Malformed::Overlong),
        ([vec![8], vec![0xff; 9], vec![2]].concat(), Malformed::Overlong),
        (vec![0, 1], Malformed::WrongKind),
        (vec![0x0b], Malformed::WrongKind),
        (vec![0xf8, 0xff, 0xff, 0xff, 0xff, 0x01, 0], Malformed::WrongKind),
        (field(1, b"1"), Malformed::WrongKind),
        (rpc(&[0x08, 1]), Malformed::WrongKind),
        (rpc(&field(2, b"\xc3(")), Malformed::NotUtf8),
    ] {
        assert_malformed(&message, expected);
    }
    assert!(decode_frame(&[5, 8, 1]).next().unwrap().is_err(), "longer than the frame");
    let huge = [vec![0xff; 9], vec![1]].concat();
    assert!(decode_frame(&huge).next().unwrap().is_err());
}

#[test]
fn numbers_keep_their_sign_and_are_cut_to_their_size() {
    let limit = |limit| Command::Request {
        id: CommandId::MIN,
        request: Request::History(HistoryRequest { limit, ..Default::default() }),
    };
    for number in [-1, i32::MIN, i32::MAX, 0] {
        let mut frame = Vec::new();
        encode_command(&limit(number), &mut frame);
        assert_eq!(decode_frame(&frame).next().unwrap().unwrap(), limit(number));
    }
    // 2^32 + 5
    let message = [vec![8, 1], field(10, &[7 << 3, 0x85, 0x80, 0x80, 0x80, 0x10])].concat();
    assert_eq!(command(&message).unwrap(), limit(5));
    let disconnect = field(11, &[8, 0x80, 0x80, 0x04]);
    assert!(matches!(decode_push(&disconnect), Err(DecodeError::MalformedProtobuf(Malformed::OutOfRange))));
}

#[test]
fn nesting_has_an_end() {
    let filter = |depth| (0..depth).fold(Vec::new(), |inner, _| field(6, &inner));
    let subscribe = |depth| [vec![8, 1], field(5, &field(13, &filter(depth)))].concat();
    // The request and the root of the filter are two of them.
    assert!(command(&subscribe(usize::from(MAX_DEPTH) - 2)).is_ok());
    assert_malformed(&subscribe(usize::from(MAX_DEPTH) - 1), Malformed::TooDeep);
    assert_malformed(&subscribe(10_000), Malformed::TooDeep);
}

/// What a frame costs is measured by `tests/allocation.rs`; here, what it would cost most with is refused.
#[test]
fn two_bytes_make_no_structure_without_end() {
    let nodes = |count| [vec![8, 1], field(5, &field(13, &[0x32, 0].repeat(count)))].concat();
    assert!(command(&nodes(200)).is_ok());
    assert!(matches!(command(&nodes(100_000)), Err(DecodeError::TooManyParts)));
    // A length alone reserves nothing.
    assert_malformed(&[0x6a, 0xff, 0xff, 0xff, 0x7f], Malformed::Truncated);
}

#[test]
fn long_messages_have_long_lengths() {
    for length in [0, 1, 120, 127, 128, 300, 16_383, 16_384, 100_000] {
        let data = Payload::opaque(vec![7; length]);
        let push = Push::Publication {
            channel: "news".into(),
            publication: Publication { data, offset: 1, ..Default::default() },
        };
        let mut frame = b"before".to_vec();
        encode_pushed(&push, &mut frame);
        let mut replies = decode_replies(&frame[6..]);
        assert_eq!(replies.next().unwrap().unwrap(), Reply::Push(push), "{length}");
        assert!(replies.next().is_none());
    }
}

#[test]
fn a_unidirectional_connect_has_numbers_of_its_own() {
    let result = ConnectResult { expires: true, data: Payload::opaque("x"), ..Default::default() };
    let mut bare = Vec::new();
    encode_push(&Push::Connect(Box::new(result)), &mut bare);
    assert_eq!(bare, [7, 10 << 3 | 2, 5, 3 << 3 | 2, 1, b'x', 5 << 3, 1]);
}
