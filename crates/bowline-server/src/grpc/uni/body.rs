//! The body of a stream: pushes as gRPC messages, and the status at its end.
//!
//! [`Pending`] is what a stream has to say and has not handed over; [`handover`] makes the place where it lays the next
//! piece down and hyper takes it. hyper takes one when HTTP/2 has room for it, so a place that stays full says that the
//! peer takes nothing.
//!
//! # Invariants
//!
//! 1. At most one piece lies in the place: what waits for the peer stays in the stream's queue, whose bound holds.
//! 2. The status is taken behind every piece.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use hyper::HeaderMap;
use hyper::body::{Body as HttpBody, Frame as BodyFrame};
use tonic::{Code, Status};

use crate::grpc::message::{PREFIX_BYTES, put_prefix};
use crate::node::Frame;

/// Small messages are put together up to this size, the largest DATA frame that every peer takes; a larger one is a piece
/// by itself, which is not copied.
const PIECE_BYTES: usize = 16 * 1024;

/// Pushes on their way to one peer.
#[derive(Debug, Default)]
pub(super) struct Pending {
    frames: VecDeque<Frame>,
    /// A message whose prefix went ahead of it.
    announced: Option<Bytes>,
}

impl Pending {
    pub(super) fn extend(&mut self, frames: impl IntoIterator<Item = Frame>) {
        self.frames.extend(frames);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.announced.is_none()
    }

    /// Drops all but a message that has been announced, without which the peer finds no other.
    pub(super) fn abandon(&mut self) {
        self.frames = VecDeque::new();
    }

    /// The next piece of the body.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        if let Some(announced) = self.announced.take() {
            return Some(announced);
        }
        self.frames.front()?;
        let mut piece =
            Vec::with_capacity(self.frames.iter().map(Frame::len).sum::<usize>().min(PIECE_BYTES));
        while let Some(frame) = self.frames.pop_front() {
            let message = message(&frame);
            put_prefix(message.len(), &mut piece);
            if message.len() > PIECE_BYTES {
                self.announced = Some(message);
                break;
            }
            piece.extend_from_slice(&message);
            // Of a message that is a piece by itself only the prefix is to find room.
            let next = self.frames.front().map(Frame::len).filter(|length| *length <= PIECE_BYTES);
            if piece.len() + PREFIX_BYTES + next.unwrap_or(0) > PIECE_BYTES {
                break;
            }
        }
        if self.frames.is_empty() {
            self.frames = VecDeque::new(); // nothing is held while nothing is to be said
        }
        Some(piece.into())
    }
}

/// The push in a frame, without the length that stands before it where messages follow each other.
fn message(frame: &Frame) -> Bytes {
    let mut payload = frame.payload();
    while payload.has_remaining() && payload.get_u8() & 0x80 != 0 {}
    payload
}

/// Makes the two ends of the place between a stream and its body.
pub(super) fn handover() -> (Giving, Pushes) {
    let place = Arc::new(Mutex::new(Place::default()));
    (Giving(Arc::clone(&place)), Pushes(place))
}

#[derive(Debug, Default)]
struct Place {
    piece: Option<Bytes>,
    status: Option<Status>,
    giver: Option<Waker>,
    taker: Option<Waker>,
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    // Nothing under the lock can stop half-way, so a poisoned place is whole.
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stream's end of the place.
#[derive(Debug)]
pub(super) struct Giving(Arc<Mutex<Place>>);

impl Giving {
    /// Whether the last piece was not taken yet.
    pub(super) fn is_full(&self) -> bool {
        lock(&self.0).piece.is_some()
    }

    /// Ready when the last piece was taken.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut place = lock(&self.0);
        if place.piece.is_none() {
            return Poll::Ready(());
        }
        place.giver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Lays the next piece down. Only into an empty place, by invariant 1.
    pub(super) fn give(&self, piece: Bytes) {
        let taker = {
            let mut place = lock(&self.0);
            debug_assert!(place.piece.is_none(), "by invariant 1");
            place.piece = Some(piece);
            place.taker.take()
        };
        wake(taker);
    }

