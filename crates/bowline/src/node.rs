//! The node of a scope (or of a `timeout`, or of `shielded`): its cancellation word, its deadline, and the knowledge that
//! everything below is gone.
//!
//! Every record below holds an `Arc<Node>`, and nothing public does. When the last one is dropped, so is the node, and its
//! `Drop` says so to whoever closes the scope: closing and adoption are one idea. A scope whose future is dropped lets go
//! of its node; the tasks that still end keep it alive, and it keeps the record it was opened in, and with it the
//! enclosing scope, alive. No list is moved and no helper task runs.
//!
//! # Invariants
//!
//! 1. Flags only rise. The cause is set before `CANCEL` or `ABORT` is.
//! 2. A record is listed before its task is spawned, under the lock that checks `CLOSED`: a spawn either is refused or is
//!    seen by every later walk.
//! 3. A nested node is listed first and copies its ancestors' flags second, so a walk that misses it was earlier.
//! 4. The drop neither panics nor runs user code: a viewer's temporary reference may be the last.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use crate::cause::{Cancelled, Cause};
use crate::panic::Panic;
use crate::record::{ABORT, CANCEL, CLOSED, Record};
use crate::root::RootState;
use crate::site::Site;
use crate::sync::LockExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Root,
    Scope,
    Group,
    Timeout,
    Shield,
    Drain,
}

pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) site: &'static Site,
    pub(crate) kind: NodeKind,
    /// The record this was opened in; it holds the enclosing node.
    parent: Option<Arc<Record>>,
    flags: AtomicU32,
    /// The earliest deadline of this node and its ancestors.
    deadline: Option<Instant>,
    /// Whether the first failure among the tasks cancels the others.
    fail_fast: bool,
    children: Mutex<Children>,
    /// Children that ended since the last sweep, about.
    ended: AtomicU32,
    done: Arc<Done>,
    /// The process or test this belongs to; none for scopes opened where no root runs.
    pub(crate) root: Option<Arc<RootState>>,
}

/// What the first failing task of a scope left behind.
pub(crate) enum Failure {
    /// The scope's error type, boxed because the node is not generic; allocated only on failure.
    Error(Box<dyn Any + Send>),
    Panicked(Panic),
    /// No error, but a task was cancelled with its scope and has no value.
    Cancelled(Cancelled),
}

impl Node {
    pub(crate) fn open(
        site: &'static Site,
        kind: NodeKind,
        parent: Option<Arc<Record>>,
        deadline: Option<Instant>,
        fail_fast: bool,
    ) -> Arc<Self> {
        let root = parent.as_ref().and_then(|parent| parent.node.root.clone());
        Self::open_under(site, kind, parent, root, deadline, fail_fast)
    }

    /// As `open`, where the root's state is not the parent's: at the top of a drain phase.
    pub(crate) fn open_under(
        site: &'static Site,
        kind: NodeKind,
        parent: Option<Arc<Record>>,
        root: Option<Arc<RootState>>,
        deadline: Option<Instant>,
        fail_fast: bool,
    ) -> Arc<Self> {
        // A shield starts a life of its own: neither the cause nor the deadline of its ancestors reaches it.
        let inherited = parent.as_ref().filter(|_| kind != NodeKind::Shield);
        let deadline = earliest(deadline, inherited.and_then(|parent| parent.node.deadline));
        let node = Arc::new(Self {
            id: crate::record::next_id(),
            site,
            kind,
            parent,
            flags: AtomicU32::new(0),
            deadline,
            fail_fast,
            children: Mutex::default(),
            ended: AtomicU32::new(0),
            done: Arc::default(),
            root,
        });
        if let Some(parent) = &node.parent {
            parent.list_nested(&node); // listed first, flags copied second (invariant 3)
            fence(Ordering::SeqCst); // pairs with the fence in `cancel`, here and of the record
            let flags = parent.flags() & (CANCEL | ABORT);
            let reached = flags != 0 && node.kind != NodeKind::Shield;
            if let Some(cause) = parent.cause().filter(|_| reached) {
                node.cancel(flags, &cause);
            }
        }
        node
    }

