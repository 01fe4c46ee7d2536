//! How a question gets to an application and the answer back.

mod grpc;

use bytes::Bytes;
use hyper::header::HeaderMap;
use tokio::time::Instant;

use super::about::About;
use super::answer::{Answer, Refused};
use super::event::{Event, Form, to_json};
use crate::config::{HookEndpoint, ProxyOptions};
use crate::outgoing::grpc::Channel;
use crate::outgoing::{FetchError, Idle, Outgoing};

use self::grpc::Grpc;
pub(super) use self::grpc::GrpcEvent;

/// The way to one application.
#[derive(Debug)]
pub(super) enum Carrier {
    /// A POST with JSON.
    Http(Http),
    /// A unary call.
    Grpc(Grpc),
}

/// A question that is written, and may be sent more than once.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Http { headers: HeaderMap, body: Bytes },
    Grpc { headers: HeaderMap, message: Bytes },
}

impl Carrier {
    /// Makes the way there; `None` if there is no endpoint, which settings that were checked do not have.
    pub(super) fn new(options: &ProxyOptions, outgoing: &Outgoing) -> Option<Self> {
        let endpoint = options.endpoint.clone()?;
        if endpoint.is_grpc() {
            return Some(Self::Grpc(Grpc::new(endpoint, options, outgoing)));
        }
        Some(Self::Http(Http {
            endpoint,
            options: options.clone(),
            idle: Idle::default(),
            outgoing: outgoing.clone(),
        }))
    }

    /// Writes a question.
    pub(super) fn write(&self, about: &About, event: &impl GrpcEvent) -> Result<Written, Refused> {
        match self {
            Self::Http(http) => http.write(about, event),
            Self::Grpc(grpc) => {
                let (headers, message) = grpc.write(about, event);
                Ok(Written::Grpc { headers, message })
            }
        }
    }

    /// Sends it and reads the answer.
    pub(super) async fn send<E: GrpcEvent>(&self, written: Written) -> Result<Answer<E::Answer>, FetchError> {
        match (self, written) {
            (Self::Grpc(grpc), Written::Grpc { headers, message }) => grpc.send::<E>(&headers, message).await,
            (Self::Http(http), Written::Http { headers, body }) => http.send::<E>(headers, body).await,
            // What was written for one carrier is sent by the same.
            (Self::Http(_), Written::Grpc { .. }) | (Self::Grpc(_), Written::Http { .. }) => {
                Err(FetchError::Unfit("the question was written for another carrier"))
            }
        }
    }

    /// Closes what was idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        match self {
            Self::Http(http) => http.idle.sweep(now),
            Self::Grpc(_) => {} // its one connection is kept
        }
    }

    /// The connection that somebody has to keep, if there is one.
    pub(super) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Http(_) => None,
            Self::Grpc(grpc) => Some(grpc.channel()),
        }
    }
}

/// Over HTTP.
pub(super) struct Http {
    endpoint: HookEndpoint,
    options: ProxyOptions,
    idle: Idle,
    outgoing: Outgoing,
}

impl Http {
    fn write(&self, about: &About, event: &impl Event) -> Result<Written, Refused> {
        let Self { options, .. } = self;
        let form = Form { is_binary: options.binary_encoding, has_meta: options.include_connection_meta };
        let body = to_json(form, about, event)?.into();
        let told = about.headers.as_ref().map(|headers| headers.for_application(options));
        let mut headers: HeaderMap = options.http.static_headers.iter().cloned().collect();
        // Of one name, what the client brings stands before what is fixed: `extend` replaces.
        headers.extend(told.unwrap_or_default());
        Ok(Written::Http { headers, body })
    }

    async fn send<E: Event>(&self, headers: HeaderMap, body: Bytes) -> Result<Answer<E::Answer>, FetchError> {
        let max_bytes = self.options.max_response_size.get();
        let posted = self.outgoing.post(&self.endpoint, &self.idle, headers, body, max_bytes).await;
        match posted {
            Ok(body) => serde_json::from_slice(&body)
                .map_err(|error| FetchError::Unreadable { line: error.line(), column: error.column() }),
            Err(FetchError::Status(status)) => {
                let transforms = &self.options.http.status_to_code_transforms;
                let known = transforms.iter().find(|transform| transform.status == status);
                known.map(Answer::of_status).ok_or(FetchError::Status(status))
            }
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Http").field(&self.endpoint).finish()
    }
}
