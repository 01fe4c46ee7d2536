//! Keys that Centrifugo has and this version of Bowline does not.
//!
//! They are answered by name rather than as unknown, so that whoever brings an existing file knows that the spelling is
//! right, and what to do instead. What asks for nothing that is missing, because it is switched off, is the case anyway, or
//! tunes something that is done otherwise here, is only noted.

use super::tree::{Node, Raw};

/// What is said about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) wish: Wish,
    /// What is the case here, or what to do instead. Empty if there is nothing to say.
    pub(super) advice: &'static str,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing: the feature is off, as it is here.
    Off,
    /// What is so anyway, or what nobody outside could tell.
    Met,
    /// What is not here.
    Missing,
}

/// How a key is answered when it asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It is so here, whatever the value.
    Always,
    /// It is so here if the value is this one.
    Only(&'static str),
    /// It is not here.
    Missing,
}

use Answer::{Always, Missing, Only};

const INTERNAL: &str = "the internal listener always has it";
const ONE_NODE: &str = "one process keeps everything itself; there is no other engine yet";
const IN_A_FILE: &str = "put it into a file, or as it is into the key without `_b64`";
const OF_CLIENTS: &str = "it is about connections that are made, and this one is accepted";
const NO_BUFFERS: &str =
    "there are no buffers while a connection is idle, and none that are kept for the next";
const NO_MAPS: &str = "streams are what there is; maps and shared polls are experimental there";

/// Keys and sections; whatever stands below a section is meant too, unless it has a row of its own.
const KEYS: &[(&str, Answer, &str)] = &[
    (
        "admin",
        Always,
        "there is no web interface: `bowline top` and the pages of the internal listener show what goes on",
    ),
    ("broker", Missing, ONE_NODE),
    ("broker.enabled", Always, "the broker is this process"),
    ("broker.type", Only("memory"), ONE_NODE),
    ("channel.proxy.subscribe_stream", Missing, ""),
    ("client.connect_code_to_unidirectional_disconnect", Missing, ""),
    (
        "client.insecure_skip_token_signature_verify",
        Missing,
        "set a key: `bowline token` signs tokens for tests",
    ),
    ("consumers", Missing, ""),
    ("debug", Always, "the internal listener always has /debug/bowline/; profiles of Go there are none"),
    ("dev", Missing, "start with --dev"),
    ("enable_unreleased_features", Missing, "there are none behind a switch"),
    ("engine", Missing, ONE_NODE),
    ("engine.type", Only("memory"), ONE_NODE),
    ("graphite", Missing, "let a collector scrape /metrics of the internal listener"),
    ("grpc_api.tls.cert_pem_b64", Missing, IN_A_FILE),
    ("grpc_api.tls.client_ca_pem_b64", Missing, IN_A_FILE),
    ("grpc_api.tls.insecure_skip_verify", Missing, OF_CLIENTS),
    ("grpc_api.tls.key_pem_b64", Missing, IN_A_FILE),
    ("grpc_api.tls.server_ca_pem", Missing, OF_CLIENTS),
    ("grpc_api.tls.server_ca_pem_b64", Missing, OF_CLIENTS),
    ("grpc_api.tls.server_ca_pem_file", Missing, OF_CLIENTS),
    ("grpc_api.tls.server_name", Missing, OF_CLIENTS),
    ("health", Missing, "it is /health of the internal listener"),
    ("health.enabled", Always, "the internal listener always answers /health"),
    ("health.handler_prefix", Only("/health"), "it is /health of the internal listener"),
    ("http_api.disabled", Missing, "without `http_api.key` every call is refused"),
    ("http_api.external", Always, "the server API is on both listeners"),
    ("http_server.external_h2c", Missing, "clients speak HTTP/1.1"),
    ("http_server.http3", Missing, "clients speak HTTP/1.1"),
    ("http_server.internal_tls.cert_pem_b64", Missing, IN_A_FILE),
    ("http_server.internal_tls.client_ca_pem_b64", Missing, IN_A_FILE),
    ("http_server.internal_tls.insecure_skip_verify", Missing, OF_CLIENTS),
    ("http_server.internal_tls.key_pem_b64", Missing, IN_A_FILE),
    ("http_server.internal_tls.server_ca_pem", Missing, OF_CLIENTS),
    ("http_server.internal_tls.server_ca_pem_b64", Missing, OF_CLIENTS),
    ("http_server.internal_tls.server_ca_pem_file", Missing, OF_CLIENTS),
    ("http_server.internal_tls.server_name", Missing, OF_CLIENTS),
    ("http_server.tls.cert_pem_b64", Missing, IN_A_FILE),
    ("http_server.tls.client_ca_pem_b64", Missing, IN_A_FILE),
    ("http_server.tls.insecure_skip_verify", Missing, OF_CLIENTS),
    ("http_server.tls.key_pem_b64", Missing, IN_A_FILE),
    ("http_server.tls.server_ca_pem", Missing, OF_CLIENTS),
    ("http_server.tls.server_ca_pem_b64", Missing, OF_CLIENTS),
    ("http_server.tls.server_ca_pem_file", Missing, OF_CLIENTS),
    ("http_server.tls.server_name", Missing, OF_CLIENTS),
    ("http_server.tls_autocert", Missing, "get certificates with a tool for it"),
    (
        "http_server.tls_external",
        Always,
        "each listener has its own TLS: `http_server.tls` and `http_server.internal_tls`",
    ),
    ("log.file", Missing, "the log goes to standard error; the service manager keeps it"),
    ("map_broker", Missing, NO_MAPS),
    ("map_broker.type", Only("memory"), NO_MAPS),
    (
        "node.info_metrics_aggregate_interval",
        Always,
        "metrics are told as they are, at /metrics of the internal listener",
    ),
    ("opentelemetry", Missing, ""),
    ("pid_file", Missing, "the service manager knows the process"),
    ("presence_manager", Missing, ONE_NODE),
    ("presence_manager.enabled", Always, "presence is kept by this process"),
    ("presence_manager.type", Only("memory"), ONE_NODE),
    ("prometheus", Always, INTERNAL),
    ("prometheus.enabled", Always, "the internal listener always answers /metrics"),
    ("prometheus.handler_prefix", Only("/metrics"), "it is /metrics of the internal listener"),
    ("shared_poll", Missing, NO_MAPS),
    ("swagger", Always, "the internal listener always has /api/openapi.json"),
    ("uni_grpc.tls.cert_pem_b64", Missing, IN_A_FILE),
    ("uni_grpc.tls.client_ca_pem_b64", Missing, IN_A_FILE),
    ("uni_grpc.tls.insecure_skip_verify", Missing, OF_CLIENTS),
    ("uni_grpc.tls.key_pem_b64", Missing, IN_A_FILE),
    ("uni_grpc.tls.server_ca_pem", Missing, OF_CLIENTS),
    ("uni_grpc.tls.server_ca_pem_b64", Missing, OF_CLIENTS),
    ("uni_grpc.tls.server_ca_pem_file", Missing, OF_CLIENTS),
    ("uni_grpc.tls.server_name", Missing, OF_CLIENTS),
    ("uni_http_stream.connect_code_to_http_response", Missing, ""),
    ("uni_sse.connect_code_to_http_response", Missing, ""),
    ("uni_websocket.join_push_messages", Missing, ""),
    ("uni_websocket.read_buffer_size", Always, NO_BUFFERS),
    ("uni_websocket.use_write_buffer_pool", Always, NO_BUFFERS),
    ("uni_websocket.write_buffer_size", Always, NO_BUFFERS),
    ("usage_stats", Always, "nothing is sent to anybody"),
    ("websocket.ping_pong", Missing, ""),
    ("websocket.read_buffer_size", Always, NO_BUFFERS),
    ("websocket.use_write_buffer_pool", Always, NO_BUFFERS),
    ("websocket.write_buffer_size", Always, NO_BUFFERS),
    ("webtransport", Missing, "clients fall back to WebSocket"),
];

