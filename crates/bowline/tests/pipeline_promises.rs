//! What a pipeline promises where it is hard to keep: at a shutdown, to large records, for failures that nobody takes.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    Bound, Cancelled, Errors, Failed, Overflow, Parallel, Pipeline, PipelineEnd, PipelineHandle, scope, sleep,
};

const MS: Duration = Duration::from_millis(1);

#[bowline::test(start_paused = true)]
async fn a_shutdown_stops_a_source_that_waits_for_a_slow_sink_at_its_next_record() {
    scope("test", async |s| {
        let pipeline = Pipeline::new("slow", 0..)
            .sink("load", Parallel::ordered(1), Bound::items(2), async |_: &u64| sleep(MS * 1_000).await)
            .start(s);
        sleep(MS * 1_500).await?;
        let before = pipeline.stats().received;
        bowline::shut_down("the test ends");
        assert!(matches!(pipeline.wait_ended().await?, PipelineEnd::Drained));
        assert_eq!(pipeline.stats().received, before, "a record was begun after it was told to stop");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_shutdown_is_seen_although_the_queue_that_is_read_never_runs_empty() {
    scope("test", async |s| {
        let (tx, rx) = s.queue("records", Bound::items(4), Overflow::Block);
        let tx = tx.free();
        let shared = rx.clone(); // somebody else could receive, so the queue is not closed
        let pipeline = Pipeline::new("busy", rx.free())
            .sink("load", Parallel::ordered(1), Bound::items(2), async |_: &u64| sleep(MS * 10).await)
            .start(s);
        let producer = s.spawn("producer", async move {
            for n in 0.. {
                if tx.send(n).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        sleep(MS * 100).await?;
        let before = pipeline.stats().received;
        bowline::shut_down("the test ends");
        assert!(matches!(pipeline.wait_ended().await?, PipelineEnd::Drained));
        let after = pipeline.stats().received;
        assert!(after - before <= 5, "what was in the queue, and one that was on its way: {before}, {after}");
        drop(shared);
        drop(producer);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_delivery_whose_failure_could_not_be_kept_is_received_again() {
    scope("test", async |s| {
        let (tx, rx) = s.queue("orders", Bound::items(8), Overflow::Block);
        for n in 0..2_u32 {
            tx.send(n).await?;
        }
        let pipeline = Pipeline::acknowledged("orders", rx.clone().free())
            .errors(Errors::keep(1))
            .stop_after(2)
            .sink("fail", Parallel::ordered(1), Bound::items(1), async |_: &u32| Err::<(), _>("bad"))
            .start(s);
        let end = pipeline.wait_ended().await?;
        assert!(matches!(end, PipelineEnd::TooManyErrors { errors: 2 }), "{end}");
        assert_eq!((pipeline.stats().errors_kept, pipeline.stats().errors_lost), (1, 1));
        assert_eq!(rx.try_recv(), Ok(1), "it is not done");
        assert!(rx.try_recv().is_err(), "the other was kept, and is done");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// Whoever takes failures hangs with one in its hands: it is lost like the ones for which there was no room.
#[bowline::test(start_paused = true)]
async fn a_failure_that_its_taker_never_finishes_is_counted_and_ends_a_pipeline_that_commits() {
    let pipeline =
        || {
            Pipeline::new("log", 0..3_u32)
                .errors(Errors::each(10, async |_failed: Failed| std::future::pending().await))
                .sink("store", Parallel::ordered(1), Bound::items(4), async |n: &u32| {
                    if *n == 1 { Err("bad") } else { Ok(()) }
                })
        };
    let report = pipeline().run().await.unwrap();
    assert_eq!((report.stats.failed, report.stats.errors_lost, report.errors.len()), (1, 1, 0));
    let stopped = pipeline().on_done(|_| ()).run().await.unwrap_err();
    assert!(matches!(stopped.end(), PipelineEnd::FailureLost { stage: "store" }), "{stopped}");
    assert_eq!(stopped.report().stats.done_without_gap, Some(1));
}

#[bowline::test(start_paused = true)]
async fn a_large_record_is_not_kept_out_of_a_buffer_of_bytes_by_small_ones_that_always_fit() {
    let before_it = Arc::new(AtomicUsize::new(0));
    let (count, is_in) = (Arc::clone(&before_it), Arc::new(AtomicUsize::new(0)));
    let came = Arc::clone(&is_in);
    scope("test", async |s| {
        let sizes = [40].into_iter().cycle().take(20).chain([90]).chain([40].into_iter().cycle());
        let size = |record: &Vec<u8>| record.len();
        let pipeline = Pipeline::new("bytes", sizes.map(|bytes| vec![0_u8; bytes]))
            .edit("pass", Parallel::unordered(3), Bound::items(8), async |_: &mut Vec<u8>| {
                Ok::<_, Infallible>(())
            })
            .sink("take", Parallel::ordered(1), Bound::items(8).and_bytes(100, size), async move |record| {
                let record: &Vec<u8> = record;
                if record.len() == 90 {
                    came.store(1, Ordering::Relaxed);
                } else if came.load(Ordering::Relaxed) == 0 {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                sleep(MS).await
            })
            .start(s);
        sleep(MS * 200).await?;
        assert_eq!(is_in.load(Ordering::Relaxed), 1, "it waits still");
        assert!(before_it.load(Ordering::Relaxed) <= 25, "{}", before_it.load(Ordering::Relaxed));
        pipeline.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// The drop of a record is the user's, and may panic.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0 || std::thread::panicking(), "a record that cannot be dropped");
    }
}

#[bowline::test(start_paused = true)]
async fn the_books_are_right_although_a_record_panics_when_it_is_dropped() {
    let pipeline: Mutex<Option<PipelineHandle>> = Mutex::new(None);
    let owner = scope("test", async |s| {
        let started = Pipeline::new("bombs", (0..10).map(|n| Bomb(n == 3)))
            .sink("stuck", Parallel::ordered(1), Bound::items(8), async |_: &Bomb| {
                std::future::pending::<Result<(), Infallible>>().await
            })
            .start(s);
        *pipeline.lock().unwrap() = Some(started.clone());
        sleep(MS).await?;
        started.cancel("enough");
        Ok::<_, Cancelled>(())
    });
    let died = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(owner)).await;
    assert!(died.is_err(), "the panic is the owner's");
    let pipeline = pipeline.lock().unwrap().take().unwrap();
    assert!(matches!(pipeline.wait_ended().await.unwrap(), PipelineEnd::Cancelled(_)));
    let stats = pipeline.stats();
    assert_eq!((stats.received, stats.cancelled, stats.in_flight), (9, 9, 0), "{stats}");
}

// ---- records that are handed over in batches

/// Stages of one worker take several records at once when their work is done at the first poll.
#[bowline::test(start_paused = true)]
async fn a_chain_of_single_workers_stops_its_source_when_exactly_all_places_are_taken() {
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pulled);
    scope("test", async |s| {
        let source = (0..).inspect(move |_: &u64| _ = count.fetch_add(1, Ordering::Relaxed));
        let pass = async |_: &mut u64| Ok::<_, Infallible>(());
        let pipeline = Pipeline::new("stuck", source)
            .edit("one", Parallel::ordered(1), Bound::items(64), pass)
            .edit("two", Parallel::unordered(1), Bound::items(20), pass)
            .sink("stuck", Parallel::ordered(1), Bound::items(32), async |n: &u64| {
                if *n >= 2_000 { std::future::pending().await } else { Ok::<_, Infallible>(()) }
            })
            .start(s);
        sleep(MS * 100).await?;
        let stats = pipeline.stats();
        let bound = (1 + 64) + (1 + 20) + (1 + 32);
        assert_eq!(stats.done, 2_000, "{stats}");
        assert_eq!((stats.in_flight, stats.max_in_flight), (bound, bound), "{stats}");
        assert_eq!(pulled.load(Ordering::Relaxed), 2_000 + bound, "{stats}");
        let full: Vec<_> =
            stats.stages.iter().map(|stage| (stage.depth_items, stage.high_water_items)).collect();
        assert_eq!(full, [(64, 64), (20, 20), (32, 32)]);
        pipeline.cancel("seen");
        pipeline.wait_ended().await?;
        let stats = pipeline.stats();
        assert_eq!((stats.in_flight, stats.cancelled), (0, bound as u64), "{stats}");
        for stage in &stats.stages {
            assert_eq!(stage.received, stage.passed + stage.cancelled, "{stats}");
        }
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_record_that_is_done_does_not_wait_for_the_work_on_the_next_one() {
    let out = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&out);
    scope("test", async |s| {
        let pipeline = Pipeline::new("one hangs", 0..2_000_u64)
            .edit("hang", Parallel::unordered(1), Bound::items(64), async |n: &mut u64| {
                if *n == 1_500 { std::future::pending().await } else { Ok::<_, Infallible>(()) }
            })
            .sink("count", Parallel::ordered(1), Bound::items(64), async move |_: &u64| {
                counts.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(())
            })
            .start(s);
        sleep(MS).await?;
        assert_eq!(out.load(Ordering::Relaxed), 1_500, "all before the one that hangs");
        pipeline.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}
