//! What is wrong with the bytes of a peer.

use std::fmt;

/// The peer broke the framing rules. The connection cannot go on: tell the peer with a close frame and end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A rule of RFC 6455 is broken; the text says which.
    Violation(&'static str),
    /// A text message or a close reason is not UTF-8.
    InvalidUtf8,
    /// A compressed message is not what its compression makes.
    InvalidDeflate,
    /// A message has more bytes than allowed.
    TooBig {
        /// The limit.
        limit_bytes: usize,
    },
    /// A message comes in more pieces than allowed.
    TooManyFragments,
}

impl ProtocolError {
    /// Returns the status for the close frame.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Violation(_) => 1002,
            Self::InvalidUtf8 | Self::InvalidDeflate => 1007,
            Self::TooManyFragments => 1008,
            Self::TooBig { .. } => 1009,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(rule) => f.write_str(rule),
            Self::InvalidUtf8 => f.write_str("text is not UTF-8"),
            Self::InvalidDeflate => f.write_str("message is compressed wrongly"),
            Self::TooBig { limit_bytes } => write!(f, "message is larger than {limit_bytes} bytes"),
            Self::TooManyFragments => f.write_str("message has too many fragments"),
        }
    }
}

impl std::error::Error for ProtocolError {}
