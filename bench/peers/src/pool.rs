//! Bursts of short jobs through a pool of five workers with room for a hundred, and the memory a burst takes.

use std::hint::black_box;
use std::sync::Arc;

use bowline::{Bound, Cancelled, Overflow, Pool, Workers, scope};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::child;
use crate::measure::{Column, Contestant, Samples, Threads, Work, go, here, interleave, rounds, table};
use crate::parked::resident_bytes;

const WORKERS: usize = 5;
const ROOM: usize = 100;

/// Steps of a job per microsecond, about: the same number in Go's program.
const STEPS_PER_MICROSECOND: u64 = 820;

/// Jobs of a big burst; a row with longer jobs does fewer.
const BIG: u64 = 1_000_000;
const SMALL: u64 = 10_000;

/// A job, of so many nanoseconds.
fn job<const NANOS: u64>(n: u64) -> u64 {
    let mask = black_box(0);
    let mut sum = n | 1;
    for step in 0..STEPS_PER_MICROSECOND * NANOS / 1_000 {
        sum = sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step) ^ mask;
    }
    black_box(sum)
}

/// Prints the tables.
pub fn report(allocator: &str) {
    crossfire::detect_backoff_cfg(); // as its authors advise for machines with few cores
    one::<100, BIG>(allocator, BIG, ["pool-chan-100", "pool-errgroup-100", "pool-ants-100"]);
    one::<1_000, BIG>(allocator, BIG, ["pool-chan-1000", "pool-errgroup-1000", "pool-ants-1000"]);
    one::<10_000, BIG>(allocator, BIG / 5, ["pool-chan-10000", "pool-errgroup-10000", "pool-ants-10000"]);
    let small = ["pool-chan-100-small", "pool-errgroup-100-small", "pool-ants-100-small"];
    one::<100, SMALL>(allocator, BIG, small);
    let small = ["pool-chan-1000-small", "pool-errgroup-1000-small", "pool-ants-1000-small"];
    one::<1_000, SMALL>(allocator, BIG, small);
    memory(allocator);
}

