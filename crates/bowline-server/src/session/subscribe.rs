//! The subscribe command: checks in a fixed order, then a place in the channel, the position, the answer, and live.

use std::sync::Arc;

use bowline_protocol::filter::TagsFilter;
use bowline_protocol::{
    ClientInfo, CommandId, CommandResult, Disconnect, ErrorCode, Payload, StreamPosition, SubscribeRequest,
    SubscribeResult,
};
use bowline_store::Position;

use super::connect::{claimed_json, with_chan_info};
use super::rejection::Rejection;
use super::{Session, encode_answer};
use crate::config::DeltaType;
use crate::node::channel::{Intake, Role};
use crate::node::expiry::Expiry;
use crate::node::forms;
use crate::node::membership::Membership;
use crate::node::revoked::{GrantOf, TokenTrace};
use crate::node::subscriptions::{Origin, Subscription, Subscriptions};
use crate::node::{Action, Node, Outbox, Relation, ResolvedChannel, Subject};
use crate::proxy::Allowed;
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
    pub(super) origin: Origin,
    /// The token that says so.
    pub(super) token: Option<Box<TokenTrace>>,
}

/// A subscription with a pending place, ready to be answered.
pub(super) struct Placed {
    pub(super) subscription: Subscription,
    /// Where a positioned subscription starts to be tracked.
    pub(super) start: Option<Position>,
    pub(super) result: SubscribeResult,
}

impl Session {
    /// Subscribes, if an application allowed it or if the client may by itself.
    pub(super) fn handle_subscribe(
        &self,
        id: CommandId,
        request: SubscribeRequest,
        allowed: Option<Allowed>,
    ) -> Result<(), Rejection> {
        let node = Arc::clone(&self.node);
        let channel = self.check_subscribe(&request)?;
        let grant = match allowed {
            Some(allowed) => self.grant_allowed(&channel, allowed)?,
            None => self.authorise(&self.seen_as()?, &channel, &request)?,
        };
        if request.subscription_type != 0 {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }

        // A back end may have subscribed the connection meanwhile: what counts is the list as it is now.
        let mut held = self.held()?;
        self.require_room(&held.subscriptions, &request.channel)?;
        self.require_valid(grant.token.as_deref(), &request.channel)?;
        let Placed { subscription, start, result } = place(&node, &self.outbox, &channel, &request, grant)?;
        let answer = encode_answer(&self.outbox, id, CommandResult::Subscribe(result))?;
        subscription.membership.go_live(start, Some(answer)).map_err(|_| Disconnect::INSUFFICIENT_STATE)?;
        held.subscriptions.insert(subscription);
        drop(held);
        // The answer and what follows it were put into the queue by the channel, which does not report back.
        match self.outbox.disconnect() {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }

    /// The checks before the question whether the client may.
    pub(super) fn check_subscribe<'a>(
        &'a self,
        request: &'a SubscribeRequest,
    ) -> Result<ResolvedChannel<'a>, Rejection> {
        if !request.delta.is_empty() && request.delta != FOSSIL {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        self.node.parse_name(&request.channel)?;
        self.require_room(&self.held()?.subscriptions, &request.channel)?;
        Ok(self.node.resolve(&request.channel)?)
    }

    /// What an application has allowed, unless it is denied whoever allows it.
    fn grant_allowed(&self, channel: &ResolvedChannel<'_>, allowed: Allowed) -> Result<Grant, Rejection> {
        let info = self.info()?;
        let relation = Relation::Stranger;
        if self.node.denies(Subject { user: &info.user, relation }, Action::Subscribe, channel) {
            return Err(ErrorCode::PERMISSION_DENIED.into());
        }
        let expire_at = Some(allowed.expire_at).filter(|at| *at > 0);
        Ok(Grant {
            info: with_chan_info(&self.seen_as()?, allowed.info),
            data: allowed.data,
            overrides: allowed.overrides,
            expiry: Expiry::at_unix(expire_at, unix_now()).ok_or(ErrorCode::EXPIRED)?,
            relation,
            origin: Origin::Client,
            token: None,
        })
    }

