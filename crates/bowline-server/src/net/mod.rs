//! Sockets: two listeners, the HTTP that comes in on them, and the WebSockets some of it becomes.
//!
//! ```text
//! accept ─▶ first byte (─▶ TLS) ─▶ HTTP (hyper) ─┬─▶ answer: server API, demo page, operations
//!                                       ├─▶ 101 ─▶ WebSocket: socket ⇄ Session ⇄ Outbox
//!                                       ├─▶ 200 ─▶ stream:    socket ◀── Session ⇄ Outbox
//!                                       └─▶ uplink of a stream ──────────▶ its Session
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `listener` | the accept loop and the group that owns its connections |
//! | `places` | how many connections the public listener holds, in all and per address |
//! | `stream`, `tls` | a connection's bytes, encrypted or not; certificates and handshakes |
//! | `http`, `timed_io` | one connection's HTTP, until it ends or becomes a WebSocket; the time each phase of it has |
//! | `public`, `internal` | what each listener answers; the server API is on both |
//! | `upgrade` | the checks before a 101 |
//! | `websocket` | one WebSocket: one task, reader and writer in one loop |
//! | `streaming` | one streamed answer: HTTP streaming, server-sent events |
//! | `emulation` | the way up for connections that are streams |
//! | `cors` | requests of web pages of other origins |
//! | `writer` | frames to as few writes as possible |
//! | `linger` | closing a socket so that the peer gets to read our last words |
//!
//! # The task tree
//!
//! ```text
//! server ─┬─ public ──── [group] connections ── connection, connection, …
//!         ├─ internal ── [group] connections ── internal connection, …
//!         ├─ grpc ────── [group] connections ── gRPC connection, … (if it is switched on)
//!         ├─ uni grpc ── [group] connections ── uni gRPC connection, … (likewise)
//!         ├─ events ─── one for each application that is told what happens
//!         ├─ certificate                        one for each listener that encrypts
//!         ├─ store writer, store keeper         blocking, if there is a data directory
//!         ├─ store alerts                       as long as these: says when what they told is over
//!         ├─ delivery                           a few, likewise: what was committed goes out to subscribers
//!         ├─ scheduler                          publishes what is due
//!         └─ sweep
//! ```
//!
//! # End
//!
//! When told to stop, both listeners close their sockets, every client is closed with 3001, HTTP connections finish the
//! request in hand, those that have asked for nothing are closed, and when the last connection is gone the store is closed and
//! the server returns.

mod cors;
mod emulation;
mod http;
mod internal;
mod linger;
pub(crate) mod listener;
pub(crate) mod places;
mod public;
pub(crate) mod stream;
mod streaming;
mod timed_io;
pub(crate) mod tls;
mod turns;
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
use hyper::header::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use self::emulation::Sessions;
use self::places::Places;
use self::tls::Tls;
pub use self::tls::TlsError;
use self::turns::Turns;
use crate::api::Api;
use crate::config::Config;
use crate::grpc;
use crate::node::Node;
use crate::ops::process;
use crate::proxy::Headers;
use crate::scheduled;
pub use crate::store::OpenStoreError;
use crate::store::{self, OnDisk};

/// What is spoken on the public and the internal listener, as TLS calls it.
const HTTP1: &[u8] = b"http/1.1";

/// Time between two looks for what has expired in the store.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A server whose sockets are bound and which has not begun to accept.
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    public: TcpListener,
    internal: TcpListener,
    grpc: Option<grpc::Door>,
    uni_grpc: Option<grpc::Door>,
    public_tls: Option<Arc<Tls>>,
    internal_tls: Option<Arc<Tls>>,
    places: Arc<Places>,
    on_disk: Option<OnDisk>,
    dev: bool,
    is_echo: bool,
}

