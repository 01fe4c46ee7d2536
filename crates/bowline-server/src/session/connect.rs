//! The connect command: who is it, may it come in, and which channels the server gives it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::{
    ClientInfo, CommandId, CommandResult, ConnectRequest, ConnectResult, Disconnect, ErrorCode, Payload,
    Secret, SubscribeRequest,
};
use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::asking::decides_itself;
use super::rejection::Rejection;
use super::subscribe::{Grant, Placed, place};
use super::timer::Pinger;
use super::{Connected, Phase, Session, encode_answer};
use crate::node::connection::{About, Connection, Registration};
use crate::node::expiry::Expiry;
use crate::node::revoked::TokenTrace;
use crate::node::subscriptions::Origin;
use crate::node::{Relation, Target, VERSION};
use crate::proxy::Admitted;
use crate::token::{ServerSubscription, TokenError, unix_now, unix_now_millis};

/// What authentication found out.
struct Identity {
    info: Arc<ClientInfo>,
    expiry: Option<Expiry>,
    token: Option<Box<TokenTrace>>,
    /// What the client is told.
    data: Payload,
    /// What applications are told.
    meta: Payload,
    subscriptions: BTreeMap<String, (Origin, ServerSubscription)>,
}

impl Session {
    /// Authenticates the connection. After an error answer it stays open, but useless until the stale timer.
    pub(super) fn handle_connect(&mut self, id: CommandId, request: ConnectRequest) -> Result<(), Rejection> {
        let connected = self.connect(id, &request, None);
        self.note_refusal(connected)
    }

    /// Notes that a connect command was answered with an error.
    pub(super) fn note_refusal(&mut self, connected: Result<(), Rejection>) -> Result<(), Rejection> {
        if let (Err(Rejection::Error(_)), Phase::New { stale_at }) = (&connected, &self.phase) {
            self.phase = Phase::Refused { stale_at: *stale_at };
        }
        connected
    }

    /// Connects, as whom an application says or as the request does.
    pub(super) fn connect(
        &mut self,
        id: CommandId,
        request: &ConnectRequest,
        admitted: Option<(String, Admitted)>,
    ) -> Result<(), Rejection> {
        let node = Arc::clone(&self.node);
        let client = &node.config().client;
        let mut identity = match admitted {
            Some((client, admitted)) => Identity::admitted(client, admitted)?,
            None => self.authenticate(request)?,
        };
        if let Some(personal) = self.personal_channel(&identity.info.user) {
            identity
                .subscriptions
                .entry(personal)
                .or_insert_with(|| (Origin::Server, ServerSubscription::default()));
        }
        let mut grants = BTreeMap::new();
        for (name, (origin, subscription)) in identity.subscriptions {
            let grant = Grant::from_server(&identity.info, origin, subscription)?;
            grants.insert(name, grant);
        }
        if self.outbox.wire().is_unidirectional {
            self.grant_wishes(&identity.info, &request.subs, &mut grants)?;
        }
        if grants.len() > client.channel_limit.get() {
            return Err(Disconnect::CHANNEL_LIMIT.into());
        }
        let has_token = identity.token.is_some();
        let session = if self.transport.is_emulated { random_id() } else { String::new() };
        let connection =
            Connection::new(Arc::clone(&identity.info), Secret::new(session.clone()), self.outbox.clone())
                .told_of(About::new(self.transport.name, &request.name, &request.version))
                .with_token(identity.token.take());
        let registration = Registration::new(&node, connection)?;

        let mut subs = BTreeMap::new();
        let mut placed = Vec::with_capacity(grants.len());
        for (name, grant) in grants {
            let wish = request.subs.get(&name).cloned().unwrap_or_default();
            let channel = node.resolve(&name)?;
            let Placed { subscription, start, result } = place(&node, &self.outbox, &channel, &wish, grant)?;
            subs.insert(name, result);
            placed.push((subscription, start));
        }

        // Whose expiry an application decides about has nothing to bring.
        let refreshes = has_token && !node.proxies().refreshes();
        let told_expiry = identity.expiry.filter(|_| refreshes);
        let has_pings = !self.transport.has_own_pings;
        let result = ConnectResult {
            client: identity.info.client.clone(),
            version: VERSION.to_owned(),
            data: identity.data,
            expires: told_expiry.is_some(),
            ttl: told_expiry.map_or(0, Expiry::ttl_seconds),
            subs,
            ping: if has_pings { whole_seconds(client.ping_interval.get()) } else { 0 },
            pong: has_pings && !self.outbox.wire().is_unidirectional,
            session: Secret::new(session),
            time: if client.connect_include_server_time { unix_now_millis() } else { 0 },
            node: if self.transport.is_emulated { node.uid().to_owned() } else { String::new() },
        };
        self.enqueue(encode_answer(&self.outbox, id, CommandResult::Connect(result))?)?;
        self.phase = Phase::Connected(Connected {
            registration,
            pinger: Pinger::new(client.ping_interval.get()),
            refreshes,
            position_check_at: Instant::now() + client.channel_position_check_delay.get(),
        });
        let mut held = self.held()?;
        held.expiry = identity.expiry;
        for (subscription, start) in placed {
            // Once more, under the lock under which whoever revokes a token looks for what it granted.
            let (token, channel) = (subscription.token.as_deref(), subscription.membership.channel());
            if self.is_revoked(&identity.info.user, token, channel) {
                return Err(Disconnect::STATE_INVALIDATED.into());
            }
            subscription.membership.go_live(start, None).map_err(|_| Disconnect::INSUFFICIENT_STATE)?;
            held.subscriptions.insert(subscription);
        }
        held.open();
        drop(held);
        self.keep_emulated_headers(request);
        self.keep_meta(identity.meta);
        let takes_over = client.subscribe_to_user_personal_channel.allows_one_connection_only();
        if takes_over && !identity.info.user.is_empty() {
            self.close_earlier(&identity.info.user);
        }
        Ok(())
    }

