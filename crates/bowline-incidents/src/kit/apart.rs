//! A process of its own, so to speak: a thread beside the form's runtime, for a runtime with a watchdog or an end of its own.

use crate::lab::Trouble;

/// Runs `process` on such a thread; what it returned, once it has ended.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread beside the runtimes, for a runtime that ends with it"
)]
pub(crate) fn apart<T: Send + 'static>(
    process: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Trouble>> {
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || drop(done.send(process())));
    async move { ended.await.map_err(|_| Trouble::from("the process has panicked")) }
}