fn one<const NANOS: u64, const BURST: u64>(allocator: &str, jobs: u64, go_commands: [&'static str; 3]) {
    let [chan, errgroup, ants] = go_commands;
    let contestants: [Contestant; 12] = [
        go("Go: chan + goroutines", chan),
        go("Go: errgroup with a limit", errgroup),
        go("Go: ants", ants),
        here("a loop, no pool", |jobs| bursts::<NANOS, BURST, _>(jobs, in_a_loop::<NANOS>)),
        here("`tokio::sync::mpsc` behind `Mutex`", |jobs| bursts::<NANOS, BURST, _>(jobs, shared_mpsc::<NANOS>)),
        here("async-channel", |jobs| bursts::<NANOS, BURST, _>(jobs, async_channel::<NANOS>)),
        here("flume", |jobs| bursts::<NANOS, BURST, _>(jobs, flume::<NANOS>)),
        here("kanal", |jobs| bursts::<NANOS, BURST, _>(jobs, kanal::<NANOS>)),
        here("crossfire", |jobs| bursts::<NANOS, BURST, _>(jobs, crossfire::<NANOS>)),
        here("`Semaphore` + `JoinSet`", |jobs| bursts::<NANOS, BURST, _>(jobs, semaphore::<NANOS>)),
        here("**pool**, `submit` each", |jobs| bursts::<NANOS, BURST, _>(jobs, ours::<NANOS>)),
        here("**pool**, `submit_all`", |jobs| bursts::<NANOS, BURST, _>(jobs, ours_at_once::<NANOS>)),
    ];
    let samples = interleave(&contestants, Threads::Two, jobs);
    let columns = [
        Column { heading: "million jobs/s", samples: per_second(&samples), digits: 2 },
        Column { heading: "CPU ns a job", samples: samples.iter().map(|row| row.cpu.clone()).collect(), digits: 0 },
    ];
    let title = format!(
        "Pool of {WORKERS} workers, room for {ROOM}, {allocator}: jobs of about {NANOS} ns, bursts of {}, two threads.",
        BURST.min(jobs)
    );
    table(&title, &contestants.map(|contestant| contestant.name), &columns);
}

fn per_second(samples: &[Samples]) -> Vec<Vec<f64>> {
    samples.iter().map(|row| row.wall.iter().map(|nanos| 1e3 / nanos).collect()).collect()
}

/// Bursts, each with a pool of its own from its first job to its last worker's end.
fn bursts<const NANOS: u64, const BURST: u64, F>(jobs: u64, burst: fn(u64) -> F) -> Work
where
    F: Future<Output = ()> + Send + 'static,
{
    Box::pin(async move {
        let size = BURST.min(jobs);
        for _ in 0..jobs / size {
            burst(size).await;
        }
    })
}

async fn in_a_loop<const NANOS: u64>(jobs: u64) {
    for n in 0..jobs {
        job::<NANOS>(n);
    }
}

async fn ours<const NANOS: u64>(jobs: u64) {
    let done = scope("burst", async |s| {
        let pool = Pool::new("jobs", Workers::fixed(WORKERS), Bound::items(ROOM), Overflow::Block)
            .start(s, async |n| job::<NANOS>(n));
        for n in 0..jobs {
            pool.submit(n).await.expect("the pool takes jobs");
        }
        pool.drain().await?;
        Ok::<_, Cancelled>(pool.stats().completed)
    });
    assert_eq!(done.await, Ok(jobs), "each job is done once");
}

async fn ours_at_once<const NANOS: u64>(jobs: u64) {
    let done = scope("burst", async |s| {
        let pool = Pool::new("jobs", Workers::fixed(WORKERS), Bound::items(ROOM), Overflow::Block)
            .start(s, async |n| job::<NANOS>(n));
        pool.submit_all(0..jobs).await.expect("the pool takes jobs");
        pool.drain().await?;
        Ok::<_, Cancelled>(pool.stats().completed)
    });
    assert_eq!(done.await, Ok(jobs), "each job is done once");
}

async fn shared_mpsc<const NANOS: u64>(jobs: u64) {
    let (tx, rx) = mpsc::channel(ROOM);
    let rx = Arc::new(Mutex::new(rx));
    let workers = (0..WORKERS).map(|_| {
        let rx = Arc::clone(&rx);
        tokio::spawn(async move {
            let mut done = 0;
            while let Some(n) = { rx.lock().await.recv().await } {
                job::<NANOS>(n);
                done += 1;
            }
            done
        })
    });
    let workers: Vec<_> = workers.collect();
    for n in 0..jobs {
        tx.send(n).await.expect("a worker is there");
    }
    drop(tx);
    all_done(workers, jobs).await;
}

/// Four libraries have the same shape: `send` and `recv`, each with its own types.
macro_rules! through {
    ($name:ident, $open:expr, $send:ident, $receive:ident) => {
        async fn $name<const NANOS: u64>(jobs: u64) {
            let (tx, rx) = $open;
            let workers = (0..WORKERS).map(|_| {
                let rx = rx.clone();
                tokio::spawn(async move {
                    let mut done = 0;
                    while let Ok(n) = rx.$receive().await {
                        job::<NANOS>(n);
                        done += 1;
                    }
                    done
                })
            });
            let workers: Vec<_> = workers.collect();
            drop(rx);
            for n in 0..jobs {
                tx.$send(n).await.expect("a worker is there");
            }
            drop(tx);
            all_done(workers, jobs).await;
        }
    };
}

through!(async_channel, async_channel::bounded::<u64>(ROOM), send, recv);
through!(flume, flume::bounded::<u64>(ROOM), send_async, recv_async);
through!(kanal, kanal::bounded_async::<u64>(ROOM), send, recv);
through!(crossfire, crossfire::mpmc::bounded_async::<u64>(ROOM), send, recv);

async fn semaphore<const NANOS: u64>(jobs: u64) {
    let room = Arc::new(Semaphore::new(WORKERS));
    let mut running = JoinSet::new();
    let mut done = 0;
    for n in 0..jobs {
        let permit = Arc::clone(&room).acquire_owned().await.expect("it is open");
        running.spawn(async move {
            job::<NANOS>(n);
            drop(permit);
        });
        while running.try_join_next().is_some() {
            done += 1;
        }
    }
    while running.join_next().await.is_some() {
        done += 1;
    }
    assert_eq!(done, jobs, "each job is done once");
}

async fn all_done(workers: Vec<tokio::task::JoinHandle<u64>>, jobs: u64) {
    let mut done = 0;
    for worker in workers {
        done += worker.await.expect("a worker does not panic");
    }
    assert_eq!(done, jobs, "each job is done once");
}

async fn a_task_each<const NANOS: u64>(jobs: u64) {
    let tasks = TaskTracker::new();
    for n in 0..jobs {
        tasks.spawn(async move {
            job::<NANOS>(n);
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// A task each, of a kind that takes a moment: the tasks pile up.
async fn a_waiting_task_each(jobs: u64) {
    let tasks = TaskTracker::new();
    for _ in 0..jobs {
        tasks.spawn(tokio::time::sleep(std::time::Duration::from_millis(50)));
    }
    tasks.close();
    tasks.wait().await;
}

// ---- memory

type Burst = fn(u64) -> Work;

/// Row, the child's argument, what it runs.
const WEIGHED: [(&str, &str, Burst); 4] = [
    ("**pool**, jobs of 100 ns", "pool", |jobs| Box::pin(ours::<100>(jobs))),
    ("**pool**, `submit_all`, jobs of 100 ns", "pool-all", |jobs| Box::pin(ours_at_once::<100>(jobs))),
    ("a tokio task each, jobs of 100 ns", "task", |jobs| Box::pin(a_task_each::<100>(jobs))),
    ("a tokio task each, which waits for 50 ms", "waiting", |jobs| Box::pin(a_waiting_task_each(jobs))),
];

fn memory(allocator: &str) {
    let mut kib = vec![Vec::new(); WEIGHED.len()];
    for _ in 0..rounds().div_ceil(3) {
        for (at, (_, which, _)) in WEIGHED.iter().enumerate() {
            kib[at].push(child::again(&["burst", which])[0] as f64 / 1024.0);
        }
    }
    let rows: Vec<&str> = WEIGHED.iter().map(|(row, ..)| *row).collect();
    let title = format!("A burst of {BIG}, {allocator}: how much more memory was resident at its highest than before.");
    table(&title, &rows, &[Column { heading: "KiB", samples: kib, digits: 0 }]);
}

/// Weighs one burst, in a process of its own.
///
/// # Panics
///
/// If there is no contestant of that name.
pub fn weigh(which: &str) {
    let (_, _, burst) = WEIGHED.iter().find(|(_, known, _)| *known == which).expect("a contestant");
    let runtime = Threads::Two.runtime();
    // The runtime and the allocator have what they need from here on.
    runtime.block_on(runtime.spawn(burst(1_000))).expect("it does not panic");
    let before = resident_bytes();
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux forgets the highest so far");
    runtime.block_on(runtime.spawn(burst(BIG))).expect("it does not panic");
    println!("{}", highest_bytes().saturating_sub(before));
}

fn highest_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says what a process weighed");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the line is there");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}
