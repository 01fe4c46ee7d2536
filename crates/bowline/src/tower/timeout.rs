//! A time-out as a layer.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::call::{Class, Classify};
use crate::cause::Cancelled;
use crate::node::NodeKind;
use crate::timeout::{Limit, Under};

/// Puts a deadline on each call of a service, as [`timeout`](crate::timeout()) does: everything below inherits it, and scopes
/// inside end before the call does.
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    after: Duration,
    place: &'static Location<'static>,
}

impl TimeoutLayer {
    /// Makes a layer that gives each call so much time. An earlier deadline of the caller's context stays in force.
    #[must_use]
    #[track_caller]
    pub fn new(after: Duration) -> Self {
        Self { after, place: Location::caller() }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = TimeoutService<S>;

    fn layer(&self, inner: S) -> TimeoutService<S> {
        TimeoutService { inner, layer: self.clone() }
    }
}

/// A service whose calls have a deadline; see [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct TimeoutService<S> {
    inner: S,
    layer: TimeoutLayer,
}

impl<S: Service<Q>, Q> Service<Q> for TimeoutService<S> {
    type Response = S::Response;
    type Error = TimeoutError<S::Error>;
    type Future = Limited<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(TimeoutError::Failed)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let TimeoutLayer { after, place } = self.layer;
        Limited { call: Under::new(place, Limit::After(after), NodeKind::Timeout, self.inner.call(request)) }
    }
}

pin_project! {
    /// The future of a call with a deadline.
    pub struct Limited<F> {
        #[pin]
        call: Under<F>,
    }
}

impl<F, T, E> Future for Limited<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, TimeoutError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map(|ended| match ended {
            Ok(result) => result.map_err(TimeoutError::Failed),
            Err(cancelled) => Err(TimeoutError::Cancelled(cancelled)),
        })
    }
}

impl<F> fmt::Debug for Limited<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limited")
    }
}

/// Why a call with a deadline has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutError<E> {
    /// Its context was cancelled: by the deadline, usually ([`Cancelled::is_deadline`]). It may have had its effect.
    Cancelled(Cancelled),
    /// The call's own error.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for TimeoutError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for TimeoutError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => cancelled.source(),
            Self::Failed(error) => error.source(),
        }
    }
}

impl<E: Classify> Classify for TimeoutError<E> {
    fn class(&self) -> Class {
        match self {
            Self::Cancelled(cancelled) => cancelled.class(),
            Self::Failed(error) => error.class(),
        }
    }
}
