//! The values settings are made of: each is parsed once and cannot be wrong afterwards.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The longest duration a setting may have: a hundred years.
///
/// The bound keeps `Instant + duration` from overflowing wherever a setting is added to a clock.
pub const LONGEST_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A duration of a setting for which zero is senseless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NonZeroDuration(Duration);

impl NonZeroDuration {
    /// Takes a duration that is above zero and at most [`LONGEST_DURATION`].
    #[must_use]
    pub fn new(duration: Duration) -> Option<Self> {
        (!duration.is_zero() && duration <= LONGEST_DURATION).then_some(Self(duration))
    }

    /// Makes the default of a setting.
    ///
    /// # Panics
    ///
    /// Panics if `seconds` is zero: the defaults are literals.
    pub(super) const fn of_secs(seconds: u64) -> Self {
        assert!(seconds > 0, "a default of zero");
        Self(Duration::from_secs(seconds))
    }

    /// Returns the duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<NonZeroDuration> for Duration {
    fn from(duration: NonZeroDuration) -> Self {
        duration.0
    }
}

/// Makes the default of a count or a size.
pub(super) const fn nonzero(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("a default of zero")
}

/// Headers of requests to others. The values are kept out of `Debug`: keys are among them.
#[derive(Clone, Default, PartialEq)]
pub struct Headers(Vec<(hyper::header::HeaderName, hyper::header::HeaderValue)>);

impl Headers {
    /// Takes names and values, or returns `None` if one of them cannot stand in a request.
    pub(super) fn new<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        headers
            .map(|(name, value)| {
                let name = name.parse().ok().filter(|name| !super::hooks::is_own(name))?;
                Some((name, value.parse().ok()?))
            })
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Returns names and values.
    pub fn iter(&self) -> impl Iterator<Item = &(hyper::header::HeaderName, hyper::header::HeaderValue)> {
        self.0.iter()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

macro_rules! paths {
    ($($(#[doc = $about:literal])+ $name:ident;)+) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            /// Returns the name.
            #[must_use]
            pub fn get(&self) -> &Path {
                Path::new(&*self.0)
            }

            pub(super) fn text(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                if text.is_empty() || text.contains('\0') { Err(Malformed) } else { Ok(Self(text.into())) }
            }
        }
    )+};
}

paths! {
    /// The name of a directory, relative to the working directory if it does not begin with the root.
    DirectoryPath;
    /// The name of a file, relative to the working directory if it does not begin with the root.
    FilePath;
}

/// A key or password: never shown by `Debug`, in errors or in the log.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps `secret`, or returns `None` if it is empty: an empty key protects nothing.
    #[must_use]
    pub fn new(secret: impl Into<Box<str>>) -> Option<Self> {
        let secret = secret.into();
        (!secret.is_empty()).then_some(Self(secret))
    }

    /// Returns the secret itself, for the code that signs or verifies with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares with what a caller presented, in a time that tells neither content nor length.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        // Digests have one length: `ct_eq` on the inputs would answer at once when lengths differ.
        let ours: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let theirs: [u8; 32] = Sha256::digest(presented).into();
        ours.ct_eq(&theirs).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

/// The text was not a value of the type asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed value")
    }
}

impl std::error::Error for Malformed {}

/// The path a handler answers at: begins with `/`, does not end with one, and needs no escaping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UrlPath(Box<str>);

impl FromStr for UrlPath {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let segment = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
        };
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').all(segment) => Ok(Self(text.into())),
            _ => Err(Malformed),
        }
    }
}

/// A mark inside channel names, such as the `:` between namespace and rest: one to eight printable
/// ASCII characters that no namespace name holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Separator(Box<str>);

impl FromStr for Separator {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let fits = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_punctuation());
        // A mark made only of characters of namespace names would cut names in two.
        let distinct = text.bytes().any(|b| !b"-_.".contains(&b));
        if fits && distinct { Ok(Self(text.into())) } else { Err(Malformed) }
    }
}

/// The name of a namespace: two or more of letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceName(Box<str>);

impl FromStr for NamespaceName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if allowed && text.len() >= 2 { Ok(Self(text.into())) } else { Err(Malformed) }
    }
}

