//! A bulkhead as a layer.

use std::panic::Location;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::Boxed;
use super::judge::{ByResult, Judge};
use crate::call::{ByError, Class};
use crate::{Bulkhead, BulkheadError};

/// Puts a [`Bulkhead`] before a service: a call waits for a place, and has it until its future ends.
///
/// The wait is part of the call, not of its readiness; how many may wait and for how long, the bulkhead says.
#[derive(Clone, Debug)]
pub struct BulkheadLayer<J = ByError> {
    bulkhead: Bulkhead,
    place: &'static Location<'static>,
    judge: J,
}

impl BulkheadLayer {
    /// Makes a layer of this bulkhead; all services it makes, and their clones, share it.
    #[must_use]
    #[track_caller]
    pub fn new(bulkhead: &Bulkhead) -> Self {
        Self { bulkhead: bulkhead.clone(), place: Location::caller(), judge: ByError }
    }

    /// Lets a closure say what a result is: `None` for a success. A bulkhead asks only if it [adapts](Bulkhead::adapt).
    #[must_use]
    pub fn judge<T, E, F>(self, judge: F) -> BulkheadLayer<ByResult<F>>
    where
        F: Fn(&Result<T, E>) -> Option<Class>,
    {
        BulkheadLayer { bulkhead: self.bulkhead, place: self.place, judge: ByResult(judge) }
    }
}

impl<S, J: Clone> Layer<S> for BulkheadLayer<J> {
    type Service = BulkheadService<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        BulkheadService { inner, layer: self.clone() }
    }
}

/// A service behind a [`Bulkhead`]; see [`BulkheadLayer`].
#[derive(Clone, Debug)]
pub struct BulkheadService<S, J = ByError> {
    inner: S,
    layer: BulkheadLayer<J>,
}

impl<S, J, Q> Service<Q> for BulkheadService<S, J>
where
    S: Service<Q> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    J: Judge<S::Response, S::Error> + Clone + Send + 'static,
    Q: Send + 'static,
{
    type Response = S::Response;
    type Error = BulkheadError<S::Error>;
    type Future = Boxed<S::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(BulkheadError::Failed)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone); // the one that was asked
        let BulkheadLayer { bulkhead, place, judge } = self.layer.clone();
        Box::pin(async move {
            let slot = bulkhead.enter_at(place).await.map_err(BulkheadError::NoSlot)?;
            let result = ready.call(request).await;
            match judge.class_of(&result) {
                None => slot.succeeded(),
                Some(class) => slot.failed(class),
            }
            result.map_err(BulkheadError::Failed)
        })
    }
}
