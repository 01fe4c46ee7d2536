//! Reading a tree into the settings, collecting every problem on the way.

use std::collections::{HashMap, HashSet};

use super::centrifugo::{self, Found, Wish};
use super::error::{Place, Problem};
use super::flat;
use super::schema::{Entry, Section, join};
use super::settings::{ChannelOptions, Config};
use super::suggest::nearest;
use super::tree::{Node, Raw};
use super::value::Value;

/// What is known while settings are read: problems so far, and where each key was set.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    /// What the operator should know though nothing is wrong.
    pub(super) notes: Vec<String>,
    /// What became of each key of the sources.
    pub(super) seen: Vec<Seen>,
    /// What options a namespace has before its own are read.
    pub(super) channel_defaults: ChannelOptions,
    places: HashMap<String, Place>,
    broken: HashSet<String>,
}

/// What became of one key of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) outcome: Outcome,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is read.
    Read,
    /// Its value is not allowed; a problem says why.
    Wrong,
    /// It is Centrifugo's, and asks for nothing that is missing.
    Ignored { why: String },
    /// It is Centrifugo's, and what it asks for is not here.
    Missing { advice: &'static str },
    /// It is Centrifugo's from before version 6, and has another name since.
    Flat { now: String },
    /// Nobody knows it.
    Unknown { near: Option<String> },
}

impl Reader {
    pub(super) fn new(channel_defaults: ChannelOptions) -> Self {
        Self {
            problems: Vec::new(),
            notes: Vec::new(),
            seen: Vec::new(),
            channel_defaults,
            places: HashMap::new(),
            broken: HashSet::new(),
        }
    }

    /// Notes a problem with the value of `key`.
    pub(super) fn wrong(&mut self, key: &str, place: &Place, what: String) {
        self.broken.insert(key.to_owned());
        self.problems.push(Problem { place: place.clone(), what });
    }

    /// Tells whether a problem with the value of `key` is already known.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.broken.contains(key)
    }

    /// Returns where `key` was set.
    pub(super) fn place(&self, key: &str) -> &Place {
        self.places.get(key).unwrap_or(&Place::Default)
    }

    /// Reads the value of one key. An explicit null leaves the default.
    pub(super) fn value<V: Value>(&mut self, key: &str, node: &Node) -> Option<V> {
        if node.raw == Raw::Null {
            return None;
        }
        self.places.insert(key.to_owned(), node.place.clone());
        let value = V::parse(&node.raw);
        self.seen(key, &node.place, if value.is_some() { Outcome::Read } else { Outcome::Wrong });
        if value.is_none() {
            let shown = if V::SECRET { "the value".to_owned() } else { node.raw.to_string() };
            self.wrong(key, &node.place, format!("`{key}` cannot be {shown}: expected {}", V::allowed()));
        }
        value
    }

    /// Reads the keys of one section.
    pub(super) fn section(&mut self, section: &mut impl Section, key: &str, node: Node) {
        match node.raw {
            Raw::Null => {}
            // A switch that became a section.
            Raw::Bool(_) | Raw::Text(_) if !key.contains('.') && self.flat(key, &node) => {}
            Raw::Table(table) => {
                for (name, node) in table {
                    if let Err(node) = section.read_key(key, &name, node, self) {
                        self.unknown(key, &name, &node);
                    }
                }
            }
            other => self.wrong(
                key,
                &node.place,
                format!("`{key}` cannot be {}: expected a section with keys", other.kind()),
            ),
        }
    }

    /// Notes a key that is not one of the section's.
    pub(super) fn unknown(&mut self, section: &str, name: &str, node: &Node) {
        let key = join(section, name);
        if section.is_empty() && self.flat(&key, node) {
            return;
        }
        if let Raw::Table(table) = &node.raw
            && centrifugo::has_parts(&key)
            && !node.is_off()
        {
            table.iter().for_each(|(name, node)| self.unknown(&key, name, node));
            return;
        }
        match centrifugo::find(&key, node) {
            Some(found) => {
                let said = said(found);
                match found.wish {
                    Wish::Missing => {
                        self.seen(&key, &node.place, Outcome::Missing { advice: found.advice });
                        self.wrong(&key, &node.place, format!("`{key}` is {said}"));
                    }
                    Wish::Off | Wish::Met => {
                        self.seen(&key, &node.place, Outcome::Ignored { why: said.clone() });
                        self.notes.push(format!("{}: `{key}` is {said}", node.place));
                    }
                }
            }
            None => {
                let near = nearest(&key, &known_keys(section)).map(str::to_owned);
                let hint =
                    near.as_ref().map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
                self.seen(&key, &node.place, Outcome::Unknown { near });
                self.wrong(&key, &node.place, format!("unknown key `{key}`{hint}"));
            }
        }
    }

    /// Tells the new name of a key that is Centrifugo's from before version 6, if it is one.
    fn flat(&mut self, key: &str, node: &Node) -> bool {
        let Some(now) = flat::new_name(key, node) else { return false };
        self.wrong(
            key,
            &node.place,
            format!("`{key}` is of Centrifugo before version 6; since then it is `{now}`"),
        );
        self.seen(key, &node.place, Outcome::Flat { now });
        true
    }

    /// Notes what became of a key.
    fn seen(&mut self, key: &str, place: &Place, outcome: Outcome) {
        self.seen.push(Seen { key: key.to_owned(), place: place.clone(), outcome });
    }
}

/// What is said of a key that is Centrifugo's.
pub(super) fn said(found: Found) -> String {
    let advice = found.advice;
    match found.wish {
        Wish::Missing if advice.is_empty() => {
            "known to Centrifugo, not supported by this version of Bowline".to_owned()
        }
        Wish::Missing => {
            format!("known to Centrifugo, not supported by this version of Bowline: {advice}")
        }
        Wish::Met if !advice.is_empty() => format!("ignored: {advice}"),
        Wish::Met | Wish::Off => "ignored: this version of Bowline does not have it".to_owned(),
    }
}

/// Lists every setting with its default.
pub(super) fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    Config::default().describe_keys("", &mut entries);
    entries
}

/// Lists every key and section, and the keys of `section` if it is a namespace.
fn known_keys(section: &str) -> Vec<String> {
    let mut known: Vec<_> = entries().iter().map(|entry| entry.key().to_owned()).collect();
    if section.starts_with("channel.namespaces") {
        let mut options = Vec::new();
        ChannelOptions::default().describe_keys(section, &mut options);
        known.extend(options.iter().map(|entry| entry.key().to_owned()));
        known.push(join(section, "name"));
    }
    known
}
