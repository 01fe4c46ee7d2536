//! Calls of our own over gRPC: one connection to each application, kept open and shared by all calls.
//!
//! A [`Channel`] is what callers hold; [`Channel::keep`] is the connection's life, run by a daemon of the server. It
//! connects when somebody wants to call, drives HTTP/2 and the calls on it, and begins anew when the connection is lost,
//! with a growing pause after failures.
//!
//! # Invariants
//!
//! 1. There is one connection at a time, and nobody but the daemon makes one: callers wait for it, as long as their own
//!    context lets them.
//! 2. While a failed attempt is younger than its pause, calls fail at once and say why.
//! 3. A call is sent once. It is put on the next connection only if the last one has not sent a byte of it.
//!
//! # End
//!
//! A caller that is dropped resets its call. When the daemon ends, calls fail; before it begins, they wait.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, Either, propagate, race};
use bytes::{Buf as _, Bytes};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::{Code, Status};

use super::{FetchError, connect_allowed};
use crate::grpc::calls::Running;
use crate::grpc::message::{PREFIX_BYTES, put_prefix};
use crate::jitter::jittered;

/// How long a connection may take to be made, TLS included.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The pause after a first failure, and the longest: it doubles from one to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Old connections that may have answers to come.
const MAX_OLD: usize = 4;

/// Time between pings to the application, and how long it may take to answer one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the headers of an answer.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Where an application is that speaks gRPC.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What stands in the calls as the name of the server.
    pub(crate) authority: String,
    /// How it is encrypted, and whose certificate it must show; `None` for not at all.
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// The way to one application. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Channel(Arc<Inner>);

struct Inner {
    target: Target,
    link: watch::Sender<Link>,
    wanted: Notify,
}

/// What calls are sent over.
#[derive(Clone)]
enum Link {
    /// Nobody needed it yet, or it was lost.
    Down,
    Up(SendRequest<Full<Bytes>>),
    /// It could not be made just now.
    Failed(io::ErrorKind, Arc<str>),
    /// There is nobody any more who makes it.
    Over,
}

impl Channel {
    pub(crate) fn new(target: Target) -> Self {
        let link = watch::Sender::new(Link::Down);
        Self(Arc::new(Inner { target, link, wanted: Notify::new() }))
    }

    /// Keeps the connection for as long as it is polled.
    pub(crate) async fn keep(self) -> Result<Infallible, Cancelled> {
        let inner = &*self.0;
        let _over = Over(&inner.link);
        let mut pause = FIRST_PAUSE;
        let mut old = Old::default();
        loop {
            inner.link.send_replace(Link::Down);
            match old.beside(inner.serve_next()).await {
                Ok(left) => {
                    pause = FIRST_PAUSE;
                    old.keep(left);
                }
                Err(failed) => {
                    let Target { host, port, .. } = &inner.target;
                    tracing::warn!(host, port, error = %failed, "gRPC: no connection");
                    inner.link.send_replace(Link::Failed(failed.kind(), failed.to_string().into()));
                    old.beside(tokio::time::sleep(jittered(pause))).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Calls `path`, which is `/service/method`, with the encoded `request`; answers the encoded response, of at most
    /// `max_bytes`. The deadline of the context goes with it.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the call is reset; the application may have done what it was asked to.
    pub(crate) async fn unary(
        &self,
        path: &'static str,
        headers: &HeaderMap,
        request: Bytes,
        max_bytes: usize,
    ) -> Result<Bytes, FetchError> {
        let mut body = Vec::with_capacity(PREFIX_BYTES + request.len());
        put_prefix(request.len(), &mut body);
        body.extend_from_slice(&request);
        let mut request = self.0.request(path, headers, body.into())?;
        let response = loop {
            let mut link = self.0.link().await?;
            match link.try_send_request(request).await {
                Ok(response) => break response,
                Err(mut error) => match error.take_message() {
                    // By invariant 3. The link was lost in between; the daemon hears of it before we get another.
                    Some(unsent) => request = unsent,
                    None => return Err(FetchError::Broken(error.into_error())),
                },
            }
        };
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let (head, body) = response.into_parts();
        // A call that failed may answer in its headers alone.
        if let Some(status) = Status::from_header_map(&head.headers) {
            succeeded(&status)?;
        }
        let whole = Limited::new(body, max_bytes.saturating_add(PREFIX_BYTES)).collect().await;
        let whole = whole.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => FetchError::Broken(*error),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>());
                FetchError::Body
            }
        })?;
        let status = whole.trailers().and_then(Status::from_header_map);
        succeeded(&status.ok_or(FetchError::Unfit("it ends without a status"))?)?;
        let mut message = whole.to_bytes();
        if message.len() < PREFIX_BYTES {
            return Err(FetchError::Unfit("there is no message in it"));
        }
        let (is_compressed, length) = (message.get_u8() != 0, message.get_u32());
        match (is_compressed, message.len() as u64 == u64::from(length)) {
            (false, true) => Ok(message),
            (true, _) => Err(FetchError::Unfit("it is compressed, which was not asked for")),
            (false, false) => Err(FetchError::Unfit("it is not one whole message")),
        }
    }
}

