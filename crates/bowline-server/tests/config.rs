//! Settings: sources and their order, what is refused and how it is said, and the sample file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline_server::config::{
    Config, ConfigError, DEV_API_KEY, DataFormat, ErrorMode, LogLevel, NonZeroDuration, RecoveryMode, Report,
    Secret, Sources, Verdict, render_defaults,
};

/// A settings file that is removed with the value.
struct File(PathBuf);

impl File {
    fn new(extension: &str, text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "bowline-config-{}-{}.{extension}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("the temporary directory is writable");
        Self(path)
    }

    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(Sources { file: Some(self.0.clone()), ..Sources::none() })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn toml(text: &str) -> Result<Config, ConfigError> {
    File::new("toml", text).load()
}

fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn env(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(Sources::of_env(strings(pairs).into_iter()))
}

fn flags(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(Sources { overrides: strings(pairs), ..Sources::none() })
}

fn secs(seconds: u64) -> NonZeroDuration {
    NonZeroDuration::new(Duration::from_secs(seconds)).expect("above zero")
}

/// The text of the only problem.
#[track_caller]
fn only_problem(result: Result<Config, ConfigError>) -> String {
    let error = result.expect_err("the settings must be refused");
    assert_eq!(error.problems().len(), 1, "{error}");
    error.problems()[0].what.clone()
}

#[test]
fn without_sources_there_are_the_defaults() {
    let config = Config::load(Sources::none()).expect("the defaults are valid");
    assert_eq!(config, Config::default());
    assert_eq!(config.http_server.address.to_string(), "127.0.0.1");
    assert_eq!((config.http_server.port, config.http_server.internal_port), (8000, 8001));
    assert_eq!(config.client.ping_interval, secs(25));
    assert_eq!(config.client.pong_timeout, secs(8));
    assert_eq!(config.client.channel_limit.get(), 128);
    assert_eq!(config.client.queue_max_size.get(), 1_048_576);
    assert_eq!(config.websocket.message_size_limit.get(), 65_536);
    assert_eq!(config.channel.history_meta_ttl, secs(720 * 3600));
    assert_eq!(config.channel.private_prefix.as_deref(), Some("$"));
    assert!(!config.channel.without_namespace.allow_subscribe_for_client);
    assert_eq!(config.http_api.key, None);
}

#[test]
fn the_sample_parses_back_to_the_defaults() {
    let sample = render_defaults();
    assert_eq!(toml(&sample).expect("the sample is valid"), Config::default());
}

#[test]
fn every_key_is_in_the_sample() {
    // `Debug` prints every field of every struct, so it knows keys that the declaration might forget.
    let sample: ::toml::Table = render_defaults().parse().expect("the sample is TOML");
    let debug = format!("{:#?}", Config::default());
    let mut path: Vec<&str> = Vec::new();
    let mut seen = 0;
    for line in debug.lines() {
        let name = line.trim_start();
        let depth = (line.len() - name.len()) / 4;
        let Some((name, _)) = name.split_once(": ") else { continue };
        path.truncate(depth - 1);
        path.push(name);
        // The structs that lend their keys to the section around them.
        let keys: Vec<_> = match path.as_slice() {
            ["client", "subscription_token", "token", rest @ ..] => {
                [&["client", "subscription_token"], rest].concat()
            }
            ["client", "proxy", event, "options", rest @ ..] => [&["client", "proxy", event], rest].concat(),
            keys => keys.to_vec(),
        };
        let Some((last, sections)) = keys.split_last().filter(|_| !path.ends_with(&["options"])) else {
            continue;
        };
        let section = sections.iter().try_fold(&sample, |table, key| table.get(*key)?.as_table());
        assert!(section.is_some_and(|table| table.contains_key(*last)), "{keys:?} is missing");
        seen += 1;
    }
    assert!(seen > 80, "the test saw only {seen} fields:\n{debug}");
}

#[test]
fn the_commented_namespace_of_the_sample_is_valid() {
    let sample = render_defaults();
    let (_, namespace) = sample.split_once("# [[channel.namespaces]]").expect("there is one");
    let text = format!("[[channel.namespaces]]{}", namespace.replace("\n# ", "\n"));
    let config = toml(&text).expect("it is valid");
    assert_eq!(config.channel.namespaces.len(), 1);
    assert_eq!(config.channel_options(Some("chat")), config.channel_options(None));
}

#[test]
fn the_commented_application_of_the_sample_is_valid() {
    let sample = render_defaults();
    let (_, proxy) = sample.split_once("# [[proxies]]").expect("there is one");
    let (proxy, _) = proxy.split_once("\n\n").expect("something follows");
    let config = toml(&format!("[[proxies]]{}", proxy.replace("\n# ", "\n"))).expect("it is valid");
    assert_eq!(config.proxies.len(), 1);
    assert_eq!(&*config.proxies[0].name, "app");
}

const NAMESPACES_TOML: &str = r#"
    [client]
    ping_interval = "10s"
    pong_timeout = "2500ms"
    allowed_origins = ["https://example.com", "https://*.example.com"]
    token.hmac_secret_key = "0123456789abcdef0123456789abcdef"

