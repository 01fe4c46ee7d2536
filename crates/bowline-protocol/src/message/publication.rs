//! What travels through channels: publications, who published them, and where they stand in their stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use super::nullable;
use crate::Payload;

/// One message in a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Publication {
    /// The application's data. On a subscription that negotiated delta it is a JSON string in JSON encoding.
    pub data: Payload,
    /// The publishing client; unset if the server API published.
    #[serde(deserialize_with = "shared_client_info")]
    pub info: Option<Arc<ClientInfo>>,
    /// The place in the channel's stream, from 1; zero if the publication is not stored in history.
    #[serde(deserialize_with = "nullable")]
    pub offset: u64,
    /// Labels that tags filters look at.
    #[serde(deserialize_with = "nullable")]
    pub tags: BTreeMap<String, String>,
    /// Whether `data` is a difference to the previous publication's data.
    #[serde(deserialize_with = "nullable")]
    pub delta: bool,
    /// The time of publishing in milliseconds since 1970; normally not sent.
    #[serde(deserialize_with = "nullable")]
    pub time: i64,
    /// The stream's epoch, set on the publication with offset 1 only.
    #[serde(deserialize_with = "nullable")]
    pub epoch: String,
}

/// Who a connection is, as other clients see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClientInfo {
    /// The application's user id; empty for an anonymous user.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// The unique id of the connection.
    #[serde(deserialize_with = "nullable")]
    pub client: String,
    /// Application data about the connection.
    pub conn_info: Payload,
    /// Application data about the connection's subscription to this channel.
    pub chan_info: Payload,
}

/// A place in a stream: an offset within one life (epoch) of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StreamPosition {
    /// The offset of the last publication seen; zero before the first.
    #[serde(deserialize_with = "nullable")]
    pub offset: u64,
    /// Which life of the stream the offset belongs to.
    #[serde(deserialize_with = "nullable")]
    pub epoch: String,
}

fn shared_client_info<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Arc<ClientInfo>>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(Arc::new))
}
