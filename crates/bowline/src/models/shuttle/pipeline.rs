//! Pipelines: the window behind an ordered stage, the turns at a belt, failures, and the end.

use std::convert::Infallible;

use super::{Tally, check, check_rare, dawdle, draw};
use crate::sync::{Arc, LockExt, Mutex};
use crate::{Bound, Cancelled, Errors, Failed, Parallel, Pipeline, PipelineEnd, PipelineStats, scope};

const RECORDS: usize = 5;

fn conserved(stats: &PipelineStats) {
    assert_eq!(stats.received, stats.done + stats.failed + stats.filtered + stats.cancelled, "{stats}");
    for stage in &stats.stages {
        let gone = stage.passed + stage.filtered + stage.failed + stage.cancelled;
        assert_eq!(stage.received, gone, "{stats}");
    }
}

fn parallel(workers: usize) -> Parallel {
    if draw(2) == 0 { Parallel::ordered(workers) } else { Parallel::unordered(workers) }
}

/// Two workers, a window of one or two places, and records that fail or are filtered out.
async fn ordered() {
    let alive = Tally::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (sees, records) = (Arc::clone(&seen), alive.clone());
    let source = (0..RECORDS).map(move |n| (n, records.one()));
    let report = Pipeline::new("ordered", source)
        .filter(
            "two at once",
            Parallel::ordered(2),
            Bound::items(1 + draw(2)),
            async |record: &(usize, _)| {
                dawdle().await;
                match record.0 {
                    1 => Err("bad"),
                    n => Ok(n != 3),
                }
            },
        )
        .sink("see", Parallel::ordered(1), Bound::items(1 + draw(2)), async move |record: &(usize, _)| {
            dawdle().await;
            sees.lock_unpoisoned().push(record.0);
            Ok::<_, Infallible>(())
        })
        .run()
        .await
        .expect("nobody cancels it");
    assert_eq!(*seen.lock_unpoisoned(), [0, 2, 4], "in order, without a gap");
    assert_eq!((report.stats.failed, report.errors.len()), (1, 1));
    conserved(&report.stats);
    drop(report);
    assert_eq!(alive.now(), 0, "a record is left");
}

#[test]
fn an_ordered_stage_keeps_the_order_whatever_fails_or_is_left_out() {
    check(ordered);
}

#[test]
fn an_ordered_stage_keeps_the_order_in_rare_orders() {
    check_rare(ordered);
}

/// Ended in the middle: by a drain or a cancel, from outside.
async fn ended_early() {
    let (alive, done) = (Tally::default(), Tally::default());
    let records = alive.clone();
    let drains = draw(2) == 0;
    let counts = done.clone();
    let ran = scope("owner", async |s| {
        let pipeline = Pipeline::new("ended", (0..RECORDS).map(move |_| records.one()))
            .edit("work", parallel(2), Bound::items(1), async |_record| {
                dawdle().await;
                Ok::<_, Infallible>(())
            })
            .sink("count", parallel(2), Bound::items(1), async move |_record| {
                dawdle().await;
                counts.more();
                Ok::<_, Infallible>(())
            })
            .start(s);
        dawdle().await;
        if drains {
            pipeline.drain();
        } else {
            pipeline.cancel("enough");
        }
        let end = pipeline.wait_ended().await?;
        let stats = pipeline.stats();
        conserved(&stats);
        assert_eq!(stats.done, done.now() as u64);
        assert_eq!(alive.now(), 0, "a record is left");
        if drains {
            assert!(end.is_complete() && stats.cancelled == 0, "{end}: {stats}");
        } else {
            assert!(matches!(end, PipelineEnd::Cancelled(_) | PipelineEnd::Finished), "{end}");
        }
        Ok::<_, Cancelled>(())
    })
    .await;
    assert_eq!(ran, Ok(()));
}

#[test]
fn a_pipeline_that_is_drained_loses_nothing_and_one_that_is_cancelled_counts_it() {
    check(ended_early);
}

#[test]
fn a_pipeline_that_is_ended_early_keeps_its_books_in_rare_orders() {
    check_rare(ended_early);
}

/// A small record of failures, and somebody who takes them slowly: what is not handed on is left or counted.
async fn failing() {
    let taken = Tally::default();
    let takes = taken.clone();
    let mark = Arc::new(Mutex::new(Vec::new()));
    let report = Pipeline::new("failing", 0..RECORDS)
        .errors(Errors::each(1, async move |_failed: Failed| {
            dawdle().await;
            takes.more();
        }))
        .sink("fail", Parallel::unordered(2), Bound::items(1), async |_: &usize| {
            dawdle().await;
            Err::<(), _>("bad")
        })
        .run()
        .await
        .expect("nobody cancels it");
    let stats = &report.stats;
    conserved(stats);
    assert_eq!(stats.failed, RECORDS as u64);
    assert_eq!(stats.errors_lost + (taken.now() + report.errors.len()) as u64, stats.failed, "{stats}");

    // The same with room for all, told without a gap.
    let tells = Arc::clone(&mark);
    let report = Pipeline::new("failing", 0..RECORDS)
        .on_done(move |done| tells.lock_unpoisoned().push(done))
        .errors(Errors::each(RECORDS, async |_failed: Failed| dawdle().await))
        .sink("fail some", Parallel::unordered(2), Bound::items(1), async |n: &usize| {
            dawdle().await;
            if n % 2 == 0 { Err("even") } else { Ok(()) }
        })
        .run()
        .await
        .expect("nothing is lost");
    let mark = mark.lock_unpoisoned();
    assert!(mark.is_sorted() && mark.last() == Some(&(RECORDS as u64)), "{mark:?}");
    conserved(&report.stats);
}

#[test]
fn failures_are_handed_on_left_or_counted_and_what_is_done_is_told_in_order() {
    check(failing);
}
