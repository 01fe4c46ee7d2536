//! The page of one task: where it stands, what it waits for and who could end that, what waits for it, what is below it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::Serialize;
use tokio::runtime::Handle;

use super::live::{self, Cut, EACH};
use super::query::{Format, Limit, Query};
use super::tasks::Row;
use super::text::{counted, escape, short, thousands, wrap};
use super::waits::{Finder, Names, tasks_of, write_resource};
use super::walk::{Seen, Walk};
use super::{Answer, Body, content_type};
use crate::channel::ChannelStats;
use crate::detect::{self, Explanation};
use crate::node::Node;
use crate::queue::QueueStats;
use crate::record::Record;
use crate::resource::{self, ResourceInfo};
use crate::tree::{self, TaskState, Tree};

/// How many contended things in its hands are shown.
const HELD: usize = 100;

/// A scope or task around the task.
#[derive(Serialize)]
struct Around {
    id: u64,
    name: &'static str,
    kind: &'static str,
    place: String,
}

/// A task that lives, and what is around it.
struct Found {
    record: Arc<Record>,
    row: Row,
    above: Vec<Around>,
}

#[derive(Serialize)]
struct Page<'a> {
    task: &'a Row,
    above: &'a [Around],
    /// Why it is cancelled, if it is.
    cancelled: Option<String>,
    waits_for: WaitsFor<'a>,
    /// What keeps its wait from being proved to be for ever, or the proof.
    explanation: &'a Explained,
    /// What it holds and others wait for.
    holds: &'a [ResourceInfo],
    queues: &'a [QueueStats],
    channels: &'a [ChannelStats],
    tree: &'a Tree,
    names: &'a Names,
}

#[derive(Serialize)]
struct WaitsFor<'a> {
    resource: Option<&'a ResourceInfo>,
    /// The task it joins.
    task: Option<u64>,
}

/// Up to so many tasks of the runtime a wait is explained unasked: looking at all of them takes some milliseconds.
const EXPLAINED_UNASKED: usize = 10_000;

/// What there is to say about a wait.
#[derive(Serialize)]
#[serde(untagged)]
enum Explained {
    As(Explanation),
    /// Why not.
    Not(String),
}

/// The explanation in the making: on a thread of its own, for it looks at everything that lives, in one go.
enum Explaining {
    On(JoinHandle<Explanation>),
    Done(Explained),
}

impl Explaining {
    fn begin(task: u64, asked: Option<bool>) -> Self {
        let alive = Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        let wanted = asked.unwrap_or(alive <= EXPLAINED_UNASKED);
        if !wanted {
            let alive = thousands(alive as u64);
            return Self::Done(Explained::Not(format!(
                "not looked for among {alive} tasks; ?explain=yes does"
            )));
        }
        let explain = move || detect::explain(task);
        match std::thread::Builder::new().name("bowline-explain".into()).spawn(explain) {
            Ok(thread) => Self::On(thread),
            Err(error) => Self::Done(Explained::Not(format!("no thread to look for it: {error}"))),
        }
    }

    /// Whether it is made.
    fn step(&mut self) -> bool {
        match self {
            Self::On(thread) if thread.is_finished() => true,
            Self::On(_) => {
                std::thread::yield_now(); // the reader has nothing to do until then
                false
            }
            Self::Done(_) => true,
        }
    }

    fn finish(self) -> Explained {
        match self {
            // What panics there is a bug of ours, and not worth the page.
            Self::On(thread) => thread.join().map_or_else(
                |_| Explained::Not("looking for it has panicked, which is a bug of the toolkit".to_owned()),
                Explained::As,
            ),
            Self::Done(explained) => explained,
        }
    }
}

/// Walks to the task at once, since the status says whether it lives: some 50 ms past a million others.
pub(super) fn answer(id: u64, query: Query) -> Answer {
    let found = match find(id) {
        Ok(found) => found,
        Err(Some(scope)) => {
            return Answer::text(
                404,
                format!("#{id} is no task but a {}: see ../tree?below={id}", scope.kind.name()),
            );
        }
        Err(None) => return Answer::text(404, format!("no task #{id} lives: it has ended, or never was")),
    };
    let on = match &found.row.state {
        TaskState::Waiting(wait) => wait.on,
        _ => None,
    };
    let (waited_for, held) = resources(id, on);
    let wanted: HashSet<u64> =
        waited_for.iter().chain(&held).flat_map(tasks_of).chain(on).filter(|task| *task != id).collect();
    let each = match query.each {
        None => EACH,
        Some(Limit::AtMost(each)) => each,
        Some(Limit::All) => usize::MAX,
    };
    let mut cut = Some(Cut::new(Walk::from(found.record.nested()), each));
    let mut finder = Finder::of(wanted);
    let mut tree = None;
    let mut explaining = None;
    let content_type = content_type(query.format);
    let body = Body::from_pieces(std::iter::from_fn(move || {
        if tree.is_none() {
            if cut.as_mut()?.step() {
                tree = cut.take().map(Cut::finish);
            }
            return Some(Vec::new());
        }
        let making = explaining.get_or_insert_with(|| Explaining::begin(id, query.explain));
        if !making.step() {
            return Some(Vec::new());
        }
        let Some(mut names) = finder.step() else { return Some(Vec::new()) };
        let explanation = explaining.take()?.finish();
        let tree = Tree { foreign_tasks: None, ..tree.take()? };
        names.insert(id, found.row.path.clone());
        let record = &found.record;
        let page = Page {
            task: &found.row,
            above: &found.above,
            cancelled: record.is_cancelled().then(|| format!("{:#}", record.cancelled())),
            waits_for: WaitsFor {
                resource: waited_for.as_ref(),
                task: on.filter(|on| names.contains_key(on)),
            },
            explanation: &explanation,
            holds: &held,
            queues: &record.queues().iter().take(each).map(|queue| queue.stats()).collect::<Vec<_>>(),
            channels: &record.channels().iter().take(each).map(|channel| channel.stats()).collect::<Vec<_>>(),
            tree: &tree,
            names: &names,
        };
        Some(match query.format {
            Format::Json => super::json(&page),
            Format::Text => format!("{}{}", query.complaint(), text(&page)).into_bytes(),
        })
    }));
    Answer { status: 200, content_type, body }
}

