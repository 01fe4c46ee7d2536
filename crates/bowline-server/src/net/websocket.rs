//! One WebSocket: one task, in which reading, writing and time take turns.
//!
//! The loop waits for whichever comes first of: frames in the outgoing queue, bytes from the peer, room in the socket
//! if something is left to write, and the next thing that is due. Then it does all that can be done without waiting.
//!
//! # Invariants
//!
//! 1. Only this task touches the socket, so frames never interleave.
//! 2. While nothing is in progress no buffer is held: bytes are read when they are there.
//! 3. A peer that takes nothing for `websocket.write_timeout` is closed; while something is left to write, nothing
//!    more is drained from the queue, so the queue's bound holds.
//!
//! # End
//!
//! A disconnect is told to the peer in a close frame behind what was queued; then the peer has
//! [`CLOSE_TIMEOUT`] to answer. A peer that vanishes ends the task with the next failed write, or with its missing pong.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bowline::{Either, race};
use bowline_protocol::Disconnect;
use bowline_protocol::websocket::{Decoder, Limits, Message, Opcode, Role, close_frame, frame};
use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Shared;
use super::http::Leftover;
use super::writer::Writer;
use crate::node::{Drained, Frame, Outbox};
use crate::session::{Session, Transport};

/// How long a peer may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Room made before each read. Commands are smaller; a larger message grows it to its own size.
const READ_BYTES: usize = 4096;

/// One WebSocket connection, between the handshake and its end.
pub(crate) struct WebSocket {
    socket: Socket,
    session: Session,
    outbox: Outbox,
    write_timeout: Duration,
    shared: Shared,
}

struct Socket {
    stream: TcpStream,
    read: BytesMut,
    decoder: Decoder,
    writer: Writer,
}

/// How long to run a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Authenticated,
    Ended,
}

/// Why the loop ended.
enum End {
    /// We close, for this reason.
    Disconnect(Disconnect),
    /// The peer broke the framing rules, or sent too much; closed with a status of WebSocket itself.
    Protocol(u16, &'static str),
    /// The peer sent a close frame.
    ClosedByPeer,
    /// The socket is gone.
    Gone,
}

impl WebSocket {
    pub(crate) fn new(leftover: Leftover, peer: SocketAddr, shared: &Shared) -> Self {
        tracing::trace!(%peer, "websocket");
        let config = &shared.node.config().websocket;
        let limits = Limits { max_message_bytes: config.message_size_limit.get(), ..Limits::default() };
        let outbox = shared.node.outbox();
        outbox.observe();
        let session = Session::new(shared.node.clone(), Transport::WEBSOCKET, outbox.clone());
        let socket = Socket {
            stream: leftover.stream,
            read: leftover.read,
            decoder: Decoder::new(Role::Server, limits),
            writer: Writer::default(),
        };
        Self { socket, session, outbox, write_timeout: config.write_timeout.get(), shared: shared.clone() }
    }

    pub(crate) async fn run(mut self) {
        // Once authenticated, the connection is in the node's table and hears of a shutdown through its queue; until then
        // it listens by itself. Who authenticates while the server stops is in neither, hence the second look.
        let stopped = self.shared.stopped();
        let end = match race(stopped, self.serve(Until::Authenticated)).await {
            Either::Left(()) => self.flush_and_end(Disconnect::SHUTDOWN),
            Either::Right(Some(end)) => end,
            Either::Right(None) if *self.shared.stopping.borrow() => self.flush_and_end(Disconnect::SHUTDOWN),
            Either::Right(None) => self.serve(Until::Ended).await.unwrap_or(End::Gone),
        };
        let Self { mut socket, session, outbox, .. } = self;
        // The rest of the server learns at once that this client is gone; the goodbye is between us and the socket.
        drop((session, outbox));
        match end {
            End::Gone => return,
            End::ClosedByPeer => socket.writer.push(close_frame(CLOSE_NORMAL, "")),
            End::Protocol(code, reason) => socket.writer.push(close_frame(code, reason)),
            End::Disconnect(reason) if reason == Disconnect::CONNECTION_CLOSED => return,
            End::Disconnect(reason) => socket.writer.push(close_frame(reason.code, &reason.reason)),
        }
        let goodbye = socket.say_goodbye();
        let _ = race(tokio::time::sleep(CLOSE_TIMEOUT), goodbye).await;
    }