    [channel.without_namespace]
    allow_subscribe_for_client = true

    [[channel.namespaces]]
    name = "chat"
    history_size = 50
    history_ttl = "10m"
    force_recovery = true
    force_recovery_mode = "cache"
    channel_regex = "^[a-z]+$"
    publication_data_format = "json_object"

    [http_api]
    error_mode = "transport"
"#;

const NAMESPACES_JSON: &str = r#"{
    "client": {
        "ping_interval": "10s", "pong_timeout": "2500ms",
        "allowed_origins": ["https://example.com", "https://*.example.com"],
        "token": {"hmac_secret_key": "0123456789abcdef0123456789abcdef"}
    },
    "channel": {
        "without_namespace": {"allow_subscribe_for_client": true},
        "namespaces": [{
            "name": "chat", "history_size": 50, "history_ttl": "10m", "force_recovery": true,
            "force_recovery_mode": "cache", "channel_regex": "^[a-z]+$", "publication_data_format": "json_object"
        }]
    },
    "http_api": {"error_mode": "transport"}
}"#;

const NAMESPACES_YAML: &str = r#"
client:
  ping_interval: 10s
  pong_timeout: 2500ms
  allowed_origins: ["https://example.com", "https://*.example.com"]
  token: {hmac_secret_key: 0123456789abcdef0123456789abcdef}
channel:
  without_namespace:
    allow_subscribe_for_client: true
  namespaces:
    - name: chat
      history_size: 50
      history_ttl: 10m
      force_recovery: true
      force_recovery_mode: cache
      channel_regex: ^[a-z]+$
      publication_data_format: json_object
http_api:
  error_mode: transport
"#;

#[test]
fn toml_json_and_yaml_say_the_same() {
    let config = toml(NAMESPACES_TOML).expect("valid");
    assert_eq!(File::new("json", NAMESPACES_JSON).load().expect("valid"), config);
    assert_eq!(File::new("yaml", NAMESPACES_YAML).load().expect("valid"), config);
    assert_eq!(File::new("yml", NAMESPACES_YAML).load().expect("valid"), config);

    assert_eq!(config.client.pong_timeout.get(), Duration::from_millis(2500));
    assert_eq!(config.http_api.error_mode, ErrorMode::Transport);
    assert!(config.client.allows_origin(Some("https://a.example.com")));
    let chat = config.channel_options(Some("chat")).expect("configured");
    assert_eq!(chat.history().map(|history| (history.size.get(), history.ttl.as_secs())), Some((50, 600)));
    assert_eq!(chat.force_recovery_mode, RecoveryMode::Cache);
    assert_eq!(chat.publication_data_format, Some(DataFormat::JsonObject));
    assert!(chat.channel_regex.as_ref().is_some_and(|regex| regex.is_match("abc") && !regex.is_match("ABC")));
    assert!(!chat.allow_subscribe_for_client, "a namespace does not inherit from without_namespace");
    assert!(config.channel_options(None).is_some_and(|options| options.allow_subscribe_for_client));
    assert_eq!(config.channel_options(Some("news")), None);
}

#[test]
fn an_empty_file_changes_nothing() {
    for extension in ["toml", "yaml"] {
        assert_eq!(File::new(extension, "\n").load().expect("valid"), Config::default());
    }
    assert_eq!(File::new("json", "{}").load().expect("valid"), Config::default());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file =
        File::new("toml", "[http_server]\nport = 1000\ninternal_port = 1001\nfirst_byte_timeout = \"1s\"");
    let config = Config::load(Sources {
        file: Some(file.0.clone()),
        env: strings(&[("BOWLINE_HTTP_SERVER_PORT", "2000"), ("BOWLINE_HTTP_SERVER_INTERNAL_PORT", "2001")])
            .into_iter(),
        overrides: strings(&[("http_server.port", "3000")]),
        dev: false,
    })
    .expect("valid");
    assert_eq!((config.http_server.port, config.http_server.internal_port), (3000, 2001));
    assert_eq!(config.http_server.first_byte_timeout, secs(1));
}

#[test]
fn our_prefix_wins_over_the_other_in_any_order() {
    let theirs = ("CENTRIFUGO_CLIENT_CHANNEL_LIMIT", "5");
    let ours = ("BOWLINE_CLIENT_CHANNEL_LIMIT", "7");
    assert_eq!(env(&[theirs]).expect("valid").client.channel_limit.get(), 5);
    assert_eq!(env(&[theirs, ours]).expect("valid").client.channel_limit.get(), 7);
    assert_eq!(env(&[ours, theirs]).expect("valid").client.channel_limit.get(), 7);
}

