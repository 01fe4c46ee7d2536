//! Proofs on request, for tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::gather::{Memory, Unfetched};
use super::report::Deadlock;
use super::scan;
use super::tell;
use super::thread::Names;
use super::walk::Whose;
use crate::node::Node;
use crate::record;
use crate::root;
use crate::sync::LockExt;

/// Proves the deadlocks of the current test, or of the program of the current runtime, at once: the two looks that a proof takes
/// are made by the caller, one after the other.
///
/// Whoever asks runs, and so is not found itself. Elsewhere than in a runtime with a root, everything is looked at.
///
/// A task that was granted a lock in a future it does not poll any more is woken by the first call, so that a later one can be
/// certain that it does not look: let it run in between (`tokio::task::yield_now`, twice).
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Bound, Cancelled, Overflow, Scope, scope};
///
/// scope("shop", async |s: &Scope<Cancelled>| {
///     let (orders, inbox) = s.queue::<u32>("orders", Bound::items(8), Overflow::Block);
///     let clerk = s.spawn_with("clerk", (orders, inbox), async |_cx, (_orders, inbox)| inbox.recv().await);
///     tokio::task::yield_now().await;
///     let found = bowline::testing::deadlocks_now();
///     assert_eq!(found[0].tasks[0].name, "clerk"); // it waits for orders, and holds the only sender
///     clerk.cancel("seen");
///     Ok(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use]
pub fn deadlocks_now() -> Vec<Deadlock> {
    /// What the calls before have woken, by root.
    static WOKEN: Mutex<Option<HashMap<u64, HashMap<Unfetched, u32>>>> = Mutex::new(None);
    let top = top();
    let (whose, id) = top.as_ref().map_or((Whose::Everybodys, 0), |node| (Whose::Root(node), node.id));
    let woken = WOKEN.lock_unpoisoned().get_or_insert_default().remove(&id).unwrap_or_default();
    let mut memory = Memory { woken, ..Memory::default() };
    scan::scan(whose, &mut memory);
    let scanned = scan::scan(whose, &mut memory);
    if !memory.woken.is_empty() {
        WOKEN.lock_unpoisoned().get_or_insert_default().insert(id, memory.woken);
    }
    let found = scanned.case.as_ref().map_or_else(Vec::new, tell::tell);
    Names::default().name(found).into_iter().map(|(deadlock, _)| deadlock).collect()
}

/// What stands still below a root, at a moment at which nothing in the process can move: everything, for ever.
pub(crate) fn at_rest(top: &Arc<Node>) -> Vec<Deadlock> {
    let found = tell::tell(&scan::at_rest(top));
    Names::default().name(found).into_iter().map(|(deadlock, _)| deadlock).collect()
}

/// The root around whoever asks.
fn top() -> Option<Arc<Node>> {
    let mut at = record::current().or_else(root::of_runtime)?;
    while let Some(parent) = at.node.parent() {
        at = Arc::clone(parent);
    }
    Some(Arc::clone(&at.node))
}
