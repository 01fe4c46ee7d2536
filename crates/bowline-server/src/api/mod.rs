//! The server API: what back ends call to publish, to look and to close, and its HTTP face. No sockets here.
//!
//! The gRPC face is [`grpc`](crate::grpc): both make the same `Command`s.
//!
//! A request passes two gates. [`Api::admit`] looks at its head alone, before the body is read: the key, the HTTP
//! method, the path. What comes out is a [`Call`], the only thing that can run, and [`Call::run`] takes the body:
//! decode → run → answer.
//!
//! | module | what it holds |
//! |---|---|
//! | `key` | whether the caller has the key |
//! | `method` | the table of methods: names, decoding, running |
//! | `publish`, `schedule`, `presence`, `history`, `info`, `user`, `connections`, `access` | the methods, a file per group |
//! | `rpc`, `absent` | extensions, of which there are none; methods that exist elsewhere |
//! | `openapi` | the document that describes it all |
//! | `batch` | many calls in one request |
//! | `json` | what requests and answers have in common in their encoding |
//! | `respond` | responses, and the two ways to report a failure |
//! | `calls` | counters |
//!
//! # Invariants
//!
//! 1. Nothing is decoded, and nothing of a body is kept, for a caller without the key.
//! 2. A body is decoded as a whole before anything of it runs: one that is malformed has changed nothing.
//! 3. Application data is checked and embedded as it stands, never decoded and encoded anew.

mod absent;
mod access;
mod batch;
mod calls;
mod connections;
mod history;
mod info;
mod json;
mod key;
mod method;
mod openapi;
mod presence;
pub(crate) mod publish;
mod respond;
mod rpc;
mod schedule;
#[cfg(test)]
mod tests;
mod user;

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode};

pub(crate) use self::access::{BlockUser, InvalidateUserTokens, RevokeToken, UnblockUser};
pub(crate) use self::batch::{MAX_COMMANDS, MAX_REPLY_BYTES};
pub(crate) use self::calls::{CallCount, Calls};
pub(crate) use self::connections::{
    ChannelContext, Connected, ConnectionInfo, Connections, State as ConnectionState, TokenInfo,
};
pub(crate) use self::history::{History, HistoryRemove, Page};
pub(crate) use self::info::{Channels, Found, Info, NodeResult, Nodes, Subscribers};
pub(crate) use self::json::{Embedded, Past, Since, Who};
pub(crate) use self::key::admits;
pub(crate) use self::method::{ABSENT, Answer, Begun, Command, Done, OFFERED};
pub(crate) use self::presence::{Numbers, Presence, PresenceStats, Present};
pub(crate) use self::publish::{Broadcast, Position, Publish, Responses};
pub use self::respond::Response;
pub(crate) use self::respond::{ErrorBody, error_mode, not_found};
pub(crate) use self::respond::{method_not_allowed, respond, text};
pub(crate) use self::rpc::{Called, Rpc};
pub(crate) use self::schedule::{CancelResult, Listed, ScheduleCancel, ScheduleList, Schedules};
pub(crate) use self::user::{Disconnect, Flag, Override, Refresh, Subscribe, Unsubscribe, Wish};

use self::calls::Outcome;
use self::json::Malformed;
use self::method::{Failure, Route};
use crate::config::ErrorMode;
use crate::node::Node;

/// The server API of one node. Share it between connections.
#[derive(Debug)]
pub struct Api {
    node: Arc<Node>,
    calls: Calls,
    /// How the node calls itself to back ends.
    node_name: String,
}

impl Api {
    /// Makes the API of `node`; its settings are those of the node.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let node_name = info::node_name(node.config());
        Self { node, calls: Calls::default(), node_name }
    }

    /// The node that is called.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns whether `path` is the API's to answer.
    #[must_use]
    pub fn serves(&self, path: &str) -> bool {
        self.below_prefix(path).is_some()
    }

    /// The OpenAPI document, if that is what `path` names. It holds no secret, and is for those who can see the pages of
    /// the internal listener.
    #[must_use]
    pub fn document(&self, path: &str) -> Option<Vec<u8>> {
        let is_document = self.below_prefix(path) == Some(openapi::PATH);
        is_document.then(|| openapi::document(&self.node.config().http_api.handler_prefix))
    }

    /// The longest body to read; a longer one is answered with 413 without a call.
    #[must_use]
    pub fn max_body_bytes(&self) -> usize {
        self.node.config().http_api.max_request_body_size.get()
    }

    /// Decides on the head of a request whether its body is read at all.
    ///
    /// # Errors
    ///
    /// The response to send instead, in this order: 401 without the key, 405 if it is not a POST, 404 for a
    /// method that does not exist.
    pub fn admit(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Call<'_>, Box<Response>> {
        let config = &self.node.config().http_api;
        if !key::admits(config.insecure, config.keys(), headers, query) {
            self.calls.count_unauthorized();
            return Err(Box::new(respond::unauthorized()));
        }
        if method != Method::POST {
            return Err(Box::new(method_not_allowed("POST")));
        }
        match self.below_prefix(path).and_then(Route::find) {
            Some(route) => {
                Ok(Call { api: self, route, error_mode: respond::error_mode(config.error_mode, headers) })
            }
            None => Err(Box::new(text(StatusCode::NOT_FOUND, "there is no such method\n"))),
        }
    }

    /// Counts a call that was refused for want of the key.
    pub(crate) fn count_unauthorized(&self) {
        self.calls.count_unauthorized();
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The part of `path` after the prefix and a slash; empty for the prefix alone.
    fn below_prefix<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&*self.node.config().http_api.handler_prefix)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }
}

/// A call that was admitted and waits for its body.
#[derive(Debug)]
#[must_use = "an admitted call does nothing until it is run"]
pub struct Call<'a> {
    api: &'a Api,
    route: Route,
    error_mode: ErrorMode,
}

impl Call<'_> {
    /// Decodes `body`, runs what it asks for, and makes the response.
    ///
    /// It waits until what was published is kept, and lets other tasks run now and then during a long batch or broadcast.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the commands of a batch and the channels of a broadcast that were reached by then
    /// are done, or will be, the others are not, and nobody is told which. Idempotency keys make trying again safe.
    pub async fn run(self, body: Bytes) -> Response {
        let Self { api, route, error_mode } = self;
        let mut out = Vec::new();
        let outcome = match route {
            Route::Method(method) => match json::decode(&body, method) {
                Ok(command) => {
                    out.extend_from_slice(br#"{"result":"#);
                    let answered = command.write(api, &mut out).await;
                    out.push(b'}');
                    answered
                }
                Err(malformed) => return self.malformed(&malformed),
            },
            Route::Batch => match json::decode(&body, batch::decoder()) {
                Ok(batch) => {
                    batch.run(api, batch::MAX_REPLY_BYTES, &mut out).await;
                    api.calls.count(route, Outcome::Ok);
                    Ok(())
                }
                Err(malformed) => return self.malformed(&malformed),
            },
        };
        match outcome {
            Ok(()) => respond(StatusCode::OK, "application/json", out),
            Err(Failure::Api(error)) => respond::failure(error_mode, error),
            Err(Failure::Inexpressible) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, "the answer holds data that is not JSON\n")
            }
        }
    }

    fn malformed(&self, malformed: &Malformed) -> Response {
        self.api.calls.count(self.route, Outcome::Malformed);
        text(StatusCode::BAD_REQUEST, format!("{}: {malformed}\n", self.route.name()))
    }
}
