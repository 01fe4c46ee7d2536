//! The waits at a belt, as places in its lines. They are given up when dropped, and a turn goes to the next (invariant 3).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop::poll_proceed;

use super::{Answer, Belt, Load, Riding};
use crate::cause::{Cancelled, Cause};
use crate::resource::{self, Who};
use crate::sync::LockExt;
use crate::testing::trial;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// One asks, and waits if it has to: the part that taking and putting share.
struct Asking<'a, T> {
    belt: &'a Belt<T>,
    takes: bool,
    place: Option<u64>,
    leaf: Leaf,
}

impl<'a, T> Asking<'a, T> {
    fn new(belt: &'a Belt<T>, takes: bool) -> Self {
        Self { belt, takes, place: None, leaf: Leaf::default() }
    }

    fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut ask: impl FnMut(&Belt<T>, Option<u64>, &Waker, &mut Option<Waker>) -> Answer<R>,
    ) -> Poll<Result<R, Cancelled>> {
        if let Err(cancelled) = Leaf::check() {
            self.give_up();
            return Poll::Ready(Err(cancelled));
        }
        if self.place.is_none() {
            ready!(trial::poll_turn(cx));
        }
        let budget = ready!(poll_proceed(cx));
        let answer = waker::leaf(cx, |waker| match ask(self.belt, self.place, waker, &mut None) {
            Answer::NeedsWaker => ask(self.belt, self.place, waker, &mut Some(waker.clone())),
            answer => answer,
        });
        match answer {
            Answer::Ready(value) => {
                budget.made_progress();
                self.place = None; // it left the line with its answer
                self.leaf.clear();
                Poll::Ready(Ok(value))
            }
            Answer::Waiting(place) => {
                if self.place.replace(place).is_none() {
                    self.belt.list();
                }
                let op = if self.takes { Op::Recv } else { Op::Send };
                let Err(cancelled) = self.leaf.park(cx, Wait { op, on: self.belt.id }) else {
                    return Poll::Pending;
                };
                self.give_up();
                Poll::Ready(Err(cancelled))
            }
            Answer::NeedsWaker => unreachable!("it was given one"),
        }
    }

    fn give_up(&mut self) {
        self.leaf.clear();
        if let Some(place) = self.place.take() {
            let takes = self.takes;
            let _waker = self
                .belt
                .with(|state, _| if takes { state.takers.leave(place) } else { state.putters.leave(place) });
        }
    }
}

impl<T> Drop for Asking<'_, T> {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.give_up();
        }
    }
}

/// Waits for a record.
pub(in super::super) struct Taking<'a, T>(Asking<'a, T>);

impl<'a, T> Taking<'a, T> {
    pub(super) fn new(belt: &'a Belt<T>) -> Self {
        Self(Asking::new(belt, true))
    }
}

impl<T> Future for Taking<'_, T> {
    type Output = Result<Option<(u64, Riding<T>)>, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, Belt::ask_for_a_record)
    }
}

/// Waits until what it has may be put down, or, if it has nothing, until a place is its own.
pub(in super::super) struct Putting<'a, T> {
    asking: Asking<'a, T>,
    ticket: u64,
    /// Taken when it is down.
    load: Option<Load<T>>,
    reserves: bool,
    bytes: usize,
}

impl<'a, T> Putting<'a, T> {
    pub(super) fn new(belt: &'a Belt<T>, ticket: u64, load: Option<Load<T>>, bytes: usize) -> Self {
        Self { asking: Asking::new(belt, false), ticket, reserves: load.is_none(), load, bytes }
    }
}

// The record is moved, never pinned.
impl<T> Unpin for Putting<'_, T> {}

impl<T> Future for Putting<'_, T> {
    type Output = Result<(), Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { asking, ticket, load, reserves, bytes } = &mut *self;
        let put = asking.poll(cx, |belt, place, waker, fresh| {
            belt.ask_to_put(*ticket, load, *reserves, *bytes, place, waker, fresh)
        });
        Poll::Ready(match ready!(put)? {
            true => Ok(()),
            // Cleared while this task lives on: it is being aborted.
            false => Err(Cancelled::new(Cause::Aborted)),
        })
    }
}

impl<T> Belt<T> {
    fn ask_for_a_record(
        &self,
        place: Option<u64>,
        waker: &Waker,
        fresh: &mut Option<Waker>,
    ) -> Answer<Option<(u64, Riding<T>)>> {
        self.with(|state, _| {
            let taken = state.queue.pop_front();
            if taken.is_none() && !state.closed && !state.cleared {
                return match place {
                    Some(place) if state.takers.stay(place, waker, fresh) => Answer::Waiting(place),
                    Some(_) => Answer::NeedsWaker,
                    None => match fresh.take() {
                        None => Answer::NeedsWaker,
                        Some(waker) => {
                            state.waits += 1;
                            let who = Who::here(self.site.place, true);
                            Answer::Waiting(state.takers.join(0, 0, who, waker))
                        }
                    },
                };
            }
            if let Some(place) = place {
                *fresh = state.takers.leave(place); // dropped by the caller
            }
            Answer::Ready(taken.map(|laid| {
                state.bytes = state.bytes.saturating_sub(laid.bytes);
                let ticket = state.taken;
                state.taken += 1;
                (ticket, laid.riding)
            }))
        })
    }

    /// Answers whether it is down; if not, the belt was cleared.
    #[expect(clippy::too_many_arguments, reason = "the parts of one wait, taken apart for the borrows")]
    fn ask_to_put(
        &self,
        ticket: u64,
        load: &mut Option<Load<T>>,
        reserves: bool,
        bytes: usize,
        place: Option<u64>,
        waker: &Waker,
        fresh: &mut Option<Waker>,
    ) -> Answer<bool> {
        if !self.ordered && matches!(load, Some(Load::Nothing)) {
            return Answer::Ready(true); // nobody waits for its turn to come
        }
        self.with(|state, _| {
            // A newcomer does not overtake those who wait for the same room; under tickets there is nothing to overtake.
            let counts_bytes = self.size_of.is_some();
            let passes = match place {
                _ if self.ordered => true,
                Some(place) => !counts_bytes || state.putters.is_first(place),
                None => {
                    let others = state.putters.len();
                    others == 0
                        || !counts_bytes && state.occupied() + state.reserved + others < self.max_items
                }
            };
            let may_put = passes && self.admits(state, ticket, bytes);
            if !state.cleared && !may_put {
                return match place {
                    Some(place) if state.putters.stay(place, waker, fresh) => Answer::Waiting(place),
                    Some(_) => Answer::NeedsWaker,
                    None => match fresh.take() {
                        None => Answer::NeedsWaker,
                        Some(waker) => {
                            state.waits += 1;
                            let who = Who::here(self.site.place, true);
                            Answer::Waiting(state.putters.join(ticket, bytes, who, waker))
                        }
                    },
                };
            }
            if let Some(place) = place {
                *fresh = state.putters.leave(place);
            }
            if state.cleared {
                return Answer::Ready(false);
            }
            if reserves {
                state.reserved += 1;
            } else if let Some(load) = load.take() {
                self.lay(state, ticket, load, bytes);
            }
            Answer::Ready(true)
        })
    }

    /// Puts the belt on the list of what is waited for, once. Not under the lock.
    fn list(&self) {
        let is_news = !std::mem::replace(&mut self.state.lock_unpoisoned().listed, true);
        if is_news {
            resource::list(self.id, self.me.clone());
        }
    }
}