#[test]
fn the_environment_sets_every_kind_of_value() {
    let config = env(&[
        ("BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY", "0123456789abcdef0123456789abcdef"),
        ("BOWLINE_CLIENT_INSECURE", "true"),
        ("BOWLINE_CLIENT_ALLOW_ANONYMOUS_CONNECT_WITHOUT_TOKEN", "1"),
        ("BOWLINE_CLIENT_ALLOWED_ORIGINS", "https://a.example https://b.example"),
        ("BOWLINE_CLIENT_USER_CONNECTION_LIMIT", "3"),
        ("BOWLINE_WEBSOCKET_WRITE_TIMEOUT", "1500ms"),
        ("BOWLINE_HTTP_SERVER_ADDRESS", "::"),
        ("BOWLINE_LOG_LEVEL", "debug"),
        ("BOWLINE_CHANNEL_PRIVATE_PREFIX", ""),
    ])
    .expect("valid");
    assert_eq!(config.client.token.hmac_secret_key, Secret::new("0123456789abcdef0123456789abcdef"));
    assert!(config.client.insecure && config.client.allow_anonymous_connect_without_token);
    assert_eq!(config.client.allowed_origins.len(), 2);
    assert_eq!(config.client.user_connection_limit.map(usize::from), Some(3));
    assert_eq!(config.websocket.write_timeout.get(), Duration::from_millis(1500));
    assert!(config.http_server.address.is_unspecified());
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.channel.private_prefix, None);
}

#[test]
fn namespaces_come_through_the_environment() {
    let config = env(&[
        ("BOWLINE_CHANNEL_NAMESPACES", "a1 my.chat-room"),
        ("BOWLINE_CHANNEL_NAMESPACES_A1_HISTORY_SIZE", "10"),
        ("CENTRIFUGO_CHANNEL_NAMESPACES_A1_HISTORY_TTL", "5m"),
        ("BOWLINE_CHANNEL_NAMESPACES_MY_CHAT_ROOM_PRESENCE", "true"),
    ])
    .expect("valid");
    let a1 = config.channel_options(Some("a1")).expect("named");
    assert_eq!(a1.history().map(|history| (history.size.get(), history.ttl.as_secs())), Some((10, 300)));
    assert!(config.channel_options(Some("my.chat-room")).expect("named").presence);
}

#[test]
fn a_namespace_whose_name_ends_like_an_option_is_told_apart() {
    let config = env(&[
        ("BOWLINE_CHANNEL_NAMESPACES", "xx xx_allow"),
        ("BOWLINE_CHANNEL_NAMESPACES_XX_ALLOW_RECOVERY", "true"),
        ("BOWLINE_CHANNEL_NAMESPACES_XX_ALLOW_PRESENCE", "true"),
    ])
    .expect("valid");
    assert!(config.channel_options(Some("xx")).expect("named").allow_recovery);
    assert!(config.channel_options(Some("xx_allow")).expect("named").presence);

    // Both could be meant; the longer name is the more likely.
    let config = env(&[
        ("BOWLINE_CHANNEL_NAMESPACES", "xx xx_force_push"),
        ("BOWLINE_CHANNEL_NAMESPACES_XX_FORCE_PUSH_JOIN_LEAVE", "true"),
    ])
    .expect("valid");
    assert!(config.channel_options(Some("xx_force_push")).expect("named").join_leave);
    assert!(!config.channel_options(Some("xx")).expect("named").force_push_join_leave);
}

#[test]
fn the_environment_changes_namespaces_of_the_file() {
    let file = File::new("json", NAMESPACES_JSON);
    let config = Config::load(Sources {
        file: Some(file.0.clone()),
        env: strings(&[
            ("BOWLINE_CHANNEL_NAMESPACES", "news"),
            ("BOWLINE_CHANNEL_NAMESPACES_CHAT_HISTORY_SIZE", "7"),
        ])
        .into_iter(),
        overrides: strings(&[("channel.namespaces.chat.presence", "true")]),
        dev: false,
    })
    .expect("valid");
    let chat = config.channel_options(Some("chat")).expect("of the file");
    assert_eq!(chat.history_size.map(usize::from), Some(7));
    assert!(chat.presence && chat.force_recovery);
    assert!(config.channel_options(Some("news")).is_some());
}

#[test]
fn a_json_list_of_namespaces_fits_into_one_variable() {
    let list = r#"[{"name": "chat", "presence": true}]"#;
    let config = env(&[("CENTRIFUGO_CHANNEL_NAMESPACES", list)]).expect("valid");
    assert!(config.channel_options(Some("chat")).expect("named").presence);
    assert!(only_problem(env(&[("BOWLINE_CHANNEL_NAMESPACES", "[{")])).contains("is not JSON"));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let error = toml("[client]\nchannel_limit = 5\nchanel_limit = 5\n").expect_err("unknown");
    let text = error.to_string();
    assert!(text.contains(".toml:3: unknown key `client.chanel_limit`"), "{text}");
    assert!(text.contains("did you mean `client.channel_limit`?"), "{text}");
}

