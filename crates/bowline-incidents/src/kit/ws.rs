//! A client of the server's WebSocket, for load: JSON, one socket, no task and no timer of its own.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_protocol::websocket::{
    Decoder, Limits, Message, Opcode, Role, is_accepted, masked_frame, request_key,
};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One WebSocket.
///
/// Answers come in the order of the calls that wait for them; what is pushed meanwhile is kept for [`recv`](Self::recv).
/// Pings are answered whenever something is waited for: a client nobody polls answers none, and is a zombie.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    read: BytesMut,
    decoder: Decoder,
    last_id: u32,
    pushed: VecDeque<Value>,
}

impl Client {
    /// Opens a WebSocket and nothing more: it works with any server of WebSockets.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the socket.
    ///
    /// # Errors
    ///
    /// What the socket says, or [`io::ErrorKind::InvalidData`] with the answer if it is not an upgrade.
    pub async fn open(server: SocketAddr, path: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let key = request_key(differing());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut read = BytesMut::new();
        let head = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break read.split_to(end + 4);
            }
            read.reserve(READ_BYTES);
            if stream.read_buf(&mut read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&head);
        let accept = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-accept").then(|| value.trim())
        });
        if !head.starts_with("HTTP/1.1 101") || !accept.is_some_and(|accept| is_accepted(&key, accept)) {
            let first = head.lines().next().unwrap_or_default();
            return Err(invalid(format!("the server answered {first:?}")));
        }
        let limits = Limits { max_message_bytes: MAX_MESSAGE_BYTES, ..Limits::default() };
        let decoder = Decoder::new(Role::Client, limits);
        Ok(Self { stream, read, decoder, last_id: 0, pushed: VecDeque::new() })
    }

    /// Opens one to a server of ours and connects, as nobody in particular.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the socket.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`call`](Self::call).
    pub async fn connect(server: SocketAddr) -> io::Result<Self> {
        let mut client = Self::open(server, "/connection/websocket").await?;
        client.call("connect", json!({})).await?;
        Ok(client)
    }

    /// Subscribes to a channel.
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn subscribe(&mut self, channel: &str) -> io::Result<()> {
        self.call("subscribe", json!({ "channel": channel })).await.map(|_| ())
    }

    /// Publishes, and waits until the server has taken it.
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn publish(&mut self, channel: &str, data: &Value) -> io::Result<()> {
        self.call("publish", json!({ "channel": channel, "data": data })).await.map(|_| ())
    }

    /// Makes one request, such as `("history", json!({"channel": "news", "limit": 10}))`, and waits for its result.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the command may or may not have been done; its answer is skipped when it comes.
    ///
    /// # Errors
    ///
    /// What the socket says; [`io::ErrorKind::Other`] with the answer if it is an error;
    /// [`io::ErrorKind::ConnectionAborted`] if the server closes.
    pub async fn call(&mut self, method: &str, request: Value) -> io::Result<Value> {
        let id = self.begin(method, &request).await?;
        self.answer(id).await
    }

    /// Sends one request without waiting, and returns its number for [`answer`](Self::answer): how many are sent at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle of a write, it leaves half a frame: drop the client as well.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn begin(&mut self, method: &str, request: &Value) -> io::Result<u32> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&format!(r#"{{"id":{id},"{method}":{request}}}"#)).await?;
        Ok(id)
    }

    /// Waits for the answer to request `id`. Answers that come before it are dropped.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn answer(&mut self, id: u32) -> io::Result<Value> {
        loop {
            let mut message = self.next_json().await?;
            if message["id"] == id {
                return match message.get_mut("error") {
                    Some(error) => Err(io::Error::other(error.to_string())),
                    None => Ok(message),
                };
            }
        }
    }

    /// Waits for the next thing the server pushes: `{"channel":"news","pub":{"data":…,"offset":7}}`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// What the socket says; [`io::ErrorKind::ConnectionAborted`] if the server closes.
    pub async fn recv(&mut self) -> io::Result<Value> {
        while self.pushed.is_empty() {
            // Nobody waits for it: an answer to something that was given up.
            let _late = self.next_json().await?;
        }
        Ok(self.pushed.pop_front().unwrap_or_default())
    }

    /// The next answer. Pushes are put aside, pings answered.
    async fn next_json(&mut self) -> io::Result<Value> {
        loop {
            let text = self.next_text().await?;
            let mut answer = Value::Null;
            // Several messages may come in one frame, a line each.
            for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let mut message: Value = serde_json::from_slice(line).map_err(invalid)?;
                if let Some(push) = message.get_mut("push") {
                    self.pushed.push_back(push.take());
                } else if message["id"].is_u64() {
                    answer = message;
                } else {
                    self.send("{}").await?;
                }
            }
            if !answer.is_null() || !self.pushed.is_empty() {
                return Ok(answer);
            }
        }
    }

    /// Sends one text message as it is.
    ///
    /// # Cancel safety
    ///
    /// Dropped in the middle of a write, it leaves half a frame: drop the client as well.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(&masked_frame(Opcode::Text, text.as_bytes(), differing())).await
    }

    /// Sends bytes as they are: frames made before, or what no honest client sends.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends frames made before in one piece, and reads meanwhile until so many answers have come, which it drops.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// What the socket says; [`io::ErrorKind::ConnectionAborted`] if the server closes.
    pub(crate) async fn burst(&mut self, frames: &[u8], answers: usize) -> io::Result<()> {
        let Self { stream, read, decoder, .. } = self;
        let (mut reader, mut writer) = stream.split();
        let answered = async {
            let mut missing = answers;
            while missing > 0 {
                match decoder.decode(read).map_err(invalid)? {
                    // Several may come in one frame, a line each.
                    Some(Message::Text(text)) => {
                        let lines =
                            text.split(|byte| *byte == b'\n').filter(|line| !matches!(*line, b"" | b"{}"));
                        missing = missing.saturating_sub(lines.count());
                    }
                    Some(Message::Close(_)) => return Err(io::ErrorKind::ConnectionAborted.into()),
                    Some(_) => {}
                    None if reader.read_buf(read).await? == 0 => {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    None => {}
                }
            }
            Ok(())
        };
        tokio::try_join!(writer.write_all(frames), answered).map(|_| ())
    }

    /// Waits for the next text message as it is, ping or not.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// What the socket says; [`io::ErrorKind::ConnectionAborted`] with code and reason if the server closes.
    pub async fn next_text(&mut self) -> io::Result<Bytes> {
        loop {
            let closed = |why: String| Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
            match self.decoder.decode(&mut self.read).map_err(invalid)? {
                Some(Message::Text(text)) => return Ok(text),
                Some(Message::Close(Some(frame))) => {
                    return closed(format!("{} {}", frame.code, frame.reason));
                }
                Some(Message::Close(None)) => return closed("without a reason".to_owned()),
                Some(_) => continue,
                None => {}
            }
            if self.read.is_empty() {
                self.read = BytesMut::new(); // an idle client keeps no buffer: there are many
            }
            self.stream.readable().await?;
            self.read.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.read) {
                Ok(0) => return closed("without a word".to_owned()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes away as a crashed process does: the peer gets a reset instead of a goodbye.
    pub fn vanish(self) {
        let _ = self.stream.set_zero_linger();
    }
}

/// Room made before each read.
const READ_BYTES: usize = 4096;

/// Largest message a client takes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Masks and keys of a load tool need no secrecy (RFC 6455 §10.3 is about browsers), only to differ.
fn differing<const N: usize>() -> [u8; N] {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let mut mixed = STATE.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    std::array::from_fn(|_| {
        mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 56) as u8
    })
}
