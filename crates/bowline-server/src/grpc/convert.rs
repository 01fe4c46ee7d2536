//! One message to one command, one answer to one message.

use bowline_protocol::{ErrorCode, Payload};

use super::pb::api as pb;
use crate::api::{
    Answer, BlockUser, Broadcast, Called, CancelResult, Channels, Command, Connected, ConnectionInfo,
    ConnectionState, Connections, Disconnect, Done, Embedded, ErrorBody, Flag, Found, History, HistoryRemove,
    Info, InvalidateUserTokens, Listed, Nodes, Numbers, Override, Page, Past, Position, Presence,
    PresenceStats, Present, Publish, Refresh, Responses, RevokeToken, Rpc, ScheduleCancel, ScheduleList,
    Schedules, Since, Subscribe, TokenInfo, UnblockUser, Unsubscribe, Who, Wish, not_found,
    publish::Response,
};
use crate::node::ApiError;

macro_rules! batched {
    ($($field:ident = $variant:ident,)+) => {
        /// The command of an element of a batch, which must hold one.
        pub(super) fn command_of(command: pb::Command) -> Result<Command, ApiError> {
            let mut found = None;
            $(if let Some(request) = command.$field {
                if found.replace(Command::$variant(request.into())).is_some() {
                    return Err(ErrorCode::BAD_REQUEST.into());
                }
            })+
            found.ok_or_else(not_found)
        }

        /// The element of a batch's replies that holds an answer.
        pub(super) fn reply_of(answer: Answer) -> Result<pb::Reply, ApiError> {
            match answer {
                $(Answer::$variant(answer) => {
                    Ok(pb::Reply { $field: Some(answer.into()), ..pb::Reply::default() })
                })+
                // Methods that answer nothing but that they are not available.
                _ => Err(ErrorCode::NOT_AVAILABLE.into()),
            }
        }
    };
}

batched! {
    publish = Publish,
    broadcast = Broadcast,
    subscribe = Subscribe,
    unsubscribe = Unsubscribe,
    disconnect = Disconnect,
    presence = Presence,
    presence_stats = PresenceStats,
    history = History,
    history_remove = HistoryRemove,
    info = Info,
    rpc = Rpc,
    refresh = Refresh,
    channels = Channels,
    connections = Connections,
    block_user = BlockUser,
    unblock_user = UnblockUser,
    revoke_token = RevokeToken,
    invalidate_user_tokens = InvalidateUserTokens,
    schedule_list = ScheduleList,
    schedule_cancel = ScheduleCancel,
}

/// Application data, which the encoder of each client's protocol looks at.
fn payload(bytes: Vec<u8>) -> Payload {
    if bytes.is_empty() { Payload::EMPTY } else { Payload::opaque(bytes) }
}

fn bytes(data: Embedded) -> Vec<u8> {
    data.0.into_bytes().into()
}

/// A 32-bit field of a message: what does not fit is the most it holds.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl From<pb::PublishRequest> for Publish {
    fn from(request: pb::PublishRequest) -> Self {
        let pb::PublishRequest {
            channel,
            data,
            b64data,
            skip_history,
            tags,
            idempotency_key,
            delta,
            version,
            version_epoch,
            delay,
            at,
            cron,
            timezone,
            schedule_id,
            missed,
        } = request;
        Self {
            channel,
            data: payload(data),
            b64data,
            skip_history,
            tags,
            idempotency_key,
            version,
            version_epoch,
            delta,
            delay,
            at,
            cron,
            timezone,
            schedule_id,
            missed,
        }
    }
}

impl From<pb::BroadcastRequest> for Broadcast {
    fn from(request: pb::BroadcastRequest) -> Self {
        let pb::BroadcastRequest {
            channels,
            data,
            b64data,
            skip_history,
            tags,
            idempotency_key,
            delta,
            version,
            version_epoch,
            delay,
            at,
            cron,
            timezone,
            schedule_id,
            missed,
        } = request;
        Self {
            channels,
            data: payload(data),
            b64data,
            skip_history,
            tags,
            idempotency_key,
            version,
            version_epoch,
            delta,
            delay,
            at,
            cron,
            timezone,
            schedule_id,
            missed,
        }
    }
}

impl From<pb::SubscribeRequest> for Subscribe {
    fn from(request: pb::SubscribeRequest) -> Self {
        Self {
            user: request.user,
            channel: request.channel,
            info: payload(request.info),
            b64info: request.b64info,
            client: request.client,
            session: request.session,
            data: payload(request.data),
            b64data: request.b64data,
            recover_since: request.recover_since.map(Since::from),
            expire_at: request.expire_at,
            overrides: request.r#override.map(Override::from),
        }
    }
}

impl From<pb::StreamPosition> for Since {
    fn from(position: pb::StreamPosition) -> Self {
        Self { offset: position.offset, epoch: position.epoch }
    }
}

