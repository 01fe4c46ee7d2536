//! What a task can wait for, as facts: who waits, who holds, who could end the wait.
//!
//! Every waiting primitive is a [`Resource`]: it copies its own books, in one critical section, into [`Facts`]. Whoever wants to
//! know why the program stands still - a person, or a detector of deadlocks - reads those and never takes two locks at once.
//!
//! The registry finds resources that are waited for. A primitive lists itself when somebody has to wait, so one that
//! is never contended costs nothing; [`scan`] takes those off the list that nobody waits for any more.
//!
//! # Invariants
//!
//! 1. A resource is marked as listed under its own lock when a waiter joins, and put on the list after the lock is released.
//!    A scan that comes between the two misses it: what a scan has not seen is to be taken as alive.
//! 2. One scan at a time, and under its lock never two others at once: it copies a piece of the list, then asks each
//!    resource, then edits the list. So there is one entry per mark.
//! 3. A scan may hold the last reference to a resource. Its drop must not run user code: primitives empty themselves first.
//!
//! # End
//!
//! The registry holds weak references; a dead one goes at the next scan, or when its shard grows.

use std::panic::Location;
use std::sync::{Arc, Mutex, Weak};

use serde::Serialize;

use crate::cause::Cancelled;
use crate::clock;
use crate::holders::IN_TRANSIT;
use crate::record::{self, Kind as RecordKind, Record};
use crate::site::Site;
use crate::sync::LockExt;
use crate::track::Leaf;

/// A primitive that tasks wait at.
pub(crate) trait Resource: Send + Sync {
    /// Copies the books, in one critical section.
    fn facts(&self) -> Facts;

    /// If nobody waits: takes back the mark of being listed and says so, in one critical section. `false` = stay listed.
    fn unlist(&self) -> bool {
        false
    }
}

/// What kind of primitive a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResourceKind {
    /// A [`Mutex`](crate::Mutex).
    Mutex,
    /// A [`RwLock`](crate::RwLock).
    RwLock,
    /// A [`Semaphore`](crate::Semaphore).
    Semaphore,
    /// A [`Notify`](crate::Notify).
    Notify,
    /// A [`Latch`](crate::Latch).
    Latch,
    /// A barrier; see [`Seat`](crate::Seat).
    Barrier,
    /// A queue or another channel.
    Channel,
    /// A worker [`Pool`](crate::Pool): for room in its queue.
    Pool,
    /// A [`LeasePool`](crate::LeasePool).
    Leases,
}

/// What a resource is at, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[non_exhaustive]
pub enum ResourceState {
    /// Permits that nobody holds, of all. A mutex has one; a read-write lock has as many as there can be readers.
    Permits {
        /// Held by nobody.
        free: usize,
        /// In all.
        total: usize,
    },
    /// Fired: a notification is stored, a latch is open, an item is there. Who waits next will not have to.
    Fired,
    /// Not fired.
    Waiting,
    /// So many seats of so many have arrived at a barrier.
    Arrived {
        /// Seats at the barrier now.
        arrived: usize,
        /// Seats in all.
        seats: usize,
    },
    /// Closed or broken: every wait ends with an error that says why.
    Closed {
        /// The reason given.
        reason: &'static str,
    },
}

/// The books of a resource at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: u64,
    pub(crate) kind: ResourceKind,
    pub(crate) site: &'static Site,
    pub(crate) state: ResourceState,
    /// In the order of the line.
    pub(crate) waiters: Vec<WaiterFact>,
    /// Permits and guards in somebody's hands, also those granted and not fetched yet.
    pub(crate) held: Vec<HeldFact>,
    /// Ends that can fire the resource, by role and place.
    pub(crate) rights: Vec<RightFact>,
    /// Handles in all, for the sum to be checked against `rights`.
    pub(crate) handles: usize,
    /// Whether whoever reaches it by reference can fire it (add permits, close it), beyond `held` and `rights`.
    pub(crate) open_ended: bool,
    /// Whether a receiver can end the waits of the others: by closing it, or by giving back what it has.
    pub(crate) receivers_close: bool,
    /// Where it lay in memory when it was last used by reference, to find the shared object around it. 0 if unknown.
    pub(crate) lies_at: usize,
    /// How often somebody had to wait.
    pub(crate) waits: u64,
    /// How many holders panicked with it in their hands.
    pub(crate) panicked: u64,
}

