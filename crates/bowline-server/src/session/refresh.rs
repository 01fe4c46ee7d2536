//! The refresh command: a new connection token in place of one that expires.

use std::collections::BTreeSet;

use bowline_protocol::{CommandResult, Disconnect, ErrorCode, RefreshRequest, RefreshResult};

use super::Session;
use super::rejection::Rejection;
use crate::node::expiry::Expiry;
use crate::node::revoked::{GrantOf, TokenTrace};
use crate::node::subscriptions::Origin;
use crate::token::{TokenError, unix_now};

impl Session {
    pub(super) fn refresh(&self, request: &RefreshRequest) -> Result<CommandResult, Rejection> {
        let is_expected = self.connected().is_some_and(|connected| connected.refreshes);
        if !is_expected {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let now = unix_now();
        let claims =
            self.node.tokens().verify_connection(request.token.expose(), now).map_err(
                |error| match error {
                    TokenError::Expired => Rejection::from(Disconnect::EXPIRED),
                    TokenError::KeysUnavailable => ErrorCode::INTERNAL.into(),
                    _ => Disconnect::INVALID_TOKEN.into(),
                },
            )?;
        if claims.user != self.info()?.user {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        let given: BTreeSet<&str> = claims.subscriptions.keys().map(String::as_str).collect();
        let mut held = self.held()?;
        // What the server gave besides, such as the personal channel, is not the token's to name.
        let current: BTreeSet<&str> = held
            .subscriptions
            .iter()
            .filter(|subscription| subscription.origin == Origin::Token)
            .map(|subscription| &**subscription.membership.channel())
            .collect();
        if given != current {
            // Connecting anew is how a client gets to another set of channels.
            return Err(Disconnect::INSUFFICIENT_STATE.into());
        }
        let is_insecure = self.node.config().client.insecure;
        let expire_at = claims.expire_at.filter(|_| !is_insecure);
        let expiry = Expiry::at_unix(expire_at, now).ok_or(Disconnect::EXPIRED)?;
        let token = TokenTrace::of(claims.id, claims.issued_at);
        if self.node.revoked().refuses(&claims.user, &token, GrantOf::Connection) {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        held.expiry = expiry;
        held.token = Some(Box::new(token));
        Ok(CommandResult::Refresh(RefreshResult {
            expires: expiry.is_some(),
            ttl: expiry.map_or(0, Expiry::ttl_seconds),
            ..RefreshResult::default()
        }))
    }
}
