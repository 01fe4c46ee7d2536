//! The sub_refresh command: a new subscription token in place of one that expires.

use bowline_protocol::{CommandResult, Disconnect, ErrorCode, SubRefreshRequest, SubRefreshResult};

use super::Session;
use super::connect::expiry;
use super::rejection::Rejection;
use super::timer::Expiry;
use crate::token::unix_now;

impl Session {
    pub(super) fn sub_refresh(&mut self, request: &SubRefreshRequest) -> Result<CommandResult, Rejection> {
        if request.refresh_type != 0 {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }
        if self.subscriptions.find(&request.channel).is_none() {
            return Err(ErrorCode::PERMISSION_DENIED.into());
        }
        if request.token.is_empty() {
            return Err(ErrorCode::BAD_REQUEST.into());
        }
        let now = unix_now();
        let claims = self.verify(request.token.expose(), &request.channel, now, Disconnect::INVALID_TOKEN)?;
        let expiry = expiry(claims.expire_at, now).ok_or(ErrorCode::EXPIRED)?;
        if let Some(subscription) = self.subscriptions.find_mut(&request.channel) {
            subscription.expiry = expiry;
        }
        Ok(CommandResult::SubRefresh(SubRefreshResult {
            expires: expiry.is_some(),
            ttl: expiry.map_or(0, Expiry::ttl_seconds),
        }))
    }
}
