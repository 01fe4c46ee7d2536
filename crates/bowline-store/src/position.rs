//! Where a reader of a stream is: an offset within a life of the stream.

use std::fmt;
use std::sync::Arc;

/// Letters of a fresh epoch: 52⁸ ≈ 5·10¹³ values, so two lives of one stream do not share a name by accident.
const EPOCH_LETTERS: usize = 8;

/// The name of one life of a stream; a stream that was lost and begins again has another.
///
/// Opaque to readers: the only question is whether two are equal. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// Makes a fresh random epoch.
    #[must_use]
    pub fn random() -> Self {
        let letters: String = std::iter::repeat_with(fastrand::alphabetic).take(EPOCH_LETTERS).collect();
        Self(letters.into())
    }

    /// The epoch's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Epoch {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl PartialEq<str> for Epoch {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

/// A place in a stream: the offset of the last publication seen, in a life of the stream.
///
/// Offset 0 is the place before the first publication.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Offset of the last publication at or before this place.
    pub offset: u64,
    /// The life of the stream the offset counts in.
    pub epoch: Epoch,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_epoch_has_eight_letters_and_differs_from_the_next() {
        let (one, two) = (Epoch::random(), Epoch::random());
        assert_eq!(one.as_str().len(), EPOCH_LETTERS);
        assert!(one.as_str().bytes().all(|letter| letter.is_ascii_alphabetic()));
        assert_ne!(one, two);
    }
}