impl From<pb::SubscribeOptionOverride> for Override {
    fn from(wish: pb::SubscribeOptionOverride) -> Self {
        let flag = |value: Option<pb::BoolValue>| value.map(|value| Flag { value: value.value });
        Self {
            presence: flag(wish.presence),
            join_leave: flag(wish.join_leave),
            force_push_join_leave: flag(wish.force_push_join_leave),
            force_positioning: flag(wish.force_positioning),
            force_recovery: flag(wish.force_recovery),
        }
    }
}

impl From<pb::UnsubscribeRequest> for Unsubscribe {
    fn from(request: pb::UnsubscribeRequest) -> Self {
        let pb::UnsubscribeRequest { channel, user, client, session } = request;
        Self { user, channel, client, session }
    }
}

impl From<pb::DisconnectRequest> for Disconnect {
    fn from(request: pb::DisconnectRequest) -> Self {
        let pb::DisconnectRequest { user, disconnect, client, whitelist, session } = request;
        let disconnect = disconnect.map(|pb::Disconnect { code, reason }| Wish { code, reason });
        Self { user, client, session, whitelist, disconnect }
    }
}

impl From<pb::RefreshRequest> for Refresh {
    fn from(request: pb::RefreshRequest) -> Self {
        let pb::RefreshRequest { user, client, expired, expire_at, info, session } = request;
        Self { user, client, session, expired, expire_at, info: payload(info) }
    }
}

impl From<pb::PresenceRequest> for Presence {
    fn from(request: pb::PresenceRequest) -> Self {
        Self { channel: request.channel }
    }
}

impl From<pb::PresenceStatsRequest> for PresenceStats {
    fn from(request: pb::PresenceStatsRequest) -> Self {
        Self { channel: request.channel }
    }
}

impl From<pb::HistoryRequest> for History {
    fn from(request: pb::HistoryRequest) -> Self {
        let pb::HistoryRequest { channel, limit, since, reverse } = request;
        Self { channel, limit, since: since.map(Since::from), reverse }
    }
}

impl From<pb::HistoryRemoveRequest> for HistoryRemove {
    fn from(request: pb::HistoryRemoveRequest) -> Self {
        Self { channel: request.channel }
    }
}

impl From<pb::InfoRequest> for Info {
    fn from(_: pb::InfoRequest) -> Self {
        Self {}
    }
}

impl From<pb::RpcRequest> for Rpc {
    fn from(request: pb::RpcRequest) -> Self {
        Self { method: request.method, params: payload(request.params) }
    }
}

impl From<pb::ChannelsRequest> for Channels {
    fn from(request: pb::ChannelsRequest) -> Self {
        Self { pattern: request.pattern }
    }
}

impl From<Position> for pb::PublishResult {
    fn from(position: Position) -> Self {
        let Position { offset, epoch, schedule_id, at } = position;
        Self { offset, epoch, schedule_id, at }
    }
}

impl From<Responses> for pb::BroadcastResult {
    fn from(responses: Responses) -> Self {
        let response = |response| match response {
            Response::Result(position) => {
                pb::PublishResponse { error: None, result: Some(pb::PublishResult::from(position)) }
            }
            Response::Error(ErrorBody { code, message }) => pb::PublishResponse {
                error: Some(pb::Error { code, message: message.into_owned() }),
                result: None,
            },
        };
        Self { responses: responses.responses.into_iter().map(response).collect() }
    }
}

macro_rules! done {
    ($($result:ident)+) => {$(
        impl From<Done> for pb::$result {
            fn from(Done {}: Done) -> Self {
                Self {}
            }
        }
    )+};
}

done!(SubscribeResult UnsubscribeResult DisconnectResult RefreshResult HistoryRemoveResult);
done!(BlockUserResult UnblockUserResult RevokeTokenResult InvalidateUserTokensResult);

impl From<Who> for pb::ClientInfo {
    fn from(who: Who) -> Self {
        let Who { user, client, conn_info, chan_info } = who;
        Self { user, client, conn_info: bytes(conn_info), chan_info: bytes(chan_info) }
    }
}

impl From<Present> for pb::PresenceResult {
    fn from(present: Present) -> Self {
        Self { presence: present.presence.into_iter().map(|(client, who)| (client, who.into())).collect() }
    }
}

impl From<Numbers> for pb::PresenceStatsResult {
    fn from(numbers: Numbers) -> Self {
        Self { num_clients: numbers.num_clients, num_users: numbers.num_users }
    }
}

impl From<Past> for pb::Publication {
    fn from(past: Past) -> Self {
        let Past { data, info, offset, tags } = past;
        Self { data: bytes(data), info: info.map(Into::into), offset, tags }
    }
}

impl From<Page> for pb::HistoryResult {
    fn from(page: Page) -> Self {
        let Page { publications, epoch, offset } = page;
        Self { publications: publications.into_iter().map(Into::into).collect(), epoch, offset }
    }
}