#[test]
fn unknown_keys_get_the_right_hint() {
    for (text, hint) in [
        ("[clients]\nping_interval = \"1s\"", "`client`"),
        ("[websocket]\nchannel_limit = 1", "`client.channel_limit`"),
        (
            "[[channel.namespaces]]\nname = \"chat\"\nhistroy_size = 1",
            "`channel.namespaces.chat.history_size`",
        ),
        ("[channel.without_namespace]\npresense = true", "`channel.without_namespace.presence`"),
    ] {
        let what = only_problem(toml(text));
        assert!(what.contains("unknown key") && what.contains(&format!("did you mean {hint}?")), "{what}");
    }
    let what = only_problem(toml("zzzzzzzz = 1"));
    assert_eq!(what, "unknown key `zzzzzzzz`", "nothing is near");
}

#[test]
fn an_unknown_variable_of_ours_is_refused_and_of_others_is_noted() {
    let error = env(&[("BOWLINE_CLIENT_CHANEL_LIMIT", "5")]).expect_err("unknown").to_string();
    assert!(error.contains("environment variable BOWLINE_CLIENT_CHANEL_LIMIT"), "{error}");
    assert!(error.contains("did you mean `BOWLINE_CLIENT_CHANNEL_LIMIT`?"), "{error}");

    let loaded = Config::load_with_notes(Sources::of_env(
        strings(&[("CENTRIFUGO_WHATEVER", "5"), ("PATH", "/bin")]).into_iter(),
    ))
    .expect("ignored");
    assert_eq!(loaded.config, Config::default());
    assert!(
        matches!(loaded.notes.as_slice(), [note] if note.contains("CENTRIFUGO_WHATEVER")),
        "{:?}",
        loaded.notes
    );
}

