//! The values of the opening handshake; the HTTP around them belongs to the caller.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The only version of the protocol, the value of `Sec-WebSocket-Version`.
pub const VERSION: &str = "13";

/// What RFC 6455 appends to the key, so that nothing but a WebSocket server answers rightly by accident.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The length of a key: 16 bytes in base64.
const KEY_CHARS: usize = 24;

/// The header values of an upgrade request. Where a header occurs several times, its values are joined with `,`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpgradeRequest<'a> {
    /// The value of `Connection`.
    pub connection: Option<&'a str>,
    /// The value of `Upgrade`.
    pub upgrade: Option<&'a str>,
    /// The value of `Sec-WebSocket-Version`.
    pub version: Option<&'a str>,
    /// The value of `Sec-WebSocket-Key`.
    pub key: Option<&'a str>,
}

impl UpgradeRequest<'_> {
    /// Checks the request and returns the value for `Sec-WebSocket-Accept`.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong; [`HandshakeError::status`] says how to answer.
    pub fn accept(&self) -> Result<String, HandshakeError> {
        if !has_token(self.connection, "upgrade") || !has_token(self.upgrade, "websocket") {
            return Err(HandshakeError::NotAnUpgrade);
        }
        if self.version.map(str::trim) != Some(VERSION) {
            return Err(HandshakeError::UnsupportedVersion);
        }
        let key = self.key.map(str::trim).filter(|key| is_key(key)).ok_or(HandshakeError::InvalidKey)?;
        Ok(accept_key(key))
    }
}

/// Why an upgrade request is refused. The client must send another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// `Connection` and `Upgrade` do not ask for a WebSocket.
    NotAnUpgrade,
    /// `Sec-WebSocket-Version` is missing or not [`VERSION`], which the answer must name in the same header.
    UnsupportedVersion,
    /// `Sec-WebSocket-Key` is missing or not 16 bytes in base64.
    InvalidKey,
}

impl HandshakeError {
    /// Returns the HTTP status for the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotAnUpgrade | Self::InvalidKey => 400,
            Self::UnsupportedVersion => 426,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnUpgrade => "request does not ask for a WebSocket",
            Self::UnsupportedVersion => "WebSocket version is not 13",
            Self::InvalidKey => "WebSocket key is not 16 bytes in base64",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Returns the value of `Sec-WebSocket-Accept` for a client's key.
pub fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize())
}

/// Returns the value of `Sec-WebSocket-Key` for 16 random bytes.
pub fn request_key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// Returns whether a server's `Sec-WebSocket-Accept` answers the client's `key`.
pub fn is_accepted(key: &str, accept: &str) -> bool {
    accept_key(key) == accept.trim()
}

/// Returns the first subprotocol of the client's list that is supported.
pub fn select_subprotocol<'s>(offered: &str, supported: &[&'s str]) -> Option<&'s str> {
    offered.split(',').find_map(|offer| supported.iter().copied().find(|known| *known == offer.trim()))
}

fn has_token(header: Option<&str>, token: &str) -> bool {
    header.is_some_and(|values| values.split(',').any(|value| value.trim().eq_ignore_ascii_case(token)))
}

fn is_key(key: &str) -> bool {
    // Room for three bytes per four characters; the decoded length is what counts.
    let mut nonce = [0; KEY_CHARS / 4 * 3];
    key.len() == KEY_CHARS && STANDARD.decode_slice(key, &mut nonce) == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request() -> UpgradeRequest<'static> {
        UpgradeRequest {
            connection: Some("Upgrade"),
            upgrade: Some("websocket"),
            version: Some("13"),
            key: Some(KEY),
        }
    }

    #[test]
    fn the_key_of_the_rfc_gets_the_answer_of_the_rfc() {
        assert_eq!(request().accept().unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(request_key(*b"the sample nonce"), KEY);
        assert!(is_accepted(KEY, " s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!is_accepted(KEY, "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="));
    }

    #[test]
    fn tokens_are_found_in_lists_whatever_their_case() {
        let request = UpgradeRequest {
            connection: Some("keep-alive, UPGRADE"),
            upgrade: Some("h2c,WebSocket"),
            ..request()
        };
        assert!(request.accept().is_ok());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        use HandshakeError::*;
        for (refused, error, status) in [
            (UpgradeRequest { connection: None, ..request() }, NotAnUpgrade, 400),
            (UpgradeRequest { connection: Some("close"), ..request() }, NotAnUpgrade, 400),
            (UpgradeRequest { connection: Some("upgraded"), ..request() }, NotAnUpgrade, 400),
            (UpgradeRequest { upgrade: Some("h2c"), ..request() }, NotAnUpgrade, 400),
            (UpgradeRequest { version: None, ..request() }, UnsupportedVersion, 426),
            (UpgradeRequest { version: Some("8"), ..request() }, UnsupportedVersion, 426),
            (UpgradeRequest { key: None, ..request() }, InvalidKey, 400),
            (UpgradeRequest { key: Some(""), ..request() }, InvalidKey, 400),
            (UpgradeRequest { key: Some("dGhlIHNhbXBsZSBub25jZQ"), ..request() }, InvalidKey, 400),
            (UpgradeRequest { key: Some("dGhlIHNhbXBsZSBub25jZTE="), ..request() }, InvalidKey, 400),
            (UpgradeRequest { key: Some("????????????????????????"), ..request() }, InvalidKey, 400),
        ] {
            let refusal = refused.accept().unwrap_err();
            assert_eq!((refusal, refusal.status()), (error, status), "{refused:?}");
        }
    }

    #[test]
    fn the_first_supported_subprotocol_of_the_client_is_taken() {
        let supported = ["centrifuge-json", "centrifuge-protobuf"];
        for (offered, selected) in [
            ("centrifuge-json", Some("centrifuge-json")),
            ("mqtt, centrifuge-protobuf ,centrifuge-json", Some("centrifuge-protobuf")),
            ("mqtt", None),
            ("", None),
        ] {
            assert_eq!(select_subprotocol(offered, &supported), selected, "{offered}");
        }
    }
}
