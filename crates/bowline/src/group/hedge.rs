//! Hedged attempts: the same work again when the first is slow, and whoever is first.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::policy::FirstSuccess;
use super::{Group, group};
use crate::cause::Cancelled;
use crate::race;

/// Runs attempt after attempt until one succeeds: the next starts when the last was given `delay` or one failed, whichever
/// comes first, and up to `max_attempts` in all, counted from 1.
///
/// The first value is returned when the other attempts were cancelled *and are gone*: their destructors have run. Attempts
/// may overlap, so what they do must bear being done twice.
///
/// # Cancel safety
///
/// If the future is dropped, the attempts are aborted, and those still ending are adopted by the enclosing scope.
///
/// # Errors
///
/// If all fail: the error of the attempt that failed first by time. `E::from(Cancelled)` if the surrounding context was
/// cancelled. Trying again is another round of attempts.
///
/// # Panics
///
/// If `max_attempts` is 0. A panicking attempt counts as failed; if all fail and it was the first, its panic goes on here.
///
/// # Examples
///
/// ```
/// # bowline::testing::example_paused(async {
/// use bowline::{Cancelled, hedged};
/// use std::time::Duration;
///
/// let answer = hedged("lookup", Duration::from_millis(50), 3, |attempt| async move {
///     if attempt == 1 {
///         std::future::pending().await // a server that does not answer
///     }
///     Ok::<_, Cancelled>(attempt)
/// })
/// .await;
/// assert_eq!(answer, Ok(2));
/// # });
/// ```
#[track_caller]
pub fn hedged<T, E, F, Fut>(
    name: &'static str,
    delay: Duration,
    max_attempts: u32,
    attempt: F,
) -> impl Future<Output = Result<T, E>>
where
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: From<Cancelled> + Send + 'static,
{
    assert!(max_attempts > 0, "0 attempts cannot succeed");
    let place = Location::caller();
    let run = group(name, FirstSuccess, async move |g: &Group<T, E, FirstSuccess>| {
        spawn_attempts(g, name, place, delay, max_attempts, attempt).await;
    });
    async move {
        match run.await.first_ok() {
            Ok(value) => Ok(value),
            Err(none) => match none.all_ok() {
                Err(error) => Err(error),
                // Before the first attempt was spawned.
                Ok(_) => Err(E::from(Cancelled::new(crate::cause::Cause::Aborted))),
            },
        }
    }
}

async fn spawn_attempts<T, E, F, Fut>(
    group: &Group<T, E, FirstSuccess>,
    name: &'static str,
    place: &'static Location<'static>,
    delay: Duration,
    max_attempts: u32,
    mut attempt: F,
) where
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    // One permit per attempt that failed. A success ends the group, and this body with it.
    let failures = Arc::new(Semaphore::new(0));
    for number in 1..=max_attempts {
        let (future, mut failure) = (attempt(number), SaysFailed(Some(Arc::clone(&failures))));
        let future = async move {
            let result = future.await;
            if result.is_ok() {
                failure.retract();
            }
            result
        };
        if group.handle.spawn_at(name, place, (), future).is_err() {
            return;
        }
        if number < max_attempts {
            let failed = async { failures.acquire().await.map(SemaphorePermit::forget) };
            let _ = race(failed, tokio::time::sleep(delay)).await;
            if crate::check().is_err() {
                return; // decided in the same moment
            }
        }
    }
}

/// Says that an attempt has failed, also by a panic.
struct SaysFailed(Option<Arc<Semaphore>>);

impl SaysFailed {
    fn retract(&mut self) {
        self.0 = None;
    }
}

impl Drop for SaysFailed {
    fn drop(&mut self) {
        if let Some(failures) = &self.0 {
            failures.add_permits(1);
        }
    }
}
