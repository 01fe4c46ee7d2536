//! Taking access back: users that are blocked, tokens that are no longer good.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::json::nullable;
use super::method::{Done, Request};
use super::user::unix_time;
use crate::node::ApiError;

/// Refuses a token, and ends what it granted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct RevokeToken {
    /// The claim `jti` of the token.
    #[serde(deserialize_with = "nullable")]
    pub(crate) uid: String,
    /// When this may be forgotten, in seconds since 1970: the claim `exp` of the token. 0 for when the process ends.
    #[serde(deserialize_with = "nullable")]
    pub(crate) expire_at: i64,
}

impl Request for RevokeToken {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        api.node().revoke_token(&self.uid, unix_time(self.expire_at))?;
        Ok(Done {})
    }
}

/// Refuses the tokens of a user from before a time, and ends what they granted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct InvalidateUserTokens {
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    /// Tokens whose claim `iat` is smaller, or that have none, are refused. In seconds since 1970; 0 for now.
    #[serde(deserialize_with = "nullable")]
    pub(crate) issued_before: i64,
    /// Means subscription tokens for this channel only.
    #[serde(deserialize_with = "nullable")]
    pub(crate) channel: String,
    /// When this may be forgotten, in seconds since 1970: when the last of those tokens has expired. 0 for when the process
    /// ends.
    #[serde(deserialize_with = "nullable")]
    pub(crate) expire_at: i64,
}

impl Request for InvalidateUserTokens {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        let Self { user, issued_before, channel, expire_at } = self;
        let (issued_before, expire_at) = (unix_time(issued_before), unix_time(expire_at));
        api.node().invalidate_user_tokens(&user, &channel, issued_before, expire_at)?;
        Ok(Done {})
    }
}

/// Closes the connections of a user, and lets the user in no more.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct BlockUser {
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    /// When the user may come again, in seconds since 1970. 0 for when the process ends.
    #[serde(deserialize_with = "nullable")]
    pub(crate) expire_at: i64,
}

impl Request for BlockUser {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        api.node().block_user(&self.user, unix_time(self.expire_at))?;
        Ok(Done {})
    }
}

/// Lets a user in again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct UnblockUser {
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
}

impl Request for UnblockUser {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        api.node().unblock_user(&self.user)?;
        Ok(Done {})
    }
}
