//! `docs/compatibility.md`: what of Centrifugo's interface works here, found out by asking a running server.
//!
//! Nothing in the table is written by hand but the names. `BOWLINE_BLESS=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use bowline_server::config::{Config, Loaded, Secret, Sources};
use bowline_server::token;
use serde_json::{Value, json};

use crate::support::{KEY, Running, config, with_server};

const TOKEN_KEY: &str = "0123456789abcdef0123456789abcdef";

/// Commands of clients, in an order in which each can succeed, with a request for each.
fn commands(token: &dyn Fn(Value) -> String) -> Vec<(&'static str, Value)> {
    let own = json!({"sub": "42", "channel": "a", "exp": 4_000_000_000_u64});
    vec![
        ("connect", json!({"token": token(json!({"sub": "42", "exp": 4_000_000_000_u64}))})),
        ("subscribe", json!({"channel": "a", "token": token(own.clone())})),
        ("publish", json!({"channel": "a", "data": 1})),
        ("presence", json!({"channel": "a"})),
        ("presence_stats", json!({"channel": "a"})),
        ("history", json!({"channel": "a", "limit": 10})),
        ("sub_refresh", json!({"channel": "a", "token": token(own)})),
        ("refresh", json!({"token": token(json!({"sub": "42"}))})),
        ("unsubscribe", json!({"channel": "a"})),
        ("rpc", json!({"method": "anything", "data": {}})),
        ("ping", json!({})),
        ("send", json!({"data": {}})),
    ]
}

/// Methods of the server API, with a request for each.
fn methods() -> Vec<(&'static str, Value)> {
    let map = json!({"channel": "a", "key": "k", "data": 1});
    let mut methods = vec![
        ("publish", json!({"channel": "a", "data": 1})),
        ("broadcast", json!({"channels": ["a"], "data": 1})),
        ("subscribe", json!({"user": "7", "channel": "a"})),
        ("unsubscribe", json!({"user": "7", "channel": "a"})),
        ("disconnect", json!({"user": "7"})),
        ("refresh", json!({"user": "7"})),
        ("presence", json!({"channel": "a"})),
        ("presence_stats", json!({"channel": "a"})),
        ("history", json!({"channel": "a", "limit": 10})),
        ("history_remove", json!({"channel": "a"})),
        ("channels", json!({})),
        ("info", json!({})),
        ("rpc", json!({"method": "anything"})),
        ("batch", json!({"commands": [{"info": {}}]})),
        ("connections", json!({"user": "7"})),
        ("block_user", json!({"user": "nobody"})),
        ("unblock_user", json!({"user": "nobody"})),
        ("revoke_token", json!({"uid": "none"})),
        ("invalidate_user_tokens", json!({"user": "nobody"})),
        ("schedule_list", json!({})),
        ("schedule_cancel", json!({"id": "none"})),
    ];
    let experimental = [
        "map_publish",
        "map_remove",
        "map_read_state",
        "map_read_stream",
        "map_stats",
        "map_clear",
        "shared_poll_publish",
    ];
    methods.extend(experimental.map(|name| (name, map.clone())));
    let commercial =
        ["update_user_status", "get_user_status", "delete_user_status", "send_push_notification"];
    methods.extend(commercial.map(|name| (name, json!({}))));
    methods
}

