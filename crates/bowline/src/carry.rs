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

use crate::queue::{self, Bound, Overflow, Rx, Tx};
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
        let task = record::with_current(|current| current.map_or(0, |record| record.task_id()));
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
}

/// What may be handed over to a task: it is unbound from the giver (packed) and bound to the receiver.
///
/// Implemented by all ends, by [`Shared`], by `()`, and by tuples, `Vec`s and `Option`s of them.
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
