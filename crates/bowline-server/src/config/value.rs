//! How each type of setting is read from a raw value and written into the sample file.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use super::endpoint::{Endpoint, HookEndpoint};
use super::hooks::ForwardedHeader;
use super::network::Network;
use super::origin::OriginPattern;
use super::public_key::{EcdsaPublicKey, Ed25519PublicKey, RsaPublicKey};
use super::tls::Pem;
use super::tree::Raw;
use super::types::{
    ClaimName, DataFormat, DeltaType, DirectoryPath, ErrorMode, FilePath, HistoryDurability,
    LONGEST_DURATION, LogLevel, NamespaceName, NonZeroDuration, Pattern, RecoveryMode, Secret, Separator,
    UrlPath,
};

/// The value of one key.
///
/// Numbers and booleans are also read from text, which is all that the environment and flags have.
pub(super) trait Value: Sized {
    /// Keeps the value out of errors.
    const SECRET: bool = false;

    /// Says what is allowed, to follow the word "expected".
    fn allowed() -> String;

    /// Reads the value, or returns `None` if it is not an allowed one.
    fn parse(raw: &Raw) -> Option<Self>;

    /// Writes the value as TOML.
    fn render(&self) -> String;
}

/// A value that can be switched off; off is written as [`Optional::OFF`].
pub(super) trait Optional: Value {
    /// How "off" is written in TOML.
    const OFF: &'static str;
}

/// A value that is written as text and needs no other reading than [`FromStr`].
trait Word: FromStr {
    fn allowed() -> String;
    fn text(&self) -> &str;
}

