//! Who connects, asked of an application when the client brings no token.

use std::collections::BTreeMap;

use bowline_protocol::{ConnectRequest, Payload};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Ask;
use super::answer::{Refused, Unfit, either, either_json};
use super::event::{Event, Fields};
use super::hook::AskError;
use super::subscribe::RawOverrides;
use crate::token::ServerSubscription;

/// A client without a token wants to connect.
#[derive(Debug)]
pub(crate) struct Connect {
    data: Payload,
    name: String,
    version: String,
    /// The channels it wishes to be subscribed to, and may or may not be.
    channels: Vec<String>,
}

/// What an application says about a connection.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) user: Option<String>,
    pub(super) expire_at: Option<u64>,
    pub(super) info: Payload,
    pub(super) b64info: Option<String>,
    pub(super) data: Payload,
    pub(super) b64data: Option<String>,
    pub(super) channels: Option<Vec<String>>,
    pub(super) subs: Option<BTreeMap<String, Option<AnswerSubscription>>>,
    pub(super) meta: Payload,
}

/// A subscription that an application gives a connection.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AnswerSubscription {
    pub(super) expire_at: Option<u64>,
    pub(super) info: Payload,
    pub(super) b64info: Option<String>,
    pub(super) data: Payload,
    pub(super) b64data: Option<String>,
    #[serde(rename = "override")]
    pub(super) overrides: Option<RawOverrides>,
    /// Not known here; left out, it would let pass what the application wants to be held back.
    pub(super) server_tags_filter: Option<IgnoredAny>,
}

/// A connection as an application admits it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Admitted {
    /// Empty for an anonymous client.
    pub(crate) user: String,
    /// In seconds since 1970; 0 for never.
    pub(crate) expire_at: u64,
    /// What others see of the connection.
    pub(crate) info: Payload,
    /// What the client is told.
    pub(crate) data: Payload,
    pub(crate) subscriptions: BTreeMap<String, ServerSubscription>,
    /// What other questions about the connection say.
    pub(crate) meta: Payload,
}

impl Event for Connect {
    type Answer = Answer;

    fn fields(&self) -> Fields<'_> {
        let Self { data, name, version, channels } = self;
        Fields { is_connect: true, name, version, channels, data: Some(data), ..Fields::default() }
    }
}

impl Connect {
    pub(super) fn new(request: &ConnectRequest) -> Self {
        Self {
            data: request.data.clone(),
            name: request.name.clone(),
            version: request.version.clone(),
            channels: request.subs.keys().cloned().collect(),
        }
    }
}

impl Ask<Connect> {
    /// Asks; `None` if the application does not know the client, which is then not authenticated.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the question is taken back; the application may have done what it was asked to.
    pub(crate) async fn ask(self) -> Result<Option<Admitted>, Refused> {
        let answer = self.hook.ask(&self.about, &self.event).await.map_err(AskError::into_refused)?;
        self.hook.read(answer.map(Answer::read).transpose())
    }
}

impl Answer {
    fn read(self) -> Result<Admitted, Unfit> {
        let mut subscriptions: BTreeMap<_, _> =
            self.channels.into_iter().flatten().map(|name| (name, ServerSubscription::default())).collect();
        for (name, subscription) in self.subs.into_iter().flatten() {
            subscriptions.insert(name, subscription.unwrap_or_default().read()?);
        }
        Ok(Admitted {
            user: self.user.unwrap_or_default(),
            expire_at: self.expire_at.unwrap_or_default(),
            info: either_json(self.info, self.b64info)?,
            data: either(self.data, self.b64data)?,
            subscriptions,
            meta: self.meta,
        })
    }
}

impl AnswerSubscription {
    fn read(self) -> Result<ServerSubscription, Unfit> {
        if self.server_tags_filter.is_some() {
            return Err(Unfit("`server_tags_filter` is not known here"));
        }
        let some = |payload: Payload| (!payload.is_empty()).then(|| payload.into_bytes());
        Ok(ServerSubscription {
            info: some(either_json(self.info, self.b64info)?),
            data: some(either(self.data, self.b64data)?),
            overrides: self.overrides.unwrap_or_default().into(),
            expire_at: self.expire_at.filter(|at| *at > 0),
        })
    }
}
