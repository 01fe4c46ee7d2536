//! The rules between settings: each value is right by itself, but do they fit together?

use std::net::IpAddr;

use super::reader::Reader;
use super::schema::join;
use super::settings::{ChannelOptions, Config, Token};

/// Shorter keys can be guessed off line from one token: HS256 needs 256 bits (RFC 7518, section 3.2).
const SHORTEST_KEY_BYTES: usize = 32;

/// Reports every rule the settings break, and notes what works but is unwise.
pub(super) fn rules(config: &Config, reader: &mut Reader) {
    let mut rules = Rules { reader };
    listeners(config, &mut rules);
    client(config, &mut rules);
    token(&config.client.token, "client.token", &mut rules);
    token(&config.client.subscription_token.token, "client.subscription_token", &mut rules);
    channel(config, &mut rules);
}

/// Refuses what `--dev` opens to everybody on a listener that others can reach.
pub(super) fn dev(config: &Config, reader: &mut Reader) {
    let mut rules = Rules { reader };
    let http = &config.http_server;
    for (key, address) in
        [("http_server.address", http.address), ("http_server.internal_address", http.internal_address)]
    {
        rules.require(
            is_loopback(address),
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
    rules.note(config.http_api.insecure && !is_loopback(http.internal_address), || {
        "`http_api.insecure` lets everybody who reaches the internal listener call the server API".to_owned()
    });
}

fn client(config: &Config, rules: &mut Rules<'_>) {
    let client = &config.client;
    rules.require(
        client.pong_timeout < client.ping_interval,
        &["client.pong_timeout", "client.ping_interval"],
        "`client.pong_timeout` must be below `client.ping_interval`".to_owned(),
    );
    rules.require(
        !client.subscription_token.enabled || client.subscription_token.token.hmac_secret_key.is_some(),
        &["client.subscription_token.enabled", "client.subscription_token.hmac_secret_key"],
        "`client.subscription_token.enabled` needs `client.subscription_token.hmac_secret_key`".to_owned(),
    );
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
