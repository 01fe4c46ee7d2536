//! Structured concurrency for tokio: **every task has an owner, a name, a bound and an end.**
//!
//! # Example
//!
//! ```
//! use bowline::{Bound, Cancelled, Overflow, scope};
//!
//! # bowline::testing::example(async {
//! let lengths = scope("lengths", async |s| {
//!     let (tx, rx) = s.queue::<&str>("words", Bound::items(16), Overflow::Block);
//!     let counted = s.spawn_with("count", rx, async |_cx, rx| {
//!         let mut lengths = Vec::new();
//!         while let Some(word) = rx.recv().await? {
//!             lengths.push(word.len());
//!         }
//!         Ok(lengths)
//!     });
//!     for word in ["bowline", "sheet bend"] {
//!         tx.send(word).await?;
//!     }
//!     drop(tx); // no sender is left: the counter's loop ends
//!     Ok::<_, Cancelled>(counted.await?)
//! })
//! .await?;
//! assert_eq!(lengths, [7, 10]);
//! # Ok::<_, Cancelled>(())
//! # }).unwrap();
//! ```
//!
//! # Map
//!
//! - [`scope()`], [`group()`]: owners of tasks. They return when their tasks are gone.
//! - [`Context`], [`check()`], [`cancelled()`], [`draining()`], [`timeout()`], [`shielded()`]: cancellation and deadlines, ambient.
//! - [`Tx`], [`Rx`]: bounded queues whose ends know who holds them; [`Shared`]: objects that do.
//! - [`Runner`], [`main`]: the process: signals, drain, cancel, abort, and a report that names who did not stop.
//! - [`tree()`]: every live task, as text and as JSON, while the program runs.
//! - [`test`](macro@test): a test that fails if it leaves a task behind, and says which.

mod carry;
mod cause;
mod clock;
mod context;
mod group;
mod handle;
mod holders;
mod node;
mod opening;
mod panic;
mod queue;
mod race;
mod record;
mod root;
mod runner;
mod scope;
mod share;
mod shutdown;
mod site;
mod sync;
mod timeout;
mod track;
mod tree;
mod wait;

#[doc(hidden)]
pub mod testing;

pub use bowline_macros::{main, test};
pub use carry::{Bind, Carry, Cx, TaskFn};
pub use cause::{Cancelled, Cause};
pub use context::{Context, cancelled, check, deadline, draining, is_cancelled, shut_down, time_left};
pub use group::{CollectAll, Discard, FailFast, Group, GroupHandle, Outcome, Policy, Slot, group};
pub use handle::Handle;
pub use node::Counts;
pub use panic::Panic;
pub use queue::{
    Bound, FreeRx, FreeTx, Holder, ObservedQueue, Overflow, Permit, QueueStats, Rx, SendError, TryRecvError,
    Tx, observe,
};
pub use race::{Either, race};
pub use root::Phase;
pub use runner::Runner;
pub use scope::{Scope, ScopeClosed, ScopeHandle, scope};
pub use share::{FreeShared, Shared};
pub use shutdown::{Reason, Report, Straggler};
pub use timeout::{deadline_at, shielded, timeout};
pub use tree::{ScopeInfo, TaskInfo, TaskState, Tree, WaitInfo, tree};
