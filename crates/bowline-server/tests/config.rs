//! Settings: sources and their order, what is refused and how it is said, and the sample file.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline_server::config::{
    Config, ConfigError, DEV_API_KEY, DataFormat, ErrorMode, LogLevel, NonZeroDuration, RecoveryMode, Secret,
    Sources, render_defaults,
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
        // The one struct that lends its keys to the section around it.
        let keys: Vec<_> = match path.as_slice() {
            ["client", "subscription_token", "token", rest @ ..] => {
                [&["client", "subscription_token"], rest].concat()
            }
            keys => keys.to_vec(),
        };
        let (last, sections) = keys.split_last().expect("not empty");
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
        ("allowed_origins = []", "`client.allowed_origins`"),
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
        ("[grpc_api]\nenabled = true", "grpc_api"),
        ("[engine]\ntype = \"redis\"", "engine"),
        ("[client.proxy.connect]\nenabled = true\nendpoint = \"http://x\"", "client.proxy"),
        ("[client.token]\nrsa_public_key = \"x\"", "client.token.rsa_public_key"),
        ("[channel.without_namespace]\ndelta_publish = true", "channel.without_namespace.delta_publish"),
        (
            "[[channel.namespaces]]\nname = \"a.b\"\nsubscribe_proxy_enabled = true",
            "channel.namespaces.a.b.subscribe_proxy_enabled",
        ),
    ] {
        let what = only_problem(toml(text));
        assert_eq!(what, format!("`{key}` is known to Centrifugo, not supported by this version of Bowline"));
    }
    let what = only_problem(env(&[("CENTRIFUGO_ENGINE_REDIS_ADDRESS", "redis://localhost")]));
    assert_eq!(what, "known to Centrifugo, not supported by this version of Bowline");
    let namespaces = [("CENTRIFUGO_CHANNEL_NAMESPACES", "chat")];
    let option = [("CENTRIFUGO_CHANNEL_NAMESPACES_CHAT_DELTA_PUBLISH", "true")];
    assert!(only_problem(env(&[namespaces, option].concat())).starts_with("known to Centrifugo"));
}

#[test]
fn what_only_centrifugo_has_but_is_off_is_ignored_with_a_note() {
    let file = File::new(
        "json",
        r#"{"sse": {"enabled": false, "handler_prefix": "/sse"}, "engine": {"type": "memory"}, "consumers": [],
            "channel": {"without_namespace": {"delta_publish": false, "allowed_delta_types": []}}}"#,
    );
    let loaded =
        Config::load_with_notes(Sources { file: Some(file.0.clone()), ..Sources::none() }).expect("ignored");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.notes.len(), 5, "{:?}", loaded.notes);
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
        ("[client.subscription_token]\nenabled = true", "needs `client.subscription_token.hmac_secret_key`"),
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
