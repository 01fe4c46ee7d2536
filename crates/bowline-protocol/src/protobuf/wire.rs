//! Varints, lengths and the kinds of fields. A field that is unset (zero, empty) is not written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::MAX_DEPTH;
use crate::{Payload, Secret};

/// What is wrong with bytes that are not protobuf of the expected form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end within a field, or before the length that they state.
    Truncated,
    /// A varint is longer than 64 bits.
    Overlong,
    /// A field has the number zero, a kind that proto3 does not have, or another kind than the schema says.
    WrongKind,
    /// Text is not UTF-8.
    NotUtf8,
    /// A number is beyond the range of its field.
    OutOfRange,
    /// Messages nest deeper than [`MAX_DEPTH`].
    TooDeep,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the bytes end within a field",
            Self::Overlong => "a varint is longer than 64 bits",
            Self::WrongKind => "a field is of a kind that the schema does not say",
            Self::NotUtf8 => "a text is not UTF-8",
            Self::OutOfRange => "a number is out of the range of its field",
            Self::TooDeep => "messages nest too deep",
        })
    }
}

impl std::error::Error for Malformed {}

/// A message: its fields, written and read one at a time.
pub(super) trait Message {
    /// Appends the fields that are set.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes one field; one that is not known is left alone. A field that comes again replaces what it was, or adds
    /// to it if it is a list, a map or a message.
    fn merge(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed>;
}

/// One kind of field.
pub(super) trait Field {
    /// Appends the field, unless it is unset.
    fn write(&self, number: u32, out: &mut Vec<u8>);

    /// Takes the value.
    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed>;
}

/// The value of one field as it stands on the wire.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// Text, bytes or a message, and how many more may nest in it.
    Bytes(&'a [u8], u8),
    /// A number of fixed length: the schema has none.
    Fixed,
}

impl<'a> Value<'a> {
    fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            Self::Bytes(..) | Self::Fixed => Err(Malformed::WrongKind),
        }
    }

    fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes, _) => Ok(bytes),
            Self::Varint(_) | Self::Fixed => Err(Malformed::WrongKind),
        }
    }

    fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::NotUtf8)
    }

    /// Reads the value as a message into `message`.
    pub(super) fn merge_into(self, message: &mut impl Message) -> Result<(), Malformed> {
        let Self::Bytes(bytes, depth) = self else { return Err(Malformed::WrongKind) };
        merge(bytes, depth.checked_sub(1).ok_or(Malformed::TooDeep)?, message)
    }
}

/// Reads a whole message.
pub(super) fn read<T: Message + Default>(bytes: &[u8]) -> Result<T, Malformed> {
    let mut message = T::default();
    merge(bytes, MAX_DEPTH, &mut message)?;
    Ok(message)
}

fn merge(mut bytes: &[u8], depth: u8, message: &mut impl Message) -> Result<(), Malformed> {
    while let Some((number, value)) = next_field(&mut bytes, depth)? {
        message.merge(number, value)?;
    }
    Ok(())
}

/// Takes the next field off the front of `bytes`.
pub(super) fn next_field<'a>(bytes: &mut &'a [u8], depth: u8) -> Result<Option<(u32, Value<'a>)>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let tag = u32::try_from(take_varint(bytes)?).map_err(|_| Malformed::WrongKind)?;
    let value = match tag & 7 {
        0 => Value::Varint(take_varint(bytes)?),
        1 => take(bytes, 8).map(|_| Value::Fixed)?,
        2 => Value::Bytes(take_delimited(bytes)?, depth),
        5 => take(bytes, 4).map(|_| Value::Fixed)?,
        // Groups, which proto3 does not have, and what nothing has.
        _ => return Err(Malformed::WrongKind),
    };
    match tag >> 3 {
        0 => Err(Malformed::WrongKind),
        number => Ok(Some((number, value))),
    }
}

/// Takes the next field off the front of `bytes`: its number, and what is in it if it is text, bytes or a message. `None` at
/// the end, and where the bytes are malformed.
pub(crate) fn next_bytes<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let (number, value) = next_field(bytes, 0).ok()??;
    Some((number, value.bytes().unwrap_or_default()))
}

/// Takes bytes and the length in front of them.
pub(super) fn take_delimited<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = take_varint(bytes)?;
    take(bytes, usize::try_from(length).map_err(|_| Malformed::Truncated)?)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed::Truncated)?;
        *bytes = rest;
        // Of the tenth byte only one bit is left.
        if shift == 63 && byte > 1 {
            return Err(Malformed::Overlong);
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed::Overlong)
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends what `write` makes behind its length.
pub(super) fn write_delimited(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // The length is known afterwards only. Most fit into one byte; for the others everything moves up once.
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    match u8::try_from(length) {
        Ok(short @ ..0x80) => out[start] = short,
        _ => {
            let mut bytes = Vec::with_capacity(10);
            write_varint(length as u64, &mut bytes);
            out.splice(start..=start, bytes);
        }
    }
}

fn write_tag(number: u32, kind: u32, out: &mut Vec<u8>) {
    write_varint(u64::from(number << 3 | kind), out);
}

