//! What `#[bowline::test]` and `#[bowline::main]` expand to. Not part of the stable interface.

use std::any::Any;
use std::fmt::{self, Debug, Write as _};
use std::future::{Future, poll_fn};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;

use super::closed_world;
use super::trial::{self, Trial};
use super::watchdog::Watchdog;
use super::yield_once;
use crate::cause::Cause;
use crate::record::{ABORT, CANCEL};
use crate::root::{self, Phase, RootState};
use crate::runner::Root;
use crate::shutdown::{EXIT_FAILED, Report};
use crate::track::{End, Strand};
use crate::tree;

/// How a test runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Name of the test function.
    pub name: &'static str,
    /// `None`: on the test's own thread. `Some(n)`: with `n` worker threads.
    pub worker_threads: Option<usize>,
    /// Whether tokio's clock starts paused.
    pub start_paused: bool,
    /// Whether adoptions (scope futures dropped before their tasks were gone) are part of the test.
    pub allow_adoption: bool,
    /// Whether panics of bare tokio tasks, and of groups that keep no results, are part of the test.
    pub allow_panics: bool,
    /// How many schedules are tried, from seed 0 on.
    pub schedules: u64,
    /// The seed of a single run.
    pub seed: u64,
    /// Whether queues have room for one item: in a single run always, in a test once more.
    pub capacity_one: bool,
    /// How long the whole test may take.
    pub limit: Duration,
}

/// How long a test may take that does not say so itself.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

impl Options {
    /// As a test runs without arguments.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            worker_threads: None,
            start_paused: false,
            allow_adoption: false,
            allow_panics: false,
            schedules: 1,
            seed: 0,
            capacity_one: false,
            limit: DEFAULT_LIMIT,
        }
    }

    fn needs_feature(&self) -> Option<&'static str> {
        match () {
            () if cfg!(feature = "test-util") => None,
            () if self.start_paused => Some("start_paused"),
            () if self.schedules > 1 || self.seed != 0 => Some("a schedule by seed"),
            () if self.capacity_one => Some("capacity_one"),
            () => None,
        }
    }
}

/// What a test may return.
pub trait TestOutput {
    /// Says what failed, if it did.
    fn failure(self) -> Option<String>;
}

impl TestOutput for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Debug> TestOutput for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| format!("returned an error: {error:?}"))
    }
}

/// Why a run failed.
enum Failed {
    /// The body panicked, or a task did and its scope passed it on.
    Panicked(Box<dyn Any + Send>),
    /// The harness found something; a text that follows on the test's name.
    Found(String),
}

/// Runs a test: its body once per schedule and capacity, until one run fails.
///
/// # Panics
///
/// If a run fails, with its own panic or with what was found, and how to replay it.
#[track_caller]
pub fn test<F>(options: Options, body: impl Fn() -> F)
where
    F: Future,
    F::Output: TestOutput,
{
    let place = Location::caller();
    let limit = number_from("BOWLINE_TIMEOUT_SECS").map_or(options.limit, Duration::from_secs);
    let seeds = match (number_from("BOWLINE_SEED"), number_from("BOWLINE_SCHEDULES")) {
        (Some(seed), _) => seed..seed.saturating_add(1),
        (None, Some(schedules)) if options.schedules > 1 => 0..schedules,
        (None, _) => 0..options.schedules,
    };
    let watchdog = Watchdog::start(options.name, limit);
    for capacity_one in [false, true] {
        if capacity_one && !options.capacity_one {
            break;
        }
        for seed in seeds.clone() {
            let options = Options { seed, capacity_one, ..options };
            let failed = match once(options, place, &watchdog, body()) {
                Ok(output) => output.failure().map(Failed::Found),
                Err(failed) => Some(failed),
            };
            if let Some(failed) = failed {
                drop(watchdog);
                fail(options, failed);
            }
        }
    }
}

/// Runs one test body once, under the seed and capacity of `options`, and returns its value.
///
/// # Panics
///
/// If it fails.
#[track_caller]
pub fn run<F: Future>(options: Options, body: F) -> F::Output {
    let watchdog = Watchdog::start(options.name, options.limit);
    match once(options, Location::caller(), &watchdog, body) {
        Ok(value) => value,
        Err(failed) => {
            drop(watchdog);
            fail(options, failed)
        }
    }
}

#[track_caller]
fn fail(options: Options, failed: Failed) -> ! {
    let Options { name, seed, capacity_one, .. } = options;
    let mut how = String::new();
    if capacity_one {
        how += "\nwith every queue at capacity one";
    }
    if seed != 0 {
        let _ = write!(
            how,
            "\nunder the schedule of seed {seed}; to replay it: BOWLINE_SEED={seed} cargo test {name}"
        );
    }
    match failed {
        Failed::Found(text) => panic!("test `{name}` {text}{how}"),
        Failed::Panicked(payload) => {
            // The panic itself was printed when it happened.
            if !how.is_empty() {
                eprintln!("test `{name}` failed{how}");
            }
            match payload.downcast::<String>() {
                Ok(text) => resume_unwind(Box::new(*text + &how)),
                Err(payload) => resume_unwind(payload),
            }
        }
    }
}

/// A number from the environment.
fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable} is to be a whole number, and not `{text}`"),
    }
}

