//! What the server tests share: a server in this process, clients, and waiting for a condition in real time.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, scope};
use bowline_protocol::websocket::Message;
use bowline_server::client::Client;
use bowline_server::config::{Config, Sources};
use bowline_server::net::Server;
use bowline_server::node::Node;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) const WEBSOCKET: &str = "/connection/websocket";
pub(crate) const KEY: &str = "test-key";

/// No condition in these tests takes longer, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server in this process.
pub(crate) struct Running {
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) uni_grpc: Option<SocketAddr>,
    pub(crate) node: Arc<Node>,
    pub(crate) stop: Arc<Notify>,
}

/// Settings for a test: free ports, everything allowed to anonymous clients, then `set`.
pub(crate) fn config(set: &[(&str, &str)]) -> Config {
    let base = [
        ("http_server.port", "0"),
        ("http_server.internal_port", "0"),
        ("log.level", "error"),
        // A burst of a test is larger than what one client may be owed by default.
        ("client.queue_max_size", "16777216"),
        // Clients of a test answer no pings, and take one for the answer they wait for; a test about pings says when.
        ("client.ping_interval", "1h"),
    ];
    let overrides =
        base.iter().chain(set).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let env = [("BOWLINE_HTTP_API_KEY".to_owned(), KEY.to_owned())].into_iter();
    let sources = Sources { file: None, env, overrides, dev: true };
    Config::load(sources).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs `test` against a server and stops the server in order afterwards.
pub(crate) fn with_server<F>(config: Config, test: impl FnOnce(Arc<Running>) -> F) -> impl Future<Output = ()>
where
    F: Future<Output = ()>,
{
    // Outside of the future, and boxed: the settings are large.
    let bound = Box::pin(Server::bind(config, true));
    async move {
        let server = bound.await.unwrap_or_else(|error| panic!("{error}"));
        let stop = Arc::new(Notify::new());
        let running = Arc::new(Running {
            public: server.public_address(),
            internal: server.internal_address(),
            grpc: server.grpc_address(),
            uni_grpc: server.uni_grpc_address(),
            node: Arc::clone(server.node()),
            stop: Arc::clone(&stop),
        });
        scope("test", async |s| {
            s.spawn("server", async move { server.run(stop.notified()).await });
            Box::pin(test(Arc::clone(&running))).await;
            running.stop.notify_one();
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Running {
    pub(crate) async fn open(&self) -> Client {
        Client::open(self.public, WEBSOCKET).await.unwrap()
    }

    /// A client that is connected.
    pub(crate) async fn connect(&self) -> Client {
        let mut client = self.open().await;
        let reply = client.call(r#"{"id":1,"connect":{}}"#).await.unwrap();
        assert!(reply.contains(r#""connect":{"#), "{reply}");
        client
    }

    /// A client that is connected and subscribed to `channel`.
    pub(crate) async fn subscribe(&self, channel: &str) -> Client {
        let mut client = self.connect().await;
        let reply =
            client.call(&format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#)).await.unwrap();
        assert!(reply.contains(r#""subscribe":{"#), "{reply}");
        client
    }

    /// A call of the server API on the public listener: status line and body.
    pub(crate) async fn api(&self, method: &str, key: Option<&str>, body: &str) -> (u16, String) {
        http(self.public, "POST", &format!("/api/{method}"), key, body.as_bytes()).await
    }

    pub(crate) async fn publish(&self, channel: &str, data: &str) {
        let body = format!(r#"{{"channel":"{channel}","data":{data}}}"#);
        let (status, answer) = self.api("publish", Some(KEY), &body).await;
        assert!(status == 200 && answer.contains("result"), "{status} {answer}");
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        http(self.internal, "GET", path, None, b"").await
    }
}

/// One HTTP request on a connection of its own.
pub(crate) async fn http(
    server: SocketAddr,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &[u8],
) -> (u16, String) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{key}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses a body need not read it to the end.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    (status, if is_chunked { dechunked(body) } else { body.to_owned() })
}

/// What a body in chunks carries.
fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap_or_else(|_| panic!("{length:?} is no length"));
        if length == 0 {
            break;
        }
        let chunk = rest.get(..length).unwrap_or_else(|| panic!("a chunk of {length} bytes is cut off"));
        whole.push_str(chunk);
        body = rest[length..].strip_prefix("\r\n").unwrap_or_else(|| panic!("no end of a chunk"));
    }
    whole
}

/// A socket on which `sent` was sent.
pub(crate) async fn send(server: SocketAddr, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream
}

/// What comes until the server closes; a reset is an error.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Reads until `mark` has come, and returns all that has.
pub(crate) async fn read_until(stream: &mut (impl AsyncRead + Unpin), mark: &str) -> String {
    let mut answer = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&answer);
        if so_far.contains(mark) {
            return so_far.into_owned();
        }
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answer));
        let read = read.await.unwrap_or_else(|_| panic!("{mark:?} does not come"));
        assert_ne!(read.unwrap(), 0, "closed before {mark:?}");
    }
}

/// Waits until `condition` holds, looking again every few milliseconds of real time.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads until the server closes, and returns the close frame's code and reason.
pub(crate) async fn closed_with(client: &mut Client) -> (u16, String) {
    let read = async {
        loop {
            match client.next().await {
                Ok(Some(Message::Close(Some(frame)))) => return (frame.code, frame.reason),
                Ok(Some(Message::Close(None))) => return (1005, String::new()),
                Ok(Some(_)) => {}
                Ok(None) => return (1006, "closed without a close frame".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return (1006, error.to_string());
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the server closes")
}

/// Waits until `server` has as many tasks of this name.
pub(crate) async fn eventually_named(server: &Running, name: &str, count: usize) {
    let until = Instant::now() + PATIENCE;
    while tasks(server).await.named(name) != count {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {count} tasks named {name}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What `/debug/bowline/tree` says, nothing left out.
pub(crate) struct Tasks {
    pub(crate) ours: usize,
    pub(crate) foreign: usize,
    pub(crate) json: serde_json::Value,
}

impl Tasks {
    /// How many tasks have this name.
    pub(crate) fn named(&self, name: &str) -> usize {
        fn count(value: &serde_json::Value, name: &str) -> usize {
            match value {
                serde_json::Value::Array(items) => items.iter().map(|item| count(item, name)).sum(),
                serde_json::Value::Object(fields) => {
                    let own = fields.get("state").is_some()
                        && fields.get("name").is_some_and(|known| known == name);
                    usize::from(own) + fields.values().map(|field| count(field, name)).sum::<usize>()
                }
                _ => 0,
            }
        }
        count(&self.json, name)
    }
}

pub(crate) async fn tasks(server: &Running) -> Tasks {
    let (status, body) = server.get("/debug/bowline/tree?format=json&each=all").await;
    assert_eq!(status, 200);
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let count = |key: &str| usize::try_from(json[key].as_u64().unwrap()).unwrap();
    let (ours, foreign) = (count("tasks"), count("foreign_tasks"));
    Tasks { ours, foreign, json }
}
