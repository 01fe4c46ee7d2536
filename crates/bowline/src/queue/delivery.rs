//! Items that are received and not yet done: what is dropped without an acknowledgement is received again.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use super::core::{Chan, Taken};
use super::lane::Queued;
use super::lanes::LaneId;
use crate::carry::{Bind, Carry, Cx};
use crate::holders::{FREE, IN_TRANSIT};

/// An item in somebody's hands, booked at a place until it is settled.
pub(super) struct InFlight<T> {
    chan: Arc<Chan<T>>,
    place: u64,
    lane: LaneId,
    /// Absent once settled.
    queued: Option<Queued<T>>,
}

impl<T> InFlight<T> {
    pub(super) fn new(chan: &Arc<Chan<T>>, place: u64, taken: Taken<T>) -> Self {
        Self { chan: Arc::clone(chan), place, lane: taken.lane, queued: Some(taken.queued) }
    }

    fn moved_to(mut self, place: u64) -> Self {
        self.chan.move_delivery(self.place, place);
        self.place = place;
        self
    }

    fn queued(&self) -> &Queued<T> {
        match &self.queued {
            Some(queued) => queued,
            None => unreachable!("it is settled by value"),
        }
    }

    fn ack(mut self) -> T {
        let Some(queued) = self.queued.take() else { unreachable!("it is settled by value") };
        self.chan.ack(self.lane, queued.bytes, self.place);
        queued.item
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        if let Some(queued) = self.queued.take() {
            self.chan.redeliver(self.lane, queued, self.place);
        }
    }
}

/// An item that was received and waits for its acknowledgement, held by a task.
///
/// Say [`ack`](Self::ack) when the work is done. Dropped before - because the handler failed, panicked, was cancelled or
/// lost a race - the item goes back to the *front* of its queue and is received again, with [`attempt`](Self::attempt)
/// one higher. So an item may be handled twice, and is never lost between being taken and being done.
///
/// While it is in flight it takes its room in the queue, keeps the queue open like a receiving end, and keeps receivers from
/// being told that no more will come. A task that collects deliveries must therefore not wait for the end of the queue
/// before it acknowledges them.
///
/// An item that can never be handled would come back for ever: look at `attempt`, and put it aside with `ack`.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Overflow, scope};
///
/// const ATTEMPTS: u32 = 3;
///
/// # async fn print(page: &str) -> Result<(), ()> { if page == "torn" { Err(()) } else { Ok(()) } }
/// scope("printer", async |s| {
///     let (tx, rx) = s.queue("pages", Bound::items(8), Overflow::Block);
///     tx.send("good").await?;
///     tx.send("torn").await?;
///     drop(tx);
///     let mut dead_letters = Vec::new();
///     while let Some(page) = rx.recv_delivery().await? {
///         if print(&page).await.is_ok() {
///             page.ack();
///         } else if page.attempt() >= ATTEMPTS {
///             dead_letters.push(page.ack());
///         } // else it is dropped, and comes again
///     }
///     assert_eq!(dead_letters, ["torn"]);
///     assert_eq!(rx.stats().redelivered, 2);
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use = "dropped without `ack`, the item is received again"]
pub struct Delivery<'t, T> {
    item: InFlight<T>,
    holder: PhantomData<&'t Cx>,
}

/// A [`Delivery`] that may be kept and sent anywhere. Its holder counts as unknown.
#[must_use = "dropped without `ack`, the item is received again"]
pub struct FreeDelivery<T> {
    item: InFlight<T>,
}

impl<'t, T> Delivery<'t, T> {
    pub(super) fn new(_holder: &'t Cx, item: InFlight<T>) -> Self {
        Self { item, holder: PhantomData }
    }

    /// Leaves the tracked world: whoever waits on this queue can no longer be proved dead while this delivery lives.
    pub fn free(self) -> FreeDelivery<T> {
        FreeDelivery { item: self.item.moved_to(FREE) }
    }
}

impl<T> FreeDelivery<T> {
    pub(super) fn new(item: InFlight<T>) -> Self {
        Self { item }
    }
}

macro_rules! delivered {
    ($($front:tt)*) => {
        impl<T> $($front)* {
            /// Says that the work is done, and returns the item. Its room is free from here on.
            pub fn ack(self) -> T {
                self.item.ack()
            }

            /// Gives the item back to be received again, by whoever is first. The same as a drop, said aloud.
            pub fn nack(self) {
                drop(self);
            }

            /// Returns which delivery of this item this is: 1 the first time.
            #[must_use]
            pub fn attempt(&self) -> u32 {
                self.item.queued().returns.saturating_add(1)
            }
        }

        impl<T> Deref for $($front)* {
            type Target = T;

            fn deref(&self) -> &T {
                &self.item.queued().item
            }
        }

        impl<T: fmt::Debug> fmt::Debug for $($front)* {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Delivery").field("item", &**self).field("attempt", &self.attempt()).finish()
            }
        }
    };
}

delivered!(Delivery<'_, T>);
delivered!(FreeDelivery<T>);

impl<T: Send + 'static> Carry for Delivery<'_, T> {
    type Packed = FreeDelivery<T>;
    fn pack(self) -> FreeDelivery<T> {
        FreeDelivery { item: self.item.moved_to(IN_TRANSIT) }
    }
}

impl<T: Send + 'static> Carry for FreeDelivery<T> {
    type Packed = FreeDelivery<T>;
    fn pack(self) -> FreeDelivery<T> {
        FreeDelivery { item: self.item.moved_to(IN_TRANSIT) }
    }
}

impl<T: Send + 'static> Bind for FreeDelivery<T> {
    type In<'c> = Delivery<'c, T>;
    fn bind(self, cx: &Cx) -> Delivery<'_, T> {
        Delivery { item: self.item.moved_to(cx.task_id()), holder: PhantomData }
    }
}
