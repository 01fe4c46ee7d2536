//! Walking down the tree a piece at a time: everybody who lives, from the top down, without recursion and without a list of them.
//!
//! # Invariants
//!
//! 1. It keeps one piece of records per level, however many tasks there are.
//! 2. No lock is held between two steps, so a walk may take as long as its reader.
//! 3. A task that lives throughout is seen once (`children`). One that comes or goes meanwhile may or may not be.

use std::sync::Arc;

use serde::Serialize;

use crate::children::Pieces;
use crate::node::Node;
use crate::record::{Kind, Record};
use crate::root::{self, RootState};

/// Deeper paths are shown by their last names: a program may nest without end.
const LONGEST_PATH: usize = 64;

pub(super) struct Walk {
    tops: std::vec::IntoIter<Arc<Node>>,
    frames: Vec<Frame>,
    /// The tasks around the place where the walk stands.
    above: Vec<(u64, &'static str)>,
    here: Option<usize>,
    /// Whether the walk stands below the root of the runtime that asks.
    is_here: bool,
}

enum Frame {
    Node { pieces: Pieces, piece: std::vec::IntoIter<Arc<Record>> },
    Record { is_task: bool, nested: std::vec::IntoIter<Arc<Node>> },
}

/// Where a walk has come to.
pub(super) enum Seen {
    /// A scope, a group or the like. What follows until its end is below it.
    Scope(Arc<Node>),
    /// The strand of its body.
    Body(Arc<Record>),
    /// A task.
    Task(Arc<Record>),
    /// All below the last scope or task that has not ended was seen.
    End,
}

impl Walk {
    /// Begins at the root of the current runtime, or at everything there is in the process: as [`tree`](crate::tree()).
    pub(super) fn new() -> Self {
        match root::of_runtime() {
            Some(record) => Self::from(vec![Arc::clone(&record.node)]),
            None => Self::from(root::all()),
        }
    }

    pub(super) fn from(tops: Vec<Arc<Node>>) -> Self {
        let here = root::of_runtime().and_then(|record| record.node.root.as_ref().map(address));
        Self { tops: tops.into_iter(), frames: Vec::new(), above: Vec::new(), here, is_here: false }
    }

    /// How many scopes and tasks, bodies included, the walk stands in.
    pub(super) fn depth(&self) -> usize {
        self.frames.len()
    }

    /// The path of a task that was just seen: names from the root down to it, joined by `/`.
    pub(super) fn path(&self) -> String {
        path_of(&self.above)
    }

    /// The task around the one that was just seen.
    pub(super) fn above_task(&self) -> Option<u64> {
        self.above.len().checked_sub(2).map(|at| self.above[at].0)
    }

    /// The innermost task around the place where the walk stands.
    pub(super) fn task(&self) -> Option<u64> {
        self.above.last().map(|(id, _)| *id)
    }

    fn enter(&mut self, node: Arc<Node>) -> Seen {
        let pieces = Pieces::of(Arc::clone(&node));
        self.frames.push(Frame::Node { pieces, piece: Vec::new().into_iter() });
        Seen::Scope(node)
    }

    fn leave(&mut self) -> Option<Frame> {
        let left = self.frames.pop();
        if let Some(Frame::Record { is_task: true, .. }) = left {
            self.above.pop();
        }
        left
    }
}

pub(super) fn path_of(names: &[(u64, &'static str)]) -> String {
    let cut = names.len().saturating_sub(LONGEST_PATH);
    let shown: Vec<&str> = names[cut..].iter().map(|(_, name)| *name).collect();
    let before = if cut > 0 { "…/" } else { "" };
    format!("{before}{}", shown.join("/"))
}

fn address(root: &Arc<RootState>) -> usize {
    Arc::as_ptr(root).addr()
}

impl Iterator for Walk {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        loop {
            match self.frames.last_mut() {
                None => {
                    let top = self.tops.next()?;
                    self.is_here = top.root.as_ref().map(address) == self.here;
                    return Some(self.enter(top));
                }
                Some(Frame::Node { pieces, piece }) => match piece.next() {
                    Some(record) => {
                        let is_task = record.kind != Kind::Strand;
                        self.frames.push(Frame::Record { is_task, nested: record.nested().into_iter() });
                        if !is_task {
                            return Some(Seen::Body(record));
                        }
                        self.above.push((record.id(), record.site.name));
                        return Some(Seen::Task(record));
                    }
                    None => match pieces.next() {
                        Some(next) => *piece = next.into_iter(),
                        None => {
                            self.leave();
                            return Some(Seen::End);
                        }
                    },
                },
                Some(Frame::Record { nested, .. }) => match nested.next() {
                    Some(node) => return Some(self.enter(node)),
                    None => {
                        if let Some(Frame::Record { is_task: true, .. }) = self.leave() {
                            return Some(Seen::End);
                        }
                    }
                },
            }
        }
    }
}

/// How many there are, as [`Tree`](crate::Tree) counts them.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Totals {
    /// Tasks with a future, ours.
    pub(super) total: usize,
    /// Closures on the blocking lane, ours.
    pub(super) blocking: usize,
    pub(super) runtime_tasks: Option<usize>,
    pub(super) foreign_tasks: Option<usize>,
    #[serde(skip)]
    here: usize,
}

impl Totals {
    /// Counts a task that `walk` has just seen.
    pub(super) fn count(&mut self, walk: &Walk, task: &Record) {
        match (task.kind, task.has_ended()) {
            (_, true) => {}
            (Kind::Blocking, false) => self.blocking += 1,
            (_, false) => {
                self.total += 1;
                self.here += usize::from(walk.is_here); // other roots of this process have runtimes of their own
            }
        }
    }

    /// Asks the runtime, when all are counted.
    pub(super) fn finish(&mut self) {
        let runtime = tokio::runtime::Handle::try_current().ok();
        self.runtime_tasks = runtime.map(|runtime| runtime.metrics().num_alive_tasks());
        self.foreign_tasks = self.runtime_tasks.map(|all| all.saturating_sub(self.here));
    }
}
