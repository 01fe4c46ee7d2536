//! The macro that declares settings: structs with defaults, how they are read, and what is said about each key.
//!
//! One declaration is the only place where a key, its type, its default and its effect are stated. Reading,
//! "did you mean" and the sample file all follow it.

use super::reader::Reader;
use super::tree::Node;
use super::value::Value;

/// One entry of the list of all settings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    /// A section: a struct that holds keys.
    Section { key: String, doc: String },
    /// A key with a value.
    Key { key: String, doc: String, allowed: String, default: String, secret: bool },
}

impl Entry {
    /// Returns the whole path of the key or section.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Section { key, .. } | Self::Key { key, .. } => key,
        }
    }
}

/// A field of a struct of settings: a value, a section, or a list of namespaces.
pub(super) trait Setting {
    /// Takes over what `node` says about the key `key`; what is wrong with it goes to the reader.
    fn read(&mut self, key: &str, node: Node, reader: &mut Reader);

    /// Adds what there is to know about the key `key` and those below it, with the present values as defaults.
    fn describe(&self, key: &str, doc: &str, entries: &mut Vec<Entry>);
}

impl<V: Value> Setting for V {
    fn read(&mut self, key: &str, node: Node, reader: &mut Reader) {
        if let Some(value) = reader.value(key, &node) {
            *self = value;
        }
    }

    fn describe(&self, key: &str, doc: &str, entries: &mut Vec<Entry>) {
        entries.push(Entry::Key {
            key: key.to_owned(),
            doc: doc.to_owned(),
            allowed: V::allowed(),
            default: self.render(),
            secret: V::SECRET,
        });
    }
}

/// A struct of settings.
pub(super) trait Section {
    /// Takes over the value of the key `name` of the section `section`, or gives it back if there is no such key.
    fn read_key(&mut self, section: &str, name: &str, node: Node, reader: &mut Reader) -> Result<(), Node>;

    /// Adds what there is to know about every key of the section.
    fn describe_keys(&self, section: &str, entries: &mut Vec<Entry>);
}

/// Joins a section and the name of a key in it.
pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Joins the lines of a doc comment, of which each begins with a space.
pub(super) fn doc_text(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// Declares structs of settings with their defaults. A field after `..` lends its keys to the struct around it.
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident : $ty:ty = $default:expr, )*
            $( .. $(#[doc = $flat_doc:literal])+ $flat:ident : $flat_ty:ty = $flat_default:expr, )?
        }
    )*) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
            $( $(#[doc = $flat_doc])+ pub $flat: $flat_ty, )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* $( $flat: $flat_default, )? }
            }
        }

        impl $crate::config::schema::Section for $name {
            fn read_key(
                &mut self,
                section: &str,
                name: &str,
                node: $crate::config::tree::Node,
                reader: &mut $crate::config::reader::Reader,
            ) -> Result<(), $crate::config::tree::Node> {
                use $crate::config::schema::{Setting as _, join};
                match name {
                    $( stringify!($field) => self.$field.read(&join(section, name), node, reader), )*
                    _ => {
                        $( return self.$flat.read_key(section, name, node, reader); )?
                        #[allow(unreachable_code, reason = "reached by structs without a field after `..`")]
                        return Err(node);
                    }
                }
                Ok(())
            }

            fn describe_keys(&self, section: &str, entries: &mut Vec<$crate::config::schema::Entry>) {
                use $crate::config::schema::{Setting as _, doc_text, join};
                $( self.$field.describe(&join(section, stringify!($field)), &doc_text(&[$($doc),+]), entries); )*
                $( self.$flat.describe_keys(section, entries); )?
            }
        }

        impl $crate::config::schema::Setting for $name {
            fn read(
                &mut self,
                key: &str,
                node: $crate::config::tree::Node,
                reader: &mut $crate::config::reader::Reader,
            ) {
                reader.section(self, key, node);
            }

            fn describe(&self, key: &str, doc: &str, entries: &mut Vec<$crate::config::schema::Entry>) {
                use $crate::config::schema::{Entry, Section as _};
                entries.push(Entry::Section { key: key.to_owned(), doc: doc.to_owned() });
                self.describe_keys(key, entries);
            }
        }
    )*};
}

pub(super) use settings;
