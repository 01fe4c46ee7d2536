//! `bowline incidents`: the gallery of failures, each beside its remedy.

use std::path::PathBuf;
use std::process::ExitCode;

use bowline_incidents::command::{Output, Request, perform, select};
use bowline_incidents::report::text;
use bowline_incidents::{Scale, kit, rows};
use clap::Args;

use super::{EXIT_FAILURE, EXIT_USAGE, print, tell};

/// Runs failures of production, as they were written and as they are on Bowline, and measures both.
///
/// Each row runs twice in one process, under the same load: the leaky form on bare tokio, which has to fail as it did, and
/// the tied form on Bowline, which has to hold. Of several rows each has a process of its own. Without arguments, the rows are
/// listed.
///
/// Exit code: 0 if everything is as promised, 1 if not, 2 for a wrong command line.
#[derive(Debug, Args)]
pub(super) struct IncidentsArgs {
    /// The rows to run, such as B1 D3.
    #[arg(value_name = "ROW", conflicts_with = "all")]
    rows: Vec<String>,
    /// Runs all rows.
    #[arg(long)]
    all: bool,
    /// Small sizes, with bounds that hold on a busy machine: a few seconds a row.
    #[arg(long, conflicts_with = "full")]
    reduced: bool,
    /// The sizes of the incidents themselves: at most ten minutes a form.
    #[arg(long)]
    full: bool,
    /// Prints one JSON document at the end.
    #[arg(long, conflicts_with = "table")]
    json: bool,
    /// Prints a table in markdown at the end.
    #[arg(long)]
    table: bool,
    /// Writes a page that needs nothing else, index.html, and a picture of each row.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Writes the table into this file, between its markers. Of a run of a few rows, their lines alone are replaced.
    #[arg(long, value_name = "FILE")]
    write_table: Option<PathBuf>,
    /// Fails also if a row is skipped because something it needs is not here, as with CI=true.
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(args: IncidentsArgs) -> ExitCode {
    // A row that kills a process starts this very program as that process.
    if let Some(ended) = kit::child::run_if_child() {
        return ended;
    }
    let is_run = args.all
        || !args.rows.is_empty()
        || args.report.is_some()
        || args.write_table.is_some()
        || args.table
        || args.json;
    if !is_run {
        return super::finish(print(text::list(rows::ALL)), EXIT_FAILURE);
    }
    let rows = match select(&args.rows) {
        Ok(rows) => rows,
        Err(unknown) => {
            tell(format_args!("error: {unknown}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    end_on_signals();
    crate::ops::process::raise_max_fds();
    let request = Request {
        rows,
        scale: match (args.reduced, args.full) {
            (true, _) => Scale::Reduced,
            (_, true) => Scale::Full,
            (false, false) => Scale::Usual,
        },
        output: match (args.json, args.table) {
            (true, _) => Output::Json,
            (_, true) => Output::Table,
            (false, false) => Output::Text,
        },
        is_strict: args.strict || std::env::var("CI").is_ok_and(|value| value == "true"),
        report: args.report,
        table_in: args.write_table,
    };
    let ended = perform(&request);
    kit::end_all();
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILURE),
        Err(error) => {
            tell(format_args!("error: {error}"));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Half a run says nothing: at a signal the processes that were started are killed, and this one ends. Returns when that is
/// in place.
#[expect(
    clippy::disallowed_methods,
    reason = "outlives every runtime that a row makes, and ends with the process"
)]
fn end_on_signals() {
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let Ok(mut signals) = Signals::listen() else { return };
            let _ = ready.send(());
            signals.wait().await;
            kit::end_all();
            tell("\nstopped");
            std::process::exit(130);
        });
    });
    // Where signals cannot be listened to, there is nothing to wait for.
    let _ = is_ready.recv();
}

#[cfg(unix)]
struct Signals {
    interrupted: tokio::signal::unix::Signal,
    terminated: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupted: signal(SignalKind::interrupt())?,
            terminated: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        bowline::race(self.interrupted.recv(), self.terminated.recv()).await;
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn wait(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
