//! One WebSocket: one task, in which reading, writing and time take turns.
//!
//! The loop waits for any of: frames in the outgoing queue, bytes from the peer, room in the socket if something is left to
//! write, what a command has asked others, and the next thing that is due. Then it does all that can be done without waiting,
//! in every direction: neither a busy channel nor a busy peer keeps the other direction waiting.
//!
//! # Invariants
//!
//! 1. Only this task touches the socket, so frames never interleave.
//! 2. While nothing is in progress no buffer is held: bytes are read when they are there.
//! 3. A peer that takes nothing for `websocket.write_timeout` is closed; while something is left to write, nothing
//!    more is drained from the queue, so the queue's bound holds.
//! 4. At most [`MAX_PONGS`] pongs wait to be written. While so many do, of further pings only the last is answered (RFC 6455
//!    §5.5.3), so a peer that pings and does not read makes nothing grow.
//! 5. While a command waits for others the peer is read on, so that its end is noticed, until the session has no room for a
//!    further message; then the socket rests.
//!
//! # End
//!
//! A disconnect is told to the peer in a close frame behind what was queued, and to one that only listens also in a push; then
//! the peer has [`CLOSE_TIMEOUT`] to answer. To a peer that is too slow nothing queued is written any more. Whoever closed
//! first waits for the other: a peer that sent a close frame, or broke the rules, is answered and sees the end of the socket
//! at once. A peer that vanishes ends the task with the next failed write, or with its missing pong.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline::{Either, race};
use bowline_protocol::websocket::{
    Decoder, FrameHeader, Limits, Message, Opcode, ProtocolError, Role, append_frame, close_frame, deflate,
    frame,
};
use bowline_protocol::{Disconnect, Push};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::Shared;
use super::http::Leftover;
use super::linger::linger;
use super::stream::Stream;
use super::turns::{Arrival, make_way};
use super::upgrade::{Dialect, Kind};
use super::writer::Writer;
use crate::node::{Drained, Frame, Outbox, Wire};
use crate::proxy::Headers;
use crate::session::{Session, Transport};

/// How long a peer may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pongs that may wait among other frames, in the order of the pings.
const MAX_PONGS: u8 = 16;

/// Room made before each read. Commands are smaller; a larger message grows it to its own size.
const READ_BYTES: usize = 4096;

/// One WebSocket connection, between the handshake and its end.
pub(crate) struct WebSocket {
    socket: Socket,
    session: Session,
    outbox: Outbox,
    native_pings: Option<NativePings>,
    /// The connect request that came with the address, until it is looked at.
    connect: Option<Box<str>>,
    write_timeout: Duration,
    arrival: Arrival,
    shared: Shared,
}

/// Pings as WebSocket has them, in the place of those of the protocol.
struct NativePings {
    /// Whether a pong answers one of ours. Others are allowed, and mean nothing (RFC 6455 §5.5.3).
    is_outstanding: bool,
}

struct Socket {
    stream: Stream,
    read: BytesMut,
    decoder: Decoder,
    writer: Writer,
    /// Pongs given to the writer since it had written everything.
    pongs: u8,
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
    pub(crate) fn new(leftover: Leftover, peer: SocketAddr, dialect: Dialect, shared: &Shared) -> Self {
        tracing::trace!(%peer, "websocket");
        let config = shared.node.config();
        let (transport, max_message_bytes, write_timeout) = match dialect.kind {
            Kind::WebSocket => {
                let own = &config.websocket;
                (Transport::WEBSOCKET, own.message_size_limit, own.write_timeout)
            }
            Kind::UniWebSocket => {
                let own = &config.uni_websocket;
                (Transport::UNI_WEBSOCKET, own.message_size_limit, own.write_timeout)
            }
        };
        let mut limits = Limits { max_message_bytes: max_message_bytes.get(), ..Limits::default() };
        if shared.is_echo {
            (limits.max_fragments, limits.max_tiny_fragments) = (u32::MAX, u32::MAX);
        }
        let decoder = Decoder::new(Role::Server, limits);
        let is_unidirectional = dialect.kind == Kind::UniWebSocket;
        let compression = dialect.is_compressed.then(|| dialect.kind.compression(config)).flatten();
        let wire = Wire { encoding: dialect.encoding, is_unidirectional, compression };
        let outbox = shared.node.outbox_for(wire);
        outbox.observe();
        let transport = Transport { has_own_pings: dialect.has_native_pings, ..transport };
        let session = Session::new(shared.node.clone(), transport, outbox.clone());
        let socket = Socket {
            stream: leftover.stream,
            read: leftover.read,
            decoder: if dialect.is_compressed { decoder.with_deflate() } else { decoder },
            writer: Writer::default(),
            pongs: 0,
            pong: None,
        };
        let native_pings = dialect.has_native_pings.then_some(NativePings { is_outstanding: false });
        Self {
            native_pings,
            connect: dialect.connect,
            socket,
            session,
            outbox,
            write_timeout: write_timeout.get(),
            arrival: Arrival::begin(),
            shared: shared.clone(),
        }
    }

