//! One connection's side of the client protocol: commands in, replies and pushes into its queue. No sockets, no
//! tasks: the connection's task feeds frames and the clock, and drains the queue.
//!
//! ```text
//! socket ── frame ──▶ Session::handle_frame ──▶ one file per command ──▶ Node
//! socket ◀── frames ── Outbox ◀── replies of the session, pushes of the node
//! clock  ── now ────▶ Session::on_timer (ping, pong, stale, expiry, position)
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `connect`, `refresh` | authentication, the server's own subscriptions, and its renewal |
//! | `subscribe`, `unsubscribe`, `sub_refresh` | subscriptions |
//! | `publish`, `presence`, `history`, `rpc` | what a client does in channels, and calls |
//! | `timer` | everything that happens because time passes |
//! | `subscriptions` | the list of a connection's subscriptions |
//! | `rejection` | how a command ends that does not succeed |
//!
//! # Invariants
//!
//! 1. Commands run one at a time in the order they came, so replies leave in that order.
//! 2. Nothing is awaited while a command is half done: dropping a session, or the future of a frame, leaves every
//!    command either done or not begun.
//! 3. A failed command leaves no trace; a command that breaks the protocol ends the connection.
//!
//! # End
//!
//! Dropping the session takes the connection out of every channel and out of the table of users, in whatever way
//! the drop came about. Members of channels hear of its leaving.

mod connect;
mod history;
mod presence;
mod publish;
mod refresh;
mod rejection;
mod rpc;
mod sub_refresh;
mod subscribe;
mod subscriptions;
#[cfg(test)]
mod tests;
mod timer;
mod unsubscribe;

use std::sync::Arc;

use bowline_protocol::{
    ClientInfo, Command, CommandId, CommandResult, Disconnect, ErrorCode, Reply, Request, json,
};
use tokio::time::Instant;

use self::rejection::Rejection;
use self::subscriptions::Subscriptions;
use self::timer::{Expiry, Pinger};
use crate::node::connection::Registration;
use crate::node::{Frame, Node, Outbox, PushError, Relation, ResolvedChannel, Subject};

/// Room for a short reply, so that encoding one allocates once.
const REPLY_BYTES: usize = 64;

/// What the session needs to know about its transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Its name in logs, such as `websocket`.
    pub name: &'static str,
    /// Whether the client's commands come by requests of their own, which name the session by its secret.
    pub is_emulated: bool,
}

impl Transport {
    /// A WebSocket.
    pub const WEBSOCKET: Self = Self { name: "websocket", is_emulated: false };
}

/// The protocol's state of one connection. See the [module](self).
#[derive(Debug)]
pub struct Session {
    // Dropped first: members leave their channels before the connection leaves the table of users.
    subscriptions: Subscriptions,
    phase: Phase,
    node: Arc<Node>,
    outbox: Outbox,
    transport: Transport,
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
    expiry: Option<Expiry>,
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
            subscriptions: Subscriptions::default(),
            phase: Phase::New { stale_at },
            node,
            outbox,
            transport,
        }
    }

    /// Runs the commands of one frame in order; their replies are in the queue when it returns.
    ///
    /// # Cancel safety
    ///
    /// By invariant 2 a dropped future leaves no command half done; commands of the frame that were not begun are
    /// lost.
    ///
    /// # Errors
    ///
    /// The reason to close the connection for. The queue carries it too; the caller drains and closes.
    pub async fn handle_frame(&mut self, payload: &[u8]) -> Result<(), Disconnect> {
        // No command of today waits for anything. The signature leaves room for those that ask a back end.
        let handled = self.handle_commands(payload);
        handled.map_err(|reason| self.end(reason))
    }

    /// Does what is due by `now`; answers when to call again.
    ///
    /// # Errors
    ///
    /// The reason to close the connection for, as with [`handle_frame`](Self::handle_frame).
    pub fn on_timer(&mut self, now: Instant) -> Result<Instant, Disconnect> {
        let done = self.run_timers(now);
        done.map_err(|reason| self.end(reason)).map(|()| self.next_deadline())
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

    /// The queue the session answers into.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn handle_commands(&mut self, payload: &[u8]) -> Result<(), Disconnect> {
        for command in json::decode_frame(payload) {
            let command = command.map_err(|error| error.disconnect())?;
            self.node.counters().messages_in.add(1);
            match command {
                Command::Pong => self.handle_pong()?,
                Command::Send(_) => return Err(self.refuse_send()),
                Command::Request { id, request } => self.handle_request(id, request)?,
            }
        }
        Ok(())
    }

    fn handle_request(&mut self, id: CommandId, request: Request) -> Result<(), Disconnect> {
        let is_connect = matches!(request, Request::Connect(_));
        // The first command is connect, and no other is.
        if is_connect != matches!(self.phase, Phase::New { .. }) {
            return Err(Disconnect::BAD_REQUEST);
        }
        if !is_connect && self.connected().is_none() || request.missing_field().is_some() {
            return Err(Disconnect::BAD_REQUEST);
        }
        let outcome = match request {
            Request::Connect(request) => self.handle_connect(id, request),
            Request::Subscribe(request) => self.handle_subscribe(id, request),
            Request::Unsubscribe(request) => self.unsubscribe(&request).and_then(|r| self.answer(id, r)),
            Request::Publish(request) => self.publish(request).and_then(|r| self.answer(id, r)),
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
        let frame = encode_answer(id, result)?;
        Ok(self.enqueue(frame)?)
    }

    fn answer_error(&self, id: CommandId, error: ErrorCode) -> Result<(), Disconnect> {
        self.node.counters().count_error(error.code);
        let frame = Frame::reply(&Reply::Error { id, error }, REPLY_BYTES)
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

    /// The connection as a subject of permissions in `channel`.
    fn subject(&self, channel: &ResolvedChannel<'_>) -> Result<Subject<'_>, Disconnect> {
        let is_subscribed = self.subscriptions.find(channel.as_str()).is_some();
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

fn encode_answer(id: CommandId, result: CommandResult) -> Result<Frame, Disconnect> {
    // A payload that no JSON message can carry: this client speaks the wrong protocol for this channel.
    Frame::reply(&Reply::Result { id, result }, REPLY_BYTES).map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)
}
