//! Pipelines: order, bounds, failures out of band, the end.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{
    AlertKind, Bound, Cancelled, Errors, Failed, FailedBy, Feed, Overflow, Parallel, Pipeline, PipelineEnd,
    PipelineError, PipelineHandle, PipelineStats, Semaphore, SendError, Stage, on_alert, pipelines, scope,
    sleep, timeout,
};
use futures_util::stream;

const MS: Duration = Duration::from_millis(1);

/// What a test's stages share.
type Log<T> = Arc<Mutex<Vec<T>>>;

fn items<T>(max: usize) -> Bound<T> {
    Bound::items(max)
}

async fn settled() {
    tokio::time::sleep(MS).await;
}

fn conserved(stats: &PipelineStats) {
    for stage in &stats.stages {
        let gone = stage.passed + stage.filtered + stage.failed + stage.cancelled;
        assert_eq!(stage.received, gone, "{stats}");
        assert_eq!((stage.in_flight, stage.depth_items), (0, 0), "{stats}");
    }
    assert_eq!(stats.received, stats.done + stats.filtered + stats.failed + stats.cancelled, "{stats}");
    assert_eq!(stats.in_flight, 0);
}

// ---- order

#[bowline::test(start_paused = true)]
async fn an_ordered_stage_gives_its_results_in_the_order_of_the_records() -> Result<(), PipelineError> {
    let log = Log::default();
    let kept = Arc::clone(&log);
    let report = Pipeline::new("sleepy", 0..100_u64)
        .stage("sleep", Parallel::ordered(7), items(5), async |n: &u64| {
            sleep(MS * u32::try_from((n * 37) % 11).unwrap()).await?;
            Ok::<_, Cancelled>(*n)
        })
        .sink("keep", Parallel::ordered(1), items(9), async move |n: &u64| {
            kept.lock().unwrap().push(*n);
            Ok::<_, Infallible>(())
        })
        .run()
        .await?;
    assert_eq!(*log.lock().unwrap(), (0..100).collect::<Vec<_>>());
    assert!(matches!(report.end, PipelineEnd::Finished));
    conserved(&report.stats);
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn an_unordered_stage_gives_its_results_as_they_come() -> Result<(), PipelineError> {
    let log = Log::default();
    let kept = Arc::clone(&log);
    Pipeline::new("sleepy", [30_u32, 10, 20])
        .stage("sleep", Parallel::unordered(3), items(3), async |n: &u32| {
            sleep(MS * *n).await?;
            Ok::<_, Cancelled>(*n)
        })
        .sink("keep", Parallel::ordered(1), items(3), async move |n: &u32| {
            kept.lock().unwrap().push(*n);
            Ok::<_, Infallible>(())
        })
        .run()
        .await?;
    assert_eq!(*log.lock().unwrap(), [10, 20, 30]);
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn failed_and_filtered_records_leave_no_gap_in_the_order() -> Result<(), PipelineError> {
    let log = Log::default();
    let kept = Arc::clone(&log);
    let report = Pipeline::new("gaps", 0..60_u32)
        .filter("even", Parallel::ordered(4), items(2), async |n: &u32| {
            sleep(MS * (n % 5)).await?;
            if n % 10 == 4 {
                Err("a four".into())
            } else {
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(n % 2 == 0)
            }
        })
        .sink("keep", Parallel::ordered(1), items(1), async move |n: &u32| {
            kept.lock().unwrap().push(*n);
            Ok::<_, Infallible>(())
        })
        .run()
        .await?;
    let expected: Vec<u32> = (0..60).filter(|n| n % 2 == 0 && n % 10 != 4).collect();
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!((report.stats.filtered, report.stats.failed), (30, 6));
    conserved(&report.stats);
    Ok(())
}

/// A slow head of line: what comes early is bounded by the buffer behind the stage, and then the other workers wait.
#[bowline::test(start_paused = true)]
async fn a_slow_record_of_an_ordered_stage_holds_up_no_more_than_the_next_buffer_has_places() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    scope("test", async |s| {
        let pipeline = Pipeline::new("head of line", 0..1_000_u32)
            .stage("work", Parallel::ordered(3), items(2), async move |n: &u32| {
                count.fetch_add(1, Ordering::Relaxed);
                sleep(if *n == 0 { MS * 1_000 } else { MS }).await?;
                Ok::<_, Cancelled>(*n)
            })
            .sink("take", Parallel::ordered(1), items(4), async |_: &u32| Ok::<_, Infallible>(()))
            .start(s);
        sleep(MS * 500).await?;
        // Record 0 is at work. 1, 2, 3 wait in the window, whose first place is that of 0; 4 and 5 in the workers' hands.
        assert_eq!(begun.load(Ordering::Relaxed), 6);
        let stats = pipeline.stats();
        assert_eq!((stats.stages[0].in_flight, stats.stages[1].depth_items), (3, 3), "{stats}");
        pipeline.wait_ended().await?;
        conserved(&pipeline.stats());
        assert_eq!(pipeline.stats().done, 1_000);
        assert!(pipeline.stats().stages[1].high_water_items <= 4);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- bounds

#[bowline::test(start_paused = true)]
async fn a_sink_that_stands_still_stops_the_source_when_exactly_all_places_are_taken() {
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pulled);
    scope("test", async |s| {
        let source = (0..).inspect(move |_: &u64| _ = count.fetch_add(1, Ordering::Relaxed));
        let pipeline = Pipeline::new("stuck", source)
            .stage("one", Parallel::unordered(2), items(3), async |n: &u64| Ok::<_, Infallible>(*n))
            .stage("two", Parallel::ordered(4), items(5), async |n: &u64| Ok::<_, Infallible>(*n))
            .edit("three", Parallel::unordered(1), items(1), async |_: &mut u64| Ok::<_, Infallible>(()))
            .sink("stuck", Parallel::unordered(2), items(7), async |_: &u64| {
                std::future::pending::<Result<(), Infallible>>().await
            })
            .start(s);
        sleep(MS * 100).await?;
        let bound = (2 + 3) + (4 + 5) + (1 + 1) + (2 + 7);
        let stats = pipeline.stats();
        assert_eq!(pulled.load(Ordering::Relaxed), bound, "{stats}");
        assert_eq!((stats.in_flight, stats.max_in_flight), (bound, bound));
        assert_eq!(stats.bottleneck().map(|stage| stage.name), Some("stuck"));
        pipeline.cancel("seen");
        pipeline.wait_ended().await?;
        conserved(&pipeline.stats());
        assert_eq!(pipeline.stats().cancelled, bound as u64);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_buffer_may_be_bounded_in_bytes() {
    scope("test", async |s| {
        let source = (0..).map(|_: u64| vec![0_u8; 400]);
        let size = |record: &Vec<u8>| record.len();
        let pipeline = Pipeline::new("bytes", source)
            .edit("pass", Parallel::ordered(1), items(100), async |_: &mut Vec<u8>| Ok::<_, Infallible>(()))
            .sink("stuck", Parallel::unordered(1), items(100).and_bytes(1_000, size), async |_: &Vec<u8>| {
                std::future::pending::<Result<(), Infallible>>().await
            })
            .start(s);
        settled().await;
        let sink = &pipeline.stats().stages[1];
        assert_eq!((sink.depth_items, sink.depth_bytes), (2, 800));
        pipeline.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

/// futures-rs#2876: `buffered(0)` hangs for ever.
#[bowline::test]
async fn a_stage_without_workers_or_without_a_place_cannot_be_made() {
    for make in [|| _ = Parallel::ordered(0), || _ = Parallel::unordered(0), || _ = Bound::<u8>::items(0)] {
        assert!(std::panic::catch_unwind(make).is_err());
    }
}

/// futures-rs#2387: what is buffered in a stream is polled only while somebody polls the stream, so calls run into their time-out
/// while the body of the loop waits, and a permit held by a buffered call locks the body out.
/// sdk-rust#89: with `buffered(3)` over one shared context, the first three items come and then nothing.
#[bowline::test(start_paused = true)]
async fn stages_go_on_while_the_sink_waits_and_a_lock_they_share_with_it_does_not_freeze_them()
-> Result<(), PipelineError> {
    let context = Arc::new(Semaphore::new("context", 1));
    let of_sink = Arc::clone(&context);
    let report = Pipeline::new("fetch", 0..10_u32)
        .stage("fetch", Parallel::ordered(3), items(3), async move |n: &u32| {
            let _turn = context.acquire(1).await.map_err(|error| error.to_string())?;
            // The call takes 2 ms and has 5: it is late only if nobody polls it.
            timeout(MS * 5, tokio::time::sleep(MS * 2)).await.map_err(|late| late.to_string())?;
            Ok::<_, String>(*n)
        })
        .sink("process", Parallel::ordered(1), items(1), async move |_: &u32| {
            tokio::time::sleep(MS * 20).await;
            let _turn = of_sink.acquire(1).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(())
        })
        .run()
        .await?;
    assert_eq!((report.stats.done, report.stats.failed), (10, 0), "{:?}", report.errors);
    Ok(())
}

// ---- failures

#[bowline::test(start_paused = true)]
async fn a_failure_comes_with_its_record_and_a_panic_is_one_of_them() -> Result<(), PipelineError> {
    let report = Pipeline::new("divide", [4_u32, 0, 7, 2])
        .stage("divide", Parallel::unordered(1), items(2), async |n: &u32| {
            assert_ne!(*n, 7, "no sevens");
            100_u32.checked_div(*n).ok_or("by zero")
        })
        .sink("sum", Parallel::ordered(1), items(2), async |_: &u32| Ok::<_, Infallible>(()))
        .run()
        .await?;
    assert_eq!((report.stats.done, report.stats.failed), (2, 2));
    let [zero, seven] = &report.errors[..] else { panic!("{:?}", report.errors) };
    assert_eq!((zero.stage, zero.seq, zero.record()), ("divide", 1, Some(&0_u32)));
    assert!(matches!(&zero.by, FailedBy::Error(error) if error.to_string() == "by zero"));
    assert_eq!((seven.seq, seven.record()), (2, Some(&7_u32)));
    let FailedBy::Panicked(panic) = &seven.by else { panic!("{seven}") };
    assert!(panic.message().contains("no sevens") && panic.task() == "divide", "{panic}");
    conserved(&report.stats);
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn a_stage_on_threads_keeps_the_record_of_a_panic_too() -> Result<(), PipelineError> {
    let report = Pipeline::new("compute", [1_u32, 2, 3])
        .cpu_stage("compute", Parallel::ordered(2), items(2), |n: &u32| {
            assert_ne!(*n, 2);
            Ok::<_, Infallible>(n * 2)
        })
        .sink("sum", Parallel::ordered(1), items(2), async |_: &u32| Ok::<_, Infallible>(()))
        .run()
        .await?;
    assert_eq!((report.stats.done, report.errors[0].record()), (2, Some(&2_u32)));
    Ok(())
}

/// Whoever takes failures hangs: the stages do not wait for it, and what it cannot take is dropped and counted.
#[bowline::test(start_paused = true)]
async fn a_taker_of_failures_that_hangs_holds_up_nobody() -> Result<(), PipelineError> {
    let heard = Log::default();
    let hears = Arc::clone(&heard);
    let _hook = on_alert(move |alert| hears.lock().unwrap().push((alert.kind, alert.raised)));
    let report = Pipeline::new("all bad", 0..10_000_u32)
        .stage("fail", Parallel::unordered(4), items(8), async |_: &u32| Err::<u32, _>("bad"))
        .errors(Errors::each(100, async |_failed: Failed| std::future::pending().await))
        .sink("never", Parallel::ordered(1), items(8), async |_: &u32| Ok::<_, Infallible>(()))
        .run();
    let begun = tokio::time::Instant::now();
    let report = report.await?;
    assert_eq!(report.stats.failed, 10_000);
    // The last of the lost was in the hands of whoever hangs, until its time was over.
    assert_eq!((report.errors.len(), report.stats.errors_lost), (100, 9_900));
    assert_eq!(begun.elapsed().as_secs(), 10, "the time it has for what is left");
    assert_eq!(heard.lock().unwrap()[0], (AlertKind::ErrorsHigh, true));
    conserved(&report.stats);
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn a_taker_of_failures_that_panics_gets_the_next_one() -> Result<(), PipelineError> {
    let taken = Log::default();
    let takes = Arc::clone(&taken);
    let report = Pipeline::new("all bad", 0..10_u64)
        .stage("fail", Parallel::ordered(4), items(8), async |_: &u64| Err::<u32, _>("bad"))
        .errors(Errors::each(100, async move |failed: Failed| {
            assert_ne!(failed.seq, 3, "not this one");
            takes.lock().unwrap().push(failed.seq);
        }))
        .sink("never", Parallel::ordered(1), items(8), async |_: &u32| Ok::<_, Infallible>(()))
        .run()
        .await?;
    let mut taken = taken.lock().unwrap().clone();
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(report.stats.error_taker_panics, 1);
    Ok(())
}

#[bowline::test(start_paused = true)]
async fn the_alert_stands_while_more_than_half_of_the_errors_are_full_and_goes_when_they_are_read() {
    let heard = Log::default();
    let hears = Arc::clone(&heard);
    let _hook = on_alert(move |alert| hears.lock().unwrap().push(alert.raised));
    scope("test", async |s| {
        let (tx, rx) = s.queue("records", Bound::items(1), Overflow::Block);
        let pipeline = Pipeline::new("bad", rx.free())
            .errors(Errors::keep(10))
            .sink("fail", Parallel::unordered(1), items(1), async |_: &u32| Err::<(), _>("bad"))
            .start(s);
        for n in 0..5 {
            tx.send(n).await?;
        }
        settled().await;
        assert!(heard.lock().unwrap().is_empty(), "half is not more than half");
        tx.send(5).await?;
        settled().await;
        assert_eq!(*heard.lock().unwrap(), [true]);
        assert_eq!(pipeline.stats().errors_kept, 6);
        assert_eq!(pipeline.take_errors().len(), 6);
        assert_eq!(*heard.lock().unwrap(), [true, false]);
        drop(tx);
        pipeline.wait_ended().await?;
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn too_many_failures_stop_the_pipeline_if_it_is_told_so() {
    let stopped = Pipeline::new("bad", 0..)
        .stop_after(5)
        .sink(
            "fail",
            Parallel::unordered(1),
            items(4),
            async |n: &u64| {
                if n % 2 == 0 { Ok(()) } else { Err("odd") }
            },
        )
        .run()
        .await
        .unwrap_err();
    assert!(matches!(stopped.end(), PipelineEnd::TooManyErrors { errors: 5 }));
    assert!(stopped.to_string().starts_with("pipeline `bad`: stopped: 5 records failed; of "), "{stopped}");
    let report = stopped.into_report();
    assert_eq!((report.errors.len(), report.stats.failed, report.stats.done), (5, 5, 5));
    conserved(&report.stats);
}

// ---- the end

fn slow_pipeline(log: &Log<u64>) -> bowline::PipelineReady {
    let kept = Arc::clone(log);
    Pipeline::new("slow", 0..)
        .stage("work", Parallel::ordered(2), items(3), async |n: &u64| {
            sleep(MS * 3).await?;
            Ok::<_, Cancelled>(*n)
        })
        .sink("keep", Parallel::ordered(1), items(4), async move |n: &u64| {
            sleep(MS * 5).await?;
            kept.lock().unwrap().push(*n);
            Ok::<_, Cancelled>(())
        })
}

#[bowline::test(start_paused = true)]
async fn a_drained_pipeline_stops_its_source_and_everything_in_flight_comes_out() {
    let log = Log::default();
    scope("test", async |s| {
        let pipeline = slow_pipeline(&log).start(s);
        sleep(MS * 100).await?;
        let in_flight = pipeline.stats().in_flight;
        assert!(in_flight > 5, "{in_flight}");
        pipeline.drain();
        let end = pipeline.wait_ended().await?;
        assert!(matches!(end, PipelineEnd::Drained) && end.is_complete(), "{end}");
        let stats = pipeline.stats();
        conserved(&stats);
        assert_eq!((stats.done, stats.cancelled), (stats.received, 0));
        assert_eq!(log.lock().unwrap().len() as u64, stats.done);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn the_beginning_of_a_shutdown_drains() {
    let log = Log::default();
    scope("test", async |s| {
        let pipeline = slow_pipeline(&log).start(s);
        sleep(MS * 50).await?;
        bowline::shut_down("the test ends");
        assert!(matches!(pipeline.wait_ended().await?, PipelineEnd::Drained));
        conserved(&pipeline.stats());
        assert_eq!(pipeline.stats().cancelled, 0);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_cancelled_pipeline_drops_and_counts_what_was_in_flight() {
    let tokens = Arc::new(());
    scope("test", async |s| {
        let source = {
            let tokens = Arc::clone(&tokens);
            (0..).map(move |n: u64| (n, Arc::clone(&tokens)))
        };
        let pipeline = Pipeline::new("cancelled", source)
            .edit("work", Parallel::ordered(3), items(3), async |record: &mut (u64, Arc<()>)| {
                sleep(MS * u32::try_from(record.0 % 7).unwrap()).await
            })
            .sink("keep", Parallel::unordered(2), items(4), async |_: &(u64, Arc<()>)| sleep(MS * 9).await)
            .start(s);
        sleep(MS * 100).await?;
        pipeline.cancel("enough");
        let PipelineEnd::Cancelled(why) = pipeline.wait_ended().await? else { panic!("it was cancelled") };
        assert!(why.to_string().contains("enough"), "{why}");
        conserved(&pipeline.stats());
        assert!(pipeline.stats().cancelled > 5, "{}", pipeline.stats());
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(Arc::strong_count(&tokens), 1, "a record is left somewhere");
}

#[bowline::test(start_paused = true)]
async fn a_run_in_a_context_that_is_cancelled_ends_in_order_and_says_so() {
    let log = Log::default();
    let ran = timeout(MS * 30, slow_pipeline(&log).run()).await.expect("it comes to a value");
    let stopped = ran.unwrap_err();
    assert!(matches!(stopped.end(), PipelineEnd::Cancelled(why) if why.is_deadline()), "{stopped}");
    conserved(&stopped.report().stats);
}

#[bowline::test(start_paused = true)]
async fn a_closed_scope_refuses_a_pipeline_and_the_handle_says_so() {
    let log = Log::default();
    let handle = scope("closed", async |s| Ok::<_, Cancelled>(s.handle())).await.unwrap();
    let pipeline = slow_pipeline(&log).start(&handle);
    assert!(matches!(pipeline.wait_ended().await.unwrap(), PipelineEnd::Cancelled(_)));
    assert!(pipeline.stats().ended.unwrap().contains("closed"));
}

#[bowline::test(start_paused = true)]
async fn a_source_that_panics_fails_the_owner_and_its_books_are_closed() {
    let pipeline: Mutex<Option<PipelineHandle>> = Mutex::new(None);
    let owner = scope("test", async |s| {
        let source = (0..).inspect(|n: &u64| assert!(*n < 10, "the source is broken"));
        let started = Pipeline::new("broken", source)
            .sink("take", Parallel::unordered(1), items(2), async |_: &u64| Ok::<_, Infallible>(()))
            .start(s);
        *pipeline.lock().unwrap() = Some(started);
        Ok::<_, Cancelled>(())
    });
    let died = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(owner)).await;
    assert!(died.is_err());
    let pipeline = pipeline.lock().unwrap().take().unwrap();
    assert!(matches!(pipeline.wait_ended().await.unwrap(), PipelineEnd::Cancelled(_)));
    conserved(&pipeline.stats());
}

// ---- sources

#[bowline::test(start_paused = true)]
async fn records_come_from_streams_and_queues() {
    let log = Log::default();
    scope("test", async |s| {
        let keep = {
            let log: Log<u32> = Arc::clone(&log);
            async move |n: &u32| {
                log.lock().unwrap().push(*n);
                Ok::<_, Infallible>(())
            }
        };
        let of_stream = Pipeline::new("stream", stream::iter(0..3_u32))
            .sink("keep", Parallel::ordered(1), items(2), keep.clone())
            .run()
            .await?;
        assert_eq!(of_stream.stats.done, 3);
        let (tx, rx) = s.queue("records", Bound::items(2), Overflow::Block);
        let of_queue =
            Pipeline::new("queue", rx.free()).sink("keep", Parallel::ordered(1), items(2), keep).start(s);
        for n in 3..9 {
            tx.send(n).await?;
        }
        drop(tx); // the last sender: the pipeline ends
        assert!(matches!(of_queue.wait_ended().await?, PipelineEnd::Finished));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert_eq!(*log.lock().unwrap(), (0..9).collect::<Vec<_>>());
}

#[bowline::test(start_paused = true)]
async fn a_drained_queue_is_closed_and_what_it_had_accepted_comes_out() {
    scope("test", async |s| {
        let (tx, rx) = s.queue("records", Bound::items(8), Overflow::Block);
        let pipeline = Pipeline::new("queue", rx.free())
            .sink("slow", Parallel::ordered(1), items(1), async |_: &u32| sleep(MS * 5).await)
            .start(s);
        for n in 0..8 {
            tx.send(n).await?;
        }
        pipeline.drain();
        assert!(matches!(pipeline.wait_ended().await?, PipelineEnd::Drained));
        assert_eq!(pipeline.stats().done, 8);
        assert!(matches!(tx.send(9).await, Err(SendError::Closed(9))));
        assert_eq!(tx.stats().abandoned, 0);
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_function_that_feeds_is_not_dropped_in_a_send_when_the_pipeline_drains() {
    let read = Arc::new(AtomicUsize::new(0));
    let reads = Arc::clone(&read);
    scope("test", async |s| {
        let pipeline = Pipeline::fed("fed", async move |feed: Feed<usize>| {
            loop {
                tokio::time::sleep(MS).await; // a foreign wait, at which it may be dropped
                let n = reads.fetch_add(1, Ordering::Relaxed);
                feed.send(n).await?;
            }
            #[expect(unreachable_code, reason = "the type of the loop's error")]
            Ok::<_, SendError<usize>>(())
        })
        .sink("slow", Parallel::ordered(1), items(1), async |_: &usize| sleep(MS * 10).await)
        .start(s);
        sleep(MS * 55).await?;
        pipeline.drain();
        assert!(matches!(pipeline.wait_ended().await?, PipelineEnd::Drained));
        assert_eq!(
            pipeline.stats().done as usize,
            read.load(Ordering::Relaxed),
            "a record was read and lost"
        );
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn the_error_of_a_source_comes_after_what_it_gave() {
    let stopped = Pipeline::fed("torn", async |feed: Feed<u32>| {
        for n in 0..5 {
            feed.send(n).await.map_err(|error| error.to_string())?;
        }
        Err::<(), _>("the file is torn".to_owned())
    })
    .sink("slow", Parallel::ordered(1), items(1), async |_: &u32| sleep(MS * 10).await)
    .run()
    .await
    .unwrap_err();
    assert!(
        matches!(stopped.end(), PipelineEnd::SourceFailed(error) if error.to_string() == "the file is torn")
    );
    assert_eq!(stopped.report().stats.done, 5);
}

// ---- acknowledgement and commit

#[bowline::test(start_paused = true)]
async fn a_delivery_is_acknowledged_when_its_record_is_done_and_comes_back_if_the_pipeline_is_cancelled() {
    let dead_letters = Log::default();
    let letters = Arc::clone(&dead_letters);
    scope("test", async |s| {
        let (tx, rx) = s.queue("orders", Bound::items(32), Overflow::Block);
        for n in 0..20_u32 {
            tx.send(n).await?;
        }
        let pipeline = Pipeline::acknowledged("orders", rx.clone().free())
            .filter("known", Parallel::ordered(2), items(2), async |n: &u32| {
                if *n == 3 { Err("poison") } else { Ok(*n != 4) }
            })
            .errors(Errors::each(4, async move |failed: Failed| {
                letters.lock().unwrap().push(failed.into_record::<u32>().unwrap());
            }))
            .sink("ship", Parallel::unordered(2), items(2), async |_: &u32| sleep(MS * 10).await)
            .start(s);
        sleep(MS * 45).await?;
        pipeline.cancel("the worker dies");
        pipeline.wait_ended().await?;
        let stats = pipeline.stats();
        conserved(&stats);
        assert_eq!((stats.done, stats.failed, stats.filtered), (8, 1, 1), "{stats}");
        assert_eq!(*dead_letters.lock().unwrap(), [3]);
        let queue = rx.stats();
        assert_eq!((queue.received, queue.in_flight, queue.depth_items), (10, 0, 10));
        assert_eq!(queue.redelivered, stats.cancelled);
        let mut left = Vec::new();
        while let Ok(n) = rx.try_recv() {
            left.push(n);
        }
        left.sort_unstable();
        assert_eq!(left, (10..20).collect::<Vec<_>>(), "what was not done comes again");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn only_what_is_done_without_a_gap_is_told() {
    let told = Log::default();
    let tells = Arc::clone(&told);
    scope("test", async |s| {
        let pipeline = Pipeline::new("log", 0..10_u32)
            .on_done(move |done| tells.lock().unwrap().push(done))
            .sink("store", Parallel::unordered(4), items(4), async |n: &u32| {
                sleep(if *n == 2 { MS * 100 } else { MS }).await
            })
            .start(s);
        sleep(MS * 50).await?;
        assert_eq!(pipeline.stats().done, 9, "all but one");
        assert_eq!(told.lock().unwrap().last(), Some(&2), "record 2 is not done");
        pipeline.wait_ended().await?;
        let told = told.lock().unwrap();
        assert!(told.is_sorted() && told.last() == Some(&10), "{told:?}");
        assert_eq!(pipeline.stats().done_without_gap, Some(10));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

#[bowline::test(start_paused = true)]
async fn a_failure_holds_the_commit_up_until_it_was_taken_and_stops_the_pipeline_if_it_is_lost() {
    let pipeline = || {
        Pipeline::new("log", 0..10_u32).on_done(|_| ()).sink(
            "store",
            Parallel::ordered(1),
            items(4),
            async |n: &u32| {
                if *n == 4 || *n == 6 { Err("bad") } else { Ok(()) }
            },
        )
    };
    scope("test", async |s| {
        let kept = pipeline().start(s);
        kept.wait_ended().await?;
        assert_eq!(kept.stats().done_without_gap, Some(4));
        assert_eq!(kept.take_errors().len(), 2);
        assert_eq!(kept.stats().done_without_gap, Some(10));
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    let stopped = pipeline().errors(Errors::keep(1)).run().await.unwrap_err();
    assert!(matches!(stopped.end(), PipelineEnd::FailureLost { stage: "store" }), "{stopped}");
    assert_eq!(stopped.report().stats.done, 5);
}

// ---- views

#[bowline::test(start_paused = true)]
async fn workers_stand_in_the_tree_below_their_pipeline_with_the_names_of_their_stages() {
    let log = Log::default();
    scope("test", async |s| {
        let pipeline = slow_pipeline(&log).start(s);
        sleep(MS * 50).await?;
        let tree = bowline::tree().to_string();
        for (name, tasks) in [("source", 1), ("work", 2), ("keep", 1)] {
            assert_eq!(tree.matches(&format!(" {name} ")).count(), tasks, "{name}: {tree}");
        }
        assert!(pipelines().iter().any(|stats| stats.name == "slow" && stats.ended.is_none()));
        pipeline.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
    assert!(!pipelines().iter().any(|stats| stats.name == "slow"), "nobody has it any more");
}

#[bowline::test(start_paused = true)]
async fn the_books_say_how_fast_a_stage_is_how_busy_and_what_holds_it_up() {
    scope("test", async |s| {
        let pipeline = Pipeline::new("shop", 0..)
            .stage("fast", Parallel::unordered(2), items(4), async |n: &u64| {
                sleep(MS * 2).await?;
                Ok::<_, Cancelled>(*n)
            })
            .stage("slow", Parallel::ordered(4), items(4), async |n: &u64| {
                sleep(MS * 20).await?;
                Ok::<_, Cancelled>(*n)
            })
            .sink("idle", Parallel::unordered(1), items(4), async |_: &u64| sleep(MS).await)
            .start(s);
        let passed = || pipeline.stats().stages.iter().map(|stage| stage.passed).collect::<Vec<_>>();
        sleep(MS * 20_000).await?;
        let before = passed();
        sleep(MS * 10_000).await?;
        let (after, stats) = (passed(), pipeline.stats());
        assert_eq!(stats.bottleneck().map(|stage| stage.name), Some("slow"));
        for (at, stage) in stats.stages.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let counted = (after[at] - before[at]) as f64 / 10.0;
            let difference = (stage.per_second - counted).abs();
            assert!(counted > 150.0 && difference < counted / 50.0, "{counted} per second: {stats}");
            let all = stage.busy_share + stage.input_wait_share + stage.output_wait_share;
            assert!((0.999..=1.001).contains(&all), "{all}");
        }
        let [fast, slow, idle] = &stats.stages[..] else { panic!("three stages") };
        assert!(fast.busy_share < 0.4 && fast.output_wait_share > 0.6, "{stats}");
        assert!(slow.busy_share > 0.95, "{stats}");
        assert!(idle.busy_share < 0.5 && idle.input_wait_share > 0.5, "{stats}");
        let table = stats.to_string();
        let marked: Vec<_> = table.lines().filter(|line| line.contains("<- bottleneck")).collect();
        assert!(matches!(marked[..], [line] if line.trim().starts_with("slow")), "{table}");
        pipeline.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- a sink without an end of its own

/// A request path writes to an analytics sink that hangs: without bounds, a task and a record for each request.
#[bowline::test(start_paused = true)]
async fn requests_do_not_wait_for_a_sink_that_hangs_and_no_task_is_started_for_them() {
    const REQUESTS: u64 = 10_000;
    let reached = Arc::new(AtomicBool::new(false));
    let reaches = Arc::clone(&reached);
    scope("service", async |s| {
        let (tx, rx) = s.queue("events", Bound::items(1_000), Overflow::DropNewest);
        let sink = Pipeline::new("analytics", rx.free())
            .errors(Errors::keep(100))
            .sink("upload", Parallel::unordered(10), items(1), async move |_: &u64| {
                reaches.store(true, Ordering::Relaxed);
                timeout(MS * 500, std::future::pending::<()>()).await
            })
            .start(s);
        let before = bowline::tree().tasks;
        let begun = tokio::time::Instant::now();
        for request in 0..REQUESTS {
            let asked = tokio::time::Instant::now();
            tx.send(request).await?;
            assert_eq!(asked.elapsed(), Duration::ZERO, "a request waited for the sink");
            if request % 100 == 99 {
                tokio::time::sleep_until(begun + MS * u32::try_from(request + 1).unwrap()).await; // 1,000 per second
                assert!(bowline::tree().tasks <= before + 12, "workers, source, and the pipeline itself");
            }
        }
        assert!(reached.load(Ordering::Relaxed));
        let (events, stats) = (tx.stats(), sink.stats());
        // Ten workers give up on two events a second each: 20 of 1,000. The others are dropped, and counted.
        assert!(events.dropped > 8_000, "{events:?}");
        assert_eq!(events.sent, events.received + events.dropped + events.depth_items as u64);
        assert!((180..=200).contains(&stats.failed), "{stats}");
        assert_eq!(stats.failed, 100 + stats.errors_lost);
        sink.cancel("seen");
        Ok::<_, Cancelled>(())
    })
    .await
    .unwrap();
}

// ---- a stage alone

#[bowline::test(start_paused = true)]
async fn a_stage_is_tested_alone() {
    let halve = Stage::new("halve", Parallel::ordered(3), async |n: &u32| {
        sleep(MS * (10 - n)).await.map_err(|cancelled| cancelled.to_string())?;
        if n % 2 == 0 { Ok(n / 2) } else { Err("odd".to_owned()) }
    });
    let (halves, odd) = halve.run_on([2, 4, 5, 6]).await;
    assert_eq!(halves, [1, 2, 3]);
    assert_eq!((odd.len(), odd[0].record()), (1, Some(&5_u32)));
}