    /// Keeps what applications want to be told of the handshake.
    pub(crate) fn keep_headers(&mut self, headers: Option<Arc<Headers>>) {
        self.session.keep_headers(headers);
    }

    /// Runs the connection until it is to end, and answers why.
    pub(crate) async fn run(&mut self) -> End {
        if self.shared.is_full() {
            return End::Disconnect(Disconnect::CONNECTION_LIMIT);
        }
        if let Some(connect) = self.connect.take()
            && let Err(reason) = self.session.feed(connect.as_bytes())
        {
            return self.flush_and_end(reason);
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
        let wire = outbox.wire();
        // The rest of the server learns at once that this client is gone; the goodbye is between us and the socket.
        drop((session, outbox));
        let goodbye = match end {
            End::Gone => return,
            End::Disconnect(reason) if reason == Disconnect::CONNECTION_CLOSED => return,
            End::Disconnect(reason) => {
                if reason == Disconnect::SLOW || reason == Disconnect::WRITE_ERROR {
                    socket.writer.abandon();
                }
                if wire.is_unidirectional {
                    // A reason is two numbers and a short text: it encodes.
                    let told = Frame::push(wire, &Push::Disconnect(reason.clone()), 64);
                    told.into_iter().for_each(|told| socket.writer.push(told.bytes().clone()));
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

    /// Runs the connection; `None` if it went on longer than it was to be run.
    async fn serve(&mut self, until: Until) -> Option<End> {
        if let Err(end) = self.handle_input() {
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
            let ready = self.socket.wait(&self.outbox, &mut self.session, &mut frames, wake_at).await;
            let is_readable = ready.is_readable;
            let went_on = match self.take_along(ready, &mut frames, &mut due) {
                Ok(went_on) => went_on,
                Err(end) => return Some(end),
            };
            if is_readable || went_on {
                // What was read may hold messages for which there was no room.
                let handled = if !is_readable {
                    self.handle_input()
                } else if self.arrival.takes_turn() {
                    // On the heap: the task would have room for it as long as it lives.
                    Box::pin(self.read_in_turn()).await
                } else {
                    self.read()
                };
                if let Err(end) = handled {
                    return Some(end);
                }
                due = due.min(self.session.next_deadline());
                if is_readable {
                    make_way(READ_BYTES).await;
                }
            }
            match self.socket.write() {
                Err(_) => return Some(End::Gone),
                Ok(_) if self.socket.has_written_all() => stalled_at = None,
                Ok(Progress::Some) => stalled_at = Some(Instant::now()),
                Ok(Progress::None) => stalled_at = stalled_at.or(Some(Instant::now())),
            }
        }
    }

    /// Takes what the outgoing queue had and what went on, into what is to be written; answers whether a command went on.
    fn take_along(&mut self, ready: Ready, frames: &mut Vec<Frame>, due: &mut Instant) -> Result<bool, End> {
        match ready.outgoing {
            Some(Drained::End(reason)) => return Err(End::Disconnect(reason)),
            Some(Drained::Frames) => {
                frames.drain(..).for_each(|frame| self.push(&frame));
                *frames = Vec::new(); // by invariant 2
                if self.session.deadline_moved() {
                    *due = (*due).min(self.session.next_deadline());
                }
            }
            None => {}
        }
        match ready.went_on {
            Some(went_on) => went_on.map(|()| true).map_err(|reason| self.flush_and_end(reason)),
            None => Ok(false),
        }
    }

    /// Reads while it arrives: see [`super::turns`].
    async fn read_in_turn(&mut self) -> Result<(), End> {
        let turns = Arc::clone(&self.shared.turns);
        let turn = turns.take().await;
        let handled = self.read();
        if let Some(turn) = turn {
            turn.end().await;
        }
        handled
    }

    /// Reads once what is there and handles every message in it. If there was more, the socket is readable still.
    fn read(&mut self) -> Result<(), End> {
        self.socket.read.reserve(READ_BYTES);
        match self.socket.stream.try_read_buf(&mut self.socket.read) {
            Ok(0) => return Err(End::Gone),
            Ok(_) => self.handle_input()?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.handle_input()?,
            Err(_) => return Err(End::Gone),
        }
        Ok(())
    }

    /// Handles the messages that were read, as far as there is room for them.
    fn handle_input(&mut self) -> Result<(), End> {
        while self.session.has_room() {
            match self.socket.decoder.decode(&mut self.socket.read) {
                Ok(None) => break,
                Ok(Some(Message::Text(payload))) if self.shared.is_echo => self.echo(Opcode::Text, &payload),
                Ok(Some(Message::Binary(payload))) if self.shared.is_echo => {
                    self.echo(Opcode::Binary, &payload);
                }
                Ok(Some(Message::Text(payload) | Message::Binary(payload))) => {
                    let fed = self.session.feed(&payload);
                    fed.map_err(|reason| self.flush_and_end(reason))?;
                }
                Ok(Some(Message::Ping(payload))) => {
                    self.session.take_control_frame().map_err(|reason| self.flush_and_end(reason))?;
                    self.socket.answer_ping(frame(Opcode::Pong, &payload));
                }
                Ok(Some(Message::Pong(_))) => {
                    self.session.take_control_frame().map_err(|reason| self.flush_and_end(reason))?;
                    let handled = self.handle_pong();
                    handled.map_err(|reason| self.flush_and_end(reason))?;
                }
                Ok(Some(Message::Close(_))) => return Err(End::ClosedByPeer),
                Err(error) => {
                    let peer = self.socket.stream.peer_addr().ok();
                    tracing::debug!(?peer, %error, "websocket broke the framing rules");
                    return Err(End::Protocol(error));
                }
            }
        }
        if self.socket.read.is_empty() {
            self.socket.read = BytesMut::new(); // by invariant 2
        }
        Ok(())
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
        frames.into_iter().for_each(|frame| self.push(&frame));
        End::Disconnect(end)
    }

    /// Gives a frame to the writer; a ping in the form that the client wants.
    fn push(&mut self, message: &Frame) {
        if let Some(native) = &mut self.native_pings
            && *message == Frame::ping(self.outbox.wire())
        {
            native.is_outstanding = true;
            return self.socket.writer.push(frame(Opcode::Ping, b""));
        }
        self.socket.writer.push(message.bytes().clone());
    }

    /// Answers a message with itself.
    fn echo(&mut self, opcode: Opcode, payload: &[u8]) {
        let compression = self.outbox.wire().compression;
        let Some(short) = compression.and_then(|compression| deflate(payload, compression.level())) else {
            return self.socket.writer.push(frame(opcode, payload));
        };
        let header = FrameHeader { is_compressed: true, ..FrameHeader::new(opcode, short.len()) };
        let mut framed = Vec::with_capacity(FrameHeader::MAX_BYTES + short.len());
        append_frame(header, &short, &mut framed);
        self.socket.writer.push(framed.into());
    }

    /// Takes a pong, which is the answer to a ping if we sent one as such.
    fn handle_pong(&mut self) -> Result<(), Disconnect> {
        let answers =
            self.native_pings.as_mut().is_some_and(|native| std::mem::take(&mut native.is_outstanding));
        if answers { self.session.take_pong() } else { Ok(()) }
    }
}

/// The status that answers a peer's close frame.
const CLOSE_NORMAL: u16 = 1000;

/// What can be done without waiting.
struct Ready {
    outgoing: Option<Drained>,
    /// Set if a command went on that had waited.
    went_on: Option<Result<(), Disconnect>>,
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
    async fn wait(
        &self,
        outbox: &Outbox,
        session: &mut Session,
        frames: &mut Vec<Frame>,
        wake_at: Instant,
    ) -> Ready {
        let mut abandoned = pin!(outbox.abandoned());
        let mut due = pin!(tokio::time::sleep_until(wake_at));
        let is_writing = !self.has_written_all();
        poll_fn(|cx| {
            let outgoing = match is_writing {
                false => outbox.poll_drain(cx, frames),
                true => abandoned.as_mut().poll(cx).map(Drained::End), // by invariant 3
            };
            let outgoing = match outgoing {
                Poll::Ready(drained) => Some(drained),
                Poll::Pending => None,
            };
            let went_on = match session.poll_waiting(cx) {
                Poll::Ready(went_on) => Some(went_on),
                Poll::Pending => None,
            };
            // By invariant 5. An error shows at the read or write that follows.
            let is_readable = session.has_room() && self.stream.poll_read_ready(cx).is_ready();
            let is_writable = is_writing && self.stream.poll_write_ready(cx).is_ready();
            let is_due = due.as_mut().poll(cx).is_ready();
            if outgoing.is_none() && went_on.is_none() && !is_readable && !is_writable && !is_due {
                return Poll::Pending;
            }
            Poll::Ready(Ready { outgoing, went_on, is_readable })
        })
        .await
    }

    /// Writes what the kernel takes. A pong that waits for it goes when nothing else is left.
    fn write(&mut self) -> io::Result<Progress> {
        let mut progress = Progress::None;
        loop {
            if self.has_written_all() {
                self.pongs = 0;
                match self.pong.take() {
                    Some(pong) => self.writer.push(pong),
                    None => return Ok(progress),
                }
            }
            if self.writer.write(&mut self.stream)? {
                progress = Progress::Some;
            }
            if !self.has_written_all() {
                return Ok(progress);
            }
        }
    }

    /// Puts a pong behind what is left to write, or by invariant 4 in the place of the one that waits for that.
    fn answer_ping(&mut self, pong: Bytes) {
        if self.pongs < MAX_PONGS {
            self.pongs += 1;
            self.writer.push(pong);
        } else {
            self.pong = Some(pong);
        }
    }

    fn has_written_all(&self) -> bool {
        self.writer.is_empty() && !self.stream.has_unsent()
    }

    /// Puts a close frame behind what is left to write.
    fn close(&mut self, code: u16, reason: &str) {
        self.pong = None;
        self.writer.push(close_frame(code, reason));
    }

    /// Writes what is left, then waits for the peer to answer or to see that we did.
    async fn say(mut self, goodbye: Goodbye) {
        while !self.has_written_all() {
            if self.writer.write(&mut self.stream).is_err() {
                return;
            }
            if !self.has_written_all() && self.stream.writable().await.is_err() {
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
        self.stream.say_end();
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
    use std::sync::Arc;

    use bowline_store::MemoryStore;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Config;
    use crate::node::Node;

    /// A channel that never rests must not keep commands and pongs waiting, nor a peer that never rests the channel.
    #[bowline::test]
    async fn a_busy_direction_does_not_hide_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Socket {
            stream: listener.accept().await.unwrap().0.into(),
            read: BytesMut::new(),
            decoder: Decoder::new(Role::Server, Limits::default()),
            writer: Writer::default(),
            pongs: 0,
            pong: None,
        };
        peer.write_all(b"x").await.unwrap();
        socket.stream.readable().await.unwrap();
        let outbox = Outbox::new(NonZeroUsize::MAX);
        outbox.push(Frame::ping(crate::node::Wire::JSON)).unwrap();

        let node = Node::new(Arc::new(Config::default()), Arc::new(MemoryStore::default()));
        let mut session = Session::new(node, Transport::WEBSOCKET, outbox.clone());

        let mut frames = Vec::new();
        let ready = socket.wait(&outbox, &mut session, &mut frames, Instant::now() + CLOSE_TIMEOUT).await;
        assert_eq!((ready.outgoing, ready.is_readable), (Some(Drained::Frames), true));
        assert_eq!(frames.len(), 1);
    }
}
