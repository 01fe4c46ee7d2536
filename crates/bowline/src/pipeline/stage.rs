//! One stage: how it is described, and its workers.
//!
//! # Invariants
//!
//! 1. A worker works on one record at a time, and begins with one when there is a place for what the last came to.
//! 2. A record that was taken is counted once: passed, filtered, failed, or cancelled if it is dropped on the way.
//!
//! # End
//!
//! A worker ends when nothing more will come, and with it its end of the belt after the stage.

use std::future::Future;
use std::panic::Location;

use super::batch::{Outbox, Pace, Pocket};
use super::belt::{End, Load, Riding};
use super::core::Core;
use super::failed::{Failed, FailedBy};
use super::meter::{Doing, Meter, StageBooks};
use super::step::{Computes, Edits, Filters, Maps, StageFn, Step, Worked};
use super::{Pipeline, PipelineReport};
use crate::cause::Cancelled;
use crate::queue::Bound;
use crate::sync::{Arc, LockExt, Mutex};
use crate::track::Leaf;

/// How many records a stage works on at once, and whether they come out as they went in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parallel {
    pub(super) workers: usize,
    pub(super) ordered: bool,
}

impl Parallel {
    /// Works on `workers` records at once and gives the results on in the order of the records.
    ///
    /// Results that come early wait in the buffer of the next stage, and take their places there: one slow record holds up
    /// as many as that has, while the other workers go on; when they are full, those wait.
    ///
    /// # Panics
    ///
    /// If `workers` is 0.
    #[must_use]
    #[track_caller]
    pub fn ordered(workers: usize) -> Self {
        assert!(workers > 0, "a stage needs at least one worker");
        Self { workers, ordered: true }
    }

    /// Works on `workers` records at once and gives the results on as they come.
    ///
    /// # Panics
    ///
    /// If `workers` is 0.
    #[must_use]
    #[track_caller]
    pub fn unordered(workers: usize) -> Self {
        assert!(workers > 0, "a stage needs at least one worker");
        Self { workers, ordered: false }
    }
}

/// A stage as a value: to be tested alone, and put into a [`Pipeline`] with [`then`](Pipeline::then).
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Parallel, Stage, Step};
///
/// fn parse() -> Stage<impl Step<Input = &'static str, Output = u32>> {
///     Stage::new("parse", Parallel::ordered(4), async |text: &&str| text.parse::<u32>())
/// }
///
/// let (numbers, failed) = parse().run_on(["1", "two", "3"]).await;
/// assert_eq!(numbers, [1, 3]);
/// assert_eq!(failed[0].record::<&str>(), Some(&"two"));
/// # });
/// ```
#[derive(Clone)]
pub struct Stage<S> {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) parallel: Parallel,
    pub(super) step: S,
}

impl<S> std::fmt::Debug for Stage<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("name", &self.name).field("parallel", &self.parallel).finish()
    }
}

impl<F, A, B, E> Stage<Maps<F, A, B, E>> {
    /// Makes another record of each. See [`Pipeline::stage`].
    #[track_caller]
    pub fn new(name: &'static str, parallel: Parallel, f: F) -> Self
    where
        F: for<'r> AsyncFnOnce(&'r A) -> Result<B, E> + for<'r> StageFn<&'r A, Result<B, E>>,
    {
        let step = Maps { f, types: std::marker::PhantomData };
        Self { name, place: Location::caller(), parallel, step }
    }
}

impl<F, A, E> Stage<Filters<F, A, A, E>> {
    /// Lets those records pass for which `f` says true. See [`Pipeline::filter`].
    #[track_caller]
    pub fn filter(name: &'static str, parallel: Parallel, f: F) -> Self
    where
        F: for<'r> AsyncFnOnce(&'r A) -> Result<bool, E> + for<'r> StageFn<&'r A, Result<bool, E>>,
    {
        let step = Filters { f, types: std::marker::PhantomData };
        Self { name, place: Location::caller(), parallel, step }
    }
}

impl<F, A, E> Stage<Edits<F, A, A, E>> {
    /// Changes each record in its place. See [`Pipeline::edit`].
    #[track_caller]
    pub fn edit(name: &'static str, parallel: Parallel, f: F) -> Self
    where
        F: for<'r> AsyncFnOnce(&'r mut A) -> Result<(), E> + for<'r> StageFn<&'r mut A, Result<(), E>>,
    {
        let step = Edits { f, types: std::marker::PhantomData };
        Self { name, place: Location::caller(), parallel, step }
    }
}

