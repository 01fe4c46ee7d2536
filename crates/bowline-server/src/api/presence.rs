//! Who is in a channel, and how many.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{Who, nullable};
use super::method::Request;
use crate::node::ApiError;

/// Asks who is in a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Presence {
    #[serde(deserialize_with = "nullable")]
    pub(crate) channel: String,
}

/// The connections by their id.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Present {
    pub(crate) presence: BTreeMap<String, Who>,
}

impl Request for Presence {
    type Answer = Present;

    async fn call(self, api: &Api) -> Result<Present, ApiError> {
        let present = api.node().presence(&self.channel)?;
        Ok(Present { presence: present.into_iter().map(|(client, info)| (client, info.into())).collect() })
    }
}

/// Asks how many are in a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct PresenceStats {
    #[serde(deserialize_with = "nullable")]
    pub(crate) channel: String,
}

/// How many connections and distinct users there are.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Numbers {
    pub(crate) num_clients: u32,
    pub(crate) num_users: u32,
}

impl Request for PresenceStats {
    type Answer = Numbers;

    async fn call(self, api: &Api) -> Result<Numbers, ApiError> {
        let stats = api.node().presence_stats(&self.channel)?;
        Ok(Numbers { num_clients: stats.num_clients, num_users: stats.num_users })
    }
}
