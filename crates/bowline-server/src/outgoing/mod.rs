//! Requests of our own over HTTP: one request, one answer of bounded length, within the caller's deadline.
//!
//! A connection is driven by the task that asks, so nothing runs on when that task ends; between two questions it lies idle in
//! the pool of its endpoint ([`Idle`]). Redirects are not followed: what was configured is what is asked.

mod connection;
pub(crate) mod grpc;
mod idle;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bowline::{Class, Classify};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::Code;

use self::connection::{Answered, Connection, Failed};
pub(crate) use self::idle::Idle;
use crate::config::{Endpoint, HookEndpoint, is_link_local};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum FetchError {
    /// The other side could not be reached, or its certificate is not trusted.
    Unreachable(io::Error),
    /// The connection broke before the answer was complete.
    Broken(hyper::Error),
    /// Another status than 200; a redirect is one of those.
    Status(StatusCode),
    /// A gRPC status other than OK.
    Grpc(Code),
    /// The answer is longer than it may be, or ends too early.
    Body,
    /// The answer cannot be read; the place where that shows.
    Unreadable { line: usize, column: usize },
    /// The answer is not what it should be. The text says why, without a word of it.
    Unfit(&'static str),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "it cannot be reached: {error}"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Grpc(code) => write!(f, "it answered the status {code:?}: {code}"),
            Self::Body => f.write_str("the answer is too long or ends too early"),
            Self::Unreadable { line, column } => {
                write!(f, "what it answered is no answer, as line {line}, column {column} shows")
            }
            Self::Unfit(why) => write!(f, "the answer is unfit: {why}"),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Broken(error) => Some(error),
            Self::Status(_) | Self::Grpc(_) | Self::Body | Self::Unreadable { .. } | Self::Unfit(_) => None,
        }
    }
}

impl Classify for FetchError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable(_) => Class::Network,
            // It was asked. Who answers `unavailable` may stand between us and somebody who has done it.
            Self::Broken(_) | Self::Body | Self::Grpc(Code::Unavailable) => Class::Disconnected,
            Self::Grpc(Code::DeadlineExceeded) => Class::Timeout,
            // Whatever it says, what it said before is still the best that is known.
            Self::Status(_) | Self::Grpc(_) | Self::Unreadable { .. } | Self::Unfit(_) => Class::Bug,
        }
    }
}

/// Asks endpoints. Cloning shares the trusted certificates.
#[derive(Clone)]
pub(crate) struct Outgoing {
    tls: TlsConnector,
}

