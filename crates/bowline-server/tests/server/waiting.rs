//! A connection is served while one of its commands waits for an application: on real sockets, the application being one of
//! the test's that answers when it is told to.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::support::{
    KEY, PATIENCE, Running, closed_with, config, eventually, http, read_until, send, with_server,
};
use bowline_protocol::websocket::{Opcode, masked_close_frame, masked_frame};
use bowline_server::client::Client;
use bowline_server::config::{Config, NonZeroDuration, Proxy, ProxyOptions, Secret};
use bowline_server::token;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Shorter than the time the application has, and long enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(30);

const CALL: &str = r#"{"id":9,"rpc":{"method":"slow","data":{}}}"#;

struct Application(TcpListener);

/// The socket on which a question came.
struct Asked(TcpStream);

impl Application {
    /// An application, and settings by which every method of clients is its to answer within a minute.
    async fn open(set: &[(&str, &str)]) -> (Self, Config) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/rpc", listener.local_addr().unwrap());
        let mut config = config(set);
        let options = ProxyOptions {
            endpoint: Some(endpoint.parse().unwrap()),
            timeout: NonZeroDuration::new(PATIENCE).unwrap(),
            ..ProxyOptions::default()
        };
        config.proxies.push(Proxy { name: "default".parse().unwrap(), options });
        config.rpc.without_namespace.proxy_enabled = true;
        (Self(listener), config)
    }

    async fn asked(&self) -> Asked {
        let accepted = tokio::time::timeout(PATIENCE, self.0.accept()).await.expect("it is asked");
        let mut socket = accepted.unwrap().0;
        read_until(&mut socket, "slow").await;
        Asked(socket)
    }
}

impl Asked {
    async fn answer(mut self) {
        let body = r#"{"result":{"data":"at last"}}"#;
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        self.0.write_all((head + body).as_bytes()).await.unwrap();
        self.0.shutdown().await.unwrap();
    }

    /// How long it takes until nobody wants the answer any more.
    async fn taken_back(mut self) -> Duration {
        let began = Instant::now();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        // A reset is an end too.
        let _ = end.expect("the question is taken back");
        began.elapsed()
    }
}

async fn next(client: &mut Client) -> Value {
    let text = tokio::time::timeout(PATIENCE, client.next_text()).await.expect("something comes").unwrap();
    serde_json::from_str(&text).unwrap()
}

#[bowline::test]
async fn a_websocket_gets_pushes_and_pings_while_its_call_waits() {
    let (application, config) =
        Application::open(&[("client.ping_interval", "2s"), ("client.pong_timeout", "1s")]).await;
    with_server(config, async |server| {
        let mut client = server.subscribe("news").await;
        client.send(CALL).await.unwrap();
        let asked = application.asked().await;
        server.publish("news", "1").await;
        let mut pings = 0;
        let mut has_push = false;
        // Longer than a pong may take: nobody listens for them.
        while pings < 2 || !has_push {
            let message = next(&mut client).await;
            if message == json!({}) {
                pings += 1;
            } else {
                assert_eq!(message["push"]["pub"]["data"], 1, "{message}");
                has_push = true;
            }
        }
        asked.answer().await;
        let reply = loop {
            let message = next(&mut client).await;
            if message["id"] == 9 {
                break message;
            }
        };
        assert_eq!(reply["rpc"]["data"], "at last");
    })
    .await;
}

/// A stream whose first commands were `commands`, up to `mark`, and how its client names itself when it posts.
async fn stream(server: &Running, commands: &[&str], mark: &str) -> (TcpStream, Value) {
    let commands = commands.join("\n");
    let request = format!(
        "POST /connection/http_stream HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{commands}",
        commands.len()
    );
    let mut stream = send(server.public, &request).await;
    let head = read_until(&mut stream, mark).await;
    let text = |key: &str| {
        let from = head.find(&format!("\"{key}\":\"")).expect("the connect reply") + key.len() + 4;
        head[from..].split('"').next().unwrap_or_default().to_owned()
    };
    let envelope = json!({ "session": text("session"), "node": text("node") });
    (stream, envelope)
}

