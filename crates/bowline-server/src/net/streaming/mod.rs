//! Streams: answers that go on for as long as the connection lives, as lines or as events of an `EventSource`.
//!
//! hyper reads the request and is then taken out of the way: what is written after that is ours, as on a WebSocket. Nothing
//! but the end is expected from the peer's side of the socket, so whoever aborts is noticed at once, although nothing is
//! written. Commands come by requests of their own ([`emulation`](super::emulation)); who only listens, on the unidirectional
//! kinds, sends none, and what opened the stream is a connect request.
//!
//! | module | what it holds |
//! |---|---|
//! | `open` | the checks before a stream |
//! | `body` | the head of the answer, and replies in chunks |
//!
//! # Invariants
//!
//! 1. Only the connection's task touches the socket. Commands begin in the order they came; while one of them waits for others
//!    what is posted stays in its bounded queue.
//! 2. While nothing is in progress no buffer is held.
//! 3. A peer that takes nothing for the write time-out is closed; while something is left to write, nothing more is drained
//!    from the queue, so the queue's bound holds. At most one chunk is on its way: one that has begun is always finished
//!    before anything else is written.
//!
//! # End
//!
//! A disconnect is a last push behind what was queued, and the end of the answer; to a peer that is too slow nothing queued is
//! written any more. A peer that closes its side is gone.

mod body;
mod open;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline::{Bound, Cancelled, Either, Overflow, Rx, Scope, race, scope};
use bowline_protocol::{Disconnect, Push};
use bytes::Bytes;
use tokio::time::Instant;

pub(crate) use self::open::{Kind, Opening, open};

use self::body::Body;
use super::Shared;
use super::emulation::{Enrolled, MAX_WAITING, MAX_WAITING_BYTES, Uplink};
use super::http::Leftover;
use super::linger::linger;
use super::stream::Stream as Connection;
use super::turns::make_way;
use super::writer::Writer;
use crate::node::{Drained, Frame, Outbox};
use crate::session::Session;

/// How long a peer may take to read our last words.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a peer may send into a stream: nothing is expected, but a request that was sent ahead is no crime.
const MAX_STRAY_BYTES: usize = 64 * 1024;

/// A stream from its first byte to its last.
pub(crate) type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Answers `opening` on the socket that HTTP has left.
pub(crate) fn run(opening: Opening, leftover: Leftover, shared: &Shared) -> Running {
    let shared = shared.clone();
    Box::pin(async move {
        // A scope, because the queue of commands is to have a holder.
        let _ = scope("stream", async |s: &Scope<Cancelled>| {
            let bound = Bound::items(MAX_WAITING).and_bytes(MAX_WAITING_BYTES, Bytes::len);
            let (uplink, commands) = s.queue("commands", bound, Overflow::Reject);
            let mut stream = Stream::new(&opening, leftover.stream, shared, uplink.free());
            let end = stream.run(opening.commands, &commands).await;
            stream.say_goodbye(end).await;
            Ok(())
        })
        .await;
    })
}

struct Stream {
    socket: Socket,
    session: Session,
    outbox: Outbox,
    shared: Shared,
    write_timeout: Duration,
    uplink: Uplink,
    /// Set while clients can send commands.
    enrolled: Option<Enrolled>,
}

struct Socket {
    stream: Connection,
    body: Body,
    /// What was drained and is not yet in the writer.
    frames: VecDeque<Frame>,
    writer: Writer,
    stray_bytes: usize,
}

/// How long to run a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Authenticated,
    Ended,
}

/// Why a stream is to end.
enum End {
    /// We close, for this reason.
    Disconnect(Disconnect),
    /// The peer is gone.
    Gone,
}

/// What can be done without waiting.
struct Ready {
    outgoing: Option<Drained>,
    /// Set if a command went on that had waited.
    went_on: Option<Result<(), Disconnect>>,
    commands: Option<Bytes>,
    is_readable: bool,
}

impl Stream {
    fn new(opening: &Opening, stream: Connection, shared: Shared, uplink: Uplink) -> Self {
        let outbox = shared.node.outbox_for(opening.wire);
        outbox.observe();
        let mut session = Session::new(shared.node.clone(), opening.kind.transport(), outbox.clone());
        session.keep_headers(opening.kept.clone());
        let mut writer = Writer::default();
        writer.push(opening.body.head(&opening.headers));
        Self {
            socket: Socket { stream, body: opening.body, frames: VecDeque::new(), writer, stray_bytes: 0 },
            session,
            outbox,
            write_timeout: opening.kind.settings(shared.node.config()).write_timeout.get(),
            shared,
            uplink,
            enrolled: None,
        }
    }

