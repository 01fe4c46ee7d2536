//! The bytes around records: headers of files, frames, marks. `docs/store-format.md` draws them.
//!
//! Pure: no files, no clock, no locks. Reading never panics and never allocates by a length it has not checked.
//!
//! # Invariants
//!
//! 1. Every checksum of a frame begins with the [`Secret`] of its file. A publisher chooses most bytes of the log, but
//!    cannot choose any that read as a frame, should a torn write or damage let reading begin in the middle of them.
//! 2. A mark repeats the secret, so a place where reading begins again is not found by accident either.

use std::hash::{BuildHasher, RandomState};

/// The version of the format this code writes, and the only one it reads.
pub(super) const VERSION: u32 = 1;
/// Bytes of a file's header.
pub(super) const HEADER: u64 = 48;
/// Bytes in front of each record's body: its length and its checksum.
pub(super) const FRAME: usize = 8;
/// The longest body. A length above it is damage, so that nothing is allocated by a length that was not checked.
pub(super) const MAX_BODY: usize = 64 * 1024 * 1024;
/// Bytes of a framed mark, which is of one length so that it can be filled in later.
pub(super) const MARK: usize = FRAME + 25;
/// The kind of a mark; those of the records are in `format`.
pub(super) const KIND_MARK: u8 = 1;

const MAGIC_LOG: [u8; 8] = *b"BOWLLOG\n";
const MAGIC_INDEX: [u8; 8] = *b"BOWLIDX\n";

/// What makes the frames of one start of the store its own. Whoever does not know it cannot make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Secret {
    number: u64,
    /// What every checksum begins with.
    seed: u32,
}

impl Secret {
    pub(super) fn new(number: u64) -> Self {
        Self { number, seed: crc32c::crc32c(&number.to_le_bytes()) }
    }

    /// One that nobody guesses: the system's randomness, behind a keyed hash. (Epochs are random too, but told to all.)
    pub(super) fn random() -> Self {
        Self::new(RandomState::new().hash_one("bowline"))
    }

    /// The secret of a file whose header is lost: its first mark has it, if that is whole.
    pub(super) fn of_first_mark(bytes: &[u8]) -> Option<Self> {
        let secret = Self::new(u64_at(bytes.get(..MARK)?, FRAME + 1));
        is_mark(bytes, secret).then_some(secret)
    }
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The log position of the first record.
    pub(super) base: u64,
    /// Of an index: the log position behind the last record it speaks of. Of a log: the boot it was written in, or 0.
    pub(super) extra: u64,
    /// When it was made, in milliseconds since 1970.
    pub(super) stamp: u64,
    /// Of an index: that of its file.
    pub(super) secret: Secret,
}

/// Which kind of file a header is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Log,
    Index,
}

/// Why a header was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    /// It is whole, and of a version we do not know.
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self, kind: FileKind) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(magic(kind));
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.extra.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.stamp.to_le_bytes());
        bytes[40..].copy_from_slice(&self.secret.number.to_le_bytes());
        let checksum = Self::checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(kind: FileKind, bytes: &[u8; HEADER as usize]) -> Result<Self, BadHeader> {
        if bytes[..8] != *magic(kind) || u32_at(bytes, 12) != Self::checksum(bytes) {
            return Err(BadHeader::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => Ok(Self {
                base: u64_at(bytes, 16),
                extra: u64_at(bytes, 24),
                stamp: u64_at(bytes, 32),
                secret: Secret::new(u64_at(bytes, 40)),
            }),
            other => Err(BadHeader::Version(other)),
        }
    }

    /// Of all bytes but its own four.
    fn checksum(bytes: &[u8; HEADER as usize]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
    }
}

fn magic(kind: FileKind) -> &'static [u8; 8] {
    match kind {
        FileKind::Log => &MAGIC_LOG,
        FileKind::Index => &MAGIC_INDEX,
    }
}

/// Appends the frame of what `body` writes to `out`.
pub(super) fn framed(out: &mut Vec<u8>, secret: Secret, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    body(out);
    seal(&mut out[start..], secret);
}

/// Fills in length and checksum of a frame whose body is written.
///
/// # Panics
///
/// If the body is longer than a `u32` counts; callers keep to [`MAX_BODY`].
pub(super) fn seal(frame: &mut [u8], secret: Secret) {
    let length = u32::try_from(frame.len() - FRAME).expect("a body keeps to MAX_BODY");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(secret, length, &frame[FRAME..]);
    frame[4..FRAME].copy_from_slice(&checksum.to_le_bytes());
}

/// The length is under the checksum as well: a frame cut to a shorter one is not whole.
fn checksum(secret: Secret, length: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(secret.seed, &length.to_le_bytes()), body)
}