    /// Whether the connection may have one more subscription, to `channel`.
    fn require_room(&self, subscriptions: &Subscriptions, channel: &str) -> Result<(), ErrorCode> {
        if subscriptions.find(channel).is_some() {
            return Err(ErrorCode::ALREADY_SUBSCRIBED);
        }
        if subscriptions.len() >= self.node.config().client.channel_limit.get() {
            return Err(ErrorCode::LIMIT_EXCEEDED);
        }
        Ok(())
    }

    /// Whether `token` still grants `channel`. Asked while what the connection has is locked, so that whoever revokes it
    /// meanwhile finds the subscription.
    pub(super) fn require_valid(&self, token: Option<&TokenTrace>, channel: &str) -> Result<(), Rejection> {
        let user = &self.info()?.user;
        if self.is_revoked(user, token, channel) { Err(ErrorCode::PERMISSION_DENIED.into()) } else { Ok(()) }
    }

    /// Whether a back end has taken back what a token grants.
    pub(super) fn is_revoked(&self, user: &str, token: Option<&TokenTrace>, channel: &str) -> bool {
        token.is_some_and(|token| self.node.revoked().refuses(user, token, GrantOf::Channel(channel)))
    }

    /// Decides whether the client may subscribe. A token, if there is one, decides alone.
    pub(super) fn authorise(
        &self,
        info: &Arc<ClientInfo>,
        channel: &ResolvedChannel<'_>,
        request: &SubscribeRequest,
    ) -> Result<Grant, Rejection> {
        let grant = if request.token.is_empty() {
            Grant {
                info: Arc::clone(info),
                data: Payload::EMPTY,
                overrides: Overrides::default(),
                expiry: None,
                relation: Relation::Stranger,
                origin: Origin::Client,
                token: None,
            }
        } else {
            let now = unix_now();
            let claims = self.verify(
                info,
                request.token.expose(),
                channel.as_str(),
                now,
                ErrorCode::PERMISSION_DENIED,
            )?;
            Grant {
                info: with_chan_info(info, claimed_json(claims.info)?),
                data: claimed_json(claims.data)?,
                overrides: claims.overrides,
                expiry: Expiry::at_unix(claims.expire_at, now).ok_or(ErrorCode::EXPIRED)?,
                relation: Relation::TokenHolder,
                origin: Origin::Client,
                token: Some(Box::new(TokenTrace::of(claims.id, claims.issued_at))),
            }
        };
        let subject = Subject { user: &info.user, relation: grant.relation };
        self.node.may(subject, Action::Subscribe, channel).into_result()?;
        Ok(grant)
    }

