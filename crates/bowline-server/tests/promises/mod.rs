//! What holds for everything the server reads, whatever bytes it gets. The fuzz targets (`fuzz/`) look for bytes for which it
//! does not; `corpus.rs` asks again for all that were ever of interest.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bowline_protocol::Encoding;
use bowline_server::api::Api;
use bowline_server::config::{Config, Secret, Sources};
use bowline_server::node::{Node, Wire};
use bowline_server::session::{Session, Transport};
use bowline_server::token::{TokenVerifier, mint};
use bowline_store::MemoryStore;
use hyper::{HeaderMap, Method};
use serde_json::value::RawValue;

/// Panics if it does not hold for these bytes.
pub(crate) type Promise = fn(&[u8]);

/// Every target by the name of its corpus.
pub(crate) const ALL: [(&str, Promise); 4] =
    [("api", api), ("config", config), ("session", session), ("token", token)];

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Settings under which everything is allowed and kept, in small amounts.
fn open() -> Config {
    let all: [(&str, &str); 12] = [
        ("http_api.key", KEY),
        ("client.token.hmac_secret_key", KEY),
        ("client.insecure", "true"),
        ("channel.without_namespace.history_size", "4"),
        ("channel.without_namespace.history_ttl", "1h"),
        ("channel.without_namespace.presence", "true"),
        ("channel.without_namespace.join_leave", "true"),
        ("channel.without_namespace.force_recovery", "true"),
        ("channel.without_namespace.allow_user_limited_channels", "true"),
        ("channel.without_namespace.allow_tags_filter", "true"),
        ("channel.without_namespace.allowed_delta_types", "fossil"),
        ("channel.without_namespace.channel_regex", ".*"),
    ];
    // Secrets are not taken from flags.
    let (secrets, plain): (Vec<_>, Vec<_>) = all.iter().partition(|(key, _)| key.ends_with("key"));
    let variable = |key: &str| format!("BOWLINE_{}", key.to_ascii_uppercase().replace('.', "_"));
    let sources = Sources {
        file: None,
        env: secrets.into_iter().map(|(key, value)| (variable(key), value.to_owned())),
        overrides: plain.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        dev: false,
    };
    Config::load(sources).unwrap_or_else(|error| panic!("{error}"))
}

fn node() -> Arc<Node> {
    Node::new(Arc::new(open()), Arc::new(MemoryStore::default()))
}

/// Runs what waits for nothing to its end.
fn finished<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    // A long batch lets others run in between.
    (0..1000).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    })
}

/// Every body is answered, and an answer is JSON or says in words what is wrong.
pub(crate) fn api(data: &[u8]) {
    const METHODS: [&str; 16] = [
        "publish",
        "broadcast",
        "subscribe",
        "unsubscribe",
        "disconnect",
        "refresh",
        "presence",
        "presence_stats",
        "history",
        "history_remove",
        "channels",
        "info",
        "rpc",
        "batch",
        "connections",
        "no_such_method",
    ];
    let (first, body) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let api = Api::new(node());
    let path = format!("/api/{}", METHODS[usize::from(first) % METHODS.len()]);
    let headers = HeaderMap::from_iter([("x-api-key".parse().unwrap(), KEY.parse().unwrap())]);
    let Ok(call) = api.admit(&Method::POST, &path, None, &headers) else { return };
    let Some(response) = finished(call.run(body.to_vec().into())) else { return };
    assert!([200, 400, 500].contains(&response.status().as_u16()), "{}", response.status());
}

/// Settings are taken, or refused with words; from a file of each format, from flags and from the environment.
pub(crate) fn config(data: &[u8]) {
    let (first, text) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let name = ["toml", "json", "yaml"].get(usize::from(first));
    let (mut file, mut env, mut overrides) = (None, Vec::new(), Vec::new());
    if let Some(extension) = name {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("bowline-{process}-{number}.{extension}"));
        std::fs::write(&path, text).unwrap();
        file = Some(path);
    } else {
        for (key, value) in String::from_utf8_lossy(text).lines().filter_map(|line| line.split_once('=')) {
            let to = if key.starts_with("BOWLINE_") { &mut env } else { &mut overrides };
            to.push((key.to_owned(), value.to_owned()));
        }
    }
    let loaded =
        Config::load(Sources { file: file.clone(), env: env.into_iter(), overrides, dev: first & 0x80 != 0 });
    if let Some(path) = file {
        let _ = std::fs::remove_file(path);
    }
    if let Err(error) = loaded {
        assert!(!error.to_string().is_empty());
    }
}

/// One connection's frames, one behind the other: each is answered or ends the connection, and what is answered is whole.
pub(crate) fn session(data: &[u8]) {
    let (first, data) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let (wire, encoding) = match first & 1 {
        0 => (Wire::JSON, Encoding::Json),
        _ => (Wire::PROTOBUF, Encoding::Protobuf),
    };
    // Rates and timers ask for the time.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let node = node();
        let outbox = node.outbox_for(wire);
        let mut session = Session::new(Arc::clone(&node), Transport::WEBSOCKET, outbox.clone());
        let connect: &[u8] = match encoding {
            Encoding::Json => br#"{"id":1,"connect":{}}"#,
            Encoding::Protobuf => &[4, 8, 1, 34, 0],
        };
        // A frame ends where two bytes stand that no text has.
        let mut frames = data.split(|byte| *byte == 0xff);
        let begins = first & 2 == 0;
        let frames = std::iter::from_fn(|| frames.next());
        for frame in begins.then_some(connect).into_iter().chain(frames) {
            if session.feed(frame).is_err() {
                break;
            }
            let mut sent = Vec::new();
            let _ = outbox.poll_drain(&mut Context::from_waker(Waker::noop()), &mut sent);
            for frame in sent {
                for reply in encoding.decode_replies(&frame.payload()) {
                    reply.unwrap_or_else(|error| panic!("it sent what nobody can read: {error}"));
                }
            }
        }
        drop(session);
        assert_eq!(node.stats().clients, 0);
        assert_eq!(node.stats().subscriptions, 0);
    });
}

/// What nobody signed is refused; claims that are signed are taken or refused.
pub(crate) fn token(data: &[u8]) {
    let mut settings = bowline_server::config::Client::default();
    settings.token.hmac_secret_key = Secret::new(KEY);
    let verifier = TokenVerifier::from_config(&settings);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let now = 1_800_000_000;
    // The empty one is an anonymous user.
    assert!(text.is_empty() || verifier.verify_connection(text, now).is_err(), "nobody has signed it");
    assert!(verifier.verify_subscription(text, now).is_err());
    let Ok(claims) = serde_json::from_str::<&RawValue>(text) else { return };
    let token = mint(settings.token.hmac_secret_key.as_ref().unwrap(), &claims).unwrap();
    if let Ok(claims) = verifier.verify_connection(&token, now) {
        assert!(claims.expire_at.is_none_or(|at| at > now), "{claims:?}");
    }
    let _ = verifier.verify_subscription(&token, now);
    // A byte that is changed anywhere is noticed.
    let mut damaged = token.into_bytes();
    let at = data.len() % damaged.len();
    damaged[at] ^= 1;
    if let Ok(damaged) = std::str::from_utf8(&damaged) {
        let is_last = at == damaged.len() - 1;
        assert!(is_last || verifier.verify_connection(damaged, now).is_err());
    }
}
