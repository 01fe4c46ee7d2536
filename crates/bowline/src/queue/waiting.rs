//! The waits of a queue as places in its lines: for room, for an item, for the close.
//!
//! Each begins by asking for what it wants and takes a place in line only if it has to. It is given up when dropped, and
//! what was granted to it goes to the next. A waker is cloned between two goes at the lock, never under it, but for the runtime's
//! own: that is a count, and saves who waits for an item the second go.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop::poll_proceed;

use super::SendError;
use super::core::{Chan, Mode, Receipt, Room, Taken};
use super::lanes::LaneId;
use crate::cause::Cancelled;
use crate::testing::trial;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// Waits for room in a lane, for an item to put in or for a permit.
struct RoomWait<'a, T> {
    chan: &'a Chan<T>,
    lane: LaneId,
    place: Option<u64>,
    leaf: Leaf,
}

impl<'a, T> RoomWait<'a, T> {
    fn new(chan: &'a Chan<T>, lane: LaneId) -> Self {
        Self { chan, lane, place: None, leaf: Leaf::default() }
    }

    /// Asks once, which mostly is enough, and waits if it is not.
    #[inline]
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut ask: impl FnMut(&Self, &Waker, &mut Option<Waker>) -> Result<Room, SendError<()>>,
    ) -> Poll<Result<(), SendError<()>>> {
        if let Err(cancelled) = Leaf::check() {
            return self.cancelled(cancelled);
        }
        if self.place.is_none() {
            ready!(trial::poll_turn(cx));
        }
        let budget = ready!(poll_proceed(cx));
        let answer = match self.place {
            None => ask(self, cx.waker(), &mut None), // which looks at no waker
            Some(_) => waker::leaf(cx, |waker| ask(self, waker, &mut None)),
        };
        match answer {
            Ok(Room::Granted) if self.place.is_none() => {
                budget.made_progress();
                Poll::Ready(Ok(()))
            }
            answer => {
                let answer = self.wait(cx, answer, ask);
                if answer.is_ready() {
                    budget.made_progress();
                }
                answer
            }
        }
    }

    #[cold]
    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        mut answer: Result<Room, SendError<()>>,
        mut ask: impl FnMut(&Self, &Waker, &mut Option<Waker>) -> Result<Room, SendError<()>>,
    ) -> Poll<Result<(), SendError<()>>> {
        if let Ok(Room::NeedsWaker) = answer {
            answer = waker::leaf(cx, |waker| ask(self, waker, &mut Some(waker.clone())));
        }
        if let Ok(Room::Waiting(place)) = answer {
            self.place = Some(place);
            return match self.leaf.park(cx, Wait { op: Op::Send, on: self.chan.id }) {
                Ok(()) => Poll::Pending,
                Err(cancelled) => self.cancelled(cancelled),
            };
        }
        self.place = None;
        self.leaf.clear();
        Poll::Ready(answer.map(|_| ()))
    }

    #[cold]
    fn cancelled(&mut self, cancelled: Cancelled) -> Poll<Result<(), SendError<()>>> {
        self.leave();
        Poll::Ready(Err(SendError::Cancelled((), cancelled)))
    }

    #[cold]
    fn leave(&mut self) {
        self.leaf.clear();
        if let Some(place) = self.place.take() {
            self.chan.leave_room_line(self.lane, place);
        }
    }
}

impl<T> Drop for RoomWait<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.place.is_some() {
            self.leave();
        }
    }
}

/// A send: waits for room, and puts its item in.
pub(super) struct Sending<'a, T> {
    wait: RoomWait<'a, T>,
    /// Taken when it is in. A queue that drops the newest leaves it here.
    item: Option<T>,
    bytes: usize,
}

impl<'a, T> Sending<'a, T> {
    #[inline]
    pub(super) fn new(chan: &'a Chan<T>, lane: LaneId, item: T, bytes: usize) -> Self {
        Self { wait: RoomWait::new(chan, lane), item: Some(item), bytes }
    }
}

impl<T> Unpin for Sending<'_, T> {}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { wait, item, bytes } = &mut *self;
        let sent = ready!(wait.poll(cx, |wait, waker, fresh| match wait.place {
            None => wait.chan.offer(wait.lane, item, *bytes, Some(fresh)),
            Some(place) => wait.chan.look_room(wait.lane, place, Some(&mut *item), waker, fresh),
        }));
        Poll::Ready(sent.map_err(|error| error.with(item.take())))
    }
}

/// A reservation: waits for room, which is the caller's from then on.
pub(super) struct Reserving<'a, T> {
    wait: RoomWait<'a, T>,
}

impl<'a, T> Reserving<'a, T> {
    pub(super) fn new(chan: &'a Chan<T>, lane: LaneId) -> Self {
        Self { wait: RoomWait::new(chan, lane) }
    }
}

