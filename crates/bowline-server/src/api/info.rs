//! What there is: channels and nodes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{is_unset, nullable};
use super::method::Request;
use crate::config::Config;
use crate::node::{ApiError, NodeInfo};
use crate::ops::process;

/// Lists the channels that somebody is subscribed to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Channels {
    #[serde(deserialize_with = "nullable")]
    pub(crate) pattern: String,
}

/// The channels by their names.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Found {
    pub(crate) channels: BTreeMap<String, Subscribers>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Subscribers {
    pub(crate) num_clients: u32,
}

impl Request for Channels {
    type Answer = Found;

    async fn call(self, api: &Api) -> Result<Found, ApiError> {
        let channels = api.node().channels(&self.pattern).into_iter();
        Ok(Found {
            channels: channels.map(|(name, num_clients)| (name, Subscribers { num_clients })).collect(),
        })
    }
}

/// Asks what the nodes are and hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Info {}

/// The nodes: this one.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Nodes {
    pub(crate) nodes: [NodeResult; 1],
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NodeResult {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) version: &'static str,
    pub(crate) num_clients: u64,
    pub(crate) num_users: u64,
    pub(crate) num_channels: u64,
    pub(crate) num_subs: u64,
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) uptime: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<ProcessResult>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProcessResult {
    pub(crate) rss: u64,
}

impl Request for Info {
    type Answer = Nodes;

    async fn call(self, api: &Api) -> Result<Nodes, ApiError> {
        let NodeInfo { uid, version, num_clients, num_users, num_channels, num_subs, uptime_seconds } =
            api.node().info();
        Ok(Nodes {
            nodes: [NodeResult {
                uid,
                name: api.node_name.clone(),
                version,
                num_clients,
                num_users,
                num_channels,
                num_subs,
                uptime: uptime_seconds,
                process: process::resident_bytes().map(|rss| ProcessResult { rss }),
            }],
        })
    }
}

/// The name by which people know the node: the one it was given, or its host and the port of its clients.
pub(super) fn node_name(config: &Config) -> String {
    if !config.node.name.is_empty() {
        return config.node.name.clone();
    }
    let port = config.http_server.port;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
    format!("{host}_{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_name_it_was_given() {
        let mut config = Config::default();
        assert!(node_name(&config).ends_with("_8000"));
        "eu-1".clone_into(&mut config.node.name);
        assert_eq!(node_name(&config), "eu-1");
    }
}
