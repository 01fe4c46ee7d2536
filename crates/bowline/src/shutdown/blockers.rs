//! Who holds up the end: found by a walk over the live tree, told every second, and named in the report.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::report::{Reason, millis};
use crate::clock;
use crate::node::{Node, NodeKind};
use crate::record::{Kind, Record};
use crate::root::Phase;
use crate::tree::{self, TaskState};

/// A task that did not stop.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Straggler {
    /// The id under which views show it; 0 if it is no task.
    pub id: u64,
    /// Names from the root down, joined by `/`.
    pub path: String,
    /// `file:line` of its spawn.
    pub place: String,
    /// Since its spawn.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
    /// What it was doing. [`TaskState::Blocking`] is a closure on the blocking lane, which nothing can cancel.
    pub state: TaskState,
    /// The drain phase it belongs to, if any.
    pub drain_phase: Option<&'static str>,
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, place, age, state, .. } = self;
        write!(f, "task `{path}` spawned at {place}, {state}, {:.1} s old", age.as_secs_f32())
    }
}

/// The tasks below `node` that have not ended. One that only waits for its own is not the culprit: the deepest are named.
pub(super) fn stragglers(node: &Arc<Node>) -> Vec<Straggler> {
    let mut walk = Walk { found: Vec::new() };
    let _ = walk.node(node, "", None, 0);
    walk.found
}

/// A tree deeper than this is cut: recursion needs stack.
const MAX_DEPTH: usize = 200;

struct Walk {
    found: Vec<Straggler>,
}

impl Walk {
    /// Returns the drain phase that was opened in the body of the node, or in the node itself: whoever runs it belongs to it.
    fn node(
        &mut self,
        node: &Arc<Node>,
        path: &str,
        around: Option<&'static str>,
        depth: usize,
    ) -> Option<&'static str> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let mut opened = (node.kind == NodeKind::Drain).then_some(node.site.name);
        let around = opened.or(around);
        node.each_child(|record| {
            // Nobody waits for a daemon that was not yet told to end: it serves those that are waited for.
            if record.kind == Kind::Daemon && !record.is_cancelled() {
                return;
            }
            let is_task = record.kind != Kind::Strand;
            let own = match is_task {
                false => path.to_owned(),
                true if path.is_empty() => record.site.name.to_owned(),
                true => format!("{path}/{}", record.site.name),
            };
            let before = self.found.len();
            let mut inside = None;
            for nested in record.nested() {
                inside = inside.or(self.node(&nested, &own, around, depth + 1));
            }
            // Of a foreign task - a framework's handler - the scope it is in is all we know.
            let is_foreign = !is_task && path.is_empty() && node.kind != NodeKind::Root;
            if self.found.len() == before && !record.has_ended() && (is_task || is_foreign) {
                let path = if is_foreign { node.site.name.to_owned() } else { own };
                self.found.push(straggler(record, path, inside.or(around)));
            }
            if !is_task {
                opened = opened.or(inside);
            }
        });
        opened
    }
}

fn straggler(record: &Record, path: String, drain_phase: Option<&'static str>) -> Straggler {
    Straggler {
        id: record.id(),
        path,
        place: tree::place(&record.site),
        age: clock::since(record.born()),
        state: tree::state(record),
        drain_phase,
    }
}

/// Tasks that hold up the end of a program, told every second once half of the budget is over.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Blockers {
    /// Why the program ends.
    pub reason: Reason,
    /// How far the shutdown has come.
    pub phase: Phase,
    /// Whose turn it is, while draining.
    pub drain_phase: Option<&'static str>,
    /// Since the shutdown began.
    #[serde(rename = "elapsed_ms", serialize_with = "millis")]
    pub elapsed: Duration,
    /// After which the program ends, whoever is left.
    #[serde(rename = "budget_ms", serialize_with = "millis")]
    pub budget: Duration,
    /// Who is waited for. In the turn of a drain phase, those of the phase.
    pub tasks: Vec<Straggler>,
}

