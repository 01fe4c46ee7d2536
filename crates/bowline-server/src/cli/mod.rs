//! The commands people type.

pub mod bench;
pub mod config;
pub mod serve;
pub mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Real-time messaging server, compatible with Centrifugo's client SDKs and server API.
#[derive(Debug, Parser)]
#[command(name = "bowline", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server.
    Serve(serve::ServeArgs),
    /// Makes a token for a user, for trying things out.
    Token(token::TokenArgs),
    /// Measures memory per connection, or deliveries per second.
    Bench(bench::BenchArgs),
    /// Checks a settings file, or prints every setting with its default.
    Config(config::ConfigArgs),
}

/// Exit code for a wrong command line or wrong settings.
pub(crate) const EXIT_USAGE: u8 = 2;

impl Cli {
    /// Runs the command and says how it ended.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Bench(args) => finish(bench::run(&args)),
            Command::Token(args) => finish(token::run(&args)),
            Command::Config(args) => finish(config::run(&args)),
        }
    }
}

fn finish<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
