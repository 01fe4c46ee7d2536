//! Every metric of the server: its name, its meaning, and where its number comes from.
//!
//! Names of the server begin with `bowline_`; those of the process are the ones every Prometheus client library
//! gives. Labels hold only what the program or its settings name, so their number is bounded.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::exposition::{Exposition, Kind};
use super::process::{self, Process};
use bowline_store::durable::DiskStats;

use crate::api::{Api, CallCount};
use crate::events::Counts;
use crate::net::tls::TlsStats;
use crate::node::{Stats, VERSION};
use crate::scheduled::Pending;
use crate::store::meter::DiskWork;

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
    tls(&mut out, api);
    store(&mut out, api.node().store_stats());
    if let Some(data) = api.node().data() {
        disk(&mut out, data.store.disk_stats(), data.meter.work());
        out.gauge(
            "bowline_undelivered_publications",
            "Publications that wait for the disk, or come from there and are not delivered yet.",
            api.node().undelivered(),
        );
    }
    events(&mut out, api);
    schedules(&mut out, api);
    out.gauge(
        "bowline_refused_credentials",
        "Blocked users and revoked tokens that are kept.",
        api.node().revoked().len() as u64,
    );
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
    out.counter(
        "bowline_store_refusals_total",
        "Publications and reads that the store refused or could not keep: too much waits, the disk is full or fails.",
        stats.store_refusals,
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

/// What a store that is on disk does there.
fn disk(out: &mut Exposition, stats: DiskStats, work: DiskWork) {
    out.gauge("bowline_store_files", "Files of the log.", stats.files);
    out.gauge("bowline_store_file_bytes", "Bytes of these files.", stats.bytes);
    out.gauge("bowline_store_waiting_bytes", "Bytes that wait to be written.", stats.waiting_bytes);
    out.gauge("bowline_store_unsynced_bytes", "Bytes that are written and not synced.", stats.unsynced_bytes);
    out.counter(
        "bowline_store_renewed_streams_total",
        "Streams that began anew because they could not be trusted.",
        stats.renewed,
    );
    out.counter(
        "bowline_store_dropped_publications_total",
        "Publications that went before their time, because of store.max_bytes.",
        stats.dropped,
    );
    out.counter("bowline_store_writes_total", "Writes to the disk, each of many publications.", work.writes);
    out.counter("bowline_store_written_bytes_total", "Bytes of these writes.", work.written_bytes);
    out.counter("bowline_store_syncs_total", "Syncs of the disk.", work.syncs);
    out.counter(
        "bowline_store_sync_seconds_total",
        "Time that syncs took, in seconds.",
        work.syncing.as_secs_f64(),
    );
    out.gauge("bowline_store_slowest_sync_seconds", "The longest of them.", work.slowest_sync.as_secs_f64());
    out.counter(
        "bowline_store_disk_failures_total",
        "Writes and syncs that the disk refused.",
        work.failures,
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

/// What became of what applications are told.
fn events(out: &mut Exposition, api: &Api) {
    let events = api.node().events();
    let mut each = |name, help, value: fn(&Counts) -> u64| {
        let mut family = out.family(Kind::Counter, name, help);
        for (application, counts) in events.counts() {
            family.sample(&[("application", application)], value(counts));
        }
    };
    each("bowline_events_told_total", "Events that applications have taken.", Counts::told);
    each(
        "bowline_events_lost_total",
        "Events that a full queue refused, or that the end left over.",
        Counts::lost,
    );
    each(
        "bowline_events_failed_batches_total",
        "Batches of events that were sent in vain, and again.",
        Counts::failed,
    );
}

/// What waits for its time, and what became of what did.
fn schedules(out: &mut Exposition, api: &Api) {
    let scheduled = api.node().scheduled();
    let Pending { schedules, bytes, late_ms } = scheduled.pending();
    out.gauge("bowline_schedule_pending", "Publications that wait for their time.", schedules);
    out.gauge("bowline_schedule_pending_bytes", "Bytes of what waits, overhead included.", bytes);
    let late_seconds = Duration::from_millis(late_ms).as_secs_f64();
    out.gauge("bowline_schedule_late_seconds", "How long the first of them has been due.", late_seconds);
    let counts = scheduled.counts();
    for (name, help, count) in [
        ("bowline_schedule_published_total", "Runs that were published.", &counts.published),
        (
            "bowline_schedule_failed_total",
            "Tries to publish that failed, and are made again.",
            &counts.failed,
        ),
        (
            "bowline_schedule_refused_total",
            "Runs that cannot be published: their channel is not what it was.",
            &counts.refused,
        ),
        ("bowline_schedule_skipped_total", "Runs that were skipped because they were late.", &counts.skipped),
    ] {
        out.counter(name, help, count.load(Ordering::Relaxed));
    }
}

fn tls(out: &mut Exposition, api: &Api) {
    let listeners: Vec<TlsStats> = api.node().tls().iter().map(|tls| tls.stats()).collect();
    let mut each = |kind, name, help, value: fn(&TlsStats) -> Option<u64>| {
        let mut family = out.family(kind, name, help);
        for tls in &listeners {
            if let Some(value) = value(tls) {
                family.sample(&[("listener", tls.section)], value);
            }
        }
    };
    each(Kind::Counter, "bowline_tls_handshakes_total", "TLS handshakes that were completed.", |tls| {
        Some(tls.handshakes)
    });
    each(
        Kind::Counter,
        "bowline_tls_failed_handshakes_total",
        "TLS handshakes that were not completed: late, broken off, or nothing in common.",
        |tls| Some(tls.failed_handshakes),
    );
    each(
        Kind::Gauge,
        "bowline_tls_certificate_not_after_seconds",
        "When the certificate in use ends, in seconds since 1970.",
        |tls| tls.not_after.map(|end| end.as_secs()),
    );
    each(
        Kind::Gauge,
        "bowline_tls_certificate_refused",
        "1 if the files hold another certificate than the one in use, because it cannot be used.",
        |tls| Some(tls.is_refused.into()),
    );
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
