//! Requests that a web page sends to us from another origin: who may, and what the browser is told.
//!
//! One list decides for every transport: `client.allowed_origins`. A request with an origin that is not in it is refused,
//! not only left without headers: what it asks for would have happened by the time the browser hides the answer.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::http::text;
use crate::config::Config;

/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("300");

/// An origin that may talk to us, or none: who sends no origin is not a page of another one.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    origin: Option<HeaderValue>,
    /// Whether the origin was allowed by its name. Where everybody is, nobody's cookies are wanted.
    is_named: bool,
}

impl Caller {
    /// Finds out who sends a request with these headers, or how it is refused.
    pub(crate) fn admit(headers: &HeaderMap, config: &Config) -> Result<Self, Box<Response<Full<Bytes>>>> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(Self { origin: None, is_named: false });
        };
        let matching = |origin: &str| {
            let mut patterns = config.client.allowed_origins.iter().filter(|pattern| pattern.matches(origin));
            let first = patterns.next()?;
            Some(&**first != "*" || patterns.any(|pattern| &**pattern != "*"))
        };
        match origin.to_str().ok().and_then(matching) {
            Some(is_named) => Ok(Self { origin: Some(origin.clone()), is_named }),
            None => Err(Box::new(text(
                StatusCode::FORBIDDEN,
                "this origin may not connect; `client.allowed_origins` lists those that may\n",
            ))),
        }
    }

    /// Lets the page of this caller read the answer.
    pub(crate) fn allow(&self, answer: &mut HeaderMap) {
        // Also where it does not matter: a cache must not hand one origin's answer to another.
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = &self.origin else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.is_named {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// Answers a preflight for a path that takes `methods`.
    pub(crate) fn preflight(&self, asked: &HeaderMap, methods: &'static str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.allow(headers);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
        if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(allowed: &str, origin: &'static str) -> Option<Caller> {
        let mut config = Config::default();
        config.client.allowed_origins = allowed.split(' ').map(|origin| origin.parse().unwrap()).collect();
        let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        Caller::admit(&headers, &config).ok()
    }

    #[test]
    fn an_origin_that_was_not_named_is_never_told_to_bring_its_cookies() {
        let mut answer = HeaderMap::new();
        admit("*", "https://anybody.example").unwrap().allow(&mut answer);
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://anybody.example");
        assert!(!answer.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));

        for allowed in ["https://a.example", "* https://a.example", "https://*.example"] {
            let mut answer = HeaderMap::new();
            admit(allowed, "https://a.example").unwrap().allow(&mut answer);
            assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true", "{allowed}");
        }
    }

    #[test]
    fn look_alikes_and_null_are_refused() {
        for origin in ["null", "https://a.example.evil.org", "http://a.example", "https://a.example:8443", ""]
        {
            assert!(admit("https://a.example", origin).is_none(), "{origin}");
        }
    }
}
