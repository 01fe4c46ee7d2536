//! Properties of the WebSocket decoder over generated streams, arbitrary bytes and arbitrary cuts.

use bowline_protocol::websocket::{
    CloseFrame, Decoder, FrameHeader, Limits, Message, Opcode, ProtocolError, Role, append_frame,
    close_frame, deflate, frame, masked_close_frame, masked_frame,
};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// More than a decoder may hold besides a multiple of what it was given: its fixed part.
const FIXED_BYTES: usize = 256;

fn message() -> impl Strategy<Value = Message> {
    let bytes = |len| vec(any::<u8>(), 0..len).prop_map(Bytes::from);
    let code = prop_oneof![1000..=1003u16, 1007..=1014u16, 3000..=4999u16];
    prop_oneof![
        4 => any::<String>().prop_map(|text| Message::Text(text.into())),
        4 => bytes(400).prop_map(Message::Binary),
        1 => Just(Message::Binary(vec![7; 70_000].into())),
        2 => bytes(126).prop_map(Message::Ping),
        2 => bytes(126).prop_map(Message::Pong),
        1 => Just(Message::Close(None)),
        1 => (code, "[a-zé]{0,40}").prop_map(|(code, reason)| Message::Close(Some(CloseFrame { code, reason }))),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// The unfragmented frame for a message, as the peer of `role` sends it.
fn encode(message: &Message, role: Role, mask: [u8; 4]) -> Bytes {
    let (opcode, payload) = match message {
        Message::Text(text) => (Opcode::Text, text),
        Message::Binary(bytes) => (Opcode::Binary, bytes),
        Message::Ping(bytes) => (Opcode::Ping, bytes),
        Message::Pong(bytes) => (Opcode::Pong, bytes),
        Message::Close(None) => (Opcode::Close, &Bytes::new()),
        Message::Close(Some(CloseFrame { code, reason })) => {
            return match role {
                Role::Server => masked_close_frame(*code, reason, mask),
                Role::Client => close_frame(*code, reason),
            };
        }
    };
    match role {
        Role::Server => masked_frame(opcode, payload, mask),
        Role::Client => frame(opcode, payload),
    }
}

/// The frames of a message cut at `cuts`, with a ping between the pieces.
fn encode_in_pieces(opcode: Opcode, payload: &[u8], cuts: &[Index], out: &mut Vec<u8>) {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    cuts.extend([0, payload.len()]);
    cuts.sort_unstable();
    let last = cuts.len() - 2;
    for (index, ends) in cuts.windows(2).enumerate() {
        let opcode = if index == 0 { opcode } else { Opcode::Continuation };
        let header =
            FrameHeader { is_final: index == last, mask: Some([9, 8, 7, 6]), ..FrameHeader::new(opcode, 0) };
        append_frame(header, &payload[ends[0]..ends[1]], out);
        if index != last {
            out.extend_from_slice(&masked_frame(Opcode::Ping, b"?", [1, 2, 3, 4]));
        }
    }
}

/// Feeds `stream` in chunks that end at `cuts`, and returns what came out.
fn run(role: Role, limits: Limits, stream: &[u8], cuts: &[Index]) -> (Vec<Message>, Option<ProtocolError>) {
    run_with(Decoder::new(role, limits), limits, stream, cuts)
}

fn run_with(
    mut decoder: Decoder,
    limits: Limits,
    stream: &[u8],
    cuts: &[Index],
) -> (Vec<Message>, Option<ProtocolError>) {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut input = BytesMut::new();
    let (mut messages, mut failure) = (Vec::new(), None);
    let mut start = 0;
    for end in ends {
        input.extend_from_slice(&stream[start..end]);
        start = end;
        let capacity = input.capacity();
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => assert_eq!(failure.replace(error), None, "a second failure"),
            }
        }
        assert!(input.capacity() <= capacity, "the decoder made the read buffer grow");
        let held = decoder.held_bytes();
        assert!(held <= FIXED_BYTES + 2 * end, "{held} bytes held for {end}");
        assert!(held <= FIXED_BYTES + 2 * limits.max_message_bytes, "{held} bytes held");
    }
    (messages, failure)
}

fn limits() -> Limits {
    Limits { max_message_bytes: 100_000, ..Limits::default() }
}

