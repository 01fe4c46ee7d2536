//! What is done to the connections of a user: on all of them, unless `client` or `session` names one.

use bowline_protocol::{Disconnect as Reason, ErrorCode, Payload, UnsubscribeCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::json::{Since, data_or_b64, nullable, nullable_object};
use super::method::{Done, Request};
use crate::node::{ApiError, RefreshParams, SubscribeParams, Target};
use crate::token::Overrides;

/// Subscribes the connections of a user to a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Subscribe {
    /// The user whose connections are subscribed.
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) channel: String,
    /// What others see of the subscription.
    #[schemars(with = "serde_json::Value")]
    pub(crate) info: Payload,
    /// The same in base64; wins over `info`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) b64info: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) client: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) session: String,
    /// What the client is told with the subscription.
    #[schemars(with = "serde_json::Value")]
    pub(crate) data: Payload,
    /// The same in base64; wins over `data`.
    #[serde(deserialize_with = "nullable")]
    pub(crate) b64data: String,
    /// Sends what was published after this position.
    #[serde(deserialize_with = "nullable_object")]
    pub(crate) recover_since: Option<Since>,
    /// When the subscription expires, in seconds since 1970. 0 for never.
    #[serde(deserialize_with = "nullable")]
    pub(crate) expire_at: i64,
    /// What differs from the options of the channel's namespace.
    #[serde(rename = "override", deserialize_with = "nullable_object")]
    pub(crate) overrides: Option<Override>,
}

/// Options of a subscription that differ from those of its namespace.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Override {
    #[serde(deserialize_with = "nullable_object")]
    pub(crate) presence: Option<Flag>,
    #[serde(deserialize_with = "nullable_object")]
    pub(crate) join_leave: Option<Flag>,
    #[serde(deserialize_with = "nullable_object")]
    pub(crate) force_push_join_leave: Option<Flag>,
    #[serde(deserialize_with = "nullable_object")]
    pub(crate) force_positioning: Option<Flag>,
    #[serde(deserialize_with = "nullable_object")]
    pub(crate) force_recovery: Option<Flag>,
}

/// A switch that can be missing.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Flag {
    #[serde(deserialize_with = "nullable")]
    pub(crate) value: bool,
}

impl From<Override> for Overrides {
    fn from(wish: Override) -> Self {
        let value = |flag: Option<Flag>| flag.map(|flag| flag.value);
        Self {
            presence: value(wish.presence),
            join_leave: value(wish.join_leave),
            force_push_join_leave: value(wish.force_push_join_leave),
            force_positioning: value(wish.force_positioning),
            force_recovery: value(wish.force_recovery),
        }
    }
}

impl Request for Subscribe {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        check_user(&self.user)?;
        let params = SubscribeParams {
            info: data_or_b64(self.info, &self.b64info)?,
            data: data_or_b64(self.data, &self.b64data)?,
            recover_since: self.recover_since.map(Into::into),
            expire_at: unix_time(self.expire_at),
            overrides: self.overrides.unwrap_or_default().into(),
        };
        let target = Target { client: self.client, session: self.session, whitelist: Vec::new() };
        api.node().subscribe(&self.user, &self.channel, &target, &params)?;
        Ok(Done {})
    }
}

/// Renews the connections of a user, or ends them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Refresh {
    /// The user whose connections are meant.
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) client: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) session: String,
    /// Closes them as expired.
    #[serde(deserialize_with = "nullable")]
    pub(crate) expired: bool,
    /// When they expire from now on, in seconds since 1970. 0 for never.
    #[serde(deserialize_with = "nullable")]
    pub(crate) expire_at: i64,
    /// What others see of them from now on.
    #[schemars(with = "serde_json::Value")]
    pub(crate) info: Payload,
}

impl Request for Refresh {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        check_user(&self.user)?;
        let params =
            RefreshParams { is_expired: self.expired, expire_at: unix_time(self.expire_at), info: self.info };
        let target = Target { client: self.client, session: self.session, whitelist: Vec::new() };
        api.node().refresh(&self.user, &target, &params);
        Ok(Done {})
    }
}

/// Seconds since 1970, where 0 is never. Before 1970 is as much in the past as its first second.
pub(super) fn unix_time(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(1)
}

/// Ends the subscriptions of a user to a channel.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Unsubscribe {
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) channel: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) client: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) session: String,
}

impl Request for Unsubscribe {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        let Self { user, channel, client, session } = self;
        check_user(&user)?;
        let target = Target { client, session, whitelist: Vec::new() };
        api.node().unsubscribe(&user, &channel, &target, &UnsubscribeCode::SERVER)?;
        Ok(Done {})
    }
}

/// Closes the connections of a user.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Disconnect {
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) client: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) session: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) whitelist: Vec<String>,
    #[serde(deserialize_with = "nullable_object")]
    pub(crate) disconnect: Option<Wish>,
}

/// What the clients are to be told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "DisconnectReason")]
pub(crate) struct Wish {
    #[serde(deserialize_with = "nullable")]
    pub(crate) code: u32,
    #[serde(deserialize_with = "nullable")]
    pub(crate) reason: String,
}

impl Request for Disconnect {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        let Self { user, client, session, whitelist, disconnect } = self;
        check_user(&user)?;
        let reason = disconnect.unwrap_or_default().reason()?;
        api.node().disconnect(&user, &Target { client, session, whitelist }, &reason);
        Ok(Done {})
    }
}

/// Bytes of the longest reason: a close frame holds 125, of which the code takes two.
const MAX_REASON_BYTES: usize = 123;

impl Wish {
    /// The disconnect to send: what is unset is that of a forced disconnect.
    fn reason(self) -> Result<Reason, ErrorCode> {
        let Reason { code: default_code, reason: default_reason } = Reason::FORCE_DISCONNECT;
        let code = match u16::try_from(self.code) {
            Ok(0) => default_code,
            // Other codes mean something to WebSockets themselves, or cannot be sent.
            Ok(code @ 3000..=4999) => code,
            _ => return Err(ErrorCode::BAD_REQUEST),
        };
        let reason = if self.reason.is_empty() { default_reason } else { self.reason.into() };
        if reason.len() > MAX_REASON_BYTES {
            Err(ErrorCode::BAD_REQUEST)
        } else {
            Ok(Reason { code, reason })
        }
    }
}

/// Anonymous connections are not those of one user, so nothing can be done to them together.
fn check_user(user: &str) -> Result<(), ApiError> {
    if user.is_empty() { Err(ErrorCode::BAD_REQUEST.into()) } else { Ok(()) }
}
