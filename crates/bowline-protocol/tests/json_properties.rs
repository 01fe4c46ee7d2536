//! Properties of the JSON codec over generated messages and arbitrary bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_protocol::json::{
    decode_frame, decode_replies, encode_command, encode_push_publication, encode_reply,
};
use bowline_protocol::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// Text with everything JSON must escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z:#$]{0,8}", any::<String>(), Just("\n\"\\\u{1}\u{2028}é🦀".to_owned())]
}

fn payload() -> impl Strategy<Value = Payload> {
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
    option::of(value).prop_map(|value| match value {
        Some(value) => Payload::from_json(value.to_string()).unwrap(),
        None => Payload::EMPTY,
    })
}

fn id() -> impl Strategy<Value = CommandId> {
    (1..=u32::MAX).prop_map(|number| CommandId::new(number).unwrap())
}

fn info() -> impl Strategy<Value = Arc<ClientInfo>> {
    (text(), text(), payload(), payload()).prop_map(|(user, client, conn_info, chan_info)| {
        Arc::new(ClientInfo { user, client, conn_info, chan_info })
    })
}

fn publication() -> impl Strategy<Value = Publication> {
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
}

fn subscribe_request() -> impl Strategy<Value = SubscribeRequest> {
    let filter = (text(), vec(text(), 0..2)).prop_map(|(key, vals)| {
        Box::new(FilterNode {
            op: "and".into(),
            nodes: vec![FilterNode { key, vals, ..Default::default() }],
            ..Default::default()
        })
    });
    (text(), text(), any::<[bool; 4]>(), any::<(u64, i64)>(), payload(), option::of(filter)).prop_map(
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
}

fn request() -> impl Strategy<Value = Request> {
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
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => Just(Command::Pong),
        1 => payload().prop_map(|data| Command::Send(SendRequest { data })),
        12 => (id(), request()).prop_map(|(id, request)| Command::Request { id, request }),
    ]
}

fn subscribe_result() -> impl Strategy<Value = SubscribeResult> {
    (any::<[bool; 6]>(), any::<(u32, u64)>(), text(), vec(publication(), 0..3), payload()).prop_map(
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
}

fn connect_result() -> impl Strategy<Value = ConnectResult> {
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
}

fn command_result() -> impl Strategy<Value = CommandResult> {
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
}

fn push() -> impl Strategy<Value = Push> {
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
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        1 => Just(Reply::Ping),
        8 => push().prop_map(Reply::Push),
        8 => (id(), command_result()).prop_map(|(id, result)| Reply::Result { id, result }),
        1 => (id(), any::<(u32, bool)>(), text()).prop_map(|(id, (code, temporary), message)| Reply::Error {
            id,
            error: ErrorCode { code, message: message.into(), temporary },
        }),
    ]
}

proptest! {
    #[test]
    fn commands_survive_the_wire(commands in vec(command(), 1..4)) {
        let mut frame = Vec::new();
        for command in &commands {
            encode_command(command, &mut frame).unwrap();
            frame.push(b'\n');
        }
        prop_assert_eq!(frame.iter().filter(|byte| **byte == b'\n').count(), commands.len());
        let decoded: Vec<_> = decode_frame(&frame).map(Result::unwrap).collect();
        prop_assert_eq!(decoded, commands);
    }

    #[test]
    fn replies_survive_the_wire(replies in vec(reply(), 1..4)) {
        let mut frame = Vec::new();
        for reply in &replies {
            encode_reply(reply, &mut frame).unwrap();
            frame.push(b'\n');
        }
        prop_assert_eq!(frame.iter().filter(|byte| **byte == b'\n').count(), replies.len());
        let decoded: Vec<_> = decode_replies(&frame).map(Result::unwrap).collect();
        prop_assert_eq!(decoded, replies);
    }

    #[test]
    fn a_shared_publication_is_the_reply_it_stands_for(channel in text(), publication in publication()) {
        let shared = encode_push_publication(&channel, &publication).unwrap();
        let mut reply = Vec::new();
        encode_reply(&Reply::Push(Push::Publication { channel: channel.into(), publication }), &mut reply).unwrap();
        prop_assert_eq!(shared, reply);
    }

    #[test]
    fn arbitrary_bytes_yield_something_and_never_panic(bytes in vec(any::<u8>(), 0..256)) {
        prop_assert!(decode_frame(&bytes).count() >= 1);
        prop_assert!(decode_replies(&bytes).count() >= 1);
        if let Ok(payload) = Payload::from_json(bytes) {
            prop_assert!(!payload.as_bytes().contains(&b'\n'));
        }
    }

    #[test]
    fn damaged_commands_never_panic(command in command(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut frame = Vec::new();
        encode_command(&command, &mut frame).unwrap();
        let at = at.index(frame.len());
        frame[at] = byte;
        prop_assert!(decode_frame(&frame).count() >= 1);
        prop_assert!(decode_frame(&frame[..at]).count() >= 1);
    }
}
