//! What back ends do to the connections of a user: give subscriptions, renew or end what was granted.
//!
//! It is done when the call returns, from the caller's task: a connection's subscriptions lie under a lock that its
//! session shares with the node. The client is told by a push, which goes behind whatever the session answered before.

use std::sync::Arc;

use bowline_protocol::{
    ClientInfo, Disconnect, ErrorCode, Payload, Publication, Push, SubscribePush, SubscribeRequest,
};

use super::connect::with_chan_info;
use super::rejection::Rejection;
use super::subscribe::{Grant, Placed, place};
use crate::node::connection::Connection;
use crate::node::expiry::Expiry;
use crate::node::subscriptions::Origin;
use crate::node::{ApiError, Frame, Node, RefreshParams, Relation, ResolvedChannel, SubscribeParams, Target};
use crate::token::unix_now;

/// Room for the fixed parts of a push, so that encoding one allocates once.
const PUSH_BYTES: usize = 128;

impl Node {
    /// Subscribes the connections of a user to a channel; answers how many were not subscribed to it before.
    ///
    /// Each client is told by a push. What it missed since `recover_since` follows the push as publications. A user
    /// without connections is no error, nor is a connection that is subscribed already.
    ///
    /// # Errors
    ///
    /// 107 for an impossible channel name, 102 for an unknown namespace, 110 if `expire_at` has passed; then nothing
    /// was done. 106 if a connection has as many subscriptions as allowed, 100 if the store fails; the other
    /// connections are subscribed.
    pub fn subscribe(
        self: &Arc<Self>,
        user: &str,
        channel: &str,
        target: &Target,
        params: &SubscribeParams,
    ) -> Result<usize, ApiError> {
        let channel = self.resolve(channel)?;
        let expire_at = Some(params.expire_at).filter(|&at| at > 0);
        let expiry = Expiry::at_unix(expire_at, unix_now()).ok_or(ErrorCode::EXPIRED)?;
        let mut subscribed = 0;
        let mut failed = None;
        for connection in self.connections_of(user, target) {
            match subscribe(self, &connection, &channel, params, expiry) {
                Ok(is_new) => subscribed += usize::from(is_new),
                Err(Rejection::Error(error)) => failed = Some(error),
                Err(Rejection::Disconnect(reason)) => connection.outbox.close(reason),
            }
        }
        failed.map_or(Ok(subscribed), |error| Err(error.into()))
    }

    /// Sets when the connections of a user expire, or ends them as expired; answers how many there were.
    ///
    /// The clients are told the new expiry. A user without connections is no error.
    pub fn refresh(&self, user: &str, target: &Target, params: &RefreshParams) -> usize {
        let expire_at = Some(params.expire_at).filter(|&at| at > 0);
        let expiry = Expiry::at_unix(expire_at, unix_now()).filter(|_| !params.is_expired);
        let connections = self.connections_of(user, target);
        for connection in &connections {
            match expiry {
                Some(expiry) => refresh(connection, expiry, &params.info),
                None => connection.outbox.close(Disconnect::EXPIRED),
            }
        }
        connections.len()
    }
}

/// Subscribes one connection; answers whether it was not subscribed before.
pub(super) fn subscribe(
    node: &Arc<Node>,
    connection: &Connection,
    channel: &ResolvedChannel<'_>,
    params: &SubscribeParams,
    expiry: Option<Expiry>,
) -> Result<bool, Rejection> {
    let mut held = connection.held();
    if !held.is_open() || held.subscriptions.find(channel.as_str()).is_some() {
        return Ok(false);
    }
    if held.subscriptions.len() >= node.config().client.channel_limit.get() {
        return Err(ErrorCode::LIMIT_EXCEEDED.into());
    }
    let since = params.recover_since.clone();
    let wish = SubscribeRequest {
        recover: since.is_some(),
        recoverable: since.is_some(),
        offset: since.as_ref().map_or(0, |since| since.offset),
        epoch: since.map(|since| since.epoch).unwrap_or_default(),
        ..SubscribeRequest::default()
    };
    let grant = Grant {
        info: with_chan_info(held.info.as_ref().unwrap_or(&connection.info), params.info.clone()),
        data: params.data.clone(),
        overrides: params.overrides,
        expiry,
        relation: Relation::TokenHolder,
        origin: Origin::Server,
        token: None,
    };
    let Placed { subscription, start, result } = place(node, &connection.outbox, channel, &wish, grant)?;
    let name = Arc::clone(subscription.membership.channel());
    let told = SubscribePush {
        recoverable: result.recoverable,
        epoch: result.epoch,
        offset: result.offset,
        positioned: result.positioned,
        data: result.data,
    };
    // Seen when the push wakes the connection's owner, who then waits for the lock.
    connection.note_renewed();
    // Behind the seat, which holds back what is published meanwhile, and before it goes live.
    push(node, connection, Push::Subscribe { channel: Arc::clone(&name), subscription: told })?;
    for publication in result.publications {
        push_publication(node, connection, &name, publication)?;
    }
    subscription.membership.go_live(start, None).map_err(|_| Disconnect::INSUFFICIENT_STATE)?;
    held.subscriptions.insert(subscription);
    Ok(true)
}

fn push_publication(
    node: &Node,
    connection: &Connection,
    channel: &Arc<str>,
    publication: Publication,
) -> Result<(), Rejection> {
    push(node, connection, Push::Publication { channel: Arc::clone(channel), publication })
}

fn refresh(connection: &Connection, expiry: Option<Expiry>, info: &Payload) {
    let mut held = connection.held();
    if !held.is_open() {
        return;
    }
    held.expiry = expiry;
    connection.note_renewed();
    if !info.is_empty() {
        held.info =
            Some(Arc::new(ClientInfo { conn_info: info.clone(), ..ClientInfo::clone(&connection.info) }));
    }
    let told = Push::Refresh { expires: expiry.is_some(), ttl: expiry.map_or(0, Expiry::ttl_seconds) };
    // It holds numbers only. A full or closed queue has recorded why; the connection's owner ends it.
    if let Ok(frame) = Frame::push(connection.outbox.wire(), &told, PUSH_BYTES) {
        let _ = connection.outbox.push(frame);
    }
}

fn push(node: &Node, connection: &Connection, push: Push) -> Result<(), Rejection> {
    let frame = Frame::push(connection.outbox.wire(), &push, PUSH_BYTES)
        .map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)?;
    match connection.outbox.push(frame) {
        Ok(()) => {
            node.counters().messages_out.add(1);
            Ok(())
        }
        // The queue has recorded why; the connection's owner ends it.
        Err(_) => Err(connection.outbox.disconnect().unwrap_or(Disconnect::SLOW).into()),
    }
}
