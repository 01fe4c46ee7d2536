//! Groups: many tasks of one kind, and an [`Outcome`] for each in spawn order.
//!
//! A [`scope`](crate::scope()) is for tasks that belong together and differ; a group is for a fan-out whose results are wanted,
//! all of them ([`CollectAll`]) or none ([`FailFast`]), or not at all ([`Discard`]).

use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::{Arc, Mutex, Weak};

use tokio::task::JoinHandle;

use crate::carry::{Bind, Carry, Cx, TaskFn};
use crate::cause::{Cancelled, Cause};
use crate::node::{Counts, Done, Node, NodeKind};
use crate::opening::Opened;
use crate::panic::Panic;
use crate::record::{CANCEL, Kind, Record};
use crate::scope::{ScopeClosed, list, spawn_tracked};
use crate::sync::LockExt;
use crate::track::{End, Ending};

/// What a group does about failures and results.
pub trait Policy: Send + 'static {
    #[doc(hidden)]
    const CANCELS_SIBLINGS: bool;
    #[doc(hidden)]
    const KEEPS_RESULTS: bool;
}

/// The first error or panic cancels the others.
#[derive(Clone, Copy, Debug)]
pub struct FailFast;

/// Every task runs to its end, whatever happens to the others.
#[derive(Clone, Copy, Debug)]
pub struct CollectAll;

/// Results are counted and dropped, so memory stays flat over any number of tasks: for accept loops. A panic of one task does
/// not touch the others.
#[derive(Clone, Copy, Debug)]
pub struct Discard;

impl Policy for FailFast {
    const CANCELS_SIBLINGS: bool = true;
    const KEEPS_RESULTS: bool = true;
}

impl Policy for CollectAll {
    const CANCELS_SIBLINGS: bool = false;
    const KEEPS_RESULTS: bool = true;
}

impl Policy for Discard {
    const CANCELS_SIBLINGS: bool = false;
    const KEEPS_RESULTS: bool = false;
}

/// How one task of a group ended.
#[derive(Debug)]
pub enum Slot<T, E> {
    /// With its value.
    Ok(T),
    /// With its error.
    Failed(E),
    /// With a panic.
    Panicked(Panic),
    /// Without a value, because it was cancelled or refused.
    Cancelled(Cancelled),
}

