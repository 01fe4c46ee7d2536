//! What clients send: commands and the requests in them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Deserialize;

use super::{StreamPosition, nullable};
use crate::{Payload, Secret};

/// The number a client gives a command; the reply carries the same.
pub type CommandId = NonZeroU32;

/// One message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The answer to a ping. Any command without an id counts as one, unless it is a `send`.
    Pong,
    /// A message without an id, which gets no reply.
    Send(SendRequest),
    /// A request that is answered by the reply of the same id.
    Request {
        /// The id for the reply.
        id: CommandId,
        /// What is asked for.
        request: Request,
    },
}

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Authenticates the connection; the first command.
    Connect(ConnectRequest),
    /// Subscribes the connection to a channel.
    Subscribe(SubscribeRequest),
    /// Ends a subscription.
    Unsubscribe(UnsubscribeRequest),
    /// Publishes into a channel.
    Publish(PublishRequest),
    /// Asks who is subscribed to a channel.
    Presence(PresenceRequest),
    /// Asks how many are subscribed to a channel.
    PresenceStats(PresenceStatsRequest),
    /// Reads a channel's history.
    History(HistoryRequest),
    /// A client's ping; current servers answer that it is not available.
    Ping,
    /// A `send` that carries an id nevertheless; it still gets no reply.
    Send(SendRequest),
    /// Calls a method of the application.
    Rpc(RpcRequest),
    /// Presents a new connection token.
    Refresh(RefreshRequest),
    /// Presents a new subscription token.
    SubRefresh(SubRefreshRequest),
}

impl Request {
    /// Returns the name of the request, as it stands in the schema.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Publish(_) => "publish",
            Self::Presence(_) => "presence",
            Self::PresenceStats(_) => "presence_stats",
            Self::History(_) => "history",
            Self::Ping => "ping",
            Self::Send(_) => "send",
            Self::Rpc(_) => "rpc",
            Self::Refresh(_) => "refresh",
            Self::SubRefresh(_) => "sub_refresh",
        }
    }

    /// Returns the required field that is empty, if there is one. The server closes such a connection with
    /// [`Disconnect::BAD_REQUEST`](crate::Disconnect::BAD_REQUEST).
    pub fn missing_field(&self) -> Option<&'static str> {
        let (field, is_missing) = match self {
            Self::Subscribe(request) => ("channel", request.channel.is_empty()),
            Self::Unsubscribe(request) => ("channel", request.channel.is_empty()),
            Self::Publish(request) => ("channel", request.channel.is_empty()),
            Self::Presence(request) => ("channel", request.channel.is_empty()),
            Self::PresenceStats(request) => ("channel", request.channel.is_empty()),
            Self::History(request) => ("channel", request.channel.is_empty()),
            Self::SubRefresh(request) => ("channel", request.channel.is_empty()),
            Self::Refresh(request) => ("token", request.token.is_empty()),
            Self::Connect(_) | Self::Ping | Self::Send(_) | Self::Rpc(_) => return None,
        };
        is_missing.then_some(field)
    }
}

/// Authenticates a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConnectRequest {
    /// The connection token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// Application data, for example for a connect webhook.
    pub data: Payload,
    /// Positions of the server-side subscriptions the client had before.
    #[serde(deserialize_with = "nullable")]
    pub subs: BTreeMap<String, SubscribeRequest>,
    /// The kind of client, up to 16 characters by convention.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// The version of the client.
    #[serde(deserialize_with = "nullable")]
    pub version: String,
    /// Emulated HTTP headers, from clients that cannot set real ones.
    #[serde(deserialize_with = "nullable")]
    pub headers: BTreeMap<String, String>,
}