impl<F, A, B, E> Stage<Computes<F, A, B, E>> {
    /// Makes another record of each, on a thread for blocking work. See [`Pipeline::cpu_stage`].
    #[track_caller]
    pub fn cpu(name: &'static str, parallel: Parallel, f: F) -> Self
    where
        F: FnOnce(&A) -> Result<B, E>,
    {
        let step = Computes { f, types: std::marker::PhantomData };
        Self { name, place: Location::caller(), parallel, step }
    }
}

impl<S: Step> Stage<S> {
    /// Runs the stage by itself on some records, and returns what came out and what failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the workers are aborted, and what came out is lost.
    ///
    /// # Panics
    ///
    /// With the panic of `records`. A panic of the stage is a failure.
    #[track_caller]
    pub fn run_on<I>(self, records: I) -> impl Future<Output = (Vec<S::Output>, Vec<Failed>)>
    where
        I: IntoIterator<Item = S::Input> + Send + 'static,
        I::IntoIter: Send,
    {
        let place = Location::caller();
        let out = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&out);
        let run = Pipeline::at(self.name, place, records)
            .then(self, Bound::items(1))
            .errors(super::Errors::keep(usize::MAX))
            .collect(place, move |record| kept.lock_unpoisoned().push(record))
            .run();
        async move {
            let errors = match run.await {
                Ok(PipelineReport { errors, .. }) => errors,
                Err(stopped) => stopped.into_report().errors,
            };
            let out = std::mem::take(&mut *out.lock_unpoisoned());
            (out, errors)
        }
    }
}

/// A worker, before it is spawned.
pub(super) struct Worker<S: Step> {
    pub(super) step: S,
    pub(super) books: Arc<StageBooks>,
    pub(super) at: usize,
    pub(super) core: Arc<Core>,
    pub(super) input: End<S::Input>,
    pub(super) output: Option<End<S::Output>>,
}

impl<S: Step> Worker<S> {
    pub(super) async fn run(mut self) -> Result<(), Cancelled> {
        self.input.arrive();
        if let Some(output) = &mut self.output {
            output.arrive();
        }
        let Self { step, books, at, core, input, output } = self;
        let meter = Meter::start(&books, at, core.started());
        // See the module `batch`, also for what must be done before a turn is given away.
        let mut pace = if books.workers() == 1 { Pace::of(input.places()) } else { Pace::one_by_one() };
        let mut pocket = Pocket::new(&input, &meter);
        let mut outbox = output.as_ref().map(Outbox::new);
        loop {
            if pocket.len() > 0 {
                Leaf::check()?; // taking would have asked
            }
            let (ticket, riding) = match pocket.next() {
                Some(next) => next,
                None => {
                    put_down(&mut outbox);
                    pocket.give_places_back();
                    pace.end();
                    let taken = meter.during(Doing::WaitingForInput, input.take()).await?;
                    let Some(first) = taken else { return Ok(()) };
                    pocket.fill(pace.begin() - 1);
                    if let (Some(outbox), 1..) = (&mut outbox, pocket.len()) {
                        outbox.reserve(1 + pocket.len());
                    }
                    first
                }
            };
            let Riding { seq, receipt, record } = riding;
            let mut hands = meter.takes();
            let before_waiting = || {
                put_down(&mut outbox);
                pocket.give_places_back();
            };
            let load = match meter.noting_waits(step.clone().work(record), before_waiting).await {
                Worked::Passed(out) if output.is_some() => Load::Record(Riding { seq, receipt, record: out }),
                Worked::Passed(_) => {
                    hands.passed();
                    core.settle(seq, receipt);
                    continue;
                }
                Worked::Filtered => {
                    hands.filtered();
                    core.settle(seq, receipt);
                    Load::Nothing
                }
                Worked::Failed(record, by) => {
                    if let (FailedBy::Error(_), Err(cancelled)) = (&by, Leaf::check()) {
                        return Err(cancelled); // its answer to the cancel
                    }
                    hands.failed();
                    core.fail(Failed::new(books.name, seq, by, record, receipt));
                    Load::Nothing
                }
            };
            let (Some(output), Some(outbox)) = (&output, &mut outbox) else { continue };
            let load = match load {
                Load::Record(riding) if outbox.has_place() => {
                    outbox.add(riding);
                    hands.passed();
                    continue;
                }
                load => load,
            };
            let passes = matches!(load, Load::Record(_));
            if passes {
                outbox.put_down();
                pocket.give_places_back();
            }
            meter.during(Doing::WaitingForOutput, output.put(ticket, load)).await?;
            if passes {
                hands.passed();
            }
        }
    }
}

fn put_down<T>(outbox: &mut Option<Outbox<'_, T>>) {
    if let Some(outbox) = outbox {
        outbox.put_down();
    }
}
