//! Calling extensions of the server.

use bowline_protocol::{ErrorCode, Payload};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{Embedded, nullable};
use super::method::Request;
use super::respond;
use crate::node::ApiError;

/// Calls an extension of the server by its name. There are none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Rpc {
    /// Name of the extension.
    #[serde(deserialize_with = "nullable")]
    pub(crate) method: String,
    /// What it is given.
    #[schemars(with = "serde_json::Value")]
    pub(crate) params: Payload,
}

/// What the extension answers.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Called {
    #[schemars(with = "serde_json::Value")]
    pub(crate) data: Embedded,
}

impl Request for Rpc {
    type Answer = Called;

    async fn call(self, _api: &Api) -> Result<Called, ApiError> {
        if self.method.is_empty() { Err(ErrorCode::BAD_REQUEST.into()) } else { Err(respond::not_found()) }
    }
}
