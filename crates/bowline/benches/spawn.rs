//! Spawning and joining a watched task beside `tokio::spawn` and `JoinSet`, interleaved in one process.
//!
//! `cargo bench -p bowline --bench spawn`. Medians of rounds; what counts is the ratio to the first row of the same block.

#![expect(clippy::disallowed_methods, reason = "bare tokio is what this is compared with")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bowline::{Cancelled, CollectAll, Discard, group, scope};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tasks in flight at once.
const BATCH: u64 = 1_000;
/// Batches per round.
const BATCHES: u64 = 200;
const ROUNDS: usize = 9;

fn main() {
    let single = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let double = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for (name, runtime) in [("one thread", &single), ("two workers", &double)] {
        println!(
            "{name}, batches of {BATCH}, ns per task (median of {ROUNDS} rounds [min..max], ratio to the first)"
        );
        report(&rounds(runtime));
    }
}

type Contestant = (&'static str, fn(&Runtime) -> Duration);

const CONTESTANTS: [Contestant; 5] = [
    ("tokio::spawn, await each handle", bare),
    ("JoinSet, join_next", join_set),
    ("bowline scope, await each handle", in_scope),
    ("bowline group, CollectAll", in_group),
    ("bowline group, Discard", discarded),
];

fn rounds(runtime: &Runtime) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); CONTESTANTS.len()];
    for _ in 0..ROUNDS {
        for (at, (_, run)) in CONTESTANTS.iter().enumerate() {
            let took = run(runtime);
            times[at].push(took.as_secs_f64() * 1e9 / (BATCH * BATCHES) as f64);
        }
    }
    times
}

fn report(times: &[Vec<f64>]) {
    let mut first = None;
    for ((name, _), times) in CONTESTANTS.iter().zip(times) {
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, median, high) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        let base = *first.get_or_insert(median);
        println!("  {name:34} {median:7.0} [{low:.0}..{high:.0}]  {:.2}", median / base);
    }
}

/// Runs `work` inside a worker, as a service would, and measures it there.
fn timed<F>(runtime: &Runtime, work: impl FnOnce() -> F + Send + 'static) -> Duration
where
    F: Future<Output = ()> + Send,
{
    let task = runtime.spawn(async move {
        let began = Instant::now();
        work().await;
        began.elapsed()
    });
    runtime.block_on(task).expect("the work does not panic")
}

fn bare(runtime: &Runtime) -> Duration {
    timed(runtime, || async {
        let mut handles = Vec::with_capacity(BATCH as usize);
        for _ in 0..BATCHES {
            handles.extend((0..BATCH).map(|n| tokio::spawn(async move { black_box(n) })));
            for handle in handles.drain(..) {
                black_box(handle.await.expect("the task does not panic"));
            }
        }
    })
}

fn join_set(runtime: &Runtime) -> Duration {
    timed(runtime, || async {
        let mut tasks = JoinSet::new();
        for _ in 0..BATCHES {
            for n in 0..BATCH {
                tasks.spawn(async move { black_box(n) });
            }
            while let Some(value) = tasks.join_next().await {
                black_box(value.expect("the task does not panic"));
            }
        }
    })
}

fn in_scope(runtime: &Runtime) -> Duration {
    timed(runtime, || async {
        scope("bench", async |s| {
            let mut handles = Vec::with_capacity(BATCH as usize);
            for _ in 0..BATCHES {
                handles.extend((0..BATCH).map(|n| s.spawn("child", async move { Ok(black_box(n)) })));
                for handle in handles.drain(..) {
                    black_box(handle.await?);
                }
            }
            Ok::<_, Cancelled>(())
        })
        .await
        .expect("nothing is cancelled");
    })
}

fn in_group(runtime: &Runtime) -> Duration {
    timed(runtime, || async {
        for _ in 0..BATCHES {
            let outcome = group("bench", CollectAll, async |g| {
                for n in 0..BATCH {
                    g.spawn("child", async move { Ok::<_, Cancelled>(black_box(n)) });
                }
            });
            black_box(outcome.await.all_ok().expect("nothing fails"));
        }
    })
}

fn discarded(runtime: &Runtime) -> Duration {
    timed(runtime, || async {
        for _ in 0..BATCHES {
            let outcome = group("bench", Discard, async |g| {
                for n in 0..BATCH {
                    g.spawn("child", async move { Ok::<_, Cancelled>(black_box(n)) });
                }
            });
            black_box(outcome.await.counts());
        }
    })
}
