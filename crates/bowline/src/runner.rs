//! The process: a runtime, a root that owns everything, and an ordered end.
//!
//! # End
//!
//! 1. A signal (SIGINT, SIGTERM) or [`shut_down`](crate::shut_down()) begins **draining**: [`draining`](crate::draining())
//!    returns everywhere. Whoever accepts work stops to; what was accepted is finished. It lasts until the main future
//!    returns, at most [`DRAIN_SHARE`] of the budget; a program in which nobody drains skips it.
//! 2. **Cancelling**: every context is cancelled with [`Cause::Shutdown`]; shielded sections go on.
//! 3. **Aborting**: what is left is dropped at its next poll.
//! 4. Who is still there is named in the [`Report`]; the exit code tells.
//!
//! A second signal goes to 3 at once. If the main future returns by itself, the end begins at 2. Each time is an upper
//! bound, never a sleep. The clock of all this runs on a small runtime of its own on the calling thread, so that tasks that
//! block every worker cannot hold up the end.

use std::future::Future;
use std::io::Write as _;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cause::{Cancelled, Cause};
use crate::node::{Done, Node};
use crate::panic::Panic;
use crate::combine::{Either, race};
use crate::record::{ABORT, CANCEL, Kind, Record};
use crate::root::{self, Phase, RootState};
use crate::scope::{list, spawn_tracked};
use crate::shutdown::{Reason, Report};
use crate::site;
use crate::track::Ending;
use crate::tree;

/// From the first signal to the last resort, if [`Runner::shutdown_within`] does not say otherwise.
pub(crate) const DEFAULT_BUDGET: Duration = Duration::from_secs(30);
/// Share of the budget for draining.
pub(crate) const DRAIN_SHARE: f64 = 0.8;
/// Share of the budget from cancelling to aborting; the rest is for the aborted to go.
pub(crate) const CANCEL_SHARE: f64 = 0.15;
/// Longer budgets are cut, so that adding one to a moment cannot overflow.
const LONGEST_BUDGET: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long the end waits for the answer of a main future that has ended.
const LAST_WORD: Duration = Duration::from_millis(50);
/// How long after the beginning of the end somebody may first ask whether it has begun.
const ASKING: Duration = Duration::from_millis(100);
/// How long the aborted get after a second signal.
const FORCED_BUDGET: Duration = Duration::from_millis(200);

/// Runs a program: builds the runtime, owns every task, and ends in order.
///
/// `#[bowline::main]` is this with its defaults.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let (value, report) = bowline::Runner::new("demo")
///     .worker_threads(1)
///     .shutdown_within(Duration::from_secs(5))
///     .run(async { 6 * 7 });
/// assert_eq!(value, Some(42));
/// assert!(report.is_clean());
/// ```
#[derive(Debug)]
pub struct Runner {
    name: &'static str,
    worker_threads: Option<usize>,
    budget: Duration,
    signals: bool,
}

