//! One connection's side of the client protocol: commands in, replies and pushes into its queue. No sockets, no
//! tasks: the connection's task feeds frames and the clock, and drains the queue.
//!
//! ```text
//! socket ── frame ──▶ Session::feed ──▶ one file per command ──▶ Node
//!                         └─ has to ask first ─▶ waiting ─ Session::poll_waiting ─▶ the same
//! socket ◀── frames ── Outbox ◀── replies of the session, pushes of the node
//! clock  ── now ────▶ Session::on_timer (ping, pong, stale, expiry, position)
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `connect`, `refresh` | authentication, the server's own subscriptions, and its renewal |
//! | `subscribe`, `unsubscribe`, `sub_refresh` | subscriptions |
//! | `publish`, `presence`, `history`, `rpc` | what a client does in channels, and calls |
//! | `waiting` | commands that have to ask others before they begin, and what comes behind them |
//! | `asking` | what applications are asked about the connection |
//! | `budget` | how much a client may ask for |
//! | `timer` | everything that happens because time passes |
//! | `by_server` | what back ends do to the subscriptions and the expiry of a user's connections |
//! | `rejection` | how a command ends that does not succeed |
//!
//! # Invariants
//!
//! 1. Commands begin in the order they came. What one of them has to ask holds up those behind it, up to
//!    `client.concurrency`; replies leave in the order in which commands are done.
//! 2. A command waits before it begins, and for nothing while it is half done: dropping a session leaves every command either
//!    done or not begun. A publication is done when it has its place; only its answer waits until it is kept.
//! 3. A failed command leaves no trace; a command that breaks the protocol ends the connection.
//!
//! # End
//!
//! Dropping the session takes the connection out of every channel and out of the table of users, in whatever way
//! the drop came about. Members of channels hear of its leaving.

mod asking;
mod budget;
mod by_server;
mod connect;
mod history;
mod presence;
mod publish;
mod refresh;
mod rejection;
mod rpc;
mod sub_refresh;
mod subscribe;
#[cfg(test)]
mod tests;
mod timer;
mod unsubscribe;
mod waiting;

use std::sync::{Arc, MutexGuard};

use bowline_protocol::{
    ClientInfo, Command, CommandId, CommandResult, Disconnect, ErrorCode, Reply, Request, Secret,
};
use tokio::time::Instant;

use self::asking::Details;
use self::budget::Budget;
use self::rejection::Rejection;
use self::timer::Pinger;
use self::waiting::Waiting;
use crate::node::connection::{Held, Registration};
use crate::node::{Frame, Node, Outbox, PushError, Relation, ResolvedChannel, Subject, Wire};

/// Room for a short reply, so that encoding one allocates once.
const REPLY_BYTES: usize = 64;

/// What the session needs to know about its transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Its name in logs, such as `websocket`.
    pub name: &'static str,
    /// Whether the client's commands come by requests of their own, which name the session by its secret.
    pub is_emulated: bool,
    /// Whether it asks for signs of life by means of its own: the client is not told of pings, and does not answer them.
    pub has_own_pings: bool,
}

impl Transport {
    /// A WebSocket.
    pub const WEBSOCKET: Self = Self { name: "websocket", is_emulated: false, has_own_pings: false };
    /// An answer of lines that goes on.
    pub const HTTP_STREAM: Self = Self { name: "http_stream", is_emulated: true, has_own_pings: false };
    /// A call of gRPC that is answered by a stream, of a client that only listens.
    pub const UNI_GRPC: Self = Self { name: "uni_grpc", is_emulated: false, has_own_pings: false };
    /// An answer of events that goes on.
    pub const SSE: Self = Self { name: "sse", is_emulated: true, has_own_pings: false };
    /// A WebSocket of a client that only listens.
    pub const UNI_WEBSOCKET: Self = Self { name: "uni_websocket", is_emulated: false, has_own_pings: false };
    /// An answer of lines for a client that only listens.
    pub const UNI_HTTP_STREAM: Self =
        Self { name: "uni_http_stream", is_emulated: false, has_own_pings: false };
    /// An answer of events for a client that only listens.
    pub const UNI_SSE: Self = Self { name: "uni_sse", is_emulated: false, has_own_pings: false };
}

