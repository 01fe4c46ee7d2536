//! Whom a question is about, and which headers of a client an application is told.
//!
//! Nothing is kept that no application wants. What comes with the client's own request and what the client puts into its
//! connect command are kept apart: the second is whatever the client likes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bowline_protocol::Payload;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Config, ForwardedHeader, ProxyOptions, is_identity};

/// Bytes of headers that are kept of one client, of each kind. What does not fit is left out, and said in the log.
const MAX_KEPT_BYTES: usize = 8 * 1024;

/// Whom a question is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) client: String,
    /// Empty for an anonymous client, and before it is known.
    pub(crate) user: String,
    pub(crate) transport: &'static str,
    pub(crate) protocol: &'static str,
    /// What tokens and applications have said for applications only; empty for nothing.
    pub(crate) meta: Payload,
    pub(crate) headers: Option<Arc<Headers>>,
}

/// Headers of one client that some application wants to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Headers {
    /// Those of its own request.
    transport: Vec<(HeaderName, HeaderValue)>,
    /// Those of its connect command.
    emulated: Vec<(HeaderName, HeaderValue)>,
    /// Who it is, as a proxy in front says.
    user: Option<Box<str>>,
}

/// The headers that some application wants to be told.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    transport: HashSet<HeaderName>,
    emulated: HashSet<HeaderName>,
    /// The header by which a proxy in front says who a client is, if it does.
    identity: Option<HeaderName>,
}

impl Wanted {
    pub(super) fn new<'c>(applications: impl Iterator<Item = &'c ProxyOptions>, config: &Config) -> Self {
        let mut wanted = Self { identity: identity(config), ..Self::default() };
        for options in applications {
            let transport = options.http_headers.iter().chain(&options.grpc_metadata);
            wanted.transport.extend(transport.map(|header| header.name().clone()));
            wanted.emulated.extend(options.emulated_headers.iter().map(|header| header.name().clone()));
        }
        wanted
    }

    /// Keeps what is wanted of a client's own request. `is_trusted` says whether a proxy of ours sent it: only those say for
    /// whom they speak.
    pub(crate) fn of_request(&self, headers: &HeaderMap, is_trusted: bool) -> Option<Arc<Headers>> {
        let user = self.user(headers).filter(|_| is_trusted);
        if self.transport.is_empty() && user.is_none() {
            return None;
        }
        let wanted = headers
            .iter()
            .filter(|(name, _)| self.transport.contains(*name) && (is_trusted || !self.is_identity(name)));
        let transport = bounded(wanted.filter_map(|(name, value)| {
            // A copy: the value is a part of the whole head, which it would keep.
            Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?))
        }));
        let is_kept = !transport.is_empty() || user.is_some();
        is_kept.then(|| Arc::new(Headers { transport, emulated: Vec::new(), user }))
    }

    /// Who a proxy in front says that the client is. Said twice it says nothing: one of the two may be the client's own.
    fn user(&self, headers: &HeaderMap) -> Option<Box<str>> {
        let mut said = headers.get_all(self.identity.as_ref()?).iter();
        let (Some(user), None) = (said.next(), said.next()) else { return None };
        let user = user.to_str().ok()?.trim();
        (!user.is_empty()).then(|| user.into())
    }

    /// Adds what is wanted of a client's connect command. What says who a client is never counts there.
    pub(crate) fn of_command(
        &self,
        kept: Option<Arc<Headers>>,
        headers: &BTreeMap<String, String>,
    ) -> Option<Arc<Headers>> {
        if self.emulated.is_empty() || headers.is_empty() {
            return kept;
        }
        let emulated = bounded(headers.iter().filter_map(|(name, value)| {
            let name: HeaderName = name.parse().ok()?;
            let is_wanted = self.emulated.contains(&name) && !self.is_identity(&name);
            Some((name, HeaderValue::from_str(value).ok().filter(|_| is_wanted)?))
        }));
        if emulated.is_empty() {
            return kept;
        }
        let kept = kept.map(|kept| Headers::clone(&kept)).unwrap_or_default();
        Some(Arc::new(Headers { emulated, ..kept }))
    }

    fn is_identity(&self, name: &HeaderName) -> bool {
        is_identity(name) || self.identity.as_ref() == Some(name)
    }
}

/// The header by which a proxy in front says who a client is.
fn identity(config: &Config) -> Option<HeaderName> {
    config.client.user_id_http_header.as_ref().map(|header| header.name().clone())
}

fn bounded(headers: impl Iterator<Item = (HeaderName, HeaderValue)>) -> Vec<(HeaderName, HeaderValue)> {
    let mut left = MAX_KEPT_BYTES;
    headers
        .filter(|(name, value)| {
            let bytes = name.as_str().len() + value.len();
            let fits = bytes <= left;
            if fits {
                left -= bytes;
            } else {
                tracing::warn!(
                    header = name.as_str(),
                    bytes,
                    "a header is too long to be told to applications"
                );
            }
            fits
        })
        .collect()
}

impl Headers {
    /// Who the client is, as a proxy in front says.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Those that an application with these options is told: of one name, the client's own before the emulated ones.
    pub(super) fn for_application(&self, options: &ProxyOptions) -> HeaderMap {
        let mut told = HeaderMap::new();
        let wants =
            |names: &[ForwardedHeader], name: &HeaderName| names.iter().any(|wanted| wanted.name() == name);
        for (name, value) in &self.transport {
            if wants(&options.http_headers, name) || wants(&options.grpc_metadata, name) {
                told.append(name.clone(), value.clone());
            }
        }
        for (name, value) in &self.emulated {
            if wants(&options.emulated_headers, name) && !told.contains_key(name) {
                told.insert(name.clone(), value.clone());
            }
        }
        told
    }
}
