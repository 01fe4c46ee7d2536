//! What answers when a call has no answer.

use std::future::Future;

use super::class::{Class, Classifier};
use super::failed::CallFailed;
use super::stack::Call;

/// A [`Call`] with a fallback; made by [`Call::fallback`].
#[must_use = "nothing is called before it is run"]
pub struct FallbackCall<'a, C, F> {
    pub(super) call: &'a Call<C>,
    pub(super) when: fn(Class) -> bool,
    pub(super) fallback: F,
}

impl<C, F> FallbackCall<'_, C, F> {
    /// Sets which failures the fallback answers for.
    pub fn when(mut self, when: fn(Class) -> bool) -> Self {
        self.when = when;
        self
    }

    /// Makes the call, and asks the fallback if it has no answer.
    ///
    /// # Cancel safety
    ///
    /// As of [`Call::run`]; a fallback in progress is dropped.
    ///
    /// # Errors
    ///
    /// [`CallFailed`], with both errors if the fallback failed too.
    pub async fn run<T, E, G, Fut, FallFut>(self, call: G) -> Result<T, CallFailed<E>>
    where
        C: Classifier<E>,
        G: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        F: FnOnce(Class) -> FallFut,
        FallFut: Future<Output = Result<T, E>>,
    {
        let failed = match self.call.run(call).await {
            Err(failed) if (self.when)(failed.class) => failed,
            answered => return answered,
        };
        match (self.fallback)(failed.class).await {
            Ok(value) => Ok(value),
            Err(error) => Err(CallFailed { fallback: Some(error), ..failed }),
        }
    }
}
