//! What these tests share: a server process on a directory, requests, and clients that know where they stand.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline_server::client::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{Process, signal};

/// No condition in these tests takes longer, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The key of the server API under `--dev`.
const KEY: &str = "bowline-dev-key";

/// A directory of a test's own, which goes with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bowline-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A data directory in it, which is not there yet.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server process with a data directory.
pub(crate) struct Server(Process);

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

/// The arguments of a server that is open to this machine and keeps its publications in `data`.
pub(crate) fn arguments(data: &Path, set: &[(&str, &str)]) -> Vec<String> {
    let data = data.to_str().unwrap();
    let base = [
        ("http_server.port", "0"),
        ("http_server.internal_port", "0"),
        ("http_server.handshakes_per_address", "0"),
        ("store.path", data),
        ("channel.without_namespace.history_size", "1000000"),
        ("channel.without_namespace.history_ttl", "24h"),
        ("client.recovery_max_publication_limit", "1000000"),
        ("client.queue_max_size", "67108864"),
        ("client.command_rate_limit", "0"),
        ("client.byte_rate_limit", "0"),
        ("log.level", "warn"),
    ];
    let set = base.iter().chain(set).flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]);
    ["serve".to_owned(), "--dev".to_owned()].into_iter().chain(set).collect()
}

impl Server {
    pub(crate) fn start(data: &Path, set: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        // For us alone: the server would take it for a setting.
        command.args(arguments(data, set)).env_remove("BOWLINE_KILLS");
        Self::spawn(command)
    }

    pub(crate) fn spawn(command: Command) -> Self {
        Self(Process::start(command))
    }

    /// Runs a server that does not get as far as being ready.
    pub(crate) fn refused(data: &Path) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.args(arguments(data, &[])).env_remove("BOWLINE_KILLS").stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes the process away, between any two of its instructions.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Tells it to stop, and waits: exit status and standard error.
    pub(crate) fn stop(self) -> (ExitStatus, String) {
        let id = self.id();
        self.stop_by(id)
    }

    /// As [`stop`](Self::stop), where the server is process `id`, and ours ends with it.
    pub(crate) fn stop_by(self, id: u32) -> (ExitStatus, String) {
        signal(id, "TERM");
        let (status, _, said) = self.0.wait(PATIENCE);
        (status, said)
    }

    /// A call of the server API; its result, or what else was answered.
    pub(crate) async fn api(&self, method: &str, body: &Value) -> Result<Value, String> {
        api(self.public, method, body).await
    }

    /// Publishes, and answers offset and epoch.
    pub(crate) async fn publish(&self, channel: &str, data: &Value) -> (u64, String) {
        let result = self.api("publish", &json!({"channel": channel, "data": data})).await.unwrap();
        place(&result)
    }

    /// A client that is connected and subscribed to `channel`, and what it was told; it recovers what came after `since`.
    pub(crate) async fn subscribe(
        &self,
        channel: &str,
        since: Option<(u64, &str)>,
    ) -> std::io::Result<(Client, Value)> {
        subscribe(self.public, channel, since).await
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let metrics = http(self.internal, "GET", "/metrics", b"").await.unwrap().1;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }
}

/// The offset and the epoch in an answer.
pub(crate) fn place(result: &Value) -> (u64, String) {
    (result["offset"].as_u64().unwrap_or(0), result["epoch"].as_str().unwrap_or_default().to_owned())
}

pub(crate) async fn api(server: SocketAddr, method: &str, body: &Value) -> Result<Value, String> {
    let (status, answer) = http(server, "POST", &format!("/api/{method}"), body.to_string().as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_str(&answer).map_err(|_| format!("{status} {answer}"))?;
    match answer.get("result") {
        Some(result) => Ok(result.clone()),
        None if answer.get("replies").is_some() => Ok(answer["replies"].clone()),
        None => Err(answer.to_string()),
    }
}

async fn http(server: SocketAddr, method: &str, path: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(server).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nX-API-Key: {KEY}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let broken = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the answer is cut off");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|length| length != body.len()) {
        return Err(broken());
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

pub(crate) async fn subscribe(
    server: SocketAddr,
    channel: &str,
    since: Option<(u64, &str)>,
) -> std::io::Result<(Client, Value)> {
    let mut client = Client::open(server, "/connection/websocket").await?;
    client.call(r#"{"id":1,"connect":{}}"#).await?;
    let mut wish = json!({"channel": channel, "positioned": true, "recoverable": true});
    if let Some((offset, epoch)) = since {
        wish["recover"] = true.into();
        wish["offset"] = offset.into();
        wish["epoch"] = epoch.into();
    }
    client.send(&json!({"id": 2, "subscribe": wish}).to_string()).await?;
    let reply: Value = serde_json::from_str(&client.next_text().await?)?;
    assert!(reply["subscribe"].is_object(), "{reply}");
    Ok((client, reply["subscribe"].clone()))
}

/// The next messages of a client: replies, and the contents of pushes.
pub(crate) async fn messages(client: &mut Client) -> std::io::Result<Vec<Value>> {
    let text = client.next_text().await?;
    Ok(text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|value| *value != json!({}))
        .collect())
}

/// Offset and data of the next so many publications.
pub(crate) async fn publications(client: &mut Client, count: usize) -> Vec<(u64, Value)> {
    let mut found = Vec::new();
    while found.len() < count {
        let next = tokio::time::timeout(PATIENCE, messages(client)).await.expect("publications come");
        found.extend(next.unwrap().iter().filter_map(publication));
    }
    found
}

/// Offset and data, if the message is a publication.
pub(crate) fn publication(message: &Value) -> Option<(u64, Value)> {
    let publication = message["push"].get("pub")?;
    Some((publication["offset"].as_u64().unwrap_or(0), publication["data"].clone()))
}
