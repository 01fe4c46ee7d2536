//! Whether a client may subscribe, asked of an application where the client brings no token.

use bowline_protocol::{Payload, SubscribeRequest};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Ask;
use super::answer::{Refused, Unfit, either, either_json};
use super::event::{Event, Fields};
use super::hook::AskError;
use crate::token::Overrides;

/// A client wants to subscribe.
#[derive(Debug)]
pub(crate) struct Subscribe {
    channel: String,
    data: Payload,
}

/// What an application says about a subscription.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) expire_at: Option<u64>,
    pub(super) info: Payload,
    pub(super) b64info: Option<String>,
    pub(super) data: Payload,
    pub(super) b64data: Option<String>,
    #[serde(rename = "override")]
    pub(super) overrides: Option<RawOverrides>,
    /// Neither is known here; left out, they would allow what the application does not.
    pub(super) allow: Option<IgnoredAny>,
    pub(super) server_tags_filter: Option<IgnoredAny>,
}

/// What differs from the channel's options.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawOverrides {
    pub(super) presence: Option<Flag>,
    pub(super) join_leave: Option<Flag>,
    pub(super) force_push_join_leave: Option<Flag>,
    pub(super) force_positioning: Option<Flag>,
    pub(super) force_recovery: Option<Flag>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Flag {
    pub(super) value: bool,
}

/// A subscription as an application allows it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Allowed {
    /// In seconds since 1970; 0 for never.
    pub(crate) expire_at: u64,
    /// What others see of the client in the channel besides what they see of it anywhere.
    pub(crate) info: Payload,
    /// What the client is told.
    pub(crate) data: Payload,
    pub(crate) overrides: Overrides,
}

impl From<RawOverrides> for Overrides {
    fn from(raw: RawOverrides) -> Self {
        let value = |flag: Option<Flag>| flag.map(|flag| flag.value);
        Self {
            presence: value(raw.presence),
            join_leave: value(raw.join_leave),
            force_push_join_leave: value(raw.force_push_join_leave),
            force_positioning: value(raw.force_positioning),
            force_recovery: value(raw.force_recovery),
        }
    }
}

impl Event for Subscribe {
    type Answer = Answer;

    fn fields(&self) -> Fields<'_> {
        Fields { channel: Some(&self.channel), data: Some(&self.data), ..Fields::default() }
    }
}

impl Subscribe {
    pub(super) fn new(request: &SubscribeRequest) -> Self {
        Self { channel: request.channel.clone(), data: request.data.clone() }
    }
}

impl Ask<Subscribe> {
    /// Asks. An answer that holds neither a result nor anything else allows nothing.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the question is taken back; the application may have done what it was asked to.
    pub(crate) async fn ask(self) -> Result<Allowed, Refused> {
        let answer = self.hook.ask(&self.about, &self.event).await.map_err(AskError::into_refused)?;
        self.hook
            .read(answer.ok_or(Unfit("it holds no `result`; an empty one allows")).and_then(Answer::read))
    }
}

impl Answer {
    fn read(self) -> Result<Allowed, Unfit> {
        if self.allow.is_some() || self.server_tags_filter.is_some() {
            return Err(Unfit("`allow` and `server_tags_filter` are not known here"));
        }
        Ok(Allowed {
            expire_at: self.expire_at.unwrap_or_default(),
            info: either_json(self.info, self.b64info)?,
            data: either(self.data, self.b64data)?,
            overrides: self.overrides.unwrap_or_default().into(),
        })
    }
}
