//! Whether a caller has the key of the server API.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::config::Secret;

/// The header that holds nothing but the key.
const API_KEY: &str = "x-api-key";

/// The scheme of an `Authorization` header that holds the key.
const SCHEME: &[u8] = b"apikey";

/// The parameter of a query that holds the key.
const PARAMETER: &str = "api_key";

/// Returns whether the caller may call: it presents one of the keys, or none is asked for.
///
/// Only the first key it presents counts. The comparison takes the same time for every key that is presented.
pub(crate) fn admits<'a>(
    insecure: bool,
    keys: impl Iterator<Item = &'a Secret>,
    headers: &HeaderMap,
    query: Option<&str>,
) -> bool {
    if insecure {
        return true;
    }
    let Some(presented) = presented(headers, query) else { return false };
    // Every key is looked at, whichever fits: the time tells how many there are and nothing else.
    keys.fold(false, |admitted, key| key.matches(&presented) | admitted)
}

/// Finds the key: in its own header, else in `Authorization`, else in the query.
fn presented<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Cow<'a, [u8]>> {
    let own = headers.get(API_KEY).map(|value| value.as_bytes());
    let authorization = || of_scheme(headers.get(AUTHORIZATION)?.as_bytes());
    let header = own.filter(|key| !key.is_empty()).or_else(authorization);
    header.map(Cow::Borrowed).or_else(|| of_query(query?).map(Cow::Owned))
}

/// The key in an `Authorization` header; `None` for another scheme, such as that of a proxy in between.
fn of_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let key = rest.strip_prefix(b" ")?.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !key.is_empty()).then_some(key)
}

fn of_query(query: &str) -> Option<Vec<u8>> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut keys = pairs.filter(|(name, value)| *name == PARAMETER && !value.is_empty());
    keys.next().map(|(_, value)| unescape(value))
}

/// Decodes the value of a form field: `+` is a space, `%41` an `A`. What is no escape stands for itself.
fn unescape(value: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut rest = value.as_bytes();
    let mut plain = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        plain.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high * 16 + low
                }
                _ => byte,
            },
            _ => byte,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HttpApi;

    const KEY: &str = "a+b c%2Fd";

    fn admitted(headers: &[(&'static str, &'static str)], query: Option<&str>) -> bool {
        let config = HttpApi { key: Secret::new(KEY), ..HttpApi::default() };
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap())
        });
        admits(config.insecure, config.keys(), &headers.collect(), query)
    }

    #[test]
    fn the_key_stands_in_one_of_three_places() {
        assert!(admitted(&[("X-API-Key", KEY)], None));
        for scheme in ["apikey", "ApiKey", "APIKEY"] {
            let value: &'static str = Box::leak(format!("{scheme}  {KEY} ").into_boxed_str());
            assert!(admitted(&[("Authorization", value)], None), "{value}");
        }
        for query in [
            "api_key=a%2bb%20c%252Fd",
            "x=1&api_key=a%2Bb+c%252Fd&api_key=wrong",
            "api_key=&api_key=a%2Bb+c%252Fd",
        ] {
            assert!(admitted(&[], Some(query)), "{query}");
        }
    }

    #[test]
    fn only_the_whole_key_is_the_key() {
        for key in ["", "a", "a+b c%2F", "a+b c%2Fd ", "a+b c%2Fdd", "A+B C%2FD"] {
            let key: &'static str = Box::leak(key.to_owned().into_boxed_str());
            // A header's value is trimmed by whoever parses it, so the key with a space is another key.
            assert!(!admitted(&[("X-API-Key", key)], None), "{key:?}");
        }
        for authorization in ["a+b c%2Fd", "apikey", "apikey ", "apikeya+b c%2Fd", "bearer a+b c%2Fd"] {
            assert!(!admitted(&[("Authorization", authorization)], None), "{authorization:?}");
        }
        for query in ["", "api_key", "api_key=", "api_key=a%2Bb+c%252", "API_KEY=a%2Bb+c%252Fd", "api_key=%"]
        {
            assert!(!admitted(&[], Some(query)), "{query:?}");
        }
    }

    #[test]
    fn the_first_place_that_holds_a_key_decides() {
        let query = Some("api_key=a%2Bb+c%252Fd");
        assert!(!admitted(&[("X-API-Key", "wrong"), ("Authorization", "apikey a+b c%2Fd")], query));
        assert!(!admitted(&[("Authorization", "apikey wrong")], query));
        // No key at all: the next place is looked at.
        assert!(admitted(&[("X-API-Key", ""), ("Authorization", "Basic eDp5")], query));
    }

    #[test]
    fn without_a_configured_key_nobody_is_admitted_unless_all_are() {
        let mut config = HttpApi::default();
        let headers = HeaderMap::from_iter([(API_KEY.parse().unwrap(), "any".parse().unwrap())]);
        let admits =
            |config: &HttpApi, headers: &HeaderMap| admits(config.insecure, config.keys(), headers, None);
        assert!(!admits(&config, &headers) && !admits(&config, &HeaderMap::new()));
        config.insecure = true;
        assert!(admits(&config, &headers) && admits(&config, &HeaderMap::new()));
    }

    #[test]
    fn while_keys_are_changed_each_of_them_admits() {
        let more_keys = vec![Secret::new("new").unwrap()];
        let config = HttpApi { key: Secret::new("old"), more_keys, ..HttpApi::default() };
        for (key, is_one) in [("old", true), ("new", true), ("other", false), ("oldnew", false)] {
            let headers = HeaderMap::from_iter([(API_KEY.parse().unwrap(), key.parse().unwrap())]);
            assert_eq!(admits(false, config.keys(), &headers, None), is_one, "{key}");
        }
    }

    #[test]
    fn a_broken_escape_stands_for_itself() {
        for (value, plain) in [("%", "%"), ("%4", "%4"), ("%4g%41", "%4gA"), ("%%41", "%A"), ("ä", "ä")] {
            assert_eq!(unescape(value), plain.as_bytes(), "{value}");
        }
    }
}