    /// Runs the connection until it is to end, and answers why.
    async fn run(&mut self, first: Bytes, commands: &Rx<'_, Bytes>) -> End {
        if self.shared.is_full() {
            return End::Disconnect(Disconnect::CONNECTION_LIMIT);
        }
        if let Err(reason) = self.session.feed(&first) {
            return self.flush_and_end(reason);
        }
        drop(first);
        // From authenticating on it is in the node's table and hears of a shutdown through its queue. Who authenticates while
        // the server stops is in neither, hence the second look. Who is refused with an error can send nothing more: it goes, or
        // the timer ends it.
        let stopped = self.shared.stopped();
        match race(stopped, self.serve(commands, Until::Authenticated)).await {
            Either::Left(()) => return self.flush_and_end(Disconnect::SHUTDOWN),
            Either::Right(Some(end)) => return end,
            Either::Right(None) if *self.shared.stopping.borrow() => {
                return self.flush_and_end(Disconnect::SHUTDOWN);
            }
            Either::Right(None) => {}
        }
        if let Some(secret) = self.session.secret() {
            // Before the client is told the secret.
            self.enrolled = Some(self.shared.sessions.enroll(secret, self.uplink.clone()));
        }
        self.serve(commands, Until::Ended).await.unwrap_or(End::Gone)
    }

    /// Runs the connection; `None` if it went on longer than it was to be run.
    async fn serve(&mut self, commands: &Rx<'_, Bytes>, until: Until) -> Option<End> {
        let mut due = Instant::now();
        let mut stalled_at: Option<Instant> = None;
        loop {
            if until == Until::Authenticated && self.session.client().is_some() {
                return None;
            }
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
            let ready = self.socket.wait(&self.outbox, &mut self.session, commands, wake_at).await;
            if let Some(Drained::End(reason)) = ready.outgoing {
                return Some(End::Disconnect(reason));
            }
            if ready.outgoing.is_some() && self.session.deadline_moved() {
                due = due.min(self.session.next_deadline());
            }
            if ready.is_readable && self.socket.is_gone() {
                return Some(End::Gone);
            }
            if ready.went_on.is_some() || ready.commands.is_some() {
                let bytes = ready.commands.as_ref().map_or(0, Bytes::len);
                let handled = ready.went_on.unwrap_or(Ok(()));
                let handled = handled
                    .and_then(|()| ready.commands.map_or(Ok(()), |commands| self.session.feed(&commands)));
                if let Err(reason) = handled {
                    return Some(self.flush_and_end(reason));
                }
                due = due.min(self.session.next_deadline());
                make_way(bytes).await;
            }
            match self.socket.write() {
                Err(_) => return Some(End::Gone),
                Ok(_) if self.socket.has_written_all() => stalled_at = None,
                Ok(true) => stalled_at = Some(Instant::now()),
                Ok(false) => stalled_at = stalled_at.or(Some(Instant::now())),
            }
        }
    }

    /// Takes what was queued before the end; the last push goes behind it. The first reason counts.
    fn flush_and_end(&mut self, reason: Disconnect) -> End {
        let mut drained = Vec::new();
        let mut end = reason;
        while let Poll::Ready(outgoing) =
            self.outbox.poll_drain(&mut Context::from_waker(Waker::noop()), &mut drained)
        {
            if let Drained::End(first) = outgoing {
                end = first;
                break;
            }
        }
        self.socket.frames.extend(drained);
        End::Disconnect(end)
    }

