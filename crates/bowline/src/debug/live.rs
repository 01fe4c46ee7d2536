//! The page of the tree, cut to some tasks of each name in each scope.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::Body;
use super::query::{Format, Limit, Query};
use super::tasks::LOOKED_AT;
use super::text::escape;
use super::walk::{Seen, Totals, Walk};
use crate::record::Record;
use crate::tree::{self, ScopeInfo, TaskInfo, Tree};

/// How many tasks of one name in one scope are shown, unless somebody asks for more.
pub(super) const EACH: usize = 10;

/// Scopes within tasks within scopes deeper than this are counted and not shown.
const DEEPEST: usize = 128;

pub(super) fn page(query: Query) -> Body {
    let each = match query.each {
        None => EACH,
        Some(Limit::AtMost(each)) => each,
        Some(Limit::All) => usize::MAX,
    };
    let mut cut = Cut::new(Walk::new(), each);
    cut.below = query.below;
    let mut cut = Some(cut);
    Body::from_pieces(std::iter::from_fn(move || {
        if !cut.as_mut()?.step() {
            return Some(Vec::new());
        }
        let tree = cut.take()?.finish();
        Some(match query.format {
            Format::Json => super::json(&tree),
            Format::Text => format!("{}{}", query.complaint(), text(&tree)).into_bytes(),
        })
    }))
}

/// The tree as text, in which names are data.
pub(super) fn text(tree: &Tree) -> String {
    tree.to_string().lines().fold(String::new(), |mut page, line| {
        // Writing into a String does not fail.
        let _ = writeln!(page, "{}", escape(line));
        page
    })
}

/// A tree in the making: all are counted, and so many of one name in one scope are shown.
pub(super) struct Cut {
    walk: Walk,
    each: usize,
    /// Only what is below this.
    below: Option<u64>,
    /// What the walk stands in, of that which is shown.
    open: Vec<Open>,
    /// Where the walk entered what is not shown.
    hidden_at: Option<usize>,
    /// Where it entered what was asked for.
    inside_at: Option<usize>,
    totals: Totals,
    roots: Vec<ScopeInfo>,
}

enum Open {
    Scope { info: ScopeInfo, shown: HashMap<&'static str, usize> },
    Task { info: TaskInfo, is_shown: bool },
}

impl Cut {
    pub(super) fn new(walk: Walk, each: usize) -> Self {
        Self {
            walk,
            each,
            below: None,
            open: Vec::new(),
            hidden_at: None,
            inside_at: None,
            totals: Totals::default(),
            roots: Vec::new(),
        }
    }

    /// Goes on for a while; `true` at the end.
    pub(super) fn step(&mut self) -> bool {
        for _ in 0..LOOKED_AT {
            let Some(seen) = self.walk.next() else { return true };
            let depth = self.walk.depth();
            match seen {
                Seen::Scope(node) => {
                    let asked = self.enters(depth, node.id);
                    if asked && self.shows(depth, node.site.name) {
                        let (info, shown) = (tree::shallow_scope(&node), HashMap::new());
                        self.open.push(Open::Scope { info, shown });
                    }
                }
                Seen::Body(record) => self.list_made_in(&record),
                Seen::Task(record) => {
                    let was_inside = self.below.is_none() || self.inside_at.is_some();
                    let asked = self.enters(depth, record.id());
                    if was_inside {
                        self.totals.count(&self.walk, &record);
                    }
                    if asked && self.shows(depth, record.site.name) {
                        let info = tree::shallow_task(&record);
                        self.open.push(Open::Task { info, is_shown: was_inside });
                        self.list_made_in(&record);
                    }
                }
                Seen::End => self.leave(depth + 1),
            }
        }
        false
    }

    /// Whether the walk is now inside of what was asked for.
    fn enters(&mut self, depth: usize, id: u64) -> bool {
        if self.inside_at.is_none() && self.below == Some(id) {
            self.inside_at = Some(depth);
        }
        self.below.is_none() || self.inside_at.is_some()
    }

    /// Whether what the walk has just entered is shown; if not, nothing below it is.
    fn shows(&mut self, depth: usize, name: &'static str) -> bool {
        if self.hidden_at.is_some() {
            return false;
        }
        let is_deep = self.open.len() >= DEEPEST;
        let each = self.each;
        let hidden = match self.open.last_mut() {
            Some(Open::Scope { info, shown }) => {
                let count = shown.entry(name).or_default();
                *count += 1;
                let hidden = is_deep || *count > each;
                if hidden {
                    *info.more.entry(name).or_default() += 1;
                }
                hidden
            }
            _ => is_deep,
        };
        if hidden {
            self.hidden_at = Some(depth);
        }
        !hidden
    }

    fn list_made_in(&mut self, record: &Record) {
        if self.hidden_at.is_some() {
            return;
        }
        let (queues, channels) = match self.open.last_mut() {
            None => return,
            Some(Open::Scope { info, .. }) => (&mut info.queues, &mut info.channels),
            Some(Open::Task { info, .. }) => (&mut info.queues, &mut info.channels),
        };
        let each = self.each;
        queues.extend(record.queues().iter().take(each).map(|queue| queue.stats()));
        channels.extend(record.channels().iter().take(each).map(|channel| channel.stats()));
    }

    /// The walk has left what it entered at this depth.
    fn leave(&mut self, depth: usize) {
        if self.hidden_at.is_some() {
            if self.hidden_at == Some(depth) {
                self.hidden_at = None;
            }
            return;
        }
        if self.below.is_some() && self.inside_at.is_none() {
            return;
        }
        if self.inside_at == Some(depth) {
            self.inside_at = None;
        }
        match (self.open.pop(), self.open.last_mut()) {
            (None, _) => {}
            (Some(Open::Scope { info, .. }), None) => self.roots.push(info),
            (Some(Open::Scope { info, .. }), Some(Open::Scope { info: around, .. })) => {
                around.scopes.push(info)
            }
            (Some(Open::Scope { info, .. }), Some(Open::Task { info: around, .. })) => {
                around.scopes.push(info)
            }
            // The task that was asked about: what is below it is the answer.
            (Some(Open::Task { info, .. }), None) => self.roots.extend(info.scopes),
            (Some(Open::Task { info, is_shown }), Some(Open::Scope { info: around, .. })) if is_shown => {
                around.tasks.push(info);
            }
            (Some(Open::Task { .. }), Some(_)) => {}
        }
    }

    pub(super) fn finish(mut self) -> Tree {
        self.totals.finish();
        let Totals { total, blocking, runtime_tasks, foreign_tasks, .. } = self.totals;
        let foreign_tasks = foreign_tasks.filter(|_| self.below.is_none());
        Tree { tasks: total, blocking, runtime_tasks, foreign_tasks, roots: self.roots }
    }
}
