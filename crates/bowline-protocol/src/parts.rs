//! What a command may be made of: how many entries and elements, for the bytes it has.
//!
//! An entry of `subs`, a node of a filter or one of its values is a structure of many fields, and can be written in two
//! bytes. Who sends thousands of them makes the decoder hold a hundred times what was sent. So they are counted before any
//! of them is built: a command has [`FREE`] of them for nothing, and pays for each further one with [`BYTES_EACH`] bytes of
//! its own, which all that mean something have.
//!
//! What is embedded as data is not looked into: it is kept as it is.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::DecodeError;
use crate::protobuf::next_bytes;

/// The parts any command may have. A filter may have 128, and a client seldom has as many subscriptions.
const FREE: usize = 256;

/// What each further part takes of the command's bytes: fewer than a subscription with a position has.
const BYTES_EACH: usize = 24;

/// A message, a map or a list in which parts may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// A command: parts that come in several fields of one number count together, as they are decoded.
    Command,
    /// A connect request.
    Connect,
    /// Its subscriptions by channel.
    Subs,
    /// A subscribe request, alone or among others.
    Subscribe,
    /// Texts by name.
    Headers,
    /// A node of a filter.
    Filter,
    /// The nodes below one.
    Nodes,
    /// Values to compare with.
    Values,
}

impl Within {
    /// Refuses a request in JSON that has more parts than it may.
    pub(crate) fn check_json(self, text: &[u8]) -> Result<(), DecodeError> {
        if may_have_many(text) {
            self.deserialize(&mut serde_json::Deserializer::from_slice(text)).and_then(|parts| {
                if parts <= allowed(text) { Ok(()) } else { Err(Error::custom("too many parts")) }
            })?;
        }
        Ok(())
    }

    /// Refuses a request in protobuf that has more parts than it may. What is malformed is for the decoder to say.
    pub(crate) fn check_protobuf(self, message: &[u8]) -> Result<(), DecodeError> {
        if may_have_many(message) && self.count(message, crate::protobuf::MAX_DEPTH) > allowed(message) {
            return Err(DecodeError::TooManyParts);
        }
        Ok(())
    }

    /// Counts the parts in a message.
    fn count(self, mut message: &[u8], depth: u8) -> usize {
        let Some(depth) = depth.checked_sub(1) else { return 0 };
        let mut parts = 0;
        while let Some((number, bytes)) = next_bytes(&mut message) {
            parts += match (self, number) {
                (Self::Command, 4) => Self::Connect.count(bytes, depth),
                (Self::Command, 5) => Self::Subscribe.count(bytes, depth),
                (Self::Connect, 3) => 1 + Self::Subs.count(bytes, depth),
                (Self::Connect, 6) | (Self::Filter, 5) => 1,
                (Self::Filter, 6) => 1 + Self::Filter.count(bytes, depth),
                (Self::Subs, 2) => Self::Subscribe.count(bytes, depth),
                (Self::Subscribe, 13) => Self::Filter.count(bytes, depth),
                _ => 0,
            };
        }
        parts
    }

    /// Where the value of a field stands, if parts may stand in it.
    fn field(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Connect, "subs") => Some(Self::Subs),
            (Self::Connect, "headers") => Some(Self::Headers),
            (Self::Subs, _) => Some(Self::Subscribe),
            (Self::Subscribe, "tf") => Some(Self::Filter),
            (Self::Filter, "nodes") => Some(Self::Nodes),
            (Self::Filter, "vals") => Some(Self::Values),
            _ => None,
        }
    }
}

/// Whether there can be more parts than are free: each takes two bytes at least.
fn may_have_many(request: &[u8]) -> bool {
    request.len() >= 2 * FREE
}

fn allowed(request: &[u8]) -> usize {
    FREE + request.len() / BYTES_EACH
}

impl<'de> DeserializeSeed<'de> for Within {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Counts as it reads, and keeps nothing. What is of a wrong type is for the decoder to say.
impl<'de> Visitor<'de> for Within {
    type Value = usize;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut parts = 0;
        while let Some(name) = map.next_key::<String>()? {
            parts += usize::from(matches!(self, Self::Subs | Self::Headers));
            match self.field(&name) {
                Some(within) => parts += map.next_value_seed(within)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(parts)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<usize, A::Error> {
        let mut parts = 0;
        let within = if self == Self::Nodes { Self::Filter } else { self };
        while let Some(below) = list.next_element_seed(within)? {
            parts += 1 + below;
        }
        Ok(parts)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<usize, E> {
        Ok(0)
    }

    fn visit_unit<E: Error>(self) -> Result<usize, E> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, CommandId, ConnectRequest, Encoding, FilterNode, Request, SubscribeRequest};

    fn connect(subs: impl IntoIterator<Item = (String, SubscribeRequest)>) -> Request {
        Request::Connect(ConnectRequest { subs: subs.into_iter().collect(), ..ConnectRequest::default() })
    }

    fn filtered(filter: FilterNode) -> SubscribeRequest {
        SubscribeRequest { tags_filter: Some(Box::new(filter)), ..SubscribeRequest::default() }
    }

    /// Whether the request is decoded, the same in both encodings.
    #[track_caller]
    fn is_taken(request: Request) -> bool {
        let command = Command::Request { id: CommandId::MIN, request };
        let [json, protobuf] = [Encoding::Json, Encoding::Protobuf].map(|encoding| {
            let mut frame = Vec::new();
            encoding.encode_command(&command, &mut frame).unwrap();
            encoding.decode_frame(&frame).all(|decoded| decoded.is_ok())
        });
        assert_eq!(json, protobuf, "the encodings differ");
        json
    }

    #[test]
    fn what_is_full_of_tiny_parts_is_refused() {
        let tiny = |count: usize| (0..count).map(|number| (format!("{number}"), SubscribeRequest::default()));
        assert!(is_taken(connect(tiny(FREE))));
        assert!(!is_taken(connect(tiny(4 * FREE))));
        let leaf = FilterNode::default();
        let wide = |count| FilterNode { nodes: vec![leaf.clone(); count], ..leaf.clone() };
        let values = |count| FilterNode { vals: vec![String::new(); count], ..leaf.clone() };
        assert!(is_taken(Request::Subscribe(filtered(wide(FREE)))));
        assert!(!is_taken(Request::Subscribe(filtered(wide(3 * FREE)))));
        assert!(is_taken(Request::Subscribe(filtered(values(FREE)))));
        assert!(!is_taken(Request::Subscribe(filtered(values(3 * FREE)))));
        // Spread over many lists, none of which is long.
        let nested = FilterNode { nodes: vec![wide(30); 30], ..leaf.clone() };
        assert!(!is_taken(Request::Subscribe(filtered(nested))));
        let spread = (0..40).map(|number| (format!("{number}"), filtered(wide(30))));
        assert!(!is_taken(connect(spread)));
    }

    #[test]
    fn what_means_something_has_the_bytes_for_it() {
        let position =
            SubscribeRequest { recover: true, epoch: "abcd".into(), offset: 7, ..Default::default() };
        let subs = (0..20_000).map(|number| (format!("news:{number}"), position.clone()));
        assert!(is_taken(connect(subs)));
    }

    #[test]
    fn data_is_not_looked_into() {
        let data = format!("[{}1]", "{\"tf\":[1,2,3]},".repeat(1000));
        for request in ["connect", "subscribe"] {
            let frame = format!(r#"{{"id":1,"{request}":{{"channel":"a","data":{data}}}}}"#);
            assert!(crate::json::decode_frame(frame.as_bytes()).all(|command| command.is_ok()));
        }
    }
}
