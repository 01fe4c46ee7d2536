//! What is checked before a request becomes a WebSocket, in this order: method, origin, handshake, what the client asks for.
//!
//! A client that asks for what this server does not speak is told so in words before the upgrade. Answered in another
//! encoding, it would only report a protocol error, and not whose.
//!
//! Source: RFC 6455 §4.2.

use bowline_protocol::json;
use bowline_protocol::websocket::{UpgradeRequest, VERSION, select_subprotocol};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::http::text;
use crate::config::Config;

/// The subprotocol of clients that speak protobuf.
const PROTOBUF_SUBPROTOCOL: &str = "centrifuge-protobuf";

/// Answers an upgrade request: 101, or what is wrong with it.
pub(crate) fn answer<B: Body>(request: &Request<B>, config: &Config) -> Response<Full<Bytes>> {
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
    let subprotocol = select_subprotocol(&offered, &[json::SUBPROTOCOL]);
    if let Some(what) = not_offered(request.uri().query(), &offered, subprotocol) {
        return text(StatusCode::NOT_IMPLEMENTED, what);
    }
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
    response
}

/// Says what the client asks for and this server does not offer, if there is something.
fn not_offered(query: Option<&str>, subprotocols: &str, chosen: Option<&str>) -> Option<&'static str> {
    let asks = |wanted: &str| query.unwrap_or_default().split('&').any(|pair| pair == wanted);
    if asks("format=protobuf") || asks("cf_protocol=protobuf") {
        return Some("this server speaks JSON, not protobuf: leave `protobuf` out of the address\n");
    }
    if chosen.is_none() && select_subprotocol(subprotocols, &[PROTOBUF_SUBPROTOCOL]).is_some() {
        return Some(
            "this server speaks JSON, not protobuf: offer the subprotocol centrifuge-json, or none\n",
        );
    }
    if asks("cf_ws_frame_ping_pong=true") {
        return Some(
            "this server pings in the protocol only: leave cf_ws_frame_ping_pong out of the address\n",
        );
    }
    None
}

/// All values of a header joined with `,`; `None` if it is absent or not text.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().map(|value| value.to_str().ok());
    let first = values.next()??.to_owned();
    values.try_fold(first, |all, value| value.map(|value| all + "," + value))
}