    /// Runs the connection; `None` if it went on longer than it was to be run.
    async fn serve(&mut self, until: Until) -> Option<End> {
        if let Err(end) = self.handle_input().await {
            return Some(end); // of bytes that came with the handshake
        }
        let mut frames = Vec::new();
        let mut due = Instant::now();
        let mut stalled_at = None;
        loop {
            if until == Until::Authenticated && self.session.client().is_some() {
                return None;
            }
            // A peer that always has something to say must not keep the thread to itself.
            tokio::task::coop::consume_budget().await;
            let now = Instant::now();
            if now >= due {
                match self.session.on_timer(now) {
                    Ok(next) => due = next,
                    Err(reason) => return Some(self.flush_and_end(reason)),
                }
            }
            let wake_at = match stalled_at {
                Some(since) if now >= since + self.write_timeout => {
                    return Some(End::Disconnect(Disconnect::WRITE_ERROR));
                }
                Some(since) => due.min(since + self.write_timeout),
                None => due,
            };
            match self.socket.next(&self.outbox, &mut frames, wake_at).await {
                Event::Due => {}
                Event::Outgoing(Drained::End(reason)) => return Some(End::Disconnect(reason)),
                Event::Outgoing(Drained::Frames) => {
                    frames.drain(..).for_each(|frame| self.socket.writer.push(frame.bytes().clone()));
                    frames = Vec::new(); // by invariant 2
                }
                Event::Writable => {}
                Event::Readable => {
                    if let Err(end) = self.read().await {
                        return Some(end);
                    }
                    due = due.min(self.session.next_deadline());
                }
            }
            if !self.socket.writer.is_empty() {
                match self.socket.writer.write(&self.socket.stream) {
                    Err(_) => return Some(End::Gone),
                    Ok(_) if self.socket.writer.is_empty() => stalled_at = None,
                    Ok(true) => stalled_at = Some(Instant::now()),
                    Ok(false) => stalled_at = stalled_at.or(Some(Instant::now())),
                }
            }
        }
    }

    /// Reads once what is there and handles every message in it. If there was more, the socket is readable still.
    async fn read(&mut self) -> Result<(), End> {
        self.socket.read.reserve(READ_BYTES);
        match self.socket.stream.try_read_buf(&mut self.socket.read) {
            Ok(0) => return Err(End::Gone),
            Ok(_) => self.handle_input().await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(End::Gone),
        }
        if self.socket.read.is_empty() {
            self.socket.read = BytesMut::new(); // by invariant 2
        }
        Ok(())
    }

    async fn handle_input(&mut self) -> Result<(), End> {
        loop {
            match self.socket.decoder.decode(&mut self.socket.read) {
                Ok(None) => return Ok(()),
                Ok(Some(Message::Text(payload) | Message::Binary(payload))) => {
                    let handled = self.session.handle_frame(&payload).await;
                    handled.map_err(|reason| self.flush_and_end(reason))?;
                }
                Ok(Some(Message::Ping(payload))) => self.socket.writer.push(frame(Opcode::Pong, &payload)),
                Ok(Some(Message::Pong(_))) => {}
                Ok(Some(Message::Close(_))) => return Err(End::ClosedByPeer),
                Err(error) => {
                    tracing::debug!(%error, "websocket broke the framing rules");
                    return Err(End::Protocol(error.close_code(), "bad frame"));
                }
            }
        }
    }

    /// Takes what was queued before the end; the close frame goes behind it. The first reason counts.
    fn flush_and_end(&mut self, reason: Disconnect) -> End {
        let mut frames: Vec<Frame> = Vec::new();
        let mut drain = || {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            self.outbox.poll_drain(&mut cx, &mut frames)
        };
        let mut end = reason;
        while let std::task::Poll::Ready(drained) = drain() {
            if let Drained::End(first) = drained {
                end = first;
                break;
            }
        }
        frames.into_iter().for_each(|frame| self.socket.writer.push(frame.bytes().clone()));
        End::Disconnect(end)
    }
}

/// The status that answers a peer's close frame.
const CLOSE_NORMAL: u16 = 1000;

enum Event {
    Outgoing(Drained),
    Readable,
    Writable,
    Due,
}

impl Socket {
    /// Waits for the next thing to do.
    async fn next(&self, outbox: &Outbox, frames: &mut Vec<Frame>, wake_at: Instant) -> Event {
        let outgoing = async {
            if self.writer.is_empty() {
                Event::Outgoing(outbox.drain(frames).await)
            } else {
                // By invariant 3. An error shows at the write that follows.
                match race(outbox.abandoned(), self.stream.writable()).await {
                    Either::Left(reason) => Event::Outgoing(Drained::End(reason)),
                    Either::Right(_) => Event::Writable,
                }
            }
        };
        let incoming = async {
            let _ = self.stream.readable().await; // an error shows at the read that follows
            Event::Readable
        };
        match race(race(outgoing, incoming), tokio::time::sleep_until(wake_at)).await {
            Either::Left(Either::Left(event) | Either::Right(event)) => event,
            Either::Right(()) => Event::Due,
        }
    }

    /// Writes what is left, then reads until the peer has answered the close frame or is gone.
    async fn say_goodbye(&mut self) {
        while !self.writer.is_empty() {
            if self.writer.write(&self.stream).is_err() {
                return;
            }
            if !self.writer.is_empty() && self.stream.writable().await.is_err() {
                return;
            }
        }
        loop {
            if self.stream.readable().await.is_err() {
                return;
            }
            self.read.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.read) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            // What the peer still sends is not looked at, except for its close frame.
            loop {
                match self.decoder.decode(&mut self.read) {
                    Ok(Some(Message::Close(_))) | Err(_) => return,
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                }
            }
        }
    }
}
