//! Retries as a layer.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::Boxed;
use super::judge::{ByResult, Judge};
use crate::call::{ByError, Class, Classify};
use crate::sync::{LockExt, Mutex};
use crate::{Attempt, Retry, RetryError, Stopped};

/// Calls a service again when that may help, as a [`Retry`] says.
///
/// A request is cloned for each attempt but the last. Where it cannot be - a body that streams - say with
/// [`repeat`](Self::repeat) which requests can be made again. The first attempt goes to the service that was asked for readiness, and
/// each other one asks again first.
#[derive(Clone, Debug)]
pub struct RetryLayer<J = ByError, A = ByClone> {
    retry: Retry,
    judge: J,
    again: A,
}

impl RetryLayer {
    /// Makes a layer of this policy.
    #[must_use]
    pub fn new(retry: Retry) -> Self {
        Self { retry, judge: ByError, again: ByClone }
    }
}

impl<J, A> RetryLayer<J, A> {
    /// Lets a closure say what a result is: `None` for a success. An answer that is judged a failure and not tried again is
    /// returned as the answer it is.
    #[must_use]
    pub fn judge<T, E, F>(self, judge: F) -> RetryLayer<ByResult<F>, A>
    where
        F: Fn(&Result<T, E>) -> Option<Class>,
    {
        RetryLayer { retry: self.retry, judge: ByResult(judge), again: self.again }
    }

    /// Lets a closure make the request of the next attempt; `None` if this one can be made only once. Then it gets one attempt,
    /// whatever comes of it.
    #[must_use]
    pub fn repeat<Q, F>(self, repeat: F) -> RetryLayer<J, ByRepeat<F>>
    where
        F: Fn(&Q) -> Option<Q>,
    {
        RetryLayer { retry: self.retry, judge: self.judge, again: ByRepeat(repeat) }
    }
}

/// Says how a request is made again: it is cloned ([`ByClone`]), or a closure says ([`ByRepeat`]).
pub trait Again<Q>: sealed::MakesAgain<Q> {}

impl<Q, A: sealed::MakesAgain<Q>> Again<Q> for A {}

/// Requests are cloned.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClone;

/// A closure makes the request again, if it can be.
#[derive(Clone)]
pub struct ByRepeat<F>(F);

impl<F> fmt::Debug for ByRepeat<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByRepeat")
    }
}

mod sealed {
    use super::{ByClone, ByRepeat};

    pub trait MakesAgain<Q> {
        fn again(&self, request: &Q) -> Option<Q>;
    }

    impl<Q: Clone> MakesAgain<Q> for ByClone {
        fn again(&self, request: &Q) -> Option<Q> {
            Some(request.clone())
        }
    }

    impl<Q, F: Fn(&Q) -> Option<Q>> MakesAgain<Q> for ByRepeat<F> {
        fn again(&self, request: &Q) -> Option<Q> {
            (self.0)(request)
        }
    }
}

impl<S, J: Clone, A: Clone> Layer<S> for RetryLayer<J, A> {
    type Service = RetryService<S, J, A>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService { inner, layer: self.clone() }
    }
}

/// A service that is called again when that may help; see [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct RetryService<S, J = ByError, A = ByClone> {
    inner: S,
    layer: RetryLayer<J, A>,
}

/// A failure as the layer judged it, whether it came as an error or as an answer.
struct Judged<T, E> {
    result: Result<T, E>,
    class: Class,
    /// Whether the request cannot be made again.
    only: bool,
}

impl<T, E> Classify for Judged<T, E> {
    fn class(&self) -> Class {
        if self.only { Class::Business } else { self.class }
    }
}

impl<S, J, A, Q> Service<Q> for RetryService<S, J, A>
where
    S: Service<Q> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    J: Judge<S::Response, S::Error> + Clone + Send + Sync + 'static,
    A: Again<Q> + Clone + Send + Sync + 'static,
    Q: Send + 'static,
{
    type Response = S::Response;
    type Error = RetryError<S::Error>;
    type Future = Boxed<S::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|last| {
            let result = Err(last);
            let class = self.layer.judge.class_of(&result).unwrap_or(Class::Network);
            let Err(last) = result else { unreachable!("it was made so") };
            RetryError { last, class, attempts: 0, stopped: Stopped::NotRetriable }
        })
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone); // the one that was asked
        let RetryLayer { retry, judge, again } = self.layer.clone();
        Box::pin(async move {
            // Attempts come one after the other; each takes the service and its request, and leaves them to the next.
            let baton = Mutex::new(Some((ready, request)));
            let (baton, judge, again) = (&baton, &judge, &again);
            let attempt = |attempt: Attempt| async move {
                let (mut service, request) =
                    baton.lock_unpoisoned().take().expect("the attempt before has left it");
                let next = if attempt.is_last() { None } else { again.again(&request) };
                let result = match attempt.number() {
                    1 => service.call(request).await,
                    _ => match poll_fn(|cx| service.poll_ready(cx)).await {
                        Ok(()) => service.call(request).await,
                        Err(error) => Err(error),
                    },
                };
                let Some(class) = judge.class_of(&result) else { return Ok((attempt.number(), result)) };
                let only = next.is_none() && !attempt.is_last();
                *baton.lock_unpoisoned() = next.map(|next| (service, next));
                Err(Judged { result, class, only })
            };
            let failed = match retry.run(attempt).await {
                Ok((_, Ok(answer))) => return Ok(answer),
                // Judged no failure, though it is an error: it is the caller's.
                Ok((attempts, Err(last))) => {
                    let stopped = Stopped::NotRetriable;
                    return Err(RetryError { last, class: Class::Business, attempts, stopped });
                }
                Err(failed) => failed,
            };
            let RetryError { last: Judged { result, class, .. }, attempts, stopped, .. } = failed;
            result.map_err(|last| RetryError { last, class, attempts, stopped })
        })
    }
}