    /// Verifies a subscription token for `channel` and the client `info`; `invalid` is what a false token gets.
    pub(super) fn verify(
        &self,
        info: &ClientInfo,
        token: &str,
        channel: &str,
        now: u64,
        invalid: impl Into<Rejection>,
    ) -> Result<SubscriptionClaims, Rejection> {
        let claims = match self.node.tokens().verify_subscription(token, now) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(ErrorCode::TOKEN_EXPIRED.into()),
            Err(TokenError::KeysUnavailable) => return Err(ErrorCode::INTERNAL.into()),
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

/// Takes a pending place in `channel`, and then reads where its stream stands or what the client missed.
pub(super) fn place(
    node: &Arc<Node>,
    outbox: &Outbox,
    channel: &ResolvedChannel<'_>,
    request: &SubscribeRequest,
    grant: Grant,
) -> Result<Placed, Rejection> {
    let options = channel.options();
    let overrides = grant.overrides;
    // What a subscriber may do decides its wishes, although it becomes one only now.
    let subject = Subject { user: &grant.info.user, relation: Relation::Subscriber };
    let may = |action| node.may(subject, action, channel).into_result().is_ok();

    let announces = overrides.join_leave.unwrap_or(options.join_leave);
    let is_forced_to_listen = overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave);
    let role = Role {
        is_present: overrides.presence.unwrap_or(options.presence),
        announces,
        listens: announces && (is_forced_to_listen || (request.join_leave && may(Action::JoinLeave))),
        is_server_side: grant.origin != Origin::Client,
    };
    // Without history there are no positions to track or to recover from.
    let is_recoverable = channel.has_history()
        && (overrides.force_recovery.unwrap_or(options.force_recovery)
            || (request.recoverable && may(Action::Recover)));
    let is_positioned = is_recoverable
        || channel.has_history()
            && (overrides.force_positioning.unwrap_or(options.force_positioning)
                || (request.positioned && may(Action::Position)));

    let intake = intake(channel, request)?;
    let (takes_delta, filter) = (intake.takes_delta, intake.filter.clone());
    // Who has brought a token brings the next, unless an application says how long it lasts.
    let brings_tokens = grant.origin == Origin::Client && grant.relation == Relation::TokenHolder;
    let told_expiry = grant.expiry.filter(|_| brings_tokens && !options.sub_refresh_proxy_enabled);
    let info = Arc::clone(&grant.info);
    let membership = Membership::begin(node, channel.as_str(), info, role, intake, outbox);
    let mut result = SubscribeResult {
        expires: told_expiry.is_some(),
        ttl: told_expiry.map_or(0, Expiry::ttl_seconds),
        recoverable: is_recoverable,
        positioned: is_positioned,
        data: grant.data,
        delta: takes_delta,
        ..SubscribeResult::default()
    };
    let start = if is_positioned { Some(find_position(node, channel, request, &mut result)?) } else { None };
    if let (Some(filter), Some(top)) = (filter, &start) {
        result.publications.retain(|publication| filter.matches(&publication.tags));
        // What does not pass counts as seen.
        result.offset = top.offset;
    }
    if takes_delta {
        forms::chain(outbox.wire().encoding, &mut result.publications)
            .map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)?;
    }
    if request.recover && !result.recovered && request.rejects_unrecovered() {
        return Err(ErrorCode::UNRECOVERABLE_POSITION.into());
    }
    let Grant { expiry, origin, token, .. } = grant;
    let subscription = Subscription { membership, expiry, origin, token, is_positioned };
    Ok(Placed { subscription, start, result })
}

/// Which publications the subscription takes, and in what form, as far as the channel allows the wish.
fn intake(channel: &ResolvedChannel<'_>, request: &SubscribeRequest) -> Result<Intake, ErrorCode> {
    let options = channel.options();
    let filter = match &request.tags_filter {
        None => None,
        Some(node) if options.allow_tags_filter => {
            Some(Box::new(TagsFilter::new(node).map_err(|_| ErrorCode::BAD_REQUEST)?))
        }
        Some(_) => return Err(ErrorCode::BAD_REQUEST),
    };
    // A publication that is left out is missing from the chain: with a filter there are no deltas.
    let takes_delta = request.delta == FOSSIL
        && options.allowed_delta_types.contains(&DeltaType::Fossil)
        && filter.is_none();
    Ok(Intake { takes_delta, filter })
}

/// Fills position and recovered publications into `result`; answers the position live delivery starts at.
fn find_position(
    node: &Node,
    channel: &ResolvedChannel<'_>,
    request: &SubscribeRequest,
    result: &mut SubscribeResult,
) -> Result<Position, ErrorCode> {
    // A client that says where it stands is not told again what it has.
    let (offset, epoch) =
        if request.recover { (request.offset, request.epoch.clone()) } else { Default::default() };
    let top = if (request.recover || channel.recovers_unasked()) && result.recoverable {
        let recovery = node.recover(channel, &StreamPosition { offset, epoch })?;
        result.was_recovering = request.recover;
        result.recovered = recovery.has_recovered;
        result.publications = recovery.publications;
        recovery.top
    } else {
        node.top(channel)?
    };
    result.epoch = top.epoch.to_string();
    // After a recovery the client counts up from where it was, publication by publication.
    result.offset = if result.recovered { offset } else { top.offset };
    Ok(top)
}