/// Options of channels, and sections of them.
const CHANNEL_OPTIONS: &[(&str, Answer, &str)] = &[
    ("map", Missing, NO_MAPS),
    ("map_clients_presence_channel_prefix", Missing, NO_MAPS),
    ("map_users_presence_channel_prefix", Missing, NO_MAPS),
    ("shared_poll", Missing, NO_MAPS),
    ("subscribe_stream_bidirectional", Missing, ""),
    ("subscribe_stream_proxy_enabled", Missing, ""),
    ("subscribe_stream_proxy_name", Missing, ""),
    ("subscription_type", Only("stream"), NO_MAPS),
];

/// Tells what `key` asks for if it is one that is not here.
///
/// `None` is also what a section gets of which only the keys below it have an answer: these are looked at one by one.
pub(super) fn find(key: &str, node: &Node) -> Option<Found> {
    let option_of = |section: &str| key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'));
    let option = option_of("channel.without_namespace")
        // After the namespace, whose name may hold dots.
        .or_else(|| option_of("channel.namespaces").and_then(|rest| rest.rsplit('.').next()));
    let row = row(KEYS, key).or_else(|| row(CHANNEL_OPTIONS, option?))?;
    Some(answer(row, node))
}

/// Whether keys below the section `key` have answers of their own.
pub(super) fn has_parts(key: &str) -> bool {
    KEYS.iter().any(|(known, ..)| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// Tells what an environment variable asks for whose name without the prefix is `name`, if its key is one that is not here.
pub(super) fn find_variable(name: &str, node: &Node) -> Option<Found> {
    let names = |(key, ..): &&(&str, Answer, &str)| {
        let variable = super::layers::variable(key);
        name.strip_prefix(variable.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    let is_option = |(option, ..): &&(&str, Answer, &str)| {
        let variable = super::layers::variable(option);
        name.strip_suffix(variable.as_str()).is_some_and(|namespace| namespace.ends_with('_'))
    };
    let of_channels =
        name.starts_with("CHANNEL_NAMESPACES_") || name.starts_with("CHANNEL_WITHOUT_NAMESPACE_");
    let row = KEYS
        .iter()
        .filter(names)
        .max_by_key(|(key, ..)| key.len())
        .or_else(|| CHANNEL_OPTIONS.iter().filter(|_| of_channels).find(is_option))?;
    Some(answer(row, node))
}

/// The row of a key, or of the innermost section that has one.
fn row<'r>(rows: &'r [(&str, Answer, &str)], key: &str) -> Option<&'r (&'r str, Answer, &'r str)> {
    rows.iter()
        .filter(|(known, ..)| {
            key.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        .max_by_key(|(known, ..)| known.len())
}

fn answer((_, answer, advice): &(&str, Answer, &'static str), node: &Node) -> Found {
    let wish = match answer {
        Only(word) if is_word(node, word) => Wish::Met,
        _ if node.is_off() => Wish::Off,
        Always => Wish::Met,
        Only(_) | Missing => Wish::Missing,
    };
    Found { wish, advice }
}

fn is_word(node: &Node, word: &str) -> bool {
    matches!(&node.raw, Raw::Text(text) if text == word)
}
