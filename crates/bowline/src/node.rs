//! The node of a scope (or of a `timeout`, or of `shielded`): its cancellation word, its deadline, and the knowledge that
//! everything below is gone.
//!
//! A node counts what it has to outlive: whoever opened it, the tasks listed below it, and the nodes opened inside those.
//! The last one to go says so to whoever closes the scope, and then lets go of the node above: closing and adoption are
//! one idea. A scope whose future is dropped gives up its own count; the tasks that still end keep the node, and through it
//! every node above, from being gone. No list is moved and no helper task runs.
//!
//! References say nothing about life: viewers and handles may keep a node's memory as long as they like.
//!
//! # Invariants
//!
//! 1. Flags only rise. The cause is set before `CANCEL` or `ABORT` is.
//! 2. A record is listed before its task is spawned, under the lock that checks `CLOSED`: a spawn either is refused or is
//!    seen by every later walk.
//! 3. A nested node is listed first and copies its ancestors' flags second, so a walk that misses it was earlier.
//! 4. The count never rises from zero: what is gone stays gone.
//! 5. Daemons, and what is opened inside them, are counted apart. When all others are gone the node is *idle*: the daemons
//!    are cancelled, and the last of those ends it.

use std::ops::Deref;

use tokio::time::Instant;

use crate::cause::{Cancelled, Cause};
use crate::children::{self, Children};
use crate::context::Value;
use crate::done::{Done, Failure, Tally};
use crate::record::{ABORT, CANCEL, CLOSED, Kind, Record};
use crate::root::{Membership, RootState};
use crate::site::Site;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{Arc, LockExt, Mutex, MutexGuard, OnceLock};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Root,
    Scope,
    Group,
    Timeout,
    Shield,
    /// The children of a supervisor, which stops them one after the other: no cancel from above reaches them.
    Supervisor,
    Drain,
    /// A piece of a task with a value.
    Value,
    /// A job of a pool, opened in its caller.
    Job,
    /// A piece of a task that ends with a token of tokio-util's.
    #[cfg(feature = "tokio-util")]
    Token,
}

impl NodeKind {
    /// The kind's name in views and in the chain of causes.
    pub(crate) fn name(self) -> &'static str {
        match self {
            NodeKind::Root => "root",
            NodeKind::Scope => "scope",
            NodeKind::Group => "group",
            NodeKind::Timeout => "timeout",
            NodeKind::Shield => "shielded",
            NodeKind::Supervisor => "supervisor",
            NodeKind::Drain => "drain phase",
            NodeKind::Value => "value",
            NodeKind::Job => "job",
            #[cfg(feature = "tokio-util")]
            NodeKind::Token => "token",
        }
    }

    /// Whether a cancel from above, and the deadline there, do not reach it. An abort does.
    pub(crate) fn is_shield(self) -> bool {
        matches!(self, NodeKind::Shield | NodeKind::Supervisor)
    }
}

pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) site: &'static Site,
    pub(crate) kind: NodeKind,
    /// The record this was opened in. Its node counts this one among the living.
    parent: Option<Arc<Record>>,
    flags: AtomicU32,
    /// The earliest deadline of this node and its ancestors.
    deadline: Option<Instant>,
    /// Whether the first failure among the tasks cancels the others.
    fail_fast: bool,
    /// How many this node had to outlive so far: the opener, tasks, nodes opened inside those. It wraps, and is changed
    /// under the lock of `children` only.
    retained: AtomicU32,
    /// How many of them are gone. It wraps.
    released: AtomicU32,
    children: Mutex<Children>,
    done: Arc<Done>,
    /// What `with_value` put here.
    pub(crate) value: OnceLock<Value>,
    /// The process or test this belongs to; none for scopes opened where no root runs.
    pub(crate) root: Option<Arc<RootState>>,
    /// Whether this is the top of a member of a drain phase.
    ends_turn: bool,
}

impl Node {
    /// Opens a node; whoever opens it closes it with [`release`], once.
    pub(crate) fn open(
        site: &'static Site,
        kind: NodeKind,
        parent: Option<Arc<Record>>,
        deadline: Option<Instant>,
        fail_fast: bool,
    ) -> Alive {
        let root = parent.as_ref().and_then(|parent| parent.node.root.clone());
        Self::open_under(site, kind, parent, root, false, deadline, fail_fast)
    }

