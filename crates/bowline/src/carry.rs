//! Who holds what: ends of queues and shared objects carry the lifetime of the task that holds them.
//!
//! A [`Tx<'t, T>`](crate::Tx) borrows the [`Cx`] of its task, which lives inside the task's own future. So the end cannot be
//! captured by another task, sent in a message, put into a `static` or an `Arc` that leaves the task: the compiler refuses.
//! It moves through [`spawn_with`](crate::Scope::spawn_with), which records the new holder, or leaves the tracked world
//! through `free()`, which records that its holder is unknown. That is what makes "nobody can send to this queue any more"
//! a fact instead of a guess.
//!
//! Ends are a layer that programs may ignore: a task that holds none is spawned with plain [`spawn`](crate::Scope::spawn).

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;

use crate::channel::{
    self, Answer, BroadcastRx, BroadcastTx, RendezvousRx, RendezvousTx, Reply, WatchRx, WatchTx,
};
use crate::lock::{self, Count, Latch, Notifier, Notify, Seat};
use crate::queue::{self, Bound, FromSource, Overflow, Rx, Sources, Tx};
use crate::record;
use crate::share::Shared;

/// The explicit context of a task: what makes and holds its ends. A task receives it by reference and cannot pass it on.
pub struct Cx {
    task: u64,
    // Not `Sync`-limited, not constructible outside; the type is a brand.
    brand: PhantomData<fn()>,
}

impl Cx {
    /// The context of whatever is being polled.
    pub(crate) fn here() -> Self {
        let task = record::with_nearest(|current| current.map_or(0, |record| record.task_id()));
        Self { task, brand: PhantomData }
    }

    /// Returns the id under which views show this task; the id of the top scope or root in a task that is not ours.
    #[must_use]
    pub fn task_id(&self) -> u64 {
        self.task
    }

