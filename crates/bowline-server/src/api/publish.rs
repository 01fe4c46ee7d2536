//! Publishing into one channel and into many.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_protocol::{ErrorCode, Payload, StreamPosition};
use serde::{Deserialize, Serialize};
use tokio::task::coop;

use super::Api;
use super::json::{is_unset, nullable};
use super::method::Request;
use super::respond::ErrorBody;
use crate::node::{ApiError, PublishParams};

/// What is published and where: `publish` reads `channel`, `broadcast` reads `channels`, the rest is the same.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(deserialize_with = "nullable")]
    channel: String,
    /// Bounded by the size of the body alone: what is kept for a channel is of the order of its name.
    #[serde(deserialize_with = "nullable")]
    channels: Vec<String>,
    data: Payload,
    #[serde(deserialize_with = "nullable")]
    b64data: String,
    #[serde(deserialize_with = "nullable")]
    skip_history: bool,
    #[serde(deserialize_with = "nullable")]
    tags: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    idempotency_key: String,
    #[serde(deserialize_with = "nullable")]
    version: u64,
    #[serde(deserialize_with = "nullable")]
    version_epoch: String,
}

impl Fields {
    fn params(self) -> Result<PublishParams, ApiError> {
        let data = if self.b64data.is_empty() {
            self.data
        } else {
            // Opaque: these bytes may be JSON or not; the encoder of each client's protocol looks at them.
            Payload::opaque(BASE64_STANDARD.decode(self.b64data).map_err(|_| ErrorCode::BAD_REQUEST)?)
        };
        Ok(PublishParams {
            data,
            skip_history: self.skip_history,
            tags: self.tags,
            idempotency_key: self.idempotency_key,
            version: self.version,
            version_epoch: self.version_epoch,
        })
    }
}

/// Publishes into a channel.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Publish(Fields);

/// The publication's place in the channel's history; nothing if it was not kept.
#[derive(Debug, Serialize)]
pub(super) struct Position {
    #[serde(skip_serializing_if = "is_unset")]
    offset: u64,
    #[serde(skip_serializing_if = "is_unset")]
    epoch: String,
}

impl From<Option<StreamPosition>> for Position {
    fn from(position: Option<StreamPosition>) -> Self {
        let StreamPosition { offset, epoch } = position.unwrap_or_default();
        Self { offset, epoch }
    }
}

impl Request for Publish {
    type Answer = Position;

    async fn call(mut self, api: &Api) -> Result<Position, ApiError> {
        let channel = std::mem::take(&mut self.0.channel);
        api.node().publish(&channel, &self.0.params()?).map(Position::from)
    }
}

/// Publishes the same into many channels.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Broadcast(Fields);

/// What became of each channel, in the order of the request.
#[derive(Debug, Serialize)]
pub(super) struct Responses {
    responses: Vec<Response>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Response {
    Result(Position),
    Error(ErrorBody),
}

impl Request for Broadcast {
    type Answer = Responses;

    async fn call(mut self, api: &Api) -> Result<Responses, ApiError> {
        let channels = std::mem::take(&mut self.0.channels);
        if channels.is_empty() {
            return Err(ErrorCode::BAD_REQUEST.into());
        }
        let params = self.0.params()?;
        let mut responses = Vec::with_capacity(channels.len());
        for channel in &channels {
            // A body names tens of thousands of channels at most: others run in between.
            coop::consume_budget().await;
            responses.push(match api.node().publish(channel, &params) {
                Ok(position) => Response::Result(position.into()),
                Err(error) => Response::Error(error.into()),
            });
        }
        Ok(Responses { responses })
    }
}
