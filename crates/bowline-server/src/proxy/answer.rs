//! What an application answers: a result, an error for the client, or the end of the connection.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_protocol::{Disconnect, ErrorCode, Payload};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;

use crate::config::{DISCONNECT_CODES, ERROR_CODES, MAX_REASON_BYTES, StatusAnswer, StatusTransform};

/// The client gets no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It gets an error.
    Error(ErrorCode),
    /// Its connection is closed.
    Disconnect(Disconnect),
}

/// An answer as it came, from whichever carrier.
#[derive(Debug, Deserialize)]
#[serde(bound = "R: DeserializeOwned")]
pub(super) struct Answer<R> {
    #[serde(default, deserialize_with = "object")]
    pub(super) result: Option<R>,
    pub(super) error: Option<Wrong>,
    pub(super) disconnect: Option<End>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wrong {
    pub(super) code: u32,
    pub(super) message: String,
    pub(super) temporary: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct End {
    pub(super) code: u32,
    pub(super) reason: String,
}

/// Reads an object or `null`: a list is none, although it could be read as the fields in their order.
fn object<'de, D: Deserializer<'de>, R: DeserializeOwned>(deserializer: D) -> Result<Option<R>, D::Error> {
    let raw = Option::<&RawValue>::deserialize(deserializer)?;
    raw.map(|raw| match raw.get().starts_with('{') {
        true => serde_json::from_str(raw.get()).map_err(D::Error::custom),
        false => Err(D::Error::custom("expected an object")),
    })
    .transpose()
}

/// What an application said cannot be done. It is the application's fault; the client gets error 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfit(pub(super) &'static str);

impl<R> Answer<R> {
    /// What a status that is not 200 means, if the settings say so.
    pub(super) fn of_status(transform: &StatusTransform) -> Self {
        let (error, disconnect) = match transform.answer.clone() {
            StatusAnswer::Error(ErrorCode { code, message, temporary }) => {
                (Some(Wrong { code, message: message.into_owned(), temporary }), None)
            }
            StatusAnswer::Disconnect(Disconnect { code, reason }) => {
                (None, Some(End { code: code.into(), reason: reason.into_owned() }))
            }
        };
        Self { result: None, error, disconnect }
    }

    /// The result, if there is one, or what the client gets instead.
    pub(super) fn check(self, application: &str) -> Result<Option<R>, Refused> {
        let unfit = |why: &dyn std::fmt::Display| {
            tracing::warn!(application, %why, "an application answered something that is no answer");
            Refused::Error(ErrorCode::INTERNAL)
        };
        match self {
            Self { disconnect: Some(End { code, mut reason }), .. } => {
                let own = u16::try_from(code).ok().filter(|code| DISCONNECT_CODES.contains(code));
                let code = own
                    .ok_or_else(|| unfit(&format_args!("disconnect code {code} is not from 4000 to 4999")))?;
                let end = MAX_REASON_BYTES.min(reason.len());
                let end = (0..=end).rev().find(|end| reason.is_char_boundary(*end));
                reason.truncate(end.unwrap_or(0));
                Err(Refused::Disconnect(Disconnect { code, reason: reason.into() }))
            }
            Self { error: Some(Wrong { code, message, temporary }), .. } => {
                if !ERROR_CODES.contains(&code) {
                    return Err(unfit(&format_args!("error code {code} is not from 400 to 1999")));
                }
                Err(Refused::Error(ErrorCode { code, message: message.into(), temporary }))
            }
            Self { result, .. } => Ok(result),
        }
    }
}

impl Unfit {
    /// Says in the log what is wrong; the client hears of an internal error.
    pub(super) fn refused(self, application: &str) -> Refused {
        tracing::warn!(application, why = self.0, "an application answered something that is no answer");
        Refused::Error(ErrorCode::INTERNAL)
    }
}

/// Picks of data and its twin in base64 the one that is set; the twin wins.
pub(super) fn either(plain: Payload, base64: Option<String>) -> Result<Payload, Unfit> {
    match base64.filter(|text| !text.is_empty()) {
        None => Ok(plain),
        Some(text) => {
            BASE64_STANDARD.decode(text).map(Payload::opaque).map_err(|_| Unfit("it is not base64"))
        }
    }
}

/// As [`either`], for what others are told in messages of their own: JSON, whichever of the two it came in.
pub(super) fn either_json(plain: Payload, base64: Option<String>) -> Result<Payload, Unfit> {
    let payload = either(plain, base64)?;
    if payload.is_empty() {
        return Ok(payload);
    }
    payload.to_json().map_err(|_| Unfit("`info` is not JSON"))
}
