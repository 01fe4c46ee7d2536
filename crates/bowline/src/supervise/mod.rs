//! Supervisors: who starts again what fell, in which order, how often, and when it is too much.
//!
//! A [`Supervisor`] owns children that are to run for as long as the program does. A child that fails - by an error, a panic, a
//! return nobody expected, or by standing still - is started again after a while, alone or with others; if that happens too
//! often the supervisor gives up, which fails its own scope.
//!
//! The rules are in [`decide`], a state machine without tasks; [`drive`] does what it says; [`state`] is what handles, driver and
//! children share.
//!
//! # Who owns what
//!
//! The scope it was started in owns the supervisor's task, a daemon. Below that each incarnation of a child is a task with a
//! scope of its own. Nothing is detached.
//!
//! # Invariants
//!
//! 1. Of a child at most one incarnation lives. The next is started when the scope of the one before is gone: its future was
//!    dropped and everything it owned has ended, also what an abort cut off.
//! 2. A supervisor never waits for a child: it asks, and is told. A child that does not go is aborted after its `stop_within`,
//!    reported as stuck a second later, and stepped over.
//! 3. What was stopped stays stopped, whatever back-off was pending.
//!
//! # What cannot be seen
//!
//! Progress is what the child says it is ([`Life::beat`]). A child that computes without ever awaiting is found only if
//! another thread of the runtime is free to look, and cannot be stopped before it awaits: it is reported as stuck.
//!
//! # End
//!
//! When its scope is cancelled, or comes to its end, the supervisor stops its children one after the other, the last
//! started first, each within its `stop_within`. An abort drops them all where they stand.

mod decide;
mod drive;
mod error;
mod handle;
mod life;
mod report;
mod spec;
mod state;

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use self::decide::Rules;
use self::drive::EndsOver;
pub use self::error::{AddChildError, NoSuchChild, NotRunning, StopChildError};
pub use self::handle::{ChildRef, SupervisorHandle};
pub use self::life::Life;
pub use self::report::{ChildEnd, ChildState, ChildStats, GaveUp, SupervisorStats};
pub use self::spec::{Child, ChildError, Restart, Restarts, Strategy};
use self::state::{Inner, Plan, SUPERVISORS};
use crate::call::Backoff;
use crate::dice;
use crate::owner::{Owner, Tie};

/// Starts children in order, and starts them again when they fail.
///
/// # Examples
///
/// ```
/// # bowline::testing::example_paused(async {
/// # use std::sync::atomic::{AtomicU32, Ordering};
/// # static CALLS: AtomicU32 = AtomicU32::new(0);
/// # async fn feed() -> Result<(), std::io::Error> {
/// #     tokio::time::sleep(std::time::Duration::from_millis(100)).await;
/// #     if CALLS.fetch_add(1, Ordering::Relaxed) == 0 { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
/// # }
/// use bowline::{Cancelled, Child, Restart, Restarts, Strategy, Supervisor, scope};
/// use std::time::Duration;
///
/// scope("prices", async |s| {
///     let kraken = Child::new("kraken", async |life| {
///         life.ready();
///         loop {
///             feed().await?; // an error ends this incarnation, and the next one begins anew
///             life.beat();
///         }
///     });
///     let feeds = Supervisor::new("feeds", Strategy::OneForOne)
///         .intensity(Restarts::at_most(3).within(Duration::from_secs(60)))
///         .child("binance", Restart::Permanent, async |_life| {
///             loop {
///                 feed().await?;
///             }
///         })
///         .child_with(kraken.ready_within(Duration::from_secs(10)).heartbeat(Duration::from_secs(1)))
///         .start(s);
///     feeds.wait_ready().await?;
///     feeds.child("binance").unwrap().wait_beyond(1).await?; // it fell, and runs again
///     feeds.stop("kraken").await?;
///     println!("{}", feeds.stats());
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use = "a supervisor does nothing until it is started"]
#[derive(Clone)]
pub struct Supervisor {
    name: &'static str,
    rules: Rules,
    max_children: usize,
    children: Vec<Child>,
}

impl Supervisor {
    /// The longest wait before the first restart, if nothing is said: what a peer that is replaced needs at least.
    pub const DEFAULT_FIRST_BACKOFF: Duration = Duration::from_millis(100);

    /// The longest wait before any restart, if nothing is said: longer, and people wonder why it does not come back.
    pub const DEFAULT_LONGEST_BACKOFF: Duration = Duration::from_secs(30);

    /// How long a child has to run for its failures to be forgotten by its back-off, if nothing is said: twice the longest
    /// back-off.
    pub const DEFAULT_STABLE_AFTER: Duration = Duration::from_secs(60);

    /// How many children there may be, if nothing is said. All of them are looked at whenever one changes; who has more of
    /// a kind has a pool or a group.
    pub const DEFAULT_MAX_CHILDREN: usize = 1_024;