/// Settings, each with a value other than its default, and with what it needs besides.
const OPTIONS: &[(&str, &str)] = &[
    ("http_server.address", "127.0.0.2"),
    ("http_server.port", "7000"),
    ("http_server.internal_address", "127.0.0.2"),
    ("http_server.internal_port", "7001"),
    ("http_server.tls.enabled", "true"),
    ("http_api.handler_prefix", "/server"),
    ("http_api.error_mode", "transport"),
    ("http_api.insecure", "true"),
    ("grpc_api.enabled", "true"),
    ("uni_grpc.enabled", "true"),
    ("websocket.handler_prefix", "/ws"),
    ("websocket.message_size_limit", "1000"),
    ("websocket.write_timeout", "3s"),
    ("websocket.compression", "true"),
    ("websocket.read_buffer_size", "512"),
    ("sse.enabled", "true"),
    ("http_stream.enabled", "true"),
    ("emulation.handler_prefix", "/emulated"),
    ("uni_websocket.enabled", "true"),
    ("uni_sse.enabled", "true"),
    ("uni_http_stream.enabled", "true"),
    ("init.enabled", "true"),
    ("webtransport.enabled", "true"),
    ("client.ping_interval", "30s"),
    ("client.pong_timeout", "5s"),
    ("client.stale_close_delay", "5s"),
    ("client.expired_close_delay", "5s"),
    ("client.expired_sub_close_delay", "5s"),
    ("client.presence_update_interval", "5s"),
    ("client.channel_position_check_delay", "5s"),
    ("client.channel_limit", "5"),
    ("client.queue_max_size", "5000"),
    ("client.concurrency", "8"),
    ("client.history_max_publication_limit", "5"),
    ("client.recovery_max_publication_limit", "5"),
    ("client.connection_limit", "5"),
    ("client.user_connection_limit", "5"),
    ("client.connection_rate_limit", "5"),
    ("client.insecure", "true"),
    ("client.allow_anonymous_connect_without_token", "true"),
    ("client.allowed_origins", "https://a.example"),
    ("client.connect_include_server_time", "true"),
    ("client.user_id_http_header", "X-User"),
    ("client.proxy.connect.enabled", "true"),
    ("client.token.audience", "a"),
    ("client.token.audience_regex", "a"),
    ("client.token.issuer", "a"),
    ("client.token.issuer_regex", "a"),
    ("client.token.user_id_claim", "user"),
    ("client.token.rsa_public_key", include_str!("../../src/token/tests/keys/rsa.pem")),
    ("client.token.ecdsa_public_key", include_str!("../../src/token/tests/keys/p256.pem")),
    ("client.token.jwks_public_endpoint", "https://id.example/keys"),
    ("client.subscription_token.audience", "a"),
    ("client.subscribe_to_user_personal_channel.enabled", "true"),
    ("client.subscribe_to_user_personal_channel.single_connection", "true"),
    ("channel.max_length", "100"),
    ("channel.history_meta_ttl", "800h"),
    ("channel.private_prefix", "!"),
    ("channel.namespace_boundary", "::"),
    ("channel.user_boundary", "##"),
    ("channel.user_separator", ";"),
    ("channel.without_namespace.presence", "true"),
    ("channel.without_namespace.join_leave", "true"),
    ("channel.without_namespace.force_push_join_leave", "true"),
    ("channel.without_namespace.history_size", "10"),
    ("channel.without_namespace.history_meta_ttl", "800h"),
    ("channel.without_namespace.force_positioning", "true"),
    ("channel.without_namespace.allow_positioning", "true"),
    ("channel.without_namespace.force_recovery", "true"),
    ("channel.without_namespace.allow_recovery", "true"),
    ("channel.without_namespace.force_recovery_mode", "cache"),
    ("channel.without_namespace.auto_cache_recover", "true"),
    ("channel.without_namespace.allowed_delta_types", "fossil"),
    ("channel.without_namespace.delta_publish", "true"),
    ("channel.without_namespace.allow_tags_filter", "true"),
    ("channel.without_namespace.allow_subscribe_for_client", "true"),
    ("channel.without_namespace.allow_subscribe_for_anonymous", "true"),
    ("channel.without_namespace.allow_publish_for_subscriber", "true"),
    ("channel.without_namespace.allow_publish_for_client", "true"),
    ("channel.without_namespace.allow_publish_for_anonymous", "true"),
    ("channel.without_namespace.allow_presence_for_subscriber", "true"),
    ("channel.without_namespace.allow_presence_for_client", "true"),
    ("channel.without_namespace.allow_presence_for_anonymous", "true"),
    ("channel.without_namespace.allow_history_for_subscriber", "true"),
    ("channel.without_namespace.allow_history_for_client", "true"),
    ("channel.without_namespace.allow_history_for_anonymous", "true"),
    ("channel.without_namespace.allow_user_limited_channels", "true"),
    ("channel.without_namespace.channel_regex", "^[a-z]+$"),
    ("channel.without_namespace.publication_data_format", "json"),
    ("channel.without_namespace.subscribe_proxy_enabled", "true"),
    ("channel.without_namespace.publish_proxy_enabled", "true"),
    ("channel.without_namespace.sub_refresh_proxy_enabled", "true"),
    ("channel.without_namespace.subscribe_stream_proxy_enabled", "true"),
    ("channel.without_namespace.subscription_type", "map"),
    ("rpc.namespace_boundary", "::"),
    ("rpc.ping.enabled", "true"),
    ("rpc.proxy.endpoint", "https://a.example"),
    ("engine.redis.address", "redis://127.0.0.1:6379"),
    ("broker.nats.url", "nats://127.0.0.1:4222"),
    ("consumers", "[{}]"),
    ("admin.enabled", "true"),
    ("debug.enabled", "true"),
    ("swagger.enabled", "true"),
    ("http_api.external", "true"),
    ("http_api.disabled", "true"),
    ("engine.type", "redis"),
    ("presence_manager.type", "redis"),
    ("graphite.enabled", "true"),
    ("opentelemetry.enabled", "true"),
    ("log.file", "/var/log/bowline"),
    ("pid_file", "/run/bowline.pid"),
    ("usage_stats.disabled", "true"),
    ("health.enabled", "true"),
    ("prometheus.enabled", "true"),
    ("shutdown.timeout", "5s"),
    ("log.level", "debug"),
    ("node.name", "a"),
];

