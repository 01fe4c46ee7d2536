//! What a pool calls: how a resource is made, checked, reset and discarded.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::BoxError;
use crate::cause::Cancelled;
use crate::timeout::timeout;

type Boxed<'a, R> = Pin<Box<dyn Future<Output = R> + Send + 'a>>;
type Tend<T> = dyn for<'a> Fn(&'a mut T) -> Boxed<'a, Result<(), BoxError>> + Send + Sync;

/// An async closure that looks after a resource by reference. Implemented for every such closure whose future is `Send`; there
/// is no need to name it.
///
/// An async closure that captures something by reference to itself is none; what a hook needs to know belongs into the resource,
/// or is cloned before a block that does not borrow: `move |_| { let seen = seen.clone(); async move { … } }`.
pub trait Hook<'a, T: 'a, R>: Fn(&'a mut T) -> Self::Fut {
    /// The closure's future.
    type Fut: Future<Output = R> + Send + 'a;
}

impl<'a, T: 'a, R, F, Fut> Hook<'a, T, R> for F
where
    F: Fn(&'a mut T) -> Fut,
    Fut: Future<Output = R> + Send + 'a,
{
    type Fut = Fut;
}

pub(super) struct Hooks<T> {
    make: Box<dyn Fn() -> Boxed<'static, Result<T, BoxError>> + Send + Sync>,
    check: Option<Box<Tend<T>>>,
    reset: Option<Box<Tend<T>>>,
    discard: Option<Box<dyn Fn(T) -> Boxed<'static, ()> + Send + Sync>>,
    /// How long making may take; `None` only in models, which have no time.
    pub(super) make_within: Option<Duration>,
    /// How long each of the others may.
    pub(super) tend_within: Option<Duration>,
}

/// How a hook ended.
pub(super) enum Done<R> {
    Value(R),
    /// It took too long, and was dropped.
    TooLong(Duration),
    /// The pool was cancelled.
    Cancelled,
}

impl<T: Send + 'static> Hooks<T> {
    pub(super) fn new<F, Fut, E>(make: F, make_within: Duration, tend_within: Duration) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let make = move || -> Boxed<'static, Result<T, BoxError>> {
            let making = make();
            Box::pin(async move { making.await.map_err(E::into) })
        };
        let (make_within, tend_within) = (Some(make_within), Some(tend_within));
        Self { make: Box::new(make), check: None, reset: None, discard: None, make_within, tend_within }
    }

    pub(super) fn set_check<F, E>(&mut self, check: F)
    where
        F: for<'a> Hook<'a, T, Result<(), E>> + Send + Sync + 'static,
        E: Into<BoxError>,
    {
        self.check = Some(tend(check));
    }

    pub(super) fn set_reset<F, E>(&mut self, reset: F)
    where
        F: for<'a> Hook<'a, T, Result<(), E>> + Send + Sync + 'static,
        E: Into<BoxError>,
    {
        self.reset = Some(tend(reset));
    }

    pub(super) fn set_discard<F, Fut>(&mut self, discard: F)
    where
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.discard = Some(Box::new(move |item| Box::pin(discard(item))));
    }

    pub(super) async fn make(&self) -> Done<Result<T, BoxError>> {
        bounded(self.make_within, (self.make)()).await
    }

    pub(super) async fn check(&self, item: &mut T) -> Done<Result<(), BoxError>> {
        run(self.check.as_deref(), self.tend_within, item).await
    }

    pub(super) async fn reset(&self, item: &mut T) -> Done<Result<(), BoxError>> {
        run(self.reset.as_deref(), self.tend_within, item).await
    }

    pub(super) fn has_discard(&self) -> bool {
        self.discard.is_some()
    }

    /// The future of the discard; without one the item is dropped here.
    pub(super) fn discard(&self, item: T) -> Option<Boxed<'static, ()>> {
        self.discard.as_ref().map(|discard| discard(item))
    }
}

fn tend<T: 'static, F, E>(hook: F) -> Box<Tend<T>>
where
    F: for<'a> Hook<'a, T, Result<(), E>> + Send + Sync + 'static,
    E: Into<BoxError>,
{
    fn call<'a, T, F, E>(hook: &F, item: &'a mut T) -> Boxed<'a, Result<(), BoxError>>
    where
        F: Hook<'a, T, Result<(), E>>,
        E: Into<BoxError>,
    {
        let future = hook(item);
        Box::pin(async move { future.await.map_err(E::into) })
    }
    Box::new(move |item| call(&hook, item))
}

async fn run<T>(
    hook: Option<&Tend<T>>,
    within: Option<Duration>,
    item: &mut T,
) -> Done<Result<(), BoxError>> {
    match hook {
        Some(hook) => bounded(within, hook(item)).await,
        None => Done::Value(Ok(())),
    }
}

async fn bounded<R>(within: Option<Duration>, hook: Boxed<'_, R>) -> Done<R> {
    let Some(within) = within else { return Done::Value(hook.await) };
    match timeout(within, hook).await {
        Ok(value) => Done::Value(value),
        Err(_) if crate::is_cancelled() => Done::Cancelled,
        Err(Cancelled { .. }) => Done::TooLong(within),
    }
}