/// A task, as seen by a leaf of ours at the moment it was polled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    /// The task; 0 outside of any.
    pub(crate) task: u64,
    /// Its completed polls. A quiescent task with more than one poll beyond this was polled without polling the leaf.
    pub(crate) polls: u32,
    /// The line of the program that waits or holds.
    pub(crate) at: &'static Location<'static>,
    pub(crate) since: u32,
    /// Whether what it holds cannot leave the task. If not, `task` is who took it, and it may have moved.
    pub(crate) branded: bool,
}

impl Who {
    /// Whoever is being polled on this thread.
    pub(crate) fn here(at: &'static Location<'static>, branded: bool) -> Self {
        let (task, polls) = record::with_nearest(|current| current.map_or((0, 0), task_of));
        Self { task, polls, at, since: clock::coarse_millis(), branded }
    }

    /// The same, for somebody who begins to wait: nobody does in a cancelled context.
    pub(crate) fn here_unless_cancelled(
        at: &'static Location<'static>,
        branded: bool,
    ) -> Result<Self, Cancelled> {
        let here = record::with_nearest(|current| match current {
            None => Some((0, 0)),
            Some(record) if record.is_cancelled() => None,
            Some(record) => Some(task_of(record)),
        });
        let (task, polls) = match here {
            Some(here) => here,
            None => {
                Leaf::check()?;
                unreachable!("a context is cancelled for good")
            }
        };
        Ok(Self { task, polls, at, since: clock::coarse_millis(), branded })
    }

    /// The same wait at a later poll: perhaps by another task.
    pub(crate) fn polled_again(&mut self) {
        (self.task, self.polls) = record::with_nearest(|current| current.map_or((0, 0), task_of));
    }
}

/// The task around a record, and its completed polls; the top scope and its strand's stand for a foreign task.
fn task_of(record: &Arc<Record>) -> (u64, u32) {
    let mut at = record;
    while at.kind == RecordKind::Strand {
        match at.node.parent() {
            Some(parent) => at = parent,
            None => return (at.node.id, at.polls()),
        }
    }
    (at.id(), at.polls())
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WaiterFact {
    pub(crate) who: Who,
    /// The waiting operation's name in views.
    pub(crate) op: &'static str,
    /// How much it needs: permits, items, 1.
    pub(crate) need: usize,
    /// Fired for this waiter, which has not come to fetch it.
    pub(crate) granted: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldFact {
    pub(crate) who: Who,
    pub(crate) amount: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RightFact {
    /// `sender`, `receiver`, `notifier`, `count`, `seat`.
    pub(crate) role: &'static str,
    /// A task, or one of the places of the module `holders`.
    pub(crate) place: u64,
    pub(crate) count: u32,
}

// ---- the registry

/// Shards, so that first waits on different cores do not meet.
const SHARDS: usize = 16;

type Shard = Mutex<Vec<Weak<dyn Resource>>>;

static REGISTRY: [Shard; SHARDS] = [const { Mutex::new(Vec::new()) }; SHARDS];

/// Lists a resource somebody waits for. Its own lock is not held, and it marked itself as listed (invariant 1).
pub(crate) fn list(id: u64, resource: Weak<dyn Resource>) {
    let mut shard = shard(id).lock_unpoisoned();
    if shard.len() == shard.capacity() {
        shard.retain(|known| known.strong_count() > 0); // only when it would grow: a constant cost per insert
        let room = shard.len();
        shard.reserve(room.max(8));
    }
    shard.push(resource);
}

#[expect(clippy::cast_possible_truncation, reason = "only the remainder counts")]
fn shard(id: u64) -> &'static Shard {
    &REGISTRY[id as usize % SHARDS]
}

/// Shows every resource that somebody waits for, each at its own moment.
pub(crate) fn scan(mut see: impl FnMut(Facts)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _scanning = ONE_AT_A_TIME.lock_unpoisoned();
    for shard in &REGISTRY {
        let known = shard.lock_unpoisoned().clone();
        let mut idle: Vec<*const ()> = Vec::new();
        for resource in &known {
            let Some(resource) = resource.upgrade() else { continue };
            let facts = resource.facts();
            if !facts.waiters.is_empty() {
                see(facts);
            } else if resource.unlist() {
                idle.push(Arc::as_ptr(&resource).cast());
            }
        }
        // One entry per mark taken back: a resource that was listed anew meanwhile keeps its new one.
        shard.lock_unpoisoned().retain(|resource| {
            let at = idle.iter().position(|idle| *idle == resource.as_ptr().cast());
            at.map(|at| idle.swap_remove(at)).is_none() && resource.strong_count() > 0
        });
    }
}

// ---- for people

/// A lock, queue or other primitive, and who waits for it and holds it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ResourceInfo {
    /// Identity in the process; the tree's waits name it.
    pub id: u64,
    /// What it is.
    pub kind: ResourceKind,
    /// The name given at creation.
    pub name: &'static str,
    /// `file:line` of creation.
    pub place: String,
    /// What it is at.
    pub state: ResourceState,
    /// Who waits, first come first.
    pub waiters: Vec<WaiterInfo>,
    /// Who holds permits or guards.
    pub holders: Vec<HolderInfo>,
    /// Who holds ends that can fire it: notifiers, counts, seats, senders.
    pub ends: Vec<EndInfo>,
    /// How often somebody had to wait.
    pub waits: u64,
    /// How many holders panicked with it in their hands.
    pub panicked_while_held: u64,
}

/// Somebody in a line.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WaiterInfo {
    /// The task that polled the wait last; `None` outside of Bowline's tasks.
    pub task: Option<u64>,
    /// The operation: `lock`, `read`, `write`, `acquire`, …
    pub op: &'static str,
    /// How much it needs.
    pub need: usize,
    /// Whether it was granted, and its task has not come to fetch it.
    pub granted: bool,
    /// `file:line` of the wait.
    pub place: String,
    /// Since when.
    pub for_ms: u64,
}

