//! Clocks, interleaved rounds, and tables.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

use crate::child;

/// Rounds that are shown; `ROUNDS` in the environment says otherwise.
pub fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(9)
}

/// How many threads a contestant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// tokio's `current_thread`; `GOMAXPROCS=1`.
    One,
    /// Two workers; `GOMAXPROCS=2`.
    Two,
}

impl Threads {
    /// As an argument of a child process.
    pub fn word(self) -> &'static str {
        match self {
            Threads::One => "1",
            Threads::Two => "2",
        }
    }

    /// From an argument.
    pub fn from_word(word: &str) -> Self {
        if word == "1" { Threads::One } else { Threads::Two }
    }

    /// A runtime with so many workers.
    pub fn runtime(self) -> Runtime {
        match self {
            Threads::One => Builder::new_current_thread().enable_all().build(),
            Threads::Two => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
        }
        .expect("the system gives a runtime")
    }
}

/// What something took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// On the wall.
    pub wall: Duration,
    /// Processor time of the whole process.
    pub cpu: Duration,
}

/// A running measurement.
pub struct Meter {
    wall: Instant,
    cpu: Duration,
}

impl Meter {
    /// Starts both clocks.
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    /// Reads both clocks.
    pub fn stop(&self) -> Took {
        Took { wall: self.wall.elapsed(), cpu: cpu_time() - self.cpu }
    }
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("processor time is not negative")
}

/// A contestant's work, to be run inside a worker.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One who takes part in a comparison.
pub struct Contestant {
    /// The row's name.
    pub name: &'static str,
    /// What is run.
    pub runner: Runner,
    /// It does this part of the operations: slow ones need fewer for a figure.
    part: u64,
}

impl Contestant {
    /// Does only one in `part` of the operations.
    pub const fn fewer(mut self, part: u64) -> Self {
        self.part = part;
        self
    }
}

/// How a contestant is run, given how many operations it is to do.
pub enum Runner {
    /// In this process.
    Here(fn(u64) -> Work),
    /// As a run of the Go program with this command.
    Go(&'static str),
}

/// A contestant of this process.
pub const fn here(name: &'static str, work: fn(u64) -> Work) -> Contestant {
    Contestant { name, runner: Runner::Here(work), part: 1 }
}

/// A contestant of the Go program.
pub const fn go(name: &'static str, command: &'static str) -> Contestant {
    Contestant { name, runner: Runner::Go(command), part: 1 }
}

/// Nanoseconds per operation, one sample per round.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// On the wall.
    pub wall: Vec<f64>,
    /// Of processor time.
    pub cpu: Vec<f64>,
}

impl Samples {
    fn push(&mut self, took: Took, operations: u64) {
        self.wall.push(took.wall.as_nanos() as f64 / operations as f64);
        self.cpu.push(took.cpu.as_nanos() as f64 / operations as f64);
    }
}

/// Runs `work` on a worker of the runtime and measures it there.
pub fn timed(runtime: &Runtime, work: impl FnOnce() -> Work + Send + 'static) -> Took {
    let task = runtime.spawn(async move {
        let meter = Meter::start();
        work().await;
        meter.stop()
    });
    runtime.block_on(task).expect("a contestant does not panic")
}

/// Interleaves the contestants; the answer is in their order. Those that cannot run here have no samples.
pub fn interleave(contestants: &[Contestant], threads: Threads, operations: u64) -> Vec<Samples> {
    let runtime = threads.runtime();
    let mut samples = vec![Samples::default(); contestants.len()];
    for round in 0..=rounds() {
        for turn in 0..contestants.len() {
            let at = (turn + round) % contestants.len();
            let operations = operations / contestants[at].part;
            let took = match contestants[at].runner {
                Runner::Here(work) => Some(timed(&runtime, move || work(operations))),
                Runner::Go(command) => child::go(command, threads, operations),
            };
            if let Some(took) = took.filter(|_| round > 0) {
                samples[at].push(took, operations);
            }
        }
    }
    samples
}

/// A column of a table: its heading, and each row's samples.
pub struct Column<'a> {
    /// The heading, with the unit.
    pub heading: &'a str,
    /// In the order of the rows; a row without any shows a dash.
    pub samples: Vec<Vec<f64>>,
    /// Digits behind the point.
    pub digits: usize,
}

/// Prints a markdown table: median [min..max] and the median's ratio to the first row that has one.
pub fn table(title: &str, rows: &[&str], columns: &[Column<'_>]) {
    println!("\n{title}\n");
    print!("| |");
    for column in columns {
        print!(" {} | ratio |", column.heading);
    }
    println!("\n|---|{}", "---|---|".repeat(columns.len()));
    let firsts: Vec<f64> = columns.iter().map(|column| first_median(&column.samples)).collect();
    for (at, row) in rows.iter().enumerate() {
        if columns.iter().all(|column| column.samples[at].is_empty()) {
            continue; // Go, where there is none
        }
        print!("| {row} |");
        for (column, first) in columns.iter().zip(&firsts) {
            match spread(&column.samples[at]) {
                Some((low, median, high)) => {
                    let digits = column.digits;
                    print!(" {median:.digits$} [{low:.digits$}..{high:.digits$}] | {:.2} |", median / first);
                }
                None => print!(" – | – |"),
            }
        }
        println!();
    }
}

fn first_median(samples: &[Vec<f64>]) -> f64 {
    samples.iter().find_map(|samples| spread(samples)).map_or(f64::NAN, |(_, median, _)| median)
}

/// Minimum, median, maximum.
fn spread(samples: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some((*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?))
}

/// The wall and processor columns of one set of samples.
pub fn wall_and_cpu<'a>(wall: &'a str, cpu: &'a str, samples: &[Samples], digits: usize) -> [Column<'a>; 2] {
    [
        Column { heading: wall, samples: samples.iter().map(|row| row.wall.clone()).collect(), digits },
        Column { heading: cpu, samples: samples.iter().map(|row| row.cpu.clone()).collect(), digits },
    ]
}