    /// Adds what a client wishes that sends no commands to subscribe by, as far as it may have it. What it may not have is left
    /// out, without a word, and so is what an application would have to be asked about: it can give channels when it is asked
    /// who connects. A false token is no wish.
    fn grant_wishes(
        &self,
        info: &Arc<ClientInfo>,
        wishes: &BTreeMap<String, SubscribeRequest>,
        grants: &mut BTreeMap<String, Grant>,
    ) -> Result<(), Rejection> {
        let limit = self.node.config().client.channel_limit.get();
        for (name, wish) in wishes {
            if grants.contains_key(name) {
                continue;
            }
            if grants.len() >= limit {
                return Err(Disconnect::CHANNEL_LIMIT.into());
            }
            let Ok(channel) = self.node.resolve(name) else { continue };
            if channel.options().subscribe_proxy_enabled && !decides_itself(&channel, wish) {
                continue;
            }
            match self.authorise(info, &channel, wish) {
                Ok(grant) if self.is_revoked(&info.user, grant.token.as_deref(), name) => {}
                Ok(grant) => drop(grants.insert(name.clone(), Grant { origin: Origin::Server, ..grant })),
                Err(Rejection::Error(_)) => {}
                Err(reason @ Rejection::Disconnect(_)) => return Err(reason),
            }
        }
        Ok(())
    }

    /// Closes the connections that `user` had before this one. Of two that come at once the later stays.
    fn close_earlier(&self, user: &str) {
        let Some(connected) = self.connected() else { return };
        let own = connected.registration.connection().number();
        for connection in self.node.connections_of(user, &Target::default()) {
            if connection.number() < own {
                connection.outbox.close(Disconnect::CONNECTION_LIMIT);
            }
        }
    }

    /// The channel of its own that every user gets, if they do.
    fn personal_channel(&self, user: &str) -> Option<String> {
        let config = self.node.config();
        let personal = &config.client.subscribe_to_user_personal_channel;
        if !personal.enabled || user.is_empty() {
            return None;
        }
        let (boundary, mark) = (&config.channel.namespace_boundary, &config.channel.user_boundary);
        Some(match &personal.personal_channel_namespace {
            Some(namespace) => format!("{namespace}{boundary}{mark}{user}"),
            None => format!("{mark}{user}"),
        })
    }

