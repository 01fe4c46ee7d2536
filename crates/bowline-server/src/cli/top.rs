//! `bowline top`: what a running process does, on the terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::{Args, value_parser};

use crate::top::{self, Options, Page, Target, TargetError, TopError};

/// Shows what a running process does: its tasks, what each waits for, queues, alerts, deadlocks.
///
/// Works on every process that serves /debug/bowline: `bowline serve` on its internal listener, and any program that mounts
/// it. `?` shows the keys. Where standard output is no terminal, one page is printed as text.
///
/// NO_COLOR=1 leaves colours out.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// The process: a URL, HOST:PORT, or a port of this machine.
    #[arg(default_value = "http://127.0.0.1:8001", value_parser = target)]
    pub url: Target,
    /// Time between two pictures, such as 500ms or 5s.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = every)]
    pub every: Duration,
    /// The page to begin with.
    #[arg(long, value_enum, default_value_t = Page::Tasks)]
    pub page: Page,
    /// The filter to begin with: parts of a name, op:recv, wait:5s, age:1m.
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub filter: String,
    /// Tasks that are fetched at most; more are counted.
    #[arg(long, value_name = "TASKS", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=20_000))]
    pub limit: u32,
    /// Prints the page as text and ends.
    #[arg(long)]
    pub once: bool,
    /// Columns of the text.
    #[arg(long, value_name = "COLUMNS", default_value_t = 80, value_parser = value_parser!(u16).range(20..=500))]
    pub width: u16,
    /// Lines of the text.
    #[arg(long, value_name = "LINES", default_value_t = 24, value_parser = value_parser!(u16).range(5..=1_000))]
    pub height: u16,
    /// Pictures to take before the text is printed: rates need two, curves need many.
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = value_parser!(u32).range(1..=1_000))]
    pub pictures: u32,
}

fn target(text: &str) -> Result<Target, TargetError> {
    Target::parse(text)
}

fn every(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(every) if (MIN_EVERY..=MAX_EVERY).contains(&every) => Ok(every),
        _ => Err("expected a duration with its unit, from 100ms to 1h".to_owned()),
    }
}

/// Looking more often than this is work for the process, and nobody can read it.
const MIN_EVERY: Duration = Duration::from_millis(100);
const MAX_EVERY: Duration = Duration::from_secs(3_600);

pub(super) fn run(args: TopArgs) -> Result<(), TopError> {
    let options = Options {
        target: args.url,
        every: args.every,
        max_tasks: args.limit as usize,
        page: args.page,
        filter: args.filter,
    };
    // What top itself has to say of its own queues would be written over the screen.
    let is_text = args.once || !io::stdout().is_terminal();
    let shown = bowline::Runner::new("top").worker_threads(1).run(async move {
        let _hush = bowline::on_alert(|_| {});
        if is_text {
            let text = top::once(options, (args.width, args.height), args.pictures).await?;
            return super::print(text).map_err(TopError::Output);
        }
        top::run(options).await
    });
    match shown {
        (Some(result), _) => result,
        (None, report) => match (report.panic, report.cancelled) {
            (Some(panic), _) => Err(TopError::Panic(panic.to_string())),
            (None, Some(cancelled)) => Err(TopError::Cancelled(cancelled)),
            (None, None) => Ok(()),
        },
    }
}
