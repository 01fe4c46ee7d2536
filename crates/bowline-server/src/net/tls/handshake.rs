//! The handshake of one connection.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline::{Either, race};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{Error, ServerConnection};

use super::Tls;
use crate::net::stream::{Socket, Stream, TlsStream};

/// The first byte of every TLS connection: a record of a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Why there is no encrypted connection.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The peer does not speak TLS. The socket is given back for an answer.
    Plain(TcpStream),
    /// It was not done in time.
    Late,
    /// The peer offers nothing that would do, or breaks the rules; it was told.
    Refused(Error),
    /// The socket broke.
    Gone(io::Error),
    /// The task is to end.
    Cancelled,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("the peer does not speak TLS"),
            Self::Late => f.write_str("the TLS handshake was not done in time"),
            Self::Refused(error) => write!(f, "TLS handshake: {error}"),
            Self::Gone(error) => write!(f, "the connection broke in the TLS handshake: {error}"),
            Self::Cancelled => f.write_str("cancelled in the TLS handshake"),
        }
    }
}

impl Tls {
    /// Makes an encrypted connection out of `socket`, within `limit`.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the socket is closed.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] says why there is none. Trying again on the same socket cannot succeed.
    pub(crate) async fn accept(&self, socket: TcpStream, limit: Duration) -> Result<Stream, HandshakeError> {
        let done = match race(tokio::time::sleep(limit), self.shake_hands(socket)).await {
            Either::Left(()) => Err(HandshakeError::Late),
            Either::Right(done) => done,
        };
        let count = if done.is_ok() { &self.handshakes } else { &self.failed_handshakes };
        count.fetch_add(1, Ordering::Relaxed);
        done
    }

    async fn shake_hands(&self, socket: TcpStream) -> Result<Stream, HandshakeError> {
        let mut first = [0];
        match socket.peek(&mut first).await.map_err(HandshakeError::Gone)? {
            0 => return Err(HandshakeError::Gone(io::ErrorKind::UnexpectedEof.into())),
            _ if first[0] != HANDSHAKE_RECORD => return Err(HandshakeError::Plain(socket)),
            _ => {}
        }
        let config = Arc::clone(&self.current().config);
        let mut session = ServerConnection::new(config).map_err(HandshakeError::Refused)?;
        loop {
            send(&mut session, &socket).await.map_err(HandshakeError::Gone)?;
            if !session.is_handshaking() {
                return Ok(Stream::Tls(Box::new(TlsStream::new(socket, session))));
            }
            if receive(&mut session, &socket).await.map_err(HandshakeError::Gone)? == 0 {
                return Err(HandshakeError::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
            // By invariant 2: held while it computes, and not while it waits for the peer.
            let turn = self.turns.acquire(1).await.map_err(|_| HandshakeError::Cancelled)?;
            let processed = session.process_new_packets();
            drop(turn);
            if let Err(error) = processed {
                // The peer is told what was wrong, if it still listens.
                let _ = send(&mut session, &socket).await;
                return Err(HandshakeError::Refused(error));
            }
        }
    }
}

async fn send(session: &mut ServerConnection, socket: &TcpStream) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(&mut Socket(socket)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn receive(session: &mut ServerConnection, socket: &TcpStream) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        match session.read_tls(&mut Socket(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}
