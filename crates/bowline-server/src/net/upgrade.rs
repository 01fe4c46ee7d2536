//! What is checked before a request becomes a WebSocket, in this order: method, origin, handshake, what the client asks for.
//!
//! Source: RFC 6455 §4.2.

use bowline_protocol::websocket::{
    DEFLATE_RESPONSE, UpgradeRequest, VERSION, accepts_deflate, select_subprotocol,
};
use bowline_protocol::{Encoding, json, protobuf};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::http::{self, CONNECT_PARAMETER, text};
use crate::config::Config;
use crate::node::Compression;

/// Which kind of WebSocket an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    WebSocket,
    /// For clients that only listen.
    UniWebSocket,
}

impl Kind {
    /// The kind of WebSocket at `path`, if there is one and it is on.
    pub(crate) fn at(path: &str, config: &Config) -> Option<Self> {
        if path == &*config.websocket.handler_prefix && !config.websocket.disabled {
            return Some(Self::WebSocket);
        }
        let uni = &config.uni_websocket;
        (uni.enabled && path == &*uni.handler_prefix).then_some(Self::UniWebSocket)
    }

    /// How messages are compressed if the client wants it; `None` if that is switched off.
    pub(crate) fn compression(self, config: &Config) -> Option<Compression> {
        let (own, uni) = (&config.websocket, &config.uni_websocket);
        let (is_on, level, min_bytes) = match self {
            Self::WebSocket => (own.compression, own.compression_level, own.compression_min_size),
            Self::UniWebSocket => (uni.compression, uni.compression_level, uni.compression_min_size),
        };
        is_on.then(|| Compression::new(level, min_bytes))
    }

    fn subprotocols(self) -> &'static [&'static str] {
        match self {
            Self::WebSocket => &[json::SUBPROTOCOL, protobuf::SUBPROTOCOL],
            Self::UniWebSocket => &[json::SUBPROTOCOL],
        }
    }
}

/// How a client wants to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) kind: Kind,
    pub(crate) encoding: Encoding,
    /// The connect request in the address, if there is one.
    pub(crate) connect: Option<Box<str>>,
    /// Whether pings are those of WebSocket, for plain tools, which answer them by themselves.
    pub(crate) has_native_pings: bool,
    /// Whether messages may be compressed, both ways.
    pub(crate) is_compressed: bool,
}

impl Dialect {
    /// How the client speaks whose `request` gets `answer`: what the address and the chosen subprotocol say.
    pub(crate) fn of<B, C>(kind: Kind, request: &Request<B>, answer: &Response<C>) -> Self {
        let query = request.uri().query();
        let subprotocol = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        let asks = |wanted: &str| query.unwrap_or_default().split('&').any(|pair| pair == wanted);
        let is_protobuf = subprotocol.is_some_and(|chosen| chosen == protobuf::SUBPROTOCOL)
            || asks("format=protobuf")
            || asks("cf_protocol=protobuf");
        let (encoding, connect) = match kind {
            Kind::WebSocket if is_protobuf => (Encoding::Protobuf, None),
            Kind::WebSocket => (Encoding::Json, None),
            Kind::UniWebSocket => (Encoding::Json, http::parameter(query, CONNECT_PARAMETER)),
        };
        Self {
            kind,
            encoding,
            connect: connect.map(|connect| connect.into_owned().into_boxed_str()),
            has_native_pings: asks("cf_ws_frame_ping_pong=true"),
            is_compressed: answer.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS),
        }
    }
}

/// Answers an upgrade request: 101, or what is wrong with it. How the client wants to speak says [`Dialect::of`].
pub(crate) fn answer<B: Body>(kind: Kind, request: &Request<B>, config: &Config) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is asked for with GET\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let headers = request.headers();
    let Ok(origin) = headers.get(header::ORIGIN).map(HeaderValue::to_str).transpose() else {
        return text(StatusCode::FORBIDDEN, "the origin is not text\n");
    };
    if !config.client.allows_origin(origin) {
        return text(
            StatusCode::FORBIDDEN,
            "this origin may not connect; `client.allowed_origins` lists those that may\n",
        );
    }
    let join = |name| joined(headers, name);
    let (connection, upgrade) = (join(header::CONNECTION), join(header::UPGRADE));
    let (version, key) = (join(header::SEC_WEBSOCKET_VERSION), join(header::SEC_WEBSOCKET_KEY));
    let handshake = UpgradeRequest {
        connection: connection.as_deref(),
        upgrade: upgrade.as_deref(),
        version: version.as_deref(),
        key: key.as_deref(),
    };
    // In HTTP/1.0 there are no upgrades, and a body would be taken for the first frames.
    if request.version() != Version::HTTP_11 || !request.body().is_end_stream() {
        return text(StatusCode::BAD_REQUEST, "a WebSocket is asked for in HTTP/1.1 and without a body\n");
    }
    let accept = match handshake.accept() {
        Ok(accept) => accept,
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let mut response = text(status, &format!("{error}\n"));
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            return response;
        }
    };
    let offered = join(header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
    let subprotocol = select_subprotocol(&offered, kind.subprotocols());
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(chosen) = subprotocol {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    let offered = join(header::SEC_WEBSOCKET_EXTENSIONS).unwrap_or_default();
    if kind.compression(config).is_some() && accepts_deflate(&offered) {
        answer.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(DEFLATE_RESPONSE));
    }
    response
}

/// All values of a header joined with `,`; `None` if it is absent or not text.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().map(|value| value.to_str().ok());
    let first = values.next()??.to_owned();
    values.try_fold(first, |all, value| value.map(|value| all + "," + value))
}
