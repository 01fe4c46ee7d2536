//! Latency beside what it is without a queue.

use super::{Sample, is_used};

/// Calls in a round at least: the mean of fewer says little.
const ROUND_AT_LEAST: usize = 20;

/// Rounds after which the latency without a queue is measured anew. Two of fifty run at half the limit: it costs about 2%.
const REMEASURE_AFTER: u32 = 50;

/// The steepest fall in one round.
const STEEPEST: f64 = 0.5;

/// How much of a new value is taken over at once: the rest is inertia against noise.
const TAKEN: f64 = 0.5;

/// What is left of the limit after a round in which calls were lost.
const DECREASE: f64 = 0.9;

#[derive(Clone, Debug, Default)]
pub(super) struct Gradient {
    round: Round,
    rounds: u32,
    /// Mean latency without a queue, in seconds, as far as known.
    unqueued: Option<f64>,
    phase: Phase,
}

#[derive(Clone, Debug, Default)]
struct Round {
    calls: usize,
    seconds: f64,
    lost: bool,
    used: bool,
}

/// The latency without a queue is seen only when there is none.
#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Steering,
    /// Halved; what was queued is still to end. Then the limit is to be this.
    Draining { then: f64 },
    /// Halved, and nothing queues.
    Measuring { then: f64 },
}

impl Gradient {
    pub(super) fn next(&mut self, limit: f64, sample: Sample) -> f64 {
        let round = &mut self.round;
        round.calls += 1;
        round.seconds += sample.latency.as_secs_f64();
        round.lost |= sample.dropped;
        round.used |= is_used(limit, sample.in_flight);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a usize")]
        let whole = ROUND_AT_LEAST.max(limit as usize);
        if round.calls < whole {
            return limit;
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let latency = (round.seconds / round.calls as f64).max(f64::MIN_POSITIVE);
        let Round { lost, used, .. } = std::mem::take(round);
        match self.phase {
            Phase::Steering => self.steer(limit, latency, lost, used),
            Phase::Draining { then } => {
                self.phase = Phase::Measuring { then };
                limit
            }
            Phase::Measuring { then } => {
                self.phase = Phase::Steering;
                self.unqueued = Some(latency);
                if lost { limit } else { then }
            }
        }
    }

    fn steer(&mut self, limit: f64, latency: f64, lost: bool, used: bool) -> f64 {
        let unqueued = self.unqueued.map_or(latency, |known| known.min(latency));
        self.unqueued = Some(unqueued);
        if lost {
            return limit * DECREASE;
        }
        if !used {
            return limit;
        }
        self.rounds += 1;
        if self.rounds >= REMEASURE_AFTER {
            self.rounds = 0;
            self.phase = Phase::Draining { then: limit };
            return limit / 2.0;
        }
        let gradient = (unqueued / latency).clamp(STEEPEST, 1.0);
        let allowance = limit.sqrt() / 2.0; // room to grow into; it is what may queue
        let next = limit * gradient + allowance;
        limit + TAKEN * (next - limit)
    }
}
