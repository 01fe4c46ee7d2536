//! What a verified token says.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use super::{LEEWAY_SECONDS, TokenError};

/// The largest time a claim may hold: beyond it, JSON numbers of many programs are no longer exact.
const LATEST: u64 = 1 << 53;

/// What a connection token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionClaims {
    /// The user; empty for an anonymous one.
    pub user: String,
    /// When the connection expires, in seconds since 1970; `None` for never.
    pub expire_at: Option<u64>,
    /// When the token was made, in seconds since 1970.
    pub issued_at: Option<u64>,
    /// The token's own id.
    pub id: Option<String>,
    /// What others see of the connection: JSON, or any bytes if the token gave `b64info`.
    pub info: Option<Bytes>,
    /// JSON kept beside the connection and never sent to clients.
    pub meta: Option<Bytes>,
    /// The channels the server subscribes the connection to.
    pub subscriptions: BTreeMap<String, ServerSubscription>,
}

/// What a subscription token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// The user, who must be that of the connection; empty for an anonymous one.
    pub user: String,
    /// The channel, which must be that of the command; never empty.
    pub channel: String,
    /// The connection the token was made for, if for only one.
    pub client: Option<String>,
    /// When the subscription expires, in seconds since 1970; `None` for never.
    pub expire_at: Option<u64>,
    /// When the token was made, in seconds since 1970.
    pub issued_at: Option<u64>,
    /// The token's own id.
    pub id: Option<String>,
    /// What others see of the subscription: JSON, or any bytes if the token gave `b64info`.
    pub info: Option<Bytes>,
    /// What the subscribe result carries: JSON, or any bytes if the token gave `b64data`.
    pub data: Option<Bytes>,
    /// What differs from the channel's options.
    pub overrides: Overrides,
}

/// A subscription that the server makes when the client connects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSubscription {
    /// What others see of the subscription.
    pub info: Option<Bytes>,
    /// What the subscription's result carries.
    pub data: Option<Bytes>,
    /// What differs from the channel's options.
    pub overrides: Overrides,
    /// When the subscription expires, in seconds since 1970; `None` for never.
    pub expire_at: Option<u64>,
}

/// Channel options that a token sets for one subscription; `None` leaves the channel's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Keeps presence.
    pub presence: Option<bool>,
    /// Publishes join and leave events.
    pub join_leave: Option<bool>,
    /// Pushes join and leave events to this subscriber.
    pub force_push_join_leave: Option<bool>,
    /// Tracks the position.
    pub force_positioning: Option<bool>,
    /// Recovers missed publications.
    pub force_recovery: Option<bool>,
}

impl ConnectionClaims {
    /// Reads the payload of a connection token whose signature holds.
    pub(super) fn parse(
        user: String,
        registered: &Registered,
        payload: &RawValue,
    ) -> Result<Self, TokenError> {
        let raw: RawConnection = parse(payload)?;
        if raw.channel.is_some_and(|channel| !channel.is_empty()) {
            // Otherwise a subscription token, which any page may get, would open a connection.
            return Err(TokenError::invalid("a connection token must not have `channel`"));
        }
        let subs = raw.subs.unwrap_or_default();
        let channels = raw.channels.unwrap_or_default();
        let subscriptions: BTreeMap<_, _> = if subs.is_empty() {
            channels.into_iter().map(|channel| (channel, ServerSubscription::default())).collect()
        } else {
            subs.into_iter()
                .map(|(channel, sub)| Ok((channel, sub.unwrap_or_default().parse()?)))
                .collect::<Result<_, TokenError>>()?
        };
        if subscriptions.contains_key("") {
            return Err(TokenError::invalid("a channel is empty"));
        }
        Ok(Self {
            user,
            expire_at: registered.expiry(),
            issued_at: registered.iat,
            id: registered.jti.clone(),
            info: payload_of(raw.info, raw.b64info)?,
            meta: raw.meta.map(json_bytes),
            subscriptions,
        })
    }
}

impl SubscriptionClaims {
    /// Reads the payload of a subscription token whose signature holds.
    pub(super) fn parse(
        user: String,
        registered: &Registered,
        payload: &RawValue,
    ) -> Result<Self, TokenError> {
        let raw: RawSubscription = parse(payload)?;
        let channel = raw
            .channel
            .filter(|channel| !channel.is_empty())
            .ok_or(TokenError::invalid("a subscription token must have `channel`"))?;
        Ok(Self {
            user,
            channel,
            client: raw.client.filter(|client| !client.is_empty()),
            expire_at: registered.expiry(),
            issued_at: registered.iat,
            id: registered.jti.clone(),
            info: payload_of(raw.info, raw.b64info)?,
            data: payload_of(raw.data, raw.b64data)?,
            overrides: raw.overrides.unwrap_or_default().into(),
        })
    }
}

/// The claims that all tokens share.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Registered {
    pub(super) sub: Option<String>,
    pub(super) aud: Option<Audience>,
    pub(super) iss: Option<String>,
    pub(super) jti: Option<String>,
    #[serde(default, deserialize_with = "time")]
    pub(super) iat: Option<u64>,
    #[serde(default, deserialize_with = "time")]
    exp: Option<u64>,
    #[serde(default, deserialize_with = "time_up")]
    nbf: Option<u64>,
    #[serde(default, deserialize_with = "time")]
    expire_at: Option<u64>,
}