/// What every connection needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) node: Arc<Node>,
    pub(crate) api: Arc<Api>,
    /// The connections that take commands by requests.
    pub(crate) sessions: Arc<Sessions>,
    /// The turns of those who arrive.
    pub(crate) turns: Arc<Turns>,
    /// Becomes true when the server is told to stop.
    pub(crate) stopping: watch::Receiver<bool>,
    /// The demo page, with `--dev`.
    pub(crate) page: Option<Arc<public::Page>>,
    /// Whether WebSockets answer with what they get.
    pub(crate) is_echo: bool,
}

impl Shared {
    /// Waits until the server is told to stop.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        stopped(self.stopping.clone())
    }

    /// Keeps what applications want to be told of a client's own request.
    pub(crate) fn kept_headers(&self, headers: &HeaderMap, peer: SocketAddr) -> Option<Arc<Headers>> {
        let proxies = &self.node.config().http_server.trusted_proxies;
        let is_trusted = proxies.iter().any(|proxy| proxy.contains(peer.ip()));
        self.node.proxies().wanted_headers().of_request(headers, is_trusted)
    }

    /// Whether the server has no room for a further client, whoever it is. The table of users has the last word; asked before
    /// that, a full server spends nothing on verifying tokens.
    pub(crate) fn is_full(&self) -> bool {
        let limit = self.node.config().client.connection_limit;
        limit.is_some_and(|limit| self.node.counters().clients.value() >= limit.get() as u64)
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the server itself is gone.
    let _ = stopping.wait_for(|stop| *stop).await;
}

impl Server {
    /// Reads the certificates, binds the listeners and opens the data directory.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, sockets and data directory are let go.
    ///
    /// # Errors
    ///
    /// [`BindError`] says which address could not be bound, which certificate cannot be used, or what is wrong with the data
    /// directory, and why.
    pub fn bind(config: Config, dev: bool) -> impl Future<Output = Result<Self, BindError>> + Send {
        // On the heap before anything waits: who binds has no room for all settings in its future.
        Self::bind_with(Arc::new(config), dev)
    }

    async fn bind_with(config: Arc<Config>, dev: bool) -> Result<Self, BindError> {
        let http = &config.http_server;
        let public_tls = Tls::load(&http.tls, "http_server.tls", HTTP1).map_err(BindError::Tls)?;
        let internal_tls =
            Tls::load(&http.internal_tls, "http_server.internal_tls", HTTP1).map_err(BindError::Tls)?;
        let keys = ["http_server.address", "http_server.port"];
        let public = listener::bind((http.address, http.port).into(), keys).await?;
        let keys = ["http_server.internal_address", "http_server.internal_port"];
        let internal = listener::bind((http.internal_address, http.internal_port).into(), keys).await?;
        let api = &config.grpc_api;
        let grpc = match api.enabled {
            true => {
                let keys = ["grpc_api.address", "grpc_api.port"];
                Some(grpc::Door::open((api.address, api.port).into(), keys, &api.tls, "grpc_api.tls").await?)
            }
            false => None,
        };
        let uni = &config.uni_grpc;
        let uni_grpc = match uni.enabled {
            true => {
                let keys = ["uni_grpc.address", "uni_grpc.port"];
                Some(grpc::Door::open((uni.address, uni.port).into(), keys, &uni.tls, "uni_grpc.tls").await?)
            }
            false => None,
        };
        let places =
            Places::new(process::look().max_fds, http).with_rate(config.client.connection_rate_limit);
        let places = Arc::new(places);
        let store::Opened { streams, on_disk } =
            store::open(&config.store).await.map_err(BindError::Store)?;
        let node = Node::new(config, streams);
        if let Some(on_disk) = &on_disk {
            node.keeps_in(on_disk.data.clone());
        }
        let of_grpc = [&grpc, &uni_grpc].into_iter().flatten().filter_map(grpc::Door::tls);
        node.encrypts(public_tls.iter().chain(&internal_tls).chain(of_grpc));
        Ok(Self {
            node,
            public,
            internal,
            grpc,
            uni_grpc,
            public_tls,
            internal_tls,
            places,
            on_disk,
            dev,
            is_echo: false,
        })
    }

