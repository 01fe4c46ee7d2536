//! What a client without an upward stream posts instead.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use super::nullable;
use crate::Secret;

/// Commands of a client whose transport only goes down, posted to any node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EmulationRequest {
    /// The node that holds the connection, as its connect result said.
    #[serde(deserialize_with = "nullable")]
    pub node: String,
    /// The secret of the connection, as its connect result said.
    #[serde(deserialize_with = "nullable")]
    pub session: Secret,
    /// The commands: a frame in the encoding of the request.
    #[serde(deserialize_with = "text")]
    pub data: Bytes,
}

/// In JSON the frame is a string.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    Ok(nullable::<D, String>(deserializer)?.into())
}
