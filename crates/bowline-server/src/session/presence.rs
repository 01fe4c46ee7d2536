//! The presence and presence_stats commands.

use bowline_protocol::{CommandResult, ErrorCode, PresenceRequest, PresenceResult, PresenceStatsRequest};

use super::Session;
use super::rejection::Rejection;
use crate::node::{Action, ResolvedChannel};

impl Session {
    pub(super) fn presence(&self, request: &PresenceRequest) -> Result<CommandResult, Rejection> {
        let channel = self.node.resolve(&request.channel)?;
        self.require_presence(&channel)?;
        let present = self.node.present_in(&channel)?;
        let presence = present.into_iter().map(|info| (info.client.clone(), info)).collect();
        Ok(CommandResult::Presence(PresenceResult { presence }))
    }

    pub(super) fn presence_stats(&self, request: &PresenceStatsRequest) -> Result<CommandResult, Rejection> {
        let channel = self.node.resolve(&request.channel)?;
        self.require_presence(&channel)?;
        Ok(CommandResult::PresenceStats(self.node.presence_stats_of(&channel)?))
    }

    /// Presence must be kept, and the client must be allowed to see it, in this order.
    fn require_presence(&self, channel: &ResolvedChannel<'_>) -> Result<(), Rejection> {
        if !channel.options().presence {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }
        Ok(self.node.may(self.subject(channel)?, Action::Presence, channel).into_result()?)
    }
}
