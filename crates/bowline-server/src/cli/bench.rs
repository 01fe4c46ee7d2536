//! `bowline bench`: the load tool.

use std::io::IsTerminal;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::bench::{self, BenchError};

/// Measures a server that is started for the purpose and stopped afterwards.
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
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// Channels they are spread over.
        #[arg(long, default_value_t = 100)]
        channels: usize,
    },
    /// Messages a second to the subscribers of one channel.
    Fanout {
        /// Subscribers.
        #[arg(long, default_value_t = 1_000)]
        subscribers: usize,
        /// Publications.
        #[arg(long, default_value_t = 3_000)]
        messages: usize,
        /// Bytes of each publication's data.
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Publications that may be under way at once.
        #[arg(long, default_value_t = 64)]
        outstanding: usize,
    },
}

pub(super) fn run(args: &BenchArgs) -> Result<(), BenchError> {
    let json = args.json;
    match args.what {
        What::Connect { connections, channels } => {
            let shown = std::io::stderr().is_terminal() && !json;
            let progress = move |open: usize| {
                if shown {
                    eprint!("\r{open}/{connections} connections");
                }
            };
            let report = measure(bench::connect(connections, channels, progress))?;
            if shown {
                eprintln!();
            }
            print(json, &report, || {
                format!(
                    "{} idle connections, one subscription each: {} resident bytes per connection, {:.0} connects/s",
                    report.connections, report.resident_bytes_per_connection, report.connects_per_second
                )
            });
        }
        What::Fanout { subscribers, messages, size, outstanding } => {
            let report = measure(bench::fanout(subscribers, messages, size, outstanding))?;
            print(json, &report, || {
                format!(
                    "{messages} publications of {size} B to {subscribers} subscribers, {outstanding} outstanding: \
                     {:.0} deliveries/s",
                    report.deliveries_per_second
                )
            });
        }
    }
    Ok(())
}

fn measure<T, F>(measurement: F) -> Result<T, BenchError>
where
    F: Future<Output = Result<T, BenchError>> + Send + 'static,
    T: Send + 'static,
{
    let (value, report) = bowline::Runner::new("bench").run(measurement);
    match (value, report.panic, report.cancelled) {
        (Some(value), ..) => value,
        (None, Some(panic), _) => Err(BenchError::Start(panic.to_string())),
        (None, None, cancelled) => {
            Err(BenchError::Start(cancelled.map_or_else(|| "stopped".to_owned(), |why| why.to_string())))
        }
    }
}

fn print<T: Serialize>(json: bool, report: &T, text: impl FnOnce() -> String) {
    match serde_json::to_string(report) {
        Ok(line) if json => println!("{line}"),
        _ => println!("{}", text()),
    }
}
