//! What the server sends: replies, and the results in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::{ClientInfo, CommandId, Publication, Push, nullable};
use crate::{ErrorCode, Payload, Secret};

/// One message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Asks the client for a [`Command::Pong`](crate::Command::Pong).
    Ping,
    /// Something the client did not ask for.
    Push(Push),
    /// A command succeeded.
    Result {
        /// The id of the command.
        id: CommandId,
        /// Its result, of the same kind as the request.
        result: CommandResult,
    },
    /// A command failed.
    Error {
        /// The id of the command.
        id: CommandId,
        /// Why.
        error: ErrorCode,
    },
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandResult {
    /// The connection is authenticated.
    Connect(ConnectResult),
    /// The subscription is made.
    Subscribe(SubscribeResult),
    /// The subscription is gone.
    Unsubscribe,
    /// The publication is accepted.
    Publish,
    /// Who is subscribed.
    Presence(PresenceResult),
    /// How many are subscribed.
    PresenceStats(PresenceStatsResult),
    /// Publications of the past.
    History(HistoryResult),
    /// The answer to a client's ping.
    Ping,
    /// What the application's method returned.
    Rpc(RpcResult),
    /// The connection's new expiry.
    Refresh(RefreshResult),
    /// The subscription's new expiry.
    SubRefresh(SubRefreshResult),
}

/// An authenticated connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConnectResult {
    /// The unique id of the connection.
    #[serde(deserialize_with = "nullable")]
    pub client: String,
    /// The version of the server.
    #[serde(deserialize_with = "nullable")]
    pub version: String,
    /// Whether the client must refresh its token.
    #[serde(deserialize_with = "nullable")]
    pub expires: bool,
    /// Seconds until the token expires.
    #[serde(deserialize_with = "nullable")]
    pub ttl: u32,
    /// Application data.
    pub data: Payload,
    /// The server-side subscriptions.
    #[serde(deserialize_with = "nullable")]
    pub subs: BTreeMap<String, SubscribeResult>,
    /// Seconds between the server's pings; zero if there are none.
    #[serde(deserialize_with = "nullable")]
    pub ping: u32,
    /// Whether the server wants pings answered.
    #[serde(deserialize_with = "nullable")]
    pub pong: bool,
    /// The secret by which an emulation request names this connection.
    #[serde(deserialize_with = "nullable")]
    pub session: Secret,
    /// The id of the server node, for emulation requests.
    #[serde(deserialize_with = "nullable")]
    pub node: String,
    /// The server's time in milliseconds since 1970, if configured.
    #[serde(deserialize_with = "nullable")]
    pub time: i64,
}

/// A subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubscribeResult {
    /// Whether the client must refresh the subscription.
    #[serde(deserialize_with = "nullable")]
    pub expires: bool,
    /// Seconds until the subscription expires.
    #[serde(deserialize_with = "nullable")]
    pub ttl: u32,
    /// Whether the client can recover after a reconnect.
    #[serde(deserialize_with = "nullable")]
    pub recoverable: bool,
    /// The stream's epoch.
    #[serde(deserialize_with = "nullable")]
    pub epoch: String,
    /// The recovered publications in rising offset order.
    #[serde(deserialize_with = "nullable")]
    pub publications: Vec<Publication>,
    /// Whether recovery succeeded.
    #[serde(deserialize_with = "nullable")]
    pub recovered: bool,
    /// The position to go on from: the stream's top, or after a recovery the offset that was asked for.
    #[serde(deserialize_with = "nullable")]
    pub offset: u64,
    /// Whether the server tracks the position.
    #[serde(deserialize_with = "nullable")]
    pub positioned: bool,
    /// Application data.
    pub data: Payload,
    /// Whether recovery was attempted.
    #[serde(deserialize_with = "nullable")]
    pub was_recovering: bool,
    /// Whether delta compression is on.
    #[serde(deserialize_with = "nullable")]
    pub delta: bool,
}

/// Who is subscribed to a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PresenceResult {
    /// The clients by their connection id.
    #[serde(deserialize_with = "shared_client_infos")]
    pub presence: BTreeMap<String, Arc<ClientInfo>>,
}

/// How many are subscribed to a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PresenceStatsResult {
    /// The number of connections.
    #[serde(deserialize_with = "nullable")]
    pub num_clients: u32,
    /// The number of distinct users.
    #[serde(deserialize_with = "nullable")]
    pub num_users: u32,
}

/// Publications of a channel's past, and the stream's top position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HistoryResult {
    /// The publications.
    #[serde(deserialize_with = "nullable")]
    pub publications: Vec<Publication>,
    /// The stream's epoch.
    #[serde(deserialize_with = "nullable")]
    pub epoch: String,
    /// The stream's top offset.
    #[serde(deserialize_with = "nullable")]
    pub offset: u64,
}

/// What a method of the application returned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RpcResult {
    /// The data.
    pub data: Payload,
}

/// The new expiry of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RefreshResult {
    /// The unique id of the connection; may be left unset.
    #[serde(deserialize_with = "nullable")]
    pub client: String,
    /// The version of the server; may be left unset.
    #[serde(deserialize_with = "nullable")]
    pub version: String,
    /// Whether the connection expires.
    #[serde(deserialize_with = "nullable")]
    pub expires: bool,
    /// Seconds until it does.
    #[serde(deserialize_with = "nullable")]
    pub ttl: u32,
}

/// The new expiry of a subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubRefreshResult {
    /// Whether the subscription expires.
    #[serde(deserialize_with = "nullable")]
    pub expires: bool,
    /// Seconds until it does.
    #[serde(deserialize_with = "nullable")]
    pub ttl: u32,
}

fn shared_client_infos<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Arc<ClientInfo>>, D::Error> {
    let infos: BTreeMap<String, ClientInfo> = nullable(deserializer)?;
    Ok(infos.into_iter().map(|(client, info)| (client, Arc::new(info))).collect())
}
