//! What watching every task costs with tokio's console, against bare tokio in the same build, and ours there.
//!
//! A subscriber cannot be taken away again, so each row is a process of its own.

use std::process::ExitCode;
use std::time::Duration;

use peers::batch;
use peers::child;
use peers::measure::{Samples, Threads, Work, rounds, table, timed, wall_and_cpu};
use tokio::runtime::Runtime;

/// Tasks between two looks at the clock.
const TASKS: u64 = 2_000;
/// Not measured: the console's first tasks are far slower, until memory for their statistics is there.
const WARM_UP: Share = Share { tasks: 200_000, at_most: Duration::from_secs(5) };
const MEASURED: Share = Share { tasks: 100_000, at_most: Duration::from_secs(2) };

/// So many tasks, or as many as there is time for.
struct Share {
    tasks: u64,
    at_most: Duration,
}

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
    for (threads, wall, cpu) in [
        (Threads::One, "one thread, ns", "one thread, CPU ns"),
        (Threads::Two, "two workers, ns", "two workers, CPU ns"),
    ] {
        let mut samples = vec![Samples::default(); ROWS.len()];
        for round in 0..rounds() {
            for turn in 0..ROWS.len() {
                let at = (turn + round) % ROWS.len();
                let answer = child::again(&[ROWS[at].1, threads.word()]);
                samples[at].wall.push(answer[0] as f64);
                samples[at].cpu.push(answer[1] as f64);
            }
        }
        columns.extend(wall_and_cpu(wall, cpu, &samples, 0));
    }
    let title = "Registry, glibc's malloc, a build with `tokio_unstable`: time per spawned and joined task. The console's is real only \
                 on a quiet machine: its own thread has to keep up.";
    table(title, &ROWS.map(|(row, _)| row), &columns);
}

fn one(which: &str, threads: Threads) {
    if which == "console" {
        console_subscriber::init();
    }
    let runtime = threads.runtime();
    let work = if which == "scope" { batch::in_scope } else { batch::bare };
    repeat(&runtime, work, WARM_UP);
    let (wall, cpu) = repeat(&runtime, work, MEASURED);
    println!("{wall} {cpu}");
}

/// Spawns and joins; returns nanoseconds per task, on the wall and of processor time.
fn repeat(runtime: &Runtime, work: fn(u64) -> Work, share: Share) -> (u128, u128) {
    let (mut tasks, mut wall, mut cpu) = (0, Duration::ZERO, Duration::ZERO);
    while tasks < share.tasks && wall < share.at_most {
        let took = timed(runtime, move || work(TASKS));
        wall += took.wall;
        cpu += took.cpu;
        tasks += TASKS;
    }
    (wall.as_nanos() / u128::from(tasks), cpu.as_nanos() / u128::from(tasks))
}
