//! What operators are told about connections: a snapshot of each, bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_protocol::Encoding;

use super::Node;
use super::connection::Connection;
use super::revoked::TokenTrace;
use super::subscriptions::{Origin, Subscription};

/// Connections that one call lists unless it says how many.
const DEFAULT_LIMIT: usize = 1_000;

/// Connections that one call lists at most.
const MAX_LIMIT: usize = 10_000;

/// Channels that are listed of one connection.
const MAX_CHANNELS: usize = 128;

/// One connection at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionState {
    pub(crate) user: String,
    pub(crate) transport: &'static str,
    /// `json` or `protobuf`.
    pub(crate) protocol: &'static str,
    pub(crate) app_name: String,
    pub(crate) app_version: String,
    /// In seconds since 1970.
    pub(crate) connected_at: u64,
    pub(crate) token: Option<TokenTrace>,
    /// What it is subscribed to, at most [`MAX_CHANNELS`], by name.
    pub(crate) channels: BTreeMap<Arc<str>, ChannelState>,
    /// Channels beyond those.
    pub(crate) more_channels: usize,
}

/// One subscription of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelState {
    /// Why it is subscribed, by the number that Centrifugo's back ends know it by.
    pub(crate) source: u32,
    pub(crate) token: Option<TokenTrace>,
}

/// Some connections by their ids, and whether there are others.
pub(crate) type Listed = (BTreeMap<String, ConnectionState>, bool);

impl Node {
    /// The connections of `user`, or of everybody if that is empty: at most `limit`, or 1,000 if that is 0.
    pub(crate) fn connections(&self, user: &str, limit: usize) -> Listed {
        let limit = if limit == 0 { DEFAULT_LIMIT } else { limit.min(MAX_LIMIT) };
        let mut found = if user.is_empty() { self.users.some(limit + 1) } else { self.users.of(user) };
        let is_cut = found.len() > limit;
        found.truncate(limit);
        let state =
            |connection: &Arc<Connection>| (connection.info.client.clone(), self.state_of(connection));
        (found.iter().map(state).collect(), is_cut)
    }

    fn state_of(&self, connection: &Connection) -> ConnectionState {
        let (app_name, app_version) = connection.about.app();
        let held = connection.held();
        let channels = held.subscriptions.iter().take(MAX_CHANNELS).map(|subscription| {
            let state = ChannelState {
                source: self.source(&connection.info.user, subscription),
                token: subscription.token.as_deref().cloned(),
            };
            (Arc::clone(subscription.membership.channel()), state)
        });
        ConnectionState {
            user: connection.info.user.clone(),
            transport: connection.about.transport,
            protocol: match connection.outbox.wire().encoding {
                Encoding::Json => "json",
                Encoding::Protobuf => "protobuf",
            },
            app_name: app_name.to_owned(),
            app_version: app_version.to_owned(),
            connected_at: connection.about.connected_at,
            token: held.token.as_deref().cloned(),
            channels: channels.collect(),
            more_channels: held.subscriptions.len().saturating_sub(MAX_CHANNELS),
        }
    }

    fn source(&self, user: &str, subscription: &Subscription) -> u32 {
        const CONNECTION_TOKEN: u32 = 1;
        const SUBSCRIPTION_TOKEN: u32 = 3;
        const USER_LIMITED: u32 = 5;
        const CLIENT_ALLOWED: u32 = 6;
        const USER_PERSONAL: u32 = 9;
        const SERVER_API: u32 = 10;
        let channel = subscription.membership.channel();
        let names_user = || self.rules.parse(channel).is_ok_and(|name| name.lists_user(user));
        match subscription.origin {
            Origin::Token => CONNECTION_TOKEN,
            Origin::Client if subscription.token.is_some() => SUBSCRIPTION_TOKEN,
            Origin::Client if names_user() => USER_LIMITED,
            Origin::Client => CLIENT_ALLOWED,
            Origin::Server if names_user() => USER_PERSONAL,
            Origin::Server => SERVER_API,
        }
    }
}
