//! Deltas in the Fossil format: a text that makes one version of some data from the one before.
//!
//! ```
//! use bowline_protocol::delta::{self, Cuts};
//!
//! let old = br#"{"score":[3,1],"home":"Lions of the North","guests":"Tigers of the South"}"#;
//! let new = br#"{"score":[3,2],"home":"Lions of the North","guests":"Tigers of the South"}"#;
//! let delta = delta::create(old, new, Cuts::AtCharacters).expect("a small change has a small delta");
//! assert!(delta.len() < new.len());
//! assert_eq!(delta::apply(old, &delta, 1000)?, new);
//! # Ok::<(), delta::BadDelta>(())
//! ```
//!
//! A delta is the length of the target and a newline, segments, and a checksum. A segment `<count>@<offset>,` copies from
//! the source, `<count>:<bytes>` inserts; the end is `<checksum>;`. Numbers are in base 64 of an alphabet of its own, the
//! most significant digit first; the checksum is the sum of the target's words of four bytes, big-endian.
//!
//! # Cost
//!
//! Creating takes time proportional to source and target: of each block of the source one place is kept per hash, each
//! place of the target looks at one candidate, and a candidate of which only the hash is the same costs one comparison of
//! a block. Memory is two words for each block of the source. Applying never makes more than the limit it is told.

use std::fmt;

/// The length of the blocks by which equal pieces are found. Shorter ones find more and cost more: a copy takes about
/// seven bytes, so that blocks of this size always gain.
const BLOCK_BYTES: usize = 16;

/// Most data that is worth it: above, the time to find the delta is longer than that to send it.
const MAX_BYTES: usize = 1 << 20;

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Where the pieces of a delta may begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// Between any two bytes, for deltas that travel as bytes.
    Anywhere,
    /// Between characters of the target, for deltas that travel as text. The target must be UTF-8; if it is not, there is
    /// no delta.
    AtCharacters,
}

/// Why a delta cannot be applied: it is damaged, or of other data. The caller asks for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadDelta {
    /// It is not of the format.
    Malformed,
    /// It copies from beyond the end of the source.
    OutOfSource,
    /// What comes out is not as long as it says, or longer than the limit.
    WrongLength,
    /// What comes out is not what it was made from.
    WrongChecksum,
}

impl fmt::Display for BadDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the delta is malformed",
            Self::OutOfSource => "the delta copies from beyond the end of the source",
            Self::WrongLength => "the delta makes another length than it says",
            Self::WrongChecksum => "the delta is of another source",
        })
    }
}

impl std::error::Error for BadDelta {}

/// Makes the delta from `source` to `target`; `None` if it would not be shorter than `target`.
#[must_use]
pub fn create(source: &[u8], target: &[u8], cuts: Cuts) -> Option<Vec<u8>> {
    if source.len().max(target.len()) > MAX_BYTES {
        return None;
    }
    let is_text = cuts == Cuts::AtCharacters;
    if is_text && std::str::from_utf8(target).is_err() {
        return None;
    }
    let mut delta = Vec::with_capacity(target.len().min(256));
    write_number(target.len() as u64, &mut delta);
    delta.push(b'\n');
    let blocks = Blocks::new(source);
    // Everything before `done` is in the delta; `at` is where the window of the rolling hash begins.
    let (mut done, mut at) = (0, 0);
    let mut hash = RollingHash::new(target);
    while let Some(value) = hash.value() {
        let copy = blocks.find(value, &target[at..]).map(|from| extend(source, target, from, at, done));
        let copy = copy.and_then(|copy| if is_text { copy.at_characters(target) } else { Some(copy) });
        match copy {
            Some(copy) if copy.length > copy.cost() => {
                write_insert(&target[done..copy.to], &mut delta);
                write_number(copy.length as u64, &mut delta);
                delta.push(b'@');
                write_number(copy.from as u64, &mut delta);
                delta.push(b',');
                done = copy.to + copy.length;
                // A copy that was cut back may end before the window: the search never goes back.
                at = done.max(at + 1);
                hash.jump(at);
            }
            _ => {
                at += 1;
                hash.roll();
            }
        }
        if delta.len() >= target.len() {
            return None;
        }
    }
    write_insert(&target[done..], &mut delta);
    write_number(u64::from(checksum(target)), &mut delta);
    delta.push(b';');
    (delta.len() < target.len()).then_some(delta)
}

