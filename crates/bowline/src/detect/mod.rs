//! The detector of deadlocks: which tasks will never go on, and why.
//!
//! A [`scan`] walks everything that lives ([`walk`]), copies the books of what is waited for into a [`world`] ([`gather`]), and
//! has a [proof](prove) spread life from whoever may run to whom it can wake. Who is left is dead: that is taken apart into
//! [`pieces`], and told as a [`report`] ([`tell`]). [`thread`] does so for programs, [`now`] for tests that ask, and
//! [`explain`] says what a proof lacks.
//!
//! It judges only what it understands. A task that somebody unknown can wake, a wait of a kind it does not know, an end whose
//! holder is not certain: each is alive, and so is everybody who waits for it.

mod explain;
mod gather;
#[cfg(test)]
mod model;
mod net;
mod now;
mod pieces;
mod policy;
pub(crate) mod prove;
mod report;
mod scan;
mod tell;
mod thread;
mod walk;
pub(crate) mod world;

pub use explain::{Explanation, explain};
pub(crate) use now::at_rest;
pub use now::deadlocks_now;
pub use policy::DeadlockPolicy;
pub use report::{Canceller, ClosingEdge, DeadTask, DeadWait, Deadlock, DeadlockKind, HeldUp, Tier, Verdict};
pub use thread::deadlocks;
pub(crate) use thread::{start, switch_off};