    /// Leaves the node, then tells the peer and ends the answer.
    async fn say_goodbye(self, end: End) {
        let Self { mut socket, session, outbox, shared, enrolled, .. } = self;
        if let End::Disconnect(reason) = &end {
            // The session counts by what its queue says; an earlier reason stands.
            outbox.close(reason.clone());
        }
        let wire = outbox.wire();
        // The rest of the server learns at once that this client is gone; the goodbye is between us and the socket.
        drop((enrolled, session, outbox));
        let End::Disconnect(reason) = end else { return };
        if reason == Disconnect::CONNECTION_CLOSED {
            return;
        }
        if reason == Disconnect::SLOW || reason == Disconnect::WRITE_ERROR {
            socket.frames.clear();
            // The head of the answer goes before the rest is dropped: without it the last push is no answer.
            let _ = socket.writer.write(&mut socket.stream);
            socket.writer.abandon();
        }
        // A reason is two numbers and a short text: it encodes.
        socket.frames.extend(Frame::push(wire, &Push::Disconnect(reason), 64));
        // A peer that does not read must not outlast the time for draining: nothing of its is lost any more.
        let limit = CLOSE_TIMEOUT.min(shared.node.config().shutdown.timeout.get() / 2);
        // An Either, because either end is fine.
        let _: Either<(), ()> = race(tokio::time::sleep(limit), socket.finish(limit)).await;
    }
}

impl Socket {
    /// Waits until there is something to do, and says all there is.
    async fn wait(
        &mut self,
        outbox: &Outbox,
        session: &mut Session,
        commands: &Rx<'_, Bytes>,
        wake_at: Instant,
    ) -> Ready {
        let is_writing = !self.has_written_all();
        let mut drained = Vec::new();
        let mut abandoned = pin!(outbox.abandoned());
        let mut received = pin!(commands.recv());
        let mut due = pin!(tokio::time::sleep_until(wake_at));
        let stream = &self.stream;
        let ready = poll_fn(|cx| {
            let outgoing = match is_writing {
                false => outbox.poll_drain(cx, &mut drained),
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
            // The stream holds an end of the queue, which is thus never closed; a cancelled context ends the task elsewhere.
            let commands = match session.is_busy() {
                true => None, // by invariant 1
                false => match received.as_mut().poll(cx) {
                    Poll::Ready(received) => received.ok().flatten(),
                    Poll::Pending => None,
                },
            };
            // An error shows at the read or write that follows.
            let is_readable = stream.poll_read_ready(cx).is_ready();
            let is_writable = is_writing && stream.poll_write_ready(cx).is_ready();
            let is_due = due.as_mut().poll(cx).is_ready();
            let has_happened = outgoing.is_some() || went_on.is_some() || commands.is_some();
            if !has_happened && !is_readable && !is_writable && !is_due {
                return Poll::Pending;
            }
            Poll::Ready(Ready { outgoing, went_on, commands, is_readable })
        })
        .await;
        self.frames.extend(drained);
        ready
    }

    /// Reads what is not expected; whether there is nobody any more, or somebody who does not speak HTTP.
    fn is_gone(&mut self) -> bool {
        loop {
            let mut stray = [0; 1024];
            match self.stream.try_read(&mut stray) {
                Ok(0) => return true,
                Ok(read) => {
                    self.stray_bytes += read;
                    if self.stray_bytes > MAX_STRAY_BYTES {
                        return true;
                    }
                }
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    fn has_written_all(&self) -> bool {
        self.writer.is_empty() && self.frames.is_empty() && !self.stream.has_unsent()
    }

    /// Writes what the kernel takes; whether it took anything.
    fn write(&mut self) -> io::Result<bool> {
        let mut wrote = false;
        loop {
            if self.writer.is_empty() && !self.stream.has_unsent() {
                if self.frames.is_empty() {
                    self.frames = VecDeque::new(); // by invariant 2
                    return Ok(wrote);
                }
                self.writer.push(self.body.chunk(&mut self.frames));
            }
            wrote |= self.writer.write(&mut self.stream)?;
            if !self.writer.is_empty() || self.stream.has_unsent() {
                return Ok(wrote);
            }
        }
    }

    /// Writes what is left and the end of the answer, then lets the peer read it.
    async fn finish(mut self, limit: Duration) {
        while !self.has_written_all() {
            if self.write().is_err() {
                return;
            }
            if !self.has_written_all() && self.stream.writable().await.is_err() {
                return;
            }
        }
        self.writer.push(Bytes::from_static(self.body.tail()));
        // A handful of bytes: a socket that does not even take those has lost its peer.
        if self.body.tail().is_empty() || self.writer.write(&mut self.stream).is_ok() {
            linger(self.stream, limit).await;
        }
    }
}