    /// Makes a bounded queue whose both ends are held by this task.
    ///
    /// Hand an end to a child with [`spawn_with`](crate::Scope::spawn_with); clone it for several. The queue ends by itself:
    /// receivers learn that no sender is left, and senders that no receiver is.
    #[track_caller]
    pub fn queue<T: Send + 'static>(
        &self,
        name: &'static str,
        bound: Bound<T>,
        overflow: Overflow,
    ) -> (Tx<'_, T>, Rx<'_, T>) {
        queue::open(self, crate::site::intern(name, Location::caller()), bound, overflow)
    }

    /// Makes one queue of many named sources, each with room of its own, received in turns.
    ///
    /// `per_source` bounds each source, so all together hold at most that times their number. A receiver waits for all sources at
    /// the price of one; one that floods delays the others by one item per round. The queue ends when neither a
    /// [`Source`](crate::Source) nor a [`Sources`] is left.
    ///
    /// # Panics
    ///
    /// If `per_source` has an urgent lane: that would be a source of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Bound, Cancelled, Overflow, scope};
    ///
    /// scope("station", async |s| {
    ///     let (sources, readings) = s.cx().merge("readings", Bound::items(4), Overflow::DropOldest);
    ///     for name in ["wind", "rain"] {
    ///         s.spawn_with(name, sources.source(name), async |_cx, sensor| {
    ///             for millivolts in [230, 231, 235] {
    ///                 sensor.send(millivolts).await?;
    ///             }
    ///             Ok(())
    ///         });
    ///     }
    ///     drop(sources); // no more sensors will come
    ///     let mut sum = 0;
    ///     while let Some(reading) = readings.recv().await? {
    ///         println!("{}: {}", reading.source, reading.item);
    ///         sum += reading.item;
    ///     }
    ///     assert_eq!(sum, 2 * (230 + 231 + 235));
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn merge<T: Send + 'static>(
        &self,
        name: &'static str,
        per_source: Bound<T>,
        overflow: Overflow,
    ) -> (Sources<'_, T>, Rx<'_, FromSource<T>>) {
        queue::open_merged(self, crate::site::intern(name, Location::caller()), per_source, overflow)
    }

    /// Makes a channel for one answer: the duty to answer, and the right to the answer.
    ///
    /// If the [`Reply`] is dropped unused, be it by an early return or by a panic, the wait for the [`Answer`] ends at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// bowline::scope("sum", async |s| {
    ///     let (reply, mut answer) = s.oneshot("sum");
    ///     s.spawn_with("add", reply, async |_cx, reply| Ok(drop(reply.send(1 + 2))));
    ///     assert_eq!(answer.recv().await?, 3);
    ///     Ok::<_, bowline::Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn oneshot<T: Send + 'static>(&self, name: &'static str) -> (Reply<'_, T>, Answer<'_, T>) {
        channel::open_oneshot(self, crate::site::intern(name, Location::caller()))
    }

    /// Makes a channel for the latest value of something, a configuration for example. Receivers learn that it changed, not
    /// how often.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// bowline::scope("reload", async |s| {
    ///     let (tx, mut rx) = s.watch("level", "info");
    ///     assert_eq!(rx.cloned(), "info");
    ///     s.spawn_with("reload", tx, async |_cx, tx| Ok(tx.send("debug")));
    ///     rx.changed().await?;
    ///     assert_eq!(rx.cloned(), "debug");
    ///     assert!(rx.changed().await.is_err()); // no sender is left: this was the last
    ///     Ok::<_, bowline::Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn watch<T: Send + Sync + 'static>(
        &self,
        name: &'static str,
        initial: T,
    ) -> (WatchTx<'_, T>, WatchRx<'_, T>) {
        channel::open_watch(self, crate::site::intern(name, Location::caller()), initial)
    }

    /// Makes a channel that gives every item to every receiver and keeps the last `capacity` items for the slow ones.
    ///
    /// Senders never wait. A receiver that is more than `capacity` items behind is told what it missed
    /// ([`Lagged`](crate::Lagged)).
    ///
    /// # Panics
    ///
    /// If `capacity` is 0: nothing could be received.
    ///
    /// # Examples
    ///
    /// [`BroadcastRx::recv`] has one that recovers from a lag.
    #[track_caller]
    pub fn broadcast<T: Send + Sync + 'static>(
        &self,
        name: &'static str,
        capacity: usize,
    ) -> (BroadcastTx<'_, T>, BroadcastRx<'_, T>) {
        assert!(capacity > 0, "a broadcast needs room for at least one item");
        channel::open_broadcast(self, crate::site::intern(name, Location::caller()), capacity)
    }

    /// Makes a channel without a buffer: a send is done when a receiver has the item.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// bowline::scope("relay", async |s| {
    ///     let (tx, rx) = s.rendezvous("baton");
    ///     let runner = s.spawn_with("runner", rx, async |_cx, rx| rx.recv().await);
    ///     tx.send("baton").await?; // from here on the runner has it
    ///     assert_eq!(runner.await?, Some("baton"));
    ///     Ok::<_, bowline::Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn rendezvous<T: Send + 'static>(
        &self,
        name: &'static str,
    ) -> (RendezvousTx<'_, T>, RendezvousRx<'_, T>) {
        channel::open_rendezvous(self, crate::site::intern(name, Location::caller()))
    }

    /// Makes an object that several tasks may hold, with its holders known.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// bowline::scope("count", async |s| {
    ///     let hits = s.cx().share("hits", AtomicU32::new(0));
    ///     for _ in 0..3 {
    ///         s.spawn_with("hit", hits.clone(), async |_cx, hits| {
    ///             hits.fetch_add(1, Ordering::Relaxed);
    ///             Ok(())
    ///         });
    ///     }
    ///     Ok::<_, bowline::Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn share<S: Send + Sync + 'static>(&self, name: &'static str, object: S) -> Shared<'_, S> {
        Shared::new(self, crate::site::intern(name, Location::caller()), object)
    }

    /// Makes a [`Notify`] to wait at, and the first right to notify, held by this task.
    #[track_caller]
    pub fn notify(&self, name: &'static str) -> (Notifier<'_>, Notify) {
        lock::open_notify(self, name, Location::caller())
    }

    /// Makes a [`Latch`] and the first count that holds it shut, held by this task.
    #[track_caller]
    pub fn latch(&self, name: &'static str) -> (Count<'_>, Latch) {
        lock::open_latch(self, name, Location::caller())
    }

    /// Makes a barrier and returns its `seats` seats, all held by this task: hand them out. See [`Seat`].
    ///
    /// # Panics
    ///
    /// If `seats` is 0: nobody could ever arrive.
    #[track_caller]
    #[must_use = "a barrier is its seats; those dropped break it"]
    pub fn barrier(&self, name: &'static str, seats: usize) -> Vec<Seat<'_>> {
        assert!(seats > 0, "a barrier needs at least one seat");
        lock::open_barrier(self, name, Location::caller(), seats)
    }
}

