//! The messaging server that broke, of rows A2, A3, A6 and A7: on bare tokio, as such servers are written on the first day.
#![expect(clippy::disallowed_methods, reason = "the form as it broke")]

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_protocol::websocket::{Decoder, Limits, Message, Opcode, Role, accept_key, frame};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::kit::Server;
use crate::lab::Trouble;
use crate::sample::resident_bytes;

// ANCHOR: leaky
type Table = Arc<Mutex<HashMap<u64, Peer>>>;

struct Peer {
    socket: OwnedWriteHalf,
    channels: HashSet<String>,
}

async fn serve(listener: TcpListener) {
    let table = Table::default();
    let mut id = 0;
    while let Ok((socket, _)) = listener.accept().await {
        id += 1;
        tokio::spawn(connection(id, socket, Arc::clone(&table)));
    }
}

async fn connection(id: u64, socket: TcpStream, table: Table) -> io::Result<()> {
    let (mut reader, mut socket) = socket.into_split();
    upgrade(&mut reader, &mut socket).await?;
    table.lock().await.insert(id, Peer { socket, channels: HashSet::new() });
    tokio::spawn(keep_alive(id, Arc::clone(&table)));
    let mut messages = Messages::of(reader);
    while let Ok(Some(message)) = messages.next().await {
        tokio::spawn(handle(id, message, Arc::clone(&table)));
    }
    table.lock().await.remove(&id);
    Ok(())
}

async fn keep_alive(id: u64, table: Table) {
    loop {
        sleep(Duration::from_secs(25)).await;
        match table.lock().await.get_mut(&id) {
            Some(peer) => drop(peer.socket.write_all(&text("{}")).await),
            None => return,
        }
    }
}

async fn handle(id: u64, message: Bytes, table: Table) {
    let command = Command::parse(&message);
    let mut table = table.lock().await;
    if command.method == "subscribe"
        && let Some(peer) = table.get_mut(&id)
    {
        peer.channels.insert(command.channel.clone());
    }
    if command.method == "publish" {
        let publication = command.publication();
        for peer in table.values_mut().filter(|peer| peer.channels.contains(&command.channel)) {
            let _ = peer.socket.write_all(&publication).await;
        }
    }
    if let Some(peer) = table.get_mut(&id) {
        let _ = peer.socket.write_all(&command.answer()).await;
    }
}
// ANCHOR_END: leaky

fn text(message: &str) -> Bytes {
    frame(Opcode::Text, message.as_bytes())
}

struct Command {
    id: Value,
    method: String,
    channel: String,
    data: Value,
}

impl Command {
    fn parse(message: &[u8]) -> Self {
        let mut message: Value = serde_json::from_slice(message).unwrap_or_default();
        let id = message["id"].take();
        let fields = message.as_object().into_iter().flatten();
        let (method, body) = fields
            .filter(|(name, _)| *name != "id")
            .map(|(name, body)| (name.clone(), body.clone()))
            .next()
            .unwrap_or_default();
        let channel = body["channel"].as_str().unwrap_or_default().to_owned();
        Self { id, method, channel, data: body["data"].clone() }
    }

    fn publication(&self) -> Bytes {
        text(&json!({ "push": { "channel": self.channel, "pub": { "data": self.data } } }).to_string())
    }

    fn answer(&self) -> Bytes {
        if self.id.is_null() {
            return Bytes::new(); // a pong
        }
        text(&format!(r#"{{"id":{},"{}":{{}}}}"#, self.id, self.method))
    }
}

async fn upgrade(reader: &mut OwnedReadHalf, socket: &mut OwnedWriteHalf) -> io::Result<()> {
    // Small messages leave at once, as in any such server: what is measured is not Nagle's algorithm.
    socket.as_ref().set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(reader.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    );
    socket.write_all(answer.as_bytes()).await
}

/// The text messages of one socket.
struct Messages {
    reader: OwnedReadHalf,
    input: BytesMut,
    decoder: Decoder,
}

impl Messages {
    fn of(reader: OwnedReadHalf) -> Self {
        let limits = Limits { max_message_bytes: 1024 * 1024, ..Limits::default() };
        Self { reader, input: BytesMut::new(), decoder: Decoder::new(Role::Server, limits) }
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.decoder.decode(&mut self.input).map_err(io::Error::other)? {
                Some(Message::Text(text)) => return Ok(Some(text)),
                Some(Message::Close(_)) => return Ok(None),
                Some(_) => {}
                None if self.reader.read_buf(&mut self.input).await? == 0 => return Ok(None),
                None => {}
            }
        }
    }
}

/// A server to be driven, of either form.
pub(super) enum Driven {
    /// The one above, on a runtime of its own, so that its tasks can be told from those of the clients.
    Leaky { runtime: Option<Runtime>, address: SocketAddr },
    /// The real one, in a process of its own.
    Tied(Server),
}

impl Driven {
    pub(super) async fn leaky() -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (bound, address) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let _ = bound.send(listener.local_addr()?);
            serve(listener).await;
            io::Result::Ok(())
        });
        Ok(Self::Leaky { runtime: Some(runtime), address: address.await? })
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Leaky { address, .. } => *address,
            Self::Tied(server) => server.public(),
        }
    }

    /// Tasks that live in the server now.
    pub(super) async fn tasks(&self) -> Result<u64, Trouble> {
        match self {
            Self::Leaky { runtime, .. } => {
                Ok(runtime.as_ref().map_or(0, |runtime| runtime.metrics().num_alive_tasks()) as u64)
            }
            Self::Tied(server) => server.tasks().await,
        }
    }

    /// Resident memory of the process it is in.
    pub(super) fn resident_bytes(&self) -> u64 {
        match self {
            Self::Leaky { .. } => resident_bytes(),
            Self::Tied(server) => server.resident_bytes(),
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        if let Self::Leaky { runtime, .. } = self
            && let Some(runtime) = runtime.take()
        {
            // In the background: this is dropped by a task of another runtime, which may not wait.
            runtime.shutdown_background();
        }
    }
}

/// Waits until the server has no more than so many tasks, or the time is over; returns how many it has.
pub(super) async fn settled(
    server: &Driven,
    tasks: u64,
    within: Duration,
    seen: &AtomicU64,
) -> Result<u64, Trouble> {
    let until = tokio::time::Instant::now() + within;
    loop {
        let alive = server.tasks().await?;
        seen.store(alive, Ordering::Relaxed);
        if alive <= tasks || tokio::time::Instant::now() > until {
            return Ok(alive);
        }
        sleep(Duration::from_millis(20)).await;
    }
}
