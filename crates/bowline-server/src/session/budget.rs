//! What one connection may ask for: commands and bytes per second, subscriptions per second, and how deep its JSON nests.
//!
//! Who asks for more than a client of any sense would is closed with 3013 and may come back; who only subscribes too often
//! is told so with error 111, after which clients wait and try again.

use bowline_protocol::{Disconnect, Encoding, ErrorCode};
use tokio::time::Instant;

use crate::config::Client;
use crate::rate::Bucket;

/// How deep arrays and objects may nest in what a client sends. What it publishes is embedded in messages to others, and
/// their parsers recurse.
const MAX_DEPTH: usize = 128;

/// The budget of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    commands: Bucket,
    bytes: Bucket,
    subscriptions: Bucket,
}

impl Budget {
    pub(super) fn new() -> Self {
        let full = Bucket::new(Instant::now());
        Self { commands: full, bytes: full, subscriptions: full }
    }

    /// Takes what one frame costs, whatever is in it.
    pub(super) fn take_frame(
        &mut self,
        payload: &[u8],
        encoding: Encoding,
        client: &Client,
    ) -> Result<(), Disconnect> {
        let is_within = self.bytes.take(payload.len(), client.byte_rate_limit, Instant::now());
        if !is_within {
            return Err(Disconnect::TOO_MANY_REQUESTS);
        }
        if encoding == Encoding::Json && nests_deeper(payload, MAX_DEPTH) {
            return Err(Disconnect::BAD_REQUEST);
        }
        Ok(())
    }

    /// Takes what one command costs.
    pub(super) fn take_command(&mut self, client: &Client) -> Result<(), Disconnect> {
        let is_within = self.commands.take(1, client.command_rate_limit, Instant::now());
        if is_within { Ok(()) } else { Err(Disconnect::TOO_MANY_REQUESTS) }
    }

    /// Takes what one subscription costs besides.
    pub(super) fn take_subscription(&mut self, client: &Client) -> Result<(), ErrorCode> {
        let is_within = self.subscriptions.take(1, client.subscribe_rate_limit, Instant::now());
        if is_within { Ok(()) } else { Err(ErrorCode::TOO_MANY_REQUESTS) }
    }
}

/// Whether brackets outside of texts are open more than `max` deep somewhere.
fn nests_deeper(json: &[u8], max: usize) -> bool {
    // What has few brackets at all, as nearly everything has, is counted without looking at it byte by byte.
    let is_opening = |byte: &u8| matches!(byte, b'[' | b'{');
    if json.iter().filter(|byte| is_opening(byte)).count() <= max {
        return false;
    }
    let (mut depth, mut is_text) = (0_usize, false);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_text = !is_text,
            b'\\' if is_text => drop(bytes.next()),
            b'[' | b'{' if !is_text => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_where_they_open_something() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(!nests_deeper(nested(128).as_bytes(), 128));
        assert!(nests_deeper(nested(129).as_bytes(), 128));
        assert!(nests_deeper("{\"a\":".repeat(129).as_bytes(), 128));
        assert!(!nests_deeper("[]".repeat(1000).as_bytes(), 128), "one beside the other");
        assert!(!nests_deeper(format!("\"{}\"", "[".repeat(1000)).as_bytes(), 128), "in a text");
        let escaped = format!(r#"["\"{}\\", {}]"#, "[".repeat(200), nested(126));
        assert!(!nests_deeper(escaped.as_bytes(), 128));
        assert!(nests_deeper(format!(r#""\\"{}"#, nested(129)).as_bytes(), 128), "behind a text");
    }
}
