//! Runs every kernel and prints the table: `goker [schedules] [part of a name]`.

use std::process::ExitCode;

use goker::score::{Generated, PUBLISHED, Table, WORKERS};

/// How many seeds a form is run under if nothing is said.
const SCHEDULES: u64 = 1_000;
/// How often a form is run on each number of workers.
const ON_THREADS: u64 = 2;
/// How many random programs are run.
const PROGRAMS: u64 = 10_000;

fn main() -> ExitCode {
    let mut schedules = SCHEDULES;
    let mut filter = String::new();
    for argument in std::env::args().skip(1) {
        match argument.parse() {
            Ok(number) => schedules = number,
            Err(_) => filter = argument,
        }
    }
    println!("under {schedules} seeds, paused clock:\n");
    let seeded = Table::by_seed(&filter, schedules);
    println!("{seeded}");
    println!("on 1, 2, 4 and 10 workers, {ON_THREADS} times each:\n");
    let threads = Table::on_threads(&filter, &WORKERS, ON_THREADS);
    println!("{threads}");
    if let Some(median) = threads.median_latency() {
        println!("median time from standing still to a proof: {median:?}");
    }
    println!("\n{PUBLISHED}\n");
    let generated = if filter.is_empty() { Generated::run(0..PROGRAMS) } else { Generated::default() };
    println!("{generated}");
    if seeded.is_clean() && threads.is_clean() && generated.notes.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
