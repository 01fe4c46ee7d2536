//! The process: a runtime, a root that owns everything, and an ordered end (see the module `shutdown`).
//!
//! The clock of the end runs on a small runtime of its own on the calling thread, so that tasks that block every worker
//! cannot hold it up.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::cause::Cancelled;
use crate::detect::{self, DeadlockPolicy};
use crate::done::Done;
use crate::node::{Node, RootRecord};
use crate::panic::{Panic, PanicClass};
use crate::record::{Kind, Record};
use crate::root::{self, RootState};
use crate::scope::{list, spawn_tracked};
use crate::shutdown::{Blockers, MainEnd, OnBlockers, Plan, Report, Signals, drive};
use crate::site;
use crate::track::Ending;
use crate::watch::{self, Watchdog};

/// From the first signal to the last resort, if [`Runner::shutdown_within`] does not say otherwise.
pub(crate) const DEFAULT_BUDGET: Duration = Duration::from_secs(30);
/// Longer budgets are cut, so that adding one to a moment cannot overflow.
const LONGEST_BUDGET: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
pub struct Runner {
    name: &'static str,
    worker_threads: Option<usize>,
    budget: Duration,
    signals: bool,
    on_blockers: Option<OnBlockers>,
    watchdog: Watchdog,
    times_polls: bool,
    state: Arc<RootState>,
}

