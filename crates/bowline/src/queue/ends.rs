//! The ends of a queue: bound to a task, or free.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::core::{Chan, Offered, PERMIT_BYTES};
use super::{ObservedQueue, QueueStats, SendError, TryRecvError};
use crate::carry::{Bind, Carry, Cx};
use crate::cause::Cancelled;
use crate::holders::{FREE, IN_TRANSIT};
use crate::testing::trial;
use crate::track::Leaf;
use crate::wait::{Op, Wait};

pub(super) fn open<'t, T: Send + 'static>(cx: &'t Cx, chan: Arc<Chan<T>>) -> (Tx<'t, T>, Rx<'t, T>) {
    let place = cx.task_id();
    chan.add_sender(place);
    chan.add_receiver(place);
    let tx = Tx { end: SendEnd { chan: Arc::clone(&chan), place }, cx };
    let rx = Rx { end: RecvEnd { chan, place }, cx };
    (tx, rx)
}

// ---- the end itself and the place it is booked at

struct SendEnd<T> {
    chan: Arc<Chan<T>>,
    place: u64,
}

impl<T> SendEnd<T> {
    fn moved_to(mut self, place: u64) -> Self {
        self.chan.move_sender(self.place, place);
        self.place = place;
        self
    }

    async fn send(&self, item: T) -> Result<(), SendError<T>> {
        trial::turn().await;
        if let Err(cancelled) = Leaf::check() {
            return Err(SendError::Cancelled(item, cancelled));
        }
        let (item, id) = match self.chan.offer(item, Some(Waker::noop()))? {
            Offered::Done => return Ok(()),
            Offered::Wait(item, id) => (item, id),
        };
        match (RoomWait { chan: &self.chan, id, leaf: Leaf::default(), armed: true }).granted().await {
            Ok(bytes) => self.chan.commit(item, bytes, bytes),
            Err(error) => Err(error.map(|()| item)),
        }
    }

    async fn reserve(&self) -> Result<Permit<'_, T>, SendError<()>> {
        trial::turn().await;
        Leaf::check().map_err(|cancelled| SendError::Cancelled((), cancelled))?;
        if let Some(id) = self.chan.ask_room(Some(Waker::noop()))? {
            RoomWait { chan: &self.chan, id, leaf: Leaf::default(), armed: true }.granted().await?;
        }
        Ok(Permit { chan: &self.chan, used: false })
    }

    fn try_reserve(&self) -> Result<Permit<'_, T>, SendError<()>> {
        self.chan.ask_room(None)?;
        Ok(Permit { chan: &self.chan, used: false })
    }

    fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        self.chan.offer(item, None).map(|_| ())
    }
}

impl<T> Clone for SendEnd<T> {
    fn clone(&self) -> Self {
        self.chan.add_sender(self.place);
        Self { chan: Arc::clone(&self.chan), place: self.place }
    }
}

impl<T> Drop for SendEnd<T> {
    fn drop(&mut self) {
        self.chan.remove_sender(self.place);
    }
}

/// A place in the line for room; given up when dropped.
struct RoomWait<'a, T> {
    chan: &'a Chan<T>,
    id: u64,
    leaf: Leaf,
    armed: bool,
}

impl<T> RoomWait<'_, T> {
    /// Returns the bytes that were reserved.
    async fn granted(mut self) -> Result<usize, SendError<()>> {
        poll_fn(|cx| match self.chan.room_granted(self.id, cx.waker()) {
            Ok(Some(bytes)) => {
                self.armed = false;
                self.leaf.clear();
                Poll::Ready(Ok(bytes))
            }
            Err(()) => {
                self.armed = false;
                self.leaf.clear();
                Poll::Ready(Err(SendError::Closed(())))
            }
            Ok(None) => match self.leaf.park(cx, Wait { op: Op::Send, on: self.chan.id }) {
                Ok(()) => Poll::Pending,
                Err(cancelled) => Poll::Ready(Err(SendError::Cancelled((), cancelled))),
            },
        })
        .await
    }
}

impl<T> Drop for RoomWait<'_, T> {
    fn drop(&mut self) {
        if self.armed {
            self.chan.leave_room_line(self.id);
        }
    }
}

struct RecvEnd<T> {
    chan: Arc<Chan<T>>,
    place: u64,
}

impl<T> RecvEnd<T> {
    fn moved_to(mut self, place: u64) -> Self {
        self.chan.move_receiver(self.place, place);
        self.place = place;
        self
    }

