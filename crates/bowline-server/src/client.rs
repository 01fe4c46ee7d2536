//! A small WebSocket client of the protocol, for load and for tests. Applications use the SDKs.

use std::io;
use std::net::SocketAddr;

use bowline_protocol::websocket::{
    Decoder, Limits, Message, Opcode, Role, is_accepted, masked_frame, request_key,
};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Largest message a client takes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Room made before each read.
const READ_BYTES: usize = 4096;

/// One WebSocket to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    read: BytesMut,
    decoder: Decoder,
}

impl Client {
    /// Connects and upgrades.
    ///
    /// # Errors
    ///
    /// What the socket says, or [`io::ErrorKind::InvalidData`] with the server's answer if it is not a 101.
    pub async fn open(server: SocketAddr, path: &str) -> io::Result<Self> {
        let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        Self::open_on(socket, server, path).await
    }

    /// Connects on this socket and upgrades: one that is bound to an address, for more connections than one address has
    /// ports.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_on(socket: TcpSocket, server: SocketAddr, path: &str) -> io::Result<Self> {
        let mut stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        let key = request_key(rand_bytes());
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
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the server answered {first:?}")));
        }
        let limits = Limits { max_message_bytes: MAX_MESSAGE_BYTES, ..Limits::default() };
        Ok(Self { stream, read, decoder: Decoder::new(Role::Client, limits) })
    }

    /// Sends one text message.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.send_raw(&masked_frame(Opcode::Text, text.as_bytes(), rand_bytes())).await
    }

    /// Sends bytes as they are, for what no honest client does.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits for the next message; `None` when the server has closed the socket.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// What the socket says, or [`io::ErrorKind::InvalidData`] if the server breaks the framing rules.
    pub async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            match self.decoder.decode(&mut self.read) {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            if self.read.is_empty() {
                self.read = BytesMut::new(); // an idle client keeps no buffer either
            }
            self.stream.readable().await?;
            self.read.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.read) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the next text message. A close frame is an error that names code and reason.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next); [`io::ErrorKind::ConnectionAborted`] if the server closes.
    pub async fn next_text(&mut self) -> io::Result<String> {
        loop {
            let closed = |why: String| Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
            match self.next().await? {
                Some(Message::Text(text)) => return Ok(String::from_utf8_lossy(&text).into_owned()),
                Some(Message::Close(Some(frame))) => {
                    return closed(format!("{} {}", frame.code, frame.reason));
                }
                Some(Message::Close(None)) | None => return closed("without a reason".to_owned()),
                Some(_) => {}
            }
        }
    }

    /// Sends a command and waits for the next message, which is its answer if nothing else is going on.
    ///
    /// # Errors
    ///
    /// As [`next_text`](Self::next_text).
    pub async fn call(&mut self, command: &str) -> io::Result<String> {
        self.send(command).await?;
        self.next_text().await
    }

    /// Gives the socket away, with bytes that were read and not yet decoded.
    #[must_use]
    pub fn into_socket(self) -> (TcpStream, BytesMut) {
        (self.stream, self.read)
    }
}

/// Masks and keys of a load tool need no secrecy (RFC 6455 §10.3 is about browsers), only to differ.
fn rand_bytes<const N: usize>() -> [u8; N] {
    let uuid = uuid::Uuid::new_v4();
    std::array::from_fn(|at| uuid.as_bytes()[at % 16])
}
