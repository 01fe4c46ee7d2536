//! Every metric of the server: its name, its meaning, and where its number comes from.
//!
//! Names of the server begin with `bowline_`; those of the process are the ones every Prometheus client library
//! gives. Labels hold only what the program or its settings name, so their number is bounded.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::exposition::{Exposition, Kind};
use super::process::{self, Process};
use crate::api::{Api, CallCount};
use crate::node::{Stats, VERSION};

/// The codes under which the node counts all codes that have no place of their own.
const OTHER_ERRORS: u32 = 128;
const OTHER_DISCONNECTS: u16 = 3512;

/// Writes the metrics of the server and the process. Those of tasks, queues and the like are the toolkit's.
pub(super) fn render(api: &Api) -> String {
    let mut out = Exposition::default();
    out.family(Kind::Gauge, "bowline_build_info", "The program; always 1.")
        .sample(&[("version", VERSION)], 1);
    let stats = api.node().stats();
    population(&mut out, &stats);
    messages(&mut out, &stats);
    codes(&mut out, &stats);
    calls(&mut out, api);
    store(&mut out, api.node().store_stats());
    system(&mut out, process::look());
    out.into_text()
}

fn population(out: &mut Exposition, stats: &Stats) {
    out.gauge("bowline_connections", "Authenticated connections.", stats.clients);
    out.gauge(
        "bowline_users",
        "Distinct users of the connections, the anonymous user included.",
        stats.users,
    );
    out.gauge("bowline_channels", "Channels with at least one subscriber.", stats.channels);
    out.gauge("bowline_subscriptions", "Subscriptions of connections to channels.", stats.subscriptions);
}

fn messages(out: &mut Exposition, stats: &Stats) {
    out.counter("bowline_messages_received_total", "Commands received from clients.", stats.messages_in);
    out.counter("bowline_messages_sent_total", "Messages put into connections' queues.", stats.messages_out);
    out.counter(
        "bowline_publications_total",
        "Publications accepted, from clients and from the server API.",
        stats.publications,
    );
    let deliveries = &stats.deliveries;
    out.counter(
        "bowline_deliveries_accepted_total",
        "Publications that met a subscriber, each subscriber counted.",
        deliveries.accepted,
    );
    out.counter(
        "bowline_deliveries_delivered_total",
        "Accepted deliveries that were put into the subscriber's queue.",
        deliveries.delivered,
    );
    labelled(
        out,
        Kind::Counter,
        "bowline_deliveries_refused_total",
        "Accepted deliveries that were not, by reason.",
        "reason",
        &deliveries.refused,
    );
    out.gauge(
        "bowline_deliveries_in_flight",
        "Accepted deliveries that are neither delivered nor refused yet.",
        deliveries.in_flight,
    );
}

fn codes(out: &mut Exposition, stats: &Stats) {
    let mut errors =
        out.family(Kind::Counter, "bowline_client_errors_total", "Error replies to clients, by code.");
    for (code, count) in &stats.errors {
        let code = if *code == OTHER_ERRORS { "other".to_owned() } else { code.to_string() };
        errors.sample(&[("code", &code)], count);
    }
    let mut disconnects = out.family(
        Kind::Counter,
        "bowline_disconnects_total",
        "Connections ended, by disconnect code; 3000 is a client that went away.",
    );
    for (code, count) in &stats.disconnects {
        let code = if *code == OTHER_DISCONNECTS { "other".to_owned() } else { code.to_string() };
        disconnects.sample(&[("code", &code)], count);
    }
}

fn calls(out: &mut Exposition, api: &Api) {
    let mut calls = out.family(
        Kind::Counter,
        "bowline_api_calls_total",
        "Calls of the server API, by method and outcome: ok, malformed, or the error code.",
    );
    for CallCount { method, outcome, count } in api.calls().snapshot() {
        calls.sample(&[("method", method), ("outcome", &outcome)], count);
    }
    out.counter(
        "bowline_api_unauthorized_total",
        "Requests to the server API without its key.",
        api.calls().unauthorized(),
    );
}

fn store(out: &mut Exposition, stats: bowline_store::StoreStats) {
    out.gauge("bowline_store_streams", "Streams in the store, empty ones included.", stats.streams);
    out.gauge("bowline_store_publications", "Publications in the store.", stats.publications);
    out.gauge("bowline_store_payload_bytes", "Bytes of the publications' payloads.", stats.payload_bytes);
    out.gauge("bowline_store_idempotency_keys", "Idempotency keys remembered.", stats.idempotency_keys);
    out.counter(
        "bowline_store_idempotency_keys_evicted_total",
        "Idempotency keys forgotten before their time, because the store was full.",
        stats.idempotency_keys_evicted,
    );
}

fn system(out: &mut Exposition, process: Process) {
    let Process { resident_bytes, cpu_seconds, open_fds, max_fds, start_time_seconds, threads } = process;
    if let Some(seconds) = cpu_seconds {
        out.counter("process_cpu_seconds_total", "CPU time in user and kernel mode, in seconds.", seconds);
    }
    if let Some(seconds) = start_time_seconds {
        out.gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.", seconds);
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory of the process that is in RAM, in bytes.", resident_bytes),
        ("process_open_fds", "Open files, sockets included.", open_fds),
        ("process_max_fds", "Open files there may be at most.", max_fds),
        ("process_threads", "Threads of the process.", threads),
    ] {
        if let Some(value) = value {
            out.gauge(name, help, value);
        }
    }
}

/// Writes a family with one label.
fn labelled<V: Display>(
    out: &mut Exposition,
    kind: Kind,
    name: &'static str,
    help: &str,
    label: &'static str,
    values: &BTreeMap<&'static str, V>,
) {
    let mut family = out.family(kind, name, help);
    for (text, value) in values {
        family.sample(&[(label, text)], value);
    }
}
