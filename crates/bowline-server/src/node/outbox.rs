//! The outgoing queue of one connection: bounded in bytes and in frames, and nobody ever waits to put something in.
//!
//! The connection's task owns the reading end and drains it into its socket; the node and the session hold clones
//! and push. The queue also carries the reason why the connection is to end, so that whoever decides first is heard.
//!
//! # Invariants
//!
//! 1. A frame is accepted or refused at once; an accepted frame is handed out in order, or dropped by an end that
//!    does not flush.
//! 2. The first [`close`](Outbox::close) decides the reason, and nothing is accepted after it.
//! 3. Ends that do not flush ("slow", "connection closed") free what is queued at once: a peer that does not read
//!    must not hold memory until its socket notices.
//! 4. Every frame is accounted for in the live tree: accepted is queued plus handed out or freed.
//! 5. An empty queue whose reader waits holds no heap.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bowline::{ObservedQueue, Overflow, QueueStats};
use bowline_protocol::Disconnect;

use super::frame::{Frame, Wire};

/// Bytes of the byte bound per frame of the frame bound: frames of 40 bytes make the queue's own memory at most
/// 1.25 times the byte bound, and every useful frame is longer than 32 bytes.
const BYTES_PER_FRAME: usize = 32;

/// The frame bound does not go below this, so that a small byte bound still takes a burst of replies.
const FEWEST_FRAMES: usize = 64;

/// A handle to the outgoing queue of one connection. Cloning makes another handle to the same queue.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    wire: Wire,
    max_bytes: usize,
    max_frames: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Frames accepted so far, and the most that were queued at once: for the live tree.
    accepted: u64,
    high_water: usize,
    reader: Option<Waker>,
    end: Option<Box<Disconnect>>,
}

/// Why a frame was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// The queue is full: the connection is now closed with [`Disconnect::SLOW`].
    Full,
    /// The connection is ending.
    Closed,
}

/// What a drain brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Frames to write were appended.
    Frames,
    /// Everything was handed out; the connection is to end for this reason.
    End(Disconnect),
}

impl Outbox {
    /// Makes a queue that holds at most `max_bytes` of frames; a single longer frame is let into an empty queue.
    #[must_use]
    pub fn new(max_bytes: NonZeroUsize) -> Self {
        Self::with_wire(max_bytes, Wire::JSON)
    }

    /// Makes such a queue for a connection that takes its messages in the form of `wire`.
    #[must_use]
    pub fn with_wire(max_bytes: NonZeroUsize, wire: Wire) -> Self {
        let max_bytes = max_bytes.get();
        let max_frames = (max_bytes / BYTES_PER_FRAME).max(FEWEST_FRAMES);
        Self(Arc::new(Queue { wire, max_bytes, max_frames, state: Mutex::default() }))
    }