/// The toolkit's sources are searched for the variables that it reads, so that a new one is not forgotten.
#[test]
fn what_the_toolkit_reads_from_the_environment_does_not_keep_the_server_from_starting() {
    fn variables(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                variables(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let names = text.split("var_os(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.filter(|name| name.starts_with("BOWLINE_")).map(str::to_owned));
            }
        }
    }
    let mut found = BTreeSet::new();
    variables(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../bowline/src"), &mut found);
    assert!(found.contains("BOWLINE_DETECTOR") && found.contains("BOWLINE_WATCHDOG"), "{found:?}");
    for name in found {
        let config = env(&[(&name, "off")]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(config, Config::default(), "{name}");
    }
}

#[test]
fn variables_of_a_kubernetes_service_of_our_name_are_not_settings() {
    let config = env(&[
        ("BOWLINE_SERVICE_HOST", "10.0.0.1"),
        ("BOWLINE_SERVICE_PORT", "8000"),
        ("BOWLINE_SERVICE_PORT_HTTP", "8000"),
        ("BOWLINE_PORT", "tcp://10.0.0.1:8000"),
        ("BOWLINE_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("BOWLINE_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("BOWLINE_INTERNAL_PORT_8001_TCP_PROTO", "tcp"),
        ("BOWLINE_INTERNAL_SERVICE_HOST", "10.0.0.2"),
    ]);
    assert_eq!(config.expect("ignored"), Config::default());
    assert!(env(&[("BOWLINE_PORT_HTTP_TCP", "1")]).is_err());
}

#[test]
fn an_unknown_flag_is_refused() {
    let what = only_problem(flags(&[("client.channel_limits", "5")]));
    assert!(what.contains("did you mean `client.channel_limit`?"), "{what}");
    assert_eq!(flags(&[("client.channel_limit", "5")]).expect("known").client.channel_limit.get(), 5);
}

#[test]
fn a_secret_is_refused_on_the_command_line() {
    let what = only_problem(flags(&[("http_api.key", "hunter2hunter2")]));
    assert!(what.contains("BOWLINE_HTTP_API_KEY") && !what.contains("hunter2"), "{what}");
}

#[test]
fn what_only_centrifugo_has_is_called_by_its_name() {
    for (text, key) in [
        ("[http_server.http3]\nenabled = true", "http_server.http3"),
        ("[engine]\ntype = \"redis\"", "engine.type"),
        ("[channel.proxy.subscribe_stream]\nendpoint = \"grpc://x\"", "channel.proxy.subscribe_stream"),
        (
            "[[channel.namespaces]]\nname = \"a.b\"\nsubscribe_stream_proxy_enabled = true",
            "channel.namespaces.a.b.subscribe_stream_proxy_enabled",
        ),
        ("[health]\nenabled = true\nhandler_prefix = \"/up\"", "health.handler_prefix"),
        ("[broker]\nenabled = true\ntype = \"nats\"", "broker.type"),
    ] {
        let what = only_problem(toml(text));
        let known = format!("`{key}` is known to Centrifugo, not supported by this version of Bowline");
        assert!(what.starts_with(&known), "{what}");
    }
    let what = only_problem(env(&[("CENTRIFUGO_ENGINE_REDIS_ADDRESS", "redis://localhost")]));
    assert!(what.starts_with("known to Centrifugo, not supported by this version of Bowline: one process"));
    let namespaces = [("CENTRIFUGO_CHANNEL_NAMESPACES", "chat")];
    let option = [("CENTRIFUGO_CHANNEL_NAMESPACES_CHAT_SUBSCRIPTION_TYPE", "map")];
    assert!(only_problem(env(&[namespaces, option].concat())).starts_with("known to Centrifugo"));
}

#[test]
fn an_application_that_is_to_be_asked_must_be_there() {
    for (text, what) in [
        (
            "[client.proxy.connect]\nenabled = true",
            "`client.proxy.connect.enabled` is set without `client.proxy.connect.endpoint`: nobody can be asked",
        ),
        (
            "[channel.without_namespace]\nsubscribe_proxy_enabled = true",
            "`channel.without_namespace.subscribe_proxy_enabled` needs `channel.proxy.subscribe.endpoint`, or one of \
             `proxies` as `channel.without_namespace.subscribe_proxy_name`",
        ),
        (
            "[[channel.namespaces]]\nname = \"chat\"\npublish_proxy_enabled = true\npublish_proxy_name = \"app\"",
            "`channel.namespaces.chat.publish_proxy_name` is \"app\", which is not the `name` of one of `proxies`",
        ),
        (
            "[rpc.without_namespace]\nproxy_enabled = true",
            "`rpc.without_namespace.proxy_enabled` needs `rpc.proxy.endpoint`, or one of `proxies` as \
             `rpc.without_namespace.proxy_name`",
        ),
        (
            "[channel.proxy.publish]\nendpoint = \"http://a\"\n[[proxies]]\nname = \"default\"\nendpoint = \"http://b\"",
            "set `channel.proxy.publish.endpoint` or one of `proxies` with the `name` \"default\", not both: it is the one \
             with that name",
        ),
        (
            "[rpc.proxy]\nemulated_headers = [\"X-Forwarded-For\"]",
            "`rpc.proxy.emulated_headers` holds \"x-forwarded-for\", by which proxies say who a client is: clients must not \
             choose it",
        ),
        (
            "[client.proxy.connect]\nenabled = true\nendpoint = \"http://a\"\ntimeout = \"10s\"",
            "`client.proxy.connect.timeout` must be below `client.stale_close_delay`, which is how long a client may take to \
             connect",
        ),
    ] {
        assert_eq!(only_problem(toml(text)), what);
    }
    let config = toml(
        "[channel.proxy.subscribe]\nendpoint = \"http://a\"\nhttp_headers = [\"Cookie\"]\n\
         [channel.without_namespace]\nsubscribe_proxy_enabled = true\npublish_proxy_enabled = true\n\
         publish_proxy_name = \"app\"\n[[proxies]]\nname = \"app\"\nendpoint = \"http://b\"\n\
         [[proxies.http.status_to_code_transforms]]\nstatus_code = 404\nto_error = { code = 1404, message = \"none\" }",
    );
    let config = config.expect("everything is there");
    assert_eq!(config.channel.proxy.subscribe.http_headers[0].as_str(), "cookie");
    assert_eq!(config.proxies[0].options.http.status_to_code_transforms[0].status.as_u16(), 404);
}

#[test]
fn what_only_centrifugo_has_but_is_off_is_ignored_with_a_note() {
    let file = File::new(
        "json",
        r#"{"opentelemetry": {"enabled": false, "api": false}, "engine": {"type": "memory"}, "consumers": [],
            "admin": {"enabled": true, "password": "p"}, "health": {"enabled": true, "handler_prefix": "/health"},
            "channel": {"without_namespace": {"auto_cache_recover": false, "subscription_type": "stream"}}}"#,
    );
    let loaded =
        Config::load_with_notes(Sources { file: Some(file.0.clone()), ..Sources::none() }).expect("ignored");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.notes.len(), 7, "{:?}", loaded.notes);
    let is_told = |what: &str| loaded.notes.iter().any(|note| note.contains(what));
    assert!(is_told("`health.enabled` is ignored: the internal listener always answers /health"));
    assert!(is_told("`opentelemetry` is ignored: this version of Bowline does not have it"));
}

#[test]
fn a_wrong_value_is_named_with_what_is_allowed() {
    for (text, value, allowed) in [
        ("[client]\nping_interval = 25", "`client.ping_interval` cannot be 25", "a duration with its unit"),
        (
            "[client]\nping_interval = \"25\"",
            "`client.ping_interval` cannot be \"25\"",
            "a duration with its unit",
        ),
        ("[client]\nping_interval = \"0s\"", "cannot be \"0s\"", "above 0"),
        ("[client]\nping_interval = \"-1s\"", "cannot be \"-1s\"", "a duration"),
        ("[client]\nping_interval = \"101 years\"", "cannot be \"101 years\"", "up to 100 years"),
        ("[client]\nexpired_close_delay = \"99999999999999999999h\"", "cannot be", "up to 100 years"),
        ("[client]\nchannel_limit = 0", "`client.channel_limit` cannot be 0", "a whole number above 0"),
        ("[client]\nchannel_limit = -1", "cannot be -1", "a whole number above 0"),
        ("[client]\nchannel_limit = 1.5", "cannot be 1.5", "a whole number above 0"),
        ("[client]\nuser_connection_limit = -1", "cannot be -1", "or 0 for none"),
        ("[client]\ninsecure = \"yes\"", "`client.insecure` cannot be \"yes\"", "true or false"),
        ("[client]\nallowed_origins = [\"example.com\"]", "cannot be a list", "\"https://example.com\""),
        ("[http_server]\nport = 65536", "cannot be 65536", "from 0 to 65535"),
        ("[http_server]\naddress = \"localhost\"", "cannot be \"localhost\"", "an IP address"),
        ("[http_api]\nhandler_prefix = \"api/\"", "cannot be \"api/\"", "a path such as \"/api\""),
        ("[http_api]\nerror_mode = \"http\"", "cannot be \"http\"", "\"body\" or \"transport\""),
        ("[log]\nlevel = \"loud\"", "cannot be \"loud\"", "\"trace\", \"debug\""),
        ("[channel]\nnamespace_boundary = \"\"", "cannot be \"\"", "punctuation"),
        ("[channel.without_namespace]\nchannel_regex = \"(\"", "cannot be \"(\"", "a regular expression"),
        (
            "[channel.without_namespace]\npublication_data_format = \"xml\"",
            "cannot be \"xml\"",
            "\"json_object\"",
        ),
        ("client = 5", "`client` cannot be a number", "a section with keys"),
    ] {
        let what = only_problem(toml(text));
        assert!(what.contains(value) && what.contains(allowed), "{what}");
    }
}

#[test]
fn a_wrong_secret_is_not_shown() {
    let what = only_problem(toml("[http_api]\nkey = 271828182845"));
    assert!(what.contains("`http_api.key`") && !what.contains("271828"), "{what}");
    let what = only_problem(toml("[client]\ntoken = \"hunter2\""));
    assert!(what.contains("`client.token` cannot be text") && !what.contains("hunter2"), "{what}");
    let error = toml("[http_api]\nkey = hunter2").expect_err("no quotes").to_string();
    assert!(error.contains(".toml:2") && !error.contains("hunter2"), "{error}");
}

#[test]
fn debug_shows_no_secret() {
    let config = env(&[
        ("BOWLINE_HTTP_API_KEY", "correct-horse-battery"),
        ("BOWLINE_CLIENT_TOKEN_HMAC_SECRET_KEY", "staple-staple-staple"),
    ])
    .expect("valid");
    let debug = format!("{config:?}");
    assert!(debug.contains("***") && !debug.contains("horse") && !debug.contains("staple"), "{debug}");
}

#[test]
fn all_problems_of_one_load_are_reported() {
    let file = File::new("toml", "[client]\nping_interval = 1\nfoo = 1\n[log]\nlevel = \"loud\"\n");
    let error = Config::load(Sources {
        file: Some(file.0.clone()),
        env: strings(&[("BOWLINE_NOPE", "1")]).into_iter(),
        overrides: strings(&[("http_server.port", "x")]),
        dev: false,
    })
    .expect_err("five problems");
    assert_eq!(error.problems().len(), 5, "{error}");
    assert!(error.to_string().starts_with("5 problems in the settings:\n  - "), "{error}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing = Sources { file: Some(PathBuf::from("/nonexistent/bowline.toml")), ..Sources::none() };
    assert!(only_problem(Config::load(missing)).contains("cannot be read"));
    assert!(only_problem(File::new("ini", "").load()).contains("must end in .toml"));
    assert!(only_problem(File::new("json", "[]").load()).contains("expected sections"));
    let error = File::new("json", "{\n\"a\": }").load().expect_err("syntax").to_string();
    assert!(error.contains(".json:2: "), "{error}");
    let error = File::new("yaml", "a: 1\nb: [").load().expect_err("syntax").to_string();
    assert!(error.contains(".yaml:"), "{error}");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let twice = r#"{"client": {"channel_limit": 1, "channel_limit": 2}}"#;
    assert!(only_problem(File::new("json", twice).load()).contains("stands twice"));
    assert!(File::new("yaml", "log:\n  level: info\n  level: warn\n").load().is_err());
    assert!(toml("[log]\nlevel = \"info\"\nlevel = \"warn\"").is_err());
}

#[test]
fn namespace_names_are_checked() {
    for (name, valid) in [
        ("chat", true),
        ("a.b-c_D9", true),
        ("xy", true),
        ("x", false),
        ("", false),
        ("a b", false),
        ("a:b", false),
        ("chät", false),
    ] {
        let result = toml(&format!("[[channel.namespaces]]\nname = \"{name}\""));
        assert_eq!(result.is_ok(), valid, "{name:?}: {result:?}");
    }
    assert!(only_problem(toml("[[channel.namespaces]]\npresence = true")).contains("has no `name`"));
    let twice = "[[channel.namespaces]]\nname = \"chat\"\n[[channel.namespaces]]\nname = \"chat\"";
    assert!(only_problem(toml(twice)).contains("holds the name `chat` twice"));
    assert!(only_problem(toml("[channel.namespaces]\nchat = 1")).contains("expected a list"));
    assert!(only_problem(toml("[[rpc.namespaces]]\nname = \"chat\"\nfoo = 1")).contains("unknown key"));
}

#[test]
fn rules_between_settings_are_kept() {
    for (text, what) in [
        ("[client]\npong_timeout = \"25s\"", "`client.pong_timeout` must be below `client.ping_interval`"),
        ("[client]\nping_interval = \"8s\"", "`client.pong_timeout` must be below `client.ping_interval`"),
        ("[channel.without_namespace]\nhistory_size = 1", "set both"),
        ("[channel.without_namespace]\nhistory_ttl = \"1s\"", "set both"),
        ("[channel.without_namespace]\nforce_recovery = true", "needs history"),
        (
            "[[channel.namespaces]]\nname = \"chat\"\nhistory_size = 1\nhistory_ttl = \"721h\"",
            "must not be above `channel.history_meta_ttl`",
        ),
        (
            "[channel.without_namespace]\nhistory_size = 1\nhistory_ttl = \"2s\"\nhistory_meta_ttl = \"1s\"",
            "must not be above `channel.without_namespace.history_meta_ttl`",
        ),
        ("[http_server]\nport = 9000\ninternal_port = 9000", "different ports"),
        ("[http_server]\naddress = \"0.0.0.0\"\nport = 9000\ninternal_port = 9000", "different ports"),
        ("[client.token]\naudience = \"a\"\naudience_regex = \"a\"", "not both"),
        ("[client.subscription_token]\nissuer = \"a\"\nissuer_regex = \"a\"", "not both"),
        (
            "[client.subscription_token]\nenabled = true",
            "needs `client.subscription_token.hmac_secret_key` or",
        ),
    ] {
        let found = only_problem(toml(text));
        assert!(found.contains(what), "{found}");
    }
    assert!(toml("[http_server]\nport = 0\ninternal_port = 0").is_ok(), "the system chooses two");
}

#[test]
fn a_rule_says_nothing_about_values_that_could_not_be_read() {
    let what =
        only_problem(toml("[channel.without_namespace]\nhistory_size = \"many\"\nhistory_ttl = \"1s\""));
    assert!(what.contains("history_size` cannot be \"many\""), "{what}");
}

#[test]
fn dev_opens_channels_and_sets_a_known_key() {
    let config = Config::load(Sources { dev: true, ..Sources::none() }).expect("loopback by default");
    assert_eq!(config.http_api.key, Secret::new(DEV_API_KEY));
    assert!(config.client.allow_anonymous_connect_without_token && !config.client.insecure);
    let options = config.channel_options(None).expect("always there");
    assert!(options.allow_subscribe_for_anonymous && options.allow_publish_for_anonymous);
    assert!(options.presence && options.join_leave && options.allow_history_for_anonymous);
    assert_eq!(
        options.history().map(|history| (history.size.get(), history.ttl.as_secs())),
        Some((100, 600))
    );
    assert!(config.client.allows_origin(Some("http://localhost:5173")));
    assert!(!config.client.allows_origin(Some("https://evil.example")));
}

#[test]
fn dev_yields_to_what_is_set_and_reaches_namespaces() {
    let config = Config::load(Sources {
        file: None,
        env: strings(&[("BOWLINE_CHANNEL_NAMESPACES", "chat"), ("BOWLINE_HTTP_API_KEY", "own")]).into_iter(),
        overrides: strings(&[("channel.namespaces.chat.presence", "false")]),
        dev: true,
    })
    .expect("valid");
    let chat = config.channel_options(Some("chat")).expect("named");
    assert!(chat.allow_subscribe_for_anonymous && !chat.presence);
    assert_eq!(config.http_api.key, Secret::new("own"));
}

#[test]
fn dev_is_refused_on_a_listener_that_others_can_reach() {
    for key in ["http_server.address", "http_server.internal_address"] {
        for (address, allowed) in
            [("0.0.0.0", false), ("::", false), ("192.168.1.5", false), ("::1", true), ("127.0.0.2", true)]
        {
            let result =
                Config::load(Sources { overrides: strings(&[(key, address)]), dev: true, ..Sources::none() });
            assert_eq!(result.is_ok(), allowed, "{key} = {address}");
            if let Err(error) = result {
                assert!(error.to_string().contains("--dev"), "{error}");
            }
        }
    }
}

#[test]
fn weak_keys_and_open_doors_are_noted() {
    let file = File::new(
        "toml",
        "[client]\ninsecure = true\ntoken.hmac_secret_key = \"short\"\n[http_server]\naddress = \"0.0.0.0\"\n\
         [channel.without_namespace]\nallow_publish_for_anonymous = true",
    );
    let loaded =
        Config::load_with_notes(Sources { file: Some(file.0.clone()), ..Sources::none() }).expect("allowed");
    let notes = loaded.notes.join("\n");
    for expected in ["client.insecure", "shorter than 32 bytes", "allow_publish_for_anonymous` has no effect"]
    {
        assert!(notes.contains(expected), "{notes}");
    }
    assert!(!notes.contains("\"short\""));
}

/// One of the files in `tests/centrifugo`, which are as people have them.
fn centrifugo(name: &str) -> Report {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/centrifugo").join(name);
    Config::examine(Sources { file: Some(file), ..Sources::none() })
}

fn keys(report: &Report, verdict: Verdict) -> Vec<&str> {
    report.keys.iter().filter(|key| key.outcome == verdict).map(|key| key.key.as_str()).collect()
}

#[track_caller]
fn advice<'r>(report: &'r Report, key: &str) -> &'r str {
    let found = report.keys.iter().find(|found| found.key == key);
    &found.unwrap_or_else(|| panic!("{key} is not in {:?}", report.keys)).advice
}

