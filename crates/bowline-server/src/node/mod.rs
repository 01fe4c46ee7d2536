//! The state of the server: who is connected, who is in which channel, what was published. No sockets.
//!
//! Sessions and the server API share one [`Node`]. It owns the table of channels, the table of users, the store and
//! the counters; a connection owns its [`Outbox`] and gives clones of it to the node. Nothing here waits but for the store:
//! every other operation is done when it returns, which is what makes a publication's path one function to read:
//! resolve → authorise → append (→ the commit) → encode once → fan out (`publish`).
//!
//! | module | what it holds |
//! |---|---|
//! | [`outbox`], [`frame`], `forms` | a connection's outgoing queue, what lies in it, and one message in several forms |
//! | `hub`, `channel` | the table of channels; one channel's members and the order in which things reach them |
//! | `membership` | a session's hold on one subscription |
//! | `connection` | the table of users, a session's hold on its place there, and what the connection has |
//! | `connections`, `revoked` | what operators are told about connections; who is refused although their token holds |
//! | `subscriptions`, `expiry` | the list of a connection's subscriptions; when what was granted ends |
//! | `resolve`, `authorise` | a channel name's options; who may do what |
//! | `publish`, [`history`] | the way in and the way back |
//! | `line`, `room` | publications that wait for the disk before they are delivered, and how many bytes of them may |
//! | [`api`] | the operations of the server API |
//! | [`stats`] | counters that add up |
//!
//! # Invariants
//!
//! 1. Locks are taken in the order what a connection has, shard of a table, channel, queue or store shard; none is
//!    held across an await.
//! 2. What a session holds of the node (registration, memberships) is given back by its destructors, so that a
//!    connection that ends in whatever way leaves nothing behind.

pub mod api;
pub mod authorise;
pub(crate) mod channel;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod expiry;
pub(crate) mod forms;
pub mod frame;
pub mod history;
mod hub;
mod line;
pub(crate) mod membership;
pub mod outbox;
mod publish;
mod resolve;
pub(crate) mod revoked;
mod room;
pub mod stats;
pub(crate) mod subscriptions;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use bowline::{Cancelled, Scope};
use bowline_protocol::channel::ChannelRules;
use bowline_store::StreamStore;
use tokio::time::Instant;

pub use self::api::{ApiError, NodeInfo, PublishParams, Publishing, RefreshParams, SubscribeParams, Target};
pub use self::authorise::{Action, Decision, Relation, Subject};
pub use self::frame::{Compression, Frame, Wire};
pub use self::history::HistoryQuery;
pub use self::outbox::{Drained, Outbox, PushError};
pub(crate) use self::publish::{Outgoing, check_format, not_committed};
pub(crate) use self::resolve::ResolvedChannel;
pub use self::stats::{Deliveries, Refusal, Stats};

use self::connection::Users;
use self::hub::Hub;
use self::line::Lines;
use self::revoked::Revoked;
use self::stats::Counters;
use crate::config::Config;
use crate::events::Events;
use crate::net::tls::Tls;
use crate::proxy::Proxies;
use crate::scheduled::Scheduled;
use crate::store::DataDirectory;
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
    proxies: Proxies,
    scheduled: Arc<Scheduled>,
    store: Arc<dyn StreamStore>,
    hub: Hub,
    users: Users,
    revoked: Revoked,
    events: Arc<Events>,
    counters: Counters,
    tls: OnceLock<Box<[Arc<Tls>]>>,
    data: OnceLock<DataDirectory>,
    /// Without them, the store commits at once.
    lines: OnceLock<Lines>,
}

impl Node {
    /// Makes a node without connections. The caller sweeps the store from time to time ([`Node::sweep`]).
    #[must_use]
    pub fn new(config: Arc<Config>, store: Arc<dyn StreamStore>) -> Arc<Self> {
        let rules = resolve::rules(&config.channel);
        let events = Arc::new(Events::new(&config, rules.clone()));
        Arc::new(Self {
            uid: uuid::Uuid::new_v4().to_string(),
            began: Instant::now(),
            rules,
            tokens: TokenVerifier::from_config(&config.client),
            proxies: Proxies::new(&config),
            scheduled: Arc::new(Scheduled::new(Arc::clone(&store), (&config.schedule).into())),
            config,
            store,
            hub: Hub::new(Arc::clone(&events)),
            events,
            users: Users::new(),
            revoked: Revoked::default(),
            counters: Counters::new(),
            tls: OnceLock::new(),
            data: OnceLock::new(),
            lines: OnceLock::new(),
        })
    }

    /// Starts what the node does by itself, in the scope of the server: fetching the keys of tokens, telling applications
    /// what happens, delivering what a store on disk has committed.
    pub(crate) fn start(self: &Arc<Self>, s: &Scope<Cancelled>) {
        if self.data().is_some() {
            self.open_lines(s);
        }
        self.tokens.start(s);
        self.events.start(s);
    }

    /// Lets publications wait for their commit before they are delivered.
    pub(crate) fn open_lines(self: &Arc<Self>, s: &Scope<Cancelled>) {
        // Once: a server runs once.
        let _ = self.lines.set(Lines::open(self, s, self.config.store.queue_max_size.get()));
    }

    /// Says that nobody publishes any more: what waits is delivered, and the tasks end.
    pub(crate) fn end(&self) {
        self.events.end();
        if let Some(lines) = self.lines.get() {
            lines.end();
        }
    }

    /// Publications that are on their way to the disk, or from there to subscribers.
    pub(crate) fn undelivered(&self) -> usize {
        self.lines.get().map_or(0, Lines::depth)
    }

    /// Who is told what happens.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Remembers the listeners that encrypt, so that their certificates can be told of.
    pub(crate) fn encrypts<'t>(&self, tls: impl Iterator<Item = &'t Arc<Tls>>) {
        // Once: listeners are bound once.
        let _ = self.tls.set(tls.cloned().collect());
    }

    /// The listeners that encrypt.
    pub(crate) fn tls(&self) -> &[Arc<Tls>] {
        self.tls.get().map_or(&[], |tls| tls)
    }

    /// Remembers that the store is on disk, so that what it does there can be told of.
    pub(crate) fn keeps_in(&self, data: DataDirectory) {
        // Once: the store is opened once.
        let _ = self.data.set(data);
    }

    /// Where the store is on disk; `None` if it is in memory.
    pub(crate) fn data(&self) -> Option<&DataDirectory> {
        self.data.get()
    }

    /// What is to be published later.
    pub(crate) fn scheduled(&self) -> &Arc<Scheduled> {
        &self.scheduled
    }

    /// The applications that are asked about their clients.
    pub(crate) fn proxies(&self) -> &Proxies {
        &self.proxies
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

    /// Frees what has expired in the store and in the lists of who is refused, and connections to applications that nobody
    /// needs. The owner of the node calls it from time to time.
    pub fn sweep(&self, now: Instant) -> bowline_store::Swept {
        self.revoked.sweep();
        self.proxies.sweep(now);
        self.store.sweep(now)
    }

    /// What the store holds.
    #[must_use]
    pub fn store_stats(&self) -> bowline_store::StoreStats {
        self.store.stats()
    }

    /// An outgoing queue for a new connection that speaks JSON, with the configured bound.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.outbox_for(Wire::JSON)
    }

    /// An outgoing queue for a new connection that takes its messages in the form of `wire`.
    #[must_use]
    pub fn outbox_for(&self, wire: Wire) -> Outbox {
        Outbox::with_wire(self.config.client.queue_max_size, wire)
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
