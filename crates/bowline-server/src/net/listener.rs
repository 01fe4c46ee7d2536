//! One listener: accept, and hand each connection to a group that owns it.
//!
//! An error of accept never ends the loop. Errors of a single connection are skipped; at any other, such as a process
//! that is out of files, the loop pauses shortly, because the next accept would fail as well. The public listener holds as
//! many connections as it has [`Places`]; the internal one is left what they do not take.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, Discard, Either, Group, group, race};
use futures_util::FutureExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::linger::linger;
use super::places::{Full, Place, Places};
use super::public::Became;
use super::stream::Stream;
use super::tls::{HandshakeError, Tls};
use super::{BindError, Shared, http, internal, public};

/// How many connections may wait in the kernel for an accept.
const BACKLOG: u32 = 4096;

/// Connections that are accepted before others on the thread run.
const ACCEPTED_AT_ONCE: u64 = 8;

/// How long accept pauses after an error that the next accept would meet as well.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// How often the log tells of the same trouble of accepting.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// What is said to who speaks HTTP where TLS is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 45\r\n\r\n\
    this port is for TLS: use https:// or wss://\n";

/// Which of the two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Public,
    Internal,
}

pub(crate) async fn bind(address: SocketAddr, keys: [&'static str; 2]) -> Result<TcpListener, BindError> {
    let bound = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // After a restart the port is ours at once, although old connections still linger in the kernel.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound.await.map_err(|source| BindError::Listen { address, keys, source })
}

/// Accepts until the server stops; returns when every connection is gone. Without `places` there is no bound.
pub(crate) async fn run(
    listener: TcpListener,
    shared: Shared,
    face: Face,
    tls: Option<Arc<Tls>>,
    places: Option<Arc<Places>>,
) -> Result<(), Cancelled> {
    let _ = group("connections", Discard, async |connections| {
        let accept = accept(&listener, &shared, face, tls.as_ref(), places.as_ref(), connections);
        let _ = race(shared.stopped(), accept).await;
        // Refused from here on, not left waiting in the kernel.
        drop(listener);
    })
    .await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    shared: &Shared,
    face: Face,
    tls: Option<&Arc<Tls>>,
    places: Option<&Arc<Places>>,
    connections: &Group<(), Cancelled, Discard>,
) {
    let (mut accepting, mut no_place) = (Accepting::new(listener), Warning::default());
    for number in 1_u64.. {
        if number.is_multiple_of(ACCEPTED_AT_ONCE) {
            yield_now().await;
        }
        let (stream, peer) = accepting.next().await;
        let place = match places.map(|places| (places.take(peer.ip()), places.max())) {
            None => None,
            Some((Ok(place), _)) => Some(place),
            Some((Err(Full::Address), _)) => {
                tracing::debug!(%peer, "closed: its address has `http_server.connections_per_address` connections");
                continue;
            }
            Some((Err(Full::TooFast), _)) => {
                tracing::debug!(%peer, "closed: its address begins more than `http_server.handshakes_per_address`");
                continue;
            }
            Some((Err(Full::All), max)) => {
                if no_place.is_due() {
                    tracing::warn!(
                        connections = max,
                        "refused at accept: no more connections; raise the limit of open files"
                    );
                }
                // Who speaks TLS cannot be told without a handshake, which is what there is no room for.
                if let Some(room) = places.filter(|_| tls.is_none()).and_then(|places| places.refusal()) {
                    connections.spawn("refused connection", refuse(stream, shared.clone(), room));
                }
                continue;
            }
        };
        let name = match face {
            Face::Public => "connection",
            Face::Internal => "internal connection",
        };
        connections.spawn(name, connection(stream, peer, shared.clone(), face, tls.cloned(), place));
    }
}

/// The connections that come to a listener. No error ends it.
pub(crate) struct Accepting<'a> {
    listener: &'a TcpListener,
    cannot_accept: Warning,
}

impl<'a> Accepting<'a> {
    pub(crate) fn new(listener: &'a TcpListener) -> Self {
        Self { listener, cannot_accept: Warning::default() }
    }

    /// Waits for the next one. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_of_the_peer(&error) => {
                    tracing::debug!(%error, "a connection failed before it was accepted");
                }
                Err(error) => {
                    if self.cannot_accept.is_due() {
                        tracing::warn!(%error, "cannot accept; at too many open files raise their limit");
                    }
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }
}

