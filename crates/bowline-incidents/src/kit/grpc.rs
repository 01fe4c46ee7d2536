//! Calls of gRPC whose answer is a stream: HTTP/2 by h2, and gRPC's framing, on both sides.
//!
//! A message here is one number. Nothing in this file spawns a task: who serves a connection or a call, and for how long, is
//! what the forms of a row differ in.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::net::TcpStream;

use crate::lab::Trouble;

/// Calls at once on one connection: the peer is told, and one more is refused.
const MAX_CALLS: u32 = 1_000;

/// A message: uncompressed, nine bytes long, and field 1 of it is a number of 64 bits.
const HEAD: [u8; 6] = [0, 0, 0, 0, 9, 0x09];

const MESSAGE_BYTES: usize = HEAD.len() + 8;

/// The client has cancelled the call, or its connection is gone.
#[derive(Debug)]
pub(crate) struct Left;

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client has left")
    }
}

impl std::error::Error for Left {}

impl From<h2::Error> for Left {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl From<bowline::Cancelled> for Left {
    fn from(_: bowline::Cancelled) -> Self {
        Self
    }
}

/// The server's side of a connection. It has to be asked for calls as long as calls on it go on: that is what moves its frames.
pub(crate) struct Connection(server::Connection<TcpStream, Bytes>);

impl Connection {
    pub(crate) async fn begin(stream: TcpStream) -> Result<Self, Left> {
        stream.set_nodelay(true).map_err(|_| Left)?;
        Ok(Self(server::Builder::new().max_concurrent_streams(MAX_CALLS).handshake(stream).await?))
    }

    /// The next call; `None` when the connection has ended.
    pub(crate) async fn next_call(&mut self) -> Option<Call> {
        let (request, mut respond) = self.0.accept().await?.ok()?;
        let answer = Response::builder().header("content-type", "application/grpc").body(()).ok()?;
        let answers = respond.send_response(answer, false).ok()?;
        Some(Call { asked: request.into_body(), answers })
    }
}

/// The server's side of a call.
pub(crate) struct Call {
    asked: RecvStream,
    answers: SendStream<Bytes>,
}

impl Call {
    /// What it asks for.
    pub(crate) async fn asked(&mut self) -> Result<u64, Left> {
        next_number(&mut self.asked, &mut BytesMut::new()).await.ok().flatten().ok_or(Left)
    }

    /// Waits for `item`, as long as the client is there.
    pub(crate) async fn unless_left<T>(&mut self, item: impl Future<Output = T>) -> Result<T, Left> {
        let mut item = pin!(item);
        poll_fn(|cx| match self.answers.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(Err(Left)),
            Poll::Pending => item.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Sends a message, when the client has room for it.
    pub(crate) async fn send(&mut self, number: u64) -> Result<(), Left> {
        let message = message(number);
        self.answers.reserve_capacity(message.len());
        while self.answers.capacity() < message.len() {
            poll_fn(|cx| self.answers.poll_capacity(cx)).await.ok_or(Left)??;
        }
        Ok(self.answers.send_data(message, false)?)
    }

    /// Ends the stream as one that is complete.
    pub(crate) fn end(mut self) -> Result<(), Left> {
        let mut status = HeaderMap::new();
        status.insert("grpc-status", HeaderValue::from_static("0"));
        Ok(self.answers.send_trailers(status)?)
    }
}

/// Makes a client's connection: its end that makes calls, and what moves its frames, to be run beside.
pub(crate) async fn connect(
    server: std::net::SocketAddr,
) -> Result<(Caller, impl Future<Output = ()> + Send + 'static), Trouble> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (caller, connection) = client::handshake(stream).await?;
    Ok((Caller(caller), async { drop(connection.await) }))
}

/// Makes calls on a connection. A clone makes them on the same.
#[derive(Clone)]
pub(crate) struct Caller(client::SendRequest<Bytes>);

impl Caller {
    /// Asks for `number`.
    pub(crate) async fn call(self, number: u64) -> Result<Answers, Trouble> {
        let mut caller = self.0.ready().await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri("http://exchange/quotes.Quotes/Watch")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut asks) = caller.send_request(request, false)?;
        asks.send_data(message(number), true)?;
        Ok(Answers { stream: response.await?.into_body(), read: BytesMut::new() })
    }
}

/// The client's side of a call. Dropped before its end, it cancels the call.
pub(crate) struct Answers {
    stream: RecvStream,
    read: BytesMut,
}

impl Answers {
    /// The next message; `None` when the stream is complete, and its status says so.
    pub(crate) async fn next(&mut self) -> Result<Option<u64>, Trouble> {
        if let Some(number) = next_number(&mut self.stream, &mut self.read).await? {
            return Ok(Some(number));
        }
        let trailers = self.stream.trailers().await?.ok_or("a stream without a status")?;
        match trailers.get("grpc-status") {
            Some(status) if status == "0" => Ok(None),
            status => Err(format!("the stream has ended with {status:?}").into()),
        }
    }
}

fn message(number: u64) -> Bytes {
    [&HEAD[..], &number.to_le_bytes()].concat().into()
}

/// Reads the next message, in however many pieces it comes; `None` at the end.
async fn next_number(stream: &mut RecvStream, read: &mut BytesMut) -> Result<Option<u64>, Trouble> {
    while read.len() < MESSAGE_BYTES {
        let Some(piece) = stream.data().await.transpose()? else { return Ok(None) };
        stream.flow_control().release_capacity(piece.len())?;
        read.put(piece);
    }
    let message = read.split_to(MESSAGE_BYTES);
    let number = message.strip_prefix(&HEAD).ok_or_else(|| io::Error::other("not a message"))?;
    Ok(Some(u64::from_le_bytes(number.try_into()?)))
}
