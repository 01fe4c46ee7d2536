//! The ambient context: cancellation, deadline, values and place in the tree of whatever is being polled.
//!
//! The context follows the *poll*, not the creation. A future that is handed to another task runs in that task's context;
//! to carry yours along, take [`Context::current`] and wrap the future in [`Context::run`]. Foreign tasks and threads have
//! none: there nothing is ever cancelled.
//!
//! The free functions of [`ambient`] look at the context of the current poll; a [`Context`] is a handle on one, for
//! elsewhere. It keeps nothing alive: it holds the record weakly, and the one word it reads ([`Followers`]) is raised when the
//! record is cancelled and when its future has ended.
//!
//! # Invariants
//!
//! 1. Nobody is told late: whoever begins to follow looks at the record's flags after it was listed, whoever cancels lists
//!    the followers after it raised the flags.
//! 2. Followers are told outside of every lock; what they wake is foreign code.

mod ambient;
mod drain;
mod follow;
mod run;
#[cfg(feature = "tokio-util")]
mod token;
mod value;

use std::fmt;
use std::future::{Future, pending};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

pub use ambient::{cancelled, check, deadline, is_cancelled, time_left, until_cancelled};
pub use drain::{draining, shut_down, until_draining};
pub(crate) use follow::{Followed, Followers};
#[cfg(feature = "tokio-util")]
pub use token::with_token;
pub(crate) use value::{Value, any, put};
pub use value::{value, with_value};

use crate::cause::Cancelled;
use crate::record::{self, Record};

/// A handle on a context that can be kept and sent anywhere. It does not keep the context's scope open.
///
/// Inside a task the free functions ([`is_cancelled`], [`check`], [`cancelled`], [`deadline`]) do the same without one.
#[derive(Clone, Debug)]
pub struct Context {
    of: Option<Of>,
}

#[derive(Clone)]
struct Of {
    record: Weak<Record>,
    followers: Arc<Followers>,
}

impl fmt::Debug for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Of").field("raised", &self.followers.is_raised()).finish_non_exhaustive()
    }
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
        let of = record::current()
            .map(|record| Of { followers: record.followers(), record: Arc::downgrade(&record) });
        Self { of }
    }

    /// Returns whether this context was cancelled, or its task has ended.
    ///
    /// It costs one atomic load: fit for the inner loop of another thread. While a cancel walks through a large tree, contexts
    /// deep in it hear of it when it reaches them, at the latest when it has returned.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.of.as_ref().is_some_and(|of| of.followers.is_raised())
    }

    /// Returns why this context was cancelled.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if it was, or if its task has ended ([`Cause::ScopeClosed`](crate::Cause::ScopeClosed)). Trying again cannot succeed.
    pub fn check(&self) -> Result<(), Cancelled> {
        match self.of.as_ref().and_then(|of| of.followers.why()) {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    /// Waits until this context is cancelled or its task has ended, and says which. From anywhere: a foreign task or thread.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Cancelled, Cause, Context, scope};
    ///
    /// scope("outer", async |s| {
    ///     let (give, take) = tokio::sync::oneshot::channel();
    ///     s.spawn("worker", async move {
    ///         give.send(Context::current()).unwrap();
    ///         Ok(())
    ///     });
    ///     let worker = take.await.unwrap();
    ///     assert_eq!(worker.cancelled().await.cause(), &Cause::ScopeClosed); // it has ended
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    pub async fn cancelled(&self) -> Cancelled {
        match run::Run::watching(self.clone(), pending::<std::convert::Infallible>()).await {
            Ok(never) => match never {},
            Err(cancelled) => cancelled,
        }
    }

    /// Returns the earliest deadline of this context and its ancestors.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.record()?.node.deadline()
    }

    /// Returns the time left until the deadline of this context: zero when it has passed.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline().map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Returns the innermost value of this type that was given to this context or an ancestor; see [`with_value`].
    #[must_use]
    pub fn value<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        value::find(&self.record()?)
    }

    /// Runs `future` in this context, wherever it is polled: in a foreign task, an actor, a connection driver.
    ///
    /// If the context is cancelled or its task ends, `future` is polled once more and then dropped, as a task of ours would be.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops `future`, in this context.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled or had ended before `future` was ready.
    ///
    /// # Examples
    ///
    /// A task of somebody else's that ends with the request it works for:
    ///
    /// ```
    /// # #![allow(clippy::disallowed_methods)]
    /// # bowline::testing::example_paused(async {
    /// # use std::time::Duration;
    /// use bowline::Context;
    ///
    /// let mut foreign = None;
    /// let request = bowline::timeout(Duration::from_secs(1), async {
    ///     foreign = Some(tokio::spawn(Context::current().run(std::future::pending::<()>())));
    ///     bowline::cancelled().await
    /// });
    /// request.await?;
    /// let ended = foreign.unwrap().await.unwrap(); // it ended with the request
    /// assert!(ended.unwrap_err().is_deadline());
    /// # Ok::<_, bowline::Cancelled>(())
    /// # }).unwrap();
    /// ```
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = Result<F::Output, Cancelled>> + use<F> {
        run::Run::new(self.clone(), future)
    }

    /// The record; none if it has gone, or there never was one.
    fn record(&self) -> Option<Arc<Record>> {
        self.of.as_ref()?.record.upgrade().filter(|record| !record.has_ended())
    }

    fn followers(&self) -> Option<&Followers> {
        self.of.as_ref().map(|of| &*of.followers)
    }
}
