//! The life and the end of a process: what signals do, what is finished, what is dropped, who is named, and the exit code.
//!
//! The programs are in this file and run as real processes: this test binary starts itself again, asking for the one test
//! that is no test, with the program's name in the environment.

#![cfg(unix)]

use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bowline::{Cancelled, Cause, Phase, Reason, Runner, TaskState, drain_phase, draining, scope, shielded};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

// ---- the programs

const PROGRAM: &str = "BOWLINE_TEST_PROGRAM";

/// A program's name and its `main`, as `#[bowline::main]` made it.
type Program = (&'static str, fn() -> ExitCode);

const PROGRAMS: [Program; 13] = [
    ("returns", returns),
    ("fails", fails),
    ("panics", panics),
    ("drains", drains),
    ("does_not_finish", does_not_finish),
    ("parks", parks),
    ("says_goodbye", says_goodbye),
    ("spins", spins),
    ("blocks", blocks),
    ("ignores_the_first_signal", ignores_the_first_signal),
    ("takes_long_to_say_goodbye", takes_long_to_say_goodbye),
    ("panics_while_draining", panics_while_draining),
    ("does_not_finish_its_turn", does_not_finish_its_turn),
];

#[test]
fn the_programs_of_the_other_tests() {
    let Ok(wanted) = std::env::var(PROGRAM) else { return };
    let (_, main) = PROGRAMS.into_iter().find(|(name, _)| *name == wanted).expect("there is such a program");
    let exit = main();
    // An `ExitCode` can be compared but not read.
    let code = (0..=u8::MAX).find(|code| ExitCode::from(*code) == exit).expect("it is one of them");
    std::process::exit(i32::from(code));
}

#[bowline::main]
async fn returns() {
    println!("ready");
}

#[bowline::main]
async fn fails() -> Result<(), String> {
    Err("the disk is full".to_owned())
}

#[bowline::main]
async fn panics() {
    panic!("a bug in main");
}

/// Accepts until it is told to drain, and finishes what it has accepted.
#[bowline::main(name = "server", worker_threads = 2)]
async fn drains() -> Result<(), Cancelled> {
    scope("connections", async |s| {
        s.spawn("connection", async {
            bowline::draining().await;
            tokio::task::yield_now().await;
            bowline::check()?;
            println!("finished");
            Ok(())
        });
        println!("ready");
        bowline::draining().await;
        println!("draining");
        Ok(())
    })
    .await
}

/// Drains, and does not finish in time what it has accepted.
#[bowline::main(worker_threads = 2, shutdown_within = "5s")]
async fn does_not_finish() {
    let served = scope("connections", async |s| {
        // Named on standard error as cut off: the next line.
        s.spawn("connection", std::future::pending::<Result<(), Cancelled>>());
        println!("ready");
        bowline::draining().await;
        Ok(())
    });
    println!("{}", served.await.unwrap_err());
}

/// Says when it is dropped.
struct Says(&'static str);

impl Drop for Says {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

/// Does not look at the drain, and waits for something that knows nothing of contexts.
#[bowline::main(worker_threads = 2, shutdown_within = "1m")]
async fn parks() {
    let ended: Result<(), Cancelled> = scope("connections", async |s| {
        s.spawn::<(), _>("parked", async {
            let _says = Says("the task was dropped");
            std::future::pending().await
        });
        println!("ready");
        let _says = Says("main was dropped");
        std::future::pending().await
    })
    .await;
    println!("the scope was {}", ended.unwrap_err());
}

#[bowline::main(worker_threads = 2, shutdown_within = "10s")]
async fn says_goodbye() -> Result<(), Cancelled> {
    scope("connections", async |s| {
        s.spawn("polite", async {
            let why = bowline::cancelled().await;
            shielded(Duration::from_secs(5), async {
                tokio::task::yield_now().await;
                println!("goodbye, {why}");
            })
            .await
        });
        println!("ready");
        Ok(())
    })
    .await
}

#[bowline::main(worker_threads = 2, shutdown_within = "400ms")]
async fn spins() -> Result<(), Cancelled> {
    scope("workers", async |s| {
        // Named on standard error: the next line.
        s.spawn::<(), _>("stuck", async {
            println!("ready");
            loop {
                std::hint::spin_loop();
            }
        });
        Ok(())
    })
    .await
}

#[bowline::main(worker_threads = 2, shutdown_within = "4s")]
async fn blocks() -> Result<(), Cancelled> {
    scope("workers", async |s| {
        let supervisor = scope("inner", async |s| {
            // Named on standard error too: the next line.
            s.spawn_blocking::<(), _>("crunch", || {
                println!("ready");
                loop {
                    std::thread::park();
                }
            });
            Ok::<_, Cancelled>(())
        });
        s.spawn("supervisor", supervisor);
        Ok(())
    })
    .await
}

/// Has a minute, and uses it unless it is forced.
#[bowline::main(worker_threads = 2, shutdown_within = "1m")]
async fn ignores_the_first_signal() -> Result<(), Cancelled> {
    let _says = Says("main was dropped");
    println!("ready");
    bowline::draining().await;
    println!("draining");
    std::future::pending().await
}

#[bowline::main(worker_threads = 2, shutdown_within = "10m")]
async fn takes_long_to_say_goodbye() {
    println!("ready");
    let _why = bowline::cancelled().await;
    println!("cancelled");
    let _ = shielded(Duration::from_secs(3600), std::future::pending::<()>()).await;
}

#[bowline::main(worker_threads = 2)]
async fn panics_while_draining() {
    println!("ready");
    bowline::draining().await;
    panic!("a bug in the drain");
}

/// Has its store wait for a worker that takes long.
#[bowline::main(worker_threads = 2, shutdown_within = "1m")]
async fn does_not_finish_its_turn() -> Result<(), Cancelled> {
    scope("service", async |s| {
        s.spawn(
            "store",
            drain_phase("store").run(async {
                draining().await;
                println!("store closed"); // forced, it is dropped before
                Ok(())
            }),
        );
        s.spawn::<(), _>(
            "worker",
            drain_phase("workers").run(async {
                draining().await;
                println!("finishing");
                std::future::pending().await
            }),
        );
        println!("ready");
        Ok(())
    })
    .await
}

// ---- running them

/// Long enough for the slowest machine.
const HANG: Duration = Duration::from_secs(60);

struct Process {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Process {
    fn start(program: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a test has a path"))
            .args(["--exact", "the_programs_of_the_other_tests", "--nocapture", "--quiet"])
            .env(PROGRAM, program)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it can be started");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// Reads standard output up to a line.
    async fn until(&mut self, line: &str) {
        let reading = async {
            while let Some(next) = self.lines.next_line().await.expect("it is text") {
                let found = next == line;
                self.seen.push(next);
                if found {
                    return;
                }
            }
            panic!("it ended without `{line}`: {:?}", self.seen);
        };
        tokio::time::timeout(HANG, reading).await.expect("it hangs");
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await;
        assert!(sent.expect("there is a shell").success());
    }

    /// Reads one line of standard error.
    async fn error_line(&mut self) -> String {
        let mut line = Vec::new();
        let stderr = self.child.stderr.as_mut().expect("it is piped");
        while line.last() != Some(&b'\n') {
            line.push(
                tokio::time::timeout(HANG, stderr.read_u8()).await.expect("it hangs").expect("it runs"),
            );
        }
        String::from_utf8(line).expect("it is text")
    }

    /// Waits for the end: status, and what else was said on standard output and error.
    async fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        let ending = async {
            while let Some(next) = self.lines.next_line().await.expect("it is text") {
                self.seen.push(next);
            }
            let mut errors = String::new();
            if let Some(stderr) = &mut self.child.stderr {
                stderr.read_to_string(&mut errors).await.expect("it is text");
            }
            (self.child.wait().await.expect("it ends"), errors)
        };
        let (status, errors) = tokio::time::timeout(HANG, ending).await.expect("it hangs");
        (status, self.seen, errors)
    }
}

fn said(lines: &[String], line: &str) -> bool {
    lines.iter().any(|said| said == line)
}

/// The place of the line that a comment in this file announces.
fn place_after(comment: &str) -> String {
    let comment = format!("// {comment}");
    let at = include_str!("runner.rs").lines().position(|line| line.trim() == comment).expect("it is there");
    format!("tests/runner.rs:{}", at + 2)
}

// ---- what they must do

#[bowline::test]
async fn a_main_that_returns_ends_the_process_with_0_and_says_nothing() {
    let (status, lines, errors) = Process::start("returns").end().await;
    assert!(said(&lines, "ready"));
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
}

#[bowline::test]
async fn a_main_that_returns_an_error_prints_it_and_ends_with_1() {
    let (status, _, errors) = Process::start("fails").end().await;
    assert_eq!((status.code(), errors.as_str()), (Some(1), "Error: \"the disk is full\"\n"));
}

#[bowline::test]
async fn a_main_that_panics_ends_with_1_and_the_report_has_the_panic() {
    let (status, _, errors) = Process::start("panics").end().await;
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("task `main` panicked at crates/bowline/tests/runner.rs:"), "{errors}");
    assert!(errors.contains("a bug in main"), "{errors}");
}

#[bowline::test]
async fn a_signal_drains_and_a_clean_end_is_0() {
    for (signal, name) in [("TERM", "SIGTERM"), ("INT", "SIGINT")] {
        let mut process = Process::start("drains");
        process.until("ready").await;
        process.signal(signal).await;
        let (status, lines, errors) = process.end().await;
        assert_eq!(status.code(), Some(0), "{errors}");
        assert!(said(&lines, "draining") && said(&lines, "finished"), "{lines:?}");
        assert!(
            errors.starts_with(&format!("{name}: draining for at most 24.0 s; once more to force\n")),
            "{errors}"
        );
    }
}

#[bowline::test]
async fn a_process_whose_standard_error_nobody_reads_drains_all_the_same() {
    let mut process = Process::start("drains");
    process.until("ready").await;
    drop(process.child.stderr.take());
    process.signal("TERM").await;
    let (status, lines, _) = process.end().await;
    assert!(said(&lines, "finished"), "{lines:?}");
    assert_eq!(status.code(), Some(0));
}

/// vector#13731: the exit code is 0 after a forced kill.
#[bowline::test]
async fn what_was_accepted_and_not_finished_in_time_is_named_and_the_code_is_3() {
    let mut process = Process::start("does_not_finish");
    process.until("ready").await;
    process.signal("TERM").await;
    let (status, lines, errors) = process.end().await;
    assert!(said(&lines, "cancelled: the process is shutting down"), "{lines:?}");
    assert_eq!(status.code(), Some(3), "{errors}");
    assert!(errors.contains("1 not finished when the time for draining was over"), "{errors}");
    let place = place_after("Named on standard error as cut off: the next line.");
    assert!(errors.contains("task `main/connection` spawned at ") && errors.contains(&place), "{errors}");
    assert!(!errors.contains("did not stop"), "{errors}");
}

#[bowline::test]
async fn where_nobody_drains_what_waits_is_dropped_at_once_and_that_is_clean() {
    let mut process = Process::start("parks");
    process.until("ready").await;
    let signalled = tokio::time::Instant::now();
    process.signal("TERM").await;
    let (status, lines, errors) = process.end().await;
    assert!(signalled.elapsed() < Duration::from_secs(20), "it has 48 s for a drain that nobody wants");
    assert!(said(&lines, "the task was dropped") && said(&lines, "main was dropped"), "{lines:?}");
    assert!(
        said(&lines, "the scope was cancelled: the process is shutting down"),
        "it came to its end: {lines:?}"
    );
    assert_eq!(status.code(), Some(0), "{errors}");
}

#[bowline::test]
async fn a_cancelled_task_gets_to_say_goodbye() {
    let mut process = Process::start("says_goodbye");
    process.until("ready").await;
    process.signal("TERM").await;
    let (status, lines, errors) = process.end().await;
    assert!(said(&lines, "goodbye, cancelled: the process is shutting down"), "{lines:?}");
    assert_eq!(status.code(), Some(0), "{errors}");
}

#[bowline::test]
async fn a_task_that_never_yields_is_named_with_its_place_and_the_code_is_3() {
    let mut process = Process::start("spins");
    process.until("ready").await;
    process.signal("TERM").await;
    let (status, _, errors) = process.end().await;
    assert_eq!(status.code(), Some(3), "{errors}");
    assert!(errors.contains("forced shutdown (SIGTERM)") && errors.contains("1 did not stop"), "{errors}");
    assert!(errors.contains("task `main/stuck` spawned at "), "{errors}");
    assert!(
        errors.contains(&format!("{}, running", place_after("Named on standard error: the next line."))),
        "{errors}"
    );
}

#[bowline::test]
async fn a_blocking_closure_that_does_not_end_is_named_with_its_place_and_the_code_is_3() {
    let mut process = Process::start("blocks");
    process.until("ready").await;
    process.signal("TERM").await;
    let (status, _, errors) = process.end().await;
    assert_eq!(status.code(), Some(3), "{errors}");
    assert!(errors.contains("task `main/supervisor/crunch` spawned at "), "{errors}");
    assert!(
        errors.contains(&format!("{}, blocking", place_after("Named on standard error too: the next line."))),
        "{errors}"
    );
    let blamed = "1 did not stop (1 blocking closure):";
    assert!(errors.contains(blamed), "who only waits for it is not blamed: {errors}");
    let when = "SIGTERM: cancelling after ";
    let told = " of 4.0 s, waiting for 1 task (1 blocking closure):\n  task `main/supervisor/crunch`";
    assert!(errors.contains(when) && errors.contains(told), "and it was told while there was time: {errors}");
}

#[bowline::test]
async fn a_second_signal_forces_the_end_at_once() {
    let mut process = Process::start("ignores_the_first_signal");
    process.until("ready").await;
    process.signal("TERM").await;
    assert!(process.error_line().await.starts_with("SIGTERM: draining for at most 48.0 s"));
    process.until("draining").await;
    let forced = tokio::time::Instant::now();
    process.signal("INT").await;
    let (status, lines, errors) = process.end().await;
    assert!(forced.elapsed() < Duration::from_secs(20), "it has 48 s for draining");
    assert!(said(&lines, "main was dropped"), "{lines:?}");
    assert_eq!(status.code(), Some(3), "{errors}");
    assert!(errors.starts_with("shutdown forced by a second signal (SIGTERM)"), "{errors}");
    assert!(errors.contains("1 not finished when the second signal came, and aborted:"), "{errors}");
    assert!(errors.contains("task `main` spawned at "), "{errors}");
}

#[bowline::test]
async fn a_second_signal_forces_the_end_also_when_everybody_was_cancelled() {
    let mut process = Process::start("takes_long_to_say_goodbye");
    process.until("ready").await;
    process.signal("TERM").await;
    process.until("cancelled").await;
    process.signal("TERM").await;
    let (status, _, errors) = process.end().await;
    assert_eq!(status.code(), Some(3), "{errors}");
    assert!(errors.contains("shutdown forced by a second signal (SIGTERM)"), "{errors}");
}

#[bowline::test]
async fn a_second_signal_forces_the_end_also_in_the_turn_of_a_phase() {
    let mut process = Process::start("does_not_finish_its_turn");
    process.until("ready").await;
    process.signal("TERM").await;
    process.until("finishing").await;
    let forced = tokio::time::Instant::now();
    process.signal("TERM").await;
    let (status, lines, errors) = process.end().await;
    assert!(forced.elapsed() < Duration::from_secs(10), "the phase has 24 s");
    assert_eq!(status.code(), Some(3), "{errors}");
    assert!(!said(&lines, "store closed"), "{lines:?}");
    assert!(errors.contains("shutdown forced by a second signal (SIGTERM)"), "{errors}");
    assert!(errors.contains("; drained `workers` "), "{errors}");
    assert!(errors.contains("not finished when the second signal came, and aborted:"), "{errors}");
}

#[bowline::test]
async fn a_panic_while_draining_ends_with_1() {
    let mut process = Process::start("panics_while_draining");
    process.until("ready").await;
    process.signal("TERM").await;
    let (status, _, errors) = process.end().await;
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("a bug in the drain"), "{errors}");
}

// ---- reports, without a process

fn runner() -> Runner {
    Runner::new("test").worker_threads(1).shutdown_within(Duration::from_secs(10)).without_signals()
}

#[test]
fn the_report_of_a_clean_run_says_so() {
    let (value, report) = runner().run(async { 7 });
    assert_eq!((value, report.reason.clone(), report.is_clean()), (Some(7), Reason::Finished, true));
    assert!(report.stragglers.is_empty() && report.panic.is_none() && report.cancelled.is_none());
    assert!(report.to_string().starts_with("clean shutdown (main finished) in 0."), "{report}");
    assert_eq!((report.adopted, report.exit_code()), (0, ExitCode::SUCCESS));
}

#[test]
fn a_program_may_ask_for_its_own_end() {
    let (value, report) = runner().run(async {
        scope("server", async |s| {
            s.spawn("watches", async {
                bowline::shut_down("the disk is full");
                bowline::shut_down("said later");
                Ok(())
            });
            bowline::draining().await;
            Ok::<_, Cancelled>(7)
        })
        .await
    });
    assert_eq!((value, report.reason.clone()), (Some(Ok(7)), Reason::Requested("the disk is full")));
    assert!(
        report.is_clean() && report.to_string().starts_with("clean shutdown (the disk is full)"),
        "{report}"
    );
}

#[test]
fn what_main_leaves_in_foreign_hands_is_cancelled_when_it_returns() {
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let (value, report) = runner().run(async move {
        let (opened, is_open) = tokio::sync::oneshot::channel();
        // A scope in a foreign task hangs under the root: the root waits for it.
        #[expect(clippy::disallowed_methods, reason = "a framework's handler is what this is about")]
        tokio::spawn(async move {
            scope("handler", async |s| {
                s.spawn("works", async move {
                    let why = bowline::cancelled().await;
                    tell.store(why.cause() == &Cause::Shutdown(Phase::Cancelling), Ordering::Relaxed);
                    Err::<(), _>(why)
                });
                opened.send(()).unwrap();
                Ok::<_, Cancelled>(())
            })
            .await
        });
        is_open.await.unwrap();
    });
    assert_eq!((value, report.is_clean(), report.phase), (Some(()), true, Phase::Cancelling));
    assert!(told.load(Ordering::Relaxed));
}

#[test]
fn who_does_not_stop_is_in_the_report_and_run_returns_within_the_budget() {
    let (release, held) = mpsc::sync_channel::<()>(0);
    let began = tokio::time::Instant::now();
    let (value, report) = runner().shutdown_within(Duration::from_millis(200)).run(async move {
        #[expect(clippy::disallowed_methods, reason = "a framework's handler is what this is about")]
        tokio::spawn(scope("handler", async |s| {
            s.spawn_blocking("stuck", move || {
                let _ = held.recv();
                Ok(())
            });
            Ok::<_, Cancelled>(())
        }));
        while bowline::tree().blocking == 0 {
            tokio::task::yield_now().await;
        }
        7
    });
    assert!(began.elapsed() < HANG);
    assert_eq!((value, report.is_clean(), report.phase), (Some(7), false, Phase::Aborting));
    assert_eq!(report.exit_code(), ExitCode::from(3));
    let [straggler] = &report.stragglers[..] else { panic!("{report}") };
    assert_eq!((straggler.path.as_str(), &straggler.state), ("stuck", &TaskState::Blocking));
    assert!(straggler.place.contains("tests/runner.rs:"), "{report}");
    drop(release);
}

#[test]
fn tasks_that_outlive_the_future_of_their_scope_are_counted() {
    let (_, report) = runner().run(async {
        let dropped = scope("dropped", async |s| {
            for _ in 0..3 {
                s.spawn("parked", std::future::pending::<Result<(), Cancelled>>());
            }
            std::future::pending::<Result<(), Cancelled>>().await
        });
        bowline::race(tokio::task::yield_now(), dropped).await;
    });
    assert_eq!((report.adopted, report.is_clean()), (3, true));
}

#[test]
fn the_longest_budget_overflows_nothing() {
    let (value, report) = runner().shutdown_within(Duration::MAX).run(async {
        let _ = scope("scope", async |s| {
            s.spawn("ends", async { Ok(()) });
            Ok::<_, Cancelled>(())
        })
        .await;
    });
    assert!(value.is_some() && report.is_clean());
}