impl Runner {
    /// Makes a runner whose root has this name in views.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            worker_threads: None,
            budget: DEFAULT_BUDGET,
            signals: true,
            on_blockers: None,
            watchdog: Watchdog::new(),
            times_polls: watch::asked_for_poll_times(),
            state: RootState::new(),
        }
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
    ///
    /// Draining gets at most four fifths of it; the rest is for those that have to be cancelled and aborted.
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

    /// Declares a drain phase, for its place and its share of the time; see [`drain_phase`](crate::drain_phase).
    ///
    /// Phases that are declared come first, in the order of their declaration; those that are not follow, the one that was
    /// registered last first. The time for draining is shared by weight, and a phase that is not declared has 1.
    ///
    /// # Panics
    ///
    /// If `weight` is 0.
    ///
    /// # Examples
    ///
    /// Most of the time is for the requests in flight, and the streams are told only when nothing new comes in:
    ///
    /// ```
    /// # async fn serve() {}
    /// let (_, report) = bowline::Runner::new("shop")
    ///     .drain_phase("accept", 1)
    ///     .drain_phase("streams", 1)
    ///     .drain_phase("requests", 8)
    ///     .run(serve());
    /// # assert!(report.is_clean());
    /// ```
    #[must_use]
    #[track_caller]
    pub fn drain_phase(self, name: &'static str, weight: u32) -> Self {
        assert!(weight > 0, "a phase without any time is none");
        self.state.turns().declare(name, Location::caller(), weight);
        self
    }

    /// Hands whoever holds up the end to `hook`, every second from half of the budget on, instead of writing it to standard
    /// error.
    ///
    /// The hook runs on a thread of its own and must not block for long: what comes while it runs is left out.
    #[must_use]
    pub fn on_blockers(mut self, hook: impl Fn(&Blockers) + Send + Sync + 'static) -> Self {
        self.on_blockers = Some(Arc::new(hook));
        self
    }

    /// Sets what the [`Watchdog`] looks for, or switches it off.
    ///
    /// # Examples
    ///
    /// ```
    /// use bowline::{Runner, Watchdog};
    ///
    /// let (_, report) = Runner::new("batch").watchdog(Watchdog::off()).run(async {});
    /// # assert!(report.is_clean());
    /// ```
    #[must_use]
    pub fn watchdog(mut self, watchdog: Watchdog) -> Self {
        self.watchdog = watchdog;
        self
    }

    /// Measures what the polls of every task take: [`TaskInfo::poll_times`](crate::TaskInfo::poll_times).
    ///
    /// It costs two looks at the clock per poll and some memory per task, so it is off otherwise, unless the environment
    /// variable `BOWLINE_TIME_POLLS=on` asks for it. It cannot be taken back, and goes for all that runs in this process.
    ///
    /// # Examples
    ///
    /// ```
    /// use bowline::{Runner, TaskInfo, tree};
    ///
    /// let (busy, _) = Runner::new("shop").time_polls(true).run(async {
    ///     tokio::task::yield_now().await; // what a poll took is known when it is over
    ///     let main: TaskInfo = tree().roots[0].tasks[0].clone();
    ///     main.poll_times.map(|times| times.busy_us)
    /// });
    /// assert!(busy.unwrap().is_some());
    /// ```
    #[must_use]
    pub fn time_polls(mut self, times_polls: bool) -> Self {
        self.times_polls = times_polls;
        self
    }

    /// Says what happens when tasks of this program are proved to stand still for ever; otherwise it is told as an alert and no
    /// more. The environment variable `BOWLINE_DEADLOCKS=cancel` is for programs that do not say.
    ///
    /// # Examples
    ///
    /// A batch job that had better fail than hang:
    ///
    /// ```
    /// use bowline::{Cancelled, Cause, DeadlockPolicy, Runner, Scope, scope};
    ///
    /// let (value, report) = Runner::new("batch").on_deadlock(DeadlockPolicy::Cancel).run(async {
    ///     scope("work", async |s: &Scope<Cancelled>| {
    ///         let (count, latch) = s.cx().latch("done");
    ///         let waiting = s.spawn_with("wait", count, async move |_cx, count| {
    ///             latch.wait().await?; // its own count holds the latch shut
    ///             Ok(drop(count))
    ///         });
    ///         waiting.await
    ///     })
    ///     .await
    /// });
    /// assert_eq!(*value.unwrap().unwrap_err().cause(), Cause::Requested("a deadlock"));
    /// ```
    #[must_use]
    pub fn on_deadlock(self, policy: DeadlockPolicy) -> Self {
        self.state.set_deadlock_policy(policy);
        self
    }

    /// Switches the detector of deadlocks off, for this process: nothing is found, and its thread sleeps. The environment
    /// variable `BOWLINE_DETECTOR=off` does the same.
    #[must_use]
    pub fn without_detector(self) -> Self {
        detect::switch_off();
        self
    }

    /// Lets `classifier` say which panics were to be expected; every panic that is not [`bad_input`](crate::bad_input) is a
    /// bug otherwise. The first classifier counts. One that panics itself has said nothing.
    ///
    /// # Examples
    ///
    /// A parser that is not ours panics on bad input:
    ///
    /// ```
    /// use bowline::{Cancelled, Discard, PanicClass, Runner, group};
    ///
    /// fn parse(file: &str) -> Result<u32, Cancelled> {
    ///     panic!("{file} has no header")
    /// }
    ///
    /// let (_, report) = Runner::new("import")
    ///     .classify_panics(|panic| match panic.task() {
    ///         "parse" => PanicClass::Expected,
    ///         _ => PanicClass::Unexpected,
    ///     })
    ///     .run(async {
    ///         let _ = group("files", Discard, async |g| {
    ///             g.spawn("parse", async { parse("a.txt") });
    ///         })
    ///         .await;
    ///     });
    /// assert_eq!((report.panics.expected, report.panics.unexpected), (1, 0));
    /// ```
    #[must_use]
    pub fn classify_panics(self, classifier: fn(&Panic) -> PanicClass) -> Self {
        self.state.panics().classify_with(classifier);
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
        let ended = self.run_on(&workers, &control, signals, Location::caller(), main);
        stop(workers, &ended.1);
        // A hook or a standard error that hangs must not hold up the end.
        control.shutdown_background();
        ended
    }

    /// As [`run`](Self::run), on the calling thread and with tokio's clock paused, for tests of an end: one that lasts 30 s
    /// takes no time, and each run is like the other.
    ///
    /// Signals are left alone; the program says [`shut_down`](crate::shut_down) itself. A task that blocks the thread blocks
    /// the clock with it.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (_, report) = bowline::Runner::new("stubborn").run_paused(async {
    ///     bowline::shut_down("enough");
    ///     bowline::draining().await;
    ///     std::future::pending::<()>().await
    /// });
    /// assert_eq!(report.took, Duration::from_secs(24)); // the time for draining was over, and main was cancelled
    /// assert_eq!(report.cut_off[0].path, "main");
    /// ```
    #[cfg(feature = "test-util")]
    #[track_caller]
    pub fn run_paused<F>(self, main: F) -> (Option<F::Output>, Report)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("the system gives a runtime");
        let signals = Signals::listen(false);
        // Its time is not that of the program.
        let ended =
            self.watchdog(Watchdog::off()).run_on(&runtime, &runtime, signals, Location::caller(), main);
        runtime.shutdown_background();
        ended
    }

    fn run_on<F>(
        self,
        workers: &Runtime,
        control: &Runtime,
        signals: Signals,
        place: &'static Location<'static>,
        main: F,
    ) -> (Option<F::Output>, Report)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        crate::clock::start();
        crate::panic::install_hook();
        detect::start();
        let Self { name, budget, on_blockers, watchdog, times_polls, state, .. } = self;
        if times_polls {
            watch::time_polls();
        }
        if std::env::var_os("BOWLINE_DEADLOCKS").is_some_and(|value| value == "cancel") {
            state.set_deadlock_policy(DeadlockPolicy::Cancel); // unless the program has said so
        }
        let root = Root::open(name, place, &state);
        let main = {
            let _inside = workers.enter();
            root::register(&root.record);
            watch::watch(&root.record, workers.handle(), &watchdog);
            let record =
                list(&root.record.node, "main", place, Kind::Task).expect("the root was opened a moment ago");
            spawn_tracked::<_, OfMain<F::Output>>(record, main)
        };
        let plan = Plan { budget, on_blockers };
        let (ended, report) = control.block_on(drive(main, root, &state, plan, signals, workers.handle()));
        match ended {
            Some(MainEnd::Value(value)) => (Some(value), report),
            Some(MainEnd::Panicked(panic)) => (None, Report { panic: Some(panic), ..report }),
            Some(MainEnd::Cancelled(why)) => (None, Report { cancelled: Some(why), ..report }),
            None => (None, report),
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("name", &self.name)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
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
    /// Dropped, only what lives keeps the root open.
    pub(crate) record: RootRecord,
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
        let record = Node::open_root(site, Some(Arc::clone(state)));
        let node = &record.node;
        Self { done: node.done(), node: Arc::downgrade(node), record }
    }
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
