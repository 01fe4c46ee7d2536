//! What top remembers of earlier pictures: depths and rates of queues, and how the tasks come and go.
//!
//! # Invariants
//!
//! 1. It is bounded: so many queues, so many pictures of each. A queue that is gone is forgotten.

use std::collections::HashMap;

use tokio::time::Instant;

use super::data::{Queue, Totals};

/// Pictures remembered of each queue: more than the widest column shows.
const MAX_DEPTHS: usize = 120;

/// Queues remembered.
const MAX_QUEUES: usize = 2_000;

#[derive(Debug, Default)]
pub(super) struct History {
    at: Option<Instant>,
    totals: Totals,
    queues: HashMap<u64, Past>,
    pub(super) tasks: TaskRates,
}

/// How the tasks come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TaskRates {
    /// Spawned per second, if the process counts them.
    pub(super) spawned: Option<f64>,
    /// How the number of tasks grows per second.
    pub(super) growth: Option<f64>,
}

/// What is known of a queue beside its books.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Items in it, the latest last.
    depths: Vec<u64>,
    sent: u64,
    received: u64,
    /// Items per second.
    pub(super) sent_rate: Option<f64>,
    pub(super) received_rate: Option<f64>,
}

impl Past {
    /// The last `count` depths.
    pub(super) fn depths(&self, count: usize) -> &[u64] {
        &self.depths[self.depths.len().saturating_sub(count)..]
    }
}

impl History {
    /// Takes a picture into account.
    pub(super) fn add(&mut self, now: Instant, totals: &Totals, queues: &[Queue]) {
        let seconds = self.at.map(|at| now.saturating_duration_since(at).as_secs_f64()).filter(|s| *s > 0.0);
        let rate =
            |before: u64, after: u64| seconds.map(|seconds| after.saturating_sub(before) as f64 / seconds);
        let both = |before: Option<u64>, after: Option<u64>| before.zip(after);
        self.tasks = TaskRates {
            spawned: both(self.totals.spawned, totals.spawned)
                .and_then(|(before, after)| rate(before, after)),
            growth: both(self.totals.tasks, totals.tasks)
                .and_then(|(before, after)| Some((after as f64 - before as f64) / seconds?)),
        };
        let mut known = std::mem::take(&mut self.queues);
        for queue in queues.iter().take(MAX_QUEUES) {
            let is_new = !known.contains_key(&queue.key);
            let mut past = known.remove(&queue.key).unwrap_or_default();
            if !is_new {
                past.sent_rate = rate(past.sent, queue.sent);
                past.received_rate = rate(past.received, queue.received);
            }
            (past.sent, past.received) = (queue.sent, queue.received);
            if past.depths.len() == MAX_DEPTHS {
                past.depths.remove(0);
            }
            past.depths.push(queue.depth_items);
            self.queues.insert(queue.key, past);
        }
        (self.at, self.totals) = (Some(now), totals.clone());
    }

    pub(super) fn of(&self, queue: u64) -> Option<&Past> {
        self.queues.get(&queue)
    }

    /// The connection was lost: what comes next is not to be compared with what was, for it may be another process.
    pub(super) fn interrupt(&mut self) {
        self.at = None;
        self.tasks = TaskRates::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queue(id: u64, depth_items: u64, sent: u64) -> Queue {
        Queue { key: id, depth_items, sent, ..Queue::default() }
    }

    fn totals(tasks: u64, spawned: u64) -> Totals {
        Totals { tasks: Some(tasks), spawned: Some(spawned), ..Totals::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_those_between_two_pictures() {
        let (mut history, at) = (History::default(), Instant::now());
        history.add(at, &totals(10, 100), &[queue(1, 3, 50)]);
        assert_eq!(history.of(1).and_then(|past| past.sent_rate), None);
        assert_eq!(history.tasks, TaskRates::default());
        history.add(at + Duration::from_millis(500), &totals(8, 110), &[queue(1, 4, 150), queue(2, 0, 9)]);
        assert_eq!(history.of(1).and_then(|past| past.sent_rate), Some(200.0));
        assert_eq!(history.of(2).and_then(|past| past.sent_rate), None, "nothing is known of it before");
        assert_eq!(history.tasks, TaskRates { spawned: Some(20.0), growth: Some(-4.0) });
        assert_eq!(history.of(1).map(|past| past.depths(10).to_vec()), Some(vec![3, 4]));
        // After a loss, and when counters begin anew, there is no rate rather than a wrong one.
        history.interrupt();
        history.add(at + Duration::from_secs(9), &totals(1, 1), &[queue(1, 0, 0)]);
        assert_eq!(
            (history.of(1).and_then(|past| past.sent_rate), history.tasks),
            (None, TaskRates::default())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_and_forgets_what_is_gone() {
        let (mut history, at) = (History::default(), Instant::now());
        for second in 0..500 {
            let queues: Vec<Queue> = (second..second + 3_000).map(|id| queue(id, 1, 1)).collect();
            history.add(at + Duration::from_secs(second), &Totals::default(), &queues);
        }
        assert_eq!(history.queues.len(), MAX_QUEUES);
        assert!(history.queues.values().all(|past| past.depths.len() <= MAX_DEPTHS));
        assert!(history.of(0).is_none());
    }
}
