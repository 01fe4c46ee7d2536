//! Where a task of ours becomes one of the runtime's: tokio's, or a model checker's.

use std::future::Future;

#[cfg(bowline_shuttle)]
pub(crate) use shuttle::future::JoinHandle;
#[cfg(not(bowline_shuttle))]
pub(crate) use tokio::task::JoinHandle;

#[cfg(not(bowline_shuttle))]
#[expect(
    clippy::disallowed_methods,
    reason = "every spawn of the toolkit ends here, with an owner and a name"
)]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(future)
}

#[cfg(bowline_shuttle)]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    shuttle::future::spawn(future)
}

#[cfg(not(bowline_shuttle))]
#[expect(clippy::disallowed_methods, reason = "the blocking lane of the toolkit, with an owner and a name")]
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

#[cfg(bowline_shuttle)]
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    shuttle::future::spawn(async { work() })
}
