//! What applications are asked about this connection, and what comes of their answers.
//!
//! A question holds what the application is told and nothing of the session; see `waiting` for how it is waited for. Whether
//! there is one is decided with the checks that the command makes again when it runs: what changed meanwhile counts.

use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::{
    ClientInfo, CommandId, ConnectRequest, Disconnect, Encoding, Payload, PublishRequest, SubscribeRequest,
    UnsubscribeCode,
};
use tokio::time::Instant;

use super::Session;
use super::connect::random_id;
use super::rejection::Rejection;
use super::waiting::{About, Answered, Question};
use crate::jitter::jittered;
use crate::node::expiry::Expiry;
use crate::node::{Action, ResolvedChannel};
use crate::proxy::{self, Headers, Passed, Refused, Renewal};
use crate::token::unix_now;

/// When an application that could not say whether something goes on is asked again, about.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Time that an application has at least to renew what expired, whatever a client has.
const GRACE: Duration = Duration::from_secs(10);

/// Subscriptions of one connection whose renewal is asked at once; the others wait for their turn.
const MAX_SUB_REFRESHES: usize = 4;

/// What applications are told about a connection besides who it is, and when they are asked again.
#[derive(Debug, Default)]
pub(super) struct Details {
    headers: Option<Arc<Headers>>,
    meta: Payload,
    /// Not before, because the application had no answer.
    refresh_at: Option<Instant>,
    sub_refresh_at: Option<Instant>,
}

impl Session {
    /// Keeps what applications want to be told of the client's own request.
    pub(crate) fn keep_headers(&mut self, headers: Option<Arc<Headers>>) {
        if let Some(headers) = headers {
            self.details_mut().headers = Some(headers);
        }
    }

    /// Keeps what applications want to be told of the client's connect command.
    pub(super) fn keep_emulated_headers(&mut self, request: &ConnectRequest) {
        let kept = self.details.as_ref().and_then(|details| details.headers.clone());
        self.keep_headers(self.node.proxies().wanted_headers().of_command(kept, &request.headers));
    }

    /// Keeps what tokens and applications say for applications only.
    pub(super) fn keep_meta(&mut self, meta: Payload) {
        if !meta.is_empty() {
            self.details_mut().meta = meta;
        }
    }

    fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Whom questions are about.
    pub(super) fn about(&self) -> proxy::About {
        let details = self.details.as_ref();
        let (client, user) = match self.info() {
            Ok(info) => (info.client.clone(), info.user.clone()),
            Err(_) => Default::default(),
        };
        proxy::About {
            client,
            user,
            transport: self.transport.name,
            protocol: match self.outbox.wire().encoding {
                Encoding::Json => "json",
                Encoding::Protobuf => "protobuf",
            },
            meta: details.map(|details| details.meta.clone()).unwrap_or_default(),
            headers: details.and_then(|details| details.headers.clone()),
        }
    }

    /// Who the client is, as a proxy in front says, which stands in for a token.
    pub(super) fn user_of_proxy(&self) -> Option<&str> {
        self.details.as_ref()?.headers.as_ref()?.user()
    }

    /// Who connects? Only of clients without a token, and of whom no proxy in front says it.
    pub(super) fn connect_question(&self, request: &ConnectRequest) -> Option<Question> {
        if !request.token.is_empty() || self.user_of_proxy().is_some() {
            return None;
        }
        let client = random_id();
        let about = || {
            let about = self.about();
            let headers = self.node.proxies().wanted_headers().of_command(about.headers, &request.headers);
            proxy::About { client: client.clone(), headers, ..about }
        };
        let question = self.node.proxies().connect(about, request)?;
        Some(Box::pin(async move {
            let admitted = question.ask().await;
            Answered::Connect { client, admitted }
        }))
    }

    /// May the client subscribe? Not asked for a token, for a private channel and for one that lists its users.
    pub(super) fn subscribe_question(&self, request: &SubscribeRequest) -> Option<Question> {
        let channel = self.check_subscribe(request).ok()?;
        if decides_itself(&channel, request) {
            return None;
        }
        let question = self.node.proxies().subscribe(channel.options(), || self.about(), request)?;
        Some(Box::pin(async { Answered::Subscribe(question.ask().await) }))
    }

