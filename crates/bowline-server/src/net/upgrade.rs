//! What is checked before a request becomes a WebSocket, in this order: origin, handshake.
//!
//! Source: RFC 6455 §4.2.

use bowline_protocol::json;
use bowline_protocol::websocket::{UpgradeRequest, VERSION, select_subprotocol};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::http::text;
use crate::config::Config;

/// Answers an upgrade request: 101, or what is wrong with it.
pub(crate) fn answer<B>(request: &Request<B>, config: &Config) -> Response<Full<Bytes>> {
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
    let accept = match handshake.accept() {
        Ok(accept) => accept,
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let mut response = text(status, &format!("{error}\n"));
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            return response;
        }
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let offered = join(header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
    if let Some(chosen) = select_subprotocol(&offered, &[json::SUBPROTOCOL]) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    response
}

/// All values of a header joined with `,`; `None` if it is absent or not text.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().map(|value| value.to_str().ok());
    let first = values.next()??.to_owned();
    values.try_fold(first, |all, value| value.map(|value| all + "," + value))
}
