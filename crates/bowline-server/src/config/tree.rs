//! Settings as they were written: a tree of raw values, each with the place it came from.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::error::Place;

/// A value as a source holds it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) raw: Raw,
    pub(super) place: Place,
}

impl Node {
    pub(super) fn text(text: impl Into<String>, place: Place) -> Self {
        Self { raw: Raw::Text(text.into()), place }
    }

    pub(super) fn empty_table(place: Place) -> Self {
        Self { raw: Raw::Table(BTreeMap::new()), place }
    }

    /// Gives the whole tree one place: parsers that do not know lines leave [`Place::Default`].
    pub(super) fn placed(mut self, place: &Place) -> Self {
        self.place = place.clone();
        self.raw = match self.raw {
            Raw::List(items) => Raw::List(items.into_iter().map(|item| item.placed(place)).collect()),
            Raw::Table(table) => {
                Raw::Table(table.into_iter().map(|(key, node)| (key, node.placed(place))).collect())
            }
            leaf => leaf,
        };
        self
    }

    /// Puts `node` at `path`, replacing what was there.
    ///
    /// What stands in the way and is not a table stays: reading it reports it as the problem it is.
    pub(super) fn set(&mut self, path: &[&str], node: Node) {
        let [head, rest @ ..] = path else {
            *self = node;
            return;
        };
        if let Raw::Table(table) = &mut self.raw {
            let place = node.place.clone();
            table.entry((*head).to_owned()).or_insert_with(|| Self::empty_table(place)).set(rest, node);
        }
    }

    /// Returns what stands at `path`.
    pub(super) fn at_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, key| match &mut node.raw {
            Raw::Table(table) => table.get_mut(*key),
            _ => None,
        })
    }

    /// Returns the `name` of an element of a list of named tables.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.raw {
            Raw::Table(table) => match &table.get("name")?.raw {
                Raw::Text(name) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// Tells whether the value asks for nothing: a feature switched off.
    pub(super) fn is_off(&self) -> bool {
        match &self.raw {
            Raw::Null | Raw::Bool(false) | Raw::Int(0) => true,
            Raw::Text(text) => matches!(text.as_str(), "" | "false" | "0" | "0s"),
            Raw::List(items) => items.is_empty(),
            Raw::Table(table) => {
                table.get("enabled").is_some_and(Node::is_off) || table.values().all(Node::is_off)
            }
            Raw::Bool(true) | Raw::Int(_) | Raw::Float(_) => false,
        }
    }
}

impl Raw {
    /// Names the kind of value, where the value itself may be a secret at the wrong place.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST_SHOWN: usize = 80;
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(text) if text.chars().count() > LONGEST_SHOWN => {
                write!(f, "{:?}…", text.chars().take(LONGEST_SHOWN).collect::<String>())
            }
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) => f.write_str("a section"),
        }
    }
}

/// JSON and YAML: any document, but no key twice in one object.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(|raw| Self { raw, place: Place::Default })
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a setting")
    }

    fn visit_unit<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    /// An empty YAML document.
    fn visit_none<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Int(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut table = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value()?;
            if table.contains_key(&key) {
                return Err(A::Error::custom(format_args!("key `{key}` stands twice")));
            }
            table.insert(key, value);
        }
        Ok(Raw::Table(table))
    }
}
