//! Sockets: two listeners, the HTTP that comes in on them, and the WebSockets some of it becomes.
//!
//! ```text
//! accept ─▶ first byte ─▶ HTTP (hyper) ─┬─▶ answer: server API, demo page, operations
//!                                       └─▶ 101 ─▶ WebSocket: socket ⇄ Session ⇄ Outbox
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `listener` | the accept loop and the group that owns its connections |
//! | `places` | how many connections the public listener holds, in all and per address |
//! | `http`, `timed_io` | one connection's HTTP, until it ends or becomes a WebSocket; the time each phase of it has |
//! | `public`, `internal` | what each listener answers; the server API is on both |
//! | `upgrade` | the checks before a 101 |
//! | `websocket` | one WebSocket: one task, reader and writer in one loop |
//! | `writer` | frames to as few writes as possible |
//! | `linger` | closing a socket so that the peer gets to read our last words |
//!
//! # The task tree
//!
//! ```text
//! server ─┬─ public ──── [group] connections ── connection, connection, …
//!         ├─ internal ── [group] connections ── internal connection, …
//!         └─ sweep
//! ```
//!
//! # End
//!
//! When told to stop, both listeners close their sockets, every client is closed with 3001, HTTP connections finish the
//! request in hand, those that have asked for nothing are closed, and the server returns when the last connection is gone.

mod http;
mod internal;
mod linger;
mod listener;
mod places;
mod public;
mod timed_io;
mod upgrade;
mod websocket;
mod writer;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, Either, race, scope};
use bowline_protocol::Disconnect;
use bowline_store::MemoryStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use self::places::Places;
use crate::api::Api;
use crate::config::Config;
use crate::node::Node;
use crate::ops::process;

/// Time between two looks for what has expired in the store.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A server whose sockets are bound and which has not begun to accept.
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    public: TcpListener,
    internal: TcpListener,
    places: Arc<Places>,
    dev: bool,
}

/// What every connection needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) node: Arc<Node>,
    pub(crate) api: Arc<Api>,
    /// Becomes true when the server is told to stop.
    pub(crate) stopping: watch::Receiver<bool>,
    /// The demo page, with `--dev`.
    pub(crate) page: Option<Arc<public::Page>>,
}

impl Shared {
    /// Waits until the server is told to stop.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        stopped(self.stopping.clone())
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the server itself is gone.
    let _ = stopping.wait_for(|stop| *stop).await;
}

impl Server {
    /// Binds both listeners.
    ///
    /// # Errors
    ///
    /// [`BindError`] says which address could not be bound and why.
    pub async fn bind(config: Config, dev: bool) -> Result<Self, BindError> {
        let http = &config.http_server;
        let keys = ["http_server.address", "http_server.port"];
        let public = listener::bind((http.address, http.port).into(), keys).await?;
        let keys = ["http_server.internal_address", "http_server.internal_port"];
        let internal = listener::bind((http.internal_address, http.internal_port).into(), keys).await?;
        let places = Arc::new(Places::new(process::look().max_fds, http.connections_per_address));
        let node = Node::new(Arc::new(config), Arc::new(MemoryStore::default()));
        Ok(Self { node, public, internal, places, dev })
    }

    /// The state of the server.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Where clients connect.
    ///
    /// # Panics
    ///
    /// If the system does not know the address of a socket it has bound.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.public.local_addr().expect("a bound socket has an address")
    }

    /// Where back ends and operators connect.
    ///
    /// # Panics
    ///
    /// If the system does not know the address of a socket it has bound.
    #[must_use]
    pub fn internal_address(&self) -> SocketAddr {
        self.internal.local_addr().expect("a bound socket has an address")
    }

    /// How many connections there may be on the public listener, by the limit of open files; `None` if that is unknown.
    #[must_use]
    pub fn max_connections(&self) -> Option<usize> {
        Some(self.places.max()).filter(|max| *max < usize::MAX)
    }

    /// Serves until `stop` is ready, then closes every connection and returns when all are gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping it aborts every connection; clients are not told why.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled before every connection was gone.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Cancelled> {
        let (stop_all, stopping) = watch::channel(false);
        let page = self.dev.then(|| Arc::new(public::Page::new(&self)));
        let Self { node, public, internal, places, .. } = self;
        let api = Arc::new(Api::new(Arc::clone(&node)));
        let shared = Shared { node: Arc::clone(&node), api, stopping, page };
        scope("server", async |s| {
            let places = Some(places);
            s.spawn("public", listener::run(public, shared.clone(), listener::Face::Public, places));
            s.spawn("internal", listener::run(internal, shared.clone(), listener::Face::Internal, None));
            s.spawn("sweep", sweep(shared));
            stop.await;
            // First refuse, then close: whoever gets in between sees the flag and closes itself.
            let _ = stop_all.send(true);
            node.disconnect_all(&Disconnect::SHUTDOWN);
            Ok(())
        })
        .await
    }
}

/// Frees what has expired, until the server stops.
async fn sweep(shared: Shared) -> Result<(), Cancelled> {
    while let Either::Right(()) = race(shared.stopped(), tokio::time::sleep(SWEEP_INTERVAL)).await {
        shared.node.sweep(Instant::now());
    }
    Ok(())
}

/// A listener could not be bound.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    keys: [&'static str; 2],
    source: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, keys: [host, port], source } = self;
        write!(f, "cannot listen on {address}: {source}; choose another with `{host}` or `{port}`")
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