/// Makes the target from `source` and `delta`, if it is at most `max_bytes` long.
///
/// A delta that copies a piece again and again makes much out of little: the limit is for those of strangers.
///
/// # Errors
///
/// [`BadDelta`] if the delta is damaged, of another source, or makes more than the limit.
pub fn apply(source: &[u8], delta: &[u8], max_bytes: usize) -> Result<Vec<u8>, BadDelta> {
    let mut rest = delta;
    let length = usize::try_from(read_number(&mut rest)?).map_err(|_| BadDelta::WrongLength)?;
    expect(&mut rest, b'\n')?;
    if length > max_bytes {
        return Err(BadDelta::WrongLength);
    }
    let mut target = Vec::new();
    loop {
        let number = read_number(&mut rest)?;
        let (&mark, after) = rest.split_first().ok_or(BadDelta::Malformed)?;
        rest = after;
        let piece = match mark {
            b'@' => {
                let from = usize::try_from(read_number(&mut rest)?).map_err(|_| BadDelta::OutOfSource)?;
                expect(&mut rest, b',')?;
                let count = usize::try_from(number).map_err(|_| BadDelta::OutOfSource)?;
                let end = from.checked_add(count).ok_or(BadDelta::OutOfSource)?;
                source.get(from..end).ok_or(BadDelta::OutOfSource)?
            }
            b':' => {
                let count = usize::try_from(number).map_err(|_| BadDelta::Malformed)?;
                let (piece, after) = rest.split_at_checked(count).ok_or(BadDelta::Malformed)?;
                rest = after;
                piece
            }
            b';' if !rest.is_empty() => return Err(BadDelta::Malformed),
            b';' if target.len() != length => return Err(BadDelta::WrongLength),
            b';' if number != u64::from(checksum(&target)) => return Err(BadDelta::WrongChecksum),
            b';' => return Ok(target),
            _ => return Err(BadDelta::Malformed),
        };
        if piece.len() > length - target.len() {
            return Err(BadDelta::WrongLength);
        }
        target.extend_from_slice(piece);
    }
}

/// A piece that source and target have in common.
struct Copy {
    from: usize,
    to: usize,
    length: usize,
}

impl Copy {
    /// What the segment takes: two numbers and two marks, and the head of an insertion that it may cut in two.
    fn cost(&self) -> usize {
        digits(self.length as u64) + digits(self.from as u64) + 4
    }

    /// The same without the halves of characters at its ends; `None` if nothing is left.
    fn at_characters(mut self, target: &[u8]) -> Option<Self> {
        let is_inside = |at: usize| target.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        while self.length > 0 && is_inside(self.to) {
            (self.from, self.to, self.length) = (self.from + 1, self.to + 1, self.length - 1);
        }
        while self.length > 0 && is_inside(self.to + self.length) {
            self.length -= 1;
        }
        (self.length > 0).then_some(self)
    }
}

/// The whole piece around a block that is the same at `from` and at `to`; in the target it begins at `first` or later.
fn extend(source: &[u8], target: &[u8], from: usize, to: usize, first: usize) -> Copy {
    let common = |pair: &(&u8, &u8)| pair.0 == pair.1;
    let forward = source[from..].iter().zip(&target[to..]).take_while(common).count();
    let backward = source[..from].iter().rev().zip(target[first..to].iter().rev()).take_while(common).count();
    Copy { from: from - backward, to: to - backward, length: forward + backward }
}

/// Where in the source a block of some hash is.
struct Blocks<'a> {
    source: &'a [u8],
    /// Number of the block plus one, by hash; its length is a power of two. The first block of a hash stays.
    table: Vec<u32>,
}

