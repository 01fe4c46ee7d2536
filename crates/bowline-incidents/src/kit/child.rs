//! This very program again, as a part of a row that can be killed alone, or as a row.

use std::env;
use std::io;
use std::process::{Command, ExitCode};

use super::{Process, Scratch};
use crate::lab::Trouble;
use crate::{alone, rows};

/// Says in a process that it is a part of a row: which, and with what.
const VARIABLE: &str = "BOWLINE_INCIDENTS_CHILD";

/// This program again, as the part `name` of a row, or as a whole row.
pub(crate) fn command(name: &str, with: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("incidents").env(VARIABLE, format!("{name} {with}"));
    Ok(command)
}

/// Starts this program again, as the part `name` of a row.
pub(crate) fn start(name: &'static str, with: &str, scratch: &Scratch) -> Result<Process, Trouble> {
    Process::start(name, command(name, with)?, scratch)
}

/// Runs the part of a row that this process is, if it is one: a program that runs rows calls it before anything else.
#[must_use]
pub fn run_if_child() -> Option<ExitCode> {
    let what = env::var(VARIABLE).ok()?;
    let (name, with) = what.split_once(' ')?;
    let part = if name == alone::PART { Some(alone::run_as_child as rows::Child) } else { rows::child(name) };
    let Some(run) = part else {
        eprintln!("no row has a part `{name}`");
        return Some(ExitCode::from(2));
    };
    Some(match run(with) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("{name}: {trouble}");
            ExitCode::FAILURE
        }
    })
}
