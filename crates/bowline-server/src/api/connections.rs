//! Who is connected, and from where.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{is_unset, nullable};
use super::method::Request;
use crate::node::ApiError;
use crate::node::connections::ConnectionState;
use crate::node::revoked::TokenTrace;

/// Lists connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Connections {
    /// Whose they are. Empty for everybody's.
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    /// How many at most: 1,000 if it is 0, and no more than 10,000.
    #[serde(deserialize_with = "nullable")]
    pub(crate) limit: u32,
}

/// The connections by their ids.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Connected {
    pub(crate) connections: BTreeMap<String, ConnectionInfo>,
    /// Whether there are others beyond the limit.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) truncated: bool,
}

/// One connection.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConnectionInfo {
    /// What the client says its application is called.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) app_name: String,
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) app_version: String,
    pub(crate) transport: String,
    /// `json` or `protobuf`.
    pub(crate) protocol: String,
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) user: String,
    pub(crate) state: State,
    /// In seconds since 1970.
    pub(crate) connected_at: u64,
}

/// What a connection has.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct State {
    /// What it is subscribed to: at most 128 channels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) channels: BTreeMap<String, ChannelContext>,
    /// Channels beyond those.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) more_channels: u32,
    /// The token that let it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection_token: Option<TokenInfo>,
    /// The tokens that let it subscribe, by channel.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) subscription_tokens: BTreeMap<String, TokenInfo>,
}

/// Why a connection is subscribed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChannelContext {
    /// 1 its connection token, 3 a subscription token, 5 the channel's name, 6 the channel's options, 9 its personal channel,
    /// 10 the server API.
    pub(crate) source: u32,
}

/// A token, without what it says.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TokenInfo {
    /// Its claim `jti`, by which it can be revoked.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) uid: String,
    /// Its claim `iat`, in seconds since 1970.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) issued_at: u64,
}

impl From<TokenTrace> for TokenInfo {
    fn from(token: TokenTrace) -> Self {
        Self {
            uid: token.id.map(String::from).unwrap_or_default(),
            issued_at: token.issued_at.unwrap_or_default(),
        }
    }
}

impl From<ConnectionState> for ConnectionInfo {
    fn from(connection: ConnectionState) -> Self {
        let mut state = State {
            channels: BTreeMap::new(),
            more_channels: u32::try_from(connection.more_channels).unwrap_or(u32::MAX),
            connection_token: connection.token.map(TokenInfo::from),
            subscription_tokens: BTreeMap::new(),
        };
        for (channel, found) in connection.channels {
            if let Some(token) = found.token {
                state.subscription_tokens.insert(channel.to_string(), token.into());
            }
            state.channels.insert(channel.to_string(), ChannelContext { source: found.source });
        }
        Self {
            app_name: connection.app_name,
            app_version: connection.app_version,
            transport: connection.transport.to_owned(),
            protocol: connection.protocol.to_owned(),
            user: connection.user,
            state,
            connected_at: connection.connected_at,
        }
    }
}

impl Request for Connections {
    type Answer = Connected;

    async fn call(self, api: &Api) -> Result<Connected, ApiError> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let (connections, truncated) = api.node().connections(&self.user, limit);
        let connections = connections.into_iter().map(|(client, state)| (client, state.into())).collect();
        Ok(Connected { connections, truncated })
    }
}
