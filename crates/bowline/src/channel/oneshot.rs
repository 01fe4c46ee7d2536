//! One answer, from one who owes it to one who waits for it.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;

use super::core::{After, Inside, Seat, Side, State, end};
use super::wait::{Waiter, Waiters, until};
use super::{ChannelStats, NoAnswer, ObservedChannel, core};
use crate::carry::{Bind, Carry, Cx};
use crate::cause::Cancelled;
use crate::holders::{FREE, IN_TRANSIT};
use crate::queue::{SendError, TryRecvError};
use crate::site::Site;
use crate::wait::Op;

pub(super) struct Oneshot<T> {
    answer: Option<T>,
    /// Whether the reply was dropped by a panic, not by an oversight.
    by_panic: bool,
    /// The one that waits for the answer.
    asking: Waiters,
    /// The one that waits until nobody asks any more.
    answering: Waiters,
}

impl<T> State for Oneshot<T> {
    const KIND: &'static str = "oneshot";
    type Scrap = T;

    fn left(inside: &mut Inside<Self>, side: Side, _mark: u64, after: &mut After<T>) {
        match side {
            Side::Sending => {
                inside.own.by_panic = std::thread::panicking();
                inside.own.asking.wake_all(after);
            }
            Side::Receiving => {
                after.drop.extend(inside.own.answer.take());
                inside.own.answering.wake_all(after);
            }
        }
    }

    fn fill(&self, stats: &mut ChannelStats) {
        stats.depth_items = usize::from(self.answer.is_some());
        stats.max_items = 1;
        stats.waiting_senders = self.answering.len();
        stats.waiting_receivers = self.asking.len();
    }

    fn waiters(&self, see: &mut dyn FnMut(&Waiter, bool)) {
        self.asking.iter().chain(self.answering.iter()).for_each(|waiter| see(waiter, false));
    }

    fn has_fired(&self) -> bool {
        self.answer.is_some()
    }
}

pub(crate) fn open<'t, T: Send + 'static>(cx: &'t Cx, site: &'static Site) -> (Reply<'t, T>, Answer<'t, T>) {
    let own =
        Oneshot { answer: None, by_panic: false, asking: Waiters::default(), answering: Waiters::default() };
    let (sending, receiving) = core::open(cx, site, own);
    (Reply::at(sending), Answer::at(receiving))
}

end! {
    /// The duty to answer, held by a task: [`send`](Self::send) fulfils it.
    ///
    /// Dropped unused, it ends the wait for the answer at once: by an early return, a panic or a cancel, whoever waits is
    /// told and does not hang. To put it into a message, [`free`](Self::free) it.
    Reply,
    /// A [`Reply`] that may be kept and sent anywhere, as a part of a request for example. Its holder counts as unknown.
    FreeReply,
    Oneshot of Send
}

end! {
    /// The right to an answer, held by a task. Dropped, it tells the other side that nobody waits.
    Answer,
    /// An [`Answer`] that may be kept and sent anywhere. Its holder counts as unknown.
    FreeAnswer,
    Oneshot of Send
}

impl<T: Send + 'static> Reply<'_, T> {
    /// Sends the answer. It does not wait.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] gives the answer back if nobody waits for it any more. Trying again cannot succeed.
    pub fn send(self, answer: T) -> Result<(), SendError<T>> {
        self.seat.chan.with(|inside, after| {
            if !inside.has_receivers() {
                return Err(SendError::Closed(answer));
            }
            inside.sent += 1;
            inside.own.answer = Some(answer);
            inside.own.asking.wake_all(after);
            Ok(())
        })
    }

    /// Returns whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.seat.chan.with(|inside, _| !inside.has_receivers())
    }

    /// Waits until nobody waits for the answer any more: the moment to stop working on it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] when the answering context was cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Either, race, scope};
    ///
    /// scope("work", async |s| {
    ///     let (mut reply, answer) = s.oneshot::<u32>("result");
    ///     drop(answer); // the client has left
    ///     let work = std::future::pending::<u32>();
    ///     match race(reply.closed(), work).await {
    ///         Either::Left(gone) => gone,
    ///         Either::Right(result) => Ok(drop(reply.send(result))),
    ///     }
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn closed(&mut self) -> impl Future<Output = Result<(), Cancelled>> {
        let at = Location::caller();
        let is_closed = |inside: &mut Inside<_>| (!inside.has_receivers()).then_some(());
        until(&self.seat.chan, Op::Closed, at, |own| &mut own.answering, is_closed)
    }
}

impl<T: Send + 'static> Answer<'_, T> {
    /// Waits for the answer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: the answer stays for the next call.
    ///
    /// # Errors
    ///
    /// [`NoAnswer::Unanswered`] as soon as the reply was dropped unused; [`NoAnswer::Cancelled`] when the waiting context was
    /// cancelled.
    ///
    /// # Panics
    ///
    /// If the answer was taken before: there is only one.
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = Result<T, NoAnswer>> {
        let at = Location::caller();
        async move {
            let name = self.seat.chan.site.name;
            match until(&self.seat.chan, Op::Reply, at, |own| &mut own.asking, take).await? {
                Ok(answer) => Ok(answer),
                Err(Nothing::Unanswered { by_panic }) => Err(NoAnswer::Unanswered { name, by_panic }),
                Err(Nothing::Taken) => panic!("the answer of `{name}` was taken before"),
            }
        }
    }

    /// Takes the answer if it is there.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] as long as it may come, [`TryRecvError::Closed`] if it will not or was taken.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        match self.seat.chan.with(|inside, _| take(inside)) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(_)) => Err(TryRecvError::Closed),
            None => Err(TryRecvError::Empty),
        }
    }
}

/// Why there is nothing to take and never will be.
enum Nothing {
    Unanswered { by_panic: bool },
    Taken,
}

fn take<T>(inside: &mut Inside<Oneshot<T>>) -> Option<Result<T, Nothing>> {
    if let Some(answer) = inside.own.answer.take() {
        inside.received += 1;
        return Some(Ok(answer));
    }
    if inside.received > 0 {
        return Some(Err(Nothing::Taken));
    }
    (!inside.has_senders()).then(|| Err(Nothing::Unanswered { by_panic: inside.own.by_panic }))
}