/// The protocol's state of one connection. See the [module](self).
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    node: Arc<Node>,
    outbox: Outbox,
    transport: Transport,
    budget: Budget,
    /// Boxed, because it is rare: the task of an idle connection has no room for it.
    waiting: Option<Box<Waiting>>,
    /// Boxed, because most connections have nothing to tell.
    details: Option<Box<Details>>,
}

/// How far a connection has come.
#[derive(Debug)]
enum Phase {
    /// No connect command yet.
    New { stale_at: Instant },
    /// The connect command was answered with an error; every further command breaks the protocol.
    Refused { stale_at: Instant },
    /// Authenticated.
    Connected(Connected),
}

#[derive(Debug)]
struct Connected {
    registration: Registration,
    pinger: Pinger,
    /// Whether the client is expected to bring new tokens.
    refreshes: bool,
    /// When positions are compared with their streams next.
    position_check_at: Instant,
}

impl Session {
    /// Begins a session; the clock for authenticating starts now.
    ///
    /// `outbox` is the queue that the caller drains into the socket. It also carries the reason to end, whether it
    /// came from the session or from the node.
    #[must_use]
    pub fn new(node: Arc<Node>, transport: Transport, outbox: Outbox) -> Self {
        let stale_at = Instant::now() + node.config().client.stale_close_delay.get();
        Self {
            phase: Phase::New { stale_at },
            node,
            outbox,
            transport,
            budget: Budget::new(),
            waiting: None,
            details: None,
        }
    }

    /// Takes one frame. Its commands run in order and are done when this returns, but for those that have to ask others first:
    /// they, and what comes behind them, go on in [`poll_waiting`](Self::poll_waiting).
    ///
    /// On a unidirectional wire the one frame is a connect request without a command around it, and may be empty; a second
    /// frame breaks the protocol.
    ///
    /// # Errors
    ///
    /// The reason to close the connection for. The queue carries it too; the caller drains and closes.
    pub fn feed(&mut self, frame: &[u8]) -> Result<(), Disconnect> {
        let taken = self.take_frame(frame);
        taken.map_err(|reason| self.end(reason))
    }

    /// Takes the answer to a ping that did not come as a command, as on transports with pings of their own.
    ///
    /// # Errors
    ///
    /// As [`feed`](Self::feed).
    pub fn take_pong(&mut self) -> Result<(), Disconnect> {
        let taken = self.handle_pong();
        taken.map_err(|reason| self.end(reason))
    }

    /// Takes what a control frame of the transport costs: as much as a command, so that nothing is to be had for free.
    ///
    /// # Errors
    ///
    /// The reason to close the connection for, as with [`feed`](Self::feed).
    pub(crate) fn take_control_frame(&mut self) -> Result<(), Disconnect> {
        let taken = self.budget.take_command(&self.node.config().client);
        taken.map_err(|reason| self.end(reason))
    }

    /// Does what is due by `now`; answers when to call again.
    ///
    /// # Errors
    ///
    /// The reason to close the connection for, as with [`feed`](Self::feed).
    pub fn on_timer(&mut self, now: Instant) -> Result<Instant, Disconnect> {
        let done = self.run_timers(now);
        done.map_err(|reason| self.end(reason)).map(|()| self.next_deadline())
    }

    /// Whether a back end moved the next deadline since the last call; look after frames came out of the queue.
    #[must_use]
    pub fn deadline_moved(&self) -> bool {
        self.connected().is_some_and(|connected| connected.registration.connection().take_renewed())
    }

    /// Ends the session and takes it out of everything, as dropping it does.
    pub fn close(self) {
        drop(self);
    }

