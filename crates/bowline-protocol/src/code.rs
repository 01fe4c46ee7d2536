//! The numbered reasons clients are told: errors in replies, unsubscribe codes and disconnect codes.
//!
//! The numbers decide what a client does next, so a code once given out keeps its meaning.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

/// An error in answer to a command. Applications use codes 400–1999 for their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ErrorCode {
    /// The number clients act on.
    pub code: u32,
    /// A short text for people.
    pub message: Cow<'static, str>,
    /// Whether the client may try the same again.
    pub temporary: bool,
}

impl ErrorCode {
    /// The server failed; trying again may succeed.
    pub const INTERNAL: Self = Self::temporary(100, "internal server error");
    /// The client is not authenticated.
    pub const UNAUTHORIZED: Self = Self::fixed(101, "unauthorized");
    /// The channel's namespace does not exist.
    pub const UNKNOWN_CHANNEL: Self = Self::fixed(102, "unknown channel");
    /// The client may not do this.
    pub const PERMISSION_DENIED: Self = Self::fixed(103, "permission denied");
    /// No such method.
    pub const METHOD_NOT_FOUND: Self = Self::fixed(104, "method not found");
    /// The connection is subscribed to the channel already.
    pub const ALREADY_SUBSCRIBED: Self = Self::fixed(105, "already subscribed");
    /// A limit is reached, such as the number of channels of one connection.
    pub const LIMIT_EXCEEDED: Self = Self::fixed(106, "limit exceeded");
    /// The request is malformed in its content.
    pub const BAD_REQUEST: Self = Self::fixed(107, "bad request");
    /// The feature is switched off.
    pub const NOT_AVAILABLE: Self = Self::fixed(108, "not available");
    /// The token has expired: the client fetches a new one and tries again.
    pub const TOKEN_EXPIRED: Self = Self::fixed(109, "token expired");
    /// The connection or subscription has expired.
    pub const EXPIRED: Self = Self::fixed(110, "expired");
    /// The client sends too fast; trying later may succeed.
    pub const TOO_MANY_REQUESTS: Self = Self::temporary(111, "too many requests");
    /// The stream cannot be continued from the wanted position.
    pub const UNRECOVERABLE_POSITION: Self = Self::fixed(112, "unrecoverable position");
    /// The state changed while it was read page by page; starting over may succeed.
    pub const CONCURRENT_PAGINATION: Self = Self::temporary(113, "concurrent pagination");

    /// Makes an error of an application's own. Codes 0–399 are reserved for the protocol.
    pub fn custom(code: u32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), temporary: false }
    }

    const fn fixed(code: u32, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), temporary: false }
    }

    const fn temporary(code: u32, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), temporary: true }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ErrorCode {}

/// Why the server closes a connection: the status and reason of the WebSocket close frame, or a `disconnect` push.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Disconnect {
    /// The number clients act on. Applications use 4000–4999 for their own.
    pub code: u16,
    /// A short text for people, at most 123 bytes on a WebSocket.
    pub reason: Cow<'static, str>,
}

impl Disconnect {
    /// The client went away. Never sent: a connection with this code closes without a word.
    pub const CONNECTION_CLOSED: Self = Self::fixed(3000, "connection closed");
    /// The server shuts down.
    pub const SHUTDOWN: Self = Self::fixed(3001, "shutdown");
    /// The server failed.
    pub const SERVER_ERROR: Self = Self::fixed(3004, "internal server error");
    /// The connection's credentials expired without a refresh.
    pub const EXPIRED: Self = Self::fixed(3005, "connection expired");
    /// A server-side subscription expired.
    pub const SUBSCRIPTION_EXPIRED: Self = Self::fixed(3006, "subscription expired");
    /// The client does not read fast enough: its queue of unsent bytes is full.
    pub const SLOW: Self = Self::fixed(3008, "slow");
    /// Writing to the connection failed or took too long.
    pub const WRITE_ERROR: Self = Self::fixed(3009, "write error");
    /// A stream position was lost; the client reconnects to recover.
    pub const INSUFFICIENT_STATE: Self = Self::fixed(3010, "insufficient state");
    /// The server wants the client to reconnect.
    pub const FORCE_RECONNECT: Self = Self::fixed(3011, "force reconnect");
    /// A ping was not answered in time.
    pub const NO_PONG: Self = Self::fixed(3012, "no pong");
    /// The client sends too many commands.
    pub const TOO_MANY_REQUESTS: Self = Self::fixed(3013, "too many requests");
    /// The client must drop its token and positions, then reconnect.
    pub const STATE_INVALIDATED: Self = Self::fixed(3014, "state invalidated");
    /// The token is not valid.
    pub const INVALID_TOKEN: Self = Self::fixed(3500, "invalid token");
    /// The client broke the protocol.
    pub const BAD_REQUEST: Self = Self::fixed(3501, "bad request");
    /// The client did not connect in time.
    pub const STALE: Self = Self::fixed(3502, "stale");
    /// The server API closed the connection.
    pub const FORCE_DISCONNECT: Self = Self::fixed(3503, "force disconnect");
    /// The user has too many connections.
    pub const CONNECTION_LIMIT: Self = Self::fixed(3504, "connection limit");
    /// The connection has too many server-side channels.
    pub const CHANNEL_LIMIT: Self = Self::fixed(3505, "channel limit");
    /// A message cannot be expressed in the connection's encoding.
    pub const INAPPROPRIATE_PROTOCOL: Self = Self::fixed(3506, "inappropriate protocol");
    /// The client may not connect.
    pub const PERMISSION_DENIED: Self = Self::fixed(3507, "permission denied");
    /// The feature is switched off.
    pub const NOT_AVAILABLE: Self = Self::fixed(3508, "not available");
    /// The client caused too many errors.
    pub const TOO_MANY_ERRORS: Self = Self::fixed(3509, "too many errors");