/// For whom a token is.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Registered {
    pub(super) fn parse(payload: &RawValue) -> Result<Self, TokenError> {
        parse(payload)
    }

    /// Checks that the token is valid in the second `now`.
    pub(super) fn check_time(&self, now: u64) -> Result<(), TokenError> {
        let ended = self.exp.is_some_and(|exp| exp.saturating_add(LEEWAY_SECONDS) <= now);
        let begun = self.nbf.is_none_or(|nbf| nbf <= now.saturating_add(LEEWAY_SECONDS));
        if ended || !begun { Err(TokenError::Expired) } else { Ok(()) }
    }

    /// Returns when what the token opened expires: `expire_at` says it apart from the token, with 0 for never.
    fn expiry(&self) -> Option<u64> {
        match self.expire_at {
            Some(0) => None,
            Some(at) => Some(at),
            None => self.exp,
        }
    }
}

/// Returns a claim that must be there and must be text.
pub(super) fn text_claim(payload: &RawValue, name: &str) -> Result<String, TokenError> {
    let claims: BTreeMap<String, &RawValue> = parse(payload)?;
    claims
        .get(name)
        .and_then(|value| serde_json::from_str(value.get()).ok())
        .ok_or(TokenError::invalid("the claim with the user id is missing or not text"))
}

#[derive(serde::Deserialize)]
struct RawConnection {
    channel: Option<String>,
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    meta: Option<Box<RawValue>>,
    channels: Option<Vec<String>>,
    subs: Option<BTreeMap<String, Option<RawServerSubscription>>>,
}

#[derive(serde::Deserialize)]
struct RawSubscription {
    channel: Option<String>,
    client: Option<String>,
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<RawOverrides>,
}

#[derive(Default, serde::Deserialize)]
struct RawServerSubscription {
    info: Option<Box<RawValue>>,
    b64info: Option<String>,
    data: Option<Box<RawValue>>,
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<RawOverrides>,
}

impl RawServerSubscription {
    fn parse(self) -> Result<ServerSubscription, TokenError> {
        Ok(ServerSubscription {
            info: payload_of(self.info, self.b64info)?,
            data: payload_of(self.data, self.b64data)?,
            overrides: self.overrides.unwrap_or_default().into(),
            expire_at: None,
        })
    }
}

#[derive(Default, serde::Deserialize)]
struct RawOverrides {
    presence: Option<Flag>,
    join_leave: Option<Flag>,
    force_push_join_leave: Option<Flag>,
    force_positioning: Option<Flag>,
    force_recovery: Option<Flag>,
}

#[derive(serde::Deserialize)]
struct Flag {
    #[serde(default)]
    value: bool,
}

impl From<RawOverrides> for Overrides {
    fn from(raw: RawOverrides) -> Self {
        let value = |flag: Option<Flag>| flag.map(|flag| flag.value);
        Self {
            presence: value(raw.presence),
            join_leave: value(raw.join_leave),
            force_push_join_leave: value(raw.force_push_join_leave),
            force_positioning: value(raw.force_positioning),
            force_recovery: value(raw.force_recovery),
        }
    }
}

fn parse<'p, T: serde::Deserialize<'p>>(payload: &'p RawValue) -> Result<T, TokenError> {
    serde_json::from_str(payload.get()).map_err(|_| TokenError::invalid("a claim has a wrong type"))
}

fn json_bytes(json: Box<RawValue>) -> Bytes {
    Bytes::from(String::from(Box::<str>::from(json)))
}

/// Picks the payload that counts: the base64 twin wins when it is set.
fn payload_of(json: Option<Box<RawValue>>, base64: Option<String>) -> Result<Option<Bytes>, TokenError> {
    match base64.filter(|text| !text.is_empty()) {
        Some(text) => STANDARD
            .decode(text)
            .map(|bytes| Some(Bytes::from(bytes)))
            .map_err(|_| TokenError::invalid("a claim is not base64")),
        None => Ok(json.map(json_bytes)),
    }
}

/// Reads a time and cuts fractions off, so that nothing lasts longer than the token says.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Time::deserialize(deserializer).map(|time| Some(time.down))
}

/// Reads a time and rounds fractions up, so that nothing begins earlier than the token says.
fn time_up<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Time::deserialize(deserializer).map(|time| Some(time.up))
}

/// A NumericDate of RFC 7519: a JSON number of seconds since 1970, which may have a fraction.
///
/// Text, null, negative numbers and numbers beyond [`LATEST`] are refused: an unreadable expiry must not become
/// none at all.
struct Time {
    down: u64,
    up: u64,
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;

        impl Visitor<'_> for TimeVisitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since 1970")
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Time, E> {
                if seconds > LATEST {
                    return Err(E::custom("beyond every calendar"));
                }
                Ok(Time { down: seconds, up: seconds })
            }
            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Time, E> {
                let latest = LATEST as f64;
                if !(0.0..=latest).contains(&seconds) {
                    return Err(E::custom("not a time"));
                }
                Ok(Time { down: seconds.floor() as u64, up: seconds.ceil() as u64 })
            }
        }

        // `deserialize_any`: JSON decides what it is, and text or null are then refused by the visitor.
        deserializer.deserialize_any(TimeVisitor)
    }
}
