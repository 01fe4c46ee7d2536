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
//! | **Owners** | |
//! |---|---|
//! | [`scope()`] | owns tasks that belong together, and returns when they are gone: [`Scope`], [`ScopeHandle`], [`Handle`], [`ScopeClosed`] |
//! | [`group()`] | owns tasks of one kind, and returns how each ended: [`Group`], [`GroupHandle`], [`Member`], [`BodyEnd`] |
//! | [`Policy`] | what a group does about failures: [`FailFast`], [`CollectAll`], [`FirstSuccess`], [`Quorum`], [`Discard`] |
//! | [`AtMost`] | each of them with a limit: [`SpawnPermit`], [`NoRoom`], [`Unlimited`] |
//! | [`Outcome`] | what a group came to: [`Slot`] by slot, and in [`Counts`] |
//! | [`map`], [`for_each`], [`hedged`] | a group over the [`Items`] of an iterator or stream, or over attempts |
//!
//! | **Cancellation and time** | |
//! |---|---|
//! | [`check()`], [`cancelled()`], [`is_cancelled()`] | the context of whoever is polled; [`Context`]: one to keep and send anywhere |
//! | [`timeout()`], [`deadline_at()`], [`shielded()`] | a deadline for all that is below, and time to clean up; [`deadline()`], [`time_left()`] |
//! | [`sleep()`], [`sleep_until()`], [`until_cancelled()`] | waits after which you go on when a foreign one would be dropped |
//! | [`Cancelled`] | the error of every wait that was cut: its [`Cause`], and the [`Origin`] |
//! | [`with_value()`], [`value()`] | values that go down the tree |
//! | [`propagate`] | deadlines across processes |
//!
//! | **Several futures in one task** | |
//! |---|---|
//! | [`race()`], [`race_all()`] | the first value; the losers are dropped ([`Either`], [`Race`]) |
//! | [`join()`], [`join_all()`], [`try_join()`], [`try_join_all()`] | all values, or the first error ([`Join`], [`TryJoin`]) |
//! | [`merge()`], [`merge_all()`] | several streams as one ([`Merge`], [`Merged`]) |
//!
//! Ends of queues and channels, and the rights to fire a signal, are held by tasks, and who holds them is known. Every end has a
//! free form, `FreeTx` for example, that may be kept anywhere, and whose holder counts as unknown.
//!
//! | **Who holds what** | |
//! |---|---|
//! | [`Cx`] | a task's own context: makes and binds its ends |
//! | [`Shared`] | an object of several tasks ([`FreeShared`]) |
//! | [`Carry`], [`Bind`], [`TaskFn`] | what [`Scope::spawn_with`] hands over |
//!
//! | **Queues** | |
//! |---|---|
//! | [`Tx`], [`Rx`] | the ends of a bounded queue ([`FreeTx`], [`FreeRx`]); [`RxStream`], [`FreeRxStream`]: as a stream |
//! | [`Bound`], [`Overflow`] | how much it holds, and what a send into a full one does |
//! | [`Permit`] | room, before there is an item to put there |
//! | [`Delivery`] | an item that comes back unless it is acknowledged ([`FreeDelivery`]) |
//! | [`Sources`], [`Source`], [`FromSource`] | many named sources in one queue, taken in turns ([`FreeSources`], [`FreeSource`]) |
//! | [`SendError`], [`TryRecvError`], [`CloseReason`] | why not |
//! | [`QueueStats`], [`LaneStats`], [`Holder`] | its books; [`observe`], [`ObservedQueue`]: those of a queue of your own |
//!
//! | **Other channels** | |
//! |---|---|
//! | [`Reply`], [`Answer`] | one answer ([`NoAnswer`], [`FreeReply`], [`FreeAnswer`]) |
//! | [`WatchTx`], [`WatchRx`] | the latest value ([`WatchError`], [`FreeWatchTx`], [`FreeWatchRx`]) |
//! | [`BroadcastTx`], [`BroadcastRx`] | every item to everybody ([`Sent`], [`Lagged`], [`BroadcastError`], [`FreeBroadcastTx`], [`FreeBroadcastRx`]) |
//! | [`RendezvousTx`], [`RendezvousRx`] | a hand-over without a buffer ([`FreeRendezvousTx`], [`FreeRendezvousRx`]) |
//! | [`ChannelStats`] | their books |
//!
//! | **Locks and signals** | |
//! |---|---|
//! | [`Mutex`], [`RwLock`] | a value, used in a closure or under a guard ([`MutexGuard`], [`ReadGuard`], [`WriteGuard`]) |
//! | [`Semaphore`] | permits, in amounts ([`SemaphorePermit`], [`OwnedPermit`], [`FreePermit`], [`AcquireError`], [`TryAcquireError`]) |
//! | [`Notify`], [`Notifier`] | "look again" ([`NotifyError`], [`FreeNotifier`]) |
//! | [`Latch`], [`Count`] | a gate that opens when everything that holds it shut is gone ([`FreeCount`]) |
//! | [`Seat`] | a barrier is its seats ([`Arrived`], [`BarrierError`], [`FreeSeat`]) |
//!
//! | **Bounded work** | |
//! |---|---|
//! | [`Pool`], [`PoolHandle`] | workers, and a queue in front of them ([`Workers`], [`SubmitError`], [`CallError`]); [`pools()`], [`PoolStats`], [`PoolState`] |
//! | [`Pipeline`] | records through stages to a sink, [`Parallel`], ordered or not, with a bound before each: [`PipelineReady`], [`PipelineHandle`], [`Feed`], [`Intake`] |
//! | [`Stage`] | one of them as a value, to be tested alone ([`Step`], [`StageFn`]) |
//! | [`Errors`], [`Failed`] | what fails, out of band and with its record ([`FailedBy`]) |
//! | [`PipelineReport`], [`PipelineError`] | how a pipeline ended ([`PipelineEnd`]); [`pipelines()`]: the books of all ([`PipelineStats`], [`StageStats`]) |
//! | [`Bulkhead`] | so many calls at a time, so many that wait, and each for so long: [`BulkheadSlot`], [`NoSlot`], [`BulkheadFull`], [`OldestSlot`], [`BulkheadError`]; [`bulkheads()`], [`BulkheadStats`] |
//! | [`Limit`] | how much at a time, found out from how it goes: AIMD, gradient ([`Sample`]) |
//! | [`CpuPool`], [`CpuLane`] | jobs that compute or block, off the async threads, bounded in number and bytes ([`CpuError`]); [`cpu_pools()`], [`CpuPoolStats`], [`CpuJobInfo`] |
//! | [`compute()`] | a calculation over many items on all cores, with a result or an error for each: [`Computed`] |
//! | [`Buffers`], [`Buffer`] | memory for payloads, bounded and used again ([`BufferFull`], [`TakeError`]); [`buffers()`], [`BuffersStats`] |
//! | [`Leases`], [`LeasePool`], [`Lease`] | resources that are dear to make, used by one task at a time ([`LeaseSize`], [`Hook`]): [`LeaseError`], [`Shortage`], [`StillLeased`]; [`lease_pools()`], [`LeaseStats`], [`LeaseHolder`], [`LeaseDiscards`] |
//!
//! | **Calls that may fail** | |
//! |---|---|
//! | [`Class`], [`Classify`] | what kind of failure it was, apart from what is done about it ([`Classifier`], [`ByError`], [`ByClosure`], [`parse_retry_after`]) |
//! | [`Retry`] | the same again, within [`Attempts`], [`Backoff`] and a [`RetryBudget`] ([`Attempt`], [`RetryError`], [`Stopped`], [`RetryBudgetStats`], [`retry_budgets`]) |
//! | [`Idempotent`] | one effect per key, whoever asks and however often: [`Effects`], [`Keep`] ([`OnceError`], [`KeyStore`], [`MemoryKeys`], [`Begun`], [`Ended`], [`KeyCounts`], [`StoreFailed`], [`EffectsStats`], [`effects`]) |
//! | [`Call`] | all of it around one closure, in the order that is right: [`Hedge`], [`FallbackCall`] ([`CallFailed`], [`Failure`]) |
//! | [`LocalCopy`] | the last good answer of a coordinator, for when it does not answer: [`Copies`], [`Known`], [`Freshness`] ([`NoCopy`], [`CopiesStats`], [`copies`]) |
//! | [`Breaker`], [`Breakers`] | an upstream that fails is left alone, and asked by a few before all come back: [`BreakerPermit`], [`BreakerError`], [`BreakerOpen`]; [`breakers()`], [`BreakerStats`], [`BreakerState`] |
//!
//! | **Things that run for ever** | |
//! |---|---|
//! | [`Supervisor`], [`Child`] | children that are started again when they fail, stand still or return: [`Strategy`], [`Restart`], [`Restarts`], [`Life`], [`ChildError`] |
//! | [`SupervisorHandle`], [`ChildRef`] | the same children at run time: [`ChildState`], [`ChildEnd`], [`NotRunning`], [`AddChildError`], [`StopChildError`], [`NoSuchChild`]; [`GaveUp`]: when it is too much |
//! | [`supervisors()`] | the books of all: [`SupervisorStats`], [`ChildStats`] |
//! | [`Schedule`], [`Job`] | jobs at intervals and at times of the day, never piled up: [`JobRun`], [`Overlap`], [`Missed`], [`JobEnd`] |
//! | [`Jobs`] | a running schedule: [`RunReport`], [`RunEnd`], [`RunningJob`], [`AddJobError`], [`TriggerError`], [`UnknownJob`] |
//! | [`schedules()`] | the books of all: [`ScheduleStats`], [`JobStats`] |
//!
//! | **The process** | |
//! |---|---|
//! | [`main`], [`Runner`] | signals, drain, cancel, abort |
//! | [`draining()`], [`until_draining()`], [`shut_down()`] | the beginning of the end |
//! | [`drain_phase()`], [`DrainPhase`] | the order in which parts of a program finish |
//! | [`Report`] | how it ended: [`Reason`], [`Phase`], [`PhaseTime`], [`Straggler`]; [`Blockers`]: who holds up the end |
//! | [`Panic`], [`PanicClass`], [`bad_input`] | panics as values, and bugs apart from bad input; [`panics()`], [`PanicStats`], [`TaskPanics`] |
//!
//! | **Knowing what goes on** | |
//! |---|---|
//! | [`tree()`] | everything that lives, as text and as JSON: [`Tree`], [`ScopeInfo`], [`TaskInfo`], [`TaskState`], [`WaitInfo`], [`PollTimes`] |
//! | [`debug`] | all of it as pages, for people and programs, to be mounted in any server |
//! | [`contended()`] | who waits for which lock, queue or channel, and who holds it: [`ResourceInfo`], [`ResourceKind`], [`ResourceState`], [`WaiterInfo`], [`HolderInfo`], [`EndInfo`] |
//! | [`deadlocks()`] | tasks that will never go on, proved: [`Deadlock`], [`DeadlockKind`], [`Verdict`], [`Canceller`], [`Tier`], [`DeadTask`], [`DeadWait`], [`ClosingEdge`], [`HeldUp`]; [`DeadlockPolicy`]: what is done about it |
//! | [`explain()`] | why a wait is not proved to be for ever: [`Explanation`] |
//! | [`on_alert`], [`alerts()`] | what a person should look at: [`Alert`], [`AlertKind`], [`AlertHook`]; alerts of your own: [`AlertSubject`]; [`alert_counts()`]: for metrics ([`AlertCount`]) |
//! | [`Watchdog`] | raises those nobody else could: long polls, a frozen runtime, input that nobody takes, more and more tasks |
//! | [`suspicions()`] | who has waited for long ([`Suspicion`]), which may be right |
//!
//! | **Tests** | |
//! |---|---|
//! | [`test`](macro@test) | fails if a task is left behind, and says which |
//! | [`testing`] | schedules by seed, capacity one, cuts at every await |
//!
//! # Cargo features
//!
//! None is on by default.
//!
//! - `axum`: the pages of [`debug`] as routes, `debug::router`.
//! - `cron`: jobs at times of the day, in time zones (`Job::cron`).
//! - `test-util`, for tests: `#[bowline::test]` with a paused clock, schedules and the capacity sweep; `Runner::run_paused`;
//!   `testing::cancel_everywhere` and the like.
//! - `opentelemetry`: the numbers of [`debug`] as instruments, `debug::observe`.
//! - `tracing`: each task is polled in a span `task` (target `bowline`, level INFO) with `task.name`, `task.id`, `task.parent` and
//!   `task.place`, so that events inside say whose they are.
//! - `bytes`: `Buffer::freeze`, a buffer as `bytes::Bytes`.
//! - `tokio-util`: `Context::to_token` and `with_token`, from and to a `CancellationToken`.
//! - `tower`: breakers, bulkheads, time-outs and retries as layers, in the module `tower`.

