//! The publish command.

use std::sync::Arc;

use bowline_protocol::{CommandResult, ErrorCode, PublishRequest};

use super::Session;
use super::rejection::Rejection;
use crate::node::{Action, Outgoing};

impl Session {
    /// Publishes as this client; the publication carries who it is, as members of the channel see it.
    pub(super) fn publish(&self, request: PublishRequest) -> Result<CommandResult, Rejection> {
        if request.publication_type != 0 {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }
        let channel = self.node.resolve(&request.channel)?;
        self.node.may(self.subject(&channel)?, Action::Publish, &channel).into_result()?;
        let info = match self.subscriptions.find(channel.as_str()) {
            Some(subscription) => subscription.membership.info(),
            None => self.info()?,
        };
        let outgoing = Outgoing { data: request.data, info: Some(Arc::clone(info)), ..Outgoing::default() };
        self.node.publish_into(&channel, outgoing)?;
        Ok(CommandResult::Publish)
    }
}
