//! One gRPC connection: HTTP/2 by hyper, and every call on it, in one task (see [`calls`](super::calls)).
//!
//! # Bounds
//!
//! Calls at once, bytes that wait to be written per call: [`Bounds`](super::face::Bounds). Calls begun and reset by the peer
//! before they were looked at: [`MAX_RESETS`], then the connection is closed ("rapid reset"); likewise resets of ours that
//! the peer provokes, [`MAX_OWN_RESETS`]. Headers of a call: [`MAX_HEADER_BYTES`], in whatever number of frames they come. The preface has
//! `http_server.handshake_timeout`; from then on pings find out who is gone, and a connection without calls is closed after
//! the time that its [`Face`] gives it.
//!
//! # End
//!
//! When the server stops, calls in hand are answered and no other is taken. A connection whose calls are all gone and that
//! does not end has [`CLOSE_TIMEOUT`].

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline::{Either, race};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep};

use super::calls::Running;
use super::face::Face;
use crate::net::Shared;

/// Calls that the peer may reset before they were looked at.
const MAX_RESETS: usize = 20;

/// Calls that the peer may make us reset: it may not know yet how many it may open.
const MAX_OWN_RESETS: usize = 128;

/// Bytes of the headers of one call.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Time between pings to the peer, and how long it may take to answer one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the peer may take to end a connection on which nothing is left to do.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is said to who speaks HTTP/1.1, such as a browser.
const NOT_HTTP2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 65\r\n\r\n\
    this port is for gRPC, which is HTTP/2; see http_server for HTTP\n";

/// Serves calls until the connection ends or the server stops.
pub(super) async fn serve<S, F>(mut stream: S, peer: SocketAddr, shared: &Shared, face: &Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Face,
{
    let limit = shared.node.config().http_server.handshake_timeout.get();
    let mut preface = [0; PREFACE.len()];
    let begun = race(sleep(limit), stream.read_exact(&mut preface));
    match race(shared.stopped(), begun).await {
        Either::Right(Either::Right(Ok(_))) if preface == *PREFACE => {}
        Either::Right(Either::Right(Ok(_))) => {
            tracing::debug!(%peer, "gRPC: closed: not HTTP/2");
            let _: Either<(), _> = race(sleep(limit), stream.write_all(NOT_HTTP2)).await;
            return;
        }
        Either::Left(()) => return, // it has asked for nothing
        Either::Right(_) => {
            tracing::debug!(%peer, "gRPC: closed: no preface");
            return;
        }
    }
    let io = TokioIo::new(Begun { preface: PREFACE, stream });
    let service = service_fn(move |request| {
        let face = Arc::clone(face);
        async move { Ok::<_, Infallible>(face.answer(request, peer).await) }
    });
    let mut running = Running::default();
    let connection = http2::Builder::new(running.executor())
        .timer(TokioTimer::new())
        .max_concurrent_streams(F::BOUNDS.max_streams)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_OWN_RESETS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(F::BOUNDS.max_send_bytes)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let served = match face.idle_limit() {
        None => race(shared.stopped(), running.drive(connection.as_mut())).await,
        Some(limit) => {
            let until_idle = drive_until_idle(connection.as_mut(), &mut running, limit);
            match race(shared.stopped(), until_idle).await {
                Either::Right(Some(served)) => Either::Right(served),
                Either::Right(None) | Either::Left(()) => Either::Left(()),
            }
        }
    };
    let served = match served {
        Either::Right(served) => Some(served),
        Either::Left(()) => {
            connection.as_mut().graceful_shutdown(); // answer the calls in hand, take no other
            drive_until_idle(connection.as_mut(), &mut running, CLOSE_TIMEOUT).await
        }
    };
    match served {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%peer, %error, "gRPC connection failed"),
        None => tracing::debug!(%peer, "gRPC: closed: the peer does not end the connection"),
    }
}

/// Drives `connection` and its calls until it ends; `None` if it had no call for `limit`.
async fn drive_until_idle<C: Future>(
    mut connection: Pin<&mut C>,
    running: &mut Running,
    limit: Duration,
) -> Option<C::Output> {
    let mut idle = pin!(sleep(limit));
    let mut had_calls = false;
    poll_fn(|cx| {
        if let Poll::Ready(served) = running.poll_with(connection.as_mut(), cx) {
            return Poll::Ready(Some(served));
        }
        let has_calls = !running.is_empty();
        if had_calls && !has_calls {
            idle.as_mut().reset(Instant::now() + limit);
        }
        had_calls = has_calls;
        if has_calls { Poll::Pending } else { idle.as_mut().poll(cx).map(|()| None) }
    })
    .await
}

/// A stream whose preface was read, for hyper to read again.
struct Begun<S> {
    preface: &'static [u8],
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.preface.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let (now, later) = self.preface.split_at(self.preface.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.preface = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
