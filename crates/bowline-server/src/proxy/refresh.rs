//! Whether a connection, or a subscription, may go on when its time is over: asked of an application.

use bowline_protocol::Payload;
use serde::Deserialize;

use super::Ask;
use super::answer::{Unfit, either_json};
use super::event::{Event, Fields};
use super::hook::{AskError, Hook};

/// A connection expires.
#[derive(Debug)]
pub(crate) struct Refresh;

/// A subscription expires.
#[derive(Debug)]
pub(crate) struct SubRefresh {
    channel: String,
}

/// What an application says about what expires.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub(super) expired: Option<bool>,
    pub(super) expire_at: Option<u64>,
    pub(super) info: Payload,
    pub(super) b64info: Option<String>,
    pub(super) meta: Payload,
}

/// What becomes of what expires.
#[derive(Debug, PartialEq)]
pub(crate) enum Renewal {
    /// It ends.
    Expired,
    /// It goes on.
    Until {
        /// In seconds since 1970; 0 for ever.
        expire_at: u64,
        /// What others see from now on; empty for no change.
        info: Payload,
        /// What other questions about the connection say; empty for no change.
        meta: Payload,
    },
    /// The application did not say. It may be asked again.
    Unknown,
}

impl Event for Refresh {
    type Answer = Answer;

    fn fields(&self) -> Fields<'_> {
        Fields::default()
    }
}

impl Event for SubRefresh {
    type Answer = Answer;

    fn fields(&self) -> Fields<'_> {
        Fields { channel: Some(&self.channel), ..Fields::default() }
    }
}

impl SubRefresh {
    pub(super) fn new(channel: &str) -> Self {
        Self { channel: channel.to_owned() }
    }
}

impl Ask<Refresh> {
    /// Asks.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the question is taken back; the application may have noted that it was asked.
    pub(crate) async fn ask(self) -> Renewal {
        renewal(&self.hook, self.hook.ask(&self.about, &self.event).await)
    }
}

impl Ask<SubRefresh> {
    /// Asks.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the question is taken back; the application may have noted that it was asked.
    pub(crate) async fn ask(self) -> Renewal {
        renewal(&self.hook, self.hook.ask(&self.about, &self.event).await)
    }
}

/// Errors and disconnects are no answers to this; an answer without a result renews nothing.
fn renewal(hook: &Hook, asked: Result<Option<Answer>, AskError>) -> Renewal {
    match asked {
        Ok(None) => Renewal::Expired,
        Ok(Some(answer)) => hook.read(answer.read()).unwrap_or(Renewal::Unknown),
        Err(AskError::Refused(refused)) => {
            tracing::warn!(application = hook.name, ?refused, "an application cannot refuse this");
            Renewal::Unknown
        }
        Err(AskError::TimedOut | AskError::Failed) => Renewal::Unknown,
    }
}

impl Answer {
    fn read(self) -> Result<Renewal, Unfit> {
        if self.expired == Some(true) {
            return Ok(Renewal::Expired);
        }
        Ok(Renewal::Until {
            expire_at: self.expire_at.unwrap_or_default(),
            info: either_json(self.info, self.b64info)?,
            meta: self.meta,
        })
    }
}
