//! Commands that have to wait before they can begin, publications that wait for the disk, and what comes behind them.
//!
//! A command that needs something of others, such as the key of its token or the answer of an application, becomes a
//! [`Question`]: a future that holds nothing of the session. The connection's task polls it beside its socket, its queue and
//! its clock ([`Session::poll_waiting`]), so a connection is served while one of its commands waits: pushes and pings go out,
//! what is due happens, and a peer that is gone ends the session, and with it every question.
//!
//! A publication has its place when its command is done, and is answered when it is kept and delivered. Further publications
//! go on meanwhile, so that those of one connection are kept together.
//!
//! # Invariants
//!
//! 1. At most `client.concurrency` commands wait. While so many do, no further one is decoded: frames are kept as they came,
//!    and beyond `websocket.message_size_limit` bytes of them the transport is asked to rest.
//! 2. Nothing overtakes connect, and of two commands about the same channel the second begins when the first is done.
//! 3. While no command can begin, pongs are not seen, and nobody is closed for a missing one.
//! 4. A connection for which nothing waits has nothing of all this but one pointer.
//! 5. Publications are answered in the order in which they began, at most [`MAX_COMMITTING`] wait for that, and only further
//!    publications begin before. With `client.concurrency` so do commands about other channels.
//!
//! # End
//!
//! A dropped session drops its questions: what was asked is taken back as far as that is possible, and no command is half
//! done, because none has begun. A publication that has its place is kept and delivered all the same.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bowline_protocol::{CommandId, CommandResult, Disconnect, Encoding, Payload, Request};
use bowline_store::{CommitError, Position, Receipt};
use bytes::Bytes;
use tokio::time::Instant;

use super::Session;
use super::rejection::Rejection;
use crate::node::not_committed;
use crate::proxy::{Admitted, Allowed, Passed, Refused, Renewal};
use crate::token::Kind;

/// What a frame that is kept counts for besides its bytes, so that very many short ones are bounded too.
const FRAME_BYTES: usize = 64;

/// Publications of one connection that may wait to be kept: a disk that syncs in ten milliseconds then takes six thousand a
/// second of it.
const MAX_COMMITTING: usize = 64;

/// Something to wait for before a command can begin. It holds nothing of the session.
pub(super) type Question = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// What was waited for.
pub(super) enum Answered {
    /// The keys that tokens are verified with are as new as they can be.
    Key,
    /// An application answered a method, or did not.
    Rpc(Result<Payload, Refused>),
    /// An application says who connects, and the id that the connection has if it is admitted.
    Connect { client: String, admitted: Result<Option<Admitted>, Refused> },
    /// An application says whether the client may subscribe.
    Subscribe(Result<Allowed, Refused>),
    /// An application says whether the client may publish, and what.
    Publish(Result<Passed, Refused>),
    /// An application says how long the connection lasts.
    Refresh(Renewal),
    /// An application says how long a subscription lasts.
    SubRefresh(Renewal),
}

/// What a question is about.
pub(super) enum About {
    /// A command, which begins when there is an answer.
    Command(CommandId, Request),
    /// The connection, which has expired.
    Expiry,
    /// The subscription to a channel, which has expired.
    SubExpiry(Arc<str>),
}

/// What waits, and what is kept back meanwhile. There is none while nothing waits.
#[derive(Default)]
pub(super) struct Waiting {
    asked: Vec<Asked>,
    /// Publications that are not answered yet, in the order in which they began.
    committing: VecDeque<Committing>,
    /// A command that was decoded and has to wait for another one of its channel.
    held: Option<(CommandId, Request)>,
    /// Frames, or the rest of one, that were not looked into.
    frames: VecDeque<Bytes>,
    /// What they count for.
    bytes: usize,
}

/// A publication that waits to be kept and delivered.
struct Committing {
    id: CommandId,
    channel: String,
    kept: Receipt<Option<Position>>,
}

struct Asked {
    about: About,
    answer: Question,
}

