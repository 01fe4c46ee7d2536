//! A pipeline that runs: its one task in the owner's scope, and its end.
//!
//! # End
//!
//! The source ends, or is stopped; the belts run empty from the first to the last; the workers go one stage after the other;
//! then whoever takes the failures gets what is left. A cancel ends all of them at once, and what is on a belt or in hands is dropped and
//! counted. In each case the books are closed before anybody is told of the end.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

use super::chain::{Plan, Starter};
use super::core::{Core, PIPELINES};
use super::done::Watermark;
use super::failed::Record;
use super::handle::PipelineHandle;
use super::report::{PipelineEnd, PipelineError, PipelineReport};
use crate::carry::Cx;
use crate::cause::{Cancelled, Cause};
use crate::handle::Handle;
use crate::lock::{FreeCount, open_latch};
use crate::node::Node;
use crate::owner::{Owner, Tie};
use crate::record::Kind;
use crate::scope::{self, Scope, scope};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use crate::sync::{Arc, LockExt, Mutex, OnceLock};

/// What whoever takes the failures has, once the stages are gone, for those that are left: long enough for a slow disk, short
/// enough for a shutdown. What is left after it comes with the report.
const ERRORS_GRACE: Duration = Duration::from_secs(10);

/// Spawns a task of the pipeline.
pub(super) fn spawn<F>(
    node: &Arc<Node>,
    name: &'static str,
    place: &'static Location<'static>,
    future: F,
) -> Handle<()>
where
    F: Future<Output = Result<(), Cancelled>> + Send + 'static,
{
    match scope::list(node, name, place, Kind::Task) {
        Ok(record) => scope::spawn_listed::<_, _, Cancelled>(record, future),
        Err(closed) => Handle::refused(closed.cause().clone()),
    }
}

/// Closes the books: at the end, or where the future is dropped before it.
struct Closing {
    core: Arc<Core>,
    ended: Option<FreeCount>,
}

impl Closing {
    fn close(mut self, ran: Result<(), Cancelled>) -> PipelineEnd {
        let why = self.core.why.lock_unpoisoned().clone();
        let end = match (why, ran) {
            (Some(why @ (PipelineEnd::TooManyErrors { .. } | PipelineEnd::FailureLost { .. })), _) => why,
            (_, Err(cancelled)) => PipelineEnd::Cancelled(cancelled),
            (Some(why), Ok(())) => why,
            (None, Ok(())) => PipelineEnd::Finished,
        };
        self.end(end.clone());
        end
    }

    fn end(&mut self, end: PipelineEnd) {
        self.core.stages.iter().for_each(|stage| stage.clear());
        self.core.end.lock_unpoisoned().get_or_insert(end);
        self.ended = None; // and now whoever waits for the end
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if self.ended.is_some() {
            let cause = if std::thread::panicking() { Cause::Failed } else { Cause::ScopeDropped };
            self.end(PipelineEnd::Cancelled(Cancelled::new(cause)));
        }
    }
}

impl Plan {
    /// What is shared, and the future that is the pipeline.
    #[track_caller]
    fn launch(self) -> (Arc<Core>, impl Future<Output = PipelineEnd> + Send + 'static) {
        let Self { name, place, stages, starters, errors, stop_after, on_done } = self;
        let cx = Cx::here();
        let (brake, braked) = open_latch(&cx, "drain", place);
        let (count, ended) = open_latch(&cx, name, place);
        let (record, taker) = Record::new(errors, name, place);
        let core = Arc::new(Core {
            name,
            place,
            started: Instant::now(),
            stages,
            record,
            watermark: on_done.map(Watermark::new),
            stop_after,
            failed: AtomicU64::new(0),
            feeding: AtomicUsize::new(0),
            scope: OnceLock::new(),
            brake: Mutex::new(Some(brake.free())),
            braked,
            is_draining: AtomicBool::new(false),
            why: Mutex::new(None),
            end: Mutex::new(None),
            ended,
        });
        PIPELINES.list(&core);
        let closing = Closing { core: Arc::clone(&core), ended: Some(count.free()) };
        let running = scope(name, {
            let core = Arc::clone(&core);
            async move |s: &Scope<Cancelled>| {
                let handle = s.handle();
                let node = Arc::clone(handle.node());
                let _ = core.scope.set(handle);
                core.record.open();
                let errors = taker.map(|taker| {
                    let core = Arc::clone(&core);
                    spawn(&node, "errors", place, async move {
                        let lost = |stage| core.lost(stage);
                        core.record.hand_on(taker, core.watermark.as_ref(), lost).await
                    })
                });
                run_all(starters, &core, &node).await?;
                core.record.close();
                if let Some(mut errors) = errors {
                    if !matches!(within_grace(&mut errors).await, Ok(Ok(()))) {
                        errors.cancel("the time for handing on failures is over");
                        if !errors.is_finished() {
                            let _ = errors.await;
                        }
                        if let Some(stage) = core.record.unfinished() {
                            core.lost(stage);
                        }
                    }
                }
                Ok(())
            }
        });
        let whole = async move {
            let closing = closing;
            let ran = running.await;
            closing.close(ran)
        };
        (core, whole)
    }

    #[track_caller]
    pub(super) fn run(self) -> impl Future<Output = Result<PipelineReport, PipelineError>> + Send + 'static {
        let (core, whole) = self.launch();
        async move {
            let end = whole.await;
            let report = PipelineReport { end, errors: core.take_errors(), stats: core.stats() };
            if report.end.is_complete() { Ok(report) } else { Err(PipelineError::of(report)) }
        }
    }

    #[track_caller]
    pub(super) fn start(self, owner: &impl Owner) -> PipelineHandle {
        let (name, place) = (self.name, self.place);
        let (core, whole) = self.launch();
        let part = async move {
            whole.await;
            Ok(())
        };
        let task = owner.own(name, place, Tie::Stays, part).unwrap_or_else(|closed| {
            *core.end.lock_unpoisoned() =
                Some(PipelineEnd::Cancelled(Cancelled::new(closed.cause().clone())));
            Handle::refused(closed.cause().clone())
        });
        PipelineHandle { core, task: Arc::new(task) }
    }
}

#[cfg(not(any(bowline_loom, bowline_shuttle)))]
fn within_grace(errors: &mut Handle<()>) -> impl Future<Output = Result<Result<(), Cancelled>, Cancelled>> {
    crate::timeout::timeout(ERRORS_GRACE, errors)
}

/// A model's schedule has no time.
#[cfg(any(bowline_loom, bowline_shuttle))]
async fn within_grace(errors: &mut Handle<()>) -> Result<Result<(), Cancelled>, Cancelled> {
    let _ = ERRORS_GRACE;
    Ok(errors.await)
}

async fn run_all(starters: Vec<Starter>, core: &Arc<Core>, node: &Arc<Node>) -> Result<(), Cancelled> {
    let mut tasks = Vec::new();
    for start in starters {
        start(core, node, &mut tasks);
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}
