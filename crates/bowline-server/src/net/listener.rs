//! One listener: accept, and hand each connection to a group that owns it.
//!
//! An error of accept never ends the loop. Errors of a single connection are skipped; at any other, such as a process
//! that is out of files, the loop pauses shortly, because the next accept would fail as well. The public listener holds as
//! many connections as it has [`Places`]; the internal one is left what they do not take.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline::{Cancelled, Discard, Either, Group, group, race};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use super::places::{Full, Place, Places};
use super::{BindError, Shared, http, internal, public};

/// How many connections may wait in the kernel for an accept.
const BACKLOG: u32 = 4096;

/// How long accept pauses after an error that the next accept would meet as well.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// How often the log tells of the same trouble of accepting.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

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
    bound.await.map_err(|source| BindError { address, keys, source })
}

/// Accepts until the server stops; returns when every connection is gone. Without `places` there is no bound.
pub(crate) async fn run(
    listener: TcpListener,
    shared: Shared,
    face: Face,
    places: Option<Arc<Places>>,
) -> Result<(), Cancelled> {
    let _ = group("connections", Discard, async |connections| {
        let accept = accept(&listener, &shared, face, places.as_ref(), connections);
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
    places: Option<&Arc<Places>>,
    connections: &Group<(), Cancelled, Discard>,
) {
    let (mut cannot_accept, mut no_place) = (Warning::default(), Warning::default());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_the_peer(&error) => {
                tracing::debug!(%error, "a connection failed before it was accepted");
                continue;
            }
            Err(error) => {
                if cannot_accept.is_due() {
                    tracing::warn!(%error, "cannot accept; at too many open files raise their limit");
                }
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let place = match places.map(|places| (places.take(peer.ip()), places.max())) {
            None => None,
            Some((Ok(place), _)) => Some(place),
            Some((Err(Full::Address), _)) => {
                tracing::debug!(%peer, "closed: its address has `http_server.connections_per_address` connections");
                continue;
            }
            Some((Err(Full::All), max)) => {
                if no_place.is_due() {
                    tracing::warn!(
                        connections = max,
                        "closed at accept: no more connections; raise the limit of open files"
                    );
                }
                continue;
            }
        };
        let name = match face {
            Face::Public => "connection",
            Face::Internal => "internal connection",
        };
        connections.spawn(name, connection(stream, peer, shared.clone(), face, place));
    }
}

/// Whether accept failed for one connection, whose peer is gone; the next is another one.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A warning that is not to fill the log.
#[derive(Default)]
struct Warning {
    last: Option<Instant>,
}

impl Warning {
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

/// One connection from its first byte to its last. It holds its place until the socket is closed.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Shared,
    face: Face,
    _place: Option<Place>,
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
    // HTTP and the goodbye need more memory than the life of a WebSocket; boxed, it is held only as long as they take.
    match face {
        Face::Internal => {
            let served = http::serve(stream, &shared, |request| internal::answer(request, &shared));
            Box::pin(async { http::finish(served.await).await }).await;
        }
        Face::Public => {
            let mut upgraded = Box::pin(public::serve(stream, peer, &shared)).await;
            // Run in place: moved out of the option, it would be there twice for as long as it lives.
            let end = match &mut upgraded {
                Some(websocket) => websocket.run().await,
                None => return Ok(()),
            };
            if let Some(websocket) = upgraded {
                Box::pin(websocket.say_goodbye(end)).await;
            }
        }
    }
    Ok(())
}
