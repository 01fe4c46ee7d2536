//! The rules between settings: each value is right by itself, but do they fit together?

use std::net::IpAddr;

use super::hooks::{DEFAULT_PROXY, is_identity};
use super::reader::Reader;
use super::schema::join;
use super::settings::{ChannelOptions, Config, ProxyOptions, Tls, Token};
use super::types::RecoveryMode;

/// Shorter keys can be guessed off line from one token: HS256 needs 256 bits (RFC 7518, section 3.2).
const SHORTEST_KEY_BYTES: usize = 32;

/// Reports every rule the settings break, and notes what works but is unwise.
pub(super) fn rules(config: &Config, reader: &mut Reader) {
    let mut rules = Rules { reader };
    listeners(config, &mut rules);
    for (key, level) in [
        ("websocket.compression_level", config.websocket.compression_level),
        ("uni_websocket.compression_level", config.uni_websocket.compression_level),
    ] {
        let what = format!("`{key}` is from 1, which is fast, to 9, which makes short");
        rules.require((1..=9).contains(&level), &[key], what);
    }
    tls(&config.http_server.tls, "http_server.tls", &mut rules);
    tls(&config.http_server.internal_tls, "http_server.internal_tls", &mut rules);
    tls(&config.grpc_api.tls, "grpc_api.tls", &mut rules);
    tls(&config.uni_grpc.tls, "uni_grpc.tls", &mut rules);
    client(config, &mut rules);
    token(&config.client.token, "client.token", &mut rules);
    token(&config.client.subscription_token.token, "client.subscription_token", &mut rules);
    channel(config, &mut rules);
    proxies(config, &mut rules);
    emulated_headers(config, &mut rules);
}

/// Who is asked must be there.
fn proxies(config: &Config, rules: &mut Rules<'_>) {
    for proxy in &config.proxies {
        let key = join(&join("proxies", &proxy.name), "endpoint");
        let is_set = proxy.options.endpoint.is_some();
        rules.require(is_set, &[&key], format!("`{key}` is not set: nobody can be asked"));
    }
    let (client, channel) = (&config.client.proxy, &config.channel.proxy);
    for (section, proxy) in [
        ("client.proxy.connect", &client.connect),
        ("client.proxy.refresh", &client.refresh),
        ("client.proxy.disconnect", &client.disconnect),
    ] {
        let (key, enabled) = (join(section, "endpoint"), join(section, "enabled"));
        let is_set = !proxy.enabled || proxy.options.endpoint.is_some();
        rules.require(
            is_set,
            &[&enabled, &key],
            format!("`{enabled}` is set without `{key}`: nobody can be asked"),
        );
    }
    let connect = &client.connect;
    let is_in_time = connect.options.timeout < config.client.stale_close_delay;
    rules.require(
        !connect.enabled || is_in_time,
        &["client.proxy.connect.timeout", "client.stale_close_delay"],
        "`client.proxy.connect.timeout` must be below `client.stale_close_delay`, which is how long a client may take to \
         connect"
            .to_owned(),
    );
    for (section, options) in [
        ("channel.proxy.subscribe", &channel.subscribe),
        ("channel.proxy.publish", &channel.publish),
        ("channel.proxy.sub_refresh", &channel.sub_refresh),
        ("channel.proxy.state", &channel.state),
        ("channel.proxy.unsubscribe", &channel.unsubscribe),
        ("rpc.proxy", &config.rpc.proxy),
    ] {
        let key = join(section, "endpoint");
        let is_there = config.proxies.iter().any(|proxy| *proxy.name == *DEFAULT_PROXY);
        rules.require(
            options.endpoint.is_none() || !is_there,
            &[&key],
            format!("set `{key}` or one of `proxies` with the `name` \"default\", not both: it is the one with that name"),
        );
    }
    let outside = ("rpc.without_namespace".to_owned(), &config.rpc.without_namespace);
    let inside =
        config.rpc.namespaces.iter().map(|space| (join("rpc.namespaces", &space.name), &space.options));
    for (section, options) in inside.chain([outside]) {
        let fan_key = join(&section, "fan_out");
        let proxy = ("rpc.proxy", &config.rpc.proxy);
        named_proxy(config, &section, "proxy", options.proxy_enabled, &options.proxy_name, proxy, rules);
        let is_there = |name: &str| config.proxies.iter().any(|proxy| *proxy.name == *name);
        for name in options.fan_out.iter().filter(|name| !is_there(name)) {
            let what = format!("`{fan_key}` holds \"{name}\", which is not the `name` of one of `proxies`");
            rules.require(false, &[&fan_key], what);
        }
        rules.require(
            !options.proxy_enabled || options.fan_out.is_empty(),
            &[&fan_key],
            format!("set `{section}.proxy_enabled` or `{fan_key}`, not both"),
        );
    }
}

