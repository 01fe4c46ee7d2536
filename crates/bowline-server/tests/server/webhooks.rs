//! Webhooks on real sockets: an application of the test's, a server that asks it, and clients that get what it says.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bowline::{Either, race};
use bowline_server::config::{Config, NonZeroDuration, Secret};
use bowline_server::{client::Client, token};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, Running, closed_with, config, eventually, read_until, send, with_server};

const TOKEN_KEY: &str = "0123456789abcdef0123456789abcdef";

/// What the application does with a question.
enum Reply {
    /// An answer with status 200.
    Json(Value),
    /// Anything else: the whole answer, after which the connection is closed.
    Raw(String),
    /// As `Json`, but the connection is closed afterwards without a word about it.
    JsonAndGone(Value),
    /// Nothing, until the other side goes.
    Never,
}

/// One question as it came.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    head: String,
    body: Value,
}

/// An application that answers what it is asked, on connections that stay open.
struct Application {
    listener: TcpListener,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    taken_back: AtomicUsize,
}

impl Application {
    async fn open() -> Arc<Self> {
        Arc::new(Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            taken_back: AtomicUsize::new(0),
        })
    }

    fn endpoint(&self, path: &str) -> String {
        format!("http://{}/{path}", self.listener.local_addr().unwrap())
    }

    /// Answers, until it is dropped.
    async fn serve(&self, reply: &dyn Fn(&Asked) -> Reply) -> ! {
        let mut served = FuturesUnordered::new();
        loop {
            let accepted = {
                let mut accept = Box::pin(self.listener.accept());
                poll_fn(|cx| {
                    while let Poll::Ready(Some(())) = served.poll_next_unpin(cx) {}
                    accept.as_mut().poll(cx)
                })
                .await
            };
            self.connections.fetch_add(1, Ordering::SeqCst);
            served.push(self.connection(accepted.unwrap().0, reply));
        }
    }

    async fn connection(&self, mut socket: TcpStream, reply: &dyn Fn(&Asked) -> Reply) {
        let mut read = Vec::new();
        loop {
            let Some(asked) = question(&mut socket, &mut read).await else { return };
            self.asked.lock().unwrap().push(asked.clone());
            let reply = reply(&asked);
            let ok = |body: &Value| {
                let body = body.to_string();
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            };
            let (answer, stays) = match reply {
                Reply::Json(body) => (ok(&body), true),
                Reply::JsonAndGone(body) => (ok(&body), false),
                Reply::Raw(answer) => (answer, false),
                Reply::Never => {
                    let _ = socket.read_buf(&mut read).await;
                    self.taken_back.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            };
            if socket.write_all(answer.as_bytes()).await.is_err() || !stays {
                let _ = socket.shutdown().await;
                return;
            }
        }
    }

    /// What was asked at `path`.
    fn at(&self, path: &str) -> Vec<Asked> {
        let all = self.asked.lock().unwrap();
        all.iter().filter(|asked| asked.path == format!("/{path}")).cloned().collect()
    }
}

/// Reads one question; `None` at the end of the connection.
async fn question(socket: &mut TcpStream, read: &mut Vec<u8>) -> Option<Asked> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.unwrap_or_default();
            if rest.len() >= length {
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let body = serde_json::from_str(&rest[..length]).unwrap();
                read.drain(..head.len() + 4 + length);
                return Some(Asked { path, head: head.to_owned(), body });
            }
        }
        if socket.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

/// Runs a test against a server whose settings `change` makes, and an application that answers as `reply` says.
async fn with<F>(
    change: impl FnOnce(&mut Config, &Application),
    reply: impl Fn(&Asked) -> Reply,
    test: impl FnOnce(Arc<Running>, Arc<Application>) -> F,
) where
    F: Future<Output = ()>,
{
    let application = Application::open().await;
    let mut config = config(&[]);
    config.client.allow_anonymous_connect_without_token = false;
    config.client.token.hmac_secret_key = Secret::new(TOKEN_KEY);
    config.rpc.proxy.endpoint = application.endpoint("rpc").parse().ok();
    config.rpc.without_namespace.proxy_enabled = true;
    change(&mut config, &application);
    let server = Box::pin(with_server(config, |running| test(running, Arc::clone(&application))));
    match race(application.serve(&reply), server).await {
        Either::Left(never) => never,
        Either::Right(()) => {}
    }
}