/// What may be handed over to a task: it is unbound from the giver (packed) and bound to the receiver.
///
/// Implemented by all ends, by deliveries and owned permits, by [`Shared`], by `()`, and by tuples, `Vec`s and `Option`s of
/// them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be handed over to a task: it is neither an end nor a `Shared`",
    label = "not an end, a `Shared`, or a tuple, `Vec` or `Option` of them",
    note = "plain data, an `Arc` too, is captured: `async move |cx, ends| …`, or `spawn` if there is no end to hand over"
)]
pub trait Carry {
    /// The same thing on its way between two tasks.
    type Packed: Bind;
    /// Unbinds from the task that gives it away.
    fn pack(self) -> Self::Packed;
}

/// What comes out at the receiving task; the other half of [`Carry`].
pub trait Bind: Send + 'static {
    /// The thing bound to a task.
    type In<'c>: Send;
    /// Binds to the task that receives it.
    fn bind(self, cx: &Cx) -> Self::In<'_>;
}

/// Gives the future of `async |cx, ends| …` a name, so that it can be asked to be `Send`. Implemented for every such closure.
pub trait TaskFn<'c, P: Bind, R>: FnOnce(&'c Cx, P::In<'c>) -> Self::Fut {
    /// The closure's future.
    type Fut: Future<Output = R> + Send;
}

impl<'c, P, R, F, Fut> TaskFn<'c, P, R> for F
where
    P: Bind,
    F: FnOnce(&'c Cx, P::In<'c>) -> Fut,
    Fut: Future<Output = R> + Send,
{
    type Fut = Fut;
}

/// The future of a task that was handed something: it binds first, in its own context.
///
/// The packed ends wait in an unpolled child: a place that is alive. They are dropped with it if it is never polled.
pub(crate) async fn run_task<P, R, F>(packed: P, task: F) -> R
where
    P: Bind,
    F: for<'c> TaskFn<'c, P, R>,
{
    let cx = Cx::here();
    let ends = packed.bind(&cx);
    task(&cx, ends).await
}

macro_rules! carry_tuples {
    ($(($($part:ident $at:tt),*))*) => {$(
        impl<$($part: Carry),*> Carry for ($($part,)*) {
            type Packed = ($($part::Packed,)*);
            #[allow(clippy::unused_unit, reason = "the empty tuple is one of the cases")]
            fn pack(self) -> Self::Packed { ($(self.$at.pack(),)*) }
        }
        impl<$($part: Bind),*> Bind for ($($part,)*) {
            type In<'c> = ($($part::In<'c>,)*);
            #[allow(clippy::unused_unit, unused_variables, reason = "the empty tuple is one of the cases")]
            fn bind(self, cx: &Cx) -> Self::In<'_> { ($(self.$at.bind(cx),)*) }
        }
    )*};
}

carry_tuples! {
    ()
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

impl<A: Carry> Carry for Vec<A> {
    type Packed = Vec<A::Packed>;
    fn pack(self) -> Self::Packed {
        self.into_iter().map(Carry::pack).collect()
    }
}

impl<A: Bind> Bind for Vec<A> {
    type In<'c> = Vec<A::In<'c>>;
    fn bind(self, cx: &Cx) -> Self::In<'_> {
        self.into_iter().map(|part| part.bind(cx)).collect()
    }
}

impl<A: Carry> Carry for Option<A> {
    type Packed = Option<A::Packed>;
    fn pack(self) -> Self::Packed {
        self.map(Carry::pack)
    }
}

impl<A: Bind> Bind for Option<A> {
    type In<'c> = Option<A::In<'c>>;
    fn bind(self, cx: &Cx) -> Self::In<'_> {
        self.map(|part| part.bind(cx))
    }
}
