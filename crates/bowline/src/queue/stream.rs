//! Receiving ends as streams.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::core::{Chan, Mode};
use super::receiver::{FreeRx, Rx};
use super::waiting::Receiving;
use crate::cause::Cancelled;

/// The items of an [`Rx`] as a [`Stream`]; see [`Rx::into_stream`].
///
/// It ends after the last item, or after the error that says that the context was cancelled: the end of a queue and a
/// cancellation are different things here too. Dropped, it gives its place in line back, and an item granted to it goes
/// to the next receiver.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Overflow, scope};
/// use futures_util::TryStreamExt as _;
///
/// scope("stream", async |s| {
///     let (tx, rx) = s.queue("numbers", Bound::items(8), Overflow::Block);
///     for number in 1..=3 {
///         tx.send(number).await?;
///     }
///     drop(tx);
///     let numbers: Vec<u32> = rx.into_stream().try_collect().await?;
///     assert_eq!(numbers, [1, 2, 3]);
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use = "a stream does nothing unless polled"]
pub struct RxStream<'t, T> {
    // Before the end: a place in line goes while its queue still has this receiver.
    inner: Inner<T>,
    rx: Rx<'t, T>,
}

/// The items of a [`FreeRx`] as a [`Stream`]: [`RxStream`] that may be kept and sent anywhere, as the body of a response.
#[must_use = "a stream does nothing unless polled"]
pub struct FreeRxStream<T> {
    inner: Inner<T>,
    rx: FreeRx<T>,
}

struct Inner<T> {
    wait: Receiving<Arc<Chan<T>>, T>,
    ended: bool,
}

impl<T> Inner<T> {
    fn new(chan: &Arc<Chan<T>>) -> Self {
        Self { wait: Receiving::new(Arc::clone(chan), Mode::Take), ended: false }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Cancelled>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.wait.poll(cx)).transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next.map(|next| next.map(|taken| taken.queued.item)))
    }
}

macro_rules! streaming {
    ($items:ident, $rx:ident, $($life:lifetime)?) => {
        impl<$($life,)? T> $items<$($life,)? T> {
            pub(super) fn new(rx: $rx<$($life,)? T>) -> Self {
                Self { inner: Inner::new(&rx.end.chan), rx }
            }
        }

        impl<$($life,)? T: Send + 'static> Stream for $items<$($life,)? T> {
            type Item = Result<T, Cancelled>;

            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                self.inner.poll_next(cx)
            }
        }

        impl<$($life,)? T> fmt::Debug for $items<$($life,)? T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($items)).field(&self.rx).finish()
            }
        }
    };
}

streaming!(RxStream, Rx, 't);
streaming!(FreeRxStream, FreeRx,);
