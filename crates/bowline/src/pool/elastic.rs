//! How many workers an elastic pool should have: a controller without a clock or a pool of its own.
//!
//! It grows on *queue delay*, which is what callers feel, and shrinks on *idleness*, which is what the pool costs. Both
//! signals are of different kinds, so no load makes it do the one and the other in turns: whether workers are idle is asked
//! of a whole window, the peak counts, and a pool that grew is left alone for one window. Where a load is such that a pool that
//! shrank has to grow again soon, the window becomes longer each time.
//!
//! # Invariants
//!
//! 1. The number of workers stays within `min..=max`.
//! 2. Between a growth and the next shrinking there is at least one whole window in which the workers that go were not
//!    needed.
//! 3. While jobs wait for longer than `grow_after` the pool grows by a half of itself at least every `grow_after`, up to `max`: from 1
//!    to 200 in 14 steps.

use std::time::Duration;

use tokio::time::Instant;

/// How long jobs may wait before a pool grows.
pub(super) const DEFAULT_GROW_AFTER: Duration = Duration::from_millis(50);

/// How long workers must have been idle before they go.
pub(super) const DEFAULT_SHRINK_AFTER: Duration = Duration::from_secs(60);

/// Parts the window is cut into: the window slides by one of them.
const PARTS: usize = 12;

/// Idle workers are kept up to this share of the busy ones at their peak, in percent: room for the next rise.
const SPARE_PERCENT: usize = 15;

/// The window is never longer than this many times what was asked for.
const MAX_STRETCH: u32 = 8;

/// What the controller is told of its pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) workers: usize,
    /// The most workers that were busy at once since the last sample.
    pub(super) peak_busy: usize,
    pub(super) queued: usize,
    /// How long the job at the head of the queue has waited; zero if there is none.
    pub(super) delay: Duration,
}

/// Decides how many workers there should be.
#[derive(Debug)]
pub(super) struct Elastic {
    min: usize,
    max: usize,
    grow_after: Duration,
    shrink_after: Duration,
    /// The most busy workers in each part of the window; the last is the current one.
    peaks: [usize; PARTS],
    part_began: Option<Instant>,
    grown: Option<Instant>,
    shrunk: Option<Instant>,
    /// How many times as long as asked for the window is now.
    stretch: u32,
}

impl Elastic {
    pub(super) fn new(min: usize, max: usize, grow_after: Duration, shrink_after: Duration) -> Self {
        Self {
            min,
            max,
            grow_after,
            shrink_after,
            // As busy as can be, so that a whole window must pass first.
            peaks: [max; PARTS],
            part_began: None,
            grown: None,
            shrunk: None,
            stretch: 1,
        }
    }

    /// How long after the last sample the next one is due.
    pub(super) fn every(&self) -> Duration {
        (self.grow_after / 2).max(Duration::from_millis(1))
    }

    /// The time after which the window slides.
    pub(super) fn part(&self) -> Duration {
        (self.window() / PARTS_U32).max(Duration::from_millis(1))
    }

    /// Returns how many workers there should be from now on.
    pub(super) fn decide(&mut self, now: Instant, sample: Sample) -> usize {
        self.slide(now, sample.peak_busy.max((sample.workers).min(sample.queued)));
        let workers = sample.workers.clamp(self.min, self.max);
        if sample.delay >= self.grow_after && passed(self.grown, now, self.grow_after) {
            return self.grow(now, workers, sample.queued);
        }
        // Whatever waits is a reason not to shrink, however short it has waited.
        if sample.queued == 0 { self.shrink(now, workers) } else { workers }
    }

    fn grow(&mut self, now: Instant, workers: usize, queued: usize) -> usize {
        // More than there are jobs could do nothing.
        let step = workers.div_ceil(2).min(queued.max(1));
        let grown = (workers + step).min(self.max);
        if grown > workers {
            if self.shrunk.is_some_and(|shrunk| now.saturating_duration_since(shrunk) < self.window() * 2) {
                // What went was needed after all.
                self.stretch = (self.stretch * 2).min(MAX_STRETCH);
                self.shrunk = None;
            }
            self.grown = Some(now);
        }
        grown
    }

