//! The latest value of something: senders replace it, receivers see that it changed, and nobody waits for anybody.
//!
//! The value lies behind an `Arc`. Readers take a reference out and look at it outside of the lock, so a slow reader holds
//! up no sender, and a value that is held across an await holds up nobody.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use super::core::{After, Inside, Seat, Side, State, end};
use super::wait::{Waiter, Waiters, until};
use super::{ChannelStats, ObservedChannel, WatchError, core};
use crate::carry::{Bind, Carry, Cx};
use crate::holders::{FREE, IN_TRANSIT};
use crate::site::Site;
use crate::track::Leaf;
use crate::wait::Op;

pub(super) struct Watch<T> {
    /// There is one as long as there is an end.
    value: Option<Arc<T>>,
    /// How often it was replaced; the mark of a receiver is the version it has seen.
    version: u64,
    waiters: Waiters,
}

impl<T> State for Watch<T> {
    const KIND: &'static str = "watch";
    type Scrap = Arc<T>;

    fn start(&self) -> u64 {
        self.version
    }

    fn left(inside: &mut Inside<Self>, side: Side, _mark: u64, after: &mut After<Arc<T>>) {
        if side == Side::Sending && !inside.has_senders() {
            inside.own.waiters.wake_all(after);
        }
        if !inside.has_senders() && !inside.has_receivers() {
            after.drop.extend(inside.own.value.take());
        }
    }

    fn fill(&self, stats: &mut ChannelStats) {
        stats.depth_items = usize::from(self.value.is_some());
        stats.max_items = 1;
        stats.waiting_receivers = self.waiters.len();
    }

    fn waiters(&self, see: &mut dyn FnMut(&Waiter, bool)) {
        self.waiters.iter().for_each(|waiter| see(waiter, false)); // a change takes them off the list
    }

    fn has_fired(&self) -> bool {
        false // that is each receiver's own matter
    }
}

impl<T> Watch<T> {
    fn value(&self) -> Arc<T> {
        let Some(value) = &self.value else {
            unreachable!("only an end asks, and as long as one is left there is a value")
        };
        Arc::clone(value)
    }

    /// Puts the value in and returns the one before, to be dropped outside of the lock.
    fn replace(inside: &mut Inside<Self>, after: &mut After<Arc<T>>, value: Arc<T>) -> Option<Arc<T>> {
        inside.sent += 1;
        inside.own.version += 1;
        inside.own.waiters.wake_all(after);
        inside.own.value.replace(value)
    }
}

pub(crate) fn open<'t, T: Send + Sync + 'static>(
    cx: &'t Cx,
    site: &'static Site,
    initial: T,
) -> (WatchTx<'t, T>, WatchRx<'t, T>) {
    let own = Watch { value: Some(Arc::new(initial)), version: 0, waiters: Waiters::default() };
    let (sending, receiving) = core::open(cx, site, own);
    (WatchTx::at(sending), WatchRx::at(receiving))
}

end! {
    /// The sending end of a watch, held by a task. Cloning it gives the same task a second one.
    WatchTx,
    /// A [`WatchTx`] that may be kept and sent anywhere. Its holder counts as unknown.
    FreeWatchTx,
    Watch of Send, Sync
}

end! {
    /// The receiving end of a watch, held by a task. A clone has seen what the original has seen.
    WatchRx,
    /// A [`WatchRx`] that may be kept and sent anywhere. Its holder counts as unknown.
    FreeWatchRx,
    Watch of Send, Sync
}

impl<T> Clone for WatchTx<'_, T> {
    fn clone(&self) -> Self {
        Self::at(self.seat.clone())
    }
}

impl<T> Clone for WatchRx<'_, T> {
    fn clone(&self) -> Self {
        Self::at(self.seat.clone())
    }
}

impl<T> Seat<Watch<T>> {
    fn snapshot(&self) -> Arc<T> {
        self.chan.with(|inside, _| inside.own.value())
    }
}