/// What some options need, so that the settings are right as a whole.
const BESIDES: &[(&str, &str, &str)] = &[
    ("http_server.tls.enabled", "http_server.tls.cert_pem_file", "server.crt"),
    ("http_server.tls.enabled", "http_server.tls.key_pem_file", "server.key"),
    ("channel.without_namespace.history_size", "channel.without_namespace.history_ttl", "60s"),
    ("channel.without_namespace.force_recovery", "channel.without_namespace.history_size", "10"),
    ("channel.without_namespace.force_recovery", "channel.without_namespace.history_ttl", "60s"),
    ("channel.without_namespace.delta_publish", "channel.without_namespace.allowed_delta_types", "fossil"),
    (
        "channel.without_namespace.auto_cache_recover",
        "channel.without_namespace.force_recovery_mode",
        "cache",
    ),
];

fn load(settings: &[(&str, &str)]) -> Result<Loaded, String> {
    let overrides = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let sources = Sources { overrides, ..Sources::none() };
    Config::load_with_notes(sources).map_err(|error| error.to_string())
}

/// What setting `key` comes to.
fn option(key: &str, value: &str) -> String {
    let mut settings = vec![(key, value)];
    let besides = BESIDES.iter().filter(|(of, _, _)| *of == key).map(|(_, key, value)| (*key, *value));
    settings.extend(besides.clone());
    match load(&settings) {
        Ok(Loaded { config, notes }) => {
            let without =
                load(&besides.collect::<Vec<_>>()).map_or_else(|_| Config::default(), |loaded| loaded.config);
            if config != without {
                return "works".to_owned();
            }
            let note = notes.iter().find(|note| note.contains(key));
            let note = note.unwrap_or_else(|| panic!("{key} = {value} sets nothing and nobody says so"));
            format!("noted: {}", note.rsplit("ignored: ").next().unwrap_or_default())
        }
        Err(error) if error.contains("known to Centrifugo") => {
            match error.split_once("not supported by this version of Bowline: ") {
                Some((_, advice)) => format!("refused: {advice}"),
                None => "planned".to_owned(),
            }
        }
        // Known, and to be completed by others: the feature is there.
        Err(error) if error.contains("needs") || error.contains("without") => "works".to_owned(),
        Err(error) => panic!("{key}: {error}"),
    }
}