    /// The id of the connection, once it is authenticated.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.connected().map(|connected| connected.registration.info().client.as_str())
    }

    /// The secret by which requests name the connection, on transports where they do and once it is authenticated.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.connected()
            .map(|connected| &connected.registration.connection().session)
            .filter(|secret| !secret.is_empty())
    }

    /// The queue the session answers into.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn take_frame(&mut self, frame: &[u8]) -> Result<(), Disconnect> {
        let Wire { encoding, is_unidirectional, .. } = self.outbox.wire();
        self.budget.take_frame(frame, encoding, &self.node.config().client)?;
        if is_unidirectional {
            if self.waiting.is_some() {
                return Err(Disconnect::BAD_REQUEST); // the first is being looked at; `check` sees to what comes later
            }
            let request = encoding.decode_connect(frame).map_err(|error| error.disconnect())?;
            self.node.counters().messages_in.add(1);
            // Nobody sees the id.
            return self.begin(CommandId::MIN, Request::Connect(request));
        }
        if self.is_busy() {
            self.keep_back(frame);
            return Ok(());
        }
        let rest = self.run_commands(frame)?;
        if !rest.is_empty() {
            self.keep_back(rest);
        }
        Ok(())
    }

    /// Runs the commands of a frame until one has to wait; returns the rest.
    fn run_commands<'f>(&mut self, frame: &'f [u8]) -> Result<&'f [u8], Disconnect> {
        let mut commands = self.outbox.wire().encoding.decode_frame(frame);
        while let Some(command) = commands.next() {
            let command = command.map_err(|error| error.disconnect())?;
            self.budget.take_command(&self.node.config().client)?;
            self.node.counters().messages_in.add(1);
            match command {
                Command::Pong => self.handle_pong()?,
                Command::Send(_) => return Err(self.refuse_send()),
                Command::Request { id, request } => self.begin(id, request)?,
            }
            if self.is_busy() {
                return Ok(self.unless_blank(commands.rest()));
            }
        }
        Ok(&[])
    }

    /// Whether a command may come now, and has what it needs.
    fn check(&self, request: &Request) -> Result<(), Disconnect> {
        let is_connect = matches!(request, Request::Connect(_));
        // The first command is connect, and no other is.
        if is_connect != matches!(self.phase, Phase::New { .. }) {
            return Err(Disconnect::BAD_REQUEST);
        }
        if !is_connect && self.connected().is_none() || request.missing_field().is_some() {
            return Err(Disconnect::BAD_REQUEST);
        }
        Ok(())
    }

    /// Does a command that has waited for whatever it had to wait for.
    fn run(&mut self, id: CommandId, request: Request) -> Result<(), Disconnect> {
        let outcome = match request {
            Request::Connect(request) => self.handle_connect(id, request),
            Request::Subscribe(request) => self.handle_subscribe(id, request, None),
            Request::Unsubscribe(request) => self.unsubscribe(&request).and_then(|r| self.answer(id, r)),
            Request::Publish(request) => self.publish(id, request, None),
            Request::Presence(request) => self.presence(&request).and_then(|r| self.answer(id, r)),
            Request::PresenceStats(request) => self.presence_stats(&request).and_then(|r| self.answer(id, r)),
            Request::History(request) => self.history(request).and_then(|r| self.answer(id, r)),
            Request::Rpc(request) => self.rpc(&request).and_then(|r| self.answer(id, r)),
            Request::Refresh(request) => self.refresh(&request).and_then(|r| self.answer(id, r)),
            Request::SubRefresh(request) => self.sub_refresh(&request).and_then(|r| self.answer(id, r)),
            // The server pings; a client has no need to.
            Request::Ping => Err(ErrorCode::NOT_AVAILABLE.into()),
            Request::Send(_) => Err(self.refuse_send().into()),
        };
        self.settle(id, outcome)
    }

    /// Answers a command that was not done.
    fn settle(&self, id: CommandId, outcome: Result<(), Rejection>) -> Result<(), Disconnect> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Rejection::Error(error)) => self.answer_error(id, error),
            Err(Rejection::Disconnect(reason)) => Err(reason),
        }
    }

    /// No application takes messages without an answer.
    fn refuse_send(&self) -> Disconnect {
        if self.connected().is_some() { Disconnect::NOT_AVAILABLE } else { Disconnect::BAD_REQUEST }
    }

    fn answer(&self, id: CommandId, result: CommandResult) -> Result<(), Rejection> {
        let frame = encode_answer(&self.outbox, id, result)?;
        Ok(self.enqueue(frame)?)
    }

    fn answer_error(&self, id: CommandId, error: ErrorCode) -> Result<(), Disconnect> {
        self.node.counters().count_error(error.code);
        if self.outbox.wire().is_unidirectional {
            return Err(unidirectional_end(error));
        }
        let frame = Frame::reply(self.outbox.wire(), &Reply::Error { id, error }, REPLY_BYTES)
            .map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)?;
        self.enqueue(frame)
    }

    fn enqueue(&self, frame: Frame) -> Result<(), Disconnect> {
        match self.outbox.push(frame) {
            Ok(()) => {
                self.node.counters().messages_out.add(1);
                Ok(())
            }
            Err(PushError::Full) => Err(Disconnect::SLOW),
            Err(PushError::Closed) => Err(self.outbox.disconnect().unwrap_or(Disconnect::CONNECTION_CLOSED)),
        }
    }

    /// Ends the queue for `reason`; answers the reason that counts, which is the first.
    fn end(&self, reason: Disconnect) -> Disconnect {
        self.outbox.close(reason.clone());
        self.outbox.disconnect().unwrap_or(reason)
    }

    fn connected(&self) -> Option<&Connected> {
        match &self.phase {
            Phase::Connected(connected) => Some(connected),
            Phase::New { .. } | Phase::Refused { .. } => None,
        }
    }

    fn connected_mut(&mut self) -> Option<&mut Connected> {
        match &mut self.phase {
            Phase::Connected(connected) => Some(connected),
            Phase::New { .. } | Phase::Refused { .. } => None,
        }
    }

    /// Who the connection is. Commands other than connect run on authenticated connections only.
    fn info(&self) -> Result<&Arc<ClientInfo>, Disconnect> {
        self.connected().map(|connected| connected.registration.info()).ok_or(Disconnect::BAD_REQUEST)
    }

    /// The connection as others see it from now on: back ends may have said so since it connected.
    fn seen_as(&self) -> Result<Arc<ClientInfo>, Disconnect> {
        let own = self.info()?;
        Ok(Arc::clone(self.held()?.info.as_ref().unwrap_or(own)))
    }

    /// What the connection has, locked: back ends may change it too.
    fn held(&self) -> Result<MutexGuard<'_, Held>, Disconnect> {
        let connected = self.connected().ok_or(Disconnect::BAD_REQUEST)?;
        Ok(connected.registration.connection().held())
    }

    /// The connection as a subject of permissions in `channel`.
    fn subject(&self, channel: &ResolvedChannel<'_>) -> Result<Subject<'_>, Disconnect> {
        let is_subscribed = self.held()?.subscriptions.find(channel.as_str()).is_some();
        let relation = if is_subscribed { Relation::Subscriber } else { Relation::Stranger };
        Ok(Subject { user: &self.info()?.user, relation })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever drops a session without a reason lost the peer.
        self.outbox.close(Disconnect::CONNECTION_CLOSED);
        if let Some(reason) = self.outbox.disconnect() {
            self.node.counters().count_disconnect(reason.code);
            tracing::debug!(
                client = self.client().unwrap_or_default(),
                transport = self.transport.name,
                %reason,
                "connection ended"
            );
        }
    }
}

/// How a connection ends whose client cannot be told of an error: with the advice to come back where that may help.
fn unidirectional_end(error: ErrorCode) -> Disconnect {
    if error == ErrorCode::TOKEN_EXPIRED || error == ErrorCode::EXPIRED {
        return Disconnect::EXPIRED;
    }
    let code =
        if error.temporary { Disconnect::SERVER_ERROR.code } else { Disconnect::PERMISSION_DENIED.code };
    Disconnect { code, reason: error.message }
}

fn encode_answer(outbox: &Outbox, id: CommandId, result: CommandResult) -> Result<Frame, Disconnect> {
    // A payload that no JSON message can carry: this client speaks the wrong protocol for this channel.
    Frame::reply(outbox.wire(), &Reply::Result { id, result }, REPLY_BYTES)
        .map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)
}