impl Runner {
    /// A runner whose root has this name in views.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, worker_threads: None, budget: DEFAULT_BUDGET, signals: true }
    }

    /// Sets the number of worker threads; one per core otherwise.
    ///
    /// # Panics
    ///
    /// If `threads` is 0.
    #[must_use]
    pub fn worker_threads(mut self, threads: usize) -> Self {
        assert!(threads > 0, "a program needs at least one worker thread");
        self.worker_threads = Some(threads);
        self
    }

    /// Sets the time from the first signal to the end, whatever happens; 30 s otherwise, and a year at most.
    #[must_use]
    pub fn shutdown_within(mut self, budget: Duration) -> Self {
        self.budget = budget.min(LONGEST_BUDGET);
        self
    }

    /// Leaves SIGINT and SIGTERM alone; the end begins when the main future returns.
    #[must_use]
    pub fn without_signals(mut self) -> Self {
        self.signals = false;
        self
    }

    /// Runs `main` as a task of the root, waits for the end, and reports. The value is missing if `main` panicked or was
    /// cancelled by the shutdown.
    ///
    /// # Panics
    ///
    /// If the operating system refuses threads or signal handlers, or if called from inside a runtime.
    #[track_caller]
    pub fn run<F>(self, main: F) -> (Option<F::Output>, Report)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        crate::clock::start();
        crate::panic::install_hook();
        let place = Location::caller();
        let mut builder = Builder::new_multi_thread();
        builder.enable_all().thread_name(self.name);
        if let Some(threads) = self.worker_threads {
            builder.worker_threads(threads);
        }
        let workers = builder.build().expect("the system gives threads for a runtime");
        let control =
            Builder::new_current_thread().enable_all().build().expect("the system gives a second runtime");

        // Before main runs: a signal at its first line must find us.
        let signals = {
            let _inside = control.enter();
            Signals::listen(self.signals)
        };
        let state = RootState::new();
        let root = Root::open(self.name, place, &state);
        let main = {
            let _inside = workers.enter();
            root::register(&root.record);
            let record =
                list(&root.node, "main", place, Kind::Task).expect("the root was opened a moment ago");
            spawn_tracked::<_, OfMain<F::Output>>(record, main)
        };
        let (ended, report) = control.block_on(drive(main, root, &state, self.budget, signals));
        stop(workers, &report);
        let (value, panic, cancelled) = match ended {
            Some(MainEnd::Value(value)) => (Some(value), None, None),
            Some(MainEnd::Panicked(panic)) => (None, Some(panic), None),
            Some(MainEnd::Cancelled(cancelled)) => (None, None, Some(cancelled)),
            None => (None, None, None),
        };
        (value, Report { panic, cancelled, ..report })
    }
}

/// Ends the worker runtime. Foreign tasks are dropped; foreign blocking work is not waited for.
fn stop(workers: Runtime, report: &Report) {
    const FOREIGN_BLOCKING_WORK: Duration = Duration::from_millis(100);
    if report.is_clean() {
        workers.shutdown_timeout(FOREIGN_BLOCKING_WORK);
    } else {
        workers.shutdown_background();
    }
}

/// The root node and the record under which scopes of foreign tasks hang.
pub(crate) struct Root {
    pub(crate) record: Arc<Record>,
    pub(crate) node: Weak<Node>,
    pub(crate) done: Arc<Done>,
}

impl Root {
    pub(crate) fn open(
        name: &'static str,
        place: &'static Location<'static>,
        state: &Arc<RootState>,
    ) -> Self {
        let site = site::intern(name, place);
        let node = Node::open_root(site, Some(Arc::clone(state)));
        let record = Record::new(site, Arc::clone(&node), Kind::Strand);
        node.list_body(&record);
        Self { record, done: node.done(), node: Arc::downgrade(&node) }
    }
}

enum MainEnd<T> {
    Value(T),
    Panicked(Panic),
    Cancelled(Cancelled),
}

struct OfMain<T>(PhantomData<fn(T)>);

impl<T: Send + 'static> Ending for OfMain<T> {
    type Output = T;
    type Ended = MainEnd<T>;

    fn value(_: &Arc<Record>, value: T) -> MainEnd<T> {
        MainEnd::Value(value)
    }

    fn panicked(_: &Arc<Record>, panic: Panic) -> MainEnd<T> {
        MainEnd::Panicked(panic)
    }

    fn cancelled(_: &Arc<Record>, cancelled: Cancelled) -> MainEnd<T> {
        MainEnd::Cancelled(cancelled)
    }
}