    /// Makes a supervisor without children.
    pub fn new(name: &'static str, strategy: Strategy) -> Self {
        let backoff = Backoff::exponential(Self::DEFAULT_FIRST_BACKOFF, Self::DEFAULT_LONGEST_BACKOFF);
        Self {
            name,
            rules: Rules {
                strategy,
                restarts: Restarts::default(),
                backoff: Some(backoff),
                stable_after: Self::DEFAULT_STABLE_AFTER,
                draw: dice::up_to,
            },
            max_children: Self::DEFAULT_MAX_CHILDREN,
            children: Vec::new(),
        }
    }

    /// Sets how many restarts after failures are bearable; one more, and it gives up. Default: [`Restarts::default`].
    ///
    /// Restarts that somebody asked for, and those of children that are started again with one that failed, do not count.
    pub fn intensity(mut self, restarts: Restarts) -> Self {
        self.rules.restarts = restarts;
        self
    }

    /// Sets how long a child that fell waits to be started again: exponentially longer with each failure in a row, drawn by lot.
    /// Default: [`DEFAULT_FIRST_BACKOFF`](Self::DEFAULT_FIRST_BACKOFF) to
    /// [`DEFAULT_LONGEST_BACKOFF`](Self::DEFAULT_LONGEST_BACKOFF).
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = Some(backoff);
        self
    }

    /// Sets how long a child has to run for its back-off to begin anew. Default:
    /// [`DEFAULT_STABLE_AFTER`](Self::DEFAULT_STABLE_AFTER).
    pub fn stable_after(mut self, time: Duration) -> Self {
        self.rules.stable_after = time;
        self
    }

    /// Sets how many children there may be, those in its description included. Default:
    /// [`DEFAULT_MAX_CHILDREN`](Self::DEFAULT_MAX_CHILDREN).
    pub fn max_children(mut self, children: usize) -> Self {
        self.max_children = children;
        self
    }

    /// Adds a child without heartbeat, that is ready when it begins to run. See [`Child::new`].
    ///
    /// # Panics
    ///
    /// If there is a child of this name.
    #[track_caller]
    pub fn child<F, R>(self, name: &'static str, restart: Restart, run: F) -> Self
    where
        F: FnOnce(Life) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<(), ChildError>> + Send + 'static,
    {
        self.child_with(Child::new(name, run).restart(restart))
    }

    /// Adds a child.
    ///
    /// # Panics
    ///
    /// If there is a child of this name.
    #[track_caller]
    pub fn child_with(mut self, child: Child) -> Self {
        let is_taken = self.children.iter().any(|known| known.name == child.name);
        assert!(!is_taken, "supervisor `{}` has a child `{}` already", self.name, child.name);
        self.children.push(child);
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Starts the supervisor in a scope, and its children one after the other, each when the one before is ready.
    ///
    /// It is a daemon of the scope: the scope does not stay open for it. If the scope is closed or has ended already, the
    /// handle says so: nothing runs, and [`wait_ready`](SupervisorHandle::wait_ready) and [`add`](SupervisorHandle::add) refuse.
    ///
    /// If it gives up it fails the scope with a [`Cancelled`](crate::Cancelled) of the cause
    /// [`SupervisorGaveUp`](crate::Cause::SupervisorGaveUp); why is in [`SupervisorHandle::gave_up`].
    ///
    /// # Panics
    ///
    /// If it has more children than [`max_children`](Self::max_children), or if called outside of a tokio runtime.
    #[track_caller]
    pub fn start(self, owner: &impl Owner) -> SupervisorHandle {
        let place = Location::caller();
        let Self { name, rules, max_children, children } = self;
        let described = children.len();
        assert!(
            described <= max_children,
            "supervisor `{name}` has {described} children and may have {max_children}"
        );
        let inner = Inner::new(Plan { name, place, rules, max_children, children });
        let over = EndsOver(Arc::clone(&inner));
        let task = {
            let inner = Arc::clone(&inner);
            async move {
                let _over = over;
                drive::supervise(inner).await
            }
        };
        drop(owner.own(name, place, Tie::Serves, task)); // refused, it drops the task, which says that it is over
        SupervisorHandle { inner }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, rules, children, .. } = self;
        f.debug_struct("Supervisor")
            .field("name", name)
            .field("rules", rules)
            .field("children", children)
            .finish()
    }
}

/// Returns the books of all supervisors that live, in the order of their start.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// for supervisor in bowline::supervisors() {
///     println!("{supervisor}");
/// }
/// # });
/// ```
#[must_use]
pub fn supervisors() -> Vec<SupervisorStats> {
    SUPERVISORS.all().iter().map(|inner| inner.stats()).filter(|stats| !stats.ended).collect()
}

/// A supervisor whose rules never look at the clock, for models: they have none.
#[cfg(all(test, bowline_shuttle))]
pub(crate) fn timeless(name: &'static str, strategy: Strategy) -> Supervisor {
    let mut supervisor =
        Supervisor::new(name, strategy).intensity(Restarts::at_most(u32::MAX)).stable_after(Duration::MAX);
    supervisor.rules.backoff = None;
    supervisor
}
