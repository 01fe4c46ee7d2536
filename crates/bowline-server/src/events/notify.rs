//! The way to one application that is told.

use bowline::{Call, CallFailed};
use bytes::Bytes;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::teller::{Failed, Post};
use crate::config::{HookEndpoint, ProxyOptions};
use crate::outgoing::{FetchError, Idle, Outgoing};

/// Posts to one application.
pub(super) struct Notifier {
    /// Its name in the settings.
    name: String,
    endpoint: HookEndpoint,
    headers: HeaderMap,
    max_response_bytes: usize,
    /// No breaker: whoever tells waits between two tries anyway, and has nobody to turn to meanwhile.
    call: Call,
    idle: Idle,
    outgoing: Outgoing,
}

/// What an application says to a batch. Anything else than an error means that it has taken it.
#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<IgnoredAny>,
}

impl Notifier {
    /// Makes the way there; `None` if there is no endpoint, which settings that were checked do not have.
    pub(super) fn new(name: &str, options: &ProxyOptions, outgoing: &Outgoing) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            endpoint: options.endpoint.clone()?,
            headers: options.http.static_headers.iter().cloned().collect(),
            max_response_bytes: options.max_response_size.get(),
            call: Call::new("events").timeout(options.timeout.get()),
            idle: Idle::default(),
            outgoing: outgoing.clone(),
        })
    }

    async fn send(&self, body: Bytes) -> Result<Bytes, CallFailed<FetchError>> {
        let post = || {
            let headers = self.headers.clone();
            self.outgoing.post(&self.endpoint, &self.idle, headers, body.clone(), self.max_response_bytes)
        };
        self.call.run(post).await
    }
}

impl Post for Notifier {
    async fn post(&mut self, batch: &[u8]) -> Result<(), Failed> {
        let application = &self.name;
        match self.send(Bytes::copy_from_slice(batch)).await {
            Ok(answer) => match serde_json::from_slice(&answer) {
                Ok(Answer { error: Some(IgnoredAny) }) => {
                    tracing::warn!(
                        application,
                        "an application answered events with an error; they are sent again"
                    );
                    Err(Failed)
                }
                _ => Ok(()),
            },
            Err(failed) => {
                tracing::warn!(application, %failed, "an application was told in vain; events are sent again");
                Err(Failed)
            }
        }
    }
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("name", &self.name).finish_non_exhaustive()
    }
}
