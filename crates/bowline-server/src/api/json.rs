//! What requests and answers have in common in their encoding.
//!
//! Requests: every field may be missing or `null`, which both mean "unset"; unknown fields are ignored, because
//! back ends and servers of different age talk to each other; a value of a wrong type is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_protocol::{ClientInfo, ErrorCode, Payload, Publication, StreamPosition};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::value::RawValue;

use crate::node::ApiError;

/// How deep the arrays and objects of a body may be nested, application data included.
///
/// Nesting costs the server no stack, but clients get the data and decode it with parsers that recurse.
const MAX_DEPTH: usize = 128;

/// Why a body is not a request.
#[derive(Debug)]
pub(super) enum Malformed {
    /// Says what and where.
    Json(serde_json::Error),
    /// Arrays and objects are nested deeper than [`MAX_DEPTH`].
    TooDeep { line: usize, column: usize },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::TooDeep { line, column } => {
                write!(f, "nested deeper than {MAX_DEPTH} at line {line} column {column}")
            }
        }
    }
}

/// Decodes a whole body.
pub(super) fn decode<'de, S: DeserializeSeed<'de>>(body: &'de [u8], seed: S) -> Result<S::Value, Malformed> {
    check_depth(body)?;
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = seed.deserialize(&mut deserializer).map_err(Malformed::Json)?;
    deserializer.end().map_err(Malformed::Json)?;
    Ok(value)
}

/// Looks for brackets outside of strings. On what is not JSON it may be wrong: then decoding fails anyway.
fn check_depth(body: &[u8]) -> Result<(), Malformed> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (index, byte) in body.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let before = body.get(..index).unwrap_or_default();
                    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
                    return Err(Malformed::TooDeep { line, column });
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Reads a field that may be `null`, which means "unset".
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a field that is an object, or `null`, which means "unset".
pub(super) fn nullable_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.map(|Object(value)| value))
}

/// Application data of a request: that of the base64 twin if it is set, which may be JSON or not; the encoder of each
/// client's protocol looks at it. JSON that is nested too deep is refused, whichever way it came.
pub(super) fn data_or_b64(data: Payload, b64: &str) -> Result<Payload, ApiError> {
    let data = match b64 {
        "" => data,
        b64 => Payload::opaque(BASE64_STANDARD.decode(b64).map_err(|_| ErrorCode::BAD_REQUEST)?),
    };
    // Other bytes may hold as many brackets as they like.
    let is_too_deep = check_depth(data.as_bytes()).is_err() && data.to_json().is_ok();
    if is_too_deep { Err(ErrorCode::BAD_REQUEST.into()) } else { Ok(data) }
}

/// Reads a struct from a JSON object only; the derived implementations would also take an array of the fields.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(OfMap(PhantomData)).map(Object)
    }
}

/// Returns whether a field is unset, so that the answer leaves it out.
pub(super) fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Application data in an answer.
#[derive(Debug, Default)]
pub(crate) struct Embedded(pub(crate) Payload);

impl Embedded {
    fn is_unset(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Embedded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(self.0.as_bytes()).map_err(ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Who a connection is, in an answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Who {
    /// Application user id; empty for an anonymous client.
    pub(crate) user: String,
    /// Id of the connection.
    pub(crate) client: String,
    /// What its token or back end says about it.
    #[serde(skip_serializing_if = "Embedded::is_unset")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) conn_info: Embedded,
    /// What is said about it in this channel.
    #[serde(skip_serializing_if = "Embedded::is_unset")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) chan_info: Embedded,
}

impl From<Arc<ClientInfo>> for Who {
    fn from(info: Arc<ClientInfo>) -> Self {
        let ClientInfo { user, client, conn_info, chan_info } = Arc::unwrap_or_clone(info);
        Self { user, client, conn_info: Embedded(conn_info), chan_info: Embedded(chan_info) }
    }
}

/// A publication of the past, in an answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Past {
    #[serde(skip_serializing_if = "Embedded::is_unset")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub(crate) data: Embedded,
    /// The publishing client; nothing if a back end published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<Who>,
    /// Its place in the stream.
    #[serde(skip_serializing_if = "is_unset")]
    pub(crate) offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
}

impl From<Publication> for Past {
    fn from(publication: Publication) -> Self {
        let Publication { data, info, offset, tags, .. } = publication;
        Self { data: Embedded(data), info: info.map(Who::from), offset, tags }
    }
}

/// A position in a stream, in a request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Since {
    #[serde(deserialize_with = "nullable")]
    pub(crate) offset: u64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) epoch: String,
}

impl From<Since> for StreamPosition {
    fn from(since: Since) -> Self {
        Self { offset: since.offset, epoch: since.epoch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(check_depth(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check_depth(deep(MAX_DEPTH).repeat(3).as_bytes()).is_ok());
        assert!(check_depth(format!(r#"{{"a":"{}\"{}"}}"#, deep(200), "[".repeat(200)).as_bytes()).is_ok());
        assert!(check_depth(r#"{"a\\":"#.repeat(MAX_DEPTH + 1).as_bytes()).is_err());
    }

    #[test]
    fn what_is_too_deep_is_reported_with_its_place() {
        let body = format!("\n\n  {}", deep(MAX_DEPTH + 1));
        let error = check_depth(body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "nested deeper than 128 at line 3 column 131");
    }
}
