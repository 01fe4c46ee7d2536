//! The server that is measured: a child process of the same binary.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::ops::process;

/// Why a measurement could not be made.
#[derive(Debug)]
pub enum BenchError {
    /// The server could not be started, or did not say where it listens.
    Start(String),
    /// A connection failed.
    Io(io::Error),
    /// The limit of open files is too low for so many connections.
    OpenFiles {
        /// What load and server need, each.
        needed: u64,
        /// What they may have.
        limit: u64,
    },
    /// The measurement was cancelled.
    Cancelled(bowline::Cancelled),
    /// A signal came before the measurement was done.
    Stopped,
    /// The result could not be written.
    Output(io::Error),
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(why) => write!(f, "the server did not start: {why}"),
            Self::Io(error) => write!(f, "a connection failed: {error}"),
            Self::OpenFiles { needed, limit } => {
                write!(
                    f,
                    "needs {needed} open files and the limit is {limit}: raise it with `ulimit -n {needed}`"
                )
            }
            Self::Cancelled(cancelled) => write!(f, "{cancelled}"),
            Self::Stopped => f.write_str("stopped before anything was measured"),
            Self::Output(error) => write!(f, "the result cannot be written: {error}"),
        }
    }
}

impl std::error::Error for BenchError {}

impl From<io::Error> for BenchError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<bowline::Cancelled> for BenchError {
    fn from(cancelled: bowline::Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct ServerUnderTest {
    child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Kept open, so that whatever the server still says has somewhere to go.
    _stdout: BufReader<ChildStdout>,
}

impl ServerUnderTest {
    /// Starts the server on free ports, open to everybody on this machine, for as many connections.
    ///
    /// # Errors
    ///
    /// [`BenchError::Start`] says what the server said; [`BenchError::OpenFiles`] if there cannot be so many connections.
    pub fn start(connections: usize) -> Result<Self, BenchError> {
        enough_files(connections)?;
        let start = |why: &dyn std::fmt::Display| BenchError::Start(why.to_string());
        let binary = std::env::current_exe().map_err(|error| start(&error))?;
        let mut child = Command::new(binary)
            .args(["serve", "--dev", "--set", "http_server.port=0", "--set", "http_server.internal_port=0"])
            .args(["--set", "log.level=error"])
            // The load answers no pings, and may be owed more than a client of the real world.
            .args(["--set", "client.ping_interval=24h", "--set", "client.queue_max_size=67108864"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| start(&error))?;
        let stdout = child.stdout.take().ok_or_else(|| start(&"its output is closed"))?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        loop {
            line.clear();
            if stdout.read_line(&mut line).map_err(|error| start(&error))? == 0 {
                let _ = child.kill();
                return Err(start(&"it ended without saying where it listens"));
            }
            let Some((_, url)) = line.split_once("ws://") else { continue };
            let address = url.split('/').next().unwrap_or_default();
            let address = address.parse().map_err(|error| start(&format!("{address:?}: {error}")))?;
            return Ok(Self { child, address, _stdout: stdout });
        }
    }

    /// Bytes of memory the server holds now.
    ///
    /// # Errors
    ///
    /// What the system says about `/proc`.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
        let kib: Option<u64> = kib.and_then(|kib| kib.trim().parse().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no VmRSS in /proc/PID/status"))
    }
}

/// Whether load and server can hold `connections` each. The server keeps a part of its files for others.
fn enough_files(connections: usize) -> Result<(), BenchError> {
    let connections = connections as u64;
    let needed = connections + (connections / 15).max(32) + 32;
    match process::look().max_fds {
        Some(limit) if limit < needed => Err(BenchError::OpenFiles { needed, limit }),
        _ => Ok(()),
    }
}

impl Drop for ServerUnderTest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
