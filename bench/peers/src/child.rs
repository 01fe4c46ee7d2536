//! Child processes: the Go program, and this program again where memory is what is measured.

use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use crate::measure::{Threads, Took};

/// The Go program, built by `bench/run`; without it Go's rows are left out, and a line on stderr says so.
const GO_PROGRAM: &str = "GO_PEERS";

/// Runs the Go program; it answers with nanoseconds on the wall and of processor time.
pub fn go(command: &str, threads: Threads, operations: u64) -> Option<Took> {
    let numbers = go_numbers(command, threads, operations)?;
    let [wall, cpu] = numbers[..] else { panic!("{command} answered {numbers:?}, not two numbers") };
    Some(Took { wall: Duration::from_nanos(wall), cpu: Duration::from_nanos(cpu) })
}

/// Runs the Go program, if there is one.
pub fn go_numbers(command: &str, threads: Threads, operations: u64) -> Option<Vec<u64>> {
    static MISSING: Once = Once::new();
    let Ok(program) = std::env::var(GO_PROGRAM) else {
        MISSING.call_once(|| eprintln!("!! GO_PEERS is not set: the rows of Go are LEFT OUT"));
        return None;
    };
    let mut child = Command::new(program);
    child.args([command, &operations.to_string()]).env("GOMAXPROCS", threads.word());
    Some(numbers(child))
}

/// Runs this very program with `arguments`, in a process of its own.
pub fn again(arguments: &[&str]) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().expect("a program knows its path"));
    child.args(arguments);
    numbers(child)
}

fn numbers(mut child: Command) -> Vec<u64> {
    let output = child.output().unwrap_or_else(|error| panic!("{child:?}: {error}"));
    assert!(output.status.success(), "{child:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(|word| word.parse().unwrap_or_else(|_| panic!("{child:?} answered {word:?}, not a number")))
        .collect()
}
