//! One arm of a combinator, and what the combinators make of a future or a stream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use pin_project_lite::pin_project;

/// What an arm does when it is polled.
pub trait Arm {
    /// What it answers when it is ready.
    type Answer;
    /// Polls it; after its last answer it is pending for ever.
    fn poll_arm(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Answer>;
}

pin_project! {
    /// The place of an arm in a combinator; empty once it was dropped.
    pub struct Slot<A> {
        #[pin]
        pub(super) arm: Option<A>,
    }
}

impl<A> Slot<A> {
    pub(super) fn new(arm: A) -> Self {
        Self { arm: Some(arm) }
    }

    pub(super) fn drop_arm(self: Pin<&mut Self>) {
        self.project().arm.set(None);
    }
}

impl<A: Arm> Slot<A> {
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Answer> {
        self.project().arm.as_pin_mut().map_or(Poll::Pending, |arm| arm.poll_arm(cx))
    }
}

pin_project! {
    /// An arm of a race: answers with its value.
    pub struct Once<F> {
        #[pin]
        pub(super) future: F,
    }
}

impl<F: Future> Arm for Once<F> {
    type Answer = F::Output;

    fn poll_arm(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

pin_project! {
    /// An arm of a join: keeps its value until the others have theirs. Its future is dropped as soon as it is ready.
    pub struct Keep<F, T> {
        #[pin]
        future: Option<F>,
        value: Option<T>,
    }
}

impl<F, T> Keep<F, T> {
    pub(super) fn new(future: F) -> Self {
        Self { future: Some(future), value: None }
    }
}

impl<F, T> Slot<Keep<F, T>> {
    pub(super) fn take_value(self: Pin<&mut Self>) -> T {
        let value = self.project().arm.as_pin_mut().and_then(|arm| arm.project().value.take());
        value.unwrap_or_else(|| unreachable!("a join ends when every arm has its value"))
    }
}

impl<F: Future<Output = Result<T, E>>, T, E> Arm for Keep<F, T> {
    type Answer = Result<(), E>;

    fn poll_arm(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let Poll::Ready(ended) = future.poll(cx) else { return Poll::Pending };
        this.future.set(None);
        Poll::Ready(ended.map(|value| *this.value = Some(value)))
    }
}

pin_project! {
    /// A future that cannot fail, as `join` sees it: one engine serves it and `try_join`.
    pub struct Sure<F> {
        #[pin]
        pub(super) future: F,
    }
}

impl<F: Future> Future for Sure<F> {
    type Output = Result<F::Output, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map(Ok)
    }
}

pin_project! {
    /// An arm of a merge: answers with every item, and with `None` at its end.
    pub struct Each<S> {
        #[pin]
        pub(super) stream: S,
    }
}

impl<S: Stream> Arm for Each<S> {
    type Answer = Option<S::Item>;

    fn poll_arm(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.project().stream.poll_next(cx)
    }
}
