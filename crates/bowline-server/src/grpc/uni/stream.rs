//! One stream from its first push to its status: the companion of its call (see [`calls`](crate::grpc::calls)).
//!
//! # Invariants
//!
//! 1. While something is left to hand over, nothing is drained from the queue, so the queue's bound holds.
//! 2. A peer that takes nothing for `uni_grpc.write_timeout` is closed with 3009, one whose queue is full with 3008.
//!
//! # End
//!
//! A disconnect is a last push behind what was queued, and the status OK; to a peer that is too slow nothing queued is sent
//! any more. The rest of the server learns first that the client is gone. A peer that does not take the last push in
//! [`CLOSE_TIMEOUT`] has its call reset. One that resets the call, or whose connection breaks, drops all of this.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bowline::{Either, race};
use bowline_protocol::{Disconnect, Push};
use bytes::Bytes;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::body::{Giving, Pending};
use crate::net::Shared;
use crate::net::places::Place;
use crate::node::{Drained, Frame, Outbox, Wire};
use crate::proxy::Headers;
use crate::session::{Session, Transport};

/// How long a peer may take to read our last words.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How pushes go to a stream.
const WIRE: Wire = Wire::PROTOBUF.unidirectional();

/// A stream that was begun.
pub(super) struct Stream {
    session: Session,
    outbox: Outbox,
    pending: Pending,
    giving: Giving,
    write_timeout: Duration,
    /// When the client wants it to end.
    deadline: Option<Instant>,
    shared: Shared,
    _place: Option<Place>,
}

/// Why a stream is to end.
enum End {
    /// We close, for this reason.
    Disconnect(Disconnect),
    /// The client's deadline has passed.
    Deadline,
}

/// What can be done without waiting.
#[derive(Default)]
struct Ready {
    outgoing: Option<Drained>,
    answered: Option<Result<(), Disconnect>>,
    is_stopped: bool,
}

impl Stream {
    pub(super) fn new(
        shared: &Shared,
        giving: Giving,
        kept: Option<Arc<Headers>>,
        deadline: Option<Instant>,
        place: Option<Place>,
    ) -> Self {
        let outbox = shared.node.outbox_for(WIRE);
        outbox.observe();
        let mut session = Session::new(shared.node.clone(), Transport::UNI_GRPC, outbox.clone());
        session.keep_headers(kept);
        Self {
            session,
            outbox,
            pending: Pending::default(),
            giving,
            write_timeout: shared.node.config().uni_grpc.write_timeout.get(),
            deadline,
            shared: shared.clone(),
            _place: place,
        }
    }

    /// Runs the stream to its end. When this returns, the peer has taken the status, or the call is to be reset.
    pub(super) async fn run(mut self, request: Bytes) {
        let end = self.serve(&request).await;
        self.say_goodbye(end).await;
    }

