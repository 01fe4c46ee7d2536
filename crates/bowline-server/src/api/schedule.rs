//! What waits for its time: listing it, and cancelling it. It is put there by `publish` and `broadcast`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Api;
use super::json::{is_unset, nullable};
use super::method::Request;
use crate::node::ApiError;
use crate::scheduled::{CancelOutcome, Item};

/// Schedules on one page, if nothing is said, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

/// Lists publications that wait for their time, the earliest first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ScheduleList {
    /// Where they are to be published. Empty for every channel.
    #[serde(deserialize_with = "nullable")]
    pub(crate) channel: String,
    /// How many at most: 100 if it is 0, and no more than 1,000.
    #[serde(deserialize_with = "nullable")]
    pub(crate) limit: u32,
    /// The `cursor` of the page before. What recurs may be on two pages, if it was published in between.
    #[serde(deserialize_with = "nullable")]
    pub(crate) cursor: String,
}

/// One page.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Schedules {
    pub(crate) schedules: Vec<Listed>,
    /// Asks for the next page; nothing if this is the last.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) cursor: String,
    /// How many there are on all pages.
    pub(crate) total: u64,
}

/// A publication that waits for its time.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Listed {
    /// By which it is cancelled.
    pub(crate) id: String,
    pub(crate) channel: String,
    /// When it is due, in milliseconds since 1970.
    pub(crate) at: u64,
    /// The pattern of one that recurs.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) cron: String,
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) timezone: String,
    /// What is done if the time has passed by more than a minute: `run_once` or `skip`.
    pub(crate) missed: String,
    /// Bytes of its data.
    pub(crate) data_bytes: u64,
}

impl From<&Item> for Listed {
    fn from(item: &Item) -> Self {
        let entry = &item.entry;
        Self {
            id: entry.id.clone(),
            channel: entry.channel.clone(),
            at: entry.at_ms,
            cron: entry.cron.clone(),
            timezone: entry.timezone.clone(),
            missed: if entry.skips_missed { "skip" } else { "run_once" }.to_owned(),
            data_bytes: entry.data.len() as u64,
        }
    }
}

impl Request for ScheduleList {
    type Answer = Schedules;

    async fn call(self, api: &Api) -> Result<Schedules, ApiError> {
        let limit = match self.limit {
            0 => PAGE,
            limit => usize::try_from(limit).unwrap_or(LARGEST_PAGE).min(LARGEST_PAGE),
        };
        let after = match self.cursor.as_str() {
            "" => None,
            cursor => Some(read_cursor(cursor)?),
        };
        let (mut found, total) = api.node().scheduled().list(&self.channel, after, limit + 1)?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let cursor = match found.last() {
            Some((place, last)) if has_more => format!("{place}:{}", last.entry.id),
            _ => String::new(),
        };
        let schedules = found.iter().map(|(_, item)| Listed::from(&**item)).collect();
        Ok(Schedules { schedules, cursor, total: total as u64 })
    }
}

fn read_cursor(cursor: &str) -> Result<(u64, &str), ApiError> {
    let wrong = || ApiError {
        code: bowline_protocol::ErrorCode::BAD_REQUEST.code,
        message: "bad request: cursor: give the one that came with the page before".into(),
    };
    let (place, id) = cursor.split_once(':').ok_or_else(wrong)?;
    Ok((place.parse().map_err(|_| wrong())?, id))
}

/// Cancels a publication that waits for its time.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct ScheduleCancel {
    /// The `schedule_id` that `publish` was given, or has answered.
    #[serde(deserialize_with = "nullable")]
    pub(crate) id: String,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CancelResult {
    /// `cancelled`: it is not published any more, also if it was cancelled before. `too_late`: it is published, or about to
    /// be. `unknown`: there is none of this id, or it ended long ago or before a restart.
    pub(crate) outcome: String,
}

impl Request for ScheduleCancel {
    type Answer = CancelResult;

    async fn call(self, api: &Api) -> Result<CancelResult, ApiError> {
        let outcome = match api.node().scheduled().cancel(&self.id).await? {
            CancelOutcome::Cancelled => "cancelled",
            CancelOutcome::TooLate => "too_late",
            CancelOutcome::Unknown => "unknown",
        };
        Ok(CancelResult { outcome: outcome.to_owned() })
    }
}