    /// As `open`, where the root's state is not the parent's: at the top of a drain phase, whose turn ends with the node.
    pub(crate) fn open_in_phase(
        site: &'static Site,
        parent: Option<Arc<Record>>,
        member: Membership,
    ) -> Alive {
        Self::open_under(site, NodeKind::Drain, parent, Some(member.hand_over()), true, None, false)
    }

    fn open_under(
        site: &'static Site,
        kind: NodeKind,
        parent: Option<Arc<Record>>,
        root: Option<Arc<RootState>>,
        ends_turn: bool,
        deadline: Option<Instant>,
        fail_fast: bool,
    ) -> Alive {
        // What is gone counts nobody any more: a foreign task may open a scope in a context that has ended.
        let parent = parent.filter(|parent| parent.node.retain(parent.kind));
        // A shield starts a life of its own: neither the cause nor the deadline of its ancestors reaches it.
        let inherited = parent.as_ref().filter(|_| !kind.is_shield());
        let deadline = earliest(deadline, inherited.and_then(|parent| parent.node.deadline));
        let node = Arc::new(Self {
            id: crate::record::next_id(),
            site,
            kind,
            parent,
            flags: AtomicU32::new(0),
            deadline,
            fail_fast,
            retained: AtomicU32::new(1), // the opener
            released: AtomicU32::new(0),
            children: Mutex::default(),
            done: Arc::default(),
            value: OnceLock::new(),
            root,
            ends_turn,
        });
        if let Some(parent) = &node.parent {
            parent.list_nested(&node); // listed first, flags copied second (invariant 3)
            fence(Ordering::SeqCst); // pairs with the fence in `cancel`, here and of the record
            let flags = parent.flags() & (CANCEL | ABORT);
            let reached = flags != 0 && !node.kind.is_shield();
            if reached {
                node.cancel_because(flags, &parent.cancelled());
            }
        }
        Alive { node }
    }

