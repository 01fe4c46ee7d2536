//! Binding, accepting gRPC connections, and the group that owns them.

use std::net::SocketAddr;
use std::sync::Arc;

use bowline::{Cancelled, Discard, Either, Group, group, race};
use tokio::net::{TcpListener, TcpStream};

use super::connection;
use super::face::Face;
use crate::config;
use crate::net::listener::{Accepting, bind};
use crate::net::stream::Stream;
use crate::net::tls::Tls;
use crate::net::{BindError, Shared};

/// What is spoken inside of TLS, as ALPN calls it.
const HTTP2: &[u8] = b"h2";

/// A listener that is bound, and how it encrypts.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
}

impl Door {
    /// Binds `address`; `keys` are the settings that say it, and `section` is that of `tls`.
    pub(crate) async fn open(
        address: SocketAddr,
        keys: [&'static str; 2],
        tls: &config::Tls,
        section: &'static str,
    ) -> Result<Self, BindError> {
        let tls = Tls::load(tls, section, HTTP2).map_err(BindError::Tls)?;
        Ok(Self { listener: bind(address, keys).await?, tls })
    }

    /// Where it is.
    ///
    /// # Panics
    ///
    /// If the system does not know the address of a socket it has bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }

    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }
}

/// Accepts until the server stops; returns when every connection is gone.
pub(super) async fn run<F: Face>(door: Door, shared: Shared, face: F) -> Result<(), Cancelled> {
    let (Door { listener, tls }, face) = (door, Arc::new(face));
    let _ = group("connections", Discard, async |connections| {
        let _ = race(shared.stopped(), accept(&listener, tls.as_ref(), &shared, &face, connections)).await;
        // Refused from here on, not left waiting in the kernel.
        drop(listener);
        face.stop().await;
    })
    .await;
    Ok(())
}

async fn accept<F: Face>(
    listener: &TcpListener,
    tls: Option<&Arc<Tls>>,
    shared: &Shared,
    face: &Arc<F>,
    connections: &Group<(), Cancelled, Discard>,
) {
    let mut accepting = Accepting::new(listener);
    loop {
        let (stream, peer) = accepting.next().await;
        let Some(place) = face.admit(peer) else { continue };
        let _ = stream.set_nodelay(true); // what hyper writes is gathered already
        let (shared, face, tls) = (shared.clone(), Arc::clone(face), tls.cloned());
        connections.spawn(F::CONNECTION, async move {
            let stream = match tls {
                None => Some(stream.into()),
                Some(tls) => Box::pin(encrypt(stream, peer, &tls, &shared)).await,
            };
            if let Some(stream) = stream {
                connection::serve(stream, peer, &shared, &face).await;
            }
            drop(place);
            Ok(())
        });
    }
}

/// Makes an encrypted connection; `None` if there is none.
async fn encrypt(stream: TcpStream, peer: SocketAddr, tls: &Tls, shared: &Shared) -> Option<Stream> {
    let limit = shared.node.config().http_server.handshake_timeout.get();
    match race(shared.stopped(), tls.accept(stream, limit)).await {
        Either::Left(()) => None, // it has asked for nothing
        Either::Right(Ok(stream)) => Some(stream),
        Either::Right(Err(error)) => {
            tracing::debug!(%peer, %error, "gRPC: closed: no TLS");
            None
        }
    }
}
