//! Publishing into one channel and into many.

use std::collections::BTreeMap;
use std::mem;

use bowline_protocol::{ErrorCode, Payload, StreamPosition};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::coop;

use super::Api;
use super::json::{data_or_b64, is_unset, nullable};
use super::method::Request;
use super::respond::ErrorBody;
use crate::node::{ApiError, PublishParams, Publishing};
use crate::scheduled::{Item, Putting, When, WhenError};

/// Declares a request to publish: where to, and what, which is the same for all. Not flattened, because that would decode
/// application data and encode it anew.
macro_rules! publication {
    ($(#[doc = $about:literal])+ $name:ident { $(#[doc = $where_doc:literal])+ $place:ident: $places:ty }) => {
        $(#[doc = $about])+
        #[derive(Debug, Default, Deserialize, JsonSchema)]
        #[serde(default)]
        pub(crate) struct $name {
            $(#[doc = $where_doc])+
            #[serde(deserialize_with = "nullable")]
            pub(crate) $place: $places,
            /// What is published.
            #[schemars(with = "serde_json::Value")]
            pub(crate) data: Payload,
            /// What is published, in base64; wins over `data`.
            #[serde(deserialize_with = "nullable")]
            pub(crate) b64data: String,
            /// Delivers without keeping it in history.
            #[serde(deserialize_with = "nullable")]
            pub(crate) skip_history: bool,
            /// Labels.
            #[serde(deserialize_with = "nullable")]
            pub(crate) tags: BTreeMap<String, String>,
            /// A repeat within five minutes publishes nothing and answers the first position.
            #[serde(deserialize_with = "nullable")]
            pub(crate) idempotency_key: String,
            /// The version of the state the data is: one that is not above the last is not published.
            #[serde(deserialize_with = "nullable")]
            pub(crate) version: u64,
            /// Names the counter `version` comes from.
            #[serde(deserialize_with = "nullable")]
            pub(crate) version_epoch: String,
            /// Lets subscribers that negotiated deltas get the difference to the publication before.
            #[serde(deserialize_with = "nullable")]
            pub(crate) delta: bool,
            /// Publishes so many milliseconds from now.
            #[serde(deserialize_with = "nullable")]
            pub(crate) delay: u64,
            /// Publishes at this time, in milliseconds since 1970. One that is past by more than a minute is refused.
            #[serde(deserialize_with = "nullable")]
            pub(crate) at: u64,
            /// Publishes again and again, at the times that this cron pattern names; needs a `schedule_id`.
            #[serde(deserialize_with = "nullable")]
            pub(crate) cron: String,
            /// The time zone of `cron`, such as `Europe/Berlin`; `UTC` if it is not given.
            #[serde(deserialize_with = "nullable")]
            pub(crate) timezone: String,
            /// A name of your own for what waits: what has it already is replaced. With `delay`, `at` or `cron`.
            #[serde(deserialize_with = "nullable")]
            pub(crate) schedule_id: String,
            /// What to do if the time has passed by more than a minute, because no server ran: `run_once`, which is what is
            /// done if nothing is said, or `skip`.
            #[serde(deserialize_with = "nullable")]
            pub(crate) missed: String,
        }

        impl $name {
            /// Whether nothing is said of a time.
            fn is_now(&self) -> bool {
                let texts = [&self.cron, &self.timezone, &self.schedule_id, &self.missed];
                self.delay == 0 && self.at == 0 && texts.iter().all(|text| text.is_empty())
            }

            /// When it is to be published.
            fn when(&mut self) -> When {
                When {
                    delay_ms: self.delay,
                    at_ms: self.at,
                    cron: mem::take(&mut self.cron),
                    timezone: mem::take(&mut self.timezone),
                    id: mem::take(&mut self.schedule_id),
                    missed: mem::take(&mut self.missed),
                }
            }

            fn params(self) -> Result<PublishParams, ApiError> {
                Ok(PublishParams {
                    data: data_or_b64(self.data, &self.b64data)?,
                    skip_history: self.skip_history,
                    tags: self.tags,
                    idempotency_key: self.idempotency_key,
                    version: self.version,
                    version_epoch: self.version_epoch,
                    makes_delta: self.delta,
                })
            }
        }
    };
}

publication! {
    /// Publishes into a channel.
    Publish {
        /// The channel.
        channel: String
    }
}

publication! {
    /// Publishes the same into many channels.
    Broadcast {
        /// The channels. Bounded by the size of the body alone: what is kept for a channel is of the order of its name.
        channels: Vec<String>
    }
}

/// The publication's place in the channel's history; nothing if it was not kept. Or what waits for its time.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Position {
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) offset: u64,
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) epoch: String,
    /// The id of what waits, by which it can be cancelled.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) schedule_id: String,
    /// When it is due, in milliseconds since 1970.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) at: u64,
}