impl<T> Future for Reserving<'_, T> {
    type Output = Result<(), SendError<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.wait.poll(cx, |wait, waker, fresh| match wait.place {
            None => wait.chan.ask_room(wait.lane, Some(fresh)),
            Some(place) => wait.chan.look_room(wait.lane, place, None, waker, fresh),
        })
    }
}

/// Waits for an item, and may be used again after it has come to one. The queue is borrowed, or the wait has a reference.
pub(super) struct Receiving<C: Deref<Target = Chan<T>>, T> {
    chan: C,
    mode: Mode,
    place: Option<u64>,
    leaf: Leaf,
}

impl<C: Deref<Target = Chan<T>>, T> Receiving<C, T> {
    #[inline]
    pub(super) fn new(chan: C, mode: Mode) -> Self {
        Self { chan, mode, place: None, leaf: Leaf::default() }
    }

    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Taken<T>>, Cancelled>> {
        if let Err(cancelled) = Leaf::check() {
            self.leave();
            return Poll::Ready(Err(cancelled));
        }
        if self.place.is_none() {
            ready!(trial::poll_turn(cx));
        }
        let budget = ready!(poll_proceed(cx));
        let receipt = match self.place {
            None => self.chan.take_or_join(self.mode, || waker::own_leaf_waker(cx)),
            Some(place) => waker::leaf(cx, |waker| self.chan.look_item(place, self.mode, waker, &mut None)),
        };
        match receipt {
            Receipt::Taken(taken) if self.place.is_none() => {
                budget.made_progress();
                Poll::Ready(Ok(Some(taken)))
            }
            receipt => {
                let answer = self.wait(cx, receipt);
                if answer.is_ready() {
                    budget.made_progress();
                }
                answer
            }
        }
    }

    #[cold]
    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        mut receipt: Receipt<T>,
    ) -> Poll<Result<Option<Taken<T>>, Cancelled>> {
        if let Receipt::NeedsWaker = receipt {
            let mut fresh = Some(waker::leaf_waker(cx));
            receipt = match self.place {
                None => self.chan.take_or_join(self.mode, || fresh.take()),
                Some(place) => {
                    waker::leaf(cx, |waker| self.chan.look_item(place, self.mode, waker, &mut fresh))
                }
            };
        }
        let taken = match receipt {
            Receipt::NeedsWaker => unreachable!("it was given one"),
            Receipt::Waiting(place) => {
                self.place = Some(place);
                let parked = self.leaf.park(cx, Wait { op: Op::Recv, on: self.chan.id });
                let Err(cancelled) = parked else { return Poll::Pending };
                self.leave();
                return Poll::Ready(Err(cancelled));
            }
            Receipt::Taken(taken) => Some(taken),
            Receipt::Closed => None,
        };
        self.place = None;
        self.leaf.clear();
        Poll::Ready(Ok(taken))
    }

    #[cold]
    fn leave(&mut self) {
        self.leaf.clear();
        if let Some(place) = self.place.take() {
            self.chan.leave_item_line(place);
        }
    }
}

impl<C: Deref<Target = Chan<T>>, T> Drop for Receiving<C, T> {
    #[inline]
    fn drop(&mut self) {
        if self.place.is_some() {
            self.leave();
        }
    }
}

impl<T> Future for Receiving<&Chan<T>, T> {
    type Output = Result<Option<Taken<T>>, Cancelled>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Self::poll(&mut self, cx)
    }
}

/// Waits until the queue is closed.
pub(super) struct Closing<'a, T> {
    chan: &'a Chan<T>,
    place: Option<u64>,
    leaf: Leaf,
}

impl<'a, T> Closing<'a, T> {
    pub(super) fn new(chan: &'a Chan<T>) -> Self {
        Self { chan, place: None, leaf: Leaf::default() }
    }

    fn leave(&mut self) {
        self.leaf.clear();
        if let Some(place) = self.place.take() {
            self.chan.leave_close_line(place);
        }
    }
}

impl<T> Future for Closing<'_, T> {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Err(cancelled) = Leaf::check() {
            self.leave();
            return Poll::Ready(Err(cancelled));
        }
        let mut fresh = None;
        loop {
            match waker::leaf(cx, |waker| self.chan.look_close(self.place, waker, &mut fresh)) {
                Some(Room::NeedsWaker) => fresh = Some(waker::leaf_waker(cx)),
                Some(Room::Waiting(place)) => {
                    self.place = Some(place);
                    let wait = Wait { op: Op::Closed, on: self.chan.id };
                    let Err(cancelled) = self.leaf.park(cx, wait) else { return Poll::Pending };
                    self.leave();
                    return Poll::Ready(Err(cancelled));
                }
                Some(Room::Granted) | None => {
                    self.place = None;
                    self.leaf.clear();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.leave();
    }
}
