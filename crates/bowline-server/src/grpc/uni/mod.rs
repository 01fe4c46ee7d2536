//! Clients over gRPC that only listen: `CentrifugoUniStream.Consume`, an answer of pushes that goes on.
//!
//! ```text
//! Consume(ConnectRequest) ─▶ Session ─▶ Outbox ─▶ Stream ─▶ place ─▶ Pushes ─▶ HTTP/2
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `stream` | the session of one stream, and what time does to it |
//! | `body` | pushes as messages, and the place in which hyper takes them |
//!
//! The listener is for the public, as that of `http_server`: its connections have the places of the same addresses, and so
//! has each stream, of which a connection may carry many.

mod body;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Either, propagate, race};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::body::Body;

use self::stream::Stream;
use super::calls;
use super::face::{Bounds, Face};
use super::message::read_one;
use crate::net::Shared;
use crate::net::places::{Place, Places};

/// What is called.
const CONSUME: &str = "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume";

/// The listener of streams.
pub(super) struct UniFace {
    shared: Shared,
    places: Arc<Places>,
}

impl UniFace {
    pub(super) fn new(shared: Shared, places: Arc<Places>) -> Self {
        Self { shared, places }
    }

    async fn consume(&self, request: Request<Incoming>, peer: SocketAddr) -> Result<Response<Body>, Status> {
        if request.method() != Method::POST || request.uri().path() != CONSUME {
            return Err(Status::unimplemented(format!("only {CONSUME} is here")));
        }
        let (head, body) = request.into_parts();
        let deadline = deadline(&head.headers)?;
        let place = self.places.take_shared(peer.ip()).and_then(|place| {
            place.count_forwarded(&head.headers)?;
            Ok(place)
        });
        let place = place.map_err(|_| Status::resource_exhausted("too many streams from this address"))?;
        let request = self.read(body).await?;

        let (giving, pushes) = body::handover();
        let kept = self.shared.kept_headers(&head.headers, peer);
        let stream = Stream::new(&self.shared, giving, kept, deadline, Some(place));
        let attached = calls::attach(stream.run(request));
        attached.map_err(|_| Status::internal("a stream outside of a call"))?;
        let mut response = Response::new(Body::new(pushes.map_err(|never| match never {})));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(response)
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Status> {
        let config = self.shared.node.config();
        let max_bytes = config.uni_grpc.max_receive_message_size.get();
        let limit = config.http_server.handshake_timeout.get();
        match race(sleep(limit), read_one(body, max_bytes)).await {
            Either::Left(()) => Err(Status::deadline_exceeded("the request was not complete in time")),
            Either::Right(message) => message,
        }
    }
}

impl Face for UniFace {
    const CONNECTION: &'static str = "uni gRPC connection";
    const BOUNDS: Bounds = Bounds { max_streams: 128, max_send_bytes: 64 * 1024 };
    type Place = Place;

    fn admit(&self, peer: SocketAddr) -> Option<Place> {
        match self.places.take(peer.ip()) {
            Ok(place) => Some(place),
            Err(full) => {
                tracing::debug!(%peer, ?full, "uni gRPC: closed at accept");
                None
            }
        }
    }

    /// As a client that connects and does not authenticate.
    fn idle_limit(&self) -> Option<Duration> {
        Some(self.shared.node.config().client.stale_close_delay.get())
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        match self.consume(request, peer).await {
            Ok(response) => response,
            Err(status) => {
                tracing::debug!(%peer, %status, "uni gRPC: refused");
                status.into_http()
            }
        }
    }

    async fn stop(&self) {
        // Every stream hears of it by itself.
    }
}

/// When the client wants the stream to end.
fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    let Some(value) = headers.get(propagate::GRPC_TIMEOUT) else { return Ok(None) };
    let timeout = propagate::timeout_from(value.to_str().unwrap_or_default());
    let timeout = timeout.map_err(|error| Status::invalid_argument(error.to_string()))?;
    // One that is beyond the clock is none.
    Ok(Instant::now().checked_add(timeout))
}
