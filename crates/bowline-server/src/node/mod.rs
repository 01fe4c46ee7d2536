//! The state of the server: who is connected, who is in which channel, what was published. No sockets, no tasks.
//!
//! Sessions and the server API share one [`Node`]. It owns the table of channels, the table of users, the store and
//! the counters; a connection owns its [`Outbox`] and gives clones of it to the node. Nothing here waits: every
//! operation is done when it returns, which is what makes a publication's path one function to read:
//! resolve → authorise → append → encode once → fan out (`publish`).
//!
//! | module | what it holds |
//! |---|---|
//! | [`outbox`], [`frame`] | a connection's outgoing queue, and what lies in it |
//! | `hub`, `channel` | the table of channels; one channel's members and the order in which things reach them |
//! | `membership` | a session's hold on one subscription |
//! | `connection` | the table of users and a session's hold on its place there |
//! | `resolve`, `authorise` | a channel name's options; who may do what |
//! | `publish`, [`history`] | the way in and the way back |
//! | [`api`] | the operations of the server API |
//! | [`stats`] | counters that add up |
//!
//! # Invariants
//!
//! 1. Locks are taken in the order shard of a table, channel, queue or store shard; none is held across an await.
//! 2. What a session holds of the node (registration, memberships) is given back by its destructors, so that a
//!    connection that ends in whatever way leaves nothing behind.

pub mod api;
pub mod authorise;
pub(crate) mod channel;
pub(crate) mod connection;
pub mod frame;
pub mod history;
mod hub;
pub(crate) mod membership;
pub mod outbox;
mod publish;
mod resolve;
pub mod stats;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bowline_protocol::channel::ChannelRules;
use bowline_store::StreamStore;
use tokio::time::Instant;

pub use self::api::{ApiError, NodeInfo, PublishParams, Target};
pub use self::authorise::{Action, Decision, Relation, Subject};
pub use self::frame::Frame;
pub use self::history::HistoryQuery;
pub use self::outbox::{Drained, Outbox, PushError};
pub(crate) use self::publish::Outgoing;
pub(crate) use self::resolve::ResolvedChannel;
pub use self::stats::{Deliveries, Refusal, Stats};

use self::connection::Users;
use self::hub::Hub;
use self::stats::Counters;
use crate::config::Config;
use crate::token::TokenVerifier;

/// The version the server tells its clients and back ends.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The state of the server. See the [module](self).
pub struct Node {
    uid: String,
    began: Instant,
    config: Arc<Config>,
    rules: ChannelRules,
    tokens: TokenVerifier,
    store: Arc<dyn StreamStore>,
    hub: Hub,
    users: Users,
    counters: Counters,
}

impl Node {
    /// Makes a node without connections. The caller sweeps the store from time to time ([`Node::sweep`]).
    #[must_use]
    pub fn new(config: Arc<Config>, store: Arc<dyn StreamStore>) -> Arc<Self> {
        Arc::new(Self {
            uid: uuid::Uuid::new_v4().to_string(),
            began: Instant::now(),
            rules: resolve::rules(&config.channel),
            tokens: TokenVerifier::from_config(&config.client),
            config,
            store,
            hub: Hub::new(),
            users: Users::new(),
            counters: Counters::new(),
        })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Id of this life of the process.
    #[must_use]
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// A snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    /// Frees what has expired in the store. The owner of the node calls it from time to time.
    pub fn sweep(&self, now: Instant) -> bowline_store::Swept {
        self.store.sweep(now)
    }

    /// What the store holds.
    #[must_use]
    pub fn store_stats(&self) -> bowline_store::StoreStats {
        self.store.stats()
    }

    /// An outgoing queue for a new connection, with the configured bound.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.config.client.queue_max_size)
    }

    pub(crate) fn tokens(&self) -> &TokenVerifier {
        &self.tokens
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Node")
            .field("uid", &self.uid)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
