//! `bowline serve` as a child process, and what it says of itself.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{Process, Scratch, http};
use crate::lab::Trouble;

/// A server on free ports, open to everybody on this machine, without limits on how much one client may ask for. Killed
/// when dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    settings: Vec<(String, String)>,
    public: SocketAddr,
    internal: SocketAddr,
    scratch: Scratch,
}

/// The key of the server API.
const API_KEY: &str = "incidents";

/// Set unless the row says otherwise: a load tool is one address with many connections.
const SETTINGS: [(&str, &str); 7] = [
    ("http_server.port", "0"),
    ("http_server.internal_port", "0"),
    ("http_server.handshakes_per_address", "0"),
    ("http_server.connections_per_address", "0"),
    ("client.command_rate_limit", "0"),
    ("client.byte_rate_limit", "0"),
    ("log.level", "error"),
];

impl Server {
    /// Starts one with these settings, such as `("client.ping_interval", "1s")`, and waits until it is ready. All it keeps,
    /// it keeps in memory.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it ends the server.
    ///
    /// # Errors
    ///
    /// What the server said instead of getting ready.
    pub async fn start(settings: &[(&str, &str)]) -> Result<Self, Trouble> {
        let scratch = Scratch::new()?;
        let settings = SETTINGS.iter().chain(settings);
        let settings: Vec<_> =
            settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (process, public, internal) = serve(&scratch, &settings).await?;
        Ok(Self { process, settings, public, internal, scratch })
    }

    /// Starts it again after a [`kill`](Self::kill), with the same settings and directory, on other ports.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves this server as it was: killed.
    ///
    /// # Errors
    ///
    /// What the server said instead of getting ready.
    pub async fn restart(&mut self) -> Result<(), Trouble> {
        self.process.kill();
        (self.process, self.public, self.internal) = serve(&self.scratch, &self.settings).await?;
        Ok(())
    }

    /// Where clients connect.
    #[must_use]
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// The process: whether it still runs, and what it said.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it where it stands, as `kill -9` does, and waits until it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Resident memory.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Tasks that live in it: its own, and those of nobody.
    ///
    /// # Cancel safety
    ///
    /// Only looks.
    ///
    /// # Errors
    ///
    /// What the socket says, or that the answer is not understood.
    pub async fn tasks(&self) -> Result<u64, Trouble> {
        let (_, body) = http::get(self.internal, "/debug/bowline/tree?format=json").await?;
        let tree: Value = serde_json::from_str(&body)?;
        let count = |key: &str| tree[key].as_u64().ok_or_else(|| format!("no {key:?} in the tree"));
        Ok(count("tasks")? + count("foreign_tasks")?)
    }

    /// A metric by its name, labels and all, as it stands in `/metrics`; 0 if it is not there.
    ///
    /// # Cancel safety
    ///
    /// Only looks.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn metric(&self, name: &str) -> io::Result<f64> {
        let (_, body) = http::get(self.internal, "/metrics").await?;
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        Ok(value.unwrap_or(0.0))
    }

    /// A call of the server API, such as `publish`; returns its `result`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the call may or may not have been done.
    ///
    /// # Errors
    ///
    /// What the socket says, or what the server answered instead of a result.
    pub async fn api(&self, method: &str, params: &Value) -> Result<Value, Trouble> {
        let body = params.to_string();
        let (status, body) =
            http::post(self.public, &format!("/api/{method}"), API_KEY, body.as_bytes()).await?;
        let mut answer: Value = serde_json::from_str(&body).unwrap_or_default();
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(format!("{method}: {status} {body}").into()),
        }
    }
}

/// The server's program: what `BOWLINE_BIN` names, else this very program if it is `bowline`, else the one beside it.
#[must_use]
pub fn binary() -> Option<PathBuf> {
    if let Some(named) = env::var_os("BOWLINE_BIN") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let own = env::current_exe().ok()?;
    if own.file_stem().is_some_and(|name| name == "bowline") {
        return Some(own);
    }
    // Examples and tests of the gallery lie in a directory below it.
    own.ancestors().skip(1).take(3).map(|place| place.join("bowline")).find(|path| path.is_file())
}

async fn serve(
    scratch: &Scratch,
    settings: &[(String, String)],
) -> Result<(Process, SocketAddr, SocketAddr), Trouble> {
    let binary = binary().ok_or("there is no `bowline` to start")?;
    let mut command = Command::new(binary);
    command.args(["serve", "--dev"]);
    // Settings of whoever runs the gallery are not those of the row, and unknown ones are refused.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BOWLINE_")) {
        command.env_remove(name);
    }
    command.env("BOWLINE_HTTP_API_KEY", API_KEY);
    for (key, value) in settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let process = Process::start("bowline", command, scratch)?;
    let ready = |said: &str| {
        let public = address_after(said, "clients ")?;
        // The last of what the listeners say: then both are open.
        Some((public, address_after(said, "metrics ")?))
    };
    let (public, internal) = process.wait_said(ready).await?;
    Ok((process, public, internal))
}

/// The address in a line such as `clients  ws://127.0.0.1:8000/connection/websocket`.
fn address_after(said: &str, mark: &str) -> Option<SocketAddr> {
    let (_, rest) = said.split_once(mark)?;
    let (line, _) = rest.split_once('\n')?;
    line.split_once("//")?.1.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_read_from_the_banner_once_their_line_is_complete() {
        let said = "bowline 0.1.0 is ready\n  clients      ws://127.0.0.1:41234/connection/websocket\n  metr";
        assert_eq!(address_after(said, "clients "), Some("127.0.0.1:41234".parse().unwrap()));
        assert_eq!(address_after(said, "metrics "), None);
        assert_eq!(address_after("  metrics   http://127.0.0.1:41", "metrics "), None);
    }
}
