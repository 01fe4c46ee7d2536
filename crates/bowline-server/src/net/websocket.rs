//! One WebSocket: one task, in which reading, writing and time take turns.
//!
//! The loop waits for any of: frames in the outgoing queue, bytes from the peer, room in the socket if something is left to
//! write, and the next thing that is due. Then it does all that can be done without waiting, in every direction: neither a
//! busy channel nor a busy peer keeps the other direction waiting.
//!
//! # Invariants
//!
//! 1. Only this task touches the socket, so frames never interleave.
//! 2. While nothing is in progress no buffer is held: bytes are read when they are there.
//! 3. A peer that takes nothing for `websocket.write_timeout` is closed; while something is left to write, nothing
//!    more is drained from the queue, so the queue's bound holds.
//! 4. Of the pings a peer sent since our last pong only the last is answered (RFC 6455 §5.5.3), so a peer that pings and
//!    does not read makes nothing grow.
//!
//! # End
//!
//! A disconnect is told to the peer in a close frame behind what was queued; then the peer has [`CLOSE_TIMEOUT`] to answer.
//! To a peer that is too slow nothing queued is written any more. Whoever closed first waits for the other: a peer that
//! sent a close frame, or broke the rules, is answered and sees the end of the socket at once. A peer that vanishes ends
//! the task with the next failed write, or with its missing pong.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline::{Either, race};
use bowline_protocol::Disconnect;
use bowline_protocol::websocket::{
    Decoder, Limits, Message, Opcode, ProtocolError, Role, close_frame, frame,
};
use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Shared;
use super::http::Leftover;
use super::linger::linger;
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
    /// The pong to send when the writer has nothing else to write.
    pong: Option<Bytes>,
}

/// How long to run a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Authenticated,
    Ended,
}

