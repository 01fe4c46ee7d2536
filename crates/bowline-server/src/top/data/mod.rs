//! What the pages of `/debug/bowline` say, as plain values.
//!
//! The process that is looked at may be older or newer than this program, or written in another language. So nothing
//! here can fail: a field that is missing or of another kind reads as empty, and one that nobody here knows is left to
//! [`outline`], which shows any JSON as lines.
//!
//! # Invariants
//!
//! 1. Text from outside holds no control characters, so that a task's name cannot move the cursor, and is bounded.

mod fields;
mod findings;
mod queue;
pub(super) mod tree;
mod waits;

pub(super) use fields::{Fields, entries, outline};
pub(super) use findings::{Alert, Deadlock};
pub(super) use queue::Queue;
pub(super) use tree::{Below, More, Scope, State, Task, Totals, Tree};
pub(super) use waits::Resource;

use std::collections::HashMap;

use serde_json::Value;

/// One look at the process. A page that the process does not have is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) totals: Totals,
    pub(super) tree: Option<Tree>,
    pub(super) queues: Option<Vec<Queue>>,
    pub(super) waits: Option<Vec<Resource>>,
    pub(super) alerts: Option<Vec<Alert>>,
    pub(super) deadlocks: Option<Vec<Deadlock>>,
    /// The page of one task, for whoever looks at it.
    pub(super) opened: Option<(u64, Value)>,
    /// Paths of tasks that occur somewhere, by their numbers.
    pub(super) names: HashMap<u64, String>,
}

impl Picture {
    /// Takes the names that a page has for the tasks that occur on it.
    pub(super) fn learn_names(&mut self, page: &Value) {
        let names = page.get("names").and_then(Value::as_object).into_iter().flatten();
        self.names.extend(names.filter_map(|(id, path)| Some((id.parse().ok()?, fields::plain(path)))));
    }

    /// The queues of the process: from their page, or those in the tree if there is no such page.
    pub(super) fn queues(&self) -> Vec<Queue> {
        match (&self.queues, &self.tree) {
            (Some(queues), _) => queues.clone(),
            (None, Some(tree)) => tree.queues(),
            (None, None) => Vec::new(),
        }
    }
}