impl From<Option<StreamPosition>> for Position {
    fn from(position: Option<StreamPosition>) -> Self {
        let StreamPosition { offset, epoch } = position.unwrap_or_default();
        Self { offset, epoch, ..Self::default() }
    }
}

/// A publication that has its place in its channel, or among what waits for its time, and is not known to be kept.
#[derive(Debug)]
pub(crate) enum Placed {
    Now(Publishing),
    Later(Putting),
}

impl Placed {
    /// Waits until it is kept.
    pub(super) async fn kept(self) -> Result<Position, ApiError> {
        match self {
            Self::Now(publishing) => publishing.await.map(Position::from),
            Self::Later(putting) => Ok(Position::of_schedule(&*putting.kept().await?)),
        }
    }
}

impl Publish {
    /// Gives the publication its place; many are kept together.
    pub(super) fn begin(mut self, api: &Api) -> Result<Placed, ApiError> {
        let (is_now, when) = (self.is_now(), self.when());
        let channel = mem::take(&mut self.channel);
        let params = self.params()?;
        if is_now {
            return Ok(Placed::Now(api.node().publish(&channel, &params)));
        }
        api.node().schedule(&channel, &params, when).map(Placed::Later)
    }

    /// Whether it may take the place of another: such a one is busy until that is kept.
    pub(super) fn is_named(&self) -> bool {
        !self.schedule_id.is_empty()
    }
}

impl Request for Publish {
    type Answer = Position;

    async fn call(self, api: &Api) -> Result<Position, ApiError> {
        self.begin(api)?.kept().await
    }
}

impl Position {
    /// Nothing is published yet: what waits, and until when.
    fn of_schedule(item: &Item) -> Self {
        Self { schedule_id: item.entry.id.clone(), at: item.entry.at_ms, ..Self::default() }
    }
}

/// What became of each channel, in the order of the request.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Responses {
    pub(crate) responses: Vec<Response>,
}

/// What became of one channel.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    Result(Position),
    Error(ErrorBody),
}

impl Broadcast {
    /// Gives the publications their places; they are kept together.
    pub(super) async fn begin(mut self, api: &Api) -> Result<Vec<Result<Placed, ApiError>>, ApiError> {
        let (is_now, when) = (self.is_now(), self.when());
        let channels = mem::take(&mut self.channels);
        if channels.is_empty() {
            return Err(ErrorCode::BAD_REQUEST.into());
        }
        if !when.id.is_empty() || !when.cron.is_empty() {
            return Err(WhenError::Broadcast.into());
        }
        let params = self.params()?;
        let mut placed = Vec::with_capacity(channels.len());
        for channel in &channels {
            // A body names tens of thousands of channels at most: others run in between.
            coop::consume_budget().await;
            placed.push(if is_now {
                Ok(Placed::Now(api.node().publish(channel, &params)))
            } else {
                api.node().schedule(channel, &params, when.clone()).map(Placed::Later)
            });
        }
        Ok(placed)
    }
}

impl Responses {
    /// What became of the channels of a broadcast.
    pub(super) async fn of(placed: Vec<Result<Placed, ApiError>>) -> Self {
        let mut responses = Vec::with_capacity(placed.len());
        for placed in placed {
            let kept = match placed {
                Ok(placed) => placed.kept().await,
                Err(error) => Err(error),
            };
            responses.push(match kept {
                Ok(position) => Response::Result(position),
                Err(error) => Response::Error(error.into()),
            });
        }
        Self { responses }
    }
}

impl Request for Broadcast {
    type Answer = Responses;

    async fn call(self, api: &Api) -> Result<Responses, ApiError> {
        Ok(Responses::of(self.begin(api).await?).await)
    }
}