#[test]
fn a_file_of_centrifugo_carries_over_and_what_is_so_anyway_is_said() {
    let report = centrifugo("chat.json");
    assert!(report.valid && report.is_foreign, "{:?}", report.problems);
    assert_eq!(
        keys(&report, Verdict::Differs),
        [
            "admin",
            "channel.namespaces.chat.subscription_type",
            "health.enabled",
            "prometheus.enabled",
            "usage_stats"
        ]
    );
    assert!(advice(&report, "admin").contains("bowline top"));
    assert_eq!(
        report.count(Verdict::NotSupported) + report.count(Verdict::Unknown) + report.count(Verdict::Wrong),
        0
    );
    let carried = keys(&report, Verdict::CarriesOver);
    for key in
        ["client.token.hmac_secret_key", "channel.namespaces.news.auto_cache_recover", "http_server.port"]
    {
        assert!(carried.contains(&key), "{key} is not in {carried:?}");
    }
    let differing: Vec<_> = report.defaults.iter().map(|default| default.key).collect();
    assert!(
        differing.contains(&"http_server.address") && !differing.contains(&"grpc_api.key"),
        "{differing:?}"
    );
    let text = report.text(80);
    assert!(!text.contains("0123456789abcdef"), "a secret: {text}");
}

#[test]
fn what_a_file_of_centrifugo_asks_for_in_vain_is_said_with_what_to_do_instead() {
    let report = centrifugo("cluster.yaml");
    assert!(!report.valid);
    assert_eq!(
        keys(&report, Verdict::NotSupported),
        ["consumers", "engine.redis", "engine.type", "log.file"]
    );
    assert!(advice(&report, "engine.type").starts_with("one process keeps everything"));
    assert_eq!(keys(&report, Verdict::Unknown), ["client.conection_limit"]);
    assert_eq!(advice(&report, "client.conection_limit"), "did you mean client.connection_limit?");
    assert_eq!(keys(&report, Verdict::Wrong), ["websocket.write_timeout"]);
    assert!(advice(&report, "websocket.write_timeout").contains("a duration with its unit"));
    let text = report.text(80);
    assert!(text.contains("Does not fit together\n") && text.contains("history_ttl"), "{text}");
    assert!(text.contains("  grpc_api.key\n      there without one every call is accepted\n"), "{text}");
}