/// What a group came to: one slot per task in spawn order, and the counts.
#[derive(Debug)]
pub struct Outcome<T, E> {
    slots: Vec<(&'static str, Slot<T, E>)>,
    counts: Counts,
    first_failure: Option<usize>,
}

impl<T, E> Outcome<T, E> {
    /// Returns how many ended how; for [`Discard`] this is all there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns each task's name and end, in spawn order. Empty for [`Discard`].
    #[must_use]
    pub fn slots(&self) -> &[(&'static str, Slot<T, E>)] {
        &self.slots
    }

    /// As [`slots`](Self::slots), by value.
    #[must_use]
    pub fn into_slots(self) -> Vec<(&'static str, Slot<T, E>)> {
        self.slots
    }

    /// Returns the values there are, in spawn order: partial results.
    pub fn into_ok(self) -> impl Iterator<Item = T> {
        self.slots.into_iter().filter_map(|(_, slot)| match slot {
            Slot::Ok(value) => Some(value),
            _ => None,
        })
    }

    /// Returns every value, in spawn order, if every task had one.
    ///
    /// # Errors
    ///
    /// The error that happened first; `E::from(Cancelled)` if a task was cancelled and none had an error.
    ///
    /// # Panics
    ///
    /// With the panic of a task, if that happened first.
    pub fn all_ok(mut self) -> Result<Vec<T>, E>
    where
        E: From<Cancelled>,
    {
        if let Some(first) = self.first_failure.filter(|first| *first < self.slots.len()) {
            match self.slots.swap_remove(first).1 {
                Slot::Failed(error) => return Err(error),
                Slot::Panicked(panic) => panic.resume(),
                Slot::Ok(_) | Slot::Cancelled(_) => {}
            }
        }
        let mut values = Vec::with_capacity(self.slots.len());
        let mut cancelled = None;
        for (_, slot) in self.slots {
            match slot {
                Slot::Ok(value) => values.push(value),
                Slot::Failed(error) => return Err(error),
                Slot::Panicked(panic) => panic.resume(),
                Slot::Cancelled(why) => cancelled = cancelled.or(Some(why)),
            }
        }
        match cancelled {
            Some(why) => Err(E::from(why)),
            None => Ok(values),
        }
    }
}

/// Runs `body` with a group and returns, when every task is gone, how each ended.
///
/// Under a [`timeout`](crate::timeout()) the group still returns: what was ready is there, the rest is
/// [`Slot::Cancelled`], and every task is gone.
///
/// # Cancel safety
///
/// If the future is dropped, the tasks are aborted and those still ending are adopted by the enclosing scope; results are
/// lost.
///
/// # Panics
///
/// With the panic of `body`, after every task is gone. Panics of tasks are slots.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, FailFast, group};
///
/// let squares = group("squares", FailFast, async |g| {
///     for n in 1..=3 {
///         g.spawn("square", async move { Ok::<_, Cancelled>(n * n) });
///     }
/// })
/// .await
/// .all_ok()?;
/// assert_eq!(squares, [1, 4, 9]);
/// # Ok::<_, Cancelled>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn group<T, E, P, F>(name: &'static str, policy: P, body: F) -> impl Future<Output = Outcome<T, E>>
where
    F: AsyncFnOnce(&Group<T, E, P>),
    T: Send + 'static,
    E: Send + 'static,
    P: Policy,
{
    let place = Location::caller();
    let _ = policy; // a value at the call reads better than a type; it carries nothing
    async move {
        let opened = Opened::new(name, place, NodeKind::Group, P::CANCELS_SIBLINGS);
        let entries: Arc<Entries<T, E>> = Arc::default();
        let node = Arc::clone(opened.node());
        let done = node.done();
        let shared = Arc::clone(&entries);
        let ran = opened
            .run(async {
                let group = Group {
                    node: Arc::downgrade(&node),
                    cx: Cx::here(),
                    entries: shared,
                    policy: PhantomData,
                };
                drop(node);
                body(&group).await;
            })
            .await;
        if let End::Panicked(panic) = ran.body {
            panic.resume();
        }
        collect(&entries, &done).await
    }
}

/// What a group's body sees of its group.
pub struct Group<T, E, P> {
    node: Weak<Node>,
    cx: Cx,
    entries: Arc<Entries<T, E>>,
    policy: PhantomData<fn(P)>,
}

/// The slots of a group, filled by spawning and read after everybody is gone: task id, name, and how to get the result.
type Entries<T, E> = Mutex<Vec<(u64, &'static str, Entry<T, E>)>>;

enum Entry<T, E> {
    Spawned(JoinHandle<Option<Slot<T, E>>>),
    Refused(Cancelled),
}

async fn collect<T, E>(entries: &Entries<T, E>, done: &Done) -> Outcome<T, E> {
    let entries = std::mem::take(&mut *entries.lock_unpoisoned());
    let first = done.first_failed();
    let first_failure = first.and_then(|first| entries.iter().position(|(id, ..)| *id == first));
    let mut slots = Vec::with_capacity(entries.len());
    for (_, name, entry) in entries {
        let slot = match entry {
            // Every task is gone; at most tokio has still to put the result down. A join error means that the runtime is
            // being shut down.
            Entry::Spawned(task) => match task.await {
                Ok(Some(slot)) => slot,
                Ok(None) | Err(_) => Slot::Cancelled(Cancelled::new(Cause::Shutdown)),
            },
            Entry::Refused(cancelled) => Slot::Cancelled(cancelled),
        };
        slots.push((name, slot));
    }
    Outcome { slots, counts: done.counts(), first_failure }
}

/// A task's end as a group sees it: everything stays in the slot; the node counts, and remembers who failed first.
struct OfGroup<T, E, P>(PhantomData<fn(T, E, P)>);

impl<T: Send + 'static, E: Send + 'static, P: Policy> Ending for OfGroup<T, E, P> {
    type Output = Result<T, E>;
    /// `None` where results are not kept: they are dropped before the task counts as gone.
    type Ended = Option<Slot<T, E>>;

    fn value(record: &Arc<Record>, value: Result<T, E>) -> Self::Ended {
        let slot = match value {
            Ok(value) => {
                record.node.count(|counts| &counts.ok);
                Slot::Ok(value)
            }
            Err(error) => {
                record.node.count(|counts| &counts.failed);
                record.node.note_failed(record.id, &Cause::SiblingFailed(record.site.name));
                Slot::Failed(error)
            }
        };
        P::KEEPS_RESULTS.then_some(slot)
    }

    fn panicked(record: &Arc<Record>, panic: Panic) -> Self::Ended {
        record.node.count(|counts| &counts.panicked);
        record.node.note_failed(record.id, &Cause::SiblingPanicked(record.site.name));
        Some(Slot::Panicked(panic))
    }

    fn cancelled(record: &Arc<Record>, cancelled: Cancelled) -> Self::Ended {
        record.node.count(|counts| &counts.cancelled);
        Some(Slot::Cancelled(cancelled))
    }
}

impl<T: Send + 'static, E: Send + 'static, P: Policy> Group<T, E, P> {
    /// Spawns a task whose end gets the next slot. If the group is cancelled or closed, `future` is dropped unpolled and
    /// the slot says why.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.handle().spawn_at(name, Location::caller(), future);
    }

    /// Spawns a task and hands ends over to it, as [`Scope::spawn_with`](crate::Scope::spawn_with).
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn_with<A, F>(&self, name: &'static str, carry: A, task: F)
    where
        A: Carry,
        F: for<'c> AsyncFnOnce(&'c Cx, <A::Packed as Bind>::In<'c>) -> Result<T, E>
            + for<'c> TaskFn<'c, A::Packed, Result<T, E>>
            + Send
            + 'static,
    {
        let packed = carry.pack();
        self.handle().spawn_at(name, Location::caller(), crate::carry::run_task(packed, task));
    }

    /// Returns the body's own context.
    pub fn cx(&self) -> &Cx {
        &self.cx
    }

    /// Returns a handle with which tasks, also members, can spawn into the running group.
    pub fn handle(&self) -> GroupHandle<T, E, P> {
        GroupHandle { node: self.node.clone(), entries: Arc::clone(&self.entries), policy: PhantomData }
    }

    /// Cancels every task of the group and its body.
    pub fn cancel(&self, reason: &'static str) {
        self.handle().cancel(reason);
    }
}

/// A handle on a group that can be kept anywhere. It does not keep the group open.
pub struct GroupHandle<T, E, P> {
    node: Weak<Node>,
    entries: Arc<Entries<T, E>>,
    policy: PhantomData<fn(P)>,
}

impl<T, E, P> Clone for GroupHandle<T, E, P> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), entries: Arc::clone(&self.entries), policy: PhantomData }
    }
}