proptest! {
    #[test]
    fn whole_messages_survive_the_wire_however_it_cuts_them(
        role in role(),
        messages in vec(message(), 0..6),
        mask in any::<[u8; 4]>(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| encode(message, role, mask)).collect();
        let close = messages.iter().position(|message| matches!(message, Message::Close(_)));
        let expected = &messages[..close.map_or(messages.len(), |at| at + 1)];
        let (decoded, failure) = run(role, limits(), &stream, &cuts);
        prop_assert_eq!(failure, None);
        prop_assert!(decoded == expected);
    }

    #[test]
    fn messages_in_pieces_are_put_together(
        text in any::<String>(),
        pieces in vec(any::<Index>(), 0..8),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut stream = Vec::new();
        encode_in_pieces(Opcode::Text, text.as_bytes(), &pieces, &mut stream);
        encode_in_pieces(Opcode::Binary, text.as_bytes(), &pieces, &mut stream);
        let (mut messages, failure) = run(Role::Server, limits(), &stream, &cuts);
        prop_assert_eq!(failure, None);
        messages.retain(|message| !matches!(message, Message::Ping(_)));
        let text = Bytes::from(text);
        prop_assert_eq!(messages, [Message::Text(text.clone()), Message::Binary(text)]);
    }

    #[test]
    fn compressed_messages_survive_in_pieces(
        part in vec(any::<u8>(), 1..200),
        times in 1..400_usize,
        level in 1..=9_u32,
        pieces in vec(any::<Index>(), 0..8),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let message = part.repeat(times);
        if let Some(short) = deflate(&message, level) {
            prop_assert!(short.len() < message.len());
            let mut stream = Vec::new();
            encode_in_pieces(Opcode::Binary, &short, &pieces, &mut stream);
            stream[0] |= 0x40;
            let (mut messages, failure) = run_with(Decoder::new(Role::Server, limits()).with_deflate(), limits(), &stream, &cuts);
            prop_assert_eq!(failure, None);
            messages.retain(|message| !matches!(message, Message::Ping(_)));
            prop_assert!(messages == [Message::Binary(message.into())]);
        }
    }

    #[test]
    fn whatever_claims_to_be_compressed_inflates_within_the_bound(
        payload in vec(any::<u8>(), 0..300),
        max_message_bytes in 300..1000_usize,
    ) {
        let limits = Limits { max_message_bytes, ..Limits::default() };
        let mut stream = BytesMut::from(&masked_frame(Opcode::Binary, &payload, [0; 4])[..]);
        stream[0] |= 0x40;
        if let Ok(Some(Message::Binary(message))) = Decoder::new(Role::Server, limits).with_deflate().decode(&mut stream) {
            prop_assert!(message.len() <= max_message_bytes * Limits::MAX_INFLATION);
        }
    }

    #[test]
    fn damaged_streams_give_the_same_however_they_are_cut(
        messages in vec(message(), 1..4),
        payload in vec(any::<u8>(), 0..40),
        pieces in vec(any::<Index>(), 0..4),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            stream.extend_from_slice(&encode(message, Role::Server, [0; 4]));
            encode_in_pieces(Opcode::Text, &payload, &pieces, &mut stream);
        }
        for (at, byte) in &damage {
            let at = at.index(stream.len().min(60));
            stream[at] = *byte;
        }
        prop_assert!(run(Role::Server, limits(), &stream, &[]) == run(Role::Server, limits(), &stream, &cuts));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_cost_what_they_weigh(
        role in role(),
        stream in vec(any::<u8>(), 0..512),
        max_message_bytes in prop_oneof![Just(0), Just(10), Just(usize::MAX / 2 - FIXED_BYTES)],
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let limits = Limits { max_message_bytes, ..Limits::default() };
        prop_assert!(run(role, limits, &stream, &[]) == run(role, limits, &stream, &cuts));
    }

    #[test]
    fn plausible_headers_never_panic_and_cost_what_they_weigh(
        frames in vec((0..16u8, any::<bool>(), 0..20usize, vec(any::<u8>(), 0..20)), 0..20),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut stream = Vec::new();
        for (bits, is_final, announced, payload) in frames {
            stream.push(u8::from(is_final) << 7 | bits);
            stream.push(0x80 | announced as u8);
            stream.extend([0; 4]);
            stream.extend(payload);
        }
        prop_assert!(run(Role::Server, limits(), &stream, &[]) == run(Role::Server, limits(), &stream, &cuts));
    }
}
