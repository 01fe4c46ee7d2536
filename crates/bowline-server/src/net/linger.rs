//! Closing a socket so that the peer gets to read our last words.
//!
//! A socket that is closed while something unread lies in it is reset, and a reset may overtake what was written last: the
//! answer to a body that was too large, or the close frame. So we first say that nothing more will come, and then read on
//! until the peer has closed too, for a short time.

use std::io;
use std::time::Duration;

use bowline::{Either, race};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::stream::Stream;

/// What is thrown away at a time. On the stack: nothing is held while there is nothing to read.
const DISCARD_BYTES: usize = 16 * 1024;

/// Closes `stream` when the peer has closed it, at the latest after `limit`.
pub(crate) async fn linger(mut stream: Stream, limit: Duration) {
    let until_closed = async {
        if stream.shutdown().await.is_ok() {
            // What is thrown away need not be decrypted.
            discard(&stream.into_socket()).await;
        }
    };
    // An Either, because either end is fine.
    let _: Either<(), ()> = race(tokio::time::sleep(limit), until_closed).await;
}

/// Reads and forgets until the peer has closed.
async fn discard(stream: &TcpStream) {
    loop {
        // A peer that never stops sending must not keep the thread to itself, nor the deadline from being looked at.
        tokio::task::coop::consume_budget().await;
        if stream.readable().await.is_err() {
            return;
        }
        let mut discarded = [0; DISCARD_BYTES];
        match stream.try_read(&mut discarded) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
