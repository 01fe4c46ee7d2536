//! The record of one task, or of one strand inside a task, and the thread-local that makes it ambient.
//!
//! A *task* is what a scope spawned. A *strand* is a piece of a task that runs under a context of its own: the body of a
//! scope, the inside of a `timeout` or of `shielded`. Both have a record; the tree alternates: a [`Node`] lists the
//! records below it, a record lists the nodes opened inside it.
//!
//! # Invariants
//!
//! 1. `polls` has one writer at a time (whoever polls the task), so plain loads and stores are enough; it is odd while polled.
//! 2. The thread-local holds exactly one pointer and is never borrowed while user code runs (polls, wakes, drops).
//! 3. A task's record is ended once, after the task's destructors have run; only then does its node count one less.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::task::Waker;

use crate::cause::{Cancelled, Cause};
use crate::channel::ObservedChannel;
use crate::clock;
use crate::context::{Followed, Followers};
use crate::node::Node;
use crate::put_off;
use crate::queue::ObservedQueue;
use crate::site::Site;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::{Arc, LockExt, Mutex, OnceLock, Weak};
use crate::wait::Wait;

/// Asked to end at the next await.
pub(crate) const CANCEL: u32 = 1;
/// To be dropped at the next poll, without asking.
pub(crate) const ABORT: u32 = 2;
/// Takes no more tasks (nodes only).
pub(crate) const CLOSED: u32 = 4;

