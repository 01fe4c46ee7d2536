//! A child process that dies with its owner.
//!
//! What it writes goes to a file: it never blocks on a reader that has stopped reading, and what it said is there when it
//! fails. A process is listed from its start to its end, so that `end_all` reaches it whoever holds it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Scratch;
use crate::lab::{Trouble, lock};

static RUNNING: Mutex<Running> = Mutex::new(Running { children: Vec::new(), is_over: false });

struct Running {
    children: Vec<Weak<Mutex<Child>>>,
    /// Nobody is started any more.
    is_over: bool,
}

/// A child process, killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Arc<Mutex<Child>>,
    output: PathBuf,
}

impl Process {
    /// Starts `command`. What it writes goes to a file of this name in `scratch`, which has to outlive it.
    ///
    /// # Errors
    ///
    /// The program's name, and what the system says about starting it.
    pub fn start(name: &'static str, mut command: Command, scratch: &Scratch) -> Result<Self, Trouble> {
        let output = scratch.path().join(format!("{name}.out"));
        let file = File::create(&output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // Started and listed in one step: whoever ends all of them either finds this one, or lets it not begin.
        let mut running = lock(&RUNNING);
        if running.is_over {
            return Err(format!("{name} is not started: the run is over").into());
        }
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        let child = Arc::new(Mutex::new(child));
        running.children.retain(|child| child.strong_count() > 0);
        running.children.push(Arc::downgrade(&child));
        drop(running);
        Ok(Self { name, child, output })
    }

    /// The system's number for it.
    #[must_use]
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// All that it has written so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready` makes something of what it has written.
    ///
    /// # Cancel safety
    ///
    /// Only looks: nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// What it said, if it ends before, or has not said it within 30 s.
    pub async fn wait_said<T>(&self, ready: impl Fn(&str) -> Option<T>) -> Result<T, Trouble> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let until = Instant::now() + PATIENCE;
        loop {
            // Asked first: what it said before it ended counts.
            let is_running = self.is_running();
            let said = self.said();
            if let Some(found) = ready(&said) {
                return Ok(found);
            }
            if !is_running || Instant::now() > until {
                let end = if is_running { "is not ready after 30 s" } else { "ended before it was ready" };
                return Err(format!("{} {end}: {}", self.name, said.trim()).into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(lock(&self.child).try_wait(), Ok(None))
    }

    /// Kills it where it stands, as a power cut would, and waits until it is gone.
    pub fn kill(&self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Waits until it has ended.
    ///
    /// # Cancel safety
    ///
    /// Only looks: nothing is lost if the future is dropped.
    pub async fn wait_ended(&self) {
        while self.is_running() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resident memory; 0 when it has ended.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        crate::sample::resident_bytes_of(&self.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills all there are, whoever holds them, and lets none begin from now on.
pub(super) fn end_all() {
    let mut running = lock(&RUNNING);
    running.is_over = true;
    let children: Vec<_> = running.children.drain(..).filter_map(|child| child.upgrade()).collect();
    drop(running);
    for child in children {
        let mut child = lock(&child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn what_a_process_says_is_waited_for_and_it_dies_with_its_owner() {
        let scratch = Scratch::new().unwrap();
        let process = Process::start("shell", shell("echo ready on 7; exec sleep 600"), &scratch).unwrap();
        let port = process.wait_said(|said| said.split_once("on ")?.1.trim().parse::<u16>().ok()).await;
        assert_eq!(port.unwrap(), 7);
        let id = process.id();
        assert!(process.is_running());
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }

    #[tokio::test]
    async fn a_process_that_ends_too_early_is_quoted() {
        let scratch = Scratch::new().unwrap();
        let process = Process::start("shell", shell("echo no such database; exit 3"), &scratch).unwrap();
        let error = process.wait_said(|said| said.contains("ready").then_some(())).await.unwrap_err();
        assert_eq!(error.to_string(), "shell ended before it was ready: no such database");
    }
}
