//! The waker a task is polled with, which is ours: it tells who else can wake the task.
//!
//! Whatever a foreign future waits for - a socket, a timer, another library's channel - it can wake its task only through a
//! clone of the waker it was polled with. So each task is polled with a waker of its own, of which we know how many references
//! are ours; any more are in foreign hands, and without any, nothing but our own waits can wake the task. Those never clone it:
//! [`leaf`] lends them the runtime's waker of the same task, behind ours.
//!
//! # Who owns what
//!
//! A [`Bell`] is what the waker rings. It costs an allocation, so a first poll borrows that of its thread; a task that ends in
//! its first poll gives it back, and one that parks keeps it: the task's future and its record have a reference each.
//!
//! # Invariants
//!
//! 1. `wakes` is counted up before the runtime is told. A poll stores in `seen` the count it begins with: if they are equal
//!    between two polls, no wake-up through the bell is under way that the last poll did not know of. A task that rings its own
//!    bell, within its poll, takes one from `seen` instead, which nobody else writes: `wakes` only rises, so they stay different
//!    until the next poll. That saves the atomic operation, the dearest part of a poll that wakes itself.
//! 2. The runtime's waker is hung into the bell once, when the first poll of the task is over, and never changed: the runtime polls a
//!    task, which never moves from one to another, with the same waker each time.
//! 3. What [`is_own`] says holds for the innermost task that is polled on this thread, as long as it is; where a context is entered
//!    by somebody else's task nothing is "own" ([`disown`]), and every wait there counts as foreign.
//!
//! # End
//!
//! A clone may outlive its task. Then it keeps the bell, and through it the runtime's memory of the task, as any waker does.

use std::cell::Cell;
use std::task::{Context, Waker};

use futures_task::{ArcWake, waker_ref};
use tokio::task::coop::has_budget_remaining;

use crate::sync::atomic::{AtomicU32, Ordering, fence};
use crate::sync::{Arc, OnceLock};

/// References to the bell of a parked task that are ours: that of its future, and that of its record.
const OURS: usize = 2;

/// What a waker of ours rings.
pub(crate) struct Bell {
    /// How often it was rung. It wraps.
    wakes: AtomicU32,
    /// `wakes` as the last poll began, less the rings by the task itself since then.
    seen: AtomicU32,
    /// Whom it tells.
    task: OnceLock<Waker>,
}

/// What a bell says of its task; see [`Bell::words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) wakes: u32,
    pub(crate) seen: u32,
    /// Whether somebody we do not know can ring it.
    pub(crate) foreign: bool,
}

