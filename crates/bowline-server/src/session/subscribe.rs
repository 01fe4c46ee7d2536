//! The subscribe command: checks in a fixed order, then a place in the channel, the position, the answer, and live.

use std::sync::Arc;

use bowline_protocol::{
    ClientInfo, CommandId, CommandResult, Disconnect, ErrorCode, Payload, StreamPosition, SubscribeRequest,
    SubscribeResult,
};
use bowline_store::Position;

use super::connect::{claimed_json, expiry, with_chan_info};
use super::rejection::Rejection;
use super::subscriptions::Subscription;
use super::timer::Expiry;
use super::{Session, encode_answer};
use crate::node::channel::Role;
use crate::node::membership::Membership;
use crate::node::{Action, Relation, ResolvedChannel, Subject};
use crate::token::{Overrides, SubscriptionClaims, TokenError, unix_now};

/// The delta format of the protocol. It is understood, and declined: every publication is sent whole.
const FOSSIL: &str = "fossil";

/// Permission to subscribe, and what comes with it.
pub(super) struct Grant {
    /// The client as others see it in the channel.
    pub(super) info: Arc<ClientInfo>,
    /// What the result carries.
    pub(super) data: Payload,
    pub(super) overrides: Overrides,
    pub(super) expiry: Option<Expiry>,
    pub(super) relation: Relation,
    pub(super) is_server_side: bool,
}

/// A subscription with a pending place, ready to be answered.
pub(super) struct Placed {
    pub(super) subscription: Subscription,
    /// Where a positioned subscription starts to be tracked.
    pub(super) start: Option<Position>,
    pub(super) result: SubscribeResult,
}

