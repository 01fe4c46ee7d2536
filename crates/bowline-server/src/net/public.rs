//! What the public listener answers: WebSockets, streams and their uplink, a request that does nothing, the server API, and
//! the demo page under `--dev`.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::cors::Caller;
use super::http::{self, text};
use super::places::Place;
use super::stream::Stream;
use super::streaming::{self, Kind, Opening};
use super::upgrade::Dialect;
use super::websocket::WebSocket;
use super::{Server, Shared, emulation, upgrade};
use crate::config::{Config, DEV_API_KEY, Tls};
use crate::proxy::Headers;

/// What a connection is, once its HTTP has ended.
#[expect(
    clippy::large_enum_variant,
    reason = "a WebSocket runs in place: a box would be paid for by each of them"
)]
pub(crate) enum Became {
    /// Closed: it was only HTTP.
    Nothing,
    WebSocket(WebSocket),
    Stream(streaming::Running),
}

/// Serves the HTTP of one connection; returns what it became.
pub(crate) async fn serve(
    stream: Stream,
    peer: SocketAddr,
    place: Option<&Place>,
    shared: &Shared,
) -> Became {
    let upgraded = OnceLock::new();
    let taken = Taken::default();
    let leftover = http::serve(
        stream,
        shared,
        || taken.is_some(),
        |request| {
            let response = route(&request, peer, place, &upgraded, shared);
            let taken = &taken;
            async move {
                match response {
                    Some(response) => response,
                    None => answer(request, peer, shared, taken).await,
                }
            }
        },
    )
    .await;
    if leftover.is_whole {
        if let Some(opening) = taken.into_inner() {
            return Became::Stream(streaming::run(opening, leftover, shared));
        }
        if let Some((dialect, headers)) = upgraded.into_inner() {
            let mut websocket = WebSocket::new(leftover, peer, dialect, shared);
            websocket.keep_headers(headers);
            return Became::WebSocket(websocket);
        }
    }
    http::finish(leftover).await;
    Became::Nothing
}

/// The request that is to be answered with a stream, once it is read. One at most: it is the connection's last.
#[derive(Default)]
struct Taken(Mutex<Option<Opening>>);

impl Taken {
    fn put(&self, opening: Opening) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(opening);
    }

    fn is_some(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn into_inner(self) -> Option<Opening> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers what may have a body.
async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    shared: &Shared,
    taken: &Taken,
) -> Response<Full<Bytes>> {
    let config = shared.node.config();
    let path = request.uri().path();
    if let Some(kind) = Kind::at(path, config) {
        let kept = shared.kept_headers(request.headers(), peer);
        return match streaming::open(request, kind, shared).await {
            Ok(mut opening) => {
                opening.kept = kept;
                taken.put(opening);
                pending().await
            }
            Err(response) => response,
        };
    }
    if is_uplink(path, config) {
        return emulation::answer(request, shared).await;
    }
    api(request, shared).await
}

fn is_uplink(path: &str, config: &Config) -> bool {
    (config.http_stream.enabled || config.sse.enabled) && path == &*config.emulation.handler_prefix
}

/// Answers everything that needs no body; `None` is for [`answer`].
fn route(
    request: &Request<Incoming>,
    peer: SocketAddr,
    place: Option<&Place>,
    upgraded: &OnceLock<(Dialect, Option<Arc<Headers>>)>,
    shared: &Shared,
) -> Option<Response<Full<Bytes>>> {
    let config = shared.node.config();
    let path = request.uri().path();
    let websocket = upgrade::Kind::at(path, config);
    let kind = Kind::at(path, config);
    if websocket.is_some() || kind.is_some() {
        if place.is_some_and(|place| !place.may_begin()) {
            return Some(come_back("too many connections begin here\n"));
        }
        // From here on it is the connection of one client.
        if place.is_some_and(|place| place.count_forwarded(request.headers()).is_err()) {
            return Some(text(StatusCode::TOO_MANY_REQUESTS, "too many connections from this address\n"));
        }
    }
    if let Some(kind) = websocket {
        let answer = upgrade::answer(kind, request, config);
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // After a 101 there are no further requests: nobody else sets it.
            let kept = shared.kept_headers(request.headers(), peer);
            let _ = upgraded.set((Dialect::of(kind, request, &answer), kept));
        }
        return Some(answer);
    }
    if config.init.enabled && path == &*config.init.handler_prefix {
        return Some(init(request, config));
    }
    if shared.api.serves(path) || kind.is_some() || is_uplink(path, config) {
        return None;
    }
    let page = shared.page.as_ref().and_then(|page| page.answer(request.method(), path));
    if page.is_some() {
        return page;
    }
    Some(text(StatusCode::NOT_FOUND, "there is nothing here\n"))
}

/// Answers a client that wants a request to have gone through before it connects, with the cookies that came with it.
fn init(request: &Request<Incoming>, config: &Config) -> Response<Full<Bytes>> {
    const METHODS: &str = "GET, OPTIONS";
    let caller = match Caller::admit(request.headers(), config) {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let mut response = match *request.method() {
        Method::GET => {
            let mut response = Response::new(Full::from("{}"));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Method::OPTIONS => return caller.preflight(request.headers(), METHODS),
        _ => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "there is nothing to do here\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
            response
        }
    };
    caller.allow(response.headers_mut());
    response
}

/// Says that there is no room for now, and when to come back.
fn come_back(why: &str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Answers a call of the server API. Who calls is checked before the body is read.
pub(crate) async fn api(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    // Back ends send no origin. A page of another origin must not reach the API through its visitor's browser, least of
    // all under --dev, where the key is no secret.
    if let Some(origin) = head.headers.get(header::ORIGIN)
        && !origin.to_str().is_ok_and(|origin| shared.node.config().client.allows_origin(Some(origin)))
    {
        return text(
            StatusCode::FORBIDDEN,
            "the server API is for back ends; this origin is not in `client.allowed_origins`\n",
        );
    }
    let call = match shared.api.admit(&head.method, head.uri.path(), head.uri.query(), &head.headers) {
        Ok(call) => call,
        Err(refused) => return *refused,
    };
    let limit = shared.node.config().http_server.handshake_timeout.get();
    match http::read_body(body, shared.api.max_body_bytes(), limit).await {
        Ok(body) => call.run(body).await,
        Err(error) => error.response(),
    }
}

/// The demo page, with the addresses of this server in it.
#[derive(Debug)]
pub(crate) struct Page {
    html: Bytes,
}

impl Page {
    pub(crate) fn new(server: &Server) -> Self {
        let internal = server.internal_address();
        let config = server.node().config();
        let prefix = &*config.http_api.handler_prefix;
        let scheme = |tls: &Tls| if tls.enabled { "https" } else { "http" };
        let (api, tasks) = (scheme(&config.http_server.tls), scheme(&config.http_server.internal_tls));
        let html = include_str!("../dev/index.html")
            .replace("{{DEV_API_KEY}}", DEV_API_KEY)
            .replace("{{API_URL}}", &format!("{api}://{}{prefix}", server.public_address()))
            .replace("{{TASKS_URL}}", &format!("{tasks}://{internal}/debug/bowline/tree"));
        Self { html: Bytes::from(html) }
    }

    fn answer(&self, method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
        let (body, kind) = match path {
            "/" => (self.html.clone(), "text/html; charset=utf-8"),
            "/app.js" => {
                (Bytes::from_static(include_bytes!("../dev/app.js")), "text/javascript; charset=utf-8")
            }
            _ => return None,
        };
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this is a page\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }
}