impl Outgoing {
    /// Trusts the certificates that the system trusts.
    pub(crate) fn new() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (_added, unreadable) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() || unreadable > 0 {
            tracing::warn!(trusted = roots.len(), unreadable, "certificates the system trusts");
        }
        Self::trusting(roots)
    }

    /// What encrypts HTTP/2: trusting the certificates of `authorities`, in PEM, instead of what the system trusts.
    ///
    /// # Errors
    ///
    /// What is wrong with `authorities`.
    pub(crate) fn http2(&self, authorities: Option<&[u8]>) -> Result<TlsConnector, &'static str> {
        let mut config = match authorities {
            None => ClientConfig::clone(self.tls.config()),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|_| "it is not PEM")?;
                    roots.add(certificate).map_err(|_| "it holds what is no certificate of an authority")?;
                }
                if roots.is_empty() {
                    return Err("it holds no certificate");
                }
                ClientConfig::clone(Self::trusting(roots).tls.config())
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// What encrypts HTTP/2 with nobody, for settings that cannot be followed.
    pub(crate) fn trusting_nobody(&self) -> TlsConnector {
        Self::trusting(RootCertStore::empty()).tls
    }

    fn trusting(roots: RootCertStore) -> Self {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = versions
            .unwrap_or_else(|_| unreachable!("ring has the default versions"))
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Gets what `endpoint` answers, of at most `max_bytes`, over a connection of its own.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the connection is closed.
    pub(crate) async fn get(&self, endpoint: &Endpoint, max_bytes: usize) -> Result<Bytes, FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let request = request(Request::get(endpoint.path_and_query()), endpoint, headers, Bytes::new())?;
        let socket = TcpStream::connect((endpoint.host(), endpoint.port())).await;
        let socket = socket.map_err(FetchError::Unreachable)?;
        Box::pin(async {
            let mut connection = self.connect(socket, endpoint).await?;
            exchange(&mut connection, request, max_bytes).await.map(|answered| answered.body)
        })
        .await
    }

    /// Posts `body`, which is JSON, to an application, and gets what it answers, of at most `max_bytes`.
    ///
    /// It goes over a connection of `idle` if there is one. If that was closed meanwhile and certainly nothing was sent over it,
    /// over another. A name that leads to a link-local address leads nowhere.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the connection is closed; the application may have done what it was asked to.
    pub(crate) async fn post(
        &self,
        endpoint: &HookEndpoint,
        idle: &Idle,
        mut headers: HeaderMap,
        body: Bytes,
        max_bytes: usize,
    ) -> Result<Bytes, FetchError> {
        let endpoint = endpoint.get();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut request = request(Request::post(endpoint.path_and_query()), endpoint, headers, body)?;
        let keep = |connection, made_at, answered: Answered| {
            if let Some(time) = answered.idle {
                idle.put(connection, made_at, time);
            }
            answered.body
        };
        while let Some((mut connection, made_at)) = idle.take() {
            match Box::pin(connection.exchange(request, max_bytes)).await {
                Ok(answered) => return Ok(keep(connection, made_at, answered)),
                Err(Failed::Unsent(unsent)) => request = *unsent,
                Err(Failed::Lost(error)) => return Err(error),
            }
        }
        let socket = connect_allowed(endpoint.host(), endpoint.port()).await?;
        Box::pin(async {
            let (mut connection, made_at) = (self.connect(socket, endpoint).await?, Instant::now());
            let answered = exchange(&mut connection, request, max_bytes).await?;
            Ok(keep(connection, made_at, answered))
        })
        .await
    }

    async fn connect(&self, socket: TcpStream, endpoint: &Endpoint) -> Result<Connection, FetchError> {
        if !endpoint.is_https() {
            return Connection::over(socket).await;
        }
        let name = ServerName::try_from(endpoint.host().to_owned())
            .map_err(|error| FetchError::Unreachable(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        Connection::over(self.tls.connect(name, socket).await.map_err(FetchError::Unreachable)?).await
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outgoing")
    }
}

/// The addresses of those a name leads to that may be asked.
fn allowed(found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, FetchError> {
    let allowed: Vec<_> = found.filter(|address| !is_link_local(address.ip())).collect();
    if allowed.is_empty() {
        return Err(FetchError::Unfit("its name leads to link-local addresses only"));
    }
    Ok(allowed)
}

/// Connects to an application.
async fn connect_allowed(host: &str, port: u16) -> Result<TcpStream, FetchError> {
    let found = lookup_host((host.to_owned(), port)).await.map_err(FetchError::Unreachable)?;
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in allowed(found)? {
        match TcpStream::connect(address).await {
            Ok(socket) => {
                // A question is one small write: waiting for more of it would only delay it.
                socket.set_nodelay(true).map_err(FetchError::Unreachable)?;
                return Ok(socket);
            }
            Err(error) => failed = error,
        }
    }
    Err(FetchError::Unreachable(failed))
}

/// Makes a request with the headers that every one has. The endpoint was parsed as a URL, so that its parts are fit for one.
fn request(
    request: hyper::http::request::Builder,
    endpoint: &Endpoint,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, FetchError> {
    let unfit = || FetchError::Unfit("its URL");
    headers.insert(HOST, HeaderValue::from_str(endpoint.authority()).map_err(|_| unfit())?);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let name = HeaderValue::from_static(concat!("bowline/", env!("CARGO_PKG_VERSION")));
    headers.entry(USER_AGENT).or_insert(name);
    let mut request = request.body(Full::new(body)).map_err(|_| unfit())?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Asks over a new connection.
async fn exchange(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<Answered, FetchError> {
    connection.exchange(request, max_bytes).await.map_err(|failed| match failed {
        Failed::Unsent(_) => FetchError::Unreachable(io::ErrorKind::ConnectionReset.into()),
        Failed::Lost(error) => error,
    })
}

#[cfg(test)]
mod tests;
