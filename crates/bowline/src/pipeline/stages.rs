//! The stages a pipeline can be given.

use std::error::Error;

use super::belt::Belt;
use super::chain::Last;
use super::step::{Computes, Edits, Filters, Maps};
use super::{Parallel, Pipeline, PipelineReady, Stage, StageFn, Step};
use crate::queue::Bound;
use crate::sync::Arc;

impl<T: Send + Sync + 'static> Pipeline<T> {
    /// Adds a stage that makes another record of each: `async |record: &In| -> Result<Out, E>`.
    ///
    /// `buffer` is what may wait before it. A stage that needs nothing of the old record but its parts is an
    /// [`edit`](Self::edit) that takes them out.
    #[track_caller]
    pub fn stage<F, Out, E>(
        self,
        name: &'static str,
        parallel: Parallel,
        buffer: Bound<T>,
        f: F,
    ) -> Pipeline<Out>
    where
        F: for<'r> AsyncFnOnce(&'r T) -> Result<Out, E>
            + for<'r> StageFn<&'r T, Result<Out, E>>
            + Clone
            + Send
            + 'static,
        Out: Send + Sync + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        self.then(Stage::<Maps<F, T, Out, E>>::new(name, parallel, f), buffer)
    }

    /// Adds a stage that lets the records pass for which `f` says true: `async |record: &T| -> Result<bool, E>`.
    #[track_caller]
    pub fn filter<F, E>(self, name: &'static str, parallel: Parallel, buffer: Bound<T>, f: F) -> Self
    where
        F: for<'r> AsyncFnOnce(&'r T) -> Result<bool, E>
            + for<'r> StageFn<&'r T, Result<bool, E>>
            + Clone
            + Send
            + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        self.then(Stage::<Filters<F, T, T, E>>::filter(name, parallel, f), buffer)
    }

    /// Adds a stage that changes each record in its place: `async |record: &mut T| -> Result<(), E>`.
    ///
    /// A record that fails comes with the error as the stage left it.
    #[track_caller]
    pub fn edit<F, E>(self, name: &'static str, parallel: Parallel, buffer: Bound<T>, f: F) -> Self
    where
        F: for<'r> AsyncFnOnce(&'r mut T) -> Result<(), E>
            + for<'r> StageFn<&'r mut T, Result<(), E>>
            + Clone
            + Send
            + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        self.then(Stage::<Edits<F, T, T, E>>::edit(name, parallel, f), buffer)
    }

    /// Adds a stage that computes: `|record: &In| -> Result<Out, E>`, on the runtime's threads for blocking work.
    ///
    /// A record costs a hand-over to a thread and back, some microseconds: for work of less than a hundred of them, use
    /// [`stage`](Self::stage). A cancelled pipeline waits for what is computed; long loops can ask
    /// [`check`](crate::check()).
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Bound, Cancelled, Parallel, Pipeline, PipelineError};
    ///
    /// let report = Pipeline::new("sums", [1_000_u64, 2_000])
    ///     .cpu_stage("sum", Parallel::ordered(2), Bound::items(4), |n: &u64| Ok::<_, Cancelled>((1..=*n).sum::<u64>()))
    ///     .sink("keep", Parallel::ordered(1), Bound::items(4), async |sum: &u64| {
    ///         if *sum > 1_000_000 { Err("too much") } else { Ok(()) }
    ///     })
    ///     .run()
    ///     .await?;
    /// assert_eq!(report.errors[0].record::<u64>(), Some(&2_001_000));
    /// # Ok::<_, PipelineError>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn cpu_stage<F, Out, E>(
        self,
        name: &'static str,
        parallel: Parallel,
        buffer: Bound<T>,
        f: F,
    ) -> Pipeline<Out>
    where
        F: FnOnce(&T) -> Result<Out, E> + Clone + Send + 'static,
        Out: Send + Sync + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        self.then(Stage::<Computes<F, T, Out, E>>::cpu(name, parallel, f), buffer)
    }

    /// Adds a stage that is a value.
    ///
    /// # Panics
    ///
    /// If `buffer` has an urgent lane: records keep their order.
    #[track_caller]
    pub fn then<S: Step<Input = T>>(self, stage: Stage<S>, buffer: Bound<T>) -> Pipeline<S::Output> {
        let Stage { parallel, .. } = stage;
        let (plan, connect) = self.add(stage, buffer);
        let connect = move |belt: &Arc<Belt<S::Output>>| connect(Some(belt));
        // With one worker, results come in order anyway.
        let ordered = parallel.ordered && parallel.workers > 1;
        Pipeline { plan, last: Last { ordered, connect: Box::new(connect) } }
    }

    /// Adds the sink, where records come to their end: `async |record: &T| -> Result<(), E>`. What it makes of a record is
    /// dropped.
    ///
    /// It is a stage like the others, with workers, a buffer, and failures. Ordered, it begins with the records in their order,
    /// and with one worker it also ends with them so.
    #[track_caller]
    pub fn sink<F, E>(self, name: &'static str, parallel: Parallel, buffer: Bound<T>, f: F) -> PipelineReady
    where
        F: for<'r> AsyncFnOnce(&'r T) -> Result<(), E>
            + for<'r> StageFn<&'r T, Result<(), E>>
            + Clone
            + Send
            + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    {
        self.ending_with(Stage::<Maps<F, T, (), E>>::new(name, parallel, f), buffer)
    }
}
