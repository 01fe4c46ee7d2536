//! The handle of a pipeline that runs.

use std::fmt;

use super::core::Core;
use super::failed::Failed;
use super::report::PipelineEnd;
use super::stats::PipelineStats;
use crate::cause::Cancelled;
use crate::handle::Handle;
use crate::sync::{Arc, LockExt};

/// A pipeline that runs, to be looked at, drained and cancelled; made by [`start`](crate::PipelineReady::start).
///
/// It can be cloned and kept anywhere. Dropping it does nothing: a pipeline lives from its source, and ends with that. One that
/// reads a queue ends when the last sender of the queue has gone.
#[derive(Clone)]
pub struct PipelineHandle {
    pub(super) core: Arc<Core>,
    pub(super) task: Arc<Handle<()>>,
}

impl PipelineHandle {
    /// Returns what the pipeline was and is.
    #[must_use]
    pub fn stats(&self) -> PipelineStats {
        self.core.stats()
    }

    /// Tells the source to stop; everything that is in flight comes out. To wait for that: [`wait_ended`](Self::wait_ended).
    ///
    /// An iterator or stream is dropped between two records, as is a function that feeds, if it does not wait in
    /// [`Feed::send`](crate::Feed::send). What is in a queue that is read is still taken; if nobody else receives from it, it is
    /// closed. The beginning of a shutdown ([`draining`](crate::draining())) does the same.
    pub fn drain(&self) {
        self.core.drain();
    }

    /// Cancels the pipeline: its source and workers end at their next await, and what is in flight is dropped and counted.
    pub fn cancel(&self, reason: &'static str) {
        self.task.cancel(reason);
    }

    /// Takes the failures that are kept now.
    ///
    /// With [`Errors::each`](crate::Errors::each) these are the ones that were not handed on yet.
    #[must_use = "they are not kept any more"]
    pub fn take_errors(&self) -> Vec<Failed> {
        self.core.take_errors()
    }

    /// Waits until the pipeline has come to its end, and returns which.
    ///
    /// # Cancel safety
    ///
    /// There is nothing to lose; the pipeline goes on.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the waiting context was cancelled.
    pub async fn wait_ended(&self) -> Result<PipelineEnd, Cancelled> {
        self.core.ended.wait().await?;
        let end = self.core.end.lock_unpoisoned().clone();
        let Some(end) = end else { unreachable!("the end is written before it is told") };
        Ok(end)
    }
}

impl fmt::Debug for PipelineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut handle = f.debug_struct("PipelineHandle");
        handle.field("name", &self.core.name).field("id", &self.task.id()).finish_non_exhaustive()
    }
}