impl Inner {
    /// What to send over, as soon as there is something.
    async fn link(&self) -> Result<SendRequest<Full<Bytes>>, FetchError> {
        let mut link = self.link.subscribe();
        loop {
            match &*link.borrow_and_update() {
                Link::Up(send) if !send.is_closed() => return Ok(send.clone()),
                Link::Up(_) => {} // lost, and the daemon is about to say so
                Link::Down => self.wanted.notify_one(),
                Link::Failed(kind, why) => {
                    return Err(FetchError::Unreachable(io::Error::new(*kind, why.to_string())));
                }
                Link::Over => {
                    return Err(FetchError::Unreachable(io::Error::other("the server is stopping")));
                }
            }
            // The sender is ours: it is there.
            let _ = link.changed().await;
        }
    }

    /// Waits until somebody wants to call, connects, and drives the connection until no call can be sent over it any more.
    /// Returns what is left on it: the application may still answer.
    async fn serve_next(&self) -> io::Result<Running> {
        // Whoever wants to call listens. A wake-up may be an old one, of a call that has been made or given up.
        while self.link.receiver_count() == 0 {
            self.wanted.notified().await;
        }
        match race(tokio::time::sleep(CONNECT_TIME), self.connect()).await {
            Either::Right(Ok(socket)) => self.serve_any(socket).await.map_err(io::Error::other),
            Either::Right(Err(error)) => Err(error),
            Either::Left(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")),
        }
    }

    async fn connect(&self) -> io::Result<Socket> {
        let Target { host, port, tls, .. } = &self.target;
        let socket = connect_allowed(host, *port).await.map_err(|error| match error {
            FetchError::Unreachable(error) => error,
            error => io::Error::other(error),
        })?;
        match tls {
            None => Ok(Either::Left(socket)),
            Some((tls, name)) => {
                let socket = tls.connect(name.clone(), socket).await?;
                match socket.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Ok(Either::Right(Box::new(socket))),
                    _ => Err(io::Error::other("it does not speak HTTP/2 over TLS")),
                }
            }
        }
    }

    async fn serve_any(&self, socket: Socket) -> Result<Running, hyper::Error> {
        match socket {
            Either::Left(plain) => self.serve(plain).await,
            Either::Right(encrypted) => self.serve(encrypted).await,
        }
    }

    /// Drives the connection and its calls until it is lost, or the application wants no more calls on it (GOAWAY). An error
    /// if there never was one.
    async fn serve<S>(&self, socket: S) -> Result<Running, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut running = Running::default();
        let handshake = http2::Builder::new(running.executor())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_header_list_size(MAX_HEADER_BYTES)
            .handshake(TokioIo::new(socket));
        let (send, connection) = handshake.await?;
        self.link.send_replace(Link::Up(send));
        let lost = running.drive(pin!(connection)).await;
        tracing::debug!(
            host = self.target.host,
            port = self.target.port,
            ?lost,
            "gRPC: the connection is gone"
        );
        Ok(running)
    }

    fn request(
        &self,
        path: &'static str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, FetchError> {
        let scheme = if self.target.tls.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{}{path}", self.target.authority);
        let request = Request::post(uri).body(Full::new(body));
        let mut request = request.map_err(|_| FetchError::Unfit("its address"))?;
        let fields = request.headers_mut();
        fields.extend(headers.clone());
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert(TE, HeaderValue::from_static("trailers"));
        fields.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("grpc-rust-bowline/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(left) = propagate::header_value().and_then(|left| HeaderValue::try_from(left).ok()) {
            fields.insert(propagate::GRPC_TIMEOUT, left);
        }
        Ok(request)
    }
}

/// Connections over which no further call is sent, with those that the application still answers: one that restarts, or is
/// drained, says so and finishes what it has.
#[derive(Default)]
struct Old(VecDeque<Running>);

impl Old {
    /// Keeps what is left of a connection. Of very many in a row the oldest goes.
    fn keep(&mut self, left: Running) {
        self.0.push_back(left);
        if self.0.len() > MAX_OLD {
            self.0.pop_front();
        }
    }

    /// Waits for `work`, and drives what is left meanwhile.
    async fn beside<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.0.retain_mut(|left| {
                // The connection itself is one of the calls by now: nothing else is to be polled.
                let _ = left.poll_with(pin!(pending::<()>()), cx);
                !left.is_empty()
            });
            work.as_mut().poll(cx)
        })
        .await
    }
}

/// Says so when nobody keeps the connection any more.
struct Over<'a>(&'a watch::Sender<Link>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Link::Over);
    }
}

/// What a connection is made over: plain, or encrypted.
type Socket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

fn succeeded(status: &Status) -> Result<(), FetchError> {
    match status.code() {
        Code::Ok => Ok(()),
        code => Err(FetchError::Grpc(code)),
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.0.target.authority).finish()
    }
}

#[cfg(test)]
mod tests;
