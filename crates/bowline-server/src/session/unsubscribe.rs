//! The unsubscribe command.

use bowline_protocol::{CommandResult, UnsubscribeRequest};

use super::Session;
use super::rejection::Rejection;

impl Session {
    /// Ends a subscription; one that does not exist has ended already.
    pub(super) fn unsubscribe(&mut self, request: &UnsubscribeRequest) -> Result<CommandResult, Rejection> {
        let removed = self.held()?.subscriptions.remove(&request.channel);
        drop(removed);
        Ok(CommandResult::Unsubscribe)
    }
}
