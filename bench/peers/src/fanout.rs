//! Fan-out and fan-in of work for the processor: a calculation over many items, with a result or an error for each.

use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use bowline::compute;
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::measure::{Contestant, Threads, Work, go, here, interleave, table, wall_and_cpu};

/// Steps of the calculation per microsecond, about: the same number in Go's program.
const STEPS_PER_MICROSECOND: u64 = 820;

/// Items that `tokio chunks` and Go's chunks have.
const CHUNK: usize = 500;

/// How long an item takes, in steps, is part of a contestant's type, because contestants are plain functions.
const fn steps(nanos: u64) -> u64 {
    STEPS_PER_MICROSECOND * nanos / 1_000
}

/// The calculation: one item in a thousand fails.
fn value<const NANOS: u64>(item: u64) -> Result<u64, u32> {
    // What keeps the compiler from leaving the calculation out: it cannot know that this is 0.
    let mask = black_box(0);
    let mut sum = item | 1;
    for step in 0..steps(NANOS) {
        sum = sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step) ^ mask;
    }
    if item % 1_000 == 999 { Err(999) } else { Ok(sum) }
}

fn check(items: u64, results: &[Result<u64, u32>]) {
    check_counts(items, results.len() as u64, results.iter().filter(|result| result.is_ok()).count() as u64);
    black_box(results);
}

fn check_counts(items: u64, results: u64, ok: u64) {
    assert_eq!((results, results - ok), (items, items / 1_000), "each item has its result, each failure is kept");
}

/// Prints the tables: what is asked for, and shorter items as information.
pub fn report(allocator: &str) {
    one::<20_000>(allocator, 500_000, ["fanout-20000", "fanout-chunks-20000"]);
    one::<1_000>(allocator, 2_000_000, ["fanout-1000", "fanout-chunks-1000"]);
    one::<100>(allocator, 5_000_000, ["fanout-100", "fanout-chunks-100"]);
}

fn one<const NANOS: u64>(allocator: &str, items: u64, go_commands: [&'static str; 2]) {
    let contestants: [Contestant; 8] = [
        here("rayon, `par_iter().map().collect()`", with_rayon::<NANOS>),
        here("a loop on one thread", in_a_loop::<NANOS>).fewer(4),
        here("**compute**", ours::<NANOS>),
        here("tokio: a task each", a_task_each::<NANOS>).fewer(4),
        here("tokio: a task per 500", a_task_per_chunk::<NANOS>),
        here("tokio: `spawn_blocking` each", blocking_each::<NANOS>).fewer(4),
        go("Go: a goroutine each", go_commands[0]).fewer(4),
        go("Go: a goroutine per 500", go_commands[1]),
    ];
    let samples = interleave(&contestants, Threads::Two, items);
    let columns = wall_and_cpu("two cores, ns", "CPU ns", &samples, 1);
    let title = format!(
        "Fan-out, {allocator}: time per item, {items} items of about {} µs, one in a thousand fails.",
        NANOS as f64 / 1_000.0
    );
    table(&title, &contestants.map(|contestant| contestant.name), &columns);
}

fn in_a_loop<const NANOS: u64>(items: u64) -> Work {
    Box::pin(async move { check(items, &(0..items).map(value::<NANOS>).collect::<Vec<_>>()) })
}

/// A pool of two threads, which are there before anything is measured.
fn with_rayon<const NANOS: u64>(items: u64) -> Work {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("the system gives threads")
    });
    Box::pin(async move {
        let (tx, rx) = tokio::sync::oneshot::channel();
        pool.spawn(move || {
            let items: Vec<u64> = (0..items).collect();
            let _ = tx.send(items.into_par_iter().map(value::<NANOS>).collect::<Vec<_>>());
        });
        check(items, &rx.await.expect("the pool does not panic"));
    })
}

fn ours<const NANOS: u64>(items: u64) -> Work {
    Box::pin(async move {
        let outcome = compute("fanout", 0..items, value::<NANOS>).await;
        let counts = outcome.counts();
        check_counts(items, counts.ok + counts.failed, counts.ok);
        black_box(&outcome);
    })
}

fn a_task_each<const NANOS: u64>(items: u64) -> Work {
    Box::pin(async move {
        let tasks: Vec<_> =
            (0..items).map(|item| tokio::spawn(async move { value::<NANOS>(item) })).collect();
        let mut results = Vec::with_capacity(tasks.len());
        for task in tasks {
            results.push(task.await.expect("the task does not panic"));
        }
        check(items, &results);
    })
}

fn a_task_per_chunk<const NANOS: u64>(items: u64) -> Work {
    Box::pin(async move {
        let all: Arc<[u64]> = (0..items).collect();
        let tasks: Vec<_> = (0..all.len().div_ceil(CHUNK))
            .map(|chunk| {
                let all = Arc::clone(&all);
                tokio::spawn(async move {
                    let chunk = all.iter().skip(chunk * CHUNK).take(CHUNK);
                    chunk.map(|item| value::<NANOS>(*item)).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut results = Vec::with_capacity(all.len());
        for task in tasks {
            results.extend(task.await.expect("the task does not panic"));
        }
        check(items, &results);
    })
}

fn blocking_each<const NANOS: u64>(items: u64) -> Work {
    Box::pin(async move {
        let tasks: Vec<_> =
            (0..items).map(|item| tokio::task::spawn_blocking(move || value::<NANOS>(item))).collect();
        let mut results = Vec::with_capacity(tasks.len());
        for task in tasks {
            results.push(task.await.expect("the task does not panic"));
        }
        check(items, &results);
    })
}
