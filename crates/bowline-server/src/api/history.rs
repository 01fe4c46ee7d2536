//! Reading a channel's past, and removing it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{Past, Since, nullable, nullable_object};
use super::method::{Done, Request};
use crate::node::{ApiError, HistoryQuery, not_committed};

/// Reads publications of the past; without a limit, only the top position.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct History {
    #[serde(deserialize_with = "nullable")]
    pub(crate) channel: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) limit: i32,
    #[serde(deserialize_with = "nullable_object")]
    pub(crate) since: Option<Since>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) reverse: bool,
}

/// The publications and the top position of the stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Page {
    pub(crate) publications: Vec<Past>,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

impl Request for History {
    type Answer = Page;

    async fn call(self, api: &Api) -> Result<Page, ApiError> {
        let query =
            HistoryQuery { limit: self.limit, since: self.since.map(Into::into), is_reverse: self.reverse };
        let history = api.node().history(&self.channel, &query)?;
        Ok(Page {
            publications: history.publications.into_iter().map(Past::from).collect(),
            epoch: history.epoch,
            offset: history.offset,
        })
    }
}

/// Removes the publications of a channel; its position stays.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct HistoryRemove {
    #[serde(deserialize_with = "nullable")]
    pub(crate) channel: String,
}

impl Request for HistoryRemove {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        let removed = api.node().history_remove(&self.channel)?;
        removed.await.map_err(|error| ApiError::from(not_committed(&error)))?;
        Ok(Done {})
    }
}