    async fn recv(&self) -> Result<Option<T>, Cancelled> {
        trial::turn().await;
        let mut wait = ItemWait { chan: &self.chan, id: None, leaf: Leaf::default() };
        poll_fn(|cx| wait.poll(cx)).await
    }

    async fn recv_many(&self, into: &mut Vec<T>, max: usize) -> Result<usize, Cancelled> {
        assert!(max > 0, "at least one item is wanted");
        let Some(first) = self.recv().await? else { return Ok(0) };
        into.push(first);
        Ok(1 + self.chan.take_many(into, max - 1))
    }
}

impl<T> Clone for RecvEnd<T> {
    fn clone(&self) -> Self {
        self.chan.add_receiver(self.place);
        Self { chan: Arc::clone(&self.chan), place: self.place }
    }
}

impl<T> Drop for RecvEnd<T> {
    fn drop(&mut self) {
        self.chan.remove_receiver(self.place);
    }
}

/// A place in the line for an item; given up when dropped, and what was granted to it goes to the next.
struct ItemWait<'a, T> {
    chan: &'a Chan<T>,
    id: Option<u64>,
    leaf: Leaf,
}

impl<T> ItemWait<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, Cancelled>> {
        if let Err(cancelled) = Leaf::check() {
            self.leave();
            return Poll::Ready(Err(cancelled));
        }
        let taken = match self.id {
            None => match self.chan.take_or_join(cx.waker()) {
                Ok(item) => Some(Ok(item)),
                Err(Err(())) => Some(Err(())),
                Err(Ok(id)) => {
                    self.id = Some(id);
                    None
                }
            },
            Some(id) => self.chan.take_granted(id, cx.waker()),
        };
        match taken {
            Some(taken) => {
                self.id = None;
                self.leaf.clear();
                Poll::Ready(Ok(taken.ok()))
            }
            None => match self.leaf.park(cx, Wait { op: Op::Recv, on: self.chan.id }) {
                Ok(()) => Poll::Pending,
                Err(cancelled) => {
                    self.leave();
                    Poll::Ready(Err(cancelled))
                }
            },
        }
    }

    fn leave(&mut self) {
        self.leaf.clear();
        if let Some(id) = self.id.take() {
            self.chan.leave_item_line(id);
        }
    }
}

impl<T> Drop for ItemWait<'_, T> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Room for one item that is already yours. Dropped unused, the room goes to the next in line.
#[must_use = "it holds room in the queue until it is used or dropped"]
pub struct Permit<'a, T> {
    chan: &'a Chan<T>,
    used: bool,
}

impl<T> Permit<'_, T> {
    /// Puts `item` into the reserved room. It does not wait.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] gives the item back if the last receiver has gone meanwhile, or closed the queue.
    pub fn send(mut self, item: T) -> Result<(), SendError<T>> {
        let bytes = self.chan.size(&item); // user code: if it panics, the room is still given back
        self.used = true;
        self.chan.commit(item, bytes, PERMIT_BYTES)
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        if !self.used {
            self.chan.release(PERMIT_BYTES);
        }
    }
}

// ---- the public fronts

/// The sending end of a queue, held by a task.
///
/// Cloning it gives the same task a second one. Hand it over with [`spawn_with`](crate::Scope::spawn_with), or leave the
/// tracked world with [`free`](Self::free).
pub struct Tx<'t, T> {
    end: SendEnd<T>,
    cx: &'t Cx,
}

/// The receiving end of a queue, held by a task. Several receivers share the items: each goes to one of them.
pub struct Rx<'t, T> {
    end: RecvEnd<T>,
    cx: &'t Cx,
}

/// A sending end that may be kept and sent anywhere: in a framework's state, in another thread. Its holder counts as unknown.
pub struct FreeTx<T> {
    end: SendEnd<T>,
}

/// A receiving end that may be kept and sent anywhere. Its holder counts as unknown.
pub struct FreeRx<T> {
    end: RecvEnd<T>,
}

