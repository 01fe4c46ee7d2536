//! Properties of both codecs over generated messages and arbitrary bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_protocol::*;
use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

// What is made of other strategies is boxed: a tree of plain ones is moved over the stack as a whole, and a debug build
// needed more of it than a test's thread has.

/// Text with everything JSON must escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z:#$]{0,8}", any::<String>(), Just("\n\"\\\u{1}\u{2028}é🦀".to_owned())]
}

fn payload() -> BoxedStrategy<Payload> {
    let leaf = prop_oneof![
        Just(serde_json::Value::from(true)),
        any::<i64>().prop_map(serde_json::Value::from),
        text().prop_map(serde_json::Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            btree_map(text(), inner, 0..4).prop_map(serde_json::Value::from_iter),
        ]
    });
    option::of(value)
        .prop_map(|value| match value {
            Some(value) => Payload::from_json(value.to_string()).unwrap(),
            None => Payload::EMPTY,
        })
        .boxed()
}

fn id() -> impl Strategy<Value = CommandId> {
    (1..=u32::MAX).prop_map(|number| CommandId::new(number).unwrap())
}

fn info() -> BoxedStrategy<Arc<ClientInfo>> {
    (text(), text(), payload(), payload())
        .prop_map(|(user, client, conn_info, chan_info)| {
            Arc::new(ClientInfo { user, client, conn_info, chan_info })
        })
        .boxed()
}

fn publication() -> BoxedStrategy<Publication> {
    (
        payload(),
        option::of(info()),
        any::<u64>(),
        btree_map(text(), text(), 0..3),
        any::<(bool, i64)>(),
        text(),
    )
        .prop_map(|(data, info, offset, tags, (delta, time), epoch)| Publication {
            data,
            info,
            offset,
            tags,
            delta,
            time,
            epoch,
        })
        .boxed()
}

fn subscribe_request() -> BoxedStrategy<SubscribeRequest> {
    let filter = (text(), vec(text(), 0..2)).prop_map(|(key, vals)| {
        Box::new(FilterNode {
            op: "and".into(),
            nodes: vec![FilterNode { key, vals, ..Default::default() }],
            ..Default::default()
        })
    });
    (text(), text(), any::<[bool; 4]>(), any::<(u64, i64)>(), payload(), option::of(filter))
        .prop_map(
            |(
                channel,
                other,
                [recover, positioned, recoverable, join_leave],
                (offset, flag),
                data,
                tags_filter,
            )| {
                SubscribeRequest {
                    channel,
                    token: other.clone().into(),
                    recover,
                    epoch: other.clone(),
                    offset,
                    data,
                    positioned,
                    recoverable,
                    join_leave,
                    delta: other,
                    tags_filter,
                    flag,
                    subscription_type: flag as i32,
                }
            },
        )
        .boxed()
}

fn request() -> BoxedStrategy<Request> {
    let connect = (
        (text(), text(), text()),
        payload(),
        btree_map(text(), subscribe_request(), 0..3),
        btree_map(text(), text(), 0..3),
    )
        .prop_map(|((token, name, version), data, subs, headers)| {
            Request::Connect(ConnectRequest { token: token.into(), data, subs, name, version, headers })
        });
    let history = (text(), any::<(i32, bool)>(), option::of((any::<u64>(), text()))).prop_map(
        |(channel, (limit, reverse), since)| {
            let since = since.map(|(offset, epoch)| StreamPosition { offset, epoch });
            Request::History(HistoryRequest { channel, limit, since, reverse })
        },
    );
    prop_oneof![
        connect,
        subscribe_request().prop_map(Request::Subscribe),
        text().prop_map(|channel| Request::Unsubscribe(UnsubscribeRequest { channel })),
        (text(), payload(), any::<i32>()).prop_map(|(channel, data, publication_type)| Request::Publish(
            PublishRequest { channel, data, publication_type }
        )),
        text().prop_map(|channel| Request::Presence(PresenceRequest { channel })),
        text().prop_map(|channel| Request::PresenceStats(PresenceStatsRequest { channel })),
        history,
        Just(Request::Ping),
        payload().prop_map(|data| Request::Send(SendRequest { data })),
        (payload(), text()).prop_map(|(data, method)| Request::Rpc(RpcRequest { data, method })),
        text().prop_map(|token| Request::Refresh(RefreshRequest { token: token.into() })),
        (text(), text(), any::<i32>()).prop_map(|(channel, token, refresh_type)| Request::SubRefresh(
            SubRefreshRequest { channel, token: token.into(), refresh_type }
        )),
    ]
    .boxed()
}

fn command() -> BoxedStrategy<Command> {
    prop_oneof![
        1 => Just(Command::Pong),
        1 => payload().prop_map(|data| Command::Send(SendRequest { data })),
        12 => (id(), request()).prop_map(|(id, request)| Command::Request { id, request }),
    ]
    .boxed()
}

