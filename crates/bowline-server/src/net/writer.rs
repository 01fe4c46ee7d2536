//! Frames to as few writes as possible.
//!
//! One write call per message is bounded by the kernel at about half a million a second; all frames that are queued for
//! a connection leave together. Small frames are copied side by side into a buffer of the thread and leave in one write;
//! nothing is kept per connection but what the kernel did not take.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

/// The most bytes gathered for one write: what a socket takes at once by default is of this order.
const GATHER_BYTES: usize = 64 * 1024;

thread_local! {
    static GATHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is to be written to one socket.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pending: VecDeque<Bytes>,
}

impl Writer {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.pending.push_back(bytes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Writes until everything is written or the kernel takes no more; says whether anything was written.
    pub(crate) fn write(&mut self, stream: &TcpStream) -> io::Result<bool> {
        let mut wrote = false;
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

    fn write_once(&self, stream: &TcpStream) -> io::Result<usize> {
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
                return;
            }
            written -= first.len();
            self.pending.pop_front();
        }
    }
}
