//! Reading a channel's past, and removing it.

use bowline_protocol::StreamPosition;
use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{Past, nullable, nullable_object};
use super::method::{Done, Request};
use crate::node::{ApiError, HistoryQuery};

/// Reads publications of the past; without a limit, only the top position.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    #[serde(deserialize_with = "nullable")]
    channel: String,
    #[serde(deserialize_with = "nullable")]
    limit: i32,
    #[serde(deserialize_with = "nullable_object")]
    since: Option<StreamPosition>,
    #[serde(deserialize_with = "nullable")]
    reverse: bool,
}

/// The publications and the top position of the stream.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    publications: Vec<Past>,
    epoch: String,
    offset: u64,
}

impl Request for History {
    type Answer = Page;

    async fn call(self, api: &Api) -> Result<Page, ApiError> {
        let query = HistoryQuery { limit: self.limit, since: self.since, is_reverse: self.reverse };
        let history = api.node().history(&self.channel, &query)?;
        Ok(Page {
            publications: history.publications.into_iter().map(Past).collect(),
            epoch: history.epoch,
            offset: history.offset,
        })
    }
}

/// Removes the publications of a channel; its position stays.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HistoryRemove {
    #[serde(deserialize_with = "nullable")]
    channel: String,
}

impl Request for HistoryRemove {
    type Answer = Done;

    async fn call(self, api: &Api) -> Result<Done, ApiError> {
        api.node().history_remove(&self.channel)?;
        Ok(Done {})
    }
}
