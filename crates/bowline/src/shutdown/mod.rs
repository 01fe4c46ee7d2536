//! The ordered end of a program: how far it has come, whose turn it is, who holds it up, and how it ended.
//!
//! The [`Runner`](crate::Runner) owns the clock of the end; `drive` is that clock. Whoever has work to finish takes part
//! through [`draining`](crate::draining()) and, where an order matters, through a [`drain_phase`]. `blockers` finds who
//! is still there, and the [`Report`] says how it went.
//!
//! # The end
//!
//! 1. A signal (SIGINT, SIGTERM) or [`shut_down`](crate::shut_down()) begins **draining**, for at most [`drive::DRAIN_SHARE`]
//!    of the budget. Whoever accepts work stops to; what was accepted is finished. Drain phases get their turns one after
//!    the other, what was started last first. The draining is over when the main future has returned and every phase
//!    is. A program in which nobody drains skips it.
//! 2. **Cancelling**: every context is cancelled with [`Cause::Shutdown`](crate::Cause); shielded sections go on.
//! 3. **Aborting**: what is left is dropped at its next poll.
//! 4. Who is still there is named in the report; the exit code tells.
//!
//! A second signal goes to 3 at once. If the main future returns by itself, the end begins at 2, unless a drain phase has
//! members. Each time is an upper bound, never a sleep. After half of the budget, whoever holds up the end is told every
//! second.

mod blockers;
mod drain;
mod drive;
mod report;
mod signals;
mod turns;

pub(crate) use blockers::OnBlockers;
pub use blockers::{Blockers, Straggler};
pub use drain::{DrainPhase, drain_phase};
pub(crate) use drive::{MainEnd, Plan, drive};
pub(crate) use report::EXIT_FAILED;
pub use report::{PhaseTime, Reason, Report};
pub(crate) use signals::Signals;
pub(crate) use turns::Turns;
