//! What operators look at: health, metrics, the live task tree. Served by the internal listener, which asks for no
//! key and is therefore not for the world.

mod exposition;
mod metrics;
pub(crate) mod process;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use hyper::{Method, StatusCode};

use crate::api::{self, Api, Response, method_not_allowed, respond, text};
use crate::node::VERSION;

const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";
const TASKS: &str = "/debug/bowline/tasks";

/// The media type of the Prometheus text format that `metrics` writes.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a request of an operator; `None` if there is no such page.
///
/// It waits for nothing. Metrics and the task tree look at every live task, which takes some milliseconds per ten
/// thousand of them.
#[must_use]
pub fn handle(api: &Api, method: &Method, path: &str, query: Option<&str>) -> Option<Response> {
    let page = match path {
        "/" | HEALTH | METRICS | TASKS => path,
        _ => return None,
    };
    if method != Method::GET && method != Method::HEAD {
        return Some(method_not_allowed("GET, HEAD"));
    }
    Some(match page {
        HEALTH => health(),
        METRICS => respond(StatusCode::OK, PROMETHEUS, metrics::render(api, &bowline::tree())),
        TASKS => tasks(query),
        _ => text(StatusCode::OK, index(api)),
    })
}

/// Says that the process answers.
#[must_use]
pub fn health() -> Response {
    respond(StatusCode::OK, "application/json", "{}")
}

/// Every live task: as text, or as JSON with `format=json`.
fn tasks(query: Option<&str>) -> Response {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let format = pairs.filter(|(name, _)| *name == "format").map(|(_, value)| value).next();
    match format {
        None | Some("text") => text(StatusCode::OK, bowline::tree().to_string()),
        Some("json") => match serde_json::to_vec(&bowline::tree()) {
            Ok(body) => respond(StatusCode::OK, "application/json", body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        Some(_) => text(StatusCode::BAD_REQUEST, "format is text or json\n"),
    }
}

/// What there is on the internal listener.
fn index(api: &Api) -> String {
    let prefix = &*api.node().config().http_api.handler_prefix;
    let mut page = format!("bowline {VERSION}: the internal listener\n\n");
    for (path, what) in [
        (HEALTH, "{} while the process answers"),
        (METRICS, "metrics in the Prometheus text format"),
        (TASKS, "every live task; ?format=json for programs"),
    ] {
        // Writing into a String does not fail.
        let _ = writeln!(page, "GET  {path:<24} {what}");
    }
    let _ = writeln!(page, "POST {:<24} the server API, with the key", format!("{prefix}/<method>"));
    for (what, methods) in [("methods", api::OFFERED), ("planned", api::PLANNED)] {
        let _ = writeln!(page, "     {what:<24} {}", methods.join(", "));
    }
    let _ = writeln!(page, "     {:<24} several of them in one request", "batch");
    page
}
