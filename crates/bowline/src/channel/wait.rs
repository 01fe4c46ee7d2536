//! Who waits at a channel, and the wait itself.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::core::{After, Chan, Inside, State};
use crate::cause::Cancelled;
use crate::resource::Who;
use crate::testing::trial;
use crate::track::Leaf;
use crate::wait::{Op, Wait};
use crate::waker;

/// Entries in the order in which they came: their numbers rise, and are never given twice.
///
/// The usual single one needs no allocation. It is the one with the lowest number.
pub(super) struct Line<E> {
    first: Option<(u64, E)>,
    more: BTreeMap<u64, E>,
    last: u64,
}

/// Those who wait, in the order in which they were first polled.
pub(super) type Waiters = Line<Waiter>;

/// One who waits: how to wake it, and what is known of it.
pub(super) struct Waiter {
    pub(super) waker: Waker,
    pub(super) who: Who,
    pub(super) op: Op,
}

impl Waiter {
    pub(super) fn new(op: Op, at: &'static Location<'static>, waker: &Waker) -> Self {
        Self { waker: waker.clone(), who: Who::here(at, true), op }
    }

    /// It was polled again, perhaps by another task. Returns the waker before, to be dropped outside the lock.
    pub(super) fn renew(&mut self, waker: &Waker) -> Option<Waker> {
        self.who.polled_again();
        (!self.waker.will_wake(waker)).then(|| std::mem::replace(&mut self.waker, waker.clone()))
    }
}

impl<E> Default for Line<E> {
    fn default() -> Self {
        Self { first: None, more: BTreeMap::new(), last: 0 }
    }
}

impl<E> Line<E> {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(super) fn push(&mut self, entry: E) -> u64 {
        self.last += 1;
        self.put(self.last, entry);
        self.last
    }

    /// Puts an entry in at the place its number has.
    pub(super) fn put(&mut self, id: u64, entry: E) {
        match &mut self.first {
            None if self.more.is_empty() => self.first = Some((id, entry)),
            Some(first) if id < first.0 => {
                let (id, entry) = std::mem::replace(first, (id, entry));
                self.more.insert(id, entry);
            }
            _ => {
                self.more.insert(id, entry);
            }
        }
    }

    pub(super) fn find(&mut self, id: u64) -> Option<&mut E> {
        match &mut self.first {
            Some((first, entry)) if *first == id => Some(entry),
            _ => self.more.get_mut(&id),
        }
    }

    pub(super) fn leave(&mut self, id: u64) -> Option<E> {
        match self.first.take_if(|(first, _)| *first == id) {
            Some((_, entry)) => Some(entry),
            None => self.more.remove(&id),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<(u64, E)> {
        self.first.take().or_else(|| self.more.pop_first())
    }

    pub(super) fn pop_last(&mut self) -> Option<(u64, E)> {
        self.more.pop_last().or_else(|| self.first.take())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &E> {
        self.first.iter().map(|(_, entry)| entry).chain(self.more.values())
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = E> {
        let more = std::mem::take(&mut self.more).into_values();
        self.first.take().map(|(_, entry)| entry).into_iter().chain(more)
    }
}

impl Waiters {
    pub(super) fn wake_all<X>(&mut self, after: &mut After<X>) {
        self.drain().for_each(|waiter| after.wake(waiter.waker));
    }
}

/// The place of one wait in the list; given up when dropped.
struct Place<'a, S: State> {
    chan: &'a Arc<Chan<S>>,
    line: fn(&mut S) -> &mut Waiters,
    op: Op,
    at: &'static Location<'static>,
    id: Option<u64>,
    leaf: Leaf,
}

/// Waits until `ready` finds something. `ready` is called under the lock, at every poll, and takes what it returns.
///
/// Dropped or cancelled, it has taken nothing and leaves nothing behind.
pub(super) async fn until<S: State + Send + 'static, R>(
    chan: &Arc<Chan<S>>,
    op: Op,
    at: &'static Location<'static>,
    line: fn(&mut S) -> &mut Waiters,
    mut ready: impl FnMut(&mut Inside<S>) -> Option<R>,
) -> Result<R, Cancelled> {
    trial::turn().await;
    let mut place = Place { chan, line, op, at, id: None, leaf: Leaf::default() };
    poll_fn(|cx| place.poll(cx, &mut ready)).await
}

impl<S: State + Send + 'static> Place<'_, S> {
    fn poll<R>(
        &mut self,
        cx: &Context<'_>,
        ready: &mut impl FnMut(&mut Inside<S>) -> Option<R>,
    ) -> Poll<Result<R, Cancelled>> {
        if let Err(cancelled) = Leaf::check() {
            self.leave();
            return Poll::Ready(Err(cancelled));
        }
        if let Some(found) = self.look(cx, ready) {
            self.leaf.clear();
            return Poll::Ready(Ok(found));
        }
        match self.leaf.park(cx, Wait { op: self.op, on: self.chan.id }) {
            Ok(()) => Poll::Pending,
            Err(cancelled) => {
                self.leave();
                Poll::Ready(Err(cancelled))
            }
        }
    }

    /// Takes what is there, or a place in the list, in one critical section.
    fn look<R>(
        &mut self,
        cx: &Context<'_>,
        ready: &mut impl FnMut(&mut Inside<S>) -> Option<R>,
    ) -> Option<R> {
        let (id, chan) = (&mut self.id, self.chan);
        // What is not needed any more is dropped outside of the lock.
        let (found, _left, _stale, is_first) = waker::leaf(cx, |waker| {
            chan.with(|inside, _| {
                let found = ready(inside);
                let waiters = (self.line)(&mut inside.own);
                if found.is_some() {
                    return (found, id.take().and_then(|id| waiters.leave(id)), None, false);
                }
                if let Some(waiter) = id.and_then(|id| waiters.find(id)) {
                    return (None, None, waiter.renew(waker), false);
                }
                // New, or woken for something that was gone when it came.
                let waiter = Waiter::new(self.op, self.at, waker);
                let is_new = id.replace(waiters.push(waiter)).is_none();
                (None, None, None, is_new && inside.count_wait())
            })
        });
        if is_first {
            chan.list();
        }
        found
    }
}

impl<S: State> Place<'_, S> {
    fn leave(&mut self) {
        self.leaf.clear();
        if let Some(id) = self.id.take() {
            let _waiter = self.chan.with(|inside, _| (self.line)(&mut inside.own).leave(id));
        }
    }
}

impl<S: State> Drop for Place<'_, S> {
    fn drop(&mut self) {
        self.leave();
    }
}
