//! The commands people type.

mod bar;
pub mod bench;
pub mod config;
#[cfg(feature = "incidents")]
mod incidents;
pub mod serve;
pub mod store;
pub mod token;
pub mod top;
mod ws_echo;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Real-time messaging server, compatible with Centrifugo's client SDKs and server API.
#[derive(Debug, Parser)]
#[command(name = "bowline", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

// What each does stands at its arguments: said here, it would replace all that is said there.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Token(token::TokenArgs),
    Bench(bench::BenchArgs),
    Config(config::ConfigArgs),
    Store(store::StoreArgs),
    Top(top::TopArgs),
    #[cfg(feature = "incidents")]
    Incidents(incidents::IncidentsArgs),
    #[command(hide = true)]
    WsEcho(ws_echo::WsEchoArgs),
}

/// Exit code for what failed although it was asked for rightly.
pub(crate) const EXIT_FAILURE: u8 = 1;

/// Exit code for a wrong command line or wrong settings.
pub(crate) const EXIT_USAGE: u8 = 2;

impl Cli {
    /// Runs the command and says how it ended.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Bench(args) => finish(bench::run(&args), EXIT_FAILURE),
            Command::Token(args) => finish(token::run(&args), EXIT_USAGE),
            Command::Config(args) => finish(config::run(&args), EXIT_USAGE),
            Command::Store(args) => store::run(args),
            Command::Top(args) => finish(top::run(args), EXIT_FAILURE),
            #[cfg(feature = "incidents")]
            Command::Incidents(args) => incidents::run(args),
            Command::WsEcho(args) => ws_echo::run(&args),
        }
    }
}

fn finish<E: Display>(result: Result<(), E>, code: u8) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {error}"));
            ExitCode::from(code)
        }
    }
}

/// Says something to whoever sits there, on standard error. Nobody need be listening: `eprintln` would panic then.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints what was asked for. A reader that has seen enough, as in `bowline config defaults | head`, is no error.
fn print(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
