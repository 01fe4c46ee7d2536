//! The live tree: every scope and task that exists now, as data, as JSON and as text.
//!
//! It is made by walking down from the roots with a short lock per 128 children; the poll path takes no part in it. What
//! it shows is each task's own moment, not one moment of the whole program.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::channel::ChannelStats;
use crate::children;
use crate::clock;
use crate::node::{Node, NodeKind};
use crate::queue::QueueStats;
use crate::record::{CANCEL, Kind, Record};
use crate::root;
use crate::wait::Wait;
use crate::watch::PollTimes;

/// Everything that lives in the process.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Tree {
    /// Tasks with a future, ours.
    pub tasks: usize,
    /// Closures on the blocking lane, ours.
    pub blocking: usize,
    /// What the current runtime says it runs; `None` outside of a runtime.
    pub runtime_tasks: Option<usize>,
    /// `runtime_tasks` less ours in this runtime: tasks nobody here owns. It may be off by those that start or end at this
    /// moment.
    pub foreign_tasks: Option<usize>,
    /// The top scopes.
    pub roots: Vec<ScopeInfo>,
}

/// A scope, a group, or another context below which tasks live.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ScopeInfo {
    /// Identity in the process.
    pub id: u64,
    /// The name given at creation.
    pub name: &'static str,
    /// What it is: `root`, `scope`, `group`, `timeout`, `shielded`, `drain phase`, `supervisor`, `value`, `job`, `token`.
    pub kind: &'static str,
    /// `file:line` of its creation.
    pub place: String,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<String>,
    /// The tasks it owns.
    pub tasks: Vec<TaskInfo>,
    /// Scopes opened in its body.
    pub scopes: Vec<ScopeInfo>,
    /// Queues made in its body.
    pub queues: Vec<QueueStats>,
    /// Other channels made in its body.
    pub channels: Vec<ChannelStats>,
    /// How many tasks and scopes of which name were left out of the picture; [`tree`] leaves none out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<&'static str, usize>,
}

/// A live task.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Identity in the process.
    pub id: u64,
    /// Identity of the scope that owns it.
    pub parent: u64,
    /// The name given at its spawn.
    pub name: &'static str,
    /// `file:line` of its spawn.
    pub place: String,
    /// Since its spawn.
    pub age_ms: u64,
    /// What it does.
    pub state: TaskState,
    /// How often it was polled.
    pub polls: u32,
    /// How long ago its last poll ended, which is its last progress; none before the first, and while it is polled.
    pub idle_ms: Option<u64>,
    /// The size of its future, rounded up to eight bytes (from 64 KiB on, to 4 KiB); none until its first poll is over, and of a
    /// closure.
    pub future_bytes: Option<usize>,
    /// Of a child of a supervisor: which of its lives this is, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// How long that took, if polls are timed ([`Runner::time_polls`](crate::Runner::time_polls)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll_times: Option<PollTimes>,
    /// Whether it was asked to stop.
    pub cancelled: bool,
    /// Scopes opened inside it.
    pub scopes: Vec<ScopeInfo>,
    /// Queues made inside it.
    pub queues: Vec<QueueStats>,
    /// Other channels made inside it.
    pub channels: Vec<ChannelStats>,
}

/// What a task does at the moment it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[non_exhaustive]
pub enum TaskState {
    /// Not polled yet.
    New,
    /// Being polled.
    Running,
    /// Waiting at a primitive of ours.
    Waiting(WaitInfo),
    /// Waiting for something unknown: a socket, a foreign timer or lock.
    Parked,
    /// A closure on the blocking lane.
    Blocking,
    /// Its future has ended; work adopted from it has not.
    Ended,
}

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitInfo {
    /// The operation: `recv`, `lock`, `sleep` and so on; `join` is a handle, `close` a scope that waits for its tasks.
    pub op: &'static str,
    /// Identity of what is waited for, if the operation has one: a queue, channel or task here, a lock in
    /// [`contended`](crate::contended()).
    pub on: Option<u64>,
    /// Since when.
    pub for_ms: u64,
}