    /// May the client publish, and what?
    pub(super) fn publish_question(&self, request: &PublishRequest) -> Option<Question> {
        let channel = self.node.resolve(&request.channel).ok()?;
        let subject = self.subject(&channel).ok()?;
        if request.publication_type != 0 || self.node.denies(subject, Action::Publish, &channel) {
            return None;
        }
        let question = self.node.proxies().publish(channel.options(), || self.about(), request)?;
        Some(Box::pin(async { Answered::Publish(question.ask().await) }))
    }

    /// Answers a publication that an application was asked about.
    pub(super) fn answer_publish(
        &mut self,
        id: CommandId,
        request: PublishRequest,
        passed: Result<Passed, Refused>,
    ) -> Result<(), Disconnect> {
        let passed = passed.map_err(Rejection::from);
        let published = passed.and_then(|passed| self.publish(id, request, Some(passed)));
        self.settle(id, published)
    }

    /// Time from an expiry to the end of what expired.
    pub(super) fn expiry_grace(&self) -> Duration {
        let grace = self.node.config().client.expired_close_delay;
        if self.node.proxies().refreshes() { grace.max(GRACE) } else { grace }
    }

    /// As [`expiry_grace`](Self::expiry_grace), for a subscription.
    pub(super) fn sub_expiry_grace(&self, channel: &str) -> Duration {
        let grace = self.node.config().client.expired_sub_close_delay;
        if self.is_sub_refreshed(channel) { grace.max(GRACE) } else { grace }
    }

    /// Whether an application says how long subscriptions to `channel` last.
    fn is_sub_refreshed(&self, channel: &str) -> bool {
        let proxies = self.node.proxies();
        proxies.sub_refreshes()
            && self.node.resolve(channel).is_ok_and(|channel| channel.options().sub_refresh_proxy_enabled)
    }

    /// When an application is to be asked whether something goes on; `None` if there is nothing to ask.
    pub(super) fn next_question(&self) -> Option<Instant> {
        let held = self.held().ok()?;
        let details = self.details.as_deref();
        let is_asked = |about: &About| self.waiting.as_ref().is_some_and(|waiting| waiting.asks(about));
        let not_before = |at: Option<Instant>, expiry: Expiry| {
            let expires_at = expiry.closes_at(Duration::ZERO);
            at.map_or(expires_at, |at| at.max(expires_at))
        };
        let refresh = held.expiry.filter(|_| self.node.proxies().refreshes() && !is_asked(&About::Expiry));
        let refresh =
            refresh.map(|expiry| not_before(details.and_then(|details| details.refresh_at), expiry));
        let has_turn =
            self.waiting.as_ref().is_none_or(|waiting| waiting.sub_refreshes() < MAX_SUB_REFRESHES);
        let subscriptions = held.subscriptions.iter().filter(|_| has_turn).filter_map(|subscription| {
            let (expiry, channel) = (subscription.expiry?, subscription.membership.channel());
            let is_due = self.is_sub_refreshed(channel) && !is_asked(&About::SubExpiry(Arc::clone(channel)));
            is_due.then(|| not_before(details.and_then(|details| details.sub_refresh_at), expiry))
        });
        refresh.into_iter().chain(subscriptions).min()
    }

    /// Asks whether what has expired by `now` goes on.
    pub(super) fn ask_about_expired(&mut self, now: Instant) {
        while self.next_question().is_some_and(|at| at <= now) {
            let Some((about, question)) = self.due_question(now) else { return };
            self.waiting.get_or_insert_default().ask(about, question);
        }
    }