async fn drive<T>(
    mut main: JoinHandle<MainEnd<T>>,
    root: Root,
    state: &RootState,
    budget: Duration,
    mut signals: Signals,
) -> (Option<MainEnd<T>>, Report) {
    let mut ended = None;
    let mut force = false;

    // Running, until main returns, a signal comes, or the program asks.
    let reason = match race(&mut main, race(signals.next(), state.wait_requested())).await {
        Either::Left(end) => {
            ended = end.ok();
            // It may have asked, and been done before we looked.
            state.requested().map_or(Reason::Finished, Reason::Requested)
        }
        Either::Right(Either::Left(name)) => Reason::Signal(name),
        Either::Right(Either::Right(reason)) => Reason::Requested(reason),
    };
    let began = Instant::now();
    let mut phase = Phase::Cancelling;
    let mut cut_off = Vec::new();
    if reason != Reason::Finished {
        phase = Phase::Draining;
        state.set_phase(Phase::Draining);
    }
    // Where nobody asks whether draining has begun, nobody drains, and waiting would be a sleep.
    let drains = match (&reason, &ended) {
        (Reason::Signal(why) | Reason::Requested(why), None) => {
            tokio::time::timeout(ASKING, state.wait_drains()).await.ok().map(|()| *why)
        }
        _ => None,
    };
    if let Some(why) = drains {
        // Not `eprintln`, which panics when nobody reads standard error any more.
        let _ = writeln!(
            std::io::stderr(),
            "{why}: draining for at most {:.1} s; once more to force",
            budget.mul_f64(DRAIN_SHARE).as_secs_f64()
        );
        let drained =
            tokio::time::timeout_at(began + budget.mul_f64(DRAIN_SHARE), race(&mut main, signals.next()));
        match drained.await {
            Ok(Either::Left(end)) => ended = end.ok(),
            Ok(Either::Right(_)) => force = true,
            Err(_) => cut_off = root.node.upgrade().map(|node| tree::stragglers(&node)).unwrap_or_default(),
        }
    }

    // From here on only what lives keeps the root open.
    let Root { record, node, done } = root;
    drop(record);
    let mut gone = false;
    if !force && !done.is_gone() {
        phase = phase.max(Phase::Cancelling);
        state.set_phase(Phase::Cancelling);
        raise(&node, CANCEL);
        let until = began + budget.mul_f64(DRAIN_SHARE + CANCEL_SHARE);
        match tokio::time::timeout_at(until, race(is_gone(&done), signals.next())).await {
            Ok(Either::Left(())) => gone = true,
            Ok(Either::Right(_)) => force = true,
            Err(_) => {}
        }
    }
    if !gone && !done.is_gone() {
        phase = Phase::Aborting;
        state.set_phase(Phase::Aborting);
        raise(&node, CANCEL | ABORT);
        let until = if force { Instant::now() + FORCED_BUDGET } else { began + budget };
        let _ = tokio::time::timeout_at(until, is_gone(&done)).await;
    }
    let stragglers = node.upgrade().map(|node| tree::stragglers(&node)).unwrap_or_default();
    if ended.is_none() {
        // Its record is gone a moment before its handle has the answer; a main that does not stop has none.
        ended = tokio::time::timeout(LAST_WORD, main).await.ok().and_then(Result::ok);
    }
    let report = Report {
        reason,
        phase,
        took: began.elapsed(),
        stragglers,
        cut_off,
        forced_by_signal: force,
        panic: None,
        cancelled: None,
        adopted: state.adopted(),
    };
    (ended, report)
}

fn raise(node: &Weak<Node>, bits: u32) {
    if let Some(node) = node.upgrade() {
        node.close();
        node.cancel(bits, &Cause::Shutdown);
    }
}

async fn is_gone(done: &Done) {
    std::future::poll_fn(|cx| done.poll(cx)).await;
}

#[cfg(unix)]
struct Signals {
    both: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl Signals {
    fn listen(wanted: bool) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let both = wanted.then(|| {
            let listen = |kind| signal(kind).expect("the system lets a process handle SIGINT and SIGTERM");
            (listen(SignalKind::interrupt()), listen(SignalKind::terminate()))
        });
        Self { both }
    }

    async fn next(&mut self) -> &'static str {
        match &mut self.both {
            Some((interrupt, terminate)) => match race(interrupt.recv(), terminate.recv()).await {
                Either::Left(_) => "SIGINT",
                Either::Right(_) => "SIGTERM",
            },
            None => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Signals {
    wanted: bool,
}

#[cfg(not(unix))]
impl Signals {
    fn listen(wanted: bool) -> Self {
        Self { wanted }
    }

    async fn next(&mut self) -> &'static str {
        if self.wanted && tokio::signal::ctrl_c().await.is_ok() {
            "Ctrl-C"
        } else {
            std::future::pending().await
        }
    }
}
