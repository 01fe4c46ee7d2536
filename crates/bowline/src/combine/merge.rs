//! Several streams as one.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::arms::Arms;
use super::poll_or_drop_all;
use crate::cause::Cancelled;
use crate::track::Leaf;
use crate::wait::{Op, Wait};

/// Makes one stream of two: items come as they are there, in turns if both have some, until both have ended.
///
/// Everything said at [`merge_all`] holds.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// # use futures_util::stream;
/// let mut lines = bowline::merge(stream::iter(["a", "b"]), stream::iter(["1"]));
/// let mut seen = Vec::new();
/// while let Some(line) = lines.next().await? {
///     seen.push(line);
/// }
/// assert_eq!(seen, ["a", "1", "b"]);
/// # Ok::<_, bowline::Cancelled>(())
/// # }).unwrap();
/// ```
pub fn merge<A, B, T>(a: A, b: B) -> Merged<(A, B)>
where
    A: Stream<Item = T>,
    B: Stream<Item = T>,
{
    merge_all((a, b))
}

/// Makes one stream of several: a tuple of two to eight, an array or a `Vec`, all with one type of item.
///
/// Items come as they are there, in turns, so a stream that always has one does not keep the others from being heard. A stream
/// that has ended is dropped; the whole ends when all have. Of none at all it has ended from the beginning.
///
/// The streams are polled only while you wait for the next item. That is right for sources that stand by themselves (queues,
/// sockets, intervals); a stream that runs futures *inside* (`buffered`, say) does not get on while you handle an item, and
/// what those futures hold stays held. Run such work as tasks: see [`group`](crate::group()).
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// # use futures_util::stream;
/// let sources: Vec<_> = (0..3).map(|source| stream::iter([source; 2])).collect();
/// let mut all = bowline::merge_all(sources);
/// let mut seen = Vec::new();
/// while let Some(item) = all.next().await? {
///     seen.push(item);
/// }
/// assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
/// # Ok::<_, bowline::Cancelled>(())
/// # }).unwrap();
/// ```
pub fn merge_all<M: Merge>(streams: M) -> Merged<M> {
    let arms = Box::pin(streams.into_arms());
    Merged { left: arms.count(), arms, first: 0 }
}

/// What [`merge_all`] takes: tuples of two to eight streams, arrays and `Vec`s of streams.
pub trait Merge {
    /// The item of every stream.
    type Item;
    #[doc(hidden)]
    type Arms: Arms<Answer = Option<Self::Item>>;
    #[doc(hidden)]
    fn into_arms(self) -> Self::Arms;
}

/// Several streams as one; made by [`merge`] and [`merge_all`].
pub struct Merged<M: Merge> {
    arms: Pin<Box<M::Arms>>,
    /// Streams that have not ended.
    left: usize,
    /// Whose turn it is.
    first: usize,
}

impl<M: Merge> Merged<M> {
    /// Waits for the next item of any stream; `None` when all have ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: an item leaves its stream only to be returned.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] when the context was cancelled; nothing was taken. Trying again cannot succeed.
    ///
    /// # Panics
    ///
    /// With the panic of a stream, after all are dropped; from then on there is no item.
    pub async fn next(&mut self) -> Result<Option<M::Item>, Cancelled> {
        let mut leaf = Leaf::default();
        poll_fn(|cx| {
            Leaf::check()?;
            match self.poll_item(cx) {
                Poll::Ready(item) => {
                    leaf.clear();
                    Poll::Ready(Ok(item))
                }
                Poll::Pending => match leaf.park(cx, Wait { op: Op::Merge, on: 0 }) {
                    Ok(()) => Poll::Pending,
                    Err(cancelled) => Poll::Ready(Err(cancelled)),
                },
            }
        })
        .await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<M::Item>> {
        let Self { arms, left, first } = self;
        let streams = arms.count();
        let living = std::mem::take(left); // if one panics, none is left
        let mut ended = 0;
        let polled = poll_or_drop_all(arms.as_mut(), |mut arms| {
            let mut pass = arms.as_mut().begin(*first, cx);
            while ended < living {
                let at = arms.as_mut().next_due(&mut pass)?;
                match arms.as_mut().poll_at(at, cx) {
                    Poll::Pending => {}
                    Poll::Ready(Some(item)) => {
                        arms.is_due_again(at);
                        *first = (at + 1) % streams;
                        return Some(item);
                    }
                    Poll::Ready(None) => {
                        ended += 1;
                        arms.as_mut().drop_at(at);
                    }
                }
            }
            None
        });
        *left = living - ended;
        match polled {
            Some(item) => Poll::Ready(Some(item)),
            None if *left == 0 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<M: Merge> Stream for Merged<M> {
    type Item = M::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M::Item>> {
        self.poll_item(cx)
    }
}

impl<M: Merge> fmt::Debug for Merged<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged").field("streams_left", &self.left).finish_non_exhaustive()
    }
}
