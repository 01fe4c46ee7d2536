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
#[cfg(feature = "peers")]
pub mod calls;
pub mod cancel;
pub mod child;
pub mod collect;
#[cfg(feature = "peers")]
pub mod fanout;
pub mod knowing;
#[cfg(feature = "peers")]
pub mod lease;
pub mod measure;
pub mod memory;
pub mod onlookers;
pub mod parked;
#[cfg(feature = "peers")]
pub mod pipeline;
pub mod polls;
#[cfg(feature = "peers")]
pub mod pool;
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
        #[cfg(feature = "peers")]
        ["pool"] => pool::report(allocator),
        ["spawn"] => spawn::report(allocator),
        ["memory"] => memory::report(allocator),
        ["cancel"] => cancel::report(allocator),
        ["collect"] => collect::report(allocator),
        ["knowing"] => knowing::report(allocator),
        #[cfg(feature = "peers")]
        ["queue"] => queue::report(allocator),
        #[cfg(feature = "peers")]
        ["pipeline"] => pipeline::report(allocator),
        #[cfg(feature = "peers")]
        ["lease"] => lease::report(allocator),
        #[cfg(feature = "peers")]
        ["calls"] => calls::report(allocator),
        #[cfg(feature = "peers")]
        ["fanout"] => fanout::report(allocator),
        #[cfg(feature = "peers")]
        ["burst", which] => pool::weigh(which),
        // What a child process does for `memory` and `cancel`.
        ["park", which, threads] => memory::child(which, threads),
        ["fell", which, threads] => cancel::child(which, threads),
        // And for `knowing`.
        ["polled", which] => knowing::polled(which),
        ["looked-on", which, place, tasks] => knowing::looked_on(which, place, tasks),
        _ => {
            eprintln!(
                "usage: pool | spawn | memory | cancel | collect | knowing | queue | fanout | calls | lease | pipeline"
            );
            return std::process::ExitCode::from(2);
        }
    }
    std::process::ExitCode::SUCCESS
}