/// Takes a picture of everything that lives: below the root of the current runtime, if it has one, or else in the process.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// let tree = bowline::tree();
/// println!("{tree}"); // for people
/// let json = serde_json::to_string(&tree).unwrap(); // for programs
/// assert!(json.contains("roots"));
/// # });
/// ```
#[must_use]
pub fn tree() -> Tree {
    picture(match root::of_runtime() {
        Some(record) => vec![Arc::clone(&record.node)],
        None => root::all(),
    })
}

/// The picture below some top nodes.
pub(crate) fn picture(tops: Vec<Arc<Node>>) -> Tree {
    let mut walk = Walk::default();
    let here = root::of_runtime().and_then(|record| record.node.root.as_ref().map(Arc::as_ptr));
    let mut tasks_here = 0;
    let mut roots = Vec::with_capacity(tops.len());
    for node in &tops {
        let before = walk.tasks;
        roots.push(walk.scope(node, 0));
        // Other roots of this process have runtimes of their own.
        if node.root.as_ref().map(Arc::as_ptr) == here {
            tasks_here += walk.tasks - before;
        }
    }
    drop(tops);
    let runtime_tasks = tokio::runtime::Handle::try_current().ok().map(|rt| rt.metrics().num_alive_tasks());
    let foreign_tasks = runtime_tasks.map(|all| all.saturating_sub(tasks_here));
    Tree { tasks: walk.tasks, blocking: walk.blocking, runtime_tasks, foreign_tasks, roots }
}

/// A tree deeper than this is cut: recursion needs stack, and nobody reads on.
const MAX_DEPTH: usize = 200;

#[derive(Default)]
struct Walk {
    tasks: usize,
    blocking: usize,
}

impl Walk {
    fn scope(&mut self, node: &Arc<Node>, depth: usize) -> ScopeInfo {
        let mut info = shallow_scope(node);
        if depth >= MAX_DEPTH {
            return info;
        }
        node.each_child(|record| match record.kind {
            Kind::Strand => {
                info.scopes.extend(record.nested().iter().map(|nested| self.scope(nested, depth + 1)));
                info.queues.extend(record.queues().iter().map(|queue| queue.stats()));
                info.channels.extend(record.channels().iter().map(|channel| channel.stats()));
            }
            Kind::Task | Kind::Daemon | Kind::Blocking => info.tasks.push(self.task(record, depth)),
        });
        info
    }

    fn task(&mut self, record: &Arc<Record>, depth: usize) -> TaskInfo {
        match (record.kind, record.has_ended()) {
            (_, true) => {}
            (Kind::Blocking, false) => self.blocking += 1,
            (_, false) => self.tasks += 1,
        }
        TaskInfo {
            scopes: record.nested().iter().map(|nested| self.scope(nested, depth + 1)).collect(),
            queues: record.queues().iter().map(|queue| queue.stats()).collect(),
            channels: record.channels().iter().map(|channel| channel.stats()).collect(),
            ..shallow_task(record)
        }
    }
}

/// A scope without what is in it.
pub(crate) fn shallow_scope(node: &Node) -> ScopeInfo {
    ScopeInfo {
        id: node.id,
        name: node.site.name,
        kind: node.kind.name(),
        place: place(node.site),
        cancelled: node.cause().map(|cause| cause.to_string()),
        tasks: Vec::new(),
        scopes: Vec::new(),
        queues: Vec::new(),
        channels: Vec::new(),
        more: BTreeMap::new(),
    }
}

/// A task without what is in it.
pub(crate) fn shallow_task(record: &Record) -> TaskInfo {
    TaskInfo {
        id: record.id(),
        parent: record.node.id,
        name: record.site.name,
        place: place(&record.site),
        age_ms: millis(clock::since(record.born())),
        state: state(record),
        polls: record.polls(),
        idle_ms: record.idle().map(millis),
        future_bytes: record.future_bytes(),
        generation: record.generation(),
        poll_times: record.poll_times(),
        cancelled: record.flags() & CANCEL != 0,
        scopes: Vec::new(),
        queues: Vec::new(),
        channels: Vec::new(),
    }
}

pub(crate) fn state(record: &Record) -> TaskState {
    if record.has_ended() {
        TaskState::Ended
    } else if record.kind == Kind::Blocking {
        TaskState::Blocking
    } else if record.is_running() {
        TaskState::Running
    } else if let Some((wait, from)) = waiting(record, 0) {
        TaskState::Waiting(WaitInfo {
            op: wait.op.name(),
            on: Some(wait.on).filter(|on| *on != 0),
            for_ms: millis(clock::since(from)),
        })
    } else if record.polls() == 0 {
        TaskState::New
    } else {
        TaskState::Parked
    }
}