    /// The form in which the connection takes its messages: that of every frame to be pushed.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.0.wire
    }

    /// Lists the queue in the live tree, below the task that calls.
    pub fn observe(&self) {
        bowline::observe(&self.0);
    }

    /// Appends a frame.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] once, when the bound is reached: the queue is freed and closed as slow.
    /// [`PushError::Closed`] from then on, or after [`close`](Self::close).
    pub fn push(&self, frame: Frame) -> Result<(), PushError> {
        let reader = {
            let mut state = self.lock();
            if state.end.is_some() {
                return Err(PushError::Closed);
            }
            let is_full = state.frames.len() >= self.0.max_frames
                || (!state.frames.is_empty() && state.bytes.saturating_add(frame.len()) > self.0.max_bytes);
            if is_full {
                let reader = state.end(Disconnect::SLOW);
                drop(state);
                wake(reader);
                return Err(PushError::Full);
            }
            state.bytes += frame.len();
            state.frames.push_back(frame);
            state.accepted += 1;
            state.high_water = state.high_water.max(state.frames.len());
            state.reader.take()
        };
        wake(reader);
        Ok(())
    }

    /// Asks the connection to end for `reason`, after what is queued was written. Only the first reason counts.
    pub fn close(&self, reason: Disconnect) {
        let reader = {
            let mut state = self.lock();
            if state.end.is_some() {
                return;
            }
            state.end(reason)
        };
        wake(reader);
    }

    /// The reason the connection is to end for, once there is one.
    #[must_use]
    pub fn disconnect(&self) -> Option<Disconnect> {
        self.lock().end.as_deref().cloned()
    }

    /// Whether the connection is ending.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Bytes of the frames in the queue.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Moves all queued frames to the end of `frames`, or waits for some.
    ///
    /// There is one reader: the waker of the last call is the one that is woken. The reader writes all frames of
    /// one drain together.
    pub fn poll_drain(&self, context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Drained> {
        let mut state = self.lock();
        if !state.frames.is_empty() {
            state.bytes = 0;
            frames.extend(state.frames.drain(..));
            return Poll::Ready(Drained::Frames);
        }
        // By invariant 5; while frames flow, the buffer is kept from one drain to the next.
        state.frames = VecDeque::new();
        if let Some(reason) = &state.end {
            return Poll::Ready(Drained::End(Disconnect::clone(reason)));
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits for frames or the end and moves the frames to the end of `frames`.
    ///
    /// # Cancel safety
    ///
    /// Frames are taken in the poll that completes; a future dropped before took none.
    pub async fn drain(&self, frames: &mut Vec<Frame>) -> Drained {
        std::future::poll_fn(|context| self.poll_drain(context, frames)).await
    }

    /// Waits until the queue is ended without a flush, and answers why: for a reader that is busy writing what it drained.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn abandoned(&self) -> Disconnect {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            match &state.end {
                Some(reason) if !flushes(reason) => return Poll::Ready(Disconnect::clone(reason)),
                _ => {}
            }
            match &mut state.reader {
                Some(reader) => reader.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can stop half-way, so a poisoned queue is whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObservedQueue for Queue {
    fn stats(&self) -> QueueStats {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        QueueStats {
            depth_items: state.frames.len(),
            depth_bytes: state.bytes,
            max_items: self.max_frames,
            max_bytes: Some(self.max_bytes),
            high_water_items: state.high_water,
            sent: state.accepted,
            received: state.accepted - state.frames.len() as u64,
            waiting_receivers: usize::from(state.reader.is_some()),
            ..QueueStats::named("outbox", Overflow::Reject)
        }
    }
}

impl State {
    /// Ends the queue for `reason`, which is the first, and returns whom to wake.
    fn end(&mut self, reason: Disconnect) -> Option<Waker> {
        if !flushes(&reason) {
            self.frames = VecDeque::new();
            self.bytes = 0;
        }
        self.end = Some(Box::new(reason));
        self.reader.take()
    }
}

/// Whether what was queued before the end is still written.
fn flushes(reason: &Disconnect) -> bool {
    *reason != Disconnect::SLOW && *reason != Disconnect::CONNECTION_CLOSED
}

/// Wakes outside the lock: the reader may run at once on another thread and would only meet the lock.
fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use bowline_protocol::{Payload, Push};

    use super::*;

    /// A frame of exactly `length` bytes, below the long header forms.
    fn frame(length: usize) -> Frame {
        let data = Payload::json_string(&"x".repeat(length - 34));
        let frame = Frame::push(Wire::JSON, &Push::Message { data }, length).unwrap();
        assert_eq!(frame.len(), length);
        frame
    }

    fn outbox(max_bytes: usize) -> Outbox {
        Outbox::new(NonZeroUsize::new(max_bytes).unwrap())
    }

    fn drain(outbox: &Outbox) -> (Poll<Drained>, usize) {
        let mut frames = Vec::new();
        let polled = outbox.poll_drain(&mut Context::from_waker(Waker::noop()), &mut frames);
        (polled, frames.len())
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_frees_what_it_holds() {
        let outbox = outbox(100);
        assert_eq!(outbox.push(frame(60)), Ok(()));
        assert_eq!(outbox.push(frame(40)), Ok(()));
        assert_eq!(outbox.push(frame(40)), Err(PushError::Full));
        assert_eq!(outbox.push(frame(40)), Err(PushError::Closed));
        assert_eq!(outbox.queued_bytes(), 0);
        assert_eq!(drain(&outbox), (Poll::Ready(Drained::End(Disconnect::SLOW)), 0));
    }

    #[test]
    fn draining_makes_room() {
        let outbox = outbox(100);
        for _ in 0..3 {
            assert_eq!(outbox.push(frame(100)), Ok(()));
            assert_eq!(drain(&outbox), (Poll::Ready(Drained::Frames), 1));
        }
        assert_eq!(drain(&outbox).0, Poll::Pending);
    }

    #[test]
    fn one_frame_longer_than_the_bound_is_let_into_an_empty_queue() {
        let outbox = outbox(50);
        assert_eq!(outbox.push(frame(90)), Ok(()));
        assert_eq!(outbox.push(frame(40)), Err(PushError::Full));
    }

    #[test]
    fn many_small_frames_are_bounded_by_their_number() {
        let outbox = outbox(1024 * 1024);
        let accepted = (0..).take_while(|_| outbox.push(Frame::ping(Wire::JSON)).is_ok()).count();
        assert_eq!(accepted, 1024 * 1024 / BYTES_PER_FRAME);
    }

    #[test]
    fn an_ordinary_end_comes_after_what_is_queued_and_the_first_reason_counts() {
        let outbox = outbox(100);
        outbox.push(frame(40)).unwrap();
        outbox.close(Disconnect::SHUTDOWN);
        outbox.close(Disconnect::STALE);
        assert_eq!(outbox.push(frame(40)), Err(PushError::Closed));
        assert_eq!(drain(&outbox), (Poll::Ready(Drained::Frames), 1));
        assert_eq!(drain(&outbox), (Poll::Ready(Drained::End(Disconnect::SHUTDOWN)), 0));
        assert_eq!(outbox.disconnect(), Some(Disconnect::SHUTDOWN));
    }

    #[test]
    fn a_waiting_reader_is_woken_once_by_a_push_and_by_the_end() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let mut frames = Vec::new();
        let outbox = outbox(100);

        assert!(outbox.poll_drain(&mut context, &mut frames).is_pending());
        outbox.push(frame(40)).unwrap();
        outbox.push(frame(40)).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(outbox.poll_drain(&mut context, &mut frames).is_ready());
        assert!(outbox.poll_drain(&mut context, &mut frames).is_pending());
        outbox.close(Disconnect::SHUTDOWN);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_reader_busy_writing_hears_of_an_end_that_does_not_flush_and_of_no_other() {
        let abandoned = |outbox: &Outbox| {
            let mut waiting = std::pin::pin!(outbox.abandoned());
            waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        let slow = outbox(100);
        assert!(abandoned(&slow).is_pending());
        slow.close(Disconnect::SLOW);
        assert_eq!(abandoned(&slow), Poll::Ready(Disconnect::SLOW));
        let orderly = outbox(100);
        orderly.close(Disconnect::SHUTDOWN);
        assert!(abandoned(&orderly).is_pending());
    }

    #[test]
    fn an_idle_queue_holds_no_heap() {
        let outbox = outbox(1000);
        outbox.push(frame(40)).unwrap();
        let _ = drain(&outbox);
        assert!(outbox.lock().frames.capacity() > 0, "kept while frames flow");
        let _ = drain(&outbox);
        assert_eq!(outbox.lock().frames.capacity(), 0);
    }
}
