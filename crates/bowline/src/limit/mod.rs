//! How much may be going on at once, found out from how it goes: controllers that move a limit between two bounds.
//!
//! A controller is a pure machine: it is told of each call that has ended, and answers with the limit from then on. It has no clock and
//! no lock; a [`Bulkhead`](crate::Bulkhead) brings both, and makes the limit hold.
//!
//! # Invariants
//!
//! 1. The limit never leaves its bounds.
//! 2. It grows only while it is used: a service that idles learns nothing about what its upstream can bear.
//! 3. One bad moment shrinks it once: what was under way at that moment is not held against it again.

mod aimd;
mod gradient;
#[cfg(test)]
mod model;

use std::ops::RangeInclusive;
use std::time::Duration;

use self::aimd::Aimd;
use self::gradient::Gradient;

/// A limit of what may be going on at once, which finds its own place between two bounds.
///
/// | | it looks at | it is for |
/// |---|---|---|
/// | [`aimd`](Self::aimd) | calls that fail of overload or time-out, or are [slow](Self::slower_than) | an upstream that refuses when it has too much |
/// | [`gradient`](Self::gradient) | latency beside what it is without a queue | an upstream that queues and becomes slow |
///
/// Give one to a bulkhead with [`Bulkhead::adapt`](crate::Bulkhead::adapt), or feed it yourself.
///
/// # Examples
///
/// ```
/// use bowline::{Limit, Sample};
/// use std::time::Duration;
///
/// let mut limit = Limit::aimd(5..=100);
/// let before = limit.now();
/// let refused = Sample { latency: Duration::from_millis(3), in_flight: before, dropped: true };
/// assert!(limit.observe(refused) < before);
/// ```
#[derive(Clone, Debug)]
pub struct Limit {
    bounds: Bounds,
    /// With a fraction: it moves in steps smaller than one.
    now: f64,
    controller: Controller,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How long it took.
    pub latency: Duration,
    /// How many were under way when it ended, itself included.
    pub in_flight: usize,
    /// Whether it was lost to overload: refused, or not answered in time.
    pub dropped: bool,
}

#[derive(Clone, Debug)]
enum Controller {
    Aimd(Aimd),
    Gradient(Gradient),
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    min: f64,
    max: f64,
}

impl Bounds {
    fn clamp(self, limit: f64) -> f64 {
        limit.clamp(self.min, self.max)
    }
}

impl Limit {
    /// Makes a limit that grows by one per round of calls that went well, and shrinks by a tenth when one is lost: additive
    /// increase, multiplicative decrease, as TCP finds its share of a line (Chiu and Jain, 1989).
    ///
    /// It starts at the geometric mean of the bounds.
    ///
    /// # Panics
    ///
    /// If the range is empty or begins with 0: a limit of 0 lets nobody pass, so it would never learn that it may grow.
    #[must_use]
    pub fn aimd(range: RangeInclusive<usize>) -> Self {
        Self::new(range, Controller::Aimd(Aimd::default()))
    }

    /// Makes a limit that keeps latency near what it is without a queue: each round of calls multiplies it by the ratio of
    /// the two and adds a small allowance to grow by, as Netflix's concurrency-limits does, after TCP Vegas.
    ///
    /// What latency is without a queue it remembers from its best round, and finds out anew every fifty rounds by halving
    /// itself for two of them; so an upstream that became slower for good is not taken for one that queues.
    ///
    /// It starts at the geometric mean of the bounds.
    ///
    /// # Panics
    ///
    /// If the range is empty or begins with 0.
    #[must_use]
    pub fn gradient(range: RangeInclusive<usize>) -> Self {
        Self::new(range, Controller::Gradient(Gradient::default()))
    }

    #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
    fn new(range: RangeInclusive<usize>, controller: Controller) -> Self {
        let (min, max) = range.into_inner();
        assert!(min > 0, "a limit of 0 lets nobody pass, and would never grow");
        assert!(min <= max, "the range {min}..={max} is empty");
        let bounds = Bounds { min: min as f64, max: max as f64 };
        Self { bounds, now: bounds.clamp((bounds.min * bounds.max).sqrt()), controller }
    }

    /// Takes calls for lost that took `latency` or longer. A gradient, which looks at every latency, needs none; there
    /// this does nothing.
    #[must_use]
    pub fn slower_than(mut self, latency: Duration) -> Self {
        if let Controller::Aimd(aimd) = &mut self.controller {
            aimd.slow = Some(latency);
        }
        self
    }

    /// Returns the limit.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within bounds that were a usize"
    )]
    pub fn now(&self) -> usize {
        self.now as usize
    }

    /// Returns the highest it can be.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a usize")]
    pub(crate) fn most(&self) -> usize {
        self.bounds.max as usize
    }

    /// Learns from a call that has ended, and returns the limit from here on.
    pub fn observe(&mut self, sample: Sample) -> usize {
        let next = match &mut self.controller {
            Controller::Aimd(aimd) => aimd.next(self.now, sample),
            Controller::Gradient(gradient) => gradient.next(self.now, sample),
        };
        self.now = self.bounds.clamp(next);
        self.now()
    }
}

/// Whether at least half of the limit is in use: only then a call that goes well says that there is room for more.
fn is_used(limit: f64, in_flight: usize) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let in_flight = in_flight as f64;
    in_flight * 2.0 >= limit.floor()
}