/// Finds a task, or the scope of that id.
fn find(id: u64) -> Result<Found, Option<Arc<Node>>> {
    let mut walk = Walk::new();
    // `None` where the walk stands in a body: its scope is there already.
    let mut above: Vec<Around> = Vec::new();
    while let Some(seen) = walk.next() {
        match seen {
            Seen::Scope(node) if node.id == id => return Err(Some(node)),
            Seen::Scope(node) => above.push(Around {
                id: node.id,
                name: node.site.name,
                kind: node.kind.name(),
                place: tree::place(node.site),
            }),
            Seen::Task(record) if record.id() == id => {
                let row = Row::of(&walk, &record, tree::state(&record));
                return Ok(Found { record, row, above });
            }
            Seen::Task(record) => above.push(Around {
                id: record.id(),
                name: record.site.name,
                kind: "task",
                place: tree::place(&record.site),
            }),
            Seen::End => drop(above.pop()),
            Seen::Body(_) => {}
        }
    }
    Err(None)
}

/// What the task waits for, and what others wait for and the task holds.
fn resources(task: u64, on: Option<u64>) -> (Option<ResourceInfo>, Vec<ResourceInfo>) {
    let (mut waited_for, mut held) = (None, Vec::new());
    resource::scan(|facts| {
        if on == Some(facts.id) {
            waited_for = Some(facts.into());
        } else {
            let holds = facts.held.iter().any(|held| held.who.task == task)
                || facts.rights.iter().any(|right| right.place == task);
            if holds && held.len() < HELD {
                held.push(facts.into());
            }
        }
    });
    (waited_for, held)
}

fn write_explanation(text: &mut String, explanation: &Explained) {
    let (title, lines) = match explanation {
        Explained::Not(why) => ("Whether it can go on:", vec![why.clone()]),
        Explained::As(Explanation::Dead { deadlock }) => {
            ("It can never go on:", deadlock.to_string().lines().map(str::to_owned).collect())
        }
        Explained::As(Explanation::Alive { because, .. }) => {
            ("It can go on, as far as anybody knows:", because.clone())
        }
        Explained::As(Explanation::Waiting { because, .. }) => ("It could be helped on:", because.clone()),
        Explained::As(Explanation::Gone) => ("Whether it can go on:", vec!["it has ended".to_owned()]),
    };
    let _ = writeln!(text, "\n{title}");
    for line in lines {
        wrap(text, &escape(&line), "    ");
    }
}

fn text(page: &Page<'_>) -> String {
    let Page { task, above, cancelled, waits_for, explanation, holds, queues, channels, tree, names } = page;
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = writeln!(text, "#{} {}", task.id, escape(&task.path));
    let _ = writeln!(text, "{} spawned at {}, {} ago", task.kind, task.place, short(task.age_ms));
    if let Some(generation) = task.generation {
        let _ = writeln!(text, "life {generation} of a supervised child");
    }
    let last = task.idle_ms.map_or(String::new(), |idle| format!(", last {} ago", short(idle)));
    let _ = writeln!(text, "{}, polled {} times{last}", task.state, task.polls);
    if let Some(bytes) = task.future_bytes {
        let _ = writeln!(text, "its future takes {} bytes", thousands(bytes as u64));
    }
    if let Some(times) = &task.poll_times {
        let (busy, longest) = (short(times.busy_us / 1_000), short(times.longest_us / 1_000));
        let _ = writeln!(text, "busy for {busy} in all, {longest} in one poll, {} ago", short(times.last_ms));
    }
    if let Some(why) = cancelled {
        wrap(&mut text, &escape(why), "");
    }
    text.push_str("\nIn, from the top down:\n");
    for Around { id, name, kind, place } in *above {
        let _ = writeln!(text, "    [{kind}] {} #{id}  {place}", escape(name));
    }
    match (waits_for.resource, waits_for.task) {
        (Some(resource), _) => {
            text.push_str("\nWaits for:\n");
            write_resource(&mut text, resource, names);
        }
        (None, Some(other)) => {
            let _ =
                writeln!(text, "\nWaits for:\n    #{other} {}", names.get(&other).map_or("", |name| name));
        }
        (None, None) => {}
    }
    write_explanation(&mut text, explanation);
    if !holds.is_empty() {
        text.push_str("\nHas in its hands what others wait for:\n");
        holds.iter().for_each(|held| write_resource(&mut text, held, names));
    }
    for queue in *queues {
        let (name, depth, max) = (escape(queue.name), queue.depth_items, queue.max_items);
        let lost = counted(&[(queue.dropped, "dropped"), (queue.refused, "refused")]);
        let comma = if lost.is_empty() { "" } else { ", " };
        let _ = writeln!(text, "\nMade queue `{name}`: {depth} of {max} items{comma}{lost}");
    }
    for channel in *channels {
        let _ = writeln!(text, "\nMade {} `{}` #{}", channel.kind, escape(channel.name), channel.id);
    }
    if !tree.roots.is_empty() {
        let _ = write!(text, "\nBelow it: {}", live::text(tree));
    }
    text
}
