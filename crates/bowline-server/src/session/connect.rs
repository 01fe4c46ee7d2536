//! The connect command: who is it, may it come in, and which channels the server gives it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::{
    ClientInfo, CommandId, CommandResult, ConnectRequest, ConnectResult, Disconnect, ErrorCode, Payload,
    Secret,
};
use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::rejection::Rejection;
use super::subscribe::{Grant, Placed};
use super::timer::{Expiry, Pinger};
use super::{Connected, Phase, Session, encode_answer};
use crate::node::connection::{Connection, Registration};
use crate::node::{Relation, VERSION};
use crate::token::{ServerSubscription, TokenError, unix_now};

/// What authentication found out.
struct Identity {
    info: Arc<ClientInfo>,
    expiry: Option<Expiry>,
    has_token: bool,
    subscriptions: BTreeMap<String, ServerSubscription>,
}

impl Session {
    /// Authenticates the connection. After an error answer it stays open, but useless until the stale timer.
    pub(super) fn handle_connect(&mut self, id: CommandId, request: ConnectRequest) -> Result<(), Rejection> {
        let connected = self.connect(id, &request);
        if let (Err(Rejection::Error(_)), Phase::New { stale_at }) = (&connected, &self.phase) {
            self.phase = Phase::Refused { stale_at: *stale_at };
        }
        connected
    }

    fn connect(&mut self, id: CommandId, request: &ConnectRequest) -> Result<(), Rejection> {
        let node = Arc::clone(&self.node);
        let client = &node.config().client;
        let identity = self.authenticate(request)?;
        if identity.subscriptions.len() > client.channel_limit.get() {
            return Err(Disconnect::CHANNEL_LIMIT.into());
        }
        let session = if self.transport.is_emulated { random_id() } else { String::new() };
        let connection =
            Connection::new(Arc::clone(&identity.info), Secret::new(session.clone()), self.outbox.clone());
        let registration = Registration::new(&node, connection)?;

        let mut subs = BTreeMap::new();
        let mut placed = Vec::with_capacity(identity.subscriptions.len());
        for (name, subscription) in identity.subscriptions {
            let wish = request.subs.get(&name).cloned().unwrap_or_default();
            let channel = node.resolve(&name)?;
            let grant = Grant::from_server(&identity.info, subscription)?;
            let Placed { subscription, start, result } = self.place(&channel, &wish, grant)?;
            subs.insert(name, result);
            placed.push((subscription, start));
        }

        let result = ConnectResult {
            client: identity.info.client.clone(),
            version: VERSION.to_owned(),
            expires: identity.expiry.is_some(),
            ttl: identity.expiry.map_or(0, Expiry::ttl_seconds),
            subs,
            ping: whole_seconds(client.ping_interval.get()),
            pong: true,
            session: Secret::new(session),
            node: if self.transport.is_emulated { node.uid().to_owned() } else { String::new() },
            ..ConnectResult::default()
        };
        self.enqueue(encode_answer(id, CommandResult::Connect(result))?)?;
        self.phase = Phase::Connected(Connected {
            registration,
            pinger: Pinger::new(client.ping_interval.get()),
            expiry: identity.expiry,
            refreshes: identity.has_token,
            position_check_at: Instant::now() + client.channel_position_check_delay.get(),
        });
        for (subscription, start) in placed {
            subscription.membership.go_live(start, None).map_err(|_| Disconnect::INSUFFICIENT_STATE)?;
            self.subscriptions.insert(subscription);
        }
        Ok(())
    }

    /// Finds out who connects: by token, or as the anonymous user where that is allowed.
    fn authenticate(&self, request: &ConnectRequest) -> Result<Identity, Rejection> {
        let client = &self.node.config().client;
        let info = |user: String, conn_info: Payload| {
            Arc::new(ClientInfo { user, client: random_id(), conn_info, chan_info: Payload::EMPTY })
        };
        if request.token.is_empty() {
            if !client.insecure && !client.allow_anonymous_connect_without_token {
                return Err(Disconnect::BAD_REQUEST.into());
            }
            return Ok(Identity {
                info: info(String::new(), Payload::EMPTY),
                expiry: None,
                has_token: false,
                subscriptions: BTreeMap::new(),
            });
        }
        let now = unix_now();
        let claims =
            self.node.tokens().verify_connection(request.token.expose(), now).map_err(
                |error| match error {
                    TokenError::Expired => Rejection::from(ErrorCode::TOKEN_EXPIRED),
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
            expiry: expiry(expire_at, now).ok_or(ErrorCode::EXPIRED)?,
            has_token: true,
            subscriptions: claims.subscriptions,
        })
    }
}

impl Grant {
    fn from_server(info: &Arc<ClientInfo>, subscription: ServerSubscription) -> Result<Self, Disconnect> {
        let ServerSubscription { info: chan_info, data, overrides } = subscription;
        Ok(Self {
            info: with_chan_info(info, claimed_json(chan_info)?),
            data: claimed_json(data)?,
            overrides,
            expiry: None,
            relation: Relation::TokenHolder,
            is_server_side: true,
        })
    }
}

/// Turns a claim's time into an expiry: `None` if it has passed, `Some(None)` for never.
pub(super) fn expiry(expire_at: Option<u64>, now: u64) -> Option<Option<Expiry>> {
    let Some(expire_at) = expire_at else { return Some(None) };
    let ttl = expire_at.checked_sub(now).filter(|&seconds| seconds > 0)?;
    Some(Some(Expiry::after(Duration::from_secs(ttl))))
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

fn random_id() -> String {
    Uuid::new_v4().to_string()
}

/// Whole seconds, at least one: zero would tell the client that there are no pings.
fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}
