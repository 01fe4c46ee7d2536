//! What a stage does with one record: the forms a user may write it in, as one.
//!
//! A step borrows its record, so that it is still there when the step fails, panics or is cancelled: nothing is cloned for
//! the good case. A step is cloned for each record, which is what lets an `async move` closure lend what it captured to its
//! future.

use std::error::Error;
use std::future::Future;
use std::marker::PhantomData;

use super::caught::{caught, caught_now};
use super::failed::FailedBy;
use crate::cause::Cancelled;
use crate::panic::Panic;
use crate::scope::scope;

/// Gives the future of `async |record| …` a name, so that it can be asked to be `Send`. Implemented for every such closure
/// and function.
pub trait StageFn<A, R>: FnOnce(A) -> Self::Fut {
    /// The closure's future.
    type Fut: Future<Output = R> + Send;
}

impl<A, R, F, Fut> StageFn<A, R> for F
where
    F: FnOnce(A) -> Fut,
    Fut: Future<Output = R> + Send,
{
    type Fut = Fut;
}

/// What became of a record in a stage.
#[doc(hidden)]
pub enum Worked<In, Out> {
    Passed(Out),
    Filtered,
    Failed(In, FailedBy),
}

/// What a [`Stage`](crate::Stage) does. It is implemented by what the constructors of `Stage` return.
pub trait Step: sealed::Works<Input: Send + Sync + 'static, Output: Send + Sync + 'static> {}

impl<S: sealed::Works<Input: Send + Sync + 'static, Output: Send + Sync + 'static>> Step for S {}

pub(super) mod sealed {
    use super::{Future, Worked};

    pub trait Works: Clone + Send + 'static {
        type Input;
        type Output;

        fn work(self, record: Self::Input) -> impl Future<Output = Worked<Self::Input, Self::Output>> + Send;
    }
}

type Boxed = Box<dyn Error + Send + Sync>;

fn failed<E: Into<Boxed>>(answer: Result<E, Panic>) -> FailedBy {
    match answer {
        Ok(error) => FailedBy::Error(error.into()),
        Err(panic) => FailedBy::Panicked(panic),
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[doc(hidden)]
        pub struct $name<F, A, B, E> {
            pub(super) f: F,
            pub(super) types: PhantomData<fn(A) -> (B, E)>,
        }

        impl<F: Clone, A, B, E> Clone for $name<F, A, B, E> {
            fn clone(&self) -> Self {
                Self { f: self.f.clone(), types: PhantomData }
            }
        }
    )*};
}

steps! {
    /// Makes another record of each.
    Maps;
    /// Lets pass, or not.
    Filters;
    /// Changes a record in its place.
    Edits;
    /// Makes another record of each, on a thread for blocking work.
    Computes;
}

impl<F, A, B, E> sealed::Works for Maps<F, A, B, E>
where
    F: for<'r> StageFn<&'r A, Result<B, E>> + Clone + Send + 'static,
    A: Send + Sync + 'static,
    B: Send + 'static,
    E: Into<Boxed> + Send + 'static,
{
    type Input = A;
    type Output = B;

    async fn work(self, record: A) -> Worked<A, B> {
        match caught(|| (self.f)(&record)).await {
            Ok(Ok(out)) => Worked::Passed(out),
            Ok(Err(error)) => Worked::Failed(record, failed(Ok(error))),
            Err(panic) => Worked::Failed(record, failed::<E>(Err(panic))),
        }
    }
}

impl<F, A, E> sealed::Works for Filters<F, A, A, E>
where
    F: for<'r> StageFn<&'r A, Result<bool, E>> + Clone + Send + 'static,
    A: Send + Sync + 'static,
    E: Into<Boxed> + Send + 'static,
{
    type Input = A;
    type Output = A;

    async fn work(self, record: A) -> Worked<A, A> {
        match caught(|| (self.f)(&record)).await {
            Ok(Ok(true)) => Worked::Passed(record),
            Ok(Ok(false)) => Worked::Filtered,
            Ok(Err(error)) => Worked::Failed(record, failed(Ok(error))),
            Err(panic) => Worked::Failed(record, failed::<E>(Err(panic))),
        }
    }
}

impl<F, A, E> sealed::Works for Edits<F, A, A, E>
where
    F: for<'r> StageFn<&'r mut A, Result<(), E>> + Clone + Send + 'static,
    A: Send + 'static,
    E: Into<Boxed> + Send + 'static,
{
    type Input = A;
    type Output = A;

    async fn work(self, mut record: A) -> Worked<A, A> {
        match caught(|| (self.f)(&mut record)).await {
            Ok(Ok(())) => Worked::Passed(record),
            Ok(Err(error)) => Worked::Failed(record, failed(Ok(error))),
            Err(panic) => Worked::Failed(record, failed::<E>(Err(panic))),
        }
    }
}

impl<F, A, B, E> sealed::Works for Computes<F, A, B, E>
where
    F: FnOnce(&A) -> Result<B, E> + Clone + Send + 'static,
    A: Send + 'static,
    B: Send + 'static,
    E: Into<Boxed> + Send + 'static,
{
    type Input = A;
    type Output = B;

    async fn work(self, record: A) -> Worked<A, B> {
        // In a scope of its own: a cancelled pipeline waits for a thread that is at work.
        let f = self.f;
        let worked = scope("compute", async move |s| {
            let work = move || {
                let answer = caught_now(|| f(&record));
                Ok::<_, Cancelled>((record, answer))
            };
            s.spawn_blocking("compute", work).await
        });
        match worked.await {
            Ok((_, Ok(Ok(out)))) => Worked::Passed(out),
            Ok((record, Ok(Err(error)))) => Worked::Failed(record, failed(Ok(error))),
            Ok((record, Err(panic))) => Worked::Failed(record, failed::<E>(Err(panic))),
            // The rule of cancellation takes the worker away at its next await, and counts the record as cancelled.
            Err(_cancelled) => std::future::pending().await,
        }
    }
}

/// Takes the records of a stage that runs alone.
pub(super) struct Collects<F, A> {
    pub(super) f: F,
    pub(super) types: PhantomData<fn(A)>,
}

impl<F: Clone, A> Clone for Collects<F, A> {
    fn clone(&self) -> Self {
        Self { f: self.f.clone(), types: PhantomData }
    }
}

impl<F, A> sealed::Works for Collects<F, A>
where
    F: FnOnce(A) + Clone + Send + 'static,
    A: Send + 'static,
{
    type Input = A;
    type Output = ();

    async fn work(self, record: A) -> Worked<A, ()> {
        (self.f)(record);
        Worked::Passed(())
    }
}