/// Writes `text` as a TOML string.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn integer<T: FromStr + TryFrom<i128>>(raw: &Raw) -> Option<T> {
    match raw {
        Raw::Int(number) => T::try_from(*number).ok(),
        Raw::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

impl Value for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Bool(value) => Some(*value),
            Raw::Text(text) => match text.trim() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

impl Value for u16 {
    fn allowed() -> String {
        "a whole number from 0 to 65535".to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        integer(raw)
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

impl Value for NonZeroUsize {
    fn allowed() -> String {
        "a whole number above 0".to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        integer(raw).and_then(Self::new)
    }

    fn render(&self) -> String {
        self.to_string()
    }
}

impl Optional for NonZeroUsize {
    const OFF: &'static str = "0";
}

impl Value for Duration {
    fn allowed() -> String {
        "a duration with its unit, such as \"500ms\", \"25s\", \"10m\" or \"720h\", up to 100 years"
            .to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        let duration = match raw {
            Raw::Int(0) => Some(Self::ZERO),
            Raw::Text(text) if text.trim() == "0" => Some(Self::ZERO),
            Raw::Text(text) => humantime::parse_duration(text.trim()).ok(),
            _ => None,
        }?;
        (duration <= LONGEST_DURATION).then_some(duration)
    }

    fn render(&self) -> String {
        let nanos = self.as_nanos();
        let units =
            [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];
        match units.into_iter().find(|(_, unit)| nanos != 0 && nanos.is_multiple_of(*unit)) {
            Some((name, unit)) => quote(&format!("{}{name}", nanos / unit)),
            None if nanos == 0 => quote("0s"),
            None => quote(&format!("{nanos}ns")),
        }
    }
}

impl Value for NonZeroDuration {
    fn allowed() -> String {
        format!("{} and above 0", Duration::allowed())
    }

    fn parse(raw: &Raw) -> Option<Self> {
        Duration::parse(raw).and_then(Self::new)
    }

    fn render(&self) -> String {
        self.get().render()
    }
}

impl Optional for NonZeroDuration {
    const OFF: &'static str = "\"0s\"";
}

impl Value for IpAddr {
    fn allowed() -> String {
        "an IP address such as \"127.0.0.1\", \"0.0.0.0\" or \"::\"".to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quote(&self.to_string())
    }
}

impl Value for String {
    fn allowed() -> String {
        "text".to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quote(self)
    }
}

impl Optional for String {
    const OFF: &'static str = "\"\"";
}

impl Value for Secret {
    const SECRET: bool = true;

    fn allowed() -> String {
        "text in quotes".to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => Self::new(text.as_str()),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quote("***")
    }
}

impl Optional for Secret {
    const OFF: &'static str = "\"\"";
}

impl Value for Pem {
    const SECRET: bool = true;

    fn allowed() -> String {
        "PEM, which begins with `-----BEGIN`, or base64 of it".to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quote(self.expose())
    }
}

impl Optional for Pem {
    const OFF: &'static str = "\"\"";
}

impl Value for Vec<Secret> {
    const SECRET: bool = true;

    fn allowed() -> String {
        "a list of texts in quotes, or in the environment texts between spaces".to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::List(items) => items.iter().map(|item| Secret::parse(&item.raw)).collect(),
            Raw::Text(text) => text.split_whitespace().map(Secret::new).collect(),
            _ => None,
        }
    }

    fn render(&self) -> String {
        format!("[{}]", self.iter().map(Value::render).collect::<Vec<_>>().join(", "))
    }
}

impl Value for super::types::Headers {
    const SECRET: bool = true;

    fn allowed() -> String {
        "names and values of HTTP headers, other than those about one connection or message, such as `Connection`, \
         `Host` and `Content-Type`"
            .to_owned()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        let Raw::Table(table) = raw else { return None };
        let headers = table.iter().map(|(name, value)| match &value.raw {
            Raw::Text(text) => Some((name.as_str(), text.as_str())),
            _ => None,
        });
        Self::new(headers.collect::<Option<Vec<_>>>()?.into_iter())
    }

    fn render(&self) -> String {
        "{}".to_owned()
    }
}

impl<T: Optional> Value for Option<T> {
    const SECRET: bool = T::SECRET;

    fn allowed() -> String {
        format!("{}, or {} for none", T::allowed(), T::OFF)
    }

    fn parse(raw: &Raw) -> Option<Self> {
        let off = match raw {
            // One way to write "off" per type, and the empty text of an unset variable for all of them.
            Raw::Int(0) => matches!(T::OFF, "0" | "\"0s\""),
            Raw::Text(text) => match text.trim() {
                "" => true,
                "0" => matches!(T::OFF, "0" | "\"0s\""),
                // "0m", "0ms": every zero duration.
                _ => T::OFF == "\"0s\"" && Duration::parse(raw) == Some(Duration::ZERO),
            },
            _ => false,
        };
        if off { Some(None) } else { T::parse(raw).map(Some) }
    }

    fn render(&self) -> String {
        self.as_ref().map_or_else(|| T::OFF.to_owned(), T::render)
    }
}

impl<W: Word> Value for W {
    fn allowed() -> String {
        <W as Word>::allowed()
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn render(&self) -> String {
        quote(self.text())
    }
}

impl<W: Word> Optional for W {
    const OFF: &'static str = "\"\"";
}

impl<W: Word> Value for Vec<W> {
    fn allowed() -> String {
        format!("a list of {}", <W as Word>::allowed())
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::List(items) => items.iter().map(|item| W::parse(&item.raw)).collect(),
            Raw::Text(text) => text
                .split(|c: char| c.is_whitespace() || c == ',')
                .filter(|item| !item.is_empty())
                .map(|item| item.parse().ok())
                .collect(),
            _ => None,
        }
    }

    fn render(&self) -> String {
        format!("[{}]", self.iter().map(Value::render).collect::<Vec<_>>().join(", "))
    }
}

/// Lists the words of an enum: `"a", "b" or "c"`.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

macro_rules! words {
    ($($ty:ty: $allowed:expr, |$value:ident| $text:expr;)*) => {$(
        impl Word for $ty {
            fn allowed() -> String {
                String::from($allowed)
            }

            fn text(&self) -> &str {
                let $value = self;
                $text
            }
        }
    )*};
}

words! {
    UrlPath: "a path such as \"/api\", of letters, digits, `-`, `.`, `_`, `~` and `/`, without a `/` at its end", |v| v;
    Separator: "one to eight punctuation marks, other than only `-`, `_` and `.`", |v| v;
    ClaimName: "the name of a claim, of letters, digits and `_`", |v| v;
    NamespaceName: "a name of two or more letters, digits, `-`, `_` and `.`", |v| v;
    OriginPattern: "origins such as \"https://example.com\" or \"https://*.example.com\", or \"*\"", |v| v;
    Network: "addresses such as \"192.0.2.1\", or networks such as \"10.0.0.0/8\"", |v| v;
    ForwardedHeader: "names of HTTP headers, other than those that are about one connection or message, such as `Connection`, `Host` and `Content-Type`", |v| v.as_str();
    Pattern: "a regular expression", |v| v;
    HookEndpoint: "a URL such as \"http://app:3000/hook\" or \"grpc://app:3001\", and not of a link-local address", |v| v.get().as_str();
    Endpoint: "a URL such as \"https://id.example/keys\", with `http` only for this machine, and nothing to be filled in", |v| v.as_str();
    RsaPublicKey: "an RSA public key of 2048 to 4096 bits in PEM, which begins with `-----BEGIN`", |v| v.pem();
    EcdsaPublicKey: "a public key on the curve P-256 or P-384 in PEM, which begins with `-----BEGIN PUBLIC KEY`", |v| v.pem();
    Ed25519PublicKey: "an Ed25519 public key in PEM, which begins with `-----BEGIN PUBLIC KEY`", |v| v.pem();
    FilePath: "the name of a file", |v| v.text();
    DirectoryPath: "the name of a directory", |v| v.text();
    HistoryDurability: one_of(Self::WORDS), |v| v.as_str();
    ErrorMode: one_of(Self::WORDS), |v| v.as_str();
    RecoveryMode: one_of(Self::WORDS), |v| v.as_str();
    DataFormat: one_of(Self::WORDS), |v| v.as_str();
    DeltaType: one_of(Self::WORDS), |v| v.as_str();
    LogLevel: one_of(Self::WORDS), |v| v.as_str();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn durations_are_written_in_the_largest_unit_that_fits_and_read_back() {
        for (duration, written) in [
            (Duration::ZERO, "\"0s\""),
            (Duration::from_secs(720 * 3600), "\"720h\""),
            (Duration::from_secs(90), "\"90s\""),
            (Duration::from_secs(600), "\"10m\""),
            (Duration::from_millis(1500), "\"1500ms\""),
            (Duration::from_nanos(7), "\"7ns\""),
        ] {
            assert_eq!(duration.render(), written);
            assert_eq!(Duration::parse(&text(written.trim_matches('"'))), Some(duration));
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (written, millis) in
            [("1000ms", 1000), ("1h30m", 5_400_000), ("1.5s", 1500), (" 2m ", 120_000), ("0", 0)]
        {
            assert_eq!(Duration::parse(&text(written)), Some(Duration::from_millis(millis)), "{written}");
        }
    }

    #[test]
    fn off_is_read_in_each_of_its_forms() {
        for off in [Raw::Int(0), text("0"), text("")] {
            assert_eq!(Option::<NonZeroUsize>::parse(&off), Some(None));
        }
        for off in [Raw::Int(0), text("0"), text(""), text("0s"), text("0ms")] {
            assert_eq!(Option::<NonZeroDuration>::parse(&off), Some(None));
        }
        assert_eq!(Option::<Secret>::parse(&text("")), Some(None));
        assert_eq!(Option::<Secret>::parse(&text("0")), Some(Secret::new("0")));
        assert_eq!(Option::<Secret>::parse(&Raw::Int(0)), None);
        assert_eq!(Option::<NonZeroUsize>::parse(&Raw::Bool(false)), None);
    }
}