fn once<F: Future>(
    options: Options,
    place: &'static Location<'static>,
    watchdog: &Watchdog,
    body: F,
) -> Result<F::Output, Failed> {
    if let Some(what) = options.needs_feature() {
        panic!("{what} needs bowline's feature `test-util`: add it to your dev-dependencies");
    }
    crate::clock::start();
    crate::panic::install_hook();
    let mut builder = match options.worker_threads {
        None => tokio::runtime::Builder::new_current_thread(),
        Some(threads) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    // An idle thread for closures goes soon: as long as it waits for the next, nothing is proved (see `closed_world`).
    builder.thread_keep_alive(Duration::from_millis(100)).on_thread_park(closed_world::worker_parks);
    let runtime = builder.enable_all().build().expect("the system gives a runtime for a test");
    let state = RootState::of_test(Trial::new(options.seed, options.capacity_one));
    let root = Root::open(options.name, place, &state);
    {
        let _inside = runtime.enter();
        root::register(&root.record);
    }
    watchdog.watch(runtime.handle(), &root.node);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            if options.start_paused {
                pause();
            }
            let mut body = pin!(Strand::new(&root.record.node, body));
            poll_fn(|cx| {
                if trial::gives_turn_away(&root.record.node) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                body.as_mut().poll(cx)
            })
            .await
        })
    }));
    let late = watchdog.verdict();
    let found = late.or_else(|| find_leaks(&runtime, &root, options)).or_else(|| {
        let unheard = state.trial().map_or_else(Vec::new, Trial::unheard);
        let first = unheard.first().filter(|_| !options.allow_panics)?;
        let more = unheard.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Some(format!(
            "had a panic that nobody is told of: {first}{more}. A scope passes it on, and a group that keeps its results shows \
             it; if the test is about it, say #[bowline::test(allow_panics)]"
        ))
    });
    if let Some(node) = root.node.upgrade() {
        node.cancel(CANCEL | ABORT, &Cause::Shutdown(Phase::Aborting));
    }
    drop(root);
    runtime.shutdown_background();
    match (ran, found) {
        (Ok(End::Panicked(panic)), _) => Err(Failed::Panicked(Box::new(panic.to_string()))),
        (Err(payload), _) => Err(Failed::Panicked(payload)),
        (_, Some(found)) => Err(Failed::Found(found)),
        (Ok(End::Value(value)), None) => Ok(value),
        (Ok(End::Cancelled), None) => Err(Failed::Found("was cancelled".to_owned())),
    }
}

/// How often the runtime's own tasks get their turn between two looks.
const YIELDS_PER_LOOK: usize = 32;

/// A task that ends within this after the test body, or after the last one that ended, is late, not leaked.
const SETTLE: Duration = Duration::from_secs(1);

/// Looks, in real time, whether the test's tasks end; says what is left.
fn find_leaks(runtime: &tokio::runtime::Runtime, root: &Root, options: Options) -> Option<String> {
    let alive = || runtime.metrics().num_alive_tasks();
    let mut pause = Duration::from_micros(50);
    let mut waited = Duration::ZERO;
    let mut fewest = usize::MAX;
    loop {
        // On one thread nothing runs unless we drive it: yields are enough, and no timer is touched (it may be paused). Tokio
        // runs some dozens of tasks per yield.
        runtime.block_on(async {
            for _ in 0..YIELDS_PER_LOOK {
                yield_once().await;
            }
        });
        let ours = root.node.upgrade().map(|node| tree::picture(vec![node]));
        let ours = ours.filter(|tree| tree.tasks + tree.blocking > 0);
        if alive() == 0 && ours.is_none() {
            break;
        }
        // Workers that have no processor for a while still get on.
        let now = alive();
        if now < fewest {
            fewest = now;
            waited = Duration::ZERO;
        }
        if waited >= SETTLE {
            return Some(describe(ours, alive()));
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "settling is about real time, on the test's own thread"
        )]
        std::thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    let adopted =
        root.node.upgrade().and_then(|node| node.root.as_ref().map(|root| root.adopted())).unwrap_or(0);
    (adopted > 0 && !options.allow_adoption).then(|| {
        format!(
            "dropped a scope's future while {adopted} of its tasks lived (they were aborted and adopted). Let scopes come \
             to their end, or say #[bowline::test(allow_adoption)]"
        )
    })
}

fn describe(ours: Option<tree::Tree>, alive: usize) -> String {
    let known = ours.as_ref().map_or(0, |tree| tree.tasks);
    let foreign = alive.saturating_sub(known);
    let mut text = String::from("left tasks behind:");
    if let Some(tree) = &ours {
        let blocking = tree.blocking;
        text += &format!(" {known} of bowline's ({blocking} more blocking)");
    }
    if foreign > 0 {
        text += &format!(" {foreign} bare tokio task(s), spawned outside of any scope");
    }
    if let Some(tree) = ours {
        text += &format!("\n{tree}");
    }
    text
}

#[cfg(feature = "test-util")]
fn pause() {
    tokio::time::pause();
}

#[cfg(not(feature = "test-util"))]
fn pause() {}

/// What a `main` may return.
pub trait MainOutput {
    /// Prints the error, if it is one, and says whether it is none.
    fn succeeded(self) -> bool;
}

impl MainOutput for () {
    fn succeeded(self) -> bool {
        true
    }
}

impl<E: Debug> MainOutput for Result<(), E> {
    fn succeeded(self) -> bool {
        if let Err(error) = &self {
            say(format_args!("Error: {error:?}"));
        }
        self.is_ok()
    }
}

/// Ends `#[bowline::main]`: says what went wrong and turns it into an exit code.
#[must_use]
pub fn conclude<T: MainOutput>(value: Option<T>, report: &Report) -> ExitCode {
    let succeeded = value.is_none_or(MainOutput::succeeded);
    if !report.is_clean() || report.panic.is_some() {
        say(format_args!("{report}"));
    }
    match (report.is_clean(), succeeded) {
        (true, false) => ExitCode::from(EXIT_FAILED),
        _ => report.exit_code(),
    }
}

/// `eprintln` without its panic when nobody reads standard error any more.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
