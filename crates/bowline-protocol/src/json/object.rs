//! A writer for JSON objects that leaves out what is unset.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::{NotJson, Payload};

/// The fields of a message in JSON: the one place that says how each message looks on the wire.
pub(super) trait Fields {
    /// Writes the fields of `self` into `object`.
    fn write(&self, object: &mut Object<'_>) -> Result<(), NotJson>;
}

/// One open JSON object at the end of a buffer.
///
/// The methods named after a kind of value leave the field out if it is unset; those named `always_…` do not.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

/// Appends `message` as one JSON object. On failure `out` is as it was before.
pub(super) fn write_object<T: Fields + ?Sized>(message: &T, out: &mut Vec<u8>) -> Result<(), NotJson> {
    let start = out.len();
    let written = nested(out, |object| message.write(object));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    write_scalar(text, out);
}

impl Object<'_> {
    pub(super) fn string(&mut self, name: &'static str, text: &str) {
        if !text.is_empty() {
            self.always_string(name, text);
        }
    }

    pub(super) fn always_string(&mut self, name: &'static str, text: &str) {
        write_string(text, self.field(name));
    }

    pub(super) fn number(&mut self, name: &'static str, number: impl Into<i128>) {
        let number = number.into();
        if number != 0 {
            self.always_number(name, number);
        }
    }

    pub(super) fn always_number(&mut self, name: &'static str, number: impl Into<i128>) {
        write_scalar(&number.into(), self.field(name));
    }

    pub(super) fn flag(&mut self, name: &'static str, is_set: bool) {
        if is_set {
            self.field(name).extend_from_slice(b"true");
        }
    }

    pub(super) fn payload(&mut self, name: &'static str, payload: &Payload) -> Result<(), NotJson> {
        if payload.is_empty() {
            return Ok(());
        }
        if payload.is_known_json() {
            self.field(name).extend_from_slice(payload.as_bytes());
        } else {
            let checked = payload.to_json()?;
            self.field(name).extend_from_slice(checked.as_bytes());
        }
        Ok(())
    }

    /// Writes a field that is a message, even if it has no fields itself.
    pub(super) fn message<T: Fields + ?Sized>(
        &mut self,
        name: &'static str,
        message: &T,
    ) -> Result<(), NotJson> {
        self.object(name, |object| message.write(object))
    }

    /// Writes a field that is an object made by `write`.
    pub(super) fn object(
        &mut self,
        name: &'static str,
        write: impl FnOnce(&mut Object<'_>) -> Result<(), NotJson>,
    ) -> Result<(), NotJson> {
        nested(self.field(name), write)
    }

    pub(super) fn list<T: Fields>(&mut self, name: &'static str, messages: &[T]) -> Result<(), NotJson> {
        if messages.is_empty() { Ok(()) } else { self.always_list(name, messages) }
    }

    pub(super) fn always_list<T: Fields>(
        &mut self,
        name: &'static str,
        messages: &[T],
    ) -> Result<(), NotJson> {
        let out = self.field(name);
        out.push(b'[');
        for (index, message) in messages.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            nested(out, |object| message.write(object))?;
        }
        out.push(b']');
        Ok(())
    }

    pub(super) fn map<T: Fields>(
        &mut self,
        name: &'static str,
        messages: &BTreeMap<String, impl Borrow<T>>,
    ) -> Result<(), NotJson> {
        if messages.is_empty() { Ok(()) } else { self.always_map(name, messages) }
    }

    pub(super) fn always_map<T: Fields>(
        &mut self,
        name: &'static str,
        messages: &BTreeMap<String, impl Borrow<T>>,
    ) -> Result<(), NotJson> {
        self.object(name, |object| {
            for (key, message) in messages {
                nested(object.entry(key), |object| message.borrow().write(object))?;
            }
            Ok(())
        })
    }

    pub(super) fn strings(&mut self, name: &'static str, strings: &BTreeMap<String, String>) {
        if !strings.is_empty() {
            write_scalar(strings, self.field(name));
        }
    }

    pub(super) fn string_list(&mut self, name: &'static str, strings: &[String]) {
        if !strings.is_empty() {
            write_scalar(strings, self.field(name));
        }
    }

    /// Starts a field whose name comes from outside.
    fn entry(&mut self, key: &str) -> &mut Vec<u8> {
        self.separate();
        write_string(key, self.out);
        self.out.push(b':');
        self.out
    }

    /// Starts a field whose name needs no escapes.
    fn field(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn separate(&mut self) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
    }
}

fn nested(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Object<'_>) -> Result<(), NotJson>,
) -> Result<(), NotJson> {
    out.push(b'{');
    write(&mut Object { out, is_empty: true })?;
    out.push(b'}');
    Ok(())
}

fn write_scalar<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // A Vec takes every byte, and strings, numbers and lists of strings are always expressible.
    serde_json::to_writer(out, value).expect("strings and numbers serialize into memory");
}
