//! The records listed below a node: tasks, and the strand of the body.
//!
//! # Invariants
//!
//! 1. A record nobody else holds belongs to a task that has ended, and is used again for the next one: in steady state a
//!    spawn allocates no record.
//! 2. While a walk is in progress no record changes its place. One that moved below the piece to come would be missed, and
//!    a cancel that misses a task does not wake it.
//! 3. No record is dropped under the lock: it may hold a foreign waker, whose drop is user code.

use crate::node::Node;
use crate::record::{Kind, Record};
use crate::site::Site;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Arc, LockExt, Mutex};

/// How many records of ended tasks a list keeps for reuse, about 120 bytes each.
const KEPT_FOR_REUSE: usize = 1_024;

#[derive(Default)]
pub(crate) struct Children {
    slots: Vec<Arc<Record>>,
    cursor: usize,
    /// Walks in progress (invariant 2).
    walks: u32,
    /// A sweep was put off until the last walk is over.
    sweep_is_due: bool,
    /// How many of the node's living it does not stay open for: daemons, and nodes opened inside those.
    pub(crate) daemons: u32,
    /// Whether all others are gone. From then on nobody is counted any more.
    pub(crate) is_idle: bool,
}

impl Children {
    /// Lists a record for a new task. Two old entries are looked at per insert, so under churn the dead never outnumber
    /// the living by more than a constant. The second is one to be dropped outside the lock.
    pub(crate) fn insert(
        &mut self,
        node: &Arc<Node>,
        site: Site,
        kind: Kind,
    ) -> (Arc<Record>, Option<Arc<Record>>) {
        for _ in 0..self.slots.len().min(2) {
            self.cursor = if self.cursor + 1 < self.slots.len() { self.cursor + 1 } else { 0 };
            let slot = &mut self.slots[self.cursor];
            if Arc::strong_count(slot) > 1 {
                continue;
            }
            fence(Ordering::Acquire); // pairs with the Release by which the last other reference went
            if slot.renew(site, kind) {
                return (Arc::clone(slot), None);
            }
            let record = Record::new(site, Arc::clone(node), kind);
            let stale = std::mem::replace(slot, Arc::clone(&record));
            return (record, Some(stale));
        }
        let record = Record::new(site, Arc::clone(node), kind);
        self.slots.push(Arc::clone(&record));
        (record, None)
    }

    /// Whether a sweep would pay, with about `living` tasks alive.
    fn is_mostly_dead(&self, living: usize) -> bool {
        self.slots.len() > 2 * living + KEPT_FOR_REUSE
    }

    /// Takes out the dead beyond what is kept for reuse; the caller drops them outside the lock.
    #[must_use]
    fn sweep(&mut self) -> Vec<Arc<Record>> {
        let mut kept = 0;
        let mut swept = Vec::new();
        for record in std::mem::take(&mut self.slots) {
            let dead = Arc::strong_count(&record) == 1;
            kept += usize::from(dead);
            if dead && kept > KEPT_FOR_REUSE {
                swept.push(record);
            } else {
                self.slots.push(record);
            }
        }
        self.cursor = 0;
        swept
    }

    pub(crate) fn daemons(&self) -> Vec<Arc<Record>> {
        self.slots.iter().filter(|record| record.kind == Kind::Daemon && record.is_alive()).cloned().collect()
    }

    /// Takes everything out when the node is gone.
    #[must_use]
    pub(crate) fn clear(&mut self) -> Vec<Arc<Record>> {
        std::mem::take(&mut self.slots)
    }
}

/// Sweeps the list if it is mostly dead, so that a quiet scope does not keep the memory of its worst moment.
pub(crate) fn sweep_if_mostly_dead(children: &Mutex<Children>, living: usize) {
    let _swept = {
        let mut children = children.lock_unpoisoned();
        if !children.is_mostly_dead(living) {
            return;
        }
        if children.walks == 0 {
            children.sweep()
        } else {
            children.sweep_is_due = true;
            return;
        }
    };
}

/// How many records a walk copies under the lock.
const COPIED_AT_ONCE: usize = 128;

fn is_living(record: &&Arc<Record>) -> bool {
    Arc::strong_count(record) > 1 && record.is_alive()
}

/// Visits every living record once, holding the lock only to copy a piece of the list.
///
/// Who is listed later is not visited, or a walk would chase a scope that spawns faster than it walks. A cancel needs no
/// later ones: it has raised the flag before, and they are refused.
pub(crate) fn each(children: &Mutex<Children>, mut visit: impl FnMut(&Arc<Record>)) {
    let mut from = 0;
    let mut copied = Vec::new();
    let mut walk = None;
    let mut all = None;
    loop {
        let end = {
            let mut listed = children.lock_unpoisoned();
            // Emptied meanwhile: the node is gone.
            let all = (*all.get_or_insert(listed.slots.len())).min(listed.slots.len());
            let end = all.min(from + COPIED_AT_ONCE);
            copied.extend(listed.slots[from.min(end)..end].iter().filter(is_living).cloned());
            from = end;
            if end < all && walk.is_none() {
                listed.walks += 1;
                walk = Some(Walk { children });
            }
            end == all
        };
        copied.drain(..).for_each(|record| visit(&record));
        if end {
            return;
        }
    }
}

/// The living strands among the first records: a node's body is listed when it opens, before anything else.
pub(crate) fn bodies(children: &Mutex<Children>) -> Vec<Arc<Record>> {
    let listed = children.lock_unpoisoned();
    let first = listed.slots.iter().take(COPIED_AT_ONCE).filter(|record| record.kind == Kind::Strand);
    first.filter(is_living).cloned().collect()
}

/// A walk over the list in several pieces.
struct Walk<'a> {
    children: &'a Mutex<Children>,
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        end_walk(self.children);
    }
}

fn end_walk(children: &Mutex<Children>) {
    let _swept = {
        let mut children = children.lock_unpoisoned();
        children.walks -= 1;
        if children.walks > 0 || !std::mem::take(&mut children.sweep_is_due) {
            return;
        }
        children.sweep()
    };
}

/// The same walk for whoever goes on at another time: it keeps the node's memory, one piece of its list, and no lock.
///
/// Until it is dropped the list is not swept, so a record that lives throughout is seen once.
pub(crate) struct Pieces {
    node: Arc<Node>,
    from: usize,
    /// How long the list was when the walk began.
    all: Option<usize>,
    is_walking: bool,
}

impl Pieces {
    pub(crate) fn of(node: Arc<Node>) -> Self {
        Self { node, from: 0, all: None, is_walking: false }
    }

    /// Copies the living among the next records; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Vec<Arc<Record>>> {
        let mut listed = self.node.children().lock_unpoisoned();
        // Emptied meanwhile: the node is gone.
        let all = (*self.all.get_or_insert(listed.slots.len())).min(listed.slots.len());
        if self.from >= all {
            return None;
        }
        let end = all.min(self.from + COPIED_AT_ONCE);
        let piece = listed.slots[self.from..end].iter().filter(is_living).cloned().collect();
        self.from = end;
        if end < all && !self.is_walking {
            listed.walks += 1;
            self.is_walking = true;
        }
        Some(piece)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if self.is_walking {
            end_walk(self.node.children());
        }
    }
}
