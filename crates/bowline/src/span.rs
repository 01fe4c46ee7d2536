//! The span of `tracing` that a task is polled in, if that feature is on; else nothing, of no size.
//!
//! The task's future owns its span and enters it for each poll and for the drop, so whatever is recorded inside says which task it
//! was. The span is closed when the task's destructors have run. No lock is held, and nothing of ours is borrowed, while a
//! subscriber is told: that is other people's code.

use crate::record::Record;

#[cfg(feature = "tracing")]
#[derive(Clone)]
pub(crate) struct TaskSpan(tracing::Span);

#[cfg(feature = "tracing")]
impl TaskSpan {
    /// A span for this task. Its parent is the span in which it was spawned; `task.parent` is the task that owns it.
    pub(crate) fn of(record: &Record) -> Self {
        let site = record.site;
        Self(tracing::info_span!(
            target: "bowline",
            "task",
            task.name = site.name,
            task.id = record.id(),
            task.parent = record.node.parent().map(|parent| parent.task_id()),
            task.place = %format_args!("{}:{}", site.place.file(), site.place.line()),
        ))
    }

    #[inline]
    pub(crate) fn enter(&self) -> tracing::span::Entered<'_> {
        self.0.enter()
    }
}

#[cfg(not(feature = "tracing"))]
#[derive(Clone)]
pub(crate) struct TaskSpan;

#[cfg(not(feature = "tracing"))]
pub(crate) struct Entered;

#[cfg(not(feature = "tracing"))]
impl TaskSpan {
    #[inline]
    pub(crate) fn of(_: &Record) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn enter(&self) -> Entered {
        Entered
    }
}
