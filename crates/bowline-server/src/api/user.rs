//! What is done to the connections of a user.

use bowline_protocol::{Disconnect as Reason, ErrorCode, UnsubscribeCode};
use serde::Deserialize;

use super::Api;
use super::json::{nullable, nullable_object};
use super::method::{Done, Request};
use crate::node::{ApiError, Target};

/// Ends the subscriptions of a user to a channel.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Unsubscribe {
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    channel: String,
    #[serde(deserialize_with = "nullable")]
    client: String,
    #[serde(deserialize_with = "nullable")]
    session: String,
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
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disconnect {
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    client: String,
    #[serde(deserialize_with = "nullable")]
    session: String,
    #[serde(deserialize_with = "nullable")]
    whitelist: Vec<String>,
    #[serde(deserialize_with = "nullable_object")]
    disconnect: Option<Wish>,
}

/// What the clients are to be told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wish {
    #[serde(deserialize_with = "nullable")]
    code: u32,
    #[serde(deserialize_with = "nullable")]
    reason: String,
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