/// What a task waits for: at its own level, or in the body of a scope or timeout it is in.
fn waiting(record: &Record, depth: usize) -> Option<(Wait, u32)> {
    let nested = if depth < MAX_DEPTH { record.nested() } else { Vec::new() };
    let inside = nested
        .iter()
        .find_map(|node| children::bodies(node.children()).iter().find_map(|body| waiting(body, depth + 1)));
    inside.or_else(|| record.wait())
}

pub(crate) fn place(site: &crate::site::Site) -> String {
    format!("{}:{}", site.place.file(), site.place.line())
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name of the task a record belongs to, and the names from the root down to it, joined by `/`. Where no task is ours -
/// in a framework's handler, in the body of a test - the outermost scope stands for it.
pub(crate) fn task_and_path(record: &Record) -> (&'static str, String) {
    let (mut names, mut top) = (Vec::new(), record.node.site.name);
    let mut at = record;
    loop {
        match at.kind {
            Kind::Strand if at.node.kind != NodeKind::Root => top = at.node.site.name,
            Kind::Strand => {}
            Kind::Task | Kind::Daemon | Kind::Blocking => names.push(at.site.name),
        }
        match at.node.parent() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    let task = names.first().copied().unwrap_or(top);
    names.reverse();
    (task, if names.is_empty() { top.to_owned() } else { names.join("/") })
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskState::New => f.write_str("not polled yet"),
            TaskState::Running => f.write_str("running"),
            TaskState::Waiting(wait) => {
                match wait.op {
                    "cancelled" => f.write_str("waiting for the cancel")?,
                    "draining" => f.write_str("waiting for the drain")?,
                    "sleep" => f.write_str("sleeping")?,
                    "changed" => f.write_str("waiting for a change")?,
                    "reply" => f.write_str("waiting for the reply")?,
                    "closed" => f.write_str("waiting for the close")?,
                    "notified" => f.write_str("waiting for a notification")?,
                    "latch" => f.write_str("waiting for a latch")?,
                    "barrier" => f.write_str("waiting at a barrier")?,
                    op => write!(f, "waiting to {op}")?,
                }
                if let Some(on) = wait.on {
                    write!(f, " #{on}")?;
                }
                write!(f, " for {}", short(wait.for_ms))
            }
            TaskState::Parked => f.write_str("parked"),
            TaskState::Blocking => f.write_str("blocking"),
            TaskState::Ended => f.write_str("ended, adopted work below"),
        }
    }
}

/// How many tasks, or channels, of one name in one scope the text shows; the JSON has all.
const SHOWN_PER_NAME: usize = 10;

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tasks", self.tasks)?;
        if self.blocking > 0 {
            write!(f, ", {} blocking", self.blocking)?;
        }
        if let Some(foreign) = self.foreign_tasks {
            write!(f, ", {foreign} foreign")?;
        }
        writeln!(f)?;
        let mut text = String::new();
        for root in &self.roots {
            write_scope(&mut text, root, 0)?;
        }
        f.write_str(&text)
    }
}

fn write_scope(text: &mut String, scope: &ScopeInfo, depth: usize) -> fmt::Result {
    let Some(inner) = write_head(text, scope, depth)? else { return Ok(()) };
    for queue in &scope.queues {
        write_queue(text, queue, inner)?;
    }
    write_some(text, &scope.channels, inner, |channel| channel.name, write_channel)?;
    write_some(text, &scope.tasks, inner, |task| task.name, write_task)?;
    for nested in &scope.scopes {
        write_scope(text, nested, inner)?;
    }
    for (name, count) in &scope.more {
        writeln!(text, "{:inner$}… {count} more `{name}`", "")?;
    }
    Ok(())
}

