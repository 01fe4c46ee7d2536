//! Pipelines: a source, stages with a bounded buffer before each, and a sink.
//!
//! A pipeline is one scope: the task of the source, the workers of each stage, and the task that hands on failures if somebody
//! takes them. Between two stages lies a belt (module `belt`), which is the buffer of the later one; behind an ordered stage it
//! is also the window in which early results wait. Stages never wait for whoever takes the failures (module `failed`).
//!
//! # Invariants
//!
//! 1. A record is in exactly one place: on a belt, in the hands of a worker, or gone; and who is gone was counted once. At the
//!    end, for each stage, `received = passed + filtered + failed + cancelled`.
//! 2. In flight are at most as many records as all belts have places and all stages have workers.
//! 3. Workers are tasks: they are polled whatever the source, the sink or the caller waits for.
//! 4. A panic of a stage's function is a failure of its record, and of nothing else.
//!
//! # End
//!
//! See the module `run`.

mod batch;
mod belt;
mod caught;
mod chain;
mod core;
mod done;
mod failed;
mod handle;
mod meter;
mod ready;
mod report;
mod run;
mod source;
mod stage;
mod stages;
mod stats;
mod step;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::Location;

use self::chain::{Last, Plan};
use crate::queue::FreeRx;

pub use self::core::pipelines;
pub(crate) use self::core::placed_stages;
pub use failed::{Errors, Failed, FailedBy};
pub use handle::PipelineHandle;
pub use ready::PipelineReady;
pub use report::{PipelineEnd, PipelineError, PipelineReport};
pub use source::{Feed, Intake};
pub use stage::{Parallel, Stage};
pub use stats::{PipelineStats, StageStats};
pub use step::{StageFn, Step};

/// Records that go from a source through stages to a sink, each stage with its own parallelism and its own bounded buffer.
///
/// A slow stage fills the buffer before it, then the one before that, and in the end the source waits: that is back-pressure,
/// and memory holds at most as many records as all buffers and all workers. What fails goes out of band, with its
/// record ([`Failed`], [`Errors`]), and holds nobody up.
///
/// A stage's function borrows its record, so that it is still there if the function fails or panics: there is nothing to clone
/// for the good case. It is cloned for each record, with what it captured: capture what is cheap to clone, such as an `Arc`.
/// It works under the context of its worker: a [`timeout`](crate::timeout()) in it is its own.
///
/// For tiny records, let one of the pipeline's be a `Vec` of yours: handing one over costs some hundred nanoseconds per stage.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Parallel, Pipeline, PipelineError};
///
/// #[derive(Clone)]
/// struct Record { name: String, age: u32 }
///
/// async fn validate(record: &Record) -> Result<bool, &'static str> {
///     if record.name.is_empty() { Err("no name") } else { Ok(record.age >= 18) }
/// }
///
/// # async fn load(_: &Record) -> Result<(), Cancelled> { Ok(()) }
/// # let people = [("Ann", 37), ("", 50), ("Bob", 12)].map(|(name, age)| Record { name: name.into(), age });
/// let report = Pipeline::new("people", people) // an iterator, a stream, or the end of a queue
///     .filter("validate", Parallel::ordered(4), Bound::items(64), validate)
///     .edit("anonymise", Parallel::unordered(8), Bound::items(64), async |record: &mut Record| {
///         record.name.truncate(1);
///         Ok::<_, Cancelled>(())
///     })
///     .sink("load", Parallel::unordered(2), Bound::items(16), async |record: &Record| load(record).await)
///     .run()
///     .await?;
///
/// assert_eq!((report.stats.done, report.stats.filtered, report.stats.failed), (1, 1, 1));
/// let failed = &report.errors[0];
/// assert_eq!((failed.stage, failed.to_string()), ("validate", "record 1 failed in `validate`: no name".into()));
/// assert_eq!(failed.record::<Record>().map(|record| record.age), Some(50));
/// # Ok::<_, PipelineError>(())
/// # }).unwrap();
/// ```
#[must_use = "it needs a sink, and then to be run"]
pub struct Pipeline<T> {
    plan: Plan,
    /// The last stage until now, which does not know yet where to put its results.
    last: Last<T>,
}

