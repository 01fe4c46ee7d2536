//! Pipelines of random shape beside a loop that does the same one record after the other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline::{Bound, Errors, Parallel, Pipeline, PipelineEnd, PipelineReport};
use proptest::prelude::*;

/// A stage as it is drawn: workers, ordered or not, places before it.
#[derive(Clone, Copy, Debug)]
struct Shape {
    workers: usize,
    ordered: bool,
    places: usize,
}

impl Shape {
    fn parallel(self) -> Parallel {
        if self.ordered { Parallel::ordered(self.workers) } else { Parallel::unordered(self.workers) }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    (1..5_usize, any::<bool>(), 1..5_usize).prop_map(|(workers, ordered, places)| Shape {
        workers,
        ordered,
        places,
    })
}

/// What a stage does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Filter,
    Fail,
    Panic,
}

/// The number of a record, and how it comes to it: by a rule that both sides know.
fn fate(seed: u64, stage: u64, record: u64) -> (Fate, Duration) {
    let mut draw = (seed ^ stage << 32 ^ record).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    draw ^= draw >> 29;
    draw = draw.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    draw ^= draw >> 32;
    let fate = match draw % 16 {
        0 => Fate::Fail,
        1 => Fate::Panic,
        2 => Fate::Filter,
        _ => Fate::Pass,
    };
    (fate, Duration::from_millis(draw >> 8 & 7))
}

async fn work(seed: u64, stage: u64, record: u64) -> Result<bool, &'static str> {
    let (fate, takes) = fate(seed, stage, record);
    if takes > Duration::from_millis(2) {
        tokio::time::sleep(takes).await;
    }
    match fate {
        Fate::Pass => Ok(true),
        Fate::Filter => Ok(false),
        Fate::Fail => Err("it was drawn"),
        Fate::Panic => bowline::bad_input("it was drawn"),
    }
}

fn run(
    seed: u64,
    records: u64,
    shapes: [Shape; 3],
    until: Option<Duration>,
) -> (Vec<u64>, Vec<u64>, PipelineReport) {
    let out = Arc::new(Mutex::new(Vec::new()));
    let marks = Arc::new(Mutex::new(Vec::new()));
    let (outs, tells) = (Arc::clone(&out), Arc::clone(&marks));
    let [a, b, c] = shapes;
    let pipeline = Pipeline::new("drawn", 0..records)
        .on_done(move |mark| tells.lock().unwrap().push(mark))
        .errors(Errors::keep(10_000))
        .filter("a", a.parallel(), Bound::items(a.places), async move |n: &u64| work(seed, 0, *n).await)
        .filter("b", b.parallel(), Bound::items(b.places), async move |n: &u64| work(seed, 1, *n).await)
        .sink("c", c.parallel(), Bound::items(c.places), async move |n: &u64| {
            outs.lock().unwrap().push(*n);
            Ok::<_, &str>(())
        });
    let ran = async {
        match until {
            None => pipeline.run().await,
            Some(until) => bowline::timeout(until, pipeline.run()).await.expect("it comes to a value"),
        }
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let report = match runtime.block_on(ran) {
        Ok(report) => report,
        Err(stopped) => stopped.into_report(),
    };
    let (out, marks) = (out.lock().unwrap().clone(), marks.lock().unwrap().clone());
    (out, marks, report)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pipeline_does_what_a_loop_does(
        seed in any::<u64>(),
        records in 0..80_u64,
        shapes in [shape(), shape(), shape()],
        until in prop::option::of((1..120_u64).prop_map(Duration::from_millis)),
    ) {
        let (out, marks, report) = run(seed, records, shapes, until);
        let passes = |stage, n: &u64| fate(seed, stage, *n).0 == Fate::Pass;
        let expected: Vec<u64> = (0..records).filter(|n| passes(0, n) && passes(1, n)).collect();
        let stats = &report.stats;
        let finished = matches!(report.end, PipelineEnd::Finished);
        prop_assert!(finished || until.is_some(), "{}", stats);

        // The same records come out; in the same order, if every stage keeps it.
        let in_order = shapes.iter().all(|shape| shape.ordered || shape.workers == 1) && shapes[2].workers == 1;
        let mut sorted = out.clone();
        sorted.sort_unstable();
        prop_assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "twice: {:?}", out);
        if in_order {
            prop_assert_eq!(&sorted, &out);
            prop_assert_eq!(&out[..], &expected[..out.len()]);
        }
        if finished {
            prop_assert_eq!(&sorted, &expected);
            prop_assert_eq!(stats.received, records);
        }
        prop_assert!(sorted.iter().all(|n| expected.contains(n)));

        // Nothing is lost, and nothing is counted twice.
        for stage in &stats.stages {
            let gone = stage.passed + stage.filtered + stage.failed + stage.cancelled;
            prop_assert_eq!(stage.received, gone, "{}", stats);
            prop_assert!(stage.high_water_items <= stage.max_items, "{}", stats);
        }
        prop_assert_eq!(stats.received, stats.done + stats.failed + stats.filtered + stats.cancelled, "{}", stats);
        prop_assert_eq!(stats.done, out.len() as u64);
        prop_assert_eq!(finished && stats.cancelled > 0, false);

        // Each failure is there, with the record and the stage that drew it.
        prop_assert_eq!(report.errors.len() as u64, stats.failed);
        for failed in &report.errors {
            let stage = u64::from(failed.stage == "b");
            let drawn = fate(seed, stage, failed.seq).0;
            prop_assert_eq!(failed.record(), Some(&failed.seq));
            prop_assert!(matches!(drawn, Fate::Fail | Fate::Panic), "{}", failed);
        }

        // What was told is done without a gap, and rises.
        prop_assert!(marks.is_sorted());
        if finished {
            prop_assert_eq!(stats.done_without_gap, Some(records));
        }
        let told = marks.last().copied().unwrap_or(0);
        let not_done = (0..told).find(|n| expected.contains(n) && !out.contains(n));
        prop_assert_eq!(not_done, None, "told as done: {}", told);
    }
}