/// Whoever `{section}.{prefix}_name` names must be there, if `{section}.{prefix}_enabled` is set: the application in the
/// section of the event, for the name "default", or one of `proxies`.
fn named_proxy(
    config: &Config,
    section: &str,
    prefix: &str,
    enabled: bool,
    name: &str,
    (of_event, options): (&str, &ProxyOptions),
    rules: &mut Rules<'_>,
) {
    let name_key = join(section, &format!("{prefix}_name"));
    let enabled_key = join(section, &format!("{prefix}_enabled"));
    let is_default = name == DEFAULT_PROXY;
    let is_there =
        config.proxies.iter().any(|proxy| *proxy.name == *name) || is_default && options.endpoint.is_some();
    let endpoint = join(of_event, "endpoint");
    rules.require(
        !enabled || is_there,
        &[&name_key, &enabled_key, &endpoint],
        match is_default {
            true => format!("`{enabled_key}` needs `{endpoint}`, or one of `proxies` as `{name_key}`"),
            false => format!("`{name_key}` is {name:?}, which is not the `name` of one of `proxies`"),
        },
    );
}

/// Clients must not say by themselves what proxies say of them.
fn emulated_headers(config: &Config, rules: &mut Rules<'_>) {
    let (client, channel) = (&config.client.proxy, &config.channel.proxy);
    let of_events = [
        ("client.proxy.connect", &client.connect.options),
        ("client.proxy.refresh", &client.refresh.options),
        ("channel.proxy.subscribe", &channel.subscribe),
        ("channel.proxy.publish", &channel.publish),
        ("channel.proxy.sub_refresh", &channel.sub_refresh),
        ("channel.proxy.state", &channel.state),
        ("channel.proxy.unsubscribe", &channel.unsubscribe),
        ("rpc.proxy", &config.rpc.proxy),
    ];
    let of_events = of_events.map(|(section, options)| (section.to_owned(), options));
    let named = config.proxies.iter().map(|proxy| (join("proxies", &proxy.name), &proxy.options));
    for (section, options) in named.chain(of_events) {
        let key = join(&section, "emulated_headers");
        for header in options.emulated_headers.iter().filter(|header| is_identity(header.name())) {
            let what = format!(
                "`{key}` holds \"{}\", by which proxies say who a client is: clients must not choose it",
                header.as_str()
            );
            rules.require(false, &[&key], what);
        }
    }
}

/// Refuses what `--dev` opens to everybody on a listener that others can reach.
pub(super) fn dev(config: &Config, reader: &mut Reader) {
    let mut rules = Rules { reader };
    let http = &config.http_server;
    for (key, address, is_open) in [
        ("http_server.address", http.address, true),
        ("http_server.internal_address", http.internal_address, true),
        ("uni_grpc.address", config.uni_grpc.address, config.uni_grpc.enabled),
    ] {
        rules.require(
            !is_open || is_loopback(address),
            &[key],
            format!(
                "`{key}` is {address}, but --dev lets everybody in and is for loopback addresses only: \
                 use 127.0.0.1 or ::1, or start without --dev"
            ),
        );
    }
}

struct Rules<'r> {
    reader: &'r mut Reader,
}

