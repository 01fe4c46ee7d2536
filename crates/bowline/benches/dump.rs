//! What it takes to write down very many tasks: bytes, time, and memory beyond that of the tasks.
//!
//! `cargo bench --bench dump`, with the number of tasks behind `--`; a million unless said otherwise. Linux only: it reads `/proc`.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use bowline::{Cancelled, Runner, Scope, debug, scope, sleep};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts what it is given, and keeps nothing.
#[derive(Default)]
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0 += piece.len();
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with(name)).expect("there is such a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("it is a number")
}

/// Writes something down, and says what it took.
fn measure(what: impl fmt::Display, dump: impl FnOnce() -> usize) {
    // From here on the greatest memory is that of the dump.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux takes it");
    let (before, began) = (memory("VmRSS:"), Instant::now());
    let bytes = dump();
    let (took, peak) = (began.elapsed(), memory("VmHWM:").saturating_sub(before));
    println!("| {what} | {bytes} | {} ms | {peak} KiB |", took.as_millis());
}

fn page(page: &str, query: &str) -> usize {
    let answer = debug::answer(&format!("/debug/bowline/{page}"), Some(query), None).expect("a page");
    answer.body.map(|piece| piece.len()).sum()
}

async fn dump(tasks: usize) -> Result<(), Cancelled> {
    scope("connections", async |s: &Scope<Cancelled>| {
        let began = memory("VmRSS:");
        for _ in 0..tasks {
            s.spawn("connection", sleep(Duration::from_secs(3_600)));
        }
        while debug::metrics().contains("bowline_task_states{state=\"new\"}") {
            // The look goes over all tasks.
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
            }
        }
        println!("{tasks} parked tasks, {} KiB\n", memory("VmRSS:").saturating_sub(began));
        println!("| page | bytes | time | memory at most |\n|---|---|---|---|");
        measure("write_tasks", || {
            let mut counted = Counted::default();
            debug::write_tasks(&mut counted).expect("it takes everything");
            counted.0
        });
        for (name, query) in [
            ("tasks", "limit=all"),
            ("tasks", ""),
            ("tasks", "format=json&sort=size"),
            ("tree", ""),
            ("waits", ""),
            ("queues", ""),
            ("metrics", ""),
        ] {
            measure(format_args!("{name} {query}"), || page(name, query));
        }
        s.cancel("measured");
        Ok(())
    })
    .await
}

fn main() {
    // Cargo says `--bench`, too.
    let tasks = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let (_, report) = Runner::new("dump").worker_threads(1).without_signals().run(dump(tasks));
    assert!(report.is_clean());
}