pub(super) fn write_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    write_tag(number, 2, out);
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a field that is made by `write`, also if nothing is in it.
pub(super) fn write_message(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    write_tag(number, 2, out);
    write_delimited(out, write);
}

/// Numbers go as 64 bits, with their sign if they have one. Reading cuts off what a field of 32 bits does not hold, as
/// the encoding says.
macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                if *self != 0 {
                    write_tag(number, 0, out);
                    write_varint(*self as u64, out);
                }
            }

            fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
                *self = value.varint()? as $number;
                Ok(())
            }
        }
    )*};
}

numbers!(u32, u64, i32, i64);

impl Field for u16 {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        Field::write(&u32::from(*self), number, out);
    }

    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        // The schema has 32 bits, of which all codes use 16: cutting off would make another code.
        *self = u16::try_from(value.varint()?).map_err(|_| Malformed::OutOfRange)?;
        Ok(())
    }
}

impl Field for bool {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        Field::write(&u32::from(*self), number, out);
    }

    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        *self = value.varint()? != 0;
        Ok(())
    }
}

/// Text and bytes: how they are seen, and how they are made.
macro_rules! byte_strings {
    ($($string:ty: $as_bytes:expr, $take:expr;)*) => {$(
        impl Field for $string {
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                let as_bytes: fn(&Self) -> &[u8] = $as_bytes;
                if !as_bytes(self).is_empty() {
                    write_bytes(number, as_bytes(self), out);
                }
            }

            fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
                *self = $take(value)?;
                Ok(())
            }
        }
    )*};
}

byte_strings! {
    String: |text| text.as_bytes(), |value: Value<'_>| value.text().map(str::to_owned);
    Secret: |text| text.expose().as_bytes(), |value: Value<'_>| value.text().map(Secret::from);
    Arc<str>: |text| text.as_bytes(), |value: Value<'_>| value.text().map(Arc::from);
    Cow<'static, str>: |text| text.as_bytes(), |value: Value<'_>| value.text().map(|text| Cow::Owned(text.to_owned()));
    Payload: |payload| payload.as_bytes(), |value: Value<'_>| value.bytes().map(copied_payload);
    Bytes: |bytes| bytes, |value: Value<'_>| value.bytes().map(Bytes::copy_from_slice);
}

fn copied_payload(bytes: &[u8]) -> Payload {
    Payload::opaque(Bytes::copy_from_slice(bytes))
}

impl<T: Message + Clone> Message for Arc<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }

    fn merge(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        Arc::make_mut(self).merge(number, value)
    }
}

impl<T: Message> Message for Box<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }

    fn merge(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        (**self).merge(number, value)
    }
}

/// A message that may be missing.
impl<T: Message + Default> Field for Option<T> {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(message) = self {
            write_message(number, out, |out| message.write(out));
        }
    }

    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        value.merge_into(self.get_or_insert_default())
    }
}

impl<T: Message + Default> Field for Vec<T> {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for message in self {
            write_message(number, out, |out| message.write(out));
        }
    }

    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let mut message = T::default();
        value.merge_into(&mut message)?;
        self.push(message);
        Ok(())
    }
}

impl Field for Vec<String> {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for text in self {
            write_bytes(number, text.as_bytes(), out);
        }
    }

    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        self.push(value.text()?.to_owned());
        Ok(())
    }
}

/// A map is a list of messages with a key and a value; of equal keys the last counts.
impl<T: Message + Default> Field for BTreeMap<String, T> {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for (key, message) in self {
            write_message(number, out, |out| {
                Field::write(key, 1, out);
                write_message(2, out, |out| message.write(out));
            });
        }
    }

    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let mut entry = MessageEntry::<T>::default();
        value.merge_into(&mut entry)?;
        self.insert(entry.key, entry.value);
        Ok(())
    }
}

impl Field for BTreeMap<String, String> {
    fn write(&self, number: u32, out: &mut Vec<u8>) {
        for (key, text) in self {
            write_message(number, out, |out| {
                Field::write(key, 1, out);
                Field::write(text, 2, out);
            });
        }
    }

    fn merge(&mut self, value: Value<'_>) -> Result<(), Malformed> {
        let mut entry = TextEntry::default();
        value.merge_into(&mut entry)?;
        self.insert(entry.key, entry.value);
        Ok(())
    }
}

#[derive(Default)]
struct MessageEntry<T> {
    key: String,
    value: T,
}

impl<T: Message> Message for MessageEntry<T> {
    fn write(&self, _: &mut Vec<u8>) {}

    fn merge(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        match number {
            1 => Field::merge(&mut self.key, value),
            2 => value.merge_into(&mut self.value),
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
struct TextEntry {
    key: String,
    value: String,
}

impl Message for TextEntry {
    fn write(&self, _: &mut Vec<u8>) {}

    fn merge(&mut self, number: u32, value: Value<'_>) -> Result<(), Malformed> {
        match number {
            1 => Field::merge(&mut self.key, value),
            2 => Field::merge(&mut self.value, value),
            _ => Ok(()),
        }
    }
}
