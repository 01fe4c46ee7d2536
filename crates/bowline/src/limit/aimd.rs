//! Additive increase, multiplicative decrease.

use std::time::Duration;

use super::{Sample, is_used};

/// What is left of the limit when a call was lost: a tenth is enough to drain, and soon regained.
const DECREASE: f64 = 0.9;

#[derive(Clone, Debug, Default)]
pub(super) struct Aimd {
    /// From when on a call counts as lost.
    pub(super) slow: Option<Duration>,
    /// Calls still to end that were under way at the last decrease.
    under_way: usize,
}

impl Aimd {
    pub(super) fn next(&mut self, limit: f64, sample: Sample) -> f64 {
        let before = self.under_way > 0;
        self.under_way = self.under_way.saturating_sub(1);
        let lost = sample.dropped || self.slow.is_some_and(|slow| sample.latency >= slow);
        if lost && before {
            limit // the same moment
        } else if lost {
            self.under_way = sample.in_flight.saturating_sub(1);
            limit * DECREASE
        } else if is_used(limit, sample.in_flight) {
            limit + 1.0 / limit // a whole one when all of a round have ended
        } else {
            limit
        }
    }
}
