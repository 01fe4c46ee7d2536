//! The real binary as a child process.
#![expect(
    clippy::disallowed_methods,
    reason = "waits for a process, in real time and on the test's own thread"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A server process. Killed when dropped, so that a failing test leaves none behind.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// Kept open: what the server still says has somewhere to go.
    _stdout: BufReader<ChildStdout>,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
}

impl Process {
    /// Runs `bowline serve --dev` on free ports, with further settings.
    pub(crate) fn serve(set: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.args([
            "serve",
            "--dev",
            "--set",
            "http_server.port=0",
            "--set",
            "http_server.internal_port=0",
            // Clients of a test answer no pings.
            "--set",
            "client.ping_interval=1h",
        ]);
        for (key, value) in set {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        Self::start(command)
    }

    /// Starts a process that announces its addresses as `bowline serve` does.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut address_after = |mark: &str| -> SocketAddr {
            let mut line = String::new();
            loop {
                line.clear();
                if stdout.read_line(&mut line).unwrap() == 0 {
                    let mut said = String::new();
                    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                    panic!("the server ended before it was ready: {said}");
                }
                if let Some((_, rest)) = line.split_once(mark) {
                    let rest = rest.split_once("//").map_or(rest, |(_, rest)| rest);
                    return rest.trim().split('/').next().unwrap().parse().unwrap();
                }
            }
        };
        let public = address_after("clients");
        let internal = address_after("task tree");
        Self { child, _stdout: stdout, public, internal }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Signals it again and again until it has ended, at most for `limit`: exit status, how long it took, and standard error.
    pub(crate) fn end_by(
        mut self,
        name: &str,
        every: Duration,
        limit: Duration,
    ) -> (ExitStatus, Duration, String) {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < limit, "the process did not end within {limit:?}");
            self.signal(name);
            std::thread::sleep(every);
        }
        let took = began.elapsed();
        let (status, _, said) = self.wait(limit);
        (status, took, said)
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// What everybody on the machine can read of how it was started.
    pub(crate) fn command_line(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/cmdline", self.child.id())).unwrap()
    }

    /// Waits for the end, at most `limit`: exit status, how long it took, and standard error.
    pub(crate) fn wait(mut self, limit: Duration) -> (ExitStatus, Duration, String) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < limit, "the process did not end within {limit:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = began.elapsed();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, took, said)
    }
}

/// Sends a signal to the process of this number.
pub(crate) fn signal(process: u32, name: &str) {
    let killed = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(killed.unwrap().success());
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