/// Subscribes to a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubscribeRequest {
    /// The channel.
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
    /// The subscription token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// Whether to recover the publications since `offset` in `epoch`.
    #[serde(deserialize_with = "nullable")]
    pub recover: bool,
    /// The epoch of the position to recover from; empty accepts any.
    #[serde(deserialize_with = "nullable")]
    pub epoch: String,
    /// The offset of the last publication the client has.
    #[serde(deserialize_with = "nullable")]
    pub offset: u64,
    /// Application data, for example for a subscribe webhook.
    pub data: Payload,
    /// Wish: track the position in the stream.
    #[serde(deserialize_with = "nullable")]
    pub positioned: bool,
    /// Wish: be able to recover.
    #[serde(deserialize_with = "nullable")]
    pub recoverable: bool,
    /// Wish: receive join and leave messages.
    #[serde(deserialize_with = "nullable")]
    pub join_leave: bool,
    /// The delta format the client understands, such as `fossil`.
    #[serde(deserialize_with = "nullable")]
    pub delta: String,
    /// The tags filter.
    #[serde(rename = "tf")]
    pub tags_filter: Option<Box<FilterNode>>,
    /// Bits of client features, see [`SubscribeRequest::FLAG_REJECT_UNRECOVERED`].
    #[serde(deserialize_with = "nullable")]
    pub flag: i64,
    /// The kind of subscription: zero is a stream, others are experimental.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub subscription_type: i32,
}

impl SubscribeRequest {
    /// The bit of `flag` by which a client wants an error instead of a subscription that could not recover.
    pub const FLAG_REJECT_UNRECOVERED: i64 = 2;

    /// Returns whether the client wants error 112 rather than a subscription that could not recover.
    pub fn rejects_unrecovered(&self) -> bool {
        self.flag & Self::FLAG_REJECT_UNRECOVERED != 0
    }
}

/// A node of a tags filter: a comparison if `op` is empty, otherwise a combination of `nodes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FilterNode {
    /// Empty, `and`, `or` or `not`.
    #[serde(deserialize_with = "nullable")]
    pub op: String,
    /// The tag to compare.
    #[serde(deserialize_with = "nullable")]
    pub key: String,
    /// The comparison, such as `eq` or `in`.
    #[serde(deserialize_with = "nullable")]
    pub cmp: String,
    /// The value to compare with.
    #[serde(deserialize_with = "nullable")]
    pub val: String,
    /// The values to compare with.
    #[serde(deserialize_with = "nullable")]
    pub vals: Vec<String>,
    /// The nodes to combine.
    #[serde(deserialize_with = "nullable")]
    pub nodes: Vec<FilterNode>,
}

/// Ends a subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UnsubscribeRequest {
    /// The channel.
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
}

/// Publishes into a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    /// The channel.
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
    /// The application's data.
    pub data: Payload,
    /// The kind of publication: zero is into a stream, others are experimental.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub publication_type: i32,
}

/// Asks who is subscribed to a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PresenceRequest {
    /// The channel.
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
}

/// Asks how many are subscribed to a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PresenceStatsRequest {
    /// The channel.
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
}

/// Reads a channel's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    /// The channel.
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
    /// The number of publications wanted: zero for none, negative for as many as the server gives.
    #[serde(deserialize_with = "nullable")]
    pub limit: i32,
    /// The position to read from.
    pub since: Option<StreamPosition>,
    /// Whether to read towards older publications.
    #[serde(deserialize_with = "nullable")]
    pub reverse: bool,
}

/// Sends data to the application without an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SendRequest {
    /// The application's data.
    pub data: Payload,
}

/// Calls a method of the application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RpcRequest {
    /// The application's data.
    pub data: Payload,
    /// The method, possibly `namespace:method`.
    #[serde(deserialize_with = "nullable")]
    pub method: String,
}

/// Presents a new connection token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RefreshRequest {
    /// The new token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
}

/// Presents a new subscription token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubRefreshRequest {
    /// The channel.
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
    /// The new token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// Zero for a refresh; others are experimental.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub refresh_type: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_required_field_is_named() {
        assert_eq!(Request::Subscribe(SubscribeRequest::default()).missing_field(), Some("channel"));
        assert_eq!(Request::Refresh(RefreshRequest::default()).missing_field(), Some("token"));
        assert_eq!(Request::Connect(ConnectRequest::default()).missing_field(), None);
        let named = PublishRequest { channel: "news".into(), ..Default::default() };
        assert_eq!(Request::Publish(named).missing_field(), None);
    }

    #[test]
    fn tokens_do_not_show_in_debug_output() {
        let request = ConnectRequest { token: "secret-token".into(), ..Default::default() };
        assert!(!format!("{request:?}").contains("secret-token"));
    }
}
