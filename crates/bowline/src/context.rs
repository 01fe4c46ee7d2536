//! The ambient context: cancellation, deadline and place in the tree of whatever is being polled.
//!
//! The context follows the *poll*, not the creation. A future that is handed to another task runs in that task's context;
//! to carry yours along, take [`Context::current`] and wrap the future in [`Context::run`]. Foreign tasks and threads have
//! none: there nothing is ever cancelled.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{self, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::cause::{Cancelled, Cause};
use crate::record::{self, Record};
use crate::root::Phase;
use crate::track::Leaf;
use crate::wait::{Op, Wait};

/// A handle on a context that can be kept and sent anywhere. It does not keep the context's scope open.
///
/// Inside a task the free functions ([`is_cancelled`], [`check`], [`cancelled`], [`deadline`]) do the same without one.
#[derive(Clone, Debug)]
pub struct Context {
    record: Option<Weak<Record>>,
}

impl Context {
    /// Returns the context of whatever is being polled now; outside of any Bowline task, one that is never cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// let context = bowline::Context::current();
    /// assert!(!context.is_cancelled());
    /// # });
    /// ```
    #[must_use]
    pub fn current() -> Self {
        Self { record: record::with_current(|current| current.map(Arc::downgrade)) }
    }

    /// Returns whether this context was cancelled, or its task has ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.check().is_err()
    }

    /// Returns why this context was cancelled.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if it was, or if its task has ended ([`Cause::ScopeClosed`]). Trying again cannot succeed.
    pub fn check(&self) -> Result<(), Cancelled> {
        let Some(record) = &self.record else { return Ok(()) };
        match record.upgrade() {
            None => Err(Cancelled::new(Cause::ScopeClosed)),
            Some(record) if record.is_cancelled() => {
                Err(Cancelled::new(record.cause().unwrap_or(Cause::Aborted)))
            }
            Some(_) => Ok(()),
        }
    }

    /// Returns the earliest deadline of this context and its ancestors.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.record.as_ref()?.upgrade()?.node.deadline()
    }

    /// Runs `future` in this context, wherever it is polled: in a foreign task, an actor, a connection driver.
    ///
    /// If the context is cancelled, `future` is polled once more and then dropped, as a task of ours would be.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `future`, in this context.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled or had ended before `future` was ready.
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = Result<F::Output, Cancelled>> {
        Run { future: Some(future), context: self.clone(), leaf: Leaf::default() }
    }
}

pin_project! {
    struct Run<F> {
        #[pin]
        future: Option<F>,
        context: Context,
        leaf: Leaf,
    }

    impl<F> PinnedDrop for Run<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let mut slot = this.context.record.as_ref().and_then(Weak::upgrade);
            record::enter(&mut slot, || this.future.set(None));
        }
    }
}

impl<F: Future> Future for Run<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let verdict = this.context.check();
        let mut slot = this.context.record.as_ref().and_then(Weak::upgrade);
        let future = &mut this.future;
        let leaf = this.leaf;
        record::enter(&mut slot, || {
            let polled = match future.as_mut().as_pin_mut() {
                Some(running) => running.poll(cx),
                None => Poll::Pending,
            };
            match (polled, verdict) {
                (Poll::Ready(value), _) => {
                    future.set(None);
                    leaf.clear();
                    Poll::Ready(Ok(value))
                }
                (Poll::Pending, Err(cancelled)) => {
                    future.set(None);
                    leaf.clear();
                    Poll::Ready(Err(cancelled))
                }
                (Poll::Pending, Ok(())) => {
                    if leaf.park(cx, Wait { op: Op::Cancelled, on: 0 }).is_err() {
                        cx.waker().wake_by_ref(); // it came meanwhile: one more poll, in which the future can see it
                    }
                    Poll::Pending
                }
            }
        })
    }
}

/// Returns whether the current context was cancelled. It costs one thread-local and two atomic loads.
#[must_use]
pub fn is_cancelled() -> bool {
    record::with_current(|current| current.is_some_and(|record| record.is_cancelled()))
}

/// Returns why the current context was cancelled; for loops that compute without awaiting.
///
/// # Errors
///
/// [`Cancelled`] if it was.
///
/// # Examples
///
/// ```
/// # fn step(_: u32) {}
/// fn crunch() -> Result<(), bowline::Cancelled> {
///     for chunk in 0..100 {
///         bowline::check()?;
///         step(chunk);
///     }
///     Ok(())
/// }
/// # crunch().unwrap();
/// ```
pub fn check() -> Result<(), Cancelled> {
    Leaf::check()
}

/// Returns the earliest deadline of the current context and its ancestors.
#[must_use]
pub fn deadline() -> Option<Instant> {
    record::with_current(|current| current.and_then(|record| record.node.deadline()))
}

/// Returns the time left until the deadline of the current context: zero when it has passed.
#[must_use]
pub fn time_left() -> Option<Duration> {
    deadline().map(|at| at.saturating_duration_since(Instant::now()))
}

/// Waits until the current context is cancelled, and says why. Outside of any Bowline task it waits for ever.
///
/// # Cancel safety
///
/// Nothing is lost if it is dropped.
pub async fn cancelled() -> Cancelled {
    let mut leaf = Leaf::default();
    poll_fn(move |cx| match leaf.park(cx, Wait { op: Op::Cancelled, on: 0 }) {
        Err(cancelled) => {
            leaf.clear();
            Poll::Ready(cancelled)
        }
        Ok(()) => Poll::Pending,
    })
    .await
}

/// Waits until the process begins to shut down: take nothing new from here on, finish what was accepted.
///
/// Returns at once if it already has. Where no [`Runner`](crate::Runner) runs it waits for ever.
///
/// # Cancel safety
///
/// Nothing is lost if it is dropped.
///
/// # Examples
///
/// ```no_run
/// # async fn doc(listener: tokio::net::TcpListener) {
/// use bowline::{Either, race};
///
/// while let Either::Right(accepted) = race(bowline::draining(), listener.accept()).await {
///     // serve the connection
/// #   drop(accepted);
/// }
/// # }
/// ```
pub async fn draining() {
    let root = record::current().or_else(crate::root::of_runtime).and_then(|record| record.node.root.clone());
    let Some(root) = root else { return std::future::pending().await };
    let mut phases = root.watch_phase();
    drop(root);
    let mut leaf = Leaf::default();
    let mut wait = std::pin::pin!(phases.wait_for(|phase| *phase >= Phase::Draining));
    poll_fn(move |cx| {
        let polled = wait.as_mut().poll(cx);
        if polled.is_pending() {
            leaf.stand_by(cx, Wait { op: Op::Draining, on: 0 });
        } else {
            leaf.clear();
        }
        polled.map(drop)
    })
    .await;
}

/// Begins the ordered shutdown of the program, as a signal would: [`draining`] returns everywhere, and the
/// [`Runner`](crate::Runner) takes it from there. For an admin command, a health check that found something fatal, a test.
///
/// Under `#[bowline::test]` it begins the draining and the test goes on. Where nothing of ours runs it does nothing.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// bowline::shut_down("the disk is full");
/// bowline::draining().await;
/// # });
/// ```
pub fn shut_down(reason: &'static str) {
    let root = record::current().or_else(crate::root::of_runtime).and_then(|record| record.node.root.clone());
    if let Some(root) = root {
        root.request(reason);
    }
}
