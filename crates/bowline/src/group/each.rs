//! Fan-out over the items of an iterator or a stream: one task each, and never more at once than the limit.
//!
//! Room is reserved before an item is taken, so no more items are in memory than tasks may run. The tasks are spawned, not
//! polled by their consumer: they go on, and let go of their locks, while the consumer or the stream waits.

use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_core::Stream;

use super::outcome::Outcome;
use super::policy::{AtMost, Policy, Unlimited};
use super::{Group, group};

/// Runs `f` on every item, at most so many at once, and returns what became of each, in the order of the items.
///
/// `items` is an iterator or a stream. The limit is part of the policy and cannot be left out: memory holds the results and
/// as many items as may run. Under [`FailFast`](crate::FailFast) the first failure ends it: items not taken until then have
/// no slot. A stream that can fail yields `Result`s: let `f` return the error.
///
/// # Cancel safety
///
/// If the future is dropped, the tasks are aborted and adopted by the enclosing scope; results and items not yet taken are
/// lost.
///
/// # Panics
///
/// With the panic of `items` or of `f` itself, after every task is gone. Panics of the futures of `f` are slots.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, FailFast, map};
///
/// async fn fetch(page: u32) -> Result<String, Cancelled> {
///     Ok(format!("page {page}"))
/// }
///
/// let pages = map("fetch", FailFast.at_most(8), 1..=3, fetch).await.all_ok()?;
/// assert_eq!(pages, ["page 1", "page 2", "page 3"]);
/// # Ok::<_, Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn map<K, I, T, E, P, F, Fut>(
    name: &'static str,
    policy: AtMost<P>,
    items: I,
    f: F,
) -> impl Future<Output = Outcome<T, E>>
where
    I: Items<K>,
    F: FnMut(I::Item) -> Fut,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    P: Unlimited,
{
    let place = Location::caller();
    group(name, policy, async move |g: &Group<T, E, AtMost<P>>| spawn_each(g, name, place, items, f).await)
}

/// Runs `f` on every item, at most so many at once, and keeps nothing but the counts and the first failure.
///
/// As [`map`], with memory that does not grow with the number of items: for streams without an end.
///
/// # Cancel safety
///
/// As [`map`].
///
/// # Panics
///
/// As [`map`]. The panic of an item's future counts as a failure.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{CollectAll, for_each};
///
/// let sizes = futures_util::stream::iter([3, 0, 5]);
/// let resized = for_each("resize", CollectAll.at_most(2), sizes, |size| async move {
///     if size == 0 { Err("an empty image") } else { Ok(()) }
/// })
/// .await;
/// assert_eq!((resized.counts().ok, resized.counts().failed), (2, 1));
/// assert!(resized.first_failure().is_some());
/// # });
/// ```
#[track_caller]
pub fn for_each<K, I, E, P, F, Fut>(
    name: &'static str,
    policy: AtMost<P>,
    items: I,
    f: F,
) -> impl Future<Output = Outcome<(), E>>
where
    I: Items<K>,
    F: FnMut(I::Item) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
    P: Unlimited,
{
    map(name, policy.without_results(), items, f)
}

async fn spawn_each<K, I, T, E, P, F, Fut>(
    group: &Group<T, E, AtMost<P>>,
    name: &'static str,
    place: &'static Location<'static>,
    items: I,
    mut f: F,
) where
    I: Items<K>,
    F: FnMut(I::Item) -> Fut,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    P: Unlimited,
    AtMost<P>: Policy,
{
    let mut items = pin!(items.into_stream());
    // The reason of an end before the last item is in the slots, or it is the owner's.
    while let Ok(room) = group.reserve().await {
        let Some(item) = poll_fn(|cx| items.as_mut().poll_next(cx)).await else { return };
        room.spawn_at(name, place, f(item));
    }
}

/// What [`map`] and [`for_each`] go over: anything that is an iterator or a stream. `K` tells the two apart and is inferred.
#[diagnostic::on_unimplemented(message = "`{Self}` is neither an iterator nor a stream")]
pub trait Items<K> {
    /// What it yields.
    type Item;
    #[doc(hidden)]
    fn into_stream(self) -> impl Stream<Item = Self::Item>;
}

#[doc(hidden)]
pub enum ByIterator {}

#[doc(hidden)]
pub enum ByStream {}

impl<I: IntoIterator> Items<ByIterator> for I {
    type Item = I::Item;
    fn into_stream(self) -> impl Stream<Item = I::Item> {
        Iterated(self.into_iter())
    }
}

impl<S: Stream> Items<ByStream> for S {
    type Item = S::Item;
    fn into_stream(self) -> impl Stream<Item = S::Item> {
        self
    }
}

/// An iterator as a stream that is always ready.
struct Iterated<I>(I);

// Nothing here is pinned: the iterator is used by `&mut`.
impl<I> Unpin for Iterated<I> {}

impl<I: Iterator> Stream for Iterated<I> {
    type Item = I::Item;
    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}