impl<T: Send + 'static, E: Send + 'static, P: Policy> GroupHandle<T, E, P> {
    /// Spawns a task into the group, as [`Group::spawn`].
    ///
    /// # Errors
    ///
    /// [`ScopeClosed`] if the group has ended or was cancelled; `future` was dropped unpolled.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Result<(), ScopeClosed>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        match self.spawn_at(name, Location::caller(), future) {
            None => Ok(()),
            Some(closed) => Err(closed),
        }
    }

    /// Cancels every task of the group and its body.
    pub fn cancel(&self, reason: &'static str) {
        if let Some(node) = self.node.upgrade() {
            node.cancel(CANCEL, &Cause::Requested(reason));
        }
    }

    fn spawn_at<F>(
        &self,
        name: &'static str,
        place: &'static Location<'static>,
        future: F,
    ) -> Option<ScopeClosed>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let record = match list(&self.node, name, place, Kind::Task) {
            Ok(record) => record,
            Err(closed) => {
                // When the group is over, nobody collects any more.
                if P::KEEPS_RESULTS && self.node.strong_count() > 0 {
                    let refused = Entry::Refused(Cancelled::new(closed.cause().clone()));
                    self.entries.lock_unpoisoned().push((0, name, refused));
                }
                return Some(closed);
            }
        };
        // Keeps the group open until the entry is written. The lock is not held over the spawn: a runtime that shuts down
        // drops `future` in it, and that is user code.
        let (id, _open) = (record.id, Arc::clone(&record.node));
        let task = spawn_tracked::<_, OfGroup<T, E, P>>(record, future);
        if P::KEEPS_RESULTS {
            self.entries.lock_unpoisoned().push((id, name, Entry::Spawned(task)));
        }
        None
    }
}
