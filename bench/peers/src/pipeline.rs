//! Records through four stages: what a hand-over costs, and what stages are good for.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bowline::{Bound, Cancelled, Parallel, Pipeline, PipelineHandle, scope};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Mutex, Notify, mpsc};

use crate::measure::{Contestant, Samples, Threads, Work, here, interleave, rounds, table, wall_and_cpu};

/// Stages, the last of them the sink.
const STAGES: u64 = 4;

/// What may wait before each.
const BUFFER: usize = 64;

/// Workers of a stage, where there is more than one.
const WORKERS: usize = 4;

/// Records per round.
const RECORDS: u64 = 100_000;

/// What a stage does where only the hand-over counts.
async fn step(n: u64) -> u64 {
    black_box(n) + 1
}

/// Each record has been through every stage.
fn check(records: u64, sum: u64) {
    let expected = records * (records - 1) / 2 + (STAGES - 1) * records;
    assert_eq!(sum, expected, "each record goes through each stage once");
}

/// Prints the tables.
pub fn report(allocator: &str) {
    let contestants: [Contestant; 8] = [
        here("tokio mpsc, a task per stage", by_hand),
        here("**pipeline, a worker per stage**", ours_single),
        here("futures, `buffered(4)`", buffered),
        here("futures, `buffer_unordered(4)`", unordered),
        here("tokio mpsc behind a mutex, 4 tasks per stage", by_hand_shared),
        here("**pipeline, `unordered(4)`**", ours_unordered),
        here("**pipeline, `ordered(4)`**", ours_ordered),
        here("**pipeline, a worker per stage, records in `Vec`s of 64**", ours_batched),
    ];
    for threads in [Threads::One, Threads::Two] {
        let samples: Vec<Samples> = interleave(&contestants, threads, RECORDS)
            .into_iter()
            .map(|samples| Samples {
                wall: samples.wall.iter().map(|nanos| nanos / STAGES as f64).collect(),
                cpu: samples.cpu.iter().map(|nanos| nanos / STAGES as f64).collect(),
            })
            .collect();
        let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
        let title = format!(
            "Handing a record on, ns per record and stage: {STAGES} stages that do nothing, {BUFFER} places before each, {threads:?} \
             worker thread(s), {allocator}. The chains of futures run in one task and hand nothing over to others."
        );
        table(&title, &names, &wall_and_cpu("wall", "CPU", &samples, 0));
    }
    staged(allocator);
}

fn by_hand(records: u64) -> Work {
    Box::pin(async move {
        let (first, mut last) = mpsc::channel::<u64>(BUFFER);
        tokio::spawn(async move {
            for n in 0..records {
                first.send(n).await.expect("somebody receives");
            }
        });
        for _ in 1..STAGES {
            let (tx, rx) = mpsc::channel(BUFFER);
            let mut input = std::mem::replace(&mut last, rx);
            tokio::spawn(async move {
                while let Some(n) = input.recv().await {
                    tx.send(step(n).await).await.expect("somebody receives");
                }
            });
        }
        let mut sum = 0;
        while let Some(n) = last.recv().await {
            sum += n;
        }
        check(records, sum);
    })
}

fn by_hand_shared(records: u64) -> Work {
    Box::pin(async move {
        let (first, rx) = mpsc::channel::<u64>(BUFFER);
        let mut last = Arc::new(Mutex::new(rx));
        tokio::spawn(async move {
            for n in 0..records {
                first.send(n).await.expect("somebody receives");
            }
        });
        for _ in 1..STAGES {
            let (tx, rx) = mpsc::channel(BUFFER);
            let input = std::mem::replace(&mut last, Arc::new(Mutex::new(rx)));
            for _ in 0..WORKERS {
                let (input, tx) = (Arc::clone(&input), tx.clone());
                tokio::spawn(async move {
                    loop {
                        let next = input.lock().await.recv().await; // the lock goes at the end of the statement
                        let Some(n) = next else { return };
                        tx.send(step(n).await).await.expect("somebody receives");
                    }
                });
            }
        }
        let mut sum = 0;
        while let Some(n) = last.lock().await.recv().await {
            sum += n;
        }
        check(records, sum);
    })
}

fn buffered(records: u64) -> Work {
    Box::pin(async move {
        let out = stream::iter(0..records)
            .map(step)
            .buffered(WORKERS)
            .map(step)
            .buffered(WORKERS)
            .map(step)
            .buffered(WORKERS);
        check(records, out.fold(0, async |sum, n| sum + n).await);
    })
}

fn unordered(records: u64) -> Work {
    Box::pin(async move {
        let out = stream::iter(0..records)
            .map(step)
            .buffer_unordered(WORKERS)
            .map(step)
            .buffer_unordered(WORKERS)
            .map(step)
            .buffer_unordered(WORKERS);
        check(records, out.fold(0, async |sum, n| sum + n).await);
    })
}

fn ours_single(records: u64) -> Work {
    ours(records, Parallel::unordered(1))
}

fn ours_unordered(records: u64) -> Work {
    ours(records, Parallel::unordered(WORKERS))
}

fn ours_ordered(records: u64) -> Work {
    ours(records, Parallel::ordered(WORKERS))
}

