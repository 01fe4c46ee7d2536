//! Groups: many tasks of one kind, and an [`Outcome`] for each in spawn order.
//!
//! A [`scope`](crate::scope()) is for tasks that belong together and differ; a group is for a fan-out whose results are
//! wanted: all of them ([`CollectAll`](crate::CollectAll)) or none ([`FailFast`](crate::FailFast)), the first or so many
//! ([`FirstSuccess`](crate::FirstSuccess), [`Quorum`](crate::Quorum)), or not at all ([`Discard`](crate::Discard)).
//!
//! The group's node owns the tasks, as a scope's does; a handle of tokio's in `entries` brings each result. The body lives in
//! the future of [`group`] and is the only one who may wait for room; handles never wait.
//!
//! # Invariants
//!
//! 1. Every call that spawns has one slot, in the order of the calls, also if it was refused.
//! 2. The group is open until the entry of a listed task is written: results are read when nobody can write any more.
//! 3. A place under a limit belongs to a permit or to one task, and goes to the next in line when that task's future and its
//!    destructors are gone, however it ended.
//!
//! # End
//!
//! The body ends, then the group waits for every task, and only then reads the slots. If the group's future is dropped, the
//! tasks are aborted and adopted, and the results are lost.

mod each;
mod hedge;
mod outcome;
mod permit;
mod policy;
mod task;

use std::future::Future;
use std::panic::Location;
use std::pin::pin;

pub use each::{Items, for_each, map};
pub use hedge::hedged;
pub use outcome::{Outcome, Slot};
pub use permit::{NoRoom, SpawnPermit};
pub use policy::{AtMost, CollectAll, Discard, FailFast, FirstSuccess, Policy, Quorum, Unlimited};
pub use task::Member;

use crate::carry::{Bind, Carry, Cx, TaskFn};
use crate::cause::{Cancelled, Cause};
use crate::done::{Counts, Failure};
use crate::node::{Node, NodeKind};
use crate::opening::{Opened, Ran};
use crate::record::{CANCEL, Kind};
use crate::scope::{ScopeClosed, list, spawn_tracked};
use crate::spawner::JoinHandle;
use crate::sync::{Arc, LockExt, Mutex};
use crate::track::{End, Strand};
use outcome::FirstFailure;
use policy::GroupNode;
use task::{KeptError, OfGroup, Ticketed};

/// Runs `body` with a group and returns, when every task is gone, how each ended.
///
/// The body spawns; it returns nothing, or a `Result<(), E>` if it can fail itself (`?` on the rows it reads, say). Its
/// error cancels the tasks under [`FailFast`](crate::FailFast), and takes part in [`Outcome::all_ok`].
///
/// Under a [`timeout`](crate::timeout()) the group still returns: what was ready is there, the rest is
/// [`Slot::Cancelled`], and every task is gone. A task that returns the [`Cancelled`] of its wait as its own error, by `?`,
/// has failed: its slot is [`Slot::Failed`], and it counts as such.
///
/// # Cancel safety
///
/// If the future is dropped, the tasks are aborted and those still ending are adopted by the enclosing scope; results are
/// lost.
///
/// # Panics
///
/// With the panic of `body`, after every task is gone. Panics of tasks are slots. At once if the policy is `Quorum(0)`.
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
pub fn group<T, E, P, F, R>(name: &'static str, policy: P, body: F) -> impl Future<Output = Outcome<T, E>>
where
    F: AsyncFnOnce(&Group<T, E, P>) -> R,
    R: BodyEnd<E>,
    T: Send + 'static,
    E: Send + 'static,
    P: Policy,
{
    let place = Location::caller();
    policy.check();
    let mut body = Some(body); // lent to the strand: captured by it as well, it would be held three times
    async move {
        let mut opened = Opened::new(name, place, NodeKind::Group, P::FAIL_FAST);
        let node = Arc::clone(opened.node());
        let handle = GroupHandle::<T, E, P> {
            desk: policy.open(GroupNode(Arc::downgrade(&node))),
            node,
            entries: Arc::default(),
        };
        let of_body = handle.clone();
        let lent = &mut body;
        let strand = pin!(Strand::unopened(async {
            let group = Group { cx: Cx::here(), handle: of_body };
            let Some(body) = lent.take() else { unreachable!("a strand is run once") };
            let error = body(&group).await.error();
            if error.is_some() {
                group.handle.body_failed();
            }
            if P::ENDS_WITH_BODY {
                group.close();
            }
            error
        }));
        let ran = opened.run(strand).await;
        handle.collect(ran).await
    }
}

/// What a group's body may return: nothing, or a `Result<(), E>` with the error type of the group.
#[diagnostic::on_unimplemented(
    message = "the body of a group returns `()` or `Result<(), E>`, not `{Self}`",
    label = "this body returns something else",
    note = "results of tasks are in the group's `Outcome`; other values can be assigned to a variable outside"
)]
pub trait BodyEnd<E> {
    #[doc(hidden)]
    fn error(self) -> Option<E>;
}

