//! How a job is run: in place, or in a context of its own.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::time::Duration;

use super::call::JobEnd;
use crate::cause::{Cancelled, Cause};
use crate::node::{Alive, NodeKind};
use crate::sync::Arc;
use crate::timeout::{Limit, Under};
use crate::track::{End, Strand};

/// A job in a context of its own.
pub(super) type Owned<R> = Pin<Box<dyn Future<Output = JobEnd<R>> + Send>>;

/// What a pool does with a job.
pub(super) struct Handler<J, R, F> {
    pub(super) run: F,
    pub(super) is_failure: fn(&R) -> bool,
    pub(super) job_timeout: Option<Duration>,
    /// Whether the pool learns from how long each job takes.
    pub(super) adapts: bool,
    pub(super) place: &'static Location<'static>,
    pub(super) of: PhantomData<fn(J) -> R>,
}

/// The same, for those who do not know its type.
pub(super) trait Begin<J, R>: Send + Sync {
    /// Begins a job in a context that was opened for it.
    fn begin_in(self: Arc<Self>, alive: Alive, job: J) -> Owned<R>;

    fn is_failure(&self) -> fn(&R) -> bool;
}

impl<J, R, F, Fut> Handler<J, R, F>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    /// Begins a job in the context of whoever polls it, under the time limit.
    pub(super) fn begin(self: &Arc<Self>, job: J) -> Owned<R> {
        Box::pin(Arc::clone(self).limited(job))
    }

    async fn limited(self: Arc<Self>, job: J) -> JobEnd<R> {
        let run = async { (self.run)(job).await };
        let Some(after) = self.job_timeout else { return JobEnd::Value(run.await) };
        match Under::new(self.place, Limit::After(after), NodeKind::Timeout, run).await {
            Ok(value) => JobEnd::Value(value),
            // What cancels from further out cancels us too.
            Err(cancelled) if crate::context::is_cancelled() => JobEnd::Cancelled(cancelled),
            Err(_) => JobEnd::TimedOut,
        }
    }
}

impl<J, R, F, Fut> Begin<J, R> for Handler<J, R, F>
where
    J: Send + 'static,
    R: Send + 'static,
    F: Fn(J) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    fn begin_in(self: Arc<Self>, alive: Alive, job: J) -> Owned<R> {
        let strand = Strand::new(alive.node(), self.limited(job));
        Box::pin(async move {
            let end = strand.await;
            match end {
                End::Value(end) => end,
                End::Cancelled => {
                    let why = alive.node().why();
                    JobEnd::Cancelled(why.unwrap_or_else(|| Cancelled::new(Cause::Aborted)))
                }
                End::Panicked(panic) => JobEnd::Panicked(panic),
            }
        })
    }

    fn is_failure(&self) -> fn(&R) -> bool {
        self.is_failure
    }
}