fn subscribe_result() -> BoxedStrategy<SubscribeResult> {
    (any::<[bool; 6]>(), any::<(u32, u64)>(), text(), vec(publication(), 0..3), payload())
        .prop_map(
            |(
                [expires, recoverable, recovered, positioned, was_recovering, delta],
                (ttl, offset),
                epoch,
                publications,
                data,
            )| {
                SubscribeResult {
                    expires,
                    ttl,
                    recoverable,
                    epoch,
                    publications,
                    recovered,
                    offset,
                    positioned,
                    data,
                    was_recovering,
                    delta,
                }
            },
        )
        .boxed()
}

fn connect_result() -> BoxedStrategy<ConnectResult> {
    (
        (text(), text(), text(), text()),
        any::<(bool, u32, u32, bool, i64)>(),
        payload(),
        btree_map(text(), subscribe_result(), 0..3),
    )
        .prop_map(|((client, version, session, node), (expires, ttl, ping, pong, time), data, subs)| {
            ConnectResult {
                client,
                version,
                expires,
                ttl,
                data,
                subs,
                ping,
                pong,
                session: session.into(),
                node,
                time,
            }
        })
        .boxed()
}

fn command_result() -> BoxedStrategy<CommandResult> {
    prop_oneof![
        connect_result().prop_map(CommandResult::Connect),
        subscribe_result().prop_map(CommandResult::Subscribe),
        Just(CommandResult::Unsubscribe),
        Just(CommandResult::Publish),
        Just(CommandResult::Ping),
        btree_map(text(), info(), 0..3)
            .prop_map(|presence: BTreeMap<_, _>| CommandResult::Presence(PresenceResult { presence })),
        any::<(u32, u32)>().prop_map(|(num_clients, num_users)| CommandResult::PresenceStats(
            PresenceStatsResult { num_clients, num_users }
        )),
        (vec(publication(), 0..3), text(), any::<u64>()).prop_map(|(publications, epoch, offset)| {
            CommandResult::History(HistoryResult { publications, epoch, offset })
        }),
        payload().prop_map(|data| CommandResult::Rpc(RpcResult { data })),
        (text(), text(), any::<(bool, u32)>()).prop_map(|(client, version, (expires, ttl))| {
            CommandResult::Refresh(RefreshResult { client, version, expires, ttl })
        }),
        any::<(bool, u32)>()
            .prop_map(|(expires, ttl)| CommandResult::SubRefresh(SubRefreshResult { expires, ttl })),
    ]
    .boxed()
}

fn push() -> BoxedStrategy<Push> {
    let channel = || text().prop_map(Arc::<str>::from);
    prop_oneof![
        (channel(), publication())
            .prop_map(|(channel, publication)| Push::Publication { channel, publication }),
        (channel(), info()).prop_map(|(channel, info)| Push::Join { channel, info }),
        (channel(), info()).prop_map(|(channel, info)| Push::Leave { channel, info }),
        (channel(), any::<u32>(), text()).prop_map(|(channel, code, reason)| Push::Unsubscribe {
            channel,
            code: UnsubscribeCode::custom(code, reason)
        }),
        (channel(), any::<(bool, u64, bool)>(), text(), payload()).prop_map(
            |(channel, (recoverable, offset, positioned), epoch, data)| Push::Subscribe {
                channel,
                subscription: SubscribePush { recoverable, epoch, offset, positioned, data },
            }
        ),
        payload().prop_map(|data| Push::Message { data }),
        connect_result().prop_map(|result| Push::Connect(Box::new(result))),
        (any::<u16>(), text()).prop_map(|(code, reason)| Push::Disconnect(Disconnect::custom(code, reason))),
        any::<(bool, u32)>().prop_map(|(expires, ttl)| Push::Refresh { expires, ttl }),
    ]
    .boxed()
}

fn reply() -> BoxedStrategy<Reply> {
    prop_oneof![
        1 => Just(Reply::Ping),
        8 => push().prop_map(Reply::Push),
        8 => (id(), command_result()).prop_map(|(id, result)| Reply::Result { id, result }),
        1 => (id(), any::<(u32, bool)>(), text()).prop_map(|(id, (code, temporary), message)| Reply::Error {
            id,
            error: ErrorCode { code, message: message.into(), temporary },
        }),
    ]
    .boxed()
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Json), Just(Encoding::Protobuf)]
}

/// Messages as they stand in one frame.
fn frame_of<T>(
    encoding: Encoding,
    messages: &[T],
    encode: impl Fn(Encoding, &T, &mut Vec<u8>) -> Result<(), NotJson>,
) -> Vec<u8> {
    let mut frame = Vec::new();
    for message in messages {
        encode(encoding, message, &mut frame).unwrap();
        if encoding == Encoding::Json {
            frame.push(b'\n');
        }
    }
    frame
}