    pub(crate) fn open_root(site: &'static Site, root: Option<Arc<RootState>>) -> Arc<Self> {
        Arc::new(Self {
            id: crate::record::next_id(),
            site,
            kind: NodeKind::Root,
            parent: None,
            flags: AtomicU32::new(0),
            deadline: None,
            fail_fast: false,
            children: Mutex::default(),
            ended: AtomicU32::new(0),
            done: Arc::default(),
            root,
        })
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Record>> {
        self.parent.as_ref()
    }

    pub(crate) fn flags(&self) -> u32 {
        self.flags.load(Ordering::Acquire)
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        if self.flags() & (CANCEL | ABORT) == 0 { None } else { self.done.cause.get().cloned() }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn done(&self) -> Arc<Done> {
        Arc::clone(&self.done)
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
        let mut nodes = vec![Arc::clone(self)];
        while let Some(node) = nodes.pop() {
            let _ = node.done.cause.set(cause.clone()); // the first cause wins
            let before = node.flags.fetch_or(bits, Ordering::AcqRel);
            if before & bits == bits {
                continue;
            }
            // Pairs with the fence in `open`: either the walk sees a nested node, or that node sees the flags.
            fence(Ordering::SeqCst);
            node.each_child(|child| {
                nodes.extend(
                    child.nested().into_iter().filter(|n| bits & ABORT != 0 || n.kind != NodeKind::Shield),
                );
                child.wake();
            });
        }
    }

    /// Keeps the first failure of a task; tells the others if the policy says so.
    ///
    /// A real error that comes while others are being cancelled replaces a mere "cancelled", never the other way round.
    pub(crate) fn fail(self: &Arc<Self>, failure: Failure, cause: &Cause) {
        let mut first = self.done.failure.lock_unpoisoned();
        let unused = match (&*first, &failure) {
            (None, _) | (Some(Failure::Cancelled(_)), Failure::Error(_) | Failure::Panicked(_)) => {
                first.replace(failure)
            }
            _ => Some(failure),
        };
        drop(first);
        drop(unused); // outside the lock: an error's drop is user code
        if self.fail_fast {
            self.cancel(CANCEL, cause);
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

    /// Lists a record, unless the node is closed or cancelled. Insert and check are one step (invariant 2).
    pub(crate) fn list(&self, record: &Arc<Record>) -> Result<(), Cause> {
        let mut children = self.children.lock_unpoisoned();
        let flags = self.flags();
        if flags & (CANCEL | ABORT) != 0 {
            return Err(self.done.cause.get().cloned().unwrap_or(Cause::ScopeClosed));
        }
        if flags & CLOSED != 0 {
            return Err(Cause::ScopeClosed);
        }
        children.insert(Arc::downgrade(record));
        Ok(())
    }

    /// Lists the strand of a scope's body, also if the scope is born cancelled: the body gets its one poll.
    pub(crate) fn list_body(&self, record: &Arc<Record>) {
        self.children.lock_unpoisoned().insert(Arc::downgrade(record));
    }

    /// Visits every living record below once, holding the lock only to copy a piece of the list.
    ///
    /// Nobody's place in the list changes meanwhile: one that moved below the piece to come would be missed, and a cancel
    /// that misses a task does not wake it.
    pub(crate) fn each_child(&self, mut visit: impl FnMut(&Arc<Record>)) {
        const COPIED_AT_ONCE: usize = 128;
        let mut from = 0;
        let mut copied = Vec::new();
        let mut walk = None;
        // Who is listed later is not visited, or a walk would chase a scope that spawns faster than it walks. A cancel
        // needs no later ones: it has raised the flag before, and they are refused.
        let mut all = None;
        loop {
            let end = {
                let mut children = self.children.lock_unpoisoned();
                let all = *all.get_or_insert(children.slots.len());
                let end = all.min(from + COPIED_AT_ONCE);
                copied.extend(children.slots[from..end].iter().flatten().filter_map(Weak::upgrade));
                from = end;
                if end < all && walk.is_none() {
                    children.walks += 1;
                    walk = Some(Walk { children: &self.children });
                }
                end == all
            };
            copied.drain(..).for_each(|record| visit(&record));
            if end {
                return;
            }
        }
    }

    /// Notes that a child has ended. The list is swept when about half of it may be dead, so that a quiet scope does not
    /// keep its dead, at a constant cost per child. The count may lose a few under contention: that delays a sweep.
    pub(crate) fn child_ended(&self) {
        let ended = self.ended.load(Ordering::Relaxed).wrapping_add(1);
        self.ended.store(ended, Ordering::Relaxed);
        if ended % SWEEP_EVERY == 0 {
            let mut children = self.children.lock_unpoisoned();
            if ended as usize * 2 > children.slots.len() {
                self.ended.store(0, Ordering::Relaxed);
                if children.walks == 0 {
                    children.sweep();
                } else {
                    children.sweep_is_due = true;
                }
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.done.finish();
        // Unroll: a chain of parents whose last reference this was must not recurse once per level.
        let mut parent = self.parent.take();
        while let Some(record) = parent {
            parent = match Arc::into_inner(record) {
                Some(record) => match Arc::into_inner(record.into_node()) {
                    Some(mut node) => node.parent.take(),
                    None => None,
                },
                None => None,
            };
        }
    }
}

/// How many children end between two looks at whether to sweep.
const SWEEP_EVERY: u32 = 64;

#[derive(Default)]
struct Children {
    slots: Vec<Option<Weak<Record>>>,
    holes: Vec<u32>,
    cursor: usize,
    /// Walks in progress: no record may move.
    walks: u32,
    /// A sweep was put off until the last walk is over.
    sweep_is_due: bool,
}

/// A walk over the list in several pieces.
struct Walk<'a> {
    children: &'a Mutex<Children>,
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        let mut children = self.children.lock_unpoisoned();
        children.walks -= 1;
        if children.walks == 0 && std::mem::take(&mut children.sweep_is_due) {
            children.sweep();
        }
    }
}

impl Children {
    /// Inspects two old entries per insert, so under churn the dead never outnumber the living by more than a constant.
    fn insert(&mut self, record: Weak<Record>) {
        for _ in 0..2 {
            if self.slots.is_empty() {
                break;
            }
            if self.cursor >= self.slots.len() {
                self.cursor = 0;
            }
            self.drop_if_dead(self.cursor);
            self.cursor += 1;
        }
        match self.holes.pop() {
            Some(hole) => self.slots[hole as usize] = Some(record),
            None => self.slots.push(Some(record)),
        }
    }

    fn drop_if_dead(&mut self, at: usize) {
        if self.slots[at].as_ref().is_some_and(|record| record.strong_count() == 0) {
            self.slots[at] = None;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a scope with 2^32 tasks does not fit into memory"
            )]
            self.holes.push(at as u32);
        }
    }

    fn sweep(&mut self) {
        self.slots.retain(|slot| slot.as_ref().is_some_and(|record| record.strong_count() > 0));
        self.holes.clear();
        self.cursor = 0;
        if self.slots.capacity() > 4 * self.slots.len().max(16) {
            self.slots.shrink_to_fit();
            self.holes.shrink_to_fit();
        }
    }
}

/// What remains of a node when it is gone: that it is, why it was cancelled, and the first failure below.
///
/// There is room for one waiter: whoever closes the scope.
#[derive(Default)]
pub(crate) struct Done {
    gone: AtomicBool,
    waiter: Mutex<Option<Waker>>,
    cause: OnceLock<Cause>,
    failure: Mutex<Option<Failure>>,
    /// Groups: id of the task that failed first, 0 if none did.
    first_failed: AtomicU64,
    /// Groups: how many tasks ended how.
    tally: Tally,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

/// How many tasks of a group ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// With a value.
    pub ok: u64,
    /// With an error.
    pub failed: u64,
    /// With a panic.
    pub panicked: u64,
    /// Cancelled after they were spawned.
    pub cancelled: u64,
}

impl Done {
    fn finish(&self) {
        // Release: pairs with the Acquire in `poll`; whoever sees it sees what the destructors below did.
        self.gone.store(true, Ordering::Release);
        let waiter = self.waiter.lock_unpoisoned().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.gone.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waiter = self.waiter.lock_unpoisoned();
        // Again under the lock: `finish` takes the waiter under it after raising the flag.
        if self.gone.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        match &*waiter {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waiter = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.lock_unpoisoned().take()
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.cause.get().cloned()
    }

    pub(crate) fn first_failed(&self) -> Option<u64> {
        Some(self.first_failed.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    pub(crate) fn counts(&self) -> Counts {
        let Tally { ok, failed, panicked, cancelled } = &self.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { ok: read(ok), failed: read(failed), panicked: read(panicked), cancelled: read(cancelled) }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
