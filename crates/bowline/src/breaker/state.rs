//! The breaker as a sequential machine: events with the time at which they happen, and what follows from them.
//!
//! It knows neither locks nor clocks nor tasks: its owner brings the time, and whatever chance there is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::explain::{BreakerState, short, span_in_words, tally_in_words};
use super::window::{BUCKETS, Span, Tally, Window};
use crate::call::Class;

/// Everything that can be set.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) span: Span,
    pub(super) at_least: u32,
    pub(super) failure_rate: f64,
    /// What counts as slow, and the share of slow calls that opens it.
    pub(super) slow: Option<(Duration, f64)>,
    pub(super) open_for: Duration,
    pub(super) open_at_most: Duration,
    pub(super) probes: u32,
    pub(super) close_after: u32,
    pub(super) probe_time: Duration,
    /// A number in `0.0..1.0`.
    pub(super) chance: fn() -> f64,
}

/// How much longer than its time a breaker stays open at random, so that many processes do not probe at once.
const JITTER: f64 = 0.25;

#[derive(Clone, Debug)]
pub(super) enum Mode {
    Closed,
    Open {
        until: Instant,
        why: Arc<str>,
    },
    HalfOpen {
        in_flight: u32,
        succeeded: u32,
        /// When a probe was admitted last.
        asked: Instant,
        why: Arc<str>,
    },
    ForcedOpen {
        reason: &'static str,
    },
    ForcedClosed {
        reason: &'static str,
    },
}

impl Mode {
    /// Whether everybody is admitted.
    pub(super) fn lets_pass(&self) -> bool {
        matches!(self, Mode::Closed | Mode::ForcedClosed { .. })
    }
}

/// An admitted call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) generation: u64,
    /// When it was admitted, if that is asked for.
    pub(super) at: Option<Instant>,
}

/// How an admitted call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed(Class),
    /// Nobody knows: it counts as nothing.
    Unknown,
}

/// What the owner has to tell others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum News {
    None,
    Opened(Arc<str>),
    Closed(&'static str),
}

/// Why nobody is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) since: Instant,
    /// `None`: nobody knows when; it was forced.
    pub(super) retry_in: Option<Duration>,
    pub(super) why: Arc<str>,
}

/// Counts since the breaker was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    pub(super) stale: u64,
    pub(super) refused: u64,
    pub(super) opened: u64,
}

pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) mode: Mode,
    /// Counts the changes of mode: what was admitted before one does not count after it.
    pub(super) generation: u64,
    /// When the mode changed.
    pub(super) since: Instant,
    pub(super) window: Window,
    /// How often it opened in a row, and for how long the last time.
    in_a_row: u32,
    last_open: Duration,
    pub(super) totals: Totals,
}