/// As [`with`], where everybody may connect as user 42 with a token.
async fn with_tokens<F>(
    change: impl FnOnce(&mut Config, &Application),
    reply: impl Fn(&Asked) -> Reply,
    test: impl FnOnce(Arc<Running>, Arc<Application>, Client) -> F,
) where
    F: Future<Output = ()>,
{
    with(change, reply, async |server, application| {
        let mut client = server.open().await;
        connect(&mut client, json!({"token": token_of(json!({"sub": "42"}))})).await;
        test(server, application, client).await;
    })
    .await;
}

fn token_of(claims: Value) -> String {
    token::mint(&Secret::new(TOKEN_KEY).unwrap(), &claims).unwrap()
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn result(value: Value) -> Reply {
    Reply::Json(json!({ "result": value }))
}

fn ask_connect(config: &mut Config, application: &Application) {
    config.client.proxy.connect.enabled = true;
    config.client.proxy.connect.options.endpoint = application.endpoint("connect").parse().ok();
}

fn ask_subscribe(config: &mut Config, application: &Application) {
    config.channel.without_namespace.subscribe_proxy_enabled = true;
    config.channel.without_namespace.allow_subscribe_for_client = false;
    config.channel.proxy.subscribe.endpoint = application.endpoint("subscribe").parse().ok();
}

fn ask_publish(config: &mut Config, application: &Application) {
    config.channel.without_namespace.publish_proxy_enabled = true;
    config.channel.without_namespace.allow_publish_for_client = false;
    config.channel.without_namespace.allow_publish_for_subscriber = false;
    config.channel.proxy.publish.endpoint = application.endpoint("publish").parse().ok();
}

fn ask_sub_refresh(config: &mut Config, application: &Application) {
    config.channel.without_namespace.sub_refresh_proxy_enabled = true;
    config.channel.proxy.sub_refresh.endpoint = application.endpoint("sub_refresh").parse().ok();
}

fn ask_refresh(config: &mut Config, application: &Application) {
    config.client.proxy.refresh.enabled = true;
    config.client.proxy.refresh.options.endpoint = application.endpoint("refresh").parse().ok();
}

/// The reply to one command; what came before it is dropped.
async fn command(client: &mut Client, name: &str, request: Value) -> Value {
    client.send(&json!({"id": 7, name: request}).to_string()).await.unwrap();
    next(client, |message| message["id"] == 7).await
}

/// The next message that `fits`.
async fn next(client: &mut Client, fits: impl Fn(&Value) -> bool) -> Value {
    let read = async {
        loop {
            let text = client.next_text().await.unwrap();
            let mut messages = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            if let Some(found) = messages.find(&fits) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("it comes")
}

async fn connect(client: &mut Client, request: Value) -> Value {
    let reply = command(client, "connect", request).await;
    assert!(reply["connect"].is_object(), "{reply}");
    reply["connect"].clone()
}

#[bowline::test]
async fn an_application_says_who_connects_and_what_the_connection_has() {
    let admit = json!({
        "user": "56", "info": {"name": "Ada"}, "data": {"hello": 1}, "channels": ["news"], "meta": {"role": "editor"},
        "subs": {"own": {"info": {"in": "own"}, "data": [1], "override": {"presence": {"value": false}}}},
    });
    let change = |config: &mut Config, application: &Application| {
        ask_connect(config, application);
        config.rpc.proxy.include_connection_meta = true;
    };
    let reply = move |asked: &Asked| match &*asked.path {
        "/connect" => result(admit.clone()),
        _ => result(json!({"data": "done"})),
    };
    with(change, reply, async |server, application| {
        let mut client = server.open().await;
        let request = json!({"data": {"key": 1}, "name": "js", "version": "5", "subs": {"news": {}}});
        let connected = connect(&mut client, request).await;
        assert_eq!(connected["data"], json!({"hello": 1}));
        assert_eq!((connected["expires"].clone(), connected["ttl"].clone()), (Value::Null, Value::Null));
        assert_eq!(connected["subs"]["own"]["data"], json!([1]));
        assert!(connected["subs"]["news"].is_object());
        let asked = &application.at("connect")[0].body;
        let id = &connected["client"];
        assert_eq!(
            *asked,
            json!({"client": id, "transport": "websocket", "protocol": "json", "encoding": "json", "name": "js",
                "version": "5", "channels": ["news"], "data": {"key": 1}})
        );
        let present = command(&mut client, "presence", json!({"channel": "news"})).await;
        let entry = &present["presence"]["presence"][id.as_str().unwrap()];
        assert_eq!(*entry, json!({"user": "56", "client": id, "conn_info": {"name": "Ada"}}));
        let present = command(&mut client, "presence_stats", json!({"channel": "own"})).await;
        assert_eq!(present["presence_stats"]["num_clients"], 0, "overridden: {present}");
        let called = command(&mut client, "rpc", json!({"method": "m", "data": 1})).await;
        assert_eq!(called["rpc"]["data"], "done");
        let told = &application.at("rpc")[0].body;
        assert_eq!((&told["meta"], &told["user"]), (&json!({"role": "editor"}), &json!("56")));
    })
    .await;
}

#[bowline::test]
async fn who_brings_a_token_is_not_asked_about_and_who_is_not_known_is_not_let_in() {
    with(
        ask_connect,
        |_| Reply::Json(json!({})),
        async |server, application| {
            let mut client = server.open().await;
            connect(&mut client, json!({"token": token_of(json!({"sub": "42"}))})).await;
            assert!(application.at("connect").is_empty());
            let mut client = server.open().await;
            client.send(r#"{"id":1,"connect":{}}"#).await.unwrap();
            assert_eq!(closed_with(&mut client).await.0, 3501);
            assert_eq!(application.at("connect").len(), 1);
        },
    )
    .await;
}

#[bowline::test]
async fn what_becomes_of_a_connect_that_an_application_does_not_answer_with_a_user() {
    let reply = |asked: &Asked| match asked.body["data"].as_str().unwrap() {
        "error" => Reply::Json(json!({"error": {"code": 1001, "message": "no", "temporary": true}})),
        "bad error" => Reply::Json(json!({"error": {"code": 200, "message": "no"}})),
        "disconnect" => Reply::Json(
            json!({"disconnect": {"code": 4501, "reason": "go away, and far away, for good and all"}}),
        ),
        "channel" => result(json!({"user": "1", "channels": ["nowhere:a"]})),
        "filter" => result(json!({"user": "1", "subs": {"a": {"server_tags_filter": {"key": "a"}}}})),
        "expired" => result(json!({"user": "1", "expire_at": 1})),
        "garbage" => Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{!}".to_owned()),
        "status" => Reply::Raw("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()),
        "mapped" => Reply::Raw("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned()),
        "broken" => Reply::Raw("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{".to_owned()),
        "moved" => {
            Reply::Raw("HTTP/1.1 302 Found\r\nLocation: /connect2\r\nContent-Length: 0\r\n\r\n".to_owned())
        }
        _ => Reply::Never,
    };
    let change = |config: &mut Config, application: &Application| {
        ask_connect(config, application);
        let endpoint = application.endpoint("connect");
        let transforms = r#"[{"status_code": 403, "to_error": {"code": 1403, "message": "not you"}}]"#;
        let env = [
            ("BOWLINE_CLIENT_PROXY_CONNECT_ENDPOINT".to_owned(), endpoint),
            ("BOWLINE_CLIENT_PROXY_CONNECT_HTTP_STATUS_TO_CODE_TRANSFORMS".to_owned(), transforms.to_owned()),
            ("BOWLINE_CLIENT_PROXY_CONNECT_TIMEOUT".to_owned(), "3s".to_owned()),
        ];
        let set = Config::load(bowline_server::config::Sources::of_env(env.into_iter())).unwrap();
        config.client.proxy.connect.options = set.client.proxy.connect.options;
    };
    with(change, reply, async |server, application| {
        let internal = json!({"code": 100, "message": "internal server error", "temporary": true});
        for (data, error) in [
            ("error", json!({"code": 1001, "message": "no", "temporary": true})),
            ("bad error", internal.clone()),
            ("channel", json!({"code": 102, "message": "unknown channel"})),
            ("filter", internal.clone()),
            ("expired", json!({"code": 110, "message": "expired"})),
            ("garbage", internal.clone()),
            ("status", internal.clone()),
            ("mapped", json!({"code": 1403, "message": "not you"})),
            ("broken", internal.clone()),
            ("moved", internal.clone()),
            ("never", internal.clone()),
        ] {
            let mut client = server.open().await;
            let reply = command(&mut client, "connect", json!({ "data": data })).await;
            assert_eq!(reply["error"], error, "{data}");
        }
        let mut client = server.open().await;
        client.send(r#"{"id":1,"connect":{"data":"disconnect"}}"#).await.unwrap();
        let end = closed_with(&mut client).await;
        assert_eq!(end, (4501, "go away, and far away, for good ".to_owned()));
        assert!(application.at("connect2").is_empty(), "a redirect is not followed");
    })
    .await;
}

#[bowline::test]
async fn headers_of_a_client_are_told_as_far_as_they_are_wanted() {
    let change = |config: &mut Config, application: &Application| {
        ask_connect(config, application);
        config.http_stream.enabled = true;
        let options = &mut config.client.proxy.connect.options;
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        options.http_headers = names(&["cookie", "x-both", "x-real-ip"]);
        options.emulated_headers = names(&["x-both", "x-own"]);
        config.http_server.trusted_proxies = Vec::new();
    };
    with(change, |_| result(json!({"user": "1"})), async |server, application| {
        let body = r#"{"id":1,"connect":{"headers":{"Cookie":"forged","X-Both":"emulated","x-own":"1\r\nX-Evil: 1","X-OWN":"2"}}}"#;
        let request = format!(
            "POST /connection/http_stream HTTP/1.1\r\nHost: a\r\nCookie: real\r\nX-Both: real\r\nX-Real-IP: 1.2.3.4\r\n\
             X-Other: 1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = send(server.public, &request).await;
        read_until(&mut stream, "\"connect\":").await;
        let head = application.at("connect")[0].head.to_lowercase();
        let lines: Vec<&str> = head.lines().filter(|line| line.starts_with("x-") || line.starts_with("cookie")).collect();
        assert!(lines.contains(&"cookie: real") && lines.contains(&"x-both: real"), "{head}");
        assert!(lines.contains(&"x-own: 2"), "{head}");
        assert_eq!(lines.len(), 3, "nothing else, and no address that somebody made up: {head}");
        assert!(head.contains("content-type: application/json") && head.contains("user-agent: bowline/"), "{head}");
    })
    .await;
}

#[bowline::test]
async fn an_application_says_whether_a_client_may_subscribe() {
    let change = |config: &mut Config, application: &Application| {
        ask_subscribe(config, application);
        config.channel.without_namespace.allow_user_limited_channels = true;
    };
    let reply = |asked: &Asked| match asked.body["channel"].as_str().unwrap() {
        "yes" => result(json!({"info": {"seat": 1}, "b64data": "WzFd", "expire_at": now() + 3600})),
        "no" => Reply::Json(json!({"error": {"code": 403, "message": "permission denied"}})),
        "out" => Reply::Json(json!({"disconnect": {"code": 4000, "reason": "out"}})),
        "silent" => Reply::Json(json!({})),
        "past" => result(json!({"expire_at": 1})),
        other => panic!("asked about {other}"),
    };
    with_tokens(change, reply, async |_, application, mut client| {
        let subscribed = command(&mut client, "subscribe", json!({"channel": "yes", "data": {"q": 1}})).await;
        assert_eq!(subscribed["subscribe"]["data"], json!([1]));
        assert_eq!(subscribed["subscribe"]["expires"], Value::Null, "it has no token to bring");
        let asked = &application.at("subscribe")[0].body;
        assert_eq!(
            (&asked["channel"], &asked["data"], &asked["user"]),
            (&json!("yes"), &json!({"q": 1}), &json!("42"))
        );
        let present = command(&mut client, "presence", json!({"channel": "yes"})).await;
        assert_eq!(
            present["presence"]["presence"][asked["client"].as_str().unwrap()]["chan_info"],
            json!({"seat": 1})
        );
        for (channel, code) in
            [("no", 403), ("silent", 100), ("past", 110), ("$own", 103), ("a#7", 103), ("", 107)]
        {
            let reply = command(&mut client, "subscribe", json!({ "channel": channel })).await;
            // An empty name ends the connection: it is last.
            if reply["error"]["code"] != code {
                panic!("{channel}: {reply}");
            }
            if channel == "a#7" {
                break;
            }
        }
        let own = token_of(json!({"sub": "42", "channel": "no"}));
        for (channel, token) in [("no", &*own), ("a#42", "")] {
            let reply = command(&mut client, "subscribe", json!({"channel": channel, "token": token})).await;
            assert!(reply["subscribe"].is_object(), "{channel}: {reply}");
        }
        assert_eq!(
            application.at("subscribe").len(),
            4,
            "tokens and channels that list their users are not asked about"
        );
        client.send(r#"{"id":9,"subscribe":{"channel":"out"}}"#).await.unwrap();
        assert_eq!(closed_with(&mut client).await, (4000, "out".to_owned()));
    })
    .await;
}

#[bowline::test]
async fn an_application_says_what_a_client_publishes() {
    let reply = |asked: &Asked| match asked.body["data"].as_str().unwrap() {
        "change" => result(json!({"data": "changed", "tags": {"by": "app"}})),
        "pass" => result(json!({"skip_history": true})),
        "once" => result(json!({"idempotency_key": "k"})),
        "version" => result(json!({"version": 3, "version_epoch": "a"})),
        "no" => Reply::Json(json!({"error": {"code": 1403, "message": "no"}})),
        _ => Reply::Json(json!({})),
    };
    with_tokens(ask_publish, reply, async |_, application, mut client| {
        command(&mut client, "subscribe", json!({"channel": "c"})).await;
        async fn publish(client: &mut Client, data: &str) -> Value {
            command(client, "publish", json!({"channel": "c", "data": data})).await
        }
        client.send(r#"{"id":8,"publish":{"channel":"c","data":"change"}}"#).await.unwrap();
        let push = next(&mut client, |message| message["push"]["pub"].is_object()).await;
        assert_eq!(push["push"]["pub"]["data"], "changed");
        assert_eq!(
            (&push["push"]["pub"]["tags"], &push["push"]["pub"]["offset"]),
            (&json!({"by": "app"}), &json!(1))
        );
        assert_eq!(application.at("publish")[0].body["channel"], "c");
        assert!(publish(&mut client, "pass").await["publish"].is_object());
        for data in ["once", "once", "version", "version"] {
            assert!(publish(&mut client, data).await["publish"].is_object(), "{data}");
        }
        assert_eq!(publish(&mut client, "no").await["error"]["code"], 1403);
        assert_eq!(publish(&mut client, "silent").await["error"]["code"], 100);
        let history = command(&mut client, "history", json!({"channel": "c", "limit": 10})).await;
        let kept = history["history"]["publications"].as_array().unwrap();
        let kept: Vec<_> = kept.iter().map(|publication| publication["data"].as_str().unwrap()).collect();
        assert_eq!(kept, ["changed", "once", "version"], "what is skipped, repeated or old is not kept");
    })
    .await;
}

#[bowline::test]
async fn a_connection_lasts_as_long_as_an_application_says() {
    let has_failed = AtomicBool::new(false);
    let reply = move |asked: &Asked| match &*asked.path {
        "/connect" => result(json!({"user": asked.body["data"], "expire_at": now() + 2})),
        "/refresh" if asked.body["user"] == "stays" => {
            result(json!({"expire_at": now() + 3600, "info": {"new": 1}, "meta": {"m": 1}}))
        }
        "/refresh" if asked.body["user"] == "goes" => result(json!({"expired": true})),
        "/refresh" if asked.body["user"] == "waits" && !has_failed.swap(true, Ordering::SeqCst) => {
            Reply::Raw("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned())
        }
        "/refresh" if asked.body["user"] == "waits" => result(json!({"expire_at": now() + 3600})),
        "/refresh" => Reply::Json(json!({})),
        _ => result(json!({"data": 1})),
    };
    let change = |config: &mut Config, application: &Application| {
        ask_connect(config, application);
        ask_refresh(config, application);
        config.client.expired_close_delay = Duration::from_secs(3600);
        config.rpc.proxy.include_connection_meta = true;
    };
    with(change, reply, async |server, application| {
        let mut stays = server.open().await;
        let connected = connect(&mut stays, json!({"data": "stays"})).await;
        assert_eq!(connected["expires"], Value::Null, "the client has nothing to bring");
        let mut waits = server.open().await;
        connect(&mut waits, json!({"data": "waits"})).await;
        for user in ["goes", "silent"] {
            let mut client = server.open().await;
            connect(&mut client, json!({ "data": user })).await;
            assert_eq!(closed_with(&mut client).await.0, 3005, "{user}");
        }
        eventually("the connection is asked about", || {
            application.at("refresh").iter().any(|asked| asked.body["user"] == "stays")
        })
        .await;
        // Told to applications once its answer has come.
        loop {
            command(&mut stays, "rpc", json!({"method": "m"})).await;
            if application.at("rpc").last().unwrap().body["meta"] == json!({"m": 1}) {
                break;
            }
        }
        command(&mut stays, "subscribe", json!({"channel": "c"})).await;
        let present = command(&mut stays, "presence", json!({"channel": "c"})).await;
        let id = connected["client"].as_str().unwrap();
        assert_eq!(present["presence"]["presence"][id]["conn_info"], json!({"new": 1}), "{present}");
        let asked = application.at("refresh").iter().filter(|asked| asked.body["user"] == "stays").count();
        assert_eq!(asked, 1);
        eventually("an application that could not say is asked again", || {
            application.at("refresh").iter().filter(|asked| asked.body["user"] == "waits").count() == 2
        })
        .await;
        command(&mut waits, "rpc", json!({"method": "m"})).await;
        stays
            .send(&json!({"id": 3, "refresh": {"token": token_of(json!({"sub": "stays"}))}}).to_string())
            .await
            .unwrap();
        assert_eq!(closed_with(&mut stays).await.0, 3501, "nobody waits for tokens");
    })
    .await;
}

/// What was allowed is taken back: a permission that an application no longer gives ends the live subscription.
#[bowline::test]
async fn a_subscription_lasts_as_long_as_an_application_says() {
    let change = |config: &mut Config, application: &Application| {
        ask_subscribe(config, application);
        ask_sub_refresh(config, application);
        config.client.expired_sub_close_delay = Duration::from_secs(3600);
    };
    let reply = |asked: &Asked| match (&*asked.path, asked.body["channel"].as_str()) {
        ("/subscribe", _) => result(json!({"expire_at": now() + 2})),
        ("/sub_refresh", Some("stays")) => result(json!({"expire_at": now() + 3600})),
        ("/sub_refresh", Some("revoked")) => result(json!({"expired": true})),
        _ => Reply::Json(json!({"error": {"code": 1000, "message": "not a thing to say here"}})),
    };
    with_tokens(change, reply, async |server, application, mut client| {
        for channel in ["stays", "revoked"] {
            let reply = command(&mut client, "subscribe", json!({ "channel": channel })).await;
            assert_eq!(reply["subscribe"]["expires"], Value::Null, "{reply}");
        }
        let ended = next(&mut client, |message| message["push"]["unsubscribe"].is_object()).await;
        assert_eq!(
            (&ended["push"]["channel"], &ended["push"]["unsubscribe"]["code"]),
            (&json!("revoked"), &json!(2501))
        );
        eventually("both are asked about", || application.at("sub_refresh").len() == 2).await;
        server.publish("revoked", "1").await;
        server.publish("stays", "2").await;
        let push = next(&mut client, |message| message["push"]["pub"].is_object()).await;
        assert_eq!((&push["push"]["channel"], &push["push"]["pub"]["data"]), (&json!("stays"), &json!(2)));
    })
    .await;
}

#[bowline::test]
async fn who_goes_takes_the_question_along() {
    with_tokens(
        ask_subscribe,
        |_| Reply::Never,
        async |server, application, mut client| {
            client.send(r#"{"id":2,"subscribe":{"channel":"c"}}"#).await.unwrap();
            eventually("it is asked", || application.at("subscribe").len() == 1).await;
            drop(client);
            eventually("nobody wants the answer", || application.taken_back.load(Ordering::SeqCst) == 1)
                .await;
            eventually("the client is gone", || server.node.stats().clients == 0).await;
        },
    )
    .await;
}

#[bowline::test]
async fn an_answer_may_have_as_many_bytes_as_it_may_and_not_one_more() {
    let answer = |length: usize| {
        let padding = "x".repeat(length - json!({"result": {"data": ""}}).to_string().len());
        result(json!({ "data": padding }))
    };
    let change = |config: &mut Config, _: &Application| {
        config.rpc.proxy.max_response_size = 1000.try_into().unwrap();
    };
    let reply = move |asked: &Asked| answer(asked.body["data"].as_u64().unwrap() as usize);
    with_tokens(change, reply, async |_, _, mut client| {
        let called = command(&mut client, "rpc", json!({"method": "m", "data": 1000})).await;
        assert!(called["rpc"]["data"].is_string(), "{called}");
        let called = command(&mut client, "rpc", json!({"method": "m", "data": 1001})).await;
        assert_eq!(called["error"]["code"], 100);
    })
    .await;
}

#[bowline::test]
async fn connections_to_an_application_are_used_again_and_one_it_closed_is_replaced() {
    let reply = |asked: &Asked| match asked.body["data"].as_str() {
        Some("gone") => Reply::JsonAndGone(json!({"result": {"data": 1}})),
        _ => result(json!({"data": 1})),
    };
    with_tokens(
        |_, _| {},
        reply,
        async |_, application, mut client| {
            for data in ["a", "b", "gone"] {
                let called = command(&mut client, "rpc", json!({"method": "m", "data": data})).await;
                assert_eq!(called["rpc"]["data"], 1, "{called}");
            }
            let before = application.connections.load(Ordering::SeqCst);
            // Three questions take fewer connections than three, however slow the machine is: idle time is a second.
            assert!(before <= 2, "{before}");
            let called = command(&mut client, "rpc", json!({"method": "m", "data": "after"})).await;
            assert_eq!(called["rpc"]["data"], 1, "{called}");
            assert_eq!(application.connections.load(Ordering::SeqCst), before + 1);
            assert_eq!(application.at("rpc").len(), 4, "each was asked once");
        },
    )
    .await;
}

#[bowline::test]
async fn an_application_in_trouble_is_left_alone_until_it_is_well_again() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let reply = move |_: &Asked| match well.load(Ordering::SeqCst) {
        true => result(json!({"data": 1})),
        false => Reply::Raw("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n".to_owned()),
    };
    let change = |config: &mut Config, _: &Application| {
        config.rpc.proxy.timeout = NonZeroDuration::new(PATIENCE / 2).unwrap();
    };
    with_tokens(change, reply, async |_, application, mut client| {
        let call = json!({"method": "m", "data": 1});
        for _ in 0..30 {
            assert_eq!(command(&mut client, "rpc", call.clone()).await["error"]["code"], 100);
        }
        let asked = application.at("rpc").len();
        assert!(asked < 30, "it was asked {asked} times");
        let breakers = bowline::breakers();
        assert!(breakers.iter().any(|breaker| breaker.name.contains("rpc.proxy")), "{breakers:?}");
        assert!(bowline::bulkheads().iter().any(|bulkhead| bulkhead.name == "rpc.proxy"));
        is_well.store(true, Ordering::SeqCst);
        let until = tokio::time::Instant::now() + PATIENCE;
        while command(&mut client, "rpc", call.clone()).await["rpc"].is_null() {
            assert!(tokio::time::Instant::now() < until, "it is never asked again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}