/// Of `Record::waker_is`: no waker was stored yet.
const NO_WAKER: u8 = 0;
/// A leaf stored one during the first poll; it may be a combinator's.
const PERHAPS_TASKS: u8 = 1;
/// The waker with which the task's root was polled.
const TASKS: u8 = 2;

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
    born: AtomicU32,
    /// `CANCEL`, `ABORT` of this record alone; the node has its own.
    pub(crate) flags: AtomicU32,
    /// Twice the number of polls, plus one while a poll runs; [`ENDED`] at the end.
    polls: AtomicU32,
    /// What the task waits for: a [`Wait`] packed into a word, 0 if unknown (a foreign future, or running).
    wait: AtomicU64,
    waited_from: AtomicU32,
    /// Sections in progress inside this task that hold off dropping at a cancel (see `Shield`).
    shields: AtomicU32,
    waker: Mutex<Option<Waker>>,
    /// Whether `waker` was set, and whether it is certainly the task's: [`NO_WAKER`] and so on. Asked without the lock.
    waker_is: AtomicU8,
    /// What few tasks need; absent until then.
    extra: OnceLock<Box<Mutex<Extra>>>,
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
            born: AtomicU32::new(clock::coarse_millis()),
            flags: AtomicU32::new(0),
            polls: AtomicU32::new(0),
            wait: AtomicU64::new(0),
            waited_from: AtomicU32::new(0),
            shields: AtomicU32::new(0),
            waker: Mutex::new(None),
            waker_is: AtomicU8::new(NO_WAKER),
            extra: OnceLock::new(),
        })
    }

    /// Makes the record of an ended task that of a new one of the same kind, spawned at the same place. Nobody but its list
    /// may hold it. `false` if something was left in it whose drop is user code, or whose makers may come back to it: weak
    /// references to a record lie only with those who also put something into `extra`.
    pub(crate) fn renew(&self, site: Site, kind: Kind) -> bool {
        let has_waker = self.waker_is.load(Ordering::Relaxed) != NO_WAKER;
        if self.kind != kind || !self.site.is(site) || has_waker || self.extra.get().is_some() {
            return false;
        }
        // Relaxed: whoever gets to see the record gets it from the list or the task, and both come after this.
        self.id.store(next_id(), Ordering::Relaxed);
        self.born.store(clock::coarse_millis(), Ordering::Relaxed);
        self.flags.store(0, Ordering::Relaxed);
        self.polls.store(0, Ordering::Relaxed);
        self.wait.store(0, Ordering::Relaxed);
        self.shields.store(0, Ordering::Relaxed);
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
        self.flags.load(Ordering::Acquire) | self.node.flags()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.flags() & (CANCEL | ABORT) != 0
    }

    /// Whether this record was cancelled and its node was not.
    pub(crate) fn was_cancelled_alone(&self) -> bool {
        self.flags.load(Ordering::Acquire) & CANCEL != 0 && self.node.flags() & (CANCEL | ABORT) == 0
    }

    /// Why it was cancelled.
    pub(crate) fn cancelled(&self) -> Cancelled {
        let own = self.extra.get().and_then(|extra| extra.lock_unpoisoned().cause.clone());
        own.or_else(|| self.node.why()).unwrap_or_else(|| Cancelled::new(Cause::Aborted))
    }

    /// What outsiders look at to see that this record was cancelled or has gone.
    pub(crate) fn followers(&self) -> Arc<Followers> {
        let followers = {
            let mut extra = self.extra().lock_unpoisoned();
            Arc::clone(extra.followed.get_or_insert_default().followers())
        };
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
        self.extra().lock_unpoisoned().cause.get_or_insert_with(|| why.clone());
        if self.flags.fetch_or(bits, Ordering::AcqRel) & bits == bits {
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
        // Relaxed: shown to people; nobody decides by it.
        self.polls.store(ENDED, Ordering::Relaxed);
        // Relaxed: whoever polled this task last stored the waker.
        if self.waker_is.load(Ordering::Relaxed) != NO_WAKER || self.extra.get().is_some() {
            self.give_up();
        }
    }

    /// Drops what only a living task needs. The drops are outside the locks: a foreign waker's drop is user code.
    #[cold]
    fn give_up(&self) {
        let _waker = {
            let mut waker = self.waker.lock_unpoisoned();
            self.waker_is.store(NO_WAKER, Ordering::Relaxed);
            waker.take()
        };
        let _left = self.extra.get().map(|extra| {
            let mut extra = extra.lock_unpoisoned();
            let followed = extra.followed.take(); // its drop tells those outside
            (
                std::mem::take(&mut extra.leaves),
                std::mem::take(&mut extra.queues),
                std::mem::take(&mut extra.channels),
                followed,
            )
        });
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
        !self.has_ended() || self.extra.get().is_some_and(|extra| extra.lock_unpoisoned().nested.any_living())
    }

    // ---- polling

    pub(crate) fn poll_begins(&self) {
        // Relaxed plain load and store: one writer (invariant 1), read as a statistic.
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn poll_ends(&self) {
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub(crate) fn is_running(&self) -> bool {
        let polls = self.polls.load(Ordering::Relaxed);
        polls != ENDED && polls % 2 == 1
    }

    pub(crate) fn polls(&self) -> u32 {
        self.polls.load(Ordering::Relaxed) / 2
    }

    /// Remembers how to wake this task; called when a poll returns `Pending`.
    pub(crate) fn remember_waker(&self, waker: &Waker) {
        // The root of a task is always polled with the same waker. A strand moves with the future it lies in.
        if matches!(self.kind, Kind::Task | Kind::Daemon) && self.waker_is.load(Ordering::Relaxed) == TASKS {
            return;
        }
        let stale = {
            let mut slot = self.waker.lock_unpoisoned();
            let in_doubt = self.waker_is.load(Ordering::Relaxed) == PERHAPS_TASKS;
            self.waker_is.store(TASKS, Ordering::Relaxed);
            match &*slot {
                Some(known) if known.will_wake(waker) => return,
                _ => slot.replace(waker.clone()).map(|stale| (stale, in_doubt)),
            }
        };
        // In the first poll a leaf may have put a combinator's waker here (see `remember_leaf`): keep it too.
        if let Some((stale, true)) = stale {
            self.list_leaf(stale);
        }
    }

    /// Puts down the waker of a parking leaf. Returns a key if it has a list entry of its own, to be taken back later.
    pub(crate) fn remember_leaf(&self, waker: &Waker) -> Option<u64> {
        {
            let mut slot = self.waker.lock_unpoisoned();
            match &*slot {
                Some(known) if known.will_wake(waker) => return None,
                Some(_) => {}
                // First poll: most probably this is the task's waker. If not, `remember_waker` mends it when the poll ends.
                None => {
                    *slot = Some(waker.clone());
                    self.waker_is.store(PERHAPS_TASKS, Ordering::Relaxed);
                    return None;
                }
            }
        }
        Some(self.list_leaf(waker.clone()))
    }

    fn list_leaf(&self, waker: Waker) -> u64 {
        let mut extra = self.extra().lock_unpoisoned();
        let key = extra.next_leaf;
        extra.next_leaf += 1;
        extra.leaves.push_back((key, waker));
        key
    }

    /// The leaf is polled again, perhaps with another waker: it may have moved from one combinator to another.
    pub(crate) fn renew_leaf(&self, key: u64, waker: &Waker) {
        let stale = self.extra.get().and_then(|extra| {
            let mut extra = extra.lock_unpoisoned();
            let at = extra.leaves.binary_search_by_key(&key, |(known, _)| *known).ok()?;
            let known = &mut extra.leaves[at].1;
            (!known.will_wake(waker)).then(|| std::mem::replace(known, waker.clone()))
        });
        drop(stale); // outside the lock, as below
    }

    pub(crate) fn forget_leaf(&self, key: u64) {
        let forgotten = self.extra.get().and_then(|extra| {
            let mut extra = extra.lock_unpoisoned();
            let at = extra.leaves.binary_search_by_key(&key, |(known, _)| *known).ok()?;
            extra.leaves.remove(at)
        });
        drop(forgotten); // outside the lock: a foreign waker's drop is user code
    }

    /// Wakes the task and every leaf that listens with a waker of its own.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `track`: either we see the waker, or the task sees the flag that was raised before this call.
        fence(Ordering::SeqCst);
        // Taken, not cloned: the task puts its waker down again when it parks after this.
        let task = {
            let mut waker = self.waker.lock_unpoisoned();
            self.waker_is.store(NO_WAKER, Ordering::Relaxed);
            waker.take()
        };
        let (leaves, followers): (Vec<Waker>, _) = match self.extra.get() {
            Some(extra) => {
                let extra = extra.lock_unpoisoned();
                let followers = extra.followed.as_ref().map(|followed| Arc::clone(followed.followers()));
                (extra.leaves.iter().map(|(_, waker)| waker.clone()).collect(), followers)
            }
            None => (Vec::new(), None),
        };
        if let Some(followers) = followers.filter(|_| self.is_cancelled()) {
            followers.raise(|| self.cancelled());
        }
        for waker in task.into_iter().chain(leaves) {
            waker.wake();
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

    fn extra(&self) -> &Mutex<Extra> {
        self.extra.get_or_init(Box::default)
    }

    pub(crate) fn list_nested(&self, node: &Arc<Node>) {
        self.extra().lock_unpoisoned().nested.insert(Arc::downgrade(node));
    }

    pub(crate) fn nested(&self) -> Vec<Arc<Node>> {
        match self.extra.get() {
            Some(extra) => extra.lock_unpoisoned().nested.living(),
            None => Vec::new(),
        }
    }

    pub(crate) fn list_queue(&self, queue: Weak<dyn ObservedQueue>) {
        self.extra().lock_unpoisoned().queues.insert(queue);
    }

    pub(crate) fn queues(&self) -> Vec<Arc<dyn ObservedQueue>> {
        match self.extra.get() {
            Some(extra) => extra.lock_unpoisoned().queues.living(),
            None => Vec::new(),
        }
    }

    pub(crate) fn list_channel(&self, channel: Weak<dyn ObservedChannel>) {
        self.extra().lock_unpoisoned().channels.insert(channel);
    }

    pub(crate) fn channels(&self) -> Vec<Arc<dyn ObservedChannel>> {
        match self.extra.get() {
            Some(extra) => extra.lock_unpoisoned().channels.living(),
            None => Vec::new(),
        }
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