/// Writes the first of each name, and how many more there are.
fn write_some<T>(
    text: &mut String,
    things: &[T],
    depth: usize,
    name: fn(&T) -> &'static str,
    write: fn(&mut String, &T, usize) -> fmt::Result,
) -> fmt::Result {
    let mut shown: Vec<(&str, usize)> = Vec::new();
    for thing in things {
        let name = name(thing);
        let at = match shown.iter().position(|(known, _)| *known == name) {
            Some(at) => at,
            None => {
                shown.push((name, 0));
                shown.len() - 1
            }
        };
        shown[at].1 += 1;
        if shown[at].1 <= SHOWN_PER_NAME {
            write(text, thing, depth)?;
        }
    }
    for (name, count) in shown {
        if count > SHOWN_PER_NAME {
            writeln!(text, "{:depth$}… {} more `{name}`", "", count - SHOWN_PER_NAME)?;
        }
    }
    Ok(())
}

/// Writes the scope's own line and says how deep its content stands; contexts that own nothing are left out.
fn write_head(text: &mut String, scope: &ScopeInfo, depth: usize) -> Result<Option<usize>, fmt::Error> {
    let makes_nothing = scope.queues.is_empty() && scope.channels.is_empty();
    let owns_nothing = scope.tasks.is_empty() && scope.scopes.is_empty() && makes_nothing;
    if owns_nothing && matches!(scope.kind, "timeout" | "shielded" | "value" | "token") {
        return Ok(None);
    }
    write!(text, "{:depth$}[{}] {}", "", scope.kind, scope.name)?;
    if let Some(cause) = &scope.cancelled {
        write!(text, " (cancelled: {cause})")?;
    }
    writeln!(text, "  {}", scope.place)?;
    Ok(Some(depth + 2))
}

fn write_task(text: &mut String, task: &TaskInfo, depth: usize) -> fmt::Result {
    let TaskInfo { id, name, state, place, age_ms, .. } = task;
    write!(text, "{:depth$}{name} #{id}  {state}, {} old", "", short(*age_ms))?;
    if let Some(times) = &task.poll_times {
        write!(text, ", busy {}", short(times.busy_us / 1_000))?;
    }
    writeln!(text, "  {place}")?;
    for queue in &task.queues {
        write_queue(text, queue, depth + 2)?;
    }
    write_some(text, &task.channels, depth + 2, |channel| channel.name, write_channel)?;
    for scope in &task.scopes {
        write_scope(text, scope, depth + 2)?;
    }
    Ok(())
}

fn write_queue(text: &mut String, queue: &QueueStats, depth: usize) -> fmt::Result {
    write!(
        text,
        "{:depth$}<queue> {} #{}  {}/{}",
        "", queue.name, queue.id, queue.depth_items, queue.max_items
    )?;
    if let Some(max_bytes) = queue.max_bytes {
        write!(text, ", {}/{max_bytes} bytes", queue.depth_bytes)?;
    }
    if queue.oldest_ms > 0 {
        write!(text, ", oldest {}", short(queue.oldest_ms))?;
    }
    write!(text, ", high water {}, {} sent", queue.high_water_items, queue.sent)?;
    for (count, what) in [
        (queue.in_flight as u64, "in flight"),
        (queue.redelivered, "redelivered"),
        (queue.dropped, "dropped"),
        (queue.refused, "refused"),
        (queue.abandoned, "abandoned"),
    ] {
        if count > 0 {
            write!(text, ", {count} {what}")?;
        }
    }
    if let Some(urgent) = &queue.urgent {
        write!(text, ", urgent {}/{}", urgent.depth_items, urgent.max_items)?;
    }
    if !queue.sources.is_empty() {
        write!(text, ", {} sources", queue.sources.len())?;
    }
    if let Some(reason) = queue.closed {
        write!(text, " (closed: {reason})")?;
    }
    writeln!(text)
}

fn write_channel(text: &mut String, channel: &ChannelStats, depth: usize) -> fmt::Result {
    let ChannelStats { kind, name, id, depth_items, max_items, sent, .. } = channel;
    write!(text, "{:depth$}<{kind}> {name} #{id}  {depth_items}/{max_items}, {sent} sent", "")?;
    for (count, what) in [(channel.missed, "missed"), (channel.abandoned, "abandoned")] {
        if count > 0 {
            write!(text, ", {count} {what}")?;
        }
    }
    writeln!(text)
}

fn short(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=119_999 => format!("{:.1} s", Duration::from_millis(millis).as_secs_f32()),
        120_000..=7_199_999 => format!("{} min", millis / 60_000),
        _ => format!("{} h", millis / 3_600_000),
    }
}
