//! Who is in a channel, and how many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{Who, nullable};
use super::method::Request;
use crate::node::ApiError;

/// Asks who is in a channel.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Presence {
    #[serde(deserialize_with = "nullable")]
    channel: String,
}

/// The connections by their id.
#[derive(Debug, Serialize)]
pub(super) struct Present {
    presence: BTreeMap<String, Who>,
}

impl Request for Presence {
    type Answer = Present;

    async fn call(self, api: &Api) -> Result<Present, ApiError> {
        let present = api.node().presence(&self.channel)?;
        Ok(Present { presence: present.into_iter().map(|(client, info)| (client, Who(info))).collect() })
    }
}

/// Asks how many are in a channel.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PresenceStats {
    #[serde(deserialize_with = "nullable")]
    channel: String,
}

/// How many connections and distinct users there are.
#[derive(Debug, Serialize)]
pub(super) struct Numbers {
    num_clients: u32,
    num_users: u32,
}

impl Request for PresenceStats {
    type Answer = Numbers;

    async fn call(self, api: &Api) -> Result<Numbers, ApiError> {
        let stats = api.node().presence_stats(&self.channel)?;
        Ok(Numbers { num_clients: stats.num_clients, num_users: stats.num_users })
    }
}
