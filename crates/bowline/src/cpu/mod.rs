//! Work for the processor, off the threads that run tasks: a function over many items, and a lane for jobs that come one by
//! one.
//!
//! Both run on the runtime's blocking threads, as tasks of kind *blocking*: they are in the tree with name and age, they are
//! counted at shutdown, and their context is ambient, so that [`check`](crate::check()) in a long loop says when to stop.
//! Nothing can drop such work half-way; what nobody waits for any more is told so and named until it ends.
//!
//! [`compute`] owns its threads for the time of the call (`compute`, with `chunks` for how many items are taken at once and
//! `computed` for what comes out). A [`CpuPool`] (`pool`) is started in a scope and bounded in jobs and bytes; its handle is a
//! [`CpuLane`] (`lane`), and what is queued, what runs and on which thread is in `jobs`.
//!
//! # Invariants
//!
//! 1. A thread that runs user code is a listed record, and the values it owns are dropped before that record has ended.
//! 2. No user code runs under a lock: items, jobs and results are only moved there.

mod chunks;
mod compute;
mod computed;
mod error;
mod jobs;
mod lane;
mod pool;

pub use compute::compute;
pub use computed::Computed;
pub use error::CpuError;
pub use lane::{CpuJobInfo, CpuLane, CpuPoolStats, cpu_pools};
pub use pool::CpuPool;