macro_rules! sending {
    ($($front:tt)*) => {
        impl<T: Send + 'static> $($front)* {
            /// Sends `item`, doing what the queue's [`Overflow`](crate::Overflow) says if it is full.
            ///
            /// Waiters get room in the order in which they were first polled.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped before it completes, the queue is unchanged, and `item` and the place in line are lost
            /// with the future. To keep the item, wait with [`reserve`](Self::reserve) and send afterwards.
            ///
            /// # Errors
            ///
            /// Each gives the item back. [`SendError::Closed`]: no receiver is left. [`SendError::Full`]: the policy is to refuse.
            /// [`SendError::Cancelled`]: the sender's context was cancelled.
            pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
                self.end.send(item).await
            }

            /// Sends `item` without waiting.
            ///
            /// # Errors
            ///
            /// [`SendError::Closed`] and [`SendError::Full`], with the item. A queue that drops is never full.
            pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
                self.end.try_send(item)
            }

            /// Waits for room for one item, before having the item.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped, the place in line is given up, and room granted to it goes to the next.
            ///
            /// # Errors
            ///
            /// As [`send`](Self::send); a queue that drops or refuses answers at once with room or [`SendError::Full`].
            pub async fn reserve(&self) -> Result<Permit<'_, T>, SendError<()>> {
                self.end.reserve().await
            }

            /// Takes room for one item if there is some now.
            ///
            /// # Errors
            ///
            /// [`SendError::Closed`] and [`SendError::Full`].
            pub fn try_reserve(&self) -> Result<Permit<'_, T>, SendError<()>> {
                self.end.try_reserve()
            }

            /// Returns whether sends are certain to fail: no receiver is left, or a receiver closed the queue.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.end.chan.is_closed()
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
                self.end.recv().await
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
                self.end.recv_many(into, max).await
            }

            /// Takes the oldest item if there is one that is promised to nobody.
            ///
            /// # Errors
            ///
            /// [`TryRecvError::Empty`] and [`TryRecvError::Closed`].
            pub fn try_recv(&self) -> Result<T, TryRecvError> {
                self.end.chan.take()
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

sending!(Tx<'_, T>);
sending!(FreeTx<T>);
receiving!(Rx<'_, T>);
receiving!(FreeRx<T>);

impl<T: Send + 'static> Tx<'_, T> {
    /// Leaves the tracked world: whoever waits on this queue can no longer be proved dead while this end lives.
    #[must_use]
    pub fn free(self) -> FreeTx<T> {
        FreeTx { end: self.end.moved_to(FREE) }
    }
}

impl<T: Send + 'static> Rx<'_, T> {
    /// Leaves the tracked world: whoever waits on this queue can no longer be proved dead while this end lives.
    #[must_use]
    pub fn free(self) -> FreeRx<T> {
        FreeRx { end: self.end.moved_to(FREE) }
    }
}

impl<T: Send + 'static> FreeTx<T> {
    /// Binds the end to the current task, which is its known holder from here on.
    #[must_use]
    pub fn bind_to(self, cx: &Cx) -> Tx<'_, T> {
        self.bind(cx)
    }
}

impl<T: Send + 'static> FreeRx<T> {
    /// Binds the end to the current task, which is its known holder from here on.
    #[must_use]
    pub fn bind_to(self, cx: &Cx) -> Rx<'_, T> {
        self.bind(cx)
    }
}

impl<T> Clone for Tx<'_, T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), cx: self.cx }
    }
}

impl<T> Clone for Rx<'_, T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), cx: self.cx }
    }
}

impl<T> Clone for FreeTx<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone() }
    }
}

impl<T> Clone for FreeRx<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone() }
    }
}

macro_rules! carried {
    ($bound:ident, $free:ident) => {
        impl<T: Send + 'static> Carry for $bound<'_, T> {
            type Packed = $free<T>;
            fn pack(self) -> $free<T> {
                $free { end: self.end.moved_to(IN_TRANSIT) }
            }
        }

        impl<T: Send + 'static> Carry for $free<T> {
            type Packed = $free<T>;
            fn pack(self) -> $free<T> {
                $free { end: self.end.moved_to(IN_TRANSIT) }
            }
        }

        impl<T: Send + 'static> Bind for $free<T> {
            type In<'c> = $bound<'c, T>;
            fn bind(self, cx: &Cx) -> $bound<'_, T> {
                $bound { end: self.end.moved_to(cx.task_id()), cx }
            }
        }

        impl<T> fmt::Debug for $bound<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($bound)).field("queue", &self.end.chan.name()).finish()
            }
        }

        impl<T> fmt::Debug for $free<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($free)).field("queue", &self.end.chan.name()).finish()
            }
        }
    };
}

carried!(Tx, FreeTx);
carried!(Rx, FreeRx);
