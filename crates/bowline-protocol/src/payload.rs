//! Embedded application data: JSON to be spliced into messages verbatim, or opaque bytes.
//!
//! # Invariants
//!
//! 1. A payload marked as JSON is one valid JSON value without raw newlines, so that splicing it into a line
//!    cannot end the line or add a field. It is checked where it enters, not where it leaves.
//! 2. An empty payload means "unset".

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Application data carried by a message. Cloning shares the bytes.
#[derive(Clone, Default)]
pub struct Payload {
    bytes: Bytes,
    is_known_json: bool,
}

/// The bytes are not one valid JSON value, so no JSON message can carry them.
///
/// A server that meets this while encoding for a client closes that connection with
/// [`Disconnect::INAPPROPRIATE_PROTOCOL`](crate::Disconnect::INAPPROPRIATE_PROTOCOL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson;

impl Payload {
    /// A payload that holds nothing and means "unset".
    pub const EMPTY: Payload = Payload { bytes: Bytes::new(), is_known_json: false };

    /// Checks that `bytes` are one JSON value and wraps them; surrounding white space and raw newlines are removed.
    ///
    /// Without white space to remove, the bytes are shared, not copied.
    ///
    /// # Errors
    ///
    /// [`NotJson`] if the bytes are anything else, also if they are empty.
    pub fn from_json(bytes: impl Into<Bytes>) -> Result<Self, NotJson> {
        let bytes = bytes.into();
        let raw: &RawValue = serde_json::from_slice(&bytes).map_err(|_| NotJson)?;
        let text = raw.get().as_bytes();
        let bytes = match without_newlines(text) {
            Some(stripped) => stripped,
            None => bytes.slice_ref(text),
        };
        Ok(Self { bytes, is_known_json: true })
    }

    /// Wraps bytes that an earlier [`from_json`](Self::from_json) accepted, for example read back from a store.
    ///
    /// They are spliced into JSON messages without another look: bytes of any other origin break invariant 1 and
    /// let their author forge messages.
    pub fn from_checked_json(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), is_known_json: true }
    }

    /// Makes the payload that is the JSON string holding `text`, as subscriptions that negotiated delta use it.
    pub fn json_string(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + 2);
        crate::json::write_string(text, &mut bytes);
        Self { bytes: bytes.into(), is_known_json: true }
    }

    /// Wraps bytes of any kind. A JSON encoder checks them each time it meets them.
    pub fn opaque(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), is_known_json: false }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes, still shared.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether there are no bytes, which means "unset".
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the form in which a JSON message may carry this payload.
    ///
    /// # Errors
    ///
    /// [`NotJson`] if the payload is opaque and not a JSON value.
    pub fn to_json(&self) -> Result<Payload, NotJson> {
        if self.is_known_json { Ok(self.clone()) } else { Self::from_json(self.bytes.clone()) }
    }

    /// Returns whether the bytes are known to be JSON without looking at them again.
    pub(crate) fn is_known_json(&self) -> bool {
        self.is_known_json
    }
}

/// Returns a copy without raw line breaks, or `None` if there are none. In valid JSON they are only formatting.
fn without_newlines(text: &[u8]) -> Option<Bytes> {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    text.iter().any(is_break).then(|| text.iter().copied().filter(|b| !is_break(b)).collect())
}

/// Equal bytes are equal payloads, whether or not they were checked.
impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({:?})", self.bytes)
    }
}

/// Takes any JSON value as it stands; `null` is "unset". Works with `serde_json` only.
impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get() == "null" {
            return Ok(Self::EMPTY);
        }
        let bytes = match without_newlines(raw.get().as_bytes()) {
            Some(stripped) => stripped,
            // The boxed text becomes the shared buffer: one copy in all.
            None => Bytes::from(String::from(Box::<str>::from(raw))),
        };
        Ok(Self { bytes, is_known_json: true })
    }
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payload is not valid JSON")
    }
}

impl std::error::Error for NotJson {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_json_is_kept_as_it_stands() {
        for text in ["{}", "[1,2]", "\"a b\"", "1.50", "true", r#"{"b":1,"a":[ 2 ],"b":3}"#, "\"\\n\""] {
            let payload = Payload::from_json(text).unwrap();
            assert_eq!(payload.as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for bytes in
            [&b""[..], b" ", b"{", b"{}{}", b"{}\n{}", b"nul", b"'a'", b"\"a\nb\"", b"\"\xff\"", b"01"]
        {
            assert_eq!(Payload::from_json(bytes).err(), Some(NotJson), "{bytes:?}");
        }
    }

    #[test]
    fn raw_newlines_and_surrounding_space_are_removed() {
        let payload = Payload::from_json(" {\r\n  \"a\":\n1}\n").unwrap();
        assert_eq!(payload.as_bytes(), b"{  \"a\":1}");
        let payload: Payload = serde_json::from_str("{\"a\":\n\n\"x\\ny\"}").unwrap();
        assert_eq!(payload.as_bytes(), b"{\"a\":\"x\\ny\"}");
    }

    #[test]
    fn null_is_unset_in_a_message() {
        let payload: Payload = serde_json::from_str(" null ").unwrap();
        assert!(payload.is_empty());
    }

    #[test]
    fn opaque_bytes_are_checked_when_json_is_wanted() {
        assert_eq!(Payload::opaque("{}\n{}").to_json(), Err(NotJson));
        assert_eq!(Payload::opaque("{\n}").to_json().unwrap().as_bytes(), b"{}");
    }

    #[test]
    fn json_string_escapes_its_text() {
        assert_eq!(Payload::json_string("a\"b\n").as_bytes(), br#""a\"b\n""#);
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let deep = [vec![b'['; 1_000_000], vec![b']'; 1_000_000]].concat();
        assert_eq!(Payload::from_json(deep).unwrap().len(), 2_000_000);
        assert!(Payload::from_json(vec![b'['; 1_000_000]).is_err());
    }
}