impl Session {
    /// Whether no further command is begun before something is answered.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.is_busy(self.concurrency()))
    }

    fn concurrency(&self) -> usize {
        self.node.config().client.concurrency.map_or(1, NonZeroUsize::get)
    }

    /// Whether there is room for a further frame. If not, the transport leaves what comes where it is.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let limit = self.node.config().websocket.message_size_limit.get();
        self.waiting.as_ref().is_none_or(|waiting| waiting.bytes < limit)
    }

    /// Waits for what was asked, and then goes on with the commands that waited for it and those behind them.
    ///
    /// Ready when something went on: what the session answers to other questions may have changed. While nothing waits it is
    /// pending, and nobody is woken.
    ///
    /// # Errors
    ///
    /// The reason to close the connection for, as with [`feed`](Self::feed).
    pub fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Disconnect>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        let mut kept = Vec::new();
        while let Some(first) = waiting.committing.front_mut()
            && let Poll::Ready(result) = Pin::new(&mut first.kept).poll(cx)
        {
            let id = first.id;
            waiting.committing.pop_front();
            kept.push((id, result));
        }
        let mut answered = Vec::new();
        let mut at = 0;
        while let Some(asked) = waiting.asked.get_mut(at) {
            match asked.answer.as_mut().poll(cx) {
                Poll::Ready(answer) => answered.push((waiting.asked.remove(at).about, answer)),
                Poll::Pending => at += 1,
            }
        }
        if answered.is_empty() && kept.is_empty() {
            return Poll::Pending;
        }
        let told = kept.into_iter().try_for_each(|(id, result)| self.answer_kept(id, result));
        let done = told
            .and_then(|()| answered.into_iter().try_for_each(|(about, answer)| self.answered(about, answer)));
        let went_on = done.and_then(|()| self.go_on());
        Poll::Ready(went_on.map_err(|reason| self.end(reason)))
    }

    /// Keeps a frame, or the rest of one, until no command is in its way.
    pub(super) fn keep_back(&mut self, frame: &[u8]) {
        // A copy, because what was read may be a small part of a large buffer.
        self.waiting.get_or_insert_default().push(Bytes::copy_from_slice(frame));
    }

    /// Answers a publication when it is kept and delivered: at once if it is.
    pub(super) fn answer_when_kept(
        &mut self,
        id: CommandId,
        channel: String,
        kept: Receipt<Option<Position>>,
    ) -> Result<(), Rejection> {
        let is_next = self.waiting.as_ref().is_none_or(|waiting| waiting.committing.is_empty());
        match if is_next { kept.try_take() } else { Err(kept) } {
            Ok(kept) => {
                kept.map_err(|error| not_committed(&error))?;
                self.answer(id, CommandResult::Publish)
            }
            Err(kept) => {
                let waiting = self.waiting.get_or_insert_default();
                waiting.committing.push_back(Committing { id, channel, kept });
                Ok(())
            }
        }
    }

    fn answer_kept(
        &self,
        id: CommandId,
        kept: Result<Option<Position>, CommitError>,
    ) -> Result<(), Disconnect> {
        let answered = match kept {
            Ok(_) => self.answer(id, CommandResult::Publish),
            Err(error) => Err(not_committed(&error).into()),
        };
        self.settle(id, answered)
    }

    /// Begins a command, or notes what it has to wait for.
    pub(super) fn begin(&mut self, id: CommandId, request: Request) -> Result<(), Disconnect> {
        self.check(&request)?;
        let limit = self.concurrency();
        if let Some(waiting) = &mut self.waiting
            && waiting.blocks(&request, limit)
        {
            waiting.held = Some((id, request));
            return Ok(());
        }
        if matches!(request, Request::Subscribe(_))
            && let Err(too_often) = self.budget.take_subscription(&self.node.config().client)
        {
            return self.answer_error(id, too_often);
        }
        match self.question(&request) {
            Some(answer) => {
                let about = About::Command(id, request);
                self.waiting.get_or_insert_default().asked.push(Asked { about, answer });
                Ok(())
            }
            None => self.run(id, request),
        }
    }

    /// What has to be asked before the command can begin.
    fn question(&self, request: &Request) -> Option<Question> {
        let keys = (self.missing_key(request), self.missing_key_of_wishes(request));
        let question: Option<Question> = match request {
            Request::Rpc(request) => match self.rpc_question(request) {
                Some(question) => Some(Box::pin(async { Answered::Rpc(question.ask().await) })),
                None => None,
            },
            Request::Connect(request) => self.connect_question(request),
            Request::Subscribe(request) => self.subscribe_question(request),
            Request::Publish(request) => self.publish_question(request),
            _ => None,
        };
        let (own, of_wishes) = match keys {
            (None, None) => return question,
            keys => keys,
        };
        Some(Box::pin(async {
            if let Some(key) = own {
                key.await;
            }
            if let Some(key) = of_wishes {
                key.await;
            }
            match question {
                Some(question) => question.await,
                None => Answered::Key,
            }
        }))
    }

    /// What to wait for before the tokens of a listener's wishes can be verified. One fetch brings every key there is.
    fn missing_key_of_wishes(&self, request: &Request) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Request::Connect(request) = request else { return None };
        let wishes = request.subs.values().filter(|_| self.outbox.wire().is_unidirectional);
        let mut tokens = wishes.map(|wish| wish.token.expose()).filter(|token| !token.is_empty());
        tokens.find_map(|token| self.node.tokens().missing_key(Kind::Subscription, token))
    }

    /// What to wait for before a token can be verified: its key, if it is to be fetched.
    fn missing_key(&self, request: &Request) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (kind, token) = match request {
            Request::Connect(request) => (Kind::Connection, &request.token),
            Request::Refresh(request) => (Kind::Connection, &request.token),
            Request::Subscribe(request) => (Kind::Subscription, &request.token),
            Request::SubRefresh(request) => (Kind::Subscription, &request.token),
            _ => return None,
        };
        self.node.tokens().missing_key(kind, token.expose())
    }

    /// Does what had to wait for an answer.
    fn answered(&mut self, about: About, answer: Answered) -> Result<(), Disconnect> {
        match (about, answer) {
            (About::Command(id, request), Answered::Key) => self.run(id, request),
            (About::Command(id, _), Answered::Rpc(answer)) => self.answer_rpc(id, answer),
            (About::Command(id, Request::Connect(request)), Answered::Connect { client, admitted }) => {
                let connected = admitted.map_err(Rejection::from);
                let connected = connected.and_then(|admitted| {
                    self.connect(id, &request, admitted.map(|admitted| (client, admitted)))
                });
                let connected = self.note_refusal(connected);
                self.settle(id, connected)
            }
            (About::Command(id, Request::Subscribe(request)), Answered::Subscribe(allowed)) => {
                let allowed = allowed.map_err(Rejection::from);
                let subscribed =
                    allowed.and_then(|allowed| self.handle_subscribe(id, request, Some(allowed)));
                self.settle(id, subscribed)
            }
            (About::Command(id, Request::Publish(request)), Answered::Publish(passed)) => {
                self.answer_publish(id, request, passed)
            }
            (About::Expiry, Answered::Refresh(renewal)) => self.renew(renewal),
            (About::SubExpiry(channel), Answered::SubRefresh(renewal)) => {
                self.renew_subscription(&channel, renewal)
            }
            (About::Command(..) | About::Expiry | About::SubExpiry(_), _) => {
                unreachable!("a question has the answer of its kind")
            }
        }
    }

    /// Goes on with what was kept back.
    fn go_on(&mut self) -> Result<(), Disconnect> {
        if let Some((id, request)) = self.waiting.as_mut().and_then(|waiting| waiting.held.take()) {
            self.begin(id, request)?;
        }
        while !self.is_busy()
            && let Some(frame) = self.waiting.as_mut().and_then(|waiting| waiting.pop())
        {
            let rest = self.run_commands(&frame)?;
            if !rest.is_empty() {
                self.waiting.get_or_insert_default().unpop(frame.slice_ref(rest));
            }
        }
        if self.waiting.as_ref().is_some_and(|waiting| waiting.is_over()) {
            self.waiting = None; // by invariant 4
        }
        if !self.is_busy() {
            self.expect_pong_anew(Instant::now()); // by invariant 3
        }
        Ok(())
    }

    /// What is left to do in `rest` of a frame: nothing, if it holds no command.
    pub(super) fn unless_blank<'f>(&self, rest: &'f [u8]) -> &'f [u8] {
        match self.outbox.wire().encoding {
            Encoding::Json => rest.trim_ascii_start(),
            Encoding::Protobuf => rest,
        }
    }

    /// Whether anything waits.
    #[cfg(test)]
    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some()
    }
}