impl<'a> Blocks<'a> {
    fn new(source: &'a [u8]) -> Self {
        let count = source.len() / BLOCK_BYTES;
        let mut blocks = Self { source, table: vec![0; (count * 2).next_power_of_two()] };
        for (number, block) in (1..).zip(source.chunks_exact(BLOCK_BYTES)) {
            let place = blocks.place(RollingHash::of(block));
            if blocks.table[place] == 0 {
                blocks.table[place] = number;
            }
        }
        blocks
    }

    /// Where the source has the block that `target` begins with.
    fn find(&self, hash: u64, target: &[u8]) -> Option<usize> {
        let number = self.table[self.place(hash)].checked_sub(1)?;
        let from = number as usize * BLOCK_BYTES;
        (self.source[from..from + BLOCK_BYTES] == target[..BLOCK_BYTES]).then_some(from)
    }

    fn place(&self, hash: u64) -> usize {
        // The high bits are the ones that depend on every byte.
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed as usize & (self.table.len() - 1)
    }
}

/// The hash of a window of one block that moves over some data: a polynomial, modulo 2^64.
struct RollingHash<'a> {
    data: &'a [u8],
    at: usize,
    value: u64,
}

const BASE: u64 = 0x0000_0100_0000_01b3;

impl<'a> RollingHash<'a> {
    fn new(data: &'a [u8]) -> Self {
        let mut hash = Self { data, at: 0, value: 0 };
        hash.jump(0);
        hash
    }

    fn of(block: &[u8]) -> u64 {
        block.iter().fold(0, |value: u64, byte| value.wrapping_mul(BASE).wrapping_add(u64::from(*byte)))
    }

    /// The hash of the window; `None` if it reaches beyond the end.
    fn value(&self) -> Option<u64> {
        (self.at + BLOCK_BYTES <= self.data.len()).then_some(self.value)
    }

    fn jump(&mut self, at: usize) {
        self.at = at;
        self.value = self.data.get(at..at + BLOCK_BYTES).map_or(0, Self::of);
    }

    fn roll(&mut self) {
        const FIRST: u64 = BASE.wrapping_pow(BLOCK_BYTES as u32 - 1);
        if let Some(&next) = self.data.get(self.at + BLOCK_BYTES) {
            let without = self.value.wrapping_sub(u64::from(self.data[self.at]).wrapping_mul(FIRST));
            self.value = without.wrapping_mul(BASE).wrapping_add(u64::from(next));
        }
        self.at += 1;
    }
}

fn write_insert(bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        write_number(bytes.len() as u64, out);
        out.push(b':');
        out.extend_from_slice(bytes);
    }
}

fn digits(number: u64) -> usize {
    (64 - number.leading_zeros()).div_ceil(6).max(1) as usize
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    for place in (0..digits(number)).rev() {
        out.push(DIGITS[(number >> (6 * place)) as usize & 63]);
    }
}

fn read_number(bytes: &mut &[u8]) -> Result<u64, BadDelta> {
    let length = bytes.iter().take_while(|byte| digit(**byte).is_some()).count();
    // Ten digits are more than any length or checksum has, and fit.
    if !(1..=10).contains(&length) {
        return Err(BadDelta::Malformed);
    }
    let (digits, rest) = bytes.split_at(length);
    *bytes = rest;
    Ok(digits.iter().filter_map(|byte| digit(*byte)).fold(0, |number, digit| number << 6 | u64::from(digit)))
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        b'_' => Some(36),
        b'a'..=b'z' => Some(byte - b'a' + 37),
        b'~' => Some(63),
        _ => None,
    }
}

fn expect(bytes: &mut &[u8], byte: u8) -> Result<(), BadDelta> {
    match bytes.split_first() {
        Some((first, rest)) if *first == byte => {
            *bytes = rest;
            Ok(())
        }
        _ => Err(BadDelta::Malformed),
    }
}

