//! What is said of a supervisor and of its children before they start.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Supervisor;
use super::decide::Terms;
use super::life::Life;
use crate::cause::Cancelled;
use crate::scope;

/// Who is stopped and started again when a child fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one that failed: children that know nothing of each other.
    OneForOne,
    /// All of them: children of which none makes sense without the others.
    OneForAll,
    /// The one that failed and those after it: each depends on those before it.
    RestForOne,
}

/// Whether a child that ended by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always: it is to run for ever, and `Ok(())` is an early return, told and counted as such.
    Permanent,
    /// If it failed: an error, a panic, a hang. `Ok(())` says that it is done.
    Transient,
    /// Never. When it has ended its seat is given up.
    Temporary,
}

/// How many restarts after failures, of all children together, a supervisor finds bearable.
///
/// # Examples
///
/// ```
/// use bowline::Restarts;
/// use std::time::Duration;
///
/// let restarts = Restarts::at_most(3).within(Duration::from_secs(60)); // the fourth within a minute is too much
/// assert_eq!(restarts, Restarts::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restarts {
    pub(super) at_most: u32,
    pub(super) within: Duration,
}

impl Restarts {
    /// How many a supervisor bears if nothing is said: enough for a peer that is replaced, too few for a bug that comes back at
    /// once.
    pub const DEFAULT_AT_MOST: u32 = 3;

    /// The window in which they are counted if nothing is said.
    pub const DEFAULT_WITHIN: Duration = Duration::from_secs(60);

    /// Makes a limit of `restarts` per [`DEFAULT_WITHIN`](Self::DEFAULT_WITHIN); zero gives up at the first failure.
    #[must_use]
    pub const fn at_most(restarts: u32) -> Self {
        Self { at_most: restarts, within: Self::DEFAULT_WITHIN }
    }

    /// Counts them in any stretch of `window` instead.
    #[must_use]
    pub const fn within(self, window: Duration) -> Self {
        Self { within: window, ..self }
    }
}

impl Default for Restarts {
    fn default() -> Self {
        Self::at_most(Self::DEFAULT_AT_MOST)
    }
}

pub(super) type Run = Pin<Box<dyn Future<Output = Result<(), ChildError>> + Send>>;

/// What a child of a supervisor fails with: any error, also `anyhow::Error` and a plain text, becomes one by `?`.
pub type ChildError = Box<dyn Error + Send + Sync>;

/// A child as a supervisor is told of it: its name, how it is made, and its terms.
///
/// It is made afresh for every incarnation: the closure is cloned and called. So what it captures is cloned as well; what
/// is to survive a restart is captured by a handle (an `Arc`, a [`FreeRx`](crate::FreeRx)), and what is to begin anew is made
/// inside.
///
/// # Examples
///
/// A child that takes jobs from a queue which outlives its incarnations. A job that was taken and not done goes back to the
/// front of the queue when the incarnation falls, and the next one gets it:
///
/// ```
/// # bowline::testing::example_paused(async {
/// use bowline::{Bound, Cancelled, Child, Overflow, Strategy, Supervisor, scope};
/// use std::time::Duration;
///
/// scope("shop", async |s| {
///     let (tx, rx) = s.queue::<&str>("orders", Bound::items(16), Overflow::Block);
///     let (done, packed) = s.queue("packed", Bound::items(16), Overflow::Block);
///     let (rx, done) = (rx.free(), done.free());
///     let packer = Child::new("packer", async move |life| {
///         while let Some(order) = life.idle(rx.recv_delivery()).await? {
///             if *order == "glass" && order.attempt() == 1 {
///                 panic!("it slipped");
///             }
///             done.send(*order).await?;
///             order.ack();
///             life.beat();
///         }
///         Ok(())
///     });
///     Supervisor::new("packers", Strategy::OneForOne)
///         .child_with(packer.heartbeat(Duration::from_secs(1)))
///         .start(s);
///     for order in ["cup", "glass", "plate"] {
///         tx.send(order).await?;
///     }
///     for order in ["cup", "glass", "plate"] {
///         assert_eq!(packed.recv().await?, Some(order));
///     }
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
#[must_use = "a child does nothing until it is given to a supervisor"]
#[derive(Clone)]
pub struct Child {
    pub(super) name: Cow<'static, str>,
    pub(super) place: &'static Location<'static>,
    pub(super) make: Arc<dyn Fn(Life) -> Run + Send + Sync>,
    pub(super) terms: Terms,
}

