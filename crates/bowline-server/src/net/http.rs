//! One connection's HTTP/1.1.
//!
//! hyper parses and frames; timers bound the head of every request; when the server stops, the request in hand is
//! answered and the connection closed.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;

use bowline::{Either, race};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::Shared;

/// Room for the head of a request. Browsers stay far below; a larger head is answered with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Headers per request.
const MAX_HEADERS: usize = 64;

/// The socket, after HTTP has ended on it, and bytes that were read beyond.
pub(crate) struct Leftover {
    pub(crate) stream: TcpStream,
    pub(crate) read: BytesMut,
}

/// Serves requests until the connection ends or a request was answered with 101; `None` if it broke.
pub(crate) async fn serve<F, Fut>(stream: TcpStream, shared: &Shared, answer: F) -> Option<Leftover>
where
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.node.config().http_server.handshake_timeout.get())
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let served = match race(shared.stopped(), poll_fn(|cx| connection.poll_without_shutdown(cx))).await {
        Either::Right(served) => served,
        Either::Left(_) => {
            Pin::new(&mut connection).graceful_shutdown(); // answer the request in hand, take no other
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection failed");
        return None;
    }
    let parts = connection.into_parts();
    Some(Leftover { stream: parts.io.into_inner(), read: parts.read_buf.into() })
}

/// Why a body was not read.
pub(crate) enum BodyError {
    TooLarge { limit_bytes: usize },
    Broken,
}

/// Reads a request's body of at most `limit_bytes`.
pub(crate) async fn read_body(body: Incoming, limit_bytes: usize) -> Result<Bytes, BodyError> {
    match Limited::new(body, limit_bytes).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge { limit_bytes }),
        Err(_) => Err(BodyError::Broken),
    }
}

impl BodyError {
    pub(crate) fn response(&self) -> Response<Full<Bytes>> {
        match self {
            Self::TooLarge { limit_bytes } => {
                text(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is larger than {limit_bytes} bytes\n"))
            }
            Self::Broken => text(StatusCode::BAD_REQUEST, "the body is not complete\n"),
        }
    }
}

pub(crate) fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