mod alert;
mod books;
mod breaker;
mod buffers;
mod bulkhead;
mod call;
mod carry;
mod cause;
mod channel;
mod children;
mod clock;
mod combine;
mod context;
mod cpu;
#[allow(dead_code, reason = "the detector of deadlocks is being put together")]
mod detect;
mod dice;
mod done;
mod group;
mod handle;
mod holders;
mod lease;
mod limit;
mod lock;
#[cfg(all(test, any(bowline_loom, bowline_shuttle)))]
mod models;
mod node;
mod opening;
mod owner;
mod panic;
mod pipeline;
mod pool;
mod put_off;
mod queue;
mod record;
#[allow(dead_code, reason = "read whole by the detector of deadlocks, in part by views")]
mod resource;
mod root;
mod runner;
mod schedule;
mod scope;
mod share;
mod shutdown;
mod site;
mod sleep;
mod span;
mod spawner;
mod supervise;
mod sync;
mod timeout;
mod track;
mod tree;
mod wait;
mod waker;
mod watch;

pub mod debug;
pub mod propagate;
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;

pub use alert::{Alert, AlertCount, AlertHook, AlertKind, AlertSubject, alert_counts, alerts, on_alert};
pub use bowline_macros::{main, test};
pub use breaker::{
    Breaker, BreakerError, BreakerOpen, BreakerPermit, BreakerState, BreakerStats, Breakers, breakers,
};
pub use buffers::{Buffer, BufferFull, Buffers, BuffersStats, TakeError, buffers};
pub use bulkhead::{
    Bulkhead, BulkheadError, BulkheadFull, BulkheadSlot, BulkheadStats, NoSlot, OldestSlot, bulkheads,
};
pub use call::{
    Attempt, Attempts, Backoff, Begun, ByClosure, ByError, Call, CallFailed, Class, Classifier, Classify,
    Copies, CopiesStats, Effects, EffectsStats, Ended, Failure, FallbackCall, Freshness, Hedge, Idempotent,
    Keep, KeyCounts, KeyStore, Known, LocalCopy, MemoryKeys, NoCopy, OnceError, Retry, RetryBudget,
    RetryBudgetStats, RetryError, Stopped, StoreFailed, copies, effects, parse_retry_after, retry_budgets,
};
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
pub use cpu::{Computed, CpuError, CpuJobInfo, CpuLane, CpuPool, CpuPoolStats, compute, cpu_pools};
pub use detect::{
    Canceller, ClosingEdge, DeadTask, DeadWait, Deadlock, DeadlockKind, DeadlockPolicy, Explanation, HeldUp,
    Tier, Verdict, deadlocks, explain,
};
pub use done::Counts;
pub use group::{
    AtMost, BodyEnd, CollectAll, Discard, FailFast, FirstSuccess, Group, GroupHandle, Items, Member, NoRoom,
    Outcome, Policy, Quorum, Slot, SpawnPermit, Unlimited, for_each, group, hedged, map,
};
pub use handle::Handle;
pub use lease::{
    Hook, Lease, LeaseDiscards, LeaseError, LeaseHolder, LeasePool, LeaseSize, LeaseStats, Leases, Shortage,
    StillLeased, lease_pools,
};
pub use limit::{Limit, Sample};
pub use lock::{
    AcquireError, Arrived, BarrierError, Count, FreeCount, FreeNotifier, FreePermit, FreeSeat, Latch, Mutex,
    MutexGuard, Notifier, Notify, NotifyError, OwnedPermit, ReadGuard, RwLock, Seat, Semaphore,
    SemaphorePermit, TryAcquireError, WriteGuard,
};
pub use owner::Owner;
pub use panic::{Panic, PanicClass, PanicStats, TaskPanics, bad_input, panics};
pub use pipeline::{
    Errors, Failed, FailedBy, Feed, Intake, Parallel, Pipeline, PipelineEnd, PipelineError, PipelineHandle,
    PipelineReady, PipelineReport, PipelineStats, Stage, StageFn, StageStats, Step, pipelines,
};
pub use pool::{CallError, Pool, PoolHandle, PoolState, PoolStats, SubmitError, Workers, pools};
pub use queue::{
    Bound, CloseReason, Delivery, FreeDelivery, FreeRx, FreeRxStream, FreeSource, FreeSources, FreeTx,
    FromSource, Holder, LaneStats, ObservedQueue, Overflow, Permit, QueueStats, Rx, RxStream, SendError,
    Source, Sources, TryRecvError, Tx, observe,
};
pub use resource::{EndInfo, HolderInfo, ResourceInfo, ResourceKind, ResourceState, WaiterInfo, contended};
pub use root::Phase;
pub use runner::Runner;
pub use schedule::{
    AddJobError, Job, JobEnd, JobRun, JobStats, Jobs, Missed, Overlap, RunEnd, RunReport, RunningJob,
    Schedule, ScheduleStats, TriggerError, UnknownJob, schedules,
};
#[cfg(feature = "cron")]
pub use schedule::{Cron, CronError};
pub use scope::{Scope, ScopeClosed, ScopeHandle, scope};
pub use share::{FreeShared, Shared};
pub use shutdown::{Blockers, DrainPhase, PhaseTime, Reason, Report, Straggler, drain_phase};
pub use sleep::{sleep, sleep_until};
pub use supervise::{
    AddChildError, Child, ChildEnd, ChildError, ChildRef, ChildState, ChildStats, GaveUp, Life, NoSuchChild,
    NotRunning, Restart, Restarts, StopChildError, Strategy, Supervisor, SupervisorHandle, SupervisorStats,
    supervisors,
};
pub use timeout::{deadline_at, shielded, timeout};
pub use tree::{ScopeInfo, TaskInfo, TaskState, Tree, WaitInfo, tree};
pub use watch::{PollTimes, Suspicion, Watchdog, suspicions};
