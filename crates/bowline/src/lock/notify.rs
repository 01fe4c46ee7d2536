//! Waking tasks that wait for something to have happened.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use super::core::{Ask, Core, Rule, Stopped, Waiting, Wakes};
use super::ends::{End, Gone, HasEnds, cloned, fronts, rights};
use super::line::{Key, Left, Line, Stage};
use crate::carry::{Bind, Carry, Cx};
use crate::cause::{Cancelled, Cause};
use crate::holders::{FREE, Holders, IN_TRANSIT};
use crate::resource::{Resource, ResourceInfo, ResourceKind, ResourceState, RightFact, Who};
use crate::sync::Arc;
use crate::wait::Op;

/// The listening half of a notification; made by [`Cx::notify`] together with the first [`Notifier`].
///
/// It carries no value: it says "look again". Put it beside the state it speaks of and wait in a loop that checks the state.
/// The right to notify is a thing of its own, held by tasks. That is what makes "nobody will ever notify" a fact that ends
/// the wait.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use bowline::{Cancelled, scope};
///
/// scope("ready", async |s| {
///     let (notifier, changed) = s.cx().notify("ready");
///     let ready = s.cx().share("ready", AtomicBool::new(false));
///     s.spawn_with("starter", (notifier, ready.clone()), async |_cx, (notifier, ready)| {
///         ready.store(true, Ordering::Release);
///         notifier.notify_all();
///         Ok(())
///     });
///     loop {
///         let notified = changed.notified(); // first: a notification from here on counts
///         if ready.load(Ordering::Acquire) {
///             return Ok::<_, Cancelled>(());
///         }
///         notified.await?;
///     }
/// })
/// .await
/// # }).unwrap();
/// ```
pub struct Notify {
    core: Arc<Core<Signal>>,
}

/// One notification may be stored; one to everybody reaches those who wait or have said that they will.
#[derive(Default)]
pub(super) struct Signal {
    stored: bool,
    calls: u64,
    notifiers: Holders,
    gone: bool,
}

/// What a place needs after a call to everybody: dropped unfetched, it owes the notification to nobody.
const CALLED: usize = 0;

pub(crate) fn open<'t>(
    cx: &'t Cx,
    name: &'static str,
    place: &'static Location<'static>,
) -> (Notifier<'t>, Notify) {
    let core = Core::new(name, place, Signal::default());
    (Notifier { end: End::new(&core, cx.task_id()), cx }, Notify { core })
}

impl Signal {
    fn notify_one(&mut self, line: &mut Line, wakes: &mut Wakes) {
        match line.first() {
            Some((key, _)) => wakes.add(line.grant(key)),
            None => self.stored = true,
        }
    }

    fn notify_all(&mut self, line: &mut Line, wakes: &mut Wakes) {
        self.calls += 1;
        while let Some((key, _)) = line.first() {
            line.set_need(key, CALLED);
            wakes.add(line.grant(key));
        }
    }
}

impl Rule for Signal {
    type Pass = ();
    type Refusal = ();

    const KIND: ResourceKind = ResourceKind::Notify;

    fn enter(&mut self, _line: &mut Line, ask: Ask, _who: Who, _wakes: &mut Wakes) -> Option<Result<(), ()>> {
        if ask.calls != self.calls || std::mem::take(&mut self.stored) {
            return Some(Ok(()));
        }
        self.gone.then_some(Err(()))
    }

    fn fetch(&mut self, line: &mut Line, key: Key) {
        line.leave(key);
    }

    fn refusal(&self, _need: usize) -> Option<()> {
        self.gone.then_some(())
    }

    fn left(&mut self, line: &mut Line, left: &Left, wakes: &mut Wakes) {
        if left.stage == Stage::Granted && left.need != CALLED {
            self.notify_one(line, wakes);
        }
    }