impl<E> BodyEnd<E> for () {
    fn error(self) -> Option<E> {
        None
    }
}

impl<E> BodyEnd<E> for Result<(), E> {
    fn error(self) -> Option<E> {
        self.err()
    }
}

/// The type of a body that never returns, as an accept loop: `!`, which has no name of its own in stable Rust.
type Never = <fn() -> ! as Returns>::Value;

#[doc(hidden)]
pub trait Returns {
    type Value;
}

impl<T> Returns for fn() -> T {
    type Value = T;
}

impl<E> BodyEnd<E> for Never {
    fn error(self) -> Option<E> {
        self
    }
}

/// What a group's body sees of its group.
pub struct Group<T, E, P: Policy> {
    cx: Cx,
    handle: GroupHandle<T, E, P>,
}

/// The slots of a group, filled by spawning and read after everybody is gone: task id, name, and how to get the result.
type Entries<T, E> = Mutex<Vec<(u64, &'static str, Entry<T, E>)>>;

enum Entry<T, E> {
    /// On its way to the runtime.
    Listed,
    Spawned(JoinHandle<Option<Slot<T, E>>>),
    Refused(Cancelled),
}

/// Stands for the body where tasks are told apart by their id.
const BODY: u64 = u64::MAX;

impl<T: Send + 'static, E: Send + 'static, P: Policy> Group<T, E, P> {
    /// Spawns a task whose end gets the next slot. If the group is cancelled or closed, `future` is dropped unpolled and
    /// the slot says why.
    ///
    /// A group with a limit has no `spawn`: see [`reserve`](Self::reserve).
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Member
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        P: Unlimited,
    {
        // The body's own context keeps the group open.
        self.handle.spawn_at(name, Location::caller(), (), future).unwrap_or_else(|_| Member::refused())
    }

    /// As `spawn`, for parts of this crate: the task's place is where the user's line is.
    pub(crate) fn spawn_from<F>(
        &self,
        name: &'static str,
        place: &'static Location<'static>,
        future: F,
    ) -> Member
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        P: Unlimited,
    {
        self.handle.spawn_at(name, place, (), future).unwrap_or_else(|_| Member::refused())
    }

    /// Spawns a task and hands ends over to it, as [`Scope::spawn_with`](crate::Scope::spawn_with).
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn_with<A, F>(&self, name: &'static str, carry: A, task: F) -> Member
    where
        A: Carry,
        F: for<'c> AsyncFnOnce(&'c Cx, <A::Packed as Bind>::In<'c>) -> Result<T, E>
            + for<'c> TaskFn<'c, A::Packed, Result<T, E>>
            + Send
            + 'static,
        P: Unlimited,
    {
        self.spawn(name, crate::carry::run_task(carry.pack(), task))
    }

    /// Returns the body's own context.
    pub fn cx(&self) -> &Cx {
        &self.cx
    }

    /// Returns a handle with which tasks, also members, can spawn into the running group.
    pub fn handle(&self) -> GroupHandle<T, E, P> {
        self.handle.clone()
    }

    /// Cancels every task of the group and its body.
    pub fn cancel(&self, reason: &'static str) {
        self.handle.cancel(reason);
    }

    /// Takes no more tasks; those that run go on.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Returns how many tasks have ended how, until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.handle.counts()
    }
}

/// A handle on a group that can be kept anywhere. It does not keep the group open.
pub struct GroupHandle<T, E, P: Policy> {
    node: Arc<Node>,
    entries: Arc<Entries<T, E>>,
    desk: P::Desk,
}

impl<T, E, P: Policy> Clone for GroupHandle<T, E, P> {
    fn clone(&self) -> Self {
        Self { node: Arc::clone(&self.node), entries: Arc::clone(&self.entries), desk: self.desk.clone() }
    }
}

impl<T: Send + 'static, E: Send + 'static, P: Policy> GroupHandle<T, E, P> {
    /// Spawns a task into the group, as [`Group::spawn`].
    ///
    /// # Errors
    ///
    /// [`ScopeClosed`] if the group has ended, is closed or was cancelled; `future` was dropped unpolled.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Result<Member, ScopeClosed>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        P: Unlimited,
    {
        let _open = Node::hold(&self.node); // until the entry is written (invariant 2)
        self.spawn_at(name, Location::caller(), (), future)
    }

    /// Cancels every task of the group and its body.
    pub fn cancel(&self, reason: &'static str) {
        self.node.cancel(CANCEL, &Cause::Requested(reason));
    }

    /// Takes no more tasks; those that run go on.
    pub fn close(&self) {
        self.node.close();
        P::close(&self.desk);
    }

    /// Returns how many tasks have ended how, until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.node.done().counts()
    }

    /// The caller keeps the group open meanwhile.
    fn spawn_at<F>(
        &self,
        name: &'static str,
        place: &'static Location<'static>,
        pass: P::Pass,
        future: F,
    ) -> Result<Member, ScopeClosed>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let future = Ticketed::new(future, P::ticket(&self.desk, pass));
        let record = match list(&self.node, name, place, Kind::Task) {
            Ok(record) => record,
            Err(closed) => {
                // When the group is over, nobody collects any more.
                if P::KEEPS_RESULTS && !self.node.is_gone() {
                    let refused = Entry::Refused(Cancelled::new(closed.cause().clone()));
                    self.entries.lock_unpoisoned().push((0, name, refused));
                }
                return Err(closed);
            }
        };
        let (id, member) = (record.id(), Member::new(&record));
        // The slot first: the task may run, and spawn others, before we are back.
        let at = P::KEEPS_RESULTS.then(|| {
            let mut entries = self.entries.lock_unpoisoned();
            entries.push((id, name, Entry::Listed));
            entries.len() - 1
        });
        // No lock is held here: a runtime that shuts down drops `future` in it, and that is user code.
        let task = spawn_tracked::<_, OfGroup<T, E, P>>(record, future);
        if let Some(at) = at {
            self.entries.lock_unpoisoned()[at].2 = Entry::Spawned(task);
        }
        Ok(member)
    }

    fn body_failed(&self) {
        self.node.note_failed(BODY, &Cause::BodyFailed);
    }

    /// Reads the slots of a group whose tasks are gone. The panic of the body goes on here.
    async fn collect(self, ran: Ran<Option<E>>) -> Outcome<T, E> {
        let body = match ran.body {
            End::Value(error) => error,
            End::Cancelled => None,
            End::Panicked(panic) => panic.resume(),
        };
        let entries = std::mem::take(&mut *self.entries.lock_unpoisoned());
        let done = self.node.done();
        let place_of = |task: u64| entries.iter().position(|(id, ..)| *id == task);
        let votes = P::votes(&self.desk);
        let first_ok = votes.and_then(|votes| votes.first()).and_then(place_of);
        let needed = votes.map(|votes| votes.needed());
        let first_failure = match (done.first_failed(), ran.failure) {
            (Some(BODY), _) => FirstFailure::Body,
            (_, Some(failure)) => FirstFailure::of(failure),
            (Some(task), None) => place_of(task).map_or(FirstFailure::None, FirstFailure::At),
            (None, None) => FirstFailure::None,
        };
        let counts = done.counts();
        let mut slots = Vec::with_capacity(entries.len());
        for (_, name, entry) in entries {
            let slot = match entry {
                // Every task is gone; at most tokio has still to put the result down.
                Entry::Spawned(task) => match task.await {
                    Ok(Some(slot)) => slot,
                    Ok(None) | Err(_) => Slot::Unreleased,
                },
                Entry::Refused(cancelled) => Slot::Cancelled(cancelled),
                // There was no runtime: the call panicked, and its task never ran.
                Entry::Listed => Slot::Unreleased,
            };
            slots.push((name, slot));
        }
        Outcome { slots, counts, body, first_failure, first_ok, needed }
    }
}

impl<T, E: 'static> FirstFailure<T, E> {
    /// What a group that keeps no results left in its node.
    fn of(failure: Failure) -> Self {
        match failure {
            Failure::Panicked(panic) => FirstFailure::Kept(panic.task(), Slot::Panicked(panic)),
            Failure::Error(error) => match error.downcast::<KeptError<E>>() {
                Ok(kept) => FirstFailure::Kept(kept.0, Slot::Failed(kept.1)),
                Err(_) => unreachable!("only tasks of this group put errors there, and all have its type"),
            },
            Failure::Cancelled(_) => FirstFailure::None,
        }
    }
}
