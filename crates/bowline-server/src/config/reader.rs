//! Reading a tree into the settings, collecting every problem on the way.

use std::collections::{HashMap, HashSet};

use super::centrifugo;
use super::error::{Place, Problem};
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
    /// What options a namespace has before its own are read.
    pub(super) channel_defaults: ChannelOptions,
    places: HashMap<String, Place>,
    broken: HashSet<String>,
}

impl Reader {
    pub(super) fn new(channel_defaults: ChannelOptions) -> Self {
        Self {
            problems: Vec::new(),
            notes: Vec::new(),
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
        match centrifugo::unsupported(&key, node) {
            Some(centrifugo::Unsupported::Off) => {
                self.notes.push(format!(
                    "{}: `{key}` is ignored: this version of Bowline does not have it",
                    node.place
                ));
            }
            Some(centrifugo::Unsupported::Wanted) => self.wrong(
                &key,
                &node.place,
                format!("`{key}` is known to Centrifugo, not supported by this version of Bowline"),
            ),
            None => {
                let hint = nearest(&key, &known_keys(section))
                    .map_or_else(String::new, |known| format!("; did you mean `{known}`?"));
                self.wrong(&key, &node.place, format!("unknown key `{key}`{hint}"));
            }
        }
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
