//! A meeting of a fixed number of tasks, again and again.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use super::core::{Ask, Core, Rule, Stopped, Waiting, Wakes};
use super::ends::{End, Gone, HasEnds, fronts, rights};
use super::line::{Key, Left, Line};
use crate::carry::{Bind, Carry, Cx};
use crate::cause::{Cancelled, Cause};
use crate::holders::{FREE, Holders, IN_TRANSIT};
use crate::resource::{Resource, ResourceInfo, ResourceKind, ResourceState, RightFact, Who};
use crate::wait::Op;

/// Those who wait are those who have arrived; with the last one the round is over and all of them go on.
#[derive(Default)]
pub(super) struct Rounds {
    seats: usize,
    round: u64,
    /// The round ended by a seat's leaving: the first to go on leads.
    leads_who_fetches: bool,
    /// The task that dropped its seat.
    broken_by: Option<u64>,
    holders: Holders,
}

const ARRIVE: Ask = Ask { op: Op::Barrier, need: 1, calls: 0 };

pub(crate) fn open<'t>(
    cx: &'t Cx,
    name: &'static str,
    place: &'static Location<'static>,
    seats: usize,
) -> Vec<Seat<'t>> {
    let core = Core::new(name, place, Rounds { seats, ..Rounds::default() });
    (0..seats).map(|_| Seat { end: End::new(&core, cx.task_id()), cx }).collect()
}

impl Rounds {
    fn end_round(&mut self, line: &mut Line, wakes: &mut Wakes) {
        self.round += 1;
        while let Some((key, _)) = line.first() {
            wakes.add(line.grant(key));
        }
    }
}

impl Rule for Rounds {
    type Pass = Arrived;
    /// Who broke it.
    type Refusal = u64;

    const KIND: ResourceKind = ResourceKind::Barrier;

    fn enter(
        &mut self,
        line: &mut Line,
        _ask: Ask,
        _who: Who,
        wakes: &mut Wakes,
    ) -> Option<Result<Arrived, u64>> {
        if let Some(by) = self.broken_by {
            return Some(Err(by));
        }
        if line.waiting() + 1 < self.seats {
            return None;
        }
        self.end_round(line, wakes);
        self.leads_who_fetches = false;
        Some(Ok(Arrived { round: self.round, leads: true }))
    }

    /// The next round cannot have ended before this one is fetched: it needs this seat.
    fn fetch(&mut self, line: &mut Line, key: Key) -> Arrived {
        line.leave(key);
        Arrived { round: self.round, leads: std::mem::take(&mut self.leads_who_fetches) }
    }

    fn refusal(&self, _need: usize) -> Option<u64> {
        self.broken_by
    }

    fn left(&mut self, _line: &mut Line, _left: &Left, _wakes: &mut Wakes) {}

    fn state(&self, line: &Line) -> ResourceState {
        match self.broken_by {
            Some(_) => ResourceState::Closed { reason: BROKEN },
            None => ResourceState::Arrived { arrived: line.waiting(), seats: self.seats },
        }
    }

    fn rights(&self) -> Vec<RightFact> {
        rights("seat", &self.holders)
    }
}

const BROKEN: &str = "a seat of the barrier was dropped";

impl HasEnds for Rounds {
    fn holders(&mut self) -> &mut Holders {
        &mut self.holders
    }

    fn gone(&mut self, line: &mut Line, end: Gone, _left: u32, wakes: &mut Wakes) {
        self.seats -= 1;
        if self.broken_by.is_some() {
            return;
        }
        if !end.in_order {
            self.broken_by = Some(end.place);
            wakes.add_all(line.call_all());
        } else if self.seats > 0 && line.waiting() == self.seats {
            self.end_round(line, wakes);
            self.leads_who_fetches = true;
        }
    }
}

/// How a round of a barrier ended for one seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrived {
    /// The number of the round, from 1.
    pub round: u64,
    /// Whether this is the one seat that does what is to be done once per round.
    pub leads: bool,
}

fronts! {
    Rounds, "barrier",
    /// A seat at a barrier, held by a task; [`Cx::barrier`] makes all of them.
    ///
    /// Dropping a seat breaks the barrier: the others are told with [`BarrierError::Broken`] instead of waiting for a task that
    /// failed, was cancelled or returned early. To go in order, [`leave`](Self::leave).
    ///
    /// # Examples
    ///
    /// ```
    /// # bowline::testing::example(async {
    /// use bowline::{Cancelled, scope};
    ///
    /// scope("simulation", async |s| {
    ///     for seat in s.cx().barrier("step", 3) {
    ///         s.spawn_with("part", seat, async |_cx, mut seat| {
    ///             for step in 1..=10 {
    ///                 let arrived = seat.wait().await?; // nobody begins a step before all have ended the last
    ///                 assert_eq!(arrived.round, step);
    ///             }
    ///             seat.leave();
    ///             Ok(())
    ///         });
    ///     }
    ///     Ok::<_, Cancelled>(())
    /// })
    /// .await
    /// # }).unwrap();
    /// ```
    Seat, FreeSeat
}

macro_rules! sitting {
    ($($front:tt)*) => {
        impl $($front)* {
            /// Waits until every seat has arrived, and begins the next round.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped while it waits, the arrival is taken back and the seat may arrive again. If the round had
            /// ended by then, the seat has taken part in it.
            ///
            /// # Errors
            ///
            /// [`BarrierError::Cancelled`] if the context was cancelled; the arrival is taken back.
            /// [`BarrierError::Broken`] if a seat was dropped; trying again cannot succeed.
            #[track_caller]
            pub fn wait(&mut self) -> impl Future<Output = Result<Arrived, BarrierError>> {
                Waiting::new(&self.end.core, ARRIVE, Location::caller(), true, 0).then(|passed| {
                    passed.map_err(|stopped| match stopped {
                        Stopped::Cancelled(cancelled) => BarrierError::Cancelled(cancelled),
                        Stopped::Refused(by) => {
                            BarrierError::Broken { by: Some(by).filter(|by| *by != 0 && *by < IN_TRANSIT) }
                        }
                    })
                })
            }

            /// Gives the seat up in order: from here on the barrier has one less. If all others have arrived, their round ends.
            pub fn leave(self) {
                self.end.leave();
            }

            /// Returns how many have arrived, who waits and who has seats.
            #[must_use]
            pub fn stats(&self) -> ResourceInfo {
                self.end.core.facts().into()
            }
        }
    };
}

sitting!(Seat<'_>);
sitting!(FreeSeat);

/// Why a round of a barrier did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarrierError {
    /// The context was cancelled.
    Cancelled(Cancelled),
    /// A seat was dropped: not everybody can arrive any more.
    Broken {
        /// The task that held it, if that is known.
        by: Option<u64>,
    },
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Broken { by: Some(by) } => write!(f, "{BROKEN} by task #{by}"),
            Self::Broken { by: None } => f.write_str(BROKEN),
        }
    }
}

impl std::error::Error for BarrierError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Broken { .. } => None,
        }
    }
}

impl From<BarrierError> for Cancelled {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::Cancelled(cancelled) => cancelled,
            BarrierError::Broken { .. } => Cancelled::new(Cause::Refused(BROKEN)),
        }
    }
}