    /// Makes a disconnect of an application's own.
    pub fn custom(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Returns whether a client that sees this code connects again by itself.
    pub fn reconnects(&self) -> bool {
        match self.code {
            // A message above the size limit would only be sent again.
            1009 => false,
            3500..=3999 | 4500..=4999 => false,
            _ => true,
        }
    }

    const fn fixed(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

impl std::error::Error for Disconnect {}

/// Why the server ended a subscription. Applications use 2100–2499 (final) and 2600–2999 for their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UnsubscribeCode {
    /// The number clients act on.
    pub code: u32,
    /// A short text for people.
    pub reason: Cow<'static, str>,
}

impl UnsubscribeCode {
    /// The server API ended the subscription.
    pub const SERVER: Self = Self::fixed(2000, "server unsubscribe");
    /// The stream position was lost; the client subscribes again to recover.
    pub const INSUFFICIENT_STATE: Self = Self::fixed(2500, "insufficient state");
    /// The subscription expired without a refresh.
    pub const EXPIRED: Self = Self::fixed(2501, "subscription expired");
    /// The client must drop its cached token and state, then subscribe again.
    pub const STATE_INVALIDATED: Self = Self::fixed(2502, "state invalidated");

    /// Makes a code of an application's own.
    pub fn custom(code: u32, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Returns whether a client that sees this code subscribes again by itself.
    pub fn resubscribes(&self) -> bool {
        self.code >= 2500
    }

    const fn fixed(code: u32, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }
}

impl fmt::Display for UnsubscribeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_whether_a_client_reconnects() {
        for code in [1006, 3000, 3001, 3012, 3014, 3499, 4000, 4499, 5000, u16::MAX] {
            assert!(Disconnect::custom(code, "").reconnects(), "{code}");
        }
        for code in [1009, 3500, 3503, 3999, 4500, 4999] {
            assert!(!Disconnect::custom(code, "").reconnects(), "{code}");
        }
    }

    #[test]
    fn the_code_decides_whether_a_client_resubscribes() {
        assert!(!UnsubscribeCode::SERVER.resubscribes());
        assert!(!UnsubscribeCode::custom(2499, "").resubscribes());
        assert!(UnsubscribeCode::INSUFFICIENT_STATE.resubscribes());
    }

    #[test]
    fn standard_errors_carry_number_text_and_whether_to_retry() {
        for (error, code, message, temporary) in [
            (ErrorCode::INTERNAL, 100, "internal server error", true),
            (ErrorCode::UNKNOWN_CHANNEL, 102, "unknown channel", false),
            (ErrorCode::TOKEN_EXPIRED, 109, "token expired", false),
            (ErrorCode::TOO_MANY_REQUESTS, 111, "too many requests", true),
            (ErrorCode::UNRECOVERABLE_POSITION, 112, "unrecoverable position", false),
            (ErrorCode::CONCURRENT_PAGINATION, 113, "concurrent pagination", true),
        ] {
            assert_eq!((error.code, &*error.message, error.temporary), (code, message, temporary));
        }
    }
}
