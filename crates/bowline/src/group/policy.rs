//! What a group does about the ends of its tasks: the policies, and the limit that goes before each of them.
//!
//! A policy is a value at the call of [`group`](crate::group()) and a type everywhere behind it. Once the group is open it
//! has a *desk*, which the body and every handle share; each task holds a *ticket* from the desk until it is gone. Policies
//! that need neither have `()` for both, so they cost nothing.
//!
//! # Invariants
//!
//! 1. A ticket is issued before its task is listed in the node and dropped after the task's future: the desk never counts
//!    fewer tasks than there are.
//! 2. A decision (enough, or out of reach) is taken under the lock of [`Votes`], and acted upon after it.

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cause::Cause;
use crate::node::Node;
use crate::record::{self, CANCEL};
use crate::sync::{Arc, LockExt, Mutex, Weak};

/// What a group does about failures and results: one of [`FailFast`], [`CollectAll`], [`Discard`], [`FirstSuccess`] and
/// [`Quorum`], or one of them [`AtMost`] so many at a time. It cannot be implemented outside of this crate.
pub trait Policy: Rules {}

impl<P: Rules> Policy for P {}

/// A policy under which any number of tasks may run at once: every one but [`AtMost`].
#[diagnostic::on_unimplemented(
    message = "this group runs a limited number of tasks: wait for room with `reserve().await?` and spawn with the permit",
    label = "a group with a limit has no `spawn`"
)]
pub trait Unlimited: Rules<Pass = ()> {}

/// The first error or panic cancels the others.
///
/// Results are kept until the group ends.
#[derive(Clone, Copy, Debug)]
pub struct FailFast;

/// Every task runs to its end, whatever happens to the others.
///
/// Results are kept until the group ends: one that never ends wants [`Discard`].
#[derive(Clone, Copy, Debug)]
pub struct CollectAll;

/// Results are counted and dropped, so memory stays flat over any number of tasks: for accept loops. A failure or panic of one
/// task does not touch the others; the first is kept for [`Outcome::first_failure`](crate::Outcome::first_failure).
#[derive(Clone, Copy, Debug)]
pub struct Discard;

/// The first value cancels the others; failures do not. If all fail, every error is there.
///
/// [`Outcome::first_ok`](crate::Outcome::first_ok) takes the value out.
#[derive(Clone, Copy, Debug)]
pub struct FirstSuccess;

/// So many values are enough: they cancel the others. For replicated writes and votes.
///
/// A quorum has to know who votes, so the end of the body closes the group, and [`Group::close`](crate::Group::close) does
/// so earlier. From then on the others are also cancelled as soon as too few are left to reach it.
/// [`Outcome::quorum`](crate::Outcome::quorum) takes the values out.
#[derive(Clone, Copy, Debug)]
pub struct Quorum(pub usize);

/// A policy for a group that runs so many tasks at once and no more; made by `at_most` of each policy.
#[derive(Clone, Copy, Debug)]
pub struct AtMost<P> {
    policy: P,
    tasks: usize,
}

macro_rules! unlimited {
    ($($policy:ty)*) => {$(
        impl Unlimited for $policy {}

        impl $policy {
            /// Limits the group to so many tasks at once: they are spawned with
            /// [`reserve`](crate::Group::reserve), which waits for room.
            ///
            /// # Panics
            ///
            /// If `tasks` is 0: a limit of nothing is a mistake, and "no limit" is spelled by not asking for one.
            #[must_use]
            #[track_caller]
            pub const fn at_most(self, tasks: usize) -> AtMost<Self> {
                assert!(tasks > 0, "a group that may run 0 tasks never runs one");
                AtMost { policy: self, tasks }
            }
        }
    )*};
}

unlimited! { FailFast CollectAll Discard FirstSuccess Quorum }

