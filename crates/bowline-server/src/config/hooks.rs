//! What is said about applications that are asked: which headers they are told, and what their statuses mean.

use std::str::FromStr;

use bowline_protocol::{Disconnect, ErrorCode};
use hyper::StatusCode;
use hyper::header::{self, HeaderName};

use super::tree::{Node, Raw};
use super::types::Malformed;
use super::value::Value;

/// The name of the application that an event has in its own section.
pub(crate) const DEFAULT_PROXY: &str = "default";

/// Error codes that an application may choose; the others are the server's.
pub(crate) const ERROR_CODES: std::ops::RangeInclusive<u32> = 400..=1999;

/// Disconnect codes that an application may choose; the others are the server's.
pub(crate) const DISCONNECT_CODES: std::ops::RangeInclusive<u16> = 4000..=4999;

/// Bytes of the longest reason to disconnect: a close frame has room for little more.
pub(crate) const MAX_REASON_BYTES: usize = 32;

/// Headers about one message or one connection (RFC 9110, sections 7.2 and 7.6.1), which end where they are read.
const OWN: [HeaderName; 14] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The name of a header that is told to an application: none of those about one connection or message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedHeader(HeaderName);

impl ForwardedHeader {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.0
    }

    /// Returns the name as text, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ForwardedHeader {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let name: HeaderName = text.trim().parse().map_err(|_| Malformed)?;
        if is_own(&name) { Err(Malformed) } else { Ok(Self(name)) }
    }
}

/// Tells whether the header is about one connection or message, so that nobody may pass it on.
pub(super) fn is_own(name: &HeaderName) -> bool {
    OWN.contains(name) || name.as_str().starts_with("sec-websocket-")
}

/// Tells whether a header says for whom a proxy speaks, so that nobody else may.
pub(crate) fn is_identity(name: &HeaderName) -> bool {
    matches!(name.as_str(), "forwarded" | "x-real-ip") || name.as_str().starts_with("x-forwarded-")
}

/// What an answer of one status means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusTransform {
    /// The status.
    pub status: StatusCode,
    /// What the client gets.
    pub answer: StatusAnswer,
}

/// What a client gets instead of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusAnswer {
    /// An error.
    Error(ErrorCode),
    /// The end of its connection.
    Disconnect(Disconnect),
}

impl StatusTransform {
    fn parse(node: &Node) -> Option<Self> {
        let table = table(node, &["status_code", "to_error", "to_disconnect"])?;
        let status = u16::parse(&table("status_code")?.raw).and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.filter(|status| *status != StatusCode::OK)?;
        // An existing file may hold both, one of them all zero.
        let section = |name: &str| table(name).filter(|node| code(node) != Some(0));
        let answer = match (section("to_error"), section("to_disconnect")) {
            (Some(error), None) => StatusAnswer::Error(parse_error(error)?),
            (None, Some(end)) => StatusAnswer::Disconnect(parse_disconnect(end)?),
            _ => return None,
        };
        Some(Self { status, answer })
    }
}

fn parse_error(node: &Node) -> Option<ErrorCode> {
    let table = table(node, &["code", "message", "temporary"])?;
    let code = code(node).map(u32::from).filter(|code| ERROR_CODES.contains(code))?;
    let message = table("message").map_or(Some(String::new()), |node| String::parse(&node.raw))?;
    let temporary = table("temporary").map_or(Some(false), |node| bool::parse(&node.raw))?;
    Some(ErrorCode { code, message: message.into(), temporary })
}

fn parse_disconnect(node: &Node) -> Option<Disconnect> {
    let table = table(node, &["code", "reason"])?;
    let code = code(node).filter(|code| DISCONNECT_CODES.contains(code))?;
    let reason = table("reason").map_or(Some(String::new()), |node| String::parse(&node.raw))?;
    (reason.len() <= MAX_REASON_BYTES).then(|| Disconnect { code, reason: reason.into() })
}

/// The fields of a table that has no others than `known`.
fn table<'n>(node: &'n Node, known: &[&str]) -> Option<impl Fn(&str) -> Option<&'n Node> + use<'n>> {
    let Raw::Table(table) = &node.raw else { return None };
    let is_known = table.keys().all(|name| known.contains(&name.as_str()));
    is_known.then_some(|name: &str| table.get(name).filter(|node| node.raw != Raw::Null))
}

fn code(node: &Node) -> Option<u16> {
    let Raw::Table(table) = &node.raw else { return None };
    table.get("code").map_or(Some(0), |code| u16::parse(&code.raw))
}

impl Value for Vec<StatusTransform> {
    fn allowed() -> String {
        format!(
            "a list of sections, each with a `status_code` other than 200 and either `to_error` with a `code` from {} to {}, \
             or `to_disconnect` with a `code` from {} to {} and a `reason` of up to {MAX_REASON_BYTES} bytes",
            ERROR_CODES.start(),
            ERROR_CODES.end(),
            DISCONNECT_CODES.start(),
            DISCONNECT_CODES.end(),
        )
    }

    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::List(items) => items.iter().map(StatusTransform::parse).collect(),
            Raw::Text(text) => match serde_json::from_str::<Node>(text).ok()?.raw {
                Raw::Text(_) => None,
                raw => Self::parse(&raw),
            },
            _ => None,
        }
    }

    fn render(&self) -> String {
        "[]".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_or_message_are_not_passed_on() {
        for name in [
            "Host",
            "connection",
            "Transfer-Encoding",
            "Content-Type",
            "Sec-WebSocket-Key",
            "a b",
            "a\r\nb",
            "",
        ] {
            assert!(name.parse::<ForwardedHeader>().is_err(), "{name:?}");
        }
        for name in ["Cookie", "Authorization", "X-Request-Id", "Origin"] {
            assert_eq!(name.parse::<ForwardedHeader>().unwrap().as_str(), name.to_ascii_lowercase());
        }
    }

    #[test]
    fn a_status_becomes_an_error_or_a_disconnect_of_the_applications_own() {
        let parse = |text: &str| Vec::<StatusTransform>::parse(&Raw::Text(text.to_owned()));
        let known = r#"[{"status_code":404,"to_error":{"code":404,"message":"not found","temporary":true},"to_disconnect":{"code":0}},
                        {"status_code":403,"to_disconnect":{"code":4504,"reason":"forbidden"}}]"#;
        let error = ErrorCode { code: 404, message: "not found".into(), temporary: true };
        let end = Disconnect { code: 4504, reason: "forbidden".into() };
        let parsed = parse(known).unwrap();
        assert_eq!(
            parsed[0],
            StatusTransform { status: StatusCode::NOT_FOUND, answer: StatusAnswer::Error(error) }
        );
        assert_eq!(parsed[1].answer, StatusAnswer::Disconnect(end));
        for wrong in [
            r#"[{"status_code":200,"to_error":{"code":404}}]"#,
            r#"[{"status_code":404,"to_error":{"code":100}}]"#,
            r#"[{"status_code":404,"to_disconnect":{"code":3000}}]"#,
            r#"[{"status_code":404,"to_disconnect":{"code":4000,"reason":"a reason that is longer than others"}}]"#,
            r#"[{"status_code":404,"to_error":{"code":404},"to_disconnect":{"code":4000}}]"#,
            r#"[{"status_code":404,"to_eror":{"code":404}}]"#,
            r#"[{"status_code":404}]"#,
            r#""[]""#,
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