impl Waiting {
    fn is_busy(&self, limit: usize) -> bool {
        let is_connecting = |asked: &Asked| matches!(asked.about, About::Command(_, Request::Connect(_)));
        let commands = self.asked.iter().filter(|asked| matches!(asked.about, About::Command(..)));
        self.held.is_some()
            || commands.count() >= limit
            || self.committing.len() >= MAX_COMMITTING
            || self.asked.iter().any(is_connecting)
    }

    /// Whether `request` has to wait for a command that waits, by invariants 2 and 5.
    fn blocks(&self, request: &Request, limit: usize) -> bool {
        let subject = subject(request);
        let waits_for_publications = !matches!(request, Request::Publish(_))
            && match limit {
                1 => !self.committing.is_empty(),
                _ => self.committing.iter().any(|earlier| subject == Some(&*earlier.channel)),
            };
        if waits_for_publications {
            return true;
        }
        subject.is_some()
            && self.asked.iter().any(|asked| match &asked.about {
                About::Command(_, earlier) => self::subject(earlier) == subject,
                About::Expiry | About::SubExpiry(_) => false,
            })
    }

    /// Asks something that no command waits for.
    pub(super) fn ask(&mut self, about: About, answer: Question) {
        self.asked.push(Asked { about, answer });
    }

