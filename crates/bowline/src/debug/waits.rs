//! The pages of waits: who waits for which lock, queue or channel, and who holds it.
//!
//! A worker that waits for its next job is no trouble; a task that waits for what somebody holds may be. So those come first in
//! full, and those that wait for something to come are summed up by name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::Body;
use super::best::Best;
use super::query::{Format, Query};
use super::tasks::LOOKED_AT;
use super::text::{Set, Table, escape, short, thousands, wrap};
use super::walk::{Seen, Walk};
use crate::resource::{self, Facts, ResourceInfo, ResourceKind, ResourceState};
use crate::tree;

/// Resources for people, unless they ask for more.
const ROWS: usize = 20;

/// How many waiters, holders and ends of one resource people see.
const EACH: usize = 3;

/// Operations that wait for something to come, which nobody holds.
const IDLE: [&str; 4] = ["recv", "changed", "notified", "closed"];

pub(super) fn waits(query: Query) -> Body {
    page("waits", query, |_| true)
}

pub(super) fn locks(query: Query) -> Body {
    let is_lock = |kind| !matches!(kind, ResourceKind::Channel | ResourceKind::Pool | ResourceKind::Leases);
    page("locks", query, is_lock)
}

fn page(title: &'static str, query: Query, takes: fn(ResourceKind) -> bool) -> Body {
    let mut found = Found { groups: HashMap::new(), worst: Best::of(query.rows(ROWS)), waiters: 0 };
    resource::scan(|facts| {
        if takes(facts.kind) && query.takes_name(facts.site.name) {
            found.see(facts);
        }
    });
    let waiters = found.waiters;
    let mut groups: Vec<Group> = found.groups.into_values().collect();
    groups.sort_by_key(|group| Reverse((!group.is_idle, group.oldest_ms)));
    let (worst, more) = found.worst.finish();
    let tasks = worst.iter().flat_map(tasks_of).collect();
    let mut finder = Some(Finder::of(tasks));
    Body::from_pieces(std::iter::from_fn(move || {
        let Some(names) = finder.as_mut()?.step() else { return Some(Vec::new()) };
        finder = None;
        Some(match query.format {
            Format::Json => json(title, &groups, &worst, more, &names),
            Format::Text => {
                let mut page = query.complaint();
                let _ = match waiters {
                    0 => writeln!(page, "No task waits here."),
                    1 => writeln!(page, "1 task waits."),
                    many => writeln!(page, "{} tasks wait.", thousands(many as u64)),
                };
                text(&mut page, &groups, &worst, more, &names);
                page.into_bytes()
            }
        })
    }))
}

/// The paths of tasks by id.
pub(super) type Names = BTreeMap<u64, String>;

/// Every task that occurs in the books of a resource.
pub(super) fn tasks_of(info: &ResourceInfo) -> impl Iterator<Item = u64> {
    let waiters = info.waiters.iter().filter_map(|waiter| waiter.task);
    let holders = info.holders.iter().filter_map(|holder| holder.task);
    waiters.chain(holders).chain(info.ends.iter().filter_map(|end| end.task))
}

