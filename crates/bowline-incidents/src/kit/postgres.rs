//! A PostgreSQL server, and as much of a client as a few statements need.
//!
//! Statements go as text, one after the other on a connection, and rows come back as text: the *simple query* of the protocol.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::{Process, Scratch, postgres_programs};
use crate::lab::Trouble;

/// A PostgreSQL server of one's own, killed when dropped.
pub(crate) struct Postgres {
    socket: PathBuf,
    // Dropped in this order: the server first.
    _process: Process,
    _scratch: Scratch,
}

impl Postgres {
    /// Makes a database, starts a server on it, and waits until it listens.
    pub(crate) async fn start() -> Result<Self, Trouble> {
        let programs = postgres_programs().ok_or("no postgres")?;
        let scratch = Scratch::new()?;
        let data = scratch.path().join("data");
        let mut make = Command::new(programs.join("initdb"));
        make.args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--no-locale",
            "-D",
        ])
        .arg(&data);
        let mut serve = Command::new(programs.join("postgres"));
        // One socket in our own directory: there is no port to be taken by somebody else.
        serve
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(scratch.path());
        if let Some((user, group)) = other_user(scratch.path())? {
            for command in [&mut make, &mut serve] {
                command.uid(user).gid(group);
            }
        }
        let make = Process::start("initdb", make, &scratch)?;
        make.wait_ended().await;
        let process = Process::start("postgres", serve, &scratch)?;
        process.wait_said(|said| said.contains("ready to accept connections").then_some(())).await?;
        Ok(Self { socket: scratch.path().join(".s.PGSQL.5432"), _process: process, _scratch: scratch })
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Trouble> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let mut hello = 196_608_u32.to_be_bytes().to_vec(); // version 3.0
        hello.extend(b"user\0postgres\0database\0postgres\0\0");
        stream.write_all(&(hello.len() as u32 + 4).to_be_bytes()).await?;
        stream.write_all(&hello).await?;
        until_ready(&mut stream).await?;
        Ok(Connection(Mutex::new(stream)))
    }
}

/// The server does not run as root: then it is the user that Debian made for it, to whom `directory` is given.
fn other_user(directory: &Path) -> Result<Option<(u32, u32)>, Trouble> {
    if !fs::read_to_string("/proc/self/status")?.contains("\nUid:\t0\t") {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:")).ok_or("no user `postgres`")?;
    let mut ids = line.split(':').skip(2).map(str::parse);
    let (Some(Ok(user)), Some(Ok(group))) = (ids.next(), ids.next()) else {
        return Err("no user `postgres`".into());
    };
    chown(directory, Some(user), Some(group))?;
    Ok(Some((user, group)))
}

/// A connection, on which one statement runs at a time.
pub(crate) struct Connection(Mutex<UnixStream>);

impl Connection {
    /// Runs a statement, and returns its rows, and how many it has changed.
    ///
    /// # Cancel safety
    ///
    /// None: the answer would be taken for that of the next statement.
    pub(crate) async fn run(&self, statement: &str) -> Result<Ran, Trouble> {
        let mut stream = self.0.lock().await;
        let length = statement.len() as u32 + 5;
        stream.write_all(&[b"Q", &length.to_be_bytes()[..], statement.as_bytes(), b"\0"].concat()).await?;
        until_ready(&mut stream).await
    }
}

/// What a statement came to.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) changed: u64,
}

/// Reads messages until the server waits for a statement.
async fn until_ready(stream: &mut UnixStream) -> Result<Ran, Trouble> {
    let (mut ran, mut error) = (Ran::default(), None);
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?.checked_sub(4).ok_or("a length of less than 4")?;
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await?;
        match kind {
            b'D' => ran.rows.push(row(&body).ok_or("a row that ends too early")?),
            b'C' => {
                // As in `INSERT 0 1`.
                let tag = String::from_utf8_lossy(&body);
                let changed = tag.trim_end_matches('\0').rsplit(' ').next();
                ran.changed = changed.and_then(|number| number.parse().ok()).unwrap_or(0);
            }
            b'E' => error = Some(String::from_utf8_lossy(&body).replace('\0', " ")),
            b'Z' => return error.map_or(Ok(ran), |error| Err(error.into())),
            _ => {}
        }
    }
}

/// Columns of a row; nothing reads as an empty text.
fn row(mut body: &[u8]) -> Option<Vec<String>> {
    let mut take = |length: usize| {
        let (taken, rest) = body.split_at_checked(length)?;
        body = rest;
        Some(taken)
    };
    let columns = u16::from_be_bytes(take(2)?.try_into().ok()?);
    (0..columns)
        .map(|_| {
            let length = i32::from_be_bytes(take(4)?.try_into().ok()?);
            let text = take(usize::try_from(length).unwrap_or(0))?;
            Some(String::from_utf8_lossy(text).into_owned())
        })
        .collect()
}