async fn commands_of(server: &Arc<Running>) -> Vec<(&'static str, String)> {
    let secret = Secret::new(TOKEN_KEY).unwrap();
    let token = |claims: Value| token::mint(&secret, &claims).unwrap();
    let mut client = server.open().await;
    let mut found = Vec::new();
    for (name, request) in commands(&token) {
        let command = json!({"id": 1, name: request}).to_string();
        client.send(&command).await.unwrap();
        let outcome = loop {
            let Ok(reply) = client.next_text().await else {
                break "closes the connection with 3508".to_owned();
            };
            // A frame may hold the reply and pushes, each in its line.
            let reply = reply
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|m| m["id"] == 1);
            match reply {
                Some(reply) if reply[name].is_object() => break "works".to_owned(),
                Some(reply) => break format!("answers {}", reply["error"]["code"]),
                None => {}
            }
        };
        found.push((name, outcome));
    }
    found
}

async fn methods_of(server: &Arc<Running>) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (name, request) in methods() {
        let (status, answer) = server.api(name, Some(KEY), &request.to_string()).await;
        let outcome = match serde_json::from_str::<Value>(&answer) {
            Ok(answer) if answer["result"].is_object() || answer["replies"].is_array() => "works".to_owned(),
            Ok(answer) => format!("answers {}", answer["error"]["code"]),
            Err(_) => format!("HTTP {status}"),
        };
        found.push((name, outcome));
    }
    found
}

fn table(title: &str, head: &str, rows: impl IntoIterator<Item = (String, String)>, text: &mut String) {
    let _ = writeln!(text, "\n## {title}\n\n| {head} | here |\n|---|---|");
    for (name, outcome) in rows {
        let _ = writeln!(text, "| `{name}` | {outcome} |");
    }
}

#[bowline::test]
async fn the_table_of_what_is_compatible_is_what_a_running_server_says() {
    let settings = [
        ("channel.without_namespace.history_size", "10"),
        ("channel.without_namespace.history_ttl", "60s"),
        ("channel.without_namespace.presence", "true"),
    ];
    let mut settings = config(&settings);
    settings.client.token.hmac_secret_key = Secret::new(TOKEN_KEY);
    with_server(settings, async |server| {
        let mut text = "# What of Centrifugo's interface works here\n\n\
            Made by a test that asks a running server, `tests/server/compatibility.rs`; `BOWLINE_BLESS=1` writes it anew.\n\
            *Works*: it was answered with a result; an option is read and changes the settings.\n\
            *Noted*: it changes nothing here, and the operator is told why; the server starts.\n\
            *Refused*: the server does not start with it, and says what to do instead.\n\
            *Planned*: the setting is known by its name and refused; switched off, it is ignored with a note.\n"
            .to_owned();
        let owned = |rows: Vec<(&'static str, String)>| rows.into_iter().map(|(name, outcome)| (name.to_owned(), outcome));
        table("Commands of clients", "command", owned(commands_of(&server).await), &mut text);
        text.push_str("\n`rpc` is answered by webhooks, where some are configured; `send` has nobody to take it.\n");
        table("Methods of the server API", "method", owned(methods_of(&server).await), &mut text);
        text.push_str("\nUnknown methods of `rpc` are 104, as there. What answers HTTP 404 exists in the commercial edition only, as do there `connections` and the \
            four methods behind it. `schedule_list` and `schedule_cancel` exist here only: see [Publishing later](scheduling.md).\n");
        let options = OPTIONS.iter().map(|(key, value)| ((*key).to_owned(), option(key, value)));
        table("Settings", "key", options, &mut text);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
        if std::env::var_os("BOWLINE_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text, "docs/compatibility.md is not what this server does; BOWLINE_BLESS=1 writes it:\n{text}");
    })
    .await;
}