proptest! {
    #[test]
    fn commands_survive_the_wire(encoding in encoding(), commands in vec(command(), 1..4)) {
        let frame = frame_of(encoding, &commands, Encoding::encode_command);
        let decoded: Vec<_> = encoding.decode_frame(&frame).map(Result::unwrap).collect();
        prop_assert_eq!(decoded, commands);
    }

    #[test]
    fn replies_survive_the_wire(encoding in encoding(), replies in vec(reply(), 1..4)) {
        let frame = frame_of(encoding, &replies, Encoding::encode_reply);
        let decoded: Vec<_> = encoding.decode_replies(&frame).map(Result::unwrap).collect();
        prop_assert_eq!(decoded, replies);
    }

    #[test]
    fn a_json_message_is_one_line(commands in vec(command(), 1..4), replies in vec(reply(), 1..4)) {
        let lines = |frame: Vec<u8>| frame.iter().filter(|byte| **byte == b'\n').count();
        prop_assert_eq!(lines(frame_of(Encoding::Json, &commands, Encoding::encode_command)), commands.len());
        prop_assert_eq!(lines(frame_of(Encoding::Json, &replies, Encoding::encode_reply)), replies.len());
    }

    #[test]
    fn a_pushed_push_is_the_reply_it_stands_for(encoding in encoding(), push in push()) {
        let pushed = frame_of(encoding, std::slice::from_ref(&push), Encoding::encode_pushed);
        prop_assert_eq!(pushed, frame_of(encoding, &[Reply::Push(push)], Encoding::encode_reply));
    }

    #[test]
    fn a_bare_push_is_what_is_in_the_reply(push in push()) {
        let mut bare = Vec::new();
        Encoding::Protobuf.encode_push(&push, &mut bare).unwrap();
        // Its length comes first, in as many bytes as it needs.
        let header = (1..).find(|&length| bare[length - 1] < 0x80).unwrap();
        prop_assert_eq!(protobuf::decode_push(&bare[header..]).unwrap(), push.clone());
        bare.clear();
        Encoding::Json.encode_push(&push, &mut bare).unwrap();
        let reply = [b"{\"push\":", &bare[..], b"}"].concat();
        prop_assert_eq!(json::decode_replies(&reply).next().unwrap().unwrap(), Reply::Push(push));
    }

    #[test]
    fn emulation_requests_survive_the_wire(
        encoding in encoding(), node in text(), session in text(), data in text()
    ) {
        let request = EmulationRequest { node, session: session.into(), data: data.into() };
        let body = encoding.encode_emulation(&request).unwrap();
        prop_assert_eq!(encoding.decode_emulation(&body).unwrap(), request);
    }

    #[test]
    fn protobuf_carries_bytes_of_any_kind(bytes in vec(any::<u8>(), 0..200), id in id()) {
        let data = Payload::opaque(Bytes::from(bytes));
        let command = Command::Request { id, request: Request::Rpc(RpcRequest { data, method: "m".into() }) };
        let frame = frame_of(Encoding::Protobuf, std::slice::from_ref(&command), Encoding::encode_command);
        prop_assert_eq!(protobuf::decode_frame(&frame).next().unwrap().unwrap(), command);
    }

    #[test]
    fn arbitrary_bytes_yield_something_and_never_panic(
        encoding in encoding(), bytes in vec(any::<u8>(), 0..256)
    ) {
        prop_assert!(encoding.decode_frame(&bytes).count() >= 1);
        prop_assert!(encoding.decode_replies(&bytes).count() >= 1);
        let _ = encoding.decode_connect(&bytes);
        let _ = encoding.decode_emulation(&bytes);
        let _ = protobuf::decode_push(&bytes);
        if let Ok(payload) = Payload::from_json(bytes) {
            prop_assert!(!payload.as_bytes().contains(&b'\n'));
        }
    }

    /// Arbitrary bytes seldom get past the first length; fields without it do.
    #[test]
    fn arbitrary_fields_never_panic(bytes in vec(any::<u8>(), 0..127)) {
        let frame = [&[bytes.len() as u8][..], &bytes].concat();
        prop_assert_eq!(protobuf::decode_frame(&frame).count(), 1);
        prop_assert_eq!(protobuf::decode_replies(&frame).count(), 1);
    }

    #[test]
    fn damaged_messages_never_panic(
        encoding in encoding(),
        command in command(),
        reply in reply(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut frame = frame_of(encoding, &[command], Encoding::encode_command);
        let damaged = at.index(frame.len());
        frame[damaged] = byte;
        prop_assert!(encoding.decode_frame(&frame).count() >= 1);
        prop_assert!(encoding.decode_frame(&frame[..damaged]).count() >= 1);
        let mut frame = frame_of(encoding, &[reply], Encoding::encode_reply);
        let damaged = at.index(frame.len());
        frame[damaged] = byte;
        prop_assert!(encoding.decode_replies(&frame).count() >= 1);
        prop_assert!(encoding.decode_replies(&frame[..damaged]).count() >= 1);
    }

    #[test]
    fn a_cut_off_protobuf_frame_is_malformed(command in command(), at in any::<prop::sample::Index>()) {
        let frame = frame_of(Encoding::Protobuf, &[command], Encoding::encode_command);
        let cut = at.index(frame.len());
        prop_assert!(protobuf::decode_frame(&frame[..cut]).last().unwrap().is_err());
    }
}
