//! One listener: accept, and hand each connection to a group that owns it.
//!
//! An error of accept never ends the loop. Errors of a single connection are skipped; when the process is out of files,
//! the loop pauses shortly, because the next accept would fail as well.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bowline::{Cancelled, Discard, Either, Group, group, race};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{BindError, Shared, http, internal, public};

/// How many connections may wait in the kernel for an accept.
const BACKLOG: u32 = 4096;

/// How long accept pauses when the process or the system is out of files.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(10);

/// Which of the two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Public,
    Internal,
}

pub(crate) async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, BindError> {
    let bound = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // After a restart the port is ours at once, although old connections still linger in the kernel.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound.await.map_err(|source| BindError { address, key, source })
}

/// Accepts until the server stops; returns when every connection is gone.
pub(crate) async fn run(listener: TcpListener, shared: Shared, face: Face) -> Result<(), Cancelled> {
    let _ = group("connections", Discard, async |connections| {
        let _ = race(shared.stopped(), accept(&listener, &shared, face, connections)).await;
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
    connections: &Group<(), Cancelled, Discard>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let name = match face {
                    Face::Public => "connection",
                    Face::Internal => "internal connection",
                };
                connections.spawn(name, connection(stream, peer, shared.clone(), face));
            }
            Err(error) if is_out_of_files(&error) => {
                tracing::warn!(%error, "cannot accept: raise the limit of open files");
                tokio::time::sleep(OUT_OF_FILES_PAUSE).await;
            }
            // The peer went before it was accepted: its own affair.
            Err(error) => tracing::debug!(%error, "a connection failed before it was accepted"),
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) || error.kind() == io::ErrorKind::OutOfMemory
}

/// One connection from its first byte to its last.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Shared,
    face: Face,
) -> Result<(), Cancelled> {
    let limit = shared.node.config().http_server.first_byte_timeout.get();
    // Written as soon as it is there: frames are small, and they are already gathered into few writes.
    let _ = stream.set_nodelay(true);
    let first_byte = race(tokio::time::sleep(limit), stream.readable()).await;
    if let Either::Left(()) | Either::Right(Err(_)) = first_byte {
        tracing::debug!(%peer, "closed: no first byte");
        return Ok(());
    }
    // HTTP needs more memory than a WebSocket; boxed, it is given back when the connection becomes one.
    match face {
        Face::Internal => {
            Box::pin(http::serve(stream, &shared, |request| internal::answer(request, &shared))).await;
        }
        Face::Public => {
            let upgraded = Box::pin(public::serve(stream, peer, &shared)).await;
            if let Some(websocket) = upgraded {
                websocket.run().await;
            }
        }
    }
    Ok(())
}
