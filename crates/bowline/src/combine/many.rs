//! Arms of one type, as many as the program likes: each is woken, and then polled, by itself.
//!
//! Without that a list of a thousand arms costs a thousand polls per wake-up.
//!
//! # Invariants
//!
//! 1. An arm that was woken is in `woken` or in `due` until it is polled; it is taken out before it is polled, so a wake-up
//!    during its poll puts it in again.
//! 2. Whoever puts an arm into `woken` takes the task's waker and wakes it. If it is not there, somebody has taken it since the
//!    last pass began, and that pass, or the next one, sees both arms.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;

use super::arms::{Arms, Kept, Pass};
use super::join::{Join, TryJoin};
use super::merge::Merge;
use super::race::Race;
use super::slot::{Arm, Each, Keep, Once, Slot, Sure};
use crate::context::is_cancelled;
use crate::sync::{Arc, LockExt, Mutex};

/// The arms of a list.
pub struct Many<A> {
    slots: Vec<(Pin<Box<Slot<A>>>, Waker)>,
    /// Arms to be polled, in this order.
    due: VecDeque<usize>,
    order: Order,
    wakes: Arc<Wakes>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As in the list: the first of several that are ready counts.
    ByPlace,
    /// As they were woken: nobody is passed over.
    ByTurn,
}

/// Which arms were woken, and whom to tell.
struct Wakes {
    state: Mutex<Woken>,
}

struct Woken {
    task: Option<Waker>,
    woken: Vec<usize>,
    is_woken: Vec<bool>,
}

struct ArmWaker {
    at: usize,
    wakes: Arc<Wakes>,
}

impl Wake for ArmWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut state = self.wakes.state.lock_unpoisoned();
            if std::mem::replace(&mut state.is_woken[self.at], true) {
                return;
            }
            state.woken.push(self.at);
            state.task.take() // by invariant 2
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<A> Many<A> {
    fn new(arms: impl IntoIterator<Item = A>, order: Order) -> Self {
        let state = Mutex::new(Woken { task: None, woken: Vec::new(), is_woken: Vec::new() });
        let wakes = Arc::new(Wakes { state });
        let slots: Vec<_> = arms
            .into_iter()
            .enumerate()
            .map(|(at, arm)| {
                let waker = Waker::from(Arc::new(ArmWaker { at, wakes: Arc::clone(&wakes) }));
                (Box::pin(Slot::new(arm)), waker)
            })
            .collect();
        let count = slots.len();
        wakes.state.lock_unpoisoned().is_woken.resize(count, false);
        Self { slots, due: (0..count).collect(), order, wakes }
    }
}

impl<A: Arm> Arms for Many<A> {
    type Answer = A::Answer;

    fn count(&self) -> usize {
        self.slots.len()
    }

    fn begin(mut self: Pin<&mut Self>, _: usize, cx: &mut Context<'_>) -> Pass {
        let this = &mut *self;
        let waker = cx.waker().clone();
        let stale = {
            let mut state = this.wakes.state.lock_unpoisoned();
            let Woken { task, woken, is_woken } = &mut *state;
            woken.iter().for_each(|at| is_woken[*at] = false); // by invariant 1: before they are polled
            this.due.extend(woken.drain(..));
            task.replace(waker)
        };
        drop(stale); // outside the lock: a waker is foreign code
        if is_cancelled() {
            this.due = (0..this.slots.len()).collect();
        } else if this.order == Order::ByPlace {
            this.due.make_contiguous().sort_unstable();
        }
        Pass { first: 0, turn: 0 }
    }

    fn next_due(mut self: Pin<&mut Self>, _: &mut Pass) -> Option<usize> {
        self.due.pop_front()
    }

    fn poll_at(mut self: Pin<&mut Self>, at: usize, _: &mut Context<'_>) -> Poll<A::Answer> {
        let (slot, waker) = &mut self.slots[at];
        slot.as_mut().poll(&mut Context::from_waker(waker))
    }