/// The inside of a policy. Public in name only, so that [`Policy`] can stand on it.
#[doc(hidden)]
pub trait Rules: Send + Sync + 'static {
    const FAIL_FAST: bool = false;
    const KEEPS_RESULTS: bool = true;
    /// Whether the end of the body closes the group.
    const ENDS_WITH_BODY: bool = false;
    /// What the group's tasks and handles share.
    type Desk: Clone + Send + Sync + 'static;
    /// What a spawner must have got before.
    type Pass: Send + 'static;
    /// What a task holds until it is gone.
    type Ticket: Ticket;

    /// Panics, at the call, if the policy asks for nonsense.
    #[track_caller]
    fn check(&self) {}
    fn open(self, group: GroupNode) -> Self::Desk;
    fn ticket(desk: &Self::Desk, pass: Self::Pass) -> Self::Ticket;
    /// No ticket will be issued any more, but for tasks that are refused.
    fn close(_desk: &Self::Desk) {}
    fn votes(_desk: &Self::Desk) -> Option<&Votes> {
        None
    }
}

#[doc(hidden)]
pub trait Ticket: Send + 'static {
    /// The task came to a value. Called in its own context.
    fn succeeded(&mut self) {}
}

impl Ticket for () {}

macro_rules! rules_without_state {
    ($($policy:ty: $($constant:ident = $value:literal),*;)*) => {$(
        impl Rules for $policy {
            $(const $constant: bool = $value;)*
            type Desk = ();
            type Pass = ();
            type Ticket = ();
            fn open(self, _group: GroupNode) {}
            fn ticket(_desk: &(), _pass: ()) {}
        }
    )*};
}

rules_without_state! {
    FailFast: FAIL_FAST = true;
    CollectAll: ;
    Discard: KEEPS_RESULTS = false;
}

/// The group's node, to cancel it.
#[doc(hidden)]
#[derive(Clone)]
pub struct GroupNode(pub(super) Weak<Node>);

impl GroupNode {
    fn cancel_decided(&self) {
        if let Some(node) = self.0.upgrade() {
            node.cancel(CANCEL, &Cause::Decided);
        }
    }
}

// ---- values that are enough

impl Rules for FirstSuccess {
    type Desk = Arc<Votes>;
    type Pass = ();
    type Ticket = Vote;

    fn open(self, group: GroupNode) -> Arc<Votes> {
        Votes::new(1, group)
    }
    fn ticket(desk: &Arc<Votes>, _pass: ()) -> Vote {
        Votes::vote(desk)
    }
    fn votes(desk: &Arc<Votes>) -> Option<&Votes> {
        Some(desk)
    }
}

impl Rules for Quorum {
    const ENDS_WITH_BODY: bool = true;
    type Desk = Arc<Votes>;
    type Pass = ();
    type Ticket = Vote;

    fn check(&self) {
        assert!(self.0 > 0, "a quorum of 0 asks for nothing");
    }
    fn open(self, group: GroupNode) -> Arc<Votes> {
        Votes::new(self.0, group)
    }
    fn ticket(desk: &Arc<Votes>, _pass: ()) -> Vote {
        Votes::vote(desk)
    }
    fn close(desk: &Arc<Votes>) {
        desk.close();
    }
    fn votes(desk: &Arc<Votes>) -> Option<&Votes> {
        Some(desk)
    }
}

/// How many tasks came to a value, and how many still may.
#[doc(hidden)]
pub struct Votes {
    group: GroupNode,
    needed: usize,
    state: Mutex<Count>,
}

#[derive(Default)]
struct Count {
    values: usize,
    /// Tickets whose task has not come to a value and is not gone.
    out: usize,
    closed: bool,
    /// The task with the first value.
    first: Option<u64>,
}

impl Count {
    fn is_out_of_reach(&self, needed: usize) -> bool {
        self.closed && self.values < needed && self.values + self.out < needed
    }
}

impl Votes {
    fn new(needed: usize, group: GroupNode) -> Arc<Self> {
        Arc::new(Self { group, needed, state: Mutex::default() })
    }

    fn vote(self: &Arc<Self>) -> Vote {
        self.state.lock_unpoisoned().out += 1;
        Vote { votes: Arc::clone(self), is_cast: false }
    }

