//! `bowline bench`: the load tool.

use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use bowline::{Either, race};
use clap::{Args, Subcommand, value_parser};
use serde::Serialize;

use super::bar::bytes;
use crate::bench::{self, BenchError, Kept, PublishLoad, RecoverLoad};

/// Measures memory per connection, deliveries, acknowledged publications, and what a restart costs.
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
    /// Publications a second that are acknowledged through the HTTP API, and how long that takes.
    Publish {
        /// Publishers, each with one request under way.
        #[arg(long, default_value_t = 64, value_parser = at_least_one())]
        publishers: u32,
        /// Publications in a request.
        #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=2_000))]
        batch: u32,
        /// Channels they are spread over.
        #[arg(long, default_value_t = 10_000, value_parser = at_least_one())]
        channels: u32,
        /// Bytes of each publication's data.
        #[arg(long, default_value_t = 256, value_parser = value_parser!(u32).range(2..=400))]
        size: u32,
        /// For how long it is measured.
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = at_least_one())]
        seconds: u32,
        /// What an acknowledgement promises.
        #[arg(long, value_enum, default_value_t = Kept::Always)]
        durability: Kept,
        /// Where the server's data directory is made, on the disk that is to be measured.
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
    },
    /// What it takes that all clients come back to a server that was killed, and recover what they missed.
    Recover {
        /// Clients. The limit of open files bounds them, and the command says at how many.
        #[arg(long, default_value_t = 10_000, value_parser = at_least_one())]
        clients: u32,
        /// Channels each is subscribed to.
        #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=100))]
        subscriptions: u32,
        /// Channels there are.
        #[arg(long, default_value_t = 1_000, value_parser = at_least_one())]
        channels: u32,
        /// Publications that each channel gets meanwhile.
        #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=100))]
        missed: u32,
        /// Clients that connect at the same time.
        #[arg(long, default_value_t = 256, value_parser = at_least_one())]
        at_once: u32,
        /// Where the server's data directory is made, on the disk that is to be measured.
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
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
            let report = measure(bench::connect(connections, channels, progress(connections, json)))?;
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
        What::Publish { publishers, batch, channels, size, seconds, durability: kept, ref path } => {
            let [publishers, batch, channels, payload_bytes] =
                [publishers, batch, channels, size].map(|count| count as usize);
            let duration = Duration::from_secs(u64::from(seconds));
            let parent = path.clone();
            let load = PublishLoad { publishers, batch, channels, payload_bytes, duration, kept, parent };
            let report = measure(bench::publish(load))?;
            print(json, &report, || {
                format!(
                    "{publishers} publishers, {batch} publications of {size} B a request, {channels} channels: \
                     {:.0} acknowledged/s\nrequests: {:.1} ms median, {:.1} ms p99, {:.1} ms at most; server: {}",
                    report.acknowledged_per_second,
                    report.p50_ms,
                    report.p99_ms,
                    report.max_ms,
                    bytes(report.peak_resident_bytes)
                )
            })?;
        }
        What::Recover { clients, subscriptions, channels, missed, at_once, ref path } => {
            let [clients, subscriptions, channels, missed, at_once] =
                [clients, subscriptions, channels, missed, at_once].map(|count| count as usize);
            let parent = path.clone();
            let load = RecoverLoad { clients, subscriptions, channels, missed, at_once, parent };
            let report = measure(bench::recover(load, progress(clients, json)))?;
            print(json, &report, || {
                format!(
                    "{clients} clients came back and recovered {} publications in {:.1} s, each exactly what it missed\n\
                     a client: {:.1} ms median, {:.1} ms p99; server: {} idle, {} at most, up again in {:.1} s\n\
                     another publisher: {:.1} ms p99 before, {:.1} ms meanwhile ({} publications)",
                    report.recovered_publications,
                    report.all_recovered_ms / 1_000.0,
                    report.p50_ms,
                    report.p99_ms,
                    bytes(report.idle_resident_bytes),
                    bytes(report.peak_resident_bytes),
                    report.restart_ms / 1_000.0,
                    report.publisher_before_p99_ms,
                    report.publisher_meanwhile_p99_ms,
                    report.publisher_meanwhile
                )
            })?;
        }
    }
    Ok(())
}

/// Shows to whoever sits there how many of `all` connections are open.
fn progress(all: usize, json: bool) -> impl Fn(usize) + Send + Sync + 'static {
    let is_shown = io::stderr().is_terminal() && !json;
    move |open| {
        if is_shown {
            let end = if open < all { "" } else { "\n" };
            let _ = write!(io::stderr(), "\r{open}/{all} connections{end}");
        }
    }
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