impl Session {
    pub(super) fn handle_subscribe(
        &mut self,
        id: CommandId,
        request: SubscribeRequest,
    ) -> Result<(), Rejection> {
        if !request.delta.is_empty() && request.delta != FOSSIL {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let node = Arc::clone(&self.node);
        node.parse_name(&request.channel)?;
        if self.subscriptions.find(&request.channel).is_some() {
            return Err(ErrorCode::ALREADY_SUBSCRIBED.into());
        }
        if self.subscriptions.len() >= node.config().client.channel_limit.get() {
            return Err(ErrorCode::LIMIT_EXCEEDED.into());
        }
        let channel = node.resolve(&request.channel)?;
        let grant = self.authorise(&channel, &request)?;
        if request.tags_filter.is_some() {
            return Err(ErrorCode::BAD_REQUEST.into());
        }
        if request.subscription_type != 0 {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }

        let Placed { subscription, start, result } = self.place(&channel, &request, grant)?;
        let answer = encode_answer(id, CommandResult::Subscribe(result))?;
        subscription.membership.go_live(start, Some(answer)).map_err(|_| Disconnect::INSUFFICIENT_STATE)?;
        self.subscriptions.insert(subscription);
        // The answer and what follows it were put into the queue by the channel, which does not report back.
        match self.outbox.disconnect() {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }

    /// Takes a pending place in `channel`, and then reads where its stream stands or what the client missed.
    pub(super) fn place(
        &self,
        channel: &ResolvedChannel<'_>,
        request: &SubscribeRequest,
        grant: Grant,
    ) -> Result<Placed, Rejection> {
        let options = channel.options();
        let overrides = grant.overrides;
        // What a subscriber may do decides its wishes, although it becomes one only now.
        let subject = Subject { user: &grant.info.user, relation: Relation::Subscriber };
        let may = |action| self.node.may(subject, action, channel).into_result().is_ok();

        let announces = overrides.join_leave.unwrap_or(options.join_leave);
        let is_forced_to_listen = overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave);
        let role = Role {
            is_present: overrides.presence.unwrap_or(options.presence),
            announces,
            listens: announces && (is_forced_to_listen || (request.join_leave && may(Action::JoinLeave))),
            is_server_side: grant.is_server_side,
        };
        // Without history there are no positions to track or to recover from.
        let is_recoverable = channel.has_history()
            && (overrides.force_recovery.unwrap_or(options.force_recovery)
                || (request.recoverable && may(Action::Recover)));
        let is_positioned = is_recoverable
            || channel.has_history()
                && (overrides.force_positioning.unwrap_or(options.force_positioning)
                    || (request.positioned && may(Action::Position)));

        let membership =
            Membership::begin(&self.node, channel.as_str(), Arc::clone(&grant.info), role, &self.outbox);
        let mut result = SubscribeResult {
            expires: grant.expiry.is_some(),
            ttl: grant.expiry.map_or(0, Expiry::ttl_seconds),
            recoverable: is_recoverable,
            positioned: is_positioned,
            data: grant.data,
            ..SubscribeResult::default()
        };
        let start =
            if is_positioned { Some(self.find_position(channel, request, &mut result)?) } else { None };
        if request.recover && !result.recovered && request.rejects_unrecovered() {
            return Err(ErrorCode::UNRECOVERABLE_POSITION.into());
        }
        let subscription = Subscription { membership, expiry: grant.expiry, is_positioned };
        Ok(Placed { subscription, start, result })
    }

    /// Fills position and recovered publications into `result`; answers the position live delivery starts at.
    fn find_position(
        &self,
        channel: &ResolvedChannel<'_>,
        request: &SubscribeRequest,
        result: &mut SubscribeResult,
    ) -> Result<Position, ErrorCode> {
        let top = if request.recover && result.recoverable {
            let since = StreamPosition { offset: request.offset, epoch: request.epoch.clone() };
            let recovery = self.node.recover(channel, &since)?;
            result.was_recovering = true;
            result.recovered = recovery.has_recovered;
            result.publications = recovery.publications;
            recovery.top
        } else {
            self.node.top(channel)?
        };
        result.epoch = top.epoch.to_string();
        // After a recovery the client counts up from where it was, publication by publication.
        result.offset = if result.recovered { request.offset } else { top.offset };
        Ok(top)
    }

    /// Decides whether the client may subscribe. A token, if there is one, decides alone.
    fn authorise(
        &self,
        channel: &ResolvedChannel<'_>,
        request: &SubscribeRequest,
    ) -> Result<Grant, Rejection> {
        let info = self.info()?;
        let grant = if request.token.is_empty() {
            Grant {
                info: Arc::clone(info),
                data: Payload::EMPTY,
                overrides: Overrides::default(),
                expiry: None,
                relation: Relation::Stranger,
                is_server_side: false,
            }
        } else {
            let now = unix_now();
            let claims =
                self.verify(request.token.expose(), channel.as_str(), now, ErrorCode::PERMISSION_DENIED)?;
            Grant {
                info: with_chan_info(info, claimed_json(claims.info)?),
                data: claimed_json(claims.data)?,
                overrides: claims.overrides,
                expiry: expiry(claims.expire_at, now).ok_or(ErrorCode::EXPIRED)?,
                relation: Relation::TokenHolder,
                is_server_side: false,
            }
        };
        let subject = Subject { user: &info.user, relation: grant.relation };
        self.node.may(subject, Action::Subscribe, channel).into_result()?;
        Ok(grant)
    }

    /// Verifies a subscription token for `channel` and this connection; `invalid` is what a false token gets.
    pub(super) fn verify(
        &self,
        token: &str,
        channel: &str,
        now: u64,
        invalid: impl Into<Rejection>,
    ) -> Result<SubscriptionClaims, Rejection> {
        let info = self.info()?;
        let claims = match self.node.tokens().verify_subscription(token, now) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ErrorCode::TOKEN_EXPIRED.into()),
            Err(error) => {
                tracing::info!(client = info.client, channel, %error, "subscription token refused");
                return Err(invalid.into());
            }
        };
        // A token of somebody else is not a mistake.
        let is_own = claims.channel == channel
            && claims.user == info.user
            && claims.client.as_ref().is_none_or(|client| *client == info.client);
        if is_own { Ok(claims) } else { Err(Disconnect::INVALID_TOKEN.into()) }
    }
}