impl ArcWake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring(); // before the reference goes: who sees that it went sees the count
    }

    fn wake_by_ref(bell: &Arc<Self>) {
        bell.ring();
    }
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self { wakes: AtomicU32::new(0), seen: AtomicU32::new(0), task: OnceLock::new() })
    }

    /// A bell that tells whoever `waker` wakes; for pieces of a task that are polled with another waker than the task's.
    pub(crate) fn of(waker: Waker) -> Arc<Self> {
        let bell = Self::new();
        let _ = bell.task.set(waker);
        bell
    }

    pub(crate) fn ring(&self) {
        // A thread that is ending may ring bells of others from its destructors; a model checker takes this away before.
        let own_at = OWN_AT.try_with(Cell::get).unwrap_or(0);
        if own_at == std::ptr::from_ref(self).addr() {
            // By the task itself (invariant 1). Relaxed: published by the end of the poll, as all that it does.
            self.seen.store(self.seen.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
        } else {
            // Release: whoever reads the count finds what the wake-up is about. Acquire: pairs with `hang`; rung after it,
            // there is somebody to tell, and rung before it, `hang` reads the count.
            self.wakes.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// Tells `task` from now on, and now if the bell was rung during the poll before.
    pub(crate) fn hang(&self, task: &Waker) {
        let _ = self.task.set(task.clone());
        // An addition, not a load: of two changes of one word one is the later, and sees what was before the other.
        let wakes = self.wakes.fetch_add(0, Ordering::AcqRel);
        if wakes != self.seen.load(Ordering::Relaxed) {
            task.wake_by_ref();
        }
    }

    pub(crate) fn tells(&self, waker: &Waker) -> bool {
        self.task.get().is_some_and(|known| known.will_wake(waker))
    }

    /// The words of the bell of a parked task, for whoever holds no reference of their own.
    pub(crate) fn words(self: &Arc<Self>) -> Words {
        let foreign = Arc::strong_count(self) > OURS;
        // Acquire: a clone that has gone was counted in `wakes` before it went, if it rang. Nobody can make a clone of none, but
        // the task in a poll, which its record shows.
        fence(Ordering::Acquire);
        let wakes = self.wakes.load(Ordering::Acquire);
        Words { wakes, seen: self.seen.load(Ordering::Acquire), foreign }
    }
}

type Spare = Cell<Option<Arc<Bell>>>;
/// The address of the bell whose waker the innermost poll was given, 0 if there is none.
type OwnAt = Cell<usize>;

#[cfg(not(bowline_loom))]
crate::sync::thread_local! {
    static SPARE: Spare = const { Cell::new(None) };
}
#[cfg(not(bowline_loom))]
crate::sync::thread_local! {
    static OWN_AT: OwnAt = const { Cell::new(0) };
}
#[cfg(bowline_loom)]
crate::sync::thread_local! {
    static SPARE: Spare = Cell::new(None);
    static OWN_AT: OwnAt = Cell::new(0);
}

/// Polls a task with the waker of the bell in `own`, which in its first poll is the thread's.
///
/// `poll` does not panic: it catches its own.
#[inline]
pub(crate) fn lend<R>(
    own: &mut Option<Arc<Bell>>,
    task: &Waker,
    poll: impl FnOnce(&mut Context<'_>) -> R,
) -> R {
    let bell = own.get_or_insert_with(|| SPARE.with(Cell::take).unwrap_or_else(Bell::new));
    // Release: whoever reads it sees that `polls`, stored before, is odd.
    bell.seen.store(bell.wakes.load(Ordering::Acquire), Ordering::Release);
    let waker = waker_ref(bell);
    let before = OWN_AT.with(|at| at.replace(waker.data().addr()));
    let polled = behind::set(task, || poll(&mut Context::from_waker(&waker)));
    OWN_AT.with(|at| at.set(before));
    polled
}

/// After a first poll in which the task ended: the next one on this thread gets the bell.
#[inline]
pub(crate) fn give_back(own: &mut Option<Arc<Bell>>) {
    // If there are clones left, somebody may ring it for the task that has ended.
    if own.as_ref().is_some_and(|bell| Arc::strong_count(bell) == 1) {
        SPARE.with(|spare| spare.set(own.take()));
    }
}

/// While it lives, nothing on this thread is the task's own (invariant 3).
pub(crate) struct Disowned {
    before: usize,
}

pub(crate) fn disown() -> Disowned {
    Disowned { before: OWN_AT.with(|at| at.replace(0)) }
}

impl Drop for Disowned {
    fn drop(&mut self) {
        OWN_AT.with(|at| at.set(self.before));
    }
}

/// Whether this is the waker that the task polled on this thread was given.
#[inline]
pub(crate) fn is_own(waker: &Waker) -> bool {
    OWN_AT.with(Cell::get) == waker.data().addr() && !waker.data().is_null()
}

/// Lends the waker that a wait of ours is to put down: the runtime's, where the task has its own, so that the wait does not count
/// as foreign; behind another combinator, that one's.
#[inline]
pub(crate) fn leaf<R>(cx: &Context<'_>, look: impl FnOnce(&Waker) -> R) -> R {
    if is_own(cx.waker()) { behind::with(look) } else { look(cx.waker()) }
}

/// The same, to keep.
#[inline]
pub(crate) fn leaf_waker(cx: &Context<'_>) -> Waker {
    leaf(cx, Waker::clone)
}

/// The same if it is the runtime's, whose clone is a count and no code of somebody else's.
#[inline]
pub(crate) fn own_leaf_waker(cx: &Context<'_>) -> Option<Waker> {
    is_own(cx.waker()).then(|| behind::with(Waker::clone))
}

/// Polls something of the runtime's that a wait of ours is made of, and knows in another way when it is ready.
pub(crate) fn quietly<R>(cx: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
    let quiet = quiet(cx);
    poll(&mut Context::from_waker(quiet.as_ref().unwrap_or(cx.waker())))
}

/// The waker to do so with, if it is not that of `cx`.
#[cold]
pub(crate) fn quiet(cx: &Context<'_>) -> Option<Waker> {
    // What is out of budget wakes its task at once: that has to count.
    (is_own(cx.waker()) && has_budget_remaining()).then(|| behind::with(Waker::clone))
}

/// The runtime's waker of the task that is polled on this thread, behind ours.
#[cfg(not(any(bowline_loom, bowline_shuttle)))]
mod behind {
    use std::task::Waker;

    // A reference that ends with the poll: to clone it for each first poll would cost two atomic operations.
    scoped_tls::scoped_thread_local!(static BEHIND: Waker);

    #[inline]
    pub(super) fn set<R>(task: &Waker, poll: impl FnOnce() -> R) -> R {
        BEHIND.set(task, poll)
    }

    #[inline]
    pub(super) fn with<R>(look: impl FnOnce(&Waker) -> R) -> R {
        BEHIND.with(look)
    }
}

/// The same for model checkers, which run several threads on one.
#[cfg(any(bowline_loom, bowline_shuttle))]
mod behind {
    use std::cell::RefCell;
    use std::task::Waker;

    type Behind = RefCell<Option<Waker>>;

    crate::sync::thread_local! {
        static BEHIND: Behind = RefCell::new(None);
    }

    pub(super) fn set<R>(task: &Waker, poll: impl FnOnce() -> R) -> R {
        let before = BEHIND.with(|behind| behind.replace(Some(task.clone())));
        let polled = poll();
        BEHIND.with(|behind| behind.replace(before));
        polled
    }

    pub(super) fn with<R>(look: impl FnOnce(&Waker) -> R) -> R {
        let waker = BEHIND.with(|behind| behind.borrow().clone());
        let Some(waker) = waker else { unreachable!("asked within a poll that has set it") };
        look(&waker)
    }
}

#[cfg(all(test, not(any(bowline_loom, bowline_shuttle))))]
mod tests;