async fn post(server: &Running, envelope: &Value, commands: &str) -> u16 {
    let mut body = envelope.clone();
    body["data"] = commands.into();
    http(server.public, "POST", "/emulation", None, body.to_string().as_bytes()).await.0
}

const CONNECT: &str = r#"{"id":1,"connect":{}}"#;
const SUBSCRIBE: &str = r#"{"id":2,"subscribe":{"channel":"news"}}"#;

#[bowline::test]
async fn a_stream_gets_pushes_and_pings_while_a_posted_call_waits() {
    let settings =
        [("http_stream.enabled", "true"), ("client.ping_interval", "1s"), ("client.pong_timeout", "900ms")];
    let (application, config) = Application::open(&settings).await;
    with_server(config, async |server| {
        let (mut stream, envelope) = stream(&server, &[CONNECT, SUBSCRIBE, CALL], r#""subscribe""#).await;
        let asked = application.asked().await;
        server.publish("news", "1").await;
        read_until(&mut stream, r#""data":1"#).await;
        read_until(&mut stream, "\n{}\n").await;
        // What is posted meanwhile is taken, and waits its turn.
        let presence = r#"{"id":10,"presence_stats":{"channel":"news"}}"#;
        assert_eq!(post(&server, &envelope, presence).await, 204);
        asked.answer().await;
        let answered = read_until(&mut stream, r#""id":10"#).await;
        assert!(answered.contains("at last"), "in order: {answered}");
    })
    .await;
}

#[bowline::test]
async fn what_is_posted_behind_a_call_that_waits_is_bounded_and_done_afterwards() {
    let (application, config) = Application::open(&[("http_stream.enabled", "true")]).await;
    with_server(config, async |server| {
        let (mut stream, envelope) = stream(&server, &[CONNECT, SUBSCRIBE, CALL], r#""subscribe""#).await;
        let asked = application.asked().await;
        let mut taken = 0;
        let refused = loop {
            let command = format!(r#"{{"id":{},"presence_stats":{{"channel":"news"}}}}"#, 100 + taken);
            match post(&server, &envelope, &command).await {
                204 => taken += 1,
                status => break status,
            }
            assert!(taken < 1000, "nothing is refused");
        };
        assert_eq!(refused, 429);
        asked.answer().await;
        read_until(&mut stream, &format!(r#""id":{}"#, 99 + taken)).await;
    })
    .await;
}

#[bowline::test]
async fn a_client_that_goes_takes_its_question_back_at_once() {
    let (application, config) = Application::open(&[("http_stream.enabled", "true")]).await;
    with_server(config, async |server| {
        // Gone, with and without a word, and with more to say than is looked at.
        for (goodbye, behind) in [(true, 0), (false, 0), (true, 10), (false, 10)] {
            let mut client = server.connect().await;
            client.send(CALL).await.unwrap();
            let asked = application.asked().await;
            for _ in 0..behind {
                client.send(CALL).await.unwrap();
            }
            if goodbye {
                client.send_raw(&masked_close_frame(1000, "", [1, 2, 3, 4])).await.unwrap();
                assert_eq!(closed_with(&mut client).await.0, 1000);
            }
            drop(client);
            let took = asked.taken_back().await;
            assert!(took < AT_ONCE, "after {took:?}");
        }
        let (stream, _) = stream(&server, &[CONNECT, SUBSCRIBE, CALL], r#""subscribe""#).await;
        let asked = application.asked().await;
        drop(stream);
        let took = asked.taken_back().await;
        assert!(took < AT_ONCE, "after {took:?}");
        eventually("nobody is connected", || server.node.stats().clients == 0).await;
    })
    .await;
}

#[bowline::test]
async fn a_back_end_closes_a_connection_whose_call_waits() {
    const TOKEN_KEY: &str = "a secret of more than thirty-two bytes";
    let (application, mut config) = Application::open(&[]).await;
    config.client.token.hmac_secret_key = Secret::new(TOKEN_KEY);
    with_server(config, async |server| {
        let mut client = server.open().await;
        let token = token::mint(&Secret::new(TOKEN_KEY).unwrap(), &json!({"sub": "ada"})).unwrap();
        client.send(&json!({"id": 1, "connect": {"token": token}}).to_string()).await.unwrap();
        assert_eq!(next(&mut client).await["id"], 1);
        client.send(CALL).await.unwrap();
        let asked = application.asked().await;
        let began = Instant::now();
        server.api("disconnect", Some(KEY), r#"{"user":"ada"}"#).await;
        assert_eq!(closed_with(&mut client).await.0, 3503);
        asked.taken_back().await;
        assert!(began.elapsed() < AT_ONCE, "after {:?}", began.elapsed());
    })
    .await;
}

#[bowline::test]
async fn a_shutdown_does_not_wait_for_answers() {
    let (application, config) = Application::open(&[]).await;
    let mut began = None;
    with_server(config, async |server| {
        let mut client = server.connect().await;
        client.send(CALL).await.unwrap();
        let asked = application.asked().await;
        began = Some(Instant::now());
        server.stop.notify_one();
        assert_eq!(closed_with(&mut client).await.0, 3001);
        asked.taken_back().await;
    })
    .await;
    let took = began.unwrap().elapsed();
    assert!(took < AT_ONCE, "the end took {took:?}");
}

#[bowline::test]
async fn calls_at_once_are_answered_as_answers_come() {
    let (application, mut config) = Application::open(&[]).await;
    config.client.concurrency = NonZeroUsize::new(4);
    with_server(config, async |server| {
        let mut client = server.connect().await;
        let call = |id: u32| format!(r#"{{"id":{id},"rpc":{{"method":"slow","data":{{}}}}}}"#);
        client.send(&call(2)).await.unwrap();
        let first = application.asked().await;
        client.send(&call(3)).await.unwrap();
        let second = application.asked().await;
        second.answer().await;
        assert_eq!(next(&mut client).await["id"], 3);
        let reply = client.call(r#"{"id":4,"subscribe":{"channel":"a"}}"#).await.unwrap();
        assert!(reply.contains(r#""id":4"#), "what needs no answer overtakes: {reply}");
        first.answer().await;
        assert_eq!(next(&mut client).await["id"], 2);
    })
    .await;
}

/// A peer that goes on sending is made to wait: neither the session nor the buffers of its socket grow.
#[bowline::test]
async fn a_flood_behind_a_call_that_waits_is_left_in_the_socket() {
    const FLOOD: usize = 64 * 1024 * 1024;
    let settings = [("client.byte_rate_limit", "0"), ("client.command_rate_limit", "0")];
    let (application, config) = Application::open(&settings).await;
    with_server(config, async |server| {
        let mut client = server.connect().await;
        client.send(CALL).await.unwrap();
        let asked = application.asked().await;
        let line = format!(r#"{{"id":5,"presence_stats":{{"channel":"{}"}}}}"#, "x".repeat(1000));
        let frame = masked_frame(Opcode::Text, line.as_bytes(), [0; 4]);
        let (mut socket, _) = client.into_socket();
        let mut sent = 0;
        // What is not taken for a second is not going to be.
        while let Ok(written) =
            tokio::time::timeout(Duration::from_secs(1), socket.write(&frame[sent % frame.len()..])).await
        {
            sent += written.expect("the connection stays");
            assert!(sent < FLOOD, "everything was read");
        }
        asked.answer().await;
        // It goes on where it was: what was held back is read.
        let mut reader = socket;
        read_until(&mut reader, "at last").await;
        read_until(&mut reader, r#""id":5"#).await;
    })
    .await;
}

/// What may have to wait costs the task of a connection nothing while nothing waits: questions are boxed.
#[bowline::test]
async fn the_task_of_a_connection_at_rest_is_small() {
    with_server(config(&[]), async |server| {
        let _client = server.subscribe("a").await;
        let (_, page) = server.get("/debug/bowline/tasks?format=json&name=connection").await;
        let page: Value = serde_json::from_str(&page).unwrap();
        let connection = |task: &&Value| task["name"] == "connection";
        let task = page["tasks"].as_array().unwrap().iter().find(connection).expect("the connection's task");
        let bytes = task["future_bytes"].as_u64().unwrap();
        assert!(bytes < 1800, "{bytes} bytes: every idle connection pays for it");
    })
    .await;
}