impl Rules<'_> {
    /// Reports `what` unless the rule is kept; it stands where the first of `keys` that was set stands.
    ///
    /// A rule about a value that could not be read has nothing to say.
    fn require(&mut self, kept: bool, keys: &[&str], what: String) {
        if kept || keys.iter().any(|key| self.reader.is_broken(key)) {
            return;
        }
        let place = keys
            .iter()
            .map(|key| self.reader.place(key))
            .find(|place| **place != super::error::Place::Default)
            .cloned()
            .unwrap_or(super::error::Place::Default);
        if let Some(key) = keys.first() {
            self.reader.wrong(key, &place, what);
        }
    }

    fn note(&mut self, noteworthy: bool, what: impl FnOnce() -> String) {
        if noteworthy {
            self.reader.notes.push(what());
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn listeners(config: &Config, rules: &mut Rules<'_>) {
    let http = &config.http_server;
    let same = http.port != 0
        && http.port == http.internal_port
        && (http.address == http.internal_address
            || http.address.is_unspecified()
            || http.internal_address.is_unspecified());
    rules.require(
        !same,
        &["http_server.internal_port", "http_server.port"],
        format!(
            "`http_server.internal_port` is {}, the port of the public listener: they need different ports",
            http.internal_port
        ),
    );
    let grpc = &config.grpc_api;
    let reachable = grpc.enabled && !is_loopback(grpc.address);
    rules.note(grpc.insecure && reachable, || {
        "`grpc_api.insecure` lets everybody who reaches its listener call the server API".to_owned()
    });
    rules.note(!grpc.insecure && reachable && !grpc.tls.enabled, || {
        "`grpc_api` is not encrypted: its key can be read by whoever is on the way; set `grpc_api.tls`, or keep the network private".to_owned()
    });
    let uni = &config.uni_grpc;
    rules.note(uni.enabled && !uni.tls.enabled && !is_loopback(uni.address), || {
        "`uni_grpc` is not encrypted: set `uni_grpc.tls`, put a proxy that encrypts in front of it, or keep the network private".to_owned()
    });
    rules.note(config.http_api.insecure && !is_loopback(http.internal_address), || {
        "`http_api.insecure` lets everybody who reaches the internal listener call the server API".to_owned()
    });
}

/// What is in the files is looked at when the server starts.
fn tls(tls: &Tls, section: &str, rules: &mut Rules<'_>) {
    let enabled = join(section, "enabled");
    for (name, what, text, file, is_needed) in [
        ("cert_pem", "a certificate", tls.cert_pem.is_some(), tls.cert_pem_file.is_some(), true),
        ("key_pem", "the key of its certificate", tls.key_pem.is_some(), tls.key_pem_file.is_some(), true),
        ("client_ca_pem", "roots", tls.client_ca_pem.is_some(), tls.client_ca_pem_file.is_some(), false),
    ] {
        let key = join(section, name);
        let file_key = format!("{key}_file");
        rules.require(!(text && file), &[&key, &file_key], format!("set `{key}` or `{file_key}`, not both"));
        rules.require(
            !tls.enabled || !is_needed || text || file,
            &[&enabled, &file_key, &key],
            format!("`{enabled}` needs {what}: set `{file_key}`"),
        );
    }
}

fn client(config: &Config, rules: &mut Rules<'_>) {
    let client = &config.client;
    rules.require(
        client.pong_timeout < client.ping_interval,
        &["client.pong_timeout", "client.ping_interval"],
        "`client.pong_timeout` must be below `client.ping_interval`".to_owned(),
    );
    rules.require(
        !client.subscription_token.enabled || client.subscription_token.token.has_key(),
        &["client.subscription_token.enabled", "client.subscription_token.hmac_secret_key"],
        "`client.subscription_token.enabled` needs `client.subscription_token.hmac_secret_key` or another key there"
            .to_owned(),
    );
    let personal = &client.subscribe_to_user_personal_channel;
    let namespace = personal.personal_channel_namespace.as_deref();
    rules.require(
        config.channel_options(namespace).is_some(),
        &["client.subscribe_to_user_personal_channel.personal_channel_namespace"],
        format!(
            "`client.subscribe_to_user_personal_channel.personal_channel_namespace` is {:?}, which is not in \
             `channel.namespaces`",
            namespace.unwrap_or_default()
        ),
    );
    rules.note(personal.single_connection && !personal.enabled, || {
        "`client.subscribe_to_user_personal_channel.single_connection` has no effect without `enabled`"
            .to_owned()
    });
    rules.note(client.insecure && !is_loopback(config.http_server.address), || {
        "`client.insecure` lets everybody who reaches the public listener do everything".to_owned()
    });
}

fn token(token: &Token, section: &str, rules: &mut Rules<'_>) {
    for (exact, regex, both) in [
        ("audience", "audience_regex", token.audience.is_some() && token.audience_regex.is_some()),
        ("issuer", "issuer_regex", token.issuer.is_some() && token.issuer_regex.is_some()),
    ] {
        let (exact, regex) = (join(section, exact), join(section, regex));
        rules.require(!both, &[&regex, &exact], format!("set `{exact}` or `{regex}`, not both"));
    }
    let short = token.hmac_secret_key.as_ref().is_some_and(|key| key.expose().len() < SHORTEST_KEY_BYTES);
    rules.note(short, || {
        format!("`{section}.hmac_secret_key` is shorter than {SHORTEST_KEY_BYTES} bytes: it can be guessed from one token")
    });
}

fn channel(config: &Config, rules: &mut Rules<'_>) {
    options(config, &config.channel.without_namespace, "channel.without_namespace", rules);
    for namespace in &config.channel.namespaces {
        options(config, &namespace.options, &join("channel.namespaces", &namespace.name), rules);
    }
}

fn options(config: &Config, options: &ChannelOptions, section: &str, rules: &mut Rules<'_>) {
    let proxy = &config.channel.proxy;
    for (prefix, enabled, name, of_event) in [
        (
            "subscribe_proxy",
            options.subscribe_proxy_enabled,
            &options.subscribe_proxy_name,
            ("channel.proxy.subscribe", &proxy.subscribe),
        ),
        (
            "publish_proxy",
            options.publish_proxy_enabled,
            &options.publish_proxy_name,
            ("channel.proxy.publish", &proxy.publish),
        ),
        (
            "sub_refresh_proxy",
            options.sub_refresh_proxy_enabled,
            &options.sub_refresh_proxy_name,
            ("channel.proxy.sub_refresh", &proxy.sub_refresh),
        ),
        (
            "state_proxy",
            options.state_proxy_enabled,
            &options.state_proxy_name,
            ("channel.proxy.state", &proxy.state),
        ),
        (
            "unsubscribe_proxy",
            options.unsubscribe_proxy_enabled,
            &options.unsubscribe_proxy_name,
            ("channel.proxy.unsubscribe", &proxy.unsubscribe),
        ),
    ] {
        named_proxy(config, section, prefix, enabled, name, of_event, rules);
    }
    let key = |name: &str| join(section, name);
    let (size, ttl) = (key("history_size"), key("history_ttl"));
    rules.require(
        options.history_size.is_none() || options.history_ttl.is_some(),
        &[&size, &ttl],
        format!("`{size}` keeps nothing without `{ttl}`: set both"),
    );
    rules.require(
        options.history_ttl.is_none() || options.history_size.is_some(),
        &[&ttl, &size],
        format!("`{ttl}` keeps nothing without `{size}`: set both"),
    );
    let recovery = key("force_recovery");
    rules.require(
        !options.force_recovery || options.history_size.is_some() || options.history_ttl.is_some(),
        &[&recovery, &size, &ttl],
        format!("`{recovery}` needs history: set `{size}` and `{ttl}`"),
    );
    let (own_meta, common_meta) = (key("history_meta_ttl"), "channel.history_meta_ttl");
    let (meta_key, meta) = match options.history_meta_ttl {
        Some(own) => (own_meta.as_str(), own),
        None => (common_meta, config.channel.history_meta_ttl),
    };
    rules.require(
        options.history_ttl.is_none_or(|ttl| ttl <= meta),
        &[&ttl, meta_key],
        format!("`{ttl}` must not be above `{meta_key}`: the position of a stream outlives its publications"),
    );
    rules.note(options.auto_cache_recover && options.force_recovery_mode != RecoveryMode::Cache, || {
        format!(
            "`{}` has no effect without `{}` = \"cache\"",
            key("auto_cache_recover"),
            key("force_recovery_mode")
        )
    });
    for (right, wide) in [
        ("subscribe", options.allow_subscribe_for_client),
        ("publish", options.allow_publish_for_client || options.allow_publish_for_subscriber),
        ("presence", options.allow_presence_for_client || options.allow_presence_for_subscriber),
        ("history", options.allow_history_for_client || options.allow_history_for_subscriber),
    ] {
        let anonymous = match right {
            "subscribe" => options.allow_subscribe_for_anonymous,
            "publish" => options.allow_publish_for_anonymous,
            "presence" => options.allow_presence_for_anonymous,
            _ => options.allow_history_for_anonymous,
        };
        rules.note(anonymous && !wide, || {
            format!(
                "`{}` has no effect: it widens `allow_{right}_for_client` to anonymous users, which is off",
                key(&format!("allow_{right}_for_anonymous"))
            )
        });
    }
}
