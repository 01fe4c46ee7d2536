//! The toolkit beside what a user would pick instead of it: bare tokio, `JoinSet`, `TaskTracker`, cancellation tokens,
//! other queues, and Go.
//!
//! Each command prints one or more markdown tables. What counts in them is the ratio to the first row.
//!
//! # Method
//!
//! 1. Everybody is built with the same profile and runs in the same process (or each in a child process of its own, where
//!    memory is the question), round by round interleaved, and each round begins with another contestant.
//! 2. A first round is thrown away. Of the others the table shows the median and the range.
//! 3. The work runs inside a worker, as a service's would. *CPU* is the processor time of the whole process: where two
//!    workers share less than two real cores it says more than the clock on the wall.
//! 4. A contestant counts what it has done; wrong counts are panics, not figures.

pub mod batch;
pub mod cancel;
pub mod child;
pub mod collect;
pub mod measure;
pub mod memory;
pub mod parked;
pub mod profile;
#[cfg(feature = "peers")]
pub mod queue;
pub mod relay;
pub mod spawn;

/// Runs the command given by the arguments; returns whether there is one of that name.
pub fn run(allocator: &str) -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["spawn"] => spawn::report(allocator),
        ["memory"] => memory::report(allocator),
        ["cancel"] => cancel::report(allocator),
        ["collect"] => collect::report(allocator),
        #[cfg(feature = "peers")]
        ["queue"] => queue::report(allocator),
        // What a child process does for `memory` and `cancel`.
        ["park", which, threads] => memory::child(which, threads),
        ["fell", which, threads] => cancel::child(which, threads),
        _ => {
            eprintln!("usage: spawn | memory | cancel | collect | queue");
            return std::process::ExitCode::from(2);
        }
    }
    std::process::ExitCode::SUCCESS
}
