//! A gate that opens for ever when everything that holds it shut is gone.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use super::core::{Ask, Core, Rule, Stopped, Waiting, Wakes};
use super::ends::{End, Gone, HasEnds, cloned, fronts, rights};
use super::line::{Key, Left, Line};
use crate::carry::{Bind, Carry, Cx};
use crate::cause::Cancelled;
use crate::holders::{FREE, Holders, IN_TRANSIT};
use crate::resource::{Resource, ResourceInfo, ResourceKind, ResourceState, RightFact, Who};
use crate::sync::Arc;
use crate::wait::Op;

/// A gate that is shut while anybody holds a [`Count`] of it, and open for ever after; made by [`Cx::latch`] together with
/// the first count.
///
/// It is a wait group without its races: a count comes only from a count, so none can be added after the gate has opened; and
/// it is given back by being dropped, so it cannot be given back twice, nor be missed by an early return, a cancel
/// or a panic. (The panic itself reaches the owner of its task; a latch says "gone", not "succeeded".)
///
/// To wait for *tasks*, a [`scope`](crate::scope()) is enough. A latch is for a phase inside tasks that go on.
///
/// # Examples
///
/// ```
/// # bowline::testing::example(async {
/// use bowline::{Cancelled, scope};
///
/// scope("start", async |s| {
///     let (count, started) = s.cx().latch("started");
///     for _ in 0..3 {
///         s.spawn_with("worker", count.clone(), async |_cx, count| {
///             drop(count); // it is up
///             bowline::cancelled().await;
///             Ok(())
///         });
///     }
///     drop(count); // ours: without it the gate would wait for this task too
///     started.wait().await?;
///     s.cancel("seen");
///     Ok::<_, Cancelled>(())
/// })
/// .await
/// # }).unwrap();
/// ```
pub struct Latch {
    core: Arc<Core<Counts>>,
}

#[derive(Default)]
pub(super) struct Counts {
    holders: Holders,
    open: bool,
}

const WAIT: Ask = Ask { op: Op::Latch, need: 1, calls: 0 };

pub(crate) fn open<'t>(
    cx: &'t Cx,
    name: &'static str,
    place: &'static Location<'static>,
) -> (Count<'t>, Latch) {
    let core = Core::new(name, place, Counts::default());
    (Count { end: End::new(&core, cx.task_id()), cx }, Latch { core })
}

impl Rule for Counts {
    type Pass = ();
    type Refusal = std::convert::Infallible;

    const KIND: ResourceKind = ResourceKind::Latch;

    fn enter(
        &mut self,
        _line: &mut Line,
        _ask: Ask,
        _who: Who,
        _wakes: &mut Wakes,
    ) -> Option<Result<(), Self::Refusal>> {
        self.open.then_some(Ok(()))
    }

    fn fetch(&mut self, line: &mut Line, key: Key) {
        line.leave(key);
    }

    fn refusal(&self, _need: usize) -> Option<Self::Refusal> {
        None
    }

    fn left(&mut self, _line: &mut Line, _left: &Left, _wakes: &mut Wakes) {}

    fn state(&self, _line: &Line) -> ResourceState {
        if self.open { ResourceState::Fired } else { ResourceState::Waiting }
    }

    fn rights(&self) -> Vec<RightFact> {
        rights("count", &self.holders)
    }
}

impl HasEnds for Counts {
    fn holders(&mut self) -> &mut Holders {
        &mut self.holders
    }

    fn gone(&mut self, line: &mut Line, _end: Gone, left: u32, wakes: &mut Wakes) {
        if left > 0 {
            return;
        }
        self.open = true;
        while let Some((key, _)) = line.first() {
            wakes.add(line.grant(key));
        }
    }
}

impl Latch {
    /// Waits until the last [`Count`] is gone; returns at once from then on.
    ///
    /// A task that waits with a count in its own hands waits for ever, as one does for a count that was forgotten
    /// ([`std::mem::forget`]); [`contended`](crate::contended) names the holders.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the context was cancelled first, also if the gate is open.
    #[track_caller]
    pub fn wait(&self) -> impl Future<Output = Result<(), Cancelled>> {
        let lies_at = std::ptr::from_ref(self).addr();
        Waiting::new(&self.core, WAIT, Location::caller(), true, lies_at).then(|passed| {
            passed.map_err(|stopped| match stopped {
                Stopped::Cancelled(cancelled) => cancelled,
                Stopped::Refused(never) => match never {},
            })
        })
    }

    /// Returns whether the last count is gone.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.core.with(|state, _| state.rule.open)
    }

    /// Returns who holds counts, who waits, and how often somebody had to.
    #[must_use]
    pub fn stats(&self) -> ResourceInfo {
        self.core.facts().into()
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch")
            .field("name", &self.core.site.name)
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

fronts! {
    Counts, "latch",
    /// What holds a [`Latch`] shut, in the hands of a task. Dropping it counts down, clones count up.
    #[must_use = "the latch counts down when this is dropped"]
    Count, FreeCount
}

cloned!(Count, FreeCount);