impl From<Nodes> for pb::InfoResult {
    fn from(nodes: Nodes) -> Self {
        let node = |node: crate::api::NodeResult| pb::NodeResult {
            uid: node.uid,
            name: node.name,
            version: node.version.to_owned(),
            num_clients: narrow(node.num_clients),
            num_users: narrow(node.num_users),
            num_channels: narrow(node.num_channels),
            num_subs: narrow(node.num_subs),
            uptime: narrow(node.uptime),
            metrics: None,
            process: node
                .process
                .map(|process| pb::Process { cpu: 0.0, rss: i64::try_from(process.rss).unwrap_or(i64::MAX) }),
        };
        Self { nodes: nodes.nodes.into_iter().map(node).collect() }
    }
}

impl From<Called> for pb::RpcResult {
    fn from(called: Called) -> Self {
        Self { data: bytes(called.data) }
    }
}

impl From<Found> for pb::ChannelsResult {
    fn from(found: Found) -> Self {
        let info = |(name, subscribers): (String, crate::api::Subscribers)| {
            (name, pb::ChannelInfo { num_clients: subscribers.num_clients })
        };
        Self { channels: found.channels.into_iter().map(info).collect() }
    }
}

impl From<pb::ConnectionsRequest> for Connections {
    fn from(request: pb::ConnectionsRequest) -> Self {
        let pb::ConnectionsRequest { user, limit } = request;
        Self { user, limit }
    }
}

impl From<pb::BlockUserRequest> for BlockUser {
    fn from(request: pb::BlockUserRequest) -> Self {
        let pb::BlockUserRequest { user, expire_at } = request;
        Self { user, expire_at }
    }
}

impl From<pb::UnblockUserRequest> for UnblockUser {
    fn from(request: pb::UnblockUserRequest) -> Self {
        Self { user: request.user }
    }
}

impl From<pb::RevokeTokenRequest> for RevokeToken {
    fn from(request: pb::RevokeTokenRequest) -> Self {
        let pb::RevokeTokenRequest { uid, expire_at } = request;
        Self { uid, expire_at }
    }
}

impl From<pb::InvalidateUserTokensRequest> for InvalidateUserTokens {
    fn from(request: pb::InvalidateUserTokensRequest) -> Self {
        let pb::InvalidateUserTokensRequest { user, issued_before, channel, expire_at } = request;
        Self { user, issued_before, channel, expire_at }
    }
}

impl From<Connected> for pb::ConnectionsResult {
    fn from(connected: Connected) -> Self {
        let Connected { connections, truncated } = connected;
        Self { connections: connections.into_iter().map(|(id, info)| (id, info.into())).collect(), truncated }
    }
}

impl From<ConnectionInfo> for pb::ConnectionInfo {
    fn from(info: ConnectionInfo) -> Self {
        let ConnectionInfo { app_name, app_version, transport, protocol, user, state, connected_at } = info;
        let state = Some(state.into());
        Self { app_name, app_version, transport, protocol, user, state, connected_at: seconds(connected_at) }
    }
}

impl From<ConnectionState> for pb::ConnectionState {
    fn from(state: ConnectionState) -> Self {
        let ConnectionState { channels, more_channels, connection_token, subscription_tokens } = state;
        let source = |context: crate::api::ChannelContext| pb::ChannelContext { source: context.source };
        Self {
            channels: channels.into_iter().map(|(channel, context)| (channel, source(context))).collect(),
            more_channels,
            connection_token: connection_token.map(|TokenInfo { uid, issued_at }| pb::ConnectionTokenInfo {
                uid,
                issued_at: seconds(issued_at),
            }),
            subscription_tokens: subscription_tokens
                .into_iter()
                .map(|(channel, TokenInfo { uid, issued_at })| {
                    (channel, pb::SubscriptionTokenInfo { uid, issued_at: seconds(issued_at) })
                })
                .collect(),
        }
    }
}

impl From<pb::ScheduleListRequest> for ScheduleList {
    fn from(request: pb::ScheduleListRequest) -> Self {
        let pb::ScheduleListRequest { channel, limit, cursor } = request;
        Self { channel, limit, cursor }
    }
}

impl From<Schedules> for pb::ScheduleListResult {
    fn from(listed: Schedules) -> Self {
        let Schedules { schedules, cursor, total } = listed;
        let schedule = |listed: Listed| {
            let Listed { id, channel, at, cron, timezone, missed, data_bytes } = listed;
            pb::Schedule { id, channel, at, cron, timezone, missed, data_bytes }
        };
        Self { schedules: schedules.into_iter().map(schedule).collect(), cursor, total }
    }
}

impl From<pb::ScheduleCancelRequest> for ScheduleCancel {
    fn from(request: pb::ScheduleCancelRequest) -> Self {
        Self { id: request.id }
    }
}

impl From<CancelResult> for pb::ScheduleCancelResult {
    fn from(result: CancelResult) -> Self {
        Self { outcome: result.outcome }
    }
}

fn seconds(since_1970: u64) -> i64 {
    i64::try_from(since_1970).unwrap_or(i64::MAX)
}