impl Child {
    /// How long a child that is asked to go may take before it is aborted, if nothing is said.
    pub const DEFAULT_STOP_WITHIN: Duration = Duration::from_secs(5);

    /// Makes a permanent child.
    ///
    /// `run` is a closure that can be cloned, `async |life| { … }` or `|life| async { … }`; it is given the [`Life`] of its
    /// incarnation. A `loop` without `break` is best: the compiler then sees that a permanent child does not return.
    #[track_caller]
    pub fn new<F, R>(name: impl Into<Cow<'static, str>>, run: F) -> Self
    where
        F: FnOnce(Life) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<(), ChildError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            place: Location::caller(),
            make: Arc::new(move |life| Box::pin(run.clone()(life))),
            terms: Terms {
                restart: Restart::Permanent,
                stop_within: Self::DEFAULT_STOP_WITHIN,
                ready_within: None,
                heartbeat: None,
            },
        }
    }

    /// Makes a permanent child of a whole supervisor: it is ready when its children are, and when it gives up it has failed, which
    /// counts with its parent.
    ///
    /// Its time to stop is that of its children one after the other; [`stop_within`](Self::stop_within) should be longer.
    ///
    /// # Examples
    ///
    /// ```
    /// use bowline::{Child, Restart, Strategy, Supervisor};
    ///
    /// let feeds = Supervisor::new("feeds", Strategy::OneForOne)
    ///     .child("binance", Restart::Permanent, async |_life| loop { bowline::until_cancelled(std::future::pending()).await? });
    /// let all = Supervisor::new("exchange", Strategy::RestForOne).child_with(Child::supervisor(feeds));
    /// # drop(all);
    /// ```
    #[track_caller]
    pub fn supervisor(supervisor: Supervisor) -> Self {
        let name = supervisor.name();
        Self::new(name, move |life: Life| async move {
            let mut started = None;
            let ended = scope(name, async |s| {
                let inner = started.insert(supervisor.start(s));
                inner.wait_ready().await?;
                life.ready();
                Ok::<_, Cancelled>(inner.wait_ended().await?)
            })
            .await;
            // What it came to says more than the cancel that came from it.
            match started.and_then(|inner| inner.gave_up()) {
                Some(gave_up) => Err(gave_up.into()),
                None => Ok(ended?),
            }
        })
    }

    /// Sets whether it is started again when it has ended by itself. Default: [`Restart::Permanent`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.terms.restart = restart;
        self
    }

    /// Sets how long it may take to be gone when it is asked to, before it is aborted. Default:
    /// [`DEFAULT_STOP_WITHIN`](Self::DEFAULT_STOP_WITHIN).
    pub fn stop_within(mut self, limit: Duration) -> Self {
        self.terms.stop_within = limit;
        self
    }

    /// Says that it is ready when it calls [`Life::ready`], and no later than this after its start. Default: it is ready when
    /// it begins to run.
    ///
    /// Those after it are started when it is ready. If it is not in time it has failed: it is stopped and started
    /// again. Under [`Strategy::OneForOne`] the others then wait no longer; under the other two they depend on it, and do.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.terms.ready_within = Some(limit);
        self
    }

    /// Says that it beats at least every `every`, see [`Life::beat`], and has failed when it has missed three. Default: no
    /// beat is expected, as with [`Duration::MAX`].
    ///
    /// # Panics
    ///
    /// If `every` is zero.
    #[track_caller]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        assert!(!every.is_zero(), "nobody beats all the time");
        self.terms.heartbeat = Some(every);
        self
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets go of what it is made of.
    pub(super) fn retire(&mut self) -> Arc<dyn Fn(Life) -> Run + Send + Sync> {
        std::mem::replace(&mut self.make, Arc::new(|_| Box::pin(async { Ok(()) })))
    }

    /// The name of its tasks, which lives for ever as that of every task: a name made at run time has no such form.
    pub(super) fn task_name(&self) -> &'static str {
        match self.name {
            Cow::Borrowed(name) => name,
            Cow::Owned(_) => "child",
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("name", &self.name).field("terms", &self.terms).finish_non_exhaustive()
    }
}