    /// Ends the body behind what lies there.
    pub(super) fn end(&self, status: Status) {
        let taker = {
            let mut place = lock(&self.0);
            place.status = Some(status);
            place.taker.take()
        };
        wake(taker);
    }
}

/// The body, as hyper reads it.
#[derive(Debug)]
pub(super) struct Pushes(Arc<Mutex<Place>>);

impl HttpBody for Pushes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        let mut place = lock(&self.0);
        if let Some(piece) = place.piece.take() {
            let giver = place.giver.take();
            drop(place);
            wake(giver);
            return Poll::Ready(Some(Ok(BodyFrame::data(piece))));
        }
        if let Some(status) = place.status.take() {
            return Poll::Ready(Some(Ok(BodyFrame::trailers(trailers(&status)))));
        }
        place.taker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A status as it stands behind a body.
fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // A text that cannot stand in a header: the code says the most.
        let _ = Status::new(status.code(), "").add_header(&mut trailers);
    }
    debug_assert!(status.code() != Code::Ok || trailers.contains_key(Status::GRPC_STATUS));
    trailers
}

/// Wakes outside of the lock.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use bowline_protocol::{Payload, Push};

    use super::*;
    use crate::node::Wire;

    fn push(length: usize) -> Frame {
        let data = Payload::opaque(vec![7; length]);
        Frame::push(Wire::PROTOBUF.unidirectional(), &Push::Message { data }, length).unwrap()
    }

    /// The messages in `pieces`.
    fn messages(pieces: &[Bytes]) -> Vec<Bytes> {
        let mut body = Bytes::from(pieces.concat());
        let mut messages = Vec::new();
        while body.has_remaining() {
            assert_eq!(body.get_u8(), 0);
            let length = body.get_u32() as usize;
            messages.push(body.split_to(length));
        }
        messages
    }

    fn pieces(lengths: &[usize]) -> Vec<Bytes> {
        let mut pending = Pending::default();
        pending.extend(lengths.iter().map(|length| push(*length)));
        let pieces: Vec<_> = std::iter::from_fn(|| pending.next_piece()).collect();
        assert!(pending.is_empty());
        pieces
    }

    #[test]
    fn a_push_is_one_message_without_the_length_before_it() {
        // Field 8 of a push, which holds field 1.
        assert_eq!(messages(&pieces(&[2])), [Bytes::from_static(&[0x42, 4, 0x0a, 2, 7, 7])]);
        let mut ping = Pending::default();
        ping.extend([Frame::ping(Wire::PROTOBUF.unidirectional())]);
        assert_eq!(ping.next_piece().unwrap(), Bytes::from_static(&[0; 5]), "an empty message");
    }

    #[test]
    fn small_pushes_share_a_piece_and_a_large_one_is_not_copied() {
        assert_eq!(pieces(&[10; 100]).len(), 1);
        let many = pieces(&[1000; 100]);
        assert_eq!(messages(&many).len(), 100);
        assert!(many.iter().all(|piece| piece.len() <= PIECE_BYTES), "{many:?}");
        assert!(many.len() < 10, "{}", many.len());

        let mut pending = Pending::default();
        let large = push(100_000);
        pending.extend([push(1), large.clone(), push(1)]);
        let all: Vec<_> = std::iter::from_fn(|| pending.next_piece()).collect();
        assert_eq!(messages(&all).len(), 3);
        assert_eq!(all[1].as_ptr_range().end, large.payload().as_ptr_range().end, "the very bytes");
    }

    #[test]
    fn what_is_abandoned_ends_at_a_message() {
        let mut pending = Pending::default();
        pending.extend([push(1), push(100_000), push(1)]);
        let mut all = vec![pending.next_piece().unwrap()];
        pending.abandon();
        pending.extend([Frame::ping(Wire::PROTOBUF.unidirectional())]);
        all.extend(std::iter::from_fn(|| pending.next_piece()));
        assert_eq!(messages(&all).len(), 3, "the one that was announced is whole, and the ping follows");
    }

    #[test]
    fn the_status_is_taken_behind_every_piece() {
        let (giving, mut pushes) = handover();
        let mut cx = Context::from_waker(Waker::noop());
        let mut next = |cx: &mut Context<'_>| Pin::new(&mut pushes).poll_frame(cx);
        assert!(next(&mut cx).is_pending());
        giving.give(Bytes::from_static(b"piece"));
        giving.end(Status::new(Code::Ok, ""));
        assert!(giving.is_full() && giving.poll_room(&mut cx).is_pending());
        let Poll::Ready(Some(Ok(piece))) = next(&mut cx) else { panic!() };
        assert_eq!(piece.into_data().unwrap(), "piece");
        assert!(giving.poll_room(&mut cx).is_ready());
        let Poll::Ready(Some(Ok(end))) = next(&mut cx) else { panic!() };
        assert_eq!(end.into_trailers().unwrap()["grpc-status"], "0");
    }
}