    /// Whether the same is being asked about what expired.
    pub(super) fn asks(&self, about: &About) -> bool {
        self.asked.iter().any(|asked| match (&asked.about, about) {
            (About::Expiry, About::Expiry) => true,
            (About::SubExpiry(asked), About::SubExpiry(channel)) => asked == channel,
            _ => false,
        })
    }

    /// How many subscriptions that expired are being asked about.
    pub(super) fn sub_refreshes(&self) -> usize {
        self.asked.iter().filter(|asked| matches!(asked.about, About::SubExpiry(_))).count()
    }

    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len() + FRAME_BYTES;
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len() + FRAME_BYTES;
        Some(frame)
    }

    /// Puts back what is left of the frame that was taken last.
    fn unpop(&mut self, frame: Bytes) {
        self.bytes += frame.len() + FRAME_BYTES;
        self.frames.push_front(frame);
    }

    fn is_over(&self) -> bool {
        self.asked.is_empty() && self.committing.is_empty() && self.held.is_none() && self.frames.is_empty()
    }
}

/// What a command changes or looks at, if the order of commands about it matters: a channel, or the connection (`""`).
fn subject(request: &Request) -> Option<&str> {
    match request {
        Request::Subscribe(request) => Some(&request.channel),
        Request::Unsubscribe(request) => Some(&request.channel),
        Request::Publish(request) => Some(&request.channel),
        Request::Presence(request) => Some(&request.channel),
        Request::PresenceStats(request) => Some(&request.channel),
        Request::History(request) => Some(&request.channel),
        Request::SubRefresh(request) => Some(&request.channel),
        Request::Connect(_) | Request::Refresh(_) => Some(""),
        Request::Ping | Request::Send(_) | Request::Rpc(_) => None,
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, committing, held, frames, bytes } = self;
        f.debug_struct("Waiting")
            .field("asked", &asked.len())
            .field("committing", &committing.len())
            .field("is_held", &held.is_some())
            .field("frames", &frames.len())
            .field("bytes", bytes)
            .finish()
    }
}
