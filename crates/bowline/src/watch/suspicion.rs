//! Who has waited for long at one place. Nothing may be wrong with that, so it is a list to look at, and no alert.

use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::record::{Kind, Record};
use crate::root;
use crate::sync::Arc;
use crate::tree::{self, TaskState, WaitInfo};
use crate::wait::Op;

/// As many are listed at most.
const MAX_LISTED: usize = 1_000;

/// A task that has waited for long for something that is usually there soon.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Suspicion {
    /// The task.
    pub task: u64,
    /// Its name.
    pub name: &'static str,
    /// The names of the tasks from the root down to it, joined by `/`.
    pub path: String,
    /// `file:line` of its spawn.
    pub place: String,
    /// How long it has lived.
    pub age_ms: u64,
    /// How often it was polled.
    pub polls: u32,
    /// What it waits for, and since when; [`contended`](crate::contended()) says who holds that.
    pub wait: WaitInfo,
}

/// Returns the tasks that have waited for something for `at_least` so long, the one that waits longest first: at most a thousand.
///
/// A receiver without work, a sleep, a join and whoever waits for the end of something may do so for ever, and are left out. Of
/// the others - locks, permits, leases, room in a queue, an answer - a long wait *may* mean that something is wrong: a deadlock
/// through code that is not Bowline's, which nothing can prove, looks like this. It is not told as an [alert](crate::on_alert).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// # bowline::testing::example(async {
/// for suspicion in bowline::suspicions(Duration::from_secs(60)) {
///     println!("{} waits to {} for {} ms", suspicion.path, suspicion.wait.op, suspicion.wait.for_ms);
/// }
/// # });
/// ```
#[must_use]
pub fn suspicions(at_least: Duration) -> Vec<Suspicion> {
    let mut nodes = match root::of_runtime() {
        Some(record) => vec![Arc::clone(&record.node)],
        None => root::all(),
    };
    // Sorted and cut now and then: what is kept is bounded, however many wait.
    let mut found: Vec<(u64, Arc<Record>, WaitInfo)> = Vec::new();
    while let Some(node) = nodes.pop() {
        node.each_child(|record| {
            nodes.extend(record.nested());
            if let Some(wait) = long_wait(record, at_least) {
                found.push((wait.for_ms, Arc::clone(record), wait));
            }
        });
        if found.len() > 2 * MAX_LISTED {
            cut(&mut found);
        }
    }
    cut(&mut found);
    found.into_iter().map(|(_, record, wait)| suspicion(&record, wait)).collect()
}

fn cut(found: &mut Vec<(u64, Arc<Record>, WaitInfo)>) {
    found.sort_by_key(|(for_ms, ..)| std::cmp::Reverse(*for_ms));
    found.truncate(MAX_LISTED);
}

/// What the task waits for, if that is suspicious.
fn long_wait(record: &Record, at_least: Duration) -> Option<WaitInfo> {
    if !matches!(record.kind, Kind::Task | Kind::Daemon) {
        return None;
    }
    let TaskState::Waiting(wait) = tree::state(record) else { return None };
    let is_long = Duration::from_millis(wait.for_ms) >= at_least;
    (is_long && !may_take_for_ever(wait.op)).then_some(wait)
}

/// Waits that say nothing by being long: for work, for time, for somebody who may live for ever.
fn may_take_for_ever(op: &str) -> bool {
    const MAY: [Op; 13] = [
        Op::Recv,
        Op::Join,
        Op::Close,
        Op::Cancelled,
        Op::Draining,
        Op::Notified,
        Op::Changed,
        Op::Sleep,
        Op::Merge,
        Op::Closed,
        Op::Job,
        Op::Backoff,
        Op::Supervise,
    ];
    MAY.iter().any(|may| may.name() == op)
}

fn suspicion(record: &Record, wait: WaitInfo) -> Suspicion {
    let age = clock::since(record.born()).as_millis();
    Suspicion {
        task: record.id(),
        name: record.site.name,
        path: tree::task_and_path(record).1,
        place: tree::place(&record.site),
        age_ms: u64::try_from(age).unwrap_or(u64::MAX),
        polls: record.polls(),
        wait,
    }
}
