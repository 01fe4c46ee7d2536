//! Whether the workers of a runtime get on, from what tokio counts on its own.
//!
//! A worker writes its busy time down whenever it looks up from its tasks (every 61 polls, or when it has none), and counts how
//! often it went to sleep and woke. So a worker that is awake and whose books stand still is in one poll, or in a row of slow ones.

use std::time::Duration;

/// What one worker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerSample {
    /// How often it fell asleep and woke, together: odd while it sleeps.
    pub(super) sleeps: u64,
    pub(super) busy: Duration,
}

impl WorkerSample {
    fn is_asleep(self) -> bool {
        self.sleeps % 2 == 1
    }
}

/// What the runtime says of itself.
#[derive(Clone, Debug)]
pub(super) struct RuntimeSample {
    pub(super) workers: Vec<WorkerSample>,
    /// Tasks in the queue that belongs to no worker.
    pub(super) queued: usize,
    pub(super) alive: usize,
}

/// The workers of one runtime over time.
#[derive(Default)]
pub(super) struct Workers {
    seen: Vec<(WorkerSample, Duration)>,
    /// For how long tasks were queued and all slept.
    overslept: Duration,
}

/// Why nothing gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frozen {
    /// Every worker is in a poll that does not end.
    Busy(Duration),
    /// Every worker sleeps, and tasks are queued.
    Asleep(Duration),
}

impl Workers {
    /// Takes a look; `passed` is the time since the one before, as far as it counts.
    pub(super) fn look(&mut self, passed: Duration, sample: &RuntimeSample) {
        let workers = &sample.workers;
        let mut nobody_moved = self.seen.len() == workers.len();
        self.seen
            .resize(workers.len(), (WorkerSample { sleeps: u64::MAX, busy: Duration::MAX }, Duration::ZERO));
        for ((before, still), now) in self.seen.iter_mut().zip(workers) {
            if before == now {
                *still += passed;
            } else {
                (*before, *still) = (*now, Duration::ZERO);
                nobody_moved = false;
            }
        }
        let all_asleep = workers.iter().all(|worker| worker.is_asleep());
        if nobody_moved && all_asleep && sample.queued > 0 {
            self.overslept += passed;
        } else {
            self.overslept = Duration::ZERO;
        }
    }

    /// How many workers are awake and have not got on for `limit`.
    pub(super) fn stuck(&self, limit: Duration) -> usize {
        self.seen.iter().filter(|(worker, still)| !worker.is_asleep() && *still >= limit).count()
    }

    /// Whether nothing has got on for `limit`, though there is work. Sockets and timers stand still then, too.
    pub(super) fn frozen(&self, limit: Duration, sample: &RuntimeSample) -> Option<Frozen> {
        if self.seen.is_empty() {
            return None;
        }
        if self.overslept >= limit {
            return Some(Frozen::Asleep(self.overslept));
        }
        // One task each is being polled: there is work if there are more.
        let others = sample.queued > 0 || sample.alive > self.seen.len();
        let all = others && self.stuck(limit) == self.seen.len();
        all.then(|| Frozen::Busy(self.seen.iter().map(|(_, still)| *still).min().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(25);
    const LIMIT: Duration = Duration::from_secs(1);

    fn worker(sleeps: u64, busy_ms: u64) -> WorkerSample {
        WorkerSample { sleeps, busy: Duration::from_millis(busy_ms) }
    }

    fn runtime(workers: &[WorkerSample], queued: usize, alive: usize) -> RuntimeSample {
        RuntimeSample { workers: workers.to_vec(), queued, alive }
    }

    /// Looks `times` more at the same, and returns whether it is frozen then.
    fn after(workers: &mut Workers, times: usize, sample: &RuntimeSample) -> Option<Frozen> {
        (0..times).for_each(|_| workers.look(TICK, sample));
        workers.frozen(LIMIT, sample)
    }

    #[test]
    fn one_worker_that_is_awake_and_stands_still_is_stuck_and_the_runtime_is_not_frozen() {
        let mut workers = Workers::default();
        workers.look(TICK, &runtime(&[worker(2, 10), worker(3, 10)], 0, 9));
        assert_eq!(workers.stuck(TICK), 0, "seen once");
        assert_eq!(after(&mut workers, 400, &runtime(&[worker(2, 10), worker(3, 10)], 0, 9)), None);
        assert_eq!(workers.stuck(LIMIT), 1, "the other one sleeps");
        workers.look(TICK, &runtime(&[worker(2, 11), worker(3, 10)], 0, 9));
        assert_eq!(workers.stuck(TICK), 0);
    }

    #[test]
    fn all_workers_in_long_polls_are_frozen_if_there_is_anybody_else() {
        let stuck = [worker(2, 10), worker(4, 10)];
        let mut workers = Workers::default();
        assert_eq!(after(&mut workers, 40, &runtime(&stuck, 0, 3)), None, "39 ticks are less than a second");
        assert_eq!(after(&mut workers, 1, &runtime(&stuck, 0, 3)), Some(Frozen::Busy(LIMIT)));
        assert_eq!(after(&mut workers, 1, &runtime(&stuck, 0, 2)), None, "each task has its worker");
        assert!(after(&mut workers, 1, &runtime(&stuck, 1, 2)).is_some(), "one is queued");
        assert_eq!(after(&mut workers, 1, &runtime(&[worker(2, 10), worker(4, 11)], 1, 3)), None);
    }

    #[test]
    fn a_busy_runtime_whose_workers_never_sleep_is_not_frozen() {
        let mut workers = Workers::default();
        for busy in 0..1_000 {
            let sample = runtime(&[worker(0, busy), worker(0, busy)], 1_000, 1_000_000);
            workers.look(TICK, &sample);
            assert_eq!((workers.frozen(LIMIT, &sample), workers.stuck(TICK)), (None, 0));
        }
    }

    #[test]
    fn an_idle_runtime_is_not_frozen_and_one_that_sleeps_over_its_queue_is() {
        let asleep = [worker(5, 10), worker(7, 10)];
        let mut workers = Workers::default();
        assert_eq!(after(&mut workers, 10_000, &runtime(&asleep, 0, 100)), None);
        assert_eq!(after(&mut workers, 39, &runtime(&asleep, 1, 100)), None);
        assert_eq!(after(&mut workers, 1, &runtime(&asleep, 1, 100)), Some(Frozen::Asleep(LIMIT)));
        assert_eq!(after(&mut workers, 1, &runtime(&[worker(5, 10), worker(9, 10)], 1, 100)), None);
    }
}
