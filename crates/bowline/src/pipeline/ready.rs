//! A pipeline with a sink, and what can be said of a pipeline as a whole.

use std::fmt;
use std::future::Future;

use super::chain::Plan;
use super::{Errors, Pipeline, PipelineError, PipelineHandle, PipelineReport};
use crate::owner::Owner;

/// A pipeline with a sink: run it, or start it in a scope.
#[must_use = "it does nothing until it is run or started"]
pub struct PipelineReady {
    pub(super) plan: Plan,
}

macro_rules! options {
    ($($front:tt)*) => {
        impl $($front)* {
            /// Says what becomes of failures; the first 1,000 are kept if nothing is said.
            pub fn errors(mut self, errors: Errors) -> Self {
                self.plan.errors = errors;
                self
            }

            /// Stops at the `errors`-th failure: everything is cancelled, and the pipeline ends as
            /// [`TooManyErrors`](crate::PipelineEnd::TooManyErrors). Without it no number of failures stops it.
            ///
            /// # Panics
            ///
            /// If `errors` is 0.
            #[track_caller]
            pub fn stop_after(mut self, errors: u64) -> Self {
                assert!(errors > 0, "to stop at the first failure, say 1");
                self.plan.stop_after = Some(errors);
                self
            }

            /// Calls `commit` with the number of records of the source that are done without a gap, each time it rises: all before
            /// that one are done, so an offset may be committed.
            ///
            /// Done is a record for which the sink has succeeded, that was filtered, or whose failure was handed on
            /// ([`Errors::each`]) or taken. One that is kept holds the number up. A failure that is lost would hold it up for
            /// ever: it stops the pipeline ([`FailureLost`](crate::PipelineEnd::FailureLost)).
            ///
            /// It is called by a worker, one call at a time, and must not block: store the number, or `try_send` it to a task that
            /// commits.
            ///
            /// # Examples
            ///
            /// ```
            /// # bowline::testing::example(async {
            /// use std::sync::Arc;
            /// use std::sync::atomic::{AtomicU64, Ordering};
            /// use bowline::{Bound, Cancelled, Parallel, Pipeline, PipelineError};
            ///
            /// let offset = Arc::new(AtomicU64::new(0));
            /// let committed = Arc::clone(&offset);
            /// Pipeline::new("log", 0..100)
            ///     .on_done(move |done| committed.store(done, Ordering::Relaxed))
            ///     .sink("store", Parallel::unordered(4), Bound::items(8), async |_: &i32| Ok::<_, Cancelled>(()))
            ///     .run()
            ///     .await?;
            /// assert_eq!(offset.load(Ordering::Relaxed), 100);
            /// # Ok::<_, PipelineError>(())
            /// # }).unwrap();
            /// ```
            pub fn on_done(mut self, commit: impl Fn(u64) + Send + Sync + 'static) -> Self {
                self.plan.on_done = Some(Box::new(commit));
                self
            }
        }
    };
}

options!(<T> Pipeline<T>);
options!(PipelineReady);

impl PipelineReady {
    /// Runs the pipeline in the caller's task, until the last record has come to its end.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the pipeline is cancelled: what is in flight is dropped, and tasks still ending are adopted by
    /// the enclosing scope. A cancelled context ends it in order.
    ///
    /// # Errors
    ///
    /// [`PipelineError`] if it did not come to the end of its source: it was cancelled, stopped itself, or its source failed.
    /// Failures of records are no error of the pipeline: see [`PipelineReport::errors`].
    ///
    /// # Panics
    ///
    /// With the panic of the source, or of a destructor of a record. A panic of a stage's function is a failure of its record.
    #[track_caller]
    pub fn run(self) -> impl Future<Output = Result<PipelineReport, PipelineError>> + Send + 'static {
        self.plan.run()
    }

    /// Starts the pipeline as a task of `owner`, which stays open until it has come to its end.
    ///
    /// If the scope is closed, the pipeline has ended before it began; the handle says so.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime. The panic of a source fails the scope.
    #[track_caller]
    pub fn start(self, owner: &impl Owner) -> PipelineHandle {
        self.plan.start(owner)
    }
}

impl fmt::Debug for PipelineReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}
