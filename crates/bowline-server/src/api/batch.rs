//! Many calls in one request: `{"commands":[{"publish":{…}},{"history":{…}}]}`.
//!
//! They run one after the other and their replies stand in the same order. `parallel` changes nothing: no call
//! waits, so none would overlap another.

use std::borrow::Cow;
use std::fmt;

use bowline_protocol::ErrorCode;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use tokio::task::coop;

use super::Api;
use super::json::{Object, nullable};
use super::method::{Command, Failure, Method};
use super::respond::{self, ErrorBody};
use crate::node::ApiError;

/// Commands of one batch. More make the request malformed: each takes a hundred times the bytes it needs in the body.
const MAX_COMMANDS: usize = 10_000;

/// Once the replies are this long, the commands that are left are not run and answered with 106. A batch that only
/// publishes stays far below; one that reads histories without limits must not take the node's memory.
pub(super) const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;

/// A batch, decoded.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Batch {
    #[serde(deserialize_with = "nullable")]
    commands: Entries,
    /// Looked at for its type only.
    #[serde(deserialize_with = "nullable")]
    parallel: bool,
}

/// Decodes a batch from a body.
pub(super) fn decoder() -> impl for<'de> DeserializeSeed<'de, Value = Batch> {
    struct Seed;

    impl<'de> DeserializeSeed<'de> for Seed {
        type Value = Batch;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Batch, D::Error> {
            Object::deserialize(deserializer).map(|Object(batch)| batch)
        }
    }

    Seed
}

impl Batch {
    /// Runs the commands in order and appends the whole reply to `out`. A command that fails does not stop the others.
    pub(super) async fn run(self, api: &Api, max_reply_bytes: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"replies":["#);
        for (index, entry) in self.commands.0.into_iter().enumerate() {
            coop::consume_budget().await;
            if index > 0 {
                out.push(b',');
            }
            let start = out.len();
            let answered = match entry {
                _ if start > max_reply_bytes => Err(ErrorCode::LIMIT_EXCEEDED.into()),
                Entry::Command(command) => run(*command, api, out).await,
                Entry::Unknown => Err(respond::not_found()),
                Entry::Ambiguous => Err(ErrorCode::BAD_REQUEST.into()),
            };
            if let Err(error) = answered {
                out.truncate(start);
                out.extend_from_slice(br#"{"error":"#);
                ErrorBody::from(error).write(out);
                out.push(b'}');
            }
        }
        out.extend_from_slice(b"]}");
    }
}

async fn run(command: Command, api: &Api, out: &mut Vec<u8>) -> Result<(), ApiError> {
    out.extend_from_slice(br#"{""#);
    out.extend_from_slice(command.method().name().as_bytes());
    out.extend_from_slice(br#"":"#);
    match command.run(api, out).await {
        Ok(()) => {
            out.push(b'}');
            Ok(())
        }
        Err(Failure::Api(error)) => Err(error),
        Err(Failure::Inexpressible) => Err(ErrorCode::INTERNAL.into()),
    }
}

/// The commands, at most [`MAX_COMMANDS`].
#[derive(Debug, Default)]
struct Entries(Vec<Entry>);

/// One element of `commands`.
#[derive(Debug)]
enum Entry {
    Command(Box<Command>),
    /// No field of the object is a method.
    Unknown,
    /// Two fields or more are methods.
    Ambiguous,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfArray;

        impl<'de> Visitor<'de> for OfArray {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX_COMMANDS} commands")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = array.next_element::<Entry>()? {
                    if entries.len() == MAX_COMMANDS {
                        return Err(de::Error::custom(format_args!("more than {MAX_COMMANDS} commands")));
                    }
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_seq(OfArray)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap;

        impl<'de> Visitor<'de> for OfMap {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one method")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut entry = Entry::Unknown;
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let Some(method) = Method::find(&name) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let command = map.next_value_seed(method)?;
                    entry = match entry {
                        Entry::Unknown => Entry::Command(Box::new(command)),
                        _ => Entry::Ambiguous,
                    };
                }
                Ok(entry)
            }
        }

        deserializer.deserialize_map(OfMap)
    }
}