impl State {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        let window = Window::new(settings.span, now);
        Self {
            settings,
            mode: Mode::Closed,
            generation: 0,
            since: now,
            window,
            in_a_row: 0,
            last_open: Duration::ZERO,
            totals: Totals::default(),
        }
    }

    /// Somebody asks to be admitted. A breaker that has been open for long enough becomes half-open by that.
    pub(super) fn admit(&mut self, now: Instant) -> (Result<Ticket, Refusal>, News) {
        let mut news = News::None;
        if let Mode::HalfOpen { in_flight, asked, ref why, .. } = self.mode {
            // Probes that never end would keep it half-open for ever. If a place is free, one has come back; and if none is, none
            // has since the last was taken.
            let late = now.saturating_duration_since(asked) >= self.settings.probe_time;
            if late && in_flight >= self.settings.probes {
                let probe_time = short(self.settings.probe_time);
                let why = format!("no probe came back within {probe_time}; before that, {}", root(why));
                news = self.open(now, why.into());
            }
        }
        let admitted = match &mut self.mode {
            Mode::Closed | Mode::ForcedClosed { .. } => Ok(()),
            Mode::Open { until, why } if now >= *until => {
                let why = Arc::clone(why);
                self.change(now, Mode::HalfOpen { in_flight: 1, succeeded: 0, asked: now, why });
                Ok(())
            }
            Mode::Open { until, why } => Err((Some(*until - now), Arc::clone(why))),
            Mode::HalfOpen { in_flight, asked, why, .. } => {
                if *in_flight < self.settings.probes {
                    *in_flight += 1;
                    *asked = now;
                    Ok(())
                } else {
                    // Somebody is asking already; how it went is known by then at the latest.
                    let known_by = *asked + self.settings.probe_time;
                    Err((Some(known_by.saturating_duration_since(now)), Arc::clone(why)))
                }
            }
            Mode::ForcedOpen { reason } => Err((None, Arc::from(*reason))),
        };
        let answer = match admitted {
            Ok(()) => Ok(Ticket { generation: self.generation, at: Some(now) }),
            Err((retry_in, why)) => {
                self.totals.refused += 1;
                Err(Refusal { since: self.since, retry_in, why })
            }
        };
        (answer, news)
    }

    /// An admitted call has ended. `detail` is what is known about a failure beyond its class.
    pub(super) fn end(&mut self, ticket: Ticket, now: Instant, end: End, detail: Option<&str>) -> News {
        if ticket.generation != self.generation {
            self.totals.stale += 1;
            return News::None;
        }
        let failure = match end {
            // The upstream works: it said no.
            End::Failed(Class::Business) | End::Succeeded => None,
            End::Failed(Class::Cancelled) | End::Unknown => {
                self.totals.unknown += 1;
                if let Mode::HalfOpen { in_flight, .. } = &mut self.mode {
                    *in_flight -= 1;
                }
                return News::None;
            }
            End::Failed(class) => Some(class),
        };
        match failure {
            None => self.totals.succeeded += 1,
            Some(_) => self.totals.failed += 1,
        }
        let slow = match (self.settings.slow, ticket.at) {
            (Some((slow, _)), Some(at)) => now.saturating_duration_since(at) >= slow,
            _ => false,
        };
        match &mut self.mode {
            Mode::HalfOpen { in_flight, succeeded, why, .. } => {
                *in_flight -= 1;
                let again = match failure {
                    Some(class) => format!("a probe failed ({})", with_detail(class.name(), detail)),
                    None if slow => "a probe was slow".to_owned(),
                    None => {
                        *succeeded += 1;
                        if *succeeded < self.settings.close_after {
                            return News::None;
                        }
                        self.change(now, Mode::Closed);
                        return News::Closed("enough probes succeeded");
                    }
                };
                let why = format!("{again}; before that, {}", root(why));
                self.open(now, why.into())
            }
            Mode::Closed => {
                self.window.add(now, failure, slow);
                // Nothing got worse by a success that was not slow.
                if failure.is_none() && !slow { News::None } else { self.judge(now, failure, detail) }
            }
            Mode::ForcedClosed { .. } => {
                self.window.add(now, failure, slow);
                News::None
            }
            Mode::Open { .. } | Mode::ForcedOpen { .. } => {
                unreachable!("nobody is admitted while it is open")
            }
        }
    }

    fn judge(&mut self, now: Instant, failure: Option<Class>, detail: Option<&str>) -> News {
        let tally = self.window.tally(now);
        let most = match self.settings.span {
            Span::Calls(calls) => calls - calls / BUCKETS,
            Span::Time(_) => u32::MAX,
        };
        if tally.calls < self.settings.at_least.min(most) {
            return News::None;
        }
        let share = |part: u32| f64::from(part) / f64::from(tally.calls);
        let fails = share(tally.failures()) >= self.settings.failure_rate && tally.failures() > 0;
        let slow = self.settings.slow.filter(|(_, rate)| share(tally.slow) >= *rate && tally.slow > 0);
        if !fails && slow.is_none() {
            return News::None;
        }
        let last = failure.map(|class| with_detail(class.name(), detail));
        let words = match slow {
            Some((slow, _)) if !fails => {
                let over = span_in_words(self.window.span());
                format!("{} of {} calls took {} or longer {over}", tally.slow, tally.calls, short(slow))
            }
            _ => tally_in_words(&tally, self.window.span(), last.as_deref()),
        };
        self.open(now, words.into())
    }

    fn open(&mut self, now: Instant, why: Arc<str>) -> News {
        // Soon after it closed is the same trouble as before.
        let again = match self.mode {
            Mode::HalfOpen { .. } => true,
            _ => now.saturating_duration_since(self.since) < self.last_open,
        };
        self.in_a_row = if again { self.in_a_row.saturating_add(1) } else { 1 };
        let doublings = (self.in_a_row - 1).min(31);
        let time = self.settings.open_for.saturating_mul(1 << doublings).min(self.settings.open_at_most);
        self.last_open = time;
        let until = now + time.mul_f64(1.0 + JITTER * (self.settings.chance)());
        self.totals.opened += 1;
        self.change(now, Mode::Open { until, why: Arc::clone(&why) });
        News::Opened(why)
    }

    pub(super) fn force_open(&mut self, now: Instant, reason: &'static str) -> News {
        self.change(now, Mode::ForcedOpen { reason });
        News::Opened(reason.into())
    }

    pub(super) fn force_closed(&mut self, now: Instant, reason: &'static str) -> News {
        self.change(now, Mode::ForcedClosed { reason });
        News::Closed("forced closed")
    }

    /// Takes back what was forced; it judges by itself again, from nothing.
    pub(super) fn release(&mut self, now: Instant) -> News {
        if !matches!(self.mode, Mode::ForcedOpen { .. } | Mode::ForcedClosed { .. }) {
            return News::None;
        }
        self.in_a_row = 0;
        self.last_open = Duration::ZERO;
        self.change(now, Mode::Closed);
        News::Closed("no longer forced")
    }

    /// Begins anew with other settings.
    pub(super) fn set(&mut self, now: Instant, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.window = Window::new(self.settings.span, now);
    }

    pub(super) fn tally(&mut self, now: Instant) -> Tally {
        self.window.tally(now)
    }

    pub(super) fn named(&self) -> BreakerState {
        match self.mode {
            Mode::Closed => BreakerState::Closed,
            Mode::Open { .. } => BreakerState::Open,
            Mode::HalfOpen { .. } => BreakerState::HalfOpen,
            Mode::ForcedOpen { .. } => BreakerState::ForcedOpen,
            Mode::ForcedClosed { .. } => BreakerState::ForcedClosed,
        }
    }

    /// What it does and why, in words.
    pub(super) fn explain(&mut self, now: Instant) -> String {
        let head = format!("{} since {}", self.named(), short(now.saturating_duration_since(self.since)));
        match &self.mode {
            Mode::Closed => {
                let (tally, span) = (self.window.tally(now), self.window.span());
                format!("{head}: {}", tally_in_words(&tally, span, None))
            }
            Mode::Open { until, why } if now < *until => {
                format!("{head}: {why}; next probe in {}", short(*until - now))
            }
            Mode::Open { why, .. } => format!("{head}: {why}; the next call is a probe"),
            Mode::HalfOpen { in_flight, succeeded, why, .. } => {
                let needed = self.settings.close_after;
                format!(
                    "{head}: {in_flight} probes under way, {succeeded} of {needed} succeeded; before that, {}",
                    root(why)
                )
            }
            Mode::ForcedOpen { reason } | Mode::ForcedClosed { reason } => format!("{head}: {reason}"),
        }
    }

    fn change(&mut self, now: Instant, mode: Mode) {
        if mode.lets_pass() {
            self.window = Window::new(self.settings.span, now);
        }
        self.mode = mode;
        self.generation += 1;
        self.since = now;
    }
}

/// The first cause in a chain of reopenings: it must not grow with each.
fn root(why: &str) -> &str {
    why.rsplit_once("before that, ").map_or(why, |(_, root)| root)
}

fn with_detail(name: &str, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("{name}: {detail}"),
        None => name.to_owned(),
    }
}