/// Puts a mark into its place at the beginning of a group: everything before position `synced` is on the disk.
pub(super) fn fill_mark(place: &mut [u8], secret: Secret, synced: u64, stamp: u64) {
    place[FRAME] = KIND_MARK;
    for (at, number) in [(1, secret.number), (9, synced), (17, stamp)] {
        place[FRAME + at..FRAME + at + 8].copy_from_slice(&number.to_le_bytes());
    }
    seal(&mut place[..MARK], secret);
}

/// What a mark's body says behind its kind: up to where everything was synced, and when it was written.
pub(super) fn mark(rest: &[u8]) -> Option<(u64, u64)> {
    (rest.len() == MARK - FRAME - 1).then(|| (u64_at(rest, 8), u64_at(rest, 16)))
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framed<'a> {
    /// A whole frame of this many bytes, with this body.
    Whole(&'a [u8], usize),
    /// The bytes end before the frame does; this many are needed.
    Short(usize),
    /// No frame: the length is none, or the checksum is wrong. The length it claims, if that is possible.
    Bad(Option<usize>),
}

/// Reads the frame at the beginning of `bytes`.
pub(super) fn unframe(bytes: &[u8], secret: Secret) -> Framed<'_> {
    if bytes.len() < FRAME {
        return Framed::Short(FRAME);
    }
    let length = u32_at(bytes, 0);
    let Some(whole) = usize::try_from(length).ok().filter(|body| (1..=MAX_BODY).contains(body)) else {
        return Framed::Bad(None);
    };
    let whole = FRAME + whole;
    match bytes.get(FRAME..whole) {
        None => Framed::Short(whole),
        Some(body) if checksum(secret, length, body) == u32_at(bytes, 4) => Framed::Whole(body, whole),
        Some(_) => Framed::Bad(Some(whole)),
    }
}

/// The body at the beginning of bytes that were checked before, and how long its frame is; `None` at their end.
pub(super) fn checked(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let whole = FRAME + usize::try_from(u32_at(bytes.get(..FRAME)?, 0)).ok()?;
    Some((bytes.get(FRAME..whole)?, whole))
}

/// Where the next mark is in `bytes`: where reading can begin again after damage.
pub(super) fn find_mark(bytes: &[u8], secret: Secret) -> Option<usize> {
    (0..bytes.len().saturating_sub(MARK - 1)).find(|&at| is_mark(&bytes[at..], secret))
}

fn is_mark(bytes: &[u8], secret: Secret) -> bool {
    const LENGTH: [u8; 4] = ((MARK - FRAME) as u32).to_le_bytes();
    bytes[..4] == LENGTH
        && bytes[FRAME] == KIND_MARK
        && u64_at(bytes, FRAME + 1) == secret.number
        && matches!(unframe(bytes, secret), Framed::Whole(..))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_drawn_as_in_the_docs() {
        let header = Header { base: 0x0102, extra: 3, stamp: 4, secret: Secret::new(5) };
        let bytes = header.encode(FileKind::Log);
        assert_eq!(bytes[..12], *b"BOWLLOG\n\x01\0\0\0");
        assert_eq!((bytes[16], bytes[17], bytes[24], bytes[32], bytes[40]), (2, 1, 3, 4, 5));
        assert_eq!(Header::decode(FileKind::Log, &bytes), Ok(header));
        assert_eq!(Header::decode(FileKind::Index, &bytes), Err(BadHeader::Damaged));
        for byte in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[byte] ^= 1;
            assert_eq!(Header::decode(FileKind::Log, &flipped), Err(BadHeader::Damaged), "{byte}");
        }
    }

    #[test]
    fn a_mark_is_found_behind_damage() {
        let secret = Secret::random();
        let mut bytes = vec![0xff; 100];
        bytes.resize(100 + MARK, 0);
        fill_mark(&mut bytes[100..], secret, 5, 6);
        assert_eq!(find_mark(&bytes, secret), Some(100));
        assert_eq!(mark(&bytes[100 + FRAME + 1..]), Some((5, 6)));
        assert_eq!(Secret::of_first_mark(&bytes[100..]), Some(secret));
        assert_eq!(find_mark(&bytes, Secret::new(7)), None, "of another file");
        bytes[130] ^= 1;
        assert_eq!(find_mark(&bytes, secret), None);
        assert_eq!(Secret::of_first_mark(&bytes[100..]), None);
    }

    #[test]
    fn a_frame_of_another_secret_is_not_whole() {
        let (one, another) = (Secret::random(), Secret::random());
        assert_ne!(one, another);
        let mut frame = Vec::new();
        framed(&mut frame, one, |out| out.extend_from_slice(b"body"));
        assert_eq!(unframe(&frame, one), Framed::Whole(b"body", frame.len()));
        assert_eq!(unframe(&frame, another), Framed::Bad(Some(frame.len())));
    }
}
