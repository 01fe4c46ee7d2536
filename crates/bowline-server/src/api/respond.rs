//! Responses, and the two ways to report a failure.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::ErrorMode;
use crate::node::ApiError;

/// A response with its whole body.
pub type Response = hyper::Response<Full<Bytes>>;

/// The header by which one request asks for failures as HTTP statuses.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

/// A failure in JSON.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    /// What programs act on.
    pub(crate) code: u32,
    /// For people.
    pub(crate) message: Cow<'static, str>,
}

impl From<ApiError> for ErrorBody {
    fn from(error: ApiError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl ErrorBody {
    /// Appends the failure as a JSON object.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        // A Vec takes every byte, and numbers and strings are always expressible.
        serde_json::to_writer(out, self).expect("a number and a string serialize into memory");
    }
}

/// Something that was named in the request does not exist.
pub(crate) fn not_found() -> ApiError {
    ApiError { code: 104, message: Cow::Borrowed("not found") }
}

/// How failures of one call are reported: as configured, unless its head asks for HTTP statuses.
pub(crate) fn error_mode(configured: ErrorMode, headers: &HeaderMap) -> ErrorMode {
    let asks = headers.get(ERROR_MODE).is_some_and(|mode| mode.as_bytes() == b"transport");
    if asks { ErrorMode::Transport } else { configured }
}

/// Reports that a call failed.
pub(super) fn failure(mode: ErrorMode, error: ApiError) -> Response {
    let status = match mode {
        ErrorMode::Body => StatusCode::OK,
        ErrorMode::Transport => status_of(error.code),
    };
    let mut out = Vec::new();
    let error = ErrorBody::from(error);
    match mode {
        ErrorMode::Transport => error.write(&mut out),
        ErrorMode::Body => {
            out.extend_from_slice(br#"{"error":"#);
            error.write(&mut out);
            out.push(b'}');
        }
    }
    respond(status, "application/json", out)
}

/// The HTTP status that stands for an error code.
pub(super) fn status_of(code: u32) -> StatusCode {
    match code {
        102 | 104 => StatusCode::NOT_FOUND,
        107 | 108 => StatusCode::BAD_REQUEST,
        112 => StatusCode::RANGE_NOT_SATISFIABLE,
        113 => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A caller without the key: told so, and nothing else.
pub(super) fn unauthorized() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("apikey"));
    response
}

/// The path exists, but not for this HTTP method; `allow` names those it exists for.
pub(crate) fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("allowed here: {allow}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// A response for people.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    respond(status, "text/plain; charset=utf-8", body)
}

/// A response that nobody keeps and no browser takes for something else.
pub(crate) fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_its_status() {
        for (code, status) in [
            (100, 500),
            (102, 404),
            (104, 404),
            (107, 400),
            (108, 400),
            (112, 416),
            (113, 409),
            (106, 500),
            (4000, 500),
        ] {
            assert_eq!(status_of(code).as_u16(), status, "{code}");
        }
    }

    #[test]
    fn a_request_can_ask_for_statuses_but_not_against_them() {
        let asks = |value: &'static str| {
            HeaderMap::from_iter([(ERROR_MODE.parse().unwrap(), HeaderValue::from_static(value))])
        };
        for (configured, headers, mode) in [
            (ErrorMode::Body, HeaderMap::new(), ErrorMode::Body),
            (ErrorMode::Body, asks("transport"), ErrorMode::Transport),
            (ErrorMode::Body, asks("Transport"), ErrorMode::Body),
            (ErrorMode::Transport, asks("body"), ErrorMode::Transport),
        ] {
            assert_eq!(error_mode(configured, &headers), mode, "{headers:?}");
        }
    }
}
