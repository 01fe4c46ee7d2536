//! Taking and releasing a free lock beside tokio's, and handing one over between two tasks, interleaved in one process.
//!
//! `cargo bench -p bowline --bench lock`, or with `-- with` only the rows that have this word. Medians of rounds; what counts is the ratio to the row above, which is tokio's.

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline::{Cancelled, scope};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns per round.
const TURNS: u32 = 200_000;
const ROUNDS: usize = 9;

type Contestant = (&'static str, fn(&Runtime) -> Duration);

const CONTESTANTS: [Contestant; 11] = [
    ("tokio Mutex, free", tokio_mutex),
    ("bowline Mutex::lock, free", mutex),
    ("bowline Mutex::with, free", mutex_with),
    ("tokio RwLock::read, free", tokio_read),
    ("bowline RwLock::read, free", read),
    ("tokio RwLock::write, free", tokio_write),
    ("bowline RwLock::write, free", write),
    ("tokio Semaphore, free", tokio_semaphore),
    ("bowline Semaphore, free", semaphore),
    ("tokio Mutex, two tasks in turn", tokio_contended),
    ("bowline Mutex, two tasks in turn", contended),
];

fn main() {
    let single = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let contestants: Vec<Contestant> =
        CONTESTANTS.into_iter().filter(|(name, _)| name.contains(&wanted)).collect();
    let mut times = vec![Vec::new(); contestants.len()];
    for _ in 0..ROUNDS {
        for (at, (_, run)) in contestants.iter().enumerate() {
            times[at].push(run(&single).as_secs_f64() * 1e9 / f64::from(TURNS));
        }
    }
    println!("one thread, ns per lock and release (median of {ROUNDS} rounds [min..max], ratio to tokio's)");
    let mut tokio = 1.0;
    for ((name, _), times) in contestants.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let median = times[ROUNDS / 2];
        if name.starts_with("tokio") {
            tokio = median;
        }
        let (low, high) = (times[0], times[ROUNDS - 1]);
        println!("{name:36} {median:8.1}  [{low:.1}..{high:.1}]  {:.2}", median / tokio);
    }
}

/// Times `turn`, inside a task context of ours, where checks for cancellation have something to look at.
fn timed<T>(runtime: &Runtime, turn: impl AsyncFn() -> T) -> Duration {
    runtime.block_on(async {
        scope("bench", async |_| {
            let started = Instant::now();
            for _ in 0..TURNS {
                black_box(turn().await);
            }
            Ok::<_, Cancelled>(started.elapsed())
        })
        .await
        .expect("nobody cancels this scope")
    })
}

fn tokio_mutex(runtime: &Runtime) -> Duration {
    let lock = tokio::sync::Mutex::new(0_u64);
    timed(runtime, async || *lock.lock().await += 1)
}

fn mutex(runtime: &Runtime) -> Duration {
    let lock = bowline::Mutex::new("bench", 0_u64);
    timed(runtime, async || *lock.lock().await.expect("not cancelled") += 1)
}

fn mutex_with(runtime: &Runtime) -> Duration {
    let lock = bowline::Mutex::new("bench", 0_u64);
    timed(runtime, async || lock.with(|count| *count += 1).await.expect("not cancelled"))
}

fn tokio_read(runtime: &Runtime) -> Duration {
    let lock = tokio::sync::RwLock::new(7_u64);
    timed(runtime, async || *lock.read().await)
}

fn read(runtime: &Runtime) -> Duration {
    let lock = bowline::RwLock::new("bench", 7_u64);
    timed(runtime, async || *lock.read().await.expect("not cancelled"))
}

fn tokio_write(runtime: &Runtime) -> Duration {
    let lock = tokio::sync::RwLock::new(7_u64);
    timed(runtime, async || *lock.write().await += 1)
}

fn write(runtime: &Runtime) -> Duration {
    let lock = bowline::RwLock::new("bench", 7_u64);
    timed(runtime, async || *lock.write().await.expect("not cancelled") += 1)
}

fn tokio_semaphore(runtime: &Runtime) -> Duration {
    let slots = tokio::sync::Semaphore::new(4);
    timed(runtime, async || drop(slots.acquire().await.expect("not closed")))
}

fn semaphore(runtime: &Runtime) -> Duration {
    let slots = bowline::Semaphore::new("bench", 4);
    timed(runtime, async || drop(slots.acquire(1).await.expect("not closed")))
}

/// Two tasks that always find the lock taken by the other.
fn taking_turns<F: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    task: impl Fn() -> F,
) -> Duration {
    runtime.block_on(async {
        let started = Instant::now();
        scope("turns", async |s| {
            for _ in 0..2 {
                let task = task();
                s.spawn("turns", async move {
                    task.await;
                    Ok(())
                });
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .expect("nobody cancels this scope");
        started.elapsed()
    })
}

fn tokio_contended(runtime: &Runtime) -> Duration {
    let lock = Arc::new(tokio::sync::Mutex::new(0_u64));
    taking_turns(runtime, || {
        let lock = Arc::clone(&lock);
        async move {
            for _ in 0..TURNS / 2 {
                let mut count = lock.lock().await;
                tokio::task::yield_now().await;
                *count += 1;
            }
        }
    })
}

fn contended(runtime: &Runtime) -> Duration {
    let lock = Arc::new(bowline::Mutex::new("bench", 0_u64));
    taking_turns(runtime, || {
        let lock = Arc::clone(&lock);
        async move {
            for _ in 0..TURNS / 2 {
                let mut count = lock.lock().await.expect("not cancelled");
                tokio::task::yield_now().await;
                *count += 1;
            }
        }
    })
}
