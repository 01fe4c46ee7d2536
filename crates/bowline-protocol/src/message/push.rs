//! What the server sends unasked.

use std::sync::Arc;

use serde::Deserialize;

use super::{ClientInfo, ConnectResult, Publication, nullable};
use crate::{Disconnect, Payload, UnsubscribeCode};

/// One message the server sends unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// A publication in a channel.
    Publication {
        /// The channel.
        channel: Arc<str>,
        /// The publication.
        publication: Publication,
    },
    /// A client subscribed to a channel.
    Join {
        /// The channel.
        channel: Arc<str>,
        /// The client.
        info: Arc<ClientInfo>,
    },
    /// A client left a channel.
    Leave {
        /// The channel.
        channel: Arc<str>,
        /// The client.
        info: Arc<ClientInfo>,
    },
    /// The server ended a subscription of this client.
    Unsubscribe {
        /// The channel.
        channel: Arc<str>,
        /// Why.
        code: UnsubscribeCode,
    },
    /// The server subscribed this client to a channel.
    Subscribe {
        /// The channel.
        channel: Arc<str>,
        /// Where the subscription starts.
        subscription: SubscribePush,
    },
    /// Application data for this client.
    Message {
        /// The data.
        data: Payload,
    },
    /// The first message on a unidirectional transport.
    Connect(Box<ConnectResult>),
    /// The server closes the connection, on transports without close frames.
    Disconnect(Disconnect),
    /// The connection's expiry changed.
    Refresh {
        /// Whether the connection expires.
        expires: bool,
        /// Seconds until it does.
        ttl: u32,
    },
}

/// A subscription that the server made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubscribePush {
    /// Whether the client can recover after a reconnect.
    #[serde(deserialize_with = "nullable")]
    pub recoverable: bool,
    /// The stream's epoch.
    #[serde(deserialize_with = "nullable")]
    pub epoch: String,
    /// The stream's top offset.
    #[serde(deserialize_with = "nullable")]
    pub offset: u64,
    /// Whether the server tracks the position.
    #[serde(deserialize_with = "nullable")]
    pub positioned: bool,
    /// Application data.
    pub data: Payload,
}
