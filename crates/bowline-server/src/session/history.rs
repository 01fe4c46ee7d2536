//! The history command.

use bowline_protocol::{CommandResult, ErrorCode, HistoryRequest};

use super::Session;
use super::rejection::Rejection;
use crate::node::{Action, HistoryQuery};

impl Session {
    /// Reads history, capped by the server's maximum.
    pub(super) fn history(&self, request: HistoryRequest) -> Result<CommandResult, Rejection> {
        let HistoryRequest { channel, limit, since, reverse } = request;
        let channel = self.node.resolve(&channel)?;
        if !channel.has_history() {
            return Err(ErrorCode::NOT_AVAILABLE.into());
        }
        self.node.may(self.subject(&channel)?, Action::History, &channel).into_result()?;
        let query = HistoryQuery { limit, since, is_reverse: reverse };
        let cap = self.node.config().client.history_max_publication_limit;
        Ok(CommandResult::History(self.node.read_history(&channel, &query, Some(cap))?))
    }
}