/// Why the connection is to end.
pub(crate) enum End {
    /// We close, for this reason.
    Disconnect(Disconnect),
    /// The peer broke the framing rules, or sent too much; closed with a status of WebSocket itself.
    Protocol(ProtocolError),
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
            pong: None,
        };
        Self { socket, session, outbox, write_timeout: config.write_timeout.get(), shared: shared.clone() }
    }

    /// Runs the connection until it is to end, and answers why.
    pub(crate) async fn run(&mut self) -> End {
        if self.is_beyond_limit() {
            return End::Disconnect(Disconnect::CONNECTION_LIMIT);
        }
        // Once authenticated, the connection is in the node's table and hears of a shutdown through its queue; until then
        // it listens by itself. Who authenticates while the server stops is in neither, hence the second look.
        let stopped = self.shared.stopped();
        match race(stopped, self.serve(Until::Authenticated)).await {
            Either::Left(()) => self.flush_and_end(Disconnect::SHUTDOWN),
            Either::Right(Some(end)) => end,
            Either::Right(None) if *self.shared.stopping.borrow() => self.flush_and_end(Disconnect::SHUTDOWN),
            Either::Right(None) => self.serve(Until::Ended).await.unwrap_or(End::Gone),
        }
    }

    /// Leaves the node, then tells the peer and closes the socket.
    pub(crate) async fn say_goodbye(self, end: End) {
        let Self { mut socket, session, outbox, shared, .. } = self;
        if let End::Disconnect(reason) = &end {
            // The session counts by what its queue says; an earlier reason stands.
            outbox.close(reason.clone());
        }
        // The rest of the server learns at once that this client is gone; the goodbye is between us and the socket.
        drop((session, outbox));
        let goodbye = match end {
            End::Gone => return,
            End::Disconnect(reason) if reason == Disconnect::CONNECTION_CLOSED => return,
            End::Disconnect(reason) => {
                if reason == Disconnect::SLOW || reason == Disconnect::WRITE_ERROR {
                    socket.writer.abandon();
                }
                socket.close(reason.code, &reason.reason);
                Goodbye::WaitForAnswer
            }
            End::ClosedByPeer => {
                socket.close(CLOSE_NORMAL, "");
                Goodbye::Answer
            }
            End::Protocol(error) => {
                socket.close(error.close_code(), &error.to_string());
                Goodbye::Answer
            }
        };
        // A peer that does not answer must not outlast the time for draining: nothing of its is lost any more.
        let limit = CLOSE_TIMEOUT.min(shared.node.config().shutdown.timeout.get() / 2);
        let _ = race(tokio::time::sleep(limit), socket.say(goodbye)).await;
    }

    /// Whether the server has no room for this client, whoever it is. The table of users has the last word; asked here, a
    /// full server spends nothing on verifying tokens.
    fn is_beyond_limit(&self) -> bool {
        let limit = self.shared.node.config().client.connection_limit;
        limit.is_some_and(|limit| self.shared.node.counters().clients.value() >= limit.get() as u64)
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
            let ready = self.socket.wait(&self.outbox, &mut frames, wake_at).await;
            match ready.outgoing {
                Some(Drained::End(reason)) => return Some(End::Disconnect(reason)),
                Some(Drained::Frames) => {
                    frames.drain(..).for_each(|frame| self.socket.writer.push(frame.bytes().clone()));
                    frames = Vec::new(); // by invariant 2
                }
                None => {}
            }
            if ready.is_readable {
                if let Err(end) = self.read().await {
                    return Some(end);
                }
                due = due.min(self.session.next_deadline());
            }
            match self.socket.write() {
                Err(_) => return Some(End::Gone),
                Ok(_) if self.socket.writer.is_empty() => stalled_at = None,
                Ok(Progress::Some) => stalled_at = Some(Instant::now()),
                Ok(Progress::None) => stalled_at = stalled_at.or(Some(Instant::now())),
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
                // By invariant 4.
                Ok(Some(Message::Ping(payload))) => self.socket.pong = Some(frame(Opcode::Pong, &payload)),
                Ok(Some(Message::Pong(_))) => {}
                Ok(Some(Message::Close(_))) => return Err(End::ClosedByPeer),
                Err(error) => {
                    let peer = self.socket.stream.peer_addr().ok();
                    tracing::debug!(?peer, %error, "websocket broke the framing rules");
                    return Err(End::Protocol(error));
                }
            }
        }
    }

    /// Takes what was queued before the end; the close frame goes behind it. The first reason counts.
    fn flush_and_end(&mut self, reason: Disconnect) -> End {
        let mut frames: Vec<Frame> = Vec::new();
        let mut drain = || {
            let mut cx = Context::from_waker(Waker::noop());
            self.outbox.poll_drain(&mut cx, &mut frames)
        };
        let mut end = reason;
        while let Poll::Ready(drained) = drain() {
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

/// What can be done without waiting.
struct Ready {
    outgoing: Option<Drained>,
    is_readable: bool,
}

/// Whether the kernel took anything.
enum Progress {
    Some,
    None,
}

/// Who speaks last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goodbye {
    /// We do: the peer closed first, or is not to be listened to.
    Answer,
    /// The peer does.
    WaitForAnswer,
}

impl Socket {
    /// Waits until there is something to do, and says all there is.
    async fn wait(&self, outbox: &Outbox, frames: &mut Vec<Frame>, wake_at: Instant) -> Ready {
        let mut abandoned = pin!(outbox.abandoned());
        let mut due = pin!(tokio::time::sleep_until(wake_at));
        let is_writing = !self.writer.is_empty();
        poll_fn(|cx| {
            let outgoing = match is_writing {
                false => outbox.poll_drain(cx, frames),
                true => abandoned.as_mut().poll(cx).map(Drained::End), // by invariant 3
            };
            let outgoing = match outgoing {
                Poll::Ready(drained) => Some(drained),
                Poll::Pending => None,
            };
            // An error shows at the read or write that follows.
            let is_readable = self.stream.poll_read_ready(cx).is_ready();
            let is_writable = is_writing && self.stream.poll_write_ready(cx).is_ready();
            let is_due = due.as_mut().poll(cx).is_ready();
            if outgoing.is_none() && !is_readable && !is_writable && !is_due {
                return Poll::Pending;
            }
            Poll::Ready(Ready { outgoing, is_readable })
        })
        .await
    }

    /// Writes what the kernel takes. A pong goes when nothing else is left.
    fn write(&mut self) -> io::Result<Progress> {
        let mut progress = Progress::None;
        loop {
            if self.writer.is_empty() {
                match self.pong.take() {
                    Some(pong) => self.writer.push(pong),
                    None => return Ok(progress),
                }
            }
            if self.writer.write(&self.stream)? {
                progress = Progress::Some;
            }
            if !self.writer.is_empty() {
                return Ok(progress);
            }
        }
    }

    /// Puts a close frame behind what is left to write.
    fn close(&mut self, code: u16, reason: &str) {
        self.pong = None;
        self.writer.push(close_frame(code, reason));
    }

    /// Writes what is left, then waits for the peer to answer or to see that we did.
    async fn say(mut self, goodbye: Goodbye) {
        while !self.writer.is_empty() {
            if self.writer.write(&self.stream).is_err() {
                return;
            }
            if !self.writer.is_empty() && self.stream.writable().await.is_err() {
                return;
            }
        }
        if goodbye == Goodbye::Answer {
            return linger(self.stream, CLOSE_TIMEOUT).await;
        }
        while self.read_close().is_pending() {
            // A peer that never stops sending must not keep the thread to itself, nor the deadline from being looked at.
            tokio::task::coop::consume_budget().await;
            if self.stream.readable().await.is_err() {
                return;
            }
        }
    }

    /// Reads once; ready when the peer has answered the close frame, or is gone. What else it sends is not looked at.
    fn read_close(&mut self) -> Poll<()> {
        self.read.reserve(READ_BYTES);
        match self.stream.try_read_buf(&mut self.read) {
            Ok(0) => return Poll::Ready(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.read.is_empty() {
                    self.read = BytesMut::new(); // by invariant 2: at a shutdown everybody says goodbye at once
                }
                return Poll::Pending;
            }
            Err(_) => return Poll::Ready(()),
        }
        loop {
            match self.decoder.decode(&mut self.read) {
                Ok(Some(Message::Close(_))) | Err(_) => return Poll::Ready(()),
                Ok(Some(_)) => {}
                Ok(None) => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A channel that never rests must not keep commands and pongs waiting, nor a peer that never rests the channel.
    #[bowline::test]
    async fn a_busy_direction_does_not_hide_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Socket {
            stream: listener.accept().await.unwrap().0,
            read: BytesMut::new(),
            decoder: Decoder::new(Role::Server, Limits::default()),
            writer: Writer::default(),
            pong: None,
        };
        peer.write_all(b"x").await.unwrap();
        socket.stream.peek(&mut [0]).await.unwrap();
        let outbox = Outbox::new(NonZeroUsize::MAX);
        outbox.push(Frame::ping()).unwrap();

        let mut frames = Vec::new();
        let ready = socket.wait(&outbox, &mut frames, Instant::now() + CLOSE_TIMEOUT).await;
        assert_eq!((ready.outgoing, ready.is_readable), (Some(Drained::Frames), true));
        assert_eq!(frames.len(), 1);
    }
}
