//! The way up for connections whose transport only goes down: commands come in requests of their own, which name the
//! connection by its secret.
//!
//! A connection is enrolled while it lives; its queue takes what the requests bring, in the order in which they came, and its
//! task handles them one at a time. Answers go down the stream.
//!
//! # Invariants
//!
//! 1. A session is found by the digest of its secret: how long a search takes says nothing about the secret itself. Secrets
//!    are kept nowhere here.
//! 2. A request is accepted when its commands are in the queue; a full queue refuses at once. Nothing waits here.
//!
//! # End
//!
//! An [`Enrolled`] that is dropped takes its session out. Requests that come later find nobody and are told nothing: the
//! client learns from its stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline::{FreeTx, SendError};
use bowline_protocol::{Encoding, Secret};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::Shared;
use super::cors::Caller;
use super::http::{self, text};

/// Requests whose commands may wait for one connection. A client has a handful under way.
pub(crate) const MAX_WAITING: usize = 64;

/// Bytes of commands that may wait for one connection: some requests of the default size limit.
pub(crate) const MAX_WAITING_BYTES: usize = 256 * 1024;

const METHODS: &str = "POST, OPTIONS";

/// Commands of one request, still encoded.
pub(crate) type Uplink = FreeTx<Bytes>;

type Key = [u8; 32];

/// The connections that take commands by requests.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_digest: Mutex<HashMap<Key, Uplink>>,
}

/// A connection's place among the sessions, given up when dropped.
#[derive(Debug)]
pub(crate) struct Enrolled {
    sessions: Arc<Sessions>,
    key: Key,
}

impl Sessions {
    /// Takes in the session with this secret, whose commands go to `uplink`.
    pub(crate) fn enroll(self: &Arc<Self>, secret: &Secret, uplink: Uplink) -> Enrolled {
        let key = digest(secret);
        self.lock().insert(key, uplink);
        Enrolled { sessions: Arc::clone(self), key }
    }

    fn find(&self, secret: &Secret) -> Option<Uplink> {
        let key = digest(secret);
        self.lock().get(&key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Uplink>> {
        // Nothing under the lock can stop half-way, so a poisoned table is whole.
        self.by_digest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        let uplink = self.sessions.lock().remove(&self.key);
        drop(uplink); // outside of the lock: the last end of a queue drops what is in it
    }
}

fn digest(secret: &Secret) -> Key {
    Sha256::digest(secret.expose().as_bytes()).into()
}

/// Answers a request to the uplink.
pub(crate) async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let caller = match Caller::admit(request.headers(), shared.node.config()) {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let mut response = match *request.method() {
        Method::POST => accept(request, shared).await,
        Method::OPTIONS => return caller.preflight(request.headers(), METHODS),
        _ => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "commands are posted\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
            response
        }
    };
    caller.allow(response.headers_mut());
    response
}

async fn accept(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let config = shared.node.config();
    let encoding = http::encoding(request.headers());
    let limit = config.http_server.handshake_timeout.get();
    let max_bytes = config.emulation.max_request_body_size.get();
    let body = match http::read_body(request.into_body(), max_bytes, limit).await {
        Ok(body) => body,
        Err(error) => return error.response(),
    };
    deliver(&body, encoding, shared.node.uid(), &shared.sessions)
}

/// Puts the commands of one request into the queue of the connection that it names.
fn deliver(body: &[u8], encoding: Encoding, node: &str, sessions: &Sessions) -> Response<Full<Bytes>> {
    let Ok(envelope) = encoding.decode_emulation(body) else {
        return text(
            StatusCode::BAD_REQUEST,
            "the body is to hold `node`, `session` and `data`, as JSON or, with the type application/octet-stream, as protobuf\n",
        );
    };
    if envelope.node != node {
        return text(StatusCode::NOT_FOUND, "there is no such node\n");
    }
    let Some(uplink) = sessions.find(&envelope.session) else { return no_content() };
    match uplink.try_send(envelope.data) {
        // A stream that has just ended is told of in the stream.
        Ok(()) | Err(SendError::Closed(_) | SendError::Cancelled(..)) => no_content(),
        Err(SendError::Full(_)) => text(
            StatusCode::TOO_MANY_REQUESTS,
            "the connection has not yet handled the commands before; send these again later\n",
        ),
    }
}

fn no_content() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use bowline::{Bound, Cancelled, Overflow, scope};

    use super::*;

    fn post(sessions: &Sessions, session: &str, data: &str) -> u16 {
        let body = serde_json::json!({ "node": "here", "session": session, "data": data }).to_string();
        deliver(body.as_bytes(), Encoding::Json, "here", sessions).status().as_u16()
    }

    #[bowline::test]
    async fn commands_wait_in_order_up_to_the_bound_and_for_the_session_they_name() {
        scope("test", async |s| {
            let (uplink, commands) = s.queue("commands", Bound::items(2), Overflow::Reject);
            let sessions = Arc::new(Sessions::default());
            let enrolled = sessions.enroll(&Secret::new("secret"), uplink.free());
            assert_eq!((post(&sessions, "secret", "1"), post(&sessions, "secret", "2")), (204, 204));
            assert_eq!(post(&sessions, "secret", "3"), 429, "full");
            assert_eq!(post(&sessions, "another", "4"), 204, "unknown, which nobody is told");
            assert_eq!(commands.recv().await?.as_deref(), Some(&b"1"[..]));
            assert_eq!(post(&sessions, "secret", "5"), 204);
            assert_eq!(commands.recv().await?.as_deref(), Some(&b"2"[..]));
            assert_eq!(commands.recv().await?.as_deref(), Some(&b"5"[..]));

            drop(enrolled);
            assert_eq!(post(&sessions, "secret", "6"), 204);
            assert!(commands.recv().await?.is_none(), "the session is over");
            assert!(sessions.lock().is_empty());
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
    }
}
