//! What the tasks of a pipeline and its handles share.

use std::panic::Location;

use tokio::time::Instant;

use super::done::{Receipt, Watermark};
use super::failed::{Failed, Record};
use super::meter::StageBooks;
use super::report::PipelineEnd;
use super::stats::{PipelineStats, StageStats};
use crate::books::Books;
use crate::cause::Cancelled;
use crate::combine::race;
use crate::context::draining;
use crate::lock::{FreeCount, Latch};
use crate::scope::ScopeHandle;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, LockExt, Mutex, OnceLock};

pub(super) static PIPELINES: Books<Core> = Books::new();

/// Returns the statistics of every pipeline that runs, or is still held by somebody, in the order in which they were started.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// assert!(bowline::pipelines().iter().all(|pipeline| pipeline.name != "not started"));
/// # });
/// ```
#[must_use]
pub fn pipelines() -> Vec<PipelineStats> {
    PIPELINES.all().iter().map(|core| core.stats()).collect()
}

/// The stages of all of them, each with a number as long as it lives, and its place as alerts have it.
pub(crate) fn placed_stages() -> Vec<(u64, &'static Location<'static>, StageStats)> {
    let now = Instant::now();
    let mut stages = Vec::new();
    for core in PIPELINES.all() {
        stages.extend(core.stages.iter().map(|stage| {
            let number = Arc::as_ptr(stage).addr() as u64;
            (number, stage.place, stage.stats(core.started, now))
        }));
    }
    stages
}

/// What the tasks of a pipeline and its handles share.
pub(super) struct Core {
    pub(super) name: &'static str,
    pub(super) place: &'static Location<'static>,
    pub(super) started: Instant,
    pub(super) stages: Vec<Arc<StageBooks>>,
    pub(super) record: Record,
    pub(super) watermark: Option<Watermark>,
    pub(super) stop_after: Option<u64>,
    pub(super) failed: AtomicU64,
    /// Sends of a [`Feed`](super::Feed) that wait.
    pub(super) feeding: AtomicUsize,
    pub(super) scope: OnceLock<ScopeHandle<Cancelled>>,
    /// Dropped, it tells the source to stop.
    pub(super) brake: Mutex<Option<FreeCount>>,
    pub(super) braked: Latch,
    pub(super) is_draining: AtomicBool,
    /// The first reason that is not the ordinary one.
    pub(super) why: Mutex<Option<PipelineEnd>>,
    pub(super) end: Mutex<Option<PipelineEnd>>,
    pub(super) ended: Latch,
}

impl Core {
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// A record is done.
    pub(super) fn settle(&self, seq: u64, receipt: Receipt) {
        if let Some(receipt) = receipt {
            receipt.settle();
        }
        if let Some(watermark) = &self.watermark {
            watermark.settle(seq);
        }
    }

    /// A record failed.
    pub(super) fn fail(&self, failed: Failed) {
        // Relaxed: it counts; who reaches the limit cancels.
        let errors = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        let stage = failed.stage;
        if self.record.keep(failed).is_err() {
            self.lost(stage);
        }
        if self.stop_after == Some(errors) {
            self.stop(PipelineEnd::TooManyErrors { errors });
        }
    }

    /// A failure was lost. Where what is done without a gap is told, nothing behind it could ever be.
    pub(super) fn lost(&self, stage: &'static str) {
        if self.watermark.is_some() {
            self.stop(PipelineEnd::FailureLost { stage });
        }
    }

    fn stop(&self, end: PipelineEnd) {
        self.note(end);
        if let Some(scope) = self.scope.get() {
            scope.cancel("the pipeline stopped itself");
        }
    }

    /// Notes why it ends, unless a reason is known.
    pub(super) fn note(&self, end: PipelineEnd) {
        self.why.lock_unpoisoned().get_or_insert(end);
    }

    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release); // pairs with the Acquire in `is_draining`
        let brake = self.brake.lock_unpoisoned().take();
        drop(brake); // wakes the source: not under the lock
    }

    /// Whether somebody has asked for the drain of this pipeline.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Waits until the source is to stop: somebody has asked for it, or the process begins to shut down.
    pub(super) async fn stopping(&self) {
        // A cancelled context ends the wait as well; the source then meets it at its own next wait.
        race(self.braked.wait(), draining()).await;
    }

    pub(super) fn stats(&self) -> PipelineStats {
        let now = Instant::now();
        let stages: Vec<_> = self.stages.iter().map(|stage| stage.stats(self.started, now)).collect();
        let received = stages.first().map_or(0, |stage| stage.received);
        let done = stages.last().map_or(0, |stage| stage.passed);
        let failed = stages.iter().map(|stage| stage.failed).sum();
        let filtered = stages.iter().map(|stage| stage.filtered).sum();
        let cancelled = stages.iter().map(|stage| stage.cancelled).sum();
        let gone = done + failed + filtered + cancelled;
        PipelineStats {
            name: self.name,
            place: format!("{}:{}", self.place.file(), self.place.line()),
            received,
            done,
            failed,
            filtered,
            cancelled,
            in_flight: usize::try_from(received.saturating_sub(gone)).unwrap_or(usize::MAX),
            max_in_flight: stages
                .iter()
                .fold(0, |sum: usize, stage| sum.saturating_add(stage.workers + stage.max_items)),
            stages,
            done_without_gap: self.watermark.as_ref().map(Watermark::mark),
            errors_kept: self.record.depth(),
            errors_lost: self.record.lost(),
            error_taker_panics: self.record.taker_panics(),
            ended: self.end.lock_unpoisoned().as_ref().map(ToString::to_string),
        }
    }

    pub(super) fn take_errors(&self) -> Vec<Failed> {
        self.record.take_all(self.watermark.as_ref())
    }
}
