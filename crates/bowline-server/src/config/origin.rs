//! Which web origins may connect: patterns for the `Origin` header that browsers send.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use super::types::Malformed;

/// Which web origins may connect: `*` for all, or `scheme://host[:port]` in which `*` stands for any
/// run of characters that a host is made of.
///
/// `https://*.example.com` matches `https://a.example.com`, but neither `https://example.com` nor
/// `https://evil-example.com`. The origin `null` of sandboxed pages matches only `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginPattern(Box<str>);

impl OriginPattern {
    /// Tells whether the value of an `Origin` header matches; letters compare without case.
    #[must_use]
    pub fn matches(&self, origin: &str) -> bool {
        &*self.0 == "*" || glob(self.0.as_bytes(), origin.to_ascii_lowercase().as_bytes())
    }
}

impl FromStr for OriginPattern {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
            let host_byte = |b: u8| b == b'*' || is_of_host(b);
            !scheme.is_empty()
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                && !host.is_empty()
                && host.bytes().all(host_byte)
        });
        if text == "*" || is_origin { Ok(Self(text.to_ascii_lowercase().into())) } else { Err(Malformed) }
    }
}

/// Whether hosts and their ports may hold this: above all no `/`, `?`, `#` and `@`, behind which another host could stand.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)
}

/// Matches `text` against `pattern`, in which `*` stands for any run of characters of a host.
///
/// Linear but for the distance back to the last star: on a mismatch that star takes one more character.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else {
            match star {
                Some((at, taken)) if is_of_host(text[taken]) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                _ => return false,
            }
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

impl Deref for OriginPattern {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(pattern: &str) -> OriginPattern {
        pattern.parse().expect("well-formed")
    }

    #[test]
    fn origins_match_scheme_host_and_port() {
        let exact = origin("https://Example.com");
        assert!(exact.matches("https://example.COM"));
        for other in [
            "http://example.com",
            "https://example.com:8443",
            "https://example.com.evil.org",
            "https://evil-example.com",
            "null",
            "",
        ] {
            assert!(!exact.matches(other), "{other}");
        }
    }

    #[test]
    fn a_star_stands_for_labels_but_not_for_a_path() {
        let any = origin("https://*.example.com");
        assert!(any.matches("https://a.example.com"));
        assert!(any.matches("https://a.b.example.com"));
        for other in [
            "https://example.com",
            "https://evil-example.com",
            "https://a.example.com.evil.org",
            "https://evil.org/a.example.com",
            "https://evil.org#.example.com",
            "https://evil.org?.example.com",
            "https://evil.org\\.example.com",
            "https://a@evil.org:1.example.com",
            "null",
        ] {
            assert!(!any.matches(other), "{other}");
        }
        assert!(origin("http://localhost:*").matches("http://localhost:5173"));
        assert!(!origin("http://localhost:*").matches("http://localhost"));
        assert!(origin("https://a*b*c.d").matches("https://axxbyybc.d"));
        assert!(origin("*").matches("null"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in
            ["", "example.com", "null", "https://", "://x", "https://x/", "https://x/y", "https://a b"]
        {
            assert!(text.parse::<OriginPattern>().is_err(), "{text:?}");
        }
    }
}