impl<T: Send + Sync + 'static> Pipeline<T> {
    /// Begins a pipeline that takes its records from `source`: an iterator, a stream, or the end of a queue (`rx.free()`).
    ///
    /// A record is taken when there is a place for it in the buffer of the first stage, and not before. An iterator must not block:
    /// it runs in a task.
    #[track_caller]
    pub fn new<K, I>(name: &'static str, source: I) -> Self
    where
        I: Intake<K, Item = T>,
    {
        Self::at(name, Location::caller(), source)
    }

    fn at<K, I: Intake<K, Item = T>>(
        name: &'static str,
        place: &'static Location<'static>,
        source: I,
    ) -> Self {
        Self::from_source(name, place, async move |gate| source.run(gate).await)
    }

    /// Begins a pipeline that is fed by a function: `async |feed| { feed.send(record).await?; … }`.
    ///
    /// The source has ended when the function has. An error of it ends the pipeline as
    /// [`SourceFailed`](PipelineEnd::SourceFailed), when what it gave before has come out. When the pipeline drains, sends are
    /// refused, and the function is dropped where it waits for something else.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Bound, Cancelled, Feed, Parallel, Pipeline, PipelineError, SendError};
    ///
    /// let report = Pipeline::fed("lines", async |feed: Feed<String>| {
    ///         for line in ["a b", "c"] {
    ///             feed.send(line.to_owned()).await?;
    ///         }
    ///         Ok::<_, SendError<String>>(())
    ///     })
    ///     .stage("split", Parallel::ordered(2), Bound::items(8), async |line: &String| {
    ///         Ok::<_, Cancelled>(line.split(' ').count())
    ///     })
    ///     .sink("count", Parallel::ordered(1), Bound::items(8), async |_words: &usize| Ok::<_, Cancelled>(()))
    ///     .run()
    ///     .await?;
    /// assert_eq!(report.stats.done, 2);
    /// # Ok::<_, PipelineError>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn fed<F, Fut, E>(name: &'static str, feed: F) -> Self
    where
        F: FnOnce(Feed<T>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        Self::from_source(name, Location::caller(), move |gate| source::feed(gate, feed))
    }

    /// Begins a pipeline on a queue whose records are acknowledged when they are done: the sink has succeeded, a filter has dropped
    /// them, or their failure was handed on ([`Errors::each`]) or kept ([`Errors::keep`]).
    ///
    /// What is not done then - the pipeline was cancelled, a failure was lost - goes back to the front of the queue and is
    /// received again; see [`Delivery`](crate::Delivery). A clone of the record goes through the stages, so that the original can
    /// go back: let it be cheap to clone.
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Bound, Cancelled, Overflow, Parallel, Pipeline, scope};
    ///
    /// scope("orders", async |s| {
    ///     let (tx, rx) = s.queue("orders", Bound::items(8), Overflow::Block);
    ///     let pipeline = Pipeline::acknowledged("orders", rx.clone().free())
    ///         .sink("ship", Parallel::unordered(4), Bound::items(8), async |_order: &u32| Ok::<_, Cancelled>(()))
    ///         .start(s);
    ///     tx.send(7).await?;
    ///     drop(tx); // the source has ended
    ///     assert!(pipeline.wait_ended().await?.is_complete());
    ///     assert_eq!((rx.stats().received, rx.stats().in_flight), (1, 0));
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn acknowledged(name: &'static str, queue: FreeRx<T>) -> Self
    where
        T: Clone,
    {
        let source = source::Acknowledged(queue);
        Self::from_source(name, Location::caller(), move |gate| source.run(gate))
    }
}

impl<T> fmt::Debug for Pipeline<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}
