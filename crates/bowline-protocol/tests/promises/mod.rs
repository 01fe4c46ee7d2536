//! What holds for every decoder whatever bytes it gets. The fuzz targets (`fuzz/`) look for bytes for which it does not;
//! `corpus.rs` asks again for all that were ever of interest.

use std::collections::BTreeMap;

use bowline_protocol::channel::ChannelRules;
use bowline_protocol::delta::{self, Cuts};
use bowline_protocol::filter::TagsFilter;
use bowline_protocol::websocket::{Decoder, Limits, Message, ProtocolError, Role};
use bowline_protocol::{Command, Encoding, FilterNode, Payload, Reply, protobuf};
use bytes::BytesMut;

/// Panics if it does not hold for these bytes.
pub(crate) type Promise = fn(&[u8]);

/// Every target by the name of its corpus.
pub(crate) const ALL: [(&str, Promise); 7] = [
    ("frames", frames),
    ("commands", commands),
    ("replies", replies),
    ("delta_apply", delta_apply),
    ("delta_create", delta_create),
    ("channel", channel),
    ("filter", filter),
];

/// Takes the first byte as a choice of the case.
fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// WebSocket frames give the same messages however they arrive, and the decoder holds no more than it was given.
pub(crate) fn frames(data: &[u8]) {
    let (choice, stream) = choice(data);
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let limits = Limits { max_message_bytes: 1 << (choice >> 4), ..Limits::default() };
    let run = |piece: usize| -> (Vec<Message>, Option<ProtocolError>) {
        let mut decoder = Decoder::new(role, limits);
        let (mut input, mut messages) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(piece) {
            input.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
            assert!(decoder.held_bytes() <= 256 + 2 * stream.len());
        }
        (messages, None)
    };
    let whole = run(usize::MAX);
    for message in &whole.0 {
        if let Message::Text(text) | Message::Binary(text) = message {
            assert!(text.len() <= limits.max_message_bytes);
        }
        if let Message::Text(text) = message {
            assert!(std::str::from_utf8(text).is_ok());
        }
    }
    assert!(run(1 + usize::from(choice >> 1 & 7)) == whole, "it depends on how they are cut");
}

/// What is decoded is encoded to what decodes to the same, in both encodings if there is a JSON form.
pub(crate) fn commands(data: &[u8]) {
    let (choice, data) = choice(data);
    let encoding = if choice & 1 == 0 { Encoding::Json } else { Encoding::Protobuf };
    let _ = encoding.decode_connect(data);
    if let Ok(request) = encoding.decode_emulation(data) {
        let again = encoding.encode_emulation(&request).unwrap();
        assert_eq!(encoding.decode_emulation(&again).unwrap(), request);
    }
    let mut count = 0;
    for command in encoding.decode_frame(data) {
        count += 1;
        let Ok(command) = command else { continue };
        let mut again = Vec::new();
        if encoding.encode_command(&command, &mut again).is_ok() && is_plain(&command) {
            let decoded: Vec<_> = encoding.decode_frame(&again).map(Result::unwrap).collect();
            assert_eq!(decoded, [command]);
        }
    }
    assert!(count >= 1, "a frame that yields nothing");
    let _ = format!("{:?}", Payload::from_json(data.to_vec()));
}

/// A command that has one form on the wire: a `Send` with an id or without is told apart by it.
fn is_plain(command: &Command) -> bool {
    !matches!(command, Command::Send(_) | Command::Pong)
}

/// As with commands, for clients.
pub(crate) fn replies(data: &[u8]) {
    let (choice, data) = choice(data);
    let encoding = if choice & 1 == 0 { Encoding::Json } else { Encoding::Protobuf };
    assert!(encoding.decode_replies(data).count() >= 1);
    for reply in encoding.decode_replies(data).flatten() {
        let mut again = Vec::new();
        if encoding.encode_reply(&reply, &mut again).is_ok() && reply != Reply::Ping {
            let decoded: Vec<_> = encoding.decode_replies(&again).map(Result::unwrap).collect();
            assert_eq!(decoded, [reply]);
        }
    }
    let _ = protobuf::decode_push(data);
}

/// Divides data at its first zero byte.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}

/// A delta from anybody makes something no larger than allowed, or is refused.
pub(crate) fn delta_apply(data: &[u8]) {
    let (source, delta) = halves(data);
    if let Ok(target) = delta::apply(source, delta, 4096) {
        assert!(target.len() <= 4096);
    }
}

/// A delta of ours gives the target back, is smaller than it, and cuts no character of a text.
pub(crate) fn delta_create(data: &[u8]) {
    let (source, target) = halves(data);
    for cuts in [Cuts::Anywhere, Cuts::AtCharacters] {
        if let Some(delta) = delta::create(source, target, cuts) {
            assert!(delta.len() < target.len());
            assert_eq!(delta::apply(source, &delta, target.len()).unwrap(), target);
            assert!(cuts == Cuts::Anywhere || std::str::from_utf8(&delta).is_ok());
        }
    }
}

/// The parts of a name are parts of it, and who is listed stands there.
pub(crate) fn channel(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    for rules in [
        ChannelRules::default(),
        ChannelRules {
            namespace_boundary: "::".into(),
            user_boundary: "é".into(),
            ..ChannelRules::default()
        },
    ] {
        let Ok(channel) = rules.parse(name) else {
            assert!(name.is_empty() || name.len() > rules.max_length_bytes);
            continue;
        };
        assert_eq!(channel.as_str(), name);
        assert!(name.ends_with(channel.rest()));
        assert!(channel.namespace().is_none_or(|namespace| name.contains(namespace)));
        assert_eq!(channel.is_private(), name.starts_with('$'));
        for user in channel.users() {
            assert!(!user.is_empty() && name.contains(user) && channel.lists_user(user));
        }
        assert!(!channel.lists_user(""));
        if let Some(personal) = rules.personal_channel("", name)
            && let Ok(personal) = rules.parse(&personal)
        {
            assert!(personal.users().eq([name]), "somebody else is let in");
        }
    }
}

/// A filter that is taken answers the same each time, and its negation the opposite.
pub(crate) fn filter(data: &[u8]) {
    let (node, tags) = halves(data);
    let Ok(node) = serde_json::from_slice::<FilterNode>(node) else { return };
    let tags: BTreeMap<String, String> = String::from_utf8_lossy(tags)
        .split(';')
        .filter_map(|tag| tag.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let Ok(filter) = TagsFilter::new(&node) else { return };
    let is_met = filter.matches(&tags);
    assert_eq!(filter.clone().matches(&tags), is_met);
    let negated = FilterNode { op: "not".into(), nodes: vec![node], ..FilterNode::default() };
    if let Ok(negated) = TagsFilter::new(&negated) {
        assert_ne!(negated.matches(&tags), is_met);
    }
}
