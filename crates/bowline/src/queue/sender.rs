//! Sending ends and permits.

use std::fmt;
use std::sync::Arc;

use super::core::Chan;
use super::ends::{SendEnd, carried};
use super::lanes::MAIN;
use super::{CloseReason, ObservedQueue, QueueStats, SendError};
use crate::carry::{Bind, Carry, Cx};
use crate::cause::Cancelled;
use crate::holders::{FREE, IN_TRANSIT};

/// The sending end of a queue, held by a task.
///
/// Cloning it gives the same task a second one. Hand it over with [`spawn_with`](crate::Scope::spawn_with), or leave the
/// tracked world with [`free`](Self::free).
pub struct Tx<'t, T> {
    end: SendEnd<T>,
    cx: &'t Cx,
}

/// A sending end that may be kept and sent anywhere: in a framework's state, in another thread. Its holder counts as unknown.
pub struct FreeTx<T> {
    end: SendEnd<T>,
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
        self.chan.commit(MAIN, item, bytes)
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        if !self.used {
            self.chan.release(MAIN);
        }
    }
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
            /// with the future. To keep the item, wait with [`reserve`](Self::reserve) and send afterwards. A cancelled context, or a
            /// [`timeout`](crate::timeout()) around the send, does not drop the future: the item comes back with the error.
            ///
            /// # Errors
            ///
            /// Each gives the item back. [`SendError::Closed`]: no receiver is left. [`SendError::Full`]: the policy is to refuse.
            /// [`SendError::Cancelled`]: the sender's context was cancelled, or its deadline has passed.
            ///
            /// # Examples
            ///
            /// To wait for room for some time only:
            ///
            /// ```
            /// # bowline::testing::example_paused(async {
            /// use std::time::Duration;
            /// use bowline::{Bound, Cancelled, Overflow, SendError, scope, timeout};
            ///
            /// scope("patient", async |s| {
            ///     let (tx, _rx) = s.queue("full", Bound::items(1), Overflow::Block);
            ///     tx.send("first").await?;
            ///     let sent = timeout(Duration::from_secs(1), tx.send("second")).await?;
            ///     let Err(SendError::Cancelled("second", why)) = sent else { panic!("{sent:?}") };
            ///     assert!(why.is_deadline());
            ///     Ok::<_, Cancelled>(())
            /// })
            /// .await
            /// # }).unwrap();
            /// ```
            pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
                self.end.send(MAIN, item).await
            }

            /// Sends `item` without waiting.
            ///
            /// # Errors
            ///
            /// [`SendError::Closed`] and [`SendError::Full`], with the item. A queue that drops is never full.
            pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
                self.end.try_send(MAIN, item)
            }

            /// Sends `item` in the urgent lane: receivers get it before everything in the normal one.
            ///
            /// The lane has a bound of its own ([`Bound::and_urgent`](crate::Bound::and_urgent)), so it has room when the
            /// normal one is full; when it is full itself, the queue's [`Overflow`](crate::Overflow) says what happens. Within the
            /// lane items keep their order. It is for what must not stand behind the data it is about: a ping, a
            /// cancel, a new configuration.
            ///
            /// # Cancel safety
            ///
            /// As [`send`](Self::send).
            ///
            /// # Errors
            ///
            /// As [`send`](Self::send).
            ///
            /// # Panics
            ///
            /// If the queue was made without an urgent lane.
            ///
            /// # Examples
            ///
            /// ```
            /// # bowline::testing::example(async {
            /// use bowline::{Bound, Cancelled, Overflow, scope};
            ///
            /// scope("connection", async |s| {
            ///     let (tx, rx) = s.queue("frames", Bound::items(64).and_urgent(4), Overflow::Block);
            ///     tx.send("a large frame").await?;
            ///     tx.send_urgent("ping").await?;
            ///     assert_eq!(rx.recv().await?, Some("ping"));
            ///     Ok::<_, Cancelled>(())
            /// })
            /// .await
            /// # }).unwrap();
            /// ```
            pub async fn send_urgent(&self, item: T) -> Result<(), SendError<T>> {
                self.end.send(self.end.urgent(), item).await
            }

            /// Sends `item` in the urgent lane without waiting.
            ///
            /// # Errors
            ///
            /// As [`try_send`](Self::try_send).
            ///
            /// # Panics
            ///
            /// If the queue was made without an urgent lane.
            pub fn try_send_urgent(&self, item: T) -> Result<(), SendError<T>> {
                self.end.try_send(self.end.urgent(), item)
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
                self.end.reserve().await?;
                Ok(Permit { chan: &self.end.chan, used: false })
            }

            /// Takes room for one item if there is some now.
            ///
            /// # Errors
            ///
            /// [`SendError::Closed`] and [`SendError::Full`].
            pub fn try_reserve(&self) -> Result<Permit<'_, T>, SendError<()>> {
                self.end.try_reserve()?;
                Ok(Permit { chan: &self.end.chan, used: false })
            }

            /// Returns whether sends are certain to fail: no receiver is left, or a receiver closed the queue.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.end.chan.close_reason().is_some()
            }

            /// Waits until the queue is closed: no receiver is left, or one closed it. For a producer that has nothing to send and
            /// wants to know that nobody would take it.
            ///
            /// # Cancel safety
            ///
            /// There is nothing to lose.
            ///
            /// # Errors
            ///
            /// [`Cancelled`] when the waiting context was cancelled.
            ///
            /// # Examples
            ///
            /// ```
            /// # bowline::testing::example(async {
            /// use bowline::{Bound, Cancelled, Overflow, scope};
            ///
            /// scope("watch", async |s| {
            ///     let (tx, rx) = s.queue::<u32>("prices", Bound::items(1), Overflow::DropOldest);
            ///     let producer = s.spawn_with("producer", tx, async |_cx, tx| {
            ///         bowline::race(tx.closed(), std::future::pending::<()>()).await; // instead of the next price
            ///         Ok(())
            ///     });
            ///     drop(rx);
            ///     producer.await
            /// })
            /// .await
            /// # }).unwrap();
            /// ```
            pub async fn closed(&self) -> Result<(), Cancelled> {
                self.end.closed().await
            }

            /// Returns why the queue is closed, if it is.
            #[must_use]
            pub fn close_reason(&self) -> Option<CloseReason> {
                self.end.chan.close_reason()
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

impl<'t, T: Send + 'static> Tx<'t, T> {
    pub(super) fn new(cx: &'t Cx, chan: Arc<Chan<T>>) -> Self {
        Self { end: SendEnd::new(chan, cx.task_id()), cx }
    }

    /// Leaves the tracked world: whoever waits on this queue can no longer be proved dead while this end lives.
    #[must_use]
    pub fn free(self) -> FreeTx<T> {
        FreeTx { end: self.end.moved_to(FREE) }
    }
}

impl<T: Send + 'static> FreeTx<T> {
    /// Binds the end to the current task, which is its known holder from here on.
    #[must_use]
    pub fn bind_to(self, cx: &Cx) -> Tx<'_, T> {
        self.bind(cx)
    }
}

impl<T> Clone for Tx<'_, T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone(), cx: self.cx }
    }
}

impl<T> Clone for FreeTx<T> {
    fn clone(&self) -> Self {
        Self { end: self.end.clone() }
    }
}

carried!(Tx, FreeTx);
