//! What rows start besides themselves, and the clients they drive it with.
//!
//! Everything here ends with its owner: a [`Process`] is killed and a [`Scratch`] directory removed when it is dropped, and
//! [`end_all`] does both for whatever is left when a run is cut short by a signal.
//!
//! | module | what it holds |
//! |---|---|
//! | `apart` | a thread that stands for a process |
//! | [`child`] | this program again, as a part of a row |
//! | `cpu_time` | how much this process has computed |
//! | `nats` | a NATS server with JetStream, and a client |
//! | `postgres` | a PostgreSQL server, and a client |
//! | [`process`] | a child process that dies with its owner |
//! | [`scratch`] | a directory that goes with its owner |
//! | [`server`] | `bowline serve`, and what it says of itself |
//! | `upstream` | a service that others run, on a runtime of its own |
//! | `grpc` | calls of gRPC whose answer is a stream, both sides |
//! | [`http`] | one request |
//! | [`ws`] | a client of the server's WebSocket |

pub(crate) mod apart;
pub mod child;
pub(crate) mod cpu_time;
pub(crate) mod grpc;
pub mod http;
pub(crate) mod nats;
pub(crate) mod postgres;
pub mod process;
pub mod scratch;
pub mod server;
pub(crate) mod upstream;
pub mod ws;

use std::env;
use std::fs;
use std::path::PathBuf;

use crate::row::Need;

pub use process::Process;
pub use scratch::Scratch;
pub use server::Server;
pub use ws::Client;

/// Ends every child process and removes every scratch directory there is, and lets none begin: for a run that is cut short. A thread that
/// [performs](crate::command::perform) one then goes no further: end the process.
pub fn end_all() {
    crate::alone::end_all();
    process::end_all();
    scratch::remove_all();
}

/// Returns why a row that needs this cannot run here, and what would help; `None` if it can.
#[must_use]
pub fn missing(need: Need) -> Option<String> {
    let (found, help) = match need {
        Need::Server => (
            server::binary().is_some(),
            "no `bowline` beside this program: build it, or name it in BOWLINE_BIN",
        ),
        Need::Nats => (
            program("nats-server", "BOWLINE_NATS_SERVER").is_some(),
            "no `nats-server` in PATH: install Debian's nats-server, or name one in BOWLINE_NATS_SERVER",
        ),
        Need::Postgres => (
            postgres_programs().is_some(),
            "no `initdb`: install Debian's postgresql, or name the directory in BOWLINE_POSTGRES_BIN",
        ),
    };
    (!found).then(|| help.to_owned())
}

/// Finds a program: what the environment variable names, or the first of this name in `PATH`.
#[must_use]
pub fn program(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    // Debian keeps servers where only root's PATH leads.
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(name)).find(|path| path.is_file())
}

/// The directory of `initdb` and `postgres`: what `BOWLINE_POSTGRES_BIN` names, or the newest version that Debian installed.
#[must_use]
pub fn postgres_programs() -> Option<PathBuf> {
    if let Some(named) = env::var_os("BOWLINE_POSTGRES_BIN") {
        return Some(PathBuf::from(named)).filter(|path| path.join("initdb").is_file());
    }
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let versions = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin"))).filter(|(_, path)| path.join("initdb").is_file())
    });
    versions.max().map(|(_, path)| path)
}