struct Found {
    groups: HashMap<(usize, &'static str), Group>,
    /// Those that wait for what somebody holds before those that wait for something to come, then the oldest first.
    worst: Best<Reverse<(bool, u64)>, ResourceInfo>,
    waiters: usize,
}

/// Resources of one name and place.
#[derive(Serialize)]
struct Group {
    kind: ResourceKind,
    name: &'static str,
    place: String,
    /// Whether everybody waits for something to come.
    is_idle: bool,
    resources: usize,
    waiters: usize,
    oldest_ms: u64,
    ops: BTreeMap<&'static str, usize>,
}

impl Found {
    fn see(&mut self, facts: Facts) {
        let ages = facts.waiters.iter().map(|waiter| resource::age(waiter.who.since));
        let oldest_ms = ages.max().unwrap_or(0);
        let is_idle = facts.waiters.iter().all(|waiter| IDLE.contains(&waiter.op));
        let by = (std::ptr::from_ref(facts.site).addr(), facts.site.name);
        let group = self.groups.entry(by).or_insert_with(|| Group {
            kind: facts.kind,
            name: facts.site.name,
            place: tree::place(facts.site),
            is_idle: true,
            resources: 0,
            waiters: 0,
            oldest_ms: 0,
            ops: BTreeMap::new(),
        });
        group.is_idle &= is_idle;
        group.resources += 1;
        group.waiters += facts.waiters.len();
        group.oldest_ms = group.oldest_ms.max(oldest_ms);
        for waiter in &facts.waiters {
            *group.ops.entry(waiter.op).or_default() += 1;
        }
        self.waiters += facts.waiters.len();
        self.worst.offer(Reverse((!is_idle, oldest_ms)), || facts.into());
    }
}

fn json(
    title: &'static str,
    groups: &[Group],
    worst: &[ResourceInfo],
    more: usize,
    names: &Names,
) -> Vec<u8> {
    super::json(&serde_json::json!({ title: worst, "more": more, "groups": groups, "names": names }))
}

fn is_idle(info: &ResourceInfo) -> bool {
    info.waiters.iter().all(|waiter| IDLE.contains(&waiter.op))
}

fn text(page: &mut String, groups: &[Group], worst: &[ResourceInfo], more: usize, names: &Names) {
    let held: Vec<&ResourceInfo> = worst.iter().filter(|info| !is_idle(info)).collect();
    if groups.is_empty() {
        return;
    }
    if held.is_empty() {
        page.push_str("\nNobody waits for what somebody else holds.\n");
    } else {
        page.push_str("\nFor what somebody holds, or has to do, the longest wait first:\n");
    }
    for info in &held {
        page.push('\n');
        write_resource(page, info, names);
    }
    if more > 0 && held.len() == worst.len() {
        let _ = writeln!(page, "\n… {} more; ?limit=, ?name=", thousands(more as u64));
    }
    let mut table = Table::new(&[
        ("TASKS", Set::Right),
        ("OLDEST", Set::Right),
        ("WAIT TO", Set::Left),
        ("KIND", Set::Left),
        ("NAME", Set::Name),
        ("MADE AT", Set::Path),
    ]);
    for group in groups.iter().filter(|group| group.is_idle).take(ROWS) {
        table.row([
            thousands(group.waiters as u64),
            short(group.oldest_ms),
            group.ops.keys().copied().collect::<Vec<_>>().join(", "),
            snake(&group.kind),
            match group.resources {
                1 => group.name.to_owned(),
                many => format!("{} (of {})", group.name, thousands(many as u64)),
            },
            group.place.clone(),
        ]);
    }
    if !table.is_empty() {
        page.push_str("\nFor something to come, which is no trouble by itself:\n\n");
        table.write(page);
    }
}

/// A resource, who waits for it and who holds it.
pub(super) fn write_resource(page: &mut String, info: &ResourceInfo, names: &Names) {
    let named = |task: Option<u64>| match task {
        None => "somebody unknown".to_owned(),
        Some(task) => match names.get(&task) {
            Some(path) => format!("#{task} {}", escape(path)),
            None => format!("#{task}"),
        },
    };
    let ResourceInfo { id, kind, name, place, state, .. } = info;
    let head = format!("{} `{}` #{id}: {}; made at {place}", snake(kind), escape(name), words(*kind, state));
    wrap(page, &head, "");
    for waiter in info.waiters.iter().take(EACH) {
        let granted = if waiter.granted { ", granted and not fetched" } else { "" };
        let line = format!(
            "{} waits to {} for {}{granted}, at {}",
            named(waiter.task),
            waiter.op,
            short(waiter.for_ms),
            waiter.place
        );
        wrap(page, &line, "    ");
    }
    more(page, info.waiters.len(), "wait");
    for holder in info.holders.iter().take(EACH) {
        let verb = if holder.certain { "held by" } else { "taken by" };
        let amount = if holder.amount > 1 { format!(" {} of", holder.amount) } else { String::new() };
        let line = format!(
            "{amount} {verb} {} for {}, at {}",
            named(holder.task),
            short(holder.for_ms),
            holder.place
        );
        wrap(page, line.trim_start(), "    ");
    }
    more(page, info.holders.len(), "hold it");
    for end in info.ends.iter().take(EACH) {
        let many = if end.ends > 1 { format!(" ({})", end.ends) } else { String::new() };
        wrap(page, &format!("{}{many}: {}", end.role, named(end.task)), "    ");
    }
    more(page, info.ends.len(), "have an end of it");
}

fn more(page: &mut String, all: usize, what: &str) {
    if all > EACH {
        let _ = writeln!(page, "    … {} more {what}", thousands((all - EACH) as u64));
    }
}

fn words(kind: ResourceKind, state: &ResourceState) -> String {
    match state {
        ResourceState::Fired if kind == ResourceKind::Latch => "open".to_owned(),
        ResourceState::Waiting if kind == ResourceKind::Latch => "shut".to_owned(),
        ResourceState::Permits { free, total } => format!("{free} of {total} free"),
        ResourceState::Fired => "something is there".to_owned(),
        ResourceState::Waiting => "nothing is there".to_owned(),
        ResourceState::Arrived { arrived, seats } => format!("{arrived} of {seats} have arrived"),
        ResourceState::Closed { reason } => format!("closed: {reason}"),
    }
}

/// The name of a variant, as JSON has it.
pub(super) fn snake(variant: &impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "?".to_owned(),
    }
}

/// Finds the paths of some tasks.
pub(super) struct Finder {
    walk: Walk,
    wanted: HashSet<u64>,
    names: Names,
}

impl Finder {
    pub(super) fn of(wanted: HashSet<u64>) -> Self {
        Self { walk: Walk::new(), wanted, names: Names::new() }
    }

    /// Goes on for a while; the paths, when all are found or all have been looked at.
    pub(super) fn step(&mut self) -> Option<Names> {
        for _ in 0..LOOKED_AT {
            let seen = if self.wanted.is_empty() { None } else { self.walk.next() };
            match seen {
                None => return Some(std::mem::take(&mut self.names)),
                Some(Seen::Task(task)) if self.wanted.remove(&task.id()) => {
                    self.names.insert(task.id(), self.walk.path());
                }
                // Foreign tasks are known by the top scope in them.
                Some(Seen::Scope(node)) if self.wanted.remove(&node.id) => {
                    self.names.insert(node.id, format!("[{}] {}", node.kind.name(), node.site.name));
                }
                Some(_) => {}
            }
        }
        None
    }
}
