//! What is checked before a request is answered with a stream: origin, method, what it brings.

use std::borrow::Cow;
use std::sync::Arc;

use bowline_protocol::Encoding;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::body::{Body, Format};
use crate::config::{Config, Streaming};
use crate::net::Shared;
use crate::net::cors::Caller;
use crate::net::http::{self, CONNECT_PARAMETER, text};
use crate::node::Wire;
use crate::proxy::Headers;
use crate::session::Transport;

/// Which kind of stream an endpoint answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    HttpStream,
    Sse,
    /// For clients that only listen.
    UniHttpStream,
    UniSse,
}

/// A request that is to be answered with a stream.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(super) kind: Kind,
    pub(super) wire: Wire,
    pub(super) body: Body,
    /// Headers of the answer that depend on who asked.
    pub(super) headers: HeaderMap,
    /// What it brought: commands, of which the first is to be `connect`, or, from who only listens, a connect request alone.
    pub(super) commands: Bytes,
    /// What applications want to be told of the request.
    pub(crate) kept: Option<Arc<Headers>>,
}

impl Kind {
    /// The kind of stream at `path`, if there is one and it is on.
    pub(crate) fn at(path: &str, config: &Config) -> Option<Self> {
        let kinds = [Self::HttpStream, Self::Sse, Self::UniHttpStream, Self::UniSse];
        kinds.into_iter().find(|kind| {
            let settings = kind.settings(config);
            settings.enabled && path == &*settings.handler_prefix
        })
    }

    pub(super) fn settings(self, config: &Config) -> &Streaming {
        match self {
            Self::HttpStream => &config.http_stream,
            Self::Sse => &config.sse,
            Self::UniHttpStream => &config.uni_http_stream,
            Self::UniSse => &config.uni_sse,
        }
    }

    pub(super) fn transport(self) -> Transport {
        match self {
            Self::HttpStream => Transport::HTTP_STREAM,
            Self::Sse => Transport::SSE,
            Self::UniHttpStream => Transport::UNI_HTTP_STREAM,
            Self::UniSse => Transport::UNI_SSE,
        }
    }

    fn is_events(self) -> bool {
        matches!(self, Self::Sse | Self::UniSse)
    }

    fn is_unidirectional(self) -> bool {
        matches!(self, Self::UniHttpStream | Self::UniSse)
    }

    fn format(self, encoding: Encoding) -> Format {
        match (self.is_events(), encoding) {
            (false, Encoding::Json) => Format::Lines,
            (false, Encoding::Protobuf) => Format::Delimited,
            (true, _) => Format::Events,
        }
    }

    /// Events are text, and so is what goes to who only listens; elsewhere the request says how it speaks.
    fn encoding(self, headers: &HeaderMap) -> Encoding {
        match self {
            Self::HttpStream => http::encoding(headers),
            Self::Sse | Self::UniHttpStream | Self::UniSse => Encoding::Json,
        }
    }

    fn methods(self) -> &'static str {
        if self.is_events() { "GET, POST, OPTIONS" } else { "POST, OPTIONS" }
    }
}

/// Reads what a request brings, or says how it is answered instead.
pub(crate) async fn open(
    request: Request<Incoming>,
    kind: Kind,
    shared: &Shared,
) -> Result<Opening, Response<Full<Bytes>>> {
    let caller = Caller::admit(request.headers(), shared.node.config()).map_err(|refused| *refused)?;
    if request.method() == Method::OPTIONS {
        return Err(caller.preflight(request.headers(), kind.methods()));
    }
    let encoding = kind.encoding(request.headers());
    let body = Body::new(kind.format(encoding), request.version());
    match read(request, kind, shared).await {
        Ok(commands) => {
            let mut headers = HeaderMap::new();
            caller.allow(&mut headers);
            let wire = Wire { encoding, is_unidirectional: kind.is_unidirectional(), compression: None };
            Ok(Opening { kind, wire, body, headers, commands, kept: None })
        }
        Err(mut response) => {
            caller.allow(response.headers_mut());
            Err(response)
        }
    }
}

async fn read(
    request: Request<Incoming>,
    kind: Kind,
    shared: &Shared,
) -> Result<Bytes, Response<Full<Bytes>>> {
    let config = shared.node.config();
    let max_bytes = kind.settings(config).max_request_body_size.get();
    match *request.method() {
        Method::GET if kind.is_events() => {
            let commands = match http::parameter(request.uri().query(), CONNECT_PARAMETER) {
                Some(commands) => commands,
                None if kind.is_unidirectional() => Cow::default(), // an empty request
                None => {
                    return Err(text(
                        StatusCode::BAD_REQUEST,
                        "the parameter `cf_connect` is missing: it holds the first commands, or they are posted\n",
                    ));
                }
            };
            if commands.len() > max_bytes {
                return Err(text(
                    StatusCode::URI_TOO_LONG,
                    &format!("`cf_connect` is larger than {max_bytes} bytes\n"),
                ));
            }
            Ok(commands.into_owned().into())
        }
        Method::POST => {
            let limit = config.http_server.handshake_timeout.get();
            let body = http::read_body(request.into_body(), max_bytes, limit).await;
            body.map_err(|error| error.response())
        }
        _ => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this is a stream\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(kind.methods()));
            Err(response)
        }
    }
}
