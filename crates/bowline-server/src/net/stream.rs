//! One connection's bytes, encrypted or not.
//!
//! A plain connection costs what its socket costs. An encrypted one has its TLS session beside the socket, in a box.
//!
//! What was decrypted or encrypted and not yet handed on lies in the session, where the kernel knows nothing of it. So
//! whoever waits asks here and not the socket: [`poll_read_ready`](Stream::poll_read_ready) is ready while decrypted bytes are
//! left, and whoever has written all it has is done only when [`has_unsent`](Stream::has_unsent) says so.
//!
//! # Invariants
//!
//! 1. A byte that was accepted by [`try_write`](Stream::try_write) leaves before any that come later; nothing more is accepted
//!    while encrypted bytes wait, so at most [`MAX_UNSENT_BYTES`] do.
//! 2. An end of the socket without the word of TLS for it is taken for an end: HTTP and WebSocket say themselves where a
//!    message ends, so that one that was cut off is known for what it is.

use std::future::poll_fn;
use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConnection;

/// Bytes that are encrypted at once and may wait to leave: as many as the writer gathers for one write.
const MAX_UNSENT_BYTES: usize = 64 * 1024;

/// Bytes that are encrypted at once for a writer that sees no progress but the end of it: one record.
const RECORD_BYTES: usize = 16 * 1024;

/// Reads of the socket that bring nothing to read, such as empty records, before others get their turn.
const MAX_FRUITLESS_READS: usize = 16;

/// A connection that is read and written.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// An encrypted connection, after its handshake.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
    /// Whether something is decrypted and not read, the end of it included.
    has_plaintext: bool,
    /// Whether the peer was told that nothing more will come.
    has_said_end: bool,
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl Stream {
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// Whether there is something to read; it may turn out that there is nothing yet.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(tls) if tls.has_plaintext => Poll::Ready(Ok(())),
            _ => self.socket().poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_write_ready(cx)
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket().writable().await
    }

    /// Reads what is there, as far as `buffer` has room.
    pub(crate) fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read_buf(buffer),
            Self::Tls(tls) => tls.try_read(|bytes| {
                let room = buffer.capacity() - buffer.len();
                let taken = &bytes[..bytes.len().min(room)];
                buffer.put_slice(taken);
                taken.len()
            }),
        }
    }

    /// Reads what is there, as far as `buffer` has room.
    pub(crate) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(buffer),
            Self::Tls(tls) => tls.try_read(|mut bytes| bytes.read(buffer).unwrap_or(0)),
        }
    }

    /// Accepts a part of `bytes`, or nothing while what was accepted before has not left.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// Sends what was accepted, as far as the kernel takes it; whether that is anything.
    pub(crate) fn try_flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(false),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Whether something was accepted that has not left.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.session.wants_write(),
        }
    }

    /// Says that nothing more will come, as far as the kernel takes that at once. A plain socket says it when it is closed.
    pub(crate) fn say_end(&mut self) {
        if let Self::Tls(tls) = self {
            tls.say_end();
            let _ = tls.try_flush();
        }
    }

    /// The socket, for who does not want to read any more.
    pub(crate) fn into_socket(self) -> TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket,
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }
}

impl TlsStream {
    /// Takes over a session of which the handshake is done.
    pub(super) fn new(socket: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(MAX_UNSENT_BYTES));
        let mut stream = Self { socket, session, has_plaintext: false, has_said_end: false };
        stream.look();
        stream
    }

    fn say_end(&mut self) {
        if !std::mem::replace(&mut self.has_said_end, true) {
            self.session.send_close_notify();
        }
    }

    /// Finds out whether something is left to be read.
    fn look(&mut self) {
        let nothing_yet = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.has_plaintext = !self.session.reader().fill_buf().is_err_and(|error| nothing_yet(&error));
    }

    /// Lets `take` have bytes in one piece; it says how many it took. None at the end.
    fn try_read(&mut self, take: impl FnOnce(&[u8]) -> usize) -> io::Result<usize> {
        for _ in 0..MAX_FRUITLESS_READS {
            if self.has_plaintext {
                let mut reader = self.session.reader();
                let taken = match reader.fill_buf() {
                    Ok(bytes) => take(bytes),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0, // by invariant 2
                    Err(error) => return Err(error),
                };
                reader.consume(taken);
                self.look();
                return Ok(taken);
            }
            self.session.read_tls(&mut Socket(&self.socket))?;
            let processed = self.session.process_new_packets();
            // An alert, or the answer to a change of keys; what does not leave now goes with the next write.
            if let Err(error) = self.try_flush()
                && processed.is_ok()
            {
                return Err(error);
            }
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.look();
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        if self.session.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into()); // by invariant 1
        }
        let accepted = self.session.writer().write(bytes)?;
        self.try_flush()?;
        Ok(accepted)
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        let mut has_sent = false;
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket(&self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => has_sent = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(has_sent)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.try_flush()?;
            if !self.session.wants_write() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_write_ready(cx))?;
        }
    }
}

/// The socket as TLS reads and writes it: without waiting.
pub(super) struct Socket<'s>(pub(super) &'s TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if let Self::Plain(socket) = stream {
            return Pin::new(socket).poll_read(cx, buffer);
        }
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let Self::Tls(tls) = stream else { return Poll::Ready(Ok(())) };
            let read = tls.try_read(|bytes| {
                let taken = &bytes[..bytes.len().min(buffer.remaining())];
                buffer.put_slice(taken);
                taken.len()
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(tls) => {
                ready!(tls.poll_flush(cx))?;
                Poll::Ready(tls.try_write(&bytes[..bytes.len().min(RECORD_BYTES)]))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            tls @ Self::Tls(_) => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                Pin::new(tls).poll_write(cx, first.map_or(&[], |slice| slice))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => {
                tls.say_end();
                ready!(tls.poll_flush(cx))?;
                Pin::new(&mut tls.socket).poll_shutdown(cx)
            }
        }
    }
}
