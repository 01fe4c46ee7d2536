//! The server that is measured: a child process of the same binary.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Why a measurement could not be made.
#[derive(Debug)]
pub enum BenchError {
    /// The server could not be started, or did not say where it listens.
    Start(String),
    /// A connection failed.
    Io(io::Error),
    /// The measurement was cancelled.
    Cancelled(bowline::Cancelled),
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(why) => write!(f, "the server did not start: {why}"),
            Self::Io(error) => write!(f, "a connection failed: {error}"),
            Self::Cancelled(cancelled) => write!(f, "{cancelled}"),
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
    /// Starts the server on free ports, open to everybody on this machine.
    ///
    /// # Errors
    ///
    /// [`BenchError::Start`] says what the server said.
    pub fn start() -> Result<Self, BenchError> {
        let start = |why: &dyn std::fmt::Display| BenchError::Start(why.to_string());
        let binary = std::env::current_exe().map_err(|error| start(&error))?;
        let mut child = Command::new(binary)
            .args(["serve", "--dev", "--set", "http_server.port=0", "--set", "http_server.internal_port=0"])
            .args(["--set", "log.level=error"])
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

impl Drop for ServerUnderTest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
