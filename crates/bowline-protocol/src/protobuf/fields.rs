//! The schema: the number of every field. What is not named is not sent, and skipped when it comes.

use std::sync::Arc;

use super::wire::{Field, Malformed, Message, Value};
use crate::{
    ClientInfo, ConnectRequest, ConnectResult, Disconnect, EmulationRequest, ErrorCode, FilterNode,
    HistoryRequest, HistoryResult, Payload, PresenceRequest, PresenceResult, PresenceStatsRequest,
    PresenceStatsResult, Publication, PublishRequest, RefreshRequest, RefreshResult, RpcRequest, RpcResult,
    SendRequest, StreamPosition, SubRefreshRequest, SubRefreshResult, SubscribePush, SubscribeRequest,
    SubscribeResult, UnsubscribeCode, UnsubscribeRequest,
};

macro_rules! messages {
    ($($message:ty { $($number:literal: $($field:ident).+),* })*) => {$(
        impl Message for $message {
            fn write(&self, _out: &mut Vec<u8>) {
                $(Field::write(&self.$($field).+, $number, _out);)*
            }

            fn merge(&mut self, number: u32, _value: Value<'_>) -> Result<(), Malformed> {
                match number {
                    $($number => Field::merge(&mut self.$($field).+, _value),)*
                    _ => Ok(()),
                }
            }
        }
    )*};
}

messages! {
    ErrorCode { 1: code, 2: message, 3: temporary }
    Publication { 4: data, 5: info, 6: offset, 7: tags, 8: delta, 9: time, 14: epoch }
    ClientInfo { 1: user, 2: client, 3: conn_info, 4: chan_info }
    StreamPosition { 1: offset, 2: epoch }

    Presence { 1: info }
    UnsubscribeCode { 2: code, 3: reason }
    PushedData { 1: data }
    SubscribePush { 1: recoverable, 4: epoch, 5: offset, 6: positioned, 7: data }
    Disconnect { 1: code, 2: reason }
    RefreshPush { 1: expires, 2: ttl }
    ConnectPush {
        1: result.client, 2: result.version, 3: result.data, 4: result.subs, 5: result.expires, 6: result.ttl,
        7: result.ping, 8: result.pong, 9: result.session, 10: result.node, 11: result.time
    }

    ConnectRequest { 1: token, 2: data, 3: subs, 4: name, 5: version, 6: headers }
    ConnectResult {
        1: client, 2: version, 3: expires, 4: ttl, 5: data, 6: subs, 7: ping, 8: pong, 9: session, 10: node, 11: time
    }
    SubscribeRequest {
        1: channel, 2: token, 3: recover, 6: epoch, 7: offset, 8: data, 9: positioned, 10: recoverable,
        11: join_leave, 12: delta, 13: tags_filter, 14: flag, 15: subscription_type
    }
    SubscribeResult {
        1: expires, 2: ttl, 3: recoverable, 6: epoch, 7: publications, 8: recovered, 9: offset, 10: positioned,
        11: data, 12: was_recovering, 13: delta
    }
    FilterNode { 1: op, 2: key, 3: cmp, 4: val, 5: vals, 6: nodes }
    UnsubscribeRequest { 1: channel }
    PublishRequest { 1: channel, 2: data, 3: publication_type }
    PresenceRequest { 1: channel }
    PresenceResult { 1: presence }
    PresenceStatsRequest { 1: channel }
    PresenceStatsResult { 1: num_clients, 2: num_users }
    HistoryRequest { 1: channel, 7: limit, 8: since, 9: reverse }
    HistoryResult { 1: publications, 2: epoch, 3: offset }
    RpcRequest { 1: data, 2: method }
    RpcResult { 1: data }
    SendRequest { 1: data }
    RefreshRequest { 1: token }
    RefreshResult { 1: client, 2: version, 3: expires, 4: ttl }
    SubRefreshRequest { 1: channel, 2: token, 3: refresh_type }
    SubRefreshResult { 1: expires, 2: ttl }
    EmulationRequest { 1: node, 2: session, 3: data }

    Empty {}
}

/// A message without fields.
#[derive(Default)]
pub(super) struct Empty;

/// The content of a join or leave push.
#[derive(Default)]
pub(super) struct Presence {
    pub(super) info: Option<Arc<ClientInfo>>,
}

/// The content of a message push.
#[derive(Default)]
pub(super) struct PushedData {
    pub(super) data: Payload,
}

/// The content of a refresh push.
#[derive(Default)]
pub(super) struct RefreshPush {
    pub(super) expires: bool,
    pub(super) ttl: u32,
}

/// A connect result as unidirectional transports push it: under numbers of its own.
#[derive(Default)]
pub(super) struct ConnectPush {
    pub(super) result: ConnectResult,
}