    /// Makes WebSockets answer with what they get: for test suites of the WebSocket protocol, which then meet the very loop,
    /// decoder and writer of a server that is in use.
    #[doc(hidden)]
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.is_echo = true;
        self
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

    /// Where back ends connect by gRPC, if that is switched on.
    ///
    /// # Panics
    ///
    /// If the system does not know the address of a socket it has bound.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(grpc::Door::address)
    }

    /// Where clients that only listen connect by gRPC, if that is switched on.
    ///
    /// # Panics
    ///
    /// If the system does not know the address of a socket it has bound.
    #[must_use]
    pub fn uni_grpc_address(&self) -> Option<SocketAddr> {
        self.uni_grpc.as_ref().map(grpc::Door::address)
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
        let Self {
            node,
            public,
            internal,
            grpc,
            uni_grpc,
            public_tls,
            internal_tls,
            places,
            on_disk,
            is_echo,
            ..
        } = self;
        let api = Arc::new(Api::new(Arc::clone(&node)));
        let (sessions, turns) = (Arc::default(), Arc::default());
        let shared = Shared { node: Arc::clone(&node), api, sessions, turns, stopping, page, is_echo };
        scope("server", async |s| {
            let at_work = on_disk.map(|on_disk| on_disk.start(s));
            node.start(s);
            if let Err(error) = node.scheduled().read() {
                tracing::error!(%error, "the schedules cannot be read; it is tried again");
            }
            let scheduler = scheduled::start(s, &node, shared.stopping.clone());
            for channel in node.proxies().channels() {
                s.spawn_daemon("gRPC to an application", channel.clone().keep());
            }
            let shared_places = Arc::clone(&places);
            let places = Some(places);
            let of_grpc = [&grpc, &uni_grpc].into_iter().flatten().filter_map(grpc::Door::tls);
            for tls in public_tls.iter().chain(&internal_tls).chain(of_grpc) {
                s.spawn("certificate", Arc::clone(tls).watch(shared.stopped()));
            }
            let (face, other) = (listener::Face::Public, listener::Face::Internal);
            let public = s.spawn("public", listener::run(public, shared.clone(), face, public_tls, places));
            let internal =
                s.spawn("internal", listener::run(internal, shared.clone(), other, internal_tls, None));
            let grpc = grpc.map(|grpc| s.spawn("grpc", grpc::run(grpc, shared.clone())));
            let uni_grpc = uni_grpc
                .map(|uni_grpc| s.spawn("uni grpc", grpc::run_uni(uni_grpc, shared.clone(), shared_places)));
            s.spawn("sweep", sweep(shared));
            stop.await;
            // First refuse, then close: whoever gets in between sees the flag and closes itself.
            let _ = stop_all.send(true);
            node.disconnect_all(&Disconnect::SHUTDOWN);
            // Whether they ended well is told by the scope. What happens until the last is gone is told to applications.
            let _ = (public.await, internal.await);
            for grpc in grpc.into_iter().chain(uni_grpc) {
                let _ = grpc.await;
            }
            let _ = scheduler.await;
            node.end();
            // Nobody is left who publishes: what waits is written and synced.
            drop(at_work);
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

/// The server cannot begin.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// An address could not be bound. Choose another, or free it.
    Listen {
        /// The address.
        address: SocketAddr,
        /// The settings that choose it.
        keys: [&'static str; 2],
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or its key cannot be used.
    Tls(TlsError),
    /// The store cannot be opened.
    Store(OpenStoreError),
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listen { address, keys: [host, port], source } => {
                write!(f, "cannot listen on {address}: {source}; choose another with `{host}` or `{port}`")
            }
            Self::Tls(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } => Some(source),
            Self::Tls(error) => error.source(),
            Self::Store(error) => error.source(),
        }
    }
}
