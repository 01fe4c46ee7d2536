//! What there is: channels and nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{is_unset, nullable};
use super::method::Request;
use crate::node::{ApiError, NodeInfo};
use crate::ops::process;

/// Lists the channels that somebody is subscribed to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Channels {
    #[serde(deserialize_with = "nullable")]
    pattern: String,
}

/// The channels by their names.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    channels: BTreeMap<String, Subscribers>,
}

#[derive(Debug, Serialize)]
struct Subscribers {
    num_clients: u32,
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
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {}

/// The nodes: this one.
#[derive(Debug, Serialize)]
pub(super) struct Nodes {
    nodes: [NodeResult; 1],
}

#[derive(Debug, Serialize)]
struct NodeResult {
    uid: String,
    name: String,
    version: &'static str,
    num_clients: u64,
    num_users: u64,
    num_channels: u64,
    num_subs: u64,
    #[serde(skip_serializing_if = "is_unset")]
    uptime: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessResult>,
}

#[derive(Debug, Serialize)]
struct ProcessResult {
    rss: u64,
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

/// The name by which people know the node: its host and the port of its clients.
pub(super) fn node_name(port: u16) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
    format!("{host}_{port}")
}