/// The name of a token claim: a letter or `_`, then letters, digits or `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimName(Box<str>);

impl FromStr for ClaimName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if starts && allowed { Ok(Self(text.into())) } else { Err(Malformed) }
    }
}

/// A regular expression, compiled once.
///
/// It is not anchored: write `^…$` to bind the whole text. Matching takes time linear in the text.
#[derive(Debug, Clone)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Tells whether `text` matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl FromStr for Pattern {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Err(Malformed);
        }
        regex::Regex::new(text).map(Self).map_err(|_| Malformed)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Deref for Pattern {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_str()
    }
}

macro_rules! text_types {
    ($($name:ident)*) => {$(
        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_types!(UrlPath Separator NamespaceName ClaimName);

/// Declares an enum whose variants are written as fixed words; what follows `or` is read, but not written.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal $(or $alias:literal)*),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// The words of the settings, one per variant.
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];

            /// Returns the word that stands for the variant in the settings.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $name {
            type Err = Malformed;

            fn from_str(text: &str) -> Result<Self, Malformed> {
                match text { $($word $(| $alias)* => Ok(Self::$variant),)+ _ => Err(Malformed) }
            }
        }
    };
}

words! {
    /// How the server API reports a failed call.
    ErrorMode {
        /// HTTP 200 with an `error` object in the body.
        Body = "body" or "",
        /// An HTTP error status, and the bare error object as the body.
        Transport = "transport",
    }
}

words! {
    /// What recovery brings back.
    RecoveryMode {
        /// Every publication since the client's position.
        Stream = "stream" or "",
        /// Only the latest publication.
        Cache = "cache",
    }
}

words! {
    /// What a publication survives once it is acknowledged.
    HistoryDurability {
        /// A power failure: it is on the disk.
        Always = "always",
        /// The end of the process; it is synced a little later.
        Interval = "interval",
        /// The end of the process; it is synced when the system likes.
        Never = "never",
    }
}

words! {
    /// A format of deltas.
    DeltaType {
        /// That of the Fossil version control system.
        Fossil = "fossil",
    }
}

words! {
    /// What the data of a publication must be.
    DataFormat {
        /// Any JSON document.
        Json = "json",
        /// A JSON object.
        JsonObject = "json_object",
        /// Any bytes, also none.
        Binary = "binary",
    }
}

words! {
    /// The least severe messages that are logged.
    LogLevel {
        /// Every frame and decision.
        Trace = "trace",
        /// What a developer of clients wants to see.
        Debug = "debug",
        /// Start, stop and configuration.
        Info = "info",
        /// What the operator should look into.
        Warn = "warn",
        /// What failed.
        Error = "error" or "fatal",
        /// Nothing.
        Off = "none" or "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_only_itself_and_is_never_shown() {
        let secret = Secret::new("hunter2").expect("not empty");
        assert!(secret.matches(b"hunter2"));
        assert!(!secret.matches(b"hunter") && !secret.matches(b"") && !secret.matches(b"hunter22"));
        assert_eq!(format!("{secret:?}"), "***");
        assert!(Secret::new("").is_none());
    }

    #[test]
    fn separators_cannot_be_part_of_a_namespace_name() {
        for (text, valid) in
            [(":", true), ("::", true), ("#", true), ("-:", true), ("", false), ("-", false), ("._", false)]
        {
            assert_eq!(text.parse::<Separator>().is_ok(), valid, "{text:?}");
        }
        assert!("a".parse::<Separator>().is_err() && "é".parse::<Separator>().is_err());
    }

    #[test]
    fn paths_begin_with_a_slash_and_need_no_escaping() {
        for text in ["/", "", "api", "/api/", "/a//b", "/a?b", "/a b", "/ä"] {
            assert!(text.parse::<UrlPath>().is_err(), "{text:?}");
        }
        assert!("/connection/websocket".parse::<UrlPath>().is_ok());
    }

    #[test]
    fn durations_end_where_clocks_could_overflow() {
        assert!(NonZeroDuration::new(Duration::ZERO).is_none());
        assert!(NonZeroDuration::new(LONGEST_DURATION).is_some());
        assert!(NonZeroDuration::new(LONGEST_DURATION + Duration::from_nanos(1)).is_none());
    }
}
