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
//! - [`map`], [`for_each`], [`hedged`]: a group over the items of an iterator or stream, or over attempts.
//! - [`Context`], [`check()`], [`cancelled()`], [`draining()`], [`timeout()`], [`shielded()`], [`sleep()`]: cancellation and
//!   deadlines, ambient; [`with_value`]: values that go down the tree; [`propagate`]: deadlines across processes.
//! - [`race`], [`join`], [`try_join`], [`merge`] and their `_all`: several futures or streams in one task, by value.
//! - [`Tx`], [`Rx`]: bounded queues whose ends know who holds them; [`Shared`]: objects that do.
//! - [`Reply`] and [`Answer`], [`WatchTx`], [`BroadcastTx`], [`RendezvousTx`]: the other channels: one answer, the latest value,
//!   every item to everybody, and a hand-over without a buffer.
//! - [`Mutex`], [`RwLock`], [`Semaphore`], [`Notify`], [`Latch`], [`Seat`]: locks and signals that end with their context;
//!   [`contended()`] says who waits for which, and who holds it.
//! - [`Runner`], [`main`]: the process: signals, drain, cancel, abort, and a report that names who did not stop;
//!   [`drain_phase`] gives the drain an order.
//! - [`Panic`], [`bad_input`], [`panics()`]: panics as values, and bugs counted apart from bad input.
//! - [`tree()`]: every live task, as text and as JSON, while the program runs.
//! - [`test`](macro@test): a test that fails if it leaves a task behind, and says which; [`testing`]: schedules by seed, and
//!   cutting a future at each of its awaits.

mod carry;
mod cause;
mod channel;
mod children;
mod clock;
mod combine;
mod context;
mod group;
mod handle;
mod holders;
mod lock;
mod node;
mod opening;
mod panic;
mod queue;
mod record;
#[allow(dead_code, reason = "read whole by the detector of deadlocks, in part by views")]
mod resource;
mod root;
mod runner;
mod scope;
mod share;
mod shutdown;
mod site;
mod sleep;
mod sync;
mod timeout;
mod track;
mod tree;
mod wait;

pub mod propagate;
pub mod testing;

pub use bowline_macros::{main, test};
pub use carry::{Bind, Carry, Cx, TaskFn};
pub use cause::{Cancelled, Cause, Origin};
pub use channel::{
    Answer, BroadcastError, BroadcastRx, BroadcastTx, ChannelStats, FreeAnswer, FreeBroadcastRx,
    FreeBroadcastTx, FreeRendezvousRx, FreeRendezvousTx, FreeReply, FreeWatchRx, FreeWatchTx, Lagged,
    NoAnswer, RendezvousRx, RendezvousTx, Reply, Sent, WatchError, WatchRx, WatchTx,
};
pub use combine::{
    Either, Join, Merge, Merged, Race, TryJoin, join, join_all, merge, merge_all, race, race_all, try_join,
    try_join_all,
};
#[cfg(feature = "tokio-util")]
pub use context::with_token;
pub use context::{
    Context, cancelled, check, deadline, draining, is_cancelled, shut_down, time_left, until_cancelled,
    until_draining, value, with_value,
};
pub use group::{
    AtMost, BodyEnd, CollectAll, Discard, FailFast, FirstSuccess, Group, GroupHandle, Items, Member, NoRoom,
    Outcome, Policy, Quorum, Slot, SpawnPermit, Unlimited, for_each, group, hedged, map,
};
pub use handle::Handle;
pub use lock::{
    AcquireError, Arrived, BarrierError, Count, FreeCount, FreeNotifier, FreePermit, FreeSeat, Latch, Mutex,
    MutexGuard, Notifier, Notify, NotifyError, OwnedPermit, ReadGuard, RwLock, Seat, Semaphore,
    SemaphorePermit, TryAcquireError, WriteGuard,
};
pub use node::Counts;
pub use panic::{Panic, PanicClass, PanicStats, TaskPanics, bad_input, panics};
pub use queue::{
    Bound, CloseReason, Delivery, FreeDelivery, FreeRx, FreeRxStream, FreeSource, FreeSources, FreeTx,
    FromSource, Holder, LaneStats, ObservedQueue, Overflow, Permit, QueueStats, Rx, RxStream, SendError,
    Source, Sources, TryRecvError, Tx, observe,
};
pub use resource::{EndInfo, HolderInfo, ResourceInfo, ResourceKind, ResourceState, WaiterInfo, contended};
pub use root::Phase;
pub use runner::Runner;
pub use scope::{Scope, ScopeClosed, ScopeHandle, scope};
pub use share::{FreeShared, Shared};
pub use shutdown::{Blockers, DrainPhase, PhaseTime, Reason, Report, Straggler, drain_phase};
pub use sleep::{sleep, sleep_until};
pub use timeout::{deadline_at, shielded, timeout};
pub use tree::{ScopeInfo, TaskInfo, TaskState, Tree, WaitInfo, tree};
