//! Frames to as few writes as possible.
//!
//! One write call per message is bounded by the kernel at about half a million a second; all frames that are queued for
//! a connection leave together. Small frames are copied side by side into a buffer of the thread and leave in one write;
//! nothing is kept per connection but what the kernel did not take.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes};

use super::stream::Stream;

/// The most bytes gathered for one write: what a socket takes at once by default is of this order.
const GATHER_BYTES: usize = 64 * 1024;

thread_local! {
    static GATHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is to be written to one socket.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pending: VecDeque<Bytes>,
    /// Whether the kernel has taken a part of the first frame.
    has_begun: bool,
}

impl Writer {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.pending.push_back(bytes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Drops all but a frame that has begun to leave, whose rest the peer needs to find the next one.
    pub(crate) fn abandon(&mut self) {
        self.pending.truncate(usize::from(self.has_begun));
        self.pending.shrink_to_fit();
    }

    /// Writes until everything is accepted or the kernel takes no more; says whether it took anything.
    ///
    /// What was accepted may still wait in an encrypted [`Stream`].
    pub(crate) fn write(&mut self, stream: &mut Stream) -> io::Result<bool> {
        let mut wrote = stream.try_flush()?;
        while !self.pending.is_empty() {
            match self.write_once(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    wrote = true;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(wrote),
                Err(error) => return Err(error),
            }
        }
        self.pending = VecDeque::new(); // an idle connection keeps no buffer
        Ok(wrote)
    }

    fn write_once(&self, stream: &mut Stream) -> io::Result<usize> {
        let Some(first) = self.pending.front() else { return Ok(0) };
        if self.pending.len() == 1 || first.len() >= GATHER_BYTES {
            return stream.try_write(first);
        }
        GATHER.with_borrow_mut(|gather| {
            gather.clear();
            for bytes in &self.pending {
                if !gather.is_empty() && gather.len() + bytes.len() > GATHER_BYTES {
                    break;
                }
                gather.extend_from_slice(bytes);
            }
            stream.try_write(gather)
        })
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.pending.front_mut() {
            if written < first.len() {
                first.advance(written);
                self.has_begun |= written > 0;
                return;
            }
            written -= first.len();
            self.pending.pop_front();
            self.has_begun = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use bowline::{Either, race};
    use bowline_protocol::websocket::{Decoder, Limits, Message, Opcode, Role, close_frame, frame};
    use bytes::BytesMut;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn sockets() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0.into(), client)
    }

    #[bowline::test]
    async fn what_is_abandoned_ends_at_a_frame() {
        let (mut server, mut client) = sockets().await;
        let mut writer = Writer::default();
        let long = frame(Opcode::Binary, &[7; 100_000]);
        // More than the kernel takes of one that nobody reads.
        while writer.is_empty() {
            (0..1000).for_each(|_| writer.push(long.clone()));
            writer.write(&mut server).unwrap();
        }
        assert!(writer.pending.len() > 1);
        writer.abandon();
        assert!(writer.pending.len() <= 1);
        writer.push(close_frame(3008, "slow"));

        let mut read = BytesMut::new();
        let limits = Limits { max_message_bytes: 100_000, ..Limits::default() };
        let mut decoder = Decoder::new(Role::Client, limits);
        let mut frames = 0;
        loop {
            writer.write(&mut server).unwrap();
            match decoder.decode(&mut read).unwrap() {
                Some(Message::Binary(data)) => assert_eq!(data.len(), 100_000),
                Some(Message::Close(close)) => {
                    assert_eq!(close.unwrap().code, 3008);
                    break;
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    // The writable end is always ready; without a pause the other would be out of budget for good.
                    tokio::task::yield_now().await;
                    read.reserve(1_000_000);
                    // Either end may be the one that has to move.
                    match race(client.read_buf(&mut read), server.writable()).await {
                        Either::Left(read) => assert_ne!(read.unwrap(), 0),
                        Either::Right(writable) => writable.unwrap(),
                    }
                    continue;
                }
            }
            frames += 1;
        }
        assert!(frames < 1000, "{frames} frames are what the kernel takes");
    }
}
