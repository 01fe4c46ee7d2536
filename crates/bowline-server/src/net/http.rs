//! One connection's HTTP/1.1.
//!
//! hyper parses and frames. Every phase of a request has `http_server.handshake_timeout`: the head, counted from the first
//! byte or from the answer before; the body; and the answer, of which the peer must take something within it. When the
//! server stops, the request in hand is answered and the connection closed.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bowline::{Either, race};
use bowline_protocol::Encoding;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;

use super::Shared;
use super::linger::linger;
use super::stream::Stream;
use super::timed_io::TimedIo;

/// Room for the head of a request. Browsers stay far below; a larger head is answered with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Headers per request.
const MAX_HEADERS: usize = 64;

/// The parameter of an address in which stands what a client connects with that sends no body, as an `EventSource`.
pub(crate) const CONNECT_PARAMETER: &str = "cf_connect";

/// How long the peer may take to read the last answer.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// The socket, after HTTP has ended on it, and bytes that were read beyond.
pub(crate) struct Leftover {
    pub(crate) stream: Stream,
    pub(crate) read: BytesMut,
    /// Whether HTTP ended in order.
    pub(crate) is_whole: bool,
}

/// Serves requests until the connection ends, a request was answered with 101, or one `is_taken`: read, and answered by
/// somebody else on the socket that is left.
///
/// A taken request's `answer` never comes. What was answered before it has been written, as far as the peer reads.
pub(crate) async fn serve<T, F, Fut, B>(stream: Stream, shared: &Shared, is_taken: T, answer: F) -> Leftover
where
    T: Fn() -> bool,
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let limit = shared.node.config().http_server.handshake_timeout.get();
    let has_begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        has_begun.store(true, Ordering::Relaxed);
        let answer = answer(request);
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_headers(MAX_HEADERS)
        .half_close(true) // who has said all there is to say still wants the answer
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TimedIo::new(stream, limit), service);
    let until_taken = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
        Poll::Pending if is_taken() => Poll::Ready(Ok(())),
        polled => polled,
    });
    let served = match race(shared.stopped(), until_taken).await {
        Either::Right(served) => served,
        Either::Left(()) => {
            Pin::new(&mut connection).graceful_shutdown(); // answer the request in hand, take no other
            poll_fn(|cx| match connection.poll_without_shutdown(cx) {
                // Half a head is no request in hand, and hyper would wait for the other half.
                Poll::Pending if is_taken() || !has_begun.load(Ordering::Relaxed) => Poll::Ready(Ok(())),
                polled => polled,
            })
            .await
        }
    };
    if let Err(error) = &served {
        tracing::debug!(%error, "HTTP connection failed");
    }
    let parts = connection.into_parts();
    Leftover { stream: parts.io.into_inner(), read: parts.read_buf.into(), is_whole: served.is_ok() }
}

/// Closes the socket of a connection that stayed HTTP.
pub(crate) async fn finish(leftover: Leftover) {
    linger(leftover.stream, LINGER).await;
}

/// How a request's body is encoded: what is not said to be bytes is JSON.
pub(crate) fn encoding(headers: &HeaderMap) -> Encoding {
    let is_protobuf = headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
    });
    if is_protobuf { Encoding::Protobuf } else { Encoding::Json }
}

/// The first value of a parameter of an address, unless it is empty.
pub(crate) fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    let mut pairs = form_urlencoded::parse(query?.as_bytes());
    pairs.find_map(|(key, value)| (key == name).then_some(value)).filter(|value| !value.is_empty())
}

/// Why a body was not read.
pub(crate) enum BodyError {
    TooLarge { limit_bytes: usize },
    Late { limit: Duration },
    Broken,
}

/// Reads a request's body of at most `limit_bytes`, which has `limit` to come.
pub(crate) async fn read_body(
    body: Incoming,
    limit_bytes: usize,
    limit: Duration,
) -> Result<Bytes, BodyError> {
    match race(tokio::time::sleep(limit), Limited::new(body, limit_bytes).collect()).await {
        Either::Left(()) => Err(BodyError::Late { limit }),
        Either::Right(Ok(body)) => Ok(body.to_bytes()),
        Either::Right(Err(error)) if error.is::<LengthLimitError>() => {
            Err(BodyError::TooLarge { limit_bytes })
        }
        Either::Right(Err(_)) => Err(BodyError::Broken),
    }
}

impl BodyError {
    pub(crate) fn response(&self) -> Response<Full<Bytes>> {
        let mut response = match self {
            Self::TooLarge { limit_bytes } => {
                text(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is larger than {limit_bytes} bytes\n"))
            }
            Self::Late { limit } => {
                text(StatusCode::REQUEST_TIMEOUT, &format!("the body was not complete after {limit:?}\n"))
            }
            Self::Broken => text(StatusCode::BAD_REQUEST, "the body is not complete\n"),
        };
        // What is left of the body stands between us and the next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

pub(crate) fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
