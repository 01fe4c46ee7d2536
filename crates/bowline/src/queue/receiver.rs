//! Receiving ends.

use std::fmt;
use std::sync::Arc;

use super::core::Chan;
use super::delivery::{Delivery, FreeDelivery};
use super::ends::{RecvEnd, carried};
use super::stream::{FreeRxStream, RxStream};
use super::{CloseReason, ObservedQueue, QueueStats, TryRecvError};
use crate::carry::{Bind, Carry, Cx};
use crate::cause::Cancelled;
use crate::holders::{FREE, IN_TRANSIT};

/// The receiving end of a queue, held by a task. Several receivers share the items: each goes to one of them.
pub struct Rx<'t, T> {
    pub(super) end: RecvEnd<T>,
    cx: &'t Cx,
}

/// A receiving end that may be kept and sent anywhere. Its holder counts as unknown.
pub struct FreeRx<T> {
    pub(super) end: RecvEnd<T>,
}

macro_rules! receiving {
    ($($front:tt)*) => {
        impl<T: Send + 'static> $($front)* {
            /// Takes the oldest item, waiting for one if the queue is empty; `None` when no more will come.
            ///
            /// Waiting receivers are granted items in the order in which they were first polled. The end of a queue and a cancellation are
            /// different things, so the loop is `while let Some(item) = rx.recv().await? { … }`.
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost if the future is dropped: an item granted to it goes to the next receiver, or stays.
            ///
            /// # Errors
            ///
            /// [`Cancelled`] when the receiver's context was cancelled; nothing was taken.
            pub async fn recv(&self) -> Result<Option<T>, Cancelled> {
                Ok(self.end.recv().await?.map(|taken| taken.queued.item))
            }

            /// Waits for one item and takes up to `max` of those that are there, appending them to `into`.
            ///
            /// Returns how many it took; 0 when no more will come.
            ///
            /// # Panics
            ///
            /// If `max` is 0: the answer could not be told from the end.
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost if the future is dropped.
            ///
            /// # Errors
            ///
            /// As [`recv`](Self::recv).
            pub async fn recv_many(&self, into: &mut Vec<T>, max: usize) -> Result<usize, Cancelled> {
                assert!(max > 0, "at least one item is wanted");
                let Some(first) = self.recv().await? else { return Ok(0) };
                into.push(first);
                Ok(1 + self.end.chan.take_many(into, max - 1))
            }

            /// Takes the oldest item if there is one that is promised to nobody.
            ///
            /// # Errors
            ///
            /// [`TryRecvError::Empty`] and [`TryRecvError::Closed`].
            pub fn try_recv(&self) -> Result<T, TryRecvError> {
                self.end.try_recv()
            }

            /// Returns why the queue is closed, if it is. A receiver that wants nothing of a queue that overflowed asks at its end.
            #[must_use]
            pub fn close_reason(&self) -> Option<CloseReason> {
                self.end.chan.close_reason()
            }

            /// Closes the queue: senders are refused, receivers get what is left.
            pub fn close(&self) {
                self.end.chan.close();
            }

            /// Returns the number of items queued now.
            #[must_use]
            pub fn depth(&self) -> usize {
                self.end.chan.len()
            }

            /// Returns what the queue was and is.
            #[must_use]
            pub fn stats(&self) -> QueueStats {
                self.end.chan.stats()
            }
        }
    };
}

receiving!(Rx<'_, T>);
receiving!(FreeRx<T>);

impl<'t, T: Send + 'static> Rx<'t, T> {
    pub(super) fn new(cx: &'t Cx, chan: Arc<Chan<T>>) -> Self {
        Self { end: RecvEnd::new(chan, cx.task_id()), cx }
    }

    /// Takes the oldest item, waiting for one if the queue is empty, and keeps it in flight until it is acknowledged; `None`
    /// when no more will come. See [`Delivery`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped, as with [`recv`](Self::recv); and nothing after it, as long as the delivery is
    /// acknowledged when the work is done and not before.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_delivery(&self) -> Result<Option<Delivery<'t, T>>, Cancelled> {
        Ok(self.end.recv_delivery().await?.map(|item| Delivery::new(self.cx, item)))
    }

    /// Takes the oldest item if there is one that is promised to nobody, and keeps it in flight until it is acknowledged.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_delivery(&self) -> Result<Delivery<'t, T>, TryRecvError> {
        Ok(Delivery::new(self.cx, self.end.try_recv_delivery()?))
    }

    /// Turns the end into a stream of its items, for combinators that take streams.
    pub fn into_stream(self) -> RxStream<'t, T> {
        RxStream::new(self)
    }
}

impl<T: Send + 'static> FreeRx<T> {
    /// As [`Rx::recv_delivery`].
    ///
    /// # Cancel safety
    ///
    /// As [`Rx::recv_delivery`].
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_delivery(&self) -> Result<Option<FreeDelivery<T>>, Cancelled> {
        Ok(self.end.recv_delivery().await?.map(FreeDelivery::new))
    }

    /// As [`Rx::try_recv_delivery`].
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_delivery(&self) -> Result<FreeDelivery<T>, TryRecvError> {
        Ok(FreeDelivery::new(self.end.try_recv_delivery()?))
    }

    /// Turns the end into a stream of its items, for combinators that take streams.
    pub fn into_stream(self) -> FreeRxStream<T> {
        FreeRxStream::new(self)
    }
}

impl<T: Send + 'static> Rx<'_, T> {
    /// Leaves the tracked world: whoever waits on this queue can no longer be proved dead while this end lives.
    #[must_use]
    pub fn free(self) -> FreeRx<T> {
        FreeRx { end: self.end.moved_to(FREE) }
    }
}

impl<T: Send + 'static> FreeRx<T> {
    /// Binds the end to the current task, which is its known holder from here on.
    #[must_use]
    pub fn bind_to(self, cx: &Cx) -> Rx<'_, T> {
        self.bind(cx)
    }
}

impl<T> Clone for Rx<'_, T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), cx: self.cx }
    }
}

impl<T> Clone for FreeRx<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone() }
    }
}

carried!(Rx, FreeRx);