/// Somebody with a permit or a guard.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct HolderInfo {
    /// The task that took it; `None` outside of Bowline's tasks.
    pub task: Option<u64>,
    /// Whether it is certain that the task still has it: the guard cannot leave it.
    pub certain: bool,
    /// How much it holds.
    pub amount: usize,
    /// `file:line` of the taking.
    pub place: String,
    /// Since when.
    pub for_ms: u64,
}

/// Somebody with an end.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EndInfo {
    /// What the end is: `notifier`, `count`, `seat`, `sender`, `receiver`.
    pub role: &'static str,
    /// The task that holds it; `None` if that is unknown.
    pub task: Option<u64>,
    /// How many.
    pub ends: u32,
}

/// Returns every primitive that some task waits for now: who waits, who holds it, since when and where.
///
/// Each is a picture of its own moment. It is the answer to "what does everybody wait for": the first lock in the list with
/// many waiters and one old holder.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// assert!(bowline::contended().iter().all(|lock| !lock.waiters.is_empty()));
/// # });
/// ```
#[must_use]
pub fn contended() -> Vec<ResourceInfo> {
    let mut found = Vec::new();
    scan(|facts| found.push(facts.into()));
    found
}

impl From<Facts> for ResourceInfo {
    fn from(facts: Facts) -> Self {
        let named = |task: u64| Some(task).filter(|task| *task != 0 && *task < IN_TRANSIT);
        let waiters = facts.waiters.iter().map(|waiter| WaiterInfo {
            task: named(waiter.who.task),
            op: waiter.op,
            need: waiter.need,
            granted: waiter.granted,
            place: place(waiter.who.at),
            for_ms: age(waiter.who.since),
        });
        let holders = facts.held.iter().map(|held| HolderInfo {
            task: named(held.who.task),
            certain: held.who.branded,
            amount: held.amount,
            place: place(held.who.at),
            for_ms: age(held.who.since),
        });
        let ends = facts.rights.iter().map(|right| EndInfo {
            role: right.role,
            task: named(right.place),
            ends: right.count,
        });
        Self {
            id: facts.id,
            kind: facts.kind,
            name: facts.site.name,
            place: place(facts.site.place),
            state: facts.state,
            waiters: waiters.collect(),
            holders: holders.collect(),
            ends: ends.collect(),
            waits: facts.waits,
            panicked_while_held: facts.panicked,
        }
    }
}

fn place(at: &Location<'_>) -> String {
    format!("{}:{}", at.file(), at.line())
}

pub(crate) fn age(since: u32) -> u64 {
    u64::try_from(clock::since(since).as_millis()).unwrap_or(u64::MAX)
}
