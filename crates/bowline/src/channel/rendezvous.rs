//! Handing over from task to task without a buffer: a send is done when a receiver has the item in its hands.
//!
//! # Invariants
//!
//! 1. An item on offer is in `offers`, under its sender's number, until a receiver takes it or its sender takes it back: both
//!    happen under the lock, so exactly one does.
//! 2. The receivers in `called` are the first in line, and `called` is as long as the shorter of `offers` and the line: for
//!    each of them there is an item. All numbers in `called` are lower than those in `waiting`.
//! 3. Who is called was woken. If its item is taken back, the last one called goes back to the head of `waiting`.

mod turn;

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;

use crate::carry::{Bind, Carry, Cx};
use crate::cause::Cancelled;
use crate::channel::core::{After, Inside, Seat, Side, State, end};
use crate::channel::wait::{Line, Waiter, Waiters};
use crate::channel::{ChannelStats, ObservedChannel, core};
use crate::holders::{FREE, IN_TRANSIT};
use crate::queue::{SendError, TryRecvError};
use crate::site::Site;

pub(super) struct Rendezvous<T> {
    offers: Line<Offer<T>>,
    called: Waiters,
    waiting: Waiters,
}

struct Offer<T> {
    item: T,
    sender: Waiter,
}

impl<T> Rendezvous<T> {
    /// Calls the first in line, if there is an item for it (invariant 2).
    fn call_next(&mut self, after: &mut After<T>) {
        if self.called.len() < self.offers.len() {
            if let Some((id, waiter)) = self.waiting.pop_first() {
                after.wake(waiter.waker.clone()); // it keeps one: should its item be taken back, it is called again
                self.called.put(id, waiter);
            }
        }
    }

    /// Takes an offer back. `None`: a receiver has it.
    fn take_back(&mut self, id: u64) -> Option<Offer<T>> {
        let offer = self.offers.leave(id)?;
        if self.called.len() > self.offers.len() {
            if let Some((id, waiter)) = self.called.pop_last() {
                self.waiting.put(id, waiter);
            }
        }
        Some(offer)
    }
}

/// Takes the oldest offer; its sender is done.
fn take<T>(inside: &mut Inside<Rendezvous<T>>, after: &mut After<T>) -> Option<T> {
    let (_, offer) = inside.own.offers.pop_first()?;
    inside.sent += 1;
    inside.received += 1;
    after.wake(offer.sender.waker);
    Some(offer.item)
}

/// Takes the oldest offer nobody is called for.
fn take_free<T>(inside: &mut Inside<Rendezvous<T>>, after: &mut After<T>) -> Option<T> {
    let is_free = inside.own.called.len() < inside.own.offers.len();
    if is_free { take(inside, after) } else { None }
}

impl<T> State for Rendezvous<T> {
    const KIND: &'static str = "rendezvous";
    type Scrap = T;

    fn left(inside: &mut Inside<Self>, side: Side, _mark: u64, after: &mut After<T>) {
        match side {
            Side::Sending if !inside.has_senders() => inside.own.waiting.wake_all(after),
            // They take their items back themselves.
            Side::Receiving if !inside.has_receivers() => {
                inside.own.offers.iter().for_each(|offer| after.wake(offer.sender.waker.clone()));
            }
            _ => {}
        }
        if !inside.has_senders() && !inside.has_receivers() {
            // Only futures that were forgotten have left something.
            after.drop.extend(inside.own.offers.drain().map(|offer| offer.item));
        }
    }

    fn fill(&self, stats: &mut ChannelStats) {
        stats.depth_items = self.offers.len();
        stats.waiting_senders = self.offers.len();
        stats.waiting_receivers = self.called.len() + self.waiting.len();
    }

    fn waiters(&self, see: &mut dyn FnMut(&Waiter, bool)) {
        self.offers.iter().for_each(|offer| see(&offer.sender, false));
        self.called.iter().for_each(|waiter| see(waiter, true));
        self.waiting.iter().for_each(|waiter| see(waiter, false));
    }

    fn has_fired(&self) -> bool {
        self.called.len() < self.offers.len() // an item for whoever asks
    }
}

