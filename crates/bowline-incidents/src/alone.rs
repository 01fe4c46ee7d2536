//! A row in a process of its own: on a heap that no other row has grown, and a crash ends one row and not the run.
//!
//! The child is this very program. Progress it draws itself, on the standard error it shares with its parent; what it has found it
//! writes as one line of JSON to its standard output, and the parent judges.
//!
//! # Invariants
//!
//! 1. Nothing outlives the parent. The child's standard input is a pipe on which nothing is ever said: when it closes, because the
//!    run is cut short or the parent has been killed, the child ends, with all that it has started.
//! 2. Nothing outlives the child. It is the first of a group of processes; when it has ended, however, the parent kills what is left
//!    of the group and removes its scratch directories. The group is also why Ctrl-C on a terminal is heard by the parent alone.
//! 3. The child is waited for by whoever has taken it out of [`RUNNING`]: the thread that reads its findings, or the one that cuts the run
//!    short. Its number is nobody else's until then.
//! 4. A child that does not end is killed: a row that hangs is one that has missed, and the others still run.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::kit::{self, child, scratch};
use crate::lab::{Trouble, lock};
use crate::report::live::{Live, Place};
use crate::row::Row;
use crate::run::{Findings, Outcome, judge};
use crate::{Scale, rows, run};

/// What a child calls itself in [`child`].
pub(crate) const PART: &str = "row";

/// How long a child has to end what it has started once it is told to.
const GRACE: Duration = Duration::from_secs(5);

static RUNNING: Mutex<Running> = Mutex::new(Running { child: None, is_over: false });

struct Running {
    child: Option<Child>,
    /// Nobody is started any more.
    is_over: bool,
}

/// What a child says.
#[derive(serde::Serialize, serde::Deserialize)]
struct Found {
    tied: Findings,
    leaky: Findings,
}

/// Runs `row` in a process of its own.
///
/// # Errors
///
/// How the process ended, if it did so without findings; or that it had to be killed, because it did not end at all.
pub(crate) fn run_alone(row: &'static Row, scale: Scale) -> Result<Outcome, Trouble> {
    let command = child::command(PART, &format!("{} {}", row.id, scale.word()))?;
    // Each form ends itself at its limit, unless it holds the thread that would have to end it. The rest is for what comes before and after.
    let said = hear(command, run::limit(scale) * 2 + Duration::from_secs(60))?;
    let found: Option<Found> = said.text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    match found {
        Some(Found { tied, leaky }) => Ok(judge(row, scale, tied, leaky)),
        None => Err(format!("its process ended without a word: {}", said.status).into()),
    }
}

/// What a child has said, and how it ended.
struct Said {
    text: String,
    status: ExitStatus,
}

/// Runs a child to its end, and kills it with all it has started if that takes longer than `patience`.
fn hear(mut command: Command, patience: Duration) -> Result<Said, Trouble> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut said = String::new();
    let mut output = start(command)?;
    let (over, is_over) = mpsc::sync_channel::<()>(0);
    let (read, is_late) = std::thread::scope(|threads| {
        let watch = threads.spawn(move || {
            let is_late = is_over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if let (true, Some(child)) = (is_late, &lock(&RUNNING).child) {
                // Nobody has waited for it: its group is its own.
                let _ = group_of(child).map(|group| kill_process_group(group, Signal::KILL));
            }
            is_late
        });
        let read = output.read_to_string(&mut said);
        drop(over);
        (read, watch.join().unwrap_or(false))
    });
    // Whoever cuts the run short may have taken it.
    let child = lock(&RUNNING).child.take();
    let Some(child) = child else { halt() };
    let status = ended(child, Duration::MAX)?;
    if is_late {
        return Err(format!("its process did not end within {} s and was killed", patience.as_secs()).into());
    }
    read?;
    Ok(Said { text: said, status })
}

fn group_of(child: &Child) -> io::Result<Pid> {
    Ok(i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?)
}

/// Starts the child and lists it, in one step; returns what it writes.
fn start(mut command: Command) -> Result<std::process::ChildStdout, Trouble> {
    let mut running = lock(&RUNNING);
    if running.is_over {
        drop(running);
        halt();
    }
    let mut child = command.spawn()?;
    let said = child.stdout.take().ok_or("no pipe")?;
    running.child = Some(child);
    Ok(said)
}

/// Whoever has cut the run short ends this process: until then there is nothing more to be run or said.
fn halt() -> ! {
    loop {
        std::thread::park();
    }
}

/// Ends the child there is, with all that it has started, and lets none begin from now on.
pub(crate) fn end_all() {
    let mut running = lock(&RUNNING);
    running.is_over = true;
    if let Some(child) = running.child.take() {
        let _ = ended(child, GRACE);
    }
}

/// Tells a child to end if it has not, waits for it, and removes what it has left.
#[expect(clippy::disallowed_methods, reason = "an OS thread waits for a process, beside all runtimes")]
fn ended(mut child: Child, grace: Duration) -> io::Result<ExitStatus> {
    drop(child.stdin.take());
    let id = child.id();
    let group = group_of(&child)?;
    let began = Instant::now();
    // Looked at only: as long as nobody has waited for it, its number and its group are its own.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while matches!(waitid(WaitId::Pid(group), look), Ok(None)) && began.elapsed() < grace {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = kill_process_group(group, Signal::KILL);
    let status = child.wait();
    scratch::remove_of(id);
    status
}

/// What a child does: runs its row, and says what it has found.
pub(crate) fn run_as_child(with: &str) -> Result<(), Trouble> {
    let (id, scale) = with.split_once(' ').ok_or("no scale")?;
    let row = rows::find(id).ok_or("no such row")?;
    let scale = Scale::named(scale).ok_or("no such scale")?;
    end_with_parent();
    // To the end of the process: what its row has done on purpose may be told of late.
    let _hush = bowline::on_alert(|_| {});
    let outcome = run_here(row, scale);
    kit::end_all();
    let found = Found { tied: outcome.tied, leaky: outcome.leaky };
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &found)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Runs `row` in this process, and shows how it goes.
pub(crate) fn run_here(row: &'static Row, scale: Scale) -> Outcome {
    let live = Live::new(row, Place::of_stderr());
    let outcome = run(row, scale, &|progress| live.tell(progress));
    live.end();
    outcome
}

#[expect(
    clippy::disallowed_methods,
    reason = "outlives every runtime that a row makes, and ends with the process"
)]
fn end_with_parent() {
    std::thread::spawn(|| {
        // Nothing is ever said: this returns when the other end is gone.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        kit::end_all();
        std::process::exit(130);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_hangs_is_killed_with_what_it_has_started_and_the_next_one_runs() {
        let mut hanging = Command::new("sh");
        // Both keep the pipe open: unless both are killed, this test does not end either.
        hanging.args(["-c", "sleep 100000 & echo begun; sleep 100000"]);
        let trouble = hear(hanging, Duration::from_millis(300)).err().expect("it hangs");
        assert!(trouble.to_string().contains("did not end within 0 s"), "{trouble}");
        let mut well = Command::new("sh");
        well.args(["-c", "echo found; exit 3"]);
        let said = hear(well, Duration::from_secs(500)).unwrap();
        assert_eq!((said.text.as_str(), said.status.code()), ("found\n", Some(3)));
    }
}
