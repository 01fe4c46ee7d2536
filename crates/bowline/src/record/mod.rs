//! The record of one task, or of one strand inside a task, and the thread-local that makes it ambient.
//!
//! A *task* is what a scope spawned. A *strand* is a piece of a task that runs under a context of its own: the body of a
//! scope, the inside of a `timeout` or of `shielded`. Both have a record; the tree alternates: a [`Node`] lists the
//! records below it, a record lists the nodes opened inside it.
//!
//! # Invariants
//!
//! 1. `polls` has one writer at a time (whoever polls the task), so plain loads and stores are enough; it is odd while polled,
//!    and while the future of a task is dropped.
//! 2. The thread-local holds exactly one pointer and is never borrowed while user code runs (polls, wakes, drops).
//! 3. A task's record is ended once, after the task's destructors have run; only then does its node count one less.
//! 4. A parked task can be woken by its bell ([`crate::waker`]) and by waits of ours, of which `leaves` is the number, and by
//!    nothing else. A strand that is polled by its own task is woken with it, and keeps no waker.

mod current;
mod ids;
mod signals;
mod size;
mod waking;
mod weaks;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

pub(crate) use self::current::{
    current, enter, enter_caught, inside_task, replace_current, with_current, with_nearest,
};
pub(crate) use self::ids::next_id;
pub(crate) use self::signals::Signals;
use self::weaks::Weaks;
use crate::cause::{Cancelled, Cause};
use crate::channel::ObservedChannel;
use crate::clock;
use crate::context::{Followed, Followers};
use crate::node::Node;
use crate::queue::ObservedQueue;
use crate::site::Site;
use crate::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{Arc, LockExt, Mutex, Weak};
use crate::wait::Wait;
use crate::waker::Bell;
use crate::watch::{PollTimes, Times};

/// Asked to end at the next await.
pub(crate) const CANCEL: u32 = 1;
/// To be dropped at the next poll, without asking.
pub(crate) const ABORT: u32 = 2;
/// Takes no more tasks (nodes only).
pub(crate) const CLOSED: u32 = 4;

/// Of `Record::has`: a bell.
const BELL: u8 = 1;
/// The bell of a strand was made by a leaf, during the strand's first poll: its waker may be a combinator's.
const IN_DOUBT: u8 = 2;
/// Somebody wanted to wake the task before it had a bell.
const RUNG: u8 = 4;
/// What few tasks need.
const EXTRA: u8 = 8;
/// The strand was polled by another task than its own, and that one's `leaves` says so.
const LENT: u8 = 16;
/// The strand is polled by its task, and woken with it.
const AT_HOME: u8 = 32;
/// The task ended with an error or a panic, which its scope has.
const FAILED: u8 = 64;

/// What `polls` says when the future has ended.
const ENDED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Spawned by a scope, with a future.
    Task,
    /// As `Task`, but the scope does not stay open for it.
    Daemon,
    /// Spawned by a scope, running on the blocking lane.
    Blocking,
    /// Runs inside a task under a context of its own.
    Strand,
}

pub(crate) struct Record {
    id: AtomicU64,
    pub(crate) site: Site,
    /// Where this record is listed and whose cancellation it obeys.
    pub(crate) node: Arc<Node>,
    pub(crate) kind: Kind,
    /// `CANCEL`, `ABORT` of this record alone; the node has its own. Above those the size of the future (`size`).
    flags: AtomicU16,
    /// [`BELL`] and so on, to be asked without the lock of `inside`; changed under it.
    has: AtomicU8,
    born: AtomicU32,
    /// Twice the number of polls, plus one while a poll runs; [`ENDED`] at the end.
    polls: AtomicU32,
    /// What the task waits for: a [`Wait`] packed into a word, 0 if unknown (a foreign future, or running).
    wait: AtomicU64,
    waited_from: AtomicU32,
    /// When the last poll ended, on the coarse clock.
    idle_from: AtomicU32,
    /// Parked waits of ours in this task, its strands included; and how often it is lent, in the upper half (`signals`). Of a record that
    /// belongs to no task of ours: in this strand alone.
    leaves: AtomicU32,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// Of a task that has parked. A strand has one, of its own, if it is polled by somebody else than its task.
    bell: Option<Arc<Bell>>,
    /// Absent until it is needed.
    extra: Option<Box<Extra>>,
}

