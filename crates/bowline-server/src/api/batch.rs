//! Many calls in one request: `{"commands":[{"publish":{…}},{"history":{…}}]}`.
//!
//! They begin one after the other and their replies stand in the same order. `parallel` changes nothing: what is published, now
//! or later, waits for the disk together anyway. What else waits for it does so one by one: `schedule_cancel`,
//! `history_remove`, and publishing with a `schedule_id`.

use std::borrow::Cow;
use std::fmt;

use bowline_protocol::ErrorCode;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use tokio::task::coop;

use super::Api;
use super::json::{Object, nullable};
use super::method::{Begun, Command, Failure, Method};
use super::respond::{self, ErrorBody};

/// Commands of one batch. More make the request malformed: each takes a hundred times the bytes it needs in the body.
pub(crate) const MAX_COMMANDS: usize = 10_000;

/// Once the replies are this long, the commands that are left are not run and answered with 106. A batch that only
/// publishes stays far below; one that reads histories without limits must not take the node's memory.
pub(crate) const MAX_REPLY_BYTES: usize = 64 * 1024 * 1024;

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
    ///
    /// Publications that stand side by side are begun together and then awaited, so that they wait for the disk once.
    pub(super) async fn run(self, api: &Api, max_reply_bytes: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"replies":["#);
        let mut replies = Replies { out, is_first: true, to_come: 0 };
        let mut begun = Vec::new();
        for entry in self.commands.0 {
            coop::consume_budget().await;
            let command = match entry {
                _ if replies.out.len() + replies.to_come > max_reply_bytes => {
                    Err(ErrorCode::LIMIT_EXCEEDED.into())
                }
                Entry::Command(command) => Ok(command),
                Entry::Unknown => Err(respond::not_found()),
                Entry::Ambiguous => Err(ErrorCode::BAD_REQUEST.into()),
            };
            let command = match command {
                Ok(command) => match command.begin(api).await {
                    Ok(publication) => {
                        replies.to_come += publication.reply_bytes();
                        begun.push(publication);
                        continue;
                    }
                    Err(other) => Ok(other),
                },
                Err(error) => Err(error),
            };
            // What comes next sees what was published before.
            replies.finish(&mut begun, api).await;
            match command {
                Ok(command) => {
                    let start = replies.begin(command.method().name());
                    let written = command.write(api, replies.out).await;
                    replies.end(start, written);
                }
                Err(error) => {
                    let start = replies.begin("");
                    replies.end(start, Err(Failure::Api(error)));
                }
            }
        }
        replies.finish(&mut begun, api).await;
        out.extend_from_slice(b"]}");
    }
}

/// The replies, of which each is begun, written into `out`, and ended.
struct Replies<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
    /// About what the replies to publications that have begun will take.
    to_come: usize,
}

impl Replies<'_> {
    /// Answers where the reply starts.
    fn begin(&mut self, name: &str) -> usize {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        let start = self.out.len();
        self.out.extend_from_slice(br#"{""#);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(br#"":"#);
        start
    }

    fn end(&mut self, start: usize, written: Result<(), Failure>) {
        let error = match written {
            Ok(()) => return self.out.push(b'}'),
            Err(Failure::Api(error)) => error,
            Err(Failure::Inexpressible) => ErrorCode::INTERNAL.into(),
        };
        self.out.truncate(start);
        self.out.extend_from_slice(br#"{"error":"#);
        ErrorBody::from(error).write(self.out);
        self.out.push(b'}');
    }

    /// Awaits what was begun, in order.
    async fn finish(&mut self, begun: &mut Vec<Begun>, api: &Api) {
        for publication in begun.drain(..) {
            let start = self.begin(publication.name());
            let written = publication.write(api, self.out).await;
            self.end(start, written);
        }
        self.to_come = 0;
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
