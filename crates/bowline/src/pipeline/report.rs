//! How a pipeline ended.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::failed::Failed;
use super::stats::PipelineStats;
use crate::cause::{Cancelled, Cause};

/// How a pipeline came to its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PipelineEnd {
    /// The source came to its end, and every record after it.
    Finished,
    /// The source was told to stop, and everything that was in flight came out.
    Drained,
    /// So many records failed, as [`stop_after`](crate::Pipeline::stop_after) allows; what was in flight is dropped. Look at the
    /// errors: it is mostly one cause.
    TooManyErrors {
        /// How many it were when it stopped.
        errors: u64,
    },
    /// A failure could not be kept, or whoever takes failures panicked, and [`on_done`](crate::Pipeline::on_done) tells what is
    /// done: nothing behind that record could ever be. What was not told comes again when the source is read again.
    FailureLost {
        /// The stage that failed.
        stage: &'static str,
    },
    /// The function that feeds the pipeline returned this error. What it gave before came out.
    SourceFailed(Arc<dyn Error + Send + Sync>),
    /// It was cancelled; what was in flight is dropped.
    Cancelled(Cancelled),
}

impl PipelineEnd {
    /// Returns whether every record of the source came to its end: [`Finished`](Self::Finished) or
    /// [`Drained`](Self::Drained).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Finished | Self::Drained)
    }
}

impl fmt::Display for PipelineEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Drained => f.write_str("drained"),
            Self::TooManyErrors { errors } => write!(f, "stopped: {errors} records failed"),
            Self::FailureLost { stage } => {
                write!(
                    f,
                    "stopped: a failure of `{stage}` was lost, and nothing behind it could be done without a gap"
                )
            }
            Self::SourceFailed(error) => write!(f, "the source failed: {error}"),
            Self::Cancelled(cancelled) => write!(f, "cancelled: {cancelled}"),
        }
    }
}

/// What a pipeline came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct PipelineReport {
    /// How it ended.
    pub end: PipelineEnd,
    /// Its books at the end: `received = done + failed + filtered + cancelled`.
    pub stats: PipelineStats,
    /// The failures that were kept and not handed on.
    pub errors: Vec<Failed>,
}

/// A pipeline that did not come to the end of its source.
pub struct PipelineError {
    report: Box<PipelineReport>,
}

impl PipelineError {
    pub(super) fn of(report: PipelineReport) -> Self {
        Self { report: Box::new(report) }
    }

    /// Returns why.
    #[must_use]
    pub fn end(&self) -> &PipelineEnd {
        &self.report.end
    }

    /// Returns the whole report.
    #[must_use]
    pub fn report(&self) -> &PipelineReport {
        &self.report
    }

    /// Takes the report, with the failures.
    #[must_use]
    pub fn into_report(self) -> PipelineReport {
        *self.report
    }
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PipelineStats { name, received, done, failed, cancelled, .. } = &self.report.stats;
        let end = &self.report.end;
        write!(
            f,
            "pipeline `{name}`: {end}; of {received} records {done} are done, {failed} failed, {cancelled} were cancelled"
        )
    }
}

impl fmt::Debug for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for PipelineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.end() {
            PipelineEnd::SourceFailed(error) => Some(&**error),
            PipelineEnd::Cancelled(cancelled) => Some(cancelled),
            _ => self.report.errors.first().map(|failed| failed as &(dyn Error + 'static)),
        }
    }
}

/// For scopes whose error is [`Cancelled`].
impl From<PipelineError> for Cancelled {
    fn from(error: PipelineError) -> Self {
        match error.into_report().end {
            PipelineEnd::Cancelled(cancelled) => cancelled,
            PipelineEnd::SourceFailed(_) => Cancelled::new(Cause::Refused("the source of a pipeline failed")),
            _ => Cancelled::new(Cause::Refused("too many records of a pipeline failed")),
        }
    }
}