#[derive(Default)]
struct Extra {
    /// Contexts opened inside this task or strand.
    nested: Weaks<Node>,
    /// Wakers of leaves that are polled with a waker other than the task's (`FuturesUnordered` and the like). Keys rise.
    leaves: VecDeque<(u64, Waker)>,
    next_leaf: u64,
    /// Why this record alone was cancelled.
    cause: Option<Cancelled>,
    /// Who sees from outside that this record was cancelled or has gone.
    followed: Option<Followed>,
    /// Queues created here.
    queues: Weaks<dyn ObservedQueue>,
    /// Other channels created here.
    channels: Weaks<dyn ObservedChannel>,
    /// What the polls took, if that is measured.
    times: Option<Times>,
    /// Sections in progress inside this task that hold off dropping at a cancel (see `Shield`).
    shields: u32,
    /// Of a supervised child: which of its lives this is.
    generation: u64,
}

impl Record {
    pub(crate) fn new(site: Site, node: Arc<Node>, kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            id: AtomicU64::new(next_id()),
            site,
            node,
            kind,
            flags: AtomicU16::new(0),
            has: AtomicU8::new(0),
            born: AtomicU32::new(clock::coarse_millis()),
            polls: AtomicU32::new(0),
            wait: AtomicU64::new(0),
            waited_from: AtomicU32::new(0),
            idle_from: AtomicU32::new(0),
            leaves: AtomicU32::new(0),
            inside: Mutex::default(),
        })
    }

    /// Makes the record of an ended task that of a new one of the same kind, spawned at the same place. Nobody but its list
    /// may hold it. `false` if something was left in it whose drop is user code, or whose makers may come back to it: weak
    /// references to a record lie only with those who also put something into `extra`.
    pub(crate) fn renew(&self, site: Site, kind: Kind) -> bool {
        if self.kind != kind || !self.site.is(site) || self.has(BELL | EXTRA) {
            return false;
        }
        // Relaxed: whoever gets to see the record gets it from the list or the task, and both come after this.
        self.id.store(next_id(), Ordering::Relaxed);
        self.born.store(clock::coarse_millis(), Ordering::Relaxed);
        self.flags.store(0, Ordering::Relaxed);
        self.has.store(0, Ordering::Relaxed);
        self.polls.store(0, Ordering::Relaxed);
        self.wait.store(0, Ordering::Relaxed);
        self.leaves.store(0, Ordering::Relaxed);
        true
    }

    /// The task's identity in the process.
    pub(crate) fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// When it was spawned, on the coarse clock.
    pub(crate) fn born(&self) -> u32 {
        self.born.load(Ordering::Relaxed)
    }

    /// `CANCEL` and `ABORT` as this record sees them: its own and its node's.
    pub(crate) fn flags(&self) -> u32 {
        // Acquire: pairs with the AcqRel in `Node::cancel_because` and `Record::cancel`; whoever sees the flag sees the cause.
        self.own_flags() | self.node.flags()
    }

    fn own_flags(&self) -> u32 {
        u32::from(self.flags.load(Ordering::Acquire)) & (CANCEL | ABORT)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.flags() & (CANCEL | ABORT) != 0
    }

    /// Whether this record was cancelled before its node was, if that was at all.
    pub(crate) fn was_cancelled_alone(&self) -> bool {
        self.own_flags() & CANCEL != 0
    }

    /// Why it was cancelled.
    pub(crate) fn cancelled(&self) -> Cancelled {
        let own = self.look_extra(|extra| extra.cause.clone()).flatten();
        own.or_else(|| self.node.why()).unwrap_or_else(|| Cancelled::new(Cause::Aborted))
    }

    /// What outsiders look at to see that this record was cancelled or has gone.
    pub(crate) fn followers(&self) -> Arc<Followers> {
        let followers =
            self.with_extra(|extra| Arc::clone(extra.followed.get_or_insert_default().followers()));
        fence(Ordering::SeqCst); // pairs with the fence in `wake`
        if self.is_cancelled() {
            followers.raise(|| self.cancelled());
        } else if self.has_ended() {
            // Asked for elsewhere, in a context that had followers before: `give_up` has taken those, under the lock above.
            followers.raise(|| Cancelled::new(Cause::ScopeClosed));
        }
        followers
    }

    /// Cancels (or aborts) this record and every context opened inside it; shielded sections are spared by a cancel.
    ///
    /// The first cause wins: who was cancelled with its node keeps that one, and a cancel adds nothing to it.
    pub(crate) fn cancel(self: &Arc<Self>, bits: u32, cause: &Cause) {
        let own = bits & !self.node.flags();
        if own == 0 {
            return; // the node's cancel has told everybody
        }
        let why = match self.node.why() {
            Some(why) => why,
            None => {
                let why = Cancelled::at(cause.clone(), "task", self.site);
                self.with_extra(|extra| extra.cause.get_or_insert(why).clone())
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "there are two")]
        let flags = own as u16;
        if self.flags.fetch_or(flags, Ordering::AcqRel) & flags == flags {
            return; // everybody was told; to wake them once more would list their leaves once more
        }
        fence(Ordering::SeqCst); // pairs with the fence in `Node::open`
        for node in self.nested() {
            if bits & ABORT != 0 || !node.kind.is_shield() {
                node.cancel_because(bits, &why);
            }
        }
        self.wake();
    }

    /// The future has ended, destructors and all; only adopted work may keep the record.
    #[inline]
    pub(crate) fn mark_ended(&self) {
        // Release: whoever sees the end sees what the last poll did.
        self.polls.store(ENDED, Ordering::Release);
        if self.has(BELL | EXTRA | LENT) {
            self.give_up();
        }
    }

    /// Drops what only a living task needs. The drops are outside the locks: a foreign waker's drop is user code.
    #[cold]
    fn give_up(&self) {
        if self.has(LENT) {
            if let Some(task) = self.task() {
                task.came_back();
            }
        }
        let _left = {
            let mut inside = self.inside.lock_unpoisoned();
            self.change_has(0, BELL | LENT);
            let bell = inside.bell.take();
            let extra = inside.extra.as_mut().map(|extra| {
                let followed = extra.followed.take(); // its drop tells those outside
                (
                    std::mem::take(&mut extra.leaves),
                    std::mem::take(&mut extra.queues),
                    std::mem::take(&mut extra.channels),
                    followed,
                )
            });
            (bell, extra)
        };
    }

    /// To be called before `mark_ended`, if the task comes to an error or a panic that its scope gets.
    #[cold]
    pub(crate) fn mark_failed(&self) {
        let _inside = self.inside.lock_unpoisoned();
        self.change_has(FAILED, 0);
    }

    /// Why it has come to no value.
    pub(crate) fn why_no_value(&self) -> Cancelled {
        if self.has(FAILED) { Cancelled::new(Cause::Failed) } else { self.cancelled() }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.polls.load(Ordering::Relaxed) == ENDED
    }

    /// Takes the record apart; used to unroll long chains of ancestors without recursion.
    pub(crate) fn into_node(self) -> Arc<Node> {
        self.node
    }

    /// Whether the future has not ended, or work adopted from it has not. A handle may keep the record of one that is gone.
    pub(crate) fn is_alive(&self) -> bool {
        // Asked under the lock of a list: nothing is upgraded, or its drop could come to be here.
        !self.has_ended() || self.look_extra(|extra| extra.nested.any_living()) == Some(true)
    }

    // ---- polling

    pub(crate) fn poll_begins(&self) {
        // Plain load and store: one writer (invariant 1). Relaxed: what the poll does is published under the locks of what it
        // is done to, and by the bell's `seen`.
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn poll_ends(&self) {
        self.idle_from.store(clock::coarse_millis(), Ordering::Relaxed); // a load and a store: no clock is read
        // Release: pairs with the Acquire in `signals`; who sees an even number sees the clones of wakers made before it.
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// After a poll that was pending, if polls are timed. A task that ends in its first poll has nobody who could look.
    #[cold]
    pub(crate) fn add_poll_time(&self, took: Duration) {
        self.with_extra(|extra| extra.times.get_or_insert_default().add(took));
    }

    pub(crate) fn poll_times(&self) -> Option<PollTimes> {
        self.look_extra(|extra| extra.times).flatten().map(PollTimes::from)
    }

    pub(crate) fn is_running(&self) -> bool {
        let polls = self.polls.load(Ordering::Relaxed);
        polls != ENDED && polls % 2 == 1
    }

    pub(crate) fn polls(&self) -> u32 {
        self.polls.load(Ordering::Relaxed) / 2
    }

    /// How long ago its last poll ended; none before the first, and while it is polled.
    pub(crate) fn idle(&self) -> Option<Duration> {
        (self.polls() > 0 && !self.is_running()).then(|| clock::since(self.idle_from.load(Ordering::Relaxed)))
    }

    /// This task is a supervised child's life of that number.
    pub(crate) fn set_generation(&self, generation: u64) {
        self.with_extra(|extra| extra.generation = generation);
    }

    pub(crate) fn generation(&self) -> Option<u64> {
        self.look_extra(|extra| extra.generation).filter(|generation| *generation > 0)
    }

    /// The task of ours that this record belongs to, if it is one's.
    pub(crate) fn task(&self) -> Option<&Self> {
        if self.kind == Kind::Strand {
            task_around(self.node.parent()?).map(|task| &**task)
        } else {
            Some(self)
        }
    }

    // ---- waiting, for people to read

    pub(crate) fn set_wait(&self, wait: Wait) {
        self.waited_from.store(clock::coarse_millis(), Ordering::Relaxed);
        self.wait.store(wait.pack(), Ordering::Relaxed);
    }

    pub(crate) fn clear_wait(&self) {
        self.wait.store(0, Ordering::Relaxed);
    }

    pub(crate) fn wait(&self) -> Option<(Wait, u32)> {
        let wait = Wait::unpack(self.wait.load(Ordering::Relaxed))?;
        Some((wait, self.waited_from.load(Ordering::Relaxed)))
    }

    // ---- shields

    pub(crate) fn shield(&self) {
        self.with_extra(|extra| extra.shields += 1);
    }

    /// Returns whether it was the last.
    pub(crate) fn unshield(&self) -> bool {
        self.with_extra(|extra| {
            extra.shields -= 1;
            extra.shields == 0
        })
    }

    /// Mostly changed within the poll before. For what is lowered elsewhere there are fences; see the drop of `Shield`.
    pub(crate) fn is_shielded(&self) -> bool {
        self.look_extra(|extra| extra.shields > 0).unwrap_or_default()
    }

    // ---- what was opened here

    pub(crate) fn list_nested(&self, node: &Arc<Node>) {
        self.with_extra(|extra| extra.nested.insert(Arc::downgrade(node)));
    }

    pub(crate) fn nested(&self) -> Vec<Arc<Node>> {
        self.look_extra(|extra| extra.nested.living()).unwrap_or_default()
    }

    pub(crate) fn list_queue(&self, queue: Weak<dyn ObservedQueue>) {
        self.with_extra(|extra| extra.queues.insert(queue));
    }

    pub(crate) fn queues(&self) -> Vec<Arc<dyn ObservedQueue>> {
        self.look_extra(|extra| extra.queues.living()).unwrap_or_default()
    }

    pub(crate) fn list_channel(&self, channel: Weak<dyn ObservedChannel>) {
        self.with_extra(|extra| extra.channels.insert(channel));
    }

    pub(crate) fn channels(&self) -> Vec<Arc<dyn ObservedChannel>> {
        self.look_extra(|extra| extra.channels.living()).unwrap_or_default()
    }

    /// Changes what few tasks need, and makes it if need be. `change` runs under the lock.
    fn with_extra<R>(&self, change: impl FnOnce(&mut Extra) -> R) -> R {
        let mut inside = self.inside.lock_unpoisoned();
        self.change_has(EXTRA, 0);
        change(inside.extra.get_or_insert_default())
    }

    /// The same, if there is any.
    fn look_extra<R>(&self, look: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        if !self.has(EXTRA) {
            return None; // without the lock
        }
        self.inside.lock_unpoisoned().extra.as_deref_mut().map(look)
    }

    #[inline]
    fn has(&self, any: u8) -> bool {
        // Acquire: pairs with the Release below, for those who do not take the lock afterwards.
        self.has.load(Ordering::Acquire) & any != 0
    }

    /// Under the lock of `inside`, so a load and a store are one step.
    fn change_has(&self, more: u8, less: u8) {
        let has = self.has.load(Ordering::Relaxed);
        self.has.store(has & !less | more, Ordering::Release);
    }

    /// The task this record belongs to: itself, or the task around a strand; around a foreign task's strand there is none of
    /// ours, and the top scope stands for it.
    pub(crate) fn task_id(&self) -> u64 {
        let mut at = self;
        while at.kind == Kind::Strand {
            match at.node.parent() {
                Some(parent) => at = parent,
                None => return at.node.id,
            }
        }
        at.id()
    }
}

/// The task of ours that a record belongs to, if it is one's.
pub(crate) fn task_around(record: &Arc<Record>) -> Option<&Arc<Record>> {
    let mut at = record;
    while at.kind == Kind::Strand {
        at = at.node.parent()?;
    }
    Some(at)
}

#[cfg(all(test, not(any(bowline_loom, bowline_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_no_larger_than_its_size_class() {
        // With the counts of its `Arc` 112 bytes, a class of the allocators. A word more costs 16 bytes per task.
        assert_eq!(size_of::<Record>(), 96);
    }
}
