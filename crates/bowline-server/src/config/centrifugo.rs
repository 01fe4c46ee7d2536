//! Keys that Centrifugo has and this version of Bowline does not.
//!
//! They are refused by name rather than as unknown, so that whoever brings an existing file knows that the
//! spelling is right. A feature that is switched off there asks for nothing and is only noted.

use super::tree::{Node, Raw};

/// What an unsupported key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsupported {
    /// Nothing: the feature is off, as it is here.
    Off,
    /// The feature.
    Wanted,
}

/// Keys and sections; whatever stands below a section is meant too.
const KEYS: &[&str] = &[
    "admin",
    "broker",
    "channel.proxy",
    "channel.publication_data_format",
    "client.concurrency",
    "client.connect_code_to_unidirectional_disconnect",
    "client.connect_include_server_time",
    "client.connection_rate_limit",
    "client.proxy",
    "client.subscribe_to_user_personal_channel",
    "client.subscription_token.ecdsa_public_key",
    "client.subscription_token.jwks_public_endpoint",
    "client.subscription_token.rsa_public_key",
    "client.token.ecdsa_public_key",
    "client.token.jwks_public_endpoint",
    "client.token.rsa_public_key",
    "client.user_id_http_header",
    "consumers",
    "debug",
    "dev",
    "emulation",
    "enable_unreleased_features",
    "engine",
    "graphite",
    "grpc_api",
    "health",
    "http_api.disabled",
    "http_api.external",
    "http_server.external_h2c",
    "http_server.http3",
    "http_server.internal_tls",
    "http_server.tls",
    "http_server.tls_autocert",
    "http_server.tls_external",
    "http_stream",
    "init",
    "log.file",
    "map_broker",
    "node",
    "opentelemetry",
    "pid_file",
    "presence_manager",
    "prometheus",
    "proxies",
    "rpc.proxy",
    "rpc.without_namespace",
    "shared_poll",
    "sse",
    "swagger",
    "uni_grpc",
    "uni_http_stream",
    "uni_sse",
    "uni_websocket",
    "usage_stats",
    "websocket.compression",
    "websocket.compression_level",
    "websocket.compression_min_size",
    "websocket.ping_pong",
    "websocket.read_buffer_size",
    "websocket.use_write_buffer_pool",
    "websocket.write_buffer_size",
    "webtransport",
];

/// Options of channels, and sections of them.
const CHANNEL_OPTIONS: &[&str] = &[
    "allow_tags_filter",
    "allowed_delta_types",
    "auto_cache_recover",
    "delta_publish",
    "map",
    "map_clients_presence_channel_prefix",
    "map_users_presence_channel_prefix",
    "publish_proxy_enabled",
    "publish_proxy_name",
    "shared_poll",
    "sub_refresh_proxy_enabled",
    "sub_refresh_proxy_name",
    "subscribe_proxy_enabled",
    "subscribe_proxy_name",
    "subscribe_stream_bidirectional",
    "subscribe_stream_proxy_enabled",
    "subscribe_stream_proxy_name",
    "subscription_type",
];

/// Choices that name what this version does anyway.
const SAME: &[(&str, &str)] = &[
    ("engine.type", "memory"),
    ("broker.type", "memory"),
    ("presence_manager.type", "memory"),
    ("map_broker.type", "memory"),
    ("usage_stats.disabled", "true"),
];

/// Tells what `key` asks for if it is one of the unsupported ones.
pub(super) fn unsupported(key: &str, node: &Node) -> Option<Unsupported> {
    let option_of = |section: &str| key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'));
    let option = option_of("channel.without_namespace")
        // After the namespace, whose name may hold dots.
        .or_else(|| option_of("channel.namespaces").and_then(|rest| rest.rsplit('.').next()));
    let known = stands_in(KEYS, key) || option.is_some_and(|option| stands_in(CHANNEL_OPTIONS, option));
    known.then(|| if asks_for_nothing(key, node) { Unsupported::Off } else { Unsupported::Wanted })
}

/// Tells whether the rest of an environment variable's name, after its prefix, names an unsupported key.
pub(super) fn unsupported_variable(name: &str, node: &Node) -> Option<Unsupported> {
    let names = |key: &&str| {
        let variable = super::layers::variable(key);
        name.strip_prefix(variable.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    let option_of_channels = |rest: &str| {
        CHANNEL_OPTIONS.iter().any(|option| {
            let variable = super::layers::variable(option);
            rest.strip_suffix(variable.as_str()).is_some_and(|namespace| namespace.ends_with('_'))
        })
    };
    let known = KEYS.iter().any(names)
        || (name.starts_with("CHANNEL_NAMESPACES_") || name.starts_with("CHANNEL_WITHOUT_NAMESPACE_"))
            && option_of_channels(name);
    let same = || SAME.iter().any(|(key, word)| super::layers::variable(key) == name && is_word(node, word));
    known.then(|| if node.is_off() || same() { Unsupported::Off } else { Unsupported::Wanted })
}

fn stands_in(keys: &[&str], key: &str) -> bool {
    keys.iter()
        .any(|known| key.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

fn asks_for_nothing(key: &str, node: &Node) -> bool {
    let same = |key: &str, node: &Node| SAME.iter().any(|(same, word)| *same == key && is_word(node, word));
    if node.is_off() || same(key, node) {
        return true;
    }
    match &node.raw {
        Raw::Table(table) => {
            table.iter().all(|(name, node)| node.is_off() || same(&super::schema::join(key, name), node))
        }
        _ => false,
    }
}

fn is_word(node: &Node, word: &str) -> bool {
    match &node.raw {
        Raw::Text(text) => text == word,
        Raw::Bool(true) => word == "true",
        _ => false,
    }
}
