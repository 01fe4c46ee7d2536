//! A walk over everything that lives: which tasks are parked and cannot be woken by anybody unknown.
//!
//! # Invariants
//!
//! 1. Every task that lives from the beginning of a walk to its end is met: no depth is cut off, and every root is walked.
//! 2. The words of a task are read before anything is asked of what it waits for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::world::TaskId;
use crate::node::Node;
use crate::record::{Kind, Record, Signals};
use crate::root::{self, RootState};
use crate::wait::{Op, Wait};

/// Which tasks may be judged. All are met.
#[derive(Clone, Copy)]
pub(super) enum Whose<'a> {
    /// Those of every program but tests.
    Programs,
    /// Those below one root.
    Root(&'a Arc<Node>),
    /// All there are.
    Everybodys,
    /// Those below one root, and its own body, at a moment at which nothing in the process can move.
    AtRest(&'a Arc<Node>),
    /// Those that were suspected before.
    Suspects(&'a HashMap<TaskId, Signals>),
}

/// A task that is parked, and woken by waits of ours alone.
pub(super) struct Parked {
    pub(super) id: TaskId,
    /// The scope that owns it.
    pub(super) scope: u64,
    pub(super) signals: Signals,
    /// Whether something in it goes on by itself: a time-out of its own.
    pub(super) has_timer: bool,
    /// What it says of its waits that stand in no line: joins, and scopes that close.
    pub(super) joins: Vec<(Wait, u32)>,
    /// The scopes opened in it.
    pub(super) scopes: Vec<u64>,
    /// For a report; only of suspects.
    pub(super) record: Option<Arc<Record>>,
}

/// A scope, and who lives in it.
pub(super) struct Scope {
    /// In which task it was opened; `None` at the top.
    pub(super) owner: Option<TaskId>,
    /// Whether the first failure in it cancels the others.
    pub(super) is_fail_fast: bool,
    pub(super) members: Vec<TaskId>,
    /// The members it stays open for: all but daemons.
    pub(super) lasting: usize,
    /// For a cancel; only where there are suspects.
    pub(super) node: Option<Arc<Node>>,
    pub(super) root: Option<Arc<RootState>>,
}

/// What a walk has met.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) parked: Vec<Parked>,
    pub(super) index: HashMap<TaskId, usize>,
    pub(super) scopes: HashMap<u64, Scope>,
    /// Of those asked for: who was not met.
    pub(super) unmet: HashSet<TaskId>,
    /// All tasks that live.
    pub(super) living: usize,
}

/// Something to go through: a node, the task it was opened in, and whether what is in it is judged.
struct Due {
    node: Arc<Node>,
    inside: Option<usize>,
    is_judged: bool,
}

/// Walks everything. `asked` are ids of which it is to be known whether they are met.
pub(super) fn walk(whose: Whose<'_>, asked: HashSet<TaskId>) -> Walked {
    let mut walked = Walked { unmet: asked, ..Walked::default() };
    let mut due: Vec<Due> = Vec::new();
    for node in root::all() {
        let is_judged = match whose {
            Whose::Programs => node.root.as_ref().is_none_or(|root| root.trial().is_none()),
            Whose::Root(one) | Whose::AtRest(one) => Arc::ptr_eq(&node, one),
            Whose::Everybodys | Whose::Suspects(_) => true,
        };
        due.push(Due { node, inside: None, is_judged });
    }
    while let Some(next) = due.pop() {
        walked.node(&next, whose, &mut due);
    }
    walked
}

fn is_between_polls(record: &Record) -> bool {
    record.polls() > 0 && !record.is_running() && !record.has_ended()
}

impl Walked {
    fn node(&mut self, next: &Due, whose: Whose<'_>, due: &mut Vec<Due>) {
        let Due { node, inside, is_judged } = next;
        let is_at_rest = *is_judged && matches!(whose, Whose::AtRest(_));
        self.unmet.remove(&node.id); // a foreign task goes by the name of its top scope
        let mut members = Vec::new();
        let mut lasting = 0;
        node.each_child(|record| {
            let inside = match record.kind {
                // What runs in a root itself is no task, and where nothing moves it is told of like one.
                Kind::Strand if is_at_rest && inside.is_none() && is_between_polls(record) => {
                    Some(self.list(record, node.id, record.signals(), Some(record)))
                }
                Kind::Strand => {
                    if let Some(task) = inside.filter(|_| !record.has_ended()) {
                        self.parked[task].note_join(record);
                    }
                    *inside
                }
                _ if record.has_ended() => None, // what was adopted from it lives
                Kind::Task | Kind::Daemon | Kind::Blocking => {
                    let id = record.id();
                    self.living += 1;
                    self.unmet.remove(&id);
                    // Daemons at the end: who closes a scope waits for the others.
                    if record.kind == Kind::Daemon {
                        members.push(id);
                    } else {
                        members.insert(lasting, id);
                        lasting += 1;
                    }
                    if *is_judged { self.task(record, whose) } else { None }
                }
            };
            for nested in record.nested() {
                if let Some(task) = inside {
                    self.parked[task].opened(&nested, node);
                }
                due.push(Due { node: nested, inside, is_judged: *is_judged });
            }
        });
        if *is_judged {
            let keeps_more = matches!(whose, Whose::Suspects(_) | Whose::AtRest(_));
            let scope = Scope {
                owner: node.parent().map(|parent| parent.task_id()),
                is_fail_fast: node.is_fail_fast(),
                members,
                lasting,
                node: keeps_more.then(|| Arc::clone(node)),
                root: node.root.clone().filter(|_| keeps_more),
            };
            self.scopes.insert(node.id, scope);
        }
    }

    /// Lists a task if it might be dead.
    fn task(&mut self, record: &Arc<Record>, whose: Whose<'_>) -> Option<usize> {
        let signals = record.signals();
        if matches!(whose, Whose::AtRest(_)) {
            return Some(self.list(record, record.id(), signals, Some(record)));
        }
        if record.kind == Kind::Blocking || !signals.is_quiescent() || signals.foreign || signals.leaves == 0
        {
            return None;
        }
        // Who is cancelled is about to end, and what it waits for meanwhile is its own affair.
        if record.is_cancelled() {
            return None;
        }
        let id = record.id();
        let mut kept = None;
        if let Whose::Suspects(before) = whose {
            if before.get(&id) != Some(&signals) {
                return None;
            }
            kept = Some(record);
        }
        Some(self.list(record, id, signals, kept))
    }

    fn list(
        &mut self,
        record: &Arc<Record>,
        id: TaskId,
        signals: Signals,
        kept: Option<&Arc<Record>>,
    ) -> usize {
        let parked = Parked {
            id,
            scope: record.node.id,
            signals,
            has_timer: false,
            joins: Vec::new(),
            scopes: Vec::new(),
            record: kept.cloned(),
        };
        self.index.insert(id, self.parked.len());
        self.parked.push(parked);
        let at = self.parked.len() - 1;
        self.parked[at].note_join(record);
        at
    }
}

impl Parked {
    /// Whether it waits for something that is not in our books, as far as it shows.
    pub(super) fn waits_elsewhere(&self) -> bool {
        // What runs in a root is woken by its runtime, of which that is not known.
        self.signals.foreign && !self.is_body() || self.signals.leaves == 0 && self.joins.is_empty()
    }

    /// Whether it is what runs in a root itself.
    pub(super) fn is_body(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.kind == Kind::Strand)
    }

    fn note_join(&mut self, record: &Record) {
        if let Some((wait, since)) = record.wait() {
            if matches!(wait.op, Op::Join | Op::Close) {
                self.joins.push((wait, since));
            }
        }
    }

    /// A context opened in the task: its own deadline is a timer, after which the task goes on.
    fn opened(&mut self, nested: &Node, around: &Node) {
        let deadline = nested.deadline();
        self.has_timer |= deadline.is_some() && (nested.kind.is_shield() || deadline != around.deadline());
        if nested.is_fail_fast() {
            self.scopes.push(nested.id);
        }
    }
}