fn ours(records: u64, parallel: Parallel) -> Work {
    Box::pin(async move {
        let sum = Arc::new(AtomicU64::new(0));
        let sums = Arc::clone(&sum);
        let pass = async |n: &u64| Ok::<_, Infallible>(step(*n).await);
        let report = Pipeline::new("bench", 0..records)
            .stage("one", parallel, Bound::items(BUFFER), pass)
            .stage("two", parallel, Bound::items(BUFFER), pass)
            .stage("three", parallel, Bound::items(BUFFER), pass)
            .sink("sum", Parallel::ordered(1), Bound::items(BUFFER), async move |n: &u64| {
                sums.fetch_add(*n, Ordering::Relaxed);
                Ok::<_, Infallible>(())
            })
            .run()
            .await
            .expect("nothing is cancelled");
        assert_eq!(report.stats.done, records);
        check(records, sum.load(Ordering::Relaxed));
    })
}

fn ours_batched(records: u64) -> Work {
    Box::pin(async move {
        let sum = Arc::new(AtomicU64::new(0));
        let sums = Arc::clone(&sum);
        let one = Parallel::unordered(1);
        let batches = (0..records.div_ceil(64)).map(move |at| (at * 64..records.min(at * 64 + 64)).collect());
        let pass = async |batch: &mut Vec<u64>| {
            for n in batch {
                *n = step(*n).await;
            }
            Ok::<_, Infallible>(())
        };
        Pipeline::new("bench", batches)
            .edit("one", one, Bound::items(2), pass)
            .edit("two", one, Bound::items(2), pass)
            .edit("three", one, Bound::items(2), pass)
            .sink("sum", one, Bound::items(2), async move |batch: &Vec<u64>| {
                sums.fetch_add(batch.iter().sum(), Ordering::Relaxed);
                Ok::<_, Infallible>(())
            })
            .run()
            .await
            .expect("nothing is cancelled");
        check(records, sum.load(Ordering::Relaxed));
    })
}

/// What the stages of a record take, of 400 ms in all: half of what the service needed that this is drawn from.
const TAKES: [Duration; 4] = [
    Duration::from_millis(40),
    Duration::from_millis(120),
    Duration::from_millis(160),
    Duration::from_millis(80),
];

/// A worker per 40 ms.
const STAFF: [usize; 4] = [1, 3, 4, 2];

/// Records of a round: filling and emptying the stages takes as long as ten of them. The one function gets a thirtieth.
const STAGED: u64 = 300;

async fn takes(at: usize) -> Result<(), Infallible> {
    tokio::time::sleep(TAKES[at]).await;
    Ok(())
}

/// Records per second of one function that does it all.
async fn as_one_function() -> f64 {
    let begun = Instant::now();
    for _ in 0..STAGED / 30 {
        for at in 0..TAKES.len() {
            takes(at).await.expect("it does not fail");
        }
    }
    (STAGED / 30) as f64 / begun.elapsed().as_secs_f64()
}

/// The part of its workers' time in which each stage was busy so far, times the seconds since the start.
fn busy_seconds(pipeline: &PipelineHandle, begun: Instant) -> (f64, Vec<f64>) {
    let elapsed = begun.elapsed().as_secs_f64();
    (elapsed, pipeline.stats().stages.iter().map(|stage| stage.busy_share * elapsed).collect())
}

/// Records per second in stages, from the first record of the source to the last of the sink; and the busy share of each stage while
/// all were at work: from the first record of the sink to the last of the source.
async fn in_stages() -> (f64, Vec<f64>) {
    let (first_out, last_in) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (is_out, is_in) = (Arc::clone(&first_out), Arc::clone(&last_in));
    let begun = Instant::now();
    scope("stages", async |s| {
        let [a, b, c, d] = STAFF.map(Parallel::ordered);
        let source = (0..STAGED).inspect(move |n| {
            if *n == STAGED - 1 {
                is_in.notify_one();
            }
        });
        let pipeline = Pipeline::new("records", source)
            .edit("validate", a, Bound::items(8), async |_: &mut u64| takes(0).await)
            .edit("anonymise", b, Bound::items(8), async |_: &mut u64| takes(1).await)
            .edit("rules", c, Bound::items(8), async |_: &mut u64| takes(2).await)
            .sink("load", d, Bound::items(8), async move |_: &u64| {
                is_out.notify_one();
                takes(3).await
            })
            .start(s);
        first_out.notified().await;
        let (from, before) = busy_seconds(&pipeline, begun);
        last_in.notified().await;
        let (to, after) = busy_seconds(&pipeline, begun);
        pipeline.wait_ended().await?;
        assert_eq!(pipeline.stats().done, STAGED);
        let rate = STAGED as f64 / begun.elapsed().as_secs_f64();
        let shares = before.iter().zip(&after).map(|(before, after)| (after - before) / (to - from) * 100.0);
        Ok::<_, Cancelled>((rate, shares.collect()))
    })
    .await
    .expect("nothing is cancelled")
}

/// Waiting stages: as one function, record after record, and each with the workers it needs.
fn staged(allocator: &str) {
    let runtime = Threads::Two.runtime();
    let (mut as_one, mut as_stages, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds().min(2) {
        as_one.push(runtime.block_on(as_one_function()));
        let (rate, shares) = runtime.block_on(in_stages());
        as_stages.push(rate);
        busy.push(shares);
    }
    let column = crate::measure::Column { heading: "records/s", samples: vec![as_one, as_stages], digits: 2 };
    let title = format!(
        "Records whose stages wait for {TAKES:?}, two worker threads, {allocator}: as one function, and in stages with {STAFF:?} \
         workers (ordered, 8 places before each); {STAGED} records, with filling and emptying."
    );
    table(&title, &["one function, record after record", "**pipeline**"], &[column]);
    let low = busy.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    println!("\nWhile all stages are at work, each is busy for {low:.1}% of its workers' time or more.");
}
