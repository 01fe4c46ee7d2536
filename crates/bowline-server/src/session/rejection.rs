//! How a command ends that does not succeed.

use bowline_protocol::{Disconnect, ErrorCode};

/// A command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The client gets an error reply and may go on.
    Error(ErrorCode),
    /// The connection is closed.
    Disconnect(Disconnect),
}

impl From<ErrorCode> for Rejection {
    fn from(error: ErrorCode) -> Self {
        Self::Error(error)
    }
}

impl From<Disconnect> for Rejection {
    fn from(reason: Disconnect) -> Self {
        Self::Disconnect(reason)
    }
}
