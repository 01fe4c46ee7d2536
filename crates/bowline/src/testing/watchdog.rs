//! The time limit of a test: a thread that looks on in real time, and says what lived when the time was over.
//!
//! # End
//!
//! The thread ends with the test. At the limit it takes a picture of the tree and aborts the run, so that the test's own
//! thread comes back and fails with that picture. It does so before, with the proof, when [nothing in the process can
//! move](super::closed_world). If it does not come back within [`GRACE`] (or the limit, if that is shorter),
//! it is stuck in code that does not await: then the picture goes to standard error and the process ends.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;

use super::closed_world::{self, Own, Stirs};
use crate::cause::Cause;
use crate::detect;
use crate::node::Node;
use crate::record::{ABORT, CANCEL, Kind};
use crate::sync::LockExt;
use crate::tree;

/// How long an aborted test has to come back.
const GRACE: Duration = Duration::from_secs(5);

/// Between two looks at whether anything moves.
const LOOK: Duration = Duration::from_millis(50);

/// Exit code of a process that had to be ended: the one of a failed test run.
const EXIT_FAILED: i32 = 101;

pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    test: &'static str,
    limit: Duration,
    /// The thread that the test runs on, if the system tells.
    runner: Option<u32>,
    state: Mutex<State>,
    changed: Condvar,
}

/// A run of a test: its runtime, and its root.
type Run = (Handle, Weak<Node>);

#[derive(Default)]
struct State {
    /// The run that is going on.
    run: Option<Run>,
    /// What was found when the time was over.
    verdict: Option<String>,
    ended: bool,
}

impl Watchdog {
    pub(super) fn start(test: &'static str, limit: Duration) -> Self {
        let shared = Arc::new(Shared {
            test,
            limit,
            runner: closed_world::this_thread(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        // A thread, because it must run when the runtime does not; joined when this is dropped. Without it (the system is out
        // of threads) the test has no limit, and nothing else depends on it.
        let thread =
            std::thread::Builder::new().name("bowline-watchdog".into()).spawn(move || watched.watch());
        Self { shared, thread: thread.ok() }
    }

    /// From here on, until the next call, this is what the picture shows and what is aborted.
    pub(super) fn watch(&self, runtime: &Handle, node: &Weak<Node>) {
        self.shared.state.lock_unpoisoned().run = Some((runtime.clone(), node.clone()));
    }

    /// Returns what lived when the time was over, if it is.
    pub(super) fn verdict(&self) -> Option<String> {
        self.shared.state.lock_unpoisoned().verdict.clone()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.state.lock_unpoisoned().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn watch(&self) {
        let _own = closed_world::own(Own::LooksOn);
        let Some((run, stirs)) = self.look_on() else { return };
        let verdict = match (&run, stirs) {
            (Some(run), None) => proof(run),
            (Some(run), Some(stirs)) => format!("did not end within {:?}{}{stirs}", self.limit, picture(run)),
            (None, _) => format!("did not end within {:?}", self.limit),
        };
        self.state.lock_unpoisoned().verdict = Some(verdict.clone());
        if let Some(node) = run.and_then(|(_, node)| node.upgrade()) {
            node.cancel(CANCEL | ABORT, &Cause::Requested("the test's time is over"));
        }
        if !self.wait(self.state.lock_unpoisoned(), GRACE.min(self.limit)).ended {
            let _ = writeln!(
                std::io::stderr(),
                "test `{}` {verdict}\nIt does not stop when it is aborted: it is stuck in code that does not await. \
                 The process ends here, and with it every other test in it.",
                self.test
            );
            process::exit(EXIT_FAILED);
        }
    }

    /// Returns what runs when the time is over, and what moved last; or nothing did, and nothing ever will.
    fn look_on(&self) -> Option<(Option<Run>, Option<Stirs>)> {
        let mut left = self.limit;
        let mut stirs = Stirs::Unknown;
        loop {
            let state = self.wait(self.state.lock_unpoisoned(), left.min(LOOK));
            if state.ended {
                return None;
            }
            // The looks and the walk of the tree are outside of the lock: they ask programs' own queues for their statistics.
            let run = state.run.clone();
            drop(state);
            left = left.saturating_sub(LOOK);
            if let (Some(runner), Some(_)) = (self.runner, &run) {
                match closed_world::look(runner) {
                    Ok(()) => return Some((run, None)),
                    Err(what) => stirs = what,
                }
            }
            if left.is_zero() {
                return Some((run, Some(stirs)));
            }
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout_while(state, limit, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What stands still in a run of which nothing can move any more.
fn proof((runtime, node): &Run) -> String {
    let Some(node) = node.upgrade() else { return String::new() };
    let mut text = String::from(
        "stands still for ever: no task can run, no timer is pending, no socket is waited for, and every thread of the process sleeps",
    );
    for deadlock in detect::at_rest(&node) {
        let _ = write!(text, "\n{deadlock}");
    }
    let tree = {
        let _inside = runtime.enter(); // foreign tasks are counted by runtime
        tree::picture(vec![Arc::clone(&node)])
    };
    if let Some(foreign @ 1..) = tree.foreign_tasks {
        let _ =
            write!(text, "\n{foreign} bare tokio task(s) stand still as well; where they wait, nobody knows");
    }
    for panic in unheard(&node) {
        let _ = write!(text, "\n{panic}");
    }
    text
}

fn unheard(node: &Node) -> Vec<String> {
    node.root.as_ref().and_then(|root| root.trial().map(|trial| trial.unheard())).unwrap_or_default()
}

/// What lives in a run: its tree, and what the test's own body does.
fn picture((runtime, node): &Run) -> String {
    let Some(node) = node.upgrade() else { return String::new() };
    let _inside = runtime.enter(); // foreign tasks are counted by runtime
    let mut text = String::from("; this lived then:\n");
    node.each_child(|record| {
        if record.kind == Kind::Strand && record.polls() + u32::from(record.is_running()) > 0 {
            let _ = writeln!(text, "the test's own body: {}", tree::state(record));
        }
    });
    for panic in unheard(&node) {
        let _ = writeln!(text, "{panic}");
    }
    let _ = write!(text, "{}", tree::picture(vec![node]));
    text
}
