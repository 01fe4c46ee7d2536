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

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::task::Waker;
use std::time::Duration;

use futures_task::waker;

use crate::cause::{Cancelled, Cause};
use crate::channel::ObservedChannel;
use crate::clock;
use crate::context::{Followed, Followers};
use crate::node::Node;
use crate::put_off;
use crate::queue::ObservedQueue;
use crate::site::Site;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{Arc, LockExt, Mutex, Weak};
use crate::wait::Wait;
use crate::waker::{Bell, Words};
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

/// In `Record::leaves`, one strand or context of this task that is in the hands of another task.
const ONE_LENT: u32 = 1 << 16;

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
    /// `CANCEL`, `ABORT` of this record alone; the node has its own.
    flags: AtomicU8,
    /// [`BELL`] and so on, to be asked without the lock of `inside`; changed under it.
    has: AtomicU8,
    born: AtomicU32,
    /// Twice the number of polls, plus one while a poll runs; [`ENDED`] at the end.
    polls: AtomicU32,
    /// What the task waits for: a [`Wait`] packed into a word, 0 if unknown (a foreign future, or running).
    wait: AtomicU64,
    waited_from: AtomicU32,
    /// Sections in progress inside this task that hold off dropping at a cancel (see `Shield`).
    shields: AtomicU32,
    /// Parked waits of ours in this task, its strands included; and how often it is lent, times [`ONE_LENT`]. Of a record that
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
}

/// References to things that come and go. The dead are swept when they may be half of it: a constant cost per insert.
struct Weaks<T: ?Sized> {
    list: Vec<Weak<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Weaks<T> {
    fn default() -> Self {
        Self { list: Vec::new(), sweep_at: 0 }
    }
}

impl<T: ?Sized> Weaks<T> {
    fn insert(&mut self, one: Weak<T>) {
        if self.list.len() >= self.sweep_at {
            self.list.retain(|known| known.strong_count() > 0);
            self.sweep_at = 2 * self.list.len() + 1;
        }
        self.list.push(one);
    }

    fn any_living(&self) -> bool {
        self.list.iter().any(|known| known.strong_count() > 0)
    }