/// Whether accept failed for one connection, whose peer is gone; the next is another one.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A warning that is not to fill the log.
#[derive(Default)]
pub(crate) struct Warning {
    last: Option<Instant>,
}

impl Warning {
    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

/// What a connection is told for which there is no place. Clients that speak HTTP come back after that many seconds.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\n\r\nthis server is full\n";

/// How long a connection that is refused has to read that.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Tells a connection that there is no place for it. What it asks for is not read.
async fn refuse(mut stream: TcpStream, shared: Shared, _room: OwnedSemaphorePermit) -> Result<(), Cancelled> {
    // A new socket has room for this much, so it does not wait.
    let told = async {
        if stream.write_all(NO_PLACE).await.is_ok() {
            linger(stream.into(), REFUSAL_TIME).await;
        }
    };
    let _: Either<(), ()> = race(shared.stopped(), told).await;
    Ok(())
}

/// One connection from its first byte to its last. It holds its place until the socket is closed.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Shared,
    face: Face,
    tls: Option<Arc<Tls>>,
    place: Option<Place>,
) -> Result<(), Cancelled> {
    let limit = shared.node.config().http_server.first_byte_timeout.get();
    // Written as soon as it is there: frames are small, and they are already gathered into few writes.
    let _ = stream.set_nodelay(true);
    // Looked at, not waited for with `readable`, which may be ready although nothing has come.
    let mut first_byte = [0];
    let first_byte = race(tokio::time::sleep(limit), stream.peek(&mut first_byte));
    match race(shared.stopped(), first_byte).await {
        Either::Right(Either::Right(Ok(1))) => {}
        Either::Left(()) => return Ok(()), // it has asked for nothing
        Either::Right(_) => {
            tracing::debug!(%peer, "closed: no first byte");
            return Ok(());
        }
    }
    let stream = match tls {
        None => Stream::from(stream),
        Some(tls) => match Box::pin(encrypt(stream, peer, &tls, &shared)).await {
            Some(stream) => stream,
            None => return Ok(()),
        },
    };
    // HTTP and the goodbye need more memory than the life of a WebSocket; boxed, it is held only as long as they take.
    match face {
        Face::Internal => {
            let served = http::serve(stream, &shared, || false, |request| internal::answer(request, &shared));
            Box::pin(async { http::finish(served.await).await }).await;
        }
        Face::Public => {
            let arriving = async {
                let mut serving = pin!(public::serve(stream, peer, place.as_ref(), &shared));
                match shared.turns.begin(serving.as_mut()).await {
                    Some(became) => became,
                    None => serving.await,
                }
            };
            let mut became = Box::pin(arriving).await;
            // Run in place: moved out of it, a WebSocket would be there twice for as long as it lives.
            let end = match &mut became {
                Became::Nothing => return Ok(()),
                Became::Stream(stream) => {
                    stream.await;
                    return Ok(());
                }
                Became::WebSocket(websocket) => websocket.run().await,
            };
            if let Became::WebSocket(websocket) = became {
                Box::pin(websocket.say_goodbye(end)).await;
            }
        }
    }
    Ok(())
}

/// Makes an encrypted connection; `None` if there is none, and the peer was told if it can be.
async fn encrypt(stream: TcpStream, peer: SocketAddr, tls: &Tls, shared: &Shared) -> Option<Stream> {
    let limit = shared.node.config().http_server.handshake_timeout.get();
    match race(shared.stopped(), tls.accept(stream, limit)).await {
        Either::Left(()) => None, // it has asked for nothing
        Either::Right(Ok(stream)) => Some(stream),
        Either::Right(Err(HandshakeError::Plain(mut stream))) => {
            tracing::debug!(%peer, "closed: not TLS");
            // A few bytes into an empty socket: who does not take them gets no explanation.
            if stream.write_all(NOT_TLS).now_or_never().is_some_and(|written| written.is_ok()) {
                linger(stream.into(), http::LINGER).await;
            }
            None
        }
        Either::Right(Err(error)) => {
            tracing::debug!(%peer, %error, "closed: no TLS");
            None
        }
    }
}