    fn shrink(&mut self, now: Instant, workers: usize) -> usize {
        if !passed(self.grown, now, self.window()) || !passed(self.shrunk, now, self.window() / PARTS_U32) {
            return workers;
        }
        let peak = self.peaks.iter().copied().max().unwrap_or(workers);
        let needed = (peak + (peak * SPARE_PERCENT).div_ceil(100)).clamp(self.min, self.max);
        if needed >= workers {
            return workers;
        }
        self.shrunk = Some(now);
        needed
    }

    /// Notes how busy the pool is in the part of the window that `now` is in.
    fn slide(&mut self, now: Instant, busy: usize) {
        let part = self.part();
        let began = *self.part_began.get_or_insert(now);
        let parts = now.saturating_duration_since(began).as_nanos() / part.as_nanos();
        if parts > 0 {
            let parts = usize::try_from(parts).unwrap_or(PARTS).min(PARTS);
            self.peaks.rotate_left(parts);
            self.peaks[PARTS - parts..].fill(0);
            self.part_began = Some(now);
            self.calm_down(now);
        }
        let current = &mut self.peaks[PARTS - 1];
        *current = busy.max(*current);
    }

    /// A window that was stretched goes back when it was not needed for a while.
    fn calm_down(&mut self, now: Instant) {
        let calm = self.window() * 4;
        if self.stretch > 1 && passed(self.grown, now, calm) && passed(self.shrunk, now, calm) {
            self.stretch /= 2;
        }
    }

    fn window(&self) -> Duration {
        self.shrink_after * self.stretch
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is 12")]
const PARTS_U32: u32 = PARTS as u32;

fn passed(since: Option<Instant>, now: Instant, at_least: Duration) -> bool {
    since.is_none_or(|since| now.saturating_duration_since(since) >= at_least)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROW: Duration = Duration::from_millis(50);
    const SHRINK: Duration = Duration::from_secs(60);

    /// A pool in which every worker does `1 / service` jobs per second, fed by a fluid of jobs.
    struct Fluid {
        elastic: Elastic,
        now: Instant,
        workers: usize,
        backlog: f64,
        resizes: Vec<(Instant, usize)>,
        longest_delay: Duration,
    }

    impl Fluid {
        fn new(min: usize, max: usize) -> Self {
            Self {
                elastic: Elastic::new(min, max, GROW, SHRINK),
                now: Instant::now(),
                workers: min,
                backlog: 0.0,
                resizes: Vec::new(),
                longest_delay: Duration::ZERO,
            }
        }

        /// `load` is how many workers the arriving jobs keep busy.
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small numbers"
        )]
        fn run(&mut self, time: Duration, load: impl Fn(Duration) -> f64) {
            const JOB: f64 = 0.1;
            let step = self.elastic.every();
            let began = self.now;
            while self.now < began + time {
                self.now += step;
                let arriving = load(self.now - began) * step.as_secs_f64() / JOB;
                let capacity = self.workers as f64 * step.as_secs_f64() / JOB;
                let work = self.backlog + arriving;
                self.backlog = (work - capacity).max(0.0);
                let busy =
                    ((work.min(capacity) / capacity * self.workers as f64).ceil() as usize).min(self.workers);
                let delay = Duration::from_secs_f64(self.backlog * JOB / self.workers as f64);
                self.longest_delay = self.longest_delay.max(delay);
                let sample =
                    Sample { workers: self.workers, peak_busy: busy, queued: self.backlog as usize, delay };
                let wanted = self.elastic.decide(self.now, sample);
                if wanted != self.workers {
                    self.resizes.push((self.now, wanted));
                    self.workers = wanted;
                }
            }
        }
    }

