//! A NATS server with JetStream, and as much of a client as a consumer needs.
//!
//! The protocol is a handful of lines of text, so that a client of our own is shorter than the list of what a general one
//! brings along (TLS, keys, reconnecting).

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

use super::{Process, Scratch, program};
use crate::lab::Trouble;

/// A NATS server with JetStream on a free port, killed when dropped.
pub(crate) struct Nats {
    address: SocketAddr,
    // Dropped in this order: the server first.
    _process: Process,
    _scratch: Scratch,
}

impl Nats {
    /// Starts one and waits until it listens.
    pub(crate) async fn start() -> Result<Self, Trouble> {
        let scratch = Scratch::new()?;
        let server = program("nats-server", "BOWLINE_NATS_SERVER").ok_or("no nats-server")?;
        let mut command = Command::new(server);
        command
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", "-1", "--store_dir"])
            .arg(scratch.path());
        let process = Process::start("nats", command, &scratch)?;
        let address = process
            .wait_said(|said| {
                said.contains("Server is ready").then_some(())?;
                let (_, after) = said.split_once("client connections on ")?;
                after.split_whitespace().next()?.parse().ok()
            })
            .await?;
        Ok(Self { address, _process: process, _scratch: scratch })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What a server delivers.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Where an answer goes: of a message of a consumer, its acknowledgement.
    pub(crate) reply: String,
    pub(crate) payload: Vec<u8>,
}

/// The half of a connection that sends. A clone sends on the same.
#[derive(Clone)]
pub(crate) struct Publisher(Arc<Mutex<OwnedWriteHalf>>);

/// The half of a connection that receives.
pub(crate) struct Subscriber {
    lines: BufReader<OwnedReadHalf>,
    publisher: Publisher,
}

/// Connects, with no subscription.
pub(crate) async fn connect(server: SocketAddr) -> io::Result<(Publisher, Subscriber)> {
    let connection = TcpStream::connect(server).await?;
    connection.set_nodelay(true)?;
    let (reads, writes) = connection.into_split();
    let publisher = Publisher(Arc::new(Mutex::new(writes)));
    publisher.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").await?;
    Ok((publisher.clone(), Subscriber { lines: BufReader::new(reads), publisher }))
}

impl Publisher {
    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().await.write_all(bytes).await
    }

    pub(crate) async fn publish(&self, subject: &str, reply: &str, payload: &[u8]) -> io::Result<()> {
        let head = format!("PUB {subject} {reply} {}\r\n", payload.len());
        self.send(&[head.as_bytes(), payload, b"\r\n"].concat()).await
    }

    /// Ends the subscription of this connection: its [`Subscriber`] still gets what has been sent to it, and then an error.
    pub(crate) async fn unsubscribe(&self) -> io::Result<()> {
        self.send(b"UNSUB 1\r\nPING\r\n").await
    }

    /// Acknowledges a message of a consumer.
    pub(crate) async fn acknowledge(&self, message: &Message) -> io::Result<()> {
        self.publish(&message.reply, "", b"+ACK").await
    }
}

impl Subscriber {
    pub(crate) async fn subscribe(&mut self, subject: &str) -> io::Result<()> {
        self.publisher.send(format!("SUB {subject} 1\r\n").as_bytes()).await
    }

    /// Waits for the next message.
    pub(crate) async fn next(&mut self) -> io::Result<Message> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["MSG", _subject, _sid, ref rest @ .., length] => {
                    let length: usize = length.parse().map_err(io::Error::other)?;
                    let mut payload = vec![0; length + 2];
                    self.lines.read_exact(&mut payload).await?;
                    payload.truncate(length);
                    let reply = rest.first().copied().unwrap_or_default().to_owned();
                    return Ok(Message { reply, payload });
                }
                // The answer to our only question: what the server had for us has come before it.
                ["PONG"] => return Err(io::Error::other("unsubscribed")),
                ["PING"] => self.publisher.send(b"PONG\r\n").await?,
                ["-ERR", ..] => return Err(io::Error::other(line)),
                _ => {}
            }
        }
    }
}

/// Asks JetStream for something, one question after the other.
pub(crate) struct Admin(Publisher, Subscriber);

impl Admin {
    pub(crate) async fn connect(server: SocketAddr) -> io::Result<Self> {
        let (publisher, mut subscriber) = connect(server).await?;
        subscriber.subscribe("admin.answers").await?;
        Ok(Self(publisher, subscriber))
    }

    pub(crate) async fn ask(&mut self, what: &str, with: &Value) -> Result<Value, Trouble> {
        self.0.publish(&format!("$JS.API.{what}"), "admin.answers", with.to_string().as_bytes()).await?;
        let answer: Value = serde_json::from_slice(&self.1.next().await?.payload)?;
        match answer.get("error") {
            Some(error) => Err(format!("{what}: {error}").into()),
            None => Ok(answer),
        }
    }

    /// Publishes into a stream, and waits until it is stored.
    pub(crate) async fn store(&mut self, subject: &str, payload: &[u8]) -> Result<(), Trouble> {
        self.0.publish(subject, "admin.answers", payload).await?;
        let stored: Value = serde_json::from_slice(&self.1.next().await?.payload)?;
        stored.get("seq").map(|_| ()).ok_or_else(|| format!("not stored: {stored}").into())
    }
}