#[test]
fn a_file_from_before_version_6_is_told_the_new_name_of_each_key() {
    let report = centrifugo("version5.json");
    assert!(!report.valid);
    for (old, new) in [
        ("token_hmac_secret_key", "client.token.hmac_secret_key"),
        ("api_key", "http_api.key"),
        ("admin", "admin.enabled"),
        ("allowed_origins", "client.allowed_origins"),
        ("client_channel_limit", "client.channel_limit"),
        ("history_size", "channel.without_namespace.history_size"),
        ("engine", "engine.type"),
        ("sse", "sse.enabled"),
        ("namespaces", "channel.namespaces"),
        ("proxy_connect_endpoint", "client.proxy.connect.endpoint"),
    ] {
        assert_eq!(advice(&report, old), format!("since version 6: {new}"), "{old}");
    }
    assert_eq!(report.count(Verdict::NotSupported), report.keys.len());
    // Whoever starts the server with it is told the same.
    let what = only_problem(toml("api_key = \"hunter2hunter2\""));
    assert_eq!(what, "`api_key` is of Centrifugo before version 6; since then it is `http_api.key`");
}

#[test]
fn the_table_fits_a_narrow_terminal() {
    for name in ["chat.json", "cluster.yaml", "version5.json"] {
        for width in [0, 40, 60, 80, 500] {
            let text = centrifugo(name).text(width);
            for line in text.lines().filter(|line| line.trim_start().contains(' ')) {
                assert!(line.chars().count() <= width.clamp(50, 100), "{name} at {width}: {line}");
            }
        }
    }
}

#[test]
fn a_file_of_our_own_is_not_foreign() {
    let file = File::new("toml", &render_defaults());
    let report = Config::examine(Sources { file: Some(file.0.clone()), ..Sources::none() });
    assert!(report.valid && !report.is_foreign);
    assert_eq!(report.count(Verdict::CarriesOver), report.keys.len());
}
