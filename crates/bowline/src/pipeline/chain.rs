//! How the parts of a pipeline are put together before it runs: each stage gets the belt before it when it is added, and the one
//! behind it with the next stage.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;

use super::belt::{Belt, End};
use super::core::Core;
use super::meter::StageBooks;
use super::run;
use super::source::Gate;
use super::stage::Worker;
use super::step::Collects;
use super::{Errors, Parallel, Pipeline, PipelineReady, Stage, Step};
use crate::cause::Cancelled;
use crate::handle::Handle;
use crate::node::Node;
use crate::queue::Bound;
use crate::site;
use crate::sync::Arc;

pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) stages: Vec<Arc<StageBooks>>,
    pub(super) starters: Vec<Starter>,
    pub(super) errors: Errors,
    pub(super) stop_after: Option<u64>,
    pub(super) on_done: Option<Box<dyn Fn(u64) + Send + Sync>>,
}

/// Spawns the tasks of a stage, or of the source.
pub(super) type Starter = Box<dyn FnOnce(&Arc<Core>, &Arc<Node>, &mut Vec<Handle<()>>) + Send>;

/// Gives a stage its output.
pub(super) type Connect<T> = dyn FnOnce(&Arc<Belt<T>>) -> Starter + Send;

/// A stage without its output.
pub(super) struct Last<T> {
    /// Whether what it puts down has tickets.
    pub(super) ordered: bool,
    pub(super) connect: Box<Connect<T>>,
}

impl<T: Send + Sync + 'static> Pipeline<T> {
    pub(super) fn from_source<F, Fut>(
        name: &'static str,
        place: &'static Location<'static>,
        source: F,
    ) -> Self
    where
        F: FnOnce(Gate<T>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), Cancelled>> + Send + 'static,
    {
        let connect = move |belt: &Arc<Belt<T>>| -> Starter {
            let end = End::putting(belt);
            Box::new(move |core, node, tasks| {
                let core = Arc::clone(core);
                let source = async move { source(Gate::new(end, &core)).await };
                tasks.push(run::spawn(node, "source", place, source));
            })
        };
        let plan = Plan {
            name,
            place,
            stages: Vec::new(),
            starters: Vec::new(),
            errors: Errors::default(),
            stop_after: None,
            on_done: None,
        };
        Self { plan, last: Last { ordered: false, connect: Box::new(connect) } }
    }

    pub(super) fn collect<F>(self, place: &'static Location<'static>, f: F) -> PipelineReady
    where
        F: FnOnce(T) + Clone + Send + 'static,
    {
        let step = Collects { f, types: PhantomData };
        self.ending_with(
            Stage { name: "collect", place, parallel: Parallel::ordered(1), step },
            Bound::items(1),
        )
    }

    pub(super) fn ending_with<S: Step<Input = T>>(self, sink: Stage<S>, buffer: Bound<T>) -> PipelineReady {
        let (mut plan, connect) = self.add(sink, buffer);
        plan.starters.push(connect(None));
        PipelineReady { plan }
    }

    /// Gives the last stage the belt before the new one, and the new one's starter, but for its output.
    #[expect(clippy::type_complexity, reason = "once")]
    pub(super) fn add<S: Step<Input = T>>(
        self,
        stage: Stage<S>,
        buffer: Bound<T>,
    ) -> (Plan, impl FnOnce(Option<&Arc<Belt<S::Output>>>) -> Starter + Send + use<S, T>) {
        let Self { mut plan, last } = self;
        let Stage { name, place, parallel, step } = stage;
        let belt = Belt::new(site::intern(name, place), buffer, last.ordered);
        plan.starters.push((last.connect)(&belt));
        let books =
            StageBooks::new(name, place, (parallel.workers, parallel.ordered), Arc::clone(&belt) as _);
        plan.stages.push(Arc::clone(&books));
        let connect = move |output: Option<&Arc<Belt<S::Output>>>| -> Starter {
            let ends: Vec<_> =
                (0..books.workers()).map(|_| (End::taking(&belt), output.map(End::putting))).collect();
            Box::new(move |core, node, tasks| {
                for (at, (input, output)) in ends.into_iter().enumerate() {
                    let (step, books, core) = (step.clone(), Arc::clone(&books), Arc::clone(core));
                    let worker = Worker { step, books, at, core, input, output };
                    tasks.push(run::spawn(node, name, place, worker.run()));
                }
            })
        };
        (plan, connect)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<_> = self.stages.iter().map(|stage| stage.name).collect();
        f.debug_struct("Pipeline").field("name", &self.name).field("stages", &stages).finish_non_exhaustive()
    }
}
