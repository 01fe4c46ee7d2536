//! Methods that exist elsewhere and have nothing behind them here.

use bowline_protocol::ErrorCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::method::{Done, Request};
use crate::node::ApiError;

/// Whatever is asked, it is not available.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Absent {}

impl Request for Absent {
    type Answer = Done;

    async fn call(self, _api: &Api) -> Result<Done, ApiError> {
        Err(ErrorCode::NOT_AVAILABLE.into())
    }
}
