//! `bowline bench`: the load tool.

use std::io::{self, IsTerminal, Write as _};

use bowline::{Either, race};
use clap::{Args, Subcommand, value_parser};
use serde::Serialize;

use super::tell;
use crate::bench::{self, BenchError};

/// Measures memory per connection, or deliveries per second.
///
/// The server is started for the purpose, as a process of its own, and stopped afterwards. Load and server share the
/// machine, so absolute figures are lower than with a machine each.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    /// Prints one line of JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Memory of idle connections with one subscription each.
    Connect {
        /// Connections.
        #[arg(long, default_value_t = 10_000, value_parser = at_least_one())]
        connections: u32,
        /// Channels they are spread over.
        #[arg(long, default_value_t = 100, value_parser = at_least_one())]
        channels: u32,
    },
    /// Messages a second to the subscribers of one channel.
    Fanout {
        /// Subscribers.
        #[arg(long, default_value_t = 1_000, value_parser = at_least_one())]
        subscribers: u32,
        /// Publications.
        #[arg(long, default_value_t = 3_000, value_parser = at_least_one())]
        messages: u32,
        /// Bytes of each publication's data.
        #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(2..=LARGEST_DATA))]
        size: u32,
        /// Publications that may be under way at once.
        #[arg(long, default_value_t = 64, value_parser = at_least_one())]
        outstanding: u32,
    },
}

/// Bytes of the largest data: with the command around it, it is still a message that the server takes.
const LARGEST_DATA: i64 = 65_000;

/// A count of which none would measure nothing.
fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..)
}

pub(super) fn run(args: &BenchArgs) -> Result<(), BenchError> {
    let json = args.json;
    match args.what {
        What::Connect { connections, channels } => {
            let (connections, channels) = (connections as usize, channels as usize);
            let shown = io::stderr().is_terminal() && !json;
            let progress = move |open: usize| {
                if shown {
                    let _ = write!(io::stderr(), "\r{open}/{connections} connections");
                }
            };
            let report = measure(bench::connect(connections, channels, progress))?;
            if shown {
                tell("");
            }
            print(json, &report, || {
                format!(
                    "{} idle connections, one subscription each: {} resident bytes per connection, {:.0} connects/s",
                    report.connections, report.resident_bytes_per_connection, report.connects_per_second
                )
            })?;
        }
        What::Fanout { subscribers, messages, size, outstanding } => {
            let [subscribers, count, size, outstanding] =
                [subscribers, messages, size, outstanding].map(|count| count as usize);
            let report = measure(bench::fanout(subscribers, count, size, outstanding))?;
            print(json, &report, || {
                format!(
                    "{messages} publications of {size} B to {subscribers} subscribers, {outstanding} outstanding: \
                     {:.0} deliveries/s",
                    report.deliveries_per_second
                )
            })?;
        }
    }
    Ok(())
}

fn measure<T, F>(measurement: F) -> Result<T, BenchError>
where
    F: Future<Output = Result<T, BenchError>> + Send + 'static,
    T: Send + 'static,
{
    // Half a measurement is none: at a signal there is nothing to finish.
    let (value, report) = bowline::Runner::new("bench").run(race(bowline::draining(), measurement));
    match (value, report.panic, report.cancelled) {
        (Some(Either::Right(value)), ..) => value,
        (Some(Either::Left(())), ..) => Err(BenchError::Stopped),
        (None, Some(panic), _) => Err(BenchError::Start(panic.to_string())),
        (None, None, cancelled) => {
            Err(BenchError::Start(cancelled.map_or_else(|| "stopped".to_owned(), |why| why.to_string())))
        }
    }
}

fn print<T: Serialize>(json: bool, report: &T, text: impl FnOnce() -> String) -> Result<(), BenchError> {
    let line = match serde_json::to_string(report) {
        Ok(line) if json => line,
        _ => text(),
    };
    super::print(format_args!("{line}\n")).map_err(BenchError::Output)
}
