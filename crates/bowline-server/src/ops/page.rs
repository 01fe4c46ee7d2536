//! Bodies that are made while they are sent.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};

/// What the internal listener sends: a page that is there, or one in the making.
pub(crate) type Page = Either<Full<Bytes>, Pieces>;

/// A page in pieces, of which each is made when the one before is on its way: a dump of a million tasks takes the memory of
/// some, and no turn of the connection's task makes more than one of them.
pub(crate) struct Pieces {
    rest: Box<dyn Iterator<Item = Vec<u8>> + Send>,
    has_given_way: bool,
}

impl Pieces {
    /// Some of the pieces may be empty.
    pub(crate) fn new(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Self {
        Self { rest: Box::new(pieces), has_given_way: false }
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pieces")
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.has_given_way {
            self.has_given_way = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_given_way = false;
        match self.rest.next() {
            None => Poll::Ready(None),
            Some(piece) if piece.is_empty() => self.poll_frame(cx),
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
        }
    }
}
