//! The publish command.

use std::sync::Arc;

use bowline_protocol::{CommandId, ErrorCode, PublishRequest};
use bowline_store::{Position, Receipt, Version};

use super::Session;
use super::rejection::Rejection;
use crate::node::{Action, Outgoing};
use crate::proxy::Passed;

impl Session {
    /// Publishes as this client; the publication carries who it is, as members of the channel see it.
    /// What an application `passed` is published as it says, and allowed unless it is denied whoever allows it. It is answered
    /// when it is kept and delivered.
    pub(super) fn publish(
        &mut self,
        id: CommandId,
        mut request: PublishRequest,
        passed: Option<Passed>,
    ) -> Result<(), Rejection> {
        let channel = std::mem::take(&mut request.channel);
        let kept = self.give_place(&channel, request, passed)?;
        self.answer_when_kept(id, channel, kept)
    }

    fn give_place(
        &self,
        channel: &str,
        request: PublishRequest,
        passed: Option<Passed>,
    ) -> Result<Receipt<Option<Position>>, Rejection> {
        if request.publication_type != 0 {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }
        let channel = self.node.resolve(channel)?;
        let subject = self.subject(&channel)?;
        match &passed {
            Some(_) if self.node.denies(subject, Action::Publish, &channel) => {
                return Err(ErrorCode::PERMISSION_DENIED.into());
            }
            Some(_) => {}
            None => self.node.may(subject, Action::Publish, &channel).into_result()?,
        }
        let info = {
            let held = self.held()?;
            let subscription = held.subscriptions.find(channel.as_str());
            let own = held.info.as_ref().unwrap_or(self.info()?);
            Arc::clone(subscription.map_or(own, |subscription| subscription.membership.info()))
        };
        let passed = passed.unwrap_or_default();
        let (key, epoch) = (&passed.idempotency_key, &passed.version_epoch);
        let outgoing = Outgoing {
            data: if passed.data.is_empty() { request.data } else { passed.data },
            info: Some(info),
            tags: passed.tags,
            skip_history: passed.skip_history,
            idempotency_key: Some(key.as_str()).filter(|key| !key.is_empty()),
            version: (passed.version > 0).then_some(Version { number: passed.version, epoch }),
            makes_delta: passed.delta,
        };
        Ok(self.node.publish_into(&channel, outgoing)?)
    }
}