    #[test]
    fn a_burst_gets_every_worker_there_is_and_loses_them_when_it_is_over() {
        let mut pool = Fluid::new(10, 200);
        pool.run(Duration::from_secs(120), |_| 5.0);
        assert_eq!(pool.workers, 10);
        pool.run(Duration::from_secs(10), |_| 400.0);
        assert_eq!(pool.workers, 200);
        pool.run(Duration::from_secs(300), |_| 5.0);
        assert_eq!(pool.workers, 10);
    }

    #[test]
    fn a_steady_load_is_served_without_a_single_change() {
        let mut pool = Fluid::new(10, 200);
        pool.run(Duration::from_secs(600), |_| 80.0);
        let settled = pool.resizes.len();
        pool.run(Duration::from_secs(6 * 3_600), |_| 80.0);
        assert_eq!(pool.resizes.len(), settled, "{:?}", &pool.resizes[settled..]);
        assert!((80..=100).contains(&pool.workers), "{}", pool.workers);
    }

    /// A load that comes and goes at the very pace of the window is the worst there is.
    #[test]
    fn a_load_that_swings_with_the_window_does_not_make_it_thrash() {
        const MAX_TURNS_PER_HOUR: usize = 20;
        for period in [20.0, 61.0, 75.0, 130.0, 250.0, 400.0, 600.0, 1_200.0] {
            let mut pool = Fluid::new(10, 200);
            let swings =
                move |at: Duration| if at.as_secs_f64() % period < period / 2.0 { 120.0 } else { 20.0 };
            pool.run(Duration::from_secs(3 * 3_600), swings);
            let turns = pool.resizes.windows(3).filter(|three| {
                let [(_, a), (_, b), (_, c)] = *three else { unreachable!() };
                (b > a) != (c > b)
            });
            // It follows a slow swing and ignores a fast one: a turn each three windows at most.
            let turns = turns.count();
            assert!(
                turns <= 3 * MAX_TURNS_PER_HOUR,
                "{turns} turns in three hours at a period of {period} s"
            );
        }
    }

    #[test]
    fn a_rise_in_the_morning_never_makes_anybody_wait_for_long() {
        let mut pool = Fluid::new(10, 200);
        // From 8 to 180 workers' worth in an hour.
        pool.run(Duration::from_secs(3_600), |at| 8.0 + at.as_secs_f64() / 3_600.0 * 172.0);
        assert!(pool.longest_delay <= GROW * 2, "{:?}", pool.longest_delay);
    }

    proptest! {
        /// Invariants 1 to 3 under any sequence of samples.
        #[test]
        fn the_number_stays_within_its_bounds_and_no_shrinking_follows_on_a_growth(
            min in 1_usize..20,
            more in 0_usize..200,
            samples in proptest::collection::vec((0_u64..5_000, 0_usize..300, 0_usize..50, 0_u64..200), 1..400),
        ) {
            let max = min + more;
            let mut elastic = Elastic::new(min, max, GROW, SHRINK);
            let (mut now, mut workers, mut grown) = (Instant::now(), min, None);
            for (millis, busy, queued, delay) in samples {
                now += Duration::from_millis(millis);
                let delay = if queued == 0 { Duration::ZERO } else { Duration::from_millis(delay) };
                let sample = Sample { workers, peak_busy: busy.min(workers), queued, delay };
                let wanted = elastic.decide(now, sample);
                prop_assert!((min..=max).contains(&wanted));
                if wanted < workers {
                    prop_assert!(grown.is_none_or(|grown| now - grown >= SHRINK), "it shrank {:?} after it grew", grown.map(|g| now - g));
                    prop_assert_eq!(queued, 0);
                    prop_assert!(wanted >= sample.peak_busy.min(max), "a busy worker had to go");
                }
                if wanted > workers {
                    prop_assert!(delay >= GROW);
                    grown = Some(now);
                }
                workers = wanted;
            }
        }
    }
}
