//! What is done about a deadlock, and what is left afterwards.

use std::sync::{Arc, Weak};

use super::report::Deadlock;
use super::scan::Case;
use super::tell;
use crate::cause::Cause;
use crate::node::Node;
use crate::record::{CANCEL, Kind};
use crate::resource;
use crate::root::RootState;

/// What happens when a deadlock is proved; see [`Runner::on_deadlock`](crate::Runner::on_deadlock).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadlockPolicy {
    /// It is told as an [alert](crate::AlertKind::Deadlock), and listed in [`deadlocks`](crate::deadlocks()).
    #[default]
    Report,
    /// The same; and the smallest scope around all that cause it is cancelled, so that they give back what they hold. When
    /// everything in it is gone, the alert is cleared, and says so.
    Cancel,
}

/// Whether the program of this root wants its deadlocks cancelled.
pub(super) fn cancels(root: Option<&Arc<RootState>>) -> bool {
    root.is_some_and(|root| root.deadlock_policy() == DeadlockPolicy::Cancel)
}

/// A scope that was cancelled because of a deadlock.
pub(super) struct Cancelled {
    pub(super) deadlock: u64,
    name: &'static str,
    node: Weak<Node>,
    tasks: Vec<u64>,
}

/// Cancels the smallest scope around all that cause a deadlock.
pub(super) fn cancel(case: &Case, deadlock: &Deadlock) -> Option<Cancelled> {
    let scope = tell::smallest_scope(case, deadlock)?;
    let node = case.walked.scopes.get(&scope)?.node.as_ref()?;
    node.cancel(CANCEL, &Cause::Requested("a deadlock"));
    let tasks = deadlock.tasks.iter().map(|task| task.id).collect();
    Some(Cancelled { deadlock: deadlock.id, name: node.site.name, node: Arc::downgrade(node), tasks })
}

impl Cancelled {
    /// Whether everything in the scope has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.node.upgrade().is_none_or(|node| node.is_gone())
    }

    /// What is left of it: tasks, permits in their hands, and waits.
    pub(super) fn epilogue(&self) -> String {
        let mut tasks = 0;
        if let Some(node) = self.node.upgrade() {
            node.each_child(|record| {
                tasks += usize::from(record.kind != Kind::Strand && !record.has_ended())
            });
        }
        let (mut permits, mut waits) = (0, 0);
        resource::scan(|facts| {
            let held = facts.held.iter().filter(|held| self.tasks.contains(&held.who.task));
            permits += held.map(|held| held.amount).sum::<usize>();
            waits += facts.waiters.iter().filter(|waiter| self.tasks.contains(&waiter.who.task)).count();
        });
        format!(
            "scope `{}` was cancelled and is gone: {tasks} tasks, {permits} permits and {waits} waits of it are left",
            self.name
        )
    }
}