    fn close(&self) {
        self.change(|count, needed| {
            count.closed = true;
            count.is_out_of_reach(needed)
        });
    }

    fn change(&self, change: impl FnOnce(&mut Count, usize) -> bool) {
        let decided = change(&mut self.state.lock_unpoisoned(), self.needed);
        if decided {
            self.group.cancel_decided();
        }
    }

    pub(super) fn needed(&self) -> usize {
        self.needed
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.state.lock_unpoisoned().first
    }
}

/// One task's vote: for, when it comes to a value; against, when it is gone without one.
#[doc(hidden)]
pub struct Vote {
    votes: Arc<Votes>,
    is_cast: bool,
}

impl Ticket for Vote {
    fn succeeded(&mut self) {
        self.is_cast = true;
        let task = record::with_current(|current| current.map_or(0, |record| record.id()));
        self.votes.change(|count, needed| {
            count.out -= 1;
            count.values += 1;
            count.first.get_or_insert(task);
            count.values == needed
        });
    }
}

impl Drop for Vote {
    fn drop(&mut self) {
        if !self.is_cast {
            self.votes.change(|count, needed| {
                count.out -= 1;
                count.is_out_of_reach(needed)
            });
        }
    }
}

// ---- the limit

impl<P: Unlimited> Rules for AtMost<P> {
    const FAIL_FAST: bool = P::FAIL_FAST;
    const KEEPS_RESULTS: bool = P::KEEPS_RESULTS;
    const ENDS_WITH_BODY: bool = P::ENDS_WITH_BODY;
    type Desk = Limited<P::Desk>;
    type Pass = OwnedSemaphorePermit;
    /// Dropped in this order, after the task's future: the place goes to the next when its destructors have run.
    type Ticket = (P::Ticket, OwnedSemaphorePermit);

    fn check(&self) {
        self.policy.check();
    }
    fn open(self, group: GroupNode) -> Self::Desk {
        let tasks = self.tasks.min(Semaphore::MAX_PERMITS);
        Limited { desk: self.policy.open(group), places: Arc::new(Semaphore::new(tasks)) }
    }
    fn ticket(desk: &Self::Desk, pass: OwnedSemaphorePermit) -> Self::Ticket {
        (P::ticket(&desk.desk, ()), pass)
    }
    fn close(desk: &Self::Desk) {
        P::close(&desk.desk);
    }
    fn votes(desk: &Self::Desk) -> Option<&Votes> {
        P::votes(&desk.desk)
    }
}

impl<K: Ticket> Ticket for (K, OwnedSemaphorePermit) {
    fn succeeded(&mut self) {
        self.0.succeeded();
    }
}

#[doc(hidden)]
#[derive(Clone)]
pub struct Limited<D> {
    desk: D,
    /// A fair line: places are given in the order in which they were first asked for.
    pub(super) places: Arc<Semaphore>,
}

impl<P> AtMost<P> {
    /// The same, for a group whose values are not wanted.
    pub(super) fn without_results(self) -> AtMost<Unkept<P>> {
        AtMost { policy: Unkept(self.policy), tasks: self.tasks }
    }
}

/// A policy whose failures count and whose values are dropped.
pub(super) struct Unkept<P>(P);

impl<P: Unlimited> Unlimited for Unkept<P> {}

impl<P: Unlimited> Rules for Unkept<P> {
    const FAIL_FAST: bool = P::FAIL_FAST;
    const KEEPS_RESULTS: bool = false;
    const ENDS_WITH_BODY: bool = P::ENDS_WITH_BODY;
    type Desk = P::Desk;
    type Pass = ();
    type Ticket = P::Ticket;

    fn check(&self) {
        self.0.check();
    }
    fn open(self, group: GroupNode) -> P::Desk {
        self.0.open(group)
    }
    fn ticket(desk: &P::Desk, pass: ()) -> P::Ticket {
        P::ticket(desk, pass)
    }
    fn close(desk: &P::Desk) {
        P::close(desk);
    }
    fn votes(desk: &P::Desk) -> Option<&Votes> {
        P::votes(desk)
    }
}
