//! What operators look at: health, metrics, and the toolkit's pages of what goes on. Served by the internal listener, which
//! asks for no key and is therefore not for the world.

mod exposition;
mod metrics;
pub(crate) mod page;
pub(crate) mod process;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use bowline::debug;
use http_body_util::Either;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use self::page::{Page, Pieces};
use crate::api::{self, Api, method_not_allowed, respond, text};
use crate::node::VERSION;

const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";
const DEBUG: &str = "/debug/bowline/";

/// A page for operators.
pub(crate) type Response = hyper::Response<Page>;

/// Answers a request of an operator; `None` if there is no such page.
///
/// It waits for nothing. What has to look at every live task does so while the page is sent, a piece at a time.
#[must_use]
pub(crate) fn handle(
    api: &Api,
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<Response> {
    let is_read = method == Method::GET || method == Method::HEAD;
    let page = match path {
        "/" => text(StatusCode::OK, index(api)),
        HEALTH => health(),
        METRICS if is_read => return metrics(api),
        METRICS => return Some(refuse()),
        _ => {
            let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            let answer = debug::answer(path, query, accept)?;
            return Some(if is_read { made(answer) } else { refuse() });
        }
    };
    Some(if is_read { page.map(Either::Left) } else { refuse() })
}

/// Says that the process answers.
#[must_use]
pub fn health() -> api::Response {
    respond(StatusCode::OK, "application/json", "{}")
}

fn refuse() -> Response {
    method_not_allowed("GET, HEAD").map(Either::Left)
}

/// The server's metrics, and the toolkit's behind them.
fn metrics(api: &Api) -> Option<Response> {
    let toolkit = debug::answer("/debug/bowline/metrics", None, None)?;
    let own = std::iter::once(metrics::render(api).into_bytes());
    Some(pieces(toolkit.status, toolkit.content_type, own.chain(toolkit.body)))
}

/// A page of the toolkit's, made while it is sent.
fn made(answer: debug::Answer) -> Response {
    pieces(answer.status, answer.content_type, answer.body)
}

fn pieces(
    status: u16,
    content_type: &'static str,
    body: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Response {
    let mut response = hyper::Response::new(Either::Right(Pieces::new(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What there is on the internal listener.
fn index(api: &Api) -> String {
    let prefix = &*api.node().config().http_api.handler_prefix;
    let mut page = format!("bowline {VERSION}: the internal listener\n\n");
    for (path, what) in [
        (HEALTH, "{} while the process answers"),
        (METRICS, "metrics in the Prometheus text format"),
        (DEBUG, "what lives, waits, fills up and fails; ?format=json for programs"),
    ] {
        // Writing into a String does not fail.
        let _ = writeln!(page, "GET  {path:<24} {what}");
    }
    let _ = writeln!(page, "POST {:<24} the server API, with the key", format!("{prefix}/<method>"));
    let _ =
        writeln!(page, "GET  {:<24} what they take and answer (OpenAPI)", format!("{prefix}/openapi.json"));
    for (what, methods) in [("methods", api::OFFERED), ("answer 108", api::ABSENT)] {
        let _ = writeln!(page, "     {what:<24} {}", methods.join(", "));
    }
    let _ = writeln!(page, "     {:<24} several of them in one request", "batch");
    page
}