    fn living(&self) -> Vec<Arc<T>> {
        self.list.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Record {
    pub(crate) fn new(site: Site, node: Arc<Node>, kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            id: AtomicU64::new(next_id()),
            site,
            node,
            kind,
            flags: AtomicU8::new(0),
            has: AtomicU8::new(0),
            born: AtomicU32::new(clock::coarse_millis()),
            polls: AtomicU32::new(0),
            wait: AtomicU64::new(0),
            waited_from: AtomicU32::new(0),
            shields: AtomicU32::new(0),
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
        self.shields.store(0, Ordering::Relaxed);
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
        u32::from(self.flags.load(Ordering::Acquire)) | self.node.flags()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.flags() & (CANCEL | ABORT) != 0
    }

    /// Whether this record was cancelled and its node was not.
    pub(crate) fn was_cancelled_alone(&self) -> bool {
        u32::from(self.flags.load(Ordering::Acquire)) & CANCEL != 0
            && self.node.flags() & (CANCEL | ABORT) == 0
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
    pub(crate) fn cancel(self: &Arc<Self>, bits: u32, cause: &Cause) {
        let why = Cancelled::at(cause.clone(), "task", self.site);
        self.with_extra(|extra| _ = extra.cause.get_or_insert_with(|| why.clone()));
        #[expect(clippy::cast_possible_truncation, reason = "there are two")]
        let flags = bits as u8;
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

    /// The first poll of a task was pending: how to wake it from here on.
    pub(crate) fn hang_bell(&self, bell: Arc<Bell>, task: &Waker) {
        bell.hang(task);
        let was_rung = {
            let mut inside = self.inside.lock_unpoisoned();
            let was_rung = self.has(RUNG);
            self.change_has(BELL, RUNG);
            inside.bell = Some(bell);
            was_rung
        };
        if was_rung {
            self.wake(); // the one who could not do it is gone
        }
    }

    /// A strand is pending that is woken with its task.
    pub(crate) fn remember_nobody(&self) {
        if !self.has(AT_HOME) {
            let stale = {
                let mut inside = self.inside.lock_unpoisoned();
                let in_doubt = self.has(IN_DOUBT);
                self.change_has(AT_HOME, BELL | IN_DOUBT);
                inside.bell.take().map(|stale| (stale, in_doubt))
            };
            self.keep_if_in_doubt(stale);
        }
    }

    /// A strand is pending that is polled by somebody else than its task: how to wake it.
    pub(crate) fn remember_waker(&self, waker: &Waker) {
        let stale = {
            let mut inside = self.inside.lock_unpoisoned();
            let in_doubt = self.has(IN_DOUBT);
            self.change_has(BELL, IN_DOUBT | AT_HOME);
            match &inside.bell {
                Some(known) if known.tells(waker) => return,
                _ => inside.bell.replace(Bell::of(waker.clone())).map(|stale| (stale, in_doubt)),
            }
        };
        self.keep_if_in_doubt(stale);
    }

    /// In the first poll a leaf may have put a combinator's waker down as the strand's (see `remember_leaf`): keep it too.
    fn keep_if_in_doubt(&self, stale: Option<(Arc<Bell>, bool)>) {
        if let Some((stale, true)) = stale {
            self.list_leaf(waker(stale));
        }
    }

    /// Puts down the waker of a parking leaf, which is not the task's own. Returns a key if it has a list entry of its own, to be
    /// taken back later.
    pub(crate) fn remember_leaf(&self, waker: &Waker) -> Option<u64> {
        if self.kind == Kind::Strand {
            let mut inside = self.inside.lock_unpoisoned();
            match &inside.bell {
                Some(known) if known.tells(waker) => return None,
                Some(_) => {}
                None if self.has(AT_HOME) => {}
                // First poll: most probably this is the strand's waker. If not, that is mended when the poll ends.
                None => {
                    inside.bell = Some(Bell::of(waker.clone()));
                    self.change_has(BELL | IN_DOUBT, 0);
                    return None;
                }
            }
        }
        Some(self.list_leaf(waker.clone()))
    }

    fn list_leaf(&self, waker: Waker) -> u64 {
        self.with_extra(|extra| {
            let key = extra.next_leaf;
            extra.next_leaf += 1;
            extra.leaves.push_back((key, waker));
            key
        })
    }

    /// The leaf is polled again, perhaps with another waker: it may have moved from one combinator to another.
    pub(crate) fn renew_leaf(&self, key: u64, waker: &Waker) {
        let stale = self.look_extra(|extra| {
            let at = extra.leaves.binary_search_by_key(&key, |(known, _)| *known).ok()?;
            let known = &mut extra.leaves[at].1;
            (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))
        });
        drop(stale); // outside the lock, as below
    }

    pub(crate) fn forget_leaf(&self, key: u64) {
        let forgotten = self.look_extra(|extra| {
            let at = extra.leaves.binary_search_by_key(&key, |(known, _)| *known).ok()?;
            extra.leaves.remove(at)
        });
        drop(forgotten); // outside the lock: a foreign waker's drop is user code
    }

    /// Wakes the task and every leaf that listens with a waker of its own.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `track`: either we see the waker, or the task sees the flag that was raised before this call.
        fence(Ordering::SeqCst);
        let (bell, leaves, followers) = {
            let inside = self.inside.lock_unpoisoned();
            if inside.bell.is_none() {
                self.change_has(RUNG, 0);
            }
            let extra = inside.extra.as_ref();
            let followers = extra.and_then(|extra| extra.followed.as_ref());
            let followers = followers.map(|followed| Arc::clone(followed.followers()));
            let leaves: Option<Vec<_>> =
                extra.map(|extra| extra.leaves.iter().map(|(_, waker)| waker.clone()).collect());
            (inside.bell.clone(), leaves.unwrap_or_default(), followers)
        };
        if let Some(followers) = followers.filter(|_| self.is_cancelled()) {
            followers.raise(|| self.cancelled());
        }
        match bell {
            Some(bell) => bell.ring(),
            None if self.kind == Kind::Strand => self.wake_task(),
            None => {}
        }
        leaves.into_iter().for_each(Waker::wake);
    }

    /// Wakes the task this strand is polled by.
    fn wake_task(&self) {
        let Some(task) = self.task() else { return };
        let bell = {
            let inside = task.inside.lock_unpoisoned();
            if inside.bell.is_none() {
                task.change_has(RUNG, 0);
            }
            inside.bell.clone()
        };
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    // ---- what a detector on another thread can know

    /// What this task shows of itself. Taken twice and equal, with [`is_quiescent`](Signals::is_quiescent), nothing has happened
    /// in the task in between, and nothing but its `leaves` waits of ours, a cancel, or, if `foreign`, somebody unknown, can wake it.
    pub(crate) fn signals(&self) -> Signals {
        // Acquire: pairs with the Release in `poll_ends`: all that the polls up to here did is seen, clones and leaves.
        let polls = self.polls.load(Ordering::Acquire);
        let leaves = self.leaves.load(Ordering::Relaxed);
        let unknown = Words { wakes: 0, seen: 0, foreign: true };
        let is_task = matches!(self.kind, Kind::Task | Kind::Daemon);
        let words = if is_task && is_between_polls(polls) {
            let inside = self.inside.lock_unpoisoned();
            inside.bell.as_ref().map_or(unknown, Bell::words)
        } else {
            unknown
        };
        Signals {
            polls,
            wakes: words.wakes,
            seen: words.seen,
            leaves,
            foreign: words.foreign || leaves >= ONE_LENT,
        }
    }

    /// A wait of this task has parked.
    pub(crate) fn add_leaf(&self) {
        // Relaxed: in a poll, which `polls` publishes; elsewhere, when a future has moved, a lost moment costs a proof.
        self.leaves.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_leaf(&self) {
        self.leaves.fetch_sub(1, Ordering::Relaxed);
    }

    /// A strand or a context of this task is polled by another: this one cannot be judged by its own words.
    pub(crate) fn went_away(&self) {
        self.leaves.fetch_add(ONE_LENT, Ordering::Relaxed);
    }

    /// As `went_away` of its task, on behalf of this strand, until it ends.
    pub(crate) fn lend(&self) {
        if !self.has(LENT) {
            if let Some(task) = self.task() {
                task.went_away();
                let _inside = self.inside.lock_unpoisoned();
                self.change_has(LENT, 0);
            }
        }
    }

    pub(crate) fn came_back(&self) {
        self.leaves.fetch_sub(ONE_LENT, Ordering::Relaxed);
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
        self.shields.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether it was the last.
    pub(crate) fn unshield(&self) -> bool {
        self.shields.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Relaxed: mostly changed within the poll before. For what is lowered elsewhere there are fences; see the drop of `Shield`.
    pub(crate) fn is_shielded(&self) -> bool {
        self.shields.load(Ordering::Relaxed) > 0
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

/// Whether a task with this `polls` has been polled, and is neither being polled nor gone.
fn is_between_polls(polls: u32) -> bool {
    polls != 0 && polls % 2 == 0
}

/// What a task shows of itself to a detector on another thread; see [`Record::signals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Twice the number of its polls, plus one while it is polled.
    pub(crate) polls: u32,
    /// How often it was woken by somebody unknown, or by a cancel.
    pub(crate) wakes: u32,
    /// `wakes` as its last poll began.
    pub(crate) seen: u32,
    /// Parked waits of ours.
    pub(crate) leaves: u32,
    /// Whether somebody unknown can wake it.
    pub(crate) foreign: bool,
}

impl Signals {
    /// Whether it is parked, and not about to be polled because somebody unknown, or a cancel, has woken it. What a wait of ours has
    /// been granted stands in the books of what it waits at.
    pub(crate) fn is_quiescent(&self) -> bool {
        is_between_polls(self.polls) && self.wakes == self.seen
    }
}

/// How many ids a thread takes from the shared counter at once.
const IDS_PER_BLOCK: u64 = 256;

/// Ids of tasks, strands, nodes and queues: unique in the process, dense enough for people.
pub(crate) fn next_id() -> u64 {
    use std::sync::atomic::AtomicU64; // outlives a model's run
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static BLOCK: std::cell::Cell<(u64, u64)> = const { std::cell::Cell::new((0, 0)) };
    }
    BLOCK.with(|block| {
        let (next, end) = block.get();
        let (next, end) = if next < end {
            (next, end)
        } else {
            let start = NEXT.fetch_add(IDS_PER_BLOCK, Ordering::Relaxed);
            (start + 1, start + 1 + IDS_PER_BLOCK)
        };
        block.set((next + 1, end));
        next
    })
}

// `ManuallyDrop`: a thread-local without a destructor costs no check per access. Nothing is lost by it, since whoever enters
// also leaves.
type Current = RefCell<ManuallyDrop<Option<Arc<Record>>>>;

#[cfg(not(bowline_loom))]
crate::sync::thread_local! {
    static CURRENT: Current = const { RefCell::new(ManuallyDrop::new(None)) };
}
#[cfg(bowline_loom)]
crate::sync::thread_local! {
    static CURRENT: Current = RefCell::new(ManuallyDrop::new(None));
}

/// Makes `record` the ambient one and returns the former.
#[inline]
pub(crate) fn replace_current(record: Option<Arc<Record>>) -> Option<Arc<Record>> {
    CURRENT.with(|current| ManuallyDrop::into_inner(current.replace(ManuallyDrop::new(record))))
}

/// Runs `f` with the record behind `slot` as the ambient one. The pointer is moved, not counted, and moved back even if
/// `f` panics.
#[inline]
pub(crate) fn enter<R>(slot: &mut Option<Arc<Record>>, f: impl FnOnce() -> R) -> R {
    struct Restore<'a> {
        slot: &'a mut Option<Arc<Record>>,
        previous: Option<Arc<Record>>,
    }
    impl Drop for Restore<'_> {
        #[inline]
        fn drop(&mut self) {
            *self.slot = replace_current(self.previous.take());
        }
    }
    put_off::open_all();
    let previous = replace_current(slot.take());
    let _restore = Restore { slot, previous };
    f()
}

/// The record of whoever is being polled on this thread, if it is ours.
pub(crate) fn current() -> Option<Arc<Record>> {
    put_off::open_all();
    CURRENT.with(|current| Option::clone(&current.borrow()))
}

/// Looks at the current record without taking a reference. `look` must not run user code (invariant 2).
#[inline]
pub(crate) fn with_current<R>(look: impl FnOnce(Option<&Arc<Record>>) -> R) -> R {
    put_off::open_all();
    with_nearest(look)
}

/// As [`with_current`], for what contexts that are put off have in common with the one below them: whether it is cancelled and
/// why, whose task it is, and what values there are.
#[inline]
pub(crate) fn with_nearest<R>(look: impl FnOnce(Option<&Arc<Record>>) -> R) -> R {
    CURRENT.with(|current| look(current.borrow().as_ref()))
}

pub(crate) fn inside_task() -> bool {
    CURRENT.with(|current| current.try_borrow().is_ok_and(|current| current.is_some()))
}
