//! A lease: a resource in somebody's hands, and what becomes of it.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;

use super::act;
use super::rule::{Item, Rules};
use super::stats::Why;
use crate::lock::core::Core;
use crate::lock::line::Key;

/// A resource of a [`LeasePool`](super::LeasePool), in the hands of whoever has this. Dropped, it goes back, to the first in line.
///
/// # What does not go back
///
/// A resource whose use was cut off may be in the middle of something: of a transaction, of an answer that nobody has read.
/// It is discarded if the lease is dropped
///
/// - by a panic;
/// - in a context that is cancelled, or aborted; what is done under [`shielded`](crate::shielded) is not;
/// - after a call of [`using`](Self::using) that did not come to its end, whoever dropped it;
/// - after [`poison`](Self::poison).
///
/// What this cannot see is a future that somebody *else* drops in the middle: a foreign `select!`, a web server whose client has
/// gone. There, use the resource in [`using`](Self::using), which does see it; or let the pool
/// [`discard_dropped`](super::Leases::discard_dropped) leases; or give it a [`reset`](super::Leases::reset).
#[must_use = "the resource goes back when this is dropped"]
pub struct Lease<T: Send + 'static> {
    core: Arc<Core<Rules<T>>>,
    key: Key,
    /// There until it is dropped.
    item: Option<Item<T>>,
    state: State,
    /// Of a pool that discards what is dropped: whether that was used.
    in_doubt: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    /// In a call of `using`, or that was cut off.
    InUse,
    Poisoned,
    GivenBack,
}

impl<T: Send + 'static> Lease<T> {
    pub(super) fn new(core: &Arc<Core<Rules<T>>>, key: Key, item: Item<T>, discards_dropped: bool) -> Self {
        let in_doubt = discards_dropped.then_some(false);
        Self { core: Arc::clone(core), key, item: Some(item), state: State::Fine, in_doubt }
    }

    /// Works with the resource, and sees whether that comes to its end: if it does not, the resource is discarded when the lease is
    /// dropped, whoever has dropped the work.
    ///
    /// What the work *returns*, an error too, is a good end. If an error leaves the resource in doubt, [`poison`](Self::poison) it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, `work` is dropped with it, and the resource will be discarded. There is no place in line.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # struct Connection;
    /// # impl Connection { async fn begin(&mut self) { bowline::cancelled().await; } }
    /// # bowline::testing::example_paused(async {
    /// # bowline::scope("service", async |s| {
    /// # let db = bowline::Leases::new("db", 4, async || Ok::<_, std::io::Error>(Connection)).start(s);
    /// let mut lease = db.acquire().await?;
    /// let begin = lease.using(async |connection| connection.begin().await);
    /// let ended = tokio::time::timeout(Duration::from_secs(1), begin).await; // drops it in the middle
    /// assert!(ended.is_err());
    /// drop(lease);
    /// assert_eq!(db.stats().discarded.cancelled, 1);
    /// # Ok::<_, bowline::Cancelled>(())
    /// # }).await
    /// # }).unwrap();
    /// ```
    pub async fn using<R>(&mut self, work: impl AsyncFnOnce(&mut T) -> R) -> R {
        let id = self.core.with(|state, _| state.rule.limits.id);
        // One that was cut off, or is poisoned, stays so.
        let before = std::mem::replace(&mut self.state, State::InUse);
        let done = {
            let mut work = pin!(work(&mut self.item_mut().value));
            poll_fn(|cx| {
                let _around = Around::enter(id);
                work.as_mut().poll(cx)
            })
            .await
        };
        self.state = before;
        done
    }

    /// Marks the resource as broken: it will be discarded.
    pub fn poison(&mut self) {
        self.state = State::Poisoned;
    }

    /// Returns whether the resource will be discarded whatever comes: it was poisoned, or its use was cut off.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self.state, State::InUse | State::Poisoned)
    }

    /// Gives the resource back as good, also in a cancelled context. It is discarded all the same if it was poisoned, or
    /// cut off in [`using`](Self::using).
    pub fn give_back(mut self) {
        if !self.is_poisoned() {
            self.state = State::GivenBack;
        }
    }

    /// Takes the resource out of the pool for good. The pool may make another one in its place.
    #[must_use = "the resource is not the pool's any more"]
    pub fn into_inner(mut self) -> T {
        let item = self.item.take().expect("a lease has its resource until it is dropped");
        let _place = Place(&self.core);
        let back = act(&self.core, |state, wakes| {
            state.rule.give_back(&mut state.line, self.key, item, Some(Why::Taken), wakes)
        });
        back.expect("what is taken is not put anywhere").value
    }

    fn item(&self) -> &Item<T> {
        self.item.as_ref().expect("a lease has its resource until it is dropped")
    }

    fn item_mut(&mut self) -> &mut Item<T> {
        self.item.as_mut().expect("a lease has its resource until it is dropped")
    }

    /// Why the resource cannot go back, if it cannot.
    fn flaw(&self) -> Option<Why> {
        let panics = std::thread::panicking();
        match self.state {
            State::GivenBack => None,
            State::Poisoned => Some(Why::Broken),
            _ if panics => Some(Why::Panicked),
            State::InUse => Some(Why::Cancelled),
            State::Fine if crate::is_cancelled() || self.in_doubt == Some(true) => Some(Why::Cancelled),
            State::Fine => None,
        }
    }
}

impl<T: Send + 'static> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item().value
    }
}

impl<T: Send + 'static> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        if let Some(used) = &mut self.in_doubt {
            *used = true;
        }
        &mut self.item_mut().value
    }
}

impl<T: Send + 'static> Drop for Lease<T> {
    fn drop(&mut self) {
        let Some(item) = self.item.take() else { return };
        let flaw = self.flaw();
        let back = act(&self.core, |state, wakes| {
            state.panicked += u64::from(flaw == Some(Why::Panicked));
            state.rule.give_back(&mut state.line, self.key, item, flaw, wakes)
        });
        if let Some(item) = back {
            let _place = Place(&self.core); // freed when the item is gone, also by a panic
            drop(item);
        }
    }
}

/// The place in the pool of something that is about to go.
struct Place<'a, T: Send + 'static>(&'a Core<Rules<T>>);

impl<T: Send + 'static> Drop for Place<'_, T> {
    fn drop(&mut self) {
        act(self.0, |state, wakes| state.rule.has_gone(&state.line, wakes));
    }
}

impl<T: Send + 'static + fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("pool", &self.core.site.name)
            .field("resource", &self.item().value)
            .finish_non_exhaustive()
    }
}

/// The pools of the `using` calls that are being polled, one in the other.
type Nested = RefCell<Vec<u64>>;

#[cfg(not(bowline_loom))]
crate::sync::thread_local! {
    static AROUND: Nested = const { RefCell::new(Vec::new()) };
}
#[cfg(bowline_loom)]
crate::sync::thread_local! {
    static AROUND: Nested = RefCell::new(Vec::new());
}

/// One poll of a `using` call.
struct Around;

impl Around {
    fn enter(pool: u64) -> Self {
        AROUND.with(|around| around.borrow_mut().push(pool));
        Self
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        AROUND.with(|around| around.borrow_mut().pop());
    }
}

/// Whether so many leases of the pool are in use around whoever is polled. That many can come back only after it is done.
pub(super) fn all_held_around_us(pool: u64, leases: usize) -> bool {
    AROUND.with(|around| around.borrow().iter().filter(|known| **known == pool).count() == leases)
}
