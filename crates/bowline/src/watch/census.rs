//! A walk over everything below a root: who is being polled, how many there are of each name, and what the queues say.
//!
//! It holds a node's lock for a moment per 128 children, as views do, and goes without recursion.

use std::collections::HashMap;
use std::panic::Location;
use std::time::Duration;

use super::intake::{Intake, Receiver};
use super::polls::Suspect;
use crate::clock;
use crate::node::Node;
use crate::queue::QueueStats;
use crate::record::{Kind, Record};
use crate::site::Site;
use crate::sync::Arc;
use crate::tree;

/// A name and a place, by address: see [`Site::is`].
pub(super) type SiteKey = (usize, usize);

pub(super) fn key(site: &Site) -> SiteKey {
    (std::ptr::from_ref(site.place).addr(), site.name.as_ptr().addr())
}

/// What lives below a root.
#[derive(Default)]
pub(super) struct Census {
    /// Tasks with a future.
    pub(super) tasks: usize,
    /// Tasks, blocking ones also, by name and place.
    pub(super) counts: HashMap<SiteKey, (Site, u32)>,
    pub(super) intakes: Vec<Intake>,
    pub(super) blocking: Lane,
}

/// The runtime's lane for blocking tasks, as far as they are ours.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) running: usize,
    pub(super) waiting: usize,
    /// How long the one that has waited longest has.
    pub(super) oldest: Duration,
    /// Whose tasks run there, one of them.
    pub(super) runs: Option<&'static str>,
}

/// Visits every record below `top`, with the task around it.
fn walk(top: &Arc<Node>, mut visit: impl FnMut(&Arc<Record>)) {
    let mut nodes = vec![Arc::clone(top)];
    while let Some(node) = nodes.pop() {
        node.each_child(|record| {
            visit(record);
            nodes.extend(record.nested());
        });
    }
}

impl Census {
    /// Counts everybody. Items older than `ripe` make it look at who is to take them.
    pub(super) fn take(top: &Arc<Node>, ripe: Duration) -> Self {
        let mut census = Self::default();
        walk(top, |record| {
            if record.kind != Kind::Strand && !record.has_ended() {
                census.count(record);
            }
            for queue in record.queues() {
                let place = queue.place().unwrap_or(record.site.place);
                census.intakes.push(intake(&queue.stats(), place));
            }
        });
        census.find_receivers(top, ripe);
        census
    }

    fn count(&mut self, record: &Record) {
        self.counts.entry(key(&record.site)).or_insert((record.site, 0)).1 += 1;
        if record.kind != Kind::Blocking {
            self.tasks += 1;
        } else if record.is_running() {
            self.blocking.running += 1;
            self.blocking.runs = Some(record.site.name);
        } else if record.polls() == 0 {
            self.blocking.waiting += 1;
            self.blocking.oldest = self.blocking.oldest.max(clock::since(record.born()));
        }
    }

    /// A second walk, for what is rare: to say what those do who should take something.
    fn find_receivers(&mut self, top: &Arc<Node>, ripe: Duration) {
        let ripe = |intake: &Intake| intake.oldest.is_some_and(|oldest| oldest >= ripe);
        let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, intake) in self.intakes.iter().enumerate().filter(|(_, intake)| ripe(intake)) {
            intake.takers.iter().for_each(|taker| wanted.entry(*taker).or_default().push(at));
        }
        if wanted.is_empty() {
            return;
        }
        walk(top, |record| {
            for at in wanted.get(&record.id()).into_iter().flatten() {
                let receiver = Receiver {
                    task: record.id(),
                    path: tree::task_and_path(record).1,
                    polls: record.polls(),
                    state: tree::state(record).to_string(),
                };
                self.intakes[*at].receivers.push(receiver);
            }
        });
    }
}

fn intake(stats: &QueueStats, place: &'static Location<'static>) -> Intake {
    Intake {
        id: stats.id,
        what: "queue",
        name: stats.name,
        place,
        waiting: stats.depth_items,
        max: stats.max_items,
        tells_high: true,
        oldest: (stats.depth_items > 0).then(|| Duration::from_millis(stats.oldest_ms)),
        taken: stats.received,
        in_hands: stats.in_flight,
        dropped: stats.dropped,
        refused: stats.refused,
        takers: stats.receivers.iter().filter_map(|holder| holder.task).collect(),
        receivers: Vec::new(),
    }
}

/// How many tasks with a future live below.
pub(super) fn tasks(top: &Arc<Node>) -> usize {
    let mut tasks = 0;
    walk(top, |record| {
        let is_task = matches!(record.kind, Kind::Task | Kind::Daemon);
        tasks += usize::from(is_task && !record.has_ended());
    });
    tasks
}

/// Finds who is being polled now, at most `limit` of them: tasks, and where a foreign task polls ours, the outermost context.
pub(super) fn polled(top: &Arc<Node>, limit: usize) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    walk(top, |record| {
        let asked = record.kind != Kind::Blocking && record.is_running() && suspects.len() < limit;
        if asked && !is_inside_running(record) {
            suspects.push(Suspect::new(record, &innermost(record)));
        }
    });
    suspects
}

/// Whether somebody further up is being polled, and with them this strand.
fn is_inside_running(record: &Record) -> bool {
    record.kind == Kind::Strand && record.node.parent().is_some_and(|parent| parent.is_running())
}

/// Goes down along those that are being polled.
fn innermost(record: &Arc<Record>) -> Arc<Record> {
    /// Enough to be of use; nobody nests deeper on purpose.
    const MAX_DEPTH: usize = 100;
    let mut at = Arc::clone(record);
    for _ in 0..MAX_DEPTH {
        let mut inside = None;
        for node in at.nested() {
            node.each_child(|child| {
                if child.kind == Kind::Strand && child.is_running() {
                    inside = Some(Arc::clone(child));
                }
            });
        }
        match inside {
            Some(inside) => at = inside,
            None => break,
        }
    }
    at
}