fn checksum(data: &[u8]) -> u32 {
    data.chunks(4).fold(0, |sum: u32, word| {
        let mut bytes = [0; 4];
        bytes[..word.len()].copy_from_slice(word);
        sum.wrapping_add(u32::from_be_bytes(bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_others_write_them() {
        let written = |number| {
            let mut out = Vec::new();
            write_number(number, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (number, text) in
            [(0, "0"), (9, "9"), (10, "A"), (36, "_"), (37, "a"), (63, "~"), (64, "10"), (4095, "~~")]
        {
            assert_eq!(written(number), text);
            assert_eq!(read_number(&mut text.as_bytes()), Ok(number));
        }
        assert_eq!(read_number(&mut &b"~~~~~~~~~~~"[..]), Err(BadDelta::Malformed));
    }

    #[test]
    fn damage_is_told_apart() {
        let (old, new) = ([b'x'; 100], [[b'x'; 100], [b'y'; 100]].concat());
        let delta = create(&old, &new, Cuts::Anywhere).unwrap();
        assert_eq!(apply(&old, &delta, MAX_BYTES).unwrap(), new);
        assert_eq!(apply(&[b'z'; 100], &delta, MAX_BYTES), Err(BadDelta::WrongChecksum));
        assert_eq!(apply(&old[..99], &delta, MAX_BYTES), Err(BadDelta::OutOfSource));
        assert_eq!(apply(&old, b"2\n1:x0;", MAX_BYTES), Err(BadDelta::WrongLength));
        assert_eq!(apply(&old, b"2\n3:xxx0;", MAX_BYTES), Err(BadDelta::WrongLength));
        assert_eq!(apply(&old, b"~~~~~~\n", MAX_BYTES), Err(BadDelta::WrongLength));
        for malformed in [&b""[..], b"2", b"2\n", b"2\n2:x", b"2\n2@0;", b"2\n2?0", b"0\n0;0"] {
            assert_eq!(apply(&old, malformed, MAX_BYTES), Err(BadDelta::Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn what_has_nothing_in_common_has_no_delta() {
        let old: Vec<u8> = (0..=255).collect();
        let new: Vec<u8> = (0..=255).rev().collect();
        assert_eq!(create(&old, &new, Cuts::Anywhere), None);
        assert_eq!(create(b"", b"", Cuts::Anywhere), None);
        assert_eq!(create(&vec![0; MAX_BYTES + 1], &[0; 100], Cuts::Anywhere), None);
    }

    /// A checksum is the sum of words, the last one filled with zeros.
    #[test]
    fn the_checksum_takes_words_from_the_front() {
        assert_eq!(checksum(&[1, 2, 3, 4, 5]), 0x0102_0304 + 0x0500_0000);
        assert_eq!(checksum(&[0xff; 8]), 0xffff_fffe);
    }

    #[test]
    fn a_delta_of_text_cuts_no_character() {
        // The characters differ in their last byte only, around long pieces that are the same.
        let text = |end: char| format!("{}é{end}{}", "a".repeat(40), "ü".repeat(40));
        let (old, new) = (text('ä'), text('ö'));
        let delta = create(old.as_bytes(), new.as_bytes(), Cuts::AtCharacters).unwrap();
        assert!(std::str::from_utf8(&delta).is_ok(), "{delta:?}");
        assert_eq!(apply(old.as_bytes(), &delta, MAX_BYTES).unwrap(), new.as_bytes());
        let bytes = create(old.as_bytes(), new.as_bytes(), Cuts::Anywhere).unwrap();
        assert!(std::str::from_utf8(&bytes).is_err(), "the case is not the one it wants to be");
        assert_eq!(create(&[0xff; 100], &[0xff; 100], Cuts::AtCharacters), None);
    }

    /// Everything looks like everything else: the time must not be the product of the lengths.
    #[test]
    fn repetitions_take_linear_time() {
        let old = b"ab".repeat(MAX_BYTES / 2);
        let mut new = old.clone();
        new[MAX_BYTES / 2] = b'x';
        let delta = create(&old, &new, Cuts::Anywhere).unwrap();
        assert!(delta.len() < 100);
        assert_eq!(apply(&old, &delta, MAX_BYTES).unwrap(), new);
    }
}
