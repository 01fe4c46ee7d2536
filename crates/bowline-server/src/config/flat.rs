//! Keys of Centrifugo before version 6, which had no sections: `token_hmac_secret_key` is `client.token.hmac_secret_key`
//! since. Whoever brings such a file is told each key's new name.

use super::namespaces::option_entries;
use super::tree::{Node, Raw};

/// Keys whose new name follows from no rule.
const NAMES: &[(&str, &str)] = &[
    ("address", "http_server.address"),
    ("admin_password", "admin.password"),
    ("admin_secret", "admin.secret"),
    ("allow_anonymous_connect_without_token", "client.allow_anonymous_connect_without_token"),
    ("allowed_origins", "client.allowed_origins"),
    ("anonymous_connect_without_token", "client.allow_anonymous_connect_without_token"),
    ("api_insecure", "http_api.insecure"),
    ("api_key", "http_api.key"),
    ("global_history_meta_ttl", "channel.history_meta_ttl"),
    ("granular_proxy_mode", "proxies"),
    ("internal_address", "http_server.internal_address"),
    ("internal_port", "http_server.internal_port"),
    ("log_file", "log.file"),
    ("log_level", "log.level"),
    ("name", "node.name"),
    ("namespaces", "channel.namespaces"),
    ("port", "http_server.port"),
    ("proxy_connect_endpoint", "client.proxy.connect.endpoint"),
    ("proxy_connect_timeout", "client.proxy.connect.timeout"),
    ("proxy_http_headers", "client.proxy.connect.http_headers"),
    ("proxy_publish_endpoint", "channel.proxy.publish.endpoint"),
    ("proxy_publish_timeout", "channel.proxy.publish.timeout"),
    ("proxy_refresh_endpoint", "client.proxy.refresh.endpoint"),
    ("proxy_refresh_timeout", "client.proxy.refresh.timeout"),
    ("proxy_rpc_endpoint", "rpc.proxy.endpoint"),
    ("proxy_rpc_timeout", "rpc.proxy.timeout"),
    ("proxy_subscribe_endpoint", "channel.proxy.subscribe.endpoint"),
    ("proxy_subscribe_timeout", "channel.proxy.subscribe.timeout"),
    ("proxy_sub_refresh_endpoint", "channel.proxy.sub_refresh.endpoint"),
    ("rpc_namespaces", "rpc.namespaces"),
    ("shutdown_timeout", "shutdown.timeout"),
    ("tls_cert", "http_server.tls.cert_pem_file"),
    ("tls_key", "http_server.tls.key_pem_file"),
    ("tls_external", "http_server.tls_external"),
    (
        "user_personal_channel_namespace",
        "client.subscribe_to_user_personal_channel.personal_channel_namespace",
    ),
    ("user_personal_single_connection", "client.subscribe_to_user_personal_channel.single_connection"),
    ("user_subscribe_to_personal", "client.subscribe_to_user_personal_channel.enabled"),
];

/// What became a section.
const SECTIONS: &[(&str, &str)] = &[
    ("channel_", "channel."),
    ("client_", "client."),
    ("grpc_api_", "grpc_api."),
    ("http_stream_", "http_stream."),
    ("redis_", "engine.redis."),
    ("sse_", "sse."),
    ("subscription_token_", "client.subscription_token."),
    ("token_", "client.token."),
    ("uni_http_stream_", "uni_http_stream."),
    ("uni_sse_", "uni_sse."),
    ("uni_websocket_", "uni_websocket."),
    ("websocket_", "websocket."),
];

/// Switches that became sections with a key of their own.
const SWITCHES: &[&str] = &[
    "admin",
    "grpc_api",
    "health",
    "http_stream",
    "prometheus",
    "sse",
    "swagger",
    "uni_grpc",
    "uni_http_stream",
    "uni_sse",
    "uni_websocket",
    "websocket",
];

/// The name that a key at the top of a file has since version 6, if it is one from before.
pub(super) fn new_name(key: &str, node: &Node) -> Option<String> {
    if matches!(node.raw, Raw::Table(_)) {
        return None;
    }
    if let Some((_, name)) = NAMES.iter().find(|(old, _)| *old == key) {
        return Some((*name).to_owned());
    }
    if key == "engine" {
        return Some("engine.type".to_owned());
    }
    if SWITCHES.contains(&key) {
        return Some(format!("{key}.enabled"));
    }
    if option_entries("").iter().any(|option| option.key() == key) {
        return Some(format!("channel.without_namespace.{key}"));
    }
    let of_section =
        |(prefix, section): &(&str, &str)| Some(format!("{section}{}", key.strip_prefix(prefix)?));
    SECTIONS.iter().find_map(of_section)
}