    pub(crate) fn open_root(site: &'static Site, root: Option<Arc<RootState>>) -> RootRecord {
        let node = Arc::new(Self {
            id: crate::record::next_id(),
            site,
            kind: NodeKind::Root,
            parent: None,
            flags: AtomicU32::new(0),
            deadline: None,
            fail_fast: false,
            retained: AtomicU32::new(1), // the opener
            released: AtomicU32::new(0),
            children: Mutex::default(),
            done: Arc::default(),
            value: OnceLock::new(),
            root,
            ends_turn: false,
        });
        RootRecord { record: node.list_body(), _alive: Alive { node } }
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Record>> {
        self.parent.as_ref()
    }

    pub(crate) fn flags(&self) -> u32 {
        self.flags.load(Ordering::Acquire)
    }

    /// Why it was cancelled, and where that came from.
    pub(crate) fn why(&self) -> Option<Cancelled> {
        if self.flags() & (CANCEL | ABORT) == 0 { None } else { self.done.cause.get().cloned() }
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.why().map(|why| why.cause().clone())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the first failure among its tasks cancels the others.
    pub(crate) fn is_fail_fast(&self) -> bool {
        self.fail_fast
    }

    pub(crate) fn done(&self) -> Arc<Done> {
        Arc::clone(&self.done)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.done.is_gone()
    }

    /// Takes no more tasks.
    pub(crate) fn close(&self) {
        let _children = self.children.lock_unpoisoned(); // with the check in `list` (invariant 2)
        self.flags.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Raises `bits` here and in every node below, and wakes every task below. Iterative: trees may be deep.
    ///
    /// Shielded sections are spared by a cancel, not by an abort.
    pub(crate) fn cancel(self: &Arc<Self>, bits: u32, cause: &Cause) {
        if self.flags() & bits != bits {
            self.cancel_because(bits, &Cancelled::at(cause.clone(), self.kind.name(), *self.site));
        }
    }

    /// As `cancel`, for a cancel that began somewhere else.
    pub(crate) fn cancel_because(self: &Arc<Self>, bits: u32, why: &Cancelled) {
        let mut nodes = vec![Arc::clone(self)];
        while let Some(node) = nodes.pop() {
            let _ = node.done.cause.set(why.clone()); // the first cause wins
            let before = node.flags.fetch_or(bits, Ordering::AcqRel);
            if before & bits == bits {
                continue;
            }
            // Pairs with the fence in `open`: either the walk sees a nested node, or that node sees the flags.
            fence(Ordering::SeqCst);
            node.each_child(|child| {
                nodes.extend(child.nested().into_iter().filter(|n| bits & ABORT != 0 || !n.kind.is_shield()));
                child.wake();
            });
        }
    }

    /// Keeps the first failure of a task; tells the others if the policy says so.
    ///
    /// A real error that comes while others are being cancelled replaces a mere "cancelled", never the other way round.
    pub(crate) fn fail(self: &Arc<Self>, failure: Failure, cause: &Cause) {
        let before = failure.cancelled();
        let mut first = self.done.failure.lock_unpoisoned();
        let unused = match (&*first, &failure) {
            (None, _) | (Some(Failure::Cancelled(_)), Failure::Error(_) | Failure::Panicked(_)) => {
                first.replace(failure)
            }
            _ => Some(failure),
        };
        drop(first);
        drop(unused); // outside the lock: an error's drop is user code
        if self.fail_fast && self.flags() & CANCEL == 0 {
            let why = Cancelled::after(before, cause.clone(), self.kind.name(), *self.site);
            self.cancel_because(CANCEL, &why);
        }
    }

    /// Notes which task of a group failed first; tells the others if the policy says so.
    pub(crate) fn note_failed(self: &Arc<Self>, task: u64, cause: &Cause) {
        let _ = self.done.first_failed.compare_exchange(0, task, Ordering::Relaxed, Ordering::Relaxed);
        if self.fail_fast {
            self.cancel(CANCEL, cause);
        }
    }

    pub(crate) fn count(&self, which: impl FnOnce(&Tally) -> &AtomicU64) {
        which(&self.done.tally).fetch_add(1, Ordering::Relaxed);
    }

    // ---- children

    /// Lists a record for a new task, unless the node is closed or cancelled. Insert and check are one step (invariant 2).
    pub(crate) fn list(self: &Arc<Self>, site: Site, kind: Kind) -> Result<Arc<Record>, Cause> {
        let mut children = self.children.lock_unpoisoned();
        let flags = self.flags();
        if flags & (CANCEL | ABORT) != 0 {
            return Err(self.done.cause.get().map_or(Cause::ScopeClosed, |why| why.cause().clone()));
        }
        if flags & CLOSED != 0 || children.is_idle || !self.retain_locked(&mut children, kind) {
            return Err(Cause::ScopeClosed);
        }
        let (record, _stale) = children.insert(self, site, kind);
        drop(children); // before the stale one
        Ok(record)
    }

    /// Lists the strand of a scope's body, also if the scope is born cancelled: the body gets its one poll. It is not
    /// counted: the opener is.
    pub(crate) fn list_body(self: &Arc<Self>) -> Arc<Record> {
        let (record, _stale) = {
            let mut children = self.children.lock_unpoisoned();
            children.insert(self, *self.site, Kind::Strand)
        };
        record
    }

    /// The list of records, for walks that go on at another time.
    pub(crate) fn children(&self) -> &Mutex<Children> {
        &self.children
    }

    /// Visits every living record below once.
    pub(crate) fn each_child(&self, visit: impl FnMut(&Arc<Record>)) {
        children::each(&self.children, visit);
    }

    // ---- life

    /// Counts one more, on behalf of a record of that kind; not if the node is idle or gone (invariant 4).
    pub(crate) fn retain(&self, kind: Kind) -> bool {
        self.retain_locked(&mut self.children.lock_unpoisoned(), kind)
    }

    /// As `retain`, under the lock, which makes a plain load and store enough.
    fn retain_locked(&self, children: &mut Children, kind: Kind) -> bool {
        // A daemon that is still counted may open contexts, to clean up in.
        if children.is_idle && (kind != Kind::Daemon || children.daemons == 0) {
            return false;
        }
        if kind == Kind::Daemon {
            children.daemons += 1;
        } else {
            self.retained.store(self.retained.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        true
    }

    /// Keeps the node from being gone, for a moment; `None` if it is.
    pub(crate) fn hold(node: &Arc<Self>) -> Option<Alive> {
        node.retain(Kind::Task).then(|| Alive { node: Arc::clone(node) })
    }

    /// Counts one less, on behalf of a record of that kind. The last to go ends the node and lets go of those above, one by
    /// one: trees may be deep.
    #[inline]
    pub(crate) fn release(&self, kind: Kind) {
        let mut parent = self.release_one(kind);
        while let Some(record) = parent {
            parent = record.node.release_one(record.kind);
        }
    }

    /// Returns the parent if this was the last.
    #[inline]
    fn release_one(&self, kind: Kind) -> Option<Arc<Record>> {
        const LOOKS_EVERY: u32 = 64;
        if kind == Kind::Daemon {
            return self.release_daemon();
        }
        // Release: what this one did happened before the end. Acquire: the end happens after what everybody did.
        let released = self.released.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        // Relaxed: each of the released was retained before, and the increments above hand that on from one to the next; so
        // whoever is the last sees at least as many retained, and more only if others are still to come.
        let living = self.retained.load(Ordering::Relaxed).wrapping_sub(released);
        if living == 0 {
            return self.end_if_idle();
        }
        if living % LOOKS_EVERY == 0 {
            children::sweep_if_mostly_dead(&self.children, living as usize);
        }
        None
    }

    /// Everybody but the daemons seemed to be gone. If not so under the lock, a handle was faster and has counted one more,
    /// or that one has come and gone and done this.
    #[cold]
    fn end_if_idle(&self) -> Option<Arc<Record>> {
        let daemons = {
            let mut children = self.children.lock_unpoisoned();
            let (retained, released) = (&self.retained, &self.released);
            if children.is_idle || retained.load(Ordering::Relaxed) != released.load(Ordering::Acquire) {
                return None;
            }
            children.is_idle = true;
            if children.daemons == 0 {
                return self.end(children);
            }
            children.daemons()
        };
        for daemon in daemons {
            daemon.cancel(CANCEL, &Cause::ScopeEnding);
        }
        None
    }

    #[cold]
    fn release_daemon(&self) -> Option<Arc<Record>> {
        let mut children = self.children.lock_unpoisoned();
        children.daemons -= 1;
        if children.daemons == 0 && children.is_idle { self.end(children) } else { None }
    }

    /// Everybody is gone: tells the closer, and gives up the list, whose records hold this node.
    fn end(&self, mut children: MutexGuard<'_, Children>) -> Option<Arc<Record>> {
        self.done.mark_gone();
        let _listed = children.clear();
        drop(children); // before the records
        self.done.wake();
        if let Some(root) = self.root.as_ref().filter(|_| self.ends_turn) {
            root.leave_drain_phase();
        }
        self.parent.clone()
    }
}

impl Drop for Node {
    /// Memory only. Unrolled: a chain of ancestors whose last reference this was must not recurse once per level.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(record) = parent {
            let node = Arc::into_inner(record).map(Record::into_node);
            parent = node.and_then(Arc::into_inner).and_then(|mut node| node.parent.take());
        }
    }
}

/// One of those a node outlives: its opener, usually. Dropping it gives the count up; by then a scope has closed or
/// aborted what is below.
pub(crate) struct Alive {
    node: Arc<Node>,
}

impl Alive {
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.node.release(Kind::Strand);
    }
}

/// The record of a root, in which scopes of foreign tasks are opened. Dropping it closes the root: from then on only what
/// lives keeps it from being gone.
pub(crate) struct RootRecord {
    record: Arc<Record>,
    _alive: Alive,
}

impl Deref for RootRecord {
    type Target = Arc<Record>;

    fn deref(&self) -> &Arc<Record> {
        &self.record
    }
}

pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