    fn is_due_again(mut self: Pin<&mut Self>, at: usize) {
        self.due.push_back(at);
    }

    fn drop_at(mut self: Pin<&mut Self>, at: usize) {
        self.slots[at].0.as_mut().drop_arm();
    }

    fn drop_all(mut self: Pin<&mut Self>) {
        self.slots.clear();
        self.due.clear();
    }
}

impl<F, T> Kept for Many<Keep<F, T>> {
    type All = Vec<T>;

    fn take_all(mut self: Pin<&mut Self>) -> Vec<T> {
        self.slots.iter_mut().map(|(slot, _)| slot.as_mut().take_value()).collect()
    }
}

impl<F: IntoFuture> Race for Vec<F> {
    type Output = F::Output;
    type Arms = Many<Once<F::IntoFuture>>;

    fn into_arms(self) -> Self::Arms {
        assert!(!self.is_empty(), "a race of nobody would never end");
        Many::new(self.into_iter().map(|arm| Once { future: arm.into_future() }), Order::ByPlace)
    }
}

impl<F: IntoFuture, const N: usize> Race for [F; N] {
    type Output = F::Output;
    type Arms = Many<Once<F::IntoFuture>>;

    fn into_arms(self) -> Self::Arms {
        const { assert!(N > 0, "a race of nobody would never end") };
        Many::new(self.into_iter().map(|arm| Once { future: arm.into_future() }), Order::ByPlace)
    }
}

impl<F: IntoFuture> Join for Vec<F> {
    type All = Vec<F::Output>;
    type Arms = Many<Keep<Sure<F::IntoFuture>, F::Output>>;

    fn into_arms(self) -> Self::Arms {
        Many::new(self.into_iter().map(|arm| Keep::new(Sure { future: arm.into_future() })), Order::ByTurn)
    }

    fn finish(all: Vec<F::Output>) -> Self::All {
        all
    }
}

impl<F: IntoFuture, const N: usize> Join for [F; N] {
    type All = [F::Output; N];
    type Arms = Many<Keep<Sure<F::IntoFuture>, F::Output>>;

    fn into_arms(self) -> Self::Arms {
        Many::new(self.into_iter().map(|arm| Keep::new(Sure { future: arm.into_future() })), Order::ByTurn)
    }

    fn finish(all: Vec<F::Output>) -> Self::All {
        as_array(all)
    }
}

impl<T, E, F: IntoFuture<Output = Result<T, E>>> TryJoin for Vec<F> {
    type All = Vec<T>;
    type Error = E;
    type Arms = Many<Keep<F::IntoFuture, T>>;

    fn into_arms(self) -> Self::Arms {
        Many::new(self.into_iter().map(|arm| Keep::new(arm.into_future())), Order::ByPlace)
    }

    fn finish(all: Vec<T>) -> Self::All {
        all
    }
}

impl<T, E, F: IntoFuture<Output = Result<T, E>>, const N: usize> TryJoin for [F; N] {
    type All = [T; N];
    type Error = E;
    type Arms = Many<Keep<F::IntoFuture, T>>;

    fn into_arms(self) -> Self::Arms {
        Many::new(self.into_iter().map(|arm| Keep::new(arm.into_future())), Order::ByPlace)
    }

    fn finish(all: Vec<T>) -> Self::All {
        as_array(all)
    }
}

impl<S: Stream> Merge for Vec<S> {
    type Item = S::Item;
    type Arms = Many<Each<S>>;

    fn into_arms(self) -> Self::Arms {
        Many::new(self.into_iter().map(|stream| Each { stream }), Order::ByTurn)
    }
}

impl<S: Stream, const N: usize> Merge for [S; N] {
    type Item = S::Item;
    type Arms = Many<Each<S>>;

    fn into_arms(self) -> Self::Arms {
        Many::new(self.into_iter().map(|stream| Each { stream }), Order::ByTurn)
    }
}

fn as_array<T, const N: usize>(all: Vec<T>) -> [T; N] {
    all.try_into().unwrap_or_else(|_| unreachable!("there is one value per arm"))
}
