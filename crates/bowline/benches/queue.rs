//! Handing items over through a bounded queue, beside tokio's channel, interleaved in one process.
//!
//! `cargo bench -p bowline --bench queue`. Medians of rounds; what counts is the ratio to the first row of the same block.
//! tokio has no channel with several receivers; its row for 4→4 is the usual substitute, a receiver behind a mutex.

#![expect(clippy::disallowed_methods, reason = "bare tokio is what this is compared with")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline::{Bound, Cancelled, Discard, Overflow, group};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, mpsc};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Room in the queue.
const CAPACITY: usize = 100;
/// Items per round, over all senders.
const ITEMS: u64 = 400_000;
const ROUNDS: usize = 9;

fn main() {
    let single = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let double = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    for (name, runtime) in [("one thread", &single), ("two workers", &double)] {
        for (shape, contestants) in [("1→1", ONE_TO_ONE.as_slice()), ("4→4", FOUR_TO_FOUR.as_slice())] {
            println!(
                "{name}, {shape}, capacity {CAPACITY}, ns per item (median of {ROUNDS} rounds [min..max], ratio to the first)"
            );
            report(contestants, &rounds(runtime, contestants));
        }
    }
}

type Contestant = (&'static str, fn(&Runtime) -> Duration);

const ONE_TO_ONE: [Contestant; 2] =
    [("tokio mpsc", |rt| tokio_mpsc(rt, 1)), ("bowline queue", |rt| queue(rt, 1))];

const FOUR_TO_FOUR: [Contestant; 2] =
    [("tokio mpsc behind a mutex", |rt| tokio_shared(rt, 4)), ("bowline queue", |rt| queue(rt, 4))];

fn rounds(runtime: &Runtime, contestants: &[Contestant]) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); contestants.len()];
    for _ in 0..ROUNDS {
        for (at, (_, run)) in contestants.iter().enumerate() {
            times[at].push(run(runtime).as_secs_f64() * 1e9 / ITEMS as f64);
        }
    }
    times
}

fn report(contestants: &[Contestant], times: &[Vec<f64>]) {
    let mut first = None;
    for ((name, _), times) in contestants.iter().zip(times) {
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, median, high) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        let base = *first.get_or_insert(median);
        println!("  {name:34} {median:7.1} [{low:.1}..{high:.1}]  {:.2}", median / base);
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

fn tokio_mpsc(runtime: &Runtime, senders: u64) -> Duration {
    timed(runtime, move || async move {
        let (tx, mut rx) = mpsc::channel::<u64>(CAPACITY);
        for _ in 0..senders {
            let tx = tx.clone();
            tokio::spawn(async move {
                for item in 0..ITEMS / senders {
                    tx.send(item).await.expect("the receiver is there");
                }
            });
        }
        drop(tx);
        let receiver = tokio::spawn(async move {
            while let Some(item) = rx.recv().await {
                black_box(item);
            }
        });
        receiver.await.expect("it does not panic");
    })
}

fn tokio_shared(runtime: &Runtime, each: u64) -> Duration {
    timed(runtime, move || async move {
        let (tx, rx) = mpsc::channel::<u64>(CAPACITY);
        let rx = Arc::new(Mutex::new(rx));
        let mut receivers = Vec::new();
        for _ in 0..each {
            let (tx, rx) = (tx.clone(), Arc::clone(&rx));
            tokio::spawn(async move {
                for item in 0..ITEMS / each {
                    tx.send(item).await.expect("a receiver is there");
                }
            });
            receivers.push(tokio::spawn(async move {
                loop {
                    let item = rx.lock().await.recv().await;
                    match item {
                        Some(item) => black_box(item),
                        None => break,
                    };
                }
            }));
        }
        drop(tx);
        for receiver in receivers {
            receiver.await.expect("it does not panic");
        }
    })
}

fn queue(runtime: &Runtime, each: u64) -> Duration {
    timed(runtime, move || async move {
        let outcome = group("bench", Discard, async move |g| {
            let (tx, rx) = g.cx().queue::<u64>("items", Bound::items(CAPACITY), Overflow::Block);
            for _ in 0..each {
                g.spawn_with("send", tx.clone(), async move |_cx, tx| {
                    for item in 0..ITEMS / each {
                        tx.send(item).await?;
                    }
                    Ok::<_, Cancelled>(())
                });
                g.spawn_with("recv", rx.clone(), async |_cx, rx| {
                    while let Some(item) = rx.recv().await? {
                        black_box(item);
                    }
                    Ok::<_, Cancelled>(())
                });
            }
        });
        black_box(outcome.await.counts());
    })
}
