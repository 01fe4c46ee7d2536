//! Whether a client may publish, and what becomes of it, asked of an application.

use std::collections::BTreeMap;

use bowline_protocol::{Payload, PublishRequest};
use serde::Deserialize;

use super::Ask;
use super::answer::{Refused, Unfit, either};
use super::event::{Event, Fields};
use super::hook::AskError;

/// A client wants to publish.
#[derive(Debug)]
pub(crate) struct Publish {
    channel: String,
    data: Payload,
}

/// What an application makes of a publication.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) data: Payload,
    pub(super) b64data: Option<String>,
    pub(super) skip_history: Option<bool>,
    pub(super) tags: Option<BTreeMap<String, String>>,
    pub(super) idempotency_key: Option<String>,
    pub(super) delta: Option<bool>,
    pub(super) version: Option<u64>,
    pub(super) version_epoch: Option<String>,
}

/// A publication as an application lets it pass.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Passed {
    /// What is published instead of what the client sent; empty for no change.
    pub(crate) data: Payload,
    pub(crate) skip_history: bool,
    pub(crate) tags: BTreeMap<String, String>,
    /// Empty for none.
    pub(crate) idempotency_key: String,
    pub(crate) delta: bool,
    /// 0 for none.
    pub(crate) version: u64,
    pub(crate) version_epoch: String,
}

impl Event for Publish {
    type Answer = Answer;

    fn fields(&self) -> Fields<'_> {
        Fields { channel: Some(&self.channel), data: Some(&self.data), ..Fields::default() }
    }
}

impl Publish {
    pub(super) fn new(request: &PublishRequest) -> Self {
        Self { channel: request.channel.clone(), data: request.data.clone() }
    }
}

impl Ask<Publish> {
    /// Asks. An answer that holds neither a result nor anything else allows nothing.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the question is taken back; the application may have done what it was asked to.
    pub(crate) async fn ask(self) -> Result<Passed, Refused> {
        let answer = self.hook.ask(&self.about, &self.event).await.map_err(AskError::into_refused)?;
        self.hook
            .read(answer.ok_or(Unfit("it holds no `result`; an empty one allows")).and_then(Answer::read))
    }
}

impl Answer {
    fn read(self) -> Result<Passed, Unfit> {
        Ok(Passed {
            data: either(self.data, self.b64data)?,
            skip_history: self.skip_history.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            idempotency_key: self.idempotency_key.unwrap_or_default(),
            delta: self.delta.unwrap_or_default(),
            version: self.version.unwrap_or_default(),
            version_epoch: self.version_epoch.unwrap_or_default(),
        })
    }
}
