//! What the public listener answers: WebSockets, the server API, and the demo page under `--dev`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpStream;

use super::http::{self, text};
use super::websocket::WebSocket;
use super::{Server, Shared, upgrade};
use crate::config::DEV_API_KEY;

/// Serves the HTTP of one connection; returns the WebSocket it became, if it did.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, shared: &Shared) -> Option<WebSocket> {
    let upgraded = AtomicBool::new(false);
    let leftover = http::serve(stream, shared, |request| {
        let response = route(&request, shared);
        if response.as_ref().is_some_and(|response| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
            upgraded.store(true, Ordering::Relaxed);
        }
        async move {
            match response {
                Some(response) => response,
                None => api(request, shared).await,
            }
        }
    })
    .await;
    if upgraded.into_inner() && leftover.is_whole {
        return Some(WebSocket::new(leftover, peer, shared));
    }
    http::finish(leftover).await;
    None
}

/// Answers everything that needs no body; `None` is for the server API.
fn route(request: &Request<Incoming>, shared: &Shared) -> Option<Response<Full<Bytes>>> {
    let config = shared.node.config();
    let path = request.uri().path();
    if path == &*config.websocket.handler_prefix && !config.websocket.disabled {
        return Some(upgrade::answer(request, config));
    }
    if shared.api.serves(path) {
        return None;
    }
    let page = shared.page.as_ref().and_then(|page| page.answer(request.method(), path));
    if page.is_some() {
        return page;
    }
    Some(text(StatusCode::NOT_FOUND, "there is nothing here\n"))
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
        let prefix = &*server.node().config().http_api.handler_prefix;
        let html = include_str!("../dev/index.html")
            .replace("{{DEV_API_KEY}}", DEV_API_KEY)
            .replace("{{API_URL}}", &format!("http://{}{prefix}", server.public_address()))
            .replace("{{TASKS_URL}}", &format!("http://{internal}/debug/bowline/tree"));
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
