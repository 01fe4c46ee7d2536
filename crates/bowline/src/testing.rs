//! What `#[bowline::test]` expands to. Not part of the stable interface.

use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::time::Duration;

use crate::cause::Cause;
use crate::record::{ABORT, CANCEL};
use crate::root::{self, RootState};
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
}

/// How often the runtime's own tasks get their turn between two looks.
const YIELDS_PER_LOOK: usize = 32;

/// A task that ends within this after the test body is late, not leaked.
const SETTLE: Duration = Duration::from_millis(250);

/// Runs one test on a runtime of its own and panics if it left something behind.
///
/// # Panics
///
/// With the test's own panic, or with the list of what it leaked.
#[track_caller]
pub fn run<F: Future>(options: Options, body: F) -> F::Output {
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
    let runtime = builder.enable_all().build().expect("the system gives a runtime for a test");
    let state = RootState::new();
    let root = Root::open(options.name, Location::caller(), &state);
    {
        let _inside = runtime.enter();
        root::register(&root.record);
    }
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let node = root.node.upgrade().expect("the root was opened a moment ago");
        runtime.block_on(async move {
            if options.start_paused {
                pause();
            }
            Strand::new(&node, body).await
        })
    }));
    let leaked = find_leaks(&runtime, &root, options);
    if let Some(node) = root.node.upgrade() {
        node.cancel(CANCEL | ABORT, &Cause::Shutdown);
    }
    drop(root);
    runtime.shutdown_background();
    match ran {
        Ok(End::Value(value)) => match leaked {
            None => value,
            Some(leaked) => panic!("test `{}` {leaked}", options.name),
        },
        Ok(End::Panicked(panic)) => resume_unwind(Box::new(panic.to_string())),
        Ok(End::Cancelled) => panic!("test `{}` was cancelled", options.name),
        Err(payload) => resume_unwind(payload),
    }
}

/// Runs the code of a doc example.
///
/// # Panics
///
/// As a test would.
#[track_caller]
pub fn example<F: Future>(body: F) -> F::Output {
    run(Options { name: "example", worker_threads: None, start_paused: false, allow_adoption: false }, body)
}

/// Runs the code of a doc example with tokio's clock paused.
///
/// # Panics
///
/// As a test would.
#[track_caller]
pub fn example_paused<F: Future>(body: F) -> F::Output {
    run(Options { name: "example", worker_threads: None, start_paused: true, allow_adoption: false }, body)
}

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

impl<E: std::fmt::Debug> MainOutput for Result<(), E> {
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

#[cfg(feature = "test-util")]
fn pause() {
    tokio::time::pause();
}

#[cfg(not(feature = "test-util"))]
fn pause() {
    panic!("start_paused needs bowline's feature `test-util`: add it to your dev-dependencies");
}

/// `eprintln` without its panic when nobody reads standard error any more.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Looks, in real time, whether the test's tasks end; says what is left.
fn find_leaks(runtime: &tokio::runtime::Runtime, root: &Root, options: Options) -> Option<String> {
    let alive = || runtime.metrics().num_alive_tasks();
    let mut pause = Duration::from_micros(50);
    let mut waited = Duration::ZERO;
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

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