    fn due_question(&self, now: Instant) -> Option<(About, Question)> {
        let has_expired =
            |expiry: Option<Expiry>| expiry.is_some_and(|expiry| expiry.closes_at(Duration::ZERO) <= now);
        let is_asked = |about: &About| self.waiting.as_ref().is_some_and(|waiting| waiting.asks(about));
        let may = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        let details = self.details.as_deref();
        let connection_has_expired = has_expired(self.held().ok()?.expiry);
        if connection_has_expired
            && !is_asked(&About::Expiry)
            && may(details.and_then(|details| details.refresh_at))
            && let Some(question) = self.node.proxies().refresh(|| self.about())
        {
            return Some((About::Expiry, Box::pin(async { Answered::Refresh(question.ask().await) })));
        }
        if !may(details.and_then(|details| details.sub_refresh_at)) {
            return None;
        }
        let channel = {
            let held = self.held().ok()?;
            let mut expired =
                held.subscriptions.iter().filter(|subscription| has_expired(subscription.expiry));
            let due = expired.find(|subscription| {
                let channel = subscription.membership.channel();
                self.is_sub_refreshed(channel) && !is_asked(&About::SubExpiry(Arc::clone(channel)))
            });
            Arc::clone(due?.membership.channel())
        };
        let resolved = self.node.resolve(&channel).ok()?;
        let question = self.node.proxies().sub_refresh(resolved.options(), || self.about(), &channel)?;
        let question = Box::pin(async { Answered::SubRefresh(question.ask().await) });
        Some((About::SubExpiry(Arc::clone(&channel)), question))
    }

    /// Does what an application said about a connection that expired.
    pub(super) fn renew(&mut self, renewal: Renewal) -> Result<(), Disconnect> {
        let (expire_at, info, meta) = match renewal {
            Renewal::Expired => return Err(Disconnect::EXPIRED),
            Renewal::Unknown => {
                self.details_mut().refresh_at = Some(ask_again_at());
                return Ok(());
            }
            Renewal::Until { expire_at, info, meta } => (expire_at, info, meta),
        };
        let expire_at = Some(expire_at).filter(|at| *at > 0);
        let expiry = Expiry::at_unix(expire_at, unix_now()).ok_or(Disconnect::EXPIRED)?;
        let own = Arc::clone(self.info()?);
        let mut held = self.held()?;
        held.expiry = expiry;
        if !info.is_empty() {
            held.info = Some(Arc::new(ClientInfo { conn_info: info, ..ClientInfo::clone(&own) }));
        }
        drop(held);
        self.keep_meta(meta);
        Ok(())
    }

    /// Does what an application said about a subscription that expired.
    pub(super) fn renew_subscription(&mut self, channel: &str, renewal: Renewal) -> Result<(), Disconnect> {
        let expiry = match renewal {
            Renewal::Unknown => {
                self.details_mut().sub_refresh_at = Some(ask_again_at());
                return Ok(());
            }
            Renewal::Expired => None,
            Renewal::Until { expire_at, .. } => {
                Expiry::at_unix(Some(expire_at).filter(|at| *at > 0), unix_now())
            }
        };
        let mut held = self.held()?;
        // It may have ended meanwhile.
        let Some(subscription) = held.subscriptions.find_mut(channel) else { return Ok(()) };
        match expiry {
            Some(expiry) => subscription.expiry = expiry,
            None if subscription.membership.role().is_server_side => {
                return Err(Disconnect::SUBSCRIPTION_EXPIRED);
            }
            None => {
                subscription.membership.end(&UnsubscribeCode::EXPIRED);
                held.subscriptions.forget_ended();
            }
        }
        Ok(())
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Error(error) => Self::Error(error),
            Refused::Disconnect(reason) => Self::Disconnect(reason),
        }
    }
}

/// Not all at the same moment: an application that was away has many to answer.
fn ask_again_at() -> Instant {
    Instant::now() + jittered(ASK_AGAIN)
}

/// Whether a token or the channel's name decides who may subscribe: then no application is asked.
pub(super) fn decides_itself(channel: &ResolvedChannel<'_>, request: &SubscribeRequest) -> bool {
    let is_limited = channel.options().allow_user_limited_channels && channel.name().is_user_limited();
    !request.token.is_empty() || channel.name().is_private() || is_limited
}