pub(crate) fn open<'t, T: Send + 'static>(
    cx: &'t Cx,
    site: &'static Site,
) -> (RendezvousTx<'t, T>, RendezvousRx<'t, T>) {
    let own = Rendezvous { offers: Line::default(), called: Waiters::default(), waiting: Waiters::default() };
    let (sending, receiving) = core::open(cx, site, own);
    (RendezvousTx::at(sending), RendezvousRx::at(receiving))
}

end! {
    /// The giving end of a rendezvous, held by a task. Cloning it gives the same task a second one.
    RendezvousTx,
    /// A [`RendezvousTx`] that may be kept and sent anywhere. Its holder counts as unknown.
    FreeRendezvousTx,
    Rendezvous of Send
}

end! {
    /// The taking end of a rendezvous, held by a task. Several receivers share the items: each goes to one of them.
    RendezvousRx,
    /// A [`RendezvousRx`] that may be kept and sent anywhere. Its holder counts as unknown.
    FreeRendezvousRx,
    Rendezvous of Send
}

impl<T> Clone for RendezvousTx<'_, T> {
    fn clone(&self) -> Self {
        Self::at(self.seat.clone())
    }
}

impl<T> Clone for RendezvousRx<'_, T> {
    fn clone(&self) -> Self {
        Self::at(self.seat.clone())
    }
}

impl<T: Send + 'static> RendezvousTx<'_, T> {
    /// Hands `item` over: returns when a receiver has taken it.
    ///
    /// Senders are served in the order in which they were first polled.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the place in line is given up, and `item` is lost with the future or was
    /// taken a moment before. Who must know which uses [`send_from`](Self::send_from).
    ///
    /// # Errors
    ///
    /// Each gives the item back, and then nobody has taken it. [`SendError::Closed`]: no receiver is left.
    /// [`SendError::Cancelled`]: the sender's context was cancelled.
    #[track_caller]
    pub fn send(&self, item: T) -> impl Future<Output = Result<(), SendError<T>>> {
        let at = Location::caller();
        async move {
            let mut slot = Some(item);
            let sent = turn::offer(&self.seat.chan, &mut slot, at).await;
            match (sent, slot) {
                (Err(error), Some(item)) => Err(error.map(|()| item)),
                // `Ok`, and with an error the item is always back in the slot.
                _ => Ok(()),
            }
        }
    }

    /// Hands the item in `slot` over, so that also after a dropped future it is known where the item is.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the place in line is given up; the item is in the slot, or it is not because a receiver has
    /// taken it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); the item is back in the slot.
    ///
    /// # Panics
    ///
    /// If the slot is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Cancelled, Either, race, scope};
    ///
    /// scope("hand over", async |s| {
    ///     let (tx, _rx) = s.rendezvous("parcel");
    ///     let mut parcel = Some("book");
    ///     let given_up = race(tx.send_from(&mut parcel), std::future::ready(())).await;
    ///     assert_eq!((given_up, parcel), (Either::Right(()), Some("book"))); // nobody has it but us
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn send_from(&self, slot: &mut Option<T>) -> impl Future<Output = Result<(), SendError<()>>> {
        assert!(slot.is_some(), "there is nothing to send");
        let at = Location::caller();
        async move { turn::offer(&self.seat.chan, slot, at).await }
    }

    /// Returns whether no receiver is left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.chan.with(|inside, _| !inside.has_receivers())
    }
}

impl<T: Send + 'static> RendezvousRx<'_, T> {
    /// Takes an item out of the hands of the sender that has waited longest; `None` when no sender is left.
    ///
    /// Receivers are served in the order in which they were first polled.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: the item meant for it goes to the next receiver, or stays with its sender.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] when the receiver's context was cancelled; nothing was taken.
    #[track_caller]
    pub fn recv(&self) -> impl Future<Output = Result<Option<T>, Cancelled>> {
        let at = Location::caller();
        turn::ask(&self.seat.chan, at)
    }

    /// Takes an item if a sender waits that no other receiver was called for.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] and [`TryRecvError::Closed`].
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.seat.chan.with(|inside, after| match take_free(inside, after) {
            Some(item) => Ok(item),
            None if inside.has_senders() => Err(TryRecvError::Empty),
            None => Err(TryRecvError::Closed),
        })
    }

    /// Returns whether no sender is left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.chan.with(|inside, _| !inside.has_senders())
    }
}
