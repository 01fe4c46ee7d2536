//! How a run ended: the report of an ordered shutdown, and its exit code.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use crate::cause::Cancelled;
use crate::panic::Panic;
use crate::root::Phase;

/// Why a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// A task that did not stop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Straggler {
    /// Names from the root down, joined by `/`.
    pub path: String,
    /// `file:line` of its spawn.
    pub place: String,
    /// Since its spawn.
    pub age: Duration,
    /// What it was doing.
    pub state: String,
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, place, age, state } = self;
        write!(f, "task `{path}` spawned at {place}, {state}, {:.1} s old", age.as_secs_f32())
    }
}

/// How a run ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// Why it ended.
    pub reason: Reason,
    /// The furthest phase of the shutdown.
    pub phase: Phase,
    /// From the reason to the end.
    pub took: Duration,
    /// Tasks that did not stop; empty after a clean shutdown.
    pub stragglers: Vec<Straggler>,
    /// Tasks that were still at work when the time for draining was over. They were cancelled: what they had accepted may
    /// be lost. Empty if nobody drains.
    pub cut_off: Vec<Straggler>,
    /// Whether a second signal cut the shutdown short.
    pub forced_by_signal: bool,
    /// The main future's panic.
    pub panic: Option<Panic>,
    /// Why the main future had no value, if it was cancelled.
    pub cancelled: Option<Cancelled>,
    /// Tasks that outlived the future of their scope and were adopted by an ancestor.
    pub adopted: u64,
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
        if !self.is_clean() {
            ExitCode::from(EXIT_FORCED)
        } else if self.panic.is_some() {
            ExitCode::from(EXIT_FAILED)
        } else {
            ExitCode::SUCCESS
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
        if let Some(panic) = &self.panic {
            write!(f, "\n  {panic}")?;
        }
        list(f, &self.cut_off, "not finished when the time for draining was over, and cancelled")?;
        list(f, &self.stragglers, "did not stop")
    }
}

fn list(f: &mut fmt::Formatter<'_>, tasks: &[Straggler], what: &str) -> fmt::Result {
    const SHOWN: usize = 20;
    if tasks.is_empty() {
        return Ok(());
    }
    write!(f, "; {} {what}:", tasks.len())?;
    for task in tasks.iter().take(SHOWN) {
        write!(f, "\n  {task}")?;
    }
    if tasks.len() > SHOWN {
        write!(f, "\n  … and {} more", tasks.len() - SHOWN)?;
    }
    Ok(())
}