impl fmt::Display for Blockers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, phase, drain_phase, elapsed, budget, tasks } = self;
        let doing = match phase {
            Phase::Running | Phase::Draining => "draining",
            Phase::Cancelling => "cancelling",
            Phase::Aborting => "aborting",
        };
        write!(f, "{reason}: {doing}")?;
        if let Some(name) = drain_phase {
            write!(f, " `{name}`")?;
        }
        let (elapsed, budget) = (elapsed.as_secs_f32(), budget.as_secs_f32());
        write!(
            f,
            " after {elapsed:.1} of {budget:.1} s, waiting for {}",
            Listed(tasks, plural(tasks.len(), "task", "tasks"))
        )
    }
}

/// Tasks, one per line, under their number and what is said of them; blocking closures are counted apart, because nothing
/// can cancel them.
pub(super) struct Listed<'a>(pub(super) &'a [Straggler], pub(super) &'static str);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Tasks that are shown; the data has all.
        const SHOWN: usize = 20;
        let Self(tasks, what) = self;
        write!(f, "{} {what}", tasks.len())?;
        match tasks.iter().filter(|task| task.state == TaskState::Blocking).count() {
            0 => {}
            1 => f.write_str(" (1 blocking closure)")?,
            blocking => write!(f, " ({blocking} blocking closures)")?,
        }
        f.write_str(":")?;
        for task in tasks.iter().take(SHOWN) {
            write!(f, "\n  {task}")?;
        }
        if tasks.len() > SHOWN {
            write!(f, "\n  … and {} more", tasks.len() - SHOWN)?;
        }
        Ok(())
    }
}

pub(super) fn plural(count: usize, one: &'static str, more: &'static str) -> &'static str {
    if count == 1 { one } else { more }
}

/// What is done with the blockers: [`Runner::on_blockers`](crate::Runner::on_blockers), or standard error.
pub(crate) type OnBlockers = Arc<dyn Fn(&Blockers) + Send + Sync>;

/// How far the end has come, as its clock says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    pub(super) phase: Phase,
    pub(super) drain_phase: Option<&'static str>,
}

/// Tells of the end while it lasts. Whatever is told is told on a thread of its own: a log that nobody reads, or a hook that
/// panics, must not hold up the end.
pub(super) struct Teller<'a> {
    pub(super) reason: &'a Reason,
    pub(super) began: Instant,
    pub(super) budget: Duration,
    pub(super) root: Weak<Node>,
    pub(super) stage: &'a Cell<Stage>,
    pub(super) on_blockers: Option<OnBlockers>,
    pub(super) telling: RefCell<Option<JoinHandle<()>>>,
}

impl Teller<'_> {
    /// Tells who holds up the end, every second from half of the budget on.
    pub(super) async fn tell_blockers(&self) -> Infallible {
        const EVERY: Duration = Duration::from_secs(1);
        let mut at = self.began + self.budget / 2;
        loop {
            tokio::time::sleep_until(at).await;
            at += EVERY;
            let Stage { phase, drain_phase } = self.stage.get();
            let mut tasks = self.root.upgrade().map(|node| stragglers(&node)).unwrap_or_default();
            tasks.retain(|task| drain_phase.is_none() || task.drain_phase == drain_phase);
            if tasks.is_empty() {
                continue;
            }
            let blockers = Blockers {
                reason: self.reason.clone(),
                phase,
                drain_phase,
                elapsed: self.began.elapsed(),
                budget: self.budget,
                tasks,
            };
            match self.on_blockers.clone() {
                Some(hook) => self.tell(move || hook(&blockers)),
                None => self.say(blockers.to_string()),
            }
        }
    }

    /// Writes to standard error, in one piece.
    pub(super) fn say(&self, text: String) {
        // Not `eprintln`, which panics when nobody reads standard error any more.
        self.tell(move || drop(std::io::stderr().write_all(format!("{text}\n").as_bytes())));
    }

    /// Nothing is told while the last is still being told: that bounds what a stuck reader can pile up.
    fn tell(&self, tell: impl FnOnce() + Send + 'static) {
        let mut telling = self.telling.borrow_mut();
        if telling.as_ref().is_none_or(JoinHandle::is_finished) {
            #[expect(clippy::disallowed_methods, reason = "on the clock's own runtime, which has no scopes")]
            let told = tokio::task::spawn_blocking(tell);
            *telling = Some(told);
        }
    }

    /// Waits, not for long, until the last is told.
    pub(super) async fn finish(&self, at_most: Duration) {
        let telling = self.telling.take();
        if let Some(telling) = telling {
            let _ = tokio::time::timeout(at_most, telling).await;
        }
    }
}
