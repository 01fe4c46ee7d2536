//! The machine beside a simple one that keeps everything and computes each answer from the beginning.

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::{Duration, Instant};

use super::state::{End, Mode, Settings, State, Ticket};
use super::window::Span;
use crate::call::Class;

const BUCKET_MS: u64 = 100;
const BUCKETS: u64 = 10;
const AT_LEAST: usize = 4;
const PROBES: usize = 2;
const CLOSE_AFTER: usize = 2;
const PROBE_MS: u64 = 700;
const SLOW_MS: u64 = 50;

fn settings() -> Settings {
    Settings {
        span: Span::Time(Duration::from_millis(BUCKET_MS * BUCKETS)),
        at_least: 4,
        failure_rate: 0.5,
        slow: Some((Duration::from_millis(SLOW_MS), 0.75)),
        open_for: Duration::from_millis(200),
        open_at_most: Duration::from_millis(700),
        probes: 2,
        close_after: 2,
        probe_time: Duration::from_millis(PROBE_MS),
        chance: || 0.0,
    }
}

#[derive(Clone, Debug)]
enum Event {
    Later(u64),
    Admit,
    End(usize, End),
    ForceOpen,
    ForceClosed,
    Release,
}

fn event() -> impl Strategy<Value = Event> {
    let end = prop_oneof![
        4 => Just(End::Succeeded),
        4 => Just(End::Failed(Class::Timeout)),
        1 => Just(End::Failed(Class::Overload { retry_after: None })),
        1 => Just(End::Failed(Class::Business)),
        1 => Just(End::Failed(Class::Cancelled)),
        1 => Just(End::Unknown),
    ];
    prop_oneof![
        12 => (0_u64..90).prop_map(Event::Later),
        1 => (100_u64..900).prop_map(Event::Later),
        20 => Just(Event::Admit),
        20 => (0_usize..8, end).prop_map(|(which, end)| Event::End(which, end)),
        1 => Just(Event::ForceOpen),
        1 => Just(Event::ForceClosed),
        1 => Just(Event::Release),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Closed,
    Open { until: u64 },
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
}

/// One period between two changes: everything that was admitted in it and how that ended.
struct Model {
    is: Is,
    since: u64,
    period: usize,
    /// Of this period: when it ended, whether it failed, whether it was slow.
    ended: Vec<(u64, bool, bool)>,
    admitted: usize,
    unknown: usize,
    /// When the last probe was admitted.
    asked: u64,
    open_ms: u64,
}

impl Model {
    fn change(&mut self, now: u64, is: Is) {
        let (period, open_ms) = (self.period + 1, self.open_ms);
        *self =
            Model { is, since: now, period, ended: Vec::new(), admitted: 0, unknown: 0, asked: now, open_ms };
    }

    fn open(&mut self, now: u64) {
        let again = self.is == Is::HalfOpen || now - self.since < self.open_ms;
        self.open_ms = if again && self.open_ms > 0 { (self.open_ms * 2).min(700) } else { 200 };
        self.change(now, Is::Open { until: now + self.open_ms });
    }

    fn in_flight(&self) -> usize {
        self.admitted - self.ended.len() - self.unknown
    }

    fn admit(&mut self, now: u64) -> bool {
        if self.is == Is::HalfOpen && now - self.asked >= PROBE_MS && self.in_flight() >= PROBES {
            self.open(now);
        }
        if matches!(self.is, Is::Open { until } if now >= until) {
            self.change(now, Is::HalfOpen);
        }
        let admits = match self.is {
            Is::Closed | Is::ForcedClosed => true,
            Is::HalfOpen => self.in_flight() < PROBES,
            Is::Open { .. } | Is::ForcedOpen => false,
        };
        self.admitted += usize::from(admits);
        self.asked = if admits { now } else { self.asked };
        admits
    }

    fn end(&mut self, now: u64, began: u64, end: End) {
        let failed = match end {
            End::Unknown | End::Failed(Class::Cancelled) => {
                self.unknown += 1;
                return;
            }
            End::Succeeded | End::Failed(Class::Business) => false,
            End::Failed(_) => true,
        };
        let slow = now - began >= SLOW_MS;
        self.ended.push((now, failed, slow));
        if self.is == Is::HalfOpen {
            if failed || slow {
                self.open(now);
            } else if self.ended.len() >= CLOSE_AFTER {
                self.change(now, Is::Closed);
            }
            return;
        }
        let (calls, failures, slows) = self.window(now);
        let share = |part: usize| part as f64 / calls as f64;
        let worse = failed || slow;
        let bad = share(failures) >= 0.5 || share(slows) >= 0.75;
        if self.is == Is::Closed && calls >= AT_LEAST && worse && bad {
            self.open(now);
        }
    }

    fn window(&self, now: u64) -> (usize, usize, usize) {
        let bucket = |at: u64| (at - self.since) / BUCKET_MS;
        let inside = self.ended.iter().filter(|(at, ..)| bucket(*at) + BUCKETS > bucket(now));
        inside.fold((0, 0, 0), |(calls, failures, slows), (_, failed, slow)| {
            (calls + 1, failures + usize::from(*failed), slows + usize::from(*slow))
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_simple_one_does(events in vec(event(), 1..120)) {
        let began = Instant::now();
        let at = |now: u64| began + Duration::from_millis(now);
        let mut state = State::new(settings(), began);
        let mut model = Model {
            is: Is::Closed, since: 0, period: 0, ended: Vec::new(), admitted: 0, unknown: 0, asked: 0, open_ms: 0,
        };
        let mut now = 0;
        let mut running: Vec<(Ticket, usize, u64)> = Vec::new();
        for event in events {
            match event {
                Event::Later(ms) => now += ms,
                Event::Admit => {
                    let (admitted, _news) = state.admit(at(now));
                    prop_assert_eq!(admitted.is_ok(), model.admit(now));
                    match admitted {
                        Ok(ticket) => running.push((ticket, model.period, now)),
                        Err(refusal) => prop_assert_eq!(refusal.retry_in.is_none(), model.is == Is::ForcedOpen),
                    }
                }
                Event::End(which, end) => {
                    if running.is_empty() {
                        continue;
                    }
                    let (ticket, period, admitted_at) = running.swap_remove(which % running.len());
                    let _news = state.end(ticket, at(now), end, None);
                    if period == model.period {
                        model.end(now, admitted_at, end);
                    }
                }
                Event::ForceOpen => {
                    let _news = state.force_open(at(now), "test");
                    model.change(now, Is::ForcedOpen);
                }
                Event::ForceClosed => {
                    let _news = state.force_closed(at(now), "test");
                    model.change(now, Is::ForcedClosed);
                }
                Event::Release => {
                    let _news = state.release(at(now));
                    if matches!(model.is, Is::ForcedOpen | Is::ForcedClosed) {
                        model.open_ms = 0;
                        model.change(now, Is::Closed);
                    }
                }
            }
            let is = match state.mode {
                Mode::Closed => Is::Closed,
                Mode::Open { until, .. } => {
                    Is::Open { until: u64::try_from((until - began).as_millis()).unwrap() }
                }
                Mode::HalfOpen { in_flight, .. } => {
                    prop_assert_eq!(in_flight as usize, model.in_flight());
                    prop_assert!(in_flight as usize <= PROBES);
                    Is::HalfOpen
                }
                Mode::ForcedOpen { .. } => Is::ForcedOpen,
                Mode::ForcedClosed { .. } => Is::ForcedClosed,
            };
            prop_assert_eq!(is, model.is);
            if matches!(is, Is::Closed | Is::ForcedClosed) {
                let tally = state.tally(at(now));
                let seen = (tally.calls as usize, tally.failures() as usize, tally.slow as usize);
                prop_assert_eq!(seen, model.window(now));
            }
        }
    }
}
