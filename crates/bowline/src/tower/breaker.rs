//! A breaker as a layer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::judge::{ByResult, Judge};
use crate::breaker::Probe;
use crate::call::{ByError, Class};
use crate::{Breaker, BreakerError, BreakerOpen};

/// Puts a [`Breaker`] before a service.
///
/// A service behind an open breaker is ready: the call is refused, with an error that says why. If it were not ready, callers
/// would wait for an upstream that is down.
#[derive(Clone, Debug)]
pub struct BreakerLayer<J = ByError> {
    breaker: Breaker,
    judge: J,
}

impl BreakerLayer {
    /// Makes a layer of this breaker; all services it makes, and their clones, share it.
    #[must_use]
    pub fn new(breaker: &Breaker) -> Self {
        Self { breaker: breaker.clone(), judge: ByError }
    }

    /// Lets a closure say what a result is: `None` for a success.
    ///
    /// # Examples
    ///
    /// ```
    /// use bowline::tower::BreakerLayer;
    /// use bowline::{Breaker, Class};
    /// use std::convert::Infallible;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # bowline::testing::example(async {
    /// let breaker = Breaker::new("billing").at_least(1);
    /// let client = ServiceBuilder::new()
    ///     .layer(BreakerLayer::new(&breaker).judge(|answer: &Result<u16, Infallible>| match answer {
    ///         Ok(status) if *status >= 400 => Some(Class::of_status(*status, None)),
    ///         _ => None,
    ///     }))
    ///     .service(service_fn(async |()| Ok::<_, Infallible>(503)));
    /// assert_eq!(client.clone().oneshot(()).await.unwrap(), 503);
    /// assert!(client.oneshot(()).await.is_err(), "it has opened");
    /// # });
    /// ```
    #[must_use]
    pub fn judge<T, E, F>(self, judge: F) -> BreakerLayer<ByResult<F>>
    where
        F: Fn(&Result<T, E>) -> Option<Class>,
    {
        BreakerLayer { breaker: self.breaker, judge: ByResult(judge) }
    }
}

impl<S, J: Clone> Layer<S> for BreakerLayer<J> {
    type Service = BreakerService<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService { inner, breaker: self.breaker.clone(), judge: self.judge.clone() }
    }
}

/// A service behind a [`Breaker`]; see [`BreakerLayer`].
#[derive(Clone, Debug)]
pub struct BreakerService<S, J = ByError> {
    inner: S,
    breaker: Breaker,
    judge: J,
}

impl<S, J, Q> Service<Q> for BreakerService<S, J>
where
    S: Service<Q>,
    S::Error: fmt::Display,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = BreakerError<S::Error>;
    type Future = Guarded<S::Future, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(BreakerError::Failed)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        match Probe::admit(&self.breaker) {
            Ok(probe) => {
                let (future, judge) = (self.inner.call(request), self.judge.clone());
                Guarded { state: State::Admitted { future, probe, judge } }
            }
            Err(open) => Guarded { state: State::Refused { open: Some(open) } },
        }
    }
}

pin_project! {
    /// The future of a call through a breaker. Dropped before its end, the call counts as nothing.
    pub struct Guarded<F, J> {
        #[pin]
        state: State<F, J>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, J> {
        Admitted {
            #[pin]
            future: F,
            probe: Probe,
            judge: J,
        },
        Refused { open: Option<BreakerOpen> },
    }
}

impl<F, J, T, E> Future for Guarded<F, J>
where
    F: Future<Output = Result<T, E>>,
    E: fmt::Display,
    J: Judge<T, E>,
{
    type Output = Result<T, BreakerError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Admitted { future, probe, judge } => {
                let result = ready!(future.poll(cx));
                match (judge.class_of(&result), &result) {
                    (None, _) => probe.succeeded(),
                    (Some(class), Ok(_)) => probe.failed(class),
                    (Some(class), Err(error)) => probe.failed_because(class, error),
                }
                Poll::Ready(result.map_err(BreakerError::Failed))
            }
            StateProjection::Refused { open } => {
                Poll::Ready(Err(BreakerError::Open(open.take().expect("polled after it had ended"))))
            }
        }
    }
}

impl<F, J> fmt::Debug for Guarded<F, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded")
    }
}
