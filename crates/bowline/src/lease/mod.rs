//! Leases of resources that are dear to make: connections, sessions, handles on devices.
//!
//! A [`Leases`] says how one is made and how many there may be; started in a scope it is a [`LeasePool`], which hands them out
//! as [`Lease`]s, first come first served. The pool's *keeper* is a daemon of that scope: it makes, checks, resets and
//! discards resources, each in a task of its own below it, and watches ages. Whoever waits only waits: nothing that it
//! began is lost with it.
//!
//! - `rule`, `upkeep`: the books, sequential code under the lock of the pool; `acquire`, `guard`: waiting, and the lease;
//! - `keeper`: the pool's one task, and what it runs; `config`, `hooks`: what was asked for.
//!
//! # Invariants
//!
//! 1. What is idle, leased, made, looked after and on its way out adds up to at most the maximum. A place is freed when what had
//!    it *is gone*, its destructor included.
//! 2. A resource is in exactly one place: idle, granted to one who is in line, in a [`Lease`], in a task of the keeper, or on the
//!    keeper's list. Each of these gives it on when it is dropped.
//! 3. Nobody overtakes. What comes back, from whomever, goes to the first in line.
//! 4. Nothing lies idle that somebody in line could have: what is idle then has only to be checked first.
//! 5. No user code runs under the lock: not a hook, not the drop of a resource or of an error.
//!
//! # End
//!
//! Closed, by [`LeasePool::close`] or with its last handle, the pool refuses everybody, discards what is idle, and what is
//! leased when it comes back; then the keeper ends. When its scope ends or is cancelled the keeper does the same at once, for at
//! most the time that a discard may take, and does not wait for leases: one that comes back later is dropped by its
//! holder.

mod acquire;
mod config;
mod error;
mod guard;
mod hooks;
mod keeper;
mod pool;
mod rule;
mod stats;
mod upkeep;

pub use config::{LeaseSize, Leases};
pub use error::{LeaseError, Shortage, StillLeased};
pub use guard::Lease;
pub use hooks::Hook;
pub use pool::LeasePool;
pub use stats::{LeaseDiscards, LeaseHolder, LeaseStats, lease_pools};

use std::error::Error;
use std::time::Duration;

use crate::lock::core::{Core, State, Wakes};
use rule::Rules;

type BoxError = Box<dyn Error + Send + Sync>;

/// What the rule has to know of the settings.
#[derive(Clone, Copy)]
struct Limits {
    /// Tells the pool apart in a stack of `using` calls.
    id: u64,
    min: usize,
    max: usize,
    max_age: Duration,
    max_idle: Duration,
    held_too_long: Duration,
    /// After how long an idle one is checked before it is handed out; `None` without a check.
    check_after: Option<Duration>,
    resets: bool,
    discards: bool,
    /// Not if it lies around another pool, to which everything goes back.
    keeps_idle: bool,
    makes_at_once: usize,
    /// How often those in line are called, to look at the time.
    call_every: Option<Duration>,
}

impl Limits {
    /// The wait after so many failures in a row: doubled each time, and between half and all of that, so that the pools of many
    /// processes do not come back together.
    fn backoff(&self, times: u32) -> Duration {
        const FIRST: Duration = Duration::from_millis(50);
        const LONGEST: Duration = Duration::from_secs(5);
        let whole = FIRST.saturating_mul(1 << times.saturating_sub(1).min(16)).min(LONGEST);
        whole / 2 + crate::dice::up_to(whole / 2)
    }
}

/// One critical section; wakes, and drops what nobody is left to look after, behind it.
fn act<T: Send + 'static, R>(
    core: &Core<Rules<T>>,
    act: impl FnOnce(&mut State<Rules<T>>, &mut Wakes) -> R,
) -> R {
    let (result, _orphans) = core.with(|state, wakes| {
        let result = act(state, wakes);
        (result, state.rule.take_orphans())
    });
    result
}