    /// Finds out who connects: by token, by what a proxy in front says, or as the anonymous user where that is allowed.
    fn authenticate(&self, request: &ConnectRequest) -> Result<Identity, Rejection> {
        let client = &self.node.config().client;
        let info = |user: String, conn_info: Payload| {
            Arc::new(ClientInfo { user, client: random_id(), conn_info, chan_info: Payload::EMPTY })
        };
        if request.token.is_empty() {
            let user = self.user_of_proxy();
            if user.is_none() && !client.insecure && !client.allow_anonymous_connect_without_token {
                return Err(Disconnect::BAD_REQUEST.into());
            }
            return Ok(Identity {
                info: info(user.unwrap_or_default().to_owned(), Payload::EMPTY),
                expiry: None,
                token: None,
                data: Payload::EMPTY,
                meta: Payload::EMPTY,
                subscriptions: BTreeMap::new(),
            });
        }
        let now = unix_now();
        let claims =
            self.node.tokens().verify_connection(request.token.expose(), now).map_err(
                |error| match error {
                    TokenError::Expired => Rejection::from(ErrorCode::TOKEN_EXPIRED),
                    TokenError::KeysUnavailable => ErrorCode::INTERNAL.into(),
                    _ => {
                        tracing::info!(%error, "connection refused");
                        Disconnect::INVALID_TOKEN.into()
                    }
                },
            )?;
        // In insecure mode a token says who somebody is, not for how long.
        let expire_at = claims.expire_at.filter(|_| !client.insecure);
        Ok(Identity {
            info: info(claims.user, claimed_json(claims.info)?),
            expiry: Expiry::at_unix(expire_at, now).ok_or(ErrorCode::EXPIRED)?,
            token: Some(Box::new(TokenTrace::of(claims.id, claims.issued_at))),
            data: Payload::EMPTY,
            meta: claimed_json(claims.meta)?,
            subscriptions: claims
                .subscriptions
                .into_iter()
                .map(|(channel, subscription)| (channel, (Origin::Token, subscription)))
                .collect(),
        })
    }
}

impl Identity {
    /// Who an application says it is.
    fn admitted(client: String, admitted: Admitted) -> Result<Self, Rejection> {
        let Admitted { user, expire_at, info, data, subscriptions, meta } = admitted;
        let given = |(channel, subscription)| (channel, (Origin::Server, subscription));
        let expire_at = Some(expire_at).filter(|at| *at > 0);
        Ok(Self {
            info: Arc::new(ClientInfo { user, client, conn_info: info, chan_info: Payload::EMPTY }),
            expiry: Expiry::at_unix(expire_at, unix_now()).ok_or(ErrorCode::EXPIRED)?,
            token: None,
            data,
            meta,
            subscriptions: subscriptions.into_iter().map(given).collect(),
        })
    }
}

impl Grant {
    pub(super) fn from_server(
        info: &Arc<ClientInfo>,
        origin: Origin,
        subscription: ServerSubscription,
    ) -> Result<Self, Rejection> {
        let ServerSubscription { info: chan_info, data, overrides, expire_at } = subscription;
        Ok(Self {
            info: with_chan_info(info, claimed_json(chan_info)?),
            data: claimed_json(data)?,
            overrides,
            expiry: Expiry::at_unix(expire_at, unix_now()).ok_or(ErrorCode::EXPIRED)?,
            relation: Relation::TokenHolder,
            origin,
            token: None, // taken back with the connection
        })
    }
}

/// Takes what a token says about a client for others to see.
///
/// It is checked here, where it does harm to its bearer only: others are told it in messages of their own.
pub(super) fn claimed_json(claim: Option<Bytes>) -> Result<Payload, Disconnect> {
    match claim {
        None => Ok(Payload::EMPTY),
        Some(bytes) => Payload::from_json(bytes).map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL),
    }
}

/// What others see of a connection in one channel; shared with the connection if there is nothing to add.
pub(super) fn with_chan_info(info: &Arc<ClientInfo>, chan_info: Payload) -> Arc<ClientInfo> {
    if chan_info.is_empty() {
        return Arc::clone(info);
    }
    Arc::new(ClientInfo { chan_info, ..ClientInfo::clone(info) })
}

pub(super) fn random_id() -> String {
    Uuid::new_v4().to_string()
}

/// Whole seconds, at least one: zero would tell the client that there are no pings.
fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}
