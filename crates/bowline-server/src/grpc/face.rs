//! What a gRPC listener is to its connections: who may come in, what is answered, within which bounds.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;

use super::router::Router;
use crate::net::listener::Warning;

/// One of the gRPC listeners.
pub(super) trait Face: Send + Sync + 'static {
    /// What the tasks of its connections are called.
    const CONNECTION: &'static str;

    /// What a connection may ask for.
    const BOUNDS: Bounds;

    /// What a connection holds for as long as it lives.
    type Place: Send + 'static;

    /// Gives a connection of `peer` its place, or none: then it is closed at accept.
    fn admit(&self, peer: SocketAddr) -> Option<Self::Place>;

    /// How long a connection may have no call before it is closed; `None` for as long as it likes.
    fn idle_limit(&self) -> Option<Duration>;

    /// Answers one call.
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Lets those go whom nobody else tells that the server stops.
    fn stop(&self) -> impl Future<Output = ()> + Send;
}

/// The bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Calls in hand; the client waits with further ones.
    pub(super) max_streams: u32,
    /// Bytes of answers that wait to be written, per call.
    pub(super) max_send_bytes: usize,
}

/// Connections of back ends at once. They hold one each and share it between calls; more are closed at accept.
const MAX_CONNECTIONS: usize = 1024;

/// The server API.
pub(super) struct ApiFace {
    router: Router,
    places: Arc<Semaphore>,
    no_place: Mutex<Warning>,
}

impl ApiFace {
    pub(super) fn new(router: Router) -> Self {
        Self { router, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), no_place: Mutex::default() }
    }
}

impl Face for ApiFace {
    const CONNECTION: &'static str = "gRPC connection";
    const BOUNDS: Bounds = Bounds { max_streams: 128, max_send_bytes: 256 * 1024 };
    type Place = OwnedSemaphorePermit;

    fn admit(&self, peer: SocketAddr) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() && self.no_place.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
            tracing::warn!(%peer, connections = MAX_CONNECTIONS, "gRPC: closed at accept: no more connections");
        }
        place
    }

    fn idle_limit(&self) -> Option<Duration> {
        None // a back end that calls once an hour need not connect each time
    }

    async fn answer(&self, request: Request<Incoming>, _peer: SocketAddr) -> Response<Body> {
        self.router.answer(request).await
    }

    async fn stop(&self) {
        self.router.stop().await;
    }
}
