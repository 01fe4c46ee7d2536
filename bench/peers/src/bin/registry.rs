//! What watching every task costs with tokio's console, against bare tokio in the same build, and ours there.
//!
//! A subscriber cannot be taken away again, so each row is a process of its own.

use std::process::ExitCode;

use peers::batch;
use peers::child;
use peers::measure::{Column, Threads, rounds, table, timed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tasks per measurement; the same number before, which is not measured: the console stalls at its start.
const TASKS: u64 = 100_000;

const ROWS: [(&str, &str); 3] = [
    ("`tokio::spawn`", "bare"),
    ("`tokio::spawn` under `console-subscriber`", "console"),
    ("**scope**", "scope"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => report(),
        [which, threads] => one(which, Threads::from_word(threads)),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn report() {
    let mut columns = Vec::new();
    for (threads, heading) in [(Threads::One, "one thread, ns"), (Threads::Two, "two workers, ns")] {
        let mut samples = vec![Vec::new(); ROWS.len()];
        for round in 0..rounds() {
            for turn in 0..ROWS.len() {
                let at = (turn + round) % ROWS.len();
                let nanos = child::again(&[ROWS[at].1, threads.word()])[0];
                samples[at].push(nanos as f64 / TASKS as f64);
            }
        }
        columns.push(Column { heading, samples, digits: 0 });
    }
    let title = "Registry, mimalloc, a build with `tokio_unstable`: time per spawned and joined task.";
    table(title, &ROWS.map(|(row, _)| row), &columns);
}

fn one(which: &str, threads: Threads) {
    if which == "console" {
        console_subscriber::init();
    }
    let runtime = threads.runtime();
    let work = if which == "scope" { batch::in_scope } else { batch::bare };
    timed(&runtime, move || work(TASKS));
    println!("{}", timed(&runtime, move || work(TASKS)).wall.as_nanos());
}