    fn state(&self, _line: &Line) -> ResourceState {
        match (self.stored, self.gone) {
            (true, _) => ResourceState::Fired,
            (false, true) => ResourceState::Closed { reason: NOBODY },
            (false, false) => ResourceState::Waiting,
        }
    }

    fn rights(&self) -> Vec<RightFact> {
        rights("notifier", &self.notifiers)
    }
}

const NOBODY: &str = "no notifier is left";

impl HasEnds for Signal {
    fn holders(&mut self) -> &mut Holders {
        &mut self.notifiers
    }

    fn gone(&mut self, line: &mut Line, _end: Gone, left: u32, wakes: &mut Wakes) {
        if left == 0 {
            self.gone = true;
            wakes.add_all(line.call_all());
        }
    }
}

impl Notify {
    /// Waits for a notification.
    ///
    /// It is ready at once if one was stored by [`notify_one`](Notifier::notify_one) while nobody waited. A
    /// [`notify_all`](Notifier::notify_all) counts from the call of this function on, polled or not: make the future, check
    /// the state, then await it, and nothing is missed in between.
    ///
    /// # Cancel safety
    ///
    /// The place in line is taken at the first poll. If the future is dropped, the place is given up, and a `notify_one` that
    /// had reached it goes to the next, or is stored.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Cancelled`] if the context was cancelled; [`NotifyError::NoNotifier`] if nobody is left who could
    /// notify: waiting again is in vain.
    #[track_caller]
    pub fn notified(&self) -> impl Future<Output = Result<(), NotifyError>> {
        let calls = self.core.with(|state, _| state.rule.calls);
        let ask = Ask { op: Op::Notified, need: 1, calls };
        let lies_at = std::ptr::from_ref(self).addr();
        Waiting::new(&self.core, ask, Location::caller(), true, lies_at).then(|passed| {
            passed.map_err(|stopped| match stopped {
                Stopped::Cancelled(cancelled) => NotifyError::Cancelled(cancelled),
                Stopped::Refused(()) => NotifyError::NoNotifier,
            })
        })
    }

    /// Returns who holds notifiers, who waits, and how often somebody had to.
    #[must_use]
    pub fn stats(&self) -> ResourceInfo {
        self.core.facts().into()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").field("name", &self.core.site.name).finish_non_exhaustive()
    }
}

fronts! {
    Signal, "notify",
    /// The right to notify, held by a task. Dropping it notifies nobody; when the last is gone, those who wait are told so.
    ///
    /// Clone it for this task, hand clones to others with [`spawn_with`](crate::Scope::spawn_with).
    Notifier, FreeNotifier
}

cloned!(Notifier, FreeNotifier);

macro_rules! notifying {
    ($($front:tt)*) => {
        impl $($front)* {
            /// Wakes the first in line; if nobody waits, the notification is stored for who comes next. One is stored at most.
            pub fn notify_one(&self) {
                self.end.core.with(|state, wakes| state.rule.notify_one(&mut state.line, wakes));
            }

            /// Wakes everybody who waits, or has called [`Notify::notified`] and not awaited it yet. Nothing is stored.
            pub fn notify_all(&self) {
                self.end.core.with(|state, wakes| state.rule.notify_all(&mut state.line, wakes));
            }
        }
    };
}

notifying!(Notifier<'_>);
notifying!(FreeNotifier);

/// Why a wait for a notification ended without one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotifyError {
    /// The context was cancelled.
    Cancelled(Cancelled),
    /// Every [`Notifier`] is gone: none will ever come. Look at the state a last time, and end.
    NoNotifier,
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::NoNotifier => f.write_str(NOBODY),
        }
    }
}

impl std::error::Error for NotifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::NoNotifier => None,
        }
    }
}

impl From<NotifyError> for Cancelled {
    fn from(error: NotifyError) -> Self {
        match error {
            NotifyError::Cancelled(cancelled) => cancelled,
            NotifyError::NoNotifier => Cancelled::new(Cause::Refused(NOBODY)),
        }
    }
}
