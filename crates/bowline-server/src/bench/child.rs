//! The server that is measured: a child process of the same binary.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::config::HttpServer;
use crate::net::places::Places;
use crate::ops::process;

/// Files that the load has open beside its connections.
const OTHER_FILES: u64 = 32;

/// Why a measurement could not be made.
#[derive(Debug)]
pub enum BenchError {
    /// The server could not be started, or did not say where it listens.
    Start(String),
    /// A connection failed.
    Io(io::Error),
    /// The limit of open files is too low for so many connections.
    OpenFiles {
        /// Connections that were to be made.
        asked: u64,
        /// Connections that the server holds with that limit.
        most: u64,
        /// Files that a process may have open.
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
            Self::OpenFiles { asked, most, limit } => write!(
                f,
                "a process may have {limit} open files here, and each connection is one in the load and one in the server, which \
                 keeps a sixteenth for others: {most} connections at most, and {asked} were to be made. Ask for fewer, or raise \
                 the hard limit: `ulimit -Hn` as root, `LimitNOFILE=` of systemd, `--ulimit nofile=` of a container"
            ),
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
        Self::start_with(connections, &[])
    }

    /// [Starts](Self::start) the server with more settings, each as `key=value`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(connections: usize, settings: &[String]) -> Result<Self, BenchError> {
        enough_files(connections)?;
        let start = |why: &dyn std::fmt::Display| BenchError::Start(why.to_string());
        let binary = std::env::current_exe().map_err(|error| start(&error))?;
        let mut child = Command::new(binary)
            .args(["serve", "--dev", "--set", "http_server.port=0", "--set", "http_server.internal_port=0"])
            .args(["--set", "log.level=error"])
            // The load answers no pings, and may be owed more than a client of the real world.
            .args(["--set", "client.ping_interval=24h", "--set", "client.queue_max_size=67108864"])
            // One connection publishes all there is.
            .args(["--set", "client.command_rate_limit=0", "--set", "client.byte_rate_limit=0"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
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
        self.memory("VmRSS:")
    }

    /// Bytes of memory the server held at most.
    ///
    /// # Errors
    ///
    /// What the system says about `/proc`.
    pub fn peak_resident_bytes(&self) -> io::Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = process::line_number(&status, name);
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {name} in /proc/PID/status")))
    }
}

/// Whether load and server can hold `connections` each, with what the system lets them have.
fn enough_files(connections: usize) -> Result<(), BenchError> {
    // The server does so by itself.
    process::raise_max_fds();
    let Some(limit) = process::look().max_fds else { return Ok(()) };
    let (asked, most) = (connections as u64, most_connections(limit));
    if asked > most { Err(BenchError::OpenFiles { asked, most, limit }) } else { Ok(()) }
}

/// Connections that a server takes with so many files.
fn most_connections(max_files: u64) -> u64 {
    let places = Places::new(Some(max_files), &HttpServer::default()).max();
    (places as u64).min(max_files.saturating_sub(OTHER_FILES))
}

impl Drop for ServerUnderTest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_connections_than_files_are_refused_before_anything_begins_and_it_is_said_how_many_there_may_be() {
        assert_eq!(most_connections(20_000), 18_750);
        assert_eq!(most_connections(40), 8);
        let Some(limit) = process::look().max_fds else { return };
        let Err(error) = ServerUnderTest::start(usize::MAX) else { panic!("so many files") };
        let BenchError::OpenFiles { most, limit: is, .. } = &error else { panic!("{error}") };
        assert!(*is >= limit && *most == most_connections(*is));
        assert!(error.to_string().contains(&format!("{most} connections at most")), "{error}");
    }
}