impl<'t, T: Send + Sync + 'static> WatchTx<'t, T> {
    /// Replaces the value, whether somebody watches or not. It does not wait; who comes later finds it.
    pub fn send(&self, value: T) {
        let value = Arc::new(value);
        let _before = self.seat.chan.with(|inside, after| Watch::replace(inside, after, value));
    }

    /// Changes the value, and tells the receivers if `modify` says that it did; returns what it said.
    ///
    /// `modify` works on a copy, outside of every lock: if it panics nothing has changed, and readers are not held up. If
    /// another sender is faster, it is called again on that one's value, so it should do nothing but change it.
    pub fn send_if_modified(&self, mut modify: impl FnMut(&mut T) -> bool) -> bool
    where
        T: Clone,
    {
        loop {
            let known = self.seat.snapshot();
            let mut value = T::clone(&known);
            if !modify(&mut value) {
                return false;
            }
            let value = Arc::new(value);
            let replaced = self.seat.chan.with(|inside, after| {
                // `known` is held, so its address is not given to another value.
                let is_current = inside.own.value.as_ref().is_some_and(|value| Arc::ptr_eq(value, &known));
                // What is not needed goes out, to be dropped outside of the lock.
                if is_current { Ok(Watch::replace(inside, after, value)) } else { Err(value) }
            });
            if replaced.is_ok() {
                return true;
            }
        }
    }

    /// Looks at the value.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.seat.snapshot())
    }

    /// Returns a copy of the value.
    #[must_use]
    pub fn cloned(&self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// Makes a receiving end with the same holder. It has seen the value there is now.
    #[must_use]
    pub fn subscribe(&self) -> WatchRx<'t, T> {
        WatchRx::at(self.seat.subscribe())
    }

    /// Returns whether no receiver is left now.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.chan.with(|inside, _| !inside.has_receivers())
    }
}

impl<T: Send + Sync + 'static> WatchRx<'_, T> {
    /// Waits until there is a value this end has not seen, and counts it as seen.
    ///
    /// Values that follow each other quickly may come as one change; the last one is never missed, also if its sender is
    /// gone by then.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: a change counts as seen only when this returns.
    ///
    /// # Errors
    ///
    /// [`WatchError::Ended`] if no sender is left and the last value was seen, so a loop is
    /// `while rx.changed().await.is_ok() { … }`. [`WatchError::Cancelled`] when the receiver's context was cancelled.
    #[track_caller]
    pub fn changed(&mut self) -> impl Future<Output = Result<(), WatchError>> {
        let at = Location::caller();
        async move { self.next(at).await.map(drop) }
    }

    /// Waits until the value is one that `wanted` says yes to, and returns it. The value there is now is asked first.
    ///
    /// `wanted` sees every value this end gets to know, and runs outside of every lock.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the values it looked at count as seen.
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed), if no such value came.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// bowline::scope("start", async |s| {
    ///     let (tx, mut rx) = s.watch("connections", 0);
    ///     s.spawn_with("accept", tx, async |_cx, tx| {
    ///         tx.send(1);
    ///         tx.send(2);
    ///         Ok(())
    ///     });
    ///     assert_eq!(*rx.wait_for(|connections| *connections >= 2).await?, 2);
    ///     Ok::<_, bowline::Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> impl Future<Output = Result<Arc<T>, WatchError>> {
        let at = Location::caller();
        async move {
            Leaf::check()?;
            let mark = &mut self.seat.mark;
            let mut value = self.seat.chan.with(|inside, _| {
                *mark = inside.own.version;
                inside.own.value()
            });
            while !wanted(&value) {
                value = self.next(at).await?;
            }
            Ok(value)
        }
    }

    async fn next(&mut self, at: &'static Location<'static>) -> Result<Arc<T>, WatchError> {
        let Seat { chan, mark, .. } = &mut self.seat;
        let changed = until(
            chan,
            Op::Changed,
            at,
            |own| &mut own.waiters,
            |inside| {
                if inside.own.version > *mark {
                    *mark = inside.own.version;
                    inside.received += 1;
                    return Some(Some(inside.own.value()));
                }
                (!inside.has_senders()).then_some(None)
            },
        )
        .await?;
        changed.ok_or(WatchError::Ended { name: self.seat.chan.site.name })
    }

    /// Looks at the value there is now, whether it was seen or not. It does not count as seen by that.
    ///
    /// The closure is not `async`: the value cannot be held across an await by it. Who needs it longer takes a
    /// [`snapshot`](Self::snapshot).
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.seat.snapshot())
    }

    /// Returns a copy of the value there is now.
    #[must_use]
    pub fn cloned(&self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// Returns the value there is now, to be kept as long as needed: it holds up nobody, and does not change.
    #[must_use]
    pub fn snapshot(&self) -> Arc<T> {
        self.seat.snapshot()
    }

    /// Returns whether there is a value this end has not seen.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.seat.chan.with(|inside, _| inside.own.version > self.seat.mark)
    }

    /// Returns whether no sender is left: the value there is now is the last.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.chan.with(|inside, _| !inside.has_senders())
    }
}
