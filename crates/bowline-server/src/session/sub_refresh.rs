//! The sub_refresh command: a new subscription token in place of one that expires.

use bowline_protocol::{CommandResult, Disconnect, ErrorCode, SubRefreshRequest, SubRefreshResult};

use super::Session;
use super::rejection::Rejection;
use crate::node::expiry::Expiry;
use crate::node::revoked::TokenTrace;
use crate::token::unix_now;

impl Session {
    pub(super) fn sub_refresh(&self, request: &SubRefreshRequest) -> Result<CommandResult, Rejection> {
        if request.refresh_type != 0 {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }
        if self.held()?.subscriptions.find(&request.channel).is_none() {
            return Err(ErrorCode::PERMISSION_DENIED.into());
        }
        if request.token.is_empty() {
            return Err(ErrorCode::BAD_REQUEST.into());
        }
        let now = unix_now();
        let claims = self.verify(
            self.info()?,
            request.token.expose(),
            &request.channel,
            now,
            Disconnect::INVALID_TOKEN,
        )?;
        let expiry = Expiry::at_unix(claims.expire_at, now).ok_or(ErrorCode::EXPIRED)?;
        let token = TokenTrace::of(claims.id, claims.issued_at);
        let mut held = self.held()?;
        self.require_valid(Some(&token), &request.channel)?;
        if let Some(subscription) = held.subscriptions.find_mut(&request.channel) {
            subscription.expiry = expiry;
            subscription.token = Some(Box::new(token));
        }
        drop(held);
        Ok(CommandResult::SubRefresh(SubRefreshResult {
            expires: expiry.is_some(),
            ttl: expiry.map_or(0, Expiry::ttl_seconds),
        }))
    }
}
