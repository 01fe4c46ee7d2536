//! The refresh command: a new connection token in place of one that expires.

use std::collections::BTreeSet;

use bowline_protocol::{CommandResult, Disconnect, RefreshRequest, RefreshResult};

use super::Session;
use super::connect::expiry;
use super::rejection::Rejection;
use super::timer::Expiry;
use crate::token::{TokenError, unix_now};

impl Session {
    pub(super) fn refresh(&mut self, request: &RefreshRequest) -> Result<CommandResult, Rejection> {
        let is_expected = self.connected().is_some_and(|connected| connected.refreshes);
        if !is_expected {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let now = unix_now();
        let claims =
            self.node.tokens().verify_connection(request.token.expose(), now).map_err(
                |error| match error {
                    TokenError::Expired => Disconnect::EXPIRED,
                    _ => Disconnect::INVALID_TOKEN,
                },
            )?;
        if claims.user != self.info()?.user {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        let given: BTreeSet<&str> = claims.subscriptions.keys().map(String::as_str).collect();
        let current: BTreeSet<&str> = self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.membership.role().is_server_side)
            .map(|subscription| &**subscription.membership.channel())
            .collect();
        if given != current {
            // Connecting anew is how a client gets to another set of channels.
            return Err(Disconnect::INSUFFICIENT_STATE.into());
        }
        let is_insecure = self.node.config().client.insecure;
        let expiry = expiry(claims.expire_at.filter(|_| !is_insecure), now).ok_or(Disconnect::EXPIRED)?;
        if let Some(connected) = self.connected_mut() {
            connected.expiry = expiry;
        }
        Ok(CommandResult::Refresh(RefreshResult {
            expires: expiry.is_some(),
            ttl: expiry.map_or(0, Expiry::ttl_seconds),
            ..RefreshResult::default()
        }))
    }
}