    async fn serve(&mut self, request: &[u8]) -> End {
        if self.shared.is_full() {
            return End::Disconnect(Disconnect::CONNECTION_LIMIT);
        }
        if let Err(reason) = self.session.feed(request) {
            return self.flush_and_end(reason);
        }
        let mut stopped = Some(Box::pin(self.shared.stopped()));
        let mut due = Instant::now();
        let mut stalled_at: Option<Instant> = None;
        loop {
            tokio::task::coop::consume_budget().await;
            if stopped.is_some() && self.session.client().is_some() {
                // From here on it is in the node's table and hears of a shutdown through its queue. Who authenticates
                // while the server stops is in neither, hence the second look.
                if *self.shared.stopping.borrow() {
                    return self.flush_and_end(Disconnect::SHUTDOWN);
                }
                stopped = None;
            }
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return End::Deadline;
            }
            if now >= due {
                match self.session.on_timer(now) {
                    Ok(next) => due = next,
                    Err(reason) => return self.flush_and_end(reason),
                }
            }
            if !self.giving.is_full() {
                stalled_at = self.pending.next_piece().map(|piece| {
                    self.giving.give(piece);
                    now
                });
            }
            let gives_up_at = stalled_at.map(|since| since + self.write_timeout);
            if gives_up_at.is_some_and(|at| now >= at) {
                return End::Disconnect(Disconnect::WRITE_ERROR); // by invariant 2
            }
            let wake_at = gives_up_at.into_iter().chain(self.deadline).fold(due, Instant::min);
            let ready = self.wait(stopped.as_mut(), wake_at).await;
            match ready {
                Ready { outgoing: Some(Drained::End(reason)), .. } => return End::Disconnect(reason),
                Ready { answered: Some(Err(reason)), .. } => return self.flush_and_end(reason),
                Ready { is_stopped: true, .. } => return self.flush_and_end(Disconnect::SHUTDOWN),
                Ready { outgoing, answered, .. } => {
                    if answered.is_some() || outgoing.is_some() && self.session.deadline_moved() {
                        due = due.min(self.session.next_deadline());
                    }
                }
            }
        }
    }

    /// Waits until there is something to do, and says all there is.
    async fn wait<S: Future<Output = ()>>(
        &mut self,
        mut stopped: Option<&mut Pin<Box<S>>>,
        wake_at: Instant,
    ) -> Ready {
        let Self { session, outbox, pending, giving, .. } = self;
        let mut drained = Vec::new();
        let mut abandoned = pin!(outbox.abandoned());
        let mut due = pin!(tokio::time::sleep_until(wake_at));
        let ready = poll_fn(|cx| {
            let has_room = giving.poll_room(cx).is_ready();
            let outgoing = match pending.is_empty() && has_room {
                true => outbox.poll_drain(cx, &mut drained),
                false => abandoned.as_mut().poll(cx).map(Drained::End), // by invariant 1
            };
            let outgoing = match outgoing {
                Poll::Ready(drained) => Some(drained),
                Poll::Pending => None,
            };
            let answered = match session.poll_waiting(cx) {
                Poll::Ready(answered) => Some(answered),
                Poll::Pending => None,
            };
            let is_stopped = stopped.as_mut().is_some_and(|stopped| stopped.as_mut().poll(cx).is_ready());
            let can_give = has_room && !pending.is_empty();
            let is_due = due.as_mut().poll(cx).is_ready();
            if outgoing.is_none() && answered.is_none() && !is_stopped && !can_give && !is_due {
                return Poll::Pending;
            }
            Poll::Ready(Ready { outgoing, answered, is_stopped })
        })
        .await;
        self.pending.extend(drained);
        ready
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
        self.pending.extend(drained);
        End::Disconnect(end)
    }

    /// Leaves the node, then tells the peer and ends the body.
    async fn say_goodbye(self, end: End) {
        let Self { session, outbox, mut pending, giving, shared, _place, .. } = self;
        if let End::Disconnect(reason) = &end {
            // The session counts by what its queue says; an earlier reason stands.
            outbox.close(reason.clone());
        }
        // The rest of the server learns at once that this client is gone; the goodbye is between us and the peer.
        drop((session, outbox));
        let status = match end {
            End::Deadline => {
                pending.abandon();
                Status::deadline_exceeded("the deadline that came with the call has passed")
            }
            End::Disconnect(reason) => {
                if reason == Disconnect::SLOW || reason == Disconnect::WRITE_ERROR {
                    pending.abandon();
                }
                // A reason is two numbers and a short text: it encodes.
                pending.extend(Frame::push(WIRE, &Push::Disconnect(reason), 64));
                Status::new(Code::Ok, "")
            }
        };
        // A peer that takes nothing must not outlast the time for draining: nothing of its is lost any more.
        let limit = CLOSE_TIMEOUT.min(shared.node.config().shutdown.timeout.get() / 2);
        let _: Either<(), ()> = race(tokio::time::sleep(limit), finish(pending, giving, status)).await;
    }
}

/// Hands over what is left and the status. The call ends by itself once that is taken.
async fn finish(mut pending: Pending, giving: Giving, status: Status) {
    loop {
        poll_fn(|cx| giving.poll_room(cx)).await;
        match pending.next_piece() {
            Some(piece) => giving.give(piece),
            None => break,
        }
    }
    giving.end(status);
    std::future::pending().await
}
