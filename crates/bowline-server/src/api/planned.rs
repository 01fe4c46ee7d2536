//! Methods that exist and have nothing behind them.

use bowline_protocol::ErrorCode;
use serde::Deserialize;

use super::Api;
use super::json::nullable;
use super::method::{Done, Request};
use super::respond;
use crate::node::ApiError;

/// A method that is planned: whatever is asked, it is not available.
#[derive(Debug, Deserialize)]
pub(super) struct Planned {}

impl Request for Planned {
    type Answer = Done;

    async fn call(self, _api: &Api) -> Result<Done, ApiError> {
        Err(ErrorCode::NOT_AVAILABLE.into())
    }
}

/// Calls an extension of the server by its name. There are none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rpc {
    #[serde(deserialize_with = "nullable")]
    method: String,
}

impl Request for Rpc {
    type Answer = Done;

    async fn call(self, _api: &Api) -> Result<Done, ApiError> {
        if self.method.is_empty() { Err(ErrorCode::BAD_REQUEST.into()) } else { Err(respond::not_found()) }
    }
}
