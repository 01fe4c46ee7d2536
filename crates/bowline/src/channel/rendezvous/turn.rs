//! The two waits of a rendezvous: with an item in one's hands, and with empty hands.

use std::future::poll_fn;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Offer, Rendezvous, take, take_free};
use crate::cause::Cancelled;
use crate::channel::core::Chan;
use crate::channel::wait::Waiter;
use crate::queue::SendError;
use crate::testing::trial;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// Offers the item in the slot until a receiver has it; with an error, or dropped, it is back in the slot.
pub(super) async fn offer<T: Send + 'static>(
    chan: &Arc<Chan<Rendezvous<T>>>,
    slot: &mut Option<T>,
    at: &'static Location<'static>,
) -> Result<(), SendError<()>> {
    trial::turn().await;
    let mut offered = Offered { chan, slot, at, id: None, leaf: Leaf::default() };
    poll_fn(|cx| offered.poll(cx)).await
}

/// Waits in line for an item; `None` when no sender is left.
pub(super) async fn ask<T: Send + 'static>(
    chan: &Arc<Chan<Rendezvous<T>>>,
    at: &'static Location<'static>,
) -> Result<Option<T>, Cancelled> {
    trial::turn().await;
    let mut asked = Asked { chan, at, id: None, leaf: Leaf::default() };
    poll_fn(|cx| asked.poll(cx)).await
}

/// An item on offer; taken back when dropped.
struct Offered<'a, T> {
    chan: &'a Arc<Chan<Rendezvous<T>>>,
    slot: &'a mut Option<T>,
    at: &'static Location<'static>,
    id: Option<u64>,
    leaf: Leaf,
}

/// Where an offer stands.
enum Standing {
    Open,
    Taken,
    Closed,
}

impl<T: Send + 'static> Offered<'_, T> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendError<()>>> {
        if self.id.is_none() {
            if let Err(cancelled) = Leaf::check() {
                return Poll::Ready(Err(SendError::Cancelled((), cancelled)));
            }
        }
        let standing = match self.stand(cx) {
            Standing::Open => match self.leaf.park(cx, Wait { op: Op::Send, on: self.chan.id }) {
                Ok(()) => return Poll::Pending,
                // It may have been taken since: then that is the answer.
                Err(cancelled) if self.take_back() => Err(SendError::Cancelled((), cancelled)),
                Err(_) => Ok(()),
            },
            Standing::Taken => Ok(()),
            Standing::Closed => {
                self.take_back();
                Err(SendError::Closed(()))
            }
        };
        self.leaf.clear();
        Poll::Ready(standing)
    }

    fn stand(&mut self, cx: &Context<'_>) -> Standing {
        let (id, slot, chan) = (&mut self.id, &mut *self.slot, self.chan);
        // What is not needed any more is dropped outside of the lock.
        let (standing, _stale, is_first) = waker::leaf(cx, |waker| {
            chan.with(|inside, after| {
                let closed = !inside.has_receivers();
                let own = &mut inside.own;
                let Some(known) = *id else {
                    if closed {
                        return (Standing::Closed, None, false);
                    }
                    let sender = Waiter::new(Op::Send, self.at, waker);
                    *id = slot.take().map(|item| own.offers.push(Offer { item, sender }));
                    own.call_next(after);
                    return (Standing::Open, None, inside.count_wait());
                };
                match own.offers.find(known) {
                    None => (Standing::Taken, None, false),
                    Some(_) if closed => (Standing::Closed, None, false),
                    Some(offer) => (Standing::Open, offer.sender.renew(waker), false),
                }
            })
        });
        if is_first {
            chan.list();
        }
        standing
    }
}

impl<T> Offered<'_, T> {
    /// Says whether the item came back; else a receiver has it, or it was never offered.
    fn take_back(&mut self) -> bool {
        let Some(id) = self.id.take() else { return false };
        let offer = self.chan.with(|inside, _| inside.own.take_back(id));
        let Some(offer) = offer else { return false };
        *self.slot = Some(offer.item);
        true
    }
}

impl<T> Drop for Offered<'_, T> {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// A place among the receivers; given up when dropped, and the item it was called for goes to the next.
struct Asked<'a, T> {
    chan: &'a Arc<Chan<Rendezvous<T>>>,
    at: &'static Location<'static>,
    id: Option<u64>,
    leaf: Leaf,
}

impl<T: Send + 'static> Asked<'_, T> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Option<T>, Cancelled>> {
        if let Err(cancelled) = Leaf::check() {
            self.leave();
            return Poll::Ready(Err(cancelled));
        }
        if let Some(taken) = self.take(cx) {
            self.leaf.clear();
            return Poll::Ready(Ok(taken));
        }
        match self.leaf.park(cx, Wait { op: Op::Recv, on: self.chan.id }) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => {
                self.leave();
                Poll::Ready(Err(cancelled))
            }
        }
    }

    /// Takes an item, the news that none will come, or a place in line.
    fn take(&mut self, cx: &Context<'_>) -> Option<Option<T>> {
        let (id, chan) = (&mut self.id, self.chan);
        // What is not needed any more is dropped outside of the lock.
        let (taken, _left, _stale, is_first) = waker::leaf(cx, |waker| {
            chan.with(|inside, after| {
                let Some(known) = *id else {
                    let item = take_free(inside, after);
                    if item.is_some() || !inside.has_senders() {
                        return (Some(item), None, None, false);
                    }
                    *id = Some(inside.own.waiting.push(Waiter::new(Op::Recv, self.at, waker)));
                    return (None, None, None, inside.count_wait());
                };
                if let Some(called) = inside.own.called.leave(known) {
                    *id = None;
                    return (Some(take(inside, after)), Some(called), None, false);
                }
                if !inside.has_senders() {
                    *id = None;
                    return (Some(None), inside.own.waiting.leave(known), None, false);
                }
                let stale = inside.own.waiting.find(known).and_then(|waiter| waiter.renew(waker));
                (None, None, stale, false)
            })
        });
        if is_first {
            chan.list();
        }
        taken
    }
}

impl<T> Asked<'_, T> {
    fn leave(&mut self) {
        self.leaf.clear();
        let Some(id) = self.id.take() else { return };
        let _waiter = self.chan.with(|inside, after| {
            let called = inside.own.called.leave(id);
            if called.is_some() {
                inside.own.call_next(after);
                return called;
            }
            inside.own.waiting.leave(id)
        });
    }
}

impl<T> Drop for Asked<'_, T> {
    fn drop(&mut self) {
        self.leave();
    }
}
