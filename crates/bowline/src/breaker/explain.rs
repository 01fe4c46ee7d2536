//! What a breaker says about itself: errors, statistics, and the words in them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::window::{Span, Tally};
use crate::call::{Class, Classify};

/// A duration for people: `250 ms`, `2.5 s`, `12 s`, `3 min`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_millis() {
        0..1_000 => format!("{} ms", duration.as_millis()),
        // Rounded up to the whole, a tenth is noise; below ten seconds it is not.
        1_000..10_000 if duration.subsec_millis() >= 100 => format!("{seconds:.1} s"),
        1_000..120_000 => format!("{seconds:.0} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

pub(super) fn span_in_words(span: Span) -> Cow<'static, str> {
    match span {
        Span::Time(span) => format!("in the last {}", short(span)).into(),
        Span::Calls(_) => "lately".into(),
    }
}

/// `14 of 20 calls failed in the last 10 s (9 time-outs, 5 network; last: …)`.
pub(super) fn tally_in_words(tally: &Tally, span: Span, last: Option<&str>) -> String {
    let (failed, calls) = (tally.failures(), tally.calls);
    let over = match span {
        Span::Time(_) => format!("{failed} of {calls} calls failed {}", span_in_words(span)),
        Span::Calls(_) => format!("{failed} of the last {calls} calls failed"),
    };
    let kinds = tally.by_kind();
    let last = last.map_or_else(String::new, |last| format!("; last: {last}"));
    if kinds.is_empty() { over } else { format!("{over} ({kinds}{last})") }
}

/// A breaker refused a call: nothing was sent.
///
/// Try again after [`retry_in`](Self::retry_in), or do without for now: serve a stored answer, or tell the caller so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerOpen {
    /// The breaker's name.
    pub name: Arc<str>,
    /// For how long it has been open, or half-open with as many probes as it allows.
    pub since: Duration,
    /// When it will know more; `None` if it was forced open and somebody has to release it.
    pub retry_in: Option<Duration>,
    /// Why, in words.
    pub why: Arc<str>,
}

impl fmt::Display for BreakerOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "breaker `{}` is open since {}: {}", self.name, short(self.since), self.why)?;
        match self.retry_in {
            Some(retry_in) => write!(f, "; try again in {}", short(retry_in)),
            None => f.write_str("; forced, until it is released"),
        }
    }
}

impl std::error::Error for BreakerOpen {}

impl Classify for BreakerOpen {
    /// An overload that says when to come back: nothing has happened upstream.
    fn class(&self) -> Class {
        Class::Overload { retry_after: self.retry_in }
    }
}

/// Why a call through a breaker has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerError<E> {
    /// The breaker refused it: it was not made.
    Open(BreakerOpen),
    /// It was made and failed. The breaker has counted it by its class.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for BreakerError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(open) => open.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for BreakerError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(_) => None, // it is shown whole
            Self::Failed(error) => error.source(),
        }
    }
}

impl<E: Classify> Classify for BreakerError<E> {
    fn class(&self) -> Class {
        match self {
            Self::Open(open) => open.class(),
            Self::Failed(error) => error.class(),
        }
    }
}

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls pass, and are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls pass, to see whether the upstream is back.
    HalfOpen,
    /// Somebody forced it open: calls are refused until it is released.
    ForcedOpen,
    /// Somebody forced it closed: calls pass whatever they come to.
    ForcedClosed,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
            Self::ForcedClosed => "forced closed",
        })
    }
}

/// The books of a breaker at one moment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BreakerStats {
    /// The name given at creation.
    pub name: String,
    /// `file:line` of creation.
    pub place: String,
    /// What it does with calls.
    pub state: BreakerState,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// The same and why, in words.
    pub explained: String,
    /// Calls in the window.
    pub calls: u32,
    /// Calls in the window that failed.
    pub failures: u32,
    /// Calls in the window that were slow, if that is looked at.
    pub slow: u32,
    /// Probes under way; only a half-open breaker has any.
    pub probes_in_flight: u32,
    /// Calls that succeeded, since it was made.
    pub succeeded: u64,
    /// Calls that failed, since it was made.
    pub failed: u64,
    /// Calls that were cancelled or dropped, since it was made: they count as nothing.
    pub unknown: u64,
    /// Calls whose result came after the breaker had changed its state, since it was made: they count as nothing.
    pub stale: u64,
    /// Calls that were refused, since it was made.
    pub refused: u64,
    /// How often it opened by itself.
    pub opened: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_long_as_people_need_them() {
        let shown = [250, 1_000, 2_500, 12_345, 119_000, 180_000].map(|ms| short(Duration::from_millis(ms)));
        assert_eq!(shown, ["250 ms", "1 s", "2.5 s", "12 s", "119 s", "3 min"]);
    }
}
