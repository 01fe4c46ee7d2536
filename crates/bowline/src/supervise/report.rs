//! What can be seen of a supervisor and its children.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::decide::MISSED_BEATS;
use super::spec::{Restart, Strategy};
use crate::panic::{Panic, PanicClass};

/// What a child is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChildState {
    /// Its turn to start has not come: those before it are not ready, or others still stop.
    Waiting,
    /// It runs and is not ready yet.
    Starting,
    /// It runs, and is ready.
    Running,
    /// It fell, and is started again when its back-off is over.
    BackingOff,
    /// It was asked to go.
    Stopping,
    /// It was cancelled and aborted and is still not gone.
    Stuck,
    /// It is gone because somebody asked for it.
    Stopped,
    /// It ended by itself, and its terms say that it is not started again.
    Finished,
    /// It was removed, was temporary and has ended, or its supervisor has.
    Gone,
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for its turn",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing off",
            Self::Stopping => "stopping",
            Self::Stuck => "stuck",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Gone => "gone",
        })
    }
}

/// How an incarnation of a child ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChildEnd {
    /// It returned `Ok(())`.
    Returned,
    /// It returned an error.
    Failed(Arc<dyn Error + Send + Sync>),
    /// It panicked; [`Panic::class`] tells a bug from bad input.
    Panicked(Panic),
    /// It was cancelled and did not answer with an error of its own, or was aborted.
    Cancelled,
    /// It missed its beats and was stopped.
    Hung,
    /// It was not ready in time and was stopped.
    NotReady,
}

impl fmt::Display for ChildEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned => f.write_str("returned early"),
            Self::Failed(error) => {
                write!(f, "failed: {error}")?;
                let mut source = error.source();
                while let Some(cause) = source {
                    write!(f, " ← {cause}")?;
                    source = cause.source();
                }
                Ok(())
            }
            Self::Panicked(panic) => panic.fmt(f),
            Self::Cancelled => f.write_str("was cancelled"),
            Self::Hung => write!(f, "missed {MISSED_BEATS} beats"),
            Self::NotReady => f.write_str("was not ready in time"),
        }
    }
}

/// A supervisor has given up: its children failed too often. It has stopped them all, and has failed its own scope.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GaveUp {
    /// The name of the supervisor.
    pub supervisor: &'static str,
    /// The child that failed once too often.
    pub child: Cow<'static, str>,
    /// How many restarts there had been in the window.
    pub restarts: u32,
    /// The window.
    pub window: Duration,
    /// How the child ended the last time.
    pub last: ChildEnd,
    /// The same in words, made by the child's own task: an error's `Display` is its user's code.
    pub(super) last_text: String,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { supervisor, child, restarts, window, last_text, .. } = self;
        write!(f, "supervisor `{supervisor}` gave up: after {restarts} restarts within {window:?}, ")?;
        write!(f, "`{child}` {last_text}")
    }
}

impl Error for GaveUp {}

/// The books of a supervisor at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SupervisorStats {
    /// Its name.
    pub name: &'static str,
    /// `file:line` of its start.
    pub place: String,
    /// Who is started again with whom.
    pub strategy: Strategy,
    /// Restarts after failures since its start.
    pub restarts: u64,
    /// Those that lie in the window now.
    pub recent_restarts: usize,
    /// How many there may be in the window.
    pub max_restarts: u32,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// How many children there may be.
    pub max_children: usize,
    /// Why it gave up, if it did.
    pub gave_up: Option<String>,
    /// Whether it has ended, or never started.
    pub ended: bool,
    /// Its children, in the order of their start.
    pub children: Vec<ChildStats>,
}

/// The books of a child at one moment. Counts are since it was added, of all its incarnations.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ChildStats {
    /// Its name.
    pub name: Cow<'static, str>,
    /// `file:line` where it was described.
    pub place: String,
    /// Whether it is started again.
    pub restart: Restart,
    /// What it is at.
    pub state: ChildState,
    /// Since when, in milliseconds.
    pub since_ms: u64,
    /// The number of its living incarnation, or of the last one. 0 if there was none.
    pub incarnation: u64,
    /// Whether it runs and is ready.
    pub ready: bool,
    /// How long ago it beat last, in milliseconds. `None` if no beat is due: it has no heartbeat, idles, or does not run.
    pub beat_age_ms: Option<u64>,
    /// Restarts after failures of its own.
    pub restarts: u64,
    /// Ends by an error.
    pub errors: u64,
    /// Ends by a panic that was a bug.
    pub panics_unexpected: u64,
    /// Ends by a panic that refused bad input.
    pub panics_expected: u64,
    /// Ends because it missed its beats, or was not ready in time.
    pub hangs: u64,
    /// Ends of a permanent child that returned.
    pub early_returns: u64,
    /// Ends by a cancel from somebody else than its supervisor.
    pub cancelled: u64,
    /// How it failed last, in words.
    pub last_failure: Option<String>,
}

/// How often a child ended how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    pub(super) errors: u64,
    pub(super) panics_unexpected: u64,
    pub(super) panics_expected: u64,
    pub(super) hangs: u64,
    pub(super) early_returns: u64,
    pub(super) cancelled: u64,
}

impl Ends {
    pub(super) fn count(&mut self, end: &ChildEnd, restart: Restart) {
        let counter = match end {
            ChildEnd::Returned if restart == Restart::Permanent => &mut self.early_returns,
            ChildEnd::Returned => return,
            ChildEnd::Failed(_) => &mut self.errors,
            ChildEnd::Panicked(panic) if panic.class() == PanicClass::Expected => &mut self.panics_expected,
            ChildEnd::Panicked(_) => &mut self.panics_unexpected,
            ChildEnd::Cancelled => &mut self.cancelled,
            ChildEnd::Hung | ChildEnd::NotReady => &mut self.hangs,
        };
        *counter += 1;
    }
}

/// As text for people: one line for the supervisor and one per child.
impl fmt::Display for SupervisorStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, restarts, recent_restarts, max_restarts, window_ms, place, .. } = self;
        write!(f, "[supervisor] {name}  {recent_restarts} of {max_restarts} restarts in {window_ms} ms")?;
        write!(f, ", {restarts} in all  {place}")?;
        if let Some(gave_up) = &self.gave_up {
            write!(f, "\n  {gave_up}")?;
        }
        for child in &self.children {
            write!(f, "\n  {child}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ChildStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, state, since_ms, incarnation, restarts, place, .. } = self;
        write!(f, "{name} ({incarnation})  {state} for {since_ms} ms")?;
        if let Some(age) = self.beat_age_ms {
            write!(f, ", beat {age} ms ago")?;
        }
        if *restarts > 0 {
            write!(f, ", restarts: {restarts}")?;
        }
        write!(f, "  {place}")?;
        match &self.last_failure {
            Some(last) => write!(f, "\n    last: {last}"),
            None => Ok(()),
        }
    }
}
