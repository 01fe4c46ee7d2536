//! How a run ended: the report of an ordered shutdown, and its exit code.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::blockers::{Listed, Straggler, plural};
use crate::cause::Cancelled;
use crate::panic::{Panic, PanicStats};
use crate::root::Phase;

/// Why a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The main future returned, panicked or was cancelled.
    Finished,
    /// A signal asked for it.
    Signal(&'static str),
    /// The program asked for it, with [`shut_down`](crate::shut_down).
    Requested(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Finished => f.write_str("main finished"),
            Reason::Signal(reason) | Reason::Requested(reason) => f.write_str(reason),
        }
    }
}

/// How long a part of the shutdown took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PhaseTime {
    /// Which part.
    pub phase: Phase,
    /// The drain phase whose turn it was. Those come first, in the order of their turns; the draining as a whole follows.
    pub drain_phase: Option<&'static str>,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    pub took: Duration,
    /// Whether its time was up while somebody was still at work.
    pub is_cut_off: bool,
}

/// How a run ended.
///
/// As text for people ([`Display`](fmt::Display)), and as data for programs: it serializes, with durations in milliseconds
/// (`took_ms`) and the `exit_code` as a number.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// Why it ended.
    pub reason: Reason,
    /// The furthest phase of the shutdown.
    pub phase: Phase,
    /// From the reason to the end.
    pub took: Duration,
    /// How long each part of the shutdown took, in order; parts that there was no need for are missing.
    pub phases: Vec<PhaseTime>,
    /// Tasks that did not stop; empty after a clean shutdown.
    pub stragglers: Vec<Straggler>,
    /// Tasks that were still at work when the time for draining, or for their drain phase, was over, or when a second signal
    /// came. They were cancelled or aborted: what they had accepted may be lost.
    pub cut_off: Vec<Straggler>,
    /// Whether a second signal cut the shutdown short.
    pub forced_by_signal: bool,
    /// The main future's panic.
    pub panic: Option<Panic>,
    /// Why the main future had no value, if it was cancelled.
    pub cancelled: Option<Cancelled>,
    /// Every panic of the run, also those of tasks whose owner went on.
    pub panics: PanicStats,
    /// Tasks that outlived the future of their scope and were adopted by an ancestor.
    pub adopted: u64,
    /// Tasks that nobody here owns - a framework's - and that were dropped with the runtime.
    pub foreign_tasks: usize,
}

/// Exit code of a run whose main future failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit code of a run that had to be forced: somebody did not stop, or a second signal came.
pub(crate) const EXIT_FORCED: u8 = 3;

impl Report {
    /// Returns whether everybody finished in time: nobody was cut off, nobody stayed, no second signal.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.stragglers.is_empty() && self.cut_off.is_empty() && !self.forced_by_signal
    }

    /// Returns 0 for a clean end, 1 if the main future panicked, 3 if the end was forced ([`is_clean`](Self::is_clean)).
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        if !self.is_clean() {
            EXIT_FORCED
        } else if self.panic.is_some() {
            EXIT_FAILED
        } else {
            0
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match (self.is_clean(), self.forced_by_signal, &self.panic) {
            (true, _, None) => "clean shutdown",
            (true, _, Some(_)) => "main panicked; shutdown",
            (false, true, _) => "shutdown forced by a second signal",
            (false, false, _) => "forced shutdown",
        };
        write!(f, "{how} ({}) in {:.1} s", self.reason, self.took.as_secs_f32())?;
        let mut before = "; drained ";
        for PhaseTime { drain_phase, took, is_cut_off, .. } in &self.phases {
            if let Some(name) = drain_phase {
                let cut = if *is_cut_off { " (cut off)" } else { "" };
                write!(f, "{before}`{name}` {:.1} s{cut}", took.as_secs_f32())?;
                before = ", ";
            }
        }
        if self.foreign_tasks > 0 {
            let tasks = plural(self.foreign_tasks, "task", "tasks");
            write!(f, "; {} foreign {tasks} dropped", self.foreign_tasks)?;
        }
        if let Some(panic) = &self.panic {
            write!(f, "\n  {panic}")?;
        }
        let cut_off = if self.forced_by_signal {
            "not finished when the second signal came, and aborted"
        } else {
            "not finished when the time for draining was over, and cancelled"
        };
        for (tasks, what) in [(&self.cut_off, cut_off), (&self.stragglers, "did not stop")] {
            if !tasks.is_empty() {
                write!(f, "; {}", Listed(tasks, what))?;
            }
        }
        Ok(())
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cancelled = self.cancelled.as_ref().map(ToString::to_string);
        let mut fields = serializer.serialize_struct("Report", 14)?;
        fields.serialize_field("exit_code", &self.code())?;
        fields.serialize_field("is_clean", &self.is_clean())?;
        fields.serialize_field("reason", &self.reason)?;
        fields.serialize_field("phase", &self.phase)?;
        fields.serialize_field("took_ms", &u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX))?;
        fields.serialize_field("phases", &self.phases)?;
        fields.serialize_field("stragglers", &self.stragglers)?;
        fields.serialize_field("cut_off", &self.cut_off)?;
        fields.serialize_field("forced_by_signal", &self.forced_by_signal)?;
        fields.serialize_field("panic", &self.panic)?;
        fields.serialize_field("cancelled", &cancelled)?;
        fields.serialize_field("panics", &self.panics)?;
        fields.serialize_field("adopted", &self.adopted)?;
        fields.serialize_field("foreign_tasks", &self.foreign_tasks)?;
        fields.end()
    }
}

/// A duration as data: a number of milliseconds.
pub(super) fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
